#!/usr/bin/env bash
# Loading a file several times as large as the pinned memory that weights pass through: right to the bit, in bounded memory.
. tests/support/shell.sh

if [ "${LWMPI_SANITIZED:-0}" = 1 ]; then
    echo "skipped: a sanitizer's own memory would be in the count"
    exit 77
fi
"$LWMPI_BINARY_DIR/tests/softgpu/softgpu_load" "$scratch" || fail "see above"
finish
