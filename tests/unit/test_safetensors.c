// The safetensors reader and writer: round trips, failures of the writer, exact conversions, what is accepted.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/files.h"
#include "io/safetensors.h"
#include "scratch.h"

static lw_error err;

static lw_safetensors *open_good(const char *path)
{
    lw_safetensors *file = NULL;
    if (lw_safetensors_open(path, &err, &file) != LW_OK) {
        fail_msg("%s", err.text);
    }
    return file;
}

// --- writing and reading back

static const float f32_data[6] = {1.5f, -2.0f, 0.0f, INFINITY, 1e-40f, 3.25f};
static const uint16_t bf16_data[3] = {0x3f80, 0xc000, 0x0001};
static const int32_t i32_data[2] = {-1, INT32_MAX};
static const uint16_t scalar_data[1] = {0x3c00};

static const lw_tensor_source sources[] = {
    {.name = "w.bf16", .dtype = LW_BF16, .rank = 1, .dims = {3}, .data = bf16_data},
    {.name = "b.f32", .dtype = LW_F32, .rank = 2, .dims = {2, 3}, .data = f32_data},
    {.name = "empty", .dtype = LW_F32, .rank = 2, .dims = {4, 0}, .data = NULL},
    {.name = "ids", .dtype = LW_I32, .rank = 1, .dims = {2}, .data = i32_data},
    {.name = "\"quoted\" \xc3\xa9", .dtype = LW_F16, .rank = 0, .data = scalar_data},
};
enum { SOURCES = sizeof sources / sizeof sources[0] };
static const char *const metadata[] = {"step", "120", "note", "a \"b\"\n", NULL};

static void test_round_trip(void **state)
{
    (void)state;
    const char *path = scratch_path("round.safetensors");
    assert_int_equal(lw_safetensors_write(path, sources, SOURCES, metadata, &err), LW_OK);
    lw_safetensors *file = open_good(path);
    assert_string_equal(lw_safetensors_path(file), path);
    assert_int_equal(lw_safetensors_count(file), SOURCES);
    for (int64_t i = 1; i < SOURCES; i++) {
        assert_true(strcmp(lw_safetensors_at(file, i - 1)->name, lw_safetensors_at(file, i)->name) < 0);
    }
    for (int i = 0; i < SOURCES; i++) {
        const lw_tensor_source *source = &sources[i];
        const lw_tensor_view *view = lw_safetensors_find(file, source->name);
        assert_non_null(view);
        assert_string_equal(view->name, source->name);
        assert_true(view->known);
        assert_int_equal(view->dtype, source->dtype);
        assert_string_equal(view->dtype_name, lw_dtype_name(source->dtype));
        assert_int_equal(view->rank, source->rank);
        int64_t elements = 1;
        for (int k = 0; k < source->rank; k++) {
            assert_int_equal(view->dims[k], source->dims[k]);
            elements *= source->dims[k];
        }
        assert_int_equal(view->elements, elements);
        assert_int_equal(view->bytes, (size_t)elements * lw_dtype_bytes(source->dtype));
        assert_int_equal((uintptr_t)view->data % lw_dtype_bytes(source->dtype), 0);
        if (view->bytes > 0) {
            assert_memory_equal(view->data, source->data, view->bytes);
        }
    }
    assert_string_equal(lw_safetensors_metadata(file, "step"), "120");
    assert_string_equal(lw_safetensors_metadata(file, "note"), "a \"b\"\n");
    assert_null(lw_safetensors_metadata(file, "absent"));
    assert_null(lw_safetensors_find(file, "w.bf"));
    lw_safetensors_close(&file);
    assert_null(file);
    lw_safetensors_close(&file); // once more is harmless
}

static void test_write_is_deterministic(void **state)
{
    (void)state;
    char *text[2];
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        const char *path = scratch_path("same.safetensors");
        assert_int_equal(lw_safetensors_write(path, sources, SOURCES, metadata, &err), LW_OK);
        assert_int_equal(lw_read_file(path, 1 << 20, &err, &text[i], &bytes[i]), LW_OK);
    }
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(text[0], text[1], bytes[0]);
    free(text[0]);
    free(text[1]);
}

static void test_no_tensors(void **state)
{
    (void)state;
    const char *path = scratch_path("none.safetensors");
    assert_int_equal(lw_safetensors_write(path, NULL, 0, NULL, &err), LW_OK);
    lw_safetensors *file = open_good(path);
    assert_int_equal(lw_safetensors_count(file), 0);
    assert_null(lw_safetensors_find(file, "x"));
    assert_null(lw_safetensors_metadata(file, "x"));
    lw_safetensors_close(&file);
}

static int count_files(const char *path)
{
    DIR *d = opendir(path);
    assert_non_null(d);
    int count = 0;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        count += e->d_name[0] != '.';
    }
    closedir(d);
    return count;
}

