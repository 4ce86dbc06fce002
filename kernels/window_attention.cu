// window_attention: o_i = sum_j softmax_j(scale q_i k_j) v_j over local keys with |i - j| <= W and all global ones.
// Shapes: q k v o dq dk dv [B, S, H, D], key_state [B, S] (0 masked, 1 local, 2 global), global_index [B, G] ascending,
// then -1; lse [B, H, S], lse_delta [B, H, S, 2]. Masked and global queries give zeros. Saved: q, k, v, o, lse.
// Global keys are gathered into tiles of their own, in the same softmax. Their dk and dv are sums over all queries:
// blocks take SPAN queries each and write partial [B, H, S / SPAN, G, 2, D], which a last pass adds up in order.
// Also compiled with -DWATTENTION_TF32 and -DWATTENTION_TF32X3. Entries with `hopper` in their names are those of
// WATTENTION_ATTENTION=hopper.
// spills: window_attention_fwd_wide_d64 in tf32x3: one number, for the same reason as the one after the next
// spills: window_attention_bwd_kv_d64 in tf32x3: a few bytes, for the same reason as the next
// spills: window_attention_bwd_kv_d128 in tf32x3: a few bytes, for a sum of three products has two accumulators
// spills: window_attention_bwd_kv_hopper_d128 in bf16: what is the same in all tiles of rows, for 128 registers are sums
// and 64 scores; with dropout five numbers of each tile of columns
#include "attention_hopper_backward.cuh"

constexpr int SPAN = 512;
// Blocks of bwd_q_d64 that a processor holds: left alone, the compiler takes the registers of a third one in bf16.
constexpr int QUERY_BLOCKS = sizeof(real) == 2 ? 3 : 1;

struct Forward {
    real* o;
    float* lse;
    const real *q, *k, *v;
    const int *key_state, *global_index, *randomness;
    int B, H, D, S, W, G, site;
    float scale, p;
};

struct Backward {
    real *dq, *dk, *dv;
    float *lse_delta, *partial;
    const real *d_o, *q, *k, *v, *o;
    const float* lse;
    const int *key_state, *global_index, *randomness;
    int B, H, D, S, W, G, site, add_q, add_k, add_v;
    float scale, p;
};

// A tile of one head of one sample.
struct Place {
    int b, h, first;
    // (b H + h), and the states and global positions of the sample.
    long long head;
    const int *state, *list;
};

template <class Args>
DEVICE Place place_of(const Args& a, int block, int tiles, int rows) {
    const int head = block / tiles, b = head / a.H;
    return {b, head % a.H, block % tiles * rows, head, a.key_state + static_cast<long long>(b) * a.S,
            a.global_index + static_cast<long long>(b) * a.G};
}

// That head of x [B, S, H, D].
template <class Args>
DEVICE Head head_of(const Args& a, const real* x, const Place& at) {
    return head_of(x, at.b, at.h, a.S, a.H, a.D, a.S);
}

// lse_delta of its head.
DEVICE const float* lse_delta_of(const Backward& a, const Place& at) { return a.lse_delta + at.head * a.S * 2; }

template <class Args>
DEVICE Kept kept_of(const Args& a, const Place& at) {
    return {site_of(a.randomness, a.site, a.p), at.head * a.S, a.S};
}

// The local keys at most W away from `count` queries, then the global ones; none where no query takes part.
template <int N, int L, class Args>
DEVICE BandAndList<N, L> keys_of(const Args& a, const Place& at, int count, bool any) {
    const int reach = min(a.W, a.S), from = max(0, at.first - reach);
    const int end = any ? min(a.S, at.first + count + reach) : from;
    return {band<N>(where_equal(at.state, 1), from, end, -reach, reach), {at.list, 0, any ? a.G : 0}};
}

// A tile of queries in its place, as a warpgroup kernel takes them one after the other.
template <int R, class Args>
DEVICE RowTile query_rows(const Args& a, const Place& at) {
    return {at.first, min(a.S - at.first, R), nullptr};
}

