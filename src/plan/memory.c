// memory.c: the device memory of one rank, from the layout functions that `train` allocates with.
#include "core/numbers.h"
#include "eval/eval.h"
#include "plan/plan_internal.h"
#include "train/schedule.h"
#include "wire/step.h"

// Limits for plans without data: every sample is as large as the configuration admits.
static void guess_limits(const lw_config *c, int64_t llm_count, int64_t micro, lw_step_limits *out)
{
    lw_plan_most most = lw_plan_most_of(c);
    *out = (lw_step_limits){.encoder = {.samples = micro,
                                        .tokens = micro * most.source,
                                        .max_tokens = most.source,
                                        .latents = micro * most.latents,
                                        .max_latents = most.latents},
                            .task_rows = micro * most.task};
    int64_t taught = !lw_teacher_wanted(c) || most.task > 0 ? 0 : c->loss.k < most.answer ? c->loss.k : most.answer;
    for (int64_t j = 0; j < llm_count; j++) {
        int64_t len = most.latents + most.task + most.suffix + most.answer - 1;
        out->llm[j] = (lw_pass_limits){.sequences = micro,
                                       .rows = micro * len,
                                       .prefix_rows = micro * (most.latents + most.task),
                                       .supervised = micro * most.answer,
                                       .teachers = micro * taught,
                                       .max_len = len};
    }
}

// The limits of stage `stage`.
static lw_status stage_limits(const lw_plan *plan, const lw_job *job, int64_t stage, int64_t answer_factor,
                              int64_t micro, lw_error *err, lw_step_limits *out)
{
    const lw_config *config = lw_config_phase(job->config, stage);
    if (plan->from_data) {
        const lw_corpus *data = &job->train[stage];
        LW_TRY(lw_step_limits_of(config, data->samples, data->view_count, micro,
                                 lw_schedule_occurrences(data->count, micro, config->train.epochs), err, out));
    } else {
        guess_limits(config, job->llm_count, micro, out);
    }
    for (int64_t j = 0; j < job->llm_count; j++) {
        lw_pass_limits *l = &out->llm[j];
        int64_t more = (answer_factor - 1) * l->supervised;
        int64_t most = micro * job->config->loss.k;
        l->teachers = l->teachers * answer_factor < most ? l->teachers * answer_factor : most;
        l->rows += more;
        l->supervised += more;
        l->max_len += micro > 0 ? (more + micro - 1) / micro : 0;
    }
    return LW_OK;
}

static lw_status step_limits(const lw_plan *plan, const lw_job *job, int64_t answer_factor, int64_t micro,
                             lw_error *err, lw_step_limits *out)
{
    *out = (lw_step_limits){0};
    for (int64_t i = 0; i < lw_config_phase_count(job->config); i++) {
        lw_step_limits limits;
        LW_TRY(stage_limits(plan, job, i, answer_factor, micro, err, &limits));
        lw_step_limits_join(out, &limits);
    }
    return LW_OK;
}

static size_t logits_bytes(const lw_job *job, int64_t j, const lw_pass_limits *limits)
{
    size_t row = (size_t)job->llms[j].config.vocab;
    size_t operand = job->dev->frozen_type != LW_F32 ? lw_dtype_bytes(job->dev->frozen_type) : 0;
    return row * ((size_t)limits->supervised * (sizeof(float) + operand) + (size_t)limits->teachers * sizeof(float));
}

// Bytes of work space of a training step. *logits: those of the LLM with the largest.
static lw_status measure_step(const lw_plan *plan, lw_job *job, int64_t answer_factor, int64_t micro, lw_error *err,
                              size_t *bytes, size_t *logits)
{
    const lw_hf_config *configs[LW_MAX_MODELS];
    lw_step step = {0};
    lw_step_limits limits;
    lw_arena arena = lw_arena_measure();
    LW_TRY(step_limits(plan, job, answer_factor, micro, err, &limits));
    *logits = 0;
    lw_job_own_configs(job, configs);
    for (int64_t j = 0; j < job->llm_count; j++) {
        if (configs[j] == NULL) {
            continue;
        }
        size_t mine = logits_bytes(job, j, &limits.llm[j]);
        *logits = mine > *logits ? mine : *logits;
    }
    lw_status status = lw_step_layout(&arena, job->dev, &job->wire, configs, &limits, err, &step);
    lw_step_free(&step);
    LW_TRY(status);
    if (arena.overflow) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "the work space of a step does not fit any address space: a batch of %lld "
                       "samples in one pass; set batch.micro",
                       (long long)micro);
    }
    *bytes = arena.high_water_bytes;
    return LW_OK;
}

