#!/usr/bin/env bash
# run.sh: everything that needs a real GPU, in one call of at most nine minutes: operator suite, verify, training beside
# the CPU, NCCL, compute-sanitizer, benchmarks and the PyTorch peer. The machine needs a driver, CUDA's libraries and this
# source tree; to build there as well, what INSTALL names.
#
#   tests/gpu/run.sh [--bundle FILE.tar.gz --ops TEST_OPS] [--only PART,PART...] [--out FOLDER]
#
# --bundle, --ops   what `cmake --build BUILD --target bundle test_ops_ops` made on another machine (BUILD/lwmpi-*.tar.gz
#                   and BUILD/tests/test_ops_ops); without them preset `cuda` is built here
# --only            of: ops bench peer verify resume nccl train sanitize
# --out             folder of logs and result rows; build/gpu-results by default, $OUT where that is set
#
# Where there is no GPU, each part says "skipped" and the exit code is 77.
set -uo pipefail
cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.." || exit 1
source_dir=$PWD
bundle='' ops='' only=ops,verify,train,resume,nccl,sanitize,bench,peer out=${OUT:-build/gpu-results}
while [ $# -gt 0 ]; do
    case $1 in
    --bundle) bundle=$(readlink -f -- "$2") && shift 2 ;;
    --ops) ops=$(readlink -f -- "$2") && shift 2 ;;
    --only) only=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" && exit 2 ;;
    esac
done
mkdir -p "$out" && out=$(readlink -f -- "$out")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
summary=$out/summary.txt
: >"$summary"
failures=0 skips=0
deadline=$((SECONDS + 530))

note() { printf '%s\n' "$*" | tee -a "$summary"; }

wanted() { [[ ,$only, == *,$1,* ]]; }

# part NAME SECONDS COMMAND...: its output in $out/NAME.log, its verdict in the summary.
part() {
    local name=$1 limit=$2 code=0 begin=$SECONDS
    shift 2
    local left=$((deadline - SECONDS))
    [ "$limit" -le "$left" ] || limit=$left
    if [ "$limit" -le 0 ]; then
        note "$(printf '%-16s not run: the nine minutes are over' "$name")"
        failures=$((failures + 1))
        return
    fi
    timeout -k 5 "$limit" "$@" >"$out/$name.log" 2>&1 || code=$?
    case $code in
    0) note "$(printf '%-16s passed   %4d s' "$name" $((SECONDS - begin)))" ;;
    77) note "$(printf '%-16s skipped: %s' "$name" "$(grep -m 1 -i skipped "$out/$name.log")")" && skips=$((skips + 1)) ;;
    124 | 137) note "$(printf '%-16s FAILED: longer than %d s' "$name" "$limit")" && failures=$((failures + 1)) ;;
    *)
        note "$(printf '%-16s FAILED (%d), see %s' "$name" "$code" "$out/$name.log")"
        tail -n 15 "$out/$name.log"
        failures=$((failures + 1))
        ;;
    esac
}

# --- the GPU

if ! command -v nvidia-smi >/dev/null 2>&1 || ! nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
    for name in ${only//,/ }; do
        note "$(printf '%-16s skipped: no NVIDIA GPU on this machine (nvidia-smi lists none)' "$name")"
    done
    exit 77
fi
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$out/gpu.txt"
gpus=$(nvidia-smi -L | grep -c '^GPU')

# CUDA's libraries: of the toolkit, or those that PyTorch brought along.
cuda_libraries() {
    local folder
    for folder in "${CUDA_HOME:-/usr/local/cuda}/lib64" /usr/local/cuda/targets/x86_64-linux/lib; do
        [ -d "$folder" ] && printf '%s:' "$folder"
    done
    python3 - 2>/dev/null <<'PY'
import glob, os, site, sysconfig
for root in {sysconfig.get_paths()["purelib"], *site.getsitepackages()}:
    for folder in sorted(glob.glob(os.path.join(root, "nvidia", "*", "lib"))):
        print(folder, end=":")
PY
}
own_libraries=${LD_LIBRARY_PATH:-} ops_libraries=''
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(cuda_libraries)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
export LWMPI_CALIBRATION=$work/calibration OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}

# --- the program

if [ -n "$bundle" ]; then
    [ -n "$ops" ] || { note "--bundle wants --ops as well" && exit 2; }
    mkdir "$work/bundle"
    tar -xzf "$bundle" -C "$work/bundle" --strip-components=1 || exit 1
    lwmpi=$work/bundle/bin/lwmpi mpirun=$work/bundle/bin/mpirun
    ops_libraries=$work/bundle/lib # what bin/lwmpi finds by itself
else
    { cmake --preset cuda && cmake --build --preset cuda; } >"$out/build.log" 2>&1 || {
        tail -n 30 "$out/build.log"
        note "the preset cuda does not build, see $out/build.log"
        exit 1
    }
    lwmpi=$source_dir/build/cuda/lwmpi mpirun=$(command -v mpirun) ops=$source_dir/build/cuda/tests/test_ops_ops
fi
if ! "$lwmpi" --version >"$out/version.txt" 2>&1 || ! grep -q '^backends:.*cuda' "$out/version.txt"; then
    cat "$out/version.txt"
    ldd "$lwmpi" | grep 'not found'
    note "the program does not start, or is built without CUDA (cmake --preset cuda)"
    exit 1
fi
cat "$out/version.txt"
"$lwmpi" doctor >"$out/doctor.txt" 2>&1

