// teacher: a step with states from the disk against a teacher that is not cached, and what is made when.
//
// The teacher without a cache is a pass of one sample alone, text prompt and whole answer, whose logits come from
// lm_head at once; what the step should then give is computed from these and its own logits in double.
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/sample.h"
#include "divergence.h"
#include "scratch.h"
#include "train/teacher.h"
#include "wire/step.h"

enum { SAMPLES = 37, MICRO = 5, K = 3, MAX_PATH = 4096 };

// The target of the cache; both sides are f32.
static const double TOLERANCE = 1e-5;

static int failures;

static void check(bool good, int line, const char *what)
{
    if (!good) {
        fprintf(stderr, "line %d: %s\n", line, what);
        failures++;
    }
}

#define CHECK(expression) check((expression), __LINE__, #expression)

static void must(lw_status status, const lw_error *err, const char *what)
{
    if (status != LW_OK) {
        fprintf(stderr, "%s: %s\n", what, err->text);
        exit(1);
    }
}

static lw_error err;

// --- a job, its teacher, and a step

typedef struct bench {
    char dir[MAX_PATH]; // of rank 0, for all
    lw_job job;
    lw_teacher *teacher;
    lw_arena teacher_memory, step_memory;
    lw_step step;
    lw_step_spec spec;
    float *reference[LW_MAX_MODELS]; // (SAMPLES, K, vocab) logits of the teacher that is not cached
    const lw_token_sample *batch[MICRO];
    int64_t count;                                 // of the batch
    double loss[LW_MAX_MODELS], kl[LW_MAX_MODELS]; // of the batch as they should be; kl: the mean's sum
} bench;

static void open_job(bench *b, const char *k, const char *tau)
{
    char run_dir[MAX_PATH + 16];
    char k_text[32];
    char tau_text[32];
    snprintf(run_dir, sizeof run_dir, "run.dir=%s", b->dir);
    snprintf(k_text, sizeof k_text, "loss.k=%s", k);
    snprintf(tau_text, sizeof tau_text, "loss.kd_tau=%s", tau);
    const char *const overrides[] = {run_dir,
                                     k_text,
                                     tau_text,
                                     "loss.kd_weight=0.7",
                                     "loss.first_weight=0.5",
                                     "device=cpu",
                                     "threads=1",
                                     "data.samples=37",
                                     "batch.global=37",
                                     "wire.latents=4",
                                     "wire.d_z=16",
                                     "encoder.layers=0",
                                     "pooler.heads=2"};
    must(lw_config_load("configs/tiny.cfg", sizeof overrides / sizeof overrides[0], overrides, &err, &b->job.config),
         &err, "configuration");
    must(lw_job_open(&b->job, LW_JOB_TRAIN, &err), &err, "job");
    CHECK(b->job.train[0].count == SAMPLES);
}

static void open_teacher(bench *b)
{
    lw_arena arena = lw_arena_measure();
    must(lw_teacher_create(&b->job, b->job.config, b->job.train[0].samples, b->job.train[0].count, &err, &b->teacher),
         &err, "teacher");
    must(lw_teacher_buffers_layout(&arena, b->teacher, &err), &err, "layout");
    must(lw_arena_alloc(b->job.dev, &arena, "teacher", &err, &b->teacher_memory), &err, "memory");
    memset(b->teacher_memory.base, 0xFF, b->teacher_memory.size_bytes);
    arena = b->teacher_memory;
    must(lw_teacher_buffers_layout(&arena, b->teacher, &err), &err, "layout");
    must(lw_teacher_run(b->teacher, &err), &err, "states");
}

static void close_teacher(bench *b)
{
    lw_teacher_destroy(&b->teacher);
    lw_arena_free(b->job.dev, &b->teacher_memory);
}

static void close_job(bench *b)
{
    lw_comm *comm = b->job.comm;
    lw_job_close(&b->job);
    b->job.comm = comm;
}

