#!/usr/bin/env bash
# A run through two phases: the same at any number of ranks, and the same bits when it is stopped in either phase or
# between them and goes on.
. tests/support/shell.sh

steps=15 # 30 samples twice in steps of 7, then six steps on 50 samples
curve=(step epoch samples loss loss_llama loss_qwen lr lr_encoder lr_adapter skipped)
two='phases=( { name = "first"; samples = 30; epochs = 2; lr = 3e-3; },
    { name = "second"; samples = 50; steps = 6; lr = 1e-3; encoder_lr = 2e-3; warmup = 0.1; encoder_start = 0.4;
      latent_dropout = 0.3; nested_from = 2; } )'

# train NAME RANKS CODE [KEY=VALUE...]
train() {
    local name=$1 n=$2 code=$3 job got=0
    shift 3
    mapfile -t job < <(small_job "$scratch/$name")
    ranks "$n" "$LWMPI_BIN" train "${job[@]}" checkpoint.every_steps=0 checkpoint.trial=false eval.at_end=false \
        "$two" "$@" >"$scratch/$name.out" 2>&1 || got=$?
    if [ "$got" -ne "$code" ]; then
        fail "$name: exit code $got, expected $code"
        tail -n 15 "$scratch/$name.out"
        finish
    fi
    [ ! -f "$scratch/$name/metrics.jsonl" ] ||
        metrics "$scratch/$name/metrics.jsonl" "${curve[@]}" >"$scratch/$name.curve"
}

# says NAME REGEX
says() {
    grep -qE -- "$2" "$scratch/$1.out" || {
        fail "$1: no message matches /$2/:"
        tail -n 15 "$scratch/$1.out"
    }
}

# untimed NAME: every row without its times and what follows from them.
untimed() {
    sed -E 's/"(samples_per_s|tokens_per_s|step_s|mfu|checkpoint_stall_s)": [^,}]*[,}] ?//g' \
        "$scratch/$1/metrics.jsonl" >"$scratch/$1.rows"
}

# same NAME REFERENCE: parameters, moments and rows, bit for bit.
same() {
    local state
    state=checkpoints/$(printf 'step-%06d' "$steps")/state.safetensors
    same_bytes "$1: state" "$scratch/$1/$state" "$scratch/$2/$state"
    untimed "$1"
    untimed "$2"
    same_bytes "$1: rows" "$scratch/$1.rows" "$scratch/$2.rows"
}

train alone 0 0
[ "$(wc -l <"$scratch/alone.curve")" -eq "$steps" ] || fail "alone: expected $steps rows of metrics.jsonl"
grep -o '"phase": "[a-z]*"' "$scratch/alone/metrics.jsonl" | uniq -c | tr -s ' ' | diff - <(
    echo ' 9 "phase": "first"'
    echo ' 6 "phase": "second"'
) || fail "alone: the phases' rows are not 9 and 6"
# Samples and epochs begin anew with a phase; so does the rate; the encoder waits for 3 of the 6 steps.
metrics "$scratch/alone/metrics.jsonl" step epoch samples lr_encoder lr_adapter | sed -n '9,10p;12,13p' |
    awk '{ printf "%s %s %s %s %s\n", $1, $2, $3, ($4 > 0), ($5 > 0.0005) }' |
    diff - <(printf '9 2 60 1 0\n10 0 67 0 1\n12 0 81 0 1\n13 0 88 1 1\n') || fail "alone: the phases are not as told"
says alone 'phase second: steps 10 to 15'

train np2 2 0
same_numbers "2 ranks: curve" 1e-5 "$scratch/np2.curve" "$scratch/alone.curve"
train micro 2 0 batch.micro=2
same_numbers "2 ranks, micro-batches: curve" 1e-5 "$scratch/micro.curve" "$scratch/alone.curve"

# In the first phase, where they meet, and in the second: before and after the encoder moves.
for stop in 4 9 11 14; do
    train "stop$stop" 0 0 train.max_steps=$stop
    [ "$(wc -l <"$scratch/stop$stop.curve")" -eq "$stop" ] || fail "stop$stop: train.max_steps did not end the run"
    train "stop$stop" 0 0
    says "stop$stop" "continuing .*: step $stop of $steps"
    same "stop$stop" alone
done
train two 2 0 train.max_steps=9
train two 2 0
same two np2
train two 2 0
says two 'nothing to do'

# What a phase was may not change, but for the end of the last one.
train changed 0 0 train.max_steps=4
train changed 0 2 phases.first.lr=1e-3
says changed 'phases.first.lr: 0.003 before, 0.001 now'
train changed 0 2 phases.first.epochs=3
says changed 'phases.first.epochs: 2 before, 3 now'
train changed 0 2 "phases=()"
says changed 'phases: first, second before, none now'
train changed 0 0 phases.second.steps=7
[ "$(wc -l <"$scratch/changed.curve")" -eq 16 ] || fail "changed: the last phase was not made longer"

train none 0 1 phases.second.data=/nowhere.jsonl
says none 'phase "second"'

# The plan's phases add up.
mapfile -t job < <(small_job "$scratch/plan")
"$LWMPI_BIN" plan "${job[@]}" "$two" grid.model=1 plan.device=h100-sxm --gpus 2 --json >"$scratch/plan.json" 2>"$scratch/err" ||
    fail "plan: $(cat "$scratch/err")"
tr -d ' \n' <"$scratch/plan.json" | grep -o '"phases":\[[^]]*\]' | grep -o '"total_s":[-0-9.e]*' | cut -d: -f2 |
    awk '{ sum += $1 } END { print sum }' >"$scratch/sum"
tr -d ' \n' <"$scratch/plan.json" | sed 's/"phases":\[[^]]*\]//' | grep -o '"total_s":[-0-9.e]*' | head -1 |
    cut -d: -f2 >"$scratch/total"
same_numbers "plan: the phases' times" 1e-6 "$scratch/sum" "$scratch/total"
grep -q '"steps": 15' "$scratch/plan.json" || fail "plan: not 15 steps: $(grep steps "$scratch/plan.json")"
finish
