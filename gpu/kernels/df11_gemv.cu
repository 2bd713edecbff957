// Multiplies matrices that are ranges of DF11 units (spec/DF11.md) with vectors; the weights are
// nowhere but in registers.
//
// The algorithm. A thread block takes blocks of code that follow each other, and stages the symbols
// of each as df11_decode.cu does. Its warps multiply the segments (gemv.cuh) that are complete;
// what is left of a segment is kept for the next block. A thread block has the segments that begin
// in its own blocks, so it goes on into the next ones until the last of these is complete.
//
// Whatever the parts hold, nothing is read or written out of their bounds, and every loop ends.

#include "df11_block.cuh"
#include "elements.cuh"
#include "gemv.cuh"

struct __align__(16) Range11 {
    Product product;
    Unit unit;
    // The matrix's first element in the unit.
    u64 first_element;
    // The unit's block that has it, and is the product's first.
    u32 first_unit_block;
    u32 reserved;
};

struct __align__(16) Whole {
    Shared shared;
    // What is left of a segment.
    u8 kept[SEGMENT];
    Range11 item;
};

// Where a thread block is: the segment that the first staged symbol belongs to, if there are symbols
// before the matrix a negative number; and the symbols that are staged before the next block's.
struct Progress {
    i32 segment;
    u32 left;
    // Whether these are there. They are not those of a segment that is another thread block's.
    bool is_whole;
};

// Eight bytes of signs and mantissas of elements from `at` on; none is read beyond the unit's.
__device__ __forceinline__ uint2 read_signs(const Unit &unit, u64 at) {
    if (at >= 4 && at + 12 <= unit.n_elements) return read_eight(unit.sign_mantissa + at);
    u32 words[2] = {};
#pragma unroll
    for (u32 j = 0; j < 8; j++) {
        if (at + j < unit.n_elements) words[j / 4] |= u32(__ldg(unit.sign_mantissa + at + j)) << 8 * (j % 4);
    }
    return make_uint2(words[0], words[1]);
}

// Multiplies a segment whose symbols are staged.
template <u32 MOST>
__device__ __forceinline__ void multiply_symbols(const Range11 &item, const Vectors &vectors,
                                                 const u8 *symbols, u32 segment) {
    const Product &product = item.product;
    u32 lane = threadIdx.x % LANES, n = product.rows * product.columns;
    u64 at = item.first_element + u64(segment) * SEGMENT;
    const u8 *from = item.unit.sign_mantissa + at + 8 * lane;
    Sums<MOST> sums(product, vectors, segment * SEGMENT);
    if (sums.is_quick && (reinterpret_cast<u64>(from) & 7) == 0) {
        uint2 signs[EIGHTS];
        uint4 x[EIGHTS];
#pragma unroll
        for (u32 j = 0; j < EIGHTS; j++) signs[j] = __ldg(reinterpret_cast<const uint2 *>(from + STRIDE * j));
#pragma unroll
        for (u32 j = 0; j < EIGHTS; j++) x[j] = sums.read_x(j);
#pragma unroll
        for (u32 j = 0; j < EIGHTS; j++) {
            uint2 eight = *reinterpret_cast<const uint2 *>(symbols + STRIDE * j + 8 * lane);
            sums.add_quickly(product, vectors, merge_eight(eight, signs[j]), x[j]);
        }
        return;
    }
#pragma unroll 1
    for (u32 j = 0; j < EIGHTS; j++) {
        u32 place = STRIDE * j + 8 * lane;
        uint2 eight = read_staged(symbols, place, n - segment * SEGMENT);
        sums.add(product, vectors, merge_eight(eight, read_signs(item.unit, at + place)));
    }
}

