// Codes of codec dictionary (spec/DICTIONARY.md), and the table that they are looked up in.

#pragma once

#include "common.cuh"

#define CHUNK 4096u
// Codes of a lane, whose bytes are as many as a code has bits.
#define CODES 8u
#define MOST_SYMBOLS 7u
#define MOST_CODES 4096u

// What is found wrong with a chunk.
#define NOT_VALID 1u

// The bytes of eight codes, at any address.
struct Codes {
    u32 words[3];
};

__device__ __forceinline__ Codes read_codes(const u8 *from, u32 width, bool is_there) {
    Codes codes = {};
    if (!is_there) return codes;
    u32 skipped = u32(reinterpret_cast<u64>(from)) & 3u;
    const u32 *words = reinterpret_cast<const u32 *>(from - skipped);
    codes.words[0] = __ldg(words);
    codes.words[1] = __ldg(words + 1);
    if (width == 12) codes.words[2] = __ldg(words + 2);
    if (skipped != 0) {
        u32 last = __ldg(words + width / 4);
        u32 next = width == 12 ? codes.words[2] : last;
        codes.words[0] = __funnelshift_r(codes.words[0], codes.words[1], 8 * skipped);
        codes.words[1] = __funnelshift_r(codes.words[1], next, 8 * skipped);
        codes.words[2] = __funnelshift_r(codes.words[2], last, 8 * skipped);
    }
    return codes;
}

// Code `i`, which is known when this is compiled.
__device__ __forceinline__ u32 code(const Codes &codes, u32 width, u32 i) {
    const u32 *words = codes.words;
    if (width == 8) return words[i / 4] >> 8 * (i % 4) & 255u;
    u32 bit = 12 * i;
    return __funnelshift_r(words[bit / 32], bit / 32 < 2 ? words[bit / 32 + 1] : 0u, bit % 32) & 4095u;
}

// Whether the codes of a lane whose symbols go past the last element are as V-3.3 says.
template <u32 WIDTH>
__device__ __forceinline__ bool ends_well(const Codes &codes, const uint2 *entries, u32 start, u32 elements) {
    bool is_good = start < elements;
#pragma unroll
    for (u32 i = 0; i < CODES; i++) {
        u32 end = start + (entries[i].y >> 27);
        is_good &= start < elements ? end <= elements : code(codes, WIDTH, i) == 0;
        start = end;
    }
    return is_good;
}

// Copies the table to shared memory, with all threads; symbols as `merge_eight` takes them, if they
// are exponents of BF16.
__device__ __forceinline__ void load_entries(uint2 *to, const uint2 *from, u32 width, bool is_bf16) {
    for (u32 i = threadIdx.x; i < 1u << width; i += THREADS) {
        uint2 entry = __ldg(from + i);
        if (is_bf16) {
            entry.x = entry.x >> 1 & 0x7f7f7f7fu | entry.x << 7 & 0x80808080u;
            entry.y = entry.y >> 1 & 0x7f7f7fu | entry.y << 7 & 0x808080u | entry.y & 0xff000000u;
        }
        to[i] = entry;
    }
}
