// roofline.c: the time of a step, operator by operator, from shapes and rates.
#include "cost/roofline.h"

// The time of one phase, summed over its operators.
typedef struct clock {
    const lw_device_rates *rates;
    double s;
} clock;

static double longest(double a, double b, double c)
{
    double most = a > b ? a : b;
    return most > c ? most : c;
}

static void spend(clock *t, double flop, double flop_per_s, double bytes)
{
    t->s += longest(flop / flop_per_s, bytes / t->rates->bytes_per_s, t->rates->launch_s);
}

// Adds a product of rows x in x out; `accumulate`: it reads the result too.
static void frozen_product(clock *t, double rows, double in, double out, double out_bytes, bool accumulate)
{
    double operand = (double)lw_dtype_bytes(t->rates->frozen_type);
    double bytes = operand * (in * out + rows * in) + rows * out * out_bytes * (accumulate ? 2.0 : 1.0);
    spend(t, 2.0 * rows * in * out, t->rates->matrix_flop_per_s, bytes);
}

static void f32_product(clock *t, double rows, double in, double out)
{
    spend(t, 2.0 * rows * in * out, t->rates->f32_flop_per_s, 4.0 * (in * out + rows * (in + out)));
}

// Adds an operator that only moves `values` bytes.
static void move(clock *t, double bytes)
{
    spend(t, 0.0, 1.0, bytes);
}

// Adds scores and weighted values: `passes` products of q_rows x k_rows x width each, and the traffic of the operands.
static void attention(clock *t, double q_rows, double k_len, double width, double bytes, double passes,
                      double flop_rate)
{
    spend(t, 2.0 * passes * q_rows * k_len * width, flop_rate, bytes);
}

// --- frozen LLM

typedef struct llm_shape {
    double d, ffn, q, qkv, vocab, layers, rows, keys, scored, operand; // keys: that a row sees, on average
    double taught;                                                     // rows of a teacher
} llm_shape;

static llm_shape shape_of(const lw_device_rates *rates, const lw_hf_config *c, double samples, double rows,
                          double answer)
{
    return (llm_shape){.d = (double)c->d,
                       .ffn = (double)c->ffn,
                       .q = (double)(c->heads * c->head_dim),
                       .qkv = (double)((c->heads + 2 * c->kv_heads) * c->head_dim),
                       .vocab = (double)c->vocab,
                       .layers = (double)c->layers,
                       .rows = samples * rows,
                       .keys = rows / 2.0, // causal
                       .scored = samples * answer,
                       .operand = (double)lw_dtype_bytes(rates->frozen_type)};
}

static double llm_forward(const lw_device_rates *rates, const llm_shape *m)
{
    clock t = {.rates = rates};
    double r = m->rows;
    double o = m->operand;
    move(&t, r * m->d * (4.0 + o)); // rmsnorm
    frozen_product(&t, r, m->d, m->qkv, o, false);
    move(&t, 2.0 * r * m->qkv * o); // rope
    attention(&t, r, m->keys, m->q, r * (m->qkv + m->q) * o, 2.0, rates->matrix_flop_per_s);
    frozen_product(&t, r, m->q, m->d, 4.0, true);
    move(&t, r * m->d * (4.0 + o));
    frozen_product(&t, r, m->d, 2.0 * m->ffn, o, false);
    move(&t, 3.0 * r * m->ffn * o); // swiglu
    frozen_product(&t, r, m->ffn, m->d, 4.0, true);
    t.s *= m->layers;
    move(&t, 8.0 * r * m->d); // gather of soft tokens and embeddings
    return t.s;
}

static double llm_head(const lw_device_rates *rates, const llm_shape *m)
{
    clock t = {.rates = rates};
    double o = m->operand;
    move(&t, m->scored * m->d * 12.0); // scored rows and their norm
    frozen_product(&t, m->scored + m->taught, m->d, m->vocab, 4.0, false);
    move(&t, 3.0 * 4.0 * m->scored * m->vocab); // two reads and one write
    move(&t, 4.0 * 4.0 * m->taught *
                 m->vocab); // three reads of the teacher's rows, one more read of the rows that have a teacher
    if (rates->frozen_type != LW_F32) {
        move(&t, m->scored * m->vocab * (4.0 + o)); // writes the gradient as an operand
    }
    frozen_product(&t, m->scored, m->vocab, m->d, 4.0, false);
    move(&t, 16.0 * m->scored * m->d);
    move(&t, 4.0 * m->rows * m->d); // zeroes the gradients of all other rows
    return t.s;
}

