// help.c: describes keys, for messages and for the reference in --help.
#include <string.h>

#include "config/keys.h"

static void describe_words(const char *const *words, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "one of");
    for (int i = 0; words[i] != NULL && used < size; i++) {
        used += (size_t)snprintf(out + used, size - used, "%s \"%s\"", i == 0 ? "" : ",", words[i]);
    }
}

void lw_key_describe(const lw_key *key, char *out, size_t size)
{
    switch (key->type) {
    case LW_KEY_INT:
    case LW_KEY_AUTO_INT: {
        const char *word = key->type == LW_KEY_INT          ? ""
                           : (key->flags & LW_KEY_ALL) != 0 ? "\"all\", \"auto\" or "
                                                            : "\"auto\" or ";
        if (key->int_max >= LW_KEY_NO_MAX) {
            snprintf(out, size, "%san integer of at least %lld", word, (long long)key->int_min);
        } else {
            snprintf(out, size, "%san integer from %lld to %lld", word, (long long)key->int_min,
                     (long long)key->int_max);
        }
        break;
    }
    case LW_KEY_FLOAT:
        snprintf(out, size, "a number in %c%g, %g%c", (key->flags & LW_KEY_OPEN_LO) != 0 ? '(' : '[', key->float_min,
                 key->float_max, (key->flags & LW_KEY_OPEN_HI) != 0 ? ')' : ']');
        break;
    case LW_KEY_BOOL: snprintf(out, size, "true or false"); break;
    case LW_KEY_STRING: snprintf(out, size, "a string"); break;
    case LW_KEY_PATH: snprintf(out, size, "a path"); break;
    case LW_KEY_CHOICE: describe_words(key->words, out, size); break;
    }
}

// The default as it would be written in a file.
static void describe_default(const lw_key *key, char *out, size_t size)
{
    switch (key->type) {
    case LW_KEY_INT: snprintf(out, size, "%lld", (long long)key->int_default); break;
    case LW_KEY_AUTO_INT: snprintf(out, size, (key->flags & LW_KEY_ALL) != 0 ? "\"all\"" : "\"auto\""); break;
    case LW_KEY_FLOAT: snprintf(out, size, "%g", key->float_default); break;
    case LW_KEY_BOOL: snprintf(out, size, "%s", key->int_default != 0 ? "true" : "false"); break;
    case LW_KEY_CHOICE: snprintf(out, size, "\"%s\"", key->words[key->int_default]); break;
    case LW_KEY_STRING:
    case LW_KEY_PATH: {
        size_t used = (size_t)snprintf(out, size, "\"");
        for (const char *c = key->text_default; *c != '\0' && used + 4 < size; c++) {
            used += (size_t)snprintf(out + used, size - used, *c == '\n' ? "\\n" : "%c", *c);
        }
        snprintf(out + used, size - used, "\"");
        break;
    }
    }
}

// Prints the names in lines as wide as the text around them.
static void print_phase_keys(FILE *file)
{
    size_t column = 0;
    for (int i = 0; i < lw_key_count(); i++) {
        const lw_key *key = lw_key_at(i);
        if ((key->flags & LW_KEY_PHASE) != 0) {
            const char *name = lw_key_phase_name(key);
            bool wraps = column + strlen(name) + 2 > 110;
            fputs(column == 0 ? "      " : wraps ? ",\n      " : ", ", file);
            fputs(name, file);
            column = (column == 0 || wraps ? 6 : column + 2) + strlen(name);
        }
    }
    fputs("\n", file);
}

void lw_config_help(FILE *file)
{
    fputs(
        "Keys of the configuration (libconfig), also as overrides KEY=VALUE. Those marked * say what is\n"
        "computed: a run is not continued when one of them differs, but with run.accept_changes=true. The others say\n"
        "where it runs, what is measured and kept: they may change, and the result is the same but for rounding.\n\n"
        "  models *\n"
        "      a list of { name = \"NAME\"; path = \"DIR\"; init = \"load\"; }: the frozen models, Hugging Face\n"
        "      directories. init = \"random\" takes only the shapes from DIR. Override: models.NAME.path=DIR\n"
        "  phases *\n"
        "      a list of { name = \"NAME\"; data = \"FILE\"; steps = N; lr = X; ... }: the run goes through them in "
        "turn,\n"
        "      each with a learning rate that rises and falls anew. What a phase does not say it has from the common\n"
        "      keys; one with steps and no epochs goes round its data as often as that takes. train.max_steps ends\n"
        "      the run as a whole. Override: phases.NAME.steps=N. No list: one phase, of the common keys. A phase "
        "has\n",
        file);
    print_phase_keys(file);
    for (int i = 0; i < lw_key_count(); i++) {
        const lw_key *key = lw_key_at(i);
        char wanted[256];
        char value[128];
        lw_key_describe(key, wanted, sizeof wanted);
        describe_default(key, value, sizeof value);
        bool unset = (key->flags & LW_KEY_UNSET) != 0;
        fprintf(file, "  %s%s%s%s\n      %s; %s\n", key->path, unset ? "" : " = ", unset ? "" : value,
                (key->flags & LW_KEY_FREE) != 0 ? "" : " *", wanted, key->help);
    }
}
