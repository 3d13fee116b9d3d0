// A model as an encoder's backbone with low-rank updates: states and gradients of A and B equal to those of
// transformers and PEFT (make_lora_fixtures.py).
//
//   test_lora [DEVICE]     cpu, cuda, cuda:f32
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backbone.h"
#include "io/safetensors.h"

enum { MAX_SEQUENCES = 8, MAX_IDS = 64 };

static const char *const fixtures[] = {"llama-gqa-headdim", "qwen2-gqa"};

typedef struct variant {
    const char *name;
    int64_t layers;
    bool bidirectional;
} variant;

static const variant variants[] = {{"causal", 0, false}, {"both", 0, true}, {"first", 1, false}};

static const char *const map_names[LW_LORA_MAPS] = {"qkv", "o", "gate_up", "down"};
static const char *const part_names[LW_LORA_MAPS][LW_LORA_PARTS] = {
    {"q_proj", "k_proj", "v_proj"}, {"o_proj"}, {"gate_proj", "up_proj"}, {"down_proj"}};

static int failures = 0;

typedef struct distance { // of vectors seen so far
    double apart, norm;   // squared
    double worst;         // relative error of one of them
} distance;

static double relative(double apart, double norm)
{
    return norm > 0.0 ? sqrt(apart / norm) : INFINITY;
}

static void compare(const float *got, const float *want, int64_t n, distance *d)
{
    double apart = 0.0;
    double norm = 0.0;
    for (int64_t i = 0; i < n; i++) {
        apart += pow((double)got[i] - (double)want[i], 2.0);
        norm += (double)want[i] * (double)want[i];
    }
    d->apart += apart;
    d->norm += norm;
    d->worst = fmax(d->worst, relative(apart, norm));
}

// In f32, `worst` is held to `limit`; in bf16 all vectors together to what PEFT itself is off.
static void expect_close(const char *label, const char *what, const distance *d, bool rounds, double limit,
                         double in_bf16)
{
    double error = rounds ? relative(d->apart, d->norm) : d->worst;
    double most = rounds ? in_bf16 : limit;
    printf("%-26s %-9s off by %.1e, at most %.1e\n", label, what, error, most);
    if (!(error <= most)) {
        printf("FAILED: %s: %s off by %.3g, at most %.3g expected\n", label, what, error, most);
        failures++;
    }
}

static float *tensor(const lw_safetensors *file, const char *name)
{
    const lw_tensor_view *v = lw_safetensors_find(file, name);
    if (v == NULL || v->dtype != LW_F32) {
        printf("FAILED: %s has no F32 tensor %s\n", lw_safetensors_path(file), name);
        exit(1);
    }
    float *out = test_room(v->elements, sizeof *out);
    lw_error err;
    if (lw_tensor_to_f32(v, &err, out) != LW_OK) {
        printf("FAILED: %s\n", err.text);
        exit(1);
    }
    return out;
}

// The stacked A or B ("a", "b", "grad_a", "grad_b") of a map, out of the file's parts.
static float *stacked(const lw_safetensors *file, const char *prefix, int64_t layer, int map, const char *which,
                      const lw_lora *lora)
{
    const lw_lora_shape *s = &lora->shapes[map];
    bool a = which[strlen(which) - 1] == 'a';
    float *out = test_room(a ? s->part_count * lora->rank * s->in : s->out * lora->rank, sizeof *out);
    int64_t used = 0;
    for (int64_t part = 0; part < s->part_count; part++) {
        char name[128];
        int64_t n = lora->rank * (a ? s->in : s->parts[part]);
        snprintf(name, sizeof name, "%s%lld.%s.%s", prefix, (long long)layer, part_names[map][part], which);
        float *values = tensor(file, name);
        memcpy(out + used, values, (size_t)n * sizeof *out);
        free(values);
        used += n;
    }
    return out;
}

typedef struct ids_of {
    int32_t ids[MAX_IDS];
    int64_t lengths[MAX_SEQUENCES];
    int64_t sequences;
} ids_of;

static ids_of read_ids(const lw_safetensors *file)
{
    ids_of out = {0};
    int64_t used = 0;
    const lw_tensor_view *v = lw_safetensors_find(file, "ids");
    if (v == NULL || v->dtype != LW_I32 || v->elements > MAX_IDS || v->dims[0] > MAX_SEQUENCES) {
        printf("FAILED: ids of %s\n", lw_safetensors_path(file));
        exit(1);
    }
    out.sequences = v->dims[0];
    for (int64_t i = 0; i < v->elements; i++) {
        int32_t id;
        memcpy(&id, (const unsigned char *)v->data + (size_t)i * sizeof id, sizeof id);
        if (id >= 0) {
            out.ids[used++] = id;
            out.lengths[i / v->dims[1]]++;
        }
    }
    return out;
}

static void param_name(int64_t layer, int map, const char *which, size_t size, char *out)
{
    snprintf(out, size, "lora.%lld.%s.%s", (long long)layer, map_names[map], which);
}

