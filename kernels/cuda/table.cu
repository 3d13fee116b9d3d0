// table.cu: the operator table of the CUDA device.
#include "cuda_internal.cuh"

static size_t attention_work_bytes(lw_device *dev, const lw_attention *a)
{
    (void)dev;
    return lw_cuda_attention_work_bytes(a);
}

static constexpr lw_device_ops make_ops(void)
{
    lw_device_ops o = {};
    o.name = "cuda";
    o.alloc = lw_cuda_alloc;
    o.free = lw_cuda_free;
    o.upload = lw_cuda_upload;
    o.upload_as = lw_cuda_upload_as;
    o.download = lw_cuda_download;
    o.copy = lw_cuda_copy;
    o.zero = lw_cuda_zero;
    o.sync = lw_cuda_sync;
    o.replay = lw_cuda_replay;
    o.destroy = lw_cuda_destroy;
    o.gemm = lw_cuda_gemm;
    o.rmsnorm = lw_cuda_rmsnorm;
    o.rmsnorm_backward = lw_cuda_rmsnorm_backward;
    o.layernorm = lw_cuda_layernorm;
    o.layernorm_backward = lw_cuda_layernorm_backward;
    o.rmsscale = lw_cuda_rmsscale;
    o.rmsscale_backward = lw_cuda_rmsscale_backward;
    o.gather = lw_cuda_gather;
    o.copy_rows = lw_cuda_copy_rows;
    o.scatter_add = lw_cuda_scatter_add;
    o.span_mean = lw_cuda_span_mean;
    o.span_mean_backward = lw_cuda_span_mean_backward;
    o.column_sum = lw_cuda_column_sum;
    o.rope = lw_cuda_rope;
    o.attention_work_bytes = attention_work_bytes;
    o.attention = lw_cuda_attention;
    o.attention_backward = lw_cuda_attention_backward;
    o.swiglu = lw_cuda_swiglu;
    o.swiglu_backward = lw_cuda_swiglu_backward;
    o.gelu = lw_cuda_gelu;
    o.gelu_backward = lw_cuda_gelu_backward;
    o.gelu_frozen = lw_cuda_gelu_frozen;
    o.axpy = lw_cuda_axpy;
    o.cast = lw_cuda_cast;
    o.random_normal = lw_cuda_random_normal;
    o.xent = lw_cuda_xent;
    o.argmax = lw_cuda_argmax;
    o.sqnorm = lw_cuda_sqnorm;
    o.dot = lw_cuda_dot;
    o.adamw = lw_cuda_adamw;
    return o;
}

static const lw_device_ops ops = make_ops();

const lw_device_ops *lw_cuda_ops(void)
{
    return &ops;
}
