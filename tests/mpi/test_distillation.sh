#!/usr/bin/env bash
# Training with distillation: the same states and losses at any number of ranks; a teacher that is killed or stopped goes
# on where it was; it runs once; a resumed run ends with the bits of an undisturbed one.
. tests/support/shell.sh

curve=(step loss loss_llama loss_qwen kd_loss_llama kd_loss_qwen)
kd=(loss.kd_weight=0.8 loss.kd_tau=1.5 loss.k=3 eval.at_end=false)

# start NAME RANKS [KEY=VALUE...]: a run in $scratch/NAME in the background; $job is its process.
start() {
    local name=$1 n=$2
    shift 2
    start_job "$name" "$n" "${kd[@]}" "$@"
}

train() {
    start "$@"
    ended "$1" 0
    metrics "$scratch/$1/metrics.jsonl" "${curve[@]}" >"$scratch/$1.curve"
}

# made NAME: samples that the teachers of the run's last start processed, both models together.
made() {
    sed -n 's/.*"samples_made": \([0-9]*\),.*/\1/p' "$scratch/$1/summary.json"
}

# same_states NAME_A NAME_B
same_states() {
    local file count=0
    for file in "$scratch/$1"/cache/teacher-*.bin; do
        same_bytes "$1 and $2: states" "$file" "$scratch/$2/cache/${file##*/}"
        count=$((count + 1))
    done
    [ "$count" -eq 2 ] || fail "$1: $count files of states, expected one for each model"
}

# --- ranks

train alone 0
[ "$(made alone)" = 160 ] || fail "alone: $(made alone) samples made, expected 80 for each model"
[ "$(wc -l <"$scratch/alone.curve")" -eq 12 ] || fail "alone: expected 12 rows of metrics.jsonl"
for n in 2 4; do
    train "np$n" "$n"
    same_states "np$n" alone
    same_numbers "np$n: losses" 1e-5 "$scratch/np$n.curve" "$scratch/alone.curve"
done

# --- once: another run on the same states, and what changes them

train again 0 loss.kd_cache="$scratch/alone/cache" train.epochs=2
[ "$(made again)" = 0 ] || fail "again: $(made again) samples made, all were there"
grep -q 'teacher of llama: .* all there, checked in' "$scratch/again/log.txt" || fail "again: the log says otherwise"
train k 0 loss.kd_cache="$scratch/alone/cache" loss.k=4
[ "$(made k)" = 160 ] || fail "another loss.k: $(made k) samples made"
train fewer 0 loss.kd_cache="$scratch/alone/cache" data.samples=79
[ "$(made fewer)" = 158 ] || fail "other data: $(made fewer) samples made"
train template 0 loss.kd_cache="$scratch/alone/cache" prompt.anchor=": "
[ "$(made template)" = 160 ] || fail "another prompt: $(made template) samples made"

# One number of a model's weights: its teacher is another, the other model's the same.
tiny=$LWMPI_SOURCE_DIR/configs/tiny
cp -r "$tiny/llama" "$scratch/llama"
weights=$scratch/llama/model.safetensors
for byte in '\x11' '\x22'; do
    printf '%b' "$byte" | dd of="$weights" bs=1 seek=$(($(stat -c %s "$weights") - 3)) conv=notrunc status=none
    cmp -s "$weights" "$tiny/llama/model.safetensors" || break
done
train model 0 loss.kd_cache="$scratch/alone/cache" \
    "models=({name=\"llama\";path=\"$scratch/llama\";},{name=\"qwen\";path=\"$tiny/qwen\";})"
[ "$(made model)" = 80 ] || fail "another weight of one model: $(made model) samples made, expected its 80"

# --- killed and stopped while the states are made

many=(data.samples=1200 train.max_steps=2)
train whole 0 "${many[@]}"

# under_way NAME: waits until some chunks of the first model are there.
under_way() {
    local deadline=$((SECONDS + 60))
    until [ "$(cat "$scratch/$1"/cache/teacher-*.bin 2>/dev/null | tr -d '\0' | grep -aoc LWCHUNK)" -gt 0 ]; do
        if [ "$SECONDS" -ge "$deadline" ] || ! kill -0 "$job" 2>/dev/null; then
            fail "$1: no states were made"
            tail -n 15 "$scratch/$1.out"
            finish
        fi
    done
}

# goes_on NAME: not from the beginning, and to the same end.
goes_on() {
    train "$1" 0 "${many[@]}"
    local samples
    samples=$(made "$1")
    if [ "$samples" -gt 0 ] && [ "$samples" -lt 2400 ]; then
        echo "ok: $1: $samples of 2400 samples were left to make"
    else
        fail "$1: $samples of 2400 samples made after it was cut short"
    fi
    same_states "$1" whole
    same_bytes "$1: losses" "$scratch/$1.curve" "$scratch/whole.curve"
}

start killed 0 "${many[@]}"
under_way killed
kill -KILL "$job"
ended killed 137
[ ! -f "$scratch/killed/config.cfg" ] || fail "killed: there is a config.cfg, but no step was made"
goes_on killed

start stopped 0 "${many[@]}"
under_way stopped
kill -TERM "$job"
ended stopped 75
grep -q 'stopped by SIGTERM while the teacher' "$scratch/stopped/log.txt" || fail "stopped: the log does not say so"
goes_on stopped

# --- a resumed run

train straight 0 train.epochs=2
start resumed 0 train.epochs=2
deadline=$((SECONDS + 60))
until [ -f "$scratch/resumed/metrics.jsonl" ] && [ "$(wc -l <"$scratch/resumed/metrics.jsonl")" -ge 5 ]; do
    [ "$SECONDS" -lt "$deadline" ] && kill -0 "$job" 2>/dev/null || break
done
kill -USR1 "$job"
ended resumed 75
train resumed 0 train.epochs=2
[ "$(made resumed)" = 0 ] || fail "resumed: $(made resumed) samples made, all were there"
same_bytes "resumed: losses" "$scratch/resumed.curve" "$scratch/straight.curve"
same_bytes "resumed: checkpoint" "$scratch/resumed/checkpoints/step-000023/state.safetensors" \
    "$scratch/straight/checkpoints/step-000023/state.safetensors"
finish
