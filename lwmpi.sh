#!/usr/bin/env bash
# lwmpi.sh: from a fresh machine to the main job, or to passed tests, in one command each.
#
#   ./lwmpi.sh run [ARGUMENT ...]    install what is missing, build, mpirun -np 2 lwmpi [ARGUMENT ...]
#   ./lwmpi.sh test                  install what is missing, build release and debug, run the tests of both, and fuzz
#                                    the readers of files for some seconds each (where clang is)
#   ./lwmpi.sh fuzz [SECONDS]        fuzz them for SECONDS each (default 600) and say what was reached
#   ./lwmpi.sh install-packages      only the first step
#
# It builds in build/ beside this script and runs where it is called. Missing Debian packages are installed by root,
# or by sudo when that asks for no password; otherwise the line to run is printed. LWMPI_NP=N starts N ranks.
set -euo pipefail

say() { printf '== %s\n' "$*" >&2; }

fail() {
    printf 'lwmpi.sh: %s\n' "$*" >&2
    exit 1
}

# --- packages

has() { command -v "$1" >/dev/null 2>&1; }

has_library() { has pkg-config && pkg-config --exists "$1"; }

# clang with libFuzzer and the sanitizers.
can_fuzz() {
    echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d[0] + (int)n; }' |
        clang -fsanitize=fuzzer,address,undefined -x c -o /dev/null - >/dev/null 2>&1
}

# What is needed, as "Debian package: how to see that it, or the same thing from elsewhere, is there".
missing_packages() {
    has cc || echo gcc
    echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1 || echo libc6-dev
    has cmake || echo cmake
    has ninja || has make || echo ninja-build
    has pkg-config || echo pkg-config
    has mpicc || echo libopenmpi-dev
    has mpirun || echo openmpi-bin
    has_library libconfig || echo libconfig-dev
    has_library openblas || echo libopenblas-dev
    has_library libpcre2-8 || echo libpcre2-dev
    has_library libutf8proc || echo libutf8proc-dev
    has_library jansson || echo libjansson-dev
    has_library libxxhash || echo libxxhash-dev
    if [ "${1:-}" = tests ]; then
        has_library cmocka || echo libcmocka-dev
        has c++ || echo g++ # the software GPU (tests/softgpu)
        # The tests of Slurm start a cluster of their own, as root. Where there is an init system these packages would
        # start their services: there they are the administrator's to install.
        if [ "$(id -u)" -eq 0 ] && [ ! -d /run/systemd/system ]; then
            has slurmctld || echo slurmctld
            has slurmd || echo slurmd
            has sbatch || echo slurm-client
            has munged || echo munge
        fi
        if [ "$(id -u)" -eq 0 ]; then # fuzzing is left out where it cannot be had
            has clang || echo clang
            can_fuzz || echo libclang-rt-dev
        fi
    fi
}

install_packages() {
    local -a packages
    mapfile -t packages < <(missing_packages "${1:-}")
    if [ "${#packages[@]}" -eq 0 ]; then
        say "every package that is needed is here"
        return
    fi
    local line="apt-get install -y --no-install-recommends ${packages[*]}"
    has apt-get || fail "missing: ${packages[*]} (names of Debian packages). This system has no apt; see INSTALL."
    local -a as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! has sudo || ! sudo -n true 2>/dev/null; then
            fail "missing: ${packages[*]}. Install them with:
    sudo apt-get update && sudo $line
then run this command again. Without root, see INSTALL."
        fi
        as_root=(sudo -n)
    fi
    say "installing: ${packages[*]}"
    "${as_root[@]}" apt-get update </dev/null >&2 || say "apt-get update failed; trying with the lists that are here"
    # shellcheck disable=SC2086 # $line is words
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $line </dev/null >&2 ||
        fail "the packages could not be installed; the messages above say why. The command was: $line"
    mapfile -t packages < <(missing_packages "${1:-}")
    [ "${#packages[@]}" -eq 0 ] || fail "installed, but still not found: ${packages[*]}"
}

