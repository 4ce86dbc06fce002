// The attention engine: o = softmax(scale q k^T over a pattern) v for one tile of rows of one head.
//
// Online softmax in base 2 (scale log2 e folded into one FMA), scores never stored (Dao 2023, arXiv 2307.08691). A
// pattern is a walk over the columns of a tile of rows: tiles outside it are never loaded, warps skip those outside
// their own rows, and only the tiles it cuts are masked. Two stages of columns: one is worked on while the next lands.
//   attend             rows are queries: sums p v, the running maximum and the sum of p
//   queries_backward   rows are queries: dq = scale sum_j ds k, with ds = p (dropout(do v^T) - delta)
//   keys_backward      rows are keys: dv = sum_i dropout(p)^T do, dk = scale sum_i ds^T q
// p is computed again from lse. delta = rowsum(do o) comes first, in a pass of its own, which stores lse in base 2
// beside it: lse_delta [B, H, T, 2]. Every sum has one order.
// Each is compiled with dropout and without where registers allow (Drops): a block decides once.
#pragma once

#include "attention_stages.cuh"

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.69314718055994531f;
// The maximum of a row that has seen nothing yet: with -inf in its place, -inf - -inf would be NaN.
constexpr float LEAST = -3.0e38f;

// Rows of a tile that M 16-row groups in each warp make.
template <int M>
constexpr int ROWS = WARPS * 16 * M;

// The columns of a tile by head size, as src/ops/attention/tile.rs, which says why: KEYS in the forward.
#ifdef WATTENTION_BF16
template <int D>
constexpr int KEYS = 64;
template <int D>
constexpr int COLUMNS = D <= 64 ? 64 : 32;
#else
template <int D>
constexpr int KEYS = 32;
template <int D>
constexpr int COLUMNS = D <= 64 ? 32 : 16;
#endif

// The columns of a tile of a list, which is often short: as few as a product takes and all threads copy.
template <int D>
constexpr int LISTED = D * 16 >= THREADS * PER_LOAD ? 16 : THREADS * PER_LOAD / D;

// Sets all elements.
template <int M, int N>
DEVICE void fill(float (&x)[M][N][4], float value) {
#pragma unroll
    for (int i = 0; i < M * N * 4; i++) x[i / (N * 4)][i / 4 % N][i % 4] = value;
}

// Gives -inf to the scores that bits leave out; bit 8 n + e is that of column 8 n + e.
template <int M, int N>
DEVICE void mask_scores(float (&s)[M][N / 8][4], const Columns<N>& tile, int first) {
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const Bits<N> seen = seen_by(tile, first + 8 * i + lane_row()) >> lane_column();
#pragma unroll
        for (int n = 0; n < N / 4; n++) {
            const bool one = seen >> (n / 2 * 8 + n % 2) & 1;
            float& score = s[i / 2][n / 2][i % 2 * 2 + n % 2];
            score = one ? score : -INFINITY;
        }
    }
}

// The dropout factor of element e of piece n.
template <int N>
DEVICE float kept_factor(const Kept& kept, Bits<N> bits, int n, int e) {
    return bits >> (8 * n + e) & 1 ? kept.dropout.scale : 0.0f;
}

// Two groups of rows leave no registers for what dropout draws, and their launches have none; nor does a head size of
// 128 for keys and values leave some for two forms of the loop.
template <int M>
constexpr Drops FORWARD_DROPS = M == 1 ? Drops::APART : Drops::NEVER;
template <int D>
constexpr Drops KEYS_DROPS = D <= 64 ? Drops::APART : Drops::LOOK;

// The tile of rows that a block works on: positions, or entries of the list `gathered`.
struct RowTile {
    int first;
    int count;
    const int* gathered;
};