// --- the teacher that is not cached

static void reference_logits(bench *b, int64_t j, int64_t i, float *out)
{
    const lw_llm *m = &b->job.llms[j];
    const lw_token_sample *s = &b->job.train[0].samples[i];
    lw_device *dev = b->job.dev;
    int64_t rows = s->prompt[j].count + s->answer[j].count;
    const lw_pass_limits limits = {.sequences = 1, .rows = rows, .supervised = K, .max_len = rows};
    lw_arena arena = lw_arena_measure();
    lw_arena memory;
    lw_decoder_buffers buffers = {0};
    lw_packing p;
    must(lw_decoder_pass_layout(&arena, dev, &m->config, NULL, &(lw_decoder_pass){.mode = LW_PASS_INFER}, &limits, &err,
                                &buffers),
         &err, "layout");
    void *indices = lw_arena_take(&arena, (int64_t)lw_packing_device_bytes(&limits), 1);
    must(lw_arena_alloc(dev, &arena, "reference", &err, &memory), &err, "memory");
    arena = memory;
    lw_decoder_buffers_free(&buffers);
    must(lw_decoder_pass_layout(&arena, dev, &m->config, NULL, &(lw_decoder_pass){.mode = LW_PASS_INFER}, &limits, &err,
                                &buffers),
         &err, "layout");
    indices = lw_arena_take(&arena, (int64_t)lw_packing_device_bytes(&limits), 1);
    must(lw_packing_create(&limits, indices, &err, &p), &err, "packing");
    lw_packing_add(&p, 0, 0, s->prompt[j].ids, s->prompt[j].count, 0);
    lw_packing_extend(&p, s->answer[j].ids, s->answer[j].count);
    for (int64_t t = 0; t < K && t < s->answer[j].count; t++) {
        CHECK(lw_packing_score(&p, s->prompt[j].count - 1 + t, s->answer[j].ids[t], 0.0F));
    }
    lw_packing_upload(&p, dev);
    lw_decoder_forward(m->decoder, &p, NULL, NULL, &buffers);
    lw_decoder_logits(m->decoder, &p, &buffers);
    must(dev->ops->sync(dev, &err), &err, "reference");
    memcpy(out, buffers.logits, (size_t)(p.supervised * m->config.vocab) * sizeof *out);
    lw_packing_free(&p);
    lw_decoder_buffers_free(&buffers);
    lw_arena_free(dev, &memory);
}

static void make_reference(bench *b)
{
    for (int64_t j = 0; j < b->job.llm_count; j++) {
        int64_t sample = K * b->job.llms[j].config.vocab;
        b->reference[j] = calloc((size_t)(SAMPLES * sample), sizeof(float));
        for (int64_t i = 0; b->reference[j] != NULL && i < SAMPLES; i++) {
            reference_logits(b, j, i, b->reference[j] + i * sample);
        }
    }
}

static double norm_apart(const float *a, const float *b, int64_t n)
{
    double apart = 0.0;
    double norm = 0.0;
    for (int64_t v = 0; v < n; v++) {
        apart += ((double)a[v] - (double)b[v]) * ((double)a[v] - (double)b[v]);
        norm += (double)b[v] * (double)b[v];
    }
    return sqrt(apart / norm);
}

