// cmd_answer.c: `lwmpi answer`, the receiver: reads latents and prints every model's answers. It needs nothing of the
// encoder.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/endpoint.h"
#include "cli/options.h"
#include "data/prompt.h"
#include "data/sample.h"
#include "io/json.h"
#include "job/llm.h"
#include "model/generate.h"
#include "run/checkpoint_part.h"
#include "wire/wire_file.h"

// One question about one text.
typedef struct task {
    int64_t item;             // index of the text in the wire file
    const char *question;     // borrowed; "" where there is none
    char *id;                 // borrowed
    lw_tokens suffix;         // of the model at hand
    json_t *answers, *tokens; // by model
} task;

typedef struct receiver {
    lw_endpoint endpoint;
    lw_wire_set wires;
    lw_text_lines lines; // of --questions
    task *tasks;
    int64_t count, chunk;
    bool with_tokens;
    float *z; // host: latents of a pass, (rows, d_z)
} receiver;

// What one model needs; it is freed before the next one is loaded.
typedef struct reader {
    lw_llm *llm;
    lw_params params;
    lw_adapter adapter;
    lw_adapter_buffers soft;
    lw_generator generator;
    lw_arena params_memory, memory;
    float *z; // device (rows, d_z)
    lw_ids ids;
} reader;

static void close_receiver(receiver *r)
{
    for (int64_t i = 0; i < r->count; i++) {
        json_decref(r->tasks[i].answers);
        json_decref(r->tasks[i].tokens);
    }
    free(r->tasks);
    free(r->z);
    lw_text_lines_free(&r->lines);
    lw_wire_set_free(&r->wires);
    lw_endpoint_close(&r->endpoint);
}

// --- questions

static lw_status read_wires(receiver *r, const char *path, lw_error *err)
{
    const lw_config *c = r->endpoint.job.config;
    if (path != NULL) {
        LW_TRY(lw_wire_file_read(path, err, &r->wires));
    } else if (isatty(STDIN_FILENO)) {
        return lw_fail(err, LW_ERR_USAGE, "no latents: lwmpi answer CONFIG < wires.safetensors, or --wires FILE");
    } else {
        LW_TRY(lw_wire_file_read_stream(stdin, "stdin", err, &r->wires));
    }
    const char *name = path != NULL ? path : "stdin";
    if (r->wires.encoder != lw_checkpoint_encoder_hash(r->endpoint.state)) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "%s: its latents come from another encoder than this checkpoint's: both ends need the same "
                       "checkpoint",
                       name);
    }
    if (r->wires.d_z != c->wire.d_z || r->wires.compress != c->wire.compress) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "%s: made with wire.d_z = %lld and wire.compress = \"%s\", here %lld and \"%s\"", name,
                       (long long)r->wires.d_z, lw_compress_name(r->wires.compress), (long long)c->wire.d_z,
                       lw_compress_name(c->wire.compress));
    }
    return LW_OK;
}

static lw_status read_questions(receiver *r, const char *path, lw_error *err)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "%s: cannot open", path);
    }
    lw_status status = lw_text_lines_read(file, path, err, &r->lines);
    fclose(file);
    return status;
}

static lw_status find_item(const receiver *r, const json_t *by_id, const lw_text_line *line, int64_t number,
                           lw_error *err, int64_t *out)
{
    const json_t *item = json_object_get(by_id, line->id);
    if (line->named && item == NULL) {
        return lw_fail(err, LW_ERR_FORMAT, "a question about \"%s\", but no latents have this id", line->id);
    }
    if (!line->named && number >= r->wires.count) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "question %lld has no \"id\" and there are latents of only %lld texts: questions without one "
                       "belong to the texts in their order",
                       (long long)number + 1, (long long)r->wires.count);
    }
    *out = line->named ? json_integer_value(item) : number;
    return LW_OK;
}

// The questions of a file: each is about the text with the same id or, when it has no id, in the same place.
static lw_status tasks_of_lines(receiver *r, lw_error *err)
{
    json_t *by_id = json_object();
    lw_status status = LW_OK;
    for (int64_t i = 0; status == LW_OK && i < r->wires.count; i++) {
        if (json_object_set_new(by_id, r->wires.items[i].id, json_integer(i)) != 0) {
            status = lw_fail(err, LW_ERR_MEMORY, "no memory for the texts' names");
        }
    }
    for (int64_t i = 0; status == LW_OK && i < r->count; i++) {
        const lw_text_line *line = &r->lines.list[i];
        task *t = &r->tasks[i];
        status = find_item(r, by_id, line, i, err, &t->item);
        if (status == LW_OK) {
            t->question = line->question;
            t->id = r->wires.items[t->item].id;
        }
    }
    json_decref(by_id);
    return status;
}

