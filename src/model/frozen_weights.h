// frozen_weights.h: the tensors of a frozen model, from a Hugging Face directory (or random) to their places on the
// device. Local.
#ifndef LW_FROZEN_WEIGHTS_H
#define LW_FROZEN_WEIGHTS_H

#include "device/device.h"
#include "io/safetensors.h"

// One tensor and its place.
typedef struct lw_weight {
    char name[128];
    char old_name[128]; // read where `name` is not in the file; "": none
    int rank;
    int64_t dims[2];
    int64_t elements;
    float mean;    // of random weights
    lw_dtype type; // on the device
    void *out;
    float sqnorm; // sum of squares, once checked
    const lw_tensor_view *view;
} lw_weight;

typedef struct lw_weight_list {
    lw_weight *items; // owned
    int64_t count, capacity;
    bool overflow;      // more were added than there is room for: a bug, reported by lw_weights_check
    const char *prefix; // names are also looked for with this in front; NULL: not
} lw_weight_list;

// Room for `capacity` tensors; the caller frees *out.
lw_status lw_weight_list_create(int64_t capacity, lw_error *err, lw_weight_list *out);
void lw_weight_list_free(lw_weight_list *list);
void lw_weight_list_add(lw_weight_list *list, const char *name, int rank, const int64_t *dims, float mean,
                        lw_dtype type, void *out);

// Enqueues the upload of all tensors of DIR/model.safetensors, or of its shards. *bytes: of the files that were read.
// *fingerprint: XXH3 of the tensors, in the order of the list, as they are in the files. Messages name file and tensor.
lw_status lw_weights_read(lw_device *dev, const char *dir, lw_weight_list *list, lw_error *err, size_t *bytes,
                          uint64_t *fingerprint);
// Normal numbers of standard deviation 0.02 around `mean` instead. *fingerprint stands for the seed.
lw_status lw_weights_random(lw_device *dev, const lw_weight_list *list, uint64_t seed, uint64_t *fingerprint);
// Looks at what is on the device: LW_ERR_FORMAT where a number is not finite. `from` begins the message. Fills sqnorm.
lw_status lw_weights_check(lw_device *dev, const char *from, lw_weight_list *list, lw_error *err);

// y (rows, out) = x (rows, in) W^T; W (out, in) and x of the device's frozen type.
lw_gemm lw_frozen_product(const lw_device *dev, int64_t rows, int64_t in, int64_t out, const void *x, const void *w,
                          void *y, lw_dtype y_type);
// Enqueues it, with bias (out) and residual (rows, out; of the type of y) where they are not NULL.
void lw_frozen_project(lw_device *dev, int64_t rows, int64_t in, int64_t out, const void *x, const void *w,
                       const float *bias, const void *residual, void *y, lw_dtype y_type);
// Enqueues dx (rows, in) = dy (rows, out) W; dy of the device's frozen type.
void lw_frozen_project_backward(lw_device *dev, int64_t rows, int64_t in, int64_t out, const void *dy, const void *w,
                                void *dx, lw_dtype dx_type);

#endif
