// embedding: y[b, t] = scale table[ids[b, t]] + positions[past + t]; tokens from `placed` on get no position.
// Shapes: ids [B, T], table [V, C], positions [P, C], past [1], 0 where absent, y [B, T, C]; for the table's gradient
// N = B T, order [N], edge [2, chunks, C]. Saved: ids. Lookups of the pad token give its row no gradient.
// The table's gradient sums the rows of dy that share a token, in order of position: a counting sort of the positions
// by token (its atomics count, in integers), a sum over each run of equal tokens in chunks of 16 positions, and the
// runs that cross chunks joined.
#include "common.cuh"

constexpr int WARPS = 4;
constexpr int STEP = WARP * VECTOR;
// Tokens a block of the sort looks for, and its warps, each with a stretch of the positions.
constexpr int TOKENS = 256;
constexpr int SORTERS = 16;
// Sorted positions a block sums.
constexpr int CHUNK = 16;
constexpr int AT_ONCE = 8;

struct Forward {
    real* y;
    const int* ids;
    const real *table, *positions;
    const int* past;
    int B, T, C, placed;
    float scale;
};

// launch: grid [B T / 4], block 128, shared 0
KERNEL_ENTRY void embedding_fwd(const Forward a) {
    contract(blockDim.x == WARPS * WARP);
    const int token = blockIdx.x * WARPS + warp_index();
    if (token >= a.B * a.T) return;
    const bool whole = a.C % VECTOR == 0 && aligned_for<VECTOR>(a.y, a.table, a.positions);
    const int t = token % a.T, before = a.past == nullptr ? 0 : *a.past;
    const long long row = static_cast<long long>(a.ids[token]) * a.C;
    const long long position = (static_cast<long long>(before) + t) * a.C;
    for (int c = lane_index() * VECTOR; c < a.C; c += STEP) {
        float value[4], place[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        fetch(value, a.table + row + c, a.C - c, whole);
        if (t < a.placed) fetch(place, a.positions + position + c, a.C - c, whole);
        for (int j = 0; j < 4; j++) value[j] = fmaf(a.scale, value[j], place[j]);
        store(a.y + static_cast<long long>(token) * a.C + c, value, a.C - c, whole);
    }
}

struct TableBackward {
    float* dtable;
    int* order;
    float* edge;
    const real* dy;
    const int* ids;
    int N, C, V, pad, accumulate;
    float scale;
};

// launch: grid [V C / 1024], block 256, shared 0
KERNEL_ENTRY void embedding_bwd_table_zero(const TableBackward a) {
    contract(blockDim.x == 256);
    const long long n = static_cast<long long>(a.V) * a.C, e = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    const float nothing[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (e < n) store(a.dtable + e, nothing, n - e, aligned_for<VECTOR>(a.dtable) && e + VECTOR <= n);
}

// order: the positions of all tokens but pad, by token and then by position; -1 beyond the last of them.
// A block places the positions of 256 tokens, behind as many as there are of lower tokens.
// launch: grid [V / 256], block 512, shared 16 * 256 + 16 ints
KERNEL_ENTRY void embedding_bwd_table_sort(const TableBackward a) {
    contract(blockDim.x == SORTERS * WARP && static_cast<int>(gridDim.x) == CEIL_DIV(a.V, TOKENS));
    SHARED_DYN(int, counts);
    int* scratch = counts + SORTERS * TOKENS;
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const int first_token = blockIdx.x * TOKENS;
    for (int i = thread; i < SORTERS * TOKENS; i += threads) counts[i] = 0;
    __syncthreads();

    const int stretch = CEIL_DIV(a.N, SORTERS * WARP) * WARP;
    const int from = min(a.N, warp_index() * stretch), to = min(a.N, from + stretch);
    int* next = counts + warp_index() * TOKENS;
    int lower = 0;
    for (int i = from + lane_index(); i < to; i += WARP) {
        const int token = a.ids[i] - first_token;
        if (a.ids[i] == a.pad) continue;
        lower += token < 0;
        if (token >= 0 && token < TOKENS) atomicAdd(next + token, 1);
    }
    // Its barriers also end the counting.
    lower = block_sum(lower, scratch);

    // Where each warp puts its first position of each token: after all lower tokens, then after earlier warps.
    int count = 0;
    if (thread < TOKENS)
        for (int warp = 0; warp < SORTERS; warp++) count += counts[warp * TOKENS + thread];
    int upto = count;
    for (int back = 1; back < WARP; back *= 2) {
        const int earlier = __shfl_up_sync(ALL_LANES, upto, back);
        if (lane_index() >= back) upto += earlier;
    }
    if (lane_index() == WARP - 1) scratch[warp_index()] = upto;
    __syncthreads();
    int start = lower + upto - count, total = lower;
    for (int warp = 0; warp < SORTERS; warp++) {
        if (warp < warp_index()) start += scratch[warp];
        total += scratch[warp];
    }
    if (thread < TOKENS) {
        for (int warp = 0; warp < SORTERS; warp++) {
            const int own = counts[warp * TOKENS + thread];
            counts[warp * TOKENS + thread] = start;
            start += own;
        }
    }
    __syncthreads();

    for (int i = from + lane_index(); i - lane_index() < to; i += WARP) {
        const int token = i < to ? a.ids[i] - first_token : -1;
        const bool mine = token >= 0 && token < TOKENS && token + first_token != a.pad;
        for (unsigned rest = __ballot_sync(ALL_LANES, mine); rest != 0; rest &= rest - 1) {
            if (lane_index() == __ffs(rest) - 1) a.order[next[token]++] = i;
            __syncwarp();
        }
    }
    if (blockIdx.x == gridDim.x - 1)
        for (int i = total + thread; i < a.N; i += threads) a.order[i] = -1;
}

// The token at place k of the order, or one that no position has.
DEVICE int token_at(const TableBackward& a, int k) {
    const int position = k >= 0 && k < a.N ? a.order[k] : -1;
    return position < 0 ? -1 : a.ids[position];
}

// A run of equal tokens that lies in the chunk goes to dtable; else its end in the chunk goes to edge[0] (the run
// began earlier) or its beginning to edge[1] (it goes on).
// launch: grid [N / 16, C / 512], block 128, shared 34 ints
KERNEL_ENTRY void embedding_bwd_table(const TableBackward a) {
    contract(blockDim.x == WARPS * WARP && static_cast<int>(gridDim.x) == CEIL_DIV(a.N, CHUNK));
    SHARED_DYN(int, tokens);
    int* positions = tokens + CHUNK + 2;
    const int first = blockIdx.x * CHUNK, thread = static_cast<int>(threadIdx.x);
    if (thread < CHUNK + 2) tokens[thread] = token_at(a, first - 1 + thread);
    if (thread < CHUNK) positions[thread] = first + thread < a.N ? a.order[first + thread] : -1;
    __syncthreads();
    const int c = (blockIdx.y * WARPS * WARP + threadIdx.x) * VECTOR;
    if (c >= a.C) return;
    with_constant(a.C % VECTOR == 0 && aligned_for<VECTOR>(a.dtable, a.dy, a.edge), [&](auto flag) {
        constexpr bool WHOLE = decltype(flag)::value;
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        bool began_here = tokens[0] != tokens[1];
        for (int group = 0; group < CHUNK; group += AT_ONCE) {
            // All loads before the first sum; where there is no position, those of another one, which do no harm.
            float rows[AT_ONCE][4];
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++)
                fetch(rows[k], a.dy + static_cast<long long>(max(positions[group + k], 0)) * a.C + c, a.C - c, WHOLE);
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++) {
                const int token = tokens[group + k + 1];
                if (token < 0) continue;
                for (int j = 0; j < 4; j++) sum[j] += a.scale * rows[k][j];
                const bool ends = tokens[group + k + 2] != token, last = group + k == CHUNK - 1;
                if (!ends && !last) continue;
                if (ends && began_here) {
                    put_or_add(a.dtable + static_cast<long long>(token) * a.C + c, sum, a.C - c, WHOLE, a.accumulate);
                } else {
                    const long long chunk = blockIdx.x + (began_here ? gridDim.x : 0u);
                    store(a.edge + chunk * a.C + c, sum, a.C - c, WHOLE);
                }
                began_here = true;
                for (int j = 0; j < 4; j++) sum[j] = 0.0f;
            }
        }
    });
}

