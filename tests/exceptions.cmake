# Tests that need more than the rule in CMakeLists.txt gives them; keys are LABEL_NAME.
#
#   set(LW_TIMEOUT_mpi_ranks_agree 600)      seconds, without sanitizers
#   set(LW_LABELS_mpi_ranks_agree slow)      further labels
#   set(LW_RANKS_comm 1 2 4)                 rank counts of a program in tests/mpi

set(LW_TIMEOUT_slurm_jobs 1200) # jobs that wait for a time limit and in a queue
set(LW_LABELS_slurm_jobs slow)
