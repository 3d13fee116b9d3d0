// scratch.c: a folder for one test, removed at its end.
#include "scratch.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[64];

int scratch_make(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/lw-test-XXXXXX");
    return mkdtemp(dir) == NULL;
}

int scratch_remove(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

const char *scratch_dir(void)
{
    return dir;
}

const char *scratch_path(const char *name)
{
    static char paths[8][320];
    static unsigned int next = 0;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

void scratch_put(const char *path, const void *data, size_t bytes)
{
    unlink(path); // some file systems flush a file to disk that is truncated and written again
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) {
        perror(path);
        abort();
    }
}

const char *scratch_put_safetensors(const char *name, const char *header, size_t data_bytes)
{
    uint64_t header_bytes = strlen(header);
    size_t bytes = 8 + header_bytes + data_bytes;
    unsigned char *image = malloc(bytes);
    if (image == NULL) {
        abort();
    }
    memcpy(image, &header_bytes, 8);
    memcpy(image + 8, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++) {
        image[8 + header_bytes + i] = (unsigned char)i;
    }
    const char *path = scratch_path(name);
    scratch_put(path, image, bytes);
    free(image);
    return path;
}
