// A rank that dies, hangs, fails alone, or runs out of memory: within comm.timeout_s and a short grace everyone is
// gone, the exit code is not zero, the last message names rank, host and phase, and the next start goes on with the
// same bits. And what takes long for a good reason does not end a run. Some of the cases run with LWMPI_FAULT_ALL=1
// alone.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "job.h"

enum { STEPS = 46, MAX_RANKS = 3 };
static const double grace_s = 4.0; // for notes, voices, the launcher's own end

// comm.timeout_s
static int timeout_s(void)
{
    return launch_sanitized() ? 12 : 3;
}

typedef enum blow { NO_BLOW, KILL_IT, STOP_IT, KILL_LAUNCHER } blow;
enum { IN_EVALUATION = STEPS + 1 }; // as a step: when the last checkpoint is written

typedef struct peer_case {
    const char *name;
    int ranks;
    blow blow; // dealt from outside, to `rank`, once `step` is logged
    int rank;
    int64_t step;        // 0: as soon as the rank is there; IN_EVALUATION
    const char *inject;  // NULL: nothing
    bool waits;          // found out by a deadline, not by the system
    const char *culprit; // what the last message names; NULL: whatever it names
    const char *phase;
    const char *const *wrapper; // in front of the program
    bool by_hand;               // only with LWMPI_FAULT_ALL=1
} peer_case;

// The matrix library, where memory is short, neither fails nor returns: the deadline has to find that.
static const char *const memory_limit[] = {
    "sh", "-c", "[ \"${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}\" != 1 ] || ulimit -d 60000; exec \"$0\" \"$@\"", NULL};

static const peer_case cases[] = {
    {"kill -9 of rank 1 of 3 in the steps", 3, KILL_IT, 1, 5, NULL, false, "rank 1 on ", "phase \"step ", NULL, false},
    {"kill -9 of rank 0 of 2 in the steps", 2, KILL_IT, 0, 9, NULL, false, "rank 0 on ", "phase \"", NULL, false},
    {"kill -9 of rank 1 of 2 at the start", 2, KILL_IT, 1, 0, NULL, false, NULL, NULL, NULL, true},
    {"kill -9 of mpirun", 2, KILL_LAUNCHER, 0, 5, NULL, false, NULL, NULL, NULL, false},
    {"SIGSTOP of rank 1 of 3", 3, STOP_IT, 1, 5, NULL, true, "rank 1 on ", "phase \"step ", NULL, false},
    {"SIGSTOP of rank 0 of 2", 2, STOP_IT, 0, 5, NULL, true, "rank 0 on ", "phase \"", NULL, true},
    {"SIGSTOP of rank 0 of 2 in the evaluation", 2, STOP_IT, 0, IN_EVALUATION, NULL, true, "rank 0 on ",
     "phase \"evaluation", NULL, false},
    {"rank 1 cannot read the weights", 2, NO_BLOW, 1, 0,
     "calls=open,path=qwen/model.safetensors,n=1,action=fail,error=13,rank=1", false, "rank 1 on ", "model.safetensors",
     NULL, false},
    {"rank 1 cannot read the training data", 3, NO_BLOW, 1, 0,
     "calls=open,path=train.jsonl,n=1,action=fail,error=5,rank=1", false, "rank 1 on ", "train.jsonl", NULL, true},
    {"rank 1 is out of memory while it loads", 2, NO_BLOW, 1, 0, "calls=alloc,n=400,action=fail,sticky=1,rank=1", false,
     "rank 1 on ", "memory", NULL, false},
    {"rank 1 hangs while it loads", 2, NO_BLOW, 1, 0, "calls=open,path=qwen/model.safetensors,n=1,action=hang,rank=1",
     true, "rank 1 on ", "phase \"loading models\"", NULL, false},
    {"a reduction never completes on rank 1", 2, NO_BLOW, 1, 0, "calls=mpi,path=MPI_Iallreduce,n=12,action=hang,rank=1",
     true, "rank ", "phase ", NULL, false},
    {"a barrier never completes on rank 0", 2, NO_BLOW, 0, 0, "calls=mpi,path=MPI_Ibarrier,n=1,action=hang,rank=0",
     true, "rank ", "phase ", NULL, true},
    {"a point-to-point part never completes on rank 1", 2, NO_BLOW, 1, 0,
     "calls=mpi,path=MPI_Irecv,n=20,action=hang,rank=1", true, "rank ", "phase ", NULL, true},
    {"MPI_Comm_dup does not return on rank 1", 2, NO_BLOW, 1, 0, "calls=mpi,path=MPI_Comm_dup,n=1,action=hang,rank=1",
     true, "rank ", "did not start", NULL, false},
    {"MPI_Comm_dup fails on rank 1", 2, NO_BLOW, 1, 0, "calls=mpi,path=MPI_Comm_dup,n=1,action=fail,rank=1", true,
     "rank 1", "MPI_Comm_dup", NULL, false},
    {"a broadcast fails on rank 1", 2, NO_BLOW, 1, 0, "calls=mpi,path=MPI_Ibcast,n=1,action=fail,rank=1", true,
     "rank 1", "phase ", NULL, false},
    {"rank 1 under a memory limit", 2, NO_BLOW, 1, 0, NULL, true, "rank 1 on ", "m", memory_limit, false},
};

