// test_ops.c: runs every operator case on every backend.
//
//   test_ops [DEVICE] [FILTER ...] [--threads N] [--perf | --large]
//
// DEVICE: a name for lw_device_open; without one (or "all") every device of this list, skipping what is not compiled
// in or cannot run here. FILTER: a part of "operator shape", or !PART: those without it; all of them have to hold.
// Without --threads, checks run with 1 and with 3 threads, timings with 1. --large: instead of the cases, products of
// the sizes of real models (cases_large.c). Exit code 77 when nothing could be run.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "kernels/devices.h"

static const char *const devices[] = {"cpu:x86-64-v4", "cpu:x86-64-v3", "cpu:base", "cuda"};

static const struct case_table {
    const op_case *cases;
    const int *count;
} tables[] = {
    {gemm_cases, &gemm_case_count},           {norm_cases, &norm_case_count},       {row_cases, &row_case_count},
    {attention_cases, &attention_case_count}, {element_cases, &element_case_count}, {loss_cases, &loss_case_count},
};

enum { MAX_FILTERS = 8 };

typedef struct options {
    const char *device, *filter[MAX_FILTERS];
    int filters;
    int threads; // 0: not given
    bool perf, large;
} options;

typedef struct tally {
    int passed, failed;
} tally;

static bool is_wanted(const char *name, const void *context)
{
    const options *o = context;
    for (int i = 0; i < o->filters; i++) {
        bool without = o->filter[i][0] == '!';
        if ((strstr(name, o->filter[i] + without) != NULL) == without) {
            return false;
        }
    }
    return true;
}

// False when a filter that is a word says so of the operator's name: building a case computes its reference.
static bool may_be_wanted(const char *op, const options *o)
{
    for (int i = 0; i < o->filters; i++) {
        const char *filter = o->filter[i];
        bool without = filter[0] == '!';
        if (strpbrk(filter, " =") == NULL && (strstr(op, filter + without) != NULL) == without) {
            return false;
        }
    }
    return true;
}

static void run_case(lw_device *dev, const op_case *c, lw_dtype type, const options *o, tally *sum)
{
    op_test t = {.dev = dev, .type = type, .perf = c->perf, .of = c, .random = 12345};
    c->build(&t, c);
    char name[256];
    (void)snprintf(name, sizeof name, "%s %s", c->op, t.shape);
    if (is_wanted(name, o)) {
        if (c->perf) {
            op_time(&t);
        } else if (op_run(&t)) {
            sum->passed++;
        } else {
            sum->failed++;
            printf("FAILED %s %s\n", name, lw_dtype_name(type));
        }
    }
    op_release(&t);
}

static void run_cases(lw_device *dev, const op_case *cases, int count, const options *o, tally *sum)
{
    for (int i = 0; i < count; i++) {
        const op_case *c = &cases[i];
        if (c->perf != o->perf || !may_be_wanted(c->op, o)) {
            continue;
        }
        run_case(dev, c, LW_F32, o, sum);
        if (c->typed && dev->frozen_type != LW_F32) {
            run_case(dev, c, dev->frozen_type, o, sum);
        }
    }
}

// False when the device is not there.
static bool run_device(const char *kind, int threads, const options *o, tally *sum)
{
    lw_device *dev = NULL;
    lw_error err = {{0}};
    lw_status status = lw_device_open(kind, 0, threads, &err, &dev);
    if (status != LW_OK) {
        printf("%s: skipped: %s\n", kind, err.text);
        return false;
    }
    tally here = {0, 0};
    printf("%s: %s\n", kind, dev->description);
    if (o->large) {
        op_large_products(dev, is_wanted, o, &here.passed, &here.failed);
    } else {
        for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
            run_cases(dev, tables[i].cases, *tables[i].count, o, &here);
        }
    }
    if (dev->allocated_bytes != 0) {
        printf("FAILED %s: %zu bytes are held after everything was freed\n", kind, dev->allocated_bytes);
        here.failed++;
    }
    if (!o->perf) {
        printf("%s: %d passed, %d failed\n", kind, here.passed, here.failed);
    }
    lw_device_close(&dev);
    sum->passed += here.passed;
    sum->failed += here.failed;
    return true;
}

static bool has_case(const char *op)
{
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        for (int j = 0; j < *tables[i].count; j++) {
            if (strcmp(tables[i].cases[j].op, op) == 0 && !tables[i].cases[j].perf) {
                return true;
            }
        }
    }
    return false;
}

// Names the operators that no case checks. The cases of attention check the bytes of its work space.
static int count_unchecked(void)
{
#define NAME(op) #op,
    static const char *const operators[] = {LW_OPERATORS(NAME)};
#undef NAME
    int unchecked = 0;
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (!has_case(operators[i]) && strcmp(operators[i], "attention_work_bytes") != 0) {
            printf("FAILED %s: the operator has no case\n", operators[i]);
            unchecked++;
        }
    }
    return unchecked;
}

static bool run_threads(const char *kind, const options *o, tally *sum)
{
    bool opened = run_device(kind, o->threads > 0 ? o->threads : 1, o, sum);
    if (opened && o->threads == 0 && !o->perf && strncmp(kind, "cpu", 3) == 0) {
        (void)run_device(kind, 3, o, sum);
    }
    return opened;
}

int main(int argc, char **argv)
{
    options o = {0};
    (void)setvbuf(stdout, NULL, _IOLBF, BUFSIZ); // one that is killed has said what it found
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--perf") == 0) {
            o.perf = true;
        } else if (strcmp(argv[i], "--large") == 0) {
            o.large = true;
        } else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
            o.threads = (int)strtol(argv[++i], NULL, 10);
        } else if (o.device == NULL) {
            o.device = argv[i];
        } else if (o.filters < MAX_FILTERS) {
            o.filter[o.filters++] = argv[i];
        } else {
            printf("at most %d filters\n", MAX_FILTERS);
            return 2;
        }
    }
    tally sum = {0, o.perf ? 0 : count_unchecked()};
    int opened = 0;
    if (o.device != NULL && strcmp(o.device, "all") != 0) {
        opened = run_threads(o.device, &o, &sum) ? 1 : 0;
    } else {
        for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
            opened += run_threads(devices[i], &o, &sum) ? 1 : 0;
        }
    }
    if (opened == 0) {
        return 77;
    }
    return sum.failed == 0 && (o.perf || sum.passed > 0) ? 0 : 1;
}
