// eval_predictions.c: predictions.jsonl, a line per sample with what every system answered.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "eval_internal.h"
#include "file_util.h"
#include "json_util.h"

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

static lw_status answer_text(const lw_job *job, const lw_eval *e, int64_t i, int64_t j, int slot, lw_error *err,
                             json_t **out)
{
    const double *record = lw_eval_record(job, e, i, j, slot);
    char *text = NULL;
    size_t bytes = 0;
    if (!e->task.generate) {
        *out = json_null(); // a window of text: scored alone
        return LW_OK;
    }
    LW_TRY(lw_tokenizer_decode(job->llms[j].tokenizer, lw_eval_all_ids(job, e, i, j, slot),
                               (size_t)record[LW_RECORD_LENGTH], true, err, &text, &bytes));
    *out = json_stringn(text, bytes);
    free(text);
    return LW_OK;
}

static lw_status answer_json(const lw_job *job, const lw_eval *e, int64_t i, int64_t j, int slot, lw_error *err,
                             json_t **out)
{
    const double *record = lw_eval_record(job, e, i, j, slot);
    json_t *text = NULL;
    LW_TRY(answer_text(job, e, i, j, slot, err, &text));
    json_t *o = json_object();
    json_object_set_new(o, "answer", text);
    json_object_set_new(o, "exact_match", lw_json_number(record[LW_RECORD_EXACT]));
    json_object_set_new(o, "f1", lw_json_number(record[LW_RECORD_F1]));
    json_object_set_new(o, "nll", lw_json_number(record[LW_RECORD_NLL]));
    json_object_set_new(o, "answer_tokens", json_integer((json_int_t)record[LW_RECORD_TOKENS]));
    *out = o;
    return LW_OK;
}

static lw_status systems_json(const lw_job *job, const lw_eval *e, int64_t i, lw_error *err, json_t *out)
{
    for (int slot = 0; slot < e->task.system_count; slot++) {
        json_t *models = json_object();
        json_object_set_new(out, e->task.systems[slot].key, models);
        for (int64_t j = 0; j < job->llm_count; j++) {
            json_t *answer = NULL;
            if (lw_eval_record(job, e, i, j, slot)[LW_RECORD_PRESENT] == 0.0) {
                continue;
            }
            LW_TRY(answer_json(job, e, i, j, slot, err, &answer));
            json_object_set_new(models, job->llms[j].name, answer);
        }
        if (json_object_size(models) == 0) {
            json_object_del(out, e->task.systems[slot].key);
        }
    }
    return LW_OK;
}

static lw_status joint_json(const lw_job *job, const lw_eval *e, int64_t i, lw_error *err, json_t *out)
{
    int64_t chosen = lw_eval_joint_choice(job, e, i);
    const double *record = lw_eval_record(job, e, i, chosen, LW_EVAL_LATENT);
    json_t *text = NULL;
    LW_TRY(answer_text(job, e, i, chosen, LW_EVAL_LATENT, err, &text));
    json_t *scores = json_object();
    json_object_set_new(out, "answer", text);
    json_object_set_new(out, "model", json_string(job->llms[chosen].name));
    json_object_set_new(out, "exact_match", lw_json_number(record[LW_RECORD_EXACT]));
    json_object_set_new(out, "f1", lw_json_number(record[LW_RECORD_F1]));
    json_object_set_new(out, "log_probability", scores);
    for (int64_t author = 0; author < job->llm_count; author++) {
        json_t *readers = json_object();
        for (int64_t reader = 0; reader < job->llm_count; reader++) {
            double score = e->joint[(i * job->llm_count + author) * job->llm_count + reader];
            json_object_set_new(readers, job->llms[reader].name, lw_json_number(score));
        }
        json_object_set_new(scores, job->llms[author].name, readers);
    }
    return LW_OK;
}

static lw_status row_json(const lw_job *job, const lw_eval *e, int64_t i, lw_error *err, json_t *row)
{
    const lw_sample *s = &job->eval.data.samples[i];
    char context_id[LW_EVAL_CONTEXT_ID_BYTES];
    lw_eval_context_id(e, i, context_id);
    json_t *answers = json_array();
    for (int64_t a = 0; a < s->answer_count; a++) {
        json_array_append_new(answers, json_string(s->answers[a]));
    }
    json_object_set_new(row, "id", json_string(lw_eval_sample_id(job, i)));
    json_object_set_new(row, "question", json_string(s->question));
    json_object_set_new(row, "answers", answers);
    json_object_set_new(row, "context_id", json_string(context_id));
    json_t *systems = json_object();
    json_object_set_new(row, "systems", systems);
    LW_TRY(systems_json(job, e, i, err, systems));
    if (e->task.joint) {
        json_t *joint = json_object();
        json_object_set_new(row, "joint", joint);
        LW_TRY(joint_json(job, e, i, err, joint));
    }
    return LW_OK;
}

static lw_status write_row(const lw_job *job, const lw_eval *e, int64_t i, lw_atomic_file *file, lw_error *err)
{
    json_t *row = json_object();
    lw_status status = row_json(job, e, i, err, row);
    char *text = status == LW_OK ? json_dumps(row, 0) : NULL;
    json_decref(row);
    if (status == LW_OK && text == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory to write a line of predictions");
    }
    if (status == LW_OK) {
        size_t bytes = strlen(text);
        text[bytes++] = '\n'; // over the NUL: the bytes are counted
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
