# shellcheck shell=bash
# job.sh: what every job does, sourced by the scripts of this folder and by those that `lwmpi slurm` prints:
# settings of the site, a dry run, the launch, signals, requeueing, a summary.
#
# Needs $dir, the folder of this file. lwmpi_job CONFIG [key=value ...] does not return.

: "${dir:?is to be the folder of job.sh}"

lwmpi_say() { printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"; }

lwmpi_find_program() {
    local candidate
    for candidate in "${LWMPI_BIN:-}" "$dir/../build/cuda/lwmpi" "$dir/../build/release/lwmpi" \
        "$dir/../../../bin/lwmpi" "$(command -v lwmpi)"; do
        if [ -n "$candidate" ] && [ -x "$candidate" ]; then
            LWMPI_BIN=$candidate
            return
        fi
    done
    lwmpi_say "lwmpi is not built beside $dir and not on PATH: build it, or set LWMPI_BIN in site.sh"
    exit 2
}

# The configuration, checked before a GPU is touched: what is wrong with it is said in a second.
lwmpi_dry_run() {
    local plan code=0
    lwmpi_say "dry run: lwmpi plan $*"
    plan=$("$LWMPI_BIN" plan "$@" --gpus "$SLURM_NTASKS" \
        --per-node "$(((SLURM_NTASKS + SLURM_NNODES - 1) / SLURM_NNODES))") || code=$?
    printf '%s\n' "$plan"
    if [ "$code" -ne 0 ]; then
        lwmpi_say "the dry run failed (exit code $code): nothing was started"
        exit "$code"
    fi
    lwmpi_run_dir=$(sed -n 's/^run directory: //p' <<<"$plan")
}

lwmpi_choose_launcher() {
    # Since Slurm 22.05 a step does not inherit --cpus-per-task.
    export SRUN_CPUS_PER_TASK=${SRUN_CPUS_PER_TASK:-${SLURM_CPUS_PER_TASK:-1}}
    if [ -n "${LWMPI_LAUNCH:-}" ]; then
        read -ra lwmpi_launch <<<"$LWMPI_LAUNCH"
    elif srun --mpi=list 2>&1 | grep -qw pmix; then
        read -ra lwmpi_launch <<<"srun --mpi=pmix ${LWMPI_SRUN_FLAGS:-}"
    else
        lwmpi_launch=(mpirun -np "$SLURM_NTASKS")
    fi
}

# Waits for the step through the signals that this shell passes on. Its exit code is in lwmpi_code.
lwmpi_wait() {
    while :; do
        lwmpi_code=0
        wait "$1" || lwmpi_code=$?
        # Above 128: a signal arrived here, or ended the step. In the first case it is still there.
        if [ "$lwmpi_code" -le 128 ] || ! kill -0 "$1" 2>/dev/null; then
            return
        fi
    done
}

# Figures of the run, from its summary.json, as they are there.
lwmpi_summary() {
    lwmpi_say "exit code $lwmpi_code after $SECONDS s on $SLURM_NNODES node(s), $SLURM_NTASKS task(s)," \
        "restart ${SLURM_RESTART_COUNT:-0}"
    local summary=$lwmpi_run_dir/summary.json
    if [ "$lwmpi_code" -eq 0 ] && [ -f "$summary" ]; then # after a stop, an older one
        lwmpi_say "performance, from $summary:"
        grep -E '^  "(ranks|device|samples|steps|train_s|wall_s|samples_per_s|device_bytes|loss)":' "$summary"
        sed -n '/"predicted": {/,/}/p; /"prediction_error": {/,/}/p' "$summary"
    fi
}

# Stopped by a signal after a checkpoint: into the queue again, unless somebody cancelled the job.
lwmpi_requeue() {
    local state
    state=$(scontrol show job "$SLURM_JOB_ID" -o | sed -n 's/.* JobState=\([A-Z]*\).*/\1/p')
    if [ "$lwmpi_terminated" = yes ] || [ "$state" != RUNNING ]; then
        lwmpi_say "checkpointed; not requeued, as the job is being ended (state $state). Submit it again to go on"
        return
    fi
    lwmpi_say "checkpointed; requeueing job $SLURM_JOB_ID"
    scontrol requeue "$SLURM_JOB_ID" || lwmpi_say "the job could not be requeued: submit it again to go on"
}

lwmpi_job() {
    # shellcheck source=slurm/site.sh
    . "${LWMPI_SITE:-$dir/site.sh}"
    lwmpi_modules
    lwmpi_find_program
    lwmpi_say "job $SLURM_JOB_ID (${SLURM_JOB_NAME:-}) on $SLURM_JOB_NODELIST: $SLURM_NTASKS task(s), restart" \
        "${SLURM_RESTART_COUNT:-0}"
    lwmpi_dry_run "$@"
    lwmpi_choose_launcher
    lwmpi_say "${lwmpi_launch[*]} $LWMPI_BIN train $*"
    lwmpi_terminated=no
    "${lwmpi_launch[@]}" "$LWMPI_BIN" train "$@" &
    local step=$!
    trap 'lwmpi_say "SIGUSR1: the time limit is near"; kill -USR1 "$step" 2>/dev/null' USR1
    # mpirun would end its job a second after SIGTERM; SIGUSR1 it passes on.
    local stop=TERM
    [ "${lwmpi_launch[0]##*/}" != mpirun ] || stop=USR1
    trap 'lwmpi_terminated=yes; lwmpi_say "SIGTERM"; kill -'"$stop"' "$step" 2>/dev/null' TERM
    lwmpi_wait "$step"
    lwmpi_summary
    [ "$lwmpi_code" -ne 75 ] || lwmpi_requeue
    exit "$lwmpi_code"
}