// The runs that cross chunks: the block of the chunk where a run begins adds up its edges.
// launch: grid [N / 16, C / 512], block 128, shared 0
KERNEL_ENTRY void embedding_bwd_table_join(const TableBackward a) {
    contract(blockDim.x == WARPS * WARP && static_cast<int>(gridDim.x) == CEIL_DIV(a.N, CHUNK));
    const int chunk = blockIdx.x, first = chunk * CHUNK, last = first + CHUNK - 1;
    const int token = token_at(a, last);
    const bool goes_on = token >= 0 && token_at(a, last + 1) == token;
    const bool began_earlier = token_at(a, first) == token && token_at(a, first - 1) == token;
    if (!goes_on || began_earlier) return;
    // Chunks that begin with the token follow each other.
    int more = 0, found;
    do {
        const long long start = (chunk + 1ll + more + threadIdx.x) * CHUNK;
        found = __syncthreads_count(start < a.N && token_at(a, static_cast<int>(start)) == token);
        more += found;
    } while (found == WARPS * WARP);
    const int c = (blockIdx.y * WARPS * WARP + threadIdx.x) * VECTOR;
    if (c >= a.C) return;
    const bool whole_edge = a.C % VECTOR == 0 && aligned_for<VECTOR>(a.edge);
    float sum[4];
    fetch(sum, a.edge + (static_cast<long long>(gridDim.x) + chunk) * a.C + c, a.C - c, whole_edge);
#pragma unroll 8
    for (int k = 1; k <= more; k++) {
        float part[4];
        fetch(part, a.edge + (static_cast<long long>(chunk) + k) * a.C + c, a.C - c, whole_edge);
        for (int j = 0; j < 4; j++) sum[j] += part[j];
    }
    const bool whole = a.C % VECTOR == 0 && aligned_for<VECTOR>(a.dtable);
    put_or_add(a.dtable + static_cast<long long>(token) * a.C + c, sum, a.C - c, whole, a.accumulate);
}

struct PositionsBackward {
    float* dpositions;
    const real* dy;
    const int* past;
    int B, T, C, placed, P, accumulate;
};

// launch: grid [P / 4], block 128, shared 0
KERNEL_ENTRY void embedding_bwd_positions(const PositionsBackward a) {
    contract(blockDim.x == WARPS * WARP);
    const int row = blockIdx.x * WARPS + warp_index(), t = a.past == nullptr ? row : row - *a.past;
    if (row >= a.P) return;
    const bool used = t >= 0 && t < min(a.placed, a.T);
    if (!used && a.accumulate) return;
    const bool whole = a.C % VECTOR == 0 && aligned_for<VECTOR>(a.dpositions, a.dy);
    for (int c = lane_index() * VECTOR; c < a.C; c += STEP) {
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (int b = 0; used && b < a.B; b++) {
            float value[4];
            fetch(value, a.dy + (static_cast<long long>(b) * a.T + t) * a.C + c, a.C - c, whole);
            for (int j = 0; j < 4; j++) sum[j] += value[j];
        }
        put_or_add(a.dpositions + static_cast<long long>(row) * a.C + c, sum, a.C - c, whole, a.accumulate);
    }
}
