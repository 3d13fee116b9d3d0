// stages.c: the schedule of a run, stage after stage.
#include "train/schedule.h"

#include "core/random.h"

// Each stage has its own order, even if two stages have the same data. The first stage has the order of a run that has
// no phases.
static uint64_t seed_of(const lw_config *config, int64_t i)
{
    uint64_t seed = (uint64_t)config->seed;
    return i == 0 ? seed : lw_random_u64(seed, lw_random_stream("phase"), (uint64_t)i);
}

static lw_status make_stage(const lw_config *config, int64_t i, int64_t samples, int ranks, lw_error *err,
                            lw_stage *out)
{
    *out = (lw_stage){.config = lw_config_phase(config, i), .name = lw_config_phase_name(config, i)};
    lw_status status = lw_schedule_make(out->config, samples, ranks, err, &out->schedule);
    out->schedule.seed = seed_of(config, i);
    return status == LW_OK || config->phase_count == 0 ? status : lw_fail_in(err, status, "phase \"%s\"", out->name);
}

lw_status lw_run_schedule_make(const lw_config *config, const int64_t *samples, int ranks, lw_error *err,
                               lw_run_schedule *out)
{
    lw_run_schedule c = {.count = lw_config_phase_count(config)};
    for (int64_t i = 0; i < c.count; i++) {
        lw_stage *stage = &c.stages[i];
        LW_TRY(make_stage(config, i, samples[i], ranks, err, stage));
        stage->first_step = c.total_steps;
        stage->first_sample = c.total_samples;
        if (__builtin_add_overflow(c.total_samples, stage->schedule.total_samples, &c.total_samples)) {
            return lw_fail(err, LW_ERR_CONFIG, "phase \"%s\" and those before it have too many samples", stage->name);
        }
        c.total_steps += stage->schedule.total_steps; // cannot overflow: a step has at least one sample
    }
    c.global = c.stages[0].schedule.global;
    c.micro = c.stages[0].schedule.micro;
    if (config->train.max_steps > 0 && config->train.max_steps < c.total_steps) {
        int64_t first;
        int64_t count;
        const lw_stage *last = &c.stages[lw_run_schedule_stage(&c, config->train.max_steps - 1)];
        lw_schedule_step(&last->schedule, config->train.max_steps - 1 - last->first_step, &first, &count);
        c.total_steps = config->train.max_steps;
        c.total_samples = last->first_sample + first + count;
    }
    *out = c;
    return LW_OK;
}

int64_t lw_run_schedule_stage(const lw_run_schedule *c, int64_t step)
{
    int64_t i = 0;
    while (i + 1 < c->count && step >= c->stages[i + 1].first_step) {
        i++;
    }
    return i;
}

int64_t lw_run_schedule_overlap(const lw_run_schedule *c, int64_t i, int64_t from, int64_t to)
{
    const lw_stage *stage = &c->stages[i];
    int64_t end = stage->first_step + stage->schedule.total_steps;
    int64_t first = from > stage->first_step ? from : stage->first_step;
    int64_t last = to < end ? to : end;
    return last > first ? last - first : 0;
}

int64_t lw_run_schedule_updates(const lw_run_schedule *c, lw_rate rate, int64_t step)
{
    int64_t updates = 0;
    for (int64_t i = 0; i < c->count; i++) {
        const lw_stage *stage = &c->stages[i];
        updates += lw_schedule_updates(stage->config, &stage->schedule, rate, lw_run_schedule_overlap(c, i, 0, step));
    }
    return updates;
}
