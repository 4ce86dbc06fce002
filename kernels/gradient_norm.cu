// gradient_norm: norm = sqrt(sum of g^2), in double: the squares of floats leave their range.
// Shapes: g [n], norm [1], partial [2 parts] floats that hold `parts` doubles, summed in order.
#include "common.cuh"

struct Forward {
    float *norm, *partial;
    const float* g;
    int n, parts;
};

// launch: grid [parts], block 256, shared 8 doubles
KERNEL_ENTRY void gradient_norm_fwd(const Forward a) {
    contract(blockDim.x == 256 && static_cast<int>(gridDim.x) == a.parts &&
             reinterpret_cast<size_t>(a.partial) % sizeof(double) == 0);
    SHARED_DYN(double, scratch);
    const long long step = a.parts * 256ll * VECTOR, first = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    double sum = 0.0;
    const auto add = [&](const float (&value)[4]) {
        for (int j = 0; j < 4; j++) sum += static_cast<double>(value[j]) * static_cast<double>(value[j]);
    };
    long long e = first;
    if (aligned_for<VECTOR>(a.g)) {
#pragma unroll 4
        for (; e + VECTOR <= a.n; e += step) {
            float value[4];
            fetch(value, a.g + e);
            add(value);
        }
    }
    for (; e < a.n; e += step) {
        float value[4];
        fetch(value, a.g + e, a.n - e, false);
        add(value);
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) reinterpret_cast<double*>(a.partial)[blockIdx.x] = sum;
}

// launch: grid [1], block 256, shared 8 doubles
KERNEL_ENTRY void gradient_norm_fwd_sum(const Forward a) {
    contract(blockDim.x == 256 && gridDim.x == 1);
    SHARED_DYN(double, scratch);
    double sum = 0.0;
    for (int part = threadIdx.x; part < a.parts; part += 256) sum += reinterpret_cast<const double*>(a.partial)[part];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) a.norm[0] = static_cast<float>(sqrt(sum));
}
