// cases_large.c: products of the sizes of real models, on request (test_ops --large). Hundreds of millions of elements
// would be too many for the harness, which keeps every value in double: here a value is a function of its place,
// operands are made in pieces, and of the result some hundred elements are computed in float64. The rest of what the
// harness checks holds for all of it: written everywhere, nothing outside, and the same bits in a second run.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

enum { GUARD_BYTES = 256, PIECE = 1 << 22, SAMPLES = 400 };

typedef struct large_product {
    int64_t m, n, k;
    bool trans_b;
    bool narrow; // C has the type of A and B
} large_product;

static const large_product products[] = {
    {24, 520, 136, true, false},      // small, for any device: is this file right?
    {24, 520, 136, false, true},      // the same in the other form
    {168, 28672, 4096, true, true},   // gate and up of Llama-3.1-8B at batch 4
    {168, 28672, 4096, true, false},  // the same in f32
    {168, 4096, 28672, false, false}, // gradient of gate and up
    {168, 4096, 14336, true, false},  // down
    {168, 14336, 4096, false, true},  // gradient of down
    {1344, 28672, 4096, true, true},  // gate and up at batch 32
    {32, 152064, 3584, true, false},  // logits of Qwen2.5-7B at batch 4
    {32, 152064, 3584, true, true},   // the same in bf16
    {32, 3584, 152064, false, false}, // gradient of the logits
};

typedef struct large_run {
    lw_device *dev;
    large_product shape;
    lw_dtype type, c_type;
    size_t c_bytes;                // of C, without its guards
    void *a, *b, *c;               // on the device
    unsigned char *poison, *piece; // on the host: (guard, C, guard) before a run, and PIECE elements
    unsigned char *first, *second; // the same after the runs
    unsigned char bits[256][4];    // the values as `type` stores them
} large_run;

// --- operands

