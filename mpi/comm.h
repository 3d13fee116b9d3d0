// comm.h: communication among the ranks of a job.
//
// MPI is the control plane: host values only. The data plane (reductions of device buffers) is MPI too when the device
// is the CPU, and NCCL when it is CUDA. Every wait has a deadline. When another rank has been silent for
// comm.timeout_s, or all ranks send heartbeats and none makes progress, the waiting rank prints its own rank and host,
// what it was doing and for whom it waited, and ends the job. A rank whose MPI call fails ends the job too, as it could
// no longer inform the others. Before the configuration is known, the deadline is that of the options, or
// LWMPI_START_TIMEOUT_S of the environment.
//
// Implemented by lifetime.c (create, first, destroy), rank.c, comm_mpi.c (collectives), agree.c, watch.c (heartbeats,
// signals), data_plane.c, device_wait.c and topology.c (lw_comm_launch_rank).
#ifndef LW_COMM_H
#define LW_COMM_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "core/heartbeat.h"
#include "core/signals.h"
#include "core/status.h"
#include "device/device.h"

typedef struct lw_comm lw_comm;

typedef struct lw_comm_options {
    double timeout_s; // deadline of every wait
} lw_comm_options;

// Starts MPI (thread level funneled) when it is not started. Collective over all processes of the job.
// Fails with LW_ERR_COMM when a launcher started several copies that do not see each other (srun without PMI:
// SLURM_NTASKS > 1 but a world of one rank).
lw_status lw_comm_create(const lw_comm_options *options, lw_error *err, lw_comm **out);
// Detaches the device, ends MPI. Collective.
void lw_comm_destroy(lw_comm **comm);

// A communicator of the first `ranks` ranks of `parent`; the others get NULL. To be destroyed before its parent.
// Collective over `parent`.
lw_status lw_comm_first(lw_comm *parent, int ranks, lw_error *err, lw_comm **out);
// A communicator of the ranks of `all` that bring the same `colour`, in the order of their ranks: a group of the grid,
// with a data plane of its own. While a rank waits or works in one group, it still answers ranks that wait for it in
// another one. Messages name ranks as `all` does. To be destroyed before `all`; at most four of them. Collective over
// `all`.
lw_status lw_comm_group(lw_comm *all, int colour, lw_error *err, lw_comm **out);
// Waits until all ranks have called it, and returns the worst of their statuses; err->text is left alone, as each rank
// that failed has printed its message before. Ranks that only wait for the work of others sleep, without a deadline;
// when a rank dies, the launcher ends them all. last: this rank has done that work, so that all ranks are there or
// about to be, and its wait has the usual deadline. Collective.
lw_status lw_comm_rendezvous(lw_comm *comm, lw_status mine, bool last, lw_error *err);

int lw_comm_rank(const lw_comm *comm);
int lw_comm_size(const lw_comm *comm);
int lw_comm_local_rank(const lw_comm *comm); // among the ranks of this node (MPI_Comm_split_type, shared)
int lw_comm_local_size(const lw_comm *comm);
const char *lw_comm_host(const lw_comm *comm);
void lw_comm_set_timeout(lw_comm *comm, double timeout_s); // once the configuration is known. Local

// The worst signal (core/signals.h) that this process got. On rank 0 of a part of the ranks (lw_comm_first) it includes
// those of the ranks outside the part, which wait in lw_comm_rendezvous. Local.
lw_signal lw_comm_signal(lw_comm *comm);

// Records what this rank is doing now ("load models", "step 120"), for the message of a missed deadline. Local.
__attribute__((format(printf, 2, 3))) void lw_comm_doing(lw_comm *comm, const char *format, ...);

// Sends a heartbeat to the ranks that wait for this one, so that they keep waiting. Called by the thread that owns the
// communicator, outside of its other functions, whenever work has advanced (core/heartbeat.h). Costs a look at the
// clock; at most 20 times a second it checks whether a rank waits, and it answers eight to sixteen times within the
// deadline. Local.
void lw_comm_send_heartbeat(lw_comm *comm);
// The same, for code that does not know communicators; valid as long as comm.
lw_heartbeat lw_comm_heartbeat(lw_comm *comm);

