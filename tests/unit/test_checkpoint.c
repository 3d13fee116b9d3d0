// checkpoint: what is written comes back; what is damaged, hostile or half-made is passed over with a reason;
// retention.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <math.h>

#include "io/files.h"
#include "run/checkpoint.h"
#include "run/checkpoint_internal.h"

enum { ELEMENTS = 40, PATH_BYTES = 512 };

typedef struct fixture {
    char run[64];
    char warnings[8192];
    float param[ELEMENTS], m[ELEMENTS], v[ELEMENTS];
    lw_flat_view views[3];
    lw_flat_state state;
    lw_checkpoint_info info;
    lw_error err;
} fixture;

static void warn(void *context, const char *message)
{
    fixture *f = context;
    size_t used = strlen(f->warnings);
    snprintf(f->warnings + used, sizeof f->warnings - used, "%s\n", message);
}

static void fill_buffers(fixture *f, float base)
{
    for (int i = 0; i < ELEMENTS; i++) {
        f->param[i] = base + (float)i;
        f->m[i] = -base - (float)i * 0.1f;
        f->v[i] = base * 1e-7f + (float)i;
    }
}

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    snprintf(f->run, sizeof f->run, "/tmp/lwmpi-test-XXXXXX");
    assert_non_null(mkdtemp(f->run));
    // Elements 30 and 31 are padding; the scalar has rank 0.
    f->views[0] = (lw_flat_view){.name = "encoder.weight", .rank = 2, .dims = {5, 6}, .offset = 0};
    f->views[1] = (lw_flat_view){.name = "encoder.bias", .rank = 1, .dims = {7}, .offset = 32};
    f->views[2] = (lw_flat_view){.name = "gain", .rank = 0, .offset = 39};
    f->state = (lw_flat_state){.views = f->views, .view_count = 3, .elements = ELEMENTS};
    f->state.param = f->param;
    f->state.adam_m = f->m;
    f->state.adam_v = f->v;
    f->info = (lw_checkpoint_info){.step = 1, .samples = 8, .epoch = 2, .skipped = 1};
    f->info.train_s = 1.0 / 3.0;
    f->info.eval_nll = (double)NAN;
    f->info.config_hash = UINT64_MAX;
    f->info.data_hash = 7;
    f->info.model_count = 2;
    f->info.models[0] = (lw_checkpoint_model){.name = "llama", .weights_hash = 1, .tokenizer_hash = 2};
    f->info.models[1] = (lw_checkpoint_model){.name = "qwen \"7\"", .weights_hash = 3, .tokenizer_hash = 4};
    snprintf(f->info.lwmpi_version, sizeof f->info.lwmpi_version, "0.1.0");
    fill_buffers(f, 1.0f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    lw_remove_tree(f->run, &f->err);
    free(f);
    return 0;
}

#define OK(expression)                        \
    do {                                      \
        if ((expression) != LW_OK) {          \
            print_error("%s\n", f->err.text); \
            fail();                           \
        }                                     \
    } while (0)

static lw_status try_write(fixture *f, int64_t keep)
{
    const lw_checkpoint_retention retention = {.keep = keep};
    return lw_checkpoint_write(f->run, &f->info, &f->state, &retention, warn, f, &f->err);
}

static lw_status load_newest(fixture *f, bool *found, lw_checkpoint_info *info, char **path)
{
    const lw_checkpoint_reader reader = {.warn = warn, .context = f};
    return lw_checkpoint_load_newest(f->run, &f->state, &reader, &f->err, found, info, path);
}

static void write_step(fixture *f, int64_t step, int keep)
{
    f->info.step = step;
    f->info.samples = 8 * step;
    fill_buffers(f, (float)step);
    OK(try_write(f, keep));
}

static const char *at(const fixture *f, const char *name)
{
    static char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", f->run, name);
    return path;
}

static bool exists(const fixture *f, const char *name)
{
    struct stat file;
    return stat(at(f, name), &file) == 0;
}

// Loads the newest; returns its step, -1 when there is none. The buffers are those of that step.
static int64_t load(fixture *f)
{
    bool found = false;
    char *path = NULL;
    lw_checkpoint_info info;
    fill_buffers(f, -1000.0f);
    OK(load_newest(f, &found, &info, &path));
    assert_true(found == (path != NULL));
    free(path);
    if (!found) {
        assert_true(f->param[0] == -1000.0f);
        return -1;
    }
    float base = (float)info.step;
    assert_true(f->param[0] == base && f->param[38] == base + 38.0f && f->param[39] == base + 39.0f);
    assert_true(f->m[29] == -base - 29 * 0.1f && f->v[3] == base * 1e-7f + 3.0f);
    assert_true(f->param[30] == -1000.0f + 30.0f); // padding is nobody's
    return info.step;
}

