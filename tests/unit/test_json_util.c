// Typed JSON getters: values, fallbacks, and messages that name place, key and expectation.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/json.h"
#include "scratch.h"

static lw_error err;

static void expect_message(lw_status got, const char *text)
{
    assert_int_equal(got, LW_ERR_FORMAT);
    assert_string_equal(err.text, text);
}

static json_t *parse(const char *text, int flags)
{
    json_t *value = NULL;
    if (lw_json_parse("t.json", text, strlen(text), flags, &err, &value) != LW_OK) {
        fail_msg("%s", err.text);
    }
    return value;
}

static void test_getters(void **state)
{
    (void)state;
    json_t *root =
        parse("{\"i\":5,\"r\":2.5,\"e\":1e3,\"t\":true,\"s\":\"x\",\"n\":null,\"a\":[1],\"o\":{\"k\":-7}}", 0);
    lw_json at;
    assert_int_equal(lw_json_object_at(root, "t.json", "", &err, &at), LW_OK);
    int64_t i = 0;
    double d = 0.0;
    bool b = false;
    const char *s = NULL;
    const json_t *v = NULL;
    assert_int_equal(lw_json_int(&at, "i", 5, 5, &err, &i), LW_OK);
    assert_int_equal(i, 5);
    assert_int_equal(lw_json_int(&at, "e", 0, 1000, &err, &i), LW_OK);
    assert_int_equal(i, 1000);
    assert_int_equal(lw_json_double(&at, "i", 0.0, 9.0, &err, &d), LW_OK);
    assert_true(d == 5.0);
    assert_int_equal(lw_json_double(&at, "r", 0.0, 9.0, &err, &d), LW_OK);
    assert_true(d == 2.5);
    assert_int_equal(lw_json_bool(&at, "t", &err, &b), LW_OK);
    assert_true(b);
    assert_int_equal(lw_json_string(&at, "s", &err, &s), LW_OK);
    assert_string_equal(s, "x");
    assert_int_equal(lw_json_array(&at, "a", &err, &v), LW_OK);
    assert_int_equal(json_array_size(v), 1);
    assert_int_equal(lw_json_child(&at, "o", &err, &v), LW_OK);
    lw_json inner;
    assert_int_equal(lw_json_object_at(v, "t.json", "o.", &err, &inner), LW_OK);
    assert_int_equal(lw_json_int(&inner, "k", -9, 9, &err, &i), LW_OK);
    assert_int_equal(i, -7);
    assert_true(lw_json_has(&at, "i") && !lw_json_has(&at, "n") && !lw_json_has(&at, "absent"));

    // Failures leave the outputs alone.
    i = 77;
    expect_message(lw_json_int(&at, "absent", 0, 9, &err, &i), "t.json: the required key \"absent\" is missing");
    expect_message(lw_json_int(&at, "n", 0, 9, &err, &i), "t.json: the required key \"n\" is null");
    expect_message(lw_json_int(&at, "r", 0, 9, &err, &i), "t.json: \"r\": expected an integer, got 2.5");
    expect_message(lw_json_int(&at, "i", 6, 9, &err, &i), "t.json: \"i\": 5 is out of range, expected 6 to 9");
    expect_message(lw_json_int(&inner, "k", 0, 9, &err, &i), "t.json: \"o.k\": -7 is out of range, expected 0 to 9");
    expect_message(lw_json_int(&at, "s", 0, 9, &err, &i), "t.json: \"s\": expected an integer, got the string \"x\"");
    assert_int_equal(i, 77);
    expect_message(lw_json_double(&at, "t", 0, 9, &err, &d), "t.json: \"t\": expected a number, got true");
    expect_message(lw_json_double(&at, "r", 0, 1, &err, &d), "t.json: \"r\": 2.5 is out of range, expected 0 to 1");
    expect_message(lw_json_bool(&at, "i", &err, &b), "t.json: \"i\": expected true or false, got 5");
    expect_message(lw_json_string(&at, "a", &err, &s), "t.json: \"a\": expected a string, got an array");
    expect_message(lw_json_array(&at, "o", &err, &v), "t.json: \"o\": expected an array, got an object");
    expect_message(lw_json_child(&at, "i", &err, &v), "t.json: \"i\": expected an object, got 5");
    expect_message(lw_json_object_at(json_object_get(root, "a"), "t.json", "a.", &err, &inner),
                   "t.json: \"a\": expected an object, got an array");
    expect_message(lw_json_object_at(NULL, "t.json", "", &err, &inner), "t.json: expected an object, got nothing");

    // Fallbacks: for absent and null, not for a wrong type.
    assert_int_equal(lw_json_int_or(&at, "n", 0, 9, -1, &err, &i), LW_OK);
    assert_int_equal(i, -1);
    assert_int_equal(lw_json_double_or(&at, "absent", 0, 9, 0.5, &err, &d), LW_OK);
    assert_true(d == 0.5);
    assert_int_equal(lw_json_bool_or(&at, "absent", true, &err, &b), LW_OK);
    assert_true(b);
    assert_int_equal(lw_json_string_or(&at, "n", "y", &err, &s), LW_OK);
    assert_string_equal(s, "y");
    expect_message(lw_json_int_or(&at, "s", 0, 9, -1, &err, &i),
                   "t.json: \"s\": expected an integer, got the string \"x\"");
    expect_message(lw_json_string_or(&at, "i", "y", &err, &s), "t.json: \"i\": expected a string, got 5");
    json_decref(root);
}

