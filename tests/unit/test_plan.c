// plan: the device table, the cost of a step, calibration, the decision.
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/sample.h"
#include "plan/plan.h"
#include "wire/step.h"

static lw_error err;

// --- device table

static void test_table(void **state)
{
    (void)state;
    static const char *const needed[] = {"h100-sxm", "h100-pcie", "h200-sxm", "a100-40", "a100-80",
                                         "a6000",    "l40s",      "v100",     "rtx4090", "rtx3090"};
    lw_device_rates r;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        assert_int_equal(lw_device_table_find(needed[i], &err, &r), LW_OK);
        assert_string_equal(r.name, needed[i]);
        // No device of the table reaches 1000 TFLOP/s dense in 16 bit: a sparse rate would.
        assert_true(r.matrix_flop_per_s > 3e13 && r.matrix_flop_per_s < 1e15);
        assert_true(r.f32_flop_per_s < r.matrix_flop_per_s);
        assert_true(r.bytes_per_s > 5e11 && r.bytes_per_s < 5e12);
        assert_true(r.memory_bytes >= 24e9 && r.memory_bytes <= 142e9);
        assert_true(r.node.bytes_per_s > 0.0 && r.network.bytes_per_s > 0.0 && r.per_node > 0);
    }
    assert_int_equal(lw_device_table_find("H100-SXM", &err, &r), LW_OK);
    assert_int_equal(lw_device_table_find("h1000", &err, &r), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "h100-sxm"));
    assert_true(lw_device_table_row(0, &r));
    assert_false(lw_device_table_row(-1, &r));
    assert_false(lw_device_table_row(1000, &r));
    assert_true(lw_device_table_match("cuda: NVIDIA H200, 139 GiB") >= 0);
    assert_int_equal(lw_device_table_match("cpu: 2 threads"), -1);
}

static void test_numbers_for_a_device(void **state)
{
    (void)state;
    lw_device_rates a;
    lw_device_rates b;
    const char *good = "memory_gb=80,tflops=989.5,f32_tflops=67,gb_per_s=3350,link_gb_per_s=450";
    assert_int_equal(lw_device_table_find(good, &err, &a), LW_OK);
    assert_int_equal(lw_device_table_find("h100-sxm", &err, &b), LW_OK);
    assert_true(a.matrix_flop_per_s == b.matrix_flop_per_s && a.bytes_per_s == b.bytes_per_s);
    assert_true(a.memory_bytes == b.memory_bytes && a.per_node == 8);
    assert_int_equal(lw_device_table_find("memory_gb=80", &err, &a), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "tflops is missing"));
    assert_int_equal(lw_device_table_find("memory_gb=eighty", &err, &a), LW_ERR_CONFIG);
    assert_int_equal(lw_device_table_find("memory_gb=-1", &err, &a), LW_ERR_CONFIG);
    assert_int_equal(lw_device_table_find("memory_gb=nan", &err, &a), LW_ERR_CONFIG);
    assert_int_equal(lw_device_table_find("gigabytes=80", &err, &a), LW_ERR_CONFIG);
    assert_non_null(strstr(err.text, "gigabytes"));
}

static void test_cores_are_shared(void **state)
{
    (void)state;
    lw_device_rates cpu = {.cores = 4, .cores_per_rank = 2, .matrix_flop_per_s = 100, .bytes_per_s = 10};
    assert_true(lw_device_rates_shared(&cpu, 1, 4).matrix_flop_per_s == 200.0);
    assert_true(lw_device_rates_shared(&cpu, 4, 1).matrix_flop_per_s == 50.0);
    assert_true(lw_device_rates_shared(&cpu, 8, 2).matrix_flop_per_s == 25.0); // half a core each
    cpu.cores = 0;                                                             // a GPU
    assert_true(lw_device_rates_shared(&cpu, 8, 0).matrix_flop_per_s == 100.0);
}

// --- cost

typedef struct fixture {
    lw_config config;
    lw_wire wire;
    lw_hf_config llm;
    const lw_hf_config *configs[1];
    lw_workload work;
    lw_device_rates rates;
} fixture;

