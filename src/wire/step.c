// step.c: one micro-batch forward and backward, and the buffers that it needs.
#include "wire/step.h"

#include <stdlib.h>

#include "core/hash.h"
#include "core/random.h"

// --- buffers

lw_status lw_step_layout(lw_arena *arena, lw_device *dev, const lw_wire *wire, const lw_hf_config *const *configs,
                         const lw_step_limits *limits, lw_error *err, lw_step *step)
{
    const lw_decoder_pass pass = {.mode = LW_PASS_TRAIN};
    lw_step_free(step);
    step->dev = dev;
    step->limits = *limits;
    int64_t z_rows = limits->encoder.latents;
    step->dz = LW_TAKE(arena, z_rows * wire->encoder.d_z, float);
    LW_TRY(lw_encoder_layout(arena, dev, &wire->params, &wire->encoder, LW_PASS_TRAIN, &limits->encoder, err,
                             &step->encoder));
    lw_arena_mark mark = lw_arena_save(arena);
    for (int64_t j = 0; j < wire->llm_count; j++) {
        // LLMs run one after another, so their passes, adapters included, use the same memory.
        lw_arena_rewind(arena, mark);
        if (configs[j] == NULL) {
            continue;
        }
        step->indices[j] = lw_arena_take(arena, (int64_t)lw_packing_device_bytes(&limits->llm[j]), 1);
        lw_adapter_layout(arena, &wire->adapters[j], z_rows, limits->task_rows, &step->adapters[j]);
        LW_TRY(lw_decoder_pass_layout(arena, dev, configs[j], NULL, &pass, &limits->llm[j], err, &step->llm[j]));
    }
    return LW_OK;
}

typedef struct step_place {
    lw_device *dev;
    const lw_wire *wire;
    const lw_hf_config *const *configs;
    const lw_step_limits *limits;
    lw_step *step;
} step_place;

static lw_status layout(void *context, lw_arena *arena, lw_error *err)
{
    const step_place *p = context;
    return lw_step_layout(arena, p->dev, p->wire, p->configs, p->limits, err, p->step);
}

lw_status lw_step_place(lw_device *dev, const char *what, const lw_wire *wire, const lw_hf_config *const *configs,
                        const lw_step_limits *limits, lw_error *err, lw_step *step, lw_arena *memory)
{
    step_place p = {.dev = dev, .wire = wire, .configs = configs, .limits = limits, .step = step};
    return lw_arena_place(dev, what, layout, &p, err, memory);
}

// Allocates host memory for the most states of one upload.
static lw_status make_staging(lw_step *step, lw_error *err)
{
    size_t most = 0;
    for (int64_t j = 0; j < step->wire->llm_count; j++) {
        if (step->decoders[j] == NULL) {
            continue;
        }
        size_t row = (size_t)lw_decoder_config(step->decoders[j])->d * lw_dtype_bytes(step->dev->frozen_type);
        size_t bytes = (size_t)step->limits.llm[j].teachers * row;
        most = bytes > most ? bytes : most;
    }
    free(step->staging); // from an earlier start
    step->staging = most > 0 ? malloc(most) : NULL;
    if (most > 0 && step->staging == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the teacher's states of a pass (%zu bytes)", most);
    }
    return LW_OK;
}

lw_status lw_step_start(lw_step *step, lw_wire *wire, lw_decoder *const *decoders, lw_error *err)
{
    step->wire = wire;
    LW_TRY(lw_encoder_buffers_start(step->dev, &wire->encoder, &step->encoder, err));
    LW_TRY(lw_encoder_batch_create(&step->encoder.limits, &step->encoder.on, err, &step->batch));
    for (int64_t j = 0; j < wire->llm_count; j++) {
        step->decoders[j] = decoders[j];
        if (decoders[j] == NULL) {
            continue;
        }
        LW_TRY(lw_packing_create(&step->limits.llm[j], step->indices[j], err, &step->packing[j]));
    }
    LW_TRY(make_staging(step, err));
    return step->dev->ops->sync(step->dev, err);
}

lw_status lw_step_reclaim(lw_step *step, lw_error *err)
{
    return lw_encoder_buffers_start(step->dev, &step->wire->encoder, &step->encoder, err);
}

void lw_step_free(lw_step *step)
{
    for (int64_t j = 0; j < LW_MAX_MODELS; j++) {
        lw_packing_free(&step->packing[j]);
        lw_decoder_buffers_free(&step->llm[j]);
    }
    lw_encoder_batch_free(&step->batch);
    lw_encoder_buffers_free(&step->encoder);
    free(step->staging);
    *step = (lw_step){0};
}

// --- the step

lw_step_spec lw_step_spec_of(const lw_config *config)
{
    return (lw_step_spec){.config = config, .loss = lw_step_loss_of(config), .only_llm = -1};
}

