// Encodes DF11 units, to the bytes that `df11::Plan` writes.
//
// The algorithm. The weights of a unit are cut into tiles. `df11_encode_count` counts the exponents
// of each tile, and of all. The host makes the code of these counts. `df11_encode_sizes` makes the
// bits of each tile of its counts and the code lengths, so that no weight is read for that;
// `df11_encode_scan` adds them up to where each tile's code begins. `df11_encode_emit` reads the
// weights again and writes everything: a thread looks up the codewords of 16 weights, puts those of
// four at a time together in a register, and learns from a prefix sum of lengths where its bits go.
// They meet in shared memory, from which whole words go to the unit.
//
// 1. Tiles end anywhere: the word of code in which two of them meet is zeroed before
//    (`df11_encode_scan`), and each adds its bits by an atomic operation. So it is with the words
//    of `gaps`, which are few.
// 2. The codeword that ends at or after the start of a window, and begins before it, decides that
//    window's gap, and at the start of a block the output position. Two of three threads meet one
//    in their 16 weights, if these are trained ones.
// 3. Weights may be at any address: words that are not aligned are put together from aligned ones.
//    What is at the ends of a tile, and codewords that are longer than a register together, go the
//    slow way, weight by weight.
//
// What the kernels write is laid out from addresses that are multiples of 16, with room up to the
// next one. Whatever the weights are, nothing is written past what the plan says: should codewords
// have another length than those that were counted, one of the two words of `status` is not 0.

#include "encode.cuh"

// The layout: D-7.1, D-7.4, D-8.1 of spec/DF11.md.
#define WINDOW_BITS 64u
#define WINDOWS_PER_BLOCK 512u
#define GAP_BITS 5u

// Weights of a thread in a round.
#define GROUP 16u
// Words of code that a round fills at most, after up to 63 bits that are there, and a word that is
// only begun.
#define STAGED (THREADS * GROUP + 4u)
// Words of gaps: there are at most 2,048 windows that begin in a round, and the first may begin
// within a word.
#define GAP_WORDS (THREADS * GROUP / 2u * GAP_BITS / 32u + 4u)
static_assert((STAGED + GAP_WORDS) % 4 == 0, "zeroed 16 bytes at a time");

// Weights that one thread block takes at a time: not more than 65,535 of one tensor.
struct Tile {
    const u8 *weights;
    // The number of its first weight in the unit.
    u32 first;
    u32 count;
};

// A codeword, from the highest bit down, and its length; 0 for what has none.
struct __align__(8) Codeword {
    u32 bits;
    u32 length;
};

// Sixteen weights in the order of their addresses.
struct Group {
    u32 words[8];
};

__device__ __forceinline__ u32 low_exponent(u32 word) { return word >> 7 & 255u; }
__device__ __forceinline__ u32 high_exponent(u32 word) { return word >> 23 & 255u; }

// By 32 it gives 0.
__device__ __forceinline__ u32 shift_right(u32 word, u32 by) { return __funnelshift_rc(word, 0, by); }
__device__ __forceinline__ u32 shift_left(u32 word, u32 by) { return __funnelshift_lc(0, word, by); }

__device__ __forceinline__ u32 swap_bytes(u32 x) { return __byte_perm(x, 0, 0x0123); }

// One of the tiles. Weights are in global memory, so that the compiler need not ask for each
// access.
__device__ __forceinline__ Tile read_tile(const Tile *tiles, u32 number) {
    Tile tile = tiles[number];
    __builtin_assume(__isGlobal(tile.weights));
    return tile;
}

// Reads the group of weights from number `from` on, if it is all in the tile, and not so near its
// ends that aligned words reach beyond them.
__device__ __forceinline__ bool read_group(const Tile &tile, u32 from, Group &group) {
    if (from < tile.first || from + GROUP > tile.first + tile.count) return false;
    const u8 *at = tile.weights + 2 * u64(from - tile.first);
    return read<2>(at, tile.weights, tile.weights + 2 * u64(tile.count), group.words);
}

