// argmax: y[i] = the index of the largest element of x[i], the first of equals; NaN is never chosen, nothing gives 0.
// Shapes: x [N, V], y [N] int.
#include "common.cuh"

constexpr int NOWHERE = 0x7fffffff;

struct Best {
    float value;
    int index;
};

DEVICE Best better(Best a, Best b) {
    return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}

struct Forward {
    int* y;
    const real* x;
    int N, V;
};

// launch: grid [N], block 32 warps, shared warps * 2 words
KERNEL_ENTRY void argmax_fwd(const Forward a) {
    contract(blockDim.x % WARP == 0 && static_cast<int>(gridDim.x) == a.N);
    SHARED_DYN(Best, scratch);
    Best best = {-INFINITY, NOWHERE};
    for_each_of_row(a.x + static_cast<long long>(blockIdx.x) * a.V, a.V, [&](int i, float value) {
        if (value > best.value) best = {value, i};
    });
    for (int lane = WARP / 2; lane > 0; lane /= 2) {
        const Best other = {__shfl_xor_sync(ALL_LANES, best.value, lane), __shfl_xor_sync(ALL_LANES, best.index, lane)};
        best = better(best, other);
    }
    if (lane_index() == 0) scratch[warp_index()] = best;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int warp = 1; warp < warps_of_block(); warp++) best = better(best, scratch[warp]);
    a.y[blockIdx.x] = best.index == NOWHERE ? 0 : best.index;
}
