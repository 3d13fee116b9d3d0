// Paths, capped reading, atomic replacement (also by several writers at once), hashes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/hash.h"
#include "io/atomic_file.h"
#include "io/files.h"
#include "scratch.h"

static lw_error err;

static int count_files(const char *path)
{
    DIR *d = opendir(path);
    assert_non_null(d);
    int count = 0;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        count += e->d_name[0] != '.';
    }
    closedir(d);
    return count;
}

static void expect_text(const char *path, const char *expected)
{
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(lw_read_file(path, 1 << 20, &err, &text, &bytes), LW_OK);
    assert_string_equal(text, expected);
    assert_int_equal(bytes, strlen(expected));
    free(text);
}

// A new, empty folder of the scratch folder.
static const char *new_folder(const char *name)
{
    const char *path = scratch_path(name);
    assert_int_equal(lw_mkdir_p(path, &err), LW_OK);
    return path;
}

// --- paths

static void test_paths(void **state)
{
    (void)state;
    static const char *const joins[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a//", "b", "a/b"},   {"", "b", "b"},        {"/", "b", "/b"},
        {"//", "b", "/b"}, {"a", "/b", "/b"},  {".", "b/c", "./b/c"}, {"a b", "c", "a b/c"},
    };
    for (size_t i = 0; i < sizeof joins / sizeof joins[0]; i++) {
        char *path = NULL;
        assert_int_equal(lw_path_join(joins[i][0], joins[i][1], &err, &path), LW_OK);
        assert_string_equal(path, joins[i][2]);
        free(path);
    }
    static const char *const parents[][2] = {
        {"a/b", "a"}, {"b", "."},     {"/b", "/"},      {"a/b/", "a"}, {"a//b", "a"},
        {"/", "/"},   {"/a/b", "/a"}, {"a/b/c", "a/b"}, {"", "."},     {"b//", "."},
    };
    for (size_t i = 0; i < sizeof parents / sizeof parents[0]; i++) {
        char *path = NULL;
        assert_int_equal(lw_path_parent(parents[i][0], &err, &path), LW_OK);
        assert_string_equal(path, parents[i][1]);
        free(path);
    }
    assert_true(lw_path_is_dir(scratch_dir()) && !lw_path_is_file(scratch_dir()));
    const char *file = scratch_path("plain");
    scratch_put(file, "x", 1);
    assert_true(lw_path_is_file(file) && !lw_path_is_dir(file));
    assert_false(lw_path_is_file(scratch_path("absent")) || lw_path_is_dir(scratch_path("absent")));
}

static void test_mkdir(void **state)
{
    (void)state;
    const char *deep = scratch_path("m/n//o/");
    assert_int_equal(lw_mkdir_p(deep, &err), LW_OK);
    assert_true(lw_path_is_dir(scratch_path("m/n/o")));
    assert_int_equal(lw_mkdir_p(deep, &err), LW_OK); // there already
    scratch_put(scratch_path("m/file"), "", 0);
    assert_int_equal(lw_mkdir_p(scratch_path("m/file"), &err), LW_ERR_IO);
    assert_non_null(strstr(err.text, "m/file"));
    assert_int_equal(lw_mkdir_p(scratch_path("m/file/x"), &err), LW_ERR_IO);
    assert_int_equal(lw_mkdir_p("", &err), LW_ERR_IO);
}

// --- reading

