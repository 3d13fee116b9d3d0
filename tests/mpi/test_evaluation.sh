#!/bin/bash
# Evaluation: 32 items are learned by heart (a gate: encoder, adapters and losses can carry them at all); predictions at
# any rank count and their agreement with the figures; the quantised wire; fewer latents; the joint choice; comparison of
# two runs.
. tests/support/shell.sh

items=32
mapfile -t job < <(small_job "$scratch/heart")
job+=(data.samples=$items data.eval_samples=$items data.eval="$LWMPI_SOURCE_DIR/configs/tiny/train.jsonl"
    batch.global=16 eval.batch=7 log.every_steps=100 checkpoint.every_steps=0)

# evaluate NAME RANKS WORDS...: table or JSON to $scratch/NAME.
evaluate() {
    local name=$1 n=$2
    shift 2
    ranks "$n" "$LWMPI_BIN" eval "${job[@]}" "$@" >"$scratch/$name" 2>"$scratch/err" && return
    fail "$name: eval ended with an error"
    cat "$scratch/err"
}

# refuse NAME CODE PATTERN WORDS...
refuse() {
    local name=$1 wanted=$2 pattern=$3 code=0
    shift 3
    "$LWMPI_BIN" eval "${job[@]}" "$@" >"$scratch/out" 2>"$scratch/err" || code=$?
    [ "$code" -eq "$wanted" ] || fail "$name: exit code $code, not $wanted"
    grep -qE -- "$pattern" "$scratch/err" || fail "$name: does not say \"$pattern\": $(cat "$scratch/err")"
}

# column MODEL INPUT N: a number of the table.
column() {
    awk -v model="$1" -v input="$2" -v n="$3" '$1 == model && $2 == input { print $n }' "$scratch/table"
}

# holds CONDITION: of awk, on numbers.
holds() {
    awk "BEGIN { exit !($1) }"
}

if ! "$LWMPI_BIN" train "${job[@]}" train.epochs=100 eval.bootstrap=50 >"$scratch/log" 2>&1; then
    fail "training ended with an error"
    cat "$scratch/log"
fi

# --- learned by heart, and read from the wire
evaluate table 0 eval.quantise=true eval.curve=true eval.bootstrap=0 --predictions "$scratch/all.jsonl"
for model in llama qwen; do
    [ "$(column $model latent 4)" = 1.000 ] || fail "$model: F1 of $items items learned by heart is $(column $model latent 4)"
    holds "$(column $model shuffled 4) < 0.3" || fail "$model: F1 with other latents is $(column $model shuffled 4)"
    # --- the quantised wire: 16 bits change nothing to speak of, 4 bits do
    holds "($(column $model latent 5) - $(column $model latent_16bit 5)) ^ 2 < 1e-4" || fail "$model: 16 bits change the loss"
    [ "$(column $model latent_8bit 4)" = 1.000 ] || fail "$model: 8 bits change the answers"
    # --- fewer latents
    [ -n "$(column $model latent_m1 4)" ] && [ -n "$(column $model latent_m4 4)" ] && [ -z "$(column $model latent_m8 4)" ] ||
        fail "$model: the curve is not of 1, 2 and 4 latents"
    holds "$(column $model latent_m1 5) > $(column $model latent 5)" || fail "$model: one latent of eight does as well as all"
    [ "$(grep -c '"latent_4bit"' "$scratch/all.jsonl")" -eq $items ] || fail "predictions lack a system"
done
grep -o '"latent_4bit": {"llama": {[^}]*"nll": [^,]*' "$scratch/all.jsonl" | sed 's/.*: //' >"$scratch/four"
grep -o '"latent": {"llama": {[^}]*"nll": [^,]*' "$scratch/all.jsonl" | sed 's/.*: //' >"$scratch/whole"
cmp -s "$scratch/four" "$scratch/whole" && fail "4 bits a number change no loss"
evaluate json 0 eval.quantise=true eval.curve=true eval.bootstrap=20 --json
grep -oE '"wire_bytes": [0-9.]+' "$scratch/json" | sed 's/.*: //' | tr '\n' ' ' >"$scratch/bytes"
# quantised: 16, 8, 6, 4 bits of 8 latents x 32; curve: 1, 2, 4, 8 latents in 16 bits
[ "$(cat "$scratch/bytes")" = "512.0 272.0 208.0 144.0 64.0 128.0 256.0 512.0 " ] || fail "bytes: $(cat "$scratch/bytes")"

