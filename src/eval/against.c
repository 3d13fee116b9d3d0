// against.c: an evaluation compared with the predictions of another run, sample by sample.
#include "eval/against.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval_internal.h"
#include "io/files.h"
#include "io/json.h"
#include "io/json_lines.h"

static const char latent_key[] = "latent";

typedef struct line {
    const char *id, *question, *context_id; // borrowed from row
    json_t *row;
    int64_t number; // in the file, from 1
} line;

struct lw_predictions {
    char *path;  // of the file
    line *lines; // in the order of ids
    int64_t count;
};

// --- reading

static lw_status parse(const char *where, const char *text, size_t bytes, line *out, lw_error *err)
{
    lw_json at;
    LW_TRY(lw_json_parse(where, text, bytes, LW_JSON_ALLOW_NUL, err, &out->row));
    LW_TRY(lw_json_object_at(out->row, where, "", err, &at));
    LW_TRY(lw_json_string(&at, "id", err, &out->id));
    LW_TRY(lw_json_string(&at, "question", err, &out->question));
    return lw_json_string(&at, "context_id", err, &out->context_id);
}

static int64_t count_lines(const char *text, size_t bytes)
{
    int64_t count = bytes > 0 && text[bytes - 1] != '\n'; // a last line without its newline
    for (size_t at = 0; at < bytes; at++) {
        count += text[at] == '\n';
    }
    return count;
}

static lw_status parse_all(lw_predictions *p, lw_json_lines *lines, lw_error *err)
{
    int64_t most = count_lines(lines->buffer, lines->end);
    p->lines = calloc((size_t)most + 1, sizeof *p->lines);
    if (p->lines == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the %" PRId64 " lines of %s", most, p->path);
    }
    for (;;) {
        const char *text;
        size_t bytes;
        LW_TRY(lw_json_lines_next(lines, err, &text, &bytes));
        if (text == NULL) {
            return LW_OK;
        }
        line *l = &p->lines[p->count++];
        l->number = lines->number;
        LW_TRY(parse(lines->where, text, bytes - (text[bytes - 1] == '\n'), l, err));
    }
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const line *)a)->id, ((const line *)b)->id);
}

static lw_status sort_lines(lw_predictions *p, lw_error *err)
{
    qsort(p->lines, (size_t)p->count, sizeof *p->lines, by_id);
    for (int64_t k = 1; k < p->count; k++) {
        if (by_id(&p->lines[k - 1], &p->lines[k]) == 0) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: lines %" PRId64 " and %" PRId64 " have the same id \"%.80s\"",
                           p->path, p->lines[k - 1].number, p->lines[k].number, p->lines[k].id);
        }
    }
    return LW_OK;
}

static lw_status read_lines(lw_predictions *p, const char *path, lw_error *err)
{
    const size_t most_bytes = (size_t)4 << 30;
    bool is_dir = lw_path_is_dir(path);
    char *text = NULL;
    size_t bytes = 0;
    lw_json_lines lines;
    LW_TRY(lw_path_join(is_dir ? path : "", is_dir ? "predictions.jsonl" : path, err, &p->path));
    LW_TRY(lw_read_file(p->path, most_bytes, err, &text, &bytes));
    lw_json_lines_of_text(&lines, p->path, text, bytes);
    lw_status status = parse_all(p, &lines, err);
    lw_json_lines_free(&lines);
    LW_TRY(status);
    return sort_lines(p, err);
}

lw_status lw_predictions_read(const char *path, lw_error *err, lw_predictions **out)
{
    lw_predictions *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the predictions of another run");
    }
    lw_status status = read_lines(p, path, err);
    if (status != LW_OK) {
        lw_predictions_free(&p);
        return status;
    }
    *out = p;
    return LW_OK;
}

void lw_predictions_free(lw_predictions **predictions)
{
    lw_predictions *p = *predictions;
    if (p != NULL) {
        for (int64_t k = 0; p->lines != NULL && k < p->count; k++) {
            json_decref(p->lines[k].row);
        }
        free(p->lines);
        free(p->path);
        free(p);
    }
    *predictions = NULL;
}

// --- matching

static const line *find(const lw_predictions *p, const char *id)
{
    const line key = {.id = id};
    return bsearch(&key, p->lines, (size_t)p->count, sizeof *p->lines, by_id);
}

// lines[i] becomes the line of sample i in the other run.
static lw_status match(const lw_job *job, const lw_eval *e, const lw_predictions *p, const line **lines, lw_error *err)
{
    int64_t n = job->eval.count;
    int64_t common = 0;
    for (int64_t i = 0; i < n; i++) {
        lines[i] = find(p, lw_eval_sample_id(job, i));
        common += lines[i] != NULL;
    }
    if (common < n || n != p->count) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "cannot compare with %s: it answers %" PRId64 " samples, this evaluation %" PRId64
                       ", and %" PRId64 " are common to both; evaluate both on the same data",
                       p->path, p->count, n, common);
    }
    for (int64_t i = 0; i < n; i++) {
        char context_id[LW_EVAL_CONTEXT_ID_BYTES];
        lw_eval_context_id(e, i, context_id);
        bool same_question = strcmp(lines[i]->question, job->eval.data.samples[i].question) == 0;
        if (!same_question || strcmp(lines[i]->context_id, context_id) != 0) {
            return lw_fail(err, LW_ERR_CONFIG,
                           "cannot compare with %s: on line %" PRId64 " sample \"%.80s\" has another %s", p->path,
                           lines[i]->number, lines[i]->id, same_question ? "context" : "question");
        }
    }
    return LW_OK;
}

