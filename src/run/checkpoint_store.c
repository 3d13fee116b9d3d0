// checkpoint_store.c: makes, replaces and removes the directories below RUN/checkpoints so that a kill between any two
// system calls leaves every finished checkpoint whole.
//
//   step-N                     a finished checkpoint
//   step-N.tmp                 one that is being made or removed; it is worth nothing
//   step-N.old                 a finished checkpoint that is being replaced by another step-N
//   step-N.old.tmp             one that is being removed
//   trial.tmp, trial.old.tmp   a trial write
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/atomic_file.h"
#include "io/files.h"
#include "run/checkpoint_internal.h"

enum { OPEN_DIRECTORIES = 8, MARK_BYTES = 64 };

static const char prefix[] = "step-";

void lw_checkpoint_name(int64_t step, char out[40])
{
    snprintf(out, 40, "%s%06lld", prefix, (long long)step);
}

// "step-", 6 to 18 digits; *suffix gets what follows. -1 for any other name.
static int64_t parse_name(const char *name, const char **suffix)
{
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) {
        return -1;
    }
    const char *digits = name + sizeof prefix - 1;
    size_t count = strspn(digits, "0123456789");
    if (count < 6 || count > 18) {
        return -1;
    }
    *suffix = digits + count;
    return (int64_t)strtoll(digits, NULL, 10);
}

static bool is_name(const char *name)
{
    const char *suffix = "";
    return parse_name(name, &suffix) >= 0 && suffix[0] == '\0';
}

void lw_checkpoint_read_mark(const char *run_dir, const char *mark, char out[40])
{
    lw_error ignored;
    char *path = NULL;
    char *text = NULL;
    size_t bytes = 0;
    out[0] = '\0';
    if (lw_path_join(run_dir, mark, &ignored, &path) == LW_OK &&
        lw_read_file(path, MARK_BYTES, &ignored, &text, &bytes) == LW_OK) {
        text[strcspn(text, "\n")] = '\0';
        if (strlen(text) < 40 && is_name(text)) {
            memcpy(out, text, strlen(text) + 1);
        }
    }
    free(text);
    free(path);
}

// --- reading the directory

typedef struct name_list {
    lw_checkpoint_entry *list;
    int64_t count, capacity;
} name_list;

static lw_status append(name_list *names, const lw_checkpoint_entry *entry, lw_error *err)
{
    if (names->count == names->capacity) {
        int64_t capacity = names->capacity > 0 ? 2 * names->capacity : 16;
        lw_checkpoint_entry *list = realloc(names->list, (size_t)capacity * sizeof *list);
        if (list == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "no memory for a list of checkpoints");
        }
        names->list = list;
        names->capacity = capacity;
    }
    names->list[names->count++] = *entry;
    return LW_OK;
}

static int newest_first(const void *a, const void *b)
{
    const lw_checkpoint_entry *x = a;
    const lw_checkpoint_entry *y = b;
    if (x->step != y->step) {
        return x->step < y->step ? 1 : -1;
    }
    return (int)x->old - (int)y->old;
}

// Lists the finished checkpoints (step-N, step-N.old) or, with `tmp`, the others.
static lw_status read_names(const char *dir, bool tmp, lw_error *err, name_list *names)
{
    DIR *stream = opendir(dir);
    if (stream == NULL) {
        return errno == ENOENT ? LW_OK : lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be read", dir);
    }
    lw_status status = LW_OK;
    for (;;) {
        errno = 0;
        const struct dirent *found = readdir(stream);
        if (found == NULL) {
            if (errno != 0) {
                status = lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be read", dir);
            }
            break;
        }
        const char *suffix = "";
        lw_checkpoint_entry entry = {.step = parse_name(found->d_name, &suffix)};
        bool is_tmp = strcmp(suffix, ".tmp") == 0 || strcmp(suffix, ".old.tmp") == 0;
        entry.old = strcmp(suffix, ".old") == 0;
        if (entry.step < 0 || is_tmp != tmp || (!is_tmp && !entry.old && suffix[0] != '\0')) {
            continue;
        }
        snprintf(entry.name, sizeof entry.name, "%.39s", found->d_name);
        status = append(names, &entry, err);
        if (status != LW_OK) {
            break;
        }
    }
    closedir(stream);
    return status;
}

lw_status lw_checkpoint_list(const char *checkpoints_dir, lw_error *err, lw_checkpoint_entry **out, int64_t *count)
{
    name_list names = {0};
    lw_status status = read_names(checkpoints_dir, false, err, &names);
    if (status != LW_OK) {
        free(names.list);
        return status;
    }
    if (names.count > 0) {
        qsort(names.list, (size_t)names.count, sizeof *names.list, newest_first);
    }
    *out = names.list;
    *count = names.count;
    return LW_OK;
}