// Adds the tiles of `keys` to o, most and sum of online softmax; shared: ROWS rows of q, then twice N of k and v.
template <int D, int M, int N, bool DROPS, class Keys>
DEVICE void attend(
    float (&o)[M][D / 8][4], float (&most)[M][2], float (&sum)[M][2], const Head& q, const Head& k, const Head& v,
    const RowTile& rows, Keys& keys, const Kept& kept, float scale, real* shared) {
    const float scale_2 = scale * LOG2_E;
    const int warp_row = threadIdx.x / WARP * 16 * M, first = rows.first + warp_row;
    const int last = rows.first + min(rows.count, warp_row + 16 * M) - 1;
    const bool any_rows = warp_row < rows.count;
    fill(o, 0.0f);
#pragma unroll
    for (int i = 0; i < 2 * M; i++) most[i / 2][i % 2] = LEAST, sum[i / 2][i % 2] = 0.0f;

    const auto step = [&](const auto& tile, const real* k_tile) {
        constexpr int W = decltype(width_of(tile))::value;
        if (!any_rows || !touches(tile, first, last)) return;
        float s[M][W / 8][4];
        fill(s, 0.0f);
        multiply_transposed<D, M, W>(s, shared + warp_row * PITCH<D>, k_tile);
        if (cuts(tile, first, last)) mask_scores(s, tile, first);
        Bits<W> bits[M][2];
        const bool drops = DROPS && is_on(kept);
        if (drops) kept_of_queries<M, W>(bits, kept, tile, first);
#pragma unroll
        for (int i = 0; i < 2 * M; i++) {
            const int m = i / 2, half = i % 2 * 2;
            float top = s[m][0][half];
#pragma unroll
            for (int n = 1; n < W / 4; n++) top = fmaxf(top, s[m][n / 2][half + n % 2]);
            top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 1));
            top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 2));
            top = fmaxf(most[m][i % 2], fmaf(top, scale_2, tile.weight));
            const float decay = exp2_of(most[m][i % 2] - top);
            float total = 0.0f;
#pragma unroll
            for (int n = 0; n < W / 8; n++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float& p = s[m][n][half + e];
                    p = exp2_of(fmaf(p, scale_2, tile.weight - top));
                    total += p;
                    if (drops) p *= kept_factor<W>(kept, bits[m][i % 2], n, e);
                }
            }
            most[m][i % 2] = top;
            sum[m][i % 2] = fmaf(sum[m][i % 2], decay, total);
#pragma unroll
            for (int n = 0; n < D / 8; n++) o[m][n][half] *= decay, o[m][n][half + 1] *= decay;
        }
        multiply<D, M, W>(o, s, k_tile + W * PITCH<D>);
    };
    const auto start_rows = [&] { load_tile<D, ROWS<M>>(shared, q, rows.first, nullptr, rows.count); };
    const auto start = [&](real* stage, const auto& tile) { load_columns<D>(stage, k, v, tile); };
    each_tile<N>({shared + ROWS<M> * PITCH<D>, 2 * N * PITCH<D>, 0}, keys, start_rows, start, step);
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        float& total = sum[i / 2][i % 2];
        total += __shfl_xor_sync(ALL_LANES, total, 1);
        total += __shfl_xor_sync(ALL_LANES, total, 2);
    }
}

// lse in base 2 and delta of row r of a tile. 2^(s - inf) = 0: a row that saw nothing, or is none, has no gradient.
DEVICE float2 saved_of(const float* lse_delta, const RowTile& rows, int r) {
    if (r >= rows.count) return make_float2(INFINITY, 0.0f);
    return reinterpret_cast<const float2*>(lse_delta)[rows.first + r];
}