// A weight of a tile, by its number in the unit, from any address.
__device__ __forceinline__ u32 read_weight(const Tile &tile, u32 number) {
    const u8 *at = tile.weights + 2 * u64(number - tile.first);
    return u32(at[0]) | u32(at[1]) << 8;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    df11_encode_count(const Tile *tiles, u32 number, u16 *histograms, u64 *totals) {
    __shared__ Bins bins;
    u32 thread = threadIdx.x;
    u32 *mine = begin_counting(bins);
    u64 total = 0;
    for (u32 at = blockIdx.x; at < number; at += gridDim.x) {
        Tile tile = read_tile(tiles, at);
        __syncthreads();
        u32 end = tile.first + tile.count;
        for (u32 from = tile.first / GROUP * GROUP + GROUP * thread; from < end; from += GROUP * THREADS) {
            Group group;
            if (read_group(tile, from, group)) {
#pragma unroll
                for (u32 i = 0; i < 8; i++) {
                    atomicAdd(&mine[low_exponent(group.words[i])], 1u);
                    atomicAdd(&mine[high_exponent(group.words[i])], 1u);
                }
            } else {
#pragma unroll 1
                for (u32 i = max(from, tile.first); i < min(from + GROUP, end); i++) {
                    atomicAdd(&mine[low_exponent(read_weight(tile, i))], 1u);
                }
            }
        }
        __syncthreads();
        u32 sum = take_count(bins);
        histograms[u64(at) * 256 + thread] = sum;
        total += sum;
    }
    if (total > 0) atomicAdd(&totals[thread], total);
}

// The bits of each tile's code, a warp for each; and `gaps` to zeros.
extern "C" __global__ void __launch_bounds__(THREADS)
    df11_encode_sizes(const u16 *histograms, const Codeword *codewords, u32 number, u32 *bits, u32 *gaps,
                      u32 gap_words) {
    u32 lane = threadIdx.x % 32;
    u32 lengths[8];
#pragma unroll
    for (u32 i = 0; i < 8; i++) lengths[i] = codewords[8 * lane + i].length;
    for (u32 at = blockIdx.x * WARPS + threadIdx.x / 32; at < number; at += gridDim.x * WARPS) {
        uint4 counts = reinterpret_cast<const uint4 *>(histograms)[u64(at) * 32 + lane];
        u32 words[4];
        put(words, counts);
        u32 sum = 0;
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            sum += (words[i] & 0xffffu) * lengths[2 * i] + (words[i] >> 16) * lengths[2 * i + 1];
        }
#pragma unroll
        for (u32 distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, distance);
        if (lane == 0) bits[at] = sum;
    }
    for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < gap_words; i += gridDim.x * THREADS) gaps[i] = 0;
}

// What a thread of the scan takes at a time.
#define EACH 4u

// Where each tile's code begins, and where the last one's ends; words in which codes of two tiles
// may meet, to zeros; the output positions that depend on no weight. For one thread block.
extern "C" __global__ void __launch_bounds__(THREADS)
    df11_encode_scan(const u32 *bits, u32 number, u64 *offsets, u32 *code, u64 code_bits, u32 *positions, u32 blocks,
                     u32 elements, u32 *status) {
    __shared__ u32 warp_totals[WARPS];
    u64 offset = 0;
    for (u32 from = 0; from < number; from += EACH * THREADS) {
        u32 first = from + EACH * threadIdx.x;
        u32 mine[EACH], sum = 0;
#pragma unroll
        for (u32 i = 0; i < EACH; i++) {
            mine[i] = first + i < number ? bits[first + i] : 0u;
            sum += mine[i];
        }
        uint2 sums = prefix_sum(warp_totals, sum);
        u64 at = offset + sums.x;
#pragma unroll
        for (u32 i = 0; i < EACH; i++) {
            if (first + i < number) {
                offsets[first + i] = at;
                // Of several tiles in one word, the last zeroes it: no tile begins in it after
                // that.
                bool is_last = at / 32 != (at + mine[i]) / 32;
                if (at < code_bits && (is_last || first + i + 1 == number)) code[at / 32] = 0;
            }
            at += mine[i];
        }
        offset += sums.y;
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        offsets[number] = offset;
        // The last word; if a tile begins in it, it is zeroed already.
        bool is_right = offset == code_bits;
        status[0] = is_right ? 0u : 1u;
        status[1] = 0;
        if (is_right && offset % 32 != 0 && bits[number - 1] > offset % 32) code[offset / 32] = 0;
        positions[0] = 0;
        positions[blocks] = elements;
    }
}

// Codewords of four weights, one after the other; garbage if they are longer than a register
// together.
struct Four {
    u32 bits;
    u32 length;
    // Where the first, the second and the third end, a byte each.
    u32 ends;
};

struct __align__(16) Shared {
    // Code and gaps of a round, highest bit first. Everything that is not there yet is 0.
    u32 code[STAGED];
    u32 gaps[GAP_WORDS];
    Codeword codewords[256];
    u32 warp_totals[WARPS];
};

// A unit that is being written.
struct Unit {
    u32 *code;
    u8 *sign_mantissa;
    u32 *positions;
    u32 *gaps;
    u32 elements;
    u32 windows;
};

