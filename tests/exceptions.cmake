# Tests that need more than the rule in CMakeLists.txt gives them; keys are LABEL_NAME.
#
#   set(LW_TIMEOUT_mpi_ranks_agree 600)      seconds, without sanitizers
#   set(LW_LABELS_mpi_ranks_agree slow)      further labels
#   set(LW_RANKS_comm 1 2 4)                 rank counts of a program in tests/mpi

set(LW_TIMEOUT_slurm_jobs 1200) # jobs that wait for a time limit and in a queue
set(LW_LABELS_slurm_jobs slow)
set(LW_TIMEOUT_fault_resume 900) # some forty runs
set(LW_LABELS_fault_resume slow)
set(LW_TIMEOUT_fault_signals 400) # some sixty runs
set(LW_LABELS_fault_signals slow)
set(LW_TIMEOUT_fault_numbers 240)
set(LW_TIMEOUT_fault_inject 600) # some eighty runs
set(LW_TIMEOUT_fault_kills 400)
set(LW_LABELS_fault_kills slow)
set(LW_TIMEOUT_fault_peers 400) # deadlines that have to pass
set(LW_LABELS_fault_peers slow)
set(LW_TIMEOUT_fault_disks 300)
set(LW_TIMEOUT_grad_wire 240)
set(LW_TIMEOUT_mpi_encoder_llm 240) # eight runs
set(LW_TIMEOUT_mpi_distillation 300) # sixteen runs; mpi.teacher covers the code under sanitizers
set(LW_LABELS_mpi_distillation slow)
set(LW_TIMEOUT_softgpu_ops 300)
set(LW_TIMEOUT_softgpu_train 600) # four runs of two ranks with every GPU thread emulated
set(LW_TIMEOUT_softgpu_encoders 400)
set(LW_TIMEOUT_softgpu_devices 600)
set(LW_TIMEOUT_softgpu_nccl 900) # deadlines that have to pass
if(NOT LWMPI_SANITIZE) # they stop after their first part there
  set(LW_LABELS_softgpu_devices slow)
  set(LW_LABELS_softgpu_nccl slow)
endif()
