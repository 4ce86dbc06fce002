// The device toolbox: storage type, loads and stores, reductions, Philox. Included first by every kernel file.
//
// A file is compiled once per storage type: `real` is float, or bfloat16 with -DWATTENTION_BF16. Arithmetic is
// in float. On a GPU nvcc compiles it; elsewhere g++ does, with kernels/sim/cuda.h in front, for the simulator.
#pragma once

#ifndef WATTENTION_SIM
#include <cuda_bf16.h>
#define KERNEL_ENTRY extern "C" __global__
// Dynamic shared memory is the only shared memory: the simulator sees and guards all of it.
#define SHARED_DYN(type, name)                                   \
    extern __shared__ __align__(16) unsigned char shared_bytes[]; \
    type* name = reinterpret_cast<type*>(shared_bytes)
#endif

#define CEIL_DIV(a, b) (((a) + (b) - 1) / (b))
#define DEVICE static __device__ __forceinline__

#ifdef WATTENTION_BF16
typedef __nv_bfloat16 real;
#else
typedef float real;
#endif

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// Stops a launch that breaks the kernel's contract; the first statement of every entry.
DEVICE void contract(bool kept) {
    if (!kept) __trap();
}

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
DEVICE void put(float* p, float x) { *p = x; }
DEVICE void put(__nv_bfloat16* p, float x) { *p = __float2bfloat16_rn(x); }

// p = x, or p += x: how every gradient is written.
template <class T>
DEVICE void put_or_add(T* p, float x, int accumulate) {
    put(p, accumulate ? to_float(*p) + x : x);
}

// Whether p may be read 16 bytes at a time.
DEVICE bool aligned16(const void* p) { return (reinterpret_cast<size_t>(p) & 15) == 0; }

// Sum and maximum over a warp, the same bits in every lane.
DEVICE float warp_sum(float x) {
    for (int lane = WARP / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(ALL_LANES, x, lane);
    return x;
}

DEVICE double warp_sum(double x) {
    for (int lane = WARP / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(ALL_LANES, x, lane);
    return x;
}

DEVICE float warp_max(float x) {
    for (int lane = WARP / 2; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, lane));
    return x;
}

// Sum over a block of whole warps, the same bits in every thread. scratch: one T per warp, free again on return.
template <class T>
DEVICE T block_sum(T x, T* scratch) {
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = x;
    __syncthreads();
    T total = 0;
    for (int warp = 0; warp < static_cast<int>(blockDim.x) / WARP; warp++) total += scratch[warp];
    __syncthreads();
    return total;
}

// Maximum over a block, as block_sum.
DEVICE float block_max(float x, float* scratch) {
    x = warp_max(x);
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = x;
    __syncthreads();
    float most = scratch[0];
    for (int warp = 1; warp < static_cast<int>(blockDim.x) / WARP; warp++) most = fmaxf(most, scratch[warp]);
    __syncthreads();
    return most;
}

// Dropout masks: Philox4x32-10 (Salmon et al. 2011), as src/device/cpu/philox.rs: element e takes word e % 4 of the
// block at counter (e / 4, stream) under the key seed, and is kept where the word is at least round(p 2^32).
struct Dropout {
    unsigned seed[2];
    unsigned stream[2];
    unsigned threshold;
    float scale;
};

DEVICE Dropout dropout_of(int seed_lo, int seed_hi, int stream_lo, int stream_hi, float p) {
    Dropout d;
    d.seed[0] = seed_lo, d.seed[1] = seed_hi;
    d.stream[0] = stream_lo, d.stream[1] = stream_hi;
    // p < 1 as a float leaves the product at most 2^32 - 256.
    d.threshold = static_cast<unsigned>(rint(static_cast<double>(p) * 4294967296.0));
    d.scale = static_cast<float>(1.0 / (1.0 - static_cast<double>(p)));
    return d;
}

DEVICE uint4 philox(const Dropout& d, unsigned long long block) {
    unsigned c0 = static_cast<unsigned>(block), c1 = static_cast<unsigned>(block >> 32);
    unsigned c2 = d.stream[0], c3 = d.stream[1], k0 = d.seed[0], k1 = d.seed[1];
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned hi0 = __umulhi(0xD2511F53u, c0), lo0 = 0xD2511F53u * c0;
        const unsigned hi1 = __umulhi(0xCD9E8D57u, c2), lo1 = 0xCD9E8D57u * c2;
        c0 = hi1 ^ c1 ^ k0, c1 = lo1, c2 = hi0 ^ c3 ^ k1, c3 = lo0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return make_uint4(c0, c1, c2, c3);
}

// The factor of one element: 0, or 1 / (1 - p). Four neighbours share a Philox block: see philox for loops over rows.
DEVICE float dropout_factor(const Dropout& d, unsigned long long element) {
    if (d.threshold == 0) return 1.0f;
    const uint4 words = philox(d, element / 4);
    const int i = static_cast<int>(element % 4);
    const unsigned word = i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
    return word >= d.threshold ? d.scale : 0.0f;
}
