//! 64-bit Arm.

use core::arch::aarch64::*;

use crate::eight::{COMPRESS, EXPAND, Eight, PLACES, VECTORS, WIDTH};
use crate::rans::{DecodeTables, EncodeTables, LANES, Stream, Writing};
use crate::{Operation, Simd, sealed};

/// The token of NEON, which every 64-bit Arm processor with an operating system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon(());

impl Neon {
    /// The token, if this machine has the instructions.
    #[must_use]
    pub fn detect() -> Option<Self> {
        cfg!(target_feature = "neon").then_some(Neon(()))
    }
}

impl sealed::Sealed for Neon {}

impl Simd for Neon {
    #[inline(always)]
    fn run<O: Operation>(self, operation: O) -> O::Output {
        // The token exists only where the whole build is for NEON: nothing is to be switched on.
        operation.run(self)
    }

    #[inline(always)]
    fn decode_contexts<const N: usize>(
        self,
        slots: &crate::delta::Slots,
        streams: &mut [crate::delta::Reading<'_>; N],
        steps: &mut [crate::delta::Steps<'_>; N],
    ) -> usize {
        crate::delta::decode(self, slots, streams, steps)
    }

    #[inline(always)]
    fn encode_contexts(
        self,
        entries: &crate::delta::Entries,
        block: &mut crate::delta::Appending<'_>,
        contexts: &[[u8; crate::rans::LANES]],
        symbols: &[[u8; crate::rans::LANES]],
    ) -> usize {
        crate::delta::encode(self, entries, block, contexts, symbols)
    }

    const RANS: bool = true;

    #[inline(always)]
    fn encode_rans<const N: usize>(self, tables: EncodeTables<'_>, blocks: &mut [Writing<'_>; N]) -> usize {
        crate::eight::encode(self, tables, blocks)
    }

    #[inline(always)]
    fn decode_rans<const N: usize>(self, tables: DecodeTables<'_>, streams: &mut [Stream<'_>; N]) -> usize {
        crate::eight::decode(self, tables, streams)
    }

    #[inline(always)]
    unsafe fn merge_64<const STREAM: bool>(
        self,
        exponents: *const u8,
        sign_mantissas: *const u8,
        weights: *mut u8,
    ) {
        for at in [0, 16, 32, 48] {
            // SAFETY: the token proves NEON. The caller vouches for 64 readable bytes behind either
            // plane, of which each turn reads 16 from `at <= 48`, and for 128 writable bytes, of
            // which it writes 32 from `2 * at <= 96`.
            unsafe {
                let (e, sm) = (vld1q_u8(exponents.add(at)), vld1q_u8(sign_mantissas.add(at)));
                let (low, high) = (vshlq_n_u8::<7>(e), vshrq_n_u8::<1>(e));
                let low = vbslq_u8(vdupq_n_u8(0x7f), sm, low);
                let high = vbslq_u8(vdupq_n_u8(0x80), vandq_u8(sm, vdupq_n_u8(0x80)), high);
                // Stores the two in turn: low byte, high byte.
                vst2q_u8(weights.add(2 * at), uint8x16x2_t(low, high));
            }
        }
    }
}

/// Eight numbers of 32 bits in two vectors. Each of these is safe to call because the token proves
/// NEON.
impl Eight for Neon {
    type V = [uint32x4_t; 2];

    #[inline(always)]
    fn load(self, from: &[u32; LANES], at: usize) -> Self::V {
        // SAFETY: the token proves NEON; the place is cut to 24 at most, after which there are
        // eight more.
        unsafe {
            [vld1q_u32(from.as_ptr().add(at & PLACES)), vld1q_u32(from.as_ptr().add((at & PLACES) + 4))]
        }
    }

