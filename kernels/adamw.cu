// adamw: m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; p -= lr (m/c1 / (sqrt(v/c2) + eps) + wd p), all parameters
// in one launch. With hf: p -= lr sqrt(c2)/c1 m / (sqrt(v) + eps), then p -= lr wd p. g is first scaled to max_norm.
// Loshchilov and Hutter 2019.
// Shapes: p m v g [n] float slabs; segments [parts, 3] of (first, length, decays), ascending and apart, and after them
// [n / 4096] numbers of the segment with which each block begins; norm [1]; rates [4], what changes from step to step,
// combined in double on the host: 1 - lr wd, lr / c1 (with hf times sqrt(c2)), the same for what decays (with hf times
// 1 - lr wd), 1 / sqrt(c2) (with hf 1).
// Elements of no segment stay as they are, and everything does where the norm is not finite.
#include "common.cuh"

// Elements a block updates.
constexpr int SPAN = 4096;

struct Rule {
    float gain1, gain2, beta2, eps, root_scale, gradient_scale;
};

DEVICE void update(float& p, float& m, float& v, float g, const Rule& rule, float keep, float step_size) {
    g *= rule.gradient_scale;
    m = fmaf(rule.gain1, g - m, m);
    v = fmaf(rule.gain2, g * g, v * rule.beta2);
    p = fmaf(-step_size, m / fmaf(sqrtf(v), rule.root_scale, rule.eps), p * keep);
}

struct Update {
    float *p, *m, *v;
    real* copy;
    const float* g;
    const int* segments;
    const float *norm, *rates;
    int n, parts;
    float beta1, beta2, eps, max_norm;
};

// launch: grid [n / 4096], block 256, shared 0
KERNEL_ENTRY void adamw_update(const Update a) {
    contract(blockDim.x == 256);
    // NaN is not less either.
    if (!(a.norm[0] < INFINITY)) return;
    // torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm.
    const float clip = a.max_norm > 0.0f ? fminf(a.max_norm / (a.norm[0] + 1e-6f), 1.0f) : 1.0f;
    const Rule rule = {1.0f - a.beta1, 1.0f - a.beta2, a.beta2, a.eps, a.rates[3], clip};
    const bool aligned = aligned_for<VECTOR>(a.p, a.m, a.v, a.g, a.copy);
    const long long from = static_cast<long long>(blockIdx.x) * SPAN, to = min(from + SPAN, 0ll + a.n);
    for (int i = a.segments[3 * a.parts + blockIdx.x]; i < a.parts && a.segments[3 * i] < to; i++) {
        const long long first = max(from, static_cast<long long>(a.segments[3 * i]));
        const long long end = min(to, static_cast<long long>(a.segments[3 * i]) + a.segments[3 * i + 1]);
        const bool decays = a.segments[3 * i + 2] == 1;
        const float keep = decays ? a.rates[0] : 1.0f, step_size = decays ? a.rates[2] : a.rates[1];
        for (long long e = first / VECTOR * VECTOR + threadIdx.x * VECTOR; e < end; e += 256 * VECTOR) {
            if (aligned && e >= first && e + VECTOR <= end) {
                float p4[4], m4[4], v4[4], g4[4];
                load(p4, a.p + e), load(m4, a.m + e), load(v4, a.v + e), load(g4, a.g + e);
                for (int j = 0; j < 4; j++) update(p4[j], m4[j], v4[j], g4[j], rule, keep, step_size);
                store(a.p + e, p4), store(a.m + e, m4), store(a.v + e, v4);
                if (a.copy) store(a.copy + e, p4);
                continue;
            }
            // Segments may begin and end anywhere.
            for (int j = 0; j < VECTOR; j++) {
                if (e + j < first || e + j >= end) continue;
                update(a.p[e + j], a.m[e + j], a.v[e + j], a.g[e + j], rule, keep, step_size);
                if (a.copy) put(a.copy + e + j, a.p[e + j]);
            }
        }
    }
}
