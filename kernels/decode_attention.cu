// decode_attention: o = softmax(scale q k^T) v per head, one query a row, over a cache of keys and values.
// Shapes: q o [N, H, D], k v [R, rows, H, D] of which the first S of a row count, key_state [R, rows] (0 masked, may be
// absent), index [N, columns]: key j of query n lies in row index[n, j] of the cache, with one column in index[n, 0].
// position [1], where it is there: keys beyond it do not count, so that a recorded step goes on at the next.
// Groups of lanes read a row of k and v in one load each. `splits` blocks share the keys of a query and head; what each
// finds goes to partial [splits, N, H, D + 2], and a last pass joins them in order.
#include "attention.cuh"

struct Forward {
    real* o;
    float* partial;
    const real *q, *k, *v;
    const int *key_state, *index, *position;
    int N, H, D, S, rows, columns, splits;
    float scale;
};

// x[i] = element `column + i` of a row of `head`, 0 beyond its end.
DEVICE void load_piece(float (&x)[PER_LOAD], const Head& head, long long position, int column) {
    const real* from = at_position(head, position) + column;
    if (head.aligned && column < head.d) {
#pragma unroll
        for (int i = 0; i < PER_LOAD; i += 4) {
            float four[4];
            load4(four, from + i);
#pragma unroll
            for (int j = 0; j < 4; j++) x[i + j] = four[j];
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < PER_LOAD; i++) x[i] = column + i < head.d ? to_float(from[i]) : 0.0f;
}

// What a split found for a row: the maximum, the sum of p, and the sums of p v.
DEVICE float* part_of(const Forward& a, int split, long long row) {
    return a.partial + (split * (1ll * a.N * a.H) + row) * (a.D + 2);
}

// One query of one head. Each group of lanes walks over its own keys with a softmax of its own; the groups are joined
// at the end.
template <int P>
DEVICE void decode(const Forward& a) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == a.splits && a.D <= P);
    SHARED_DYN(float, shared);
    constexpr int LANES = P / PER_LOAD, TEAMS = THREADS / LANES, TURN = 4, PART = P + 2;
    const int n = blockIdx.x / a.H, h = blockIdx.x % a.H;
    const int keys = a.position == nullptr ? a.S : min(a.S, *a.position + 1);
    const int share = CEIL_DIV(CEIL_DIV(keys, a.splits), 64) * 64;
    const int from = min(keys, static_cast<int>(blockIdx.y) * share), end = min(keys, from + share);
    const int team = threadIdx.x / LANES, column = threadIdx.x % LANES * PER_LOAD;
    const int* row_of = a.index + static_cast<long long>(n) * a.columns;
    // A position of the cache is one of its rows and one of the keys there.
    const Head q_head = head_of(a.q, 0, h, a.N, a.H, a.D, a.N);
    const Head k_head = head_of(a.k, 0, h, 0, a.H, a.D, 0), v_head = head_of(a.v, 0, h, 0, a.H, a.D, 0);
    float x[PER_LOAD], sums[PER_LOAD], most = -INFINITY, sum = 0.0f;
    load_piece(x, q_head, n, column);
#pragma unroll
    for (int e = 0; e < PER_LOAD; e++) x[e] *= a.scale * LOG2_E, sums[e] = 0.0f;
    for (int first = from; first < end; first += TEAMS * TURN) {
        float y[TURN][PER_LOAD], z[TURN][PER_LOAD], score[TURN];
        bool seen[TURN];
#pragma unroll
        for (int i = 0; i < TURN; i++) {
            // A turn beyond the end reads its first key, which is there.
            const int j = first + i * TEAMS + team, key = j < end ? j : from;
            const long long position = static_cast<long long>(row_of[a.columns == 1 ? 0 : key]) * a.rows + key;
            seen[i] = j < end && (!a.key_state || a.key_state[position] != 0);
            load_piece(y[i], k_head, position, column);
            load_piece(z[i], v_head, position, column);
        }
        float top = most;
#pragma unroll
        for (int i = 0; i < TURN; i++) {
            score[i] = 0.0f;
#pragma unroll
            for (int e = 0; e < PER_LOAD; e++) score[i] = fmaf(x[e], y[i][e], score[i]);
#pragma unroll
            for (int lane = LANES / 2; lane > 0; lane /= 2) score[i] += __shfl_xor_sync(ALL_LANES, score[i], lane);
            score[i] = seen[i] ? score[i] : -INFINITY;
            top = fmaxf(top, score[i]);
        }
        // Nothing seen yet: -inf - -inf would be NaN.
        const float shift = top == -INFINITY ? 0.0f : top, decay = exp2_of(most - shift);
        most = top, sum *= decay;
#pragma unroll
        for (int e = 0; e < PER_LOAD; e++) sums[e] *= decay;
#pragma unroll
        for (int i = 0; i < TURN; i++) {
            const float weight = exp2_of(score[i] - shift);
            sum += weight;
            // A key that is not seen may hold anything.
#pragma unroll
            for (int e = 0; e < PER_LOAD; e++) sums[e] = fmaf(weight, seen[i] ? z[i][e] : 0.0f, sums[e]);
        }
    }
    float* own = shared + team * PART;
    if (column == 0) own[0] = most, own[1] = sum;
#pragma unroll
    for (int e = 0; e < PER_LOAD; e++) own[2 + column + e] = sums[e];
    __syncthreads();
    float total = 0.0f, joined = 0.0f;
    most = -INFINITY;
    for (int other = 0; other < TEAMS; other++) most = fmaxf(most, shared[other * PART]);
    const float shift = most == -INFINITY ? 0.0f : most;
    const int d = threadIdx.x;
    for (int other = 0; other < TEAMS; other++) {
        const float decay = exp2_of(shared[other * PART] - shift);
        total = fmaf(shared[other * PART + 1], decay, total);
        joined = fmaf(shared[other * PART + 2 + min(d, P - 1)], decay, joined);
    }
    if (a.splits > 1) {
        float* part = part_of(a, blockIdx.y, 1ll * n * a.H + h);
        if (d < a.D) part[2 + d] = joined;
        if (d == 0) part[0] = most, part[1] = total;
        return;
    }
    if (d < a.D) put(a.o + (at_position(q_head, n) - a.q) + d, total == 0.0f ? 0.0f : joined / total);
}

// launch: grid [N * H, splits], block 128, shared 128 / (P / PER_LOAD) * (P + 2) floats, P the head size
KERNEL_ENTRY void decode_attention_fwd_d16(const Forward a) { decode<16>(a); }
KERNEL_ENTRY void decode_attention_fwd_d32(const Forward a) { decode<32>(a); }
KERNEL_ENTRY void decode_attention_fwd_d64(const Forward a) { decode<64>(a); }
KERNEL_ENTRY void decode_attention_fwd_d128(const Forward a) { decode<128>(a); }

// Joins the splits; a warp for each query and head.
// launch: grid [N * H / 4], block 128, shared 0
KERNEL_ENTRY void decode_attention_fwd_join(const Forward a) {
    contract(blockDim.x == THREADS && a.D <= 4 * WARP);
    const long long row = static_cast<long long>(blockIdx.x) * WARPS + threadIdx.x / WARP, all = 1ll * a.N * a.H;
    if (row >= all) return;
    join_parts(a.o + row * a.D, nullptr, part_of(a, 0, row), all * (a.D + 2), a.splits, a.D, true);
}
