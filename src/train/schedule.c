// schedule.c: the samples of each step of one stage, and the learning rates.
#include <math.h>

#include "data/order.h"
#include "train/schedule.h"

lw_status lw_schedule_make(const lw_config *c, int64_t samples, int ranks, lw_error *err, lw_schedule *out)
{
    lw_schedule s = {.samples = samples, .seed = (uint64_t)c->seed};
    s.global = c->batch.per_rank > 0 ? c->batch.per_rank * ranks : c->batch.global;
    if (ranks > samples) {
        return lw_fail(err, LW_ERR_CONFIG, "%d ranks for %lld training samples: start at most as many ranks as samples",
                       ranks, (long long)samples);
    }
    if (ranks > s.global) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "batch.global = %lld is less than the %d ranks that divide it; raise it or start fewer ranks",
                       (long long)s.global, ranks);
    }
    if (__builtin_mul_overflow(samples, c->train.epochs, &s.total_samples)) {
        return lw_fail(err, LW_ERR_CONFIG, "train.epochs = %lld is out of range for %lld samples",
                       (long long)c->train.epochs, (long long)samples);
    }
    s.total_steps = s.total_samples / s.global + (s.total_samples % s.global != 0);
    if (c->train.max_steps > 0 && c->train.max_steps < s.total_steps) {
        s.total_steps = c->train.max_steps;
        s.total_samples = s.total_steps * s.global;
    }
    int64_t share = (s.global + ranks - 1) / ranks;
    s.micro = c->batch.micro > 0 && c->batch.micro < share ? c->batch.micro : share;
    *out = s;
    return LW_OK;
}

int64_t lw_schedule_sample(const lw_schedule *s, int64_t position)
{
    return lw_order_index(s->seed, position / s->samples, position % s->samples, s->samples);
}

int64_t lw_schedule_occurrences(int64_t samples, int64_t micro, int64_t epochs)
{
    int64_t touched = samples > 0 && micro > 1 ? (micro - 2) / samples + 2 : 1;
    return touched < epochs ? touched : epochs;
}

void lw_schedule_step(const lw_schedule *s, int64_t step, int64_t *first, int64_t *count)
{
    int64_t rest = s->total_samples - step * s->global;
    *first = step * s->global;
    *count = rest < s->global ? rest : s->global;
}

void lw_schedule_share(const lw_schedule *s, int64_t step, int rank, int ranks, int64_t *first, int64_t *count)
{
    int64_t start;
    int64_t size;
    lw_schedule_step(s, step, &start, &size);
    int64_t from = size / ranks * rank + size % ranks * rank / ranks;
    int64_t to = size / ranks * (rank + 1) + size % ranks * (rank + 1) / ranks;
    *first = start + from;
    *count = to - from;
}

static double warmup_steps(const lw_config *c, const lw_schedule *s)
{
    return floor(c->train.warmup * (double)s->total_steps);
}

static double curve(const lw_config *c, const lw_schedule *s, double lr, int64_t step)
{
    double warmup = warmup_steps(c, s);
    double at = (double)step;
    if (at < warmup) {
        return lr * (at + 1.0) / warmup;
    }
    double rest = (double)s->total_steps - warmup;
    double progress = rest > 0.0 ? (at - warmup) / rest : 1.0;
    return lr * (c->train.min_lr + (1.0 - c->train.min_lr) * 0.5 * (1.0 + cos(acos(-1.0) * progress)));
}

double lw_schedule_lr(const lw_config *c, const lw_schedule *s, int64_t step)
{
    return curve(c, s, c->train.lr, step);
}

// The first step that updates these parameters.
static int64_t first_update(const lw_config *c, const lw_schedule *s, lw_rate rate)
{
    return rate == LW_RATE_ENCODER ? (int64_t)ceil(c->train.encoder_start * (double)s->total_steps) : 0;
}

static double highest(const lw_config *c, lw_rate rate)
{
    double own = rate == LW_RATE_ENCODER ? c->train.encoder_lr : c->train.adapter_lr;
    return own > 0.0 ? own : c->train.lr;
}

// Whether one LLM runs alone in this step and the rate is that of another LLM's adapter.
static bool is_anothers_step(const lw_config *c, lw_rate rate, int64_t step)
{
    int64_t only_llm = lw_schedule_only_llm(c, step);
    return only_llm >= 0 && rate != LW_RATE_ENCODER && rate - LW_RATE_ADAPTER != only_llm;
}

int64_t lw_schedule_only_llm(const lw_config *c, int64_t step)
{
    return c->train.schedule == LW_SCHEDULE_ALTERNATE ? step % c->model_count : -1;
}

double lw_schedule_rate(const lw_config *c, const lw_schedule *s, lw_rate rate, int64_t step)
{
    int64_t first = first_update(c, s, rate);
    if (step < first || is_anothers_step(c, rate, step)) {
        return 0.0;
    }
    double lr = curve(c, s, highest(c, rate), step);
    double at = (double)(step - first);
    double warmup = warmup_steps(c, s);
    return first > 0 && at < warmup ? lr * (at + 1.0) / warmup : lr;
}

int64_t lw_schedule_updates(const lw_config *c, const lw_schedule *s, lw_rate rate, int64_t steps)
{
    int64_t first = first_update(c, s, rate);
    int64_t updates = steps > first && highest(c, rate) > 0.0 ? steps - first : 0;
    if (c->train.schedule != LW_SCHEDULE_ALTERNATE || rate == LW_RATE_ENCODER) {
        return updates;
    }
    int64_t own_first = rate - LW_RATE_ADAPTER; // the first step of this LLM
    return updates > own_first ? (updates - own_first - 1) / c->model_count + 1 : 0;
}
