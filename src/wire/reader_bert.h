// reader_bert.h: encoder kind `bert`: a frozen BERT, then a trained linear layer from its width to d_z.
//
// Texts are read in windows (windows.h), each as [CLS] ... [SEP]. Nothing goes back into the BERT.
#ifndef LW_READER_BERT_H
#define LW_READER_BERT_H

#include "wire/reader.h"

extern const lw_reader_ops lw_reader_bert;

#endif
