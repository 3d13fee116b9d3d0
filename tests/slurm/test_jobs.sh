#!/usr/bin/env bash
# The scripts of slurm/ on a real Slurm: to the end, over two nodes, through the time limit and the queue, cancelled.
set -uo pipefail

# shellcheck source=tests/slurm/cluster.sh
. "$LWMPI_SOURCE_DIR/tests/slurm/cluster.sh"
reason=$(cluster_missing)
if [ -n "$reason" ]; then
    echo "skipped: $reason"
    exit 77
fi

failures=0
work=$(mktemp -d)
cleanup() {
    cluster_stop
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
mkdir -p "$work/home"
cd "$work/home" || exit 1

complain() {
    failures=$((failures + 1))
    printf 'FAILED %s\n' "$*"
}

cluster_start "$work/cluster" || {
    echo "FAILED the cluster does not start"
    exit 1
}
export LWMPI_CALIBRATION="$work/calibration" LWMPI_BIN
tiny="$LWMPI_SOURCE_DIR/configs/tiny.cfg"
submit="$LWMPI_SOURCE_DIR/slurm/submit.sh"

field() { scontrol show job "$1" -o 2>/dev/null | sed -n "s/.* $2=\([^ ]*\).*/\1/p"; }

# submit SCRIPT WORD ... : the job's id
start() { "$submit" "$@" 2>&1 | sed -n 's/^Submitted batch job //p'; }

# until_state ID STATES SECONDS
until_state() {
    local state
    for _ in $(seq "$(($3 * 2))"); do
        state=$(field "$1" JobState)
        [[ "$state" =~ ^($2)$ ]] && return
        [[ "$state" =~ ^(COMPLETED|FAILED|TIMEOUT|NODE_FAIL|CANCELLED)$ ]] && break
        sleep 0.5
    done
    complain "job $1 is $state ($(field "$1" Reason)), expected $2 within $3 s"
    tail -5 runs/*_"$1".log 2>/dev/null
    return 1
}

until_log() { # FILE PATTERN SECONDS
    for _ in $(seq "$(($3 * 5))"); do
        grep -qE -- "$2" "$1" 2>/dev/null && return
        sleep 0.2
    done
    complain "$1 lacks after $3 s: $2"
    return 1
}

has() { grep -qE -- "$2" "$1" || complain "$1 lacks: $2"; }
loss() { sed -n 's/^ *"loss": \([^,]*\),*$/\1/p' "$1"; }

small=(threads=1 data.samples=96 train.epochs=1 eval.at_end=false)

# --- a single GPU, to the end; its log and its summary
id=$(start single_gpu -- "$tiny" run.dir=single threads=1 data.samples=960 train.epochs=1 data.eval_samples=8)
until_state "$id" COMPLETED 180
has "runs/single_gpu_$id.log" 'dry run: lwmpi plan'
has "runs/single_gpu_$id.log" "left of the Slurm job's time|plan.deadline_h"
has "runs/single_gpu_$id.log" 'srun --mpi=pmix'
has "runs/single_gpu_$id.log" 'performance, from single/summary.json'
has "runs/single_gpu_$id.log" '"samples_per_s":'
has "runs/single_gpu_$id.log" '"predicted": \{'
rate=$(sed -n 's/^  "samples_per_s": \([0-9]*\).*/\1/p' single/summary.json)

# --- two GPUs, four GPUs, two nodes
id=$(start two_gpu -- "$tiny" run.dir=two "${small[@]}")
id4=$(start four_gpu -- "$tiny" run.dir=four "${small[@]}")
until_state "$id" COMPLETED 180
until_state "$id4" COMPLETED 180
has "runs/optimized_$id.log" '"ranks": 2'
has "runs/four_gpu_$id4.log" '"ranks": 4'
# Open MPI names its shared memory after the host, and both nodes are this one: their ranks talk over TCP.
export OMPI_MCA_btl=self,tcp
id=$(start multi_node -- "$tiny" run.dir=multi "${small[@]}")
until_state "$id" COMPLETED 240
has "runs/multi_node_$id.log" '"ranks": 8'
srun -N2 -n2 --mpi=pmix "$LWMPI_BIN" "$tiny" run.dir=srun "${small[@]}" >srun.log 2>&1 ||
    complain "srun -N2 -n2 --mpi=pmix: $(tail -3 srun.log)"
has srun.log 'configs/tiny.cfg, 2 ranks'
# A variable of another job inside the step.
srun -N2 -n2 --mpi=pmix env SLURM_STEP_NUM_TASKS=3 "$LWMPI_BIN" "$tiny" run.dir=wrong "${small[@]}" >wrong.log 2>&1 &&
    complain "contradicting Slurm variables are accepted"
has wrong.log 'this step has 3 tasks \(SLURM_STEP_NUM_TASKS\), but MPI has 2 ranks'
unset OMPI_MCA_btl

# --- what lwmpi slurm prints
"$LWMPI_BIN" slurm "$tiny" run.dir=printed "${small[@]}" >printed.sbatch || complain "lwmpi slurm failed"
id=$(start ./printed.sbatch)
until_state "$id" COMPLETED 180
has "runs/tiny_$id.log" 'performance, from'

# --- a wrong configuration ends in the dry run
id=$(start single_gpu -- "$tiny" run.dir=wrong train.lrr=1)
until_state "$id" FAILED 60
has "runs/single_gpu_$id.log" 'did you mean|lrr'
has "runs/single_gpu_$id.log" 'nothing was started'
[ "$(field "$id" ExitCode)" = 2:0 ] || complain "a wrong configuration: exit code $(field "$id" ExitCode)"
[ ! -e wrong ] || complain "a wrong configuration left a run directory"

# --- cancelled: a checkpoint that verifies stays
long=(threads=1 train.epochs=1000 data.eval_samples=4 checkpoint.every_steps=0)
id=$(start single_gpu -- "$tiny" run.dir=cancelled "${long[@]}")
until_log cancelled/metrics.jsonl '"step"' 60
scancel "$id"
until_state "$id" CANCELLED 60
for _ in $(seq 50); do # the last word of a cancelled job
    [ -z "$(squeue -h)" ] && break
    sleep 0.5
done
"$LWMPI_BIN" eval "$tiny" run.dir=cancelled "${long[@]}" >eval.log 2>&1 ||
    complain "no checkpoint that verifies after scancel: $(tail -2 eval.log)"

# --- the time limit: signal, checkpoint, exit 75, requeue, and the loss of a run that nothing disturbed. The job takes
# about a minute and a half; the signal comes within the first minute.
steps=$((rate * 90 / 32))
limited=(threads=1 batch.global=32 train.epochs=1000 train.max_steps="$steps" eval.at_end=false)
id=$(start single_gpu --time=2 --signal=B:USR1@85 -- "$tiny" run.dir=limited "${limited[@]}")
"$LWMPI_BIN" "$tiny" run.dir=undisturbed "${limited[@]}" >undisturbed.log 2>&1 &
undisturbed=$!
until_log "runs/single_gpu_$id.log" "requeueing job $id" 150
has "runs/single_gpu_$id.log" 'SIGUSR1: the time limit is near'
has "runs/single_gpu_$id.log" 'stopped by SIGUSR1 after step'
has "runs/single_gpu_$id.log" 'exit code 75'
[ -f limited/latest ] || complain "no checkpoint before the requeue"
until_state "$id" COMPLETED 600
[ "$(field "$id" Restarts)" -ge 1 ] || complain "the job was not restarted"
has "runs/single_gpu_$id.log" 'continuing limited/checkpoints/step-'
wait "$undisturbed" || complain "the undisturbed run failed: $(tail -2 undisturbed.log)"
expected=$(loss undisturbed/summary.json)
[ "$(loss limited/summary.json)" = "${expected:-none}" ] ||
    complain "final loss $(loss limited/summary.json) with a requeue, $(loss undisturbed/summary.json) without"
echo "requeued $(field "$id" Restarts) time(s), final loss $(loss limited/summary.json)"

[ "$failures" -eq 0 ] || exit 1
echo "all passed"
