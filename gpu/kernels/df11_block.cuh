// Blocks of DF11 units (spec/DF11.md): from code to symbols in shared memory. df11_decode.cu says how.

#pragma once

#include "common.cuh"

// The layout: D-6.1, D-7.1, D-5.1 of spec/DF11.md.
#define BLOCK_BYTES 4096u
#define GAP_BYTES 320u
#define FIRST_JUMP 240u

#define THREAD_BYTES (BLOCK_BYTES / THREADS)
#define WORDS 4
#define TABLE_BITS 11u
#define TABLE_SIZE (1u << TABLE_BITS)
// Rows of words: a thread has room for four times as many symbols. Trained weights have 47, and rarely more than 70.
#define ROWS 20u
// Rows that symbols are written back to, as a rule.
#define HELD 16u
#define STAGED (4u * ROWS * THREADS)

// `code` of a status: fewer symbols than elements.
#define SYMBOLS_MISSING 1u

// What is looked up by the next 11 bits.
struct __align__(8) Entry {
    // Up to four symbols from the low byte on, and zeros after them.
    u32 symbols;
    // The bits of their codewords, and from bit 16 on eight times their number. LONG_CODE if the first codeword has more than 11
    // bits.
    u32 length;
};

// So many bits that a look-up ends the loop over a word, and a bit that tells why.
#define LONG_CODE (32u | 64u)

// As the host makes it: `df11_gpu::table::decode_table`.
struct __align__(16) Table {
    Entry entries[TABLE_SIZE];
    // Code lengths by symbol, never 0.
    u8 lengths[256];
};

struct __align__(16) Unit {
    const Table *table;
    const u8 *luts;
    const u8 *codes;
    const u8 *sign_mantissa;
    const u8 *output_positions;
    const u8 *gaps;
    u8 *outputs;
    u64 n_luts;
    u64 n_bytes;
    u64 n_elements;
    // Where the unit's blocks begin among all blocks of a launch.
    u64 first_block;
    u64 reserved;
};

struct __align__(16) Shared {
    union {
        // Row by row, a word for each thread.
        u32 columns[ROWS][THREADS];
        // Symbols in a row, from the first one's place among 8 weights on.
        u8 staged[STAGED + 16];
        // While a table is made.
        struct {
            // The first symbol and its length by the next 11 bits, with zeros after them.
            u16 single[TABLE_SIZE];
            // By symbol: the first index that leads to it, and how many do that begin with the same codeword.
            u32 first[256];
            u32 count[256];
        };
    };
    Table table;
    Unit unit;
    __align__(16) u32 warp_totals[WARPS];
};

__device__ __forceinline__ u32 symbol_of(u32 exponent) { return exponent >> 1 | (exponent & 1u) << 7; }

// Decodes the codeword at the top of `bits` with the prefix tables: its symbol, and its length above that. A 0 of one bit where
// tables lead nowhere.
__device__ __forceinline__ u32 slow_symbol(const u8 *luts, u32 n_luts, u32 bits) {
    u32 value = __ldg(luts + (bits >> 24));
#pragma unroll 1
    for (u32 level = 1; value >= FIRST_JUMP; level++) {
        u32 table = 256u - value;
        // The last row holds the lengths.
        if (level == 4 || table + 1 >= n_luts) return 1u << 8;
        value = __ldg(luts + table * 256u + (bits >> (24u - 8u * level) & 255u));
    }
    u32 length = __ldg(luts + (n_luts - 1) * 256u + value);
    // No step without a bit, whatever the table says.
    return symbol_of(value) | (length == 0 || length > 32 ? 1u : length) << 8;
}

// Makes the table of the unit in shared memory.
__device__ __forceinline__ void make_table(Shared &shared) {
    u32 thread = threadIdx.x;
    const u8 *luts = shared.unit.luts;
    u32 n_luts = shared.unit.n_luts;
    u32 length = __ldg(luts + (n_luts - 1) * 256u + thread);
    shared.table.lengths[symbol_of(thread)] = length == 0 || length > 32 ? 1 : length;
    shared.first[thread] = TABLE_SIZE;
    shared.count[thread] = 0;
    for (u32 index = thread; index < TABLE_SIZE; index += THREADS) {
        shared.single[index] = slow_symbol(luts, n_luts, index << (32u - TABLE_BITS));
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
        u32 symbols = 0, used = 0, number = 0;
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            u32 at = index << used & (TABLE_SIZE - 1);
            u32 next = shared.single[at], symbol = next & 255u, length = next >> 8;
            u32 unknown = TABLE_BITS - min(length, TABLE_BITS);
            // The first 8 bits are known of the first symbol.
            bool is_sure = (i == 0 && length <= 8) ||
                           (shared.count[symbol] == 1u << unknown && (shared.first[symbol] ^ at) >> unknown == 0);
            bool fits = number == i && used + length <= TABLE_BITS && is_sure;
            symbols |= fits ? symbol << (8u * i) : 0u;
            used += fits ? length : 0u;
            number += fits;
        }
        shared.table.entries[index] = {symbols, number == 0 ? LONG_CODE : used | number << 19};
    }
}

