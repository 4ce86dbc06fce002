// A stand-in for libnvidia-ml.so.1: GPUs that draw a known power, each with a sensor that fails in its own way.
//
// GPU N has the UUID 00000000-0000-0000-0000-00000000000N. Its counter moves every 20 ms. SCRIPTED and HESITANT run the
// script that they were compiled with, {watts, seconds} again and again since 1970, under a counter of 100 ms. On the last
// four, other processes compute.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    GPU_IS_LOST = 15
};

// As in tests/energy/main.rs.
enum { STEADY, NO_COUNTER, FORBIDDEN, LOST, BACKWARDS, STALLED, NO_POWER, PART, NOISY, FALSE_COUNTER, VANISHING, SCRIPTED, HESITANT, SHARED, RESTING, HIDDEN, HOT, GPUS };

static const double WATTS = 80.0, UPDATE = 0.02;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// When the GPU's counter was first read, for faults that come later.
static double since_first_reading(intptr_t gpu) {
    static double first[GPUS];
    if (first[gpu] == 0.0) first[gpu] = now();
    return now() - first[gpu];
}

static const double SCRIPT_OF[][2] = {SCRIPT};
enum { PHASES = sizeof SCRIPT_OF / sizeof SCRIPT_OF[0] };
static const double SCRIPT_UPDATE = 0.1;

// Seconds since 1970, which the test can know as well.
static double wall(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Joules that the script has drawn at `time`.
static double drawn(double time) {
    double cycle = 0.0, whole = 0.0;
    for (int i = 0; i < PHASES; i++) cycle += SCRIPT_OF[i][1], whole += SCRIPT_OF[i][0] * SCRIPT_OF[i][1];
    double joules = floor(time / cycle) * whole, left = fmod(time, cycle);
    for (int i = 0; i < PHASES && left > 0.0; i++) {
        joules += SCRIPT_OF[i][0] * fmin(left, SCRIPT_OF[i][1]);
        left -= SCRIPT_OF[i][1];
    }
    return joules;
}

static double scripted(intptr_t gpu) {
    double time = wall();
    // Stands still for the first 0.4 s of every 2 s.
    if (gpu == HESITANT && fmod(time, 2.0) < 0.4) time -= fmod(time, 2.0);
    return drawn(floor(time / SCRIPT_UPDATE) * SCRIPT_UPDATE);
}

// Handles are never null.
static intptr_t gpu_of(void* device) { return (intptr_t)device - 1; }

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
    if (index >= GPUS) return INVALID_ARGUMENT;
    *device = (void*)((intptr_t)index + 1);
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
    int gpu;
    if (sscanf(uuid + 4, "00000000-0000-0000-0000-%12d", &gpu) != 1) return NOT_FOUND;
    const char* kind = gpu == PART ? "MIG-" : "GPU-";
    return strncmp(uuid, kind, 4) == 0 ? nvmlDeviceGetHandleByIndex_v2((unsigned)gpu, device) : NOT_FOUND;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void* part, void** whole) {
    (void)part;
    return nvmlDeviceGetHandleByIndex_v2(STEADY, whole);
}

int nvmlDeviceGetUUID(void* device, char* uuid, unsigned length) {
    const intptr_t gpu = gpu_of(device);
    snprintf(uuid, length, "%s00000000-0000-0000-0000-%012d", gpu == PART ? "MIG-" : "GPU-", (int)gpu);
    return SUCCESS;
}

int nvmlDeviceGetIndex(void* device, unsigned* index) { return *index = (unsigned)gpu_of(device), SUCCESS; }

int nvmlDeviceGetName(void* device, char* name, unsigned length) {
    snprintf(name, length, "Fake GPU %d", (int)gpu_of(device));
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* millijoules) {
    intptr_t gpu = gpu_of(device);
    double passed = since_first_reading(gpu), watts = WATTS;
    switch (gpu) {
    case NO_COUNTER: return NOT_SUPPORTED;
    case FORBIDDEN: return NO_PERMISSION;
    case LOST: case VANISHING: if (passed > 0.4) return GPU_IS_LOST; break;
    case BACKWARDS: if (passed > 0.4) passed -= 0.4; break;
    case STALLED: passed = 0.0; break;
    case FALSE_COUNTER: watts *= 0.5; break;
    case SCRIPTED: case HESITANT: return *millijoules = (unsigned long long)(1e3 * scripted(gpu)), SUCCESS;
    }
    *millijoules = (unsigned long long)(1e3 * watts * UPDATE) * (unsigned long long)(passed / UPDATE + 100.0);
    return SUCCESS;
}

