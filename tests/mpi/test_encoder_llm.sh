#!/usr/bin/env bash
# A job whose encoder reads with an LLM: it learns, alike at any number of ranks and with weights of its own or a model's;
# its memory is as planned; a checkpoint is continued with the same LLM alone.
. tests/support/shell.sh

tiny=$LWMPI_SOURCE_DIR/configs/tiny
llm=(encoder.kind=llm encoder.layers=2 encoder.causal=false encoder.lora_rank=4 pooler.kind=mean wire.ratio=4 wire.latents=1)

# train NAME RANKS [KEY=VALUE...]: a run in $scratch/NAME, its losses in $scratch/NAME.curve
train() {
    local name=$1 n=$2 job
    shift 2
    mapfile -t job < <(small_job "$scratch/$name")
    if ! ranks "$n" "$LWMPI_BIN" train "${job[@]}" "${llm[@]}" "$@" >"$scratch/$name.out" 2>&1; then
        fail "$name: the run ended with an error"
        cat "$scratch/$name.out"
        finish
    fi
    metrics "$scratch/$name/metrics.jsonl" step samples loss loss_llama loss_qwen >"$scratch/$name.curve"
}

state=checkpoints/step-000012/state.safetensors
train alone 0 encoder.share=llama
[ "$(wc -l <"$scratch/alone.curve")" -eq 12 ] || fail "alone: expected 12 rows of metrics.jsonl"
# Few samples many times: all of it is learned.
train learns 0 encoder.share=llama data.samples=14 train.epochs=20 eval.at_end=false
metrics "$scratch/learns/metrics.jsonl" loss |
    awk 'NR == 1 { first = $1 } END { exit !(NR == 40 && $1 < 0.1 * first) }' ||
    fail "learns: the loss did not fall: $(metrics "$scratch/learns/metrics.jsonl" loss | tr '\n' ' ')"

grep -q '^encoder: llama, the first 2 of 3 layers, .*, bidirectional, .* shared with model llama; .*LoRA of rank 4' \
    "$scratch/alone.out" || fail "alone: the encoder is not described: $(grep ^encoder "$scratch/alone.out")"
read -r planned got < <(sed -n 's/^\(predicted\|allocated\) device memory per rank: \([0-9.]* MiB\).*/\2/p' \
    "$scratch/alone.out" | tr -d ' ' | tr '\n' ' ')
[ "${planned:-none}" = "$got" ] || fail "alone: $planned planned, $got taken"

train np2 2 encoder.share=llama
same_numbers "np2: losses" 1e-5 "$scratch/np2.curve" "$scratch/alone.curve"
train micro 2 encoder.share=llama batch.micro=1
same_numbers "micro: losses" 1e-5 "$scratch/micro.curve" "$scratch/alone.curve"

# Its own copy of the weights, of two layers alone.
mkdir "$scratch/reader"
cp "$tiny"/llama/* "$scratch/reader"
train own 0 encoder.path="$scratch/reader"
same_bytes "weights of its own and of a model" "$scratch/own/$state" "$scratch/alone/$state"
read -r planned got < <(sed -n 's/^\(predicted\|allocated\) device memory per rank: \([0-9.]* MiB\).*/\2/p' \
    "$scratch/own.out" | tr -d ' ' | tr '\n' ' ')
[ "${planned:-none}" = "$got" ] || fail "own: $planned planned, $got taken"

# Without updates there is less to learn; in windows there is less to see.
train frozen 0 encoder.share=llama encoder.lora_rank=0
train windows 0 encoder.share=llama encoder.window=8
for name in frozen windows; do
    cmp -s "$scratch/$name.curve" "$scratch/alone.curve" && fail "$name: the same losses as alone"
done

# The checkpoint, evaluated by two ranks as at the end of training.
mapfile -t job < <(small_job "$scratch/own")
figures() {
    grep -vE '"(wall_s|checkpoint)"' "$1" | sed 's/,$//'
}
if ! ranks 2 "$LWMPI_BIN" eval "${job[@]}" "${llm[@]}" encoder.path="$scratch/reader" --checkpoint "$scratch/own" --json \
    >"$scratch/eval" 2>"$scratch/err"; then
    fail "eval ended with an error: $(cat "$scratch/err")"
fi
diff <(figures "$scratch/eval") <(figures "$scratch/own/eval.json") || fail "eval gives other figures than the end of training"

# Another LLM of the same name is refused.
bytes=$(stat -c %s "$scratch/reader/model.safetensors")
printf '\0\0' | dd of="$scratch/reader/model.safetensors" bs=1 seek=$((bytes - 2)) conv=notrunc status=none
"$LWMPI_BIN" train "${job[@]}" "${llm[@]}" encoder.path="$scratch/reader" train.epochs=2 >"$scratch/out" 2>&1 &&
    fail "continued with another LLM"
grep -q '"encoder": another weights' "$scratch/out" || fail "another LLM: $(tail -3 "$scratch/out")"

# Shapes alone suffice for plan and bench.
mapfile -t job < <(small_job "$scratch/bench")
"$LWMPI_BIN" bench "${job[@]}" "${llm[@]}" encoder.path="$scratch/reader" --steps=2 --source=40 --json >"$scratch/out" \
    2>"$scratch/err" || fail "bench: $(cat "$scratch/err")"
grep -q '"encoder_backward"' "$scratch/out" || fail "bench: $(cat "$scratch/out")"
"$LWMPI_BIN" plan "${job[@]}" "${llm[@]}" encoder.path="$scratch/reader" plan.device=h100-sxm --json >"$scratch/out" \
    2>"$scratch/err" || fail "plan: $(cat "$scratch/err")"
grep -q '"encoder": [1-9]' "$scratch/out" || fail "plan: no memory for the encoder: $(cat "$scratch/out")"
finish
