#!/usr/bin/env bash
# The command line before any work begins: help, version, words that mean nothing, exit codes.
set -uo pipefail

failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# expect CODE STDOUT_PATTERN STDERR_PATTERN ARGUMENT ...   An empty pattern wants an empty stream.
expect() {
    # shellcheck disable=SC2034 # out and err are read through their names
    local code=$1 out=$2 err=$3 got=0
    shift 3
    "$LWMPI_BIN" "$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
    local stream pattern
    [ "$got" -eq "$code" ] || complain "exit code $got, expected $code" "$@"
    for stream in out err; do
        pattern=${!stream}
        if [ -z "$pattern" ]; then
            [ ! -s "$work/$stream" ] || complain "std$stream should be empty" "$@"
        else
            grep -qE -- "$pattern" "$work/$stream" || complain "std$stream lacks: $pattern" "$@"
        fi
    done
}

complain() {
    failures=$((failures + 1))
    printf 'FAILED lwmpi %s: %s\n' "${*:2}" "$1"
    sed 's/^/  stdout: /' "$work/out" | head -5
    sed 's/^/  stderr: /' "$work/err" | head -5
}

expect 0 '^usage: lwmpi' '' --help
expect 0 '^usage: lwmpi' '' -h
expect 0 '^usage: lwmpi' '' help
expect 0 '^lwmpi [0-9]+\.[0-9]+\.[0-9]+' '' --version
expect 0 '^BLAS: ' '' --version
expect 0 '^\.TH LWMPI 1' '' --man

commands=$("$LWMPI_BIN" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ "$(wc -w <<<"$commands")" -ge 5 ] || complain "commands not listed" --help
for command in $commands; do
    expect 0 "^usage: lwmpi \[?$command" '' "$command" --help
    cp "$work/out" "$work/first"
    expect 0 '^Exit codes:' '' help "$command"
    cmp -s "$work/out" "$work/first" || complain "not the same as $command --help" help "$command"
    expect 2 '' "$command: unknown option --bogus; see: lwmpi $command --help" "$command" --bogus=1
    expect 2 '' "$command: unknown option -x; see: lwmpi $command --help" "$command" -x
done
expect 0 '^  train\.lr = ' '' train --help
expect 0 '^  train\.lr = ' '' seed=1 --help # train is the default

expect 2 '' 'did you mean "train"\?' trian
expect 2 '' 'neither a command nor a file' nonsense
expect 2 '' 'neither a command nor a file' help nonsense
expect 2 '' 'unknown option "--bogus"' --bogus
expect 2 '' 'takes no arguments' doctor now
expect 2 '' 'wants one directory' checkpoint
expect 2 '' 'is neither a run directory .* nor a checkpoint' checkpoint "$work"
mkdir -p "$work/run/checkpoints/step-000003"
expect 1 '^step-000003 +\? .* DAMAGED: ' '1 of 1 checkpoints in .* is damaged' checkpoint "$work/run"
expect 1 '"damaged": 1,' '1 of 1 checkpoints in .* is damaged' checkpoint --json "$work/run"
rmdir "$work/run/checkpoints/step-000003"
expect 0 'run: no checkpoint yet' '' checkpoint "$work/run"

expect 2 '' 'eval: option --json takes no value' eval --json=1
expect 2 '' '^lwmpi: --steps 0: a whole number from 1 to 1000000 is wanted' bench --steps 0
expect 2 '' '^lwmpi: --steps x: a whole number' bench --steps=x

# Rank 0 alone speaks when a launcher started many.
OMPI_COMM_WORLD_RANK=1 expect 0 '' '' --help
OMPI_COMM_WORLD_RANK=1 expect 2 '' '' trian
OMPI_COMM_WORLD_RANK=1 expect 2 '' '' eval --bogus

if [ -w /dev/full ]; then
    code=0
    "$LWMPI_BIN" --version >/dev/full 2>"$work/err" || code=$?
    [ "$code" -eq 1 ] || complain "exit code $code with a full disk, expected 1" --version
fi

[ "$failures" -eq 0 ] || exit 1
