// A GPU that is the host: what the program asks of CUDA's driver, cuBLAS, cuRAND and NCCL, done at once on the processor.
//
// It is stricter than a device. Fresh and freed memory holds NaN, freed memory is never handed out again and whoever reads or
// writes it ends the program, and so does a kernel or a type it does not know. Work that is being recorded is kept, not done, and
// what a recording may not hold (waiting, copies to and from the host, frees of older memory) spoils it, as on a device.
//
// What it cannot tell: how fast a device is, what it does with threads and warps, how two streams run side by side.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

using Status = int;
using Address = uint64_t;
using Size = size_t;
/// A piece of work: kernels, copies, allocations.
using Work = std::function<void()>;

constexpr Status FINE = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 101, NOT_WHILE_CAPTURING = 900, CAPTURE_INVALIDATED = 901;

/// Work of a recording: what waits for other ranks leaves them their turn.
struct Recorded {
    Work work;
    bool waits;
};

/// Recorded work, and the memory that it takes and gives back itself.
struct Graph {
    std::vector<Recorded> work;
    std::set<Address> own;
};

struct Stream {
    Graph *recording = nullptr;
    bool spoilt = false;
};

/// One call at a time: all devices are one host.
extern std::recursive_mutex turn;
#define MY_TURN std::lock_guard<std::recursive_mutex> mine_(turn)

/// Ends the program: it did what would go wrong on a device, or what this one does not know.
[[noreturn]] void refuse(const std::string &what);
/// The stream of that handle; 0 to 2 are the driver's own.
Stream *stream_of(Stream *handle);
/// Does the work now, or keeps it for the recording. The caller holds the turn unless the work waits.
void tell(Stream *stream, Work work, bool waits = false);
/// Refuses unless `bytes` from `begin` on are memory that is there.
void check(const void *begin, Size bytes, const char *who);

/// Counted for the report at the end.
struct Counts {
    long kernels, products, recordings, replays;
};
extern Counts counts;
