// window_attention: o_i = sum_j softmax_j(scale q_i k_j) v_j over local keys with |i - j| <= W and all global ones.
// Shapes: q k v o dq dk dv [B, S, H, D], key_state [B, S] (0 masked, 1 local, 2 global), global_index [B, G] ascending,
// then -1; lse delta [B, H, S]. Masked and global queries give zeros. Saved for backward: q, k, v, o, lse.
// Global keys are gathered into tiles of their own, in the same softmax. Their dk and dv are sums over all queries:
// blocks take SPAN queries each and write partial [B, H, S / SPAN, G, 2, D], which a last pass adds up in order.
// Also compiled with -DWATTENTION_TF32 and -DWATTENTION_TF32X3.
#include "attention.cuh"

constexpr int SPAN = 512;

// A tile of one head of one sample.
struct Place {
    int b, h, first;
    // (b H + h), and the states and global positions of the sample.
    long long head;
    const int *state, *list;
};

DEVICE Place place_of(
    int block, const int* key_state, const int* global_index, int H, int S, int G, int tiles, int rows) {
    const int head = block / tiles, b = head / H;
    return {b, head % H, block % tiles * rows, head, key_state + static_cast<long long>(b) * S,
            global_index + static_cast<long long>(b) * G};
}

// The local keys at most W away from `count` queries, then the global ones; none where no query takes part.
template <int N>
DEVICE BandAndList<N> keys_of(const Place& at, int count, int S, int W, int G, bool any) {
    const int reach = min(W, S), from = max(0, at.first - reach);
    const int end = any ? min(S, at.first + count + reach) : from;
    return {band<N>(where_equal(at.state, 1), from, end, -reach, reach), at.list, 0, any ? G : 0};
}

template <int P, int M, int N>
DEVICE void forward(
    real* shared, real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state,
    const int* global_index, int H, int D, int S, int W, int G, const DropoutSite& dropout, float scale) {
    const Place at = place_of(blockIdx.x, key_state, global_index, H, S, G, CEIL_DIV(S, ROWS<M>), ROWS<M>);
    const RowTile tile = {at.first, min(S - at.first, ROWS<M>), nullptr};
    const Counted local = where_equal(at.state, 1);
    const Head q_head = head_of(q, at.b, at.h, S, H, D, S);
    BandAndList<N> keys = keys_of<N>(at, tile.count, S, W, G, any_counts<ROWS<M>>(local, at.first, tile.count));
    float sums[M][P / 8][4], most[M][2], sum[M][2];
    attend<P, M, N>(
        sums, most, sum, q_head, head_of(k, at.b, at.h, S, H, D, S), head_of(v, at.b, at.h, S, H, D, S), tile, keys,
        Kept{dropout, at.head * S, S}, scale, shared);
    put_attended<P, M>(o + (q_head.x - q), lse + at.head * S, q_head, tile, local, sums, most, sum);
}

// launch: grid [B * H * ceil(S / 64)], block 128, shared (64 + 4 * KEYS) rows of 16
KERNEL_ENTRY void window_attention_fwd_d16(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, float scale, float p) {
    contract(blockDim.x == THREADS && D <= 16);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<16, 1, KEYS<16>>(
        shared, o, lse, q, k, v, key_state, global_index, H, D, S, W, G, dropout, scale);
}

// launch: grid [B * H * ceil(S / 64)], block 128, shared (64 + 4 * KEYS) rows of 32
KERNEL_ENTRY void window_attention_fwd_d32(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, float scale, float p) {
    contract(blockDim.x == THREADS && D <= 32);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<32, 1, KEYS<32>>(
        shared, o, lse, q, k, v, key_state, global_index, H, D, S, W, G, dropout, scale);
}

// launch: grid [B * H * ceil(S / 64)], block 128, shared (64 + 4 * KEYS) rows of 64
KERNEL_ENTRY void window_attention_fwd_d64(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, float scale, float p) {
    contract(blockDim.x == THREADS && D <= 64);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<64, 1, KEYS<64>>(
        shared, o, lse, q, k, v, key_state, global_index, H, D, S, W, G, dropout, scale);
}

// launch: grid [B * H * ceil(S / 64)], block 128, shared (64 + 4 * KEYS) rows of 128
KERNEL_ENTRY void window_attention_fwd_d128(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, float scale, float p) {
    contract(blockDim.x == THREADS && D <= 128);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<128, 1, KEYS<128>>(
        shared, o, lse, q, k, v, key_state, global_index, H, D, S, W, G, dropout, scale);
}

// launch: grid [B * H * ceil(S / 128)], block 128, shared (128 + 4 * KEYS) rows of 16
KERNEL_ENTRY void window_attention_fwd_wide_d16(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, float scale, float p) {
    contract(blockDim.x == THREADS && D <= 16);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<16, 2, KEYS<16>>(
        shared, o, lse, q, k, v, key_state, global_index, H, D, S, W, G, dropout, scale);
}

