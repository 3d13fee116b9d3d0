// score: SQuAD v1.1 normalisation, exact match and F1. Expected values come from evaluate-v1.1.py's functions.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/score.h"

static lw_error err;

static void normalizes(const char *text, const char *wanted)
{
    char *out;
    size_t bytes;
    assert_int_equal(lw_score_normalize(text, strlen(text), &err, &out, &bytes), LW_OK);
    assert_string_equal(out, wanted);
    assert_int_equal(bytes, strlen(wanted));
    free(out);
}

static void test_normalize(void **state)
{
    (void)state;
    normalizes("", "");
    normalizes("  The  Cat, sat!\n", "cat sat");
    normalizes("A an THE the", "");
    normalizes("theater another banana a1 1a", "theater another banana a1 1a");
    normalizes("U.S.A.", "usa");
    normalizes("a-b", "ab"); // the dash goes first, so "a" is no word of its own
    normalizes("snake_the_case", "snakethecase");
    normalizes("don't $5,000", "dont 5000");
    normalizes("\xE2\x80\x9Cthe end\xE2\x80\x9D", "\xE2\x80\x9C end\xE2\x80\x9D"); // curly quotes are not ASCII
    normalizes("\xC3\x89T\xC3\x89", "\xC3\xA9t\xC3\xA9");
    normalizes("x\xC2\xA0y\xE3\x80\x80z\x1Cw", "x y z w");
    normalizes("\xC4\xB0stanbul", "i\xCC\x87stanbul");                                  // U+0130 becomes two characters
    normalizes("\xCE\x9F\xCE\x94\xCE\x9F\xCE\xA3", "\xCE\xBF\xCE\xB4\xCE\xBF\xCF\x82"); // final sigma
    normalizes("\xCE\xA3\xCE\xA3 \xCE\xA3", "\xCF\x83\xCF\x82 \xCF\x83");
    normalizes("a\xCC\x81", "\xCC\x81");                                  // a mark is no \w: "a" is a word, and goes
    normalizes("a\xC2\xB2 the\xE2\x85\xA7", "a\xC2\xB2 the\xE2\x85\xB7"); // numbers are \w
    normalizes("\xFF"
               "a b",
               "\xEF\xBF\xBD b");
    normalizes("tab\tnew\vline", "tab new line");
}

static lw_score score(const char *prediction, const char *const *golds, int64_t count)
{
    lw_score result = {-1, -1};
    char *copies[4] = {NULL};
    for (int64_t i = 0; i < count; i++) {
        copies[i] = strdup(golds[i]);
    }
    assert_int_equal(lw_score_answer(prediction, strlen(prediction), copies, count, &err, &result), LW_OK);
    for (int64_t i = 0; i < count; i++) {
        free(copies[i]);
    }
    return result;
}

static void scores(const char *prediction, const char *gold, double exact, double f1)
{
    lw_score result = score(prediction, &gold, 1);
    assert_true(result.exact == exact);
    assert_true(result.f1 > f1 - 1e-12 && result.f1 < f1 + 1e-12);
}

static void test_scores(void **state)
{
    (void)state;
    scores("Denver Broncos", "the Denver Broncos.", 1, 1);
    scores("Denver", "Denver Broncos", 0, 2.0 / 3.0);
    scores("Broncos", "Panthers", 0, 0);
    scores("x x x", "x x", 0, 0.8); // words count as often as both have them
    scores("b a c c", "c b d", 0, 2 * (2.0 / 3.0) * (2.0 / 3.0) / (4.0 / 3.0));
    scores("the", "a", 1, 0); // both empty: equal, and no word in common
    scores("", "x", 0, 0);
    const char *const golds[] = {"north side", "the north", "NORTH!"};
    lw_score best = score("north", golds, 3);
    assert_true(best.exact == 1 && best.f1 == 1);
    best = score("north", golds, 1);
    assert_true(best.exact == 0 && best.f1 > 0.66 && best.f1 < 0.67);
    best = score("north", golds, 0);
    assert_true(best.exact == 0 && best.f1 == 0);
}

static void test_nul_in_prediction(void **state)
{
    (void)state;
    char gold_text[] = "x";
    char *golds[] = {gold_text};
    lw_score result;
    assert_int_equal(lw_score_answer("x\0y", 3, golds, 1, &err, &result), LW_OK);
    assert_true(result.exact == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normalize),
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_nul_in_prediction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