static void set_updates(backbone *b, const lw_safetensors *file)
{
    for (int64_t layer = 0; layer < b->pass.lora.layers; layer++) {
        for (int map = 0; map < LW_LORA_MAPS; map++) {
            for (int i = 0; i < 2; i++) {
                const char *which = i == 0 ? "a" : "b";
                char name[64];
                param_name(layer, map, which, sizeof name, name);
                float *values = stacked(file, "", layer, map, which, &b->pass.lora);
                backbone_set(b, backbone_param(b, name), values);
                free(values);
            }
        }
    }
}

static void compare_gradients(backbone *b, const lw_safetensors *file, const char *prefix, distance *d)
{
    for (int64_t layer = 0; layer < b->pass.lora.layers; layer++) {
        for (int map = 0; map < LW_LORA_MAPS; map++) {
            for (int i = 0; i < 2; i++) {
                char name[64];
                param_name(layer, map, i == 0 ? "a" : "b", sizeof name, name);
                int64_t index = backbone_param(b, name);
                int64_t n = b->params.list[index].elements;
                float *got = test_room(n, sizeof *got);
                float *want = stacked(file, prefix, layer, map, i == 0 ? "grad_a" : "grad_b", &b->pass.lora);
                backbone_get(b, index, true, got);
                compare(got, want, n, d);
                free(got);
                free(want);
            }
        }
    }
}

// The tensor "VARIANT.NAME".
static float *variant_tensor(const lw_safetensors *file, const variant *v, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s.%s", v->name, name);
    return tensor(file, full);
}

// A pass that keeps nothing for a backward pass gives the same states.
static void check_infer(const lw_safetensors *file, const ids_of *ids, backbone_options options, const char *label,
                        const float *states)
{
    backbone b;
    options.mode = LW_PASS_INFER;
    backbone_open(&b, &options, ids->ids, ids->lengths, ids->sequences);
    int64_t n = b.rows * lw_decoder_config(b.decoder)->d;
    float *again = test_room(n, sizeof *again);
    set_updates(&b, file);
    backbone_forward(&b, again);
    if (memcmp(again, states, (size_t)n * sizeof *again) != 0) {
        printf("FAILED: %s: states differ between a pass that keeps its activations and one that does not\n", label);
        failures++;
    }
    free(again);
    backbone_close(&b);
}

static void check_variant(const lw_safetensors *file, const char *dir, const variant *v, const char *device,
                          const char *label)
{
    ids_of ids = read_ids(file);
    const char *alpha = lw_safetensors_metadata(file, "alpha");
    backbone_options options = {.device = device,
                                .dir = dir,
                                .layers = v->layers,
                                .bidirectional = v->bidirectional,
                                .rank = 2,
                                .alpha = alpha != NULL ? strtod(alpha, NULL) : 0.0,
                                .mode = LW_PASS_TRAIN};
    float *want = variant_tensor(file, v, "states");
    float *d_states = variant_tensor(file, v, "d_states");
    float *in_bf16 = variant_tensor(file, v, "bf16");
    char prefix[32];
    backbone b;
    backbone_open(&b, &options, ids.ids, ids.lengths, ids.sequences);
    bool rounds = b.dev->frozen_type != LW_F32;
    int64_t n = b.rows * lw_decoder_config(b.decoder)->d;
    float *states = test_room(n, sizeof *states);
    distance of_states = {0};
    distance of_gradients = {0};
    set_updates(&b, file);
    backbone_forward(&b, states);
    compare(states, want, n, &of_states);
    expect_close(label, "states", &of_states, rounds, 1e-5, (double)in_bf16[0]);
    backbone_backward(&b, d_states);
    snprintf(prefix, sizeof prefix, "%s.", v->name);
    compare_gradients(&b, file, prefix, &of_gradients);
    expect_close(label, "gradients", &of_gradients, rounds, 1e-4, (double)in_bf16[1]);
    backbone_close(&b);
    check_infer(file, &ids, options, label, states);
    free(states);
    free(want);
    free(d_states);
    free(in_bf16);
}

static void check_fixture(const char *name, const char *device)
{
    char dir[256];
    char path[320];
    lw_error err = {{0}};
    lw_safetensors *file = NULL;
    snprintf(dir, sizeof dir, "tests/parity/fixtures/%s", name);
    snprintf(path, sizeof path, "%s/lora.safetensors", dir);
    if (lw_safetensors_open(path, &err, &file) != LW_OK) {
        printf("FAILED: %s\n", err.text);
        exit(1);
    }
    for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++) {
        char label[128];
        snprintf(label, sizeof label, "%s, %s", name, variants[v].name);
        check_variant(file, dir, &variants[v], device, label);
    }
    lw_safetensors_close(&file);
}

int main(int argc, char **argv)
{
    for (size_t f = 0; f < sizeof fixtures / sizeof fixtures[0]; f++) {
        check_fixture(fixtures[f], argc > 1 ? argv[1] : "cpu");
    }
    return failures > 0;
}
