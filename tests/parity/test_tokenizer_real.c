// tokenizer_real: the real Llama-3.1 and Qwen2.5 tokenizer.json against Hugging Face's ids on 4,460 texts: XQuAD in six
// languages (NFC, and NFD for four) and our own. They are not in the tree: skipped without LWMPI_SHARED_DIR.
#include <unistd.h>

#include <utf8proc.h>

#include "tokenizer/golden.h"

static void add_nfd(golden_texts *texts, const char *text)
{
    utf8proc_uint8_t *nfd = utf8proc_NFD((const utf8proc_uint8_t *)text);
    REQUIRE(nfd, "no NFD of: %s", text);
    golden_add(texts, (const char *)nfd, strlen((const char *)nfd));
    free(nfd);
}

// The order of real_texts() in make_goldens.py: paragraphs, every fifth question, the one behind it in NFD.
static void add_paragraph(golden_texts *texts, const json_t *paragraph, bool with_nfd, size_t *questions)
{
    const json_t *context = json_object_get(paragraph, "context");
    golden_add(texts, json_string_value(context), json_string_length(context));
    const json_t *qas = json_object_get(paragraph, "qas");
    for (size_t i = 0; i < json_array_size(qas); i++, ++*questions) {
        const json_t *question = json_object_get(json_array_get(qas, i), "question");
        if (*questions % 5 == 0) {
            golden_add(texts, json_string_value(question), json_string_length(question));
        } else if (*questions % 5 == 1 && with_nfd) {
            add_nfd(texts, json_string_value(question));
        }
    }
}

static void add_language(golden_texts *texts, const char *shared, const char *language)
{
    char path[4096];
    json_error_t error;
    size_t questions = 0;
    snprintf(path, sizeof path, "%s/data/xquad/xquad.%s.json", shared, language);
    json_t *json = json_load_file(path, 0, &error);
    REQUIRE(json, "%s: %s", path, error.text);
    const bool with_nfd = strcmp(language, "en") != 0 && strcmp(language, "zh") != 0;
    const json_t *articles = json_object_get(json, "data");
    for (size_t i = 0; i < json_array_size(articles); i++) {
        const json_t *paragraphs = json_object_get(json_array_get(articles, i), "paragraphs");
        for (size_t j = 0; j < json_array_size(paragraphs); j++) {
            add_paragraph(texts, json_array_get(paragraphs, j), with_nfd, &questions);
        }
    }
    json_decref(json);
}

int main(void)
{
    static const char *const languages[] = {"en", "de", "es", "ro", "vi", "zh"};
    static const char *const names[] = {"llama-3.1", "qwen2.5"};
    const char *source = golden_setting("LWMPI_SOURCE_DIR", ".");
    const char *shared = golden_setting("LWMPI_SHARED_DIR", "../shared");
    char path[4096];
    golden_texts texts = {0};
    snprintf(path, sizeof path, "%s/tokenizers/llama-3.1/tokenizer.json", shared);
    if (access(path, R_OK) != 0) {
        printf("skipped: %s is not there\n", path);
        return 77;
    }
    for (size_t i = 0; i < sizeof languages / sizeof *languages; i++) {
        add_language(&texts, shared, languages[i]);
    }
    snprintf(path, sizeof path, "%s/tests/parity/tokenizer/texts.jsonl", source);
    golden_read_texts(path, &texts);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lw_error err;
        lw_tokenizer *tokenizer = NULL;
        snprintf(path, sizeof path, "%s/tokenizers/%s/tokenizer.json", shared, names[i]);
        REQUIRE(lw_tokenizer_load(path, &err, &tokenizer) == LW_OK, "%s", err.text);
        snprintf(path, sizeof path, "%s/tests/parity/tokenizer/%s.golden", source, names[i]);
        golden_compare(path, tokenizer, &texts);
        lw_tokenizer_destroy(&tokenizer);
    }
    golden_free(&texts);
    return 0;
}
