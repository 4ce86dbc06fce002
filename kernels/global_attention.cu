// global_attention: few queries over all tokens, the projections of keys and values moved to the other side of the
// sums: u = scale Wk^T q, p = softmax(u x) over unmasked tokens, z = sum of p x, o = Wv z + bv, head by head.
// Shapes: x [B, S, C], q o [B, G, C], wk wv [C, C], bv [C], key_state [B, S] (0 masked), u z [B, R, C], lse [B, R],
// scores [B, R, S], with R = G H rows (g, h). part_z part_du [B, P, R, C], part_max part_sum [B, P, R]: sums over the
// tokens of one of P splits. Saved: q, x, u, z, lse, scores.
// x is read twice in each direction, the second time as far as it fits from the cache: for the scores, a warp has four
// tokens, lanes share channels; for the weighted sums, a thread has two channels, read at once, and goes through the
// tokens of a split: as many weights are read from shared memory for two channels as for one.
#include "common.cuh"

// Rows a block handles at a time; what is beyond R is computed with zeros.
constexpr int ROWS = 16;
// Shared memory a row of ROWS weights takes: four more, so that the warps' lanes write to other banks.
constexpr int WEIGHTS = ROWS + 4;
// Queries that share one pass over a projection.
constexpr int QUERIES = 8;
// Tokens of a warp that computes scores.
constexpr int KEYS = 4;
// Tokens of a block of the backward that writes dx.
constexpr int TOKENS = 16;

// out[bg, h, c] = scale sum over d of a[bg, h, d] w[h, d, c], for eight of the queries bg.
DEVICE void project_back(
    float* out, const real* a, const real* w, int queries, int H, int D, float scale, float* shared) {
    const int C = H * D, h = blockIdx.y, first = blockIdx.z * QUERIES, c = blockIdx.x * blockDim.x + threadIdx.x;
    for (int i = threadIdx.x; i < QUERIES * D; i += blockDim.x) {
        const int query = first + i % QUERIES, d = i / QUERIES;
        shared[i] = query < queries ? to_float(a[static_cast<long long>(query) * C + h * D + d]) : 0.0f;
    }
    __syncthreads();
    if (c >= C) return;
    float sum[QUERIES] = {};
#pragma unroll 16
    for (int d = 0; d < D; d++) {
        const float weight = to_float(w[(static_cast<long long>(h) * D + d) * C + c]);
#pragma unroll
        for (int i = 0; i < QUERIES; i += 4) {
            float left[4];
            load(left, shared + d * QUERIES + i);
            for (int j = 0; j < 4; j++) sum[i + j] += left[j] * weight;
        }
    }
    for (int i = 0; i < QUERIES; i++)
        if (first + i < queries) out[(static_cast<long long>(first + i) * H + h) * C + c] = scale * sum[i];
}

// Sum over c of a[query, h, c] w[o, c], o a channel of head h; the same in all lanes.
DEVICE float project(const float* a, const real* w, int query, int o, int H, int C, int D) {
    const float* a_row = a + (static_cast<long long>(query) * H + o / D) * C;
    const real* w_row = w + static_cast<long long>(o) * C;
    float sum = 0.0f;
    with_constant(C % VECTOR == 0 && aligned_for<VECTOR>(a, w), [&](auto flag) {
        constexpr bool WHOLE = decltype(flag)::value;
#pragma unroll 4
        for (int c = lane_index() * VECTOR; c < C; c += WARP * VECTOR) {
            float left[4], right[4];
            fetch(left, a_row + c, C - c, WHOLE);
            fetch(right, w_row + c, C - c, WHOLE);
            for (int j = 0; j < 4; j++) sum += left[j] * right[j];
        }
    });
    return warp_sum(sum);
}

// Sums each of 64 values over the lanes with 62 shuffles: after each exchange a lane goes on with half of its values.
// Lane l ends with values 2 l and 2 l + 1. Called with HALF = 16.
template <int HALF>
DEVICE void warp_sums(float (&value)[2 * WARP]) {
    const bool upper = lane_index() & HALF;
#pragma unroll
    for (int i = 0; i < 2 * HALF; i++) {
        const float mine = upper ? value[i + 2 * HALF] : value[i], other = upper ? value[i] : value[i + 2 * HALF];
        value[i] = mine + __shfl_xor_sync(ALL_LANES, other, HALF);
    }
    if constexpr (HALF > 1) warp_sums<HALF / 2>(value);
}

