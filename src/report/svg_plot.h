// svg_plot.h: plots as SVG elements that stand in an HTML page: lines over steps, points with intervals, bars. Text
// that goes in is escaped, numbers that are not finite are left out. Local.
#ifndef LW_SVG_PLOT_H
#define LW_SVG_PLOT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

// Text for HTML or XML, also inside quotes: markup escaped, what XML forbids made visible as lw_printable does;
// newlines stay. Nothing for NULL.
void lw_html_text(FILE *out, const char *text);

typedef struct lw_series {
    const char *name;
    const double *x, *y;      // (count), in order of x; NaN in y: a gap
    const double *low, *high; // (count) of intervals; NULL: none
    int64_t count;
} lw_series;

typedef struct lw_plot {
    const char *title, *x_label, *y_label;
    bool points;  // a mark at each point, and x in the order of magnitude (logarithmic) where that fits
    bool y_fixed; // y from 0 to 1; else from the data
    const lw_series *series;
    int64_t count;
} lw_plot;

// True when something is there to be drawn.
bool lw_svg_plot(FILE *out, const lw_plot *plot);

typedef struct lw_bars {
    const char *title, *y_label;
    const char *const *groups; // (group_count) under the axis
    const char *const *names;  // (bar_count) of the bars in each group
    int64_t group_count, bar_count;
    const double *y, *low, *high; // (group_count, bar_count), 0 .. 1; NaN: none
} lw_bars;

void lw_svg_bars(FILE *out, const lw_bars *bars);

#endif
