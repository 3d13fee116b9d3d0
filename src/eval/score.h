// score.h: exact match and token F1 of an answer, as the official SQuAD v1.1 script (evaluate-v1.1.py) computes them.
//
// Text is lower-cased (Unicode), loses ASCII punctuation, the words a, an, the, and surplus white space. F1 counts the
// words that prediction and gold answer share, with multiplicity. Both are the best over all gold answers. All
// functions are Local.
#ifndef LW_SCORE_H
#define LW_SCORE_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct lw_score {
    double exact; // 0 or 1
    double f1;    // 0 .. 1
} lw_score;

// Normalised text, words with one space between them. Bytes that are not UTF-8 count as U+FFFD. malloc'd, with a NUL
// after its *out_bytes bytes (it holds others only where the text did). LW_ERR_MEMORY. For tests.
lw_status lw_score_normalize(const char *text, size_t bytes, lw_error *err, char **out, size_t *out_bytes);

// `prediction` (bytes long) against answer_count gold answers. No gold answer scores 0.
lw_status lw_score_answer(const char *prediction, size_t bytes, char *const *answers, int64_t answer_count,
                          lw_error *err, lw_score *out);

#endif
