//! x86-64: AVX2 and AVX-512.

use core::arch::x86_64::*;

use crate::eight::{COMPRESS, EXPAND, Eight, PLACES, VECTORS};
use crate::rans::{DecodeTables, ENDS_MARK, EncodeTables, LANES, RansTable, Stream, Writing};
use crate::{CodeTable, Ends, GROUP, GROUP_WINDOWS, Group, Operation, Simd, sealed};

/// Whether the machine has a set of features: by asking it, or, without `std`, by what the build was told.
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

/// The token of AVX-512 F, BW, DQ, VL, VBMI and VBMI2 (Ice Lake, Zen 4, and what came after), besides all of [`Avx2`].
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
                // SAFETY: the caller of `merge_64` vouches for 64 readable bytes, two vectors, behind either plane.
                let (e, sm) = unsafe { (_mm256_loadu_si256(e.add(half)), _mm256_loadu_si256(sm.add(half))) };
                // Low bytes: the exponent's last bit and the mantissa. High bytes: the sign and the exponent's rest.
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

/// Eight numbers of 32 bits in a vector. Each of these is safe to call because the token proves AVX2.
impl Eight for Avx2 {
    type V = __m256i;

    #[inline(always)]
    fn load(self, from: &[u32; LANES], at: usize) -> __m256i {
        // SAFETY: the token proves AVX2; the place is cut to 24 at most, after which there are eight more.
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
        // SAFETY: the token proves AVX2; the caller promises 16 bytes; the table's rows have eight.
        unsafe {
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let places = _mm256_cvtepu8_epi32(_mm_loadl_epi64(EXPAND[mask % 256].as_ptr().cast()));
            _mm256_permutevar8x32_epi32(words, places)
        }
    }

    #[inline(always)]
    unsafe fn compress(self, vector: __m256i, mask: usize, to: *mut [u8; 2]) {
        // SAFETY: the token proves AVX2; the caller promises room for 16 bytes; the table's rows have eight.
        unsafe {
            let places = _mm256_cvtepu8_epi32(_mm_loadl_epi64(COMPRESS[mask % 256].as_ptr().cast()));
            let words = _mm256_permutevar8x32_epi32(vector, places);
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(words, words));
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed));
        }
    }
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

    const GROUPS: bool = true;

    const RANS: bool = true;

    #[inline(always)]
    fn encode_rans<const N: usize>(self, tables: EncodeTables<'_>, blocks: &mut [Writing<'_>; N]) -> usize {
        match tables.ranks {
            // SAFETY: the token proves the features.
            Some(ranks) => unsafe { encode_rans(ranks, blocks) },
            None => Avx2(()).encode_rans(tables, blocks),
        }
    }

    #[inline(always)]
    fn decode_rans<const N: usize>(self, tables: DecodeTables<'_>, streams: &mut [Stream<'_>; N]) -> usize {
        match tables.ranks.filter(|ranks| ranks.has_slots) {
            // SAFETY: the token proves the features.
            Some(ranks) => unsafe { decode_rans(ranks, streams) },
            None => Avx2(()).decode_rans(tables, streams),
        }
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
        unsafe { code_group(table, weights, sign_mantissas, used) }
    }

    #[inline(always)]
    fn ends(self, lengths: &[u8; 256], symbols: &[u8; GROUP], used: u32) -> Option<Ends> {
        #[inline]
        #[target_feature(enable = "popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")]
        fn inner(lengths: &[u8; 256], symbols: &[u8; GROUP], used: u32) -> Option<Ends> {
            let lengths = look_up(lengths, load(symbols));
            let ends = ends(lengths, used);
            (ends.crossing.count_ones() as usize <= GROUP_WINDOWS).then_some(ends)
        }
        // SAFETY: the token proves the features.
        unsafe { inner(lengths, symbols, used) }
    }

    #[inline(always)]
    unsafe fn merge_64<const STREAM: bool>(
        self,
        exponents: *const u8,
        sign_mantissas: *const u8,
        weights: *mut u8,
    ) {
        /// Which bytes of the low (0 to 63) and high (64 to 127) bytes make the first and the last 32 weights.
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
            // SAFETY: the caller of `merge_64` vouches for 64 readable bytes, a vector, behind either plane; the
            // constants are as long.
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

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: they are there.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(words: &mut [u64; 8], vector: __m512i) {
    // SAFETY: they are 64 bytes.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) }
}

/// Words 0, 2, 4 and 6.
#[inline]
#[target_feature(enable = "avx512f")]
fn every_other(vector: __m512i) -> [u64; 4] {
    let mut words = [0; 8];
    store(&mut words, vector);
    [words[0], words[2], words[4], words[6]]
}

/// The entries of a table for 64 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn look_up(table: &[u8; 256], bytes: __m512i) -> __m512i {
    let ([a, b, c, d], []) = table.as_chunks::<64>() else { return bytes };
    let below = _mm512_permutex2var_epi8(load(a), bytes, load(b));
    let above = _mm512_permutex2var_epi8(load(c), bytes, load(d));
    _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), below, above)
}

