// A data file in the format "hotpot".
#include "fuzz.h"
#include "rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_rows(data, size, LW_DATA_HOTPOT, "rows");
    return 0;
}
