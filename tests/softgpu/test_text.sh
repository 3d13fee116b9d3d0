#!/usr/bin/env bash
# Windows of text on GPUs: the CPU's loss curve to bf16 with both task tokens, the same bits at every run, and the loss
# of held-out windows.
. tests/support/shell.sh

sed 's/"context":/"text":/' "$LWMPI_SOURCE_DIR/configs/tiny/train.jsonl" | head -20 >"$scratch/train.jsonl"

train() {
    local words
    mapfile -t words < <(small_job "$scratch/$1")
    if ! "$LWMPI_BIN" train "${words[@]}" device="$2" data.format=text data.train="$scratch/train.jsonl" \
        data.eval="$scratch/train.jsonl" data.eval_samples=3 data.window_bytes=48 data.target_tokens=12 \
        loss.reconstruct_share=0.4 train.max_steps=4 eval.at_end=false eval.every_steps=4 >"$scratch/$1.out" 2>&1; then
        fail "$1: the run ended with an error"
        tail -n 20 "$scratch/$1.out"
        finish
    fi
    metrics "$scratch/$1/metrics.jsonl" step loss loss_llama loss_qwen >"$scratch/$1.curve"
    metrics "$scratch/$1/metrics.jsonl" eval_nll | tail -1 >"$scratch/$1.nll"
}

train cpu cpu
train gpu cuda
same_numbers "losses on CPU and GPU" 1e-2 "$scratch/cpu.curve" "$scratch/gpu.curve"
same_numbers "held-out loss on CPU and GPU" 1e-2 "$scratch/cpu.nll" "$scratch/gpu.nll"

# Blocks and threads in another order: a race would show in the bits.
SOFTGPU_ORDER=7 train again cuda
state=checkpoints/step-000004/state.safetensors
same_bytes "two runs: state" "$scratch/gpu/$state" "$scratch/again/$state"
finish
