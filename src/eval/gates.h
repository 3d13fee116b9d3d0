// gates.h: checks that must pass before any figure of an evaluation counts, on the configuration's own models and data.
#ifndef LW_GATES_H
#define LW_GATES_H

#include "eval/eval.h"

// X(name, key, meaning)
#define LW_GATES(X)                                                                                                \
    X(LW_GATE_SOFT_TOKENS, "soft_tokens", "the LLM's own embeddings, fed as soft tokens, answer as the text does") \
    X(LW_GATE_LABELS, "labels", "an answer's loss is that of its tokens one by one: labels are shifted once")      \
    X(LW_GATE_PACKING, "packing", "a sample's loss does not depend on what it is packed with")                     \
    X(LW_GATE_TRAINING, "training_loss", "a training step and the evaluation find the same loss")                  \
    X(LW_GATE_LATENTS, "latents", "latents of different texts differ")                                             \
    X(LW_GATE_OVERFIT, "overfit", "items of data.train, learned by heart, come through the wire with F1 1")

typedef enum lw_gate {
#define LW_GATE_ENUM(name, key, meaning) name,
    LW_GATES(LW_GATE_ENUM)
#undef LW_GATE_ENUM
        LW_GATE_COUNT
} lw_gate;

typedef struct lw_gate_result {
    bool passed, skipped; // skipped: these data cannot decide it, so it neither passed nor failed
    double value, limit;  // NAN where skipped
    char text[200];       // what was measured, or why nothing was
} lw_gate_result;

typedef struct lw_gates {
    lw_gate_result gate[LW_GATE_COUNT];
    int failed, skipped;
} lw_gates;

// Training samples that the overfit gate learns; evaluation samples that are searched for different texts.
enum { LW_GATE_ITEMS = 32, LW_GATE_SAMPLES = 128 };

// Runs all gates. `job` is open with at most that much training and evaluation data, and its wire holds the parameters
// to be checked; `eval` is laid out. Every rank does the same work, on its LLMs. The last gate trains: it starts from
// initial parameters, and leaves the trained ones in the wire. A signal stops the gates as it stops an evaluation.
// Collective.
lw_status lw_gates_run(lw_job *job, lw_eval *eval, lw_error *err, lw_gates *out);

// The results as JSON (new reference), and as a table. Local.
json_t *lw_gates_json(const lw_gates *gates);
void lw_gates_print(const lw_gates *gates, FILE *file);

#endif
