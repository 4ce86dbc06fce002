// linear: the bias of y = x W^T + b; the products are the library's. db = sum of dy over its rows.
// Shapes: dy [N, O], db [O], partial [parts, O]: the blocks of part j sum rows j warps + i, warp by warp, and every
// (parts warps)-th row after those.
#include "common.cuh"

constexpr int COLUMNS = WARP * WIDE;
// Rows a thread has in flight.
constexpr int AT_ONCE = 4;

struct BiasBackward {
    float *db, *partial;
    const real* dy;
    int N, O, parts, accumulate;
};

// launch: grid [O / (32 * 16 bytes), parts], block 256, shared 256 * 16 bytes of `real` as floats
KERNEL_ENTRY void linear_bwd_bias(const BiasBackward a) {
    contract(blockDim.x == 256 && static_cast<int>(gridDim.y) == a.parts);
    SHARED_DYN(float, sums);
    const int warps = warps_of_block(), column = blockIdx.x * COLUMNS + lane_index() * WIDE;
    float sum[WIDE] = {};
    with_constant(a.O % WIDE == 0 && aligned_for<WIDE>(a.dy), [&](auto flag) {
        constexpr bool WHOLE = decltype(flag)::value;
        const long long step = static_cast<long long>(a.parts) * warps;
        for (long long row = blockIdx.y * warps + warp_index(); column < a.O && row < a.N; row += AT_ONCE * step) {
            float value[AT_ONCE][WIDE] = {};
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++)
                if (row + k * step < a.N) fetch(value[k], a.dy + (row + k * step) * a.O + column, a.O - column, WHOLE);
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++)
                for (int j = 0; j < WIDE; j++) sum[j] += value[k][j];
        }
    });
    store(sums + threadIdx.x * WIDE, sum);
    __syncthreads();
    const int own = blockIdx.x * COLUMNS + threadIdx.x;
    if (threadIdx.x >= COLUMNS || own >= a.O) return;
    float total = 0.0f;
    for (int warp = 0; warp < warps; warp++) total += sums[warp * COLUMNS + threadIdx.x];
    a.partial[static_cast<long long>(blockIdx.y) * a.O + own] = total;
}

// launch: grid [O / 32], block 512, shared 512 floats
KERNEL_ENTRY void linear_bwd_bias_sum(const BiasBackward a) {
    contract(blockDim.x == 512);
    SHARED_DYN(float, scratch);
    const int column = blockIdx.x * WARP + lane_index();
    const float total = column_sum(a.partial, a.parts, a.O, column, scratch);
    if (warp_index() == 0 && column < a.O) put_or_add(a.db + column, total, a.accumulate);
}
