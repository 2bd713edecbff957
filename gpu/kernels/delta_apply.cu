// Applies deltas (spec/DELTA.md) in place: new elements take the place of the base's.
//
// Kernels that are launched one after the other on a stream, for any number of deltas at once:
//
// 1. `delta_check` computes the CRC-32 of the base's elements, in pieces that any warp can take.
// 2. `delta_compare` compares the sums of all pieces of a block with what the delta says. If one
//    differs, it says so and sets a word for all deltas; the kernels that follow then leave every
//    element as it is.
// 3. `delta_apply_1`, `delta_apply_2` and `delta_apply_4` apply what is coded (method 2;
//    delta_block.cuh says how), `delta_patch` puts down what is listed (method 1) or not
//    compressed, `delta_frames` decodes frames of codec rANS.
// 4. `delta_check` and `delta_compare` again, for the elements of the result.
//
// A checksum in pieces. What CRC-32 does to bytes is linear but for its start and its end, and the
// host has taken both out of the sums that it expects. So each lane goes through words of its own,
// four at once, as if all others were 0, and multiplies what it has found by a power of x for what
// follows; the sum of all is the checksum. Zeros that are appended up to a multiple of 512 bytes
// are in what the host expects, too.

#include "crc.cuh"
#include "delta_block.cuh"

// Bytes that a warp takes at once.
#define ROUND (16u * LANES)
#define ALL_RIGHT 0xffffffffu

// The product of each byte of a word and x^(8 ROUND), and for each lane that of x and the bits
// after the last word of its first sixteen bytes, and that word's own.
struct __align__(16) DeltaPowers {
    u32 round[4][256];
    u32 from_end[LANES];
};

// Bytes of one checksum.
struct Piece {
    u64 offset;
    u32 bytes;
    // x to the number of bits after the piece.
    u32 power;
    u32 sum;
    u32 reserved;
};

// What a checksum must be, of the base and of the result, and what it is of.
struct Expected {
    u32 base;
    u32 result;
    u32 status;
    u32 block;
};

// Elements to put down: `size` bytes each, at these positions, or one after the other.
struct Patch {
    const u64 *positions;
    const u8 *values;
    u64 offset;
    u64 number;
    // Where its blocks of PATCH elements begin among all of a launch.
    u64 first_block;
    u32 n_blocks;
    u32 size;
};

#define PATCH 4096u

