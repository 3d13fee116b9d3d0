#!/usr/bin/env bash
# `lwmpi verify`: every fixture agrees with transformers, every change of a reference is noticed, bad input is named.
# With LWMPI_DEVICE only the first, on that device: cuda:f32 within the limits of f32, cuda no further off than
# transformers is in bf16 (fixtures/bf16.txt).
. tests/support/shell.sh

fixtures=$LWMPI_SOURCE_DIR/tests/parity/fixtures
device=${LWMPI_DEVICE:-cpu}

# limits FIXTURE: of the errors of loss and gradient. In f32 far inside 1e-4 and 1e-3: the reference is in f64.
limits() {
    if [ "$device" != cuda ]; then
        echo 2e-6 2e-5
    else # a fixture that is not in the list gets the largest of it
        awk -v name="$1" '$1 == name { found = $3 } $3 > most { most = $3 } END { print 5e-3, found ? found : most }' \
            "$fixtures/bf16.txt"
    fi
}

# number KEY FILE: a number of a JSON object on one line.
number() {
    sed -n 's/^{\(.*\)}$/,\1,/; s/.*,"'"$1"'":\([-+0-9.e]*\),.*/\1/p' "$2"
}

# at_most VALUE LIMIT, both numbers
at_most() {
    awk -v value="$1" -v limit="$2" 'BEGIN { exit !(value != "" && value + 0 == value && value <= limit) }'
}

# --- agreement