// Multiplies the segments of `staged` symbols that are complete, from `begin` up to `end` of the
// matrix, and keeps what is left.
template <u32 MOST>
__device__ __forceinline__ void multiply_staged(Whole &whole, const Vectors &vectors,
                                                Progress &progress, u32 staged, i32 begin, i32 end) {
    const Range11 &item = whole.item;
    u32 thread = threadIdx.x, n = item.product.rows * item.product.columns;
    u32 complete = staged / SEGMENT;
    // The last segment of the matrix may be shorter.
    i64 last = i64(n) - i64(progress.segment + i32(complete)) * SEGMENT;
    bool has_last = last > 0 && last < SEGMENT && staged % SEGMENT >= last;
#pragma unroll 1
    for (u32 i = thread / LANES; i < complete + has_last; i += WARPS) {
        i32 segment = progress.segment + i32(i);
        if (segment < begin || segment >= end) continue;
        multiply_symbols<MOST>(item, vectors, whole.shared.staged + i * SEGMENT, u32(segment));
    }
    u32 left = staged % SEGMENT;
    bool is_whole = progress.is_whole || complete > 0;
    for (u32 i = thread; i < left && is_whole; i += THREADS) {
        whole.kept[i] = whole.shared.staged[complete * SEGMENT + i];
    }
    progress = {progress.segment + i32(complete), left, is_whole};
}

