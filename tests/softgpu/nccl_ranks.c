// nccl_ranks STEPS TIMEOUT_S [auto|nccl|mpi [cuda|auto|cpu]]: all-reduces between the devices of the ranks, checked;
// for test_nccl.sh, which injects the faults, and test_devices.sh. Rank 0 prints the data plane and the number of sums
// that were right, every rank its device.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job/rank_device.h"
#include "kernels/devices.h"
#include "mpi/comm.h"

enum { ELEMENTS = 10007 };

// Whole numbers: sums are exact in any order.
static float value(int rank, int step, int64_t i)
{
    return (float)((i * 7 + rank * 13 + step * 5) % 1001);
}

static bool one_sum(lw_comm *comm, lw_device *dev, float *buffer, float *host, int step, lw_error *err)
{
    int rank = lw_comm_rank(comm);
    int size = lw_comm_size(comm);
    for (int64_t i = 0; i < ELEMENTS; i++) {
        host[i] = value(rank, step, i);
    }
    dev->ops->upload(dev, host, ELEMENTS * sizeof *host, buffer);
    lw_comm_doing(comm, "step %d", step);
    lw_status status = lw_comm_all_reduce(comm, buffer, ELEMENTS, err);
    if (status == LW_OK) {
        dev->ops->zero(dev, 0, buffer);
        dev->ops->axpy(dev, 1, 0.0F, buffer, buffer); // a launch checks what errors the wait has left behind
        dev->ops->download(dev, buffer, ELEMENTS * sizeof *host, host);
        status = dev->ops->sync(dev, err);
    }
    if (status != LW_OK) {
        lw_comm_abort(comm, status, err);
    }
    for (int64_t i = 0; i < ELEMENTS; i++) {
        float sum = 0.0F;
        for (int r = 0; r < size; r++) {
            sum += value(r, step, i);
        }
        if (host[i] != sum) {
            return false;
        }
    }
    return true;
}

static lw_status run(lw_comm *comm, const lw_config *config, int steps, lw_error *err)
{
    lw_rank_device seat;
    lw_device *dev = NULL;
    void *buffer = NULL;
    char plane[128];
    int64_t right = 0;
    float *host = calloc(ELEMENTS, sizeof *host);
    LW_TRY(lw_rank_device_choose(config, comm, err, &seat));
    lw_status status = lw_device_open(seat.kind, seat.index, 1, err, &dev);
    LW_TRY(lw_comm_agree(comm, status, err));
    lw_comm_bound_device(comm, dev);
    LW_TRY(lw_comm_agree(comm, dev->ops->alloc(dev, ELEMENTS * sizeof *host, err, &buffer), err));
    lw_comm_doing(comm, "connecting devices");
    LW_TRY(lw_comm_attach_device(comm, dev, config->comm.backend, ELEMENTS, err));
    for (int step = 1; step <= steps; step++) {
        right += one_sum(comm, dev, buffer, host, step, err);
    }
    printf("rank %d: %s\n", lw_comm_rank(comm), dev->description);
    lw_comm_data_plane(comm, plane, sizeof plane);
    LW_TRY(lw_comm_sum_i64(comm, &right, 1, err));
    if (lw_comm_rank(comm) == 0) {
        printf("%s: %lld sums right\n", plane, (long long)right);
    }
    lw_comm_detach_device(comm);
    dev->ops->free(dev, buffer);
    lw_device_close(&dev);
    free(host);
    return LW_OK;
}

int main(int argc, char **argv)
{
    lw_error err = {{0}};
    lw_comm *comm = NULL;
    int steps = argc > 1 ? atoi(argv[1]) : 3;
    double timeout_s = argc > 2 ? atof(argv[2]) : 60.0;
    const char *plane = argc > 3 ? argv[3] : "auto";
    const char *device = argc > 4 ? argv[4] : "cuda";
    lw_config config = {.comm = {LW_COMM_AUTO, timeout_s}};
    config.comm.backend = strcmp(plane, "mpi") == 0    ? LW_COMM_MPI
                          : strcmp(plane, "nccl") == 0 ? LW_COMM_NCCL
                                                       : LW_COMM_AUTO;
    config.device = strcmp(device, "cpu") == 0    ? LW_DEVICE_CPU
                    : strcmp(device, "auto") == 0 ? LW_DEVICE_AUTO
                                                  : LW_DEVICE_CUDA;
    lw_status status = lw_comm_create(&(lw_comm_options){.timeout_s = timeout_s}, &err, &comm);
    if (status == LW_OK) {
        status = run(comm, &config, steps, &err);
    }
    if (err.text[0] != '\0') {
        fprintf(stderr, "lwmpi: %s\n", err.text);
    }
    lw_comm_destroy(&comm);
    return lw_status_exit_code(status);
}