// launch: grid [B * H * ceil(S / 128)], block 128, shared (128 + 4 * KEYS) rows of 32
KERNEL_ENTRY void window_attention_fwd_wide_d32(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, float scale, float p) {
    contract(blockDim.x == THREADS && D <= 32);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<32, 2, KEYS<32>>(
        shared, o, lse, q, k, v, key_state, global_index, H, D, S, W, G, dropout, scale);
}

// launch: grid [B * H * ceil(S / 128)], block 128, shared (128 + 4 * KEYS) rows of 64
KERNEL_ENTRY void window_attention_fwd_wide_d64(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, float scale, float p) {
    contract(blockDim.x == THREADS && D <= 64);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<64, 2, KEYS<64>>(
        shared, o, lse, q, k, v, key_state, global_index, H, D, S, W, G, dropout, scale);
}

// launch: grid [B * S * H / 16], block 128, shared 0
KERNEL_ENTRY void window_attention_bwd(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, int add_q, int add_k, int add_v,
    float scale, float p) {
    contract(blockDim.x == THREADS);
    sum_products(delta, d_o, o, B, H, S, D);
}

template <int P, int N>
DEVICE void backward_queries(
    real* shared, real* dq, const float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const float* lse, const int* key_state, const int* global_index, int H, int D, int S, int W, int G,
    const DropoutSite& dropout, int add, float scale) {
    const Place at = place_of(blockIdx.x, key_state, global_index, H, S, G, CEIL_DIV(S, ROWS<1>), ROWS<1>);
    const RowTile tile = {at.first, min(S - at.first, ROWS<1>), nullptr};
    const Counted local = where_equal(at.state, 1);
    const Head q_head = head_of(q, at.b, at.h, S, H, D, S);
    BandAndList<N> keys = keys_of<N>(at, tile.count, S, W, G, any_counts<ROWS<1>>(local, at.first, tile.count));
    float x[1][P / 8][4];
    queries_backward<P, 1, N>(
        x, q_head, head_of(k, at.b, at.h, S, H, D, S), head_of(v, at.b, at.h, S, H, D, S),
        head_of(d_o, at.b, at.h, S, H, D, S), lse + at.head * S, delta + at.head * S, tile, keys,
        Kept{dropout, at.head * S, S}, scale, shared);
    put_gradient<P, 1>(dq + (q_head.x - q), q_head, tile, all_count(), local, S, x, scale, add);
}

// launch: grid [B * H * ceil(S / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 16
KERNEL_ENTRY void window_attention_bwd_q_d16(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, int add_q, int add_k, int add_v,
    float scale, float p) {
    contract(blockDim.x == THREADS && D <= 16);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_queries<16, COLUMNS<16>>(
        shared, dq, delta, d_o, q, k, v, lse, key_state, global_index, H, D, S, W, G, dropout, add_q, scale);
}

// launch: grid [B * H * ceil(S / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 32
KERNEL_ENTRY void window_attention_bwd_q_d32(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, int add_q, int add_k, int add_v,
    float scale, float p) {
    contract(blockDim.x == THREADS && D <= 32);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_queries<32, COLUMNS<32>>(
        shared, dq, delta, d_o, q, k, v, lse, key_state, global_index, H, D, S, W, G, dropout, add_q, scale);
}

// launch: grid [B * H * ceil(S / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 64
KERNEL_ENTRY void window_attention_bwd_q_d64(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, int add_q, int add_k, int add_v,
    float scale, float p) {
    contract(blockDim.x == THREADS && D <= 64);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_queries<64, COLUMNS<64>>(
        shared, dq, delta, d_o, q, k, v, lse, key_state, global_index, H, D, S, W, G, dropout, add_q, scale);
}

