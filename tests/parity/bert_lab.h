// bert_lab.h: a BERT directory against a reference of make_bert.py's layout. A failure ends the program.
#ifndef LW_TEST_BERT_LAB_H
#define LW_TEST_BERT_LAB_H

// Prints the figures; fails where the hidden states of `dir` are further than 1e-5 (relative, over all of them and for
// the worst row) from those of `reference`.
void bert_lab_compare(const char *dir, const char *reference);

#endif
