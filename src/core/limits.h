// limits.h: bounds that the configuration checks and arrays of several layers rely on.
#ifndef LW_LIMITS_H
#define LW_LIMITS_H

enum {
    LW_MAX_MODELS = 16,     // frozen LLMs of a job
    LW_MODEL_NAME_MAX = 64, // bytes of a model's name, without the final 0
    LW_MAX_PHASES = 16,     // training phases of a run
    LW_MAX_DIMS = 8,        // of a tensor in a file
};

#endif
