// cmd_checkpoint.c: `lwmpi checkpoint`: lists the checkpoints of a run and says whether they are whole. No MPI.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "core/numbers.h"
#include "io/files.h"
#include "io/json.h"
#include "run/checkpoint.h"
#include "run/checkpoint_part.h"
#include "run/checkpoint_store.h"
#include "run/run_dir.h"

typedef struct row {
    char name[256]; // for people: "step-000120", or the path of a single checkpoint
    char *path;
    bool known; // the manifest could be read
    lw_checkpoint_info info;
    bool ok;
    char problem[sizeof(lw_error)];
    bool latest, best;
} row;

typedef struct list {
    const char *dir; // as given
    row *rows;
    int64_t count, damaged;
    char notes[2][160]; // about the marks
} list;

static void free_list(list *l)
{
    for (int64_t i = 0; i < l->count; i++) {
        free(l->rows[i].path);
    }
    free(l->rows);
}

// --- reading

static void look_at(row *r, int64_t step)
{
    lw_error err = {{0}};
    r->known = lw_checkpoint_describe(r->path, &err, &r->info) == LW_OK;
    r->ok = lw_checkpoint_verify(r->path, &err, &r->info) == LW_OK;
    if (r->ok && step >= 0 && r->info.step != step) {
        r->ok = false;
        lw_fail(&err, LW_ERR_FORMAT, "its manifest is of step %lld", (long long)r->info.step);
    }
    snprintf(r->problem, sizeof r->problem, "%s", r->ok ? "" : err.text);
}

static lw_status read_one(const char *dir, lw_error *err, list *out)
{
    out->rows = calloc(1, sizeof *out->rows);
    if (out->rows == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a list of checkpoints");
    }
    row *r = &out->rows[0];
    LW_TRY(lw_path_join("", dir, err, &r->path)); // a copy
    snprintf(r->name, sizeof r->name, "%s", dir);
    out->count = 1;
    look_at(r, -1);
    out->damaged = !r->ok;
    return LW_OK;
}

static lw_status read_entries(const char *checkpoints, const lw_checkpoint_entry *entries, int64_t count, lw_error *err,
                              list *out)
{
    out->rows = calloc((size_t)count + 1, sizeof *out->rows);
    if (out->rows == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a list of checkpoints");
    }
    for (int64_t i = count - 1; i >= 0; i--) { // oldest first
        row *r = &out->rows[out->count];
        LW_TRY(lw_path_join(checkpoints, entries[i].name, err, &r->path));
        look_at(r, entries[i].step);
        if (!r->ok && !lw_path_is_dir(r->path) && !lw_path_is_file(r->path)) {
            free(r->path); // a running job has just removed it
            *r = (row){.path = NULL};
            continue;
        }
        snprintf(r->name, sizeof r->name, "%s", entries[i].name);
        out->damaged += !r->ok;
        out->count++;
    }
    return LW_OK;
}

// The row that a mark names; NULL: none. A mark that names a missing checkpoint deserves a note, but does not make any
// checkpoint damaged.
static row *read_mark(const list *l, const char *mark, char *note, size_t note_size)
{
    char name[40];
    lw_checkpoint_read_mark(l->dir, mark, name);
    for (int64_t i = 0; i < l->count; i++) {
        if (strcmp(l->rows[i].name, name) == 0) {
            return &l->rows[i];
        }
    }
    char *path = NULL;
    lw_error ignored;
    if (lw_path_join(l->dir, mark, &ignored, &path) == LW_OK && lw_path_is_file(path)) {
        snprintf(note, note_size, "%s names %s", mark, name[0] != '\0' ? name : "no checkpoint");
        size_t used = strlen(note);
        snprintf(note + used, note_size - used, "%s", name[0] != '\0' ? ", which is not there" : "");
    }
    free(path);
    return NULL;
}