template <int P, int M>
DEVICE void forward(const Forward& a) {
    contract(blockDim.x == THREADS && a.D <= P && (M == 1 || a.p == 0.0f));
    SHARED_DYN(real, shared);
    constexpr int N = KEYS<P>;
    const Place at = place_of(a, blockIdx.x, CEIL_DIV(a.S, ROWS<M>), ROWS<M>);
    const RowTile tile = {at.first, min(a.S - at.first, ROWS<M>), nullptr};
    const Counted local = where_equal(at.state, 1);
    const Head q = head_of(a, a.q, at);
    BandAndList<N, LISTED<P>> keys =
        keys_of<N, LISTED<P>>(a, at, tile.count, any_counts<ROWS<M>>(local, at.first, tile.count));
    float sums[M][P / 8][4], most[M][2], sum[M][2];
    const Kept kept = kept_of(a, at);
    with_dropout<FORWARD_DROPS<M>>(kept, [&](auto drops) {
        attend<P, M, N, decltype(drops)::value>(
            sums, most, sum, q, head_of(a, a.k, at), head_of(a, a.v, at), tile, keys, kept, a.scale, shared);
    });
    put_attended<P, M>(a.o + (q.x - a.q), a.lse + at.head * a.S, q, tile, local, sums, most, sum);
}

// launch: grid [B * H * ceil(S / 64)], block 128, shared (64 + 4 * KEYS) rows of the head size
KERNEL_ENTRY void window_attention_fwd_d16(const Forward a) { forward<16, 1>(a); }
KERNEL_ENTRY void window_attention_fwd_d32(const Forward a) { forward<32, 1>(a); }
KERNEL_ENTRY void window_attention_fwd_d64(const Forward a) { forward<64, 1>(a); }
KERNEL_ENTRY void window_attention_fwd_d128(const Forward a) { forward<128, 1>(a); }

// launch: grid [B * H * ceil(S / 128)], block 128, shared (128 + 4 * KEYS) rows of the head size
KERNEL_ENTRY void window_attention_fwd_wide_d16(const Forward a) { forward<16, 2>(a); }
KERNEL_ENTRY void window_attention_fwd_wide_d32(const Forward a) { forward<32, 2>(a); }
KERNEL_ENTRY void window_attention_fwd_wide_d64(const Forward a) { forward<64, 2>(a); }

template <int D>
DEVICE void forward_hopper(const Forward& a, const Maps& maps) {
    contract(blockDim.x == HOPPER_THREADS<GROUPS<D>> && a.D <= D);
#ifndef WATTENTION_HOPPER
    contract(false);
#else
    SHARED_DYN(unsigned char, shared);
    constexpr int R = HOPPER_ROWS<GROUPS<D>>;
    Ring<D> ring = ring_of<D, GROUPS<D>>(shared, maps);
    const int tiles = CEIL_DIV(a.S, R), works = a.B * a.H * tiles, blocks = static_cast<int>(gridDim.x);
    const bool computing = computes<GROUPS<D>>(ring, [&] {
        for (int work = blockIdx.x; work < works; work += blocks) {
            const Place at = place_of(a, work, tiles, R);
            const int count = query_rows<R>(a, at).count;
            const bool any = any_counts<R>(where_equal(at.state, 1), at.first, count);
            BandAndList<SQUARE, SQUARE> keys = keys_of<SQUARE, SQUARE>(a, at, count, any);
            const Pair pair = pair_of(head_of(a, a.k, at), head_of(a, a.v, at));
            load_walk<false>(ring, keys, mapped(pair, maps, at.b, at.h));
        }
    });
    if (!computing) return;
    with_constant(a.p > 0.0f, [&](auto drops) {
        for (int work = blockIdx.x; work < works; work += blocks) {
            const Place at = place_of(a, work, tiles, R);
            float sums[D / 64][8][4];
            Running running;
            attend_hopper<D, decltype(drops)::value>(
                sums, running, ring, head_of(a, a.q, at), query_rows<R>(a, at), kept_of(a, at), a.scale);
            // Found again, not kept: registers are few in between.
            const Place to = place_of(a, opaque(work), tiles, R);
            const Head q = head_of(a, a.q, to);
            put_attended_hopper<D>(
                a.o + (q.x - a.q), a.lse + to.head * a.S, q, query_rows<R>(a, to), where_equal(to.state, 1), sums,
                running);
        }
    });
#endif
}

