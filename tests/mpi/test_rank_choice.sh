#!/usr/bin/env bash
# gpus = "auto" and gpus = N: how many ranks train, what the others cost while they wait, and how all of them leave.
set -uo pipefail

failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LWMPI_CALIBRATION="$work/calibration"
tiny="$LWMPI_SOURCE_DIR/configs/tiny.cfg"
small=(threads=1 data.samples=64 train.epochs=1 eval.at_end=false)

complain() {
    failures=$((failures + 1))
    printf 'FAILED %s\n' "$*"
    tail -5 "$work/log" 2>/dev/null
}

# launch RANKS CODE ARGUMENT ...
launch() {
    local ranks=$1 code=$2 got=0
    shift 2
    # shellcheck disable=SC2086 # the launcher is words
    $LWMPI_MPIEXEC -np "$ranks" "$LWMPI_BIN" "$tiny" run.dir="$work/run$RANDOM" "$@" >"$work/log" 2>&1 || got=$?
    [ "$got" -eq "$code" ] || complain "-np $ranks $*: exit code $got, expected $code"
}

has() { grep -qE -- "$1" "$work/log" || complain "the log lacks: $1"; }

# One rank meets the deadline: it trains alone, and says so with the table.
launch 4 0 "${small[@]}" gpus=auto plan.deadline_h=12
has 'gpus = "auto": 1 of 4 ranks train, 3 wait'
has '^strong scaling'
has '^decision: 1 GPU'
has '/tiny.cfg, 1 rank$'
has 'done: [0-9]+ steps, 64 samples'
# No count meets it, and every gain is welcome: where there are two cores, two ranks train.
if [ "$(nproc)" -ge 2 ]; then
    launch 2 0 "${small[@]}" gpus=auto plan.deadline_h=0.0000001 plan.min_efficiency=0.1
    has 'no count ends in time'
    has 'gpus = "auto": 2 of 2 ranks train, 0 wait'
fi
launch 3 0 "${small[@]}" gpus=2
has '/tiny.cfg, 2 ranks$'
launch 2 0 "${small[@]}"
has '/tiny.cfg, 2 ranks$'
SLURM_NTASKS=4 launch 2 0 "${small[@]}"
has 'warning: 2 ranks in a Slurm job of 4 tasks'
launch 2 2 "${small[@]}" gpus=3
has 'gpus = 3, but the job has 2 ranks'
launch 2 1 "${small[@]}" gpus=1 data.train="$work/none.jsonl" # the chosen rank's failure ends all
has 'none.jsonl'
[ "$(grep -c 'none.jsonl' "$work/log")" -eq 1 ] || complain "the failure is told more than once"

# start_long NAME: three ranks of which one trains, until it does; $job is the launcher's
start_long() {
    # shellcheck disable=SC2086
    $LWMPI_MPIEXEC -np 3 "$LWMPI_BIN" "$tiny" run.dir="$work/$1" "${small[@]}" train.epochs=100000 gpus=1 \
        >"$work/log" 2>&1 &
    job=$!
    for _ in $(seq 100); do
        grep -q '"step"' "$work/$1/metrics.jsonl" 2>/dev/null && break
        sleep 0.2
    done
}

# end_long NAME WHAT: it ends in order, with the chosen rank's exit code
end_long() {
    local code=0
    wait "$job" || code=$?
    [ "$code" -eq 75 ] || complain "after $2: exit code $code, expected 75"
    [ -f "$work/$1/latest" ] || complain "no checkpoint after $2"
}

# Waiting costs nothing, and a signal to the whole job ends it.
start_long long
sleep 3
idle=0
ticks=$(getconf CLK_TCK)
for pid in $(pgrep -P "$job"); do
    # user and system time, in ticks; the name may not hold blanks
    read -r -a stat <"/proc/$pid/stat"
    [ $(((stat[13] + stat[14]) * 10 / ticks)) -ge 10 ] || idle=$((idle + 1)) # less than a second
done
[ "$idle" -ge 2 ] || complain "$idle ranks wait without using the processor, expected 2"
kill -USR1 "$job"
end_long long "SIGUSR1"

# So does one to a rank that waits.
start_long waiting
for pid in $(pgrep -P "$job"); do
    if grep -qz '^OMPI_COMM_WORLD_RANK=2$' "/proc/$pid/environ"; then
        kill -USR1 "$pid"
    fi
done
end_long waiting "SIGUSR1 to a rank that waits"

[ "$failures" -eq 0 ] || exit 1
echo "all passed"
