// Decodes DF11 units (spec/DF11.md). Each codeword is looked up once, several codewords a look-up.
//
// The algorithm. A thread block of 256 threads decodes a block of 4,096 bytes of code; each thread decodes the codewords that
// start in its 16 bytes (two windows: the second gap is not needed), from the bit that the first gap says, on into the 4 bytes
// after them.
//
// 1. Each thread puts its symbols together in a register and stores four at a time in its own column of shared memory. Columns
//    are banks, so these stores never collide, however far each thread has come.
// 2. Prefix sums of the numbers of symbols say where each thread's symbols go. Each thread takes its words out of its column
//    and, when all threads have, writes them back to where they belong: now the symbols of the block lie in a row.
// 3. All threads merge eight symbols at a time with signs and mantissas, and store 16 bytes of weights.
//
// The table of look-ups has 2^11 entries of up to four symbols: 3.4 on trained weights. `df11_decode_batch` takes tables that
// the host has made (`df11_gpu::table`), and `df11_decode`, which has the arguments of the published kernel, makes its own.
//
// A symbol is an exponent turned right by one bit: bit 0 of the exponent is bit 7 of a weight, and its bits 7 to 1 are the
// weight's bits 14 to 8. So a symbol that stands in both bytes of a weight needs a mask, but no shift.
//
// Whatever the parts hold, nothing is read or written out of their bounds, and every loop ends: a look-up moves on by one bit at
// least, and output positions are cut to the elements there are. That units are valid is checked on the host
// (`df11::Unit`); what the kernel makes of others is some weights, or zeros.

#include "df11_block.cuh"

// Merges one symbol.
__device__ __forceinline__ void write_element(const Unit &unit, u64 element, u32 symbol) {
    u32 weight = merge_one(symbol, __ldg(unit.sign_mantissa + element));
    u8 *to = unit.outputs + 2 * element;
    __builtin_assume(__isGlobal(to));
    if ((reinterpret_cast<u64>(to) & 1) == 0) {
        *reinterpret_cast<u16 *>(to) = weight;
    } else {
        to[0] = weight;
        to[1] = weight >> 8;
    }
}

// Merges the staged symbols from `first` up to `end`, the first of which is that of element `begin`: 8 for each thread in turn, 16
// bytes of weights.
__device__ __forceinline__ void write_staged(const Shared &shared, const Unit &unit, u64 begin, u32 first, u32 end) {
    u32 thread = threadIdx.x;
    // Of element 0, if it were staged; and of the 8 weights that are stored together.
    const u8 *signs = unit.sign_mantissa + begin - first;
    u8 *outputs = unit.outputs + 2 * (begin - first);
    __builtin_assume(__isGlobal(outputs));
    u32 low = (first + 7u) & ~7u, high = end & ~7u;
    u32 skipped = u32(reinterpret_cast<u64>(signs)) & 3u;
    bool is_even = (reinterpret_cast<u64>(outputs) & 15) == 0;
    if (skipped != 0) {
        // Whole words around the signs must be the unit's.
        if (begin + low - first < skipped) low += 8;
        if (begin + high - first + 4 > unit.n_elements) high = high < 8 ? 0 : high - 8;
    }
    if (!is_even || low > high) low = high = first;
    // What is before the first 8 and after the last.
    for (u32 i = first + thread; i < low; i += THREADS) write_element(unit, begin - first + i, shared.staged[i]);
    for (u32 i = high + thread; i < end; i += THREADS) write_element(unit, begin - first + i, shared.staged[i]);
    bool is_whole = (reinterpret_cast<u64>(signs) & 7) == 0;
    // Two at a time, so that both signs are asked for before one is waited for.
    for (u32 at = low + 8 * thread; at < high; at += 16 * THREADS) {
        bool has_two = at + 8 * THREADS < high;
        uint2 sm[2] = {};
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            const u8 *from = signs + at + 8 * THREADS * i;
            if (i == 1 && !has_two) continue;
            if (is_whole) {
                sm[i] = __ldg(reinterpret_cast<const uint2 *>(from));
            } else {
                const u32 *words = reinterpret_cast<const u32 *>(from - skipped);
                u32 begin = __ldg(words), middle = __ldg(words + 1), end = skipped == 0 ? 0u : __ldg(words + 2);
                sm[i] = make_uint2(__funnelshift_r(begin, middle, 8 * skipped), __funnelshift_r(middle, end, 8 * skipped));
            }
        }
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            if (i == 1 && !has_two) continue;
            u32 place = at + 8 * THREADS * i;
            uint2 symbols = *reinterpret_cast<const uint2 *>(shared.staged + place);
            *reinterpret_cast<uint4 *>(outputs + 2 * place) = merge_eight(symbols, sm[i]);
        }
    }
}

