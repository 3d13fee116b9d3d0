// The safetensors reader on hostile files: headers, lengths, indexes of shards, and a small fuzzer.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
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

// Opening fails with this status, with a message that holds the path of the file at fault and `words`.
static void expect_refusal(const char *path, const char *at_fault, lw_status status, const char *words)
{
    lw_safetensors *file = NULL;
    err.text[0] = '\0';
    lw_status got = lw_safetensors_open(path, &err, &file);
    if (got != status || strstr(err.text, words) == NULL || strstr(err.text, at_fault) == NULL) {
        fail_msg("expected %s with \"%s\" and \"%s\", got %s: %s", lw_status_name(status), at_fault, words,
                 lw_status_name(got), err.text);
    }
    assert_null(file);
}

// --- what is refused

#define T(dtype, shape, offsets) "{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_hostile_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *words;
    } cases[] = {
        // JSON
        {"", 0, "does not begin with '{'"},
        {"[]", 0, "does not begin with '{'"},
        {" {}", 0, "does not begin with '{'"},
        {"{", 0, "not valid JSON"},
        {"{}{}", 0, "not valid JSON"},
        {"{\"a\":" T("\"F32\"", "[1]", "[0,4]") ",}", 4, "not valid JSON"},
        {"{\"\\u0000\":" T("\"F32\"", "[1]", "[0,4]") "}", 4, "not valid JSON"},
        {"{\"\xff\":" T("\"F32\"", "[1]", "[0,4]") "}", 4, "not valid JSON"},
        {"{\"a\":" T("\"F32\"", "[1]", "[0,4]") ",\"a\":" T("\"F32\"", "[1]", "[4,8]") "}", 8, "duplicate"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "duplicate"},
        // metadata
        {"{\"__metadata__\":1}", 0, "__metadata__ is not an object of strings"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__ is not an object of strings"},
        // types
        {"{\"a\":1}", 0, "\"a\": expected an object, got an integer"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "\"a.dtype\" is missing"},
        {"{\"a\":" T("7", "[1]", "[0,4]") "}", 4, "\"a.dtype\": expected a string"},
        {"{\"a\":" T("\"F32F32F32F32F32F32\"", "[1]", "[0,4]") "}", 4, "not a dtype of the format"},
        // shapes
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "\"a.shape\" is missing"},
        {"{\"a\":" T("\"F32\"", "1", "[0,4]") "}", 4, "\"a.shape\": expected an array"},
        {"{\"a\":" T("\"F32\"", "[\"1\"]", "[0,4]") "}", 4, "a.shape[0] is not an integer"},
        {"{\"a\":" T("\"F32\"", "[1.0]", "[0,4]") "}", 4, "a.shape[0] is not an integer"},
        {"{\"a\":" T("\"F32\"", "[1,-1]", "[0,4]") "}", 4, "a.shape[1] is not an integer of at least 0"},
        {"{\"a\":" T("\"F32\"", "[-1,-1]", "[0,4]") "}", 4, "a.shape[0] is not an integer of at least 0"},
        {"{\"a\":" T("\"F32\"", "[9223372036854775808]", "[0,4]") "}", 4, "a.shape[0] is not an integer"},
        {"{\"a\":" T("\"F32\"", "[4294967296,4294967296]", "[0,0]") "}", 0, "elements overflows"},
        {"{\"a\":" T("\"F32\"", "[4294967297,4294967296,2]", "[0,0]") "}", 0, "elements overflows"},
        {"{\"a\":" T("\"F32\"", "[4611686018427387904]", "[0,0]") "}", 0, "bytes overflows"},
        {"{\"a\":" T("\"F32\"", "[2305843009213693952]", "[0,0]") "}", 0, "bytes overflows"},
        {"{\"a\":" T("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "9 dimensions"},
        // offsets
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "\"a.data_offsets\" is missing"},
        {"{\"a\":" T("\"F32\"", "[1]", "[0]") "}", 4, "not a pair of integers"},
        {"{\"a\":" T("\"F32\"", "[1]", "[0,4,8]") "}", 4, "not a pair of integers"},
        {"{\"a\":" T("\"F32\"", "[1]", "[0,4.0]") "}", 4, "not a pair of integers"},
        {"{\"a\":" T("\"F32\"", "[1]", "[4,0]") "}", 4, "do not lie within the 4 bytes"},
        {"{\"a\":" T("\"F32\"", "[1]", "[-4,0]") "}", 4, "do not lie within"},
        {"{\"a\":" T("\"F32\"", "[2]", "[0,8]") "}", 7, "damaged or truncated"},
        {"{\"a\":" T("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]") "}", 4, "do not lie within"},
        // size against shape
        {"{\"a\":" T("\"F32\"", "[2]", "[0,4]") "}", 4, "span 4 bytes, but the shape has 2 elements of F32, 8 bytes"},
        {"{\"a\":" T("\"F32\"", "[1]", "[0,8]") "}", 8, "span 8 bytes"},
        {"{\"a\":" T("\"F32\"", "[]", "[0,0]") "}", 0, "span 0 bytes"},
        {"{\"a\":" T("\"F4\"", "[3]", "[0,1]") "}", 1, "span 1 bytes"},
        {"{\"a\":" T("\"I64\"", "[1]", "[0,4]") "}", 4, "span 4 bytes"},
        // coverage
        {"{\"a\":" T("\"F32\"", "[2]", "[0,8]") ",\"b\":" T("\"F32\"", "[1]", "[4,8]") "}", 8,
         "tensors a and b overlap"},
        {"{\"a\":" T("\"F32\"", "[1]", "[0,4]") ",\"b\":" T("\"F32\"", "[1]", "[0,4]") "}", 4, "overlap"},
        {"{\"a\":" T("\"F32\"", "[2]", "[0,8]") ",\"b\":" T("\"F32\"", "[0]", "[4,4]") "}", 8, "overlap"},
        {"{\"a\":" T("\"F32\"", "[1]", "[4,8]") "}", 8, "4 bytes before tensor a belong to no tensor"},
        {"{\"a\":" T("\"F32\"", "[1]", "[0,4]") "}", 5, "1 bytes after the last tensor"},
        {"{}", 1, "1 bytes after the last tensor"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = scratch_put_safetensors("hostile.safetensors", cases[i].header, cases[i].data_bytes);
        expect_refusal(path, path, LW_ERR_FORMAT, cases[i].words);
    }
}

static void test_hostile_files(void **state)
{
    (void)state;
    const char *path = scratch_path("file.safetensors");
    scratch_put(path, "", 0);
    expect_refusal(path, path, LW_ERR_FORMAT, "empty or truncated");
    scratch_put(path, "\2\0\0\0\0\0\0", 7);
    expect_refusal(path, path, LW_ERR_FORMAT, "empty or truncated");
    scratch_put(path, "\3\0\0\0\0\0\0\0{}", 10);
    expect_refusal(path, path, LW_ERR_FORMAT, "header of 3 bytes in a file of 10");
    scratch_put(path, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    expect_refusal(path, path, LW_ERR_FORMAT, "header of 18446744073709551615 bytes");
    scratch_put(path, "\xf8\xff\xff\xff\xff\xff\xff\xff{}", 10); // plus 8 it wraps to 0
    expect_refusal(path, path, LW_ERR_FORMAT, "header of 18446744073709551608 bytes");
    scratch_put(path, "\1\xe1\xf5\5\0\0\0\0{}", 10); // 100,000,001, in a file that is long enough: the cap speaks
    assert_int_equal(truncate(path, 100000100), 0);
    expect_refusal(path, path, LW_ERR_FORMAT, "at most 100000000 are allowed");
    expect_refusal(scratch_path("absent.safetensors"), scratch_path("absent.safetensors"), LW_ERR_IO, "No such file");
    const char *pipe = scratch_path("pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    expect_refusal(pipe, pipe, LW_ERR_IO, "not a regular file"); // and does not wait for a writer
    if (geteuid() != 0) {                                        // root reads everything
        scratch_put(path, "\2\0\0\0\0\0\0\0{}", 10);
        assert_int_equal(chmod(path, 0), 0);
        expect_refusal(path, path, LW_ERR_IO, "Permission denied");
        assert_int_equal(chmod(path, 0600), 0);
    }
}

// Control characters of a file do not reach the terminal.
static void test_messages_are_printable(void **state)
{
    (void)state;
    const char *path =
        scratch_put_safetensors("escape.safetensors", "{\"a\\u001b[2J\":" T("\"F32\"", "[2]", "[0,4]") "}", 4);
    expect_refusal(path, "a\\x1b[2J", LW_ERR_FORMAT, "span 4 bytes");
    assert_null(strchr(err.text, '\x1b'));
    char header[3000] = "{\"";
    memset(header + 2, 'n', 2000);
    strcpy(header + 2002, "\":1}");
    path = scratch_put_safetensors("long.safetensors", header, 0);
    expect_refusal(path, path, LW_ERR_FORMAT, "nnn...");
}

// --- directories

#define INDEX "model.safetensors.index.json"

static const char *make_folder(const char *name)
{
    const char *path = scratch_path(name);
    assert_int_equal(mkdir(path, 0755), 0);
    return path;
}

static void put_index(const char *text)
{
    scratch_put(scratch_path("m/" INDEX), text, strlen(text));
}

static void test_sharded_directory(void **state)
{
    (void)state;
    char folder[256];
    strcpy(folder, make_folder("m"));
    expect_refusal(folder, folder, LW_ERR_IO, "neither model.safetensors nor " INDEX);
    scratch_put_safetensors("m/1.safetensors",
                            "{\"__metadata__\":{\"k\":\"one\"},\"b\":" T("\"F32\"", "[1]", "[0,4]") "}", 4);
    scratch_put_safetensors("m/2.safetensors",
                            "{\"__metadata__\":{\"k\":\"two\",\"l\":\"2\"},\"a\":" T(
                                "\"F32\"", "[1]", "[4,8]") ",\"c\":" T("\"F32\"", "[1]", "[0,4]") "}",
                            8);
    put_index("{\"metadata\":{\"total_size\":12},\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\","
              "\"c\":\"2.safetensors\"}}");
    lw_safetensors *file = open_good(folder);
    assert_int_equal(lw_safetensors_count(file), 3);
    static const char *const names[] = {"a", "b", "c"};
    static const unsigned char first_byte[] = {4, 0, 0};
    for (int i = 0; i < 3; i++) {
        assert_string_equal(lw_safetensors_at(file, i)->name, names[i]);
        assert_int_equal(*(const unsigned char *)lw_safetensors_find(file, names[i])->data, first_byte[i]);
    }
    assert_string_equal(lw_safetensors_path(file), folder);
    assert_string_equal(lw_safetensors_metadata(file, "l"), "2");
    assert_string_equal(lw_safetensors_metadata(file, "k"), "two"); // the first shard of the index
    lw_safetensors_close(&file);
    // A single file goes before the index, as in transformers.
    scratch_put_safetensors("m/model.safetensors", "{}", 0);
    file = open_good(folder);
    assert_int_equal(lw_safetensors_count(file), 0);
    lw_safetensors_close(&file);
    assert_int_equal(unlink(scratch_path("m/model.safetensors")), 0);
}

static void test_hostile_index(void **state)
{
    (void)state;
    static const struct {
        const char *index;
        const char *at_fault;
        lw_status status;
        const char *words;
    } cases[] = {
        {"", INDEX, LW_ERR_FORMAT, "not valid JSON"},
        {"[]", INDEX, LW_ERR_FORMAT, "expected a JSON object, got an array"},
        {"{}", INDEX, LW_ERR_FORMAT, "\"weight_map\" is missing"},
        {"{\"weight_map\":[]}", INDEX, LW_ERR_FORMAT, "\"weight_map\": expected an object"},
        {"{\"weight_map\":{}}", INDEX, LW_ERR_FORMAT, "names 0 files"},
        {"{\"weight_map\":{\"b\":1}}", INDEX, LW_ERR_FORMAT, "file of tensor b is not a string"},
        {"{\"weight_map\":{\"b\":\"../1.safetensors\"}}", INDEX, LW_ERR_FORMAT, "not a name in the directory"},
        {"{\"weight_map\":{\"b\":\"x/../../1.safetensors\"}}", INDEX, LW_ERR_FORMAT, "not a name in the directory"},
        {"{\"weight_map\":{\"b\":\"x/..\"}}", INDEX, LW_ERR_FORMAT, "not a name in the directory"},
        {"{\"weight_map\":{\"b\":\"..\"}}", INDEX, LW_ERR_FORMAT, "not a name in the directory"},
        {"{\"weight_map\":{\"b\":\"/etc/passwd\"}}", INDEX, LW_ERR_FORMAT, "not a name in the directory"},
        {"{\"weight_map\":{\"b\":\"\"}}", INDEX, LW_ERR_FORMAT, "not a name in the directory"},
        {"{\"weight_map\":{\"b\":\".\"}}", INDEX, LW_ERR_FORMAT, "not a name in the directory"},
        {"{\"weight_map\":{\"b\":\"./1.safetensors\"}}", INDEX, LW_ERR_FORMAT, "not a name in the directory"},
        {"{\"weight_map\":{\"b\":\"link/1.safetensors\"}}", INDEX, LW_ERR_FORMAT, "not a name in the directory"},
        {"{\"weight_map\":{\"b\":\"1\\u001b[2J\"}}", INDEX, LW_ERR_FORMAT, "not a name in the directory"},
        {"{\"weight_map\":{\"b\":\"1.safetensors\\u0000.x\"}}", INDEX, LW_ERR_FORMAT, "not valid JSON"},
        {"{\"weight_map\":{\"b\":\"3.safetensors\"}}", "m/3.safetensors", LW_ERR_IO, "No such file"},
        {"{\"weight_map\":{\"b\":\"2.safetensors\"}}", INDEX, LW_ERR_FORMAT, "tensor b is not in "},
        {"{\"weight_map\":{\"b\":\"1.safetensors\",\"d\":\"1.safetensors\"}}", INDEX, LW_ERR_FORMAT,
         "tensor d is not in "},
        {"{\"weight_map\":{\"b\":\"2.safetensors\",\"a\":\"1.safetensors\"}}", INDEX, LW_ERR_FORMAT, " is not in "},
        {"{\"weight_map\":{\"b\":\"1.safetensors\",\"b\":\"2.safetensors\"}}", INDEX, LW_ERR_FORMAT, "duplicate"},
        {"{\"weight_map\":{\"b\":\"1.safetensors\",\"a\":\"b-again.safetensors\"}}", "b-again.safetensors",
         LW_ERR_FORMAT, "tensor b is in both"},
        {"{\"weight_map\":{\"b\":\"" INDEX "\"}}", INDEX, LW_ERR_FORMAT, "not a safetensors file"},
    };
    scratch_put_safetensors("m/b-again.safetensors",
                            "{\"a\":" T("\"F32\"", "[1]", "[0,4]") ",\"b\":" T("\"F32\"", "[1]", "[4,8]") "}", 8);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_index(cases[i].index);
        expect_refusal(scratch_path("m"), cases[i].at_fault, cases[i].status, cases[i].words);
    }
}

// --- fuzzing

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

static uint64_t random_next(uint64_t *state) // SplitMix64 (Steele et al. 2014)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

// What holds for every file that opens: views inside the file, sizes that fit, all data covered once; all readable.
static void check_open_file(const lw_safetensors *file, size_t file_bytes, const unsigned char *image)
{
    uint64_t header_bytes = 0;
    memcpy(&header_bytes, image, 8);
    size_t sum = 0;
    for (int64_t i = 0; i < lw_safetensors_count(file); i++) {
        const lw_tensor_view *view = lw_safetensors_at(file, i);
        assert_ptr_equal(lw_safetensors_find(file, view->name), view);
        assert_true(view->elements >= 0 && view->rank >= 0 && view->rank <= LW_MAX_DIMS);
        sum += view->bytes;
        assert_true(sum <= file_bytes - 8 - header_bytes);
        volatile unsigned char touched = 0;
        for (size_t k = 0; k < view->bytes; k++) {
            touched = (unsigned char)(touched ^ ((const unsigned char *)view->data)[k]);
        }
        if (view->known) {
            assert_int_equal((size_t)view->elements * lw_dtype_bytes(view->dtype), view->bytes);
            float *out = malloc((size_t)view->elements * sizeof *out + 1);
            assert_non_null(out);
            (void)lw_tensor_to_f32(view, &err, out);
            free(out);
        }
    }
    assert_int_equal(sum, file_bytes - 8 - header_bytes);
}

// Changes the image in one to four places: bits, bytes, digits and punctuation of the header, copied pieces.
static size_t mutate(unsigned char *image, size_t bytes, size_t header_end, uint64_t *random)
{
    static const char alphabet[] = "0123456789-.e[]{},:\"F32IBU \\";
    int changes = 1 + (int)(random_next(random) % 4);
    for (int c = 0; c < changes; c++) {
        uint64_t r = random_next(random);
        size_t at = (r >> 8) % (r & 16 ? bytes : header_end);
        switch (r & 3) {
        case 0: image[at] ^= (unsigned char)(1u << (r >> 40 & 7)); break;
        case 1: image[at] = (unsigned char)(r >> 48); break;
        case 2: image[at] = (unsigned char)alphabet[(r >> 40) % (sizeof alphabet - 1)]; break;
        default: {
            size_t from = (r >> 32) % header_end;
            size_t n = 1 + (r >> 56) % 16;
            n = n > bytes - at ? bytes - at : n;
            n = n > bytes - from ? bytes - from : n;
            memmove(image + at, image + from, n);
        }
        }
    }
    return random_next(random) % 4 == 0 ? random_next(random) % (bytes + 1) : bytes;
}

// The valid file is one page long, so reading past it meets no mapped zeros that would hide the mistake.
static void test_fuzz(void **state)
{
    (void)state;
    enum { PAGE = 4096, VARIANTS = 12000 };
    static float filler[PAGE];
    lw_tensor_source padded[SOURCES + 1];
    memcpy(padded, sources, sizeof sources);
    padded[SOURCES] = (lw_tensor_source){.name = "filler", .dtype = LW_F16, .rank = 1, .dims = {16}, .data = filler};
    const char *path = scratch_path("fuzz.safetensors");
    char *valid = NULL;
    size_t bytes = 0;
    for (int pass = 0; pass < 2; pass++) { // the second time with the filler that makes up a page
        assert_int_equal(lw_safetensors_write(path, padded, SOURCES + 1, NULL, &err), LW_OK);
        free(valid);
        assert_int_equal(lw_read_file(path, PAGE, &err, &valid, &bytes), LW_OK);
        padded[SOURCES].dims[0] += (int64_t)(PAGE - bytes) / 2;
    }
    assert_true(bytes >= PAGE - 64 && bytes <= PAGE);
    uint64_t header_bytes = 0;
    memcpy(&header_bytes, valid, 8);
    unsigned char image[PAGE];
    uint64_t random = 20240607;
    int opened = 0, refused = 0;
    for (int i = 0; i < VARIANTS; i++) {
        memcpy(image, valid, bytes);
        size_t cut = mutate(image, bytes, 8 + (size_t)header_bytes, &random);
        scratch_put(path, image, cut);
        lw_safetensors *file = NULL;
        err.text[0] = '\0';
        lw_status status = lw_safetensors_open(path, &err, &file);
        if (status == LW_OK) {
            opened++;
            check_open_file(file, cut, image);
            lw_safetensors_close(&file);
        } else {
            refused++;
            assert_true(status == LW_ERR_FORMAT);
            assert_null(file);
            assert_non_null(strstr(err.text, path));
        }
    }
    print_message("fuzz: %d variants opened, %d refused\n", opened, refused);
    assert_true(opened > VARIANTS / 100 && refused > VARIANTS / 4); // it reached both sides
    free(valid);
}

// Every truncation of a valid file is refused, and every single flipped bit leads to a refusal or a sound file.
static void test_every_truncation_and_bit(void **state)
{
    (void)state;
    const char *path = scratch_path("cut.safetensors");
    assert_int_equal(lw_safetensors_write(path, sources, SOURCES, NULL, &err), LW_OK);
    char *valid = NULL;
    size_t bytes = 0;
    assert_int_equal(lw_read_file(path, 4096, &err, &valid, &bytes), LW_OK);
    for (size_t cut = 0; cut < bytes; cut++) {
        scratch_put(path, valid, cut);
        expect_refusal(path, path, LW_ERR_FORMAT, "");
    }
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        valid[bit / 8] = (char)(valid[bit / 8] ^ (1 << bit % 8));
        scratch_put(path, valid, bytes);
        lw_safetensors *file = NULL;
        if (lw_safetensors_open(path, &err, &file) == LW_OK) {
            check_open_file(file, bytes, (const unsigned char *)valid);
            lw_safetensors_close(&file);
        }
        valid[bit / 8] = (char)(valid[bit / 8] ^ (1 << bit % 8));
    }
    free(valid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_hostile_files),
        cmocka_unit_test(test_messages_are_printable),
        cmocka_unit_test(test_sharded_directory),
        cmocka_unit_test(test_hostile_index),
        cmocka_unit_test(test_every_truncation_and_bit),
        cmocka_unit_test(test_fuzz),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
