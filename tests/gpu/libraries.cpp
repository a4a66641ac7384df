// cuBLAS, cuRAND and NCCL, as far as they are called.
#include "kernels.h"

#include <cmath>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <random>

struct Blas {
    Stream *stream = nullptr;
};

// Numbers of `cudaDataType`.
constexpr int F32 = 0, BF16 = 14;

static Size width_of(int type) {
    if (type != F32 && type != BF16) refuse("a product of type " + std::to_string(type));
    return type == F32 ? 4 : 2;
}
static float read(const void *at, int type, Size i) { return type == F32 ? ((const float *)at)[i] : float(((const Bf16 *)at)[i]); }

/// C = alpha · A · B + beta · C, columns first; `count` of them, each so many numbers further.
struct Product {
    bool a_turned, b_turned;
    int m, n, k;
    float alpha, beta;
    const void *a, *b;
    void *c;
    int type, type_c, lda, ldb, ldc, count;
    long long next_a, next_b, next_c;

    static Size numbers(int rows, int columns, int ld, int count, long long next) { return Size(columns - 1) * ld + rows + Size(count - 1) * next; }

    void tell_to(Blas *blas) const {
        if (m < 1 || n < 1 || k < 1 || count < 1) refuse("an empty product");
        counts.products++;
        tell(stream_of(blas->stream), [p = *this] { p.run(); });
    }

    void run() const {
        check(a, numbers(a_turned ? k : m, a_turned ? m : k, lda, count, next_a) * width_of(type), "product, left");
        check(b, numbers(b_turned ? n : k, b_turned ? k : n, ldb, count, next_b) * width_of(type), "product, right");
        check(c, numbers(m, n, ldc, count, next_c) * width_of(type_c), "product, result");
        for (int at = 0; at < count; at++)
            for (int j = 0; j < n; j++)
                for (int i = 0; i < m; i++) {
                    float sum = 0;
                    for (int l = 0; l < k; l++)
                        sum += read(a, type, at * next_a + (a_turned ? Size(i) * lda + l : Size(l) * lda + i)) *
                               read(b, type, at * next_b + (b_turned ? Size(l) * ldb + j : Size(j) * ldb + l));
                    Size to = at * next_c + Size(j) * ldc + i;
                    float value = alpha * sum + (beta == 0 ? 0 : beta * read(c, type_c, to));
                    if (type_c == F32) ((float *)c)[to] = value;
                    else ((Bf16 *)c)[to] = Bf16(value);
                }
    }
};

extern "C" {
Status cublasCreate_v2(Blas **made) { return *made = new Blas, FINE; }
Status cublasDestroy_v2(Blas *) { return FINE; }
Status cublasSetStream_v2(Blas *blas, Stream *stream) { return blas->stream = stream, FINE; }
Status cublasGemmStridedBatchedEx(Blas *blas, int ta, int tb, int m, int n, int k, const float *alpha, const void *a, int type_a, int lda, long long next_a, const void *b,
                                  int type_b, int ldb, long long next_b, const float *beta, void *c, int type_c, int ldc, long long next_c, int count, int, int) {
    MY_TURN;
    if (type_a != type_b || type_a != type_c) refuse("a product of several types");
    Product{ta != 0, tb != 0, m, n, k, *alpha, *beta, a, b, c, type_a, type_c, lda, ldb, ldc, count, next_a, next_b, next_c}.tell_to(blas);
    return FINE;
}
Status cublasGemmEx(Blas *blas, int ta, int tb, int m, int n, int k, const float *alpha, const void *a, int type_a, int lda, const void *b, int type_b, int ldb,
                    const float *beta, void *c, int type_c, int ldc, int, int) {
    MY_TURN;
    if (type_a != type_b || (type_c != type_a && type_c != F32)) refuse("a product of several types");
    Product{ta != 0, tb != 0, m, n, k, *alpha, *beta, a, b, c, type_a, type_c, lda, ldb, ldc, 1, 0, 0, 0}.tell_to(blas);
    return FINE;
}
Status cublasSgemmStridedBatched(Blas *blas, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda, long long next_a, const float *b, int ldb,
                                 long long next_b, const float *beta, float *c, int ldc, long long next_c, int count) {
    return cublasGemmStridedBatchedEx(blas, ta, tb, m, n, k, alpha, a, F32, lda, next_a, b, F32, ldb, next_b, beta, c, F32, ldc, next_c, count, 0, 0);
}
Status cublasDgemmStridedBatched() { refuse("a product in f64"); }

static std::mt19937 drawn;
Status curandCreateGenerator(void **made, int) { return *made = &drawn, FINE; }
Status curandDestroyGenerator(void *) { return FINE; }
Status curandSetPseudoRandomGeneratorSeed(void *, unsigned long long seed) { return drawn.seed(seed), FINE; }
Status curandSetStream(void *, Stream *) { return FINE; }
Status curandGenerateUniform(void *, float *to, Size count) {
    MY_TURN;
    check(to, 4 * count, "uniform");
    for (Size i = 0; i < count; i++) to[i] = std::uniform_real_distribution<float>(0, 1)(drawn);
    return FINE;
}
Status curandGenerateNormal(void *, float *to, Size count, float mean, float deviation) {
    MY_TURN;
    check(to, 4 * count, "normal");
    for (Size i = 0; i < count; i++) to[i] = std::normal_distribution<float>(mean, deviation)(drawn);
    return FINE;
}
Status curandGenerateUniformDouble() { refuse("random f64"); }
Status curandGenerateNormalDouble() { refuse("random f64"); }
}

