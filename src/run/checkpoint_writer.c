#include "run/checkpoint_writer.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"

enum { NOTES = 8 };

typedef enum writer_task { TASK_NONE, TASK_TRIAL, TASK_CHECKPOINT } writer_task;

struct lw_checkpoint_writer {
    lw_checkpoint_writer_options options; // never changed once the thread runs
    int64_t bytes;                        // of a checkpoint, at most; likewise
    lw_checkpoint_known known;            // the thread's
    pthread_t thread;
    pthread_mutex_t mutex; // guards all below
    pthread_cond_t changed;
    bool stop;
    writer_task task;        // TASK_NONE: idle, and the state's buffers are the owner's
    lw_checkpoint_info info; // of the task
    bool finished;           // and `written` not yet told
    lw_checkpoint_written written;
    lw_status status; // of the writer, for good
    lw_error error;
    char notes[NOTES][sizeof(lw_error)]; // warnings that were not told yet
    int note_count, lost_notes;
};

// --- the thread

static void note(void *context, const char *message)
{
    lw_checkpoint_writer *w = context;
    pthread_mutex_lock(&w->mutex);
    if (w->note_count < NOTES) {
        snprintf(w->notes[w->note_count++], sizeof w->notes[0], "%s", message);
    } else {
        w->lost_notes++;
    }
    pthread_mutex_unlock(&w->mutex);
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
    return lw_checkpoint_write(o->run_dir, info, &o->state, &retention, note, w, err);
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
        note(w, err->text);
        pause_s(w->options.retry_pause_s);
        status = perform(w, task, info, err, out);
    }
    out->write_s = lw_now_s() - start_s;
    return status;
}

static void *run(void *context)
{
    lw_checkpoint_writer *w = context;
    pthread_mutex_lock(&w->mutex);
    for (;;) {
        while (w->task == TASK_NONE && !w->stop) {
            pthread_cond_wait(&w->changed, &w->mutex);
        }
        if (w->task == TASK_NONE) {
            break;
        }
        writer_task task = w->task;
        lw_checkpoint_info info = w->info;
        lw_checkpoint_written written;
        lw_error err;
        pthread_mutex_unlock(&w->mutex);
        lw_status status = perform_twice(w, task, &info, &err, &written);
        pthread_mutex_lock(&w->mutex);
        if (status == LW_OK) {
            w->finished = true;
            w->written = written;
        } else {
            w->status = status;
            w->error = err;
        }
        w->task = TASK_NONE;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

// --- its owner

static lw_status start_thread(lw_checkpoint_writer *w, lw_error *err)
{
    pthread_condattr_t clock;
    sigset_t all;
    sigset_t before;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &clock);
    pthread_condattr_destroy(&clock);
    // Signals are the main thread's; and a file size limit then fails the write instead of killing the run (SIGXFSZ).
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int errnum = pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errnum != 0) {
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->mutex);
        return lw_fail_errno(err, LW_ERR_MEMORY, errnum, "the thread that writes checkpoints cannot be started");
    }
    return LW_OK;
}

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
    lw_status status = start_thread(w, err);
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
    pthread_mutex_lock(&w->mutex);
    w->stop = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->mutex);
    lw_checkpoint_known_free(&w->known);
    free(w);
    *writer = NULL;
}

static void begin(lw_checkpoint_writer *w, writer_task task, const lw_checkpoint_info *info)
{
    pthread_mutex_lock(&w->mutex);
    if (w->task == TASK_NONE && w->status == LW_OK) {
        w->task = task;
        w->info = *info;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->mutex);
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
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    double at = (double)until.tv_nsec * 1e-9 + seconds;
    double whole = floor(at);
    until.tv_sec += (time_t)whole;
    until.tv_nsec = (long)((at - whole) * 1e9);
    int errnum = 0;
    pthread_mutex_lock(&w->mutex);
    while (w->task != TASK_NONE && errnum == 0 && seconds > 0.0) {
        errnum = pthread_cond_timedwait(&w->changed, &w->mutex, &until);
    }
    bool idle = w->task == TASK_NONE;
    pthread_mutex_unlock(&w->mutex);
    return idle;
}

lw_status lw_checkpoint_writer_poll(lw_checkpoint_writer *w, lw_checkpoint_warn warn, void *context, lw_error *err,
                                    bool *finished, lw_checkpoint_written *out)
{
    pthread_mutex_lock(&w->mutex);
    for (int i = 0; i < w->note_count; i++) {
        warn(context, w->notes[i]);
    }
    if (w->lost_notes > 0) {
        char more[64];
        snprintf(more, sizeof more, "and %d more warnings of that checkpoint", w->lost_notes);
        warn(context, more);
    }
    w->note_count = 0;
    w->lost_notes = 0;
    *finished = w->finished;
    if (w->finished) {
        *out = w->written;
        w->finished = false;
    }
    lw_status status = w->status;
    if (status != LW_OK) {
        *err = w->error;
    }
    pthread_mutex_unlock(&w->mutex);
    return status;
}
