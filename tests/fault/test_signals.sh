#!/usr/bin/env bash
# Signals: to one rank, to the launcher, at any time of a run; what is lost (nothing), said, and returned.
. tests/support/shell.sh

# start NAME RANKS COMMAND [ARGUMENT...]: lwmpi in the background; $job is its process, or the launcher.
start() {
    local name=$1 n=$2
    shift 2
    if [ "$n" -gt 0 ]; then # a session of its own, as a terminal would give it
        setsid "${launcher[@]}" -np "$n" "$LWMPI_BIN" "$@" >"$scratch/$name.json" 2>"$scratch/$name.out" &
    else
        setsid "$LWMPI_BIN" "$@" >"$scratch/$name.json" 2>"$scratch/$name.out" &
    fi
    job=$!
}

# train NAME RANKS [KEY=VALUE...]: a run in $scratch/NAME, in the background.
train() {
    local name=$1 n=$2 words
    shift 2
    mapfile -t words < <(small_job "$scratch/$name")
    start "$name" "$n" train "${words[@]}" checkpoint.every_steps=1000 eval.at_end=false "$@"
}

# ended NAME CODES: waits for it; CODES is a regular expression.
ended() {
    local got=0
    wait "$job" 2>/dev/null || got=$?
    [[ $got =~ ^($2)$ ]] || {
        fail "$1: exit code $got, expected $2"
        tail -n 15 "$scratch/$1.out"
    }
}

# until_true NAME COMMAND...: waits for COMMAND to succeed while the job runs.
until_true() {
    local name=$1 deadline=$((SECONDS + 90))
    shift
    until "$@"; do
        if [ "$SECONDS" -ge "$deadline" ] || ! kill -0 "$job" 2>/dev/null; then
            fail "$name: did not come to: $*"
            tail -n 15 "$scratch/$name.out"
            finish
        fi
        sleep 0.01
    done
}

# shellcheck disable=SC2317 # until_true calls it
rows() {
    [ -f "$scratch/$1/metrics.jsonl" ] && [ "$(wc -l <"$scratch/$1/metrics.jsonl")" -ge "$2" ]
}
reached() {
    until_true "$1" rows "$1" "$2"
}

says() {
    grep -qE -- "$2" "$scratch/$1.out" || {
        fail "$1: no message matches /$2/:"
        tail -n 15 "$scratch/$1.out"
    }
}

# Processes of the ranks; 1: of rank 1, which does not hold the lock.
all_ranks() {
    pgrep -P "$job"
}
rank0() {
    sed -n 's/.*pid \([0-9]*\),.*/\1/p' "$scratch/$1/lock"
}
rank1() {
    all_ranks | grep -vx "$(rank0 "$1")" | head -n 1
}

