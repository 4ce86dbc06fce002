// A stand-in for libcuda: host memory, one GPU or several, and everything that can go wrong, for tests without a GPU.
//
// FAKE_CUDA holds settings such as "capability=75,free=1000": gpus, version, capability, free (bytes), init, load and
// fault (the codes of cuInit, of cuModuleLoadData and of the first kernel), capture (that of a recording), fill (what
// memory holds), shared (bytes of a block), maps (what encoding one gives), log (1: totals on stderr at exit).
// Kernels do nothing, unless fake_kernels was told what does them. Work is done when it is put on a stream, of which
// every thread has one, or when the graph that recorded it is launched; but for libnccl's, which its own threads do, as
// they do the whole of a graph that has some. As with CUDA, a second stream is recorded from the time on that it waits for
// one that is, and has to be waited for before the recording ends.
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long Address;

static long setting(const char* name, long otherwise) {
    const char* at = getenv("FAKE_CUDA");
    const size_t length = strlen(name);
    for (; at != NULL && *at != '\0'; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        if (strncmp(at, name, length) == 0 && at[length] == '=') return atol(at + length + 1);
    }
    return otherwise;
}

static struct {
    _Atomic long live, kernels, products, graphs, replays, changes, read, maps;
} total;

static void report(void) {
    fprintf(stderr, "fake cuda: %ld live, %ld kernels, %ld products, %ld graphs, %ld replays, %ld changes\n",
            total.live, total.kernels, total.products, total.graphs, total.replays, total.changes);
    fprintf(stderr, "fake copies: %ld bytes to the host\n", total.read);
    fprintf(stderr, "fake maps: %ld\n", total.maps);
}

// A kernel that faults leaves every later call failing.
static int fault = 0;

// ---- kernels -------------------------------------------------------------------------------------------------------

struct Kernels {
    // Handle of an entry of an image, 0 for none; the bytes of its argument struct and of its maps; a map of a tensor of
    // four dimensions; what runs it.
    uintptr_t (*find)(const void* image, const char* entry);
    size_t (*bytes)(uintptr_t kernel, unsigned argument);
    void (*encode)(void* to, uint64_t address, const uint64_t* sizes, const uint64_t* strides, const uint32_t* sides);
    int (*run)(uintptr_t kernel, const unsigned* grid, unsigned block, unsigned shared, const void* arguments,
               const void* maps);
};
static struct Kernels kernels;

void fake_kernels(const struct Kernels* table) { kernels = *table; }

// ---- streams and graphs --------------------------------------------------------------------------------------------

#define MOST 384
// A kernel, or a product of libcublasLt with its own data, or an exchange of libnccl. Maps of tensors lie at multiples of
// 128 bytes.
struct Node {
    _Alignas(128) unsigned char maps[MOST];
    _Alignas(8) unsigned char arguments[MOST];
    uintptr_t kernel;
    unsigned grid[3], block, shared;
    void (*product)(const void* data);
    void* data;
    int (*exchange)(void* data);
    void (*release)(void* data);
};
static struct Node* new_node(void) { return memset(aligned_alloc(128, sizeof(struct Node)), 0, sizeof(struct Node)); }
struct Graph {
    struct Node** nodes;
    size_t count;
    int exchanges;
    // Whether it runs, and whether it is to go when it has; under `running`.
    int runs, dies;
    struct Stream* stream;
};
static _Thread_local struct Graph* recording = NULL;
static _Thread_local struct Node* newest = NULL;

static int run(const struct Node* node) {
    if (node->exchange != NULL) return node->exchange(node->data);
    if (node->product != NULL) {
        total.products++;
        node->product(node->data);
        return 0;
    }
    total.kernels++;
    const long code = setting("fault", 0);
    if (code != 0) {
        fault = (int)code;
        return getenv("CUDA_LAUNCH_BLOCKING") ? fault : 0;
    }
    if (kernels.run == NULL) return 0;
    return kernels.run(node->kernel, node->grid, node->block, node->shared, node->arguments, node->maps);
}

// Runs a node now, or keeps it for its graph.
static int put(struct Node* node) {
    if (recording == NULL) {
        const int code = run(node);
        free(node->data);
        free(node);
        return code;
    }
    recording->nodes = realloc(recording->nodes, (recording->count + 1) * sizeof(*recording->nodes));
    recording->nodes[recording->count++] = newest = node;
    return 0;
}

// For libcublasLt: takes over `data`.
void fake_put_product(void (*product)(const void*), void* data) {
    struct Node* node = new_node();
    node->product = product, node->data = data;
    put(node);
}