static void test_read(void **state)
{
    (void)state;
    const char *path = scratch_path("read");
    scratch_put(path, "ab\0cd", 5);
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(lw_read_file(path, 5, &err, &text, &bytes), LW_OK);
    assert_int_equal(bytes, 5);
    assert_memory_equal(text, "ab\0cd", 6); // and a NUL behind it
    free(text);
    text = NULL;
    assert_int_equal(lw_read_file(path, 4, &err, &text, &bytes), LW_ERR_FORMAT);
    assert_non_null(strstr(err.text, "5 bytes, more than the 4"));
    assert_null(text);
    scratch_put(path, "", 0);
    assert_int_equal(lw_read_file(path, 0, &err, &text, &bytes), LW_OK);
    assert_int_equal(bytes, 0);
    assert_string_equal(text, "");
    free(text);
    assert_int_equal(lw_read_file(scratch_path("absent"), 9, &err, &text, &bytes), LW_ERR_IO);
    assert_non_null(strstr(err.text, "absent: cannot open for reading: No such file"));
    assert_int_equal(lw_read_file(scratch_dir(), 9, &err, &text, &bytes), LW_ERR_IO);
    assert_non_null(strstr(err.text, "is a directory"));
    const char *pipe_path = scratch_path("pipe");
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_int_equal(lw_read_file(pipe_path, 9, &err, &text, &bytes), LW_ERR_IO); // without waiting for a writer
}

// --- atomic replacement

static void test_replace(void **state)
{
    (void)state;
    const char *folder = new_folder("replace");
    const char *path = scratch_path("replace/file");
    assert_int_equal(lw_write_file_atomic(path, "one", 3, &err), LW_OK);
    expect_text(path, "one");
    lw_atomic_file *file = NULL;
    assert_int_equal(lw_atomic_open(path, &err, &file), LW_OK);
    assert_int_equal(lw_atomic_write(file, "tw", 2, &err), LW_OK);
    assert_int_equal(lw_atomic_write(file, NULL, 0, &err), LW_OK);
    assert_int_equal(lw_atomic_write(file, "o", 1, &err), LW_OK);
    expect_text(path, "one"); // until the commit
    assert_int_equal(count_files(folder), 2);
    assert_int_equal(lw_atomic_commit(&file, &err), LW_OK);
    assert_null(file);
    expect_text(path, "two");
    assert_int_equal(count_files(folder), 1);

    assert_int_equal(lw_atomic_open(path, &err, &file), LW_OK);
    assert_int_equal(lw_atomic_write(file, "three", 5, &err), LW_OK);
    lw_atomic_abort(&file);
    assert_null(file);
    lw_atomic_abort(&file);
    expect_text(path, "two");
    assert_int_equal(count_files(folder), 1);

    // The mode is the umask's, so that others of a group can read a run.
    mode_t mask = umask(027);
    assert_int_equal(lw_write_file_atomic(path, "", 0, &err), LW_OK);
    umask(mask);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(st.st_size, 0);
}

