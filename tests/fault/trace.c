// trace.c: reads the calls that the injected library has recorded.
#include "trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const class_names[] = {
#define NAME(name) #name,
    LW_INJECT_CLASSES(NAME)
#undef NAME
};

const char *trace_class_name(lw_inject_class call)
{
    return class_names[call];
}

static bool parse_line(const char *line, traced_call *out)
{
    char name[32];
    unsigned int site = 0;
    *out = (traced_call){.call = LW_CALL_CLASSES};
    if (sscanf(line, "%31s %ld %x %159[^\n]", name, &out->n, &site, out->path) < 3) {
        return false;
    }
    out->site = site;
    for (int c = 0; c < LW_CALL_CLASSES; c++) {
        if (strcmp(name, class_names[c]) == 0) {
            out->call = (lw_inject_class)c;
        }
    }
    return out->call < LW_CALL_CLASSES;
}

static int by_site(const void *a, const void *b)
{
    const traced_call *x = *(traced_call *const *)a;
    const traced_call *y = *(traced_call *const *)b;
    if (x->call != y->call) {
        return (int)x->call - (int)y->call;
    }
    if (x->site != y->site) {
        return x->site < y->site ? -1 : 1;
    }
    return x->n < y->n ? -1 : 1;
}

static bool same_site(const traced_call *a, const traced_call *b)
{
    return a->call == b->call && a->site == b->site;
}

static bool mark_sites(trace *t)
{
    traced_call **order = calloc((size_t)t->count, sizeof *order);
    if (order == NULL) {
        return false;
    }
    for (long i = 0; i < t->count; i++) {
        order[i] = &t->calls[i];
    }
    qsort(order, (size_t)t->count, sizeof *order, by_site);
    long begin = 0; // of the site
    for (long i = 0; i < t->count; i++) {
        order[i]->first = i == 0 || !same_site(order[i - 1], order[i]);
        order[i]->last = i + 1 == t->count || !same_site(order[i], order[i + 1]);
        begin = order[i]->first ? i : begin;
        if (order[i]->last) {
            order[begin + (i - begin) / 2]->middle = true;
        }
        t->sites[order[i]->call] += order[i]->first;
    }
    free(order);
    return true;
}

bool trace_read(const char *notes, int rank, trace *out)
{
    char path[400];
    char line[512];
    long capacity = 0;
    *out = (trace){.count = 0};
    snprintf(path, sizeof path, "%s/trace.%d", notes, rank);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        if (out->count == capacity) {
            capacity = capacity > 0 ? 2 * capacity : 1024;
            traced_call *grown = realloc(out->calls, (size_t)capacity * sizeof *grown);
            if (grown == NULL) {
                break;
            }
            out->calls = grown;
        }
        if (parse_line(line, &out->calls[out->count])) {
            out->per_class[out->calls[out->count].call]++;
            out->count++;
        }
    }
    fclose(file);
    unlink(path);
    if (out->count == 0 || !mark_sites(out)) {
        trace_free(out);
        return false;
    }
    return true;
}

bool trace_has_site(const trace *t, const traced_call *c)
{
    for (long i = 0; i < t->count; i++) {
        if (t->calls[i].first && same_site(&t->calls[i], c)) {
            return true;
        }
    }
    return false;
}

void trace_free(trace *t)
{
    free(t->calls);
    *t = (trace){.count = 0};
}
