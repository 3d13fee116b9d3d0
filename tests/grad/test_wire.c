// The gradient of the whole step: encoder, pooler, adapters and frozen LLMs, against finite differences of its loss.
//
// For every trainable tensor p and direction u, |u| = 1, the analytic g.u is compared with the derivative of
// L(p + h u) at h = 0. L is computed in double from the f32 logits of every answer token, with formula and weights
// written out here once more, so a wrong weight is found too.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/random.h"
#include "data/sample.h"
#include "derivative.h"
#include "divergence.h"
#include "kernels/devices.h"
#include "wire/step.h"

enum { LLMS = 2, READS = 1, SAMPLES = 5, MAX_TOKENS = 8, DIRECTIONS = 3 };

static const char bert_dir[] = "tests/parity/bert/tiny";
static const char *const model_dirs[LLMS] = {"tests/parity/fixtures/llama-gqa-headdim",
                                             "tests/parity/fixtures/qwen2-gqa"};

// Of the norm of a tensor's gradient, beside what rounding leaves uncertain in it (sum_tolerance, below); measured: the
// worst of all cases is 8e-4.
static const double FD_TOLERANCE = 1e-3;

// Micro-batches add the same numbers in another order, and their products may be computed by other routines of the
// BLAS, which ones depending on the processor. How far two such results may be apart follows from the arithmetic
// (Higham 2002, "Accuracy and Stability of Numerical Algorithms", sections 3.1 and 4.2):
//
// A sum of n terms in f32 has an error of up to n u sum |term|, u = 2^-24: what counts is the size of the terms, not of
// the sum, which is smaller where they cancel. Roundings are of either sign, and their sum grows as sqrt(n) u. A
// gradient's terms, those of the samples, are themselves results of such sums, one after another, through the model and
// back: about SUMS of them (a layer has eight, with its norms and its softmax, and there are at most two in the
// encoder, two in the pooler, the adapter and two in the LLM), of TERMS each on average (28 to 67 columns or vocabulary
// entries in the LLM, 6 to 12 columns and up to 24 tokens before it). Thus one standard deviation is sqrt(SUMS TERMS) u
// = 4e-6 of the terms; with three sets of OpenBLAS's routines (Haswell, Nehalem, Sandybridge) the largest difference
// found was 5e-6. Five deviations are allowed.
enum { SUMS = 112, TERMS = 40, DEVIATIONS = 5 };
static const double ROUNDING = 1.0 / (1 << 24);

static double sum_tolerance(void)
{
    return DEVIATIONS * sqrt((double)SUMS * TERMS) * ROUNDING;
}

static int failures = 0;

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("FAILED: ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    failures++;
}

static void must(lw_status status, const lw_error *err, const char *what)
{
    if (status != LW_OK) {
        printf("FAILED: %s: %s\n", what, err->text);
        exit(1);
    }
}

// --- samples: lengths all different, a source of one byte, an answer of one token

typedef struct fixture_sample {
    int32_t source[24];
    int32_t suffix[LLMS][MAX_TOKENS], answer[LLMS][MAX_TOKENS];
} fixture_sample;

static fixture_sample storage[SAMPLES];
static lw_token_sample samples[SAMPLES];
static int64_t tokens[LLMS];

