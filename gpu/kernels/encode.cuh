// What the kernels that encode have in common.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define THREADS 256u
#define WARPS (THREADS / 32u)
#define ALL_LANES 0xffffffffu

__device__ __forceinline__ void put(u32 *words, uint4 from) {
    words[0] = from.x;
    words[1] = from.y;
    words[2] = from.z;
    words[3] = from.w;
}

// Reads 16 bytes, NUMBER times, from any address, if the aligned words that they are in are all
// between `begin` and `end`.
template <u32 NUMBER>
__device__ __forceinline__ bool read(const u8 *at, const u8 *begin, const u8 *end, u32 *words) {
    u32 misalignment = u32(reinterpret_cast<u64>(at)) & 15u;
    const uint4 *aligned = reinterpret_cast<const uint4 *>(at - misalignment);
    if (misalignment == 0) {
        if (at < begin || at + 16 * NUMBER > end) return false;
#pragma unroll
        for (u32 i = 0; i < NUMBER; i++) put(words + 4 * i, aligned[i]);
        return true;
    }
    if (at - misalignment < begin || at - misalignment + 16 * (NUMBER + 1) > end) return false;
    u32 all[4 * NUMBER + 4];
#pragma unroll
    for (u32 i = 0; i <= NUMBER; i++) put(all + 4 * i, aligned[i]);
    // By two words, by one, and by bytes.
#pragma unroll
    for (u32 i = 0; i < 4 * NUMBER + 2; i++) all[i] = misalignment & 8 ? all[i + 2] : all[i];
#pragma unroll
    for (u32 i = 0; i < 4 * NUMBER + 1; i++) all[i] = misalignment & 4 ? all[i + 1] : all[i];
    u32 bits = 8 * (misalignment & 3);
#pragma unroll
    for (u32 i = 0; i < 4 * NUMBER; i++) words[i] = __funnelshift_r(all[i], all[i + 1], bits);
    return true;
}

// The sum of all threads before this one, and of all.
__device__ __forceinline__ uint2 prefix_sum(u32 *warp_totals, u32 value) {
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = value;
#pragma unroll
    for (u32 distance = 1; distance < 32; distance *= 2) {
        u32 other = __shfl_up_sync(ALL_LANES, sum, distance);
        if (lane >= distance) sum += other;
    }
    if (lane == 31) warp_totals[warp] = sum;
    __syncthreads();
    // Each warp adds the totals of all up.
    u32 total = warp_totals[lane % WARPS];
#pragma unroll
    for (u32 distance = 1; distance < WARPS; distance *= 2) {
        u32 other = __shfl_up_sync(ALL_LANES, total, distance, WARPS);
        if (lane % WARPS >= distance) total += other;
    }
    u32 all = __shfl_sync(ALL_LANES, total, WARPS - 1);
    u32 before = __shfl_sync(ALL_LANES, total, (warp + WARPS - 1) % WARPS);
    return make_uint2((warp > 0 ? before : 0u) + sum - value, all);
}

// Counts bytes, by warp, so that warps wait for each other less.
struct Bins {
    u32 of[WARPS][256];
};

__device__ __forceinline__ u32 *begin_counting(Bins &bins) {
    for (u32 i = 0; i < WARPS; i++) bins.of[i][threadIdx.x] = 0;
    return bins.of[threadIdx.x / 32];
}

// How often the byte that is this thread's number was counted; from now on 0.
__device__ __forceinline__ u32 take_count(Bins &bins) {
    u32 sum = 0;
#pragma unroll
    for (u32 i = 0; i < WARPS; i++) {
        sum += bins.of[i][threadIdx.x];
        bins.of[i][threadIdx.x] = 0;
    }
    return sum;
}

// Four signs and mantissas of the weights in two words.
__device__ __forceinline__ u32 sign_mantissas(u32 first, u32 second) {
    u32 low = __byte_perm(first, second, 0x6420), high = __byte_perm(first, second, 0x7531);
    return (low & 0x7f7f7f7fu) | (high & 0x80808080u);
}
