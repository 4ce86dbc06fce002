// Kernels with one planted fault each in copies by maps of tensors, which the simulator must name.
#include "../common.cuh"
#include "../hopper.cuh"

struct Arguments {
    float* y;
    const float* x;
    int n;
};

// x is [2, 64, 2, 64] in elements of 2 bytes, of which the map has the first 40 positions and 48 columns. A block for each
// sample and head takes the box from position 8 on: y [2, 2, 64, 32] in floats, zeros beyond position 40 and column 24.

enum class Box {
    RIGHT,
    NO_WAIT,
    LEFT_BEHIND,
    NO_BARRIER,
    NO_INIT_FENCE,
    TOO_FEW_BYTES,
    TOO_MANY_BYTES,
    BY_TWO_THREADS,
    WRITTEN_BEFORE,
    WRITTEN_MEANWHILE,
    MISALIGNED,
    INSIDE_THE_PATTERN,
    OUTSIDE,
    LARGER_THAN_SHARED,
    COORDINATES_SWAPPED,
    BEFORE_THE_START,
    BEYOND_THE_TENSOR,
    NO_MAP,
    MAP_MISALIGNED,
    NO_MAP_TO_FETCH,
    THREE_DIMENSIONS,
    TENSOR_MISALIGNED,
    STRIDE,
    EMPTY,
    WIDE_BOX,
    WIDE_ROW,
};

// The map, in words of SimMap, with one of them changed.
template <Box FAULT>
DEVICE TensorMap faulty(const TensorMap& map) {
    TensorMap changed = map;
    const auto set = [&](int word, unsigned long long value) { changed.opaque[word] = value; };
    if (FAULT == Box::NO_MAP || FAULT == Box::NO_MAP_TO_FETCH) set(0, 0);
    if (FAULT == Box::THREE_DIMENSIONS) set(1, 3);
    if (FAULT == Box::TENSOR_MISALIGNED) set(2, map.opaque[2] + 4);
    if (FAULT == Box::BEYOND_THE_TENSOR) set(6, 3);
    if (FAULT == Box::STRIDE) set(8, 264);
    if (FAULT == Box::EMPTY) set(4, 0);
    if (FAULT == Box::WIDE_BOX) set(12, 257);
    if (FAULT == Box::WIDE_ROW) set(10, 128);
    if (FAULT == Box::LARGER_THAN_SHARED) set(12, 256);
    return changed;
}

template <Box FAULT>
DEVICE void boxes(const Arguments& a, const Maps& maps) {
    contract(blockDim.x == 64 && gridDim.x == 4 && a.n == 8192);
    SHARED_DYN(unsigned char, shared);
    constexpr unsigned BYTES = 64 * SWIZZLED_ROW;
    constexpr unsigned STEP = FAULT == Box::MISALIGNED           ? 64
                              : FAULT == Box::INSIDE_THE_PATTERN ? SWIZZLED_ROW
                              : FAULT == Box::OUTSIDE            ? BYTES
                                                                 : 0;
    constexpr unsigned EXPECTED = FAULT == Box::TOO_FEW_BYTES    ? BYTES + 16
                                  : FAULT == Box::TOO_MANY_BYTES ? BYTES - 16
                                                                 : BYTES;
    const unsigned beyond = shared_address(shared) % SWIZZLE_PERIOD;
    unsigned char* first = shared + (beyond ? SWIZZLE_PERIOD - beyond : 0);
    Barrier* barrier = reinterpret_cast<Barrier*>(first);
    unsigned char* tile = first + SWIZZLE_PERIOD + STEP;
    alignas(128) unsigned char misaligned[2 * sizeof(TensorMap)];
    const TensorMap changed = faulty<FAULT>(maps.map[0]);
    memcpy(misaligned + 16, &changed, sizeof changed);
    const void* map = FAULT == Box::MAP_MISALIGNED ? static_cast<const void*>(misaligned + 16) : &changed;
    if (threadIdx.x == 0) {
        if (FAULT != Box::NO_BARRIER) mbarrier_init(barrier, 1);
        if (FAULT != Box::NO_INIT_FENCE) mbarrier_init_fence();
        if (FAULT == Box::WRITTEN_BEFORE) store_for_products(tile + 100, static_cast<unsigned char>(1));
        if (FAULT == Box::NO_MAP_TO_FETCH) prefetch_map(static_cast<const TensorMap*>(map));
        if (FAULT != Box::NO_BARRIER) mbarrier_arrive_expect(barrier, EXPECTED);
    }
    __syncthreads();
    if (threadIdx.x == 0 || FAULT == Box::BY_TWO_THREADS) {
        int head = static_cast<int>(blockIdx.x) % 2, position = FAULT == Box::BEFORE_THE_START ? -8 : 8;
        if (FAULT == Box::COORDINATES_SWAPPED) std::swap(head, position);
        const int sample = FAULT == Box::BEYOND_THE_TENSOR ? 2 : static_cast<int>(blockIdx.x) / 2;
        tensor_copy(tile, static_cast<const TensorMap*>(map), 0, head, position, sample, barrier);
        if (FAULT == Box::WRITTEN_MEANWHILE) store_for_products(tile + 100, static_cast<unsigned char>(1));
    }
    if (FAULT == Box::LEFT_BEHIND) {
        for (int e = threadIdx.x; e < 2048; e += 64) a.y[blockIdx.x * 2048 + e] = 0.0f;
        return;
    }
    if (FAULT != Box::NO_WAIT) mbarrier_wait(barrier, 0);
    for (int e = threadIdx.x; e < 2048; e += 64) {
        const int row = e / 32, column = e % 32, piece = column / 4 ^ row % 8;
        const unsigned char* at = tile + row * SWIZZLED_ROW + piece * 16 + column % 4 * 4;
        a.y[blockIdx.x * 2048 + e] = *reinterpret_cast<const float*>(at);
    }
}

