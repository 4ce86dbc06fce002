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

// Set where there are the instructions of hopper.cuh, and files in bf16 use them.
#if defined(WATTENTION_BF16) && (defined(WATTENTION_SIM) || defined(__CUDA_ARCH_FEAT_SM90_ALL))
#define WATTENTION_HOPPER
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

// x as storage holds it.
DEVICE float stored(float x) {
    real y;
    put(&y, x);
    return to_float(y);
}

// Whether p may be read 16 bytes at a time.
DEVICE bool aligned16(const void* p) { return (reinterpret_cast<size_t>(p) & 15) == 0; }

// Neighbours at a time: how kernels whose time is memory traffic read and write. Four of any type, or 16 bytes of
// `real`, the most that a thread moves at once: half the requests for as many bytes in bf16.
constexpr int VECTOR = 4;
constexpr int WIDE = 16 / sizeof(real);

template <int BYTES>
struct NumberOf;
template <>
struct NumberOf<8> {
    typedef unsigned long long type;
};
template <>
struct NumberOf<16> {
    typedef unsigned __int128 type;
};

template <int N>
struct alignas(4 * N) Pairs {
    __nv_bfloat162 pair[N];
};

// Moves a value of 8 or 16 bytes at once. As a number on a GPU: nvcc takes structures apart, and does not always find
// that their parts are neighbours.
template <class V>
DEVICE V load_at_once(const void* p) {
#ifdef WATTENTION_SIM
    return *static_cast<const V*>(p);
#else
    typedef typename NumberOf<sizeof(V)>::type Number;
    const Number bits = *static_cast<const Number*>(p);
    V value;
    memcpy(&value, &bits, sizeof(V));
    return value;
#endif
}

template <class V>
DEVICE void store_at_once(void* p, V value) {
#ifdef WATTENTION_SIM
    *static_cast<V*>(p) = value;
#else
    typedef typename NumberOf<sizeof(V)>::type Number;
    Number bits;
    memcpy(&bits, &value, sizeof(V));
    *static_cast<Number*>(p) = bits;
#endif
}

// Whether N neighbours may be read at once at each of these places, 16 bytes at a time.
template <int N, class... T>
DEVICE bool aligned_for(const T*... p) {
    return ((reinterpret_cast<size_t>(p) % (N * sizeof(T) < 16 ? N * sizeof(T) : 16) == 0) && ...);
}

// Reads N neighbours: 4, or as many as fill 16 bytes.
template <int N>
DEVICE void load(float (&x)[N], const float* p) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        const float4 v = load_at_once<float4>(p + i);
        x[i] = v.x, x[i + 1] = v.y, x[i + 2] = v.z, x[i + 3] = v.w;
    }
}

template <int N>
DEVICE void load(float (&x)[N], const __nv_bfloat16* p) {
    const Pairs<N / 2> v = load_at_once<Pairs<N / 2>>(p);
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
        const float2 pair = __bfloat1622float2(v.pair[i]);
        x[2 * i] = pair.x, x[2 * i + 1] = pair.y;
    }
}

// As load, from memory that nobody writes while the kernel runs: it need not wait for stores before it.
template <int N>
DEVICE void fetch(float (&x)[N], const float* p) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        const float4 v = __ldg(reinterpret_cast<const float4*>(p + i));
        x[i] = v.x, x[i + 1] = v.y, x[i + 2] = v.z, x[i + 3] = v.w;
    }
}

DEVICE void fetch(float (&x)[2], const float* p) {
    const float2 v = __ldg(reinterpret_cast<const float2*>(p));
    x[0] = v.x, x[1] = v.y;
}

// A bf16 is the upper half of a float.
DEVICE void widen(float* x, unsigned pair) {
    x[0] = __uint_as_float(pair << 16), x[1] = __uint_as_float(pair & 0xffff0000u);
}

DEVICE void fetch(float (&x)[2], const __nv_bfloat16* p) { widen(x, __ldg(reinterpret_cast<const unsigned*>(p))); }

