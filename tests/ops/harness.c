// harness.c: see harness.h.
#include "harness.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GUARD_BYTES 256
#define FD_STEP 3e-5
#define FD_DIRECTIONS 6

void *op_own(op_test *t, size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);
    void **owned = realloc(t->owned, (size_t)(t->owned_count + 1) * sizeof *owned);
    if (memory == NULL || owned == NULL) {
        fprintf(stderr, "test_ops: out of memory\n");
        exit(1);
    }
    owned[t->owned_count++] = memory;
    t->owned = owned;
    return memory;
}

void op_release(op_test *t)
{
    for (int i = 0; i < t->owned_count; i++) {
        free(t->owned[i]);
    }
    free(t->owned);
    t->owned = NULL;
    t->owned_count = 0;
}

// SplitMix64 (Steele et al. 2014).
static uint64_t next(op_test *t)
{
    uint64_t z = (t->random += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

double op_uniform(op_test *t)
{
    return (double)(next(t) >> 11) * 0x1p-53;
}

int64_t op_below(op_test *t, int64_t bound)
{
    return (int64_t)(op_uniform(t) * (double)bound);
}

static double gauss(op_test *t)
{
    double u = 1.0 - op_uniform(t);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * op_uniform(t));
}

// --- building cases

double *op_normal(op_test *t, int64_t count, double scale, lw_dtype type)
{
    double *x = op_own(t, (size_t)count, sizeof *x);
    for (int64_t i = 0; i < count; i++) {
        x[i] = op_round(t->perf ? scale * (op_uniform(t) - 0.5) : scale * gauss(t), type);
    }
    return x;
}

double *op_copy(op_test *t, int64_t count, const double *x)
{
    double *y = op_own(t, (size_t)count, sizeof *y);
    if (count > 0) {
        memcpy(y, x, (size_t)count * sizeof *y);
    }
    return y;
}

double *op_rounded(op_test *t, int64_t count, const double *x, lw_dtype type)
{
    double *y = op_own(t, (size_t)count, sizeof *y);
    for (int64_t i = 0; i < count; i++) {
        y[i] = op_round(x[i], type);
    }
    return y;
}

void op_describe(op_test *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(t->shape, sizeof t->shape, format, arguments);
    va_end(arguments);
}

static int add(op_test *t, op_buffer b)
{
    if (t->buffers == OP_MAX_BUFFERS) {
        fprintf(stderr, "test_ops: too many buffers\n");
        exit(1);
    }
    t->buffer[t->buffers] = b;
    return t->buffers++;
}

int op_input(op_test *t, const char *name, lw_dtype type, int64_t count, double *values)
{
    return add(t, (op_buffer){.name = name, .role = OP_INPUT, .type = type, .count = count, .start = values});
}

int op_index(op_test *t, const char *name, int64_t count, const int32_t *values)
{
    double *x = op_own(t, (size_t)count, sizeof *x);
    for (int64_t i = 0; i < count; i++) {
        x[i] = values[i];
    }
    return op_input(t, name, LW_I32, count, x);
}

int op_output(op_test *t, const char *name, lw_dtype type, int64_t count, double tolerance)
{
    double *expect = op_own(t, (size_t)count, sizeof *expect);
    return add(
        t,
        (op_buffer){
            .name = name, .role = OP_OUTPUT, .type = type, .count = count, .expect = expect, .tolerance = tolerance});
}

int op_update(op_test *t, const char *name, lw_dtype type, int64_t count, double *before, double tolerance)
{
    int b = op_output(t, name, type, count, tolerance);
    t->buffer[b].role = OP_UPDATE;
    t->buffer[b].start = before;
    if (count > 0) {
        memcpy(t->buffer[b].expect, before, (size_t)count * sizeof *before);
    }
    return b;
}

int op_work(op_test *t, const char *name, size_t bytes)
{
    return add(t, (op_buffer){.name = name, .role = OP_WORK, .type = LW_F32, .count = (int64_t)((bytes + 3) / 4)});
}

double op_tolerance(const op_test *t, double f32)
{
    return t->type == LW_BF16 ? 1e-2 : f32;
}

static double difference(op_loss loss, void *context, double *x, int64_t n, const double *direction, double step)
{
    double *saved = malloc((size_t)(n > 0 ? n : 1) * sizeof *saved);
    if (saved == NULL) {
        exit(1);
    }
    memcpy(saved, x, (size_t)n * sizeof *saved);
    for (int64_t i = 0; i < n; i++) {
        x[i] = saved[i] + step * direction[i];
    }
    double up = loss(context);
    for (int64_t i = 0; i < n; i++) {
        x[i] = saved[i] - step * direction[i];
    }
    double down = loss(context);
    memcpy(x, saved, (size_t)n * sizeof *saved);
    free(saved);
    return (up - down) / (2.0 * step);
}

// The sample of elements misses the few large ones of a sparse gradient (a cross-entropy's targets); the mean square of
// its products with normal directions does not.
static void measure_by_projections(op_test *t, int b)
{
    double squares = 0.0, count = 0.0;
    for (int i = 0; i < t->projections; i++) {
        if (t->projection[i].buffer == b) {
            squares += t->projection[i].expect * t->projection[i].expect;
            count += 1.0;
        }
    }
    for (int i = 0; i < t->projections; i++) {
        if (t->projection[i].buffer == b) {
            t->projection[i].norm = fmax(t->projection[i].norm, sqrt(squares / count));
        }
    }
}

void op_expect_gradient(op_test *t, int b, double *x, op_loss loss, void *context, int64_t limit)
{
    op_buffer *buffer = &t->buffer[b];
    int64_t n = buffer->count, members = 0;
    if (t->perf || n == 0) {
        return;
    }
    if (buffer->state == NULL) {
        buffer->state = op_own(t, (size_t)n, 1);
    }
    for (int64_t i = 0; i < n; i++) {
        members += buffer->state[i] != OP_KEEP;
    }
    bool sample = members > limit;
    double squares = 0.0;
    int64_t checked = 0;
    for (int64_t i = 0; i < n; i++) {
        if (buffer->state[i] == OP_KEEP) {
            continue;
        }
        if (sample && op_uniform(t) * (double)members > (double)limit) {
            buffer->state[i] = OP_FINITE;
            continue;
        }
        double old = x[i];
        x[i] = old + FD_STEP;
        double up = loss(context);
        x[i] = old - FD_STEP;
        double down = loss(context);
        x[i] = old;
        double slope = (up - down) / (2.0 * FD_STEP);
        buffer->expect[i] = slope + (buffer->start != NULL ? buffer->start[i] : 0.0);
        squares += slope * slope;
        checked++;
    }
    for (int k = 0; k < FD_DIRECTIONS && sample && t->projections < OP_MAX_PROJECTIONS; k++) {
        double *direction = op_own(t, (size_t)n, sizeof *direction);
        for (int64_t i = 0; i < n; i++) {
            direction[i] = buffer->state[i] == OP_KEEP ? 0.0 : gauss(t);
        }
        double step = FD_STEP / sqrt((double)members);
        op_projection p = {b, direction, buffer->start, difference(loss, context, x, n, direction, step),
                           sqrt(squares * (double)members / (double)(checked > 0 ? checked : 1))};
        t->projection[t->projections++] = p;
    }
    measure_by_projections(t, b);
}

// --- running

typedef struct image {
    size_t bytes;          // of the elements
    unsigned char *before; // guard, elements, guard
    unsigned char *first;  // after the first run
    unsigned char *second;
    void *device;
} image;

static size_t image_size(const image *m)
{
    return m->bytes + 2 * (size_t)GUARD_BYTES;
}

static void make_image(op_test *t, const op_buffer *b, image *m)
{
    size_t size = lw_dtype_bytes(b->type);
    m->bytes = (size_t)b->count * size;
    m->before = op_own(t, image_size(m), 1);
    m->first = op_own(t, image_size(m), 1);
    m->second = op_own(t, image_size(m), 1);
    memset(m->before, 0xff, image_size(m)); // NaN in every float type
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        m->before[i] = (unsigned char)(0xa5 ^ i);
        m->before[GUARD_BYTES + m->bytes + i] = (unsigned char)(0x5a ^ i);
    }
    for (int64_t i = 0; i < b->count && b->start != NULL; i++) {
        op_store(b->type, b->start[i], m->before + GUARD_BYTES + (size_t)i * size);
    }
}

