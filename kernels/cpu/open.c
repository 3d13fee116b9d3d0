// open.c: chooses the instruction set and opens the CPU device.
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "device_cpu.h"

typedef struct lw_cpu_isa {
    const char *name;
    const lw_device_ops *ops;
    bool runnable;
} lw_cpu_isa;

#define LW_CPU_MAX_ISAS 3

// The compiled instruction sets, best first.
static int list_isas(lw_cpu_isa list[LW_CPU_MAX_ISAS])
{
    int n = 0;
#ifdef LWMPI_CPU_V4
    list[n++] = (lw_cpu_isa){"x86-64-v4", &lw_cpu_ops_v4, __builtin_cpu_supports("x86-64-v4") != 0};
#endif
#ifdef LWMPI_CPU_V3
    list[n++] = (lw_cpu_isa){"x86-64-v3", &lw_cpu_ops_v3, __builtin_cpu_supports("x86-64-v3") != 0};
#endif
    list[n++] = (lw_cpu_isa){"base", &lw_cpu_ops_base, true};
    return n;
}

static lw_status choose_isa(const char *isa, lw_error *err, lw_cpu_isa *out)
{
    lw_cpu_isa list[LW_CPU_MAX_ISAS];
    int n = list_isas(list);
    for (int i = 0; i < n; i++) {
        if (isa == NULL ? list[i].runnable : strcmp(isa, list[i].name) == 0) {
            if (!list[i].runnable) {
                return lw_fail(err, LW_ERR_UNSUPPORTED,
                               "cpu: this processor cannot run %s code; leave the choice "
                               "to lwmpi with device = \"cpu\"",
                               isa);
            }
            *out = list[i];
            return LW_OK;
        }
    }
    return lw_fail(err, LW_ERR_UNSUPPORTED, "cpu: instruction set \"%s\" is not compiled in", isa);
}

lw_status lw_cpu_open(const char *isa, int threads, lw_error *err, lw_device **out)
{
    if (threads < 1 || threads > LW_CPU_MAX_THREADS) {
        return lw_fail(err, LW_ERR_USAGE, "cpu: threads is %d, it must be 1 .. %d", threads, LW_CPU_MAX_THREADS);
    }
    lw_cpu_isa chosen = {0};
    LW_TRY(choose_isa(isa, err, &chosen));
    lw_cpu *cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "cpu: cannot allocate the device");
    }
#ifdef LW_HAVE_OPENBLAS
    openblas_set_num_threads(1);
    const char *blas = openblas_get_config(), *core = openblas_get_corename(); // "OpenBLAS 0.3.21 ...flags", "Zen"
#else
    const char *blas = "BLAS", *core = "unknown kernel";
#endif
    cpu->threads = threads;
    cpu->base.ops = chosen.ops;
    cpu->base.frozen_type = LW_F32;
    int blas_words = (int)strcspn(blas, " ");
    blas_words += blas[blas_words] == ' ' ? 1 + (int)strcspn(blas + blas_words + 1, " ") : 0;
    (void)snprintf(cpu->base.description, sizeof cpu->base.description, "cpu: %d thread%s, %s, %.*s (%.20s)", threads,
                   threads == 1 ? "" : "s", chosen.name, blas_words, blas, core);
    *out = &cpu->base;
    return LW_OK;
}