DEVICE void fetch(float (&x)[4], const __nv_bfloat16* p) {
    const uint2 v = __ldg(reinterpret_cast<const uint2*>(p));
    widen(x, v.x), widen(x + 2, v.y);
}

DEVICE void fetch(float (&x)[8], const __nv_bfloat16* p) {
    const uint4 v = __ldg(reinterpret_cast<const uint4*>(p));
    widen(x, v.x), widen(x + 2, v.y), widen(x + 4, v.z), widen(x + 6, v.w);
}

template <int N>
DEVICE void store(float* p, const float (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; i += 4) store_at_once(p + i, make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]));
}

template <int N>
DEVICE void store(__nv_bfloat16* p, const float (&x)[N]) {
    Pairs<N / 2> v;
#pragma unroll
    for (int i = 0; i < N / 2; i++) v.pair[i] = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
    store_at_once(p, v);
}

// The same where the neighbours may not be aligned or not all be there: `whole` says that they are, n how many there
// are. Beyond them are zeros.
template <int N, class T>
DEVICE void load(float (&x)[N], const T* p, long long n, bool whole) {
    if (whole) {
        load(x, p);
        return;
    }
    for (int j = 0; j < N; j++) x[j] = j < n ? to_float(p[j]) : 0.0f;
}

template <int N, class T>
DEVICE void fetch(float (&x)[N], const T* p, long long n, bool whole) {
    if (whole) {
        fetch(x, p);
        return;
    }
    for (int j = 0; j < N; j++) x[j] = j < n ? to_float(p[j]) : 0.0f;
}

template <int N, class T>
DEVICE void store(T* p, const float (&x)[N], long long n, bool whole) {
    if (whole) {
        store(p, x);
        return;
    }
    for (int j = 0; j < N; j++)
        if (j < n) put(p + j, x[j]);
}

// p = x, or p += x.
template <int N, class T>
DEVICE void put_or_add(T* p, const float (&x)[N], long long n, bool whole, int accumulate) {
    float y[N];
    if (accumulate) load(y, p, n, whole);
    for (int j = 0; j < N; j++) y[j] = accumulate ? y[j] + x[j] : x[j];
    store(p, y, n, whole);
}

// f(Constant<flag>()): what f does is compiled for both, without a branch inside its loops.
template <bool FLAG>
struct Constant {
    static constexpr bool value = FLAG;
};

template <class F>
DEVICE void with_constant(bool flag, F f) {
    if (flag) f(Constant<true>());
    else f(Constant<false>());
}

DEVICE int lane_index() { return static_cast<int>(threadIdx.x) % WARP; }
DEVICE int warp_index() { return static_cast<int>(threadIdx.x) / WARP; }
DEVICE int warps_of_block() { return static_cast<int>(blockDim.x) / WARP; }

