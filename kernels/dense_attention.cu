// dense_attention: o = softmax(scale q k^T) v per head over all keys, up to the diagonal, or those not masked.
// Shapes: q o dq [B, T, H, D], k v dk dv [B, rows, H, D] of which the first S count, key_state [B, rows] (0 masked,
// may be absent), lse delta [B, H, T]. causal: query i sees keys up to i + offset. Saved for backward: q, k, v, o, lse.
// Keys behind the last visible one are cut off before the walk begins, so padding costs a look and no product. Where
// queries are few, `splits` blocks share the keys of a tile; what each finds goes to `partial`, and a last pass joins
// them in order. One query over a cache is decode_attention.cu.
// Also compiled with -DWATTENTION_TF32 and -DWATTENTION_TF32X3.
#include "attention.cuh"

DEVICE Counted visible_keys(const int* key_state, int b, int rows) {
    return key_state ? where_not_zero(key_state + static_cast<long long>(b) * rows) : all_count();
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

DEVICE Place place_of(int H, int tiles, int rows, int causal, int S, int splits) {
    const int tile = blockIdx.x % tiles, head = blockIdx.x / tiles;
    const int share = CEIL_DIV(CEIL_DIV(S, splits), 64) * 64, from = min(S, static_cast<int>(blockIdx.y) * share);
    const int first = (causal ? tiles - 1 - tile : tile) * rows;
    return {head / H, head % H, first, head, from, min(S, from + share)};
}

// The keys of that share that `count` queries see.
template <int N>
DEVICE Band<N> keys_of(const Place& at, int count, const Counted& visible, int causal, int offset, void* scratch) {
    const int reach = causal ? min(offset, FAR) : FAR;
    const int seen = max(at.from, min(at.end, at.first + count + reach));
    const int end = visible_end(visible, at.from, seen, static_cast<int*>(scratch));
    return band<N>(visible, at.from, end, -FAR, reach);
}

// What a split found for a row: the maximum, the sum of p, and the sums of p v.
DEVICE float* part_of(float* partial, int split, long long rows, long long row, int D) {
    return partial + (split * rows + row) * (D + 2);
}

template <int P, int M, int N>
DEVICE void forward(
    real* shared, real* o, float* lse, float* partial, const real* q, const real* k, const real* v,
    const int* key_state, int B, int H, int D, int T, int S, int rows, int causal, int offset, int splits,
    const DropoutSite& dropout, float scale) {
    const Place at = place_of(H, CEIL_DIV(T, ROWS<M>), ROWS<M>, causal, S, splits);
    const RowTile tile = {at.first, min(T - at.first, ROWS<M>), nullptr};
    const Head q_head = head_of(q, at.b, at.h, T, H, D, T);
    Band<N> keys = keys_of<N>(at, tile.count, visible_keys(key_state, at.b, rows), causal, offset, shared);
    float sums[M][P / 8][4], most[M][2], sum[M][2];
    attend<P, M, N>(
        sums, most, sum, q_head, head_of(k, at.b, at.h, rows, H, D, S), head_of(v, at.b, at.h, rows, H, D, S), tile,
        keys, Kept{dropout, at.head * T, S}, scale, shared);
    if (splits == 1) {
        put_attended<P, M>(o + (q_head.x - q), lse + at.head * T, q_head, tile, all_count(), sums, most, sum);
        return;
    }
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const int r = threadIdx.x / WARP * 16 * M + 8 * i + lane_row();
        if (r >= tile.count) continue;
        float* part = part_of(partial, blockIdx.y, static_cast<long long>(B) * H * T, at.head * T + at.first + r, D);
        put_row(part + 2, sums[i / 2], i % 2, 1.0f, D, 0);
        if (lane_column() == 0) part[0] = most[i / 2][i % 2], part[1] = sum[i / 2][i % 2];
    }
}

// launch: grid [B * H * ceil(T / 64), splits], block 128, shared (64 + 4 * KEYS) rows of 16
KERNEL_ENTRY void dense_attention_fwd_d16(
    real* o, float* lse, float* partial, const real* q, const real* k, const real* v, const int* key_state,
    const int* randomness, int B, int H, int D, int T, int S, int rows, int causal, int offset, int splits, int site,
    float scale, float p) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == splits && D <= 16);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<16, 1, KEYS<16>>(
        shared, o, lse, partial, q, k, v, key_state, B, H, D, T, S, rows, causal, offset, splits, dropout, scale);
}

