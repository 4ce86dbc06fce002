// cast: y = x, rounded to the storage type. Shapes: x [n] float, y [n].
#include "common.cuh"

// launch: grid [n / 1024], block 256, shared 0
KERNEL_ENTRY void cast(real* y, const float* x, int n) {
    contract(blockDim.x == 256);
    for (int i = 0; i < 4; i++) {
        const long long e = blockIdx.x * 1024ll + i * 256 + threadIdx.x;
        if (e < n) put(y + e, x[e]);
    }
}
