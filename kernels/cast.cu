// cast: y = x, rounded to the storage type; cast_to_f32: the way back. Shapes: x y [n].
#include "common.cuh"

struct Cast {
    real* y;
    const float* x;
    int n;
};

template <class Args>
DEVICE void copy(const Args& a) {
    contract(blockDim.x == 256);
    const long long e = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    if (e >= a.n) return;
    const bool whole = aligned_for<VECTOR>(a.y, a.x) && e + VECTOR <= a.n;
    float value[4];
    fetch(value, a.x + e, a.n - e, whole);
    store(a.y + e, value, a.n - e, whole);
}

// launch: grid [n / 1024], block 256, shared 0
KERNEL_ENTRY void cast(const Cast a) { copy(a); }

struct CastToF32 {
    float* y;
    const real* x;
    int n;
};

// launch: grid [n / 1024], block 256, shared 0
KERNEL_ENTRY void cast_to_f32(const CastToF32 a) { copy(a); }
