// softgpu_api.h: words that the headers of the software GPU share.
#ifndef SOFTGPU_API_H
#define SOFTGPU_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define SOFTGPU_C_BEGIN extern "C" {
#define SOFTGPU_C_END }
#define SOFTGPU_DEFAULT(value) = value
#else
#define SOFTGPU_C_BEGIN
#define SOFTGPU_C_END
#define SOFTGPU_DEFAULT(value)
#endif

#endif
