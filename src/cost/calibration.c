// calibration.c: which measured step is nearest to a predicted one, and what it corrects.
#include "cost/calibration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "wire/step.h"

const char *lw_calibration_folder(void)
{
    const char *folder = getenv("LWMPI_CALIBRATION");
    return folder != NULL && folder[0] != '\0' ? folder : "runs/calibration";
}

// --- describing a workload

static uint64_t hash_i64(uint64_t seed, const int64_t *values, size_t count)
{
    return lw_xxh64(values, count * sizeof *values, seed);
}

static uint64_t hash_models(const lw_workload *w)
{
    uint64_t hash = 1;
    for (int64_t j = 0; j < w->wire->llm_count; j++) {
        const lw_hf_config *c = w->configs[j];
        if (c == NULL) {
            hash = hash_i64(hash, &j, 1);
            continue;
        }
        const int64_t shape[] = {c->d, c->layers, c->heads, c->kv_heads, c->head_dim, c->ffn, c->vocab};
        hash = hash_i64(hash, shape, sizeof shape / sizeof shape[0]);
    }
    return hash;
}

// Rounds to a hundredth of a token: means that differ by less are the same shape.
static int64_t rounded(double value)
{
    return (int64_t)llround(100.0 * value);
}

// Hashes the frozen layers that the encoder reads with.
static uint64_t hash_reader(uint64_t hash, const lw_reader_work *r)
{
    if (r->llm != NULL) {
        const lw_hf_config *c = r->llm;
        const int64_t llm[] = {c->d,   c->layers, c->heads,  c->kv_heads,      c->head_dim,
                               c->ffn, c->vocab,  r->window, r->bidirectional, r->lora->rank};
        hash = hash_i64(hash, llm, sizeof llm / sizeof llm[0]);
    }
    if (r->bert != NULL) {
        const lw_bert_config *c = r->bert;
        const int64_t bert[] = {c->d, c->layers, c->heads, c->ffn, c->vocab, r->window};
        hash = hash_i64(hash, bert, sizeof bert / sizeof bert[0]);
    }
    return hash;
}

static uint64_t hash_shape(const lw_workload *w, uint64_t models)
{
    const lw_encoder *e = &w->wire->encoder;
    const lw_reader_work reads = lw_encoder_reader_work(e);
    const lw_pooler_work pools = lw_encoder_pooler_work(e);
    const int64_t shape[] = {w->share,
                             w->micro,
                             w->ranks,
                             w->wire->params.elements,
                             rounded(w->shape.source),
                             e->reader->width,
                             e->d_z,
                             e->kind,
                             reads.stack != NULL ? reads.stack->count : 0,
                             rounded(w->shape.latents),
                             pools.stack != NULL ? pools.stack->count : 0};
    uint64_t hash = hash_i64(models, shape, sizeof shape / sizeof shape[0]);
    hash = hash_reader(hash, &reads);
    for (int64_t j = 0; j < w->wire->llm_count; j++) {
        const double share = lw_llm_share(&w->shape);
        const int64_t sample[] = {rounded(share * w->shape.rows[j]), rounded(share * w->shape.answer[j])};
        hash = hash_i64(hash, sample, 2);
        if (w->shape.taught[j] > 0.0) {
            const int64_t taught = rounded(w->shape.taught[j]);
            hash = hash_i64(hash, &taught, 1);
        }
    }
    return hash;
}

void lw_calibration_describe(const lw_device_rates *rates, const lw_workload *work, int64_t threads,
                             lw_calibration_record *out)
{
    lw_device_rates shared = lw_device_rates_shared(rates, work->ranks, threads);
    lw_step_time time = lw_predict_step(&shared, work);
    *out = (lw_calibration_record){.rates = *rates, .ranks = work->ranks, .threads = threads};
    out->models_hash = hash_models(work);
    out->shape_hash = hash_shape(work, out->models_hash);
    out->step_flop = lw_step_flop(work->wire, work->configs, &work->shape) * (double)work->share;
    memcpy(out->model_s, time.phase_s, sizeof out->model_s);
}

// --- correcting predictions

static double ratio(double a, double b)
{
    return fabs(log(a / b));
}

// How far apart two measurements are: the log ratio of their sizes, plus twice that of their ranks and threads.
// Different models count as much as a factor of e^3 in size.
static double distance(const lw_calibration_record *a, const lw_calibration_record *b)
{
    double d = ratio(a->step_flop, b->step_flop) + 2.0 * ratio((double)a->ranks, (double)b->ranks);
    d += 2.0 * ratio((double)a->threads + 1.0, (double)b->threads + 1.0);
    return d + (a->models_hash != b->models_hash ? 3.0 : 0.0);
}

const lw_calibration_record *lw_calibration_nearest(const lw_calibration *c, const lw_calibration_record *target,
                                                    bool *exact)
{
    const lw_calibration_record *best = NULL;
    double nearest = 0.0;
    for (int i = 0; i < c->count; i++) {
        const lw_calibration_record *r = &c->list[i];
        if (strcmp(r->rates.name, target->rates.name) != 0) {
            continue;
        }
        double d = distance(r, target);
        bool newer = best != NULL && d <= nearest && strcmp(r->date, best->date) > 0;
        if (best == NULL || d < nearest || newer) {
            best = r;
            nearest = d;
        }
    }
    *exact = best != NULL && best->shape_hash == target->shape_hash && best->threads == target->threads &&
             best->ranks == target->ranks;
    return best;
}

lw_step_time lw_calibration_apply(const lw_calibration_record *r, const lw_step_time *time)
{
    double model_s = 0.0;
    double measured_s = 0.0;
    lw_step_time out = {0};
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        model_s += r->model_s[p];
        measured_s += r->measured_s[p];
    }
    double whole = model_s > 0.0 ? r->step_s / model_s : 1.0;
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        bool timed = measured_s > 0.0 && r->model_s[p] > 0.0 && r->measured_s[p] > 0.0;
        // Phases that were timed one by one take a little longer than the whole step, so they are scaled to it.
        double factor = timed ? r->measured_s[p] / r->model_s[p] * (r->step_s / measured_s) : whole;
        if (r->model_s[p] <= 0.0) {
            factor = 1.0; // the record did not have this phase, such as the all-reduce of one rank
        }
        out.phase_s[p] = time->phase_s[p] * factor;
        out.total_s += out.phase_s[p];
    }
    return out;
}
