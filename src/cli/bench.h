// bench.h: measures the training step. Collective.
#ifndef LW_BENCH_H
#define LW_BENCH_H

#include "data/sample.h"
#include "job/job.h"
#include "wire/step.h"

typedef struct lw_bench_options {
    int64_t warmup, steps;
    int64_t answer_tokens; // of a sample, end token included
    int64_t source_tokens; // that the encoder reads of a sample
} lw_bench_options;

typedef struct lw_bench_samples {
    lw_token_sample *list;
    int64_t count;
    int32_t *source, *ids; // owned by the samples
} lw_bench_samples;

// Random text in the encoder's alphabet and tokens in the models' vocabularies. Local.
lw_status lw_bench_samples_make(const lw_hf_config *const *configs, int64_t llm_count, int64_t alphabet, int64_t count,
                                const lw_bench_options *options, lw_error *err, lw_bench_samples *out);
void lw_bench_samples_free(lw_bench_samples *samples);

typedef struct lw_bench_times {
    double min_s, median_s, p95_s, max_s;
} lw_bench_times;

typedef struct lw_bench_result {
    lw_bench_times step;                  // a whole step: passes, reduction, update
    double enqueue_s;                     // median time after which a step was enqueued and the host only waited for it
    lw_bench_times products;              // its products alone, in a loop, without biases and residuals
    double product_flop;                  // of this rank's products
    lw_bench_times phase[LW_PHASE_COUNT]; // synchronised after each phase, nothing replayed
    lw_bench_times llm_phase[LW_MAX_MODELS][LW_PHASE_COUNT]; // the same of each LLM alone; 0 where it has none
    lw_gemm largest;                                         // the largest product
    double gemm_flop_per_s;                                  // measured on it, best round
    double gemm_median_flop_per_s;
    double copy_bytes_per_s; // read and written
    size_t peak_bytes;       // of device memory in the steps
} lw_bench_result;

typedef struct lw_bench {
    lw_job *job; // with device, models and wire open
    lw_bench_options options;
    int64_t global, share, micro; // samples of a step, of this rank, of a pass
    lw_step step;
    lw_step_spec spec;
    const lw_token_sample **batch; // (share)
    lw_bench_result result;
} lw_bench;

// Times the steps of this rank into b->result; b->step has been started. Steps and bare products alternate in one loop.
lw_status lw_bench_run(lw_bench *b, lw_error *err);

#endif
