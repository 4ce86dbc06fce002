// A stand-in for libnccl: ranks, which may be threads or processes, sum and broadcast over shared memory, in their order.
// A call returns at once, as those of a communicator that does not block, and its work is done by a thread.
//
// FAKE_NCCL holds settings such as "version=21304,rank=1,die=3": version; rank (the one that misbehaves), which at its
// n-th call counted from 1 is killed (die), does nothing more (hang) or says one element less (short); log (1: what was
// done on stderr at the end).
// What NCCL leaves undefined is refused here: calls that differ by rank in kind, type, size, root or order, a second
// stream or one that does not wait for what was launched, a call before the last one is on the stream, the end of a group
// that did not start.
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

// Of the stand-in for libcuda: a stream has work that another thread does, and then has not.
void fake_begin(void* stream);
void fake_end(void* stream);
// Whether what is put on the stream comes after all that this thread has put on others.
int fake_is_ordered(const void* stream);

enum { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, IN_PROGRESS = 7 };
enum { FLOAT = 7, BFLOAT16 = 9, SUM = 0 };

#define RANKS 16
#define PIECE (1 << 16)
#define QUEUE 64

static long setting(const char* name, long otherwise) {
    const char* at = getenv("FAKE_NCCL");
    const size_t length = strlen(name);
    for (; at != NULL && *at != '\0'; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        if (strncmp(at, name, length) == 0 && at[length] == '=') return atol(at + length + 1);
    }
    return otherwise;
}

// ---- what ranks share ----------------------------------------------------------------------------------------------

struct Call {
    enum { ALL_REDUCE, BROADCAST } kind;
    int type, root;
    size_t count;
};
struct Shared {
    _Atomic int came[RANKS];
    _Atomic int broken;
    _Atomic long arrived[RANKS];
    struct Call calls[RANKS];
    char pieces[RANKS][PIECE];
};
struct Id {
    char name[128];
};
struct Work {
    struct Call call;
    const char* from;
    char* to;
};
struct Comm {
    struct Shared* shared;
    struct Id id;
    int rank, size;
    void* stream;
    _Atomic int state, aborted, ended;
    long turn, calls, sums, broadcasts, bytes;
    pthread_t worker;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct Work queue[QUEUE];
    int queued;
};

static _Thread_local int groups = 0;
static char said[256] = "";

static int refuse(const char* why) {
    snprintf(said, sizeof(said), "%s", why);
    return INVALID_USAGE;
}

static void pause_a_moment(long turn) {
    const struct timespec moment = {0, 50000};
    if (turn < 200) sched_yield();
    else nanosleep(&moment, NULL);
}

// Whether all ranks have come here; not if one of them is known never to.
static int all_here(struct Comm* comm) {
    const long turn = ++comm->turn;
    comm->shared->arrived[comm->rank] = turn;
    for (int rank = 0; rank < comm->size; rank++) {
        for (long i = 0; comm->shared->arrived[rank] < turn; i++) {
            if (comm->aborted || comm->shared->broken) return 0;
            pause_a_moment(i);
        }
    }
    return 1;
}

// ---- the work ------------------------------------------------------------------------------------------------------

static float get(const char* x, int type, size_t i) {
    float value;
    uint32_t bits;
    if (type == FLOAT) return memcpy(&value, x + 4 * i, 4), value;
    bits = (uint32_t)((const uint16_t*)x)[i] << 16;
    return memcpy(&value, &bits, 4), value;
}