// Rows of a block's tile, where a tile has the same number for each of `tiles`.
struct Tile {
    int first, count;
};

DEVICE Tile tile_of(int tile, int tiles, int R) {
    const int rows = CEIL_DIV(R, tiles);
    return {tile * rows, min(rows, R - tile * rows)};
}

// Copies rows of [R, C] to shared memory, each padded to whole vectors.
DEVICE void stage_rows(float* shared, const float* rows, int count, int C) {
    const int width = CEIL_DIV(C, VECTOR) * VECTOR;
    const bool whole = C % VECTOR == 0 && aligned_for<VECTOR>(rows);
    for (int r = warp_index(); r < count; r += warps_of_block()) {
#pragma unroll 4
        for (int c = lane_index() * VECTOR; c < C; c += WARP * VECTOR) {
            float value[4];
            fetch(value, rows + static_cast<long long>(r) * C + c, C - c, whole);
            store(shared + r * width + c, value);
        }
    }
    __syncthreads();
}

// out[b, r, s] = rows[b, r] x[b, s] for the staged rows and every gridDim-th group of tokens; `masked` where masked.
DEVICE void dot_products(
    float* out, const float* staged, const real* x, const int* key_state, const Tile& tile, int R, int S, int C,
    float masked) {
    const int b = blockIdx.z, width = CEIL_DIV(C, VECTOR) * VECTOR, group = warps_of_block() * KEYS;
    const real* x_b = x + static_cast<long long>(b) * S * C;
    const int* states = key_state + static_cast<long long>(b) * S;
    with_constant(C % VECTOR == 0 && aligned_for<VECTOR>(x), [&](auto flag) {
        constexpr bool WHOLE = decltype(flag)::value;
        for (long long first = blockIdx.x * group + warp_index() * KEYS; first < S; first += gridDim.x * group) {
            bool visible[KEYS];
            const real* token[KEYS];
            for (int k = 0; k < KEYS; k++) {
                visible[k] = first + k < S && states[first + k] != 0;
                // What is read in place of a token beyond the last is not used.
                token[k] = x_b + min(first + k, S - 1ll) * C;
            }
            float sum[ROWS * KEYS] = {}, next[KEYS][4];
            // Padding costs nothing.
            const int end = visible[0] || visible[1] || visible[2] || visible[3] ? C : 0;
            int c = lane_index() * VECTOR;
#pragma unroll
            for (int k = 0; k < KEYS; k++)
                if (c < end) fetch(next[k], token[k] + c, C - c, WHOLE);
            while (c < end) {
                float now[KEYS][4];
                const int here = c;
                c += WARP * VECTOR;
#pragma unroll
                for (int k = 0; k < KEYS; k++) {
                    for (int j = 0; j < 4; j++) now[k][j] = next[k][j];
                    // On its way while the products below are computed.
                    if (c < end) fetch(next[k], token[k] + c, C - c, WHOLE);
                }
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    if (r < tile.count) {
                        float row[4];
                        load(row, staged + r * width + here);
#pragma unroll
                        for (int k = 0; k < KEYS; k++)
                            for (int j = 0; j < 4; j++) sum[r * KEYS + k] += row[j] * now[k][j];
                    }
                }
            }
            warp_sums<WARP / 2>(sum);
            const int r = lane_index() / 2, k = lane_index() % 2 * 2;
            float* out_row = out + (static_cast<long long>(b) * R + tile.first + r) * S + first;
            const bool sees0 = k == 0 ? visible[0] : visible[2], sees1 = k == 0 ? visible[1] : visible[3];
            if (r < tile.count && first + k < S) out_row[k] = sees0 ? sum[0] : masked;
            if (r < tile.count && first + k + 1 < S) out_row[k + 1] = sees1 ? sum[1] : masked;
        }
    });
}

