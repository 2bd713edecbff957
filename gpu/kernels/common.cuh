// What all kernels share.

#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

#define LANES 32u
#define WARPS 8u
#define THREADS (WARPS * LANES)
#define ALL_LANES 0xffffffffu

// For each bit of `mask` that is set, the bit of `a`, and otherwise that of `b`: one instruction.
__device__ __forceinline__ u32 choose_bits(u32 mask, u32 a, u32 b) {
    u32 chosen;
    asm("lop3.b32 %0, %1, %2, %3, 0xca;" : "=r"(chosen) : "r"(mask), "r"(a), "r"(b));
    return chosen;
}

// Eight weights of their symbols, and of their signs and mantissas. A symbol is an exponent turned
// right by one bit, so a weight's bytes are both halves of the same two bytes, but for their highest
// bits: the sign goes with the exponent, and the exponent's last bit with the mantissa.
__device__ __forceinline__ uint4 merge_eight(uint2 symbols, uint2 sign_mantissas) {
    u32 highest = 0x80808080u;
    u32 upper = choose_bits(highest, sign_mantissas.x, symbols.x);
    u32 lower = choose_bits(highest, symbols.x, sign_mantissas.x);
    u32 next_upper = choose_bits(highest, sign_mantissas.y, symbols.y);
    u32 next_lower = choose_bits(highest, symbols.y, sign_mantissas.y);
    return make_uint4(__byte_perm(lower, upper, 0x5140), __byte_perm(lower, upper, 0x7362),
                      __byte_perm(next_lower, next_upper, 0x5140), __byte_perm(next_lower, next_upper, 0x7362));
}

// One weight, of the lowest bytes.
__device__ __forceinline__ u32 merge_one(u32 symbol, u32 sign_mantissa) {
    u32 upper = choose_bits(0x80u, sign_mantissa, symbol), lower = choose_bits(0x80u, symbol, sign_mantissa);
    return upper << 8 & 0xff00u | lower & 0xffu;
}

// What one thread block does of a launch: so many of `all` as the others, or one more.
struct Range {
    u32 begin;
    u32 end;
};

__device__ __forceinline__ Range share_of(u32 all) {
    u32 each = all / gridDim.x, more = all % gridDim.x, begin = each * blockIdx.x + min(blockIdx.x, more);
    return {begin, begin + each + (blockIdx.x < more)};
}

// The item that a block of the launch belongs to: the last that begins at or before it.
template <typename Item>
__device__ __forceinline__ u32 find_item(const Item *items, u32 n, u32 block) {
    u32 low = 0, high = n;
    while (high - low > 1) {
        u32 middle = (low + high) / 2;
        if (items[middle].first_block <= block) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

// Copies to shared memory, with all threads.
template <typename T>
__device__ __forceinline__ void load(T *to, const T *from) {
    static_assert(sizeof(T) % 16 == 0, "copied in 16 bytes");
    for (u32 i = threadIdx.x; i < sizeof(T) / 16; i += THREADS) {
        reinterpret_cast<uint4 *>(to)[i] = __ldg(reinterpret_cast<const uint4 *>(from) + i);
    }
}

// Thread blocks that a multiprocessor is to run at a time, where its registers suffice for that.
#if __CUDA_ARCH__ >= 900
#define BLOCKS_EACH 5
#else
#define BLOCKS_EACH 4
#endif
