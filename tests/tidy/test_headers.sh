#!/usr/bin/env bash
# Every header compiles alone: whoever includes it needs to know nothing else. C headers as C, those of CUDA with the
# software GPU's headers as C++.
set -euo pipefail
cd -- "$LWMPI_SOURCE_DIR"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The include folders of this build (MPI, libraries, generated headers), from its compile commands.
mapfile -t folders < <(tr ' ' '\n' <"$LWMPI_BINARY_DIR/compile_commands.json" | grep -A1 -E '^-(I|isystem)' |
    sed -n 's/^-I//p; /^-isystem$/{n;p}' | grep -v '/tests/' | sort -u)
flags=(-fsyntax-only -Wall -Wextra -Werror -Wno-unused-function -D_GNU_SOURCE "${folders[@]/#/-I}")

check() { # LANGUAGE-AND-COMPILER-WORDS... HEADER
    local header=${*: -1}
    if ! printf '#include "%s"\n' "$header" | "${@:1:$#-1}" - 2>"$work/said"; then
        echo "$header does not compile alone:"
        head -n 5 "$work/said"
        return 1
    fi
}

faults=0
count=0
while read -r header; do
    count=$((count + 1))
    check cc -std=c11 -x c -Itests/softgpu/include "${flags[@]}" "${header#src/}" || faults=1
done < <(find src kernels mpi -name '*.h' | LC_ALL=C sort)
if command -v c++ >/dev/null; then
    while read -r header; do
        count=$((count + 1))
        check c++ -std=c++17 -x c++ -Itests/softgpu/include -Wno-unknown-pragmas -DLW_SOFTGPU=1 "${flags[@]}" "$header" ||
            faults=1
    done < <(find kernels/cuda -name '*.cuh' | LC_ALL=C sort)
fi
[ "$count" -gt 100 ] || { echo "only $count headers were found: the test looks in the wrong place"; exit 1; }
exit $faults
