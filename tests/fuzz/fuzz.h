// fuzz.h: what the fuzz targets share.
//
// A target is tests/fuzz/fuzz_NAME.c with one LLVMFuzzerTestOneInput. It gives the input to a reader of lwmpi as a
// file, and then holds the reader to its contract: a failure has a status that the reader may give and a message that
// can be printed; a success gives values that are what the header says. What breaks a promise ends the process.
#ifndef LW_FUZZ_H
#define LW_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Ends the process with the file and line unless `condition` holds.
#define FUZZ_CHECK(condition)                            \
    do {                                                 \
        if (!(condition)) {                              \
            fuzz_broken(__FILE__, __LINE__, #condition); \
        }                                                \
    } while (0)
_Noreturn void fuzz_broken(const char *file, int line, const char *condition);

// A folder of this process, removed at its end, and a file in it (new content over old). The paths are good until the
// eighth next call.
const char *fuzz_dir(void);
const char *fuzz_path(const char *name);
const char *fuzz_put(const char *name, const void *data, size_t bytes);
void fuzz_remove(const char *name); // nothing when it is not there

// An input of several files: the parts between the bytes 0x1E 0x1E. The last part reaches to the end.
typedef struct fuzz_parts {
    const uint8_t *data[4];
    size_t bytes[4];
    int count; // 1 .. 4
} fuzz_parts;
fuzz_parts fuzz_split(const uint8_t *data, size_t size);

// A part as text, with a NUL behind it. The caller frees it.
char *fuzz_text(const uint8_t *data, size_t bytes);

// `status` is a failure that a file can cause, and the message is there, is UTF-8 and holds no control character.
void fuzz_check_failure(lw_status status, const lw_error *err);

#endif
