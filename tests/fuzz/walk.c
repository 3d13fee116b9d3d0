// walk.c: reads every tensor of a file that was accepted.
#include "walk.h"

#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "fuzz.h"
#include "io/files.h"

static void walk_one(const lw_safetensors *file, const lw_tensor_view *view)
{
    lw_error err;
    const lw_tensor_view *again = NULL;
    FUZZ_CHECK(view->rank >= 0 && view->rank <= LW_MAX_DIMS && view->elements >= 0);
    FUZZ_CHECK(strnlen(view->dtype_name, sizeof view->dtype_name) < sizeof view->dtype_name);
    FUZZ_CHECK(lw_safetensors_find(file, view->name) == view);
    lw_status status = lw_safetensors_require(file, view->name, view->rank, view->dims, &err, &again);
    FUZZ_CHECK(view->known ? status == LW_OK && again == view : status == LW_ERR_UNSUPPORTED);
    (void)lw_xxh64(view->data, view->bytes, 0); // reads all of it
    if (view->known && view->dtype != LW_I32) {
        float *values = malloc((size_t)view->elements * sizeof *values + 1);
        FUZZ_CHECK(values != NULL && lw_tensor_to_f32(view, &err, values) == LW_OK);
        free(values);
    }
}

void fuzz_walk(const lw_safetensors *file, size_t most)
{
    size_t bytes = 0;
    for (int64_t i = 0; i < lw_safetensors_count(file); i++) {
        const lw_tensor_view *view = lw_safetensors_at(file, i);
        walk_one(file, view);
        bytes += view->bytes;
        FUZZ_CHECK(i == 0 || strcmp(lw_safetensors_at(file, i - 1)->name, view->name) < 0);
    }
    FUZZ_CHECK(bytes <= most);
    (void)lw_safetensors_metadata(file, "format");
}
