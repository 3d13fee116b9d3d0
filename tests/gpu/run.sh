#!/usr/bin/env bash
# run.sh: everything that needs a real GPU, in one call of less than nine minutes: operator suite, products of real size,
# verify, training beside the CPU, NCCL, compute-sanitizer, benchmarks and the PyTorch peer. The machine needs a driver,
# CUDA's libraries and this source tree; to build there as well, what INSTALL names.
#
#   tests/gpu/run.sh [--bundle FILE --tests FILE] [--only PART,PART...] [--out FOLDER]
#
# --bundle, --tests   what `cmake --build BUILD --target bundle gpu_tests` made on another machine: BUILD/lwmpi-*.tar.gz and
#                     BUILD/lwmpi-*-gpu-tests.tar.gz; without them preset `cuda` is built here
# --only              parts, or groups of them, of the table below
# --out               build/gpu-results by default, $OUT where that is set. It gets results.json, summary.txt and all.tar.gz
#                     (every log and row), and they are written again after each part: a kill loses no more than one
#
# A part that needs more than its limit has the verdict "timeout". Exit code 1 where a part failed or timed out; 77 where
# there is no GPU, and each part is "skipped".
# shellcheck disable=SC2317 # functions that the table calls
set -uo pipefail

# Parts in their order: name, group, limit [s], what the parts before leave to it [s], command. What they leave and the
# start are less than the whole, so that slow parts take no later one's place; those with 0 are there for what time remains.
whole_s=510
table='
ops         ops       80  30  kit test_ops_ops cuda
large       ops       60  20  kit test_ops_ops cuda --large
device      device    20   5  kit test_ops_cuda
lora        lora      20  10  kit test_parity_lora cuda
lora-f32    lora      20  10  kit test_parity_lora cuda:f32
verify      verify    60  25  LWMPI_DEVICE=cuda bash tests/parity/test_verify.sh
verify-f32  verify    60  25  LWMPI_DEVICE=cuda:f32 bash tests/parity/test_verify.sh
byte-4      bench     45  20  bench byte 4
seed-4      bench     45  20  bench seed 4
byte-32     bench     45  20  bench byte 32
seed-32     bench     45  20  bench seed 32
peer        peer     110  60  peer
nccl        nccl      40  15  nccl
text        text      30  10  bash tests/softgpu/test_text.sh
encoders    encoders  90  35  bash tests/softgpu/test_encoders.sh
resume      resume    80  40  bash tests/softgpu/test_train.sh
train       train    100  40  train
memcheck    sanitize  60  30  sanitize memcheck
racecheck   sanitize  60  30  sanitize racecheck
byte-8      bench     30   0  bench byte 8
byte-16     bench     30   0  bench byte 16
byte-64     bench     30   0  bench byte 64
'

usage() { sed -n '2,/^# shellcheck/{/^# shellcheck/!s/^# \{0,1\}//p}' "$0" && exit 2; }

bundle='' programs='' only='' out=${OUT:-}
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
    --bundle) bundle=$(readlink -f -- "$2") ;;
    --tests) programs=$(readlink -f -- "$2") ;;
    --only) only=$2 ;;
    --out) out=$2 ;;
    *) usage ;;
    esac
    shift 2
done
if [ -n "$bundle$programs" ] && { [ ! -f "$bundle" ] || [ ! -f "$programs" ]; }; then
    echo "--bundle and --tests want a file each"
    exit 2
fi
[ -z "$out" ] || out=$(readlink -m -- "$out")
cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.." || exit 1
source_dir=$PWD
out=${out:-$source_dir/build/gpu-results}
mkdir -p "$out" || exit 1

names='' reserve_s=0 # of the parts to come
while read -r name group _ least_s _; do
    [ -n "$name" ] || continue
    [ -z "$only" ] || [[ ,$only, == *,$name,* ]] || [[ ,$only, == *,$group,* ]] || continue
    names="$names $name"
    reserve_s=$((reserve_s + least_s))