# --- a checkpoint means something with its own configuration and models alone
cp -r configs/tiny/llama "$scratch/changed"
cp configs/tiny/qwen/tokenizer.json "$scratch/changed/" 2>/dev/null
refuse "another prompt" 2 'prompt.question: .* before, .* now' prompt.question="Ask: {question}"
refuse "another tokenizer" 2 'models\[0\] "llama": another tokenizer' models.llama.path="$scratch/changed"
evaluate despite 0 prompt.anchor="Say:" run.accept_changes=true eval.bootstrap=0
grep -q 'prompt.anchor: .*' "$scratch/err" || fail "accepted changes are not told: $(cat "$scratch/err")"

# --- predictions: the same bytes at any rank count, and those of the end of training; their means are the figures
[ "$(wc -l <"$scratch/heart/predictions.jsonl")" -eq $items ] || fail "predictions.jsonl has not one line per sample"
for n in 0 2 3; do
    evaluate "plain$n" "$n" eval.bootstrap=50 --json --predictions "$scratch/p$n"
    same_bytes "predictions at $n ranks" "$scratch/p$n" "$scratch/heart/predictions.jsonl"
    grep -v '"wall_s"' "$scratch/plain$n" >"$scratch/plain$n.figures"
    same_bytes "figures and intervals at $n ranks" "$scratch/plain$n.figures" "$scratch/plain0.figures"
done
# of_system SYSTEM MODEL KEY: a number of every line of predictions.
of_system() {
    sed -E "s/.*\"$1\": \{(\"llama\": \{[^}]*\}, \"qwen\": \{[^}]*\})\}.*/\1/
        s/.*\"$2\": \{([^}]*)\}.*/\1/; s/.*\"$3\": ([^,]*).*/\1/" "$scratch/p0"
}
# figure MODEL SYSTEM KEY: of eval.json.
figure() {
    sed '1,/^  "models"/d' "$scratch/plain0" | sed "0,/^    \"$1\"/d" | sed "0,/^      \"$2\"/d" |
        sed -n "s/^ *\"$3\": \([^,]*\),*$/\1/p" | head -1
}
for model in llama qwen; do
    of_system shuffled $model f1 | awk '{ s += $1 } END { printf "%.12g\n", s / NR }' >"$scratch/a"
    paste <(of_system shuffled $model nll) <(of_system shuffled $model answer_tokens) |
        awk '{ s += $1; n += $2 } END { printf "%.12g\n", s / n }' >>"$scratch/a"
    { figure $model shuffled f1; figure $model shuffled nll_per_answer_token; } >"$scratch/b"
    same_numbers "$model: means over predictions.jsonl and eval.json" 1e-9 "$scratch/a" "$scratch/b"
done

# --- joint choice: all answers are gold here, so what a reader gives each of them is the loss of its own gold answer, also
# where the answer was written in another model's tokens
# log_probability FILE AUTHOR READER: a number of every line.
log_probability() {
    sed -E "s/.*\"log_probability\": \{//; s/.*\"$2\": \{([^}]*)\}.*/\1/; s/.*\"$3\": ([^,]*).*/\1/" "$1"
}
for author in llama qwen; do
    for reader in llama qwen; do
        log_probability "$scratch/p0" $author $reader | sed 's/^-//' >"$scratch/a"
        of_system latent $reader nll >"$scratch/b"
        same_numbers "the answers of $author, read by $reader" 1e-3 "$scratch/a" "$scratch/b"
    done
done

# --- two runs
evaluate self 0 --against "$scratch/heart" eval.bootstrap=200
[ "$(grep -cE '^(llama|qwen) +(EM|F1|NLL/token) .* \+0\.000 \[\+0\.000, \+0\.000\] +1\.0000$' "$scratch/self")" -eq 6 ] ||
    fail "a run differs from itself: $(tail -8 "$scratch/self")"
sed 's/"nll": [^,]*/"nll": 9.5/g; s/"f1": [^,}]*/"f1": 0.0/g' "$scratch/p0" >"$scratch/worse"
evaluate better 0 --against "$scratch/worse" eval.bootstrap=200
[ "$(grep -cE '^(llama|qwen) +F1 +1\.000 +0\.000 +\+1\.000 \[\+1\.000, \+1\.000\] +0\.0050$' "$scratch/better")" -eq 2 ] ||
    fail "a run that answers nothing is not told apart: $(tail -8 "$scratch/better")"
