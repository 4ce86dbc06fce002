// Warp-wide matrix products, fragment loads and asynchronous copies: the only inline PTX, each with a simulator twin.
//
// Fragments are as in the PTX manual, "Matrix fragments for mma.m16n8k16 / m16n8k8": lane l = 4 g + c (g 0..7, c 0..3).
// C and D of both: (row g, columns 2c 2c+1), (row g + 8, columns 2c 2c+1).
#pragma once

#ifndef WATTENTION_SIM

// d[16, 8] += a[16, 16] b[16, 8], bf16 in, float out. a: four pairs, rows g g+8 g g+8, columns 2c 2c 2c+8 2c+8;
// b: two pairs, rows 2c and 2c+8, column g.
static __device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d[16, 8] += a[16, 8] b[8, 8] in tf32. a: (g, c), (g + 8, c), (g, c + 4), (g + 8, c + 4); b: (c, g), (c + 4, g).
static __device__ __forceinline__ void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The bits of x rounded to tf32.
static __device__ __forceinline__ unsigned to_tf32(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

// Two floats rounded to bf16, `low` in the low half: the order of two neighbours in memory.
static __device__ __forceinline__ unsigned pack_bf16(float low, float high) {
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

// 2^x to about 2 ulp, results below 2^-126 as 0.
static __device__ __forceinline__ float exp2_approximate(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Four 8x8 matrices of 16-bit elements from shared memory; lane l gives the address of row l % 8 of matrix l / 8.
static __device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* row) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

// The same, each matrix transposed.
static __device__ __forceinline__ void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

// Starts copying 16 bytes to shared memory, or writing zeros where no bit of `valid` is set: nothing is read then,
// wherever `from` points. Lands at cp_async_wait. Said by a predicate: for a number of bytes, the compiler computes
// addresses of parts of a copy.
static __device__ __forceinline__ void cp_async_16(void* to, const void* from, unsigned valid) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile(
        "{\n"
        ".reg .pred zeros;\n"
        "setp.eq.u32 zeros, %2, 0;\n"
        "cp.async.cg.shared.global [%0], [%1], 16, zeros;\n"
        "}" ::"r"(address), "l"(from), "r"(valid) : "memory");
}

// The same for 8 bytes.
static __device__ __forceinline__ void cp_async_8(void* to, const void* from, bool valid) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile(
        "{\n"
        ".reg .pred zeros;\n"
        "setp.eq.u32 zeros, %2, 0;\n"
        "cp.async.ca.shared.global [%0], [%1], 8, zeros;\n"
        "}" ::"r"(address), "l"(from), "r"(static_cast<unsigned>(valid)) : "memory");
}

// Closes the group of the copies started since the last one.
static __device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `PENDING` of this thread's groups have not landed; others see them after a barrier.
template <int PENDING>
static __device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory");
}

#endif
