// dense_attention: o = softmax(scale q k^T) v per head over all keys, up to the diagonal, or those not masked.
// Shapes: q o dq [B, T, H, D], k v dk dv [B, rows, H, D] of which the first S count, key_state [B, rows] (0 masked,
// may be absent), lse delta [B, H, T]. causal: query i sees keys up to i + offset. Saved for backward: q, k, v, o, lse.
// Keys behind the last visible one are cut off before the walk begins, so padding costs a look and no product.
// Also compiled with -DWATTENTION_TF32.
#include "attention.cuh"

// One past the last visible key; all threads of a block ask together.
DEVICE int visible_end(const Counted& visible, int S, int* votes) {
    constexpr int LOOK = 4;
    int end = S;
    while (visible.state && end > 0) {
        bool any = false;
#pragma unroll
        for (int i = 0; i < LOOK; i++) {
            const int j = end - 1 - i * THREADS - static_cast<int>(threadIdx.x);
            any |= j >= 0 && counts(visible, j);
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
    return max(end, 0);
}

// What a block works on: a tile of one head of one sample, the last tiles of a causal head, which are the longest,
// first.
struct Place {
    int b, h, first;
};

DEVICE Place place_of(int H, int tiles, int rows, int causal) {
    const int tile = blockIdx.x % tiles, head = blockIdx.x / tiles;
    return {head / H, head % H, (causal ? tiles - 1 - tile : tile) * rows};
}

DEVICE Counted visible_keys(const int* key_state, int b, int rows) {
    return key_state ? where_not_zero(key_state + static_cast<long long>(b) * rows) : all_count();
}

template <int P, int M, int N>
DEVICE void forward(
    real* shared, real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, int H, int D,
    int T, int S, int rows, int causal, int offset, const Dropout& dropout, float scale) {
    const Place at = place_of(H, CEIL_DIV(T, ROWS<M>), ROWS<M>, causal);
    const long long head = static_cast<long long>(at.b) * H + at.h;
    const RowTile tile = {at.first, min(T - at.first, ROWS<M>), nullptr};
    const Counted visible = visible_keys(key_state, at.b, rows);
    const int reach = causal ? min(offset, S) : FAR;
    const int end = visible_end(visible, min(S, at.first + tile.count + reach), reinterpret_cast<int*>(shared));
    const Head q_head = head_of(q, at.b, at.h, T, H, D, T);
    Band<N> keys = band<N>(visible, 0, end, -FAR, reach);
    float sums[M][P / 8][4], most[M][2], sum[M][2];
    attend<P, M, N>(
        sums, most, sum, q_head, head_of(k, at.b, at.h, rows, H, D, S), head_of(v, at.b, at.h, rows, H, D, S), tile,
        keys, Kept{dropout, head * T, S}, scale, shared);
    put_attended<P, M>(o + (q_head.x - q), lse + head * T, q_head, tile, all_count(), sums, most, sum);
}

// launch: grid [B * H * ceil(T / ROWS)], block 128, shared (ROWS + 4 * KEYS) rows of 16
KERNEL_ENTRY void dense_attention_fwd_d16(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, int B, int H, int D, int T,
    int S, int rows, int causal, int offset, int seed_lo, int seed_hi, int stream_lo, int stream_hi, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 16);
    SHARED_DYN(real, shared);
    const Dropout dropout = dropout_of(seed_lo, seed_hi, stream_lo, stream_hi, p);
    forward<16, GROUPS<16>, KEYS<16>>(
        shared, o, lse, q, k, v, key_state, H, D, T, S, rows, causal, offset, dropout, scale);
}

// launch: grid [B * H * ceil(T / ROWS)], block 128, shared (ROWS + 4 * KEYS) rows of 32
KERNEL_ENTRY void dense_attention_fwd_d32(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, int B, int H, int D, int T,
    int S, int rows, int causal, int offset, int seed_lo, int seed_hi, int stream_lo, int stream_hi, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 32);
    SHARED_DYN(real, shared);
    const Dropout dropout = dropout_of(seed_lo, seed_hi, stream_lo, stream_hi, p);
    forward<32, GROUPS<32>, KEYS<32>>(
        shared, o, lse, q, k, v, key_state, H, D, T, S, rows, causal, offset, dropout, scale);
}

// launch: grid [B * H * ceil(T / ROWS)], block 128, shared (ROWS + 4 * KEYS) rows of 64
KERNEL_ENTRY void dense_attention_fwd_d64(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, int B, int H, int D, int T,
    int S, int rows, int causal, int offset, int seed_lo, int seed_hi, int stream_lo, int stream_hi, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 64);
    SHARED_DYN(real, shared);
    const Dropout dropout = dropout_of(seed_lo, seed_hi, stream_lo, stream_hi, p);
    forward<64, GROUPS<64>, KEYS<64>>(
        shared, o, lse, q, k, v, key_state, H, D, T, S, rows, causal, offset, dropout, scale);
}

