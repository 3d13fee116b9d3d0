// What a pass is laid out with: arena, flat parameters, packed sequences.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/arena.h"
#include "device/params.h"
#include "kernels/devices.h"
#include "model/packing.h"

// --- arena

static void test_arena_measures_what_it_places(void **state)
{
    (void)state;
    _Alignas(256) static unsigned char memory[4096];
    lw_arena measured = lw_arena_measure();
    lw_arena real = {0};
    float *last = NULL;
    for (int pass = 0; pass < 2; pass++) {
        lw_arena *a = pass == 0 ? &measured : &real;
        if (pass == 1) {
            real = lw_arena_over(memory, measured.high_water_bytes);
        }
        float *first = LW_TAKE(a, 3, float);
        lw_arena_mark mark = lw_arena_save(a);
        LW_TAKE(a, 300, float);
        lw_arena_rewind(a, mark);
        last = LW_TAKE(a, 10, float);
        assert_int_equal(LW_TAKE(a, 0, float) == NULL, pass == 0);
        assert_int_equal(first == NULL, pass == 0);
    }
    assert_int_equal(measured.high_water_bytes, 256 + 1280); // the larger of the two alternatives
    assert_int_equal(real.high_water_bytes, measured.high_water_bytes);
    assert_false(real.overflow);
    assert_ptr_equal(last, memory + 256);
    assert_null(LW_TAKE(&real, 4096, float));
    assert_true(real.overflow);
}

static void test_arena_sizes_that_overflow(void **state)
{
    (void)state;
    lw_arena a = lw_arena_measure();
    assert_null(LW_TAKE(&a, INT64_MAX, double));
    assert_true(a.overflow);
    a = lw_arena_measure();
    LW_TAKE(&a, INT64_MAX, char);
    LW_TAKE(&a, INT64_MAX, char);
    LW_TAKE(&a, INT64_MAX, char);
    assert_true(a.overflow);
    a = lw_arena_measure();
    assert_null(LW_TAKE(&a, -1, char));
    assert_true(a.overflow);
    lw_error err = {{0}};
    lw_arena out = {0};
    assert_int_equal(lw_arena_alloc(NULL, &a, "a step", &err, &out), LW_ERR_MEMORY);
    assert_non_null(strstr(err.text, "a step"));
}

typedef struct two_buffers {
    int calls;
    int64_t more; // floats that the second call takes beyond those of the first
    float *a, *b;
} two_buffers;

static lw_status two_layout(void *context, lw_arena *arena, lw_error *err)
{
    (void)err;
    two_buffers *two = context;
    two->a = LW_TAKE(arena, 100, float);
    two->b = LW_TAKE(arena, 100 + two->more * two->calls, float);
    two->calls++;
    return LW_OK;
}

static lw_status failing_layout(void *context, lw_arena *arena, lw_error *err)
{
    two_buffers *two = context;
    LW_TRY(two_layout(context, arena, err));
    return two->calls == 2 ? lw_fail(err, LW_ERR_MEMORY, "the second time") : LW_OK;
}

static void test_arena_place(void **state)
{
    (void)state;
    lw_error err = {{0}};
    lw_device *dev = NULL;
    lw_arena memory = {0};
    two_buffers two = {0};
    assert_int_equal(lw_device_open("cpu", 0, 1, &err, &dev), LW_OK);
    assert_int_equal(lw_arena_place(dev, "two", two_layout, &two, &err, &memory), LW_OK);
    assert_int_equal(two.calls, 2);
    assert_int_equal(memory.size_bytes, 1024);
    assert_ptr_equal(two.a, memory.base);
    assert_ptr_equal(two.b, memory.base + 512);
    assert_int_equal(dev->allocated_bytes, 1024);
    lw_arena_free(dev, &memory);
    // Failures leave nothing behind: a layout that fails once there is memory, and one that grows.
    two = (two_buffers){0};
    assert_int_equal(lw_arena_place(dev, "two", failing_layout, &two, &err, &memory), LW_ERR_MEMORY);
    assert_string_equal(err.text, "the second time");
    two = (two_buffers){.more = 1000};
    assert_int_equal(lw_arena_place(dev, "two", two_layout, &two, &err, &memory), LW_ERR_INTERNAL);
    assert_non_null(strstr(err.text, "two: more was placed than was measured"));
    assert_null(memory.base);
    assert_int_equal(dev->allocated_bytes, 0);
    lw_device_close(&dev);
}

