// report: the page is well-formed whatever the run directory holds, says what is missing, and lets no text through as
// markup.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "report/report.h"
#include "support/scratch.h"

#define EVIL "<script>alert('1')</script>&\\\"x\\u0007]]>"

static char folder[256]; // of the case at hand

static int make_folder(void **state)
{
    static int number = 0;
    (void)state;
    snprintf(folder, sizeof folder, "%s/%d", scratch_dir(), number++);
    return mkdir(folder, 0700);
}

static void put(const char *name, const char *text)
{
    char path[320];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    scratch_put(path, text, strlen(text));
}

static char *page(void)
{
    lw_error err = {{0}};
    lw_report_input input;
    char *text = NULL;
    size_t bytes = 0;
    if (lw_report_read(folder, &err, &input) != LW_OK) {
        fail_msg("%s", err.text);
    }
    FILE *memory = open_memstream(&text, &bytes);
    lw_report_print(&input, memory);
    fclose(memory);
    lw_report_free(&input);
    return text;
}

// --- a reader of XML that knows just enough: tags nest, attributes are quoted, '&' begins an entity

enum { DEEPEST = 32 };

static const char *read_entity(const char *at)
{
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;", "&#8211;"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strncmp(at, known[i], strlen(known[i])) == 0) {
            return at + strlen(known[i]);
        }
    }
    fail_msg("a bare & at: %.40s", at);
    return at + 1;
}

static const char *read_attributes(const char *at)
{
    while (*at == ' ') {
        at += strspn(at, " ");
        size_t name = strcspn(at, "= />");
        assert_true(name > 0 && at[name] == '=' && at[name + 1] == '"');
        at += name + 2;
        while (*at != '"') {
            assert_true(*at != '\0' && *at != '<');
            at = *at == '&' ? read_entity(at) : at + 1;
        }
        at++;
    }
    return at;
}

static void check_page(const char *text)
{
    char open[DEEPEST][16];
    int depth = 0;
    const char *at = text;
    static const char head[] = "<!DOCTYPE html>\n";
    assert_memory_equal(at, head, sizeof head - 1);
    at += sizeof head - 1;
    while (*at != '\0') {
        if (*at == '&') {
            at = read_entity(at);
        } else if (*at != '<') {
            assert_true(*at != '>' && ((unsigned char)*at >= ' ' || *at == '\n'));
            at++;
        } else if (at[1] == '/') {
            size_t length = strcspn(at + 2, ">");
            if (depth == 0 || strlen(open[depth - 1]) != length || strncmp(open[depth - 1], at + 2, length) != 0) {
                fail_msg("</%.*s> closes <%s>", (int)length, at + 2, depth > 0 ? open[depth - 1] : "nothing");
            }
            depth--;
            at += 2 + length + 1;
        } else {
            size_t length = strspn(at + 1, "abcdefghijklmnopqrstuvwxyz123");
            assert_true(length > 0 && length < sizeof open[0] && depth < DEEPEST);
            memcpy(open[depth], at + 1, length);
            open[depth++][length] = '\0';
            at = read_attributes(at + 1 + length);
            if (*at == '/') {
                depth--;
                at++;
            }
            assert_int_equal(*at, '>');
            at++;
        }
    }
    assert_int_equal(depth, 0);
    assert_null(strstr(text, "<script"));
}

static void has(const char *text, const char *what)
{
    if (strstr(text, what) == NULL) {
        fail_msg("the page lacks: %s", what);
    }
}

// --- the cases

static void nothing_there(void **state)
{
    (void)state;
    lw_error err = {{0}};
    lw_report_input input;
    assert_int_equal(lw_report_read(folder, &err, &input), LW_ERR_CONFIG);
    has(err.text, "no run directory");
    assert_int_equal(lw_report_read("/nonexistent/run", &err, &input), LW_ERR_CONFIG);
}