static void launch(op_test *t, image *m)
{
    void *p[OP_MAX_BUFFERS];
    for (int i = 0; i < t->buffers; i++) {
        p[i] = (unsigned char *)m[i].device + GUARD_BYTES;
    }
    t->launch(t, p);
}

static bool run_once(op_test *t, image *m, bool second)
{
    const lw_device_ops *ops = t->dev->ops;
    for (int i = 0; i < t->buffers; i++) {
        ops->upload(t->dev, m[i].before, image_size(&m[i]), m[i].device);
    }
    launch(t, m);
    for (int i = 0; i < t->buffers; i++) {
        ops->download(t->dev, m[i].device, image_size(&m[i]), second ? m[i].second : m[i].first);
    }
    lw_error err = {{0}};
    if (ops->sync(t->dev, &err) != LW_OK) {
        printf("    device error: %s\n", err.text);
        return false;
    }
    return true;
}

static bool check_bytes(const op_buffer *b, const image *m)
{
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        size_t after = GUARD_BYTES + m->bytes + i;
        if (m->first[i] != m->before[i] || m->first[after] != m->before[after]) {
            printf("    %s: written outside its %lld elements\n", b->name, (long long)b->count);
            return false;
        }
    }
    if (b->role == OP_INPUT && memcmp(m->first, m->before, image_size(m)) != 0) {
        printf("    %s: an input was changed\n", b->name);
        return false;
    }
    if (b->role != OP_WORK && memcmp(m->first, m->second, image_size(m)) != 0) {
        printf("    %s: two runs differ\n", b->name);
        return false;
    }
    return true;
}