// Decodes one block; all threads of the thread block. Tells whether there were as many symbols as elements.
__device__ __forceinline__ bool decode_block(Shared &shared, u32 block, u32 blocks) {
    const Unit &unit = shared.unit;
    u32 thread = threadIdx.x;
    Code code = read_code(unit, block);
    // Never an entry after the last block's: some units lack it.
    u32 end = block + 1 < blocks ? position(unit, block + 1) : u32(unit.n_elements);
    u32 begin = position(unit, block);

    // Bits of symbols that were found; those that are not stored yet; where they will be.
    u32 found = 0, pending = 0;
    u32 column = u32(__cvta_generic_to_shared(&shared.columns[0][thread]));
    u32 row = column, last_row = column + (ROWS - 1) * THREADS * 4;
    auto store = [&](u32 symbols, u32 length) {
        u32 before = found;
        found += length >> 16;
        u32 now = pending | __funnelshift_l(0, symbols, before);
        u32 over = __funnelshift_l(symbols, 0, before);
        // If that makes four, they are stored. In PTX, so that one predicate serves all.
        asm volatile("{ .reg .pred is_full; .reg .u32 changed; xor.b32 changed, %2, %3; and.b32 changed, changed, 32;\n"
                     "setp.ne.u32 is_full, changed, 0;\n"
                     "@is_full st.shared.u32 [%0], %4;\n"
                     "@is_full add.u32 %0, %0, %7; @is_full min.u32 %0, %0, %6;\n"
                     "selp.b32 %1, %5, %4, is_full; }"
                     : "+r"(row), "=r"(pending)
                     : "r"(before), "r"(found), "r"(now), "r"(over), "r"(last_row), "n"(THREADS * 4)
                     : "memory");
    };
    if (code.is_there) each_symbol(shared, code, store);
    if (found % 32 != 0) asm volatile("st.shared.u32 [%0], %1;" : : "r"(row), "r"(pending) : "memory");

    u32 number = found / 8;
    u32 lane = thread % 32, warp = thread / 32, sum = number;
#pragma unroll
    for (u32 distance = 1; distance < 32; distance *= 2) {
        u32 other = __shfl_up_sync(ALL_LANES, sum, distance);
        if (lane >= distance) sum += other;
    }
    // Whether some thread had no room is told above the number, which has 16 bits at most.
    bool is_over = __any_sync(ALL_LANES, number > 4 * ROWS);
    if (lane == 31) shared.warp_totals[warp] = sum | (is_over ? 1u << 16 : 0u);
    Column symbols = take_out(shared, number);
    __syncthreads();
    u32 before = 0, all = 0;
#pragma unroll
    for (u32 i = 0; i < WARPS; i++) {
        u32 total = shared.warp_totals[i];
        before += i < warp ? total : 0u;
        all += total;
    }
    is_over = all >> 16 != 0;
    before = (before & 0xffffu) + sum - number;
    all &= 0xffffu;
    end = min(end, u32(unit.n_elements));
    begin = min(begin, end);
    u32 elements = end - begin;
    // So that 8 weights that are stored together begin at 8 staged symbols.
    u32 first = u32(reinterpret_cast<u64>(unit.outputs) / 2 + begin) % 8;
    if (!is_over && first + max(all, elements) <= 4 * HELD * THREADS) {
        // The last block may have more symbols than elements: they are from behind the last codeword.
        put_back(shared, symbols, number, first + before);
        for (u32 i = all + thread; i < elements; i += THREADS) shared.staged[first + i] = 0;
        __syncthreads();
        write_staged(shared, unit, begin, first, first + elements);
    } else {
        // More symbols than there is room for: as many as fit at a time, byte by byte. The code is read again, so that nothing of
        // it need be kept.
        code = read_code(unit, block);
        for (u32 from = 0; from < elements; from += STAGED) {
            u32 most = min(elements - from, STAGED);
            u32 shift = u32(reinterpret_cast<u64>(unit.outputs) / 2 + begin + from) % 8;
            u32 at = before;
            auto store = [&](u32 symbols, u32 length) {
#pragma unroll
                for (u32 i = 0; i < 4; i++) {
                    if (i < length >> 19 && at + i - from < most) shared.staged[shift + at + i - from] = symbols >> 8 * i;
                }
                at += length >> 19;
            };
            if (code.is_there) each_symbol(shared, code, store);
            for (u32 i = max(all, from) + thread; i < from + most; i += THREADS) shared.staged[shift + i - from] = 0;
            __syncthreads();
            write_staged(shared, unit, begin + from, shift, shift + most);
            __syncthreads();
        }
    }
    __syncthreads();
    return all >= elements;
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    df11_decode(const u8 *luts, const u8 *codes, const u8 *sign_mantissa, const u8 *output_positions, const u8 *gaps,
                u8 *outputs, u64 n_luts, u64 n_bytes, u64 n_elements) {
    __shared__ Shared shared;
    // No table and no lengths: nothing that could be decoded.
    if (n_luts < 2) return;
    if (threadIdx.x == 0) {
        shared.unit = {nullptr, luts, codes, sign_mantissa, output_positions, gaps, outputs, n_luts, n_bytes, n_elements, 0, 0};
    }
    __syncthreads();
    make_table(shared);
    __syncthreads();
    u32 blocks = u32((n_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES);
    Range range = share_of(blocks);
    for (u32 block = range.begin; block < range.end; block++) decode_block(shared, block, blocks);
}

// Decodes many units in one launch: each thread block takes as many of all units' blocks as the others, one after the other.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_EACH)
    df11_decode_batch(const Unit *units, u32 n_units, u32 n_blocks, u64 base, u32 *status) {
    __shared__ Shared shared;
    Range range = share_of(n_blocks);
    u32 block = range.begin;
    u32 item = find_item(units, n_units, block);
    while (block < range.end) {
        if (threadIdx.x == 0) {
            shared.unit = units[item];
            shared.unit.outputs += base;
        }
        load(&shared.table, units[item].table);
        __syncthreads();
        u32 first = u32(shared.unit.first_block), blocks = u32((shared.unit.n_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES);
        u32 end = min(range.end, first + blocks);
        for (; block < end; block++) {
            bool is_good = decode_block(shared, block - first, blocks);
            if (!is_good && threadIdx.x == 0) atomicMin(&status[item], (block - first) << 3 | SYMBOLS_MISSING);
        }
        item++;
    }
}
