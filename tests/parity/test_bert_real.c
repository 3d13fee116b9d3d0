// BERT: a real model, all-MiniLM-L6-v2 as configs/smollm2/prepare.py makes it. Ids of 640 texts and last hidden states
// of six as Hugging Face has them (make_minilm.py). The model is not in the tree: skipped where $LWMPI_MODELS names no
// folder that holds it.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bert_lab.h"
#include "tokenizer/golden.h"

static void compare_ids(const char *dir)
{
    char path[4096 + 32];
    golden_texts texts = {0};
    lw_error err;
    lw_tokenizer *tokenizer = NULL;
    golden_read_texts("tests/parity/tokenizer/texts.jsonl", &texts);
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    REQUIRE(lw_tokenizer_load(path, &err, &tokenizer) == LW_OK, "%s", err.text);
    golden_compare("tests/parity/minilm/ids.golden", tokenizer, &texts);
    lw_tokenizer_destroy(&tokenizer);
    golden_free(&texts);
}

int main(void)
{
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/all-MiniLM-L6-v2", golden_setting("LWMPI_MODELS", "models"));
    if (access(dir, R_OK) != 0) {
        printf("skipped: %s is not there; configs/smollm2/prepare.py makes it, $LWMPI_MODELS names its folder\n", dir);
        return 77;
    }
    compare_ids(dir);
    bert_lab_compare(dir, "tests/parity/minilm/reference.safetensors");
    return 0;
}
