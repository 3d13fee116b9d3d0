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

# "object symbol" of what is defined and of what is used, by the program and by everything.
list() { # FILTER FOLDER...
    local filter=$1
    shift
    find "$@" -name '*.o' -not -path '*/CompilerId*' -print0 | LC_ALL=C sort -z |
        xargs -0 nm -A "$filter" --format=posix 2>/dev/null | awk '{ sub(/:$/, "", $1); sub(/:.*/, "", $1); print $1, $2 }'
}
list --defined-only CMakeFiles/lwmpi_base.dir CMakeFiles/lwmpi.dir | awk '$2 ~ /^lw_/' >"$work/defined"
list --undefined-only CMakeFiles tests | awk '$2 ~ /^_?_?lw_|^_Z.*lw_/' >"$work/used"
[ "$(wc -l <"$work/defined")" -gt 500 ] || { echo "few symbols were found: the test looks in the wrong place"; exit 1; }
awk '
    NR == FNR {
        users[$2]++
        if ($1 !~ /^tests\//)
            program[$2]++
        next
    }
    !($2 in users) { print "unused " $2 " " $1; next }
    !($2 in program) { print "tests " $2 " " $1 }' "$work/used" "$work/defined" | sort -u >"$work/found"
faults=0
while read -r kind symbol object; do
    if [ "$kind" = unused ]; then
        if nm --defined-only --extern-only "$object" | grep -qw "$symbol"; then
            echo "$object: nobody else uses $symbol: make it static, or remove it"
            faults=1
        fi
    elif ! grep -rhE -B3 "\\b$symbol\\b" "$LWMPI_SOURCE_DIR"/{src,mpi,kernels} --include='*.h' | grep -q 'For tests'; then
        echo "$object: only tests use $symbol: its header must say \"For tests\", or it goes"
        faults=1
    fi
done <"$work/found"
exit $faults
