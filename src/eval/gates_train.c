// gates_train.c: the gates that run training steps.
#include <math.h>
#include <stdlib.h>

#include "core/numbers.h"
#include "data/sample.h"
#include "eval/eval_internal.h"
#include "eval/gates_internal.h"
#include "job/adapter_fit.h"
#include "wire/step.h"

enum { CHECK_EVERY = 25 };

static const double likely_nll = 0.1; // per answer token: below this loss it is worth checking the answers

// Training steps over the first samples of a corpus, without the optional terms of the loss.
typedef struct step_context {
    lw_job *job;
    const lw_token_sample *samples;
    int64_t count, micro;
    lw_step step;
    lw_step_spec spec;
    lw_arena memory;
    const lw_token_sample *batch[LW_GATE_ITEMS];
    double nll[LW_MAX_MODELS]; // per answer token, of the last step
} step_context;

static lw_status open_context(lw_job *job, const lw_corpus *corpus, lw_error *err, step_context *c)
{
    const lw_config *config = job->config;
    const lw_hf_config *configs[LW_MAX_MODELS];
    lw_decoder *decoders[LW_MAX_MODELS];
    lw_step_limits limits;
    int64_t count = lw_min_i64(corpus->count, LW_GATE_ITEMS);
    int64_t share = config->batch.per_rank > 0 ? config->batch.per_rank : config->batch.global;
    int64_t micro = config->batch.micro > 0 ? config->batch.micro : share;
    *c = (step_context){.job = job, .samples = corpus->samples, .count = count, .micro = lw_min_i64(micro, count)};
    for (int64_t i = 0; i < count; i++) {
        c->batch[i] = &corpus->samples[i];
    }
    lw_job_decoders(job, decoders);
    lw_job_own_configs(job, configs);
    LW_TRY(lw_step_limits_of(config, c->samples, c->count, c->micro, 1, err, &limits));
    LW_TRY(lw_step_place(job->dev, "work space of a gate's steps", &job->wire, configs, &limits, err, &c->step,
                         &c->memory));
    c->spec = lw_step_spec_of(config);
    c->spec.loss = (lw_step_loss){0};
    return lw_step_start(&c->step, &job->wire, decoders, err);
}

static void close_context(step_context *c)
{
    lw_step_free(&c->step);
    lw_arena_free(c->job->dev, &c->memory);
}

// Computes the gradients of all samples on every rank. With `share`, each rank computes those of a share, and they are
// summed.
static lw_status run_step(step_context *c, bool share, lw_error *err)
{
    lw_job *job = c->job;
    int64_t first = share ? c->count * job->place.data / job->grid.data : 0;
    int64_t end = share ? c->count * (job->place.data + 1) / job->grid.data : c->count;
    int64_t tokens[LW_MAX_MODELS] = {0};
    for (int64_t i = 0; i < c->count; i++) {
        for (int64_t j = 0; j < job->llm_count; j++) {
            tokens[j] += c->samples[i].answer[j].count;
        }
    }
    job->dev->ops->zero(job->dev, (size_t)job->wire.reduce_elements * sizeof(float), job->wire.params.grad);
    lw_status status = LW_OK;
    for (int64_t done = first; done < end && status == LW_OK; done += c->micro) {
        int64_t n = lw_min_i64(end - done, c->micro);
        status = lw_step_run(&c->step, &c->spec, c->batch + done, n, tokens, err);
    }
    if (!share) {
        return status;
    }
    LW_TRY(lw_comm_agree(job->comm, status, err));
    return lw_comm_all_reduce(job->comm, job->wire.params.grad, job->wire.reduce_elements, err);
}

static lw_status read_loss(step_context *c, lw_error *err)
{
    lw_job *job = c->job;
    float stats[LW_STAT_COUNT];
    job->dev->ops->download(job->dev, job->wire.stats, sizeof stats, stats);
    LW_TRY(job->dev->ops->sync(job->dev, err));
    for (int64_t j = 0; j < job->llm_count; j++) {
        c->nll[j] = (double)stats[LW_STAT_LOSS + j] * (double)job->llm_count;
    }
    return LW_OK;
}

