#!/usr/bin/env bash
# The parts of a recipe together: text at 1x and 4x, then questions with a teacher, one model a step in turn, an encoder
# that is a language model with updates, adapters that start at the embeddings. Stopped inside every phase, the run ends
# with the bits of one that was not.
. tests/support/shell.sh

state=checkpoints/step-000013/state.safetensors
sed 's/"context":/"text":/' "$LWMPI_SOURCE_DIR/configs/tiny/train.jsonl" | head -40 >"$scratch/text.jsonl"
text='data = "'$scratch/text.jsonl'"; format = "text"; steps = 4;'
three='phases=( { name = "x1"; '$text' ratio = 1; reconstruct_share = 1.0; },
    { name = "x4"; '$text' reconstruct_share = 0.3; encoder_start = 0.4; },
    { name = "qa"; samples = 30; steps = 5; kd_weight = 0.7; k = 3; latent_dropout = 0.2; warmup = 0.1; } )'

# train NAME [KEY=VALUE...]
train() {
    local name=$1 job
    shift
    mapfile -t job < <(small_job "$scratch/$name")
    if ! "$LWMPI_BIN" train "${job[@]}" encoder.kind=llm encoder.share=llama encoder.layers=2 encoder.causal=false \
        encoder.lora_rank=2 pooler.kind=mean wire.latents=1 wire.ratio=4 adapter.start=embeddings train.schedule=alternate \
        data.window_bytes=48 data.target_tokens=12 checkpoint.every_steps=0 checkpoint.trial=false eval.at_end=false \
        "$three" "$@" >"$scratch/$name.out" 2>&1; then
        fail "$name: the run ended with an error"
        tail -n 15 "$scratch/$name.out"
        finish
    fi
    metrics "$scratch/$name/metrics.jsonl" step phase model samples loss kd_loss_llama kd_loss_qwen grad_norm lr_encoder \
        lr_adapter latent_cosine >"$scratch/$name.curve"
}

train whole
cut -d' ' -f2 "$scratch/whole.curve" | uniq -c | tr -s ' ' | diff - <(printf ' 4 x1\n 4 x4\n 5 qa\n') ||
    fail "whole: the phases are not of 4, 4 and 5 steps"
# A step has the divergence of its own model from its teacher, in the last phase alone.
awk '{ taught = ($6 != "missing") + ($7 != "missing"); if (taught != ($2 == "qa")) { print; bad = 1 } } END { exit bad }' \
    "$scratch/whole.curve" || fail "whole: a teacher is not where it should be"
grep -q '^adapters fitted' "$scratch/whole.out" || fail "whole: the adapters were not fitted"

for stop in 2 6 10 13; do
    train stopped train.max_steps=$stop
    [ "$(wc -l <"$scratch/stopped.curve")" -eq "$stop" ] || fail "stopped: not at step $stop"
    [ "$stop" -eq 2 ] || grep -q "continuing" "$scratch/stopped.out" || fail "stopped: began anew before step $stop"
done
same_bytes "stopped at steps 2, 6 and 10: state" "$scratch/stopped/$state" "$scratch/whole/$state"
same_bytes "stopped at steps 2, 6 and 10: rows" "$scratch/stopped.curve" "$scratch/whole.curve"
finish
