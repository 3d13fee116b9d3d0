#!/usr/bin/env bash
# The software GPU catches what it exists to catch: each way of misuse ends the program with a message that names it.
. tests/support/shell.sh

# caught NAME REGEX: the program is ended, with these words.
caught() {
    local out code=0
    known=$((known + 1))
    out=$("$LWMPI_BINARY_DIR/tests/softgpu/softgpu_misuse" "$1" 2>&1) || code=$?
    if [ "$code" -eq 0 ]; then
        fail "$1 was not caught: $out"
    elif ! grep -qE -- "$2" <<<"$out"; then
        fail "$1 (exit code $code): no /$2/ in: $out"
    fi
}

known=0
ulimit -c 0
caught host_read 'host code touched device memory at .*12 bytes inside an allocation of 40 bytes'
caught host_write 'host code touched device memory at .* inside an allocation of 40 bytes'
caught far_read 'kernel read_at, block \(0,0,0\), thread \(0,0,0\): touched .* behind an allocation of 40 bytes'
caught after_free 'write_at: argument 0 .* a freed allocation'
caught null_pointer 'kernel write_at.*: touched \(nil\)|store to null pointer'
caught host_argument 'write_at: argument 0 .* host memory that is not pinned'
caught host_in_struct 'through_struct: argument 0 .* host memory that is not pinned'
caught other_device 'argument 0 .* memory of device 0, while device 1 is current'
caught copy_overrun 'copy from of 80 bytes .* an allocation of 40 bytes'
caught fill_overrun 'fill of 44 bytes .* an allocation of 40 bytes'
caught pinned_overrun 'copy to of 80 bytes .* 40 bytes of pinned memory'
caught misaligned_product 'A at .* is not aligned to the 256 bytes'
caught other_algorithm 'chosen for another problem'
caught half_barrier 'not all threads of the block reach: .* at the barrier of misuse\.cpp:'
caught early_end '(ended without the barrier|not all threads of the block reach).*barrier of misuse\.cpp:'
caught two_barriers 'meet at different barriers: .*misuse\.cpp:'
caught missing_lane 'the kernel hangs: .*warp call of misuse\.cpp:.* for lanes ffffffff, from thread 7 at the barrier'
caught ended_lane 'lane [0-9]+ reads lane [0-9]+, which takes no part'
caught outside_mask 'lane [0-9]+ reads lane 20, which takes no part \(mask 0000ffff\)'
caught not_in_mask '__syncwarp with a mask \(0000fffe\) without itself'
caught different_calls 'wait for each other in different calls'
caught shared_overrun 'kernel shared_overrun.*: touched'
caught deep_stack 'kernel deep.*: touched|stack-overflow'
if [ "${LWMPI_SANITIZED:-0}" = 1 ]; then
    caught near_write 'use-after-poison'
    caught near_write_before 'use-after-poison'
else
    caught near_write 'wrote at .*, 4 bytes behind an allocation of 40 bytes'
    caught near_write_before 'wrote at .*, 4 bytes before an allocation of 40 bytes'
    SOFTGPU_CHECK=1 caught near_write '^softgpu: write_at wrote at'
    known=$((known - 1))
fi
all=$("$LWMPI_BINARY_DIR/tests/softgpu/softgpu_misuse" | wc -l)
[ "$known" -eq "$all" ] || fail "$all ways of misuse, $known tried"

# A race shows in another order of blocks and threads; without one, the order does not matter.
self=$LWMPI_BINARY_DIR/tests/softgpu/test_softgpu_self
for order in 0 1 2 3; do
    SOFTGPU_ORDER=$order "$self" >"$scratch/$order" || fail "order $order: $(cat "$scratch/$order")"
done
SOFTGPU_ORDER=2 "$self" | cmp - "$scratch/2" || fail "the same order twice gives other results"
[ "$(sort -u "$scratch"/[0-3] | grep -c '^race: ')" -ge 3 ] || fail "the race does not show: $(sort -u "$scratch"/[0-3])"

# Thread-local variables of the program are overwritten before each block (include/cuda_runtime.h): only those of kernels
# may be there.
if command -v readelf >/dev/null; then
    others=$(readelf -sW "$LWMPI_BINARY_DIR/tests/softgpu/lwmpi" |
        awk '$4 == "TLS" && $7 != "UND" && $8 !~ /^_ZZ/ { print $8 }' | sort -u)
    [ -z "$others" ] || fail "thread-local variables outside of kernels: $others"
fi
finish
