#!/usr/bin/env bash
# grid.sh: two ranks that divide the samples (2 x 1) beside two with one LLM each (1 x 2), and one rank, in one run. Prints
# one JSON object.
#
#   tests/bench/grid.sh [build/release/lwmpi] [CONFIG] [OPTION ...]
#
# Needs a machine with two free cores and a configuration with two LLMs; rounds alternate so that a machine that changes its
# speed changes all of them. LWMPI_ROUNDS=5 rounds; medians are printed.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "$0")")
lwmpi=${1:-$here/../../build/release/lwmpi}
config=${2:-$here/../../configs/tiny.cfg}
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

rounds=${LWMPI_ROUNDS:-5}
for round in $(seq "$rounds"); do
    for grid in 1x1 2x1 1x2; do
        model=${grid#*x}
        mpirun -np $((${grid%x*} * model)) --bind-to core "$lwmpi" bench "$config" threads=1 grid.model="$model" "$@" \
            --json >"$work/$grid.$round"
        number samples_per_s "$work/$grid.$round" >>"$work/$grid"
    done
done
frozen() { # GRID: megabytes of frozen weights on the fullest rank, as the plan has them from the layout that is allocated
    "$lwmpi" plan "$config" grid.model="${1#*x}" --gpus $((${1%x*} * ${1#*x})) --json 2>/dev/null |
        sed -n 's/^ *"frozen": \([0-9]*\),\{0,1\}$/\1/p' | head -n 1
}
cat <<END
{
  "benchmark": "grid",
  "command": "tests/bench/grid.sh",
  "config": "${config##*/}",
  "rounds": $rounds,
  "cpu": "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)",
  "samples_per_s_1x1": $(median <"$work/1x1"),
  "samples_per_s_2x1": $(median <"$work/2x1"),
  "samples_per_s_1x2": $(median <"$work/1x2"),
  "frozen_bytes_1x1": $(frozen 1x1),
  "frozen_bytes_2x1": $(frozen 2x1),
  "frozen_bytes_1x2": $(frozen 1x2),
  "run_1x1": $(cat "$work/1x1.1")
}
END