// launch: grid [B * H * ceil(S / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 128
KERNEL_ENTRY void window_attention_bwd_q_d128(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, int add_q, int add_k, int add_v,
    float scale, float p) {
    contract(blockDim.x == THREADS && D <= 128);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_queries<128, COLUMNS<128>>(
        shared, dq, delta, d_o, q, k, v, lse, key_state, global_index, H, D, S, W, G, dropout, add_q, scale);
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

// The first blocks take the local keys, B H to a tile of 64; the others take the global ones, a span of queries each.
template <int P, int N>
DEVICE void backward_keys(
    real* shared, real* dk, real* dv, const float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const float* lse, const int* key_state, const int* global_index, int B, int H, int D, int S, int W,
    int G, const DropoutSite& dropout, int add_k, int add_v, float scale) {
    const int tiles = CEIL_DIV(S, ROWS<1>), spans = CEIL_DIV(S, SPAN), local_blocks = B * H * tiles;
    const int block = blockIdx.x, global_tiles = CEIL_DIV(G, ROWS<1>);
    const bool global = block >= local_blocks;
    const int span = global ? (block - local_blocks) / global_tiles % spans : 0;
    // Blocks of a head: its tiles, or its spans with the tiles of each.
    const int turn = global ? (block - local_blocks) / (spans * global_tiles) * global_tiles +
                                  (block - local_blocks) % global_tiles
                            : block;
    const Place at = place_of(turn, key_state, global_index, H, S, G, global ? global_tiles : tiles, ROWS<1>);
    const RowTile tile = {at.first, min((global ? G : S) - at.first, ROWS<1>), global ? at.list : nullptr};
    const Counted local = where_equal(at.state, 1);
    const int reach = global ? FAR : min(W, S);
    const bool any = global || any_counts<ROWS<1>>(local, at.first, tile.count);
    const int from = global ? span * SPAN : max(0, at.first - reach);
    const int end = global ? min(S, from + SPAN) : min(S, at.first + tile.count + reach);
    Band<N> queries = band<N>(where_finite(lse + at.head * S), from, any ? end : 0, -reach, reach);
    const Head k_head = head_of(k, at.b, at.h, S, H, D, S);
    float x[1][P / 8][4], y[1][P / 8][4];
    keys_backward<P, N>(
        x, y, head_of(q, at.b, at.h, S, H, D, S), k_head, head_of(v, at.b, at.h, S, H, D, S),
        head_of(d_o, at.b, at.h, S, H, D, S), lse + at.head * S, delta + at.head * S, tile, queries,
        Kept{dropout, at.head * S, S}, scale, shared);
    if (global) {
        put_partial<P>(partial + (at.head * spans + span) * G * 2ll * D, tile, D, x, y);
        return;
    }
    const Counted not_global = {at.state, 2, false};
    if (dk) put_gradient<P, 1>(dk + (k_head.x - k), k_head, tile, not_global, local, S, x, scale, add_k);
    if (dv) put_gradient<P, 1>(dv + (k_head.x - k), k_head, tile, not_global, local, S, y, 1.0f, add_v);
}

// launch: grid [B * H * (ceil(S / 64) + ceil(S / SPAN) * ceil(G / 64))], block 128, shared as bwd_q_d16
KERNEL_ENTRY void window_attention_bwd_kv_d16(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, int add_q, int add_k, int add_v,
    float scale, float p) {
    contract(blockDim.x == THREADS && D <= 16);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_keys<16, COLUMNS<16>>(
        shared, dk, dv, delta, partial, d_o, q, k, v, lse, key_state, global_index, B, H, D, S, W, G, dropout, add_k,
        add_v, scale);
}

// launch: grid [B * H * (ceil(S / 64) + ceil(S / SPAN) * ceil(G / 64))], block 128, shared as bwd_q_d32
KERNEL_ENTRY void window_attention_bwd_kv_d32(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, int add_q, int add_k, int add_v,
    float scale, float p) {
    contract(blockDim.x == THREADS && D <= 32);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_keys<32, COLUMNS<32>>(
        shared, dk, dv, delta, partial, d_o, q, k, v, lse, key_state, global_index, B, H, D, S, W, G, dropout, add_k,
        add_v, scale);
}

// launch: grid [B * H * (ceil(S / 64) + ceil(S / SPAN) * ceil(G / 64))], block 128, shared as bwd_q_d64
KERNEL_ENTRY void window_attention_bwd_kv_d64(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, int add_q, int add_k, int add_v,
    float scale, float p) {
    contract(blockDim.x == THREADS && D <= 64);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_keys<64, COLUMNS<64>>(
        shared, dk, dv, delta, partial, d_o, q, k, v, lse, key_state, global_index, B, H, D, S, W, G, dropout, add_k,
        add_v, scale);
}

// launch: grid [B * H * (ceil(S / 64) + ceil(S / SPAN) * ceil(G / 64))], block 128, shared as bwd_q_d128
KERNEL_ENTRY void window_attention_bwd_kv_d128(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, int add_q, int add_k, int add_v,
    float scale, float p) {
    contract(blockDim.x == THREADS && D <= 128);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_keys<128, COLUMNS<128>>(
        shared, dk, dv, delta, partial, d_o, q, k, v, lse, key_state, global_index, B, H, D, S, W, G, dropout, add_k,
        add_v, scale);
}

// The partial sums of the global keys, added up; a thread for each of [B, G, H, D].
// launch: grid [B * G * H * D / 128], block 128, shared 0
KERNEL_ENTRY void window_attention_bwd_global(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* global_index,
    const int* randomness, int B, int H, int D, int S, int W, int G, int site, int add_q, int add_k, int add_v,
    float scale, float p) {
    contract(blockDim.x == THREADS);
    const long long e = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    if (e >= static_cast<long long>(B) * G * H * D) return;
    const int d = e % D, h = e / D % H, b = e / D / H / G;
    const int g = e / D / H % G, position = global_index[static_cast<long long>(b) * G + g];
    if (position < 0) return;
    const int spans = CEIL_DIV(S, SPAN);
    const float* from = partial + ((static_cast<long long>(b) * H + h) * spans * G + g) * 2 * D + d;
    float sum_k = 0.0f, sum_v = 0.0f;
    for (int span = 0; span < spans; span++) {
        sum_k += from[span * G * 2ll * D];
        sum_v += from[span * G * 2ll * D + D];
    }
    const long long to = ((static_cast<long long>(b) * S + position) * H + h) * D + d;
    if (dk) put_or_add(dk + to, scale * sum_k, add_k);
    if (dv) put_or_add(dv + to, sum_v, add_v);
}
