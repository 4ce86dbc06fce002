// The attention engine on compute capability 9.0: that of attention.cuh, with products of warpgroups (wgmma). bf16.
//
// The last warpgroup of a block loads, the others compute, 64 rows each. Tiles of 64 columns, two tensors of them, go
// through a ring of stages: `full` says that a stage holds a tile, `empty` that everybody is through with it. Beside
// the tensors a stage says which columns they are, so that only the loading warpgroup walks over the pattern. Rows lie
// in registers for the whole walk, as operands of the products; so do probabilities. A block takes one tile of rows
// after the other, and loads for the next one while this one ends. A tile of neighbours that are all seen comes by maps of
// its tensors: one thread asks, and no register is between. Others are copied piece by piece (cp.async): those of a list
// of positions, and those with hidden columns, which may hold anything and have to be zeros.
//   attend_hopper   as attend: while the scores of a tile become probabilities, those of the one before are multiplied
// Every sum has one order, whoever is first.
#pragma once

#include "attention.cuh"
#include "hopper.cuh"

// Columns of a tile, and rows of a warpgroup.
constexpr int SQUARE = 64;
// Bytes of 64 rows of 64 elements.
constexpr int PANEL = SQUARE * SWIZZLED_ROW;

// G warpgroups that compute: as many as leave a row's sums enough registers. Those of a window's forward by head size;
// its backward has two, and so have lists of blocks, one each. Dense attention has one, and two such blocks share a
// processor.
template <int D>
constexpr int GROUPS = D <= 64 ? 3 : 2;
template <int G>
constexpr int HOPPER_ROWS = G * SQUARE;
template <int G>
constexpr int HOPPER_THREADS = (G + 1) * WARPGROUP;
// Registers of a thread that loads, and of one that computes, out of those that the launch gave to all.
template <int G>
constexpr int LOADING_REGISTERS = G == 3 ? 32 : 40;
template <int G>
constexpr int COMPUTING_REGISTERS = G == 3 ? 160 : G == 2 ? 232 : 216;

constexpr unsigned STAGES = 4;
// Tiles that are being loaded before the first of them has to be there; two more stages are worked on.
constexpr unsigned LOADING = 2;
static_assert(STAGES >= LOADING + 2, "whoever computes waits for a tile that is never announced");

#ifdef WATTENTION_HOPPER

// What a stage holds beside its tiles.
struct alignas(16) Staged {
    // lse_delta of columns that are queries; first, for those of two columns are read at once, 16 bytes.
    float lse_delta[2 * SQUARE];
    Columns<SQUARE> tile;
    // Whether the walk ends here; a walk without a tile is one without a visible column.
    int last;
};

// Shared memory, and how many stages this thread has taken: they come round, and with each round the parity of their
// barriers changes. Bit i of `pieces`: the stage before the last i came piece by piece, and those who load have to tell.
template <int D>
struct Ring {
    unsigned char* shared;
    unsigned turn, pieces;
};

template <int D>
DEVICE int stage_of(const Ring<D>& ring) {
    return ring.turn % STAGES;
}

template <int D>
DEVICE unsigned parity_of(const Ring<D>& ring) {
    return ring.turn / STAGES % 2;
}

// Bytes of a tile of one tensor, and of all tiles.
template <int D>
constexpr int TILE_BYTES = D / 64 * PANEL;
template <int D>
constexpr int RING_BYTES = STAGES * 2 * TILE_BYTES<D>;

template <int D>
DEVICE unsigned char* tile_at(const Ring<D>& ring, int stage, int tensor) {
    return ring.shared + (stage * 2 + tensor) * TILE_BYTES<D>;
}

template <int D>
DEVICE Staged& staged_at(const Ring<D>& ring, int stage) {
    return reinterpret_cast<Staged*>(ring.shared + RING_BYTES<D>)[stage];
}

template <int D>
DEVICE Barrier* full_at(const Ring<D>& ring, int stage) {
    return reinterpret_cast<Barrier*>(ring.shared + RING_BYTES<D> + STAGES * sizeof(Staged)) + stage;
}

template <int D>
DEVICE Barrier* empty_at(const Ring<D>& ring, int stage) {
    return full_at(ring, STAGES + stage);
}

