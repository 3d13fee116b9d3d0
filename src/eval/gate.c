// gate.c: the result of one gate.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "eval/gates_internal.h"

// In f32 only the order of sums differs. 16-bit operands are rounded in each product, and other shapes make other
// products.
double lw_gate_tolerance(const lw_job *job)
{
    return job->dev->frozen_type == LW_F32 ? 1e-4 : 2e-2;
}

void lw_gate_note(lw_gate_result *out, bool passed, double value, double limit, const char *format, ...)
{
    va_list args;
    *out = (lw_gate_result){.passed = passed, .value = value, .limit = limit};
    va_start(args, format);
    vsnprintf(out->text, sizeof out->text, format, args);
    va_end(args);
}

void lw_gate_skip(lw_gate_result *out, const char *format, ...)
{
    va_list args;
    *out = (lw_gate_result){.skipped = true, .value = NAN, .limit = NAN};
    va_start(args, format);
    vsnprintf(out->text, sizeof out->text, format, args);
    va_end(args);
}
