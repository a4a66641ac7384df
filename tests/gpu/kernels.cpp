// The kernels of candle-kernels that models are run with, by their names; each launch does the whole work of all its blocks.
// Arguments are those of candle's `.cu` files: an `info` pointer leads to dimensions and then strides, on the device.
#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

/// The arguments of a launch, and its number of blocks.
struct Launch {
    void **arguments;
    unsigned blocks;
    template <class T> T get(int i) const { return *(T *)arguments[i]; }
};
using Kernel = std::function<Work(const Launch &)>;
static std::map<std::string, Kernel> kernels;

/// What a type is computed in.
template <class T> struct In { using Type = T; };
template <> struct In<Bf16> { using Type = float; };
template <class T> typename In<T>::Type wide(T x) { return typename In<T>::Type(x); }
template <class To, class From> To cast(From x) { return To(typename In<To>::Type(wide(x))); }

/// Dimensions of a tensor, and the strides of one of those that share them.
struct Layout {
    Size rank;
    const Size *dims, *strides;

    static Layout of(Size rank, const Size *info, Size which) {
        if (info) check(info, 8 * rank * (which + 1), "shape");
        return {rank, info, info ? info + rank * which : nullptr};
    }
    Size at(Size i) const {
        if (!dims) return i;
        Size place = 0;
        for (Size d = rank; d-- > 0; i /= dims[d]) place += i % dims[d] * strides[d];
        return place;
    }
    Size span(Size numbers) const {
        if (!dims) return numbers;
        Size last = 0;
        for (Size d = 0; d < rank; d++) {
            if (!dims[d]) return 0;
            last += (dims[d] - 1) * strides[d];
        }
        return last + 1;
    }
};

template <class T, class To, class F> static Kernel map(const char *name, F f, int first = 3) {
    return [=](const Launch &l) -> Work {
        auto n = l.get<Size>(0), rank = l.get<Size>(1);
        auto info = l.get<const Size *>(2);
        auto x = l.get<const T *>(first);
        auto y = l.get<To *>(first + 1);
        return [=] {
            auto layout = Layout::of(rank, info, 1);
            check(y, n * sizeof(To), name);
            if (x) check(x, layout.span(n) * sizeof(T), name);
            for (Size i = 0; i < n; i++) y[i] = f(x ? x[layout.at(i)] : cast<T>(y[i]));
        };
    };
}

template <class T, class To, class F> static Kernel pair(const char *name, F f) {
    return [=](const Launch &l) -> Work {
        auto n = l.get<Size>(0), rank = l.get<Size>(1);
        auto info = l.get<const Size *>(2);
        auto a = l.get<const T *>(3), b = l.get<const T *>(4);
        auto y = l.get<To *>(5);
        return [=] {
            auto of_a = Layout::of(rank, info, 1), of_b = Layout::of(rank, info, 2);
            check(y, n * sizeof(To), name), check(a, of_a.span(n) * sizeof(T), name), check(b, of_b.span(n) * sizeof(T), name);
            for (Size i = 0; i < n; i++) y[i] = cast<To>(f(wide(a[of_a.at(i)]), wide(b[of_b.at(i)])));
        };
    };
}

template <class T> static Work affine(const Launch &l) {
    auto scale = l.get<T>(5), shift = l.get<T>(6);
    return map<T, T>("affine", [=](T x) { return T(wide(T(wide(x) * wide(scale))) + wide(shift)); })(l);
}

template <class T> static Work power(const Launch &l) {
    float by = wide(l.get<T>(3));
    return map<T, T>("pow", [=](T x) { return T(std::pow(wide(x), by)); }, 4)(l);
}

template <class T> static Work set(const Launch &l) {
    auto n = l.get<Size>(0), rank = l.get<Size>(1);
    auto info = l.get<const Size *>(2);
    auto value = l.get<T>(3);
    auto y = l.get<T *>(4);
    return [=] {
        auto layout = Layout::of(rank, info, 1);
        check(y, layout.span(n) * sizeof(T), "const_set");
        for (Size i = 0; i < n; i++) y[layout.at(i)] = value;
    };
}

