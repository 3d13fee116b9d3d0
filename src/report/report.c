// report.c: the HTML page, section by section.
#include "report/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/svg_plot.h"
#include "run/loss_keys.h"

enum { MOST_POINTS = 600, MOST_SERIES = 16 };

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

// --- tables

static void print_value(FILE *out, const json_t *value)
{
    if (json_is_string(value)) {
        lw_html_text(out, json_string_value(value));
    } else if (json_is_integer(value)) {
        fprintf(out, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        fprintf(out, "%.4g", json_real_value(value));
    } else {
        fputs("&#8211;", out);
    }
}

typedef struct fact {
    const char *key, *label;
} fact;

static void print_facts(FILE *out, const json_t *object, const fact *facts, size_t count)
{
    fprintf(out, "<table>\n");
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(object, facts[i].key);
        if (value != NULL) {
            fprintf(out, "<tr><th>%s</th><td>", facts[i].label);
            print_value(out, value);
            fprintf(out, "</td></tr>\n");
        }
    }
    fprintf(out, "</table>\n");
}

static void print_prediction(FILE *out, const json_t *summary)
{
    static const fact rows[] = {{"step_s", "seconds a step"},
                                {"samples_per_s", "samples per second"},
                                {"train_s", "training, seconds"},
                                {"device_bytes", "device memory, bytes"}};
    const json_t *predicted = json_object_get(summary, "predicted");
    const json_t *measured = json_object_get(summary, "measured");
    if (!json_is_object(predicted) || !json_is_object(measured)) {
        return;
    }
    fprintf(out, "<h3>Plan and measurement</h3>\n<table>\n<tr><th></th><th>predicted</th><th>measured</th></tr>\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fprintf(out, "<tr><th>%s</th><td>", rows[i].label);
        print_value(out, json_object_get(predicted, rows[i].key));
        fprintf(out, "</td><td>");
        print_value(out, json_object_get(measured, rows[i].key));
        fprintf(out, "</td></tr>\n");
    }
    fprintf(out, "</table>\n");
}

static void print_summary(const lw_report_input *in, FILE *out)
{
    static const fact facts[] = {{"config", "configuration"},
                                 {"lwmpi", "lwmpi"},
                                 {"commit", "commit"},
                                 {"device", "device"},
                                 {"ranks", "ranks"},
                                 {"steps", "steps"},
                                 {"skipped", "steps skipped"},
                                 {"samples", "samples seen"},
                                 {"train_s", "training, s"},
                                 {"wall_s", "whole run, s"},
                                 {"samples_per_s", "samples/s"},
                                 {"device_bytes", "device memory, bytes"},
                                 {"checkpoints", "checkpoints written"},
                                 {"checkpoint_stall_share", "share of the time that steps waited for checkpoints"}};
    fprintf(out, "<h2>Summary</h2>\n");
    if (in->summary != NULL) {
        print_facts(out, in->summary, facts, sizeof facts / sizeof facts[0]);
        print_prediction(out, in->summary);
        return;
    }
    size_t rows = json_array_size(in->metrics);
    fprintf(out, "<p>No summary.json: the run goes on, or was stopped before its end. ");
    if (rows > 0) {
        fprintf(out, "Last logged step: ");
        print_value(out, json_object_get(json_array_get(in->metrics, rows - 1), "step"));
        fprintf(out, ".");
    }
    fprintf(out, "</p>\n");
}

// --- curves over the steps

typedef struct curve {
    double x[MOST_POINTS], y[MOST_POINTS];
    int64_t count;
} curve;

// Means over as many rows as it takes to have at most MOST_POINTS points; rows without the key do not count.
static void read_curve(const json_t *metrics, const char *key, curve *c)
{
    size_t rows = json_array_size(metrics);
    size_t share = (rows + MOST_POINTS - 1) / MOST_POINTS;
    c->count = 0;
    for (size_t first = 0; first < rows; first += share) {
        double x = 0.0;
        double y = 0.0;
        double n = 0.0;
        for (size_t i = first; i < first + share && i < rows; i++) {
            const json_t *row = json_array_get(metrics, i);
            double value = number(row, key);
            double step = number(row, "step");
            if (isfinite(value) && isfinite(step)) {
                x += step;
                y += value;
                n += 1.0;
            }
        }
        if (n > 0.0) {
            c->x[c->count] = x / n;
            c->y[c->count++] = y / n;
        }
    }
}

static bool is_one_of(const char *key, const char *const *prefixes)
{
    for (int i = 0; prefixes[i] != NULL; i++) {
        size_t bytes = strlen(prefixes[i]);
        bool whole = prefixes[i][bytes - 1] != '_';
        if (whole ? strcmp(key, prefixes[i]) == 0 : strncmp(key, prefixes[i], bytes) == 0) {
            return true;
        }
    }
    return false;
}

