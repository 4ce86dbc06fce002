// Kernels with one planted fault each in what compute capability 9.0 adds, which the simulator must name.
#include "../common.cuh"
#include "../hopper.cuh"

struct Arguments {
    float* y;
    const float* x;
    int n;
};

// --- Barriers and bulk copies: x through shared memory, 64 numbers to a block.

enum class Copy {
    RIGHT,
    NO_WAIT,
    WRONG_PARITY,
    WAITS_TWICE,
    LEAVES_OUT_A_PHASE,
    NO_INIT_FENCE,
    NO_INIT,
    INIT_TWICE,
    WRITTEN_OVER,
    TOO_MANY_ARRIVALS,
    TOO_FEW_ARRIVALS,
    TOO_FEW_BYTES,
    TOO_MANY_BYTES,
    NO_EXPECTATION,
    HALF_A_PIECE,
    MISALIGNED,
    TWO_TO_ONE_PLACE,
    STAGE_TAKEN_EARLY,
    LEFT_BEHIND,
};

template <Copy FAULT>
DEVICE void copies(const Arguments& a) {
    contract(blockDim.x == 64 && a.n % 64 == 0);
    SHARED_DYN(float, values);
    Barrier* barrier = reinterpret_cast<Barrier*>(values + 128);
    const float* from = a.x + blockIdx.x * 64;
    if (threadIdx.x == 0) {
        if (FAULT != Copy::NO_INIT) mbarrier_init(barrier, FAULT == Copy::TOO_FEW_ARRIVALS ? 2 : 1);
        if (FAULT == Copy::INIT_TWICE) mbarrier_init(barrier, 1);
        if (FAULT != Copy::NO_INIT_FENCE) mbarrier_init_fence();
    }
    __syncthreads();
    if (FAULT == Copy::WRITTEN_OVER && threadIdx.x == 0) values[128] = 0.0f;
    if (threadIdx.x == 0) {
        constexpr unsigned EXPECTED = FAULT == Copy::TOO_FEW_BYTES                                     ? 272
                                      : FAULT == Copy::TOO_MANY_BYTES || FAULT == Copy::HALF_A_PIECE ? 240
                                                                                                      : 256;
        if (FAULT == Copy::NO_EXPECTATION) mbarrier_arrive(barrier);
        else mbarrier_arrive_expect(barrier, EXPECTED);
        if (FAULT == Copy::TOO_MANY_ARRIVALS) mbarrier_arrive(barrier);
        bulk_copy(values + (FAULT == Copy::MISALIGNED), from, FAULT == Copy::HALF_A_PIECE ? 248 : 256, barrier);
        if (FAULT == Copy::TWO_TO_ONE_PLACE) bulk_copy(values + 32, from, 128, barrier);
    }
    if (FAULT == Copy::LEFT_BEHIND) {
        if (threadIdx.x < 64) a.y[blockIdx.x * 64 + threadIdx.x] = from[threadIdx.x];
        return;
    }
    if (FAULT != Copy::NO_WAIT) mbarrier_wait(barrier, FAULT == Copy::WRONG_PARITY);
    if (FAULT == Copy::WAITS_TWICE) mbarrier_wait(barrier, 0);
    const float first = values[threadIdx.x];
    if (FAULT == Copy::STAGE_TAKEN_EARLY || FAULT == Copy::LEAVES_OUT_A_PHASE) {
        // The next one comes before all have read this one, or two come before a thread has waited for the first.
        for (int again = 0; again < (FAULT == Copy::STAGE_TAKEN_EARLY ? 1 : 2); again++) {
            if (threadIdx.x == 0) {
                mbarrier_arrive_expect(barrier, 256);
                bulk_copy(values, a.x + (blockIdx.x + 1) * 64 % a.n, 256, barrier);
            }
            if (threadIdx.x == 0 || FAULT == Copy::STAGE_TAKEN_EARLY) mbarrier_wait(barrier, again == 0);
        }
        __syncthreads();
        if (FAULT == Copy::LEAVES_OUT_A_PHASE && threadIdx.x != 0) mbarrier_wait(barrier, 0);
    }
    a.y[blockIdx.x * 64 + threadIdx.x] = first;
}