// What a thread is given: its words, highest byte first, and the bit at which it starts.
struct Code {
    u32 words[WORDS + 1];
    u32 gap;
    bool is_there;
};

// Four bytes of code from `at` on, with zeros after the end.
__device__ __forceinline__ u32 tail_word(const u8 *codes, u64 n_bytes, u64 at) {
    u32 word = 0;
#pragma unroll
    for (u32 i = 0; i < 4; i++) word = word << 8 | (at + i < n_bytes ? __ldg(codes + at + i) : 0u);
    return word;
}

__device__ __forceinline__ Code read_code(const Unit &unit, u32 block) {
    Code code;
    u32 thread = threadIdx.x;
    const u8 *codes = unit.codes;
    u64 n_bytes = unit.n_bytes;
    u64 at = u64(block) * BLOCK_BYTES + thread * THREAD_BYTES;
    code.is_there = at < n_bytes;
    u32 skipped = u32(reinterpret_cast<u64>(codes)) & 15u;
    if (skipped == 0 && at + THREAD_BYTES <= n_bytes) {
        uint4 words = __ldg(reinterpret_cast<const uint4 *>(codes + at));
        code.words[0] = __byte_perm(words.x, 0, 0x0123);
        code.words[1] = __byte_perm(words.y, 0, 0x0123);
        code.words[2] = __byte_perm(words.z, 0, 0x0123);
        code.words[3] = __byte_perm(words.w, 0, 0x0123);
    } else if (at >= THREAD_BYTES && at + THREAD_BYTES + 4 <= n_bytes) {
        // At any address: whole words around the thread's bytes, and the bytes from where they begin, highest first.
        u32 begin = skipped & 3u, order = 0x0123u + 0x1111u * begin;
        const u32 *from = reinterpret_cast<const u32 *>(codes + at - begin);
        u32 word = __ldg(from);
#pragma unroll
        for (u32 i = 0; i < WORDS; i++) {
            u32 next = __ldg(from + i + 1);
            code.words[i] = __byte_perm(word, next, order);
            word = next;
        }
    } else {
#pragma unroll
        for (u32 i = 0; i < WORDS; i++) code.words[i] = tail_word(codes, n_bytes, at + 4 * i);
    }
    // The first bytes of the next thread.
    code.words[WORDS] = __shfl_down_sync(ALL_LANES, code.words[0], 1);
    if (thread % 32 == 31) {
        if (skipped % 4 == 0 && at + THREAD_BYTES + 4 <= n_bytes) {
            code.words[WORDS] = __byte_perm(__ldg(reinterpret_cast<const u32 *>(codes + at + THREAD_BYTES)), 0, 0x0123);
        } else {
            code.words[WORDS] = tail_word(codes, n_bytes, at + THREAD_BYTES);
        }
    }
    // Five bits in at most two bytes, of which the last thread's end with the block's.
    u32 bit = 10u * thread;
    const u8 *gap = unit.gaps + u64(block) * GAP_BYTES + bit / 8;
    code.gap = (u32(__ldg(gap)) << 8 | __ldg(gap + 1)) >> (11u - bit % 8) & 31u;
    return code;
}

// Looks up what the first of these bits say. In PTX, since the compiler takes an instruction more for the address.
__device__ __forceinline__ Entry look_up(u32 entries, u32 bits) {
    Entry entry;
    asm volatile("{ .reg .u32 at; shr.u32 at, %2, %4; mad.lo.u32 at, at, 8, %3; ld.shared.v2.u32 {%0, %1}, [at]; }"
                 : "=r"(entry.symbols), "=r"(entry.length)
                 : "r"(bits), "r"(entries), "n"(32 - TABLE_BITS));
    return entry;
}

