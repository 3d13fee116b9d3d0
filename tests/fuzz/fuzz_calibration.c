// A calibration record. Where its build is "this", it becomes this build's, so that the rest is reached.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "core/version.h"
#include "cost/calibration.h"
#include "fuzz.h"
#include "wire/step.h"

static void check_record(const lw_calibration_record *r)
{
    FUZZ_CHECK(r->ranks >= 1 && r->threads >= 0 && r->step_flop >= 1.0 && r->step_s > 0.0 && isfinite(r->step_s));
    FUZZ_CHECK(r->rates.matrix_flop_per_s > 0.0 && r->rates.f32_flop_per_s > 0.0 && r->rates.bytes_per_s > 0.0);
    FUZZ_CHECK(lw_is_printable(r->rates.name) && lw_is_printable(r->source) && lw_is_printable(r->date));
    for (int p = 0; p < LW_PHASE_COUNT; p++) {
        FUZZ_CHECK(r->model_s[p] >= 0.0 && r->measured_s[p] >= 0.0 && isfinite(r->model_s[p] + r->measured_s[p]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char this_build[] = "\"build\": \"this\"";
    const char *build = lw_build_type();
    const uint8_t *found = size > 0 ? memmem(data, size, this_build, sizeof this_build - 1) : NULL;
    char *text = malloc(size + strlen(build) + 1);
    FUZZ_CHECK(text != NULL);
    size_t front = found != NULL ? (size_t)(found - data) + strlen("\"build\": \"") : 0;
    size_t skipped = found != NULL ? strlen("this") : 0;
    size_t bytes = 0;
    if (found != NULL) {
        memcpy(text, data, front);
        memcpy(text + front, build, strlen(build));
        bytes = front + strlen(build);
    }
    if (size > 0) {
        memcpy(text + bytes, data + front + skipped, size - front - skipped);
        bytes += size - front - skipped;
    }
    fuzz_put("record.json", text, bytes);
    free(text);
    lw_error err = {.text = ""};
    lw_calibration list = {0};
    FUZZ_CHECK(lw_calibration_read(fuzz_dir(), &err, &list) == LW_OK && list.count <= 1);
    for (int i = 0; i < list.count; i++) {
        check_record(&list.list[i]);
    }
    lw_calibration_free(&list);
    return 0;
}