// Lays out shared memory and makes its barriers: each warp arrives once.
template <int D, int G>
DEVICE Ring<D> ring_of(unsigned char* shared, const Maps& maps) {
    // As products see addresses, and the swizzle with them.
    const unsigned beyond = shared_address(shared) % SWIZZLE_PERIOD;
    const Ring<D> ring = {shared + (beyond ? SWIZZLE_PERIOD - beyond : 0), 0, 0};
    if (threadIdx.x == 0) {
        if (maps.present) prefetch_map(&maps.map[0]), prefetch_map(&maps.map[1]);
        for (unsigned stage = 0; stage < STAGES; stage++) {
            mbarrier_init(full_at(ring, stage), WARPGROUP / WARP);
            mbarrier_init(empty_at(ring, stage), G * (WARPGROUP / WARP));
        }
        mbarrier_init_fence();
    }
    __syncthreads();
    return ring;
}

// The warpgroup of a thread; by a shuffle, so that the compiler sees that it is a warp's.
DEVICE int warpgroup_index() { return __shfl_sync(ALL_LANES, static_cast<int>(threadIdx.x) / WARPGROUP, 0); }

// The same number, of which the compiler does not know that it is: what is computed from it is computed anew.
DEVICE int opaque(int warp_wide) { return __shfl_sync(ALL_LANES, warp_wide, 0); }

// One arrival of the warp, after all that its lanes did.
DEVICE void arrive_as_warp(Barrier* barrier) {
    __syncwarp();
    if (lane_index() == 0) mbarrier_arrive(barrier);
}

// Starts copying the columns of a tile that are seen, rows of a head, into a swizzled tile; zeros in place of others,
// which may hold anything. A warpgroup's work.
template <int D>
DEVICE void load_swizzled(unsigned char* tile, const Head& head, const Columns<SQUARE>& columns) {
    constexpr int PIECES = D / PER_LOAD, STEP = WARPGROUP / PIECES;
    static_assert(STEP % 8 == 0, "a thread's pieces have one swizzle");
    const int thread = static_cast<int>(threadIdx.x) % WARPGROUP, row = thread / PIECES, piece = thread % PIECES;
    const int column = piece * PER_LOAD;
    unsigned char* to = tile + piece / 8 * PANEL + row * SWIZZLED_ROW + (piece % 8 ^ row % 8) * 16;
    const Bits<SQUARE> own = column < head.d ? columns.seen >> row : 0;
    if (head.aligned && !columns.gathered) {
        const real* from = at_position(head, columns.first + row) + column;
        const long long step = static_cast<long long>(STEP) * head.stride;
#pragma unroll
        for (int r = 0; r < SQUARE; r += STEP, from += step) cp_async_16(to + r * SWIZZLED_ROW, from, own >> r & 1);
        return;
    }
#pragma unroll 1
    for (int r = 0; r < SQUARE; r += STEP) {
        const bool valid = own >> r & 1;
        const int at = columns.first + row + r, position = valid && columns.gathered ? columns.gathered[at] : at;
        const real* from = at_position(head, valid ? position : 0) + column;
        if (head.aligned) {
            cp_async_16(to + r * SWIZZLED_ROW, from, valid);
            continue;
        }
        real* elements = reinterpret_cast<real*>(to + r * SWIZZLED_ROW);
#pragma unroll 1
        for (int e = 0; e < PER_LOAD; e++) {
            real x;
            put(&x, valid && column + e < head.d ? to_float(from[e]) : 0.0f);
            store_for_products(elements + e, x);
        }
    }
}

// Announces the stage that was taken `before` stages ago: its copies have landed for this thread.
template <int D>
DEVICE void announce(const Ring<D>& ring, unsigned before) {
    fence_proxy_async();
    arrive_as_warp(full_at(ring, (ring.turn - before) % STAGES));
}

// One head of two tensors of one shape; where they are of queries and loaded as columns, with lse_delta. Tiles may come
// by maps where there are some, in which this is head h of sample b.
struct Pair {
    Head first;
    const real* second;
    const float* lse_delta;
    const Maps* maps;
    int b, h;
};

DEVICE Pair pair_of(const Head& first, const Head& second) {
    Pair pair = {first, second.x, nullptr, nullptr, 0, 0};
    pair.first.aligned = first.aligned && second.aligned;
    return pair;
}

