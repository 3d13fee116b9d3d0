// One safetensors file: header and data.

#include "fuzz.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lw_error err = {.text = ""};
    lw_safetensors *file = NULL;
    lw_status status = lw_safetensors_open(fuzz_put("one.safetensors", data, size), &err, &file);
    if (status != LW_OK) {
        fuzz_check_failure(status, &err);
        return 0;
    }
    fuzz_walk(file, size);
    lw_safetensors_close(&file);
    return 0;
}