typedef struct figures {
    int cases, resumes;
    double slowest_s; // from the blow to the end
    double slowest_over_deadline_s;
} figures;

static bool has_come_to(const job *j, int64_t step)
{
    char path[400];
    char text[LAUNCH_TEXT_BYTES];
    char line[64];
    if (step < IN_EVALUATION) {
        return job_last_step(j, "run") >= step;
    }
    snprintf(path, sizeof path, "%s/log.txt", j->run);
    snprintf(line, sizeof line, "checkpoint of step %d written", STEPS);
    return strstr(launch_text(path, text), line) != NULL;
}

static bool wait_for_step(const job *j, const launched *p, int64_t step, int *code)
{
    while (!has_come_to(j, step)) {
        if (launch_ended(p, code)) {
            return false;
        }
        launch_sleep_s(0.003);
    }
    return true;
}

// The process of a rank, once it runs the program.
static pid_t wait_for_rank(const launched *p, int rank, int *code)
{
    pid_t pid = 0;
    while (pid == 0 && !launch_ended(p, code)) {
        pid = launch_rank(p, rank);
        launch_sleep_s(0.002);
    }
    return pid;
}

// Lets a process run at a thirtieth of its speed for so long, or until the job ends. Returns how long that was.
static double slow_down(const launched *p, pid_t pid, double seconds, int *code)
{
    double start_s = lw_now_s();
    while (lw_now_s() - start_s < seconds && !launch_ended(p, code)) {
        bool stopped = kill(pid, SIGSTOP) == 0;
        launch_sleep_s(0.2 * timeout_s());
        if (stopped && kill(pid, SIGCONT) == 0) {
            launch_sleep_s(0.02);
        }
    }
    return lw_now_s() - start_s;
}

static bool deal(const job *j, const peer_case *c, const launched *p, int *code)
{
    if (c->blow == NO_BLOW) {
        return true;
    }
    pid_t pid = wait_for_rank(p, c->rank, code);
    if (pid == 0 || (c->step > 0 && !wait_for_step(j, p, c->step, code))) {
        return false;
    }
    if (c->step == IN_EVALUATION) { // in its midst
        slow_down(p, pid, 0.7 * timeout_s(), code);
    }
    return kill(c->blow == KILL_LAUNCHER ? p->pid : pid, c->blow == STOP_IT ? SIGSTOP : SIGKILL) == 0;
}

static void check_message(const job *j, const peer_case *c)
{
    char text[LAUNCH_TEXT_BYTES];
    char message[2048];
    char host[128] = "";
    launch_text(j->output, text);
    launch_last_message(text, message);
    gethostname(host, sizeof host - 1);
    if (c->culprit != NULL &&
        (strstr(message, c->culprit) == NULL || strstr(message, host) == NULL || strstr(message, c->phase) == NULL)) {
        job_fail(j, "%s: the last message does not name \"%s\", the host %s and \"%s\": %s", c->name, c->culprit, host,
                 c->phase, message);
    }
    // The launcher names a killed rank as well: Open MPI's words, or MPICH's.
    char rank[32];
    snprintf(rank, sizeof rank, "process rank %d ", c->rank);
    if (c->blow == KILL_IT && strstr(text, rank) == NULL && strstr(text, "KILLED BY SIGNAL") == NULL) {
        job_fail(j, "%s: nobody names the dead rank", c->name);
    }
    if (strstr(text, "Sanitizer:") != NULL) {
        job_fail(j, "%s: a sanitizer reports", c->name);
    }
}