// launch: grid [B * H * ceil(S / 192), 132 at most], block 512, shared a ring of 4 stages
KERNEL_ENTRY void __launch_bounds__(512, 1) window_attention_fwd_hopper_d64(
    const Forward a, const __grid_constant__ Maps maps) {
    forward_hopper<64>(a, maps);
}

// launch: grid [B * H * ceil(S / 128), 132 at most], block 384, shared a ring of 4 stages
KERNEL_ENTRY void __launch_bounds__(384, 1) window_attention_fwd_hopper_d128(
    const Forward a, const __grid_constant__ Maps maps) {
    forward_hopper<128>(a, maps);
}

// launch: grid [B * S * H / 16], block 128, shared 0
KERNEL_ENTRY void window_attention_bwd(const Backward a) {
    contract(blockDim.x == THREADS);
    sum_products(a.lse_delta, a.d_o, a.o, a.lse, a.B, a.H, a.S, a.D);
}

template <int P>
DEVICE void backward_queries(const Backward& a) {
    contract(blockDim.x == THREADS && a.D <= P);
    SHARED_DYN(real, shared);
    constexpr int N = COLUMNS<P>;
    const Place at = place_of(a, blockIdx.x, CEIL_DIV(a.S, ROWS<1>), ROWS<1>);
    const RowTile tile = {at.first, min(a.S - at.first, ROWS<1>), nullptr};
    const Counted local = where_equal(at.state, 1);
    const Head q = head_of(a, a.q, at);
    BandAndList<N, LISTED<P>> keys =
        keys_of<N, LISTED<P>>(a, at, tile.count, any_counts<ROWS<1>>(local, at.first, tile.count));
    float x[1][P / 8][4];
    const Kept kept = kept_of(a, at);
    with_dropout<Drops::APART>(kept, [&](auto drops) {
        queries_backward<P, 1, N, decltype(drops)::value>(
            x, q, head_of(a, a.k, at), head_of(a, a.v, at), head_of(a, a.d_o, at), lse_delta_of(a, at), tile,
            keys, kept, a.scale, shared);
    });
    put_gradient<P, 1>(a.dq + (q.x - a.q), q, tile, all_count(), local, a.S, x, a.scale, a.add_q);
}

// launch: grid [B * H * ceil(S / 64)], block 128, shared (128 + 4 * COLUMNS) rows of the head size
KERNEL_ENTRY void window_attention_bwd_q_d16(const Backward a) { backward_queries<16>(a); }
KERNEL_ENTRY void window_attention_bwd_q_d32(const Backward a) { backward_queries<32>(a); }
KERNEL_ENTRY void window_attention_bwd_q_d128(const Backward a) { backward_queries<128>(a); }
// launch: grid [B * H * ceil(S / 64)], block 128, shared (128 + 4 * COLUMNS) rows of the head size
KERNEL_ENTRY void __launch_bounds__(128, QUERY_BLOCKS) window_attention_bwd_q_d64(const Backward a) {
    backward_queries<64>(a);
}

// The sums of a tile of global keys over one span of queries; `to` is that span's [G, 2, D], dk before dv.
template <int P>
DEVICE void put_partial(
    float* to, const RowTile& rows, int D, const float (&dk)[1][P / 8][4], const float (&dv)[1][P / 8][4]) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = threadIdx.x / WARP * 16 + 8 * i + lane_row();
        if (r >= rows.count) continue;
        float* row = to + (rows.first + r) * 2ll * D;
        put_row(row, dk[0], i, 1.0f, D, 0);
        put_row(row + D, dv[0], i, 1.0f, D, 0);
    }
}

