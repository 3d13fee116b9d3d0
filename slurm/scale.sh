#!/usr/bin/env bash
# scale.sh: a scaling study: `lwmpi bench` at several rank counts, with the batch of a step fixed (strong) and with the
# batch of a rank fixed (weak), as a table and a plot, beside what the planner predicts from the 1-rank measurement.
#
#   slurm/scale.sh CONFIG [key=value ...] [--ranks 1,2,4] [--steps 20] [--out runs/scale-NAME]
#
# Writes OUT/scaling.txt, OUT/scaling.jsonl (a result of lwmpi bench per line) and OUT/scaling.svg. LWMPI_LAUNCH is the
# launcher up to the rank count: "mpirun -np" (the default), "srun --mpi=pmix -n" in an allocation.
set -euo pipefail
dir=$(cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd)

fail() {
    echo "scale.sh: $*" >&2
    exit 2
}

ranks=1,2
steps=20
out=
words=()
while [ "$#" -gt 0 ]; do
    case $1 in
    --ranks | --steps | --out)
        [ "$#" -ge 2 ] || fail "$1 wants a value"
        declare "${1#--}=$2"
        shift 2
        ;;
    --*) fail "unknown option $1" ;;
    *)
        words+=("$1")
        shift
        ;;
    esac
done
[ "${#words[@]}" -ge 1 ] || fail "give a configuration: $(sed -n '5s/^# *//p' "$0")"
[[ "$ranks" =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || fail "--ranks wants counts such as 1,2,4, not \"$ranks\""
[[ "$steps" =~ ^[1-9][0-9]*$ ]] || fail "--steps wants a number, not \"$steps\""
name=$(basename -- "${words[0]}" .cfg)
out=${out:-runs/scale-$name}

# shellcheck source=slurm/site.sh
. "${LWMPI_SITE:-$dir/site.sh}"
for candidate in "${LWMPI_BIN:-}" "$dir/../build/cuda/lwmpi" "$dir/../build/release/lwmpi" "$dir/../../../bin/lwmpi" \
    "$(command -v lwmpi || true)"; do
    if [ -n "$candidate" ] && [ -x "$candidate" ]; then
        program=$candidate
        break
    fi
done
[ -n "${program:-}" ] || fail "lwmpi is not built; set LWMPI_BIN"
read -ra launch <<<"${LWMPI_LAUNCH:-mpirun -np}"
mkdir -p "$out"
: >"$out/scaling.jsonl"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

number() { sed -n "s/^  \"$2\": \([-0-9.e+]*\),\{0,1\}$/\1/p" "$1"; }

# measure SERIES RANKS BATCH_WORD: one row of the table. Each count sees the 1-rank records alone, so that its
# prediction is one.
measure() {
    rm -rf "$work/seen"
    cp -r "$work/one" "$work/seen"
    LWMPI_CALIBRATION="$work/seen" "${launch[@]}" "$2" "$program" bench "${words[@]}" "$3" --steps "$steps" --json \
        >"$work/result" || {
        echo "scale.sh: $1 at $2 ranks failed" >&2
        return 1
    }
    [ "$2" -ne 1 ] || cp "$work/seen"/* "$work/one/"
    printf '{"series": "%s", "result": %s}\n' "$1" "$(tr -d '\n' <"$work/result")" >>"$out/scaling.jsonl"
    echo "$1 $2 $(number "$work/result" threads) $(number "$work/result" batch_samples)" \
        "$(number "$work/result" samples_per_s) $(number "$work/result" predicted_samples_per_s)" >>"$work/rows"
}

# The batch of the configuration, as one rank sees it; this run also warms the machine up.
mkdir -p "$work/one"
LWMPI_CALIBRATION="$work/first" "${launch[@]}" 1 "$program" bench "${words[@]}" --steps 2 --json >"$work/first.json"
batch=$(number "$work/first.json" batch_samples)
kept=() # each series sets the batch itself
for word in "${words[@]}"; do
    [[ "$word" =~ ^batch\.(global|per_rank)= ]] || kept+=("$word")
done
words=("${kept[@]}")
IFS=, read -ra counts <<<"$ranks"
for series in strong weak; do
    key=batch.global
    [ "$series" = strong ] || key=batch.per_rank
    for n in "${counts[@]}"; do
        if [ "$series" = strong ] && [ "$n" -gt "$batch" ]; then
            echo "scale.sh: strong at $n ranks left out: a step has $batch samples" >&2
            continue
        fi
        measure "$series" "$n" "$key=$batch"
    done
done

# --- table: efficiency against the smallest count of the series
awk '
    BEGIN { printf "%-7s %5s %7s %6s %11s %10s %11s %7s\n", "series", "ranks", "threads", "batch", "samples/s",
            "efficiency", "predicted", "error" }
    !($1 in base) { base[$1] = $5 / $2 }
    { printf "%-7s %5d %7d %6d %11.1f %10.2f %11s %7s\n", $1, $2, $3, $4, $5, $5 / ($2 * base[$1]),
      ($2 == 1 ? "-" : sprintf("%.1f", $6)), ($2 == 1 ? "-" : sprintf("%+.0f%%", 100 * ($6 / $5 - 1))) }
' "$work/rows" | tee "$out/scaling.txt"

# --- plot: samples/s over ranks; the ideal line, measurements, predictions
awk -v title="$name" '
    { series[NR] = $1; n[NR] = $2; rate[NR] = $5; plan[NR] = $6
      if ($2 > xmax) xmax = $2
      if (!($1 in base)) base[$1] = $5 / $2
      if ($5 > ymax) ymax = $5
      if (base[$1] * $2 > ymax) ymax = base[$1] * $2 }
    function X(v) { return 70 + 500 * v / xmax }
    function Y(v) { return 360 - 310 * v / (1.08 * ymax) }
    function line(s, what, colour, dash,    i, d) {
        d = ""
        for (i = 1; i <= NR; i++) if (series[i] == s)
            d = d (d == "" ? "M" : "L") X(n[i]) " " Y(what == "ideal" ? base[s] * n[i] : what == "plan" ? plan[i] : rate[i])
        if (d != "") printf "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s/>\n", d, colour,
            (dash == "" ? "" : " stroke-dasharray=\"" dash "\"")
    }
    END {
        print "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"410\" font-family=\"sans-serif\" font-size=\"12\">"
        print "<rect width=\"760\" height=\"410\" fill=\"white\"/>"
        printf "<text x=\"70\" y=\"28\" font-size=\"15\">%s: samples/s over ranks</text>\n", title
        print "<path d=\"M70 50V360H570\" fill=\"none\" stroke=\"black\"/>"
        for (i = 0; i <= 4; i++) { v = ymax * i / 4
            printf "<text x=\"62\" y=\"%.1f\" text-anchor=\"end\">%.4g</text><path d=\"M66 %.1fH70\" stroke=\"black\"/>\n", Y(v) + 4, v, Y(v) }
        for (i = 1; i <= NR; i++) if (!(n[i] in seen)) { seen[n[i]] = 1
            printf "<text x=\"%.1f\" y=\"378\" text-anchor=\"middle\">%d</text>\n", X(n[i]), n[i] }
        print "<text x=\"320\" y=\"400\" text-anchor=\"middle\">ranks</text>"
        colour["strong"] = "#1b6ca8"; colour["weak"] = "#b5482a"; row = 0
        for (s in colour) {
            line(s, "ideal", colour[s], "2 5"); line(s, "plan", colour[s], "8 4"); line(s, "rate", colour[s], "")
            for (i = 1; i <= NR; i++) if (series[i] == s) {
                printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", X(n[i]), Y(rate[i]), colour[s]
                printf "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\">%.2f</text>\n", X(n[i]) + 7, Y(rate[i]) + (s == "weak" ? -6 : 14), colour[s], rate[i] / (n[i] * base[s]) }
            split("measured,efficiency beside;predicted;ideal", legend, ";"); split(",8 4,2 5", dashes, ",")
            for (k = 1; k <= 3; k++) { y = 70 + 20 * row++
                printf "<path d=\"M585 %dh28\" stroke=\"%s\" stroke-width=\"2\"%s/><text x=\"618\" y=\"%d\">%s, %s</text>\n", y, colour[s], (dashes[k] == "" ? "" : " stroke-dasharray=\"" dashes[k] "\""), y + 4, s, (k == 1 ? "measured" : legend[k]) }
        }
        print "</svg>"
    }
' "$work/rows" >"$out/scaling.svg"
echo "written: $out/scaling.txt, $out/scaling.jsonl, $out/scaling.svg"
