// Decodes chunks of codec dictionary (spec/DICTIONARY.md): a warp takes a chunk of 4,096 elements.
//
// The algorithm. No code waits for another, so in each round a warp takes 256 codes, eight a lane.
//
// 1. A lane looks its eight codes up in a table in shared memory: up to seven symbols each, and their number.
// 2. One prefix sum over the lanes says where each lane's symbols go.
// 3. A lane puts its symbols together in a register and stores whole words. Then it stores the bytes that fill no word into the
//    first word of the next lane. (Eight codes have eight symbols at least, so there is one.)
// 4. All lanes merge eight symbols at a time with their raw parts, and store up to 32 bytes at once. Less than 256 symbols that
//    are left move to the beginning.
//
// There are two ways through a chunk: one for whole chunks of BF16 whose parts can be read and written as they are, which asks
// for raw parts before the round, and one for any.
//
// Whatever the codes are, nothing is read behind the chunk's groups or written behind its elements, and a chunk that breaks
// V-3.3 is told.

#include "dictionary.cuh"
#include "elements.cuh"

// Groups whose raw parts are asked for before a round.
#define AHEAD 4u

struct __align__(16) Dictionary {
    // The table, as `Shared` has it.
    const uint2 *entries;
    const u8 *codes;
    // For each chunk how many groups of eight codes are before it; and those of all.
    const u32 *offsets;
    // The planes of the raw part, `stride` bytes from one to the next.
    const u8 *planes;
    u64 stride;
    u8 *outputs;
    u64 n_elements;
    // Where the frame's chunks begin among all chunks of a launch.
    u64 first_block;
    u32 n_chunks;
    // Bits of a code: 8 or 12.
    u32 width;
    u32 kind;
    u32 reserved;
};

// Decodes a chunk, and finds the start of the next one of this warp in the meantime, if there is
// one; tells whether the chunk is valid.
template <u32 WIDTH>
__device__ __forceinline__ bool run_chunk(Shared &shared, const Dictionary &frame, u64 base, u32 chunk,
                                          Start &start, bool has_next) {
    u32 lane = threadIdx.x % LANES, kind = frame.kind, groups = start.groups;
    u64 first = u64(chunk) * CHUNK;
    u32 elements = u32(min(frame.n_elements - first, u64(CHUNK)));
    const u8 *from = frame.codes + u64(start.offset) * WIDTH;
    const u8 *planes = frame.planes + first;
    u8 *outputs = frame.outputs + base + first * size_of(kind);
    __builtin_assume(__isGlobal(outputs));
    bool is_even = can_write_eight(kind, outputs);
    Stage stage(shared);
    if (has_next) find_codes(start, frame.offsets, chunk + WARPS);
    // No chunk is without codes, but a damaged one may say so.
    if (has_next && groups == 0) start.codes = first_codes<WIDTH>(start, frame.codes);
    for (u32 group = lane; group - lane < groups; group += LANES) {
        Codes codes = start.codes;
        bool is_last = group - lane + LANES >= groups;
        if (!is_last) {
            start.codes = read_codes(from + (group + LANES) * WIDTH, WIDTH, group + LANES < groups);
        } else if (has_next) {
            start.codes = first_codes<WIDTH>(start, frame.codes);
        }
        stage.add<WIDTH>(shared, codes, group, groups, elements);
        u32 done = stage.done, ready = min(stage.left, elements - done), at = 0;
        for (; is_even && at + GROUP <= ready; at += GROUP) {
            uint2 low = kind == BYTES ? uint2{} : read_eight(planes + done + at + 8 * lane);
            write_eight(kind, outputs, stage.eight(at), low, planes, frame.stride, done + at + 8 * lane);
        }
        u32 end = is_last ? ready : ready / GROUP * GROUP;
        for (u32 i = at + lane; i < end; i += LANES) {
            write_one(kind, outputs, stage.symbols[i], planes, frame.stride, done + i);
        }
        stage.remove(end, is_last);
    }
    return __all_sync(ALL_LANES, stage.is_good && stage.done == elements);
}

// Whether `run_even_chunk` can decode whole chunks of this frame.
__device__ __forceinline__ bool is_even(const Dictionary &frame, u64 base) {
    return frame.kind == BF16 && frame.width == 12 && (reinterpret_cast<u64>(frame.codes) & 3) == 0 &&
           (reinterpret_cast<u64>(frame.planes) & 7) == 0 && can_write_eight(BF16, frame.outputs + base);
}