static double token_weight(const lw_step_loss *loss, int64_t t)
{
    return 1.0 + (t == 0 ? loss->first_weight : 0.0) + (t < loss->k ? loss->k_weight : 0.0);
}

// How many of a sample's latents may be used: the first n, 2 n, 4 n, ..., or all, drawn for each position.
static int64_t nested(const lw_step_spec *spec, int64_t i, int64_t latents)
{
    int64_t from = spec->config->train.nested_from;
    uint64_t choices = 1;
    for (int64_t n = from; from > 0 && n < latents; n *= 2) {
        choices++;
    }
    uint64_t choice = lw_random_u64(spec->seed, lw_random_stream("nested"), (uint64_t)spec->positions[i]) % choices;
    return choice + 1 == choices ? latents : from << choice;
}

// Whether a sample has latent k. Latent `kept` is never left out, so that a sample has at least one.
static bool has_latent(const lw_step_spec *spec, int64_t i, int64_t k, int64_t kept)
{
    uint64_t stream = lw_random_u64(lw_random_stream("latent dropout"), (uint64_t)spec->positions[i], 0);
    return k == kept || lw_random_uniform(spec->seed, stream, (uint64_t)k) >= spec->config->train.latent_dropout;
}

// Packs the latents of a sequence, which are the same for all LLMs. Returns false beyond the limits.
static bool pack_latents(lw_step *step, const lw_step_spec *spec, lw_packing *p, int64_t i)
{
    const int32_t *z_start = step->batch.at.z_start;
    int64_t latents = z_start[i + 1] - z_start[i];
    if (spec->positions == NULL) {
        return lw_packing_add(p, z_start[i], latents, NULL, 0, 0) >= 0;
    }
    latents = nested(spec, i, latents);
    uint64_t stream = lw_random_stream("latent kept");
    int64_t kept = (int64_t)(lw_random_u64(spec->seed, stream, (uint64_t)spec->positions[i]) % (uint64_t)latents);
    bool begun = false;
    for (int64_t k = 0; k < latents; k++) {
        if (has_latent(spec, i, k, kept)) {
            bool fits = begun ? lw_packing_extend_soft(p, z_start[i] + k)
                              : lw_packing_add(p, z_start[i] + k, 1, NULL, 0, 0) >= 0;
            if (!fits) {
                return false;
            }
            begun = true;
        }
    }
    return true;
}

// Packs [latents | task token | suffix | answer without its last token]. Returns the row of the first answer token, or
// -1 beyond the limits.
static int64_t pack_sequence(lw_step *step, const lw_step_spec *spec, int64_t j, const lw_token_sample *s, int64_t i)
{
    lw_packing *p = &step->packing[j];
    lw_tokens suffix = s->suffix[j];
    lw_tokens answer = s->answer[j];
    if (!pack_latents(step, spec, p, i)) {
        return -1;
    }
    if (s->task != LW_TASK_ANSWER) {
        if (!lw_packing_extend_soft(p, step->batch.z_rows + i)) {
            return -1;
        }
        p->at.task[i] = (int32_t)s->task - 1;
    }
    if (lw_packing_extend(p, suffix.ids, suffix.count) < 0) {
        return -1;
    }
    return lw_packing_extend(p, answer.ids, answer.count - 1);
}

static lw_status pack(lw_step *step, const lw_step_spec *spec, int64_t j, const lw_token_sample *const *samples,
                      int64_t count, int64_t tokens, lw_error *err)
{
    lw_packing *p = &step->packing[j];
    double scale = 1.0 / ((double)tokens * (double)(spec->only_llm >= 0 ? 1 : step->wire->llm_count));
    lw_packing_clear(p);
    p->tau = spec->loss.kd_weight > 0.0 ? (float)spec->loss.kd_tau : 1.0F;
    for (int64_t i = 0; i < count; i++) {
        const lw_tokens *answer = &samples[i]->answer[j];
        int64_t taught = lw_step_taught(&spec->loss, samples[i], j);
        int64_t rest = pack_sequence(step, spec, j, samples[i], i);
        if (rest < 0) {
            return lw_fail(err, LW_ERR_INTERNAL, "a micro-batch exceeds the limits it was sized for");
        }
        for (int64_t t = 0; t < answer->count; t++) {
            lw_packing_score(p, rest - 1 + t, answer->ids[t], (float)(scale * token_weight(&spec->loss, t)));
            if (t < taught && !lw_packing_teach(p, (float)(scale * spec->loss.kd_weight))) {
                return lw_fail(err, LW_ERR_INTERNAL,
                               "a micro-batch has more rows with a teacher than it was sized for");
            }
        }
    }
    return LW_OK;
}