// text: windows of text, both tasks among them.
static void make_samples(const int64_t *vocab, int64_t alphabet, bool text)
{
    static const char *const sources[SAMPLES] = {"a wire", "x", "b\xC3\xA9 \xF0\x9F\x98\x80!", "seventeen bytes..",
                                                 "aab"};
    static const int64_t suffix_counts[LLMS][SAMPLES] = {{2, 1, 4, 3, 1}, {1, 2, 3, 1, 5}};
    static const int64_t answer_counts[LLMS][SAMPLES] = {{3, 1, 2, 6, 4}, {2, 1, 5, 3, 1}};
    for (int64_t j = 0; j < LLMS; j++) {
        tokens[j] = 0;
    }
    for (int64_t i = 0; i < SAMPLES; i++) {
        fixture_sample *f = &storage[i];
        int64_t bytes = (int64_t)strlen(sources[i]);
        for (int64_t k = 0; k < bytes; k++) {
            f->source[k] = (unsigned char)sources[i][k] % (int32_t)alphabet;
        }
        lw_task task = !text ? LW_TASK_ANSWER : i % 2 == 0 ? LW_TASK_CONTINUE : LW_TASK_REPEAT;
        samples[i] = (lw_token_sample){.task = task, .source = {f->source, bytes}};
        for (int64_t j = 0; j < LLMS; j++) {
            for (int64_t t = 0; t < MAX_TOKENS; t++) {
                uint64_t at = (uint64_t)((i * LLMS + j) * MAX_TOKENS + t);
                f->suffix[j][t] = (int32_t)(lw_random_u64(1, 1, at) % (uint64_t)vocab[j]);
                f->answer[j][t] = (int32_t)(lw_random_u64(1, 2, at) % (uint64_t)vocab[j]);
            }
            // The teacher's states are given, so what it reads does not matter; one sample has nothing for it to read.
            samples[i].prompt[j] = (lw_tokens){f->suffix[j], i == 3 ? 0 : 1};
            samples[i].suffix[j] = (lw_tokens){f->suffix[j], text ? 0 : suffix_counts[j][i]};
            samples[i].answer[j] = (lw_tokens){f->answer[j], answer_counts[j][i]};
            tokens[j] += answer_counts[j][i];
        }
    }
}

// --- one configuration under test

typedef struct bench {
    const char *name;
    lw_device *dev;
    lw_decoder *decoders[LLMS];
    lw_backbone backbone; // what the encoder reads with
    const lw_hf_config *configs[LLMS];
    lw_config *config;
    bool drops; // latents are left out
    lw_wire wire;
    lw_arena wire_memory, step_memory;
    lw_step step;
    lw_step_spec spec;
    lw_step_loss loss;
    int64_t first_sample;    // of the micro-batch that runs
    double sum;              // the loss so far
    double gain_terms[LLMS]; // sum of |d_soft soft| / gain so far
    double *terms;           // (params.elements) what a gradient is the sum of, in absolute value, or NULL
} bench;

static double weight_of(const bench *b, int64_t j, int64_t t)
{
    double weight = 1.0;
    if (t == 0) {
        weight += b->loss.first_weight;
    }
    if (t < b->loss.k) {
        weight += b->loss.k_weight;
    }
    return weight / (double)tokens[j] / LLMS;
}

static double kl_weight_of(const bench *b, int64_t i, int64_t j, int64_t t)
{
    bool taught = t < b->loss.k && samples[i].prompt[j].count > 0;
    return taught ? b->loss.kd_weight * b->loss.kd_tau * b->loss.kd_tau / (double)tokens[j] / LLMS : 0.0;
}

// A teacher that never changes: numbers of the sample, the LLM and the position.
static lw_status give_states(void *context, int64_t llm, const lw_token_sample *sample, lw_error *err, void *out)
{
    const bench *b = context;
    int64_t rows = lw_step_taught(&b->loss, sample, llm);
    float *states = out;
    (void)err;
    for (int64_t k = 0; k < rows * b->configs[llm]->d; k++) {
        states[k] = (float)lw_random_normal(13, (uint64_t)(llm * SAMPLES + (sample - samples)), (uint64_t)k);
    }
    return LW_OK;
}

// The gradient of an adapter's gain is one number, summed over all elements of the soft tokens. These terms cancel
// within a sample: the norm that the LLM begins with takes no notice of a soft token's length, so a row of d_soft is
// almost orthogonal to its soft token.
static void add_gain_terms(bench *b, int64_t llm)
{
    const lw_adapter *a = &b->wire.adapters[llm];
    const lw_adapter_buffers *buffers = &b->step.adapters[llm];
    double gain = (double)*lw_param_at(&b->wire.params, a->gain);
    for (int64_t k = 0; k < b->step.batch.z_rows * a->d; k++) {
        b->gain_terms[llm] += fabs((double)buffers->d_soft[k] * (double)buffers->soft[k] / gain);
    }
}

