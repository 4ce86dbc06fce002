// Twins of kernels/mma.cuh: the fragment layouts of the PTX manual, lane by lane.
#pragma once

struct SimMma {
    float* d;
    const unsigned *a, *b;
};

SIM_TWIN static inline float sim_bf16_at(unsigned pair, int i) {
    return __bfloat162float({static_cast<uint16_t>(i == 0 ? pair & 0xffff : pair >> 16)});
}

// The float next to x towards zero: tensor cores do not round what they add up, they cut it off.
SIM_TWIN static inline float sim_truncated(double x) {
    float y = static_cast<float>(x);
    if (std::fabs(static_cast<double>(y)) > std::fabs(x)) y = __uint_as_float(__float_as_uint(y) - 1);
    return y;
}

// d[16, 8] += a[16, K] b[K, 8] from the matrices that the lanes' registers spell: exact products, one truncation.
template <int K>
SIM_TWIN static inline void sim_multiply(SimWait** lanes, const float (&a)[16][K], const float (&b)[K][8]) {
    for (int lane = 0; lane < 32; lane++) {
        float* d = static_cast<SimMma*>(lanes[lane]->data)->d;
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            double sum = d[i];
            for (int k = 0; k < K; k++) sum += static_cast<double>(a[row][k]) * b[k][column];
            d[i] = sim_truncated(sum);
        }
    }
}

SIM_TWIN static inline void sim_mma_bf16(SimWait** lanes, unsigned) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const SimMma* mine = static_cast<const SimMma*>(lanes[lane]->data);
        const int g = lane / 4, c = lane % 4;
        for (int r = 0; r < 4; r++)
            for (int i = 0; i < 2; i++) a[g + r % 2 * 8][2 * c + r / 2 * 8 + i] = sim_bf16_at(mine->a[r], i);
        for (int r = 0; r < 2; r++)
            for (int i = 0; i < 2; i++) b[2 * c + r * 8 + i][g] = sim_bf16_at(mine->b[r], i);
    }
    sim_multiply<16>(lanes, a, b);
}

// tf32 ignores the low 13 bits of what it is given.
SIM_TWIN static inline float sim_tf32_at(unsigned bits) { return __uint_as_float(bits & 0xffffe000u); }

SIM_TWIN static inline void sim_mma_tf32(SimWait** lanes, unsigned) {
    float a[16][8], b[8][8];
    for (int lane = 0; lane < 32; lane++) {
        const SimMma* mine = static_cast<const SimMma*>(lanes[lane]->data);
        const int g = lane / 4, c = lane % 4;
        for (int r = 0; r < 4; r++) a[g + r % 2 * 8][c + r / 2 * 4] = sim_tf32_at(mine->a[r]);
        for (int r = 0; r < 2; r++) b[c + r * 4][g] = sim_tf32_at(mine->b[r]);
    }
    sim_multiply<8>(lanes, a, b);
}

static inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], SIM_SITE) {
    SimMma fragments = {d, a, b};
    SimWait wait = {"mma_bf16", 0, 0xffffffffu, sim_mma_bf16, file, line, &fragments};
    sim_hooks.wait(sim_self, &wait);
}

static inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], SIM_SITE) {
    SimMma fragments = {d, a, b};
    SimWait wait = {"mma_tf32", 0, 0xffffffffu, sim_mma_tf32, file, line, &fragments};
    sim_hooks.wait(sim_self, &wait);
}

// Ties away from zero, as cvt.rna.
static inline unsigned to_tf32(float x) {
    const unsigned bits = __float_as_uint(x);
    return std::isfinite(x) ? (bits + 0x1000u) & 0xffffe000u : bits & 0xffffe000u;
}

struct SimMatrix {
    const uint16_t* row;
    unsigned* r;
};