static void refuse(const char *text, size_t bytes, int flags, const char *words)
{
    json_t *value = NULL;
    assert_int_equal(lw_json_parse("rows:17", text, bytes, flags, &err, &value), LW_ERR_FORMAT);
    assert_null(value);
    if (strncmp(err.text, "rows:17: not valid JSON at line ", 32) != 0 || strstr(err.text, words) == NULL) {
        fail_msg("expected \"%s\", got: %s", words, err.text);
    }
}

static void test_parse(void **state)
{
    (void)state;
    refuse("", 0, 0, "");
    refuse("{\"a\":1", 6, 0, "column 6");
    refuse("{} x", 4, 0, "");
    refuse("{\"a\":NaN}", 9, 0, "");
    refuse("\"\xc3\x28\"", 4, 0, "unable to decode");
    refuse("\"a\\u0000b\"", 10, 0, "");
    refuse("{\"a\":1,\"a\":2}", 13, LW_JSON_REJECT_DUPLICATES, "duplicate");
    char *deep = malloc(100000);
    assert_non_null(deep);
    memset(deep, '[', 100000);
    refuse(deep, 100000, 0, "");
    free(deep);

    json_t *value = parse("{\"a\":1,\"a\":2}", 0);
    assert_int_equal(json_integer_value(json_object_get(value, "a")), 2);
    json_decref(value);
    // Beyond 64 bits: read as reals, and too large for an integer.
    value = parse("{\"limit\":1000000000000000019884624838656,\"n\":3}", 0);
    lw_json at = {.object = value, .where = "t.json", .parent = ""};
    int64_t i = 0;
    assert_int_equal(lw_json_int(&at, "n", 0, 9, &err, &i), LW_OK);
    assert_int_equal(i, 3);
    assert_int_equal(lw_json_int(&at, "limit", INT64_MIN, INT64_MAX, &err, &i), LW_ERR_FORMAT); // not cast to something
    assert_non_null(strstr(err.text, "expected an integer"));
    json_decref(value);
    // NUL: only where asked for, and then only with a length.
    value = parse("{\"a\":\"x\\u0000y\"}", LW_JSON_ALLOW_NUL);
    at.object = value;
    const char *s = NULL;
    size_t bytes = 0;
    expect_message(lw_json_string(&at, "a", &err, &s), "t.json: \"a\": the string holds a NUL character");
    assert_int_equal(lw_json_text(&at, "a", &err, &s, &bytes), LW_OK);
    assert_int_equal(bytes, 3);
    assert_memory_equal(s, "x\0y", 3);
    json_decref(value);
}

static void test_read_file(void **state)
{
    (void)state;
    json_t *value = NULL;
    const char *path = scratch_path("x.json");
    assert_int_equal(lw_json_read_file(path, 100, 0, &err, &value), LW_ERR_IO);
    scratch_put(path, "[1]", 3);
    assert_int_equal(lw_json_read_file(path, 100, 0, &err, &value), LW_ERR_FORMAT);
    assert_non_null(strstr(err.text, "x.json: expected a JSON object, got an array"));
    scratch_put(path, "{\"a\":1}", 7);
    assert_int_equal(lw_json_read_file(path, 6, 0, &err, &value), LW_ERR_FORMAT);
    assert_null(value);
    assert_int_equal(lw_json_read_file(path, 7, 0, &err, &value), LW_OK);
    assert_int_equal(json_object_size(value), 1);
    json_decref(value);
}

static void test_printable(void **state)
{
    (void)state;
    char out[12];
    assert_string_equal(lw_printable("plain", out, sizeof out), "plain");
    assert_string_equal(lw_printable("a\n\x1b", out, sizeof out), "a\\x0a\\x1b");
    assert_string_equal(lw_printable("a\n\x1bzzz", out, sizeof out), "a\\x0a...");
    assert_string_equal(lw_printable("12345678901", out, sizeof out), "12345678901"); // fits exactly
    assert_string_equal(lw_printable("12345678901234567890", out, sizeof out), "12345678...");
    assert_string_equal(lw_printable("", out, sizeof out), "");
    char wide[64];
    assert_string_equal(lw_printable("\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80", wide, sizeof wide),
                        "\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80");
    assert_string_equal(lw_printable("1234567\xc3\xa9\xc3\xa9\xc3\xa9", out, sizeof out),
                        "1234567...");                                                              // never half of one
    assert_string_equal(lw_printable("\xc2\x9b\xc2\xa0", wide, sizeof wide), "\\xc2\\x9b\xc2\xa0"); // C1: CSI
    assert_string_equal(lw_printable("a\xff\xc3", wide, sizeof wide), "a\\xff\\xc3");
    assert_string_equal(lw_printable("\xed\xa0\x80z\x7f", wide, sizeof wide), "\\xed\\xa0\\x80z\\x7f");
    // Right-to-left override, line separator, isolate.
    assert_string_equal(lw_printable("\xe2\x80\xae|\xe2\x80\xa8|\xe2\x81\xa6", wide, sizeof wide),
                        "\\xe2\\x80\\xae|\\xe2\\x80\\xa8|\\xe2\\x81\\xa6");
    assert_true(lw_is_printable("caf\xc3\xa9 \xe2\x80\x93"));
    assert_false(lw_is_printable("a\nb") || lw_is_printable("\xe2\x80\xae") || lw_is_printable("\xff"));
    char *lines = lw_printable_lines("a\n\x1b[2J\n");
    assert_string_equal(lines, "a\n\\x1b[2J\n");
    free(lines);
    for (size_t room = 8; room <= 40; room++) { // never past the end, always terminated
        char text[41];
        memset(text, 'z', sizeof text);
        lw_printable("\1\2\3\4\5\6\7\1\2\3\4\5\6\7", text, room);
        assert_true(strlen(text) < room);
        assert_true(text[room] == 'z');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_getters),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_read_file),
        cmocka_unit_test(test_printable),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
