// Walks over the calls of a short run of the real program (file operations, allocations, MPI operations), makes each go
// wrong in turn, and checks after each: no crash, a message that says what and where, the right exit code, in time; the
// checkpoints that were promised verify; and the next start, with nothing wrong, ends with the bits of a run in which
// nothing ever went wrong.
//
// A sample of the calls by default; LWMPI_FAULT_ALL=1 walks over every file and MPI operation, and over the first, the
// middle and the last allocation, or look at an MPI operation under way, of every place in the program (its call stack,
// that is); LWMPI_FAULT_ALL=2 over every allocation; LWMPI_FAULT_SHARD=1/4 over a fourth of that. README.md has the
// other variables.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "job.h"
#include "trace.h"

enum { BASE_STEP = 2, SAMPLE_CASES = 9, MAX_PATH_TEXT = 200 };

typedef struct way { // in which a call goes wrong
    const char *action;
    int error;
    bool sticky; // and all later calls of its class
} way;

typedef struct scenario {
    const char *name;
    int ranks;               // 0: without the launcher
    int rank;                // whose calls go wrong
    bool resumed;            // continues a checkpoint of step BASE_STEP
    const char *undisturbed; // folder of the run to compare with
} scenario;

typedef struct figures {
    long calls, cases, missed, survived, refused, killed, resumes;
    double slowest_s;
} figures;

// --- where a run starts

static void prepare(job *j, const scenario *s)
{
    job_clear_notes(j);
    job_clear(j, "calibration");
    if (s->resumed) {
        job_copy(j, s->ranks == 2 ? "base2" : "base1", "run");
    } else {
        job_clear(j, "run");
    }
}

// --- which ways for which class

static const way ways_open[] = {{"fail", EIO, false}, {"fail", EMFILE, false}, {"fail", EACCES, false}};
static const way ways_create[] = {
    {"fail", ENOSPC, false}, {"fail", EROFS, true}, {"kill", 0, false}, {"fail", EDQUOT, false}, {"fail", EIO, true}};
static const way ways_read[] = {{"fail", EIO, false}, {"short", 0, false}, {"end", 0, false}, {"fail", EINTR, false}};
static const way ways_write[] = {{"fail", ENOSPC, false}, {"kill", 0, false},     {"short", 0, false},
                                 {"fail", EIO, true},     {"fail", EINTR, false}, {"fail", EDQUOT, false},
                                 {"fail", ENOSPC, true}};
static const way ways_change[] = { // fsync, rename, mkdir, unlink, truncate
    {"fail", EIO, false},
    {"kill", 0, false},
    {"fail", EROFS, true},
    {"fail", ENOSPC, false},
    {"fail", EDQUOT, true}};
static const way ways_close[] = {{"fail", EIO, false}, {"kill", 0, false}, {"fail", EDQUOT, false}};
static const way ways_ask[] = {{"fail", EIO, false}, {"fail", EACCES, false}, {"fail", EIO, true}}; // map, list, stat
static const way ways_lock[] = {{"fail", EIO, false}, {"fail", ENOLCK, false}};
static const way ways_memory[] = {{"fail", ENOMEM, false}, {"fail", ENOMEM, true}};
static const way ways_mpi[] = {{"fail", 0, false}, {"hang", 0, false}};
static const way ways_poll[] = {{"fail", 0, false}}; // one that does not return is no operation that never completes

#define WAYS(list) (*count = (int)(sizeof(list) / sizeof(list)[0]), list)

static const way *ways_of(lw_inject_class call, int *count)
{
    switch (call) {
    case LW_CALL_open: return WAYS(ways_open);
    case LW_CALL_create: return WAYS(ways_create);
    case LW_CALL_read: return WAYS(ways_read);
    case LW_CALL_write: return WAYS(ways_write);
    case LW_CALL_close: return WAYS(ways_close);
    case LW_CALL_map:
    case LW_CALL_list:
    case LW_CALL_stat: return WAYS(ways_ask);
    case LW_CALL_lock: return WAYS(ways_lock);
    case LW_CALL_alloc:
    case LW_CALL_liballoc: return WAYS(ways_memory);
    case LW_CALL_mpi: return WAYS(ways_mpi);
    case LW_CALL_poll: return WAYS(ways_poll);
    default: return WAYS(ways_change);
    }
}

