// Products of warpgroups, warp by warp: queued at their issue, computed when the warp waits for them.
#pragma once

// --- descriptors

// What the 64 bits say, all of which must mean something.
struct SimMatrix64 {
    unsigned start, leading, stride, row;  // bytes; `row` of a swizzled row, 16 without swizzle
    unsigned swizzle;                      // bits of the address that are changed
    const char* wrong;
};

SIM_TWIN static inline SimMatrix64 sim_decode(uint64_t bits) {
    SimMatrix64 matrix = {};
    matrix.start = (bits & 0x3fff) << 4;
    matrix.leading = (bits >> 16 & 0x3fff) << 4;
    matrix.stride = (bits >> 32 & 0x3fff) << 4;
    const unsigned base = bits >> 49 & 7, kind = bits >> 62;
    matrix.swizzle = kind == 0 ? 0 : 4 - kind;
    matrix.row = 16u << matrix.swizzle;
    if (bits & ~(0x3fffull | 0x3fffull << 16 | 0x3fffull << 32 | 7ull << 49 | 3ull << 62))
        matrix.wrong = "a descriptor has bits that mean nothing";
    else if (base != 0) matrix.wrong = "a descriptor has a base offset";
    else if (matrix.swizzle != 0 && (matrix.start >> 7 & ((1u << matrix.swizzle) - 1)) != 0)
        matrix.wrong = "a descriptor begins inside of its swizzle's pattern";
    return matrix;
}

// Where element k of row `r` of an operand lies: the operand's rows are rows in memory, or, transposed, run along them.
SIM_TWIN static inline unsigned sim_place(const SimMatrix64& m, bool transposed, unsigned r, unsigned k) {
    unsigned at = m.start;
    if (m.swizzle == 0) {
        at += transposed ? r % 8 * 2 + r / 8 * m.stride + k % 8 * 16 + k / 8 * m.leading
                         : r % 8 * 16 + r / 8 * m.stride + k / 8 * m.leading + k % 8 * 2;
    } else if (transposed) {
        const unsigned along = m.row / 2;
        at += r % along * 2 + r / along * m.leading + k % 8 * m.row + k / 8 * m.stride;
    } else {
        at += r % 8 * m.row + r / 8 * m.stride + k * 2;
    }
    return at ^ (at >> 7 & ((1u << m.swizzle) - 1)) << 4;
}

// Reads rows `first` on of an operand, which the async proxy must see as they are.
SIM_TWIN static inline const char* sim_gather(
    const SimAsync* all, uint64_t bits, bool transposed, unsigned first, unsigned rows, uint16_t (*to)[16]) {
    const SimMatrix64 m = sim_decode(bits);
    if (m.wrong) return m.wrong;
    for (unsigned r = 0; r < rows; r++) {
        for (unsigned k = 0; k < 16; k++) {
            const unsigned at = sim_place(m, transposed, first + r, k) - SIM_SHARED_BASE;
            if (at >= all->shared_size || at + 2 > all->shared_size)
                return "an operand reaches outside of shared memory";
            memcpy(&to[r][k], all->shared + at, 2);
            if (memcmp(&to[r][k], all->visible + at, 2) != 0)
                return sim_text(
                    "byte %u of shared memory was written by ordinary means and not fenced, or is on its way", at);
        }
    }
    return nullptr;
}

// --- registers

struct SimIssue {
    float* d;
    unsigned columns;
    const unsigned* a;  // null where it is in shared memory
    uint64_t a_at, b_at;
    bool accumulate, transposed;
    const char *error, *file;
    unsigned line;
    SimAsync* all;
    unsigned warp;
};

constexpr uint32_t SIM_IN_FLIGHT = 0xffffffffu;

SIM_TWIN static inline uint64_t sim_hash(const SimRegisters& used) {
    uint64_t hash = 0xcbf29ce484222325ull;
    for (const void* at : used.at)
        for (unsigned i = 0; i < used.words; i++)
            hash = (hash ^ static_cast<const volatile uint32_t*>(at)[i]) * 0x100000001b3ull;
    return hash;
}

// What is wrong with using these registers of all lanes: they are as they were at the last fence or, where a product
// does not read them, ordinary code has not had them since.
static inline const char* sim_fenced(SimWarp* warp, SimWait** lanes, bool of_a, bool read, unsigned words) {
    SimRegisters now = {{}, words, 0, false};
    for (unsigned lane = 0; lane < 32; lane++) {
        const SimIssue* issue = static_cast<const SimIssue*>(lanes[lane]->data);
        now.at[lane] = of_a ? static_cast<const void*>(issue->a) : issue->d;
    }
    now.hash = sim_hash(now);
    for (unsigned i = 0; i < min(warp->known, SIM_REGISTERS); i++) {
        const SimRegisters& used = warp->used[i];
        if (used.at[0] != now.at[0] || used.words != words) continue;
        if (read && used.hash != now.hash) return "registers of a product were written after the last wgmma_fence";
        return !read && used.returned ? "accumulators are used again without a wgmma_fence" : nullptr;
    }
    warp->used[warp->known++ % SIM_REGISTERS] = now;
    return warp->fences == 0 ? "a product without a wgmma_fence before it" : nullptr;
}

