// Multiplies matrices of plain BF16 with vectors, in the order of summation of gemv.cuh: what the
// kernels for compressed weights must give bit for bit, and a measure for their speed.

#include "gemv.cuh"

struct __align__(16) Plain {
    Product product;
    const u16 *weights;
    u64 reserved;
};

// The weights of a lane in a segment; zeros behind the last.
__device__ __forceinline__ void read_weights(const u16 *weights, u32 n, u32 segment, bool is_even,
                                             uint4 (&eights)[EIGHTS]) {
    u32 first = segment * SEGMENT + 8 * (threadIdx.x % LANES);
#pragma unroll
    for (u32 i = 0; i < EIGHTS; i++) {
        u32 at = first + STRIDE * i;
        if (is_even && at + 8 <= n) {
            eights[i] = __ldcs(reinterpret_cast<const uint4 *>(weights + at));
        } else {
            u32 words[4];
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                u32 low = at + 2 * j < n ? __ldg(weights + at + 2 * j) : 0u;
                u32 high = at + 2 * j + 1 < n ? __ldg(weights + at + 2 * j + 1) : 0u;
                words[j] = low | high << 16;
            }
            eights[i] = make_uint4(words[0], words[1], words[2], words[3]);
        }
    }
}

template <u32 MOST>
__device__ __forceinline__ void run(const Plain *items, u32 n_items, u32 n_blocks, Vectors vectors) {
    Range range = share_of(n_blocks);
    u32 item = 0;
    while (item + 1 < n_items && items[item + 1].product.first_block <= range.begin) item++;
    for (u32 begin = range.begin; begin < range.end; item++) {
        const Product &product = items[item].product;
        const u16 *weights = items[item].weights;
        u32 n = product.rows * product.columns;
        u32 all = (n + SEGMENT - 1) / SEGMENT, first_block = product.first_block;
        u32 end = min(range.end, first_block + product.n_blocks);
        u32 first = (begin - first_block) * WARPS, last = min((end - first_block) * WARPS, all);
        bool is_even = (reinterpret_cast<u64>(weights) & 15) == 0;
        for (u32 segment = first + threadIdx.x / LANES; segment < last; segment += WARPS) {
            uint4 eights[EIGHTS];
            read_weights(weights, n, segment, is_even, eights);
            multiply_segment<MOST>(product, vectors, segment, eights);
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

PLAIN_GEMV(1, 3)
PLAIN_GEMV(2, 3)
PLAIN_GEMV(4, 3)
PLAIN_GEMV(8, 2)