static void set(char* x, int type, size_t i, float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if (type == FLOAT) memcpy(x + 4 * i, &bits, 4);
    else ((uint16_t*)x)[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void misbehave(struct Comm* comm, struct Call* call) {
    comm->calls++;
    if (comm->rank != setting("rank", 1)) return;
    if (comm->calls == setting("die", 0)) kill(getpid(), SIGKILL);
    while (comm->calls == setting("hang", 0) && !comm->aborted) pause_a_moment(200);
    if (comm->calls == setting("short", 0)) call->count--;
}

static int same_call(struct Comm* comm) {
    static const char* NAMES[] = {"all-reduce", "broadcast"};
    for (int rank = 1; rank < comm->size; rank++) {
        const struct Call *a = &comm->shared->calls[0], *b = &comm->shared->calls[rank];
        if (a->kind == b->kind && a->type == b->type && a->root == b->root && a->count == b->count) continue;
        snprintf(said, sizeof(said), "rank 0 calls %s of %zu elements of type %d, and rank %d %s of %zu of type %d",
                 NAMES[a->kind], a->count, a->type, rank, NAMES[b->kind], b->count, b->type);
        return 0;
    }
    return 1;
}

static int work(struct Comm* comm, struct Work* work) {
    struct Call call = work->call;
    const size_t width = call.type == FLOAT ? 4 : 2;
    misbehave(comm, &call);
    comm->shared->calls[comm->rank] = call;
    if (!all_here(comm)) return SYSTEM_ERROR;
    if (!same_call(comm)) {
        comm->shared->broken = 1;
        return INVALID_USAGE;
    }
    for (size_t at = 0; at < call.count * width; at += PIECE) {
        const size_t bytes = call.count * width - at < PIECE ? call.count * width - at : PIECE;
        memcpy(comm->shared->pieces[comm->rank], work->from + at, bytes);
        if (!all_here(comm)) return SYSTEM_ERROR;
        if (call.kind == BROADCAST) memcpy(work->to + at, comm->shared->pieces[call.root], bytes);
        for (size_t i = 0; call.kind == ALL_REDUCE && i < bytes / width; i++) {
            set(work->to + at, call.type, i, get(comm->shared->pieces[0], call.type, i));
            for (int rank = 1; rank < comm->size; rank++) {
                const float sum = get(work->to + at, call.type, i) + get(comm->shared->pieces[rank], call.type, i);
                set(work->to + at, call.type, i, sum);
            }
        }
        if (!all_here(comm)) return SYSTEM_ERROR;
    }
    comm->sums += call.kind == ALL_REDUCE, comm->broadcasts += call.kind == BROADCAST;
    comm->bytes += (long)(call.count * width);
    return SUCCESS;
}

static void* attach(struct Comm* comm) {
    const int file = shm_open(comm->id.name, O_CREAT | O_RDWR, 0600);
    if (file < 0 || ftruncate(file, sizeof(struct Shared)) != 0) return NULL;
    void* at = mmap(NULL, sizeof(struct Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return at == MAP_FAILED ? NULL : at;
}

static int meet(struct Comm* comm) {
    comm->shared = attach(comm);
    if (comm->shared == NULL || atomic_exchange(&comm->shared->came[comm->rank], 1) != 0) {
        snprintf(said, sizeof(said), "rank %d cannot attach, or was there before", comm->rank);
        return SYSTEM_ERROR;
    }
    const int met = all_here(comm);
    if (comm->rank == 0) shm_unlink(comm->id.name);
    return met ? SUCCESS : SYSTEM_ERROR;
}

static void* run(void* of) {
    struct Comm* comm = of;
    comm->state = meet(comm);
    while (comm->state != SYSTEM_ERROR) {
        pthread_mutex_lock(&comm->lock);
        while (comm->queued == 0 && !comm->ended && !comm->aborted) pthread_cond_wait(&comm->more, &comm->lock);
        const int ends = comm->aborted || comm->queued == 0;
        if (ends) pthread_mutex_unlock(&comm->lock);
        if (ends) return NULL;
        struct Work next = comm->queue[0];
        memmove(comm->queue, comm->queue + 1, (size_t)--comm->queued * sizeof(next));
        // Only now the stream has it, as with a communicator that is still connecting.
        fake_begin(comm->stream);
        if (comm->queued == 0) comm->state = SUCCESS;
        pthread_mutex_unlock(&comm->lock);
        const int state = work(comm, &next);
        if (state != SUCCESS) comm->state = state;
        fake_end(comm->stream);
        if (state != SUCCESS) return NULL;
    }
    return NULL;
}

// ---- the API -------------------------------------------------------------------------------------------------------

// The beginning of ncclConfig_t, as of 2.14.
struct Config {
    size_t size;
    unsigned magic, version;
    int blocking;
};

int ncclCommInitRankConfig(struct Comm** made, int size, struct Id id, int rank, const struct Config* config) {
    *made = NULL;
    if (size < 1 || size > RANKS || rank < 0 || rank >= size) return INVALID_ARGUMENT;
    if (config->magic != 0xcafebeef || config->size < 20 || config->version < 21400) return INVALID_ARGUMENT;
    if (config->blocking != 0) return refuse("a communicator that blocks");
    struct Comm* comm = calloc(1, sizeof(*comm));
    comm->id = id, comm->rank = rank, comm->size = size, comm->state = IN_PROGRESS;
    pthread_mutex_init(&comm->lock, NULL), pthread_cond_init(&comm->more, NULL);
    if (setting("log", 0)) {
        const char *algorithm = getenv("NCCL_ALGO"), *protocol = getenv("NCCL_PROTO");
        fprintf(stderr, "fake nccl: rank %d of %d, %s, %s\n", rank, size, algorithm ? algorithm : "none",
                protocol ? protocol : "none");
    }
    if (pthread_create(&comm->worker, NULL, run, comm) != 0) return SYSTEM_ERROR;
    *made = comm;
    return IN_PROGRESS;
}

int ncclGetVersion(int* version) { return *version = (int)setting("version", 22809), SUCCESS; }

int ncclGetUniqueId(struct Id* id) {
    static _Atomic int made = 0;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    memset(id, 0, sizeof(*id));
    snprintf(id->name, sizeof(id->name), "/fake-nccl-%d-%d-%ld", (int)getpid(), made++, now.tv_nsec);
    return SUCCESS;
}

const char* ncclGetLastError(const struct Comm* comm) { return (void)comm, said; }

int ncclCommGetAsyncError(struct Comm* comm, int* state) {
    if (comm == NULL) return INVALID_ARGUMENT;
    *state = comm->state;
    return SUCCESS;
}

int ncclCommAbort(struct Comm* comm) {
    pthread_mutex_lock(&comm->lock);
    comm->ended = 1;
    // What is given up half-way is not waited for.
    const int whole = comm->turn > 0 && comm->queued == 0 && comm->calls == comm->sums + comm->broadcasts;
    comm->aborted = !whole || comm->state != SUCCESS;
    pthread_cond_signal(&comm->more);
    pthread_mutex_unlock(&comm->lock);
    pthread_join(comm->worker, NULL);
    if (setting("log", 0)) {
        fprintf(stderr, "fake nccl: rank %d %s after %ld sums, %ld broadcasts, %ld bytes\n", comm->rank,
                comm->aborted ? "gives up" : "ends", comm->sums, comm->broadcasts, comm->bytes);
    }
    if (comm->shared != NULL) munmap(comm->shared, sizeof(*comm->shared));
    free(comm);
    return SUCCESS;
}

int ncclGroupStart(void) { return groups++, SUCCESS; }
int ncclGroupEnd(void) { return groups == 0 ? refuse("a group that did not start") : (groups--, IN_PROGRESS); }

static int put(struct Comm* comm, struct Work work, void* stream) {
    const int free = comm->state == SUCCESS || (groups > 0 && comm->state == IN_PROGRESS);
    if (!free) return refuse("a call in the midst of another");
    if (work.call.type != FLOAT && work.call.type != BFLOAT16) return refuse("elements of another type");
    if (work.from == NULL || work.to == NULL || work.call.count == 0) return INVALID_ARGUMENT;
    if (stream == NULL || (comm->stream != NULL && comm->stream != stream)) return refuse("another stream than before");
    if (!fake_is_ordered(stream)) return refuse("a stream that does not wait for what it is given");
    pthread_mutex_lock(&comm->lock);
    const int fits = comm->queued < QUEUE;
    if (fits) {
        comm->stream = stream, comm->state = IN_PROGRESS;
        comm->queue[comm->queued++] = work;
        pthread_cond_signal(&comm->more);
    }
    pthread_mutex_unlock(&comm->lock);
    return fits ? IN_PROGRESS : refuse("too many calls in a group");
}

int ncclAllReduce(const void* from, void* to, size_t count, int type, int operation, struct Comm* comm, void* stream) {
    if (operation != SUM) return refuse("another operation than a sum");
    return put(comm, (struct Work){{ALL_REDUCE, type, 0, count}, from, to}, stream);
}

int ncclBroadcast(const void* from, void* to, size_t count, int type, int root, struct Comm* comm, void* stream) {
    if (root < 0 || root >= comm->size) return INVALID_ARGUMENT;
    return put(comm, (struct Work){{BROADCAST, type, root, count}, from, to}, stream);
}