// Ranks are threads of this process.
struct Id {
    char bytes[128];
};
struct World {
    std::mutex lock;
    std::condition_variable changed;
    int ranks = 0, joined = 0, waiting = 0;
    long meetings = 0;
    std::vector<std::pair<const float *, Size>> given;
    std::vector<float> sum;

    /// Returns when all ranks have come; the last one does `work` before.
    void meet(std::unique_lock<std::mutex> &held, const Work &work) {
        long meeting = meetings;
        if (++waiting == ranks) {
            work();
            waiting = 0, meetings++;
            changed.notify_all();
        } else {
            changed.wait(held, [&] { return meetings != meeting; });
        }
    }
    void same(Size numbers) {
        for (auto &from : given)
            if (from.second != numbers) refuse("ranks give unequal numbers");
    }
};
struct Comm {
    std::shared_ptr<World> world;
    int rank;
};
static std::map<int, std::shared_ptr<World>> worlds;
constexpr int NCCL_F32 = 7;

static Status join(Comm **made, int ranks, Id id, int rank) {
    std::shared_ptr<World> world;
    {
        MY_TURN;
        auto &known = worlds[*(int *)id.bytes];
        if (!known) known = std::make_shared<World>(), known->ranks = ranks, known->given.resize(ranks);
        world = known;
    }
    std::unique_lock<std::mutex> held(world->lock);
    world->joined++, world->changed.notify_all();
    world->changed.wait(held, [&] { return world->joined >= ranks; });
    return *made = new Comm{world, rank}, FINE;
}

extern "C" {
Status ncclGetUniqueId(Id *id) {
    MY_TURN;
    static int next;
    std::memset(id, 0, sizeof *id);
    return *(int *)id->bytes = ++next, FINE;
}
Status ncclCommInitRank(Comm **made, int ranks, Id id, int rank) { return join(made, ranks, id, rank); }
Status ncclCommDestroy(Comm *) { return FINE; }
Status ncclCommAbort(Comm *) { return FINE; }
const char *ncclGetErrorString(Status) { return "the stand-in refuses"; }
Status ncclAllReduce(const void *from, void *to, Size count, int type, int, Comm *comm, Stream *handle) {
    if (type != NCCL_F32) refuse("ranks sum something else than f32");
    auto sum = [=] {
        World &world = *comm->world;
        std::unique_lock<std::mutex> held(world.lock);
        world.given[comm->rank] = {(const float *)from, count};
        world.meet(held, [&] {
            world.same(count), world.sum.assign(count, 0);
            for (auto &part : world.given)
                for (Size i = 0; i < count; i++) world.sum[i] += part.first[i];
        });
        std::memcpy(to, world.sum.data(), 4 * count);
        world.meet(held, [] {});
    };
    return tell(stream_of(handle), sum, true), FINE;
}
Status ncclAllGather(const void *from, void *to, Size count, int type, Comm *comm, Stream *handle) {
    if (type != NCCL_F32) refuse("ranks gather something else than f32");
    auto gather = [=] {
        World &world = *comm->world;
        std::unique_lock<std::mutex> held(world.lock);
        world.given[comm->rank] = {(const float *)from, count};
        world.meet(held, [&] { world.same(count); });
        for (int rank = 0; rank < world.ranks; rank++) std::memcpy((float *)to + rank * count, world.given[rank].first, 4 * count);
        world.meet(held, [] {});
    };
    return tell(stream_of(handle), gather, true), FINE;
}
}