// The same with maps of the two tensors.
DEVICE Pair mapped(Pair pair, const Maps& maps, int b, int h) {
    pair.maps = &maps, pair.b = b, pair.h = h;
    return pair;
}

DEVICE Head second_of(const Pair& pair) {
    Head second = pair.first;
    second.x = pair.second;
    return second;
}

// lse_delta of a tile's first column.
DEVICE const float* numbers_at(const Pair& pair, const Columns<SQUARE>& tile) {
    return pair.lse_delta + 2ll * tile.first;
}

// Whether a tile comes by maps: neighbours that are all seen, but for those beyond the tensor, which are zeros. Numbers
// have no zeros beyond their end, and are copied in pieces of 16 bytes.
template <bool NUMBERS>
DEVICE bool comes_by_maps(const Pair& pair, const Columns<SQUARE>& tile) {
    if (!pair.maps || !pair.maps->present || tile.gathered) return false;
    const int there = NUMBERS ? SQUARE : pair.first.end - tile.first;
    return tile.seen == bits_below<SQUARE>(there) && (!NUMBERS || aligned16(numbers_at(pair, tile)));
}

// Starts copying a tile by maps into a stage, and arrives there. One thread's work.
template <int D, bool NUMBERS>
DEVICE void copy_by_maps(const Ring<D>& ring, int stage, const Pair& pair, const Columns<SQUARE>& tile) {
    constexpr unsigned OF_NUMBERS = NUMBERS ? 2 * SQUARE * sizeof(float) : 0;
    Barrier* full = full_at(ring, stage);
    mbarrier_arrive_expect(full, 2 * TILE_BYTES<D> + OF_NUMBERS);
#pragma unroll
    for (int i = 0; i < D / 32; i++) {
        const int tensor = i % 2, panel = i / 2;
        unsigned char* to = tile_at(ring, stage, tensor) + panel * PANEL;
        tensor_copy(to, &pair.maps->map[tensor], panel * 64, pair.h, tile.first, pair.b, full);
    }
    if (NUMBERS) bulk_copy(staged_at(ring, stage).lse_delta, numbers_at(pair, tile), OF_NUMBERS, full);
}

// Starts copying a tile piece by piece into a stage. A warpgroup's work.
template <int D, bool NUMBERS>
DEVICE void copy_in_pieces(const Ring<D>& ring, int stage, const Pair& pair, const Columns<SQUARE>& tile) {
    load_swizzled<D>(tile_at(ring, stage, 0), pair.first, tile);
    load_swizzled<D>(tile_at(ring, stage, 1), second_of(pair), tile);
    if (NUMBERS) {
        const int n = static_cast<int>(threadIdx.x) % WARPGROUP;
        float* to = staged_at(ring, stage).lse_delta + 2 * n;
        if (n < SQUARE) cp_async_8(to, numbers_at(pair, tile) + 2 * n, tile.seen >> n & 1);
    }
}

// Gives the ring one tile, with NUMBERS one of queries. What comes by maps tells by itself that it is there; the warps
// arrive beforehand.
template <int D, bool NUMBERS>
DEVICE void load_stage(Ring<D>& ring, const Columns<SQUARE>& tile, bool last, const Pair& pair) {
    const int stage = stage_of(ring);
    // Nobody has used a stage before its first time.
    mbarrier_wait(empty_at(ring, stage), parity_of(ring) ^ 1);
    const bool by_maps = comes_by_maps<NUMBERS>(pair, tile), first_thread = threadIdx.x % WARPGROUP == 0;
    Staged& staged = staged_at(ring, stage);
    if (first_thread) staged.tile = tile, staged.last = last;
    if (by_maps && first_thread) copy_by_maps<D, NUMBERS>(ring, stage, pair, tile);
    else if (by_maps && lane_index() == 0) mbarrier_arrive(full_at(ring, stage));
    if (!by_maps && tile.seen) copy_in_pieces<D, NUMBERS>(ring, stage, pair, tile);
    cp_async_commit();
    ring.turn++;
    ring.pieces = ring.pieces << 1 | !by_maps;
    if (ring.pieces >> LOADING & 1) {
        cp_async_wait<LOADING>();
        announce(ring, LOADING + 1);
    }
}

