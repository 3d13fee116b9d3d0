// print.c: a plan as JSON and as tables.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "plan/plan_internal.h"

// --- JSON

static json_t *memory_json(const lw_plan *plan, const lw_plan_memory *m)
{
    json_t *o = json_object();
    lw_json_put_i64(o, "frozen", (int64_t)m->frozen);
    lw_json_put_i64(o, "trainable", (int64_t)(m->parameters + m->gradients));
    lw_json_put_i64(o, "optimizer", (int64_t)m->optimizer);
    lw_json_put_i64(o, "activations", (int64_t)m->activations);
    lw_json_put_i64(o, "logits", (int64_t)m->logits);
    lw_json_put_i64(o, "caches", (int64_t)m->caches);
    lw_json_put_i64(o, "runtime", (int64_t)m->runtime);
    lw_json_put_i64(o, "total", (int64_t)m->total);
    json_t *items = json_object(); // parts of the numbers above
    for (int64_t j = 0; j < plan->job.llm_count; j++) {
        char key[96];
        snprintf(key, sizeof key, "frozen_%s", plan->job.llms[j].name);
        lw_json_put_i64(items, key, (int64_t)m->llm[j]);
    }
    if (m->encoder > 0) {
        lw_json_put_i64(items, "encoder", (int64_t)m->encoder);
    }
    lw_json_put_i64(items, "parameters", (int64_t)m->parameters);
    lw_json_put_i64(items, "gradients", (int64_t)m->gradients);
    lw_json_put_i64(items, "step_workspace", (int64_t)m->step);
    lw_json_put_i64(items, "evaluation_workspace", (int64_t)m->evaluation);
    lw_json_put_i64(items, "teacher_workspace", (int64_t)m->teacher);
    json_object_set_new(o, "items", items);
    return o;
}

