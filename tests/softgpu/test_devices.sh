#!/usr/bin/env bash
# Which device a rank computes on: GPUs of a node, too few of them, masked ones, none, and none on some nodes only.
. tests/support/shell.sh

program="$LWMPI_BINARY_DIR/tests/softgpu/lwmpi"
host=$(hostname)
out="$scratch/out"

# job CODE RANKS [auto|nccl|mpi [cuda|auto|cpu]]: two sums over the ranks' devices, the output in $out; RANKS 0: one, without
# a launcher
job() {
    local code=$1 n=$2 got=0
    shift 2
    ranks "$n" "${wrap[@]}" timeout 60 "$LWMPI_BINARY_DIR/tests/softgpu/nccl_ranks" 2 30 "$@" >"$out" 2>&1 || got=$?
    if [ "$got" -ne "$code" ]; then
        fail "$n ranks, $*: exit code $got, expected $code"
        cat "$out"
    fi
}
wrap=()

# has TEXT [TIMES]: lines of the output with TEXT
has() {
    local n
    n=$(grep -cF -- "$1" "$out")
    [ "$n" -eq "${2:-1}" ] && return
    fail "$n lines with \"$1\", expected ${2:-1}, in:"
    cat "$out"
}

# per_rank COMMANDS: the program runs after these shell commands, which see the rank as $rank
per_rank() {
    # shellcheck disable=SC2016 # the inner shell's
    wrap=(bash -c 'rank=${OMPI_COMM_WORLD_RANK:-${PMIX_RANK:-$PMI_RANK}}; '"$1"'; exec "$@"' rank)
}

# --- what is said without a job
"$program" --version >"$out"
has "backends: cpu, cuda"
has "not in this build" 0
SOFTGPU_DEVICES=3 "$program" doctor >"$out" 2>&1 || fail "doctor ended with an error"
grep -qE '^ok +GPU +2: .*GPU-[0-9a-f-]{36}, compute capability [0-9.]+, [0-9.]+ GiB' "$out" || has "GPU 2"
grep -qE '^ok +backend +cuda: CUDA [0-9.]+.*cuBLAS [0-9].*NCCL [0-9]' "$out" || has "a line of the CUDA backend"
SOFTGPU_DEVICES=0 "$program" doctor >"$out" 2>&1 || fail "doctor without a GPU ended with an error"
[ "$(grep -cE '^ok +GPU +none: ' "$out")" -eq 1 ] || has "GPU none"

# --- one rank a GPU, which has a context on its own and on no other
SOFTGPU_CONTEXTS=1 job 0 2
has "rank 0: cuda: "
has "rank 1: cuda: "
[ "$(grep 'rank [01]: cuda: ' "$out" | grep -oE 'GPU-[0-9a-f-]{36}' | sort -u | wc -l)" -eq 2 ] ||
    fail "two ranks are not on two GPUs"
[ "$(grep -xE 'softgpu: contexts: GPU-[0-9a-f-]{36}' "$out" | sort -u | wc -l)" -eq 2 ] || has "one context a rank"
grep -qE '^NCCL [0-9.]+: 4 sums right$' "$out" || has "NCCL"
SOFTGPU_CONTEXTS=1 SOFTGPU_FAIL=cudaSetDevice@1:1:cudaErrorDevicesUnavailable job 1 2 # another process has it to itself
has "rank 1 on $host: cuda: cannot use the GPU (another process may have it to itself"
[ "$(grep -c '^softgpu: contexts: ' "$out")" -eq 1 ] || has "a context of rank 0 alone"
job 0 1
has "none (one rank): 2 sums right"
job 0 1 nccl
grep -qE '^NCCL [0-9.]+: 2 sums right$' "$out" || has "NCCL of one rank"

# --- GPUs that this program cannot use are refused at the start
SOFTGPU_NO_KERNEL_IMAGE=1 SOFTGPU_SM=103 job 1 0
has "Software GPU is sm_103: rebuild with -DCMAKE_CUDA_ARCHITECTURES=103 (no kernel image"
SOFTGPU_FAIL=cudaFuncGetAttributes:1:cudaErrorUnsupportedPtxVersion job 1 0
has "its driver is too old to translate the PTX: update the driver, or rebuild with -DCMAKE_CUDA_ARCHITECTURES=90"
SOFTGPU_SM=75 job 1 0
has "Software GPU is sm_75, which has no bf16 products: lwmpi needs sm_80"
SOFTGPU_DRIVER=12040 job 1 2
has "cuda: the NVIDIA driver is too old: it knows CUDA 12.4 at most, and this lwmpi needs 13.0"
SOFTGPU_DRIVER=0 job 1 0
has "cuda: no NVIDIA driver on this machine"
SOFTGPU_DRIVER=12040 job 0 0 auto auto
has ": cpu: "
[ "${LWMPI_SANITIZED:-0}" = 0 ] || finish # the rest is of the launcher more than of the code

# --- fewer GPUs than ranks: refused with a table, shared on request
SOFTGPU_DEVICES=1 job 2 2
has "would share one GPU"
has "CUDA_VISIBLE_DEVICES"
has "comm.backend = \"mpi\""
grep -qE '^rank +host +local rank +GPU +UUID' "$out" || has "a table"
SOFTGPU_DEVICES=2 job 2 3
has "ranks 0 and 2 on $host would share one GPU"
SOFTGPU_DEVICES=1 job 0 2 mpi
has "copied from the device and back"

# --- masks: the same GPU under two masks is found by its UUID, one of its own under the same index is fine
# shellcheck disable=SC2016 # the inner shell's
per_rank 'export CUDA_VISIBLE_DEVICES=$rank'
job 0 2
[ "$(grep -oE 'GPU-[0-9a-f-]{36}' "$out" | sort -u | wc -l)" -eq 2 ] || fail "masked ranks are not on two GPUs"
# shellcheck disable=SC2016
per_rank 'export CUDA_VISIBLE_DEVICES=$((rank == 0 ? 1 : 0)),$((rank == 0 ? 0 : 1))' # both lists begin elsewhere
SOFTGPU_DEVICES=2 job 2 2
has "ranks 0 and 1 on $host would share one GPU"
wrap=()

# --- none
SOFTGPU_DEVICES=0 job 1 2
has "rank 1 on" 0 # said once for all
SOFTGPU_DEVICES=0 job 0 2 auto auto
has ": cpu: " 2
# shellcheck disable=SC2016
per_rank 'export SOFTGPU_DEVICES=$((1 - rank))'
job 2 2 auto auto
has "rank 1 on $host: device = \"auto\": no GPU here, while 1 of 2 ranks have one"
job 1 2
has "rank 1 on $host: "
wrap=()

# --- a backend that does not fit
job 2 2 nccl cpu
has "comm.backend = \"nccl\" moves data between GPUs, but the device is \"cpu\""

# --- plan.device = "auto": the GPU that is there, where the table has it
got=0
"$program" plan "$LWMPI_SOURCE_DIR/configs/tiny.cfg" device=cuda plan.device=auto >"$out" 2>&1 || got=$?
[ "$got" -eq 2 ] || fail "a plan for an unknown GPU: exit code $got, expected 2"
has "is not in the table of rates"
finish
