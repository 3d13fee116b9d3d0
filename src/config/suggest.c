// suggest.c: finds the key that a misspelt one was probably meant to be.
#include <string.h>

#include "config/keys.h"

enum { LONGEST_WORD = 48 };

int lw_edit_distance(const char *a, const char *b)
{
    size_t na = strlen(a);
    size_t nb = strlen(b);
    if (na > LONGEST_WORD || nb > LONGEST_WORD) {
        return LONGEST_WORD;
    }
    int d[LONGEST_WORD + 1][LONGEST_WORD + 1];
    for (size_t i = 0; i <= na; i++) {
        d[i][0] = (int)i;
    }
    for (size_t j = 0; j <= nb; j++) {
        d[0][j] = (int)j;
    }
    for (size_t i = 1; i <= na; i++) {
        for (size_t j = 1; j <= nb; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            best = d[i - 1][j] + 1 < best ? d[i - 1][j] + 1 : best;
            best = d[i][j - 1] + 1 < best ? d[i][j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best) {
                best = d[i - 2][j - 2] + 1;
            }
            d[i][j] = best;
        }
    }
    return d[na][nb];
}

// Keeps `candidate` when it is nearer than what is in `best`.
static void consider(const char *wrong, const char *candidate, size_t length, char *best, size_t size, int *nearest)
{
    char word[LONGEST_WORD + 1];
    if (length > LONGEST_WORD || length >= size) {
        return;
    }
    memcpy(word, candidate, length);
    word[length] = '\0';
    int distance = lw_edit_distance(wrong, word);
    if (distance < *nearest) {
        *nearest = distance;
        memcpy(best, word, length + 1);
    }
}

bool lw_key_suggest(const char *wrong, char *out, size_t size)
{
    int too_far = strlen(wrong) > LONGEST_WORD ? 0 : (int)strlen(wrong) / 3 + 1;
    int nearest = too_far < 3 ? 3 : too_far;
    bool top_level = strchr(wrong, '.') == NULL;
    out[0] = '\0';
    for (int i = 0; i < lw_key_count(); i++) {
        const char *path = lw_key_at(i)->path;
        consider(wrong, path, strlen(path), out, size, &nearest);
        if (top_level && strchr(path, '.') != NULL) {
            consider(wrong, path, (size_t)(strchr(path, '.') - path), out, size, &nearest);
        }
    }
    if (top_level) {
        consider(wrong, "models", strlen("models"), out, size, &nearest);
        consider(wrong, "phases", strlen("phases"), out, size, &nearest);
    }
    // The right name in the wrong group ("epochs", "run.seed") is a better guess than a word of similar letters.
    for (int i = 0; i < lw_key_count() && (out[0] == '\0' || nearest > 1); i++) {
        if (strcmp(lw_key_last_part(wrong), lw_key_last_part(lw_key_at(i)->path)) == 0) {
            snprintf(out, size, "%s", lw_key_at(i)->path);
            break;
        }
    }
    return out[0] != '\0';
}
