// config.json of the BERT family: what is read, and what is refused by its key.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/bert_config.h"
#include "scratch.h"

static lw_error err;

static lw_status read_text(const char *text, lw_bert_config *out)
{
    scratch_put(scratch_path("config.json"), text, strlen(text));
    return lw_bert_config_read(scratch_dir(), &err, out);
}

static void test_sizes(void **state)
{
    (void)state;
    lw_bert_config c;
    // Nothing but the family: bert-base-uncased.
    assert_int_equal(read_text("{\"model_type\": \"bert\"}", &c), LW_OK);
    assert_int_equal(c.d, 768);
    assert_int_equal(c.layers, 12);
    assert_int_equal(c.head_dim, 64);
    assert_int_equal(c.max_positions, 512);
    assert_true(c.gelu_erf);
    assert_int_equal(lw_bert_config_parameters(&c), 108891648); // of transformers' BertModel without its pooler
    const lw_bert_config first = lw_bert_config_first(&c, 3);
    assert_int_equal(first.layers, 3);
    assert_int_equal(lw_bert_config_first(&c, 0).layers, 12);
    assert_int_equal(read_text("{\"model_type\": \"bert\", \"hidden_size\": 384, \"num_hidden_layers\": 6, "
                               "\"intermediate_size\": 1536, \"hidden_act\": \"gelu_new\", \"layer_norm_eps\": 1e-5}",
                               &c),
                     LW_OK);
    assert_int_equal(c.head_dim, 32);
    assert_false(c.gelu_erf);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        lw_status status;
        const char *says;
    } cases[] = {
        {"{}", LW_ERR_FORMAT, "model_type"},
        {"[]", LW_ERR_FORMAT, "config.json"},
        {"{\"model_type\": \"roberta\"}", LW_ERR_UNSUPPORTED, "roberta"},
        {"{\"model_type\": \"bert\", \"hidden_act\": \"relu\"}", LW_ERR_UNSUPPORTED, "\"hidden_act\": relu"},
        {"{\"model_type\": \"bert\", \"position_embedding_type\": \"relative_key\"}", LW_ERR_UNSUPPORTED,
         "\"position_embedding_type\": relative_key"},
        {"{\"model_type\": \"bert\", \"is_decoder\": true}", LW_ERR_UNSUPPORTED, "is_decoder"},
        {"{\"model_type\": \"bert\", \"quantization_config\": {}}", LW_ERR_UNSUPPORTED, "quantization_config"},
        {"{\"model_type\": \"bert\", \"hidden_size\": 100}", LW_ERR_FORMAT, "num_attention_heads"},
        {"{\"model_type\": \"bert\", \"hidden_size\": 0}", LW_ERR_FORMAT, "hidden_size"},
        {"{\"model_type\": \"bert\", \"vocab_size\": 1e30}", LW_ERR_FORMAT, "vocab_size"},
        {"{\"model_type\": \"bert\", \"layer_norm_eps\": \"x\"}", LW_ERR_FORMAT, "layer_norm_eps"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lw_bert_config c;
        const lw_status status = read_text(cases[i].text, &c);
        if (status != cases[i].status || strstr(err.text, cases[i].says) == NULL) {
            fail_msg("%s: status %d, %s", cases[i].text, status, err.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
