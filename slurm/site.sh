# shellcheck shell=bash
# site.sh: what differs from cluster to cluster, in one place. submit.sh sources it before sbatch, and every script
# sources it again inside the job. Another file: LWMPI_SITE=/path/to/site.sh.

# --- for sbatch, in its own variables (man sbatch, INPUT ENVIRONMENT VARIABLES)
# export SBATCH_ACCOUNT=my_account
# export SBATCH_PARTITION=gpu
# export SBATCH_QOS=normal
# export SBATCH_CONSTRAINT=h100

# --- inside the job
# Modules of the compiler, MPI and CUDA that lwmpi was built with.
lwmpi_modules() {
    : # module load gcc openmpi cuda
}

# The program; left empty it is looked for beside this folder (build/cuda, build/release, bin) and then on PATH.
# LWMPI_BIN=/path/to/lwmpi

# More words for srun, and another launcher altogether.
LWMPI_SRUN_FLAGS=${LWMPI_SRUN_FLAGS:-}
LWMPI_LAUNCH=${LWMPI_LAUNCH:-} # for example: mpirun -np 4
