#!/usr/bin/env bash
# lwmpi plan: tables and JSON of the seed job without weights or data; memory equal to what train allocates; bad input.
set -uo pipefail

failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LWMPI_CALIBRATION="$work/calibration"
cd "$work" || exit 1
seed="$LWMPI_SOURCE_DIR/configs/llama8b-qwen7b.cfg"
tiny="$LWMPI_SOURCE_DIR/configs/tiny.cfg"

complain() {
    failures=$((failures + 1))
    printf 'FAILED %s\n' "$*"
    head -5 out err 2>/dev/null
}

recipe="$LWMPI_SOURCE_DIR/configs/llama8b-qwen7b-recipe.cfg"

# plan CODE ARGUMENT ...
plan() {
    local code=$1 got=0
    shift
    "$LWMPI_BIN" plan "$@" >out 2>err </dev/null || got=$?
    [ "$got" -eq "$code" ] || complain "lwmpi plan $*: exit code $got, expected $code"
}

has() { grep -qE -- "$2" "$1" || complain "$1 lacks: $2"; }

# number FILE KEY [N]: the N-th value of a key in indented JSON
number() { sed -n "s/^ *\"$2\": \([-0-9.e+]*\),\{0,1\}$/\1/p" "$1" | sed -n "${3:-1}p"; }

# --- the recipe of four phases
plan 0 "$recipe"
has out '^decision: [0-9]+ GPU'
has out '^text: 500000 samples, at most 13000 steps'
has out '^x2: 500000 samples, at most 2000 steps'
has out '^qa: 87000 samples, 2 epochs'

# --- the seed job, of which only config.json files are there
plan 0 "$seed"
has out '^decision: [0-9]+ GPU'
has out '^Grids are data x model'
has out '^ +2 +1x2[*] +16\.'
has out '^assumed: .*8 answer tokens'
has out '^strong scaling'
has out 'latents x2 '
[ ! -s err ] || complain "plan says something on stderr"
plan 0 "$seed" --gpus 1,2,4 --json
[ "$(grep -c '"efficiency"' out)" -eq 5 ] || complain "five layouts expected: 1x1 2x1 1x2 4x1 2x2"
[ "$(grep -c '"best": true' out)" -eq 3 ] || complain "one best layout of each count expected"
for key in frozen trainable optimizer activations logits caches runtime total samples_per_s epoch_s total_s gpu_hours \
    fits source what_if decision rejected reason; do
    has out "\"$key\":"
done
# 8.03e9 and 7.62e9 parameters of two bytes, and nothing else of that size: on every GPU where the samples alone are
# divided, and the larger of the two LLMs (with the encoder) where the model axis divides them.
for i in 1 2 3 4 5; do
    awk -v f="$(number out frozen $i)" -v m="$(number out model $i)" -v g="$(number out gpus $i)" \
        -v n="$(number out data $i)" 'BEGIN {
            exit !(m * n == g && (m == 1 ? f > 31.4e9 && f < 31.6e9 : f > 16.0e9 && f < 16.4e9)) }' ||
        complain "frozen bytes of layout $i"
done
# The second GPU is worth its hours: nearly twice the rate of one, where more copies of all weights would add nothing.
awk -v e="$(number out efficiency 3)" -v d="$(number out efficiency 2)" 'BEGIN { exit !(e >= 0.9 && e <= 1 && d < 0.6) }' ||
    complain "efficiency of 1x2 and 2x1"
for i in 1 2 3 4 5; do
    sum=0
    for key in frozen trainable optimizer activations logits caches runtime; do
        sum=$((sum + $(number out $key $i)))
    done
    [ "$sum" -eq "$(number out total $i)" ] || complain "parts of layout $i do not add up"
done
awk -v a="$(number out total_s 1)" -v b="$(number out total_s 2)" 'BEGIN { exit !(a > b && b > 0) }' ||
    complain "two GPUs are not faster than one"
plan 0 "$seed" batch.per_rank=4 --gpus 1,8,16 --json
has out '"scaling": "weak"'
[ -z "$(find . -mindepth 1 ! -name out ! -name err)" ] || complain "plan left files: $(find .)"

# --- changes are measured on the data that are there, and one that the models cannot take is left out
plan 0 "$tiny" encoder.kind=llm encoder.share=llama pooler.kind=mean wire.ratio=2 wire.compress=prompt
has out 'latents x2 '
plan 0 "$tiny" wire.latents=400
has out '^decision'
has out 'batch x2 '
grep -q 'latents x2' out && complain "latents x2 where the models take no more than 512 positions"