// Every kernel takes one struct by value, and some a second one, of maps.
static int set_arguments(struct Node* node, void** arguments) {
    unsigned char* to[] = {node->arguments, node->maps};
    for (unsigned i = 0; i < 2; i++) {
        const size_t bytes = kernels.bytes ? kernels.bytes(node->kernel, i) : 0;
        if (bytes > MOST) return 1;
        if (bytes > 0) memcpy(to[i], arguments[i], bytes);
    }
    return 0;
}

struct Stream {
    _Atomic int pending;
    // What of this thread's work it was told to wait for.
    long waited;
    // The graph that records it, how many exchanges libnccl still owes that graph, and whether the first recorded stream
    // has yet to wait for it.
    struct Graph* graph;
    _Atomic int owed;
    int is_apart;
};
struct Event {
    long works;
    struct Stream* of;
};
// The stream whose recording began, and the one that is recorded with it.
static _Thread_local struct Stream *origin = NULL, *beside = NULL;
// Pieces of work that this thread has put on its stream.
static _Thread_local long works = 0;

// For libnccl: another thread begins and ends work of the stream.
void fake_begin(struct Stream* stream) { stream->pending++; }
void fake_end(struct Stream* stream) { stream->pending--; }

// For libnccl: whether what is put on the stream now comes after all that was put on others before.
int fake_is_ordered(const struct Stream* stream) { return stream->waited == works; }

// For libnccl: the graph that records the stream, or NULL; from then on it owes that graph one exchange.
struct Graph* fake_owes(struct Stream* stream) {
    if (stream->graph == NULL) return NULL;
    stream->owed++;
    stream->is_apart = 1;
    return stream->graph;
}

// For libnccl: its thread gives the exchange to the graph, which releases `data` when it goes.
void fake_record(struct Stream* stream, struct Graph* graph, int (*exchange)(void*), void (*release)(void*), void* data) {
    struct Node* node = new_node();
    node->exchange = exchange, node->release = release, node->data = data;
    graph->nodes = realloc(graph->nodes, (graph->count + 1) * sizeof(*graph->nodes));
    graph->nodes[graph->count++] = node;
    graph->exchanges = 1;
    stream->owed--;
}

// What is put on a stream comes after what is there.
static void wait_for(struct Stream* stream) {
    while (stream->pending > 0) sched_yield();
}

static void put_on(struct Stream* stream) {
    wait_for(stream);
    works++;
}

int cuStreamCreate(struct Stream** stream, unsigned flags) {
    *stream = calloc(1, sizeof(**stream));
    return (void)flags, 0;
}
int cuStreamDestroy_v2(struct Stream* stream) { return wait_for(stream), free(stream), fault; }
int cuStreamSynchronize(struct Stream* stream) { return wait_for(stream), recording ? 900 : fault; }
int cuStreamQuery(struct Stream* stream) { return recording ? 900 : stream->pending > 0 ? 600 : fault; }

int cuStreamBeginCapture_v2(struct Stream* stream, int mode) {
    (void)mode;
    if (setting("capture", 0) != 0) return (int)setting("capture", 0);
    recording = calloc(1, sizeof(*recording));
    origin = stream, stream->graph = recording;
    return fault;
}

int cuStreamEndCapture(struct Stream* stream, struct Graph** graph) {
    // Unjoined; invalidated.
    const int code = beside == NULL ? 0 : beside->is_apart ? 904 : beside->owed > 0 ? 901 : 0;
    if (stream != origin) return 1;
    *graph = code == 0 ? recording : NULL, recording = NULL;
    if (beside != NULL) beside->graph = NULL, beside->is_apart = 0;
    origin->graph = NULL, origin = beside = NULL;
    return code != 0 ? code : fault;
}

#ifndef WITHOUT_CAPTURE_INFO
int cuStreamGetCaptureInfo_v3(void* stream, int* status, void* id, void* graph, struct Node*** nodes, void* edges,
                              size_t* count) {
    (void)stream, (void)id, (void)graph, (void)edges;
    *status = recording != NULL, *nodes = &newest, *count = 1;
    return fault;
}
#endif

int cuGraphInstantiateWithFlags(struct Graph** ready, struct Graph* graph, unsigned long long flags) {
    (void)flags;
    total.graphs++;
    *ready = graph;
    return fault;
}

static pthread_mutex_t running = PTHREAD_MUTEX_INITIALIZER;

static int run_all(struct Graph* graph) {
    for (size_t i = 0; i < graph->count && fault == 0; i++) {
        const int code = run(graph->nodes[i]);
        if (code != 0) return code;
    }
    return 0;
}

static void release(struct Graph* graph) {
    for (size_t i = 0; i < graph->count; i++) {
        struct Node* node = graph->nodes[i];
        if (node->release != NULL) node->release(node->data);
        else free(node->data);
        free(node);
    }
    free(graph->nodes), free(graph);
}

