// readers.c: the kinds of reader, in the order of encoder.kind.
#include "wire/reader.h"
#include "wire/reader_bert.h"
#include "wire/reader_byte.h"
#include "wire/reader_llm.h"

static const lw_reader_ops *const readers[] = {
    [LW_ENCODER_BYTE] = &lw_reader_byte,
    [LW_ENCODER_BERT] = &lw_reader_bert,
    [LW_ENCODER_LLM] = &lw_reader_llm,
};
_Static_assert(sizeof readers / sizeof readers[0] == LW_ENCODER_KIND_COUNT, "every encoder.kind has a reader");

const lw_reader_ops *lw_reader_of(lw_encoder_kind kind)
{
    return readers[kind];
}
