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

#include "elements.cuh"

#define CHUNK 4096u
// Codes of a lane, whose bytes are as many as a code has bits.
#define CODES 8u
#define MOST_SYMBOLS 7u
// Elements that are merged together.
#define GROUP (8u * LANES)
// Symbols that are left, and those of a round.
#define STAGED (GROUP + LANES * CODES * MOST_SYMBOLS)
#define MOST_CODES 4096u

// Before compute capability 9.0 no more fit the shared memory of a multiprocessor; for 10.0, ptxas finds no registers for more.
#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000
#define FAST_BLOCKS_EACH 4
#else
#define FAST_BLOCKS_EACH 3
#endif

// What is found wrong with a chunk.
#define NOT_VALID 1u

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

// The bytes of eight codes, at any address.
struct Codes {
    u32 words[3];
};

__device__ __forceinline__ Codes read_codes(const u8 *from, u32 width, bool is_there) {
    Codes codes = {};
    if (!is_there) return codes;
    u32 skipped = u32(reinterpret_cast<u64>(from)) & 3u;
    const u32 *words = reinterpret_cast<const u32 *>(from - skipped);
    codes.words[0] = __ldg(words);
    codes.words[1] = __ldg(words + 1);
    if (width == 12) codes.words[2] = __ldg(words + 2);
    if (skipped != 0) {
        u32 last = __ldg(words + width / 4);
        u32 next = width == 12 ? codes.words[2] : last;
        codes.words[0] = __funnelshift_r(codes.words[0], codes.words[1], 8 * skipped);
        codes.words[1] = __funnelshift_r(codes.words[1], next, 8 * skipped);
        codes.words[2] = __funnelshift_r(codes.words[2], last, 8 * skipped);
    }
    return codes;
}

// Code `i`, which is known when this is compiled.
__device__ __forceinline__ u32 code(const Codes &codes, u32 width, u32 i) {
    const u32 *words = codes.words;
    if (width == 8) return words[i / 4] >> 8 * (i % 4) & 255u;
    u32 bit = 12 * i;
    return __funnelshift_r(words[bit / 32], bit / 32 < 2 ? words[bit / 32 + 1] : 0u, bit % 32) & 4095u;
}

// Whether the codes of a lane whose symbols go past the last element are as V-3.3 says. Rare, so they are read again, one by one.
template <u32 WIDTH>
__device__ __forceinline__ bool ends_well(const u8 *from, const uint2 *entries, u32 start, u32 elements) {
    bool is_good = start < elements;
#pragma unroll 1
    for (u32 i = 0; i < CODES; i++) {
        const u8 *at = from + i * WIDTH / 8;
        u32 code = __ldg(at);
        if (WIDTH == 12) code = (code | u32(__ldg(at + 1)) << 8) >> 4 * (i % 2) & 4095u;
        u32 end = start + (entries[code].y >> 27);
        is_good &= start < elements ? end <= elements : code == 0;
        start = end;
    }
    return is_good;
}

