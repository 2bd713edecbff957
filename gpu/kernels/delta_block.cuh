// What applies a block of a delta (section 5 of spec/DELTA.md) over its elements of the base: a
// warp takes a block, a lane of the warp a lane of rANS.
//
// The algorithm. A symbol's table is chosen by the base's element, so a slot leads to a symbol by
// the table's row, and the symbol to its frequency: 3 KiB for a table in shared memory, of which
// eight fit where four with a word for each slot would. Chunks of 64 elements, two steps, are taken
// from the last to the first:
//
// 1. Base elements and low parts of a chunk are asked for two chunks before they are needed. What
//    is asked for is what is written over later, by the same lane.
// 2. Words pass through a ring of 256 bytes in shared memory, which is filled 128 bytes ahead of
//    the 128 that two steps may take, and these were asked for before.
// 3. The map of chunks comes first; a lane has the bits of 32 chunks of 1,024. Escapes, with their
//    own states and words, are decoded 32 at a time when one is met.
//
// Whatever words and states are, no access leaves the block's own bytes, elements and map, and each
// loop ends: tables, contexts and the ring have an entry for every index that can be; numbers of
// coded elements and of escapes are compared before they are used; a number of words below zero is
// noticed after the fact, since the ring can be read at any place. The sizes in descriptions are
// the host's, which has compared them with the delta's.

#pragma once

#include "elements.cuh"
#include "rans_block.cuh"

#define SUM_BITS 11u
#define SLOTS (1u << SUM_BITS)
#define MOST_TABLES 8u
// Bytes of a table: the symbol of each slot; then for each symbol what comes before it and, from
// bit 16 on, its frequency.
#define TABLE_BYTES (SLOTS + 1024u)
#define ELEMENTS_OF_CHUNK 64u
#define ESCAPE 255u
// Words of a segment of the ring, as many as a chunk may take.
#define WORDS 64u
#define RING_BYTES (4u * WORDS)

// What is found wrong with a block besides what is wrong with its rANS, LANE_STATE to LAST_STATE.
#define WRONG_CODED 5u
#define WRONG_ESCAPES 6u
#define WRONG_RESULT 7u
#define WRONG_BASE 8u

// A block of a delta: where it is in the bytes of the blocks, and the numbers of its directory.
struct DeltaBlock {
    u64 at;
    u32 words;
    u32 escape_words;
    u32 escapes;
    u32 coded;
};

// The common elements of a tensor, as method 2 holds them. Offsets of elements count from the
// address that a launch gets.
struct __align__(16) Delta {
    const u8 *data;
    const DeltaBlock *blocks;
    // The offset of the table that each exponent leads to, then the tables.
    const u8 *tables;
    // Room for the map of each block, 32 words for 65,536 elements; not used for shorter blocks.
    u32 *maps;
    u64 offset;
    u64 elements;
    // Where the delta's blocks begin among all blocks of a launch.
    u64 first_block;
    u32 n_blocks;
    u32 elements_of_block;
    // How many tables there are, that of escapes included.
    u32 n_tables;
    // Whether escapes are coded.
    u32 codes_escapes;
    u32 low;
    // The frequency of symbol 1 of the map; 0 without a map.
    u32 map_one;
    u32 kind;
    u32 size;
    // Where the exponent is, and its bits; what a negative element's ordinal inverts.
    u32 shift;
    u32 mask;
    u32 flip;
    u32 status;
    u32 reserved[2];
};

struct __align__(16) DeltaShared {
    u16 contexts[256];
    u8 tables[MOST_TABLES * TABLE_BYTES];
    u32 rings[WARPS][RING_BYTES / 4];
    // What each warp is at.
    DeltaBlock blocks[WARPS];
    Delta delta;
};

// Loads the tables of a delta; all threads of the thread block.
__device__ __forceinline__ void load_tables(DeltaShared &shared) {
    const uint4 *from = reinterpret_cast<const uint4 *>(shared.delta.tables);
    u32 bytes = u32(sizeof(shared.contexts)) + min(shared.delta.n_tables, MOST_TABLES) * TABLE_BYTES;
    // Tables follow contexts.
    uint4 *to = reinterpret_cast<uint4 *>(&shared);
    for (u32 i = threadIdx.x; i < bytes / 16; i += THREADS) to[i] = __ldg(from + i);
    __syncthreads();
}

