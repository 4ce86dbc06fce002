// What a block has on its way, and what its threads have been promised: the state behind the twins in hopper.h.
#pragma once

constexpr unsigned SIM_BARRIERS = 64, SIM_THREADS = 1024, SIM_NAMED = 16, SIM_BULKS = 256;
// Of a warp: products in flight, accumulators of them, registers that products have used, columns of a product.
constexpr unsigned SIM_PRODUCTS = 48, SIM_SUMS = 8, SIM_REGISTERS = 64, SIM_COLUMNS = 64;

// Where shared memory begins on the device's side of an address: dynamic memory has a system's page before it, and is
// aligned to 16 bytes only.
constexpr unsigned SIM_SHARED_BASE = 1024 + 16;

// An mbarrier. Its 8 bytes of shared memory hold `SIM_BARRIER_MARK`.
struct SimBarrier {
    unsigned at;  // byte of shared memory
    bool fenced;  // after its initialisation
    unsigned count, pending;
    long long bytes;  // expected and not there yet
    int phases;       // completed
    // The phase that each thread waited for last, from 1 on; 0 for none.
    int waited[SIM_THREADS];
};
constexpr uint64_t SIM_BARRIER_MARK = 0x7ff4a55a5aa5b17eull;

// A barrier of `bar.sync`.
struct SimNamed {
    unsigned count, arrived, generation;
};

// A tensor map as src/device/sim/maps.rs encodes it: of elements of 2 bytes, the innermost dimension first, and rows of
// 128 bytes whose pieces are swizzled.
struct SimMap {
    uint64_t mark, rank, address, size[4];
    uint64_t stride[3];  // bytes
    uint64_t box[4];
    uint64_t unused[2];
};
constexpr uint64_t SIM_MAP_MARK = 0x7ff470ad3a9b5c1eull;

// A bulk copy that has not landed: bytes one behind the other or, where `from` is null, the box of a map.
struct SimBulk {
    SimBarrier* barrier;
    unsigned to, bytes;
    const unsigned char* from;
    SimMap map;
    int first[4];
};

// The accumulators of a product that has not been waited for, lane by lane.
struct SimSum {
    float* d[32];
    unsigned pending;  // products
    float value[32][SIM_COLUMNS / 2];
    unsigned columns;
};

// A wgmma that has not been waited for, as one warp sees it.
struct SimProduct {
    unsigned group, sum, columns;
    bool accumulate, transposed;
    uint64_t a_at, b_at;  // descriptors; a_at is 0 where a is in registers
    const unsigned* a[32];
    unsigned a_bits[32][4];
    uint16_t a_values[16][16], b_values[SIM_COLUMNS][16];
    const char* file;
    unsigned line;
};

// Registers that a wgmma has used, what they held at the last fence, and whether a wait gave them back since.
struct SimRegisters {
    const void* at[32];
    unsigned words;
    uint64_t hash;
    bool returned;
};

struct SimWarp {
    unsigned products, groups, fences, issued, known;
    uint64_t history;  // of what was issued
    unsigned registers;  // of a thread; 0 before they are first changed
    SimProduct product[SIM_PRODUCTS];
    SimSum sum[SIM_SUMS];
    SimRegisters used[SIM_REGISTERS];
};

struct SimAsync {
    bool open;
    unsigned threads, shared_size;
    unsigned char *shared, *visible;  // `visible` is what the async proxy sees of shared memory
    SimBarrier barrier[SIM_BARRIERS];
    unsigned barriers;
    SimNamed named[SIM_NAMED];
    SimBulk bulk[SIM_BULKS];
    unsigned bulks;
    unsigned registers;  // of the block, in use by no thread
    SimWarp warp[SIM_THREADS / 32];
};