/// [`Simd::ends`], by the lengths of the codewords; of more crossings than fit, the first gaps.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")]
fn ends(lengths: __m512i, used: u32) -> Ends {
    /// Each of the low eight bytes, eight times.
    const SPREAD: [u8; 64] = {
        let mut index = [0; 64];
        let mut i = 0;
        while i < 64 {
            index[i] = i as u8 / 8;
            i += 1;
        }
        index
    };
    // Sums within each eight, each modulo 256: enough, since what counts is the place in a window of 64 bits, and whether
    // a codeword of at most 32 crosses into the next.
    let sums = _mm512_add_epi8(lengths, _mm512_slli_epi64::<8>(lengths));
    let sums = _mm512_add_epi8(sums, _mm512_slli_epi64::<16>(sums));
    let sums = _mm512_add_epi8(sums, _mm512_slli_epi64::<32>(sums));
    // What stands before each eight.
    let eights = _mm512_sad_epu8(lengths, _mm512_setzero_si512());
    let before = _mm_slli_epi64::<8>(_mm512_cvtepi64_epi8(eights));
    let before = _mm_add_epi8(before, _mm_slli_epi64::<8>(before));
    let before = _mm_add_epi8(before, _mm_slli_epi64::<16>(before));
    let before = _mm_add_epi8(before, _mm_slli_epi64::<32>(before));
    let before = _mm512_castsi128_si512(_mm_add_epi8(before, _mm_set1_epi8(used as i8)));
    let ends = _mm512_add_epi8(sums, _mm512_permutexvar_epi8(load(&SPREAD), before));
    let starts = _mm512_sub_epi8(ends, lengths);
    // A codeword that reaches or crosses the end of a window changes the bit that is worth 64.
    let crossing = _mm512_test_epi8_mask(_mm512_xor_si512(ends, starts), _mm512_set1_epi8(64));
    let gaps = _mm512_castsi512_si128(_mm512_maskz_compress_epi8(crossing, ends));
    let gaps = _mm_cvtsi128_si64(gaps) as u64 & 0x3f3f_3f3f_3f3f_3f3f;
    let bits = _mm512_reduce_add_epi64(eights) as u32;
    Ends { crossing, gaps: gaps.to_le_bytes(), bits }
}