// The loss of an LLM, from its logits before the step turns them into their gradient.
static void after_phase(void *context, lw_step_phase phase, int64_t llm)
{
    bench *b = context;
    if (phase == LW_PHASE_ADAPTER_BACKWARD) {
        add_gain_terms(b, llm);
    }
    if (phase != LW_PHASE_LLM_FORWARD) {
        return;
    }
    const lw_packing *p = &b->step.packing[llm];
    int64_t vocab = b->configs[llm]->vocab;
    lw_decoder_logits(b->decoders[llm], p, &b->step.llm[llm]); // the step will do the same again
    const float *z = b->step.llm[llm].logits;
    const float *teacher = z + p->supervised * vocab;
    int64_t row = 0;
    for (int64_t i = b->first_sample; row < p->supervised; i++) {
        for (int64_t t = 0; t < samples[i].answer[llm].count; t++, row++, z += vocab) {
            double kl_weight = kl_weight_of(b, i, llm, t);
            double nll = reference_log_sum_exp(z, vocab, 1.0) - (double)z[samples[i].answer[llm].ids[t]];
            b->sum += weight_of(b, llm, t) * nll;
            if (kl_weight > 0.0) {
                b->sum += kl_weight * reference_divergence(teacher, z, vocab, b->loss.kd_tau);
                teacher += vocab;
            }
        }
    }
}

static void lay_out_step(bench *b, int64_t micro)
{
    lw_error err;
    lw_step_limits limits;
    lw_arena arena = lw_arena_measure();
    lw_step_free(&b->step);
    lw_arena_free(b->dev, &b->step_memory);
    must(lw_step_limits_of(b->config, samples, SAMPLES, micro, 1, &err, &limits), &err, "limits");
    must(lw_step_layout(&arena, b->dev, &b->wire, b->configs, &limits, &err, &b->step), &err, "layout");
    must(lw_arena_alloc(b->dev, &arena, "step", &err, &b->step_memory), &err, "memory of the step");
    memset(b->step_memory.base, 0xFF, b->step_memory.size_bytes); // NaN: what is read must have been written
    arena = b->step_memory;
    must(lw_step_layout(&arena, b->dev, &b->wire, b->configs, &limits, &err, &b->step), &err, "layout");
    if (arena.overflow || arena.high_water_bytes != b->step_memory.size_bytes) {
        complain("%s: the second layout took %zu bytes (overflow %d), the measure %zu", b->name, arena.high_water_bytes,
                 arena.overflow, b->step_memory.size_bytes);
    }
    must(lw_step_start(&b->step, &b->wire, b->decoders, &err), &err, "start");
    b->spec = lw_step_spec_of(b->config);
    b->spec.loss = b->loss;
    b->spec.states = give_states;
    b->spec.states_context = b;
    b->drops = b->config->train.latent_dropout > 0.0 || b->config->train.nested_from > 0;
    b->spec.after = after_phase;
    b->spec.after_context = b;
}

// Shapes of what the encoder reads with, if with anything: an LLM of the job, or a BERT.
static void read_backbone(bench *b)
{
    lw_error err = {{0}};
    const lw_hf_config *llm = b->configs[READS];
    b->backbone = (lw_backbone){.ops = lw_reader_of(b->config->encoder.kind)->backbone, .first = 5, .last = -1};
    if (lw_config_encoder_share(b->config) >= 0) {
        b->backbone.shared = "two";
        b->backbone.shapes.llm = *llm;
        b->backbone.vocab = llm->vocab;
    } else if (b->backbone.ops != NULL) {
        b->backbone.last = 6;
        must(b->backbone.ops->read(bert_dir, &err, &b->backbone), &err, bert_dir);
    }
}

static void load_backbone(bench *b)
{
    lw_error err = {{0}};
    const lw_backbone_options options = {.max_tokens = 32};
    if (b->backbone.shared != NULL) {
        b->backbone.model = b->decoders[READS];
    } else if (b->backbone.ops != NULL) {
        must(b->backbone.ops->load(b->dev, bert_dir, b->wire.encoder.reader, &options, &err, &b->backbone), &err,
             bert_dir);
    }
    lw_encoder_attach(&b->wire.encoder, &b->backbone);
}

