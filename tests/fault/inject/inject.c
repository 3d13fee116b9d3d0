// inject.c: the settings, the counters, and what goes wrong when.
#include "inject.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MAX_RANGES = 64, STACK_FRAMES = 24, TRACE_BYTES = 1 << 16 };

typedef enum action { FAIL, SHORT, END, HANG, DELAY, KILL, STOP, VANISH } action;

typedef struct range {
    uintptr_t begin, end;
    bool library; // else the program
} range;

// A preloaded library has no caller to own its state.
static struct {
    bool on, trace, sticky;
    char root[PATH_MAX], notes[PATH_MAX], path[256];
    unsigned int calls; // bit set of classes
    long n;
    int rank, only_rank;
    action action;
    int error;
    double seconds;
    range ranges[MAX_RANGES];
    int range_count;
} settings;
static atomic_long counts[LW_CALL_CLASSES];
static atomic_long matched;
static atomic_flag trace_busy = ATOMIC_FLAG_INIT;
static char trace_text[TRACE_BYTES];
static size_t trace_used;
static _Thread_local bool inside; // this library's own calls do not count

static const char *const class_names[] = {
#define NAME(name) #name,
    LW_INJECT_CLASSES(NAME)
#undef NAME
};

void *lw_inject_next(const char *name)
{
    bool before = inside;
    inside = true;
    void *found = dlsym(RTLD_NEXT, name);
    inside = before;
    return found;
}

// --- notes: by bare system calls, which nothing stands in for

static void append(const char *name, const char *text, size_t bytes)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s.%d", settings.notes, name, settings.rank);
    long fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd >= 0) {
        syscall(SYS_write, fd, text, bytes);
        syscall(SYS_close, fd);
    }
}

static void flush_trace(void)
{
    append("trace", trace_text, trace_used);
    trace_used = 0;
}

__attribute__((destructor)) static void end(void)
{
    if (settings.trace && trace_used > 0) {
        flush_trace();
    }
}

static const range *range_of(const void *address)
{
    uintptr_t at = (uintptr_t)address;
    for (int i = 0; i < settings.range_count; i++) {
        if (at >= settings.ranges[i].begin && at < settings.ranges[i].end) {
            return &settings.ranges[i];
        }
    }
    return NULL;
}

// Return addresses in the program, relative to where it was loaded.
static uint32_t stack_hash(void)
{
    void *frames[STACK_FRAMES];
    int count = backtrace(frames, STACK_FRAMES);
    uint32_t hash = 2166136261U;
    for (int i = 0; i < count; i++) {
        const range *r = range_of(frames[i]);
        if (r != NULL && !r->library) {
            hash = (hash ^ (uint32_t)((uintptr_t)frames[i] - r->begin)) * 16777619U;
        }
    }
    return hash;
}

static void write_trace(lw_inject_class call, long n, const char *path)
{
    char line[PATH_MAX + 64];
    int bytes = snprintf(line, sizeof line, "%s %ld %08x %s\n", class_names[call], n, stack_hash(), path);
    if (bytes < 0 || (size_t)bytes >= sizeof line) {
        return;
    }
    while (atomic_flag_test_and_set(&trace_busy)) {
    }
    if (trace_used + (size_t)bytes > sizeof trace_text) {
        flush_trace();
    }
    memcpy(trace_text + trace_used, line, (size_t)bytes);
    trace_used += (size_t)bytes;
    atomic_flag_clear(&trace_busy);
}

// --- what goes wrong

static void wait_s(double seconds)
{
    struct timespec pause = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&pause, NULL);
}

static void vanish(void)
{
    char from[PATH_MAX + 8];
    char to[PATH_MAX + 8];
    snprintf(from, sizeof from, "%s/run", settings.root);
    snprintf(to, sizeof to, "%s/gone", settings.root);
    syscall(SYS_rename, from, to);
}

static lw_verdict act(bool can_pend)
{
    switch (settings.action) {
    case FAIL: errno = settings.error; return LW_FAIL;
    case SHORT: return LW_SHORT;
    case END: return LW_END;
    case HANG:
        if (can_pend) {
            return LW_NEVER;
        }
        for (;;) {
            wait_s(3600.0);
        }
    case DELAY: wait_s(settings.seconds); return LW_GO;
    case KILL: syscall(SYS_kill, getpid(), SIGKILL); return LW_GO;
    case STOP: syscall(SYS_kill, getpid(), SIGSTOP); return LW_GO;
    case VANISH: vanish(); return LW_GO;
    }
    return LW_GO;
}

static bool is_file_class(lw_inject_class call)
{
    return call < LW_CALL_alloc;
}

