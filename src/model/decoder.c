// decoder.c: the passes through a frozen LLM: embedding, layers, head, loss, and back.
#include "model/decoder.h"

#include "model/decoder_internal.h"
#include "model/frozen_weights.h"

const lw_hf_config *lw_decoder_config(const lw_decoder *decoder)
{
    return &decoder->config;
}

float lw_decoder_embedding_rms(const lw_decoder *decoder)
{
    return decoder->embedding_rms;
}

uint64_t lw_decoder_fingerprint(const lw_decoder *decoder)
{
    return decoder->frozen.fingerprint;
}

lw_frozen_figures lw_decoder_load_figures(const lw_decoder *decoder)
{
    return decoder->frozen.figures;
}

static void run_layers(const lw_layer_run *run)
{
    for (int64_t i = 0; i < run->b->layer_count; i++) {
        lw_decoder_layer_forward(run, i);
        lw_heartbeat_report(&run->m->dev->heartbeat);
    }
}

static void run_layers_back(const lw_layer_run *run)
{
    for (int64_t i = run->b->layer_count - 1; i >= 0; i--) {
        lw_decoder_layer_backward(run, i);
        lw_heartbeat_report(&run->m->dev->heartbeat);
    }
}

static void embed(const lw_decoder *m, const lw_packing *p, float *x)
{
    m->dev->ops->gather(m->dev, &(lw_gather_args){.n = p->tokens,
                                                  .d = m->config.d,
                                                  .in = m->embedding,
                                                  .in_type = m->dev->frozen_type,
                                                  .in_index = p->on.token_id,
                                                  .out_index = p->on.token_row,
                                                  .out = x});
}

void lw_decoder_embed(const lw_decoder *m, int64_t count, const int32_t *ids, float *soft)
{
    m->dev->ops->gather(m->dev, &(lw_gather_args){.n = count,
                                                  .d = m->config.d,
                                                  .in = m->embedding,
                                                  .in_type = m->dev->frozen_type,
                                                  .in_index = ids,
                                                  .out = soft});
}

void lw_decoder_forward(const lw_decoder *m, const lw_packing *p, const float *soft_tokens, const lw_kv_cache *cache,
                        lw_decoder_buffers *b)
{
    float *x = b->layers[0].x_in;
    m->dev->ops->gather(m->dev, &(lw_gather_args){.n = p->prefix_rows,
                                                  .d = m->config.d,
                                                  .in = soft_tokens,
                                                  .in_type = LW_F32,
                                                  .in_index = p->on.prefix_source,
                                                  .out_index = p->on.prefix_row,
                                                  .out = x});
    embed(m, p, x);
    run_layers(&(lw_layer_run){.m = m, .p = p, .cache = cache, .b = b});
}

// y (supervised, d) of `type`: the final norm of the scored rows.
static void scored_norm(const lw_decoder *m, const lw_packing *p, lw_dtype type, void *y, lw_decoder_buffers *b)
{
    const lw_device_ops *ops = m->dev->ops;
    const lw_hf_config *c = &m->config;
    ops->gather(m->dev, &(lw_gather_args){.n = p->supervised,
                                          .d = c->d,
                                          .in = b->x_out,
                                          .in_type = LW_F32,
                                          .in_index = p->on.scored_row,
                                          .out = b->scored});
    ops->rmsnorm(m->dev, &(lw_rmsnorm_args){.rows = p->supervised,
                                            .d = c->d,
                                            .eps = c->rms_eps,
                                            .x = b->scored,
                                            .w = m->final_norm,
                                            .type = type,
                                            .y = y,
                                            .rstd = b->scored_rstd});
}

void lw_decoder_hidden(const lw_decoder *m, const lw_packing *p, lw_decoder_buffers *b)
{
    scored_norm(m, p, m->dev->frozen_type, b->hidden, b);
}

void *lw_decoder_teacher_states(const lw_decoder *m, const lw_packing *p, lw_decoder_buffers *b)
{
    size_t row = (size_t)m->config.d * lw_dtype_bytes(m->dev->frozen_type);
    return (unsigned char *)b->hidden + (size_t)p->supervised * row;
}

void lw_decoder_logits(const lw_decoder *m, const lw_packing *p, lw_decoder_buffers *b)
{
    const lw_hf_config *c = &m->config;
    int64_t rows = p->supervised + p->teachers; // one product for both: lm_head is read once
    lw_decoder_hidden(m, p, b);
    lw_frozen_project(m->dev, rows, c->d, c->vocab, b->hidden, m->lm_head, NULL, NULL, b->logits, LW_F32);
}

// --- backward

// x as an operand of a product: itself on an f32 device, a copy in the operand type elsewhere.
static void make_operand(const lw_decoder *m, int64_t n, const float *x, void *operand)
{
    if (operand != (const void *)x) {
        m->dev->ops->cast(m->dev, n, x, LW_F32, operand, m->dev->frozen_type);
    }
}

