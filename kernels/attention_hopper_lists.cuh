// Two lists of a table's blocks at a time, for the two warpgroups of a block: neighbouring rows of a table share many
// columns, which are loaded once.
#pragma once

#include "attention_hopper_backward.cuh"

constexpr int LISTS = 2;
constexpr int NO_BLOCK = 1 << 30;

// The blocks of two lists of a table, each walked in its own order: a block that both have next comes once.
template <int N>
struct TwoLists {
    Counted counted;
    const int *col, *count;
    // Entries not walked yet and their ends; blocks and how often they enter are those of the next ones,
    // NO_BLOCK where there are no more.
    int entry[2], end[2], block[2], times[2];
    int K;
    // Columns of the block that are not walked yet.
    int first, block_end;
    Ahead<N> ahead;
};

template <int N>
DEVICE void read_entry(TwoLists<N>& walk, int list) {
    const bool more = walk.entry[list] < walk.end[list];
    walk.block[list] = more ? walk.col[walk.entry[list]] : NO_BLOCK;
    walk.times[list] = more ? walk.count[walk.entry[list]] : 0;
}

// Begins with the block that is next, if there is one.
template <int N>
DEVICE void enter_block(TwoLists<N>& walk) {
    const int block = min(walk.block[0], walk.block[1]);
    walk.first = block == NO_BLOCK ? 0 : block * walk.K;
    walk.block_end = block == NO_BLOCK ? 0 : walk.first + walk.K;
    look_ahead(walk.ahead, walk.counted, walk.first, walk.block_end);
}

template <int N>
DEVICE TwoLists<N> two_lists(
    const Counted& counted, const int* col, const int* count, const int (&from)[2], const int (&to)[2], int K) {
    TwoLists<N> walk = {counted, col, count, {from[0], from[1]}, {to[0], to[1]}, {}, {}, K, 0, 0, {}};
    read_entry(walk, 0);
    read_entry(walk, 1);
    enter_block(walk);
    return walk;
}

template <int N>
DEVICE bool next_tile(TwoLists<N>& walk, Columns<N>& tile) {
    while (walk.first < walk.block_end) {
        const int block = min(walk.block[0], walk.block[1]);
        // A block that enters no time is listed and hidden.
        const int times[2] = {walk.block[0] == block ? walk.times[0] : 0, walk.block[1] == block ? walk.times[1] : 0};
        const Bits<N> counted = counted_bits(walk.ahead, walk.counted, walk.first, walk.block_end);
        const Bits<N> seen = times[0] + times[1] > 0 ? counted : 0;
        tile = {walk.first, nullptr, N, -FAR, FAR, seen, log2f(static_cast<float>(times[0])),
                log2f(static_cast<float>(times[1]))};
        walk.first += N;
        if (walk.first < walk.block_end) {
            look_ahead(walk.ahead, walk.counted, walk.first, walk.block_end);
        } else {
#pragma unroll
            for (int list = 0; list < 2; list++)
                if (walk.block[list] == block) walk.entry[list]++, read_entry(walk, list);
            enter_block(walk);
        }
        if (seen) return true;
    }
    return false;
}
