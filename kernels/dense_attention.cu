// dense_attention: o = softmax(scale q k^T) v per head over all keys, up to the diagonal, or those not masked.
// Shapes: q o dq [B, T, H, D], k v dk dv [B, rows, H, D] of which the first S count, key_state [B, rows] (0 masked,
// may be absent), lse [B, H, T], lse_delta [B, H, T, 2]. causal: query i sees keys up to i + offset. Saved: q, k, v, o,
// lse.
// Keys behind the last visible one are cut off before the walk begins, so padding costs a look and no product. Where
// queries are few, `splits` blocks share the keys of a tile; what each finds goes to `partial`, and a last pass joins
// them in order. One query over a cache is decode_attention.cu.
// Also compiled with -DWATTENTION_TF32 and -DWATTENTION_TF32X3. Entries with `hopper` in their names are those of
// WATTENTION_ATTENTION=hopper: one warpgroup that computes, for tiles are few where targets are; two of large heads, whose
// block has a processor to itself.
// spills: dense_attention_fwd_wide_d64 in tf32x3: a few bytes, for a sum of three products has two accumulators
// spills: dense_attention_bwd_kv_d128 in tf32x3: a few bytes, for a sum of three products has two accumulators
// spills: dense_attention_bwd_kv_hopper_d128 in bf16: one number, for 128 registers are sums and 64 scores
#include "attention_hopper_backward.cuh"

// Warpgroups that compute, and blocks on a processor.
template <int D>
constexpr int DENSE_GROUPS = D <= 64 ? 1 : 2;
template <int D>
constexpr int DENSE_BLOCKS = D <= 64 ? 2 : 1;

struct Forward {
    real* o;
    float *lse, *partial;
    const real *q, *k, *v;
    const int *key_state, *randomness;
    int B, H, D, T, S, rows, causal, offset, splits, site;
    float scale, p;
};

struct Backward {
    real *dq, *dk, *dv;
    float *lse_delta, *partial;
    const real *d_o, *q, *k, *v, *o;
    const float* lse;
    const int *key_state, *randomness;
    int B, H, D, T, S, rows, causal, offset, splits, site, add_q, add_k, add_v;
    float scale, p;
};

template <class Args>
DEVICE Counted visible_keys(const Args& a, int b) {
    return a.key_state ? where_not_zero(a.key_state + static_cast<long long>(b) * a.rows) : all_count();
}

// One past the last visible key of from .. to; all threads of a block ask together.
DEVICE int visible_end(const Counted& visible, int from, int to, int* votes) {
    constexpr int LOOK = 4;
    int end = to;
    while (visible.state && end > from) {
        bool any = false;
#pragma unroll
        for (int i = 0; i < LOOK; i++) {
            const int j = end - 1 - i * THREADS - static_cast<int>(threadIdx.x);
            any |= j >= from && counts(visible, j);
        }
        any = __any_sync(ALL_LANES, any);
        if (threadIdx.x % WARP == 0) votes[threadIdx.x / WARP] = any;
        __syncthreads();
        int found = 0;
        for (int warp = 0; warp < WARPS; warp++) found |= votes[warp];
        __syncthreads();
        if (found) break;
        end -= LOOK * THREADS;
    }
    return max(end, from);
}

// What a block works on: a tile of one head of one sample, the last tiles of a causal head, which are the longest,
// first; and of all S keys the share of its split.
struct Place {
    int b, h, first;
    long long head;
    int from, end;
};

// lse_delta of its head.
DEVICE const float* lse_delta_of(const Backward& a, const Place& at) { return a.lse_delta + at.head * a.T * 2; }

template <class Args>
DEVICE Place place_of(const Args& a, int tiles, int rows, int causal, int splits) {
    const int tile = blockIdx.x % tiles, head = blockIdx.x / tiles;
    const int share = CEIL_DIV(CEIL_DIV(a.S, splits), 64) * 64, from = min(a.S, static_cast<int>(blockIdx.y) * share);
    const int first = (causal ? tiles - 1 - tile : tile) * rows;
    return {head / a.H, head % a.H, first, head, from, min(a.S, from + share)};
}

// That head of x [B, T, H, D], and of x [B, rows, H, D], of which the first S rows count.
template <class Args>
DEVICE Head query_head(const Args& a, const real* x, const Place& at) {
    return head_of(x, at.b, at.h, a.T, a.H, a.D, a.T);
}
template <class Args>
DEVICE Head key_head(const Args& a, const real* x, const Place& at) {
    return head_of(x, at.b, at.h, a.rows, a.H, a.D, a.S);
}

