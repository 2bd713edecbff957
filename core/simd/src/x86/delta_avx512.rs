//! Steps of rANS with a table for each symbol, 16 lanes at a time.

use core::arch::x86_64::*;

use super::rans_avx512::encoded;
use crate::delta::{Appending, Entries, Reading, SCALE_BITS, Slots, Steps, TABLES};
use crate::rans::{LANES, START_STATE};

/// The frequency of symbol 0, of 2,048, from which on 16 symbols in a row are likely to be 0.
const QUIET: u32 = 2_007;

/// [`Simd::decode_contexts`](crate::Simd::decode_contexts).
#[inline]
#[target_feature(enable = "popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn decode<const N: usize>(
    slots: &Slots,
    streams: &mut [Reading<'_>; N],
    steps: &mut [Steps<'_>; N],
) -> usize {
    // How many slots symbol 0 has in each table: the first ones.
    let zeros: [u32; TABLES] = core::array::from_fn(|table| {
        let first = slots[table << SCALE_BITS];
        if first & 0xff == 0 { first >> 8 & 0xfff } else { 0 }
    });
    let used = zeros.iter().filter(|zeros| **zeros > 0).count();
    let quiet = zeros.iter().filter(|zeros| **zeros >= QUIET).count();
    if 2 * quiet >= used.max(1) {
        steps_of::<N, true>(slots, zeros, streams, steps)
    } else {
        steps_of::<N, false>(slots, zeros, streams, steps)
    }
}

/// Decodes steps. If `IS_QUIET`, each half of a step is first tried without gathering: where all
/// slots are those of symbol 0, its frequency is all that the states need, and as a rule no word.
#[inline]
#[target_feature(enable = "popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
fn steps_of<const N: usize, const IS_QUIET: bool>(
    slots: &Slots,
    zeros: [u32; TABLES],
    streams: &mut [Reading<'_>; N],
    steps: &mut [Steps<'_>; N],
) -> usize {
    // SAFETY: eight numbers of 4 bytes.
    let zeros = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(zeros.as_ptr().cast()) });
    let (slot_mask, twelve) = (_mm512_set1_epi32((1 << SCALE_BITS) - 1), _mm512_set1_epi32(0xfff));
    let start = _mm512_set1_epi32(START_STATE as i32);
    let most = steps.iter().map(|steps| steps.contexts.len().min(steps.symbols.len())).min().unwrap_or(0);
    let mut states = [[_mm512_setzero_si512(); 2]; N];
    for (of, stream) in states.iter_mut().zip(streams.iter()) {
        let (halves, _) = stream.states.as_chunks::<16>();
        for (half, from) in of.iter_mut().zip(halves) {
            // SAFETY: 16 numbers of 4 bytes.
            *half = unsafe { _mm512_loadu_si512(from.as_ptr().cast()) };
        }
    }
    let mut left: [usize; N] = core::array::from_fn(|i| streams[i].left);
    let words: [&[[u8; 2]]; N] = core::array::from_fn(|i| streams[i].words);
    let contexts: [&[[u8; LANES]]; N] = core::array::from_fn(|i| steps[i].contexts);
    let contexts = contexts.map(|contexts| &contexts[contexts.len() - most.min(contexts.len())..]);
    let symbols = steps.each_mut().map(|steps| {
        let from = steps.symbols.len() - most.min(steps.symbols.len());
        &mut steps.symbols[from..]
    });
    if left.iter().zip(words).any(|(left, words)| *left > words.len()) {
        return 0;
    }
    let mut run = 0;
    'steps: while run < most {
        let before = (states, left);
        for i in 0..N {
            let of_step: &[u8; LANES] = &contexts[i][most - 1 - run];
            let to: &mut [u8; LANES] = &mut symbols[i][most - 1 - run];
            for half in [1, 0] {
                let state = states[i][half];
                // SAFETY: 16 bytes of 32 from 16 on, or from 0 on.
                let context = unsafe { _mm_loadu_si128(of_step.as_ptr().add(16 * half).cast()) };
                let context = _mm_and_si128(context, _mm_set1_epi8(TABLES as i8 - 1));
                let context = _mm512_cvtepu8_epi32(context);
                let slot = _mm512_and_si512(state, slot_mask);
                if IS_QUIET {
                    let frequency = _mm512_permutexvar_epi32(context, zeros);
                    if _mm512_cmplt_epu32_mask(slot, frequency) == u16::MAX {
                        // SAFETY: as for the contexts.
                        unsafe {
                            _mm_storeu_si128(to.as_mut_ptr().add(16 * half).cast(), _mm_setzero_si128());
                        }
                        let product = _mm512_mullo_epi32(frequency, _mm512_srli_epi32::<SCALE_BITS>(state));
                        let next = _mm512_add_epi32(product, slot);
                        if _mm512_cmplt_epu32_mask(next, start) == 0 {
                            states[i][half] = next;
                            continue;
                        }
                    }
                }
                let at = _mm512_or_si512(slot, _mm512_slli_epi32::<SCALE_BITS>(context));
                // SAFETY: a table below 8 and a slot below 2^11 are within 8 times 2^11 entries.
                let entry = unsafe { _mm512_i32gather_epi32::<4>(at, slots.as_ptr().cast()) };
                // SAFETY: as for the contexts.
                unsafe {
                    _mm_storeu_si128(to.as_mut_ptr().add(16 * half).cast(), _mm512_cvtepi32_epi8(entry));
                }
                let frequency = _mm512_and_si512(_mm512_srli_epi32::<8>(entry), twelve);
                let product = _mm512_mullo_epi32(frequency, _mm512_srli_epi32::<SCALE_BITS>(state));
                let next = _mm512_add_epi32(product, _mm512_srli_epi32::<20>(entry));
                let needy = _mm512_cmplt_epu32_mask(next, start);
                let count = needy.count_ones();
                let Some(rest) = left[i].checked_sub(count as usize) else {
                    (states, left) = before;
                    break 'steps;
                };
                left[i] = rest;
                // SAFETY: at least `count` words were left, and no more than there are.
                let from = unsafe { next_words(words[i], rest, count) };
                let taken = _mm512_maskz_expand_epi32(needy, _mm512_cvtepu16_epi32(from));
                states[i][half] = _mm512_mask_or_epi32(next, needy, _mm512_slli_epi32::<16>(next), taken);
            }
        }
        run += 1;
    }
    for (i, stream) in streams.iter_mut().enumerate() {
        stream.left = left[i];
        let (halves, _) = stream.states.as_chunks_mut::<16>();
        for (to, half) in halves.iter_mut().zip(states[i]) {
            // SAFETY: 16 numbers of 4 bytes.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), half) };
        }
    }
    run
}

