// device_table.c: datasheet rates of GPUs, measured rates of this CPU, and a device that only measures layouts.
#include "cost/device_table.h"

#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cost/rates.h"

// Peaks. Matrix rates are DENSE, with f32 accumulation; datasheets of the Ampere generation and later print twice that
// "with sparsity". Memory in 1e9 bytes, as the datasheets print it, although devices report a few per cent more.
typedef struct row {
    const char *name;
    const char *mark; // part of the name that the driver reports
    lw_dtype frozen_type;
    double memory_gb, matrix_tflops, f32_tflops, memory_gb_per_s, link_gb_per_s; // link: one direction
    int64_t per_node;
} row;

static const row rows[] = {
    // NVIDIA H200 Tensor Core GPU datasheet: bf16 1,979 with sparsity; NVLink 900 GB/s for both directions.
    {"h200-sxm", "H200", LW_BF16, 141, 989.5, 67, 4800, 450, 8},
    // NVIDIA H100 Tensor Core GPU datasheet, H100 SXM: bf16 1,979 with sparsity; NVLink 900 GB/s.
    {"h100-sxm", "H100 80GB HBM3", LW_BF16, 80, 989.5, 67, 3350, 450, 8},
    // The same datasheet (2022 edition), H100 PCIe: bf16 1,513 with sparsity; PCIe Gen5 128 GB/s.
    {"h100-pcie", "H100 PCIe", LW_BF16, 80, 756.5, 51, 2000, 64, 8},
    // NVIDIA A100 Tensor Core GPU datasheet, A100 80GB SXM: bf16 312; NVLink 600 GB/s.
    {"a100-80", "A100-SXM4-80GB", LW_BF16, 80, 312, 19.5, 2039, 300, 8},
    // NVIDIA A100 Tensor Core GPU architecture whitepaper, A100 40GB SXM: 1,555 GB/s.
    {"a100-40", "A100-SXM4-40GB", LW_BF16, 40, 312, 19.5, 1555, 300, 8},
    // NVIDIA L40S datasheet: bf16 362.05 dense (733 with sparsity); PCIe Gen4 x16 64 GB/s.
    {"l40s", "L40S", LW_BF16, 48, 362.05, 91.6, 864, 32, 8},
    // NVIDIA RTX A6000 datasheet, and the GA102 whitepaper: tensor rate 309.7 with sparsity; PCIe Gen4 x16.
    {"a6000", "RTX A6000", LW_BF16, 48, 154.8, 38.7, 768, 32, 8},
    // NVIDIA V100 datasheet, V100 SXM2 32GB: 125 fp16 (it has no bf16); NVLink 300 GB/s.
    {"v100", "V100", LW_F16, 32, 125, 15.7, 900, 150, 8},
    // NVIDIA Ada GPU architecture whitepaper, appendix A: fp16/bf16 tensor with f32 accumulation 165.2; PCIe Gen4 x16.
    {"rtx4090", "RTX 4090", LW_BF16, 24, 165.2, 82.6, 1008, 32, 4},
    // NVIDIA Ampere GA102 GPU architecture whitepaper, appendix A: the same of GeForce RTX 3090 71; PCIe Gen4 x16.
    {"rtx3090", "RTX 3090", LW_BF16, 24, 71, 35.6, 936, 32, 4},
};

enum { ROWS = sizeof rows / sizeof rows[0] };

// The share of their peaks that products and memory reach, as measured on an H200: 790 of 989 TFLOP/s and 4.3 of
// 4.8 TB/s. It is assumed for every GPU until `lwmpi bench` has measured the one at hand.
static const double MATRIX_SHARE = 790.0 / 989.5;
static const double MEMORY_SHARE = 4.3 / 4.8;
// nccl-tests on DGX A100 and H100: the bus bandwidth of a large all-reduce relative to one direction of NVLink.
static const double LINK_SHARE = 0.75;
// The time between two kernels of one stream that are launched one by one. NVIDIA, "Getting Started with CUDA Graphs"
// (2019): 3.8 us.
static const double GPU_LAUNCH_S = 3.8e-6;
// One HDR InfiniBand port for two GPUs is usual, so a GPU has 200 Gbit/s / 2 (Mellanox ConnectX-6 product brief).
static const double NETWORK_BYTES_PER_S = 12.5e9;
// Latencies of a ring's step inside a node and between nodes. They are allowances in the range of the base latencies
// that NCCL itself assumes (src/graph/tuning.cc).
static const double NODE_LATENCY_S = 7e-6;
static const double NETWORK_LATENCY_S = 15e-6;
// Memory taken by a CUDA context with the kernels of lwmpi and cuBLAS (about 0.5 GB on a Hopper GPU), by cuBLAS's work
// space and the staging of transfers (about 0.1 GB), and by NCCL's channel buffers for a ring in both directions
// (16 x 4 MiB x 2, and what it keeps for each peer). These are allowances, which vary with the version of the driver.
static const double GPU_RUNTIME_BYTES = 0.6e9;
static const double NCCL_BYTES = 0.4e9;

