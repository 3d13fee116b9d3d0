// cmd_encode.c: `lwmpi encode`, the sender: reads texts and prints their latents. It needs nothing of the models that
// will read them.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/endpoint.h"
#include "cli/options.h"
#include "data/sample.h"
#include "job/encoder.h"
#include "job/llm.h"
#include "run/checkpoint_part.h"
#include "wire/quantise.h"
#include "wire/wire_file.h"

typedef struct sender {
    lw_endpoint endpoint;
    lw_text_lines lines;
    lw_ids ids;                    // sources of all texts
    int64_t *start;                // (texts + 1) into ids
    int64_t cut;                   // texts that had to be cut
    lw_tokenizer_scratch *scratch; // NULL: the encoder reads bytes
    lw_arena memory;
    lw_encoder_buffers buffers;
    lw_encoder_batch batch;
    int64_t chunk; // texts of a pass
    float *z;      // host: latents of a pass
    lw_wire_set out;
} sender;

static void close_sender(sender *s)
{
    lw_encoder_batch_free(&s->batch);
    lw_encoder_buffers_free(&s->buffers);
    if (s->endpoint.job.dev != NULL) {
        lw_arena_free(s->endpoint.job.dev, &s->memory);
    }
    lw_tokenizer_scratch_destroy(&s->scratch);
    lw_ids_free(&s->ids);
    free(s->start);
    free(s->z);
    lw_wire_set_free(&s->out);
    lw_text_lines_free(&s->lines);
    lw_endpoint_close(&s->endpoint);
}

static lw_tokens source(const sender *s, int64_t i)
{
    return (lw_tokens){s->ids.data + s->start[i], s->start[i + 1] - s->start[i]};
}

// --- texts

static lw_status read_source(sender *s, int64_t i, lw_error *err)
{
    const lw_text_line *line = &s->lines.list[i];
    const lw_sample sample = {.id = line->id, .context = line->context, .question = line->question};
    int64_t bytes = 0;
    bool cut = false;
    if (s->endpoint.job.config->wire.compress == LW_COMPRESS_PROMPT && line->question[0] == '\0') {
        return lw_fail(err, LW_ERR_FORMAT,
                       "text %s has no \"question\", which goes through the wire with wire.compress = \"prompt\"",
                       line->id);
    }
    LW_TRY(lw_corpus_source(s->endpoint.job.config, &sample, s->endpoint.job.encoder.tokenizer, s->scratch, err,
                            &s->ids, &bytes, &cut));
    s->cut += cut;
    s->start[i + 1] = (int64_t)s->ids.len;
    return LW_OK;
}

static lw_status name_items(sender *s, lw_error *err)
{
    json_t *seen = json_object();
    lw_status status = LW_OK;
    for (int64_t i = 0; status == LW_OK && i < s->lines.count; i++) {
        const lw_text_line *line = &s->lines.list[i];
        lw_wire_item *item = &s->out.items[i];
        if (json_object_get(seen, line->id) != NULL) {
            status = lw_fail(err, LW_ERR_FORMAT, "two texts have the id \"%s\": an id names one", line->id);
            break;
        }
        item->id = strdup(line->id);
        item->question = line->question[0] != '\0' ? strdup(line->question) : NULL;
        if (item->id == NULL || (line->question[0] != '\0' && item->question == NULL) ||
            json_object_set_new(seen, line->id, json_true()) != 0) {
            status = lw_fail(err, LW_ERR_MEMORY, "no memory for the texts' names");
        }
    }
    json_decref(seen);
    return status;
}

static lw_status read_texts(sender *s, lw_error *err)
{
    const lw_config *c = s->endpoint.job.config;
    LW_TRY(lw_text_lines_read(stdin, "stdin", err, &s->lines));
    int64_t n = s->lines.count;
    s->start = calloc((size_t)n + 1, sizeof *s->start);
    s->out.z_start = calloc((size_t)n + 1, sizeof *s->out.z_start);
    s->out.items = calloc((size_t)n, sizeof *s->out.items);
    if (s->start == NULL || s->out.z_start == NULL || s->out.items == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for %lld texts", (long long)n);
    }
    s->out.count = n;
    s->out.d_z = c->wire.d_z;
    s->out.compress = c->wire.compress;
    s->out.encoder = lw_checkpoint_encoder_hash(s->endpoint.state);
    LW_TRY(name_items(s, err));
    for (int64_t i = 0; i < n; i++) {
        LW_TRY(read_source(s, i, err));
        int64_t rows = s->out.z_start[i] + lw_config_latents(c, source(s, i).count);
        if (rows > INT32_MAX) {
            return lw_fail(err, LW_ERR_USAGE, "more than %d latents: send fewer texts at a time", INT32_MAX);
        }
        s->out.z_start[i + 1] = (int32_t)rows;
    }
    if (s->cut > 0) {
        fprintf(stderr, "lwmpi: warning: %lld texts cut to prompt.max_source_bytes = %lld\n", (long long)s->cut,
                (long long)c->prompt.max_source_bytes);
    }
    return LW_OK;
}

