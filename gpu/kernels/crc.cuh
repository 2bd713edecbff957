// Arithmetic of polynomials over two elements, modulo that of CRC-32 (section 8 of spec/FRAME.md).
// The highest bit of a number is the coefficient of 1, the lowest that of x^31, so a multiplication
// by x is a shift to the right.

#pragma once

typedef unsigned int u32;

#define POLYNOMIAL 0xedb88320u

__device__ __forceinline__ u32 times_x(u32 a) { return a >> 1 ^ ((a & 1) != 0 ? POLYNOMIAL : 0u); }

__device__ __forceinline__ u32 product(u32 a, u32 b) {
    u32 sum = 0;
#pragma unroll 8
    for (u32 i = 0; i < 32; i++, b <<= 1) {
        sum ^= b >> 31 != 0 ? a : 0u;
        a = times_x(a);
    }
    return sum;
}

// What is left of a word after 32 zero bits.
__device__ __forceinline__ u32 after_word(u32 a) {
#pragma unroll 8
    for (u32 i = 0; i < 32; i++) a = times_x(a);
    return a;
}

// The product of a word and what the table is of: it has the product of each byte at each place.
__device__ __forceinline__ u32 product(const u32 (*table)[256], u32 a) {
    return table[0][a & 255u] ^ table[1][a >> 8 & 255u] ^ table[2][a >> 16 & 255u] ^ table[3][a >> 24];
}
