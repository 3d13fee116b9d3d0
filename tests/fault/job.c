// job.c: makes the inputs of the small job, starts it and compares its results.
#include "job.h"

#include <dirent.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/files.h"
#include "io/safetensors.h"
#include "run/checkpoint.h"

static int failures = 0;

// --- folders

__attribute__((format(printf, 1, 2))) static void shell(const char *format, ...)
{
    char command[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    if (system(command) != 0) {
        fprintf(stderr, "this failed: %s\n", command);
        exit(1);
    }
}

void job_make(job *j)
{
    const char *source = launch_need("LWMPI_SOURCE_DIR");
    // In memory where that is possible: no kill of a process loses what was written, and syncing a disk takes longer
    // than the runs.
    const char *chosen = getenv("LWMPI_FAULT_DIR");
    const char *folder = chosen != NULL ? chosen : access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
    char path[200];
    char real[PATH_MAX];
    snprintf(path, sizeof path, "%s/lw-fault-XXXXXX", folder);
    if (mkdtemp(path) == NULL || realpath(path, real) == NULL ||
        snprintf(j->root, sizeof j->root, "%s", real) >= (int)sizeof j->root) {
        perror(path);
        exit(1);
    }
    snprintf(j->run, sizeof j->run, "%s/run", j->root);
    snprintf(j->notes, sizeof j->notes, "%s/notes", j->root);
    // Beside the folder, for what is not to fail: what the program says, and the files of the MPI library, which the
    // ranks that are killed leave behind.
    char aside[320];
    snprintf(aside, sizeof aside, "%s.aside", j->root);
    snprintf(j->output, sizeof j->output, "%s.aside/output", j->root);
    shell("mkdir '%s'", aside);
    setenv("OMPI_MCA_btl_vader_backing_directory", aside, 1);
    setenv("OMPI_MCA_orte_tmpdir_base", aside, 1);
    shell("mkdir '%s/notes' '%s/tiny' && cp '%s/configs/tiny.cfg' '%s' && cp -r '%s'/configs/tiny/llama "
          "'%s'/configs/tiny/qwen '%s/tiny'",
          j->root, j->root, source, j->root, source, source, j->root);
    shell("head -n 80 '%s/configs/tiny/train.jsonl' >'%s/tiny/train.jsonl' && "
          "head -n 60 '%s/configs/tiny/eval.jsonl' >'%s/tiny/eval.jsonl'",
          source, j->root, source, j->root);
    char calibration[320]; // its files are then below the root, and fail like the others
    snprintf(calibration, sizeof calibration, "%s/calibration", j->root);
    setenv("LWMPI_CALIBRATION", calibration, 1);
}

void job_remove(job *j)
{
    if (getenv("LWMPI_FAULT_KEEP") != NULL) {
        printf("kept: %s\n", j->root);
        return;
    }
    shell("rm -rf '%s' '%s.aside'", j->root, j->root);
}

void job_copy(const job *j, const char *from, const char *to)
{
    shell("rm -rf '%s/%s' && cp -r '%s/%s' '%s/%s'", j->root, to, j->root, from, j->root, to);
}

void job_clear(const job *j, const char *name)
{
    shell("rm -rf '%s/%s'", j->root, name);
}

void job_clear_notes(job *j)
{
    shell("rm -f '%s'/*", j->notes);
}

// --- running it

static const char *const fixed_words[] = {
    "device=cpu",       "threads=1",        "batch.global=7",   "wire.latents=8",    "wire.d_z=32",
    "encoder.layers=1", "encoder.width=32", "encoder.heads=4",  "encoder.ffn=64",    "pooler.kind=queries",
    "pooler.layers=1",  "pooler.heads=4",   "pooler.ffn=64",    "adapter.hidden=32", "loss.first_weight=1.0",
    "train.lr=3e-3",    "train.beta2=0.98", "train.warmup=0.2", "eval.batch=3",      "eval.max_new_tokens=4",
    "log.every_steps=1"};

enum { FIXED_WORDS = sizeof fixed_words / sizeof fixed_words[0] };

static bool start(job *j, int ranks, const char *inject, bool trace, launched *out)
{
    const char *words[FIXED_WORDS + JOB_MAX_EXTRA + 4];
    char config[320];
    char run_dir[400];
    int n = 0;
    snprintf(config, sizeof config, "%s/tiny.cfg", j->root);
    snprintf(run_dir, sizeof run_dir, "run.dir=%s", j->run);
    words[n++] = "train";
    words[n++] = config;
    words[n++] = run_dir;
    for (int i = 0; i < FIXED_WORDS; i++) {
        words[n++] = fixed_words[i];
    }
    for (const char *const *e = j->extra; *e != NULL; e++) {
        words[n++] = *e;
    }
    words[n] = NULL;
    launch_plan plan = {.ranks = ranks,
                        .words = words,
                        .wrapper = j->wrapper,
                        .output = j->output,
                        .inject = inject,
                        .trace = trace,
                        .root = j->root,
                        .notes = j->notes};
    return launch_start(&plan, out);
}

bool job_start(job *j, int ranks, const char *inject, launched *out)
{
    return start(j, ranks, inject, false, out);
}

bool job_run(job *j, int ranks, const char *inject, bool trace, double timeout_s, int *code)
{
    launched process;
    *code = -1;
    if (!start(j, ranks, inject, trace, &process)) {
        return false;
    }
    bool ended = launch_wait(&process, timeout_s, code);
    if (!ended) {
        printf("it did not end within %.0f s\n", timeout_s);
    } else if (!launch_gone(&process, 5.0)) {
        printf("processes were left behind\n");
        launch_kill_all(&process);
        ended = false;
    }
    return ended;
}

// --- checkpoints

// "step-000120" is 120; -1 for all other names.
static int64_t step_of_name(const char *name)
{
    char *end = NULL;
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9') {
        return -1;
    }
    int64_t step = strtoll(name + 5, &end, 10);
    return *end == '\0' ? step : -1;
}

