// checkpoint_trial.c: the trial write, which finds out whether the disk takes a checkpoint before a run depends on it.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/numbers.h"
#include "core/random.h"
#include "io/atomic_file.h"
#include "io/files.h"
#include "run/checkpoint_internal.h"

enum { BLOCK_BYTES = 4 << 20 };

static const char mark_file[] = "mark";

typedef struct trial {
    char *dir;     // checkpoints/trial.tmp
    char *renamed; // checkpoints/trial.old.tmp
} trial;

// The bytes are random, as file systems that compress or deduplicate would not store zeros or a repeated block.
static void fill_block(uint64_t *block, int64_t number)
{
    for (size_t i = 0; i < BLOCK_BYTES / sizeof *block; i++) {
        block[i] = lw_random_u64((uint64_t)number, 0, i);
    }
}

static lw_status write_data(const char *path, int64_t bytes, lw_error *err)
{
    lw_atomic_file *file = NULL;
    uint64_t *block = malloc(BLOCK_BYTES);
    if (block == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a trial write");
    }
    lw_status status = lw_atomic_open(path, err, &file);
    for (int64_t done = 0; status == LW_OK && done < bytes; done += BLOCK_BYTES) {
        fill_block(block, done);
        size_t n = bytes - done < BLOCK_BYTES ? (size_t)(bytes - done) : BLOCK_BYTES;
        status = lw_atomic_write(file, block, n, err);
    }
    free(block);
    if (status != LW_OK) {
        lw_atomic_abort(&file);
        return status;
    }
    return lw_atomic_commit(&file, err);
}

static lw_status write_file_in(const char *dir, const char *name, int64_t bytes, lw_error *err)
{
    char *path = NULL;
    LW_TRY(lw_path_join(dir, name, err, &path));
    lw_status status = write_data(path, bytes, err);
    free(path);
    return status;
}

// After the renames the directory must have its new name alone, and the file in it must be the newer of the two.
static lw_status check_renames(const trial *t, lw_error *err)
{
    char *path = NULL;
    struct stat file;
    LW_TRY(lw_path_join(t->renamed, mark_file, err, &path));
    lw_status status = LW_OK;
    if (stat(path, &file) != 0) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "%s is not there after a rename", path);
    } else if (file.st_size != 2) {
        status = lw_fail(err, LW_ERR_IO, "%s: renaming a file over it did not replace it", path);
    } else if (lw_path_is_dir(t->dir)) {
        status = lw_fail(err, LW_ERR_IO, "%s is still there after it was renamed", t->dir);
    }
    free(path);
    return status;
}

static lw_status clear(const trial *t, lw_error *err)
{
    lw_status status = lw_remove_tree(t->dir, err);
    lw_error ignored;
    lw_status second = lw_remove_tree(t->renamed, status == LW_OK ? err : &ignored);
    return status == LW_OK ? second : status;
}

static lw_status rehearse(const trial *t, int64_t bytes, lw_error *err)
{
    LW_TRY(clear(t, err)); // left by an earlier start that was killed
    if (mkdir(t->dir, LW_DIR_MODE) != 0) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot make the directory", t->dir);
    }
    LW_TRY(write_file_in(t->dir, LW_CHECKPOINT_STATE, bytes, err));
    LW_TRY(write_file_in(t->dir, mark_file, 1, err));
    LW_TRY(write_file_in(t->dir, mark_file, 2, err));
    LW_TRY(lw_rename_durable(t->dir, t->renamed, err));
    return check_renames(t, err);
}

static int64_t free_bytes_of(const char *dir)
{
    struct statvfs fs;
    if (statvfs(dir, &fs) != 0) {
        return -1;
    }
    int64_t bytes = 0;
    return __builtin_mul_overflow(fs.f_bavail, fs.f_frsize, &bytes) ? INT64_MAX : bytes;
}

lw_status lw_checkpoint_trial(const char *run_dir, int64_t bytes, lw_error *err, int64_t *free_bytes)
{
    trial t = {0};
    char *checkpoints = NULL;
    LW_TRY(lw_path_join(run_dir, "checkpoints", err, &checkpoints));
    bool was_there = lw_path_is_dir(checkpoints);
    int64_t available = -1;
    lw_status status = lw_path_join(checkpoints, "trial.tmp", err, &t.dir);
    if (status == LW_OK) {
        status = lw_path_join(checkpoints, "trial.old.tmp", err, &t.renamed);
    }
    if (status == LW_OK) {
        status = lw_checkpoint_make_folder(checkpoints, err);
    }
    if (status == LW_OK) {
        available = free_bytes_of(checkpoints);
        status = rehearse(&t, bytes, err);
        lw_error ignored;
        lw_status cleared = clear(&t, status == LW_OK ? err : &ignored);
        status = status == LW_OK ? cleared : status;
    }
    if (status != LW_OK) {
        if (!was_there) {
            rmdir(checkpoints);
        }
        status = lw_fail_in(err, status,
                            "a checkpoint of this job needs %lld bytes (%.1f MiB) in %s, where %.1f MiB are free, and "
                            "writing one on trial failed; make room or choose another run.dir",
                            (long long)bytes, (double)bytes / LW_MIB, checkpoints, (double)available / LW_MIB);
    } else {
        *free_bytes = available;
    }
    free(t.dir);
    free(t.renamed);
    free(checkpoints);
    return status;
}
