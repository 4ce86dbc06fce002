// cast: y = x, rounded to the storage type. Shapes: x [n] float, y [n].
#include "common.cuh"

// launch: grid [n / 1024], block 256, shared 0
KERNEL_ENTRY void cast(real* y, const float* x, int n) {
    contract(blockDim.x == 256);
    const bool aligned = aligned4(y) && aligned4(x);
    const long long e = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    if (e >= n) return;
    float value[4];
    load4(value, x + e, n - e, aligned);
    store4(y + e, value, n - e, aligned);
}