// --- encoder

static lw_encoder_limits limits_of(const sender *s)
{
    lw_encoder_limits l = {.samples = s->chunk};
    for (int64_t first = 0; first < s->lines.count; first += s->chunk) {
        int64_t end = first + s->chunk < s->lines.count ? first + s->chunk : s->lines.count;
        int64_t tokens = s->start[end] - s->start[first];
        int64_t latents = s->out.z_start[end] - s->out.z_start[first];
        l.tokens = tokens > l.tokens ? tokens : l.tokens;
        l.latents = latents > l.latents ? latents : l.latents;
        for (int64_t i = first; i < end; i++) {
            int64_t own = lw_wire_latents(&s->out, i);
            l.max_tokens = source(s, i).count > l.max_tokens ? source(s, i).count : l.max_tokens;
            l.max_latents = own > l.max_latents ? own : l.max_latents;
        }
    }
    return l;
}

// An encoder that shares the weights of a model needs that model's shape and tokenizer first.
static lw_status read_shared(lw_job *job, lw_error *err)
{
    int64_t j = lw_config_encoder_share(job->config);
    if (j < 0) {
        return LW_OK;
    }
    lw_llm *m = &job->llms[j];
    m->name = job->config->models[j].name;
    m->path = job->config->models[j].path;
    LW_TRY(lw_hf_config_read(m->path, err, &m->config));
    return lw_job_open_tokenizer(m->path, m->config.vocab, err, &m->tokenizer);
}

// Declares the encoder of the configuration without its weights: enough to turn texts into its tokens.
static lw_status declare_encoder(sender *s, lw_error *err)
{
    lw_job *job = &s->endpoint.job;
    LW_TRY(read_shared(job, err));
    LW_TRY(lw_job_read_encoder(job, 0, err));
    if (job->encoder.tokenizer != NULL) {
        LW_TRY(lw_tokenizer_scratch_create(job->encoder.tokenizer, err, &s->scratch));
    }
    return lw_encoder_declare(job->config, &job->encoder.backbone, &job->wire.params, err, &job->wire.encoder);
}

static lw_status load_encoder(sender *s, int64_t longest, lw_error *err)
{
    lw_job *job = &s->endpoint.job;
    int64_t shared = lw_config_encoder_share(job->config);
    lw_checkpoint_model loaded;
    job->min_source = longest;
    if (shared >= 0) {
        lw_decoder_options options = {.max_positions = lw_job_encoder_positions(job, shared)};
        LW_TRY(lw_decoder_load(job->dev, job->encoder.path, &options, err, &job->llms[shared].decoder));
        job->llms[shared].weights_hash = lw_decoder_fingerprint(job->llms[shared].decoder);
    }
    LW_TRY(lw_job_load_encoder(job, 0, err));
    if (lw_job_note_encoder(job, &loaded)) {
        LW_TRY(lw_endpoint_same_model(&s->endpoint, &loaded, job->encoder.path, err));
    }
    return lw_endpoint_load(&s->endpoint, &job->wire.params, err, &job->wire_memory);
}

typedef struct encoder_place {
    sender *s;
    const lw_encoder_limits *limits;
} encoder_place;

static lw_status layout(void *context, lw_arena *arena, lw_error *err)
{
    const encoder_place *p = context;
    const lw_job *job = &p->s->endpoint.job;
    lw_encoder_buffers_free(&p->s->buffers);
    return lw_encoder_layout(arena, job->dev, &job->wire.params, &job->wire.encoder, LW_PASS_INFER, p->limits, err,
                             &p->s->buffers);
}

static lw_status open_encoder(sender *s, lw_error *err)
{
    lw_job *job = &s->endpoint.job;
    s->chunk = job->config->eval.batch < s->lines.count ? job->config->eval.batch : s->lines.count;
    lw_encoder_limits limits = limits_of(s);
    LW_TRY(load_encoder(s, limits.max_tokens, err));
    LW_TRY(
        lw_arena_place(job->dev, "work space of the encoder", layout, &(encoder_place){s, &limits}, err, &s->memory));
    LW_TRY(lw_encoder_buffers_start(job->dev, &job->wire.encoder, &s->buffers, err));
    LW_TRY(lw_encoder_batch_create(&limits, &s->buffers.on, err, &s->batch));
    size_t rows = (size_t)s->out.z_start[s->out.count];
    s->z = malloc((size_t)(limits.latents * s->out.d_z) * sizeof *s->z);
    s->out.data = malloc(rows * (size_t)lw_quantise_row_bytes(s->out.bits, s->out.d_z));
    return s->z != NULL && s->out.data != NULL ? LW_OK : lw_fail(err, LW_ERR_MEMORY, "no memory for %zu latents", rows);
}