template <class T> static Work copy2d(const Launch &l) {
    auto from = l.get<const T *>(0);
    auto to = l.get<T *>(1);
    Size rows = l.get<uint32_t>(2), width = l.get<uint32_t>(3), from_stride = l.get<uint32_t>(4), to_stride = l.get<uint32_t>(5);
    return [=] {
        check(from, ((rows - 1) * from_stride + width) * sizeof(T), "copy2d, from");
        check(to, ((rows - 1) * to_stride + width) * sizeof(T), "copy2d, to");
        for (Size row = 0; row < rows; row++) std::memmove(to + row * to_stride, from + row * from_stride, width * sizeof(T));
    };
}

template <class T, class Id> static Work where(const Launch &l) {
    auto n = l.get<Size>(0), rank = l.get<Size>(1);
    auto info = l.get<const Size *>(2);
    auto ids = l.get<const Id *>(3);
    auto yes = l.get<const T *>(4), no = l.get<const T *>(5);
    auto y = l.get<T *>(6);
    return [=] {
        auto of_ids = Layout::of(rank, info, 1), of_yes = Layout::of(rank, info, 2), of_no = Layout::of(rank, info, 3);
        check(y, n * sizeof(T), "where"), check(ids, of_ids.span(n) * sizeof(Id), "where, condition");
        check(yes, of_yes.span(n) * sizeof(T), "where, true"), check(no, of_no.span(n) * sizeof(T), "where, false");
        for (Size i = 0; i < n; i++) y[i] = ids[of_ids.at(i)] ? yes[of_yes.at(i)] : no[of_no.at(i)];
    };
}

template <class Id> static Size below(Id id, Size limit, const char *name) {
    if (Size(id) >= limit) refuse(std::string(name) + ": index " + std::to_string(Size(id)) + " of " + std::to_string(limit));
    return Size(id);
}

template <class T, class Id> static Work index_select(const Launch &l) {
    auto n = l.get<Size>(0);
    auto ids = l.get<const Id *>(3);
    auto x = l.get<const T *>(4);
    auto y = l.get<T *>(5);
    auto left = l.get<Size>(6), from = l.get<Size>(7), count = l.get<Size>(8), right = l.get<Size>(9);
    return [=] {
        check(y, n * sizeof(T), "index_select"), check(ids, count * sizeof(Id), "index_select, ids");
        check(x, left * from * right * sizeof(T), "index_select, from");
        for (Size i = 0; i < n; i++) {
            Size id = below(ids[i / right % count], from, "index_select");
            y[i] = x[(i / (count * right) * from + id) * right + i % right];
        }
    };
}

template <class T, class Id> static Work gather(const Launch &l) {
    auto n = l.get<Size>(0);
    auto ids = l.get<const Id *>(1);
    auto x = l.get<const T *>(2);
    auto y = l.get<T *>(3);
    auto left = l.get<Size>(4), from = l.get<Size>(5), count = l.get<Size>(6), right = l.get<Size>(7);
    return [=] {
        check(y, n * sizeof(T), "gather"), check(ids, n * sizeof(Id), "gather, ids"), check(x, left * from * right * sizeof(T), "gather, from");
        for (Size i = 0; i < n; i++) y[i] = x[(i / (right * count) * from + below(ids[i], from, "gather")) * right + i % right];
    };
}

template <class T, class Id, bool ADDS> static Work scatter(const Launch &l) {
    auto ids = l.get<const Id *>(0);
    auto x = l.get<const T *>(1);
    auto y = l.get<T *>(2);
    auto left = l.get<Size>(3), from = l.get<Size>(4), to = l.get<Size>(5), right = l.get<Size>(6);
    return [=] {
        check(ids, left * from * right * sizeof(Id), "scatter, ids"), check(x, left * from * right * sizeof(T), "scatter, from");
        check(y, left * to * right * sizeof(T), "scatter, to");
        for (Size i = 0; i < left * from * right; i++) {
            Size place = (i / (from * right) * to + below(ids[i], to, "scatter")) * right + i % right;
            y[place] = ADDS ? T(wide(y[place]) + wide(x[i])) : x[i];
        }
    };
}

