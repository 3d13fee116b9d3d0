#!/usr/bin/env bash
# One model a step in turn: whose step it was, its loss alone, the same at any number of ranks and after a stop.
. tests/support/shell.sh

# train NAME RANKS [KEY=VALUE...]
train() {
    local name=$1 n=$2 job
    shift 2
    mapfile -t job < <(small_job "$scratch/$name")
    if ! ranks "$n" "$LWMPI_BIN" train "${job[@]}" checkpoint.every_steps=0 checkpoint.trial=false eval.at_end=false \
        "$@" >"$scratch/$name.out" 2>&1; then
        fail "$name: the run ended with an error"
        tail -n 15 "$scratch/$name.out"
        finish
    fi
    metrics "$scratch/$name/metrics.jsonl" step loss grad_norm lr_encoder lr_adapter >"$scratch/$name.curve"
    metrics "$scratch/$name/metrics.jsonl" model loss loss_llama loss_qwen >"$scratch/$name.models"
}

train all 0 train.max_steps=1
train alone 0 train.schedule=alternate
[ "$(wc -l <"$scratch/alone.curve")" -eq 12 ] || fail "alone: expected 12 rows of metrics.jsonl"
# The loss of a step is that of its model, which alone has one in its row.
awk '{ ok = NR % 2 ? $1 == "llama" && $3 == $2 && $4 == "missing" : $1 == "qwen" && $4 == $2 && $3 == "missing"
       if (!ok) { print; bad = 1 } } END { exit bad }' "$scratch/alone.models" || fail "alone: rows are not as told"
# The first step of the first model sees what a step of all sees.
head -1 "$scratch/alone.models" | cut -d' ' -f3 >"$scratch/a"
cut -d' ' -f3 "$scratch/all.models" >"$scratch/b"
same_numbers "first loss of llama" 1e-6 "$scratch/a" "$scratch/b"
# A row of two steps has the newest loss of both.
train pairs 0 train.schedule=alternate log.every_steps=2
cut -d' ' -f3,4 "$scratch/pairs.models" >"$scratch/a"
awk 'NR % 2 { llama = $3; next } { print llama, $4 }' "$scratch/alone.models" >"$scratch/b"
same_bytes "rows of two steps" "$scratch/a" "$scratch/b"

train np2 2 train.schedule=alternate
same_numbers "2 ranks: curve" 1e-4 "$scratch/np2.curve" "$scratch/alone.curve"
train stopped 0 train.schedule=alternate phases='({name="a";epochs=1;})' train.max_steps=5
train stopped 0 train.schedule=alternate phases='({name="a";epochs=1;})'
same_bytes "stopped: state" "$scratch/stopped/checkpoints/step-000012/state.safetensors" \
    "$scratch/alone/checkpoints/step-000012/state.safetensors"

# A mean step of the plan is less than one of all.
for schedule in all alternate; do
    mapfile -t job < <(small_job "$scratch/plan")
    "$LWMPI_BIN" plan "${job[@]}" train.schedule=$schedule plan.device=h100-sxm --gpus 1 --json 2>"$scratch/err" |
        grep -o '"step_s": [-0-9.e]*' | head -1 | cut -d' ' -f2 >"$scratch/plan.$schedule"
done
paste "$scratch/plan.all" "$scratch/plan.alternate" |
    awk '{ exit !(NF == 2 && $2 < 0.8 * $1 && $2 > 0.3 * $1) }' || fail "plan: $(paste "$scratch"/plan.a*)"
finish