# What the tests are told by ctest elsewhere (tests/CMakeLists.txt).
export LWMPI_SOURCE_DIR=$source_dir LWMPI_BIN=$lwmpi LWMPI_MPIEXEC="$mpirun --oversubscribe" LWMPI_SANITIZED=0
export LWMPI_DATADIR=$source_dir LWMPI_GPUS=$gpus

# --- the parts

train() {
    # Quality, not only the loss: the embedded job from start to end.
    "$lwmpi" train "$source_dir/configs/tiny.cfg" device=cuda run.dir="$work/tiny" &&
        cp "$work/tiny/summary.json" "$out/tiny-summary.json" && cp "$work/tiny/metrics.jsonl" "$out/tiny-metrics.jsonl"
}

nccl() {
    [ "$gpus" -ge 2 ] || {
        echo "skipped: NCCL wants a GPU for each rank, and there is one"
        return 77
    }
    "$mpirun" --oversubscribe -np 2 "$lwmpi" train "$source_dir/configs/tiny.cfg" device=cuda comm.backend=nccl \
        train.max_steps=200 eval.at_end=false run.dir="$work/nccl" && grep 'data plane: NCCL' "$work/nccl/log.txt"
}

run_ops() { # [COMMAND...] in front of the operator suite
    LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$ops_libraries "$@" "$ops" cuda
}

sanitize() { # TOOL
    local tool=''
    tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) || {
        echo "skipped: compute-sanitizer is not installed"
        return 77
    }
    run_ops "$tool" --tool "$1" --error-exitcode 9 2>&1 | tee "$work/sanitize.log"
    local code=${PIPESTATUS[0]}
    if grep -q 'Device not supported' "$work/sanitize.log"; then
        echo "skipped: compute-sanitizer does not support the GPU on this machine"
        return 77
    fi
    return "$code"
}

seed=(bench "$source_dir/configs/llama8b-qwen7b.cfg" device=cuda --answer 8 --source 256 --json
    encoder.kind=byte encoder.layers=2 encoder.width=768 encoder.heads=12) # as the peer

bench() { # BATCH...
    local batch code=0
    for batch in "$@"; do
        "$lwmpi" "${seed[@]}" --steps 30 --warmup 5 batch.global="$batch" >"$out/bench-$batch.json" || code=1
        cat "$out/bench-$batch.json"
    done
    return "$code"
}

peer() {
    set -o pipefail
    export LD_LIBRARY_PATH=$own_libraries # PyTorch brings those that it was built with
    python3 -c 'import torch, transformers' || {
        echo "skipped: no PyTorch with transformers here"
        return 77
    }
    python3 "$source_dir/tests/bench/torch_peer.py" --device cuda --batch 4 32 --steps 20 --warmup 5 \
        --width 768 --heads 12 --layers 2 --pooler_layers 1 --models "$source_dir/configs/models/Llama-3.1-8B" \
        "$source_dir/configs/models/Qwen2.5-7B" | tee "$out/peer.jsonl"
}

export -f train nccl run_ops sanitize bench peer
export lwmpi mpirun ops work out source_dir gpus own_libraries ops_libraries
declare -p seed >"$work/seed.sh"

wanted ops && part ops 100 bash -c run_ops
wanted bench && part bench 120 bash -c ". '$work/seed.sh'; bench 4 32"
wanted peer && part peer 120 bash -c peer
wanted verify && part verify 60 env LWMPI_DEVICE=cuda bash tests/parity/test_verify.sh
wanted verify && part verify_f32 60 env LWMPI_DEVICE=cuda:f32 bash tests/parity/test_verify.sh
wanted resume && part resume 60 bash tests/softgpu/test_train.sh
wanted nccl && part nccl 60 bash -c nccl
wanted train && part train 150 bash -c train
wanted bench && part bench_more 100 bash -c ". '$work/seed.sh'; bench 8 16 64"
wanted sanitize && part memcheck 60 bash -c "sanitize memcheck"
wanted sanitize && part racecheck 60 bash -c "sanitize racecheck"

# --- figures

# figure FILE KEY: the first number after "KEY":
figure() { sed -n "s/.*\"$2\": \([-0-9.eE+]*\).*/\1/p" "$1" | head -n 1; }
for batch in 4 8 16 32 64; do
    row=$out/bench-$batch.json
    [ -s "$row" ] || continue
    theirs=$([ -s "$out/peer.jsonl" ] && sed -n "s/.*\"batch_samples\": $batch,.*\"samples_per_s\": \([0-9.]*\).*/\1/p" "$out/peer.jsonl")
    note "$(awk -v b="$batch" -v s="$(figure "$row" samples_per_s)" -v m="$(figure "$row" mfu)" \
        -v w="$(figure "$row" weight_read_share_of_step)" -v g="$(figure "$row" gpu_bytes_used)" \
        -v p="$(figure "$row" gpu_bytes_predicted)" -v t="${theirs:-0}" 'BEGIN {
        printf "batch %2d: %7.1f samples/s, mfu %.3f, weight reads %.3f of the step, GPU memory %.2f GB (predicted %.2f)",
               b, s, m, w, g / 1e9, p / 1e9
        if (t > 0) printf ", %.2f x PyTorch (%.1f)", s / t, t }')"
done
note "$failures failed, $skips skipped; everything in $out, and in $out/all.tar.gz"
tar -C "$out" -czf "$work/all.tar.gz" . && mv "$work/all.tar.gz" "$out/"
exit $((failures > 0))