// Bytes of work space of the evaluation at the end; all 0 if there is none.
static lw_status measure_eval(lw_job *job, lw_error *err, lw_plan_memory *out, size_t *logits, size_t *caches)
{
    lw_eval *eval = NULL;
    lw_arena arena = lw_arena_measure();
    *logits = 0;
    *caches = 0;
    out->evaluation = 0;
    if (job->eval.count == 0) {
        return LW_OK;
    }
    lw_status status = lw_eval_layout(&arena, job, err, &eval);
    for (int64_t j = 0; j < job->llm_count && status == LW_OK; j++) {
        lw_eval_part part = lw_eval_part_bytes(eval, j);
        if (part.logits + part.caches > *logits + *caches) {
            *logits = part.logits;
            *caches = part.caches;
        }
    }
    lw_eval_destroy(&eval);
    if (status == LW_OK && arena.overflow) {
        status = lw_fail(err, LW_ERR_CONFIG,
                         "the work space of an evaluation does not fit any address space: lower "
                         "eval.batch");
    }
    out->evaluation = arena.high_water_bytes;
    return status;
}

// Bytes of work space of the teachers' passes before the first step; 0 without distillation.
static lw_status measure_teacher(const lw_plan *plan, lw_job *job, lw_error *err, size_t *bytes)
{
    *bytes = 0;
    for (int64_t i = 0; i < lw_config_phase_count(job->config) * job->llm_count; i++) {
        int64_t stage = i / job->llm_count;
        int64_t j = i % job->llm_count;
        lw_arena arena = lw_arena_measure();
        lw_decoder_buffers buffers = {0};
        void *indices;
        if (!lw_job_owns(job, j) || !lw_teacher_wanted(lw_config_phase(job->config, stage))) {
            continue;
        }
        lw_status status = lw_teacher_pass_layout(&arena, job->dev, &job->llms[j].config,
                                                  &plan->teacher[stage][j].limits, err, &indices, &buffers);
        lw_decoder_buffers_free(&buffers);
        LW_TRY(status);
        *bytes = arena.high_water_bytes > *bytes ? arena.high_water_bytes : *bytes;
    }
    return LW_OK;
}

static void measure_wire(lw_job *job, lw_plan_memory *out)
{
    lw_arena with = lw_arena_measure();
    lw_arena without = lw_arena_measure();
    lw_arena gradients = lw_arena_measure();
    lw_wire_layout(&without, false, &job->wire);
    lw_wire_layout(&with, true, &job->wire);
    LW_TAKE(&gradients, job->wire.reduce_elements, float);
    out->optimizer = with.high_water_bytes - without.high_water_bytes;
    out->gradients = gradients.high_water_bytes;
    out->parameters = without.high_water_bytes - out->gradients;
}

lw_status lw_plan_memory_measure(const lw_plan *plan, lw_job *job, int64_t answer_factor, int64_t micro, int64_t ranks,
                                 lw_error *err, lw_plan_memory *out)
{
    lw_plan_memory m = {.runtime = (size_t)lw_device_runtime_bytes(&plan->rates, ranks)};
    size_t step_logits;
    size_t eval_logits;
    size_t eval_caches;
    for (int64_t j = 0; j < job->llm_count; j++) {
        const lw_hf_config *c = &job->llms[j].config;
        if (!lw_job_owns(job, j)) {
            continue;
        }
        int64_t positions = lw_job_max_positions(job, j);
        if (positions > c->max_positions && plan->from_data) {
            return lw_fail(err, LW_ERR_CONFIG,
                           "model \"%s\": sequences of %lld positions are needed, but max_position_embeddings is %lld; "
                           "lower wire.latents or the prompt.max_* keys",
                           job->llms[j].name, (long long)positions, (long long)c->max_positions);
        }
        positions = positions < c->max_positions ? positions : c->max_positions; // a guess may be too large
        m.llm[j] = lw_decoder_weight_bytes(c, job->dev->frozen_type, positions);
        if (m.llm[j] == SIZE_MAX) {
            return lw_fail(err, LW_ERR_FORMAT, "model \"%s\": its shapes overflow any address space",
                           job->llms[j].name);
        }
        m.frozen += m.llm[j];
    }
    m.encoder = lw_job_encoder_bytes(job);
    if (m.encoder == SIZE_MAX) {
        return lw_fail(err, LW_ERR_FORMAT, "the encoder's LLM: its shapes overflow any address space");
    }
    m.frozen += m.encoder;
    measure_wire(job, &m);
    LW_TRY(measure_step(plan, job, answer_factor, micro, err, &m.step, &step_logits));
    LW_TRY(measure_eval(job, err, &m, &eval_logits, &eval_caches));
    LW_TRY(measure_teacher(plan, job, err, &m.teacher));
    size_t workspace = lw_max_size(m.teacher, lw_max_size(m.step, m.evaluation));
    bool teacher_needs_most = m.teacher > lw_max_size(m.step, m.evaluation);
    bool step_needs_most = !teacher_needs_most && m.step >= m.evaluation;
    m.logits = teacher_needs_most ? 0 : step_needs_most ? step_logits : eval_logits;
    m.caches = teacher_needs_most || step_needs_most ? 0 : eval_caches;
    if (m.logits + m.caches > workspace) { // they may be of an LLM that does not need the most work space
        m.logits = workspace - m.caches;
    }
    m.activations = workspace - m.logits - m.caches;
    m.total = m.frozen + m.parameters + m.gradients + m.optimizer + workspace + m.runtime;
    *out = m;
    return LW_OK;
}
