// cpu.h: what the files of the CPU device share.
//
// Every operator file is compiled once per instruction set: with LW_CPU_ISA=v4, v3 (and -march=x86-64-v4, v3) beside
// the plain one, so that one binary is fast on AVX-512 and AVX2 machines and runs anywhere. LW_CPU(rmsnorm) is the
// name of the operator in the copy that is being compiled; table.c collects the copy into one lw_device_ops.
// memory.c and open.c are compiled once.
#ifndef LW_CPU_H
#define LW_CPU_H

#include "core/numbers.h"
#include "device/device.h"

typedef struct lw_cpu {
    lw_device base;
    int threads;
    char failure[512]; // text of the first error since the last sync; empty when none
} lw_cpu;

#define LW_CPU_MAX_THREADS 1024

// Work (in elementary operations) below which a loop is not worth waking the other threads for.
#define LW_CPU_GRAIN 65536

static inline int lw_cpu_threads(const lw_device *dev, int64_t work)
{
    return work < LW_CPU_GRAIN ? 1 : ((const lw_cpu *)dev)->threads;
}

// Remembers the first error for sync. Not for use inside a parallel region.
__attribute__((format(printf, 2, 3))) void lw_cpu_fail(lw_device *dev, const char *format, ...);

// False, with an error remembered, when `type` is not F32.
bool lw_cpu_is_f32(lw_device *dev, const char *op, lw_dtype type);

// memory.c: what is the same for every instruction set.
#define LW_CPU_DECLARE(op) lw_op_##op lw_cpu_##op;
LW_DEVICE_FUNCTIONS(LW_CPU_DECLARE)
#undef LW_CPU_DECLARE

#ifndef LW_CPU_ISA
#define LW_CPU_ISA base
#endif
#define LW_CPU_PASTE_(name, isa) lw_cpu_##name##_##isa
#define LW_CPU_PASTE(name, isa) LW_CPU_PASTE_(name, isa)
#define LW_CPU(name) LW_CPU_PASTE(name, LW_CPU_ISA)

extern const lw_device_ops lw_cpu_ops_base;
extern const lw_device_ops lw_cpu_ops_v3;
extern const lw_device_ops lw_cpu_ops_v4;

// The operators, see src/device/device.h.
#define LW_CPU_DECLARE(op) lw_op_##op LW_CPU(op);
LW_OPERATORS(LW_CPU_DECLARE)
#undef LW_CPU_DECLARE

#endif