// The symbol that a state leads to, how much its slot lies behind the symbol's first, and the
// symbol's frequency.
struct Found {
    u32 symbol;
    u32 place;
    u32 frequency;
};

__device__ __forceinline__ Found look_up(const DeltaShared &shared, u32 table, u32 state) {
    const u8 *from = shared.tables + table;
    u32 slot = state % SLOTS, symbol = from[slot];
    u32 entry = reinterpret_cast<const u32 *>(from + SLOTS)[symbol];
    return {symbol, slot - (entry & 0xffffu), entry >> 16};
}

// The words of a block on their way through the ring, and the state of the lane.
struct Words {
    u32 *ring;
    const u32 *from;
    i32 number;
    // How many words are left, the first of the segments in the ring, what is for the one before.
    i32 left;
    i32 lowest;
    u32 next;
    u32 state;

    __device__ __forceinline__ u32 read(i32 segment, u32 lane) const {
        i32 two = segment * i32(WORDS / 2) + i32(lane);
        return segment >= 0 && 2 * two < number ? __ldg(from + two) : 0u;
    }

    __device__ __forceinline__ void keep(u32 two, u32 lane) {
        ring[u32(lowest & 1) * (WORDS / 2) + lane] = two;
        next = read(lowest - 1, lane);
    }

    __device__ __forceinline__ void begin(u32 lane) {
        left = number;
        lowest = (left - 1) / i32(WORDS);
        keep(read(lowest, lane), lane);
        __syncwarp();
    }

    // All that two steps may take must be there.
    __device__ __forceinline__ void refill(u32 lane) {
        if (left - i32(WORDS) < lowest * i32(WORDS)) {
            __syncwarp();
            lowest--;
            keep(next, lane);
            __syncwarp();
        }
    }

    // R-5.2, in all lanes that have a symbol.
    __device__ __forceinline__ void step(u32 before, u32 frequency, u32 place, bool has_symbol) {
        u32 after = frequency * (state >> SUM_BITS) + place;
        bool needy = has_symbol && after < START_STATE;
        u32 all = __ballot_sync(ALL_LANES, needy);
        left -= __popc(all);
        u32 at = u32(left + __popc(all & before)) * 2 % RING_BYTES;
        if (needy) after = after << 16 | *reinterpret_cast<const u16 *>(reinterpret_cast<const u8 *>(ring) + at);
        state = has_symbol ? after : state;
    }
};

// The escapes of a block, which are taken from the last on: how many are left, and of their own
// block of rANS the words that are left, the lane's state, and its symbol of the step that was
// decoded last.
struct Escapes {
    u32 left;
    i32 words_left;
    u32 state;
    u32 symbol;

    __device__ __forceinline__ void decode_step(const DeltaShared &shared, const u8 *words, u32 first, u32 all, u32 lane) {
        bool has_symbol = first + lane < all;
        Found found = look_up(shared, (shared.delta.n_tables - 1) * TABLE_BYTES, state);
        u32 after = found.frequency * (state >> SUM_BITS) + found.place;
        bool needy = has_symbol && after < START_STATE;
        u32 lanes = __ballot_sync(ALL_LANES, needy);
        words_left -= __popc(lanes);
        i32 at = words_left + __popc(lanes & ((1u << lane) - 1));
        if (needy) after = after << 16 | (at >= 0 ? __ldg(reinterpret_cast<const u16 *>(words) + at) : 0u);
        if (has_symbol) {
            state = after;
            symbol = found.symbol;
        }
    }