static void check_resume(job *j, const peer_case *c, figures *f)
{
    char whole[32];
    int code = -1;
    int broken = 0;
    snprintf(whole, sizeof whole, "whole%d", c->ranks);
    int64_t verified = job_verified_step(j, "run", &broken);
    if (broken > 0 || verified < job_promised_step(j, "run")) {
        job_fail(j, "%s: a checkpoint does not verify", c->name);
    }
    f->resumes++;
    if (!job_run(j, c->ranks, NULL, false, launch_patience_s(20.0), &code) || code != 0) {
        job_fail(j, "%s: starting again ended with %d", c->name, code);
    } else if (!job_same(j, "run", whole)) {
        job_fail(j, "%s: starting again did not end with the same bits", c->name);
    }
}

static void run_case(job *j, const peer_case *c, const double *undisturbed_s, figures *f)
{
    launched p;
    int code = -1;
    job_clear(j, "run");
    f->cases++;
    j->wrapper = c->wrapper;
    bool started = job_start(j, c->ranks, c->inject, &p);
    j->wrapper = NULL;
    if (!started || !deal(j, c, &p, &code)) {
        job_fail(j, "%s: it ended with %d before", c->name, code);
        return;
    }
    double begin_s = lw_now_s();
    // An injection takes place some time in the run.
    double run_s = c->blow == NO_BLOW ? undisturbed_s[c->ranks] : 0.0;
    double allowed_s = (c->waits ? timeout_s() : 0) + launch_patience_s(grace_s + run_s);
    bool ended = launch_wait(&p, allowed_s + launch_patience_s(10.0), &code) && launch_gone(&p, grace_s);
    double took_s = lw_now_s() - begin_s;
    double over_s = took_s - run_s - (c->waits ? timeout_s() : 0);
    f->slowest_s = took_s > f->slowest_s ? took_s : f->slowest_s;
    f->slowest_over_deadline_s = over_s > f->slowest_over_deadline_s ? over_s : f->slowest_over_deadline_s;
    printf("%s: %s after %.2f s, exit code %d\n", c->name, ended ? "gone" : "NOT GONE", took_s, code);
    if (!ended || took_s > allowed_s) {
        launch_kill_all(&p);
        job_fail(j, "%s: not everyone was gone within %.1f s", c->name, allowed_s);
    } else if (code == 0 || code == 75) {
        job_fail(j, "%s: exit code %d", c->name, code);
    }
    if (ended) {
        check_message(j, c);
    }
    check_resume(j, c, f);
}

// --- what takes longer than the deadline for a good reason

typedef struct patient_case {
    const char *name, *inject; // its seconds at the end
} patient_case;

static const patient_case patient[] = {
    {"a slow disk under a checkpoint", "calls=fsync,path=checkpoints,n=3,action=delay,rank=0,seconds="},
    {"a slow disk under two checkpoints", "calls=create,path=manifest,n=1,action=delay,rank=0,seconds="},
};

static void run_patient(job *j, const patient_case *c, figures *f)
{
    int code = -1;
    char inject[200];
    f->cases++;
    snprintf(inject, sizeof inject, "%s%d", c->inject, timeout_s() + 2);
    job_clear(j, "run");
    if (!job_run(j, 2, inject, false, launch_patience_s(30.0), &code) || code != 0) {
        job_fail(j, "%s (comm.timeout_s = %d): it ended with %d", c->name, timeout_s(), code);
    } else if (!job_same(j, "run", "whole2")) {
        job_fail(j, "%s: it did not end with the same bits", c->name);
    }
}

// Rank 0 alone reads the newest checkpoint, and the delays of its calls are longer than the deadline in all.
static void run_slow_read(job *j, figures *f)
{
    int code = -1;
    char inject[200];
    f->cases++;
    snprintf(inject, sizeof inject, "calls=read+close,path=step-000045,n=1,sticky=1,action=delay,rank=0,seconds=%.2f",
             0.2 * timeout_s());
    job_clear(j, "run");
    job_copy(j, "whole2", "run");
    job_cut_back(j, "run", STEPS - 1);
    double start_s = lw_now_s();
    if (!job_run(j, 2, inject, false, launch_patience_s(60.0), &code) || code != 0) {
        job_fail(j, "slow reading of a checkpoint (comm.timeout_s = %d): it ended with %d", timeout_s(), code);
    } else if (!job_same(j, "run", "whole2")) {
        job_fail(j, "slow reading of a checkpoint: it did not end with the same bits");
    }
    printf("slow reading of a checkpoint: ended with %d after %.1f s\n", code, lw_now_s() - start_s);
}

