#!/usr/bin/env bash
# The model axis: ranks with different LLMs. The same losses to rounding on every grid, the same bits twice, half the
# frozen weights on each, checkpoints that go from grid to grid, and an evaluation equal in every answer.
. tests/support/shell.sh

curve=(step samples loss loss_llama loss_qwen lr skipped)

# train NAME RANKS [KEY=VALUE...]: a run in $scratch/NAME, and its curve
train() {
    local name=$1 n=$2
    shift 2
    start_job "$name" "$n" "$@"
    ended "$name" 0
    metrics "$scratch/$name/metrics.jsonl" "${curve[@]}" >"$scratch/$name.curve"
}

# figures NAME: the evaluation without what is measured or named, a number a line, and all answers.
figures() {
    grep -vE '"(wall_s|checkpoint)"' "$scratch/$1/eval.json" | grep -oE -- '-?[0-9]+\.?[0-9]*(e[-+]?[0-9]+)?' >"$scratch/$1.figures"
    grep -oE '"(answer|model|id)": "[^"]*"' "$scratch/$1/predictions.jsonl" >"$scratch/$1.answers"
}

# as_alone NAME: losses, evaluation and answers of the grid against those of one rank.
as_alone() {
    same_numbers "$1: losses" 2e-5 "$scratch/$1.curve" "$scratch/alone.curve"
    figures "$1"
    same_numbers "$1: evaluation" 2e-4 "$scratch/$1.figures" "$scratch/alone.figures"
    same_bytes "$1: answers" "$scratch/$1.answers" "$scratch/alone.answers"
}

# frozen NAME: megabytes of frozen weights of rank 0, as the run has logged them
frozen() {
    sed -n 's/.*per rank: .*frozen weights \([0-9.]*\),.*/\1/p' "$scratch/$1/log.txt"
}

evaluates=(eval.joint=true eval.quantise=true)
train alone 0 "${evaluates[@]}"
[ "$(wc -l <"$scratch/alone.curve")" -eq 12 ] || fail "alone: expected 12 rows of metrics.jsonl"
figures alone
[ "$(grep -c '"model"' "$scratch/alone.answers")" -eq 10 ] || fail "alone: no joint choice for each sample"
for grid in "1x2 2" "2x2 4"; do
    read -r name n <<<"$grid"
    train "$name" "$n" grid.model=2 "${evaluates[@]}"
    as_alone "$name"
    grep -q "grid: ${name/x/ x } (data x model)" "$scratch/$name/log.txt" || fail "$name: the log does not name the grid"
done
awk -v one="$(frozen alone)" -v two="$(frozen 1x2)" 'BEGIN { exit !(two < 0.67 * one && two > 0.3 * one) }' ||
    fail "1x2: $(frozen 1x2) MiB of frozen weights on rank 0, $(frozen alone) alone"
train again 2 grid.model=2 "${evaluates[@]}"
same_bytes "1x2 twice: checkpoint" "$scratch/1x2/checkpoints/step-000012/state.safetensors" \
    "$scratch/again/checkpoints/step-000012/state.safetensors"
same_bytes "1x2 twice: losses" "$scratch/1x2.curve" "$scratch/again.curve"

# --- a checkpoint does not depend on the grid: from 2 x 1 to 1 x 2, to 2 x 2, to one rank
interrupt=(checkpoint.every_steps=1 checkpoint.keep=20)
train moved 2 "${interrupt[@]}"
for start in "3 2 2" "6 4 2" "9 0 1"; do # steps that are kept, ranks, grid.model
    read -r step n model <<<"$start"
    for folder in "$scratch"/moved/checkpoints/step-*; do
        [ "$((10#${folder##*-}))" -le "$step" ] || rm -rf "$folder"
    done
    rm -f "$scratch"/moved/{summary.json,eval.json}
    train moved "$n" grid.model="$model" "${interrupt[@]}" "${evaluates[@]}"
    grep -q "continuing .*: step $step of 12" "$scratch/moved.out" || fail "moved: not continued at step $step"
done
same_numbers "from grid to grid: losses" 2e-5 "$scratch/moved.curve" "$scratch/alone.curve"
figures moved
same_numbers "from grid to grid: evaluation" 5e-4 "$scratch/moved.figures" "$scratch/alone.figures"
start_job moved 2 grid.model=2 "${interrupt[@]}" "${evaluates[@]}"
ended moved 0
grep -q 'nothing to do' "$scratch/moved.out" || fail "a finished run of another grid is not recognised"

# --- eval on a grid
for n in 0 2; do
    words=()
    [ "$n" -eq 0 ] || words=(grid.model=2)
    mapfile -t job < <(small_job "$scratch/alone")
    ranks "$n" "$LWMPI_BIN" eval "${job[@]}" "${evaluates[@]}" "${words[@]}" --json 2>"$scratch/err" |
        grep -vE '"(wall_s|checkpoint)"' | grep -oE -- '-?[0-9]+\.?[0-9]*(e[-+]?[0-9]+)?' >"$scratch/eval$n"
    [ -s "$scratch/eval$n" ] || fail "eval at $n ranks: $(cat "$scratch/err")"
done
same_numbers "eval on a grid" 2e-4 "$scratch/eval2" "$scratch/eval0"
mapfile -t job < <(small_job "$scratch/gates")
ranks 2 "$LWMPI_BIN" eval "${job[@]}" grid.model=2 eval.gate_steps=5 --gates >"$scratch/gates.out" 2>&1
for gate in soft_tokens labels packing training_loss latents; do
    grep -q "^passed  $gate" "$scratch/gates.out" || fail "gate $gate on a grid: $(cat "$scratch/gates.out")"
done

# --- distillation, adapters that start at the embeddings, an encoder with the weights of one of the LLMs
for case in "kd loss.kd_weight=0.8 loss.kd_tau=1.5 loss.k=3" \
    "fit pooler.kind=mean wire.ratio=4 adapter.start=embeddings" \
    "shared encoder.kind=llm encoder.share=llama encoder.lora_rank=2 pooler.kind=mean wire.ratio=4" \
    "shared2 encoder.kind=llm encoder.share=qwen encoder.layers=2"; do
    read -r -a words <<<"$case"
    name=${words[0]}
    train "$name-1" 0 eval.at_end=false "${words[@]:1}"
    for n in 2 4; do
        train "$name-$n" "$n" grid.model=2 eval.at_end=false "${words[@]:1}"
        same_numbers "$name, $n ranks: losses" 5e-5 "$scratch/$name-$n.curve" "$scratch/$name-1.curve"
    done
done

# --- what cannot be
# refused RANKS TEXT KEY=VALUE...
refused() {
    local n=$1 text=$2
    shift 2
    start_job refused "$n" "$@"
    ended refused 2
    grep -qF -- "$text" "$scratch/refused.out" || fail "$*: no \"$text\" in $(cat "$scratch/refused.out")"
}
refused 3 "grid.model = 2 times grid.tensor = 1 does not divide the job's 3 ranks" grid.model=2
refused 2 "grid.model = 3, but there are 2 LLMs in models" grid.model=3
refused 2 'train.schedule = "alternate"' grid.model=2 train.schedule=alternate
finish