static void bench_open(bench *b, const char *name, const char *overrides_text, lw_step_loss loss)
{
    lw_error err = {{0}};
    static const char base[] = "models = ({name=\"one\"; path=\"a\";}, {name=\"two\"; path=\"b\";});\n"
                               "batch: { global = 5; };\n"
                               "adapter: { hidden = 6; };\n";
    char text[2048];
    int64_t d[LLMS];
    int64_t vocab[LLMS];
    *b = (bench){.name = name, .loss = loss};
    const char *wire = strstr(overrides_text, "wire:") == NULL ? "wire: { latents = 3; d_z = 8; };\n" : "";
    snprintf(text, sizeof text, "%s%s%s", base, wire, overrides_text);
    must(lw_config_parse(text, strlen(text), "test.cfg", 0, NULL, &err, &b->config), &err, name);
    b->config->loss.k = loss.k;
    b->config->loss.kd_weight = loss.kd_weight;
    b->config->loss.kd_tau = loss.kd_tau;
    must(lw_device_open("cpu", 0, 1, &err, &b->dev), &err, "device");
    for (int j = 0; j < LLMS; j++) {
        must(lw_decoder_load(b->dev, model_dirs[j], &(lw_decoder_options){.max_positions = 32}, &err, &b->decoders[j]),
             &err, model_dirs[j]);
        b->configs[j] = lw_decoder_config(b->decoders[j]);
        d[j] = b->configs[j]->d;
        vocab[j] = b->configs[j]->vocab;
    }
    read_backbone(b);
    must(lw_wire_declare(b->config, d, &b->backbone, &err, &b->wire), &err, "parameters");
    load_backbone(b);
    make_samples(vocab, b->wire.encoder.reader->alphabet, lw_config_reads_text(b->config));
    lw_arena arena = lw_arena_measure();
    lw_wire_layout(&arena, false, &b->wire);
    must(lw_arena_alloc(b->dev, &arena, "wire", &err, &b->wire_memory), &err, "memory of the wire");
    arena = b->wire_memory;
    lw_wire_layout(&arena, false, &b->wire);
    for (int j = 0; j < LLMS; j++) {
        lw_wire_set_embedding_rms(&b->wire, j, lw_decoder_embedding_rms(b->decoders[j]));
    }
    must(lw_wire_init(b->dev, &b->wire, 3, &err), &err, "initial values");
    // Away from the initial values, where gains are 1 and biases 0 and mistakes could hide.
    for (int64_t i = 0; i < b->wire.params.count; i++) {
        const lw_param *p = &b->wire.params.list[i];
        for (int64_t k = 0; k < p->elements; k++) {
            b->wire.params.param[p->offset + k] += (float)(0.1 * lw_random_normal(5, (uint64_t)i, (uint64_t)k));
        }
    }
}

static void bench_close(bench *b)
{
    lw_step_free(&b->step);
    lw_wire_free(&b->wire);
    lw_arena_free(b->dev, &b->step_memory);
    lw_arena_free(b->dev, &b->wire_memory);
    for (int j = 0; j < LLMS; j++) {
        lw_decoder_destroy(&b->decoders[j]);
    }
    if (b->backbone.ops != NULL && b->backbone.shared == NULL) {
        b->backbone.ops->destroy(b->backbone.model);
    }
    lw_config_destroy(&b->config);
    lw_device_close(&b->dev);
}

static void zero_gradients(bench *b)
{
    b->dev->ops->zero(b->dev, (size_t)b->wire.reduce_elements * sizeof(float), b->wire.params.grad);
}

// A micro-batch of n samples; gradients are added.
static void run_some(bench *b, int64_t first, int64_t n)
{
    lw_error err;
    const lw_token_sample *batch[SAMPLES];
    int64_t positions[SAMPLES];
    for (int64_t i = 0; i < n; i++) {
        batch[i] = &samples[first + i];
        positions[i] = first + i;
    }
    b->first_sample = first;
    b->spec.positions = b->drops ? positions : NULL;
    must(lw_step_run(&b->step, &b->spec, batch, n, tokens, &err), &err, "step");
    must(b->dev->ops->sync(b->dev, &err), &err, "sync");
}

// Loss of all samples in micro-batches; gradients are added.
static double run(bench *b, int64_t micro)
{
    b->sum = 0.0;
    for (int64_t first = 0; first < SAMPLES; first += micro) {
        run_some(b, first, SAMPLES - first < micro ? SAMPLES - first : micro);
    }
    return b->sum;
}

// --- finite differences

typedef struct line { // through parameter space
    bench *b;
    const lw_param *p;
    const float *centre;
    const double *u;
} line;