template <class Args>
DEVICE Kept kept_of(const Args& a, const Place& at) {
    return {site_of(a.randomness, a.site, a.p), at.head * a.T, a.S};
}

// How many keys further than itself a query sees.
template <class Args>
DEVICE int reach_of(const Args& a) {
    return a.causal ? min(a.offset, FAR) : FAR;
}

// One past the last key of that share that `count` queries may see.
template <class Args>
DEVICE int keys_end(const Args& a, const Place& at, int count) {
    return max(at.from, min(at.end, at.first + count + reach_of(a)));
}

// Those keys, cut off behind the last visible one.
template <int N, class Args>
DEVICE Band<N> keys_of(const Args& a, const Place& at, int count, void* scratch) {
    const Counted visible = visible_keys(a, at.b);
    const int end = visible_end(visible, at.from, keys_end(a, at, count), static_cast<int*>(scratch));
    return band<N>(visible, at.from, end, -FAR, reach_of(a));
}

#ifdef WATTENTION_HOPPER
// Gives the ring the keys and values that `count` queries see.
template <int D, class Args>
DEVICE void load_keys(Ring<D>& ring, const Args& a, const Maps& maps, const Place& at, int count) {
    Band<SQUARE> keys = band<SQUARE>(visible_keys(a, at.b), at.from, keys_end(a, at, count), -FAR, reach_of(a));
    const Pair pair = pair_of(key_head(a, a.k, at), key_head(a, a.v, at));
    load_walk<false>(ring, keys, mapped(pair, maps, at.b, at.h));
}
#endif

// The queries that the gradients of a tile of R keys are summed over; none where no key is visible.
template <int N, int R>
DEVICE Band<N> queries_of(const Backward& a, const Place& at) {
    const bool any = any_counts<R>(visible_keys(a, at.b), at.first, min(a.S - at.first, R));
    const int reach = reach_of(a);
    return band<N>(where_finite(a.lse + at.head * a.T), max(0, at.first - reach), any ? a.T : 0, -reach, FAR);
}

// What a split found for a row: the maximum, the sum of p, and the sums of p v.
DEVICE float* part_of(const Forward& a, int split, long long row) {
    return a.partial + (split * (static_cast<long long>(a.B) * a.H * a.T) + row) * (a.D + 2);
}

template <int P, int M>
DEVICE void forward(const Forward& a) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == a.splits && a.D <= P && (M == 1 || a.p == 0.0f));
    SHARED_DYN(real, shared);
    constexpr int N = KEYS<P>;
    const Place at = place_of(a, CEIL_DIV(a.T, ROWS<M>), ROWS<M>, a.causal, a.splits);
    const RowTile tile = {at.first, min(a.T - at.first, ROWS<M>), nullptr};
    const Head q = query_head(a, a.q, at);
    Band<N> keys = keys_of<N>(a, at, tile.count, shared);
    float sums[M][P / 8][4], most[M][2], sum[M][2];
    const Kept kept = kept_of(a, at);
    with_dropout<FORWARD_DROPS<M>>(kept, [&](auto drops) {
        attend<P, M, N, decltype(drops)::value>(
            sums, most, sum, q, key_head(a, a.k, at), key_head(a, a.v, at), tile, keys, kept, a.scale, shared);
    });
    if (a.splits == 1) {
        put_attended<P, M>(a.o + (q.x - a.q), a.lse + at.head * a.T, q, tile, all_count(), sums, most, sum);
        return;
    }
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const int r = threadIdx.x / WARP * 16 * M + 8 * i + lane_row();
        if (r >= tile.count) continue;
        float* part = part_of(a, blockIdx.y, at.head * a.T + at.first + r);
        put_row(part + 2, sums[i / 2], i % 2, 1.0f, a.D, 0);
        if (lane_column() == 0) part[0] = most[i / 2][i % 2], part[1] = sum[i / 2][i % 2];
    }
}

// launch: grid [B * H * ceil(T / 64), splits], block 128, shared (64 + 4 * KEYS) rows of the head size
KERNEL_ENTRY void dense_attention_fwd_d16(const Forward a) { forward<16, 1>(a); }
KERNEL_ENTRY void dense_attention_fwd_d32(const Forward a) { forward<32, 1>(a); }
KERNEL_ENTRY void dense_attention_fwd_d64(const Forward a) { forward<64, 1>(a); }
KERNEL_ENTRY void dense_attention_fwd_d128(const Forward a) { forward<128, 1>(a); }

