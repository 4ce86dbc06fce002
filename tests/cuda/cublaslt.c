// A stand-in for libcublasLt: matrices in columns, as its manual has them, multiplied one element at a time.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// Of the stand-in for libcuda.
void fake_put_product(void (*product)(const void*), void* data);

enum { F32 = 0, BF16 = 14 };
enum { TRANSA = 3, TRANSB = 4, EPILOGUE = 7, BIAS_POINTER = 8, BIAS_STEP = 10, BIAS_TYPE = 26, EPILOGUE_BIAS = 4 };
enum { BATCH_COUNT = 5, BATCH_STEP = 6 };

struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t stride;
    int32_t count;
    int64_t step;
};
struct Description {
    int transposed[2], epilogue, bias_type;
    uint64_t bias;
    int64_t bias_step;
};
struct Product {
    struct Description description;
    struct Layout a, b, d;
    const void *first, *second;
    void* result;
    float alpha, beta;
};

static float get(const void* x, int type, uint64_t i) {
    if (type == F32) return ((const float*)x)[i];
    const uint32_t bits = (uint32_t)((const uint16_t*)x)[i] << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static void set(void* x, int type, uint64_t i, float value) {
    if (type == F32) {
        ((float*)x)[i] = value;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, 4);
    ((uint16_t*)x)[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// One matrix of a batch.
static void multiply_one(const struct Product* p, int64_t batch) {
    const uint64_t a_from = batch * p->a.step, b_from = batch * p->b.step, d_from = batch * p->d.step;
    const int* transposed = p->description.transposed;
    const uint64_t depth = transposed[0] ? p->a.rows : p->a.columns;
    for (uint64_t c = 0; c < p->d.columns; c++) {
        for (uint64_t r = 0; r < p->d.rows; r++) {
            double sum = 0;
            for (uint64_t i = 0; i < depth; i++) {
                const uint64_t a = transposed[0] ? i + r * p->a.stride : r + i * p->a.stride;
                const uint64_t b = transposed[1] ? c + i * p->b.stride : i + c * p->b.stride;
                sum += (double)get(p->first, p->a.type, a_from + a) * get(p->second, p->b.type, b_from + b);
            }
            sum *= p->alpha;
            const uint64_t at = d_from + r + c * p->d.stride;
            if (p->beta != 0) sum += p->beta * get(p->result, p->d.type, at);
            if (p->description.epilogue == EPILOGUE_BIAS) {
                const uint64_t from = batch * p->description.bias_step;
                sum += get((const void*)(uintptr_t)p->description.bias, p->description.bias_type, from + r);
            }
            set(p->result, p->d.type, at, (float)sum);
        }
    }
}

static void multiply(const void* data) {
    const struct Product* p = data;
    for (int64_t batch = 0; batch < p->d.count; batch++) multiply_one(p, batch);
}

int cublasLtCreate(void** handle) { return *handle = (void*)1, 0; }
int cublasLtDestroy(void* handle) { return (void)handle, 0; }

int cublasLtMatmulDescCreate(struct Description** made, int compute, int scale) {
    (void)compute;
    *made = calloc(1, sizeof(**made));
    return scale == F32 ? 0 : 15;
}

int cublasLtMatmulDescDestroy(struct Description* made) { return free(made), 0; }

int cublasLtMatmulDescSetAttribute(struct Description* of, int attribute, const void* value, size_t bytes) {
    switch (attribute) {
        case TRANSA: case TRANSB: memcpy(&of->transposed[attribute - TRANSA], value, 4); break;
        case EPILOGUE: memcpy(&of->epilogue, value, 4); break;
        case BIAS_TYPE: memcpy(&of->bias_type, value, 4); break;
        case BIAS_POINTER: memcpy(&of->bias, value, 8); break;
        case BIAS_STEP: memcpy(&of->bias_step, value, 8); break;
        default: return 7;
    }
    return bytes == (attribute == BIAS_POINTER || attribute == BIAS_STEP ? 8 : 4) ? 0 : 7;
}

int cublasLtMatrixLayoutCreate(struct Layout** made, int type, uint64_t rows, uint64_t columns, int64_t stride) {
    *made = calloc(1, sizeof(**made));
    **made = (struct Layout){type, rows, columns, stride, 1, 0};
    return type == F32 || type == BF16 ? 0 : 15;
}

int cublasLtMatrixLayoutSetAttribute(struct Layout* of, int attribute, const void* value, size_t bytes) {
    switch (attribute) {
        case BATCH_COUNT: memcpy(&of->count, value, 4); break;
        case BATCH_STEP: memcpy(&of->step, value, 8); break;
        default: return 7;
    }
    return bytes == (attribute == BATCH_STEP ? 8 : 4) ? 0 : 7;
}

int cublasLtMatrixLayoutDestroy(struct Layout* made) { return free(made), 0; }
int cublasLtMatmulPreferenceCreate(void** made) { return *made = (void*)1, 0; }
int cublasLtMatmulPreferenceDestroy(void* made) { return (void)made, 0; }

int cublasLtMatmulPreferenceSetAttribute(void* of, int attribute, const void* value, size_t bytes) {
    return (void)of, (void)value, bytes == (attribute == 1 ? 8 : 4) ? 0 : 7;
}

// The library refuses shapes that do not meet.
static int fits(const int* transposed, const struct Layout* a, const struct Layout* b, const struct Layout* d) {
    const uint64_t rows = transposed[0] ? a->columns : a->rows, columns = transposed[1] ? b->rows : b->columns;
    const uint64_t depth = transposed[0] ? a->rows : a->columns, same = transposed[1] ? b->columns : b->rows;
    const int batched = a->count == b->count && b->count == d->count;
    return batched && rows == d->rows && columns == d->columns && depth == same;
}

// cublasLtMatmulHeuristicResult_t.
struct Heuristic {
    uint64_t algorithm[8];
    size_t workspace;
    int status;
    float waves;
    int reserved[4];
};

int cublasLtMatmulAlgoGetHeuristic(void* handle, const struct Description* with, const struct Layout* a,
                                   const struct Layout* b, const struct Layout* c, const struct Layout* d,
                                   void* preference, int asked, struct Heuristic* found, int* count) {
    (void)handle, (void)c, (void)preference, (void)asked;
    memset(found, 0, sizeof(*found));
    *count = 1;
    return fits(with->transposed, a, b, d) ? 0 : 15;
}

int cublasLtMatmul(void* handle, const struct Description* with, const float* alpha, const void* first,
                   const struct Layout* a, const void* second, const struct Layout* b, const float* beta, const void* c,
                   const struct Layout* c_layout, void* result, const struct Layout* d, const void* algorithm,
                   void* workspace, size_t bytes, void* stream) {
    (void)handle, (void)c_layout, (void)algorithm, (void)workspace, (void)bytes, (void)stream;
    if (!fits(with->transposed, a, b, d) || c != result) return 7;
    struct Product* product = malloc(sizeof(*product));
    *product = (struct Product){*with, *a, *b, *d, first, second, result, *alpha, *beta};
    fake_put_product(multiply, product);
    return 0;
}
