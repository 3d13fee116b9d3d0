#include "rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "utf8.h"

enum { USED_SAMPLES = 8 };

static const char config_text[] = "models = ( { name = \"m\"; path = \"d\"; } ); batch: { global = 1; };";

static lw_config *config_once(void)
{
    static lw_config *config;
    lw_error err = {.text = ""};
    if (config == NULL && lw_config_parse(config_text, strlen(config_text), "c.cfg", 0, NULL, &err, &config) != LW_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(2);
    }
    return config;
}

static bool is_text(const char *text)
{
    return lw_utf8_first_bad(text, strlen(text)) == strlen(text);
}

// What is made of a sample later: only the encoder's source may be refused.
static void use(const lw_sample *sample)
{
    const lw_config *config = config_once();
    lw_error err = {.text = ""};
    char *text = NULL;
    int64_t bytes = 0;
    bool cut = false;
    lw_status status = lw_prompt_source(config, sample, &err, &text, &bytes, &cut);
    if (status == LW_OK) {
        FUZZ_CHECK(bytes > 0 && bytes <= config->prompt.max_source_bytes);
        FUZZ_CHECK(lw_utf8_first_bad(text, (size_t)bytes) == (size_t)bytes);
        free(text);
    } else {
        fuzz_check_failure(status, &err);
    }
    FUZZ_CHECK(lw_prompt_text(config, sample, &err, &text) == LW_OK);
    free(text);
    FUZZ_CHECK(lw_prompt_suffix(config, sample, &err, &text) == LW_OK);
    free(text);
    FUZZ_CHECK(lw_prompt_answer(config, sample, &err, &text) == LW_OK);
    free(text);
}

void fuzz_rows(const uint8_t *data, size_t size, lw_data_format format)
{
    if (size == 0) {
        return;
    }
    lw_error err = {.text = ""};
    lw_dataset set = {0};
    int64_t bad_rows = data[0] & 15;
    int64_t limit = data[0] >> 4;
    const char *path = fuzz_put("rows", data + 1, size - 1);
    lw_status status = lw_dataset_read(path, format, limit, bad_rows, &err, &set);
    if (status != LW_OK) {
        fuzz_check_failure(status, &err);
        return;
    }
    FUZZ_CHECK(set.count > 0 && (limit == 0 || set.count <= limit) && set.bad_rows <= bad_rows);
    for (int64_t i = 0; i < set.count; i++) {
        const lw_sample *sample = &set.samples[i];
        FUZZ_CHECK(sample->answer_count > 0 && sample->question[0] != '\0');
        FUZZ_CHECK(is_text(sample->question));
        FUZZ_CHECK((i > 0 && sample->context == sample[-1].context) ||
                   is_text(sample->context)); // shared: looked at once
        for (int64_t j = 0; j < sample->answer_count; j++) {
            FUZZ_CHECK(sample->answers[j][0] != '\0' && is_text(sample->answers[j]));
        }
        if (i < USED_SAMPLES) { // each reads its whole context, which may be that of all
            use(sample);
        }
    }
    lw_dataset_free(&set);
}
