// Kernels with one planted fault each, which the simulator must name: its own tests, in debug builds only.
#include "../common.cuh"

struct Arguments {
    float* y;
    const float* x;
    int n;
};

// launch: grid [n / 64], block 64, shared 64 floats
KERNEL_ENTRY void planted_none(const Arguments a) {
    SHARED_DYN(float, values);
    const int i = blockIdx.x * 64 + threadIdx.x;
    values[threadIdx.x] = i < a.n ? a.x[i] : 0.0f;
    __syncthreads();
    if (i < a.n) a.y[i] = values[63 - threadIdx.x];
}

// The neighbour's value is read before a barrier says that it is there.
KERNEL_ENTRY void planted_missing_barrier(const Arguments a) {
    SHARED_DYN(float, values);
    const int i = blockIdx.x * 64 + threadIdx.x;
    values[threadIdx.x] = i < a.n ? a.x[i] : 0.0f;
    if (i < a.n) a.y[i] = values[63 - threadIdx.x];
}

// The second write may overtake a neighbour's read of the first.
KERNEL_ENTRY void planted_missing_second_barrier(const Arguments a) {
    SHARED_DYN(float, values);
    const int i = blockIdx.x * 64 + threadIdx.x;
    values[threadIdx.x] = i < a.n ? a.x[i] : 0.0f;
    __syncthreads();
    const float other = values[63 - threadIdx.x];
    values[threadIdx.x] = 2.0f * other;
    if (i < a.n) a.y[i] = other;
}

KERNEL_ENTRY void planted_read_past_the_end(const Arguments a) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (i <= a.n) {
        const float value = a.x[i];
        if (i < a.n || value == 1.0f) a.y[i < a.n ? i : 0] = value;
    }
}

KERNEL_ENTRY void planted_write_past_the_end(const Arguments a) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (i <= a.n) a.y[i] = i < a.n ? a.x[i] : 7.0f;
}

KERNEL_ENTRY void planted_read_before_the_start(const Arguments a) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (i < a.n) a.y[i] = a.x[i - 1];
}

// Half of the warp has returned when the other half exchanges with all of it.
KERNEL_ENTRY void planted_wrong_mask(const Arguments a) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (i >= a.n || threadIdx.x % 32 >= 16) return;
    a.y[i] = __shfl_xor_sync(ALL_LANES, a.x[i], 1);
}

// Lanes that exchange under two masks never meet.
KERNEL_ENTRY void planted_two_masks(const Arguments a) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    const unsigned mask = threadIdx.x % 2 ? ALL_LANES : 0x55555555u | 2u;
    const float other = __shfl_xor_sync(mask, i < a.n ? a.x[i] : 0.0f, 1);
    if (i < a.n) a.y[i] = other;
}

KERNEL_ENTRY void planted_divergent_barrier(const Arguments a) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (threadIdx.x < 32) __syncthreads();
    if (i < a.n) a.y[i] = a.x[i];
}

KERNEL_ENTRY void planted_two_barriers(const Arguments a) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    if (i < a.n) a.y[i] = a.x[i];
}

// n at least 256: every thread copies 16 bytes and reads them without having waited.
KERNEL_ENTRY void planted_missing_wait(const Arguments a) {
    SHARED_DYN(float, values);
    contract(a.n >= 256);
    cp_async_16(values + 4 * threadIdx.x, a.x + 4 * threadIdx.x, true);
    cp_async_commit();
    __syncthreads();
    a.y[threadIdx.x] = values[4 * threadIdx.x];
    cp_async_wait<0>();
}

// The wait leaves the last group in flight.
KERNEL_ENTRY void planted_wait_for_another_group(const Arguments a) {
    SHARED_DYN(float, values);
    contract(a.n >= 256);
    cp_async_16(values + 4 * threadIdx.x, a.x + 4 * threadIdx.x, true);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    a.y[threadIdx.x] = values[4 * threadIdx.x];
    cp_async_wait<0>();
}

KERNEL_ENTRY void planted_copy_never_waited_for(const Arguments a) {
    SHARED_DYN(float, values);
    contract(a.n >= 256);
    cp_async_16(values + 4 * threadIdx.x, a.x + 4 * threadIdx.x, true);
    cp_async_commit();
    a.y[threadIdx.x] = a.x[threadIdx.x];
}

KERNEL_ENTRY void planted_misaligned_vector(const Arguments a) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (4 * i + 4 < a.n) a.y[i] = reinterpret_cast<const float4*>(a.x + 1)[i].z;
}

KERNEL_ENTRY void planted_shared_past_the_end(const Arguments a) {
    SHARED_DYN(float, values);
    const int i = blockIdx.x * 64 + threadIdx.x;
    values[threadIdx.x + 1] = i < a.n ? a.x[i] : 0.0f;
    __syncthreads();
    if (i < a.n) a.y[i] = values[threadIdx.x];
}

KERNEL_ENTRY void planted_broken_contract(const Arguments a) {
    contract(blockDim.x == 128);
    a.y[0] = a.x[a.n - 1];
}

// Which block writes last decides.
KERNEL_ENTRY void planted_race_between_blocks(const Arguments a) {
    if (threadIdx.x == 0) a.y[0] = a.x[min(a.n - 1, static_cast<int>(blockIdx.x))];
}

KERNEL_ENTRY void planted_division_by_zero(const Arguments a) {
    a.y[threadIdx.x] = a.x[(a.n - 1) / static_cast<int>(threadIdx.x)];
}