void job_cut_back(const job *j, const char *name, int64_t step)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s/checkpoints", j->root, name);
    DIR *dir = opendir(path);
    for (const struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        if (step_of_name(e->d_name) > step) {
            shell("rm -rf '%s/%s'", path, e->d_name);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    shell("cd '%s/%s' && rm -f summary.json eval.json && echo step-%06lld >latest", j->root, name, (long long)step);
}

int64_t job_verified_step(const job *j, const char *name, int *broken)
{
    char path[400];
    int64_t newest = -1;
    *broken = 0;
    snprintf(path, sizeof path, "%s/%s/checkpoints", j->root, name);
    DIR *dir = opendir(path);
    for (const struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        int64_t step = step_of_name(e->d_name);
        if (step < 0) {
            continue;
        }
        char checkpoint[700];
        lw_error err = {.text = ""};
        lw_checkpoint_info info;
        snprintf(checkpoint, sizeof checkpoint, "%s/%s", path, e->d_name);
        if (lw_checkpoint_verify(checkpoint, &err, &info) != LW_OK || info.step != step) {
            printf("%s: %s\n", checkpoint, err.text);
            ++*broken;
        } else if (step > newest) {
            newest = step;
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return newest;
}

int64_t job_promised_step(const job *j, const char *name)
{
    char path[400];
    char line[64] = "";
    snprintf(path, sizeof path, "%s/%s/latest", j->root, name);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return -1;
    }
    if (fgets(line, sizeof line, file) == NULL) {
        line[0] = '\0';
    }
    fclose(file);
    line[strcspn(line, "\n")] = '\0';
    return step_of_name(line);
}

int64_t job_state_bytes(const job *j, const char *name, int64_t step)
{
    char path[400];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s/checkpoints/step-%06lld/state.safetensors", j->root, name, (long long)step);
    return stat(path, &st) == 0 ? st.st_size : -1;
}

// --- metrics

// Times, and what is computed from them, are named by their unit.
static void drop_times(json_t *row)
{
    const char *key;
    void *next;
    const json_t *value;
    json_object_foreach_safe(row, next, key, value)
    {
        (void)value;
        size_t length = strlen(key);
        if ((length > 2 && strcmp(key + length - 2, "_s") == 0) || strcmp(key, "mfu") == 0) {
            json_object_del(row, key);
        }
    }
}

// Every row as an object without its times; the caller drops the reference.
static json_t *read_metrics(const job *j, const char *name)
{
    char path[400];
    char *line = NULL;
    size_t capacity = 0;
    json_t *rows = json_array();
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", j->root, name);
    FILE *file = fopen(path, "re");
    while (file != NULL && getline(&line, &capacity, file) >= 0) {
        json_t *row = json_loads(line, 0, NULL);
        drop_times(row);
        json_array_append_new(rows, row != NULL ? row : json_string("not JSON"));
    }
    free(line);
    if (file != NULL) {
        fclose(file);
    }
    return rows;
}

int64_t job_last_step(const job *j, const char *name)
{
    json_t *rows = read_metrics(j, name);
    int64_t last = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        int64_t step = json_integer_value(json_object_get(json_array_get(rows, i), "step"));
        last = step > last ? step : last;
    }
    json_decref(rows);
    return last;
}

static bool same_metrics(const job *j, const char *a, const char *b)
{
    json_t *x = read_metrics(j, a);
    json_t *y = read_metrics(j, b);
    bool same = json_array_size(x) > 0 && json_equal(x, y);
    if (!same) {
        size_t i = 0;
        while (json_equal(json_array_get(x, i), json_array_get(y, i))) {
            i++;
        }
        char *row_a = json_dumps(json_array_get(x, i), 0);
        char *row_b = json_dumps(json_array_get(y, i), 0);
        printf("metrics: %zu rows in %s, %zu in %s; row %zu is %s and %s\n", json_array_size(x), a, json_array_size(y),
               b, i, row_a, row_b);
        free(row_a);
        free(row_b);
    }
    json_decref(x);
    json_decref(y);
    return same;
}

// --- final state

static bool same_tensors(const char *path_a, const char *path_b)
{
    lw_error err = {.text = ""};
    lw_safetensors *a = NULL;
    lw_safetensors *b = NULL;
    bool same = lw_safetensors_open(path_a, &err, &a) == LW_OK && lw_safetensors_open(path_b, &err, &b) == LW_OK;
    if (!same) {
        printf("%s\n", err.text);
    } else if (lw_safetensors_count(a) != lw_safetensors_count(b) || lw_safetensors_count(a) == 0) {
        printf("%s and %s hold different tensors\n", path_a, path_b);
        same = false;
    }
    for (int64_t i = 0; same && i < lw_safetensors_count(a); i++) {
        const lw_tensor_view *x = lw_safetensors_at(a, i);
        const lw_tensor_view *y = lw_safetensors_find(b, x->name);
        if (y == NULL || x->bytes != y->bytes || memcmp(x->data, y->data, x->bytes) != 0) {
            printf("tensor %s differs\n", x->name);
            same = false;
        }
    }
    lw_safetensors_close(&a);
    lw_safetensors_close(&b);
    return same;
}

bool job_same(const job *j, const char *a, const char *b)
{
    int broken;
    int64_t step = job_verified_step(j, a, &broken);
    int64_t other = job_verified_step(j, b, &broken);
    if (step < 0 || step != other) {
        printf("the newest checkpoint of %s is of step %lld, that of %s of step %lld\n", a, (long long)step, b,
               (long long)other);
        return false;
    }
    char path_a[400];
    char path_b[400];
    snprintf(path_a, sizeof path_a, "%s/%s/checkpoints/step-%06lld/state.safetensors", j->root, a, (long long)step);
    snprintf(path_b, sizeof path_b, "%s/%s/checkpoints/step-%06lld/state.safetensors", j->root, b, (long long)step);
    return same_tensors(path_a, path_b) && same_metrics(j, a, b);
}

// --- failures of the test

void job_fail(const job *j, const char *format, ...)
{
    char text[LAUNCH_TEXT_BYTES];
    va_list args;
    printf("FAILED: ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    launch_text(j->output, text);
    size_t length = strlen(text);
    printf("\n--- it said:\n%s---\n", length > 1500 ? text + length - 1500 : text);
    fflush(stdout);
    failures++;
}

int job_failures(void)
{
    return failures;
}
