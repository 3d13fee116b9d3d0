// device_table.h: what a processor can do per second, from its vendor's datasheet or measured on this machine. Local.
#ifndef LW_DEVICE_TABLE_H
#define LW_DEVICE_TABLE_H

#include "device/device.h"

enum { LW_DEVICE_NAME_BYTES = 128 };

// A connection between ranks: a ring all-reduce moves its bytes at this rate, and each of its steps costs this latency.
typedef struct lw_link {
    double bytes_per_s, latency_s;
} lw_link;

// The rates that a step really reaches, not the peaks of a datasheet.
typedef struct lw_device_rates {
    char name[LW_DEVICE_NAME_BYTES];
    lw_dtype frozen_type;
    double memory_bytes;      // of one GPU; of the whole machine for the CPU
    double runtime_bytes;     // taken by the driver, cuBLAS and staging before the first buffer; 0 on a CPU
    double matrix_flop_per_s; // products of frozen operands
    double f32_flop_per_s;    // products of trainables
    double bytes_per_s;       // of memory
    double launch_s;          // the least that an operator takes
    lw_link node, network;    // inside a node, between nodes
    int64_t per_node;         // GPUs of a node; 0: all ranks are on one
    int64_t cores;            // CPU: of this machine; 0 for a GPU
    double cores_per_rank;    // CPU: cores that the rates above belong to; 0 for a GPU
} lw_device_rates;

// A number that is the same for all devices; device_table.c gives the sources of such numbers.
double lw_device_memory_margin(void); // fraction of a device's memory that a job may fill

// Finds the rates of `name`: a row of the table ("h100-sxm", any case), or numbers,
// "memory_gb=80,tflops=989,f32_tflops=67,gb_per_s=3350,link_gb_per_s=450[,per_node=8]". LW_ERR_CONFIG lists the rows.
lw_status lw_device_table_find(const char *name, lw_error *err, lw_device_rates *out);

// Row i of the table; false beyond the last.
bool lw_device_table_row(int i, lw_device_rates *out);

// Bytes that a rank's device holds beside its buffers: runtime_bytes, and NCCL's channels if several ranks use it.
double lw_device_runtime_bytes(const lw_device_rates *rates, int64_t ranks);

// The row of the device that describes itself like this ("cuda: NVIDIA H200 ..."), or -1.
int lw_device_table_match(const char *description);

// Measures a product and a copy on the open CPU device of `threads` threads. Takes about 100 ms.
lw_status lw_device_rates_cpu(lw_device *dev, int threads, lw_error *err, lw_device_rates *out);

// The rates of each of `ranks` ranks of `threads` threads on one machine, whose cores they share if there are too few.
// A GPU belongs to one rank.
lw_device_rates lw_device_rates_shared(const lw_device_rates *rates, int64_t ranks, int64_t threads);

// A device for measuring layouts, which cannot allocate or compute. It knows `frozen_type` and the work space of
// attention.
typedef struct lw_shape_device {
    lw_device base;
} lw_shape_device;
void lw_shape_device_init(const lw_device_rates *rates, lw_shape_device *out);

#endif
