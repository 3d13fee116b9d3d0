// launch.c: starts ranks, watches them and kills them at a moment of choice.
#include "launch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"

enum { ENVIRON_BYTES = 1 << 16 };

static bool is_one(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && strcmp(value, "1") == 0;
}

bool launch_all(void)
{
    const char *text = getenv("LWMPI_FAULT_ALL");
    return text != NULL && (text[0] == '1' || text[0] == '2');
}

bool launch_sanitized(void)
{
    return is_one("LWMPI_SANITIZED");
}

double launch_patience_s(double seconds)
{
    const char *factor = getenv("LWMPI_FAULT_PATIENCE");
    return (launch_sanitized() ? 6.0 : 1.0) * (factor != NULL ? fmax(strtod(factor, NULL), 1.0) : 1.0) * seconds;
}

const char *launch_need(const char *name)
{
    const char *value = getenv(name);
    if (value == NULL || value[0] == '\0') {
        printf("skipped: %s is not set; run it with ctest\n", name);
        exit(77);
    }
    return value;
}

void launch_sleep_s(double seconds)
{
    struct timespec pause = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&pause, NULL);
}

// --- words of the command line

typedef struct word_list {
    char *words[LAUNCH_MAX_WORDS];
    int count;
} word_list;

static void add(word_list *list, const char *word)
{
    if (list->count == LAUNCH_MAX_WORDS - 1 || (list->words[list->count] = strdup(word)) == NULL) {
        fprintf(stderr, "no room for the word %s\n", word);
        exit(1);
    }
    list->count++;
}

__attribute__((format(printf, 2, 3))) static void add_formatted(word_list *list, const char *format, ...)
{
    char text[2 * PATH_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    add(list, text);
}

static void add_split(word_list *list, const char *words)
{
    char text[2048];
    char *rest = NULL;
    snprintf(text, sizeof text, "%s", words);
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        add(list, word);
    }
}

static void add_injection(word_list *list, const launch_plan *plan, const char *program)
{
    char real[PATH_MAX];
    add_formatted(list, "LD_PRELOAD=%s", launch_need("LWMPI_INJECT_LIBRARY"));
    add_formatted(list, "LWMPI_INJECT_PROGRAM=%s", realpath(program, real) != NULL ? real : program);
    add_formatted(list, "LWMPI_INJECT_ROOT=%s", plan->root);
    add_formatted(list, "LWMPI_INJECT_NOTES=%s", plan->notes);
    add_formatted(list, "LWMPI_INJECT_TRACE=%d", plan->trace ? 1 : 0);
    add_formatted(list, "LWMPI_INJECT=%s", plan->inject != NULL ? plan->inject : "");
    const char *asan = getenv("ASAN_OPTIONS");
    // The sanitizer's library need not be the first: what stands in front of it calls it.
    add_formatted(list, "ASAN_OPTIONS=%s:verify_asan_link_order=0", asan != NULL ? asan : "");
}

static void make_words(const launch_plan *plan, const char *token, word_list *out)
{
    const char *program = launch_need("LWMPI_BIN");
    if (plan->ranks > 0) {
        add_split(out, launch_need("LWMPI_MPIEXEC"));
        add(out, "-np");
        add_formatted(out, "%d", plan->ranks);
    }
    add(out, "env");
    add_formatted(out, "LWMPI_TEST_TOKEN=%s", token);
    if (plan->inject != NULL || plan->trace) {
        add_injection(out, plan, program);
    }
    for (const char *const *w = plan->wrapper; w != NULL && *w != NULL; w++) {
        add(out, *w);
    }
    add(out, program);
    for (const char *const *w = plan->words; *w != NULL; w++) {
        add(out, *w);
    }
    out->words[out->count] = NULL;
}

// --- start and end

_Noreturn static void become(char *const words[], const char *output)
{
    (void)setpgid(0, 0);
    int in = open("/dev/null", O_RDONLY);
    int out = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (in < 0 || out < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(out, STDERR_FILENO) < 0) {
        _exit(126);
    }
    execvp(words[0], words);
    _exit(127);
}

bool launch_start(const launch_plan *plan, launched *out)
{
    static int started = 0;
    word_list list = {.count = 0};
    snprintf(out->token, sizeof out->token, "lw-%ld-%d", (long)getpid(), ++started);
    make_words(plan, out->token, &list);
    setenv("LWMPI_TEST_TOKEN", out->token, 1); // for the launcher, which is started without `env`
    out->start_s = lw_now_s();
    out->pid = fork();
    if (out->pid == 0) {
        become(list.words, plan->output);
    }
    unsetenv("LWMPI_TEST_TOKEN");
    for (int i = 0; i < list.count; i++) {
        free(list.words[i]);
    }
    if (out->pid < 0) {
        perror("fork");
    }
    return out->pid > 0;
}

bool launch_ended(const launched *job, int *code)
{
    int status = 0;
    if (waitpid(job->pid, &status, WNOHANG) != job->pid) {
        return false;
    }
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
}

bool launch_wait(const launched *job, double timeout_s, int *code)
{
    double deadline_s = lw_now_s() + timeout_s;
    while (!launch_ended(job, code)) {
        if (lw_now_s() > deadline_s) {
            launch_kill_all(job);
            int status;
            (void)waitpid(job->pid, &status, 0);
            return false;
        }
        launch_sleep_s(0.002);
    }
    return true;
}

