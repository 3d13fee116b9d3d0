// tokens.c: frees the tokens of a data set.
#include "data/tokens.h"

#include <stdlib.h>

static void free_list(lw_token_list *list)
{
    free(list->ids);
    free(list->start);
    *list = (lw_token_list){0};
}

void lw_token_set_free(lw_token_set *set)
{
    free_list(&set->prompt);
    free_list(&set->suffix);
    free_list(&set->answer);
    *set = (lw_token_set){0};
}
