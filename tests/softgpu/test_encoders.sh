#!/usr/bin/env bash
# Jobs whose encoder reads with an LLM, or a frozen BERT, on GPUs: the CPU's losses and gradient norms to bf16 at one and
# two ranks, the same bits with blocks and threads in another order; adapters fitted to the embeddings as well as on the CPU.
. tests/support/shell.sh

# shellcheck disable=SC2034 # by name, below
llm=(encoder.kind=llm encoder.share=qwen encoder.causal=false encoder.lora_rank=4 encoder.window=16 pooler.kind=mean)
mkdir "$scratch/reader"
cp tests/parity/bert/tiny/{config.json,model*} "$scratch/reader"
cp tests/parity/tokenizer/bert.json "$scratch/reader/tokenizer.json"
# shellcheck disable=SC2034
bert=(encoder.kind=bert encoder.path="$scratch/reader")

# train NAME RANKS DEVICE [KEY=VALUE...]
train() {
    local job
    mapfile -t job < <(small_job "$scratch/$1")
    if ! ranks "$2" "$LWMPI_BIN" train "${job[@]}" encoder.layers=2 train.max_steps=4 eval.at_end=false device="$3" \
        comm.backend="$gpu_backend" "${@:4}" >"$scratch/$1.out" 2>&1; then
        fail "$1: $(tail -n 20 "$scratch/$1.out")"
        finish
    fi
    metrics "$scratch/$1/metrics.jsonl" step loss loss_llama loss_qwen >"$scratch/$1.curve"
    metrics "$scratch/$1/metrics.jsonl" grad_norm >"$scratch/$1.norm"
}

for encoder in llm bert; do
    declare -n keys=$encoder
    train $encoder-cpu 0 cpu "${keys[@]}"
    train $encoder-gpu 0 cuda "${keys[@]}"
    [ "$(wc -l <"$scratch/$encoder-gpu.curve")" -eq 4 ] || fail "$encoder: expected 4 rows of metrics.jsonl"
    train $encoder-gpus 2 cuda "${keys[@]}"
    for name in $encoder-gpu $encoder-gpus; do
        same_numbers "$name: losses as on the CPU" 1e-2 "$scratch/$encoder-cpu.curve" "$scratch/$name.curve"
        same_numbers "$name: gradient norms as on the CPU" 5e-2 "$scratch/$encoder-cpu.norm" "$scratch/$name.norm"
    done
    SOFTGPU_ORDER=7 train $encoder-again 0 cuda "${keys[@]}"
    same_bytes "$encoder, two runs: losses" "$scratch/$encoder-gpu.curve" "$scratch/$encoder-again.curve"
done

for device in cpu cuda; do
    train "fit-$device" 0 "$device" "${llm[@]}" adapter.start=embeddings train.max_steps=1
    sed -n 's/^adapters fitted.* llama \([0-9]*\) %, qwen \([0-9]*\) %$/\1 \2/p' "$scratch/fit-$device.out" \
        >"$scratch/fit-$device.explained"
done
[ -s "$scratch/fit-cpu.explained" ] || fail "no fit on the CPU: $(cat "$scratch/fit-cpu.out")"
same_numbers "what the fit explains, in percent" 3e-2 "$scratch/fit-cpu.explained" "$scratch/fit-cuda.explained"
same_numbers "the first loss after it" 1e-2 "$scratch/fit-cpu.curve" "$scratch/fit-cuda.curve"
finish
