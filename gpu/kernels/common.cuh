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

// Two weights, of the symbols and the signs and mantissas in the bytes that `selector` names, each twice: a symbol is an exponent
// turned right by one bit, so both bytes of a weight are a mix of the same two bytes.
__device__ __forceinline__ u32 merge_two(u32 symbols, u32 sign_mantissas, u32 selector) {
    u32 s = __byte_perm(symbols, 0, selector), sm = __byte_perm(sign_mantissas, 0, selector);
    return (s & 0x7f807f80u) | (sm & ~0x7f807f80u);
}

// Eight weights.
__device__ __forceinline__ uint4 merge_eight(uint2 symbols, uint2 sign_mantissas) {
    return make_uint4(merge_two(symbols.x, sign_mantissas.x, 0x1100), merge_two(symbols.x, sign_mantissas.x, 0x3322),
                      merge_two(symbols.y, sign_mantissas.y, 0x1100), merge_two(symbols.y, sign_mantissas.y, 0x3322));
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