// launch: grid [n / 64], block 64, shared 130 floats
KERNEL_ENTRY void planted_copy(const Arguments a) { copies<Copy::RIGHT>(a); }
KERNEL_ENTRY void planted_copy_no_wait(const Arguments a) { copies<Copy::NO_WAIT>(a); }
KERNEL_ENTRY void planted_copy_wrong_parity(const Arguments a) { copies<Copy::WRONG_PARITY>(a); }
KERNEL_ENTRY void planted_copy_waits_twice(const Arguments a) { copies<Copy::WAITS_TWICE>(a); }
KERNEL_ENTRY void planted_copy_leaves_out_a_phase(const Arguments a) { copies<Copy::LEAVES_OUT_A_PHASE>(a); }
KERNEL_ENTRY void planted_copy_no_init_fence(const Arguments a) { copies<Copy::NO_INIT_FENCE>(a); }
KERNEL_ENTRY void planted_copy_no_init(const Arguments a) { copies<Copy::NO_INIT>(a); }
KERNEL_ENTRY void planted_copy_init_twice(const Arguments a) { copies<Copy::INIT_TWICE>(a); }
KERNEL_ENTRY void planted_copy_written_over(const Arguments a) { copies<Copy::WRITTEN_OVER>(a); }
KERNEL_ENTRY void planted_copy_too_many_arrivals(const Arguments a) { copies<Copy::TOO_MANY_ARRIVALS>(a); }
KERNEL_ENTRY void planted_copy_too_few_arrivals(const Arguments a) { copies<Copy::TOO_FEW_ARRIVALS>(a); }
KERNEL_ENTRY void planted_copy_too_few_bytes(const Arguments a) { copies<Copy::TOO_FEW_BYTES>(a); }
KERNEL_ENTRY void planted_copy_too_many_bytes(const Arguments a) { copies<Copy::TOO_MANY_BYTES>(a); }
KERNEL_ENTRY void planted_copy_no_expectation(const Arguments a) { copies<Copy::NO_EXPECTATION>(a); }
KERNEL_ENTRY void planted_copy_half_a_piece(const Arguments a) { copies<Copy::HALF_A_PIECE>(a); }
KERNEL_ENTRY void planted_copy_misaligned(const Arguments a) { copies<Copy::MISALIGNED>(a); }
KERNEL_ENTRY void planted_copy_two_to_one_place(const Arguments a) { copies<Copy::TWO_TO_ONE_PLACE>(a); }
KERNEL_ENTRY void planted_copy_stage_taken_early(const Arguments a) { copies<Copy::STAGE_TAKEN_EARLY>(a); }
KERNEL_ENTRY void planted_copy_left_behind(const Arguments a) { copies<Copy::LEFT_BEHIND>(a); }

// --- Products: y[64 r + n] = x'[64 n + r] + 256 x'[64 r + n] for x' = (x - 1) modulo 251, by two products of the unit
// matrix with one tile, once with its rows as columns and once along them.

enum class Fault {
    RIGHT,
    NO_PROXY_FENCE,
    PROXY_FENCE_BY_ONE,
    NO_FENCE,
    OPERAND_AFTER_FENCE,
    NO_SECOND_FENCE,
    NO_WAIT,
    WAIT_FOR_ANOTHER,
    NEVER_WAITED,
    SUMS_WRITTEN,
    OPERAND_WRITTEN,
    TILE_WRITTEN,
    NO_SWIZZLE,
    WRONG_STRIDE,
    NOT_TRANSPOSED,
    INSIDE_THE_PATTERN,
    BASE_OFFSET,
    LOOSE_BITS,
    OUTSIDE,
    LANES_DIFFER,
    WARPS_DIFFER,
};

