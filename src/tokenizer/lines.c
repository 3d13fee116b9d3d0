// lines.c: JSON lines of text -> JSON lines of ids.
#include <errno.h>

#include "io/json.h"
#include "io/json_lines.h"
#include "tokenizer/tokenizer.h"

static lw_status encode_line(const lw_tokenizer *tokenizer, lw_tokenizer_scratch *scratch, bool parse_special,
                             const char *where, const char *line, size_t len, lw_error *err, lw_ids *ids)
{
    json_t *json;
    lw_json at;
    const char *text;
    size_t bytes;
    LW_TRY(lw_json_parse(where, line, len, LW_JSON_REJECT_DUPLICATES | LW_JSON_ALLOW_NUL, err, &json));
    lw_status status;
    LW_TRY_GOTO(lw_json_object_at(json, where, "", err, &at));
    LW_TRY_GOTO(lw_json_text(&at, "text", err, &text, &bytes));
    status = lw_tokenizer_encode_with(tokenizer, scratch, text, bytes, parse_special, err, ids);
    if (status != LW_OK) {
        lw_fail_in(err, status, "%s", where);
    }
done:
    json_decref(json);
    return status;
}

static lw_status write_ids(const lw_ids *ids, FILE *out, lw_error *err)
{
    char digits[16];
    fputs("{\"ids\": [", out);
    for (size_t i = 0; i < ids->len; i++) {
        // printf would take half of the time.
        char *first = digits + sizeof digits;
        uint32_t rest = (uint32_t)ids->data[i];
        do {
            *--first = (char)('0' + rest % 10);
            rest /= 10;
        } while (rest > 0);
        if (i > 0) {
            fputs(", ", out);
        }
        fwrite(first, 1, (size_t)(digits + sizeof digits - first), out);
    }
    if (fputs("]}\n", out) == EOF || ferror(out)) {
        return lw_fail_errno(err, LW_ERR_IO, errno, "cannot write the ids");
    }
    return LW_OK;
}

lw_status lw_tokenizer_encode_lines(const lw_tokenizer *tokenizer, bool parse_special, FILE *in, const char *name,
                                    FILE *out, lw_error *err)
{
    lw_json_lines lines = {.name = name, .fd = fileno(in)};
    lw_tokenizer_scratch *scratch = NULL;
    lw_ids ids = {0};
    lw_status status;
    LW_TRY_GOTO(lw_tokenizer_scratch_create(tokenizer, err, &scratch));
    for (;;) {
        const char *line;
        size_t bytes;
        LW_TRY_GOTO(lw_json_lines_next(&lines, err, &line, &bytes));
        if (line == NULL) {
            break;
        }
        ids.len = 0;
        LW_TRY_GOTO(encode_line(tokenizer, scratch, parse_special, lines.where, line, bytes, err, &ids));
        LW_TRY_GOTO(write_ids(&ids, out, err));
    }
    if (fflush(out) != 0) {
        status = lw_fail_errno(err, LW_ERR_IO, errno, "cannot write the ids");
    }
done:
    lw_json_lines_free(&lines);
    lw_ids_free(&ids);
    lw_tokenizer_scratch_destroy(&scratch);
    return status;
}
