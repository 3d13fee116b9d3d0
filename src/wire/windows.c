// windows.c: cuts long texts into windows that a frozen backbone can read.
#include "wire/windows.h"

lw_status lw_windows_of(const lw_config *config, const lw_backbone *backbone, const char *what, int64_t layers,
                        int64_t max_positions, lw_error *err, lw_windows *out)
{
    int64_t window = config->encoder.window;
    if (config->encoder.layers > layers) {
        return lw_fail(err, LW_ERR_CONFIG, "encoder.layers = %lld, but the encoder's %s has %lld: use at most these",
                       (long long)config->encoder.layers, what, (long long)layers);
    }
    if (window > max_positions) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "encoder.window = %lld, but max_position_embeddings of the encoder's %s is %lld: use at most "
                       "that, or 0",
                       (long long)window, what, (long long)max_positions);
    }
    *out = (lw_windows){.most = window > 0 ? window : max_positions, .first = backbone->first, .last = backbone->last};
    return LW_OK;
}

static int64_t marks(const lw_windows *w)
{
    return (w->first >= 0 ? 1 : 0) + (w->last >= 0 ? 1 : 0);
}

// The number of windows of a text: the smallest possible one. They then have nearly the same length.
static int64_t windows_of(const lw_windows *w, int64_t tokens)
{
    int64_t most = w->most - marks(w);
    return (tokens + most - 1) / most;
}

int64_t lw_windows_positions(const lw_windows *w, int64_t max_tokens)
{
    int64_t around = marks(w) > 0 ? marks(w) : 1; // an empty text still takes a position
    int64_t longest = max_tokens + around;
    return longest < w->most ? longest : w->most;
}

// The limits of a pass over the windows of such a batch. Its supervised rows are the tokens of the texts, in order.
static lw_pass_limits limits_of(const lw_windows *w, const lw_encoder_limits *l)
{
    // At most one window of every text is not full.
    int64_t most = w->most - marks(w);
    int64_t each = l->samples * windows_of(w, l->max_tokens);
    int64_t all = l->samples + l->tokens / most;
    lw_pass_limits p = {.sequences = each < all ? each : all, .supervised = l->tokens};
    p.rows = l->tokens + p.sequences * marks(w);
    p.max_len = lw_windows_positions(w, l->max_tokens);
    return p;
}

static lw_status add_window(const lw_windows *w, lw_packing *p, const int32_t *ids, int64_t count, lw_error *err)
{
    int64_t first = -1;
    if (w->first < 0) {
        first = lw_packing_add(p, 0, 0, ids, count, 0);
    } else if (lw_packing_add(p, 0, 0, &w->first, 1, 0) >= 0) {
        first = lw_packing_extend(p, ids, count);
    }
    for (int64_t i = 0; first >= 0 && i < count; i++) {
        if (!lw_packing_score(p, first + i, 0, 0.0F)) {
            first = -1;
        }
    }
    if (first >= 0 && w->last >= 0 && lw_packing_extend(p, &w->last, 1) < 0) {
        first = -1;
    }
    return first >= 0 ? LW_OK : lw_fail(err, LW_ERR_INTERNAL, "the encoder's windows exceed the limits of a pass");
}

static lw_status pack(const lw_windows *w, const lw_encoder_batch *batch, lw_error *err, lw_packing *packing)
{
    lw_packing_clear(packing);
    for (int64_t i = 0; i < batch->samples; i++) {
        int64_t tokens = batch->at.length[i];
        int64_t n = windows_of(w, tokens);
        for (int64_t k = 0; k < n; k++) {
            int64_t from = k * tokens / n;
            int64_t to = (k + 1) * tokens / n;
            LW_TRY(add_window(w, packing, batch->at.token + batch->at.start[i] + from, to - from, err));
        }
    }
    return LW_OK;
}

// --- buffers

void lw_windows_layout(lw_arena *arena, const lw_windows *w, const lw_encoder_limits *limits, lw_windows_buffers *out)
{
    *out = (lw_windows_buffers){.limits = limits_of(w, limits)};
    out->indices = lw_arena_take(arena, (int64_t)lw_packing_device_bytes(&out->limits), 1);
}

lw_status lw_windows_start(lw_windows_buffers *b, lw_error *err)
{
    return b->packing.host.base != NULL ? LW_OK : lw_packing_create(&b->limits, b->indices, err, &b->packing);
}

lw_status lw_windows_upload(const lw_windows *w, lw_device *dev, const lw_encoder_batch *batch, lw_error *err,
                            lw_windows_buffers *b)
{
    LW_TRY(pack(w, batch, err, &b->packing));
    lw_packing_upload(&b->packing, dev);
    return LW_OK;
}
