// config.json of a BERT directory.
#include <math.h>

#include "fuzz.h"
#include "model/bert_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_put("config.json", data, size);
    lw_error err = {.text = ""};
    lw_bert_config config;
    lw_status status = lw_bert_config_read(fuzz_dir(), &err, &config);
    if (status != LW_OK) {
        fuzz_check_failure(status, &err);
        return 0;
    }
    FUZZ_CHECK(config.d > 0 && config.layers > 0 && config.heads > 0 && config.ffn > 0 && config.vocab > 0);
    FUZZ_CHECK(config.d % config.heads == 0);
    FUZZ_CHECK(lw_bert_config_parameters(&config) > 0);
    const lw_bert_config first = lw_bert_config_first(&config, 1);
    FUZZ_CHECK(first.layers == 1 && lw_bert_config_parameters(&first) <= lw_bert_config_parameters(&config));
    return 0;
}