// --- who is there

// The environment of a process as text with a newline after each variable; false when it is gone or not ours.
static bool read_environ(pid_t pid, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/environ", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    size_t used = 0;
    ssize_t got;
    while (used < size - 1 && (got = read(fd, out + used, size - 1 - used)) > 0) {
        used += (size_t)got;
    }
    close(fd);
    for (size_t i = 0; i < used; i++) {
        out[i] = out[i] == '\0' ? '\n' : out[i];
    }
    out[used] = '\0';
    return used > 0;
}

static int rank_in(const char *environ_text)
{
    static const char *const names[] = {"\nOMPI_COMM_WORLD_RANK=", "\nPMIX_RANK=", "\nPMI_RANK="};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *found = strstr(environ_text, names[i]);
        if (found != NULL) {
            return (int)strtol(found + strlen(names[i]), NULL, 10);
        }
    }
    return -1;
}

static bool runs_program(pid_t pid)
{
    char link[64];
    char exe[PATH_MAX];
    char real[PATH_MAX];
    snprintf(link, sizeof link, "/proc/%ld/exe", (long)pid);
    ssize_t bytes = readlink(link, exe, sizeof exe - 1);
    if (bytes <= 0 || realpath(launch_need("LWMPI_BIN"), real) == NULL) {
        return false;
    }
    exe[bytes] = '\0';
    return strcmp(exe, real) == 0;
}

static bool is_zombie(pid_t pid)
{
    char path[64];
    char text[256] = "";
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return true;
    }
    size_t bytes = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[bytes] = '\0';
    const char *name_end = strrchr(text, ')');
    return name_end == NULL || name_end[1] != ' ' || name_end[2] == 'Z' || name_end[2] == 'X';
}

static int by_rank(const void *a, const void *b)
{
    return ((const launch_process *)a)->rank - ((const launch_process *)b)->rank;
}

int launch_processes(const launched *job, launch_process out[LAUNCH_MAX_PROCESSES])
{
    static char text[ENVIRON_BYTES];
    char wanted[80];
    int count = 0;
    snprintf(wanted, sizeof wanted, "LWMPI_TEST_TOKEN=%s\n", job->token);
    DIR *proc = opendir("/proc");
    for (const struct dirent *e = proc != NULL ? readdir(proc) : NULL; e != NULL; e = readdir(proc)) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        if (pid <= 0 || pid == getpid() || count == LAUNCH_MAX_PROCESSES || !read_environ(pid, text, sizeof text) ||
            strstr(text, wanted) == NULL || is_zombie(pid)) {
            continue;
        }
        out[count++] = (launch_process){.pid = pid, .rank = rank_in(text), .is_program = runs_program(pid)};
    }
    if (proc != NULL) {
        closedir(proc);
    }
    qsort(out, (size_t)count, sizeof *out, by_rank);
    return count;
}

pid_t launch_rank(const launched *job, int rank)
{
    launch_process all[LAUNCH_MAX_PROCESSES];
    int count = launch_processes(job, all);
    for (int i = 0; i < count; i++) {
        if (all[i].is_program && (all[i].rank == rank || (all[i].rank < 0 && rank == 0))) {
            return all[i].pid;
        }
    }
    return 0;
}

void launch_kill_all(const launched *job)
{
    launch_process all[LAUNCH_MAX_PROCESSES];
    (void)kill(job->pid, SIGKILL);
    int count = launch_processes(job, all);
    for (int i = 0; i < count; i++) {
        (void)kill(all[i].pid, SIGKILL);
    }
}

bool launch_gone(const launched *job, double grace_s)
{
    launch_process all[LAUNCH_MAX_PROCESSES];
    double deadline_s = lw_now_s() + grace_s;
    while (launch_processes(job, all) > 0) {
        if (lw_now_s() > deadline_s) {
            return false;
        }
        launch_sleep_s(0.005);
    }
    return true;
}

// --- what it said

const char *launch_text(const char *path, char out[LAUNCH_TEXT_BYTES])
{
    out[0] = '\0';
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return out;
    }
    if (fseek(file, -(LAUNCH_TEXT_BYTES - 1), SEEK_END) != 0) {
        rewind(file); // shorter than that
    }
    size_t bytes = fread(out, 1, LAUNCH_TEXT_BYTES - 1, file);
    fclose(file);
    out[bytes] = '\0';
    return out;
}

const char *launch_last_message(const char *text, char out[2048])
{
    const char *found = NULL;
    for (const char *at = text; at != NULL; at = strchr(at, '\n')) {
        at += *at == '\n';
        found = strncmp(at, "lwmpi: ", 7) == 0 ? at : found;
        if (*at == '\0') {
            break;
        }
    }
    snprintf(out, 2048, "%.*s", found != NULL ? (int)strcspn(found, "\n") : 0, found != NULL ? found : "");
    return out;
}

const char *launch_crash_in(const char *text)
{
    static const char *const signs[] = {"Sanitizer:", "runtime error:",      "Segmentation fault",
                                        "Signal: ",   "exited on signal 11", "exited on signal 6",
                                        "Aborted",    "terminate called"};
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        const char *found = strstr(text, signs[i]);
        if (found != NULL) {
            return found;
        }
    }
    return NULL;
}