static lw_status make_tasks(receiver *r, const char *questions, lw_error *err)
{
    if (questions != NULL) {
        LW_TRY(read_questions(r, questions, err));
    }
    int64_t n = questions != NULL ? r->lines.count : r->wires.count;
    r->tasks = calloc((size_t)n, sizeof *r->tasks);
    if (r->tasks == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for %lld questions", (long long)n);
    }
    r->count = n;
    for (int64_t i = 0; i < n && questions == NULL; i++) {
        const lw_wire_item *item = &r->wires.items[i];
        r->tasks[i].item = i;
        r->tasks[i].id = item->id;
        r->tasks[i].question = item->question != NULL ? item->question : "";
    }
    if (questions != NULL) {
        LW_TRY(tasks_of_lines(r, err));
    }
    for (int64_t i = 0; i < n; i++) {
        task *t = &r->tasks[i];
        if (t->question[0] == '\0' && r->wires.compress == LW_COMPRESS_CONTEXT) {
            return lw_fail(
                err, LW_ERR_FORMAT,
                "no question about the text \"%s\": it did not come with the latents, so give --questions FILE", t->id);
        }
        t->answers = json_object();
        t->tokens = json_object();
        if (t->answers == NULL || t->tokens == NULL) {
            return lw_fail(err, LW_ERR_MEMORY, "no memory for the answers");
        }
    }
    return LW_OK;
}

// --- one model

static void close_reader(receiver *r, reader *m)
{
    lw_device *dev = r->endpoint.job.dev;
    lw_generator_free(&m->generator);
    lw_arena_free(dev, &m->memory);
    lw_arena_free(dev, &m->params_memory);
    lw_params_free(&m->params);
    lw_ids_free(&m->ids);
    lw_decoder_destroy(&m->llm->decoder);
    lw_tokenizer_destroy(&m->llm->tokenizer);
}

static lw_status append_suffix(const receiver *r, reader *m, lw_tokenizer_scratch *scratch, const task *t,
                               lw_error *err)
{
    char *text = NULL;
    const lw_sample sample = {.id = t->id, .context = "", .question = (char *)(uintptr_t)t->question}; // only read
    LW_TRY(lw_prompt_suffix(r->endpoint.job.config, &sample, err, &text));
    lw_status status = m->llm->bos >= 0 ? lw_ids_push(&m->ids, m->llm->bos, err) : LW_OK;
    if (status == LW_OK) {
        status = lw_tokenizer_encode_with(m->llm->tokenizer, scratch, text, strlen(text), false, err, &m->ids);
    }
    free(text);
    return status;
}

static lw_status make_suffixes(receiver *r, reader *m, lw_error *err)
{
    lw_tokenizer_scratch *scratch = NULL;
    lw_status status = lw_tokenizer_scratch_create(m->llm->tokenizer, err, &scratch);
    for (int64_t i = 0; status == LW_OK && i < r->count; i++) {
        size_t first = m->ids.len;
        status = append_suffix(r, m, scratch, &r->tasks[i], err);
        r->tasks[i].suffix = (lw_tokens){NULL, (int64_t)(m->ids.len - first)};
    }
    lw_tokenizer_scratch_destroy(&scratch);
    const int32_t *at = m->ids.data; // which stays where it is from now on
    for (int64_t i = 0; status == LW_OK && i < r->count; i++) {
        r->tasks[i].suffix.ids = at;
        at += r->tasks[i].suffix.count;
    }
    return status;
}

// What the largest pass of `chunk` questions needs.
static lw_pass_limits limits_of(const receiver *r)
{
    lw_pass_limits l = {.sequences = r->chunk, .supervised = r->chunk};
    for (int64_t first = 0; first < r->count; first += r->chunk) {
        int64_t prefix = 0;
        int64_t rows = 0;
        for (int64_t i = first; i < first + r->chunk && i < r->count; i++) {
            const task *t = &r->tasks[i];
            int64_t own = lw_wire_latents(&r->wires, t->item);
            int64_t length = own + t->suffix.count;
            prefix += own;
            rows += length;
            l.max_len = length > l.max_len ? length : l.max_len;
        }
        l.prefix_rows = prefix > l.prefix_rows ? prefix : l.prefix_rows;
        l.rows = rows > l.rows ? rows : l.rows;
    }
    l.max_len += r->endpoint.job.config->eval.max_new_tokens;
    return l;
}

