// write.c: a configuration as a file that reads back to the same, as a hash, and as a list of differences.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config_internal.h"
#include "core/hash.h"

// How paths are written: in full in a file that may be read from anywhere, by their last component in hashes and
// differences, where the directory does not matter.
typedef struct style {
    const char *cwd; // NULL: last component only
} style;

static void print_escaped(FILE *file, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        switch (text[i]) {
        case '"': fputs("\\\"", file); break;
        case '\\': fputs("\\\\", file); break;
        case '\n': fputs("\\n", file); break;
        case '\r': fputs("\\r", file); break;
        case '\t': fputs("\\t", file); break;
        default:
            if (byte < 0x20 || byte == 0x7F) {
                fprintf(file, "\\x%02X", byte);
            } else {
                fputc(text[i], file);
            }
        }
    }
}

static void print_string(FILE *file, const char *text)
{
    fputc('"', file);
    print_escaped(file, text, strlen(text));
    fputc('"', file);
}

// Prints piece by piece, as a path joined in memory could fail, and a printing function has no way to report that.
static void print_path(FILE *file, const char *path, style how)
{
    size_t length = strlen(path);
    size_t start = 0;
    fputc('"', file);
    if (how.cwd == NULL) {
        while (length > 1 && path[length - 1] == '/') {
            length--;
        }
        for (size_t i = 0; i + 1 < length; i++) {
            start = path[i] == '/' ? i + 1 : start;
        }
    } else if (length > 0 && path[0] != '/') {
        while (path[start] == '.' && path[start + 1] == '/') {
            start += 2;
        }
        if (strcmp(how.cwd, "/") != 0) {
            print_escaped(file, how.cwd, strlen(how.cwd));
        }
        fputc('/', file);
    }
    print_escaped(file, path + start, length - start);
    fputc('"', file);
}

void lw_format_double(double value, char *out, size_t size)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, value);
        if (strtod(out, NULL) == value) {
            break;
        }
    }
    size_t used = strlen(out);
    if (strspn(out, "-0123456789") == used && used + 3 <= size) {
        memcpy(out + used, ".0", 3);
    }
}

static void print_integer(FILE *file, int64_t value)
{
    fprintf(file, value > INT32_MAX || value < INT32_MIN ? "%lldL" : "%lld", (long long)value);
}

static void print_value(FILE *file, const lw_config *config, const lw_key *key, style how)
{
    const void *field = lw_key_field_const(config, key);
    switch (key->type) {
    case LW_KEY_INT: print_integer(file, *(const int64_t *)field); break;
    case LW_KEY_AUTO_INT:
        if (*(const int64_t *)field < key->int_min) {
            fputs(*(const int64_t *)field == key->int_min - 1 ? "\"auto\"" : "\"all\"", file);
        } else {
            print_integer(file, *(const int64_t *)field);
        }
        break;
    case LW_KEY_FLOAT: {
        char number[64];
        lw_format_double(*(const double *)field, number, sizeof number);
        fputs(number, file);
        break;
    }
    case LW_KEY_BOOL: fputs(*(const bool *)field ? "true" : "false", file); break;
    case LW_KEY_STRING: print_string(file, *(char *const *)field); break;
    case LW_KEY_PATH: print_path(file, *(char *const *)field, how); break;
    case LW_KEY_CHOICE: {
        unsigned value;
        memcpy(&value, field, sizeof value);
        print_string(file, key->words[value]);
        break;
    }
    }
}

static bool is_set(const lw_config *config, const lw_key *key)
{
    return (key->flags & LW_KEY_UNSET) == 0 || *(const int64_t *)lw_key_field_const(config, key) != 0;
}

static void print_models(FILE *file, const lw_config *config, style how)
{
    fputs("models = (", file);
    for (int64_t i = 0; i < config->model_count; i++) {
        const lw_model_config *model = &config->models[i];
        fprintf(file, "%s\n    { name = \"%s\"; path = ", i == 0 ? "" : ",", model->name);
        print_path(file, model->path, how);
        fprintf(file, "; init = \"%s\"; }", lw_model_init_words[model->init]);
    }
    fputs("\n);\n", file);
}

