// Twins of kernels/hopper.cuh, stricter than a GPU: what is on its way holds NaN until it is waited for, and what must
// not change meanwhile is compared. A warp's products run when that warp waits for them, whatever the others do.
#pragma once

// The message of a failure, which the scheduler copies at once.
static inline const char* sim_text(const char* format, ...) __attribute__((format(printf, 1, 2)));
static inline const char* sim_text(const char* format, ...) {
    // As many as all warps may write before the first is read.
    static __thread char texts[2 * SIM_THREADS / 32][256];
    static __thread unsigned next;
    char* text = texts[next++ % (sizeof texts / sizeof texts[0])];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof texts[0], format, values);
    va_end(values);
    return text;
}

// The block's state, in order at its first use.
static inline SimAsync* sim_async() {
    SimAsync* all = sim_self->async;
    if (!all->open) {
        all->open = true;
        memset(all->visible, 0xff, all->shared_size);
        memset(all->named, 0, sizeof all->named);
        all->barriers = all->bulks = 0;
        all->registers = 0;
        for (unsigned warp = 0; warp < SIM_THREADS / 32; warp++) {
            SimWarp* one = &all->warp[warp];
            one->products = one->groups = one->fences = one->issued = one->known = 0;
            one->history = 0, one->registers = 0;
            for (SimSum& sum : one->sum) sum.pending = 0;
        }
    }
    return all;
}

static inline unsigned shared_address(const void* p, SIM_SITE) {
    sim_in_shared(p, 1, file, line);
    return SIM_SHARED_BASE + static_cast<unsigned>(static_cast<const unsigned char*>(p) - sim_self->shared);
}

// --- mbarriers

static inline SimBarrier* sim_barrier(const unsigned long long* at, const char* what, const char* file, unsigned line) {
    SimAsync* all = sim_async();
    sim_in_shared(at, 8, file, line);
    sim_aligned(at, 8, file, line);
    const unsigned byte = shared_address(at) - SIM_SHARED_BASE;
    for (unsigned i = 0; i < all->barriers; i++) {
        SimBarrier* barrier = &all->barrier[i];
        if (barrier->at != byte) continue;
        if (*at != SIM_BARRIER_MARK)
            SIM_FAIL(sim_text("%s: the barrier at byte %u of shared memory was written over", what, byte));
        return barrier;
    }
    SIM_FAIL(sim_text("%s: there is no barrier at byte %u of shared memory", what, byte));
    return nullptr;
}

static inline void mbarrier_init(unsigned long long* at, int arrivals, SIM_SITE) {
    SimAsync* all = sim_async();
    sim_in_shared(at, 8, file, line);
    sim_aligned(at, 8, file, line);
    const unsigned byte = shared_address(at) - SIM_SHARED_BASE;
    for (unsigned i = 0; i < all->barriers; i++)
        if (all->barrier[i].at == byte)
            SIM_FAIL(sim_text("mbarrier_init: the barrier at byte %u of shared memory is in use", byte));
    if (all->barriers == SIM_BARRIERS) SIM_FAIL("more barriers than the simulator holds");
    if (arrivals < 1 || arrivals > (1 << 20) - 1) SIM_FAIL("mbarrier_init: a count that no barrier has");
    SimBarrier* barrier = &all->barrier[all->barriers++];
    *barrier = {byte, false, static_cast<unsigned>(arrivals), static_cast<unsigned>(arrivals), 0, 0, {}};
    *at = SIM_BARRIER_MARK;
}

// Of every barrier that is there: one thread makes them all.
static inline void mbarrier_init_fence(SIM_SITE) {
    SimAsync* all = sim_async();
    for (unsigned i = 0; i < all->barriers; i++) all->barrier[i].fenced = true;
}

static inline void sim_need_fence(const SimBarrier* barrier, const char* what, const char* file, unsigned line) {
    if (!barrier->fenced)
        SIM_FAIL(sim_text("%s: the barrier at byte %u was not fenced after mbarrier_init", what, barrier->at));
}

// Ends the phase where nothing is missing; whether its books are in order.
static inline bool sim_advance(SimBarrier* barrier) {
    if (barrier->pending != 0) return true;
    if (barrier->bytes == 0) barrier->phases++, barrier->pending = barrier->count;
    return barrier->bytes >= 0;
}

