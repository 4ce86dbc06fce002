// The passes of the backward on compute capability 9.0, as queries_backward and keys_backward of attention.cuh. What
// stays lies in registers, and so do probabilities and their gradients, as operands of products. With heads of 128 the
// sums take the registers of what stays: that lies behind the ring.
#pragma once

#include "attention_hopper.cuh"

// Warpgroups that compute, and their rows together.
constexpr int BACKWARD_GROUPS = 2;
constexpr int BACKWARD_ROWS = HOPPER_ROWS<BACKWARD_GROUPS>;

#ifdef WATTENTION_HOPPER

// A warpgroup's rows of one tensor, the left operand of products.
template <int D>
struct Staying {
    unsigned x[D / 16][4];
};
template <>
struct Staying<128> {
    const unsigned char* x;
};

// Where the ring and its barriers end, and tiles can begin.
template <int D>
constexpr int RING_END =
    CEIL_DIV(RING_BYTES<D> + STAGES * (sizeof(Staged) + 2 * sizeof(Barrier)), SWIZZLE_PERIOD) * SWIZZLE_PERIOD;

// Rows of this warpgroup as columns of a tile, for they are loaded like those.
DEVICE Columns<SQUARE> staying_columns(const RowTile& rows, const Head& head) {
    const int group = warpgroup_index() * SQUARE, first = rows.first + group;
    const int end = rows.gathered ? rows.first + rows.count : min(rows.first + rows.count, head.end);
    const Counted listed = rows.gathered ? Counted{rows.gathered, -1, false} : all_count();
    Ahead<SQUARE> ahead;
    look_ahead(ahead, listed, first, end);
    return {first, rows.gathered, SQUARE, -FAR, FAR, counted_bits(ahead, listed, first, end), 0.0f};
}

// A warpgroup's rows of two tensors. Those in registers have no use for the ring.
template <int D>
DEVICE void load_staying(
    Staying<D>& first, Staying<D>& second, const Ring<D>& ring, const Pair& pair, const RowTile& rows) {
    if constexpr (D == 128) {
        const int group = warpgroup_index();
        unsigned char* tiles = ring.shared + RING_END<D> + group * 2 * TILE_BYTES<D>;
        const Columns<SQUARE> columns = staying_columns(rows, pair.first);
        // The products of the rows before have ended in all warps.
        named_barrier_sync(1 + group, WARPGROUP);
        load_swizzled<D>(tiles, pair.first, columns);
        load_swizzled<D>(tiles + TILE_BYTES<D>, second_of(pair), columns);
        cp_async_commit();
        cp_async_wait<0>();
        fence_proxy_async();
        named_barrier_sync(1 + group, WARPGROUP);
        first.x = tiles, second.x = tiles + TILE_BYTES<D>;
    } else {
        load_operand<D>(first.x, pair.first, rows);
        load_operand<D>(second.x, second_of(pair), rows);
    }
}

// dq = sum over the tiles of a walk over keys of ds k, not scaled; lse_delta is that of the head.
template <int D, bool DROPS>
DEVICE void queries_backward_hopper(
    float (&dq)[D / 64][8][4], Ring<D>& ring, const Pair& q_and_d_o, const float* lse_delta,
    const RowTile& tile_rows, const Kept& kept, float scale, int list = 0) {
    const float scale_2 = scale * LOG2_E;
    const GroupRows rows = group_rows(tile_rows, list);
    Staying<D> query, upstream;
    unsigned ds[4][4];
    float s[8][4], dp[8][4], lse_2[2], row_delta[2];
    load_staying<D>(query, upstream, ring, q_and_d_o, tile_rows);
    clear<D>(dq);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = static_cast<int>(threadIdx.x) / WARP * 16 + 8 * i + lane_row();
        const float2 saved = saved_of(lse_delta, tile_rows, r);
        lse_2[i] = saved.x, row_delta[i] = saved.y;
    }
    int stage;
    for (bool ended = false; (stage = find_stage(ring, ended, rows)) >= 0;) {
        wgmma_fence();
        put_scores<D>(s, query.x, tile_at(ring, stage, 0));
        wgmma_commit();
        put_scores<D>(dp, upstream.x, tile_at(ring, stage, 1));
        wgmma_commit();
        wgmma_wait<1>();
        const Columns<SQUARE> tile = columns_of(staged_at(ring, stage), rows);
        if (cuts(tile, rows.warp_first, min(rows.last, rows.warp_first + 15))) mask_square(s, tile, rows.warp_first);
        Bits<SQUARE> bits[1][2];
        if (DROPS) kept_of_queries<1, SQUARE>(bits, kept, tile, rows.warp_first);
#pragma unroll
        for (int i = 0; i < 32; i++) {
            float& p = s[i / 4][i % 4];
            p = exp2_of(fmaf(p, scale_2, tile.weight - lse_2[i / 2 % 2]));
        }
        wgmma_wait<0>();
#pragma unroll
        for (int i = 0; i < 32; i++) {
            const float factor = DROPS ? kept_factor<SQUARE>(kept, bits[0][i / 2 % 2], i / 4, i % 2) : 1.0f;
            s[i / 4][i % 4] *= fmaf(dp[i / 4][i % 4], factor, -row_delta[i / 2 % 2]);
        }
        make_operand(ds, s);
        wgmma_fence();
        put_sums<D>(dq, ds, tile_at(ring, stage, 0));
        wgmma_commit();
        wgmma_wait<0>();
        arrive_as_warp(empty_at(ring, stage));
    }
}

