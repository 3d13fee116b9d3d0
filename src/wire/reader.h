// reader.h: how an encoder reads: one table of functions for each encoder.kind, in readers.c.
//
// A reader turns the tokens of the texts of a batch into states, one row per token. It has trained parameters and, of
// some kinds, a frozen model to read with: its backbone. A new kind is a row here and a word in config.h; nothing else
// asks which kind it is. All functions are Local.
#ifndef LW_READER_H
#define LW_READER_H

#include "config/config.h"
#include "device/arena.h"
#include "device/params.h"
#include "model/bert.h"
#include "model/decoder.h"
#include "wire/encoder_batch.h"
#include "wire/transformer.h"

typedef struct lw_reader_ops lw_reader_ops;
typedef struct lw_backbone_ops lw_backbone_ops;

// The frozen model that a reader reads with: its shapes, and its weights once they are loaded.
typedef struct lw_backbone {
    const lw_backbone_ops *ops; // NULL: the reader has none, and nothing else is set
    union {
        lw_hf_config llm;
        lw_bert_config bert;
    } shapes;            // of the whole model; `ops` knows which of them is set
    int64_t vocab;       // tokens are from 0 to this, excluded
    int32_t first, last; // tokens in front of a window and behind it; -1: none
    const char *shared;  // the name of the LLM of the job that it is; NULL: a model of its own
    void *model;         // lw_decoder or lw_bert, as `ops` knows; NULL: not loaded
} lw_backbone;

// The structure of every kind begins with this one.
typedef struct lw_reader {
    const lw_reader_ops *ops;
    int64_t width;     // of a state
    int64_t alphabet;  // tokens are from 0 to this, excluded
    const void *model; // of the backbone; borrowed; set before the first pass
} lw_reader;

// The buffers of every kind begin with this structure.
typedef struct lw_reader_buffers {
    const lw_reader_ops *ops;
    const lw_packing *windows; // the windows of the uploaded batch; NULL: texts are read whole
} lw_reader_buffers;

// The parts of a pass, in this order, for counting its arithmetic, bytes and time. NULL: there is no such part.
typedef struct lw_reader_work {
    const lw_hf_config *llm;     // frozen layers of an LLM, those that are read, and
    const lw_lora *lora;         // their trained updates; rank 0: none, and nothing goes back through the layers
    const lw_bert_config *bert;  // frozen layers of a BERT; nothing goes back through them
    int64_t window;              // positions of a window of the frozen layers at most
    bool bidirectional;          // whether a token of the LLM sees its whole window
    const lw_linear *project;    // trained; a row for each token
    const lw_transformer *stack; // trained; each token sees its whole text
} lw_reader_work;

typedef struct lw_backbone_options {
    int64_t max_tokens; // of the longest text that will be read
    bool random;        // random weights of the shapes in config.json (for benchmarks); no weight file is read
    uint64_t seed;      // of the random weights
} lw_backbone_options;

// A family of frozen models that a reader reads with. The reader is declared, and may use the first layers alone.
struct lw_backbone_ops {
    // Names of the tokens around every window, for tokenizers whose template names none. Both NULL: the begin-of-text
    // token if the tokenizer has one, and nothing behind.
    const char *first, *last;
    lw_status (*read)(const char *dir, lw_error *err, lw_backbone *out); // shapes and vocab, from DIR/config.json
    // The positions that a window of a text of `max_tokens` takes.
    int64_t (*positions)(const lw_reader *r, int64_t max_tokens);
    // Device bytes of what `load` loads, computed without reading. SIZE_MAX: too many.
    size_t (*weight_bytes)(const lw_reader *r, lw_dtype type, int64_t max_tokens);
    lw_status (*load)(lw_device *dev, const char *dir, const lw_reader *r, const lw_backbone_options *options,
                      lw_error *err, lw_backbone *out); // sets out->model
    uint64_t (*fingerprint)(const void *model);         // XXH3 of the weights as they are in the files
    void (*destroy)(void *model);                       // NULL is fine
};

// Functions that may be NULL say so.
struct lw_reader_ops {
    size_t bytes, buffers_bytes; // of the structures of this kind; all 0 before declare and layout

    // Declares the parameters and sets out->width and out->alphabet. backbone: its weights need not be there.
    // LW_ERR_CONFIG where keys and backbone do not fit.
    lw_status (*declare)(const lw_config *config, const lw_backbone *backbone, lw_params *params, lw_error *err,
                         lw_reader *out);
    // params: placed. mode LW_PASS_INFER: no backward pass follows.
    lw_status (*layout)(lw_arena *arena, lw_device *dev, const lw_params *params, const lw_reader *r, lw_pass_mode mode,
                        const lw_encoder_limits *limits, lw_error *err, lw_reader_buffers *out);
    // Fills tables once the memory is there, and again when others have used it. Only the first call allocates. May be
    // NULL.
    lw_status (*start)(lw_device *dev, const lw_reader *r, lw_error *err, lw_reader_buffers *b);
    void (*free)(lw_reader_buffers *b); // what layout and start allocated, but not *b; may be NULL
    // Enqueues the upload of what the reader derives from the batch. May be NULL.
    lw_status (*upload)(lw_device *dev, const lw_reader *r, const lw_encoder_batch *batch, lw_error *err,
                        lw_reader_buffers *b);
    // Computes x_out (tokens, width) of the uploaded batch.
    void (*forward)(lw_device *dev, const lw_params *params, const lw_reader *r, const lw_encoder_batch *batch,
                    lw_reader_buffers *b, float *x_out);
    // dx (tokens, width) is the gradient of x_out and is overwritten. Gradients of the parameters accumulate.
    void (*backward)(lw_device *dev, const lw_params *params, const lw_reader *r, const lw_encoder_batch *batch,
                     lw_reader_buffers *b, float *dx);

    void (*work)(const lw_reader *r, lw_reader_work *out); // *out is all 0 before
    // Writes a few words about the reader for the log. backbone: loaded.
    void (*describe)(const lw_reader *r, const lw_backbone *backbone, char *out, size_t size);
    const lw_backbone_ops *backbone; // NULL: it reads the bytes of the text, without a frozen model
};

const lw_reader_ops *lw_reader_of(lw_encoder_kind kind);

#endif
