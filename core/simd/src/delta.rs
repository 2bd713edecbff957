//! Steps of rANS with a table for each symbol: what deltas are coded with.
//!
//! Each symbol comes with the number of its table, its *context*. Vectors gather from all tables at
//! once; [`Simd::decode_contexts`](crate::Simd::decode_contexts) and
//! [`Simd::encode_contexts`](crate::Simd::encode_contexts) do whole steps, as long as there are
//! words or room, and say how many.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::eight::{Eight, VECTORS, WIDTH, append};
use crate::rans::LANES;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::rans::START_STATE;

/// The most tables. A context is taken modulo this.
pub const TABLES: usize = 8;

/// The logarithm of the slots of a table.
pub const SCALE_BITS: u32 = 11;

/// Tables for decoding, by context and slot: the symbol in the low byte, above it the frequency, 12
/// bits, and the slot less the cumulative frequency, 11 bits.
pub type Slots = [u32; TABLES << SCALE_BITS];

/// Tables for encoding, by context and symbol: the frequency less one, 12 bits, and above it the
/// cumulative frequency; [`NO_ENTRY`](crate::rans::NO_ENTRY) without a frequency.
pub type Entries = [u32; TABLES << 8];

/// A block that is being decoded, from its last step to its first.
#[derive(Debug)]
pub struct Reading<'a> {
    /// The states of the lanes.
    pub states: [u32; LANES],
    /// Words, two bytes each.
    pub words: &'a [[u8; 2]],
    /// How many of them are left; those after them may be there or not.
    pub left: usize,
}

/// A block that is being encoded, from its first step to its last.
#[derive(Debug)]
pub struct Appending<'a> {
    /// The states of the lanes.
    pub states: [u32; LANES],
    /// Words, two bytes each, and room for more.
    pub words: &'a mut [[u8; 2]],
    /// How many words there are.
    pub used: usize,
}

/// Steps that are to be decoded: the contexts of their symbols, and room for as many symbols.
#[derive(Debug)]
pub struct Steps<'a> {
    /// The table of each symbol.
    pub contexts: &'a [[u8; LANES]],
    /// The symbols.
    pub symbols: &'a mut [[u8; LANES]],
}

