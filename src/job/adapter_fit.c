// adapter_fit.c: fits the adapters to the embeddings of the LLMs by ridge regression.
#include "job/adapter_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "data/order.h"
#include "data/sample.h"
#include "job/ridge.h"
#include "wire/step.h"

enum { ROWS_OF_A_COLUMN = 50, EMBED_TOKENS = 256, BATCH = 64 };
static const double penalty = 1e-3; // times the variance of the latents

// Which part of a text each of its tokens stands for: token i from end[i - 1] to end[i], as fractions of the text.
typedef struct spans {
    int64_t count;
    double *end; // owned
} spans;

typedef struct fit {
    lw_job *job;
    lw_step *step;
    lw_step_spec spec;
    const lw_corpus *corpus;
    lw_ridge ridge[LW_MAX_MODELS];
    void *sums[LW_MAX_MODELS];          // device, owned
    float *ones, *target;               // device: (latent rows), (latent rows, widest d)
    int32_t *ids;                       // device: (EMBED_TOKENS)
    float *embedded;                    // device: (EMBED_TOKENS, widest d)
    void *memory;                       // device, owned: holds the four above
    float *host_target, *host_embedded; // owned
    lw_tokenizer_scratch *scratch[LW_MAX_MODELS];
} fit;

// --- which token stands for which part of a text

static lw_status find_spans(const lw_tokenizer *tokenizer, lw_tokens tokens, lw_error *err, spans *out)
{
    double total = 0.0;
    *out = (spans){.count = tokens.count, .end = calloc((size_t)tokens.count + 1, sizeof *out->end)};
    if (out->end == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the places of %lld tokens", (long long)tokens.count);
    }
    for (int64_t i = 0; i < tokens.count; i++) {
        char *text = NULL;
        size_t bytes = 1; // a token of the byte encoder
        if (tokenizer != NULL) {
            LW_TRY(lw_tokenizer_decode(tokenizer, &tokens.ids[i], 1, false, err, &text, &bytes));
            free(text);
        }
        total += (double)bytes;
        out->end[i] = total;
    }
    for (int64_t i = 0; i < tokens.count; i++) {
        out->end[i] /= total;
    }
    return LW_OK;
}

static double begin_of(const spans *c, int64_t i)
{
    return i == 0 ? 0.0 : c->end[i - 1];
}

// out (d) is the sum of the embeddings of the tokens between `from` and `to`, each weighted by the part of it that lies
// there, scaled to an RMS of 1. out is zero before.
static void average(const spans *c, const float *embedded, int64_t d, double from, double to, float *out)
{
    double square = 0.0;
    for (int64_t i = 0; i < c->count && begin_of(c, i) < to; i++) {
        double overlap = fmin(c->end[i], to) - fmax(begin_of(c, i), from);
        if (overlap <= 0.0) {
            continue;
        }
        double weight = overlap / (c->end[i] - begin_of(c, i)); // long and short tokens count alike
        for (int64_t k = 0; k < d; k++) {
            out[k] += (float)weight * embedded[i * d + k];
        }
    }
    for (int64_t k = 0; k < d; k++) {
        square += (double)out[k] * (double)out[k];
    }
    float scale = square > 0.0 ? (float)sqrt((double)d / square) : 0.0F; // only the direction matters
    for (int64_t k = 0; k < d; k++) {
        out[k] *= scale;
    }
}

// --- one text

// Leaves the embeddings of LLM j's tokens, (tokens, d), in f->host_embedded.
static lw_status embed(fit *f, int64_t j, const lw_ids *ids, lw_error *err)
{
    lw_device *dev = f->job->dev;
    int64_t d = f->job->wire.adapters[j].d;
    float *grown = realloc(f->host_embedded, ids->len * (size_t)d * sizeof *grown);
    if (grown == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the embeddings of %zu tokens", ids->len);
    }
    f->host_embedded = grown;
    for (size_t done = 0; done < ids->len; done += EMBED_TOKENS) {
        size_t n = ids->len - done < EMBED_TOKENS ? ids->len - done : EMBED_TOKENS;
        dev->ops->upload(dev, ids->data + done, n * sizeof *ids->data, f->ids);
        lw_decoder_embed(f->job->llms[j].decoder, (int64_t)n, f->ids, f->embedded);
        dev->ops->download(dev, f->embedded, n * (size_t)d * sizeof(float), grown + done * (size_t)d);
        LW_TRY(dev->ops->sync(dev, err));
    }
    return LW_OK;
}

