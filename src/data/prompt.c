// prompt.c: fills in the templates: the texts that the encoder and the LLMs read.
#include "data/prompt.h"

#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"

// A template up to its placeholder, then the value, then the rest of the template. The configuration check has made
// sure that the placeholder occurs once.
typedef struct filled {
    const char *head;
    size_t head_bytes;
    const char *value;
    size_t value_bytes;
    const char *tail;
} filled;

static filled fill(const char *template, const char *placeholder, const char *value, size_t value_bytes)
{
    const char *at = strstr(template, placeholder);
    return (filled){.head = template,
                    .head_bytes = (size_t)(at - template),
                    .value = value,
                    .value_bytes = value_bytes,
                    .tail = at + strlen(placeholder)};
}

static const filled nothing = {.head = "", .value = "", .tail = ""};

static filled fill_context(const lw_config *config, const lw_sample *sample, size_t context_bytes)
{
    if (context_bytes == 0) {
        return nothing;
    }
    if (sample->kind == LW_SAMPLE_TEXT) {
        return (filled){.head = "", .value = sample->context, .value_bytes = context_bytes, .tail = ""};
    }
    return fill(config->prompt.context, "{context}", sample->context, context_bytes);
}

static filled fill_question(const lw_config *config, const lw_sample *sample)
{
    if (sample->kind == LW_SAMPLE_TEXT) {
        return nothing;
    }
    return fill(config->prompt.question, "{question}", sample->question, strlen(sample->question));
}

static const char *anchor(const lw_config *config, const lw_sample *sample)
{
    return sample->kind == LW_SAMPLE_TEXT ? "" : config->prompt.anchor;
}

static size_t size_of(filled part)
{
    return part.head_bytes + part.value_bytes + strlen(part.tail);
}

static char *put(char *at, filled part)
{
    memcpy(at, part.head, part.head_bytes);
    at += part.head_bytes;
    memcpy(at, part.value, part.value_bytes);
    at += part.value_bytes;
    size_t tail_bytes = strlen(part.tail);
    memcpy(at, part.tail, tail_bytes);
    return at + tail_bytes;
}

// Concatenates a, b and `end`.
static lw_status join(filled a, filled b, const char *end, lw_error *err, char **out)
{
    size_t end_bytes = strlen(end);
    size_t bytes = size_of(a) + size_of(b) + end_bytes;
    char *text = malloc(bytes + 1);
    if (text == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for a prompt of %zu bytes", bytes);
    }
    memcpy(put(put(text, a), b), end, end_bytes + 1);
    *out = text;
    return LW_OK;
}

lw_status lw_prompt_text_cut(const lw_config *config, const lw_sample *sample, size_t context_bytes, lw_error *err,
                             char **out)
{
    return join(fill_context(config, sample, context_bytes), fill_question(config, sample), anchor(config, sample), err,
                out);
}

lw_status lw_prompt_text(const lw_config *config, const lw_sample *sample, lw_error *err, char **out)
{
    return lw_prompt_text_cut(config, sample, strlen(sample->context), err, out);
}

lw_status lw_prompt_suffix(const lw_config *config, const lw_sample *sample, lw_error *err, char **out)
{
    bool as_text = config->wire.compress == LW_COMPRESS_CONTEXT;
    return join(as_text ? fill_question(config, sample) : nothing, nothing, anchor(config, sample), err, out);
}

lw_status lw_prompt_answer(const lw_config *config, const lw_sample *sample, lw_error *err, char **out)
{
    const char *answer = sample->answers[0];
    if (sample->kind == LW_SAMPLE_TEXT) {
        return join(nothing, nothing, answer, err, out);
    }
    return join(fill(config->prompt.answer, "{answer}", answer, strlen(answer)), nothing, "", err, out);
}

size_t lw_prompt_answer_bytes(const lw_config *config, const char *text, size_t bytes)
{
    const char *tail = fill(config->prompt.answer, "{answer}", "", 0).tail;
    const char *end = *tail != '\0' ? memmem(text, bytes, tail, strlen(tail)) : NULL;
    return end != NULL ? (size_t)(end - text) : bytes;
}

lw_status lw_prompt_source(const lw_config *config, const lw_sample *sample, lw_error *err, char **out,
                           int64_t *out_bytes, bool *out_cut)
{
    size_t limit = (size_t)config->prompt.max_source_bytes;
    size_t context_bytes = strlen(sample->context);
    filled question = config->wire.compress == LW_COMPRESS_PROMPT ? fill_question(config, sample) : nothing;
    filled context = fill_context(config, sample, context_bytes);
    if (size_of(question) > limit) {
        return lw_fail(
            err, LW_ERR_CONFIG,
            "%s: the question alone has %zu bytes, more than prompt.max_source_bytes = %zu, and a question is "
            "never cut: raise that, or take the sample out",
            sample->id, size_of(question), limit);
    }
    bool cut = size_of(context) > limit - size_of(question);
    if (cut) {
        size_t template_bytes = size_of(context) - context_bytes;
        size_t used = size_of(question) + template_bytes;
        size_t room = used < limit ? limit - used : 0;
        context = fill_context(config, sample, lw_utf8_floor(sample->context, context_bytes, room));
    }
    if (size_of(context) + size_of(question) == 0) {
        return lw_fail(err, LW_ERR_CONFIG, "%s: nothing is left for the encoder to read: %s", sample->id,
                       cut ? "raise prompt.max_source_bytes"
                           : "the sample has no context, so it needs wire.compress = \"prompt\"");
    }
    char *text;
    LW_TRY(join(context, question, "", err, &text));
    *out = text;
    *out_bytes = (int64_t)(size_of(context) + size_of(question));
    *out_cut = cut;
    return LW_OK;
}