// --- what must hold

// What a message has to name of a path: its last part, without the suffix of a temporary file.
static void last_part(const char *path, char out[MAX_PATH_TEXT])
{
    const char *slash = strrchr(path, '/');
    snprintf(out, MAX_PATH_TEXT, "%s", slash != NULL ? slash + 1 : path);
    char *suffix = strstr(out, ".tmp");
    if (suffix != NULL) {
        *suffix = '\0';
    }
}

static bool names_cause(const traced_call *c, const way *w, const char *text)
{
    char part[MAX_PATH_TEXT];
    if (w->sticky && strstr(text, strerror(w->error)) != NULL) {
        return true; // the first may have been survived, and a later one named
    }
    switch (c->call) {
    case LW_CALL_alloc:
    case LW_CALL_liballoc: return strstr(text, "memory") != NULL || strstr(text, "cannot allocate") != NULL;
    case LW_CALL_mpi:
    case LW_CALL_poll: return strstr(text, "MPI") != NULL || strstr(text, "phase") != NULL;
    default: last_part(c->path, part); return strstr(text, part) != NULL;
    }
}

static bool was_hit(const job *j, int rank)
{
    char path[400];
    char text[LAUNCH_TEXT_BYTES];
    snprintf(path, sizeof path, "%s/hit.%d", j->notes, rank);
    return launch_text(path, text)[0] != '\0';
}

// Checks the end of a run in which one call went wrong.
static void check_end(job *j, const scenario *s, const traced_call *c, const way *w, const char *inject, int code,
                      figures *f)
{
    char text[LAUNCH_TEXT_BYTES];
    char message[2048];
    launch_text(j->output, text);
    bool kills = strcmp(w->action, "kill") == 0;
    const char *crash = launch_crash_in(text);
    if (crash != NULL && !kills) {
        job_fail(j, "%s: %s: it crashed: %.60s", s->name, inject, crash);
    }
    if (kills) {
        f->killed++;
        if (code != 137) {
            job_fail(j, "%s: %s: exit code %d after SIGKILL", s->name, inject, code);
        }
    } else if (code == 0) {
        f->survived++;
        if (!job_same(j, "run", s->undisturbed)) {
            job_fail(j, "%s: %s: it went on and ended well, but not with the same bits", s->name, inject);
        }
    } else {
        f->refused++;
        if (code != 1 && code != 2) {
            job_fail(j, "%s: %s: exit code %d", s->name, inject, code);
        }
        if (launch_last_message(text, message)[0] == '\0') {
            job_fail(j, "%s: %s: exit code %d without a message", s->name, inject, code);
        } else if (!names_cause(c, w, text)) {
            job_fail(j, "%s: %s: no message names the cause, %s", s->name, inject, c->path);
        }
    }
}

static void check_checkpoints(const job *j, const scenario *s, const char *inject)
{
    int broken = 0;
    int64_t verified = job_verified_step(j, "run", &broken);
    int64_t promised = job_promised_step(j, "run");
    if (broken > 0) {
        job_fail(j, "%s: %s: it left %d checkpoints that do not verify", s->name, inject, broken);
    }
    if (verified < promised || (s->resumed && verified < BASE_STEP)) {
        job_fail(j, "%s: %s: the newest checkpoint that verifies is of step %lld, \"latest\" says %lld", s->name,
                 inject, (long long)verified, (long long)promised);
    }
}

