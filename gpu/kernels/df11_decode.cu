// Decodes DF11 units: the two phases of the published kernel, with a table in shared memory that gives several symbols
// a look-up.
//
// The algorithm. A block of 4096 bytes of code is decoded by one thread block of 256 threads. Each thread decodes the
// codewords that start in its 16 bytes (two windows; the second gap is not needed), from the bit that the first gap says,
// on into the 4 bytes after them. First each counts its symbols; prefix sums of the counts say where each one's symbols
// go; then each decodes again, to shared memory; and all threads together merge the exponents with signs and mantissas.
//
// Departures from that:
//
// 1. A table of 2^11 entries holds up to three symbols each: 2.8 on trained weights. It is made once for each thread block,
//    which then takes several blocks of code in turn.
// 2. The thread's words are gone through one by one, in code that is written out for each: so the next bits are one funnel
//    shift away, and nothing has to be refilled.
// 3. A block with more elements than fit the staging memory is written directly, element by element.
//
// Whatever the six tensors hold, nothing is read or written out of their bounds, and every loop ends: a step moves on by one
// bit at least, and output positions are cut to the elements there are. That units are valid is checked on the host
// (`df11_core::df11::Unit`); what the kernel makes of others is some weights, or zeros.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// The layout: D-6.1, D-7.1, D-5.1 of spec/DF11.md.
#define BLOCK_BYTES 4096u
#define GAP_BYTES 320u
#define FIRST_JUMP 240u

#define THREADS 256u
#define WARPS (THREADS / 32u)
#define THREAD_BYTES (BLOCK_BYTES / THREADS)
#define WORDS 4
#define TABLE_BITS 11u
#define TABLE_SIZE (1u << TABLE_BITS)
// Elements that are staged: a block of trained weights has about 12,000.
#define STAGED 16384u
#define ALL_LANES 0xffffffffu

// An entry of the table: three symbols from the low byte on, their length in bits 24 to 27, their number in bits 28 and 29.
// No symbols if the first codeword is longer than TABLE_BITS.
#define ENTRY_LENGTH(entry) ((entry) >> 24 & 15u)
#define ENTRY_SYMBOLS(entry) ((entry) >> 28)

struct __align__(16) Shared {
    union {
        // Exponents, from begin % 8 on.
        u8 staged[STAGED + 8];
        // While the table is made.
        struct {
            // The first symbol and its length by the next 11 bits, with zeros after them.
            u16 single[TABLE_SIZE];
            // By symbol: the first index that leads to it, and how many do that begin with the same codeword.
            u32 first[256];
            u32 count[256];
        };
    };
    u32 table[TABLE_SIZE];
    u8 first_row[256];
    u8 lengths[256];
    u32 warp_totals[WARPS];
};

// One unit.
struct Unit {
    const u8 *luts;
    const u8 *codes;
    const u8 *sign_mantissa;
    const u8 *output_positions;
    const u8 *gaps;
    u8 *outputs;
    u64 n_luts;
    u64 n_bytes;
    u64 n_elements;
};

// Decodes the symbol at the top of `bits` with the prefix tables: its exponent, and its length above that. A 0 of one bit where
// tables lead nowhere.
__device__ __forceinline__ u32 slow_symbol(const Unit &unit, const u8 *first_row, const u8 *lengths, u32 bits) {
    u32 value = first_row[bits >> 24];
#pragma unroll 1
    for (u32 level = 1; value >= FIRST_JUMP; level++) {
        u32 table = 256u - value;
        // The last row holds the lengths.
        if (level == 4 || table + 1 >= unit.n_luts) return 1u << 8;
        value = unit.luts[table * 256u + (bits >> (24u - 8u * level) & 255u)];
    }
    u32 length = lengths[value];
    return value | (length == 0 ? 1u : length) << 8;
}

