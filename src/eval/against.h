// against.h: an evaluation beside that of another run, sample by sample. Local; rank 0.
#ifndef LW_EVAL_AGAINST_H
#define LW_EVAL_AGAINST_H

#include "eval/eval.h"

// The answers of another run through its wire.
typedef struct lw_predictions lw_predictions;

// Reads RUN/predictions.jsonl, or the file itself, which is untrusted. LW_ERR_IO, LW_ERR_FORMAT naming the line.
lw_status lw_predictions_read(const char *path, lw_error *err, lw_predictions **out);
void lw_predictions_free(lw_predictions **predictions);

// Whether both runs are on the same samples: LW_ERR_CONFIG where they do not answer the same ones, with how many are
// common; where a sample has another question or context there. `eval` is laid out and need not have run.
lw_status lw_predictions_match(const lw_job *job, const lw_eval *eval, const lw_predictions *other, lw_error *err);

// One figure of both runs, here less there. p: of the sign-flip test (src/eval/bootstrap.h); NAN where eval.bootstrap
// is 0.
typedef struct lw_contrast {
    double here, there;
    lw_estimate difference;
    double p;
} lw_contrast;

typedef struct lw_against {
    int64_t samples, contexts;
    bool scored;                  // exact and f1 are there: of windows of text they are not
    bool compared[LW_MAX_MODELS]; // the other run has a model of this name
    lw_contrast exact[LW_MAX_MODELS], f1[LW_MAX_MODELS], nll[LW_MAX_MODELS]; // of LW_EVAL_LATENT
} lw_against;

// After lw_eval_run. LW_ERR_CONFIG as lw_predictions_match, and where no model has the same name.
lw_status lw_eval_against(const lw_job *job, const lw_eval *eval, const lw_predictions *other, lw_error *err,
                          lw_against *out);

// New reference. And the same as a table.
json_t *lw_against_json(const lw_job *job, const lw_against *against, const char *path);
void lw_against_print(const lw_job *job, const lw_against *against, const char *path, FILE *file);

#endif