// part[b, split, r] = sum of weight x over the split's tokens, for rows of a tile whose weights [token, WEIGHTS] are
// staged.
DEVICE void weighted_sum(
    float* part, const float* weights, const real* x, int b, const Tile& tile, int from, int to, bool any, int R, int S,
    int C) {
    const int c = (blockIdx.x * blockDim.x + threadIdx.x) * 2;
    if (c >= C) return;
    float sum[ROWS][2] = {};
    const real* x_column = x + (static_cast<long long>(b) * S + from) * C + c;
    with_constant(C % 2 == 0 && aligned_for<2>(x), [&](auto flag) {
        constexpr bool WHOLE = decltype(flag)::value;
#pragma unroll 8
        for (int s = 0; s < (any ? to - from : 0); s++) {
            float value[2];
            fetch(value, x_column + static_cast<long long>(s) * C, C - c, WHOLE);
#pragma unroll
            for (int r = 0; r < ROWS; r += 4) {
                float weight[4];
                load(weight, weights + s * WEIGHTS + r);
                for (int i = 0; i < 8; i++) sum[r + i / 2][i % 2] += weight[i / 2] * value[i % 2];
            }
        }
    });
    float* part_row = part + ((static_cast<long long>(b) * gridDim.y + blockIdx.y) * R + tile.first) * C + c;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (r >= tile.count) continue;
        part_row[static_cast<long long>(r) * C] = sum[r][0];
        if (c + 1 < C) part_row[static_cast<long long>(r) * C + 1] = sum[r][1];
    }
}

struct Forward {
    real* o;
    float *u, *z, *lse, *scores, *part_z, *part_max, *part_sum;
    const real *q, *x, *wk, *wv, *bv;
    const int* key_state;
    int B, G, S, H, D, P;
    float scale;
};

// launch: grid [C / 128, H, B G / 8], block 128, shared 8 D floats
KERNEL_ENTRY void global_attention_fwd(const Forward a) {
    contract(blockDim.x == 128 && static_cast<int>(gridDim.y) == a.H);
    SHARED_DYN(float, shared);
    project_back(a.u, a.q, a.wk, a.B * a.G, a.H, a.D, a.scale, shared);
}

// launch: grid [up to S / (4 warps), tiles, B], block 32 warps up to 256, shared (R / tiles) padded(C) floats
KERNEL_ENTRY void __launch_bounds__(256, 2) global_attention_fwd_scores(const Forward a) {
    contract(blockDim.x <= 256 && CEIL_DIV(a.G * a.H, static_cast<int>(gridDim.y)) <= ROWS);
    SHARED_DYN(float, staged);
    const int R = a.G * a.H, C = a.H * a.D;
    const Tile tile = tile_of(blockIdx.y, gridDim.y, R);
    stage_rows(staged, a.u + (static_cast<long long>(blockIdx.z) * R + tile.first) * C, tile.count, C);
    dot_products(a.scores, staged, a.x, a.key_state, tile, R, a.S, C, -INFINITY);
}

// The softmax is relative to the split's own maximum, which global_attention_fwd_z then corrects.
// launch: grid [C / 256, P, B tiles], block 128, shared (S / P) 20 floats
KERNEL_ENTRY void global_attention_fwd_values(const Forward a) {
    contract(blockDim.x == 128 && static_cast<int>(gridDim.y) == a.P && static_cast<int>(gridDim.z) % a.B == 0);
    SHARED_DYN(float, weights);
    const int R = a.G * a.H, C = a.H * a.D, b = blockIdx.z % a.B, keys = CEIL_DIV(a.S, a.P);
    const int from = min(a.S, static_cast<int>(blockIdx.y) * keys), to = min(a.S, from + keys);
    const Tile tile = tile_of(blockIdx.z / a.B, gridDim.z / a.B, R);
    bool any = false;
    for (int r = warp_index(); r < ROWS; r += warps_of_block()) {
        const float* row = a.scores + (static_cast<long long>(b) * R + tile.first + min(r, tile.count - 1)) * a.S;
        float most = -INFINITY, sum = 0.0f;
        for (int s = from + lane_index(); s < to; s += WARP) most = fmaxf(most, row[s]);
        most = warp_max(most);
        const bool visible = r < tile.count && most > -INFINITY;
        for (int s = from + lane_index(); s < to; s += WARP) {
            const float power = visible ? expf(row[s] - most) : 0.0f;
            weights[(s - from) * WEIGHTS + r] = power;
            sum += power;
        }
        sum = warp_sum(sum);
        any = any || visible;
        if (blockIdx.x == 0 && lane_index() == 0 && r < tile.count) {
            const long long part = (static_cast<long long>(b) * a.P + blockIdx.y) * R + tile.first + r;
            a.part_max[part] = most;
            a.part_sum[part] = sum;
        }
    }
    any = __syncthreads_or(any);
    weighted_sum(a.part_z, weights, a.x, b, tile, from, to, any, R, a.S, C);
}

