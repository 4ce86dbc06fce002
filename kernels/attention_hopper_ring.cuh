// What goes through shared memory in attention on compute capability 9.0, and who fills it.
//
// The last warpgroup of a block loads, the others compute, 64 rows each. Tiles of 64 columns, two tensors of them, go
// through a ring of stages: `full` says that a stage holds a tile, `empty` that everybody is through with it. Beside
// the tensors a stage says which columns they are, so that only the loading warpgroup walks over the pattern. A tile of
// neighbours that are all seen comes by maps of its tensors: one thread asks, and no register is between. Others are copied
// piece by piece (cp.async): those of a list of positions, and those with hidden columns, which may hold anything and have
// to be zeros.
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

#endif