double lw_device_runtime_bytes(const lw_device_rates *rates, int64_t ranks)
{
    return rates->runtime_bytes + (rates->runtime_bytes > 0.0 && ranks > 1 ? NCCL_BYTES : 0.0);
}

double lw_device_memory_margin(void)
{
    return 0.92; // the rest is for fragmentation and for other users of the GPU
}

static lw_device_rates from_row(const row *r)
{
    lw_device_rates out = {.frozen_type = r->frozen_type,
                           .memory_bytes = r->memory_gb * 1e9,
                           .runtime_bytes = GPU_RUNTIME_BYTES,
                           .matrix_flop_per_s = r->matrix_tflops * 1e12 * MATRIX_SHARE,
                           .f32_flop_per_s = r->f32_tflops * 1e12 * MATRIX_SHARE,
                           .bytes_per_s = r->memory_gb_per_s * 1e9 * MEMORY_SHARE,
                           .launch_s = GPU_LAUNCH_S,
                           .node = {r->link_gb_per_s * 1e9 * LINK_SHARE, NODE_LATENCY_S},
                           .network = {NETWORK_BYTES_PER_S, NETWORK_LATENCY_S},
                           .per_node = r->per_node};
    snprintf(out.name, sizeof out.name, "%s", r->name);
    return out;
}

bool lw_device_table_row(int i, lw_device_rates *out)
{
    if (i < 0 || i >= ROWS) {
        return false;
    }
    *out = from_row(&rows[i]);
    return true;
}

int lw_device_table_match(const char *description)
{
    for (int i = 0; i < ROWS; i++) {
        if (strstr(description, rows[i].mark) != NULL) {
            return i;
        }
    }
    return -1;
}

// --- numbers instead of a name

typedef struct field {
    const char *key;
    double *value;
    double least;
} field;

static lw_status read_field(const char *text, size_t bytes, const field *fields, size_t count, lw_error *err)
{
    const char *equals = memchr(text, '=', bytes);
    size_t length = equals != NULL ? (size_t)(equals - text) : bytes;
    for (size_t i = 0; i < count && equals != NULL; i++) {
        if (strlen(fields[i].key) == length && strncmp(fields[i].key, text, length) == 0) {
            char *end = NULL;
            double value = strtod(equals + 1, &end);
            if (end != text + bytes || !(value >= fields[i].least) || value > 1e9) {
                return lw_fail(err, LW_ERR_CONFIG, "plan.device: \"%.*s\" is no number from %g to 1e9", (int)bytes,
                               text, fields[i].least);
            }
            *fields[i].value = value;
            return LW_OK;
        }
    }
    return lw_fail(err, LW_ERR_CONFIG,
                   "plan.device: \"%.*s\" is not understood; numbers are given as "
                   "memory_gb=80,tflops=989,f32_tflops=67,gb_per_s=3350,link_gb_per_s=450,per_node=8 (dense rates)",
                   (int)(bytes < 80 ? bytes : 80), text);
}