// launch: grid [B * H * ceil(T / 64), splits], block 128, shared (64 + 4 * KEYS) rows of 32
KERNEL_ENTRY void dense_attention_fwd_d32(
    real* o, float* lse, float* partial, const real* q, const real* k, const real* v, const int* key_state,
    const int* randomness, int B, int H, int D, int T, int S, int rows, int causal, int offset, int splits, int site,
    float scale, float p) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == splits && D <= 32);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<32, 1, KEYS<32>>(
        shared, o, lse, partial, q, k, v, key_state, B, H, D, T, S, rows, causal, offset, splits, dropout, scale);
}

// launch: grid [B * H * ceil(T / 64), splits], block 128, shared (64 + 4 * KEYS) rows of 64
KERNEL_ENTRY void dense_attention_fwd_d64(
    real* o, float* lse, float* partial, const real* q, const real* k, const real* v, const int* key_state,
    const int* randomness, int B, int H, int D, int T, int S, int rows, int causal, int offset, int splits, int site,
    float scale, float p) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == splits && D <= 64);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<64, 1, KEYS<64>>(
        shared, o, lse, partial, q, k, v, key_state, B, H, D, T, S, rows, causal, offset, splits, dropout, scale);
}

// launch: grid [B * H * ceil(T / 64), splits], block 128, shared (64 + 4 * KEYS) rows of 128
KERNEL_ENTRY void dense_attention_fwd_d128(
    real* o, float* lse, float* partial, const real* q, const real* k, const real* v, const int* key_state,
    const int* randomness, int B, int H, int D, int T, int S, int rows, int causal, int offset, int splits, int site,
    float scale, float p) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == splits && D <= 128);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<128, 1, KEYS<128>>(
        shared, o, lse, partial, q, k, v, key_state, B, H, D, T, S, rows, causal, offset, splits, dropout, scale);
}

// launch: grid [B * H * ceil(T / 128), splits], block 128, shared (128 + 4 * KEYS) rows of 16
KERNEL_ENTRY void dense_attention_fwd_wide_d16(
    real* o, float* lse, float* partial, const real* q, const real* k, const real* v, const int* key_state,
    const int* randomness, int B, int H, int D, int T, int S, int rows, int causal, int offset, int splits, int site,
    float scale, float p) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == splits && D <= 16);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<16, 2, KEYS<16>>(
        shared, o, lse, partial, q, k, v, key_state, B, H, D, T, S, rows, causal, offset, splits, dropout, scale);
}

// launch: grid [B * H * ceil(T / 128), splits], block 128, shared (128 + 4 * KEYS) rows of 32
KERNEL_ENTRY void dense_attention_fwd_wide_d32(
    real* o, float* lse, float* partial, const real* q, const real* k, const real* v, const int* key_state,
    const int* randomness, int B, int H, int D, int T, int S, int rows, int causal, int offset, int splits, int site,
    float scale, float p) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == splits && D <= 32);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<32, 2, KEYS<32>>(
        shared, o, lse, partial, q, k, v, key_state, B, H, D, T, S, rows, causal, offset, splits, dropout, scale);
}

// launch: grid [B * H * ceil(T / 128), splits], block 128, shared (128 + 4 * KEYS) rows of 64
KERNEL_ENTRY void dense_attention_fwd_wide_d64(
    real* o, float* lse, float* partial, const real* q, const real* k, const real* v, const int* key_state,
    const int* randomness, int B, int H, int D, int T, int S, int rows, int causal, int offset, int splits, int site,
    float scale, float p) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == splits && D <= 64);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    forward<64, 2, KEYS<64>>(
        shared, o, lse, partial, q, k, v, key_state, B, H, D, T, S, rows, causal, offset, splits, dropout, scale);
}

// Joins the splits; a warp for each row.
// launch: grid [B * H * T / 4], block 128, shared 0
KERNEL_ENTRY void dense_attention_fwd_join(
    real* o, float* lse, float* partial, const real* q, const real* k, const real* v, const int* key_state,
    const int* randomness, int B, int H, int D, int T, int S, int rows, int causal, int offset, int splits, int site,
    float scale, float p) {
    contract(blockDim.x == THREADS && D <= 4 * WARP);
    const long long row = static_cast<long long>(blockIdx.x) * WARPS + threadIdx.x / WARP, all = 1ll * B * H * T;
    if (row >= all) return;
    const long long b = row / T / H, h = row / T % H;
    const float* part = part_of(partial, 0, all, row, D);
    join_parts(o + ((b * T + row % T) * H + h) * D, lse + row, part, all * (D + 2), splits, D, true);
}

