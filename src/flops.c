#include "flops.h"

lw_sample_shape lw_sample_shape_of(const lw_config *config, const lw_step_sample *samples, int64_t count)
{
    lw_sample_shape s = {0};
    for (int64_t i = 0; i < count; i++) {
        int64_t latents = lw_encoder_latents(config, samples[i].source.count);
        s.source += (double)samples[i].source.count / (double)count;
        s.latents += (double)latents / (double)count;
        for (int64_t j = 0; j < config->model_count; j++) {
            int64_t answer = samples[i].answer[j].count;
            s.rows[j] += (double)(latents + samples[i].suffix[j].count + answer - 1) / (double)count;
            s.answer[j] += (double)answer / (double)count;
        }
    }
    return s;
}

static double linear(const lw_linear *l, double rows)
{
    return 6.0 * (double)l->in * (double)l->out * rows;
}

static double layers(const lw_transformer *stack, double q_rows, double k_rows)
{
    double flop = 0.0;
    for (int64_t i = 0; i < stack->count; i++) {
        const lw_attend *a = &stack->layers[i].attend;
        flop += linear(&a->q, q_rows) + linear(&a->k, k_rows) + linear(&a->v, k_rows) + linear(&a->o, q_rows);
        flop += linear(&stack->layers[i].ffn.up, q_rows) + linear(&stack->layers[i].ffn.down, q_rows);
    }
    return flop;
}

double lw_step_flop(const lw_wire *wire, const lw_hf_config *const *configs, const lw_sample_shape *shape)
{
    const lw_encoder *e = &wire->encoder;
    double latents = shape->latents;
    double flop = layers(&e->byte.stack, shape->source, shape->source);
    flop += layers(&e->pooler.stack, latents, shape->source) + linear(&e->pooler.linear, latents);
    for (int64_t j = 0; j < wire->llm_count; j++) {
        const lw_adapter *a = &wire->adapters[j];
        const lw_hf_config *c = configs[j];
        int64_t q_width = c->heads * c->head_dim;
        int64_t kv_width = c->kv_heads * c->head_dim;
        double layer = (double)(c->d * (2 * q_width + 2 * kv_width + 3 * c->ffn));
        flop += linear(&a->up, latents) + linear(&a->down, latents) + linear(&a->skip, latents);
        flop += 4.0 * layer * (double)c->layers * shape->rows[j];
        flop += 4.0 * (double)c->d * (double)c->vocab * shape->answer[j];
    }
    return flop;
}

double lw_step_weight_bytes(const lw_hf_config *const *configs, int64_t llm_count, lw_dtype type)
{
    double bytes = 0.0;
    for (int64_t j = 0; j < llm_count; j++) {
        const lw_hf_config *c = configs[j];
        int64_t width = (2 * c->heads + 2 * c->kv_heads) * c->head_dim;
        double elements = (double)(c->d * (width + 3 * c->ffn)) * (double)c->layers + (double)(c->d * c->vocab);
        bytes += 2.0 * elements * (double)lw_dtype_bytes(type);
    }
    return bytes;
}
