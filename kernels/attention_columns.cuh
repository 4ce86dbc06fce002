// Which columns a tile of rows looks at, tile by tile, and what dropout keeps of them.
//
// Rows are queries and columns keys, or, where gradients of keys are summed, the other way round. A walk gives the
// tiles with a visible column one after the other, the same ones to all warps; it reads the states of the next tile
// while this one is worked on.
#pragma once

#include "common.cuh"

// No limit on the distance of a column from its row.
constexpr int FAR = 1 << 29;

// A bit for each of N columns.
template <int N>
struct BitsOf {
    typedef unsigned type;
};
template <>
struct BitsOf<64> {
    typedef unsigned long long type;
};
template <int N>
using Bits = typename BitsOf<N>::type;

// Bits 0 to n - 1.
template <int N>
DEVICE Bits<N> bits_below(int n) {
    const Bits<N> all = ~static_cast<Bits<N>>(0) >> (8 * sizeof(Bits<N>) - N);
    return n <= 0 ? 0 : n >= N ? all : (static_cast<Bits<N>>(1) << n) - 1;
}

// Up to N columns that a tile of rows looks at together.
template <int N>
struct Columns {
    // Position of the first, or its entry in the list `gathered`.
    int first;
    const int* gathered;
    // How many there are at most.
    int count;
    // Row i sees columns i + low to i + high only.
    int low, high;
    // Those that any row may see.
    Bits<N> seen;
    // log2 of how often each one enters: for rows of the first list of two, and for those of the second.
    float weight, second_weight;
};

// The number of its columns as a constant: decltype(width_of(tile))::value.
template <int N>
struct Width {
    static constexpr int value = N;
};

template <int N>
DEVICE Width<N> width_of(const Columns<N>&) {
    return {};
}

// Whether some row of from .. to sees some column; the limits are those of a warp.
template <int N>
DEVICE bool touches(const Columns<N>& tile, int from, int to) {
    return tile.first + N - 1 >= from + tile.low && tile.first <= to + tile.high;
}

// Whether some pair of the tile has to be masked.
template <int N>
DEVICE bool cuts(const Columns<N>& tile, int from, int to) {
    const bool banded = tile.first < to + tile.low || tile.first + N - 1 > from + tile.high;
    return banded || tile.seen != bits_below<N>(N);
}

// The columns that row i sees.
template <int N>
DEVICE Bits<N> seen_by(const Columns<N>& tile, int i) {
    const int from = i + tile.low - tile.first, to = i + tile.high + 1 - tile.first;
    return tile.seen & bits_below<N>(to) & ~bits_below<N>(from);
}

// Positions that count: all without a state, else those whose state is, or is not, a value.
struct Counted {
    const int* state;
    int value;
    bool equal;
};

DEVICE Counted all_count() { return {nullptr, 0, true}; }
DEVICE Counted where_not_zero(const int* state) { return {state, 0, false}; }
DEVICE Counted where_equal(const int* state, int value) { return {state, value, true}; }
// Queries that saw a key: lse is not -inf.
DEVICE Counted where_finite(const float* lse) {
    return {reinterpret_cast<const int*>(lse), static_cast<int>(0xff800000u), false};
}

DEVICE bool counts(const Counted& counted, int position) {
    return !counted.state || (counted.state[position] == counted.value) == counted.equal;
}

// Whether any of `count` positions counts, at most R; the same in every thread.
template <int R>
DEVICE bool any_counts(const Counted& counted, int first, int count) {
    bool any = false;
#pragma unroll
    for (int i = 0; i < CEIL_DIV(R, WARP); i++) {
        const int r = i * WARP + threadIdx.x % WARP;
        any |= r < count && counts(counted, first + r);
    }
    return __any_sync(ALL_LANES, any);
}

// The states of N positions, one or two to a lane.
template <int N>
struct Ahead {
    int state[CEIL_DIV(N, WARP)];
};

template <int N>
DEVICE void look_ahead(Ahead<N>& ahead, const Counted& counted, int first, int end) {
#pragma unroll
    for (int i = 0; i < CEIL_DIV(N, WARP); i++) {
        const int position = first + i * WARP + threadIdx.x % WARP;
        ahead.state[i] = counted.state && position < end ? counted.state[position] : 0;
    }
}

// Which of those positions count.
template <int N>
DEVICE Bits<N> counted_bits(const Ahead<N>& ahead, const Counted& counted, int first, int end) {
    Bits<N> bits = 0;
#pragma unroll
    for (int i = 0; i < CEIL_DIV(N, WARP); i++) {
        const int n = i * WARP + threadIdx.x % WARP;
        const bool in = n < N && first + n < end;
        const bool counts = !counted.state || (ahead.state[i] == counted.value) == counted.equal;
        bits |= static_cast<Bits<N>>(__ballot_sync(ALL_LANES, in && counts)) << (i * WARP);
    }
    return bits;
}

