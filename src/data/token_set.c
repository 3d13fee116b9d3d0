// token_set.c: tokenises the prompts, suffixes and answers of a data set.
#include "data/token_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/signals.h"
#include "core/utf8.h"
#include "data/prompt.h"
#include "data/token_cache.h"

// The state of one call of lw_token_set_make.
typedef struct maker {
    const lw_config *config;
    const lw_tokenizer *tokenizer;
    lw_tokenizer_scratch *scratch;
    int32_t bos, eos;
    int64_t target_tokens;
    lw_ids prompt, suffix, answer; // of all samples so far
    lw_ids work;                   // ids of the text at hand
    lw_token_set *set;
} maker;

// Leaves [bos] and the ids of `text` in m->work; frees `text`.
static lw_status encode(maker *m, char *text, int32_t bos, lw_error *err)
{
    m->work.len = 0;
    lw_status status = bos >= 0 ? lw_ids_push(&m->work, bos, err) : LW_OK;
    if (status == LW_OK) {
        status = lw_tokenizer_encode_with(m->tokenizer, m->scratch, text, strlen(text), false, err, &m->work);
    }
    free(text);
    return status;
}

static lw_status append(lw_ids *all, const lw_ids *more, size_t count, lw_error *err)
{
    LW_TRY(lw_ids_reserve(all, count, err));
    if (count > 0) {
        memcpy(all->data + all->len, more->data, count * sizeof *more->data);
    }
    all->len += count;
    return LW_OK;
}

// Leaves the prompt with the first `context_bytes` bytes of the context in m->work.
static lw_status encode_prompt(maker *m, const lw_sample *sample, size_t context_bytes, lw_error *err)
{
    char *text;
    LW_TRY(lw_prompt_text_cut(m->config, sample, context_bytes, err, &text));
    return encode(m, text, m->bos, err);
}

// Finds by bisection how many bytes of the context fit. The count of tokens grows with the bytes, except for a token or
// so where a cut falls inside a word; `fits` is always a value that was tried, so the result does fit. `fails`: bytes
// that have been tried and do not fit.
static lw_status cut_prompt(maker *m, const lw_sample *sample, size_t fails, lw_error *err)
{
    size_t most = (size_t)m->config->prompt.max_prompt_tokens;
    size_t fits = 0;
    size_t bytes = strlen(sample->context);
    LW_TRY(encode_prompt(m, sample, 0, err));
    if (m->work.len > most) {
        return lw_fail(err, LW_ERR_CONFIG,
                       "the question alone makes a prompt of %zu tokens, more than prompt.max_prompt_tokens = %zu, and "
                       "a question is never cut: raise that, or take the sample out",
                       m->work.len, most);
    }
    for (;;) {
        size_t middle = lw_utf8_floor(sample->context, bytes, fits + (fails - fits) / 2);
        if (middle <= fits) { // inside the character after `fits`: try its end
            middle = lw_utf8_ceiling(sample->context, bytes, fits + 1);
        }
        if (middle >= fails) {
            break;
        }
        LW_TRY(encode_prompt(m, sample, middle, err));
        if (m->work.len <= most) {
            fits = middle;
        } else {
            fails = middle;
        }
    }
    m->set->cut_prompts++;
    return encode_prompt(m, sample, fits, err);
}

// Tokenises only as much of a long context as may fit: many questions may share one context that fills a file.
static lw_status make_prompt(maker *m, const lw_sample *sample, lw_error *err)
{
    enum { BYTES_PER_TOKEN = 8 };
    size_t most = (size_t)m->config->prompt.max_prompt_tokens;
    size_t bytes = strlen(sample->context);
    size_t tried = 0;
    do {
        tried = lw_utf8_floor(sample->context, bytes, tried == 0 ? BYTES_PER_TOKEN * most : 2 * tried);
        LW_TRY(encode_prompt(m, sample, tried, err));
    } while (m->work.len <= most && tried < bytes);
    if (m->work.len > most) {
        LW_TRY(cut_prompt(m, sample, tried, err));
    }
    return append(&m->prompt, &m->work, m->work.len, err);
}

static lw_status make_suffix(maker *m, const lw_sample *sample, lw_error *err)
{
    char *text;
    if (sample->kind == LW_SAMPLE_TEXT) {
        return LW_OK; // only a learned token follows the latents
    }
    LW_TRY(lw_prompt_suffix(m->config, sample, err, &text));
    LW_TRY(encode(m, text, m->bos, err));
    return append(&m->suffix, &m->work, m->work.len, err);
}

static lw_status make_answer(maker *m, const lw_sample *sample, lw_error *err)
{
    bool window = sample->kind == LW_SAMPLE_TEXT;
    size_t most = (size_t)(window ? m->target_tokens : m->config->prompt.max_answer_tokens);
    char *text;
    LW_TRY(lw_prompt_answer(m->config, sample, err, &text));
    LW_TRY(encode(m, text, -1, err));
    if (m->work.len == 0) {
        return lw_fail(err, LW_ERR_CONFIG, "the answer has no tokens");
    }
    if (m->eos >= 0 && !window) {
        LW_TRY(lw_ids_push(&m->work, m->eos, err));
    }
    m->set->cut_answers += m->work.len > most && !window; // there is always more of a document
    return append(&m->answer, &m->work, m->work.len > most ? most : m->work.len, err);
}