static void* run_beside(void* of) {
    struct Graph* graph = of;
    struct Stream* stream = graph->stream;
    const int code = run_all(graph);
    if (code != 0 && fault == 0) fault = code;
    pthread_mutex_lock(&running);
    graph->runs = 0;
    if (graph->dies) release(graph);
    pthread_mutex_unlock(&running);
    stream->pending--;
    return NULL;
}

int cuGraphLaunch(struct Graph* graph, struct Stream* stream) {
    put_on(stream);
    total.replays++;
    if (!graph->exchanges) return run_all(graph);
    pthread_t thread;
    graph->stream = stream, graph->runs = 1;
    stream->pending++;
    if (pthread_create(&thread, NULL, run_beside, graph) != 0) return 999;
    return pthread_detach(thread), 0;
}

int cuGraphExecDestroy(struct Graph* graph) { return (void)graph, 0; }

// One that runs goes when it has.
int cuGraphDestroy(struct Graph* graph) {
    pthread_mutex_lock(&running);
    graph->dies = 1;
    if (!graph->runs) release(graph);
    pthread_mutex_unlock(&running);
    return 0;
}

// CUDA_KERNEL_NODE_PARAMS_v2.
struct Parameters {
    uintptr_t kernel;
    unsigned grid[3], block[3], shared;
    void** arguments;
    void **extra, *kern, *context;
};

int cuGraphExecKernelNodeSetParams_v2(struct Graph* graph, struct Node* node, const struct Parameters* to) {
    size_t at = 0;
    while (at < graph->count && graph->nodes[at] != node) at++;
    if (at == graph->count || node->product != NULL || node->exchange != NULL || graph->runs) return 1;
    total.changes++;
    node->kernel = to->kernel, node->block = to->block[0], node->shared = to->shared;
    memcpy(node->grid, to->grid, sizeof(node->grid));
    return set_arguments(node, to->arguments) != 0 ? 1 : fault;
}

// ---- driver, devices, context --------------------------------------------------------------------------------------

int cuDriverGetVersion(int* version) { return *version = (int)setting("version", 13000), 0; }

int cuInit(unsigned flags) {
    (void)flags;
    if (setting("log", 0)) atexit(report);
    const char* visible = getenv("CUDA_VISIBLE_DEVICES");
    if (setting("gpus", 1) == 0 || (visible != NULL && atoi(visible) >= setting("gpus", 1))) return 100;
    return (int)setting("init", 0);
}

int cuDeviceGetCount(int* count) { return *count = (int)setting("gpus", 1), 0; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, 0; }

int cuDeviceGetName(char* name, int length, int device) {
    snprintf(name, (size_t)length, "Fake GPU %d", device);
    return 0;
}

// 00112233-4455-6677-8899-aabbccddee0N for GPU N.
int cuDeviceGetUuid_v2(unsigned char* uuid, int device) {
    for (int i = 0; i < 15; i++) uuid[i] = (unsigned char)(0x11 * i);
    uuid[15] = (unsigned char)device;
    return 0;
}

int cuDeviceTotalMem_v2(size_t* bytes, int device) { return *bytes = 4ull << 30, (void)device, 0; }

int cuDeviceGetAttribute(int* value, int attribute, int device) {
    (void)device;
    const long capability = setting("capability", 90);
    switch (attribute) {
        case 75: *value = (int)(capability / 10); break;   // compute capability, major
        case 76: *value = (int)(capability % 10); break;   // and minor
        case 16: *value = 4; break;                        // multiprocessors
        case 97: *value = (int)setting("shared", 227 << 10); break;  // shared memory of a block
        default: return 1;
    }
    return 0;
}

int cuDevicePrimaryCtxRetain(void** context, int device) { return *context = (void*)1, (void)device, 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return (void)device, 0; }
int cuCtxSetCurrent(void* context) { return (void)context, 0; }

int cuGetErrorString(int code, const char** text) { return (void)code, *text = "an error", 0; }

// ---- memory --------------------------------------------------------------------------------------------------------

// Every piece begins with its size.
#define HEADER 256

static size_t available(void) { return (size_t)setting("free", 4l << 30); }

int cuMemAlloc_v2(Address* address, size_t bytes) {
    if (recording != NULL) return 900;
    if (total.live + bytes > available()) return 2;
    char* piece = aligned_alloc(HEADER, HEADER + (bytes + HEADER - 1) / HEADER * HEADER);
    memset(piece, (int)setting("fill", 0xff), HEADER + bytes);
    memcpy(piece, &bytes, sizeof(bytes));
    *address = (Address)(uintptr_t)(piece + HEADER);
    total.live += (long)bytes;
    return fault;
}

