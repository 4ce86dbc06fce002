// block_sparse_attention: o_i = sum_j softmax_j(scale q_i k_j + ln count) v_j over the key blocks that a table lists.
// Shapes: q k v o dq dk dv [B, S, H, D] in blocks of K, key_state [B, S] (0 masked), lse [B, H, S], lse_delta
// [B, H, S, 2]; row_ptr [H, S / K + 1], col and count list the key blocks of a query block; inverse_ the query blocks
// of a key block. Masked queries give zeros. Saved for backward: q, k, v, o, lse.
// A tile of rows never mixes two blocks: one list serves it and no pair is masked but for padding. Some lists are far
// longer than others: `work` [items, 4] (head and block, entries from and to, slot) cuts them into parts. A part writes
// what it finds to its slot of `partial`; a last pass joins them by `joins` [lists, 3] (head and block, first slot,
// parts).
// Also compiled with -DWATTENTION_TF32 and -DWATTENTION_TF32X3. Entries with `hopper` in their names are those of
// WATTENTION_ATTENTION=hopper: each of two warpgroups has a tile of rows, and what both see is loaded once.
// spills: block_sparse_attention_bwd_kv_d128 in tf32x3: a few bytes, for a sum of three products has two accumulators
#include "attention_hopper_lists.cuh"

// Rows that a block joins.
constexpr int JOINED = 16;

struct Forward {
    real* o;
    float *lse, *partial;
    const real *q, *k, *v;
    const int *key_state, *row_ptr, *col, *count, *work, *joins;
    int B, H, D, S, K, items;
    float scale;
};

struct Backward {
    real *dq, *dk, *dv;
    float *lse_delta, *partial;
    const real *d_o, *q, *k, *v, *o;
    const float* lse;
    const int *key_state, *row_ptr, *col, *count, *work, *joins;
    const int *inverse_row_ptr, *inverse_col, *inverse_count, *inverse_work, *inverse_joins;
    int B, H, D, S, K, items, inverse_items, add_q, add_k, add_v;
    float scale;
};

// A tile of rows of one block of one head of one sample, and entries of its list.
struct Place {
    int b, h;
    RowTile tile;
    long long head;
    Counted visible;
    int from, to, slot;
};

// lse_delta of its head.
DEVICE const float* lse_delta_of(const Backward& a, const Place& at) { return a.lse_delta + at.head * a.S * 2; }

// Tile `part` of a block's rows.
template <class Args>
DEVICE Place place_of(const Args& a, const int* work, int index, int b, int part) {
    const int n = a.S / a.K;
    const int* item = work + index * 4ll;
    const int h = item[0] / n, block = item[0] % n;
    const RowTile tile = {block * a.K + part * ROWS<1>, min(a.K - part * ROWS<1>, ROWS<1>), nullptr};
    const Counted visible = where_not_zero(a.key_state + static_cast<long long>(b) * a.S);
    return {b, h, tile, static_cast<long long>(b) * a.H + h, visible, item[1], item[2], item[3]};
}

template <class Args>
DEVICE Place place_of(const Args& a, const int* work) {
    const int tiles = CEIL_DIV(a.K, ROWS<1>), block = static_cast<int>(blockIdx.x);
    return place_of(a, work, block / (a.B * tiles), block / tiles % a.B, block % tiles);
}

// That head of x [B, S, H, D].
template <class Args>
DEVICE Head head_of(const Args& a, const real* x, const Place& at) {
    return head_of(x, at.b, at.h, a.S, a.H, a.D, a.S);
}

// The entries of a part; none where no row of its tile counts.
template <int N>
DEVICE Blocks<N> blocks_of(const Place& at, const Counted& counted, const int* col, const int* count, int K) {
    const bool any = any_counts<ROWS<1>>(at.visible, at.tile.first, at.tile.count);
    return blocks<N>(counted, col, count, at.from, any ? at.to : at.from, K);
}

