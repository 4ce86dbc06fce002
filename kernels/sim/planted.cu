// Kernels with one planted fault each, which the simulator must name: its own tests, in debug builds only.
#include "../common.cuh"

// launch: grid [n / 64], block 64, shared 64 floats
KERNEL_ENTRY void planted_none(float* y, const float* x, int n) {
    SHARED_DYN(float, values);
    const int i = blockIdx.x * 64 + threadIdx.x;
    values[threadIdx.x] = i < n ? x[i] : 0.0f;
    __syncthreads();
    if (i < n) y[i] = values[63 - threadIdx.x];
}

// The neighbour's value is read before a barrier says that it is there.
KERNEL_ENTRY void planted_missing_barrier(float* y, const float* x, int n) {
    SHARED_DYN(float, values);
    const int i = blockIdx.x * 64 + threadIdx.x;
    values[threadIdx.x] = i < n ? x[i] : 0.0f;
    if (i < n) y[i] = values[63 - threadIdx.x];
}

// The second write may overtake a neighbour's read of the first.
KERNEL_ENTRY void planted_missing_second_barrier(float* y, const float* x, int n) {
    SHARED_DYN(float, values);
    const int i = blockIdx.x * 64 + threadIdx.x;
    values[threadIdx.x] = i < n ? x[i] : 0.0f;
    __syncthreads();
    const float other = values[63 - threadIdx.x];
    values[threadIdx.x] = 2.0f * other;
    if (i < n) y[i] = other;
}

KERNEL_ENTRY void planted_read_past_the_end(float* y, const float* x, int n) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (i <= n) {
        const float value = x[i];
        if (i < n || value == 1.0f) y[i < n ? i : 0] = value;
    }
}

KERNEL_ENTRY void planted_write_past_the_end(float* y, const float* x, int n) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (i <= n) y[i] = i < n ? x[i] : 7.0f;
}

KERNEL_ENTRY void planted_read_before_the_start(float* y, const float* x, int n) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (i < n) y[i] = x[i - 1];
}

// Half of the warp has returned when the other half exchanges with all of it.
KERNEL_ENTRY void planted_wrong_mask(float* y, const float* x, int n) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (i >= n || threadIdx.x % 32 >= 16) return;
    y[i] = __shfl_xor_sync(ALL_LANES, x[i], 1);
}

// Lanes that exchange under two masks never meet.
KERNEL_ENTRY void planted_two_masks(float* y, const float* x, int n) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    const unsigned mask = threadIdx.x % 2 ? ALL_LANES : 0x55555555u | 2u;
    const float other = __shfl_xor_sync(mask, i < n ? x[i] : 0.0f, 1);
    if (i < n) y[i] = other;
}

KERNEL_ENTRY void planted_divergent_barrier(float* y, const float* x, int n) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (threadIdx.x < 32) __syncthreads();
    if (i < n) y[i] = x[i];
}

KERNEL_ENTRY void planted_two_barriers(float* y, const float* x, int n) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    if (i < n) y[i] = x[i];
}

// n at least 256: every thread copies 16 bytes and reads them without having waited.
KERNEL_ENTRY void planted_missing_wait(float* y, const float* x, int n) {
    SHARED_DYN(float, values);
    contract(n >= 256);
    cp_async_16(values + 4 * threadIdx.x, x + 4 * threadIdx.x, true);
    cp_async_commit();
    __syncthreads();
    y[threadIdx.x] = values[4 * threadIdx.x];
    cp_async_wait<0>();
}

// The wait leaves the last group in flight.
KERNEL_ENTRY void planted_wait_for_another_group(float* y, const float* x, int n) {
    SHARED_DYN(float, values);
    contract(n >= 256);
    cp_async_16(values + 4 * threadIdx.x, x + 4 * threadIdx.x, true);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    y[threadIdx.x] = values[4 * threadIdx.x];
    cp_async_wait<0>();
}

KERNEL_ENTRY void planted_copy_never_waited_for(float* y, const float* x, int n) {
    SHARED_DYN(float, values);
    contract(n >= 256);
    cp_async_16(values + 4 * threadIdx.x, x + 4 * threadIdx.x, true);
    cp_async_commit();
    y[threadIdx.x] = x[threadIdx.x];
}

KERNEL_ENTRY void planted_misaligned_vector(float* y, const float* x, int n) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    if (4 * i + 4 < n) y[i] = reinterpret_cast<const float4*>(x + 1)[i].z;
}

KERNEL_ENTRY void planted_shared_past_the_end(float* y, const float* x, int n) {
    SHARED_DYN(float, values);
    const int i = blockIdx.x * 64 + threadIdx.x;
    values[threadIdx.x + 1] = i < n ? x[i] : 0.0f;
    __syncthreads();
    if (i < n) y[i] = values[threadIdx.x];
}

KERNEL_ENTRY void planted_broken_contract(float* y, const float* x, int n) {
    contract(blockDim.x == 128);
    y[0] = x[n - 1];
}

// Which block writes last decides.
KERNEL_ENTRY void planted_race_between_blocks(float* y, const float* x, int n) {
    if (threadIdx.x == 0) y[0] = x[min(n - 1, static_cast<int>(blockIdx.x))];
}

KERNEL_ENTRY void planted_division_by_zero(float* y, const float* x, int n) {
    y[threadIdx.x] = x[(n - 1) / static_cast<int>(threadIdx.x)];
}
