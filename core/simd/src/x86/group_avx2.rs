//! Codewords of 64 symbols at a time, with AVX2: 32 at a time, of a window of 16 symbols.

use core::arch::x86_64::*;

use crate::group::Window;
use crate::{CodeTable, Ends, GROUP, GROUP_WINDOWS, Group, LengthTable};

/// How many bytes of weights after those that are coded now are brought near.
const AHEAD: usize = 1536;

/// Symbols of half a group, a byte each.
const HALF: usize = GROUP / 2;

/// A table for shuffles.
#[inline]
#[target_feature(enable = "avx2")]
fn table(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: they are 16 bytes.
    unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast())) }
}

/// The places of symbols in the window, if all are in it.
#[inline]
#[target_feature(enable = "avx2")]
fn places(window: &Window, symbols: __m256i) -> Option<__m256i> {
    let places = _mm256_sub_epi8(symbols, _mm256_set1_epi8(window.first as i8));
    let most = _mm256_set1_epi8(window.last as i8);
    let is_in = _mm256_cmpeq_epi8(_mm256_min_epu8(places, most), places);
    (_mm256_movemask_epi8(is_in) == -1).then_some(places)
}

/// The exponents of 32 weights; their signs and mantissas are stored.
#[inline]
#[target_feature(enable = "avx2")]
fn exponents(weights: &[[u8; 2]; HALF], sign_mantissas: &mut [u8; HALF]) -> __m256i {
    let from = weights.as_ptr().cast::<__m128i>();
    super::prefetch(from.wrapping_byte_add(AHEAD).cast());
    // SAFETY: they are 64 bytes, four vectors of 128 bits. Packing goes by halves of 128 bits: so
    // weights 0 to 7 and 16 to 23 stand in one, the others in the other.
    let (a, b) =
        unsafe { (_mm256_loadu2_m128i(from.add(2), from), _mm256_loadu2_m128i(from.add(3), from.add(1))) };
    let low = _mm256_set1_epi16(0xff);
    let high = _mm256_packus_epi16(_mm256_srli_epi16::<8>(a), _mm256_srli_epi16::<8>(b));
    let low = _mm256_packus_epi16(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
    let sign = _mm256_set1_epi8(-0x80);
    let split = _mm256_or_si256(_mm256_and_si256(sign, high), _mm256_andnot_si256(sign, low));
    // SAFETY: they are 32 bytes.
    unsafe { _mm256_storeu_si256(sign_mantissas.as_mut_ptr().cast(), split) };
    let last = _mm256_and_si256(_mm256_srli_epi16::<7>(low), _mm256_set1_epi8(1));
    _mm256_or_si256(_mm256_add_epi8(high, high), last)
}

/// Where the codewords of half a group end.
struct HalfEnds {
    /// Of each, the place in a window of 64 bits, in the low six bits.
    ends: __m256i,
    /// A bit for each that reaches the end of the window it begins in.
    crossing: u32,
    /// The lengths of eight each.
    eights: __m256i,
    /// The length of all.
    bits: u32,
}

/// The ends of codewords of these lengths, the first of which begins at bit `used` of a window.
#[inline]
#[target_feature(enable = "avx2")]
fn half_ends(lengths: __m256i, used: u32) -> HalfEnds {
    let zero = _mm256_setzero_si256();
    // Sums within each eight, modulo 256, which is enough: see the form for AVX-512.
    let sums = _mm256_add_epi8(lengths, _mm256_slli_epi64::<8>(lengths));
    let sums = _mm256_add_epi8(sums, _mm256_slli_epi64::<16>(sums));
    let sums = _mm256_add_epi8(sums, _mm256_slli_epi64::<32>(sums));
    // What stands before each eight: the other of its half, and the first half before the second.
    let eights = _mm256_sad_epu8(lengths, zero);
    let sixteens = _mm256_add_epi64(eights, _mm256_slli_si256::<8>(eights));
    let first = _mm256_permute4x64_epi64::<0b01_01_01_01>(sixteens);
    let first_before = _mm256_blend_epi32::<0b1111_0000>(zero, first);
    let before = _mm256_add_epi64(_mm256_sub_epi64(sixteens, eights), first_before);
    let spread = _mm256_setr_epi64x(0, 0x0808_0808_0808_0808, 0, 0x0808_0808_0808_0808);
    let before = _mm256_add_epi8(_mm256_shuffle_epi8(before, spread), _mm256_set1_epi8(used as i8));
    let ends = _mm256_add_epi8(sums, before);
    let starts = _mm256_sub_epi8(ends, lengths);
    // A codeword that reaches or crosses the end of a window changes the bit that is worth 64.
    let crossing = _mm256_movemask_epi8(_mm256_slli_epi16::<1>(_mm256_xor_si256(ends, starts))) as u32;
    let all = _mm256_add_epi64(sixteens, first_before);
    let bits = _mm256_extract_epi64::<3>(all) as u32;
    HalfEnds { ends, crossing, eights, bits }
}

/// The ends of a whole group; of more crossings than fit, the first gaps.
#[inline]
#[target_feature(enable = "avx2,bmi1,popcnt")]
fn whole_ends([first, second]: &[HalfEnds; 2]) -> Ends {
    let mut ends = [0; GROUP + 1];
    // SAFETY: there are 64 bytes.
    unsafe {
        _mm256_storeu_si256(ends.as_mut_ptr().cast(), first.ends);
        _mm256_storeu_si256(ends.as_mut_ptr().add(HALF).cast(), second.ends);
    }
    let crossing = u64::from(second.crossing) << HALF | u64::from(first.crossing);
    let (mut left, mut gaps) = (crossing, [0; GROUP_WINDOWS]);
    let mut next = || {
        // After the last, the number is 64, and a zero stands there.
        let gap = ends[left.trailing_zeros() as usize % (GROUP + 1)] & 63;
        left &= left.wrapping_sub(1);
        gap
    };
    // Nobody can guess how many there are: usually four at most.
    gaps[..4].fill_with(&mut next);
    if crossing.count_ones() > 4 {
        gaps[4..].fill_with(&mut next);
    }
    Ends { crossing, gaps, bits: first.bits + second.bits }
}

/// [`Simd::ends`](crate::Simd::ends).
#[inline]
#[target_feature(enable = "avx2,bmi1,popcnt")]
pub(super) fn ends(lengths: &LengthTable, symbols: &[u8; GROUP], used: u32) -> Option<Ends> {
    let window = &lengths.window;
    // SAFETY: they are 64 bytes.
    let (first, second) = unsafe {
        let from = symbols.as_ptr().cast::<__m256i>();
        (_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1)))
    };
    let (first, second) = (places(window, first)?, places(window, second)?);
    let first = half_ends(_mm256_shuffle_epi8(table(&window.lengths), first), used);
    let second = half_ends(_mm256_shuffle_epi8(table(&window.lengths), second), used + first.bits);
    let ends = whole_ends(&[first, second]);
    (ends.crossing.count_ones() as usize <= GROUP_WINDOWS).then_some(ends)
}

