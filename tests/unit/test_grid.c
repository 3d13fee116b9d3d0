// test_grid.c: coordinates of ranks, and who owns which LLM.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/grid.h"

// Rank and coordinates are inverse to each other, and the ranks of a tensor group are neighbours.
static void test_coordinates(void **state)
{
    (void)state;
    const lw_grid grid = {.data = 3, .model = 2, .tensor = 4};
    assert_int_equal(lw_grid_ranks(grid), 24);
    for (int rank = 0; rank < 24; rank++) {
        lw_grid_place at = lw_grid_place_of(grid, rank);
        assert_true(at.data >= 0 && at.data < 3 && at.model >= 0 && at.model < 2 && at.tensor >= 0 && at.tensor < 4);
        assert_int_equal(lw_grid_rank(grid, at), rank);
        assert_int_equal(at.tensor, rank % 4);
    }
    lw_grid_place last = lw_grid_place_of(grid, 23);
    assert_true(last.data == 2 && last.model == 1 && last.tensor == 3);
}

static void test_make(void **state)
{
    (void)state;
    lw_error err = {.text = ""};
    lw_grid grid;
    assert_int_equal(lw_grid_make(8, 2, 2, 3, &err, &grid), LW_OK);
    assert_true(grid.data == 2 && grid.model == 2 && grid.tensor == 2);
    assert_int_equal(lw_grid_make(6, 3, 2, 3, &err, &grid), LW_OK);
    assert_true(grid.data == 1);
    assert_int_equal(lw_grid_make(3, 2, 1, 2, &err, &grid), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "does not divide the job's 3 ranks"));
    assert_int_equal(lw_grid_make(1, 1, 2, 2, &err, &grid), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "a multiple of 2 ranks"));
    assert_int_equal(lw_grid_make(4, 4, 1, 2, &err, &grid), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "grid.model = 4, but there are 2 LLMs"));
    assert_int_equal(lw_grid_make(2, 2, 1, 1, &err, &grid), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "there is 1 LLM in models"));
}

static void test_owners(void **state)
{
    (void)state;
    int owner[LW_MAX_MODELS];
    const double pair[] = {16.0, 15.2};
    lw_grid_owners(pair, 2, 2, owner);
    assert_true(owner[0] == 0 && owner[1] == 1);
    const double reversed[] = {15.2, 16.0};
    lw_grid_owners(reversed, 2, 2, owner);
    assert_true(owner[0] == 1 && owner[1] == 0);
    const double five[] = {1.0, 7.0, 2.0, 3.0, 3.0}; // 7 | 3 3 2, and the last to the lesser
    lw_grid_owners(five, 5, 2, owner);
    assert_true(owner[1] == 0 && owner[3] == 1 && owner[4] == 1 && owner[2] == 1 && owner[0] == 0);
    const double equal[LW_MAX_MODELS] = {0.0};
    lw_grid_owners(equal, LW_MAX_MODELS, 1, owner);
    for (int j = 0; j < LW_MAX_MODELS; j++) {
        assert_int_equal(owner[j], 0);
    }
    lw_grid_owners(equal, 4, 2, owner); // sizes that are not known are shared out by number
    assert_true(owner[0] == 0 && owner[1] == 1 && owner[2] == 0 && owner[3] == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coordinates),
        cmocka_unit_test(test_make),
        cmocka_unit_test(test_owners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