// --- changing it

static int remove_one(const char *path, const struct stat *file, int kind, struct FTW *where)
{
    (void)file;
    (void)kind;
    (void)where;
    return remove(path);
}

lw_status lw_remove_tree(const char *path, lw_error *err)
{
    if (nftw(path, remove_one, OPEN_DIRECTORIES, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be removed", path);
    }
    return LW_OK;
}

lw_status lw_checkpoint_make_folder(const char *checkpoints_dir, lw_error *err)
{
    if (mkdir(checkpoints_dir, LW_DIR_MODE) == 0 || (errno == EEXIST && lw_path_is_dir(checkpoints_dir))) {
        return LW_OK;
    }
    return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot make the directory", checkpoints_dir);
}

typedef struct paths {
    char *from, *to;
} paths;

static void free_paths(paths *p)
{
    free(p->from);
    free(p->to);
}

// DIR/NAME and DIR/NAME.suffix.
static lw_status name_and_suffix(const char *dir, const char *name, const char *suffix, lw_error *err, paths *out)
{
    char changed[64];
    snprintf(changed, sizeof changed, "%.40s%s", name, suffix);
    lw_status status = lw_path_join(dir, name, err, &out->from);
    return status == LW_OK ? lw_path_join(dir, changed, err, &out->to) : status;
}

lw_status lw_checkpoint_discard(const char *checkpoints_dir, const char *name, lw_error *err)
{
    paths p = {0};
    lw_status status = name_and_suffix(checkpoints_dir, name, ".tmp", err, &p);
    if (status == LW_OK) {
        status = lw_remove_tree(p.to, err);
    }
    if (status == LW_OK && rename(p.from, p.to) != 0) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be removed", p.from);
    }
    if (status == LW_OK) {
        status = lw_remove_tree(p.to, err);
    }
    free_paths(&p);
    return status;
}

lw_status lw_checkpoint_install(const char *checkpoints_dir, const char *tmp_name, const char *name, lw_error *err)
{
    char *tmp = NULL;
    paths p = {0};
    bool moved = false;
    lw_status status = lw_path_join(checkpoints_dir, tmp_name, err, &tmp);
    if (status == LW_OK) {
        status = name_and_suffix(checkpoints_dir, name, ".old", err, &p);
    }
    if (status == LW_OK) {
        status = lw_remove_tree(p.to, err);
    }
    if (status == LW_OK) {
        // rename() cannot replace a directory that has files. Between these two renames the old one is the checkpoint.
        moved = rename(p.from, p.to) == 0;
        if (!moved && errno != ENOENT) {
            status = lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be replaced", p.from);
        }
    }
    if (status == LW_OK) {
        status = lw_rename_durable(tmp, p.from, err);
        if (status != LW_OK && moved && !lw_path_is_dir(p.from) && rename(p.to, p.from) != 0) {
            moved = false; // it keeps the name step-N.old, under which reading finds it too
        } else if (status == LW_OK && moved) {
            lw_error ignored; // the new one is in place, and the next write removes the rest of the old one
            lw_remove_tree(p.to, &ignored);
        }
    }
    free_paths(&p);
    free(tmp);
    return status;
}

static lw_status tidy_old(const char *dir, const lw_checkpoint_entry *entry, lw_error *err)
{
    char name[40];
    char *plain = NULL;
    char *old = NULL;
    lw_checkpoint_name(entry->step, name);
    lw_status status = lw_path_join(dir, name, err, &plain);
    if (status == LW_OK) {
        status = lw_path_join(dir, entry->name, err, &old);
    }
    if (status == LW_OK) {
        status = lw_path_is_dir(plain) ? lw_remove_tree(old, err) : lw_rename_durable(old, plain, err);
    }
    free(plain);
    free(old);
    return status;
}

lw_status lw_checkpoint_tidy(const char *checkpoints_dir, lw_error *err)
{
    name_list names = {0};
    lw_status status = read_names(checkpoints_dir, true, err, &names);
    for (int64_t i = 0; status == LW_OK && i < names.count; i++) {
        char *path = NULL;
        status = lw_path_join(checkpoints_dir, names.list[i].name, err, &path);
        if (status == LW_OK) {
            status = lw_remove_tree(path, err);
        }
        free(path);
    }
    names.count = 0;
    if (status == LW_OK) {
        status = read_names(checkpoints_dir, false, err, &names);
    }
    for (int64_t i = 0; status == LW_OK && i < names.count; i++) {
        if (names.list[i].old) {
            status = tidy_old(checkpoints_dir, &names.list[i], err);
        }
    }
    free(names.list);
    return status;
}