// Whatever goes wrong, the file that was there stays, and nothing else is left in the folder.
static void test_write_failures(void **state)
{
    (void)state;
    const char *folder = scratch_path("kept");
    assert_int_equal(mkdir(folder, 0755), 0);
    const char *path = scratch_path("kept/old.safetensors");
    scratch_put(path, "old", 3);
    static const lw_tensor_source bad[][2] = {
        {{.name = "a", .rank = 1, .dims = {1}, .data = f32_data},
         {.name = "a", .rank = 1, .dims = {1}, .data = f32_data}},
        {{.name = "", .rank = 1, .dims = {1}, .data = f32_data}, {.name = "b", .rank = 0, .data = f32_data}},
        {{.name = "__metadata__", .rank = 0, .data = f32_data}, {.name = "b", .rank = 0, .data = f32_data}},
        {{.name = "\xff\xfe", .rank = 0, .data = f32_data}, {.name = "b", .rank = 0, .data = f32_data}},
        {{.name = "a", .rank = 1, .dims = {-1}, .data = f32_data}, {.name = "b", .rank = 0, .data = f32_data}},
        {{.name = "a", .rank = 9, .data = f32_data}, {.name = "b", .rank = 0, .data = f32_data}},
        {{.name = "a", .rank = 1, .dims = {2}, .data = NULL}, {.name = "b", .rank = 0, .data = f32_data}},
        {{.name = "a", .rank = 2, .dims = {INT64_MAX / 2, 3}, .data = f32_data},
         {.name = "b", .rank = 0, .data = f32_data}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(lw_safetensors_write(path, bad[i], 2, NULL, &err), LW_ERR_INTERNAL);
        assert_non_null(strstr(err.text, path));
    }
    static const char *const odd[] = {"key", NULL};
    assert_int_equal(lw_safetensors_write(path, sources, SOURCES, odd, &err), LW_ERR_INTERNAL);
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(lw_read_file(path, 100, &err, &text, &bytes), LW_OK);
    assert_string_equal(text, "old");
    free(text);
    assert_int_equal(count_files(folder), 1);
    assert_int_equal(lw_safetensors_write(folder, sources, SOURCES, NULL, &err), LW_ERR_IO); // a directory
    assert_int_equal(lw_safetensors_write(scratch_path("absent/x"), sources, SOURCES, NULL, &err), LW_ERR_IO);
    assert_int_equal(lw_safetensors_write(path, sources, SOURCES, NULL, &err), LW_OK); // and a good one replaces it
    assert_int_equal(count_files(folder), 1);
    lw_safetensors *file = open_good(path);
    lw_safetensors_close(&file);
}

// --- conversions

static float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

// Every 16-bit pattern, read from an odd address, against arithmetic in double.
static void test_all_16_bit_patterns(void **state)
{
    (void)state;
    enum { N = 65536 };
    unsigned char *raw = malloc(2 * N + 1);
    float *out = malloc(N * sizeof *out);
    assert_non_null(raw);
    assert_non_null(out);
    for (uint32_t i = 0; i < N; i++) {
        uint16_t x = (uint16_t)i;
        memcpy(raw + 1 + 2 * i, &x, 2);
    }
    lw_tensor_view view = {
        .name = "x", .known = true, .dtype = LW_BF16, .elements = N, .bytes = 2 * N, .data = raw + 1};
    assert_int_equal(lw_tensor_to_f32(&view, &err, out), LW_OK);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(bits_of_float(out[i]), i << 16);
    }
    view.dtype = LW_F16;
    assert_int_equal(lw_tensor_to_f32(&view, &err, out), LW_OK);
    for (uint32_t i = 0; i < N; i++) {
        int exponent = (int)(i >> 10 & 31);
        uint32_t mantissa = i & 1023;
        uint32_t sign = i >> 15 << 31;
        if (exponent == 31) { // infinity, or a NaN with its payload
            assert_int_equal(bits_of_float(out[i]), sign | 0x7f800000u | mantissa << 13);
            continue;
        }
        double value = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
        assert_int_equal(bits_of_float(out[i]), sign | bits_of_float((float)value));
    }
    free(raw);
    free(out);
}

