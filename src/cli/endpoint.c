// endpoint.c: opens a checkpoint and a device for one endpoint of the wire, and reads JSON lines of texts.
#include "cli/endpoint.h"

#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "core/utf8.h"
#include "device/arena.h"
#include "io/json.h"
#include "io/json_lines.h"
#include "job/rank_device.h"
#include "kernels/devices.h"
#include "mpi/threads.h"
#include "run/checkpoint.h"
#include "run/checkpoint_part.h"
#include "run/run_dir.h"

static lw_status open_device(lw_job *job, lw_error *err)
{
    job->threads = (int)job->config->threads;
    LW_TRY(lw_rank_device_choose(job->config, job->comm, err, &job->device));
    if (job->threads == 0) {
        LW_TRY(lw_threads_auto(job->comm, err, &job->threads));
    }
    LW_TRY(lw_device_open(job->device.kind, job->device.index, job->threads, err, &job->dev));
    lw_comm_bound_device(job->comm, job->dev);
    return LW_OK;
}

static lw_status open_state(lw_endpoint *e, const char *checkpoint, lw_error *err)
{
    char *path = NULL;
    LW_TRY(lw_checkpoint_resolve(checkpoint, lw_print_warning, NULL, err, &path));
    lw_status status = lw_checkpoint_part_open(path, err, &e->info, &e->state);
    if (status == LW_OK) {
        status = lw_checkpoint_same_use(path, &e->info, e->job.config, NULL, lw_print_warning, err);
    }
    free(path);
    return status;
}

static lw_status open_all(int count, char **words, const char *checkpoint, lw_error *err, lw_endpoint *e)
{
    LW_TRY(lw_comm_create(&(lw_comm_options){.timeout_s = LW_START_TIMEOUT_S}, err, &e->comm));
    if (lw_comm_size(e->comm) > 1) {
        return lw_fail(err, LW_ERR_USAGE, "one process is enough here: start it without mpirun or srun");
    }
    e->job.comm = e->comm;
    e->job.ranks = 1;
    LW_TRY(lw_config_from_words(count, words, err, &e->job.config));
    LW_TRY(open_state(e, checkpoint != NULL ? checkpoint : e->job.config->run.dir, err));
    return open_device(&e->job, err);
}

lw_status lw_endpoint_open(int count, char **words, const char *checkpoint, lw_error *err, lw_endpoint *out)
{
    *out = (lw_endpoint){0};
    lw_status status = open_all(count, words, checkpoint, err, out);
    if (status != LW_OK) {
        lw_endpoint_close(out);
    }
    return status;
}

void lw_endpoint_close(lw_endpoint *e)
{
    lw_safetensors_close(&e->state);
    lw_job_close(&e->job);
    lw_comm_destroy(&e->comm);
    *e = (lw_endpoint){0};
}

lw_status lw_endpoint_same_model(const lw_endpoint *e, const lw_checkpoint_model *loaded, const char *path,
                                 lw_error *err)
{
    for (int i = 0; i < e->info.model_count; i++) {
        const lw_checkpoint_model *m = &e->info.models[i];
        if (strcmp(m->name, loaded->name) == 0) {
            const char *what = m->weights_hash != loaded->weights_hash       ? "weights"
                               : m->tokenizer_hash != loaded->tokenizer_hash ? "tokenizer"
                                                                             : NULL;
            return what == NULL ? LW_OK
                                : lw_fail(err, LW_ERR_CONFIG, "%s: its %s: not what the checkpoint was trained with",
                                          path, what);
        }
    }
    return lw_fail(err, LW_ERR_CONFIG, "the checkpoint was trained without a model \"%s\"", loaded->name);
}

static lw_status layout(void *context, lw_arena *arena, lw_error *err)
{
    (void)err;
    lw_params *params = context;
    params->param = LW_TAKE(arena, params->elements, float);
    return LW_OK;
}

