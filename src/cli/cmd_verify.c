// cmd_verify.c: `lwmpi verify`: compares loss and gradient of a frozen model with a reference made elsewhere.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "kernels/devices.h"
#include "model/decoder.h"
#include "run/run_dir.h"

typedef struct lw_reference {
    lw_safetensors *file;
    int64_t batch, prefix_len, d, suffix_len, answer_len;
    float *prefix;            // (batch, prefix_len, d)
    float *grad_prefix;       // the same shape
    int32_t *suffix, *answer; // (batch, suffix_len), (batch, answer_len)
    float loss;
} lw_reference;

static void reference_free(lw_reference *r)
{
    lw_safetensors_close(&r->file);
    free(r->prefix);
    free(r->grad_prefix);
    free(r->suffix);
    free(r->answer);
    *r = (lw_reference){0};
}

static lw_status find(const lw_reference *r, const char *name, int rank, lw_error *err, const lw_tensor_view **out)
{
    const lw_tensor_view *view = lw_safetensors_find(r->file, name);
    if (view == NULL) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: tensor %s is missing; a reference holds prefix, suffix_ids, "
                       "answer_ids, loss and grad_prefix",
                       lw_safetensors_path(r->file), name);
    }
    if (view->rank != rank) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: tensor %s has %d dimensions, expected %d", lw_safetensors_path(r->file),
                       name, view->rank, rank);
    }
    *out = view;
    return LW_OK;
}

static lw_status read_f32(const lw_reference *r, const char *name, int rank, const int64_t *dims, lw_error *err,
                          float **out)
{
    const lw_tensor_view *view = NULL;
    LW_TRY(lw_safetensors_require(r->file, name, rank, dims, err, &view));
    *out = malloc((size_t)(view->elements + 1) * sizeof **out);
    if (*out == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for tensor %s", name);
    }
    lw_status status = lw_tensor_to_f32(view, err, *out);
    return status == LW_OK ? LW_OK : lw_fail_in(err, status, "%s", lw_safetensors_path(r->file));
}

static lw_status read_ids(const lw_reference *r, const char *name, int64_t *columns, lw_error *err, int32_t **out)
{
    const lw_tensor_view *view = NULL;
    LW_TRY(find(r, name, 2, err, &view));
    if (!view->known || view->dtype != LW_I32 || view->dims[0] != r->batch) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: tensor %s must be I32 of %lld rows, as prefix has",
                       lw_safetensors_path(r->file), name, (long long)r->batch);
    }
    *columns = view->dims[1];
    *out = malloc((size_t)(view->elements + 1) * sizeof **out);
    if (*out == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for tensor %s", name);
    }
    memcpy(*out, view->data, view->bytes);
    return LW_OK;
}

static lw_status reference_read(const char *path, lw_error *err, lw_reference *r)
{
    const lw_tensor_view *view = NULL;
    LW_TRY(lw_safetensors_open(path, err, &r->file));
    LW_TRY(find(r, "prefix", 3, err, &view));
    r->batch = view->dims[0];
    r->prefix_len = view->dims[1];
    r->d = view->dims[2];
    LW_TRY(read_f32(r, "prefix", 3, view->dims, err, &r->prefix));
    LW_TRY(read_f32(r, "grad_prefix", 3, view->dims, err, &r->grad_prefix));
    LW_TRY(read_ids(r, "suffix_ids", &r->suffix_len, err, &r->suffix));
    LW_TRY(read_ids(r, "answer_ids", &r->answer_len, err, &r->answer));
    // An empty tensor may claim sizes of any magnitude. When all sizes are at least 1, there are no more rows than
    // bytes in the file.
    if (r->batch < 1 || r->d < 1 || r->answer_len < 1) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: %lld samples of width %lld and %lld answer tokens: nothing to verify",
                       path, (long long)r->batch, (long long)r->d, (long long)r->answer_len);
    }
    LW_TRY(find(r, "loss", 1, err, &view));
    float *loss = NULL;
    lw_status status = read_f32(r, "loss", 1, (int64_t[]){1}, err, &loss);
    if (status == LW_OK) {
        r->loss = loss[0];
    }
    free(loss);
    return status;
}