// dq = sum over the tiles of `keys` of ds k, not scaled; lse_delta is that of the head; shared: ROWS rows of q and of
// do, then twice N of k and v.
template <int D, int M, int N, bool DROPS, class Keys>
DEVICE void queries_backward(
    float (&dq)[M][D / 8][4], const Head& q, const Head& k, const Head& v, const Head& d_o,
    const float* lse_delta, const RowTile& rows, Keys& keys, const Kept& kept, float scale, real* shared) {
    const float scale_2 = scale * LOG2_E;
    const int warp_row = threadIdx.x / WARP * 16 * M, first = rows.first + warp_row;
    const int last = rows.first + min(rows.count, warp_row + 16 * M) - 1;
    const bool any_rows = warp_row < rows.count;
    real* d_o_tile = shared + ROWS<M> * PITCH<D>;
    fill(dq, 0.0f);
    float lse_2[M][2], row_delta[M][2];
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const float2 saved = saved_of(lse_delta, rows, warp_row + 8 * i + lane_row());
        lse_2[i / 2][i % 2] = saved.x, row_delta[i / 2][i % 2] = saved.y;
    }

    const auto step = [&](const auto& tile, const real* k_tile) {
        constexpr int W = decltype(width_of(tile))::value;
        if (!any_rows || !touches(tile, first, last)) return;
        float s[M][W / 8][4], dp[M][W / 8][4];
        fill(s, 0.0f);
        fill(dp, 0.0f);
        multiply_transposed<D, M, W>(s, shared + warp_row * PITCH<D>, k_tile);
        multiply_transposed<D, M, W>(dp, d_o_tile + warp_row * PITCH<D>, k_tile + W * PITCH<D>);
        if (cuts(tile, first, last)) mask_scores(s, tile, first);
        Bits<W> bits[M][2];
        const bool drops = DROPS && is_on(kept);
        if (drops) kept_of_queries<M, W>(bits, kept, tile, first);
#pragma unroll
        for (int i = 0; i < 2 * M; i++) {
            const int m = i / 2;
#pragma unroll
            for (int n = 0; n < W / 4; n++) {
                const int at = i % 2 * 2 + n % 2;
                const float p = exp2_of(fmaf(s[m][n / 2][at], scale_2, tile.weight - lse_2[m][i % 2]));
                const float factor = drops ? kept_factor<W>(kept, bits[m][i % 2], n / 2, n % 2) : 1.0f;
                s[m][n / 2][at] = p * fmaf(dp[m][n / 2][at], factor, -row_delta[m][i % 2]);
            }
        }
        multiply<D, M, W>(dq, s, k_tile);
    };
    const auto start_rows = [&] {
        load_tile<D, ROWS<M>>(shared, q, rows.first, nullptr, rows.count);
        load_tile<D, ROWS<M>>(d_o_tile, d_o, rows.first, nullptr, rows.count);
    };
    const auto start = [&](real* stage, const auto& tile) { load_columns<D>(stage, k, v, tile); };
    each_tile<N>({d_o_tile + ROWS<M> * PITCH<D>, 2 * N * PITCH<D>, 0}, keys, start_rows, start, step);
}

// Starts loading queries and their do, and into the padding of the queries' rows lse_delta.
template <int D, int N>
DEVICE void load_queries(
    real* stage, const Head& q, const Head& d_o, const float* lse_delta, const Columns<N>& tile) {
    load_columns<D>(stage, q, d_o, tile);
    load_row_numbers<D, N>(stage, lse_delta, tile.first, tile.seen);
}

