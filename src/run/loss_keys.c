// loss_keys.c: the keys of the losses in metrics.jsonl and summary.json.
#include "run/loss_keys.h"

#include <stdio.h>

const char *lw_loss_key(lw_loss_kind kind)
{
    static const char *const keys[] = {
#define LW_LOSS_KEY(name, key) [name] = key,
        LW_LOSSES(LW_LOSS_KEY)
#undef LW_LOSS_KEY
    };
    return keys[kind];
}

const char *lw_loss_key_prefix(lw_loss_kind kind)
{
    static const char *const prefixes[] = {
#define LW_LOSS_PREFIX(name, key) [name] = key "_",
        LW_LOSSES(LW_LOSS_PREFIX)
#undef LW_LOSS_PREFIX
    };
    return prefixes[kind];
}

char *lw_loss_key_of_model(lw_loss_kind kind, const char *model, char *out)
{
    snprintf(out, LW_LOSS_KEY_BYTES, "%s%s", lw_loss_key_prefix(kind), model);
    return out;
}