__device__ __forceinline__ Codeword join(Codeword first, Codeword second) {
    return {first.bits | shift_right(second.bits, first.length), first.length + second.length};
}

// The codewords of the weights in two words.
__device__ __forceinline__ Four look_up(const Shared &shared, u32 first, u32 second) {
    Codeword one = shared.codewords[low_exponent(first)], three = shared.codewords[low_exponent(second)];
    Codeword two = join(one, shared.codewords[high_exponent(first)]);
    Codeword all = join(two, join(three, shared.codewords[high_exponent(second)]));
    return {all.bits, all.length, one.length + (two.length << 8) + ((two.length + three.length) << 16)};
}

// A window begins: its number, its gap, and how many elements begin before it.
__device__ __forceinline__ void open(Shared &shared, const Unit &unit, u64 base, u32 window, u32 gap, u32 elements) {
    // Bits of the round are counted from the start of the window that `base` is in.
    u32 first = u32(base / WINDOW_BITS), number = first + window;
    if (number >= unit.windows) return;
    if (number % WINDOWS_PER_BLOCK == 0) unit.positions[number / WINDOWS_PER_BLOCK] = elements;
    // Where the last codeword only straddles into a window, its entry tells where that one ends, unless
    // it ends with a byte (D-11.4).
    if (elements == unit.elements && gap % 8 == 0) return;
    u32 bit = GAP_BITS * number, word = bit / 32 - GAP_BITS * first / 32, at = bit % 32;
    u32 bits = gap << (32 - GAP_BITS);
    atomicOr(&shared.gaps[word], bits >> at);
    if (at > 32 - GAP_BITS) atomicOr(&shared.gaps[word + 1], bits << (32 - at));
}

// Writes what a thread has of a group in which every four codewords fit a register.
__device__ __forceinline__ void write_fours(Shared &shared, const Unit &unit, const Four *fours, u64 base, u32 bit,
                                            u32 element) {
    u32 word = bit / 32, used = bit % 32, bits = 0;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        bits |= fours[i].bits >> used;
        used += fours[i].length;
        if (used >= 32) {
            atomicOr(&shared.code[word++], bits);
            used -= 32;
            bits = shift_left(fours[i].bits, fours[i].length - used);
        }
    }
    if (used > 0) atomicOr(&shared.code[word], bits);
    // Windows that begin before the end or right there; `to` is how far it is to the next.
    u32 length = fours[0].length + fours[1].length + fours[2].length + fours[3].length;
    u32 window = bit / WINDOW_BITS + 1;
#pragma unroll 1
    for (u32 to = WINDOW_BITS - bit % WINDOW_BITS; to <= length; to += WINDOW_BITS, window++) {
        u32 left = to, number = element + 1, ends = fours[0].ends, end = fours[0].length, before = 0;
#pragma unroll
        for (u32 i = 1; i < 4; i++) {
            before += fours[i - 1].length;
            if (before < to) {
                left = to - before;
                number = element + 4 * i + 1;
                ends = fours[i].ends;
                end = fours[i].length;
            }
        }
        u32 first = ends & 255u, second = ends >> 8 & 255u, third = ends >> 16;
        number += (first < left) + (second < left) + (third < left);
        end = third < left ? end : second < left ? third : first < left ? second : first;
        open(shared, unit, base, window, end - left, number);
    }
}

// The same for a part of a group, or long codewords: weight by weight.
__device__ __forceinline__ void write_some(Shared &shared, const Unit &unit, const Tile &tile, u32 from, u32 to, u64 base,
                                           u32 bit) {
#pragma unroll 1
    for (u32 i = from; i < to; i++) {
        Codeword codeword = shared.codewords[low_exponent(read_weight(tile, i))];
        u32 used = bit % 32, end = bit + codeword.length;
        atomicOr(&shared.code[bit / 32], codeword.bits >> used);
        if (used + codeword.length > 32) atomicOr(&shared.code[bit / 32 + 1], codeword.bits << (32 - used));
        if (bit / WINDOW_BITS != end / WINDOW_BITS) {
            open(shared, unit, base, end / WINDOW_BITS, end % WINDOW_BITS, i + 1);
        }
        bit = end;
    }
}

