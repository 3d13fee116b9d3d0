// calibration_file.c: writes calibration records to files, and reads files, which anybody may have put there.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/hash.h"
#include "core/version.h"
#include "cost/calibration.h"
#include "io/atomic_file.h"
#include "io/files.h"
#include "io/json.h"
#include "wire/step.h"

enum { MAX_RECORD_BYTES = 65536 };

static const char *phase_key(int phase)
{
    static const char *const keys[] = {
#define LW_PHASE_KEY(phase, key) [phase] = key,
        LW_STEP_PHASES(LW_PHASE_KEY)
#undef LW_PHASE_KEY
    };
    return keys[phase];
}

// The numbers of lw_device_rates and their names, for writing and reading.
#define RATE_FIELDS(X)     \
    X(memory_bytes)        \
    X(runtime_bytes)       \
    X(matrix_flop_per_s)   \
    X(f32_flop_per_s)      \
    X(bytes_per_s)         \
    X(launch_s)            \
    X(node.bytes_per_s)    \
    X(node.latency_s)      \
    X(network.bytes_per_s) \
    X(network.latency_s)   \
    X(cores_per_rank)

static json_t *rates_json(const lw_device_rates *r)
{
    json_t *o = json_object();
    lw_json_put_i64(o, "per_node", r->per_node);
    lw_json_put_i64(o, "cores", r->cores);
    lw_json_put_i64(o, "frozen_type", r->frozen_type);
#define PUT(field) lw_json_put_f64(o, #field, r->field);
    RATE_FIELDS(PUT)
#undef PUT
    return o;
}

static json_t *record_json(const lw_calibration_record *r)
{
    char hash[24];
    json_t *o =
        json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s}", "version", LW_COST_VERSION, "device", r->rates.name, "source",
                  r->source, "date", r->date, "lwmpi", lw_version(), "commit", lw_commit(), "build", lw_build_type());
    json_t *model = json_object();
    json_t *measured = json_object();
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)r->models_hash);
    lw_json_put_text(o, "models", hash);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)r->shape_hash);
    lw_json_put_text(o, "shape", hash);
    lw_json_put_i64(o, "ranks", r->ranks);
    lw_json_put_i64(o, "threads", r->threads);
    lw_json_put_f64(o, "step_flop", r->step_flop);
    lw_json_put_f64(o, "step_s", r->step_s);
    lw_json_put_i64(o, "memory_bytes", (int64_t)r->memory_bytes);
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        lw_json_put_f64(model, phase_key(p), r->model_s[p]);
        lw_json_put_f64(measured, phase_key(p), r->measured_s[p]);
    }
    json_object_set_new(o, "model_s", model);
    json_object_set_new(o, "measured_s", measured);
    json_object_set_new(o, "rates", rates_json(&r->rates));
    return o;
}

lw_status lw_calibration_write(const char *folder, const lw_calibration_record *record, lw_error *err)
{
    lw_calibration_record r = *record;
    char name[64];
    char *path = NULL;
    char *text = NULL;
    lw_status status = LW_OK;
    lw_utc_now(r.date);
    uint64_t key = lw_xxh64(r.rates.name, strlen(r.rates.name), r.shape_hash + (uint64_t)r.threads);
    snprintf(name, sizeof name, "%s-%016llx.json", r.source, (unsigned long long)key);
    json_t *o = record_json(&r);
    status = lw_json_print(o, JSON_INDENT(2), err, &text);
    json_decref(o);
    LW_TRY(status);
    LW_TRY_GOTO(lw_mkdir_p(folder, err));
    LW_TRY_GOTO(lw_path_join(folder, name, err, &path));
    LW_TRY_GOTO(lw_write_file_atomic(path, text, strlen(text), err));
done:
    free(path);
    free(text);
    return status;
}

static lw_status read_rates(const lw_json *at, lw_error *err, lw_device_rates *r)
{
    int64_t type;
    LW_TRY(lw_json_int(at, "per_node", 0, 1 << 20, err, &r->per_node));
    LW_TRY(lw_json_int(at, "cores", 0, 1 << 20, err, &r->cores));
    LW_TRY(lw_json_int(at, "frozen_type", LW_F32, LW_F16, err, &type));
    r->frozen_type = (lw_dtype)type;
#define GET(field) LW_TRY(lw_json_double(at, #field, 0.0, 1e30, err, &r->field));
    RATE_FIELDS(GET)
#undef GET
    if (r->matrix_flop_per_s <= 0.0 || r->f32_flop_per_s <= 0.0 || r->bytes_per_s <= 0.0 ||
        (r->cores > 0 && r->cores_per_rank <= 0.0)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: a rate is 0", at->where);
    }
    return LW_OK;
}

static lw_status read_phases(const lw_json *at, const char *key, lw_error *err, double *out)
{
    const json_t *value = NULL;
    lw_json child;
    LW_TRY(lw_json_child(at, key, err, &value));
    LW_TRY(lw_json_object_at(value, at->where, "", err, &child));
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        LW_TRY(lw_json_double(&child, phase_key(p), 0.0, 1e9, err, &out[p]));
    }
    return LW_OK;
}