/// [`Simd::code_group`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")]
fn code_group(
    table: &CodeTable,
    weights: &[[u8; 2]; GROUP],
    sign_mantissas: &mut [u8; GROUP],
    used: u32,
) -> Option<Group> {
    /// The low bytes of 64 weights, less the first of them for the high bytes.
    const LOW: [u8; 64] = {
        let mut index = [0; 64];
        let mut i = 0;
        while i < 64 {
            index[i] = 2 * i as u8;
            i += 1;
        }
        index
    };
    let (first, last) = weights.as_flattened().split_at(64);
    let (Ok(first), Ok(last)) = (first.try_into(), last.try_into()) else { return None };
    let (first, last) = (load(first), load(last));
    let low = _mm512_permutex2var_epi8(first, load(&LOW), last);
    let high = _mm512_permutex2var_epi8(first, _mm512_or_si512(load(&LOW), _mm512_set1_epi8(1)), last);
    // 0xca: bits of the second where the first has ones, of the third elsewhere.
    let split = _mm512_ternarylogic_epi64::<0xca>(_mm512_set1_epi8(0x7f), low, high);
    // SAFETY: they are 64 bytes.
    unsafe { _mm512_storeu_si512(sign_mantissas.as_mut_ptr().cast(), split) };
    let exponents = _mm512_ternarylogic_epi64::<0xca>(
        _mm512_set1_epi8(1),
        _mm512_srli_epi16::<7>(low),
        _mm512_add_epi8(high, high),
    );
    let lengths = look_up(&table.lengths, exponents);
    let (low, high) = (look_up(&table.low, exponents), look_up(&table.high, exponents));
    let zero = _mm512_setzero_si512();
    let eights = _mm512_sad_epu8(lengths, zero);
    // A symbol without a codeword is longer than that, too.
    if _mm512_cmpgt_epu64_mask(eights, _mm512_set1_epi64(63)) != 0 {
        return None;
    }
    // Unpacking goes by halves of 128 bits: the first takes symbols 0 to 7, 16 to 23, ..., the second those between.
    let (even, even_lengths) = fours(_mm512_unpacklo_epi8(low, high), _mm512_unpacklo_epi8(lengths, zero));
    let (odd, odd_lengths) = fours(_mm512_unpackhi_epi8(low, high), _mm512_unpackhi_epi8(lengths, zero));
    let first_lengths = _mm512_unpacklo_epi64(even_lengths, odd_lengths);
    let (first, last) = (_mm512_unpacklo_epi64(even, odd), _mm512_unpackhi_epi64(even, odd));
    let codewords = _mm512_or_si512(first, _mm512_srlv_epi64(last, first_lengths));
    // Of sixteen, in every other place.
    let by_16 =
        _mm512_or_si512(codewords, _mm512_srlv_epi64(_mm512_unpackhi_epi64(codewords, codewords), eights));
    let lengths_by_16 = _mm512_add_epi64(eights, _mm512_unpackhi_epi64(eights, eights));
    let long = _mm512_mask_cmpgt_epu64_mask(0b0101_0101, lengths_by_16, _mm512_set1_epi64(63));
    let mut group = Group {
        is_by_16: long == 0,
        by_16: every_other(by_16),
        lengths_by_16: every_other(lengths_by_16),
        by_8: [0; 8],
        lengths_by_8: [0; 8],
        ends: ends(lengths, used),
    };
    store(&mut group.by_8, codewords);
    store(&mut group.lengths_by_8, eights);
    Some(group)
}

/// Puts the codewords of four symbols each together, from 16 bits for each to the top of 64; and their lengths.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn fours(codewords: __m512i, lengths: __m512i) -> (__m512i, __m512i) {
    let upper = _mm512_set1_epi32(!0xffff);
    let first = _mm512_andnot_si512(upper, lengths);
    let last = _mm512_srlv_epi32(_mm512_and_si512(codewords, upper), first);
    let twos = _mm512_or_si512(_mm512_slli_epi32::<16>(codewords), last);
    let lengths = _mm512_add_epi32(first, _mm512_srli_epi32::<16>(lengths));

    let upper = _mm512_set1_epi64(!0xffff_ffff);
    let first = _mm512_andnot_si512(upper, lengths);
    let last = _mm512_srlv_epi64(_mm512_and_si512(twos, upper), first);
    let fours = _mm512_or_si512(_mm512_slli_epi64::<32>(twos), last);
    (fours, _mm512_add_epi64(first, _mm512_srli_epi64::<32>(lengths)))
}