static inline void sim_fence_registers(SimWarp* warp) {
    warp->fences++;
    for (unsigned i = 0; i < min(warp->known, SIM_REGISTERS); i++)
        warp->used[i].hash = sim_hash(warp->used[i]), warp->used[i].returned = false;
}

static inline const char* sim_issue_error(SimWait** lanes, const SimIssue& first) {
    SimAsync* all = first.all;
    SimWarp* warp = &all->warp[first.warp];
    for (unsigned lane = 1; lane < 32; lane++) {
        const SimIssue* other = static_cast<const SimIssue*>(lanes[lane]->data);
        if (other->b_at != first.b_at || other->a_at != first.a_at || other->accumulate != first.accumulate)
            return "lanes of a warp issue different products";
    }
    if (warp->products == SIM_PRODUCTS) return "more products in flight than the simulator holds";
    unsigned at = SIM_SUMS, unused = SIM_SUMS;
    for (unsigned i = 0; i < SIM_SUMS; i++) {
        if (warp->sum[i].pending == 0) unused = i;
        else if (warp->sum[i].d[0] == first.d) at = i;
    }
    const unsigned words = first.columns / 2;
    SimProduct* product = &warp->product[warp->products];
    if (at == SIM_SUMS) {
        if (unused == SIM_SUMS) return "more accumulators in flight than the simulator holds";
        if (const char* error = sim_fenced(warp, lanes, false, first.accumulate, words)) return error;
        SimSum* sum = &warp->sum[at = unused];
        sum->columns = first.columns;
        for (unsigned lane = 0; lane < 32; lane++) {
            sum->d[lane] = static_cast<const SimIssue*>(lanes[lane]->data)->d;
            memcpy(sum->value[lane], sum->d[lane], 4 * words);
            memset(sum->d[lane], 0xff, 4 * words);
        }
    } else if (warp->sum[at].columns != first.columns) {
        return "products of two shapes share accumulators";
    }
    if (first.a)
        if (const char* error = sim_fenced(warp, lanes, true, true, 4)) return error;
    *product = {warp->groups, at, first.columns, first.accumulate, first.transposed, first.a_at, first.b_at,
                {}, {}, {}, {}, first.file, first.line};
    for (unsigned lane = 0; first.a && lane < 32; lane++) {
        product->a[lane] = static_cast<const SimIssue*>(lanes[lane]->data)->a;
        memcpy(product->a_bits[lane], product->a[lane], 16);
    }
    const char* error = nullptr;
    if (!first.a) error = sim_gather(all, first.a_at, false, first.warp % 4 * 16, 16, product->a_values);
    if (!error) error = sim_gather(all, first.b_at, first.transposed, 0, first.columns, product->b_values);
    warp->sum[at].pending++;
    warp->products++;
    warp->issued++;
    const uint64_t what = first.b_at ^ first.a_at << 1 ^ static_cast<uint64_t>(first.line) << 40;
    warp->history = (warp->history ^ what) * 0x100000001b3ull;
    return error;
}

static inline void sim_issue(SimWait** lanes, unsigned) {
    SimIssue* first = static_cast<SimIssue*>(lanes[0]->data);
    const char* error = sim_issue_error(lanes, *first);
    for (unsigned lane = 0; error && lane < 32; lane++) static_cast<SimIssue*>(lanes[lane]->data)->error = error;
}

static inline void sim_put_product(SimIssue issue, const char* file, unsigned line) {
    issue.all = sim_async(), issue.warp = sim_self->index / 32, issue.file = file, issue.line = line;
    SimWait wait = {"wgmma", 0, 0xffffffffu, sim_issue, file, line, &issue};
    sim_hooks.wait(sim_self, &wait);
    if (issue.error) SIM_FAIL(sim_text("wgmma: %s", issue.error));
}

// --- the end of products

SIM_TWIN static inline float sim_bf16(uint16_t bits) { return __bfloat162float({bits}); }

