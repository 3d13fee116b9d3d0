// grid.h: how the ranks of a job divide it: data x model x tensor. Local.
//
// `data` replicates the frozen models and divides the samples of a step; `model` puts different frozen LLMs on
// different ranks; `tensor` splits the layers of each LLM. Tensor runs fastest and data slowest, so that a tensor
// group, which talks in every layer, lies inside a node where the ranks of a node are neighbours.
#ifndef LW_GRID_H
#define LW_GRID_H

#include <stdint.h>

#include "core/limits.h"
#include "core/status.h"

typedef struct lw_grid {
    int data, model, tensor; // at least 1 each; their product is the number of ranks
} lw_grid;

typedef struct lw_grid_place { // from 0
    int data, model, tensor;
} lw_grid_place;

static inline int lw_grid_ranks(lw_grid grid)
{
    return grid.data * grid.model * grid.tensor;
}

lw_grid_place lw_grid_place_of(lw_grid grid, int rank);
int lw_grid_rank(lw_grid grid, lw_grid_place place);

// The grid of `ranks` ranks with these two axes; data is what is left. LW_ERR_CONFIG where they do not divide the
// ranks, or where there are more model ranks than LLMs.
lw_status lw_grid_make(int ranks, int64_t model, int64_t tensor, int64_t llms, lw_error *err, lw_grid *out);

// Shares LLMs out over the model axis by size: the largest first, each to the rank with the least so far. Every rank
// gets one where there are as many. owner (count): model coordinates.
void lw_grid_owners(const double *bytes, int64_t count, int model, int *owner);

#endif
