#!/usr/bin/env bash
# tests/fuzz/run.sh PROGRAM SECONDS: runs one fuzz target (build/fuzz/tests/fuzz/fuzz_NAME): first every input of its
# corpus, then SECONDS of fuzzing from there, with a fixed seed. New inputs go to corpus/NAME beside the program and are
# used by the next run; the tree is left alone. The last line says what was reached. A finding (a crash, a sanitizer's
# report, a leak, a broken promise, 10 s or 1 GiB for one input) fails, and the input is left in findings/ there.
set -euo pipefail
program=$(readlink -f -- "$1")
seconds=$2
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
name=${program##*/fuzz_}
build=$(dirname -- "$program")
seeds=$here/corpus/$name
found=$build/corpus/$name
findings=$build/findings
log=$build/$name.log
mkdir -p "$found" "$findings"

export LWMPI_SOURCE_DIR=${LWMPI_SOURCE_DIR:-$here/../..}
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:allocator_may_return_null=1:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1
export LSAN_OPTIONS=print_suppressions=0:suppressions=$here/../sanitizers/lsan.supp
# Random addresses of newer kernels are too wide for AddressSanitizer's map.
launch=()
if [ "$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 0)" -gt 28 ] && setarch -R true 2>/dev/null; then
    launch=(setarch -R)
fi
options=(-seed=1 -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=65536 "-artifact_prefix=$findings/$name-")
case $name in
config) options+=(-max_len=16384) ;; # libconfig compares every name of a group with every other
esac
case $name in
tokenizer | pattern | config) options+=("-dict=$here/$name.dict") ;;
safetensors*) options+=("-dict=$here/safetensors.dict") ;;
encode | token_cache) ;; # no words to guess
*) options+=("-dict=$here/json.dict") ;;
esac

stop() {
    tail -n 60 -- "$log"
    printf 'fuzz %s: a finding; the input is in %s\n' "$name" "$findings" >&2
    exit 1
}

"${launch[@]}" "$program" "${options[@]}" -runs=1 "$seeds"/* >"$log" 2>&1 || stop
before=$(find "$found" -type f | wc -l)
if [ "$seconds" -gt 0 ]; then
    "${launch[@]}" "$program" "${options[@]}" -max_total_time="$seconds" -print_final_stats=1 "$found" "$seeds" \
        >"$log" 2>&1 || stop
fi
after=$(find "$found" -type f | wc -l)
executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
coverage=$(sed -n 's/.* cov: \([0-9]*\) ft: \([0-9]*\) .*/\1 \2/p' "$log" | tail -n 1)
coverage=${coverage:-0 0}
printf 'fuzz %-18s %10s executions  %6s edges  %6s features  corpus %d + %d new\n' "$name" "${executions:-0}" \
    "${coverage% *}" "${coverage#* }" "$(find "$seeds" -type f | wc -l)" "$((after - before))"