static lw_status from_numbers(const char *text, lw_error *err, lw_device_rates *out)
{
    row r = {.name = "custom", .frozen_type = LW_BF16};
    double per_node = 8;
    const field fields[] = {{"memory_gb", &r.memory_gb, 1e-3},         {"tflops", &r.matrix_tflops, 1e-6},
                            {"f32_tflops", &r.f32_tflops, 1e-6},       {"gb_per_s", &r.memory_gb_per_s, 1e-3},
                            {"link_gb_per_s", &r.link_gb_per_s, 1e-3}, {"per_node", &per_node, 1}};
    const size_t count = sizeof fields / sizeof fields[0];
    for (const char *at = text; *at != '\0';) {
        size_t bytes = strcspn(at, ",");
        LW_TRY(read_field(at, bytes, fields, count, err));
        at += bytes + (at[bytes] == ',');
    }
    for (size_t i = 0; i < count; i++) {
        if (*fields[i].value <= 0.0) {
            return lw_fail(err, LW_ERR_CONFIG, "plan.device: %s is missing in \"%.200s\"", fields[i].key, text);
        }
    }
    r.per_node = (int64_t)per_node;
    *out = from_row(&r);
    return LW_OK;
}

lw_status lw_device_table_find(const char *name, lw_error *err, lw_device_rates *out)
{
    char list[256] = "";
    if (strchr(name, '=') != NULL) {
        return from_numbers(name, err, out);
    }
    for (int i = 0; i < ROWS; i++) {
        if (strcasecmp(name, rows[i].name) == 0) {
            *out = from_row(&rows[i]);
            return LW_OK;
        }
        (void)strncat(list, i == 0 ? "" : ", ", sizeof list - strlen(list) - 1);
        (void)strncat(list, rows[i].name, sizeof list - strlen(list) - 1);
    }
    return lw_fail(err, LW_ERR_CONFIG,
                   "plan.device = \"%.80s\" is unknown; lwmpi knows auto, cpu, %s, and numbers such as "
                   "memory_gb=80,tflops=989,f32_tflops=67,gb_per_s=3350,link_gb_per_s=450",
                   name, list);
}

// --- this CPU

lw_status lw_device_rates_cpu(lw_device *dev, int threads, lw_error *err, lw_device_rates *out)
{
    cpu_set_t mask;
    lw_device_rates r = {.frozen_type = dev->frozen_type, .launch_s = 0.5e-6};
    LW_TRY(lw_gemm_rate(dev, err, &r.matrix_flop_per_s));
    LW_TRY(lw_copy_rate(dev, err, &r.bytes_per_s));
    r.f32_flop_per_s = r.matrix_flop_per_s;
    r.cores = sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : sysconf(_SC_NPROCESSORS_ONLN);
    r.cores = r.cores > 0 ? r.cores : 1;
    r.cores_per_rank = threads < r.cores ? threads : (double)r.cores;
    r.memory_bytes = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGE_SIZE);
    // Ranks of one machine pass messages through its memory: one core writes them, another reads them.
    r.node = (lw_link){r.bytes_per_s / (4.0 * r.cores_per_rank), 5e-6};
    r.network = r.node;
    snprintf(r.name, sizeof r.name, "cpu: %s", dev->description + strcspn(dev->description, ",") + 2);
    *out = r;
    return LW_OK;
}

static double cores_of_rank(const lw_device_rates *r, int64_t ranks, int64_t threads)
{
    double each = (double)r->cores / (double)ranks;
    return each < (double)threads ? each : (double)threads;
}

lw_device_rates lw_device_rates_shared(const lw_device_rates *rates, int64_t ranks, int64_t threads)
{
    lw_device_rates r = *rates;
    if (r.cores == 0) {
        return r;
    }
    double factor = cores_of_rank(rates, ranks, threads) / rates->cores_per_rank;
    r.matrix_flop_per_s *= factor;
    r.f32_flop_per_s *= factor;
    r.bytes_per_s *= factor;
    r.cores_per_rank *= factor;
    return r;
}

// --- layouts alone

// Only GPUs can be planned for without having one.
static size_t attention_work_bytes(lw_device *dev, const lw_attention *a)
{
    (void)dev;
    return lw_gpu_attention_work_bytes(a);
}

void lw_shape_device_init(const lw_device_rates *rates, lw_shape_device *out)
{
    static const lw_device_ops ops = {.name = "shape", .attention_work_bytes = attention_work_bytes};
    *out = (lw_shape_device){.base = {.ops = &ops, .frozen_type = rates->frozen_type}};
    snprintf(out->base.description, sizeof out->base.description, "%.100s (shapes only)", rates->name);
}
