// device_wait.c: what happens when this rank's own device does not finish its work in time.
#include "comm_internal.h"

_Noreturn void lw_comm_device_overdue(lw_comm *comm, double waited_s)
{
    lw_error err = {{0}};
    lw_fail(&err, LW_ERR_TIMEOUT,
            "the GPU did not finish its own work within %.1f s (comm.timeout_s) in phase \"%s\": it hangs (dmesg and "
            "nvidia-smi -q tell of Xid errors), or comm.timeout_s is too low for such a step",
            waited_s, comm->doing);
    lw_comm_abort(comm, LW_ERR_TIMEOUT, &err);
}

static void end_job(void *context, double waited_s)
{
    lw_comm_device_overdue(context, waited_s);
}

void lw_comm_bound_device(lw_comm *comm, lw_device *dev)
{
    dev->timeout_s = comm->timeout_s;
    dev->overdue = end_job;
    dev->overdue_context = comm;
}