// dk, not scaled, and dv, sums over the tiles of `queries`; shared: ROWS rows of k and of v, then twice N of q and do.
template <int D, int N, bool DROPS, class Queries>
DEVICE void keys_backward(
    float (&dk)[1][D / 8][4], float (&dv)[1][D / 8][4], const Head& q, const Head& k, const Head& v, const Head& d_o,
    const float* lse_delta, const RowTile& rows, Queries& queries, const Kept& kept, float scale,
    real* shared) {
    const float scale_2 = scale * LOG2_E;
    const int warp_row = threadIdx.x / WARP * 16, first = rows.first + warp_row;
    const int last = rows.first + min(rows.count, warp_row + 16) - 1;
    const bool any_rows = warp_row < rows.count;
    real* v_tile = shared + ROWS<1> * PITCH<D>;
    fill(dk, 0.0f);
    fill(dv, 0.0f);

    const auto step = [&](const auto& tile, real* q_tile) {
        if (!any_rows || !touches(tile, first, last)) return;
        real* d_o_tile = q_tile + N * PITCH<D>;
        float s[1][N / 8][4], dp[1][N / 8][4];
        fill(s, 0.0f);
        fill(dp, 0.0f);
        multiply_transposed<D, 1, N>(s, shared + warp_row * PITCH<D>, q_tile);
        multiply_transposed<D, 1, N>(dp, v_tile + warp_row * PITCH<D>, d_o_tile);
        if (cuts(tile, first, last)) mask_scores(s, tile, first);
        Bits<N> bits[2];
        const bool drops = DROPS && is_on(kept);
        if (drops) kept_of_keys<N>(bits, kept, tile, first, rows.gathered, rows.count - warp_row);
#pragma unroll
        for (int n = 0; n < N / 8; n++) {
            // lse and delta of both columns; 0 where a query is not seen, whose scores are masked.
            const float4 of = *reinterpret_cast<const float4*>(row_numbers<D>(q_tile, n * 8 + lane_column()));
            const float shift[2] = {tile.weight - of.x, tile.weight - of.z}, d[2] = {of.y, of.w};
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float &score = s[0][n][e], &slope = dp[0][n][e];
                const float p = exp2_of(fmaf(score, scale_2, shift[e % 2]));
                const float factor = drops ? kept_factor<N>(kept, bits[e / 2], n, e % 2) : 1.0f;
                score = p * factor;
                slope = p * fmaf(slope, factor, -d[e % 2]);
            }
        }
        multiply<D, 1, N>(dv, s, d_o_tile);
        multiply<D, 1, N>(dk, dp, q_tile);
    };
    const auto start_rows = [&] {
        load_tile<D, ROWS<1>>(shared, k, rows.first, rows.gathered, rows.count);
        load_tile<D, ROWS<1>>(v_tile, v, rows.first, rows.gathered, rows.count);
    };
    const auto start = [&](real* stage, const auto& tile) { load_queries<D>(stage, q, d_o, lse_delta, tile); };
    each_tile<N>({v_tile + ROWS<1> * PITCH<D>, 2 * N * PITCH<D>, 0}, queries, start_rows, start, step);
}

DEVICE float2 pair_at(const float* p) { return *reinterpret_cast<const float2*>(p); }
DEVICE float2 pair_at(const __nv_bfloat16* p) {
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(p));
}
DEVICE void put_pair(float* p, float x, float y) { *reinterpret_cast<float2*>(p) = make_float2(x, y); }
DEVICE void put_pair(__nv_bfloat16* p, float x, float y) {
    *reinterpret_cast<__nv_bfloat162*>(p) = __floats2bfloat162_rn(x, y);
}

// Row 8 half + g of a lane's sums at `to`, times a factor, which 0 makes zeros; columns below d.
template <class T, int N>
DEVICE void put_row(T* to, const float (&x)[N][4], int half, float factor, int d, int accumulate) {
    float y[N][2];
#pragma unroll
    for (int i = 0; i < 2 * N; i++) y[i / 2][i % 2] = factor == 0.0f ? 0.0f : x[i / 2][half * 2 + i % 2] * factor;
    // Decided once, not column by column.
    if (d % 2 == 0 && reinterpret_cast<size_t>(to) % (2 * sizeof(T)) == 0) {
        if (accumulate) {
#pragma unroll
            for (int n = 0; n < N; n++) {
                const int column = n * 8 + lane_column();
                const float2 old = column < d ? pair_at(to + column) : make_float2(0.0f, 0.0f);
                y[n][0] += old.x, y[n][1] += old.y;
            }
        }
#pragma unroll
        for (int n = 0; n < N; n++) {
            const int column = n * 8 + lane_column();
            if (column < d) put_pair(to + column, y[n][0], y[n][1]);
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < 2 * N; i++) {
        const int column = i / 2 * 8 + lane_column() + i % 2;
        if (column < d) put_or_add(to + column, y[i / 2][i % 2], accumulate);
    }
}

// o = sum p v / sum p and its log-sum-exp; zeros and -inf in rows that saw nothing or take no part.
template <int D, int M>
DEVICE void put_attended(
    real* o, float* lse, const Head& q, const RowTile& rows, const Counted& takes_part,
    const float (&sums)[M][D / 8][4], const float (&most)[M][2], const float (&sum)[M][2]) {
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const int r = threadIdx.x / WARP * 16 * M + 8 * i + lane_row(), row = rows.first + r;
        if (r >= rows.count) continue;
        const float total = sum[i / 2][i % 2];
        // A NaN sum is passed on, so that a broken model shows.
        const bool seen = total != 0.0f && counts(takes_part, row);
        put_row(o + static_cast<long long>(row) * q.stride, sums[i / 2], i % 2, seen ? 1.0f / total : 0.0f, q.d, 0);
        if (lane_column() == 0) lse[row] = seen ? (most[i / 2][i % 2] + log2f(total)) * LN_2 : -INFINITY;
    }
}