// SplitMix64 (Steele et al. 2014) of a counter: eight values a word.
static uint64_t word(uint64_t matrix, int64_t i)
{
    uint64_t z = matrix * 0xd1342543de82ef95ULL + (uint64_t)i * 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static unsigned byte_at(uint64_t matrix, int64_t i)
{
    return (unsigned)(word(matrix, i / 8) >> (8 * (i % 8))) & 255U;
}

// Multiples of 1/128 in [-1, 1): bf16 holds them, and f32 the sums of their products, so that no order rounds.
static double value_of(unsigned byte)
{
    return ((double)byte - 128.0) / 128.0;
}

static void upload_matrix(const large_run *r, uint64_t matrix, int64_t count, void *out)
{
    size_t size = lw_dtype_bytes(r->type);
    for (int64_t from = 0; from < count; from += PIECE) {
        int64_t n = count - from < PIECE ? count - from : PIECE;
        for (int64_t i = 0; i < n; i += 8) {
            uint64_t bytes = word(matrix, (from + i) / 8);
            for (int64_t j = i; j < i + 8; j++, bytes >>= 8) { // PIECE is a multiple of 8
                memcpy(r->piece + (size_t)j * size, r->bits[bytes & 255U], size);
            }
        }
        r->dev->ops->upload(r->dev, r->piece, (size_t)n * size, (unsigned char *)out + (size_t)from * size);
    }
}

// --- judging

static double expected(const large_product *s, int64_t row, int64_t column)
{
    double sum = 0.0;
    for (int64_t i = 0; i < s->k; i++) {
        int64_t at = s->trans_b ? column * s->k + i : i * s->n + column;
        sum += value_of(byte_at(1, row * s->k + i)) * value_of(byte_at(2, at));
    }
    return sum;
}

static bool check_sample(const large_run *r, double *error)
{
    const large_product *s = &r->shape;
    size_t size = lw_dtype_bytes(r->c_type);
    double apart = 0.0, norm = 0.0;
    for (int64_t i = 0; i < SAMPLES; i++) {
        int64_t row = (int64_t)(word(3, i) % (uint64_t)s->m), column = (int64_t)(word(4, i) % (uint64_t)s->n);
        if (i < 4) { // the corners
            row = i / 2 * (s->m - 1);
            column = i % 2 * (s->n - 1);
        }
        double out = op_fetch(r->c_type, r->first + GUARD_BYTES + (size_t)(row * s->n + column) * size);
        double expect = expected(s, row, column);
        apart += (out - expect) * (out - expect);
        norm += expect * expect;
    }
    *error = sqrt(apart / norm);
    double tolerance = r->c_type == LW_BF16 ? 4e-3 : 2e-6; // bf16: half a unit in the last place
    if (!(*error <= tolerance)) {
        printf("    c: relative error %.3g, tolerance %.3g\n", *error, tolerance);
    }
    return *error <= tolerance;
}

static bool check_all(const large_run *r)
{
    size_t size = lw_dtype_bytes(r->c_type), end = GUARD_BYTES + r->c_bytes;
    if (memcmp(r->first, r->poison, GUARD_BYTES) != 0 || memcmp(r->first + end, r->poison + end, GUARD_BYTES) != 0) {
        printf("    c: written outside its elements\n");
        return false;
    }
    for (size_t at = GUARD_BYTES; at < end; at += size) {
        double out = op_fetch(r->c_type, r->first + at);
        if (!isfinite(out)) {
            printf("    c[%zu] = %g\n", (at - GUARD_BYTES) / size, out);
            return false;
        }
    }
    if (memcmp(r->first, r->second, end + GUARD_BYTES) != 0) {
        printf("    c: two runs differ\n");
        return false;
    }
    return true;
}

// --- running

static bool run_once(const large_run *r, unsigned char *out)
{
    const large_product *s = &r->shape;
    const lw_device_ops *ops = r->dev->ops;
    lw_error err = {{0}};
    lw_gemm g = {.trans_b = s->trans_b, .m = s->m, .n = s->n, .k = s->k, .alpha = 1.0f, .a = r->a, .b = r->b};
    g.c = (unsigned char *)r->c + GUARD_BYTES;
    g.lda = s->k;
    g.ldb = s->trans_b ? s->k : s->n;
    g.ldc = s->n;
    g.ab_type = r->type;
    g.c_type = r->c_type;
    ops->upload(r->dev, r->poison, r->c_bytes + 2 * (size_t)GUARD_BYTES, r->c);
    ops->gemm(r->dev, &g);
    ops->download(r->dev, r->c, r->c_bytes + 2 * (size_t)GUARD_BYTES, out);
    if (ops->sync(r->dev, &err) != LW_OK) {
        printf("    device error: %s\n", err.text);
        return false;
    }
    return true;
}

static bool allocate(large_run *r)
{
    const large_product *s = &r->shape;
    const lw_device_ops *ops = r->dev->ops;
    lw_error err = {{0}};
    size_t size = lw_dtype_bytes(r->type), image = r->c_bytes + 2 * (size_t)GUARD_BYTES;
    r->poison = malloc(image);
    r->first = malloc(image);
    r->second = malloc(image);
    r->piece = malloc((size_t)PIECE * size);
    if (r->poison == NULL || r->first == NULL || r->second == NULL || r->piece == NULL) {
        printf("    no host memory\n");
        return false;
    }
    memset(r->poison, 0xff, image); // NaN in every float type
    for (int i = 0; i < 256; i++) {
        op_store(r->type, value_of((unsigned)i), r->bits[i]);
    }
    if (ops->alloc(r->dev, (size_t)(s->m * s->k) * size, &err, &r->a) != LW_OK ||
        ops->alloc(r->dev, (size_t)(s->n * s->k) * size, &err, &r->b) != LW_OK ||
        ops->alloc(r->dev, image, &err, &r->c) != LW_OK) {
        printf("    %s\n", err.text);
        return false;
    }
    return true;
}

static void release(large_run *r)
{
    const lw_device_ops *ops = r->dev->ops;
    ops->free(r->dev, r->a);
    ops->free(r->dev, r->b);
    ops->free(r->dev, r->c);
    free(r->poison);
    free(r->piece);
    free(r->first);
    free(r->second);
}

static bool run_product(lw_device *dev, const large_product *s, const char *name)
{
    large_run r = {.dev = dev, .shape = *s, .type = dev->frozen_type};
    double error = NAN;
    r.c_type = s->narrow ? r.type : LW_F32;
    r.c_bytes = (size_t)(s->m * s->n) * lw_dtype_bytes(r.c_type);
    bool good = allocate(&r);
    if (good) {
        upload_matrix(&r, 1, s->m * s->k, r.a);
        upload_matrix(&r, 2, s->n * s->k, r.b);
        good = run_once(&r, r.first) && run_once(&r, r.second) && check_all(&r) && check_sample(&r, &error);
    }
    printf("%s %s, relative error %.1e\n", good ? "passed" : "FAILED", name, error);
    release(&r);
    return good;
}

void op_large_products(lw_device *dev, op_wanted wanted, const void *context, int *passed, int *failed)
{
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        const large_product *s = &products[i];
        char name[128];
        (void)snprintf(name, sizeof name, "gemm m=%lld n=%lld k=%lld N%c %s to %s", (long long)s->m, (long long)s->n,
                       (long long)s->k, s->trans_b ? 'T' : 'N', lw_dtype_name(dev->frozen_type),
                       lw_dtype_name(s->narrow ? dev->frozen_type : LW_F32));
        if (wanted(name, context)) {
            int *count = run_product(dev, s, name) ? passed : failed;
            (*count)++;
        }
    }
}