// --- parameters

static void test_parameters_do_not_overlap(void **state)
{
    (void)state;
    lw_params p = {0};
    for (int i = 0; i < 100; i++) { // more than one growth of the table
        lw_param d = {.dims = {1 + i % 37, i % 3 == 0 ? 0 : i % 5 + 1},
                      .init = lw_init_normal,
                      .scale = 1.0,
                      .decay = i % 2 == 0};
        d.name[0] = (char)('a' + i / 26);
        d.name[1] = (char)('a' + i % 26);
        assert_int_equal(lw_params_add(&p, &d), i);
    }
    lw_error err = {{0}};
    assert_int_equal(lw_params_place(&p, &err), LW_OK);
    unsigned char *used = calloc((size_t)p.elements, 1);
    float *values = malloc((size_t)p.elements * sizeof *values);
    float *again = malloc((size_t)p.elements * sizeof *again);
    assert_true(used != NULL && values != NULL && again != NULL);
    for (int64_t i = 0; i < p.count; i++) {
        const lw_param *q = &p.list[i];
        assert_int_equal(q->elements, q->dims[0] * (q->dims[1] > 0 ? q->dims[1] : 1));
        assert_int_equal(q->offset % 16, 0);
        assert_true(q->offset + q->elements <= p.elements);
        assert_int_equal(q->offset < p.decay_elements, q->decay);
        assert_true(!q->decay || q->offset + q->elements <= p.decay_elements);
        for (int64_t k = 0; k < q->elements; k++) {
            assert_int_equal(used[q->offset + k]++, 0);
        }
    }
    lw_params_init(&p, 3, values);
    lw_params_init(&p, 3, again);
    assert_memory_equal(values, again, (size_t)p.elements * sizeof *values);
    for (int64_t k = 0; k < p.elements; k++) {
        assert_true(used[k] != 0 || values[k] == 0.0F); // padding stays 0, so it adds nothing to a norm
    }
    lw_params_init(&p, 4, again);
    assert_int_not_equal(memcmp(values, again, (size_t)p.elements * sizeof *values), 0);
    assert_memory_not_equal(values + p.list[1].offset, values + p.list[3].offset, 2 * sizeof *values);
    free(used);
    free(values);
    free(again);
    lw_params_free(&p);
}

// Initial values depend on name, shape and seed, not on what else is declared.
static void test_initial_values_are_a_function_of_the_name(void **state)
{
    (void)state;
    lw_param wanted = {.name = "x.weight", .dims = {5, 3}, .init = lw_init_normal, .scale = 2.0};
    lw_param other = {.name = "y.weight", .dims = {50, 3}, .init = lw_init_constant, .scale = 2.0, .decay = true};
    float values[2][256];
    int64_t at[2];
    for (int with = 0; with < 2; with++) {
        lw_params p = {0};
        if (with == 1) {
            lw_params_add(&p, &other);
        }
        int index = lw_params_add(&p, &wanted);
        lw_error err = {{0}};
        assert_int_equal(lw_params_place(&p, &err), LW_OK);
        assert_true(p.elements <= 256);
        lw_params_init(&p, 1, values[with]);
        at[with] = p.list[index].offset;
        lw_params_free(&p);
    }
    assert_memory_equal(values[0] + at[0], values[1] + at[1], 15 * sizeof(float));
}

// --- packing

