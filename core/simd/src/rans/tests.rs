extern crate std;

use std::vec;
use std::vec::Vec;

use super::*;
use crate::{Level, Operation, Simd};

struct Wild<'a>(&'a RansTable, &'a DecodeWindow, &'a EncodeWindow, usize);

impl Operation for Wild<'_> {
    type Output = ();

    fn run<S: Simd>(self, simd: S) {
        let Wild(table, to_decode, to_encode, number) = self;
        let (mut words, mut symbols) = ([[7; 2]; 64], [[120; LANES]; 2]);
        let mut streams =
            [Stream { states: [START_STATE; LANES], words: &words, left: number, symbols: &mut symbols }];
        let slots = [0; 1 << 12];
        let tables = DecodeTables { slots: &slots, scale_bits: 10, ranks: Some(table), window: None };
        assert_eq!(simd.decode_rans(tables, &mut streams), 0);
        assert_eq!(simd.decode_rans(DecodeTables { ranks: None, ..tables }, &mut streams), 0);
        let tables = DecodeTables { ranks: None, window: Some(to_decode), ..tables };
        assert_eq!(simd.decode_rans(tables, &mut streams), 0);
        let mut blocks =
            [Writing { states: [START_STATE; LANES], symbols: &symbols, words: &mut words, used: number }];
        let entries = [600 - 1; 256];
        let tables = EncodeTables { entries: &entries, scale_bits: 10, ranks: Some(table), window: None };
        assert_eq!(simd.encode_rans(tables, &mut blocks), 0);
        assert_eq!(simd.encode_rans(EncodeTables { ranks: None, ..tables }, &mut blocks), 0);
        let tables = EncodeTables { ranks: None, window: Some(to_encode), ..tables };
        assert_eq!(simd.encode_rans(tables, &mut blocks), 0);
        assert_eq!(words, [[7; 2]; 64]);
    }
}

#[test]
fn numbers_that_lie_about_the_words_run_no_step_on_any_level() {
    let mut frequencies = [0; 256];
    (frequencies[120], frequencies[121]) = (600, 424);
    let table = RansTable::new(&frequencies, 10).unwrap();
    let to_decode = DecodeWindow::new(&frequencies, 10).unwrap();
    let to_encode = EncodeWindow::new(&frequencies, 10).unwrap();
    for number in [33, 64, 65, usize::MAX - 63, usize::MAX - 31, usize::MAX - 8, usize::MAX] {
        for level in Level::all() {
            level.dispatch(Wild(&table, &to_decode, &to_encode, number));
        }
    }
}

/// splitmix64
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Frequencies of different kinds, with their sum: of so many symbols, alike or halving from one to
/// the next on both sides.
fn alphabet(symbols: usize, halving: bool, scale_bits: u32, seed: &mut u64) -> [u16; 256] {
    let mut frequencies = [0; 256];
    let first = random(seed) as usize % (257 - symbols);
    let peak = random(seed) as usize % symbols;
    let mut left = (1u32 << scale_bits) - symbols as u32;
    frequencies[first..first + symbols].fill(1);
    if halving {
        // From the peak outwards: half of what is left to each in turn.
        for distance in 1..symbols {
            for symbol in [peak.checked_sub(distance), Some(peak + distance)].into_iter().flatten() {
                let share = left / 4;
                if symbol < symbols && share > 0 {
                    frequencies[first + symbol] += share as u16;
                    left -= share;
                }
            }
        }
    } else {
        let each = left / symbols as u32;
        frequencies[first..first + symbols].iter_mut().for_each(|frequency| *frequency += each as u16);
        left -= each * symbols as u32;
    }
    frequencies[first + peak] += left as u16;
    frequencies
}

/// What the specification says, lane by lane: the states and the words of these steps.
fn encode(frequencies: &[u16; 256], scale_bits: u32, steps: &[[u8; LANES]]) -> ([u32; LANES], Vec<[u8; 2]>) {
    let (mut states, mut words) = ([START_STATE; LANES], Vec::new());
    for step in steps {
        for (state, &symbol) in states.iter_mut().zip(step) {
            let (before, from) = frequencies.split_at(symbol.into());
            let (start, frequency) = (u32::from(before.iter().sum::<u16>()), u32::from(from[0]));
            if *state >= frequency << (31 - scale_bits) {
                words.push((*state as u16).to_le_bytes());
                *state >>= 16;
            }
            *state = ((*state / frequency) << scale_bits) + *state % frequency + start;
        }
    }
    (states, words)
}

