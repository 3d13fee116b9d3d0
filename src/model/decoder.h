// decoder.h: a frozen causal LLM: forward pass, gradient with respect to its input, cached generation.
//
// Written once against device/device.h; the families (a table in hf_config.c) differ by data (biases, tying, RoPE
// scaling), not by code. Because the weights are frozen, the backward pass is dX = dY W alone and keeps only what that
// needs. As an encoder's backbone the same model is read as states of its rows: its first layers, causal or not, with
// low-rank updates that are trained. Architecture: Touvron et al. 2023; Jiang et al. 2023; Qwen Team 2024; names after
// transformers' modeling_llama, modeling_mistral and modeling_qwen2. All functions are Local.
#ifndef LW_DECODER_H
#define LW_DECODER_H

#include "device/arena.h"
#include "device/device.h"
#include "model/frozen_model.h"
#include "model/hf_config.h"
#include "model/lora.h"
#include "model/packing.h"

typedef struct lw_decoder lw_decoder;

typedef struct lw_decoder_options {
    int64_t max_positions; // the longest sequence that will be run; sizes the RoPE table
    bool random;           // random weights of the shapes in config.json (for benchmarks); no weight file is read
    uint64_t seed;         // of the random weights
    bool backbone;         // load lw_decoder_backbone alone
    int64_t layers;        // of the backbone; 0: all
} lw_decoder_options;

// The part of a model that lw_decoder_states runs, as a model: its first layers (0, or more than it has: all), and no
// output head of its own.
lw_hf_config lw_decoder_backbone(const lw_hf_config *config, int64_t layers);

// Loads DIR/config.json and the weights. Messages name file and tensor.
lw_status lw_decoder_load(lw_device *dev, const char *dir, const lw_decoder_options *options, lw_error *err,
                          lw_decoder **out);
void lw_decoder_destroy(lw_decoder **decoder);

const lw_hf_config *lw_decoder_config(const lw_decoder *decoder);
float lw_decoder_embedding_rms(const lw_decoder *decoder);  // RMS of all elements of the embedding table
uint64_t lw_decoder_fingerprint(const lw_decoder *decoder); // XXH3 of the weights as they are in the files
lw_frozen_figures lw_decoder_load_figures(const lw_decoder *decoder);

// Device bytes of the frozen weights in `type`, without reading any: what lw_decoder_load allocates.
size_t lw_decoder_weight_bytes(const lw_hf_config *config, lw_dtype type, int64_t max_positions);

// Rows of the embedding table, as a pass looks them up: soft (count, d) on the device, of the tokens ids (count), on
// the device too. Enqueued.
void lw_decoder_embed(const lw_decoder *decoder, int64_t count, const int32_t *ids, float *soft);

// --- one pass over packed sequences
// Buffers of a pass. The layout is one function for training (keeps what the backward pass needs) and for scoring or
// generation (keeps nothing between layers). Buffers of several decoders may share memory: only one pass is live.
typedef enum lw_pass_mode { LW_PASS_TRAIN, LW_PASS_INFER } lw_pass_mode;

typedef struct lw_decoder_layer_buffers {
    float *x_in, *x_mid;       // (rows, d) residual stream before attention and before the MLP
    float *rstd_in, *rstd_mid; // (rows)
    void *qkv;                 // (rows, (heads + 2 kv_heads) head_dim), rotated
    void *attn;                // (rows, heads head_dim)
    float *lse;                // (rows, heads)
    void *gate_up;             // (rows, 2 ffn)
} lw_decoder_layer_buffers;

// What runs in a pass; {.mode = m} is the LLM as it is.
typedef struct lw_decoder_pass {
    lw_pass_mode mode;
    int64_t layers;     // the first of them; 0: all
    bool bidirectional; // every row sees its whole sequence
    bool states;        // for lw_decoder_states; else for lw_decoder_forward, with room for logits
    bool no_logits;     // up to lw_decoder_hidden, which needs no such room; mode LW_PASS_INFER
    lw_lora lora;       // rank 0: none; only with `states`
} lw_decoder_pass;