static unsigned milliwatts(intptr_t gpu) {
    static unsigned turn = 0;
    double noise = gpu == NOISY ? (turn++ % 2 ? 0.2 : -0.2) : 0.0;
    return (unsigned)(1e3 * WATTS * (1.0 + noise));
}

int nvmlDeviceGetPowerUsage(void* device, unsigned* power) {
    if (gpu_of(device) == NO_POWER) return NOT_SUPPORTED;
    *power = milliwatts(gpu_of(device));
    return SUCCESS;
}

struct field {
    unsigned id, scope;
    long long timestamp, latency;
    unsigned type, status;
    union { double d; unsigned u; unsigned long long l; } value;
};

int nvmlDeviceGetFieldValues(void* device, int count, struct field* fields) {
    for (int i = 0; i < count; i++) {
        // 186 is the power now; this GPU has no average (185).
        fields[i].status = fields[i].id == 186 && gpu_of(device) != NO_POWER ? SUCCESS : NOT_SUPPORTED;
        fields[i].type = 1;
        fields[i].value.u = fields[i].id == 186 ? milliwatts(gpu_of(device)) : 0;
    }
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void* device, unsigned rates[2]) {
    (void)device;
    return rates[0] = 75, rates[1] = 20, SUCCESS;
}

struct memory { unsigned version; unsigned long long total, reserved, free, used; };

int nvmlDeviceGetMemoryInfo_v2(void* device, struct memory* memory) {
    (void)device;
    memory->total = 1ull << 30, memory->used = 1ull << 28, memory->free = 3ull << 28, memory->reserved = 0;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(void* device, int sensor, unsigned* celsius) {
    (void)device, (void)sensor;
    return *celsius = 61, SUCCESS;
}

int nvmlDeviceGetClockInfo(void* device, int clock, unsigned* megahertz) {
    (void)device;
    return *megahertz = clock == 1 ? 1500 : 2600, SUCCESS;
}

int nvmlDeviceGetMaxClockInfo(void* device, int clock, unsigned* megahertz) {
    (void)device;
    return *megahertz = clock == 1 ? 1980 : 2619, SUCCESS;
}

// The noisy one was set to less than it comes with.
int nvmlDeviceGetEnforcedPowerLimit(void* device, unsigned* milliwatts) {
    return *milliwatts = gpu_of(device) == NOISY ? 400000 : 700000, SUCCESS;
}

int nvmlDeviceGetPowerManagementDefaultLimit(void* device, unsigned* milliwatts) {
    (void)device;
    return *milliwatts = 700000, SUCCESS;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void* device, unsigned long long* reasons) {
    // The power limit, and the thermal slowdown of the hardware.
    return *reasons = gpu_of(device) == NOISY ? 4 : gpu_of(device) == HOT ? 0x40 : 0, SUCCESS;
}

struct process { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; };

// This process, but on HIDDEN by a number that it does not know, and on three GPUs two more.
int nvmlDeviceGetComputeRunningProcesses_v3(void* device, unsigned* count, struct process* processes) {
    intptr_t gpu = gpu_of(device);
    unsigned all = gpu == SHARED || gpu == RESTING || gpu == HIDDEN ? 3 : 1, room = *count;
    *count = all;
    if (room < all || !processes) return INSUFFICIENT_SIZE;
    memset(processes, 0, all * sizeof *processes);
    processes[0].pid = gpu == HIDDEN ? 4000001u : (unsigned)getpid();
    for (unsigned i = 1; i < all; i++) processes[i].pid = 4000001u + i;
    return SUCCESS;
}

struct utilisation { unsigned pid; unsigned long long timestamp; unsigned sm, memory, encoder, decoder; };

// This process 50 %; the others 30 % and 10 % on SHARED, and nothing on RESTING, where only this one is told.
int nvmlDeviceGetProcessUtilization(void* device, struct utilisation* samples, unsigned* count, unsigned long long since) {
    intptr_t gpu = gpu_of(device);
    unsigned all = gpu == SHARED ? 3 : 1, room = *count;
    if (gpu != SHARED && gpu != RESTING) return NOT_SUPPORTED;
    *count = all;
    if (room < all || !samples) return INSUFFICIENT_SIZE;
    memset(samples, 0, all * sizeof *samples);
    for (unsigned i = 0; i < all; i++) {
        samples[i].pid = i == 0 ? (unsigned)getpid() : 4000001u + i;
        samples[i].timestamp = since + 100000;
        samples[i].sm = i == 0 ? 50 : i == 1 ? 30 : 10;
    }
    return SUCCESS;
}
