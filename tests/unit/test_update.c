// The update of the trainable parameters: ranges of one rate and decay are the whole buffer, a rate of 0 leaves its
// tensors alone, and equal rates give what one call over each half gives.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "kernels/devices.h"
#include "wire/wire.h"

typedef struct fixture {
    lw_config *config;
    lw_device *dev;
    lw_wire wire;
    lw_arena memory;
    float *before; // (3 * elements) parameters and moments
} fixture;

static void must(lw_status status, const lw_error *err)
{
    if (status != LW_OK) {
        fail_msg("%s", err->text);
    }
}

static void open_fixture(fixture *f)
{
    static const char *const overrides[] = {"wire.d_z=16",     "pooler.heads=2",    "encoder.width=16",
                                            "encoder.heads=2", "adapter.hidden=16", "wire.latents=4"};
    const int64_t d[] = {24, 40};
    lw_error err = {{0}};
    *f = (fixture){0};
    must(lw_config_load("configs/tiny.cfg", sizeof overrides / sizeof *overrides, overrides, &err, &f->config), &err);
    must(lw_device_open("cpu", 0, 1, &err, &f->dev), &err);
    must(lw_wire_declare(f->config, d, NULL, &err, &f->wire), &err);
    lw_arena arena = lw_arena_measure();
    lw_wire_layout(&arena, true, &f->wire);
    must(lw_arena_alloc(f->dev, &arena, "parameters", &err, &f->memory), &err);
    arena = f->memory;
    lw_wire_layout(&arena, true, &f->wire);
    must(lw_wire_init(f->dev, &f->wire, 7, &err), &err);
    f->before = calloc((size_t)f->wire.params.elements, 3 * sizeof *f->before);
    assert_non_null(f->before);
}

static void close_fixture(fixture *f)
{
    free(f->before);
    lw_wire_free(&f->wire);
    lw_arena_free(f->dev, &f->memory);
    lw_device_close(&f->dev);
    lw_config_destroy(&f->config);
}

static void random_gradients(fixture *f, uint64_t seed)
{
    const lw_params *p = &f->wire.params;
    memset(p->grad, 0, (size_t)f->wire.reduce_elements * sizeof *p->grad);
    for (int64_t i = 0; i < p->count; i++) {
        for (int64_t k = 0; k < p->list[i].elements; k++) {
            p->grad[p->list[i].offset + k] = (float)lw_random_normal(seed, (uint64_t)i, (uint64_t)k);
        }
    }
}

static void remember(fixture *f)
{
    const lw_params *p = &f->wire.params;
    size_t bytes = (size_t)p->elements * sizeof(float);
    memcpy(f->before, p->param, bytes);
    memcpy(f->before + p->elements, p->m, bytes);
    memcpy(f->before + 2 * p->elements, p->v, bytes);
}

static lw_update update_of(double encoder, double adapter, int64_t step)
{
    return (lw_update){.rate = {[LW_RATE_ENCODER] = {encoder, step},
                                [LW_RATE_ADAPTER] = {adapter, step},
                                [LW_RATE_ADAPTER + 1] = {adapter, step}},
                       .beta1 = 0.9,
                       .beta2 = 0.98,
                       .eps = 1e-8,
                       .weight_decay = 0.1,
                       .clip = 1.0};
}

static void test_ranges_cover_everything_once(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f);
    const lw_params *p = &f.wire.params;
    int64_t end = 0;
    assert_int_equal(p->range_count, 6); // encoder and two adapters, with and without decay
    for (int i = 0; i < p->range_count; i++) {
        assert_int_equal(p->ranges[i].first, end);
        end += p->ranges[i].count;
    }
    assert_int_equal(end, p->elements);
    for (int64_t i = 0; i < p->count; i++) {
        const lw_param *q = &p->list[i];
        assert_int_equal(q->rate, strncmp(q->name, "adapter.llama.", 14) == 0  ? LW_RATE_ADAPTER
                                  : strncmp(q->name, "adapter.qwen.", 13) == 0 ? LW_RATE_ADAPTER + 1
                                                                               : LW_RATE_ENCODER);
        for (int r = 0; r < p->range_count; r++) {
            const lw_param_range *range = &p->ranges[r];
            bool inside = q->offset >= range->first && q->offset + q->elements <= range->first + range->count;
            bool outside = q->offset + q->elements <= range->first || q->offset >= range->first + range->count;
            assert_true(inside != outside);
            assert_true(!inside || (range->decay == q->decay && range->rate == q->rate));
        }
    }
    close_fixture(&f);
}