// Prints the keys that the phases set themselves. Without phases it prints nothing, so that such a configuration has
// the hash that it had before phases existed.
static void print_phases(FILE *file, const lw_config *config, style how)
{
    if (config->phase_count == 0) {
        return;
    }
    fputs("phases = (", file);
    for (int64_t i = 0; i < config->phase_count; i++) {
        const lw_phase_config *phase = &config->phases[i];
        fprintf(file, "%s\n    { name = \"%s\";", i == 0 ? "" : ",", phase->name);
        for (int k = 0; k < lw_key_count(); k++) {
            if (phase->given[k]) {
                fprintf(file, " %s = ", lw_key_phase_name(lw_key_at(k)));
                print_value(file, phase->view, lw_key_at(k), how);
                fputs(";", file);
            }
        }
        fputs(" }", file);
    }
    fputs("\n);\n", file);
}

// A string that grows (open_memstream).
typedef struct text_stream {
    FILE *file;
    char *text;
    size_t bytes;
} text_stream;

static lw_status stream_open(text_stream *stream, lw_error *err)
{
    stream->text = NULL;
    stream->file = open_memstream(&stream->text, &stream->bytes);
    return stream->file == NULL ? lw_fail(err, LW_ERR_MEMORY, "no memory to write the configuration") : LW_OK;
}

static lw_status stream_close(text_stream *stream, lw_error *err)
{
    bool failed = ferror(stream->file) != 0;
    failed = fclose(stream->file) != 0 || failed;
    if (failed || stream->text == NULL) {
        free(stream->text);
        stream->text = NULL;
        return lw_fail(err, LW_ERR_MEMORY, "no memory to write the configuration");
    }
    return LW_OK;
}

static void print_all(FILE *file, const lw_config *config, style how)
{
    char group[64] = "";
    print_models(file, config, how);
    print_phases(file, config, how);
    for (int i = 0; i < lw_key_count(); i++) {
        const lw_key *key = lw_key_at(i);
        const char *dot = strchr(key->path, '.');
        size_t length = dot == NULL ? 0 : (size_t)(dot - key->path);
        if (strncmp(group, key->path, length) != 0 || group[length] != '\0') {
            fprintf(file, "%s%.*s: {\n", group[0] == '\0' ? "" : "};\n", (int)length, key->path);
            snprintf(group, sizeof group, "%.*s", (int)length, key->path);
        }
        if (is_set(config, key)) {
            fprintf(file, "%s%s = ", dot == NULL ? "" : "    ", dot == NULL ? key->path : dot + 1);
            print_value(file, config, key, how);
            fputs(";\n", file);
        }
    }
    fputs("};\n", file);
}

lw_status lw_config_text(const lw_config *config, lw_error *err, char **out)
{
    char *cwd = getcwd(NULL, 0);
    if (cwd == NULL) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "the working directory cannot be named");
    }
    text_stream stream;
    lw_status status = stream_open(&stream, err);
    if (status == LW_OK) {
        print_all(stream.file, config, (style){.cwd = cwd});
        status = stream_close(&stream, err);
    }
    free(cwd);
    if (status == LW_OK) {
        *out = stream.text;
    }
    return status;
}

lw_status lw_config_write(const lw_config *config, FILE *file, lw_error *err)
{
    uint64_t hash;
    char *text;
    LW_TRY(lw_config_hash(config, err, &hash));
    LW_TRY(lw_config_text(config, err, &text));
    bool failed =
        fprintf(file, "# lwmpi: resolved configuration, hash %016llx\n%s", (unsigned long long)hash, text) < 0;
    failed = fflush(file) != 0 || failed;
    free(text);
    return failed ? lw_fail_errno(err, LW_ERR_IO, errno, "the configuration cannot be written") : LW_OK;
}