// The stages, whose times add up to that of the run.
static json_t *phases_json(const lw_plan *plan, const lw_plan_option *l)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < plan->config->phase_count; i++) {
        json_t *o = json_object();
        lw_json_put_text(o, "name", plan->config->phases[i].name);
        lw_json_put_i64(o, "samples", plan->samples[i]);
        lw_json_put_i64(o, "steps", l->stage_steps[i]);
        lw_json_put_f64(o, "step_s", l->stage_step_s[i]);
        lw_json_put_f64(o, "total_s", (double)l->stage_steps[i] * l->stage_step_s[i]);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *option_json(const lw_plan *plan, const lw_plan_option *l)
{
    json_t *o = json_object();
    lw_json_put_i64(o, "gpus", l->gpus);
    lw_json_put_i64(o, "data", l->grid.data);
    lw_json_put_i64(o, "model", l->grid.model);
    lw_json_put_i64(o, "tensor", l->grid.tensor);
    json_object_set_new(o, "best", json_boolean(l->best));
    if (l->threads > 0) {
        lw_json_put_i64(o, "threads", l->threads);
    }
    json_object_set_new(o, "memory_per_gpu_bytes", memory_json(plan, &l->memory));
    lw_json_put_i64(o, "steps", l->steps);
    lw_json_put_f64(o, "step_s", l->step.total_s);
    if (plan->config->phase_count > 0) {
        json_object_set_new(o, "phases", phases_json(plan, l));
    }
    lw_json_put_f64(o, "samples_per_s", l->samples_per_s);
    lw_json_put_f64(o, "tokens_per_s", l->tokens_per_s);
    lw_json_put_f64(o, "epoch_s", l->epoch_s);
    lw_json_put_f64(o, "teacher_s", l->teacher_s);
    lw_json_put_f64(o, "total_s", l->total_s);
    lw_json_put_f64(o, "gpu_hours", l->gpu_hours);
    lw_json_put_f64(o, "efficiency", l->efficiency);
    json_object_set_new(o, "fits", json_boolean(l->fits));
    lw_json_put_text(o, "source", l->measured ? "measured" : "predicted");
    json_object_set_new(o, "calibration", l->record[0] != '\0' ? json_string(l->record) : json_null());
    return o;
}

static json_t *decision_json(const lw_plan *plan)
{
    const lw_plan_decision *d = &plan->decision;
    json_t *o = json_object();
    json_t *rejected = json_array();
    lw_json_put_i64(o, "gpus", d->gpus);
    const lw_plan_option *chosen = lw_plan_find(plan, d->gpus);
    if (chosen != NULL) {
        json_object_set_new(o, "grid",
                            json_pack("{s:i, s:i, s:i}", "data", chosen->grid.data, "model", chosen->grid.model,
                                      "tensor", chosen->grid.tensor));
    }
    lw_json_put_text(o, "reason", d->reason);
    json_object_set_new(o, "meets_deadline", json_boolean(d->gpus > 0 && d->meets_deadline));
    lw_json_put_f64(o, "deadline_s", plan->deadline_s);
    lw_json_put_f64(o, "safety", lw_plan_safety());
    for (int i = 0; i < d->rejected_count; i++) {
        json_array_append_new(rejected, json_pack("{s:I, s:s}", "gpus", (json_int_t)d->rejected[i].gpus, "why",
                                                  d->rejected[i].why));
    }
    json_object_set_new(o, "rejected", rejected);
    return o;
}

static json_t *what_if_json(const lw_plan *plan, const lw_plan_what_if *w)
{
    json_t *o = json_object();
    lw_json_put_text(o, "change", w->change);
    lw_json_put_f64(o, "time_factor", w->time_factor);
    lw_json_put_f64(o, "memory_factor", w->memory_factor);
    lw_json_put_i64(o, "gpus", w->gpus);
    json_object_set_new(o, "decision_changes", json_boolean(w->gpus != plan->decision.gpus));
    return o;
}

// Adds up the teachers of all stages and LLMs; false without distillation.
static bool teacher_totals(const lw_plan *plan, int64_t *rows, int64_t *file_bytes)
{
    bool any = false;
    *rows = 0;
    *file_bytes = 0;
    for (int64_t i = 0; i < lw_config_phase_count(plan->config); i++) {
        any = any || lw_teacher_wanted(lw_config_phase(plan->config, i));
        for (int64_t j = 0; j < plan->job.llm_count; j++) {
            *rows += plan->teacher[i][j].rows;
            *file_bytes += plan->teacher[i][j].file_bytes;
        }
    }
    return any;
}

// The states of all LLMs; null without distillation.
static json_t *teacher_json(const lw_plan *plan)
{
    int64_t rows;
    int64_t bytes;
    if (!teacher_totals(plan, &rows, &bytes)) {
        return json_null();
    }
    return json_pack("{s:I, s:I}", "states", (json_int_t)rows, "file_bytes", (json_int_t)bytes);
}

static json_t *device_json(const lw_device_rates *r)
{
    json_t *o = json_object();
    lw_json_put_text(o, "name", r->name);
    lw_json_put_f64(o, "memory_bytes", r->memory_bytes);
    lw_json_put_f64(o, "memory_margin", lw_device_memory_margin());
    lw_json_put_f64(o, "matrix_flop_per_s", r->matrix_flop_per_s);
    lw_json_put_f64(o, "f32_flop_per_s", r->f32_flop_per_s);
    lw_json_put_f64(o, "bytes_per_s", r->bytes_per_s);
    return o;
}

static int64_t all_samples(const lw_plan *plan)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < lw_config_phase_count(plan->config); i++) {
        sum += plan->samples[i];
    }
    return sum;
}

json_t *lw_plan_json(const lw_plan *plan)
{
    json_t *o = json_object();
    json_t *options = json_array();
    json_t *what_if = json_array();
    for (int i = 0; i < plan->option_count; i++) {
        if (plan->options[i].why_not[0] == '\0') { // a count that cannot divide the job is no option
            json_array_append_new(options, option_json(plan, &plan->options[i]));
        }
    }
    for (int i = 0; i < plan->what_if_count; i++) {
        json_array_append_new(what_if, what_if_json(plan, &plan->what_if[i]));
    }
    lw_json_put_text(o, "config", plan->config->path);
    lw_json_put_text(o, "run_dir", plan->config->run.dir);
    json_object_set_new(o, "device", device_json(&plan->rates));
    lw_json_put_i64(o, "samples", all_samples(plan));
    lw_json_put_text(o, "scaling", plan->config->batch.per_rank > 0 ? "weak" : "strong");
    lw_json_put_text(o, "assumptions", plan->note);
    json_object_set_new(o, "teacher", teacher_json(plan));
    json_object_set_new(o, "layouts", options);
    json_object_set_new(o, "what_if", what_if);
    json_object_set_new(o, "decision", decision_json(plan));
    return o;
}

