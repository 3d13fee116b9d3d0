// keys.c: the table of configuration keys.
#include "config/keys.h"

#include <stdlib.h>
#include <string.h>

#define WORD(constant, word) #word,
#define WORD_OF_KIND(constant, word, traits) #word,
#define TRAITS(constant, word, traits) traits,

static const char *const device_words[] = {LW_DEVICE_KINDS(WORD) NULL};
static const char *const backend_words[] = {LW_COMM_BACKENDS(WORD) NULL};
static const char *const compress_words[] = {LW_COMPRESS_KINDS(WORD) NULL};
static const char *const encoder_words[] = {LW_ENCODER_KINDS(WORD_OF_KIND) NULL};
static const char *const pooler_words[] = {LW_POOLER_KINDS(WORD_OF_KIND) NULL};
static const unsigned encoder_keys[] = {LW_ENCODER_KINDS(TRAITS)};
static const unsigned pooler_latents[] = {LW_POOLER_KINDS(TRAITS)};
static const char *const start_words[] = {LW_ADAPTER_STARTS(WORD) NULL};
static const char *const schedule_words[] = {LW_TURNS(WORD) NULL};
static const char *const bos_words[] = {LW_BOS_KINDS(WORD) NULL};
static const char *const format_words[] = {LW_DATA_FORMATS(WORD) NULL};
const char *const lw_model_init_words[] = {LW_MODEL_INITS(WORD) NULL};

_Static_assert(sizeof(lw_device_kind) == sizeof(unsigned), "choices are stored as unsigned");

#define BIG LW_KEY_NO_MAX

// The _Generic has no default: a row whose type is not the field's does not compile.
#define FIELD(key, c_type) \
    .path = #key, .offset = offsetof(lw_config, key) + 0 * sizeof(char[_Generic(((lw_config *)0)->key, c_type : 1)])

#define INT(key, value, min, max, flag, text)                                                                \
    {                                                                                                        \
        FIELD(key, int64_t), .type = LW_KEY_INT, .int_default = (value), .int_min = (min), .int_max = (max), \
                             .flags = (flag), .help = (text)                                                 \
    }
#define AUTO_INT(key, max, flag, text)                                                                                \
    {                                                                                                                 \
        FIELD(key, int64_t), .type = LW_KEY_AUTO_INT, .int_min = 1, .int_max = (max), .flags = (flag), .help = (text) \
    }
#define FLOAT(key, value, min, max, flag, text)                                                                     \
    {                                                                                                               \
        FIELD(key, double), .type = LW_KEY_FLOAT, .float_default = (value), .float_min = (min), .float_max = (max), \
                            .flags = (flag), .help = (text)                                                         \
    }
#define BOOL(key, value, flag, text)                                                                   \
    {                                                                                                  \
        FIELD(key, bool), .type = LW_KEY_BOOL, .int_default = (value), .flags = (flag), .help = (text) \
    }
#define STRING(key, value, flag, text)                                                                      \
    {                                                                                                       \
        FIELD(key, char *), .type = LW_KEY_STRING, .text_default = (value), .flags = (flag), .help = (text) \
    }
#define PATH(key, flag, text)                                                                        \
    {                                                                                                \
        FIELD(key, char *), .type = LW_KEY_PATH, .text_default = "", .flags = (flag), .help = (text) \
    }
#define CHOICE(key, c_type, value, list, flag, text)                                                         \
    {                                                                                                        \
        FIELD(key, c_type), .type = LW_KEY_CHOICE, .int_default = (value), .words = (list), .flags = (flag), \
                            .help = (text)                                                                   \
    }

