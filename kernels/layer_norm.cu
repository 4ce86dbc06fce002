// layer_norm: s = x + dropout(a); y = (s - mean(s)) rstd(s) w + b, over the last dimension.
// Shapes: x a s y [N, C], w b [C], mean rstd [N], partial [parts, 2, C]. a and s may be absent. Saved: s, mean, rstd.
// A warp has a row, read once and kept in shared memory; each lane reads back only what it wrote. Ba et al. 2016.
#include "common.cuh"

constexpr int STEP = WARP * VECTOR;
// Vectors of a row that a lane has in flight.
constexpr int AT_ONCE = 4;

// Floats of a row in shared memory: whole vectors.
DEVICE int padded(int C) { return CEIL_DIV(C, VECTOR) * VECTOR; }

// launch: grid [N / warps], block 32 warps, shared warps padded(C) floats
KERNEL_ENTRY void layer_norm_fwd(
    real* s, real* y, float* mean, float* rstd,
    const real* x, const real* a, const real* w, const real* b, const int* randomness,
    int N, int C, int site, float eps, float p) {
    contract(blockDim.x % WARP == 0);
    SHARED_DYN(float, rows);
    const int row = blockIdx.x * warps_of_block() + warp_index();
    if (row >= N) return;
    float* s_row = rows + warp_index() * padded(C);
    const Dropout dropout = dropout_of(randomness, site, p);
    const bool aligned = aligned4(s) && aligned4(y) && aligned4(x) && aligned4(a) && aligned4(w) && aligned4(b);
    const long long first = static_cast<long long>(row) * C;
    with_constant(aligned && C % VECTOR == 0, [&](auto flag) {
        constexpr bool WHOLE = decltype(flag)::value;
        float sum = 0.0f;
        for (int start = lane_index() * VECTOR; start < C; start += AT_ONCE * STEP) {
            float value[AT_ONCE][4] = {}, branch[AT_ONCE][4] = {};
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++) {
                const int c = start + k * STEP;
                if (c < C) fetch4(value[k], x + first + c, C - c, WHOLE);
                if (c < C && a != nullptr) fetch4(branch[k], a + first + c, C - c, WHOLE);
            }
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++) {
                const int c = start + k * STEP;
                if (c >= C) continue;
                if (a != nullptr) {
                    float factor[4];
                    dropout_factors(factor, dropout, first + c);
                    // The statistics are those of what the backward will read.
                    for (int j = 0; j < 4; j++) value[k][j] = stored(value[k][j] + branch[k][j] * factor[j]);
                    store4(s + first + c, value[k], C - c, WHOLE);
                }
                for (int j = 0; j < 4; j++) sum += value[k][j];
                store4(s_row + c, value[k]);
            }
        }
        const float row_mean = warp_sum(sum) / C;
        float squares = 0.0f;
        for (int c = lane_index() * VECTOR; c < C; c += STEP) {
            float value[4];
            load4(value, s_row + c);
            for (int j = 0; j < 4; j++)
                if (WHOLE || c + j < C) squares += (value[j] - row_mean) * (value[j] - row_mean);
        }
        const float row_rstd = 1.0f / sqrtf(warp_sum(squares) / C + eps);
        if (lane_index() == 0) mean[row] = row_mean, rstd[row] = row_rstd;
#pragma unroll 2
        for (int c = lane_index() * VECTOR; c < C; c += STEP) {
            float value[4], weight[4], bias[4];
            load4(value, s_row + c);
            fetch4(weight, w + c, C - c, WHOLE);
            fetch4(bias, b + c, C - c, WHOLE);
            for (int j = 0; j < 4; j++) value[j] = (value[j] - row_mean) * row_rstd * weight[j] + bias[j];
            store4(y + first + c, value, C - c, WHOLE);
        }
    });
}