// Gives the ring all tiles of a walk, or one without a visible column; another walk follows if this one is not the last.
template <bool NUMBERS, int D, class Walk>
DEVICE void load_walk(Ring<D>& ring, Walk& walk, const Pair& pair, bool last = true) {
    Columns<SQUARE> tile = {0, nullptr, 0, 0, 0, 0, 0.0f}, after;
    bool more = next_tile(walk, tile);
    do {
        more = more && next_tile(walk, after);
        load_stage<D, NUMBERS>(ring, tile, !more && last, pair);
        tile = after;
    } while (more);
}

// Announces what is still being loaded.
template <int D>
DEVICE void load_end(const Ring<D>& ring) {
    cp_async_wait<0>();
#pragma unroll
    for (unsigned before = LOADING; before > 0; before--)
        if (ring.pieces >> (before - 1) & 1) announce(ring, before);
}

// Shares out the warpgroups of a block, G that compute and one that fills the ring by `load`, and their registers:
// whether this thread computes. It returns else, for it is through. BLOCKS of them share a processor.
template <int G, int BLOCKS = 1, int D, class Load>
DEVICE bool computes(Ring<D>& ring, Load load) {
    if (warpgroup_index() < G) {
        registers_up<COMPUTING_REGISTERS<G>, BLOCKS>();
        return true;
    }
    registers_down<LOADING_REGISTERS<G>, BLOCKS>();
    load();
    load_end(ring);
    return false;
}

// A warpgroup's rows of a tile of rows, the first of this warp's, and which of two lists of columns they have.
struct GroupRows {
    int first, last, warp_first;
    bool any;
    int list;
};

DEVICE GroupRows group_rows(const RowTile& rows, int list = 0) {
    const int group = warpgroup_index() * SQUARE, warp = static_cast<int>(threadIdx.x) / WARP * 16;
    const int last = rows.first + min(rows.count, group + SQUARE) - 1;
    return {rows.first + group, last, rows.first + warp, group < rows.count, list};
}

// The columns of a stage as they enter those rows.
DEVICE Columns<SQUARE> columns_of(const Staged& staged, const GroupRows& rows) {
    Columns<SQUARE> tile = staged.tile;
    if (rows.list) tile.weight = tile.second_weight;
    return tile;
}

// A head's rows as operands of a product, row g and g + 8 of the warp's 16 in each lane; zeros where there is no row.
template <int D>
DEVICE void load_operand(unsigned (&x)[D / 16][4], const Head& head, const RowTile& rows) {
    const int row = static_cast<int>(threadIdx.x) / WARP * 16 + lane_row();
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int position = position_of(head, rows.first, rows.gathered, rows.count, row + 8 * i);
        const real* from = at_position(head, max(position, 0));
#pragma unroll
        for (int k = 0; k < D / 8; k++) {
            const int column = k * 8 + lane_column();
            unsigned pair = 0;
            if (position >= 0 && head.aligned) {
                if (column < head.d) pair = *reinterpret_cast<const unsigned*>(from + column);
            } else if (position >= 0) {
                const float low = column < head.d ? to_float(from[column]) : 0.0f;
                pair = pack_bf16(low, column + 1 < head.d ? to_float(from[column + 1]) : 0.0f);
            }
            x[k / 2][k % 2 * 2 + i] = pair;
        }
    }
}

// Starts s = a b^T for a tile b of a stage.
template <int D>
DEVICE void put_scores(float (&s)[8][4], const unsigned (&a)[D / 16][4], const unsigned char* tile) {
#pragma unroll
    for (int panel = 0; panel < D / 64; panel++) {
        const Descriptor b = descriptor_of(tile + panel * PANEL);
#pragma unroll
        for (int k = 0; k < 4; k++) wgmma<false>(s, a[panel * 4 + k], b + k * NEXT_COLUMNS, panel + k > 0);
    }
}

// The same for rows a in shared memory.
template <int D>
DEVICE void put_scores(float (&s)[8][4], const unsigned char* rows, const unsigned char* tile) {
#pragma unroll
    for (int panel = 0; panel < D / 64; panel++) {
        const Descriptor a = descriptor_of(rows + panel * PANEL), b = descriptor_of(tile + panel * PANEL);
#pragma unroll
        for (int k = 0; k < 4; k++) wgmma<false>(s, a + k * NEXT_COLUMNS, b + k * NEXT_COLUMNS, panel + k > 0);
    }
}