// Row `i` of a block in the slot of a part, `width` floats; partial is [slots, B, K, width].
template <class Args>
DEVICE float* slot_row(const Args& a, int slot, int b, int i, int width) {
    return a.partial + ((static_cast<long long>(slot) * a.B + b) * a.K + i) * width;
}

// The rows of a tile in its slot, from float `offset` of each on.
template <int P, class Args>
DEVICE void put_part(
    const Args& a, const Place& at, const float (&x)[1][P / 8][4], float factor, int width, int offset) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = threadIdx.x / WARP * 16 + 8 * i + lane_row();
        float* row = slot_row(a, at.slot, at.b, at.tile.first % a.K + r, width);
        if (r < at.tile.count) put_row(row + offset, x[0], i, factor, a.D, 0);
    }
}

#ifdef WATTENTION_HOPPER

static_assert(ROWS<1> == SQUARE, "a warpgroup has the rows of a block of warps");

// What warpgroup `group` of this block works on: neighbours in the order of the items, whose lists are alike. Its rows
// are counted as those of the block's whole tile; there are none behind the last item.
template <class Args>
DEVICE Place group_place(const Args& a, const int* work, int items, int group) {
    const int tiles = CEIL_DIV(a.K, SQUARE), block = static_cast<int>(blockIdx.x), turn = block / a.B * LISTS + group;
    Place at = place_of(a, work, min(turn / tiles, items - 1), block % a.B, turn % tiles);
    if (turn >= items * tiles) at.tile.count = 0, at.to = at.from;
    at.tile.first -= group * SQUARE, at.tile.count += group * SQUARE;
    return at;
}

// Gives the ring the blocks that rows of both places see; those of two heads one after the other. pair_at(place) is what
// is loaded, counted_at(place) which of its positions count.
template <bool NUMBERS, int D, class Args, class PairAt, class CountedAt>
DEVICE void load_lists(
    Ring<D>& ring, const Args& a, const int* work, int items, const int* col, const int* count, PairAt pair_at,
    CountedAt counted_at) {
    const Place at[LISTS] = {group_place(a, work, items, 0), group_place(a, work, items, 1)};
    int to[LISTS];
#pragma unroll
    for (int list = 0; list < LISTS; list++) {
        const int first = list * SQUARE;
        const bool any = any_counts<SQUARE>(at[list].visible, at[list].tile.first + first, at[list].tile.count - first);
        to[list] = any ? at[list].to : at[list].from;
    }
    const bool together = at[0].h == at[1].h;
    for (int turn = together; turn < LISTS; turn++) {
        const int from[LISTS] = {together || turn == 0 ? at[0].from : to[0], turn == 1 ? at[1].from : to[1]};
        const Place of = turn == 0 ? at[0] : at[1];
        TwoLists<SQUARE> walk = two_lists<SQUARE>(counted_at(of), col, count, from, to, a.K);
        load_walk<NUMBERS>(ring, walk, pair_at(of), turn == 1);
    }
}

// Gives the ring the keys and values that rows of both warpgroups see.
template <int D, class Args>
DEVICE void load_keys(Ring<D>& ring, const Args& a, const Maps& maps) {
    load_lists<false>(
        ring, a, a.work, a.items, a.col, a.count,
        [&](const Place& at) { return mapped(pair_of(head_of(a, a.k, at), head_of(a, a.v, at)), maps, at.b, at.h); },
        [](const Place& at) { return at.visible; });
}

// As put_part, by a warpgroup; zeros in rows that `written` leaves out.
template <int D, class Args>
DEVICE void put_part_hopper(
    const Args& a, const Place& at, const Counted& written, const float (&x)[D / 64][8][4], float factor, int width,
    int offset) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = threadIdx.x / WARP * 16 + 8 * i + lane_row();
        if (r >= at.tile.count) continue;
        float* row = slot_row(a, at.slot, at.b, (at.tile.first + r) % a.K, width);
        put_panels<D>(row + offset, x, i, counts(written, at.tile.first + r) ? factor : 0.0f, a.D, 0);
    }
}

