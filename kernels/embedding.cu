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

// launch: grid [B T / 4], block 128, shared 0
KERNEL_ENTRY void embedding_fwd(
    real* y, const int* ids, const real* table, const real* positions, const int* past, int B, int T, int C, int placed,
    float scale) {
    contract(blockDim.x == WARPS * WARP);
    const int token = blockIdx.x * WARPS + warp_index();
    if (token >= B * T) return;
    const bool whole = C % VECTOR == 0 && aligned4(y) && aligned4(table) && aligned4(positions);
    const int t = token % T, before = past == nullptr ? 0 : *past;
    const long long row = static_cast<long long>(ids[token]) * C, position = (static_cast<long long>(before) + t) * C;
    for (int c = lane_index() * VECTOR; c < C; c += STEP) {
        float value[4], place[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        fetch4(value, table + row + c, C - c, whole);
        if (t < placed) fetch4(place, positions + position + c, C - c, whole);
        for (int j = 0; j < 4; j++) value[j] = fmaf(scale, value[j], place[j]);
        store4(y + static_cast<long long>(token) * C + c, value, C - c, whole);
    }
}

// launch: grid [V C / 1024], block 256, shared 0
KERNEL_ENTRY void embedding_bwd_table_zero(
    float* dtable, int* order, float* edge, const real* dy, const int* ids, int N, int C, int V, int pad,
    int accumulate, float scale) {
    contract(blockDim.x == 256);
    const long long n = static_cast<long long>(V) * C, e = (blockIdx.x * 256ll + threadIdx.x) * VECTOR;
    const float nothing[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (e < n) store4(dtable + e, nothing, n - e, aligned4(dtable) && e + VECTOR <= n);
}

// order: the positions of all tokens but pad, by token and then by position; -1 beyond the last of them.
// A block places the positions of 256 tokens, behind as many as there are of lower tokens.
// launch: grid [V / 256], block 512, shared 16 * 256 + 16 ints
KERNEL_ENTRY void embedding_bwd_table_sort(
    float* dtable, int* order, float* edge, const real* dy, const int* ids, int N, int C, int V, int pad,
    int accumulate, float scale) {
    contract(blockDim.x == SORTERS * WARP && static_cast<int>(gridDim.x) == CEIL_DIV(V, TOKENS));
    SHARED_DYN(int, counts);
    int* scratch = counts + SORTERS * TOKENS;
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const int first_token = blockIdx.x * TOKENS;
    for (int i = thread; i < SORTERS * TOKENS; i += threads) counts[i] = 0;
    __syncthreads();

    const int stretch = CEIL_DIV(N, SORTERS * WARP) * WARP;
    const int from = min(N, warp_index() * stretch), to = min(N, from + stretch);
    int* next = counts + warp_index() * TOKENS;
    int lower = 0;
    for (int i = from + lane_index(); i < to; i += WARP) {
        const int token = ids[i] - first_token;
        if (ids[i] == pad) continue;
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
        const int token = i < to ? ids[i] - first_token : -1;
        const bool mine = token >= 0 && token < TOKENS && token + first_token != pad;
        for (unsigned rest = __ballot_sync(ALL_LANES, mine); rest != 0; rest &= rest - 1) {
            if (lane_index() == __ffs(rest) - 1) order[next[token]++] = i;
            __syncwarp();
        }
    }
    if (blockIdx.x == gridDim.x - 1)
        for (int i = total + thread; i < N; i += threads) order[i] = -1;
}

// The token at place k of the order, or one that no position has.
DEVICE int token_at(const int* order, const int* ids, int k, int N) {
    const int position = k >= 0 && k < N ? order[k] : -1;
    return position < 0 ? -1 : ids[position];
}

// A run of equal tokens that lies in the chunk goes to dtable; else its end in the chunk goes to edge[0] (the run
// began earlier) or its beginning to edge[1] (it goes on).
// launch: grid [N / 16, C / 512], block 128, shared 34 ints
KERNEL_ENTRY void embedding_bwd_table(
    float* dtable, int* order, float* edge, const real* dy, const int* ids, int N, int C, int V, int pad,
    int accumulate, float scale) {
    contract(blockDim.x == WARPS * WARP && static_cast<int>(gridDim.x) == CEIL_DIV(N, CHUNK));
    SHARED_DYN(int, tokens);
    int* positions = tokens + CHUNK + 2;
    const int first = blockIdx.x * CHUNK, thread = static_cast<int>(threadIdx.x);
    if (thread < CHUNK + 2) tokens[thread] = token_at(order, ids, first - 1 + thread, N);
    if (thread < CHUNK) positions[thread] = first + thread < N ? order[first + thread] : -1;
    __syncthreads();
    const int c = (blockIdx.y * WARPS * WARP + threadIdx.x) * VECTOR;
    if (c >= C) return;
    with_constant(C % VECTOR == 0 && aligned4(dtable) && aligned4(dy) && aligned4(edge), [&](auto flag) {
        constexpr bool WHOLE = decltype(flag)::value;
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        bool began_here = tokens[0] != tokens[1];
        for (int group = 0; group < CHUNK; group += AT_ONCE) {
            // All loads before the first sum; where there is no position, those of another one, which do no harm.
            float rows[AT_ONCE][4];
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++)
                fetch4(rows[k], dy + static_cast<long long>(max(positions[group + k], 0)) * C + c, C - c, WHOLE);
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++) {
                const int token = tokens[group + k + 1];
                if (token < 0) continue;
                for (int j = 0; j < 4; j++) sum[j] += scale * rows[k][j];
                const bool ends = tokens[group + k + 2] != token, last = group + k == CHUNK - 1;
                if (!ends && !last) continue;
                if (ends && began_here) {
                    put_or_add4(dtable + static_cast<long long>(token) * C + c, sum, C - c, WHOLE, accumulate);
                } else {
                    const long long chunk = blockIdx.x + (began_here ? gridDim.x : 0u);
                    store4(edge + chunk * C + c, sum, C - c, WHOLE);
                }
                began_here = true;
                for (int j = 0; j < 4; j++) sum[j] = 0.0f;
            }
        }
    });
}