// launch: grid [B * T * H / 16], block 128, shared 0
KERNEL_ENTRY void dense_attention_bwd(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* randomness, int B, int H, int D,
    int T, int S, int rows, int causal, int offset, int splits, int site, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS);
    sum_products(delta, d_o, o, B, H, T, D);
}

template <int P, int N>
DEVICE void backward_queries(
    real* shared, real* dq, const float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const float* lse, const int* key_state, int B, int H, int D, int T, int S, int rows, int causal,
    int offset, int splits, const DropoutSite& dropout, int add, float scale) {
    const Place at = place_of(H, CEIL_DIV(T, ROWS<1>), ROWS<1>, causal, S, splits);
    const RowTile tile = {at.first, min(T - at.first, ROWS<1>), nullptr};
    const Head q_head = head_of(q, at.b, at.h, T, H, D, T);
    Band<N> keys = keys_of<N>(at, tile.count, visible_keys(key_state, at.b, rows), causal, offset, shared);
    float x[1][P / 8][4];
    queries_backward<P, 1, N>(
        x, q_head, head_of(k, at.b, at.h, rows, H, D, S), head_of(v, at.b, at.h, rows, H, D, S),
        head_of(d_o, at.b, at.h, T, H, D, T), lse + at.head * T, delta + at.head * T, tile, keys,
        Kept{dropout, at.head * T, S}, scale, shared);
    if (splits == 1) {
        put_gradient<P, 1>(dq + (q_head.x - q), q_head, tile, all_count(), all_count(), T, x, scale, add);
        return;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = threadIdx.x / WARP * 16 + 8 * i + lane_row();
        const long long row = (blockIdx.y * static_cast<long long>(B) * H + at.head) * T + at.first + r;
        if (r < tile.count) put_row(partial + row * D, x[0], i, scale, D, 0);
    }
}

// launch: grid [B * H * ceil(T / 64), splits], block 128, shared (128 + 4 * COLUMNS) rows of 16
KERNEL_ENTRY void dense_attention_bwd_q_d16(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* randomness, int B, int H, int D,
    int T, int S, int rows, int causal, int offset, int splits, int site, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == splits && D <= 16);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_queries<16, COLUMNS<16>>(
        shared, dq, delta, partial, d_o, q, k, v, lse, key_state, B, H, D, T, S, rows, causal, offset, splits, dropout,
        add_q, scale);
}

// launch: grid [B * H * ceil(T / 64), splits], block 128, shared (128 + 4 * COLUMNS) rows of 32
KERNEL_ENTRY void dense_attention_bwd_q_d32(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* randomness, int B, int H, int D,
    int T, int S, int rows, int causal, int offset, int splits, int site, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == splits && D <= 32);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_queries<32, COLUMNS<32>>(
        shared, dq, delta, partial, d_o, q, k, v, lse, key_state, B, H, D, T, S, rows, causal, offset, splits, dropout,
        add_q, scale);
}

// launch: grid [B * H * ceil(T / 64), splits], block 128, shared (128 + 4 * COLUMNS) rows of 64
KERNEL_ENTRY void dense_attention_bwd_q_d64(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* randomness, int B, int H, int D,
    int T, int S, int rows, int causal, int offset, int splits, int site, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == splits && D <= 64);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_queries<64, COLUMNS<64>>(
        shared, dq, delta, partial, d_o, q, k, v, lse, key_state, B, H, D, T, S, rows, causal, offset, splits, dropout,
        add_q, scale);
}

// launch: grid [B * H * ceil(T / 64), splits], block 128, shared (128 + 4 * COLUMNS) rows of 128
KERNEL_ENTRY void dense_attention_bwd_q_d128(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* randomness, int B, int H, int D,
    int T, int S, int rows, int causal, int offset, int splits, int site, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == splits && D <= 128);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_queries<128, COLUMNS<128>>(
        shared, dq, delta, partial, d_o, q, k, v, lse, key_state, B, H, D, T, S, rows, causal, offset, splits, dropout,
        add_q, scale);
}

