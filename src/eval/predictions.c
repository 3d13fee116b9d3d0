// predictions.c: writes predictions.jsonl, one line per sample with what every system answered.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "data/prompt.h"
#include "eval/eval_internal.h"
#include "io/atomic_file.h"
#include "io/json.h"

const char *lw_eval_sample_id(const lw_job *job, int64_t i)
{
    const char *id = job->eval.data.samples[i].id;
    const char *file = job->config->data.eval;
    size_t length = strlen(file);
    const char *slash = strrchr(file, '/');
    bool from_file = strncmp(id, file, length) == 0 && id[length] == ':';
    return from_file && slash != NULL ? id + (slash + 1 - file) : id;
}

void lw_eval_context_id(const lw_eval *e, int64_t i, char *out)
{
    snprintf(out, LW_EVAL_CONTEXT_ID_BYTES, "%016" PRIx64, e->context_hash[i]);
}

// Takes ownership of `value`. Without memory for all of its parts, a line is not written at all.
static void put(json_t *object, const char *key, json_t *value, bool *complete)
{
    *complete = json_object_set_new(object, key, value) == 0 && *complete;
}

static lw_status answer_text(const lw_job *job, const lw_eval *e, int64_t i, int64_t j, int slot, lw_error *err,
                             json_t **out)
{
    const double *record = lw_eval_record(job, e, i, j, slot);
    char *text = NULL;
    size_t bytes = 0;
    if (!e->task.generate) {
        *out = json_null(); // a window of text is only scored
        return LW_OK;
    }
    LW_TRY(lw_tokenizer_decode(job->llms[j].tokenizer, lw_eval_all_ids(job, e, i, j, slot),
                               (size_t)record[LW_RECORD_LENGTH], true, err, &text, &bytes));
    *out = json_stringn(text, lw_prompt_answer_bytes(job->config, text, bytes));
    free(text);
    return LW_OK;
}

static lw_status put_answer(const lw_job *job, const lw_eval *e, int64_t i, int64_t j, int slot, json_t *models,
                            bool *complete, lw_error *err)
{
    const double *record = lw_eval_record(job, e, i, j, slot);
    json_t *text = NULL;
    LW_TRY(answer_text(job, e, i, j, slot, err, &text));
    json_t *o = json_object();
    put(o, "answer", text, complete);
    put(o, "exact_match", lw_json_number(record[LW_RECORD_EXACT]), complete);
    put(o, "f1", lw_json_number(record[LW_RECORD_F1]), complete);
    put(o, "nll", lw_json_number(record[LW_RECORD_NLL]), complete);
    put(o, "answer_tokens", json_integer((json_int_t)record[LW_RECORD_TOKENS]), complete);
    put(models, job->llms[j].name, o, complete);
    return LW_OK;
}

static lw_status put_systems(const lw_job *job, const lw_eval *e, int64_t i, json_t *row, bool *complete, lw_error *err)
{
    json_t *systems = json_object();
    lw_status status = LW_OK;
    for (int slot = 0; slot < e->task.system_count && status == LW_OK; slot++) {
        json_t *models = json_object();
        for (int64_t j = 0; j < job->llm_count && status == LW_OK; j++) {
            if (lw_eval_record(job, e, i, j, slot)[LW_RECORD_PRESENT] != 0.0) {
                status = put_answer(job, e, i, j, slot, models, complete, err);
            }
        }
        if (models == NULL || json_object_size(models) > 0) {
            put(systems, e->task.systems[slot].key, models, complete);
        } else {
            json_decref(models);
        }
    }
    put(row, "systems", systems, complete);
    return status;
}

static json_t *readers_json(const lw_job *job, const lw_eval *e, int64_t i, int64_t author, bool *complete)
{
    json_t *readers = json_object();
    for (int64_t reader = 0; reader < job->llm_count; reader++) {
        double score = e->joint[(i * job->llm_count + author) * job->llm_count + reader];
        put(readers, job->llms[reader].name, lw_json_number(score), complete);
    }
    return readers;
}

static lw_status put_joint(const lw_job *job, const lw_eval *e, int64_t i, json_t *row, bool *complete, lw_error *err)
{
    int64_t chosen = lw_eval_joint_choice(job, e, i);
    const double *record = lw_eval_record(job, e, i, chosen, LW_EVAL_LATENT);
    json_t *text = NULL;
    LW_TRY(answer_text(job, e, i, chosen, LW_EVAL_LATENT, err, &text));
    json_t *o = json_object();
    json_t *scores = json_object();
    put(o, "answer", text, complete);
    put(o, "model", json_string(job->llms[chosen].name), complete);
    put(o, "exact_match", lw_json_number(record[LW_RECORD_EXACT]), complete);
    put(o, "f1", lw_json_number(record[LW_RECORD_F1]), complete);
    for (int64_t author = 0; author < job->llm_count; author++) {
        put(scores, job->llms[author].name, readers_json(job, e, i, author, complete), complete);
    }
    put(o, "log_probability", scores, complete);
    put(row, "joint", o, complete);
    return LW_OK;
}

static lw_status fill_row(const lw_job *job, const lw_eval *e, int64_t i, json_t *row, bool *complete, lw_error *err)
{
    const lw_sample *s = &job->eval.data.samples[i];
    char context_id[LW_EVAL_CONTEXT_ID_BYTES];
    lw_eval_context_id(e, i, context_id);
    json_t *answers = json_array();
    for (int64_t a = 0; a < s->answer_count; a++) {
        *complete = json_array_append_new(answers, json_string(s->answers[a])) == 0 && *complete;
    }
    put(row, "id", json_string(lw_eval_sample_id(job, i)), complete);
    put(row, "question", json_string(s->question), complete);
    put(row, "answers", answers, complete);
    put(row, "context_id", json_string(context_id), complete);
    LW_TRY(put_systems(job, e, i, row, complete, err));
    return e->task.joint ? put_joint(job, e, i, row, complete, err) : LW_OK;
}

static lw_status write_row(const lw_job *job, const lw_eval *e, int64_t i, lw_atomic_file *file, lw_error *err)
{
    bool complete = true;
    json_t *row = json_object();
    lw_status status = fill_row(job, e, i, row, &complete, err);
    char *text = NULL;
    if (status == LW_OK) {
        status = lw_json_print(complete ? row : NULL, 0, err, &text);
    }
    json_decref(row);
    if (status == LW_OK) {
        size_t bytes = strlen(text);
        text[bytes++] = '\n'; // replaces the NUL, since the length is known
        status = lw_atomic_write(file, text, bytes, err);
    }
    free(text);
    return status;
}

lw_status lw_eval_write_predictions(const lw_job *job, const lw_eval *e, const char *path, lw_error *err)
{
    lw_atomic_file *file = NULL;
    lw_status status = lw_atomic_open(path, err, &file);
    for (int64_t i = 0; i < e->task.samples && status == LW_OK; i++) {
        status = write_row(job, e, i, file, err);
    }
    if (status == LW_OK) {
        status = lw_atomic_commit(&file, err);
    }
    lw_atomic_abort(&file);
    return status;
}