static lw_status make_all(maker *m, const lw_dataset *dataset, lw_error *err)
{
    for (int64_t i = 0; i < dataset->count; i++) {
        const lw_sample *sample = &dataset->samples[i];
        lw_heartbeat_report(&dataset->heartbeat);
        LW_TRY(lw_signal_check(LW_OK)); // large data takes minutes
        lw_status status = make_prompt(m, sample, err);
        if (status == LW_OK) {
            status = make_suffix(m, sample, err);
        }
        if (status == LW_OK) {
            status = make_answer(m, sample, err);
        }
        if (status != LW_OK) {
            return lw_fail_in(err, status, "%.600s", sample->id);
        }
        m->set->prompt.start[i + 1] = (int64_t)m->prompt.len;
        m->set->suffix.start[i + 1] = (int64_t)m->suffix.len;
        m->set->answer.start[i + 1] = (int64_t)m->answer.len;
    }
    return LW_OK;
}

static int64_t count_vocab(const lw_ids *ids, int64_t vocab)
{
    for (size_t i = 0; i < ids->len; i++) {
        vocab = ids->data[i] >= vocab ? ids->data[i] + 1 : vocab;
    }
    return vocab;
}

static void hand_over(lw_ids *ids, lw_token_list *list)
{
    list->ids = ids->data;
    *ids = (lw_ids){0};
}

static lw_status tokenise(const lw_config *config, const lw_dataset *dataset, const lw_tokenizer *tokenizer,
                          int32_t bos, int32_t eos, lw_error *err, lw_token_set *set)
{
    maker m = {.config = config,
               .tokenizer = tokenizer,
               .bos = bos,
               .eos = eos,
               .target_tokens = dataset->target_tokens,
               .set = set};
    size_t starts = (size_t)dataset->count + 1;
    lw_status status = LW_OK;
    set->count = dataset->count;
    set->prompt.start = calloc(starts, sizeof *set->prompt.start);
    set->suffix.start = calloc(starts, sizeof *set->suffix.start);
    set->answer.start = calloc(starts, sizeof *set->answer.start);
    if (set->prompt.start == NULL || set->suffix.start == NULL || set->answer.start == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory for the tokens of %lld samples", (long long)dataset->count);
    }
    if (status == LW_OK) {
        status = lw_tokenizer_scratch_create(tokenizer, err, &m.scratch);
    }
    if (status == LW_OK) {
        status = make_all(&m, dataset, err);
    }
    if (status == LW_OK) {
        set->vocab = count_vocab(&m.answer, count_vocab(&m.suffix, count_vocab(&m.prompt, 0)));
        hand_over(&m.prompt, &set->prompt);
        hand_over(&m.suffix, &set->suffix);
        hand_over(&m.answer, &set->answer);
    }
    lw_tokenizer_scratch_destroy(&m.scratch);
    lw_ids_free(&m.prompt);
    lw_ids_free(&m.suffix);
    lw_ids_free(&m.answer);
    lw_ids_free(&m.work);
    return status;
}

// A hash of everything that the tokens depend on.
static uint64_t cache_key(const lw_config *config, const lw_dataset *dataset, const lw_tokenizer *tokenizer,
                          int32_t bos, int32_t eos)
{
    const int64_t numbers[] = {(int64_t)dataset->fingerprint,
                               dataset->count,
                               (int64_t)lw_tokenizer_fingerprint(tokenizer),
                               bos,
                               eos,
                               config->wire.compress,
                               config->prompt.max_answer_tokens,
                               config->prompt.max_prompt_tokens,
                               dataset->target_tokens};
    const char *const texts[] = {config->prompt.context, config->prompt.question, config->prompt.anchor,
                                 config->prompt.answer};
    // A data set of questions leaves target_tokens out, so that its key is the one it had before windows of text
    // existed.
    size_t used = sizeof numbers - (dataset->target_tokens == 0 ? sizeof numbers[0] : 0);
    uint64_t hash = lw_xxh64(numbers, used, LW_TOKEN_CACHE_VERSION);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        hash = lw_xxh64(texts[i], strlen(texts[i]) + 1, hash);
    }
    return hash;
}

lw_status lw_token_set_make(const lw_config *config, const lw_dataset *dataset, const lw_tokenizer *tokenizer,
                            int32_t bos, int32_t eos, const char *cache_dir, lw_error *err, lw_token_set *out)
{
    lw_token_set set = {0};
    uint64_t key = cache_key(config, dataset, tokenizer, bos, eos);
    int64_t vocab = lw_tokenizer_vocab_size(tokenizer);
    if (cache_dir != NULL && lw_token_cache_read(cache_dir, key, dataset->count, vocab, &set)) {
        set.bos = bos >= 0 ? 1 : 0;
        *out = set;
        return LW_OK;
    }
    lw_status status = tokenise(config, dataset, tokenizer, bos, eos, err, &set);
    if (status != LW_OK) {
        lw_token_set_free(&set);
        return status;
    }
    set.bos = bos >= 0 ? 1 : 0;
    lw_error note;
    if (cache_dir != NULL && lw_token_cache_write(cache_dir, key, &set, &note) != LW_OK) {
        snprintf(set.cache_note, sizeof set.cache_note, "tokens are not kept: %.480s", note.text);
    }
    *out = set;
    return LW_OK;
}
