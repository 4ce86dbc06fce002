// What a kernel file needs to be compiled for the simulator: CUDA's types, builtins and warp functions.
//
// All of them lie in the namespace `sim`, in which the build also includes the kernel files: what a C library declares
// under one of these names is hidden there, and does not clash.
//
// A thread of the grid is a fiber that src/device/sim resumes with `sim_self` set. Whatever needs other threads waits
// at a rendezvous: the fiber suspends, and the last to arrive does the work for all (see rendezvous.h).
#pragma once

#define WATTENTION_SIM
#include <array>
#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>

#include "async.h"
#include "rendezvous.h"

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define KERNEL_ENTRY static
#define SHARED_DYN(type, name) type* name = reinterpret_cast<type*>(sim_self->shared)

// For what twins compute with: optimised, and not watched by the sanitizers, which are here for the kernels. Watched, the
// self-test in bf16 took 120 s instead of 69.
#ifdef __clang__
#define SIM_TWIN __attribute__((no_sanitize("address", "undefined")))
#else
#define SIM_TWIN __attribute__((optimize("O2"), no_sanitize("address", "undefined")))
#endif

#define threadIdx (sim_self->thread)
#define blockIdx (sim_self->block)
#define blockDim (sim_self->threads)
#define gridDim (sim_self->blocks)

namespace sim {

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// bfloat16, rounded to nearest even as the hardware does.
struct alignas(2) __nv_bfloat16 {
    uint16_t bits;
};
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };

SIM_TWIN static inline float __bfloat162float(__nv_bfloat16 x) {
    const uint32_t wide = static_cast<uint32_t>(x.bits) << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}

static inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return {0x7fff};
    return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
    return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
static inline float2 __bfloat1622float2(__nv_bfloat162 x) { return {__bfloat162float(x.x), __bfloat162float(x.y)}; }

// The builtins that differ from <cmath>.
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>((static_cast<uint64_t>(a) * b) >> 32);
}
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline long long min(long long a, long long b) { return a < b ? a : b; }
static inline long long max(long long a, long long b) { return a > b ? a : b; }
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
static inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
static inline float __int_as_float(int x) { float y; memcpy(&y, &x, 4); return y; }
static inline int __float_as_int(float x) { int y; memcpy(&y, &x, 4); return y; }
SIM_TWIN static inline float __uint_as_float(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
SIM_TWIN static inline unsigned __float_as_uint(float x) { unsigned y; memcpy(&y, &x, 4); return y; }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
template <class T> static inline T __ldg(const T* p) { return *p; }

#include "warp.h"
#include "mma.h"
#include "hopper.h"

}  // namespace sim
