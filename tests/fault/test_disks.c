// Bad disks under a run of the real program: a disk that is full, broken, over quota or read-only from some moment on,
// a run directory that vanishes, a checkpoint that fails once, a file system that is too small, and damage at rest. The
// program says what and where, leaves with the right code, and goes on from the last good checkpoint with the same
// bits.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job.h"
#include "trace.h"

enum { STEPS = 23, LAST_GOOD = 20, EVERY_STEPS = 4, BAD_STEP = 12 };

#define CHANGES "create+write+fsync+rename+mkdir+truncate"

static const lw_inject_class changes[] = {LW_CALL_create, LW_CALL_write, LW_CALL_fsync,
                                          LW_CALL_rename, LW_CALL_mkdir, LW_CALL_truncate};

static int cases = 0;

// Number of the first call of the classes in CHANGES that is about `path`; 0: there is none.
static long first_about(const trace *t, const char *path)
{
    long n = 0;
    for (long i = 0; i < t->count; i++) {
        for (size_t c = 0; c < sizeof changes / sizeof changes[0]; c++) {
            if (t->calls[i].call == changes[c]) {
                n++;
                if (strstr(t->calls[i].path, path) != NULL) {
                    return n;
                }
            }
        }
    }
    return 0;
}

static bool says(const job *j, const char *words)
{
    char text[LAUNCH_TEXT_BYTES];
    return strstr(launch_text(j->output, text), words) != NULL;
}

// The next start, with nothing wrong, ends as the undisturbed run did.
static void check_resume(job *j, const char *name, int ranks, const char *whole)
{
    int code = -1;
    if (!job_run(j, ranks, NULL, false, launch_patience_s(30.0), &code) || code != 0) {
        job_fail(j, "%s: starting again ended with %d", name, code);
    } else if (!job_same(j, "run", whole)) {
        job_fail(j, "%s: starting again did not end with the same bits", name);
    }
}

static void check_kept(const job *j, const char *name, const char *folder)
{
    int broken = 0;
    int64_t verified = job_verified_step(j, folder, &broken);
    if (broken > 0 || verified < BAD_STEP - EVERY_STEPS) {
        job_fail(j, "%s: the newest checkpoint that verifies is of step %lld, %d do not", name, (long long)verified,
                 broken);
    }
}

// --- from some moment on

static void bad_from_then_on(job *j, long n, int error)
{
    char inject[200];
    char name[120];
    int code = -1;
    cases++;
    snprintf(name, sizeof name, "%s in the middle", strerror(error));
    snprintf(inject, sizeof inject, "calls=" CHANGES ",n=%ld,action=fail,error=%d,sticky=1,rank=0", n, error);
    job_clear(j, "run");
    if (!job_run(j, 2, inject, false, launch_patience_s(20.0), &code) || code != 1) {
        job_fail(j, "%s: it ended with %d", name, code);
    }
    if (!says(j, strerror(error)) || !says(j, "step-000012")) {
        job_fail(j, "%s: no message says so of step-000012", name);
    }
    check_kept(j, name, "run");
    check_resume(j, name, 2, "whole2");
}

// A write that fails once is told, tried again, and the run goes on.
static void bad_once(job *j, const char *whole)
{
    int code = -1;
    cases++;
    job_clear(j, "run");
    if (!job_run(j, 0, "calls=fsync,path=step-000012,n=1,action=fail,error=28", false, launch_patience_s(20.0),
                 &code) ||
        code != 0 || !job_same(j, "run", whole)) {
        job_fail(j, "a checkpoint that fails once: it ended with %d, or with other bits", code);
    }
    if (!says(j, strerror(ENOSPC)) || !says(j, "step-000012")) {
        job_fail(j, "a checkpoint that fails once: no message says so");
    }
}

static void vanished(job *j, long n, const char *whole)
{
    static const char name[] = "the run directory vanishes";
    char inject[200];
    char command[1024];
    int code = -1;
    cases++;
    snprintf(inject, sizeof inject, "calls=" CHANGES ",n=%ld,action=vanish,rank=0", n);
    job_clear(j, "run");
    job_clear(j, "gone");
    if (!job_run(j, 2, inject, false, launch_patience_s(20.0), &code) || code != 1) {
        job_fail(j, "%s: it ended with %d", name, code);
    }
    if (!says(j, j->run)) {
        job_fail(j, "%s: no message names it", name);
    }
    check_kept(j, name, "gone");
    snprintf(command, sizeof command, "rm -rf '%s' && mv '%s/gone' '%s'", j->run, j->root, j->run);
    if (system(command) != 0) {
        job_fail(j, "%s: cannot put it back", name);
        return;
    }
    check_resume(j, name, 2, whole);
}

// --- a file system that is too small for one checkpoint

