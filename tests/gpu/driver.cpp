// The driver: memory, streams, recordings. Names and numbers are those of the CUDA driver API.
#include "standin.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

std::recursive_mutex turn;
Counts counts;

static constexpr int DEVICES = 4;
/// Memory of a device: STANDIN_MIB of the environment, or 8 GiB.
static const Size TOTAL = [] {
    const char *wanted = std::getenv("STANDIN_MIB");
    return wanted ? Size(std::atol(wanted)) << 20 : Size(8) << 30;
}();

struct Block {
    Size bytes;
    bool there;
    /// Taken by a recording, which also ends it.
    bool recorded;
};
static std::map<Address, Block> blocks;
/// In use, the most of it, and the most since that was last reset.
static Size used, most, high;
/// Of all recordings.
static Size reserved;
static uint64_t kept_when_freed;
static Stream own_stream;
/// What this thread is recording.
static thread_local Stream *recording_here;
static thread_local void *context;

void refuse(const std::string &what) {
    std::fprintf(stderr, "stand-in GPU: %s\n", what.c_str());
    std::abort();
}

Stream *stream_of(Stream *handle) { return uintptr_t(handle) > 2 ? handle : &own_stream; }

void tell(Stream *stream, Work work, bool waits) {
    if (!stream->recording) return work();
    if (!stream->spoilt) stream->recording->work.push_back({std::move(work), waits});
}

void check(const void *begin, Size bytes, const char *who) {
    if (!bytes) return;
    Address at = Address(begin);
    auto next = blocks.upper_bound(at);
    if (next == blocks.begin()) refuse(std::string(who) + ": no memory is there");
    auto &[first, block] = *std::prev(next);
    if (at + bytes > first + block.bytes) refuse(std::string(who) + ": past the end of its memory");
    if (!block.there) refuse(std::string(who) + ": memory that was freed");
}

static void poison(Address at, Size bytes) { std::memset((void *)at, 0xFF, bytes); }

static Address take(Size bytes, bool recorded) {
    void *at = mmap(nullptr, bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) refuse("the host has no memory left");
    poison(Address(at), bytes);
    blocks[Address(at)] = {bytes ? bytes : 1, true, recorded};
    if (!recorded) {
        used += bytes;
        most = std::max(most, used), high = std::max(high, used);
    } else {
        reserved += bytes;
    }
    return Address(at);
}

static void give(Address at) {
    auto found = blocks.find(at);
    if (found == blocks.end() || !found->second.there) refuse("memory is freed that is not there");
    used -= found->second.bytes;
    found->second.there = false;
    // Stays in the books, so that nobody else is given the address; the host gets its pages back.
    madvise((void *)at, found->second.bytes, MADV_DONTNEED);
    if (found->second.bytes < Size(1) << 20) poison(at, found->second.bytes);
}

static Status spoil(Stream *stream, const char *by) {
    std::fprintf(stderr, "stand-in GPU: a recording is spoilt by %s\n", by);
    stream->spoilt = true;
    return NOT_WHILE_CAPTURING;
}

static void report() {
    std::fprintf(stderr, "stand-in GPU: %ld kernels and %ld products told, %ld recordings, %ld replays; at most %zu KiB, %zu KiB left; freed memory %s\n",
                 counts.kernels, counts.products, counts.recordings, counts.replays, most >> 10, used >> 10, kept_when_freed ? "kept" : "given back");
}

