// hf_json.c: opens the JSON files of a Hugging Face directory, and words a refusal.
#include "model/hf_json.h"

#include <stdlib.h>

#include "io/files.h"

enum { MAX_CONFIG_BYTES = 16 << 20 };

lw_status lw_hf_open_config(const char *dir, const char *name, lw_hf_reader *read, lw_error *err, void *out)
{
    char *path = NULL;
    json_t *root = NULL;
    LW_TRY(lw_path_join(dir, name, err, &path));
    lw_status status = LW_OK;
    LW_TRY_GOTO(lw_json_read_file(path, MAX_CONFIG_BYTES, 0, err, &root));
    LW_TRY_GOTO(read(&(lw_json){.object = root, .where = path, .parent = ""}, err, out));
done:
    json_decref(root);
    free(path);
    return status;
}

lw_status lw_hf_refuse(const lw_json *at, const char *key, const char *value, const char *only, lw_error *err)
{
    char shown[LW_HF_SHOWN_BYTES];
    return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: \"%s%s\": %s is not supported, only %s", at->where, at->parent, key,
                   lw_printable(value, shown, sizeof shown), only);
}