static void test_conversion_of_odd_counts(void **state)
{
    (void)state;
    static const uint16_t half[19] = {0x3c00, 0x4000, 0xc200, 0x0001, 0x7bff, 0x8000, 0x3555, 0x3800, 0x2e66, 0x5640,
                                      0x3c00, 0x4000, 0xc200, 0x0001, 0x7bff, 0x8000, 0x3555, 0x3800, 0x2e66};
    static const float expected[5] = {1.0f, 2.0f, -3.0f, 0x1p-24f, 65504.0f};
    for (int64_t n = 0; n <= 19; n++) { // also where the vector loop ends, and nothing is written past the end
        float out[20];
        for (int i = 0; i < 20; i++) {
            out[i] = 77.0f;
        }
        lw_tensor_view view = {
            .name = "x", .known = true, .dtype = LW_F16, .elements = n, .bytes = 2 * (size_t)n, .data = half};
        assert_int_equal(lw_tensor_to_f32(&view, &err, out), LW_OK);
        for (int64_t i = 0; i < 20; i++) {
            bool written = i < n;
            assert_true(written || bits_of_float(out[i]) == bits_of_float(77.0f));
            if (written && i < 5) {
                assert_int_equal(bits_of_float(out[i]), bits_of_float(expected[i]));
            }
        }
    }
}

static void test_f32_is_copied_bit_by_bit(void **state)
{
    (void)state;
    const float in[4] = {float_of_bits(0x7f800001), float_of_bits(0xffc12345), float_of_bits(1), -0.0f};
    unsigned char raw[17];
    memcpy(raw + 1, in, sizeof in);
    float out[4];
    lw_tensor_view view = {.name = "x", .known = true, .dtype = LW_F32, .elements = 4, .bytes = 16, .data = raw + 1};
    assert_int_equal(lw_tensor_to_f32(&view, &err, out), LW_OK);
    assert_memory_equal(out, raw + 1, 16);
    view.dtype = LW_I32;
    strcpy(view.dtype_name, "I32");
    assert_int_equal(lw_tensor_to_f32(&view, &err, out), LW_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "I32"));
    view.known = false;
    view.dtype = LW_F32;
    assert_int_equal(lw_tensor_to_f32(&view, &err, out), LW_ERR_UNSUPPORTED);
}

// --- what is accepted

static void test_good_files(void **state)
{
    (void)state;
    // Any order of names and offsets, other dtypes of the format, empty tensors, keys that mean nothing to us.
    const char *path =
        scratch_put_safetensors("good.safetensors",
                                "{\"z\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[4,20]},"
                                "\"a\":{\"shape\":[],\"data_offsets\":[0,4],\"dtype\":\"F32\",\"extra\":1},"
                                "\"e\":{\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
                                "\"f8\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[20,23]},"
                                "\"new\":{\"dtype\":\"X9\",\"shape\":[5],\"data_offsets\":[23,24]}}   ",
                                24);
    lw_safetensors *file = open_good(path);
    assert_int_equal(lw_safetensors_count(file), 5);
    const lw_tensor_view *view = NULL;
    static const unsigned char first[4] = {0, 1, 2, 3};
    assert_int_equal(lw_safetensors_require(file, "a", 0, NULL, &err, &view), LW_OK);
    assert_memory_equal(view->data, first, 4);
    assert_int_equal(view->elements, 1);
    float x;
    assert_int_equal(lw_tensor_to_f32(view, &err, &x), LW_OK);
    assert_int_equal(bits_of_float(x), 0x03020100);

    // `require` names file, tensor and dtype or shapes.
    static const int64_t two[] = {2}, three[] = {3}, any[] = {-1}, one_two[] = {1, 2};
    assert_int_equal(lw_safetensors_require(file, "z", 1, two, &err, &view), LW_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "I64"));
    assert_non_null(strstr(err.text, path));
    assert_int_equal(lw_safetensors_require(file, "f8", 1, three, &err, &view), LW_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "F8_E4M3"));
    assert_int_equal(lw_safetensors_require(file, "z", 1, three, &err, &view), LW_ERR_FORMAT);
    assert_non_null(strstr(err.text, "(2), expected (3)"));
    assert_int_equal(lw_safetensors_require(file, "z", 2, one_two, &err, &view), LW_ERR_FORMAT);
    assert_non_null(strstr(err.text, "(2), expected (1, 2)"));
    assert_int_equal(lw_safetensors_require(file, "b", 1, any, &err, &view), LW_ERR_FORMAT);
    assert_non_null(strstr(err.text, "tensor b is missing"));
    assert_string_equal(view->name, "a"); // outputs of a failure are untouched
    lw_safetensors_close(&file);

    file = open_good(scratch_put_safetensors("meta.safetensors", "{\"__metadata__\":{\"format\":\"pt\"}}", 0));
    assert_int_equal(lw_safetensors_count(file), 0);
    assert_string_equal(lw_safetensors_metadata(file, "format"), "pt");
    lw_safetensors_close(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_write_is_deterministic),
        cmocka_unit_test(test_no_tensors),
        cmocka_unit_test(test_write_failures),
        cmocka_unit_test(test_all_16_bit_patterns),
        cmocka_unit_test(test_conversion_of_odd_counts),
        cmocka_unit_test(test_f32_is_copied_bit_by_bit),
        cmocka_unit_test(test_good_files),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