// Answer tokens of sample b: those before the first -1.
static int64_t answer_count(const lw_reference *r, int64_t b)
{
    int64_t n = 0;
    while (n < r->answer_len && r->answer[b * r->answer_len + n] != -1) {
        n++;
    }
    return n;
}

static lw_status check_ids(const lw_reference *r, const char *path, int64_t vocab, lw_error *err, int64_t *supervised)
{
    *supervised = 0;
    for (int64_t b = 0; b < r->batch; b++) {
        for (int64_t i = 0; i < r->suffix_len; i++) {
            int32_t id = r->suffix[b * r->suffix_len + i];
            if (id < 0 || id >= vocab) {
                return lw_fail(err, LW_ERR_FORMAT,
                               "%s: suffix_ids[%lld][%lld] is %d; the model's vocabulary is 0 to "
                               "%lld",
                               path, (long long)b, (long long)i, id, (long long)vocab - 1);
            }
        }
        int64_t n = answer_count(r, b);
        *supervised += n;
        for (int64_t i = 0; i < r->answer_len; i++) {
            int32_t id = r->answer[b * r->answer_len + i];
            if (i < n ? id < 0 || id >= vocab : id != -1) {
                return lw_fail(err, LW_ERR_FORMAT,
                               "%s: answer_ids[%lld][%lld] is %d; expected token ids from 0 to %lld, then -1 to the "
                               "end of the row",
                               path, (long long)b, (long long)i, id, (long long)vocab - 1);
            }
        }
        if (n > 0 && r->prefix_len + r->suffix_len < 1) {
            return lw_fail(err, LW_ERR_FORMAT, "%s: nothing stands before the first answer token", path);
        }
    }
    if (*supervised == 0) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: answer_ids holds no token", path);
    }
    return LW_OK;
}

// Packs [prefix_b | suffix_b | answer_b[:n-1]]; answer token t is predicted by the row before it.
static lw_status pack(const lw_reference *r, int64_t supervised, lw_packing *p, lw_error *err)
{
    lw_packing_clear(p);
    for (int64_t b = 0; b < r->batch; b++) {
        int64_t n = answer_count(r, b);
        if (n == 0) {
            continue; // adds nothing to the loss; its gradient is zero
        }
        const int32_t *answer = r->answer + b * r->answer_len;
        int64_t first =
            lw_packing_add(p, b * r->prefix_len, r->prefix_len, r->suffix + b * r->suffix_len, r->suffix_len, 0);
        int64_t more = lw_packing_extend(p, answer, n - 1);
        if (first < 0 || more < 0) {
            return lw_fail(err, LW_ERR_INTERNAL, "the reference does not fit its own limits");
        }
        for (int64_t t = 0; t < n; t++) {
            lw_packing_score(p, more - 1 + t, answer[t], 1.0F / (float)supervised);
        }
    }
    return LW_OK;
}

typedef struct lw_verify_result {
    double loss, loss_error, grad_error;
} lw_verify_result;

static lw_status compare(const lw_reference *r, lw_device *dev, lw_packing *p, lw_decoder_buffers *b,
                         const float *device_grad, int64_t supervised, lw_error *err, lw_verify_result *out)
{
    int64_t n = r->batch * r->prefix_len * r->d;
    float *nll = malloc((size_t)supervised * sizeof *nll);
    float *grad = malloc((size_t)(n + 1) * sizeof *grad);
    lw_status status = LW_OK;
    if (nll == NULL || grad == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the results");
        goto done;
    }
    dev->ops->download(dev, b->nll, (size_t)p->supervised * sizeof *nll, nll);
    dev->ops->download(dev, device_grad, (size_t)n * sizeof *grad, grad);
    LW_TRY_GOTO(dev->ops->sync(dev, err));
    double loss = 0.0;
    for (int64_t i = 0; i < p->supervised; i++) {
        loss += (double)nll[i];
    }
    loss /= (double)supervised;
    double difference = 0.0;
    double norm = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double reference = (double)r->grad_prefix[i];
        difference += ((double)grad[i] - reference) * ((double)grad[i] - reference);
        norm += reference * reference;
    }
    out->loss = loss;
    out->loss_error = fabs(loss - (double)r->loss) / fabs((double)r->loss);
    out->grad_error = sqrt(difference) / sqrt(norm);
done:
    free(nll);
    free(grad);
    return status;
}