    // The lane's element, where it is an escape; `lanes` has those whose element is one, and there
    // are as many left. `words` is the address of the block's words.
    __device__ __forceinline__ u32 take(const DeltaShared &shared, const u8 *words, u32 lanes, u32 lane) {
        const DeltaBlock &block = shared.blocks[threadIdx.x / LANES];
        u32 last = left - 1, size = shared.delta.size, kind = shared.delta.kind, all = block.escapes;
        words += 2 * block.words;
        const u8 *bytes = words + 2 * block.escape_words;
        bool is_escape = (lanes >> lane & 1) != 0, is_decoded = left < all && left % LANES != 0;
        u32 at = is_escape ? left - __popc(lanes >> lane) : last;
        left -= __popc(lanes);
        if (shared.delta.codes_escapes == 0) {
            u32 whole = 0;
#pragma unroll 1
            for (u32 i = 0; i < size; i++) whole |= u32(__ldg(bytes + u64(at) * size + i)) << 8 * i;
            return whole;
        }
        u32 coded = 0;
        for (u32 step = last / LANES + 1; step-- > left / LANES;) {
            if (!is_decoded) decode_step(shared, words, LANES * step, all, lane);
            is_decoded = false;
            u32 found = __shfl_sync(ALL_LANES, symbol, at % LANES);
            if (at / LANES == step) coded = found;
        }
        const u8 *raw = bytes + u64(at) * (size - 1);
        if (kind == BYTES) return coded;
        u32 low = __ldg(raw);
        if (kind == BF16) return (low & 0x80u) << 8 | coded << 7 | low & 0x7fu;
        if (kind == F16) return coded << 8 | low;
        return element(F32, coded, low, __ldg(raw + 1), __ldg(raw + 2));
    }
};

// A chunk whose elements of the base and low parts were asked for. A lane has two elements, one in
// each step. What was asked for is not touched before it is needed: each value has a register.
template <u32 SIZE>
struct Asked {
    i32 chunk;
    u32 base[2];
    u32 planes[2][SIZE];

    __device__ __forceinline__ u32 low(u32 step) const {
        u32 low = 0;
#pragma unroll
        for (u32 plane = 0; plane < SIZE - 1; plane++) low |= planes[step][plane] << 8 * plane;
        return low;
    }
};

// What stands for a chunk where none was asked for, or where there is none any more.
#define NO_CHUNK_YET -2
#define NO_CHUNK -1

// The element of a base's and `z` (B-5.1). Bits above those of an element mean nothing.
template <u32 SIZE>
__device__ __forceinline__ u32 restored(u32 base, u32 z, u32 flip) {
    constexpr u32 TOP = 8 * SIZE - 1;
    u32 ordinal = base ^ ((base >> TOP & 1) != 0 ? flip : 0u);
    ordinal += z >> 1 ^ (0u - (z & 1));
    return ordinal ^ ((ordinal >> TOP & 1) != 0 ? flip : 0u);
}

__device__ __forceinline__ bool is_state(u32 state) { return state >= START_STATE && state < STATE_END; }

// Whether a block may have more steps of the map than there are lanes.
__device__ __forceinline__ bool is_long(const Delta &delta) { return delta.elements_of_block > ELEMENTS_OF_CHUNK * LANES * LANES; }

// Decodes the map of a block, 32 chunks a step; returns how many elements are coded. A lane keeps
// the bits of every 32nd step in `mine`; if blocks are long, in the lane's words of `map`.
__device__ __forceinline__ u32 read_map(const Delta &delta, Words &words, u32 &mine, u32 *map, u32 elements, u32 lane, u32 before) {
    u32 one = delta.map_one;
    u32 chunks = (elements + ELEMENTS_OF_CHUNK - 1) / ELEMENTS_OF_CHUNK, steps = (chunks + LANES - 1) / LANES;
    u32 zero = SLOTS - one, coded = 0;
#pragma unroll 1
    for (u32 step = steps; step-- > 0;) {
        words.refill(lane);
        u32 chunk = step * LANES + lane, slot = words.state % SLOTS;
        bool has_symbol = chunk < chunks, is_one = slot >= zero;
        words.step(before, is_one ? one : zero, is_one ? slot - zero : slot, has_symbol);
        u32 bits = __ballot_sync(ALL_LANES, has_symbol && is_one);
        if (lane == step % LANES) mine = bits;
        if (step % LANES == 0 && is_long(delta)) map[step + lane] = mine;
        coded += ELEMENTS_OF_CHUNK * __popc(bits);
        // The last chunk, which may have fewer elements.
        if (step + 1 == steps && (bits >> (chunks - 1) % LANES & 1) != 0) coded -= chunks * ELEMENTS_OF_CHUNK - elements;
    }
    return coded;
}