static double llm_backward(const lw_device_rates *rates, const llm_shape *m)
{
    clock t = {.rates = rates};
    double r = m->rows;
    double o = m->operand;
    if (rates->frozen_type != LW_F32) {
        move(&t, 2.0 * r * m->d * o); // the norms write the gradient of the residual stream again, as an operand
    }
    frozen_product(&t, r, m->d, m->ffn, o, false);
    move(&t, 5.0 * r * m->ffn * o); // swiglu_backward
    frozen_product(&t, r, 2.0 * m->ffn, m->d, 4.0, false);
    move(&t, 16.0 * r * m->d); // rmsnorm_backward accumulates
    frozen_product(&t, r, m->d, m->q, o, false);
    attention(&t, r, m->keys, m->q, 2.0 * r * (m->qkv + m->q) * o, 5.0, rates->matrix_flop_per_s);
    move(&t, 2.0 * r * m->qkv * o);
    frozen_product(&t, r, m->qkv, m->d, 4.0, false);
    move(&t, 16.0 * r * m->d);
    t.s *= m->layers;
    move(&t, 8.0 * r * m->d); // the soft tokens' rows
    return t.s;
}

// --- trainables: forward, or backward (two products for each one of the forward pass)

static void linear(clock *t, const lw_linear *l, double rows, bool backward)
{
    f32_product(t, rows, (double)l->in, (double)l->out);
    if (backward) {
        f32_product(t, rows, (double)l->out, (double)l->in);
        move(t, 4.0 * rows * (double)l->out); // bias
    }
}

static void layernorm(clock *t, double rows, double d, bool backward)
{
    move(t, rows * d * (backward ? 16.0 : 8.0));
}

static void feed_forward(clock *t, const lw_feed_forward *f, double rows, bool backward)
{
    layernorm(t, rows, (double)f->up.in, backward);
    linear(t, &f->up, rows, backward);
    move(t, rows * (double)f->up.out * (backward ? 12.0 : 8.0)); // gelu
    linear(t, &f->down, rows, backward);
    move(t, 8.0 * rows * (double)f->up.in); // residual
}

static void transformer_layer(clock *t, const lw_transformer_layer *l, double q_rows, double k_rows, double k_len,
                              bool backward)
{
    const lw_attend *a = &l->attend;
    double d = (double)a->d;
    layernorm(t, q_rows, d, backward);
    linear(t, &a->q, q_rows, backward);
    linear(t, &a->k, k_rows, backward);
    linear(t, &a->v, k_rows, backward);
    move(t, 8.0 * q_rows * d); // rope
    move(t, 8.0 * k_rows * d);
    attention(t, q_rows, k_len, d, 4.0 * d * (2.0 * q_rows + 2.0 * k_rows) * (backward ? 2.0 : 1.0),
              backward ? 5.0 : 2.0, t->rates->f32_flop_per_s);
    move(t, 8.0 * q_rows * d);
    linear(t, &a->o, q_rows, backward);
    feed_forward(t, &l->ffn, q_rows, backward);
}

// --- encoder

// Adds both products of every low-rank update; the backward pass has twice as many.
static double updates(const lw_device_rates *rates, const lw_reader_work *r, double rows, bool backward)
{
    clock t = {.rates = rates};
    double rank = (double)r->lora->rank;
    double operand = (double)lw_dtype_bytes(rates->frozen_type);
    for (int map = 0; map < LW_LORA_MAPS; map++) {
        const lw_lora_shape *s = &r->lora->shapes[map];
        frozen_product(&t, rows, (double)s->in, rank * (double)s->part_count, operand, false);
        frozen_product(&t, rows, rank, (double)s->out, operand, true);
    }
    return t.s * (double)r->llm->layers * (backward ? 2.0 : 1.0);
}

