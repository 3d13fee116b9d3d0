// Gradients of low-rank updates in an encoder's backbone, against finite differences of a loss that is linear in the
// states: every A and B, causal and not, Llama and Qwen2 (biases), all layers and the first alone.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backbone.h"
#include "core/random.h"
#include "derivative.h"

enum { DIRECTIONS = 2, SEQUENCES = 4, IDS = 17 };

// Of the norm of a tensor's gradient; measured: the worst of all cases is 4e-5.
static const double FD_TOLERANCE = 2e-4;

static const int64_t lengths[SEQUENCES] = {6, 1, 3, 7};

static int failures = 0;

typedef struct bench {
    backbone backbone;
    float *states, *d_states; // (rows, d)
    int64_t n;
} bench;

typedef struct line { // through parameter space
    bench *b;
    int64_t index;
    const float *centre;
    const double *u;
    float *point;
} line;

static double loss_at(void *context, double h)
{
    const line *l = context;
    bench *b = l->b;
    int64_t n = b->backbone.params.list[l->index].elements;
    double loss = 0.0;
    for (int64_t k = 0; k < n; k++) {
        l->point[k] = (float)((double)l->centre[k] + h * l->u[k]);
    }
    backbone_set(&b->backbone, l->index, l->point);
    backbone_forward(&b->backbone, b->states);
    backbone_set(&b->backbone, l->index, l->centre);
    for (int64_t k = 0; k < b->n; k++) {
        loss += (double)b->states[k] * (double)b->d_states[k];
    }
    return loss;
}

static double check_tensor(bench *b, const char *label, int64_t index, const float *g)
{
    const lw_param *p = &b->backbone.params.list[index];
    float *centre = test_room(p->elements, sizeof *centre);
    float *point = test_room(p->elements, sizeof *point);
    double *u = test_room(p->elements, sizeof *u);
    double norm = 0.0;
    double worst = 0.0;
    backbone_get(&b->backbone, index, false, centre);
    for (int64_t k = 0; k < p->elements; k++) {
        norm += (double)g[k] * (double)g[k];
    }
    norm = sqrt(norm);
    if (!(norm > 1e-3)) {
        printf("FAILED: %s: the gradient of %s has norm %g: this case does not test it\n", label, p->name, norm);
        failures++;
    }
    for (int which = 0; which < DIRECTIONS; which++) {
        double analytic = 0.0;
        double uncertainty;
        choose_direction(g, p->elements, which, (uint64_t)(index * DIRECTIONS + which), u);
        for (int64_t k = 0; k < p->elements; k++) {
            analytic += (double)g[k] * u[k];
        }
        double numeric = derivative(loss_at, &(line){b, index, centre, u, point}, &uncertainty);
        double error = fabs(numeric - analytic) / norm;
        worst = error > worst ? error : worst;
        if (!(error <= FD_TOLERANCE)) {
            printf("FAILED: %s: %s, direction %d: g.u = %.9g, finite differences %.9g (+- %.2g): off by %.3g of |g| = "
                   "%.4g\n",
                   label, p->name, which, analytic, numeric, uncertainty, error, norm);
            failures++;
        }
    }
    free(centre);
    free(point);
    free(u);
    return worst;
}

static void randomise(bench *b)
{
    const lw_params *params = &b->backbone.params;
    for (int64_t i = 0; i < params->count; i++) {
        const lw_param *p = &params->list[i];
        float *values = test_room(p->elements, sizeof *values);
        for (int64_t k = 0; k < p->elements; k++) {
            values[k] = (float)(0.2 * lw_random_normal(5, (uint64_t)i, (uint64_t)k));
        }
        backbone_set(&b->backbone, i, values);
        free(values);
    }
    for (int64_t k = 0; k < b->n; k++) {
        b->d_states[k] = (float)lw_random_normal(6, 1, (uint64_t)k);
    }
}

static void check_case(const char *label, const char *dir, int64_t layers, bool bidirectional)
{
    bench b;
    int32_t ids[IDS];
    double worst = 0.0;
    for (int64_t i = 0; i < IDS; i++) {
        ids[i] = (int32_t)(lw_random_u64(1, 1, (uint64_t)i) % 67);
    }
    backbone_open(&b.backbone,
                  &(backbone_options){.device = "cpu",
                                      .dir = dir,
                                      .layers = layers,
                                      .bidirectional = bidirectional,
                                      .rank = 3,
                                      .alpha = 4.0,
                                      .mode = LW_PASS_TRAIN},
                  ids, lengths, SEQUENCES);
    const lw_params *params = &b.backbone.params;
    b.n = b.backbone.rows * lw_decoder_config(b.backbone.decoder)->d;
    b.states = test_room(b.n, sizeof *b.states);
    b.d_states = test_room(b.n, sizeof *b.d_states);
    randomise(&b);
    float **grad = test_room(params->count, sizeof *grad);
    backbone_forward(&b.backbone, b.states);
    backbone_backward(&b.backbone, b.d_states);
    for (int64_t i = 0; i < params->count; i++) {
        grad[i] = test_room(params->list[i].elements, sizeof **grad);
        backbone_get(&b.backbone, i, true, grad[i]);
    }
    for (int64_t i = 0; i < params->count; i++) {
        double error = check_tensor(&b, label, i, grad[i]);
        worst = error > worst ? error : worst;
        free(grad[i]);
    }
    printf("%-32s %lld tensors, worst error %.2g of the gradient's norm\n", label, (long long)params->count, worst);
    free(grad);
    free(b.states);
    free(b.d_states);
    backbone_close(&b.backbone);
}

int main(void)
{
    static const char llama[] = "tests/parity/fixtures/llama-gqa-headdim";
    static const char qwen[] = "tests/parity/fixtures/qwen2-gqa";
    check_case("llama, causal", llama, 0, false);
    check_case("llama, bidirectional", llama, 0, true);
    check_case("llama, bidirectional, 1 layer", llama, 1, true);
    check_case("qwen2, causal", qwen, 0, false);
    check_case("qwen2, bidirectional", qwen, 0, true);
    check_case("qwen2, causal, 1 layer", qwen, 1, false);
    check_case("llama with all biases, causal", "tests/parity/fixtures/llama-biases", 0, false);
    return failures > 0;
}
