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
    for (int i = from + lane_index(); i - lane_index() < to; i += WARP)
        if (__any_sync(ALL_LANES, i < to && index[i] == row)) return true;
    return false;
}

// launch: grid [M / 4], block 128, shared 0
KERNEL_ENTRY void rows_gather(real* y, const real* x, const int* index, int M, int N, int C) {
    contract(blockDim.x == WARPS * WARP);
    const int i = row_of_warp();
    if (i >= M) return;
    const bool whole = C % VECTOR == 0 && aligned4(y) && aligned4(x);
    const long long to = static_cast<long long>(i) * C, from = static_cast<long long>(index[i]) * C;
    for (int c = lane_index() * VECTOR; c < C; c += STEP) {
        float value[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (from >= 0) fetch4(value, x + from + c, C - c, whole);
        store4(y + to + c, value, C - c, whole);
    }
}

// launch: grid [N C / 1024], block 256, shared 0
KERNEL_ENTRY void rows_scatter_zero(
    real* x, const real* y, const int* index, int M, int N, int C, int accumulate) {
    contract(blockDim.x == 256);
    const long long n = static_cast<long long>(N) * C, e = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    const float nothing[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (e < n) store4(x + e, nothing, n - e, aligned4(x) && e + VECTOR <= n);
}

// x holds zeros where it does not accumulate.
// launch: grid [M / 4], block 128, shared 0
KERNEL_ENTRY void rows_scatter(real* x, const real* y, const int* index, int M, int N, int C, int accumulate) {
    contract(blockDim.x == WARPS * WARP);
    const int first = row_of_warp();
    if (first >= M) return;
    const int row = index[first];
    if (row < 0 || holds(index, 0, first, row)) return;
    const bool whole = C % VECTOR == 0 && aligned4(x) && aligned4(y);
    // All lanes vote, also those whose channels are beyond C.
    for (int step = 0; step < C; step += STEP) {
        const int c = step + lane_index() * VECTOR;
        real* to = x + static_cast<long long>(row) * C + c;
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (c < C) fetch4(sum, to, C - c, whole);
        for (int start = first; start < M; start += WARP) {
            const int mine = start + lane_index();
            unsigned equal = __ballot_sync(ALL_LANES, mine < M && index[mine] == row);
            for (; equal != 0 && c < C; equal &= equal - 1) {
                float value[4];
                fetch4(value, y + static_cast<long long>(start + __ffs(equal) - 1) * C + c, C - c, whole);
                for (int j = 0; j < VECTOR; j++) sum[j] += value[j];
            }
        }
        if (c < C) store4(to, sum, C - c, whole);
    }
}

// launch: grid [M / 4], block 128, shared 0
KERNEL_ENTRY void rows_store(real* x, const real* y, const int* index, int M, int C) {
    contract(blockDim.x == WARPS * WARP);
    const int i = row_of_warp();
    if (i >= M) return;
    // Without an index, all rows in order.
    const int row = index == nullptr ? i : index[i];
    if (row < 0 || (index != nullptr && holds(index, i + 1, M, row))) return;
    const bool whole = C % VECTOR == 0 && aligned4(x) && aligned4(y);
    const long long from = static_cast<long long>(i) * C, to = static_cast<long long>(row) * C;
    for (int c = lane_index() * VECTOR; c < C; c += STEP) {
        float value[4];
        fetch4(value, y + from + c, C - c, whole);
        store4(x + to + c, value, C - c, whole);
    }
}