count=0
for dir in "$fixtures"/*/; do
    name=$(basename "$dir")
    count=$((count + 1))
    got=0
    "$LWMPI_BIN" verify "$dir" "$dir/reference.safetensors" --device "$device" --json \
        >"$scratch/out" 2>"$scratch/err" || got=$?
    if [ "$got" -ne 0 ] && { [ "$device" != cuda ] || [ "$got" -ne 1 ] || ! grep -q '"pass":false}$' "$scratch/out"; }; then
        fail "$name: $(cat "$scratch/err" "$scratch/out")"
        continue
    fi
    read -r loss_limit grad_limit < <(limits "$name")
    [ "$(wc -l <"$scratch/out")" -eq 1 ] || fail "$name: expected one line of JSON, got $(cat "$scratch/out")"
    [ "$got" -ne 0 ] || [ ! -s "$scratch/err" ] || fail "$name: wrote to stderr: $(cat "$scratch/err")"
    loss=$(number loss_relative_error "$scratch/out")
    grad=$(number grad_relative_error "$scratch/out")
    # shellcheck disable=SC2015 # fail comes after either
    at_most "$loss" $loss_limit && at_most "$grad" $grad_limit || fail "$name: $(cat "$scratch/out")"
    [ "$got" -ne 0 ] || grep -q '"pass":true}$' "$scratch/out" || fail "$name: $(cat "$scratch/out")"
    printf '%-24s loss %-22s grad %s\n' "$name" "$loss" "$grad"
done
[ "$count" -ge 19 ] || fail "only $count fixtures in $fixtures"
[ "$device" = cpu ] || finish
"$LWMPI_BIN" verify "$fixtures/qwen2-gqa" "$fixtures/qwen2-gqa/reference.safetensors" --threads=2 >"$scratch/out" ||
    fail "with two threads: $(cat "$scratch/out")"
grep -qx verified "$scratch/out" || fail "not verified: $(cat "$scratch/out")"

# --- disagreement

model=$fixtures/llama-untied
good=$model/reference.safetensors
bad=$scratch/bad.safetensors

# offset_of TENSOR: first byte of its data.
offset_of() {
    local header
    header=$(od -An -tu8 -N8 "$good" | tr -d ' ')
    echo $((8 + header + $(head -c $((8 + header)) "$good" | tail -c "$header" |
        grep -o "\"$1\":{[^}]*\"data_offsets\":\[[0-9]*" | grep -o '[0-9]*$')))
}

# put TENSOR BYTE VALUE...: a copy of the reference with other bytes from byte BYTE of the tensor on.
put() {
    local at value
    at=$(($(offset_of "$1") + $2))
    shift 2
    cp "$good" "$bad"
    for value in "$@"; do
        # shellcheck disable=SC2059 # the format is the byte
        printf "\\x$(printf %02x "$value")" | dd of="$bad" bs=1 seek="$at" conv=notrunc status=none
        at=$((at + 1))
    done
}

byte_of() {
    od -An -tu1 -j$(($(offset_of "$1") + $2)) -N1 "$good" | tr -d ' '
}

# flip TENSOR BYTE MASK: a copy with some bits turned.
flip() {
    put "$1" "$2" $(($(byte_of "$1" "$2") ^ $3))
}

# expect NAME CODE REGEX COMMAND...
expect() {
    local name=$1 code=$2 regex=$3 got=0
    shift 3
    "$@" >"$scratch/out" 2>"$scratch/err" || got=$?
    [ "$got" -eq "$code" ] || fail "$name: exit code $got, expected $code: $(cat "$scratch/out" "$scratch/err")"
    grep -qE -- "$regex" "$scratch/err" || fail "$name: no message matches /$regex/: $(cat "$scratch/err")"
    [ "$(grep -c '^lwmpi: ' "$scratch/err")" -eq 1 ] || fail "$name: not one message: $(cat "$scratch/err")"
}

# differs NAME: what is in $bad is told apart, in words and in JSON.
differs() {
    expect "$1" 1 'llama-untied disagrees with .*bad\.safetensors' "$LWMPI_BIN" verify "$model" "$bad"
    grep -qx 'NOT within tolerance' "$scratch/out" || fail "$1: $(cat "$scratch/out")"
    expect "$1" 1 'disagrees' "$LWMPI_BIN" verify "$model" "$bad" --json
    grep -q '^{.*"pass":false}$' "$scratch/out" || fail "$1: $(cat "$scratch/out")"
}

flip loss 3 0x80
differs "sign of the loss"
flip loss 1 0x10 # bit 12 of 23: 2.4e-4 to 4.9e-4 of it
differs "loss off by 3e-4"
flip loss 1 0x01 # 2^-15 to 2^-16: within 1e-4
"$LWMPI_BIN" verify "$model" "$bad" >"$scratch/out" 2>&1 || fail "a loss off by 2e-5 is within: $(cat "$scratch/out")"
put loss 0 0 0 0xC0 0x7F
differs "loss that is NaN"
put loss 0 0 0 0 0
differs "loss that is 0"
flip grad_prefix 3 0x80
differs "sign of one gradient element"
put grad_prefix 0 0 0 0x80 0x7F
differs "gradient that is infinite"
flip prefix 3 0x80
differs "sign of one prefix element"
put answer_ids 0 $(($(byte_of answer_ids 0) == 7 ? 8 : 7))
differs "another answer token"
put suffix_ids 0 $(($(byte_of suffix_ids 0) == 7 ? 8 : 7))
differs "another suffix token"
expect "another model" 1 'disagrees' "$LWMPI_BIN" verify "$fixtures/llama-bf16" "$good"

# --- bad input

put suffix_ids 0 255 255 255 255
expect "negative suffix id" 1 'bad\.safetensors: suffix_ids\[0\]\[0\] is -1; .*0 to 66' "$LWMPI_BIN" verify "$model" "$bad"
put suffix_ids 4 67 0 0 0
expect "suffix id beyond the vocabulary" 1 'suffix_ids\[0\]\[1\] is 67; .*0 to 66' "$LWMPI_BIN" verify "$model" "$bad"
put answer_ids 0 254 255 255 255
expect "negative answer id" 1 'answer_ids\[0\]\[0\] is -2' "$LWMPI_BIN" verify "$model" "$bad"
put answer_ids 0 255 255 255 255
expect "answer that goes on after -1" 1 'answer_ids\[0\]\[1\] is [0-9]+; .*then -1' "$LWMPI_BIN" verify "$model" "$bad"
put answer_ids 0 0 0 0 128
expect "answer id beyond the vocabulary" 1 'answer_ids\[0\]\[0\] is -2147483648' "$LWMPI_BIN" verify "$model" "$bad"
for tensor in prefix suffix_ids answer_ids loss grad_prefix; do
    LC_ALL=C sed "s/\"$tensor\":/\"${tensor%?}X\":/" "$good" >"$bad"
    expect "without $tensor" 1 "bad\.safetensors: tensor $tensor is missing" "$LWMPI_BIN" verify "$model" "$bad"
done
LC_ALL=C sed 's/"loss":{"dtype":"F32"/"loss":{"dtype":"I32"/' "$good" >"$bad"
expect "loss of another type" 1 'bad\.safetensors.*loss' "$LWMPI_BIN" verify "$model" "$bad"
LC_ALL=C sed 's/"suffix_ids":{"dtype":"I32"/"suffix_ids":{"dtype":"F32"/' "$good" >"$bad"
expect "ids of another type" 1 'tensor suffix_ids must be I32' "$LWMPI_BIN" verify "$model" "$bad"
LC_ALL=C sed 's/"grad_prefix":{"dtype":"F32","shape":\[3,6,32\]/"grad_prefix":{"dtype":"F32","shape":[3,32,6]/' "$good" >"$bad"
expect "gradient of another shape" 1 'grad_prefix' "$LWMPI_BIN" verify "$model" "$bad"
LC_ALL=C sed 's/"answer_ids":{"dtype":"I32","shape":\[3,5\]/"answer_ids":{"dtype":"I32","shape":[5,3]/' "$good" >"$bad"
expect "rows that disagree" 1 'tensor answer_ids must be I32 of 3 rows' "$LWMPI_BIN" verify "$model" "$bad"
expect "another width" 1 'prefix has width 48, the model in .*llama-untied has 32' \
    "$LWMPI_BIN" verify "$model" "$fixtures/qwen2-gqa/reference.safetensors"
head -c 2000 "$good" >"$bad"
expect "truncated" 1 'bad\.safetensors' "$LWMPI_BIN" verify "$model" "$bad"
expect "missing model" 1 "$scratch/none/config\.json" "$LWMPI_BIN" verify "$scratch/none" "$good"
expect "missing reference" 1 "$scratch/none: .*No such file" "$LWMPI_BIN" verify "$model" "$scratch/none"
expect "unknown device" 2 '[-]-device tpu: cpu, cuda or cuda:f32' "$LWMPI_BIN" verify "$model" "$good" --device tpu
if "$LWMPI_BIN" --version | grep -q 'backends: cpu$'; then
    expect "cuda without the backend" 1 'device "cuda" is not compiled' "$LWMPI_BIN" verify "$model" "$good" --device cuda
fi
expect "one argument" 2 'MODEL_DIR and REFERENCE' "$LWMPI_BIN" verify "$model"
expect "three arguments" 2 'MODEL_DIR and REFERENCE' "$LWMPI_BIN" verify "$model" "$good" "$good"
expect "no threads" 2 '[-]-threads 0' "$LWMPI_BIN" verify "$model" "$good" --threads 0
expect "unknown option" 2 '[-]-tolerance' "$LWMPI_BIN" verify "$model" "$good" --tolerance 1
finish
