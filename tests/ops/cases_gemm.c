// cases_gemm.c: products.
#include <math.h>

#include "harness.h"
#include "reference.h"

static lw_gemm gemm_of(const shape_gemm *s, lw_dtype type)
{
    lw_gemm g = {.trans_a = s->trans_a, .trans_b = s->trans_b, .m = s->m, .n = s->n, .k = s->k};
    g.alpha = s->alpha;
    g.beta = s->beta;
    g.lda = (s->trans_a ? s->m : s->k) + s->pad;
    g.ldb = (s->trans_b ? s->k : s->n) + s->pad;
    g.ldc = s->n + s->pad;
    g.ab_type = type;
    g.c_type = s->narrow ? type : LW_F32;
    return g;
}

static void launch_gemm(const op_test *t, void *const *p)
{
    const shape_gemm *s = &t->of->gemm;
    lw_gemm g = gemm_of(s, t->type);
    g.a = p[0];
    g.b = p[1];
    g.c = p[2];
    g.bias = s->bias ? p[3] : NULL;
    g.c_in = s->apart ? p[s->bias ? 4 : 3] : NULL;
    t->dev->ops->gemm(t->dev, &g);
}

static void build_gemm(op_test *t, const op_case *c)
{
    const shape_gemm *s = &c->gemm;
    lw_gemm g = gemm_of(s, t->type);
    op_describe(t, "m=%lld n=%lld k=%lld %c%c alpha=%g beta=%g%s pad=%lld%s", (long long)s->m, (long long)s->n,
                (long long)s->k, s->trans_a ? 'T' : 'N', s->trans_b ? 'T' : 'N', (double)s->alpha, (double)s->beta,
                s->bias ? " bias" : "", (long long)s->pad,
                s->nan      ? " NaN"
                : s->apart  ? " C_in apart"
                : s->narrow ? " C as A"
                            : "");
    int64_t a_count = (s->trans_a ? s->k : s->m) * g.lda, b_count = (s->trans_b ? s->n : s->k) * g.ldb;
    int64_t c_count = s->m * g.ldc;
    double *a = op_normal(t, a_count, 1.0, t->type), *b = op_normal(t, b_count, 1.0, t->type);
    double *before = op_normal(t, c_count, 1.0, g.c_type), *bias = op_normal(t, s->n, 1.0, LW_F32);
    if (s->nan) {
        a[a_count / 2] = NAN;
    }
    for (int64_t i = 0; s->beta == 0.0f && i < c_count; i++) {
        before[i] = NAN; // not read when beta is 0
    }
    op_input(t, "a", t->type, a_count, a);
    op_input(t, "b", t->type, b_count, b);
    double tolerance = s->narrow ? op_tolerance(t, 2e-6) : 2e-6;
    int out = s->apart ? op_output(t, "c", g.c_type, c_count, tolerance)
                       : op_update(t, "c", g.c_type, c_count, before, tolerance);
    if (s->bias) {
        op_input(t, "bias", LW_F32, s->n, bias);
    }
    if (s->apart) {
        op_input(t, "c_in", g.c_type, c_count, before);
    }
    t->launch = launch_gemm;
    t->flops = 2.0 * (double)s->m * (double)s->n * (double)s->k;
    if (t->perf) {
        return;
    }
    op_buffer *buffer = &t->buffer[out];
    const ref_gemm_sizes r = {s->m,  s->n,  s->k, s->trans_a, s->trans_b, (double)s->alpha, (double)s->beta,
                              g.lda, g.ldb, g.ldc};
    buffer->state = op_own(t, (size_t)c_count, 1);
    for (int64_t i = 0; i < c_count; i++) {
        buffer->state[i] = i % g.ldc < s->n ? OP_CHECK : OP_KEEP;
    }
    for (int64_t i = 0; s->apart && i < c_count; i++) {
        buffer->expect[i] = before[i];
    }
    ref_gemm(&r, a, b, s->bias ? bias : NULL, buffer->expect);
}