lw_status lw_endpoint_load(lw_endpoint *e, lw_params *params, lw_error *err, lw_arena *memory)
{
    LW_TRY(lw_params_place(params, err));
    size_t bytes = (size_t)params->elements * sizeof(float);
    float *host = malloc(bytes);
    if (host == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the parameters");
    }
    lw_status status = lw_checkpoint_part_load(e->state, params, err, host);
    if (status == LW_OK) {
        status = lw_arena_place(e->job.dev, "parameters", layout, params, err, memory);
    }
    if (status == LW_OK) {
        e->job.dev->ops->upload(e->job.dev, host, bytes, params->param);
        status = e->job.dev->ops->sync(e->job.dev, err);
    }
    free(host);
    return status;
}

// --- lines

void lw_text_lines_free(lw_text_lines *lines)
{
    for (int64_t i = 0; i < lines->count; i++) {
        free(lines->list[i].id);
        free(lines->list[i].context);
        free(lines->list[i].question);
    }
    free(lines->list);
    *lines = (lw_text_lines){0};
}

static lw_status read_id(const lw_json *at, int64_t number, lw_error *err, char *out, size_t size, bool *named,
                         const char **text)
{
    const json_t *id = json_object_get(at->object, "id");
    *named = id != NULL && !json_is_null(id);
    *text = out;
    if (*named && !json_is_integer(id)) {
        return lw_json_string(at, "id", err, text);
    }
    snprintf(out, size, "%lld", *named ? (long long)json_integer_value(id) : (long long)number);
    return LW_OK;
}

static lw_status keep(const lw_json *at, int64_t number, lw_error *err, lw_text_line *line)
{
    char plain[24];
    const char *id = NULL;
    const char *context = NULL;
    const char *question = NULL;
    const char *key = lw_json_has(at, "question") ? "question" : "prompt";
    LW_TRY(read_id(at, number, err, plain, sizeof plain, &line->named, &id));
    LW_TRY(lw_json_string_or(at, "context", "", err, &context));
    LW_TRY(lw_json_string_or(at, key, "", err, &question));
    line->id = strdup(id);
    line->context = strdup(context);
    line->question = strdup(question);
    if (line->id == NULL || line->context == NULL || line->question == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for the line", at->where);
    }
    return LW_OK;
}

static lw_status read_line(const char *where, const char *text, size_t bytes, int64_t number, lw_error *err,
                           lw_text_lines *lines)
{
    json_t *json = NULL;
    lw_json at;
    if (lines->count == lines->capacity) {
        int64_t capacity = lines->capacity == 0 ? 256 : 2 * lines->capacity;
        lw_text_line *list = realloc(lines->list, (size_t)capacity * sizeof *list);
        if (list == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "%s: no memory for %lld lines", where, (long long)capacity);
        }
        lines->list = list;
        lines->capacity = capacity;
    }
    LW_TRY(lw_json_parse(where, text, bytes, LW_JSON_REJECT_DUPLICATES, err, &json));
    lw_status status = lw_json_object_at(json, where, "", err, &at);
    if (status == LW_OK) {
        lw_text_line *line = &lines->list[lines->count++];
        *line = (lw_text_line){0};
        status = keep(&at, number, err, line);
    }
    json_decref(json);
    return status;
}

static lw_status read_all(FILE *in, const char *name, lw_error *err, lw_text_lines *lines)
{
    lw_json_lines reader = {.name = name, .fd = fileno(in)};
    lw_status status = LW_OK;
    for (;;) {
        const char *line;
        size_t bytes;
        LW_TRY_GOTO(lw_json_lines_next(&reader, err, &line, &bytes));
        if (line == NULL) {
            break;
        }
        if (!lw_is_blank(line, bytes)) {
            LW_TRY_GOTO(read_line(reader.where, line, bytes, reader.number, err, lines));
        }
    }
    if (lines->count == 0) {
        status = lw_fail(err, LW_ERR_FORMAT, "%s is empty: it wants a JSON object a line", name);
    }
done:
    lw_json_lines_free(&reader);
    return status;
}

lw_status lw_text_lines_read(FILE *in, const char *name, lw_error *err, lw_text_lines *out)
{
    lw_text_lines lines = {0};
    lw_status status = read_all(in, name, err, &lines);
    if (status != LW_OK) {
        lw_text_lines_free(&lines);
        return status;
    }
    *out = lines;
    return LW_OK;
}