// Runs the first product of a warp's queue: exact products, and one truncation each as on tensor cores.
SIM_TWIN static inline const char* sim_run_product(SimAsync* all, unsigned index) {
    SimWarp* warp = &all->warp[index];
    const SimProduct& product = warp->product[0];
    SimSum* sum = &warp->sum[product.sum];
    float a[16][16];
    uint16_t values[SIM_COLUMNS][16];
    for (unsigned lane = 0; lane < 32; lane++) {
        for (unsigned i = 0; i < sum->columns / 2; i++)
            if (__float_as_uint(sum->d[lane][i]) != SIM_IN_FLIGHT)
                return "accumulators were written before the wait for their product";
        if (product.a[0] == nullptr) continue;
        if (memcmp(product.a_bits[lane], product.a[lane], 16) != 0)
            return "an operand in registers was written before the wait for its product";
        for (unsigned i = 0; i < 8; i++) {
            const uint16_t half = static_cast<uint16_t>(product.a_bits[lane][i / 2] >> i % 2 * 16);
            a[lane / 4 + i / 2 % 2 * 8][lane % 4 * 2 + i / 4 * 8 + i % 2] = sim_bf16(half);
        }
    }
    if (product.a[0] == nullptr) {
        if (const char* error = sim_gather(all, product.a_at, false, index % 4 * 16, 16, values)) return error;
        if (memcmp(values, product.a_values, sizeof product.a_values) != 0)
            return "shared memory was written before the wait for the product that reads it";
        for (unsigned i = 0; i < 256; i++) a[i / 16][i % 16] = sim_bf16(values[i / 16][i % 16]);
    }
    if (const char* error = sim_gather(all, product.b_at, product.transposed, 0, product.columns, values)) return error;
    if (memcmp(values, product.b_values, product.columns * sizeof values[0]) != 0)
        return "shared memory was written before the wait for the product that reads it";
    for (unsigned n = 0; n < product.columns; n++) {
        double b[16];
        for (unsigned k = 0; k < 16; k++) b[k] = sim_bf16(values[n][k]);
        for (unsigned row = 0; row < 16; row++) {
            float* d = &sum->value[row % 8 * 4 + n % 8 / 2][n / 8 * 4 + row / 8 * 2 + n % 2];
            double total = product.accumulate ? *d : 0.0;
            for (unsigned k = 0; k < 16; k++) total += a[row][k] * b[k];
            *d = sim_truncated(total);
        }
    }
    sum->pending--;
    return nullptr;
}

// Runs the products of all groups but the last `pending` ones.
static inline const char* sim_finish(
    SimAsync* all, unsigned index, unsigned pending, const char** file, unsigned* line) {
    SimWarp* warp = &all->warp[index];
    while (warp->products > 0 && warp->product[0].group + pending < warp->groups) {
        *file = warp->product[0].file, *line = warp->product[0].line;
        SimSum* sum = &warp->sum[warp->product[0].sum];
        if (const char* error = sim_run_product(all, index)) return error;
        warp->products--;
        memmove(&warp->product[0], &warp->product[1], warp->products * sizeof(SimProduct));
        if (sum->pending > 0) continue;
        for (unsigned lane = 0; lane < 32; lane++) memcpy(sum->d[lane], sum->value[lane], 2 * sum->columns);
        // What a product wrote needs no fence before the next.
        for (unsigned i = 0; i < min(warp->known, SIM_REGISTERS); i++)
            if (warp->used[i].at[0] == sum->d[0])
                warp->used[i].hash = sim_hash(warp->used[i]), warp->used[i].returned = true;
    }
    return nullptr;
}

struct SimGroup {
    SimAsync* all;
    unsigned warp, pending;
    const char *error, *file;
    unsigned line;
};

static inline void sim_groups(SimWait** lanes, unsigned) {
    SimGroup* first = static_cast<SimGroup*>(lanes[0]->data);
    first->error = sim_finish(first->all, first->warp, first->pending, &first->file, &first->line);
    for (unsigned lane = 1; lane < 32; lane++) *static_cast<SimGroup*>(lanes[lane]->data) = *first;
}

static inline void sim_commit(SimWait** lanes, unsigned) {
    const SimGroup* first = static_cast<const SimGroup*>(lanes[0]->data);
    first->all->warp[first->warp].groups++;
}

static inline void sim_fence(SimWait** lanes, unsigned) {
    const SimGroup* first = static_cast<const SimGroup*>(lanes[0]->data);
    sim_fence_registers(&first->all->warp[first->warp]);
}

static inline void sim_of_warp(
    const char* what, void (*perform)(SimWait**, unsigned), unsigned pending, const char* file, unsigned line) {
    SimGroup group = {sim_async(), sim_self->index / 32, pending, nullptr, file, line};
    SimWait wait = {what, 0, 0xffffffffu, perform, file, line, &group};
    sim_hooks.wait(sim_self, &wait);
    if (group.error) sim_hooks.fail(sim_self, sim_text("wgmma: %s", group.error), group.file, group.line);
}

static inline void wgmma_fence(SIM_SITE) { sim_of_warp("wgmma_fence", sim_fence, 0, file, line); }
static inline void wgmma_commit(SIM_SITE) { sim_of_warp("wgmma_commit", sim_commit, 0, file, line); }
template <int PENDING>
static inline void wgmma_wait(SIM_SITE) { sim_of_warp("wgmma_wait", sim_groups, PENDING, file, line); }

template <bool TRANSPOSED>
static inline void wgmma(float (&d)[8][4], const unsigned (&a)[4], unsigned long long b, bool accumulate, SIM_SITE) {
    sim_put_product({&d[0][0], 64, a, 0, b, accumulate, TRANSPOSED, nullptr, nullptr, 0, nullptr, 0}, file, line);
}
template <bool TRANSPOSED>
static inline void wgmma(
    float (&d)[8][4], unsigned long long a, unsigned long long b, bool accumulate, SIM_SITE) {
    sim_put_product({&d[0][0], 64, nullptr, a, b, accumulate, TRANSPOSED, nullptr, nullptr, 0, nullptr, 0}, file, line);
}
