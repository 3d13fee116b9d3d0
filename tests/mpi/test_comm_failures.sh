#!/usr/bin/env bash
# comm: a rank that hangs, one that is late, one that aborts, and launchers that start copies instead of ranks.
set -u
program="$LWMPI_BINARY_DIR/tests/test_mpi_comm"
[ -x "$program" ] || { echo "skipped: $program was not built"; exit 77; }
failures=0
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# expect NAME CODE TEXT COMMAND...: the exit code (or "fail": not 0) and a text of its output.
expect() {
    local name=$1 code=$2 text=$3 got
    shift 3
    "$@" >"$out" 2>&1
    got=$?
    if { [ "$code" = fail ] && [ "$got" -eq 0 ]; } || { [ "$code" != fail ] && [ "$got" -ne "$code" ]; } ||
        ! grep -qF -- "$text" "$out"; then
        echo "FAILED: $name: exit code $got (expected $code), no \"$text\" in:"
        cat "$out"
        failures=$((failures + 1))
    fi
}

host=$(hostname)
# shellcheck disable=SC2086 # the launcher is a list of words
{
    start=$SECONDS
    expect "hang" 1 "in phase \"step 7\" (barrier) for rank 2 on $host: it died, hangs or is stopped" \
        timeout -k 5 50 $LWMPI_MPIEXEC -np 3 "$program" hang
    [ $((SECONDS - start)) -lt 20 ] || { echo "FAILED: hang: took $((SECONDS - start)) s"; failures=$((failures + 1)); }
    if [ "$(grep -c waited "$out")" -ne 1 ]; then
        echo "FAILED: hang: more than one voice"
        cat "$out"
        failures=$((failures + 1))
    fi
    expect "late" 0 "rank 0 went on" timeout -k 5 50 $LWMPI_MPIEXEC -np 3 "$program" late
    # Ranks 0 and 1 wait for all, rank 2 for rank 3 alone, in their group: the one that hangs is named, and nobody else.
    expect "hang in a group" 1 "for rank 3 on $host: it died, hangs or is stopped" \
        timeout -k 5 50 $LWMPI_MPIEXEC -np 4 "$program" group
    if grep -qE 'for rank [0-2]|rank 2 on [^ ]+, ' "$out"; then
        echo "FAILED: hang in a group: a rank that waits was named"
        cat "$out"
        failures=$((failures + 1))
    fi
    expect "work in a group" 0 "rank 0 went on" timeout -k 5 50 $LWMPI_MPIEXEC -np 4 "$program" group_late
    expect "abort" 2 "lwmpi: rank 1 on $host: no such key" timeout -k 5 50 $LWMPI_MPIEXEC -np 2 "$program" abort
}
# A rank that never begins: the others know only that they wait.
# shellcheck disable=SC2016,SC2086 # the variables are the inner shell's; the launcher is a list of words
expect "start" fail "rank 0 on $host: MPI did not start within 2.0 s (waiting for the other ranks)" \
    env LWMPI_START_TIMEOUT_S=2 timeout -k 5 50 $LWMPI_MPIEXEC -np 2 \
    bash -c 'case "${OMPI_COMM_WORLD_RANK:-${PMIX_RANK:-$PMI_RANK}}" in 1) sleep 40 ;; *) exec "$0" ;; esac' "$program"
slurm=(env SLURM_JOB_ID=1 SLURM_NTASKS=2 SLURM_PROCID=0)
expect "srun without PMI" 1 "srun --mpi=pmix" "${slurm[@]}" SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 "$program"
expect "batch script without a launcher" 1 "SLURM_NTASKS" "${slurm[@]}" "$program"
expect "srun of one task in a larger job" 0 "all passed" "${slurm[@]}" SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=1 "$program"
# shellcheck disable=SC2086
expect "one rank on purpose" 0 "all passed at 1 ranks" "${slurm[@]}" $LWMPI_MPIEXEC -np 1 "$program"
expect "alone" 0 "all passed at 1 ranks" "$program"
exit $((failures > 0))
