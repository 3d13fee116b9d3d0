// A configuration and, as further parts, up to three overrides. What is accepted is written out in full and read back:
// the same text comes again.
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "fuzz.h"

static void check_round_trip(const lw_config *config)
{
    lw_error err = {.text = ""};
    lw_config *again = NULL;
    char *first = NULL;
    char *second = NULL;
    uint64_t hashes[2];
    FUZZ_CHECK(lw_config_text(config, &err, &first) == LW_OK);
    FUZZ_CHECK(lw_config_parse(first, strlen(first), "/full.cfg", 0, NULL, &err, &again) == LW_OK);
    FUZZ_CHECK(lw_config_text(again, &err, &second) == LW_OK);
    FUZZ_CHECK(strcmp(first, second) == 0);
    FUZZ_CHECK(lw_config_hash(config, &err, &hashes[0]) == LW_OK && lw_config_hash(again, &err, &hashes[1]) == LW_OK);
    FUZZ_CHECK(hashes[0] == hashes[1]);
    free(second);
    FUZZ_CHECK(lw_config_differences(config, again, &err, &second) == LW_OK && second[0] == '\0');
    free(first);
    free(second);
    lw_config_destroy(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const fuzz_parts parts = fuzz_split(data, size);
    char *overrides[3] = {NULL, NULL, NULL};
    const char *words[3];
    for (int i = 1; i < parts.count; i++) {
        overrides[i - 1] = fuzz_text(parts.data[i], parts.bytes[i]);
        words[i - 1] = overrides[i - 1];
    }
    lw_error err = {.text = ""};
    lw_config *config = NULL;
    char *text = fuzz_text(parts.data[0], parts.bytes[0]); // of exactly its size, for the sanitizer
    lw_status status = lw_config_parse(text, parts.bytes[0], "/some/run.cfg", parts.count - 1, words, &err, &config);
    free(text);
    if (status == LW_OK) {
        check_round_trip(config);
        lw_config_destroy(&config);
    } else {
        fuzz_check_failure(status, &err);
    }
    for (int i = 0; i < 3; i++) {
        free(overrides[i]);
    }
    return 0;
}
