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
    if (e < a.n) store4(a.y + e, four, a.n - e, aligned4(a.y) && e + VECTOR <= a.n);
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
    const bool whole = aligned4(a.y) && aligned4(a.x) && e + VECTOR <= a.n;
    float value[4];
    fetch4(value, a.x + e, a.n - e, whole);
    put_or_add4(a.y + e, value, a.n - e, whole, a.accumulate);
}