static lw_status read_run(const char *dir, const char *checkpoints, lw_error *err, list *out)
{
    lw_checkpoint_entry *entries = NULL;
    int64_t count = 0;
    LW_TRY(lw_checkpoint_list(checkpoints, err, &entries, &count));
    lw_status status = read_entries(checkpoints, entries, count, err, out);
    free(entries);
    LW_TRY(status);
    out->dir = dir;
    row *latest = read_mark(out, "latest", out->notes[0], sizeof out->notes[0]);
    row *best = read_mark(out, "best", out->notes[1], sizeof out->notes[1]);
    if (latest != NULL) {
        latest->latest = true;
    }
    if (best != NULL) {
        best->best = true;
    }
    return LW_OK;
}

static lw_status read_list(const char *dir, lw_error *err, list *out)
{
    char *manifest = NULL;
    char *checkpoints = NULL;
    lw_status status = lw_path_join(dir, LW_CHECKPOINT_MANIFEST, err, &manifest);
    if (status == LW_OK) {
        status = lw_path_join(dir, "checkpoints", err, &checkpoints);
    }
    if (status == LW_OK && lw_path_is_dir(checkpoints)) {
        status = read_run(dir, checkpoints, err, out);
    } else if (status == LW_OK && lw_path_is_file(manifest)) {
        status = read_one(dir, err, out);
    } else if (status == LW_OK) {
        status = lw_fail(err, LW_ERR_CONFIG,
                         "%s is neither a run directory (no checkpoints/) nor a checkpoint (no " LW_CHECKPOINT_MANIFEST
                         "): name a directory such as runs/tiny",
                         dir);
    }
    free(manifest);
    free(checkpoints);
    return status;
}

// --- printing

static void print_row(const row *r)
{
    char marks[16];
    char problem[sizeof r->problem];
    snprintf(marks, sizeof marks, "%s%s%s", r->latest ? "latest" : "", r->latest && r->best ? " " : "",
             r->best ? "best" : "");
    lw_printable(r->problem, problem, sizeof problem);
    if (r->known) {
        char nll[32] = "-";
        if (isfinite(r->info.eval_nll)) {
            snprintf(nll, sizeof nll, "%.4f", r->info.eval_nll);
        }
        printf("%-16s %10lld %12lld %6lld  %-20.20s %9.1f %9s  %-11s  ", r->name, (long long)r->info.step,
               (long long)r->info.samples, (long long)r->info.epoch, r->info.created, (double)r->info.bytes / LW_MIB,
               nll, marks);
    } else {
        printf("%-16s %10s %12s %6s  %-20s %9s %9s  %-11s  ", r->name, "?", "?", "?", "?", "?", "?", marks);
    }
    printf("%s%s\n", r->ok ? "ok" : "DAMAGED: ", r->ok ? "" : problem);
}

static void print_list(const list *l)
{
    if (l->count == 0) {
        printf("%s: no checkpoint yet\n", l->dir);
    } else {
        printf("%-16s %10s %12s %6s  %-20s %9s %9s  %-11s  %s\n", "checkpoint", "step", "samples", "epoch", "written",
               "MiB", "eval_nll", "marks", "state");
    }
    for (int64_t i = 0; i < l->count; i++) {
        print_row(&l->rows[i]);
    }
    for (size_t i = 0; i < sizeof l->notes / sizeof l->notes[0]; i++) {
        if (l->notes[i][0] != '\0') {
            printf("note: %s\n", l->notes[i]);
        }
    }
}