static double loss_at(void *context, double h)
{
    const line *l = context;
    bench *b = l->b;
    const lw_param *p = l->p;
    float *x = b->wire.params.param + p->offset;
    for (int64_t k = 0; k < p->elements; k++) {
        x[k] = (float)((double)l->centre[k] + h * l->u[k]);
    }
    double loss = run(b, SAMPLES);
    memcpy(x, l->centre, (size_t)p->elements * sizeof *x);
    return loss;
}

// Rows of the embedding whose byte does not occur have no gradient: directions stay in the others, for in 256 rows a
// random one would hardly touch them.
static bool occurs(int64_t byte)
{
    for (int64_t i = 0; i < SAMPLES; i++) {
        for (int64_t k = 0; k < samples[i].source.count; k++) {
            if (samples[i].source.ids[k] == byte) {
                return true;
            }
        }
    }
    return false;
}

static double check_tensor(bench *b, int64_t index, const float *grad)
{
    const lw_param *p = &b->wire.params.list[index];
    const float *g = grad + p->offset;
    size_t n = (size_t)p->elements;
    float *centre = malloc(n * sizeof *centre);
    double *u = malloc(n * sizeof *u);
    double worst = 0.0;
    double norm = 0.0;
    double terms = 0.0;
    bool embedding = strcmp(p->name, "encoder.embedding") == 0;
    if (centre == NULL || u == NULL) {
        printf("FAILED: no memory\n");
        exit(1);
    }
    memcpy(centre, b->wire.params.param + p->offset, n * sizeof *centre);
    for (size_t k = 0; k < n; k++) {
        norm += (double)g[k] * (double)g[k];
        terms += b->terms[p->offset + (int64_t)k] * b->terms[p->offset + (int64_t)k];
        if (embedding && g[k] != 0.0F && !occurs((int64_t)k / p->dims[1])) {
            complain("%s: %s has a gradient at a byte that does not occur", b->name, p->name);
            break;
        }
    }
    norm = sqrt(norm);
    double allowed = FD_TOLERANCE + sum_tolerance() * sqrt(terms) / norm;
    if (!(norm > 1e-6)) {
        complain("%s: the gradient of %s has norm %g: this case does not test it", b->name, p->name, norm);
    }
    for (int which = 0; which < DIRECTIONS; which++) {
        choose_direction(g, p->elements, which, (uint64_t)(index * DIRECTIONS + which), u);
        for (size_t k = 0; embedding && k < n; k++) {
            u[k] = occurs((int64_t)k / p->dims[1]) ? u[k] : 0.0;
        }
        double analytic = 0.0;
        for (size_t k = 0; k < n; k++) {
            analytic += (double)g[k] * u[k];
        }
        double uncertainty;
        double numeric = derivative(loss_at, &(line){b, p, centre, u}, &uncertainty);
        double error = fabs(numeric - analytic) / norm;
        worst = error > worst ? error : worst;
        if (!(error <= allowed)) {
            complain("%s: %s, direction %d: g.u = %.9g, finite differences %.9g (+- %.2g): off by %.3g of |g| = %.4g",
                     b->name, p->name, which, analytic, numeric, uncertainty, error, norm);
        }
    }
    free(centre);
    free(u);
    return worst;
}

// The terms of every gradient: those of each sample alone, and of the gains what add_gain_terms has found.
static void collect_terms(bench *b)
{
    const lw_params *p = &b->wire.params;
    b->terms = calloc((size_t)p->elements, sizeof *b->terms);
    if (b->terms == NULL) {
        printf("FAILED: no memory\n");
        exit(1);
    }
    lay_out_step(b, 1);
    memset(b->gain_terms, 0, sizeof b->gain_terms);
    for (int64_t i = 0; i < SAMPLES; i++) {
        zero_gradients(b);
        run_some(b, i, 1);
        for (int64_t k = 0; k < p->elements; k++) {
            b->terms[k] += fabs((double)p->grad[k]);
        }
    }
    for (int64_t j = 0; j < LLMS; j++) {
        b->terms[p->list[b->wire.adapters[j].gain].offset] = b->gain_terms[j];
    }
}

// |a - scale b| as part of |scale terms|.
static double difference_of(const float *a, const float *b, const double *terms, double scale, int64_t n)
{
    double apart = 0.0;
    double norm = 0.0;
    for (int64_t k = 0; k < n; k++) {
        double x = (double)a[k] - scale * (double)b[k];
        apart += x * x;
        norm += scale * terms[k] * scale * terms[k];
    }
    return sqrt(apart / norm);
}

