// grid.c: coordinates of ranks in a grid, and which of them has which LLM.
#include "core/grid.h"

#include <stdbool.h>

lw_grid_place lw_grid_place_of(lw_grid grid, int rank)
{
    return (lw_grid_place){.data = rank / (grid.model * grid.tensor),
                           .model = rank / grid.tensor % grid.model,
                           .tensor = rank % grid.tensor};
}

int lw_grid_rank(lw_grid grid, lw_grid_place place)
{
    return (place.data * grid.model + place.model) * grid.tensor + place.tensor;
}

lw_status lw_grid_make(int ranks, int64_t model, int64_t tensor, int64_t llms, lw_error *err, lw_grid *out)
{
    if (model > llms) {
        return lw_fail(
            err, LW_ERR_CONFIG,
            "grid.model = %lld, but there %s %lld LLM%s in models: a rank would have none; set grid.model to "
            "%lld at most",
            (long long)model, llms == 1 ? "is" : "are", (long long)llms, llms == 1 ? "" : "s", (long long)llms);
    }
    if (model * tensor > ranks || ranks % (model * tensor) != 0) {
        return lw_fail(
            err, LW_ERR_CONFIG,
            "grid.model = %lld times grid.tensor = %lld does not divide the job's %d rank%s; start a multiple "
            "of %lld ranks, or set both to \"auto\"",
            (long long)model, (long long)tensor, ranks, ranks == 1 ? "" : "s", (long long)(model * tensor));
    }
    *out = (lw_grid){.data = (int)(ranks / (model * tensor)), .model = (int)model, .tensor = (int)tensor};
    return LW_OK;
}

void lw_grid_owners(const double *bytes, int64_t count, int model, int *owner)
{
    double load[LW_MAX_MODELS] = {0.0};
    int owned[LW_MAX_MODELS] = {0};
    for (int64_t j = 0; j < count; j++) {
        owner[j] = -1;
    }
    for (int64_t turn = 0; turn < count; turn++) {
        int64_t largest = -1;
        int least = 0;
        for (int64_t j = 0; j < count; j++) {
            if (owner[j] < 0 && (largest < 0 || bytes[j] > bytes[largest])) {
                largest = j;
            }
        }
        for (int m = 1; m < model; m++) {
            bool less = load[m] < load[least] || (load[m] == load[least] && owned[m] < owned[least]);
            least = less ? m : least;
        }
        owner[largest] = least;
        load[least] += bytes[largest];
        owned[least]++;
    }
}
