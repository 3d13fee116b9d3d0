// print.c: prints the figures of an evaluation as JSON and as a table.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "eval/eval_internal.h"
#include "io/json.h"
#include "wire/quantise.h"

// The wire formats that the compression figures list.
static const struct lw_wire_format {
    const char *name;
    int64_t bits;
} wire_formats[] = {{"fp32", 32}, {"fp16", 16}, {"int8", 8}, {"int6", 6}, {"int4", 4}};

static double mean_latents(const lw_job *job)
{
    double sum = 0.0;
    for (int64_t i = 0; i < job->eval.count; i++) {
        sum += (double)lw_config_latents(job->config, job->eval.samples[i].source.count);
    }
    return sum / (double)job->eval.count;
}

static double wire_bytes(const lw_job *job, int64_t bits)
{
    return mean_latents(job) * (double)lw_quantise_row_bytes(bits, job->config->wire.d_z);
}

static json_t *interval_json(const lw_estimate *interval)
{
    json_t *pair = json_array();
    json_array_append_new(pair, lw_json_number(interval->low));
    json_array_append_new(pair, lw_json_number(interval->high));
    return pair;
}

static json_t *mode_json(const lw_eval_sums *s, const lw_eval_intervals *intervals)
{
    json_t *o = json_object();
    lw_json_put_i64(o, "samples", (int64_t)s->samples);
    lw_json_put_f64(o, "exact_match", s->exact / s->samples);
    lw_json_put_f64(o, "f1", s->f1 / s->samples);
    lw_json_put_f64(o, "nll_per_answer_token", s->nll / s->answer_tokens);
    lw_json_put_f64(o, "first_token_accuracy", s->first_correct / s->samples);
    json_object_set_new(o, "exact_match_interval", interval_json(&intervals->exact));
    json_object_set_new(o, "f1_interval", interval_json(&intervals->f1));
    json_object_set_new(o, "nll_interval", interval_json(&intervals->nll));
    return o;
}

static json_t *gain_json(const lw_eval_gain *g)
{
    json_t *o = json_object();
    lw_json_put_f64(o, "f1", g->f1);
    json_object_set_new(o, "f1_interval", interval_json(&g->f1_interval));
    lw_json_put_f64(o, "nll", g->nll);
    json_object_set_new(o, "nll_interval", interval_json(&g->nll_interval));
    return o;
}

// The mean over LLMs, and each of them.
static json_t *all_gains_json(const lw_job *job, const lw_eval_result *r)
{
    json_t *o = json_object();
    json_t *models = json_object();
    lw_json_put_f64(o, "f1", r->mean_gain.f1);
    json_object_set_new(o, "f1_interval", interval_json(&r->mean_gain.f1_interval));
    lw_json_put_f64(o, "nll", r->mean_gain.nll);
    for (int64_t j = 0; j < job->llm_count; j++) {
        json_object_set_new(models, job->llms[j].name, gain_json(&r->gain[j]));
    }
    json_object_set_new(o, "models", models);
    return o;
}

static json_t *joint_json(const lw_job *job, const lw_eval_result *r)
{
    json_t *o = json_object();
    json_t *chosen = json_object();
    double n = (double)r->samples;
    lw_json_put_f64(o, "exact_match", r->joint.exact / n);
    json_object_set_new(o, "exact_match_interval", interval_json(&r->joint.exact_interval));
    lw_json_put_f64(o, "f1", r->joint.f1 / n);
    json_object_set_new(o, "f1_interval", interval_json(&r->joint.f1_interval));
    for (int64_t j = 0; j < job->llm_count; j++) {
        lw_json_put_f64(chosen, job->llms[j].name, r->joint.chosen[j] / n);
    }
    json_object_set_new(o, "chosen_share", chosen);
    return o;
}

// --- variants of the latents: fewer bits, fewer latents

// Mean over the samples of the latents that a system reads.
static double system_latents(const lw_job *job, const lw_eval_system *system)
{
    double sum = 0.0;
    for (int64_t i = 0; i < job->eval.count; i++) {
        sum += (double)lw_eval_latents(job->config, system, job->eval.samples[i].source.count);
    }
    return sum / (double)job->eval.count;
}

static double system_bytes(const lw_job *job, const lw_eval_system *system)
{
    int64_t bits = system->bits > 0 ? system->bits : 16;
    return system_latents(job, system) * (double)lw_quantise_row_bytes(bits, job->config->wire.d_z);
}

