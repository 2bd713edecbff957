// Multiplies matrices of plain BF16 with vectors, in the order of summation of gemv.cuh: what the
// kernels for compressed weights must give bit for bit, and a measure for their speed.

#include "gemv.cuh"

struct __align__(16) Plain {
    Product product;
    const u16 *weights;
    u64 reserved;
};

// Eight weights from `at` on; zeros behind the last of `n`.
__device__ __forceinline__ uint4 read_weights(const u16 *weights, u32 n, u32 at) {
    u32 words[4];
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
        u32 low = at + 2 * j < n ? __ldg(weights + at + 2 * j) : 0u;
        u32 high = at + 2 * j + 1 < n ? __ldg(weights + at + 2 * j + 1) : 0u;
        words[j] = low | high << 16;
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

template <u32 MOST>
__device__ __forceinline__ void multiply_weights(const Plain &item, const Vectors &vectors, u32 segment) {
    const Product &product = item.product;
    u32 first = segment * SEGMENT + 8 * (threadIdx.x % LANES), n = product.rows * product.columns;
    Sums<MOST> sums(product, vectors, segment * SEGMENT);
    if (sums.is_quick && (reinterpret_cast<u64>(item.weights) & 15) == 0) {
        uint4 weights[EIGHTS], x[EIGHTS];
#pragma unroll
        for (u32 i = 0; i < EIGHTS; i++) {
            weights[i] = __ldcs(reinterpret_cast<const uint4 *>(item.weights + first + STRIDE * i));
        }
#pragma unroll
        for (u32 i = 0; i < EIGHTS; i++) x[i] = sums.read_x(i);
#pragma unroll
        for (u32 i = 0; i < EIGHTS; i++) sums.add_quickly(product, vectors, weights[i], x[i]);
        return;
    }
#pragma unroll 1
    for (u32 i = 0; i < EIGHTS; i++) {
        sums.add(product, vectors, read_weights(item.weights, n, first + STRIDE * i));
    }
}

template <u32 MOST>
__device__ __forceinline__ void run(const Plain *items, u32 n_items, u32 n_blocks, Vectors vectors) {
    Range range = share_of(n_blocks);
    u32 item = 0;
    while (item + 1 < n_items && items[item + 1].product.first_block <= range.begin) item++;
    for (u32 begin = range.begin; begin < range.end; item++) {
        const Product &product = items[item].product;
        u32 n = product.rows * product.columns;
        u32 all = (n + SEGMENT - 1) / SEGMENT, first_block = product.first_block;
        u32 end = min(range.end, first_block + product.n_blocks);
        u32 first = (begin - first_block) * WARPS, last = min((end - first_block) * WARPS, all);
        for (u32 segment = first + threadIdx.x / LANES; segment < last; segment += WARPS) {
            multiply_weights<MOST>(items[item], vectors, segment);
        }
        finish(product, vectors, first, last);
        begin = end;
    }
}

// Multiplies many matrices in one launch, each with the same number of vectors: at most as many as
// the name says.
#define PLAIN_GEMV(MOST, BLOCKS)                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                  \
        plain_gemv_##MOST(const Plain *items, u32 n_items, u32 n_blocks, u64 x, u64 y,             \
                          u32 vectors) {                                                           \
        run<MOST>(items, n_items, n_blocks, {x, y, vectors});                                      \
    }

PLAIN_GEMV(1, 4)
PLAIN_GEMV(2, 3)
PLAIN_GEMV(4, 3)
PLAIN_GEMV(8, 2)