template <Fault FAULT>
DEVICE void products(const Arguments& a) {
    contract(blockDim.x == WARPGROUP && a.n == 4096);
    SHARED_DYN(unsigned char, shared);
    const unsigned beyond = shared_address(shared) % SWIZZLE_PERIOD;
    unsigned char* tile = shared + (beyond ? SWIZZLE_PERIOD - beyond : 0);
    for (int e = threadIdx.x; e < 4096; e += WARPGROUP) {
        const int r = e / 64, n = e % 64, piece = FAULT == Fault::NO_SWIZZLE ? n / 8 : n / 8 ^ r % 8;
        __nv_bfloat16* to = reinterpret_cast<__nv_bfloat16*>(tile + r * SWIZZLED_ROW + piece * 16);
        store_for_products(to + n % 8, __float2bfloat16_rn(static_cast<float>(static_cast<int>(a.x[e] - 1.0f) % 251)));
    }
    if (FAULT == Fault::PROXY_FENCE_BY_ONE ? threadIdx.x == 0 : FAULT != Fault::NO_PROXY_FENCE) fence_proxy_async();
    __syncthreads();
    const int lane = threadIdx.x % WARP, row = threadIdx.x / WARP * 16 + lane / 4, column = lane % 4 * 2;
    unsigned unit[4][4];
    float d[8][4], e[8][4];
    const auto make_unit = [&] {
        for (int i = 0; i < 16; i++) {
            const int r = row + 8 * (i % 2), k = i / 4 * 16 + column + 8 * (i % 4 / 2);
            unit[i / 4][i % 4] = pack_bf16(r == k, r == k + 1);
        }
    };
    make_unit();
    Descriptor b = descriptor_of(tile);
    if (FAULT == Fault::WRONG_STRIDE) b ^= 96ull << 32;
    if (FAULT == Fault::INSIDE_THE_PATTERN) b += SWIZZLED_ROW / 16;
    if (FAULT == Fault::BASE_OFFSET) b |= 1ull << 49;
    if (FAULT == Fault::LOOSE_BITS) b |= 1ull << 55;
    if (FAULT == Fault::OUTSIDE) b += SWIZZLE_PERIOD / 16;
    if (FAULT == Fault::LANES_DIFFER) b += threadIdx.x % 2;
    if (FAULT != Fault::NO_FENCE) wgmma_fence();
    const int steps = FAULT == Fault::LANES_DIFFER || (FAULT == Fault::WARPS_DIFFER && threadIdx.x / WARP == 2) ? 1 : 4;
    for (int k = 0; k < steps; k++) wgmma<false>(d, unit[k], b + k * NEXT_COLUMNS, k > 0);
    wgmma_commit();
    if (FAULT == Fault::OPERAND_AFTER_FENCE) {
        // The same products once more; their operands are made anew behind the fence.
        wgmma_wait<0>();
        for (int i = 0; i < 16; i++) unit[i / 4][i % 4] = 0;
        wgmma_fence();
        make_unit();
        for (int k = 0; k < 4; k++) wgmma<false>(d, unit[k], b + k * NEXT_COLUMNS, k > 0);
        wgmma_commit();
    }
    if (FAULT == Fault::NO_SECOND_FENCE) {
        wgmma_wait<0>();
        for (int k = 0; k < 4; k++) wgmma<false>(d, unit[k], b + k * NEXT_COLUMNS, k > 0);
        wgmma_commit();
    }
    for (int k = 0; k < 4; k++) wgmma<FAULT != Fault::NOT_TRANSPOSED>(e, unit[k], b + k * NEXT_ROWS, k > 0);
    wgmma_commit();
    if (FAULT == Fault::SUMS_WRITTEN) d[0][0] = 0.0f;
    if (FAULT == Fault::OPERAND_WRITTEN) unit[3][1] ^= 1;
    if (FAULT == Fault::TILE_WRITTEN && threadIdx.x == 0) {
        store_for_products(tile + 8191, static_cast<unsigned char>(tile[8191] ^ 1));
        fence_proxy_async();
    }
    if (FAULT == Fault::WAIT_FOR_ANOTHER) wgmma_wait<1>();
    else if (FAULT != Fault::NO_WAIT && FAULT != Fault::NEVER_WAITED) wgmma_wait<0>();
    for (int i = 0; i < 32; i++) {
        const int at = (row + i / 2 % 2 * 8) * 64 + i / 4 * 8 + column + i % 2;
        a.y[at] = FAULT == Fault::NEVER_WAITED ? a.x[at] : fmaf(256.0f, e[i / 4][i % 4], d[i / 4][i % 4]);
    }
    if (FAULT == Fault::NO_WAIT || FAULT == Fault::WAIT_FOR_ANOTHER) wgmma_wait<0>();
}

