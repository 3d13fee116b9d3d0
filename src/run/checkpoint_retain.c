// checkpoint_retain.c: which checkpoints of a run stay, and the two marks for people, RUN/latest and RUN/best.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/atomic_file.h"
#include "io/files.h"
#include "run/checkpoint_internal.h"

typedef struct listener {
    lw_checkpoint_warn warn;
    void *context;
} listener;

// A failure here is a warning and no error, as the checkpoint itself is written.
static void warn_of(const listener *to, lw_error *err, const char *what)
{
    (void)lw_fail_in(err, LW_ERR_IO, "%s", what);
    if (to->warn != NULL) {
        to->warn(to->context, err->text);
    }
}

// --- marks

static lw_status write_mark(const char *run_dir, const char *mark, const char *name, lw_error *err)
{
    char before[40];
    char line[48];
    char *path = NULL;
    lw_checkpoint_read_mark(run_dir, mark, before);
    if (strcmp(before, name) == 0) {
        return LW_OK;
    }
    snprintf(line, sizeof line, "%s\n", name);
    LW_TRY(lw_path_join(run_dir, mark, err, &path));
    lw_status status = lw_write_file_atomic(path, line, strlen(line), err);
    free(path);
    return status;
}

static lw_status remove_mark(const char *run_dir, const char *mark, lw_error *err)
{
    char *path = NULL;
    LW_TRY(lw_path_join(run_dir, mark, err, &path));
    lw_status status = LW_OK;
    if (unlink(path) != 0 && errno != ENOENT) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "%s cannot be removed", path);
    }
    free(path);
    return status;
}

// --- which are good

typedef struct lw_checkpoint_verdict {
    int64_t step;
    bool good;
} lw_checkpoint_verdict;

void lw_checkpoint_known_free(lw_checkpoint_known *known)
{
    free(known->list);
    *known = (lw_checkpoint_known){0};
}

static lw_checkpoint_verdict *recall(const lw_checkpoint_known *known, int64_t step)
{
    for (int64_t i = known != NULL ? known->count - 1 : -1; i >= 0; i--) {
        if (known->list[i].step == step) {
            return &known->list[i];
        }
    }
    return NULL;
}

// When there is no memory the verdict is not kept, and the checkpoint will be verified again.
static void remember(lw_checkpoint_known *known, int64_t step, bool good)
{
    lw_checkpoint_verdict *found = recall(known, step);
    if (found != NULL) {
        found->good = good;
        return;
    }
    if (known != NULL && known->count == known->capacity) {
        int64_t capacity = known->capacity > 0 ? 2 * known->capacity : 16;
        lw_checkpoint_verdict *list = realloc(known->list, (size_t)capacity * sizeof *list);
        if (list == NULL) {
            return;
        }
        known->list = list;
        known->capacity = capacity;
    }
    if (known != NULL) {
        known->list[known->count++] = (lw_checkpoint_verdict){step, good};
    }
}

// Checks manifest and sizes every time, contents once. A damaged checkpoint is a warning.
static bool is_good(const char *checkpoints, const lw_checkpoint_entry *entry, lw_checkpoint_known *known,
                    const listener *to, lw_checkpoint_info *info)
{
    lw_error err;
    char *dir = NULL;
    const lw_checkpoint_verdict *before = recall(known, entry->step);
    if (entry->old || (before != NULL && !before->good) ||
        lw_path_join(checkpoints, entry->name, &err, &dir) != LW_OK) {
        return false;
    }
    lw_manifest_depth depth = before != NULL ? LW_MANIFEST_SIZES : LW_MANIFEST_HASHES;
    lw_status status = lw_manifest_read(dir, depth, NULL, &err, info);
    free(dir);
    if (status != LW_OK && status != LW_ERR_MEMORY) {
        char what[96];
        snprintf(what, sizeof what, "checkpoint %s takes no other's place", entry->name);
        warn_of(to, &err, what);
        remember(known, entry->step, false);
    } else if (status == LW_OK) {
        remember(known, entry->step, true);
    }
    return status == LW_OK;
}