typedef struct reader_place {
    receiver *r;
    reader *m;
    const lw_pass_limits *limits;
} reader_place;

static lw_status layout(void *context, lw_arena *arena, lw_error *err)
{
    const reader_place *p = context;
    reader *m = p->m;
    const lw_pass_limits *limits = p->limits;
    const lw_job *job = &p->r->endpoint.job;
    m->z = LW_TAKE(arena, limits->prefix_rows * p->r->wires.d_z, float);
    lw_adapter_layout(arena, &m->adapter, limits->prefix_rows, 0, &m->soft);
    return lw_generator_layout(arena, job->dev, &m->llm->config, limits, job->config->eval.max_new_tokens, err,
                               &m->generator);
}

static lw_status load_reader(receiver *r, reader *m, const lw_pass_limits *limits, lw_error *err)
{
    lw_job *job = &r->endpoint.job;
    const lw_config *c = job->config;
    lw_decoder_options options = {.max_positions = limits->max_len};
    LW_TRY(lw_decoder_load(job->dev, m->llm->path, &options, err, &m->llm->decoder));
    m->llm->weights_hash = lw_decoder_fingerprint(m->llm->decoder);
    lw_checkpoint_model loaded;
    lw_llm_note(m->llm, &loaded);
    LW_TRY(lw_endpoint_same_model(&r->endpoint, &loaded, m->llm->path, err));
    m->adapter = lw_adapter_declare(&m->params, m->llm->name, c->wire.d_z, c->adapter.hidden, m->llm->config.d);
    if (m->adapter.gain < 0) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the table of parameters");
    }
    m->adapter.scale = c->adapter.embedding_scale ? lw_decoder_embedding_rms(m->llm->decoder) : 1.0F;
    LW_TRY(lw_endpoint_load(&r->endpoint, &m->params, err, &m->params_memory));
    LW_TRY(lw_arena_place(job->dev, "work space of a model", layout, &(reader_place){r, m, limits}, err, &m->memory));
    return lw_generator_start(&m->generator, m->llm->decoder, err);
}

static lw_status keep_answer(receiver *r, const reader *m, task *t, const lw_generated *g, lw_error *err)
{
    char *text = NULL;
    size_t bytes = 0;
    LW_TRY(lw_tokenizer_decode(m->llm->tokenizer, g->ids, (size_t)g->count, true, err, &text, &bytes));
    bool kept =
        json_object_set_new(t->answers, m->llm->name,
                            json_stringn(text, lw_prompt_answer_bytes(r->endpoint.job.config, text, bytes))) == 0;
    free(text);
    json_t *ids = r->with_tokens ? json_array() : NULL;
    for (int64_t i = 0; ids != NULL && i < g->count; i++) {
        json_array_append_new(ids, json_integer(g->ids[i]));
    }
    kept = kept && (ids == NULL || json_object_set_new(t->tokens, m->llm->name, ids) == 0);
    return kept ? LW_OK : lw_fail(err, LW_ERR_MEMORY, "no memory for an answer");
}

static lw_status answer_chunk(receiver *r, reader *m, int64_t first, int64_t count, lw_error *err)
{
    lw_job *job = &r->endpoint.job;
    const lw_tokens none = {NULL, 0};
    int64_t rows = 0;
    lw_generator_clear(&m->generator);
    for (int64_t i = first; i < first + count; i++) {
        const task *t = &r->tasks[i];
        int64_t own = lw_wire_latents(&r->wires, t->item);
        LW_TRY(lw_wire_decode(&r->wires, t->item, 1, err, r->z + rows * r->wires.d_z));
        if (!lw_generator_add(&m->generator, rows, own, t->suffix, none, none)) {
            return lw_fail(err, LW_ERR_INTERNAL, "a pass exceeds the limits it was sized for");
        }
        rows += own;
    }
    job->dev->ops->upload(job->dev, r->z, (size_t)(rows * r->wires.d_z) * sizeof *r->z, m->z);
    lw_adapter_forward(job->dev, &m->params, &m->adapter, rows, m->z, &m->soft);
    LW_TRY(lw_generator_run(&m->generator, m->soft.soft, m->llm->eos, err));
    for (int64_t i = 0; i < count; i++) {
        LW_TRY(keep_answer(r, m, &r->tasks[first + i], &m->generator.sequences[i], err));
    }
    return LW_OK;
}

