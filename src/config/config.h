// config.h: a libconfig file and `key=value` overrides as one validated struct.
//
// The fields mirror the key paths: `train.lr` in the file is config->train.lr. One table (keys.c) drives parsing,
// ranges, the dump, the hash, comparison and the reference in `--help`. A key that is not in the file has the table's
// default. Implemented by read.c (load, parse), config.c (destroy, questions), write.c (text, hashes, differences),
// help.c and keys.c (words). All functions are Local.
#ifndef LW_CONFIG_H
#define LW_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/limits.h"
#include "core/status.h"

// Which of the keys of `encoder` a kind uses beside encoder.kind.
enum {
    LW_USES_PATH = 1,  // path, layers (one at least), window: it reads with a frozen model
    LW_USES_SHARE = 2, // share: that model may be one of `models`
    LW_USES_LORA = 4,  // lora_rank, lora_alpha: that model may have trained updates
    LW_USES_HEADS = 8, // layers (none is allowed), width, heads, ffn: it trains a transformer
};

// What the latents of a kind of pooler are.
enum {
    LW_POOLS_BY_HEADS = 1, // it attends with pooler.heads to the whole text, from a fixed number of latents
    LW_POOLS_SPANS = 2,    // each stands for a span of the text; their number is free, and the spans depend on it
};

// The values of the keys that choose among words: X(constant, word), in the order of the enumeration.
#define LW_DEVICE_KINDS(X) X(LW_DEVICE_AUTO, auto) X(LW_DEVICE_CPU, cpu) X(LW_DEVICE_CUDA, cuda)
#define LW_COMM_BACKENDS(X) X(LW_COMM_AUTO, auto) X(LW_COMM_NCCL, nccl) X(LW_COMM_MPI, mpi)
#define LW_COMPRESS_KINDS(X) X(LW_COMPRESS_PROMPT, prompt) X(LW_COMPRESS_CONTEXT, context)
// With the keys of `encoder` that a kind uses. What the kinds do is in wire/readers.c.
#define LW_ENCODER_KINDS(X)                 \
    X(LW_ENCODER_BYTE, byte, LW_USES_HEADS) \
    X(LW_ENCODER_BERT, bert, LW_USES_PATH)  \
    X(LW_ENCODER_LLM, llm, LW_USES_PATH | LW_USES_SHARE | LW_USES_LORA)
// With what the latents of a kind are. What the kinds do is in wire/pooler.c.
#define LW_POOLER_KINDS(X) X(LW_POOLER_QUERIES, queries, LW_POOLS_BY_HEADS) X(LW_POOLER_MEAN, mean, LW_POOLS_SPANS)
#define LW_ADAPTER_STARTS(X) X(LW_ADAPTER_RANDOM, random) X(LW_ADAPTER_EMBEDDINGS, embeddings)
#define LW_TURNS(X) X(LW_SCHEDULE_ALL, all) X(LW_SCHEDULE_ALTERNATE, alternate)
#define LW_BOS_KINDS(X) X(LW_BOS_AUTO, auto) X(LW_BOS_YES, yes) X(LW_BOS_NO, no)
#define LW_DATA_FORMATS(X) \
    X(LW_DATA_JSONL, jsonl) X(LW_DATA_SQUAD, squad) X(LW_DATA_HOTPOT, hotpot) X(LW_DATA_TEXT, text)
// load: weights of `path`. random: shapes of `path`/config.json and random weights, for benchmarks.
#define LW_MODEL_INITS(X) X(LW_MODEL_INIT_LOAD, load) X(LW_MODEL_INIT_RANDOM, random)

#define LW_CHOICE(constant, ...) constant,
typedef enum lw_device_kind { LW_DEVICE_KINDS(LW_CHOICE) } lw_device_kind;
typedef enum lw_comm_backend { LW_COMM_BACKENDS(LW_CHOICE) } lw_comm_backend;
typedef enum lw_compress { LW_COMPRESS_KINDS(LW_CHOICE) } lw_compress;
typedef enum lw_encoder_kind { LW_ENCODER_KINDS(LW_CHOICE) LW_ENCODER_KIND_COUNT } lw_encoder_kind;
typedef enum lw_pooler_kind { LW_POOLER_KINDS(LW_CHOICE) LW_POOLER_KIND_COUNT } lw_pooler_kind;
typedef enum lw_adapter_start { LW_ADAPTER_STARTS(LW_CHOICE) } lw_adapter_start;
typedef enum lw_turns { LW_TURNS(LW_CHOICE) } lw_turns;
typedef enum lw_bos { LW_BOS_KINDS(LW_CHOICE) } lw_bos;
typedef enum lw_data_format { LW_DATA_FORMATS(LW_CHOICE) } lw_data_format;
typedef enum lw_model_init { LW_MODEL_INITS(LW_CHOICE) } lw_model_init;
#undef LW_CHOICE