/// The codewords of half a group.
struct Half {
    by_8: __m256i,
    /// In every other place.
    by_16: __m256i,
    lengths_by_16: __m256i,
    ends: HalfEnds,
}

/// Codes half a group of these places in the window; `None` if those of eight symbols take 64 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn half(window: &Window, places: __m256i, used: u32) -> Option<Half> {
    let zero = _mm256_setzero_si256();
    let lengths = _mm256_shuffle_epi8(table(&window.lengths), places);
    let low = _mm256_shuffle_epi8(table(&window.low), places);
    let high = _mm256_shuffle_epi8(table(&window.high), places);
    let ends = half_ends(lengths, used);
    let most = _mm256_set1_epi64x(63);
    if _mm256_movemask_epi8(_mm256_cmpgt_epi64(ends.eights, most)) != 0 {
        return None;
    }
    // Unpacking goes by halves of 128 bits: the first takes symbols 0 to 7 and 16 to 23, the second
    // the others.
    let (even, even_lengths) = fours(_mm256_unpacklo_epi8(low, high), _mm256_unpacklo_epi8(lengths, zero));
    let (odd, odd_lengths) = fours(_mm256_unpackhi_epi8(low, high), _mm256_unpackhi_epi8(lengths, zero));
    let first_lengths = _mm256_unpacklo_epi64(even_lengths, odd_lengths);
    let (first, last) = (_mm256_unpacklo_epi64(even, odd), _mm256_unpackhi_epi64(even, odd));
    let by_8 = _mm256_or_si256(first, _mm256_srlv_epi64(last, first_lengths));
    let by_16 = _mm256_or_si256(by_8, _mm256_srlv_epi64(_mm256_unpackhi_epi64(by_8, by_8), ends.eights));
    let lengths_by_16 = _mm256_add_epi64(ends.eights, _mm256_unpackhi_epi64(ends.eights, ends.eights));
    Some(Half { by_8, by_16, lengths_by_16, ends })
}