// launch: grid [1], block 128, shared a tile and a period
KERNEL_ENTRY void planted_product(const Arguments a) { products<Fault::RIGHT>(a); }
KERNEL_ENTRY void planted_product_no_proxy_fence(const Arguments a) { products<Fault::NO_PROXY_FENCE>(a); }
KERNEL_ENTRY void planted_product_proxy_fence_by_one(const Arguments a) { products<Fault::PROXY_FENCE_BY_ONE>(a); }
KERNEL_ENTRY void planted_product_no_fence(const Arguments a) { products<Fault::NO_FENCE>(a); }
KERNEL_ENTRY void planted_product_operand_after_fence(const Arguments a) { products<Fault::OPERAND_AFTER_FENCE>(a); }
KERNEL_ENTRY void planted_product_no_second_fence(const Arguments a) { products<Fault::NO_SECOND_FENCE>(a); }
KERNEL_ENTRY void planted_product_no_wait(const Arguments a) { products<Fault::NO_WAIT>(a); }
KERNEL_ENTRY void planted_product_wait_for_another(const Arguments a) { products<Fault::WAIT_FOR_ANOTHER>(a); }
KERNEL_ENTRY void planted_product_never_waited(const Arguments a) { products<Fault::NEVER_WAITED>(a); }
KERNEL_ENTRY void planted_product_sums_written(const Arguments a) { products<Fault::SUMS_WRITTEN>(a); }
KERNEL_ENTRY void planted_product_operand_written(const Arguments a) { products<Fault::OPERAND_WRITTEN>(a); }
KERNEL_ENTRY void planted_product_tile_written(const Arguments a) { products<Fault::TILE_WRITTEN>(a); }
KERNEL_ENTRY void planted_product_no_swizzle(const Arguments a) { products<Fault::NO_SWIZZLE>(a); }
KERNEL_ENTRY void planted_product_wrong_stride(const Arguments a) { products<Fault::WRONG_STRIDE>(a); }
KERNEL_ENTRY void planted_product_not_transposed(const Arguments a) { products<Fault::NOT_TRANSPOSED>(a); }
KERNEL_ENTRY void planted_product_inside_the_pattern(const Arguments a) { products<Fault::INSIDE_THE_PATTERN>(a); }
KERNEL_ENTRY void planted_product_base_offset(const Arguments a) { products<Fault::BASE_OFFSET>(a); }
KERNEL_ENTRY void planted_product_loose_bits(const Arguments a) { products<Fault::LOOSE_BITS>(a); }
KERNEL_ENTRY void planted_product_outside(const Arguments a) { products<Fault::OUTSIDE>(a); }
KERNEL_ENTRY void planted_product_lanes_differ(const Arguments a) { products<Fault::LANES_DIFFER>(a); }
KERNEL_ENTRY void planted_product_warps_differ(const Arguments a) { products<Fault::WARPS_DIFFER>(a); }

