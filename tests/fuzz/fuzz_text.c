// A data file in the format "text", as each of the files that this format reads.
#include "fuzz.h"
#include "rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_rows(data, size, LW_DATA_TEXT, "rows.txt");
    fuzz_rows(data, size, LW_DATA_TEXT, "rows.jsonl");
    fuzz_rows(data, size, LW_DATA_TEXT, "rows.json");
    return 0;
}