// launch: grid [B * H * ceil(T / 128), splits], block 128, shared (128 + 4 * KEYS) rows of the head size
KERNEL_ENTRY void dense_attention_fwd_wide_d16(const Forward a) { forward<16, 2>(a); }
KERNEL_ENTRY void dense_attention_fwd_wide_d32(const Forward a) { forward<32, 2>(a); }
KERNEL_ENTRY void dense_attention_fwd_wide_d64(const Forward a) { forward<64, 2>(a); }

template <int D>
DEVICE void forward_hopper(const Forward& a, const Maps& maps) {
    contract(blockDim.x == HOPPER_THREADS<DENSE_GROUPS<D>> && static_cast<int>(gridDim.y) == a.splits && a.D <= D);
#ifndef WATTENTION_HOPPER
    contract(false);
#else
    SHARED_DYN(unsigned char, shared);
    constexpr int G = DENSE_GROUPS<D>, R = HOPPER_ROWS<G>;
    Ring<D> ring = ring_of<D, G>(shared, maps);
    const Place at = place_of(a, CEIL_DIV(a.T, R), R, a.causal, a.splits);
    const RowTile tile = {at.first, min(a.T - at.first, R), nullptr};
    if (!computes<G, DENSE_BLOCKS<D>>(ring, [&] { load_keys(ring, a, maps, at, tile.count); })) return;
    const Head q = query_head(a, a.q, at);
    float sums[D / 64][8][4];
    Running running;
    with_constant(a.p > 0.0f, [&](auto drops) {
        attend_hopper<D, decltype(drops)::value>(sums, running, ring, q, tile, kept_of(a, at), a.scale);
    });
    if (a.splits == 1) {
        put_attended_hopper<D>(a.o + (q.x - a.q), a.lse + at.head * a.T, q, tile, all_count(), sums, running);
        return;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = static_cast<int>(threadIdx.x) / WARP * 16 + 8 * i + lane_row();
        if (r >= tile.count) continue;
        float* part = part_of(a, blockIdx.y, at.head * a.T + at.first + r);
        put_panels<D>(part + 2, sums, i, 1.0f, a.D, 0);
        if (lane_column() == 0) part[0] = running.most[i], part[1] = running.sum[i];
    }
#endif
}

// launch: grid [B * H * ceil(T / 64), splits], block 256, shared a ring of 4 stages
KERNEL_ENTRY void __launch_bounds__(256, 2) dense_attention_fwd_hopper_d64(
    const Forward a, const __grid_constant__ Maps maps) {
    forward_hopper<64>(a, maps);
}

// launch: grid [B * H * ceil(T / 128), splits], block 384, shared a ring of 4 stages
KERNEL_ENTRY void __launch_bounds__(384, 1) dense_attention_fwd_hopper_d128(
    const Forward a, const __grid_constant__ Maps maps) {
    forward_hopper<128>(a, maps);
}

// Joins the splits; a warp for each row.
// launch: grid [B * H * T / 4], block 128, shared 0
KERNEL_ENTRY void dense_attention_fwd_join(const Forward a) {
    contract(blockDim.x == THREADS && a.D <= 4 * WARP);
    const long long row = static_cast<long long>(blockIdx.x) * WARPS + threadIdx.x / WARP, all = 1ll * a.B * a.H * a.T;
    if (row >= all) return;
    const long long b = row / a.T / a.H, h = row / a.T % a.H;
    real* o = a.o + ((b * a.T + row % a.T) * a.H + h) * a.D;
    join_parts(o, a.lse + row, part_of(a, 0, row), all * (a.D + 2), a.splits, a.D, true);
}

// launch: grid [B * T * H / 16], block 128, shared 0
KERNEL_ENTRY void dense_attention_bwd(const Backward a) {
    contract(blockDim.x == THREADS);
    sum_products(a.lse_delta, a.d_o, a.o, a.lse, a.B, a.H, a.T, a.D);
}

// Where a split's sums for row r of a tile go.
DEVICE float* split_row(const Backward& a, const Place& at, int r) {
    return a.partial + ((blockIdx.y * static_cast<long long>(a.B) * a.H + at.head) * a.T + at.first + r) * a.D;
}

