// Sums by tensor cores: not the order of gemv.cuh, and one that cards of different generations round
// differently. An experiment: compile fast_gemv.cu with -DTENSOR_SUMS (gpu/card/prepare.sh does).
//
// Eight weights of a lane are a fragment of `mma.m16n8k16` as they are: four lanes have 32 weights
// of a row of the fragment. Their vector's elements, at the same places, are a column of the other
// fragment. So of 16 x 8 sums those on the diagonal of the first eight rows are of use.

#pragma once

#include "gemv.cuh"

__device__ __forceinline__ void multiply_tiles(float (&sums)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0,
                                               u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void multiply_eight_tiles(float (&sums)[4], uint4 w, uint4 x) {
    multiply_tiles(sums, w.x, w.z, w.y, w.w, x.x, x.y);
    multiply_tiles(sums, w.z, w.x, w.w, w.y, x.z, x.w);
}

template <u32 MOST>
struct TensorSums : Sums<MOST> {
    float tiles[MOST][4];

    __device__ __forceinline__ TensorSums(const Product &product, const Vectors &vectors, u32 first)
        : Sums<MOST>(product, vectors, first) {
        clear_tiles();
    }

    __device__ __forceinline__ void clear_tiles() {
#pragma unroll
        for (u32 v = 0; v < MOST; v++) tiles[v][0] = tiles[v][1] = tiles[v][2] = tiles[v][3] = 0;
    }

    __device__ __forceinline__ void add_quickly(const Product &product, const Vectors &vectors, uint4 w,
                                                uint4 x) {
        u32 lane = threadIdx.x % LANES;
        multiply_eight_tiles(tiles[0], w, x);
        if (MOST > 1) {
            const u16 *from = this->x + this->column + 8 * lane;
            __builtin_assume(__isGlobal(from));
#pragma unroll
            for (u32 v = 1; v < MOST; v++) {
                from += v < vectors.number ? product.x_stride : 0;
                multiply_eight_tiles(tiles[v], w, __ldg(reinterpret_cast<const uint4 *>(from)));
            }
        }
        this->column += STRIDE;
        this->element += STRIDE;
        if (this->element % SEGMENT != 0) return;
        bool is_diagonal = lane % 4 == lane / 8;
#pragma unroll
        for (u32 v = 0; v < MOST; v++) {
            this->lanes[v] = is_diagonal ? tiles[v][0] : 0;
            if (is_diagonal && (lane & 4) != 0) this->lanes[v] = tiles[v][1];
        }
        clear_tiles();
        this->store(vectors, true);
    }

    __device__ __forceinline__ void add(const Product &product, const Vectors &vectors, uint4 weights) {
        if (this->is_quick) {
            add_quickly(product, vectors, weights, this->read_x(0));
        } else {
            this->add_rows(product, vectors, weights);
        }
    }
};
