// progress.c: draws the live line, or prints plain lines, on stderr.
#include "run/progress.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/clock.h"

enum { LINE_BYTES = 512, DEFAULT_WIDTH = 80 };

static const double default_plain_every_s = 5.0;
static const double live_every_s = 0.1;
#define CLEAR_LINE "\r\033[K"

struct lw_progress {
    bool live, off;
    int terminal_fd; // where the width is asked for; -1 where there is none
    double plain_every_s;
    double drawn_s;        // when a line was last written
    bool drawn;            // since the label began
    char line[LINE_BYTES]; // what the terminal shows now; empty: no live line
    char label[32];
    int64_t first_done; // at the label's first update
    double first_s;
};

// mpirun reads the stderr of its ranks through pipes and passes it on to its own. When mpirun runs on this node it is
// the process that started this one, and its stderr can be examined.
static int open_terminal_of_launcher(void)
{
    if (getenv("OMPI_COMM_WORLD_RANK") == NULL) {
        return -1;
    }
    char path[64];
    char target[64];
    snprintf(path, sizeof path, "/proc/%ld/fd/2", (long)getppid());
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 5 || memcmp(target, "/dev/", 5) != 0) {
        return -1;
    }
    int fd = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && !isatty(fd)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void choose_mode(lw_progress *p)
{
    const char *mode = getenv("LWMPI_PROGRESS");
    const char *term = getenv("TERM");
    bool can_clear = term != NULL && term[0] != '\0' && strcmp(term, "dumb") != 0;
    p->terminal_fd = isatty(STDERR_FILENO) ? dup(STDERR_FILENO) : open_terminal_of_launcher();
    p->live = p->terminal_fd >= 0 && can_clear;
    if (mode != NULL && strcmp(mode, "live") == 0) {
        p->live = true;
    } else if (mode != NULL && strcmp(mode, "plain") == 0) {
        p->live = false;
    } else if (mode != NULL && strcmp(mode, "off") == 0) {
        p->live = false;
        p->off = true;
    }
}

lw_status lw_progress_create(const lw_progress_options *options, lw_error *err, lw_progress **out)
{
    lw_progress *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the progress display");
    }
    p->plain_every_s = options != NULL && options->plain_every_s > 0 ? options->plain_every_s : default_plain_every_s;
    choose_mode(p);
    *out = p;
    return LW_OK;
}

void lw_progress_destroy(lw_progress **progress)
{
    if (*progress == NULL) {
        return;
    }
    lw_progress_finish(*progress);
    if ((*progress)->terminal_fd >= 0) {
        close((*progress)->terminal_fd);
    }
    free(*progress);
    *progress = NULL;
}

bool lw_progress_is_live(const lw_progress *progress)
{
    return progress != NULL && progress->live;
}

double lw_progress_interval_s(const lw_progress *progress)
{
    return progress != NULL ? progress->plain_every_s : default_plain_every_s;
}

// stderr may be gone with a closed terminal: that is no reason to stop, and there is no other place to report it.
static void put(const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(STDERR_FILENO, text, bytes);
        if (n <= 0) {
            return;
        }
        text += n;
        bytes -= (size_t)n;
    }
}