// A tile of keys: local ones, or global ones with a span of queries.
struct KeyTile {
    Place at;
    RowTile rows;
    bool global;
    int span;
};

// The first tiles are of local keys, the others of global ones, each with every span of queries.
template <int R>
DEVICE KeyTile key_tile(const Backward& a, int tile) {
    const int tiles = CEIL_DIV(a.S, R), spans = CEIL_DIV(a.S, SPAN), local_tiles = a.B * a.H * tiles;
    const int global_tiles = CEIL_DIV(a.G, R);
    const bool global = tile >= local_tiles;
    const int span = global ? (tile - local_tiles) / global_tiles % spans : 0;
    // Those of a head: its tiles, or its spans with the tiles of each.
    const int turn = global ? (tile - local_tiles) / (spans * global_tiles) * global_tiles +
                                  (tile - local_tiles) % global_tiles
                            : tile;
    const Place at = place_of(a, turn, global ? global_tiles : tiles, R);
    const RowTile rows = {at.first, min((global ? a.G : a.S) - at.first, R), global ? at.list : nullptr};
    return {at, rows, global, span};
}

// Where the sums of a tile of global keys over its span go, [G, 2, D].
DEVICE float* partial_of(const Backward& a, const KeyTile& tile) {
    return a.partial + (tile.at.head * CEIL_DIV(a.S, SPAN) + tile.span) * a.G * 2ll * a.D;
}

// The queries that its gradients are summed over; none where no key takes part.
template <int N, int R>
DEVICE Band<N> queries_of(const Backward& a, const KeyTile& tile) {
    const int first = tile.at.first, reach = tile.global ? FAR : min(a.W, a.S);
    const bool any = tile.global || any_counts<R>(where_equal(tile.at.state, 1), first, tile.rows.count);
    const int from = tile.global ? tile.span * SPAN : max(0, first - reach);
    const int end = tile.global ? min(a.S, from + SPAN) : min(a.S, first + tile.rows.count + reach);
    return band<N>(where_finite(a.lse + tile.at.head * a.S), from, any ? end : 0, -reach, reach);
}

template <int P>
DEVICE void backward_keys(const Backward& a) {
    contract(blockDim.x == THREADS && a.D <= P);
    SHARED_DYN(real, shared);
    constexpr int N = COLUMNS<P>;
    const KeyTile tile = key_tile<ROWS<1>>(a, blockIdx.x);
    const Place& at = tile.at;
    Band<N> queries = queries_of<N, ROWS<1>>(a, tile);
    const Head k = head_of(a, a.k, at);
    float x[1][P / 8][4], y[1][P / 8][4];
    const Kept kept = kept_of(a, at);
    with_dropout<KEYS_DROPS<P>>(kept, [&](auto drops) {
        keys_backward<P, N, decltype(drops)::value>(
            x, y, head_of(a, a.q, at), k, head_of(a, a.v, at), head_of(a, a.d_o, at), lse_delta_of(a, at),
            tile.rows, queries, kept, a.scale, shared);
    });
    if (tile.global) {
        put_partial<P>(partial_of(a, tile), tile.rows, a.D, x, y);
        return;
    }
    const Counted local = where_equal(at.state, 1), not_global = {at.state, 2, false};
    if (a.dk) put_gradient<P, 1>(a.dk + (k.x - a.k), k, tile.rows, not_global, local, a.S, x, a.scale, a.add_k);
    if (a.dv) put_gradient<P, 1>(a.dv + (k.x - a.k), k, tile.rows, not_global, local, a.S, y, 1.0f, a.add_v);
}

