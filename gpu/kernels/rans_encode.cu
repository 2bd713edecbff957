// Encodes frames, to the bytes that `df11::frame::Encoder` writes.
//
// The algorithm. `frame_encode_count` counts coded bytes; of these the host makes the frequencies.
// `rans_encode` gives a block to a warp and a lane to a lane: a ballot tells each lane where its
// word goes. Words go to memory that has room for the most there can be; `frame_encode_layout` adds
// up what there are, so that each block has its place in the frame, and `frame_encode_pack` puts
// everything there. `frame_encode_check` computes the checksums of what is then there, and the
// entries of the directory.
//
// 1. The division is a multiplication: with s = ceil(log2 f) and m = ceil(2^(31+s) / f), x m div
//    2^(31+s) is x div f. For x < 2^31, x m / 2^(31+s) exceeds x / f by less than 2^-s, which is at
//    most 1 / f, the least by which x / f is below the next number.
// 2. Symbols are read for eight steps at once, so that their latency is waited for once.
// 3. A checksum is a remainder of polynomials. The threads of a block take its words in turn, from
//    the end backwards: each knows how far its last word is from the end, whatever the length is. A
//    step of a thread multiplies by a constant power of x, which is four look-ups in a table of it.
//
// Elements may be at any address. Whatever they are, nothing is written past what the layout says.

#include "crc.cuh"
#include "encode.cuh"

#define LANES 32u
#define START_STATE (1u << 15)
#define STATE_BITS 31u
// P, of all frames: F-7.2.
#define SCALE_BITS 12u
// Steps whose symbols are read together.
#define TOGETHER 8u

// The layout of a block: F-5.2 of spec/FRAME.md.
#define ALIGNMENT 16u
#define HEADER_BYTES 16u
#define STATES_BYTES 128u

// What elements are, as `rans_decode` calls it: how they are put together of coded bytes and a raw
// part.
#define BYTES 0u
#define BF16 1u
#define F16 2u
#define F32 3u

template <u32 KIND>
struct Of {
    static constexpr u32 SIZE = KIND == BYTES ? 1 : KIND == F32 ? 4 : 2;
    // Elements in a word.
    static constexpr u32 EACH = 4 / SIZE;
    // Bytes of the raw part.
    static constexpr u32 PLANES = SIZE - 1;

    // The coded byte of an element of a word, by its number.
    static __device__ __forceinline__ u32 coded(u32 word, u32 i) {
        if (KIND == BYTES) return word >> (8 * i) & 255u;
        if (KIND == BF16) return word >> (16 * i + 7) & 255u;
        if (KIND == F16) return word >> (16 * i + 8) & 255u;
        return word >> 23 & 255u;
    }

    // A byte of the raw part of an element that is the low bits of a word.
    static __device__ __forceinline__ u32 raw(u32 word, u32 plane) {
        if (KIND == BF16) return word >> 8 & 0x80u | word & 0x7fu;
        if (KIND == F32 && plane == 2) return word >> 24 & 0x80u | word >> 16 & 0x7fu;
        return word >> (8 * plane) & 255u;
    }

    // Bytes of the raw part of four elements.
    static __device__ __forceinline__ u32 raws(const u32 *words, u32 plane) {
        if (KIND == BF16) return sign_mantissas(words[0], words[1]);
        if (KIND == F16) return __byte_perm(words[0], words[1], 0x6420);
        u32 which = plane | (4 + plane) << 4, next = which + 0x11;
        u32 low = __byte_perm(__byte_perm(words[0], words[1], which), __byte_perm(words[2], words[3], which), 0x5410);
        if (plane < 2) return low;
        u32 high = __byte_perm(__byte_perm(words[0], words[1], next), __byte_perm(words[2], words[3], next), 0x5410);
        return (low & 0x7f7f7f7fu) | (high & 0x80808080u);
    }

    // Coded bytes of four elements.
    static __device__ __forceinline__ u32 codeds(const u32 *words) {
        u32 all = 0;
#pragma unroll
        for (u32 i = 0; i < 4; i++) all |= coded(words[i / EACH], i % EACH) << (8 * i);
        return all;
    }

