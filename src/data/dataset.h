// dataset.h: question-answering samples and windows of text, as a data file holds them. Implemented by dataset.c,
// builder.c (samples are added), read.c and read_*.c (one for each format), text_windows.c. See corpus.h for what
// becomes of a data set.
#ifndef LW_DATASET_H
#define LW_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "core/heartbeat.h"
#include "core/status.h"

typedef enum lw_sample_kind {
    LW_SAMPLE_QUESTION, // a question with answers, perhaps about a context
    LW_SAMPLE_TEXT      // a window of text, to be continued or repeated
} lw_sample_kind;

typedef struct lw_sample {
    lw_sample_kind kind;
    char *id;       // from the file, or else where it stands there: "FILE:LINE" or the like
    char *context;  // "" where a row has only a prompt; the samples of a paragraph are consecutive and share one text
    char *question; // "" for a window of text
    char **answers; // all gold answers, the first is the training target; for a window: the text that follows it
    int64_t answer_count; // >= 1
} lw_sample;

typedef struct lw_dataset {
    lw_sample *samples;
    int64_t count;
    int64_t bad_rows;      // malformed rows that were skipped (at most data.max_bad_rows)
    char *first_bad_row;   // "FILE:LINE: reason" of the first of them, for the log; NULL where there is none
    int64_t blank_rows;    // format `text`: rows whose document is blank; they are skipped
    uint64_t fingerprint;  // hash of the samples' content, in order
    int64_t target_tokens; // the source's for windows of text, else 0
    double repeated;
    lw_heartbeat heartbeat; // the source's; it also gets a heartbeat for every sample that is tokenised
} lw_dataset;

// What to read: at most `limit` samples (0: all; reading ends there), skipping at most max_bad_rows malformed rows.
typedef struct lw_data_source {
    const char *path; // borrowed
    lw_data_format format;
    int64_t limit, max_bad_rows;
    bool needs_context;     // the encoder reads the context alone: a sample without one is a malformed row
    int64_t window_bytes;   // format `text`: longest window; at least 8
    int64_t target_tokens;  // format `text`: longest continuation or repetition that is trained
    double repeated;        // format `text`: share of the windows that are repeated, the others are continued; 0 .. 1
    lw_heartbeat heartbeat; // gets a heartbeat for every sample that is read
} lw_data_source;

// `path`, with the format and the limits that the configuration's `data` sets. Local.
lw_data_source lw_data_source_of(const lw_config *config, const char *path, int64_t limit);

// Reads a data file. Local.
//
// jsonl: one object per line, {"context", "question"} or {"prompt"} (a question without context), with "answers": [...]
// or "answer": "..."; other keys are ignored. The file is read as a stream, with lines of at most 64 MiB; CRLF, a BOM,
// blank lines and a missing last newline are accepted. Pipes and devices are refused, as every rank reads the file.
//
// squad: the v1.1 layout; a question without answers (v2) is a malformed row, "no answer".
//
// hotpot: HotpotQA, an array of items, or items one after another (one per line): {"_id" or "id", "question", "answer",
// "context": [[title, [sentence, ...]], ...] or {"title": [...], "sentences": [[...], ...]}}; other keys, among them
// the supporting facts, are ignored. The context has one line per paragraph, "Title: sentences"; sentences that have no
// space between them get one.
//
// text: documents, cut into windows. A file *.jsonl holds one document per line, {"text": ...}; a file *.json is in
// SQuAD's layout and each of its contexts is a document; any other file is plain text: one document, or several that
// are separated by form feeds. Blank documents are skipped. While a document has more than one and a half times
// window_bytes left, a window is cut from it; the rest is then halved, and its first half is the last window. A cut is
// made before white space where there is some in the second half of a window, else between any two characters. A window
// neither begins nor ends with white space; its answer is the text that follows it in the document, 8 bytes for each of
// target_tokens.
//
// Malformed in every format: bad JSON, a missing key or wrong type, an empty question or answer or a text of one
// character, NUL or bad UTF-8, and a blank context where the source needs one. More than max_bad_rows malformed rows:
// LW_ERR_FORMAT, which names file, line and reason of the first. No sample at all, or path "": LW_ERR_CONFIG. Also
// LW_ERR_IO, LW_ERR_MEMORY. The caller owns *out: lw_dataset_free.
lw_status lw_dataset_read(const lw_data_source *source, lw_error *err, lw_dataset *out);
void lw_dataset_free(lw_dataset *dataset);

// Frees everything of a sample but its context, which consecutive samples share.
void lw_sample_free(lw_sample *sample);

#endif
