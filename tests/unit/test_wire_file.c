// wire_file: latents survive the way through a stream in every number of bits; a file that lies is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"
#include "wire/quantise.h"
#include "wire/wire_file.h"

enum { TEXTS = 3, D_Z = 40, ROWS = 6 };
static const int32_t starts[TEXTS + 1] = {0, 1, 4, ROWS};

static void fill(float *z)
{
    for (int i = 0; i < ROWS * D_Z; i++) {
        z[i] = sinf(0.37F * (float)i) * (1.0F + (float)(i % 7));
    }
}

static void make(int64_t bits, const float *z, lw_wire_set *out)
{
    lw_error err = {{0}};
    static const char *const ids[TEXTS] = {"a", "\"quoted\" \xC3\xA9", "3"};
    *out = (lw_wire_set){
        .count = TEXTS, .bits = bits, .d_z = D_Z, .compress = LW_COMPRESS_CONTEXT, .encoder = 0xFEDCBA9876543210};
    out->items = calloc(TEXTS, sizeof *out->items);
    out->z_start = malloc(sizeof starts);
    out->data = malloc((size_t)(ROWS * lw_quantise_row_bytes(bits, D_Z)));
    memcpy(out->z_start, starts, sizeof starts);
    for (int i = 0; i < TEXTS; i++) {
        out->items[i].id = strdup(ids[i]);
        out->items[i].question = i == 1 ? strdup("Who?\n") : NULL;
    }
    assert_int_equal(lw_quantise_encode(bits, ROWS, D_Z, z, &err, out->data), LW_OK);
}

static void through_a_stream(void **state)
{
    (void)state;
    static const int64_t all_bits[] = {32, 16, 8, 6, 4};
    float z[ROWS * D_Z];
    fill(z);
    for (size_t b = 0; b < sizeof all_bits / sizeof all_bits[0]; b++) {
        lw_error err = {{0}};
        lw_wire_set sent, got;
        float back[3 * D_Z], direct[ROWS * D_Z];
        make(all_bits[b], z, &sent);
        FILE *file = tmpfile();
        assert_non_null(file);
        assert_int_equal(lw_wire_file_print(&sent, file, "test", &err), LW_OK);
        rewind(file);
        assert_int_equal(lw_wire_file_read_stream(file, "test", &err, &got), LW_OK);
        fclose(file);
        assert_int_equal(got.count, TEXTS);
        assert_int_equal(got.bits, all_bits[b]);
        assert_true(got.encoder == sent.encoder && got.compress == LW_COMPRESS_CONTEXT && got.d_z == D_Z);
        assert_string_equal(got.items[1].id, sent.items[1].id);
        assert_string_equal(got.items[1].question, "Who?\n");
        assert_null(got.items[0].question);
        assert_memory_equal(got.z_start, starts, sizeof starts);
        assert_int_equal(lw_quantise_decode(all_bits[b], ROWS, D_Z, sent.data, &err, direct), LW_OK);
        assert_int_equal(lw_wire_decode(&got, 1, 1, &err, back), LW_OK);
        assert_memory_equal(back, direct + D_Z, sizeof back); // rows 1 .. 3
        lw_wire_set_free(&sent);
        lw_wire_set_free(&got);
    }
}

// --- files that lie

typedef struct forged {
    const char *says; // in the message
    const char *bits, *d_z, *encoder, *compress, *items;
    int32_t start[3];
    int64_t rows;
} forged;

static const char good_items[] = "[{\"id\":\"1\"},{\"id\":\"2\",\"question\":\"q\"}]";

static lw_status read_forged(const forged *f, lw_error *err)
{
    float z[8 * D_Z];
    lw_wire_set set = {0};
    memset(z, 0, sizeof z);
    const lw_tensor_source tensors[] = {
        {.name = "latents", .dtype = LW_F32, .rank = 2, .dims = {f->rows, D_Z}, .data = z},
        {.name = "z_start", .dtype = LW_I32, .rank = 1, .dims = {3}, .data = f->start}};
    const char *const metadata[] = {"lwmpi_wire", "1",        "bits",      f->bits, "d_z",    f->d_z, "encoder",
                                    f->encoder,   "compress", f->compress, "items", f->items, NULL};
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(lw_safetensors_print(file, "forged", tensors, 2, metadata, err), LW_OK);
    rewind(file);
    lw_status status = lw_wire_file_read_stream(file, "forged", err, &set);
    fclose(file);
    lw_wire_set_free(&set);
    return status;
}

static void files_that_lie(void **state)
{
    (void)state;
    static const forged all[] = {
        {NULL, "32", "40", "00ff", "context", good_items, {0, 2, 5}, 5},
        {"\"bits\"", "32x", "40", "00ff", "context", good_items, {0, 2, 5}, 5},
        {"in 7 bits", "7", "40", "00ff", "context", good_items, {0, 2, 5}, 5},
        {"\"bits\"", "-8", "40", "00ff", "context", good_items, {0, 2, 5}, 5},
        {"\"d_z\"", "32", "99999999999999999999", "00ff", "context", good_items, {0, 2, 5}, 5},
        {"of 0 numbers", "32", "0", "00ff", "context", good_items, {0, 2, 5}, 5},
        {"5 x 41 F32", "32", "41", "00ff", "context", good_items, {0, 2, 5}, 5},
        {"F16", "16", "40", "00ff", "context", good_items, {0, 2, 5}, 5},
        {"U8", "8", "40", "00ff", "context", good_items, {0, 2, 5}, 5},
        {"\"encoder\"", "32", "40", "xyz", "context", good_items, {0, 2, 5}, 5},
        {"\"encoder\"", "32", "40", "", "context", good_items, {0, 2, 5}, 5},
        {"\"compress\"", "32", "40", "00ff", "both", good_items, {0, 2, 5}, 5},
        {"z_start[0]", "32", "40", "00ff", "context", good_items, {1, 2, 5}, 5},
        {"z_start[1]", "32", "40", "00ff", "context", good_items, {0, 0, 5}, 5},
        {"z_start[2]", "32", "40", "00ff", "context", good_items, {0, 5, -5}, 5},
        {"6 x 40", "32", "40", "00ff", "context", good_items, {0, 2, 6}, 5},
        {"list of its 2 texts", "32", "40", "00ff", "context", "[{\"id\":\"1\"}]", {0, 2, 5}, 5},
        {"two texts", "32", "40", "00ff", "context", "[{\"id\":\"1\"},{\"id\":\"1\"}]", {0, 2, 5}, 5},
        {"id", "32", "40", "00ff", "context", "[{\"id\":1},{\"id\":\"2\"}]", {0, 2, 5}, 5},
        {"forged", "32", "40", "00ff", "context", "[{", {0, 2, 5}, 5},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        lw_error err = {{0}};
        lw_status status = read_forged(&all[i], &err);
        if (all[i].says == NULL) {
            assert_int_equal(status, LW_OK);
        } else if (status != LW_ERR_FORMAT || strstr(err.text, all[i].says) == NULL) {
            fail_msg("case %zu: status %d, \"%s\" does not say %s", i, (int)status, err.text, all[i].says);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(through_a_stream), cmocka_unit_test(files_that_lie)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
