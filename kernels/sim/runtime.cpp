// What is there once in a program: the two variables that the scheduler sets, and what it does with a block's state.
#include "cuda.h"

extern "C" {
__thread SimThread* sim_self = nullptr;
SimHooks sim_hooks = {nullptr, nullptr};

// Where the calling operating-system thread keeps `sim_self`.
SimThread** sim_self_slot() { return &sim_self; }

size_t sim_async_bytes() { return sizeof(SimAsync); }

// Before a block's threads run; `visible` has as many bytes as shared memory.
void sim_async_begin(SimAsync* all, unsigned threads, unsigned char* shared, unsigned char* visible, unsigned size) {
    all->open = false;
    all->threads = threads, all->shared = shared, all->visible = visible, all->shared_size = size;
}

// Bulk copies that have not landed.
unsigned sim_async_flying(const SimAsync* all) { return all->open ? all->bulks : 0; }

// Lands one of them; null, or what is wrong.
const char* sim_async_land(SimAsync* all, unsigned i) {
    return sim::sim_land(all, i);
}

// When all threads have returned; null, or what they left behind.
const char* sim_async_end(const SimAsync* all) {
    if (!all->open) return nullptr;
    if (all->bulks > 0) return sim::sim_text("the block ends with %u bulk copies on their way", all->bulks);
    for (unsigned id = 0; id < SIM_NAMED; id++)
        if (all->named[id].arrived > 0)
            return sim::sim_text("the block ends with %u of %u threads at barrier %u", all->named[id].arrived,
                                 all->named[id].count, id);
    for (unsigned i = 0; i < (all->threads + 31) / 32; i++) {
        const SimWarp &warp = all->warp[i], &leader = all->warp[i / 4 * 4];
        if (warp.products > 0) return sim::sim_text("warp %u returned with products that it never waited for", i);
        if (warp.issued != leader.issued || warp.history != leader.history)
            return sim::sim_text("warps %u and %u of one warpgroup issued different products", i / 4 * 4, i);
        if (warp.registers != leader.registers)
            return sim::sim_text("warps %u and %u of one warpgroup have different numbers of registers", i / 4 * 4, i);
    }
    return nullptr;
}
}