# --- building

cores() { nproc 2>/dev/null || echo 1; }

build() {
    # Ninja where it is; an existing build folder keeps the tool it was made with.
    if has ninja && [ -z "${CMAKE_GENERATOR:-}" ]; then
        export CMAKE_GENERATOR=Ninja
    fi
    say "building preset $1 in build/$1"
    local -a fresh=()
    if [ -f "build/$1/CMakeCache.txt" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "build/$1/CMakeCache.txt"
    then
        fresh=(--fresh) # the folder was moved or copied after it was built
    fi
    cmake "${fresh[@]}" --preset "$1" >&2
    cmake --build --preset "$1" --parallel "$(cores)" >&2
}

# --- Open MPI on one machine

prepare_mpi() {
    if [ "$(id -u)" -eq 0 ]; then
        # Open MPI refuses root; in a container there is nobody else.
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    # Containers often forbid the system call behind the single-copy path between processes.
    export OMPI_MCA_btl_vader_single_copy_mechanism="${OMPI_MCA_btl_vader_single_copy_mechanism:-none}"
}

# --- commands

run() {
    install_packages
    build release
    prepare_mpi
    local ranks="${LWMPI_NP:-2}"
    local -a launch=(mpirun -np "$ranks")
    if [ "$(cores)" -lt "$ranks" ]; then
        launch+=(--oversubscribe)
    fi
    launch+=("$source_dir/build/release/lwmpi" "$@")
    cd -- "$caller_dir" # paths in the arguments, and the run directory, are the caller's
    say "${launch[*]}"
    exec "${launch[@]}"
}

run_tests() {
    install_packages tests
    local failed=() preset
    for preset in release debug; do
        build "$preset"
    done
    local tested=(debug release)
    if can_fuzz; then
        build fuzz
        tested=(fuzz debug release)
    else
        say "no clang with libFuzzer: the readers are not fuzzed; their corpora are run by the other presets"
    fi
    prepare_mpi
    # AddressSanitizer of gcc 12 trips over the wider address randomisation of newer kernels.
    local -a launch=()
    if [ "$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 0)" -gt 28 ] && setarch -R true 2>/dev/null; then
        launch=(setarch -R)
    fi
    # The sanitizers first: the last lines are those of the complete set.
    for preset in "${tested[@]}"; do
        say "tests of preset $preset"
        "${launch[@]}" ctest --preset "$preset" --no-tests=error --parallel "$(cores)" </dev/null ||
            failed+=("$preset")
    done
    if [ "${#failed[@]}" -gt 0 ]; then
        fail "tests failed in preset: ${failed[*]}"
    fi
}

fuzz() {
    local seconds="${1:-600}"
    [[ "$seconds" =~ ^[0-9]+$ ]] || fail "fuzz wants a number of seconds, not \"$seconds\""
    install_packages tests
    can_fuzz || fail "fuzzing needs clang with libFuzzer (Debian: apt install clang libclang-rt-dev)"
    build fuzz
    say "fuzzing $seconds s each; new inputs and findings are kept in build/fuzz/tests/fuzz"
    find build/fuzz/tests/fuzz -maxdepth 1 -type f -name 'fuzz_*' -perm -u+x -print0 | sort -z |
        xargs -0 -P "$(cores)" -I PROGRAM bash tests/fuzz/run.sh PROGRAM "$seconds" || fail "there are findings"
}

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' lwmpi.sh; }

caller_dir=$PWD
source_dir=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
cd -- "$source_dir"
case "${1:-}" in
run) shift && run "$@" ;;
test) run_tests ;;
fuzz) shift && fuzz "$@" ;;
install-packages) install_packages tests ;;
-h | --help | help) usage ;;
*)
    usage >&2
    exit 2
    ;;
esac