// The buffers of one pass and of its gradient.
typedef struct pass_buffers {
    lw_device *dev;
    const lw_hf_config *config;
    lw_pass_limits limits;
    float *soft, *d_soft; // (prefix_rows, d)
    void *indices;
    lw_decoder_buffers buffers;
} pass_buffers;

static lw_status layout(void *context, lw_arena *arena, lw_error *err)
{
    pass_buffers *p = context;
    int64_t soft_elements = p->limits.prefix_rows * p->config->d;
    lw_decoder_buffers_free(&p->buffers);
    p->soft = LW_TAKE(arena, soft_elements, float);
    p->d_soft = LW_TAKE(arena, soft_elements, float);
    p->indices = lw_arena_take(arena, (int64_t)lw_packing_device_bytes(&p->limits), 1);
    return lw_decoder_pass_layout(arena, p->dev, p->config, NULL, &(lw_decoder_pass){.mode = LW_PASS_TRAIN}, &p->limits,
                                  err, &p->buffers);
}

static lw_status evaluate(const lw_reference *r, const char *reference_path, lw_decoder *model, lw_device *dev,
                          lw_error *err, lw_verify_result *out)
{
    pass_buffers p = {.dev = dev, .config = lw_decoder_config(model)};
    int64_t supervised;
    LW_TRY(check_ids(r, reference_path, p.config->vocab, err, &supervised));
    int64_t length = r->prefix_len + r->suffix_len + r->answer_len;
    p.limits = (lw_pass_limits){.sequences = r->batch,
                                .rows = r->batch * length,
                                .prefix_rows = r->batch * r->prefix_len,
                                .supervised = supervised,
                                .max_len = length};
    size_t soft_bytes = (size_t)(p.limits.prefix_rows * p.config->d) * sizeof(float);
    lw_packing packing = {0};
    lw_arena memory = {0};
    lw_status status = LW_OK;
    LW_TRY_GOTO(lw_arena_place(dev, "buffers of the pass", layout, &p, err, &memory));
    LW_TRY_GOTO(lw_packing_create(&p.limits, p.indices, err, &packing));
    LW_TRY_GOTO(pack(r, supervised, &packing, err));
    lw_packing_upload(&packing, dev);
    dev->ops->upload(dev, r->prefix, soft_bytes, p.soft);
    dev->ops->zero(dev, soft_bytes, p.d_soft);
    lw_decoder_forward(model, &packing, p.soft, NULL, &p.buffers);
    lw_decoder_logits(model, &packing, &p.buffers);
    lw_decoder_loss(model, &packing, true, &p.buffers);
    lw_decoder_backward(model, &packing, &p.buffers, p.d_soft);
    status = compare(r, dev, &packing, &p.buffers, p.d_soft, supervised, err, out);
done:
    lw_packing_free(&packing);
    lw_decoder_buffers_free(&p.buffers);
    lw_arena_free(dev, &memory);
    return status;
}

static lw_status print_json(const lw_verify_result *v, const lw_reference *r, const lw_device *dev, double loss_limit,
                            double grad_limit, bool pass, lw_error *err)
{
    json_t *object =
        json_pack("{s:s, s:o, s:o, s:o, s:o, s:f, s:f, s:b}", "device", dev->ops->name, "loss", lw_json_number(v->loss),
                  "loss_reference", lw_json_number((double)r->loss), "loss_relative_error",
                  lw_json_number(v->loss_error), "grad_relative_error", lw_json_number(v->grad_error), "loss_tolerance",
                  loss_limit, "grad_tolerance", grad_limit, "pass", pass);
    if (object == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the JSON result");
    }
    json_dumpf(object, stdout, JSON_COMPACT);
    printf("\n");
    json_decref(object);
    return LW_OK;
}