refuse "other samples" 2 'answers 32 samples, this evaluation 20, and 20 are common' --against "$scratch/heart" data.eval_samples=20
sed '5s/"question": "[^"]*"/"question": "Who?"/' "$scratch/p0" >"$scratch/other"
refuse "another question" 2 'other: on line 5 sample .* has another question' --against "$scratch/other"
sed '5s/"context_id": "."/"context_id": "x"/; 5s/"context_id": "./"context_id": "/' "$scratch/p0" >"$scratch/other"
refuse "another context" 2 'has another context' --against "$scratch/other"
sed '3s/"nll": [^,]*/"nll": "much"/g' "$scratch/p0" >"$scratch/other"
refuse "a damaged line" 1 'other:3.*nll' --against "$scratch/other"
sed '3s/$/}/' "$scratch/p0" >"$scratch/other"
refuse "a line that is no JSON" 1 'other:3' --against "$scratch/other"
cat "$scratch/p0" "$scratch/p0" >"$scratch/other"
refuse "ids twice" 1 'same id' --against "$scratch/other"
refuse "no such run" 1 'none' --against "$scratch/none"
sed 's/"llama"/"a"/g; s/"qwen"/"b"/g' "$scratch/p0" >"$scratch/other"
refuse "other models" 2 "none of this configuration's models" --against "$scratch/other"

# --- every question twice about its context is no more evidence: as many contexts, and the same intervals
head -10 "$LWMPI_SOURCE_DIR/configs/tiny/eval.jsonl" >"$scratch/once.jsonl"
sed p "$scratch/once.jsonl" >"$scratch/twice.jsonl"
for times in once twice; do
    evaluate $times 0 data.eval="$scratch/$times.jsonl" eval.bootstrap=200
    grep -q "on $(wc -l <"$scratch/$times.jsonl") samples of 10 contexts" "$scratch/$times" || fail "$times: not of 10 contexts"
    grep -E '^(llama|qwen) +(text|latent) ' "$scratch/$times" >"$scratch/$times.rows"
done
grep -q '\[' "$scratch/once.rows" || fail "no intervals"
same_bytes "each question once and twice" "$scratch/once.rows" "$scratch/twice.rows"

# --- of one context there is neither an interval nor another one's latents: dashes, and null
head -1 "$scratch/once.jsonl" | sed 'p;p' >"$scratch/lone.jsonl"
evaluate lone 0 data.eval="$scratch/lone.jsonl" eval.bootstrap=50 --predictions "$scratch/lone.predictions"
grep -q 'on 3 samples of 1 contexts' "$scratch/lone" || fail "one context: $(head -1 "$scratch/lone")"
grep -qE 'nan|\[' "$scratch/lone" && fail "figures that are none: $(grep -E 'nan|\[' "$scratch/lone")"
grep -qE '^llama +shuffled +- +- +- +- +- +-$' "$scratch/lone" || fail "shuffled with nobody: $(cat "$scratch/lone")"
grep -q '^gain over shuffled: - ' "$scratch/lone" || fail "a gain over nobody: $(cat "$scratch/lone")"
evaluate lone.json 0 data.eval="$scratch/lone.jsonl" eval.bootstrap=50 --json --against "$scratch/lone.predictions"
tr -d ' \n' <"$scratch/lone.json" >"$scratch/lone.flat"
grep -oE '"[a-z0-9_]*interval":\[[^]]*\]' "$scratch/lone.flat" | grep -v 'null,null' >"$scratch/out" &&
    fail "intervals of one context: $(cat "$scratch/out")"

# --- means over spans: the curve takes wider ones
mapfile -t job < <(small_job "$scratch/mean")
"$LWMPI_BIN" train "${job[@]}" pooler.kind=mean wire.ratio=4 eval.curve=true eval.quantise=true eval.bootstrap=0 \
    >"$scratch/log" 2>&1 || fail "mean pooler: $(tail -3 "$scratch/log")"
"$LWMPI_BIN" train "${job[@]}" run.dir="$scratch/narrow" pooler.kind=mean wire.d_z=1 eval.quantise=true eval.bootstrap=0 \
    >"$scratch/out" 2>&1 || fail "latents of one number: $(tail -3 "$scratch/out")"
# --- few answers agree after so little training: the joint choice is the largest sum
weak=$scratch/mean/predictions.jsonl
paste <(log_probability "$weak" llama llama) <(log_probability "$weak" llama qwen) <(log_probability "$weak" qwen llama) \
    <(log_probability "$weak" qwen qwen) <(sed 's/.*"joint": {[^}]*"model": "\([a-z]*\)".*/\1/' "$weak") |
    awk '{ if (($1 + $2 < $3 + $4 ? "qwen" : "llama") != $5) bad = 1; seen[$5] = 1; if ($1 == $3) same++ }
         END { exit bad || NR != 10 || same == NR }' || fail "the joint choice is not the largest sum"
for k in 8 16 32 64; do
    grep -q "latent_ratio$k" "$scratch/log" || fail "mean pooler: no ratio $k in the curve"
done
finish
