// rows: gather y[i] = x[index[i]], zeros where the index is -1; scatter x[index[i]] += y[i]; store x[index[i]] = y[i].
// Shapes: x [N, C], index [M], y [M, C]. A warp has a row of y.
// Equal indices: the warp of the first of them adds all their rows, in order, and rounds once; the last one is what
// is stored.
#include "common.cuh"

constexpr int WARPS = 4;
constexpr int STEP = WARP * WIDE;

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
    const bool whole = a.C % WIDE == 0 && aligned_for<WIDE>(a.y, a.x);
    const long long to = static_cast<long long>(i) * a.C, from = static_cast<long long>(a.index[i]) * a.C;
    for (int c = lane_index() * WIDE; c < a.C; c += STEP) {
        float value[WIDE] = {};
        if (from >= 0) fetch(value, a.x + from + c, a.C - c, whole);
        store(a.y + to + c, value, a.C - c, whole);
    }
}

struct Scatter {
    real* x;
    const real* y;
    const int* index;
    int M, N, C, accumulate;
};

// launch: grid [N C / (256 * 16 bytes)], block 256, shared 0
KERNEL_ENTRY void rows_scatter_zero(const Scatter a) {
    contract(blockDim.x == 256);
    const long long n = static_cast<long long>(a.N) * a.C, e = (blockIdx.x * 256ll + threadIdx.x) * WIDE;
    const float nothing[WIDE] = {};
    if (e < n) store(a.x + e, nothing, n - e, aligned_for<WIDE>(a.x) && e + WIDE <= n);
}

// x holds zeros where it does not accumulate.
// launch: grid [M / 4], block 128, shared 0
KERNEL_ENTRY void rows_scatter(const Scatter a) {
    contract(blockDim.x == WARPS * WARP);
    const int first = row_of_warp();
    if (first >= a.M) return;
    const int row = a.index[first];
    if (row < 0 || holds(a.index, 0, first, row)) return;
    const bool whole = a.C % WIDE == 0 && aligned_for<WIDE>(a.x, a.y);
    const int end = holds(a.index, first + 1, a.M, row) ? a.M : first + 1;
    // All lanes vote, also those whose channels are beyond C.
    for (int step = 0; step < a.C; step += STEP) {
        const int c = step + lane_index() * WIDE;
        real* to = a.x + static_cast<long long>(row) * a.C + c;
        float sum[WIDE] = {};
        if (c < a.C) load(sum, to, a.C - c, whole);
        for (int start = first; start < end; start += WARP) {
            const int mine = start + lane_index();
            unsigned equal = __ballot_sync(ALL_LANES, mine < end && a.index[mine] == row);
            for (; equal != 0 && c < a.C; equal &= equal - 1) {
                float value[WIDE];
                fetch(value, a.y + static_cast<long long>(start + __ffs(equal) - 1) * a.C + c, a.C - c, whole);
                for (int j = 0; j < WIDE; j++) sum[j] += value[j];
            }
        }
        if (c < a.C) store(to, sum, a.C - c, whole);
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
    const bool whole = a.C % WIDE == 0 && aligned_for<WIDE>(a.x, a.y);
    const long long from = static_cast<long long>(i) * a.C, to = static_cast<long long>(row) * a.C;
    for (int c = lane_index() * WIDE; c < a.C; c += STEP) {
        float value[WIDE];
        fetch(value, a.y + from + c, a.C - c, whole);
        store(a.x + to + c, value, a.C - c, whole);
    }
}
