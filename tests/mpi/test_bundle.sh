#!/usr/bin/env bash
# The bundle (target `bundle`) runs from whatever folder it is unpacked to, with an empty PATH and no library path, on
# no library but its own, the C library's and CUDA's.
. "$LWMPI_SOURCE_DIR/tests/support/shell.sh"

if [ "$LWMPI_SANITIZED" != 0 ]; then
    echo "skipped: a bundle is made of a build without sanitizers"
    exit 77
fi
if ! "${launcher[0]}" --version 2>&1 | grep -q "Open MPI\|OpenRTE"; then
    echo "skipped: bundles are made with Open MPI; this is another MPI"
    exit 77
fi
cmake --build "$LWMPI_BINARY_DIR" --target bundle >"$scratch/build.log" 2>&1 || {
    cat "$scratch/build.log"
    fail "the target bundle does not build"
    finish
}
archive=$(ls "$LWMPI_BINARY_DIR"/lwmpi-*-"$(uname -m)".tar.gz)
root="$scratch/moved to/another place"
mkdir -p "$root"
tar -xzf "$archive" -C "$root" --strip-components=1

bytes=$(stat -c %s "$archive")
[ "$bytes" -lt 60000000 ] || fail "the archive has $bytes bytes; 60 MB are the limit"

# What the loader takes from outside.
system='linux-vdso|/ld-linux[^/]*|/lib(c|m|dl|rt|pthread|cuda|cudart|cublas|cublasLt|nccl|stdc\+\+|gcc_s)\.so'
for object in "$root"/bin/lwmpi "$root"/lib/*.so*; do
    foreign=$(env -i LD_LIBRARY_PATH="$root/lib" LD_TRACE_LOADED_OBJECTS=1 /lib64/ld-linux-x86-64.so.2 "$object" |
        grep -vF "$root/" | grep -vE "$system" || true)
    [ -z "$foreign" ] || fail "$object needs from outside: $foreign"
done

# With CUDA, it says so where there is no GPU, too, and finds NCCL where the loader is told to look.
if "$LWMPI_BIN" --version | grep -q '^backends:.* cuda'; then
    folders=$(sed -n -E 's#^(CUDA_cublasLt_LIBRARY|LW_NCCL_LIBRARY):[^=]*=(.*)/[^/]*$#\2#p' "$LWMPI_BINARY_DIR/CMakeCache.txt" |
        sort -u | paste -s -d :)
    env -i LD_LIBRARY_PATH="$folders" "$root/bin/lwmpi" --version >"$scratch/version" || fail "--version of the bundle"
    for line in 'backends: cpu, cuda' 'CUDA: +[0-9]+\.' 'cuBLAS: +[0-9]+\.' 'NCCL: +2\.'; do
        grep -qE "^$line" "$scratch/version" || fail "no line \"$line\" in: $(cat "$scratch/version")"
    done
fi

# The job, in an environment with nothing in it but what root and containers need.
mapfile -t job < <(small_job "$scratch/two")
empty=(env -i HOME="$scratch" TMPDIR="$scratch" OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_rmaps_base_oversubscribe=1 LWMPI_CALIBRATION="$scratch/calibration")
"${empty[@]}" "$root/bin/mpirun" -np 2 "$root/bin/lwmpi" "${job[@]}" >"$scratch/log" 2>&1 || {
    cat "$scratch/log"
    fail "two ranks of the bundle"
}
grep -q '"ranks": 2' "$scratch/two/summary.json" || fail "two ranks: summary.json does not say so"

# The default comes with it; one rank needs no launcher.
"${empty[@]}" "$root/bin/lwmpi" run.dir="$scratch/one" train.max_steps=2 eval.at_end=false >"$scratch/log" 2>&1 || {
    cat "$scratch/log"
    fail "one rank of the bundle"
}
finish
