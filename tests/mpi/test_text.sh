#!/usr/bin/env bash
# Training on plain text: the loss falls on both tasks, the curve is the same at any number of ranks and micro-batches,
# a run that goes on from a checkpoint ends with the bits of one that was not stopped, and evaluation scores without
# generating.
. tests/support/shell.sh

curve=(step epoch samples loss loss_llama loss_qwen lr skipped)
sed 's/"context":/"text":/' "$LWMPI_SOURCE_DIR/configs/tiny/train.jsonl" | head -60 >"$scratch/train.jsonl"
sed 's/"context":/"text":/' "$LWMPI_SOURCE_DIR/configs/tiny/eval.jsonl" | head -20 >"$scratch/eval.jsonl"

# job FOLDER: arguments of a run on windows of text.
job() {
    small_job "$1"
    printf '%s\n' data.format=text data.train="$scratch/train.jsonl" data.eval="$scratch/eval.jsonl" \
        data.window_bytes=48 data.target_tokens=12 loss.reconstruct_share=0.4
}

# train NAME RANKS [KEY=VALUE...]: a run in $scratch/NAME, and its curve in $scratch/NAME.curve
train() {
    local name=$1 n=$2 words
    shift 2
    mapfile -t words < <(job "$scratch/$name")
    if ! ranks "$n" "$LWMPI_BIN" train "${words[@]}" "$@" >"$scratch/$name.out" 2>&1; then
        fail "$name: the run ended with an error"
        cat "$scratch/$name.out"
        finish
    fi
    metrics "$scratch/$name/metrics.jsonl" "${curve[@]}" >"$scratch/$name.curve"
}

train alone 0
metrics "$scratch/alone/metrics.jsonl" loss |
    awk 'NR == 1 { first = $1 } END { exit !($1 < 0.95 * first) }' || fail "alone: the loss did not fall"
state=checkpoints/step-000012/state.safetensors
for name in task.llama task.qwen; do
    grep -qa "\"param/$name\"" "$scratch/alone/$state" || fail "no $name in the checkpoint"
done

train np2 2
same_numbers "2 ranks: losses" 1e-5 "$scratch/np2.curve" "$scratch/alone.curve"
train micro 2 batch.micro=1
same_numbers "micro-batches of 1: losses" 1e-5 "$scratch/micro.curve" "$scratch/alone.curve"

# From the checkpoint of step 8 on.
cp -r "$scratch/alone" "$scratch/resumed"
rm -rf "$scratch/resumed/checkpoints/step-000012"
echo step-000008 >"$scratch/resumed/latest"
train resumed 0
same_bytes "resumed at step 8: state" "$scratch/resumed/$state" "$scratch/alone/$state"
same_bytes "resumed at step 8: losses" "$scratch/resumed.curve" "$scratch/alone.curve"

# The tasks are told apart: all windows repeated, or all continued, are other runs.
train repeated 0 loss.reconstruct_share=1
train continued 0 loss.reconstruct_share=0
for name in repeated continued; do
    cmp -s "$scratch/$name.curve" "$scratch/alone.curve" && fail "$name: the same losses as with both tasks"
done

# Held-out text: a loss for every input, and no figures of generated answers.
mapfile -t words < <(job "$scratch/alone")
"$LWMPI_BIN" eval "${words[@]}" --checkpoint "$scratch/alone" --json >"$scratch/eval" 2>"$scratch/err" ||
    fail "eval: $(cat "$scratch/err")"
for mode in text latent no_context shuffled truncated; do
    grep -q "\"$mode\"" "$scratch/eval" || fail "eval: no figures of $mode"
done
grep -q '"f1": null' "$scratch/eval" || fail "eval: an F1 of text that was not generated"
grep -q '"nll_per_answer_token": [0-9.]*' "$scratch/eval" || fail "eval: no loss"

# Two runs are compared by loss alone; what is drawn for the intervals is documents, not windows.
"$LWMPI_BIN" eval "${words[@]}" --checkpoint "$scratch/continued" eval.bootstrap=50 --against "$scratch/alone" \
    >"$scratch/against" 2>"$scratch/err" || fail "eval --against: $(cat "$scratch/err")"
windows=$(wc -l <"$scratch/alone/predictions.jsonl")
documents=$(sed 's/#.*//' "$scratch/alone/predictions.jsonl" | sort -u | wc -l)
[ "$documents" -lt "$windows" ] || fail "not several windows of a document"
[ "$(grep -c "$windows samples of $documents documents" "$scratch/against")" -eq 2 ] ||
    fail "eval --against: not $windows windows of $documents documents: $(cat "$scratch/against")"
[ "$(grep -cE '^(llama|qwen) +NLL/token +[0-9.]+ +[0-9.]+ +[-+][0-9.]+ \[.*\] +[0-9.]+$' "$scratch/against")" -eq 2 ] ||
    fail "eval --against: no losses: $(cat "$scratch/against")"
grep -qE '^(llama|qwen) +(EM|F1) ' "$scratch/against" && fail "eval --against: scores of text that was not generated"
"$LWMPI_BIN" eval "${words[@]}" --checkpoint "$scratch/alone" eval.bootstrap=0 --against "$scratch/alone" --json \
    >"$scratch/against" 2>"$scratch/err" || fail "eval --against --json: $(cat "$scratch/err")"
sed -n '/"against"/,$p' "$scratch/against" | grep -q '"f1": null' || fail "eval --against --json: F1 is not null"
finish