static void test_replace_failures(void **state)
{
    (void)state;
    const char *folder = new_folder("failures");
    const char *path = scratch_path("failures/file");
    assert_int_equal(lw_write_file_atomic(scratch_path("failures/absent/x"), "1", 1, &err), LW_ERR_IO);
    assert_non_null(strstr(err.text, "failures/absent/x"));
    assert_int_equal(lw_write_file_atomic(folder, "1", 1, &err), LW_ERR_IO);
    assert_non_null(strstr(err.text, "is a directory"));

    // No room: a limit on the size of files stands for a full disk.
    assert_int_equal(lw_write_file_atomic(path, "old", 3, &err), LW_OK);
    struct rlimit limit, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = 1000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    static const char big[5000];
    lw_status status = lw_write_file_atomic(path, big, sizeof big, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(status, LW_ERR_IO);
    assert_non_null(strstr(err.text, "cannot write: File too large"));
    expect_text(path, "old");
    assert_int_equal(count_files(folder), 1);

    // The target turns into a folder before the commit.
    const char *turned = scratch_path("failures/turned");
    lw_atomic_file *file = NULL;
    assert_int_equal(lw_atomic_open(turned, &err, &file), LW_OK);
    assert_int_equal(mkdir(turned, 0755), 0);
    assert_int_equal(lw_atomic_commit(&file, &err), LW_ERR_IO);
    assert_null(file);
    assert_int_equal(count_files(folder), 2); // file and turned/: the temporary is gone
}

// Writers of one path, and a reader: what is there is always one writer's whole text.
static void test_concurrent_writers(void **state)
{
    (void)state;
    enum { WRITERS = 4, ROUNDS = 40, BYTES = 60000 };
    const char *folder = new_folder("race");
    const char *path = scratch_path("race/file");
    char *text = malloc(BYTES);
    assert_non_null(text);
    memset(text, 'a', BYTES);
    assert_int_equal(lw_write_file_atomic(path, text, BYTES, &err), LW_OK);
    pid_t children[WRITERS];
    for (int w = 0; w < WRITERS; w++) {
        children[w] = fork();
        assert_true(children[w] >= 0);
        if (children[w] == 0) {
            memset(text, 'a' + w, BYTES);
            lw_status status = LW_OK;
            for (int r = 0; r < ROUNDS && status == LW_OK; r++) {
                status = lw_write_file_atomic(path, text, BYTES, &err);
            }
            _exit(status == LW_OK ? 0 : 1);
        }
    }
    for (int r = 0; r < 200; r++) {
        char *seen = NULL;
        size_t bytes = 0;
        assert_int_equal(lw_read_file(path, BYTES, &err, &seen, &bytes), LW_OK);
        assert_int_equal(bytes, BYTES);
        for (size_t i = 1; i < BYTES; i++) {
            assert_true(seen[i] == seen[0]);
        }
        free(seen);
    }
    for (int w = 0; w < WRITERS; w++) {
        int result = 0;
        assert_int_equal(waitpid(children[w], &result, 0), children[w]);
        assert_true(WIFEXITED(result) && WEXITSTATUS(result) == 0);
    }
    assert_int_equal(count_files(folder), 1);
    free(text);
}

static void test_rename(void **state)
{
    (void)state;
    new_folder("from");
    scratch_put(scratch_path("from/x"), "x", 1);
    assert_int_equal(lw_rename_durable(scratch_path("from"), scratch_path("to"), &err), LW_OK);
    expect_text(scratch_path("to/x"), "x");
    assert_false(lw_path_is_dir(scratch_path("from")));
    assert_int_equal(lw_rename_durable(scratch_path("from"), scratch_path("to"), &err), LW_ERR_IO);
    assert_non_null(strstr(err.text, "from"));
    assert_int_equal(lw_fsync_dir(scratch_path("absent"), &err), LW_ERR_IO);
}

// --- hashes

static void test_xxh64(void **state)
{
    (void)state;
    // Published vectors of XXH64.
    assert_true(lw_xxh64("", 0, 0) == 0xef46db3751d8e999u);
    assert_true(lw_xxh64("abc", 3, 0) == 0x44bc2cf5ad770999u);
    // Around the size of the buffer that a file is read with.
    enum { MIB = 1 << 20 };
    unsigned char *data = malloc(2 * MIB + 1);
    assert_non_null(data);
    for (size_t i = 0; i < 2 * MIB + 1; i++) {
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    }
    static const size_t sizes[] = {0, 1, 31, 32, 33, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 1};
    const char *path = scratch_path("hashed");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        scratch_put(path, data, sizes[i]);
        uint64_t hash = 0;
        int64_t bytes = -1;
        assert_int_equal(lw_file_xxh64(path, NULL, &err, &hash, &bytes), LW_OK);
        assert_int_equal(bytes, sizes[i]);
        assert_true(hash == lw_xxh64(data, sizes[i], 0));
    }
    free(data);
    uint64_t hash = 1;
    int64_t bytes = 2;
    assert_int_equal(lw_file_xxh64(scratch_path("absent"), NULL, &err, &hash, &bytes), LW_ERR_IO);
    assert_true(hash == 1 && bytes == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_mkdir),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_replace_failures),
        cmocka_unit_test(test_concurrent_writers),
        cmocka_unit_test(test_rename),
        cmocka_unit_test(test_xxh64),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
