// Multiplies matrices that codec dictionary holds (spec/DICTIONARY.md) with vectors; the weights
// are nowhere but in registers.
//
// The algorithm. A thread block takes two chunks of 4,096 elements at a time.
//
// 1. Each thread takes eight codes, and looks them up in a table in shared memory: up to seven
//    symbols each, and their number. Prefix sums over the thread block say where its symbols go.
// 2. A thread puts its symbols together in a register and stores whole words. When all have, it
//    adds what is left, less than a word, to the first word of the next thread. (Eight codes have
//    eight symbols at least, so that word is not its last.)
// 3. A warp takes 1,024 elements: a segment. A lane merges eight symbols at a time with their signs
//    and mantissas, which were asked for at the beginning, and multiplies (gemv.cuh).
//
// Two chunks rarely have more than 256 groups of eight codes; if they do, the first two steps are
// done again for those that are left. Whatever the codes are, nothing is read behind the chunks'
// groups, and a chunk that breaks V-3.3 is told.

#include "elements.cuh"
#include "gemv.cuh"
#include "dictionary.cuh"

#define PAIR 2u
// Symbols of a chunk, and those by which the last thread goes on behind it.
#define ROOM (CHUNK + CODES * MOST_SYMBOLS + 8u)

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
    u8 staged[PAIR][ROOM];
    __align__(16) u32 totals[WARPS];
    // The bits of symbols before the first thread of the second chunk, in its warp.
    u32 before_second;
    // Here rather than in registers, of which there are few.
    Fast item;
};

// The signs and mantissas of a lane in a segment. Zeros behind the last.
__device__ __forceinline__ void read_plane(const u8 *plane, u32 n, u32 segment, uint2 (&signs)[EIGHTS]) {
    u32 first = segment * SEGMENT + 8 * (threadIdx.x % LANES);
    if ((reinterpret_cast<u64>(plane) & 7) == 0 && (segment + 1) * SEGMENT <= n) {
#pragma unroll
        for (u32 i = 0; i < EIGHTS; i++) {
            signs[i] = __ldcs(reinterpret_cast<const uint2 *>(plane + first + STRIDE * i));
        }
        return;
    }
#pragma unroll
    for (u32 i = 0; i < EIGHTS; i++) {
        u32 words[2] = {};
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            u32 at = first + STRIDE * i + j;
            if (at < n) words[j / 4] |= u32(__ldg(plane + at)) << 8 * (j % 4);
        }
        signs[i] = make_uint2(words[0], words[1]);
    }
}

// Where the codes of two chunks are, in groups: the first's, the second's, and the end.
struct Places {
    u32 first;
    u32 second;
    u32 end;
};

__device__ __forceinline__ Places find_places(const Fast &item, u32 chunk) {
    Places places;
    places.first = __ldg(item.offsets + chunk);
    places.second = __ldg(item.offsets + chunk + 1);
    places.end = chunk + 1 < item.n_chunks ? __ldg(item.offsets + chunk + 2) : places.second;
    return places;
}

__device__ __forceinline__ Codes codes_of(const Fast &item, const Places &places, u32 group) {
    const u8 *from = item.codes + u64(places.first + group) * item.width;
    return read_codes(from, item.width, group < places.end - places.first);
}

// What a thread leaves for the first word of the next.
struct Rest {
    u32 word;
    u32 symbols;
    bool is_there;
};

__device__ __forceinline__ void add_rest(const Rest &rest) {
    if (!rest.is_there) return;
    u32 word;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(rest.word) : "memory");
    asm volatile("st.shared.u32 [%0], %1;" : : "r"(rest.word), "r"(word | rest.symbols) : "memory");
}

// Puts a thread's symbols where they belong, from bit `place` of the staged symbols on. Returns
// what does not fill a word.
__device__ __forceinline__ Rest put_symbols(const uint2 (&entries)[CODES], u32 staged, u32 place) {
    u32 pending = 0, fill = place % 32, to = staged + place / 32 * 4;
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
    return {to, pending, fill != 0};
}