// Restores a chunk that was asked for, which has `number` elements; returns whether there are as many
// escapes as it needs. `data` is the address of the block's words.
template <typename Word>
__device__ __forceinline__ bool restore(const DeltaShared &shared, Words &words, Escapes &escapes, const Asked<sizeof(Word)> &asked,
                                        Word *out, const u8 *data, u32 number, u32 lane, u32 before) {
    constexpr u32 SIZE = sizeof(Word);
    const Delta &delta = shared.delta;
    words.refill(lane);
    u32 symbols[2], whole[2], lanes[2];
    u32 shift = delta.shift, mask = delta.mask, flip = delta.flip, low = SIZE > 1 ? 8 * delta.low : 0;
    bool is_other[2];
#pragma unroll
    for (u32 step = 2; step-- > 0;) {
        bool has_symbol = step * LANES + lane < number;
        Found found = look_up(shared, shared.contexts[asked.base[step] >> shift & mask], words.state);
        words.step(before, found.frequency, found.place, has_symbol);
        symbols[step] = has_symbol ? found.symbol : 0u;
    }
#pragma unroll
    for (u32 step = 0; step < 2; step++) {
        u32 z = symbols[step] << low | asked.low(step);
        is_other[step] = z != 0;
        whole[step] = restored<SIZE>(asked.base[step], z, flip);
        lanes[step] = __ballot_sync(ALL_LANES, symbols[step] == ESCAPE);
    }
    if ((lanes[0] | lanes[1]) != 0) {
        if (u32(__popc(lanes[0]) + __popc(lanes[1])) > escapes.left) return false;
#pragma unroll 1
        for (u32 step = 2; step-- > 0;) {
            u32 of_step = step == 0 ? lanes[0] : lanes[1];
            if (of_step == 0) continue;
            u32 escape = escapes.take(shared, data, of_step, lane);
            if ((of_step >> lane & 1) != 0) (step == 0 ? whole[0] : whole[1]) = escape;
        }
    }
    Word *to = out + u32(asked.chunk) * ELEMENTS_OF_CHUNK + lane;
    if (is_other[0]) to[0] = Word(whole[0]);
    if (is_other[1]) to[LANES] = Word(whole[1]);
    return true;
}

