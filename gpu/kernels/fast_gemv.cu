// Multiplies matrices that codec dictionary holds (spec/DICTIONARY.md) with vectors; the weights
// are nowhere but in registers.
//
// The algorithm. A warp takes a chunk of 4,096 elements, and decodes it in rounds of 256 codes as
// fast_decode.cu does. Of the symbols in a row that a round leaves, each lane merges eight at a time
// with their signs and mantissas, and multiplies them where fast_decode.cu would store them. After
// each segment (gemv.cuh) the lanes' sums are added up. There are two ways through a chunk: one for
// whole chunks whose parts can be read as they are, which is nearly all, and one for any.
//
// Whatever the codes are, nothing is read behind the chunk's groups, and a chunk that breaks V-3.3
// is told.

#include "dictionary.cuh"
#include "elements.cuh"
#include "gemv.cuh"

// Groups whose signs and mantissas are asked for before a round, and elements of a vector after it.
#ifndef AHEAD
#define AHEAD 4u
#endif

struct __align__(16) Fast {
    Product product;
    // As in `Dictionary` of fast_decode.cu.
    const uint2 *entries;
    const u8 *codes;
    const u32 *offsets;
    const u8 *plane;
    u32 n_chunks;
    u32 width;
    u64 reserved;
};

// The signs and mantissas of eight elements, of which there are `n`; zeros for others.
__device__ __forceinline__ uint2 read_signs(const u8 *plane, u32 at, u32 n) {
    if (at + 8 <= n) return read_eight(plane + at);
    u32 words[2] = {};
#pragma unroll
    for (u32 j = 0; j < 8; j++) {
        if (at + j < n) words[j / 4] |= u32(__ldg(plane + at + j)) << 8 * (j % 4);
    }
    return make_uint2(words[0], words[1]);
}

// Multiplies a chunk, and finds the start of the next one of this warp in the meantime, if there is
// one; tells whether the chunk is valid.
template <u32 WIDTH, u32 MOST>
__device__ __forceinline__ bool run_chunk(Shared &shared, const Fast &item, const Vectors &vectors,
                                          u32 chunk, Start &start, bool has_next) {
    u32 lane = threadIdx.x % LANES;
    u32 first = chunk * CHUNK, n = item.product.rows * item.product.columns;
    u32 elements = min(n - first, CHUNK), groups = start.groups;
    const u8 *from = item.codes + u64(start.offset) * WIDTH;
    const u8 *plane = item.plane + first;
    Sums<MOST> sums(item.product, vectors, first);
    Stage stage(shared);
    if (has_next) find_codes(start, item.offsets, chunk + WARPS);
    // No chunk is without codes, but a damaged one may say so.
    if (has_next && groups == 0) start.codes = first_codes<WIDTH>(start, item.codes);
    for (u32 group = lane; group - lane < groups; group += LANES) {
        Codes codes = start.codes;
        bool is_last = group - lane + LANES >= groups;
        if (!is_last) {
            start.codes = read_codes(from + (group + LANES) * WIDTH, WIDTH, group + LANES < groups);
        } else if (has_next) {
            start.codes = first_codes<WIDTH>(start, item.codes);
        }
        stage.add<WIDTH>(shared, codes, group, groups, elements);
        u32 ready = min(stage.left, elements - stage.done), at = 0;
#pragma unroll 1
        for (; at + GROUP <= ready || (is_last && at < ready); at += GROUP) {
            uint2 symbols = read_staged(stage.symbols, at + 8 * lane, ready);
            uint2 low = read_signs(plane, stage.done + at + 8 * lane, elements);
            sums.add(item.product, vectors, merge_eight(symbols, low));
        }
        stage.remove(min(at, ready), is_last);
    }
    return __all_sync(ALL_LANES, stage.is_good && stage.done == elements);
}

// Whether `run_even_chunk` can multiply whole chunks of this matrix.
__device__ __forceinline__ bool is_even(const Fast &item, const Vectors &vectors) {
    return item.width == 12 && (reinterpret_cast<u64>(item.codes) & 3) == 0 &&
           (reinterpret_cast<u64>(item.plane) & 7) == 0 &&
           is_even(item.product, reinterpret_cast<u64>(item.product.x) + vectors.x);
}