// Decodes a chunk; tells whether it is valid.
// `AHEAD` is the number of groups whose raw parts are asked for before a round.
template <u32 WIDTH, u32 AHEAD>
__device__ __forceinline__ bool run(u32 kind, Shared &shared, const Dictionary &frame, u64 base, u32 chunk) {
    u32 lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    u8 *staged = shared.staged[warp];
    u32 staged_address = u32(__cvta_generic_to_shared(staged));
    u64 first = u64(chunk) * CHUNK;
    u32 elements = u32(min(frame.n_elements - first, u64(CHUNK)));
    u32 offset = __ldg(frame.offsets + chunk), groups = __ldg(frame.offsets + chunk + 1) - offset;
    const u8 *from = frame.codes + u64(offset) * WIDTH;
    const u8 *planes = frame.planes + first;
    u8 *outputs = frame.outputs + base + first * size_of(kind);
    __builtin_assume(__isGlobal(outputs));
    bool is_even = can_write_eight(kind, outputs);
    // What this warp needs next: the planes of a chunk, and as many codes as one has as a rule.
    if (chunk + WARPS < frame.n_chunks) {
        if (kind != BYTES) prefetch(planes + WARPS * CHUNK + lane * LINE);
        if (lane < 12) prefetch(frame.codes + u64(__ldg(frame.offsets + chunk + WARPS)) * WIDTH + lane * LINE);
    }

    // Elements that are written; symbols that are staged but not yet merged; the last of these, which fill no word.
    u32 done = 0, left = 0, rest = 0;
    bool is_good = true;
    Codes next = read_codes(from + lane * WIDTH, WIDTH, lane < groups);
    for (u32 group = lane; group - lane < groups; group += LANES) {
        Codes codes = next;
        bool is_there = group < groups;
        next = read_codes(from + (group + LANES) * WIDTH, WIDTH, group + LANES < groups);
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
            is_good &= ends_well<WIDTH>(from + group * WIDTH, shared.entries, done + place / 8, elements);
        }

        // In bits: symbols are put together from where they begin in their first word.
        u32 pending = 0, first_word = staged_address + place / 32 * 4, to = first_word;
        if (is_there) {
#pragma unroll
            for (u32 i = 0; i < CODES; i++) {
                u32 low = entries[i].x, high = entries[i].y & 0xffffffu, number = entries[i].y >> 24;
                u32 words[3] = {pending | __funnelshift_l(0, low, place), __funnelshift_l(low, high, place),
                                __funnelshift_l(high, 0, place)};
                u32 until = (place & 31u) + number;
                place += number;
                bool has_one = until >= 32, has_two = until >= 64;
                if (has_one) asm volatile("st.shared.u32 [%0], %1;" : : "r"(to), "r"(words[0]) : "memory");
                if (has_two) asm volatile("st.shared.u32 [%0+4], %1;" : : "r"(to), "r"(words[1]) : "memory");
                pending = has_two ? words[2] : has_one ? words[1] : words[0];
                to += until / 32 * 4;
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
        if ((group + 1 == groups || lane == LANES - 1) && is_there && place % 32 != 0) {
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

template <u32 WIDTH>
__device__ __forceinline__ bool run_kind(Shared &shared, const Dictionary &frame, u64 base, u32 chunk) {
    // A copy for weights, in which the kind is known, and one for all others.
    if (frame.kind == BF16) return run<WIDTH, 2>(BF16, shared, frame, base, chunk);
    return run<WIDTH, 0>(frame.kind, shared, frame, base, chunk);
}

// Decodes many frames in one launch: each thread block takes as many of all frames' chunks as the others.
extern "C" __global__ void __launch_bounds__(THREADS, FAST_BLOCKS_EACH)
    fast_decode_batch(const Dictionary *frames, u32 n_frames, u32 n_chunks, u64 base, u32 *status) {
    __shared__ Shared shared;
    Range range = share_of(n_chunks);
    u32 item = find_item(frames, n_frames, range.begin);
    for (u32 begin = range.begin; begin < range.end; item++) {
        const Dictionary &frame = frames[item];
        for (u32 i = threadIdx.x; i < 1u << frame.width; i += THREADS) {
            uint2 entry = __ldg(frame.entries + i);
            // As `merge_eight` takes symbols.
            if (frame.kind == BF16) {
                entry.x = entry.x >> 1 & 0x7f7f7f7fu | entry.x << 7 & 0x80808080u;
                entry.y = entry.y >> 1 & 0x7f7f7fu | entry.y << 7 & 0x808080u | entry.y & 0xff000000u;
            }
            shared.entries[i] = entry;
        }
        __syncthreads();
        u32 first = u32(frame.first_block), end = min(range.end, first + frame.n_chunks);
        for (u32 at = begin + threadIdx.x / LANES; at < end; at += WARPS) {
            bool is_good = frame.width == 8 ? run_kind<8>(shared, frame, base, at - first)
                                            : run_kind<12>(shared, frame, base, at - first);
            if (!is_good && threadIdx.x % LANES == 0) atomicMin(&status[item], (at - first) << 3 | NOT_VALID);
        }
        begin = max(begin, end);
        // Before the table is another.
        __syncthreads();
    }
}
