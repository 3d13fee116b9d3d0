// read.c: the files of a run directory, as far as they are there.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/files.h"
#include "io/json.h"
#include "report/report.h"
#include "run/checkpoint.h"
#include "run/checkpoint_store.h"

enum { MAX_JSON_BYTES = 64 << 20, MAX_CONFIG_BYTES = 1 << 20, MAX_ROWS = 10000000 };

void lw_report_free(lw_report_input *in)
{
    free(in->config);
    json_decref(in->summary);
    json_decref(in->eval);
    json_decref(in->metrics);
    json_decref(in->checkpoints);
    *in = (lw_report_input){0};
}

static lw_status read_json(const char *dir, const char *name, lw_error *err, json_t **out)
{
    char *path = NULL;
    LW_TRY(lw_path_join(dir, name, err, &path));
    lw_status status = lw_path_is_file(path) ? lw_json_read_file(path, MAX_JSON_BYTES, 0, err, out) : LW_OK;
    free(path);
    return status;
}

static lw_status read_config(const char *dir, lw_error *err, char **out)
{
    char *path = NULL;
    size_t bytes = 0;
    LW_TRY(lw_path_join(dir, "config.cfg", err, &path));
    lw_status status = lw_path_is_file(path) ? lw_read_file(path, MAX_CONFIG_BYTES, err, out, &bytes) : LW_OK;
    free(path);
    return status;
}

static lw_status read_rows(FILE *file, const char *path, lw_error *err, lw_report_input *in)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t got = 0;
    lw_status status = LW_OK;
    while (status == LW_OK && (errno = 0, got = getline(&line, &capacity, file)) >= 0) {
        json_t *row = json_loadb(line, (size_t)got, 0, NULL);
        if (json_is_object(row) && json_array_size(in->metrics) < MAX_ROWS) {
            status =
                json_array_append(in->metrics, row) == 0 ? LW_OK : lw_fail(err, LW_ERR_MEMORY, "%s: too long", path);
        } else if (line[got - 1] == '\n') {
            in->bad_rows++;
        }
        json_decref(row);
    }
    if (status == LW_OK && !feof(file)) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot read", path);
    }
    free(line);
    return status;
}

static lw_status read_metrics(lw_report_input *in, lw_error *err)
{
    char *path = NULL;
    lw_status status = LW_OK;
    LW_TRY(lw_path_join(in->dir, "metrics.jsonl", err, &path));
    FILE *file = lw_path_is_file(path) ? fopen(path, "r") : NULL;
    if (lw_path_is_file(path) && file == NULL) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot open", path);
    }
    if (file != NULL) {
        in->metrics = json_array();
        status = read_rows(file, path, err, in);
        fclose(file);
    }
    free(path);
    return status;
}

static json_t *checkpoint_row(const char *checkpoints, const char *name)
{
    char *path = NULL;
    lw_error ignored;
    lw_checkpoint_info info;
    json_t *row = json_pack("{s:s}", "name", name);
    if (lw_path_join(checkpoints, name, &ignored, &path) == LW_OK &&
        lw_checkpoint_describe(path, &ignored, &info) == LW_OK) {
        lw_json_put_i64(row, "samples", info.samples);
        lw_json_put_text(row, "created", info.created);
        lw_json_put_i64(row, "bytes", info.bytes);
        lw_json_put_f64(row, "eval_nll", info.eval_nll);
    }
    free(path);
    return row;
}

static lw_status read_checkpoints(lw_report_input *in, lw_error *err)
{
    char *path = NULL;
    lw_checkpoint_entry *entries = NULL;
    int64_t count = 0;
    LW_TRY(lw_path_join(in->dir, "checkpoints", err, &path));
    lw_status status = lw_checkpoint_list(path, err, &entries, &count);
    if (status == LW_OK && count > 0) {
        in->checkpoints = json_array();
    }
    for (int64_t i = count - 1; status == LW_OK && i >= 0; i--) { // oldest first
        json_array_append_new(in->checkpoints, checkpoint_row(path, entries[i].name));
    }
    free(entries);
    free(path);
    return status;
}

lw_status lw_report_read(const char *dir, lw_error *err, lw_report_input *out)
{
    lw_report_input in = {.dir = dir};
    lw_status status = LW_OK;
    if (!lw_path_is_dir(dir)) {
        return lw_fail(err, LW_ERR_CONFIG, "%s is no directory: name a run directory such as runs/tiny", dir);
    }
    LW_TRY_GOTO(read_config(dir, err, &in.config));
    LW_TRY_GOTO(read_json(dir, "summary.json", err, &in.summary));
    LW_TRY_GOTO(read_json(dir, "eval.json", err, &in.eval));
    LW_TRY_GOTO(read_metrics(&in, err));
    LW_TRY_GOTO(read_checkpoints(&in, err));
    if (in.config == NULL && in.summary == NULL && in.eval == NULL && in.metrics == NULL && in.checkpoints == NULL) {
        status = lw_fail(err, LW_ERR_CONFIG,
                         "%s is no run directory: it has no config.cfg, metrics.jsonl or summary.json", dir);
    }
done:
    if (status != LW_OK) {
        lw_report_free(&in);
        return status;
    }
    *out = in;
    return LW_OK;
}
