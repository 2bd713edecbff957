// What decodes chunks of interleaved rANS (spec/RANS.md), of frames and of dietgpu's archives: a warp takes a chunk, a lane of the
// warp a lane of the chunk.
//
// The algorithm. A table in shared memory says, for each slot, the symbol, its frequency and the place of the slot among the
// symbol's (`df11::hazmat::rans::DecodeTable` holds the same numbers). Steps are decoded from the last to the first; a ballot tells
// each lane which of the last words is its own. What makes a step slow is what it waits for, so nothing in it waits for the
// card's memory:
//
// 1. Words pass through a ring of 1,024 bytes in shared memory, which is filled 512 bytes ahead of the 512 that eight steps may
//    take, and these 512 bytes were asked for before.
// 2. Coded bytes are put down in shared memory. After eight steps of 32 lanes, each lane takes eight that follow each other,
//    merges them with their raw parts, which were asked for before the steps, and stores up to 32 bytes at once.
//
// Whatever the words and states are, no read leaves the chunk, every loop ends, and what is wrong is said: a number of words below
// zero is noticed after the fact, since the ring can be read at any place.

#pragma once

#include "elements.cuh"

#define START_STATE (1u << 15)
#define STATE_END (1u << 31)
#define MOST_SLOTS (1u << 12)
// Steps whose coded bytes are merged together.
#define STEPS 8u
#define GROUP (STEPS * LANES)
// The ring: two segments, each what a group may take.
#define SEGMENT (2u * GROUP)
#define RING (2u * SEGMENT)

// What is found wrong with a chunk (section 5 of RANS.md): 0 is nothing.
#define LANE_STATE 1u
#define WORDS_MISSING 2u
#define WORDS_LEFT 3u
#define LAST_STATE 4u

// Where a chunk is: offsets in bytes from the start of the data.
struct Chunk {
    u64 states;
    u64 words;
    // The planes of the raw part, one after the other, `symbols` bytes each.
    u64 raw;
    // Its first element.
    u64 first;
    u32 number_of_words;
    u32 symbols;
};

struct __align__(16) Frame {
    const u8 *data;
    const Chunk *chunks;
    const u32 *slots;
    u8 *outputs;
    // Where the frame's chunks begin among all chunks of a launch.
    u64 first_block;
    u32 n_chunks;
    u32 scale_bits;
    u32 kind;
    u32 reserved[3];
};

struct __align__(16) Shared {
    u32 table[MOST_SLOTS];
    u8 rings[WARPS][RING];
    u8 staged[WARPS][GROUP];
    Frame frame;
};

// Writes the elements of a group from `at` on, of which there are `number`. `low` has the lane's eight of the first plane, if the
// group is whole.
__device__ __forceinline__ void write_group(u32 kind, const u8 *staged, u8 *outputs, const u8 *planes, u32 symbols, u32 at, u32 number,
                                            uint2 low, u32 lane) {
    if (number == GROUP && can_write_eight(kind, outputs)) {
        write_eight(kind, outputs, reinterpret_cast<const uint2 *>(staged)[lane], low, planes, symbols, at + 8 * lane);
    } else {
        for (u32 i = lane; i < number; i += LANES) write_one(kind, outputs, staged[i], planes, symbols, at + i);
    }
}

