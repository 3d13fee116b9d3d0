#!/usr/bin/env bash
# The data plane of GPUs: sums through NCCL and through MPI, and how a job ends when NCCL or a rank in it fails.
. tests/support/shell.sh

program="$LWMPI_BINARY_DIR/tests/softgpu/nccl_ranks"
host=$(hostname)
out="$scratch/out"
limit=40 # seconds for a failure to end the job: deadlines here are 4
[ "${LWMPI_SANITIZED:-0}" = 1 ] && limit=120

# sums RANKS TEXT ARGUMENT...: the program ends well and says TEXT
sums() {
    local n=$1 text=$2
    shift 2
    if ! ranks "$n" timeout -k 5 100 "$program" "$@" >"$out" 2>&1 || ! grep -qE -- "$text" "$out"; then
        fail "$n ranks, $*: no \"$text\" in:"
        cat "$out"
    fi
}

# ends NAME TEXT COMMAND...: $n ranks, or 2, fail in time, and say so
ends() {
    local name=$1 text=$2 code=0 begin=$SECONDS
    shift 2
    ranks "${n:-2}" timeout -k 5 100 "$@" >"$out" 2>&1 || code=$?
    if [ "$code" -eq 0 ] || [ "$code" -eq 124 ] || ! grep -qE -- "$text" "$out"; then
        fail "$name: exit code $code, no \"$text\" in:"
        cat "$out"
    fi
    [ $((SECONDS - begin)) -le "$limit" ] || fail "$name: took $((SECONDS - begin)) s, at most $limit were expected"
}

# --- the part that sanitizers see, too
sums 2 '^NCCL [0-9.]+: 10 sums right' 5
sums 1 '^NCCL [0-9.]+: 5 sums right' 5 60 nccl # asked for: one GPU can try it
SOFTGPU_NCCL_FAULT=1:2:async_error ends "an asynchronous error" \
    "rank 1 on $host: NCCL all-reduce failed in phase \"step 2\": .*injected" "$program" 4 10
# Nobody else is there to miss a rank whose GPU hangs.
SOFTGPU_FAIL=kernel:6:hang n=1 ends "a hanging GPU alone" \
    'lwmpi: the GPU did not finish its own work within 4\.0 s \(comm\.timeout_s\) in phase "step [0-9]+"' "$program" 20 4
[ "${LWMPI_SANITIZED:-0}" = 0 ] || finish

# --- all of it
sums 2 '^MPI \(ring in host memory, copied from the device and back\): 10 sums right' 5 60 mpi
sums 1 '^none \(one rank\): 5 sums right' 5
SOFTGPU_DEVICES=3 sums 3 '^NCCL [0-9.]+: 15 sums right' 5
SOFTGPU_DEVICES=1 sums 2 '^MPI .*: 4 sums right' 2 60 mpi
SOFTGPU_DEVICES=1 ends "two ranks on one GPU" "ranks 0 and 1 on $host would share one GPU" "$program" 2
grep -qE "^1 +$host +1 +0 of 1 +GPU-[0-9a-f-]{36}" "$out" || fail "no table of ranks and GPUs"

SOFTGPU_NCCL_FAULT=1:2:hang ends "a stuck all-reduce" \
    'in phase "step 2" \(NCCL all-reduce\) although every rank is there' "$program" 4 4
SOFTGPU_NCCL_FAULT=1:2:dead ends "a dead rank" 'softgpu: rank 1 ends in the middle' "$program" 4 4
SOFTGPU_NCCL_FAULT=1:0:init_error ends "an error at the start" \
    "rank 1 on $host: NCCL start failed in phase \"connecting devices\": .*injected" "$program" 4 10
SOFTGPU_NCCL_FAULT=1:0:hang ends "a stuck start" 'in phase "connecting devices" \(NCCL start\)' "$program" 4 4
# A rank whose GPU hangs in its own work does not count as one that waits.
SOFTGPU_FAIL=kernel@1:6:hang ends "a hanging GPU" \
    "for rank 1 on $host: it died, hangs or is stopped|rank 1 on $host: the GPU did not finish its own work" "$program" 8 4
SOFTGPU_NCCL_FAULT=0:2:hang n=1 ends "a stuck all-reduce of one rank" \
    'in phase "step 2" \(NCCL all-reduce\) although every rank is there' "$program" 4 4 nccl
mapfile -t job < <(small_job "$scratch/hang")
for kernel in 20 400; do # while it loads and while it trains
    SOFTGPU_FAIL=kernel:$kernel:hang n=0 ends "training on a hanging GPU" \
        'the GPU did not finish its own work within 4\.0 s \(comm\.timeout_s\) in phase "' \
        "$LWMPI_BIN" train "${job[@]}" device=cuda comm.timeout_s=4 eval.at_end=false
done
# shellcheck disable=SC2016 # the inner shell's
ends "a stopped rank" "in phase \"step [0-9]+\" \(NCCL all-reduce\) for rank 1 on $host: it died, hangs or is stopped" \
    bash -c '[ "${OMPI_COMM_WORLD_RANK:-${PMIX_RANK:-$PMI_RANK}}" = 1 ] && (sleep 3; kill -STOP $$) & exec "$0" 100000000 4' \
    "$program"
finish
