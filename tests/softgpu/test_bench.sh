#!/usr/bin/env bash
# `lwmpi bench` on a GPU: every figure is there, and memory is what was predicted. Times are the software GPU's own.
. tests/support/shell.sh

number() { # KEY: the first number after it
    sed -n "s/^ *\"$1\": \([-0-9.eE+]*\),\{0,1\}$/\1/p" "$scratch/out" | head -n 1
}

if ! "$LWMPI_BIN" bench "$LWMPI_SOURCE_DIR/configs/tiny.cfg" device=cuda batch.global=2 --answer 4 --source 32 --steps 3 \
    --warmup 1 --json >"$scratch/out" 2>"$scratch/err"; then
    fail "bench: $(cat "$scratch/err")"
    finish
fi
for key in samples_per_s tokens_per_s flop_per_s gemm_flop_per_s mfu weight_bytes copy_bytes_per_s weight_read_share_of_step \
    device_bytes gpu_bytes_used; do
    awk -v value="$(number "$key")" 'BEGIN { exit !(value + 0 > 0) }' || fail "$key is \"$(number "$key")\""
done
[ "$(number device_bytes)" = "$(number device_bytes_predicted)" ] ||
    fail "device memory: $(number device_bytes) bytes, predicted $(number device_bytes_predicted)"
for key in host encoder_forward adapter_forward llm_forward lm_head llm_backward adapter_backward encoder_backward update \
    llama qwen; do
    grep -q "\"$key\": {" "$scratch/out" || fail "no phase $key"
done
finish
