#!/usr/bin/env bash
# slurm/scale.sh: a short study of the embedded default on one and two ranks leaves a table, results and a plot.
set -uo pipefail

failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
scale="$LWMPI_SOURCE_DIR/slurm/scale.sh"
tiny="$LWMPI_SOURCE_DIR/configs/tiny.cfg"
export LWMPI_LAUNCH="$LWMPI_MPIEXEC -np"

complain() {
    failures=$((failures + 1))
    printf 'FAILED %s\n' "$*"
}

"$scale" "$tiny" threads=1 batch.global=4 --ranks 1,2,8 --steps 2 --out study >out 2>err || complain "exit code $?: $(tail -2 err)"
for series in strong weak; do
    for n in 1 2; do
        [ "$(grep -cE "^$series +$n +1 " study/scaling.txt)" -eq 1 ] || complain "no row of $series scaling at $n ranks"
    done
done
grep -qE '^weak +2 +1 +8 ' study/scaling.txt || complain "weak scaling has not twice the batch"
grep -qE '^weak +8 ' study/scaling.txt || complain "no row of weak scaling at 8 ranks"
grep -q 'strong at 8 ranks left out' err || complain "8 ranks for 4 samples are not told"
[ "$(grep -c '"predicted_samples_per_s"' study/scaling.jsonl)" -eq 5 ] || complain "5 results expected"
[ "$(grep -cE '<circle|</svg>' study/scaling.svg)" -eq 6 ] || complain "the plot lacks points"
"$scale" >out 2>err && complain "no configuration is accepted"
"$scale" "$tiny" --ranks two >out 2>err && complain "--ranks two is accepted"
"$scale" "$tiny" --bogus >out 2>err && complain "an unknown option is accepted"

[ "$failures" -eq 0 ] || exit 1
echo "all passed"
