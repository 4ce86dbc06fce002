// Functions of several threads: barriers, shuffles and votes.
#pragma once

static inline void __trap(SIM_SITE) { SIM_FAIL("trap: the launch breaks the kernel's contract"); }

static inline void __syncthreads(SIM_SITE) {
    SimWait wait = {"__syncthreads", 1, 0, sim_nothing, file, line, nullptr};
    sim_hooks.wait(sim_self, &wait);
}

struct SimShuffle {
    uint64_t value, result;
    unsigned source;  // lane to read
};

static inline void sim_shuffle(SimWait** lanes, unsigned) {
    for (unsigned i = 0; i < 32; i++) {
        if (!lanes[i]) continue;
        SimShuffle* mine = static_cast<SimShuffle*>(lanes[i]->data);
        SimWait* from = lanes[mine->source % 32];
        // A lane that takes no part has no defined value: a NaN pattern stands for it.
        mine->result = from ? static_cast<SimShuffle*>(from->data)->value : ~0ull;
    }
}

template <class T>
static inline T sim_exchange(const char* what, unsigned mask, T value, unsigned source, const char* file, unsigned line) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    SimShuffle shuffle = {0, 0, source};
    memcpy(&shuffle.value, &value, sizeof(T));
    SimWait wait = {what, 0, mask, sim_shuffle, file, line, &shuffle};
    sim_hooks.wait(sim_self, &wait);
    memcpy(&value, &shuffle.result, sizeof(T));
    return value;
}

static inline unsigned sim_lane() { return sim_self->index % 32; }

// Widths below 32 split the warp into groups that exchange among themselves.
template <class T>
static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, SIM_SITE) {
    const unsigned base = sim_lane() & ~(width - 1u);
    return sim_exchange("__shfl_sync", mask, value, base + (lane & (width - 1)), file, line);
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, SIM_SITE) {
    const unsigned lane = sim_lane(), to = lane ^ static_cast<unsigned>(lane_mask);
    // As on the device, a partner in a later group leaves the value as it is.
    const unsigned source = to / width > lane / width ? lane : to;
    return sim_exchange("__shfl_xor_sync", mask, value, source, file, line);
}

template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIM_SITE) {
    const unsigned lane = sim_lane(), to = lane + delta;
    return sim_exchange("__shfl_down_sync", mask, value, to / width == lane / width ? to : lane, file, line);
}

template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIM_SITE) {
    const unsigned lane = sim_lane();
    const bool inside = lane % width >= delta;
    return sim_exchange("__shfl_up_sync", mask, value, inside ? lane - delta : lane, file, line);
}

static inline void sim_ballot(SimWait** lanes, unsigned) {
    uint64_t votes = 0;
    for (unsigned i = 0; i < 32; i++)
        if (lanes[i] && static_cast<SimShuffle*>(lanes[i]->data)->value) votes |= 1ull << i;
    for (unsigned i = 0; i < 32; i++)
        if (lanes[i]) static_cast<SimShuffle*>(lanes[i]->data)->result = votes;
}

static inline unsigned sim_vote(const char* what, unsigned mask, bool vote, const char* file, unsigned line) {
    SimShuffle shuffle = {vote, 0, 0};
    SimWait wait = {what, 0, mask, sim_ballot, file, line, &shuffle};
    sim_hooks.wait(sim_self, &wait);
    return static_cast<unsigned>(shuffle.result);
}

static inline unsigned __ballot_sync(unsigned mask, int vote, SIM_SITE) {
    return sim_vote("__ballot_sync", mask, vote != 0, file, line);
}
static inline int __any_sync(unsigned mask, int vote, SIM_SITE) {
    return sim_vote("__any_sync", mask, vote != 0, file, line) != 0;
}
static inline int __all_sync(unsigned mask, int vote, SIM_SITE) {
    return sim_vote("__all_sync", mask, vote != 0, file, line) == mask;
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, SIM_SITE) {
    SimWait wait = {"__syncwarp", 0, mask, sim_nothing, file, line, nullptr};
    sim_hooks.wait(sim_self, &wait);
}

// Votes of the whole block.
static inline void sim_block_vote(SimWait** threads, unsigned count) {
    uint64_t votes = 0;
    for (unsigned i = 0; i < count; i++)
        votes += threads[i] && static_cast<SimShuffle*>(threads[i]->data)->value;
    for (unsigned i = 0; i < count; i++)
        if (threads[i]) static_cast<SimShuffle*>(threads[i]->data)->result = votes;
}

static inline unsigned sim_count(const char* what, bool vote, const char* file, unsigned line) {
    SimShuffle shuffle = {vote, 0, 0};
    SimWait wait = {what, 1, 0, sim_block_vote, file, line, &shuffle};
    sim_hooks.wait(sim_self, &wait);
    return static_cast<unsigned>(shuffle.result);
}

static inline int __syncthreads_count(int vote, SIM_SITE) {
    return static_cast<int>(sim_count("__syncthreads_count", vote != 0, file, line));
}
static inline int __syncthreads_or(int vote, SIM_SITE) {
    return sim_count("__syncthreads_or", vote != 0, file, line) != 0;
}
static inline int __syncthreads_and(int vote, SIM_SITE) {
    const unsigned size = blockDim.x * blockDim.y * blockDim.z;
    return sim_count("__syncthreads_and", vote != 0, file, line) == size;
}

// Integer atomics; floating-point ones are not offered, for their order would be.
template <class T>
static inline T sim_fetch_add(T* p, T value) { return __atomic_fetch_add(p, value, __ATOMIC_RELAXED); }
static inline int atomicAdd(int* p, int value) { return sim_fetch_add(p, value); }
static inline unsigned atomicAdd(unsigned* p, unsigned value) { return sim_fetch_add(p, value); }
static inline int atomicMin(int* p, int value) {
    int old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (value < old && !__atomic_compare_exchange_n(p, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}
static inline int atomicMax(int* p, int value) {
    int old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (value > old && !__atomic_compare_exchange_n(p, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}
static inline int atomicCAS(int* p, int expected, int value) {
    __atomic_compare_exchange_n(p, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}
static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
