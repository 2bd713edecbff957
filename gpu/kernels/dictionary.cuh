// Codes of codec dictionary (spec/DICTIONARY.md), the table that they are looked up in, and the
// rounds in which a warp makes symbols of them.

#pragma once

#include "common.cuh"

#define CHUNK 4096u
// Codes of a lane, whose bytes are as many as a code has bits.
#define CODES 8u
#define MOST_SYMBOLS 7u
#define MOST_CODES 4096u
// Elements that are merged together.
#define GROUP (8u * LANES)
// Symbols that are left, and those of a round.
#define STAGED (GROUP + LANES * CODES * MOST_SYMBOLS)

// What is found wrong with a chunk, and the status of an item in which nothing is.
#define NOT_VALID 1u
#define ALL_GOOD 0xffffffffu

struct __align__(16) Shared {
    // Of each code: up to seven symbols from the low byte on, and eight times their number in the
    // high byte. Symbols of BF16 are as `merge_eight` takes them.
    uint2 entries[MOST_CODES];
    u8 staged[WARPS][STAGED];
};

// Copies the table to shared memory, with all threads.
__device__ __forceinline__ void load_entries(Shared &shared, const uint2 *from, u32 width) {
    const uint4 *pairs = reinterpret_cast<const uint4 *>(from);
    uint4 *to = reinterpret_cast<uint4 *>(shared.entries);
#pragma unroll
    for (u32 i = 0; i < MOST_CODES / 2; i += THREADS) {
        if (i + threadIdx.x < 1u << width - 1) to[i + threadIdx.x] = __ldg(pairs + i + threadIdx.x);
    }
}

// Once for a kernel, with all threads: `Stage` moves more symbols than there are.
__device__ __forceinline__ void clear_staged(Shared &shared) {
    for (u32 i = threadIdx.x; i < sizeof(shared.staged) / 16; i += THREADS) {
        reinterpret_cast<uint4 *>(shared.staged)[i] = {};
    }
}

// The bytes of eight codes.
struct Codes {
    u32 words[3];
};

// Reads them at any address.
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

// Reads codes of 12 bits at a multiple of four bytes, if they are there; otherwise they stay.
__device__ __forceinline__ void read_even_codes(Codes &codes, const u32 *from, bool is_there) {
    if (!is_there) return;
#pragma unroll
    for (u32 i = 0; i < 3; i++) codes.words[i] = __ldg(from + i);
}

// Code `i`, which is known when this is compiled.
__device__ __forceinline__ u32 code(const Codes &codes, u32 width, u32 i) {
    const u32 *words = codes.words;
    if (width == 8) return words[i / 4] >> 8 * (i % 4) & 255u;
    u32 bit = 12 * i;
    return __funnelshift_r(words[bit / 32], bit / 32 < 2 ? words[bit / 32 + 1] : 0u, bit % 32) & 4095u;
}

// The same times the size of an entry: where it is looked up.
__device__ __forceinline__ u32 place_of_code(const Codes &codes, u32 width, u32 i) {
    const u32 *words = codes.words;
    u32 size = sizeof(uint2), bit = width * i, word = bit / 32, first = bit % 32;
    u32 shifted = first == 0           ? words[word] * size
                  : first + width > 32 ? __funnelshift_r(words[word], words[word + 1], first - 3)
                                       : words[word] >> (first - 3);
    return shifted & ((1u << width) - 1) * size;
}

// Where a chunk's codes are, and the first of them for a lane.
struct Start {
    u32 offset;
    u32 groups;
    Codes codes;
};

// `offsets` has for each chunk how many groups of eight codes are before it, and those of all.
__device__ __forceinline__ void find_codes(Start &start, const u32 *offsets, u32 chunk) {
    start.offset = __ldg(offsets + chunk);
    start.groups = __ldg(offsets + chunk + 1) - start.offset;
}

// The codes of a chunk that can be read as they are, each asked for a round before it is needed.
struct EvenCodes {
    const u32 *from;
    // Those of the next chunk of this warp.
    const u32 *next;
    u32 groups;

