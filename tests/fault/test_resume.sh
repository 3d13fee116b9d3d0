#!/usr/bin/env bash
# A run that is stopped, killed or damaged goes on where it was, and ends with the bits of an undisturbed one.
. tests/support/shell.sh

steps=69 # 80 samples, 6 epochs, steps of 7
curve=(step epoch samples loss loss_llama loss_qwen grad_norm lr skipped)

# start NAME RANKS [KEY=VALUE...]: a run in $scratch/NAME in the background; $job is its process.
start() {
    local name=$1 n=$2
    shift 2
    start_job "$name" "$n" train.epochs=6 checkpoint.every_steps=10 eval.at_end=false "$@"
}

train() {
    start "$@"
    ended "$1" 0
}

# reached NAME ROWS: waits until metrics.jsonl has that many rows.
reached() {
    local deadline=$((SECONDS + 60))
    until [ -f "$scratch/$1/metrics.jsonl" ] && [ "$(wc -l <"$scratch/$1/metrics.jsonl")" -ge "$2" ]; do
        if [ "$SECONDS" -ge "$deadline" ] || ! kill -0 "$job" 2>/dev/null; then
            fail "$1: did not get to $2 rows of metrics.jsonl"
            tail -n 15 "$scratch/$1.out"
            finish
        fi
        sleep 0.01
    done
}

# Process of rank 0, as the lock file says.
first_rank() {
    sed -n 's/.*pid \([0-9]*\),.*/\1/p' "$scratch/$1/lock"
}

# Another rank than that, where the kernel tells the launcher's children.
last_rank() {
    local children
    children=$(cat "/proc/$job/task/$job/children" 2>/dev/null) || children=$(first_rank term)
    # shellcheck disable=SC2086 # a list
    set -- $children
    echo "${!#}"
}

# says NAME REGEX: the messages hold it.
says() {
    grep -qE -- "$2" "$scratch/$1.out" || {
        fail "$1: no message matches /$2/:"
        tail -n 15 "$scratch/$1.out"
    }
}

# newest NAME [N]: the newest finished checkpoint, or the Nth newest.
newest() {
    find "$scratch/$1/checkpoints" -maxdepth 1 -name 'step-*[0-9]' -printf '%f\n' | sort -r | sed -n "${2:-1}p"
}

