#!/usr/bin/env bash
# The main job on GPUs: the CPU's loss curve to bf16, the same bits at every run, and no loss by a stop and a new start.
. tests/support/shell.sh

state=checkpoints/step-000012/state.safetensors
steps=12
# With distillation: each device makes its own states, of its own type, once for all runs.
kd=(loss.kd_weight=0.5 loss.kd_tau=2 loss.k=2 loss.kd_cache="$scratch/states")
[ "${LWMPI_SANITIZED:-0}" = 1 ] && steps=4 && kd=() # and only the first part

# begin NAME DEVICE [KEY=VALUE...]: two ranks in the background, in $scratch/NAME; $job is the launcher.
begin() {
    local words
    mapfile -t words < <(small_job "$scratch/$1")
    "${launcher[@]}" -np 2 "$LWMPI_BIN" train "${words[@]}" device="$2" train.max_steps=$steps eval.at_end=false \
        comm.backend=$gpu_backend "${kd[@]}" "${@:3}" \
        >"$scratch/$1.out" 2>&1 &
    job=$!
}

# ends NAME CODE
ends() {
    local code=0
    wait "$job" || code=$?
    if [ "$code" -ne "$2" ]; then
        fail "$1: exit code $code, expected $2"
        grep -h '^softgpu: ' "$scratch/$1.out"
        tail -n 20 "$scratch/$1.out"
        finish
    fi
}

train() {
    begin "$@"
    ends "$1" 0
    metrics "$scratch/$1/metrics.jsonl" step loss loss_llama loss_qwen >"$scratch/$1.curve"
    metrics "$scratch/$1/metrics.jsonl" grad_norm >"$scratch/$1.norm"
}

train cpu cpu
train gpu cuda
if [ "$gpu_backend" = auto ]; then
    grep -q '^data plane: NCCL' "$scratch/gpu.out" || fail "the sums do not go through NCCL: $(cat "$scratch/gpu.out")"
fi
[ "$(wc -l <"$scratch/gpu.curve")" -eq $steps ] || fail "gpu: expected $steps rows of metrics.jsonl"
same_numbers "losses on CPU and GPU" 1e-2 "$scratch/cpu.curve" "$scratch/gpu.curve"
same_numbers "gradient norms on CPU and GPU" 5e-2 "$scratch/cpu.norm" "$scratch/gpu.norm"
[ "$steps" -eq 12 ] || finish

# One LLM on each of the two: the same losses but for the order of sums.
train models cuda grid.model=2
grep -q 'grid: 1 x 2 (data x model)' "$scratch/models/log.txt" || fail "models: the log does not name the grid"
same_numbers "losses with an LLM on each GPU" 1e-2 "$scratch/models.curve" "$scratch/gpu.curve"

# Blocks and threads in another order: a race would show in the bits.
SOFTGPU_ORDER=7 train again cuda
same_bytes "two runs: losses" "$scratch/gpu.curve" "$scratch/again.curve"
same_bytes "two runs: state" "$scratch/gpu/$state" "$scratch/again/$state"

# Stopped in the middle by a signal, and started again.
begin stopped cuda
until [ "$(wc -l 2>/dev/null <"$scratch/stopped/metrics.jsonl" || echo 0)" -ge 5 ]; do
    kill -0 "$job" 2>/dev/null || break
    sleep 0.05
done
kill -TERM "$(sed -n 's/.*pid \([0-9]*\),.*/\1/p' "$scratch/stopped/lock")"
ends stopped 75
train stopped cuda
same_bytes "stopped and started again: losses" "$scratch/gpu.curve" "$scratch/stopped.curve"
same_bytes "stopped and started again: state" "$scratch/gpu/$state" "$scratch/stopped/$state"
finish