// Goes through the codewords that start in a thread's bytes. `found` gets up to four symbols in one number, and their length and
// number as an entry has them.
template <typename Found>
__device__ __forceinline__ void each_symbol(const Shared &shared, Code code, Found found) {
    u32 entries = u32(__cvta_generic_to_shared(shared.table.entries));
    // Bits beyond the sixth are of no interest.
    u32 bit = code.gap;
    Entry entry;
    auto next_bits = [&]() { return __funnelshift_l(code.words[1], code.words[0], bit); };
    auto take_long = [&]() {
        u32 symbol = slow_symbol(shared.unit.luts, shared.unit.n_luts, next_bits());
        entry = {symbol & 255u, symbol >> 8 | 8u << 16};
    };
#pragma unroll 1
    for (u32 word = 0; word < WORDS - 1; word++) {
        entry.length = 0;
#pragma unroll 1
        for (;;) {
            while ((bit & 32u) == 0) {
                entry = look_up(entries, next_bits());
                found(entry.symbols, entry.length);
                bit += entry.length;
            }
            if ((entry.length & 64u) == 0) break;
            bit -= LONG_CODE;
            take_long();
            found(entry.symbols, entry.length);
            bit += entry.length;
        }
        bit -= 32u;
#pragma unroll
        for (u32 i = 0; i < WORDS; i++) code.words[i] = code.words[i + 1];
    }
    // The last look-up may have symbols that start behind the thread's bytes.
    bit &= 63u;
#pragma unroll 1
    while (bit < 32u) {
        for (;;) {
            entry = look_up(entries, next_bits());
            u32 next = bit + (entry.length & 63u);
            if (next >= 32u) break;
            found(entry.symbols, entry.length);
            bit = next;
        }
        if ((entry.length & 64u) != 0) take_long();
        u32 number = 0, symbols = entry.symbols;
        do {
            bit += shared.table.lengths[symbols & 255u];
            symbols >>= 8;
            number++;
        } while (bit < 32u && number < entry.length >> 19);
        found(number == 4 ? entry.symbols : entry.symbols & ((1u << 8 * number) - 1u), number << 19);
    }
}

// The symbols of a thread, but for those in rows that are not written over.
struct Column {
    u32 words[HELD + 1];
    // The last four.
    u32 last;
};

__device__ __forceinline__ u32 column_word(const Shared &shared, u32 row, u32 number) {
    return row < ROWS && 4 * row < number ? shared.columns[row][threadIdx.x] : 0u;
}

__device__ __forceinline__ Column take_out(const Shared &shared, u32 number) {
    Column column;
#pragma unroll
    for (u32 i = 0; i <= HELD; i++) column.words[i] = column_word(shared, i, number);
    u32 row = number / 4;
    u32 before = row == 0 ? 0u : column_word(shared, row - 1, number);
    column.last = __funnelshift_r(before, column_word(shared, row, number), 8 * (number % 4));
    return column;
}

// Puts the symbols of a thread where they belong, from `at` on. All threads must have taken theirs out before.
__device__ __forceinline__ void put_back(Shared &shared, const Column &column, u32 number, u32 at) {
    // Bytes up to a whole word, whole words, and the bytes that are left.
    u32 head = min(0u - at & 3u, number), whole = (number - head) / 4, rest = (number - head) % 4;
    u8 *to = shared.staged + at;
#pragma unroll
    for (u32 i = 0; i < 3; i++) {
        if (i < head) to[i] = column.words[0] >> 8 * i;
    }
#pragma unroll
    for (u32 i = 0; i < 3; i++) {
        if (i < rest) to[number - 1 - i] = column.last >> (24 - 8 * i);
    }
    u32 *words = reinterpret_cast<u32 *>(to + head);
#pragma unroll
    for (u32 i = 0; i < HELD; i++) {
        if (i < whole) words[i] = __funnelshift_r(column.words[i], column.words[i + 1], 8 * head);
    }
#pragma unroll 1
    for (u32 i = HELD; i < whole; i++) {
        words[i] = __funnelshift_r(column_word(shared, i, number), column_word(shared, i + 1, number), 8 * head);
    }
}

__device__ __forceinline__ u32 position(const Unit &unit, u32 block) {
    const u8 *at = unit.output_positions + 4 * u64(block);
    if ((reinterpret_cast<u64>(at) & 3) == 0) return __ldg(reinterpret_cast<const u32 *>(at));
    return __ldg(at) | u32(__ldg(at + 1)) << 8 | u32(__ldg(at + 2)) << 16 | u32(__ldg(at + 3)) << 24;
}