template <int P>
DEVICE void backward_queries(const Backward& a) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == a.splits && a.D <= P);
    SHARED_DYN(real, shared);
    constexpr int N = COLUMNS<P>;
    const Place at = place_of(a, CEIL_DIV(a.T, ROWS<1>), ROWS<1>, a.causal, a.splits);
    const RowTile tile = {at.first, min(a.T - at.first, ROWS<1>), nullptr};
    const Head q = query_head(a, a.q, at);
    Band<N> keys = keys_of<N>(a, at, tile.count, shared);
    float x[1][P / 8][4];
    const Kept kept = kept_of(a, at);
    with_dropout<Drops::APART>(kept, [&](auto drops) {
        queries_backward<P, 1, N, decltype(drops)::value>(
            x, q, key_head(a, a.k, at), key_head(a, a.v, at), query_head(a, a.d_o, at), lse_delta_of(a, at),
            tile, keys, kept, a.scale, shared);
    });
    if (a.splits == 1) {
        put_gradient<P, 1>(a.dq + (q.x - a.q), q, tile, all_count(), all_count(), a.T, x, a.scale, a.add_q);
        return;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = threadIdx.x / WARP * 16 + 8 * i + lane_row();
        if (r < tile.count) put_row(split_row(a, at, r), x[0], i, a.scale, a.D, 0);
    }
}

// launch: grid [B * H * ceil(T / 64), splits], block 128, shared (128 + 4 * COLUMNS) rows of the head size
KERNEL_ENTRY void dense_attention_bwd_q_d16(const Backward a) { backward_queries<16>(a); }
KERNEL_ENTRY void dense_attention_bwd_q_d32(const Backward a) { backward_queries<32>(a); }
KERNEL_ENTRY void dense_attention_bwd_q_d64(const Backward a) { backward_queries<64>(a); }
KERNEL_ENTRY void dense_attention_bwd_q_d128(const Backward a) { backward_queries<128>(a); }

template <int D>
DEVICE void backward_queries_hopper(const Backward& a, const Maps& maps) {
    contract(blockDim.x == HOPPER_THREADS<DENSE_GROUPS<D>> && static_cast<int>(gridDim.y) == a.splits && a.D <= D);
#ifndef WATTENTION_HOPPER
    contract(false);
#else
    SHARED_DYN(unsigned char, shared);
    constexpr int G = DENSE_GROUPS<D>, R = HOPPER_ROWS<G>;
    Ring<D> ring = ring_of<D, G>(shared, maps);
    const Place at = place_of(a, CEIL_DIV(a.T, R), R, a.causal, a.splits);
    const RowTile tile = {at.first, min(a.T - at.first, R), nullptr};
    if (!computes<G, DENSE_BLOCKS<D>>(ring, [&] { load_keys(ring, a, maps, at, tile.count); })) return;
    const Head q = query_head(a, a.q, at);
    float x[D / 64][8][4];
    with_constant(a.p > 0.0f, [&](auto drops) {
        queries_backward_hopper<D, decltype(drops)::value>(
            x, ring, pair_of(q, query_head(a, a.d_o, at)), lse_delta_of(a, at), tile, kept_of(a, at), a.scale);
    });
    if (a.splits == 1) {
        put_gradient_hopper<D>(a.dq + (q.x - a.q), q, tile, all_count(), all_count(), a.T, x, a.scale, a.add_q);
        return;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = static_cast<int>(threadIdx.x) / WARP * 16 + 8 * i + lane_row();
        if (r < tile.count) put_panels<D>(split_row(a, at, r), x, i, a.scale, a.D, 0);
    }
#endif
}

// launch: grid [B * H * ceil(T / 64), splits], block 256, shared a ring of 4 stages
KERNEL_ENTRY void __launch_bounds__(256, 2) dense_attention_bwd_q_hopper_d64(
    const Backward a, const __grid_constant__ Maps maps) {
    backward_queries_hopper<64>(a, maps);
}

// launch: grid [B * H * ceil(T / 128), splits], block 384, shared a ring of 4 stages and the rows
KERNEL_ENTRY void __launch_bounds__(384, 1) dense_attention_bwd_q_hopper_d128(
    const Backward a, const __grid_constant__ Maps maps) {
    backward_queries_hopper<128>(a, maps);
}

// Adds up the splits of dq.
// launch: grid [B * T * H * D / 128], block 128, shared 0
KERNEL_ENTRY void dense_attention_bwd_q_join(const Backward a) {
    contract(blockDim.x == THREADS);
    const long long e = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x, all = 1ll * a.B * a.T * a.H * a.D;
    if (e >= all) return;
    const long long d = e % a.D, h = e / a.D % a.H, i = e / a.D / a.H % a.T, b = e / a.D / a.H / a.T;
    const float* part = a.partial + ((b * a.H + h) * a.T + i) * a.D + d;
    float sum = 0.0f;
    for (int split = 0; split < a.splits; split++) sum += part[split * all];
    put_or_add(a.dq + e, sum, a.add_q);
}

