#pragma once
#include "standin.h"

#include <cstring>

/// Sixteen bits of an f32, rounded to the nearest, ties to even.
struct Bf16 {
    uint16_t bits;
    Bf16() = default;
    explicit Bf16(float x) {
        uint32_t all;
        std::memcpy(&all, &x, 4);
        bool nan = (all & 0x7fffffff) > 0x7f800000;
        bits = nan ? 0x7fff : (all + 0x7fff + ((all >> 16) & 1)) >> 16;
    }
    explicit operator float() const {
        uint32_t all = uint32_t(bits) << 16;
        float x;
        std::memcpy(&x, &all, 4);
        return x;
    }
};
