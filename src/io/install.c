// install.c: finds the program itself and the files that come with it.
#include "io/install.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_CONFIG "configs/tiny.cfg"

lw_status lw_path_program(lw_error *err, char **out)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length < 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "cannot read /proc/self/exe");
    }
    path[length] = '\0';
    char *copy = strdup(path);
    if (copy == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a path");
    }
    *out = copy;
    return LW_OK;
}

// DIR/relative/configs/tiny.cfg when it can be read, else NULL. Without ".." if the path can be resolved.
static char *try_below(const char *dir, const char *relative)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s/" DEFAULT_CONFIG, dir, relative);
    if (length < 0 || (size_t)length >= sizeof path || access(path, R_OK) != 0) {
        return NULL;
    }
    return realpath(path, NULL);
}

lw_status lw_path_default_config(lw_error *err, char **out)
{
    const char *data_dir = getenv("LWMPI_DATADIR");
    if (data_dir != NULL && data_dir[0] != '\0') {
        char *found = try_below(data_dir, ".");
        if (found == NULL) {
            return lw_fail(err, LW_ERR_CONFIG,
                           "LWMPI_DATADIR is \"%s\", but there is no readable " DEFAULT_CONFIG
                           " in it; unset it or correct it",
                           data_dir);
        }
        *out = found;
        return LW_OK;
    }
    char *program = NULL;
    LW_TRY(lw_path_program(err, &program));
    *strrchr(program, '/') = '\0'; // an absolute path
    static const char *const places[] = {LW_DATADIR_FROM_BIN, "../..", ".."};
    char *found = NULL;
    for (size_t i = 0; i < sizeof places / sizeof *places && found == NULL; i++) {
        found = try_below(program, places[i]);
    }
    lw_status status = LW_OK;
    if (found == NULL) {
        status = lw_fail(err, LW_ERR_CONFIG,
                         "the embedded default " DEFAULT_CONFIG " was not found from %s (looked in %s, ../.. and ..); "
                         "name a configuration, or set LWMPI_DATADIR to the folder that holds configs/",
                         program, LW_DATADIR_FROM_BIN);
    } else {
        *out = found;
    }
    free(program);
    return status;
}

char *lw_path_bundle(void)
{
    lw_error ignored;
    char *program = NULL;
    char path[PATH_MAX];
    if (lw_path_program(&ignored, &program) != LW_OK) {
        return NULL;
    }
    *strrchr(program, '/') = '\0';
    int length = snprintf(path, sizeof path, "%s/" LW_DATADIR_FROM_BIN "/bundle", program);
    bool marked = length > 0 && (size_t)length < sizeof path && access(path, F_OK) == 0;
    length = snprintf(path, sizeof path, "%s/..", program);
    free(program);
    return marked && length > 0 && (size_t)length < sizeof path ? realpath(path, NULL) : NULL;
}
