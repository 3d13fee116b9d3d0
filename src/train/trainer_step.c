// trainer_step.c: one step of training, from its samples to its figures.
#include <math.h>

#include "data/sample.h"
#include "train/trainer_internal.h"
#include "wire/step.h"

// The sample at `position` of the stage.
static const lw_token_sample *sample_at(const lw_trainer *t, int64_t position)
{
    const lw_schedule *s = &t->schedule.stages[t->stage].schedule;
    return lw_corpus_sample(&t->job->train[t->stage], lw_schedule_sample(s, position), s->seed, position);
}

void lw_trainer_enter(lw_trainer *t)
{
    int64_t i = lw_run_schedule_stage(&t->schedule, t->state.step);
    const lw_stage *stage = &t->schedule.stages[i];
    if (i == t->stage) {
        return;
    }
    bool drops = stage->config->train.latent_dropout > 0.0 || stage->config->train.nested_from > 0;
    t->spec = lw_step_spec_of(stage->config);
    t->spec.states = lw_teacher_states;
    t->spec.states_context = t->teachers[i];
    t->spec.positions = drops ? t->positions : NULL;
    t->spec.seed = stage->schedule.seed;
    t->stage = i;
    if (t->schedule.count > 1) {
        lw_log(t->job->run, "phase %s: steps %lld to %lld, on %s", stage->name, (long long)(stage->first_step + 1),
               (long long)(stage->first_step + stage->schedule.total_steps), stage->config->data.train);
    }
}

// Whether LLM j runs in the step.
static bool runs(const lw_trainer *t, int64_t j)
{
    return t->spec.only_llm < 0 || t->spec.only_llm == j;
}

// How many LLMs run in the step.
static double running(const lw_trainer *t)
{
    return t->spec.only_llm < 0 ? (double)t->job->llm_count : 1.0;
}

// Sets t->spec up for the next step.
static void set_up_step(lw_trainer *t)
{
    lw_trainer_enter(t);
    const lw_stage *stage = &t->schedule.stages[t->stage];
    int64_t step = t->state.step - stage->first_step;
    t->spec.only_llm = lw_schedule_only_llm(stage->config, step);
    t->spec.encoder_frozen = lw_schedule_rate(stage->config, &stage->schedule, LW_RATE_ENCODER, step) == 0.0;
}

// Counts, for each LLM, the answer tokens of the whole step and how many of them have a teacher, and the rows that the
// LLMs process. Every rank counts them all, which costs less than a reduction.
static void count_tokens(lw_trainer *t, int64_t first, int64_t count, int64_t *answer_tokens, int64_t *rows)
{
    const lw_stage *stage = &t->schedule.stages[t->stage];
    const lw_step_loss loss = lw_step_loss_of(stage->config);
    int64_t taught[LW_MAX_MODELS] = {0};
    for (int64_t j = 0; j < t->job->llm_count; j++) {
        answer_tokens[j] = 0;
    }
    *rows = 0;
    for (int64_t i = first; i < first + count; i++) {
        const lw_token_sample *s = sample_at(t, i);
        for (int64_t j = 0; j < t->job->llm_count; j++) {
            answer_tokens[j] += s->answer[j].count;
            taught[j] += lw_step_taught(&loss, s, j);
            *rows += runs(t, j) ? lw_token_sample_rows(stage->config, s, j) : 0;
        }
    }
    for (int64_t j = 0; j < t->job->llm_count; j++) { // the inverse of kl_weight (wire/step.h) times the positions
        double divisor = (double)answer_tokens[j] * running(t);
        t->kl_factor[j] = taught[j] > 0 ? divisor / (loss.kd_weight * (double)taught[j]) : NAN;
    }
}

static lw_status run_share(lw_trainer *t, const int64_t *answer_tokens, lw_error *err)
{
    lw_job *job = t->job;
    const lw_stage *stage = &t->schedule.stages[t->stage];
    int64_t first;
    int64_t count;
    lw_schedule_share(&stage->schedule, t->state.step - stage->first_step, job->place.data, job->grid.data, &first,
                      &count);
    for (int64_t done = 0; done < count;) {
        int64_t n = count - done < t->schedule.micro ? count - done : t->schedule.micro;
        for (int64_t i = 0; i < n; i++) {
            t->micro_batch[i] = sample_at(t, first + done + i);
            t->positions[i] = first + done + i;
        }
        LW_TRY(lw_step_run(&t->step, &t->spec, t->micro_batch, n, answer_tokens, err));
        done += n;
    }
    return LW_OK;
}

// Puts this rank's signal and a failure of its disk behind the gradients, so that the reduction, which comes anyway,
// brings them to all ranks.
static void post_requests(lw_trainer *t)
{
    const float one = 1.0F;
    lw_device *dev = t->job->dev;
    static const int slots[] = {
        [LW_SIGNAL_USR1] = LW_STAT_USR1, [LW_SIGNAL_TERM] = LW_STAT_TERM, [LW_SIGNAL_INT] = LW_STAT_INT};
    lw_signal pending = lw_comm_signal(t->job->comm);
    if (pending != LW_SIGNAL_NONE) {
        dev->ops->upload(dev, &one, sizeof one, t->job->wire.stats + slots[pending]);
    }
    lw_trainer_poll_disk(t);
    if (t->disk_status != LW_OK) {
        dev->ops->upload(dev, &one, sizeof one, t->job->wire.stats + LW_STAT_DISK);
    }
}