// Sixteen bytes from an offset on; those from `end` on are 0.
__device__ __forceinline__ uint4 read_sixteen(const u8 *from, u32 at, u32 end) {
    if (at + 16 <= end && (reinterpret_cast<u64>(from) & 15) == 0) return *reinterpret_cast<const uint4 *>(from + at);
    u32 words[4] = {0, 0, 0, 0};
#pragma unroll
    for (u32 i = 0; i < 16; i++) {
        if (at + i < end) words[i / 4] |= u32(from[at + i]) << 8 * (i % 4);
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    delta_check(const DeltaPowers *powers, const Piece *pieces, u32 n_pieces, u64 elements, u32 *sums, const u32 *refused) {
    __shared__ DeltaPowers shared;
    // The first check comes before anything can be refused, and passes null.
    if (refused != nullptr && *refused != ALL_RIGHT) return;
    load(&shared, powers);
    __syncthreads();
    u32 lane = threadIdx.x % LANES;
    Range range = share_of(n_pieces);
    for (u32 number = range.begin + threadIdx.x / LANES; number < range.end; number += WARPS) {
        Piece piece = pieces[number];
        const u8 *from = reinterpret_cast<const u8 *>(elements + piece.offset);
        __builtin_assume(__isGlobal(from));
        u32 a = 0, b = 0, c = 0, d = 0;
#pragma unroll 2
        for (u32 at = 16 * lane; at < (piece.bytes + ROUND - 1) / ROUND * ROUND; at += ROUND) {
            uint4 words = read_sixteen(from, at, piece.bytes);
            a = product(shared.round, a) ^ words.x;
            b = product(shared.round, b) ^ words.y;
            c = product(shared.round, c) ^ words.z;
            d = product(shared.round, d) ^ words.w;
        }
        u32 sum = after_word(after_word(after_word(a) ^ b) ^ c) ^ d;
        sum = product(sum, shared.from_end[lane]);
#pragma unroll
        for (u32 distance = 16; distance > 0; distance /= 2) sum ^= __shfl_xor_sync(ALL_LANES, sum, distance);
        sum = product(sum, piece.power);
        if (lane == 0) atomicXor(&sums[piece.sum], sum);
    }
}

// `which` is 0 for the base and 1 for the result. Sums are 0 again afterwards.
extern "C" __global__ void __launch_bounds__(THREADS)
    delta_compare(const Expected *expected, u32 begin, u32 end, u32 which, u32 *sums, u32 *statuses, u32 *refused) {
    if (which != 0 && *refused != ALL_RIGHT) return;
    for (u32 i = begin + blockIdx.x * THREADS + threadIdx.x; i < end; i += gridDim.x * THREADS) {
        Expected of = expected[i];
        u32 sum = sums[i];
        sums[i] = 0;
        if (sum == (which == 0 ? of.base : of.result)) continue;
        atomicMin(&statuses[of.status], of.block << 4 | (which == 0 ? WRONG_BASE : WRONG_RESULT));
        if (which == 0) atomicMin(refused, 0u);
    }
}

template <typename Word>
__device__ __forceinline__ void apply(const Delta *deltas, u32 n_deltas, u32 n_blocks, u64 elements, u32 *statuses,
                                      const u32 *refused) {
    __shared__ DeltaShared shared;
    if (*refused != ALL_RIGHT) return;
    Range range = share_of(n_blocks);
    u32 item = find_item(deltas, n_deltas, range.begin);
    for (u32 begin = range.begin; begin < range.end; item++) {
        if (threadIdx.x == 0) shared.delta = deltas[item];
        __syncthreads();
        load_tables(shared);
        u32 first = u32(shared.delta.first_block), end = min(range.end, first + shared.delta.n_blocks);
        for (u32 at = begin + threadIdx.x / LANES; at < end; at += WARPS) {
            u32 wrong = apply_block<Word>(shared, at - first, elements);
            if (wrong != 0 && threadIdx.x % LANES == 0) atomicMin(&statuses[shared.delta.status], (at - first) << 4 | wrong);
            // Before the ring is another block's.
            __syncwarp();
        }
        begin = max(begin, end);
        // Before the tables are others.
        __syncthreads();
    }
}

// For elements of one byte, of two and of four, with as many thread blocks on a multiprocessor as
// registers suffice for.
#define APPLY(NAME, WORD, BLOCKS)                                                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                                                \
        NAME(const Delta *deltas, u32 n_deltas, u32 n_blocks, u64 elements, u32 *statuses, const u32 *refused) {                 \
        apply<WORD>(deltas, n_deltas, n_blocks, elements, statuses, refused);                                                    \
    }

APPLY(delta_apply_1, u8, 4)
APPLY(delta_apply_2, u16, 4)
APPLY(delta_apply_4, u32, 3)

extern "C" __global__ void __launch_bounds__(THREADS)
    delta_patch(const Patch *patches, u32 n_patches, u32 n_blocks, u64 elements, const u32 *refused) {
    if (*refused != ALL_RIGHT) return;
    Range range = share_of(n_blocks);
    for (u32 block = range.begin; block < range.end; block++) {
        const Patch &patch = patches[find_item(patches, n_patches, block)];
        u64 begin = (block - patch.first_block) * PATCH, end = min(patch.number, begin + PATCH);
        u8 *out = reinterpret_cast<u8 *>(elements + patch.offset);
        for (u64 i = begin + threadIdx.x; i < end; i += THREADS) {
            u64 to = patch.positions == nullptr ? i : __ldg(patch.positions + i);
            if (patch.size == 1) {
                out[to] = __ldg(patch.values + i);
            } else if (patch.size == 2) {
                reinterpret_cast<u16 *>(out)[to] = __ldg(reinterpret_cast<const u16 *>(patch.values) + i);
            } else {
                reinterpret_cast<u32 *>(out)[to] = __ldg(reinterpret_cast<const u32 *>(patch.values) + i);
            }
        }
    }
}

// `rans_decode_batch`, unless a base was refused. What is wrong with a frame shows in the checksums
// of the result.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    delta_frames(const Frame *frames, u32 n_frames, u32 n_chunks, u64 elements, const u32 *refused) {
    __shared__ Shared shared;
    if (*refused != ALL_RIGHT) return;
    const Frame &frame = shared.frame;
    Range range = share_of(n_chunks);
    u32 item = find_item(frames, n_frames, range.begin);
    for (u32 begin = range.begin; begin < range.end; item++) {
        if (threadIdx.x == 0) shared.frame = frames[item];
        __syncthreads();
        load_table(shared, frame.slots, frame.scale_bits, frame.kind);
        u32 first = u32(frame.first_block), end = min(range.end, first + frame.n_chunks);
        for (u32 at = begin + threadIdx.x / LANES; at < end; at += WARPS) {
            decode_chunk(shared, frame.chunks[at - first], frame.data, frame.outputs + elements, frame.scale_bits, frame.kind);
        }
        begin = max(begin, end);
        // Before the table is another.
        __syncthreads();
    }
}