static lw_status read_hash(const lw_json *at, const char *key, lw_error *err, uint64_t *out)
{
    const char *text = NULL;
    LW_TRY(lw_json_string(at, key, err, &text));
    *out = strtoull(text, NULL, 16);
    return LW_OK;
}

static lw_status read_text(const lw_json *at, const char *key, lw_error *err, char *out, size_t size)
{
    const char *text = NULL;
    LW_TRY(lw_json_string(at, key, err, &text));
    if (strlen(text) >= size || !lw_is_printable(text)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: \"%s%s\" is too long or holds control characters", at->where,
                       at->parent, key);
    }
    memcpy(out, text, strlen(text) + 1);
    return LW_OK;
}

// Whether the record is of these cost functions and of this build; others cannot be compared.
static lw_status check_version(const lw_json *at, lw_error *err)
{
    int64_t version;
    const char *build = NULL;
    LW_TRY(lw_json_int(at, "version", 0, INT32_MAX, err, &version));
    LW_TRY(lw_json_string(at, "build", err, &build));
    if (version != LW_COST_VERSION || strcmp(build, lw_build_type()) != 0) {
        return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: of another version or build", at->where);
    }
    return LW_OK;
}

static lw_status read_job(const lw_json *at, lw_error *err, lw_calibration_record *r)
{
    LW_TRY(read_text(at, "source", err, r->source, sizeof r->source));
    LW_TRY(read_text(at, "date", err, r->date, sizeof r->date));
    LW_TRY(lw_json_int(at, "ranks", 1, 1 << 24, err, &r->ranks));
    LW_TRY(lw_json_int(at, "threads", 0, 1 << 20, err, &r->threads));
    LW_TRY(read_hash(at, "models", err, &r->models_hash));
    LW_TRY(read_hash(at, "shape", err, &r->shape_hash));
    return lw_json_double(at, "step_flop", 1.0, 1e30, err, &r->step_flop);
}

static lw_status read_record(const lw_json *at, lw_error *err, lw_calibration_record *r)
{
    const json_t *value = NULL;
    lw_json rates;
    int64_t bytes;
    LW_TRY(check_version(at, err));
    LW_TRY(read_job(at, err, r));
    LW_TRY(lw_json_double(at, "step_s", 1e-9, 1e9, err, &r->step_s));
    LW_TRY(lw_json_int(at, "memory_bytes", 0, INT64_MAX, err, &bytes));
    r->memory_bytes = (size_t)bytes;
    LW_TRY(read_phases(at, "model_s", err, r->model_s));
    LW_TRY(read_phases(at, "measured_s", err, r->measured_s));
    LW_TRY(lw_json_child(at, "rates", err, &value));
    LW_TRY(lw_json_object_at(value, at->where, "rates.", err, &rates));
    LW_TRY(read_rates(&rates, err, &r->rates));
    return read_text(at, "device", err, r->rates.name, sizeof r->rates.name);
}

// Adds the record of one file. A damaged file, or one of another build, leaves the list as it is.
static void read_file(const char *folder, const char *name, lw_calibration *c)
{
    lw_error ignored;
    char *path = NULL;
    char *text = NULL;
    size_t bytes = 0;
    json_t *value = NULL;
    lw_json at;
    lw_calibration_record r = {0};
    if (lw_path_join(folder, name, &ignored, &path) == LW_OK &&
        lw_read_own_file(path, MAX_RECORD_BYTES, &ignored, &text, &bytes) == LW_OK &&
        lw_json_parse(path, text, bytes, 0, &ignored, &value) == LW_OK &&
        lw_json_object_at(value, path, "", &ignored, &at) == LW_OK && read_record(&at, &ignored, &r) == LW_OK) {
        snprintf(r.file, sizeof r.file, "%s", name);
        c->list[c->count++] = r;
    }
    json_decref(value);
    free(text);
    free(path);
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const lw_calibration_record *)a)->file, ((const lw_calibration_record *)b)->file);
}

lw_status lw_calibration_read(const char *folder, lw_error *err, lw_calibration *out)
{
    lw_calibration c = {.list = calloc(LW_MAX_CALIBRATIONS, sizeof *c.list)};
    if (c.list == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for calibration records");
    }
    DIR *dir = opendir(folder);
    for (struct dirent *e = NULL; dir != NULL && c.count < LW_MAX_CALIBRATIONS && (e = readdir(dir)) != NULL;) {
        size_t length = strlen(e->d_name);
        if (length > 5 && strcmp(e->d_name + length - 5, ".json") == 0) {
            read_file(folder, e->d_name, &c);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    qsort(c.list, (size_t)c.count, sizeof *c.list,
          compare_files); // so that the choice does not depend on the file system
    *out = c;
    return LW_OK;
}

void lw_calibration_free(lw_calibration *c)
{
    free(c->list);
    *c = (lw_calibration){0};
}
