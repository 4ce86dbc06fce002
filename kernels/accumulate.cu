// accumulate: y = x, or y += x; fill: y = value. What gradient bookkeeping itself needs.
// Shapes: x y [n].
#include "common.cuh"

// launch: grid [n / 1024], block 256, shared 0
KERNEL_ENTRY void fill(real* y, int n, float value) {
    contract(blockDim.x == 256);
    const long long e = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    const float four[4] = {value, value, value, value};
    if (e < n) store4(y + e, four, n - e, aligned4(y) && e + VECTOR <= n);
}

// launch: grid [n / 1024], block 256, shared 0
KERNEL_ENTRY void accumulate(real* y, const real* x, int n, int accumulate) {
    contract(blockDim.x == 256);
    const long long e = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    if (e >= n) return;
    const bool whole = aligned4(y) && aligned4(x) && e + VECTOR <= n;
    float value[4];
    fetch4(value, x + e, n - e, whole);
    put_or_add4(y + e, value, n - e, whole, accumulate);
}