# step_of CHECKPOINT: its number without leading zeros.
step_of() {
    echo $((10#${1#step-}))
}

# Every step is in metrics.jsonl once and in order, and the last state is there.
is_whole() {
    local last
    last=$(printf 'step-%06d' "$steps")
    metrics "$scratch/$1/metrics.jsonl" step | diff - <(seq "$steps") >"$scratch/diff" ||
        fail "$1: steps in metrics.jsonl are not 1 to $steps: $(head -5 "$scratch/diff")"
    # shellcheck disable=SC2015 # fail comes after either
    [ "$(newest "$1")" = "$last" ] && [ "$(cat "$scratch/$1/latest")" = "$last" ] ||
        fail "$1: the newest checkpoint is $(newest "$1"), latest says $(cat "$scratch/$1/latest")"
    [ -z "$(find "$scratch/$1" -name '*.tmp*')" ] || fail "$1: left $(find "$scratch/$1" -name '*.tmp*')"
}

# same_state NAME REFERENCE: parameters and moments, bit for bit.
same_state() {
    local state
    state=checkpoints/$(printf 'step-%06d' "$steps")/state.safetensors
    same_bytes "$1: state" "$scratch/$1/$state" "$scratch/$2/$state"
}

# untimed FILE: every row without its times and what follows from them.
untimed() {
    sed -E 's/"(samples_per_s|tokens_per_s|step_s|mfu|checkpoint_stall_s)": [^,}]*[,}] ?//g' "$1"
}

# same_as NAME REFERENCE: bit for bit.
same_as() {
    is_whole "$1"
    same_state "$1" "$2"
    untimed "$scratch/$1/metrics.jsonl" >"$scratch/$1.rows"
    untimed "$scratch/$2/metrics.jsonl" >"$scratch/$2.rows"
    same_bytes "$1: metrics" "$scratch/$1.rows" "$scratch/$2.rows"
}

# checkpoints NAME CODE: what lwmpi checkpoint says of the run, in $scratch/list.
checkpoints() {
    local got=0
    "$LWMPI_BIN" checkpoint "$scratch/$1" >"$scratch/list" 2>&1 || got=$?
    if [ "$got" -ne "$2" ]; then
        fail "$1: lwmpi checkpoint: exit code $got, expected $2"
        cat "$scratch/list"
    fi
}

# lists REGEX: one of its lines.
lists() {
    grep -qE -- "$1" "$scratch/list" || {
        fail "lwmpi checkpoint: no line matches /$1/:"
        cat "$scratch/list"
    }
}

train alone 0
train two 2
is_whole alone
is_whole two
says alone 'trial write: a checkpoint of [0-9.]+ MiB takes'
checkpoints alone 0
lists '^step-000050 +50 +350 +4 .* ok$'
lists '^step-000069 +69 +480 +6 .* latest +ok$'

# --- one job at a time, and none that looks like one

start busy 2
reached busy 3
"$LWMPI_BIN" train "$LWMPI_SOURCE_DIR/configs/tiny.cfg" run.dir="$scratch/busy" >"$scratch/second.out" 2>&1
[ $? -eq 2 ] || fail "a second job in the same directory is not refused with exit code 2"
says second "another job is using it: host $(hostname), pid $(first_rank busy), since"
ended busy 0
[ ! -s "$scratch/busy/lock" ] || fail "busy: the lock file still names a holder: $(cat "$scratch/busy/lock")"
same_as busy two
start nothing 2 data.train=/nowhere.jsonl
ended nothing 1
[ ! -e "$scratch/nothing" ] || fail "a start that failed leaves $(find "$scratch/nothing")"
(
    failures=0
    ulimit -f 64 # blocks of 1 KiB: what a full disk or a quota does, in the middle of the file
    start full 0
    ended full 1
    says full 'needs [0-9]+ bytes \([0-9.]+ MiB\) in .*/full/checkpoints, where [0-9.]+ MiB are free.*File too large'
    exit "$failures"
) || fail "the trial write does not find a disk that is full"
for name in config.cfg checkpoints latest summary.json; do
    [ ! -e "$scratch/full/$name" ] || fail "full: a start that failed leaves $name"
done
grep -q 'ended: input/output, exit code 1' "$scratch/full/log.txt" || fail "full: log.txt does not say how it ended"

# --- signals: a checkpoint at once, and the exit code that says what to do

start usr1 2
reached usr1 5
kill -USR1 "$job" # the launcher passes it on
ended usr1 75
says usr1 'stopped by SIGUSR1 after step [0-9]+ of 69; a checkpoint is written'
rows=$(wc -l <"$scratch/usr1/metrics.jsonl")
[ "$(newest usr1)" = "$(printf 'step-%06d' "$rows")" ] ||
    fail "usr1: $rows rows of metrics, but the newest checkpoint is $(newest usr1)"
[ "$rows" -lt "$steps" ] || fail "usr1: the run had ended already"
train usr1 2
says usr1 "continuing .*/$(printf 'step-%06d' "$rows"): step $rows of $steps"
same_as usr1 two

start term 2
reached term 13
kill -TERM "$(last_rank)" # one rank alone: all stop
ended term 75
says term 'stopped by SIGTERM after step'
start term 2
reached term 30
kill -TERM "$(first_rank term)"
ended term 75
train term 2
same_as term two

start int 0
reached int 21
kill -INT "$(first_rank int)"
ended int 130
says int 'stopped by SIGINT after step'
train int 0
same_as int alone

# --- in the middle of an epoch, twice; between passes of one step; after evaluations

train epoch_ref 0 data.samples=480 train.epochs=1
start epoch 0 data.samples=480 train.epochs=1
reached epoch 9
kill -TERM "$job"
ended epoch 75
start epoch 0 data.samples=480 train.epochs=1
reached epoch 38
kill -KILL "$job"
ended epoch 137
says epoch 'continuing .*: step [0-9]+ of 69'
train epoch 0 data.samples=480 train.epochs=1
says epoch 'note: the last job in this directory did not end in order: host .*, pid [0-9]+, since'
same_as epoch epoch_ref

train passes_ref 2 batch.micro=2
start passes 2 batch.micro=2
reached passes 17
kill -TERM "$(last_rank)"
ended passes 75
start passes 2 batch.micro=2
reached passes 33
kill -KILL "$(first_rank passes)"
wait "$job" 2>/dev/null
train passes 2 batch.micro=2
same_as passes passes_ref

evaluates=(eval.every_steps=8 checkpoint.keep=1 checkpoint.keep_every=20)
train evaluated_ref 0 "${evaluates[@]}"
same_state evaluated_ref alone # looking changes nothing
start evaluated 0 "${evaluates[@]}"
reached evaluated 28
kill -KILL "$job"
ended evaluated 137
train evaluated 0 "${evaluates[@]}"
same_as evaluated evaluated_ref
same_bytes "evaluated: best" "$scratch/evaluated/best" "$scratch/evaluated_ref/best"
least=$(sed -n 's/.*"step": \([0-9]*\),.*"eval_nll": \([0-9.e+-]*\).*/\2 \1/p' "$scratch/evaluated/metrics.jsonl" |
    sort -g | head -n 1)
[ "$(step_of "$(cat "$scratch/evaluated/best")")" = "${least#* }" ] ||
    fail "evaluated: best names $(cat "$scratch/evaluated/best"), the least held-out loss is $least (loss, step)"
checkpoints evaluated 0
lists '^step-000020 .* ok$'
lists '^step-000040 .* ok$'
lists '^step-000060 .* ok$'
lists "^$(cat "$scratch/evaluated/best") .* $(printf '%.4f' "${least% *}") .*best +ok\$"
[ "$(grep -c '^step-' "$scratch/list")" -le 5 ] || fail "evaluated: more is kept than asked for: $(cat "$scratch/list")"

# --- a kill: back to the last periodic checkpoint; and a last line that the crash tore

start killed 0
reached killed 24
kill -KILL "$job"
ended killed 137
last=$(newest killed)
rows=$(wc -l <"$scratch/killed/metrics.jsonl")
due=$((rows / 10 * 10))
# It may have been on its way to the disk.
[ "$(step_of "$last")" -eq "$due" ] || [ "$(step_of "$last")" -eq $((due - 10)) ] ||
    fail "killed: the newest checkpoint is $last after $rows steps"
printf '{"step": 69, "epoch": 2, "samp' >>"$scratch/killed/metrics.jsonl"
printf '{' >"$scratch/killed/summary.json.tmp.1234" # what a kill in the middle of a replacement leaves
mkdir -p "$scratch/killed/checkpoints/step-000068.tmp"
train killed 0
says killed "continuing .*/$last: step $(step_of "$last") of $steps"
grep -q "metrics.jsonl: dropped [0-9]* lines of steps after $(step_of "$last")" "$scratch/killed/log.txt" ||
    fail "killed: log.txt does not say that lines were dropped"
same_as killed alone

start one_of_two 2
reached one_of_two 22
begin=$SECONDS
kill -KILL "$(first_rank one_of_two)"
wait "$job" 2>/dev/null && fail "one_of_two: a job whose rank was killed ended well"
[ $((SECONDS - begin)) -le 15 ] || fail "one_of_two: took $((SECONDS - begin)) s to end"
# At another number of ranks the rest of the curve is the same to rounding.
train one_of_two 3
says one_of_two 'continuing .*/step-0000[1-6]0'
is_whole one_of_two
metrics "$scratch/one_of_two/metrics.jsonl" "${curve[@]}" >"$scratch/one_of_two.curve"
metrics "$scratch/two/metrics.jsonl" "${curve[@]}" >"$scratch/two.curve"
same_numbers "one_of_two: curve of 2 ranks, then 3" 1e-4 "$scratch/one_of_two.curve" "$scratch/two.curve"

# --- damage: a flipped bit in the newest checkpoint, a cut manifest in the one before

start damaged 0
reached damaged 41 # so that the one of step 30 is on the disk
kill -KILL "$job"
ended damaged 137
last=$(newest damaged 1)
second=$(newest damaged 2)
third=$(newest damaged 3)
[ -n "$third" ] || fail "damaged: fewer checkpoints than the three to keep"
flip() { # FILE OFFSET: the lowest bit of a byte
    local byte
    byte=$(od -An -tu1 -j"$2" -N1 "$1")
    # shellcheck disable=SC2059 # the format is the byte
    printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
state=$scratch/damaged/checkpoints/$last/state.safetensors
flip "$state" $(($(stat -c %s "$state") / 2))
truncate -s 100 "$scratch/damaged/checkpoints/$second/manifest.json"
echo step-999999 >"$scratch/damaged/latest"
checkpoints damaged 1
lists "^$last .* DAMAGED: .*its hash is"
lists "^$second +\\? .* DAMAGED: .*manifest.json"
lists "^$third .* ok\$"
lists '^note: latest names step-999999, which is not there'
lists '^lwmpi: 2 of [34] checkpoints in .* are damaged'
train damaged 0
says damaged "warning: .*$last/state.safetensors"
says damaged "warning: .*$second/manifest.json"
says damaged "continuing .*/$third: step $(step_of "$third") of $steps"
same_as damaged alone
checkpoints damaged 0
for checkpoint in "$scratch"/damaged/checkpoints/step-*; do
    flip "$checkpoint/state.safetensors" 4000
done
cp "$scratch/damaged/metrics.jsonl" "$scratch/before"
start damaged 0
ended damaged 2
says damaged 'none of the 3 checkpoints can be used'
same_bytes "damaged: metrics of a run that cannot be continued" "$scratch/before" "$scratch/damaged/metrics.jsonl"

# --- a disk that fails in the middle: tried twice, told, and nothing of what was there is lost

start blocked 2
reached blocked 22
mv "$scratch/blocked/checkpoints" "$scratch/blocked/aside"
: >"$scratch/blocked/checkpoints"
ended blocked 1
says blocked 'warning: trying once more: checkpoint of step [0-9]+ not written, earlier ones are untouched: .*blocked/checkpoints'
says blocked '^lwmpi: rank 0 on .*: tried twice, the run ends here.*blocked/checkpoints: cannot make the directory: '
grep -q 'failed: tried twice' "$scratch/blocked/log.txt" || fail "blocked: log.txt does not say why the run ended"
[ "$(wc -l <"$scratch/blocked/metrics.jsonl")" -lt "$steps" ] || fail "blocked: the run went on to its end"
rm "$scratch/blocked/checkpoints"
mv "$scratch/blocked/aside" "$scratch/blocked/checkpoints"
checkpoints blocked 0
train blocked 2
says blocked 'continuing .*/step-000[0-6]'
same_as blocked two

start vanished 2
reached vanished 22
mv "$scratch/vanished" "$scratch/elsewhere"
ended vanished 1
says vanished '^lwmpi: rank 0 on .*: tried twice.*vanished/checkpoints: cannot make the directory: No such file'
[ ! -e "$scratch/vanished" ] || fail "vanished: the run directory came back: $(find "$scratch/vanished")"
mv "$scratch/elsewhere" "$scratch/vanished"
train vanished 2
same_as vanished two

# --- another configuration

cp "$scratch/alone/config.cfg" "$scratch/before.cfg"
start alone 0 train.lr=4e-3
ended alone 2
says alone 'train\.lr: 0\.003 before, 0\.004 now'
says alone "$scratch/alone"
same_bytes "a refused change leaves config.cfg" "$scratch/before.cfg" "$scratch/alone/config.cfg"
start alone 2 wire.latents=9
ended alone 2
says alone 'wire\.latents: 8 before, 9 now'
start alone 0 train.epochs=5 # a run may be made longer, not shorter
ended alone 2
says alone 'train\.epochs: 6 before, 5 now'
says alone 'run\.accept_changes=true'

# With the change accepted the run goes on with it; what does not fit is refused all the same.
start changed 0
reached changed 22
kill -KILL "$job"
ended changed 137
start changed 0 wire.latents=9 run.accept_changes=true
ended changed 2
says changed 'does not fit this configuration'
start changed 0 batch.global=8 run.accept_changes=true
ended changed 2
says changed 'cannot be continued: it has seen .* steps of 8 samples'
train changed 0 train.lr=4e-3 run.accept_changes=true
says changed 'warning: continuing with another configuration'
says changed 'train\.lr: 0\.003 before, 0\.004 now'
is_whole changed
grep -q 'lr = 0.004' "$scratch/changed/config.cfg" || fail "changed: config.cfg does not hold the new learning rate"
grep -q 'accept_changes = false' "$scratch/changed/config.cfg" || fail "changed: config.cfg accepts changes for good"

# Longer: the last step of the shorter run had 4 samples, so its end is no place to go on from.
train longer 0
cp "$scratch/longer/summary.json" "$scratch/shorter.json"
train longer 0 train.epochs=8
says longer 'step-000069 passed over: it is the end of a shorter run, whose last step had 4 samples where this run has 7'
says longer 'continuing .*/step-000060: step 60 of 92'
metrics "$scratch/longer/metrics.jsonl" step samples | tail -n 1 >"$scratch/end"
[ "$(cat "$scratch/end")" = "92 640" ] || fail "longer: ends at step and sample $(cat "$scratch/end"), expected 92 640"
checkpoints longer 0
cp "$scratch/shorter.json" "$scratch/longer/summary.json" # killed before its own results
train longer 0 train.epochs=8
grep -q '"steps": 92' "$scratch/longer/summary.json" || fail "longer: the results are still those of the shorter run"

# --- other inputs under the same configuration

mkdir -p "$scratch/data" "$scratch/models"
head -n 80 "$LWMPI_SOURCE_DIR/configs/tiny/train.jsonl" >"$scratch/data/train.jsonl"
cp -r "$LWMPI_SOURCE_DIR/configs/tiny/qwen" "$scratch/models/qwen"
moved=(data.train="$scratch/data/train.jsonl" models.qwen.path="$scratch/models/qwen")
train alone 0 "${moved[@]}" # the same bytes in other folders are the same inputs
sed -i '80s/"context": "/&Hm. /' "$scratch/data/train.jsonl"
start alone 0 "${moved[@]}"
ended alone 2
says alone 'alone/checkpoints/step-000069 cannot be continued: .*data'
byte=$(($(stat -c %s "$scratch/models/qwen/model.safetensors") - 9000))
flip "$scratch/models/qwen/model.safetensors" "$byte"
start alone 2 models.qwen.path="$scratch/models/qwen"
ended alone 2
says alone 'alone/checkpoints/step-000069 cannot be continued: .*qwen'

# --- batch.per_rank: the steps are others at another number of ranks

grep -v '^batch' "$LWMPI_SOURCE_DIR/configs/tiny.cfg" | sed "s#\"tiny/#\"$LWMPI_SOURCE_DIR/configs/tiny/#g" \
    >"$scratch/per_rank.cfg"
per_rank=("$LWMPI_BIN" train "$scratch/per_rank.cfg" run.dir="$scratch/per_rank" batch.per_rank=4 data.samples=80
    train.epochs=1 eval.at_end=false threads=1)
"${launcher[@]}" -np 2 "${per_rank[@]}" >"$scratch/per_rank.out" 2>&1 || fail "per_rank: $(cat "$scratch/per_rank.out")"
"${launcher[@]}" -np 3 "${per_rank[@]}" >"$scratch/per_rank.out" 2>&1 &
job=$!
ended per_rank 2
says per_rank 'cannot be continued: it has seen 80 samples in 10 steps.*batch\.per_rank = 4 at 3 ranks'

# --- what a checkpoint costs the steps

if [ "${LWMPI_SANITIZED:-0}" != 1 ]; then # whose times say nothing
    start cost 0 encoder.layers=2 encoder.width=128 encoder.ffn=512 wire.latents=32 wire.d_z=128 pooler.ffn=512 \
        adapter.hidden=256 batch.global=16 train.epochs=20 checkpoint.every_steps=25
    ended cost 0
    share=$(sed -n 's/.*"checkpoint_stall_share": \([0-9.e-]*\),*/\1/p' "$scratch/cost/summary.json")
    grep 'checkpoint of step' "$scratch/cost/log.txt" | cut -d' ' -f2- | head -n 3
    echo "steps stalled for checkpoints: $(awk -v s="$share" 'BEGIN { printf "%.3f", 100 * s }') % of the time between"
    awk -v s="$share" 'BEGIN { exit !(s != "" && s >= 0 && s < 0.02) }' ||
        fail "cost: a stall of $share, expected less than 0.02"
fi

# --- a run that is over

# What does not influence results may change. The run is over: nothing is trained, and nothing is lost.
cp "$scratch/alone/metrics.jsonl" "$scratch/before"
cp "$scratch/alone/summary.json" "$scratch/before.json"
train alone 0 checkpoint.keep=5 log.every_steps=2
says alone 'nothing to do: all 69 steps are done'
same_bytes "a finished run, started again: metrics" "$scratch/before" "$scratch/alone/metrics.jsonl"
same_bytes "a finished run, started again: summary" "$scratch/before.json" "$scratch/alone/summary.json"
# Killed after the last step, before the results: they are written, with the losses of that step.
rm "$scratch/alone/summary.json"
train alone 0
same_bytes "killed before the results: metrics" "$scratch/before" "$scratch/alone/metrics.jsonl"
for key in steps samples loss loss_llama loss_qwen; do
    was=$(sed -n "s/,$//; s/.*\"$key\": //p" "$scratch/before.json")
    has=$(sed -n "s/,$//; s/.*\"$key\": //p" "$scratch/alone/summary.json")
    # shellcheck disable=SC2015
    [ -n "$was" ] && [ "$was" = "$has" ] || fail "killed before the results: $key is $has in summary.json, was $was"
done
finish
