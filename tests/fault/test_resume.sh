#!/usr/bin/env bash
# A run that is stopped, killed or damaged goes on where it was, and ends with the bits of an undisturbed one.
. tests/support/shell.sh

steps=69 # 80 samples, 6 epochs, steps of 7
curve=(step epoch samples loss loss_llama loss_qwen grad_norm lr skipped)

# start NAME RANKS [KEY=VALUE...]: a run in $scratch/NAME in the background; $job is its process.
start() {
    local name=$1 n=$2 words
    shift 2
    mapfile -t words < <(small_job "$scratch/$name")
    words+=(train.epochs=6 checkpoint.every_steps=10 eval.at_end=false "$@")
    if [ "$n" -gt 0 ]; then
        "${launcher[@]}" -np "$n" "$LWMPI_BIN" train "${words[@]}" >"$scratch/$name.out" 2>&1 &
    else
        "$LWMPI_BIN" train "${words[@]}" >"$scratch/$name.out" 2>&1 &
    fi
    job=$!
}

# ended NAME CODE: waits for it and checks how it ended.
ended() {
    local got=0
    wait "$job" 2>/dev/null || got=$?
    if [ "$got" -ne "$2" ]; then
        fail "$1: exit code $got, expected $2"
        tail -n 15 "$scratch/$1.out"
    fi
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

# same_as NAME REFERENCE: bit for bit.
same_as() {
    local state
    state=checkpoints/$(printf 'step-%06d' "$steps")/state.safetensors
    is_whole "$1"
    same_bytes "$1: state" "$scratch/$1/$state" "$scratch/$2/$state"
    metrics "$scratch/$1/metrics.jsonl" "${curve[@]}" >"$scratch/$1.curve"
    metrics "$scratch/$2/metrics.jsonl" "${curve[@]}" >"$scratch/$2.curve"
    same_bytes "$1: curve" "$scratch/$1.curve" "$scratch/$2.curve"
}

train alone 0
train two 2
is_whole alone
is_whole two

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

# --- a kill: back to the last periodic checkpoint; and a last line that the crash tore

start killed 0
reached killed 24
kill -KILL "$job"
ended killed 137
last=$(newest killed)
rows=$(wc -l <"$scratch/killed/metrics.jsonl")
due=$((rows / 10 * 10))
[ "$(step_of "$last")" -eq "$due" ] || [ "$rows" -eq "$due" ] || fail "killed: the newest checkpoint is $last after $rows steps"
printf '{"step": 69, "epoch": 2, "samp' >>"$scratch/killed/metrics.jsonl"
printf '{' >"$scratch/killed/summary.json.tmp.1234" # what a kill in the middle of a replacement leaves
mkdir -p "$scratch/killed/checkpoints/step-000068.tmp"
train killed 0
says killed "continuing .*/$last: step $(step_of "$last") of $steps"
grep -q "metrics.jsonl: dropped [0-9]* lines of steps after $(step_of "$last")" "$scratch/killed/log.txt" ||
    fail "killed: log.txt does not say that lines were dropped"
same_as killed alone

start one_of_two 2
reached one_of_two 12
begin=$SECONDS
kill -KILL "$(first_rank one_of_two)"
wait "$job" 2>/dev/null && fail "one_of_two: a job whose rank was killed ended well"
[ $((SECONDS - begin)) -le 15 ] || fail "one_of_two: took $((SECONDS - begin)) s to end"
# At another number of ranks the rest of the curve is the same to rounding.
train one_of_two 3
says one_of_two 'continuing .*/step-0000[1-6]0'
is_whole one_of_two
metrics "$scratch/one_of_two/metrics.jsonl" "${curve[@]}" >"$scratch/one_of_two.curve"
same_numbers "one_of_two: curve of 2 ranks, then 3" 1e-4 "$scratch/one_of_two.curve" "$scratch/two.curve"

# --- damage: a flipped bit in the newest checkpoint, a cut manifest in the one before

start damaged 0
reached damaged 31
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
train damaged 0
says damaged "warning: .*$last/state.safetensors"
says damaged "warning: .*$second/manifest.json"
says damaged "continuing .*/$third: step $(step_of "$third") of $steps"
same_as damaged alone

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
