// The columns of a walk in shared memory, tile by tile, in two stages: one is worked on while the next lands.
#pragma once

#include "attention_tile.cuh"

// Starts loading two streams of the columns of a tile, one behind the other.
template <int D, int N>
DEVICE void load_columns(real* stage, const Head& a, const Head& b, const Columns<N>& tile) {
    load_seen<D, N>(stage, a, tile.first, tile.gathered, tile.seen);
    load_seen<D, N>(stage + N * PITCH<D>, b, tile.first, tile.gathered, tile.seen);
}

// Two stages of `size` elements for the columns of tiles: one is worked on while the other is filled.
struct Stages {
    real* shared;
    int size, now;
};

DEVICE real* this_stage(const Stages& stages) { return stages.shared + stages.now * stages.size; }
DEVICE real* other_stage(const Stages& stages) { return stages.shared + (stages.now ^ 1) * stages.size; }

// Calls step(tile, its columns) for `tile`, which is on its way to this stage if there is one, and for those that the
// walk has after it. start(stage, tile) sends one on its way, and then(stage) what comes after the last.
template <int N, class Walk, class Start, class Step, class Then>
DEVICE void each_tile(
    Stages& stages, Walk& walk, Columns<N>& tile, bool more, const Start& start, const Step& step, const Then& then) {
    for (; more; stages.now ^= 1) {
        cp_async_wait<0>();
        __syncthreads();
        Columns<N> after;
        more = next_tile(walk, after);
        if (more) start(other_stage(stages), after);
        else then(other_stage(stages));
        cp_async_commit();
        step(tile, this_stage(stages));
        tile = after;
    }
}

// Calls step(tile, its columns) for all tiles of a walk, once start_rows() has sent what stays on its way.
template <int N, class Walk, class StartRows, class Start, class Step>
DEVICE void each_tile(
    Stages stages, Walk& walk, const StartRows& start_rows, const Start& start, const Step& step) {
    Columns<N> tile;
    const bool more = next_tile(walk, tile);
    if (more) {
        start_rows();
        start(this_stage(stages), tile);
    }
    cp_async_commit();
    each_tile(stages, walk, tile, more, start, step, [](real*) {});
    cp_async_wait<0>();
}

// The same for a band and a list. The narrow tiles of the list come first: the band's, of which there are more, then
// have a loop of their own, and the first of them is on its way during the last of the list.
template <int N, int L, class StartRows, class Start, class Step>
DEVICE void each_tile(
    Stages stages, BandAndList<N, L>& walk, const StartRows& start_rows, const Start& start, const Step& step) {
    Columns<L> listed;
    Columns<N> tile;
    const bool any = next_tile(walk.list, listed), more = next_tile(walk.band, tile);
    const auto start_band = [&](real* stage) {
        if (more) start(stage, tile);
    };
    if (any || more) start_rows();
    if (any) start(this_stage(stages), listed);
    else start_band(this_stage(stages));
    cp_async_commit();
    each_tile(stages, walk.list, listed, any, start, step, start_band);
    each_tile(stages, walk.band, tile, more, start, step, [](real*) {});
    cp_async_wait<0>();
}