static bool is_variant(const lw_eval_system *s, bool quantised)
{
    return s->mode == LW_EVAL_LATENT && (quantised ? s->bits > 0 : s->bits == 0 && (s->latents > 0 || s->ratio > 0));
}

static bool has_variants(const lw_eval_result *r, bool quantised)
{
    for (int slot = 0; slot < r->system_count; slot++) {
        if (is_variant(&r->systems[slot], quantised)) {
            return true;
        }
    }
    return false;
}

// One row per point: latents, bits, bytes, and the figures of each model. The curve ends with all latents.
static json_t *variants_json(const lw_job *job, const lw_eval_result *r, bool quantised)
{
    json_t *rows = json_array();
    for (int k = 0; k <= r->system_count; k++) {
        int slot = k < r->system_count ? k : LW_EVAL_LATENT;
        const lw_eval_system *system = &r->systems[slot];
        if (k < r->system_count ? !is_variant(system, quantised) : quantised) {
            continue;
        }
        json_t *row = json_object();
        json_t *models = json_object();
        lw_json_put_f64(row, "latents", system_latents(job, system));
        lw_json_put_i64(row, "bits", system->bits > 0 ? system->bits : 16);
        lw_json_put_f64(row, "wire_bytes", system_bytes(job, system));
        for (int64_t j = 0; j < job->llm_count; j++) {
            json_object_set_new(models, job->llms[j].name, mode_json(&r->sums[j][slot], &r->intervals[j][slot]));
        }
        json_object_set_new(row, "models", models);
        json_array_append_new(rows, row);
    }
    return rows;
}

static double mean_prompt_tokens(const lw_job *job, int64_t j)
{
    return (double)job->eval.tokens[j].prompt.start[job->eval.count] / (double)job->eval.count;
}

static json_t *compression_json(const lw_job *job)
{
    json_t *o = json_object();
    json_t *tokens = json_object();
    json_t *bytes = json_object();
    for (int64_t j = 0; j < job->llm_count; j++) {
        lw_json_put_f64(tokens, job->llms[j].name, mean_prompt_tokens(job, j));
    }
    for (size_t f = 0; f < sizeof wire_formats / sizeof wire_formats[0]; f++) {
        lw_json_put_f64(bytes, wire_formats[f].name, wire_bytes(job, wire_formats[f].bits));
    }
    json_object_set_new(o, "prompt_tokens_mean", tokens);
    lw_json_put_f64(o, "latents", mean_latents(job));
    lw_json_put_f64(o, "source_bytes_mean", (double)job->eval.source_bytes / (double)job->eval.count);
    json_object_set_new(o, "wire_bytes", bytes);
    return o;
}

lw_status lw_eval_json(const lw_job *job, const lw_eval_result *r, lw_error *err, json_t **out)
{
    json_t *root = json_object();
    json_t *models = json_object();
    if (root == NULL || models == NULL) {
        json_decref(root);
        json_decref(models);
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the evaluation's figures");
    }
    lw_json_put_i64(root, "samples", r->samples);
    lw_json_put_f64(root, "wall_s", r->wall_s);
    lw_json_put_i64(root, "contexts", r->contexts);
    lw_json_put_i64(root, "bootstrap", r->resamples);
    json_object_set_new(root, "gain_over_shuffled", all_gains_json(job, r));
    for (int64_t j = 0; j < job->llm_count; j++) {
        json_t *m = json_object();
        for (int mode = 0; mode < LW_EVAL_MODE_COUNT; mode++) {
            json_object_set_new(m, lw_eval_mode_key((lw_eval_mode)mode),
                                mode_json(&r->sums[j][mode], &r->intervals[j][mode]));
        }
        json_object_set_new(models, job->llms[j].name, m);
    }
    json_object_set_new(root, "models", models);
    if (r->joint.measured) {
        json_object_set_new(root, "joint", joint_json(job, r));
    }
    if (has_variants(r, true)) {
        json_object_set_new(root, "quantised", variants_json(job, r, true));
    }
    if (has_variants(r, false)) {
        json_object_set_new(root, "curve", variants_json(job, r, false));
    }
    json_object_set_new(root, "compression", compression_json(job));
    *out = root;
    return LW_OK;
}

__attribute__((format(printf, 3, 4))) static void say(const lw_job *job, FILE *file, const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (file != NULL) {
        fprintf(file, "%s\n", line);
    } else {
        lw_log(job->run, "%s", line);
    }
}

