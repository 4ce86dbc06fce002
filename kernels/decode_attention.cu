// decode_attention: o = softmax(scale q k^T) v per head, one query a row, over a cache of keys and values.
// Shapes: q o [N, H, D], k v [R, rows, H, D] of which the first S of a row count, key_state [R, rows] (0 masked, may be
// absent), index [N, columns]: key j of query n lies in row index[n, j] of the cache, with one column in index[n, 0].
// position [1], where it is there: keys beyond it do not count, so that a recorded step goes on at the next.
// Groups of lanes read a row of k and v in one load each; neighbouring queries in one row of the cache are through with
// a key after one read, 256 bytes of k and v at a head size of 64 in bf16, which each would else read for itself.
// `splits` blocks share the keys of a query and head; what each finds goes to partial [splits, N, H, D + 2], and a last
// pass joins them in order.
#include "attention.cuh"

// Queries of a block whose keys are those of others, too.
constexpr int BEAMS = 4;

struct Forward {
    real* o;
    float* partial;
    const real *q, *k, *v;
    const int *key_state, *index, *position;
    int N, H, D, S, rows, columns, beams, splits;
    float scale;
};

// x[i] = element `column + i` of a row of `head`, 0 beyond its end.
DEVICE void load_piece(float (&x)[PER_LOAD], const Head& head, long long position, int column) {
    const real* from = at_position(head, position) + column;
    if (head.aligned && column < head.d) {
#pragma unroll
        for (int i = 0; i < PER_LOAD; i += 4) {
            float four[4];
            load(four, from + i);
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

// What the groups of lanes found for a query, joined in their order: o, or the part of a split.
template <int P>
DEVICE void put_query(
    const Forward& a, int n, int h, float most, float sum, const float (&sums)[PER_LOAD], float* shared) {
    constexpr int LANES = P / PER_LOAD, TEAMS = THREADS / LANES, PART = P + 2;
    const int column = threadIdx.x % LANES * PER_LOAD, d = threadIdx.x;
    float* own = shared + threadIdx.x / LANES * PART;
    if (column == 0) own[0] = most, own[1] = sum;
#pragma unroll
    for (int e = 0; e < PER_LOAD; e++) own[2 + column + e] = sums[e];
    __syncthreads();
    float total = 0.0f, joined = 0.0f;
    most = -INFINITY;
    for (int other = 0; other < TEAMS; other++) most = fmaxf(most, shared[other * PART]);
    const float shift = most == -INFINITY ? 0.0f : most;
    for (int other = 0; other < TEAMS; other++) {
        const float decay = exp2_of(shared[other * PART] - shift);
        total = fmaf(shared[other * PART + 1], decay, total);
        joined = fmaf(shared[other * PART + 2 + min(d, P - 1)], decay, joined);
    }
    const long long row = 1ll * n * a.H + h;
    if (a.splits > 1) {
        float* part = part_of(a, blockIdx.y, row);
        if (d < a.D) part[2 + d] = joined;
        if (d == 0) part[0] = most, part[1] = total;
    } else if (d < a.D) {
        put(a.o + row * a.D + d, total == 0.0f ? 0.0f : joined / total);
    }
}

// Up to Q queries n .. n + count of one head, which read each key once: with several, all keys lie in one row of the
// cache. Each group of lanes walks over its own keys with softmaxes of its own; the groups are joined at the end.
template <int P, int Q>
DEVICE void decode(const Forward& a, int n, int count, int h, float* shared) {
    constexpr int LANES = P / PER_LOAD, TEAMS = THREADS / LANES, TURN = 4;
    const int keys = a.position == nullptr ? a.S : min(a.S, *a.position + 1);
    const int share = CEIL_DIV(CEIL_DIV(keys, a.splits), 64) * 64;
    const int from = min(keys, static_cast<int>(blockIdx.y) * share), end = min(keys, from + share);
    const int team = threadIdx.x / LANES, column = threadIdx.x % LANES * PER_LOAD;
    const int* row_of = a.index + static_cast<long long>(n) * a.columns;
    // A position of the cache is one of its rows and one of the keys there.
    const Head q_head = head_of(a.q, 0, h, a.N, a.H, a.D, a.N);
    const Head k_head = head_of(a.k, 0, h, 0, a.H, a.D, 0), v_head = head_of(a.v, 0, h, 0, a.H, a.D, 0);
    float x[Q][PER_LOAD], sums[Q][PER_LOAD], most[Q], sum[Q];
#pragma unroll
    for (int i = 0; i < Q; i++) {
        load_piece(x[i], q_head, n + min(i, count - 1), column);
        most[i] = -INFINITY, sum[i] = 0.0f;
#pragma unroll
        for (int e = 0; e < PER_LOAD; e++) x[i][e] *= a.scale * LOG2_E, sums[i][e] = 0.0f;
    }
    for (int first = from; first < end; first += TEAMS * TURN) {
        float y[TURN][PER_LOAD], z[TURN][PER_LOAD];
        bool seen[TURN];
#pragma unroll
        for (int t = 0; t < TURN; t++) {
            // A turn beyond the end reads its first key, which is there.
            const int j = first + t * TEAMS + team, key = j < end ? j : from;
            const long long position = static_cast<long long>(row_of[a.columns == 1 ? 0 : key]) * a.rows + key;
            seen[t] = j < end && (!a.key_state || a.key_state[position] != 0);
            load_piece(y[t], k_head, position, column);
            load_piece(z[t], v_head, position, column);
        }
#pragma unroll
        for (int i = 0; i < Q; i++) {
            float score[TURN], top = most[i];
#pragma unroll
            for (int t = 0; t < TURN; t++) {
                score[t] = 0.0f;
#pragma unroll
                for (int e = 0; e < PER_LOAD; e++) score[t] = fmaf(x[i][e], y[t][e], score[t]);
#pragma unroll
                for (int lane = LANES / 2; lane > 0; lane /= 2)
                    score[t] += __shfl_xor_sync(ALL_LANES, score[t], lane);
                score[t] = seen[t] ? score[t] : -INFINITY;
                top = fmaxf(top, score[t]);
            }
            // Nothing seen yet: -inf - -inf would be NaN.
            const float shift = top == -INFINITY ? 0.0f : top, decay = exp2_of(most[i] - shift);
            most[i] = top, sum[i] *= decay;
#pragma unroll
            for (int e = 0; e < PER_LOAD; e++) sums[i][e] *= decay;
#pragma unroll
            for (int t = 0; t < TURN; t++) {
                const float weight = exp2_of(score[t] - shift);
                sum[i] += weight;
                // A key that is not seen may hold anything.
#pragma unroll
                for (int e = 0; e < PER_LOAD; e++) sums[i][e] = fmaf(weight, seen[t] ? z[t][e] : 0.0f, sums[i][e]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < Q; i++) {
        if (i >= count) continue;
        put_query<P>(a, n + i, h, most[i], sum[i], sums[i], shared);
        // The next one takes the same place.
        if (Q > 1) __syncthreads();
    }
}

template <int P>
DEVICE void decode_one(const Forward& a) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == a.splits && a.D <= P);
    SHARED_DYN(float, shared);
    decode<P, 1>(a, blockIdx.x / a.H, 1, blockIdx.x % a.H, shared);
}

// Neighbours in one row of the cache, as the beams of an input, read it together.
template <int P>
DEVICE void decode_beams(const Forward& a) {
    contract(blockDim.x == THREADS && static_cast<int>(gridDim.y) == a.splits && a.D <= P && a.columns == 1);
    SHARED_DYN(float, shared);
    const int h = blockIdx.x % a.H, first = blockIdx.x / a.H * BEAMS, end = min(a.N, first + BEAMS);
    for (int n = first, count; n < end; n += count) {
        for (count = 1; n + count < end && a.index[n + count] == a.index[n];) count++;
        decode<P, BEAMS>(a, n, count, h, shared);
    }
}

// launch: grid [N * H, splits], block 128, shared 128 / (P / PER_LOAD) * (P + 2) floats, P the head size
KERNEL_ENTRY void decode_attention_fwd_d16(const Forward a) { decode_one<16>(a); }
KERNEL_ENTRY void decode_attention_fwd_d32(const Forward a) { decode_one<32>(a); }
KERNEL_ENTRY void decode_attention_fwd_d64(const Forward a) { decode_one<64>(a); }
KERNEL_ENTRY void decode_attention_fwd_d128(const Forward a) { decode_one<128>(a); }

// launch: grid [ceil(N / 4) * H, splits], block 128, shared as fwd
KERNEL_ENTRY void decode_attention_fwd_beams_d16(const Forward a) { decode_beams<16>(a); }
KERNEL_ENTRY void decode_attention_fwd_beams_d32(const Forward a) { decode_beams<32>(a); }
KERNEL_ENTRY void decode_attention_fwd_beams_d64(const Forward a) { decode_beams<64>(a); }
KERNEL_ENTRY void decode_attention_fwd_beams_d128(const Forward a) { decode_beams<128>(a); }

// Joins the splits; a warp for each query and head.
// launch: grid [N * H / 4], block 128, shared 0
KERNEL_ENTRY void decode_attention_fwd_join(const Forward a) {
    contract(blockDim.x == THREADS && a.D <= 4 * WARP);
    const long long row = static_cast<long long>(blockIdx.x) * WARPS + threadIdx.x / WARP, all = 1ll * a.N * a.H;
    if (row >= all) return;
    join_parts(a.o + row * a.D, nullptr, part_of(a, 0, row), all * (a.D + 2), a.splits, a.D, true);
}
