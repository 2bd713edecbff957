// Elements of every type, of a symbol and the bytes of a raw part (F-4.1 of spec/FRAME.md).

#pragma once

#include "common.cuh"

// How elements come from coded bytes and raw parts.
#define BYTES 0u
#define BF16 1u
#define F16 2u
#define F32 3u
// As in dietgpu's archives, the sign is the lowest bit.
#define BF16_SIGN_LOW 4u

// Eight bytes of a plane at any address. All words that are read hold one of these bytes.
__device__ __forceinline__ uint2 read_eight(const u8 *from) {
    u32 skipped = u32(reinterpret_cast<u64>(from)) & 7u;
    if (skipped == 0) return __ldg(reinterpret_cast<const uint2 *>(from));
    skipped &= 3u;
    const u32 *words = reinterpret_cast<const u32 *>(from - skipped);
    u32 low = __ldg(words), middle = __ldg(words + 1), high = skipped == 0 ? 0u : __ldg(words + 2);
    return make_uint2(__funnelshift_r(low, middle, 8 * skipped), __funnelshift_r(middle, high, 8 * skipped));
}

// Byte `i` of eight, which is known when this is compiled.
__device__ __forceinline__ u32 byte(uint2 bytes, u32 i) { return (i < 4 ? bytes.x : bytes.y) >> 8 * (i % 4) & 255u; }

// An element of its symbol and its raw part.
__device__ __forceinline__ u32 element(u32 kind, u32 symbol, u32 low, u32 middle, u32 high) {
    if (kind == BF16) return merge_one(symbol, low);
    if (kind == F16) return symbol << 8 | low;
    if (kind == F32) return (high & 0x80u) << 24 | symbol << 23 | (high & 0x7fu) << 16 | middle << 8 | low;
    // The sign and the mantissa to both their places, and the exponent where neither is.
    if (kind == BF16_SIGN_LOW) return (low << 15 | low >> 1) & 0x807fu | symbol << 7;
    return symbol;
}

__device__ __forceinline__ u32 size_of(u32 kind) { return kind == BYTES ? 1 : kind == F32 ? 4 : 2; }

// Writes element `i` of its symbol. Planes follow each other after `stride` bytes.
__device__ __forceinline__ void write_one(u32 kind, u8 *outputs, u32 symbol, const u8 *planes, u64 stride, u64 i) {
    const u8 *plane = planes + i;
    u32 low = kind == BYTES ? 0u : __ldg(plane);
    u32 middle = kind == F32 ? __ldg(plane + stride) : 0u, high = kind == F32 ? __ldg(plane + 2 * stride) : 0u;
    u32 whole = element(kind, symbol, low, middle, high);
    if (kind == BYTES) {
        outputs[i] = whole;
    } else if (kind == F32) {
        reinterpret_cast<u32 *>(outputs)[i] = whole;
    } else {
        reinterpret_cast<u16 *>(outputs)[i] = whole;
    }
}

// Whether elements can be written by eights from every eighth on.
__device__ __forceinline__ bool can_write_eight(u32 kind, const u8 *outputs) {
    return (reinterpret_cast<u64>(outputs) & (kind == BYTES ? 7 : 15)) == 0;
}

// Writes eight elements from `i` on, a multiple of 8, of their symbols and the first plane's bytes.
__device__ __forceinline__ void write_eight(u32 kind, u8 *outputs, uint2 symbols, uint2 low, const u8 *planes, u64 stride, u64 i) {
    u8 *to = outputs + i * size_of(kind);
    uint4 *wide = reinterpret_cast<uint4 *>(to);
    if (kind == BYTES) {
        *reinterpret_cast<uint2 *>(to) = symbols;
    } else if (kind == BF16) {
        *wide = merge_eight(symbols, low);
    } else if (kind == F16) {
        *wide = make_uint4(__byte_perm(low.x, symbols.x, 0x5140), __byte_perm(low.x, symbols.x, 0x7362),
                           __byte_perm(low.y, symbols.y, 0x5140), __byte_perm(low.y, symbols.y, 0x7362));
    } else {
        uint2 middle = {}, high = {};
        if (kind == F32) {
            middle = read_eight(planes + stride + i);
            high = read_eight(planes + 2 * stride + i);
        }
        u32 e[8];
#pragma unroll
        for (u32 j = 0; j < 8; j++) e[j] = element(kind, byte(symbols, j), byte(low, j), byte(middle, j), byte(high, j));
        if (kind == F32) {
            wide[0] = make_uint4(e[0], e[1], e[2], e[3]);
            wide[1] = make_uint4(e[4], e[5], e[6], e[7]);
        } else {
            *wide = make_uint4(e[0] | e[1] << 16, e[2] | e[3] << 16, e[4] | e[5] << 16, e[6] | e[7] << 16);
        }
    }
}