// The same for a whole chunk of such a frame.
__device__ __forceinline__ bool run_even_chunk(Shared &shared, const Dictionary &frame, u64 base, u32 chunk,
                                               Start &start, bool has_next) {
    u32 lane = threadIdx.x % LANES;
    const uint2 *plane = reinterpret_cast<const uint2 *>(frame.planes + u64(chunk) * CHUNK) + lane;
    uint4 *outputs = reinterpret_cast<uint4 *>(frame.outputs + base + u64(chunk) * CHUNK * 2) + lane;
    __builtin_assume(__isGlobal(outputs));
    Stage stage(shared);
    EvenCodes even(frame.codes, frame.offsets, start, chunk, has_next);
    for (u32 group = lane; group - lane < even.groups; group += LANES) {
        Codes codes = even.take(start, group);
        uint2 low[AHEAD];
#pragma unroll
        for (u32 i = 0; i < AHEAD; i++) {
            if (stage.done <= CHUNK - (i + 1) * GROUP) low[i] = __ldg(plane + i * LANES);
        }
        stage.add<12>(shared, codes, group, even.groups, CHUNK);
        // A whole chunk is 16 groups, so whole groups are all that is written.
        u32 ready = min(stage.left, CHUNK - stage.done) / GROUP;
#pragma unroll
        for (u32 i = 0; i < AHEAD; i++) {
            if (i >= ready) break;
            outputs[i * LANES] = merge_eight(stage.eight(i * GROUP), low[i]);
        }
#pragma unroll 1
        for (u32 i = AHEAD; i < ready; i++) {
            outputs[i * LANES] = merge_eight(stage.eight(i * GROUP), __ldg(plane + i * LANES));
        }
        plane += ready * LANES;
        outputs += ready * LANES;
        stage.remove(ready * GROUP, false);
    }
    return __all_sync(ALL_LANES, stage.is_good && stage.done == CHUNK);
}

// Decodes the chunks from `first` up to `end` that are this warp's; tells which is the first that is
// not valid.
template <u32 WIDTH, bool IS_EVEN>
__device__ __forceinline__ u32 run_all(Shared &shared, const Dictionary &frame, u64 base, Start start,
                                       u32 first, u32 end) {
    u32 bad = ALL_GOOD;
    first += threadIdx.x / LANES;
    if (first >= end) return bad;
    if (!IS_EVEN) {
        find_codes(start, frame.offsets, first);
        start.codes = first_codes<WIDTH>(start, frame.codes);
    }
    for (u32 chunk = first; chunk < end; chunk += WARPS) {
        bool has_next = chunk + WARPS < end;
        bool is_good = IS_EVEN ? run_even_chunk(shared, frame, base, chunk, start, has_next)
                               : run_chunk<WIDTH>(shared, frame, base, chunk, start, has_next);
        if (!is_good) bad = min(bad, chunk << 3 | NOT_VALID);
    }
    return bad;
}

// Decodes many frames in one launch: each thread block takes as many of all frames' chunks as the others.
extern "C" __global__ void __launch_bounds__(THREADS, 3)
    fast_decode_batch(const Dictionary *frames, u32 n_frames, u32 n_chunks, u64 base, u32 *status) {
    __shared__ Shared shared;
    clear_staged(shared);
    Range range = share_of(n_chunks);
    u32 item = find_item(frames, n_frames, range.begin);
    for (u32 begin = range.begin; begin < range.end; item++) {
        const Dictionary &frame = frames[item];
        u32 before = u32(frame.first_block), end = min(range.end, before + frame.n_chunks);
        u32 first = begin - before, last = end - before;
        u32 whole = is_even(frame, base) ? u32(min(u64(last), frame.n_elements / CHUNK)) : 0;
        // The first codes come while the table does.
        Start start = even_start(frame.offsets, frame.codes, first + threadIdx.x / LANES, whole);
        load_entries(shared, frame.entries, frame.width);
        __syncthreads();
        u32 bad = run_all<12, true>(shared, frame, base, start, first, whole);
        first = max(first, whole);
        bad = min(bad, frame.width == 8 ? run_all<8, false>(shared, frame, base, {}, first, last)
                                        : run_all<12, false>(shared, frame, base, {}, first, last));
        if (bad != ALL_GOOD && threadIdx.x % LANES == 0) atomicMin(&status[item], bad);
        begin = max(begin, end);
        // Before the table is another.
        __syncthreads();
    }
}
