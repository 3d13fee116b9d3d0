#!/usr/bin/env bash
# Every C and CUDA file is as clang-format leaves it.
set -euo pipefail
cd -- "$LWMPI_SOURCE_DIR"
version=14 # others break some lines elsewhere
tool=$(command -v "clang-format-$version" || command -v clang-format || true)
if [ -z "$tool" ] || ! "$tool" --version | grep -q "version $version\."; then
    echo "skipped: no clang-format $version (Debian 12: clang-format)"
    exit 77
fi
find src kernels mpi tests \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' \) -print0 |
    xargs -0 "$tool" --dry-run -Werror