// Computes LLM j's targets for the latents of sample s, which is the i-th text of the batch.
static lw_status set_targets(fit *f, int64_t j, int64_t s, int64_t i, lw_error *err)
{
    const lw_job *job = f->job;
    const lw_encoder_indices *at = &f->step->batch.at;
    const lw_tokenizer *tokenizer = job->llms[j].tokenizer;
    int64_t d = job->wire.adapters[j].d;
    int64_t bytes;
    bool cut;
    lw_ids ids = {0};
    spans read = {0};
    spans own = {0};
    lw_status status = LW_OK;
    LW_TRY_GOTO(lw_corpus_source(f->spec.config, &f->corpus->data.samples[s], tokenizer, f->scratch[j], err, &ids,
                                 &bytes, &cut));
    LW_TRY_GOTO(embed(f, j, &ids, err));
    LW_TRY_GOTO(find_spans(tokenizer, (lw_tokens){ids.data, (int64_t)ids.len}, err, &own));
    LW_TRY_GOTO(find_spans(job->encoder.tokenizer, f->corpus->samples[s].source, err, &read));
    for (int64_t z = at->z_start[i]; z < at->z_start[i + 1]; z++) {
        float *out = f->host_target + z * d;
        memset(out, 0, (size_t)d * sizeof *out);
        average(&own, f->host_embedded, d, begin_of(&read, at->span[z] - at->start[i]),
                begin_of(&read, at->span[z + 1] - at->start[i]), out);
    }
done:
    free(ids.data);
    free(read.end);
    free(own.end);
    return status;
}

// --- a batch of texts

typedef struct batch {
    int64_t count;
    int64_t index[BATCH]; // in the corpus
    const lw_token_sample *samples[BATCH];
} batch;

static lw_status add_batch(fit *f, const batch *b, lw_error *err)
{
    lw_job *job = f->job;
    lw_device *dev = job->dev;
    lw_step *step = f->step;
    LW_TRY(lw_step_encode(step, &f->spec, b->samples, b->count, err));
    int64_t rows = step->batch.z_rows;
    for (int64_t j = 0; j < job->llm_count; j++) {
        const lw_adapter *a = &job->wire.adapters[j];
        lw_layernorm_buffers *norm = &step->adapters[j].norm;
        if (!lw_job_owns(job, j)) {
            continue;
        }
        for (int64_t i = 0; i < b->count; i++) {
            LW_TRY(set_targets(f, j, b->index[i], i, err));
        }
        dev->ops->upload(dev, f->host_target, (size_t)(rows * a->d) * sizeof(float), f->target);
        lw_layernorm_forward(dev, &job->wire.params, &a->norm, rows, step->encoder.z, norm);
        lw_ridge_add(dev, &f->ridge[j], rows, norm->y, f->target, f->ones);
    }
    return dev->ops->sync(dev, err);
}

static int64_t sample_at(const fit *f, int64_t i)
{
    return lw_order_index((uint64_t)f->job->config->seed, 0, i, f->corpus->count);
}

// How many texts give enough latents. The number does not depend on the number of ranks.
static int64_t texts_wanted(const fit *f)
{
    int64_t wanted = ROWS_OF_A_COLUMN * (f->job->wire.encoder.d_z + 1);
    int64_t texts = 0;
    for (int64_t rows = 0; texts < f->corpus->count && rows < wanted; texts++) {
        rows += lw_config_latents(f->spec.config, f->corpus->samples[sample_at(f, texts)].source.count);
    }
    return texts;
}

// The ranks that have the same LLMs take one batch each, in turn.
static lw_status add_texts(fit *f, int64_t texts, lw_error *err)
{
    const lw_job *job = f->job;
    int64_t micro = f->step->limits.encoder.samples;
    int64_t most = micro < BATCH ? micro : BATCH;
    for (int64_t done = job->place.data * most; done < texts; done += job->grid.data * most) {
        batch b = {.count = texts - done < most ? texts - done : most};
        for (int64_t i = 0; i < b.count; i++) {
            b.index[i] = sample_at(f, done + i);
            b.samples[i] = &f->corpus->samples[b.index[i]];
        }
        lw_comm_send_heartbeat(job->comm);
        LW_TRY(add_batch(f, &b, err));
    }
    return LW_OK;
}

// --- the fit

static int64_t widest(const lw_wire *wire)
{
    int64_t d = 0;
    for (int64_t j = 0; j < wire->llm_count; j++) {
        d = wire->adapters[j].d > d ? wire->adapters[j].d : d;
    }
    return d;
}

static lw_status start(fit *f, lw_error *err)
{
    lw_wire *wire = &f->job->wire;
    lw_device *dev = f->job->dev;
    int64_t rows = f->step->limits.encoder.latents;
    int64_t d = widest(wire);
    for (int64_t j = 0; j < wire->llm_count; j++) {
        lw_ridge *r = &f->ridge[j];
        *r = (lw_ridge){.p = wire->encoder.d_z, .q = wire->adapters[j].d};
        size_t bytes = (size_t)lw_ridge_elements(r->p, r->q) * sizeof(float);
        LW_TRY(dev->ops->alloc(dev, bytes, err, &f->sums[j]));
        dev->ops->zero(dev, bytes, f->sums[j]);
        lw_ridge_place(r, f->sums[j]);
        LW_TRY(lw_tokenizer_scratch_create(f->job->llms[j].tokenizer, err, &f->scratch[j]));
    }
    size_t floats = (size_t)(rows + rows * d + EMBED_TOKENS * d);
    LW_TRY(dev->ops->alloc(dev, floats * sizeof(float) + EMBED_TOKENS * sizeof *f->ids, err, &f->memory));
    f->ones = f->memory;
    f->target = f->ones + rows;
    f->embedded = f->target + rows * d;
    f->ids = (int32_t *)(f->embedded + EMBED_TOKENS * d);
    f->host_target = malloc((size_t)(rows * d) * sizeof *f->host_target);
    if (f->host_target == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the fit of the adapters");
    }
    for (int64_t i = 0; i < rows; i++) {
        f->host_target[i] = 1.0F;
    }
    dev->ops->upload(dev, f->host_target, (size_t)rows * sizeof(float), f->ones);
    return LW_OK;
}

