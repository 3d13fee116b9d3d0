// figures.c: makes the figures of an evaluation from its records, with their confidence intervals.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval_internal.h"

// --- sums

static void add_record(const double *record, lw_eval_sums *s, double *first_token)
{
    if (record[LW_RECORD_PRESENT] == 0.0) {
        return; // a sample without a partner
    }
    s->same_first = s->samples == 0.0 || (s->same_first && record[LW_RECORD_FIRST_TOKEN] == *first_token);
    *first_token = record[LW_RECORD_FIRST_TOKEN];
    s->exact += record[LW_RECORD_EXACT];
    s->f1 += record[LW_RECORD_F1];
    s->nll += record[LW_RECORD_NLL];
    s->answer_tokens += record[LW_RECORD_TOKENS];
    s->first_correct += record[LW_RECORD_FIRST];
    s->samples += 1.0;
}

lw_eval_sums lw_eval_sum_up(const lw_job *job, const lw_eval *e, int64_t j, int slot)
{
    lw_eval_sums sums = {0};
    double first_token = -1.0;
    for (int64_t i = 0; i < e->task.samples; i++) {
        add_record(lw_eval_record(job, e, i, j, slot), &sums, &first_token);
    }
    return sums;
}

static double nll_of(const lw_eval_sums *s)
{
    return s->nll / s->answer_tokens;
}

static lw_eval_gain gain_of(const lw_eval_result *r, int64_t j)
{
    const lw_eval_sums *latent = &r->sums[j][LW_EVAL_LATENT];
    const lw_eval_sums *shuffled = &r->sums[j][LW_EVAL_SHUFFLED];
    return (lw_eval_gain){.f1 = latent->f1 / latent->samples - shuffled->f1 / shuffled->samples,
                          .nll = nll_of(shuffled) - nll_of(latent)};
}

static void sum_joint(const lw_job *job, const lw_eval *e, lw_eval_joint *out)
{
    out->measured = true;
    for (int64_t i = 0; i < e->task.samples; i++) {
        int64_t author = lw_eval_joint_choice(job, e, i);
        const double *record = lw_eval_record(job, e, i, author, LW_EVAL_LATENT);
        out->exact += record[LW_RECORD_EXACT];
        out->f1 += record[LW_RECORD_F1];
        out->chosen[author] += 1.0;
    }
}

// --- intervals

// All figures that get an interval, and where each interval goes. `means` are temporary per-sample arrays: the scores
// of the joint choice, and the means over LLMs that the gain is computed from.
typedef struct interval_list {
    const lw_job *job;
    const lw_eval *e;
    lw_figure *figures;
    lw_estimate **to;
    int64_t count, most;
    double *means;
} interval_list;

enum { MEAN_ONE, MEAN_LATENT_F1, MEAN_SHUFFLED_F1, MEAN_JOINT_F1, MEAN_JOINT_EXACT, MEAN_COUNT };

static lw_ratio ratio_of(const interval_list *list, int64_t j, int slot, int num, int den)
{
    const double *record = lw_eval_record(list->job, list->e, 0, j, slot);
    return (lw_ratio){.num = record + num,
                      .den = record + den,
                      .stride = list->job->llm_count * list->e->task.system_count * LW_RECORD_COUNT};
}

static lw_ratio mean_ratio(const interval_list *list, int of)
{
    int64_t n = list->e->task.samples;
    return (lw_ratio){.num = list->means + of * n, .den = list->means + MEAN_ONE * n};
}

static void add_figure(interval_list *list, lw_ratio a, lw_ratio b, lw_estimate *to)
{
    list->figures[list->count] = (lw_figure){.a = a, .b = b};
    list->to[list->count++] = to;
}

static void add_figures_of_llm(interval_list *list, int64_t j, lw_eval_result *r)
{
    const lw_ratio none = {0};
    for (int slot = 0; slot < r->system_count; slot++) {
        lw_eval_intervals *to = &r->intervals[j][slot];
        add_figure(list, ratio_of(list, j, slot, LW_RECORD_EXACT, LW_RECORD_PRESENT), none, &to->exact);
        add_figure(list, ratio_of(list, j, slot, LW_RECORD_F1, LW_RECORD_PRESENT), none, &to->f1);
        add_figure(list, ratio_of(list, j, slot, LW_RECORD_NLL, LW_RECORD_TOKENS), none, &to->nll);
    }
    add_figure(list, ratio_of(list, j, LW_EVAL_LATENT, LW_RECORD_F1, LW_RECORD_PRESENT),
               ratio_of(list, j, LW_EVAL_SHUFFLED, LW_RECORD_F1, LW_RECORD_PRESENT), &r->gain[j].f1_interval);
    add_figure(list, ratio_of(list, j, LW_EVAL_SHUFFLED, LW_RECORD_NLL, LW_RECORD_TOKENS),
               ratio_of(list, j, LW_EVAL_LATENT, LW_RECORD_NLL, LW_RECORD_TOKENS), &r->gain[j].nll_interval);
}