// --- Products with both operands in shared memory, in rows of 32, 64 and 128 bytes: y[64 r + n] = x'[64 n + r].

enum class Operand { RIGHT, NOT_FENCED, WRITTEN, ANOTHER_SWIZZLE };

// Byte of element (r, n) of 64 by 64, in panels of rows of 16 << BITS bytes, one behind the other. The 16-byte pieces of a
// row change places as the address is, beyond 128 bytes.
template <int BITS>
DEVICE int swizzled_place(int r, int n) {
    constexpr int ROW = 16 << BITS, ELEMENTS = ROW / 2;
    const int piece = n % ELEMENTS / 8 ^ r * ROW / 128 % (1 << BITS);
    return n / ELEMENTS * 64 * ROW + r * ROW + piece * 16 + n % 8 * 2;
}

template <int BITS, Operand FAULT>
DEVICE void operands(const Arguments& a) {
    contract(blockDim.x == WARPGROUP && a.n == 4096);
    SHARED_DYN(unsigned char, shared);
    constexpr unsigned ROW = 16 << BITS;
    const unsigned beyond = shared_address(shared) % SWIZZLE_PERIOD;
    unsigned char* tile = shared + (beyond ? SWIZZLE_PERIOD - beyond : 0);
    unsigned char* unit = tile + 64 * SWIZZLED_ROW;
    const auto put_at = [](unsigned char* matrix, int e, float value) {
        __nv_bfloat16* to = reinterpret_cast<__nv_bfloat16*>(matrix + swizzled_place<BITS>(e / 64, e % 64));
        store_for_products(to, __float2bfloat16_rn(value));
    };
    for (int e = threadIdx.x; e < 4096; e += WARPGROUP)
        put_at(tile, e, static_cast<float>(static_cast<int>(a.x[e] - 1.0f) % 251));
    fence_proxy_async();
    for (int e = threadIdx.x; e < 4096; e += WARPGROUP) put_at(unit, e, e / 64 == e % 64);
    if (FAULT != Operand::NOT_FENCED) fence_proxy_async();
    __syncthreads();
    const unsigned long long kind = FAULT == Operand::ANOTHER_SWIZZLE ? 3 : 4 - BITS;
    const auto operand = [&](unsigned char* matrix, unsigned k) {
        const unsigned at = k * 32 / ROW * 64 * ROW + k * 32 % ROW;
        return (shared_address(matrix + at) & 0x3ffff) >> 4 | 1ull << 16 | 8ull * ROW / 16 << 32 | kind << 62;
    };
    float d[8][4];
    wgmma_fence();
    for (int k = 0; k < 4; k++) wgmma<false>(d, operand(unit, k), operand(tile, k), k > 0);
    wgmma_commit();
    if (FAULT == Operand::WRITTEN && threadIdx.x == 0) {
        store_for_products(unit, static_cast<unsigned char>(unit[0] ^ 1));
        fence_proxy_async();
    }
    wgmma_wait<0>();
    const int row = threadIdx.x / WARP * 16 + threadIdx.x % WARP / 4, column = threadIdx.x % 4 * 2;
    for (int i = 0; i < 32; i++) a.y[(row + i / 2 % 2 * 8) * 64 + i / 4 * 8 + column + i % 2] = d[i / 4][i % 4];
}

// launch: grid [1], block 128, shared two tiles and a period
KERNEL_ENTRY void planted_operands_128(const Arguments a) { operands<3, Operand::RIGHT>(a); }
KERNEL_ENTRY void planted_operands_64(const Arguments a) { operands<2, Operand::RIGHT>(a); }
KERNEL_ENTRY void planted_operands_32(const Arguments a) { operands<1, Operand::RIGHT>(a); }
KERNEL_ENTRY void planted_operands_not_fenced(const Arguments a) { operands<3, Operand::NOT_FENCED>(a); }
KERNEL_ENTRY void planted_operands_written(const Arguments a) { operands<3, Operand::WRITTEN>(a); }
KERNEL_ENTRY void planted_operands_another_swizzle(const Arguments a) { operands<2, Operand::ANOTHER_SWIZZLE>(a); }