static double window_of(const lw_reader_work *r, double tokens)
{
    return tokens < (double)r->window ? tokens : (double)r->window;
}

// Adds the layers of an LLM that the encoder reads with.
static double reader_llm(const lw_device_rates *rates, const lw_reader_work *r, double samples, double tokens,
                         bool backward)
{
    llm_shape m = shape_of(rates, r->llm, samples, tokens, 0.0);
    m.keys = r->bidirectional ? window_of(r, tokens) : window_of(r, tokens) / 2.0;
    if (r->lora->rank > 0) {
        double s = updates(rates, r, samples * tokens, backward);
        return s + (backward ? llm_backward(rates, &m) : llm_forward(rates, &m));
    }
    return backward ? 0.0 : llm_forward(rates, &m);
}

// Adds the layers of a BERT that the encoder reads with. They only run forward, since nothing in front of them is
// trained.
static double reader_bert(const lw_device_rates *rates, const lw_reader_work *r, double rows, double tokens)
{
    clock t = {.rates = rates};
    const lw_bert_config *c = r->bert;
    double d = (double)c->d;
    double ffn = (double)c->ffn;
    double o = (double)lw_dtype_bytes(rates->frozen_type);
    frozen_product(&t, rows, d, 3.0 * d, o, false);
    attention(&t, rows, window_of(r, tokens), d, 4.0 * rows * d * o, 2.0, rates->matrix_flop_per_s);
    frozen_product(&t, rows, d, d, 4.0, true);
    frozen_product(&t, rows, d, ffn, o, false);
    move(&t, 2.0 * rows * ffn * o); // gelu
    frozen_product(&t, rows, ffn, d, 4.0, true);
    move(&t, 2.0 * rows * d * (8.0 + o)); // two LayerNorms and their operands
    t.s *= (double)c->layers;
    move(&t, 20.0 * rows * d); // embeddings, and the states of the text
    return t.s;
}

static void reader(clock *t, const lw_reader_work *r, double samples, double tokens, double width, bool backward)
{
    double rows = samples * tokens;
    if (r->llm != NULL) {
        t->s += reader_llm(t->rates, r, samples, tokens, backward);
    }
    if (r->bert != NULL && !backward) {
        t->s += reader_bert(t->rates, r, rows, tokens);
    }
    if (r->project != NULL) {
        linear(t, r->project, rows, backward);
    }
    move(t, 8.0 * rows * width); // embedding, or its scatter
    for (int64_t i = 0; r->stack != NULL && i < r->stack->count; i++) {
        transformer_layer(t, &r->stack->layers[i], rows, rows, tokens, backward);
    }
}

static void pooler(clock *t, const lw_pooler_work *p, double z, double rows, double tokens, double width, bool backward)
{
    for (int64_t i = 0; p->stack != NULL && i < p->stack->count; i++) {
        transformer_layer(t, &p->stack->layers[i], z, rows, tokens, backward);
    }
    if (p->linear != NULL) {
        move(t, 4.0 * (rows + z) * width);
        linear(t, p->linear, z, backward);
    }
}

static double encoder(const lw_device_rates *rates, const lw_encoder *e, double samples, const lw_sample_shape *shape,
                      bool backward)
{
    clock t = {.rates = rates};
    const lw_reader_work reads = lw_encoder_reader_work(e);
    const lw_pooler_work pools = lw_encoder_pooler_work(e);
    double width = (double)e->reader->width;
    double rows = samples * shape->source;
    double z = samples * shape->latents;
    reader(&t, &reads, samples, shape->source, width, backward);
    layernorm(&t, rows, width, backward);
    pooler(&t, &pools, z, rows, shape->source, width, backward);
    layernorm(&t, z, (double)e->d_z, backward);
    return t.s;
}

