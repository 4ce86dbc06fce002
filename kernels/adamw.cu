// adamw: m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; p -= lr (m/c1 / (sqrt(v/c2) + eps) + wd p), all parameters
// in one launch. With hf: p -= lr sqrt(c2)/c1 m / (sqrt(v) + eps), then p -= lr wd p. g is first scaled to max_norm.
// Loshchilov and Hutter 2019.
// Shapes: p m v g [n] float slabs; segments [parts, 3] of (first, length, decays), ascending and apart; norm [1]; rates
// [3]: lr, c1, c2, what changes from step to step.
// Elements of no segment stay as they are, and everything does where the norm is not finite.
#include "common.cuh"

// Elements a block updates.
constexpr int SPAN = 4096;

struct Rule {
    float gain1, gain2, beta2, eps, keep, step_size, root_scale, gradient_scale;
    bool decays_last;
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
    float beta1, beta2, eps, weight_decay, max_norm, hf;
};

// launch: grid [n / 4096], block 256, shared 4 floats
KERNEL_ENTRY void adamw_update(const Update a) {
    contract(blockDim.x == 256);
    SHARED_DYN(float, constants);
    // NaN is not less either.
    if (!(a.norm[0] < INFINITY)) return;
    // In double, by one thread: combined and rounded once.
    if (threadIdx.x == 0) {
        const float lr = a.rates[0], correction1 = a.rates[1], correction2 = a.rates[2];
        constants[0] = static_cast<float>(1.0 - static_cast<double>(lr) * a.weight_decay);
        const double correction = sqrt(static_cast<double>(correction2));
        constants[1] = static_cast<float>(static_cast<double>(lr) / correction1 * (a.hf != 0.0f ? correction : 1.0));
        constants[2] = a.hf != 0.0f ? 1.0f : static_cast<float>(1.0 / correction);
        // torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm.
        constants[3] = a.max_norm > 0.0f ? fminf(a.max_norm / (a.norm[0] + 1e-6f), 1.0f) : 1.0f;
    }
    __syncthreads();
    const Rule rule = {1.0f - a.beta1, 1.0f - a.beta2, a.beta2,      a.eps,       constants[0],
                       constants[1],   constants[2],   constants[3], a.hf != 0.0f};
    const bool aligned = aligned4(a.p) && aligned4(a.m) && aligned4(a.v) && aligned4(a.g) && aligned4(a.copy);
    const long long from = static_cast<long long>(blockIdx.x) * SPAN, to = min(from + SPAN, 0ll + a.n);
    // The first segment that ends beyond `from`.
    int low = 0, high = a.parts;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (static_cast<long long>(a.segments[3 * middle]) + a.segments[3 * middle + 1] > from) high = middle;
        else low = middle + 1;
    }
    for (int i = low; i < a.parts && a.segments[3 * i] < to; i++) {
        const long long first = max(from, static_cast<long long>(a.segments[3 * i]));
        const long long end = min(to, static_cast<long long>(a.segments[3 * i]) + a.segments[3 * i + 1]);
        const float keep = a.segments[3 * i + 2] == 1 ? rule.keep : 1.0f;
        // (p - s d) keep = p keep - (s keep) d: decaying last is a smaller step of the same form.
        const float step_size = rule.decays_last ? rule.step_size * keep : rule.step_size;
        for (long long e = first / VECTOR * VECTOR + threadIdx.x * VECTOR; e < end; e += 256 * VECTOR) {
            if (aligned && e >= first && e + VECTOR <= end) {
                float p4[4], m4[4], v4[4], g4[4];
                load4(p4, a.p + e), load4(m4, a.m + e), load4(v4, a.v + e), load4(g4, a.g + e);
                for (int j = 0; j < 4; j++) update(p4[j], m4[j], v4[j], g4[j], rule, keep, step_size);
                store4(a.p + e, p4), store4(a.m + e, m4), store4(a.v + e, v4);
                if (a.copy) store4(a.copy + e, p4);
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