// Decodes the symbols of two chunks, whose first codes a thread has already; tells which of the two
// are valid, in two bits that all threads get some of.
template <u32 WIDTH>
__device__ __forceinline__ u32 stage(Shared &shared, const Fast &item, u32 chunk, u32 n,
                                     const Places &places, Codes codes) {
    u32 thread = threadIdx.x, lane = thread % LANES, warp = thread / LANES;
    u32 groups = places.end - places.first, of_first = places.second - places.first;
    u32 all_first = min(n - chunk * CHUNK, CHUNK), all_second = min(n - chunk * CHUNK - all_first, CHUNK);
    // Bits of symbols that both have from rounds before; what the last thread left.
    u32 done_first = 0, done_second = 0, bad = 0;
    Rest carried = {0, 0, false};
#pragma unroll 1
    for (u32 round = 0; round == 0 || round < groups; round += THREADS) {
        u32 group = round + thread;
        if (round != 0) codes = codes_of(item, places, group);
        bool is_there = group < groups, is_second = group >= of_first;
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
        if (lane == LANES - 1) shared.totals[warp] = end;
        if (group == of_first) shared.before_second = end - bits;
        // Nobody reads the symbols of the chunks before any more, and all totals are there.
        __syncthreads();
        u32 before = 0, all = 0, before_second = 0;
        u32 turn = of_first - round;
#pragma unroll
        for (u32 i = 0; i < WARPS; i++) {
            u32 total = shared.totals[i];
            if (i == warp) before = all;
            if (i == turn / LANES) before_second = all;
            all += total;
        }
        if (of_first < round) {
            before_second = 0;
        } else if (turn < THREADS) {
            before_second += shared.before_second;
        } else {
            before_second = all;
        }
        u32 begin = is_second ? done_second - before_second : done_first;
        end += begin + before;
        u32 most = is_second ? all_second : all_first;
        if (is_there && end / 8 > most) {
            bad |= ends_well<WIDTH>(codes, entries, (end - bits) / 8, most) ? 0u : 1u << is_second;
        }
        bool is_within = is_there && (end - bits) / 8 < most;
        bool is_last = group + 1 == groups || group + 1 == of_first;
        Rest rest = {0, 0, false};
        if (is_within) {
            u32 staged = u32(__cvta_generic_to_shared(shared.staged[is_second]));
            rest = put_symbols(entries, staged, end - bits);
            if (is_last && rest.is_there) {
                asm volatile("st.shared.u32 [%0], %1;" : : "r"(rest.word), "r"(rest.symbols) : "memory");
            }
            rest.is_there &= !is_last;
        }
        done_first += before_second;
        done_second += all - before_second;
        // All first words are there.
        __syncthreads();
        add_rest(carried);
        carried.is_there = false;
        if (thread == THREADS - 1) {
            carried = rest;
        } else {
            add_rest(rest);
        }
    }
    // A chunk that has too few symbols; one that has too many was seen where it ends.
    if (done_first / 8 < all_first) bad |= 1;
    if (done_second / 8 < all_second) bad |= 2;
    __syncthreads();
    return bad;
}

template <u32 MOST>
__device__ __forceinline__ void run_item(Shared &shared, const Vectors &vectors, u32 first, u32 end,
                                         u32 *status) {
    const Fast &item = shared.item;
    const Product &product = item.product;
    u32 warp = threadIdx.x / LANES, n = product.rows * product.columns;
    Places places = find_places(item, first * PAIR);
    Codes codes = codes_of(item, places, threadIdx.x);
#pragma unroll 1
    for (u32 pair = first; pair < end; pair++) {
        u32 segment = pair * WARPS + warp;
        uint2 signs[EIGHTS];
        read_plane(item.plane, n, segment, signs);
        Places next = places;
        if (pair + 1 < end) next = find_places(item, (pair + 1) * PAIR);
        u32 bad = item.width == 8 ? stage<8>(shared, item, pair * PAIR, n, places, codes)
                                  : stage<12>(shared, item, pair * PAIR, n, places, codes);
        if (bad != 0) atomicMin(status, (pair * PAIR + ((bad & 1) == 0)) << 3 | NOT_VALID);
        if (pair + 1 < end) codes = codes_of(item, next, threadIdx.x);
        places = next;
        if (segment * SEGMENT < n) {
            const u8 *staged = shared.staged[warp / 4] + warp % 4 * SEGMENT;
            uint4 weights[EIGHTS];
#pragma unroll
            for (u32 i = 0; i < EIGHTS; i++) {
                u32 at = STRIDE * i + 8 * (threadIdx.x % LANES);
                uint2 symbols = read_staged(staged, at, n - segment * SEGMENT);
                weights[i] = merge_eight(symbols, signs[i]);
            }
            multiply_segment<MOST>(product, vectors, segment, weights);
        }
    }
    u32 all = (n + SEGMENT - 1) / SEGMENT;
    finish(product, vectors, first * WARPS, min(end * WARPS, all));
}

template <u32 MOST>
__device__ __forceinline__ void run(const Fast *items, u32 n_items, u32 n_blocks, Vectors vectors,
                                    u32 *status) {
    __shared__ Shared shared;
    Range range = share_of(n_blocks);
    u32 item = 0;
    while (item + 1 < n_items && items[item + 1].product.first_block <= range.begin) item++;
    for (u32 begin = range.begin; begin < range.end; item++) {
        const uint4 *words = reinterpret_cast<const uint4 *>(items + item);
        if (threadIdx.x < sizeof(Fast) / 16) {
            reinterpret_cast<uint4 *>(&shared.item)[threadIdx.x] = __ldg(words + threadIdx.x);
        }
        load_entries(shared.entries, items[item].entries, items[item].width, true);
        __syncthreads();
        u32 first = shared.item.product.first_block;
        u32 end = min(range.end, first + shared.item.product.n_blocks);
        run_item<MOST>(shared, vectors, begin - first, end - first, status + item);
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
