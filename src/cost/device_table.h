// device_table.h: what a processor can do per second, from its vendor's datasheet or measured on this machine. Local.
#ifndef LW_DEVICE_TABLE_H
#define LW_DEVICE_TABLE_H

#include "device/device.h"

enum { LW_DEVICE_NAME_BYTES = 128 };

// Between ranks: an all-reduce by ring moves its bytes at this rate, and each of its steps costs this latency.
typedef struct lw_link {
    double bytes_per_s, latency_s;
} lw_link;

// Rates that a step really gets, not the peaks of a datasheet.
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

// Numbers that hold for no device in particular; each says in device_table.c where it is from.
double lw_device_memory_margin(void); // fraction of a device's memory that a job may fill

// The rates of `name`: a row of the table ("h100-sxm", any case), or numbers,
// "memory_gb=80,tflops=989,f32_tflops=67,gb_per_s=3350,link_gb_per_s=450[,per_node=8]". LW_ERR_CONFIG names the rows.
lw_status lw_device_table_find(const char *name, lw_error *err, lw_device_rates *out);

// Row i, for lists; false beyond the last.
bool lw_device_table_row(int i, lw_device_rates *out);

// What a rank's device holds beside its buffers: runtime_bytes, and NCCL's channels where ranks reduce with it.
double lw_device_runtime_bytes(const lw_device_rates *rates, int64_t ranks);

// The row that a device of this description is ("cuda: NVIDIA H200 ..."), or -1.
int lw_device_table_match(const char *description);

// Measures the open CPU device of `threads` threads: a product, a copy. About 100 ms.
lw_status lw_device_rates_cpu(lw_device *dev, int threads, lw_error *err, lw_device_rates *out);

// The same rates for `ranks` ranks of `threads` threads on one machine: cores are shared where there are too few. A GPU
// is its rank's alone.
lw_device_rates lw_device_rates_shared(const lw_device_rates *rates, int64_t ranks, int64_t threads);

// A device that lays out memory and computes nothing: `frozen_type` and the work space of attention, no alloc.
typedef struct lw_shape_device {
    lw_device base;
} lw_shape_device;
void lw_shape_device_init(const lw_device_rates *rates, lw_shape_device *out);

#endif