/// Encodes and decodes the steps as two blocks in turn, with and without each kind of table.
struct RoundTrip<'a> {
    frequencies: &'a [u16; 256],
    scale_bits: u32,
    steps: &'a [[u8; LANES]],
    level: Level,
}

impl Operation for RoundTrip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let RoundTrip { frequencies, scale_bits, steps, level } = self;
        let (states, words) = encode(frequencies, scale_bits, steps);
        let (mut entries, mut slots, mut slot) = ([NO_ENTRY; 256], [0; 1 << 12], 0u32);
        for (symbol, &frequency) in frequencies.iter().enumerate().filter(|(_, frequency)| **frequency > 0) {
            let frequency = u32::from(frequency);
            entries[symbol] = slot << 12 | (frequency - 1);
            for offset in 0..frequency {
                slots[slot as usize] = offset << 20 | (frequency - 1) << 8 | symbol as u32;
                slot += 1;
            }
        }
        let ranks = RansTable::new(frequencies, scale_bits);
        // However bad: what they do not know has to be found elsewhere.
        let to_decode = DecodeWindow::with_misses(frequencies, scale_bits).map(|(window, _)| window);
        let to_encode = EncodeWindow::with_misses(frequencies, scale_bits).map(|(window, _)| window);
        for (with_ranks, with_window) in [(false, false), (true, false), (false, true), (true, true)] {
            let ranks = ranks.as_ref().filter(|_| with_ranks);
            let context = (level, scale_bits, with_ranks, with_window);

            let window = to_encode.as_ref().filter(|_| with_window);
            let tables = EncodeTables { entries: &entries, scale_bits, ranks, window };
            let mut room = [vec![[0; 2]; LANES * steps.len() + 64], vec![[0; 2]; LANES * steps.len() + 64]];
            let mut blocks = room.each_mut().map(|words| Writing {
                states: [START_STATE; LANES],
                symbols: steps,
                words,
                used: 0,
            });
            let run = simd.encode_rans(tables, &mut blocks);
            assert!(!S::RANS || run == steps.len(), "{context:?}: {run}");
            for block in blocks.iter().filter(|_| S::RANS) {
                assert_eq!((block.states, &block.words[..block.used]), (states, &words[..]), "{context:?}");
            }

            let window = to_decode.as_ref().filter(|_| with_window);
            let tables = DecodeTables { slots: &slots, scale_bits, ranks, window };
            let mut found = [vec![[0; LANES]; steps.len()], vec![[0; LANES]; steps.len()]];
            // Some words before those of the block, so that all steps have as many as they ask for.
            let mut padded = vec![[0; 2]; LANES];
            padded.extend(&words);
            padded.extend([[0; 2]; LANES]);
            let mut streams = found.each_mut().map(|symbols| Stream {
                states,
                words: &padded,
                left: LANES + words.len(),
                symbols,
            });
            let run = simd.decode_rans(tables, &mut streams);
            assert!(!S::RANS || run == steps.len(), "{context:?}: {run}");
            for stream in &streams {
                assert!(
                    !S::RANS || (stream.left, stream.states) == (LANES, [START_STATE; LANES]),
                    "{context:?}"
                );
            }
            for found in found.iter().filter(|_| S::RANS) {
                assert_eq!(found, steps, "{context:?}");
            }
        }
    }
}

#[test]
fn every_table_gives_what_the_specification_says_on_every_level_for_any_alphabet() {
    let mut seed = 1;
    let sizes = if cfg!(miri) { &[3, 17][..] } else { &[1, 2, 3, 15, 16, 17, 30, 40, 64, 65, 100, 255, 256] };
    for scale_bits in 9..=12 {
        for &symbols in sizes {
            for halving in [false, true] {
                let frequencies = alphabet(symbols, halving, scale_bits, &mut seed);
                assert_eq!(frequencies.iter().sum::<u16>(), 1 << scale_bits);
                let all: Vec<u8> = (0..=255u8)
                    .flat_map(|symbol| (0..frequencies[usize::from(symbol)]).map(move |_| symbol))
                    .collect();
                // As frequent as their frequencies say; in every fourth step, all equally.
                let used: Vec<u8> =
                    (0..=255).filter(|symbol| frequencies[usize::from(*symbol)] > 0).collect();
                let mut step = |number: usize| {
                    let from = if number % 4 == 3 { &used } else { &all };
                    core::array::from_fn(|_| from[random(&mut seed) as usize % from.len()])
                };
                let steps: Vec<[u8; LANES]> = (0..if cfg!(miri) { 4 } else { 100 }).map(&mut step).collect();
                for level in Level::all() {
                    level.dispatch(RoundTrip { frequencies: &frequencies, scale_bits, steps: &steps, level });
                }
            }
        }
    }
}