static lw_status encode_chunk(sender *s, int64_t first, int64_t count, lw_error *err)
{
    lw_job *job = &s->endpoint.job;
    lw_device *dev = job->dev;
    lw_encoder_batch_clear(&s->batch);
    for (int64_t i = first; i < first + count; i++) {
        if (lw_encoder_batch_add(&s->batch, source(s, i), lw_wire_latents(&s->out, i)) < 0) {
            return lw_fail(err, LW_ERR_INTERNAL, "a pass exceeds the limits it was sized for");
        }
    }
    LW_TRY(lw_encoder_upload(dev, &job->wire.encoder, &s->batch, err, &s->buffers));
    lw_encoder_forward(dev, &job->wire.params, &job->wire.encoder, &s->batch, &s->buffers);
    dev->ops->download(dev, s->buffers.z, (size_t)(s->batch.z_rows * s->out.d_z) * sizeof *s->z, s->z);
    LW_TRY(dev->ops->sync(dev, err));
    size_t row_bytes = (size_t)lw_quantise_row_bytes(s->out.bits, s->out.d_z);
    return lw_quantise_encode(s->out.bits, s->batch.z_rows, s->out.d_z, s->z, err,
                              s->out.data + (size_t)s->out.z_start[first] * row_bytes);
}

static lw_status send(sender *s, int count, char **words, const char *checkpoint, lw_error *err)
{
    LW_TRY(lw_endpoint_open(count, words, checkpoint, err, &s->endpoint));
    if (isatty(STDOUT_FILENO)) {
        return lw_fail(err, LW_ERR_USAGE, "latents are no text: lwmpi encode CONFIG < texts.jsonl > wires.safetensors");
    }
    LW_TRY(declare_encoder(s, err));
    LW_TRY(read_texts(s, err));
    LW_TRY(open_encoder(s, err));
    for (int64_t first = 0; first < s->lines.count; first += s->chunk) {
        int64_t left = s->lines.count - first;
        LW_TRY(encode_chunk(s, first, left < s->chunk ? left : s->chunk, err));
    }
    return lw_wire_file_print(&s->out, stdout, "stdout", err);
}

typedef struct arguments {
    const char *checkpoint;
    int64_t bits;
} arguments;

static lw_status run(const lw_command *self, int argc, char **argv, lw_error *err)
{
    arguments a = {.bits = 32};
    int count;
    LW_TRY(lw_options_parse(self, argc, argv, err, &a, &count));
    if (!lw_quantise_has(a.bits)) {
        return lw_fail(err, LW_ERR_USAGE, "--bits %lld: latents travel in 32, 16, 8, 6 or 4 bits", (long long)a.bits);
    }
    sender s = {.out.bits = a.bits};
    lw_status status = send(&s, count, argv + 1, a.checkpoint, err);
    close_sender(&s);
    return status;
}

const lw_command lw_command_encode = {
    .name = "encode",
    .summary = "texts to latents: the sending end of the wire",
    .usage = "encode CONFIG [key=value ...] [--checkpoint DIR] [--bits N] < texts.jsonl > wires.safetensors",
    .text = "Reads texts, one JSON object a line, {\"id\": ..., \"context\": ..., \"question\": ...}, and writes "
            "their latents. With wire.compress = \"context\" the encoder reads the context alone; a question is not "
            "needed then, and one that is given travels beside the latents as text. Without \"id\" a text is named "
            "by its line. A text longer than prompt.max_source_bytes is cut, with a warning.\n\n"
            "One process. It loads the encoder of the checkpoint and nothing of the models that will read the "
            "latents.",
    .options = {{"checkpoint", "DIR", "as for lwmpi eval", LW_OPTION_INTO(arguments, checkpoint)},
                {"bits", "N",
                 "32, 16, 8, 6 or 4 bits a number; 32 when left out. 8 and less share a scale among 32 numbers",
                 LW_OPTION_INTO(arguments, bits), .min = 4, .max = 32}},
    .examples = {{"lwmpi encode my.cfg --bits 8 < texts.jsonl | lwmpi answer my.cfg", "both ends of the wire"}},
    .takes_overrides = true,
    .run = run,
};
