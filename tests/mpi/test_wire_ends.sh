#!/bin/bash
# The two ends of a wire in two processes: what `lwmpi encode` sends and `lwmpi answer` reads gives the answers of
# `lwmpi eval`, whole and quantised; what does not belong together is refused; exported parameters.
. tests/support/shell.sh

mapfile -t job < <(small_job "$scratch/run")
job+=(train.epochs=6 checkpoint.every_steps=40 checkpoint.keep=5)
texts=$scratch/texts.jsonl
head -10 configs/tiny/eval.jsonl >"$texts"

# say WHAT COMMAND...: runs it, stdout to $scratch/WHAT.
say() {
    local what=$1
    shift
    "$@" >"$scratch/$what" 2>"$scratch/err" && return
    fail "$what: $(cat "$scratch/err")"
}

# refuse CODE PATTERN COMMAND...
refuse() {
    local wanted=$1 pattern=$2 code=0
    shift 2
    "$@" >"$scratch/out" 2>"$scratch/err" || code=$?
    [ "$code" -eq "$wanted" ] || fail "$*: exit code $code, not $wanted"
    grep -q -- "$pattern" "$scratch/err" || fail "$*: does not say \"$pattern\": $(cat "$scratch/err")"
}

encode() {
    "$LWMPI_BIN" encode "${job[@]}" "$@"
}
answer() {
    "$LWMPI_BIN" answer "${job[@]}" "$@"
}

# evaluated SYSTEM MODEL, received FILE MODEL: the answers, a line each.
evaluated() {
    awk -v key="\"$1\": {" -v model="\"$2\": {\"answer\": " '{
        rest = substr($0, index($0, key) + length(key))
        rest = substr(rest, index(rest, model) + length(model))
        match(rest, /^"([^"\\]|\\.)*"/)
        print substr(rest, RSTART, RLENGTH) }' "$scratch/predictions.jsonl"
}
received() {
    awk -v model="\"$2\":" '{
        rest = substr($0, index($0, "\"answers\":{"))
        rest = substr(rest, index(rest, model) + length(model))
        match(rest, /^"([^"\\]|\\.)*"/)
        print substr(rest, RSTART, RLENGTH) }' "$scratch/$1"
}

say log "$LWMPI_BIN" train "${job[@]}" eval.at_end=false
say table "$LWMPI_BIN" eval "${job[@]}" eval.quantise=true eval.bootstrap=0 --predictions "$scratch/predictions.jsonl"

# --- the same answers
say whole encode <"$texts"
say coarse encode --bits 4 <"$texts"
say whole.answers answer <"$scratch/whole"
say coarse.answers answer --wires "$scratch/coarse" --tokens
different=0
for model in llama qwen; do
    for pair in latent:whole.answers latent_4bit:coarse.answers; do
        evaluated "${pair%%:*}" "$model" >"$scratch/a"
        received "${pair##*:}" "$model" >"$scratch/b"
        [ "$(wc -l <"$scratch/a")" -eq 10 ] || fail "predictions of ${pair%%:*}: $(wc -l <"$scratch/a")"
        same_bytes "$model: $pair" "$scratch/a" "$scratch/b"
        different=$((different + $(sort -u "$scratch/a" | wc -l)))
    done
done
[ "$different" -ge 8 ] || fail "the answers hardly differ, so that equal ones say nothing"
grep -q '"tokens":{"llama":\[' "$scratch/coarse.answers" || fail "--tokens shows none"
[ "$(wc -c <"$scratch/coarse")" -lt "$(wc -c <"$scratch/whole")" ] || fail "4 bits are not smaller than 32"

# --- through a pipe; the order of the questions is the asker's
encode --bits 16 <"$texts" 2>"$scratch/err" | answer >"$scratch/piped" 2>>"$scratch/err" || fail "pipe: $(cat "$scratch/err")"
same_bytes "through a pipe in 16 bits" "$scratch/whole.answers" "$scratch/piped"
awk '{ print "{\"id\": " NR ", " substr($0, 2) }' "$texts" | tac >"$scratch/asked"
say backwards answer --wires "$scratch/whole" --questions "$scratch/asked"
tac "$scratch/backwards" >"$scratch/forwards"
same_bytes "questions by id" "$scratch/whole.answers" "$scratch/forwards"

# --- neither end needs the other's models; without a question there is no answer
mkdir "$scratch/elsewhere"
say alone encode models.llama.path="$scratch/elsewhere" models.qwen.path="$scratch/elsewhere" <"$texts"
same_bytes "a sender without the models" "$scratch/whole" "$scratch/alone"
sed 's/"question"/"other"/' "$texts" | encode >"$scratch/mute" 2>"$scratch/err" || fail "context alone: $(cat "$scratch/err")"
refuse 1 'give --questions FILE' answer --wires "$scratch/mute"

# --- what does not belong together
first=$(printf '%s\n' "$scratch"/run/checkpoints/step-* | head -1)
refuse 2 'from another encoder' answer --checkpoint "$first" --wires "$scratch/whole"
refuse 2 'wire.d_z: 32 before, 16 now' encode wire.d_z=16 <"$texts"
refuse 2 'prompt.context: ' encode prompt.context="Text: {context}" <"$texts"
refuse 2 'adapter.embedding_scale: true before, false now' answer adapter.embedding_scale=false --wires "$scratch/whole"
say despite answer adapter.embedding_scale=false run.accept_changes=true --wires "$scratch/whole"
refuse 2 'its weights' answer models.llama.path=configs/tiny/qwen --wires "$scratch/whole"
refuse 1 'not a wire file' answer --wires configs/tiny/llama/model.safetensors
refuse 1 'stdin:2:' encode < <(head -1 "$texts" && echo '{"context": 3}')
refuse 1 'have the id "7"' encode < <(sed 's/{/{"id": "7", /' "$texts")
refuse 2 'bits' encode --bits 5 <"$texts"
refuse 2 'without mpirun' ranks 2 "$LWMPI_BIN" encode "${job[@]}" <"$texts"
head -c 2000 "$scratch/whole" >"$scratch/cut"
refuse 1 'cut' answer --wires "$scratch/cut"

# --- exported parameters: those of the checkpoint, without Adam's moments
say export "$LWMPI_BIN" checkpoint "$scratch/run" --export "$scratch/trainables.safetensors"
grep -qa '"adapter.llama.gain"' "$scratch/trainables.safetensors" || fail "the export lacks adapter.llama.gain"
grep -qa 'adam_' "$scratch/trainables.safetensors" && fail "the export holds Adam's moments"
finish
