#!/usr/bin/env bash
# Bad input: one clear message that names file, line or key and what to do, the right exit code, at most some seconds,
# and nothing half-made left behind. A table; each case is refused by the program alone or by all ranks together.
. tests/support/shell.sh

tiny=$LWMPI_SOURCE_DIR/configs/tiny
run=$scratch/run
limit_s=10
[ "${LWMPI_SANITIZED:-0}" = 1 ] && limit_s=60
cases=0

# refuse NAME RANKS CODE REGEX COMMAND...
refuse() {
    local name=$1 n=$2 code=$3 regex=$4 got=0 begin=$SECONDS voices
    shift 4
    cases=$((cases + 1))
    ranks "$n" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null || got=$?
    [ "$got" -eq "$code" ] || fail "$name: exit code $got, expected $code"
    grep -qE -- "$regex" "$scratch/err" || fail "$name: no message matches /$regex/"
    voices=$(grep -c '^lwmpi: ' "$scratch/err")
    [ "$voices" -eq 1 ] || fail "$name: $voices messages, expected one"
    [ $((SECONDS - begin)) -le "$limit_s" ] || fail "$name: took $((SECONDS - begin)) s"
    [ -z "$(find "$scratch" -name '*.tmp*')" ] || fail "$name: left $(find "$scratch" -name '*.tmp*')"
    [ -z "$(find "$run" -name 'step-*' 2>/dev/null)" ] || fail "$name: left a checkpoint"
    [ ! -s "$scratch/out" ] || fail "$name: wrote to stdout: $(head -c 200 "$scratch/out")"
    if [ "$failures" -gt "${shown:-0}" ]; then
        shown=$failures
        head -c 1500 "$scratch/err"
    fi
    rm -rf "$run"
}

# train NAME RANKS CODE REGEX [KEY=VALUE...]: the small job with something wrong in it.
train() {
    local name=$1 n=$2 code=$3 regex=$4 job
    shift 4
    mapfile -t job < <(small_job "$run")
    refuse "$name" "$n" "$code" "$regex" "$LWMPI_BIN" train "${job[@]}" "$@"
}

# config NAME CODE REGEX TEXT: a configuration file; `printf` expands the text.
config() {
    # shellcheck disable=SC2059
    printf "$4" >"$scratch/bad.cfg"
    refuse "$1" 0 "$2" "$3" "$LWMPI_BIN" train "$scratch/bad.cfg" run.dir="$run"
}

# --- configuration

good='models = ( { name = "a"; path = "'$tiny/llama'"; } );\ndata: { train = "'$tiny/train.jsonl'"; };\n'
train "unknown key" 2 2 'override .*train\.learning_rate' train.learning_rate=1
train "misspelt key" 0 2 'train\.epoch.*train\.epochs' train.epoch=3
train "mistyped number" 0 2 'train\.epochs.*integer' train.epochs=many
train "out of range" 0 2 'train\.lr.*\[0, 100\]' train.lr=-1
train "another word" 0 2 'encoder\.kind.*"byte"' encoder.kind=rnn
config "syntax" 2 'bad\.cfg:3: ' "$good"'batch = ;\n'
config "misspelt key in a file" 2 'bad\.cfg:3: .*batch\.gloabl.*batch\.global' "$good"'batch: { gloabl = 3; };\n'
config "wrong type in a file" 2 'bad\.cfg:3: .*batch\.global.*integer' "$good"'batch: { global = "x"; };\n'
config "no batch size" 2 'batch\.global.*batch\.per_rank' "$good"
config "no models" 2 'models = ' 'batch: { global = 3; };\n'
config "no training data" 2 'data\.train' "${good%data*}"'batch: { global = 3; };\n'
config "empty file" 2 'models' ''
refuse "missing configuration" 2 2 'absent\.cfg.*No such file' "$LWMPI_BIN" train "$scratch/absent.cfg"
refuse "a folder as configuration" 0 2 'tiny.*folder|tiny.*directory' "$LWMPI_BIN" train "$tiny"
refuse "an unknown command" 0 2 'trian.*train' "$LWMPI_BIN" trian
refuse "an unknown option" 0 2 '[-]-jsn' "$LWMPI_BIN" eval --jsn
train "heads that do not divide" 0 2 'encoder\.heads.*encoder\.width' encoder.heads=7
train "template without its placeholder" 0 2 'prompt\.question.*\{question\}' prompt.question=x
train "two batch sizes" 0 2 'batch\.global.*batch\.per_rank' batch.per_rank=2 batch.global=3

# --- not in this build

