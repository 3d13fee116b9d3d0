// teacher_sizes.c: how many rows, passes and bytes the teacher's states of a data set take.
#include <stdlib.h>

#include "core/numbers.h"
#include "train/teacher_internal.h"

bool lw_teacher_wanted(const lw_config *config)
{
    return config->loss.kd_weight > 0.0 && config->loss.k > 0;
}

// Rows of the teacher's pass over a sample; 0 if no position of it has a teacher.
static int64_t pass_rows(const lw_step_loss *loss, const lw_token_sample *s, int64_t j)
{
    int64_t taught = lw_step_taught(loss, s, j);
    return taught > 0 ? s->prompt[j].count + taught - 1 : 0;
}

int64_t lw_teacher_next_pass(const lw_step_loss *loss, const lw_token_sample *samples, int64_t j, int64_t first,
                             int64_t end, lw_pass_limits *used)
{
    int64_t i = first;
    *used = (lw_pass_limits){0};
    for (; i < end; i++) {
        int64_t rows = pass_rows(loss, &samples[i], j);
        if (used->rows > 0 && used->rows + rows > LW_TEACHER_PASS_ROWS) {
            break;
        }
        used->sequences += rows > 0;
        used->rows += rows;
        used->supervised += lw_step_taught(loss, &samples[i], j);
        used->max_len = rows > used->max_len ? rows : used->max_len;
    }
    return i - first;
}

lw_pass_limits lw_teacher_limits_of(const lw_step_loss *loss, const lw_token_sample *samples, int64_t j,
                                    const lw_teacher_index *index)
{
    lw_pass_limits most = {0};
    for (int64_t c = 0; c < index->chunks; c++) {
        int64_t end = lw_teacher_index_first(index, c + 1);
        for (int64_t i = lw_teacher_index_first(index, c); i < end;) {
            lw_pass_limits l;
            i += lw_teacher_next_pass(loss, samples, j, i, end, &l);
            most.sequences = lw_max_i64(most.sequences, l.sequences);
            most.rows = lw_max_i64(most.rows, l.rows);
            most.supervised = lw_max_i64(most.supervised, l.supervised);
            most.max_len = lw_max_i64(most.max_len, l.max_len);
        }
    }
    return most;
}

lw_status lw_teacher_index_samples(const lw_step_loss *loss, const lw_hf_config *llm, lw_dtype type,
                                   const lw_token_sample *samples, int64_t count, int64_t j, lw_error *err,
                                   lw_teacher_index *out)
{
    *out = (lw_teacher_index){.type = type, .d = llm->d, .k = loss->k, .samples = count};
    out->first_row = calloc((size_t)count + 1, sizeof *out->first_row);
    if (out->first_row == NULL) {
        return lw_fail(err, LW_ERR_MEMORY, "no memory for the table of a teacher's states");
    }
    for (int64_t i = 0; i < count; i++) {
        out->first_row[i + 1] = out->first_row[i] + lw_step_taught(loss, &samples[i], j);
    }
    return lw_teacher_index_finish(out, err);
}

lw_status lw_teacher_sizes_of(const lw_config *config, const lw_hf_config *llm, lw_dtype type,
                              const lw_token_sample *samples, int64_t count, int64_t j, lw_error *err,
                              lw_teacher_sizes *out)
{
    const lw_step_loss loss = lw_step_loss_of(config);
    lw_teacher_index index = {0};
    lw_status status = lw_teacher_index_samples(&loss, llm, type, samples, count, j, err, &index);
    if (status == LW_OK) {
        *out = (lw_teacher_sizes){.rows = lw_teacher_index_rows(&index),
                                  .file_bytes = lw_teacher_index_bytes(&index),
                                  .limits = lw_teacher_limits_of(&loss, samples, j, &index)};
        for (int64_t i = 0; i < count; i++) {
            out->tokens += (double)pass_rows(&loss, &samples[i], j);
        }
    }
    lw_teacher_index_free(&index);
    return status;
}

lw_teacher_sizes lw_teacher_sizes_guess(const lw_config *config, const lw_hf_config *llm, lw_dtype type,
                                        int64_t samples, double prompt, double answer)
{
    int64_t most = config->prompt.max_answer_tokens;
    int64_t k = config->loss.k < most ? config->loss.k : most;
    double taught = answer < (double)k ? answer : (double)k;
    int64_t len = config->prompt.max_prompt_tokens + k - 1;
    int64_t rows = (int64_t)((double)samples * taught);
    return (lw_teacher_sizes){.rows = rows,
                              .file_bytes = rows * llm->d * (int64_t)lw_dtype_bytes(type),
                              .tokens = (double)samples * (prompt + taught - 1.0),
                              .limits = {.sequences = LW_TEACHER_CHUNK_SAMPLES,
                                         .rows = lw_max_i64(LW_TEACHER_PASS_ROWS, len),
                                         .supervised = LW_TEACHER_CHUNK_SAMPLES * k,
                                         .max_len = len}};
}

lw_status lw_teacher_pass_layout(lw_arena *arena, lw_device *dev, const lw_hf_config *llm, const lw_pass_limits *limits,
                                 lw_error *err, void **indices, lw_decoder_buffers *out)
{
    const lw_decoder_pass pass = {.mode = LW_PASS_INFER, .no_logits = true};
    *indices = lw_arena_take(arena, (int64_t)lw_packing_device_bytes(limits), 1);
    return lw_decoder_pass_layout(arena, dev, llm, NULL, &pass, limits, err, out);
}
