// rows.c: reads an input as a data file of each format and checks what the reader promises.
#include "rows.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "data/prompt.h"
#include "fuzz.h"

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

static bool is_good_window(const lw_sample *sample, const lw_data_source *source)
{
    size_t bytes = strlen(sample->context);
    return bytes > 0 && bytes <= (size_t)source->window_bytes && !isspace((unsigned char)sample->context[0]) &&
           !isspace((unsigned char)sample->context[bytes - 1]) && sample->answer_count == 1 &&
           strlen(sample->answers[0]) <= 8 * (size_t)source->target_tokens;
}

void fuzz_rows(const uint8_t *data, size_t size, lw_data_format format, const char *name)
{
    if (size == 0) {
        return;
    }
    lw_error err = {.text = ""};
    lw_dataset set = {0};
    int64_t bad_rows = data[0] & 15;
    int64_t limit = data[0] >> 4;
    lw_data_source source = {.path = fuzz_put(name, data + 1, size - 1),
                             .format = format,
                             .limit = limit,
                             .max_bad_rows = bad_rows,
                             .window_bytes = 16,
                             .target_tokens = 3};
    lw_status status = lw_dataset_read(&source, &err, &set);
    if (status != LW_OK) {
        fuzz_check_failure(status, &err);
        return;
    }
    FUZZ_CHECK(set.count > 0 && (limit == 0 || set.count <= limit) && set.bad_rows <= bad_rows);
    for (int64_t i = 0; i < set.count; i++) {
        const lw_sample *sample = &set.samples[i];
        bool is_window = sample->kind == LW_SAMPLE_TEXT;
        FUZZ_CHECK(is_window == (format == LW_DATA_TEXT));
        FUZZ_CHECK(sample->answer_count > 0 && (sample->question[0] == '\0') == is_window);
        FUZZ_CHECK(!is_window || is_good_window(sample, &source));
        FUZZ_CHECK(is_text(sample->question));
        FUZZ_CHECK((i > 0 && sample->context == sample[-1].context) ||
                   is_text(sample->context)); // shared: looked at once
        for (int64_t j = 0; j < sample->answer_count; j++) {
            FUZZ_CHECK(sample->answers[j][0] != '\0' && is_text(sample->answers[j]));
        }
        if (i < USED_SAMPLES && !is_window) { // each reads its whole context, which may be that of all
            use(sample);
        }
    }
    lw_dataset_free(&set);
}