static void too_small(job *j, const char *whole)
{
    static const char name[] = "a file system smaller than a checkpoint";
    int code = -1;
    char number[32];
    job_clear(j, "run");
    if (mkdir(j->run, 0777) != 0 || mount("tmpfs", j->run, "tmpfs", 0, "size=400k") != 0) {
        printf("%s: left out, as nothing can be mounted here (%s)\n", name, strerror(errno));
        rmdir(j->run);
        return;
    }
    cases++;
    if (!job_run(j, 2, NULL, false, launch_patience_s(20.0), &code) || code != 1) {
        job_fail(j, "%s: it ended with %d", name, code);
    }
    snprintf(number, sizeof number, "%lld", (long long)(job_state_bytes(j, whole, STEPS) / 100000)); // leading digits
    if (!says(j, strerror(ENOSPC)) || !says(j, number) || !says(j, j->run)) {
        job_fail(j, "%s: no message names the bytes it takes (%s...) and the directory", name, number);
    }
    if (job_last_step(j, "run") > 0) {
        job_fail(j, "%s: it began to train", name);
    }
    if (umount(j->run) != 0) {
        job_fail(j, "%s: cannot unmount: %s", name, strerror(errno));
    }
    rmdir(j->run);
}

// --- damage at rest

typedef struct damage {
    const char *name;
    const char *command; // in the run directory; the newest checkpoint is of LAST_GOOD
    const char *says;    // NULL: nothing need be said
} damage;

static const damage damages[] = {
    {"a file of a checkpoint is missing", "rm checkpoints/step-000020/state.safetensors", "step-000020"},
    {"the manifest is missing", "rm checkpoints/step-000020/manifest.json", "step-000020"},
    {"a flipped bit in a manifest", "sed -i 's/\"samples\": 1/\"samples\": 3/' checkpoints/step-000020/manifest.json",
     "step-000020"},
    {"a flipped bit in the tensors",
     "f=checkpoints/step-000020/state.safetensors; b=$(od -An -tu1 -j 300000 -N 1 $f); "
     "printf \"\\\\$(printf %o $((b ^ 16)))\" | dd of=$f bs=1 seek=300000 conv=notrunc status=none",
     "step-000020/state.safetensors is damaged"},
    {"a short file", "truncate -s -1 checkpoints/step-000020/state.safetensors", "step-000020"},
    {"a longer file", "printf x >>checkpoints/step-000020/state.safetensors", "step-000020"},
    {"a manifest that leaves its folder",
     "sed -i 's#\"state.safetensors\"#\"../step-000016/state.safetensors\"#' checkpoints/step-000020/manifest.json",
     "step-000020"},
    {"a file in the place of a checkpoint", "rm -r checkpoints/step-000020 && echo x >checkpoints/step-000020",
     "step-000020"},
    {"an empty checkpoint", "rm checkpoints/step-000020/*", "step-000020"},
    {"latest points nowhere", "echo step-777777 >latest", NULL},
    {"latest is no name", "printf '../../etc\\n\\377' >latest", NULL},
    {"latest is missing", "rm latest", NULL},
    {"latest is a link to nowhere", "rm latest && ln -s nowhere latest", NULL},
};

static void damaged(job *j, const damage *d, const char *whole)
{
    char command[1024];
    cases++;
    job_copy(j, "base", "run");
    snprintf(command, sizeof command, "cd '%s' && { %s; }", j->run, d->command);
    if (system(command) != 0) {
        job_fail(j, "%s: cannot be made", d->name);
        return;
    }
    check_resume(j, d->name, 0, whole);
    if (d->says != NULL && (!says(j, "warning: ") || !says(j, d->says))) {
        job_fail(j, "%s: no warning names %s", d->name, d->says);
    }
}

int main(void)
{
    static const char *const words[] = {"train.epochs=2",    "checkpoint.every_steps=4", "checkpoint.keep=3",
                                        "comm.timeout_s=10", "data.eval_samples=10",     NULL};
    static const int errors[] = {ENOSPC, EIO, EDQUOT, EROFS};
    job j = {.root = ""};
    trace t;
    int code = -1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    job_make(&j);
    memcpy(j.extra, words, sizeof words);
    bool ready = job_run(&j, 2, NULL, true, launch_patience_s(30.0), &code) && code == 0 && trace_read(j.notes, 0, &t);
    job_copy(&j, "run", "whole2");
    job_clear(&j, "run");
    ready = ready && job_run(&j, 0, NULL, false, launch_patience_s(30.0), &code) && code == 0;
    long n = ready ? first_about(&t, "checkpoints/step-000012") : 0;
    if (!ready || n == 0 || job_last_step(&j, "run") != STEPS) {
        job_fail(&j, "the undisturbed runs ended with %d", code);
        return 1;
    }
    trace_free(&t);
    job_copy(&j, "run", "whole1");
    job_copy(&j, "run", "base");
    job_cut_back(&j, "base", LAST_GOOD);
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        bad_from_then_on(&j, n, errors[i]);
    }
    bad_once(&j, "whole1");
    vanished(&j, n, "whole2");
    too_small(&j, "whole2");
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        damaged(&j, &damages[i], "whole1");
    }
    printf("%d cases, %d failures\n", cases, job_failures());
    job_remove(&j);
    return job_failures() > 0;
}