// The runs that cross chunks: the block of the chunk where a run begins adds up its edges.
// launch: grid [N / 16, C / 512], block 128, shared 0
KERNEL_ENTRY void embedding_bwd_table_join(
    float* dtable, int* order, float* edge, const real* dy, const int* ids, int N, int C, int V, int pad,
    int accumulate, float scale) {
    contract(blockDim.x == WARPS * WARP && static_cast<int>(gridDim.x) == CEIL_DIV(N, CHUNK));
    const int chunk = blockIdx.x, first = chunk * CHUNK, last = first + CHUNK - 1;
    const int token = token_at(order, ids, last, N);
    const bool goes_on = token >= 0 && token_at(order, ids, last + 1, N) == token;
    const bool began_earlier = token_at(order, ids, first, N) == token && token_at(order, ids, first - 1, N) == token;
    if (!goes_on || began_earlier) return;
    // Chunks that begin with the token follow each other.
    int more = 0, found;
    do {
        const long long start = (chunk + 1ll + more + threadIdx.x) * CHUNK;
        found = __syncthreads_count(start < N && token_at(order, ids, static_cast<int>(start), N) == token);
        more += found;
    } while (found == WARPS * WARP);
    const int c = (blockIdx.y * WARPS * WARP + threadIdx.x) * VECTOR;
    if (c >= C) return;
    const bool whole_edge = C % VECTOR == 0 && aligned4(edge);
    float sum[4];
    fetch4(sum, edge + (static_cast<long long>(gridDim.x) + chunk) * C + c, C - c, whole_edge);
#pragma unroll 8
    for (int k = 1; k <= more; k++) {
        float part[4];
        fetch4(part, edge + (static_cast<long long>(chunk) + k) * C + c, C - c, whole_edge);
        for (int j = 0; j < 4; j++) sum[j] += part[j];
    }
    const bool whole = C % VECTOR == 0 && aligned4(dtable);
    put_or_add4(dtable + static_cast<long long>(token) * C + c, sum, C - c, whole, accumulate);
}

// launch: grid [P / 4], block 128, shared 0
KERNEL_ENTRY void embedding_bwd_positions(
    float* dpositions, const real* dy, const int* past, int B, int T, int C, int placed, int P, int accumulate) {
    contract(blockDim.x == WARPS * WARP);
    const int row = blockIdx.x * WARPS + warp_index(), t = past == nullptr ? row : row - *past;
    if (row >= P) return;
    const bool used = t >= 0 && t < min(placed, T);
    if (!used && accumulate) return;
    const bool whole = C % VECTOR == 0 && aligned4(dpositions) && aligned4(dy);
    for (int c = lane_index() * VECTOR; c < C; c += STEP) {
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (int b = 0; used && b < B; b++) {
            float value[4];
            fetch4(value, dy + (static_cast<long long>(b) * T + t) * C + c, C - c, whole);
            for (int j = 0; j < 4; j++) sum[j] += value[j];
        }
        put_or_add4(dpositions + static_cast<long long>(row) * C + c, sum, C - c, whole, accumulate);
    }
}
