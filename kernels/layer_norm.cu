// layer_norm: s = x + dropout(a); y = (s - mean(s)) rstd(s) w + b, over the last dimension.
// Shapes: x a s y [N, C], w b [C], mean rstd [N], partial [parts, 2, C]. a and s may be absent. Saved: s, mean, rstd.
// A warp has a row, read once and kept in shared memory; each lane reads back only what it wrote. Ba et al. 2016.
#include "common.cuh"

constexpr int STEP = WARP * VECTOR;
// Vectors of a row that a lane has in flight.
constexpr int AT_ONCE = 4;

// Floats of a row in shared memory: whole vectors.
DEVICE int padded(int C) { return CEIL_DIV(C, VECTOR) * VECTOR; }

struct Forward {
    real *s, *y;
    float *mean, *rstd;
    const real *x, *a, *w, *b;
    const int* randomness;
    int N, C, site;
    float eps, p;
};

// launch: grid [N / warps], block 32 warps, shared warps padded(C) floats
KERNEL_ENTRY void layer_norm_fwd(const Forward a) {
    contract(blockDim.x % WARP == 0);
    SHARED_DYN(float, rows);
    const int row = blockIdx.x * warps_of_block() + warp_index();
    if (row >= a.N) return;
    float* s_row = rows + warp_index() * padded(a.C);
    const Dropout dropout = dropout_of(a.randomness, a.site, a.p);
    const bool aligned =
        aligned4(a.s) && aligned4(a.y) && aligned4(a.x) && aligned4(a.a) && aligned4(a.w) && aligned4(a.b);
    const long long first = static_cast<long long>(row) * a.C;
    with_constant(aligned && a.C % VECTOR == 0, [&](auto flag) {
        constexpr bool WHOLE = decltype(flag)::value;
        float sum = 0.0f;
        for (int start = lane_index() * VECTOR; start < a.C; start += AT_ONCE * STEP) {
            float value[AT_ONCE][4] = {}, branch[AT_ONCE][4] = {};
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++) {
                const int c = start + k * STEP;
                if (c < a.C) fetch4(value[k], a.x + first + c, a.C - c, WHOLE);
                if (c < a.C && a.a != nullptr) fetch4(branch[k], a.a + first + c, a.C - c, WHOLE);
            }
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++) {
                const int c = start + k * STEP;
                if (c >= a.C) continue;
                if (a.a != nullptr) {
                    float factor[4];
                    dropout_factors(factor, dropout, first + c);
                    // The statistics are those of what the backward will read.
                    for (int j = 0; j < 4; j++) value[k][j] = stored(value[k][j] + branch[k][j] * factor[j]);
                    store4(a.s + first + c, value[k], a.C - c, WHOLE);
                }
                for (int j = 0; j < 4; j++) sum += value[k][j];
                store4(s_row + c, value[k]);
            }
        }
        const float row_mean = warp_sum(sum) / a.C;
        float squares = 0.0f;
        for (int c = lane_index() * VECTOR; c < a.C; c += STEP) {
            float value[4];
            load4(value, s_row + c);
            for (int j = 0; j < 4; j++)
                if (WHOLE || c + j < a.C) squares += (value[j] - row_mean) * (value[j] - row_mean);
        }
        const float row_rstd = 1.0f / sqrtf(warp_sum(squares) / a.C + a.eps);
        if (lane_index() == 0) a.mean[row] = row_mean, a.rstd[row] = row_rstd;
#pragma unroll 2
        for (int c = lane_index() * VECTOR; c < a.C; c += STEP) {
            float value[4], weight[4], bias[4];
            load4(value, s_row + c);
            fetch4(weight, a.w + c, a.C - c, WHOLE);
            fetch4(bias, a.b + c, a.C - c, WHOLE);
            for (int j = 0; j < 4; j++) value[j] = (value[j] - row_mean) * row_rstd * weight[j] + bias[j];
            store4(a.y + first + c, value, a.C - c, WHOLE);
        }
    });
}

struct Backward {
    real *ds, *da;
    float *dw, *db, *partial;
    const real *dy, *ds_residual, *s;
    const float *mean, *rstd;
    const real* w;
    const int* randomness;
    int N, C, accumulate_w, accumulate_b, site, parts;
    float p;
};

