// tokenizer_internal.h: what the files of the tokenizer share.
#ifndef LW_TOKENIZER_INTERNAL_H
#define LW_TOKENIZER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>

#include "core/ids.h"
#include "core/status.h"
#include "tokenizer/tokenizer.h"

// --- bytes and UTF-8 (characters.c)

typedef struct lw_text_buffer {
    char *data;
    size_t len, cap;
} lw_text_buffer;

lw_status lw_text_reserve(lw_text_buffer *buffer, size_t more, lw_error *err);
lw_status lw_text_append(lw_text_buffer *buffer, const char *data, size_t len, lw_error *err);

// How many bytes (1..3) at s a lossy decoder replaces by a single U+FFFD, where no valid sequence begins: the longest
// part that could have begun one.
size_t lw_utf8_bad_part(const char *s, size_t left);

// The code point at s, which is valid UTF-8, and its length.
static inline int32_t lw_utf8_at(const char *s, size_t *len)
{
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80) {
        *len = 1;
        return u[0];
    }
    if (u[0] < 0xE0) {
        *len = 2;
        return (u[0] & 0x1F) << 6 | (u[1] & 0x3F);
    }
    if (u[0] < 0xF0) {
        *len = 3;
        return (u[0] & 0x0F) << 12 | (u[1] & 0x3F) << 6 | (u[2] & 0x3F);
    }
    *len = 4;
    return (u[0] & 0x07) << 18 | (u[1] & 0x3F) << 12 | (u[2] & 0x3F) << 6 | (u[3] & 0x3F);
}

// Start of the code point that ends at `end` > 0 in valid UTF-8.
static inline size_t lw_utf8_before(const char *s, size_t end)
{
    do {
        end--;
    } while (((unsigned char)s[end] & 0xC0) == 0x80);
    return end;
}

bool lw_is_space(int32_t code_point);   // the property White_Space
bool lw_is_word(int32_t code_point);    // \w of Rust's regex crate
bool lw_is_numeric(int32_t code_point); // general categories Nd, Nl, No

// The GPT-2 alphabet: byte -> code point (all below U+0144), and back (-1 for a code point outside of it).
int32_t lw_byte_to_char(unsigned char byte);
int lw_char_to_byte(int32_t code_point);

// --- normalisers (nfc.c, normalise.c)

// The working memory of the normalisers.
typedef struct lw_nfc {
    int32_t *points; // code points of the span that is normalised
    int32_t *sorted; // scratch to sort a run of marks
    size_t cap;      // of both
    lw_text_buffer text;
    lw_text_buffer cleaned; // the text after the first two steps of BertNormalizer
} lw_nfc;

void lw_nfc_free(lw_nfc *nfc);

// *out, *out_len is the NFC of valid UTF-8: `text` itself, or memory of *nfc that is good until the next call.
lw_status lw_nfc_apply(lw_nfc *nfc, const char *text, size_t len, lw_error *err, const char **out, size_t *out_len);

// nfc->points[0 .. *count) is the NFD of valid UTF-8.
lw_status lw_nfd_points(lw_nfc *nfc, const char *text, size_t len, lw_error *err, size_t *count);

// BertNormalizer, in the order of its steps.
typedef struct lw_bert_normalizer {
    bool clean;            // control characters are removed, white space becomes a space
    bool space_ideographs; // each gets a space on both sides
    bool strip_accents;    // NFD without non-spacing marks
    bool lowercase;
} lw_bert_normalizer;

bool lw_bert_is_punctuation(int32_t code_point);

// --- vocabulary and merges (vocab.c)

enum { LW_MAX_TOKEN_ID = (1 << 22) - 1 }; // real vocabularies stay below 2^20

typedef struct lw_token {
    const char *content; // as tokenizer.json has it; NULL: no token has this id
    const char *raw;     // the bytes it stands for
    uint32_t content_len, raw_len;
    bool in_model; // in the model's vocabulary
    bool added;    // in added_tokens
    bool mapped;   // all characters of `content` belong to the byte alphabet
    bool special;
} lw_token;

typedef struct lw_id_slot {
    uint32_t tag;
    int32_t id; // -1: empty
} lw_id_slot;

// Hash map from the content or the raw bytes of tokens to ids: open addressing, at most half full.
typedef struct lw_id_map {
    lw_id_slot *slots; // NULL: an empty map
    size_t mask;
    bool by_raw;
} lw_id_map;

typedef struct lw_merge {
    uint64_t pair; // left id << 32 | right id; LW_NO_PAIR: empty
    uint32_t rank;
    int32_t id; // of the merged token
} lw_merge;

#define LW_NO_PAIR UINT64_MAX

