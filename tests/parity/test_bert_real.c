// BERT: a real model (all-MiniLM-L6-v2) against transformers. It is not in the tree: skipped where LWMPI_MINILM_DIR does
// not name its directory, with a reference.safetensors of make_bert.py in it.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bert_lab.h"

int main(void)
{
    const char *dir = getenv("LWMPI_MINILM_DIR");
    char reference[4096];
    if (dir == NULL || dir[0] == '\0') {
        printf("skipped: LWMPI_MINILM_DIR does not name a model\n");
        return 77;
    }
    snprintf(reference, sizeof reference, "%s/reference.safetensors", dir);
    if (access(reference, R_OK) != 0) {
        printf("skipped: %s is not there: python tests/parity/make_bert.py %s\n", reference, dir);
        return 77;
    }
    bert_lab_compare(dir, reference);
    return 0;
}