#define GEMM(m, n, k, ta, tb, alpha, beta, bias, pad)                                                                \
    {                                                                                                                \
        .op = "gemm", .build = build_gemm, .typed = true, .gemm = { m, n, k, ta, tb, alpha, beta, bias, pad, false } \
    }
#define GEMM_FORMS(m, n, k, pad)                                                                            \
    GEMM(m, n, k, false, false, 1.0f, 0.0f, false, pad), GEMM(m, n, k, false, true, 1.0f, 0.0f, true, pad), \
        GEMM(m, n, k, true, false, 0.5f, 1.0f, false, pad), GEMM(m, n, k, true, true, -1.5f, 0.25f, true, pad)
#define GEMM_MORE(m, n, k, ta, tb, beta, bias, pad, apart, narrow)  \
    {                                                               \
        .op = "gemm", .build = build_gemm, .typed = true, .gemm = { \
            m,                                                      \
            n,                                                      \
            k,                                                      \
            ta,                                                     \
            tb,                                                     \
            1.0f,                                                   \
            beta,                                                   \
            bias,                                                   \
            pad,                                                    \
            false,                                                  \
            apart,                                                  \
            narrow                                                  \
        }                                                           \
    }
#define GEMM_PERF(m, n, k, ta, tb)                                                \
    {                                                                             \
        .op = "gemm", .build = build_gemm, .typed = true, .perf = true, .gemm = { \
            m,                                                                    \
            n,                                                                    \
            k,                                                                    \
            ta,                                                                   \
            tb,                                                                   \
            1.0f,                                                                 \
            0.0f,                                                                 \
            false,                                                                \
            0,                                                                    \
            false                                                                 \
        }                                                                         \
    }

const op_case gemm_cases[] = {
    GEMM_FORMS(1, 1, 1, 0),
    GEMM_FORMS(1, 37, 19, 0),
    GEMM_FORMS(1, 256, 128, 3),
    GEMM_FORMS(37, 1, 19, 0),
    GEMM_FORMS(2, 3, 5, 7),
    GEMM_FORMS(7, 33, 65, 0),
    GEMM_FORMS(64, 64, 64, 0),
    GEMM_FORMS(65, 127, 31, 13),
    GEMM_FORMS(130, 258, 67, 0),
    GEMM_FORMS(300, 17, 128, 64),
    GEMM_FORMS(0, 5, 7, 0),
    GEMM_FORMS(5, 0, 7, 0),
    GEMM_FORMS(5, 7, 0, 2),
    GEMM(9, 11, 13, false, true, 0.0f, 1.0f, true, 0),
    {.op = "gemm", .build = build_gemm, .gemm = {33, 20, 40, false, true, 1.0f, 0.0f, false, 0, true}},
    {.op = "gemm", .build = build_gemm, .gemm = {1, 20, 40, false, true, 1.0f, 0.0f, false, 0, true}},
    GEMM_MORE(33, 48, 64, false, true, 1.0f, false, 0, true, false), // the residual stream
    GEMM_MORE(7, 33, 65, false, true, 1.0f, true, 5, true, false),
    GEMM_MORE(5, 7, 0, false, true, 1.0f, false, 0, true, false),
    GEMM_MORE(33, 48, 64, false, true, 0.0f, true, 0, false, true), // a layer's activations
    GEMM_MORE(40, 96, 136, false, false, 0.0f, false, 8, false, true),
    GEMM_PERF(2000, 64, 64, false, true),
    GEMM_PERF(2000, 128, 128, false, true),
    GEMM_PERF(2000, 512, 128, false, true),
    GEMM_PERF(2000, 256, 256, false, true),
    GEMM_PERF(2000, 1024, 256, false, true),
    GEMM_PERF(2000, 256, 1024, false, false),
    GEMM_PERF(256, 256, 2000, true, false),
    GEMM_PERF(400, 1000, 128, false, true),
    GEMM_PERF(1, 1024, 256, false, true),
    GEMM_PERF(4, 1024, 256, false, true),
};
const int gemm_case_count = (int)(sizeof gemm_cases / sizeof *gemm_cases);
