// hf_rope.c: the keys of rotary position embeddings (transformers' rope_scaling, rope_parameters), and the frequencies.
#include <math.h>
#include <string.h>

#include "model/hf_config_internal.h"

static lw_status read_llama3(const lw_json *scaling, lw_error *err, lw_hf_config *c)
{
    LW_TRY(lw_json_double(scaling, "low_freq_factor", 1e-6, 1e6, err, &c->rope_low_freq_factor));
    LW_TRY(lw_json_double(scaling, "high_freq_factor", 1e-6, 1e6, err, &c->rope_high_freq_factor));
    LW_TRY(lw_json_double(scaling, "original_max_position_embeddings", 1.0, (double)LW_HF_MAX_POSITIONS, err,
                          &c->rope_original_max_positions));
    if (c->rope_high_freq_factor <= c->rope_low_freq_factor) { // the smooth band would divide by zero or turn over
        return lw_fail(err, LW_ERR_FORMAT,
                       "%s: \"%shigh_freq_factor\" (%g) must be greater than \"low_freq_factor\" (%g)", scaling->where,
                       scaling->parent, c->rope_high_freq_factor, c->rope_low_freq_factor);
    }
    return LW_OK;
}

static lw_status read_scaling(const lw_json *scaling, const char *type, lw_error *err, lw_hf_config *c)
{
    LW_TRY(lw_hf_check_factors(scaling, err));
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)scaling->object, key, value)
    { // the macro is not const-correct; it only reads. transformers 5: one object for each type of layer
        if (json_is_object(value)) {
            char shown[LW_HF_SHOWN_BYTES];
            return lw_fail(err, LW_ERR_UNSUPPORTED, "%s: \"%s%s\": rope parameters by type of layer are not supported",
                           scaling->where, scaling->parent, lw_printable(key, shown, sizeof shown));
        }
    }
    if (strcmp(type, "default") == 0) {
        return LW_OK;
    }
    bool linear = strcmp(type, "linear") == 0;
    if (!linear && strcmp(type, "llama3") != 0) {
        char shown[LW_HF_SHOWN_BYTES];
        return lw_fail(err, LW_ERR_UNSUPPORTED,
                       "%s: \"%srope_type\": %s is not supported; supported are default, linear and llama3",
                       scaling->where, scaling->parent, lw_printable(type, shown, sizeof shown));
    }
    c->rope_kind = linear ? LW_ROPE_LINEAR : LW_ROPE_LLAMA3;
    LW_TRY(lw_json_double(scaling, "factor", 1e-6, 1e6, err, &c->rope_factor));
    return linear ? LW_OK : read_llama3(scaling, err, c);
}

lw_status lw_hf_read_rope(const lw_json *at, lw_error *err, lw_hf_config *c)
{
    c->rope_kind = LW_ROPE_DEFAULT;
    c->rope_factor = 1.0;
    LW_TRY(lw_json_double_or(at, "rope_theta", 1e-3, 1e12, 10000.0, err, &c->rope_theta));
    bool old_key = lw_json_has(at, "rope_scaling");
    const char *key = old_key ? "rope_scaling" : "rope_parameters";
    if (!lw_json_has(at, key)) {
        return LW_OK;
    }
    const json_t *value = NULL;
    LW_TRY(lw_json_child(at, key, err, &value));
    const lw_json scaling = {.object = value,
                             .where = at->where,
                             .parent = old_key ? "rope_scaling." : "rope_parameters."};
    double theta = c->rope_theta;
    LW_TRY(lw_json_double_or(&scaling, "rope_theta", 1e-3, 1e12, theta, err, &theta));
    if (lw_json_has(at, "rope_theta") && (theta < c->rope_theta || theta > c->rope_theta)) {
        return lw_fail(err, LW_ERR_FORMAT, "%s: \"rope_theta\" (%g) and \"%srope_theta\" (%g) disagree", at->where,
                       c->rope_theta, scaling.parent, theta);
    }
    c->rope_theta = theta;
    const char *type = NULL;
    const char *type_key = lw_json_has(&scaling, "type") ? "type" : "rope_type"; // "type" wins in transformers
    if (old_key) {
        LW_TRY(lw_json_string(&scaling, type_key, err, &type));
    } else {
        LW_TRY(lw_json_string_or(&scaling, type_key, "default", err, &type));
    }
    return read_scaling(&scaling, type, err, c);
}

// One frequency scaled as "llama3" does: short wavelengths stay, long ones are divided by the factor, and between
// the two limits it goes smoothly from one to the other.
static double llama3_freq(const lw_hf_config *c, double freq)
{
    double wavelength = 6.283185307179586476925286766559 / freq;
    double turns = c->rope_original_max_positions / wavelength; // in the original context
    if (turns < c->rope_low_freq_factor) {
        return freq / c->rope_factor;
    }
    if (turns > c->rope_high_freq_factor) {
        return freq;
    }
    double smooth = (turns - c->rope_low_freq_factor) / (c->rope_high_freq_factor - c->rope_low_freq_factor);
    return freq * ((1.0 - smooth) / c->rope_factor + smooth);
}

void lw_hf_rope_inv_freq(const lw_hf_config *c, double *out)
{
    for (int64_t i = 0; i < c->head_dim / 2; i++) {
        double freq = pow(c->rope_theta, -2.0 * (double)i / (double)c->head_dim);
        switch (c->rope_kind) {
        case LW_ROPE_DEFAULT: break;
        case LW_ROPE_LINEAR: freq /= c->rope_factor; break;
        case LW_ROPE_LLAMA3: freq = llama3_freq(c, freq); break;
        }
        out[i] = freq;
    }
}
