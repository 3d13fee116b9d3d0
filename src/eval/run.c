// run.c: a whole evaluation: chunks shared by the ranks, records and answers gathered.
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/numbers.h"
#include "core/signals.h"
#include "eval/eval_internal.h"

// Runs the rounds of an evaluation: in each, every rank does at most one chunk, then all agree to go on. A signal on
// any rank stops all of them there.
static lw_status run_rounds(lw_job *job, lw_eval *e, lw_error *err)
{
    int64_t n = e->task.samples;
    int64_t chunks = (n + e->chunk - 1) / e->chunk;
    lw_status status = LW_OK;
    for (int64_t round = 0; round < chunks && status == LW_OK; round += job->grid.data) {
        int64_t first = (round + job->place.data) * e->chunk;
        int64_t count = lw_min_i64(n - first, e->chunk);
        lw_comm_doing(job->comm, "evaluation, samples from %lld on", (long long)(round * e->chunk));
        if (count > 0) {
            status = lw_eval_chunk(job, e, first, count, err);
        }
        status = lw_comm_agree(job->comm, lw_signal_check(status), err);
        if (status == LW_OK && e->task.joint && job->models != NULL) {
            status = lw_eval_choose_across_ranks(job, e, first, lw_max_i64(count, 0), err);
        }
        if (status == LW_OK && e->task.generate) {
            int64_t done = (round + job->grid.data) * e->chunk;
            lw_run_dir_progress(job->run, &(lw_progress_state){.label = "eval",
                                                               .done = lw_min_i64(done, n),
                                                               .total = n,
                                                               .loss = __builtin_nan(""),
                                                               .left_s = -1.0});
        }
    }
    return status;
}

lw_status lw_eval_run_task(lw_job *job, lw_eval *e, const lw_eval_task *task, lw_error *err, lw_signal *signal)
{
    int64_t values = task->samples * job->llm_count * task->system_count * LW_RECORD_COUNT;
    int64_t joint = task->joint ? task->samples * job->llm_count * job->llm_count : 0;
    e->task = *task;
    memset(e->records, 0, (size_t)values * sizeof *e->records);
    memset(e->joint, 0, (size_t)joint * sizeof *e->joint);
    LW_TRY(lw_comm_agree(job->comm, lw_eval_start(job, e, err), err));
    lw_status status = run_rounds(job, e, err);
    if (status == LW_REQUEUE || status == LW_INTERRUPTED) {
        double worst = (double)lw_signal_pending();
        LW_TRY(lw_comm_max_f64(job->comm, &worst, 1, err));
        *signal = (lw_signal)worst;
    }
    LW_TRY(status);
    // Each record is written by one rank and zero elsewhere, so the sum is exact.
    LW_TRY(lw_comm_sum_f64(job->comm, e->records, values, err));
    return joint > 0 ? lw_comm_sum_f64(job->comm, e->joint, joint, err) : LW_OK;
}

// Sends the generated tokens of all ranks to rank 0. Collective.
static lw_status gather_ids(lw_job *job, lw_eval *e, lw_error *err)
{
    int64_t numbers = e->own * job->llm_count * job->config->eval.max_new_tokens;
    int64_t *counts = calloc((size_t)job->ranks, sizeof *counts);
    lw_status status = LW_OK;
    if (counts == NULL) {
        status = lw_fail(err, LW_ERR_MEMORY, "no memory to gather the answers of an evaluation");
    }
    status = lw_comm_agree(job->comm, status, err);
    for (int slot = 0; slot < e->task.system_count && status == LW_OK; slot++) {
        void *all = NULL;
        status = lw_comm_gather_v(job->comm, 0, e->ids + slot * numbers, numbers * (int64_t)sizeof *e->ids, err, &all,
                                  counts);
        if (status == LW_OK) {
            free(e->all_ids[slot]);
            e->all_ids[slot] = all;
        }
    }
    free(counts);
    return status;
}

lw_status lw_eval_run(lw_job *job, lw_eval *e, lw_error *err, lw_eval_result *out)
{
    double start_s = lw_now_s();
    lw_signal signal = LW_SIGNAL_NONE;
    lw_eval_task task = {.samples = job->eval.count, .generate = !lw_eval_is_text(job)};
    task.joint = task.generate && lw_config_joint(job->config);
    task.system_count = lw_eval_systems(job->config, task.systems);
    lw_status status = lw_eval_run_task(job, e, &task, err, &signal);
    LW_TRY(lw_job_stopped(job, status, "during evaluation", err)); // the training state has been saved by now
    LW_TRY(gather_ids(job, e, err));
    LW_TRY(lw_comm_agree(job->comm, lw_eval_figures(job, e, err, out), err));
    out->wall_s = lw_now_s() - start_s;
    return LW_OK;
}

lw_status lw_eval_held_out(lw_job *job, lw_eval *e, lw_error *err, lw_held_out *out)
{
    double start_s = lw_now_s();
    int64_t limit = job->config->eval.loss_samples;
    lw_eval_task task = {.samples = limit > 0 && limit < job->eval.count ? limit : job->eval.count,
                         .systems = {{.mode = LW_EVAL_LATENT}},
                         .system_count = 1};
    *out = (lw_held_out){.nll = __builtin_nan("")};
    lw_status status = lw_eval_run_task(job, e, &task, err, &out->signal);
    if (out->signal != LW_SIGNAL_NONE) {
        return LW_OK;
    }
    LW_TRY(status);
    out->nll = 0.0;
    for (int64_t j = 0; j < job->llm_count; j++) {
        out->sums[j] = lw_eval_sum_up(job, e, j, 0);
        out->llm_nll[j] = out->sums[j].nll / out->sums[j].answer_tokens;
        out->nll += out->llm_nll[j] / (double)job->llm_count;
    }
    out->wall_s = lw_now_s() - start_s;
    return LW_OK;
}