int cuMemFree_v2(Address address) {
    char* piece = (char*)(uintptr_t)address - HEADER;
    size_t bytes;
    memcpy(&bytes, piece, sizeof(bytes));
    total.live -= (long)bytes;
    free(piece);
    return fault;
}

int cuMemGetInfo_v2(size_t* unused, size_t* all) {
    *unused = available() - (size_t)total.live, *all = 4ull << 30;
    return fault;
}

int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, struct Stream* stream) {
    put_on(stream);
    if (recording != NULL) return 900;
    memcpy((void*)(uintptr_t)to, from, bytes);
    return fault;
}

int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, struct Stream* stream) {
    put_on(stream);
    if (recording != NULL) return 900;
    memcpy(to, (const void*)(uintptr_t)from, bytes);
    total.read += (long)bytes;
    return fault;
}

int cuMemsetD8Async(Address to, unsigned char value, size_t bytes, struct Stream* stream) {
    put_on(stream);
    if (recording != NULL) return 900;
    memset((void*)(uintptr_t)to, value, bytes);
    return fault;
}

// ---- maps of tensors -----------------------------------------------------------------------------------------------

// Takes what the driver takes, of bf16 in four dimensions with a swizzle of 128 bytes, which is all that is asked for.
int cuTensorMapEncodeTiled(void* map, int type, unsigned rank, void* address, const uint64_t* sizes,
                           const uint64_t* strides, const uint32_t* sides, const uint32_t* steps, int interleave,
                           int swizzle, int promotion, int fill) {
    if (setting("maps", 0) != 0) return (int)setting("maps", 0);
    if (type != 9 || rank != 4 || interleave != 0 || swizzle != 3 || promotion < 0 || promotion > 3 || fill != 0) return 1;
    if ((uintptr_t)map % 64 != 0 || address == NULL || (uintptr_t)address % 16 != 0) return 1;
    for (unsigned i = 0; i < rank; i++) {
        if (sizes[i] == 0 || sizes[i] > 1ull << 32 || sides[i] == 0 || sides[i] > 256 || steps[i] != 1) return 1;
        if (i > 0 && (strides[i - 1] % 16 != 0 || strides[i - 1] >= 1ull << 40)) return 1;
    }
    // A row of a box is whole pieces of 16 bytes, and no longer than the swizzle's pattern.
    if (sides[0] * 2 % 16 != 0 || sides[0] * 2 > 128) return 1;
    memset(map, 0, 128);
    if (kernels.encode != NULL) kernels.encode(map, (uint64_t)(uintptr_t)address, sizes, strides, sides);
    total.maps++;
    return fault;
}

// ---- modules, launches, events -------------------------------------------------------------------------------------

int cuModuleLoadData(const void** module, const void* image) {
    *module = image;
    return (uintptr_t)image % 8 == 0 ? (int)setting("load", 0) : 200;
}

int cuModuleUnload(void* module) { return (void)module, 0; }

int cuModuleGetFunction(uintptr_t* function, const void* module, const char* entry) {
    *function = kernels.find ? kernels.find(module, entry) : 1;
    return *function == 0 ? 500 : 0;
}

int cuFuncSetAttribute(uintptr_t function, int attribute, int value) {
    return (void)function, attribute == 8 && value <= 227 << 10 ? 0 : 1;
}

int cuLaunchKernel(uintptr_t kernel, unsigned x, unsigned y, unsigned z, unsigned block, unsigned block_y,
                   unsigned block_z, unsigned shared, struct Stream* stream, void** arguments, void** extra) {
    put_on(stream), (void)extra;
    if (fault != 0) return fault;
    if (x == 0 || y == 0 || z == 0 || y > 65535 || z > 65535 || block_y != 1 || block_z != 1 || block > 1024) return 1;
    struct Node* node = new_node();
    node->kernel = kernel, node->block = block, node->shared = shared;
    node->grid[0] = x, node->grid[1] = y, node->grid[2] = z;
    return set_arguments(node, arguments) != 0 ? 1 : put(node);
}

int cuEventCreate(struct Event** event, unsigned flags) {
    *event = calloc(1, sizeof(**event));
    return (void)flags, 0;
}
int cuEventRecord(struct Event* event, struct Stream* stream) {
    event->works = works, event->of = stream;
    return fault;
}
int cuStreamWaitEvent(struct Stream* stream, const struct Event* event, unsigned flags) {
    stream->waited = event->works;
    if (stream == origin && event->of == beside && beside != NULL) beside->is_apart = 0;
    if (origin != NULL && event->of == origin && stream != origin) beside = stream, stream->graph = recording;
    return (void)flags, fault;
}
int cuEventElapsedTime_v2(float* ms, void* start, void* end) { return *ms = 1.0f, (void)start, (void)end, fault; }
int cuEventDestroy_v2(struct Event* event) { return free(event), 0; }
