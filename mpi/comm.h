// comm.h: communication among the ranks of a job.
//
// MPI is the control plane: host values only. The data plane (reductions of device buffers) is MPI too when the device
// is the CPU, NCCL when it is CUDA. Every wait has a deadline: when another rank has given no sign of life for
// comm.timeout_s, or all do and nothing moves, the rank that waits says who it is, on which host, in which phase and
// for whom it waited, and ends the job; so does a rank whose MPI call fails, as it could no longer tell the others.
// Before the configuration is known, the deadline is that of the options, or LWMPI_START_TIMEOUT_S of the environment.
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
// with a data plane of its own. While a rank waits or works in one of them, those that wait for it in another one are
// answered. Messages name ranks as `all` does. To be destroyed before `all`; at most four of them. Collective over `all`.
lw_status lw_comm_group(lw_comm *all, int colour, lw_error *err, lw_comm **out);
// Waits until all ranks are here, and returns the worst of their statuses; a failure has been told by those that
// failed, err->text is left alone. Without a deadline for ranks that wait for the work of others, as long as that
// takes: asleep, not spinning; when a rank dies, the launcher ends them all. last: this rank has done that work, so
// that all are here or about to be, and it waits no longer than anywhere else. Collective.
lw_status lw_comm_rendezvous(lw_comm *comm, lw_status mine, bool last, lw_error *err);

int lw_comm_rank(const lw_comm *comm);
int lw_comm_size(const lw_comm *comm);
int lw_comm_local_rank(const lw_comm *comm); // among the ranks of this node (MPI_Comm_split_type, shared)
int lw_comm_local_size(const lw_comm *comm);
const char *lw_comm_host(const lw_comm *comm);
void lw_comm_set_timeout(lw_comm *comm, double timeout_s); // once the configuration is known. Local

// The worst signal (core/signals.h) that this process got; on rank 0 of a part of the ranks (lw_comm_first), or that
// one outside of it got while it waits in lw_comm_rendezvous. Local.
lw_signal lw_comm_signal(lw_comm *comm);

// Names what this rank does now ("load models", "step 120"), for the message of a missed deadline. Local.
__attribute__((format(printf, 2, 3))) void lw_comm_doing(lw_comm *comm, const char *format, ...);

// Tells ranks that wait for this one that it gets on with its work, so that they go on waiting (core/heartbeat.h says
// who tells). By the thread that owns the communicator, outside of its calls. Costs a look at the clock; 20 times a
// second at most it looks whether somebody waits, and answers eight to sixteen times within the deadline. Local.
void lw_comm_send_heartbeat(lw_comm *comm);
// The same, for code that does not know communicators; valid as long as comm.
lw_heartbeat lw_comm_heartbeat(lw_comm *comm);

// --- Collective: every rank calls these in the same order. Deterministic: the same values in the same order give the
// same bits at the same rank count.
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

// Bounds the waits for work of `dev` by the deadline of comm as it is now: a device that hangs ends the job, with a
// message. comm is borrowed until the device is closed or bound to another one. Local.
void lw_comm_bound_device(lw_comm *comm, lw_device *dev);

// Makes ready for all-reduces of up to max_elements floats in the memory of `dev` (borrowed until it is detached), and
// allocates all that they need. LW_COMM_AUTO: NCCL between CUDA devices, MPI where they are none, nothing for one rank.
// LW_COMM_NCCL connects one rank, too, so that one GPU can try that path. LW_COMM_MPI with CUDA
// passes the data through host memory. LW_ERR_CONFIG for NCCL without CUDA; a failure of NCCL itself ends the job.
// All ranks return the same status (lw_comm_agree has told a failure). Collective.
lw_status lw_comm_attach_device(lw_comm *comm, lw_device *dev, lw_comm_backend backend, int64_t max_elements,
                                lw_error *err);
// Before the device is closed. Collective where the data plane is NCCL. Nothing where no device is attached.
void lw_comm_detach_device(lw_comm *comm);
// How data travel, for the log: "NCCL 2.28.9", "MPI (ring in host memory)", "none (one rank)".
void lw_comm_data_plane(const lw_comm *comm, char *out, size_t size);

// Sums `buffer` (n), in the memory of the attached device, in place over all ranks: the gradient all-reduce. It takes
// its turn behind what is enqueued on the device, and is done when the call returns; one rank has nothing to do or to
// wait for, but where NCCL was asked for. Collective.
lw_status lw_comm_all_reduce(lw_comm *comm, float *buffer, int64_t n, lw_error *err);

// Status agreement: every rank brings its own status; all get the worst. A rank that failed prints its err->text
// first, tagged with rank and host ("lwmpi: rank 1 on node07: ..."), unless an identical message is printed by a
// lower rank (one voice for one cause). When it returns a failure, everything has been said on stderr and err->text is
// empty: callers pass it on. A stop on request (LW_REQUEUE, LW_INTERRUPTED) is agreed silently. Collective.
lw_status lw_comm_agree(lw_comm *comm, lw_status mine, lw_error *err);

// Ends the job now: message on stderr, MPI_Abort with the status's exit code. Does not return. Local.
_Noreturn void lw_comm_abort(lw_comm *comm, lw_status status, const lw_error *err);

// This process's rank as its launcher's variables say, before or without MPI; -1 where none does. Local.
int lw_comm_launch_rank(void);

// The same for a message that one process alone should print before MPI is started: 0 in a process without a launcher,
// and rank 0 prints. Local.
int lw_launcher_rank(void);

// "Open MPI 4.1.4", for --version and logs.
void lw_comm_version(char *out, size_t size);

#endif