template <int P>
DEVICE void backward_keys(const Backward& a) {
    contract(blockDim.x == THREADS && a.D <= P);
    SHARED_DYN(real, shared);
    constexpr int N = COLUMNS<P>;
    const Place at = place_of(a, CEIL_DIV(a.rows, ROWS<1>), ROWS<1>, 0, 1);
    const RowTile tile = {at.first, min(a.rows - at.first, ROWS<1>), nullptr};
    const Counted visible = visible_keys(a, at.b);
    const Head k = key_head(a, a.k, at);
    Band<N> queries = queries_of<N, ROWS<1>>(a, at);
    float x[1][P / 8][4], y[1][P / 8][4];
    const Kept kept = kept_of(a, at);
    with_dropout<KEYS_DROPS<P>>(kept, [&](auto drops) {
        keys_backward<P, N, decltype(drops)::value>(
            x, y, query_head(a, a.q, at), k, key_head(a, a.v, at), query_head(a, a.d_o, at),
            lse_delta_of(a, at), tile, queries, kept, a.scale, shared);
    });
    if (a.dk) put_gradient<P, 1>(a.dk + (k.x - a.k), k, tile, all_count(), visible, a.S, x, a.scale, a.add_k);
    if (a.dv) put_gradient<P, 1>(a.dv + (k.x - a.k), k, tile, all_count(), visible, a.S, y, 1.0f, a.add_v);
}

// launch: grid [B * H * ceil(rows / 64)], block 128, shared (128 + 4 * COLUMNS) rows of the head size
KERNEL_ENTRY void dense_attention_bwd_kv_d16(const Backward a) { backward_keys<16>(a); }
KERNEL_ENTRY void dense_attention_bwd_kv_d32(const Backward a) { backward_keys<32>(a); }
KERNEL_ENTRY void dense_attention_bwd_kv_d64(const Backward a) { backward_keys<64>(a); }
KERNEL_ENTRY void dense_attention_bwd_kv_d128(const Backward a) { backward_keys<128>(a); }

template <int D>
DEVICE void backward_keys_hopper(const Backward& a, const Maps& maps) {
    contract(blockDim.x == HOPPER_THREADS<DENSE_GROUPS<D>> && a.D <= D);
#ifndef WATTENTION_HOPPER
    contract(false);
#else
    SHARED_DYN(unsigned char, shared);
    constexpr int G = DENSE_GROUPS<D>, R = HOPPER_ROWS<G>;
    Ring<D> ring = ring_of<D, G>(shared, maps);
    const Place at = place_of(a, CEIL_DIV(a.rows, R), R, 0, 1);
    const RowTile tile = {at.first, min(a.rows - at.first, R), nullptr};
    const bool computing = computes<G, DENSE_BLOCKS<D>>(ring, [&] {
        Band<SQUARE> queries = queries_of<SQUARE, R>(a, at);
        Pair pair = pair_of(query_head(a, a.q, at), query_head(a, a.d_o, at));
        pair.lse_delta = lse_delta_of(a, at);
        load_walk<true>(ring, queries, mapped(pair, maps, at.b, at.h));
    });
    if (!computing) return;
    const Head k = key_head(a, a.k, at);
    float x[D / 64][8][4], y[D / 64][8][4];
    with_constant(a.p > 0.0f, [&](auto drops) {
        keys_backward_hopper<D, decltype(drops)::value>(
            x, y, ring, pair_of(k, key_head(a, a.v, at)), tile, kept_of(a, at), a.scale);
    });
    const Counted visible = visible_keys(a, at.b);
    const long long offset = k.x - a.k;
    if (a.dk) put_gradient_hopper<D>(a.dk + offset, k, tile, all_count(), visible, a.S, x, a.scale, a.add_k);
    if (a.dv) put_gradient_hopper<D>(a.dv + offset, k, tile, all_count(), visible, a.S, y, 1.0f, a.add_v);
#endif
}

// launch: grid [B * H * ceil(rows / 64)], block 256, shared a ring of 4 stages
KERNEL_ENTRY void __launch_bounds__(256, 2) dense_attention_bwd_kv_hopper_d64(
    const Backward a, const __grid_constant__ Maps maps) {
    backward_keys_hopper<64>(a, maps);
}

// launch: grid [B * H * ceil(rows / 128)], block 384, shared a ring of 4 stages and the rows
KERNEL_ENTRY void __launch_bounds__(384, 1) dense_attention_bwd_kv_hopper_d128(
    const Backward a, const __grid_constant__ Maps maps) {
    backward_keys_hopper<128>(a, maps);
}
