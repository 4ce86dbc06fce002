// Tiles of attention: rows of one head in shared memory, and the two products over them.
//
// A block is 4 warps; a warp owns M groups of 16 rows of its tile. Scores and sums lie in registers as the C
// fragments of mma.m16n8: lane 4 g + c holds, of each 16 by 8 piece, rows g and g + 8 of columns 2 c and 2 c + 1.
// Four arithmetics share that layout, and with it all the code around the products: bf16, tf32 and three times tf32
// on tensor cores, and float by FMA. A head size below D is padded with zeros.
#pragma once

#include "attention_columns.cuh"
#include "mma.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
// Elements of 16 bytes.
constexpr int PER_LOAD = 16 / sizeof(real);
// Elements from one row of a tile to the next: 16 bytes of padding spread the rows over the banks of shared memory.
template <int D>
constexpr int PITCH = D + PER_LOAD;

DEVICE int lane_row() { return threadIdx.x % WARP / 4; }
DEVICE int lane_column() { return threadIdx.x % 4 * 2; }

// One head of one sample of x [B, rows, H, D].
struct Head {
    const real* x;
    // Elements from one position to the next.
    int stride;
    int d;
    // Positions that may be read.
    int end;
    bool aligned;
};

DEVICE Head head_of(const real* x, int b, int h, int rows, int H, int D, int end) {
    Head head;
    head.stride = H * D;
    head.x = x + static_cast<long long>(b) * rows * head.stride + h * D;
    head.d = D;
    head.end = end;
    head.aligned = aligned16(x) && D % PER_LOAD == 0;
    return head;
}

// Where a position's elements are.
DEVICE const real* at_position(const Head& head, long long position) { return head.x + position * head.stride; }

// Position of row r of a tile, -1 where it has none.
DEVICE int position_of(const Head& head, int first, const int* gathered, int count, int r) {
    if (r >= count) return -1;
    const int position = gathered ? gathered[first + r] : first + r;
    return position < head.end ? position : -1;
}

// Starts copying R rows of a head into a tile, zeros where there is no row: at most `count` rows from position
// `first` on, or those that the list `gathered` names from its entry `first` on.
template <int D, int R>
DEVICE void load_tile(real* tile, const Head& head, int first, const int* gathered, int count) {
    // A thread's 16 bytes lie in the same columns of all its rows.
    constexpr int PIECES = D / PER_LOAD, STEP = THREADS / PIECES;
    static_assert(R % STEP == 0, "every thread copies as often");
    const int row = threadIdx.x / PIECES, column = threadIdx.x % PIECES * PER_LOAD;
    real* to = tile + row * PITCH<D> + column;
    if (head.aligned && !gathered) {
        const real* from = at_position(head, first + row) + column;
        const long long step = static_cast<long long>(STEP) * head.stride;
        const int valid_rows = (column < head.d ? min(count, head.end - first) : 0) - row;
#pragma unroll
        for (int r = 0; r < R; r += STEP, from += step) cp_async_16(to + r * PITCH<D>, from, r < valid_rows);
    } else if (head.aligned) {
#pragma unroll 1
        for (int r = 0; r < R; r += STEP) {
            const int position = position_of(head, first, gathered, count, row + r);
            const bool valid = position >= 0 && column < head.d;
            cp_async_16(to + r * PITCH<D>, at_position(head, max(position, 0)) + column, valid);
        }
    } else {
#pragma unroll 1
        for (int at = threadIdx.x; at < R * D; at += THREADS) {
            const int r = at / D, d = at % D;
            const int position = position_of(head, first, gathered, count, r);
            const bool valid = position >= 0 && d < head.d;
            put(tile + r * PITCH<D> + d, valid ? to_float(at_position(head, position)[d]) : 0.0f);
        }
    }
}

