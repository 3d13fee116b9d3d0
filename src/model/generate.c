// generate.c: greedy generation from a frozen LLM, and scores of given answers, with a key-value cache.
#include "model/generate.h"

#include <stdlib.h>

lw_status lw_generator_layout(lw_arena *arena, lw_device *dev, const lw_hf_config *config, const lw_pass_limits *limits,
                              int64_t max_new, lw_error *err, lw_generator *g)
{
    lw_generator_free(g);
    g->dev = dev;
    g->config = config;
    g->limits = *limits;
    g->max_new = max_new;
    g->indices = lw_arena_take(arena, (int64_t)lw_packing_device_bytes(limits), 1);
    LW_TRY(lw_kv_cache_layout(arena, dev, config, limits->sequences, limits->max_len, err, &g->cache));
    return lw_decoder_pass_layout(arena, dev, config, NULL, &(lw_decoder_pass){.mode = LW_PASS_INFER}, limits, err,
                                  &g->buffers);
}

lw_status lw_generator_start(lw_generator *g, const lw_decoder *decoder, lw_error *err)
{
    g->decoder = decoder;
    g->sequences = calloc((size_t)g->limits.sequences, sizeof *g->sequences);
    g->ids = calloc((size_t)(g->limits.sequences * g->max_new), sizeof *g->ids);
    g->argmax = calloc((size_t)g->limits.supervised, sizeof *g->argmax);
    g->nll = calloc((size_t)g->limits.supervised, sizeof *g->nll);
    if (g->sequences == NULL || g->ids == NULL || g->argmax == NULL || g->nll == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the results of a generation pass");
    }
    return lw_packing_create(&g->limits, g->indices, err, &g->packing);
}

void lw_generator_free(lw_generator *g)
{
    lw_packing_free(&g->packing);
    lw_decoder_buffers_free(&g->buffers);
    lw_kv_cache_free(&g->cache);
    free(g->sequences);
    free(g->ids);
    free(g->argmax);
    free(g->nll);
    *g = (lw_generator){0};
}

void lw_generator_clear(lw_generator *g)
{
    lw_packing_clear(&g->packing);
}

// What follows the rows of the sequence added last.
static bool add_answer(lw_generator *g, lw_tokens answer)
{
    lw_packing *p = &g->packing;
    int64_t i = p->sequences - 1;
    int64_t last = p->rows - 1;
    lw_generated *s = &g->sequences[i];
    *s = (lw_generated){.ids = g->ids + i * g->max_new, .first_row = p->supervised};
    s->position = p->at.position[last] + 1;
    if (answer.count > 1 && lw_packing_extend(p, answer.ids, answer.count - 1) < 0) {
        return false;
    }
    s->scored = answer.count > 0 ? answer.count : 1;
    for (int64_t t = 0; t < s->scored; t++) {
        if (!lw_packing_score(p, last + t, answer.count > 0 ? answer.ids[t] : 0, 0.0F)) {
            return false;
        }
    }
    lw_packing_use_cache(p, i, g->cache.capacity);
    return true;
}

bool lw_generator_add(lw_generator *g, int64_t prefix_first, int64_t prefix_count, lw_tokens before, lw_tokens after,
                      lw_tokens answer)
{
    lw_packing *p = &g->packing;
    return lw_packing_add(p, prefix_first, prefix_count, before.ids, before.count, 0) >= 0 &&
           lw_packing_extend(p, after.ids, after.count) >= 0 && add_answer(g, answer);
}

bool lw_generator_fits(const lw_generator *g, int64_t before, int64_t answer)
{
    const lw_packing *p = &g->packing;
    return p->sequences < g->limits.sequences && p->rows + before + answer - 1 <= g->limits.rows &&
           p->supervised + answer <= g->limits.supervised && before + answer <= g->limits.max_len;
}