// Same parameters and moments, bit for bit, and a norm of the other tensors alone.
static void check_frozen(lw_rate frozen)
{
    fixture f;
    open_fixture(&f);
    const lw_params *p = &f.wire.params;
    double square = 0.0;
    random_gradients(&f, 1);
    lw_update u = update_of(1e-2, 1e-2, 1);
    lw_wire_update(f.dev, &f.wire, &u); // moments that are not 0
    random_gradients(&f, 2);
    remember(&f);
    for (int64_t i = 0; i < p->count; i++) {
        const lw_param *q = &p->list[i];
        for (int64_t k = 0; k < q->elements && q->rate != frozen; k++) {
            square += pow((double)p->grad[q->offset + k], 2.0);
        }
    }
    u = update_of(1e-2, 1e-2, 2);
    u.rate[frozen].lr = 0.0;
    lw_wire_update(f.dev, &f.wire, &u);
    assert_true(fabs(sqrt((double)*f.wire.sqnorm) / sqrt(square) - 1.0) < 1e-6);
    const float *now[] = {p->param, p->m, p->v};
    for (int64_t i = 0; i < p->count; i++) {
        const lw_param *q = &p->list[i];
        for (int part = 0; part < 3; part++) {
            const float *was = f.before + part * p->elements + q->offset;
            bool same = memcmp(was, now[part] + q->offset, (size_t)q->elements * sizeof(float)) == 0;
            if (same != (q->rate == frozen)) {
                fail_msg("%s, part %d: %s", q->name, part, same ? "did not move" : "moved");
            }
        }
    }
    close_fixture(&f);
}

static void test_a_rate_of_nothing_moves_nothing(void **state)
{
    (void)state;
    check_frozen(LW_RATE_ENCODER);
    check_frozen(LW_RATE_ADAPTER);
    check_frozen(LW_RATE_ADAPTER + 1);
}

static void test_equal_rates_are_one_rate(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f);
    const lw_params *p = &f.wire.params;
    size_t bytes = (size_t)p->elements * sizeof(float);
    random_gradients(&f, 3);
    remember(&f);
    lw_update u = update_of(1e-2, 1e-2, 1);
    lw_wire_update(f.dev, &f.wire, &u);
    for (int half = 0; half < 2; half++) { // the same arithmetic on the copy, half by half
        int64_t first = half == 0 ? 0 : p->decay_elements;
        const lw_adamw a = {.n = (half == 0 ? p->decay_elements : p->elements) - first,
                            .param = f.before + first,
                            .grad = p->grad + first,
                            .m = f.before + p->elements + first,
                            .v = f.before + 2 * p->elements + first,
                            .lr = 1e-2F,
                            .beta1 = 0.9F,
                            .beta2 = 0.98F,
                            .eps = 1e-8F,
                            .weight_decay = half == 0 ? 0.1F : 0.0F,
                            .step = 1,
                            .clip = 1.0F,
                            .grad_sqnorm = f.wire.sqnorm};
        f.dev->ops->adamw(f.dev, &a);
    }
    assert_memory_equal(p->param, f.before, bytes);
    assert_memory_equal(p->m, f.before + p->elements, bytes);
    assert_memory_equal(p->v, f.before + 2 * p->elements, bytes);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges_cover_everything_once),
        cmocka_unit_test(test_a_rate_of_nothing_moves_nothing),
        cmocka_unit_test(test_equal_rates_are_one_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
