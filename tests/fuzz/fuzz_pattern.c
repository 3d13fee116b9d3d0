// A pattern of a pre-tokenizer, rewritten for PCRE2 and compiled; as a literal too.
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "tokenizer/tokenizer_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lw_error err = {.text = ""};
    char *pattern = fuzz_text(data, size);
    for (int literal = 0; literal < 2; literal++) {
        pcre2_code *code = NULL;
        lw_status status = lw_regex_compile("pattern", pattern, literal == 1, &err, &code);
        if (status == LW_OK) {
            FUZZ_CHECK(code != NULL);
            pcre2_code_free(code);
        } else {
            fuzz_check_failure(status, &err);
        }
    }
    free(pattern);
    return 0;
}
