// block_sparse_attention: o_i = sum_j softmax_j(scale q_i k_j + ln count) v_j over the key blocks that a table lists.
// Shapes: q k v o dq dk dv [B, S, H, D] in blocks of K, key_state [B, S] (0 masked), lse delta [B, H, S]; row_ptr
// [H, S / K + 1], col and count list the key blocks of a query block; inverse_ the query blocks of a key block. Masked
// queries give zeros. Saved for backward: q, k, v, o, lse.
// A tile of rows never mixes two blocks: one list serves it and no pair is masked but for padding. Some lists are far
// longer than others: `work` [items, 4] (head and block, entries from and to, slot) cuts them into parts. A part writes
// what it finds to its slot of `partial`; a last pass joins them by `joins` [lists, 3] (head and block, first slot,
// parts).
// Also compiled with -DWATTENTION_TF32 and -DWATTENTION_TF32X3.
#include "attention.cuh"

// Rows that a block joins.
constexpr int JOINED = 16;

// A tile of rows of one block of one head of one sample, and entries of its list.
struct Place {
    int b, h;
    RowTile tile;
    long long head;
    Counted visible;
    int from, to, slot;
};

DEVICE Place place_of(const int* work, const int* key_state, int B, int H, int S, int K, int rows) {
    const int n = S / K, tiles = CEIL_DIV(K, rows);
    const int* item = work + blockIdx.x / (B * tiles) * 4ll;
    const int b = blockIdx.x / tiles % B, h = item[0] / n, block = item[0] % n, part = blockIdx.x % tiles;
    const RowTile tile = {block * K + part * rows, min(K - part * rows, rows), nullptr};
    const Counted visible = where_not_zero(key_state + static_cast<long long>(b) * S);
    return {b, h, tile, static_cast<long long>(b) * H + h, visible, item[1], item[2], item[3]};
}

// The entries of a part; none where no row of its tile counts.
template <int N>
DEVICE Blocks<N> blocks_of(const Place& at, const Counted& counted, const int* col, const int* count, int K) {
    const bool any = any_counts<ROWS<1>>(at.visible, at.tile.first, at.tile.count);
    return blocks<N>(counted, col, count, at.from, any ? at.to : at.from, K);
}

// Row `i` of a block in the slot of a part, `width` floats; partial is [slots, B, K, width].
DEVICE float* slot_row(float* partial, int slot, int b, int i, int B, int K, int width) {
    return partial + ((static_cast<long long>(slot) * B + b) * K + i) * width;
}

// The rows of a tile in its slot, from float `offset` of each on.
template <int P>
DEVICE void put_part(
    float* partial, const Place& at, const float (&x)[1][P / 8][4], float factor, int B, int K, int D, int width,
    int offset) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = threadIdx.x / WARP * 16 + 8 * i + lane_row();
        float* row = slot_row(partial, at.slot, at.b, at.tile.first % K + r, B, K, width);
        if (r < at.tile.count) put_row(row + offset, x[0], i, factor, D, 0);
    }
}

// A list to join: block (x, y) takes rows JOINED y on of one sample of list x / B.
struct Join {
    int b, h, first, slot, parts;
    // Position of row 0 of the block.
    long long position;
};

DEVICE Join join_of(const int* joins, int B, int S, int K) {
    const int n = S / K, b = blockIdx.x % B;
    const int* list = joins + blockIdx.x / B * 3ll;
    const int first = blockIdx.y * JOINED;
    return {b, list[0] / n, first, list[1], list[2], static_cast<long long>(b) * S + list[0] % n * K};
}

// dx of the rows of a list: its parts' sums, `width` floats a row and D of them from `offset` on.
DEVICE void join_gradient(
    real* dx, float* partial, const Join& at, int B, int H, int D, int K, int width, int offset, int accumulate) {
    const int rows = min(JOINED, K - at.first);
    for (int e = threadIdx.x; e < rows * D; e += THREADS) {
        const int i = at.first + e / D, d = e % D;
        float sum = 0.0f;
        for (int part = 0; part < at.parts; part++) {
            sum += slot_row(partial, at.slot + part, at.b, i, B, K, width)[offset + d];
        }
        put_or_add(dx + ((at.position + i) * H + at.h) * D + d, sum, accumulate);
    }
}

