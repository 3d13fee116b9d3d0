// figures.c: the sections of a report that come from eval.json: the wire's gain, every system's figures, F1 against
// bytes and against latents.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"
#include "report/svg_plot.h"

enum { MOST_MODELS = 16, MOST_SYSTEMS = 16, MOST_ROWS = 64 };

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static double interval_end(const json_t *object, const char *key, size_t end)
{
    const json_t *value = json_array_get(json_object_get(object, key), end);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static void print_number(FILE *out, double value, const char *format_or_dash)
{
    if (isfinite(value)) {
        fprintf(out, "%.*f", format_or_dash[0] - '0', value);
    } else {
        fputs("&#8211;", out);
    }
}

// "0.512 [0.440, 0.580]"
static void print_figure(FILE *out, const json_t *object, const char *key, const char *interval)
{
    double low = interval_end(object, interval, 0);
    double high = interval_end(object, interval, 1);
    fprintf(out, "<td>");
    print_number(out, number(object, key), "3");
    if (isfinite(low) && isfinite(high)) {
        fprintf(out, " [%.3f, %.3f]", low, high);
    }
    fprintf(out, "</td>");
}

static void print_figures(FILE *out, const json_t *figures)
{
    print_figure(out, figures, "exact_match", "exact_match_interval");
    print_figure(out, figures, "f1", "f1_interval");
    print_figure(out, figures, "nll_per_answer_token", "nll_interval");
}

static const char figure_heads[] = "<th>exact match</th><th>F1</th><th>NLL per answer token</th></tr>\n";

static int64_t keys_of(const json_t *object, int64_t most, const char **out)
{
    int64_t count = 0;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    { // only read
        if (count < most && json_is_object(value)) {
            out[count++] = key;
        }
    }
    return count;
}

// --- what every model reached, reading what

static void print_gain(const json_t *eval, FILE *out)
{
    const json_t *gain = json_object_get(eval, "gain_over_shuffled");
    if (!json_is_object(gain)) {
        return;
    }
    fprintf(out, "<p>Gain over shuffled latents, mean over models: F1 ");
    print_number(out, number(gain, "f1"), "3");
    if (isfinite(interval_end(gain, "f1_interval", 0)) && isfinite(interval_end(gain, "f1_interval", 1))) {
        fprintf(out, " [%.3f, %.3f]", interval_end(gain, "f1_interval", 0), interval_end(gain, "f1_interval", 1));
    }
    fprintf(out, "; loss of an answer token less by ");
    print_number(out, number(gain, "nll"), "3");
    fprintf(out, ". It shows whether what the latents say is read.</p>\n");
}

static void print_systems(const json_t *models, FILE *out)
{
    const char *names[MOST_MODELS];
    int64_t model_count = keys_of(models, MOST_MODELS, names);
    fprintf(out, "<table>\n<tr><th>model</th><th>reads</th>%s", figure_heads);
    for (int64_t j = 0; j < model_count; j++) {
        const char *systems[MOST_SYSTEMS];
        const json_t *model = json_object_get(models, names[j]);
        int64_t count = keys_of(model, MOST_SYSTEMS, systems);
        for (int64_t s = 0; s < count; s++) {
            fprintf(out, "<tr><td>");
            lw_html_text(out, names[j]);
            fprintf(out, "</td><td>");
            lw_html_text(out, systems[s]);
            fprintf(out, "</td>");
            print_figures(out, json_object_get(model, systems[s]));
            fprintf(out, "</tr>\n");
        }
    }
    fprintf(out, "</table>\n");
}

static void draw_systems(const json_t *models, FILE *out)
{
    const char *names[MOST_MODELS];
    const char *systems[MOST_SYSTEMS];
    double y[MOST_SYSTEMS * MOST_MODELS];
    double low[MOST_SYSTEMS * MOST_MODELS];
    double high[MOST_SYSTEMS * MOST_MODELS];
    int64_t model_count = keys_of(models, MOST_MODELS, names);
    int64_t count = model_count > 0 ? keys_of(json_object_get(models, names[0]), MOST_SYSTEMS, systems) : 0;
    if (count == 0) {
        return;
    }
    for (int64_t s = 0; s < count; s++) {
        for (int64_t j = 0; j < model_count; j++) {
            const json_t *figures = json_object_get(json_object_get(models, names[j]), systems[s]);
            y[s * model_count + j] = number(figures, "f1");
            low[s * model_count + j] = interval_end(figures, "f1_interval", 0);
            high[s * model_count + j] = interval_end(figures, "f1_interval", 1);
        }
    }
    lw_svg_bars(out, &(lw_bars){.title = "F1 by what a model reads",
                                .y_label = "F1",
                                .groups = systems,
                                .names = names,
                                .group_count = count,
                                .bar_count = model_count,
                                .y = y,
                                .low = low,
                                .high = high});
}

static void print_joint(const json_t *eval, FILE *out)
{
    const json_t *joint = json_object_get(eval, "joint");
    if (json_is_object(joint)) {
        fprintf(out,
                "<p>Of all models' answers the one that is likeliest to all of them together:</p>\n<table>\n<tr>%s<tr>",
                figure_heads);
        print_figures(out, joint);
        fprintf(out, "</tr>\n</table>\n");
    }
}

// --- rows of {latents, bits, wire_bytes, models}

static void print_rows(const json_t *rows, FILE *out)
{
    fprintf(out, "<table>\n<tr><th>latents</th><th>bits</th><th>bytes</th><th>model</th>%s", figure_heads);
    for (size_t i = 0; i < json_array_size(rows) && i < MOST_ROWS; i++) {
        const char *names[MOST_MODELS];
        const json_t *row = json_array_get(rows, i);
        const json_t *models = json_object_get(row, "models");
        int64_t count = keys_of(models, MOST_MODELS, names);
        for (int64_t j = 0; j < count; j++) {
            fprintf(out, "<tr><td>");
            print_number(out, number(row, "latents"), "1");
            fprintf(out, "</td><td>");
            print_number(out, number(row, "bits"), "0");
            fprintf(out, "</td><td>");
            print_number(out, number(row, "wire_bytes"), "0");
            fprintf(out, "</td><td>");
            lw_html_text(out, names[j]);
            fprintf(out, "</td>");
            print_figures(out, json_object_get(models, names[j]));
            fprintf(out, "</tr>\n");
        }
    }
    fprintf(out, "</table>\n");
}

typedef struct points {
    double x[MOST_ROWS], y[MOST_ROWS], low[MOST_ROWS], high[MOST_ROWS];
} points;

static void draw_rows(const json_t *rows, const char *x_key, const char *title, const char *x_label, FILE *out)
{
    const char *names[MOST_MODELS];
    lw_series series[MOST_MODELS];
    size_t n = json_array_size(rows) < MOST_ROWS ? json_array_size(rows) : MOST_ROWS;
    int64_t count = keys_of(json_object_get(json_array_get(rows, 0), "models"), MOST_MODELS, names);
    points *all = calloc(MOST_MODELS, sizeof *all);
    for (int64_t j = 0; all != NULL && j < count; j++) {
        for (size_t i = 0; i < n; i++) {
            const json_t *row = json_array_get(rows, i);
            const json_t *figures = json_object_get(json_object_get(row, "models"), names[j]);
            all[j].x[i] = number(row, x_key);
            all[j].y[i] = number(figures, "f1");
            all[j].low[i] = interval_end(figures, "f1_interval", 0);
            all[j].high[i] = interval_end(figures, "f1_interval", 1);
        }
        series[j] = (lw_series){.name = names[j],
                                .x = all[j].x,
                                .y = all[j].y,
                                .low = all[j].low,
                                .high = all[j].high,
                                .count = (int64_t)n};
    }
    if (all != NULL) {
        lw_svg_plot(out, &(lw_plot){.title = title,
                                    .x_label = x_label,
                                    .y_label = "F1",
                                    .points = true,
                                    .y_fixed = true,
                                    .series = series,
                                    .count = count});
    }
    free(all);
}

static void print_variants(const json_t *eval, const char *key, const char *x_key, const char *title,
                           const char *x_label, const char *how, FILE *out)
{
    const json_t *rows = json_object_get(eval, key);
    fprintf(out, "<h3>%s</h3>\n", title);
    if (json_array_size(rows) == 0) {
        fprintf(out, "<p>Not measured: %s.</p>\n", how);
        return;
    }
    draw_rows(rows, x_key, title, x_label, out);
    print_rows(rows, out);
}

static void print_compression(const json_t *eval, FILE *out)
{
    const json_t *c = json_object_get(eval, "compression");
    const json_t *tokens = json_object_get(c, "prompt_tokens_mean");
    const char *name = NULL;
    json_t *value = NULL;
    if (!json_is_object(c)) {
        return;
    }
    fprintf(out, "<p>Mean of a sample: ");
    print_number(out, number(c, "source_bytes_mean"), "0");
    fprintf(out, " bytes of text in, ");
    print_number(out, number(json_object_get(c, "wire_bytes"), "fp16"), "0");
    fprintf(out, " bytes of latents out in 16 bits; ");
    print_number(out, number(c, "latents"), "1");
    fprintf(out, " latents");
    json_object_foreach((json_t *)(uintptr_t)tokens, name, value)
    { // only read
        fprintf(out, ", ");
        print_number(out, json_number_value(value), "1");
        fprintf(out, " prompt tokens of ");
        lw_html_text(out, name);
    }
    fprintf(out, ".</p>\n");
}

void lw_report_print_eval(const lw_report_input *in, FILE *out)
{
    fprintf(out, "<h2>Evaluation</h2>\n");
    const json_t *models = json_object_get(in->eval, "models");
    if (!json_is_object(models)) {
        fprintf(out, "<p>No eval.json: not evaluated yet.</p>\n");
        return;
    }
    fprintf(out, "<p>");
    print_number(out, number(in->eval, "samples"), "0");
    fprintf(out, " samples; in brackets 95 %% intervals, where they were computed.</p>\n");
    print_gain(in->eval, out);
    draw_systems(models, out);
    print_systems(models, out);
    print_joint(in->eval, out);
    print_compression(in->eval, out);
    print_variants(in->eval, "quantised", "wire_bytes", "F1 against bytes", "bytes of a sample's latents",
                   "eval.quantise = true does it", out);
    print_variants(in->eval, "curve", "latents", "F1 against latents", "latents of a sample",
                   "eval.curve = true does it", out);
}