/// Loads words from `at` on: at least `count`, which is at most 16.
///
/// # Safety
///
/// There must be `at + count` words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn next_words(words: &[[u8; 2]], at: usize, count: u32) -> __m256i {
    // SAFETY: there are at least `at` words.
    let from = unsafe { words.as_ptr().add(at) };
    if words.len() - at >= 16 {
        // SAFETY: 16 words of 2 bytes.
        unsafe { _mm256_loadu_si256(from.cast()) }
    } else {
        // SAFETY: the caller promises as many words as bits are set.
        unsafe { _mm256_maskz_loadu_epi16(((1u32 << count) - 1) as u16, from.cast()) }
    }
}

/// [`Simd::encode_contexts`](crate::Simd::encode_contexts). Where all symbols of half a step are 0
/// and no state is full, nothing is gathered and no word is written.
#[inline]
#[target_feature(enable = "popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn encode(
    entries: &Entries,
    block: &mut Appending<'_>,
    contexts: &[[u8; LANES]],
    symbols: &[[u8; LANES]],
) -> usize {
    // The frequencies of symbol 0 where it has one and begins with slot 0, and otherwise 0.
    let zeros: [u32; TABLES] = core::array::from_fn(|table| {
        let first = entries[table << 8];
        if first < 1 << 12 { first + 1 } else { 0 }
    });
    // SAFETY: eight numbers of 4 bytes.
    let zeros = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(zeros.as_ptr().cast()) });
    let (one, twelve) = (_mm512_set1_epi32(1), _mm512_set1_epi32(0xfff));
    let (slots, scale) = (_mm512_set1_epi32(1 << SCALE_BITS), _mm_cvtsi32_si128(SCALE_BITS as i32));
    let (halves, _) = block.states.as_chunks_mut::<16>();
    // SAFETY: 16 numbers of 4 bytes.
    let load = |half: &[u32; 16]| unsafe { _mm512_loadu_si512(half.as_ptr().cast()) };
    let [low, high] = halves else { return 0 };
    let mut states = [load(low), load(high)];
    let mut used = block.used;
    let mut run = 0;
    'steps: for (contexts, symbols) in contexts.iter().zip(symbols) {
        let fits = block.words.len().checked_sub(LANES + 16).is_some_and(|most| used <= most);
        if !fits {
            break;
        }
        let before = (states, used);
        for half in [0, 1] {
            // SAFETY: 16 bytes of 32 from 0 on, or from 16 on.
            let context = unsafe { _mm_loadu_si128(contexts.as_ptr().add(16 * half).cast()) };
            let context = _mm512_cvtepu8_epi32(_mm_and_si128(context, _mm_set1_epi8(TABLES as i8 - 1)));
            // SAFETY: as for the contexts.
            let symbol = unsafe { _mm_loadu_si128(symbols.as_ptr().add(16 * half).cast()) };
            let state = states[half];
            // Full from `f 2^(31-P)` on: compared without the lower bits.
            let high = _mm512_srli_epi32::<{ 31 - SCALE_BITS }>(state);
            if _mm_test_epi8_mask(symbol, symbol) == 0 {
                let frequency = _mm512_permutexvar_epi32(context, zeros);
                if _mm512_cmplt_epu32_mask(high, frequency) == u16::MAX {
                    states[half] = encoded(state, frequency, _mm512_setzero_si512(), slots, scale);
                    continue;
                }
            }
            let at = _mm512_or_si512(_mm512_cvtepu8_epi32(symbol), _mm512_slli_epi32::<8>(context));
            // SAFETY: a table below 8 and a symbol below 2^8 are within 8 times 2^8 entries.
            let entry = unsafe { _mm512_i32gather_epi32::<4>(at, entries.as_ptr().cast()) };
            if _mm512_movepi32_mask(entry) != 0 {
                (states, used) = before;
                break 'steps;
            }
            let frequency = _mm512_add_epi32(_mm512_and_si512(entry, twelve), one);
            let full = _mm512_cmpge_epu32_mask(high, frequency);
            let words = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(full, state));
            // SAFETY: there was room for 32 words of this step and 16 more, of which the half
            // before took 16 at most.
            unsafe { _mm256_storeu_si256(block.words.as_mut_ptr().add(used).cast(), words) };
            used += full.count_ones() as usize;
            let state = _mm512_mask_srli_epi32::<16>(state, full, state);
            states[half] = encoded(state, frequency, _mm512_srli_epi32::<12>(entry), slots, scale);
        }
        run += 1;
    }
    for (to, half) in halves.iter_mut().zip(states) {
        // SAFETY: 16 numbers of 4 bytes.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), half) };
    }
    block.used = used;
    run
}
