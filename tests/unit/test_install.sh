#!/usr/bin/env bash
# cmake --install to a prefix: what is there, and that the tree still works after it was moved.
set -euo pipefail

command -v cmake >/dev/null || { echo "skipped: no cmake on PATH"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset LWMPI_DATADIR

cmake --install "$LWMPI_BINARY_DIR" --prefix "$work/first place" >/dev/null
mv "$work/first place" "$work/second place"
prefix="$work/second place"

for file in bin/lwmpi share/lwmpi/configs/tiny.cfg share/man/man1/lwmpi.1 share/doc/lwmpi/README.md \
    share/doc/lwmpi/INSTALL share/doc/lwmpi/LICENSE share/doc/lwmpi/CHANGELOG.md; do
    [ -s "$prefix/$file" ] || { echo "FAILED: $file is not installed"; exit 1; }
done
[ ! -e "$prefix/share/lwmpi/configs/tiny/make" ] || { echo "FAILED: the scripts of configs/tiny/make are installed"; exit 1; }

cd "$work"
if ! "$prefix/bin/lwmpi" doctor >doctor.txt 2>&1; then
    cat doctor.txt
    exit 1
fi
grep -qF "$prefix/share/lwmpi/configs/tiny.cfg" doctor.txt || { echo "FAILED: not its own default:"; cat doctor.txt; exit 1; }
if command -v ldd >/dev/null && ldd "$prefix/bin/lwmpi" | grep -E 'lib(cuda|cudart|cublas|cublasLt|nccl)\.so'; then
    echo "FAILED: the program does not start where CUDA or NCCL is not installed"
    exit 1
fi
grep -q '^\.SH CONFIGURATION' "$prefix/share/man/man1/lwmpi.1"
if command -v mandoc >/dev/null; then
    mandoc -T lint -W error "$prefix/share/man/man1/lwmpi.1"
fi
if grep -qF "$LWMPI_SOURCE_DIR" <<<"$(strings "$prefix/bin/lwmpi" 2>/dev/null | grep -E 'configs|share/lwmpi' || true)"; then
    echo "FAILED: a path of the source tree is compiled in"
    exit 1
fi
