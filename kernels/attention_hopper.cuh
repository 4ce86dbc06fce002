// The attention engine on compute capability 9.0: that of attention.cuh, with products of warpgroups (wgmma). bf16.
//
// Tiles come through the ring of attention_hopper_ring.cuh. Rows lie in registers for the whole walk, as operands of the
// products; so do probabilities. A block takes one tile of rows after the other, and loads for the next one while this one
// ends.
//   attend_hopper   as attend: while the scores of a tile become probabilities, those of the one before are multiplied
// Every sum has one order, whoever is first.
#pragma once

#include "attention_hopper_ring.cuh"

#ifdef WATTENTION_HOPPER

// A warpgroup's rows of a tile of rows, the first of this warp's, and which of two lists of columns they have.
struct GroupRows {
    int first, last, warp_first;
    bool any;
    int list;
};

DEVICE GroupRows group_rows(const RowTile& rows, int list = 0) {
    const int group = warpgroup_index() * SQUARE, warp = static_cast<int>(threadIdx.x) / WARP * 16;
    const int last = rows.first + min(rows.count, group + SQUARE) - 1;
    return {rows.first + group, last, rows.first + warp, group < rows.count, list};
}

// The columns of a stage as they enter those rows.
DEVICE Columns<SQUARE> columns_of(const Staged& staged, const GroupRows& rows) {
    Columns<SQUARE> tile = staged.tile;
    if (rows.list) tile.weight = tile.second_weight;
    return tile;
}

// A head's rows as operands of a product, row g and g + 8 of the warp's 16 in each lane; zeros where there is no row.
template <int D>
DEVICE void load_operand(unsigned (&x)[D / 16][4], const Head& head, const RowTile& rows) {
    const int row = static_cast<int>(threadIdx.x) / WARP * 16 + lane_row();
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int position = position_of(head, rows.first, rows.gathered, rows.count, row + 8 * i);
        const real* from = at_position(head, max(position, 0));
#pragma unroll
        for (int k = 0; k < D / 8; k++) {
            const int column = k * 8 + lane_column();
            unsigned pair = 0;
            if (position >= 0 && head.aligned) {
                if (column < head.d) pair = *reinterpret_cast<const unsigned*>(from + column);
            } else if (position >= 0) {
                const float low = column < head.d ? to_float(from[column]) : 0.0f;
                pair = pack_bf16(low, column + 1 < head.d ? to_float(from[column + 1]) : 0.0f);
            }
            x[k / 2][k % 2 * 2 + i] = pair;
        }
    }
}

// Starts s = a b^T for a tile b of a stage.
template <int D>
DEVICE void put_scores(float (&s)[8][4], const unsigned (&a)[D / 16][4], const unsigned char* tile) {
#pragma unroll
    for (int panel = 0; panel < D / 64; panel++) {
        const Descriptor b = descriptor_of(tile + panel * PANEL);
#pragma unroll
        for (int k = 0; k < 4; k++) wgmma<false>(s, a[panel * 4 + k], b + k * NEXT_COLUMNS, panel + k > 0);
    }
}

// The same for rows a in shared memory.
template <int D>
DEVICE void put_scores(float (&s)[8][4], const unsigned char* rows, const unsigned char* tile) {
#pragma unroll
    for (int panel = 0; panel < D / 64; panel++) {
        const Descriptor a = descriptor_of(rows + panel * PANEL), b = descriptor_of(tile + panel * PANEL);
#pragma unroll
        for (int k = 0; k < 4; k++) wgmma<false>(s, a + k * NEXT_COLUMNS, b + k * NEXT_COLUMNS, panel + k > 0);
    }
}

// Starts o += p b.
template <int D>
DEVICE void put_sums(float (&o)[D / 64][8][4], const unsigned (&p)[4][4], const unsigned char* tile) {
#pragma unroll
    for (int panel = 0; panel < D / 64; panel++) {
        const Descriptor b = descriptor_of(tile + panel * PANEL);
#pragma unroll
        for (int k = 0; k < 4; k++) wgmma<true>(o[panel], p[k], b + k * NEXT_ROWS, true);
    }
}

