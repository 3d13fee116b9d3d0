#!/usr/bin/env bash
# A job whose encoder reads with a frozen BERT on GPUs: the CPU's losses and gradient norms to bf16 at one rank and two,
# the same bits with blocks and threads in another order.
. tests/support/shell.sh

# On real GPUs: their number, in LWMPI_GPUS. Two ranks share one by sums through the host.
backend=auto
[ "${LWMPI_GPUS:-2}" -ge 2 ] || backend=mpi

mkdir "$scratch/reader"
cp tests/parity/bert/tiny/{config.json,model*} "$scratch/reader"
cp tests/parity/tokenizer/bert.json "$scratch/reader/tokenizer.json"

# train NAME RANKS DEVICE
train() {
    local job
    mapfile -t job < <(small_job "$scratch/$1")
    if ! ranks "$2" "$LWMPI_BIN" train "${job[@]}" encoder.kind=bert encoder.path="$scratch/reader" encoder.layers=2 \
        train.max_steps=4 eval.at_end=false device="$3" comm.backend=$backend >"$scratch/$1.out" 2>&1; then
        fail "$1: $(tail -n 20 "$scratch/$1.out")"
        finish
    fi
    metrics "$scratch/$1/metrics.jsonl" step loss loss_llama loss_qwen >"$scratch/$1.curve"
    metrics "$scratch/$1/metrics.jsonl" grad_norm >"$scratch/$1.norm"
}

train cpu 0 cpu
train gpu 0 cuda
[ "$(wc -l <"$scratch/gpu.curve")" -eq 4 ] || fail "gpu: expected 4 rows of metrics.jsonl"
train gpus 2 cuda
for name in gpu gpus; do
    same_numbers "$name: losses as on the CPU" 1e-2 "$scratch/cpu.curve" "$scratch/$name.curve"
    same_numbers "$name: gradient norms as on the CPU" 5e-2 "$scratch/cpu.norm" "$scratch/$name.norm"
done
SOFTGPU_ORDER=7 train again 0 cuda
same_bytes "two runs: losses" "$scratch/gpu.curve" "$scratch/again.curve"
finish