    #[inline(always)]
    fn store(self, vector: Self::V, to: &mut [u32; LANES], at: usize) {
        // SAFETY: as in `load`.
        unsafe {
            vst1q_u32(to.as_mut_ptr().add(at & PLACES), vector[0]);
            vst1q_u32(to.as_mut_ptr().add((at & PLACES) + 4), vector[1]);
        }
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; LANES], at: usize) -> Self::V {
        // SAFETY: as in `load`: eight bytes are there.
        unsafe {
            let words = vmovl_u8(vld1_u8(from.as_ptr().add(at & PLACES)));
            [vmovl_u16(vget_low_u16(words)), vmovl_u16(vget_high_u16(words))]
        }
    }

    #[inline(always)]
    fn store_bytes(self, vectors: [Self::V; VECTORS], to: &mut [u8; LANES]) {
        for (vector, to) in vectors.iter().zip(to.as_chunks_mut::<WIDTH>().0) {
            // SAFETY: the token proves NEON; there are eight bytes.
            unsafe {
                let words = vcombine_u16(vmovn_u32(vector[0]), vmovn_u32(vector[1]));
                vst1_u8(to.as_mut_ptr(), vmovn_u16(words));
            }
        }
    }

    #[inline(always)]
    fn splat(self, number: u32) -> Self::V {
        // SAFETY: the token proves NEON.
        unsafe { [vdupq_n_u32(number); 2] }
    }

    #[inline(always)]
    fn and(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: the token proves NEON.
        unsafe { [vandq_u32(a[0], b[0]), vandq_u32(a[1], b[1])] }
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: the token proves NEON.
        unsafe { [vaddq_u32(a[0], b[0]), vaddq_u32(a[1], b[1])] }
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: the token proves NEON.
        unsafe { [vsubq_u32(a[0], b[0]), vsubq_u32(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: the token proves NEON.
        unsafe { [vmulq_u32(a[0], b[0]), vmulq_u32(a[1], b[1])] }
    }

    #[inline(always)]
    fn shift_left(self, a: Self::V, bits: u32) -> Self::V {
        // SAFETY: the token proves NEON.
        unsafe { a.map(|a| vshlq_u32(a, vdupq_n_s32(bits as i32))) }
    }

    #[inline(always)]
    fn shift_right(self, a: Self::V, bits: u32) -> Self::V {
        // SAFETY: the token proves NEON. (It shifts right by negative numbers.)
        unsafe { a.map(|a| vshlq_u32(a, vdupq_n_s32(-(bits as i32)))) }
    }

    #[inline(always)]
    fn less(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: the token proves NEON.
        unsafe { [0, 1].map(|i| vcltq_s32(vreinterpretq_s32_u32(a[i]), vreinterpretq_s32_u32(b[i]))) }
    }

    #[inline(always)]
    fn mask(self, a: Self::V) -> usize {
        const BITS: [u32; 4] = [1, 2, 4, 8];
        // SAFETY: the token proves NEON; there are four bits.
        unsafe {
            let bits = vld1q_u32(BITS.as_ptr());
            let [low, high] = a.map(|a| vaddvq_u32(vandq_u32(a, bits)));
            (high << 4 | low) as usize
        }
    }

    #[inline(always)]
    fn select(self, ones: Self::V, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: the token proves NEON.
        unsafe { [vbslq_u32(ones[0], a[0], b[0]), vbslq_u32(ones[1], a[1], b[1])] }
    }

    #[inline(always)]
    fn divide(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: the token proves NEON.
        unsafe { [0, 1].map(|i| vcvtq_u32_f32(vdivq_f32(vcvtq_f32_u32(a[i]), vcvtq_f32_u32(b[i])))) }
    }

    #[inline(always)]
    unsafe fn gather(self, table: &[u32], at: Self::V) -> Self::V {
        let mut places = [0; WIDTH];
        // SAFETY: the token proves NEON; the caller promises places within the table.
        unsafe {
            vst1q_u32(places.as_mut_ptr(), at[0]);
            vst1q_u32(places.as_mut_ptr().add(4), at[1]);
            let found = places.map(|place| *table.get_unchecked(place as usize));
            [vld1q_u32(found.as_ptr()), vld1q_u32(found.as_ptr().add(4))]
        }
    }

    #[inline(always)]
    unsafe fn expand(self, from: *const [u8; 2], mask: usize) -> Self::V {
        // SAFETY: the token proves NEON; the caller promises 16 bytes; the table's rows have eight.
        unsafe {
            let words = vld1q_u8(from.cast());
            let places = vld1_u8(EXPAND[mask % 256].as_ptr());
            // The two bytes of each word.
            let twice = vadd_u8(places, places);
            let bytes = vcombine_u8(
                vzip1_u8(twice, vadd_u8(twice, vdup_n_u8(1))),
                vzip2_u8(twice, vadd_u8(twice, vdup_n_u8(1))),
            );
            let taken = vreinterpretq_u16_u8(vqtbl1q_u8(words, bytes));
            [vmovl_u16(vget_low_u16(taken)), vmovl_u16(vget_high_u16(taken))]
        }
    }

    #[inline(always)]
    unsafe fn compress(self, vector: Self::V, mask: usize, to: *mut [u8; 2]) {
        // SAFETY: the token proves NEON; the caller promises room for 16 bytes; the table's rows
        // have eight.
        unsafe {
            let words = vcombine_u16(vmovn_u32(vector[0]), vmovn_u32(vector[1]));
            let places = vld1_u8(COMPRESS[mask % 256].as_ptr());
            let twice = vadd_u8(places, places);
            let bytes = vcombine_u8(
                vzip1_u8(twice, vadd_u8(twice, vdup_n_u8(1))),
                vzip2_u8(twice, vadd_u8(twice, vdup_n_u8(1))),
            );
            vst1q_u8(to.cast(), vqtbl1q_u8(vreinterpretq_u8_u16(words), bytes));
        }
    }
}