typedef struct lw_vocab {
    lw_token *tokens;    // by id
    int32_t id_count;    // highest id + 1
    int32_t model_count; // tokens of the model's vocabulary
    char *bytes;         // what the tokens point into
    lw_id_map by_content;
    lw_id_map by_raw; // the model's tokens with mapped content; filled only for ignore_merges
    lw_merge *merges;
    size_t merge_mask;
    uint64_t seed;        // of the hashes; random, so that no file can be made of collisions only
    int32_t byte_id[256]; // -1: the vocabulary lacks this byte
    int32_t unk_id;       // -1: bytes that the vocabulary lacks are dropped, as Hugging Face does
    bool fuse_unk;
    bool ignore_merges;
} lw_vocab;

void lw_vocab_free(lw_vocab *vocab);

lw_status lw_id_map_create(lw_id_map *map, size_t count, bool by_raw, lw_error *err);
void lw_id_map_add(const lw_vocab *vocab, lw_id_map *map, int32_t id);
int32_t lw_id_map_find(const lw_vocab *vocab, const lw_id_map *map, const char *key, size_t len);

// Fills token->raw (room for content_len bytes at `raw`), raw_len and mapped from its content.
void lw_token_unmap(lw_token *token, char *raw);

lw_status lw_merges_create(lw_vocab *vocab, size_t count, lw_error *err);
void lw_merges_set(lw_vocab *vocab, int32_t left, int32_t right, uint32_t rank, int32_t id);