// Starts copying N rows of a head into a tile, row r where bit r of `seen` says so and zeros elsewhere: rows from
// position `first` on, or those that the list `gathered` names from its entry `first` on. What is not seen may hold
// anything, also NaN, which a product with zero would keep.
template <int D, int N>
DEVICE void load_seen(real* tile, const Head& head, int first, const int* gathered, Bits<N> seen) {
    constexpr int PIECES = D / PER_LOAD, STEP = THREADS / PIECES;
    static_assert(N % STEP == 0, "every thread copies as often");
    const int row = threadIdx.x / PIECES, column = threadIdx.x % PIECES * PER_LOAD;
    real* to = tile + row * PITCH<D> + column;
    const Bits<N> own = column < head.d ? seen >> row : 0;
    if (head.aligned && !gathered) {
        const real* from = at_position(head, first + row) + column;
        const long long step = static_cast<long long>(STEP) * head.stride;
#pragma unroll
        for (int r = 0; r < N; r += STEP, from += step) {
            // The bit where it lies in its word: moved down, it costs two more instructions.
            const unsigned word = static_cast<unsigned>(own >> r / 32 * 32);
            cp_async_16(to + r * PITCH<D>, from, word & 1u << r % 32);
        }
    } else if (head.aligned) {
#pragma unroll 1
        for (int r = 0; r < N; r += STEP) {
            const bool valid = own >> r & 1;
            const int position = valid ? gathered[first + row + r] : 0;
            cp_async_16(to + r * PITCH<D>, at_position(head, position) + column, valid);
        }
    } else {
#pragma unroll 1
        for (int at = threadIdx.x; at < N * D; at += THREADS) {
            const int r = at / D, d = at % D;
            const bool valid = (seen >> r & 1) && d < head.d;
            const int position = valid && gathered ? gathered[first + r] : first + r;
            put(tile + r * PITCH<D> + d, valid ? to_float(at_position(head, position)[d]) : 0.0f);
        }
    }
}

// Two numbers of row r, of an even row and of the one after it together in the padding of the even one: a lane has two
// such columns of each piece of the scores, and reads all four numbers at once.
template <int D>
DEVICE float* row_numbers(real* tile, int r) {
    return reinterpret_cast<float*>(tile + r / 2 * 2 * PITCH<D> + D) + r % 2 * 2;
}

// Starts copying the numbers [.., 2] of rows first .. first + N to where row_numbers says, 0 where a row is not seen.
template <int D, int N>
DEVICE void load_row_numbers(real* tile, const float* numbers, int first, Bits<N> seen) {
    static_assert(N <= THREADS, "a thread for each");
    const int r = threadIdx.x;
    if (r >= N) return;
    cp_async_8(row_numbers<D>(tile, r), numbers + 2ll * (first + r), seen >> r & 1);
}

#ifdef WATTENTION_BF16

DEVICE float exp2_of(float x) { return exp2_approximate(x); }

// s[16 M, N] += a[16 M, D] b[N, D]^T, a and b tiles.
template <int D, int M, int N>
DEVICE void multiply_transposed(float (&s)[M][N / 8][4], const real* a, const real* b) {
    const int lane = threadIdx.x % WARP;
    const real* a_lane = a + lane % 16 * PITCH<D> + lane / 16 * 8;
    const real* b_lane = b + (lane % 8 + lane / 16 * 8) * PITCH<D> + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        unsigned x[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) ldmatrix_x4(x[m], a_lane + m * 16 * PITCH<D> + k);
#pragma unroll
        for (int n = 0; n < N / 8; n += 2) {
            unsigned y[4];
            ldmatrix_x4(y, b_lane + n * 8 * PITCH<D> + k);
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_bf16(s[m][n], x[m], {y[0], y[1]});
                mma_bf16(s[m][n + 1], x[m], {y[2], y[3]});
            }
        }
    }
}

// o[16 M, D] += p[16 M, K] b[K, D], b a tile: two neighbouring pieces of p are one operand as they lie.
template <int D, int M, int K>
DEVICE void multiply(float (&o)[M][D / 8][4], const float (&p)[M][K / 8][4], const real* b) {
    const int lane = threadIdx.x % WARP;
    const real* b_lane = b + lane % 16 * PITCH<D> + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < K / 8; k += 2) {
        unsigned x[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float* pair = &p[m][k + i / 2][i % 2 * 2];
                x[m][i] = pack_bf16(pair[0], pair[1]);
            }
        }
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            unsigned y[4];
            ldmatrix_x4_transposed(y, b_lane + k * 8 * PITCH<D> + n * 8);
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_bf16(o[m][n], x[m], {y[0], y[1]});
                mma_bf16(o[m][n + 1], x[m], {y[2], y[3]});
            }
        }
    }
}