// With n = (s - mean) rstd and g = dy w: ds = rstd (g - mean(g) - n mean(g n)) + ds_residual; da = ds through dropout.
// A block goes through every parts-th group of rows; each of its warps sums dy n and dy for dw and db as it goes.
// launch: grid [parts], block 32 warps, shared warps 4 padded(C) floats
KERNEL_ENTRY void layer_norm_bwd(
    real* ds, real* da, float* dw, float* db, float* partial,
    const real* dy, const real* ds_residual, const real* s, const float* mean, const float* rstd, const real* w,
    const int* randomness, int N, int C, int accumulate_w, int accumulate_b, int site, int parts, float p) {
    contract(blockDim.x % WARP == 0 && static_cast<int>(gridDim.x) == parts);
    SHARED_DYN(float, rows);
    const int warps = warps_of_block(), width = padded(C);
    float* dw_sum = rows + warp_index() * 4 * width;
    float* db_sum = dw_sum + width;
    float* n_row = db_sum + width;
    float* dy_row = n_row + width;
    const Dropout dropout = dropout_of(randomness, site, p);
    const bool aligned = aligned4(ds) && aligned4(da) && aligned4(dy) && aligned4(ds_residual) && aligned4(s)
        && aligned4(w);
    const float nothing[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int c = lane_index() * VECTOR; c < C; c += STEP) store4(dw_sum + c, nothing), store4(db_sum + c, nothing);

    with_constant(aligned && C % VECTOR == 0, [&](auto flag) {
        constexpr bool WHOLE = decltype(flag)::value;
        const long long step = static_cast<long long>(parts) * warps;
        for (long long row = blockIdx.x * warps + warp_index(); row < N; row += step) {
            const long long first = row * C;
            const float row_mean = __ldg(mean + row), row_rstd = __ldg(rstd + row);
            float g_sum = 0.0f, gn_sum = 0.0f;
            for (int start = lane_index() * VECTOR; start < C; start += AT_ONCE * STEP) {
                float value[AT_ONCE][4] = {}, gradient[AT_ONCE][4] = {}, weight[AT_ONCE][4] = {};
#pragma unroll
                for (int k = 0; k < AT_ONCE; k++) {
                    const int c = start + k * STEP;
                    if (c >= C) continue;
                    fetch4(value[k], s + first + c, C - c, WHOLE);
                    fetch4(gradient[k], dy + first + c, C - c, WHOLE);
                    fetch4(weight[k], w + c, C - c, WHOLE);
                }
#pragma unroll
                for (int k = 0; k < AT_ONCE; k++) {
                    const int c = start + k * STEP;
                    if (c >= C) continue;
                    for (int j = 0; j < 4; j++) {
                        // Beyond the row, dy is 0.
                        value[k][j] = (value[k][j] - row_mean) * row_rstd;
                        g_sum += gradient[k][j] * weight[k][j];
                        gn_sum += gradient[k][j] * weight[k][j] * value[k][j];
                    }
                    store4(n_row + c, value[k]);
                    store4(dy_row + c, gradient[k]);
                }
            }
            const float g_mean = warp_sum(g_sum) / C, gn_mean = warp_sum(gn_sum) / C;
#pragma unroll 2
            for (int c = lane_index() * VECTOR; c < C; c += STEP) {
                float value[4], gradient[4], weight[4], out[4] = {}, dw_part[4], db_part[4];
                if (ds_residual != nullptr) fetch4(out, ds_residual + first + c, C - c, WHOLE);
                fetch4(weight, w + c, C - c, WHOLE);
                load4(value, n_row + c);
                load4(gradient, dy_row + c);
                load4(dw_part, dw_sum + c);
                load4(db_part, db_sum + c);
                for (int j = 0; j < 4; j++) {
                    out[j] += row_rstd * (gradient[j] * weight[j] - g_mean - value[j] * gn_mean);
                    dw_part[j] += gradient[j] * value[j];
                    db_part[j] += gradient[j];
                }
                store4(dw_sum + c, dw_part);
                store4(db_sum + c, db_part);
                store4(ds + first + c, out, C - c, WHOLE);
                if (da != nullptr) {
                    float factor[4];
                    dropout_factors(factor, dropout, first + c);
                    for (int j = 0; j < 4; j++) out[j] *= factor[j];
                    store4(da + first + c, out, C - c, WHOLE);
                }
            }
        }
    });
    if (partial == nullptr) return;
    __syncthreads();
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        float dw_total = 0.0f, db_total = 0.0f;
        for (int warp = 0; warp < warps; warp++) {
            dw_total += rows[warp * 4 * width + c];
            db_total += rows[warp * 4 * width + width + c];
        }
        partial[blockIdx.x * 2ll * C + c] = dw_total;
        partial[(blockIdx.x * 2ll + 1) * C + c] = db_total;
    }
}

// dw and db: the partials of all blocks, in order.
// launch: grid [2 C / 32], block 512, shared 512 floats
KERNEL_ENTRY void layer_norm_bwd_sum(
    real* ds, real* da, float* dw, float* db, float* partial,
    const real* dy, const real* ds_residual, const real* s, const float* mean, const float* rstd, const real* w,
    const int* randomness, int N, int C, int accumulate_w, int accumulate_b, int site, int parts, float p) {
    contract(blockDim.x == 512);
    SHARED_DYN(float, scratch);
    const int column = blockIdx.x * WARP + lane_index();
    const float total = column_sum(partial, parts, 2ll * C, column, scratch);
    if (warp_index() != 0 || column >= 2 * C) return;
    if (column < C && dw != nullptr) put_or_add(dw + column, total, accumulate_w);
    if (column >= C && db != nullptr) put_or_add(db + column - C, total, accumulate_b);
}