bool lw_generator_add_task(lw_generator *g, int64_t prefix_first, int64_t prefix_count, int64_t task_row,
                           lw_tokens answer)
{
    lw_packing *p = &g->packing;
    if (prefix_count == 0) {
        return lw_packing_add(p, task_row, 1, NULL, 0, 0) >= 0 && add_answer(g, answer);
    }
    return lw_packing_add(p, prefix_first, prefix_count, NULL, 0, 0) >= 0 && lw_packing_extend_soft(p, task_row) &&
           add_answer(g, answer);
}

static bool is_end(const lw_generator *g, int32_t eos, int32_t id)
{
    for (int e = 0; e < g->config->eos_count; e++) {
        if (g->config->eos_id[e] == id) {
            return true;
        }
    }
    return id == eos;
}

static void take(lw_generator *g, int64_t i, int32_t id, int32_t eos)
{
    lw_generated *s = &g->sequences[i];
    if (is_end(g, eos, id)) {
        s->done = true;
    } else {
        s->ids[s->count++] = id;
        s->done = s->count == g->max_new;
    }
}

// One more token for every sequence that has not ended.
static lw_status extend(lw_generator *g, int64_t sequences, int32_t eos, lw_error *err, bool *any)
{
    lw_packing *p = &g->packing;
    lw_packing_clear(p);
    for (int64_t i = 0; i < sequences; i++) {
        lw_generated *s = &g->sequences[i];
        if (!s->done) {
            int64_t row = lw_packing_add(p, 0, 0, &s->ids[s->count - 1], 1, s->position++);
            lw_packing_use_cache(p, i, g->cache.capacity);
            lw_packing_score(p, row, 0, 0.0F);
        }
    }
    *any = p->sequences > 0;
    if (!*any) {
        return LW_OK;
    }
    lw_packing_upload(p, g->dev);
    lw_decoder_forward(g->decoder, p, NULL, &g->cache, &g->buffers);
    lw_decoder_logits(g->decoder, p, &g->buffers);
    g->dev->ops->argmax(g->dev, p->supervised, g->config->vocab, g->buffers.logits, LW_F32, g->buffers.argmax);
    g->dev->ops->download(g->dev, g->buffers.argmax, (size_t)p->supervised * sizeof(int32_t), g->argmax);
    LW_TRY(g->dev->ops->sync(g->dev, err));
    lw_heartbeat_report(&g->dev->heartbeat);
    int64_t row = 0;
    for (int64_t i = 0; i < sequences; i++) {
        if (!g->sequences[i].done) {
            take(g, i, g->argmax[row++], eos);
        }
    }
    return LW_OK;
}

lw_status lw_generator_score(lw_generator *g, const float *soft, lw_error *err)
{
    lw_packing *p = &g->packing;
    int64_t scored = p->supervised;
    lw_packing_upload(p, g->dev);
    lw_decoder_forward(g->decoder, p, soft, &g->cache, &g->buffers);
    lw_decoder_logits(g->decoder, p, &g->buffers);
    lw_decoder_loss(g->decoder, p, false, &g->buffers);
    g->dev->ops->download(g->dev, g->buffers.argmax, (size_t)scored * sizeof(int32_t), g->argmax);
    g->dev->ops->download(g->dev, g->buffers.nll, (size_t)scored * sizeof(float), g->nll);
    LW_TRY(g->dev->ops->sync(g->dev, err));
    for (int64_t i = 0; i < p->sequences; i++) {
        lw_generated *s = &g->sequences[i];
        for (int64_t t = 0; t < s->scored; t++) {
            s->nll += (double)g->nll[s->first_row + t];
        }
        s->first_token = g->argmax[s->first_row];
    }
    return LW_OK;
}

lw_status lw_generator_run(lw_generator *g, const float *soft, int32_t eos, lw_error *err)
{
    int64_t sequences = g->packing.sequences;
    LW_TRY(lw_generator_score(g, soft, err));
    for (int64_t i = 0; i < sequences; i++) {
        take(g, i, g->sequences[i].first_token, eos);
    }
    bool any = true;
    while (any) {
        LW_TRY(extend(g, sequences, eos, err, &any));
    }
    return LW_OK;
}