// Keys of the rows that are among `prefixes` (one that ends in '_' stands for all that begin so), in order of coming.
static int64_t find_keys(const json_t *metrics, const char *const *prefixes, const char **keys)
{
    int64_t count = 0;
    json_t *seen = json_object();
    for (size_t i = 0; i < json_array_size(metrics); i++) {
        const char *key = NULL;
        json_t *value = NULL;
        json_object_foreach(json_array_get(metrics, i), key, value)
        {
            if (count < MOST_SERIES && json_is_number(value) && is_one_of(key, prefixes) &&
                json_object_get(seen, key) == NULL) {
                json_object_set_new(seen, key, json_true());
                keys[count++] = key;
            }
        }
    }
    json_decref(seen);
    return count;
}

static void print_curves(const lw_report_input *in, FILE *out, const char *title, const char *y_label,
                         const char *const *prefixes)
{
    const char *keys[MOST_SERIES];
    lw_series series[MOST_SERIES];
    int64_t count = find_keys(in->metrics, prefixes, keys);
    curve *curves = calloc(MOST_SERIES, sizeof *curves);
    for (int64_t i = 0; curves != NULL && i < count; i++) {
        read_curve(in->metrics, keys[i], &curves[i]);
        series[i] = (lw_series){.name = keys[i], .x = curves[i].x, .y = curves[i].y, .count = curves[i].count};
    }
    if (curves != NULL && count > 0) {
        const lw_plot plot = {.title = title, .x_label = "step", .y_label = y_label, .series = series, .count = count};
        fprintf(out, "<h3>%s</h3>\n", title);
        lw_svg_plot(out, &plot);
    }
    free(curves);
}

static void print_training(const lw_report_input *in, FILE *out)
{
    const char *const losses[] = {lw_loss_key(LW_LOSS_TRAINING), lw_loss_key_prefix(LW_LOSS_TRAINING),
                                  lw_loss_key_prefix(LW_LOSS_TEACHER), NULL};
    const char *const held_out[] = {lw_loss_key(LW_LOSS_HELD_OUT), lw_loss_key_prefix(LW_LOSS_HELD_OUT), NULL};
    static const char *const rates[] = {"samples_per_s", NULL};
    static const char *const wire[] = {"latent_cosine", NULL};
    static const char *const speed[] = {"lr_", NULL};
    static const char *const norms[] = {"grad_norm", NULL};
    size_t rows = json_array_size(in->metrics);
    fprintf(out, "<h2>Training</h2>\n");
    if (rows == 0) {
        fprintf(out, "<p>No step has been logged.</p>\n");
        return;
    }
    if (rows > MOST_POINTS) {
        fprintf(out, "<p>Each point is the mean of %zu logged rows.</p>\n", (rows + MOST_POINTS - 1) / MOST_POINTS);
    }
    if (in->bad_rows > 0) {
        fprintf(out, "<p>%lld rows of metrics.jsonl could not be read.</p>\n", (long long)in->bad_rows);
    }
    print_curves(in, out, "Training loss", "loss", losses);
    print_curves(in, out, "Held-out loss of an answer token", "nats", held_out);
    print_curves(in, out, "Rate", "samples/s", rates);
    print_curves(in, out, "Mean cosine between latents of different samples", "cosine", wire);
    print_curves(in, out, "Learning rates", "rate", speed);
    print_curves(in, out, "Norm of the gradient before clipping", "norm", norms);
}

// --- checkpoints, configuration, page

static void print_checkpoints(const lw_report_input *in, FILE *out)
{
    static const char *const keys[] = {"name", "samples", "created", "bytes", "eval_nll"};
    fprintf(out, "<h2>Checkpoints</h2>\n");
    if (json_array_size(in->checkpoints) == 0) {
        fprintf(out, "<p>None yet.</p>\n");
        return;
    }
    fprintf(out, "<table>\n<tr><th>checkpoint</th><th>samples</th><th>written</th><th>bytes</th><th>held-out "
                 "loss</th></tr>\n");
    for (size_t i = 0; i < json_array_size(in->checkpoints); i++) {
        fprintf(out, "<tr>");
        for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
            fprintf(out, "<td>");
            print_value(out, json_object_get(json_array_get(in->checkpoints, i), keys[k]));
            fprintf(out, "</td>");
        }
        fprintf(out, "</tr>\n");
    }
    fprintf(out, "</table>\n");
}

void lw_report_print(const lw_report_input *in, FILE *out)
{
    fprintf(out, "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n"
                 "<meta charset=\"utf-8\"/>\n<title>lwmpi: ");
    lw_html_text(out, in->dir);
    fprintf(out, "</title>\n<style>body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
                 "table{border-collapse:collapse}th,td{border:1px solid #ccc;padding:.2em .6em;text-align:left}"
                 "pre{background:#f4f4f4;padding:1em;overflow:auto}svg{max-width:100%%;height:auto}</style>\n</head>\n"
                 "<body>\n<h1>Run ");
    lw_html_text(out, in->dir);
    fprintf(out, "</h1>\n");
    print_summary(in, out);
    lw_report_print_eval(in, out);
    print_training(in, out);
    print_checkpoints(in, out);
    fprintf(out, "<h2>Configuration</h2>\n");
    if (in->config != NULL) {
        fprintf(out, "<pre>");
        lw_html_text(out, in->config);
        fprintf(out, "</pre>\n");
    } else {
        fprintf(out, "<p>No config.cfg: the run has not made its first step.</p>\n");
    }
    fprintf(out, "</body>\n</html>\n");
}
