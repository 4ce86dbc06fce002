// layer_norm: s = x + dropout(a); y = (s - mean(s)) rstd(s) w + b, over the last dimension.
// Shapes: x a s y [N, C], w b [C], mean rstd [N], partial [parts, 2, C]. a and s may be absent. Saved: s, mean, rstd.
// A warp has a row, 2 KiB of it in registers, as they are stored; what is beyond is read again. Ba et al. 2016.
#include "common.cuh"

constexpr int STEP = WARP * WIDE;
// Pieces of a row that a lane keeps.
constexpr int KEPT = 4;

// WIDE elements as they are stored: in bf16 half the registers of floats.
struct Piece {
    unsigned word[4];
};

DEVICE void unpack(float (&x)[WIDE], const Piece& piece) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if constexpr (WIDE == 8) widen(x + 2 * i, piece.word[i]);
        else x[i] = __uint_as_float(piece.word[i]);
    }
}

DEVICE Piece pack(const float (&x)[WIDE]) {
    Piece piece;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if constexpr (WIDE == 8) {
            const __nv_bfloat162 pair = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
            memcpy(&piece.word[i], &pair, 4);
        } else {
            piece.word[i] = __float_as_uint(x[i]);
        }
    }
    return piece;
}

DEVICE Piece fetch_piece(const real* p, int n, bool whole) {
    if (whole) {
        const uint4 v = __ldg(reinterpret_cast<const uint4*>(p));
        return {{v.x, v.y, v.z, v.w}};
    }
    float x[WIDE];
    fetch(x, p, n, false);
    return pack(x);
}

// f(piece, c) for a lane's pieces of a row of C elements, c where they begin: those that are kept, then what `read`
// gets of the others.
template <class P, class Read, class F>
DEVICE void for_each_piece(const P (&kept)[KEPT], int C, Read read, F f) {
#pragma unroll
    for (int k = 0; k < KEPT; k++) {
        const int c = k * STEP + lane_index() * WIDE;
        if (c < C) f(kept[k], c);
    }
    for (int c = KEPT * STEP + lane_index() * WIDE; c < C; c += STEP) f(read(c), c);
}

struct Forward {
    real *s, *y;
    float *mean, *rstd;
    const real *x, *a, *w, *b;
    const int* randomness;
    int N, C, site;
    float eps, p;
};

// launch: grid [N / 4], block 128, shared 0
KERNEL_ENTRY void layer_norm_fwd(const Forward a) {
    contract(blockDim.x == 4 * WARP);
    const int row = blockIdx.x * warps_of_block() + warp_index();
    if (row >= a.N) return;
    const Dropout dropout = dropout_of(a.randomness, a.site, a.p);
    const long long first = static_cast<long long>(row) * a.C;
    with_constant(aligned_for<WIDE>(a.s, a.y, a.x, a.a, a.w, a.b) && a.C % WIDE == 0, [&](auto flag) {
        constexpr bool WHOLE = decltype(flag)::value;
        Piece kept[KEPT] = {}, branch[KEPT] = {};
        float sum = 0.0f;
        // All loads of what is kept come before the first store.
#pragma unroll
        for (int k = 0; k < KEPT; k++) {
            const int c = k * STEP + lane_index() * WIDE;
            if (c < a.C) kept[k] = fetch_piece(a.x + first + c, a.C - c, WHOLE);
            if (c < a.C && a.a != nullptr) branch[k] = fetch_piece(a.a + first + c, a.C - c, WHOLE);
        }
        // The statistics are those of what the backward will read.
        const auto add = [&](Piece& s, const Piece& other, int c) {
            float value[WIDE];
            unpack(value, s);
            if (a.a != nullptr) {
                float factor[WIDE], added[WIDE];
                unpack(added, other);
                dropout_factors(factor, dropout, first + c);
                for (int j = 0; j < WIDE; j++) value[j] = stored(value[j] + added[j] * factor[j]);
                store(a.s + first + c, value, a.C - c, WHOLE);
                s = pack(value);
            }
            for (int j = 0; j < WIDE; j++) sum += value[j];
        };
#pragma unroll
        for (int k = 0; k < KEPT; k++) {
            const int c = k * STEP + lane_index() * WIDE;
            if (c < a.C) add(kept[k], branch[k], c);
        }
        for (int c = KEPT * STEP + lane_index() * WIDE; c < a.C; c += STEP) {
            Piece s = fetch_piece(a.x + first + c, a.C - c, WHOLE), other = {};
            if (a.a != nullptr) other = fetch_piece(a.a + first + c, a.C - c, WHOLE);
            add(s, other, c);
        }
        const float row_mean = warp_sum(sum) / a.C;
        // What this lane has written itself, or the input.
        const real* s_row = (a.a != nullptr ? a.s : a.x) + first;
        const auto read = [&](int c) {
            float value[WIDE];
            load(value, s_row + c, a.C - c, WHOLE);
            return pack(value);
        };
        float squares = 0.0f;
        for_each_piece(kept, a.C, read, [&](const Piece& s, int c) {
            float value[WIDE];
            unpack(value, s);
            for (int j = 0; j < WIDE; j++)
                if (WHOLE || c + j < a.C) squares += (value[j] - row_mean) * (value[j] - row_mean);
        });
        const float row_rstd = 1.0f / sqrtf(warp_sum(squares) / a.C + a.eps);
        if (lane_index() == 0) a.mean[row] = row_mean, a.rstd[row] = row_rstd;
        for_each_piece(kept, a.C, read, [&](const Piece& s, int c) {
            float weight[WIDE], bias[WIDE], value[WIDE];
            unpack(value, s);
            fetch(weight, a.w + c, a.C - c, WHOLE);
            fetch(bias, a.b + c, a.C - c, WHOLE);
            for (int j = 0; j < WIDE; j++) value[j] = (value[j] - row_mean) * row_rstd * weight[j] + bias[j];
            store(a.y + first + c, value, a.C - c, WHOLE);
        });
    });
}