static lw_status answer_all(receiver *r, reader *m, lw_error *err)
{
    LW_TRY(lw_hf_config_read(m->llm->path, err, &m->llm->config));
    LW_TRY(lw_job_open_text(&r->endpoint.job, m->llm, err));
    LW_TRY(make_suffixes(r, m, err));
    lw_pass_limits limits = limits_of(r);
    free(r->z);
    r->z = malloc((size_t)(limits.prefix_rows * r->wires.d_z) * sizeof *r->z);
    if (r->z == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for %lld latents", (long long)limits.prefix_rows);
    }
    LW_TRY(load_reader(r, m, &limits, err));
    for (int64_t first = 0; first < r->count; first += r->chunk) {
        int64_t left = r->count - first;
        LW_TRY(answer_chunk(r, m, first, left < r->chunk ? left : r->chunk, err));
    }
    return LW_OK;
}

static lw_status answer_with(receiver *r, int64_t j, lw_error *err)
{
    const lw_config *c = r->endpoint.job.config;
    reader m = {.llm = &r->endpoint.job.llms[j]};
    m.llm->name = c->models[j].name;
    m.llm->path = c->models[j].path;
    lw_status status = answer_all(r, &m, err);
    close_reader(r, &m);
    return status == LW_OK ? LW_OK : lw_fail_in(err, status, "model \"%s\"", m.llm->name);
}

// --- the command

static lw_status print_answers(const receiver *r, lw_error *err)
{
    for (int64_t i = 0; i < r->count; i++) {
        const task *t = &r->tasks[i];
        json_t *row = json_pack("{s:s, s:s, s:O}", "id", t->id, "question", t->question, "answers", t->answers);
        bool made = row != NULL && (!r->with_tokens || json_object_set(row, "tokens", t->tokens) == 0) &&
                    json_dumpf(row, stdout, JSON_COMPACT) == 0;
        json_decref(row);
        if (!made || fputc('\n', stdout) == EOF) {
            return lw_fail(err, LW_ERR_IO, "the answers cannot be written");
        }
    }
    return LW_OK;
}

typedef struct arguments {
    const char *checkpoint, *wires, *questions;
    bool tokens;
} arguments;

static lw_status receive(receiver *r, int count, char **words, const arguments *a, lw_error *err)
{
    LW_TRY(lw_endpoint_open(count, words, a->checkpoint, err, &r->endpoint));
    LW_TRY(read_wires(r, a->wires, err));
    LW_TRY(make_tasks(r, a->questions, err));
    int64_t most = r->endpoint.job.config->eval.batch;
    r->chunk = most < r->count ? most : r->count;
    for (int64_t j = 0; j < r->endpoint.job.config->model_count; j++) {
        LW_TRY(answer_with(r, j, err));
    }
    return print_answers(r, err);
}

static lw_status run(const lw_command *self, int argc, char **argv, lw_error *err)
{
    arguments a = {0};
    int count;
    LW_TRY(lw_options_parse(self, argc, argv, err, &a, &count));
    receiver r = {.with_tokens = a.tokens};
    lw_status status = receive(&r, count, argv + 1, &a, err);
    close_receiver(&r);
    return status;
}

const lw_command lw_command_answer = {
    .name = "answer",
    .summary = "latents to answers: the receiving end of the wire",
    .usage = "answer CONFIG [key=value ...] [--checkpoint DIR] [--wires FILE] [--questions FILE] [--tokens] < "
             "wires.safetensors",
    .text = "Reads the latents that lwmpi encode wrote and lets every model of CONFIG answer. One JSON object a "
            "line: {\"id\": ..., \"question\": ..., \"answers\": {MODEL: TEXT, ...}}.\n\n"
            "One process. It loads one model after the other and nothing of the encoder. Latents of another encoder "
            "than the checkpoint's are refused.",
    .options =
        {{"checkpoint", "DIR", "as for lwmpi eval", LW_OPTION_INTO(arguments, checkpoint)},
         {"wires", "FILE", "the latents; standard input when left out", LW_OPTION_INTO(arguments, wires)},
         {"questions", "FILE",
          "asks these and not what came with the latents: {\"id\": ..., \"question\": ...} a line, any number about "
          "each text; without \"id\" one for each text, in order",
          LW_OPTION_INTO(arguments, questions)},
         {"tokens", NULL, "adds \"tokens\": {MODEL: [ID, ...], ...}", LW_OPTION_INTO(arguments, tokens)}},
    .examples = {{"lwmpi answer my.cfg --wires wires.safetensors --questions asked.jsonl", ""}},
    .takes_overrides = true,
    .run = run,
};
