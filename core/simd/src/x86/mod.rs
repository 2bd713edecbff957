//! x86-64: AVX2 and AVX-512.

use core::arch::x86_64::*;

use crate::rans::{DecodeTables, EncodeTables, Stream, Writing};
use crate::{COUNTED, CodeTable, Ends, GROUP, GROUP_WINDOWS, Group, LengthTable, Operation, Simd, sealed};

mod count_avx2;
mod delta_avx512;
mod eight;
mod group_avx2;
mod group_avx512;
mod rans_avx2;
mod rans_avx512;

/// Whether the machine has a set of features: by asking it, or, without `std`, by what the build
/// was told.
macro_rules! has {
    ($($feature:tt),*) => {{
        #[cfg(feature = "std")]
        let has = $(std::arch::is_x86_feature_detected!($feature))&&*;
        #[cfg(not(feature = "std"))]
        let has = $(cfg!(target_feature = $feature))&&*;
        has
    }};
}

/// The token of AVX2, BMI1, BMI2, LZCNT, MOVBE and POPCNT (Haswell, Zen, and what came after).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// The token of AVX-512 F, BW, DQ, VL, VBMI and VBMI2 (Ice Lake, Zen 4, and what came after),
/// besides all of [`Avx2`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

impl Avx2 {
    /// The token, if this machine has the instructions.
    #[must_use]
    pub fn detect() -> Option<Self> {
        has!("avx2", "bmi1", "bmi2", "lzcnt", "movbe", "popcnt").then_some(Avx2(()))
    }
}

impl Avx512 {
    /// The token, if this machine has the instructions.
    #[must_use]
    pub fn detect() -> Option<Self> {
        let has = Avx2::detect().is_some()
            && has!("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vbmi2");
        has.then_some(Avx512(()))
    }
}

impl sealed::Sealed for Avx2 {}
impl sealed::Sealed for Avx512 {}

impl Simd for Avx2 {
    #[inline(always)]
    fn run<O: Operation>(self, operation: O) -> O::Output {
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
        fn inner<O: Operation>(simd: Avx2, operation: O) -> O::Output {
            operation.run(simd)
        }
        // SAFETY: the token proves the features.
        unsafe { inner(self, operation) }
    }

    #[inline(always)]
    fn window(self, word: u64, state: u32) -> usize {
        // SAFETY: the token proves BMI1.
        unsafe { _bextr2_u64(word, u64::from(state)) as usize }
    }

    #[inline(always)]
    fn four_exponents(self, weights: u64) -> u32 {
        // SAFETY: the token proves BMI2.
        unsafe { _pext_u64(weights, 0x7f80_7f80_7f80_7f80) as u32 }
    }

    const COUNTS: bool = true;

    #[inline(always)]
    fn count_exponents(self, weights: &[[[u8; 2]; COUNTED]], first: u8, frequencies: &mut [u64; 256]) {
        // SAFETY: the token proves the features.
        unsafe { count_avx2::count(weights, first, frequencies) }
    }

    const GROUPS: bool = true;

    const RANS: bool = true;

