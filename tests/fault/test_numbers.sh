#!/usr/bin/env bash
# Numbers that go wrong (not finite, collapsed), and the held-out loss that tells whether training still helps.
. tests/support/shell.sh

steps=12 # 80 samples, 1 epoch, steps of 7

# job NAME RANKS CODE [KEY=VALUE...]: a run in $scratch/NAME that has to end so.
job() {
    local name=$1 n=$2 code=$3 got=0 words
    shift 3
    mapfile -t words < <(small_job "$scratch/$name")
    ranks "$n" "$LWMPI_BIN" train "${words[@]}" eval.at_end=false "$@" >"$scratch/$name.out" 2>&1 || got=$?
    if [ "$got" -ne "$code" ]; then
        fail "$name: exit code $got, expected $code"
        tail -n 15 "$scratch/$name.out"
    fi
}

# says NAME REGEX, keeps_quiet NAME REGEX: of what was said.
says() {
    grep -qE -- "$2" "$scratch/$1.out" || {
        fail "$1: no message matches /$2/:"
        tail -n 15 "$scratch/$1.out"
    }
}
keeps_quiet() {
    if grep -E -- "$2" "$scratch/$1.out"; then
        fail "$1: a message matches /$2/"
    fi
}

state() {
    printf '%s/%s/checkpoints/step-%06d/state.safetensors' "$scratch" "$1" "$2"
}

# --- gradients that overflow: skipped, counted, told with their samples; then the end, with the checkpoint from before

hot=(train.lr=100 train.weight_decay=10 train.warmup=0 train.epochs=4 train.max_skipped=3 checkpoint.every_steps=2)
for n in 0 2; do
    job "hot$n" "$n" 1 "${hot[@]}"
    says "hot$n" '3 steps in a row had a loss or gradient that is not finite \(train\.max_skipped = 3\)'
    keeps_quiet "hot$n" '[^a-z]-?nan([^a-z]|$)'
    first=$(sed -n 's/.*warning: step \([0-9]*\) skipped, not finite: .*gradient.*/\1/p' "$scratch/hot$n.out" | head -n 1)
    # shellcheck disable=SC2015 # fail comes after either
    [ -n "$first" ] && [ "$first" -gt 2 ] || fail "hot$n: the first skipped step is '$first'"
    kept=$(((first - 1) / 2 * 2)) # the last one before the first skipped step, and no later one
    says "hot$n" "the checkpoint of step $kept is kept"
    [ "$(cat "$scratch/hot$n/latest")" = "$(printf 'step-%06d' "$kept")" ] || fail "hot$n: latest is not step $kept"
    [ "$(find "$scratch/hot$n/checkpoints" -name 'step-*' | sort | tail -n 1)" = "$(dirname "$(state "hot$n" "$kept")")" ] ||
        fail "hot$n: there is a checkpoint after step $kept"
    # All samples of the step, of all ranks, each once.
    ids=$(grep -hE "warning: step $first skipped|samples of step $first:" "$scratch/hot$n/log.txt" |
        grep -oE 'train\.jsonl:[0-9]+' | sort -u | wc -l)
    [ "$ids" -eq 7 ] || fail "hot$n: $ids samples are named for step $first, it has 7"
    metrics "$scratch/hot$n/metrics.jsonl" step grad_norm skipped >"$scratch/hot$n.rows"
    grep -qx "$first null 1" "$scratch/hot$n.rows" || fail "hot$n: no row '$first null 1': $(cat "$scratch/hot$n.rows")"
done
grep -o 'skipped, not finite.*' "$scratch/hot0.out" >"$scratch/hot0.said"
grep -o 'skipped, not finite.*' "$scratch/hot2.out" >"$scratch/hot2.said"
same_bytes "the same samples are named at 1 and 2 ranks" "$scratch/hot0.said" "$scratch/hot2.said"

# Started again it takes up that checkpoint, which verifies, and comes to the same end.
job hot2 2 1 "${hot[@]}"
says hot2 "continuing .*/$(printf 'step-%06d' "$kept"): step $kept of"
says hot2 "the checkpoint of step $kept is kept"

# --- stopped while steps are being skipped: the stop is exact, and the checkpoint from before them stays beside it

mapfile -t words < <(small_job "$scratch/stopped")
"$LWMPI_BIN" train "${words[@]}" eval.at_end=false "${hot[@]}" train.epochs=4000 train.max_skipped=100000 \
    checkpoint.keep=1 >"$scratch/stopped.out" 2>&1 &
pid=$!
until grep -qs 'skipped, not finite' "$scratch/stopped.out" || ! kill -0 "$pid" 2>/dev/null; do
    sleep 0.01
done
kill -TERM "$pid" || fail "stopped: it ended before"
got=0
wait "$pid" || got=$?
[ "$got" -eq 75 ] || fail "stopped: exit code $got, expected 75"
first=$(sed -n 's/.*warning: step \([0-9]*\) skipped, not finite.*/\1/p' "$scratch/stopped.out" | head -n 1)
sound=$(printf 'step-%06d' $(((first - 1) / 2 * 2)))
"$LWMPI_BIN" checkpoint "$scratch/stopped" >"$scratch/stopped.list" || fail "stopped: a checkpoint does not verify"
grep -q "^ *$sound " "$scratch/stopped.list" || fail "stopped: $sound is gone: $(cat "$scratch/stopped.list")"
[ "$(find "$scratch/stopped/checkpoints" -name 'step-*' | wc -l)" -eq 2 ] || fail "stopped: $(cat "$scratch/stopped.list")"