/// [`Simd::decode_contexts`](crate::Simd::decode_contexts), eight lanes at a time.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(crate) fn decode<const N: usize>(
    simd: impl Eight,
    slots: &Slots,
    streams: &mut [Reading<'_>; N],
    steps: &mut [Steps<'_>; N],
) -> usize {
    let (slot_mask, table_mask) = (simd.splat((1 << SCALE_BITS) - 1), simd.splat(TABLES as u32 - 1));
    let twelve = simd.splat(0xfff);
    let most = steps.iter().map(|steps| steps.contexts.len().min(steps.symbols.len())).min().unwrap_or(0);
    if streams.iter().any(|stream| stream.left > stream.words.len()) {
        return 0;
    }
    let mut run = 0;
    while run < most {
        // Where a step may take more words than are left, it can be taken back.
        let is_last = streams.iter().any(|stream| stream.left < LANES);
        let before = is_last.then(|| streams.each_ref().map(|stream| (stream.states, stream.left)));
        for i in 0..N {
            let (stream, steps) = (&mut streams[i], &mut steps[i]);
            let contexts = steps.contexts.iter().rev().nth(run);
            let to = steps.symbols.iter_mut().rev().nth(run);
            let (Some(contexts), Some(to)) = (contexts, to) else { return run };
            let mut symbols = [simd.splat(0); VECTORS];
            for vector in (0..VECTORS).rev() {
                let state = simd.load(&stream.states, WIDTH * vector);
                let context = simd.and(simd.load_bytes(contexts, WIDTH * vector), table_mask);
                let at = simd.add(simd.and(state, slot_mask), simd.shift_left(context, SCALE_BITS));
                // SAFETY: a table below 8 and a slot below 2^11 are within 8 times 2^11 entries.
                let entry = unsafe { simd.gather(slots, at) };
                symbols[vector] = entry;
                let quotient = simd.shift_right(state, SCALE_BITS);
                let frequency = simd.and(simd.shift_right(entry, 8), twelve);
                let next = simd.add(simd.mul(frequency, quotient), simd.shift_right(entry, 20));
                let Some(next) = refill(simd, next, stream.words, &mut stream.left) else {
                    for (stream, (states, left)) in streams.iter_mut().zip(before.into_iter().flatten()) {
                        (stream.states, stream.left) = (states, left);
                    }
                    return run;
                };
                simd.store(next, &mut stream.states, WIDTH * vector);
            }
            simd.store_bytes(symbols, to);
        }
        run += 1;
    }
    run
}

/// Gives each state below 2^15 a word, in lane order, of which the last before `left` is the last
/// lane's. `None` if there are fewer.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
fn refill<E: Eight>(simd: E, states: E::V, words: &[[u8; 2]], left: &mut usize) -> Option<E::V> {
    let needy = simd.less(states, simd.splat(START_STATE));
    let mask = simd.mask(needy);
    *left = left.checked_sub(mask.count_ones() as usize)?;
    let words = words.get(*left..)?;
    let mut few = [[0; 2]; WIDTH];
    let eight = words.first_chunk().unwrap_or_else(|| {
        few.iter_mut().zip(words).for_each(|(to, word)| *to = *word);
        &few
    });
    // SAFETY: these are eight words, 16 bytes.
    let words = unsafe { simd.expand(eight.as_ptr(), mask) };
    Some(simd.select(needy, simd.add(simd.shift_left(states, 16), words), states))
}

/// [`Simd::encode_contexts`](crate::Simd::encode_contexts), eight lanes at a time.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(crate) fn encode(
    simd: impl Eight,
    entries: &Entries,
    block: &mut Appending<'_>,
    contexts: &[[u8; LANES]],
    symbols: &[[u8; LANES]],
) -> usize {
    let (zero, table_mask) = (simd.splat(0), simd.splat(TABLES as u32 - 1));
    let mut run = 0;
    for (contexts, symbols) in contexts.iter().zip(symbols) {
        let mut of = [zero; VECTORS];
        let mut missing = 0;
        for (vector, entry) in of.iter_mut().enumerate() {
            let context = simd.and(simd.load_bytes(contexts, WIDTH * vector), table_mask);
            let at = simd.add(simd.load_bytes(symbols, WIDTH * vector), simd.shift_left(context, 8));
            // SAFETY: a table below 8 and a symbol below 2^8 are within 8 times 2^8 entries.
            *entry = unsafe { simd.gather(entries, at) };
            missing |= simd.mask(simd.less(*entry, zero));
        }
        // Whatever a vector has, eight words are stored.
        let fits = block.words.len().checked_sub(LANES + WIDTH).is_some_and(|most| block.used <= most);
        if missing != 0 || !fits {
            break;
        }
        for (vector, entry) in of.iter().enumerate() {
            let state = simd.load(&block.states, WIDTH * vector);
            // SAFETY: there is room for 32 words of this step and eight more, of which those before
            // took at most 8 each.
            let next = unsafe { append(simd, SCALE_BITS, *entry, state, block.words, &mut block.used) };
            simd.store(next, &mut block.states, WIDTH * vector);
        }
        run += 1;
    }
    run
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::rans::{LANES, START_STATE};
    use crate::{Level, Operation, Simd};

    /// A step, lane by lane: the state after it and the symbol, or nothing without enough words.
    fn model(slots: &Slots, stream: &mut Reading<'_>, contexts: &[u8; LANES]) -> Option<[u8; LANES]> {
        let (mut states, mut left, mut symbols) = (stream.states, stream.left, [0; LANES]);
        for lane in (0..LANES).rev() {
            let slot = states[lane] & ((1 << SCALE_BITS) - 1);
            let entry = slots[usize::from(contexts[lane]) << SCALE_BITS | slot as usize];
            symbols[lane] = entry as u8;
            states[lane] = (entry >> 8 & 0xfff) * (states[lane] >> SCALE_BITS) + (entry >> 20);
            if states[lane] < START_STATE {
                left = left.checked_sub(1)?;
                states[lane] = states[lane] << 16 | u32::from(u16::from_le_bytes(stream.words[left]));
            }
        }
        (stream.states, stream.left) = (states, left);
        Some(symbols)
    }

    /// Two tables: one in which nearly all slots are symbol 0's, and one of 128 symbols.
    fn tables() -> (Box<Slots>, Box<Entries>) {
        let mut slots: Box<Slots> = vec![0; TABLES << SCALE_BITS].into_boxed_slice().try_into().unwrap();
        let mut entries: Box<Entries> = vec![u32::MAX; TABLES << 8].into_boxed_slice().try_into().unwrap();
        let quiet: &[(u8, u32)] = &[(0, 2040), (1, 5), (255, 3)];
        let even: Vec<(u8, u32)> = (0..128).map(|symbol| (2 * symbol, 16)).collect();
        for (table, symbols) in [quiet, &even].into_iter().enumerate() {
            let mut start = 0;
            for &(symbol, frequency) in symbols {
                entries[table << 8 | usize::from(symbol)] = start << 12 | (frequency - 1);
                for offset in 0..frequency {
                    let at = table << SCALE_BITS | (start + offset) as usize;
                    slots[at] = offset << 20 | frequency << 8 | u32::from(symbol);
                }
                start += frequency;
            }
        }
        (slots, entries)
    }

    struct Decode<'a>(&'a Slots, [Reading<'a>; 2], &'a [[u8; LANES]]);

    impl Operation for Decode<'_> {
        type Output = (usize, [([u32; LANES], usize, Vec<[u8; LANES]>); 2]);

        fn run<S: Simd>(self, simd: S) -> Self::Output {
            let Decode(slots, mut readings, contexts) = self;
            let mut symbols = [(); 2].map(|()| vec![[9; LANES]; contexts.len()]);
            let mut steps = symbols.each_mut().map(|symbols| Steps { contexts, symbols });
            let run = simd.decode_contexts(slots, &mut readings, &mut steps);
            let [a, b] = readings.map(|reading| (reading.states, reading.left));
            let [x, y] = symbols;
            (run, [(a.0, a.1, x), (b.0, b.1, y)])
        }
    }

    struct Encode<'a>(&'a Entries, &'a [[u8; LANES]], &'a [[u8; LANES]], usize);

    impl Operation for Encode<'_> {
        type Output = (usize, [u32; LANES], Vec<[u8; 2]>);

        fn run<S: Simd>(self, simd: S) -> Self::Output {
            let Encode(entries, contexts, symbols, room) = self;
            let mut words = vec![[0; 2]; room];
            let mut block = Appending { states: [START_STATE; LANES], words: &mut words, used: 0 };
            let run = simd.encode_contexts(entries, &mut block, contexts, symbols);
            let (states, used) = (block.states, block.used);
            words.truncate(used);
            (run, states, words)
        }
    }

    fn is_scalar(level: Level) -> bool {
        matches!(level, Level::Scalar(_))
    }

    fn random(seed: &mut u32) -> u32 {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *seed >> 8
    }

    #[test]
    fn steps_run_as_long_as_both_blocks_have_their_words_on_every_level() {
        let (slots, _) = tables();
        let mut seed = 1;
        for most in [1, 8, 40, 200] {
            for _ in 0..100 {
                let contexts: Vec<[u8; LANES]> = (0..9)
                    .map(|_| core::array::from_fn(|_| u8::from(random(&mut seed).is_multiple_of(9))))
                    .collect();
                let words: Vec<[u8; 2]> = (0..most + random(&mut seed) % 20)
                    .map(|_| (random(&mut seed) as u16).to_le_bytes())
                    .collect();
                let readings = [(); 2].map(|()| Reading {
                    states: core::array::from_fn(|_| START_STATE + random(&mut seed) % 100_000),
                    words: &words,
                    left: random(&mut seed) as usize % (most as usize + 1),
                });
                let copy = |reading: &Reading<'_>| Reading { words: &words, ..*reading };
                let mut expected = readings.each_ref().map(copy);
                let mut symbols: [Vec<[u8; LANES]>; 2] = Default::default();
                for contexts in contexts.iter().rev() {
                    let mut next = expected.each_ref().map(copy);
                    let [Some(a), Some(b)] = next.each_mut().map(|next| model(&slots, next, contexts)) else {
                        break;
                    };
                    expected = next;
                    symbols[0].insert(0, a);
                    symbols[1].insert(0, b);
                }
                for level in Level::all() {
                    let (run, found) =
                        level.dispatch(Decode(&slots, readings.each_ref().map(copy), &contexts));
                    if run == 0 {
                        assert!(is_scalar(level) || symbols[0].is_empty(), "{level:?}");
                        continue;
                    }
                    assert_eq!(run, symbols[0].len(), "{level:?}");
                    for (i, (states, left, all)) in found.into_iter().enumerate() {
                        assert_eq!((states, left), (expected[i].states, expected[i].left), "{level:?}");
                        assert_eq!(all[all.len() - run..], symbols[i], "{level:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn lies_about_the_words_run_no_step_on_any_level() {
        let (slots, _) = tables();
        for left in [3, 64, usize::MAX - 31, usize::MAX] {
            for level in Level::all() {
                let readings =
                    [(); 2].map(|()| Reading { states: [START_STATE; LANES], words: &[[1, 2]; 2], left });
                assert_eq!(level.dispatch(Decode(&slots, readings, &[[0; LANES]; 3])).0, 0, "{level:?}");
            }
        }
    }

    #[test]
    fn what_vectors_encode_comes_back_and_stops_before_a_symbol_without_frequency_and_without_room() {
        let (slots, entries) = tables();
        let mut seed = 2;
        for unknown in [20, 30, 50] {
            let contexts: Vec<[u8; LANES]> = (0..40)
                .map(|_| core::array::from_fn(|_| u8::from(random(&mut seed).is_multiple_of(30))))
                .collect();
            let mut symbols: Vec<[u8; LANES]> = contexts
                .iter()
                .map(|contexts| contexts.map(|context| context * 2 * (random(&mut seed) % 128) as u8))
                .collect();
            if let Some(symbols) = symbols.get_mut(unknown) {
                symbols[31] = 3;
            }
            for room in [0, 47, 60, 2000] {
                let mut first = None;
                for level in Level::all() {
                    let (run, states, words) = level.dispatch(Encode(&entries, &contexts, &symbols, room));
                    if is_scalar(level) {
                        assert_eq!(run, 0);
                        continue;
                    }
                    assert!(run <= unknown.min(40) && (room < 2000 || run == unknown.min(40)), "{level:?}");
                    // Levels differ in how much room they want, and not in what they write.
                    if room == 2000 {
                        let all = (states, words.clone());
                        assert_eq!(first.get_or_insert_with(|| all.clone()), &all, "{level:?}");
                    }
                    let mut reading = Reading { states, words: &words, left: words.len() };
                    for step in (0..run).rev() {
                        assert_eq!(
                            model(&slots, &mut reading, &contexts[step]),
                            Some(symbols[step]),
                            "{level:?}"
                        );
                    }
                    assert_eq!((reading.states, reading.left), ([START_STATE; LANES], 0), "{level:?}");
                }
            }
        }
    }
}