// --- whether a step finds the loss of the evaluation

static lw_status compare_losses(step_context *c, lw_eval *e, lw_error *err, lw_gate_result *out)
{
    lw_job *job = c->job;
    double worst = 0.0;
    LW_TRY(run_step(c, false, err));
    LW_TRY(read_loss(c, err));
    LW_TRY(lw_eval_start(job, e, err));
    e->task = (lw_eval_task){.samples = c->count, .systems = {{.mode = LW_EVAL_LATENT}}, .system_count = 1};
    for (int64_t first = 0; first < c->count; first += e->chunk) {
        LW_TRY(lw_eval_chunk(job, e, first, lw_min_i64(c->count - first, e->chunk), err));
    }
    for (int64_t j = 0; j < job->llm_count; j++) {
        if (!lw_job_owns(job, j)) {
            continue;
        }
        lw_eval_sums sums = lw_eval_sum_up(job, e, j, 0);
        worst = fmax(worst, fabs(sums.nll / sums.answer_tokens - c->nll[j]));
    }
    double limit = lw_gate_tolerance(job);
    lw_gate_note(out, worst <= limit, worst, limit, "loss per token differs by %.2g at most over %lld samples", worst,
                 (long long)c->count);
    return LW_OK;
}

lw_status lw_gate_training(lw_job *job, lw_eval *e, lw_error *err, lw_gate_result *out)
{
    step_context c;
    lw_status status = open_context(job, &job->eval, err, &c);
    if (status == LW_OK) {
        status = compare_losses(&c, e, err, out);
    }
    close_context(&c);
    return status;
}

// --- whether samples can be learned by heart

static double worst_nll(const step_context *c)
{
    double worst = 0.0;
    for (int64_t j = 0; j < c->job->llm_count; j++) {
        worst = fmax(worst, isnan(c->nll[j]) ? INFINITY : c->nll[j]);
    }
    return worst;
}

static void update(step_context *c, int64_t step)
{
    const lw_config *config = c->job->config;
    lw_update u = {.beta1 = config->train.beta1,
                   .beta2 = config->train.beta2,
                   .eps = config->train.eps,
                   .weight_decay = 0.0,
                   .clip = config->train.clip};
    double warm = fmin(1.0, (double)step / CHECK_EVERY);
    for (int i = 0; i < LW_RATE_COUNT; i++) {
        u.rate[i] = (lw_update_rate){.lr = warm * config->train.lr, .step = step};
    }
    lw_wire_update(c->job->dev, &c->job->wire, &u);
}

// Trains up to step `end`, whose loss is left in nll. Collective.
static lw_status learn(step_context *c, int64_t end, lw_error *err, int64_t *steps)
{
    lw_job *job = c->job;
    while (*steps < end) {
        LW_TRY(run_step(c, true, err));
        ++*steps;
        update(c, *steps);
        lw_comm_doing(job->comm, "overfit gate, step %lld", (long long)*steps);
        lw_status status = *steps == end ? read_loss(c, err) : LW_OK;
        status = lw_comm_agree(job->comm, lw_signal_check(status), err);
        LW_TRY(lw_job_stopped(job, status, "during the overfit gate", err));
    }
    return LW_OK;
}

// Whether the LLMs can reproduce the whole answer: it was not cut, and it is no longer than what is generated.
static bool answer_ends(const lw_job *job, const lw_token_sample *sample)
{
    for (int64_t j = 0; j < job->llm_count; j++) {
        const lw_tokens *answer = &sample->answer[j];
        if (answer->count > job->config->eval.max_new_tokens || answer->ids[answer->count - 1] != job->llms[j].eos) {
            return false;
        }
    }
    return true;
}

