// manifest.json of a checkpoint beside a state file of five bytes: as it is, and once more with its own hash made
// right, so that what is behind that check is reached.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/utf8.h"
#include "fuzz.h"
#include "io/files.h"
#include "run/checkpoint.h"
#include "run/checkpoint_internal.h"

static void verify(const void *text, size_t bytes)
{
    lw_error err = {.text = ""};
    lw_checkpoint_info info;
    fuzz_put(LW_CHECKPOINT_STATE, "state", 5);
    fuzz_put(LW_CHECKPOINT_MANIFEST, text, bytes);
    lw_status status = lw_manifest_read(fuzz_dir(), LW_MANIFEST_HASHES, NULL, &err, &info);
    if (status != LW_OK) {
        fuzz_check_failure(status, &err);
        return;
    }
    FUZZ_CHECK(info.step >= info.skipped && info.skipped >= info.skipped_in_row && info.skipped_in_row >= 0);
    FUZZ_CHECK(info.samples >= 0 && info.epoch >= 0 && info.train_s >= 0.0);
    FUZZ_CHECK(lw_is_printable(info.created) && lw_is_printable(info.lwmpi_version) && info.bytes >= 0);
    FUZZ_CHECK(info.model_count >= 0 && info.model_count <= LW_CHECKPOINT_MAX_MODELS);
    for (int i = 0; i < info.model_count; i++) {
        FUZZ_CHECK(lw_is_printable(info.models[i].name));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    verify(data, size);
    json_t *root = json_loadb((const char *)data, size, 0, NULL);
    if (!json_is_object(root)) {
        json_decref(root);
        return 0;
    }
    json_object_del(root, "manifest_xxh64");
    char *rest = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    FUZZ_CHECK(rest != NULL);
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)lw_xxh64(rest, strlen(rest), 0));
    json_object_set_new(root, "manifest_xxh64", json_string(hash));
    free(rest);
    char *whole = json_dumps(root, JSON_COMPACT);
    FUZZ_CHECK(whole != NULL);
    verify(whole, strlen(whole));
    free(whole);
    json_decref(root);
    return 0;
}
