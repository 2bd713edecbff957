// Decodes chunks of codec dictionary (spec/DICTIONARY.md): a warp takes a chunk of 4,096 elements.
//
// The algorithm. No code waits for another, so in each round a warp takes 256 codes, eight a lane.
//
// 1. A lane looks its eight codes up in a table in shared memory: up to seven symbols each, and their number.
// 2. One prefix sum over the lanes says where each lane's symbols go.
// 3. A lane puts its symbols together in a register and stores whole words; what is left at its end goes to the next lane, which
//    adds it to its own first word. (Eight codes have eight symbols at least, so there is one.)
// 4. All lanes merge eight symbols at a time with their raw parts, which were asked for before the round, and store up to 32
//    bytes at once. Less than 256 symbols that are left move to the beginning.
//
// Whatever the codes are, nothing is read behind the chunk's groups or written behind its elements, and a chunk that breaks
// V-3.3 is told.

#include "dictionary.cuh"
#include "elements.cuh"

// Elements that are merged together.
#define GROUP (8u * LANES)
// Symbols that are left, and those of a round.
#define STAGED (GROUP + LANES * CODES * MOST_SYMBOLS)
#define ALL_GOOD 0xffffffffu

struct __align__(16) Dictionary {
    // Of each code: up to seven symbols from the low byte on, and eight times their number in the high byte.
    const uint2 *entries;
    const u8 *codes;
    // For each chunk how many groups of eight codes are before it; and those of all.
    const u32 *offsets;
    // The planes of the raw part, `stride` bytes from one to the next.
    const u8 *planes;
    u64 stride;
    u8 *outputs;
    u64 n_elements;
    // Where the frame's chunks begin among all chunks of a launch.
    u64 first_block;
    u32 n_chunks;
    // Bits of a code: 8 or 12.
    u32 width;
    u32 kind;
    u32 reserved;
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

__device__ __forceinline__ void find_codes(Start &start, const Dictionary &frame, u32 chunk) {
    start.offset = __ldg(frame.offsets + chunk);
    start.groups = __ldg(frame.offsets + chunk + 1) - start.offset;
}

template <u32 WIDTH>
__device__ __forceinline__ Codes first_codes(const Start &start, const Dictionary &frame) {
    u32 lane = threadIdx.x % LANES;
    return read_codes(frame.codes + u64(start.offset) * WIDTH + lane * WIDTH, WIDTH, lane < start.groups);
}

// Decodes a chunk, and finds the start of the next one of this warp in the meantime, if there is one; tells whether the chunk is
// valid. `AHEAD` is the number of groups whose raw parts are asked for before a round.
template <u32 WIDTH, u32 AHEAD>
__device__ __forceinline__ bool run(u32 kind, Shared &shared, const Dictionary &frame, u64 base, u32 chunk, Start &start,
                                    bool has_next) {
    u32 lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    u8 *staged = shared.staged[warp];
    u32 staged_address = u32(__cvta_generic_to_shared(staged));
    u64 first = u64(chunk) * CHUNK;
    u32 elements = u32(min(frame.n_elements - first, u64(CHUNK)));
    u32 groups = start.groups;
    const u8 *from = frame.codes + u64(start.offset) * WIDTH;
    const u8 *planes = frame.planes + first;
    u8 *outputs = frame.outputs + base + first * size_of(kind);
    __builtin_assume(__isGlobal(outputs));
    bool is_even = can_write_eight(kind, outputs);
    // Elements that are written; symbols that are staged but not yet merged; the last of these, which fill no word.
    u32 done = 0, left = 0, rest = 0;
    bool is_good = true;
    if (has_next) find_codes(start, frame, chunk + WARPS);
    // No chunk is without codes, but a damaged one may say so.
    if (has_next && groups == 0) start.codes = first_codes<WIDTH>(start, frame);
    for (u32 group = lane; group - lane < groups; group += LANES) {
        Codes codes = start.codes;
        bool is_there = group < groups;
        if (group - lane + LANES < groups) {
            start.codes = read_codes(from + (group + LANES) * WIDTH, WIDTH, group + LANES < groups);
        } else if (has_next) {
            start.codes = first_codes<WIDTH>(start, frame);
        }
        uint2 low[AHEAD + 1];
#pragma unroll
        for (u32 i = 0; i < AHEAD; i++) {
            low[i] = {};
            if (kind != BYTES && is_even && done + (i + 1) * GROUP <= elements) {
                low[i] = read_eight(planes + done + i * GROUP + 8 * lane);
            }
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
        if (is_even) {
#pragma unroll
            for (u32 i = 0; i < AHEAD; i++) {
                if (at + GROUP <= ready) {
                    uint2 symbols = *reinterpret_cast<const uint2 *>(staged + at + 8 * lane);
                    write_eight(kind, outputs, symbols, low[i], planes, frame.stride, done + at + 8 * lane);
                    at += GROUP;
                }
            }
            for (; at + GROUP <= ready; at += GROUP) {
                uint2 symbols = *reinterpret_cast<const uint2 *>(staged + at + 8 * lane), low = {};
                if (kind != BYTES) low = read_eight(planes + done + at + 8 * lane);
                write_eight(kind, outputs, symbols, low, planes, frame.stride, done + at + 8 * lane);
            }
        } else {
            at = ready / GROUP * GROUP;
            for (u32 i = lane; i < at; i += LANES) write_one(kind, outputs, staged[i], planes, frame.stride, done + i);
        }
        done += at;
        // Symbols behind the last element have no place.
        left = min(left - at, GROUP - 1);
        if (group - lane + LANES >= groups) {
            // What is left of the elements.
            for (u32 i = lane; i < ready - at; i += LANES) write_one(kind, outputs, staged[at + i], planes, frame.stride, done + i);
            done += ready - at;
        } else if (at > 0) {
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

// Decodes the chunks from `first` up to `end` that are this warp's; tells which is the first that is not valid.
template <u32 WIDTH>
__device__ __forceinline__ u32 run_all(Shared &shared, const Dictionary &frame, u64 base, u32 first, u32 end) {
    Start start;
    u32 bad = ALL_GOOD;
    first += threadIdx.x / LANES;
    if (first >= end) return bad;
    find_codes(start, frame, first);
    start.codes = first_codes<WIDTH>(start, frame);
    for (u32 chunk = first; chunk < end; chunk += WARPS) {
        // A copy for weights, in which the kind is known, and one for all others.
        bool has_next = chunk + WARPS < end;
        bool is_good = frame.kind == BF16 ? run<WIDTH, 4>(BF16, shared, frame, base, chunk, start, has_next)
                                          : run<WIDTH, 0>(frame.kind, shared, frame, base, chunk, start, has_next);
        if (!is_good) bad = min(bad, chunk << 3 | NOT_VALID);
    }
    return bad;
}

// Decodes many frames in one launch: each thread block takes as many of all frames' chunks as the others.
extern "C" __global__ void __launch_bounds__(THREADS, 3)
    fast_decode_batch(const Dictionary *frames, u32 n_frames, u32 n_chunks, u64 base, u32 *status) {
    __shared__ Shared shared;
    Range range = share_of(n_chunks);
    u32 item = find_item(frames, n_frames, range.begin);
    for (u32 begin = range.begin; begin < range.end; item++) {
        const Dictionary &frame = frames[item];
        load_entries(shared.entries, frame.entries, frame.width, frame.kind == BF16);
        __syncthreads();
        u32 first = u32(frame.first_block), end = min(range.end, first + frame.n_chunks);
        u32 bad = frame.width == 8 ? run_all<8>(shared, frame, base, begin - first, end - first)
                                   : run_all<12>(shared, frame, base, begin - first, end - first);
        if (bad != ALL_GOOD && threadIdx.x % LANES == 0) atomicMin(&status[item], bad);
        begin = max(begin, end);
        // Before the table is another.
        __syncthreads();
    }
}
