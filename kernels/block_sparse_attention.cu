// block_sparse_attention: o_i = sum_j softmax_j(scale q_i k_j + ln count) v_j over the key blocks that a table lists.
// Shapes: q k v o dq dk dv [B, S, H, D] in blocks of K, key_state [B, S] (0 masked), lse delta [B, H, S]; row_ptr
// [H, S / K + 1], col and count list the key blocks of a query block; inverse_ the query blocks of a key block. Masked
// queries give zeros. Saved for backward: q, k, v, o, lse.
// A tile of rows never mixes two blocks, so one list serves it and no pair is masked but for padding. The first and
// the last block of a head have the longest lists: their tiles are launched before all others.
// Also compiled with -DWATTENTION_TF32.
#include "attention.cuh"

// A tile of rows of one block of one head of one sample, and where the lists of that block begin and end.
struct Place {
    int b, h;
    RowTile tile;
    long long head;
    Counted visible;
    int from, to;
};

DEVICE Place place_of(const int* key_state, const int* row_ptr, int B, int H, int S, int K, int rows) {
    const int heads = B * H, n = S / K, parts = CEIL_DIV(K, rows);
    const int head = blockIdx.x % heads, turn = blockIdx.x / heads / parts, part = blockIdx.x / heads % parts;
    // Turns 0 1 2 3 ... are blocks 0 n-1 1 2 ...
    const int block = turn == 0 ? 0 : turn == 1 ? n - 1 : turn - 1;
    const int b = head / H, h = head % H;
    const RowTile tile = {block * K + part * rows, min(K - part * rows, rows), nullptr};
    const int* list = row_ptr + h * (n + 1) + block;
    return {b, h, tile, head, where_not_zero(key_state + static_cast<long long>(b) * S), list[0], list[1]};
}

template <int P, int N>
DEVICE void forward(
    real* shared, real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state,
    const int* row_ptr, const int* col, const int* count, int B, int H, int D, int S, int K, float scale) {
    const Place at = place_of(key_state, row_ptr, B, H, S, K, ROWS<1>);
    const bool any = any_counts<ROWS<1>>(at.visible, at.tile.first, at.tile.count);
    const Head q_head = head_of(q, at.b, at.h, S, H, D, S);
    Blocks<N> keys = blocks<N>(at.visible, col, count, at.from, any ? at.to : at.from, K);
    float sums[1][P / 8][4], most[1][2], sum[1][2];
    attend<P, 1, N>(
        sums, most, sum, q_head, head_of(k, at.b, at.h, S, H, D, S), head_of(v, at.b, at.h, S, H, D, S), at.tile, keys,
        no_dropout(), scale, shared);
    put_attended<P, 1>(o + (q_head.x - q), lse + at.head * S, q_head, at.tile, at.visible, sums, most, sum);
}

// launch: grid [B * H * S / K * ceil(K / 64)], block 128, shared (64 + 4 * KEYS) rows of 16
KERNEL_ENTRY void block_sparse_attention_fwd_d16(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, const int* row_ptr,
    const int* col, const int* count, int B, int H, int D, int S, int K, float scale) {
    contract(blockDim.x == THREADS && D <= 16 && S % K == 0);
    SHARED_DYN(real, shared);
    forward<16, KEYS<16>>(shared, o, lse, q, k, v, key_state, row_ptr, col, count, B, H, D, S, K, scale);
}

// launch: grid [B * H * S / K * ceil(K / 64)], block 128, shared (64 + 4 * KEYS) rows of 32
KERNEL_ENTRY void block_sparse_attention_fwd_d32(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, const int* row_ptr,
    const int* col, const int* count, int B, int H, int D, int S, int K, float scale) {
    contract(blockDim.x == THREADS && D <= 32 && S % K == 0);
    SHARED_DYN(real, shared);
    forward<32, KEYS<32>>(shared, o, lse, q, k, v, key_state, row_ptr, col, count, B, H, D, S, K, scale);
}