template <class T, class Id> static Work index_add(const Launch &l) {
    auto ids = l.get<const Id *>(0);
    auto count = l.get<Size>(1);
    auto x = l.get<const T *>(2);
    auto y = l.get<T *>(3);
    auto left = l.get<Size>(4), to = l.get<Size>(6), right = l.get<Size>(7);
    return [=] {
        check(ids, count * sizeof(Id), "index_add, ids"), check(x, left * count * right * sizeof(T), "index_add, from");
        check(y, left * to * right * sizeof(T), "index_add, to");
        for (Size i = 0; i < left * count * right; i++) {
            Size id = below(ids[i / right % count], to, "index_add"), place = (i / (count * right) * to + id) * right + i % right;
            y[place] = T(wide(y[place]) + wide(x[i]));
        }
    };
}

enum class Fold { SUM, MOST, LEAST, WHERE_MOST, WHERE_LEAST };

/// Of so many numbers a block, which lie next to each other but for strides; `SMALL`: a thread, and the kernel is told how many
/// results there are, not how many numbers.
template <class T, class To, Fold HOW, bool SMALL = false> static Work fold(const Launch &l) {
    auto each = l.get<Size>(1), rank = l.get<Size>(2);
    auto info = l.get<const Size *>(3);
    auto x = l.get<const T *>(4);
    auto y = l.get<To *>(5);
    Size blocks = SMALL ? l.get<Size>(0) : l.blocks, n = SMALL ? blocks * each : l.get<Size>(0);
    return [=] {
        auto layout = Layout::of(rank, info, 1);
        check(x, layout.span(n) * sizeof(T), "reduction"), check(y, blocks * sizeof(To), "reduction, to");
        for (Size block = 0; block < blocks; block++) {
            auto value = wide(x[layout.at(block * each)]);
            Size best = 0;
            for (Size i = 1; i < each && block * each + i < n; i++) {
                auto next = wide(x[layout.at(block * each + i)]);
                bool more = HOW == Fold::MOST || HOW == Fold::WHERE_MOST ? next > value : next < value;
                if (HOW == Fold::SUM) value += next;
                // A device's comparison passes over NaN.
                else if (more || value != value) value = next, best = i;
            }
            if constexpr (HOW == Fold::WHERE_MOST || HOW == Fold::WHERE_LEAST) y[block] = To(best);
            else y[block] = cast<To>(value);
        }
    };
}

/// Of rows as many as there are blocks, largest first. Equals come last first: who relies on their order is found out.
template <class T> static Work sort(const Launch &l) {
    auto x = l.get<const T *>(0);
    auto y = l.get<uint32_t *>(1);
    Size rows = l.blocks, width = l.get<int>(2);
    return [=] {
        check(x, rows * width * sizeof(T), "sort"), check(y, rows * width * 4, "sort, to");
        for (Size row = 0; row < rows; row++) {
            uint32_t *to = y + row * width;
            for (Size i = 0; i < width; i++) to[i] = width - 1 - i;
            std::stable_sort(to, to + width, [=](uint32_t a, uint32_t b) { return wide(x[row * width + a]) > wide(x[row * width + b]); });
        }
    };
}

/// Of rows as many as there are blocks.
template <class T> static Work softmax(const Launch &l) {
    auto x = l.get<const T *>(0);
    auto y = l.get<T *>(1);
    Size rows = l.blocks, width = l.get<int>(2);
    return [=] {
        check(x, rows * width * sizeof(T), "softmax"), check(y, rows * width * sizeof(T), "softmax, to");
        for (Size row = 0; row < rows; row++) {
            const T *from = x + row * width;
            float most = -INFINITY, sum = 0;
            for (Size i = 0; i < width; i++) most = std::fmax(most, wide(from[i]));
            for (Size i = 0; i < width; i++) sum += wide(y[row * width + i] = T(std::exp(float(wide(from[i])) - most)));
            for (Size i = 0; i < width; i++) y[row * width + i] = T(wide(y[row * width + i]) / sum);
        }
    };
}