// From dy, the gradient of the final norm's output at the scored rows, to b->dx, that of the last layer's.
static void scored_backward(const lw_decoder *m, const lw_packing *p, const float *dy, lw_decoder_buffers *b)
{
    const lw_device_ops *ops = m->dev->ops;
    int64_t d = m->config.d;
    ops->zero(m->dev, (size_t)(p->supervised * d) * sizeof(float), b->dscored);
    ops->rmsnorm_backward(m->dev, &(lw_rmsnorm_backward_args){.rows = p->supervised,
                                                              .d = d,
                                                              .x = b->scored,
                                                              .w = m->final_norm,
                                                              .rstd = b->scored_rstd,
                                                              .dy = dy,
                                                              .dx = b->dscored});
    ops->zero(m->dev, (size_t)(p->rows * d) * sizeof(float), b->dx);
    // Scored rows are distinct, so this is a plain scatter.
    ops->gather(m->dev, &(lw_gather_args){.n = p->supervised,
                                          .d = d,
                                          .in = b->dscored,
                                          .in_type = LW_F32,
                                          .out_index = p->on.scored_row,
                                          .out = b->dx});
    make_operand(m, p->rows * d, b->dx, b->dx_operand);
}

// From the gradient of the logits to b->dx, that of the last layer's output.
static void head_backward(const lw_decoder *m, const lw_packing *p, lw_decoder_buffers *b)
{
    const lw_hf_config *c = &m->config;
    make_operand(m, p->supervised * c->vocab, b->logits, b->dlogits_operand);
    lw_frozen_project_backward(m->dev, p->supervised, c->d, c->vocab, b->dlogits_operand, m->lm_head, b->dnormed,
                               LW_F32);
    scored_backward(m, p, b->dnormed, b);
}

void lw_decoder_loss(const lw_decoder *m, const lw_packing *p, bool gradient, lw_decoder_buffers *b)
{
    bool taught = p->teachers > 0;
    m->dev->ops->xent(m->dev, &(lw_xent){.rows = p->supervised,
                                         .vocab = m->config.vocab,
                                         .logits = b->logits,
                                         .type = LW_F32,
                                         .target = p->on.target,
                                         .weight = gradient ? p->on.weight : NULL,
                                         .teacher = taught ? b->logits + p->supervised * m->config.vocab : NULL,
                                         .teacher_row = p->on.teacher_row,
                                         .kl_weight = p->on.kl_weight,
                                         .tau = p->tau,
                                         .gradient = gradient,
                                         .nll = b->nll,
                                         .kl = b->kl,
                                         .argmax = b->argmax});
    if (gradient) {
        head_backward(m, p, b);
    }
}

void lw_decoder_backward(const lw_decoder *m, const lw_packing *p, lw_decoder_buffers *b, float *d_soft)
{
    run_layers_back(&(lw_layer_run){.m = m, .p = p, .b = b});
    m->dev->ops->gather(m->dev, &(lw_gather_args){.n = p->prefix_rows,
                                                  .d = m->config.d,
                                                  .in = b->dx,
                                                  .in_type = LW_F32,
                                                  .in_index = p->on.prefix_row,
                                                  .out_index = p->on.prefix_source,
                                                  .out = d_soft});
}

// --- as an encoder's backbone

void lw_decoder_states(const lw_decoder *m, const lw_params *params, const lw_packing *p, lw_decoder_buffers *b)
{
    lw_lora_start(m->dev, params, &b->pass.lora, &b->lora);
    embed(m, p, b->layers[0].x_in);
    run_layers(&(lw_layer_run){.m = m, .p = p, .params = params, .b = b});
    scored_norm(m, p, LW_F32, b->states, b);
}

void lw_decoder_states_backward(const lw_decoder *m, const lw_params *params, const lw_packing *p,
                                const float *d_states, lw_decoder_buffers *b)
{
    scored_backward(m, p, d_states, b);
    run_layers_back(&(lw_layer_run){.m = m, .p = p, .params = params, .b = b});
}

lw_gemm lw_decoder_largest_product(const lw_decoder *m, const lw_decoder_buffers *b)
{
    const lw_hf_config *c = &m->config;
    int64_t scored = b->limits.supervised + b->limits.teachers;
    if (b->limits.rows * 2 * c->ffn >= scored * c->vocab) {
        return lw_frozen_product(m->dev, b->limits.rows, c->d, 2 * c->ffn, b->normed, m->layers[0].gate_up,
                                 b->layers[0].gate_up, m->dev->frozen_type);
    }
    return lw_frozen_product(m->dev, scored, c->d, c->vocab, b->hidden, m->lm_head, b->logits, LW_F32);
}