// Uploads the teacher's states of a packed micro-batch to where the product with lm_head reads them.
static lw_status upload_states(lw_step *step, const lw_step_spec *spec, int64_t j,
                               const lw_token_sample *const *samples, int64_t count, lw_error *err)
{
    const lw_packing *p = &step->packing[j];
    size_t row = (size_t)lw_decoder_config(step->decoders[j])->d * lw_dtype_bytes(step->dev->frozen_type);
    unsigned char *at = step->staging;
    if (p->teachers == 0) {
        return LW_OK;
    }
    if (spec->states == NULL) {
        return lw_fail(err, LW_ERR_INTERNAL, "distillation without a teacher");
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t rows = lw_step_taught(&spec->loss, samples[i], j);
        if (rows > 0) {
            LW_TRY(spec->states(spec->states_context, j, samples[i], err, at));
            at += (size_t)rows * row;
        }
    }
    void *out = lw_decoder_teacher_states(step->decoders[j], p, &step->llm[j]);
    step->dev->ops->upload(step->dev, step->staging, (size_t)p->teachers * row, out);
    return LW_OK;
}

static lw_status count_tasks(lw_step *step, const lw_token_sample *const *samples, int64_t count, lw_error *err)
{
    step->task_rows = 0;
    for (int64_t i = 0; i < count; i++) {
        step->task_rows += lw_task_rows(samples[i]->task);
    }
    if (step->task_rows != 0 && (step->task_rows != count || step->wire->task[0] < 0)) {
        return lw_fail(err, LW_ERR_INTERNAL, "windows of text in a micro-batch of questions, or without task tokens");
    }
    return LW_OK;
}

static void report(const lw_step_spec *spec, lw_step_phase phase, int64_t llm)
{
    if (spec->after != NULL) {
        spec->after(spec->after_context, phase, llm);
    }
}

// The parts of a step between two uploads. The device records each of them under its shapes.

typedef struct part {
    lw_step *step;
    const lw_step_spec *spec;
    int64_t llm;
} part;

static void encoder_forward(void *context)
{
    lw_step *step = ((part *)context)->step;
    const lw_step_spec *spec = ((part *)context)->spec;
    lw_wire *wire = step->wire;
    lw_encoder_forward(step->dev, &wire->params, &wire->encoder, &step->batch, &step->encoder);
    step->dev->ops->zero(step->dev, (size_t)(step->batch.z_rows * wire->encoder.d_z) * sizeof(float), step->dz);
    report(spec, LW_PHASE_ENCODER_FORWARD, -1);
}

static void llm_pass(void *context)
{
    int64_t j = ((part *)context)->llm;
    lw_step *step = ((part *)context)->step;
    const lw_step_spec *spec = ((part *)context)->spec;
    lw_wire *wire = step->wire;
    lw_device *dev = step->dev;
    lw_adapter_buffers *adapter = &step->adapters[j];
    const lw_packing *p = &step->packing[j];
    const float *z = step->encoder.z;
    int64_t d = wire->adapters[j].d;
    lw_adapter_forward(dev, &wire->params, &wire->adapters[j], step->batch.z_rows, z, adapter);
    if (step->task_rows > 0) {
        dev->ops->gather(dev, &(lw_gather_args){.n = step->task_rows,
                                                .d = d,
                                                .in = lw_param_at(&wire->params, wire->task[j]),
                                                .in_type = LW_F32,
                                                .in_index = p->on.task,
                                                .out = adapter->soft + step->batch.z_rows * d});
    }
    report(spec, LW_PHASE_ADAPTER_FORWARD, j);
    lw_decoder_forward(step->decoders[j], p, adapter->soft, NULL, &step->llm[j]);
    report(spec, LW_PHASE_LLM_FORWARD, j);
    lw_decoder_logits(step->decoders[j], p, &step->llm[j]);
    lw_decoder_loss(step->decoders[j], p, true, &step->llm[j]);
    dev->ops->dot(dev, p->supervised, p->on.weight, step->llm[j].nll, wire->stats + LW_STAT_LOSS + j);
    if (p->teachers > 0) {
        dev->ops->dot(dev, p->supervised, p->on.kl_weight, step->llm[j].kl, wire->stats + LW_STAT_KL + j);
    }
    report(spec, LW_PHASE_HEAD, j);
    if (p->prefix_rows < step->batch.z_rows + step->task_rows) { // rows that no sequence uses would get no gradient
        dev->ops->zero(dev, (size_t)((step->batch.z_rows + step->task_rows) * d) * sizeof(float), adapter->d_soft);
    }
    lw_decoder_backward(step->decoders[j], p, &step->llm[j], adapter->d_soft);
    report(spec, LW_PHASE_LLM_BACKWARD, j);
    if (step->task_rows > 0) {
        dev->ops->scatter_add(dev, step->task_rows, d, adapter->d_soft + step->batch.z_rows * d, p->on.task,
                              LW_TASK_TOKENS, lw_grad_at(&wire->params, wire->task[j]));
    }
    lw_adapter_backward(dev, &wire->params, &wire->adapters[j], step->batch.z_rows, z, adapter, step->dz);
    report(spec, LW_PHASE_ADAPTER_BACKWARD, j);
}

