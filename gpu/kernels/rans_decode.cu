// Decodes frames of codec rANS, and archives of dietgpu's: rans_block.cuh says how.

#include "rans_block.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_EACH)
    rans_decode(const u8 *data, const Chunk *chunks, u8 *outputs, u32 *status, const u32 *slots, u32 scale_bits, u32 n_chunks,
                u32 kind) {
    __shared__ Shared shared;
    load_table(shared, slots, scale_bits, kind);
    Range range = share_of(n_chunks);
    for (u32 at = range.begin + threadIdx.x / LANES; at < range.end; at += WARPS) {
        u32 wrong = decode_chunk(shared, chunks[at], data, outputs, scale_bits, kind);
        if (threadIdx.x % LANES == 0) status[at] = wrong;
    }
}

// Decodes many frames in one launch: each thread block takes as many of all frames' chunks as the others.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_EACH)
    rans_decode_batch(const Frame *frames, u32 n_frames, u32 n_chunks, u64 base, u32 *status) {
    __shared__ Shared shared;
    const Frame &frame = shared.frame;
    Range range = share_of(n_chunks);
    u32 item = find_item(frames, n_frames, range.begin);
    for (u32 begin = range.begin; begin < range.end; item++) {
        if (threadIdx.x == 0) shared.frame = frames[item];
        __syncthreads();
        load_table(shared, frame.slots, frame.scale_bits, frame.kind);
        u32 first = u32(frame.first_block), end = min(range.end, first + frame.n_chunks);
        for (u32 at = begin + threadIdx.x / LANES; at < end; at += WARPS) {
            u32 wrong =
                decode_chunk(shared, frame.chunks[at - first], frame.data, frame.outputs + base, frame.scale_bits, frame.kind);
            if (wrong != 0 && threadIdx.x % LANES == 0) atomicMin(&status[item], (at - first) << 3 | wrong);
        }
        begin = max(begin, end);
        // Before the table is another.
        __syncthreads();
    }
}
