// cross_entropy: row_loss = (1-e) (lse - logit[label]) + e (lse - mean logit), lse = log sum exp(logits) of the row;
// loss = sum of row_loss / normaliser; dlogits = dloss / normaliser (exp(logits - lse) - e / V - (1-e) [at label]).
// Shapes: logits [M, V], labels [M], row_loss lse [M], loss dloss normaliser [1]. The backward works in place.
// A row is read once: the running maximum and the sum relative to it. Rows of the logits are `pitch` elements apart.
#include "common.cuh"

// Elements of a row that a block of the backward turns into gradients.
constexpr int SPAN = 8192;
constexpr float LOWEST = -3.402823466e38f;

struct Rows {
    float *row_loss, *lse;
    const real* logits;
    const int* labels;
    int M, V, pitch;
    float smoothing;
};

// launch: grid [M], block 32 warps, shared warps floats
KERNEL_ENTRY void cross_entropy_rows(const Rows a) {
    contract(blockDim.x % WARP == 0 && static_cast<int>(gridDim.x) == a.M);
    SHARED_DYN(float, scratch);
    const real* row = a.logits + static_cast<long long>(blockIdx.x) * a.pitch;
    // Starts at the lowest finite number, so that a logit of -inf makes no NaN.
    float most = LOWEST, powers = 0.0f, sum = 0.0f;
    for_each_of_row(row, a.V, [&](int, float logit) {
        const float above = logit - most, power = expf(-fabsf(above));
        powers = above > 0.0f ? powers * power + 1.0f : powers + power;
        most = fmaxf(most, logit);
        sum += logit;
    });
    const float row_most = block_max(most, scratch);
    powers = block_sum(powers * expf(most - row_most), scratch);
    sum = block_sum(sum, scratch);
    if (threadIdx.x != 0) return;
    const float row_lse = row_most + logf(powers);
    float loss = (1.0f - a.smoothing) * (row_lse - to_float(row[a.labels[blockIdx.x]]));
    if (a.smoothing > 0.0f) loss += a.smoothing * (row_lse - sum / a.V);
    a.lse[blockIdx.x] = row_lse;
    a.row_loss[blockIdx.x] = loss;
}

struct Sum {
    float* loss;
    const float *row_loss, *normaliser;
    int M;
};

// launch: grid [1], block 256, shared 8 doubles
KERNEL_ENTRY void cross_entropy_sum(const Sum a) {
    contract(blockDim.x == 256 && gridDim.x == 1);
    SHARED_DYN(double, scratch);
    double sum = 0.0;
    for (int row = threadIdx.x; row < a.M; row += 256) sum += a.row_loss[row];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) a.loss[0] = static_cast<float>(sum / a.normaliser[0]);
}

struct Backward {
    real* logits;
    const float *dloss, *lse;
    const int* labels;
    const float* normaliser;
    int M, V, pitch;
    float smoothing;
};

// launch: grid [M, V / 8192], block 256, shared 0
KERNEL_ENTRY void cross_entropy_bwd(const Backward a) {
    contract(blockDim.x == 256 && static_cast<int>(gridDim.x) == a.M);
    const int from = blockIdx.y * SPAN, n = min(SPAN, a.V - from), label = a.labels[blockIdx.x] - from;
    real* part = a.logits + static_cast<long long>(blockIdx.x) * a.pitch + from;
    const float scale = a.dloss[0] / a.normaliser[0], shift = -scale * a.smoothing / a.V, row_lse = a.lse[blockIdx.x];
    const auto gradient = [&](int i, float logit) {
        const float g = fmaf(scale, expf(logit - row_lse), shift);
        return i == label ? g - scale * (1.0f - a.smoothing) : g;
    };
    const int head = elements_to_alignment(part, n), vectors = (n - head) / WIDE;
    const int thread = static_cast<int>(threadIdx.x), tail = head + vectors * WIDE + thread;
    if (thread < head) put(part + thread, gradient(thread, to_float(part[thread])));
    for (int vector = thread; vector < vectors; vector += 256) {
        const int i = head + vector * WIDE;
        float value[WIDE];
        load(value, part + i);
        for (int j = 0; j < WIDE; j++) value[j] = gradient(i + j, value[j]);
        store(part + i, value);
    }
    if (tail < n) put(part + tail, gradient(tail, to_float(part[tail])));
}
