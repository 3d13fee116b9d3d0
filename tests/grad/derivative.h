// derivative.h: derivatives of an f32 loss by finite differences.
//
// One unit in the last place of a nll is about 3e-7, so a difference over a small h drowns in rounding, and one over a
// large h is bent. How large h may be depends on the tensor: a gain of one element moves everything, an embedding of
// 256 rows hardly anything. So h runs down a ladder of powers of two, each pair of rungs gives a fourth-order estimate
// (Richardson), and the neighbours that agree best are taken. That looks at the loss alone, never at the gradient under
// test.
#ifndef LW_TEST_DERIVATIVE_H
#define LW_TEST_DERIVATIVE_H

#include <stdint.h>

// Of value(context, h) at h = 0. h starts at 1/2: parameters are of order 1 to 0.1.
double derivative(double (*value)(void *context, double h), void *context, double *uncertainty);

// A direction u of length 1 in which to test the gradient g (n). Direction 0 has half of its length along the gradient,
// so that the derivative is never small; the others are random.
void choose_direction(const float *g, int64_t n, int which, uint64_t stream, double *u);

#endif