train "distillation without a position" 0 2 'loss\.kd_weight.*set loss\.k' loss.kd_weight=0.5 loss.k=0
train "bert encoder without a directory" 0 2 'encoder\.kind.*"bert" needs encoder\.path' encoder.kind=bert
if "$LWMPI_BIN" --version | grep -q 'cuda.*not compiled\|backends: cpu$'; then
    train "cuda without the backend" 0 1 'cuda.*(not compiled|LWMPI_CUDA)' device=cuda
fi

# --- models

train "missing model" 2 1 "model \"llama\": .*$scratch/none" models.llama.path="$scratch/none"
model() { # a fresh copy in $scratch/model
    rm -rf "$scratch/model"
    cp -r "$tiny/llama" "$scratch/model"
}
edit() { # SED-EXPRESSION: config.json of the copy
    model
    sed -i "$1" "$scratch/model/config.json"
    cmp -s "$scratch/model/config.json" "$tiny/llama/config.json" && fail "edit $1 changed nothing"
}
broken() { # NAME CODE REGEX
    train "$1" 0 "$2" "$3" models.llama.path="$scratch/model"
}
model
rm "$scratch/model/tokenizer.json"
broken "missing tokenizer.json" 1 'model/tokenizer\.json.*No such file'
model
rm "$scratch/model/config.json"
broken "missing config.json" 1 'model/config\.json.*No such file'
model
rm "$scratch/model/model.safetensors"
broken "missing weights" 1 'model.*model\.safetensors'
model
printf '{"model_type": "llama",' >"$scratch/model/config.json"
broken "torn config.json" 1 'model/config\.json.*line 1'
model
truncate -s 1000 "$scratch/model/tokenizer.json"
broken "torn tokenizer.json" 1 'model/tokenizer\.json.*line [0-9]+'
edit 's/"vocab_size": *[0-9]*/"vocab_size": 300/'
broken "tokenizer larger than the vocabulary" 1 'model.*tokenizer\.json has ids up to [0-9]+.*vocab_size 300'
edit 's/"model_type": *"llama"/"model_type": "gemma2"/; s/LlamaForCausalLM/MistralForCausalLM/'
broken "another architecture" 1 'model/config\.json.*gemma2'
edit 's/^{/{ "quantization_config": {"quant_method": "gptq", "bits": 4},/'
broken "quantised weights" 1 'model/config\.json.*quantization_config'
edit 's/^{/{ "sliding_window": 16, "use_sliding_window": true, "max_window_layers": 0,/; s/"model_type": *"llama"/"model_type": "qwen2"/; s/LlamaForCausalLM/Qwen2ForCausalLM/'
broken "sliding window in use" 1 'model/config\.json.*sliding_window'
edit 's/"rope_type": *"llama3"/"rope_type": "yarn"/'
broken "unknown RoPE" 1 'model/config\.json.*yarn'
edit 's/"hidden_size": *[0-9]*/"hidden_size": -4/'
broken "negative shape" 1 'model/config\.json.*hidden_size'
edit 's/"hidden_size": *[0-9]*/"hidden_size": 64/'
broken "another width" 1 '/model.*tensor model\.embed_tokens\.weight has shape \([0-9]+, [0-9]+\), expected \([0-9]+, 64\)'
edit 's/"num_hidden_layers": *[0-9]*/"num_hidden_layers": 9/'
broken "missing layers" 1 '/model: tensor model\.layers\.[3-8]\..* is missing'

# A final norm that is finite, but whose product is not: steps are skipped, then the run ends, with one voice.
model
header=$(od -An -tu8 -N8 "$scratch/model/model.safetensors" | tr -d ' ')
at=$(head -c $((8 + header)) "$scratch/model/model.safetensors" | tail -c "$header" |
    grep -o '"model.norm.weight":{[^}]*"data_offsets":\[[0-9]*' | grep -o '[0-9]*$')
printf '\x7f\x7f\x7f\xff\x7f\x7f\x7f\xff' |
    dd of="$scratch/model/model.safetensors" bs=1 seek=$((8 + header + at)) conv=notrunc status=none
train "numbers that overflow" 2 1 '3 steps in a row had a loss or gradient that is not finite.*train\.max_skipped' \
    models.llama.path="$scratch/model" train.max_skipped=3
printf '\xff\xff\xff\xff' | dd of="$scratch/model/model.safetensors" bs=1 seek=$((8 + header + at)) conv=notrunc status=none
broken "weights that are not finite" 1 'model.*tensor model\.norm\.weight.*non-finite'

# --- safetensors