static void set_up(fixture *f)
{
    static char name[] = "llm";
    static lw_model_config model = {.name = name};
    *f = (fixture){.config = {.models = &model, .model_count = 1}};
    f->config.wire.latents = 32;
    f->config.wire.d_z = 64;
    f->config.encoder.layers = 1;
    f->config.encoder.width = 64;
    f->config.encoder.heads = 4;
    f->config.encoder.ffn = 128;
    f->config.pooler.layers = 1;
    f->config.pooler.heads = 4;
    f->config.pooler.ffn = 128;
    f->config.adapter.hidden = 128;
    f->llm = (lw_hf_config){
        .d = 4096, .layers = 32, .heads = 32, .kv_heads = 8, .head_dim = 128, .ffn = 14336, .vocab = 128256};
    f->configs[0] = &f->llm;
    assert_int_equal(lw_wire_declare(&f->config, &f->llm.d, NULL, &err, &f->wire), LW_OK);
    assert_int_equal(lw_device_table_find("h200-sxm", &err, &f->rates), LW_OK);
    f->work = (lw_workload){.wire = &f->wire, .configs = f->configs, .share = 4, .micro = 4, .ranks = 1};
    f->work.shape = (lw_sample_shape){.source = 256, .latents = 32, .rows = {42}, .answer = {8}};
}

static void test_small_batches_are_bound_by_weights(void **state)
{
    (void)state;
    fixture f;
    set_up(&f);
    double weights = 2.0 * (double)(f.llm.layers * (4096 * (4096 + 2 * 1024 + 4096) + 3 * 4096 * 14336));
    lw_step_time t = lw_predict_step(&f.rates, &f.work);
    double llm_s = t.phase_s[LW_PHASE_LLM_FORWARD] + t.phase_s[LW_PHASE_LLM_BACKWARD];
    double floor_s = 2.0 * weights / f.rates.bytes_per_s; // read once forward, once backward
    assert_true(llm_s > floor_s && llm_s < 1.7 * floor_s);
    f.work.share = f.work.micro = 256; // now by arithmetic
    t = lw_predict_step(&f.rates, &f.work);
    llm_s = t.phase_s[LW_PHASE_LLM_FORWARD] + t.phase_s[LW_PHASE_LLM_BACKWARD];
    floor_s = 4.0 * (weights / 2.0) * 42.0 * 256.0 / f.rates.matrix_flop_per_s;
    assert_true(llm_s > floor_s && llm_s < 1.5 * floor_s);
    lw_wire_free(&f.wire);
}

static void test_cost_grows_with_the_job(void **state)
{
    (void)state;
    fixture f;
    set_up(&f);
    double base_s = lw_predict_step(&f.rates, &f.work).total_s;
    f.work.share = 8; // two passes of four
    double twice_s = lw_predict_step(&f.rates, &f.work).total_s;
    assert_true(twice_s > 1.7 * base_s && twice_s < 2.0 * base_s + 1e-9);
    f.work.share = 9; // two of four, one of one
    assert_true(lw_predict_step(&f.rates, &f.work).total_s > twice_s);
    f.work.share = 8;
    f.work.micro = 8; // one pass of eight reads the weights once
    assert_true(lw_predict_step(&f.rates, &f.work).total_s < twice_s);
    f.work.share = 1000003;
    f.work.micro = 1; // a million passes cost no time to predict
    assert_true(lw_predict_step(&f.rates, &f.work).total_s > 1e5 * base_s);
    lw_wire_free(&f.wire);
}

static double predict(const fixture *f, double tokens, int64_t ranks)
{
    return lw_predict_teacher(&f->rates, &f->llm, 5000.0, tokens, LW_TEACHER_PASS_ROWS, LW_TEACHER_CHUNK_SAMPLES,
                              ranks);
}