// again: the run is started again afterwards.
static void run_case(job *j, const scenario *s, const traced_call *c, const way *w, bool again, figures *f)
{
    char inject[200];
    int code = 0;
    snprintf(inject, sizeof inject, "calls=%s,n=%ld,action=%s,error=%d,sticky=%d,rank=%d", trace_class_name(c->call),
             c->n, w->action, w->error, (int)w->sticky, s->rank);
    const char *only = getenv("LWMPI_FAULT_ONLY");
    if (only != NULL && strstr(inject, only) == NULL) {
        return;
    }
    f->cases++;
    prepare(j, s);
    double start_s = lw_now_s();
    if (!job_run(j, s->ranks, inject, false, launch_patience_s(20.0), &code)) {
        job_fail(j, "%s: %s (%s): it did not end", s->name, inject, c->path);
        return;
    }
    double took_s = lw_now_s() - start_s;
    f->slowest_s = took_s > f->slowest_s ? took_s : f->slowest_s;
    if (!was_hit(j, s->rank)) {
        f->missed++;
    } else {
        check_end(j, s, c, w, inject, code, f);
    }
    check_checkpoints(j, s, inject);
    if (!again || getenv("LWMPI_FAULT_QUICK") != NULL) {
        return;
    }
    f->resumes++;
    job_clear_notes(j);
    if (!job_run(j, s->ranks, NULL, false, launch_patience_s(20.0), &code) || code != 0) {
        job_fail(j, "%s: after %s (%s): starting again ended with %d", s->name, inject, c->path, code);
    } else if (!job_same(j, "run", s->undisturbed)) {
        job_fail(j, "%s: after %s (%s): starting again did not end with the same bits", s->name, inject, c->path);
    }
}

// --- the walk

// LWMPI_FAULT_SHARD=0/4: the first (0) and the step (1) of the calls to walk over.
static long shard_of(int part)
{
    long shard = 0;
    long shards = 1;
    const char *text = getenv("LWMPI_FAULT_SHARD");
    if (text != NULL && (sscanf(text, "%ld/%ld", &shard, &shards) != 2 || shards < 1 || shard < 0)) {
        fprintf(stderr, "LWMPI_FAULT_SHARD=%s: write 0/4, ... 3/4\n", text);
        exit(1);
    }
    return part == 0 ? shard % shards : shards;
}

static bool is_memory(const traced_call *c)
{
    return c->call == LW_CALL_alloc || c->call == LW_CALL_liballoc;
}

// All: every call of a file or MPI operation in one of its ways, every site's first call in each way; of allocations
// the first, the middle and the last of every site, or every one, and only the first, in one way, where an earlier
// scenario reached the site too; of looks, whose number is nobody's, the first, the middle and the last. A sample:
// sites at equal distances, one way each. A program that ended because it had no memory is started again after the
// first of a site; all later ones are alike.
static void walk(job *j, const scenario *s, const trace *t, const trace *earlier, size_t earlier_count, figures *f)
{
    const char *how_much = getenv("LWMPI_FAULT_ALL");
    bool every = how_much != NULL && strcmp(how_much, "2") == 0;
    for (long i = shard_of(0); i < t->count; i += shard_of(1)) {
        const traced_call *c = &t->calls[i];
        int ways = 0;
        const way *w = ways_of(c->call, &ways);
        bool again = false; // an allocation that an earlier scenario has failed
        for (size_t k = 0; k < earlier_count && is_memory(c) && !every && !again; k++) {
            again = trace_has_site(&earlier[k], c);
        }
        if (again) {
            if (c->first) {
                run_case(j, s, c, &w[c->n % ways], true, f);
            }
        } else if (c->first) {
            for (int k = 0; k < ways; k++) {
                run_case(j, s, c, &w[k], true, f);
            }
        } else if (c->middle || c->last || (is_memory(c) ? every : c->call != LW_CALL_poll)) {
            run_case(j, s, c, &w[c->n % ways], !is_memory(c), f);
        }
    }
}

static void walk_sample(job *j, const scenario *s, const trace *t, figures *f)
{
    long total_sites = 0;
    for (int c = 0; c < LW_CALL_CLASSES; c++) {
        total_sites += t->sites[c];
    }
    long stride = total_sites / SAMPLE_CASES + 1;
    long site = 0;
    for (long i = 0; i < t->count; i++) {
        const traced_call *c = &t->calls[i];
        int ways = 0;
        const way *w = ways_of(c->call, &ways);
        if (c->first && site++ % stride == stride / 2) {
            run_case(j, s, c, &w[(site / stride) % ways], true, f);
        }
    }
}

