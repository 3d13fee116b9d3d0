// read.c: reads a data file in the format that its source names.
#include <string.h>

#include "core/hash.h"
#include "data/builder_internal.h"

static uint64_t fingerprint(const lw_dataset *set)
{
    uint64_t hash = (uint64_t)set->count;
    uint64_t context = 0;                      // its hash, computed once however many questions share it
    for (int64_t i = 0; i < set->count; i++) { // each text is hashed with its NUL, and its hash seeds the next
        const lw_sample *sample = &set->samples[i];
        if (i == 0 || sample->context != sample[-1].context) {
            context = lw_xxh64(sample->context, strlen(sample->context) + 1, 0);
        }
        hash = lw_xxh64(&context, sizeof context, hash);
        hash = lw_xxh64(sample->question, strlen(sample->question) + 1, hash);
        for (int64_t j = 0; j < sample->answer_count; j++) {
            hash = lw_xxh64(sample->answers[j], strlen(sample->answers[j]) + 1, hash);
        }
        hash = lw_xxh64("\n", 1, hash);
    }
    return hash;
}

lw_data_source lw_data_source_of(const lw_config *config, const char *path, int64_t limit)
{
    return (lw_data_source){.path = path,
                            .format = config->data.format,
                            .limit = limit,
                            .max_bad_rows = config->data.max_bad_rows,
                            .needs_context = config->wire.compress == LW_COMPRESS_CONTEXT,
                            .window_bytes = config->data.window_bytes,
                            .target_tokens = config->data.target_tokens,
                            .repeated = config->loss.reconstruct_share};
}

#define READER(constant, word) [constant] = lw_dataset_read_##word,
static lw_dataset_reader *const readers[] = {LW_DATA_FORMATS(READER)};

lw_status lw_dataset_read(const lw_data_source *source, lw_error *err, lw_dataset *out)
{
    const char *path = source->path;
    if (path[0] == '\0') {
        return lw_fail(err, LW_ERR_CONFIG, "no data file: set data.train (and data.eval to evaluate)");
    }
    lw_dataset_builder builder = {.source = source, .set.heartbeat = source->heartbeat};
    lw_status status = readers[source->format](path, &builder, err);
    if (status == LW_OK && builder.set.count == 0) {
        status = builder.set.bad_rows == 0
                     ? lw_fail(err, LW_ERR_CONFIG, "%s: no samples: is it the right file?", path)
                     : lw_fail(err, LW_ERR_CONFIG, "%s: no samples, %lld malformed rows, the first: %.1000s", path,
                               (long long)builder.set.bad_rows, builder.set.first_bad_row);
    }
    if (status != LW_OK) {
        lw_dataset_free(&builder.set);
        return status;
    }
    builder.set.fingerprint = fingerprint(&builder.set);
    builder.set.target_tokens = source->format == LW_DATA_TEXT ? source->target_tokens : 0;
    builder.set.repeated = source->format == LW_DATA_TEXT ? source->repeated : 0.0;
    *out = builder.set;
    return LW_OK;
}