template <bool TRANSPOSED>
static inline void sim_ldmatrix(SimWait** lanes, unsigned) {
    for (int lane = 0; lane < 32; lane++) {
        unsigned* r = static_cast<SimMatrix*>(lanes[lane]->data)->r;
        for (int m = 0; m < 4; m++) {
            unsigned pair = 0;
            for (int i = 0; i < 2; i++) {
                const int row = TRANSPOSED ? lane % 4 * 2 + i : lane / 4;
                const int column = TRANSPOSED ? lane / 4 : lane % 4 * 2 + i;
                const SimMatrix* from = static_cast<const SimMatrix*>(lanes[8 * m + row]->data);
                pair |= static_cast<unsigned>(from->row[column]) << 16 * i;
            }
            r[m] = pair;
        }
    }
}

template <bool TRANSPOSED>
static inline void sim_load_matrices(unsigned (&r)[4], const void* row, const char* file, unsigned line) {
    sim_in_shared(row, 16, file, line);
    sim_aligned(row, 16, file, line);
    SimMatrix matrix = {static_cast<const uint16_t*>(row), r};
    const char* what = TRANSPOSED ? "ldmatrix_x4_transposed" : "ldmatrix_x4";
    SimWait wait = {what, 0, 0xffffffffu, sim_ldmatrix<TRANSPOSED>, file, line, &matrix};
    sim_hooks.wait(sim_self, &wait);
}

static inline void ldmatrix_x4(unsigned (&r)[4], const void* row, SIM_SITE) {
    sim_load_matrices<false>(r, row, file, line);
}
static inline void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row, SIM_SITE) {
    sim_load_matrices<true>(r, row, file, line);
}

static inline unsigned pack_bf16(float low, float high) {
    return __float2bfloat16_rn(low).bits | static_cast<unsigned>(__float2bfloat16_rn(high).bits) << 16;
}

// What the approximation may be off by is left to the bounds of the tests.
static inline float exp2_approximate(float x) {
    const float y = std::exp2(x);
    return y < 1.17549435e-38f ? 0.0f : y;
}

// Nothing moves before the wait, and until then the destination holds NaN: who reads too early sees it.
static inline void sim_copy(void* to, const void* from, unsigned bytes, bool valid, const char* file, unsigned line) {
    static const unsigned zeros[4] = {0, 0, 0, 0};
    sim_in_shared(to, bytes, file, line);
    sim_aligned(to, bytes, file, line);
    sim_aligned(from, bytes, file, line);
    SimThread* self = sim_self;
    if (self->copies == SIM_COPIES) SIM_FAIL("more asynchronous copies in flight than the simulator holds");
    memset(to, 0xff, bytes);
    self->copy[self->copies++] = {to, valid ? from : zeros, bytes, self->group};
}

static inline void cp_async_16(void* to, const void* from, unsigned valid, SIM_SITE) {
    sim_copy(to, from, 16, valid != 0, file, line);
}
static inline void cp_async_8(void* to, const void* from, bool valid, SIM_SITE) {
    sim_copy(to, from, 8, valid, file, line);
}

// Notes that this thread wrote these bytes by ordinary means, where products may read them.
static inline void sim_wrote(void* to, unsigned bytes, SIM_SITE) {
    SimThread* self = sim_self;
    if (self->writes == SIM_COPIES) {
        if (self->async->open) SIM_FAIL("more writes without a fence than the simulator holds");
        // A kernel without products of warpgroups, which fences nothing.
        self->writes = 0;
    }
    self->written[self->writes++] = {to, bytes};
}

static inline void cp_async_commit() { sim_self->group++; }

template <int PENDING>
static inline void cp_async_wait() {
    SimThread* self = sim_self;
    unsigned kept = 0;
    for (unsigned i = 0; i < self->copies; i++) {
        const SimCopy copy = self->copy[i];
        if (copy.group + PENDING < self->group) {
            memcpy(copy.to, copy.from, copy.bytes);
            sim_wrote(copy.to, copy.bytes);
        } else {
            self->copy[kept++] = copy;
        }
    }
    self->copies = kept;
}
