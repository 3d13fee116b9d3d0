// JSON lines of text, as `lwmpi tokenize` reads them: for every line read, one line of ids.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "tokenizer/tokenizer.h"

static const lw_tokenizer *tokenizer_once(void)
{
    static lw_tokenizer *tokenizer;
    if (tokenizer == NULL) {
        lw_error err = {.text = ""};
        char path[512];
        const char *source = getenv("LWMPI_SOURCE_DIR");
        snprintf(path, sizeof path, "%s/configs/tiny/llama/tokenizer.json", source != NULL ? source : ".");
        if (lw_tokenizer_load(path, &err, &tokenizer) != LW_OK) {
            fprintf(stderr, "%s\nSet LWMPI_SOURCE_DIR to the source folder.\n", err.text);
            exit(2);
        }
    }
    return tokenizer;
}

static size_t count_lines(const void *data, size_t size)
{
    size_t lines = 0;
    const char *text = data;
    for (size_t i = 0; i < size; i++) {
        lines += text[i] == '\n';
    }
    return lines + (size > 0 && text[size - 1] != '\n');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lw_error err = {.text = ""};
    char *text = NULL;
    size_t bytes = 0;
    FILE *in = fopen(fuzz_put("lines", data, size), "re");
    FILE *out = open_memstream(&text, &bytes);
    FUZZ_CHECK(in != NULL && out != NULL);
    lw_status status = lw_tokenizer_encode_lines(tokenizer_once(), true, in, "standard input", out, &err);
    fclose(in);
    FUZZ_CHECK(fclose(out) == 0);
    if (status == LW_OK) {
        FUZZ_CHECK(count_lines(text, bytes) == count_lines(data, size));
    } else {
        fuzz_check_failure(status, &err);
        FUZZ_CHECK(count_lines(text, bytes) < count_lines(data, size));
    }
    free(text);
    return 0;
}
