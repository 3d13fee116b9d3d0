// trainer_log.c: what a training run reports: rows of metrics, the progress line, and skipped steps.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "run/loss_keys.h"
#include "train/trainer_internal.h"

int lw_trainer_held_out_metrics(const lw_trainer *t, lw_llm_keys keys, lw_metric *m)
{
    int n = 0;
    m[n++] = LW_METRIC_NUMBER(lw_loss_key(LW_LOSS_HELD_OUT), t->held_out.nll);
    for (int64_t j = 0; j < t->job->llm_count; j++) {
        const char *key = lw_loss_key_of_model(LW_LOSS_HELD_OUT, t->job->llms[j].name, keys[j]);
        m[n++] = LW_METRIC_NUMBER(key, t->held_out.llm_nll[j]);
    }
    return n;
}

// A model that ran in no step since the last row has no losses in this row.
static bool stepped_since(const lw_trainer *t, const lw_interval *in, int64_t j)
{
    return t->loss_step[j] > t->state.step - in->steps;
}

static lw_status log_metrics(lw_trainer *t, const lw_interval *in, double now_s, lw_error *err)
{
    lw_job *job = t->job;
    lw_llm_keys keys[LW_LOSS_COUNT];
    lw_metric m[24 + LW_LOSS_COUNT * LW_MAX_MODELS];
    int n = 0;
    double wall_s = now_s - in->start_s;
    const lw_stage *stage = lw_trainer_stage(t, t->state.step - 1);
    int64_t step = t->state.step - 1 - stage->first_step;
    m[n++] = LW_METRIC_COUNT("step", t->state.step);
    if (t->schedule.count > 1) {
        m[n++] = LW_METRIC_STRING("phase", stage->name);
    }
    m[n++] = LW_METRIC_COUNT("epoch", t->state.epoch);
    m[n++] = LW_METRIC_COUNT("samples", t->state.samples);
    m[n++] = LW_METRIC_NUMBER(lw_loss_key(LW_LOSS_TRAINING), t->mean_loss);
    if (t->spec.only_llm >= 0) {
        m[n++] = LW_METRIC_STRING("model", job->llms[t->spec.only_llm].name); // the model that ran
    }
    for (int64_t j = 0; j < job->llm_count; j++) {
        if (stepped_since(t, in, j)) {
            const char *key = lw_loss_key_of_model(LW_LOSS_TRAINING, job->llms[j].name, keys[LW_LOSS_TRAINING][j]);
            m[n++] = LW_METRIC_NUMBER(key, t->loss[j]);
        }
    }
    for (int64_t j = 0; j < job->llm_count && t->teachers[t->stage] != NULL; j++) {
        if (stepped_since(t, in, j)) {
            const char *key = lw_loss_key_of_model(LW_LOSS_TEACHER, job->llms[j].name, keys[LW_LOSS_TEACHER][j]);
            m[n++] = LW_METRIC_NUMBER(key, t->kl[j]);
        }
    }
    m[n++] = LW_METRIC_NUMBER("grad_norm", t->grad_norm);
    m[n++] = LW_METRIC_NUMBER("lr", lw_schedule_lr(stage->config, &stage->schedule, step));
    m[n++] = LW_METRIC_NUMBER("lr_encoder", lw_schedule_rate(stage->config, &stage->schedule, LW_RATE_ENCODER, step));
    lw_rate adapter = LW_RATE_ADAPTER + (t->spec.only_llm >= 0 ? (lw_rate)t->spec.only_llm : 0);
    m[n++] = LW_METRIC_NUMBER("lr_adapter", lw_schedule_rate(stage->config, &stage->schedule, adapter, step));
    m[n++] = LW_METRIC_NUMBER("samples_per_s", (double)in->samples / wall_s);
    m[n++] = LW_METRIC_NUMBER("tokens_per_s", (double)in->rows / wall_s);
    m[n++] = LW_METRIC_NUMBER("step_s", wall_s / (double)in->steps);
    m[n++] = LW_METRIC_NUMBER("mfu", in->flop / wall_s / (t->gemm_flop_per_s * job->ranks));
    m[n++] = LW_METRIC_COUNT("device_bytes", (int64_t)job->dev->allocated_bytes);
    m[n++] = LW_METRIC_COUNT("skipped", t->state.skipped);
    m[n++] = LW_METRIC_NUMBER("checkpoint_stall_s", t->saves.row_stall_s);
    m[n++] = LW_METRIC_NUMBER("latent_cosine", t->latent_cosine);
    if (!isnan(t->state.eval_nll)) {
        n += lw_trainer_held_out_metrics(t, keys[LW_LOSS_HELD_OUT], m + n);
    }
    return lw_run_dir_metrics(job->run, m, n, err);
}