struct Backward {
    real *ds, *da;
    float *dw, *db, *partial;
    const real *dy, *ds_residual, *s;
    const float *mean, *rstd;
    const real* w;
    const int* randomness;
    int N, C, accumulate_w, accumulate_b, site, parts;
    float p;
};

// Floats of a row of sums in shared memory: whole pieces, whatever `real` is.
DEVICE int padded(int C) { return CEIL_DIV(C, 8) * 8; }

// Where elements c .. c + WIDE of a row of sums lie, four by four: neighbouring lanes in neighbouring places, and each
// four as far from the next as all the first fours take.
DEVICE float* sums_at(float* row, int C, int c) { return row + c / WIDE * 4 + c % WIDE / 4 * (padded(C) * 4 / WIDE); }

DEVICE void add_to_sums(float* row, int C, int c, const float (&x)[WIDE]) {
#pragma unroll
    for (int i = 0; i < WIDE; i += 4) {
        float four[4];
        float* at = sums_at(row, C, c + i);
        load(four, at);
        for (int j = 0; j < 4; j++) four[j] += x[i + j];
        store(at, four);
    }
}

struct Slope {
    Piece s, dy;
};

// With n = (s - mean) rstd and g = dy w: ds = rstd (g - mean(g) - n mean(g n)) + ds_residual; da = ds through dropout.
// A block goes through every parts-th group of rows; each of its warps sums dy n and dy for dw and db as it goes, in
// shared memory: 8 bytes an element, so that four blocks share a processor and all 512 parts run at once.
// launch: grid [parts], block 32 warps up to 128, shared warps 2 padded(C) floats
KERNEL_ENTRY void __launch_bounds__(128, 4) layer_norm_bwd(const Backward a) {
    contract(blockDim.x % WARP == 0 && blockDim.x <= 128 && static_cast<int>(gridDim.x) == a.parts);
    SHARED_DYN(float, sums);
    const int warps = warps_of_block(), width = padded(a.C);
    float *dw_sum = sums + warp_index() * 2 * width, *db_sum = dw_sum + width;
    const Dropout dropout = dropout_of(a.randomness, a.site, a.p);
    const float nothing[4] = {};
    for (int c = lane_index() * 4; c < width; c += WARP * 4) store(dw_sum + c, nothing), store(db_sum + c, nothing);
    __syncwarp();

    with_constant(aligned_for<WIDE>(a.ds, a.da, a.dy, a.ds_residual, a.s, a.w) && a.C % WIDE == 0, [&](auto flag) {
        constexpr bool WHOLE = decltype(flag)::value;
        const long long step = static_cast<long long>(a.parts) * warps;
        for (long long row = blockIdx.x * warps + warp_index(); row < a.N; row += step) {
            const long long first = row * a.C;
            const float row_mean = __ldg(a.mean + row), row_rstd = __ldg(a.rstd + row);
            const auto read = [&](int c) {
                const long long at = first + c;
                return Slope{fetch_piece(a.s + at, a.C - c, WHOLE), fetch_piece(a.dy + at, a.C - c, WHOLE)};
            };
            const auto open = [&](float (&n)[WIDE], float (&dy)[WIDE], const Slope& slope) {
                unpack(n, slope.s);
                unpack(dy, slope.dy);
                for (int j = 0; j < WIDE; j++) n[j] = (n[j] - row_mean) * row_rstd;
            };
            Slope kept[KEPT] = {};
#pragma unroll
            for (int k = 0; k < KEPT; k++) {
                const int c = k * STEP + lane_index() * WIDE;
                if (c < a.C) kept[k] = read(c);
            }
            float g_sum = 0.0f, gn_sum = 0.0f;
            for_each_piece(kept, a.C, read, [&](const Slope& slope, int c) {
                float n[WIDE], dy[WIDE], weight[WIDE];
                open(n, dy, slope);
                fetch(weight, a.w + c, a.C - c, WHOLE);
                // Beyond the row, dy is 0.
                for (int j = 0; j < WIDE; j++) {
                    g_sum += dy[j] * weight[j];
                    gn_sum += dy[j] * weight[j] * n[j];
                }
            });
            const float g_mean = warp_sum(g_sum) / a.C, gn_mean = warp_sum(gn_sum) / a.C;
            for_each_piece(kept, a.C, read, [&](const Slope& slope, int c) {
                float n[WIDE], dy[WIDE], weight[WIDE], out[WIDE] = {};
                open(n, dy, slope);
                if (a.ds_residual != nullptr) fetch(out, a.ds_residual + first + c, a.C - c, WHOLE);
                fetch(weight, a.w + c, a.C - c, WHOLE);
                for (int j = 0; j < WIDE; j++) {
                    out[j] += row_rstd * (dy[j] * weight[j] - g_mean - n[j] * gn_mean);
                    n[j] *= dy[j];
                }
                add_to_sums(dw_sum, a.C, c, n);
                add_to_sums(db_sum, a.C, c, dy);
                store(a.ds + first + c, out, a.C - c, WHOLE);
                if (a.da != nullptr) {
                    float factor[WIDE];
                    dropout_factors(factor, dropout, first + c);
                    for (int j = 0; j < WIDE; j++) out[j] *= factor[j];
                    store(a.da + first + c, out, a.C - c, WHOLE);
                }
            });
        }
    });
    if (a.partial == nullptr) return;
    __syncthreads();
    for (int c = threadIdx.x; c < a.C; c += blockDim.x) {
        float dw_total = 0.0f, db_total = 0.0f;
        for (int warp = 0; warp < warps; warp++) {
            const float* own = sums_at(sums + warp * 2 * width, a.C, c) + c % 4;
            dw_total += own[0];
            db_total += own[width];
        }
        a.partial[blockIdx.x * 2ll * a.C + c] = dw_total;
        a.partial[(blockIdx.x * 2ll + 1) * a.C + c] = db_total;
    }
}

// dw and db: the partials of all blocks, in order.
// launch: grid [2 C / 32], block 512, shared 512 floats
KERNEL_ENTRY void layer_norm_bwd_sum(const Backward a) {
    contract(blockDim.x == 512);
    SHARED_DYN(float, scratch);
    const int column = blockIdx.x * WARP + lane_index();
    const float total = column_sum(a.partial, a.parts, 2ll * a.C, column, scratch);
    if (warp_index() != 0 || column >= 2 * a.C) return;
    if (column < a.C && a.dw != nullptr) put_or_add(a.dw + column, total, a.accumulate_w);
    if (column >= a.C && a.db != nullptr) put_or_add(a.db + column - a.C, total, a.accumulate_b);
}