#endif

// A list to join: block (x, y) takes rows JOINED y on of one sample of list x / B.
struct Join {
    int b, h, first, slot, parts;
    // Position of row 0 of the block.
    long long position;
};

template <class Args>
DEVICE Join join_of(const Args& a, const int* joins) {
    const int n = a.S / a.K, b = blockIdx.x % a.B;
    const int* list = joins + blockIdx.x / a.B * 3ll;
    const int first = blockIdx.y * JOINED;
    return {b, list[0] / n, first, list[1], list[2], static_cast<long long>(b) * a.S + list[0] % n * a.K};
}

// dx of the rows of a list: its parts' sums, `width` floats a row and D of them from `offset` on.
DEVICE void join_gradient(const Backward& a, real* dx, const Join& at, int width, int offset, int accumulate) {
    const int rows = min(JOINED, a.K - at.first);
    for (int e = threadIdx.x; e < rows * a.D; e += THREADS) {
        const int i = at.first + e / a.D, d = e % a.D;
        float sum = 0.0f;
        for (int part = 0; part < at.parts; part++) sum += slot_row(a, at.slot + part, at.b, i, width)[offset + d];
        put_or_add(dx + ((at.position + i) * a.H + at.h) * a.D + d, sum, accumulate);
    }
}

template <int P>
DEVICE void forward(const Forward& a) {
    contract(blockDim.x == THREADS && a.D <= P && a.S % a.K == 0);
    SHARED_DYN(real, shared);
    constexpr int N = KEYS<P>;
    const Place at = place_of(a, a.work);
    const Head q = head_of(a, a.q, at);
    Blocks<N> keys = blocks_of<N>(at, at.visible, a.col, a.count, a.K);
    float sums[1][P / 8][4], most[1][2], sum[1][2];
    attend<P, 1, N, false>(
        sums, most, sum, q, head_of(a, a.k, at), head_of(a, a.v, at), at.tile, keys, no_dropout(), a.scale, shared);
    if (at.slot < 0) {
        put_attended<P, 1>(a.o + (q.x - a.q), a.lse + at.head * a.S, q, at.tile, at.visible, sums, most, sum);
        return;
    }
    put_part<P>(a, at, sums, 1.0f, a.D + 2, 2);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = threadIdx.x / WARP * 16 + 8 * i + lane_row();
        float* row = slot_row(a, at.slot, at.b, at.tile.first % a.K + r, a.D + 2);
        if (r < at.tile.count && lane_column() == 0) row[0] = most[0][i], row[1] = sum[0][i];
    }
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (64 + 4 * KEYS) rows of the head size
KERNEL_ENTRY void block_sparse_attention_fwd_d16(const Forward a) { forward<16>(a); }
KERNEL_ENTRY void block_sparse_attention_fwd_d32(const Forward a) { forward<32>(a); }
KERNEL_ENTRY void block_sparse_attention_fwd_d64(const Forward a) { forward<64>(a); }
KERNEL_ENTRY void block_sparse_attention_fwd_d128(const Forward a) { forward<128>(a); }

template <int D>
DEVICE void forward_hopper(const Forward& a, const Maps& maps) {
    contract(blockDim.x == HOPPER_THREADS<LISTS> && a.D <= D && a.S % a.K == 0);
#ifndef WATTENTION_HOPPER
    contract(false);
#else
    SHARED_DYN(unsigned char, shared);
    Ring<D> ring = ring_of<D, LISTS>(shared, maps);
    if (!computes<LISTS>(ring, [&] { load_keys(ring, a, maps); })) return;
    const int group = warpgroup_index();
    const Place at = group_place(a, a.work, a.items, group);
    const Head q = head_of(a, a.q, at);
    float sums[D / 64][8][4];
    Running running;
    attend_hopper<D, false>(sums, running, ring, q, at.tile, no_dropout(), a.scale, group);
    if (at.slot < 0) {
        put_attended_hopper<D>(a.o + (q.x - a.q), a.lse + at.head * a.S, q, at.tile, at.visible, sums, running);
        return;
    }
    put_part_hopper<D>(a, at, all_count(), sums, 1.0f, a.D + 2, 2);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = static_cast<int>(threadIdx.x) / WARP * 16 + 8 * i + lane_row();
        if (r >= at.tile.count || lane_column() != 0) continue;
        float* row = slot_row(a, at.slot, at.b, (at.tile.first + r) % a.K, a.D + 2);
        row[0] = running.most[i], row[1] = running.sum[i];
    }