/// Encodes two blocks, the second of which has a symbol without a frequency in its sixth step.
struct Unknown;

impl Operation for Unknown {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut frequencies = [0; 256];
        (frequencies[120], frequencies[121]) = (600, 424);
        let mut entries = [NO_ENTRY; 256];
        (entries[120], entries[121]) = (600 - 1, 600 << 12 | (424 - 1));
        let known = [core::array::from_fn(|lane| 120 + lane as u8 % 2); 9];
        let (states, words) = encode(&frequencies, 10, &known[..5]);
        let ranks = RansTable::new(&frequencies, 10);
        let window = EncodeWindow::new(&frequencies, 10);
        // Next to those that have one, and far from them.
        for (symbol, lane) in [(119, 0), (122, 31), (0, 16), (255, 7)] {
            let mut unknown = known;
            unknown[5][lane] = symbol;
            for (ranks, window) in [(None, None), (ranks.as_ref(), None), (None, window.as_ref())] {
                let tables = EncodeTables { entries: &entries, scale_bits: 10, ranks, window };
                let mut room = [[[0; 2]; 9 * LANES + 64]; 2];
                let [first, second] = &mut room;
                let mut blocks = [(&known, first), (&unknown, second)].map(|(symbols, words)| Writing {
                    states: [START_STATE; LANES],
                    symbols,
                    words,
                    used: 0,
                });
                let run = simd.encode_rans(tables, &mut blocks);
                assert_eq!(run, if S::RANS { 5 } else { 0 });
                for block in blocks.iter().filter(|_| S::RANS) {
                    assert_eq!((block.states, &block.words[..block.used]), (states, &words[..]));
                    assert_eq!(block.symbols.len(), 4);
                }
            }
        }
    }
}

#[test]
fn encoding_stops_before_a_symbol_without_a_frequency_on_every_level() {
    Level::all().for_each(|level| level.dispatch(Unknown));
}

#[test]
fn quotients_by_reciprocals_are_right_or_one_too_little() {
    for scale_bits in 10..=12 {
        for frequency in 1..1u16 << scale_bits {
            let limit = u32::from(frequency) << (31 - scale_bits);
            let mut seed = u64::from(frequency);
            let near = (0..20)
                .map(|_| random(&mut seed) as u32 % limit / u32::from(frequency) * u32::from(frequency));
            let at = near.flat_map(|multiple| [multiple.saturating_sub(1), multiple]);
            for x in at.chain([0, limit - 1, limit - u32::from(frequency)]) {
                let quotient = (x as f32 * reciprocal(frequency)) as u32;
                let right = x / u32::from(frequency);
                assert!(quotient == right || quotient + 1 == right, "{x} / {frequency}: {quotient}");
            }
        }
    }
}

#[test]
fn windows_are_made_where_few_symbols_are_outside_them() {
    let mut seed = 2;
    for scale_bits in 10..=12 {
        let few = alphabet(16, true, scale_bits, &mut seed);
        assert!(EncodeWindow::new(&few, scale_bits).is_some());
        let alike = alphabet(100, false, scale_bits, &mut seed);
        assert!(DecodeWindow::new(&alike, scale_bits).is_none());
        assert!(EncodeWindow::new(&alike, scale_bits).is_none());
    }
    // Exponents of weights, 26 of them, of which the most lie between 111 and 126.
    let mut weights = [0; 256];
    weights[101..127].copy_from_slice(&[
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 33, 66, 131, 260, 497, 866, 1180, 867, 152, 2, 1,
    ]);
    assert_eq!(weights.iter().sum::<u16>(), 1 << 12);
    assert!(DecodeWindow::new(&weights, 12).is_some());
    assert!(EncodeWindow::new(&weights, 12).is_some());
}
