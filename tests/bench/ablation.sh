#!/usr/bin/env bash
# The parts of the recipe on the embedded pair (configs/tiny-long.cfg, 60,000 samples): one part more or one less at a time.
# Prints a row of Markdown for each run, about two minutes on one core each.
#
#     tests/bench/ablation.sh [NAME ...]      all, or those named
#     LWMPI_BIN=build/release/lwmpi  RANKS=1  SEED=1  SCRATCH=/tmp/ablation
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.."
program=${LWMPI_BIN:-$PWD/build/release/lwmpi}
seed=${SEED:-1}
scratch=${SCRATCH:-$(mktemp -d)}
mkdir -p "$scratch"
[ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
wanted=" $* "

# run NAME WORDS [KEY=VALUE ...]: WORDS say what differs; standard input: phases for the end of the configuration
run() {
    local name=$1 words=$2 folder=$scratch/$1-$seed
    shift 2
    [ "$wanted" = "  " ] || [[ $wanted == *" $name "* ]] || return 0
    rm -rf "$folder"
    mkdir "$folder"
    { cat configs/tiny-long.cfg && cat; } >"$folder/run.cfg"
    sed -i "s#\"tiny/#\"$PWD/configs/tiny/#g" "$folder/run.cfg"
    if ! mpirun -np "${RANKS:-1}" "$program" "$folder/run.cfg" run.dir="$folder/run" threads=1 seed="$seed" train.max_steps=3750 \
        eval.every_steps=0 "$@" >"$folder/out" 2>&1; then
        tail -n 5 "$folder/out" >&2
        printf '%s: the run ended with an error\n' "$name" >&2
        return 1
    fi
    jq -r --arg name "$name" --arg words "$words" --arg seed "$seed" '[$name, $words, $seed,
        (.f1_latent_llama, .f1_latent_qwen, .f1_shuffled_llama, .f1_shuffled_qwen | . * 1000 | round / 1000),
        (.train_s | round)] | "| " + (map(tostring) | join(" | ")) + " |"' "$folder/run/summary.json"
}

text() { # the data of questions, as plain text
    printf '{ name = "%s"; data = "%s/configs/tiny/long-train.json"; format = "text"; window_bytes = 160; %s },\n' \
        "$1" "$PWD" "$2"
}

printf '| part | difference | seed | llama | qwen | shuffled llama | shuffled qwen | training s |\n'
printf '|---|---|---|---|---|---|---|---|\n'
run base "configs/tiny-long.cfg" train.epochs=3 </dev/null
run frozen "encoder.lora_rank=0" train.epochs=3 encoder.lora_rank=0 </dev/null
run causal "encoder.causal=true" train.epochs=3 encoder.causal=true </dev/null
run queries "4 learned queries in place of means" train.epochs=3 pooler.kind=queries wire.ratio=0 wire.latents=4 </dev/null
run unscaled "adapter.embedding_scale=false" train.epochs=3 adapter.embedding_scale=false </dev/null
run start "adapter.start=embeddings" train.epochs=3 adapter.start=embeddings </dev/null
run rates "encoder_lr=1e-3 adapter_lr=3e-3" train.epochs=3 train.encoder_lr=1e-3 train.adapter_lr=3e-3 </dev/null
run warmup "encoder_start=0.1" train.epochs=3 train.encoder_start=0.1 </dev/null
run dropout "latent_dropout=0.05" train.epochs=3 train.latent_dropout=0.05 </dev/null
run teacher "kd_weight=0.5 k=4" train.epochs=3 loss.kd_weight=0.5 loss.k=4 </dev/null
run curriculum "ratio 3, 5, then 10; as many samples in all" <<'C'
phases = ( { name = "x3"; ratio = 3; steps = 750; }, { name = "x5"; ratio = 5; steps = 750; },
           { name = "x10"; epochs = 3; } );
C
run curriculum_start "the same, adapter.start=embeddings" adapter.start=embeddings <<'C'
phases = ( { name = "x3"; ratio = 3; steps = 750; }, { name = "x5"; ratio = 5; steps = 750; },
           { name = "x10"; epochs = 3; } );
C
run text "750 steps of text first, 20 % repeated" <<C
phases = ( $(text text "steps = 750;") { name = "qa"; epochs = 3; } );
C
