// What the kernels share that multiply a matrix of BF16 weights with vectors: y = W x.
//
// The order of summation, which neither the grid nor the card nor the way in which weights are
// stored changes. A matrix is its elements in a row, row after row. A *segment* is 1,024 of them
// from a multiple of 1,024 on. A warp takes a segment: lane l has the elements
// 256 i + 8 l + j, for i from 0 to 3 and j from 0 to 7. A *piece* is what a segment has of a row.
//
// 1. Each lane adds its products of a piece in this order, i by i and j by j, with one rounding for
//    a product and its addition (`fma`), from 0 on.
// 2. The sums of the lanes are added in pairs: lanes whose numbers differ by 16 first, then by 8,
//    4, 2 and 1.
// 3. The pieces of a row are added in their order, from 0 on; then the bias, then the residual.
//
// All sums are F32. A result in BF16 is rounded once, to the nearest, ties to even.

#pragma once

#include "common.cuh"

#define SEGMENT 1024u
// Eights of a lane in a segment, and elements from one to the next.
#define EIGHTS 4u
#define STRIDE (8u * LANES)
// Segments of a block of the launch: one for each warp.
#define BLOCK_ELEMENTS (WARPS * SEGMENT)

// Flags of a product: results are F32; there is a residual.
#define WIDE_RESULTS 1u
#define HAS_RESIDUAL 2u

// A product of a matrix with a batch of vectors, but for the matrix.
struct __align__(16) Product {
    // The vectors, BF16, `x_stride` elements from one to the next; after the address that a launch
    // is given, as are the residual and the results.
    const u16 *x;
    u8 *y;
    // A bias for each row, or null; BF16.
    const u16 *bias;
    // What is added to the results, where they are; BF16.
    const u8 *residual;
    // The sums of pieces: that of segment s and row r has the number s + r. One for each vector.
    float *pieces;
    // For each row and vector how many pieces of those rows have arrived in which thread blocks
    // meet. 0 before and after a launch.
    u32 *arrived;
    u64 x_stride;
    u64 y_stride;
    u32 rows;
    u32 columns;
    // Where the product's blocks begin among all blocks of a launch, and how many it has.
    u32 first_block;
    u32 n_blocks;
    u32 flags;
    u32 reserved[3];
};

// What a launch is given besides.
struct Vectors {
    u64 x;
    u64 y;
    u32 number;
};

