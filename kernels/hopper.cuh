// What compute capability 9.0 adds: barriers in memory, copies by maps of tensors, products of whole warpgroups from
// shared memory, fences between the two ways to it, and registers that pass from warp to warp. Each has a simulator twin
// in sim/hopper.h.
//
// A warpgroup is 4 warps, the first a multiple of 4. Products (wgmma) run beside the program: between a product and the
// wait for it nobody may touch its accumulators, its operands in registers or its tiles in shared memory. They see
// shared memory by the "async proxy": what ordinary stores and cp.async wrote there has to be fenced by the thread that
// wrote it, before a barrier tells others. Registers that ordinary code wrote have to be fenced before a product, too.
#pragma once

#include "mma.cuh"

// An mbarrier: a phase ends when so many arrivals as it was made for, and as many bytes as they announced, have come.
typedef unsigned long long Barrier;

// One operand in shared memory, as wgmma takes it: where it begins, and how it goes on.
typedef unsigned long long Descriptor;

// What bulk copies know of a tensor in memory: where it lies, how far it goes, and the box that one copy brings. The
// driver encodes it (src/device/tensor_map.rs says what), and only copies read its bits.
struct alignas(128) TensorMap {
    unsigned long long opaque[16];
};

// The second argument of entries that copy by maps: those of two tensors, where both can have one.
struct Maps {
    TensorMap map[2];
    int present;
};

constexpr int WARPGROUP = 128;
// Bytes of a row of a swizzled tile, and after which its pattern repeats: tiles begin at multiples of it.
constexpr int SWIZZLED_ROW = 128;
constexpr int SWIZZLE_PERIOD = 1024;

#if !defined(WATTENTION_SIM) && defined(__CUDA_ARCH_FEAT_SM90_ALL)

static __device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// Makes a barrier; mbarrier_init_fence and then a barrier of the block go before its use by others.
static __device__ __forceinline__ void mbarrier_init(Barrier* barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

static __device__ __forceinline__ void mbarrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

static __device__ __forceinline__ void mbarrier_arrive(Barrier* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// Arrives, and announces bytes that bulk copies will bring in this phase.
static __device__ __forceinline__ void mbarrier_arrive_expect(Barrier* barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}

// Waits until the phase of this parity has ended: the first phase has parity 0, and that before it, 1, has ended.
static __device__ __forceinline__ void mbarrier_wait(Barrier* barrier, unsigned parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "AGAIN:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra AGAIN;\n"
        "}" ::"r"(shared_address(barrier)), "r"(parity) : "memory");
}

// Orders this thread's writes to shared memory before what products and bulk copies do there after a barrier.
static __device__ __forceinline__ void fence_proxy_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Starts copying a multiple of 16 bytes to shared memory; they count towards the barrier's phase as they land.
static __device__ __forceinline__ void bulk_copy(void* to, const void* from, unsigned bytes, Barrier* barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(barrier)) : "memory");
}

// Starts copying the box of a tensor of four dimensions that begins at these coordinates, the innermost first; zeros
// where the tensor has no element. All bytes of the box count towards the barrier's phase. The place is a multiple of 128
// bytes, and the pieces of its rows are swizzled by its address. The map is an argument of the kernel, not a copy of it.
static __device__ __forceinline__ void tensor_copy(
    void* to, const TensorMap* map, int column, int head, int position, int sample, Barrier* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared_address(to)),
        "l"(map), "r"(column), "r"(head), "r"(position), "r"(sample), "r"(shared_address(barrier)) : "memory");
}

