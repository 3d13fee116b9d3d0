#!/usr/bin/env bash
# submit.sh: sbatch with the settings of site.sh.
#
#   slurm/submit.sh single_gpu [SBATCH OPTION ...] [-- CONFIG key=value ...]
#
# The first word is a script of this folder, with or without .sbatch, or any other file. Logs go to runs/ in the current
# folder, which sbatch does not make by itself.
set -euo pipefail
dir=$(cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd)

[ "$#" -ge 1 ] || {
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
script=$1
shift
for candidate in "$script" "$dir/$script" "$dir/$script.sbatch"; do
    if [ -f "$candidate" ]; then
        script=$(readlink -f -- "$candidate")
        break
    fi
done
[ -f "$script" ] || {
    echo "submit.sh: $script is no file, and neither is $dir/$script.sbatch" >&2
    exit 2
}
options=()
while [ "$#" -gt 0 ] && [ "$1" != -- ]; do
    options+=("$1")
    shift
done
[ "$#" -eq 0 ] || shift

# shellcheck source=slurm/site.sh
. "${LWMPI_SITE:-$dir/site.sh}"
mkdir -p runs
export LWMPI_SLURM_DIR=${LWMPI_SLURM_DIR:-$dir}
exec sbatch "${options[@]}" "$script" "$@"