__device__ __forceinline__ void make_table(Shared &shared, const Unit &unit) {
    u32 thread = threadIdx.x;
    shared.first_row[thread] = unit.luts[thread];
    u8 length = unit.luts[(unit.n_luts - 1) * 256 + thread];
    // No step without a bit, whatever the table says.
    shared.lengths[thread] = length == 0 || length > 32 ? 1 : length;
    __syncthreads();
    shared.first[thread] = TABLE_SIZE;
    shared.count[thread] = 0;
    for (u32 index = thread; index < TABLE_SIZE; index += THREADS) {
        shared.single[index] = slow_symbol(unit, shared.first_row, shared.lengths, index << (32u - TABLE_BITS));
    }
    // Entries that no codeword leads to may hold anything: also a symbol whose length fits the bits that are known, though
    // with the bits that follow it would be another. So a symbol is believed if all indices that begin with its codeword
    // lead to it.
    __syncthreads();
    for (u32 index = thread; index < TABLE_SIZE; index += THREADS) {
        atomicMin(&shared.first[shared.single[index] & 255u], index);
    }
    __syncthreads();
    for (u32 index = thread; index < TABLE_SIZE; index += THREADS) {
        u32 next = shared.single[index], length = next >> 8;
        u32 first = shared.first[next & 255u];
        if (length <= TABLE_BITS && (first ^ index) >> (TABLE_BITS - length) == 0) {
            atomicAdd(&shared.count[next & 255u], 1);
        }
    }
    __syncthreads();
    for (u32 index = thread; index < TABLE_SIZE; index += THREADS) {
        u32 entry = 0, used = 0, symbols = 0;
#pragma unroll
        for (u32 i = 0; i < 3; i++) {
            u32 at = index << used & (TABLE_SIZE - 1);
            u32 next = shared.single[at], symbol = next & 255u, length = next >> 8;
            u32 unknown = TABLE_BITS - min(length, TABLE_BITS);
            // The first 8 bits are known of the first symbol.
            bool is_sure = (i == 0 && length <= 8) ||
                           (shared.count[symbol] == 1u << unknown && (shared.first[symbol] ^ at) >> unknown == 0);
            bool fits = symbols == i && used + length <= TABLE_BITS && is_sure;
            entry |= fits ? symbol << (8u * i) : 0u;
            used += fits ? length : 0u;
            symbols += fits;
        }
        shared.table[index] = entry | used << 24 | symbols << 28;
    }
}

// What a thread is given: its words, highest byte first, and the bit at which it starts.
struct Code {
    u32 words[WORDS + 1];
    u32 gap;
};

__device__ __forceinline__ u32 swap_bytes(u32 x) { return __byte_perm(x, 0, 0x0123); }

// Four bytes of code from `at` on, with zeros after the end.
__device__ __forceinline__ u32 tail_word(const Unit &unit, u64 at) {
    u32 word = 0;
#pragma unroll
    for (u32 i = 0; i < 4; i++) word = word << 8 | (at + i < unit.n_bytes ? unit.codes[at + i] : 0u);
    return word;
}

__device__ __forceinline__ Code read_code(const Unit &unit, u64 block) {
    Code code;
    u32 thread = threadIdx.x;
    u64 at = block * BLOCK_BYTES + thread * THREAD_BYTES;
    bool is_aligned = (reinterpret_cast<u64>(unit.codes) & 15) == 0;
    if (is_aligned && at + THREAD_BYTES <= unit.n_bytes) {
        uint4 words = *reinterpret_cast<const uint4 *>(unit.codes + at);
        code.words[0] = swap_bytes(words.x);
        code.words[1] = swap_bytes(words.y);
        code.words[2] = swap_bytes(words.z);
        code.words[3] = swap_bytes(words.w);
    } else {
#pragma unroll
        for (u32 i = 0; i < WORDS; i++) code.words[i] = tail_word(unit, at + 4 * i);
    }
    // The first bytes of the next thread.
    code.words[WORDS] = __shfl_down_sync(ALL_LANES, code.words[0], 1);
    if (thread % 32 == 31) code.words[WORDS] = tail_word(unit, at + THREAD_BYTES);
    // Five bits in at most two bytes, of which the last thread's end with the block's.
    u32 bit = 10u * thread;
    const u8 *gap = unit.gaps + block * GAP_BYTES + bit / 8;
    code.gap = (u32(gap[0]) << 8 | gap[1]) >> (11u - bit % 8) & 31u;
    return code;
}