// The teacher's passes read prompts of 200 tokens: products of thousands of rows, whose arithmetic is what takes the
// time.
static void test_teacher(void **state)
{
    (void)state;
    fixture f;
    set_up(&f);
    double one = predict(&f, 5000.0 * 200.0, 1);
    double weights = (2.0 * 4096 * 4096 + 2.0 * 4096 * 1024 + 3.0 * 4096 * 14336) * 32;
    double least = 2.0 * weights * 5000.0 * 200.0 / f.rates.matrix_flop_per_s;
    assert_true(one > least && one < 1.5 * least);
    assert_true(fabs(predict(&f, 5000.0 * 200.0, 4) - one / 4.0) < 1e-9 * one);
    assert_true(predict(&f, 0.0, 1) == 0.0);
    double without = lw_predict_step(&f.rates, &f.work).phase_s[LW_PHASE_HEAD];
    f.work.shape.taught[0] = 4.0;
    double with = lw_predict_step(&f.rates, &f.work).phase_s[LW_PHASE_HEAD];
    assert_true(with > without && with < 1.5 * without); // lm_head is read once for both
    lw_wire_free(&f.wire);
}

// 100 samples of 6 answer tokens, the first 4 with a teacher: what the file holds, and what the guess says.
static void test_teacher_sizes(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    static lw_token_sample samples[COUNT];
    lw_teacher_sizes s;
    fixture f;
    set_up(&f);
    f.config.loss.kd_weight = 1.0;
    f.config.loss.k = 4;
    f.config.prompt.max_prompt_tokens = 5000;
    f.config.prompt.max_answer_tokens = 8;
    for (int i = 0; i < COUNT; i++) {
        samples[i].prompt[0].count = i == 7 ? 0 : 50; // one without a prompt has no teacher
        samples[i].answer[0].count = i == 8 ? 2 : 6;
    }
    assert_true(lw_teacher_wanted(&f.config));
    assert_int_equal(lw_teacher_sizes_of(&f.config, &f.llm, LW_BF16, samples, COUNT, 0, &err, &s), LW_OK);
    assert_int_equal(s.rows, 98 * 4 + 2);
    assert_true(s.file_bytes > s.rows * 4096 * 2 && s.file_bytes < s.rows * 4096 * 2 + 4096 * (COUNT / 2 + 2));
    assert_true(fabs(s.tokens - (98.0 * 53.0 + 51.0)) < 1e-9);
    assert_true(s.limits.max_len == 53 && s.limits.rows >= 53 && s.limits.rows <= LW_TEACHER_PASS_ROWS);
    s = lw_teacher_sizes_guess(&f.config, &f.llm, LW_BF16, COUNT, 50.0, 6.0);
    assert_int_equal(s.rows, 400);
    assert_true(s.limits.rows == 5003 && s.limits.max_len == 5003);
    lw_wire_free(&f.wire);
}

static void test_reduction(void **state)
{
    (void)state;
    fixture f;
    set_up(&f);
    assert_true(lw_predict_step(&f.rates, &f.work).phase_s[LW_PHASE_REDUCE] == 0.0);
    f.work.ranks = 2;
    double two_s = lw_predict_step(&f.rates, &f.work).phase_s[LW_PHASE_REDUCE];
    double bytes = 4.0 * (double)f.wire.reduce_elements;
    assert_true(fabs(two_s - bytes / f.rates.node.bytes_per_s - 2.0 * f.rates.node.latency_s) < 1e-12);
    f.work.ranks = 8;
    double eight_s = lw_predict_step(&f.rates, &f.work).phase_s[LW_PHASE_REDUCE];
    assert_true(eight_s > two_s);
    f.rates.per_node = 4; // two nodes
    assert_true(lw_predict_step(&f.rates, &f.work).phase_s[LW_PHASE_REDUCE] > eight_s);
    lw_wire_free(&f.wire);
}

// --- calibration