static lw_status verify(const char *model_dir, const char *reference_path, const char *device, int threads, bool json,
                        lw_error *err)
{
    lw_device *dev = NULL;
    lw_decoder *model = NULL;
    lw_reference reference = {0};
    lw_verify_result result = {0};
    lw_status status = LW_OK;
    LW_TRY_GOTO(reference_read(reference_path, err, &reference));
    LW_TRY_GOTO(lw_device_open(device, 0, threads, err, &dev));
    int64_t length = reference.prefix_len + reference.suffix_len + reference.answer_len;
    LW_TRY_GOTO(lw_decoder_load(dev, model_dir, &(lw_decoder_options){.max_positions = length}, err, &model));
    if (lw_decoder_config(model)->d != reference.d) {
        status = lw_fail(err, LW_ERR_FORMAT, "%s: prefix has width %lld, the model in %s has %lld", reference_path,
                         (long long)reference.d, model_dir, (long long)lw_decoder_config(model)->d);
        goto done;
    }
    LW_TRY_GOTO(evaluate(&reference, reference_path, model, dev, err, &result));
    bool exact = dev->frozen_type == LW_F32;
    double loss_limit = exact ? 1e-4 : 2e-2;
    double grad_limit = exact ? 1e-3 : 2e-2;
    bool pass = result.loss_error <= loss_limit && result.grad_error <= grad_limit; // false for NaN
    if (json) {
        LW_TRY_GOTO(print_json(&result, &reference, dev, loss_limit, grad_limit, pass, err));
    } else {
        printf("loss %.8g, reference %.8g, relative error %.3g (at most %g)\n", result.loss, (double)reference.loss,
               result.loss_error, loss_limit);
        printf("gradient of the prefix: relative error %.3g (at most %g)\n", result.grad_error, grad_limit);
        printf("%s\n", pass ? "verified" : "NOT within tolerance");
    }
    if (!pass) {
        status = lw_fail(err, LW_ERR_MISMATCH, "%s disagrees with %s: loss error %.3g, gradient error %.3g", model_dir,
                         reference_path, result.loss_error, result.grad_error);
    }
done:
    lw_decoder_destroy(&model);
    lw_device_close(&dev);
    reference_free(&reference);
    return status;
}

typedef struct arguments {
    const char *device;
    int64_t threads;
    bool json;
} arguments;

static lw_status run(const lw_command *self, int argc, char **argv, lw_error *err)
{
    arguments a = {.device = "cpu", .threads = 1};
    int count;
    LW_TRY(lw_options_parse(self, argc, argv, err, &a, &count));
    if (count != 2) {
        return lw_fail(err, LW_ERR_USAGE,
                       "verify: MODEL_DIR and REFERENCE.safetensors are wanted; see: lwmpi verify "
                       "--help");
    }
    if (strcmp(a.device, "cpu") != 0 && strncmp(a.device, "cpu:", 4) != 0 && strcmp(a.device, "cuda") != 0 &&
        strcmp(a.device, "cuda:f32") != 0) {
        return lw_fail(err, LW_ERR_USAGE, "--device %s: cpu, cuda or cuda:f32 is wanted", a.device);
    }
    return verify(argv[1], argv[2], a.device, (int)a.threads, a.json, err);
}

const lw_command lw_command_verify = {
    .name = "verify",
    .summary = "check a frozen model against a reference",
    .usage = "verify MODEL_DIR REFERENCE.safetensors [--device cpu|cuda|cuda:f32] [--threads N] [--json]",
    .text = "Computes loss and gradient of the frozen model in MODEL_DIR (a Hugging Face directory) for the inputs "
            "in REFERENCE, and prints the relative errors against the loss and gradient stored there.\n\n"
            "REFERENCE holds prefix F32 (B,M,D), suffix_ids I32 (B,S), answer_ids I32 (B,A) padded at the right with "
            "-1, loss F32 (1) and grad_prefix F32 (B,M,D). The input of a sample is its prefix, the embedded suffix, "
            "and the embedded answer without its last token; the loss is the mean of -log p over all answer tokens "
            "of the batch.",
    .options = {{"device", "cpu|cuda|cuda:f32",
                 "where to compute; cpu when left out; cuda:f32 keeps weights and activations in f32",
                 LW_OPTION_INTO(arguments, device)},
                {"threads", "N", "CPU threads; 1 when left out", LW_OPTION_INTO(arguments, threads), .min = 1,
                 .max = 4096},
                {"json", NULL, "the errors as JSON, the only thing on stdout", LW_OPTION_INTO(arguments, json)}},
    .exits = {{"0", "relative errors of loss and gradient within 1e-4 and 1e-3 (cuda, bf16: 2e-2 both)"},
              {"1", "outside the tolerance, or failed"}},
    .examples = {{"lwmpi verify models/Llama-3.1-8B reference.safetensors", ""}},
    .run = run,
};
