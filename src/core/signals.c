// signals.c: handlers that set a flag, and the questions that the program asks of it.
#include "core/signals.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

// The only mutable globals of lwmpi: a handler has no other way to reach the program.
static volatile sig_atomic_t worst_signal = LW_SIGNAL_NONE;
static volatile sig_atomic_t interrupts = 0;

static void raise_to(sig_atomic_t level)
{
    if (level > worst_signal) {
        worst_signal = level;
    }
}

static void handle(int number)
{
    if (number == SIGINT) {
        interrupts = interrupts + 1;
        if (interrupts > 1) {
            _exit(128 + SIGINT);
        }
        raise_to(LW_SIGNAL_INT);
    } else if (number == SIGTERM) {
        raise_to(LW_SIGNAL_TERM);
    } else {
        raise_to(LW_SIGNAL_USR1);
    }
}

lw_status lw_signals_install(lw_error *err)
{
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    // One handler at a time, so that no two of them compare and set the flag at once.
    static const int handled[] = {SIGUSR1, SIGTERM, SIGINT};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof handled / sizeof handled[0]; i++) {
        sigaddset(&action.sa_mask, handled[i]);
    }
    for (size_t i = 0; i < sizeof handled / sizeof handled[0]; i++) {
        if (sigaction(handled[i], &action, NULL) != 0) {
            return lw_fail_errno(err, LW_ERR_INTERNAL, errno, "cannot handle signal %d", handled[i]);
        }
    }
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&ignore.sa_mask);
    if (sigaction(SIGPIPE, &ignore, NULL) != 0) {
        return lw_fail_errno(err, LW_ERR_INTERNAL, errno, "cannot ignore SIGPIPE");
    }
    return LW_OK;
}

lw_signal lw_signal_pending(void)
{
    return (lw_signal)worst_signal;
}

const char *lw_signal_name(lw_signal signal)
{
    switch (signal) {
    case LW_SIGNAL_USR1: return "SIGUSR1";
    case LW_SIGNAL_TERM: return "SIGTERM";
    case LW_SIGNAL_INT: return "SIGINT";
    case LW_SIGNAL_NONE: break;
    }
    return "no signal";
}

lw_status lw_signal_to_status(lw_signal signal)
{
    switch (signal) {
    case LW_SIGNAL_USR1:
    case LW_SIGNAL_TERM: return LW_REQUEUE;
    case LW_SIGNAL_INT: return LW_INTERRUPTED;
    case LW_SIGNAL_NONE: break;
    }
    return LW_OK;
}

lw_status lw_signal_check(lw_status status)
{
    return status == LW_OK ? lw_signal_to_status(lw_signal_pending()) : status;
}

void lw_signals_clear(void)
{
    worst_signal = LW_SIGNAL_NONE;
    interrupts = 0;
}
