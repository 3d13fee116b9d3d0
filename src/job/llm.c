// llm.c: the tokenizer and the special tokens of one model of a job.
#include "job/llm.h"

#include <stdlib.h>

#include "io/files.h"

static lw_status choose_bos(const lw_job *job, lw_llm *m, lw_error *err)
{
    int32_t from_tokenizer = lw_tokenizer_bos_id(m->tokenizer);
    m->bos = -1;
    if (job->config->prompt.bos == LW_BOS_AUTO) {
        m->bos = from_tokenizer;
    } else if (job->config->prompt.bos == LW_BOS_YES) {
        m->bos = from_tokenizer >= 0 ? from_tokenizer : (int32_t)m->config.bos_id;
        if (m->bos < 0) {
            return lw_fail(err, LW_ERR_CONFIG,
                           "prompt.bos = \"yes\", but neither tokenizer.json nor config.json of model \"%s\" names a "
                           "BOS token",
                           m->name);
        }
    }
    return LW_OK;
}

lw_status lw_job_open_tokenizer(const char *dir, int64_t vocab, lw_error *err, lw_tokenizer **out)
{
    char *path = NULL;
    LW_TRY(lw_path_join(dir, "tokenizer.json", err, &path));
    lw_status status = lw_tokenizer_load(path, err, out);
    free(path);
    LW_TRY(status);
    int64_t known = lw_tokenizer_vocab_size(*out);
    if (known > vocab) {
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: tokenizer.json has ids up to %lld, but config.json says vocab_size %lld; the files belong "
                       "to different models",
                       dir, (long long)known - 1, (long long)vocab);
    }
    return LW_OK;
}

lw_status lw_job_open_text(const lw_job *job, lw_llm *m, lw_error *err)
{
    LW_TRY(lw_job_open_tokenizer(m->path, m->config.vocab, err, &m->tokenizer));
    m->eos = m->config.eos_count > 0 ? (int32_t)m->config.eos_id[0] : -1;
    LW_TRY(choose_bos(job, m, err));
    if (m->bos >= m->config.vocab || m->eos >= m->config.vocab) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: the BOS or EOS id lies outside vocab_size %lld", m->path,
                       (long long)m->config.vocab);
    }
    return LW_OK;
}