typedef struct lw_decoder_buffers {
    lw_decoder_pass pass;
    lw_pass_limits limits;
    lw_decoder_layer_buffers *layers; // host array of `layers` entries, owned; infer: all entries share memory
    int64_t layer_count;
    float *x_out;       // (rows, d) after the last layer
    void *normed;       // (rows, d) operand of the products after a norm
    void *mlp;          // (rows, ffn)
    float *scored;      // (supervised, d)
    float *scored_rstd; // (supervised)
    float *states;      // (supervised, d) their final-norm states; with pass.states, in place of hidden .. argmax
    void *hidden;     // (supervised + teachers, d) final-norm hidden states; the teacher's follow the last of the pass
    float *logits;    // (supervised + teachers, vocab) of these; NULL with pass.no_logits, as the next three
    float *nll;       // (supervised)
    float *kl;        // (supervised) of the teacher's rows; NULL where limits.teachers is 0
    int32_t *argmax;  // (supervised)
    float *dx;        // (rows, d) train only, from here on
    void *dx_operand; // (rows, d) dx as an operand; is dx where the operand type is f32
    float *dnormed;   // (rows, d)
    void *dmlp, *dgate_up, *dattn, *dqkv;
    float *dscored;        // (supervised, d)
    void *dlogits_operand; // (supervised, vocab)
    void *work;            // attention
    lw_lora_buffers lora;
} lw_decoder_buffers;

// Call with a measuring arena, then with the real one. The host array is allocated at each call: free it with
// lw_decoder_buffers_free. params: placed, those that pass->lora was declared in; NULL without it. pass->layers may
// exceed those of the model, which are then all taken.
lw_status lw_decoder_pass_layout(lw_arena *arena, lw_device *dev, const lw_hf_config *config, const lw_params *params,
                                 const lw_decoder_pass *pass, const lw_pass_limits *limits, lw_error *err,
                                 lw_decoder_buffers *out);
void lw_decoder_buffers_free(lw_decoder_buffers *buffers);

// Keys and values of earlier positions, (slots * capacity, kv_heads head_dim) per layer.
typedef struct lw_kv_cache {
    void **keys, **values; // host arrays of layer_count pointers, owned
    int64_t slots, capacity;
} lw_kv_cache;

lw_status lw_kv_cache_layout(lw_arena *arena, lw_device *dev, const lw_hf_config *config, int64_t slots,
                             int64_t capacity, lw_error *err, lw_kv_cache *out);
void lw_kv_cache_free(lw_kv_cache *cache);

// Runs the packed sequences (uploaded before) through the layers. soft_tokens (.., d): what prefix_source indexes; may
// be NULL without prefix rows. cache NULL: the keys are the rows of the pass; else keys and values go to and come from
// the cache.
void lw_decoder_forward(const lw_decoder *decoder, const lw_packing *packing, const float *soft_tokens,
                        const lw_kv_cache *cache, lw_decoder_buffers *buffers);

// After the forward pass: leaves the final-norm states of the scored rows in buffers->hidden.
void lw_decoder_hidden(const lw_decoder *decoder, const lw_packing *packing, lw_decoder_buffers *buffers);

// Where a teacher's states of this packing belong, (packing->teachers, d) of the operand type, before the next call.
void *lw_decoder_teacher_states(const lw_decoder *decoder, const lw_packing *packing, lw_decoder_buffers *buffers);

// The same as lw_decoder_hidden, and the logits of these rows, and of the teacher's, in buffers->logits.
void lw_decoder_logits(const lw_decoder *decoder, const lw_packing *packing, lw_decoder_buffers *buffers);

// Turns buffers->logits into nll, argmax, kl and, with `gradient`, into d(sum weight nll + kl_weight tau^2 kl)/dlogits
// in place, which goes back through lm_head and the final norm to the last layer (mode LW_PASS_TRAIN).
void lw_decoder_loss(const lw_decoder *decoder, const lw_packing *packing, bool gradient, lw_decoder_buffers *buffers);

// From there to the gradient of the soft tokens: d_soft[prefix_source[i]] = gradient of prefix row i. The buffers hold
// the forward pass and the loss of the same packing.
void lw_decoder_backward(const lw_decoder *decoder, const lw_packing *packing, lw_decoder_buffers *buffers,
                         float *d_soft);

// --- as an encoder's backbone

// Runs the packed tokens (no prefix rows) through the layers of buffers->pass and leaves the final norm's output at the
// scored rows in buffers->states. params: those of the layout.
void lw_decoder_states(const lw_decoder *decoder, const lw_params *params, const lw_packing *packing,
                       lw_decoder_buffers *buffers);
// From d_states (supervised, d) to the gradients of the low-rank updates, which accumulate. The buffers (mode
// LW_PASS_TRAIN) hold the pass of the same packing.
void lw_decoder_states_backward(const lw_decoder *decoder, const lw_params *params, const lw_packing *packing,
                                const float *d_states, lw_decoder_buffers *buffers);

// The product of a pass with the most arithmetic, with its buffers, for measuring what the device reaches on it.
lw_gemm lw_decoder_largest_product(const lw_decoder *decoder, const lw_decoder_buffers *buffers);

#endif