// launch: grid [B * H * (ceil(S / 64) + ceil(S / SPAN) * ceil(G / 64))], block 128, shared as bwd_q
KERNEL_ENTRY void window_attention_bwd_kv_d16(const Backward a) { backward_keys<16>(a); }
KERNEL_ENTRY void window_attention_bwd_kv_d32(const Backward a) { backward_keys<32>(a); }
KERNEL_ENTRY void window_attention_bwd_kv_d64(const Backward a) { backward_keys<64>(a); }
KERNEL_ENTRY void window_attention_bwd_kv_d128(const Backward a) { backward_keys<128>(a); }

template <int D>
DEVICE void backward_queries_hopper(const Backward& a, const Maps& maps) {
    contract(blockDim.x == HOPPER_THREADS<BACKWARD_GROUPS> && a.D <= D);
#ifndef WATTENTION_HOPPER
    contract(false);
#else
    SHARED_DYN(unsigned char, shared);
    constexpr int R = BACKWARD_ROWS;
    Ring<D> ring = ring_of<D, BACKWARD_GROUPS>(shared, maps);
    const int tiles = CEIL_DIV(a.S, R), works = a.B * a.H * tiles, blocks = static_cast<int>(gridDim.x);
    const bool computing = computes<BACKWARD_GROUPS>(ring, [&] {
        for (int work = blockIdx.x; work < works; work += blocks) {
            const Place at = place_of(a, work, tiles, R);
            const int count = query_rows<R>(a, at).count;
            const bool any = any_counts<R>(where_equal(at.state, 1), at.first, count);
            BandAndList<SQUARE, SQUARE> keys = keys_of<SQUARE, SQUARE>(a, at, count, any);
            const Pair pair = pair_of(head_of(a, a.k, at), head_of(a, a.v, at));
            load_walk<false>(ring, keys, mapped(pair, maps, at.b, at.h));
        }
    });
    if (!computing) return;
    with_constant(a.p > 0.0f, [&](auto drops) {
        for (int work = blockIdx.x; work < works; work += blocks) {
            const Place at = place_of(a, work, tiles, R);
            float x[D / 64][8][4];
            queries_backward_hopper<D, decltype(drops)::value>(
                x, ring, pair_of(head_of(a, a.q, at), head_of(a, a.d_o, at)), lse_delta_of(a, at),
                query_rows<R>(a, at), kept_of(a, at), a.scale);
            const Place to = place_of(a, opaque(work), tiles, R);
            const Head q = head_of(a, a.q, to);
            put_gradient_hopper<D>(
                a.dq + (q.x - a.q), q, query_rows<R>(a, to), all_count(), where_equal(to.state, 1), a.S, x, a.scale,
                a.add_q);
        }
    });
#endif
}

// launch: grid [B * H * ceil(S / 128), 132 at most], block 384, shared a ring of 4 stages
KERNEL_ENTRY void __launch_bounds__(384, 1) window_attention_bwd_q_hopper_d64(
    const Backward a, const __grid_constant__ Maps maps) {
    backward_queries_hopper<64>(a, maps);
}

// launch: grid [B * H * ceil(S / 128), 132 at most], block 384, shared a ring of 4 stages and the rows
KERNEL_ENTRY void __launch_bounds__(384, 1) window_attention_bwd_q_hopper_d128(
    const Backward a, const __grid_constant__ Maps maps) {
    backward_queries_hopper<128>(a, maps);
}