// launch: grid [B * H * ceil(T / ROWS)], block 128, shared (ROWS + 4 * KEYS) rows of 128
KERNEL_ENTRY void dense_attention_fwd_d128(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, int B, int H, int D, int T,
    int S, int rows, int causal, int offset, int seed_lo, int seed_hi, int stream_lo, int stream_hi, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 128);
    SHARED_DYN(real, shared);
    const Dropout dropout = dropout_of(seed_lo, seed_hi, stream_lo, stream_hi, p);
    forward<128, GROUPS<128>, KEYS<128>>(
        shared, o, lse, q, k, v, key_state, H, D, T, S, rows, causal, offset, dropout, scale);
}

// launch: grid [B * T * H / 16], block 128, shared 0
KERNEL_ENTRY void dense_attention_bwd(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, int B, int H, int D, int T, int S, int rows, int causal,
    int offset, int seed_lo, int seed_hi, int stream_lo, int stream_hi, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS);
    sum_products(delta, d_o, o, B, H, T, D);
}

template <int P, int N>
DEVICE void backward_queries(
    real* shared, real* dq, const float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const float* lse, const int* key_state, int H, int D, int T, int S, int rows, int causal, int offset,
    const Dropout& dropout, int add, float scale) {
    const Place at = place_of(H, CEIL_DIV(T, ROWS<1>), ROWS<1>, causal);
    const long long head = static_cast<long long>(at.b) * H + at.h;
    const RowTile tile = {at.first, min(T - at.first, ROWS<1>), nullptr};
    const Counted visible = visible_keys(key_state, at.b, rows);
    const int reach = causal ? min(offset, S) : FAR;
    const int end = visible_end(visible, min(S, at.first + tile.count + reach), reinterpret_cast<int*>(shared));
    const Head q_head = head_of(q, at.b, at.h, T, H, D, T);
    Band<N> keys = band<N>(visible, 0, end, -FAR, reach);
    float x[1][P / 8][4];
    queries_backward<P, 1, N>(
        x, q_head, head_of(k, at.b, at.h, rows, H, D, S), head_of(v, at.b, at.h, rows, H, D, S),
        head_of(d_o, at.b, at.h, T, H, D, T), lse + head * T, delta + head * T, tile, keys,
        Kept{dropout, head * T, S}, scale, shared);
    put_gradient<P, 1>(dq + (q_head.x - q), q_head, tile, all_count(), all_count(), T, x, scale, add);
}

// launch: grid [B * H * ceil(T / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 16
KERNEL_ENTRY void dense_attention_bwd_q_d16(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, int B, int H, int D, int T, int S, int rows, int causal,
    int offset, int seed_lo, int seed_hi, int stream_lo, int stream_hi, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 16);
    SHARED_DYN(real, shared);
    const Dropout dropout = dropout_of(seed_lo, seed_hi, stream_lo, stream_hi, p);
    backward_queries<16, COLUMNS<16>>(
        shared, dq, delta, d_o, q, k, v, lse, key_state, H, D, T, S, rows, causal, offset, dropout, add_q, scale);
}

// launch: grid [B * H * ceil(T / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 32
KERNEL_ENTRY void dense_attention_bwd_q_d32(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, int B, int H, int D, int T, int S, int rows, int causal,
    int offset, int seed_lo, int seed_hi, int stream_lo, int stream_hi, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 32);
    SHARED_DYN(real, shared);
    const Dropout dropout = dropout_of(seed_lo, seed_hi, stream_lo, stream_hi, p);
    backward_queries<32, COLUMNS<32>>(
        shared, dq, delta, d_o, q, k, v, lse, key_state, H, D, T, S, rows, causal, offset, dropout, add_q, scale);
}

// launch: grid [B * H * ceil(T / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 64
KERNEL_ENTRY void dense_attention_bwd_q_d64(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, int B, int H, int D, int T, int S, int rows, int causal,
    int offset, int seed_lo, int seed_hi, int stream_lo, int stream_hi, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 64);
    SHARED_DYN(real, shared);
    const Dropout dropout = dropout_of(seed_lo, seed_hi, stream_lo, stream_hi, p);
    backward_queries<64, COLUMNS<64>>(
        shared, dq, delta, d_o, q, k, v, lse, key_state, H, D, T, S, rows, causal, offset, dropout, add_q, scale);
}