// launch: grid [4], block 64, shared a tile and three periods
KERNEL_ENTRY void planted_box(const Arguments a, const __grid_constant__ Maps maps) { boxes<Box::RIGHT>(a, maps); }
KERNEL_ENTRY void planted_box_no_wait(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::NO_WAIT>(a, maps);
}
KERNEL_ENTRY void planted_box_left_behind(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::LEFT_BEHIND>(a, maps);
}
KERNEL_ENTRY void planted_box_no_barrier(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::NO_BARRIER>(a, maps);
}
KERNEL_ENTRY void planted_box_no_init_fence(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::NO_INIT_FENCE>(a, maps);
}
KERNEL_ENTRY void planted_box_too_few_bytes(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::TOO_FEW_BYTES>(a, maps);
}
KERNEL_ENTRY void planted_box_too_many_bytes(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::TOO_MANY_BYTES>(a, maps);
}
KERNEL_ENTRY void planted_box_by_two_threads(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::BY_TWO_THREADS>(a, maps);
}
KERNEL_ENTRY void planted_box_written_before(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::WRITTEN_BEFORE>(a, maps);
}
KERNEL_ENTRY void planted_box_written_meanwhile(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::WRITTEN_MEANWHILE>(a, maps);
}
KERNEL_ENTRY void planted_box_misaligned(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::MISALIGNED>(a, maps);
}
KERNEL_ENTRY void planted_box_inside_the_pattern(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::INSIDE_THE_PATTERN>(a, maps);
}
KERNEL_ENTRY void planted_box_outside(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::OUTSIDE>(a, maps);
}
KERNEL_ENTRY void planted_box_larger_than_shared(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::LARGER_THAN_SHARED>(a, maps);
}
KERNEL_ENTRY void planted_box_coordinates_swapped(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::COORDINATES_SWAPPED>(a, maps);
}
KERNEL_ENTRY void planted_box_before_the_start(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::BEFORE_THE_START>(a, maps);
}
KERNEL_ENTRY void planted_box_beyond_the_tensor(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::BEYOND_THE_TENSOR>(a, maps);
}
KERNEL_ENTRY void planted_box_no_map(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::NO_MAP>(a, maps);
}
KERNEL_ENTRY void planted_box_map_misaligned(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::MAP_MISALIGNED>(a, maps);
}
KERNEL_ENTRY void planted_box_no_map_to_fetch(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::NO_MAP_TO_FETCH>(a, maps);
}
KERNEL_ENTRY void planted_box_three_dimensions(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::THREE_DIMENSIONS>(a, maps);
}
KERNEL_ENTRY void planted_box_tensor_misaligned(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::TENSOR_MISALIGNED>(a, maps);
}
KERNEL_ENTRY void planted_box_stride(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::STRIDE>(a, maps);
}
KERNEL_ENTRY void planted_box_empty(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::EMPTY>(a, maps);
}
KERNEL_ENTRY void planted_box_wide_box(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::WIDE_BOX>(a, maps);
}
KERNEL_ENTRY void planted_box_wide_row(const Arguments a, const __grid_constant__ Maps maps) {
    boxes<Box::WIDE_ROW>(a, maps);
}
