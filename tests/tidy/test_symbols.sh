#!/usr/bin/env bash
# No dead functions: every external symbol of the program is used by an object file other than its own. One that only
# tests use says so in its header ("For tests").
set -euo pipefail
cd -- "$LWMPI_BINARY_DIR"
if ! command -v nm >/dev/null; then
    echo "skipped: no nm (Debian: binutils)"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! compgen -G 'liblwmpi_gpu.a' >/dev/null || ! find . -path '*lwmpi_gpu*kernels/cuda/*.o' | grep -q .; then
    echo "skipped: neither the CUDA backend nor the software GPU was built, and they use some of the functions"
    exit 77
fi

# "object symbol" of what is defined and of what is used: of the archives, whose members are those of today's sources,
# and of the programs. The GPU backend that the software GPU runs is the program's, too.
list() { # FILTER FILE...
    nm -A -g "$1" --format=posix "${@:2}" 2>/dev/null | awk '{ sub(/:$/, "", $1); print $1, $2 }'
}
mapfile -t archives < <(find . -maxdepth 3 -name 'lib*.a' | LC_ALL=C sort)
mapfile -t objects < <(find CMakeFiles/lwmpi.dir tests -name '*.o' | LC_ALL=C sort)
list --defined-only liblwmpi_base.a | awk '$2 ~ /^lw_/' >"$work/defined"
list --undefined-only "${archives[@]}" "${objects[@]}" | awk '$2 ~ /^_?_?lw_/' >"$work/used"
[ "$(wc -l <"$work/defined")" -gt 500 ] || { echo "few symbols were found: the test looks in the wrong place"; exit 1; }
awk '
    NR == FNR {
        users[$2]++
        if ($1 !~ /tests\// || $1 ~ /lwmpi_gpu_soft/)
            program[$2]++
        next
    }
    !($2 in users) { print "unused " $2 " " $1; next }
    !($2 in program) { print "tests " $2 " " $1 }' "$work/used" "$work/defined" | sort -u >"$work/found"
faults=0
while read -r kind symbol object; do
    if [ "$kind" = unused ]; then
        echo "$object: nobody else uses $symbol: make it static, or remove it"
        faults=1
    elif ! grep -rhE -B3 "\\b$symbol\\b" "$LWMPI_SOURCE_DIR"/{src,mpi,kernels} --include='*.h' | grep -qi 'for tests'; then
        echo "$object: only tests use $symbol: its header must say \"For tests\", or it goes"
        faults=1
    fi
done <"$work/found"
exit $faults
