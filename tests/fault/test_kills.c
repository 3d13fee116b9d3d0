// Kills the real program at random moments, in several ways and at several numbers of ranks, starts it again (and
// kills that too, sometimes), and compares what it ends with to the bits of a run that nothing disturbed.
//
// A dozen kills by default; LWMPI_KILLS=200 for the long matrix, LWMPI_KILLS_SEED=N for other moments.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/clock.h"
#include "core/random.h"
#include "job.h"

enum { EVERY_STEPS = 8, STEPS = 160, MAX_RANKS = 3, MAX_KILLS_OF_A_RUN = 4, DEFAULT_KILLS = 12 };

typedef enum kind {
    KILL_JOB,
    KILL_RANK,
    TERM_RANK,
    USR1_LAUNCHER,
    TERM_LAUNCHER,
    KILL_LAUNCHER,
    USR1_RANK,
    INT_RANK,
    KINDS
} kind;
static const char *const kind_names[KINDS] = {"kill -9 of the job", "kill -9 of a rank", "TERM to a rank",
                                              "USR1 to mpirun",     "TERM to mpirun",    "kill -9 of mpirun",
                                              "USR1 to a rank",     "INT to a rank"};

typedef enum moment { AT_START, IN_STEPS, IN_CHECKPOINT, IN_EVALUATION, ANY_TIME, MOMENTS } moment;
static const char *const moment_names[MOMENTS] = {"start", "steps", "checkpoint", "evaluation", "any time"};

typedef struct figures {
    int kills, resumes, stopped_well, too_late;
    int by_kind[KINDS], by_moment[MOMENTS];
    long long bytes_lost;      // of checkpoints that were promised and do not verify
    long long bytes_half_made; // in *.tmp when the kill came
    long long worst_lost;      // steps
    int lost_in_write;         // kills that lost more than an interval, as a checkpoint was being written
    double slowest_detection_s, sum_detection_s;
    int detections;
} figures;

typedef struct test {
    job j;
    uint64_t seed, drawn;
    double whole_s[MAX_RANKS + 1]; // of an undisturbed run
    double start_s[MAX_RANKS + 1]; // until its first step
    long long checkpoint_bytes;
    launch_process crew[LAUNCH_MAX_PROCESSES]; // of the job that is about to be killed
    int crew_count;
    figures f;
} test;

static uint64_t draw(test *t, uint64_t below)
{
    return lw_random_u64(t->seed, 0, t->drawn++) % below;
}

static double draw_unit(test *t)
{
    return (double)draw(t, 1000000) / 1e6;
}

// --- waiting for a moment; false when the run has ended before

static bool wait_for_step(const test *t, const launched *p, int64_t step, int *code)
{
    while (job_last_step(&t->j, "run") < step) {
        if (launch_ended(p, code)) {
            return false;
        }
        launch_sleep_s(0.003);
    }
    return true;
}