static void test_calibration(void **state)
{
    (void)state;
    fixture f;
    char folder[] = "/tmp/lwmpi-calibration-XXXXXX";
    char command[128];
    lw_calibration c;
    lw_calibration_record r;
    lw_calibration_record target;
    bool exact;
    set_up(&f);
    assert_non_null(mkdtemp(folder));
    assert_int_equal(lw_calibration_read("/tmp/lwmpi-no-such-folder", &err, &c), LW_OK);
    assert_int_equal(c.count, 0);
    assert_null(lw_calibration_nearest(&c, &r, &exact));
    lw_calibration_free(&c);

    lw_calibration_describe(&f.rates, &f.work, 0, &r);
    lw_step_time model = lw_predict_step(&f.rates, &f.work);
    snprintf(r.source, sizeof r.source, "bench");
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        assert_true(r.model_s[p] == model.phase_s[p]);
        r.measured_s[p] = 2.0 * r.model_s[p];
    }
    r.measured_s[LW_PHASE_LLM_FORWARD] = 5.0 * r.model_s[LW_PHASE_LLM_FORWARD];
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        r.step_s += r.measured_s[p];
    }
    assert_int_equal(lw_calibration_write(folder, &r, &err), LW_OK);
    assert_int_equal(lw_calibration_write(folder, &r, &err), LW_OK); // replaces
    snprintf(command, sizeof command, "echo '{\"version\": 1' > %s/torn.json; echo text > %s/notes.txt", folder,
             folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(lw_calibration_read(folder, &err, &c), LW_OK);
    assert_int_equal(c.count, 1);

    lw_calibration_describe(&f.rates, &f.work, 0, &target);
    const lw_calibration_record *found = lw_calibration_nearest(&c, &target, &exact);
    assert_non_null(found);
    assert_true(exact);
    assert_true(found->rates.matrix_flop_per_s == f.rates.matrix_flop_per_s && found->step_s == r.step_s);
    f.work.shape.rows[0] += 32; // another size: its phases scale as they did
    lw_calibration_describe(&f.rates, &f.work, 0, &target);
    found = lw_calibration_nearest(&c, &target, &exact);
    assert_non_null(found);
    assert_false(exact);
    lw_step_time raw = lw_predict_step(&f.rates, &f.work);
    lw_step_time corrected = lw_calibration_apply(found, &raw);
    assert_true(fabs(corrected.phase_s[LW_PHASE_LLM_FORWARD] / raw.phase_s[LW_PHASE_LLM_FORWARD] - 5.0) < 1e-9);
    assert_true(fabs(corrected.phase_s[LW_PHASE_HEAD] / raw.phase_s[LW_PHASE_HEAD] - 2.0) < 1e-9);
    snprintf(target.rates.name, sizeof target.rates.name, "another device");
    assert_null(lw_calibration_nearest(&c, &target, &exact));

    for (int p = 0; p < LW_PHASE_COUNT; p++) { // only the whole step was timed: one factor for all
        c.list[0].measured_s[p] = 0.0;
    }
    c.list[0].step_s = 3.0 * model.total_s;
    corrected = lw_calibration_apply(&c.list[0], &raw);
    assert_true(fabs(corrected.total_s / raw.total_s - 3.0) < 1e-9);
    lw_calibration_free(&c);
    lw_wire_free(&f.wire);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

// --- the decision

static lw_plan_option option(int64_t gpus, double hours, bool fits)
{
    return (lw_plan_option){.gpus = gpus,
                            .fits = fits,
                            .total_s = 3600.0 * hours,
                            .samples_per_s = 100.0 / hours,
                            .memory = {.frozen = 30000000000, .total = 34000000000}};
}

static lw_plan plan_of(double deadline_h, double min_efficiency)
{
    static lw_config config;
    config.plan.min_efficiency = min_efficiency;
    lw_plan p = {.config = &config, .deadline_s = 3600.0 * deadline_h, .rates = {.memory_bytes = 24e9}};
    snprintf(p.deadline_text, sizeof p.deadline_text, "a test");
    return p;
}

static void test_smallest_count_in_time(void **state)
{
    (void)state;
    lw_plan p = plan_of(10.0, 0.5);
    lw_plan_decision d;
    const lw_plan_option l[] = {option(1, 12.0, true), option(2, 7.0, true), option(4, 4.0, true)};
    lw_plan_decide(&p, l, 3, &d);
    assert_int_equal(d.gpus, 2); // 12 h is late; 7 h is within 80 % of 10 h
    assert_true(d.meets_deadline);
    assert_int_equal(d.rejected_count, 2);
    assert_int_equal(d.rejected[0].gpus, 1);
    assert_non_null(strstr(d.rejected[0].why, "12.00 h"));
    assert_int_equal(d.rejected[1].gpus, 4);
    p.deadline_s = 3600.0 * 8.5; // 7 h is more than 80 % of it
    lw_plan_decide(&p, l, 3, &d);
    assert_int_equal(d.gpus, 4);
    p.deadline_s = 3600.0 * 100.0;
    lw_plan_decide(&p, l, 3, &d);
    assert_int_equal(d.gpus, 1);
}

static void test_no_count_in_time(void **state)
{
    (void)state;
    lw_plan p = plan_of(0.5, 0.5);
    lw_plan_decision d;
    // Rates 100, 180, 200: the second GPU adds 80 % of one, the third and fourth 10 % each.
    const lw_plan_option l[] = {option(1, 1.0, true), option(2, 1.0 / 1.8, true), option(4, 0.5, true)};
    lw_plan_decide(&p, l, 3, &d);
    assert_int_equal(d.gpus, 2);
    assert_false(d.meets_deadline);
    assert_non_null(strstr(d.reason, "no count ends in time"));
    assert_non_null(strstr(d.reason, "would help"));
    assert_non_null(strstr(d.rejected[1].why, "10 %"));
    p = plan_of(0.5, 0.05);
    lw_plan_decide(&p, l, 3, &d);
    assert_int_equal(d.gpus, 4);
    p = plan_of(0.5, 0.9);
    lw_plan_decide(&p, l, 3, &d);
    assert_int_equal(d.gpus, 1);
}

static void test_what_does_not_fit(void **state)
{
    (void)state;
    lw_plan p = plan_of(12.0, 0.5);
    lw_plan_decision d;
    const lw_plan_option some[] = {option(1, 1.0, false), option(2, 0.6, true)};
    lw_plan_decide(&p, some, 2, &d);
    assert_int_equal(d.gpus, 2);
    assert_non_null(strstr(d.rejected[0].why, "needs 34.0 GB"));
    const lw_plan_option none[] = {option(1, 1.0, false), option(2, 0.6, false)};
    lw_plan_decide(&p, none, 2, &d);
    assert_int_equal(d.gpus, 0);
    assert_non_null(strstr(d.reason, "a100-80")); // what would
    assert_null(strstr(d.reason, "rtx4090"));
    assert_int_equal(d.rejected_count, 2);
}

static void test_deadline_of_slurm(void **state)
{
    (void)state;
    lw_config c = {.plan = {.deadline_h = 12.0}};
    char text[160];
    char end[32];
    unsetenv("SLURM_JOB_ID");
    assert_true(lw_plan_deadline_s(&c, text, sizeof text) == 12.0 * 3600.0);
    assert_non_null(strstr(text, "plan.deadline_h = 12"));
    snprintf(end, sizeof end, "%lld", (long long)time(NULL) + 3600);
    setenv("SLURM_JOB_ID", "7", 1);
    setenv("SLURM_JOB_END_TIME", end, 1);
    double left_s = lw_plan_deadline_s(&c, text, sizeof text);
    assert_true(left_s > 3590.0 && left_s <= 3600.0);
    assert_non_null(strstr(text, "Slurm"));
    c.plan.deadline_h = 0.5; // less than what Slurm leaves
    assert_true(lw_plan_deadline_s(&c, text, sizeof text) == 1800.0);
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_JOB_END_TIME");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_numbers_for_a_device),
        cmocka_unit_test(test_cores_are_shared),
        cmocka_unit_test(test_small_batches_are_bound_by_weights),
        cmocka_unit_test(test_cost_grows_with_the_job),
        cmocka_unit_test(test_teacher),
        cmocka_unit_test(test_teacher_sizes),
        cmocka_unit_test(test_reduction),
        cmocka_unit_test(test_calibration),
        cmocka_unit_test(test_smallest_count_in_time),
        cmocka_unit_test(test_no_count_in_time),
        cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_deadline_of_slurm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
