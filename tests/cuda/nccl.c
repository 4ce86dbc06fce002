// A stand-in for libnccl: ranks, which may be threads or processes, sum and broadcast over shared memory, in their order.
// A call returns at once, as those of a communicator that does not block, and its work is done by a thread.
//
// FAKE_NCCL holds settings such as "version=21304,rank=1,die=3": version; rank (the one that misbehaves), which at its
// n-th call counted from 1 is killed (die), does nothing more (hang) or says one element less (short); log (1: what was
// done on stderr at the end).
// What NCCL leaves undefined is refused here: calls that differ by rank in kind, type, size, root or order, a second
// stream or one that does not wait for what was launched, a call before the last one is on the stream, the end of a group
// that did not start, an exchange that some record and others do or that they recorded at different times, and the end of a
// communicator that graphs still have.
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
// The graph that records the stream, to which one exchange is owed then, and its delivery.
void* fake_owes(void* stream);
void fake_record(void* stream, void* graph, int (*exchange)(void*), void (*release)(void*), void* data);

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
    enum { ALL_REDUCE, REDUCE, BROADCAST } kind;
    int type, root;
    size_t count;
    // Which of those that were recorded, from 1; 0 if it was not.
    long recorded;
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
    // Where it is to be recorded, and whether it is one that was, of which somebody waits for the end.
    void* graph;
    _Atomic int* ends;
};
struct Comm {
    struct Shared* shared;
    struct Id id;
    int rank, size;
    void* stream;
    _Atomic int state, aborted, ended;
    long turn, calls, sums, reductions, broadcasts, bytes, recorded, replayed;
    // Exchanges that graphs have of it.
    _Atomic long kept;
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
    static const char* NAMES[] = {"all-reduce", "reduce", "broadcast"};
    for (int rank = 1; rank < comm->size; rank++) {
        const struct Call *a = &comm->shared->calls[0], *b = &comm->shared->calls[rank];
        if (a->kind == b->kind && a->type == b->type && a->root == b->root && a->count == b->count &&
            a->recorded == b->recorded)
            continue;
        snprintf(said, sizeof(said),
                 "rank 0 calls %s of %zu elements of type %d (recorded %ld), and rank %d %s of %zu of type %d (recorded %ld)",
                 NAMES[a->kind], a->count, a->type, a->recorded, rank, NAMES[b->kind], b->count, b->type, b->recorded);
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
        const int sums = call.kind == ALL_REDUCE || (call.kind == REDUCE && call.root == comm->rank);
        for (size_t i = 0; sums && i < bytes / width; i++) {
            set(work->to + at, call.type, i, get(comm->shared->pieces[0], call.type, i));
            for (int rank = 1; rank < comm->size; rank++) {
                const float sum = get(work->to + at, call.type, i) + get(comm->shared->pieces[rank], call.type, i);
                set(work->to + at, call.type, i, sum);
            }
        }
        if (!all_here(comm)) return SYSTEM_ERROR;
    }
    comm->sums += call.kind == ALL_REDUCE, comm->broadcasts += call.kind == BROADCAST;
    comm->reductions += call.kind == REDUCE;
    comm->bytes += (long)(call.count * width);
    return SUCCESS;
}

struct Kept {
    struct Comm* comm;
    struct Work work;
};

// An exchange of a graph that runs: the worker does it.
static int replay(void* of) {
    struct Kept* kept = of;
    struct Comm* comm = kept->comm;
    _Atomic int ends = 0;
    if (comm->aborted) return 0;
    struct Work next = kept->work;
    next.ends = &ends;
    pthread_mutex_lock(&comm->lock);
    comm->queue[comm->queued++] = next;
    pthread_cond_signal(&comm->more);
    pthread_mutex_unlock(&comm->lock);
    for (long i = 0; !ends && !comm->aborted && comm->state == SUCCESS; i++) pause_a_moment(i);
    comm->replayed += ends;
    return 0;
}

static void forget(void* of) {
    struct Kept* kept = of;
    kept->comm->kept--;
    free(kept);
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

static void record(struct Comm* comm, const struct Work* work) {
    struct Kept* kept = calloc(1, sizeof(*kept));
    kept->comm = comm, kept->work = *work;
    kept->work.graph = NULL, kept->work.call.recorded = ++comm->recorded;
    comm->kept++;
    fake_record(comm->stream, work->graph, replay, forget, kept);
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
        const int is_direct = next.graph == NULL && next.ends == NULL;
        if (next.graph != NULL) record(comm, &next);
        if (is_direct) fake_begin(comm->stream);
        if (comm->queued == 0) comm->state = SUCCESS;
        pthread_mutex_unlock(&comm->lock);
        if (next.graph != NULL) continue;
        const int state = work(comm, &next);
        if (state != SUCCESS) comm->state = state;
        if (is_direct) fake_end(comm->stream);
        else if (state == SUCCESS) *next.ends = 1;
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
    // What is given up half-way is not waited for; a graph that was given up and still has exchanges runs.
    const int whole = comm->turn > 0 && comm->queued == 0 && comm->calls == comm->sums + comm->reductions + comm->broadcasts;
    comm->aborted = !whole || comm->kept > 0 || comm->state != SUCCESS;
    pthread_cond_signal(&comm->more);
    pthread_mutex_unlock(&comm->lock);
    pthread_join(comm->worker, NULL);
    // NCCL would wait for graphs for ever.
    for (long i = 0; comm->kept > 0 && i < 20000; i++) pause_a_moment(i);
    if (comm->kept > 0) fprintf(stderr, "fake nccl: rank %d waits for graphs for ever\n", comm->rank);
    if (setting("log", 0)) {
        fprintf(stderr, "fake nccl: rank %d: %ld exchanges recorded, %ld replayed\n", comm->rank, comm->recorded,
                comm->replayed);
        fprintf(stderr, "fake nccl: rank %d %s after %ld sums, %ld reductions, %ld broadcasts, %ld bytes\n", comm->rank,
                comm->aborted ? "gives up" : "ends", comm->sums, comm->reductions, comm->broadcasts, comm->bytes);
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
        work.graph = fake_owes(stream);
        comm->queue[comm->queued++] = work;
        pthread_cond_signal(&comm->more);
    }
    pthread_mutex_unlock(&comm->lock);
    return fits ? IN_PROGRESS : refuse("too many calls in a group");
}

int ncclAllReduce(const void* from, void* to, size_t count, int type, int operation, struct Comm* comm, void* stream) {
    if (operation != SUM) return refuse("another operation than a sum");
    return put(comm, (struct Work){{ALL_REDUCE, type, 0, count, 0}, from, to, NULL, NULL}, stream);
}

int ncclReduce(const void* from, void* to, size_t count, int type, int operation, int root, struct Comm* comm,
               void* stream) {
    if (operation != SUM) return refuse("another operation than a sum");
    if (root < 0 || root >= comm->size) return INVALID_ARGUMENT;
    return put(comm, (struct Work){{REDUCE, type, root, count, 0}, from, to, NULL, NULL}, stream);
}

int ncclBroadcast(const void* from, void* to, size_t count, int type, int root, struct Comm* comm, void* stream) {
    if (root < 0 || root >= comm->size) return INVALID_ARGUMENT;
    return put(comm, (struct Work){{BROADCAST, type, root, count, 0}, from, to, NULL, NULL}, stream);
}