// Gradients and losses of micro-batches against those of the whole batch, tensor by tensor. Returns the largest
// difference of a gradient, as part of its terms.
static double check_sums(bench *b, const float *whole, double loss, double times, int64_t micro)
{
    const lw_params *p = &b->wire.params;
    double worst = 0.0;
    for (int64_t i = 0; i < p->count; i++) {
        int64_t at = p->list[i].offset;
        double apart = difference_of(p->grad + at, whole + at, b->terms + at, times, p->list[i].elements);
        worst = apart > worst ? apart : worst;
        if (!(apart <= sum_tolerance())) {
            complain(
                "%s: gradient of %s in micro-batches of %lld is apart from %g times the whole by %.3g of its terms",
                b->name, p->list[i].name, (long long)micro, times, apart);
        }
    }
    double stats = 0.0;
    for (int64_t j = 0; j < LLMS; j++) {
        stats += (double)b->wire.stats[LW_STAT_LOSS + j];
        stats += b->loss.kd_tau * b->loss.kd_tau * (double)b->wire.stats[LW_STAT_KL + j];
    }
    if (!(fabs(stats - times * loss) <= sum_tolerance() * times * loss)) { // a sum of positive terms
        complain("%s: micro-batches of %lld report a loss of %.9g, expected %.9g", b->name, (long long)micro, stats,
                 times * loss);
    }
    return worst;
}

static void check_case(const char *name, const char *config, lw_step_loss loss)
{
    bench b;
    bench_open(&b, name, config, loss);
    collect_terms(&b);
    lay_out_step(&b, SAMPLES);
    zero_gradients(&b);
    double whole = run(&b, SAMPLES);
    size_t bytes = (size_t)b.wire.params.elements * sizeof(float);
    float *grad = malloc(bytes);
    if (grad == NULL) {
        printf("FAILED: no memory\n");
        exit(1);
    }
    memcpy(grad, b.wire.params.grad, bytes);
    check_sums(&b, grad, whole, 1.0, SAMPLES);
    run(&b, SAMPLES);
    check_sums(&b, grad, whole, 2.0, SAMPLES);

    double worst = 0.0;
    for (int64_t i = 0; i < b.wire.params.count; i++) {
        double error = check_tensor(&b, i, grad);
        worst = error > worst ? error : worst;
    }
    double apart = 0.0;
    for (int64_t micro = 1; micro <= SAMPLES; micro++) {
        lay_out_step(&b, micro);
        zero_gradients(&b);
        run(&b, micro);
        double sums = check_sums(&b, grad, whole, 1.0, micro);
        apart = sums > apart ? sums : apart;
    }
    printf(
        "%-44s loss %.6f, %lld tensors, worst error %.2g of the gradient's norm, sums apart by %.2g of their terms\n",
        name, whole, (long long)b.wire.params.count, worst, apart);
    free(grad);
    free(b.terms);
    bench_close(&b);
}

// --- which latents a sample has: a bit each, as the LLMs' packings have them

enum { POSITIONS = 2000, LATENTS = 7 };

static uint32_t latents_of(const bench *b, int64_t llm, int64_t i)
{
    const lw_packing *p = &b->step.packing[llm];
    uint32_t set = 0;
    for (int64_t k = 0; k < p->prefix_rows; k++) {
        if (p->at.prefix_row[k] >= p->at.start[i] && p->at.prefix_row[k] < p->at.start[i + 1]) {
            set |= 1U << (p->at.prefix_source[k] - b->step.batch.at.z_start[i]);
        }
    }
    return set;
}

// Of every position, in micro-batches that begin with the first or, reversed, with the last positions.
static void draw_latents(bench *b, bool reversed, uint32_t *sets)
{
    lw_error err;
    for (int64_t first = 0; first < POSITIONS; first += SAMPLES) {
        const lw_token_sample *batch[SAMPLES];
        int64_t positions[SAMPLES];
        for (int64_t i = 0; i < SAMPLES; i++) {
            batch[i] = &samples[i];
            positions[i] = reversed ? POSITIONS - 1 - first - i : first + i;
        }
        b->spec.positions = positions;
        must(lw_step_run(&b->step, &b->spec, batch, SAMPLES, tokens, &err), &err, "step");
        for (int64_t i = 0; i < SAMPLES; i++) {
            sets[positions[i]] = latents_of(b, 0, i);
            if (latents_of(b, 1, i) != sets[positions[i]]) {
                complain("%s: the LLMs have other latents at position %lld", b->name, (long long)positions[i]);
            }
        }
    }
}

