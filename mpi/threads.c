// threads.c: divides the processors of a node among its ranks.
#include "threads.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct lw_binding {
    char host[256];
    cpu_set_t processors;
} lw_binding;

lw_status lw_threads_auto(lw_comm *comm, lw_error *err, int *out)
{
    int ranks = lw_comm_size(comm);
    lw_binding mine;
    memset(&mine, 0, sizeof mine);
    snprintf(mine.host, sizeof mine.host, "%s", lw_comm_host(comm));
    // Where the mask cannot be read (more processors than cpu_set_t holds), one thread is the safe answer.
    bool known = sched_getaffinity(0, sizeof mine.processors, &mine.processors) == 0;
    lw_binding *all = calloc((size_t)ranks, sizeof *all);
    lw_status status =
        all == NULL ? lw_fail(err, LW_ERR_MEMORY, "no memory for the bindings of %d ranks", ranks) : LW_OK;
    status = lw_comm_agree(comm, status, err);
    if (status != LW_OK) {
        goto done;
    }
    LW_TRY_GOTO(lw_comm_all_gather(comm, &mine, sizeof mine, err, all));
    int sharers = 0;
    for (int r = 0; r < ranks; r++) {
        sharers += strcmp(all[r].host, mine.host) == 0 && CPU_EQUAL(&all[r].processors, &mine.processors);
    }
    int share = known && sharers > 0 ? CPU_COUNT(&mine.processors) / sharers : 1;
    *out = share > 1 ? share : 1;
done:
    free(all);
    return status;
}