static double adapter(const lw_device_rates *rates, const lw_adapter *a, double z, bool backward)
{
    clock t = {.rates = rates};
    layernorm(&t, z, (double)a->d_z, backward);
    linear(&t, &a->up, z, backward);
    move(&t, z * (double)a->hidden * (backward ? 12.0 : 8.0));
    linear(&t, &a->down, z, backward);
    linear(&t, &a->skip, z, backward);
    move(&t, z * (double)a->d * (backward ? 12.0 : 8.0));
    return t.s;
}

// --- a step

// Adds one pass of `samples` samples to the phases.
static void add_pass(const lw_device_rates *rates, const lw_workload *w, double samples, lw_step_time *out)
{
    double *p = out->phase_s;
    double z = samples * w->shape.latents;
    p[LW_PHASE_ENCODER_FORWARD] += encoder(rates, &w->wire->encoder, samples, &w->shape, false);
    p[LW_PHASE_ENCODER_BACKWARD] += encoder(rates, &w->wire->encoder, samples, &w->shape, true);
    double share = lw_llm_share(&w->shape);
    for (int64_t j = 0; j < w->wire->llm_count; j++) {
        if (w->configs[j] == NULL) {
            continue;
        }
        llm_shape m = shape_of(rates, w->configs[j], samples, w->shape.rows[j], w->shape.answer[j]);
        m.taught = samples * w->shape.taught[j];
        p[LW_PHASE_ADAPTER_FORWARD] += share * adapter(rates, &w->wire->adapters[j], z, false);
        p[LW_PHASE_LLM_FORWARD] += share * llm_forward(rates, &m);
        p[LW_PHASE_HEAD] += share * llm_head(rates, &m);
        p[LW_PHASE_LLM_BACKWARD] += share * llm_backward(rates, &m);
        p[LW_PHASE_ADAPTER_BACKWARD] += share * adapter(rates, &w->wire->adapters[j], z, true);
    }
}

double lw_predict_teacher(const lw_device_rates *rates, const lw_hf_config *config, double samples, double tokens,
                          int64_t pass_rows, int64_t pass_samples, int64_t ranks)
{
    if (tokens <= 0.0) {
        return 0.0;
    }
    double len = tokens / samples;
    double together = (double)pass_rows / len; // samples of a pass
    together = together < (double)pass_samples ? together : (double)pass_samples;
    together = together > 1.0 ? together : 1.0;
    together = together < samples ? together : samples;
    llm_shape m = shape_of(rates, config, together, len, 0.0);
    return llm_forward(rates, &m) * samples / together / (double)ranks;
}

static double reduce(const lw_device_rates *rates, double bytes, int64_t ranks)
{
    if (ranks < 2) {
        return 0.0;
    }
    double n = (double)ranks;
    const lw_link *link = rates->per_node > 0 && ranks > rates->per_node ? &rates->network : &rates->node;
    return 2.0 * (n - 1.0) / n * bytes / link->bytes_per_s + 2.0 * (n - 1.0) * link->latency_s;
}

lw_step_time lw_predict_step(const lw_device_rates *rates, const lw_workload *w)
{
    lw_step_time out = {0};
    for (int64_t done = 0; done < w->share; done += w->micro) {
        int64_t n = w->share - done < w->micro ? w->share - done : w->micro;
        int64_t whole = (w->share - done) / w->micro;
        if (whole > 1) { // equal passes are computed once and multiplied
            lw_step_time pass = {0};
            add_pass(rates, w, (double)n, &pass);
            for (int p = 0; p < LW_PHASE_COUNT; p++) {
                out.phase_s[p] += (double)whole * pass.phase_s[p];
            }
            done += (whole - 1) * w->micro;
        } else {
            add_pass(rates, w, (double)n, &out);
        }
    }
    double elements = (double)w->wire->params.elements;
    clock update = {.rates = rates};
    move(&update, 4.0 * elements);  // norm
    move(&update, 28.0 * elements); // AdamW reads four arrays and writes three
    out.phase_s[LW_PHASE_UPDATE] = update.s;
    out.phase_s[LW_PHASE_REDUCE] = reduce(rates, 4.0 * (double)w->wire->reduce_elements, w->ranks);
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        out.total_s += out.phase_s[p];
    }
    return out;
}
