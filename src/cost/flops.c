// flops.c: arithmetic and weight traffic of a step, counted from shapes.
#include "cost/flops.h"

lw_sample_shape lw_sample_shape_of(const lw_config *config, const lw_token_sample *samples, int64_t count)
{
    lw_sample_shape s = {.alternating_llms = config->train.schedule == LW_SCHEDULE_ALTERNATE ? config->model_count : 0};
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

// The number of weights in the matrices of all layers.
static double layer_weights(const lw_hf_config *c)
{
    double weights = 0.0;
    for (int map = 0; map < LW_LORA_MAPS; map++) {
        lw_lora_shape s = lw_lora_shape_of(c, (lw_lora_map)map);
        weights += (double)(s.in * s.out);
    }
    return weights * (double)c->layers;
}

static double bert_weights(const lw_bert_config *c)
{
    return (double)(c->layers * c->d) * (double)(4 * c->d + 2 * c->ffn);
}

// Operations of the reader for so many tokens.
static double reader(const lw_reader_work *r, double tokens)
{
    double flop = 0.0;
    if (r->llm != NULL) {
        double frozen = r->lora->rank > 0 ? 4.0 : 2.0;
        flop += (frozen * layer_weights(r->llm) + 6.0 * (double)lw_lora_elements(r->lora)) * tokens;
    }
    if (r->bert != NULL) {
        flop += 2.0 * bert_weights(r->bert) * tokens;
    }
    if (r->project != NULL) {
        flop += linear(r->project, tokens);
    }
    return r->stack != NULL ? flop + layers(r->stack, tokens, tokens) : flop;
}

static double pooler(const lw_pooler_work *p, double latents, double tokens)
{
    double flop = p->stack != NULL ? layers(p->stack, latents, tokens) : 0.0;
    return p->linear != NULL ? flop + linear(p->linear, latents) : flop;
}

double lw_step_flop(const lw_wire *wire, const lw_hf_config *const *configs, const lw_sample_shape *shape)
{
    const lw_reader_work reads = lw_encoder_reader_work(&wire->encoder);
    const lw_pooler_work pools = lw_encoder_pooler_work(&wire->encoder);
    double latents = shape->latents;
    double flop = reader(&reads, shape->source);
    flop += pooler(&pools, latents, shape->source);
    double share = lw_llm_share(shape);
    for (int64_t j = 0; j < wire->llm_count; j++) {
        const lw_adapter *a = &wire->adapters[j];
        const lw_hf_config *c = configs[j];
        if (c == NULL) {
            continue;
        }
        flop += share * (linear(&a->up, latents) + linear(&a->down, latents) + linear(&a->skip, latents));
        flop += share * 4.0 * layer_weights(c) * shape->rows[j];
        flop += share * (double)c->d * (double)c->vocab * (4.0 * shape->answer[j] + 2.0 * shape->taught[j]);
    }
    return flop;
}

double lw_step_weight_bytes(const lw_wire *wire, const lw_hf_config *const *configs, lw_dtype type)
{
    const lw_reader_work r = lw_encoder_reader_work(&wire->encoder);
    double elements = r.bert != NULL ? bert_weights(r.bert) : 0.0;
    if (r.llm != NULL) {
        elements += (r.lora->rank > 0 ? 2.0 : 1.0) * layer_weights(r.llm);
    }
    for (int64_t j = 0; j < wire->llm_count; j++) {
        const lw_hf_config *c = configs[j];
        if (c == NULL) {
            continue;
        }
        elements += 2.0 * (layer_weights(c) + (double)(c->d * c->vocab));
    }
    return elements * (double)lw_dtype_bytes(type);
}

lw_sample_shape lw_corpus_shape(const lw_config *config, const lw_corpus *c)
{
    lw_sample_shape shape = lw_sample_shape_of(config, c->samples, c->count);
    if (c->view_count > c->count) { // the other views are the same windows, which the model has to repeat
        lw_sample_shape repeated = lw_sample_shape_of(config, c->samples + c->count, c->count);
        for (int64_t j = 0; j < c->llm_count; j++) {
            shape.rows[j] += c->data.repeated * (repeated.rows[j] - shape.rows[j]);
            shape.answer[j] += c->data.repeated * (repeated.answer[j] - shape.answer[j]);
        }
    }
    return shape;
}