// Goes through the codewords that start in a thread's bytes. `found` gets up to three symbols in one number, and how many they
// are.
template <typename Found>
__device__ __forceinline__ void each_symbol(const Shared &shared, const Unit &unit, const Code &code, Found found) {
    u32 bit = code.gap;
#pragma unroll
    for (u32 word = 0; word < WORDS; word++) {
        while (bit < 32) {
            u32 bits = __funnelshift_l(code.words[word + 1], code.words[word], bit);
            u32 entry = shared.table[bits >> (32u - TABLE_BITS)];
            u32 length = ENTRY_LENGTH(entry), symbols = ENTRY_SYMBOLS(entry);
            // Of the last, only what starts in the thread's bytes: one by one.
            if (word == WORDS - 1 && bit + length > 32) {
                symbols = 1;
                length = shared.lengths[entry & 255u];
            }
            if (ENTRY_SYMBOLS(entry) == 0) {
                u32 symbol = slow_symbol(unit, shared.first_row, shared.lengths, bits);
                entry = symbol & 255u;
                length = symbol >> 8;
                symbols = 1;
            }
            found(entry, symbols);
            bit += length;
        }
        bit -= 32;
    }
}

// The sum of all threads before this one, and of all.
__device__ __forceinline__ uint2 prefix_sum(Shared &shared, u32 value) {
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = value;
#pragma unroll
    for (u32 distance = 1; distance < 32; distance *= 2) {
        u32 other = __shfl_up_sync(ALL_LANES, sum, distance);
        if (lane >= distance) sum += other;
    }
    if (lane == 31) shared.warp_totals[warp] = sum;
    __syncthreads();
    u32 before = 0, all = 0;
#pragma unroll
    for (u32 i = 0; i < WARPS; i++) {
        u32 total = shared.warp_totals[i];
        before += i < warp ? total : 0u;
        all += total;
    }
    return make_uint2(before + sum - value, all);
}

__device__ __forceinline__ u32 position(const Unit &unit, u64 block) {
    const u8 *at = unit.output_positions + 4 * block;
    if ((reinterpret_cast<u64>(at) & 3) == 0) return *reinterpret_cast<const u32 *>(at);
    return u32(at[0]) | u32(at[1]) << 8 | u32(at[2]) << 16 | u32(at[3]) << 24;
}

__device__ __forceinline__ u16 merge(u32 exponent, u32 sign_mantissa) {
    return (sign_mantissa & 0x80u) << 8 | exponent << 7 | (sign_mantissa & 0x7fu);
}

// Two weights of the exponents and the signs and mantissas in the bytes that `selector` names.
__device__ __forceinline__ u32 merge_two(u32 exponents, u32 sign_mantissas, u32 selector) {
    u32 e = __byte_perm(exponents, 0, selector), sm = __byte_perm(sign_mantissas, 0, selector);
    return (sm & 0x00800080u) << 8 | e << 7 | (sm & 0x007f007fu);
}

__device__ __forceinline__ void write_element(const Unit &unit, u64 element, u32 exponent) {
    u16 weight = merge(exponent, unit.sign_mantissa[element]);
    u8 *to = unit.outputs + 2 * element;
    if ((reinterpret_cast<u64>(unit.outputs) & 1) == 0) {
        *reinterpret_cast<u16 *>(to) = weight;
    } else {
        to[0] = weight;
        to[1] = weight >> 8;
    }
}

// Merges the staged exponents of elements from `begin` on, 8 for each thread in turn: 16 bytes of weights.
__device__ __forceinline__ void write_staged(const Shared &shared, const Unit &unit, u64 begin, u32 count) {
    u32 first = begin % 8, end = first + count;
    u64 origin = begin - first;
    bool is_aligned =
        ((reinterpret_cast<u64>(unit.sign_mantissa) & 7) | (reinterpret_cast<u64>(unit.outputs) & 15)) == 0;
    for (u32 at = 8 * threadIdx.x; at < end; at += 8 * THREADS) {
        if (is_aligned && at >= first && at + 8 <= end) {
            uint2 e = *reinterpret_cast<const uint2 *>(shared.staged + at);
            uint2 sm = *reinterpret_cast<const uint2 *>(unit.sign_mantissa + origin + at);
            *reinterpret_cast<uint4 *>(unit.outputs + 2 * (origin + at)) =
                make_uint4(merge_two(e.x, sm.x, 0x4140), merge_two(e.x, sm.x, 0x4342),
                           merge_two(e.y, sm.y, 0x4140), merge_two(e.y, sm.y, 0x4342));
        } else {
            for (u32 i = max(at, first); i < min(at + 8, end); i++) write_element(unit, origin + i, shared.staged[i]);
        }
    }
}