// --- Named barriers: two warps exchange.

enum class Meeting { RIGHT, ANOTHER_COUNT, ANOTHER_NUMBER, NO_BARRIER, NO_WARPS, LEFT_BEHIND };

template <Meeting FAULT>
DEVICE void meetings(const Arguments& a) {
    contract(blockDim.x == 64 && a.n % 64 == 0);
    SHARED_DYN(float, values);
    const int i = blockIdx.x * 64 + threadIdx.x;
    const bool second = threadIdx.x >= WARP;
    values[threadIdx.x] = a.x[i];
    if (FAULT == Meeting::LEFT_BEHIND) {
        if (second) named_barrier_arrive(3, 64);
        a.y[i] = values[threadIdx.x];
        return;
    }
    const int number = FAULT == Meeting::NO_BARRIER ? 16 : FAULT == Meeting::ANOTHER_NUMBER && second ? 4 : 3;
    named_barrier_sync(number, FAULT == Meeting::NO_WARPS ? 63 : FAULT == Meeting::ANOTHER_COUNT && second ? 96 : 64);
    a.y[i] = values[63 - threadIdx.x];
}

// launch: grid [n / 64], block 64, shared 64 floats
KERNEL_ENTRY void planted_meeting(const Arguments a) { meetings<Meeting::RIGHT>(a); }
KERNEL_ENTRY void planted_meeting_another_count(const Arguments a) { meetings<Meeting::ANOTHER_COUNT>(a); }
KERNEL_ENTRY void planted_meeting_another_number(const Arguments a) { meetings<Meeting::ANOTHER_NUMBER>(a); }
KERNEL_ENTRY void planted_meeting_no_barrier(const Arguments a) { meetings<Meeting::NO_BARRIER>(a); }
KERNEL_ENTRY void planted_meeting_no_warps(const Arguments a) { meetings<Meeting::NO_WARPS>(a); }
KERNEL_ENTRY void planted_meeting_left_behind(const Arguments a) { meetings<Meeting::LEFT_BEHIND>(a); }

// --- Registers: what the second of two warpgroups gives back, the first one takes.

enum class Hand { RIGHT, TOO_MANY, UP_IS_DOWN, ONE_WARP };

template <Hand FAULT>
DEVICE void hands(const Arguments& a) {
    contract(blockDim.x == 2 * WARPGROUP && a.n >= 2 * WARPGROUP);
    if (threadIdx.x >= WARPGROUP) {
        if (FAULT != Hand::ONE_WARP || threadIdx.x >= WARPGROUP + WARP) registers_down<232>();
    } else if (FAULT == Hand::TOO_MANY) {
        registers_up<256>();
        registers_down<240>();
        registers_up<256>();
    } else if (FAULT == Hand::UP_IS_DOWN) {
        registers_up<240>();
    } else {
        registers_up<256>();
    }
    if (FAULT == Hand::TOO_MANY && threadIdx.x >= WARPGROUP) registers_up<256>();
    a.y[threadIdx.x] = a.x[threadIdx.x];
}

// launch: grid [1], block 256, shared 0
KERNEL_ENTRY void planted_hand(const Arguments a) { hands<Hand::RIGHT>(a); }
KERNEL_ENTRY void planted_hand_too_many(const Arguments a) { hands<Hand::TOO_MANY>(a); }
KERNEL_ENTRY void planted_hand_up_is_down(const Arguments a) { hands<Hand::UP_IS_DOWN>(a); }
KERNEL_ENTRY void planted_hand_one_warp(const Arguments a) { hands<Hand::ONE_WARP>(a); }