// Fetches a map before the first copy by it.
static __device__ __forceinline__ void prefetch_map(const TensorMap* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// Stores an element where products will read it, after a fence.
template <class T>
static __device__ __forceinline__ void store_for_products(T* to, T value) { *to = value; }

// Orders registers that ordinary code wrote before the products that follow.
static __device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// Closes the group of the products started since the last one.
static __device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most `PENDING` groups are on their way.
template <int PENDING>
static __device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// Gives back registers, or takes them, until each thread of the warpgroup has `COUNT`. The launch has given all that
// there are to the BLOCKS blocks that share a processor.
template <int COUNT, int BLOCKS = 1>
static __device__ __forceinline__ void registers_down() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT, int BLOCKS = 1>
static __device__ __forceinline__ void registers_up() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// Barrier `id` (1 to 15) of `threads` threads: waits for all, or only says that this one has come.
static __device__ __forceinline__ void named_barrier_sync(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
static __device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// d[64, 64] (+)= a[64, 16] b[16, 64] in bf16, a warpgroup's: a in registers as for mma_bf16, 16 rows to a warp; b in
// shared memory, its columns as rows of a tile or, TRANSPOSED, along the rows. d as that of mma_bf16, 8 columns a d[n].
template <bool TRANSPOSED>
static __device__ __forceinline__ void wgmma(float (&d)[8][4], const unsigned (&a)[4], Descriptor b, bool accumulate) {
    asm volatile(
        "{\n"
        ".reg .pred accumulate;\n"
        "setp.ne.b32 accumulate, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
        "{%32,%33,%34,%35}, %36, accumulate, 1, 1, %38;\n"
        "}"
        : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]),
          "+f"(d[1][0]), "+f"(d[1][1]), "+f"(d[1][2]), "+f"(d[1][3]),
          "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]),
          "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]),
          "+f"(d[4][0]), "+f"(d[4][1]), "+f"(d[4][2]), "+f"(d[4][3]),
          "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]),
          "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]),
          "+f"(d[7][0]), "+f"(d[7][1]), "+f"(d[7][2]), "+f"(d[7][3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)), "n"(TRANSPOSED));
}

// The same with a in shared memory, its rows as rows of a tile.
template <bool TRANSPOSED>
static __device__ __forceinline__ void wgmma(float (&d)[8][4], Descriptor a, Descriptor b, bool accumulate) {
    asm volatile(
        "{\n"
        ".reg .pred accumulate;\n"
        "setp.ne.b32 accumulate, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, accumulate, 1, 1, 0, %35;\n"
        "}"
        : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]),
          "+f"(d[1][0]), "+f"(d[1][1]), "+f"(d[1][2]), "+f"(d[1][3]),
          "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]),
          "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]),
          "+f"(d[4][0]), "+f"(d[4][1]), "+f"(d[4][2]), "+f"(d[4][3]),
          "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]),
          "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]),
          "+f"(d[7][0]), "+f"(d[7][1]), "+f"(d[7][2]), "+f"(d[7][3])
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(TRANSPOSED));
}

#endif

#if defined(WATTENTION_SIM) || defined(__CUDA_ARCH_FEAT_SM90_ALL)

// The operand at `tile`, rows of 128 bytes, eight to a period, their 16-byte pieces swizzled: piece i of row r lies at
// i ^ r % 8. Sixteen columns further is 2 more, sixteen rows further 128. Compared with what make_gmma_desc of CUTLASS
// (7107b055) gives on the host for such a tile of 64 by 64, Layout_K_SW128_Atom and Layout_MN_SW128_Atom of bf16: the
// same bits, but for a distance between repetitions of which N = 64 has one; the same places of all elements; steps of
// 32 and 2048 bytes.
static __device__ __forceinline__ Descriptor descriptor_of(const void* tile) {
    constexpr unsigned long long PERIOD_TO_PERIOD = SWIZZLE_PERIOD / 16, ONE_PIECE = 1, SWIZZLE_128 = 1;
    return (shared_address(tile) & 0x3ffff) >> 4 | ONE_PIECE << 16 | PERIOD_TO_PERIOD << 32 | SWIZZLE_128 << 62;
}
constexpr Descriptor NEXT_COLUMNS = 2;
constexpr Descriptor NEXT_ROWS = 16 * SWIZZLED_ROW / 16;

#endif