template <int D>
DEVICE void backward_keys_hopper(const Backward& a, const Maps& maps) {
    contract(blockDim.x == HOPPER_THREADS<BACKWARD_GROUPS> && a.D <= D);
#ifndef WATTENTION_HOPPER
    contract(false);
#else
    SHARED_DYN(unsigned char, shared);
    constexpr int R = BACKWARD_ROWS;
    Ring<D> ring = ring_of<D, BACKWARD_GROUPS>(shared, maps);
    const int works = a.B * a.H * (CEIL_DIV(a.S, R) + CEIL_DIV(a.S, SPAN) * CEIL_DIV(a.G, R));
    const int blocks = static_cast<int>(gridDim.x);
    const bool computing = computes<BACKWARD_GROUPS>(ring, [&] {
        for (int work = blockIdx.x; work < works; work += blocks) {
            const KeyTile tile = key_tile<R>(a, work);
            Band<SQUARE> queries = queries_of<SQUARE, R>(a, tile);
            Pair pair = pair_of(head_of(a, a.q, tile.at), head_of(a, a.d_o, tile.at));
            pair.lse_delta = lse_delta_of(a, tile.at);
            load_walk<true>(ring, queries, mapped(pair, maps, tile.at.b, tile.at.h));
        }
    });
    if (!computing) return;
    with_constant(a.p > 0.0f, [&](auto drops) {
        for (int work = blockIdx.x; work < works; work += blocks) {
            float x[D / 64][8][4], y[D / 64][8][4];
            const KeyTile of = key_tile<R>(a, opaque(work));
            keys_backward_hopper<D, decltype(drops)::value>(
                x, y, ring, pair_of(head_of(a, a.k, of.at), head_of(a, a.v, of.at)), of.rows, kept_of(a, of.at),
                a.scale);
            const KeyTile tile = key_tile<R>(a, opaque(work));
            if (tile.global) {
                put_partial_hopper<D>(partial_of(a, tile), tile.rows, a.D, x, y);
                continue;
            }
            const Head k = head_of(a, a.k, tile.at);
            const Counted local = where_equal(tile.at.state, 1), not_global = {tile.at.state, 2, false};
            const long long offset = k.x - a.k;
            if (a.dk)
                put_gradient_hopper<D>(a.dk + offset, k, tile.rows, not_global, local, a.S, x, a.scale, a.add_k);
            if (a.dv) put_gradient_hopper<D>(a.dv + offset, k, tile.rows, not_global, local, a.S, y, 1.0f, a.add_v);
        }
    });
#endif
}

// launch: grid [B * H * (ceil(S / 128) + ceil(S / SPAN) * ceil(G / 128)), 132 at most], block 384, shared as bwd_q
KERNEL_ENTRY void __launch_bounds__(384, 1) window_attention_bwd_kv_hopper_d64(
    const Backward a, const __grid_constant__ Maps maps) {
    backward_keys_hopper<64>(a, maps);
}

// launch: grid [B * H * (ceil(S / 128) + ceil(S / SPAN) * ceil(G / 128)), 132 at most], block 384, shared as bwd_q
KERNEL_ENTRY void __launch_bounds__(384, 1) window_attention_bwd_kv_hopper_d128(
    const Backward a, const __grid_constant__ Maps maps) {
    backward_keys_hopper<128>(a, maps);
}

// The partial sums of the global keys, added up; a thread for each of [B, G, H, D].
// launch: grid [B * G * H * D / 128], block 128, shared 0
KERNEL_ENTRY void window_attention_bwd_global(const Backward a) {
    contract(blockDim.x == THREADS);
    const long long e = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    if (e >= static_cast<long long>(a.B) * a.G * a.H * a.D) return;
    const int d = e % a.D, h = e / a.D % a.H, b = e / a.D / a.H / a.G;
    const int g = e / a.D / a.H % a.G, position = a.global_index[static_cast<long long>(b) * a.G + g];
    if (position < 0) return;
    const int spans = CEIL_DIV(a.S, SPAN);
    const float* from = a.partial + ((static_cast<long long>(b) * a.H + h) * spans * a.G + g) * 2 * a.D + d;
    float sum_k = 0.0f, sum_v = 0.0f;
    for (int span = 0; span < spans; span++) {
        sum_k += from[span * a.G * 2ll * a.D];
        sum_v += from[span * a.G * 2ll * a.D + a.D];
    }
    const long long to = ((static_cast<long long>(b) * a.S + position) * a.H + h) * a.D + d;
    if (a.dk) put_or_add(a.dk + to, a.scale * sum_k, a.add_k);
    if (a.dv) put_or_add(a.dv + to, sum_v, a.add_v);
}