static inline void sim_arrive(
    const char* what, unsigned long long* at, unsigned bytes, const char* file, unsigned line) {
    SimBarrier* barrier = sim_barrier(at, what, file, line);
    sim_need_fence(barrier, what, file, line);
    if (barrier->pending == 0)
        SIM_FAIL(sim_text("%s: the barrier at byte %u already has its %u arrivals", what, barrier->at, barrier->count));
    if (bytes >= 1 << 20) SIM_FAIL(sim_text("%s: %u bytes are more than a barrier counts", what, bytes));
    barrier->pending--;
    barrier->bytes += bytes;
    if (!sim_advance(barrier))
        SIM_FAIL(sim_text("%s: the barrier at byte %u got %lld bytes more than were announced", what, barrier->at,
                          -barrier->bytes));
}

static inline void mbarrier_arrive(unsigned long long* at, SIM_SITE) {
    sim_arrive("mbarrier_arrive", at, 0, file, line);
}
static inline void mbarrier_arrive_expect(unsigned long long* at, unsigned bytes, SIM_SITE) {
    sim_arrive("mbarrier_arrive_expect", at, bytes, file, line);
}

struct SimPhase {
    SimBarrier* barrier;
    unsigned parity;
};

static inline unsigned sim_phase_ended(SimWait* wait) {
    const SimPhase* phase = static_cast<const SimPhase*>(wait->data);
    return ((phase->barrier->phases - 1) & 1) == static_cast<int>(phase->parity);
}

// A thread waits for the phases of a barrier one by one: a parity that lets it through twice, or that leaves one out,
// is the wrong one.
static inline void mbarrier_wait(unsigned long long* at, unsigned parity, SIM_SITE) {
    SimBarrier* barrier = sim_barrier(at, "mbarrier_wait", file, line);
    sim_need_fence(barrier, "mbarrier_wait", file, line);
    if (parity > 1) SIM_FAIL("mbarrier_wait: a parity is 0 or 1");
    SimPhase phase = {barrier, parity};
    char text[160];
    SimWait wait = {text, 2, 0, sim_nothing, file, line, &phase, sim_phase_ended};
    if (!sim_phase_ended(&wait)) {
        snprintf(text, sizeof text,
                 "mbarrier_wait(parity %u) for the barrier at byte %u, which has ended %d phases and lacks %u of %u "
                 "arrivals and %lld bytes,",
                 parity, barrier->at, barrier->phases, barrier->pending, barrier->count, barrier->bytes);
        sim_hooks.wait(sim_self, &wait);
    }
    int* waited = &barrier->waited[sim_self->index];
    // Counted from 1, for that before the first one, which has always ended.
    const int now = barrier->phases + 1;
    if (*waited == now || (*waited == 0 && now > 2))
        SIM_FAIL(sim_text("mbarrier_wait(parity %u): the barrier at byte %u lets a thread through %s", parity,
                          barrier->at, *waited == now ? "a second time in one phase" : "that begins in its middle"));
    if (*waited != 0 && now != *waited + 1)
        SIM_FAIL(sim_text("mbarrier_wait(parity %u): the barrier at byte %u went on without waiting for this thread",
                          parity, barrier->at));
    *waited = now;
}

// --- the async proxy's sight of shared memory

static inline void fence_proxy_async(SIM_SITE) {
    SimAsync* all = sim_async();
    SimThread* self = sim_self;
    for (unsigned i = 0; i < self->writes; i++) {
        const SimWrite write = self->written[i];
        const size_t at = static_cast<unsigned char*>(write.at) - all->shared;
        memcpy(all->visible + at, all->shared + at, write.bytes);
    }
    self->writes = 0;
}

template <class T>
static inline void store_for_products(T* to, T value, SIM_SITE) {
    sim_in_shared(to, sizeof(T), file, line);
    *to = value;
    sim_wrote(to, sizeof(T), file, line);
}

#include "bulk.h"

// --- named barriers

struct SimGeneration {
    const SimNamed* named;
    unsigned seen;
};