static int64_t count_ending(const step_context *c)
{
    int64_t n = 0;
    for (int64_t i = 0; i < c->count; i++) {
        n += answer_ends(c->job, &c->samples[i]);
    }
    return n;
}

// The lowest mean F1 of an LLM over the `items` whose answers end.
static double lowest_f1(const lw_job *job, const lw_eval *e, int64_t items)
{
    double lowest = 1.0;
    for (int64_t j = 0; j < job->llm_count; j++) {
        double sum = 0.0;
        for (int64_t i = 0; i < e->task.samples; i++) {
            sum += answer_ends(job, &job->eval.samples[i]) ? lw_eval_record(job, e, i, j, 0)[LW_RECORD_F1] : 0.0;
        }
        lowest = fmin(lowest, sum / (double)items);
    }
    return lowest;
}

// Evaluates the answers that the LLMs give from the latents of the training data, which replaces the evaluation data
// until this returns. Collective.
static lw_status measure(lw_job *job, int64_t count, int64_t items, lw_error *err, double *f1)
{
    lw_corpus eval_data = job->eval;
    lw_eval *eval = NULL;
    lw_arena memory = {0};
    lw_signal signal = LW_SIGNAL_NONE;
    job->eval = *lw_job_answers(job);
    lw_eval_task task = {.samples = count, .systems = {{.mode = LW_EVAL_LATENT}}, .system_count = 1, .generate = true};
    lw_status status = LW_OK;
    LW_TRY_GOTO(lw_comm_agree(job->comm, lw_eval_place(job, err, &eval, &memory), err));
    status = lw_eval_run_task(job, eval, &task, err, &signal);
    LW_TRY_GOTO(lw_job_stopped(job, status, "during the overfit gate", err));
    *f1 = lowest_f1(job, eval, items);
done:
    lw_eval_destroy(&eval);
    lw_arena_free(job->dev, &memory);
    job->eval = eval_data;
    return status;
}

// Collective.
static lw_status learn_by_heart(step_context *c, int64_t items, lw_error *err, lw_gate_result *out)
{
    lw_job *job = c->job;
    int64_t most_steps = job->config->eval.gate_steps;
    int64_t steps = 0;
    double f1 = 0.0;
    while (f1 < 1.0 && steps < most_steps) {
        LW_TRY(learn(c, lw_min_i64(steps + CHECK_EVERY, most_steps), err, &steps));
        if (worst_nll(c) < likely_nll || steps == most_steps) {
            LW_TRY(measure(job, c->count, items, err, &f1));
        }
        if (job->rank == 0) {
            fprintf(stderr, "lwmpi: overfit gate: loss per token %.3g after step %lld of at most %lld\n", worst_nll(c),
                    (long long)steps, (long long)most_steps);
        }
    }
    lw_gate_note(out, f1 >= 1.0, f1, 1.0, "F1 %.3f on %lld items after %lld steps, loss per token %.3g", f1,
                 (long long)items, (long long)steps, worst_nll(c));
    return LW_OK;
}

lw_status lw_gate_overfit(lw_job *job, lw_error *err, lw_gate_result *out)
{
    step_context c;
    lw_status status = open_context(job, lw_job_answers(job), err, &c);
    if (status == LW_OK) {
        status = lw_wire_init(job->dev, &job->wire, (uint64_t)job->config->seed, err);
    }
    LW_TRY_GOTO(lw_comm_agree(job->comm, status, err));
    int64_t items = count_ending(&c);
    if (items == 0) {
        lw_gate_skip(out, "no answer of %lld ends within prompt.max_answer_tokens and eval.max_new_tokens",
                     (long long)c.count);
        goto done;
    }
    if (job->config->adapter.start == LW_ADAPTER_EMBEDDINGS) {
        LW_TRY_GOTO(lw_adapter_fit(job, &c.step, job->config, lw_job_answers(job), err));
    }
    LW_TRY_GOTO(learn_by_heart(&c, items, err, out));
done:
    close_context(&c);
    return status;
}