// Two neighbouring pieces of s are one operand as they lie.
DEVICE void make_operand(unsigned (&p)[4][4], const float (&s)[8][4]) {
#pragma unroll
    for (int i = 0; i < 16; i++) {
        const float* pair = &s[i / 4 * 2 + i % 4 / 2][i % 2 * 2];
        p[i / 4][i % 4] = pack_bf16(pair[0], pair[1]);
    }
}

template <int D>
DEVICE void clear(float (&o)[D / 64][8][4]) {
#pragma unroll
    for (int i = 0; i < D / 2; i++) o[i / 32][i / 4 % 8][i % 4] = 0.0f;
}

template <int D>
DEVICE void scale_rows(float (&o)[D / 64][8][4], const float (&factor)[2]) {
#pragma unroll
    for (int i = 0; i < D / 2; i++) o[i / 32][i / 4 % 8][i % 4] *= factor[i / 2 % 2];
}

// Gives -inf to the scores that rows do not see.
DEVICE void mask_square(float (&s)[8][4], const Columns<SQUARE>& tile, int first) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const Bits<SQUARE> seen = seen_by(tile, first + 8 * i + lane_row()) >> lane_column();
#pragma unroll
        for (int n = 0; n < SQUARE / 4; n++) {
            float& score = s[n / 2][i * 2 + n % 2];
            score = seen >> (n / 2 * 8 + n % 2) & 1 ? score : -INFINITY;
        }
    }
}

// Takes one more stage of a walk that has not ended: its number if the warpgroup's rows see something of its tile. Else
// -1, and the warp is through with it.
template <int D>
DEVICE int take_stage(Ring<D>& ring, bool& ended, const GroupRows& rows) {
    if (ended) return -1;
    const int stage = stage_of(ring);
    mbarrier_wait(full_at(ring, stage), parity_of(ring));
    const Columns<SQUARE> tile = columns_of(staged_at(ring, stage), rows);
    ended = staged_at(ring, stage).last;
    ring.turn++;
    const bool seen = tile.seen && tile.weight != -INFINITY && touches(tile, rows.first, rows.last);
    if (rows.any && seen) return stage;
    arrive_as_warp(empty_at(ring, stage));
    return -1;
}

// The next stage of which the rows see something, -1 where the walk ends before.
template <int D>
DEVICE int find_stage(Ring<D>& ring, bool& ended, const GroupRows& rows) {
    int stage = -1;
    while (stage < 0 && !ended) stage = take_stage(ring, ended, rows);
    return stage;
}

// The maximum, the sum and what happens to earlier sums, of two rows in each lane.
struct Running {
    float most[2], sum[2], decay[2];
};

// s becomes probabilities, before dropout divided by their sum.
template <bool DROPS>
DEVICE void to_probabilities(
    float (&s)[8][4], Running& running, const Columns<SQUARE>& tile, const GroupRows& rows, const Kept& kept,
    float scale_2) {
    if (cuts(tile, rows.warp_first, min(rows.last, rows.warp_first + 15))) mask_square(s, tile, rows.warp_first);
    Bits<SQUARE> bits[1][2];
    if (DROPS) kept_of_queries<1, SQUARE>(bits, kept, tile, rows.warp_first);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float top = -INFINITY;
#pragma unroll
        for (int n = 0; n < 8; n++) top = fmaxf(top, fmaxf(s[n][2 * i], s[n][2 * i + 1]));
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 1));
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 2));
        top = fmaxf(running.most[i], fmaf(top, scale_2, tile.weight));
        // A row that has seen nothing yet has no maximum: -inf - -inf would be NaN.
        const float shift = top == -INFINITY ? 0.0f : top;
        running.decay[i] = exp2_of(running.most[i] - shift);
        running.most[i] = top;
        float total = 0.0f;
