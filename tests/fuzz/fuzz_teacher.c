// A file of a teacher's states: as it is, once more with the header made right, and once more with the head of its
// first chunk made right too, so that what is behind them is reached. What is read as whole has to stay readable.
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "fuzz.h"
#include "io/files.h"
#include "train/teacher_file.h"

enum { KEY = 7, D = 3, SAMPLES = 3, ROWS = 4, PAGE = 4096, HEAD_BYTES = 32 };

// 64 samples or fewer: one to a chunk. The second has two rows, the third none.
static void make_index(lw_teacher_index *l)
{
    static const int64_t first_row[SAMPLES + 1] = {0, 2, 4, 4};
    lw_error err;
    *l = (lw_teacher_index){.key = KEY, .weights = 1, .tokens = 2, .type = LW_F32, .d = D, .k = 2, .samples = SAMPLES};
    l->first_row = malloc(sizeof first_row);
    FUZZ_CHECK(l->first_row != NULL);
    memcpy(l->first_row, first_row, sizeof first_row);
    FUZZ_CHECK(lw_teacher_index_finish(l, &err) == LW_OK);
}

static void read_file(const lw_teacher_index *l, const void *data, size_t bytes)
{
    lw_teacher_file *file = NULL;
    lw_error err;
    float rows[ROWS * D];
    const char *path = fuzz_put("teacher.bin", data, bytes);
    lw_status status = lw_teacher_file_open(path, l, true, &err, &file);
    if (status != LW_OK) {
        FUZZ_CHECK(file == NULL);
        fuzz_check_failure(status, &err);
        return;
    }
    for (int64_t c = 0; c < l->chunks; c++) {
        bool whole = false;
        FUZZ_CHECK(lw_teacher_file_check(file, c, &err, &whole) == LW_OK);
        for (int64_t i = lw_teacher_index_first(l, c); i < lw_teacher_index_first(l, c + 1); i++) {
            status = lw_teacher_file_read(file, i, &err, rows);
            FUZZ_CHECK(status == LW_OK || (status == LW_ERR_FORMAT && !whole));
        }
        if (!whole) { // what is made again is whole
            memset(rows, 0, sizeof rows);
            FUZZ_CHECK(lw_teacher_file_write(file, c, rows, &err) == LW_OK);
            FUZZ_CHECK(lw_teacher_file_check(file, c, &err, &whole) == LW_OK && whole);
        }
    }
    lw_teacher_file_close(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lw_error err;
    lw_teacher_index l;
    char *good = NULL;
    size_t bytes = 0;
    make_index(&l);
    read_file(&l, data, size);
    // The header and the size of a prepared file, and the input behind them.
    const char *path = fuzz_path("prepared.bin");
    FUZZ_CHECK(lw_teacher_file_prepare(path, &l, &err) == LW_OK);
    FUZZ_CHECK(lw_read_file(path, 1 << 20, &err, &good, &bytes) == LW_OK && bytes >= PAGE + HEAD_BYTES);
    size_t room = bytes - PAGE;
    memcpy(good + PAGE, data, size < room ? size : room);
    read_file(&l, good, bytes);
    // The head of the first chunk: magic, key, number, and the hash of the one hash behind it.
    const uint64_t key = KEY;
    const int64_t chunk = 0;
    const uint64_t hash = lw_xxh64(good + PAGE + HEAD_BYTES, sizeof hash, KEY);
    memcpy(good + PAGE, "LWCHUNK", 8);
    memcpy(good + PAGE + 8, &key, sizeof key);
    memcpy(good + PAGE + 16, &chunk, sizeof chunk);
    memcpy(good + PAGE + 24, &hash, sizeof hash);
    read_file(&l, good, bytes);
    free(good);
    lw_teacher_index_free(&l);
    return 0;
}
