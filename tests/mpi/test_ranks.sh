#!/usr/bin/env bash
# A job with the same global batch gives the same loss curve to rounding at any number of ranks, micro-batches and
# threads, and the same bits at the same number.
. tests/support/shell.sh

# The norm is a difference of larger numbers, and rounding shows in it more than in the losses.
curve=(step epoch samples loss loss_llama loss_qwen lr skipped)
norm=(grad_norm)

# train NAME RANKS [KEY=VALUE...]: a run in $scratch/NAME, and its curves in $scratch/NAME.curve and NAME.norm
train() {
    local name=$1 n=$2 job
    shift 2
    mapfile -t job < <(small_job "$scratch/$name")
    if ! ranks "$n" "$LWMPI_BIN" train "${job[@]}" "$@" >"$scratch/$name.out" 2>&1; then
        fail "$name: the run ended with an error"
        cat "$scratch/$name.out"
        finish
    fi
    metrics "$scratch/$name/metrics.jsonl" "${curve[@]}" >"$scratch/$name.curve"
    metrics "$scratch/$name/metrics.jsonl" "${norm[@]}" >"$scratch/$name.norm"
}

# as_alone NAME: to rounding.
as_alone() {
    same_numbers "$1: losses" 1e-5 "$scratch/$1.curve" "$scratch/alone.curve"
    same_numbers "$1: gradient norms" 1e-4 "$scratch/$1.norm" "$scratch/alone.norm"
}

# figures FILE: an eval.json without what is measured or named.
figures() {
    grep -vE '"(wall_s|checkpoint)"' "$1"
}

train alone 0
[ "$(wc -l <"$scratch/alone.curve")" -eq 12 ] || fail "alone: expected 12 rows of metrics.jsonl"
[ -f "$scratch/alone/summary.json" ] || fail "alone: no summary.json"
[ "$(metrics "$scratch/alone/metrics.jsonl" samples | tail -1)" = 80 ] || fail "alone: not all 80 samples were seen"
# Learning shows even in 12 steps, so the comparison below is one of parameters that moved.
metrics "$scratch/alone/metrics.jsonl" loss |
    awk 'NR == 1 { first = $1 } END { exit !($1 < 0.95 * first) }' || fail "alone: the loss did not fall"

for n in 1 2 3 4; do
    train "np$n" "$n"
    as_alone "np$n"
done
same_bytes "one rank under the launcher, and alone" "$scratch/np1/checkpoints/step-000012/state.safetensors" \
    "$scratch/alone/checkpoints/step-000012/state.safetensors"

for micro in 1 2; do
    train "micro$micro" 2 batch.micro=$micro
    as_alone "micro$micro"
done

train threads 0 threads=2
as_alone threads

train again3 3
same_bytes "3 ranks twice: checkpoint" "$scratch/np3/checkpoints/step-000012/state.safetensors" \
    "$scratch/again3/checkpoints/step-000012/state.safetensors"
same_bytes "3 ranks twice: losses" "$scratch/np3.curve" "$scratch/again3.curve"
same_bytes "3 ranks twice: gradient norms" "$scratch/np3.norm" "$scratch/again3.norm"
figures "$scratch/np3/eval.json" >"$scratch/a"
figures "$scratch/again3/eval.json" >"$scratch/b"
same_bytes "3 ranks twice: eval.json" "$scratch/a" "$scratch/b"

# Epochs of a few samples: where one ends in the middle of a pass, the longest sample can be in it twice, or more often.
head -n 3 configs/tiny/train.jsonl >"$scratch/few.jsonl"
printf '{"context": "%s", "question": "Which letter?", "answers": ["a b c d e f g"]}\n' "$(printf 'a long text %.0s' {1..30})" \
    >>"$scratch/few.jsonl"
for global in 3 10; do
    few=(data.train="$scratch/few.jsonl" data.samples=4 train.epochs=30 batch.global=$global eval.at_end=false)
    train "few$global" 0 "${few[@]}"
    train "few$global-micro" 0 "${few[@]}" batch.micro=1
    same_numbers "few$global: losses" 1e-3 "$scratch/few$global.curve" "$scratch/few$global-micro.curve"
done

# One checkpoint, evaluated by any number of ranks: the same bits, and those of the end of training.
for n in 0 1 2 4; do
    mapfile -t job < <(small_job "$scratch/np3")
    if ! ranks "$n" "$LWMPI_BIN" eval "${job[@]}" --checkpoint "$scratch/np3" --json >"$scratch/eval$n" 2>"$scratch/err"
    then
        fail "eval at $n ranks ended with an error"
        cat "$scratch/err"
    fi
    figures "$scratch/eval$n" >"$scratch/b"
    if ! diff <(sed 's/,$//' "$scratch/a") <(sed 's/,$//' "$scratch/b"); then
        fail "eval at $n ranks gives other figures than the end of training at 3"
    fi
done
finish