// launch: grid [B * H * S / K * ceil(K / 64)], block 128, shared (64 + 4 * KEYS) rows of 64
KERNEL_ENTRY void block_sparse_attention_fwd_d64(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, const int* row_ptr,
    const int* col, const int* count, int B, int H, int D, int S, int K, float scale) {
    contract(blockDim.x == THREADS && D <= 64 && S % K == 0);
    SHARED_DYN(real, shared);
    forward<64, KEYS<64>>(shared, o, lse, q, k, v, key_state, row_ptr, col, count, B, H, D, S, K, scale);
}

// launch: grid [B * H * S / K * ceil(K / 64)], block 128, shared (64 + 4 * KEYS) rows of 128
KERNEL_ENTRY void block_sparse_attention_fwd_d128(
    real* o, float* lse, const real* q, const real* k, const real* v, const int* key_state, const int* row_ptr,
    const int* col, const int* count, int B, int H, int D, int S, int K, float scale) {
    contract(blockDim.x == THREADS && D <= 128 && S % K == 0);
    SHARED_DYN(real, shared);
    forward<128, KEYS<128>>(shared, o, lse, q, k, v, key_state, row_ptr, col, count, B, H, D, S, K, scale);
}

// launch: grid [B * S * H / 16], block 128, shared 0
KERNEL_ENTRY void block_sparse_attention_bwd(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col, const int* count,
    const int* inverse_row_ptr, const int* inverse_col, const int* inverse_count, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS);
    sum_products(delta, d_o, o, B, H, S, D);
}

template <int P, int N>
DEVICE void backward_queries(
    real* shared, real* dq, const float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const float* lse, const int* key_state, const int* row_ptr, const int* col, const int* count, int B, int H, int D,
    int S, int K, int add, float scale) {
    const Place at = place_of(key_state, row_ptr, B, H, S, K, ROWS<1>);
    const bool any = any_counts<ROWS<1>>(at.visible, at.tile.first, at.tile.count);
    const Head q_head = head_of(q, at.b, at.h, S, H, D, S);
    Blocks<N> keys = blocks<N>(at.visible, col, count, at.from, any ? at.to : at.from, K);
    float x[1][P / 8][4];
    queries_backward<P, 1, N>(
        x, q_head, head_of(k, at.b, at.h, S, H, D, S), head_of(v, at.b, at.h, S, H, D, S),
        head_of(d_o, at.b, at.h, S, H, D, S), lse + at.head * S, delta + at.head * S, at.tile, keys, no_dropout(),
        scale, shared);
    put_gradient<P, 1>(dq + (q_head.x - q), q_head, at.tile, all_count(), at.visible, S, x, scale, add);
}

// launch: grid [B * H * S / K * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 16
KERNEL_ENTRY void block_sparse_attention_bwd_q_d16(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col, const int* count,
    const int* inverse_row_ptr, const int* inverse_col, const int* inverse_count, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 16 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_queries<16, COLUMNS<16>>(
        shared, dq, delta, d_o, q, k, v, lse, key_state, row_ptr, col, count, B, H, D, S, K, add_q, scale);
}

// launch: grid [B * H * S / K * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 32
KERNEL_ENTRY void block_sparse_attention_bwd_q_d32(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col, const int* count,
    const int* inverse_row_ptr, const int* inverse_col, const int* inverse_count, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 32 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_queries<32, COLUMNS<32>>(
        shared, dq, delta, d_o, q, k, v, lse, key_state, row_ptr, col, count, B, H, D, S, K, add_q, scale);
}

// launch: grid [B * H * S / K * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 64
KERNEL_ENTRY void block_sparse_attention_bwd_q_d64(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col, const int* count,
    const int* inverse_row_ptr, const int* inverse_col, const int* inverse_count, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 64 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_queries<64, COLUMNS<64>>(
        shared, dq, delta, d_o, q, k, v, lse, key_state, row_ptr, col, count, B, H, D, S, K, add_q, scale);
}