// Takes 16 weights of each thread; `base` is the bit from which their codewords go. Returns how
// many bits they are, or gives them up if that is more than `most`.
__device__ __forceinline__ u32 stage(Shared &shared, const Unit &unit, const Tile &tile, u32 number, u64 base, u64 most) {
    u32 from = max(number, tile.first), to = min(number + GROUP, tile.first + tile.count);
    Group group;
    Four fours[4];
    u32 length = 0;
    bool fits = read_group(tile, number, group);
    if (fits) {
        u32 split[4];
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            u32 first = group.words[2 * i], second = group.words[2 * i + 1];
            split[i] = sign_mantissas(first, second);
            fours[i] = look_up(shared, first, second);
            length += fours[i].length;
            fits = fits && fours[i].length <= 32;
        }
        // Groups begin at multiples of 16.
        *reinterpret_cast<uint4 *>(unit.sign_mantissa + number) = make_uint4(split[0], split[1], split[2], split[3]);
    } else {
#pragma unroll 1
        for (u32 i = from; i < to; i++) {
            u32 weight = read_weight(tile, i);
            length += shared.codewords[low_exponent(weight)].length;
            unit.sign_mantissa[i] = weight >> 8 & 0x80u | weight & 0x7fu;
        }
    }
    uint2 sums = prefix_sum(shared.warp_totals, length);
    if (sums.y > most) return sums.y;
    u32 bit = u32(base % WINDOW_BITS) + sums.x;
    if (fits) {
        write_fours(shared, unit, fours, base, bit, number);
    } else {
        write_some(shared, unit, tile, from, to, base, bit);
    }
    __syncthreads();
    return sums.y;
}

// Writes the words of code and gaps that a round of `bits` has filled, and keeps the word of code
// that is only begun.
__device__ __forceinline__ void flush(Shared &shared, const Unit &unit, u64 base, u32 bits, bool is_first) {
    u32 thread = threadIdx.x, begin = u32(base % WINDOW_BITS), end = begin + bits;
    u32 *code = unit.code + base / WINDOW_BITS * (WINDOW_BITS / 32);
    // The first bits of this word may be another tile's.
    u32 edge = is_first && begin % 32 != 0 ? begin / 32 : end / 32;
#pragma unroll 1
    for (u32 i = begin / 32 + thread; i < end / 32; i += THREADS) {
        u32 word = swap_bytes(shared.code[i]);
        shared.code[i] = 0;
        if (i == edge) {
            atomicOr(&code[i], word);
        } else {
            code[i] = word;
        }
    }
    u32 window = u32(base / WINDOW_BITS), gap_word = GAP_BITS * window / 32;
    u32 last = (GAP_BITS * (window + end / WINDOW_BITS) + GAP_BITS - 1) / 32;
#pragma unroll 1
    for (u32 i = thread; i <= last - gap_word; i += THREADS) {
        u32 word = shared.gaps[i];
        shared.gaps[i] = 0;
        if (word != 0) atomicOr(&unit.gaps[gap_word + i], swap_bytes(word));
    }
    __syncthreads();
    if (thread == 0) {
        u32 word = shared.code[end / 32];
        shared.code[end / 32] = 0;
        shared.code[end % WINDOW_BITS / 32] = word;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    df11_encode_emit(const Tile *tiles, u32 number, const u64 *offsets, const Codeword *codewords, u32 *code,
                     u8 *sign_mantissa, u32 *positions, u32 *gaps, u32 elements, u32 windows, u32 *status) {
    __shared__ Shared shared;
    u32 thread = threadIdx.x;
    // The counts were those of other weights.
    if (status[0] != 0) return;
    Unit unit = {code, sign_mantissa, positions, gaps, elements, windows};
    shared.codewords[thread] = codewords[thread];
    // Code and gaps.
    uint4 *zeros = reinterpret_cast<uint4 *>(&shared);
#pragma unroll 1
    for (u32 i = thread; i < (STAGED + GAP_WORDS) / 4; i += THREADS) zeros[i] = make_uint4(0, 0, 0, 0);
    __syncthreads();
    for (u32 at = blockIdx.x; at < number; at += gridDim.x) {
        Tile tile = read_tile(tiles, at);
        u64 begin = offsets[at], end = offsets[at + 1], base = begin;
        u32 first = tile.first / GROUP * GROUP;
        for (u32 round = first; round < tile.first + tile.count; round += GROUP * THREADS) {
            u32 bits = stage(shared, unit, tile, round + GROUP * thread, base, end - base);
            if (bits > end - base) {
                if (thread == 0) atomicOr(&status[1], 1u);
                return;
            }
            flush(shared, unit, base, bits, round == first);
            base += bits;
        }
        // What is left is a word that is not whole.
        if (thread == 0) {
            u32 word = u32(base % WINDOW_BITS) / 32;
            if (base != end) {
                atomicOr(&status[1], 1u);
            } else if (base % 32 != 0) {
                atomicOr(&unit.code[base / 32], swap_bytes(shared.code[word]));
            }
            shared.code[word] = 0;
        }
    }
}