    // Finds the start of the next chunk, if there is one.
    __device__ __forceinline__ EvenCodes(const u8 *codes, const u32 *offsets, Start &start, u32 chunk, bool has_next) {
        u32 lane = threadIdx.x % LANES;
        const u32 *codes_of_lane = reinterpret_cast<const u32 *>(codes) + 3 * lane;
        from = codes_of_lane + u64(start.offset) * 3;
        groups = start.groups;
        start.groups = 0;
        if (has_next) find_codes(start, offsets, chunk + WARPS);
        next = codes_of_lane + u64(start.offset) * 3;
        // No chunk is without codes, but a damaged one may say so.
        if (groups == 0) read_even_codes(start.codes, next, lane < start.groups);
    }

    // The codes of a lane's group; asks for those of the next round, or of the next chunk's first.
    __device__ __forceinline__ Codes take(Start &start, u32 group) {
        Codes codes = start.codes;
        u32 lane = threadIdx.x % LANES;
        bool is_last = group - lane + LANES >= groups;
        from += 3 * LANES;
        read_even_codes(start.codes, is_last ? next : from,
                        (is_last ? lane : group + LANES) < (is_last ? start.groups : groups));
        return codes;
    }
};

// The start of a chunk whose codes can be read as they are, if it comes before `end`.
__device__ __forceinline__ Start even_start(const u32 *offsets, const u8 *codes, u32 chunk, u32 end) {
    Start start = {};
    if (chunk >= end) return start;
    find_codes(start, offsets, chunk);
    u32 lane = threadIdx.x % LANES;
    const u32 *from = reinterpret_cast<const u32 *>(codes) + u64(start.offset) * 3 + 3 * lane;
    read_even_codes(start.codes, from, lane < start.groups);
    return start;
}

template <u32 WIDTH>
__device__ __forceinline__ Codes first_codes(const Start &start, const u8 *codes) {
    u32 lane = threadIdx.x % LANES;
    return read_codes(codes + u64(start.offset) * WIDTH + lane * WIDTH, WIDTH, lane < start.groups);
}

// Whether the codes of a lane that has more symbols than there are elements left are as V-3.3 says:
// those behind the last element are 0, and it is the last symbol of a code. `excess` is how many
// symbols too many there are, and `symbols_of_0` how many code 0 has.
template <u32 WIDTH>
__device__ __forceinline__ bool ends_well(const Codes &codes, u32 excess, u32 symbols_of_0) {
    u32 zeros = WIDTH == 12 ? __clz(codes.words[2]) : 0, before = WIDTH == 12 ? 32 : 0;
    if (zeros == before) zeros = before + __clz(codes.words[1]);
    if (zeros == before + 32) zeros = before + 32 + __clz(codes.words[0]);
    bool is_good = false;
#pragma unroll
    for (u32 i = 1; i <= CODES; i++) is_good |= excess == i * symbols_of_0 && i * WIDTH <= zeros;
    return is_good;
}

// Adds what the lane `DISTANCE` before has to a sum, if there is such a lane.
template <u32 DISTANCE>
__device__ __forceinline__ void add_lane_before(u32 &sum) {
    asm volatile("{ .reg .pred inside; .reg .u32 other; shfl.sync.up.b32 other|inside, %0, %1, 0, 0xffffffff;\n"
                 "@inside add.u32 %0, %0, other; }"
                 : "+r"(sum)
                 : "n"(DISTANCE));
}

// Symbols that are being put together: a word that is not full yet, how many bits it has and two to
// that power, and the address in shared memory that it belongs to.
struct Tail {
    u32 pending;
    u32 fill;
    u32 power;
    u32 to;

    // Stores the bytes of the word that is not full: two, one, both or none.
    __device__ __forceinline__ void store_rest() const {
        u32 two = fill & 16, at = to + two / 8, rest = pending >> two;
        asm volatile("{ .reg .pred has_two; setp.ne.u32 has_two, %0, 0; @has_two st.shared.u16 [%1], %2; }"
                     :
                     : "r"(two), "r"(to), "h"(u16(pending))
                     : "memory");
        asm volatile("{ .reg .pred has_one; setp.ne.u32 has_one, %0, 0; @has_one st.shared.u8 [%1], %2; }"
                     :
                     : "r"(fill & 8), "r"(at), "r"(rest)
                     : "memory");
    }
};