void lw_trainer_write_row(lw_trainer *t, const lw_interval *in, double now_s)
{
    lw_error err;
    lw_status status = log_metrics(t, in, now_s, &err);
    if (status != LW_OK) {
        lw_log(t->job->run, "warning: %s; trying once more", err.text);
        status = log_metrics(t, in, now_s, &err);
    }
    if (status != LW_OK) {
        lw_trainer_disk_failed(t, status, &err);
    }
    t->saves.row_stall_s = 0.0;
}

void lw_trainer_show_progress(const lw_trainer *t, const lw_interval *in, double now_s)
{
    double rate = now_s > in->start_s ? (double)in->samples / (now_s - in->start_s) : 0.0;
    double left = (double)(t->schedule.total_samples - t->state.samples);
    lw_run_dir_progress(t->job->run, &(lw_progress_state){.label = "step",
                                                          .done = t->state.step,
                                                          .total = t->schedule.total_steps,
                                                          .loss = t->mean_loss,
                                                          .samples_per_s = rate,
                                                          .left_s = rate > 0.0 ? left / rate : -1.0});
}

// --- skipped steps

enum {
    SHOWN_IDS = 8,    // on stderr
    LOGGED_IDS = 512, // in log.txt
    IDS_PER_LINE = 8,
};

// The id of a sample. For a row of data.train it is cut to "train.jsonl:12", since the folder is known.
static const char *id_of(const lw_job *job, int64_t stage, const lw_schedule *schedule, int64_t position)
{
    const char *id = job->train[stage].data.samples[lw_schedule_sample(schedule, position)].id;
    const char *file = lw_config_phase(job->config, stage)->data.train;
    const char *slash = strrchr(file, '/');
    bool is_row = strncmp(id, file, strlen(file)) == 0;
    return is_row && slash != NULL ? id + (slash + 1 - file) : id;
}

// Lists the ids from position `first` on, as many as fit, `count` at most.
static void list_ids(const lw_job *job, int64_t stage, const lw_schedule *schedule, int64_t first, int64_t count,
                     char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int64_t i = 0; i < count && used < size; i++) {
        int n = snprintf(out + used, size - used, "%s%.80s", i > 0 ? ", " : "", id_of(job, stage, schedule, first + i));
        used += n > 0 ? (size_t)n : 0;
    }
}

// Lists what is not finite: "loss of llama, gradient".
static void list_causes(const lw_job *job, const double *loss, double grad_norm, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int64_t j = 0; j < job->llm_count && used < size; j++) {
        if (!isfinite(loss[j])) {
            int n = snprintf(out + used, size - used, "%sloss of %s", used > 0 ? ", " : "", job->llms[j].name);
            used += n > 0 ? (size_t)n : 0;
        }
    }
    if (!isfinite(grad_norm) && used < size) {
        snprintf(out + used, size - used, "%sgradient", used > 0 ? ", " : "");
    }
}

void lw_trainer_log_skipped(const lw_job *job, int64_t stage, const lw_schedule *schedule, int64_t step, int64_t first,
                            int64_t count, const double *loss, double grad_norm)
{
    char causes[LW_MAX_MODELS * 80 + 16];
    char ids[IDS_PER_LINE * 84];
    int64_t shown = count < SHOWN_IDS ? count : SHOWN_IDS;
    int64_t logged = count < LOGGED_IDS ? count : LOGGED_IDS;
    list_causes(job, loss, grad_norm, causes, sizeof causes);
    list_ids(job, stage, schedule, first, shown, ids, sizeof ids);
    if (shown < count) {
        lw_log(job->run, "warning: step %lld skipped, not finite: %s; its samples: %s and %lld more, in log.txt",
               (long long)step, causes, ids, (long long)(count - shown));
    } else {
        lw_log(job->run, "warning: step %lld skipped, not finite: %s; its samples: %s", (long long)step, causes, ids);
    }
    for (int64_t i = shown; i < logged; i += IDS_PER_LINE) {
        int64_t n = logged - i < IDS_PER_LINE ? logged - i : IDS_PER_LINE;
        list_ids(job, stage, schedule, first + i, n, ids, sizeof ids);
        lw_log_file(job->run, "samples of step %lld: %s", (long long)step, ids);
    }
    if (logged < count) {
        lw_log_file(job->run, "samples of step %lld: %lld more, not listed", (long long)step,
                    (long long)(count - logged));
    }
}

lw_status lw_trainer_give_up(const lw_job *job, int64_t in_row, int64_t last_saved, lw_error *err)
{
    char kept[80] = "there is no checkpoint yet";
    if (last_saved >= 0) {
        snprintf(kept, sizeof kept, "the checkpoint of step %lld is kept", (long long)last_saved);
    }
    return lw_fail(
        err, LW_ERR_NUMERIC,
        "%lld steps in a row had a loss or gradient that is not finite (train.max_skipped = %lld); %s: lower "
        "train.lr, lengthen train.warmup, or look at the samples named in %s/log.txt",
        (long long)in_row, (long long)job->config->train.max_skipped, kept, job->config->run.dir);
}
