// clusters.c: which samples of an evaluation are not independent of each other.
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "eval/eval_internal.h"

typedef struct hashed {
    uint64_t hash;
    int64_t sample;
} hashed;

static int compare_hashed(const void *a, const void *b)
{
    const hashed *x = a;
    const hashed *y = b;
    int order = (x->hash > y->hash) - (x->hash < y->hash);
    return order != 0 ? order : (x->sample > y->sample) - (x->sample < y->sample);
}

// A hash of what the samples of a cluster share. Windows are named after their document and their offset,
// DOCUMENT#BYTE; windows of one document are no more independent than questions about one context.
static uint64_t cluster_hash(const lw_sample *s, uint64_t context_hash)
{
    const char *mark = s->kind == LW_SAMPLE_TEXT ? strrchr(s->id, '#') : NULL;
    return mark != NULL ? lw_xxh64(s->id, (size_t)(mark - s->id), 0) : context_hash;
}

const char *lw_eval_cluster_name(const lw_job *job)
{
    return lw_eval_is_text(job) ? "documents" : "contexts";
}

lw_status lw_eval_clusters(const lw_job *job, lw_eval *e, lw_error *err)
{
    const lw_dataset *d = &job->eval.data;
    int64_t n = job->eval.count;
    hashed *order = calloc((size_t)n, sizeof *order);
    if (order == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the evaluation of %lld samples", (long long)n);
    }
    for (int64_t i = 0; i < n; i++) {
        const char *text = d->samples[i].context[0] != '\0' ? d->samples[i].context : d->samples[i].question;
        e->context_hash[i] = lw_xxh64(text, strlen(text), 0);
        order[i] = (hashed){cluster_hash(&d->samples[i], e->context_hash[i]), i};
    }
    qsort(order, (size_t)n, sizeof *order, compare_hashed);
    for (int64_t k = 0; k < n; k++) {
        e->clusters += k == 0 || order[k].hash != order[k - 1].hash;
        e->cluster[order[k].sample] = e->clusters - 1;
    }
    free(order);
    return LW_OK;
}