    #[inline(always)]
    fn encode_rans<const N: usize>(self, tables: EncodeTables<'_>, blocks: &mut [Writing<'_>; N]) -> usize {
        match tables.window {
            // SAFETY: the token proves the features.
            Some(window) => unsafe { rans_avx2::encode(tables, window, blocks) },
            None => crate::eight::encode(self, tables, blocks),
        }
    }

    #[inline(always)]
    fn decode_rans<const N: usize>(self, tables: DecodeTables<'_>, streams: &mut [Stream<'_>; N]) -> usize {
        match tables.window {
            // SAFETY: the token proves the features.
            Some(window) => unsafe { rans_avx2::decode(tables, window, streams) },
            None => crate::eight::decode(self, tables, streams),
        }
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

    #[inline(always)]
    fn code_group(
        self,
        table: &CodeTable,
        weights: &[[u8; 2]; GROUP],
        sign_mantissas: &mut [u8; GROUP],
        used: u32,
    ) -> Option<Group> {
        // SAFETY: the token proves the features.
        unsafe { group_avx2::code_group(table, weights, sign_mantissas, used) }
    }

    #[inline(always)]
    fn ends(self, lengths: &LengthTable, symbols: &[u8; GROUP], used: u32) -> Option<Ends> {
        // SAFETY: the token proves the features.
        unsafe { group_avx2::ends(lengths, symbols, used) }
    }

    #[inline(always)]
    fn two_pairs(self, weights: u64) -> [usize; 2] {
        // SAFETY: the token proves BMI2.
        let both = unsafe { _pext_u64(weights, 0x3f80_3f80_3f80_3f80) } as usize;
        // The compiler does not know that there are no more bits.
        [both & 0x3fff, both >> 14 & 0x3fff]
    }

    #[inline(always)]
    unsafe fn merge_64<const STREAM: bool>(
        self,
        exponents: *const u8,
        sign_mantissas: *const u8,
        weights: *mut u8,
    ) {
        #[inline]
        #[target_feature(enable = "avx2")]
        unsafe fn inner<const STREAM: bool>(e: *const __m256i, sm: *const __m256i, weights: *mut __m256i) {
            let low_bits = _mm256_set1_epi8(0x7f);
            for half in 0..2 {
                // SAFETY: the caller of `merge_64` vouches for 64 readable bytes, two vectors,
                // behind either plane.
                let (e, sm) = unsafe { (_mm256_loadu_si256(e.add(half)), _mm256_loadu_si256(sm.add(half))) };
                // Low bytes: the exponent's last bit and the mantissa. High bytes: the sign and the
                // exponent's rest.
                let low = select(low_bits, sm, _mm256_slli_epi16::<7>(e));
                let high = select(low_bits, _mm256_srli_epi16::<1>(e), sm);
                let (a, b) = (_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high));
                let first = _mm256_permute2x128_si256::<0x20>(a, b);
                let second = _mm256_permute2x128_si256::<0x31>(a, b);
                // SAFETY: 128 writable bytes, four vectors; aligned to 64 bytes if `STREAM`.
                unsafe {
                    let to = weights.add(2 * half);
                    if STREAM {
                        _mm256_stream_si256(to, first);
                        _mm256_stream_si256(to.add(1), second);
                    } else {
                        _mm256_storeu_si256(to, first);
                        _mm256_storeu_si256(to.add(1), second);
                    }
                }
            }
        }
        // SAFETY: the token proves AVX2; the caller's promises are passed on.
        unsafe { inner::<STREAM>(exponents.cast(), sign_mantissas.cast(), weights.cast()) }
    }
}

/// Brings the cache line at an address near.
#[inline(always)]
fn prefetch(at: *const u8) {
    // SAFETY: a prefetch of any address does nothing that a program could see. (Where AVX2 is on,
    // compilers from 1.93 on know that; older ones do not.)
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

/// Bits of `a` where `mask` has ones, of `b` elsewhere.
#[inline]
#[target_feature(enable = "avx2")]
fn select(mask: __m256i, a: __m256i, b: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b))
}