saved_step() {
    local name
    name=$(cat "$scratch/$1/latest" 2>/dev/null)
    echo $((10#${name#step-}))
}

# is_saved NAME: the newest checkpoint is of the last step that was done.
is_saved() {
    [ "$(saved_step "$1")" -eq "$(wc -l <"$scratch/$1/metrics.jsonl")" ] ||
        fail "$1: $(wc -l <"$scratch/$1/metrics.jsonl") steps done, the newest checkpoint is of step $(saved_step "$1")"
}

steps=69 # 80 samples, 6 epochs, steps of 7
state=checkpoints/step-000069/state.safetensors
whole() {
    train "$1" "$2" train.epochs=6
    ended "$1" 0
}
whole alone 0
whole two 2

# --- to one rank: all stop together, after a checkpoint

to_one_rank() { # SIGNAL CODE
    local name=one$1
    train "$name" 2 train.epochs=6
    reached "$name" 7
    kill -"$1" "$(rank1 "$name")"
    ended "$name" "$2"
    says "$name" "stopped by SIG$1 after step [0-9]+ of $steps; a checkpoint is written"
    is_saved "$name"
    whole "$name" 2
    same_bytes "$name: SIG$1 to one rank, and on to the end" "$scratch/$name/$state" "$scratch/two/$state"
}
to_one_rank USR1 75
to_one_rank TERM 75
to_one_rank INT 130

# --- to the launcher

long=(train.epochs=400) # far longer than the launcher takes over anything
goes_on() {             # NAME: the checkpoint is one that a run takes up
    local step
    step=$(saved_step "$1")
    train "$1" 2 "${long[@]}"
    until_true "$1" grep -q 'continuing' "$scratch/$1.out"
    says "$1" "continuing .*: step $step of"
    reached "$1" $((step + 1))
    kill -USR1 "$job"
    ended "$1" 75
    [ "$(saved_step "$1")" -gt "$step" ] || fail "$1: no progress after step $step"
}
train usr1 2 "${long[@]}"
reached usr1 5
kill -USR1 "$job" # passed on as it is
ended usr1 75
says usr1 'stopped by SIGUSR1 after step'
is_saved usr1
goes_on usr1
# Open MPI ends its job at TERM and INT: the ranks get TERM a second later, KILL after another one, and its own exit
# code is 1 whatever theirs is. What was done by then is kept.
for signal in TERM INT; do
    train "mpirun$signal" 2 "${long[@]}"
    reached "mpirun$signal" 5
    kill -"$signal" -- "-$job" # the group, as a terminal does
    ended "mpirun$signal" '[1-9][0-9]*'
    says "mpirun$signal" 'stopped by SIG(TERM|INT) after step'
    is_saved "mpirun$signal"
    goes_on "mpirun$signal"
done

# --- a second INT leaves at once, whatever the first one waits for

train impatient 2 "${long[@]}"
reached impatient 5
stopped=$(rank1 impatient)
kill -STOP "$stopped" # rank 0 now waits for it in a reduction
sleep 0.3
first=$(rank0 impatient)
kill -INT "$first"
sleep 0.5
kill -0 "$first" 2>/dev/null || fail "impatient: the first INT did not wait for the step"
begin=$SECONDS
kill -INT "$first"
ended impatient 130
[ $((SECONDS - begin)) -le 10 ] || fail "impatient: took $((SECONDS - begin)) s to leave"
kill -KILL "$stopped" 2>/dev/null

# --- while loading: nothing to save, so at once

mkdir "$scratch/data"
for _ in $(seq 25); do
    cat "$LWMPI_SOURCE_DIR/configs/tiny/train.jsonl"
done >"$scratch/data/large.jsonl"
for signal in TERM INT; do
    code=75
    [ "$signal" = TERM ] || code=130
    train "loading$signal" 2 data.train="$scratch/data/large.jsonl" data.samples=0 data.cache=false
    until_true "loading$signal" [ -s "$scratch/loading$signal/lock" ]
    sleep 0.2
    kill -"$signal" "$(rank1 "loading$signal")"
    ended "loading$signal" "$code"
    says "loading$signal" "stopped by SIG$signal while loading"
    [ ! -e "$scratch/loading$signal/latest" ] || fail "loading$signal: there is a checkpoint"
done

# --- in the evaluation at the end: training is saved, and the evaluation is done by the next start

evaluates=(train.epochs=1 eval.at_end=true data.eval_samples=300 eval.batch=2 eval.max_new_tokens=16)
train eval 2 "${evaluates[@]}"
until_true eval [ -e "$scratch/eval/latest" ]
sleep 0.3
kill -TERM "$(rank1 eval)"
ended eval 75
says eval 'stopped by SIGTERM during evaluation; start again to go on'
# shellcheck disable=SC2015 # fail comes after either
[ ! -e "$scratch/eval/eval.json" ] && [ ! -e "$scratch/eval/summary.json" ] || fail "eval: there are results"
train eval 2 "${evaluates[@]}"
ended eval 0
# shellcheck disable=SC2015
[ -s "$scratch/eval/eval.json" ] && [ -s "$scratch/eval/summary.json" ] || fail "eval: no results from the second start"

# --- in an evaluation on the way, where such a run spends most of its time

held=(train.epochs=6 eval.every_steps=2 data.eval_samples=300 eval.batch=4)
train held_whole 2 "${held[@]}"
ended held_whole 0
same_bytes "evaluating on the way changes nothing" "$scratch/held_whole/$state" "$scratch/two/$state"
train held 2 "${held[@]}"
for row in 7 22 41; do
    reached held "$row"
    sleep "0.0$row"
    kill -USR1 "$(rank1 held)"
    ended held 75
    is_saved held
    train held 2 "${held[@]}"
done
ended held 0
same_bytes "stopped three times in evaluations" "$scratch/held/$state" "$scratch/two/$state"
for name in held held_whole; do
    metrics "$scratch/$name/metrics.jsonl" step loss latent_cosine eval_nll eval_nll_qwen >"$scratch/$name.rows"
done
same_bytes "stopped three times in evaluations: metrics" "$scratch/held.rows" "$scratch/held_whole.rows"

# --- in steps that are skipped

train hot 2 "${long[@]}" train.lr=100 train.weight_decay=10 train.warmup=0 train.max_skipped=100000
until_true hot grep -q 'warning: step .* skipped' "$scratch/hot.out"
kill -TERM "$(rank1 hot)"
ended hot 75
is_saved hot

# --- at any moment: before the handlers are there (143: the system's own way), at the start, at the end, after it

for delay in 0 0.01 0.02 0.04 0.07 0.1 0.15 0.2 0.3 0.5 0.8; do
    train any 0 train.epochs=6
    sleep "$delay"
    kill -TERM "$job" 2>/dev/null
    ended any '0|75|143'
    [ -z "$(find "$scratch/any" -name '*.tmp*' 2>/dev/null)" ] || fail "any: left $(find "$scratch/any" -name '*.tmp*')"
done
whole any 0
same_bytes "TERM at eleven moments, and on to the end" "$scratch/any/$state" "$scratch/alone/$state"
metrics "$scratch/any/metrics.jsonl" step | diff - <(seq $steps) >/dev/null || fail "any: not each step once"

# --- eval and bench: nothing to save; no half of a result

mapfile -t words < <(small_job "$scratch/alone")
start command_eval 2 eval "${words[@]}" data.eval="$LWMPI_SOURCE_DIR/configs/tiny/train.jsonl" data.eval_samples=0 \
    eval.batch=2 eval.max_new_tokens=64 --json
sleep 1
kill -TERM "$(all_ranks | tail -n 1)"
ended command_eval 75
says command_eval 'lwmpi: stopped by SIGTERM (while loading|during evaluation)'
[ ! -s "$scratch/command_eval.json" ] || fail "eval: printed $(head -c 200 "$scratch/command_eval.json")"
start command_bench 2 bench "${words[@]}" --steps 1000000 --json
sleep 1
kill -INT "$(all_ranks | tail -n 1)"
ended command_bench 130
says command_bench 'lwmpi: stopped by SIGINT (while loading|during the benchmark)'
[ ! -s "$scratch/command_bench.json" ] || fail "bench: printed $(head -c 200 "$scratch/command_bench.json")"
finish
