// rates.c: times products and copies on a device.
#include "cost/rates.h"

#include <stdlib.h>

#include "core/clock.h"

typedef void enqueue(lw_device *dev, const void *what);

typedef struct call_times {
    double best_s, median_s;
} call_times;

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

// Measures the seconds of one call, in rounds of so many calls that the wait for the end does not matter.
static lw_status time_calls(lw_device *dev, enqueue *call, const void *what, lw_error *err, call_times *out)
{
    enum { ROUNDS = 5 };
    static const double round_s = 5e-3;
    int64_t calls = 1;
    double each_s[ROUNDS];
    call(dev, what); // the first call may set things up, so it is not timed
    LW_TRY(dev->ops->sync(dev, err));
    lw_heartbeat_report(&dev->heartbeat); // rank 0 measures alone, for its forecast
    for (int round = 0; round < ROUNDS;) {
        double start_s = lw_now_s();
        for (int64_t i = 0; i < calls; i++) {
            call(dev, what);
        }
        LW_TRY(dev->ops->sync(dev, err));
        lw_heartbeat_report(&dev->heartbeat);
        double wall_s = lw_now_s() - start_s;
        if (wall_s < round_s && calls < 1 << 16) {
            calls *= wall_s < round_s / 8 ? 8 : 2;
            continue;
        }
        each_s[round++] = wall_s / (double)calls;
    }
    qsort(each_s, ROUNDS, sizeof *each_s, compare_doubles);
    *out = (call_times){.best_s = each_s[0], .median_s = each_s[ROUNDS / 2]};
    return LW_OK;
}

static void enqueue_gemm(lw_device *dev, const void *what)
{
    dev->ops->gemm(dev, what);
}

static void fill(lw_device *dev, int64_t n, uint64_t stream, lw_dtype type, void *out)
{
    dev->ops->random_normal(
        dev, &(lw_random_normal_args){.n = n, .seed = 1, .stream = stream, .std = 1.0F, .type = type, .out = out});
}

lw_status lw_product_rates(lw_device *dev, const lw_gemm *g, lw_error *err, double *best, double *median)
{
    call_times times;
    double flop = 2.0 * (double)g->m * (double)g->n * (double)g->k;
    int64_t rows = g->trans_a ? g->k : g->m;
    // The operator takes a pointer to const, but the caller has given the memory to be overwritten.
    void *a = (void *)(uintptr_t)g->a;
    fill(dev, rows * g->lda, 1, g->ab_type, a);
    LW_TRY(time_calls(dev, enqueue_gemm, g, err, &times));
    *best = flop / times.best_s;
    *median = flop / times.median_s;
    return LW_OK;
}

lw_status lw_product_rate(lw_device *dev, const lw_gemm *g, lw_error *err, double *out)
{
    double median;
    return lw_product_rates(dev, g, err, out, &median);
}

static lw_status square_rate(lw_device *dev, int64_t n, lw_error *err, double *out)
{
    size_t operand = (size_t)(n * n) * lw_dtype_bytes(dev->frozen_type);
    void *block = NULL;
    LW_TRY(dev->ops->alloc(dev, 2 * operand + (size_t)(n * n) * sizeof(float), err, &block));
    unsigned char *memory = block;
    fill(dev, n * n, 2, dev->frozen_type, memory + operand);
    lw_status status = lw_product_rate(dev,
                                       &(lw_gemm){.trans_b = true,
                                                  .m = n,
                                                  .n = n,
                                                  .k = n,
                                                  .alpha = 1.0F,
                                                  .a = memory,
                                                  .b = memory + operand,
                                                  .c = memory + 2 * operand,
                                                  .lda = n,
                                                  .ldb = n,
                                                  .ldc = n,
                                                  .ab_type = dev->frozen_type},
                                       err, out);
    dev->ops->free(dev, block);
    return status;
}

lw_status lw_gemm_rate(lw_device *dev, lw_error *err, double *out)
{
    // A product that takes this long reaches the device's full rate.
    static const double enough_s = 0.5e-3;
    double each_s = 0.0;
    for (int64_t n = 512; n <= 8192 && each_s < enough_s; n *= 4) {
        LW_TRY(square_rate(dev, n, err, out));
        each_s = 2.0 * (double)n * (double)n * (double)n / *out;
    }
    return LW_OK;
}

typedef struct copy {
    const unsigned char *from;
    unsigned char *to;
    size_t bytes;
} copy;

static void enqueue_copy(lw_device *dev, const void *what)
{
    const copy *c = what;
    dev->ops->copy(dev, c->from, c->bytes, c->to);
}

static lw_status time_copy(lw_device *dev, size_t bytes, lw_error *err, double *out)
{
    void *block = NULL;
    LW_TRY(dev->ops->alloc(dev, 2 * bytes, err, &block));
    unsigned char *memory = block;
    dev->ops->zero(dev, 2 * bytes, memory); // so that every buffer gets pages of its own
    const copy c = {memory, memory + bytes, bytes};
    call_times times;
    lw_status status = time_calls(dev, enqueue_copy, &c, err, &times);
    dev->ops->free(dev, block);
    if (status == LW_OK) {
        *out = times.best_s;
    }
    return status;
}

lw_status lw_copy_rate(lw_device *dev, lw_error *err, double *out)
{
    // A copy that takes this long does not fit in a cache. What suffices for a CPU, a GPU copies in microseconds.
    static const double enough_s = 100e-6;
    double each_s = 0.0;
    for (size_t bytes = (size_t)32 << 20; bytes <= (size_t)512 << 20 && each_s < enough_s; bytes *= 4) {
        LW_TRY(time_copy(dev, bytes, err, &each_s));
        *out = 2.0 * (double)bytes / each_s;
    }
    return LW_OK;
}
