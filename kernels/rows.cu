// rows: gather y[i] = x[index[i]], zeros where the index is -1; scatter x[index[i]] += y[i]; store x[index[i]] = y[i].
// Shapes: x [N, C], index [M], y [M, C]. A warp has a row of y.
// Equal indices: the warp of the first of them adds all their rows, in order, and rounds once; the last one is what
// is stored.
#include "common.cuh"

constexpr int WARPS = 4;
constexpr int STEP = WARP * VECTOR;

DEVICE int row_of_warp() { return blockIdx.x * WARPS + warp_index(); }

// Whether index[from..to] holds `row`; the same in all lanes.
DEVICE bool holds(const int* index, int from, int to, int row) {
    bool found = false;
#pragma unroll 4
    for (int i = from + lane_index(); i < to; i += WARP) found = found || index[i] == row;
    return __any_sync(ALL_LANES, found);
}

struct Gather {
    real* y;
    const real* x;
    const int* index;
    int M, N, C;
};

// launch: grid [M / 4], block 128, shared 0
KERNEL_ENTRY void rows_gather(const Gather a) {
    contract(blockDim.x == WARPS * WARP);
    const int i = row_of_warp();
    if (i >= a.M) return;
    const bool whole = a.C % VECTOR == 0 && aligned4(a.y) && aligned4(a.x);
    const long long to = static_cast<long long>(i) * a.C, from = static_cast<long long>(a.index[i]) * a.C;
    for (int c = lane_index() * VECTOR; c < a.C; c += STEP) {
        float value[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (from >= 0) fetch4(value, a.x + from + c, a.C - c, whole);
        store4(a.y + to + c, value, a.C - c, whole);
    }
}

struct Scatter {
    real* x;
    const real* y;
    const int* index;
    int M, N, C, accumulate;
};

// launch: grid [N C / 1024], block 256, shared 0
KERNEL_ENTRY void rows_scatter_zero(const Scatter a) {
    contract(blockDim.x == 256);
    const long long n = static_cast<long long>(a.N) * a.C, e = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    const float nothing[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (e < n) store4(a.x + e, nothing, n - e, aligned4(a.x) && e + VECTOR <= n);
}

// x holds zeros where it does not accumulate.
// launch: grid [M / 4], block 128, shared 0
KERNEL_ENTRY void rows_scatter(const Scatter a) {
    contract(blockDim.x == WARPS * WARP);
    const int first = row_of_warp();
    if (first >= a.M) return;
    const int row = a.index[first];
    if (row < 0 || holds(a.index, 0, first, row)) return;
    const bool whole = a.C % VECTOR == 0 && aligned4(a.x) && aligned4(a.y);
    const int end = holds(a.index, first + 1, a.M, row) ? a.M : first + 1;
    // All lanes vote, also those whose channels are beyond C.
    for (int step = 0; step < a.C; step += STEP) {
        const int c = step + lane_index() * VECTOR;
        real* to = a.x + static_cast<long long>(row) * a.C + c;
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (c < a.C) load4(sum, to, a.C - c, whole);
        for (int start = first; start < end; start += WARP) {
            const int mine = start + lane_index();
            unsigned equal = __ballot_sync(ALL_LANES, mine < end && a.index[mine] == row);
            for (; equal != 0 && c < a.C; equal &= equal - 1) {
                float value[4];
                fetch4(value, a.y + static_cast<long long>(start + __ffs(equal) - 1) * a.C + c, a.C - c, whole);
                for (int j = 0; j < VECTOR; j++) sum[j] += value[j];
            }
        }
        if (c < a.C) store4(to, sum, a.C - c, whole);
    }
}

struct Store {
    real* x;
    const real* y;
    const int* index;
    int M, C;
};

// launch: grid [M / 4], block 128, shared 0
KERNEL_ENTRY void rows_store(const Store a) {
    contract(blockDim.x == WARPS * WARP);
    const int i = row_of_warp();
    if (i >= a.M) return;
    // Without an index, all rows in order.
    const int row = a.index == nullptr ? i : a.index[i];
    if (row < 0 || (a.index != nullptr && holds(a.index, i + 1, a.M, row))) return;
    const bool whole = a.C % VECTOR == 0 && aligned4(a.x) && aligned4(a.y);
    const long long from = static_cast<long long>(i) * a.C, to = static_cast<long long>(row) * a.C;
    for (int c = lane_index() * VECTOR; c < a.C; c += STEP) {
        float value[4];
        fetch4(value, a.y + from + c, a.C - c, whole);
        store4(a.x + to + c, value, a.C - c, whole);
    }
}