/// `CENTRED` takes the mean off and has a bias.
template <class T, bool CENTRED> static Work norm(const Launch &l) {
    auto x = l.get<const T *>(0);
    auto y = l.get<T *>(1);
    auto weight = l.get<const T *>(2), bias = CENTRED ? l.get<const T *>(3) : nullptr;
    Size rows = l.blocks, width = l.get<int>(CENTRED ? 4 : 3);
    auto eps = l.get<float>(CENTRED ? 6 : 5);
    return [=] {
        check(x, rows * width * sizeof(T), "norm"), check(y, rows * width * sizeof(T), "norm, to");
        if (weight) check(weight, width * sizeof(T), "norm, weight");
        if (bias) check(bias, width * sizeof(T), "norm, bias");
        for (Size row = 0; row < rows; row++) {
            const T *from = x + row * width;
            float sum = 0, squares = 0;
            for (Size i = 0; i < width; i++) sum += wide(from[i]), squares += wide(from[i]) * wide(from[i]);
            float mean = CENTRED ? sum / width : 0, factor = 1 / std::sqrt(squares / width - mean * mean + eps);
            for (Size i = 0; i < width; i++)
                y[row * width + i] = T((wide(from[i]) - mean) * factor * (weight ? wide(weight[i]) : 1) + (bias ? wide(bias[i]) : 0));
        }
    };
}

template <class T> static void of_floats(const std::string &type) {
    auto add = [&](const char *name, float (*f)(float)) { kernels["u" + (name + ("_" + type))] = map<T, T>(name, [=](T x) { return T(f(wide(x))); }); };
    add("neg", [](float x) { return -x; });
    add("recip", [](float x) { return 1 / x; });
    add("exp", [](float x) { return std::exp(x); });
    add("log", [](float x) { return std::log(x); });
    add("sin", [](float x) { return std::sin(x); });
    add("cos", [](float x) { return std::cos(x); });
    add("erf", [](float x) { return std::erf(x); });
    add("tanh", [](float x) { return std::tanh(x); });
    add("sqr", [](float x) { return x * x; });
    add("sqrt", [](float x) { return std::sqrt(x); });
    add("abs", [](float x) { return std::fabs(x); });
    add("relu", [](float x) { return std::fmax(x, 0.f); });
    add("silu", [](float x) { return x / (1 + std::exp(-x)); });
    add("sigmoid", [](float x) { return 1 / (1 + std::exp(-x)); });
    add("gelu", [](float x) { return 0.5f * x * (1 + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x))); });
    add("gelu_erf", [](float x) { return 0.5f * x * (1 + std::erf(x * 0.70710678f)); });
    kernels["upowf_" + type] = power<T>;
    kernels["asort_desc_" + type] = sort<T>;
    kernels["softmax_" + type] = softmax<T>;
    kernels["rmsnorm_" + type] = norm<T, false>;
    kernels["layernorm_" + type] = norm<T, true>;
}

template <class T, class Id> static void by_ids(const std::string &type, const std::string &ids) {
    kernels["is_" + ids + "_" + type] = index_select<T, Id>;
    kernels["gather_" + ids + "_" + type] = gather<T, Id>;
    kernels["s_" + ids + "_" + type] = scatter<T, Id, false>;
    kernels["sa_" + ids + "_" + type] = scatter<T, Id, true>;
    kernels["ia_" + ids + "_" + type] = index_add<T, Id>;
    kernels["where_" + ids + "_" + type] = where<T, Id>;
}

