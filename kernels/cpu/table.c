// table.c: the operator table of one instruction set.
#include "cpu.h"

#define LW_TABLE_NAME_(isa) lw_cpu_ops_##isa
#define LW_TABLE_NAME(isa) LW_TABLE_NAME_(isa)

#define LW_FUNCTION_ROW(op) .op = lw_cpu_##op,
#define LW_OPERATOR_ROW(op) .op = LW_CPU(op),

const lw_device_ops LW_TABLE_NAME(LW_CPU_ISA) = {.name = "cpu",
                                                 LW_DEVICE_FUNCTIONS(LW_FUNCTION_ROW) LW_OPERATORS(LW_OPERATOR_ROW)};