// --- retention

// Index of the checkpoint with the least held-out NLL (among equals the oldest); -1 where none was evaluated. A figure
// of another evaluation than the newest one's cannot be compared, and does not count.
static int64_t find_best(const char *checkpoints, const lw_checkpoint_entry *entries, int64_t count,
                         lw_checkpoint_known *known, const listener *to)
{
    int64_t best = -1;
    double least = INFINITY;
    uint64_t evaluation = 0;
    for (int64_t i = 0; i < count; i++) { // newest first
        lw_error ignored;
        lw_checkpoint_info info;
        char *dir = NULL;
        bool better = lw_path_join(checkpoints, entries[i].name, &ignored, &dir) == LW_OK &&
                      lw_manifest_read(dir, LW_MANIFEST_ALONE, NULL, &ignored, &info) == LW_OK &&
                      isfinite(info.eval_nll) && info.eval_nll <= least && (best < 0 || info.eval_hash == evaluation);
        if (better && is_good(checkpoints, &entries[i], known, to, &info)) {
            least = info.eval_nll;
            evaluation = info.eval_hash;
            best = i;
        }
        free(dir);
    }
    return best;
}

static void mark_best(const char *run_dir, const char *name, const listener *to)
{
    lw_error err;
    lw_status status = name != NULL ? write_mark(run_dir, "best", name, &err) : remove_mark(run_dir, "best", &err);
    if (status != LW_OK) {
        warn_of(to, &err, "\"best\" does not name the best checkpoint");
    }
}

// Among the newest, only those count from which a run can safely continue: they verify, and no step was skipped just
// before. Later steps are those that a resume passed over or a changed run left behind; if they were counted among the
// newest, the checkpoint just written would be the first to go.
static void retire(const char *run_dir, const char *checkpoints, int64_t step, const lw_checkpoint_retention *retention,
                   const listener *to)
{
    lw_error err;
    lw_checkpoint_entry *entries = NULL;
    int64_t count = 0;
    if (lw_checkpoint_list(checkpoints, &err, &entries, &count) != LW_OK) {
        warn_of(to, &err, "old checkpoints were not removed");
        return;
    }
    int64_t later = 0;
    while (later < count && entries[later].step > step) {
        later++;
    }
    lw_checkpoint_known *known = retention->known;
    remember(known, step, true); // it has just been written
    int64_t best = retention->keep_best ? find_best(checkpoints, entries + later, count - later, known, to) : -1;
    best += best >= 0 ? later : 0;
    mark_best(run_dir, best >= 0 ? entries[best].name : NULL, to);
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++) {
        const lw_checkpoint_entry *entry = &entries[i];
        bool newest = i >= later && !entry->old && kept < retention->keep;
        bool nth = i >= later && !entry->old && retention->keep_every > 0 && entry->step % retention->keep_every == 0;
        lw_checkpoint_info info;
        kept += newest && is_good(checkpoints, entry, known, to, &info) && info.skipped_in_row == 0 ? 1 : 0;
        if (!newest && !nth && i != best && lw_checkpoint_discard(checkpoints, entry->name, &err) != LW_OK) {
            warn_of(to, &err, "an old checkpoint was not removed");
        }
    }
    free(entries);
}

void lw_checkpoint_retain(const char *run_dir, int64_t step, const lw_checkpoint_retention *retention,
                          lw_checkpoint_warn warn, void *context)
{
    const listener to = {.warn = warn, .context = context};
    char name[40];
    char *checkpoints = NULL;
    lw_error err;
    lw_checkpoint_name(step, name);
    if (write_mark(run_dir, "latest", name, &err) != LW_OK) {
        warn_of(&to, &err, "the checkpoint is in place, but \"latest\" does not name it");
    }
    if (lw_path_join(run_dir, "checkpoints", &err, &checkpoints) != LW_OK) {
        warn_of(&to, &err, "old checkpoints were not removed");
        return;
    }
    retire(run_dir, checkpoints, step, retention, &to);
    free(checkpoints);
}