// Starts o += p b.
template <int D>
DEVICE void put_sums(float (&o)[D / 64][8][4], const unsigned (&p)[4][4], const unsigned char* tile) {
#pragma unroll
    for (int panel = 0; panel < D / 64; panel++) {
        const Descriptor b = descriptor_of(tile + panel * PANEL);
#pragma unroll
        for (int k = 0; k < 4; k++) wgmma<true>(o[panel], p[k], b + k * NEXT_ROWS, true);
    }
}

// Two neighbouring pieces of s are one operand as they lie.
DEVICE void make_operand(unsigned (&p)[4][4], const float (&s)[8][4]) {
#pragma unroll
    for (int i = 0; i < 16; i++) {
        const float* pair = &s[i / 4 * 2 + i % 4 / 2][i % 2 * 2];
        p[i / 4][i % 4] = pack_bf16(pair[0], pair[1]);
    }
}

template <int D>
DEVICE void clear(float (&o)[D / 64][8][4]) {
#pragma unroll
    for (int i = 0; i < D / 2; i++) o[i / 32][i / 4 % 8][i % 4] = 0.0f;
}

template <int D>
DEVICE void scale_rows(float (&o)[D / 64][8][4], const float (&factor)[2]) {
#pragma unroll
    for (int i = 0; i < D / 2; i++) o[i / 32][i / 4 % 8][i % 4] *= factor[i / 2 % 2];
}

// Gives -inf to the scores that rows do not see.
DEVICE void mask_square(float (&s)[8][4], const Columns<SQUARE>& tile, int first) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const Bits<SQUARE> seen = seen_by(tile, first + 8 * i + lane_row()) >> lane_column();
#pragma unroll
        for (int n = 0; n < SQUARE / 4; n++) {
            float& score = s[n / 2][i * 2 + n % 2];
            score = seen >> (n / 2 * 8 + n % 2) & 1 ? score : -INFINITY;
        }
    }
}

// Takes one more stage of a walk that has not ended: its number if the warpgroup's rows see something of its tile. Else
// -1, and the warp is through with it.
template <int D>
DEVICE int take_stage(Ring<D>& ring, bool& ended, const GroupRows& rows) {
    if (ended) return -1;
    const int stage = stage_of(ring);
    mbarrier_wait(full_at(ring, stage), parity_of(ring));
    const Columns<SQUARE> tile = columns_of(staged_at(ring, stage), rows);
    ended = staged_at(ring, stage).last;
    ring.turn++;
    const bool seen = tile.seen && tile.weight != -INFINITY && touches(tile, rows.first, rows.last);
    if (rows.any && seen) return stage;
    arrive_as_warp(empty_at(ring, stage));
    return -1;
}

// The next stage of which the rows see something, -1 where the walk ends before.
template <int D>
DEVICE int find_stage(Ring<D>& ring, bool& ended, const GroupRows& rows) {
    int stage = -1;
    while (stage < 0 && !ended) stage = take_stage(ring, ended, rows);
    return stage;
}

// The maximum, the sum and what happens to earlier sums, of two rows in each lane.
struct Running {
    float most[2], sum[2], decay[2];
};

// s becomes probabilities, before dropout divided by their sum.
template <bool DROPS>
DEVICE void to_probabilities(
    float (&s)[8][4], Running& running, const Columns<SQUARE>& tile, const GroupRows& rows, const Kept& kept,
    float scale_2) {
    if (cuts(tile, rows.warp_first, min(rows.last, rows.warp_first + 15))) mask_square(s, tile, rows.warp_first);
    Bits<SQUARE> bits[1][2];
    if (DROPS) kept_of_queries<1, SQUARE>(bits, kept, tile, rows.warp_first);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float top = -INFINITY;
#pragma unroll
        for (int n = 0; n < 8; n++) top = fmaxf(top, fmaxf(s[n][2 * i], s[n][2 * i + 1]));
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 1));
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 2));
        top = fmaxf(running.most[i], fmaf(top, scale_2, tile.weight));
        // A row that has seen nothing yet has no maximum: -inf - -inf would be NaN.
        const float shift = top == -INFINITY ? 0.0f : top;
        running.decay[i] = exp2_of(running.most[i] - shift);
        running.most[i] = top;
        float total = 0.0f;