# --- a model whose weights are too large for numbers: no step is any good

mkdir -p "$scratch/models"
cp -r "$LWMPI_SOURCE_DIR/configs/tiny/qwen" "$scratch/models/qwen"
weights=$scratch/models/qwen/model.safetensors
printf '\x0b\x5f\x0b\x5f' | dd of="$weights" bs=1 seek=$(($(stat -c %s "$weights") - 4)) conv=notrunc status=none
job spoilt 0 1 models.qwen.path="$scratch/models/qwen" train.max_skipped=4
says spoilt 'warning: step 1 skipped, not finite: .*; its samples: train\.jsonl:[0-9]+, '
says spoilt '4 steps in a row .*; there is no checkpoint yet: '
keeps_quiet spoilt 'step 5 skipped'
[ -z "$(find "$scratch/spoilt/checkpoints" -name 'step-*' 2>/dev/null)" ] || fail "spoilt: it left a checkpoint"

# --- the held-out loss: the same at any rank count, the figure of lwmpi eval, and no bit of training changes

job plain1 0 0
job held1 0 0 eval.every_steps=5 eval.at_end=true
job plain2 2 0
job held2 2 0 eval.every_steps=5 log.every_steps=100
same_bytes "evaluating changes no parameter, 1 rank" "$(state plain1 $steps)" "$(state held1 $steps)"
same_bytes "evaluating changes no parameter, 2 ranks" "$(state plain2 $steps)" "$(state held2 $steps)"
for n in 1 2; do
    metrics "$scratch/held$n/metrics.jsonl" step eval_nll eval_nll_llama eval_nll_qwen |
        grep -v missing >"$scratch/held$n.rows"
    awk '{ print $1 }' "$scratch/held$n.rows" | diff - <(printf '5\n10\n%d\n' $steps) ||
        fail "held$n: eval_nll is not in the rows of steps 5, 10 and $steps"
done
same_numbers "held-out loss of 1 rank, 2 ranks" 1e-4 "$scratch/held1.rows" "$scratch/held2.rows"
awk '{ d = ($3 + $4) / 2 - $2; exit d * d > 1e-18 }' "$scratch/held1.rows" || fail "eval_nll is not the mean over the LLMs"
# eval.json: the latent mode comes second of each model.
sed -n 's/.*"nll_per_answer_token": \([^,]*\),*/\1/p' "$scratch/held1/eval.json" | awk 'NR % 5 == 2' | tr '\n' ' ' |
    awk '{ print $1, $2 }' >"$scratch/at_end"
tail -n 1 "$scratch/held1.rows" | awk '{ print $3, $4 }' >"$scratch/on_the_way"
same_numbers "the last held-out loss is that of the evaluation at the end" 1e-9 "$scratch/on_the_way" "$scratch/at_end"
job part 2 0 eval.every_steps=5 eval.loss_samples=4
says part 'step 5: held-out loss [0-9.]+ per answer token, on 4 samples'
job none 0 2 eval.every_steps=5 data.eval=\"\"
says none 'eval\.every_steps.* set data\.eval'

# The best is one of the same evaluation: on other samples it starts anew, on the same it stays, however bad the rest.

for name in same other; do
    job "$name" 0 0 eval.every_steps=6 train.max_steps=6
    [ "$(cat "$scratch/$name/best")" = step-000006 ] || fail "$name: best is $(cat "$scratch/$name/best")"
done
worse=(eval.every_steps=6 train.lr=10 run.accept_changes=true)
job same 0 0 "${worse[@]}"
job other 0 0 "${worse[@]}" data.eval_samples=9
[ "$(cat "$scratch/same/best")" = step-000006 ] || fail "same: best is $(cat "$scratch/same/best")"
[ "$(cat "$scratch/other/best")" = step-000012 ] || fail "other: best is $(cat "$scratch/other/best")"

# --- collapse: a wire that was trained to say nothing is told of once, one that learns is not

alarm=(train.epochs=6 train.collapse_steps=15 eval.every_steps=10)
job healthy 2 0 "${alarm[@]}"
keeps_quiet healthy 'warning: (the latents|model)'
job collapsed 2 0 "${alarm[@]}" wire.compress=prompt train.lr=30 train.warmup=0
says collapsed 'warning: the latents of different samples are alike: their mean cosine is (0\.99[0-9]*|1\.0000) at step'
[ "$(grep -c 'the latents of different samples are alike' "$scratch/collapsed.out")" -eq 1 ] ||
    fail "collapsed: the alarm is not told once"
says collapsed 'warning: model (llama|qwen) begins the answer to each of [0-9]+ evaluation samples with the same token'
job only_tokens 0 0 "${alarm[@]}" wire.compress=prompt train.lr=30 train.warmup=0 train.collapse_cosine=0
keeps_quiet only_tokens 'warning: the latents'
says only_tokens 'warning: model (llama|qwen) begins the answer'
job switched_off 0 0 "${alarm[@]}" wire.compress=prompt train.lr=30 train.warmup=0 train.collapse_cosine=0 \
    train.collapse_first=false
keeps_quiet switched_off 'warning: (the latents|model)'
for name in healthy collapsed; do
    metrics "$scratch/$name/metrics.jsonl" latent_cosine >"$scratch/$name.cosines"
    tail -n 1 "$scratch/$name.cosines"
done
finish