// lse_delta of a lane's two columns of piece n of the scores.
DEVICE float4 numbers_of(const Staged& staged, int n) {
    return *reinterpret_cast<const float4*>(staged.lse_delta + 2 * (n * 8 + lane_column()));
}

// dk, not scaled, and dv, sums over the tiles of a walk over queries.
template <int D, bool DROPS>
DEVICE void keys_backward_hopper(
    float (&dk)[D / 64][8][4], float (&dv)[D / 64][8][4], Ring<D>& ring, const Pair& k_and_v,
    const RowTile& tile_rows, const Kept& kept, float scale, int list = 0) {
    const float scale_2 = scale * LOG2_E;
    const GroupRows rows = group_rows(tile_rows, list);
    Staying<D> key, value;
    unsigned p[4][4], ds[4][4];
    float s[8][4], dp[8][4];
    load_staying<D>(key, value, ring, k_and_v, tile_rows);
    clear<D>(dk);
    clear<D>(dv);
    Bits<SQUARE> bits[2];
    const auto draw = [&](const Columns<SQUARE>& tile) {
        const int count = tile_rows.count - (rows.warp_first - tile_rows.first);
        kept_of_keys<SQUARE>(bits, kept, tile, rows.warp_first, tile_rows.gathered, count);
    };
    int stage;
    for (bool ended = false; (stage = find_stage(ring, ended, rows)) >= 0;) {
        // Before there are scores, for with them the sums of large heads leave it no registers.
        if (DROPS && D == 128) draw(columns_of(staged_at(ring, stage), rows));
        wgmma_fence();
        put_scores<D>(s, key.x, tile_at(ring, stage, 0));
        wgmma_commit();
        put_scores<D>(dp, value.x, tile_at(ring, stage, 1));
        wgmma_commit();
        wgmma_wait<1>();
        const Staged& staged = staged_at(ring, stage);
        const Columns<SQUARE> tile = columns_of(staged, rows);
        if (cuts(tile, rows.warp_first, min(rows.last, rows.warp_first + 15))) mask_square(s, tile, rows.warp_first);
        if (DROPS && D < 128) draw(tile);
#pragma unroll
        for (int n = 0; n < 8; n++) {
            const float4 of = numbers_of(staged, n);
            const float shift[2] = {tile.weight - of.x, tile.weight - of.z};
#pragma unroll
            for (int e = 0; e < 4; e++) s[n][e] = exp2_of(fmaf(s[n][e], scale_2, shift[e % 2]));
        }
        if (!DROPS && D < 128) make_operand(p, s);
        wgmma_wait<0>();
#pragma unroll
        for (int n = 0; n < 8; n++) {
            const float4 of = numbers_of(staged, n);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float factor = DROPS ? kept_factor<SQUARE>(kept, bits[e / 2], n, e % 2) : 1.0f;
                const float probability = s[n][e];
                dp[n][e] = probability * fmaf(dp[n][e], factor, -(e % 2 ? of.w : of.y));
                if (DROPS) s[n][e] = probability * factor;
            }
        }
        if (DROPS || D == 128) make_operand(p, s);
        make_operand(ds, dp);
        wgmma_fence();
        put_sums<D>(dv, p, tile_at(ring, stage, 1));
        put_sums<D>(dk, ds, tile_at(ring, stage, 0));
        wgmma_commit();
        wgmma_wait<0>();
        arrive_as_warp(empty_at(ring, stage));
    }
}

// As put_gradient.
template <int D>
DEVICE void put_gradient_hopper(
    real* dx, const Head& like, const RowTile& rows, const Counted& written, const Counted& takes_part, int end,
    const float (&x)[D / 64][8][4], float factor, int accumulate) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = static_cast<int>(threadIdx.x) / WARP * 16 + 8 * i + lane_row(), row = rows.first + r;
        if (r >= rows.count || !counts(written, row)) continue;
        const bool on = row < end && counts(takes_part, row);
        put_panels<D>(dx + static_cast<long long>(row) * like.stride, x, i, on ? factor : 0.0f, like.d, accumulate);
    }
}

// The sums of a tile of listed keys over some queries; `to` is [entries, 2, d], dk before dv.
template <int D>
DEVICE void put_partial_hopper(
    float* to, const RowTile& rows, int d, const float (&dk)[D / 64][8][4], const float (&dv)[D / 64][8][4]) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = static_cast<int>(threadIdx.x) / WARP * 16 + 8 * i + lane_row();
        if (r >= rows.count) continue;
        float* row = to + (rows.first + r) * 2ll * d;
        put_panels<D>(row, dk, i, 1.0f, d, 0);
        put_panels<D>(row + d, dv, i, 1.0f, d, 0);
    }
}

#endif