static lw_status read_back(lw_trainer *t, lw_error *err)
{
    lw_job *job = t->job;
    float stats[LW_STAT_COUNT];
    float sqnorm;
    job->dev->ops->download(job->dev, job->wire.stats, sizeof stats, stats);
    job->dev->ops->download(job->dev, job->wire.sqnorm, sizeof sqnorm, &sqnorm);
    LW_TRY(job->dev->ops->sync(job->dev, err));
    t->grad_norm = sqrt((double)sqnorm);
    t->mean_loss = 0.0;
    double tau = t->spec.loss.kd_tau;
    for (int64_t j = 0; j < job->llm_count; j++) {
        if (!runs(t, j)) {
            continue; // t->loss[j] stays that of its last step
        }
        double loss = (double)stats[LW_STAT_LOSS + j] + tau * tau * (double)stats[LW_STAT_KL + j];
        t->loss[j] = loss * running(t);
        t->loss_step[j] = t->state.step + 1;
        t->kl[j] = (double)stats[LW_STAT_KL + j] * t->kl_factor[j];
        t->mean_loss += loss;
    }
    t->signal = stats[LW_STAT_INT] > 0.0F    ? LW_SIGNAL_INT
                : stats[LW_STAT_TERM] > 0.0F ? LW_SIGNAL_TERM
                : stats[LW_STAT_USR1] > 0.0F ? LW_SIGNAL_USR1
                                             : LW_SIGNAL_NONE;
    t->disk_failed = stats[LW_STAT_DISK] > 0.0F;
    return LW_OK;
}

// Counts a step that was skipped because of non-finite numbers. Too many in a row end the run.
static lw_status count_skipped(lw_trainer *t, int64_t first, int64_t count, lw_error *err)
{
    lw_job *job = t->job;
    double loss[LW_MAX_MODELS] = {0.0}; // of the LLMs that ran
    for (int64_t j = 0; j < job->llm_count; j++) {
        loss[j] = runs(t, j) ? t->loss[j] : 0.0;
    }
    t->state.skipped++;
    t->state.skipped_in_row++;
    lw_trainer_log_skipped(job, t->stage, &t->schedule.stages[t->stage].schedule, t->state.step, first, count, loss,
                           t->grad_norm);
    if (t->state.skipped_in_row < job->config->train.max_skipped) {
        return LW_OK;
    }
    return lw_trainer_give_up(job, t->state.skipped_in_row, t->last_saved, err);
}

// A failure inside a step concerns this rank alone, and the others wait for it in the reduction, so it ends the job.
static void stop_all(lw_trainer *t, lw_status status, const lw_error *err)
{
    if (status != LW_OK) {
        lw_comm_abort(t->job->comm, status, err);
    }
}

// The bias correction counts the updates of each part of the parameters. If a part was not updated in every step,
// nobody knows how many of its own steps were skipped, so skipped steps are counted as updates. Its bias correction is
// then a little smaller than it might be.
static lw_update_rate rate_of(const lw_trainer *t, lw_rate rate)
{
    const lw_stage *stage = &t->schedule.stages[t->stage];
    int64_t updates = lw_run_schedule_updates(&t->schedule, rate, t->state.step);
    return (lw_update_rate){.lr = lw_schedule_rate(stage->config, &stage->schedule, rate,
                                                   t->state.step - stage->first_step),
                            .step = 1 + updates - (updates == t->state.step ? t->state.skipped : 0)};
}

static void update(lw_trainer *t)
{
    const lw_config *c = t->schedule.stages[t->stage].config;
    lw_update u = {.beta1 = c->train.beta1,
                   .beta2 = c->train.beta2,
                   .eps = c->train.eps,
                   .weight_decay = c->train.weight_decay,
                   .clip = c->train.clip};
    for (int i = 0; i < LW_RATE_COUNT; i++) {
        u.rate[i] = rate_of(t, i);
    }
    lw_wire_update(t->job->dev, &t->job->wire, &u);
}

lw_status lw_trainer_step(lw_trainer *t, lw_error *err, int64_t *rows)
{
    lw_job *job = t->job;
    lw_wire *wire = &job->wire;
    int64_t answer_tokens[LW_MAX_MODELS];
    int64_t first;
    int64_t count;
    set_up_step(t);
    const lw_stage *stage = &t->schedule.stages[t->stage];
    lw_comm_doing(job->comm, "step %lld", (long long)(t->state.step + 1));
    lw_schedule_step(&stage->schedule, t->state.step - stage->first_step, &first, &count);
    count_tokens(t, first, count, answer_tokens, rows);
    job->dev->ops->zero(job->dev, (size_t)wire->reduce_elements * sizeof(float), wire->params.grad);
    stop_all(t, run_share(t, answer_tokens, err), err);
    post_requests(t);
    stop_all(t, lw_comm_all_reduce(job->comm, wire->params.grad, wire->reduce_elements, err), err);
    update(t);
    stop_all(t, read_back(t, err), err);
    t->state.step++;
    t->state.eval_nll = NAN;
    t->state.samples += count;
    t->state.epoch = (t->state.samples - stage->first_sample) / stage->schedule.samples;
    if (isfinite(t->grad_norm)) {
        t->state.skipped_in_row = 0;
        return LW_OK;
    }
    return lw_comm_agree(job->comm, count_skipped(t, first, count, err),
                         err); // all ranks saw it; agreement lets one report it
}