enum { LW_GPUS_ALL = -1 };

typedef struct lw_model_config {
    char *name; // [A-Za-z0-9_-]+, distinct
    char *path; // directory
    lw_model_init init;
} lw_model_config;

// A phase of the training: it sets some keys, and has the common values of the others.
typedef struct lw_phase_config {
    char *name;             // [A-Za-z0-9_-]+, distinct
    bool *given;            // (lw_key_count()): whether the phase sets the key itself
    struct lw_config *view; // the whole configuration as it is in this phase; see lw_config_phase
} lw_phase_config;

// Strings are owned by the config, valid UTF-8 and never NULL ("" where nothing is set). Numbers are in the range that
// the table states. Paths are usable from the working directory of lw_config_load.
typedef struct lw_config {
    char *path; // the file, as given
    char *dir;  // its directory ("." for a bare name)
    char *name; // its base name without ".cfg"; names the default run.dir

    lw_model_config *models; // model_count >= 1
    int64_t model_count;
    lw_phase_config *phases;
    int64_t phase_count; // 0: one phase, of the keys as they are
    lw_device_kind device;
    int64_t gpus;    // 0: "auto", LW_GPUS_ALL: "all"
    int64_t threads; // CPU threads of each rank; 0: "auto"
    int64_t seed;

    struct {
        int64_t model; // 0: "auto"
    } grid;
    struct {
        lw_comm_backend backend;
        double timeout_s;
    } comm;
    struct {              // exactly one of global and per_rank is not 0
        int64_t global;   // samples of a step over all ranks
        int64_t per_rank; // samples of a step on each rank
        int64_t micro;    // samples of one pass on a rank; 0: its whole share of the step
    } batch;
    struct {
        int64_t latents;
        int64_t ratio; // 0: `latents` of them, whatever the text
        int64_t d_z;
        lw_compress compress;
    } wire;
    struct {
        lw_encoder_kind kind;
        char *path, *share; // "" where not set
        int64_t layers;     // -1: all of the frozen model; resolved for the other kinds
        bool causal;
        int64_t window; // 0: what the backbone can take
        int64_t lora_rank;
        double lora_alpha; // resolved: 0 only where lora_rank is
        int64_t width, heads;
        int64_t ffn; // resolved: never 0
    } encoder;
    struct {
        lw_pooler_kind kind;
        int64_t layers, heads;
        int64_t ffn; // resolved: never 0
    } pooler;
    struct {
        int64_t hidden; // resolved: never 0
        lw_adapter_start start;
        bool embedding_scale;
    } adapter;
    struct { // templates; each holds its placeholder exactly once
        char *context, *question, *anchor, *answer;
        lw_bos bos;
        int64_t max_answer_tokens, max_prompt_tokens, max_source_bytes;
    } prompt;
    struct {
        char *train, *eval; // "" where not set
        lw_data_format format;
        int64_t samples, eval_samples; // 0: all
        int64_t max_bad_rows;
        int64_t window_bytes, target_tokens; // format `text`
        bool cache;
    } data;
    struct {
        int64_t epochs;
        int64_t max_steps; // 0: what the epochs give; else the run ends at the earlier of the two
        lw_turns schedule;
        double latent_dropout;
        int64_t nested_from; // 0: no nesting
        double lr;
        double encoder_lr, adapter_lr; // 0: lr
        double encoder_start;          // fraction of the steps before encoder and pooler move
        double warmup;                 // fraction of the steps
        double min_lr;                 // fraction of lr
        double beta1, beta2, eps, weight_decay, clip;
        int64_t max_skipped;
        double collapse_cosine; // 0: no alarm
        int64_t collapse_steps;
        bool collapse_first; // an alarm when all answers begin alike
    } train;
    struct {
        double first_weight;
        int64_t k;
        double k_weight, kd_weight, kd_tau;
        char *kd_cache;           // "": the run's own
        double reconstruct_share; // format `text`
    } loss;
    struct {
        char *dir; // resolved: never ""
        bool accept_changes;
    } run;
    struct {
        int64_t every_steps; // 0: only at the end
        int64_t keep, keep_every;
        bool keep_best, trial;
    } checkpoint;
    struct {
        int64_t every_steps;
    } log;
    struct {
        int64_t max_new_tokens;
        int64_t batch; // samples of one generation pass
        bool at_end;
        int64_t every_steps;  // 0: never while training
        int64_t loss_samples; // 0: all
        int64_t bootstrap;    // resamples; 0: no intervals
        bool joint, quantise, curve;
        int64_t gate_steps;
    } eval;
    struct {
        char *device;
        double deadline_h, min_efficiency;
    } plan;
} lw_config;

// Whether an evaluation chooses between the models' answers.
static inline bool lw_config_joint(const lw_config *config)
{
    return config->eval.joint && config->model_count > 1;
}

