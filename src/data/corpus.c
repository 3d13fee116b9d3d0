// corpus.c: reads and tokenises a data file, and makes the views that the step takes.
#include "data/corpus.h"

#include <stdlib.h>

#include "core/numbers.h"
#include "core/random.h"
#include "data/prompt.h"

// Appends the tokens of one text in the encoder's alphabet.
static lw_status append_source(const lw_tokenizer *encoder, lw_tokenizer_scratch *scratch, const char *text,
                               int64_t bytes, lw_error *err, lw_ids *ids)
{
    if (encoder != NULL) {
        return lw_tokenizer_encode_with(encoder, scratch, text, (size_t)bytes, false, err, ids);
    }
    LW_TRY(lw_ids_reserve(ids, (size_t)bytes, err));
    for (int64_t i = 0; i < bytes; i++) {
        ids->data[ids->len++] = (unsigned char)text[i];
    }
    return LW_OK;
}

lw_status lw_corpus_source(const lw_config *config, const lw_sample *sample, const lw_tokenizer *encoder,
                           lw_tokenizer_scratch *scratch, lw_error *err, lw_ids *ids, int64_t *bytes, bool *cut)
{
    char *text = NULL;
    LW_TRY(lw_prompt_source(config, sample, err, &text, bytes, cut));
    lw_status status = append_source(encoder, scratch, text, *bytes, err, ids);
    free(text);
    return status;
}

static lw_status read_source(const lw_config *config, lw_corpus *c, int64_t i, const lw_tokenizer *encoder,
                             lw_tokenizer_scratch *scratch, lw_error *err, lw_ids *ids)
{
    int64_t bytes = 0;
    bool cut = false;
    LW_TRY(lw_corpus_source(config, &c->data.samples[i], encoder, scratch, err, ids, &bytes, &cut));
    c->source_bytes += bytes;
    c->cut_sources += cut;
    c->source.start[i + 1] = (int64_t)ids->len;
    return LW_OK;
}

static lw_status read_sources(const lw_config *config, lw_corpus *c, const lw_tokenizer *encoder, lw_error *err)
{
    lw_tokenizer_scratch *scratch = NULL;
    lw_ids ids = {0};
    lw_status status = LW_OK;
    c->source.start = calloc((size_t)c->count + 1, sizeof *c->source.start);
    if (c->source.start == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the sources of %lld samples", (long long)c->count);
    }
    if (encoder != NULL) {
        LW_TRY(lw_tokenizer_scratch_create(encoder, err, &scratch));
    }
    for (int64_t i = 0; i < c->count && status == LW_OK; i++) {
        lw_heartbeat_report(&c->data.heartbeat);
        status = read_source(config, c, i, encoder, scratch, err, &ids);
    }
    lw_tokenizer_scratch_destroy(&scratch);
    c->source.ids = ids.data;
    return status;
}

static lw_tokens tokens_of(const lw_token_list *list, int64_t i)
{
    return (lw_tokens){list->ids + list->start[i], list->start[i + 1] - list->start[i]};
}

// A window that is repeated has the first target_tokens of its own tokens as its answer.
static lw_token_sample view_of(const lw_corpus *c, int64_t i, lw_task task)
{
    lw_token_sample s = {.task = task, .source = tokens_of(&c->source, i)};
    for (int64_t j = 0; j < c->llm_count; j++) {
        const lw_token_set *set = &c->tokens[j];
        s.prompt[j] = tokens_of(&set->prompt, i);
        s.suffix[j] = tokens_of(&set->suffix, i);
        s.answer[j] = tokens_of(&set->answer, i);
        if (task == LW_TASK_REPEAT) {
            int64_t window = s.prompt[j].count - set->bos;
            s.answer[j] = (lw_tokens){s.prompt[j].ids + set->bos, lw_min_i64(window, c->data.target_tokens)};
        }
    }
    return s;
}

static lw_status make_views(lw_corpus *c, lw_error *err)
{
    bool both = c->data.repeated > 0.0 && c->data.repeated < 1.0;
    c->view_count = both ? 2 * c->count : c->count;
    c->samples = calloc((size_t)c->view_count, sizeof *c->samples);
    if (c->samples == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for %lld samples", (long long)c->count);
    }
    for (int64_t i = 0; i < c->view_count; i++) {
        lw_task task = c->data.samples[i % c->count].kind == LW_SAMPLE_QUESTION ? LW_TASK_ANSWER
                       : i >= c->count || c->data.repeated >= 1.0               ? LW_TASK_REPEAT
                                                                                : LW_TASK_CONTINUE;
        c->samples[i] = view_of(c, i % c->count, task);
    }
    return LW_OK;
}

const lw_token_sample *lw_corpus_sample(const lw_corpus *c, int64_t index, uint64_t seed, int64_t counter)
{
    bool repeat = c->view_count > c->count &&
                  lw_random_uniform(seed, lw_random_stream("task"), (uint64_t)counter) < c->data.repeated;
    return &c->samples[repeat ? c->count + index : index];
}

lw_status lw_corpus_read(const lw_config *config, const lw_data_source *source, const lw_tokenizer *encoder,
                         const lw_llm_text *llms, const char *cache_dir, lw_error *err, lw_corpus *out)
{
    lw_corpus c = {0};
    lw_status status = LW_OK;
    LW_TRY_GOTO(lw_dataset_read(source, err, &c.data));
    c.count = c.data.count;
    LW_TRY_GOTO(read_sources(config, &c, encoder, err));
    for (int64_t j = 0; j < config->model_count; j++) {
        status = lw_token_set_make(config, &c.data, llms[j].tokenizer, llms[j].bos, llms[j].eos, cache_dir, err,
                                   &c.tokens[j]);
        if (status != LW_OK) {
            lw_fail_in(err, status, "%s for model \"%s\"", source->path, config->models[j].name);
            goto done;
        }
        c.llm_count = j + 1;
    }
    LW_TRY_GOTO(make_views(&c, err));
done:
    if (status != LW_OK) {
        lw_corpus_free(&c);
        return status;
    }
    *out = c;
    return LW_OK;
}

void lw_corpus_free(lw_corpus *c)
{
    for (int64_t j = 0; j < c->llm_count; j++) {
        lw_token_set_free(&c->tokens[j]);
    }
    lw_dataset_free(&c->data);
    free(c->source.ids);
    free(c->source.start);
    free(c->samples);
    *c = (lw_corpus){0};
}

int64_t lw_corpus_max_positions(const lw_corpus *c, const lw_config *config, int64_t llm)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < c->view_count; i++) {
        const lw_token_sample *s = &c->samples[i];
        int64_t latents = lw_config_latents(config, s->source.count) + 1 + lw_task_rows(s->task);
        int64_t before = lw_max_i64(s->prompt[llm].count, latents + s->suffix[llm].count);
        longest = lw_max_i64(longest, before + lw_max_i64(s->answer[llm].count, lw_config_new_tokens(config)));
    }
    return longest;
}
