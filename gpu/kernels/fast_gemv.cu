// Multiplies matrices that codec dictionary holds (spec/DICTIONARY.md) with vectors; the weights
// are nowhere but in registers.
//
// The algorithm. A warp takes a chunk of 4,096 elements, and decodes it in rounds of 256 codes as
// fast_decode.cu does. Of the symbols in a row that a round leaves, each lane merges eight at a time
// with their signs and mantissas, which were asked for before the round, and multiplies them where
// fast_decode.cu would store them. After each segment (gemv.cuh) the lanes' sums are added up.
//
// Whatever the codes are, nothing is read behind the chunk's groups, and a chunk that breaks V-3.3
// is told.

#include "dictionary.cuh"
#include "elements.cuh"
#include "gemv.cuh"
#ifdef TENSOR_SUMS
#include "tensor.cuh"
#define Sums TensorSums
#endif

// Elements that are merged together.
#define GROUP (8u * LANES)
// Symbols that are left, and those of a round.
#define STAGED (GROUP + LANES * CODES * MOST_SYMBOLS)
// Groups whose signs and mantissas are asked for before a round.
#ifndef AHEAD
#define AHEAD 5u
#endif
// And groups whose elements of a vector are.
#ifndef X_AHEAD
#define X_AHEAD 4u
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

struct __align__(16) Shared {
    uint2 entries[MOST_CODES];
    u8 staged[WARPS][STAGED];
};

// Where a chunk's codes are, and the first of them for a lane.
struct Start {
    u32 offset;
    u32 groups;
    Codes codes;
};

__device__ __forceinline__ void find_codes(Start &start, const Fast &item, u32 chunk) {
    start.offset = __ldg(item.offsets + chunk);
    start.groups = __ldg(item.offsets + chunk + 1) - start.offset;
}

template <u32 WIDTH>
__device__ __forceinline__ Codes first_codes(const Start &start, const Fast &item) {
    u32 lane = threadIdx.x % LANES;
    return read_codes(item.codes + u64(start.offset) * WIDTH + lane * WIDTH, WIDTH, lane < start.groups);
}

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
    u32 lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    u8 *staged = shared.staged[warp];
    u32 staged_address = u32(__cvta_generic_to_shared(staged));
    u32 first = chunk * CHUNK, n = item.product.rows * item.product.columns;
    u32 elements = min(n - first, CHUNK), groups = start.groups;
    const u8 *from = item.codes + u64(start.offset) * WIDTH;
    const u8 *plane = item.plane + first;
    Sums<MOST> sums(item.product, vectors, first);
    // Elements that are multiplied; symbols that are staged but not yet merged; the last of these,
    // which fill no word.
    u32 done = 0, left = 0, rest = 0;
    bool is_good = true;
    if (has_next) find_codes(start, item, chunk + WARPS);
    // No chunk is without codes, but a damaged one may say so.
    if (has_next && groups == 0) start.codes = first_codes<WIDTH>(start, item);
    for (u32 group = lane; group - lane < groups; group += LANES) {
        Codes codes = start.codes;
        bool is_there = group < groups;
        if (group - lane + LANES < groups) {
            start.codes = read_codes(from + (group + LANES) * WIDTH, WIDTH, group + LANES < groups);
        } else if (has_next) {
            start.codes = first_codes<WIDTH>(start, item);
        }
        uint2 low[AHEAD];
#pragma unroll
        for (u32 i = 0; i < AHEAD; i++) {
            low[i] = {};
            if (sums.is_quick && done + (i + 1) * GROUP <= elements) low[i] = read_eight(plane + done + i * GROUP + 8 * lane);
        }

        uint2 entries[CODES];
        u32 bits = 0;
#pragma unroll
        for (u32 i = 0; i < CODES; i++) {
            entries[i] = shared.entries[code(codes, WIDTH, i)];
            bits += entries[i].y >> 24;
        }
        if (!is_there) bits = 0;
        u32 end = bits;
#pragma unroll
        for (u32 distance = 1; distance < LANES; distance *= 2) {
            u32 other = __shfl_up_sync(ALL_LANES, end, distance);
            if (lane >= distance) end += other;
        }
        u32 all = __shfl_sync(ALL_LANES, end, LANES - 1);
        end += 8 * left;
        u32 place = end - bits;
        if (is_there && done + end / 8 > elements) {
            is_good &= ends_well<WIDTH>(codes, entries, done + place / 8, elements);
        }

        // In bits: symbols are put together from where they begin in their first word.
        u32 pending = 0, fill = place % 32, first_word = staged_address + place / 32 * 4, to = first_word;
        if (is_there) {
#pragma unroll
            for (u32 i = 0; i < CODES; i++) {
                u32 low = entries[i].x, high = entries[i].y & 0xffffffu, until = fill + (entries[i].y >> 24);
                u32 words[3] = {pending | __funnelshift_l(0, low, fill), __funnelshift_l(low, high, fill),
                                __funnelshift_l(high, 0, fill)};
                // In PTX, so that a predicate each serves the stores and all that depends on them.
                asm volatile("{ .reg .pred one, two; setp.ge.u32 one, %2, 32; setp.ge.u32 two, %2, 64;\n"
                             "@one st.shared.u32 [%0], %3; @two st.shared.u32 [%0+4], %4;\n"
                             "selp.b32 %1, %4, %3, one; selp.b32 %1, %5, %1, two;\n"
                             "@one add.u32 %0, %0, 4; @two add.u32 %0, %0, 4; }"
                             : "+r"(to), "=&r"(pending)
                             : "r"(until), "r"(words[0]), "r"(words[1]), "r"(words[2])
                             : "memory");
                fill = until % 32;
            }
        }
        uint4 x[X_AHEAD + 1] = {};
        if (sums.is_quick) {
#pragma unroll
            for (u32 i = 0; i < X_AHEAD; i++) x[i] = sums.read_x(i);
        }
        u32 before = __shfl_up_sync(ALL_LANES, pending, 1);
        if (lane == 0) before = rest;
        if (is_there) {
            u32 word;
            asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(first_word) : "memory");
            asm volatile("st.shared.u32 [%0], %1;" : : "r"(first_word), "r"(word | before) : "memory");
        }
        // What the last lane that has codes leaves comes to its place, too.
        if ((group + 1 == groups || lane == LANES - 1) && is_there && fill != 0) {
            asm volatile("st.shared.u32 [%0], %1;" : : "r"(to), "r"(pending) : "memory");
        }
        rest = __shfl_sync(ALL_LANES, pending, LANES - 1);
        left += all / 8;
        __syncwarp();

        u32 ready = min(left, elements - done), at = 0;