template <class T> static void of_all(const std::string &type) {
    kernels["affine_" + type] = affine<T>;
    kernels["const_set_" + type] = set<T>;
    kernels["copy2d_" + type] = copy2d<T>;
    kernels["ucopy_" + type] = map<T, T>("copy", [](T x) { return x; });
    by_ids<T, uint32_t>(type, "u32"), by_ids<T, int64_t>(type, "i64"), by_ids<T, uint8_t>(type, "u8");
    kernels["fast_sum_" + type] = fold<T, T, Fold::SUM>;
    kernels["fast_sum_small_" + type] = fold<T, T, Fold::SUM, true>;
    kernels["fast_max_" + type] = fold<T, T, Fold::MOST>;
    kernels["fast_min_" + type] = fold<T, T, Fold::LEAST>;
    kernels["fast_argmax_" + type] = fold<T, uint32_t, Fold::WHERE_MOST>;
    kernels["fast_argmin_" + type] = fold<T, uint32_t, Fold::WHERE_LEAST>;
    kernels["cast_" + type + "_f32"] = map<T, float>("cast", cast<float, T>);
    kernels["cast_" + type + "_bf16"] = map<T, Bf16>("cast", cast<Bf16, T>);
    kernels["cast_" + type + "_u32"] = map<T, uint32_t>("cast", cast<uint32_t, T>);
    kernels["cast_" + type + "_i64"] = map<T, int64_t>("cast", cast<int64_t, T>);
    kernels["cast_" + type + "_u8"] = map<T, uint8_t>("cast", cast<uint8_t, T>);
    using W = typename In<T>::Type;
    kernels["badd_" + type] = pair<T, T>("add", [](W a, W b) { return W(a + b); });
    kernels["bsub_" + type] = pair<T, T>("subtract", [](W a, W b) { return W(a - b); });
    kernels["bmul_" + type] = pair<T, T>("multiply", [](W a, W b) { return W(a * b); });
    kernels["bdiv_" + type] = pair<T, T>("divide", [](W a, W b) { return W(a / b); });
    kernels["bmaximum_" + type] = pair<T, T>("maximum", [](W a, W b) { return a > b ? a : b; });
    kernels["bminimum_" + type] = pair<T, T>("minimum", [](W a, W b) { return a < b ? a : b; });
    kernels["eq_" + type] = pair<T, uint8_t>("eq", [](W a, W b) { return uint8_t(a == b); });
    kernels["ne_" + type] = pair<T, uint8_t>("ne", [](W a, W b) { return uint8_t(a != b); });
    kernels["lt_" + type] = pair<T, uint8_t>("lt", [](W a, W b) { return uint8_t(a < b); });
    kernels["le_" + type] = pair<T, uint8_t>("le", [](W a, W b) { return uint8_t(a <= b); });
    kernels["gt_" + type] = pair<T, uint8_t>("gt", [](W a, W b) { return uint8_t(a > b); });
    kernels["ge_" + type] = pair<T, uint8_t>("ge", [](W a, W b) { return uint8_t(a >= b); });
}

static const bool known = [] {
    of_all<float>("f32"), of_all<Bf16>("bf16"), of_all<uint32_t>("u32"), of_all<int64_t>("i64"), of_all<uint8_t>("u8");
    return of_floats<float>("f32"), of_floats<Bf16>("bf16"), true;
}();

extern "C" {
// A function is its name.
Status cuModuleLoadData(void **module, const void *) { return *module = &kernels, FINE; }
Status cuModuleLoad(void **module, const char *) { return *module = &kernels, FINE; }
Status cuModuleUnload(void *) { return FINE; }
Status cuModuleGetFunction(const std::string **function, void *, const char *name) {
    auto found = kernels.find(name);
    if (found == kernels.end()) refuse(std::string("no kernel is called ") + name);
    return *function = &found->first, FINE;
}
Status cuLaunchKernel(const std::string *function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned, unsigned, Stream *stream, void **arguments,
                      void **) {
    MY_TURN;
    if (!blocks || !threads) refuse("an empty launch of " + *function);
    counts.kernels++;
    tell(stream_of(stream), kernels[*function](Launch{arguments, blocks}));
    return FINE;
}
}