// launch: grid [B * H * S / K * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 128
KERNEL_ENTRY void block_sparse_attention_bwd_q_d128(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col, const int* count,
    const int* inverse_row_ptr, const int* inverse_col, const int* inverse_count, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 128 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_queries<128, COLUMNS<128>>(
        shared, dq, delta, d_o, q, k, v, lse, key_state, row_ptr, col, count, B, H, D, S, K, add_q, scale);
}

template <int P, int N>
DEVICE void backward_keys(
    real* shared, real* dk, real* dv, const float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const float* lse, const int* key_state, const int* row_ptr, const int* col, const int* count, int B, int H, int D,
    int S, int K, int add_k, int add_v, float scale) {
    const Place at = place_of(key_state, row_ptr, B, H, S, K, ROWS<1>);
    const bool any = any_counts<ROWS<1>>(at.visible, at.tile.first, at.tile.count);
    const Head k_head = head_of(k, at.b, at.h, S, H, D, S);
    Blocks<N> queries = blocks<N>(where_finite(lse + at.head * S), col, count, at.from, any ? at.to : at.from, K);
    float x[1][P / 8][4], y[1][P / 8][4];
    keys_backward<P, N>(
        x, y, head_of(q, at.b, at.h, S, H, D, S), k_head, head_of(v, at.b, at.h, S, H, D, S),
        head_of(d_o, at.b, at.h, S, H, D, S), lse + at.head * S, delta + at.head * S, at.tile, queries, no_dropout(),
        scale, shared);
    if (dk) put_gradient<P, 1>(dk + (k_head.x - k), k_head, at.tile, all_count(), at.visible, S, x, scale, add_k);
    if (dv) put_gradient<P, 1>(dv + (k_head.x - k), k_head, at.tile, all_count(), at.visible, S, y, 1.0f, add_v);
}

// launch: grid [B * H * S / K * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 16
KERNEL_ENTRY void block_sparse_attention_bwd_kv_d16(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col, const int* count,
    const int* inverse_row_ptr, const int* inverse_col, const int* inverse_count, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 16 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_keys<16, COLUMNS<16>>(
        shared, dk, dv, delta, d_o, q, k, v, lse, key_state, inverse_row_ptr, inverse_col, inverse_count, B, H, D, S, K,
        add_k, add_v, scale);
}

// launch: grid [B * H * S / K * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 32
KERNEL_ENTRY void block_sparse_attention_bwd_kv_d32(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col, const int* count,
    const int* inverse_row_ptr, const int* inverse_col, const int* inverse_count, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 32 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_keys<32, COLUMNS<32>>(
        shared, dk, dv, delta, d_o, q, k, v, lse, key_state, inverse_row_ptr, inverse_col, inverse_count, B, H, D, S, K,
        add_k, add_v, scale);
}

// launch: grid [B * H * S / K * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 64
KERNEL_ENTRY void block_sparse_attention_bwd_kv_d64(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col, const int* count,
    const int* inverse_row_ptr, const int* inverse_col, const int* inverse_count, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 64 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_keys<64, COLUMNS<64>>(
        shared, dk, dv, delta, d_o, q, k, v, lse, key_state, inverse_row_ptr, inverse_col, inverse_count, B, H, D, S, K,
        add_k, add_v, scale);
}

// launch: grid [B * H * S / K * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 128
KERNEL_ENTRY void block_sparse_attention_bwd_kv_d128(
    real* dq, real* dk, real* dv, float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col, const int* count,
    const int* inverse_row_ptr, const int* inverse_col, const int* inverse_count, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 128 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_keys<128, COLUMNS<128>>(
        shared, dk, dv, delta, d_o, q, k, v, lse, key_state, inverse_row_ptr, inverse_col, inverse_count, B, H, D, S, K,
        add_k, add_v, scale);
}
