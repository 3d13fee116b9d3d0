// systems.c: lists what an evaluation gets answers from.
#include "eval/systems.h"

#include <stdio.h>

const char *lw_eval_mode_key(lw_eval_mode mode)
{
    static const char *const keys[] = {
#define LW_EVAL_KEY(name, key, meaning) [name] = key,
        LW_EVAL_MODES(LW_EVAL_KEY)
#undef LW_EVAL_KEY
    };
    return keys[mode];
}

static void add_system(int *count, lw_eval_system *out, lw_eval_system system)
{
    if (*count < LW_EVAL_SYSTEMS) {
        out[(*count)++] = system;
    }
}

// Fewer latents: of queries the first ones, as nested training orders them; of a pooler that averages, as many wider
// spans, since the first ones would be the beginning of the text.
static void add_curve(const lw_config *c, int *count, lw_eval_system *out)
{
    enum { COARSER = 4 };
    for (int64_t m = 1; c->wire.ratio == 0 && m < c->wire.latents; m *= 2) {
        lw_eval_system system = {.mode = LW_EVAL_LATENT, .latents = m};
        snprintf(system.key, sizeof system.key, "latent_m%lld", (long long)m);
        add_system(count, out, system);
    }
    for (int k = COARSER; c->wire.ratio > 0 && k >= 1; k--) {
        lw_eval_system system = {.mode = LW_EVAL_LATENT, .ratio = c->wire.ratio << k};
        snprintf(system.key, sizeof system.key, "latent_ratio%lld", (long long)system.ratio);
        add_system(count, out, system);
    }
}

int lw_eval_systems(const lw_config *c, lw_eval_system *out)
{
    static const int64_t widths[] = {16, 8, 6, 4};
    int count = 0;
    for (int mode = 0; mode < LW_EVAL_MODE_COUNT; mode++) {
        lw_eval_system system = {.mode = (lw_eval_mode)mode};
        snprintf(system.key, sizeof system.key, "%s", lw_eval_mode_key(system.mode));
        add_system(&count, out, system);
    }
    for (size_t b = 0; c->eval.quantise && b < sizeof widths / sizeof widths[0]; b++) {
        lw_eval_system system = {.mode = LW_EVAL_LATENT, .bits = widths[b]};
        snprintf(system.key, sizeof system.key, "latent_%lldbit", (long long)widths[b]);
        add_system(&count, out, system);
    }
    if (c->eval.curve) {
        add_curve(c, &count, out);
    }
    return count;
}

int64_t lw_eval_latents(const lw_config *c, const lw_eval_system *system, int64_t tokens)
{
    int64_t all = lw_config_latents(c, tokens);
    if (system->ratio > 0) {
        return (tokens + system->ratio - 1) / system->ratio;
    }
    return system->latents > 0 && system->latents < all ? system->latents : all;
}

bool lw_eval_same_latents(const lw_config *c, const lw_eval_system *a, const lw_eval_system *b)
{
    bool same = (a->mode == LW_EVAL_SHUFFLED) == (b->mode == LW_EVAL_SHUFFLED) && a->bits == b->bits;
    return same && (!lw_config_pools(c, LW_POOLS_SPANS) || (a->latents == b->latents && a->ratio == b->ratio));
}