// Consecutive columns, each seen by rows at a limited distance.
template <int N>
struct Band {
    Counted counted;
    // Columns not walked yet.
    int first, end;
    int low, high;
    Ahead<N> ahead;
};

template <int N>
DEVICE Band<N> band(const Counted& counted, int from, int end, int low, int high) {
    Band<N> walk = {counted, from, end, low, high, {}};
    look_ahead(walk.ahead, counted, from, end);
    return walk;
}

template <int N>
DEVICE bool next_tile(Band<N>& walk, Columns<N>& tile) {
    while (walk.first < walk.end) {
        const Bits<N> seen = counted_bits(walk.ahead, walk.counted, walk.first, walk.end);
        tile = {walk.first, nullptr, N, walk.low, walk.high, seen, 0.0f};
        walk.first += N;
        look_ahead(walk.ahead, walk.counted, walk.first, walk.end);
        if (seen) return true;
    }
    return false;
}

// All entries of a list of positions, which ends with its first -1.
template <int N>
struct List {
    const int* positions;
    int first, count;
};

template <int N>
DEVICE bool next_tile(List<N>& walk, Columns<N>& tile) {
    if (walk.first >= walk.count) return false;
    const Counted listed = {walk.positions, -1, false};
    Ahead<N> ahead;
    look_ahead(ahead, listed, walk.first, walk.count);
    const Bits<N> seen = counted_bits(ahead, listed, walk.first, walk.count);
    tile = {walk.first, walk.positions, walk.count - walk.first, -FAR, FAR, seen, 0.0f};
    walk.first += N;
    return seen != 0;
}

// A band in tiles of N columns, then a list in tiles of L.
template <int N, int L>
struct BandAndList {
    Band<N> band;
    List<L> list;
};

template <int N>
DEVICE bool next_tile(BandAndList<N, N>& walk, Columns<N>& tile) {
    return next_tile(walk.band, tile) || next_tile(walk.list, tile);
}

// The blocks of K columns in one row of a table, each entering `count` times.
template <int N>
struct Blocks {
    Counted counted;
    const int *col, *count;
    // Entries of the table; `entry` is the one walked now, and the one after it has been read.
    int entry, entries_end, K;
    int col_after, count_after;
    // Columns of this block not walked yet, and how often they enter.
    int first, end, times;
    Ahead<N> ahead;
};

template <int N>
DEVICE void enter_block(Blocks<N>& walk) {
    walk.first = walk.col_after * walk.K;
    walk.end = walk.first + walk.K;
    walk.times = walk.count_after;
    if (walk.entry + 1 < walk.entries_end) {
        walk.col_after = walk.col[walk.entry + 1];
        walk.count_after = walk.count[walk.entry + 1];
    }
}

template <int N>
DEVICE Blocks<N> blocks(const Counted& counted, const int* col, const int* count, int from, int to, int K) {
    Blocks<N> walk = {counted, col, count, from, to, K, 0, 0, 0, 0, 0, {}};
    if (from < to) {
        walk.col_after = col[from];
        walk.count_after = count[from];
        enter_block(walk);
        look_ahead(walk.ahead, counted, walk.first, walk.end);
    }
    return walk;
}

template <int N>
DEVICE bool next_tile(Blocks<N>& walk, Columns<N>& tile) {
    while (walk.entry < walk.entries_end) {
        const Bits<N> counted = counted_bits(walk.ahead, walk.counted, walk.first, walk.end);
        // A block that enters no time is listed and hidden.
        const Bits<N> seen = walk.times > 0 ? counted : 0;
        tile = {walk.first, nullptr, N, -FAR, FAR, seen, log2f(static_cast<float>(walk.times))};
        walk.first += N;
        if (walk.first >= walk.end && ++walk.entry < walk.entries_end) enter_block(walk);
        if (walk.entry < walk.entries_end) look_ahead(walk.ahead, walk.counted, walk.first, walk.end);
        if (seen) return true;
    }
    return false;
}

// Dropout of one head's probabilities: pair (i, j) is element (query_zero + i) S + j, query_zero = (b H + h) T.
struct Kept {
    DropoutSite dropout;
    long long query_zero;
    int S;
};

DEVICE Kept no_dropout() { return {{nullptr, 0, 0, 1.0f}, 0, 0}; }

DEVICE bool is_on(const Kept& kept) { return kept.dropout.threshold != 0; }

// How the engine's loops treat dropout: not at all, in code of their own, or by a look in each tile.
enum class Drops { NEVER, APART, LOOK };

