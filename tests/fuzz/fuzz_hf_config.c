// config.json of a model directory and, as a second part, generation_config.json.
#include <math.h>
#include <stdlib.h>

#include "fuzz.h"
#include "model/hf_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const fuzz_parts parts = fuzz_split(data, size);
    fuzz_put("config.json", parts.data[0], parts.bytes[0]);
    if (parts.count > 1) {
        fuzz_put("generation_config.json", parts.data[1], parts.bytes[1]);
    } else {
        fuzz_remove("generation_config.json");
    }
    lw_error err = {.text = ""};
    lw_hf_config config;
    lw_status status = lw_hf_config_read(fuzz_dir(), &err, &config);
    if (status != LW_OK) {
        fuzz_check_failure(status, &err);
        return 0;
    }
    FUZZ_CHECK(config.d > 0 && config.layers > 0 && config.heads > 0 && config.kv_heads > 0 && config.vocab > 0);
    FUZZ_CHECK(config.heads % config.kv_heads == 0 && config.head_dim % 2 == 0);
    FUZZ_CHECK(config.eos_count >= 0 && config.eos_count <= LW_MAX_EOS && config.bos_id < config.vocab);
    FUZZ_CHECK(lw_hf_config_counts(&config).total > 0);
    double *frequencies = calloc((size_t)config.head_dim, sizeof *frequencies);
    FUZZ_CHECK(frequencies != NULL);
    lw_hf_rope_inv_freq(&config, frequencies);
    for (int64_t i = 0; i < config.head_dim / 2; i++) {
        FUZZ_CHECK(isfinite(frequencies[i]) && frequencies[i] > 0.0);
    }
    free(frequencies);
    return 0;
}