// launch: grid [C / 32, R, B], block 512, shared 512 + P floats
KERNEL_ENTRY void global_attention_fwd_z(const Forward a) {
    contract(blockDim.x == 512 && a.P <= 512);
    SHARED_DYN(float, scratch);
    float* weights = scratch + 512;
    const int R = a.G * a.H, C = a.H * a.D, thread = static_cast<int>(threadIdx.x);
    const long long b = blockIdx.z, row = b * R + blockIdx.y;
    const long long own = (b * a.P + thread) * R + blockIdx.y;
    const float own_max = thread < a.P ? a.part_max[own] : -INFINITY;
    const float most = block_max(own_max, scratch);
    // A row that sees nothing has the sum 0.
    const float weight = own_max > -INFINITY ? expf(own_max - most) : 0.0f;
    const float total = block_sum(weight > 0.0f ? weight * a.part_sum[own] : 0.0f, scratch);
    if (thread < a.P) weights[thread] = weight > 0.0f ? weight / total : 0.0f;
    __syncthreads();
    const int c = blockIdx.x * WARP + lane_index();
    float sum = 0.0f;
    if (c < C) {
#pragma unroll 4
        for (int part = warp_index(); part < a.P; part += warps_of_block())
            sum += weights[part] * a.part_z[((b * a.P + part) * R + blockIdx.y) * C + c];
    }
    scratch[thread] = sum;
    __syncthreads();
    if (thread == 0 && blockIdx.x == 0) a.lse[row] = total > 0.0f ? most + logf(total) : -INFINITY;
    if (thread >= WARP || c >= C) return;
    sum = 0.0f;
    for (int warp = 0; warp < warps_of_block(); warp++) sum += scratch[warp * WARP + thread];
    a.z[row * C + c] = sum;
}

// launch: grid [C / 4, B G], block 128, shared 0
KERNEL_ENTRY void global_attention_fwd_o(const Forward a) {
    contract(blockDim.x == 128 && static_cast<int>(gridDim.y) == a.B * a.G);
    const int C = a.H * a.D, channel = blockIdx.x * warps_of_block() + warp_index();
    if (channel >= C) return;
    const float sum = project(a.z, a.wv, blockIdx.y, channel, a.H, C, a.D);
    if (lane_index() == 0) put(a.o + static_cast<long long>(blockIdx.y) * C + channel, sum + to_float(a.bv[channel]));
}

struct Backward {
    real *dq, *dx;
    float *dwk, *dwv, *dbv, *du, *dz, *dp, *mean, *part_du;
    const real *d_o, *q, *x;
    const float *u, *z, *lse, *scores;
    const real *wk, *wv;
    const int* key_state;
    int B, G, S, H, D, P, add_q, add_x, add_wk, add_wv, add_bv;
    float scale;
};

// Backward: dz = Wv^T d_o, dp = dz x, ds = p (dp - z dz) (the mean of dp under p, because z = sum of p x),
// du = sum of ds x, dx = sum over rows of p dz + ds u; dWk, dWv, dbv and dq = scale Wk du are sums over the queries.
// launch: grid [C / 128, H, B G / 8], block 128, shared 8 D floats
KERNEL_ENTRY void global_attention_bwd(const Backward a) {
    contract(blockDim.x == 128 && static_cast<int>(gridDim.y) == a.H);
    SHARED_DYN(float, shared);
    project_back(a.dz, a.d_o, a.wv, a.B * a.G, a.H, a.D, 1.0f, shared);
}

