// dropout: y = x * mask / (1 - p); the gradient is the same function of dy.
// Shapes: x y [n]. Saved: nothing; the mask is a function of (seed, stream, element), see common.cuh.
#include "common.cuh"

// launch: grid [n / 1024], block 256, shared 0
KERNEL_ENTRY void dropout_fwd(
    real* y, const real* x, const int* randomness, int n, int site, float p) {
    contract(blockDim.x == 256);
    const Dropout dropout = dropout_of(randomness, site, p);
    const long long e = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    if (e >= n) return;
    const bool whole = aligned4(y) && aligned4(x) && e + VECTOR <= n;
    float value[4], factor[4];
    fetch4(value, x + e, n - e, whole);
    dropout_factors(factor, dropout, e);
    for (int j = 0; j < 4; j++) value[j] *= factor[j];
    store4(y + e, value, n - e, whole);
}