#endif
}

// launch: grid [B * ceil(items * ceil(K / 64) / 2)], block 384, shared a ring of 4 stages
KERNEL_ENTRY void __launch_bounds__(384, 1) block_sparse_attention_fwd_hopper_d64(
    const Forward a, const __grid_constant__ Maps maps) {
    forward_hopper<64>(a, maps);
}

// launch: grid [B * ceil(items * ceil(K / 64) / 2)], block 384, shared a ring of 4 stages
KERNEL_ENTRY void __launch_bounds__(384, 1) block_sparse_attention_fwd_hopper_d128(
    const Forward a, const __grid_constant__ Maps maps) {
    forward_hopper<128>(a, maps);
}

// A warp for each row.
// launch: grid [lists * B, ceil(K / 16)], block 128, shared 0
KERNEL_ENTRY void block_sparse_attention_fwd_join(const Forward a) {
    contract(blockDim.x == THREADS && a.D <= 4 * WARP && static_cast<int>(gridDim.y) == CEIL_DIV(a.K, JOINED));
    const Join at = join_of(a, a.joins);
    for (int i = at.first + threadIdx.x / WARP; i < min(at.first + JOINED, a.K); i += WARPS) {
        const long long position = at.position + i;
        const bool on = a.key_state[position] != 0;
        const float* part = slot_row(a, at.slot, at.b, i, a.D + 2);
        const long long next_part = static_cast<long long>(a.B) * a.K * (a.D + 2);
        float* lse = a.lse + (static_cast<long long>(at.b) * a.H + at.h) * a.S + position % a.S;
        join_parts(a.o + (position * a.H + at.h) * a.D, lse, part, next_part, at.parts, a.D, on);
    }
}

// launch: grid [B * S * H / 16], block 128, shared 0
KERNEL_ENTRY void block_sparse_attention_bwd(const Backward a) {
    contract(blockDim.x == THREADS);
    sum_products(a.lse_delta, a.d_o, a.o, a.lse, a.B, a.H, a.S, a.D);
}