// Rank 0 evaluates all samples in one chunk, at a thirtieth of its speed; rank 1 has none and waits.
static void run_slow_evaluation(job *j, figures *f)
{
    launched p;
    int code = -1;
    f->cases++;
    job_clear(j, "run");
    bool started = job_start(j, 2, NULL, &p);
    pid_t pid = started && wait_for_step(j, &p, IN_EVALUATION, &code) ? launch_rank(&p, 0) : 0;
    double slow_s = pid > 0 ? slow_down(&p, pid, 2.0 * timeout_s(), &code) : 0.0;
    bool ended = pid > 0 && (slow_s < 2.0 * timeout_s() || launch_wait(&p, launch_patience_s(30.0), &code));
    printf("an evaluation slowed down on one rank for %.1f s: ended with %d\n", slow_s, code);
    if (!ended || code != 0) {
        job_fail(j, "a slow evaluation (comm.timeout_s = %d): it ended with %d", timeout_s(), code);
    } else if (slow_s < 1.5 * timeout_s()) {
        job_fail(j, "the evaluation was over after %.1f s: too soon to show anything", slow_s);
    } else if (!job_same(j, "run", "whole2")) {
        job_fail(j, "a slow evaluation: it did not end with the same bits");
    }
}

static double undisturbed(job *j, int ranks)
{
    char whole[32];
    int code = -1;
    double start_s = lw_now_s();
    snprintf(whole, sizeof whole, "whole%d", ranks);
    job_clear(j, "run");
    if (!job_run(j, ranks, NULL, false, launch_patience_s(30.0), &code) || code != 0 ||
        job_last_step(j, "run") != STEPS) {
        job_fail(j, "the undisturbed run at %d ranks ended with %d", ranks, code);
        exit(1);
    }
    double took_s = lw_now_s() - start_s;
    job_copy(j, "run", whole);
    return took_s;
}

// Whether a case is wanted.
static bool chosen(const char *name)
{
    const char *only = getenv("LWMPI_FAULT_ONLY");
    return only == NULL || strstr(name, only) != NULL;
}

int main(void)
{
    char timeout_word[40];
    char seconds[16];
    const char *const words[] = {"train.epochs=4",       "checkpoint.every_steps=5",
                                 "data.eval_samples=40", "eval.batch=64",
                                 timeout_word,           NULL};
    job j = {.root = ""};
    figures f = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    snprintf(timeout_word, sizeof timeout_word, "comm.timeout_s=%d", timeout_s());
    snprintf(seconds, sizeof seconds, "%d", timeout_s());
    setenv("LWMPI_START_TIMEOUT_S", seconds, 1); // the deadline until the configuration is known
    job_make(&j);
    memcpy(j.extra, words, sizeof words);
    double undisturbed_s[MAX_RANKS + 1] = {0.0};
    undisturbed_s[2] = undisturbed(&j, 2);
    undisturbed_s[3] = undisturbed(&j, 3);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (cases[i].by_hand && !launch_all()) {
            continue;
        }
        if (cases[i].wrapper != NULL && launch_sanitized()) {
            printf("%s: left out, as a sanitizer needs more than any limit\n", cases[i].name);
        } else if (chosen(cases[i].name)) {
            run_case(&j, &cases[i], undisturbed_s, &f);
        }
    }
    for (size_t i = 0; i < sizeof patient / sizeof patient[0]; i++) {
        if (chosen(patient[i].name) && (i == 0 || launch_all())) {
            run_patient(&j, &patient[i], &f);
        }
    }
    if (chosen("slow reading")) {
        run_slow_read(&j, &f);
    }
    if (chosen("slow evaluation")) {
        run_slow_evaluation(&j, &f);
    }
    printf("%d cases, %d resumes; slowest end %.2f s after the blow, at most %.2f s beyond the deadline of %d s; "
           "%d failures\n",
           f.cases, f.resumes, f.slowest_s, f.slowest_over_deadline_s, timeout_s(), job_failures());
    job_remove(&j);
    return job_failures() > 0;
}