static int terminal_width(const lw_progress *p)
{
    struct winsize size = {0};
    if (p->terminal_fd >= 0 && ioctl(p->terminal_fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) {
        return size.ws_col;
    }
    return DEFAULT_WIDTH;
}

static void format_time(double seconds, char *out, size_t size)
{
    long long s = (long long)fmin(seconds + 0.5, 1e9);
    if (s >= 86400) {
        snprintf(out, size, "%lldd %02lld:%02lld:%02lld", s / 86400, s / 3600 % 24, s / 60 % 60, s % 60);
    } else if (s >= 3600) {
        snprintf(out, size, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    } else {
        snprintf(out, size, "%lld:%02lld", s / 60, s % 60);
    }
}

// Appends to a bounded text; what does not fit is cut.
__attribute__((format(printf, 3, 4))) static void add(char *out, size_t size, const char *format, ...)
{
    size_t used = strlen(out);
    va_list args;
    va_start(args, format);
    vsnprintf(out + used, size - used, format, args);
    va_end(args);
}

void lw_progress_format(const lw_progress_state *state, int width, char *out, size_t size)
{
    out[0] = '\0';
    add(out, size, "%s %lld", state->label, (long long)state->done);
    if (state->total > 0) {
        add(out, size, "/%lld", (long long)state->total);
    }
    if (!isnan(state->loss)) {
        add(out, size, "  loss %#.4g", state->loss);
    }
    if (state->samples_per_s > 0) {
        int digits = state->samples_per_s >= 100 ? 0 : state->samples_per_s >= 10 ? 1 : 2;
        add(out, size, "  %.*f samples/s", digits, state->samples_per_s);
    }
    if (state->left_s >= 0 && isfinite(state->left_s)) {
        char left[32];
        format_time(state->left_s, left, sizeof left);
        add(out, size, "  %s left", left);
    }
    if (width > 0 && strlen(out) > (size_t)width) {
        out[width] = '\0';
    }
}

double lw_progress_left_s(const lw_progress *progress, const lw_progress_state *state)
{
    if (state->left_s >= 0 || progress == NULL ||
        strncmp(progress->label, state->label, sizeof progress->label - 1) != 0 ||
        state->done <= progress->first_done || state->total < state->done) {
        return state->left_s;
    }
    double pace_s = (lw_now_s() - progress->first_s) / (double)(state->done - progress->first_done);
    return pace_s * (double)(state->total - state->done);
}

static void begin_label(lw_progress *p, const lw_progress_state *state, double now_s)
{
    lw_progress_finish(p);
    snprintf(p->label, sizeof p->label, "%s", state->label);
    p->first_done = state->done;
    p->first_s = now_s;
    p->drawn = false;
}

void lw_progress_update(lw_progress *progress, const lw_progress_state *state)
{
    lw_progress *p = progress;
    if (p == NULL) {
        return;
    }
    double now_s = lw_now_s();
    if (strncmp(p->label, state->label, sizeof p->label - 1) != 0 || state->done < p->first_done) {
        begin_label(p, state, now_s);
    }
    bool last = state->total > 0 && state->done == state->total;
    if (p->off || (p->drawn && !last && now_s - p->drawn_s < (p->live ? live_every_s : p->plain_every_s))) {
        return;
    }
    p->drawn = true;
    p->drawn_s = now_s;
    lw_progress_state shown = *state;
    shown.left_s = lw_progress_left_s(p, state);
    char text[LINE_BYTES + 16];
    if (p->live) {
        // The last column stays free: some terminals wrap as soon as it is written.
        lw_progress_format(&shown, terminal_width(p) - 1, p->line, sizeof p->line);
        snprintf(text, sizeof text, "\r%s\033[K", p->line);
    } else {
        char line[LINE_BYTES];
        lw_progress_format(&shown, 0, line, sizeof line);
        snprintf(text, sizeof text, "%s\n", line);
    }
    put(text, strlen(text));
}

void lw_progress_finish(lw_progress *progress)
{
    if (progress == NULL) {
        return;
    }
    if (progress->line[0] != '\0') {
        put("\n", 1);
        progress->line[0] = '\0';
    }
    progress->label[0] = '\0';
}

void lw_progress_message(lw_progress *progress, const char *format, ...)
{
    if (progress == NULL) {
        return;
    }
    char *message = NULL;
    va_list args;
    va_start(args, format);
    int length = vasprintf(&message, format, args);
    va_end(args);
    if (length < 0) {
        return; // without memory the message is lost; an allocation that matters will fail with an error
    }
    bool live = progress->line[0] != '\0';
    char *text = NULL;
    length = asprintf(&text, "%s%s\n%s", live ? CLEAR_LINE : "", message, live ? progress->line : "");
    if (length >= 0) {
        put(text, (size_t)length);
        free(text);
    }
    free(message);
}