static void encoder_backward(void *context)
{
    lw_step *step = ((part *)context)->step;
    const lw_step_spec *spec = ((part *)context)->spec;
    lw_wire *wire = step->wire;
    lw_encoder_backward(step->dev, &wire->params, &wire->encoder, &step->batch, &step->encoder, step->dz);
    report(spec, LW_PHASE_ENCODER_BACKWARD, -1);
}

// Runs `enqueue` or replays its record. shapes: everything that the work depends on beside the layout of the step.
static void replay(lw_step *step, const lw_step_spec *spec, void (*enqueue)(void *context), int64_t llm,
                   const int64_t *shapes, size_t count)
{
    part p = {.step = step, .spec = spec, .llm = llm};
    const uint64_t layout[] = {
        (uint64_t)(uintptr_t)step->dz, (uint64_t)llm, lw_xxh64(&step->limits, sizeof step->limits, 0),
        lw_xxh64(&spec->loss.kd_tau, sizeof spec->loss.kd_tau, 0)}; // kd_tau is an argument of the loss
    if (spec->after != NULL) {
        enqueue(&p); // a recorded part could not report its phases
        return;
    }
    uint64_t key = lw_xxh64(shapes, count * sizeof *shapes, lw_xxh64(layout, sizeof layout, 0));
    step->dev->ops->replay(step->dev, key, enqueue, &p);
}

static lw_status upload_sources(lw_step *step, const lw_config *config, const lw_token_sample *const *samples,
                                int64_t count, lw_error *err)
{
    lw_encoder_batch_clear(&step->batch);
    for (int64_t i = 0; i < count; i++) {
        lw_tokens source = samples[i]->source;
        if (lw_encoder_batch_add(&step->batch, source, lw_config_latents(config, source.count)) < 0) {
            return lw_fail(err, LW_ERR_INTERNAL, "a micro-batch exceeds the limits it was sized for");
        }
    }
    return lw_encoder_upload(step->dev, &step->wire->encoder, &step->batch, err, &step->encoder);
}

lw_status lw_step_encode(lw_step *step, const lw_step_spec *spec, const lw_token_sample *const *samples, int64_t count,
                         lw_error *err)
{
    int64_t shapes[LW_ENCODER_SHAPES];
    LW_TRY(upload_sources(step, spec->config, samples, count, err));
    report(spec, LW_PHASE_HOST, -1);
    lw_encoder_shapes(&step->batch, &step->encoder, shapes);
    replay(step, spec, encoder_forward, -1, shapes, LW_ENCODER_SHAPES);
    return LW_OK;
}

lw_status lw_step_run(lw_step *step, const lw_step_spec *spec, const lw_token_sample *const *samples, int64_t count,
                      const int64_t *tokens, lw_error *err)
{
    lw_device *dev = step->dev;
    const lw_encoder_batch *batch = &step->batch;
    int64_t source[LW_ENCODER_SHAPES];
    LW_TRY(count_tasks(step, samples, count, err));
    LW_TRY(lw_step_encode(step, spec, samples, count, err));
    lw_encoder_shapes(batch, &step->encoder, source);
    for (int64_t j = 0; j < step->wire->llm_count; j++) {
        lw_packing *p = &step->packing[j];
        if ((spec->only_llm >= 0 && spec->only_llm != j) || step->decoders[j] == NULL) {
            continue;
        }
        LW_TRY(pack(step, spec, j, samples, count, tokens[j], err));
        lw_packing_upload(p, dev);
        LW_TRY(upload_states(step, spec, j, samples, count, err));
        report(spec, LW_PHASE_HOST, j);
        const int64_t shapes[] = {p->sequences, p->rows,  p->prefix_rows, p->tokens,     p->supervised,
                                  p->max_q,     p->max_k, p->teachers,    batch->z_rows, step->task_rows};
        replay(step, spec, llm_pass, j, shapes, sizeof shapes / sizeof *shapes);
    }
    if (!spec->encoder_frozen) {
        replay(step, spec, encoder_backward, -2, source, LW_ENCODER_SHAPES);
    }
    return LW_OK;
}

lw_gemm lw_step_largest_product(const lw_step *step)
{
    lw_gemm largest = {0};
    for (int64_t j = 0; j < step->wire->llm_count; j++) {
        if (step->decoders[j] == NULL) {
            continue;
        }
        lw_gemm g = lw_decoder_largest_product(step->decoders[j], &step->llm[j]);
        if ((double)g.m * (double)g.n * (double)g.k > (double)largest.m * (double)largest.n * (double)largest.k) {
            largest = g;
        }
    }
    return largest;
}
