// against.h: compares an evaluation with that of another run, sample by sample. Local; rank 0.
#ifndef LW_EVAL_AGAINST_H
#define LW_EVAL_AGAINST_H

#include "eval/eval.h"

// The answers that another run gave through its wire.
typedef struct lw_predictions lw_predictions;

// Reads predictions.jsonl of the run directory `path`, or the file `path`, which is untrusted. LW_ERR_IO; LW_ERR_FORMAT
// names the line. The caller owns *out.
lw_status lw_predictions_read(const char *path, lw_error *err, lw_predictions **out);
void lw_predictions_free(lw_predictions **predictions);

// Checks that both runs have the same samples. LW_ERR_CONFIG where they do not, with how many are common, and where a
// sample has another question or context there. `eval` is laid out and need not have run.
lw_status lw_predictions_match(const lw_job *job, const lw_eval *eval, const lw_predictions *other, lw_error *err);

// One figure of both runs, and the difference: here minus there. p: of the sign-flip test (src/eval/bootstrap.h); NAN
// where eval.bootstrap is 0.
typedef struct lw_contrast {
    double here, there;
    lw_estimate difference;
    double p;
} lw_contrast;

typedef struct lw_against {
    int64_t samples, contexts;
    bool scored;                  // whether exact and f1 are there; windows of text have neither
    bool compared[LW_MAX_MODELS]; // the other run has a model of this name
    lw_contrast exact[LW_MAX_MODELS], f1[LW_MAX_MODELS], nll[LW_MAX_MODELS]; // of LW_EVAL_LATENT
} lw_against;

// Comes after lw_eval_run. LW_ERR_CONFIG as lw_predictions_match, and where no model has the same name.
lw_status lw_eval_against(const lw_job *job, const lw_eval *eval, const lw_predictions *other, lw_error *err,
                          lw_against *out);

// The comparison as JSON (new reference), and as a table.
json_t *lw_against_json(const lw_job *job, const lw_against *against, const char *path);
void lw_against_print(const lw_job *job, const lw_against *against, const char *path, FILE *file);

#endif