lw_status lw_predictions_match(const lw_job *job, const lw_eval *e, const lw_predictions *p, lw_error *err)
{
    const line **lines = calloc((size_t)job->eval.count, sizeof *lines);
    lw_status status = LW_OK;
    if (lines == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory to compare two runs");
    }
    status = match(job, e, p, lines, err);
    free(lines);
    return status;
}

// --- one model

enum { THERE_EXACT, THERE_F1, THERE_NLL, THERE_ONE, THERE_TOKENS, THERE_COUNT };

// Finds the model's answer through the wire on a line; *out is NULL where there is none.
static lw_status model_of(const lw_predictions *p, const line *l, const char *name, char *where, size_t size,
                          lw_error *err, const json_t **out)
{
    lw_json row;
    lw_json systems;
    const json_t *child = NULL;
    snprintf(where, size, "%s:%" PRId64, p->path, l->number);
    LW_TRY(lw_json_object_at(l->row, where, "", err, &row));
    LW_TRY(lw_json_child(&row, "systems", err, &child));
    LW_TRY(lw_json_object_at(child, where, "systems.", err, &systems));
    LW_TRY(lw_json_child(&systems, latent_key, err, &child));
    *out = json_object_get(child, name);
    return LW_OK;
}

// scored: the samples have answers, so that exact match and F1 count; for windows of text both are null.
static lw_status read_model(const lw_predictions *p, const line *const *lines, int64_t n, const char *name, bool scored,
                            double *there, bool *found, lw_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        char where[512];
        const json_t *model = NULL;
        lw_json at;
        LW_TRY(model_of(p, lines[i], name, where, sizeof where, err, &model));
        if (model == NULL && i == 0) {
            *found = false;
            return LW_OK;
        }
        LW_TRY(lw_json_object_at(model, where, "systems.latent.", err, &at));
        if (scored) {
            LW_TRY(lw_json_double(&at, "exact_match", 0.0, 1.0, err, &there[THERE_EXACT * n + i]));
            LW_TRY(lw_json_double(&at, "f1", 0.0, 1.0, err, &there[THERE_F1 * n + i]));
        }
        LW_TRY(lw_json_double(&at, "nll", 0.0, 1e12, err, &there[THERE_NLL * n + i]));
        LW_TRY(lw_json_double(&at, "answer_tokens", 1.0, 1e12, err, &there[THERE_TOKENS * n + i]));
        there[THERE_ONE * n + i] = 1.0;
    }
    *found = true;
    return LW_OK;
}

static double ratio_value(const lw_ratio *r, int64_t n)
{
    double num = 0.0;
    double den = 0.0;
    int64_t stride = r->stride > 0 ? r->stride : 1;
    for (int64_t i = 0; i < n; i++) {
        num += r->num[i * stride];
        den += r->den[i * stride];
    }
    return num / den;
}

static lw_status contrast(const lw_resampling *r, lw_ratio here, lw_ratio there, lw_error *err, lw_contrast *out)
{
    const lw_figure figure = {.a = here, .b = there};
    *out = (lw_contrast){.here = ratio_value(&here, r->samples), .there = ratio_value(&there, r->samples), .p = NAN};
    out->difference = (lw_estimate){out->here - out->there, NAN, NAN};
    if (r->resamples > 0) {
        LW_TRY(lw_bootstrap_intervals(r, &figure, 1, err, &out->difference));
        LW_TRY(lw_bootstrap_sign_flip(r, &figure, err, &out->p));
    }
    return LW_OK;
}

static lw_ratio here_of(const lw_job *job, const lw_eval *e, int64_t j, int num, int den)
{
    const double *record = lw_eval_record(job, e, 0, j, LW_EVAL_LATENT);
    int64_t stride = job->llm_count * e->task.system_count * LW_RECORD_COUNT;
    return (lw_ratio){.num = record + num, .den = record + den, .stride = stride};
}

