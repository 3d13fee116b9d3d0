// inject.h: a preloaded library that makes one call of a program go wrong, and counts the calls that could.
//
//   env LD_PRELOAD=liblwmpi_inject.so LWMPI_INJECT_PROGRAM=/path/lwmpi LWMPI_INJECT_ROOT=/scratch/folder
//       LWMPI_INJECT="calls=write+create,n=7,action=fail,error=28,sticky=1,rank=0" /path/lwmpi ...
//
// LWMPI_INJECT_PROGRAM  the executable that it acts in (children and launchers are left alone)
// LWMPI_INJECT_ROOT     file operations count only on paths below this folder, so not those of libraries
// LWMPI_INJECT_NOTES    a folder. FOLDER/hit.RANK gets "CLASS N PATH" of what was made to go wrong, so that a test can
//                       tell an injection that the program survived from one that never took place.
// LWMPI_INJECT_TRACE=1  FOLDER/trace.RANK gets a line "CLASS N SITE PATH" for every call; SITE is a hash of the
//                       program's call stack, the same in every run of the same program
// LWMPI_INJECT          what goes wrong, as KEY=VALUE words between commas:
//   calls    classes of calls (below), joined by +
//   n        which of them, from 1, counted per process over these classes
//   sticky   1: that one and all later ones
//   rank     only on this rank; -1, the default: on all
//   path     count only paths (or names of MPI calls) that contain this text
//   action   fail    the call does nothing and returns an error: errno `error`; NULL; an MPI error code
//            short   a read or write moves one byte only; end: a read finds the end of the file
//            hang    the call never returns; a non-blocking MPI operation never completes
//            delay   it returns `seconds` later
//            kill    SIGKILL to itself before the call
//            stop    SIGSTOP to itself before the call
//            vanish  the folder `root/run` is renamed to `root/gone` before the call
#ifndef LW_INJECT_H
#define LW_INJECT_H

#include <stdbool.h>

// X(name). Allocations count when the program itself asks for them, "liballoc" when a library of the program's own
// (JSON, regular expressions, hashes) asks. "mpi" are the calls that a program makes in a fixed order, "poll" those
// whose number depends on time.
#define LW_INJECT_CLASSES(X) \
    X(open)                  \
    X(create)                \
    X(read)                  \
    X(write)                 \
    X(fsync)                 \
    X(rename)                \
    X(mkdir)                 \
    X(unlink)                \
    X(close)                 \
    X(truncate)              \
    X(map)                   \
    X(list)                  \
    X(stat)                  \
    X(lock)                  \
    X(alloc)                 \
    X(liballoc)              \
    X(mpi)                   \
    X(poll)

typedef enum lw_inject_class {
#define LW_INJECT_ENUM(name) LW_CALL_##name,
    LW_INJECT_CLASSES(LW_INJECT_ENUM)
#undef LW_INJECT_ENUM
        LW_CALL_CLASSES
} lw_inject_class;

typedef enum lw_verdict {
    LW_GO,    // make the real call
    LW_FAIL,  // errno is set
    LW_SHORT, // move one byte
    LW_END,   // report the end of the file
    LW_NEVER, // start nothing and never complete: asked of non-blocking MPI operations alone
} lw_verdict;

// Counts one call and says what becomes of it. `path` is for notes and, in classes of files, decides whether the call
// counts at all. `can_pend`: the caller knows how to never complete; otherwise a hang does not return from here.
lw_verdict lw_inject(lw_inject_class call, const char *path, bool can_pend);
lw_verdict lw_inject_fd(lw_inject_class call, int fd);
// Whether an allocation asked for from `caller` counts, and as what; false: it does not.
bool lw_inject_caller(const void *caller, lw_inject_class *out);

// The next function of that name after this library.
void *lw_inject_next(const char *name);

#endif