done <<<"$table"
for name in ${only//,/ }; do
    grep -qE "^([^ ]+ +)?$name " <<<"$table" || { echo "--only $name: no such part" && exit 2; }
done

# $results goes into all.tar.gz; the folder `out` gets three files at any time, and one more while it is written.
work=$(mktemp -d) && mkdir "$work/results" || exit 1
results=$work/results
child='' holder=''
clean_up() {
    [ -z "$holder" ] || kill "$holder" 2>/dev/null
    [ -z "$child" ] || { kill "$child" 2>/dev/null && wait "$child"; }
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
ulimit -c 0
SECONDS=0
failures=0 skips=0 gpus=0 gpu='' driver='' problem='' finished=false
: >"$results/notes.txt"
: >"$work/parts"

note() { printf '%s\n' "$*" | tee -a "$results/notes.txt"; }

# --- results

quoted() { # TEXT: as a string of JSON
    local text=${1//\\/\\\\}
    text=${text//\"/\\\"}
    printf '"%s"' "${text//[[:cntrl:]]/ }"
}

figure() { # ROW KEY: the number after "KEY": in a row of lwmpi bench; nothing where there is none
    local row=$results/bench-$1.json
    [ -s "$row" ] && sed -n "s/^ *\"$2\": \([-0-9.eE+]*\),\{0,1\}$/\1/p" "$row" | head -n 1
}

peer_rows() { [ -s "$results/peer.jsonl" ] && grep '^{.*}$' "$results/peer.jsonl"; } # whole ones

ratio() { # BATCH: to the peer's samples per second
    local ours theirs
    ours=$(figure "byte-$1" samples_per_s)
    theirs=$(peer_rows | sed -n "s/.*\"batch_samples\": $1,.*\"samples_per_s\": \([0-9.eE+]*\).*/\1/p")
    [ -z "$ours" ] || [ -z "$theirs" ] || awk -v a="$ours" -v b="$theirs" 'BEGIN { print a / b }'
}

memory_error() { # ROW: of the GPU memory that was predicted
    local used predicted
    used=$(figure "$1" gpu_bytes_used) predicted=$(figure "$1" gpu_bytes_predicted)
    [ -z "$used" ] || [ -z "$predicted" ] ||
        awk -v a="$predicted" -v b="$used" 'BEGIN { print (a > b ? a - b : b - a) / b }'
}

# A line each: name, row, relation, what is wanted, value (none where it was not measured).
targets() {
    local encoder
    for encoder in seed byte; do
        echo samples_per_s "$encoder-4" '>=' 150 "$(figure $encoder-4 samples_per_s)"
        echo mfu "$encoder-32" '>=' 0.60 "$(figure $encoder-32 mfu)"
        echo gpu_bytes_used "$encoder-4" '<=' 34e9 "$(figure $encoder-4 gpu_bytes_used)"
        echo gpu_bytes_predicted_error "$encoder-4" '<=' 0.03 "$(memory_error $encoder-4)"
    done
    echo ratio_to_peer byte-4 '>=' 2 "$(ratio 4)"
    echo ratio_to_peer byte-32 '>=' 1.3 "$(ratio 32)"
}

targets_judged() { # FORMAT: awk's, of name, row, relation, wanted, value, met
    targets | awk -v format="$1" '{
        met = $5 == "" ? "null" : ($3 == ">=" ? $5 + 0 >= $4 + 0 : $5 + 0 <= $4 + 0) ? "true" : "false"
        printf format, $1, $2, $3, $4, $5 == "" ? "null" : sprintf("%.6g", $5), met }'
}

version_of() { sed -n "s/^$1: *//p" "$results/version.txt" 2>/dev/null; }

joined() { sed '$!s/$/,/; s/^/    /'; } # lines: as the elements of a list

results_json() {
    local row separator=''
    printf '{\n  "finished": %s,\n  "seconds": %d,\n' "$finished" "$SECONDS"
    [ -z "$problem" ] || printf '  "problem": %s,\n' "$(quoted "$problem")"
    printf '  "machine": {\n    "gpu": %s,\n    "gpus": %d,\n' "$(quoted "$gpu")" "$gpus"
    printf '    "driver": %s,\n    "cpus": %d,\n' "$(quoted "$driver")" "$(getconf _NPROCESSORS_ONLN)"
    printf '    "cuda": %s,\n' "$(quoted "$(version_of CUDA)")"
    printf '    "cublas": %s,\n    "nccl": %s,\n' "$(quoted "$(version_of cuBLAS)")" "$(quoted "$(version_of NCCL)")"
    printf '    "lwmpi": %s,\n' "$(quoted "$(sed -n '1s/^lwmpi \([^ ]*\).*/\1/p' "$results/version.txt" 2>/dev/null)")"
    printf '    "commit": %s\n  },\n' "$(quoted "$(sed -n '1s/.*(\(.*\)).*/\1/p' "$results/version.txt" 2>/dev/null)")"
    printf '  "parts": [\n%s\n  ],\n' "$(joined <"$work/parts")"
    printf '  "targets": [\n%s\n  ],\n' "$(targets_judged \
        '{"name": "%s", "row": "%s", "relation": "%s", "wanted": %s, "value": %s, "met": %s}\n' | joined)"
    printf '  "peer": [\n%s\n  ],\n  "bench": {' "$(peer_rows | joined)"
    for row in $names; do
        [ -s "$results/bench-$row.json" ] || continue
        printf '%s\n    "%s": %s' "$separator" "$row" "$(cat "$results/bench-$row.json")"
        separator=,
    done
    printf '\n  }\n}\n'
}

summary() {
    local row
    cat "$results/notes.txt"
    for row in $names; do
        [ -s "$results/bench-$row.json" ] || continue
        printf '%-8s ' "$row"
        awk -v s="$(figure "$row" samples_per_s)" -v m="$(figure "$row" mfu)" \
            -v w="$(figure "$row" weight_read_share_of_step)" -v g="$(figure "$row" gpu_bytes_used)" \
            -v p="$(figure "$row" gpu_bytes_predicted)" 'BEGIN {
            printf "%7.1f samples/s, mfu %.3f, weight reads %.3f of the step, GPU memory %.2f GB (predicted %.2f)\n",
                   s, m, w, g / 1e9, p / 1e9 }'
    done
    [[ " $names " != *' byte-4 '* ]] || targets_judged 'target %s of %s: wanted %s %s, is %s, met: %s\n'
}

# A name that is there is always whole.
publish() {
    local file
    results_json >"$results/results.json"
    summary >"$results/summary.txt"
    tar -C "$results" --exclude=checkpoints --exclude=cache -czf "$work/all.tar.gz" .
    for file in "$results/results.json" "$results/summary.txt" "$work/all.tar.gz"; do
        cp "$file" "$out/new.tmp" && mv -f "$out/new.tmp" "$out/${file##*/}"
    done
}

verdict() { # NAME VERDICT SECONDS LIMIT WHY
    printf '{"name": "%s", "verdict": "%s", "seconds": %d, "limit": %d, "why": %s}\n' "$1" "$2" "$3" "$4" "$(quoted "$5")" \
        >>"$work/parts"
    note "$(printf '%-11s %-8s %4d s%s' "$1" "$2" "$3" "${5:+: $5}")"
    case $2 in
    skipped) skips=$((skips + 1)) ;;
    failed | timeout) failures=$((failures + 1)) ;;
    esac
}