static bool check_values(const op_buffer *b, const image *m)
{
    if (b->expect == NULL) {
        return true;
    }
    size_t size = lw_dtype_bytes(b->type);
    double error = 0.0, norm = 0.0;
    for (int64_t i = 0; i < b->count; i++) {
        size_t at = GUARD_BYTES + (size_t)i * size;
        double out = op_fetch(b->type, m->first + at), expect = b->expect[i];
        int state = b->state == NULL ? OP_CHECK : b->state[i];
        if (state == OP_KEEP) {
            if (memcmp(m->first + at, m->before + at, size) != 0) {
                printf("    %s[%lld]: written, though it is no part of the result\n", b->name, (long long)i);
                return false;
            }
        } else if (state == OP_FINITE) {
            if (!isfinite(out)) {
                printf("    %s[%lld] = %g\n", b->name, (long long)i, out);
                return false;
            }
        } else if (!isfinite(expect) || !isfinite(out)) {
            if (isnan(expect) ? !isnan(out) : out != expect) {
                printf("    %s[%lld] = %g, expected %g\n", b->name, (long long)i, out, expect);
                return false;
            }
        } else {
            error += (out - expect) * (out - expect);
            norm += expect * expect;
        }
    }
    if (sqrt(error) > b->tolerance * sqrt(norm)) {
        printf("    %s: relative error %.3g, tolerance %.3g\n", b->name, sqrt(error / (norm > 0.0 ? norm : 1e-300)),
               b->tolerance);
        return false;
    }
    return true;
}

static bool check_projection(const op_test *t, const op_projection *p, const image *m)
{
    const op_buffer *b = &t->buffer[p->buffer];
    size_t size = lw_dtype_bytes(b->type);
    double sum = 0.0;
    for (int64_t i = 0; i < b->count; i++) {
        if (p->direction[i] != 0.0) {
            double out = op_fetch(b->type, m->first + GUARD_BYTES + (size_t)i * size);
            sum += p->direction[i] * (out - (p->base != NULL ? p->base[i] : 0.0));
        }
    }
    if (!(fabs(sum - p->expect) <= 4.0 * b->tolerance * p->norm)) {
        printf("    %s: along a random direction %.9g, expected %.9g (norm %.3g)\n", b->name, sum, p->expect, p->norm);
        return false;
    }
    return true;
}

static bool allocate(op_test *t, image *m)
{
    for (int i = 0; i < t->buffers; i++) {
        lw_error err = {{0}};
        make_image(t, &t->buffer[i], &m[i]);
        if (t->dev->ops->alloc(t->dev, image_size(&m[i]), &err, &m[i].device) != LW_OK) {
            printf("    %s\n", err.text);
            return false;
        }
    }
    return true;
}

static void release_images(op_test *t, image *m)
{
    for (int i = 0; i < t->buffers; i++) {
        t->dev->ops->free(t->dev, m[i].device);
    }
}

bool op_run(op_test *t)
{
    image m[OP_MAX_BUFFERS] = {{0}};
    bool good = allocate(t, m) && run_once(t, m, false) && run_once(t, m, true);
    for (int i = 0; good && i < t->buffers; i++) {
        good = check_bytes(&t->buffer[i], &m[i]) && check_values(&t->buffer[i], &m[i]);
    }
    for (int i = 0; good && i < t->projections; i++) {
        good = check_projection(t, &t->projection[i], &m[t->projection[i].buffer]);
    }
    release_images(t, m);
    return good;
}

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

// Best of several batches, each long enough for the clock.
void op_time(op_test *t)
{
    image m[OP_MAX_BUFFERS] = {{0}};
    lw_error err = {{0}};
    if (allocate(t, m) && run_once(t, m, false)) {
        double best = INFINITY, began = now();
        int calls = 1;
        while (now() - began < 0.5) {
            double start = now();
            for (int i = 0; i < calls; i++) {
                launch(t, m);
            }
            if (t->dev->ops->sync(t->dev, &err) != LW_OK) {
                printf("    device error: %s\n", err.text);
                break;
            }
            double elapsed = now() - start;
            best = fmin(best, elapsed / calls);
            if (elapsed < 0.005) {
                calls *= 2;
            }
        }
        printf("%-19s %-4s %-66s %9.1f us", t->of->op, lw_dtype_name(t->type), t->shape, best * 1e6);
        if (t->flops > 0.0) {
            printf(" %8.1f GFLOP/s", t->flops / best * 1e-9);
        }
        if (t->bytes > 0.0) {
            printf(" %8.1f GB/s", t->bytes / best * 1e-9);
        }
        printf("\n");
    }
    release_images(t, m);
}
