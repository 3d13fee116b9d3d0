// backbone.h: a model of tests/parity/fixtures read as an encoder's backbone, with low-rank updates, on any device.
// A failure ends the program with its text.
#ifndef LW_TEST_BACKBONE_H
#define LW_TEST_BACKBONE_H

#include "model/decoder.h"

typedef struct backbone {
    lw_device *dev;
    lw_decoder *decoder;
    lw_params params; // of the updates alone; memory on the device
    lw_arena params_memory, pass_memory;
    lw_decoder_pass pass;
    lw_decoder_buffers buffers;
    lw_packing packing;
    void *indices;
    float *d_states; // (rows, d)
    int64_t rows;
} backbone;

typedef struct backbone_options {
    const char *device; // "cpu", ...
    const char *dir;
    int64_t layers; // 0: all
    bool bidirectional;
    int64_t rank; // of the updates; 0: none
    double alpha;
    lw_pass_mode mode;
} backbone_options;

// ids: the sequences one after another, of lengths[0 .. sequences). Memory is poisoned; A and B are 0.
void backbone_open(backbone *b, const backbone_options *options, const int32_t *ids, const int64_t *lengths,
                   int64_t sequences);
void backbone_close(backbone *b);

int64_t backbone_param(const backbone *b, const char *name); // its index; ends the program where there is none

// Writes tensor `index`, and reads it or its gradient; host memory of its elements.
void backbone_set(backbone *b, int64_t index, const float *values);
void backbone_get(backbone *b, int64_t index, bool gradient, float *out);

void backbone_forward(backbone *b, float *states); // (rows, d)
// After a forward pass. Gradients are cleared first.
void backbone_backward(backbone *b, const float *d_states);

void *test_room(int64_t count, size_t size); // zeroed; freed by `free`

#endif