static void test_packing(void **state)
{
    (void)state;
    const lw_pass_limits limits = {.sequences = 2, .rows = 9, .prefix_rows = 4, .supervised = 3, .max_len = 6};
    const int32_t a[] = {10, 11};
    const int32_t b[] = {20, 21, 22};
    const int32_t rows_of_tokens[] = {2, 3, 4, 7, 8};
    const int32_t ids[] = {10, 11, 20, 10, 11};
    const int32_t positions[] = {0, 1, 2, 3, 4, 0, 1, 2, 3};
    const int32_t prefix_rows[] = {0, 1, 5, 6};
    const int32_t prefix_source[] = {0, 1, 2, 3};
    lw_packing p;
    lw_error err;
    unsigned char device[8192];
    assert_true(lw_packing_device_bytes(&limits) <= sizeof device);
    assert_int_equal(lw_packing_create(&limits, device, &err, &p), LW_OK);
    for (int pass = 0; pass < 2; pass++) { // clear makes it as new
        lw_packing_clear(&p);
        assert_int_equal(lw_packing_extend(&p, a, 1), -1);       // no sequence yet
        assert_int_equal(lw_packing_add(&p, 0, 0, a, 0, 0), -1); // a sequence of nothing
        assert_int_equal(p.sequences, 0);
        assert_int_equal(lw_packing_add(&p, 0, 2, a, 2, 0), 0);
        assert_int_equal(lw_packing_extend(&p, b, 1), 4);
        assert_int_equal(lw_packing_extend(&p, b, 0), 5);
        assert_int_equal(lw_packing_add(&p, 2, 3, a, 1, 0), -1); // prefix rows
        assert_int_equal(lw_packing_add(&p, 2, 2, a, 3, 0), -1); // rows
        assert_int_equal(lw_packing_add(&p, 2, 2, a, 2, 0), 5);
        assert_int_equal(lw_packing_add(&p, 0, 0, a, 1, 0), -1); // sequences
        assert_int_equal(lw_packing_extend(&p, b, 1), -1);
        assert_int_equal(p.sequences, 2);
        assert_int_equal(p.rows, 9);
        assert_int_equal(p.tokens, 5);
        assert_int_equal(p.prefix_rows, 4);
        assert_int_equal(p.max_q, 5);
        assert_int_equal(p.max_k, 5);
        assert_memory_equal(p.at.start, ((int32_t[]){0, 5, 9}), 3 * sizeof(int32_t));
        assert_memory_equal(p.at.key_start, ((int32_t[]){0, 5}), 2 * sizeof(int32_t));
        assert_memory_equal(p.at.key_len, ((int32_t[]){5, 4}), 2 * sizeof(int32_t));
        assert_memory_equal(p.at.position, positions, sizeof positions);
        assert_memory_equal(p.at.token_row, rows_of_tokens, sizeof rows_of_tokens);
        assert_memory_equal(p.at.token_id, ids, sizeof ids);
        assert_memory_equal(p.at.prefix_row, prefix_rows, sizeof prefix_rows);
        assert_memory_equal(p.at.prefix_source, prefix_source, sizeof prefix_source);
        for (int i = 0; i < 3; i++) {
            assert_true(lw_packing_score(&p, 3 + i, i, 0.5F));
        }
        assert_false(lw_packing_score(&p, 0, 0, 0.5F));
        assert_int_equal(p.supervised, 3);
    }
    lw_packing_free(&p);
}

// A chunk of a sequence whose earlier keys are in a cache.
static void test_packing_with_a_cache(void **state)
{
    (void)state;
    const lw_pass_limits limits = {.sequences = 3, .rows = 6, .prefix_rows = 0, .supervised = 3, .max_len = 10};
    const int32_t tokens[] = {1, 2, 3};
    lw_packing p;
    lw_error err;
    unsigned char device[8192];
    assert_int_equal(lw_packing_create(&limits, device, &err, &p), LW_OK);
    lw_packing_clear(&p);
    assert_int_equal(lw_packing_add(&p, 0, 0, tokens, 2, 5), 0);
    lw_packing_use_cache(&p, 2, 10);
    assert_int_equal(lw_packing_add(&p, 0, 0, tokens, 1, 7), 2);
    lw_packing_use_cache(&p, 0, 10);
    assert_memory_equal(p.at.key_start, ((int32_t[]){20, 0}), 2 * sizeof(int32_t));
    assert_memory_equal(p.at.key_len, ((int32_t[]){7, 8}), 2 * sizeof(int32_t));
    assert_memory_equal(p.at.cache_row, ((int32_t[]){25, 26, 7}), 3 * sizeof(int32_t));
    assert_int_equal(p.max_q, 2);
    assert_int_equal(p.max_k, 8);
    lw_packing_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_measures_what_it_places),
        cmocka_unit_test(test_arena_sizes_that_overflow),
        cmocka_unit_test(test_arena_place),
        cmocka_unit_test(test_parameters_do_not_overlap),
        cmocka_unit_test(test_initial_values_are_a_function_of_the_name),
        cmocka_unit_test(test_packing),
        cmocka_unit_test(test_packing_with_a_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