static void leave(fit *f)
{
    lw_device *dev = f->job->dev;
    for (int64_t j = 0; j < LW_MAX_MODELS; j++) {
        dev->ops->free(dev, f->sums[j]);
        lw_tokenizer_scratch_destroy(&f->scratch[j]);
    }
    dev->ops->free(dev, f->memory);
    free(f->host_target);
    free(f->host_embedded);
}

// Adds the sums over the ranks, in pieces as large as the communicator has buffers for.
static lw_status add_ranks(fit *f, lw_error *err)
{
    int64_t most = f->job->wire.reduce_elements;
    for (int64_t j = 0; j < f->job->llm_count; j++) {
        int64_t elements = lw_ridge_sums(f->ridge[j].p, f->ridge[j].q);
        for (int64_t done = 0; done < elements; done += most) {
            int64_t n = elements - done < most ? elements - done : most;
            LW_TRY(lw_comm_all_reduce(f->job->comm, f->ridge[j].xx + done, n, err));
        }
        LW_TRY(lw_comm_sum_i64(f->job->comm, &f->ridge[j].rows, 1, err));
    }
    return LW_OK;
}

// One rank solves and sends the solution, so that all ranks have the same bits.
static lw_status set_adapter(fit *f, int64_t j, lw_error *err, double *explained)
{
    lw_job *job = f->job;
    lw_device *dev = job->dev;
    lw_params *params = &job->wire.params;
    const lw_adapter *a = &job->wire.adapters[j];
    int64_t weights = a->d * a->d_z;
    float *solution = malloc((size_t)(weights + a->d) * sizeof *solution); // weight, bias
    lw_status status = LW_OK;
    if (solution == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the fit of the adapters");
    } else if (job->rank == 0) {
        status = lw_ridge_solve(dev, &f->ridge[j], penalty, err, solution, solution + weights, explained);
        if (status == LW_ERR_NUMERIC) { // one number has no LayerNorm, and one or two texts have no variance
            status = lw_fail_in(err, status,
                                "adapter.start = \"embeddings\" needs more data or a larger wire.d_z, or "
                                "set it to \"random\": model %s",
                                job->config->models[j].name);
        }
    }
    status = lw_comm_agree(job->comm, status, err);
    if (status == LW_OK) {
        status = lw_comm_broadcast(job->comm, 0, solution, (weights + a->d) * (int64_t)sizeof *solution, err);
    }
    if (status == LW_OK) {
        dev->ops->upload(dev, solution, (size_t)weights * sizeof(float), lw_param_at(params, a->skip.weight));
        dev->ops->upload(dev, solution + weights, (size_t)a->d * sizeof(float), lw_param_at(params, a->skip.bias));
        dev->ops->zero(dev, (size_t)(a->d * a->hidden) * sizeof(float), lw_param_at(params, a->down.weight));
        status = dev->ops->sync(dev, err);
    }
    free(solution);
    return status;
}

static lw_status make(fit *f, lw_error *err)
{
    lw_job *job = f->job;
    double start_s = lw_now_s();
    int64_t texts = texts_wanted(f);
    char words[LW_MAX_MODELS * 100] = "";
    size_t used = 0;
    lw_status status = start(f, err);
    if (status == LW_OK) {
        status = add_texts(f, texts, err);
    }
    LW_TRY(lw_comm_agree(job->comm, status, err));
    LW_TRY(add_ranks(f, err));
    for (int64_t j = 0; j < job->llm_count; j++) {
        double explained = 0.0;
        LW_TRY(set_adapter(f, j, err, &explained));
        used += (size_t)snprintf(words + used, sizeof words - used, "%s %.80s %.0f %%", j > 0 ? "," : "",
                                 job->llms[j].name, 100.0 * explained);
    }
    lw_log(job->run, "adapters fitted to the embeddings, %lld latents of %lld texts in %.1f s: of their variance%s",
           (long long)f->ridge[0].rows, (long long)texts, lw_now_s() - start_s, words);
    return LW_OK;
}

lw_status lw_adapter_fit(lw_job *job, lw_step *step, const lw_config *config, const lw_corpus *corpus, lw_error *err)
{
    fit f = {.job = job, .step = step, .spec = lw_step_spec_of(config), .corpus = corpus};
    lw_status status = make(&f, err);
    leave(&f);
    return status;
}