// --- Collective: every rank calls these in the same order. They are deterministic: the same values in the same order
// give the same bits at the same rank count.
lw_status lw_comm_barrier(lw_comm *comm, lw_error *err);
lw_status lw_comm_broadcast(lw_comm *comm, int root, void *host_data, int64_t bytes, lw_error *err);
lw_status lw_comm_sum_f64(lw_comm *comm, double *host_values, int64_t n, lw_error *err); // in place, all ranks
lw_status lw_comm_sum_i64(lw_comm *comm, int64_t *host_values, int64_t n, lw_error *err);
lw_status lw_comm_max_f64(lw_comm *comm, double *host_values, int64_t n, lw_error *err);
// Gathers `bytes` from each rank into host_out (size * bytes) on root (NULL elsewhere).
lw_status lw_comm_gather(lw_comm *comm, int root, const void *host_data, int64_t bytes, lw_error *err, void *host_out);
// The same to all ranks: host_out (size * bytes). bytes at most 1 MiB.
lw_status lw_comm_all_gather(lw_comm *comm, const void *host_data, int64_t bytes, lw_error *err, void *host_out);
// Variable-size gather on root: counts_out[rank] bytes each, *host_out malloc'd on root (the caller frees), NULL
// elsewhere.
lw_status lw_comm_gather_v(lw_comm *comm, int root, const void *host_data, int64_t bytes, lw_error *err,
                           void **host_out, int64_t *counts_out);

// --- The data plane: sums of device buffers.

// Gives the waits for work of `dev` the present deadline of comm: a device that hangs ends the job, with a message.
// comm is borrowed until the device is closed or bound to another one. Local.
void lw_comm_bound_device(lw_comm *comm, lw_device *dev);

// Prepares all-reduces of up to max_elements floats in the memory of `dev` (borrowed until it is detached), and
// allocates all that they need. LW_COMM_AUTO: NCCL between CUDA devices, MPI between others, nothing for one rank.
// LW_COMM_NCCL connects a single rank too, so that one GPU can test that path. LW_COMM_MPI with CUDA passes the data
// through host memory. LW_ERR_CONFIG for NCCL without CUDA; a failure of NCCL itself ends the job. All ranks return the
// same status, and a failure has been printed (lw_comm_agree). Collective.
lw_status lw_comm_attach_device(lw_comm *comm, lw_device *dev, lw_comm_backend backend, int64_t max_elements,
                                lw_error *err);
// Called before the device is closed; does nothing where none is attached. Collective where the data plane is NCCL.
void lw_comm_detach_device(lw_comm *comm);
// Names the data plane for the log: "NCCL 2.28.9", "MPI (ring in host memory)", "none (one rank)".
void lw_comm_data_plane(const lw_comm *comm, char *out, size_t size);

// Sums `buffer` (n), in the memory of the attached device, in place over all ranks: the gradient all-reduce. It runs
// after the work that is enqueued on the device, and is complete when the call returns. With one rank it does nothing
// and waits for nothing, unless NCCL was requested. Collective.
lw_status lw_comm_all_reduce(lw_comm *comm, float *buffer, int64_t n, lw_error *err);

// Status agreement: every rank brings its own status, and all return the worst. A rank that failed prints its err->text
// first, tagged with rank and host ("lwmpi: rank 1 on node07: ..."), unless a lower rank prints an identical message.
// When it returns a failure, all messages are on stderr and err->text is empty: callers only return the status. A stop
// on request (LW_REQUEUE, LW_INTERRUPTED) is agreed silently. Collective.
lw_status lw_comm_agree(lw_comm *comm, lw_status mine, lw_error *err);

// Ends the job now: message on stderr, MPI_Abort with the status's exit code. Does not return. Local.
_Noreturn void lw_comm_abort(lw_comm *comm, lw_status status, const lw_error *err);

// The rank of this process according to the variables of its launcher, before or without MPI; -1 without a launcher.
// Local.
int lw_comm_launch_rank(void);

// The same, but 0 in a process without a launcher: of a message before MPI has started, rank 0 alone prints. Local.
int lw_launcher_rank(void);

// "Open MPI 4.1.4", for --version and logs.
void lw_comm_version(char *out, size_t size);

#endif