// Number of latents of a text of `tokens` tokens: wire.latents, or one for every wire.ratio tokens, rounded up.
int64_t lw_config_latents(const lw_config *config, int64_t tokens);

unsigned lw_encoder_kind_keys(lw_encoder_kind kind);  // LW_USES_PATH, ...
unsigned lw_pooler_kind_latents(lw_pooler_kind kind); // LW_POOLS_SPANS, ...

// Whether the encoder's kind uses `key`, one of LW_USES_PATH, ...
static inline bool lw_config_encoder_uses(const lw_config *config, unsigned key)
{
    return (lw_encoder_kind_keys(config->encoder.kind) & key) != 0;
}
// Whether the latents of the pooler's kind are so; one of LW_POOLS_SPANS, ...
static inline bool lw_config_pools(const lw_config *config, unsigned latents)
{
    return (lw_pooler_kind_latents(config->pooler.kind) & latents) != 0;
}
// The entry of `models` that the encoder reads with (encoder.share); -1: none.
int64_t lw_config_encoder_share(const lw_config *config);

// The most tokens that an evaluation appends to what a model reads: its own answer, or the answer of another model,
// which may need more tokens and an end token.
static inline int64_t lw_config_new_tokens(const lw_config *config)
{
    return lw_config_joint(config) ? 2 * config->eval.max_new_tokens + 1 : config->eval.max_new_tokens;
}

// Reads `path`, applies overrides in order ("train.lr=1e-3", "models.[0].path=DIR", "models.NAME.path=DIR",
// "models=({...})", "phases.NAME.steps=10", "phases.[0].steps=10"), checks, and returns a config to be destroyed by the
// caller.
//
// An override's value is a libconfig value; any other text is taken as a bare string, without escapes. Setting
// batch.per_rank by override drops the file's batch.global, and the other way round. Relative paths (models.path,
// data.train, data.eval, encoder.path) start at the file's directory, in an override at the working directory; run.dir
// always at the working directory. `@include` is refused, so that one file describes the whole run.
//
// LW_ERR_CONFIG (with file:line or "override KEY"), LW_ERR_UNSUPPORTED for a value that this build does not support,
// LW_ERR_MEMORY.
lw_status lw_config_load(const char *path, int64_t override_count, const char *const *overrides, lw_error *err,
                         lw_config **out);

// The same from text already read; `path` serves messages, name and dir.
// For tests, and fuzzing.
lw_status lw_config_parse(const char *text, size_t text_bytes, const char *path, int64_t override_count,
                          const char *const *overrides, lw_error *err, lw_config **out);

void lw_config_destroy(lw_config **config); // NULL is fine

// libconfig text of every key with its resolved value, paths made absolute. Parsing it gives an equal config and the
// same text again. malloc'd.
// For tests.
lw_status lw_config_text(const lw_config *config, lw_error *err, char **out);

// Writes lw_config_text to `file` under a comment with the hash. LW_ERR_IO.
lw_status lw_config_write(const lw_config *config, FILE *file, lw_error *err);

// xxHash64 over the keys that influence results (marked in the reference), paths by their last component.
lw_status lw_config_hash(const lw_config *config, lw_error *err, uint64_t *out);
// The same over the keys alone that decide what trained parameters compute from a text: encoder, pooler, wire,
// adapters, prompt.
lw_status lw_config_wire_hash(const lw_config *config, lw_error *err, uint64_t *out);

// Keys that may not differ when `now` continues the run of `before`: one line each, "  train.lr: 0.0001 before, 0.001
// now\n" ("" where there is none). Paths are compared by their last component: a moved directory is the same data, and
// the checkpoint compares the contents of the files. malloc'd.
lw_status lw_config_differences(const lw_config *before, const lw_config *now, lw_error *err, char **out);
// The same for the keys that lw_config_wire_hash covers.
lw_status lw_config_wire_differences(const lw_config *before, const lw_config *now, lw_error *err, char **out);

// Number of phases of a run: at least one.
int64_t lw_config_phase_count(const lw_config *config);
// The configuration as it is in phase i: the keys that the phase sets, and the common values of all others. Its
// train.max_steps is the number of steps of the phase (0: what its epochs give); train.max_steps of `config` is the end
// of the whole run. Borrowed; without `phases` it is `config` itself.
const lw_config *lw_config_phase(const lw_config *config, int64_t i);
const char *lw_config_phase_name(const lw_config *config, int64_t i); // "" without `phases`

// Reference of all keys: type, default, range, meaning.
void lw_config_help(FILE *file);

// Whether some phase trains on windows of text, which needs learned tokens for the tasks.
bool lw_config_reads_text(const lw_config *config);

// Words as they are written in the file: "cpu", "queries", ...
const char *lw_compress_name(lw_compress value);
const char *lw_encoder_kind_name(lw_encoder_kind value);
const char *lw_pooler_kind_name(lw_pooler_kind value);

#endif