// "[0.912, 0.967]"; "-" where a single context gives no interval; nothing where none was asked for.
static const char *interval_text(const lw_eval_result *r, const lw_estimate *interval, char *out, size_t size)
{
    if (isnan(interval->low)) {
        snprintf(out, size, "%s", r->resamples > 0 ? "-" : "");
    } else {
        snprintf(out, size, "[%.3f, %.3f]", interval->low, interval->high);
    }
    return out;
}

// "0.912", or "-" where there is no such figure: nothing was generated, or the system left all samples out.
static const char *figure_text(double value, char *out, size_t size)
{
    snprintf(out, size, isnan(value) ? "-" : "%.3f", value);
    return out;
}

static void print_row(const lw_job *job, const lw_eval_result *r, int64_t j, int slot, FILE *file)
{
    const lw_eval_sums *s = &r->sums[j][slot];
    const lw_eval_intervals *intervals = &r->intervals[j][slot];
    char figure[4][32];
    char f1[32];
    char nll[32];
    say(job, file, "%-12s %-14s %7s %7s %-16s %9s %-16s %12s", job->llms[j].name, r->systems[slot].key,
        figure_text(s->exact / s->samples, figure[0], sizeof figure[0]),
        figure_text(s->f1 / s->samples, figure[1], sizeof figure[1]), interval_text(r, &intervals->f1, f1, sizeof f1),
        figure_text(s->nll / s->answer_tokens, figure[2], sizeof figure[2]),
        interval_text(r, &intervals->nll, nll, sizeof nll),
        figure_text(s->first_correct / s->samples, figure[3], sizeof figure[3]));
}

// Prints the headline: whether the LLMs use what the wire carries.
static void print_gain(const lw_job *job, const lw_eval_result *r, FILE *file)
{
    char f1[32];
    char nll[32];
    bool text = isnan(r->mean_gain.f1); // windows of text are only scored
    if (isnan(r->mean_gain.nll)) {
        say(job, file, "gain over shuffled: - (all samples have one context: there are no other latents to read)");
        return;
    }
    if (!text) {
        say(job, file, "gain over shuffled: F1 %+.3f %s", r->mean_gain.f1,
            interval_text(r, &r->mean_gain.f1_interval, f1, sizeof f1));
    }
    for (int64_t j = 0; j < job->llm_count; j++) {
        const lw_eval_gain *g = &r->gain[j];
        if (text) {
            say(job, file, "gain over shuffled: %s NLL/token less by %.3f %s", job->llms[j].name, g->nll,
                interval_text(r, &g->nll_interval, nll, sizeof nll));
            continue;
        }
        say(job, file, "%-12s F1 %+.3f %s, NLL/token less by %.3f %s", job->llms[j].name, g->f1,
            interval_text(r, &g->f1_interval, f1, sizeof f1), g->nll,
            interval_text(r, &g->nll_interval, nll, sizeof nll));
    }
}

static void print_joint(const lw_job *job, const lw_eval_result *r, FILE *file)
{
    char f1[32];
    double n = (double)r->samples;
    say(job, file, "%-12s %-14s %7.3f %7.3f %-16s of all models' answers the likeliest to all", "joint", "latent",
        r->joint.exact / n, r->joint.f1 / n, interval_text(r, &r->joint.f1_interval, f1, sizeof f1));
}

void lw_eval_print(const lw_job *job, const lw_eval_result *r, FILE *file)
{
    say(job, file, "evaluation on %lld samples of %lld %s in %.1f s", (long long)r->samples, (long long)r->contexts,
        lw_eval_cluster_name(job), r->wall_s);
    say(job, file, "%-12s %-14s %7s %7s %-16s %9s %-16s %12s", "model", "input", "EM", "F1",
        r->resamples > 0 ? "95 %" : "", "NLL/token", r->resamples > 0 ? "95 %" : "", "first token");
    for (int64_t j = 0; j < job->llm_count; j++) {
        for (int slot = 0; slot < r->system_count; slot++) {
            print_row(job, r, j, slot, file);
        }
        say(job, file, "%-12s %.1f prompt tokens -> %.4g latents, %.0f source bytes -> %.0f wire bytes (fp16)",
            job->llms[j].name, mean_prompt_tokens(job, j), mean_latents(job),
            (double)job->eval.source_bytes / (double)job->eval.count, wire_bytes(job, 16));
    }
    if (r->joint.measured) {
        print_joint(job, r, file);
    }
    print_gain(job, r, file);
}