#elif defined(WATTENTION_TF32) || defined(WATTENTION_TF32X3)

#ifdef WATTENTION_TF32X3
constexpr bool SPLIT = true;
DEVICE float exp2_of(float x) { return exp2f(x); }
#else
constexpr bool SPLIT = false;
DEVICE float exp2_of(float x) { return exp2_approximate(x); }
#endif

// A float as tf32 and, where SPLIT, what that leaves of it: together 22 of its 24 bits.
struct Parts {
    unsigned high, low;
};

DEVICE Parts parts_of(float x) {
    const unsigned high = to_tf32(x);
    return {high, SPLIT ? to_tf32(x - __uint_as_float(high)) : 0u};
}

// A sum of products. Tensor cores truncate where they add: of the split product, the small terms have a sum of their
// own, whose last bits would be lost in the large one. Low times low is below the last bit.
struct Sum {
    float large[4], small[4];
};

DEVICE void mma_parts(Sum& d, const Parts (&a)[4], const Parts (&b)[2]) {
    const unsigned high[4] = {a[0].high, a[1].high, a[2].high, a[3].high};
    if (SPLIT) {
        const unsigned low[4] = {a[0].low, a[1].low, a[2].low, a[3].low};
        mma_tf32(d.small, low, {b[0].high, b[1].high});
        mma_tf32(d.small, high, {b[0].low, b[1].low});
    }
    mma_tf32(d.large, high, {b[0].high, b[1].high});
}

// Zero, or d itself where nothing is split and the sum may go on there.
DEVICE Sum begin(const float (&d)[4]) {
    Sum sum = {{}, {}};
#pragma unroll
    for (int i = 0; i < 4; i++) sum.large[i] = SPLIT ? 0.0f : d[i];
    return sum;
}

// What was begun, back in d: added by a rounded addition where it is split, so that no long sum is truncated.
DEVICE void end(float (&d)[4], const Sum& sum) {
#pragma unroll
    for (int i = 0; i < 4; i++) d[i] = SPLIT ? d[i] + (sum.large[i] + sum.small[i]) : sum.large[i];
}

// s[16 M, N] += a[16 M, D] b[N, D]^T, a and b tiles. ldmatrix moves 4 floats as a row of 8 halves.
template <int D, int M, int N>
DEVICE void multiply_transposed(float (&s)[M][N / 8][4], const real* a, const real* b) {
    const int lane = threadIdx.x % WARP;
    const real* a_lane = a + lane % 16 * PITCH<D> + lane / 16 * 4;
    const real* b_lane = b + (lane % 8 + lane / 16 * 8) * PITCH<D> + lane / 8 % 2 * 4;
    Sum sum[M][N / 8];
#pragma unroll
    for (int i = 0; i < M * N / 8; i++) sum[i / (N / 8)][i % (N / 8)] = begin(s[i / (N / 8)][i % (N / 8)]);
#pragma unroll
    for (int k = 0; k < D; k += 8) {
        Parts x[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
            unsigned loaded[4];
            ldmatrix_x4(loaded, a_lane + m * 16 * PITCH<D> + k);
#pragma unroll
            for (int i = 0; i < 4; i++) x[m][i] = parts_of(__uint_as_float(loaded[i]));
        }
#pragma unroll
        for (int n = 0; n < N / 8; n += 2) {
            unsigned loaded[4];
            ldmatrix_x4(loaded, b_lane + n * 8 * PITCH<D> + k);
            Parts y[4];
#pragma unroll
            for (int i = 0; i < 4; i++) y[i] = parts_of(__uint_as_float(loaded[i]));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_parts(sum[m][n], x[m], {y[0], y[1]});
                mma_parts(sum[m][n + 1], x[m], {y[2], y[3]});
            }
        }
    }
#pragma unroll
    for (int i = 0; i < M * N / 8; i++) end(s[i / (N / 8)][i % (N / 8)], sum[i / (N / 8)][i % (N / 8)]);
}

