// Decodes blocks of interleaved rANS (spec/RANS.md), of frames and of dietgpu's archives: a warp takes a block, a lane of the
// warp a lane of the block.
//
// The algorithm. A table in shared memory says, for each slot, the symbol, its frequency and the place of the slot among the symbol's
// (`df11_core::rans::DecodeTable` holds the same numbers). Steps are decoded from the last to the first; a ballot tells each lane
// which of the last words is its own. Coded bytes are merged with their raw part at once.
//
// Whatever the words and states are, no read leaves the block, every loop ends, and what is wrong is said in `status`.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define LANES 32u
#define START_STATE (1u << 15)
#define STATE_END (1u << 31)
#define MOST_SLOTS (1u << 12)
#define WARPS 8u
#define THREADS (WARPS * LANES)
#define ALL_LANES 0xffffffffu
// Steps between two looks at what is left.
#define TOGETHER 8u

// How elements come from coded bytes and raw parts.
#define BYTES 0u
#define BF16 1u
#define F16 2u
#define F32 3u
// As in dietgpu's archives, the sign is the lowest bit.
#define BF16_SIGN_LOW 4u

// What is found wrong with a block (section 5 of RANS.md): 0 is nothing.
#define LANE_STATE 1u
#define WORDS_MISSING 2u
#define WORDS_LEFT 3u
#define LAST_STATE 4u

// Where a block is: offsets in bytes from the start of the data.
struct Block {
    u64 states;
    u64 words;
    // The planes of the raw part, one after the other, `symbols` bytes each.
    u64 raw;
    // Its first element.
    u64 first;
    u32 number_of_words;
    u32 symbols;
};

// An element of its coded byte (the low byte of `coded`) and its raw part.
template <u32 KIND>
__device__ __forceinline__ void write(u8 *outputs, const u8 *raw, u32 symbols, u32 i, u32 coded) {
    if (KIND == BYTES) {
        outputs[i] = coded;
        return;
    }
    u32 low = raw[i];
    if (KIND == F32) {
        u32 middle = raw[symbols + i], high = raw[2 * symbols + i];
        reinterpret_cast<u32 *>(outputs)[i] =
            (high & 0x80u) << 24 | (coded & 0xffu) << 23 | (high & 0x7fu) << 16 | middle << 8 | low;
        return;
    }
    u32 element = coded << 8 | low;
    // The sign and the mantissa to both their places, and the exponent where neither is.
    if (KIND == BF16) element = (low << 8 | low) & 0x807fu | (coded << 7 & ~0x807fu);
    if (KIND == BF16_SIGN_LOW) element = (low << 15 | low >> 1) & 0x807fu | (coded << 7 & ~0x807fu);
    reinterpret_cast<u16 *>(outputs)[i] = element;
}

// What a lane knows of the block that its warp decodes.
struct Lane {
    const u32 *table;
    u32 scale_bits;
    // Lanes before this one.
    u32 before;
    u32 state;
    // Words that are left, for all lanes.
    u32 left;
};

// Takes a step; the coded byte is in the low byte of what it returns. `has_symbol` says whether the lane takes part.
__device__ __forceinline__ u32 step(Lane &lane, const u16 *words, bool has_symbol) {
    u32 entry = lane.table[lane.state & ((1u << lane.scale_bits) - 1)];
    u32 quotient = lane.state >> lane.scale_bits;
    u32 next = (entry >> 8 & 0xfffu) * quotient + (entry >> 20) + quotient;
    bool needy = has_symbol && next < START_STATE;
    u32 all = __ballot_sync(ALL_LANES, needy);
    // None is missing, or `run` would not have come here.
    lane.left -= __popc(all);
    if (needy) next = next << 16 | words[lane.left + __popc(all & lane.before)];
    lane.state = has_symbol ? next : lane.state;
    return entry;
}

// Whether a careful step would need more words than are left.
__device__ __forceinline__ bool lacks_words(const Lane &lane, bool has_symbol) {
    u32 entry = lane.table[lane.state & ((1u << lane.scale_bits) - 1)];
    u32 next = ((entry >> 8 & 0xfffu) + 1) * (lane.state >> lane.scale_bits) + (entry >> 20);
    return __popc(__ballot_sync(ALL_LANES, has_symbol && next < START_STATE)) > lane.left;
}

// Decodes all steps of a block; returns what is wrong.
template <u32 KIND>
__device__ __forceinline__ u32 run(Lane &lane, const u16 *words, u8 *outputs, const u8 *raw, u32 symbols, u32 number) {
    constexpr u32 SIZE = KIND == BYTES ? 1 : KIND == F32 ? 4 : 2;
    u32 i = (symbols + LANES - 1) / LANES * LANES + number;
    // The last step may be a part of one; and while few words are left, each step is looked at before it is taken.
    for (u32 whole = symbols / LANES * LANES; i >= LANES;) {
        // Steps take at most a word a lane each.
        if (i <= whole + number && i >= TOGETHER * LANES && lane.left >= TOGETHER * LANES) {
            i -= TOGETHER * LANES;
            // One addition for each pointer, not for each step.
            u8 *to = outputs + u64(i) * SIZE;
            const u8 *from = raw + i;
#pragma unroll
            for (u32 j = TOGETHER; j-- > 0;) write<KIND>(to, from, symbols, j * LANES, step(lane, words, true));
        } else {
            i -= LANES;
            bool has_symbol = i < symbols;
            if (lane.left < LANES && lacks_words(lane, has_symbol)) return WORDS_MISSING;
            u32 coded = step(lane, words, has_symbol);
            if (has_symbol) write<KIND>(outputs, raw, symbols, i, coded);
        }
    }
    if (lane.left > 0) return WORDS_LEFT;
    return __any_sync(ALL_LANES, lane.state != START_STATE) ? LAST_STATE : 0u;
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    rans_decode(const u8 *data, const Block *blocks, u8 *outputs, u32 *status, const u32 *slots, u32 scale_bits,
                u32 number_of_blocks, u32 kind) {
    __shared__ u32 table[MOST_SLOTS];
    u32 number_of_slots = 1u << scale_bits;
    for (u32 slot = threadIdx.x; slot < number_of_slots; slot += THREADS) table[slot] = slots[slot];
    __syncthreads();

    u32 number = threadIdx.x % LANES;
    for (u32 at = blockIdx.x * WARPS + threadIdx.x / LANES; at < number_of_blocks; at += gridDim.x * WARPS) {
        Block block = blocks[at];
        Lane lane = {table, scale_bits, (1u << number) - 1, 0, block.number_of_words};
        lane.state = reinterpret_cast<const u32 *>(data + block.states)[number];
        const u8 *raw = data + block.raw;
        const u16 *words = reinterpret_cast<const u16 *>(data + block.words);
        u32 wrong = LANE_STATE;
        if (!__any_sync(ALL_LANES, lane.state < START_STATE || lane.state >= STATE_END)) {
            u32 symbols = block.symbols;
            if (kind == BYTES) wrong = run<BYTES>(lane, words, outputs + block.first, raw, symbols, number);
            if (kind == BF16) wrong = run<BF16>(lane, words, outputs + 2 * block.first, raw, symbols, number);
            if (kind == F16) wrong = run<F16>(lane, words, outputs + 2 * block.first, raw, symbols, number);
            if (kind == F32) wrong = run<F32>(lane, words, outputs + 4 * block.first, raw, symbols, number);
            if (kind == BF16_SIGN_LOW) {
                wrong = run<BF16_SIGN_LOW>(lane, words, outputs + 2 * block.first, raw, symbols, number);
            }
        }
        if (number == 0) status[at] = wrong;
    }
}
