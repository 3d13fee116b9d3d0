#!/usr/bin/env bash
# A job whose encoder reads with a frozen BERT: it learns, alike at any number of ranks; its memory is as planned; windows
# change what is read; a checkpoint is continued with the same BERT alone; plan and bench need its shapes alone.
. tests/support/shell.sh

mkdir "$scratch/reader"
cp tests/parity/bert/tiny/{config.json,model*} "$scratch/reader"
cp tests/parity/tokenizer/bert.json "$scratch/reader/tokenizer.json"
bert=(encoder.kind=bert encoder.path="$scratch/reader" encoder.layers=2)

# train NAME RANKS [KEY=VALUE...]: a run in $scratch/NAME, its losses in $scratch/NAME.curve
train() {
    local name=$1 n=$2 job
    shift 2
    mapfile -t job < <(small_job "$scratch/$name")
    if ! ranks "$n" "$LWMPI_BIN" train "${job[@]}" "${bert[@]}" "$@" >"$scratch/$name.out" 2>&1; then
        fail "$name: the run ended with an error"
        cat "$scratch/$name.out"
        finish
    fi
    metrics "$scratch/$name/metrics.jsonl" step samples loss loss_llama loss_qwen >"$scratch/$name.curve"
}

state=checkpoints/step-000012/state.safetensors
train alone 0
[ "$(wc -l <"$scratch/alone.curve")" -eq 12 ] || fail "alone: expected 12 rows of metrics.jsonl"
grep -q '^encoder: bert, the first 2 of 3 layers, width 48, .* windows of 24 positions' "$scratch/alone.out" ||
    fail "alone: the encoder is not described: $(grep ^encoder "$scratch/alone.out")"
read -r planned got < <(sed -n 's/^\(predicted\|allocated\) device memory per rank: \([0-9.]* MiB\).*/\2/p' \
    "$scratch/alone.out" | tr -d ' ' | tr '\n' ' ')
[ -n "$got" ] && [ "$planned" = "$got" ] || fail "alone: $planned planned, $got taken"

# Few samples many times: all of it is learned.
train learns 0 data.samples=14 train.epochs=20 eval.at_end=false
metrics "$scratch/learns/metrics.jsonl" loss |
    awk 'NR == 1 { first = $1 } END { exit !(NR == 40 && $1 < 0.1 * first) }' ||
    fail "learns: the loss did not fall: $(metrics "$scratch/learns/metrics.jsonl" loss | tr '\n' ' ')"

train np2 2
same_numbers "np2: losses" 1e-5 "$scratch/np2.curve" "$scratch/alone.curve"
train micro 2 batch.micro=1
same_numbers "micro: losses" 1e-5 "$scratch/micro.curve" "$scratch/alone.curve"
train windows 0 encoder.window=8
train layers 0 encoder.layers=3
for name in windows layers; do
    cmp -s "$scratch/$name.curve" "$scratch/alone.curve" && fail "$name: the same losses as alone"
done

# Continued from an earlier checkpoint: the same bytes.
cp -r "$scratch/alone" "$scratch/half"
rm -r "$scratch/half/checkpoints/step-000012"
train half 0
grep -q 'step-000008' "$scratch/half.out" || fail "half: not continued: $(head -20 "$scratch/half.out")"
same_bytes "continued" "$scratch/half/$state" "$scratch/alone/$state"

# What does not fit is said.
mapfile -t job < <(small_job "$scratch/bad")
"$LWMPI_BIN" train "${job[@]}" "${bert[@]}" encoder.window=25 >"$scratch/out" 2>&1 && fail "a window of 25 positions"
grep -q 'encoder.window = 25, but max_position_embeddings' "$scratch/out" || fail "window: $(tail -3 "$scratch/out")"
"$LWMPI_BIN" train "${job[@]}" encoder.kind=bert >"$scratch/out" 2>&1 && fail "a BERT without a path"
grep -q 'needs encoder.path' "$scratch/out" || fail "path: $(tail -3 "$scratch/out")"

# Another BERT of the same shapes is refused: the file's largest tensor, the embedding table, is changed.
mapfile -t job < <(small_job "$scratch/alone")
shard=$scratch/reader/model-00001-of-00002.safetensors
printf '\0\0' | dd of="$shard" bs=1 seek=60000 conv=notrunc status=none
"$LWMPI_BIN" train "${job[@]}" "${bert[@]}" train.epochs=2 >"$scratch/out" 2>&1 && fail "continued with another BERT"
grep -q '"encoder": another weights' "$scratch/out" || fail "another BERT: $(tail -3 "$scratch/out")"

# Shapes alone suffice for plan and bench.
rm "$scratch/reader"/model* "$scratch/reader/tokenizer.json"
mapfile -t job < <(small_job "$scratch/bench")
"$LWMPI_BIN" bench "${job[@]}" "${bert[@]}" --steps=2 --source=40 --json >"$scratch/out" 2>"$scratch/err" ||
    fail "bench: $(cat "$scratch/err")"
grep -q '"encoder_backward"' "$scratch/out" || fail "bench: $(cat "$scratch/out")"
"$LWMPI_BIN" plan "${job[@]}" "${bert[@]}" plan.device=h100-sxm --json >"$scratch/out" 2>"$scratch/err" ||
    fail "plan: $(cat "$scratch/err")"
grep -q '"encoder": [1-9]' "$scratch/out" || fail "plan: no memory for the encoder: $(cat "$scratch/out")"
finish
