// A file of latents, as `lwmpi answer` reads it: what is read can be decoded, and printed and read again.
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "wire/quantise.h"
#include "wire/wire_file.h"

static void check_decoded(const lw_wire_set *set)
{
    lw_error err = {.text = ""};
    int64_t rows = set->z_start[set->count];
    float *z = malloc((size_t)(rows * set->d_z + 1) * sizeof *z);
    FUZZ_CHECK(z != NULL);
    lw_status status = lw_wire_decode(set, 0, set->count, &err, z);
    if (status != LW_OK) { // a number that is not finite
        fuzz_check_failure(status, &err);
    }
    free(z);
}

static void check_again(const lw_wire_set *set)
{
    lw_error err = {.text = ""};
    lw_wire_set again;
    const char *path = fuzz_path("again.safetensors");
    FILE *file = fopen(path, "wb");
    FUZZ_CHECK(file != NULL);
    lw_status status = lw_wire_file_print(set, file, path, &err);
    FUZZ_CHECK(fclose(file) == 0);
    FUZZ_CHECK(status == LW_OK);
    FUZZ_CHECK(lw_wire_file_read(path, &err, &again) == LW_OK);
    FUZZ_CHECK(again.count == set->count && again.bits == set->bits && again.d_z == set->d_z);
    FUZZ_CHECK(again.compress == set->compress && again.encoder == set->encoder);
    size_t bytes = (size_t)(set->z_start[set->count] * lw_quantise_row_bytes(set->bits, set->d_z));
    FUZZ_CHECK(memcmp(again.z_start, set->z_start, (size_t)(set->count + 1) * sizeof *set->z_start) == 0);
    FUZZ_CHECK(bytes == 0 || memcmp(again.data, set->data, bytes) == 0);
    for (int64_t i = 0; i < set->count; i++) {
        const lw_wire_item *a = &set->items[i];
        const lw_wire_item *b = &again.items[i];
        FUZZ_CHECK(strcmp(a->id, b->id) == 0 && (a->question == NULL) == (b->question == NULL));
        FUZZ_CHECK(a->question == NULL || strcmp(a->question, b->question) == 0);
    }
    lw_wire_set_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lw_error err = {.text = ""};
    lw_wire_set set;
    lw_status status = lw_wire_file_read(fuzz_put("wires.safetensors", data, size), &err, &set);
    if (status != LW_OK) {
        fuzz_check_failure(status, &err);
        return 0;
    }
    FUZZ_CHECK(set.count >= 0 && set.z_start[0] == 0 && set.d_z > 0 && lw_quantise_has(set.bits));
    for (int64_t i = 0; i < set.count; i++) {
        FUZZ_CHECK(lw_wire_latents(&set, i) >= 0 && set.items[i].id != NULL);
    }
    check_decoded(&set);
    check_again(&set);
    lw_wire_set_free(&set);
    return 0;
}
