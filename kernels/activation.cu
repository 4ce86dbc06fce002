// activation: y = f(x), elementwise: 0 gelu (exact erf), 1 gelu (tanh form), 2 relu.
// Shapes: x y dx dy [n]. Saved for backward: x. Hendrycks and Gimpel 2016, arXiv 1606.08415.
#include "common.cuh"

constexpr float INV_SQRT_2 = 0.70710678118654752f;
constexpr float INV_SQRT_2PI = 0.39894228040143268f;
constexpr float SQRT_2_OVER_PI = 0.79788456080286536f;
constexpr float CUBIC = 0.044715f;

DEVICE float activated(float x, int kind) {
    if (kind == 0) return 0.5f * x * (1.0f + erff(x * INV_SQRT_2));
    if (kind == 1) return 0.5f * x * (1.0f + tanhf(SQRT_2_OVER_PI * (x + CUBIC * x * x * x)));
    return fmaxf(x, 0.0f);
}

DEVICE float slope(float x, int kind) {
    if (kind == 0) return 0.5f * (1.0f + erff(x * INV_SQRT_2)) + x * INV_SQRT_2PI * expf(-0.5f * x * x);
    if (kind == 1) {
        const float t = tanhf(SQRT_2_OVER_PI * (x + CUBIC * x * x * x));
        const float inner = SQRT_2_OVER_PI * (1.0f + 3.0f * CUBIC * x * x);
        return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * inner;
    }
    return x > 0.0f ? 1.0f : 0.0f;
}

struct Forward {
    real* y;
    const real* x;
    int n, kind;
};

// launch: grid [n / (256 * 16 bytes)], block 256, shared 0
KERNEL_ENTRY void activation_fwd(const Forward a) {
    contract(blockDim.x == 256);
    const long long e = (blockIdx.x * 256ll + threadIdx.x) * WIDE;
    if (e >= a.n) return;
    const bool whole = aligned_for<WIDE>(a.y, a.x) && e + WIDE <= a.n;
    float value[WIDE];
    fetch(value, a.x + e, a.n - e, whole);
    for (int j = 0; j < WIDE; j++) value[j] = activated(value[j], a.kind);
    store(a.y + e, value, a.n - e, whole);
}

struct Backward {
    real* dx;
    const real *dy, *x;
    int n, kind, accumulate;
};

// launch: grid [n / (256 * 16 bytes)], block 256, shared 0
KERNEL_ENTRY void activation_bwd(const Backward a) {
    contract(blockDim.x == 256);
    const long long e = (blockIdx.x * 256ll + threadIdx.x) * WIDE;
    if (e >= a.n) return;
    const bool whole = aligned_for<WIDE>(a.dx, a.dy, a.x) && e + WIDE <= a.n;
    float value[WIDE], gradient[WIDE];
    fetch(value, a.x + e, a.n - e, whole);
    fetch(gradient, a.dy + e, a.n - e, whole);
    for (int j = 0; j < WIDE; j++) gradient[j] *= slope(value[j], a.kind);
    put_or_add(a.dx + e, gradient, a.n - e, whole, a.accumulate);
}