// What the step of these logits should give, and the cached logits against those of the other teacher.
static void after_phase(void *context, lw_step_phase phase, int64_t j)
{
    bench *b = context;
    const lw_config *c = b->job.config;
    if (phase != LW_PHASE_LLM_FORWARD) {
        return;
    }
    const lw_packing *p = &b->step.packing[j];
    int64_t vocab = b->job.llms[j].config.vocab;
    lw_decoder_logits(b->job.llms[j].decoder, p, &b->step.llm[j]); // the step will do the same again
    const float *z = b->step.llm[j].logits;
    const float *cached = z + p->supervised * vocab;
    for (int64_t i = 0; i < b->count; i++) {
        const lw_token_sample *s = b->batch[i];
        const float *teacher = b->reference[j] + (s - b->job.train[0].samples) * K * vocab;
        for (int64_t t = 0; t < s->answer[j].count; t++, z += vocab) {
            double nll = reference_log_sum_exp(z, vocab, 1.0) - (double)z[s->answer[j].ids[t]];
            b->loss[j] += (1.0 + (t == 0 ? c->loss.first_weight : 0.0)) * nll;
            if (t < c->loss.k) {
                CHECK(norm_apart(cached, teacher + t * vocab, vocab) <= TOLERANCE);
                double kl = reference_divergence(teacher + t * vocab, z, vocab, c->loss.kd_tau);
                b->kl[j] += kl;
                b->loss[j] += c->loss.kd_weight * c->loss.kd_tau * c->loss.kd_tau * kl;
                cached += vocab;
            }
        }
    }
}

// --- the step

// The teacher that is not cached, as a source of states: a pass of one sample alone. Its logits are compared above;
// here it serves the gradient.
static lw_status alone(void *context, int64_t j, const lw_token_sample *s, lw_error *e, void *out)
{
    bench *b = context;
    const lw_llm *m = &b->job.llms[j];
    int64_t taught = K < s->answer[j].count ? K : s->answer[j].count;
    int64_t rows = s->prompt[j].count + s->answer[j].count;
    const lw_pass_limits limits = {.sequences = 1, .rows = rows, .supervised = K, .max_len = rows};
    lw_arena arena = lw_arena_measure();
    lw_arena memory;
    lw_decoder_buffers buffers = {0};
    void *indices;
    lw_packing p;
    (void)e;
    must(lw_teacher_pass_layout(&arena, b->job.dev, &m->config, &limits, &err, &indices, &buffers), &err, "layout");
    must(lw_arena_alloc(b->job.dev, &arena, "one sample", &err, &memory), &err, "memory");
    arena = memory;
    lw_decoder_buffers_free(&buffers);
    must(lw_teacher_pass_layout(&arena, b->job.dev, &m->config, &limits, &err, &indices, &buffers), &err, "layout");
    must(lw_packing_create(&limits, indices, &err, &p), &err, "packing");
    lw_packing_add(&p, 0, 0, s->prompt[j].ids, s->prompt[j].count, 0);
    lw_packing_extend(&p, s->answer[j].ids, s->answer[j].count);
    for (int64_t t = 0; t < taught; t++) {
        lw_packing_score(&p, s->prompt[j].count - 1 + t, 0, 0.0F);
    }
    lw_packing_upload(&p, b->job.dev);
    lw_decoder_forward(m->decoder, &p, NULL, NULL, &buffers);
    lw_decoder_hidden(m->decoder, &p, &buffers);
    memcpy(out, buffers.hidden, (size_t)(taught * m->config.d) * sizeof(float));
    lw_packing_free(&p);
    lw_decoder_buffers_free(&buffers);
    lw_arena_free(b->job.dev, &memory);
    return LW_OK;
}

static void open_step(bench *b)
{
    const lw_hf_config *configs[LW_MAX_MODELS];
    lw_decoder *decoders[LW_MAX_MODELS];
    lw_step_limits limits;
    lw_arena arena = lw_arena_measure();
    lw_job *job = &b->job;
    for (int64_t j = 0; j < job->llm_count; j++) {
        configs[j] = &job->llms[j].config;
        decoders[j] = job->llms[j].decoder;
    }
    must(lw_step_limits_of(job->config, job->train[0].samples, SAMPLES, MICRO, 1, &err, &limits), &err, "limits");
    must(lw_step_layout(&arena, job->dev, &job->wire, configs, &limits, &err, &b->step), &err, "layout");
    must(lw_arena_alloc(job->dev, &arena, "step", &err, &b->step_memory), &err, "memory");
    memset(b->step_memory.base, 0xFF, b->step_memory.size_bytes);
    arena = b->step_memory;
    must(lw_step_layout(&arena, job->dev, &job->wire, configs, &limits, &err, &b->step), &err, "layout");
    must(lw_step_start(&b->step, &job->wire, decoders, &err), &err, "start");
}

