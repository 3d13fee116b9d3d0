#!/usr/bin/env bash
# A job whose encoder reads with an LLM on GPUs: the CPU's losses and gradient norms to bf16 at one and two ranks, the same
# bits with blocks and threads in another order; adapters fitted to the embeddings as well as on the CPU.
. tests/support/shell.sh

# On real GPUs: their number, in LWMPI_GPUS. Two ranks share one by sums through the host.
backend=auto
[ "${LWMPI_GPUS:-2}" -ge 2 ] || backend=mpi

# train NAME RANKS DEVICE [KEY=VALUE...]
train() {
    local job
    mapfile -t job < <(small_job "$scratch/$1")
    if ! ranks "$2" "$LWMPI_BIN" train "${job[@]}" encoder.kind=llm encoder.share=qwen encoder.layers=2 \
        encoder.causal=false encoder.lora_rank=4 encoder.window=16 pooler.kind=mean train.max_steps=4 eval.at_end=false \
        device="$3" comm.backend=$backend "${@:4}" >"$scratch/$1.out" 2>&1; then
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

for device in cpu cuda; do
    train "fit-$device" 0 "$device" adapter.start=embeddings train.max_steps=1
    sed -n 's/^adapters fitted.* llama \([0-9]*\) %, qwen \([0-9]*\) %$/\1 \2/p' "$scratch/fit-$device.out" \
        >"$scratch/fit-$device"
done
[ -s "$scratch/fit-cpu" ] || fail "no fit on the CPU: $(cat "$scratch/fit-cpu.out")"
same_numbers "what the fit explains, in percent" 3e-2 "$scratch/fit-cpu" "$scratch/fit-cuda"
same_numbers "the first loss after it" 1e-2 "$scratch/fit-cpu.curve" "$scratch/fit-cuda.curve"
finish