static const lw_key keys[] = {
    CHOICE(device, lw_device_kind, LW_DEVICE_AUTO, device_words, LW_KEY_FREE,
           "where to compute; auto: cuda where this build and machine have it"),
    {FIELD(gpus, int64_t), .type = LW_KEY_AUTO_INT, .int_default = LW_GPUS_ALL, .int_min = 1, .int_max = 65536,
     .flags = LW_KEY_FREE | LW_KEY_ALL,
     .help = "ranks that train, a GPU each; auto: as many as lwmpi plan finds the job worth, the others wait"},
    AUTO_INT(threads, 4096, LW_KEY_FREE, "CPU threads of each rank; auto: the node's cores shared by its ranks"),
    INT(seed, 1, 0, INT64_MAX, 0, "of initial parameters and sample order"),

    AUTO_INT(grid.model, LW_MAX_MODELS, LW_KEY_FREE,
             "groups of ranks with different models, which divide the frozen weights; the samples are divided among "
             "what is left; auto: what fits and is fastest"),
    CHOICE(comm.backend, lw_comm_backend, LW_COMM_AUTO, backend_words, LW_KEY_FREE,
           "data plane; auto: nccl between GPUs, else mpi; nccl connects one rank, too"),
    FLOAT(comm.timeout_s, 300, 0, 1e6, LW_KEY_FREE | LW_KEY_OPEN_LO,
          "deadline of every wait for another rank: seconds without a sign of life from it"),

    INT(batch.global, 0, 1, BIG, LW_KEY_UNSET, "samples of a step over all ranks; or give batch.per_rank"),
    INT(batch.per_rank, 0, 1, BIG, LW_KEY_UNSET, "samples of a step on each rank; or give batch.global"),
    INT(batch.micro, 0, 0, BIG, LW_KEY_FREE, "samples of one pass on a rank; 0: its whole share of the step"),

    INT(wire.latents, 32, 1, 65536, LW_KEY_WIRE, "latent vectors of a sample, where wire.ratio is 0"),
    INT(wire.ratio, 0, 0, 65536, LW_KEY_PHASE | LW_KEY_WIRE,
        "one latent vector for every N tokens that the encoder reads, with pooler.kind = mean; 0: wire.latents of "
        "them"),
    INT(wire.d_z, 256, 1, 65536, LW_KEY_WIRE, "width of a latent vector"),
    CHOICE(wire.compress, lw_compress, LW_COMPRESS_PROMPT, compress_words, LW_KEY_WIRE,
           "what goes through the wire; context: the question follows as text"),

    CHOICE(encoder.kind, lw_encoder_kind, LW_ENCODER_BYTE, encoder_words, LW_KEY_WIRE, "how the text is read"),
    PATH(encoder.path, 0, "directory of a bert or llm encoder"),
    STRING(encoder.share, "", 0,
           "name of the entry of models that an llm encoder reads with, in place of encoder.path: in memory once"),
    {FIELD(encoder.layers, int64_t), .type = LW_KEY_AUTO_INT, .int_default = -1, .int_min = 0, .int_max = 1024,
     .flags = LW_KEY_WIRE,
     .help =
         "transformer layers of the byte encoder (auto: 2), or the first ones of a bert or llm encoder (auto: all)"},
    BOOL(encoder.causal, true, LW_KEY_WIRE, "whether an llm encoder's tokens see those before them alone, or all"),
    INT(encoder.window, 0, 0, BIG, LW_KEY_WIRE,
        "most positions of a window of a bert or llm encoder, its own tokens included; longer texts are read as "
        "several; 0: what "
        "the model can take"),
    INT(encoder.lora_rank, 0, 0, 4096, LW_KEY_WIRE,
        "rank of an llm encoder's trained updates (LoRA) on all its linear maps; 0: none"),
    FLOAT(encoder.lora_alpha, 0, 0, 1e6, LW_KEY_WIRE,
          "scale of the updates times encoder.lora_rank; 0: 2 x encoder.lora_rank"),
    INT(encoder.width, 256, 2, 65536, LW_KEY_WIRE, "width of the byte encoder"),
    INT(encoder.heads, 4, 1, 4096, LW_KEY_WIRE, "attention heads of the byte encoder"),
    INT(encoder.ffn, 0, 0, 1 << 20, LW_KEY_WIRE, "feed-forward width of the byte encoder; 0: 4 x encoder.width"),

    CHOICE(pooler.kind, lw_pooler_kind, LW_POOLER_QUERIES, pooler_words, LW_KEY_WIRE,
           "queries: learned queries attend to the states; mean: contiguous spans averaged"),
    INT(pooler.layers, 1, 1, 1024, LW_KEY_WIRE, "cross-attention layers of pooler.kind = queries"),
    INT(pooler.heads, 4, 1, 4096, LW_KEY_WIRE, "attention heads of the pooler"),
    INT(pooler.ffn, 0, 0, 1 << 20, LW_KEY_WIRE, "feed-forward width of the pooler; 0: 4 x wire.d_z"),
    INT(adapter.hidden, 0, 0, 1 << 20, LW_KEY_WIRE, "hidden width of each adapter; 0: 4 x wire.d_z"),
    CHOICE(adapter.start, lw_adapter_start, LW_ADAPTER_RANDOM, start_words, 0,
           "first values; embeddings: fitted, with pooler.kind = mean, so that a soft token starts near the mean "
           "embedding of the words that its latent vector stands for"),
    BOOL(adapter.embedding_scale, true, LW_KEY_WIRE,
         "soft tokens start with the RMS of the model's embedding table; false: with an RMS of 1"),

    STRING(prompt.context, "{context}\n", LW_KEY_WIRE, "context part; left out where a sample has no context"),
    STRING(prompt.question, "Question: {question}\n", LW_KEY_WIRE, "question part"),
    STRING(prompt.anchor, "Answer:", LW_KEY_WIRE, "text right before the answer"),
    STRING(prompt.answer, " {answer}", LW_KEY_WIRE, "answer as it is trained"),
    CHOICE(prompt.bos, lw_bos, LW_BOS_AUTO, bos_words, LW_KEY_WIRE, "begin-of-text token; auto: as the tokenizer does"),
    INT(prompt.max_answer_tokens, 16, 1, 1 << 20, LW_KEY_PHASE, "longest trained answer, its end token included"),
    INT(prompt.max_prompt_tokens, 1024, 2, 1 << 24, 0, "longest text prompt; the context is cut to fit"),
    INT(prompt.max_source_bytes, 2048, 1, 1 << 26, 0, "longest text of the encoder; the context is cut to fit"),

    PATH(data.train, LW_KEY_PHASE, "training samples"),
    PATH(data.eval, LW_KEY_FREE, "evaluation samples"),
    CHOICE(data.format, lw_data_format, LW_DATA_JSONL, format_words, LW_KEY_PHASE, "format of both files"),
    INT(data.samples, 0, 0, BIG, LW_KEY_PHASE, "use the first N training samples; 0: all"),
    INT(data.eval_samples, 0, 0, BIG, LW_KEY_FREE, "use the first N evaluation samples; 0: all"),
    INT(data.max_bad_rows, 0, 0, BIG, LW_KEY_FREE, "malformed rows of a file to pass over before giving up"),
    INT(data.window_bytes, 512, 16, 1 << 20, LW_KEY_PHASE,
        "format = \"text\": longest window of a document that becomes a wire"),
    INT(data.target_tokens, 128, 1, 1 << 16, LW_KEY_PHASE,
        "format = \"text\": longest continuation or repetition that is trained"),
    BOOL(data.cache, true, LW_KEY_FREE, "keep tokens on disk between runs"),

    INT(train.epochs, 1, 1, 1000000, LW_KEY_LONGER | LW_KEY_PHASE,
        "passes over the training samples; may be raised to go on longer: the learning rate then follows the curve of "
        "the longer run from the step that it is at, and so jumps up"),
    INT(train.max_steps, 0, 0, BIG, LW_KEY_LONGER | LW_KEY_PHASE,
        "end after N steps even if epochs are left; 0: no limit; may be raised to go on longer"),
    CHOICE(
        train.schedule, lw_turns, LW_SCHEDULE_ALL, schedule_words, LW_KEY_PHASE,
        "all: every model in every step; alternate: one a step in turn, whose side of the wire alone then learns, with "
        "the encoder"),
    FLOAT(train.latent_dropout, 0, 0, 1, LW_KEY_OPEN_HI | LW_KEY_PHASE,
          "probability that a latent vector is left out of a sample in training, never all of them; 0: none"),
    INT(train.nested_from, 0, 0, 65536, LW_KEY_PHASE,
        "nested latents: a sample in training has the first N, 2 N, 4 N, ... or all, drawn anew each time, so that the "
        "first of them say most; 0: always all"),
    FLOAT(train.lr, 1e-4, 0, 100, LW_KEY_PHASE, "highest learning rate"),
    FLOAT(train.encoder_lr, 0, 0, 100, LW_KEY_PHASE, "the same of encoder and pooler; 0: train.lr"),
    FLOAT(train.adapter_lr, 0, 0, 100, LW_KEY_PHASE, "the same of the adapters; 0: train.lr"),
    FLOAT(train.encoder_start, 0, 0, 1, LW_KEY_PHASE,
          "fraction of the steps in which the adapters learn alone: encoder and pooler then start with a warm-up of "
          "their own; 1: they never move"),
    FLOAT(train.warmup, 0.05, 0, 1, LW_KEY_PHASE, "fraction of the steps in which the rate rises linearly"),
    FLOAT(train.min_lr, 0.02, 0, 1, LW_KEY_PHASE, "end of the cosine, as a fraction of train.lr"),
    FLOAT(train.beta1, 0.9, 0, 1, LW_KEY_OPEN_HI, "AdamW, first moment"),
    FLOAT(train.beta2, 0.999, 0, 1, LW_KEY_OPEN_HI, "AdamW, second moment"),
    FLOAT(train.eps, 1e-8, 0, 1, LW_KEY_OPEN_LO, "AdamW, added to the root of the second moment"),
    FLOAT(train.weight_decay, 0.01, 0, 10, LW_KEY_PHASE, "AdamW, decoupled"),
    FLOAT(train.clip, 1.0, 0, 1e30, LW_KEY_OPEN_LO | LW_KEY_PHASE, "largest global norm of the gradient"),
    INT(train.max_skipped, 10, 0, BIG, LW_KEY_FREE, "non-finite steps in a row to skip before giving up"),
    FLOAT(train.collapse_cosine, 0.99, 0, 1, LW_KEY_FREE,
          "warn when the mean cosine between latents of different samples stays above this; 0: no such alarm"),
    INT(train.collapse_steps, 500, 1, BIG, LW_KEY_FREE, "steps after the warm-up for which it has to stay there"),
    BOOL(train.collapse_first, true, LW_KEY_FREE,
         "warn when a model begins all answers of evaluations with the same token for as long"),

    FLOAT(loss.first_weight, 0, 0, 1e6, LW_KEY_PHASE, "extra weight of the first answer token"),
    INT(loss.k, 4, 0, 1 << 20, LW_KEY_PHASE, "the first K answer tokens ..."),
    FLOAT(loss.k_weight, 0, 0, 1e6, LW_KEY_PHASE, "... and their extra weight"),
    FLOAT(loss.kd_weight, 0, 0, 1e6, LW_KEY_PHASE,
          "weight of distillation on these K tokens: each model is drawn to what it would say to the text prompt"),
    FLOAT(loss.kd_tau, 1, 0, 1e6, LW_KEY_OPEN_LO | LW_KEY_PHASE, "temperature of distillation"),
    PATH(loss.kd_cache, LW_KEY_FREE | LW_KEY_CWD,
         "folder of the text-prompted models' states, shared by all nodes; runs may share it; default: RUN/cache"),
    FLOAT(loss.reconstruct_share, 0.2, 0, 1, LW_KEY_PHASE,
          "data.format = \"text\": share of the windows that are to be repeated; the others are continued"),

    PATH(run.dir, LW_KEY_FREE | LW_KEY_CWD, "run directory; default: runs/NAME of the configuration file"),
    BOOL(run.accept_changes, false, LW_KEY_FREE,
         "continue a run, or use a checkpoint, although keys marked *, its data or its models differ; for this start "
         "alone"),
    INT(checkpoint.every_steps, 100, 0, BIG, LW_KEY_FREE, "steps between checkpoints; 0: only at the end"),
    INT(checkpoint.keep, 3, 1, BIG, LW_KEY_FREE, "checkpoints to keep, the newest"),
    INT(checkpoint.keep_every, 0, 0, BIG, LW_KEY_FREE, "keep also those whose step is a multiple of N; 0: none"),
    BOOL(checkpoint.keep_best, true, LW_KEY_FREE,
         "keep also the one with the least held-out loss, and write one where eval.every_steps finds a new least"),
    BOOL(checkpoint.trial, true, LW_KEY_FREE,
         "at the start write as many bytes as a checkpoint has, to see that the disk takes them"),
    INT(log.every_steps, 10, 1, BIG, LW_KEY_FREE, "steps between lines of metrics.jsonl"),

    INT(eval.max_new_tokens, 16, 1, 1 << 20, LW_KEY_FREE, "longest generated answer"),
    INT(eval.batch, 32, 1, 1 << 20, LW_KEY_FREE, "samples of one generation pass"),
    BOOL(eval.at_end, true, LW_KEY_FREE, "evaluate when training ends"),
    INT(eval.every_steps, 0, 0, BIG, LW_KEY_FREE,
        "steps between measurements of the loss on data.eval while training: eval_nll in metrics.jsonl; 0: none"),
    INT(eval.loss_samples, 0, 0, BIG, LW_KEY_FREE, "measure it on the first N evaluation samples; 0: on all"),
    INT(eval.bootstrap, 1000, 0, 1 << 20, LW_KEY_FREE, "resamples behind the 95 % intervals of an evaluation; 0: none"),
    BOOL(eval.joint, true, LW_KEY_FREE,
         "with several models, also choose between their answers by the sum of the log-probabilities that all give it"),
    BOOL(eval.quantise, false, LW_KEY_FREE, "also evaluate the latents sent in 16, 8, 6 and 4 bits a number"),
    INT(eval.gate_steps, 500, 1, BIG, LW_KEY_FREE,
        "most steps of the gate that learns 32 items by heart, at train.lr: lwmpi eval --gates"),
    BOOL(eval.curve, false, LW_KEY_FREE, "also evaluate with fewer latents: 1, 2, 4, ... of them"),

    STRING(plan.device, "auto", LW_KEY_FREE, "GPU to plan for"),
    FLOAT(plan.deadline_h, 12, 0, 1e6, LW_KEY_FREE | LW_KEY_OPEN_LO, "hours that the job may take"),
    FLOAT(plan.min_efficiency, 0.5, 0, 1, LW_KEY_FREE, "least scaling efficiency worth its GPUs"),
};