// launch: grid [B * H * ceil(T / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 128
KERNEL_ENTRY void dense_attention_bwd_q_d128(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, int B, int H, int D, int T, int S, int rows, int causal,
    int offset, int seed_lo, int seed_hi, int stream_lo, int stream_hi, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 128);
    SHARED_DYN(real, shared);
    const Dropout dropout = dropout_of(seed_lo, seed_hi, stream_lo, stream_hi, p);
    backward_queries<128, COLUMNS<128>>(
        shared, dq, delta, d_o, q, k, v, lse, key_state, H, D, T, S, rows, causal, offset, dropout, add_q, scale);
}

template <int P, int N>
DEVICE void backward_keys(
    real* shared, real* dk, real* dv, const float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const float* lse, const int* key_state, int H, int D, int T, int S, int rows, int causal, int offset,
    const Dropout& dropout, int add_k, int add_v, float scale) {
    const Place at = place_of(H, CEIL_DIV(rows, ROWS<1>), ROWS<1>, 0);
    const long long head = static_cast<long long>(at.b) * H + at.h;
    const RowTile tile = {at.first, min(rows - at.first, ROWS<1>), nullptr};
    const Counted visible = visible_keys(key_state, at.b, rows);
    const bool any = any_counts<ROWS<1>>(visible, at.first, min(S - at.first, ROWS<1>));
    const int reach = causal ? min(offset, S) : FAR;
    const Head k_head = head_of(k, at.b, at.h, rows, H, D, S);
    Band<N> queries = band<N>(where_finite(lse + head * T), max(0, at.first - reach), any ? T : 0, -reach, FAR);
    float x[1][P / 8][4], y[1][P / 8][4];
    keys_backward<P, N>(
        x, y, head_of(q, at.b, at.h, T, H, D, T), k_head, head_of(v, at.b, at.h, rows, H, D, S),
        head_of(d_o, at.b, at.h, T, H, D, T), lse + head * T, delta + head * T, tile, queries,
        Kept{dropout, head * T, S}, scale, shared);
    if (dk) put_gradient<P, 1>(dk + (k_head.x - k), k_head, tile, all_count(), visible, S, x, scale, add_k);
    if (dv) put_gradient<P, 1>(dv + (k_head.x - k), k_head, tile, all_count(), visible, S, y, 1.0f, add_v);
}

// launch: grid [B * H * ceil(rows / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 16
KERNEL_ENTRY void dense_attention_bwd_kv_d16(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, int B, int H, int D, int T, int S, int rows, int causal,
    int offset, int seed_lo, int seed_hi, int stream_lo, int stream_hi, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 16);
    SHARED_DYN(real, shared);
    const Dropout dropout = dropout_of(seed_lo, seed_hi, stream_lo, stream_hi, p);
    backward_keys<16, COLUMNS<16>>(
        shared, dk, dv, delta, d_o, q, k, v, lse, key_state, H, D, T, S, rows, causal, offset, dropout, add_k, add_v,
        scale);
}

// launch: grid [B * H * ceil(rows / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 32
KERNEL_ENTRY void dense_attention_bwd_kv_d32(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, int B, int H, int D, int T, int S, int rows, int causal,
    int offset, int seed_lo, int seed_hi, int stream_lo, int stream_hi, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 32);
    SHARED_DYN(real, shared);
    const Dropout dropout = dropout_of(seed_lo, seed_hi, stream_lo, stream_hi, p);
    backward_keys<32, COLUMNS<32>>(
        shared, dk, dv, delta, d_o, q, k, v, lse, key_state, H, D, T, S, rows, causal, offset, dropout, add_k, add_v,
        scale);
}

// launch: grid [B * H * ceil(rows / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 64
KERNEL_ENTRY void dense_attention_bwd_kv_d64(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, int B, int H, int D, int T, int S, int rows, int causal,
    int offset, int seed_lo, int seed_hi, int stream_lo, int stream_hi, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 64);
    SHARED_DYN(real, shared);
    const Dropout dropout = dropout_of(seed_lo, seed_hi, stream_lo, stream_hi, p);
    backward_keys<64, COLUMNS<64>>(
        shared, dk, dv, delta, d_o, q, k, v, lse, key_state, H, D, T, S, rows, causal, offset, dropout, add_k, add_v,
        scale);
}

// launch: grid [B * H * ceil(rows / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 128
KERNEL_ENTRY void dense_attention_bwd_kv_d128(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, int B, int H, int D, int T, int S, int rows, int causal,
    int offset, int seed_lo, int seed_hi, int stream_lo, int stream_hi, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 128);
    SHARED_DYN(real, shared);
    const Dropout dropout = dropout_of(seed_lo, seed_hi, stream_lo, stream_hi, p);
    backward_keys<128, COLUMNS<128>>(
        shared, dk, dv, delta, d_o, q, k, v, lse, key_state, H, D, T, S, rows, causal, offset, dropout, add_k, add_v,
        scale);
}