// Hashes what `stream` holds already and the keys whose flags, masked by `among`, are `wanted`.
static lw_status hash_keys(const lw_config *config, unsigned among, unsigned wanted, text_stream *stream, lw_error *err,
                           uint64_t *out)
{
    for (int i = 0; i < lw_key_count(); i++) {
        const lw_key *key = lw_key_at(i);
        if ((key->flags & among) == wanted && is_set(config, key)) {
            fprintf(stream->file, "%s = ", key->path);
            print_value(stream->file, config, key, (style){.cwd = NULL});
            fputc('\n', stream->file);
        }
    }
    LW_TRY(stream_close(stream, err));
    *out = lw_xxh64(stream->text, stream->bytes, 0);
    free(stream->text);
    return LW_OK;
}

lw_status lw_config_hash(const lw_config *config, lw_error *err, uint64_t *out)
{
    text_stream stream;
    style how = {.cwd = NULL};
    LW_TRY(stream_open(&stream, err));
    print_models(stream.file, config, how);
    print_phases(stream.file, config, how);
    return hash_keys(config, LW_KEY_FREE, 0, &stream, err, out);
}

lw_status lw_config_wire_hash(const lw_config *config, lw_error *err, uint64_t *out)
{
    text_stream stream;
    LW_TRY(stream_open(&stream, err));
    return hash_keys(config, LW_KEY_WIRE, LW_KEY_WIRE, &stream, err, out);
}

// The value of one key (NULL: the models) as text. malloc'd.
static lw_status value_text(const lw_config *config, const lw_key *key, lw_error *err, char **out)
{
    text_stream stream;
    LW_TRY(stream_open(&stream, err));
    if (key == NULL) {
        for (int64_t i = 0; i < config->model_count; i++) {
            const lw_model_config *model = &config->models[i];
            fprintf(stream.file, "%s%s = ", i == 0 ? "" : ", ", model->name);
            print_path(stream.file, model->path, (style){.cwd = NULL});
            fputs(model->init == LW_MODEL_INIT_RANDOM ? " (random)" : "", stream.file);
        }
    } else if (is_set(config, key)) {
        print_value(stream.file, config, key, (style){.cwd = NULL});
    } else {
        fputs("not set", stream.file);
    }
    LW_TRY(stream_close(&stream, err));
    *out = stream.text;
    return LW_OK;
}

static lw_status print_difference(FILE *file, const char *name, const lw_key *key, const lw_config *before,
                                  const lw_config *now, lw_error *err)
{
    char *old_value = NULL;
    char *new_value = NULL;
    lw_status status = value_text(before, key, err, &old_value);
    if (status == LW_OK) {
        status = value_text(now, key, err, &new_value);
    }
    if (status == LW_OK && strcmp(old_value, new_value) != 0) {
        fprintf(file, "  %s: %s before, %s now\n", name, old_value, new_value);
    }
    free(old_value);
    free(new_value);
    return status;
}

// Whether the key only makes the run longer than before, which is always allowed.
static bool is_longer(const lw_config *before, const lw_config *now, const lw_key *key)
{
    if ((key->flags & LW_KEY_LONGER) == 0) {
        return false;
    }
    int64_t was = *(const int64_t *)lw_key_field_const(before, key);
    int64_t is = *(const int64_t *)lw_key_field_const(now, key);
    return is == 0 || (was != 0 && is >= was);
}