static lw_status compare_model(const lw_job *job, const lw_eval *e, int64_t j, const double *there, lw_error *err,
                               lw_against *out)
{
    int64_t n = e->task.samples;
    const lw_resampling r = {.samples = n,
                             .cluster = e->cluster,
                             .clusters = e->clusters,
                             .resamples = job->config->eval.bootstrap,
                             .seed = (uint64_t)job->config->seed};
    const double *one = there + THERE_ONE * n;
    lw_ratio exact = {.num = there + THERE_EXACT * n, .den = one};
    lw_ratio f1 = {.num = there + THERE_F1 * n, .den = one};
    lw_ratio nll = {.num = there + THERE_NLL * n, .den = there + THERE_TOKENS * n};
    if (e->task.generate) {
        LW_TRY(contrast(&r, here_of(job, e, j, LW_RECORD_EXACT, LW_RECORD_PRESENT), exact, err, &out->exact[j]));
        LW_TRY(contrast(&r, here_of(job, e, j, LW_RECORD_F1, LW_RECORD_PRESENT), f1, err, &out->f1[j]));
    }
    return contrast(&r, here_of(job, e, j, LW_RECORD_NLL, LW_RECORD_TOKENS), nll, err, &out->nll[j]);
}

static lw_status compare_all(const lw_job *job, const lw_eval *e, const lw_predictions *p, const line *const *lines,
                             double *there, lw_error *err, lw_against *out)
{
    int64_t compared = 0;
    for (int64_t j = 0; j < job->llm_count; j++) {
        LW_TRY(
            read_model(p, lines, e->task.samples, job->llms[j].name, e->task.generate, there, &out->compared[j], err));
        if (out->compared[j]) {
            LW_TRY(compare_model(job, e, j, there, err, out));
            compared++;
        }
    }
    if (compared == 0) {
        return lw_fail(err, LW_ERR_CONFIG, "cannot compare with %s: it has none of this configuration's models",
                       p->path);
    }
    return LW_OK;
}

lw_status lw_eval_against(const lw_job *job, const lw_eval *e, const lw_predictions *other, lw_error *err,
                          lw_against *out)
{
    size_t n = (size_t)e->task.samples;
    const line **lines = calloc(n, sizeof *lines);
    double *there = calloc(n * THERE_COUNT, sizeof *there);
    lw_status status = LW_OK;
    *out = (lw_against){.samples = e->task.samples, .contexts = e->clusters, .scored = e->task.generate};
    if (lines == NULL || there == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory to compare two runs");
    }
    if (status == LW_OK) {
        status = match(job, e, other, lines, err);
    }
    if (status == LW_OK) {
        status = compare_all(job, e, other, lines, there, err, out);
    }
    free(lines);
    free(there);
    return status;
}

// --- showing

static json_t *contrast_json(const lw_contrast *c)
{
    json_t *o = json_object();
    json_t *pair = json_array();
    json_array_append_new(pair, lw_json_number(c->difference.low));
    json_array_append_new(pair, lw_json_number(c->difference.high));
    lw_json_put_f64(o, "here", c->here);
    lw_json_put_f64(o, "there", c->there);
    lw_json_put_f64(o, "difference", c->difference.value);
    json_object_set_new(o, "difference_interval", pair);
    lw_json_put_f64(o, "p", c->p);
    return o;
}

json_t *lw_against_json(const lw_job *job, const lw_against *a, const char *path)
{
    json_t *o = json_object();
    json_t *models = json_object();
    lw_json_put_text(o, "run", path);
    lw_json_put_i64(o, "samples", a->samples);
    lw_json_put_i64(o, "contexts", a->contexts);
    for (int64_t j = 0; j < job->llm_count; j++) {
        if (a->compared[j]) {
            json_t *m = json_object();
            json_object_set_new(m, "exact_match", a->scored ? contrast_json(&a->exact[j]) : json_null());
            json_object_set_new(m, "f1", a->scored ? contrast_json(&a->f1[j]) : json_null());
            json_object_set_new(m, "nll", contrast_json(&a->nll[j]));
            json_object_set_new(models, job->llms[j].name, m);
        }
    }
    json_object_set_new(o, "models", models);
    return o;
}

static void print_contrast(const char *model, const char *figure, const lw_contrast *c, FILE *file)
{
    fprintf(file, "%-12s %-11s %9.3f %9.3f %+11.3f", model, figure, c->here, c->there, c->difference.value);
    if (!isnan(c->difference.low)) {
        fprintf(file, " [%+.3f, %+.3f] %9.4f", c->difference.low, c->difference.high, c->p);
    } else if (!isnan(c->p)) {
        fprintf(file, " %-16s %9.4f", "-", c->p);
    }
    fprintf(file, "\n");
}

void lw_against_print(const lw_job *job, const lw_against *a, const char *path, FILE *file)
{
    fprintf(file, "latent answers here and in %s, paired by sample (%" PRId64 " samples of %" PRId64 " %s)\n", path,
            a->samples, a->contexts, lw_eval_cluster_name(job));
    fprintf(file, "%-12s %-11s %9s %9s %11s %-16s %9s\n", "model", "figure", "here", "there", "difference", "95 %",
            "p");
    for (int64_t j = 0; j < job->llm_count; j++) {
        if (a->compared[j]) {
            if (a->scored) {
                print_contrast(job->llms[j].name, "EM", &a->exact[j], file);
                print_contrast(job->llms[j].name, "F1", &a->f1[j], file);
            }
            print_contrast(job->llms[j].name, "NLL/token", &a->nll[j], file);
        }
    }
}
