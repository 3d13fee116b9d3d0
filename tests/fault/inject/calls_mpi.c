// calls_mpi.c: stands in for MPI, over its profiling interface.
#include "inject.h"

#include <mpi.h>
#include <stddef.h>

enum { TAG_NEVER = 31999 };

// A request that nothing will ever complete.
static int never(MPI_Request *request)
{
    static char nothing;
    return PMPI_Irecv(&nothing, 1, MPI_BYTE, 0, TAG_NEVER, MPI_COMM_SELF, request);
}

// Calls that block, or return at once: a hang stays in lw_inject.
#define BLOCKING(call, name, arguments, ...)                                                                         \
    int MPI_##name arguments                                                                                         \
    {                                                                                                                \
        return lw_inject(LW_CALL_##call, "MPI_" #name, false) == LW_FAIL ? MPI_ERR_OTHER : PMPI_##name(__VA_ARGS__); \
    }

#define STARTING(name, arguments, ...)                        \
    int MPI_##name arguments                                  \
    {                                                         \
        switch (lw_inject(LW_CALL_mpi, "MPI_" #name, true)) { \
        case LW_FAIL: return MPI_ERR_OTHER;                   \
        case LW_NEVER: return never(request);                 \
        default: return PMPI_##name(__VA_ARGS__);             \
        }                                                     \
    }

BLOCKING(mpi, Init_thread, (int *argc, char ***argv, int required, int *provided), argc, argv, required, provided)
BLOCKING(mpi, Finalize, (void))
BLOCKING(mpi, Comm_dup, (MPI_Comm comm, MPI_Comm *out), comm, out)
BLOCKING(mpi, Comm_free, (MPI_Comm * comm), comm)
BLOCKING(mpi, Comm_split, (MPI_Comm comm, int colour, int key, MPI_Comm *out), comm, colour, key, out)
BLOCKING(mpi, Comm_split_type, (MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm *out), comm, type, key, info,
         out)
BLOCKING(mpi, Comm_rank, (MPI_Comm comm, int *rank), comm, rank)
BLOCKING(mpi, Comm_size, (MPI_Comm comm, int *size), comm, size)
BLOCKING(mpi, Comm_set_errhandler, (MPI_Comm comm, MPI_Errhandler handler), comm, handler)
BLOCKING(poll, Test, (MPI_Request * request, int *flag, MPI_Status *status), request, flag, status)
BLOCKING(poll, Testall, (int count, MPI_Request requests[], int *flag, MPI_Status statuses[]), count, requests, flag,
         statuses)
BLOCKING(poll, Iprobe, (int source, int tag, MPI_Comm comm, int *flag, MPI_Status *status), source, tag, comm, flag,
         status)
BLOCKING(poll, Recv,
         (void *buffer, int count, MPI_Datatype type, int source, int tag, MPI_Comm comm, MPI_Status *status), buffer,
         count, type, source, tag, comm, status)

STARTING(Ibarrier, (MPI_Comm comm, MPI_Request *request), comm, request)
STARTING(Ibcast, (void *buffer, int count, MPI_Datatype type, int root, MPI_Comm comm, MPI_Request *request), buffer,
         count, type, root, comm, request)
STARTING(Iallreduce,
         (const void *in, void *out, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm, MPI_Request *request), in,
         out, count, type, op, comm, request)
STARTING(Iallgather,
         (const void *in, int in_count, MPI_Datatype in_type, void *out, int out_count, MPI_Datatype out_type,
          MPI_Comm comm, MPI_Request *request),
         in, in_count, in_type, out, out_count, out_type, comm, request)
STARTING(Igather,
         (const void *in, int in_count, MPI_Datatype in_type, void *out, int out_count, MPI_Datatype out_type, int root,
          MPI_Comm comm, MPI_Request *request),
         in, in_count, in_type, out, out_count, out_type, root, comm, request)
STARTING(Isend,
         (const void *buffer, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request *request),
         buffer, count, type, to, tag, comm, request)
STARTING(Irecv, (void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request *request),
         buffer, count, type, from, tag, comm, request)
STARTING(Comm_idup, (MPI_Comm comm, MPI_Comm *out, MPI_Request *request), comm, out, request)