// Applies a block of elements of `Word`'s size; returns what is wrong.
template <typename Word>
__device__ __forceinline__ u32 apply_block(DeltaShared &shared, u32 number, u64 elements_at) {
    const Delta &delta = shared.delta;
    constexpr u32 SIZE = sizeof(Word);
    u32 lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, before = (1u << lane) - 1;
    // Before it is read, and before the block that was here is another.
    __syncwarp();
    DeltaBlock &block = shared.blocks[warp];
    if (lane == 0) block = delta.blocks[number];
    __syncwarp();
    u64 first = u64(number) * delta.elements_of_block;
    u32 elements = u32(min(u64(delta.elements_of_block), delta.elements - first));
    Word *out = reinterpret_cast<Word *>(elements_at + delta.offset) + first;
    __builtin_assume(__isGlobal(out));

    const u8 *data = delta.data + block.at;
    __builtin_assume(__isGlobal(data));
    Words words = {};
    words.ring = shared.rings[warp];
    words.state = __ldg(reinterpret_cast<const u32 *>(data) + lane);
    Escapes escapes = {block.escapes, i32(block.escape_words), START_STATE, 0};
    data += 4 * LANES;
    if (delta.codes_escapes != 0 && block.escapes != 0) {
        escapes.state = __ldg(reinterpret_cast<const u32 *>(data) + lane);
        data += 4 * LANES;
    }
    if (!__all_sync(ALL_LANES, is_state(words.state) && is_state(escapes.state))) return LANE_STATE;
    words.from = reinterpret_cast<const u32 *>(data);
    words.number = i32(block.words);
    u32 planes = 2 * (block.words + block.escape_words) + block.escapes * (SIZE - delta.codes_escapes);
    words.begin(lane);

    bool has_map = delta.map_one != 0;
    u32 coded = elements, mine = 0;
    auto map = [&]() {
        u32 words_of_map = (delta.elements_of_block / ELEMENTS_OF_CHUNK + LANES * LANES - 1) / (LANES * LANES) * LANES;
        u32 *map = delta.maps + u64(number) * words_of_map;
        __builtin_assume(__isGlobal(map));
        return map;
    };
    if (has_map) coded = read_map(delta, words, mine, map(), elements, lane, before);
    if (coded != block.coded) return WRONG_CODED;

    // The next chunk that is coded, and what is left of the bits of its step of the map.
    i32 chunk = i32((elements + ELEMENTS_OF_CHUNK - 1) / ELEMENTS_OF_CHUNK);
    i32 word = (chunk + i32(LANES) - 1) / i32(LANES);
    if (has_map && is_long(delta)) mine = map()[u32(word - 1) / LANES * LANES + lane];
    u32 bits = 0, left = coded;
    auto find_next = [&]() {
        if (!has_map) {
            chunk--;
            return;
        }
        while (bits == 0 && word > 0) {
            word--;
            if (u32(word) % LANES == LANES - 1 && is_long(delta)) mine = map()[u32(word) / LANES * LANES + lane];
            bits = __shfl_sync(ALL_LANES, mine, u32(word) % LANES);
        }
        u32 highest = 31 - __clz(bits);
        chunk = bits == 0 ? NO_CHUNK : word * i32(LANES) + i32(highest);
        bits &= ~(1u << (highest & 31));
    };
    // Asks for that chunk, which has `number` elements.
    auto ask = [&](Asked<SIZE> &asked, u32 number) {
        left -= number;
        u32 low = delta.low;
        const Word *from = out + u32(chunk) * ELEMENTS_OF_CHUNK + lane;
        const u8 *low_parts = data + (planes + left + lane);
#pragma unroll
        for (u32 step = 0; step < 2; step++) {
            bool has_element = step * LANES + lane < number;
            asked.base[step] = 0;
            if (has_element) asked.base[step] = from[step * LANES];
#pragma unroll
            for (u32 plane = 0; plane < SIZE - 1; plane++) {
                asked.planes[step][plane] = 0;
                if (plane < low && has_element) asked.planes[step][plane] = __ldg(low_parts + plane * coded + step * LANES);
            }
        }
        asked.chunk = chunk;
        find_next();
    };
    find_next();
    u32 rest = elements % ELEMENTS_OF_CHUNK;
    if (rest != 0 && u32(chunk) == elements / ELEMENTS_OF_CHUNK) {
        Asked<SIZE> last;
        ask(last, rest);
        if (!restore(shared, words, escapes, last, out, data, rest, lane, before)) return WRONG_ESCAPES;
    }
    Asked<SIZE> now = {}, then = {};
    now.chunk = then.chunk = NO_CHUNK_YET;
    do {
        Asked<SIZE> later = {};
        later.chunk = NO_CHUNK;
        if (chunk >= 0) ask(later, ELEMENTS_OF_CHUNK);
        if (now.chunk >= 0 && !restore(shared, words, escapes, now, out, data, ELEMENTS_OF_CHUNK, lane, before)) return WRONG_ESCAPES;
        now = then;
        then = later;
    } while (now.chunk != NO_CHUNK);
    if (escapes.left != 0) return WRONG_ESCAPES;
    if (words.left < 0 || escapes.words_left < 0) return WORDS_MISSING;
    if (words.left > 0 || escapes.words_left > 0) return WORDS_LEFT;
    bool is_last = words.state == START_STATE && escapes.state == START_STATE;
    return __all_sync(ALL_LANES, is_last) ? 0u : LAST_STATE;
}
