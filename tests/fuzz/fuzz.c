// fuzz.c: checks and scratch files that all fuzz targets share.
#include "fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/utf8.h"

enum { PATH_BYTES = 320, PATHS = 8 };

_Noreturn void fuzz_broken(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
}

// --- files

static void remove_dir(void)
{
    char command[PATH_BYTES + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", fuzz_dir());
    if (system(command) != 0) {
        fprintf(stderr, "cannot remove %s\n", fuzz_dir());
    }
}

const char *fuzz_dir(void)
{
    static char dir[PATH_BYTES / 2];
    if (dir[0] == '\0') {
        // In memory where that is possible: files are written some thousand times a second.
        const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        snprintf(dir, sizeof dir, "%s/lwmpi-fuzz-XXXXXX", parent);
        FUZZ_CHECK(mkdtemp(dir) != NULL);
        atexit(remove_dir);
    }
    return dir;
}

const char *fuzz_path(const char *name)
{
    static char paths[PATHS][PATH_BYTES];
    static int next = 0;
    char *path = paths[next++ % PATHS];
    snprintf(path, PATH_BYTES, "%s/%s", fuzz_dir(), name);
    return path;
}

const char *fuzz_put(const char *name, const void *data, size_t bytes)
{
    const char *path = fuzz_path(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FUZZ_CHECK(fd >= 0);
    FUZZ_CHECK(bytes == 0 || write(fd, data, bytes) == (ssize_t)bytes);
    close(fd);
    return path;
}

void fuzz_remove(const char *name)
{
    unlink(fuzz_path(name));
}

// --- inputs

fuzz_parts fuzz_split(const uint8_t *data, size_t size)
{
    fuzz_parts parts = {.data = {data}, .bytes = {size}, .count = 1};
    for (int last = 0; last < 3; last++) {
        const uint8_t *part = parts.data[last];
        const uint8_t *mark = parts.bytes[last] > 0 ? memmem(part, parts.bytes[last], "\x1e\x1e", 2) : NULL;
        if (mark == NULL) {
            break;
        }
        parts.data[last + 1] = mark + 2;
        parts.bytes[last + 1] = parts.bytes[last] - (size_t)(mark + 2 - part);
        parts.bytes[last] = (size_t)(mark - part);
        parts.count++;
    }
    return parts;
}

char *fuzz_text(const uint8_t *data, size_t bytes)
{
    char *text = malloc(bytes + 1);
    FUZZ_CHECK(text != NULL);
    if (bytes > 0) {
        memcpy(text, data, bytes);
    }
    text[bytes] = '\0';
    return text;
}

// --- promises

void fuzz_check_failure(lw_status status, const lw_error *err)
{
    FUZZ_CHECK(status == LW_ERR_FORMAT || status == LW_ERR_UNSUPPORTED || status == LW_ERR_CONFIG ||
               status == LW_ERR_IO);
    size_t bytes = strnlen(err->text, sizeof err->text);
    FUZZ_CHECK(bytes > 0 && bytes < sizeof err->text);
    FUZZ_CHECK(lw_utf8_first_bad(err->text, bytes) == bytes);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)err->text[i];
        FUZZ_CHECK(c >= 0x20 && c != 0x7f && !(c == 0xc2 && (unsigned char)err->text[i + 1] < 0xa0));
    }
}
