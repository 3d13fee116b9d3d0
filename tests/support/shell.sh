# shellcheck shell=bash
# What the shell tests share. Source it:  . tests/support/shell.sh
#
# $scratch is an empty folder that goes when the test ends. A test calls `fail` for what is wrong and ends in `finish`.

set -u
failures=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# shellcheck disable=SC2206 # the launcher is a list of words
launcher=($LWMPI_MPIEXEC)

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

finish() {
    [ "$failures" -eq 0 ] && echo "passed in $SECONDS s"
    exit $((failures > 0))
}

# ranks N COMMAND...: under the launcher, or alone for N = 0.
ranks() {
    local n=$1
    shift
    if [ "$n" -eq 0 ]; then
        "$@"
    else
        "${launcher[@]}" -np "$n" "$@"
    fi
}

# Data plane of two ranks with GPUs. Ranks that share a real one (LWMPI_GPUS: how many there are) sum through the host.
gpu_backend=auto
# shellcheck disable=SC2034 # for the tests
[ "${LWMPI_GPUS:-2}" -ge 2 ] || gpu_backend=mpi

# small_job FOLDER: arguments of a training run of some seconds at most, on the embedded models: 80 samples in steps of
# 7, so that the shares of the ranks are uneven, and the last step of 3 leaves ranks without a sample. What tiny.cfg
# may choose otherwise some day is fixed here.
small_job() {
    printf '%s\n' "$LWMPI_SOURCE_DIR/configs/tiny.cfg" run.dir="$1" device=cpu threads=1 batch.global=7 \
        wire.latents=8 wire.d_z=32 encoder.layers=1 encoder.width=32 encoder.heads=4 encoder.ffn=64 \
        pooler.kind=queries pooler.layers=1 pooler.heads=4 pooler.ffn=64 adapter.hidden=32 loss.first_weight=1.0 \
        data.samples=80 data.eval_samples=10 train.epochs=1 train.lr=3e-3 train.beta2=0.98 train.warmup=0.2 \
        eval.max_new_tokens=4 eval.batch=3 eval.every_steps=0 log.every_steps=1 checkpoint.every_steps=4
}

# metrics FILE KEY...: the named numbers of every row.
metrics() {
    local file=$1
    shift
    sed 's/[{}"]//g; s/, /\n/g; s/$/\n;/' "$file" | awk -v keys="$*" '
        BEGIN { n = split(keys, key, " ") }
        /^;/ { line = ""; for (i = 1; i <= n; i++) line = line (i > 1 ? " " : "") (key[i] in v ? v[key[i]] : "missing")
               print line; split("", v); next }
        { split($0, pair, ": "); v[pair[1]] = pair[2] }'
}

# same_numbers NAME TOLERANCE FILE_A FILE_B: tables of the same shape, each number equal to rounding.
same_numbers() {
    local out code=0
    out=$(awk -v tolerance="$2" '
        function abs(x) { return x < 0 ? -x : x }
        FNR == 1 { file++ }
        file == 1 { a[FNR] = $0; rows_a = FNR; next }
        { rows_b = FNR
          n = split(a[FNR], x, " ")
          if (n != NF) { print "row " FNR ": " n " and " NF " numbers"; exit }
          for (i = 1; i <= NF; i++) {
              larger = abs(x[i]) > abs($i) ? abs(x[i]) : abs($i)
              if (x[i] !~ /^[-+0-9.e]+$/ || $i !~ /^[-+0-9.e]+$/ || abs(x[i] - $i) > tolerance * larger) {
                  print "row " FNR ", column " i ": " x[i] " and " $i " (tolerance " tolerance ")"; exit }
              if (larger > 0 && abs(x[i] - $i) / larger > worst) worst = abs(x[i] - $i) / larger } }
        END { if (rows_a != rows_b) print rows_a + 0 " and " rows_b + 0 " rows"
              else print "worst " worst + 0 > "/dev/stderr" }' "$3" "$4" 2>"$scratch/.worst") || code=$?
    if [ -n "$out" ] || [ "$code" -ne 0 ]; then
        fail "$1: ${out:-$(cat "$scratch/.worst")}"
    else
        echo "ok: $1 ($(cat "$scratch/.worst"))"
    fi
}

# same_bytes NAME FILE_A FILE_B
same_bytes() {
    if cmp "$2" "$3"; then
        echo "ok: $1"
    else
        fail "$1: $2 and $3 differ"
    fi
}

# start_job NAME RANKS [KEY=VALUE...]: the small job in $scratch/NAME, in the background; $job is its process. RANKS 0:
# without a launcher.
start_job() {
    local name=$1 n=$2 words
    shift 2
    mapfile -t words < <(small_job "$scratch/$name")
    words+=("$@")
    if [ "$n" -gt 0 ]; then
        "${launcher[@]}" -np "$n" "$LWMPI_BIN" train "${words[@]}" >"$scratch/$name.out" 2>&1 &
    else
        "$LWMPI_BIN" train "${words[@]}" >"$scratch/$name.out" 2>&1 &
    fi
    job=$!
}

# ended NAME CODE: waits for it and checks how it ended.
ended() {
    local got=0
    wait "$job" 2>/dev/null || got=$?
    if [ "$got" -ne "$2" ]; then
        fail "$1: exit code $got, expected $2"
        tail -n 15 "$scratch/$1.out"
    fi
}