le64() { # NUMBER as eight little-endian bytes
    local i n=$1
    for i in 0 8 16 24 32 40 48 56; do
        # shellcheck disable=SC2059
        printf "\\x$(printf %02x $(((n >> i) & 255)))"
    done
}
weights() { # HEADER DATA_BYTES [HEADER_LENGTH]: model.safetensors of a fresh copy
    model
    {
        le64 "${3:-${#1}}"
        printf '%s' "$1"
        head -c "$2" /dev/zero
    } >"$scratch/model/model.safetensors"
}
model
size=$(stat -c %s "$scratch/model/model.safetensors")
truncate -s $((size - 4)) "$scratch/model/model.safetensors"
train "truncated weights" 2 1 'model\.safetensors.*(truncated|shorter|beyond|exceed|ends|outside|holds)' \
    models.llama.path="$scratch/model"
truncate -s 5 "$scratch/model/model.safetensors"
broken "weights of five bytes" 1 'model\.safetensors'
: >"$scratch/model/model.safetensors"
broken "empty weights" 1 'model\.safetensors'
weights '{}' 0 1000000
broken "header longer than the file" 1 'model\.safetensors.*header'
weights '{}' 0 9223372036854775807
broken "header of 2^63 - 1 bytes" 1 'model\.safetensors.*header'
weights '{}' 0 -1
broken "header of 2^64 - 1 bytes" 1 'model\.safetensors.*header'
weights '{"a": [' 0
broken "header that is no JSON" 1 'header.*model\.safetensors.*JSON'
weights '[]' 0
broken "header that is no object" 1 'model\.safetensors.*header'
weights '{}' 0
broken "no tensors" 1 '/model: tensor model\..* is missing'
weights '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}' 12
broken "overlapping tensors" 1 'model\.safetensors.*tensors a and b overlap'
weights '{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}' 8
broken "offsets outside" 1 'model\.safetensors.*tensor "?a"?'
weights '{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}' 8
broken "offsets the wrong way round" 1 'model\.safetensors.*tensor "?a"?'
weights '{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}' 8
broken "negative offsets" 1 'model\.safetensors.*tensor "?a"?'
weights '{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}' 8
broken "shape and bytes disagree" 1 'model\.safetensors.*tensor "?a"?'
weights '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}' 8
broken "shape that overflows" 1 'model\.safetensors.*tensor "?a"?'
weights '{"a":{"dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8]}}' 8
broken "shape whose bytes overflow" 1 'model\.safetensors.*tensor "?a"?'
model
rm "$scratch/model/model.safetensors"
printf '{"weight_map": {"model.norm.weight": "../llama/model.safetensors"}}' \
    >"$scratch/model/model.safetensors.index.json"
broken "a shard outside the directory" 1 'index\.json.*\.\./llama'
printf '{"weight_map": {"model.norm.weight": "absent.safetensors"}}' >"$scratch/model/model.safetensors.index.json"
broken "a missing shard" 1 'absent\.safetensors'

# --- data

rows() { # N: good rows
    head -n "$1" "$tiny/train.jsonl"
}
train "missing data" 2 1 "$scratch/none\.jsonl.*No such file" data.train="$scratch/none.jsonl"
train "missing evaluation data" 0 1 "$scratch/none\.jsonl.*No such file" data.eval="$scratch/none.jsonl"
{ rows 3; echo '{"context": "x", "question": "y", "answers": ["z"]'; rows 9; } >"$scratch/data.jsonl"
train "torn row" 2 1 'data\.jsonl:4: ' data.train="$scratch/data.jsonl"
{ rows 3; echo '{"context": "x", "question": "y", "answers": []}'; rows 9; } >"$scratch/data.jsonl"
train "no answers" 0 1 'data\.jsonl:4: .*answer' data.train="$scratch/data.jsonl"
{ rows 3; echo '{"context": "x", "question": "y", "answers": [""]}'; rows 9; } >"$scratch/data.jsonl"
train "empty answer" 0 1 'data\.jsonl:4: .*answer' data.train="$scratch/data.jsonl"
{ rows 3; echo '{"context": "x", "answers": ["z"]}'; rows 9; } >"$scratch/data.jsonl"
train "no question" 0 1 'data\.jsonl:4: .*question' data.train="$scratch/data.jsonl"
{ rows 3; printf '{"context": "\xff", "question": "y", "answers": ["z"]}\n'; rows 9; } >"$scratch/data.jsonl"
train "not UTF-8" 0 1 'data\.jsonl:4: .*UTF-8' data.train="$scratch/data.jsonl"
{ rows 3; echo nonsense; echo more; rows 9; } >"$scratch/data.jsonl"
train "more bad rows than tolerated" 0 1 'data\.jsonl:4: .*max_bad_rows' data.train="$scratch/data.jsonl" data.max_bad_rows=1
mapfile -t job < <(small_job "$run")
if ! "$LWMPI_BIN" train "${job[@]}" data.train="$scratch/data.jsonl" data.max_bad_rows=2 eval.at_end=false \
    >"$scratch/out" 2>&1 || ! grep -q '2 malformed rows passed over; the first: .*data\.jsonl:4: ' "$scratch/out"; then
    fail "two bad rows are tolerated, and told"
    cat "$scratch/out"