#pragma unroll
        for (u32 i = 0; i < AHEAD; i++) {
            if (sums.is_quick && at + GROUP <= ready) {
                uint2 symbols = *reinterpret_cast<const uint2 *>(staged + at + 8 * lane);
                uint4 eight = i < X_AHEAD ? x[i] : sums.read_x(0);
                sums.add_quickly(item.product, vectors, merge_eight(symbols, low[i]), eight);
                at += GROUP;
            }
        }
        bool is_last = group - lane + LANES >= groups;
#pragma unroll 1
        while (at + GROUP <= ready || (is_last && at < ready)) {
            uint2 symbols = read_staged(staged, at + 8 * lane, ready);
            uint2 low = read_signs(plane, done + at + 8 * lane, elements);
            sums.add(item.product, vectors, merge_eight(symbols, low));
            at += GROUP;
        }
        at = min(at, ready);
        done += at;
        // Symbols behind the last element have no place.
        left = min(left - at, GROUP - 1);
        if (!is_last && at > 0) {
            u32 words[GROUP / 4 / LANES];
#pragma unroll
            for (u32 i = 0; i < GROUP / 4 / LANES; i++) {
                u32 word = 4 * (i * LANES + lane);
                words[i] = word < left ? *reinterpret_cast<const u32 *>(staged + at + word) : 0u;
            }
            __syncwarp();
#pragma unroll
            for (u32 i = 0; i < GROUP / 4 / LANES; i++) {
                u32 word = 4 * (i * LANES + lane);
                if (word < left) *reinterpret_cast<u32 *>(staged + word) = words[i];
            }
        }
        __syncwarp();
    }
    return __all_sync(ALL_LANES, is_good && done == elements);
}

// Multiplies the chunks from `first` up to `end` that are this warp's; tells which is the first that
// is not valid.
template <u32 WIDTH, u32 MOST>
__device__ __forceinline__ u32 run_item(Shared &shared, const Fast &item, const Vectors &vectors,
                                        u32 first, u32 end) {
    Start start;
    u32 bad = 0xffffffffu;
    first += threadIdx.x / LANES;
    if (first >= end) return bad;
    find_codes(start, item, first);
    start.codes = first_codes<WIDTH>(start, item);
    for (u32 chunk = first; chunk < end; chunk += WARPS) {
        if (!run_chunk<WIDTH, MOST>(shared, item, vectors, chunk, start, chunk + WARPS < end)) {
            bad = min(bad, chunk << 3 | NOT_VALID);
        }
    }
    return bad;
}

template <u32 MOST>
__device__ __forceinline__ void run(const Fast *items, u32 n_items, u32 n_blocks, Vectors vectors,
                                    u32 *status) {
    __shared__ Shared shared;
    Range range = share_of(n_blocks);
    u32 number = 0;
    while (number + 1 < n_items && items[number + 1].product.first_block <= range.begin) number++;
    for (u32 begin = range.begin; begin < range.end; number++) {
        const Fast &item = items[number];
        load_entries(shared.entries, item.entries, item.width, true);
        __syncthreads();
        u32 base = item.product.first_block, end = min(range.end, base + item.product.n_blocks);
        u32 first = begin - base, last = end - base, n = item.product.rows * item.product.columns;
        u32 bad = item.width == 8 ? run_item<8, MOST>(shared, item, vectors, first, last)
                                  : run_item<12, MOST>(shared, item, vectors, first, last);
        if (bad != 0xffffffffu && threadIdx.x % LANES == 0) atomicMin(status + number, bad);
        u32 all = (n + SEGMENT - 1) / SEGMENT;
        finish(item.product, vectors, first * (CHUNK / SEGMENT), min(last * (CHUNK / SEGMENT), all));
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
