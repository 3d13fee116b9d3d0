// Messages, settings, order and injected faults.
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "softgpu.h"

namespace softgpu
{

void die(const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    std::string place = running_place();
    char line[4096];
    int n = snprintf(line, sizeof line, "softgpu: %s%s%s\n", place.c_str(), place.empty() ? "" : ": ", text);
    (void)!write(STDERR_FILENO, line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
    abort();
}

long setting(const char *name, long fallback)
{
    const char *text = getenv(name);
    if (text == nullptr || *text == '\0') {
        return fallback;
    }
    char *end = nullptr;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < 0) {
        die("%s=%s is not a number", name, text);
    }
    return value;
}

double now_s()
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

uint32_t disorder()
{
    static uint64_t state = (uint64_t)setting("SOFTGPU_ORDER", 1);
    if (state == 0) {
        return 0;
    }
    state = state * 6364136223846793005U + 1442695040888963407U; // Knuth's MMIX
    return (uint32_t)(state >> 32);
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

Order::Order(uint64_t count) : count_(count)
{
    uint32_t random = disorder();
    if (random == 0 || count < 2) {
        return;
    }
    first_ = random % count;
    factor_ = random / 7 % count;
    while (factor_ == 0 || common_divisor(factor_, count) != 1) {
        factor_ = (factor_ + 1) % count;
    }
}

// "cudaMalloc:3", "cudaMalloc:3:cudaErrorUnknown", "kernel@1:5:hang" (only rank 1), separated by commas.
namespace
{
struct Fault {
    std::string function, kind;
    long call = 0, seen = 0;
};
} // namespace

static std::vector<Fault> read_faults()
{
    std::vector<Fault> faults;
    const char *text = getenv("SOFTGPU_FAIL");
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    std::string rest = text != nullptr ? text : "";
    while (!rest.empty()) {
        std::string one = rest.substr(0, rest.find(','));
        rest.erase(0, one.size() + 1);
        size_t colon = one.find(':');
        size_t second = colon == std::string::npos ? colon : one.find(':', colon + 1);
        Fault fault;
        fault.function = one.substr(0, colon);
        fault.call = colon == std::string::npos ? 1 : atol(one.c_str() + colon + 1);
        fault.kind = second == std::string::npos ? "default" : one.substr(second + 1);
        if (fault.function.empty() || fault.call < 1) {
            die("SOFTGPU_FAIL=%s: must be FUNCTION[@RANK]:CALL[:ERROR],...", text);
        }
        size_t at = fault.function.find('@');
        bool here = at == std::string::npos || fault.function.substr(at + 1) == (rank != nullptr ? rank : "0");
        fault.function = fault.function.substr(0, at);
        if (here) {
            faults.push_back(fault);
        }
    }
    return faults;
}

std::string injected_fault(const char *function)
{
    static std::vector<Fault> faults = read_faults();
    for (Fault &fault : faults) {
        if (fault.function == function && ++fault.seen == fault.call) {
            return fault.kind;
        }
    }
    return "";
}

} // namespace softgpu