// --- tables

typedef struct printer {
    lw_plan_line *line;
    void *context;
} printer;

__attribute__((format(printf, 2, 3))) static void say(const printer *p, const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    p->line(p->context, text);
}

static double gb(size_t bytes)
{
    return 1e-9 * (double)bytes;
}

// Prints GB so that "0.034" of a tiny job is as readable as "33.61" of a large one.
static const char *size_text(size_t bytes, char out[16])
{
    snprintf(out, 16, gb(bytes) < 1.0 ? "%.4f" : "%.2f", gb(bytes));
    return out;
}

static void print_phase(const printer *p, const lw_plan *plan, int64_t i)
{
    const lw_config *c = lw_config_phase(plan->config, i);
    const char *name = lw_config_phase_name(plan->config, i);
    char length[64];
    if (c->train.max_steps > 0) {
        snprintf(length, sizeof length, "at most %lld steps", (long long)c->train.max_steps);
    } else {
        snprintf(length, sizeof length, "%lld epochs", (long long)c->train.epochs);
    }
    say(p, "%s%s%lld samples, %s, %.4g latents x %lld%s", name, name[0] != '\0' ? ": " : "",
        (long long)plan->samples[i], length, plan->mean[i].latents, (long long)c->wire.d_z,
        plan->mean[i].alternating_llms > 0 ? ", one model a step in turn: times are of the mean step" : "");
}

static void print_job(const printer *p, const lw_plan *plan)
{
    const lw_config *c = plan->config;
    bool weak = c->batch.per_rank > 0;
    say(p, "%s on %s: %lld samples a step%s", c->path, plan->rates.name,
        (long long)(weak ? c->batch.per_rank : c->batch.global), weak ? " and rank" : "");
    for (int64_t i = 0; i < lw_config_phase_count(c); i++) {
        print_phase(p, plan, i);
    }
    say(p, "run directory: %s", c->run.dir);
    if (plan->note[0] != '\0') {
        say(p, "assumed: %s", plan->note);
    }
}

// A grid as data x model, "2x1". The best grid of a count is marked if there are several.
static const char *grid_text(const lw_plan *plan, const lw_plan_option *l, char out[32])
{
    bool only = true;
    for (int i = 0; i < plan->option_count; i++) {
        only = only && (&plan->options[i] == l || plan->options[i].gpus != l->gpus);
    }
    snprintf(out, 32, "%dx%d%s", l->grid.data, l->grid.model, l->best && !only ? "*" : " ");
    return out;
}

static void print_memory(const printer *p, const lw_plan *plan)
{
    char grid[32];
    char a[16], b[16], c[16], d[16], e[16], f[16], g[16], h[16];
    say(p, "%s", "");
    say(p, "memory of each %s, GB; %.2f of %.2f may be filled", plan->cpu != NULL ? "rank" : "GPU",
        1e-9 * plan->rates.memory_bytes * lw_device_memory_margin(), 1e-9 * plan->rates.memory_bytes);
    say(p, "%5s %7s %9s %9s %9s %9s %9s %9s %9s %9s %9s", "GPUs", "grid ", "frozen", "trained", "gradients",
        "optimizer", "activat.", "logits", "caches", "runtime", "total");
    for (int i = 0; i < plan->option_count; i++) {
        const lw_plan_option *l = &plan->options[i];
        const lw_plan_memory *m = &l->memory;
        char total[16];
        if (l->why_not[0] == '\0') {
            say(p, "%5lld %7s %9s %9s %9s %9s %9s %9s %9s %9s %9s%s", (long long)l->gpus, grid_text(plan, l, grid),
                size_text(m->frozen, a), size_text(m->parameters, b), size_text(m->gradients, c),
                size_text(m->optimizer, d), size_text(m->activations, e), size_text(m->logits, f),
                size_text(m->caches, g), size_text(m->runtime, h), size_text(m->total, total),
                l->fits ? "" : "  does not fit");
        }
    }
    for (int i = 0; i < plan->option_count; i++) {
        const lw_plan_option *l = &plan->options[i];
        for (int64_t j = 0; l->why_not[0] == '\0' && j < plan->job.llm_count; j++) {
            say(p, "      frozen %s: %s GB", plan->job.llms[j].name, size_text(l->memory.llm[j], a));
        }
        if (l->why_not[0] == '\0') {
            if (l->memory.encoder > 0) {
                say(p, "      frozen encoder: %s GB", size_text(l->memory.encoder, a));
            }
            break;
        }
    }
    say(p, "Grids are data x model (* the best of its count): data divides the samples and copies the frozen weights,");
    say(p, "model puts different LLMs on different %s, so that each holds and reads its own alone.",
        plan->cpu != NULL ? "ranks" : "GPUs");
}