static bool read_trace(job *j, const scenario *s, trace *out)
{
    int code;
    prepare(j, s);
    if (!job_run(j, s->ranks, NULL, true, launch_patience_s(30.0), &code) || code != 0 ||
        !trace_read(j->notes, s->rank, out)) {
        job_fail(j, "%s: the run that counts calls ended with %d", s->name, code);
        return false;
    }
    if (!job_same(j, "run", s->undisturbed)) {
        job_fail(j, "%s: the run that counts calls did not end with the same bits", s->name);
    }
    printf("%s:", s->name);
    for (int c = 0; c < LW_CALL_CLASSES; c++) {
        printf(" %s %ld (%ld sites)%s", trace_class_name((lw_inject_class)c), out->per_class[c], out->sites[c],
               c + 1 < LW_CALL_CLASSES ? "," : "\n");
    }
    return true;
}

static void make_undisturbed(job *j, int ranks, const char *name, const char *base)
{
    int code;
    job_clear(j, "run");
    if (!job_run(j, ranks, NULL, false, launch_patience_s(30.0), &code) || code != 0) {
        job_fail(j, "the undisturbed run at %d ranks ended with %d", ranks, code);
        exit(1);
    }
    job_copy(j, "run", name);
    job_copy(j, "run", base);
    job_cut_back(j, base, BASE_STEP);
}

int main(void)
{
    static const scenario scenarios[] = {{"new run, 1 rank", 0, 0, false, "whole1"},
                                         {"resumed run, 1 rank", 0, 0, true, "whole1"},
                                         {"resumed run, rank 0 of 2", 2, 0, true, "whole2"},
                                         {"new run, rank 1 of 2", 2, 1, false, "whole2"}};
    char timeout_word[40];
    char seconds[16];
    // Six steps.
    const char *const words[] = {"train.epochs=1",
                                 "data.samples=42",
                                 "data.eval_samples=4",
                                 "checkpoint.every_steps=2",
                                 "checkpoint.keep=3",
                                 timeout_word,
                                 NULL};
    // A deadline that a busy machine keeps, and that a hang may take.
    snprintf(seconds, sizeof seconds, "%.0f", launch_sanitized() ? 12.0 : launch_patience_s(4.0));
    snprintf(timeout_word, sizeof timeout_word, "comm.timeout_s=%s", seconds);
    setvbuf(stdout, NULL, _IOLBF, 0);
    job j = {.root = ""};
    setenv("LWMPI_START_TIMEOUT_S", seconds, 1); // until the configuration is known
    job_make(&j);
    memcpy(j.extra, words, sizeof words);
    make_undisturbed(&j, 0, "whole1", "base1");
    make_undisturbed(&j, 2, "whole2", "base2");
    figures f = {0};
    enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0] };
    trace traces[SCENARIOS] = {{.count = 0}};
    const char *only = getenv("LWMPI_FAULT_SCENARIO");
    for (size_t i = 0; i < SCENARIOS; i++) {
        bool chosen = only == NULL || strstr(scenarios[i].name, only) != NULL;
        if ((!chosen && !launch_all()) || !read_trace(&j, &scenarios[i], &traces[i]) || !chosen) {
            continue;
        }
        f.calls += traces[i].count;
        long before = f.cases;
        if (launch_all()) {
            walk(&j, &scenarios[i], &traces[i], traces, i, &f);
        } else {
            walk_sample(&j, &scenarios[i], &traces[i], &f);
        }
        printf("%s: %ld injections\n", scenarios[i].name, f.cases - before);
    }
    for (size_t i = 0; i < SCENARIOS; i++) {
        trace_free(&traces[i]);
    }
    printf("%ld calls in the runs; %ld injections: %ld survived with the same bits, %ld refused with a message, %ld "
           "killed, %ld not reached; %ld resumes with the same bits checked; slowest end %.1f s; %d failures\n",
           f.calls, f.cases, f.survived, f.refused, f.killed, f.missed, f.resumes, f.slowest_s, job_failures());
    if (f.missed * 10 > f.cases) {
        job_fail(&j, "more than a tenth of the injections did not take place");
    }
    job_remove(&j);
    return job_failures() > 0;
}