static void run_step(bench *b, const int64_t *tokens)
{
    lw_device *dev = b->job.dev;
    lw_wire *wire = &b->job.wire;
    dev->ops->zero(dev, (size_t)wire->reduce_elements * sizeof(float), wire->params.grad);
    for (int64_t first = 0; first < SAMPLES; first += MICRO) {
        b->count = SAMPLES - first < MICRO ? SAMPLES - first : MICRO;
        for (int64_t i = 0; i < b->count; i++) {
            b->batch[i] = &b->job.train[0].samples[first + i];
        }
        must(lw_step_run(&b->step, &b->spec, b->batch, b->count, tokens, &err), &err, "step");
    }
    must(dev->ops->sync(dev, &err), &err, "sync");
}

static bool close_to(double a, double b)
{
    return fabs(a - b) <= TOLERANCE * fabs(b);
}

// Losses and gradient of all samples, with the states of the disk, against those without.
static void compare(bench *b)
{
    lw_wire *wire = &b->job.wire;
    double llms = (double)b->job.llm_count;
    double tau = b->job.config->loss.kd_tau;
    int64_t tokens[LW_MAX_MODELS] = {0};
    for (int64_t j = 0; j < b->job.llm_count; j++) {
        for (int64_t i = 0; i < SAMPLES; i++) {
            tokens[j] += b->job.train[0].samples[i].answer[j].count;
        }
    }
    b->spec = lw_step_spec_of(b->job.config);
    b->spec.states = lw_teacher_states;
    b->spec.states_context = b->teacher;
    b->spec.after = after_phase;
    b->spec.after_context = b;
    run_step(b, tokens);
    for (int64_t j = 0; j < b->job.llm_count; j++) {
        double scale = 1.0 / ((double)tokens[j] * llms);
        double kl = (double)wire->stats[LW_STAT_KL + j];
        double loss = (double)wire->stats[LW_STAT_LOSS + j] + tau * tau * kl;
        CHECK(b->kl[j] > 0.1); // there is something to compare
        CHECK(close_to(kl, b->job.config->loss.kd_weight * scale * b->kl[j]));
        CHECK(close_to(loss, scale * b->loss[j]));
    }
    size_t bytes = (size_t)wire->params.elements * sizeof(float);
    float *cached = malloc(bytes);
    if (cached != NULL) {
        memcpy(cached, wire->params.grad, bytes);
        b->spec.after = NULL;
        b->spec.states = alone;
        b->spec.states_context = b;
        run_step(b, tokens);
        CHECK(norm_apart(cached, wire->params.grad, wire->params.elements) <= TOLERANCE);
    }
    free(cached);
}

// --- what is made

static int64_t made_by_another(bench *b)
{
    open_teacher(b);
    int64_t made = lw_teacher_figures_of(b->teacher).made;
    close_teacher(b);
    return made;
}

// The file of states that was made first, on rank 0; "" elsewhere.
static void find_file(const bench *b, char *path, size_t size)
{
    char command[MAX_PATH + 64];
    path[0] = '\0';
    if (b->job.rank == 0) {
        snprintf(command, sizeof command, "ls %s/cache/teacher-*.bin", b->dir);
        FILE *list = popen(command, "r");
        if (list == NULL || fgets(path, (int)size, list) == NULL) {
            path[0] = '\0';
        }
        if (list != NULL) {
            pclose(list);
        }
        path[strcspn(path, "\n")] = '\0';
        CHECK(path[0] != '\0');
    }
}

