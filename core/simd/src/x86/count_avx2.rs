//! Counting the exponents of weights, with AVX2, where nearly all are among 16 that follow each
//! other.
//!
//! Two shuffles make of each exponent a byte with one bit set, for either half of the 16. How often
//! each bit is set in many bytes is counted as by hand, column by column: adders put three vectors
//! of the same worth together to one, and one that is worth twice as much. Only what is worth eight
//! is counted in bytes.

use core::arch::x86_64::*;

use crate::COUNTED;

/// Vectors of 32 weights that are counted together.
const MANY: usize = COUNTED / 32;

/// How often each bit of bytes was set.
struct Bits {
    ones: __m256i,
    twos: __m256i,
    fours: __m256i,
    /// By bit: how many eights, in bytes.
    eights: [__m256i; 8],
}

/// Adds three vectors up, bit by bit: what stays, and what is carried.
#[inline]
#[target_feature(enable = "avx2")]
fn add(a: __m256i, b: __m256i, c: __m256i) -> (__m256i, __m256i) {
    let differ = _mm256_xor_si256(a, b);
    (_mm256_xor_si256(differ, c), _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(differ, c)))
}

impl Bits {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new() -> Self {
        let zero = _mm256_setzero_si256();
        Bits { ones: zero, twos: zero, fours: zero, eights: [zero; 8] }
    }

    /// Adds eight vectors; at most 255 times before [`empty`](Self::empty).
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(&mut self, v: [__m256i; MANY]) {
        let (ones, two_a) = add(self.ones, v[0], v[1]);
        let (ones, two_b) = add(ones, v[2], v[3]);
        let (twos, four_a) = add(self.twos, two_a, two_b);
        let (ones, two_a) = add(ones, v[4], v[5]);
        let (ones, two_b) = add(ones, v[6], v[7]);
        let (twos, four_b) = add(twos, two_a, two_b);
        let (fours, eight) = add(self.fours, four_a, four_b);
        (self.ones, self.twos, self.fours) = (ones, twos, fours);
        for (bit, eights) in self.eights.iter_mut().enumerate() {
            let bit = _mm256_set1_epi8((1u8 << bit) as i8);
            // All ones, which is one less, where it is set.
            let is_set = _mm256_cmpeq_epi8(_mm256_and_si256(eight, bit), bit);
            *eights = _mm256_sub_epi8(*eights, is_set);
        }
    }

    /// Moves what is counted in bytes to larger numbers.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn empty(&mut self, counts: &mut [u64; 8]) {
        for (eights, count) in self.eights.iter_mut().zip(counts) {
            *count += 8 * sum(*eights);
            *eights = _mm256_setzero_si256();
        }
    }

    /// Adds what is left to the counts.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn finish(mut self, counts: &mut [u64; 8]) {
        self.empty(counts);
        for (bit, count) in counts.iter_mut().enumerate() {
            let bit = _mm256_set1_epi8((1u8 << bit) as i8);
            for (worth, vector) in [(1, self.ones), (2, self.twos), (4, self.fours)] {
                let is_set = _mm256_cmpeq_epi8(_mm256_and_si256(vector, bit), bit);
                *count += worth * u64::from((_mm256_movemask_epi8(is_set) as u32).count_ones());
            }
        }
    }
}

/// The sum of 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn sum(bytes: __m256i) -> u64 {
    let mut sums = [0u64; 4];
    // SAFETY: they are 32 bytes.
    unsafe {
        let of_eight = _mm256_sad_epu8(bytes, _mm256_setzero_si256());
        _mm256_storeu_si256(sums.as_mut_ptr().cast(), of_eight);
    }
    sums.iter().sum()
}

/// [`Simd::count_exponents`](crate::Simd::count_exponents).
#[inline]
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn count(weights: &[[[u8; 2]; COUNTED]], first: u8, frequencies: &mut [u64; 256]) {
    let low = _mm256_setr_epi64x(0x8040_2010_0804_0201_u64 as i64, 0, 0x8040_2010_0804_0201_u64 as i64, 0);
    let high = _mm256_shuffle_epi32::<0b01_00_11_10>(low);
    let byte = _mm256_set1_epi16(0xff);
    let (mut below, mut above) = (Bits::new(), Bits::new());
    let mut counts = [[0; 8]; 2];
    for many in weights.chunks(255) {
        for weights in many {
            let mut bits = [[_mm256_setzero_si256(); MANY]; 2];
            for (i, weights) in weights.as_chunks::<32>().0.iter().enumerate() {
                // SAFETY: they are 64 bytes.
                let (a, b) = unsafe {
                    let from = weights.as_ptr().cast::<__m256i>();
                    _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(64).cast());
                    (_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1)))
                };
                let (a, b) = (_mm256_srli_epi16::<7>(a), _mm256_srli_epi16::<7>(b));
                // In another order, which does not matter.
                let exponents = _mm256_packus_epi16(_mm256_and_si256(a, byte), _mm256_and_si256(b, byte));
                let mut places = _mm256_sub_epi8(exponents, _mm256_set1_epi8(first as i8));
                let is_in = _mm256_cmpeq_epi8(_mm256_min_epu8(places, _mm256_set1_epi8(15)), places);
                if _mm256_movemask_epi8(is_in) != -1 {
                    for weight in weights {
                        frequencies[usize::from(u16::from_le_bytes(*weight) >> 7 & 0xff)] += 1;
                    }
                    // Nowhere.
                    places = _mm256_set1_epi8(-1);
                }
                bits[0][i] = _mm256_shuffle_epi8(low, places);
                bits[1][i] = _mm256_shuffle_epi8(high, places);
            }
            below.add(bits[0]);
            above.add(bits[1]);
        }
        below.empty(&mut counts[0]);
        above.empty(&mut counts[1]);
    }
    below.finish(&mut counts[0]);
    above.finish(&mut counts[1]);
    for (frequency, count) in frequencies.iter_mut().skip(usize::from(first)).zip(counts.as_flattened()) {
        *frequency += count;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::{Level, Operation, Simd};

    struct Count<'a>(&'a [[[u8; 2]; COUNTED]], u8, &'a mut [u64; 256]);

    impl Operation for Count<'_> {
        type Output = bool;

        fn run<S: Simd>(self, simd: S) -> bool {
            simd.count_exponents(self.0, self.1, self.2);
            S::COUNTS
        }
    }

    #[test]
    fn exponents_are_counted_alike_wherever_they_are() {
        let many = if cfg!(miri) { 3 } else { 600 };
        // All in the window, all of one exponent, some outside, and any.
        for (range, first) in [(16, 100), (1, 100), (18, 100), (256, 0), (256, 240), (16, 240)] {
            let weights: Vec<[[u8; 2]; COUNTED]> = (0..many)
                .map(|i| {
                    core::array::from_fn(|j| {
                        let random = ((i * COUNTED + j) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
                        let exponent = (u64::from(first) + random % range) % 256;
                        ((random >> 8 & 0x807f | exponent << 7) as u16).to_le_bytes()
                    })
                })
                .collect();
            let mut expected = [3; 256];
            for weight in weights.as_flattened() {
                expected[usize::from(u16::from_le_bytes(*weight) >> 7 & 0xff)] += 1;
            }
            for level in Level::all() {
                let mut found = [3; 256];
                let counts = level.dispatch(Count(&weights, first, &mut found));
                assert!(!counts || found == expected, "{} {range} {first}", level.name());
                assert!(counts || found == [3; 256], "{}", level.name());
            }
        }
    }
}