// Decodes one block; all threads of the thread block.
__device__ __forceinline__ void decode_block(Shared &shared, const Unit &unit, u64 block, u64 blocks) {
    Code code = read_code(unit, block);
    bool has_code = block * BLOCK_BYTES + threadIdx.x * THREAD_BYTES < unit.n_bytes;
    u32 count = 0;
    if (has_code) each_symbol(shared, unit, code, [&](u32, u32 symbols) { count += symbols; });
    uint2 sums = prefix_sum(shared, count);

    // Never an entry after the last block's: some units lack it.
    u64 end = block + 1 < blocks ? position(unit, block + 1) : unit.n_elements;
    end = min(end, unit.n_elements);
    u64 begin = min(u64(position(unit, block)), end);
    u64 elements = end - begin;
    if (elements <= STAGED) {
        u8 *staged = shared.staged + begin % 8;
        u32 limit = min(sums.x + count, u32(elements));
        if (has_code) {
            u32 at = sums.x;
            each_symbol(shared, unit, code, [&](u32 entry, u32 symbols) {
                // More than there are is written over by what follows.
                if (at < limit) staged[at] = entry;
                if (at + 1 < limit) staged[at + 1] = entry >> 8;
                if (at + 2 < limit) staged[at + 2] = entry >> 16;
                at += symbols;
            });
        }
        for (u32 i = sums.y + threadIdx.x; i < elements; i += THREADS) staged[i] = 0;
        __syncthreads();
        write_staged(shared, unit, begin, elements);
    } else {
        u64 from = block * BLOCK_BYTES + threadIdx.x * THREAD_BYTES;
        u64 at = begin + sums.x;
        for (u32 bit = code.gap; has_code && bit < 8 * THREAD_BYTES && at < end; at++) {
            u32 bits = __funnelshift_l(tail_word(unit, from + bit / 8 + 4), tail_word(unit, from + bit / 8), bit % 8);
            u32 symbol = slow_symbol(unit, shared.first_row, shared.lengths, bits);
            write_element(unit, at, symbol & 255u);
            bit += symbol >> 8;
        }
        for (u64 i = begin + sums.y + threadIdx.x; i < end; i += THREADS) write_element(unit, i, 0);
    }
    __syncthreads();
}

__device__ __forceinline__ void decode(Shared &shared, const Unit &unit, u64 first, u64 step) {
    // No table and no lengths: nothing that could be decoded.
    if (unit.n_luts < 2) return;
    make_table(shared, unit);
    __syncthreads();
    u64 blocks = (unit.n_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
    for (u64 block = first; block < blocks; block += step) decode_block(shared, unit, block, blocks);
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    df11_decode(const u8 *luts, const u8 *codes, const u8 *sign_mantissa, const u8 *output_positions, const u8 *gaps,
                u8 *outputs, u64 n_luts, u64 n_bytes, u64 n_elements) {
    __shared__ Shared shared;
    Unit unit = {luts, codes, sign_mantissa, output_positions, gaps, outputs, n_luts, n_bytes, n_elements};
    decode(shared, unit, blockIdx.x, gridDim.x);
}

// Units of a transformer block in one launch: thread blocks in the second dimension of the grid take one unit each.
extern "C" __global__ void __launch_bounds__(THREADS, 4) df11_decode_batch(const Unit *units) {
    __shared__ Shared shared;
    Unit unit = units[blockIdx.y];
    // So that the compiler need not ask for each access.
    __builtin_assume(__isGlobal(unit.luts) && __isGlobal(unit.codes) && __isGlobal(unit.sign_mantissa));
    __builtin_assume(__isGlobal(unit.output_positions) && __isGlobal(unit.gaps) && __isGlobal(unit.outputs));
    decode(shared, unit, blockIdx.x, gridDim.x);
}