/// The entry of each word's rank, from a table of 64.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn by_rank(table: &[u16; 64], ranks: __m512i) -> __m512i {
    // SAFETY: the table has 128 bytes, two vectors.
    let (low, high) = unsafe {
        let table = table.as_ptr().cast::<__m512i>();
        (_mm512_loadu_si512(table), _mm512_loadu_si512(table.add(1)))
    };
    _mm512_permutex2var_epi16(low, ranks, high)
}

/// The states of the even lanes, and those of the odd ones.
#[inline]
#[target_feature(enable = "avx512f")]
fn even_and_odd(states: &[u32; LANES]) -> [__m512i; 2] {
    let (pairs, _) = states.as_chunks::<2>();
    [0, 1].map(|half| {
        let states: [u32; 16] = core::array::from_fn(|pair| pairs[pair][half]);
        // SAFETY: they are 64 bytes.
        unsafe { _mm512_loadu_si512(states.as_ptr().cast()) }
    })
}

/// The states of all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn in_turn(halves: [__m512i; 2]) -> [u32; LANES] {
    let mut states = [[0u32; 16]; 2];
    for (states, half) in states.iter_mut().zip(halves) {
        // SAFETY: they are 64 bytes.
        unsafe { _mm512_storeu_si512(states.as_mut_ptr().cast(), half) };
    }
    core::array::from_fn(|lane| states[lane % 2][lane / 2])
}

/// [`Simd::decode_rans`].
///
/// One vector holds the lower halves of all states, one the upper: so all arithmetic is on words of 16 bits, 32 lanes in
/// each instruction, and the words of the stream are lower halves as they come.
#[inline]
#[target_feature(enable = "popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")]
fn decode_rans<const N: usize>(table: &RansTable, streams: &mut [Stream<'_>; N]) -> usize {
    /// The low bytes of words.
    const LOW: u64 = 0x5555_5555_5555_5555;
    // A copy that nobody else can see: the compiler keeps it in registers.
    let table = table.clone();
    let scale_bits = table.scale_bits;
    let slots = _mm512_set1_epi16(((1u32 << scale_bits) - 1) as i16);
    let (scale, bucket) = (_mm_cvtsi32_si128(scale_bits as i32), _mm_cvtsi32_si128(scale_bits as i32 - 7));
    let upper = _mm512_set1_epi16(16 - scale_bits as i16);
    let ends_mark = _mm512_set1_epi16(i16::from(ENDS_MARK));
    let (buckets, []) = table.buckets.as_chunks::<64>() else { return 0 };
    let (ends, []) = table.ends.as_chunks::<64>() else { return 0 };
    let ([low_buckets, high_buckets], [low_ends, high_ends]) = (buckets, ends) else { return 0 };

    let mut low = [_mm512_setzero_si512(); N];
    let mut high = low;
    for (i, stream) in streams.iter().enumerate() {
        [low[i], high[i]] = halves(&stream.states);
    }
    let mut left: [usize; N] = core::array::from_fn(|i| streams[i].left);
    let most = streams.iter().map(|stream| stream.symbols.len()).min().unwrap_or(0);
    let words: [&[[u8; 2]]; N] = core::array::from_fn(|i| streams[i].words);
    let mut symbols = streams.each_mut().map(|stream| stream.symbols.iter_mut());
    let mut run = 0;
    'steps: while run < most {
        // A step takes 32 words at the most; and whatever it takes, 32 are read.
        let mut ready = true;
        for i in 0..N {
            ready &=
                left[i] >= LANES && words[i].len().checked_sub(LANES).is_some_and(|most| left[i] <= most);
        }
        if !ready {
            break 'steps;
        }
        for i in 0..N {
            let (l, h) = (low[i], high[i]);
            let slot = _mm512_and_si512(l, slots);
            // Only the low seven bits count.
            let of = _mm512_srl_epi16(l, bucket);
            let first = _mm512_maskz_permutex2var_epi8(LOW, load(low_buckets), of, load(high_buckets));
            let is_next = _mm512_cmpgt_epu16_mask(slot, by_rank(&table.lasts, first));
            let rank = _mm512_mask_add_epi16(first, is_next, first, _mm512_set1_epi16(1));
            let is_end = _mm512_test_epi16_mask(first, ends_mark);
            let end = _mm512_maskz_permutex2var_epi8(LOW, load(low_ends), slot, load(high_ends));
            let rank = _mm512_mask_mov_epi16(rank, is_end, end);
            let frequency = by_rank(&table.frequencies, rank);
            let offset = _mm512_sub_epi16(slot, by_rank(&table.starts, rank));
            let symbol = _mm512_cvtepi16_epi8(_mm512_permutexvar_epi8(rank, load(&table.symbols)));
            if let Some(to) = symbols[i].next_back() {
                // SAFETY: it has 32 bytes.
                unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), symbol) };
            }
            // The quotient by 2^P has 22 bits at the most, those above 16 in `above`.
            let (quotient, above) = (_mm512_shldv_epi16(h, l, upper), _mm512_srl_epi16(h, scale));
            let product = _mm512_mullo_epi16(quotient, frequency);
            let carried = _mm512_mulhi_epu16(quotient, frequency);
            let h = _mm512_add_epi16(carried, _mm512_mullo_epi16(above, frequency));
            let l = _mm512_add_epi16(product, offset);
            let h = _mm512_mask_add_epi16(h, _mm512_cmplt_epu16_mask(l, offset), h, _mm512_set1_epi16(1));
            // Which lanes need a word? Those of which bits 15 to 30 are 0.
            let from_15 = _mm512_shldi_epi16::<1>(h, l);
            let needy = _mm512_testn_epi16_mask(from_15, from_15);
            left[i] -= needy.count_ones() as usize;
            // SAFETY: `ready` says that from what was left on there are 32 words, and that at least 32 were left, of which at
            // most 32 have been taken.
            let next = unsafe { _mm512_loadu_si512(words[i].as_ptr().add(left[i]).cast()) };
            high[i] = _mm512_mask_mov_epi16(h, needy, l);
            low[i] = _mm512_mask_expand_epi16(l, needy, next);
        }
        run += 1;
    }
    for (i, stream) in streams.iter_mut().enumerate() {
        stream.left = left[i];
        let kept = stream.symbols.len() - run;
        stream.symbols = &mut core::mem::take(&mut stream.symbols)[..kept];
        stream.states = whole(low[i], high[i]);
    }
    run
}

