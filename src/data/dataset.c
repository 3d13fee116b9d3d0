// dataset.c: frees samples and data sets.
#include "data/dataset.h"

#include <stdlib.h>

void lw_sample_free(lw_sample *sample)
{
    for (int64_t i = 0; i < sample->answer_count; i++) {
        free(sample->answers[i]);
    }
    free(sample->answers);
    free(sample->id);
    free(sample->question);
}

void lw_dataset_free(lw_dataset *dataset)
{
    for (int64_t i = 0; i < dataset->count; i++) {
        if (i + 1 == dataset->count || dataset->samples[i].context != dataset->samples[i + 1].context) {
            free(dataset->samples[i].context);
        }
        lw_sample_free(&dataset->samples[i]);
    }
    free(dataset->samples);
    free(dataset->first_bad_row);
    *dataset = (lw_dataset){0};
}