// The same for a whole chunk of such a matrix.
template <u32 MOST>
__device__ __forceinline__ bool run_even_chunk(Shared &shared, const Fast &item, const Vectors &vectors,
                                               u32 chunk, Start &start, bool has_next) {
    u32 lane = threadIdx.x % LANES;
    const uint2 *plane = reinterpret_cast<const uint2 *>(item.plane + u64(chunk) * CHUNK) + lane;
    Sums<MOST> sums(item.product, vectors, chunk * CHUNK);
    Stage stage(shared);
    EvenCodes even(item.codes, item.offsets, start, chunk, has_next);
    for (u32 group = lane; group - lane < even.groups; group += LANES) {
        Codes codes = even.take(start, group);
        uint2 low[AHEAD];
#pragma unroll
        for (u32 i = 0; i < AHEAD; i++) {
            if (stage.done <= CHUNK - (i + 1) * GROUP) low[i] = __ldg(plane + i * LANES);
        }
        stage.add<12>(shared, codes, group, even.groups, CHUNK);
        // A whole chunk is 16 groups, so whole groups are all that is multiplied.
        u32 ready = min(stage.left, CHUNK - stage.done) / GROUP;
        // The first of the groups that ends a segment; others are every fourth from there.
        u32 ends = EIGHTS - 1 - stage.done / GROUP % EIGHTS;
        uint4 x[AHEAD];
#pragma unroll
        for (u32 i = 0; i < AHEAD; i++) x[i] = sums.read_x(i);
#pragma unroll
        for (u32 i = 0; i < AHEAD; i++) {
            if (i >= ready) break;
            uint4 weights = merge_eight(stage.eight(i * GROUP), low[i]);
            sums.add_quickly(item.product, vectors, weights, x[i], i % EIGHTS == ends);
        }
#pragma unroll 1
        for (u32 i = AHEAD; i < ready; i++) {
            uint4 weights = merge_eight(stage.eight(i * GROUP), __ldg(plane + i * LANES));
            sums.add_quickly(item.product, vectors, weights, sums.read_x(0), i % EIGHTS == ends);
        }
        plane += ready * LANES;
        stage.remove(ready * GROUP, false);
    }
    return __all_sync(ALL_LANES, stage.is_good && stage.done == CHUNK);
}

// Multiplies the chunks from `first` up to `end` that are this warp's; tells which is the first that
// is not valid.
template <u32 WIDTH, u32 MOST, bool IS_EVEN>
__device__ __forceinline__ u32 run_item(Shared &shared, const Fast &item, const Vectors &vectors,
                                        Start start, u32 first, u32 end) {
    u32 bad = ALL_GOOD;
    first += threadIdx.x / LANES;
    if (first >= end) return bad;
    if (!IS_EVEN) {
        find_codes(start, item.offsets, first);
        start.codes = first_codes<WIDTH>(start, item.codes);
    }
    for (u32 chunk = first; chunk < end; chunk += WARPS) {
        bool has_next = chunk + WARPS < end;
        bool is_good = IS_EVEN ? run_even_chunk<MOST>(shared, item, vectors, chunk, start, has_next)
                               : run_chunk<WIDTH, MOST>(shared, item, vectors, chunk, start, has_next);
        if (!is_good) bad = min(bad, chunk << 3 | NOT_VALID);
    }
    return bad;
}

template <u32 MOST>
__device__ __forceinline__ void run(const Fast *items, u32 n_items, u32 n_blocks, Vectors vectors,
                                    u32 *status) {
    __shared__ Shared shared;
    clear_staged(shared);
    Range range = share_of(n_blocks);
    u32 number = 0;
    while (number + 1 < n_items && items[number + 1].product.first_block <= range.begin) number++;
    for (u32 begin = range.begin; begin < range.end; number++) {
        const Fast &item = items[number];
        u32 base = item.product.first_block, end = min(range.end, base + item.product.n_blocks);
        u32 first = begin - base, last = end - base, n = item.product.rows * item.product.columns;
        u32 whole = is_even(item, vectors) ? min(last, n / CHUNK) : 0;
        // The first codes come while the table does.
        Start start = even_start(item.offsets, item.codes, first + threadIdx.x / LANES, whole);
        load_entries(shared, item.entries, item.width);
        __syncthreads();
        u32 bad = run_item<12, MOST, true>(shared, item, vectors, start, first, whole);
        first = max(first, whole);
        bad = min(bad, item.width == 8 ? run_item<8, MOST, false>(shared, item, vectors, {}, first, last)
                                       : run_item<12, MOST, false>(shared, item, vectors, {}, first, last));
        if (bad != ALL_GOOD && threadIdx.x % LANES == 0) atomicMin(status + number, bad);
        u32 all = (n + SEGMENT - 1) / SEGMENT;
        finish(item.product, vectors, (begin - base) * (CHUNK / SEGMENT), min(last * (CHUNK / SEGMENT), all));
        begin = end;
        // Before the table is another.
        __syncthreads();
    }
}

// Multiplies many matrices in one launch, each with the same number of vectors: at most as many as
// the name says.
#define FAST_GEMV(MOST, BLOCKS)                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                  \
        fast_gemv_##MOST(const Fast *items, u32 n_items, u32 n_blocks, u64 x, u64 y, u32 vectors,  \
                         u32 *status) {                                                            \
        run<MOST>(items, n_items, n_blocks, {x, y, vectors}, status);                              \
    }

#ifndef BLOCKS_OF_GEMV
#define BLOCKS_OF_GEMV 3
#endif

FAST_GEMV(1, BLOCKS_OF_GEMV)
FAST_GEMV(2, BLOCKS_OF_GEMV)
FAST_GEMV(4, BLOCKS_OF_GEMV)
FAST_GEMV(8, 2)
