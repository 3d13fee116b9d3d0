// reader_byte.h: encoder kind `byte`: a learned embedding of the UTF-8 bytes and a bidirectional transformer over them.
// Trainable, f32.
#ifndef LW_READER_BYTE_H
#define LW_READER_BYTE_H

#include "wire/reader.h"

extern const lw_reader_ops lw_reader_byte;

#endif
