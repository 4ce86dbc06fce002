// cast: y = x, rounded to the storage type. Shapes: x [n] float, y [n].
#include "common.cuh"

// launch: grid [n / 1024], block 256, shared 0
KERNEL_ENTRY void cast(real* y, const float* x, int n) {
    contract(blockDim.x == 256);
    const long long e = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    if (e >= n) return;
    const bool whole = aligned4(y) && aligned4(x) && e + VECTOR <= n;
    float value[4];
    fetch4(value, x + e, n - e, whole);
    store4(y + e, value, n - e, whole);
}
