#!/usr/bin/env bash
# cpu.sh: the CPU benchmark. Prints one JSON object: the step on one rank, the bare products of the same step in the same
# run, their ratio, and two ranks of one thread beside one rank of one thread.
#
#   tests/bench/cpu.sh [build/release/lwmpi] [CONFIG] [OPTION ...]
#
# Needs a machine with two free cores; rounds alternate so that a machine that changes its speed changes both sides.
# LWMPI_ROUNDS=3 rounds; the median round's figures are printed. jq is not needed.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "$0")")
lwmpi=${1:-$here/../../build/release/lwmpi}
config=${2:-$here/cpu.cfg}
shift $(($# < 2 ? $# : 2))
if [ "$(id -u)" -eq 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

number() { # KEY FILE: the first number after "KEY":
    sed -n "s/^ *\"$1\": \([-0-9.eE+]*\),\{0,1\}$/\1/p" "$2" | head -n 1
}

median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

rounds=${LWMPI_ROUNDS:-3}
for round in $(seq "$rounds"); do
    for ranks in 1 2; do
        mpirun -np "$ranks" --bind-to core "$lwmpi" bench "$config" threads=1 "$@" --json >"$work/np$ranks.$round"
    done
    one=$(number samples_per_s "$work/np1.$round")
    two=$(number samples_per_s "$work/np2.$round")
    number products_share_of_step "$work/np1.$round" >>"$work/share"
    awk -v a="$two" -v b="$one" 'BEGIN { print a / b }' >>"$work/speedup"
    echo "$one" >>"$work/one"
    echo "$two" >>"$work/two"
done
cat <<END
{
  "benchmark": "cpu",
  "command": "tests/bench/cpu.sh",
  "rounds": $rounds,
  "cpu": "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)",
  "samples_per_s_1_rank": $(median <"$work/one"),
  "samples_per_s_2_ranks": $(median <"$work/two"),
  "speedup_2_ranks": $(median <"$work/speedup"),
  "products_share_of_step": $(median <"$work/share"),
  "run_1_rank": $(cat "$work/np1.1")
}
END