template <int P, int N>
DEVICE void forward(
    real* shared, real* o, float* lse, float* partial, const real* q, const real* k, const real* v,
    const int* key_state, const int* col, const int* count, const int* work, int B, int H, int D, int S, int K,
    float scale) {
    const Place at = place_of(work, key_state, B, H, S, K, ROWS<1>);
    const Head q_head = head_of(q, at.b, at.h, S, H, D, S);
    Blocks<N> keys = blocks_of<N>(at, at.visible, col, count, K);
    float sums[1][P / 8][4], most[1][2], sum[1][2];
    attend<P, 1, N>(
        sums, most, sum, q_head, head_of(k, at.b, at.h, S, H, D, S), head_of(v, at.b, at.h, S, H, D, S), at.tile, keys,
        no_dropout(), scale, shared);
    if (at.slot < 0) {
        put_attended<P, 1>(o + (q_head.x - q), lse + at.head * S, q_head, at.tile, at.visible, sums, most, sum);
        return;
    }
    put_part<P>(partial, at, sums, 1.0f, B, K, D, D + 2, 2);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = threadIdx.x / WARP * 16 + 8 * i + lane_row();
        float* row = slot_row(partial, at.slot, at.b, at.tile.first % K + r, B, K, D + 2);
        if (r < at.tile.count && lane_column() == 0) row[0] = most[0][i], row[1] = sum[0][i];
    }
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (64 + 4 * KEYS) rows of 16
KERNEL_ENTRY void block_sparse_attention_fwd_d16(
    real* o, float* lse, float* partial, const real* q, const real* k, const real* v, const int* key_state,
    const int* row_ptr, const int* col, const int* count, const int* work, const int* joins, int B, int H, int D, int S,
    int K, float scale) {
    contract(blockDim.x == THREADS && D <= 16 && S % K == 0);
    SHARED_DYN(real, shared);
    forward<16, KEYS<16>>(shared, o, lse, partial, q, k, v, key_state, col, count, work, B, H, D, S, K, scale);
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (64 + 4 * KEYS) rows of 32
KERNEL_ENTRY void block_sparse_attention_fwd_d32(
    real* o, float* lse, float* partial, const real* q, const real* k, const real* v, const int* key_state,
    const int* row_ptr, const int* col, const int* count, const int* work, const int* joins, int B, int H, int D, int S,
    int K, float scale) {
    contract(blockDim.x == THREADS && D <= 32 && S % K == 0);
    SHARED_DYN(real, shared);
    forward<32, KEYS<32>>(shared, o, lse, partial, q, k, v, key_state, col, count, work, B, H, D, S, K, scale);
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (64 + 4 * KEYS) rows of 64
KERNEL_ENTRY void block_sparse_attention_fwd_d64(
    real* o, float* lse, float* partial, const real* q, const real* k, const real* v, const int* key_state,
    const int* row_ptr, const int* col, const int* count, const int* work, const int* joins, int B, int H, int D, int S,
    int K, float scale) {
    contract(blockDim.x == THREADS && D <= 64 && S % K == 0);
    SHARED_DYN(real, shared);
    forward<64, KEYS<64>>(shared, o, lse, partial, q, k, v, key_state, col, count, work, B, H, D, S, K, scale);
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (64 + 4 * KEYS) rows of 128
KERNEL_ENTRY void block_sparse_attention_fwd_d128(
    real* o, float* lse, float* partial, const real* q, const real* k, const real* v, const int* key_state,
    const int* row_ptr, const int* col, const int* count, const int* work, const int* joins, int B, int H, int D, int S,
    int K, float scale) {
    contract(blockDim.x == THREADS && D <= 128 && S % K == 0);
    SHARED_DYN(real, shared);
    forward<128, KEYS<128>>(shared, o, lse, partial, q, k, v, key_state, col, count, work, B, H, D, S, K, scale);
}

// A warp for each row.
// launch: grid [lists * B, ceil(K / 16)], block 128, shared 0
KERNEL_ENTRY void block_sparse_attention_fwd_join(
    real* o, float* lse, float* partial, const real* q, const real* k, const real* v, const int* key_state,
    const int* row_ptr, const int* col, const int* count, const int* work, const int* joins, int B, int H, int D, int S,
    int K, float scale) {
    contract(blockDim.x == THREADS && D <= 4 * WARP && static_cast<int>(gridDim.y) == CEIL_DIV(K, JOINED));
    const Join at = join_of(joins, B, S, K);
    for (int i = at.first + threadIdx.x / WARP; i < min(at.first + JOINED, K); i += WARPS) {
        const long long position = at.position + i;
        const bool on = key_state[position] != 0;
        const float* part = slot_row(partial, at.slot, at.b, i, B, K, D + 2);
        const long long next_part = static_cast<long long>(B) * K * (D + 2);
        join_parts(o + (position * H + at.h) * D, lse + (static_cast<long long>(at.b) * H + at.h) * S + position % S,
                   part, next_part, at.parts, D, on);
    }
}

// launch: grid [B * S * H / 16], block 128, shared 0
KERNEL_ENTRY void block_sparse_attention_bwd(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col,
    const int* count, const int* work, const int* joins, const int* inverse_row_ptr, const int* inverse_col,
    const int* inverse_count, const int* inverse_work, const int* inverse_joins, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS);
    sum_products(delta, d_o, o, B, H, S, D);
}

template <int P, int N>
DEVICE void backward_queries(
    real* shared, real* dq, const float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const float* lse, const int* key_state, const int* col, const int* count, const int* work, int B,
    int H, int D, int S, int K, int add, float scale) {
    const Place at = place_of(work, key_state, B, H, S, K, ROWS<1>);
    const Head q_head = head_of(q, at.b, at.h, S, H, D, S);
    Blocks<N> keys = blocks_of<N>(at, at.visible, col, count, K);
    float x[1][P / 8][4];
    queries_backward<P, 1, N>(
        x, q_head, head_of(k, at.b, at.h, S, H, D, S), head_of(v, at.b, at.h, S, H, D, S),
        head_of(d_o, at.b, at.h, S, H, D, S), lse + at.head * S, delta + at.head * S, at.tile, keys, no_dropout(),
        scale, shared);
    if (at.slot < 0) {
        put_gradient<P, 1>(dq + (q_head.x - q), q_head, at.tile, all_count(), at.visible, S, x, scale, add);
    } else {
        put_part<P>(partial, at, x, scale, B, K, D, D, 0);
    }
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 16
KERNEL_ENTRY void block_sparse_attention_bwd_q_d16(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col,
    const int* count, const int* work, const int* joins, const int* inverse_row_ptr, const int* inverse_col,
    const int* inverse_count, const int* inverse_work, const int* inverse_joins, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 16 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_queries<16, COLUMNS<16>>(
        shared, dq, delta, partial, d_o, q, k, v, lse, key_state, col, count, work, B, H, D, S, K, add_q, scale);
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 32
KERNEL_ENTRY void block_sparse_attention_bwd_q_d32(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col,
    const int* count, const int* work, const int* joins, const int* inverse_row_ptr, const int* inverse_col,
    const int* inverse_count, const int* inverse_work, const int* inverse_joins, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 32 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_queries<32, COLUMNS<32>>(
        shared, dq, delta, partial, d_o, q, k, v, lse, key_state, col, count, work, B, H, D, S, K, add_q, scale);
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 64
KERNEL_ENTRY void block_sparse_attention_bwd_q_d64(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col,
    const int* count, const int* work, const int* joins, const int* inverse_row_ptr, const int* inverse_col,
    const int* inverse_count, const int* inverse_work, const int* inverse_joins, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 64 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_queries<64, COLUMNS<64>>(
        shared, dq, delta, partial, d_o, q, k, v, lse, key_state, col, count, work, B, H, D, S, K, add_q, scale);
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 128
KERNEL_ENTRY void block_sparse_attention_bwd_q_d128(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col,
    const int* count, const int* work, const int* joins, const int* inverse_row_ptr, const int* inverse_col,
    const int* inverse_count, const int* inverse_work, const int* inverse_joins, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 128 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_queries<128, COLUMNS<128>>(
        shared, dq, delta, partial, d_o, q, k, v, lse, key_state, col, count, work, B, H, D, S, K, add_q, scale);
}

// launch: grid [lists * B, ceil(K / 16)], block 128, shared 0
KERNEL_ENTRY void block_sparse_attention_bwd_q_join(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col,
    const int* count, const int* work, const int* joins, const int* inverse_row_ptr, const int* inverse_col,
    const int* inverse_count, const int* inverse_work, const int* inverse_joins, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == CEIL_DIV(K, JOINED));
    join_gradient(dq, partial, join_of(joins, B, S, K), B, H, D, K, D, 0, add_q);
}

template <int P, int N>
DEVICE void backward_keys(
    real* shared, real* dk, real* dv, const float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const float* lse, const int* key_state, const int* col, const int* count, const int* work, int B,
    int H, int D, int S, int K, int add_k, int add_v, float scale) {
    const Place at = place_of(work, key_state, B, H, S, K, ROWS<1>);
    const Head k_head = head_of(k, at.b, at.h, S, H, D, S);
    Blocks<N> queries = blocks_of<N>(at, where_finite(lse + at.head * S), col, count, K);
    float x[1][P / 8][4], y[1][P / 8][4];
    keys_backward<P, N>(
        x, y, head_of(q, at.b, at.h, S, H, D, S), k_head, head_of(v, at.b, at.h, S, H, D, S),
        head_of(d_o, at.b, at.h, S, H, D, S), lse + at.head * S, delta + at.head * S, at.tile, queries, no_dropout(),
        scale, shared);
    if (at.slot >= 0) {
        clear_rows(x, at.tile, at.visible);
        clear_rows(y, at.tile, at.visible);
        put_part<P>(partial, at, x, scale, B, K, D, 2 * D, 0);
        put_part<P>(partial, at, y, 1.0f, B, K, D, 2 * D, D);
        return;
    }
    if (dk) put_gradient<P, 1>(dk + (k_head.x - k), k_head, at.tile, all_count(), at.visible, S, x, scale, add_k);
    if (dv) put_gradient<P, 1>(dv + (k_head.x - k), k_head, at.tile, all_count(), at.visible, S, y, 1.0f, add_v);
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 16
KERNEL_ENTRY void block_sparse_attention_bwd_kv_d16(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col,
    const int* count, const int* work, const int* joins, const int* inverse_row_ptr, const int* inverse_col,
    const int* inverse_count, const int* inverse_work, const int* inverse_joins, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 16 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_keys<16, COLUMNS<16>>(
        shared, dk, dv, delta, partial, d_o, q, k, v, lse, key_state, inverse_col, inverse_count, inverse_work, B, H, D,
        S, K, add_k, add_v, scale);
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 32
KERNEL_ENTRY void block_sparse_attention_bwd_kv_d32(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col,
    const int* count, const int* work, const int* joins, const int* inverse_row_ptr, const int* inverse_col,
    const int* inverse_count, const int* inverse_work, const int* inverse_joins, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 32 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_keys<32, COLUMNS<32>>(
        shared, dk, dv, delta, partial, d_o, q, k, v, lse, key_state, inverse_col, inverse_count, inverse_work, B, H, D,
        S, K, add_k, add_v, scale);
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 64
KERNEL_ENTRY void block_sparse_attention_bwd_kv_d64(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col,
    const int* count, const int* work, const int* joins, const int* inverse_row_ptr, const int* inverse_col,
    const int* inverse_count, const int* inverse_work, const int* inverse_joins, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 64 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_keys<64, COLUMNS<64>>(
        shared, dk, dv, delta, partial, d_o, q, k, v, lse, key_state, inverse_col, inverse_count, inverse_work, B, H, D,
        S, K, add_k, add_v, scale);
}

// launch: grid [items * B * ceil(K / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 128
KERNEL_ENTRY void block_sparse_attention_bwd_kv_d128(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col,
    const int* count, const int* work, const int* joins, const int* inverse_row_ptr, const int* inverse_col,
    const int* inverse_count, const int* inverse_work, const int* inverse_joins, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && D <= 128 && S % K == 0);
    SHARED_DYN(real, shared);
    backward_keys<128, COLUMNS<128>>(
        shared, dk, dv, delta, partial, d_o, q, k, v, lse, key_state, inverse_col, inverse_count, inverse_work, B, H, D,
        S, K, add_k, add_v, scale);
}

// launch: grid [lists * B, ceil(K / 16)], block 128, shared 0
KERNEL_ENTRY void block_sparse_attention_bwd_kv_join(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* row_ptr, const int* col,
    const int* count, const int* work, const int* joins, const int* inverse_row_ptr, const int* inverse_col,
    const int* inverse_count, const int* inverse_work, const int* inverse_joins, int B, int H, int D, int S, int K,
    int add_q, int add_k, int add_v, float scale) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == CEIL_DIV(K, JOINED));
    const Join at = join_of(inverse_joins, B, S, K);
    if (dk) join_gradient(dk, partial, at, B, H, D, K, 2 * D, 0, add_k);
    if (dv) join_gradient(dv, partial, at, B, H, D, K, 2 * D, D, add_v);
}