// Whether `count` of POSITIONS is what happens with this probability: within 4.5 standard deviations.
static void check_rate(const char *name, const char *what, int64_t at, int64_t count, double probability)
{
    double apart = fabs((double)count - POSITIONS * probability) / sqrt(POSITIONS * probability * (1.0 - probability));
    if (!(apart < 4.5)) {
        complain("%s: %s %lld %lld times of %d, expected %.3f of them: %.1f deviations", name, what, (long long)at,
                 (long long)count, (int)POSITIONS, probability, apart);
    }
}

// from 0: no nesting; else the first so many latents, twice that, ..., or all, each as often.
static void check_latents(const char *name, int64_t from, double dropout)
{
    bench b;
    char config[512];
    static uint32_t sets[POSITIONS];
    static uint32_t again[POSITIONS];
    int64_t has[LATENTS] = {0};
    int64_t prefix[LATENTS + 1] = {0};
    bool choice[LATENTS + 1] = {[LATENTS] = true};
    int64_t choices = 1;
    for (int64_t n = from; n > 0 && n < LATENTS; n *= 2) {
        choice[n] = true;
        choices++;
    }
    snprintf(config, sizeof config,
             "wire: { latents = %d; d_z = 8; }; train: { nested_from = %lld; latent_dropout = %.6f; };"
             "encoder: { layers = 0; width = 12; heads = 2; ffn = 10; }; pooler: { layers = 1; heads = 2; ffn = 7; };",
             (int)LATENTS, (long long)from, dropout);
    bench_open(&b, name, config, (lw_step_loss){0});
    lay_out_step(&b, SAMPLES);
    b.spec.after = NULL;
    b.spec.seed = 11;
    draw_latents(&b, false, sets);
    draw_latents(&b, true, again);
    for (int64_t i = 0; i < POSITIONS; i++) {
        int64_t count = __builtin_popcount(sets[i]);
        if (sets[i] == 0 || sets[i] != again[i]) {
            complain("%s: position %lld has the latents %x, and %x in another micro-batch", name, (long long)i, sets[i],
                     again[i]);
        }
        if (dropout == 0.0 && sets[i] != (1U << count) - 1) {
            complain("%s: position %lld has the latents %x, not the first ones", name, (long long)i, sets[i]);
        }
        prefix[count]++;
        for (int64_t k = 0; k < LATENTS; k++) {
            has[k] += sets[i] >> k & 1;
        }
    }
    for (int64_t n = 0; n <= LATENTS && dropout == 0.0; n++) {
        if (choice[n]) {
            check_rate(name, "latents:", n, prefix[n], 1.0 / (double)choices);
        } else if (prefix[n] > 0) {
            complain("%s: %lld positions have %lld latents", name, (long long)prefix[n], (long long)n);
        }
    }
    for (int64_t k = 0; k < LATENTS && from == 0; k++) { // one of them, whichever it is, is kept in any case
        check_rate(name, "latent", k, has[k], 1.0 - dropout * (1.0 - 1.0 / LATENTS));
    }
    printf("%-44s %d positions\n", name, (int)POSITIONS);
    bench_close(&b);
}