#define KEY_COUNT ((int)(sizeof keys / sizeof keys[0]))
_Static_assert(sizeof keys / sizeof keys[0] <= LW_KEY_MAX, "raise LW_KEY_MAX");

int lw_key_count(void)
{
    return KEY_COUNT;
}

const lw_key *lw_key_at(int index)
{
    return &keys[index];
}

int lw_key_find(const char *path)
{
    for (int i = 0; i < KEY_COUNT; i++) {
        if (strcmp(keys[i].path, path) == 0) {
            return i;
        }
    }
    return -1;
}

const char *lw_key_last_part(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot == NULL ? path : dot + 1;
}

const char *lw_key_phase_name(const lw_key *key)
{
    return strcmp(key->path, "data.train") == 0        ? "data"
           : strcmp(key->path, "train.max_steps") == 0 ? "steps"
                                                       : lw_key_last_part(key->path);
}

int lw_key_find_phase(const char *name)
{
    for (int i = 0; i < KEY_COUNT; i++) {
        if ((keys[i].flags & LW_KEY_PHASE) != 0 && strcmp(lw_key_phase_name(&keys[i]), name) == 0) {
            return i;
        }
    }
    return -1;
}

bool lw_key_is_group(const char *path)
{
    size_t length = strlen(path);
    for (int i = 0; i < KEY_COUNT; i++) {
        if (strncmp(keys[i].path, path, length) == 0 && keys[i].path[length] == '.') {
            return true;
        }
    }
    return false;
}