impl Simd for Avx512 {
    #[inline(always)]
    fn run<O: Operation>(self, operation: O) -> O::Output {
        #[target_feature(
            enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2"
        )]
        fn inner<O: Operation>(simd: Avx512, operation: O) -> O::Output {
            operation.run(simd)
        }
        // SAFETY: the token proves the features.
        unsafe { inner(self, operation) }
    }

    #[inline(always)]
    fn window(self, word: u64, state: u32) -> usize {
        Avx2(()).window(word, state)
    }

    #[inline(always)]
    fn four_exponents(self, weights: u64) -> u32 {
        Avx2(()).four_exponents(weights)
    }

    #[inline(always)]
    fn two_pairs(self, weights: u64) -> [usize; 2] {
        Avx2(()).two_pairs(weights)
    }

    const COUNTS: bool = true;

    #[inline(always)]
    fn count_exponents(self, weights: &[[[u8; 2]; COUNTED]], first: u8, frequencies: &mut [u64; 256]) {
        Avx2(()).count_exponents(weights, first, frequencies);
    }

    const GROUPS: bool = true;

    const RANS: bool = true;

    #[inline(always)]
    fn encode_rans<const N: usize>(self, tables: EncodeTables<'_>, blocks: &mut [Writing<'_>; N]) -> usize {
        match tables.ranks {
            // SAFETY: the token proves the features.
            Some(ranks) => unsafe { rans_avx512::encode(ranks, blocks) },
            None => Avx2(()).encode_rans(tables, blocks),
        }
    }

    #[inline(always)]
    fn decode_rans<const N: usize>(self, tables: DecodeTables<'_>, streams: &mut [Stream<'_>; N]) -> usize {
        match tables.ranks.filter(|ranks| ranks.has_slots) {
            // SAFETY: the token proves the features.
            Some(ranks) => unsafe { rans_avx512::decode(ranks, streams) },
            None => Avx2(()).decode_rans(tables, streams),
        }
    }

    #[inline(always)]
    fn decode_contexts<const N: usize>(
        self,
        slots: &crate::delta::Slots,
        streams: &mut [crate::delta::Reading<'_>; N],
        steps: &mut [crate::delta::Steps<'_>; N],
    ) -> usize {
        // SAFETY: the token proves the features.
        unsafe { delta_avx512::decode(slots, streams, steps) }
    }

    #[inline(always)]
    fn encode_contexts(
        self,
        entries: &crate::delta::Entries,
        block: &mut crate::delta::Appending<'_>,
        contexts: &[[u8; crate::rans::LANES]],
        symbols: &[[u8; crate::rans::LANES]],
    ) -> usize {
        // SAFETY: the token proves the features.
        unsafe { delta_avx512::encode(entries, block, contexts, symbols) }
    }

    #[inline(always)]
    fn code_group(
        self,
        table: &CodeTable,
        weights: &[[u8; 2]; GROUP],
        sign_mantissas: &mut [u8; GROUP],
        used: u32,
    ) -> Option<Group> {
        // SAFETY: the token proves the features.
        unsafe { group_avx512::code_group(table, weights, sign_mantissas, used) }
    }

    #[inline(always)]
    fn ends(self, lengths: &LengthTable, symbols: &[u8; GROUP], used: u32) -> Option<Ends> {
        #[inline]
        #[target_feature(enable = "popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")]
        fn inner(lengths: &[u8; 256], symbols: &[u8; GROUP], used: u32) -> Option<Ends> {
            let lengths = group_avx512::look_up(lengths, group_avx512::load(symbols));
            let ends = group_avx512::ends(lengths, used);
            (ends.crossing.count_ones() as usize <= GROUP_WINDOWS).then_some(ends)
        }
        // SAFETY: the token proves the features.
        unsafe { inner(lengths.all(), symbols, used) }
    }

    #[inline(always)]
    unsafe fn merge_64<const STREAM: bool>(
        self,
        exponents: *const u8,
        sign_mantissas: *const u8,
        weights: *mut u8,
    ) {
        /// Which bytes of the low (0 to 63) and high (64 to 127) bytes make the first and the last
        /// 32 weights.
        const INTERLEAVE: [[u8; 64]; 2] = {
            let mut index = [[0; 64]; 2];
            let mut i = 0;
            while i < 128 {
                index[i / 64][i % 64] = (i / 2 + i % 2 * 64) as u8;
                i += 1;
            }
            index
        };
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
        unsafe fn inner<const STREAM: bool>(e: *const __m512i, sm: *const __m512i, weights: *mut __m512i) {
            // SAFETY: the caller of `merge_64` vouches for 64 readable bytes, a vector, behind
            // either plane; the constants are as long.
            let (e, sm, first, last) = unsafe {
                let [first, last] = &INTERLEAVE;
                (
                    _mm512_loadu_si512(e),
                    _mm512_loadu_si512(sm),
                    _mm512_loadu_si512(first.as_ptr().cast()),
                    _mm512_loadu_si512(last.as_ptr().cast()),
                )
            };
            // 0xca: bits of the second where the first has ones, of the third elsewhere.
            let low_bits = _mm512_set1_epi8(0x7f);
            let low = _mm512_ternarylogic_epi64::<0xca>(low_bits, sm, _mm512_slli_epi16::<7>(e));
            let high = _mm512_ternarylogic_epi64::<0xca>(low_bits, _mm512_srli_epi16::<1>(e), sm);
            let first = _mm512_permutex2var_epi8(low, first, high);
            let last = _mm512_permutex2var_epi8(low, last, high);
            // SAFETY: 128 writable bytes, two vectors; aligned to 64 bytes if `STREAM`.
            unsafe {
                if STREAM {
                    _mm512_stream_si512(weights, first);
                    _mm512_stream_si512(weights.add(1), last);
                } else {
                    _mm512_storeu_si512(weights, first);
                    _mm512_storeu_si512(weights.add(1), last);
                }
            }
        }
        // SAFETY: the token proves the features; the caller's promises are passed on.
        unsafe { inner::<STREAM>(exponents.cast(), sign_mantissas.cast(), weights.cast()) }
    }
}