#pragma unroll
        for (int n = 0; n < 16; n++) {
            float& p = s[n / 2][2 * i + n % 2];
            p = exp2_of(fmaf(p, scale_2, tile.weight - shift));
            total += p;
            if (DROPS) p *= kept_factor<SQUARE>(kept, bits[0][i], n / 2, n % 2);
        }
        running.sum[i] = fmaf(running.sum[i], running.decay[i], total);
    }
}

// Adds the tiles of a walk over keys to o and running.
template <int D, bool DROPS>
DEVICE void attend_hopper(
    float (&o)[D / 64][8][4], Running& running, Ring<D>& ring, const Head& q, const RowTile& tile_rows,
    const Kept& kept, float scale, int list = 0) {
    const float scale_2 = scale * LOG2_E;
    const GroupRows rows = group_rows(tile_rows, list);
    unsigned query[D / 16][4], p[4][4];
    float s[8][4];
    load_operand<D>(query, q, tile_rows);
    clear<D>(o);
#pragma unroll
    for (int i = 0; i < 2; i++) running.most[i] = -INFINITY, running.sum[i] = 0.0f;
    // A stage is held while the next one is waited for, but no longer: those who load wait for it in turn.
    for (bool ended = false;;) {
        int stage = find_stage(ring, ended, rows);
        if (stage < 0) break;
        wgmma_fence();
        put_scores<D>(s, query, tile_at(ring, stage, 0));
        wgmma_commit();
        wgmma_wait<0>();
        to_probabilities<DROPS>(s, running, columns_of(staged_at(ring, stage), rows), rows, kept, scale_2);
        scale_rows<D>(o, running.decay);
        make_operand(p, s);
        int before = stage;
        while ((stage = take_stage(ring, ended, rows)) >= 0) {
            wgmma_fence();
            put_scores<D>(s, query, tile_at(ring, stage, 0));
            wgmma_commit();
            put_sums<D>(o, p, tile_at(ring, before, 1));
            wgmma_commit();
            wgmma_wait<1>();
            to_probabilities<DROPS>(s, running, columns_of(staged_at(ring, stage), rows), rows, kept, scale_2);
            wgmma_wait<0>();
            arrive_as_warp(empty_at(ring, before));
            scale_rows<D>(o, running.decay);
            make_operand(p, s);
            before = stage;
        }
        wgmma_fence();
        put_sums<D>(o, p, tile_at(ring, before, 1));
        wgmma_commit();
        wgmma_wait<0>();
        arrive_as_warp(empty_at(ring, before));
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        running.sum[i] += __shfl_xor_sync(ALL_LANES, running.sum[i], 1);
        running.sum[i] += __shfl_xor_sync(ALL_LANES, running.sum[i], 2);
    }
}

// Two rows of a lane at `to`, a panel after the other, as put_row.
template <int D, class T>
DEVICE void put_panels(T* to, const float (&x)[D / 64][8][4], int half, float factor, int d, int accumulate) {
#pragma unroll
    for (int panel = 0; panel < D / 64; panel++)
        put_row(to + panel * 64, x[panel], half, factor, d - panel * 64, accumulate);
}

// As put_attended.
template <int D>
DEVICE void put_attended_hopper(
    real* o, float* lse, const Head& q, const RowTile& rows, const Counted& takes_part,
    const float (&sums)[D / 64][8][4], const Running& running) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = static_cast<int>(threadIdx.x) / WARP * 16 + 8 * i + lane_row(), row = rows.first + r;
        if (r >= rows.count) continue;
        const float total = running.sum[i];
        // A NaN sum is passed on, so that a broken model shows.
        const bool seen = total != 0.0f && counts(takes_part, row);
        real* to = o + static_cast<long long>(row) * q.stride;
        put_panels<D>(to, sums, i, seen ? 1.0f / total : 0.0f, q.d, 0);
        if (lane_column() == 0) lse[row] = seen ? (running.most[i] + log2f(total)) * LN_2 : -INFINITY;
    }
}

#endif
