// frozen_model.c: loads a frozen model, whatever its kind.
#include "model/frozen_model.h"

#include <stdio.h>

#include "core/clock.h"

static lw_status load(lw_device *dev, const lw_frozen_source *source, const lw_frozen_kind *kind, int64_t tensors,
                      void *model, lw_error *err, lw_frozen_model *out)
{
    double start_s = lw_now_s();
    lw_weight_list list = {0};
    LW_TRY(lw_weight_list_create(tensors, err, &list));
    kind->list(model, &list);
    lw_status status = LW_OK;
    if (source->random) {
        LW_TRY_GOTO(lw_weights_random(dev, &list, source->seed, &out->fingerprint));
    } else {
        LW_TRY_GOTO(lw_weights_read(dev, source->dir, &list, err, &out->figures.bytes, &out->fingerprint));
    }
    LW_TRY_GOTO(lw_weights_check(dev, source->random ? "random weights" : source->dir, &list, err));
    LW_TRY_GOTO(kind->finish(model, &list, err));
    LW_TRY_GOTO(dev->ops->sync(dev, err));
    out->figures.wall_s = lw_now_s() - start_s;
done:
    lw_weight_list_free(&list);
    return status;
}

lw_status lw_frozen_open(lw_device *dev, const lw_frozen_source *source, const lw_frozen_kind *kind, int64_t tensors,
                         void *model, lw_error *err, lw_frozen_model *out)
{
    char what[256];
    snprintf(what, sizeof what, "weights of %s", source->dir);
    LW_TRY(lw_arena_place(dev, what, kind->layout, model, err, &out->arena));
    return load(dev, source, kind, tensors, model, err, out);
}

void lw_frozen_close(lw_device *dev, lw_frozen_model *frozen)
{
    lw_arena_free(dev, &frozen->arena);
    *frozen = (lw_frozen_model){0};
}
