// svg_plot.c: line plots as SVG text: scales, ticks, lines and a legend.
#include "report/svg_plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"

enum {
    WIDTH = 720,
    HEIGHT = 300,
    LEFT = 64,
    RIGHT = 16,
    TOP = 34,
    BOTTOM = 46,
    COLOURS = 8,
    TICKS = 5,
    MOST_TICKS = 24
};

// Distinct also where colours are not seen well (Okabe and Ito 2008).
static const char *const colours[COLOURS] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                             "#e69f00", "#56b4e9", "#000000", "#999999"};

void lw_html_text(FILE *out, const char *text)
{
    char *shown = text != NULL ? lw_printable_lines(text) : NULL;
    for (const char *c = shown; c != NULL && *c != '\0'; c++) {
        switch (*c) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '"': fputs("&quot;", out); break;
        case '\'': fputs("&#39;", out); break;
        default: fputc(*c, out);
        }
    }
    free(shown);
}

// --- axes

typedef struct axis {
    double low, high;
    bool logarithmic;
} axis;

typedef struct frame {
    axis x, y;
} frame;

static double place(const axis *a, double value)
{
    double low = a->logarithmic ? log(a->low) : a->low;
    double high = a->logarithmic ? log(a->high) : a->high;
    return ((a->logarithmic ? log(value) : value) - low) / (high - low);
}

static double at_x(const frame *f, double value)
{
    return LEFT + place(&f->x, value) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const frame *f, double value)
{
    return HEIGHT - BOTTOM - place(&f->y, value) * (HEIGHT - TOP - BOTTOM);
}

static void widen(axis *a, double value)
{
    if (isfinite(value)) {
        a->low = value < a->low ? value : a->low;
        a->high = value > a->high ? value : a->high;
    }
}

// 1, 2 or 5 times a power of ten, so that some TICKS of them cover `range`.
static double nice_step(double range)
{
    double step = range / TICKS;
    double power = pow(10.0, floor(log10(step)));
    double lead = step / power;
    return power * (lead <= 1.0 ? 1.0 : lead <= 2.0 ? 2.0 : lead <= 5.0 ? 5.0 : 10.0);
}

// Whole steps at both ends.
static void round_out(axis *a)
{
    if (!(a->high > a->low)) {
        double margin = a->low != 0.0 ? fabs(a->low) * 0.1 : 1.0;
        a->low -= margin;
        a->high += margin;
    }
    double step = nice_step(a->high - a->low);
    a->low = floor(a->low / step) * step;
    a->high = ceil(a->high / step) * step;
}

static void open_svg(FILE *out, const char *title)
{
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" "
            "font-family=\"sans-serif\" font-size=\"12\">\n<title>",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    lw_html_text(out, title);
    fprintf(out, "</title>\n");
}

static void put_text(FILE *out, double x, double y, const char *anchor, const char *more, const char *text)
{
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>", x, y, anchor, more);
    lw_html_text(out, text);
    fprintf(out, "</text>\n");
}

static void put_number(FILE *out, double x, double y, const char *anchor, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.4g", fabs(value) < 1e-12 ? 0.0 : value);
    put_text(out, x, y, anchor, "", text);
}

static void draw_y_axis(FILE *out, const frame *f, const char *label)
{
    double step = nice_step(f->y.high - f->y.low);
    for (int i = 0; i < MOST_TICKS && f->y.low + i * step <= f->y.high + step * 0.01; i++) {
        double value = f->y.low + i * step;
        double y = at_y(f, value);
        fprintf(out, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", LEFT, y, WIDTH - RIGHT,
                y);
        put_number(out, LEFT - 6, y + 4, "end", value);
    }
    fprintf(out, "<g transform=\"translate(16 %d) rotate(-90)\">", (HEIGHT - BOTTOM + TOP) / 2);
    put_text(out, 0, 0, "middle", "", label);
    fprintf(out, "</g>\n");
}

static void draw_x_axis(FILE *out, const frame *f, const char *label)
{
    if (f->x.logarithmic) {
        double factor = f->x.high / f->x.low > 64.0 ? 4.0 : 2.0;
        double value = f->x.low;
        for (int i = 0; i < MOST_TICKS && value <= f->x.high * 1.001; i++, value *= factor) {
            put_number(out, at_x(f, value), HEIGHT - BOTTOM + 16, "middle", value);
        }
    } else {
        double step = nice_step(f->x.high - f->x.low);
        double value = ceil(f->x.low / step) * step;
        for (int i = 0; i < MOST_TICKS && value <= f->x.high + step * 0.01; i++, value += step) {
            put_number(out, at_x(f, value), HEIGHT - BOTTOM + 16, "middle", value);
        }
    }
    fprintf(out, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#333\"/>\n", LEFT, HEIGHT - BOTTOM,
            WIDTH - RIGHT, HEIGHT - BOTTOM);
    put_text(out, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8, "middle", "", label);
}

// Names above the plot, each beside its colour.
static void draw_legend(FILE *out, int64_t count, const char *(*name)(const void *, int64_t), const void *of)
{
    double x = LEFT;
    for (int64_t i = 0; i < count && x < WIDTH - RIGHT; i++) {
        fprintf(out, "<rect x=\"%.1f\" y=\"10\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", x, colours[i % COLOURS]);
        put_text(out, x + 16, 20, "start", "", name(of, i));
        x += 32.0 + 7.0 * (double)strlen(name(of, i));
    }
}

