// Merges two plain planes: the least that any decoder of BF16 weights has to do. `df11 gpu bench`
// shows its speed beside the decoders'.

#include <cstdint>

// The two 16-bit numbers of two zero-extended bytes each.
__device__ uint2 widen(uint32_t bytes) {
    return make_uint2(__byte_perm(bytes, 0, 0x4140), __byte_perm(bytes, 0, 0x4342));
}

// Two weights, of their exponents and of their signs and mantissas.
__device__ uint32_t weights(uint32_t exponents, uint32_t raw) {
    return (raw & 0x00800080u) << 8 | exponents << 7 | (raw & 0x007f007fu);
}

// Writes 8 weights for each of `groups` groups. All addresses are multiples of 16, and each plane has
// 8 bytes for each group.
extern "C" __global__ void merge_planes(const uint2 *__restrict__ exponents, const uint2 *__restrict__ raw,
                                        uint4 *__restrict__ weights_out, uint64_t groups) {
    const uint64_t step = static_cast<uint64_t>(gridDim.x) * blockDim.x;
    for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < groups; i += step) {
        const uint2 e = exponents[i], r = raw[i];
        const uint2 e0 = widen(e.x), e1 = widen(e.y), r0 = widen(r.x), r1 = widen(r.y);
        weights_out[i] = make_uint4(weights(e0.x, r0.x), weights(e0.y, r0.y), weights(e1.x, r1.x), weights(e1.y, r1.y));
    }
}