static void fill_means(const interval_list *list, const lw_eval_result *r)
{
    const lw_job *job = list->job;
    int64_t n = list->e->task.samples;
    for (int64_t i = 0; i < n; i++) {
        list->means[MEAN_ONE * n + i] = 1.0;
        for (int64_t j = 0; j < job->llm_count; j++) {
            double share = 1.0 / (double)job->llm_count;
            list->means[MEAN_LATENT_F1 * n + i] +=
                share * lw_eval_record(job, list->e, i, j, LW_EVAL_LATENT)[LW_RECORD_F1];
            list->means[MEAN_SHUFFLED_F1 * n + i] +=
                share * lw_eval_record(job, list->e, i, j, LW_EVAL_SHUFFLED)[LW_RECORD_F1];
        }
        if (r->joint.measured) {
            const double *record =
                lw_eval_record(job, list->e, i, lw_eval_joint_choice(job, list->e, i), LW_EVAL_LATENT);
            list->means[MEAN_JOINT_F1 * n + i] = record[LW_RECORD_F1];
            list->means[MEAN_JOINT_EXACT * n + i] = record[LW_RECORD_EXACT];
        }
    }
}

static lw_status fill_intervals(interval_list *list, lw_eval_result *r, lw_error *err)
{
    const lw_resampling resampling = {.samples = list->e->task.samples,
                                      .cluster = list->e->cluster,
                                      .clusters = list->e->clusters,
                                      .resamples = r->resamples,
                                      .seed = (uint64_t)list->job->config->seed};
    lw_estimate *intervals = calloc((size_t)list->count, sizeof *intervals);
    if (intervals == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the intervals of an evaluation");
    }
    lw_status status = lw_bootstrap_intervals(&resampling, list->figures, list->count, err, intervals);
    for (int64_t f = 0; f < list->count && status == LW_OK; f++) {
        *list->to[f] = intervals[f];
    }
    free(intervals);
    return status;
}

static lw_status add_intervals(const lw_job *job, const lw_eval *e, lw_error *err, lw_eval_result *r)
{
    interval_list list = {.job = job, .e = e, .most = job->llm_count * (3 * r->system_count + 2) + 3};
    const lw_ratio none = {0};
    lw_status status = LW_OK;
    list.figures = calloc((size_t)list.most, sizeof *list.figures);
    list.to = calloc((size_t)list.most, sizeof *list.to);
    list.means = calloc((size_t)e->task.samples * MEAN_COUNT, sizeof *list.means);
    if (list.figures == NULL || list.to == NULL || list.means == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the intervals of an evaluation");
    } else {
        fill_means(&list, r);
        for (int64_t j = 0; j < job->llm_count; j++) {
            add_figures_of_llm(&list, j, r);
        }
        add_figure(&list, mean_ratio(&list, MEAN_LATENT_F1), mean_ratio(&list, MEAN_SHUFFLED_F1),
                   &r->mean_gain.f1_interval);
        if (r->joint.measured) {
            add_figure(&list, mean_ratio(&list, MEAN_JOINT_F1), none, &r->joint.f1_interval);
            add_figure(&list, mean_ratio(&list, MEAN_JOINT_EXACT), none, &r->joint.exact_interval);
        }
        status = fill_intervals(&list, r, err);
    }
    free(list.figures);
    free(list.to);
    free(list.means);
    return status;
}

// --- all

static const lw_estimate no_interval = {NAN, NAN, NAN};

static void clear_intervals(const lw_job *job, lw_eval_result *r)
{
    for (int64_t j = 0; j < job->llm_count; j++) {
        for (int slot = 0; slot < r->system_count; slot++) {
            r->intervals[j][slot] = (lw_eval_intervals){no_interval, no_interval, no_interval};
        }
        r->gain[j].f1_interval = r->gain[j].nll_interval = no_interval;
    }
    r->mean_gain.f1_interval = r->mean_gain.nll_interval = no_interval;
    r->joint.f1_interval = r->joint.exact_interval = no_interval;
}

lw_status lw_eval_figures(const lw_job *job, const lw_eval *e, lw_error *err, lw_eval_result *out)
{
    *out = (lw_eval_result){.samples = e->task.samples, .contexts = e->clusters, .system_count = e->task.system_count};
    memcpy(out->systems, e->task.systems, sizeof out->systems);
    for (int64_t j = 0; j < job->llm_count; j++) {
        for (int slot = 0; slot < e->task.system_count; slot++) {
            out->sums[j][slot] = lw_eval_sum_up(job, e, j, slot);
        }
        out->gain[j] = gain_of(out, j);
        out->mean_gain.f1 += out->gain[j].f1 / (double)job->llm_count;
        out->mean_gain.nll += out->gain[j].nll / (double)job->llm_count;
    }
    if (e->task.joint) {
        sum_joint(job, e, &out->joint);
    }
    clear_intervals(job, out);
    out->resamples = job->config->eval.bootstrap;
    return job->rank == 0 && out->resamples > 0 ? add_intervals(job, e, err, out) : LW_OK;
}