// f(Constant<whether there may be dropout>()).
template <Drops DROPS, class F>
DEVICE void with_dropout(const Kept& kept, F f) {
    if constexpr (DROPS == Drops::APART) with_constant(is_on(kept), f);
    else f(Constant<DROPS == Drops::LOOK>());
}

DEVICE unsigned long long pair_element(const Kept& kept, int i, int j) {
    return static_cast<unsigned long long>((kept.query_zero + i) * kept.S + j);
}

// Bit n says whether element first + n is kept, for `count` neighbours; a Philox block serves four.
template <int N>
DEVICE Bits<N> kept_run(const Dropout& dropout, unsigned long long first, int count) {
    Bits<N> bits = 0;
    unsigned long long block = first / 4;
#pragma unroll 1
    for (int at = -static_cast<int>(first % 4); at < count; at += 4, block++) {
        const uint4 words = philox(dropout, block);
        const unsigned four = (words.x >= dropout.threshold) | (words.y >= dropout.threshold) << 1 |
                              (words.z >= dropout.threshold) << 2 | (words.w >= dropout.threshold) << 3;
        bits |= at < 0 ? static_cast<Bits<N>>(four >> -at) : static_cast<Bits<N>>(four) << at;
    }
    return bits & bits_below<N>(count);
}

// Rows are queries: bits[m][i] are the columns kept of row 16 m + 8 i + g of a warp whose first row is `first`, from
// the lane's first column on. Each lane draws for a row, or half a row, and the owners take the bits from there.
template <int M, int N>
DEVICE void kept_of_queries(Bits<N> (&bits)[M][2], const Kept& kept, const Columns<N>& keys, int first) {
    constexpr int COUNT = M == 1 ? N / 2 : N;
    const int lane = threadIdx.x % WARP;
    const int row = first + lane % (16 * M), from = lane / (16 * M) * COUNT;
    // Read here and not kept: registers are few outside.
    const Dropout dropout = at_step(kept.dropout);
    Bits<N> own = 0;
    if (keys.gathered) {
        for (int n = from; n < from + COUNT && n < keys.count; n++) {
            const int j = keys.gathered[keys.first + n];
            const bool drawn = j >= 0 && dropout_factor(dropout, pair_element(kept, row, j)) != 0.0f;
            own |= static_cast<Bits<N>>(drawn) << n;
        }
    } else {
        own = kept_run<N>(dropout, pair_element(kept, row, keys.first + from), COUNT) << from;
    }
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const int owner = 8 * i + lane / 4;
        Bits<N> whole = __shfl_sync(ALL_LANES, own, owner);
        if (M == 1) whole |= __shfl_sync(ALL_LANES, own, owner + 16);
        bits[i / 2][i % 2] = whole >> (lane % 4 * 2);
    }
}

// Rows are keys: bits[i] are the same of row 8 i + g of a warp, whose rows are positions from `first` on or the entries
// of a list. Each lane draws 16 keys of a query, or of two, or half of them.
template <int N>
DEVICE void kept_of_keys(
    Bits<N> (&bits)[2], const Kept& kept, const Columns<N>& queries, int first, const int* gathered, int count) {
    const int lane = threadIdx.x % WARP;
    constexpr int COUNT = N == 16 ? 8 : 16;
    const int from = N == 16 ? lane / 16 * 8 : 0;
    const Dropout dropout = at_step(kept.dropout);
    unsigned own = 0;
#pragma unroll
    for (int turn = 0; turn < CEIL_DIV(N, WARP); turn++) {
        const int query = queries.first + turn * WARP + lane % N;
        unsigned run = 0;
        if (gathered) {
            for (int n = from; n < from + COUNT && n < count; n++) {
                const int j = gathered[first + n];
                if (j >= 0 && dropout_factor(dropout, pair_element(kept, query, j)) != 0.0f) run |= 1u << n;
            }
        } else {
            run = kept_run<32>(dropout, pair_element(kept, query, first + from), COUNT) << from;
        }
        own |= run << (16 * turn);
    }
    if (N == 16) own |= __shfl_xor_sync(ALL_LANES, own, 16);
    bits[0] = 0, bits[1] = 0;
#pragma unroll
    for (int i = 0; i < N / 4; i++) {
        const int column = i / 2 * 8 + lane % 4 * 2 + i % 2;
        const unsigned keys = __shfl_sync(ALL_LANES, own, column % WARP) >> (i / 2 * 8 / WARP * 16 + lane / 4);
        bits[0] |= static_cast<Bits<N>>(keys & 1) << (i / 2 * 8 + i % 2);
        bits[1] |= static_cast<Bits<N>>(keys >> 8 & 1) << (i / 2 * 8 + i % 2);
    }
}
