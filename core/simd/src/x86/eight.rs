//! Vectors of eight numbers of 32 bits, with AVX2.

use core::arch::x86_64::*;

use super::Avx2;
use crate::eight::{Eight, PLACES, VECTORS};
use crate::rans::{COMPRESS, EXPAND, LANES};

/// Eight numbers of 32 bits in a vector. Each of these is safe to call because the token proves
/// AVX2.
impl Eight for Avx2 {
    type V = __m256i;

    #[inline(always)]
    fn load(self, from: &[u32; LANES], at: usize) -> __m256i {
        // SAFETY: the token proves AVX2; the place is cut to 24 at most, after which there are
        // eight more.
        unsafe { _mm256_loadu_si256(from.as_ptr().add(at & PLACES).cast()) }
    }

    #[inline(always)]
    fn store(self, vector: __m256i, to: &mut [u32; LANES], at: usize) {
        // SAFETY: as in `load`.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().add(at & PLACES).cast(), vector) }
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; LANES], at: usize) -> __m256i {
        // SAFETY: as in `load`: eight bytes are there.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.as_ptr().add(at & PLACES).cast())) }
    }

    #[inline(always)]
    fn store_bytes(self, vectors: [__m256i; VECTORS], to: &mut [u8; LANES]) {
        // SAFETY: the token proves AVX2; there are 32 bytes.
        unsafe {
            let byte = _mm256_set1_epi32(0xff);
            let [a, b, c, d] = vectors.map(|vector| _mm256_and_si256(vector, byte));
            let packed = _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
            // Packing goes by halves of 128 bits.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm256_permutevar8x32_epi32(packed, order));
        }
    }

    #[inline(always)]
    fn splat(self, number: u32) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_set1_epi32(number as i32) }
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_and_si256(a, b) }
    }

    #[inline(always)]
    fn add(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_add_epi32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_sub_epi32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_mullo_epi32(a, b) }
    }

    #[inline(always)]
    fn shift_left(self, a: __m256i, bits: u32) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_sll_epi32(a, _mm_cvtsi32_si128(bits as i32)) }
    }

    #[inline(always)]
    fn shift_right(self, a: __m256i, bits: u32) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_srl_epi32(a, _mm_cvtsi32_si128(bits as i32)) }
    }

    #[inline(always)]
    fn less(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_cmpgt_epi32(b, a) }
    }

    #[inline(always)]
    fn mask(self, a: __m256i) -> usize {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_movemask_ps(_mm256_castsi256_ps(a)) as usize }
    }

    #[inline(always)]
    fn select(self, ones: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_blendv_epi8(b, a, ones) }
    }

    #[inline(always)]
    fn divide(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_cvttps_epi32(_mm256_div_ps(_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b))) }
    }

    #[inline(always)]
    unsafe fn gather(self, table: &[u32], at: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2; the caller promises places within the table.
        unsafe { _mm256_i32gather_epi32::<4>(table.as_ptr().cast(), at) }
    }

    #[inline(always)]
    unsafe fn expand(self, from: *const [u8; 2], mask: usize) -> __m256i {
        // SAFETY: the token proves AVX2; the caller promises 16 bytes; the table's rows have as
        // many.
        unsafe {
            let bytes = _mm_loadu_si128(EXPAND[mask % 256].as_ptr().cast());
            _mm256_cvtepu16_epi32(_mm_shuffle_epi8(_mm_loadu_si128(from.cast()), bytes))
        }
    }

    #[inline(always)]
    unsafe fn compress(self, vector: __m256i, mask: usize, to: *mut [u8; 2]) {
        // SAFETY: the token proves AVX2; the caller promises room for 16 bytes; the table's rows
        // have as many.
        unsafe {
            let bytes = _mm_loadu_si128(COMPRESS[mask % 256].as_ptr().cast());
            let (low, high) = (_mm256_castsi256_si128(vector), _mm256_extracti128_si256::<1>(vector));
            _mm_storeu_si128(to.cast(), _mm_shuffle_epi8(_mm_packus_epi32(low, high), bytes));
        }
    }
}