// Sum and maximum over a warp, the same bits in every lane.
DEVICE float warp_sum(float x) {
    for (int lane = WARP / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(ALL_LANES, x, lane);
    return x;
}

DEVICE double warp_sum(double x) {
    for (int lane = WARP / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(ALL_LANES, x, lane);
    return x;
}

DEVICE int warp_sum(int x) {
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

// Sum of one column of partials [parts, columns], the last step of a sum over blocks. A lane has a column, and the
// warps of the block share the parts; the same bits in all warps. scratch: one float per thread.
DEVICE float column_sum(const float* partials, int parts, long long columns, long long column, float* scratch) {
    float sum = 0.0f;
    if (column < columns) {
#pragma unroll 8
        for (int part = warp_index(); part < parts; part += warps_of_block()) sum += partials[part * columns + column];
    }
    scratch[threadIdx.x] = sum;
    __syncthreads();
    float total = 0.0f;
    for (int warp = 0; warp < warps_of_block(); warp++) total += scratch[warp * WARP + lane_index()];
    __syncthreads();
    return total;
}

// Dropout masks: Philox4x32-10 (Salmon et al. 2011), as src/device/cpu/philox.rs: element e takes word e % 4 of the
// block at counter (e / 4, stream) under the key seed, and is kept where the word is at least round(p 2^32).
struct Dropout {
    unsigned seed[2];
    unsigned stream[2];
    unsigned threshold;
    float scale;
};

// A dropout site of any step. randomness is that of the step: seed and step, low words first, null where nothing is
// dropped. In memory, so that a recorded step drops something else each time.
struct DropoutSite {
    const int* randomness;
    int site;
    unsigned threshold;
    float scale;
};

DEVICE DropoutSite site_of(const int* randomness, int site, float p) {
    // Exact: a float times a power of two. Without doubles, which some GPUs are slow at.
    const unsigned threshold = static_cast<unsigned>(roundf(p * 4294967296.0f));
    // 1 / (1 - p) with what 1 - p and the quotient lost put back.
    const float kept = 1.0f - p, lost = (1.0f - kept) - p, quotient = 1.0f / kept;
    return {randomness, site, threshold, fmaf(quotient, fmaf(-kept, quotient, 1.0f) - lost * quotient, quotient)};
}

// At the step at hand: the stream is step 2^16 + site.
DEVICE Dropout at_step(const DropoutSite& at) {
    Dropout d = {{0, 0}, {0, 0}, at.threshold, at.scale};
    if (at.randomness != nullptr) {
        const unsigned low = at.randomness[2], high = at.randomness[3];
        d.seed[0] = at.randomness[0], d.seed[1] = at.randomness[1];
        d.stream[0] = low << 16 | at.site, d.stream[1] = high << 16 | low >> 16;
    }
    return d;
}

DEVICE Dropout dropout_of(const int* randomness, int site, float p) { return at_step(site_of(randomness, site, p)); }

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

// The factors of four neighbours, the first of them anywhere.
DEVICE void dropout_factors(float (&factor)[4], const Dropout& d, unsigned long long first) {
    if (d.threshold == 0) {
        for (int j = 0; j < 4; j++) factor[j] = 1.0f;
        return;
    }
    const uint4 words = philox(d, first / 4);
    unsigned word[7] = {words.x, words.y, words.z, words.w, 0, 0, 0};
    const int skip = static_cast<int>(first % 4);
    if (skip != 0) {
        const uint4 next = philox(d, first / 4 + 1);
        word[4] = next.x, word[5] = next.y, word[6] = next.z;
        // Indices that are known when compiling keep the words in registers.
        if (skip & 1)
            for (int i = 0; i < 6; i++) word[i] = word[i + 1];
        if (skip & 2)
            for (int i = 0; i < 4; i++) word[i] = word[i + 2];
    }
    for (int j = 0; j < 4; j++) factor[j] = word[j] >= d.threshold ? d.scale : 0.0f;
}

// The factors of neighbours in fours.
template <int N>
DEVICE void dropout_factors(float (&factor)[N], const Dropout& d, unsigned long long first) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        float four[4];
        dropout_factors(four, d, first + i);
        for (int j = 0; j < 4; j++) factor[i + j] = four[j];
    }
}

// Elements before the first one from which WIDE may be read at once.
DEVICE int elements_to_alignment(const real* p, int n) {
    return min(n, static_cast<int>((16 - reinterpret_cast<size_t>(p) % 16) % 16 / sizeof(real)));
}

// f(i, x[i]) for every element of a row that starts anywhere, spread over the block; a thread's indices ascend.
template <class F>
DEVICE void for_each_of_row(const real* x, int n, F f) {
    const int head = elements_to_alignment(x, n), vectors = (n - head) / WIDE;
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    if (thread < head) f(thread, to_float(x[thread]));
#pragma unroll 2
    for (int vector = thread; vector < vectors; vector += threads) {
        const int i = head + vector * WIDE;
        float value[WIDE];
        load(value, x + i);
        for (int j = 0; j < WIDE; j++) f(i + j, value[j]);
    }
    const int tail = head + vectors * WIDE + thread;
    if (tail < n) f(tail, to_float(x[tail]));
}