// Adds up the splits of dq.
// launch: grid [B * T * H * D / 128], block 128, shared 0
KERNEL_ENTRY void dense_attention_bwd_q_join(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* randomness, int B, int H, int D,
    int T, int S, int rows, int causal, int offset, int splits, int site, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS);
    const long long e = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x, all = 1ll * B * T * H * D;
    if (e >= all) return;
    const long long d = e % D, h = e / D % H, i = e / D / H % T, b = e / D / H / T;
    float sum = 0.0f;
    for (int split = 0; split < splits; split++) sum += partial[split * all + ((b * H + h) * T + i) * D + d];
    put_or_add(dq + e, sum, add_q);
}

template <int P, int N>
DEVICE void backward_keys(
    real* shared, real* dk, real* dv, const float* delta, const real* d_o, const real* q, const real* k, const real* v,
    const float* lse, const int* key_state, int H, int D, int T, int S, int rows, int causal, int offset,
    const DropoutSite& dropout, int add_k, int add_v, float scale) {
    const Place at = place_of(H, CEIL_DIV(rows, ROWS<1>), ROWS<1>, 0, S, 1);
    const RowTile tile = {at.first, min(rows - at.first, ROWS<1>), nullptr};
    const Counted visible = visible_keys(key_state, at.b, rows);
    const bool any = any_counts<ROWS<1>>(visible, at.first, min(S - at.first, ROWS<1>));
    const int reach = causal ? min(offset, FAR) : FAR;
    const Head k_head = head_of(k, at.b, at.h, rows, H, D, S);
    Band<N> queries = band<N>(where_finite(lse + at.head * T), max(0, at.first - reach), any ? T : 0, -reach, FAR);
    float x[1][P / 8][4], y[1][P / 8][4];
    keys_backward<P, N>(
        x, y, head_of(q, at.b, at.h, T, H, D, T), k_head, head_of(v, at.b, at.h, rows, H, D, S),
        head_of(d_o, at.b, at.h, T, H, D, T), lse + at.head * T, delta + at.head * T, tile, queries,
        Kept{dropout, at.head * T, S}, scale, shared);
    if (dk) put_gradient<P, 1>(dk + (k_head.x - k), k_head, tile, all_count(), visible, S, x, scale, add_k);
    if (dv) put_gradient<P, 1>(dv + (k_head.x - k), k_head, tile, all_count(), visible, S, y, 1.0f, add_v);
}

// launch: grid [B * H * ceil(rows / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 16
KERNEL_ENTRY void dense_attention_bwd_kv_d16(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* randomness, int B, int H, int D,
    int T, int S, int rows, int causal, int offset, int splits, int site, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 16);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_keys<16, COLUMNS<16>>(
        shared, dk, dv, delta, d_o, q, k, v, lse, key_state, H, D, T, S, rows, causal, offset, dropout, add_k, add_v,
        scale);
}

// launch: grid [B * H * ceil(rows / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 32
KERNEL_ENTRY void dense_attention_bwd_kv_d32(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* randomness, int B, int H, int D,
    int T, int S, int rows, int causal, int offset, int splits, int site, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 32);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_keys<32, COLUMNS<32>>(
        shared, dk, dv, delta, d_o, q, k, v, lse, key_state, H, D, T, S, rows, causal, offset, dropout, add_k, add_v,
        scale);
}

// launch: grid [B * H * ceil(rows / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 64
KERNEL_ENTRY void dense_attention_bwd_kv_d64(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* randomness, int B, int H, int D,
    int T, int S, int rows, int causal, int offset, int splits, int site, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 64);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_keys<64, COLUMNS<64>>(
        shared, dk, dv, delta, d_o, q, k, v, lse, key_state, H, D, T, S, rows, causal, offset, dropout, add_k, add_v,
        scale);
}

// launch: grid [B * H * ceil(rows / 64)], block 128, shared (128 + 4 * COLUMNS) rows of 128
KERNEL_ENTRY void dense_attention_bwd_kv_d128(
    real* dq, real* dk, real* dv, float* delta, float* partial, const real* d_o, const real* q, const real* k,
    const real* v, const real* o, const float* lse, const int* key_state, const int* randomness, int B, int H, int D,
    int T, int S, int rows, int causal, int offset, int splits, int site, int add_q, int add_k, int add_v, float scale,
    float p) {
    contract(blockDim.x == THREADS && D <= 128);
    SHARED_DYN(real, shared);
    const DropoutSite dropout = site_of(randomness, site, p);
    backward_keys<128, COLUMNS<128>>(
        shared, dk, dv, delta, d_o, q, k, v, lse, key_state, H, D, T, S, rows, causal, offset, dropout, add_k, add_v,
        scale);
}
