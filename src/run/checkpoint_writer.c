// checkpoint_writer.c: the thread that writes checkpoints.
#include "run/checkpoint_writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/worker.h"

enum { MAX_WARNINGS = 8 };

typedef enum writer_task { TASK_NONE, TASK_TRIAL, TASK_CHECKPOINT } writer_task;

struct lw_checkpoint_writer {
    lw_checkpoint_writer_options options; // never changed once the thread runs
    int64_t bytes;                        // most bytes of a checkpoint; never changed once the thread runs
    lw_checkpoint_known known;            // used by the thread alone
    lw_worker worker;                     // its mutex guards all below
    bool stop;
    writer_task task;        // TASK_NONE: the writer is idle, and its owner may fill the buffers of the state
    lw_checkpoint_info info; // of the task
    bool finished;           // a task has ended well, and the owner has not yet taken `written`
    lw_checkpoint_written written;
    lw_status status; // a failure here is final
    lw_error error;
    char warnings[MAX_WARNINGS][sizeof(lw_error)]; // those that the owner has not yet taken
    int warning_count, lost_warnings;
};

// --- the thread

static void keep_warning(void *context, const char *message)
{
    lw_checkpoint_writer *w = context;
    pthread_mutex_lock(&w->worker.mutex);
    if (w->warning_count < MAX_WARNINGS) {
        snprintf(w->warnings[w->warning_count++], sizeof w->warnings[0], "%s", message);
    } else {
        w->lost_warnings++;
    }
    pthread_mutex_unlock(&w->worker.mutex);
}

static lw_status perform(lw_checkpoint_writer *w, writer_task task, const lw_checkpoint_info *info, lw_error *err,
                         lw_checkpoint_written *out)
{
    const lw_checkpoint_writer_options *o = &w->options;
    if (task == TASK_TRIAL) {
        return lw_checkpoint_trial(o->run_dir, w->bytes, err, &out->free_bytes);
    }
    lw_checkpoint_retention retention = o->retention;
    retention.known = &w->known;
    return lw_checkpoint_write(o->run_dir, info, &o->state, &retention, keep_warning, w, err);
}

static void pause_s(double seconds)
{
    double whole = floor(seconds);
    struct timespec left = {.tv_sec = (time_t)whole, .tv_nsec = (long)((seconds - whole) * 1e9)};
    nanosleep(&left, NULL);
}

static lw_status perform_twice(lw_checkpoint_writer *w, writer_task task, const lw_checkpoint_info *info, lw_error *err,
                               lw_checkpoint_written *out)
{
    double start_s = lw_now_s();
    *out = (lw_checkpoint_written){.trial = task == TASK_TRIAL, .step = info->step, .bytes = w->bytes};
    lw_status status = perform(w, task, info, err, out);
    if (status != LW_OK) {
        (void)lw_fail_in(err, status, "trying once more");
        keep_warning(w, err->text);
        pause_s(w->options.retry_pause_s);
        status = perform(w, task, info, err, out);
    }
    out->write_s = lw_now_s() - start_s;
    return status;
}

static void *run(void *context)
{
    lw_checkpoint_writer *w = context;
    pthread_mutex_lock(&w->worker.mutex);
    for (;;) {
        while (w->task == TASK_NONE && !w->stop) {
            pthread_cond_wait(&w->worker.changed, &w->worker.mutex);
        }
        if (w->task == TASK_NONE) {
            break;
        }
        writer_task task = w->task;
        lw_checkpoint_info info = w->info;
        lw_checkpoint_written written;
        lw_error err;
        pthread_mutex_unlock(&w->worker.mutex);
        lw_status status = perform_twice(w, task, &info, &err, &written);
        pthread_mutex_lock(&w->worker.mutex);
        if (status == LW_OK) {
            w->finished = true;
            w->written = written;
        } else {
            w->status = status;
            w->error = err;
        }
        w->task = TASK_NONE;
        pthread_cond_broadcast(&w->worker.changed);
    }
    pthread_mutex_unlock(&w->worker.mutex);
    return NULL;
}

// --- its owner

lw_status lw_checkpoint_writer_create(const lw_checkpoint_writer_options *options, lw_error *err,
                                      lw_checkpoint_writer **out)
{
    int64_t bytes = 0;
    LW_TRY(lw_checkpoint_bytes(&options->state, err, &bytes));
    lw_checkpoint_writer *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the writer of checkpoints");
    }
    w->options = *options;
    w->bytes = bytes;
    // The worker blocks signals, so that a file size limit fails the write instead of killing the run (SIGXFSZ).
    lw_status status = lw_worker_start(&w->worker, run, w, "to write checkpoints", err);
    if (status != LW_OK) {
        free(w);
        return status;
    }
    *out = w;
    return LW_OK;
}

void lw_checkpoint_writer_destroy(lw_checkpoint_writer **writer)
{
    lw_checkpoint_writer *w = *writer;
    if (w == NULL) {
        return;
    }
    pthread_mutex_lock(&w->worker.mutex);
    w->stop = true;
    pthread_cond_broadcast(&w->worker.changed);
    pthread_mutex_unlock(&w->worker.mutex);
    lw_worker_join(&w->worker);
    lw_checkpoint_known_free(&w->known);
    free(w);
    *writer = NULL;
}

static void begin(lw_checkpoint_writer *w, writer_task task, const lw_checkpoint_info *info)
{
    pthread_mutex_lock(&w->worker.mutex);
    if (w->task == TASK_NONE && w->status == LW_OK) {
        w->task = task;
        w->info = *info;
        pthread_cond_broadcast(&w->worker.changed);
    }
    pthread_mutex_unlock(&w->worker.mutex);
}

void lw_checkpoint_writer_start(lw_checkpoint_writer *writer, const lw_checkpoint_info *info)
{
    begin(writer, TASK_CHECKPOINT, info);
}

void lw_checkpoint_writer_start_trial(lw_checkpoint_writer *writer)
{
    const lw_checkpoint_info none = {0};
    begin(writer, TASK_TRIAL, &none);
}

bool lw_checkpoint_writer_wait(lw_checkpoint_writer *w, double seconds)
{
    const struct timespec until = lw_worker_until(seconds);
    int errnum = 0;
    pthread_mutex_lock(&w->worker.mutex);
    while (w->task != TASK_NONE && errnum == 0 && seconds > 0.0) {
        errnum = pthread_cond_timedwait(&w->worker.changed, &w->worker.mutex, &until);
    }
    bool idle = w->task == TASK_NONE;
    pthread_mutex_unlock(&w->worker.mutex);
    return idle;
}

lw_status lw_checkpoint_writer_poll(lw_checkpoint_writer *w, lw_checkpoint_warn warn, void *context, lw_error *err,
                                    bool *finished, lw_checkpoint_written *out)
{
    pthread_mutex_lock(&w->worker.mutex);
    for (int i = 0; i < w->warning_count; i++) {
        warn(context, w->warnings[i]);
    }
    if (w->lost_warnings > 0) {
        char more[64];
        snprintf(more, sizeof more, "and %d more warnings of that checkpoint", w->lost_warnings);
        warn(context, more);
    }
    w->warning_count = 0;
    w->lost_warnings = 0;
    *finished = w->finished;
    if (w->finished) {
        *out = w->written;
        w->finished = false;
    }
    lw_status status = w->status;
    if (status != LW_OK) {
        *err = w->error;
    }
    pthread_mutex_unlock(&w->worker.mutex);
    return status;
}