#pragma unroll
        for (int n = 0; n < 16; n++) {
            float& p = s[n / 2][2 * i + n % 2];
            p = exp2_of(fmaf(p, scale_2, tile.weight - shift));
            total += p;
            if (DROPS) p *= kept_factor<SQUARE>(kept, bits[0][i], n / 2, n % 2);
        }
        running.sum[i] = fmaf(running.sum[i], running.decay[i], total);
    }
}

// Adds the tiles of a walk over keys to o and running.
template <int D, bool DROPS>
DEVICE void attend_hopper(
    float (&o)[D / 64][8][4], Running& running, Ring<D>& ring, const Head& q, const RowTile& tile_rows,
    const Kept& kept, float scale, int list = 0) {
    const float scale_2 = scale * LOG2_E;
    const GroupRows rows = group_rows(tile_rows, list);
    unsigned query[D / 16][4], p[4][4];
    float s[8][4];
    load_operand<D>(query, q, tile_rows);
    clear<D>(o);
#pragma unroll
    for (int i = 0; i < 2; i++) running.most[i] = -INFINITY, running.sum[i] = 0.0f;
    // A stage is held while the next one is waited for, but no longer: those who load wait for it in turn.
    for (bool ended = false;;) {
        int stage = find_stage(ring, ended, rows);
        if (stage < 0) break;
        wgmma_fence();
        put_scores<D>(s, query, tile_at(ring, stage, 0));
        wgmma_commit();
        wgmma_wait<0>();
        to_probabilities<DROPS>(s, running, columns_of(staged_at(ring, stage), rows), rows, kept, scale_2);
        scale_rows<D>(o, running.decay);
        make_operand(p, s);
        int before = stage;
        while ((stage = take_stage(ring, ended, rows)) >= 0) {
            wgmma_fence();
            put_scores<D>(s, query, tile_at(ring, stage, 0));
            wgmma_commit();
            put_sums<D>(o, p, tile_at(ring, before, 1));
            wgmma_commit();
            wgmma_wait<1>();
            to_probabilities<DROPS>(s, running, columns_of(staged_at(ring, stage), rows), rows, kept, scale_2);
            wgmma_wait<0>();
            arrive_as_warp(empty_at(ring, before));
            scale_rows<D>(o, running.decay);
            make_operand(p, s);
            before = stage;
        }
        wgmma_fence();
        put_sums<D>(o, p, tile_at(ring, before, 1));
        wgmma_commit();
        wgmma_wait<0>();
        arrive_as_warp(empty_at(ring, before));
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        running.sum[i] += __shfl_xor_sync(ALL_LANES, running.sum[i], 1);
        running.sum[i] += __shfl_xor_sync(ALL_LANES, running.sum[i], 2);
    }
}

// Two rows of a lane at `to`, a panel after the other, as put_row.
template <int D, class T>
DEVICE void put_panels(T* to, const float (&x)[D / 64][8][4], int half, float factor, int d, int accumulate) {
#pragma unroll
    for (int panel = 0; panel < D / 64; panel++)
        put_row(to + panel * 64, x[panel], half, factor, d - panel * 64, accumulate);
}

// As put_attended.
template <int D>
DEVICE void put_attended_hopper(
    real* o, float* lse, const Head& q, const RowTile& rows, const Counted& takes_part,
    const float (&sums)[D / 64][8][4], const Running& running) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = static_cast<int>(threadIdx.x) / WARP * 16 + 8 * i + lane_row(), row = rows.first + r;
        if (r >= rows.count) continue;
        const float total = running.sum[i];
        // A NaN sum is passed on, so that a broken model shows.
        const bool seen = total != 0.0f && counts(takes_part, row);
        real* to = o + static_cast<long long>(row) * q.stride;
        put_panels<D>(to, sums, i, seen ? 1.0f / total : 0.0f, q.d, 0);
        if (lane_column() == 0) lse[row] = seen ? (running.most[i] + log2f(total)) * LN_2 : -INFINITY;
    }
}

#endif