int main(void)
{
    const lw_step_loss plain = {0};
    check_latents("nested: 2, 4 or 7 latents", 2, 0.0);
    check_latents("nested: 1, 2, 4 or 7 latents", 1, 0.0);
    check_latents("dropout of 0.3", 0, 0.3);
    check_latents("dropout of 0.95", 0, 0.95);
    check_latents("nested with dropout of 0.9: never none", 2, 0.9);
    check_case(
        "queries, 0 encoder layers",
        "encoder: { layers = 0; width = 12; heads = 2; ffn = 10; }; pooler: { layers = 1; heads = 2; ffn = 7; };",
        plain);
    check_case(
        "queries x 2, 1 encoder layer, first_weight",
        "encoder: { layers = 1; width = 12; heads = 3; ffn = 10; }; pooler: { layers = 2; heads = 4; ffn = 7; };",
        (lw_step_loss){.first_weight = 1.5});
    check_case("queries, 2 encoder layers, k_weight",
               "encoder: { layers = 2; width = 8; heads = 4; ffn = 10; }; pooler: { layers = 1; heads = 1; ffn = 7; };",
               (lw_step_loss){.k_weight = 0.75, .k = 2});
    check_case("mean, 0 encoder layers, all weights",
               "encoder: { layers = 0; width = 12; heads = 2; ffn = 10; }; pooler: { kind = \"mean\"; };",
               (lw_step_loss){.first_weight = 1.0, .k_weight = 0.5, .k = 3});
    check_case("mean, 2 encoder layers",
               "encoder: { layers = 2; width = 12; heads = 2; ffn = 10; }; pooler: { kind = \"mean\"; };", plain);
    check_case("mean, a latent for every 3 bytes",
               "encoder: { layers = 1; width = 12; heads = 2; ffn = 10; }; pooler: { kind = \"mean\"; }; "
               "wire: { ratio = 3; d_z = 8; };",
               plain);
    check_case(
        "distillation, tau 2, k 2",
        "encoder: { layers = 1; width = 12; heads = 2; ffn = 10; }; pooler: { layers = 1; heads = 2; ffn = 7; };",
        (lw_step_loss){.k = 2, .kd_weight = 0.8, .kd_tau = 2.0});
    check_case("distillation, tau 0.7, all positions, all weights",
               "encoder: { layers = 0; width = 12; heads = 2; ffn = 10; }; pooler: { kind = \"mean\"; };",
               (lw_step_loss){.first_weight = 1.0, .k_weight = 0.5, .k = 9, .kd_weight = 0.6, .kd_tau = 0.7});
    check_case(
        "windows of text, a token per task",
        "data: { format = \"text\"; };"
        "encoder: { layers = 0; width = 12; heads = 2; ffn = 10; }; pooler: { layers = 1; heads = 2; ffn = 7; };",
        (lw_step_loss){.first_weight = 0.5, .k_weight = 0.5, .k = 3});
    check_case("windows of text, a latent for every 3 bytes",
               "data: { format = \"text\"; };"
               "encoder: { layers = 0; width = 12; heads = 2; ffn = 10; }; pooler: { kind = \"mean\"; }; "
               "wire: { ratio = 3; d_z = 8; };",
               (lw_step_loss){.first_weight = 1.0});
    check_case("latents left out",
               "train: { latent_dropout = 0.4; }; pooler: { layers = 1; heads = 2; ffn = 7; };"
               "encoder: { layers = 0; width = 12; heads = 2; ffn = 10; };",
               plain);
    check_case(
        "windows of text, nested latents",
        "data: { format = \"text\"; }; train: { nested_from = 1; latent_dropout = 0.2; };"
        "encoder: { layers = 0; width = 12; heads = 2; ffn = 10; }; pooler: { layers = 1; heads = 2; ffn = 7; };",
        plain);
    // The second LLM reads for the encoder too, longer texts in several windows.
    check_case(
        "llm with updates, bidirectional, windows, mean",
        "encoder: { kind = \"llm\"; share = \"two\"; causal = false; window = 8; lora_rank = 2; lora_alpha = 3.0; "
        "}; pooler: { kind = \"mean\"; };",
        plain);
    check_case("llm with updates, causal, 1 layer, queries",
               "encoder: { kind = \"llm\"; share = \"two\"; layers = 1; lora_rank = 1; }; "
               "pooler: { layers = 1; heads = 4; ffn = 9; };",
               (lw_step_loss){.k_weight = 0.75, .k = 2});
    check_case("llm as it is, ratio 2",
               "encoder: { kind = \"llm\"; share = \"two\"; }; pooler: { kind = \"mean\"; };"
               "wire: { ratio = 2; d_z = 8; };",
               plain);
    check_case("bert, windows, queries",
               "encoder: { kind = \"bert\"; path = \"x\"; window = 8; }; pooler: { layers = 1; heads = 4; ffn = 9; };",
               plain);
    check_case("bert, 2 layers, ratio 2",
               "encoder: { kind = \"bert\"; path = \"x\"; layers = 2; }; pooler: { kind = \"mean\"; };"
               "wire: { ratio = 2; d_z = 8; };",
               (lw_step_loss){.first_weight = 1.0});
    return failures > 0;
}
