#!/bin/bash
# lwmpi eval --gates: all hold on the embedded models, of initial parameters, at one rank and two; one that fails is told
# and fails the command.
. tests/support/shell.sh

mapfile -t job < <(small_job "$scratch/run")

# gates NAME RANKS CODE WORDS...
gates() {
    local name=$1 n=$2 wanted=$3 code=0
    shift 3
    ranks "$n" "$LWMPI_BIN" eval "${job[@]}" --gates "$@" >"$scratch/$name" 2>"$scratch/$name.err" || code=$?
    [ "$code" -eq "$wanted" ] || fail "$name: exit code $code, not $wanted: $(cat "$scratch/$name.err")"
}

gates alone 0 0
[ "$(grep -c '^passed ' "$scratch/alone")" -eq 6 ] || fail "not six gates passed: $(cat "$scratch/alone")"
grep -q 'F1 1.000 on 32 items' "$scratch/alone" || fail "the overfit gate is not of 32 items"
gates two 2 0
same_bytes "two ranks and one" "$scratch/two" "$scratch/alone"
gates untaught 0 1 eval.gate_steps=1
grep -q '^FAILED  overfit' "$scratch/untaught" || fail "one step is enough to learn 32 items: $(cat "$scratch/untaught")"
[ "$(grep -c '^passed ' "$scratch/untaught")" -eq 5 ] || fail "other gates failed too: $(cat "$scratch/untaught")"
grep -q '1 of 6 gates failed' "$scratch/untaught.err" || fail "does not say that one failed"
gates alike 0 1 eval.gate_steps=1 train.collapse_cosine=0.01 --json
grep -A1 '"latents"' "$scratch/alike" | grep -q '"passed": false' || fail "latents as far apart as at the start pass a limit of 0.01"
gates silent 0 1 eval.gate_steps=1 train.collapse_cosine=0 # no alarm: latents only have to differ
grep -q '^passed  latents' "$scratch/silent" || fail "no limit to the cosine fails the gate: $(cat "$scratch/silent")"

# --- what cannot be judged has neither passed nor failed: a sample a pass packs nothing, one text has no other
gates single 0 1 eval.gate_steps=1 eval.batch=1
grep -q '^skipped packing' "$scratch/single" || fail "packing is judged with a sample a pass: $(cat "$scratch/single")"
grep -A1 '^passed  latents' "$scratch/single" | grep -q 'of 10 texts' || fail "a sample a pass: latents are not compared"
head -1 "$LWMPI_SOURCE_DIR/configs/tiny/eval.jsonl" >"$scratch/one.jsonl"
gates one 0 0 data.eval="$scratch/one.jsonl"
[ "$(grep -c '^skipped ' "$scratch/one")" -eq 2 ] || fail "one text: not two gates are skipped: $(cat "$scratch/one")"
grep -q 'one text only' "$scratch/one" || fail "does not say that there is one text only: $(cat "$scratch/one")"
gates one.json 0 1 eval.gate_steps=1 data.eval="$scratch/one.jsonl" --json
grep -A1 '"latents"' "$scratch/one.json" | grep -q '"passed": null' || fail "one text: $(cat "$scratch/one.json")"
grep -q '"skipped": 2' "$scratch/one.json" || fail "does not count what was skipped"

gates cut 0 0 prompt.max_answer_tokens=1
grep -A1 '^skipped overfit' "$scratch/cut" | grep -q 'no answer of 32 ends within prompt.max_answer_tokens' || fail "scores answers that were cut: $(cat "$scratch/cut")"
gates both 0 2 --against "$scratch"
finish