static inline uint64_t lw_pair(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static inline size_t lw_pair_slot(const lw_vocab *vocab, uint64_t pair)
{
    uint64_t hash = (pair ^ vocab->seed) * UINT64_C(0x9E3779B97F4A7C15);
    hash = (hash ^ hash >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    return (size_t)(hash >> 20) & vocab->merge_mask;
}

static inline const lw_merge *lw_merge_find(const lw_vocab *vocab, int32_t left, int32_t right)
{
    const uint64_t pair = lw_pair(left, right);
    size_t slot = lw_pair_slot(vocab, pair);
    while (vocab->merges[slot].pair != pair) {
        if (vocab->merges[slot].pair == LW_NO_PAIR) {
            return NULL;
        }
        slot = (slot + 1) & vocab->merge_mask;
    }
    return &vocab->merges[slot];
}

// --- added tokens (added.c)

typedef struct lw_added_token {
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
} lw_added_token;

typedef struct lw_trie_node {
    int32_t child, sibling; // -1: none
    int32_t value;          // belongs to the text that ends here; -1: none does
    unsigned char byte;
} lw_trie_node;

typedef struct lw_trie {
    lw_trie_node *nodes;
    size_t count, cap;
    int32_t root[256]; // -1: no token begins with this byte
} lw_trie;

typedef struct lw_added {
    lw_added_token *tokens;
    size_t count;
    lw_trie verbatim;   // matched on the text as it came
    lw_trie normalized; // matched after normalisation
} lw_added;

void lw_added_free(lw_added *added);
void lw_trie_init(lw_trie *trie);
// Of two equal texts the first one stays. value >= 0.
lw_status lw_trie_insert(lw_trie *trie, const char *text, size_t len, int32_t value, lw_error *err);
// The longest text of the tree that begins at `at` < len: returns its value and sets its end; -1 if there is none.
int32_t lw_trie_longest(const lw_trie *trie, const char *text, size_t len, size_t at, size_t *out_end);

// --- pre-tokenizers (pretok.c, regex.c)

enum { LW_MAX_STAGES = 16 };

// ByteLevel and the stages after it in this list can only come last.
typedef enum lw_stage_kind { LW_STAGE_SPLIT, LW_STAGE_DIGITS, LW_STAGE_BYTE_LEVEL, LW_STAGE_BERT } lw_stage_kind;

typedef enum lw_split_behavior {
    LW_SPLIT_ISOLATED,
    LW_SPLIT_REMOVED,
    LW_SPLIT_CONTIGUOUS,
    LW_SPLIT_MERGED_WITH_PREVIOUS,
    LW_SPLIT_MERGED_WITH_NEXT,
} lw_split_behavior;

typedef struct lw_stage {
    lw_stage_kind kind;
    lw_split_behavior behavior;
    bool invert;           // matches and gaps are swapped
    bool add_prefix_space; // ByteLevel
    pcre2_code *code;      // NULL: Digits, and ByteLevel without its pattern
} lw_stage;

extern const char lw_gpt2_pattern[]; // what ByteLevel splits by with use_regex

// Compiles a pattern of Oniguruma's (Ruby's) syntax, or a literal string. `where` begins the messages.
lw_status lw_regex_compile(const char *where, const char *pattern, bool literal, lw_error *err, pcre2_code **out);

// --- models

struct lw_json;
struct lw_encoding;

// How a model makes ids of a word.
typedef struct lw_token_model {
    const char *type;         // model.type of tokenizer.json
    lw_stage_kind last_stage; // of its pre-tokenizer
    lw_status (*read_options)(const struct lw_json *model, lw_error *err, lw_tokenizer *tokenizer);
    // Reads everything that needs the vocabulary; the added tokens come later.
    lw_status (*read_rest)(const struct lw_json *model, lw_error *err, lw_tokenizer *tokenizer);
    // Appends the ids of word[0 .. len), len > 0.
    lw_status (*encode_word)(const struct lw_encoding *encoding, const char *word, size_t len);
} lw_token_model;

extern const lw_token_model lw_model_bpe;       // bpe.c
extern const lw_token_model lw_model_wordpiece; // wordpiece.c

typedef struct lw_wordpiece {
    lw_trie first, rest; // ids by what begins a word, and by what continues it (without the prefix)
    size_t max_chars;    // a longer word is unknown
    char *decoder_prefix;
    bool decoder_cleanup;
} lw_wordpiece;

void lw_wordpiece_free(lw_wordpiece *wordpiece);
// Appends a token as the WordPiece decoder shows it. first: no token is before it.
lw_status lw_wordpiece_decode(const lw_wordpiece *wordpiece, const lw_token *token, bool first, lw_error *err,
                              lw_text_buffer *out);

// --- the tokenizer

typedef enum lw_normalizer { LW_NORMALIZER_NONE, LW_NORMALIZER_NFC, LW_NORMALIZER_BERT } lw_normalizer;
typedef enum lw_token_decoder { LW_DECODER_OTHER, LW_DECODER_BYTE_LEVEL, LW_DECODER_WORDPIECE } lw_token_decoder;

struct lw_tokenizer {
    const lw_token_model *model;
    lw_vocab vocab;
    lw_wordpiece wordpiece;
    lw_added added;
    lw_stage stages[LW_MAX_STAGES]; // the last one is the model's last_stage
    int stage_count;
    lw_normalizer normalizer;
    lw_bert_normalizer bert;
    int decoder_steps;
    lw_token_decoder decoder; // OTHER: cannot decode
    int32_t bos_id, end_id;
    uint64_t fingerprint;
};

// *out, *out_len: `text` as the tokenizer's normalizer leaves it; memory as for lw_nfc_apply.
lw_status lw_normalise(const lw_tokenizer *tokenizer, lw_nfc *nfc, const char *text, size_t len, lw_error *err,
                       const char **out, size_t *out_len);

lw_status lw_tokenizer_read(const char *path, lw_error *err, lw_tokenizer *tokenizer);

// --- encoding

// One cache line: a word of at most 30 bytes and its ids, at most 8.
enum { LW_CACHE_KEY_BYTES = 30, LW_CACHE_IDS = 8, LW_CACHE_SLOTS = 1 << 14 };
typedef struct lw_cached_word {
    uint8_t len; // 0: empty
    uint8_t id_count;
    char key[LW_CACHE_KEY_BYTES];
    int32_t ids[LW_CACHE_IDS];
} lw_cached_word;

// A word too long for the quadratic merge: a list of symbols and a heap of candidate merges.
typedef struct lw_long_word {
    int32_t *symbol; // -1: merged into the one before
    uint32_t *prev, *next;
    uint64_t *heap; // rank << 32 | position
    size_t cap;     // symbols; the heap has room for twice as many
} lw_long_word;

struct lw_tokenizer_scratch {
    const lw_tokenizer *tokenizer;
    pcre2_match_data *match;
    pcre2_match_context *match_context;
    uint64_t matches; // matches tried since the scratch was made
    double cpu_end_s; // thread time at which the current text is given up
    lw_cached_word *cache;
    lw_long_word word;
    lw_nfc nfc;
    lw_text_buffer prefixed; // a piece after the space that ByteLevel adds
};

// What one call of encode carries through the stages.
typedef struct lw_encoding {
    const lw_tokenizer *tokenizer;
    lw_tokenizer_scratch *scratch;
    bool parse_special;
    lw_error *err;
    lw_ids *out;
} lw_encoding;

// Text -> added tokens, normalised text -> pieces -> ids.
lw_status lw_encode_text(const lw_encoding *encoding, const char *text, size_t len);
lw_status lw_encode_pieces(const lw_encoding *encoding, const char *text, size_t len);
lw_status lw_encode_word(const lw_encoding *encoding, const char *word, size_t len); // remembers short words

#endif
