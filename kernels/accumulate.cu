// accumulate: y = x, or y += x; fill: y = value. What gradient bookkeeping itself needs.
// Shapes: x y [n].
#include "common.cuh"

struct Fill {
    real* y;
    int n;
    float value;
};

// launch: grid [n / 1024], block 256, shared 0
KERNEL_ENTRY void fill(const Fill a) {
    contract(blockDim.x == 256);
    const long long e = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    const float four[4] = {a.value, a.value, a.value, a.value};
    if (e < a.n) store(a.y + e, four, a.n - e, aligned_for<VECTOR>(a.y) && e + VECTOR <= a.n);
}

struct Accumulate {
    real* y;
    const real* x;
    int n, accumulate;
};

// launch: grid [n / 1024], block 256, shared 0
KERNEL_ENTRY void accumulate(const Accumulate a) {
    contract(blockDim.x == 256);
    const long long e = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    if (e >= a.n) return;
    const bool whole = aligned_for<VECTOR>(a.y, a.x) && e + VECTOR <= a.n;
    float value[4];
    fetch(value, a.x + e, a.n - e, whole);
    put_or_add(a.y + e, value, a.n - e, whole, a.accumulate);
}