__device__ __forceinline__ float low_half(u32 pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_half(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

__device__ __forceinline__ float widened(u16 weight) { return __uint_as_float(u32(weight) << 16); }

// The nearest BF16, of two the even one.
__device__ __forceinline__ u16 rounded(float value) {
    u32 bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return u16(bits >> 16 | 0x40u);
    return u16((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// Eight symbols of a segment, from `at` on. Zeros behind the last of `n`.
__device__ __forceinline__ uint2 read_staged(const u8 *staged, u32 at, u32 n) {
    if (at + 8 <= n) return *reinterpret_cast<const uint2 *>(staged + at);
    u32 words[2] = {};
#pragma unroll
    for (u32 j = 0; j < 7; j++) {
        if (at + j < n) words[j / 4] |= u32(staged[at + j]) << 8 * (j % 4);
    }
    return make_uint2(words[0], words[1]);
}

// Adds the products of eight weights with eight elements of a vector.
__device__ __forceinline__ float multiply_eight(uint4 weights, uint4 x, float sum) {
    sum = __fmaf_rn(low_half(weights.x), low_half(x.x), sum);
    sum = __fmaf_rn(high_half(weights.x), high_half(x.x), sum);
    sum = __fmaf_rn(low_half(weights.y), low_half(x.y), sum);
    sum = __fmaf_rn(high_half(weights.y), high_half(x.y), sum);
    sum = __fmaf_rn(low_half(weights.z), low_half(x.z), sum);
    sum = __fmaf_rn(high_half(weights.z), high_half(x.z), sum);
    sum = __fmaf_rn(low_half(weights.w), low_half(x.w), sum);
    return __fmaf_rn(high_half(weights.w), high_half(x.w), sum);
}

// Adds up the lanes' sums of each vector, and stores them. While there is more than one vector,
// each half of the lanes goes on with half of the vectors.
template <u32 MOST>
__device__ __forceinline__ void store_piece(float (&sums)[MOST], float *piece, u32 vectors) {
    u32 lane = threadIdx.x % LANES, distance = LANES / 2;
#pragma unroll
    for (u32 half = MOST / 2; half > 0; half /= 2, distance /= 2) {
        bool is_upper = (lane & distance) != 0;
#pragma unroll
        for (u32 i = 0; i < half; i++) {
            float kept = is_upper ? sums[half + i] : sums[i];
            float given = is_upper ? sums[i] : sums[half + i];
            sums[i] = __fadd_rn(kept, __shfl_xor_sync(ALL_LANES, given, distance));
        }
    }
#pragma unroll
    for (; distance > 0; distance /= 2) {
        sums[0] = __fadd_rn(sums[0], __shfl_xor_sync(ALL_LANES, sums[0], distance));
    }
    u32 vector = lane / (LANES / MOST);
    if (lane % (LANES / MOST) == 0 && vector < vectors) piece[vector] = sums[0];
}

// Whether each segment is of one row, and eight elements of a vector can be read at once.
__device__ __forceinline__ bool is_even(const Product &product, u64 x) {
    return product.columns % SEGMENT == 0 && product.x_stride % 8 == 0 && (x & 15) == 0;
}

// The sums of a warp that goes through a matrix from the beginning of a segment on, 256 elements at
// a time. What it needs of a product is in registers.
template <u32 MOST>
struct Sums {
    float lanes[MOST];
    // Where the sums of the next piece go.
    float *piece;
    const u16 *x;
    // The same for this lane: eight elements for each lane before it are theirs.
    const u16 *own;
    // The next element, and its column.
    u32 element;
    u32 column;
    u32 columns;
    bool is_quick;

    __device__ __forceinline__ Sums(const Product &product, const Vectors &vectors, u32 first) {
        u32 row = first / product.columns;
        element = first;
        columns = product.columns;
        column = first - row * columns;
        x = reinterpret_cast<const u16 *>(reinterpret_cast<u64>(product.x) + vectors.x);
        own = x + 8 * (threadIdx.x % LANES);
        is_quick = is_even(product, reinterpret_cast<u64>(x));
        piece = product.pieces + u64(first / SEGMENT + row) * vectors.number;
        clear();
    }

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (u32 v = 0; v < MOST; v++) lanes[v] = 0;
    }

    // After a piece: the next is of another segment, of another row, or both.
    __device__ __forceinline__ void store(const Vectors &vectors, bool is_segment_end) {
        __builtin_assume(__isGlobal(piece));
        store_piece<MOST>(lanes, piece, vectors.number);
        clear();
        bool is_row_end = column == columns;
        if (is_row_end) column = 0;
        piece += (u32(is_segment_end) + u32(is_row_end)) * vectors.number;
    }

    // The first vector's elements for the group that is `ahead` of the next, if `is_quick`. They are
    // asked for where this stands, and not where they are used.
    __device__ __forceinline__ uint4 read_x(u32 ahead) const {
        u32 at = column + ahead * STRIDE;
        // Past the end of the row, the smaller is that of the next one.
        at = min(at, at - columns);
        u64 from = reinterpret_cast<u64>(own) + u64(at) * sizeof(u16);
        uint4 eight;
        asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(eight.x), "=r"(eight.y), "=r"(eight.z), "=r"(eight.w)
                     : "l"(from));
        return eight;
    }

    // Adds the products of the next 256 elements, of which each lane has eight, if `is_quick`.
    // `eight` is what `read_x` gave.
    __device__ __forceinline__ void add_quickly(const Product &product, const Vectors &vectors,
                                                uint4 weights, uint4 eight) {
        element += STRIDE;
        add_quickly(product, vectors, weights, eight, element % SEGMENT == 0);
    }

    // The same where the caller knows what ends a segment; `element` stays.
    __device__ __forceinline__ void add_quickly(const Product &product, const Vectors &vectors,
                                                uint4 weights, uint4 eight, bool is_segment_end) {
        lanes[0] = multiply_eight(weights, eight, lanes[0]);
        if (MOST > 1) {
            const u16 *from = own + column;
            __builtin_assume(__isGlobal(from));
#pragma unroll
            for (u32 v = 1; v < MOST; v++) {
                // One that there is not is the last again.
                from += v < vectors.number ? product.x_stride : 0;
                lanes[v] = multiply_eight(weights, __ldg(reinterpret_cast<const uint4 *>(from)), lanes[v]);
            }
        }
        column += STRIDE;
        if (is_segment_end) store(vectors, true);
    }

    // The same where rows end anywhere.
    __device__ __forceinline__ void add_rows(const Product &product, const Vectors &vectors,
                                             uint4 weights) {
        element += STRIDE;
        bool is_end = element % SEGMENT == 0;
        u32 words[4] = {weights.x, weights.y, weights.z, weights.w}, n = product.rows * columns;
        u32 first = 8 * (threadIdx.x % LANES), begin = 0;
#pragma unroll 1
        while (begin < STRIDE && element - STRIDE + begin < n) {
            // The elements of this row among the 256.
            u32 end = min(STRIDE, begin + columns - column);
#pragma unroll
            for (u32 j = 0; j < 8; j++) {
                u32 place = first + j;
                if (place < begin || place >= end) continue;
                float weight = j % 2 == 0 ? low_half(words[j / 2]) : high_half(words[j / 2]);
                const u16 *from = x + (column + (place - begin));
#pragma unroll
                for (u32 v = 0; v < MOST; v++) {
                    lanes[v] = __fmaf_rn(weight, widened(__ldg(from)), lanes[v]);
                    if (MOST > 1) from += v + 1 < vectors.number ? product.x_stride : 0;
                }
            }
            column += end - begin;
            begin = end;
            if (column == columns || (is_end && end == STRIDE)) store(vectors, is_end && end == STRIDE);
        }
    }

    __device__ __forceinline__ void add(const Product &product, const Vectors &vectors, uint4 weights) {
        if (is_quick) {
            add_quickly(product, vectors, weights, read_x(0));
        } else {
            add_rows(product, vectors, weights);
        }
    }
};

// Reads what other thread blocks may have written.
__device__ __forceinline__ float read_fresh(const float *from) {
    float value;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(value) : "l"(from) : "memory");
    return value;
}

// Orders what a thread has seen and written before what it does next, for all thread blocks. (That
// of `__threadfence` takes longer.)
__device__ __forceinline__ void fence() { asm volatile("fence.acq_rel.gpu;" : : : "memory"); }

// Adds up the pieces of a row, and stores its result.
__device__ __forceinline__ void store_result(const Product &product, const Vectors &vectors,
                                             u32 row, u32 vector) {
    u32 first = u32(u64(row) * product.columns / SEGMENT);
    u32 last = u32((u64(row + 1) * product.columns - 1) / SEGMENT);
    const float *piece = product.pieces + u64(first + row) * vectors.number + vector;
    float sum = 0;
    for (u32 i = first; i <= last; i++, piece += vectors.number) {
        sum = __fadd_rn(sum, read_fresh(piece));
    }
    u64 place = vector * product.y_stride + row;
    if (product.bias != nullptr) sum = __fadd_rn(sum, widened(__ldg(product.bias + row)));
    if ((product.flags & HAS_RESIDUAL) != 0) {
        const u8 *residual = product.residual + vectors.y;
        __builtin_assume(__isGlobal(residual));
        sum = __fadd_rn(sum, widened(reinterpret_cast<const u16 *>(residual)[place]));
    }
    u8 *y = product.y + vectors.y;
    __builtin_assume(__isGlobal(y));
    if ((product.flags & WIDE_RESULTS) != 0) {
        reinterpret_cast<float *>(y)[place] = sum;
    } else {
        reinterpret_cast<u16 *>(y)[place] = rounded(sum);
    }
}

// After the segments from `begin` up to `end` of a product, with all threads: stores the results of
// the rows in them. Of a row that has pieces in other thread blocks, the last of these does.
__device__ __forceinline__ void finish(const Product &product, const Vectors &vectors, u32 begin,
                                       u32 end) {
    __syncthreads();
    u32 columns = product.columns, n = product.rows * columns;
    u32 first = begin * SEGMENT / columns, last = (min(end * SEGMENT, n) - 1) / columns;
    u32 results = (last + 1 - first) * vectors.number;
    for (u32 i = threadIdx.x; i < results; i += THREADS) {
        u32 row = first + i / vectors.number, vector = i % vectors.number;
        u32 first_piece = u32(u64(row) * columns / SEGMENT);
        u32 end_piece = u32((u64(row + 1) * columns - 1) / SEGMENT) + 1;
        u32 own = min(end, end_piece) - max(begin, first_piece), all = end_piece - first_piece;
        if (own < all) {
            u32 *arrived = product.arrived + u64(row) * vectors.number + vector;
            __builtin_assume(__isGlobal(arrived));
            // The pieces of this thread block are there before anybody is told, and those of the
            // others before they are read.
            fence();
            if (atomicAdd(arrived, own) + own != all) continue;
            fence();
            // For the next launch.
            atomicExch(arrived, 0);
        }
        store_result(product, vectors, row, vector);
    }
}
