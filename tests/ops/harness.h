// harness.h: how an operator case is described, run and judged.
//
// A case fills an op_test: buffers (contents before the call and expected afterwards, in double), and a function that
// launches the operator. The harness puts every buffer between guard zones, poisons outputs with NaN, runs the
// operator twice, and checks: guards whole, inputs unchanged, elements outside the operator's reach unchanged, outputs
// within tolerance (relative, in the 2-norm; NaN and infinities where they are expected and nowhere else), and the
// same bits in both runs. Device memory is touched through the operator table only, so every backend runs every case.
#ifndef OPS_HARNESS_H
#define OPS_HARNESS_H

#include <stdbool.h>
#include <stdint.h>

#include "device/device.h"

typedef enum op_role {
    OP_INPUT,  // unchanged by the call
    OP_OUTPUT, // overwritten: NaN before the call
    OP_UPDATE, // read and written
    OP_WORK,   // work space: anything inside, nothing outside
} op_role;

// What is known of an element after the call.
enum { OP_CHECK, OP_KEEP, OP_FINITE };

typedef struct op_buffer {
    const char *name;
    op_role role;
    lw_dtype type;
    int64_t count;
    double *start;        // (count) before the call; NULL: poisoned
    double *expect;       // (count) after the call; NULL for inputs and work space
    unsigned char *state; // (count) OP_CHECK, OP_KEEP, OP_FINITE; NULL: all OP_CHECK
    double tolerance;
} op_buffer;

// A check of every element of a gradient by one number: <direction, out - base> = expect.
typedef struct op_projection {
    int buffer;
    double *direction, *base;
    double expect, norm; // norm: of the gradient along random directions, for the tolerance
} op_projection;

#define OP_MAX_BUFFERS 20
#define OP_MAX_PROJECTIONS 64

typedef struct op_test op_test;
typedef struct op_case op_case;

struct op_test {
    lw_device *dev;
    lw_dtype type; // of the operands that follow the type of the device
    bool perf;     // only time it: no expectations are needed
    const op_case *of;
    const void *context; // of the case, owned by the test
    char shape[160];
    void (*launch)(const op_test *t, void *const *p);
    op_buffer buffer[OP_MAX_BUFFERS];
    int buffers;
    op_projection projection[OP_MAX_PROJECTIONS];
    int projections;
    double flops, bytes; // of one call, for the perf mode
    uint64_t random;
    void **owned; // freed with the test
    int owned_count;
};

typedef struct shape_gemm {
    int64_t m, n, k;
    bool trans_a, trans_b;
    float alpha, beta;
    bool bias;
    int64_t pad; // added to every row stride
    bool nan;    // one NaN in A
    bool apart;  // C_in is a matrix of its own
    bool narrow; // C has the type of A and B
} shape_gemm;

typedef struct shape_rows {
    int64_t rows, d;
    int variant;
} shape_rows;

typedef struct shape_random {
    int64_t n;
    float mean, std;
} shape_random;

typedef struct shape_rope {
    int64_t rows, heads, head_dim, pad;
    bool inverse;
} shape_rope;

typedef struct shape_attention {
    int64_t q_heads, kv_heads, head_dim;
    bool causal;
    int64_t pad; // added to every row stride
    int nq[8], nk[8];
    int sequences;
    int repeat;  // the list of sequences this many times (0: once)
    int key_gap; // unused key rows between the sequences
    bool nan;
} shape_attention;

typedef struct shape_xent {
    int64_t rows, vocab;
    float tau; // 0: no teacher
    bool gradient;
    float scale;  // of the logits
    bool compact; // the teacher has rows for those that distil alone, in another order
} shape_xent;

typedef struct shape_adamw {
    int64_t n;
    float clip;
    int64_t step;
    double sqnorm_factor; // the norm handed over is this times the true one (NaN, infinity)
} shape_adamw;

typedef struct shape_cast {
    int64_t n;
    lw_dtype from, to;
    bool upload; // from host memory
} shape_cast;

struct op_case {
    const char *op;
    void (*build)(op_test *t, const op_case *c);
    bool typed; // run once for each operand type of the device, else with F32
    bool perf;  // for the perf mode only
    union {
        shape_gemm gemm;
        shape_rows rows;
        shape_rope rope;
        shape_attention attention;
        shape_xent xent;
        shape_adamw adamw;
        shape_cast cast;
        shape_random random;
    };
};

// The table: cases_*.c.
extern const op_case gemm_cases[], norm_cases[], row_cases[], attention_cases[], element_cases[], loss_cases[];
extern const int gemm_case_count, norm_case_count, row_case_count, attention_case_count, element_case_count,
    loss_case_count;

// --- for cases

void *op_own(op_test *t, size_t count, size_t size); // zeroed, freed with the test
double op_uniform(op_test *t);                       // [0, 1)
int64_t op_below(op_test *t, int64_t bound);
double op_round(double x, lw_dtype type); // to the nearest value of the type, ties to even
void op_store(lw_dtype type, double x, unsigned char *out);
double op_fetch(lw_dtype type, const unsigned char *in);
double *op_normal(op_test *t, int64_t count, double scale, lw_dtype type); // values that `type` holds exactly
double *op_copy(op_test *t, int64_t count, const double *x);
double *op_rounded(op_test *t, int64_t count, const double *x, lw_dtype type);
void op_describe(op_test *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

// These return the index of the buffer, which is its place in `p` of launch.
int op_input(op_test *t, const char *name, lw_dtype type, int64_t count, double *values);
int op_index(op_test *t, const char *name, int64_t count, const int32_t *values);
int op_output(op_test *t, const char *name, lw_dtype type, int64_t count, double tolerance);
int op_update(op_test *t, const char *name, lw_dtype type, int64_t count, double *before, double tolerance);
int op_work(op_test *t, const char *name, size_t bytes);
double op_tolerance(const op_test *t, double f32); // f32, or 1e-2 where the test is in bf16

// Expects buffer `b` to be [before +] the gradient of loss(context) with respect to x (count elements, perturbed in
// place and restored), by central differences: for every element when there are at most `limit`, else for a sample and
// along random directions that involve all of them. Elements whose state is OP_KEEP are left out.
typedef double (*op_loss)(void *context);
void op_expect_gradient(op_test *t, int b, double *x, op_loss loss, void *context, int64_t limit);

// --- for main

// Runs one case; false when it failed, with the reason printed.
bool op_run(op_test *t);
void op_time(op_test *t);
void op_release(op_test *t);

// Products of the sizes of real models (cases_large.c) whose names are wanted, counted.
typedef bool (*op_wanted)(const char *name, const void *context);
void op_large_products(lw_device *dev, op_wanted wanted, const void *context, int *passed, int *failed);

#endif
