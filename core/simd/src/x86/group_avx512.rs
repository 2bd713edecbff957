//! Codewords of 64 symbols at a time, with AVX-512.

use core::arch::x86_64::*;

use crate::{CodeTable, Ends, GROUP, Group};

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(bytes: &[u8; 64]) -> __m512i {
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
pub(super) fn look_up(table: &[u8; 256], bytes: __m512i) -> __m512i {
    let ([a, b, c, d], []) = table.as_chunks::<64>() else { return bytes };
    let below = _mm512_permutex2var_epi8(load(a), bytes, load(b));
    let above = _mm512_permutex2var_epi8(load(c), bytes, load(d));
    _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), below, above)
}

/// [`Simd::ends`], by the lengths of the codewords; of more crossings than fit, the first gaps.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")]
pub(super) fn ends(lengths: __m512i, used: u32) -> Ends {
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
    // Sums within each eight, each modulo 256: enough, since what counts is the place in a window
    // of 64 bits, and whether a codeword of at most 32 crosses into the next.
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
pub(super) fn code_group(
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
    // Unpacking goes by halves of 128 bits: the first takes symbols 0 to 7, 16 to 23, ..., the
    // second those between.
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

/// Puts the codewords of four symbols each together, from 16 bits for each to the top of 64; and
/// their lengths.
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