template <int P>
DEVICE void backward_queries(const Backward& a) {
    contract(blockDim.x == THREADS && a.D <= P && a.S % a.K == 0);
    SHARED_DYN(real, shared);
    constexpr int N = COLUMNS<P>;
    const Place at = place_of(a, a.work);
    const Head q = head_of(a, a.q, at);
    Blocks<N> keys = blocks_of<N>(at, at.visible, a.col, a.count, a.K);
    float x[1][P / 8][4];
    queries_backward<P, 1, N, false>(
        x, q, head_of(a, a.k, at), head_of(a, a.v, at), head_of(a, a.d_o, at), lse_delta_of(a, at), at.tile,
        keys, no_dropout(), a.scale, shared);
    if (at.slot < 0) {
        put_gradient<P, 1>(a.dq + (q.x - a.q), q, at.tile, all_count(), at.visible, a.S, x, a.scale, a.add_q);
    } else {
        put_part<P>(a, at, x, a.scale, a.D, 0);
    }
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of the head size
KERNEL_ENTRY void block_sparse_attention_bwd_q_d16(const Backward a) { backward_queries<16>(a); }
KERNEL_ENTRY void block_sparse_attention_bwd_q_d32(const Backward a) { backward_queries<32>(a); }
KERNEL_ENTRY void block_sparse_attention_bwd_q_d64(const Backward a) { backward_queries<64>(a); }
KERNEL_ENTRY void block_sparse_attention_bwd_q_d128(const Backward a) { backward_queries<128>(a); }

template <int D>
DEVICE void backward_queries_hopper(const Backward& a, const Maps& maps) {
    contract(blockDim.x == HOPPER_THREADS<LISTS> && a.D <= D && a.S % a.K == 0);
#ifndef WATTENTION_HOPPER
    contract(false);
#else
    SHARED_DYN(unsigned char, shared);
    Ring<D> ring = ring_of<D, LISTS>(shared, maps);
    if (!computes<LISTS>(ring, [&] { load_keys(ring, a, maps); })) return;
    const int group = warpgroup_index();
    const Place at = group_place(a, a.work, a.items, group);
    const Head q = head_of(a, a.q, at);
    float x[D / 64][8][4];
    queries_backward_hopper<D, false>(
        x, ring, pair_of(q, head_of(a, a.d_o, at)), lse_delta_of(a, at), at.tile, no_dropout(), a.scale, group);
    if (at.slot < 0) {
        put_gradient_hopper<D>(a.dq + (q.x - a.q), q, at.tile, all_count(), at.visible, a.S, x, a.scale, a.add_q);
    } else {
        put_part_hopper<D>(a, at, all_count(), x, a.scale, a.D, 0);
    }
#endif
}

// launch: grid [B * ceil(items * ceil(K / 64) / 2)], block 384, shared a ring of 4 stages
KERNEL_ENTRY void __launch_bounds__(384, 1) block_sparse_attention_bwd_q_hopper_d64(
    const Backward a, const __grid_constant__ Maps maps) {
    backward_queries_hopper<64>(a, maps);
}

// launch: grid [B * ceil(items * ceil(K / 64) / 2)], block 384, shared a ring of 4 stages and the rows
KERNEL_ENTRY void __launch_bounds__(384, 1) block_sparse_attention_bwd_q_hopper_d128(
    const Backward a, const __grid_constant__ Maps maps) {
    backward_queries_hopper<128>(a, maps);
}

// launch: grid [lists * B, ceil(K / 16)], block 128, shared 0
KERNEL_ENTRY void block_sparse_attention_bwd_q_join(const Backward a) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == CEIL_DIV(a.K, JOINED));
    join_gradient(a, a.dq, join_of(a, a.joins), a.D, 0, a.add_q);
}

