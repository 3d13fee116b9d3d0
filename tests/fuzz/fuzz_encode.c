// Text, through tokenizers of the tree: what has all bytes and does not normalise gives the text back from its ids.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "fuzz.h"
#include "tokenizer/tokenizer.h"

enum { TOKENIZERS = 4 };

static const struct {
    const char *path;
    bool exact;
} sources[TOKENIZERS] = {
    {"configs/tiny/llama/tokenizer.json", true},
    {"configs/tiny/qwen/tokenizer.json", false},   // normalises (NFC)
    {"tests/parity/tokenizer/smollm.json", false}, // cuts digits; lacks some bytes, which vanish
    {"tests/parity/tokenizer/bert.json", false},   // WordPiece: has unknown words
};
static lw_tokenizer *tokenizers[TOKENIZERS];
static lw_tokenizer_scratch *scratches[TOKENIZERS];

static void load_once(void)
{
    if (tokenizers[0] != NULL) {
        return;
    }
    lw_error err = {.text = ""};
    const char *source = getenv("LWMPI_SOURCE_DIR");
    for (int i = 0; i < TOKENIZERS; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", source != NULL ? source : ".", sources[i].path);
        if (lw_tokenizer_load(path, &err, &tokenizers[i]) != LW_OK ||
            lw_tokenizer_scratch_create(tokenizers[i], &err, &scratches[i]) != LW_OK) {
            fprintf(stderr, "%s\nSet LWMPI_SOURCE_DIR to the source folder.\n", err.text);
            exit(2);
        }
    }
}

static void encode(int i, const char *text, size_t bytes, bool valid)
{
    lw_error err = {.text = ""};
    lw_ids ids = {0};
    char *back = NULL;
    size_t back_bytes = 0;
    lw_status status = lw_tokenizer_encode_with(tokenizers[i], scratches[i], text, bytes, false, &err, &ids);
    FUZZ_CHECK(status == (valid ? LW_OK : LW_ERR_FORMAT));
    if (!valid) {
        fuzz_check_failure(status, &err);
        lw_ids_free(&ids);
        return;
    }
    FUZZ_CHECK(lw_tokenizer_decode(tokenizers[i], ids.data, ids.len, false, &err, &back, &back_bytes) == LW_OK);
    bool same = back_bytes == bytes && (bytes == 0 || memcmp(back, text, bytes) == 0);
    FUZZ_CHECK(same || !sources[i].exact);
    free(back);
    // A scratch that has seen other texts gives the ids of a fresh one.
    lw_ids fresh = {0};
    FUZZ_CHECK(lw_tokenizer_encode(tokenizers[i], text, bytes, false, &err, &fresh) == LW_OK);
    FUZZ_CHECK(fresh.len == ids.len && (ids.len == 0 || memcmp(fresh.data, ids.data, ids.len * sizeof *ids.data) == 0));
    lw_ids_free(&fresh);
    lw_ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    load_once();
    char *text = fuzz_text(data, size);
    bool valid = lw_utf8_first_bad(text, size) == size;
    for (int i = 0; i < TOKENIZERS; i++) {
        encode(i, text, size, valid);
    }
    free(text);
    return 0;
}