// Files of checkpoints being made: their bytes; -1: no checkpoint is being made.
static long long half_made_bytes(const test *t)
{
    char path[400];
    long long bytes = -1;
    snprintf(path, sizeof path, "%s/checkpoints", t->j.run);
    DIR *dir = opendir(path);
    for (const struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        if (strncmp(e->d_name, "step-", 5) != 0 || strstr(e->d_name, ".tmp") == NULL) {
            continue;
        }
        char inner[700];
        bytes = bytes < 0 ? 0 : bytes;
        snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
        DIR *tmp = opendir(inner);
        for (const struct dirent *f = tmp != NULL ? readdir(tmp) : NULL; f != NULL; f = readdir(tmp)) {
            struct stat st;
            if (fstatat(dirfd(tmp), f->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
                bytes += st.st_size;
            }
        }
        if (tmp != NULL) {
            closedir(tmp);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return bytes;
}

static bool wait_for_half_made(const test *t, const launched *p, int *code)
{
    while (half_made_bytes(t) < 0) {
        if (launch_ended(p, code)) {
            return false;
        }
    }
    return true;
}

static void muster(test *t, const launched *p)
{
    t->crew_count = launch_processes(p, t->crew);
}

static bool wait_for(test *t, const launched *p, moment m, int ranks, int *code)
{
    int64_t step = job_last_step(&t->j, "run");
    int64_t left = STEPS - 2 * EVERY_STEPS - step;
    left = left > 1 ? left : 1;
    switch (m) {
    case AT_START: launch_sleep_s(t->start_s[ranks] * draw_unit(t)); break;
    case IN_STEPS: return wait_for_step(t, p, step + 1 + (int64_t)draw(t, (uint64_t)left), code);
    case IN_CHECKPOINT:
        if (!wait_for_step(t, p, step + 1 + (int64_t)draw(t, (uint64_t)left), code)) {
            return false;
        }
        muster(t, p); // now: it takes longer than writing a small checkpoint
        if (!wait_for_half_made(t, p, code)) {
            return false;
        }
        launch_sleep_s(0.002 * draw_unit(t));
        return !launch_ended(p, code);
    case IN_EVALUATION:
        if (!wait_for_step(t, p, STEPS, code)) {
            return false;
        }
        launch_sleep_s(0.3 * draw_unit(t));
        break;
    default: launch_sleep_s(t->whole_s[ranks] * draw_unit(t)); break;
    }
    muster(t, p);
    return !launch_ended(p, code);
}

// --- killing

static pid_t one_rank(test *t, int ranks)
{
    int rank = (int)draw(t, (uint64_t)ranks);
    for (int i = 0; i < t->crew_count; i++) {
        if (t->crew[i].is_program && t->crew[i].rank == rank) {
            return t->crew[i].pid;
        }
    }
    return 0;
}

// False when there was nobody to kill yet, or any more.
static bool strike(test *t, const launched *p, kind k, int ranks)
{
    pid_t rank = one_rank(t, ranks);
    switch (k) {
    case KILL_JOB:
        for (int i = 0; i < t->crew_count; i++) {
            (void)kill(t->crew[i].pid, SIGKILL);
        }
        launch_kill_all(p); // who came since
        return true;
    case KILL_RANK: return rank > 0 && kill(rank, SIGKILL) == 0;
    case TERM_RANK: return rank > 0 && kill(rank, SIGTERM) == 0;
    case USR1_RANK: return rank > 0 && kill(rank, SIGUSR1) == 0;
    case INT_RANK: return rank > 0 && kill(rank, SIGINT) == 0;
    case USR1_LAUNCHER: return kill(p->pid, SIGUSR1) == 0;
    case TERM_LAUNCHER: return kill(p->pid, SIGTERM) == 0;
    case KILL_LAUNCHER: return kill(p->pid, SIGKILL) == 0;
    case KINDS: break;
    }
    return false;
}

// Whether this end is one that such a kill may lead to.
static bool is_right_end(kind k, int code)
{
    switch (k) {
    case KILL_JOB:
    case KILL_LAUNCHER: return code == 128 + SIGKILL || code == 0;
    // At the very end the others may have had nothing more to do with the dead one.
    case KILL_RANK: return code != 75;
    // 75 after a checkpoint; before the program listens, and in a launcher of its own mind, it is the signal itself.
    case TERM_RANK:
    case TERM_LAUNCHER: return code == 75 || code == 0 || code == 1 || code == 128 + SIGTERM || code == 128 + SIGKILL;
    case USR1_RANK:
    case USR1_LAUNCHER: return code == 75 || code == 0 || code == 1 || code == 128 + SIGUSR1;
    case INT_RANK: return code == 130 || code == 0 || code == 1; // 130 is also the signal's own
    case KINDS: break;
    }
    return false;
}

// Open MPI's mpirun, told to end while it starts a job, may fall itself, in PMIx_Finalize: seen with Open MPI 4.1.4 and
// PMIx 4.2.2. No frame of such a report is lwmpi's.
static bool launcher_fell(const test *t, kind k, int code)
{
    char text[LAUNCH_TEXT_BYTES];
    bool told = k == TERM_LAUNCHER || k == USR1_LAUNCHER;
    launch_text(t->j.output, text);
    return told && code == 128 + SIGSEGV && strstr(text, "(PMIx_Finalize+") != NULL && strstr(text, "lwmpi(") == NULL;
}

static void check_left(test *t, const char *what)
{
    int broken = 0;
    figures *f = &t->f;
    int64_t verified = job_verified_step(&t->j, "run", &broken);
    int64_t promised = job_promised_step(&t->j, "run");
    int64_t done = job_last_step(&t->j, "run");
    int64_t lost = done - (verified > 0 ? verified : 0);
    long long half = half_made_bytes(t);
    f->bytes_half_made += half > 0 ? half : 0;
    f->worst_lost = lost > f->worst_lost ? lost : f->worst_lost;
    if (broken > 0 || verified < promised) {
        f->bytes_lost += (broken > 0 ? broken : 1) * t->checkpoint_bytes;
        job_fail(&t->j, "%s: %d checkpoints do not verify; the newest that does is of step %lld, \"latest\" says %lld",
                 what, broken, (long long)verified, (long long)promised);
    }
    // One checkpoint may be on its way to the disk, and only one.
    f->lost_in_write += lost > EVERY_STEPS;
    if (verified < (done / EVERY_STEPS - 1) * EVERY_STEPS) {
        job_fail(&t->j, "%s: %lld steps are lost (done %lld, checkpoint %lld), with checkpoint.every_steps = %d", what,
                 (long long)lost, (long long)done, (long long)verified, EVERY_STEPS);
    }
}

// One start that is killed. False when the run ended before.
static bool one_kill(test *t, int ranks, kind k, moment m)
{
    launched p;
    char what[160];
    char text[LAUNCH_TEXT_BYTES];
    int code = -1;
    figures *f = &t->f;
    snprintf(what, sizeof what, "kill %d: %s, %d ranks, %s", f->kills + 1, kind_names[k], ranks, moment_names[m]);
    if (!job_start(&t->j, ranks, NULL, &p)) {
        job_fail(&t->j, "%s: cannot start", what);
        return false;
    }
    if (!wait_for(t, &p, m, ranks, &code)) {
        f->too_late++;
        if (code != 0) {
            job_fail(&t->j, "%s: it ended with %d before it was killed", what, code);
        }
        return false;
    }
    double start_s = lw_now_s();
    bool struck = strike(t, &p, k, ranks);
    bool ended = launch_wait(&p, launch_patience_s(20.0), &code) && launch_gone(&p, launch_patience_s(10.0));
    double took_s = lw_now_s() - start_s;
    f->kills++;
    f->by_kind[k]++;
    f->by_moment[m]++;
    if (!ended) {
        launch_kill_all(&p);
        job_fail(&t->j, "%s: its processes were still there after %.0f s", what, took_s);
    } else if (struck && (k == KILL_RANK || k == KILL_LAUNCHER)) {
        f->detections++;
        f->sum_detection_s += took_s;
        f->slowest_detection_s = took_s > f->slowest_detection_s ? took_s : f->slowest_detection_s;
    }
    if (ended && !is_right_end(k, code) && !launcher_fell(t, k, code)) {
        job_fail(&t->j, "%s: exit code %d", what, code);
    }
    f->stopped_well += code == 75 || (code == 130 && strstr(launch_text(t->j.output, text), "stopped by") != NULL);
    launch_text(t->j.output, text);
    if (launch_crash_in(text) != NULL && strstr(text, "Sanitizer") != NULL) {
        job_fail(&t->j, "%s: a sanitizer reports", what);
    }
    check_left(t, what);
    return true;
}

// A run from its beginning to its end, killed once or several times on the way.
static void one_run(test *t, int wanted)
{
    char whole[32];
    int code = -1;
    int ranks = (int)(draw(t, 20) < 8 ? 1 : draw(t, 12) < 9 ? 2 : 3);
    int kills = 1;
    while (kills < MAX_KILLS_OF_A_RUN && draw(t, 10) < 3) {
        kills++;
    }
    job_clear(&t->j, "run");
    for (int i = 0; i < kills && t->f.kills < wanted; i++) {
        // In turn, so that a dozen kills see them all.
        kind k = (kind)(t->f.kills % KINDS);
        moment m = (moment)((t->f.kills + t->f.kills / KINDS) % MOMENTS);
        t->f.resumes += i > 0;
        if (!one_kill(t, ranks, k, m)) {
            break;
        }
    }
    t->f.resumes++;
    snprintf(whole, sizeof whole, "whole%d", ranks);
    if (!job_run(&t->j, ranks, NULL, false, launch_patience_s(40.0), &code) || code != 0) {
        job_fail(&t->j, "kill %d: starting again at %d ranks ended with %d", t->f.kills, ranks, code);
    } else if (!job_same(&t->j, "run", whole)) {
        job_fail(&t->j, "kill %d: starting again at %d ranks did not end with the bits of the undisturbed run",
                 t->f.kills, ranks);
    }
}

static void undisturbed(test *t, int ranks)
{
    char whole[32];
    launched p;
    int code = -1;
    snprintf(whole, sizeof whole, "whole%d", ranks);
    job_clear(&t->j, "run");
    if (!job_start(&t->j, ranks, NULL, &p) || !wait_for_step(t, &p, 1, &code)) {
        job_fail(&t->j, "the undisturbed run at %d ranks did not start", ranks);
        exit(1);
    }
    t->start_s[ranks] = lw_now_s() - p.start_s;
    if (!launch_wait(&p, launch_patience_s(60.0), &code) || code != 0 || job_last_step(&t->j, "run") != STEPS) {
        job_fail(&t->j, "the undisturbed run at %d ranks ended with %d", ranks, code);
        exit(1);
    }
    t->whole_s[ranks] = lw_now_s() - p.start_s;
    t->checkpoint_bytes = job_state_bytes(&t->j, "run", STEPS);
    job_copy(&t->j, "run", whole);
    printf("undisturbed at %d ranks: %.1f s, %.1f s of them before the first step\n", ranks, t->whole_s[ranks],
           t->start_s[ranks]);
}

static void print_figures(const figures *f)
{
    printf("%d kills tried:", f->kills);
    for (int k = 0; k < KINDS; k++) {
        printf(" %s %d%s", kind_names[k], f->by_kind[k], k + 1 < KINDS ? "," : "\n");
    }
    printf("moments:");
    for (int m = 0; m < MOMENTS; m++) {
        printf(" %s %d%s", moment_names[m], f->by_moment[m], m + 1 < MOMENTS ? "," : "\n");
    }
    printf("%d resumes, %d stopped with a checkpoint, %d runs ended before their kill\n", f->resumes, f->stopped_well,
           f->too_late);
    printf("bytes lost %lld (of half-made checkpoints %lld, as they may), worst steps lost %lld at an interval of "
           "%d (%d times more than that, in a write), a dead process detected in %.2f s on average and %.2f s at worst "
           "of %d, %d failures\n",
           f->bytes_lost, f->bytes_half_made, f->worst_lost, EVERY_STEPS, f->lost_in_write,
           f->detections > 0 ? f->sum_detection_s / f->detections : 0.0, f->slowest_detection_s, f->detections,
           job_failures());
}

int main(void)
{
    static const char *const words[] = {"train.epochs=14", "checkpoint.every_steps=8", "checkpoint.keep=3",
                                        "comm.timeout_s=30", NULL};
    test t = {.seed = 1};
    const char *kills_text = getenv("LWMPI_KILLS"); // the long matrix
    const char *seed_text = getenv("LWMPI_KILLS_SEED");
    int kills = kills_text != NULL ? (int)strtol(kills_text, NULL, 10) : DEFAULT_KILLS;
    t.seed = seed_text != NULL ? strtoull(seed_text, NULL, 10) : t.seed;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%d kills, LWMPI_KILLS_SEED=%llu\n", kills, (unsigned long long)t.seed);
    job_make(&t.j);
    memcpy(t.j.extra, words, sizeof words);
    for (int ranks = 1; ranks <= MAX_RANKS; ranks++) {
        undisturbed(&t, ranks);
    }
    int told = 0;
    for (int runs = 0; t.f.kills < kills && runs < 3 * kills && job_failures() < 10; runs++) {
        one_run(&t, kills);
        if (t.f.kills >= told + 25) {
            told = t.f.kills;
            printf("%d kills, %d resumes, worst steps lost %lld, %d failures\n", told, t.f.resumes, t.f.worst_lost,
                   job_failures());
        }
    }
    print_figures(&t.f);
    if (t.f.kills < kills) {
        job_fail(&t.j, "%d of %d kills", t.f.kills, kills);
    }
    job_remove(&t.j);
    return job_failures() > 0;
}