// Turns a byte in the middle: rows, or a chunk's head, or hashes, or nothing that matters (padding).
static void damage(const char *path, off_t at)
{
    unsigned char byte = 0;
    int fd = path[0] != '\0' ? open(path, O_RDWR) : -1;
    if (fd >= 0) {
        CHECK(pread(fd, &byte, 1, at) == 1);
        byte ^= 0x40;
        CHECK(pwrite(fd, &byte, 1, at) == 1);
        close(fd);
    }
}

static void test_what_is_made(bench *b)
{
    enum { PAGE = 4096, HEAD = 32 };
    char path[MAX_PATH];
    find_file(b, path, sizeof path);
    CHECK(made_by_another(b) == 0);
    damage(path, PAGE + HEAD + 8 + 5); // a row of chunk 0, whose one hash lies before it
    CHECK(made_by_another(b) == 1);
    damage(path, PAGE + HEAD + 3); // its hash
    CHECK(made_by_another(b) == 1);
    damage(path, PAGE + 9); // its head
    CHECK(made_by_another(b) == 1);
    damage(path, 70); // the header
    CHECK(made_by_another(b) == SAMPLES);
    if (path[0] != '\0') {
        CHECK(truncate(path, 3 * PAGE) == 0);
    }
    CHECK(made_by_another(b) == SAMPLES);
    if (path[0] != '\0') {
        CHECK(chmod(path, 0666) == 0); // anybody may have written it
    }
    CHECK(made_by_another(b) == SAMPLES);
    CHECK(made_by_another(b) == 0);
}

// A step that reads what was damaged under it says so.
static void test_damage_while_running(bench *b)
{
    enum { PAGE = 4096, HEAD = 32 };
    char path[MAX_PATH];
    float rows[K * 1024];
    lw_error said = {.text = ""};
    open_teacher(b);
    find_file(b, path, sizeof path);
    damage(path, PAGE + HEAD + 8 + 5);
    if (b->job.rank == 0) {
        lw_status one = lw_teacher_states(b->teacher, 0, &b->job.train[0].samples[0], &said, rows);
        lw_status two = lw_teacher_states(b->teacher, 1, &b->job.train[0].samples[0], &said, rows);
        CHECK((one == LW_ERR_FORMAT) != (two == LW_ERR_FORMAT)); // one of the two files
        CHECK(strstr(said.text, "start again") != NULL);
    }
    close_teacher(b);
    CHECK(made_by_another(b) == 1);
}

int main(void)
{
    static bench b;
    if (lw_comm_create(&(lw_comm_options){.timeout_s = 60.0}, &err, &b.job.comm) != LW_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    lw_comm *comm = b.job.comm;
    bool first = lw_comm_rank(comm) == 0;
    if (first) {
        scratch_make(NULL);
        snprintf(b.dir, sizeof b.dir, "%s", scratch_dir());
    }
    must(lw_comm_broadcast(comm, 0, b.dir, sizeof b.dir, &err), &err, "folder");

    open_job(&b, "3", "1.7");
    open_teacher(&b);
    CHECK(lw_teacher_figures_of(b.teacher).made == b.job.llm_count * SAMPLES);
    make_reference(&b);
    open_step(&b);
    compare(&b);
    close_teacher(&b);
    test_what_is_made(&b);
    test_damage_while_running(&b);
    lw_step_free(&b.step);
    lw_arena_free(b.job.dev, &b.step_memory);
    close_job(&b);

    open_job(&b, "3", "4"); // the temperature is no matter of the states
    CHECK(made_by_another(&b) == 0);
    close_job(&b);
    open_job(&b, "2", "1.7");
    CHECK(made_by_another(&b) == b.job.llm_count * SAMPLES);
    close_job(&b);

    for (int j = 0; j < LW_MAX_MODELS; j++) {
        free(b.reference[j]);
    }
    lw_error ignored;
    (void)lw_comm_barrier(comm, &ignored);
    if (first) {
        scratch_remove(NULL);
    }
    lw_comm_destroy(&comm);
    return failures > 0;
}