static json_t *row_json(const row *r)
{
    json_t *o = json_object();
    char problem[sizeof r->problem];
    lw_json_put_text(o, "name", r->name);
    lw_json_put_text(o, "path", r->path);
    json_object_set_new(o, "ok", json_boolean(r->ok));
    json_object_set_new(o, "problem",
                        r->ok ? json_null() : json_string(lw_printable(r->problem, problem, sizeof problem)));
    json_object_set_new(o, "latest", json_boolean(r->latest));
    json_object_set_new(o, "best", json_boolean(r->best));
    if (r->known) {
        lw_json_put_i64(o, "step", r->info.step);
        lw_json_put_i64(o, "samples", r->info.samples);
        lw_json_put_i64(o, "epoch", r->info.epoch);
        lw_json_put_text(o, "created", r->info.created);
        lw_json_put_i64(o, "bytes", r->info.bytes);
        lw_json_put_f64(o, "eval_nll", r->info.eval_nll);
        lw_json_put_text(o, "lwmpi", r->info.lwmpi_version);
    }
    return o;
}

static lw_status print_json(const list *l, lw_error *err)
{
    json_t *rows = json_array();
    for (int64_t i = 0; i < l->count; i++) {
        json_array_append_new(rows, row_json(&l->rows[i]));
    }
    json_t *o = json_pack("{s:s, s:I, s:o}", "dir", l->dir, "damaged", (json_int_t)l->damaged, "checkpoints", rows);
    bool written = o != NULL && json_dumpf(o, stdout, JSON_INDENT(2)) == 0;
    json_decref(o);
    printf("\n");
    return written ? LW_OK : lw_fail(err, LW_ERR_IO, "the list cannot be written");
}

static lw_status export_to(const char *dir, const char *file, lw_error *err)
{
    char *path = NULL;
    LW_TRY(lw_checkpoint_resolve(dir, lw_print_warning, NULL, err, &path));
    lw_status status = lw_checkpoint_export(path, file, err);
    free(path);
    return status;
}

typedef struct arguments {
    const char *export;
    bool json;
} arguments;

static lw_status run(const lw_command *self, int argc, char **argv, lw_error *err)
{
    arguments a = {0};
    int count;
    LW_TRY(lw_options_parse(self, argc, argv, err, &a, &count));
    if (count != 1) {
        return lw_fail(err, LW_ERR_USAGE, "lwmpi checkpoint wants one directory: a run or a checkpoint");
    }
    if (a.export != NULL) {
        return export_to(argv[1], a.export, err);
    }
    list l = {.dir = argv[1]};
    lw_status status = read_list(argv[1], err, &l);
    if (status == LW_OK && a.json) {
        status = print_json(&l, err);
    } else if (status == LW_OK) {
        print_list(&l);
    }
    if (status == LW_OK && l.damaged > 0) {
        status =
            lw_fail(err, LW_ERR_FORMAT, "%lld of %lld checkpoints in %s %s damaged; the next start passes over them",
                    (long long)l.damaged, (long long)l.count, argv[1], l.damaged == 1 ? "is" : "are");
    }
    free_list(&l);
    return status;
}

const lw_command lw_command_checkpoint = {
    .name = "checkpoint",
    .summary = "list and verify the checkpoints of a run",
    .usage = "checkpoint DIR [--json] [--export FILE]",
    .text = "Reads every checkpoint of the run directory DIR, or DIR itself where it is a checkpoint, and compares "
            "sizes and hashes of its files with its manifest. A line each: step, samples seen, epoch, when it was "
            "written, size, held-out loss of an answer token where it was measured at that step, and whether it is "
            "whole or what is wrong. `latest` and `best` mark those that the files of that name in the run directory "
            "name. Nothing is changed; a job may be running there.",
    .options =
        {{"json", NULL, "the list as JSON, the only thing on stdout", LW_OPTION_INTO(arguments, json)},
         {"export", "FILE",
          "writes the trained parameters of the checkpoint DIR, or of the newest one of the run that is whole, as a "
          "safetensors file for other programs, and lists nothing",
          LW_OPTION_INTO(arguments, export)}},
    .exits = {{"0", "all of them are whole"}, {"1", "one is damaged, or failed"}},
    .examples = {{"lwmpi checkpoint runs/tiny", ""},
                 {"lwmpi checkpoint runs/tiny/best --export trainables.safetensors", "encoder and adapters alone"}},
    .run = run,
};