// launch: grid [up to S / (4 warps), tiles, B], block 32 warps up to 256, shared (R / tiles) padded(C) floats
KERNEL_ENTRY void __launch_bounds__(256, 2) global_attention_bwd_scores(const Backward a) {
    contract(blockDim.x <= 256 && CEIL_DIV(a.G * a.H, static_cast<int>(gridDim.y)) <= ROWS);
    SHARED_DYN(float, staged);
    const int R = a.G * a.H, C = a.H * a.D, width = CEIL_DIV(C, VECTOR) * VECTOR;
    const Tile tile = tile_of(blockIdx.y, gridDim.y, R);
    const long long row = static_cast<long long>(blockIdx.z) * R + tile.first;
    stage_rows(staged, a.dz + row * C, tile.count, C);
    if (blockIdx.x == 0) {
        for (int r = warp_index(); r < tile.count; r += warps_of_block()) {
            float sum = 0.0f;
            for (int c = lane_index(); c < C; c += WARP) sum += a.z[(row + r) * C + c] * staged[r * width + c];
            sum = warp_sum(sum);
            if (lane_index() == 0) a.mean[row + r] = sum;
        }
    }
    // What is masked has no weight, so that any finite number does.
    dot_products(a.dp, staged, a.x, a.key_state, tile, R, a.S, C, 0.0f);
}

// p of one row and token.
DEVICE float probability(float score, float lse) { return lse > -INFINITY ? expf(score - lse) : 0.0f; }

// launch: grid [C / 256, P, B tiles], block 128, shared (S / P) 20 floats
KERNEL_ENTRY void global_attention_bwd_values(const Backward a) {
    contract(blockDim.x == 128 && static_cast<int>(gridDim.y) == a.P && static_cast<int>(gridDim.z) % a.B == 0);
    SHARED_DYN(float, weights);
    const int R = a.G * a.H, C = a.H * a.D, b = blockIdx.z % a.B, keys = CEIL_DIV(a.S, a.P);
    const int from = min(a.S, static_cast<int>(blockIdx.y) * keys), to = min(a.S, from + keys);
    const Tile tile = tile_of(blockIdx.z / a.B, gridDim.z / a.B, R);
    bool any = false;
    for (int r = warp_index(); r < ROWS; r += warps_of_block()) {
        const long long row = static_cast<long long>(b) * R + tile.first + min(r, tile.count - 1);
        const float row_lse = r < tile.count ? a.lse[row] : -INFINITY, row_mean = a.mean[row];
        for (int s = from + lane_index(); s < to; s += WARP) {
            const float p = probability(a.scores[row * a.S + s], row_lse);
            weights[(s - from) * WEIGHTS + r] = p * (a.dp[row * a.S + s] - row_mean);
            any = any || p > 0.0f;
        }
    }
    any = __syncthreads_or(any);
    weighted_sum(a.part_du, weights, a.x, b, tile, from, to, any, R, a.S, C);
}

// launch: grid [R C / 32, B], block 512, shared 512 floats
KERNEL_ENTRY void global_attention_bwd_du(const Backward a) {
    contract(blockDim.x == 512 && static_cast<int>(gridDim.y) == a.B);
    SHARED_DYN(float, scratch);
    const long long columns = static_cast<long long>(a.G) * a.H * a.H * a.D, b = blockIdx.y;
    const long long column = static_cast<long long>(blockIdx.x) * WARP + lane_index();
    const float total = column_sum(a.part_du + b * a.P * columns, a.P, columns, column, scratch);
    if (warp_index() == 0 && column < columns) a.du[b * columns + column] = total;
}

