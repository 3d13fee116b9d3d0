// show.c: what an LLM is shown of a sample: latents, text, or what a control puts in their place.
#include "core/numbers.h"
#include "data/sample.h"
#include "eval/eval_internal.h"

// Adds a window of text. The truncated control reads as many of its last tokens as there are latents: these say most
// about what follows.
static bool add_window(lw_job *job, lw_eval *e, int64_t j, lw_eval_mode mode, int64_t first, int64_t latents,
                       lw_tokens prompt, lw_tokens answer)
{
    lw_generator *g = &e->generators[j];
    int64_t bos = job->llms[j].bos >= 0 ? 1 : 0;
    lw_tokens none = {NULL, 0};
    if (mode == LW_EVAL_TEXT) {
        return lw_generator_add(g, 0, 0, prompt, none, answer);
    }
    if (mode == LW_EVAL_TRUNCATED) {
        int64_t keep = lw_min_i64(prompt.count - bos, latents);
        lw_tokens tail = {prompt.ids + prompt.count - keep, keep};
        return bos > 0 ? lw_generator_add(g, 0, 0, (lw_tokens){prompt.ids, bos}, tail, answer)
                       : lw_generator_add(g, 0, 0, tail, none, answer);
    }
    return lw_generator_add_task(g, first, mode == LW_EVAL_NO_CONTEXT ? 0 : latents, e->batch.z_rows, answer);
}

bool lw_eval_add(lw_job *job, lw_eval *e, int64_t j, const lw_eval_system *system, const lw_token_sample *s, int64_t at,
                 lw_tokens answer)
{
    lw_generator *g = &e->generators[j];
    int64_t first = e->batch.at.z_start[at];
    int64_t latents = e->batch.at.z_start[at + 1] - first;
    lw_tokens none = {NULL, 0};
    lw_tokens suffix = s->suffix[j];
    int64_t read = system->latents > 0 && system->latents < latents ? system->latents : latents; // the first queries
    if (s->task != LW_TASK_ANSWER) {
        return add_window(job, e, j, system->mode, first, read, s->prompt[j], answer);
    }
    if (system->mode == LW_EVAL_TEXT) {
        return lw_generator_add(g, 0, 0, s->prompt[j], none, answer);
    }
    if (system->mode == LW_EVAL_NO_CONTEXT) {
        return lw_generator_add(g, 0, 0, suffix, none, answer);
    }
    if (system->mode == LW_EVAL_TRUNCATED) {
        int64_t bos = job->llms[j].bos >= 0 ? 1 : 0;
        lw_tokens tail = {suffix.ids + bos, suffix.count - bos};
        int64_t text = s->prompt[j].count - tail.count;
        int64_t keep = lw_min_i64(text, bos + latents);
        return lw_generator_add(g, 0, 0, (lw_tokens){s->prompt[j].ids, lw_max_i64(keep, 0)}, tail, answer);
    }
    return lw_generator_add(g, first, read, suffix, none, answer);
}
