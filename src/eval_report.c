// eval_report.c: the figures of an evaluation, as JSON and as a table.
#include <stdarg.h>
#include <stdio.h>

#include "eval.h"
#include "json_util.h"

// Storage of one number of the wire, for the compression figures: type, bits, and bits of the scale that groups of 32
// numbers share.
static const struct lw_wire_format {
    const char *name;
    int bits, group_scale_bits;
} wire_formats[] = {{"fp32", 32, 0}, {"fp16", 16, 0}, {"int8", 8, 16}, {"int4", 4, 16}};

static double mean_latents(const lw_job *job)
{
    double sum = 0.0;
    for (int64_t i = 0; i < job->eval.count; i++) {
        sum += (double)lw_encoder_latents(job->config, job->eval.samples[i].source.count);
    }
    return sum / (double)job->eval.count;
}

static double wire_bytes(const lw_job *job, const struct lw_wire_format *f)
{
    double numbers = mean_latents(job) * (double)job->config->wire.d_z;
    return numbers * ((double)f->bits + (double)f->group_scale_bits / 32.0) / 8.0;
}

static json_t *mode_json(const lw_eval_sums *s)
{
    json_t *o = json_object();
    json_object_set_new(o, "samples", json_integer((json_int_t)s->samples));
    json_object_set_new(o, "exact_match", lw_json_number(s->exact / s->samples));
    json_object_set_new(o, "f1", lw_json_number(s->f1 / s->samples));
    json_object_set_new(o, "nll_per_answer_token", lw_json_number(s->nll / s->answer_tokens));
    json_object_set_new(o, "first_token_accuracy", lw_json_number(s->first_correct / s->samples));
    return o;
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
        json_object_set_new(tokens, job->llms[j].name, lw_json_number(mean_prompt_tokens(job, j)));
    }
    for (size_t f = 0; f < sizeof wire_formats / sizeof wire_formats[0]; f++) {
        json_object_set_new(bytes, wire_formats[f].name, lw_json_number(wire_bytes(job, &wire_formats[f])));
    }
    json_object_set_new(o, "prompt_tokens_mean", tokens);
    json_object_set_new(o, "latents", lw_json_number(mean_latents(job)));
    json_object_set_new(o, "source_bytes_mean",
                        lw_json_number((double)job->eval.source_bytes / (double)job->eval.count));
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
    json_object_set_new(root, "samples", json_integer(r->samples));
    json_object_set_new(root, "wall_s", lw_json_number(r->wall_s));
    for (int64_t j = 0; j < job->llm_count; j++) {
        json_t *m = json_object();
        for (int mode = 0; mode < LW_EVAL_MODE_COUNT; mode++) {
            json_object_set_new(m, lw_eval_mode_key((lw_eval_mode)mode), mode_json(&r->sums[j][mode]));
        }
        json_object_set_new(models, job->llms[j].name, m);
    }
    json_object_set_new(root, "models", models);
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

void lw_eval_print(const lw_job *job, const lw_eval_result *r, FILE *file)
{
    say(job, file, "evaluation on %lld samples in %.1f s", (long long)r->samples, r->wall_s);
    say(job, file, "%-12s %-11s %7s %7s %9s %12s", "model", "input", "EM", "F1", "NLL/token", "first token");
    for (int64_t j = 0; j < job->llm_count; j++) {
        for (int mode = 0; mode < LW_EVAL_MODE_COUNT; mode++) {
            const lw_eval_sums *s = &r->sums[j][mode];
            say(job, file, "%-12s %-11s %7.3f %7.3f %9.3f %12.3f", job->llms[j].name,
                lw_eval_mode_key((lw_eval_mode)mode), s->exact / s->samples, s->f1 / s->samples,
                s->nll / s->answer_tokens, s->first_correct / s->samples);
        }
        say(job, file, "%-12s %.1f prompt tokens -> %.4g latents, %.0f source bytes -> %.0f wire bytes (fp16)",
            job->llms[j].name, mean_prompt_tokens(job, j), mean_latents(job),
            (double)job->eval.source_bytes / (double)job->eval.count,
            wire_bytes(job, &wire_formats[1]));
    }
}
