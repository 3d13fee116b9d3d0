#!/usr/bin/env bash
# adapter.start = "embeddings": soft tokens start near the embeddings of what they stand for, at any number of ranks alike;
# a run that is continued is not fitted again; learned queries are refused.
. tests/support/shell.sh

# train NAME RANKS [KEY=VALUE...]: a run in $scratch/NAME, its losses in $scratch/NAME.curve
train() {
    local name=$1 n=$2
    shift 2
    if ! ranks "$n" "$LWMPI_BIN" train configs/tiny-long.cfg run.dir="$scratch/$name" device=cpu threads=1 \
        adapter.start=embeddings wire.ratio=2 wire.d_z=256 encoder.layers=1 encoder.causal=true data.samples=400 train.epochs=1 train.max_steps=6 batch.global=8 \
        log.every_steps=1 checkpoint.every_steps=3 eval.every_steps=0 eval.at_end=false \
        "$@" >"$scratch/$name.out" 2>&1; then
        fail "$name: the run ended with an error"
        cat "$scratch/$name.out"
        finish
    fi
    metrics "$scratch/$name/metrics.jsonl" step samples loss loss_llama loss_qwen >"$scratch/$name.curve"
    sed -n 's/^adapters fitted.* llama \([0-9]*\) %, qwen \([0-9]*\) %$/\1 \2/p' "$scratch/$name.out" >"$scratch/$name.fit"
}

train alone 0
train np2 2
train np3 3
train random 0 adapter.start=random
for name in np2 np3; do
    # The first loss alone: the rounding of the sums grows from there, by Adam's steps of one size.
    same_numbers "$name: first losses" 1e-3 <(head -1 "$scratch/$name.curve") <(head -1 "$scratch/alone.curve")
    cmp -s "$scratch/$name.fit" "$scratch/alone.fit" || fail "$name: another fit: $(cat "$scratch/$name.fit")"
done
read -r llama qwen <"$scratch/alone.fit" || fail "nothing is said of the fit: $(cat "$scratch/alone.out")"
# Of the encoder's own model (llama) most is explained; the other's tokens are others, of the same words.
[ "${llama:-0}" -ge 70 ] && [ "${qwen:-0}" -ge 65 ] || fail "the fit explains $llama % and $qwen %"
[ -s "$scratch/random.fit" ] && fail "fitted without being asked"

# Latents for each token: what a model reads is near to its own text from the first step on.
train near 0 wire.ratio=1 train.max_steps=1
train far 0 wire.ratio=1 train.max_steps=1 adapter.start=random
near=$(metrics "$scratch/near/metrics.jsonl" loss_llama)
far=$(metrics "$scratch/far/metrics.jsonl" loss_llama)
awk -v near="$near" -v far="$far" 'BEGIN { exit !(near < 0.5 * far) }' ||
    fail "the first loss of llama is $near after the fit, $far without"

# Continued from an earlier checkpoint: the same bytes, and no second fit.
cp -r "$scratch/alone" "$scratch/half"
rm -r "$scratch/half/checkpoints/step-000006"
train half 0
[ -s "$scratch/half.fit" ] && fail "half: fitted again"
same_bytes "continued" "$scratch/half/checkpoints/step-000006/state.safetensors" \
    "$scratch/alone/checkpoints/step-000006/state.safetensors"

"$LWMPI_BIN" train configs/tiny.cfg run.dir="$scratch/bad" adapter.start=embeddings >"$scratch/out" 2>&1 &&
    fail "learned queries were taken"
grep -q 'adapter.start = "embeddings", but learned queries' "$scratch/out" || fail "queries: $(tail -3 "$scratch/out")"
finish