static inline unsigned sim_generation_ended(SimWait* wait) {
    const SimGeneration* generation = static_cast<const SimGeneration*>(wait->data);
    return generation->named->generation != generation->seen;
}

// Comes to the barrier, and gives it as it was before.
static inline SimGeneration sim_come(const char* what, int id, int threads, const char* file, unsigned line) {
    // As the device counts warps, all lanes come together.
    SimWait together = {what, 0, 0xffffffffu, sim_nothing, file, line, nullptr};
    sim_hooks.wait(sim_self, &together);
    if (id < 1 || id >= static_cast<int>(SIM_NAMED))
        SIM_FAIL(sim_text("%s: barrier %d is not one of 1 to 15", what, id));
    if (threads < 32 || threads % 32 != 0) SIM_FAIL(sim_text("%s: %d threads are no whole warps", what, threads));
    SimNamed* named = &sim_async()->named[id];
    if (named->arrived == 0) named->count = threads;
    if (named->count != static_cast<unsigned>(threads))
        SIM_FAIL(sim_text("%s: barrier %d is for %u threads at one place and for %d at another", what, id, named->count,
                          threads));
    const SimGeneration before = {named, named->generation};
    if (++named->arrived == named->count) named->arrived = 0, named->generation++;
    return before;
}

static inline void named_barrier_sync(int id, int threads, SIM_SITE) {
    SimGeneration before = sim_come("named_barrier_sync", id, threads, file, line);
    if (before.named->generation != before.seen) return;
    char text[96];
    snprintf(text, sizeof text, "named_barrier_sync(%d, %d)", id, threads);
    SimWait wait = {text, 2, 0, sim_nothing, file, line, &before, sim_generation_ended};
    sim_hooks.wait(sim_self, &wait);
}

static inline void named_barrier_arrive(int id, int threads, SIM_SITE) {
    sim_come("named_barrier_arrive", id, threads, file, line);
}

// --- registers

struct SimMore {
    const SimAsync* all;
    unsigned registers;
};

static inline unsigned sim_registers_free(SimWait* wait) {
    const SimMore* more = static_cast<const SimMore*>(wait->data);
    return more->all->registers >= more->registers;
}

template <int COUNT, int BLOCKS>
static inline void sim_set_registers(const char* what, bool up, const char* file, unsigned line) {
    static_assert(COUNT >= 24 && COUNT <= 256 && COUNT % 8 == 0, "a count that setmaxnreg does not take");
    SimAsync* all = sim_async();
    SimWarp* warp = &all->warp[sim_self->index / 32];
    // Once a warp: by its first lane, when all have come.
    SimWait together = {what, 0, 0xffffffffu, sim_nothing, file, line, nullptr};
    sim_hooks.wait(sim_self, &together);
    if (sim_self->index % 32 == 0) {
        // As the launch gave them: all there are, to BLOCKS blocks.
        if (warp->registers == 0) warp->registers = min(65536u / BLOCKS / all->threads / 8 * 8, 248u);
        if (up ? COUNT < warp->registers : COUNT > warp->registers)
            SIM_FAIL(sim_text("%s: from %u registers to %d", what, warp->registers, COUNT));
        SimMore more = {all, up ? 32 * (COUNT - warp->registers) : 0};
        if (all->registers < more.registers) {
            char text[96];
            snprintf(text, sizeof text, "%s<%d>, for which %u registers are free,", what, COUNT, all->registers);
            SimWait wait = {text, 2, 0, sim_nothing, file, line, &more, sim_registers_free};
            sim_hooks.wait(sim_self, &wait);
        }
        all->registers = all->registers + 32 * warp->registers - 32 * COUNT;
        warp->registers = COUNT;
    }
    sim_hooks.wait(sim_self, &together);
}

template <int COUNT, int BLOCKS = 1>
static inline void registers_down(SIM_SITE) {
    sim_set_registers<COUNT, BLOCKS>("registers_down", false, file, line);
}
template <int COUNT, int BLOCKS = 1>
static inline void registers_up(SIM_SITE) {
    sim_set_registers<COUNT, BLOCKS>("registers_up", true, file, line);
}

#include "wgmma.h"
