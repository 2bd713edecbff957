//! What every machine has.

use crate::{Operation, Simd, sealed};

/// The token of no particular instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalar;

/// [`Simd::merge_64`] in code that compilers turn into vector instructions of any machine.
///
/// # Safety
///
/// As [`Simd::merge_64`] without `STREAM`.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn merge_64<const STREAM: bool>(exponents: *const u8, sign_mantissas: *const u8, weights: *mut u8) {
    // SAFETY: the caller vouches for 64 readable bytes behind each; arrays of bytes need no
    // alignment.
    let (exponents, sign_mantissas) = unsafe {
        (exponents.cast::<[u8; 64]>().read_unaligned(), sign_mantissas.cast::<[u8; 64]>().read_unaligned())
    };
    let mut merged = [[0u8; 2]; 64];
    for ((weight, e), sm) in merged.iter_mut().zip(exponents).zip(sign_mantissas) {
        let (e, sm) = (u16::from(e), u16::from(sm));
        *weight = ((sm & 0x80) << 8 | e << 7 | sm & 0x7f).to_le_bytes();
    }
    // SAFETY: the caller vouches for 128 writable bytes.
    unsafe { weights.cast::<[[u8; 2]; 64]>().write_unaligned(merged) };
}

/// [`Simd::merge_64`] in SSE2, which belongs to x86-64: compilers turn the plain form into twice as
/// many instructions, and do not go past the caches.
///
/// # Safety
///
/// As [`Simd::merge_64`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn merge_64<const STREAM: bool>(exponents: *const u8, sign_mantissas: *const u8, weights: *mut u8) {
    use core::arch::x86_64::{
        _mm_and_si128, _mm_andnot_si128, _mm_loadu_si128, _mm_or_si128, _mm_set1_epi8, _mm_slli_epi16,
        _mm_srli_epi16, _mm_storeu_si128, _mm_stream_si128, _mm_unpackhi_epi8, _mm_unpacklo_epi8,
    };
    for quarter in 0..4 {
        // SAFETY: SSE2 belongs to the architecture. The caller vouches for 64 readable bytes, four
        // vectors, behind either plane, and for 128 writable ones, eight vectors, aligned to 64
        // bytes if `STREAM`.
        unsafe {
            let e = _mm_loadu_si128(exponents.cast::<core::arch::x86_64::__m128i>().add(quarter));
            let sm = _mm_loadu_si128(sign_mantissas.cast::<core::arch::x86_64::__m128i>().add(quarter));
            let low_bits = _mm_set1_epi8(0x7f);
            let low =
                _mm_or_si128(_mm_and_si128(low_bits, sm), _mm_andnot_si128(low_bits, _mm_slli_epi16::<7>(e)));
            let high =
                _mm_or_si128(_mm_and_si128(low_bits, _mm_srli_epi16::<1>(e)), _mm_andnot_si128(low_bits, sm));
            let (first, second) = (_mm_unpacklo_epi8(low, high), _mm_unpackhi_epi8(low, high));
            let to = weights.cast::<core::arch::x86_64::__m128i>().add(2 * quarter);
            if STREAM {
                _mm_stream_si128(to, first);
                _mm_stream_si128(to.add(1), second);
            } else {
                _mm_storeu_si128(to, first);
                _mm_storeu_si128(to.add(1), second);
            }
        }
    }
}

impl sealed::Sealed for Scalar {}

impl Simd for Scalar {
    #[inline(always)]
    fn run<O: Operation>(self, operation: O) -> O::Output {
        operation.run(self)
    }

    #[inline(always)]
    unsafe fn merge_64<const STREAM: bool>(
        self,
        exponents: *const u8,
        sign_mantissas: *const u8,
        weights: *mut u8,
    ) {
        // SAFETY: the caller's promises are passed on.
        unsafe { merge_64::<STREAM>(exponents, sign_mantissas, weights) }
    }
}
