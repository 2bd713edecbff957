//! Vectors of eight numbers of 32 bits, with NEON.

use core::arch::aarch64::*;

use super::Neon;
use crate::eight::{Eight, PLACES, VECTORS, WIDTH};
use crate::rans::{COMPRESS, EXPAND, LANES};

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
        const BITS: [u16; WIDTH] = [1, 2, 4, 8, 16, 32, 64, 128];
        // SAFETY: the token proves NEON; there are eight numbers.
        unsafe {
            let words = vuzp1q_u16(vreinterpretq_u16_u32(a[0]), vreinterpretq_u16_u32(a[1]));
            usize::from(vaddvq_u16(vandq_u16(words, vld1q_u16(BITS.as_ptr()))))
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
        // SAFETY: the token proves NEON; the caller promises 16 bytes; the table's rows have as
        // many.
        unsafe {
            let bytes = vld1q_u8(EXPAND[mask % 256].as_ptr());
            let taken = vreinterpretq_u16_u8(vqtbl1q_u8(vld1q_u8(from.cast()), bytes));
            [vmovl_u16(vget_low_u16(taken)), vmovl_u16(vget_high_u16(taken))]
        }
    }

    #[inline(always)]
    unsafe fn compress(self, vector: Self::V, mask: usize, to: *mut [u8; 2]) {
        // SAFETY: the token proves NEON; the caller promises room for 16 bytes; the table's rows
        // have as many.
        unsafe {
            let words = vcombine_u16(vmovn_u32(vector[0]), vmovn_u32(vector[1]));
            let bytes = vld1q_u8(COMPRESS[mask % 256].as_ptr());
            vst1q_u8(to.cast(), vqtbl1q_u8(vreinterpretq_u8_u16(words), bytes));
        }
    }
}