// o[16 M, D] += p[16 M, K] b[K, D], b a tile. The sum over k may go in any order: places c and c + 4 of the operands
// take columns 2 c and 2 c + 1 of a piece of p, which the lane already has.
template <int D, int M, int K>
DEVICE void multiply(float (&o)[M][D / 8][4], const float (&p)[M][K / 8][4], const real* b) {
    const real* b_lane = b + lane_column() * PITCH<D> + lane_row();
    // As many columns of o at a time as their sums, beside the parts of p, leave registers for.
    constexpr int TURN = SPLIT ? 1 : D / 8;
#pragma unroll
    for (int first = 0; first < D / 8; first += TURN) {
        Sum sum[M][TURN];
#pragma unroll
        for (int i = 0; i < M * TURN; i++) sum[i / TURN][i % TURN] = begin(o[i / TURN][first + i % TURN]);
#pragma unroll
        for (int k = 0; k < K / 8; k++) {
            Parts x[M][4];
#pragma unroll
            for (int m = 0; m < M; m++) {
                x[m][0] = parts_of(p[m][k][0]), x[m][1] = parts_of(p[m][k][2]);
                x[m][2] = parts_of(p[m][k][1]), x[m][3] = parts_of(p[m][k][3]);
            }
#pragma unroll
            for (int n = 0; n < TURN; n++) {
                const real* at = b_lane + k * 8 * PITCH<D> + (first + n) * 8;
                const Parts y[2] = {parts_of(at[0]), parts_of(at[PITCH<D>])};
#pragma unroll
                for (int m = 0; m < M; m++) mma_parts(sum[m][n], x[m], y);
            }
        }
#pragma unroll
        for (int i = 0; i < M * TURN; i++) end(o[i / TURN][first + i % TURN], sum[i / TURN][i % TURN]);
    }
}

#else

DEVICE float exp2_of(float x) { return exp2f(x); }

DEVICE float4 float4_at(const float* p) { return *reinterpret_cast<const float4*>(p); }

DEVICE float dot(float sum, float4 a, float4 b) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// s[16 M, N] += a[16 M, D] b[N, D]^T, a and b tiles.
template <int D, int M, int N>
DEVICE void multiply_transposed(float (&s)[M][N / 8][4], const real* a, const real* b) {
    const real* a_lane = a + lane_row() * PITCH<D>;
    const real* b_lane = b + lane_column() * PITCH<D>;
#pragma unroll 2
    for (int k = 0; k < D; k += 4) {
        float4 x[M][2];
#pragma unroll
        for (int i = 0; i < 2 * M; i++) x[i / 2][i % 2] = float4_at(a_lane + i * 8 * PITCH<D> + k);
#pragma unroll
        for (int n = 0; n < N / 8; n++) {
            const real* at = b_lane + n * 8 * PITCH<D> + k;
            const float4 y[2] = {float4_at(at), float4_at(at + PITCH<D>)};
#pragma unroll
            for (int m = 0; m < M; m++) {
#pragma unroll
                for (int i = 0; i < 4; i++) s[m][n][i] = dot(s[m][n][i], x[m][i / 2], y[i % 2]);
            }
        }
    }
}

// o[16 M, D] += p[16 M, K] b[K, D], b a tile; a lane gets the column of p from the one that holds it.
template <int D, int M, int K>
DEVICE void multiply(float (&o)[M][D / 8][4], const float (&p)[M][K / 8][4], const real* b) {
    const int first_of_row = threadIdx.x % WARP / 4 * 4;
    const real* b_lane = b + lane_column();
#pragma unroll
    for (int k = 0; k < K; k++) {
        float x[M][2];
#pragma unroll
        for (int i = 0; i < 2 * M; i++) {
            x[i / 2][i % 2] = __shfl_sync(ALL_LANES, p[i / 2][k / 8][i % 2 * 2 + k % 2], first_of_row + k % 8 / 2);
        }
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            const float2 y = *reinterpret_cast<const float2*>(b_lane + k * PITCH<D> + n * 8);
#pragma unroll
            for (int m = 0; m < M; m++) {
#pragma unroll
                for (int i = 0; i < 4; i++) o[m][n][i] = fmaf(x[m][i / 2], i % 2 ? y.y : y.x, o[m][n][i]);
            }
        }
    }
}

#endif