static bool is_below(const char *path, const char *root)
{
    size_t length = strlen(root);
    return length > 0 && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static lw_verdict judge(lw_inject_class call, const char *path, bool can_pend)
{
    if (is_file_class(call) && !is_below(path, settings.root)) {
        return LW_GO;
    }
    long n = atomic_fetch_add(&counts[call], 1) + 1;
    if (settings.trace) {
        write_trace(call, n, path);
    }
    if ((settings.calls & (1U << call)) == 0 || strstr(path, settings.path) == NULL ||
        (settings.only_rank >= 0 && settings.only_rank != settings.rank)) {
        return LW_GO;
    }
    long m = atomic_fetch_add(&matched, 1) + 1;
    if (m < settings.n || (m > settings.n && !settings.sticky)) {
        return LW_GO;
    }
    if (m == settings.n) {
        char line[PATH_MAX + 64];
        int bytes = snprintf(line, sizeof line, "%s %ld %s\n", class_names[call], n, path);
        append("hit", line, bytes > 0 && (size_t)bytes < sizeof line ? (size_t)bytes : 0);
    }
    return act(can_pend);
}

lw_verdict lw_inject(lw_inject_class call, const char *path, bool can_pend)
{
    if (!settings.on || inside) {
        return LW_GO;
    }
    int errnum = errno;
    inside = true;
    lw_verdict verdict = judge(call, path, can_pend);
    inside = false;
    if (verdict != LW_FAIL) {
        errno = errnum;
    }
    return verdict;
}

lw_verdict lw_inject_fd(lw_inject_class call, int fd)
{
    if (!settings.on || inside) {
        return LW_GO;
    }
    int errnum = errno;
    char link[64];
    char path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long bytes = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    errno = errnum;
    if (bytes <= 0) {
        return LW_GO;
    }
    path[bytes] = '\0';
    return lw_inject(call, path, false);
}

bool lw_inject_caller(const void *caller, lw_inject_class *out)
{
    const range *r = settings.on && !inside ? range_of(caller) : NULL;
    if (r == NULL) {
        return false;
    }
    *out = r->library ? LW_CALL_liballoc : LW_CALL_alloc;
    return true;
}

// --- settings

static int note_ranges(struct dl_phdr_info *object, size_t size, void *context)
{
    (void)size;
    (void)context;
    static const char *const libraries[] = {"/libjansson.", "/libpcre2-8.", "/libxxhash."};
    bool library = object->dlpi_name[0] != '\0';
    bool counts_here = !library; // the program is the one without a name
    for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++) {
        counts_here = counts_here || strstr(object->dlpi_name, libraries[i]) != NULL;
    }
    for (int i = 0; counts_here && i < object->dlpi_phnum && settings.range_count < MAX_RANGES; i++) {
        if (object->dlpi_phdr[i].p_type == PT_LOAD && (object->dlpi_phdr[i].p_flags & PF_X) != 0) {
            uintptr_t begin = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr;
            settings.ranges[settings.range_count++] = (range){begin, begin + object->dlpi_phdr[i].p_memsz, library};
        }
    }
    return 0;
}

static unsigned int parse_classes(char *text)
{
    unsigned int set = 0;
    char *rest = NULL;
    for (char *word = strtok_r(text, "+", &rest); word != NULL; word = strtok_r(NULL, "+", &rest)) {
        for (int c = 0; c < LW_CALL_CLASSES; c++) {
            set |= strcmp(word, class_names[c]) == 0 ? 1U << c : 0;
        }
    }
    return set;
}

static action parse_action(const char *text)
{
    static const char *const names[] = {"fail", "short", "end", "hang", "delay", "kill", "stop", "vanish"};
    for (int i = 0; i < (int)(sizeof names / sizeof names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            return (action)i;
        }
    }
    fprintf(stderr, "inject: no action \"%s\"\n", text);
    _exit(99);
}

static void parse(const char *words)
{
    char text[1024];
    char *rest = NULL;
    snprintf(text, sizeof text, "%s", words);
    for (char *word = strtok_r(text, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
        char *value = strchr(word, '=');
        if (value == NULL) {
            continue;
        }
        *value++ = '\0';
        if (strcmp(word, "calls") == 0) {
            settings.calls = parse_classes(value);
        } else if (strcmp(word, "n") == 0) {
            settings.n = strtol(value, NULL, 10);
        } else if (strcmp(word, "sticky") == 0) {
            settings.sticky = value[0] == '1';
        } else if (strcmp(word, "rank") == 0) {
            settings.only_rank = (int)strtol(value, NULL, 10);
        } else if (strcmp(word, "path") == 0) {
            snprintf(settings.path, sizeof settings.path, "%s", value);
        } else if (strcmp(word, "action") == 0) {
            settings.action = parse_action(value);
        } else if (strcmp(word, "error") == 0) {
            settings.error = (int)strtol(value, NULL, 10);
        } else if (strcmp(word, "seconds") == 0) {
            settings.seconds = strtod(value, NULL);
        }
    }
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL ? value : "";
}

static int launcher_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (getenv(names[i]) != NULL) {
            return (int)strtol(getenv(names[i]), NULL, 10);
        }
    }
    return 0;
}

__attribute__((constructor)) static void begin(void)
{
    char program[PATH_MAX] = "";
    inside = true;
    if (readlink("/proc/self/exe", program, sizeof program - 1) > 0 &&
        strcmp(program, variable("LWMPI_INJECT_PROGRAM")) == 0) {
        snprintf(settings.root, sizeof settings.root, "%s", variable("LWMPI_INJECT_ROOT"));
        snprintf(settings.notes, sizeof settings.notes, "%s", variable("LWMPI_INJECT_NOTES"));
        settings.trace = variable("LWMPI_INJECT_TRACE")[0] == '1';
        settings.rank = launcher_rank();
        settings.only_rank = -1;
        settings.error = EIO;
        parse(variable("LWMPI_INJECT"));
        dl_iterate_phdr(note_ranges, NULL);
        void *first[1];
        (void)backtrace(first, 1); // loads what it needs now
        settings.on = true;
    }
    inside = false;
}