static void print_times(const printer *p, const lw_plan *plan)
{
    char grid[32];
    say(p, "%s", "");
    say(p, "%s scaling: %s is fixed", plan->config->batch.per_rank > 0 ? "weak" : "strong",
        plan->config->batch.per_rank > 0 ? "batch.per_rank" : "batch.global");
    say(p, "%5s %7s %10s %10s %10s %10s %10s %9s %6s  %s", "GPUs", "grid ", "step ms", "samples/s", "tokens/s", "epoch",
        "total", "GPU-hours", "effic.", "source");
    for (int i = 0; i < plan->option_count; i++) {
        const lw_plan_option *l = &plan->options[i];
        if (l->why_not[0] != '\0') {
            say(p, "%5lld %s", (long long)l->gpus, l->why_not);
            continue;
        }
        say(p, "%5lld %7s %10.3f %10.1f %10.0f %10s %10s %9.3g %6.2f  %s%s", (long long)l->gpus,
            grid_text(plan, l, grid), 1e3 * l->step.total_s, l->samples_per_s, l->tokens_per_s,
            lw_plan_time_text(l->epoch_s).text, lw_plan_time_text(l->total_s).text, l->gpu_hours, l->efficiency,
            l->measured ? "measured" : "predicted", l->calibrated ? ", calibrated" : "");
    }
}

static void print_teacher(const printer *p, const lw_plan *plan)
{
    int64_t rows;
    int64_t bytes;
    char size[16];
    if (!teacher_totals(plan, &rows, &bytes)) {
        return;
    }
    say(p, "%s", "");
    say(p, "distillation: the models read the text prompts once, before the first step; %s GB of states on disk",
        size_text((size_t)bytes, size));
    for (int i = 0; i < plan->option_count; i++) {
        const lw_plan_option *l = &plan->options[i];
        if (l->why_not[0] == '\0' && l->best) {
            say(p, "%5lld %10s, part of the total; nothing where the states are there", (long long)l->gpus,
                lw_plan_time_text(l->teacher_s).text);
        }
    }
}

static void print_what_ifs(const printer *p, const lw_plan *plan)
{
    if (plan->what_if_count == 0) {
        return;
    }
    say(p, "%s", "");
    say(p, "what if (at %lld)    %9s %9s  %s", (long long)plan->decision.gpus, "time", "memory", "decision then");
    for (int i = 0; i < plan->what_if_count; i++) {
        const lw_plan_what_if *w = &plan->what_if[i];
        if (w->gpus == 0) {
            say(p, "  %-18s x %7.2f x %7.2f  fits no count", w->change, w->time_factor, w->memory_factor);
        } else {
            say(p, "  %-18s x %7.2f x %7.2f  %lld%s", w->change, w->time_factor, w->memory_factor, (long long)w->gpus,
                w->gpus != plan->decision.gpus ? ", instead" : "");
        }
    }
}

void lw_plan_print(const lw_plan *plan, lw_plan_line *line, void *context)
{
    const printer p = {line, context};
    const lw_plan_decision *d = &plan->decision;
    print_job(&p, plan);
    print_memory(&p, plan);
    print_times(&p, plan);
    print_teacher(&p, plan);
    print_what_ifs(&p, plan);
    say(&p, "%s", "");
    if (d->gpus > 0) {
        say(&p, "decision: %lld GPU%s%s. %s", (long long)d->gpus, d->gpus == 1 ? "" : "s",
            plan->cpu != NULL ? " (ranks, on the CPU)" : "", d->reason);
    } else {
        say(&p, "decision: none. %s", d->reason);
    }
    for (int i = 0; i < d->rejected_count; i++) {
        say(&p, "  not %lld: %s", (long long)d->rejected[i].gpus, d->rejected[i].why);
    }
}