// Compares the lists of phases: their names in order.
static lw_status print_phase_names(FILE *file, const lw_config *before, const lw_config *now, lw_error *err, bool *same)
{
    const lw_config *both[] = {before, now};
    char *names[2] = {NULL, NULL};
    lw_status status = LW_OK;
    for (int k = 0; k < 2 && status == LW_OK; k++) {
        text_stream stream;
        status = stream_open(&stream, err);
        if (status == LW_OK) {
            fputs(both[k]->phase_count == 0 ? "none" : "", stream.file);
            for (int64_t i = 0; i < both[k]->phase_count; i++) {
                fprintf(stream.file, "%s%s", i == 0 ? "" : ", ", both[k]->phases[i].name);
            }
            status = stream_close(&stream, err);
            names[k] = stream.text;
        }
    }
    *same = status == LW_OK && strcmp(names[0], names[1]) == 0;
    if (status == LW_OK && !*same) {
        fprintf(file, "  phases: %s before, %s now\n", names[0], names[1]);
    }
    free(names[0]);
    free(names[1]);
    return status;
}

// Compares the resolved values of each phase, whether it sets a key itself or has the common value. Only the last phase
// may be made longer, as the phases behind any other one would move.
static lw_status print_phase_differences(FILE *file, const lw_config *before, const lw_config *now, lw_error *err)
{
    for (int64_t i = 0; i < now->phase_count; i++) {
        const lw_config *was = before->phases[i].view;
        const lw_config *is = now->phases[i].view;
        bool last = i == now->phase_count - 1;
        for (int k = 0; k < lw_key_count(); k++) {
            const lw_key *key = lw_key_at(k);
            char name[160];
            if ((key->flags & LW_KEY_PHASE) != 0 && !(last && is_longer(was, is, key))) {
                snprintf(name, sizeof name, "phases.%s.%s", now->phases[i].name, lw_key_phase_name(key));
                LW_TRY(print_difference(file, name, key, was, is, err));
            }
        }
    }
    return LW_OK;
}

static lw_status print_differences(FILE *file, const lw_config *before, const lw_config *now, lw_error *err)
{
    bool same_phases = false;
    LW_TRY(print_difference(file, "models", NULL, before, now, err));
    LW_TRY(print_phase_names(file, before, now, err, &same_phases));
    bool phases = same_phases && now->phase_count > 0;
    for (int i = 0; i < lw_key_count(); i++) {
        const lw_key *key = lw_key_at(i);
        bool end = strcmp(key->path, "train.max_steps") == 0; // of the run, in phases too
        bool in_phases = phases && (key->flags & LW_KEY_PHASE) != 0 && !end;
        if ((key->flags & LW_KEY_FREE) == 0 && !in_phases && !is_longer(before, now, key)) {
            LW_TRY(print_difference(file, key->path, key, before, now, err));
        }
    }
    return phases ? print_phase_differences(file, before, now, err) : LW_OK;
}

static lw_status print_wire_differences(FILE *file, const lw_config *before, const lw_config *now, lw_error *err)
{
    for (int i = 0; i < lw_key_count(); i++) {
        const lw_key *key = lw_key_at(i);
        if ((key->flags & LW_KEY_WIRE) != 0) {
            LW_TRY(print_difference(file, key->path, key, before, now, err));
        }
    }
    return LW_OK;
}

static lw_status list_differences(lw_status (*print)(FILE *, const lw_config *, const lw_config *, lw_error *),
                                  const lw_config *before, const lw_config *now, lw_error *err, char **out)
{
    text_stream stream;
    LW_TRY(stream_open(&stream, err));
    lw_status status = print(stream.file, before, now, err);
    lw_error ignored;
    lw_status closed = stream_close(&stream, status == LW_OK ? err : &ignored);
    if (status == LW_OK) {
        status = closed;
    } else if (closed == LW_OK) {
        free(stream.text);
    }
    if (status == LW_OK) {
        *out = stream.text;
    }
    return status;
}

lw_status lw_config_differences(const lw_config *before, const lw_config *now, lw_error *err, char **out)
{
    return list_differences(print_differences, before, now, err, out);
}

lw_status lw_config_wire_differences(const lw_config *before, const lw_config *now, lw_error *err, char **out)
{
    return list_differences(print_wire_differences, before, now, err, out);
}
