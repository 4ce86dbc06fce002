// dropout: y = x * mask / (1 - p); the gradient is the same function of dy.
// Shapes: x y [n]. Saved: nothing; the mask is a function of (seed, stream, element), see common.cuh.
#include "common.cuh"

struct Forward {
    real* y;
    const real* x;
    const int* randomness;
    int n, site;
    float p;
};

// launch: grid [n / 1024], block 256, shared 0
KERNEL_ENTRY void dropout_fwd(const Forward a) {
    contract(blockDim.x == 256);
    const Dropout dropout = dropout_of(a.randomness, a.site, a.p);
    const long long e = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    if (e >= a.n) return;
    const bool whole = aligned_for<VECTOR>(a.y, a.x) && e + VECTOR <= a.n;
    float value[4], factor[4];
    fetch(value, a.x + e, a.n - e, whole);
    dropout_factors(factor, dropout, e);
    for (int j = 0; j < 4; j++) value[j] *= factor[j];
    store(a.y + e, value, a.n - e, whole);
}
