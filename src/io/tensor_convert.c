// tensor_convert.c: tensors of a file as f32.
#include "core/half.h"
#include "io/safetensors.h"

lw_status lw_tensor_to_f32(const lw_tensor_view *view, lw_error *err, float *out)
{
    if (view->elements == 0) {
        return LW_OK;
    }
    if (!view->known || view->dtype == LW_I32) {
        return lw_fail(err, LW_ERR_UNSUPPORTED,
                       "tensor %s: cannot read dtype %s as floating point; expected F32, BF16 or F16", view->name,
                       view->dtype_name);
    }
    lw_half_read(view->elements, view->data, view->dtype, out);
    return LW_OK;
}