extern "C" {
Status cuInit(unsigned) {
    // Each device asks.
    static const int once = std::atexit(report);
    return once;
}
Status cuGetErrorString(Status status, const char **text) { return *text = status == NOT_WHILE_CAPTURING ? "operation not permitted when stream is capturing" : "the stand-in refuses", FINE; }
Status cuGetErrorName(Status, const char **name) { return *name = "STAND_IN", FINE; }
Status cuDeviceGet(int *device, int number) { return number < DEVICES ? (*device = number, FINE) : NO_DEVICE; }
Status cuDeviceGetCount(int *count) { return *count = DEVICES, FINE; }
// 75 and 76: compute capability 9.0.
Status cuDeviceGetAttribute(int *value, int attribute, int) { return *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1, FINE; }
Status cuDevicePrimaryCtxRetain(void **made, int device) { return *made = (void *)(intptr_t)(device + 1), FINE; }
Status cuDevicePrimaryCtxRelease_v2(int) { return FINE; }
Status cuCtxSetCurrent(void *wanted) { return context = wanted, FINE; }
Status cuCtxGetCurrent(void **current) { return *current = context, FINE; }
Status cuCtxDestroy_v2(void *) { return FINE; }
Status cuCtxSynchronize() {
    MY_TURN;
    return recording_here ? spoil(recording_here, "waiting for the device") : FINE;
}

Status cuMemGetInfo_v2(Size *free, Size *total) {
    MY_TURN;
    return *free = TOTAL - (kept_when_freed ? most : used) - reserved, *total = TOTAL, FINE;
}
Status cuDeviceGetMemPool(void **pool, int) { return *pool = &blocks, FINE; }
Status cuDeviceGetDefaultMemPool(void **pool, int) { return *pool = &blocks, FINE; }
Status cuMemPoolSetAttribute(void *, int attribute, uint64_t *value) {
    MY_TURN;
    if (attribute == 4) kept_when_freed = *value;
    if (attribute == 8) high = used;
    return FINE;
}
// 5: reserved, 7: used, 8: the most used.
Status cuMemPoolGetAttribute(void *, int attribute, uint64_t *value) {
    MY_TURN;
    return *value = attribute == 4 ? kept_when_freed : attribute == 5 ? (kept_when_freed ? most : used) : attribute == 7 ? used : attribute == 8 ? high : 0, FINE;
}
Status cuDeviceGetGraphMemAttribute(int, int, uint64_t *value) {
    MY_TURN;
    return *value = reserved, FINE;
}
Status cuMemAllocAsync(Address *at, Size bytes, Stream *handle) {
    MY_TURN;
    Stream *stream = stream_of(handle);
    if (!stream->recording) return used + bytes > TOTAL ? OUT_OF_MEMORY : (*at = take(bytes, false), FINE);
    Address taken = *at = take(bytes, true);
    stream->recording->own.insert(taken);
    // Each replay finds it as new.
    tell(stream, [=] { blocks[taken].there = true, poison(taken, bytes); });
    return FINE;
}
Status cuMemFreeAsync(Address at, Stream *handle) {
    MY_TURN;
    Stream *stream = stream_of(handle);
    if (stream->recording) {
        if (!stream->recording->own.count(at)) return spoil(stream, "freeing what was there before");
        blocks[at].there = false;
        tell(stream, [=] { blocks[at].there = false, poison(at, blocks[at].bytes); });
    } else if (blocks[at].recorded) {
        refuse("memory of a recording is freed outside of it");
    } else {
        give(at);
    }
    return FINE;
}
Status cuMemAlloc_v2(Address *at, Size bytes) {
    MY_TURN;
    if (recording_here) return spoil(recording_here, "an allocation outside of the stream");
    return used + bytes > TOTAL ? OUT_OF_MEMORY : (*at = take(bytes, false), FINE);
}
Status cuMemFree_v2(Address at) {
    MY_TURN;
    return recording_here ? spoil(recording_here, "a free outside of the stream") : (give(at), FINE);
}

Status cuMemcpyHtoDAsync_v2(Address to, const void *from, Size bytes, Stream *handle) {
    MY_TURN;
    if (stream_of(handle)->recording) return spoil(stream_of(handle), "a copy from the host");
    return check((void *)to, bytes, "copy from the host"), std::memcpy((void *)to, from, bytes), FINE;
}
Status cuMemcpyDtoHAsync_v2(void *to, Address from, Size bytes, Stream *handle) {
    MY_TURN;
    if (stream_of(handle)->recording) return spoil(stream_of(handle), "a copy to the host");
    return check((void *)from, bytes, "copy to the host"), std::memcpy(to, (void *)from, bytes), FINE;
}
Status cuMemcpyDtoDAsync_v2(Address to, Address from, Size bytes, Stream *handle) {
    MY_TURN;
    tell(stream_of(handle), [=] {
        check((void *)to, bytes, "copy to"), check((void *)from, bytes, "copy from");
        std::memmove((void *)to, (void *)from, bytes);
    });
    return FINE;
}
Status cuMemcpyPeerAsync(Address to, void *, Address from, void *, Size bytes, Stream *handle) { return cuMemcpyDtoDAsync_v2(to, from, bytes, handle); }
Status cuMemsetD8Async(Address at, unsigned char value, Size bytes, Stream *handle) {
    MY_TURN;
    tell(stream_of(handle), [=] { check((void *)at, bytes, "memset"), std::memset((void *)at, value, bytes); });
    return FINE;
}

Status cuStreamCreate(Stream **made, unsigned) { return *made = new Stream, FINE; }
Status cuStreamDestroy_v2(Stream *) { return FINE; }
Status cuStreamSynchronize(Stream *handle) {
    MY_TURN;
    return stream_of(handle)->recording ? spoil(stream_of(handle), "waiting for the stream") : FINE;
}
Status cuStreamWaitEvent(Stream *handle, void *, unsigned) {
    MY_TURN;
    return stream_of(handle)->recording ? spoil(stream_of(handle), "waiting for an event from before") : FINE;
}
Status cuEventCreate(void **made, unsigned) { return *made = std::malloc(1), FINE; }
Status cuEventDestroy_v2(void *event) { return std::free(event), FINE; }
Status cuEventRecord(void *, Stream *) { return FINE; }

Status cuStreamBeginCapture_v2(Stream *handle, int) {
    MY_TURN;
    if (stream_of(handle) == &own_stream) refuse("the default stream is not recorded");
    if (handle->recording) return INVALID;
    return handle->recording = new Graph, handle->spoilt = false, recording_here = handle, FINE;
}
Status cuStreamIsCapturing(Stream *handle, int *status) { return *status = !stream_of(handle)->recording ? 0 : stream_of(handle)->spoilt ? 2 : 1, FINE; }
Status cuStreamEndCapture(Stream *handle, Graph **graph) {
    MY_TURN;
    if (!handle->recording) return INVALID;
    *graph = handle->recording, handle->recording = nullptr, recording_here = nullptr;
    if (handle->spoilt) return *graph = nullptr, CAPTURE_INVALIDATED;
    return counts.recordings++, FINE;
}
Status cuGraphInstantiateWithFlags(Graph **runnable, Graph *graph, unsigned long long) { return *runnable = graph, FINE; }
Status cuGraphUpload(Graph *, Stream *) { return FINE; }
Status cuGraphLaunch(Graph *graph, Stream *handle) {
    if (stream_of(handle)->recording) return spoil(stream_of(handle), "a replay");
    for (const Recorded &next : graph->work) {
        if (next.waits) {
            next.work();
        } else {
            MY_TURN;
            next.work();
        }
    }
    MY_TURN;
    return counts.replays++, FINE;
}
Status cuGraphExecDestroy(Graph *) { return FINE; }
Status cuGraphDestroy(Graph *graph) {
    MY_TURN;
    for (Address at : graph->own) reserved -= blocks[at].bytes, munmap((void *)at, blocks[at].bytes), blocks.erase(at);
    return delete graph, FINE;
}
}