# --- the deadline
plan 0 "$seed" plan.deadline_h=0.001 batch.global=64
has out 'no count ends in time'
has out 'would help'
SLURM_JOB_ID=1 SLURM_JOB_END_TIME=$(($(date +%s) + 600)) plan 0 "$seed"
has out "left of the Slurm job's time"

# --- memory: what train predicts and allocates is what plan says
memory() {
    rm -rf run
    "$LWMPI_BIN" "$tiny" run.dir=run threads=1 train.max_steps=1 "$@" >log 2>&1 || complain "train $*: $(tail -2 log)"
    plan 0 "$tiny" run.dir=run threads=1 train.max_steps=1 "$@" --gpus 1 --json
    local mib
    mib=$(awk -v t="$(number out total)" 'BEGIN { printf "%.1f MiB", t / 1048576 }')
    has log "predicted device memory per rank: $mib"
    has log "allocated device memory per rank: $mib"
}
memory eval.at_end=false batch.global=8
memory eval.at_end=false batch.global=8 batch.micro=3 wire.latents=7 wire.compress=prompt data.samples=100
memory data.samples=64 data.eval_samples=8 batch.global=2 # the evaluation needs most

# --- bad input
plan 2 "$seed" plan.device=h1000
has err 'unknown.*h100-sxm'
plan 2 "$seed" --gpus 0
plan 2 "$seed" --gpus 4,2
has err 'larger than the one before'
plan 2 "$seed" --gpus two
plan 2 "$seed" plan.deadline_h=0
plan 2 "$seed" plan.deadline_h=-3
plan 2 "$seed" data.samples=0
has err 'data\.samples'
plan 2 "$seed" plan.device=rtx4090 --gpus 1
has err 'would fit .*a100-80'
has out '^decision: none'
plan 0 "$seed" plan.device=rtx4090 # one GPU has no room for both models, two have it for one each
has out '^decision: 2 GPUs'
plan 2 "$seed" plan.device=rtx4090 grid.model=1
plan 0 "$seed" grid.model=2 --gpus 1,2
has out '^ +1 grid\.model = 2 times grid\.tensor = 1 does not divide the job'
plan 2 "$seed" grid.model=3
has err 'grid\.model = 3, but there are 2 LLMs'
plan 0 "$tiny" train.schedule=alternate --gpus 1,2 --json
grep -q '"model": 2' out && complain "alternating models on a model axis"
plan 2 "$tiny" train.schedule=alternate grid.model=2 --gpus 2
has err 'train\.schedule = "alternate"'
plan 2 "$seed" device=cuda plan.device=auto
has err 'which GPU'
mkdir -p models/broken
sed '/"intermediate_size"/d' "$LWMPI_SOURCE_DIR/configs/models/Qwen2.5-7B/config.json" >models/broken/config.json
plan 1 "$seed" models.qwen.path=models/broken
has err 'broken/config\.json.*intermediate_size'
plan 2 "$work/nothing.cfg"

# --- the script that lwmpi slurm prints
"$LWMPI_BIN" slurm "$seed" --gpus 4 "prompt.anchor=It's:" >out 2>err </dev/null || complain "lwmpi slurm --gpus 4"
bash -n out || complain "lwmpi slurm prints no shell script"
for line in '--nodes=1' '--ntasks-per-node=4' '--gres=gpu:4' '--signal=B:USR1@120' '--open-mode=append' \
    '--output=runs/llama8b-qwen7b_%j.log'; do
    grep -qxF -- "#SBATCH $line" out || complain "lwmpi slurm lacks: $line"
done
# The words of the last line reach the job as they were given.
eval "lwmpi_job() { printf '%s\\n' \"\$@\"; }; $(tail -1 out)" >words
grep -qxF "prompt.anchor=It's:" words || complain "an override is not passed on: $(cat words)"
"$LWMPI_BIN" slurm "$seed" --gpus 4 --nodes 3 >out 2>err </dev/null && complain "4 GPUs on 3 nodes are accepted"
has err 'cannot be spread evenly'
"$LWMPI_BIN" slurm "$seed" --gpus 4 --per-node 2 >out 2>err </dev/null || complain "lwmpi slurm --per-node 2"
grep -qxF '#SBATCH --nodes=2' out || complain "4 GPUs of nodes with 2 are not spread over 2"
"$LWMPI_BIN" slurm "$seed" --gpus 0 >out 2>err </dev/null && complain "zero GPUs are accepted"

[ "$failures" -eq 0 ] || exit 1
echo "all passed"