// launch: grid [C / 128, S / 16, B], block 128, shared 2 * 16 * 16 floats
KERNEL_ENTRY void global_attention_bwd_dx(const Backward a) {
    contract(blockDim.x == 128 && static_cast<int>(gridDim.y) == CEIL_DIV(a.S, TOKENS));
    SHARED_DYN(float, p_tile);
    float* ds_tile = p_tile + ROWS * TOKENS;
    const int R = a.G * a.H, C = a.H * a.D, c = blockIdx.x * blockDim.x + threadIdx.x, first = blockIdx.y * TOKENS;
    const long long b = blockIdx.z;
    float sum[TOKENS] = {};
    for (int first_row = 0; first_row < R; first_row += ROWS) {
        for (int i = threadIdx.x; i < ROWS * TOKENS; i += blockDim.x) {
            const long long row = b * R + first_row + i / TOKENS, s = first + i % TOKENS;
            const bool inside = first_row + i / TOKENS < R && s < a.S;
            const float p = inside ? probability(a.scores[row * a.S + s], a.lse[row]) : 0.0f;
            p_tile[i] = p;
            ds_tile[i] = inside ? p * (a.dp[row * a.S + s] - a.mean[row]) : 0.0f;
        }
        __syncthreads();
        const int count = c < C ? min(ROWS, R - first_row) : 0;
#pragma unroll 4
        for (int r = 0; r < count; r++) {
            const long long at = (b * R + first_row + r) * C + c;
            const float dz_c = a.dz[at], u_c = a.u[at];
#pragma unroll
            for (int t = 0; t < TOKENS; t += 4) {
                float p[4], ds[4];
                load(p, p_tile + r * TOKENS + t);
                load(ds, ds_tile + r * TOKENS + t);
                for (int j = 0; j < 4; j++) sum[t + j] += p[j] * dz_c + ds[j] * u_c;
            }
        }
        __syncthreads();
    }
    if (c >= C) return;
    real* dx_column = a.dx + (b * a.S + first) * C + c;
    // All loads before the first store, which they would wait for.
    if (a.add_x) {
#pragma unroll
        for (int t = 0; t < TOKENS; t++)
            if (first + t < a.S) sum[t] += to_float(dx_column[static_cast<long long>(t) * C]);
    }
#pragma unroll
    for (int t = 0; t < TOKENS; t++)
        if (first + t < a.S) put(dx_column + static_cast<long long>(t) * C, sum[t]);
}

// A block has an output channel of the projections: its row of dWk and of dWv, and its element of dbv and of each dq.
// launch: grid [C], block 128, shared 0
KERNEL_ENTRY void global_attention_bwd_weights(const Backward a) {
    contract(blockDim.x == 128 && static_cast<int>(gridDim.x) == a.H * a.D);
    const int C = a.H * a.D, queries = a.B * a.G, channel = blockIdx.x, thread = static_cast<int>(threadIdx.x);
    const long long h = channel / a.D, weight_row = static_cast<long long>(channel) * C;
    for (int query = warp_index(); a.dq != nullptr && query < queries; query += warps_of_block()) {
        const float sum = a.scale * project(a.du, a.wk, query, channel, a.H, C, a.D);
        if (lane_index() == 0) put_or_add(a.dq + static_cast<long long>(query) * C + channel, sum, a.add_q);
    }
    if (a.dbv != nullptr && warp_index() == warps_of_block() - 1) {
        float sum = 0.0f;
        for (int query = lane_index(); query < queries; query += WARP)
            sum += to_float(a.d_o[static_cast<long long>(query) * C + channel]);
        sum = warp_sum(sum);
        if (lane_index() == 0) put_or_add(a.dbv + channel, sum, a.add_bv);
    }
    if (a.dwk == nullptr && a.dwv == nullptr) return;
    const bool whole = C % VECTOR == 0 && aligned_for<VECTOR>(a.z, a.du, a.dwk, a.dwv);
    for (int c = thread * VECTOR; c < C; c += 128 * VECTOR) {
        float dk[4] = {}, dv[4] = {};
#pragma unroll 2
        for (long long query = 0; query < queries; query++) {
            const float left_k = a.scale * to_float(a.q[query * C + channel]);
            const float left_v = to_float(a.d_o[query * C + channel]);
            float du_c[4], z_c[4];
            fetch(du_c, a.du + (query * a.H + h) * C + c, C - c, whole);
            fetch(z_c, a.z + (query * a.H + h) * C + c, C - c, whole);
            for (int j = 0; j < 4; j++) dk[j] += left_k * du_c[j], dv[j] += left_v * z_c[j];
        }
        if (a.dwk != nullptr) put_or_add(a.dwk + weight_row + c, dk, C - c, whole, a.add_wk);
        if (a.dwv != nullptr) put_or_add(a.dwv + weight_row + c, dv, C - c, whole, a.add_wv);
    }
}