fi
rm -rf "$run"
: >"$scratch/data.jsonl"
train "no samples" 2 2 'data\.jsonl.*(no sample|holds no)' data.train="$scratch/data.jsonl"
train "no evaluation samples" 0 2 'data\.jsonl.*(no sample|holds no)' data.eval="$scratch/data.jsonl"
train "a folder as data" 0 1 'tiny/llama.*directory' data.train="$tiny/llama"
train "JSONL as SQuAD" 0 1 'train\.jsonl' data.format=squad

# --- ranks

train "more ranks than samples" 3 2 '3 ranks for 2 training samples' data.samples=2
train "fewer samples in a step than ranks" 3 2 'batch\.global = 2 .*3 ranks' batch.global=2
slurm=(env SLURM_JOB_ID=1 SLURM_NTASKS=2 SLURM_PROCID=0 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2)
mapfile -t job < <(small_job "$run")
refuse "srun without PMI" 0 1 'srun --mpi=pmix' "${slurm[@]}" "$LWMPI_BIN" train "${job[@]}"
refuse "srun without PMI, as the issue has it" 0 1 'srun --mpi=pmix' \
    env SLURM_NTASKS=2 SLURM_PROCID=0 SLURM_STEP_ID=0 "$LWMPI_BIN" train "${job[@]}"

# --- run directory

echo "not a directory" >"$scratch/file"
train "run directory under a file" 2 2 "run\.dir = \"$scratch/file/run\".*run\.dir=PATH" run.dir="$scratch/file/run"
train "run directory that is a file" 0 2 "run\.dir = \"$scratch/file\"" run.dir="$scratch/file"
train "unwritable run directory" 0 2 'run\.dir = "/proc/lwmpi/run"' run.dir=/proc/lwmpi/run
mkdir "$run"
(
    exec 9>>"$run/lock"
    flock 9
    echo "host elsewhere, pid 77, since yesterday" >"$run/lock"
    touch "$scratch/locked"
    exec sleep 60
) &
holder=$!
until [ -e "$scratch/locked" ]; do sleep 0.01; done
train "a second job in the run directory" 2 2 'another job is using it: host elsewhere, pid 77' # removes the folder
kill "$holder"
mkdir -p "$run/metrics.jsonl"
train "a folder in the place of metrics.jsonl" 0 1 'metrics\.jsonl.*directory'

# --- eval, tokenize

refuse "eval without a checkpoint" 2 2 "$run.*checkpoint" "$LWMPI_BIN" eval "${job[@]}"
refuse "eval of a folder that is none" 0 2 "configs/tiny.*checkpoint" "$LWMPI_BIN" eval "${job[@]}" --checkpoint "$tiny"
refuse "eval of a missing folder" 0 2 "$scratch/none" "$LWMPI_BIN" eval "${job[@]}" --checkpoint "$scratch/none"
tokenize() { # NAME CODE REGEX INPUT
    printf '%b' "$4" >"$scratch/in"
    refuse "$1" 0 "$2" "$3" bash -c "\"\$1\" tokenize \"\$2\" <\"\$3\" >/dev/null" - "$LWMPI_BIN" "$tiny/llama" \
        "$scratch/in"
}
tokenize "tokenize: a line that is no JSON" 1 'line 2|:2: ' '{"text": "a"}\nnonsense\n'
tokenize "tokenize: no text" 1 '(line 1|:1: ).*text' '{"txt": "a"}\n'
tokenize "tokenize: text that is no string" 1 '(line 1|:1: ).*text' '{"text": 7}\n'
tokenize "tokenize: not UTF-8" 1 '(line 1|:1: )' '{"text": "\xff"}\n'
refuse "tokenize without a model" 0 2 'MODEL_DIR' "$LWMPI_BIN" tokenize
refuse "tokenize with a missing model" 0 1 "$scratch/none: .*No such file" \
    "$LWMPI_BIN" tokenize "$scratch/none"

echo "$cases cases"
finish