/// Puts the codewords of four symbols each together, from 16 bits for each to the top of 64; and
/// their lengths.
#[inline]
#[target_feature(enable = "avx2")]
fn fours(codewords: __m256i, lengths: __m256i) -> (__m256i, __m256i) {
    let upper = _mm256_set1_epi32(!0xffff);
    let first = _mm256_andnot_si256(upper, lengths);
    let last = _mm256_srlv_epi32(_mm256_and_si256(codewords, upper), first);
    let twos = _mm256_or_si256(_mm256_slli_epi32::<16>(codewords), last);
    let lengths = _mm256_add_epi32(first, _mm256_srli_epi32::<16>(lengths));

    let upper = _mm256_set1_epi64x(!0xffff_ffff);
    let first = _mm256_andnot_si256(upper, lengths);
    let last = _mm256_srlv_epi64(_mm256_and_si256(twos, upper), first);
    let fours = _mm256_or_si256(_mm256_slli_epi64::<32>(twos), last);
    (fours, _mm256_add_epi64(first, _mm256_srli_epi64::<32>(lengths)))
}

/// Stores four numbers to one half of eight.
#[inline]
#[target_feature(enable = "avx2")]
fn store(halves: [__m256i; 2], to: &mut [u64; 8]) {
    // SAFETY: they are 64 bytes.
    unsafe {
        _mm256_storeu_si256(to.as_mut_ptr().cast(), halves[0]);
        _mm256_storeu_si256(to.as_mut_ptr().add(4).cast(), halves[1]);
    }
}

/// Numbers 0 and 2 of each half.
#[inline]
#[target_feature(enable = "avx2")]
fn every_other(halves: [__m256i; 2]) -> [u64; 4] {
    let [first, second] = halves;
    let pairs = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_unpacklo_epi64(first, second));
    let mut words = [0; 4];
    // SAFETY: they are 32 bytes.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), pairs) };
    words
}

/// [`Simd::code_group`](crate::Simd::code_group).
#[inline]
#[target_feature(enable = "avx2,bmi1,popcnt")]
pub(super) fn code_group(
    codewords: &CodeTable,
    weights: &[[u8; 2]; GROUP],
    sign_mantissas: &mut [u8; GROUP],
    used: u32,
) -> Option<Group> {
    let window = &codewords.window;
    let ([first_weights, second_weights], []) = weights.as_chunks::<HALF>() else { return None };
    let ([first_split, second_split], []) = sign_mantissas.as_chunks_mut::<HALF>() else { return None };
    let first = exponents(first_weights, first_split);
    let second = exponents(second_weights, second_split);
    let (first, second) = (places(window, first)?, places(window, second)?);
    let first = half(window, first, used)?;
    let second = half(window, second, used + first.ends.bits)?;
    let lengths_by_16 = every_other([first.lengths_by_16, second.lengths_by_16]);
    let mut group = Group {
        is_by_16: lengths_by_16.iter().all(|length| *length < 64),
        by_16: every_other([first.by_16, second.by_16]),
        lengths_by_16,
        by_8: [0; 8],
        lengths_by_8: [0; 8],
        ends: Ends { crossing: 0, gaps: [0; GROUP_WINDOWS], bits: 0 },
    };
    store([first.by_8, second.by_8], &mut group.by_8);
    store([first.ends.eights, second.ends.eights], &mut group.lengths_by_8);
    group.ends = whole_ends(&[first.ends, second.ends]);
    Some(group)
}
