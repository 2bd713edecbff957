//! Steps of rANS with a table for each symbol, 16 lanes at a time.

use core::arch::x86_64::*;

use crate::delta::{Reading, SCALE_BITS, Slots, Steps, TABLES};
use crate::rans::{LANES, START_STATE, has_step};

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
    let mut run = 0;
    'steps: while run < most {
        let mut ready = true;
        for i in 0..N {
            // A step takes at most 32 words, and whatever it takes, 16 are read.
            ready &= has_step(words[i], left[i]);
        }
        if !ready {
            break 'steps;
        }
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
                left[i] -= needy.count_ones() as usize;
                // SAFETY: `ready` says that at least 32 words were left, of which at most 32 are
                // taken in this step, and that 32 can be read from what was left on: so 16 from
                // here.
                let from = unsafe { _mm256_loadu_si256(words[i].as_ptr().add(left[i]).cast()) };
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