// With n = (s - mean) rstd and g = dy w: ds = rstd (g - mean(g) - n mean(g n)) + ds_residual; da = ds through dropout.
// A block goes through every parts-th group of rows; each of its warps sums dy n and dy for dw and db as it goes.
// launch: grid [parts], block 32 warps, shared warps 4 padded(C) floats
KERNEL_ENTRY void layer_norm_bwd(const Backward a) {
    contract(blockDim.x % WARP == 0 && static_cast<int>(gridDim.x) == a.parts);
    SHARED_DYN(float, rows);
    const int warps = warps_of_block(), width = padded(a.C);
    float* dw_sum = rows + warp_index() * 4 * width;
    float* db_sum = dw_sum + width;
    float* n_row = db_sum + width;
    float* dy_row = n_row + width;
    const Dropout dropout = dropout_of(a.randomness, a.site, a.p);
    const bool aligned = aligned4(a.ds) && aligned4(a.da) && aligned4(a.dy) && aligned4(a.ds_residual) &&
                         aligned4(a.s) && aligned4(a.w);
    const float nothing[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int c = lane_index() * VECTOR; c < a.C; c += STEP) store4(dw_sum + c, nothing), store4(db_sum + c, nothing);

    with_constant(aligned && a.C % VECTOR == 0, [&](auto flag) {
        constexpr bool WHOLE = decltype(flag)::value;
        const long long step = static_cast<long long>(a.parts) * warps;
        for (long long row = blockIdx.x * warps + warp_index(); row < a.N; row += step) {
            const long long first = row * a.C;
            const float row_mean = __ldg(a.mean + row), row_rstd = __ldg(a.rstd + row);
            float g_sum = 0.0f, gn_sum = 0.0f;
            for (int start = lane_index() * VECTOR; start < a.C; start += AT_ONCE * STEP) {
                float value[AT_ONCE][4] = {}, gradient[AT_ONCE][4] = {}, weight[AT_ONCE][4] = {};
#pragma unroll
                for (int k = 0; k < AT_ONCE; k++) {
                    const int c = start + k * STEP;
                    if (c >= a.C) continue;
                    fetch4(value[k], a.s + first + c, a.C - c, WHOLE);
                    fetch4(gradient[k], a.dy + first + c, a.C - c, WHOLE);
                    fetch4(weight[k], a.w + c, a.C - c, WHOLE);
                }
#pragma unroll
                for (int k = 0; k < AT_ONCE; k++) {
                    const int c = start + k * STEP;
                    if (c >= a.C) continue;
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
            const float g_mean = warp_sum(g_sum) / a.C, gn_mean = warp_sum(gn_sum) / a.C;
#pragma unroll 2
            for (int c = lane_index() * VECTOR; c < a.C; c += STEP) {
                float value[4], gradient[4], weight[4], out[4] = {}, dw_part[4], db_part[4];
                if (a.ds_residual != nullptr) fetch4(out, a.ds_residual + first + c, a.C - c, WHOLE);
                fetch4(weight, a.w + c, a.C - c, WHOLE);
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
                store4(a.ds + first + c, out, a.C - c, WHOLE);
                if (a.da != nullptr) {
                    float factor[4];
                    dropout_factors(factor, dropout, first + c);
                    for (int j = 0; j < 4; j++) out[j] *= factor[j];
                    store4(a.da + first + c, out, a.C - c, WHOLE);
                }
            }
        }
    });
    if (a.partial == nullptr) return;
    __syncthreads();
    for (int c = threadIdx.x; c < a.C; c += blockDim.x) {
        float dw_total = 0.0f, db_total = 0.0f;
        for (int warp = 0; warp < warps; warp++) {
            dw_total += rows[warp * 4 * width + c];
            db_total += rows[warp * 4 * width + width + c];
        }
        a.partial[blockIdx.x * 2ll * a.C + c] = dw_total;
        a.partial[(blockIdx.x * 2ll + 1) * a.C + c] = db_total;
    }
}

// dw and db: the partials of all blocks, in order.
// launch: grid [2 C / 32], block 512, shared 512 floats
KERNEL_ENTRY void layer_norm_bwd_sum(const Backward a) {
    contract(blockDim.x == 512);
    SHARED_DYN(float, scratch);
    const int column = blockIdx.x * WARP + lane_index();
    const float total = column_sum(a.partial, a.parts, 2ll * a.C, column, scratch);
    if (warp_index() != 0 || column >= 2 * a.C) return;
    if (column < a.C && a.dw != nullptr) put_or_add(a.dw + column, total, a.accumulate_w);
    if (column >= a.C && a.db != nullptr) put_or_add(a.db + column - a.C, total, a.accumulate_b);
}