// Puts the symbols of an entry behind the tail, and stores the words that are full then. Products
// stand for some of the shifts, and sums for what shifted words are combined with, since cards have
// other pipelines for these, which would idle.
__device__ __forceinline__ void append(Tail &tail, uint2 entry) {
    u32 high = entry.y & 0xffffffu, until = tail.fill + (entry.y >> 24), full = until / 32;
    u32 first = entry.x * tail.power + tail.pending, second = __funnelshift_l(entry.x, high, tail.fill);
    tail.pending = __umulhi(high, tail.power);
    // In PTX, so that a predicate each serves the stores and what is left.
    asm volatile("{ .reg .pred one, two; setp.ge.u32 one, %2, 32; setp.ge.u32 two, %2, 64;\n"
                 "@one st.shared.u32 [%1], %3; @two st.shared.u32 [%1+4], %4;\n"
                 "@!two selp.b32 %0, %4, %3, one; }"
                 : "+r"(tail.pending)
                 : "r"(tail.to), "r"(until), "r"(first), "r"(second)
                 : "memory");
    asm("mad.lo.u32 %0, %1, 4, %0;" : "+r"(tail.to) : "r"(full));
    asm("mad.lo.u32 %0, %1, -32, %2;" : "=r"(tail.fill) : "r"(full), "r"(until));
    tail.power = __funnelshift_l(0, 1, until);
}

// The symbols of a chunk on their way from codes to elements, which a warp takes in rounds.
struct Stage {
    u8 *symbols;
    u32 address;
    // Elements that are done; symbols that are here; the last of these, which fill no word.
    u32 done;
    u32 left;
    u32 rest;
    bool is_good;

    __device__ __forceinline__ Stage(Shared &shared) : done(0), left(0), rest(0), is_good(true) {
        symbols = shared.staged[threadIdx.x / LANES];
        address = u32(__cvta_generic_to_shared(symbols));
    }

    // Adds the symbols of a round: of each lane's codes, if its group is one of the chunk's.
    template <u32 WIDTH>
    __device__ __forceinline__ void add(const Shared &shared, const Codes &codes, u32 group, u32 groups,
                                        u32 elements) {
        u32 lane = threadIdx.x % LANES;
        const u8 *table = reinterpret_cast<const u8 *>(shared.entries);
        bool is_there = group < groups;
        uint2 entries[CODES];
        u32 bits = 0;
#pragma unroll
        for (u32 i = 0; i < CODES; i++) {
            entries[i] = *reinterpret_cast<const uint2 *>(table + place_of_code(codes, WIDTH, i));
            bits += entries[i].y >> 24;
        }
        if (!is_there) bits = 0;
        u32 end = bits;
        add_lane_before<1>(end);
        add_lane_before<2>(end);
        add_lane_before<4>(end);
        add_lane_before<8>(end);
        add_lane_before<16>(end);
        u32 all = __shfl_sync(ALL_LANES, end, LANES - 1);
        end += 8 * left;
        u32 place = end - bits;
        if (is_there && done + end / 8 > elements) {
            u32 symbols_of_0 = shared.entries[0].y >> 27;
            is_good &= done + place / 8 < elements && ends_well<WIDTH>(codes, done + end / 8 - elements, symbols_of_0);
        }

        // Each lane puts its symbols together from where they begin in their first word, in bits.
        // The first of a round may begin in a word that has symbols of the round before.
        Tail tail = {lane == 0 ? rest : 0u, place % 32, 1u << place % 32, address + place / 32 * 4};
        if (is_there) {
#pragma unroll
            for (u32 i = 0; i < CODES; i++) append(tail, entries[i]);
        }
        // A lane's last word is the first of the next lane, which has stored it with zeros. (Eight
        // codes have eight symbols at least, so each lane has stored one.)
        __syncwarp();
        if (is_there) tail.store_rest();
        rest = __shfl_sync(ALL_LANES, tail.pending, LANES - 1);
        left += all / 8;
        __syncwarp();
    }

    // Eight symbols for each lane, of the group that begins at `at`.
    __device__ __forceinline__ uint2 eight(u32 at) const {
        return *reinterpret_cast<const uint2 *>(symbols + at + 8 * (threadIdx.x % LANES));
    }

    // Takes symbols away whose elements are done; between rounds, whole groups of them.
    __device__ __forceinline__ void remove(u32 n, bool is_last_round) {
        done += n;
        // Symbols behind the last element have no place.
        left = min(left - n, GROUP - 1);
        if (!is_last_round) {
            uint2 moved = eight(n);
            __syncwarp();
            *reinterpret_cast<uint2 *>(symbols + 8 * (threadIdx.x % LANES)) = moved;
        }
        __syncwarp();
    }
};
