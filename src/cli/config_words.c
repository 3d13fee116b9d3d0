#include "cli/config_words.h"

#include <stdlib.h>
#include <string.h>

#include "io/install.h"

lw_status lw_config_from_words(int count, char **words, lw_error *err, lw_config **out)
{
    const char *path = NULL;
    char *found = NULL;
    const char **overrides = calloc((size_t)count + 1, sizeof *overrides);
    int64_t n = 0;
    lw_status status = LW_OK;
    if (overrides == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the command line");
    }
    for (int i = 0; i < count; i++) {
        if (strchr(words[i], '=') != NULL) {
            overrides[n++] = words[i];
        } else if (path == NULL) {
            path = words[i];
        } else {
            status = lw_fail(err, LW_ERR_USAGE, "two configurations, %s and %s: one is wanted, and key=value overrides",
                             path, words[i]);
            goto done;
        }
    }
    if (path == NULL) {
        LW_TRY_GOTO(lw_path_default_config(err, &found));
        path = found;
    }
    LW_TRY_GOTO(lw_config_load(path, n, overrides, err, out));
done:
    free(found);
    free(overrides);
    return status;
}