template <int P>
DEVICE void backward_keys(const Backward& a) {
    contract(blockDim.x == THREADS && a.D <= P && a.S % a.K == 0);
    SHARED_DYN(real, shared);
    constexpr int N = COLUMNS<P>;
    const Place at = place_of(a, a.inverse_work);
    const Head k = head_of(a, a.k, at);
    const Counted finite = where_finite(a.lse + at.head * a.S);
    Blocks<N> queries = blocks_of<N>(at, finite, a.inverse_col, a.inverse_count, a.K);
    float x[1][P / 8][4], y[1][P / 8][4];
    keys_backward<P, N, false>(
        x, y, head_of(a, a.q, at), k, head_of(a, a.v, at), head_of(a, a.d_o, at), lse_delta_of(a, at), at.tile,
        queries, no_dropout(), a.scale, shared);
    if (at.slot >= 0) {
        clear_rows(x, at.tile, at.visible);
        clear_rows(y, at.tile, at.visible);
        put_part<P>(a, at, x, a.scale, 2 * a.D, 0);
        put_part<P>(a, at, y, 1.0f, 2 * a.D, a.D);
        return;
    }
    if (a.dk) put_gradient<P, 1>(a.dk + (k.x - a.k), k, at.tile, all_count(), at.visible, a.S, x, a.scale, a.add_k);
    if (a.dv) put_gradient<P, 1>(a.dv + (k.x - a.k), k, at.tile, all_count(), at.visible, a.S, y, 1.0f, a.add_v);
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of the head size
KERNEL_ENTRY void block_sparse_attention_bwd_kv_d16(const Backward a) { backward_keys<16>(a); }
KERNEL_ENTRY void block_sparse_attention_bwd_kv_d32(const Backward a) { backward_keys<32>(a); }
KERNEL_ENTRY void block_sparse_attention_bwd_kv_d64(const Backward a) { backward_keys<64>(a); }
KERNEL_ENTRY void block_sparse_attention_bwd_kv_d128(const Backward a) { backward_keys<128>(a); }

template <int D>
DEVICE void backward_keys_hopper(const Backward& a, const Maps& maps) {
    contract(blockDim.x == HOPPER_THREADS<LISTS> && a.D <= D && a.S % a.K == 0);
#ifndef WATTENTION_HOPPER
    contract(false);
#else
    SHARED_DYN(unsigned char, shared);
    Ring<D> ring = ring_of<D, LISTS>(shared, maps);
    const bool computing = computes<LISTS>(ring, [&] {
        const auto pair_at = [&](const Place& at) {
            Pair pair = pair_of(head_of(a, a.q, at), head_of(a, a.d_o, at));
            pair.lse_delta = lse_delta_of(a, at);
            return mapped(pair, maps, at.b, at.h);
        };
        const auto finite = [&](const Place& at) { return where_finite(a.lse + at.head * a.S); };
        load_lists<true>(ring, a, a.inverse_work, a.inverse_items, a.inverse_col, a.inverse_count, pair_at, finite);
    });
    if (!computing) return;
    const int group = warpgroup_index();
    const Place at = group_place(a, a.inverse_work, a.inverse_items, group);
    const Head k = head_of(a, a.k, at);
    float x[D / 64][8][4], y[D / 64][8][4];
    keys_backward_hopper<D, false>(x, y, ring, pair_of(k, head_of(a, a.v, at)), at.tile, no_dropout(), a.scale, group);
    if (at.slot >= 0) {
        put_part_hopper<D>(a, at, at.visible, x, a.scale, 2 * a.D, 0);
        put_part_hopper<D>(a, at, at.visible, y, 1.0f, 2 * a.D, a.D);
        return;
    }
    const long long offset = k.x - a.k;
    if (a.dk) put_gradient_hopper<D>(a.dk + offset, k, at.tile, all_count(), at.visible, a.S, x, a.scale, a.add_k);
    if (a.dv) put_gradient_hopper<D>(a.dv + offset, k, at.tile, all_count(), at.visible, a.S, y, 1.0f, a.add_v);
#endif
}

// launch: grid [B * ceil(items * ceil(K / 64) / 2)], block 384, shared a ring of 4 stages
KERNEL_ENTRY void __launch_bounds__(384, 1) block_sparse_attention_bwd_kv_hopper_d64(
    const Backward a, const __grid_constant__ Maps maps) {
    backward_keys_hopper<64>(a, maps);
}

// launch: grid [B * ceil(items * ceil(K / 64) / 2)], block 384, shared a ring of 4 stages and the rows
KERNEL_ENTRY void __launch_bounds__(384, 1) block_sparse_attention_bwd_kv_hopper_d128(
    const Backward a, const __grid_constant__ Maps maps) {
    backward_keys_hopper<128>(a, maps);
}

// launch: grid [lists * B, ceil(K / 16)], block 128, shared 0
KERNEL_ENTRY void block_sparse_attention_bwd_kv_join(const Backward a) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == CEIL_DIV(a.K, JOINED));
    const Join at = join_of(a, a.inverse_joins);
    if (a.dk) join_gradient(a, a.dk, at, 2 * a.D, 0, a.add_k);
    if (a.dv) join_gradient(a, a.dv, at, 2 * a.D, a.D, a.add_v);
}
