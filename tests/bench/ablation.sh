#!/usr/bin/env bash
# The parts of the recipes, one more or one less at a time: on the embedded pair (configs/tiny-long.cfg, 60,000 samples, two to
# four minutes a run on one core) and on SmolLM2-135M (configs/smollm2-xquad.cfg, about an hour a run on one core). Prints a row
# of Markdown for each run and model: the latents' F1 and NLL per answer token with its 95 % interval, the controls' NLL.
#
#     tests/bench/ablation.sh [NAME ...]            the parts named; all of the embedded pair where none is
#     LWMPI_BIN=build/release/lwmpi  RANKS=1  SEED=1  SCRATCH=/tmp/ablation  MODELS=models (for the parts smollm2*)
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.."
program=${LWMPI_BIN:-$PWD/build/release/lwmpi}
models=${MODELS:-$PWD/models}
seed=${SEED:-1}
scratch=${SCRATCH:-$(mktemp -d)}
mkdir -p "$scratch"
[ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
wanted=" $* "

# run CONFIG NAME WORDS [KEY=VALUE ...]: WORDS say what differs; standard input: phases in place of the configuration's own
run() {
    local config=$1 name=$2 words=$3 folder=$scratch/$2-$seed phases
    shift 3
    [[ $wanted == *" $name "* ]] || { [ "$wanted" = "  " ] && [ "$config" = tiny-long ]; } || return 0
    rm -rf "$folder"
    mkdir "$folder"
    phases=$(cat)
    { awk -v replace="${phases:+1}" '/^phases = \(/ && replace { skip = 1 } !skip { print } /^\);/ { skip = 0 }' \
        "configs/$config.cfg" && printf '%s\n' "$phases"; } >"$folder/run.cfg"
    sed -i "s#\"tiny/#\"$PWD/configs/tiny/#g; s#\"../models/#\"$models/#g" "$folder/run.cfg"
    if ! mpirun -np "${RANKS:-1}" "$program" "$folder/run.cfg" run.dir="$folder/run" threads=1 seed="$seed" eval.every_steps=0 \
        "$@" >"$folder/out" 2>&1; then
        tail -n 5 "$folder/out" >&2
        printf '%s: the run ended with an error\n' "$name" >&2
        return 1
    fi
    jq -r --arg name "$name" --arg words "$words" --arg seed "$seed" --slurpfile summary "$folder/run/summary.json" '
        def short: . * 1000 | round / 1000;
        def nll: .nll_per_answer_token | short;
        .models | to_entries[] | .key as $model | .value | "| " + ([$name, $words, $seed, $model, (.latent.f1 | short),
            "\(.latent | nll) [\(.latent.nll_interval | map(short | tostring) | join(", "))]",
            (.truncated, .shuffled, .no_context | nll), ($summary[0].train_s | round)] | map(tostring) | join(" | ")) + " |"
        ' "$folder/run/eval.json"
}

tiny() { # NAME WORDS [KEY=VALUE ...]
    run tiny-long "$@" train.max_steps=3750
}

text() { # the data of questions, as plain text
    printf '{ name = "%s"; data = "%s/configs/tiny/long-train.json"; format = "text"; window_bytes = 160; %s },\n' \
        "$1" "$PWD" "$2"
}

printf '| part | difference | seed | model | F1 | NLL | truncated | shuffled | no context | training s |\n'
printf '|---|---|---|---|---|---|---|---|---|---|\n'
tiny base "configs/tiny-long.cfg" train.epochs=3 </dev/null
tiny frozen "encoder.lora_rank=0" train.epochs=3 encoder.lora_rank=0 </dev/null
tiny causal "encoder.causal=true" train.epochs=3 encoder.causal=true </dev/null
tiny queries "4 learned queries in place of means" train.epochs=3 pooler.kind=queries wire.ratio=0 wire.latents=4 </dev/null
tiny unscaled "adapter.embedding_scale=false" train.epochs=3 adapter.embedding_scale=false </dev/null
tiny start "adapter.start=embeddings" train.epochs=3 adapter.start=embeddings </dev/null
tiny rates "encoder_lr=1e-3 adapter_lr=3e-3" train.epochs=3 train.encoder_lr=1e-3 train.adapter_lr=3e-3 </dev/null
tiny warmup "encoder_start=0.1" train.epochs=3 train.encoder_start=0.1 </dev/null
tiny dropout "latent_dropout=0.05" train.epochs=3 train.latent_dropout=0.05 </dev/null
tiny teacher "kd_weight=0.5 k=4" train.epochs=3 loss.kd_weight=0.5 loss.k=4 </dev/null
tiny curriculum "ratio 3, 5, then 10; as many samples in all" <<'C'
phases = ( { name = "x3"; ratio = 3; steps = 750; }, { name = "x5"; ratio = 5; steps = 750; },
           { name = "x10"; epochs = 3; } );
C
tiny curriculum_start "the same, adapter.start=embeddings" adapter.start=embeddings <<'C'
phases = ( { name = "x3"; ratio = 3; steps = 750; }, { name = "x5"; ratio = 5; steps = 750; },
           { name = "x10"; epochs = 3; } );
C
tiny text "750 steps of text first, 20 % repeated" <<C
phases = ( $(text text "steps = 750;") { name = "qa"; epochs = 3; } );
C
run smollm2-xquad smollm2 "configs/smollm2-xquad.cfg" </dev/null
rates=(phases.qa.encoder_lr=2e-4 phases.qa.adapter_lr=1e-4)
run smollm2-xquad smollm2_rates "questions at the rates of the text" "${rates[@]}" </dev/null
longer=("${rates[@]}" phases.qa.epochs=3 phases.qa.first_weight=1.0)
run smollm2-xquad smollm2_epochs "the same, 3 epochs, first token twice" "${longer[@]}" </dev/null
run smollm2-xquad smollm2_teacher "the same, kd_weight=0.5 k=8" "${longer[@]}" phases.qa.kd_weight=0.5 loss.k=8 </dev/null
questions='{ name = "qa"; epochs = 3; first_weight = 1.0; }'
window='data = "../models/xquad/train.json"; format = "text"; target_tokens = 40;'
short="phases = (
  { name = \"x1\"; $window window_bytes = 160; reconstruct_share = 1.0; ratio = 1; steps = 16; warmup = 0.3; },
  { name = \"x2\"; $window window_bytes = 160; reconstruct_share = 1.0; ratio = 2; steps = 100; },
  { name = \"x4\"; $window window_bytes = 240; reconstruct_share = 0.8; steps = 200; },
  $questions
);"
run smollm2-xquad smollm2_short "316 steps of text in place of 650, 3 epochs, first token twice" <<<"$short"
run smollm2-xquad smollm2_start "the same, adapter.start=random" adapter.start=random <<<"$short"
run smollm2-xquad smollm2_frozen "the same, encoder.lora_rank=0" encoder.lora_rank=0 <<<"$short"
run smollm2-xquad smollm2_text "the same, no text phase" <<<"phases = ( $questions );"
run smollm2-xquad smollm2_curriculum "316 steps of text, all at 4x" \
    <<<"phases = ( { name = \"x4\"; $window window_bytes = 240; reconstruct_share = 0.8; steps = 316; }, $questions );"