static void draw_interval(FILE *out, const frame *f, double x, double low, double high, const char *colour)
{
    if (isfinite(low) && isfinite(high)) {
        fprintf(out, "<path d=\"M%.1f %.1fV%.1fM%.1f %.1fh8M%.1f %.1fh8\" stroke=\"%s\" fill=\"none\"/>\n", x,
                at_y(f, low), at_y(f, high), x - 4, at_y(f, low), x - 4, at_y(f, high), colour);
    }
}

// --- lines and points

static const char *series_name(const void *plot, int64_t i)
{
    return ((const lw_plot *)plot)->series[i].name;
}

static bool find_frame(const lw_plot *p, frame *f)
{
    f->x = (axis){INFINITY, -INFINITY, p->points};
    f->y = (axis){INFINITY, -INFINITY, false};
    for (int64_t s = 0; s < p->count; s++) {
        const lw_series *one = &p->series[s];
        for (int64_t i = 0; i < one->count; i++) {
            if (isfinite(one->x[i]) && isfinite(one->y[i])) {
                widen(&f->x, one->x[i]);
                widen(&f->y, one->y[i]);
            }
        }
    }
    if (!(f->x.low <= f->x.high)) {
        return false;
    }
    f->x.logarithmic = p->points && f->x.low > 0.0 && f->x.high > f->x.low;
    if (!(f->x.high > f->x.low)) {
        f->x.low -= 1.0;
        f->x.high += 1.0;
    }
    if (p->y_fixed) {
        f->y = (axis){0.0, 1.0, false};
    } else {
        round_out(&f->y);
    }
    return true;
}

static void draw_line(FILE *out, const frame *f, const lw_series *s, const char *colour)
{
    bool drawing = false;
    fprintf(out, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" d=\"M%d %d", colour, LEFT, HEIGHT - BOTTOM);
    for (int64_t i = 0; i < s->count; i++) {
        bool here = isfinite(s->x[i]) && isfinite(s->y[i]);
        if (here) {
            fprintf(out, "%c%.1f %.1f", drawing ? 'L' : 'M', at_x(f, s->x[i]), at_y(f, s->y[i]));
        }
        drawing = here;
    }
    fprintf(out, "\"/>\n");
}

static void draw_points(FILE *out, const frame *f, const lw_series *s, const char *colour)
{
    for (int64_t i = 0; i < s->count; i++) {
        if (isfinite(s->x[i]) && isfinite(s->y[i])) {
            double x = at_x(f, s->x[i]);
            fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", x, at_y(f, s->y[i]), colour);
            if (s->low != NULL && s->high != NULL) {
                draw_interval(out, f, x, s->low[i], s->high[i], colour);
            }
        }
    }
}

bool lw_svg_plot(FILE *out, const lw_plot *p)
{
    frame f;
    if (!find_frame(p, &f)) {
        return false;
    }
    open_svg(out, p->title);
    draw_y_axis(out, &f, p->y_label);
    draw_x_axis(out, &f, p->x_label);
    draw_legend(out, p->count, series_name, p);
    for (int64_t i = 0; i < p->count; i++) {
        const char *colour = colours[i % COLOURS];
        draw_line(out, &f, &p->series[i], colour);
        if (p->points) {
            draw_points(out, &f, &p->series[i], colour);
        }
    }
    fprintf(out, "</svg>\n");
    return true;
}

// --- bars

static const char *bar_name(const void *bars, int64_t i)
{
    return ((const lw_bars *)bars)->names[i];
}

void lw_svg_bars(FILE *out, const lw_bars *b)
{
    const frame f = {.x = {0.0, (double)b->group_count, false}, .y = {0.0, 1.0, false}};
    double group = (double)(WIDTH - LEFT - RIGHT) / (double)b->group_count;
    double width = group * 0.8 / (double)b->bar_count;
    open_svg(out, b->title);
    draw_y_axis(out, &f, b->y_label);
    for (int64_t g = 0; g < b->group_count; g++) {
        for (int64_t i = 0; i < b->bar_count; i++) {
            double y = b->y[g * b->bar_count + i];
            double x = at_x(&f, (double)g) + group * 0.1 + width * (double)i;
            if (!isfinite(y)) {
                continue;
            }
            double top = at_y(&f, y < 0.0 ? 0.0 : y > 1.0 ? 1.0 : y);
            fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", x, top,
                    width * 0.95, HEIGHT - BOTTOM - top, colours[i % COLOURS]);
            draw_interval(out, &f, x + width / 2, b->low[g * b->bar_count + i], b->high[g * b->bar_count + i], "#333");
        }
        put_text(out, at_x(&f, (double)g) + group / 2, HEIGHT - BOTTOM + 16, "middle", "", b->groups[g]);
    }
    fprintf(out, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#333\"/>\n", LEFT, HEIGHT - BOTTOM,
            WIDTH - RIGHT, HEIGHT - BOTTOM);
    draw_legend(out, b->bar_count, bar_name, b);
    fprintf(out, "</svg>\n");
}
