//! Steps of interleaved rANS, 32 lanes at a time, with AVX-512.

use core::arch::x86_64::*;

use super::group_avx512::{load, look_up};
use crate::rans::{ENDS_MARK, LANES, RansTable, Stream, Writing, has_step};

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
/// One vector holds the lower halves of all states, one the upper: so all arithmetic is on words of
/// 16 bits, 32 lanes in each instruction, and the words of the stream are lower halves as they
/// come.
#[inline]
#[target_feature(enable = "popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")]
pub(super) fn decode<const N: usize>(table: &RansTable, streams: &mut [Stream<'_>; N]) -> usize {
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
            ready &= has_step(words[i], left[i]);
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
            // SAFETY: `ready` says that from what was left on there are 32 words, and that at least
            // 32 were left, of which at most 32 have been taken.
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
pub(super) fn encode<const N: usize>(table: &RansTable, blocks: &mut [Writing<'_>; N]) -> usize {
    // A copy that nobody else can see: the compiler keeps it in registers.
    let table = table.clone();
    let scale_bits = table.scale_bits;
    let slots = _mm512_set1_epi32(1 << scale_bits);
    let scale = _mm_cvtsi32_si128(scale_bits as i32);
    // A state is full from `f 2^(31-P)` on: compared without its lower bits, by which it fits a
    // word.
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
pub(super) fn encoded(x: __m512i, f: __m512i, c: __m512i, slots: __m512i, scale: __m128i) -> __m512i {
    const DOWN: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
    let quotient =
        _mm512_div_round_ps::<DOWN>(_mm512_cvt_roundepi32_ps::<DOWN>(x), _mm512_cvt_roundepi32_ps::<DOWN>(f));
    // Each rounding takes off at most 2^-23 of it, and it is less than 2^22: so it is right, or one
    // too little.
    let quotient = _mm512_cvttps_epi32(quotient);
    let remainder = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, f));
    let one_more = _mm512_cmpge_epi32_mask(remainder, f);
    let sum = _mm512_add_epi32(_mm512_sll_epi32(quotient, scale), _mm512_add_epi32(remainder, c));
    _mm512_mask_add_epi32(sum, one_more, sum, _mm512_sub_epi32(slots, f))
}