static void a_run_that_goes_on(void **state)
{
    (void)state;
    put("config.cfg", "# hash <1>\nname = \"a & b\";\n");
    put("metrics.jsonl", "{\"step\": 1, \"loss\": 3.5, \"loss_llama\": 3.0, \"samples_per_s\": 5}\n"
                         "no json\n"
                         "{\"step\": 2, \"loss\": null, \"loss_llama\": 2.5, \"latent_cosine\": 0.5}\n"
                         "{\"step\": 3, \"lo"); // being written
    char *text = page();
    check_page(text);
    has(text, "the run goes on");
    has(text, "Last logged step: 2.");
    has(text, "1 rows of metrics.jsonl could not be read");
    has(text, "No eval.json");
    has(text, "Training loss");
    has(text, "name = &quot;a &amp; b&quot;;");
    assert_null(strstr(text, "Held-out loss of"));
    free(text);
}

static void hostile_words(void **state)
{
    (void)state;
    put("config.cfg", "x = \"</pre><script>\x01\xff\";\n");
    put("summary.json",
        "{\"device\": \"" EVIL "\", \"steps\": 1e308, \"predicted\": {}, \"measured\": {\"step_s\": \"" EVIL "\"}}");
    put("metrics.jsonl",
        "{\"step\": 1, \"loss\": 1e308, \"loss_" EVIL "\": -1e308, \"eval_nll\": 1e17}\n"
        "{\"step\": 1e300, \"loss\": -1e308, \"loss_" EVIL "\": 1e-300, \"eval_nll\": 1.00000000000000016e17}\n"
        "[1]\n{\"step\": \"x\", \"loss\": {}}\n");
    put("eval.json",
        "{\"samples\": \"many\", \"gain_over_shuffled\": {\"f1\": 1e308}, "
        "\"models\": {\"" EVIL "\": {\"text\": {\"f1\": 7, \"f1_interval\": [\"a\", {}]}, \"" EVIL
        "\": {}}, \"n\": 3}, "
        "\"quantised\": [{\"wire_bytes\": -5, \"models\": {\"" EVIL
        "\": {\"f1\": 0.5, \"f1_interval\": [0.4, 0.6]}}}, 7, "
        "{\"wire_bytes\": 1e-300, \"models\": []}], \"curve\": {}, \"compression\": {\"prompt_tokens_mean\": {\"" EVIL
        "\": \"x\"}}, \"joint\": {}}");
    char *text = page();
    check_page(text);
    has(text, "&lt;script&gt;alert(&#39;1&#39;)");
    free(text);
}

static void whole_evaluation(void **state)
{
    (void)state;
    static const char figures[] = "{\"exact_match\": 0.25, \"f1\": 0.5, \"f1_interval\": [0.4, 0.6], "
                                  "\"nll_per_answer_token\": 1.25, \"nll_interval\": [1.0, 1.5]}";
    char text[4096];
    snprintf(text, sizeof text,
             "{\"samples\": 40, \"gain_over_shuffled\": {\"f1\": 0.31, \"f1_interval\": [0.2, 0.4], \"nll\": 0.7}, "
             "\"models\": {\"llama\": {\"text\": %s, \"latent\": %s}}, "
             "\"quantised\": [{\"latents\": 16, \"bits\": 8, \"wire_bytes\": 1088, \"models\": {\"llama\": %s}}, "
             "{\"latents\": 16, \"bits\": 4, \"wire_bytes\": 576, \"models\": {\"llama\": %s}}]}",
             figures, figures, figures, figures);
    put("eval.json", text);
    char *html = page();
    check_page(html);
    has(html, "F1 0.310 [0.200, 0.400]");
    has(html, "<td>latent</td><td>0.250</td><td>0.500 [0.400, 0.600]</td><td>1.250 [1.000, 1.500]</td>");
    has(html, "<td>16.0</td><td>4</td><td>576</td><td>llama</td>");
    has(html, "Not measured: eval.curve = true");
    has(html, "<circle");
    free(html);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_there, make_folder),
        cmocka_unit_test_setup(a_run_that_goes_on, make_folder),
        cmocka_unit_test_setup(hostile_words, make_folder),
        cmocka_unit_test_setup(whole_evaluation, make_folder),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
