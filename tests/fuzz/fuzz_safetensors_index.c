// A model directory of shards: model.safetensors.index.json, then a.safetensors and b.safetensors, as parts.
#include "fuzz.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[4] = {"model.safetensors.index.json", "a.safetensors", "b.safetensors",
                                         "c.safetensors"};
    const fuzz_parts parts = fuzz_split(data, size);
    for (int i = 0; i < 4; i++) {
        if (i < parts.count) {
            fuzz_put(names[i], parts.data[i], parts.bytes[i]);
        } else {
            fuzz_remove(names[i]);
        }
    }
    lw_error err = {.text = ""};
    lw_safetensors *file = NULL;
    lw_status status = lw_safetensors_open(fuzz_dir(), &err, &file);
    if (status != LW_OK) {
        fuzz_check_failure(status, &err);
        return 0;
    }
    fuzz_walk(file, size);
    lw_safetensors_close(&file);
    return 0;
}