/// The lower and the upper halves of the states of all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(states: &[u32; LANES]) -> [__m512i; 2] {
    [0, 16].map(|shift| {
        let half: [u16; LANES] = states.map(|state| (state >> shift) as u16);
        // SAFETY: they are 64 bytes.
        unsafe { _mm512_loadu_si512(half.as_ptr().cast()) }
    })
}

/// The states of all lanes, of their halves.
#[inline]
#[target_feature(enable = "avx512f")]
fn whole(low: __m512i, high: __m512i) -> [u32; LANES] {
    let [low, high] = [low, high].map(|half| {
        let mut words = [0u16; LANES];
        // SAFETY: they are 64 bytes.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), half) };
        words
    });
    core::array::from_fn(|lane| u32::from(high[lane]) << 16 | u32::from(low[lane]))
}

/// [`Simd::encode_rans`].
#[inline]
#[target_feature(enable = "popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")]
fn encode_rans<const N: usize>(table: &RansTable, blocks: &mut [Writing<'_>; N]) -> usize {
    // A copy that nobody else can see: the compiler keeps it in registers.
    let table = table.clone();
    let scale_bits = table.scale_bits;
    let slots = _mm512_set1_epi32(1 << scale_bits);
    let scale = _mm_cvtsi32_si128(scale_bits as i32);
    // A state is full from `f 2^(31-P)` on: compared without its lower bits, by which it fits a word.
    let (full, full_high) =
        (_mm_cvtsi32_si128(31 - scale_bits as i32), _mm_cvtsi32_si128(15 - scale_bits as i32));
    let low = _mm512_set1_epi32(0xffff);

    let mut even = [_mm512_setzero_si512(); N];
    let mut odd = even;
    for (i, block) in blocks.iter().enumerate() {
        [even[i], odd[i]] = even_and_odd(&block.states);
    }
    let most = blocks.iter().map(|block| block.symbols.len()).min().unwrap_or(0);
    let symbols: [&[[u8; LANES]]; N] = core::array::from_fn(|i| blocks[i].symbols);
    let mut used: [usize; N] = core::array::from_fn(|i| blocks[i].used);
    let words = blocks.each_mut().map(|block| &mut *block.words);
    let mut run = 0;
    'steps: while run < most {
        let mut ranks = [_mm512_setzero_si512(); N];
        let mut ready = true;
        for i in 0..N {
            // SAFETY: it has 32 bytes.
            let symbols = unsafe { _mm256_loadu_si256(symbols[i][run].as_ptr().cast()) };
            let of = look_up(&table.ranks, _mm512_castsi256_si512(symbols));
            // The lower half; what is above it is junk.
            ready &= _mm512_movepi8_mask(of) as u32 == 0
                && words[i].len().checked_sub(LANES).is_some_and(|most| used[i] <= most);
            ranks[i] = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(of));
        }
        if !ready {
            break 'steps;
        }
        for i in 0..N {
            let (a, b) = (even[i], odd[i]);
            let frequency = by_rank(&table.frequencies, ranks[i]);
            let start = by_rank(&table.starts, ranks[i]);
            // The high half of each word of `b` is that of an odd lane.
            let high = _mm512_mask_blend_epi16(
                0xaaaa_aaaa,
                _mm512_srl_epi32(a, full),
                _mm512_srl_epi32(b, full_high),
            );
            let is_full = _mm512_cmpge_epu16_mask(high, frequency);
            let all = _mm512_mask_blend_epi16(0xaaaa_aaaa, a, _mm512_slli_epi32::<16>(b));
            let full_words = _mm512_maskz_compress_epi16(is_full, all);
            // SAFETY: `ready` says that there is room for 32 words, 64 bytes.
            unsafe { _mm512_storeu_si512(words[i].as_mut_ptr().add(used[i]).cast(), full_words) };
            used[i] += is_full.count_ones() as usize;
            // 16 in the words of full lanes, to shift by.
            let shift = _mm512_maskz_set1_epi16(is_full, 16);
            even[i] = encoded(
                _mm512_srlv_epi32(a, _mm512_and_si512(shift, low)),
                _mm512_and_si512(frequency, low),
                _mm512_and_si512(start, low),
                slots,
                scale,
            );
            odd[i] = encoded(
                _mm512_srlv_epi32(b, _mm512_srli_epi32::<16>(shift)),
                _mm512_srli_epi32::<16>(frequency),
                _mm512_srli_epi32::<16>(start),
                slots,
                scale,
            );
        }
        run += 1;
    }
    for (i, block) in blocks.iter_mut().enumerate() {
        block.used = used[i];
        block.symbols = &block.symbols[run..];
        block.states = in_turn([even[i], odd[i]]);
    }
    run
}

/// `(x div f) 2^P + x mod f + c`, for states that are not full.
#[inline]
#[target_feature(enable = "avx512f")]
fn encoded(x: __m512i, f: __m512i, c: __m512i, slots: __m512i, scale: __m128i) -> __m512i {
    const DOWN: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
    let quotient =
        _mm512_div_round_ps::<DOWN>(_mm512_cvt_roundepi32_ps::<DOWN>(x), _mm512_cvt_roundepi32_ps::<DOWN>(f));
    // Each rounding takes off at most 2^-23 of it, and it is less than 2^22: so it is right, or one too little.
    let quotient = _mm512_cvttps_epi32(quotient);
    let remainder = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, f));
    let one_more = _mm512_cmpge_epi32_mask(remainder, f);
    let sum = _mm512_add_epi32(_mm512_sll_epi32(quotient, scale), _mm512_add_epi32(remainder, c));
    _mm512_mask_add_epi32(sum, one_more, sum, _mm512_sub_epi32(slots, f))
}