// The 16 bytes from an offset on that a lane carries of a segment; what is not between `begin` and `end` is 0.
__device__ __forceinline__ uint4 read_segment(const u8 *origin, i32 at, i32 begin, i32 end) {
    const u8 *from = origin + at;
    if ((reinterpret_cast<u64>(from) & 15) == 0 && at >= begin && at + 16 <= end) {
        return __ldg(reinterpret_cast<const uint4 *>(from));
    }
    u32 words[4] = {0, 0, 0, 0};
    if (at + 16 > begin && at < end) {
#pragma unroll
        for (i32 i = 0; i < 16; i++) {
            if (at + i >= begin && at + i < end) words[i / 4] |= u32(__ldg(from + i)) << 8 * (i % 4);
        }
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

// Decodes all steps of a chunk; returns what is wrong.
__device__ __forceinline__ u32 run(u32 kind, Shared &shared, const Chunk &chunk, const u8 *data, u8 *outputs, u32 scale_bits) {
    u32 lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, before = (1u << lane) - 1;
    u8 *ring = shared.rings[warp], *staged = shared.staged[warp];
    u32 symbols = chunk.symbols, mask = (1u << scale_bits) - 1;
    const u8 *planes = data + chunk.raw, *words = data + chunk.words;
    outputs += chunk.first * size_of(kind);
    __builtin_assume(__isGlobal(outputs));

    u32 state = 0;
    const u8 *states = data + chunk.states + 4 * lane;
    if ((reinterpret_cast<u64>(states) & 3) == 0) {
        state = __ldg(reinterpret_cast<const u32 *>(states));
    } else {
#pragma unroll
        for (u32 i = 0; i < 4; i++) state |= u32(__ldg(states + i)) << 8 * i;
    }
    if (__any_sync(ALL_LANES, state < START_STATE || state >= STATE_END)) return LANE_STATE;

    // The ring holds each word at its address, modulo 1,024; but if words begin at odd addresses, a byte below. Places are in
    // words, counted from the multiple of 512 bytes at or before the first word, and fall.
    i32 skipped = i32(u32(reinterpret_cast<u64>(words)) % SEGMENT & ~1u), first = skipped / 2;
    i32 place = first + i32(chunk.number_of_words), end = 2 * place;
    const u8 *origin = words - skipped;
    auto read = [&](i32 segment) { return read_segment(origin, segment * i32(SEGMENT) + 16 * i32(lane), 2 * first, end); };
    auto keep = [&](i32 segment, uint4 bytes) {
        reinterpret_cast<uint4 *>(ring + (segment & 1) * SEGMENT)[lane] = bytes;
    };
    i32 lowest = (place - 1) / i32(SEGMENT / 2);
    keep(lowest, read(lowest));
    uint4 next = read(lowest - 1);

    u32 groups = (symbols + GROUP - 1) / GROUP;
    for (u32 group = groups; group-- > 0;) {
        u32 at = group * GROUP, number = min(symbols - at, GROUP);
        // All that this group may take must be there.
        if (place - i32(GROUP) < lowest * i32(SEGMENT / 2)) {
            lowest--;
            keep(lowest, next);
            next = read(lowest - 1);
        }
        uint2 low = {};
        if (kind != BYTES && number == GROUP) low = read_eight(planes + at + 8 * lane);
        __syncwarp();
        auto step = [&](u32 i, bool has_symbol) {
            u32 entry = shared.table[state & mask];
            u32 quotient = state >> scale_bits;
            u32 after = (entry >> 8 & 0xfffu) * quotient + (entry >> 20) + quotient;
            bool needy = has_symbol && after < START_STATE;
            u32 all = __ballot_sync(ALL_LANES, needy);
            place -= __popc(all);
            u32 from = u32(place + __popc(all & before)) * 2 % RING;
            if (needy) after = after << 16 | *reinterpret_cast<const u16 *>(ring + from);
            state = has_symbol ? after : state;
            if (has_symbol) staged[i * LANES + lane] = entry;
        };
        if (number == GROUP) {
#pragma unroll
            for (u32 i = STEPS; i-- > 0;) step(i, true);
        } else {
#pragma unroll 1
            for (u32 i = (number + LANES - 1) / LANES; i-- > 0;) step(i, i * LANES + lane < number);
        }
        __syncwarp();
        write_group(kind, staged, outputs, planes, symbols, at, number, low, lane);
    }
    if (place < first) return WORDS_MISSING;
    if (place > first) return WORDS_LEFT;
    return __any_sync(ALL_LANES, state != START_STATE) ? LAST_STATE : 0u;
}

__device__ __forceinline__ u32 decode_chunk(Shared &shared, const Chunk &chunk, const u8 *data, u8 *outputs, u32 scale_bits,
                                            u32 kind) {
    // A copy for weights, in which the kind is known, and one for all others.
    if (kind == BF16) return run(BF16, shared, chunk, data, outputs, scale_bits);
    return run(kind, shared, chunk, data, outputs, scale_bits);
}

// Loads the table of a frame; all threads of the thread block.
__device__ __forceinline__ void load_table(Shared &shared, const u32 *slots, u32 scale_bits, u32 kind) {
    for (u32 slot = threadIdx.x; slot < 1u << scale_bits; slot += THREADS) {
        u32 entry = __ldg(slots + slot);
        // As `merge_eight` takes symbols.
        if (kind == BF16) entry = entry & ~255u | (entry & 255u) >> 1 | (entry & 1u) << 7;
        shared.table[slot] = entry;
    }
    __syncthreads();
}