const char *lw_compress_name(lw_compress value)
{
    return compress_words[value];
}

const char *lw_encoder_kind_name(lw_encoder_kind value)
{
    return encoder_words[value];
}

unsigned lw_encoder_kind_keys(lw_encoder_kind value)
{
    return encoder_keys[value];
}

unsigned lw_pooler_kind_latents(lw_pooler_kind value)
{
    return pooler_latents[value];
}

const char *lw_pooler_kind_name(lw_pooler_kind value)
{
    return pooler_words[value];
}

// --- the fields

lw_status lw_config_set_defaults(lw_config *config, lw_error *err)
{
    for (int i = 0; i < lw_key_count(); i++) {
        const lw_key *key = lw_key_at(i);
        void *field = lw_key_field(config, key);
        switch (key->type) {
        case LW_KEY_INT:
        case LW_KEY_AUTO_INT: *(int64_t *)field = key->int_default; break;
        case LW_KEY_FLOAT: *(double *)field = key->float_default; break;
        case LW_KEY_BOOL: *(bool *)field = key->int_default != 0; break;
        case LW_KEY_CHOICE: {
            unsigned value = (unsigned)key->int_default;
            memcpy(field, &value, sizeof value);
            break;
        }
        case LW_KEY_STRING:
        case LW_KEY_PATH: {
            char *copy = strdup(key->text_default);
            if (copy == NULL) {
                return lw_fail(err, LW_ERR_MEMORY, "no memory for the configuration");
            }
            *(char **)field = copy;
            break;
        }
        }
    }
    return LW_OK;
}

void lw_config_free_keys(lw_config *config)
{
    for (int i = 0; i < lw_key_count(); i++) {
        const lw_key *key = lw_key_at(i);
        if (key->type == LW_KEY_STRING || key->type == LW_KEY_PATH) {
            free(*(char **)lw_key_field(config, key));
        }
    }
}
