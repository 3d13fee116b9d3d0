// A data file in the format "squad".
#include "fuzz.h"
#include "rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_rows(data, size, LW_DATA_SQUAD, "rows");
    return 0;
}
