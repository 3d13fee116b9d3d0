#include "cost/flops.h"

lw_sample_shape lw_sample_shape_of(const lw_config *config, const lw_token_sample *samples, int64_t count)
{
    lw_sample_shape s = {.turns = config->train.schedule == LW_SCHEDULE_ALTERNATE ? config->model_count : 0};
    const lw_step_loss loss = lw_step_loss_of(config);
    for (int64_t i = 0; i < count; i++) {
        int64_t latents = lw_config_latents(config, samples[i].source.count);
        s.source += (double)samples[i].source.count / (double)count;
        s.latents += (double)latents / (double)count;
        for (int64_t j = 0; j < config->model_count; j++) {
            s.rows[j] += (double)lw_token_sample_rows(config, &samples[i], j) / (double)count;
            s.answer[j] += (double)samples[i].answer[j].count / (double)count;
            s.taught[j] += (double)lw_step_taught(&loss, &samples[i], j) / (double)count;
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

// Of the matrices of all layers.
static double layer_weights(const lw_hf_config *c)
{
    double weights = 0.0;
    for (int map = 0; map < LW_LORA_MAPS; map++) {
        lw_lora_shape s = lw_lora_shape_of(c, (lw_lora_map)map);
        weights += (double)(s.in * s.out);
    }
    return weights * (double)c->layers;
}

static double encoder_llm(const lw_reader_llm *r, double tokens)
{
    if (r->config.layers == 0) {
        return 0.0; // another kind
    }
    double frozen = r->lora.rank > 0 ? 4.0 : 2.0;
    return (frozen * layer_weights(&r->config) + 6.0 * (double)lw_lora_elements(&r->lora)) * tokens +
           linear(&r->project, tokens);
}

static double bert_weights(const lw_bert_config *c)
{
    return (double)(c->layers * c->d) * (double)(4 * c->d + 2 * c->ffn);
}

static double encoder_bert(const lw_reader_bert *r, double tokens)
{
    if (r->config.layers == 0) {
        return 0.0; // another kind
    }
    return 2.0 * bert_weights(&r->config) * tokens + linear(&r->project, tokens);
}

double lw_step_flop(const lw_wire *wire, const lw_hf_config *const *configs, const lw_sample_shape *shape)
{
    const lw_encoder *e = &wire->encoder;
    double latents = shape->latents;
    double flop = layers(&e->byte.stack, shape->source, shape->source);
    flop += encoder_llm(&e->llm, shape->source) + encoder_bert(&e->bert, shape->source);
    flop += layers(&e->pooler.stack, latents, shape->source) + linear(&e->pooler.linear, latents);
    double share = lw_llm_share(shape);
    for (int64_t j = 0; j < wire->llm_count; j++) {
        const lw_adapter *a = &wire->adapters[j];
        const lw_hf_config *c = configs[j];
        flop += share * (linear(&a->up, latents) + linear(&a->down, latents) + linear(&a->skip, latents));
        flop += share * 4.0 * layer_weights(c) * shape->rows[j];
        flop += share * (double)c->d * (double)c->vocab * (4.0 * shape->answer[j] + 2.0 * shape->taught[j]);
    }
    return flop;
}

double lw_step_weight_bytes(const lw_wire *wire, const lw_hf_config *const *configs, lw_dtype type)
{
    const lw_reader_llm *r = &wire->encoder.llm;
    double elements = (r->lora.rank > 0 ? 2.0 : 1.0) * layer_weights(&r->config);
    elements += bert_weights(&wire->encoder.bert.config);
    for (int64_t j = 0; j < wire->llm_count; j++) {
        const lw_hf_config *c = configs[j];
        elements += 2.0 * (layer_weights(c) + (double)(c->d * c->vocab));
    }
    return elements * (double)lw_dtype_bytes(type);
}

lw_sample_shape lw_corpus_shape(const lw_config *config, const lw_corpus *c)
{
    lw_sample_shape shape = lw_sample_shape_of(config, c->samples, c->count);
    if (c->view_count > c->count) { // the others are the same windows, to be repeated
        lw_sample_shape repeated = lw_sample_shape_of(config, c->samples + c->count, c->count);
        for (int64_t j = 0; j < c->llm_count; j++) {
            shape.rows[j] += c->data.repeated * (repeated.rows[j] - shape.rows[j]);
            shape.answer[j] += c->data.repeated * (repeated.answer[j] - shape.answer[j]);
        }
    }
    return shape;
}