give_up() { # WHY [FILE]: nothing can be run
    [ $# -lt 2 ] || tail -n 30 "$2"
    problem=$1
    note "$1"
    publish
    exit 1
}

# --- the GPU

# The list CUDA_VISIBLE_DEVICES counts up to its first entry that is no GPU, as in the driver.
visible() { # NUMBER: of all
    local n=0 one
    [ -n "${CUDA_VISIBLE_DEVICES+set}" ] || { echo "$1" && return; }
    for one in ${CUDA_VISIBLE_DEVICES//,/ }; do
        [[ $one == GPU-* || $one == MIG-* ]] || { [[ $one =~ ^[0-9]+$ ]] && [ "$one" -lt "$1" ]; } || break
        n=$((n + 1))
    done
    echo "$n"
}

gpus=$(visible "$(timeout 60 nvidia-smi -L 2>/dev/null | grep -c '^GPU')")
if [ "$gpus" -eq 0 ]; then
    for name in $names; do
        verdict "$name" skipped 0 0 "no NVIDIA GPU (nvidia-smi lists none, or CUDA_VISIBLE_DEVICES hides them)"
    done
    finished=true
    publish
    exit 77
fi
# Without persistence mode the driver starts anew for every process, in seconds, unless one has it open.
timeout 600 nvidia-smi -l 3600 >/dev/null 2>&1 &
holder=$!
IFS=, read -r gpu driver memory < <(timeout 30 nvidia-smi --query-gpu=name,driver_version,memory.total \
    --format=csv,noheader ${CUDA_VISIBLE_DEVICES:+-i "$CUDA_VISIBLE_DEVICES"})
gpu=${gpu:-unknown} driver=${driver# }
note "$gpus x $gpu,${memory:-}, driver $driver"

# CUDA's libraries: of the toolkit, or those that PyTorch brought along.
cuda_libraries() {
    local folder
    for folder in "${CUDA_HOME:-/usr/local/cuda}"/lib64 "${CUDA_HOME:-/usr/local/cuda}"/lib \
        /usr/local/cuda/targets/x86_64-linux/lib; do
        [ -d "$folder" ] && printf ':%s' "$folder"
    done
    timeout 30 python3 - 2>/dev/null <<'PY'
import glob, os, site, sysconfig
for root in {sysconfig.get_paths()["purelib"], *site.getsitepackages()}:
    for folder in sorted(glob.glob(os.path.join(root, "nvidia", "*", "lib"))):
        print(":" + folder, end="")
PY
}
own_libraries=${LD_LIBRARY_PATH:-} bundle_libraries=''
LD_LIBRARY_PATH=$own_libraries$(cuda_libraries)
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH#:}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
export LWMPI_CALIBRATION=$work/calibration OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}

# --- the program

if [ -n "$bundle" ]; then
    mkdir "$work/bundle" "$work/tests"
    tar -xzf "$bundle" -C "$work/bundle" --strip-components=1 || give_up "$bundle cannot be unpacked"
    tar -xzf "$programs" -C "$work/tests" --strip-components=1 || give_up "$programs cannot be unpacked"
    lwmpi=$work/bundle/bin/lwmpi mpirun=$work/bundle/bin/mpirun tests=$work/tests/lwmpi_gpu_tests
    bundle_libraries=:$work/bundle/lib # what bin/lwmpi finds by itself
else
    { timeout 60 cmake --preset cuda && timeout 300 cmake --build --preset cuda -j "$(getconf _NPROCESSORS_ONLN)" \
        --target lwmpi lwmpi_gpu_tests; } >"$results/build.log" 2>&1 ||
        give_up "the preset cuda does not build here in 300 s" "$results/build.log"
    lwmpi=$source_dir/build/cuda/lwmpi mpirun=$(command -v mpirun) tests=$source_dir/build/cuda/tests/lwmpi_gpu_tests
fi
if ! timeout 60 "$lwmpi" --version >"$results/version.txt" 2>&1 || ! grep -q '^backends:.*cuda' "$results/version.txt"; then
    ldd "$lwmpi" | grep 'not found'
    give_up "the program does not start, or is built without CUDA (cmake --preset cuda)" "$results/version.txt"
fi
cat "$results/version.txt"

# What the tests are told by ctest elsewhere (tests/CMakeLists.txt).
export LWMPI_SOURCE_DIR=$source_dir LWMPI_BIN=$lwmpi LWMPI_MPIEXEC="$mpirun --oversubscribe" LWMPI_SANITIZED=0
export LWMPI_DATADIR=$source_dir LWMPI_GPUS=$gpus
PATH=${mpirun%/*}:$PATH timeout 60 "$lwmpi" doctor >"$results/doctor.txt" 2>&1

# --- the parts' commands

kit() { # PROGRAM ARGUMENT...: of the tests, under $checker where that is set
    local code=0
    # shellcheck disable=SC2086 # the checker is a list of words
    LD_LIBRARY_PATH=$LD_LIBRARY_PATH$bundle_libraries ${checker:-} "$tests" "$@" || code=$?
    [ "$code" -ne 77 ] || echo "FAILED: skipped, although there is a GPU"
    return $((code == 77 ? 1 : code))
}

# byte: the encoder of the peer; seed: the configuration as it is.
bench() { # byte|seed BATCH
    local encoder=()
    [ "$1" = seed ] || encoder=(encoder.kind=byte encoder.layers=2 encoder.width=768 encoder.heads=12)
    "$lwmpi" bench "$source_dir/configs/llama8b-qwen7b.cfg" device=cuda batch.global="$2" "${encoder[@]}" --answer 8 \
        --source 256 --steps 30 --warmup 5 --json >"$work/row" && mv "$work/row" "$results/bench-$1-$2.json"
}

peer() {
    export LD_LIBRARY_PATH=$own_libraries # PyTorch brings those that it was built with
    python3 -c 'import importlib.util as u, sys; sys.exit(not (u.find_spec("torch") and u.find_spec("transformers")))' || {
        echo "skipped: no PyTorch with transformers here"
        return 77
    }
    python3 "$source_dir/tests/bench/torch_peer.py" --device cuda --batch 4 32 --steps 20 --warmup 5 \
        --width 768 --heads 12 --layers 2 --pooler_layers 1 --models "$source_dir/configs/models/Llama-3.1-8B" \
        "$source_dir/configs/models/Qwen2.5-7B" | tee "$results/peer.jsonl"
}

# The embedded job with a GPU for each rank, of one or two: NCCL has to be what sums.
nccl() {
    "$mpirun" --oversubscribe -np $((gpus < 2 ? 1 : 2)) "$lwmpi" train "$source_dir/configs/tiny.cfg" device=cuda \
        comm.backend=nccl train.max_steps=50 eval.at_end=false run.dir="$results/nccl" || return
    grep 'data plane: NCCL' "$results/nccl/log.txt" || {
        echo "FAILED: the sums do not go through NCCL"
        return 1
    }
}

# Quality, not only the loss: the embedded job from start to end.
train() { "$lwmpi" train "$source_dir/configs/tiny.cfg" device=cuda run.dir="$results/tiny"; }

find_sanitizer() {
    local file
    for file in "$(command -v compute-sanitizer)" /usr/local/cuda*/bin/compute-sanitizer \
        /usr/local/cuda*/compute-sanitizer/compute-sanitizer /opt/nvidia/*/compute-sanitizer \
        /opt/nvidia/*/bin/compute-sanitizer /opt/nvidia/*/*/compute-sanitizer; do
        [ -f "$file" ] && [ -x "$file" ] && echo "$file" && return
    done
    return 1
}

# Our kernels: cuBLAS's are many, slow to check, and not ours. Products with k = 0 are.
sanitize() { # memcheck|racecheck
    local code=0
    checker=$(find_sanitizer) || {
        echo "skipped: compute-sanitizer is not installed"
        return 77
    }
    checker="$checker --tool $1 --error-exitcode 9"
    [ "$1" != memcheck ] || checker="$checker --report-api-errors no" # the suite looks at them itself
    { kit test_ops_ops cuda '!gemm' && kit test_ops_ops cuda gemm ' k=0 '; } 2>&1 | tee "$work/sanitize.log" || code=$?
    if grep -q 'Device not supported' "$work/sanitize.log"; then
        echo "skipped: compute-sanitizer does not support the GPU on this machine"
        return 77
    fi
    return "$code"
}

export -f kit bench peer nccl train find_sanitizer sanitize
export lwmpi mpirun tests work results source_dir gpus own_libraries bundle_libraries

# --- the parts

# The first line of a log that says why.
why() { # LOG REGEX
    grep -m 1 -E -- "$2" "$1" || tail -n 1 "$1"
}

# part NAME LIMIT LEAST COMMAND: its output in $results/NAME.log
part() {
    local name=$1 limit_s=$2 least_s=$3 command=$4 code=0 begin_s=$SECONDS log=$results/$1.log
    local left_s=$((whole_s - SECONDS))
    reserve_s=$((reserve_s - least_s)) # of those after this one
    local most_s=$((left_s - reserve_s))
    [ "$most_s" -ge "$least_s" ] || most_s=$((left_s < least_s ? left_s : least_s))
    [ "$limit_s" -le "$most_s" ] || limit_s=$most_s
    if [ "$limit_s" -le 0 ]; then
        verdict "$name" timeout 0 0 "no time was left"
        return
    fi
    timeout -k 5 "$limit_s" bash -c "set -o pipefail; $command" >"$log" 2>&1 </dev/null &
    child=$! # in the background, so that a signal to this script ends it
    wait "$child" || code=$?
    child=''
    local took_s=$((SECONDS - begin_s))
    case $code in
    0) verdict "$name" passed "$took_s" "$limit_s" '' ;;
    77) verdict "$name" skipped "$took_s" "$limit_s" "$(why "$log" skipped | sed 's/^skipped: //')" ;;
    *)
        if [ "$code" -eq 124 ] || { [ "$code" -eq 137 ] && [ "$took_s" -ge "$limit_s" ]; }; then
            verdict "$name" timeout "$took_s" "$limit_s" "$(tail -n 1 "$log")"
        else
            verdict "$name" failed "$took_s" "$limit_s" \
                "exit code $code: $(why "$log" 'FAILED|lwmpi: |Error|error:|Invalid|hazard')"
            tail -n 15 "$log"
        fi
        ;;
    esac
}

publish
while read -r name _ limit_s least_s command; do
    [[ -n $name && " $names " == *" $name "* ]] || continue
    part "$name" "$limit_s" "$least_s" "$command"
    publish
done <<<"$table"

note "$failures failed or timed out, $skips skipped, in $SECONDS s; everything in $out/all.tar.gz"
finished=true
publish
sed "1,$(wc -l <"$results/notes.txt")d" "$results/summary.txt" # what follows the notes: figures and targets
exit $((failures > 0))