// Joins what `parts` blocks found for one row: the maximum, the sum of p and the sums of p v, `next` floats from one
// part to the next. A warp's work; zeros where `on` is false. No lse is written without a place for it.
DEVICE void join_parts(real* o_row, float* lse, const float* part, long long next, int parts, int D, bool on) {
    float most = -INFINITY, total = 0.0f, sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int i = 0; i < parts; i++) most = fmaxf(most, part[i * next]);
    const float shift = most == -INFINITY ? 0.0f : most;
    for (int i = 0; i < parts; i++) {
        const float* row = part + i * next;
        const float decay = exp2_of(row[0] - shift);
        total = fmaf(row[1], decay, total);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int d = j * WARP + threadIdx.x % WARP;
            if (d < D) sums[j] = fmaf(row[2 + d], decay, sums[j]);
        }
    }
    const bool seen = on && total != 0.0f;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int d = j * WARP + threadIdx.x % WARP;
        if (d < D) put(o_row + d, seen ? sums[j] / total : 0.0f);
    }
    if (lse && threadIdx.x % WARP == 0) *lse = seen ? (most + log2f(total)) * LN_2 : -INFINITY;
}

// Zeroes the rows of a tile that do not count.
template <int M, int N>
DEVICE void clear_rows(float (&x)[M][N][4], const RowTile& rows, const Counted& counted) {
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const int r = threadIdx.x / WARP * 16 * M + 8 * i + lane_row();
        if (r < rows.count && counts(counted, rows.first + r)) continue;
#pragma unroll
        for (int n = 0; n < N; n++) x[i / 2][n][i % 2 * 2] = 0.0f, x[i / 2][n][i % 2 * 2 + 1] = 0.0f;
    }
}

// The rows of a gradient that `written` counts: x times factor, zero for rows that take no part.
template <int D, int M>
DEVICE void put_gradient(
    real* dx, const Head& like, const RowTile& rows, const Counted& written, const Counted& takes_part, int end,
    const float (&x)[M][D / 8][4], float factor, int accumulate) {
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const int r = threadIdx.x / WARP * 16 * M + 8 * i + lane_row(), row = rows.first + r;
        if (r >= rows.count || !counts(written, row)) continue;
        const bool on = row < end && counts(takes_part, row);
        real* to = dx + static_cast<long long>(row) * like.stride;
        put_row(to, x[i / 2], i % 2, on ? factor : 0.0f, like.d, accumulate);
    }
}

// lse_delta of the rows [B, T, H, D], delta = rowsum(do o), a quarter of a warp to each: a row of 64 in bf16 is one
// load a lane.
DEVICE void sum_products(
    float* lse_delta, const real* d_o, const real* o, const float* lse, int B, int H, int T, int D) {
    const long long row = blockIdx.x * static_cast<long long>(THREADS / 8) + threadIdx.x / 8;
    const bool valid = row < static_cast<long long>(B) * T * H, whole = D % WIDE == 0 && aligned_for<WIDE>(d_o, o);
    float sum = 0.0f;
    for (int d = threadIdx.x % 8 * WIDE; valid && d < D; d += 8 * WIDE) {
        float x[WIDE], y[WIDE];
        fetch(x, d_o + row * D + d, D - d, whole);
        fetch(y, o + row * D + d, D - d, whole);
        for (int j = 0; j < WIDE; j++) sum += x[j] * y[j];
    }
    for (int lane = 4; lane > 0; lane /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, lane);
    if (!valid || threadIdx.x % 8 != 0) return;
    const int h = row % H;
    const long long position = row / H, at = (position / T * H + h) * T + position % T;
    const float saved = lse[at];
    lse_delta[2 * at] = saved == -INFINITY ? INFINITY : saved * LOG2_E;
    lse_delta[2 * at + 1] = sum;
}
