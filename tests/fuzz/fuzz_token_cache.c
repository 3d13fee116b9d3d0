// A token cache: as it is, and once more with marks, key and hash made right, so that what is behind them is reached.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "data/token_cache.h"
#include "fuzz.h"
#include "io/files.h"

enum { KEY = 7, VOCAB = 1000, COUNT_AT = 24, HEADER_BYTES = 80 };

static void check_list(const lw_token_list *list, int64_t count)
{
    FUZZ_CHECK(list->start[0] == 0);
    for (int64_t i = 0; i < count; i++) {
        FUZZ_CHECK(list->start[i] <= list->start[i + 1]);
    }
    for (int64_t i = 0; i < list->start[count]; i++) {
        FUZZ_CHECK(list->ids[i] >= 0 && list->ids[i] < VOCAB);
    }
}

static void read_cache(const void *data, size_t bytes, int64_t count)
{
    lw_token_set set = {0};
    fuzz_put("tokens-0000000000000007.bin", data, bytes);
    if (!lw_token_cache_read(fuzz_dir(), KEY, count, VOCAB, &set)) {
        FUZZ_CHECK(set.prompt.ids == NULL && set.count == 0);
        return;
    }
    FUZZ_CHECK(set.count == count && set.vocab <= VOCAB && set.from_cache);
    check_list(&set.prompt, count);
    check_list(&set.suffix, count);
    check_list(&set.answer, count);
    lw_token_set_free(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t marks[2] = {0x01020304, LW_TOKEN_CACHE_VERSION};
    const uint64_t key = KEY;
    int64_t count = 1;
    if (size >= HEADER_BYTES) {
        memcpy(&count, data + COUNT_AT, sizeof count);
    }
    read_cache(data, size, count > 0 ? count : 1); // a data set has samples
    if (size < HEADER_BYTES + sizeof key) {
        return 0;
    }
    char *copy = fuzz_text(data, size);
    memcpy(copy, "LWTOKEN", 8);
    memcpy(copy + 8, marks, sizeof marks);
    memcpy(copy + 16, &key, sizeof key);
    const uint64_t hash = lw_xxh64(copy, size - sizeof hash, 0);
    memcpy(copy + size - sizeof hash, &hash, sizeof hash);
    read_cache(copy, size, count > 0 ? count : 1);
    free(copy);
    return 0;
}