// Decodes a block, and multiplies what it completes; tells whether it had as many symbols as
// elements.
template <u32 MOST>
__device__ __forceinline__ bool multiply_block(Whole &whole, const Vectors &vectors, Progress &progress,
                                               u32 block, u32 blocks, i32 first, i32 last) {
    Shared &shared = whole.shared;
    const Unit &unit = whole.item.unit;
    u32 thread = threadIdx.x, lane = thread % LANES, warp = thread / LANES;
    Code code = read_code(unit, block);
    u32 end = block + 1 < blocks ? position(unit, block + 1) : u32(unit.n_elements);
    u32 begin = position(unit, block);
    end = min(end, u32(unit.n_elements));
    begin = min(begin, end);
    u32 elements = end - begin;

    // As in `decode_block` of df11_decode.cu.
    u32 found = 0, pending = 0;
    u32 row = u32(__cvta_generic_to_shared(&shared.columns[0][thread]));
    u32 last_row = row + (ROWS - 1) * THREADS * 4;
    auto store = [&](u32 symbols, u32 length) {
        u32 before = found;
        found += length >> 16;
        u32 now = pending | __funnelshift_l(0, symbols, before);
        u32 over = __funnelshift_l(symbols, 0, before);
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

    u32 number = found / 8, sum = number;
#pragma unroll
    for (u32 distance = 1; distance < LANES; distance *= 2) {
        u32 other = __shfl_up_sync(ALL_LANES, sum, distance);
        if (lane >= distance) sum += other;
    }
    bool is_over = __any_sync(ALL_LANES, number > 4 * ROWS);
    if (lane == LANES - 1) shared.warp_totals[warp] = sum | (is_over ? 1u << 16 : 0u);
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

    auto put_kept = [&]() {
        for (u32 i = thread; i < progress.left && progress.is_whole; i += THREADS) {
            shared.staged[i] = whole.kept[i];
        }
    };
    if (!is_over && progress.left + max(all, elements) <= 4 * HELD * THREADS) {
        put_back(shared, symbols, number, progress.left + before);
        for (u32 i = all + thread; i < elements; i += THREADS) shared.staged[progress.left + i] = 0;
        // Symbols behind the last codeword may be there; they are behind all elements.
        put_kept();
        __syncthreads();
        multiply_staged<MOST>(whole, vectors, progress, progress.left + elements, first, last);
    } else {
        // More symbols than there is room for: as many as fit at a time, byte by byte. The code is
        // read again, so that nothing of it need be kept.
        code = read_code(unit, block);
        for (u32 from = 0; from < elements; from += STAGED - SEGMENT) {
            u32 most = min(elements - from, STAGED - SEGMENT), at = before;
            u8 *to = shared.staged + progress.left;
            auto store = [&](u32 symbols, u32 length) {
#pragma unroll
                for (u32 i = 0; i < 4; i++) {
                    if (i < length >> 19 && at + i - from < most) to[at + i - from] = symbols >> 8 * i;
                }
                at += length >> 19;
            };
            if (code.is_there) each_symbol(shared, code, store);
            for (u32 i = max(all, from) + thread; i < from + most; i += THREADS) to[i - from] = 0;
            put_kept();
            __syncthreads();
            multiply_staged<MOST>(whole, vectors, progress, progress.left + most, first, last);
            __syncthreads();
        }
    }
    __syncthreads();
    return all >= elements;
}

// The first segment that begins at or behind the start of a block.
__device__ __forceinline__ i32 first_segment(const Range11 &item, u32 block, u32 blocks) {
    u32 n = item.product.rows * item.product.columns, all = (n + SEGMENT - 1) / SEGMENT;
    if (block >= blocks) return i32(all);
    i64 at = i64(min(position(item.unit, block), u32(item.unit.n_elements))) - i64(item.first_element);
    return at <= 0 ? 0 : i32(min(u64(at + SEGMENT - 1) / SEGMENT, u64(all)));
}

// Multiplies what begins in the unit's blocks from `block` up to `end`.
template <u32 MOST>
__device__ __forceinline__ void run_item(Whole &whole, const Vectors &vectors, u32 block, u32 end,
                                         bool is_end, u32 *status) {
    const Range11 &item = whole.item;
    u32 blocks = u32((item.unit.n_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES);
    i32 first = first_segment(item, block, blocks), last = first_segment(item, is_end ? blocks : end, blocks);
    // The product's first block may have elements before the matrix, and segments must not begin
    // between the blocks of two thread blocks without being somebody's.
    if (block == item.first_unit_block) first = 0;
    if (first >= last) return;
    i64 at = i64(min(position(item.unit, block), u32(item.unit.n_elements))) - i64(item.first_element);
    i64 segment = at >= 0 ? at / SEGMENT : -((SEGMENT - 1 - at) / i64(SEGMENT));
    Progress progress = {i32(segment), u32(at - segment * SEGMENT), false};
#pragma unroll 1
    for (; block < blocks && progress.segment < last; block++) {
        if (!multiply_block<MOST>(whole, vectors, progress, block, blocks, first, last) && threadIdx.x == 0) {
            atomicMin(status, block << 3 | SYMBOLS_MISSING);
        }
        // The last segment may be shorter, and then it is never complete.
        if (progress.segment + 1 == last && is_end) {
            u32 n = item.product.rows * item.product.columns;
            if (i64(progress.segment) * SEGMENT + progress.left >= n) break;
        }
    }
    finish(item.product, vectors, u32(first), u32(last));
    __syncthreads();
}

template <u32 MOST>
__device__ __forceinline__ void run(const Range11 *items, u32 n_items, u32 n_blocks, Vectors vectors,
                                    u32 *status) {
    __shared__ Whole whole;
    Range range = share_of(n_blocks);
    u32 item = 0;
    while (item + 1 < n_items && items[item + 1].product.first_block <= range.begin) item++;
    for (u32 begin = range.begin; begin < range.end; item++) {
        const uint4 *words = reinterpret_cast<const uint4 *>(items + item);
        if (threadIdx.x < sizeof(Range11) / 16) {
            reinterpret_cast<uint4 *>(&whole.item)[threadIdx.x] = __ldg(words + threadIdx.x);
        }
        load(&whole.shared.table, items[item].unit.table);
        if (threadIdx.x == 0) whole.shared.unit = items[item].unit;
        __syncthreads();
        const Range11 &own = whole.item;
        u32 first = own.product.first_block, all = first + own.product.n_blocks;
        u32 end = min(range.end, all), of_unit = own.first_unit_block - first;
        run_item<MOST>(whole, vectors, begin + of_unit, end + of_unit, end == all, status + item);
        begin = end;
        __syncthreads();
    }
}

// Multiplies many matrices in one launch, each with the same number of vectors: at most as many as
// the name says.
#define DF11_GEMV(MOST, BLOCKS)                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                  \
        df11_gemv_##MOST(const Range11 *items, u32 n_items, u32 n_blocks, u64 x, u64 y,            \
                         u32 vectors, u32 *status) {                                               \
        run<MOST>(items, n_items, n_blocks, {x, y, vectors}, status);                              \
    }

#ifndef BLOCKS_OF_GEMV
#define BLOCKS_OF_GEMV 4
#endif

DF11_GEMV(1, BLOCKS_OF_GEMV)
DF11_GEMV(2, 3)
DF11_GEMV(4, 3)
DF11_GEMV(8, 2)
