// checkpoint_part.c: reads some parameters of a checkpoint, and exports all of them.
#include "run/checkpoint_part.h"

#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "io/files.h"
#include "run/checkpoint_internal.h"

static const char PREFIX[] = "param/";
enum { PREFIX_BYTES = sizeof PREFIX - 1 };

lw_status lw_checkpoint_part_open(const char *dir, lw_error *err, lw_checkpoint_info *info_out, lw_safetensors **out)
{
    char *path = NULL;
    LW_TRY(lw_checkpoint_verify(dir, err, info_out));
    LW_TRY(lw_path_join(dir, LW_CHECKPOINT_STATE, err, &path));
    lw_status status = lw_safetensors_open(path, err, out);
    free(path);
    return status;
}

static lw_status load_one(const lw_safetensors *state, const lw_param *p, lw_error *err, float *out)
{
    char name[LW_PARAM_NAME_BYTES + sizeof PREFIX];
    const lw_tensor_view *view = NULL;
    snprintf(name, sizeof name, "%s%s", PREFIX, p->name);
    lw_status status = lw_safetensors_require(state, name, p->dims[1] == 0 ? 1 : 2, p->dims, err, &view);
    if (status == LW_OK) {
        status = lw_tensor_to_f32(view, err, out);
    }
    if (status == LW_ERR_FORMAT) { // the file has been verified, so another configuration made it
        status = lw_fail_in(err, LW_ERR_CONFIG, "the checkpoint was made with another configuration");
    }
    return status;
}

lw_status lw_checkpoint_part_load(const lw_safetensors *state, const lw_params *params, lw_error *err, float *host_out)
{
    memset(host_out, 0, (size_t)params->elements * sizeof *host_out);
    for (int64_t i = 0; i < params->count; i++) {
        LW_TRY(load_one(state, &params->list[i], err, host_out + params->list[i].offset));
    }
    return LW_OK;
}

static bool is_parameter(const lw_tensor_view *view)
{
    return strncmp(view->name, PREFIX, PREFIX_BYTES) == 0;
}

uint64_t lw_checkpoint_encoder_hash(const lw_safetensors *state)
{
    uint64_t hash = 0;
    for (int64_t i = 0; i < lw_safetensors_count(state); i++) { // in order of name
        const lw_tensor_view *view = lw_safetensors_at(state, i);
        const char *name = view->name + PREFIX_BYTES;
        if (is_parameter(view) && (strncmp(name, "encoder.", 8) == 0 || strncmp(name, "pooler.", 7) == 0)) {
            hash = lw_xxh64(name, strlen(name), hash);
            hash = lw_xxh64(view->dims, (size_t)view->rank * sizeof view->dims[0], hash);
            hash = lw_xxh64(view->data, view->bytes, hash);
        }
    }
    return hash;
}

lw_status lw_checkpoint_export(const char *dir, const char *path, lw_error *err)
{
    lw_safetensors *state = NULL;
    lw_checkpoint_info info;
    LW_TRY(lw_checkpoint_part_open(dir, err, &info, &state));
    int64_t count = 0;
    lw_status status = LW_OK;
    lw_tensor_source *sources = calloc((size_t)lw_safetensors_count(state) + 1, sizeof *sources);
    if (sources == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the table of parameters");
    }
    for (int64_t i = 0; status == LW_OK && i < lw_safetensors_count(state); i++) {
        const lw_tensor_view *view = lw_safetensors_at(state, i);
        if (is_parameter(view)) {
            lw_tensor_source *s = &sources[count++];
            *s = (lw_tensor_source){
                .name = view->name + PREFIX_BYTES, .dtype = view->dtype, .rank = view->rank, .data = view->data};
            memcpy(s->dims, view->dims, sizeof s->dims);
        }
    }
    if (status == LW_OK) {
        const char *const metadata[] = {"format", "pt", NULL};
        status = lw_safetensors_write(path, sources, count, metadata, err);
    }
    free(sources);
    lw_safetensors_close(&state);
    return status;
}