static void edit(const fixture *f, const char *name, long offset, const char *bytes)
{
    FILE *file = fopen(at(f, name), "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, offset, offset < 0 ? SEEK_END : SEEK_SET), 0);
    fputs(bytes, file);
    fclose(file);
}

static void replace_file(const fixture *f, const char *name, const char *text)
{
    FILE *file = fopen(at(f, name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_round_trip(void **state)
{
    fixture *f = *state;
    assert_int_equal(load(f), -1); // nothing yet, not even the directory
    f->info.skipped_in_row = 1;
    write_step(f, 12, 2);
    assert_int_equal(load(f), 12);
    lw_checkpoint_info back;
    OK(lw_checkpoint_verify(at(f, "checkpoints/step-000012"), &f->err, &back));
    assert_int_equal(back.samples, 96);
    assert_int_equal(back.epoch, 2);
    assert_int_equal(back.skipped, 1);
    assert_int_equal(back.skipped_in_row, 1);
    assert_true(back.train_s == 1.0 / 3.0 && isnan(back.eval_nll));
    assert_true(back.config_hash == UINT64_MAX && back.data_hash == 7);
    OK(lw_checkpoint_same_inputs(&back, &f->info, &f->err));
    assert_int_equal(strlen(back.created), 20);
    size_t bytes = 0;
    char *latest = NULL;
    OK(lw_read_file(at(f, "latest"), 100, &f->err, &latest, &bytes));
    assert_string_equal(latest, "step-000012\n");
    free(latest);
    int64_t most = 0;
    struct stat file;
    OK(lw_checkpoint_bytes(&f->state, &f->err, &most));
    assert_int_equal(stat(at(f, "checkpoints/step-000012/state.safetensors"), &file), 0);
    assert_true(file.st_size < most);
    assert_int_equal(back.bytes, file.st_size);
    assert_string_equal(f->warnings, "");
    f->info.eval_nll = 0.1;
    f->info.eval_hash = 9;
    write_step(f, 13, 2);
    OK(lw_checkpoint_describe(at(f, "checkpoints/step-000013"), &f->err, &back));
    assert_true(back.eval_nll == 0.1 && back.step == 13 && back.eval_hash == 9);
}

static void test_parameters_alone(void **state)
{
    fixture *f = *state;
    write_step(f, 3, 1);
    f->state.adam_m = NULL;
    f->state.adam_v = NULL;
    lw_checkpoint_info info;
    fill_buffers(f, 0.0f);
    OK(lw_checkpoint_load(at(f, "checkpoints/step-000003"), &f->state, &f->err, &info));
    assert_true(f->param[39] == 42.0f && f->m[39] == -39 * 0.1f);
    assert_int_equal(try_write(f, 1), LW_ERR_INTERNAL);
}

static void test_retention_and_rewrite(void **state)
{
    fixture *f = *state;
    for (int64_t step = 10; step <= 50; step += 10) {
        write_step(f, step, 2);
    }
    assert_false(exists(f, "checkpoints/step-000030"));
    assert_true(exists(f, "checkpoints/step-000040") && exists(f, "checkpoints/step-000050"));
    write_step(f, 50, 2); // again
    assert_int_equal(load(f), 50);
    assert_false(exists(f, "checkpoints/step-000050.old"));
    // A resume that passed over 50 goes on from 40: what it writes next is the newest, and is not the first to go.
    edit(f, "checkpoints/step-000050/state.safetensors", -4, "x");
    assert_int_equal(load(f), 40);
    write_step(f, 45, 1);
    assert_false(exists(f, "checkpoints/step-000050"));
    assert_false(exists(f, "checkpoints/step-000040"));
    assert_int_equal(load(f), 45);
    write_step(f, 1234567, 1); // more digits than the name has places for
    assert_true(exists(f, "checkpoints/step-1234567"));
    assert_int_equal(load(f), 1234567);
}

static void write_evaluated(fixture *f, int64_t step, double nll, const lw_checkpoint_retention *retention)
{
    f->info.step = step;
    f->info.eval_nll = nll;
    OK(lw_checkpoint_write(f->run, &f->info, &f->state, retention, warn, f, &f->err));
}

static bool has_step(const fixture *f, int64_t step)
{
    char name[64];
    snprintf(name, sizeof name, "checkpoints/step-%06lld", (long long)step);
    return exists(f, name);
}

static void test_every_nth_and_best(void **state)
{
    fixture *f = *state;
    const lw_checkpoint_retention retention = {.keep = 2, .keep_every = 40, .keep_best = true};
    char *path = NULL;
    write_evaluated(f, 10, 5.0, &retention);
    write_evaluated(f, 20, 2.5, &retention); // the best
    write_evaluated(f, 30, NAN, &retention);
    write_evaluated(f, 40, 3.0, &retention); // a multiple
    write_evaluated(f, 50, 2.5, &retention); // as good, but later
    write_evaluated(f, 60, INFINITY, &retention);
    write_evaluated(f, 70, 4.0, &retention);
    for (int64_t step = 10; step <= 70; step += 10) {
        assert_int_equal(has_step(f, step), step == 20 || step == 40 || step >= 60);
    }
    OK(lw_checkpoint_resolve(at(f, "best"), warn, f, &f->err, &path));
    assert_string_equal(path, at(f, "checkpoints/step-000020"));
    free(path);
    OK(lw_checkpoint_resolve(at(f, "latest"), warn, f, &f->err, &path));
    assert_string_equal(path, at(f, "checkpoints/step-000070"));
    free(path);
    write_evaluated(f, 80, 1.0, &retention); // better: the old best goes
    assert_false(has_step(f, 20));
    assert_true(has_step(f, 40) && has_step(f, 70) && has_step(f, 80));
    // A best whose manifest is damaged is none; a better one of a tail left behind neither.
    edit(f, "checkpoints/step-000080/manifest.json", 3, "x");
    write_evaluated(f, 75, 2.0, &retention);
    assert_false(has_step(f, 80));
    OK(lw_checkpoint_resolve(at(f, "best"), warn, f, &f->err, &path));
    assert_string_equal(path, at(f, "checkpoints/step-000075"));
    free(path);
    // Not asked for any more: no mark that would grow stale.
    write_evaluated(f, 90, 9.0, &(lw_checkpoint_retention){.keep = 1});
    assert_false(exists(f, "best") || has_step(f, 40) || has_step(f, 75));
    assert_string_equal(f->warnings, "");
}

// What is damaged, or was taken while steps were being skipped, takes no good checkpoint's place.
static void test_only_sound_ones_count(void **state)
{
    fixture *f = *state;
    lw_checkpoint_known known = {0};
    const lw_checkpoint_retention retention = {.keep = 2, .keep_best = true, .known = &known};
    write_evaluated(f, 10, 3.0, &retention);
    write_evaluated(f, 20, 2.0, &retention);
    lw_checkpoint_known_free(&known); // another process goes on, from 10
    edit(f, "checkpoints/step-000020/state.safetensors", -4, "x");
    write_evaluated(f, 30, 4.0, &retention);
    assert_true(has_step(f, 10) && has_step(f, 20) && has_step(f, 30));
    assert_non_null(strstr(f->warnings, "step-000020"));
    assert_non_null(strstr(f->warnings, "is damaged"));
    f->warnings[0] = '\0';
    write_evaluated(f, 40, 5.0, &retention); // 10 stays as the best, for 20 is damaged
    assert_true(has_step(f, 10) && !has_step(f, 20) && has_step(f, 30) && has_step(f, 40));
    assert_string_equal(f->warnings, "");
    // A file that is cut is seen without reading it again.
    assert_int_equal(truncate(at(f, "checkpoints/step-000040/state.safetensors"), 100), 0);
    write_evaluated(f, 50, 6.0, &retention);
    assert_true(has_step(f, 30) && has_step(f, 40) && has_step(f, 50));
    f->warnings[0] = '\0';
    // Stopped while steps were being skipped: twice, and the sound ones from before stay.
    f->info.skipped_in_row = 1;
    write_evaluated(f, 60, NAN, &retention);
    f->info.skipped_in_row = 2;
    write_evaluated(f, 61, NAN, &retention);
    assert_true(has_step(f, 30) && has_step(f, 50) && has_step(f, 60) && has_step(f, 61));
    f->info.skipped_in_row = 0;
    write_evaluated(f, 70, NAN, &retention);
    write_evaluated(f, 80, NAN, &retention);
    assert_true(has_step(f, 10) && has_step(f, 70) && has_step(f, 80));
    assert_false(has_step(f, 30) || has_step(f, 50) || has_step(f, 60) || has_step(f, 61));
    lw_checkpoint_known_free(&known);
}

static void test_best_of_one_evaluation(void **state)
{
    fixture *f = *state;
    const lw_checkpoint_retention retention = {.keep = 1, .keep_best = true};
    char *path = NULL;
    f->info.eval_hash = 1;
    write_evaluated(f, 10, 1.0, &retention);
    write_evaluated(f, 20, 2.0, &retention);
    f->info.eval_hash = 2; // of other samples, from here on
    write_evaluated(f, 30, NAN, &retention);
    assert_true(has_step(f, 10)); // until there is a figure of theirs
    write_evaluated(f, 40, 3.0, &retention);
    write_evaluated(f, 50, 4.0, &retention);
    assert_false(has_step(f, 10));
    OK(lw_checkpoint_resolve(at(f, "best"), warn, f, &f->err, &path));
    assert_string_equal(path, at(f, "checkpoints/step-000040"));
    free(path);
}

static void test_leftovers(void **state)
{
    fixture *f = *state;
    write_step(f, 5, 3);
    // Killed while writing 6, and between the two renames of rewriting 5.
    mkdir(at(f, "checkpoints/step-000006.tmp"), 0777);
    replace_file(f, "checkpoints/step-000006.tmp/state.safetensors", "half");
    mkdir(at(f, "checkpoints/step-000004.old.tmp"), 0777); // killed while removing 4
    mkdir(at(f, "checkpoints/not-ours"), 0777);
    char from[PATH_BYTES];
    snprintf(from, sizeof from, "%s", at(f, "checkpoints/step-000005"));
    assert_int_equal(rename(from, at(f, "checkpoints/step-000005.old")), 0);
    assert_int_equal(load(f), 5);
    write_step(f, 7, 3);
    assert_false(exists(f, "checkpoints/step-000006.tmp"));
    assert_false(exists(f, "checkpoints/step-000004.old.tmp"));
    assert_false(exists(f, "checkpoints/step-000005.old"));
    assert_true(exists(f, "checkpoints/step-000005") && exists(f, "checkpoints/not-ours"));
    assert_int_equal(load(f), 7);
    assert_string_equal(f->warnings, "");
}

// Damages step 2 in one way: the newest that verifies is then step 1, and the reason is said.
static void expect_passed_over(fixture *f, const char *reason)
{
    f->warnings[0] = '\0';
    assert_int_equal(load(f), 1);
    if (strstr(f->warnings, "step-000002 passed over") == NULL || strstr(f->warnings, reason) == NULL) {
        print_error("no \"%s\" in: %s\n", reason, f->warnings);
        fail();
    }
    write_step(f, 2, 2);
    f->warnings[0] = '\0';
    assert_int_equal(load(f), 2);
    assert_string_equal(f->warnings, "");
}

static void test_damage(void **state)
{
    fixture *f = *state;
    write_step(f, 1, 2);
    write_step(f, 2, 2);
    edit(f, "checkpoints/step-000002/state.safetensors", -9, "~");
    expect_passed_over(f, "is damaged");
    edit(f, "checkpoints/step-000002/state.safetensors", 0, "\x7f\x7f\x7f\x7f\x7f\x7f\x7f");
    expect_passed_over(f, "is damaged");
    assert_int_equal(truncate(at(f, "checkpoints/step-000002/state.safetensors"), 100), 0);
    expect_passed_over(f, "has 100 bytes");
    assert_int_equal(unlink(at(f, "checkpoints/step-000002/state.safetensors")), 0);
    expect_passed_over(f, "No such file");
    assert_int_equal(unlink(at(f, "checkpoints/step-000002/manifest.json")), 0);
    expect_passed_over(f, "manifest.json");
    assert_int_equal(truncate(at(f, "checkpoints/step-000002/manifest.json"), 50), 0);
    expect_passed_over(f, "manifest.json");
    replace_file(f, "checkpoints/step-000002/manifest.json", "[]");
    expect_passed_over(f, "manifest.json");
    replace_file(f, "checkpoints/step-000002/manifest.json", "{\"format\": \"lwmpi checkpoint\", \"version\": 2}");
    expect_passed_over(f, "format version 2");
    assert_int_equal(unlink(at(f, "checkpoints/step-000002/state.safetensors")), 0);
    char target[PATH_BYTES];
    snprintf(target, sizeof target, "%s", at(f, "checkpoints/step-000001/state.safetensors"));
    assert_int_equal(symlink(target, at(f, "checkpoints/step-000002/state.safetensors")), 0);
    expect_passed_over(f, "is not a regular file");
    static const char *const files[] = {"checkpoints/step-000002/state.safetensors",
                                        "checkpoints/step-000002/manifest.json"};
    static const char *const reasons[] = {"is not a regular file", "is a directory"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(unlink(at(f, files[i])), 0);
        assert_int_equal(mkdir(at(f, files[i]), 0777), 0);
        expect_passed_over(f, reasons[i]);
    }
    OK(lw_remove_tree(at(f, "checkpoints/step-000002"), &f->err));
    replace_file(f, "checkpoints/step-000002", "a file");
    expect_passed_over(f, "manifest.json");
    OK(lw_remove_tree(at(f, "checkpoints/step-000002"), &f->err));
    mkdir(at(f, "checkpoints/step-000002"), 0777);
    expect_passed_over(f, "manifest.json");
    // What the manifest does not name is nobody's business, and goes with the rest.
    replace_file(f, "checkpoints/step-000002/notes.txt", "mine");
    mkdir(at(f, "checkpoints/step-000002/more"), 0777);
    f->warnings[0] = '\0';
    assert_int_equal(load(f), 2);
    write_step(f, 3, 1);
    assert_false(exists(f, "checkpoints/step-000002"));
    assert_string_equal(f->warnings, "");
}

// `latest` is for people: wrong, a directory, or absent, it misleads nobody.
static void test_latest_is_not_trusted(void **state)
{
    fixture *f = *state;
    write_step(f, 1, 2);
    write_step(f, 2, 2);
    static const char *const lies[] = {"step-000001\n", "step-999999\n", "../../etc/passwd\n", ""};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        replace_file(f, "latest", lies[i]);
        assert_int_equal(load(f), 2);
    }
    char *path = NULL;
    assert_int_equal(lw_checkpoint_resolve(at(f, "latest"), warn, f, &f->err, &path), LW_ERR_CONFIG);
    unlink(at(f, "latest"));
    assert_int_equal(load(f), 2);
    mkdir(at(f, "latest"), 0777);
    assert_int_equal(load(f), 2);
    assert_string_equal(f->warnings, "");
    write_step(f, 3, 2);
    assert_non_null(strstr(f->warnings, "\"latest\" does not name it"));
    assert_int_equal(load(f), 3);
}

// Every single flipped bit of a manifest is seen, or changes nothing but white space.
static void test_manifest_bits(void **state)
{
    fixture *f = *state;
    write_step(f, 2, 1);
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s", at(f, "checkpoints/step-000002/manifest.json"));
    size_t bytes = 0;
    char *text = NULL;
    OK(lw_read_file(path, 1 << 20, &f->err, &text, &bytes));
    lw_checkpoint_info good;
    OK(lw_checkpoint_verify(at(f, "checkpoints/step-000002"), &f->err, &good));
    for (size_t i = 0; i < bytes; i++) {
        lw_checkpoint_info info;
        memset(&info, 0, sizeof info);
        text[i] = (char)(text[i] ^ (1 << (i % 7)));
        FILE *file = fopen(path, "w");
        assert_int_equal(fwrite(text, 1, bytes, file), bytes);
        fclose(file);
        if (lw_checkpoint_verify(at(f, "checkpoints/step-000002"), &f->err, &info) == LW_OK) {
            assert_int_equal(info.step, good.step);
            assert_int_equal(info.samples, good.samples);
            assert_true(info.config_hash == good.config_hash && info.train_s == good.train_s);
        }
        text[i] = (char)(text[i] ^ (1 << (i % 7)));
    }
    free(text);
}

// A manifest that is whole, but names files elsewhere.
static void test_hostile_names(void **state)
{
    fixture *f = *state;
    static const char *const names[] = {"../step-000001/state.safetensors", "/etc/passwd", "..", "", "a/b", "x\x1b[2J"};
    write_step(f, 1, 2);
    write_step(f, 2, 2);
    char dir[PATH_BYTES];
    snprintf(dir, sizeof dir, "%s", at(f, "checkpoints/step-000002"));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        lw_checkpoint_file files[2] = {{.name = LW_CHECKPOINT_STATE}, {.name = names[i], .bytes = 1}};
        OK(lw_file_xxh64(at(f, "checkpoints/step-000002/state.safetensors"), NULL, &f->err, &files[0].xxh64,
                         &files[0].bytes));
        f->info.step = 2;
        OK(lw_manifest_write(dir, &f->info, files, 2, &f->err));
        lw_checkpoint_info info;
        assert_int_equal(lw_checkpoint_verify(dir, &f->err, &info), LW_ERR_FORMAT);
        assert_non_null(strstr(f->err.text, "not in the checkpoint's directory"));
        assert_null(strchr(f->err.text, '\x1b'));
    }
    // A good checkpoint under the name of another step.
    write_step(f, 2, 2);
    snprintf(dir, sizeof dir, "%s", at(f, "checkpoints/step-000002"));
    assert_int_equal(rename(dir, at(f, "checkpoints/step-000009")), 0);
    f->warnings[0] = '\0';
    assert_int_equal(load(f), 1);
    assert_non_null(strstr(f->warnings, "its manifest is of step 2"));
}

static void test_other_configuration(void **state)
{
    fixture *f = *state;
    bool found = false;
    lw_checkpoint_info info;
    write_step(f, 4, 1);
    f->views[0].dims[0] = 4;
    assert_int_equal(load_newest(f, &found, &info, NULL), LW_ERR_CONFIG);
    assert_non_null(strstr(f->err.text, "param/encoder.weight"));
    assert_non_null(strstr(f->err.text, "choose another run.dir"));
    f->views[0].dims[0] = 5;
    f->state.view_count = 2;
    assert_int_equal(load_newest(f, &found, &info, NULL), LW_ERR_CONFIG);
    f->state.view_count = 3;
    lw_checkpoint_info other = f->info;
    other.models[1].tokenizer_hash++;
    assert_int_equal(lw_checkpoint_same_inputs(&f->info, &other, &f->err), LW_ERR_CONFIG);
    assert_non_null(strstr(f->err.text, "another tokenizer"));
    other = f->info;
    other.data_hash++;
    assert_int_equal(lw_checkpoint_same_inputs(&f->info, &other, &f->err), LW_ERR_CONFIG);
    f->views[1].offset = ELEMENTS - 6; // outside: an error of the program
    assert_int_equal(try_write(f, 1), LW_ERR_INTERNAL);
}

// Told of every one that verifies, newest first: here it takes none but step 1, or refuses.
static lw_status only_step_1(void *context, const char *dir, const lw_checkpoint_info *info, lw_error *err)
{
    const fixture *f = context;
    assert_non_null(strstr(dir, f->run));
    return info->step == 1   ? LW_OK
           : info->step == 3 ? lw_fail(err, LW_ERR_CONFIG, "step 3 is refused")
                             : lw_fail(err, LW_ERR_FORMAT, "not this one");
}

static void test_accept_and_none_left(void **state)
{
    fixture *f = *state;
    const lw_checkpoint_reader reader = {.accept = only_step_1, .warn = warn, .context = f};
    bool found = false;
    lw_checkpoint_info info;
    int64_t count = -1;
    OK(lw_checkpoint_count(f->run, &f->err, &count));
    assert_int_equal(count, 0);
    write_step(f, 1, 3);
    write_step(f, 2, 3);
    OK(lw_checkpoint_load_newest(f->run, &f->state, &reader, &f->err, &found, &info, NULL));
    assert_true(found && info.step == 1);
    assert_non_null(strstr(f->warnings, "step-000002 passed over: not this one"));
    write_step(f, 3, 3);
    assert_int_equal(lw_checkpoint_load_newest(f->run, &f->state, &reader, &f->err, &found, &info, NULL),
                     LW_ERR_CONFIG);
    OK(lw_checkpoint_count(f->run, &f->err, &count));
    assert_int_equal(count, 3);
    // Damaged as all of them are, they are not to be written over.
    edit(f, "checkpoints/step-000001/state.safetensors", -4, "x");
    edit(f, "checkpoints/step-000002/state.safetensors", -4, "x");
    edit(f, "checkpoints/step-000003/state.safetensors", -4, "x");
    assert_int_equal(load_newest(f, &found, &info, NULL), LW_ERR_CONFIG);
    assert_non_null(strstr(f->err.text, "none of the 3 checkpoints can be used"));
}

static void test_vanished_run(void **state)
{
    fixture *f = *state;
    write_step(f, 1, 1);
    OK(lw_remove_tree(at(f, "checkpoints"), &f->err));
    write_step(f, 2, 1); // the folder alone is made again
    assert_int_equal(load(f), 2);
    OK(lw_remove_tree(f->run, &f->err));
    assert_int_equal(try_write(f, 1), LW_ERR_IO);
    assert_non_null(strstr(f->err.text, "No such file"));
    assert_false(exists(f, ".")); // a run directory that is gone does not come back as an empty one
}

static void test_trial(void **state)
{
    fixture *f = *state;
    int64_t free_bytes = 0;
    write_step(f, 1, 1);
    mkdir(at(f, "checkpoints/trial.tmp"), 0777); // of a start that was killed
    replace_file(f, "checkpoints/trial.tmp/state.safetensors", "half");
    mkdir(at(f, "checkpoints/trial.old.tmp"), 0777);
    OK(lw_checkpoint_trial(f->run, 9 << 20, &f->err, &free_bytes));
    assert_true(free_bytes > 9 << 20);
    assert_false(exists(f, "checkpoints/trial.tmp") || exists(f, "checkpoints/trial.old.tmp"));
    assert_int_equal(load(f), 1);
    replace_file(f, "checkpoints/file", "");
    assert_int_equal(lw_checkpoint_trial(at(f, "checkpoints/file"), 12345, &f->err, &free_bytes), LW_ERR_IO);
    assert_non_null(strstr(f->err.text, "needs 12345 bytes"));
    assert_int_equal(lw_checkpoint_trial(at(f, "nowhere"), 12345, &f->err, &free_bytes), LW_ERR_IO);
    assert_false(exists(f, "nowhere"));
}

static void test_failed_write(void **state)
{
    fixture *f = *state;
    write_step(f, 1, 1);
    // A file in the place of the temporary directory's contents: the write fails, step 1 stays.
    char from[PATH_BYTES];
    snprintf(from, sizeof from, "%s", at(f, "checkpoints"));
    assert_int_equal(rename(from, at(f, "elsewhere")), 0);
    replace_file(f, "checkpoints", "a file");
    f->info.step = 2;
    assert_int_equal(try_write(f, 1), LW_ERR_IO);
    assert_non_null(strstr(f->err.text, "checkpoint of step 2 not written"));
    assert_int_equal(unlink(at(f, "checkpoints")), 0);
    snprintf(from, sizeof from, "%s", at(f, "elsewhere"));
    assert_int_equal(rename(from, at(f, "checkpoints")), 0);
    assert_int_equal(load(f), 1);
}

static void test_resolve(void **state)
{
    fixture *f = *state;
    char *path = NULL;
    assert_int_equal(lw_checkpoint_resolve(f->run, warn, f, &f->err, &path), LW_ERR_CONFIG);
    assert_non_null(strstr(f->err.text, "neither a checkpoint"));
    write_step(f, 1, 2);
    write_step(f, 2, 2);
    edit(f, "checkpoints/step-000002/state.safetensors", -4, "x");
    OK(lw_checkpoint_resolve(f->run, warn, f, &f->err, &path));
    assert_string_equal(path, at(f, "checkpoints/step-000001"));
    free(path);
    OK(lw_checkpoint_resolve(at(f, "checkpoints/step-000002"), warn, f, &f->err, &path));
    assert_string_equal(path, at(f, "checkpoints/step-000002"));
    free(path);
    edit(f, "checkpoints/step-000001/state.safetensors", -4, "x");
    assert_int_equal(lw_checkpoint_resolve(f->run, warn, f, &f->err, &path), LW_ERR_CONFIG);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_parameters_alone),
        TEST(test_retention_and_rewrite),
        TEST(test_every_nth_and_best),
        TEST(test_only_sound_ones_count),
        TEST(test_best_of_one_evaluation),
        TEST(test_leftovers),
        TEST(test_damage),
        TEST(test_latest_is_not_trusted),
        TEST(test_manifest_bits),
        TEST(test_hostile_names),
        TEST(test_other_configuration),
        TEST(test_accept_and_none_left),
        TEST(test_vanished_run),
        TEST(test_trial),
        TEST(test_failed_write),
        TEST(test_resolve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
