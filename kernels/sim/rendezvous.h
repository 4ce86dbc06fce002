// The seam between a kernel compiled by a C++ compiler and the scheduler in src/device/sim: plain C, mirrored in Rust.
#pragma once

extern "C" {

// src/device/sim/entries.rs has the same layout.
struct SimEntry {
    const char* signature;
    // Bytes of the argument struct, and of the struct of maps, 0 for an entry without.
    size_t bytes, maps_bytes;
    void (*run)(const void* arguments, const void* maps);
};

// An asynchronous copy that has not landed.
struct SimCopy {
    void* to;
    const void* from;
    unsigned bytes, group;
};

enum { SIM_COPIES = 512 };

// Shared memory that a thread wrote by ordinary means, and has not fenced.
struct SimWrite {
    void* at;
    unsigned bytes;
};

struct SimIndex { unsigned x, y, z; };

// One thread of the grid; src/device/sim/thread.rs has the same layout.
struct SimThread {
    SimIndex thread, block, threads, blocks;
    unsigned index;  // in the block
    unsigned shared_size;
    unsigned char* shared;
    unsigned copies, group;  // started and not landed; commits so far
    SimCopy copy[SIM_COPIES];
    SimWrite written[SIM_COPIES];
    SimAsync* async;  // of the block
    unsigned writes;
};

// What a thread waits for; lives on its stack until it is resumed.
struct SimWait {
    const char* what;
    unsigned scope;  // 0: the lanes of `mask` in its warp, 1: the whole block, 2: until `ready`
    unsigned mask;
    // Called once by the scheduler when all are there; `lanes[i]` is null for a lane outside the mask.
    void (*perform)(SimWait** lanes, unsigned count);
    const char* file;
    unsigned line;
    // What the operation gets and gives; its type belongs to `perform`.
    void* data;
    // Whether a thread of scope 2 may go on.
    unsigned (*ready)(SimWait*);
};

// Set by the scheduler: suspends until `wait` is complete, or for ever after a failure.
struct SimHooks {
    void (*wait)(SimThread*, SimWait*);
    void (*fail)(SimThread*, const char* message, const char* file, unsigned line);
};

extern __thread SimThread* sim_self;
extern SimHooks sim_hooks;
}

// Ends the launch with an error that names this thread.
#define SIM_FAIL(message) sim_hooks.fail(sim_self, message, file, line)
// Where a builtin was called.
#define SIM_SITE const char *file = __builtin_FILE(), unsigned line = __builtin_LINE()

static inline void sim_nothing(SimWait**, unsigned) {}

// Fails unless `p` is a multiple of `alignment`, as vector accesses on the device need.
template <class T>
static inline T* sim_aligned(T* p, unsigned alignment, SIM_SITE) {
    if (reinterpret_cast<uintptr_t>(p) % alignment != 0) SIM_FAIL("misaligned vector access");
    return p;
}

// Fails unless `bytes` from `p` lie in the block's shared memory.
static inline void sim_in_shared(const void* p, unsigned bytes, SIM_SITE) {
    const unsigned char* at = static_cast<const unsigned char*>(p);
    if (at < sim_self->shared || at + bytes > sim_self->shared + sim_self->shared_size)
        SIM_FAIL("an address outside of shared memory where one inside is needed");
}
