// table.cu: the operator table of the CUDA device.
#include "cuda_internal.cuh"

static constexpr lw_device_ops make_ops(void)
{
    lw_device_ops o = {};
    o.name = "cuda";
#define LW_CUDA_ROW(op) o.op = lw_cuda_##op;
    LW_DEVICE_FUNCTIONS(LW_CUDA_ROW)
    LW_OPERATORS(LW_CUDA_ROW)
#undef LW_CUDA_ROW
    return o;
}

static const lw_device_ops ops = make_ops();

const lw_device_ops *lw_cuda_ops(void)
{
    return &ops;
}