    // An element from any address.
    static __device__ __forceinline__ u32 read(const u8 *at) {
        u32 word = at[0];
        if (SIZE >= 2) word |= u32(at[1]) << 8;
        if (SIZE == 4) word |= u32(at[2]) << 16 | u32(at[3]) << 24;
        return word;
    }
};

template <u32 KIND>
__device__ __forceinline__ void count(u32 *mine, const u8 *elements, u64 number) {
    constexpr u32 SIZE = Of<KIND>::SIZE, TOTAL = 32 / SIZE;
    const u8 *end = elements + number * SIZE;
    u64 step = u64(gridDim.x) * THREADS * TOTAL;
    for (u64 from = (u64(blockIdx.x) * THREADS + threadIdx.x) * TOTAL; from < number; from += step) {
        u32 words[8];
        if (read<2>(elements + from * SIZE, elements, end, words)) {
#pragma unroll
            for (u32 i = 0; i < TOTAL; i++) {
                atomicAdd(&mine[Of<KIND>::coded(words[i / Of<KIND>::EACH], i % Of<KIND>::EACH)], 1u);
            }
        } else {
#pragma unroll 1
            for (u64 i = from; i < min(from + TOTAL, number); i++) {
                atomicAdd(&mine[Of<KIND>::coded(Of<KIND>::read(elements + i * SIZE), 0)], 1u);
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    frame_encode_count(const u8 *elements, u64 number, u32 kind, u64 *totals) {
    __shared__ Bins bins;
    u32 *mine = begin_counting(bins);
    __syncthreads();
    if (kind == BYTES) count<BYTES>(mine, elements, number);
    if (kind == BF16) count<BF16>(mine, elements, number);
    if (kind == F16) count<F16>(mine, elements, number);
    if (kind == F32) count<F32>(mine, elements, number);
    __syncthreads();
    u64 total = take_count(bins);
    if (total > 0) atomicAdd(&totals[threadIdx.x], total);
}

// A frame that is being written, and its elements.
struct Frame {
    const u8 *elements;
    u64 number;
    u32 block_len;
    u32 blocks;

    __device__ __forceinline__ u64 first(u32 block) const { return u64(block) * block_len; }
    __device__ __forceinline__ u32 symbols(u32 block) const { return u32(min(number - first(block), u64(block_len))); }
};

// What is needed to encode a symbol: the reciprocal; and, from the lowest bit up, 2^P less the
// frequency, 12 bits, the shift, 8 bits, and the cumulative frequency, 12 bits.
struct __align__(8) Entry {
    u32 reciprocal;
    u32 rest;
};

// What a lane knows of the block that its warp encodes.
struct Lane {
    const Entry *table;
    u16 *words;
    // Lanes before this one.
    u32 before;
    u32 state;
    // Words of all lanes so far.
    u32 used;
};

// Without a branch, which would have to come together again.
__device__ __forceinline__ void store_if(bool is_so, u16 *to, u32 word) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %0, 0;\n@p st.global.u16 [%1], %2;\n}" ::"r"(u32(is_so)), "l"(to),
                 "h"(u16(word))
                 : "memory");
}

// The same pointer, as one number: what it was made of is not added up again for each word.
__device__ __forceinline__ u16 *as_one(u16 *pointer) {
    asm("mov.b64 %0, %1;" : "=l"(pointer) : "l"(pointer));
    return pointer;
}

// Encodes a symbol in each lane that has one.
__device__ __forceinline__ void step(Lane &lane, u32 symbol, bool has_symbol) {
    Entry entry = lane.table[symbol];
    u32 others = entry.rest & 0xfffu;
    // The state is not below f 2^(31-P).
    bool is_full = has_symbol && (lane.state >> (STATE_BITS - SCALE_BITS)) + others >= 1u << SCALE_BITS;
    u32 all = __ballot_sync(ALL_LANES, is_full);
    store_if(is_full, lane.words + lane.used + __popc(all & lane.before), lane.state);
    u32 state = is_full ? lane.state >> 16 : lane.state;
    lane.used += __popc(all);
    // Shifts are by the low five bits of what they are told.
    u32 quotient = __funnelshift_r(__umulhi(state << 1, entry.reciprocal), 0, entry.rest >> 12);
    state += (entry.rest >> 20) + quotient * others;
    lane.state = has_symbol ? state : lane.state;
}

// The coded byte of an element. Those that are in two bytes are read at once, if `elements` are at
// even addresses.
template <u32 KIND, bool IS_EVEN>
__device__ __forceinline__ u32 read_coded(const u8 *element) {
    if (KIND == BYTES) return element[0];
    if (KIND == F16) return element[1];
    const u8 *high = element + Of<KIND>::SIZE - 2;
    if (IS_EVEN) return *reinterpret_cast<const u16 *>(high) >> 7 & 255u;
    return (u32(high[0]) >> 7 | u32(high[1]) << 1) & 255u;
}

// Encodes all symbols of a block.
template <u32 KIND, bool IS_EVEN>
__device__ __forceinline__ void run(Lane &lane, const u8 *elements, u32 symbols, u32 number) {
    constexpr u32 STRIDE = LANES * Of<KIND>::SIZE;
    const u8 *at = elements + number * Of<KIND>::SIZE;
    u32 i = 0;
    for (; i + TOGETHER * LANES <= symbols; i += TOGETHER * LANES, at += TOGETHER * STRIDE) {
        u32 read[TOGETHER];
#pragma unroll
        for (u32 j = 0; j < TOGETHER; j++) read[j] = read_coded<KIND, IS_EVEN>(at + j * STRIDE);
#pragma unroll
        for (u32 j = 0; j < TOGETHER; j++) step(lane, read[j], true);
    }
#pragma unroll 1
    for (; i < symbols; i += LANES, at += STRIDE) {
        bool has_symbol = i + number < symbols;
        step(lane, has_symbol ? read_coded<KIND, IS_EVEN>(at) : 0u, has_symbol);
    }
}

// Encodes the coded bytes of blocks: their states, their words, and how many these are.
extern "C" __global__ void __launch_bounds__(THREADS)
    rans_encode(const u8 *elements, u64 number_of_elements, u32 block_len, u32 blocks, u32 kind, const Entry *entries,
                u32 *states, u16 *words, u32 *counts) {
    __shared__ Entry table[256];
    table[threadIdx.x] = entries[threadIdx.x];
    __syncthreads();
    Frame frame = {elements, number_of_elements, block_len, blocks};
    u32 number = threadIdx.x % LANES;
    u32 size = kind == BYTES ? 1 : kind == F32 ? 4 : 2;
    bool is_even = (reinterpret_cast<u64>(elements) & 1) == 0;
    for (u32 block = blockIdx.x * WARPS + threadIdx.x / LANES; block < blocks; block += gridDim.x * WARPS) {
        Lane lane = {table, as_one(words + frame.first(block)), (1u << number) - 1, START_STATE, 0};
        const u8 *from = elements + frame.first(block) * size;
        u32 symbols = frame.symbols(block);
        if (kind == BYTES) run<BYTES, true>(lane, from, symbols, number);
        if (kind == F16) run<F16, true>(lane, from, symbols, number);
        if (kind == BF16 && is_even) run<BF16, true>(lane, from, symbols, number);
        if (kind == BF16 && !is_even) run<BF16, false>(lane, from, symbols, number);
        if (kind == F32 && is_even) run<F32, true>(lane, from, symbols, number);
        if (kind == F32 && !is_even) run<F32, false>(lane, from, symbols, number);
        states[u64(block) * LANES + number] = lane.state;
        if (number == 0) counts[block] = lane.used;
    }
}

__device__ __forceinline__ u32 aligned(u32 bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

// Where each block begins in the frame, the first at `start`, and where the last ends. For one
// thread block. Without `counts`, elements are kept as they are.
extern "C" __global__ void __launch_bounds__(THREADS)
    frame_encode_layout(const u32 *counts, u64 number_of_elements, u32 block_len, u32 blocks, u32 size, u64 start,
                        u64 *offsets) {
    __shared__ u32 warp_totals[WARPS];
    Frame frame = {0, number_of_elements, block_len, blocks};
    for (u32 from = 0; from < blocks; from += THREADS) {
        u32 block = from + threadIdx.x, bytes = 0;
        if (block < blocks) {
            u32 symbols = frame.symbols(block);
            u32 before = counts ? aligned(HEADER_BYTES + STATES_BYTES + 2 * counts[block]) : HEADER_BYTES;
            bytes = aligned(before + symbols * (counts ? size - 1 : size));
        }
        uint2 sums = prefix_sum(warp_totals, bytes);
        if (block < blocks) offsets[block] = start + sums.x;
        start += sums.y;
        __syncthreads();
    }
    if (threadIdx.x == 0) offsets[blocks] = start;
}

__device__ __forceinline__ uint4 take(const u32 *words) { return make_uint4(words[0], words[1], words[2], words[3]); }

// Copies bytes to a multiple of 16, and fills up with zeros to the next.
__device__ __forceinline__ void copy(u8 *to, const u8 *from, u32 bytes) {
    for (u32 at = ALIGNMENT * threadIdx.x; at < bytes; at += ALIGNMENT * THREADS) {
        u32 words[4];
        if (!read<1>(from + at, from, from + bytes, words)) {
            words[0] = words[1] = words[2] = words[3] = 0;
#pragma unroll
            for (u32 i = 0; i < 16; i++) words[i / 4] |= (at + i < bytes ? from[at + i] : 0u) << (8 * (i % 4));
        }
        *reinterpret_cast<uint4 *>(to + at) = take(words);
    }
}

// Splits the raw part of a block off, to planes that begin at a multiple of 16.
template <u32 KIND>
__device__ __forceinline__ void split(u8 *raw, const u8 *elements, u32 symbols) {
    constexpr u32 SIZE = Of<KIND>::SIZE, PLANES = Of<KIND>::PLANES;
    const u8 *end = elements + symbols * SIZE;
    for (u32 from = 16 * threadIdx.x; from < symbols; from += 16 * THREADS) {
        u32 words[4 * SIZE];
        // With other numbers of symbols, in the last block, planes after the first begin anywhere.
        bool is_whole = PLANES == 1 || symbols % 16 == 0;
        if (is_whole && from + 16 <= symbols && read<SIZE>(elements + from * SIZE, elements, end, words)) {
#pragma unroll
            for (u32 plane = 0; plane < PLANES; plane++) {
                u32 split[4];
#pragma unroll
                for (u32 i = 0; i < 4; i++) split[i] = Of<KIND>::raws(words + i * SIZE, plane);
                *reinterpret_cast<uint4 *>(raw + plane * symbols + from) = take(split);
            }
        } else {
#pragma unroll 1
            for (u32 i = from; i < min(from + 16, symbols); i++) {
                u32 element = Of<KIND>::read(elements + i * SIZE);
#pragma unroll
                for (u32 plane = 0; plane < PLANES; plane++) {
                    raw[plane * symbols + i] = Of<KIND>::raw(element, plane);
                }
            }
        }
    }
    u32 bytes = PLANES * symbols;
    if (bytes + threadIdx.x < aligned(bytes)) raw[bytes + threadIdx.x] = 0;
}

// Puts blocks where they belong, without their checksums.
extern "C" __global__ void __launch_bounds__(THREADS)
    frame_encode_pack(const u8 *elements, u64 number_of_elements, u32 block_len, u32 blocks, u32 kind, const u32 *states,
                      const u16 *words, const u32 *counts, const u64 *offsets, u8 *bytes) {
    Frame frame = {elements, number_of_elements, block_len, blocks};
    u32 size = kind == BYTES ? 1 : kind == F32 ? 4 : 2, thread = threadIdx.x;
    for (u32 block = blockIdx.x; block < blocks; block += gridDim.x) {
        u8 *to = bytes + offsets[block];
        const u8 *from = elements + frame.first(block) * size;
        u32 symbols = frame.symbols(block), words_bytes = counts ? 2 * counts[block] : 0;
        if (thread == 0) *reinterpret_cast<uint4 *>(to) = make_uint4(0, words_bytes, 0, 0);
        to += HEADER_BYTES;
        if (!counts) {
            copy(to, from, symbols * size);
            continue;
        }
        if (thread < STATES_BYTES / 4) reinterpret_cast<u32 *>(to)[thread] = states[u64(block) * LANES + thread];
        to += STATES_BYTES;
        copy(to, reinterpret_cast<const u8 *>(words + frame.first(block)), words_bytes);
        to += aligned(words_bytes);
        if (kind == BF16) split<BF16>(to, from, symbols);
        if (kind == F16) split<F16>(to, from, symbols);
        if (kind == F32) split<F32>(to, from, symbols);
    }
}

// What powers of x modulo the polynomial of CRC-32 a frame needs; the bits of a byte are in it from
// the lowest up, so x is a shift to the right.
struct Powers {
    // The product of each byte of a word and x^(32 THREADS), or of the words of four elements at
    // once.
    u32 step[4][256];
    u32 big_step[4][256];
    // x^(32 (i + 1)), and x^(32 (e i + 1)) with e bytes of an element, for each i below THREADS.
    u32 from_end[THREADS];
    u32 big_from_end[THREADS];
};

struct Shared {
    u32 step[4][256];
    u32 big_step[4][256];
    // Of the three checksums of a block.
    u32 sums[3][WARPS];
};

// The sum, which is a difference, of all threads; `which` is another than in the call before.
__device__ __forceinline__ u32 sum(Shared &shared, u32 which, u32 value) {
#pragma unroll
    for (u32 distance = 16; distance > 0; distance /= 2) value ^= __shfl_xor_sync(ALL_LANES, value, distance);
    if (threadIdx.x % 32 == 0) shared.sums[which][threadIdx.x / 32] = value;
    __syncthreads();
    u32 all = 0;
#pragma unroll
    for (u32 i = 0; i < WARPS; i++) all ^= shared.sums[which][i];
    return all;
}

// The checksum that ends with this register: of `bytes` bytes of which all that are there, up to
// four, were inverted.
__device__ __forceinline__ u32 checksum(u32 found, u32 bytes) {
    // The start's bytes that met none of these.
    return ~(bytes < 4 ? found ^ ~0u >> (8 * bytes) : found);
}

// The checksum of whole words, at least one, continued from `seed`.
__device__ __forceinline__ u32 check_words(Shared &shared, const Powers *powers, const u32 *words, u32 number, u32 seed) {
    u32 found = 0;
    u32 rounds = (number + THREADS - 1) / THREADS;
    // The last thread's last word is the last.
    u32 missing = rounds * THREADS - number;
#pragma unroll 4
    for (u32 at = threadIdx.x; at < rounds * THREADS; at += THREADS) {
        u32 word = at >= missing ? words[at - missing] : 0u;
        found = product(shared.step, found) ^ (at == missing ? word ^ ~seed : word);
    }
    return ~sum(shared, 2, product(found, powers->from_end[THREADS - 1 - threadIdx.x]));
}

// The checksums of the elements of a block, and of their coded bytes.
template <u32 KIND>
__device__ __forceinline__ uint2 check_elements(Shared &shared, const Powers *powers, const u8 *elements, u32 symbols) {
    constexpr u32 SIZE = Of<KIND>::SIZE;
    bool is_aligned = (reinterpret_cast<u64>(elements + symbols * SIZE) & 3) == 0;
    u32 found[SIZE] = {}, coded = 0;
    u32 groups = (symbols + 3) / 4, rounds = (groups + THREADS - 1) / THREADS;
    u32 missing = rounds * THREADS - groups;
    for (u32 at = threadIdx.x; at < rounds * THREADS; at += THREADS) {
        u32 words[SIZE] = {}, four = 0;
        // The last four elements are a group, and so on.
        u32 group = at - missing, end = symbols - 4 * (groups - 1 - group);
        if (at >= missing && is_aligned && group > 1) {
            const u32 *from = reinterpret_cast<const u32 *>(elements + (end - 4) * SIZE);
#pragma unroll
            for (u32 i = 0; i < SIZE; i++) words[i] = from[i];
            four = Of<KIND>::codeds(words);
        } else if (at >= missing) {
            // Bytes that come first are inverted.
#pragma unroll
            for (u32 i = 0; i < 4 * SIZE; i++) {
                u32 number = end * SIZE + i - 4 * SIZE;
                bool is_there = end * SIZE + i >= 4 * SIZE;
                u32 byte = is_there ? elements[number] : 0u;
                words[i / 4] |= byte << (8 * (i % 4));
            }
            four = Of<KIND>::codeds(words);
#pragma unroll
            for (u32 i = 0; i < 4 * SIZE; i++) {
                u32 number = end * SIZE + i - 4 * SIZE;
                words[i / 4] ^= (number < 4 ? 255u : 0u) << (8 * (i % 4));
            }
#pragma unroll
            for (u32 i = 0; i < 4; i++) four ^= (end + i - 4 < 4 ? 255u : 0u) << (8 * i);
        }
#pragma unroll
        for (u32 i = 0; i < SIZE; i++) found[i] = product(shared.big_step, found[i]) ^ words[i];
        coded = product(shared.step, coded) ^ four;
    }
    u32 all = found[0];
#pragma unroll
    for (u32 i = 1; i < SIZE; i++) all = after_word(all) ^ found[i];
    u32 from_end = THREADS - 1 - threadIdx.x;
    all = sum(shared, 0, product(all, powers->big_from_end[from_end]));
    coded = sum(shared, 1, product(coded, powers->from_end[from_end]));
    return make_uint2(checksum(all, symbols * SIZE), checksum(coded, symbols));
}

// The checksums of blocks, and their entries of the directory; those of the elements of each block
// to `digests`.
extern "C" __global__ void __launch_bounds__(THREADS)
    frame_encode_check(const u8 *elements, u64 number_of_elements, u32 block_len, u32 blocks, u32 kind, u32 is_coded,
                       const Powers *powers, const u64 *offsets, u8 *bytes, u32 *digests) {
    __shared__ Shared shared;
    for (u32 i = threadIdx.x; i < 4 * 256; i += THREADS) {
        shared.step[i / 256][i % 256] = powers->step[i / 256][i % 256];
        shared.big_step[i / 256][i % 256] = powers->big_step[i / 256][i % 256];
    }
    __syncthreads();
    Frame frame = {elements, number_of_elements, block_len, blocks};
    u32 size = kind == BYTES ? 1 : kind == F32 ? 4 : 2;
    for (u32 block = blockIdx.x; block < blocks; block += gridDim.x) {
        u32 *at = reinterpret_cast<u32 *>(bytes + offsets[block]);
        const u8 *from = elements + frame.first(block) * size;
        u32 symbols = frame.symbols(block);
        uint2 found = make_uint2(0, 0);
        if (kind == BYTES) found = check_elements<BYTES>(shared, powers, from, symbols);
        if (kind == BF16) found = check_elements<BF16>(shared, powers, from, symbols);
        if (kind == F16) found = check_elements<F16>(shared, powers, from, symbols);
        if (kind == F32) found = check_elements<F32>(shared, powers, from, symbols);
        if (threadIdx.x == 0) {
            digests[block] = found.x;
            if (is_coded) at[2] = found.y;
        }
        __syncthreads();
        u32 words = u32((offsets[block + 1] - offsets[block]) / 4);
        u32 all = check_words(shared, powers, at + 1, words - 1, block);
        if (threadIdx.x == 0) {
            at[0] = all;
            u32 *entry = reinterpret_cast<u32 *>(bytes + offsets[blocks]) + 3 * u64(block);
            entry[0] = u32(offsets[block]);
            entry[1] = u32(offsets[block] >> 32);
            entry[2] = all;
        }
    }
}
