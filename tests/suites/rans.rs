//! Laws of rANS blocks: core on every instruction set against the reference, in both directions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use df11::hazmat::rans::{
    DecodeBlock, DecodeTable, EncodeBlock, EncodeTable, Frequencies, LANES, STATES_BYTES, words_bound,
};
use df11::{Error, Level};
use df11_reference::rans as reference;
use df11_tests::cases;
use df11_tests::weights::Random;
use proptest::prelude::*;

/// Encodes with core: states and words. They are the same on every instruction set, alone and
/// beside other blocks of other lengths.
fn encode(frequencies: &Frequencies, symbols: &[u8]) -> ([u8; STATES_BYTES], Vec<u8>) {
    let table = EncodeTable::new(frequencies);
    let (mut states, mut words) = ([0; STATES_BYTES], vec![0xaa; words_bound(symbols.len())]);
    let used = table.encode_into(symbols, &mut states, &mut words).unwrap();
    words.truncate(used);
    for level in Level::all() {
        let mut several: Vec<_> = [symbols.len(), symbols.len().div_ceil(2), symbols.len(), symbols.len()]
            .map(|len| (&symbols[..len], [0; STATES_BYTES], vec![0x55; words_bound(len)]))
            .into();
        let block = |(symbols, states, words)| EncodeBlock { symbols, states, words, words_bytes: 0 };
        let mut blocks: Vec<_> = several
            .iter_mut()
            .map(|(symbols, states, words)| block((*symbols, states, words.as_mut_slice())))
            .collect();
        table.encode_blocks(level, &mut blocks).unwrap();
        for block in blocks.iter().filter(|block| block.symbols.len() == symbols.len()) {
            assert_eq!(block.words[..block.words_bytes], words, "{}", level.name());
            assert_eq!(*block.states, states, "{}", level.name());
        }
    }
    (states, words)
}

/// Decodes on every instruction set, with nothing and with junk after the words, and beside another
/// block. All must agree.
fn decode(
    frequencies: &Frequencies,
    states: &[u8; STATES_BYTES],
    words: &[u8],
    len: usize,
) -> Result<Vec<u8>, Error> {
    let mut table = Box::new(DecodeTable::new());
    table.build(frequencies);
    let mut symbols = vec![0; len];
    let result = table.decode_into(states, words, &mut symbols).map(|()| symbols);
    let followed = [words, &[0x5a; 100]].concat();
    for level in Level::all() {
        for words_and_more in [words, &followed] {
            for blocks in 1..=3 {
                let mut outputs = vec![vec![0; len]; blocks];
                let block = |symbols| DecodeBlock {
                    states,
                    words: words_and_more,
                    words_bytes: words.len(),
                    symbols,
                };
                let mut blocks: Vec<_> =
                    outputs.iter_mut().map(|output| block(output.as_mut_slice())).collect();
                let found = table.decode_blocks(level, &mut blocks);
                match &result {
                    Ok(symbols) => {
                        assert_eq!(found, Ok(()), "{}", level.name());
                        assert!(outputs.iter().all(|output| output == symbols), "{}", level.name());
                    }
                    Err(error) => assert_eq!(found, Err(*error), "{}", level.name()),
                }
            }
        }
    }
    result
}

fn counts(symbols: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
    counts
}

fn to_reference(frequencies: &Frequencies) -> reference::Frequencies {
    let f = frequencies.as_array().map(u64::from);
    reference::Frequencies { scale_bits: u32::from(frequencies.scale_bits()), f }
}

fn block_of(states: &[u8; STATES_BYTES], words: &[u8]) -> reference::Block {
    let states = states.as_chunks::<4>().0;
    reference::Block {
        states: core::array::from_fn(|lane| u64::from(u32::from_le_bytes(states[lane]))),
        words: words.as_chunks::<2>().0.iter().map(|word| u16::from_le_bytes(*word)).collect(),
    }
}

/// Generates symbols like exponents of weights (few, the rare ones at both ends), or spread over
/// all bytes, or only one, or crowded in the middle.
fn blocks() -> impl Strategy<Value = Vec<u8>> {
    let geometric = (0u8..=255, 0usize..3000, any::<u64>(), 1u32..4).prop_map(|(first, len, seed, flat)| {
        let mut random = Random(seed);
        let mut next = || {
            let far = (random.next() >> (random.next() % u64::from(flat))).trailing_ones() as u8;
            if random.next().is_multiple_of(2) { first.wrapping_add(far) } else { first.wrapping_sub(far) }
        };
        (0..len).map(|_| next()).collect()
    });
    let any_bytes = prop::collection::vec(any::<u8>(), 0..2000);
    let one = (any::<u8>(), 1usize..3000).prop_map(|(symbol, len)| vec![symbol; len]);
    let crowded = (0usize..3000, any::<u64>()).prop_map(|(len, seed)| {
        let mut random = Random(seed);
        let mut next = || match random.next() % 40 {
            0 => 100 + (random.next() % 50) as u8,
            rest => {
                if rest < 20 {
                    90
                } else {
                    160
                }
            }
        };
        (0..len).map(|_| next()).collect()
    });
    prop_oneof![geometric, any_bytes, one, crowded]
        .prop_filter("a block has symbols", |symbols: &Vec<u8>| !symbols.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(300)))]

    #[test]
    fn core_and_reference_write_the_same_and_read_each_other(symbols in blocks(), scale_bits in 9u8..=12) {
        let frequencies = Frequencies::normalise(&counts(&symbols), scale_bits).unwrap();
        let theirs = reference::Frequencies::normalise(&counts(&symbols), u32::from(scale_bits));
        prop_assert_eq!(&to_reference(&frequencies), &theirs);
        let (states, words) = encode(&frequencies, &symbols);
        let block = reference::encode(&theirs, &symbols).unwrap();
        prop_assert_eq!(&block_of(&states, &words), &block);
        prop_assert_eq!(&reference::decode(&theirs, &block, symbols.len()).unwrap(), &symbols);
        prop_assert_eq!(decode(&frequencies, &states, &words, symbols.len()), Ok(symbols));
    }

    #[test]
    fn frequencies_fit_whatever_the_counts(counts in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u64>(), 0u64..1000], 256), scale_bits in 9u8..=12) {
        let counts: [u64; 256] = counts.try_into().unwrap();
        prop_assume!(counts.iter().any(|&count| count > 0));
        let frequencies = Frequencies::normalise(&counts, scale_bits).unwrap();
        let sum: u32 = frequencies.as_array().iter().map(|&frequency| u32::from(frequency)).sum();
        prop_assert_eq!(sum, 1 << scale_bits);
        for (&count, symbol) in counts.iter().zip(0..=255) {
            prop_assert_eq!(count > 0, frequencies.of(symbol) > 0);
        }
        prop_assert_eq!(Frequencies::new(frequencies.as_array(), scale_bits), Ok(frequencies));
    }

    #[test]
    fn damaged_blocks_give_the_verdict_of_the_reference(
        symbols in blocks(),
        scale_bits in 9u8..=12,
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8, 0u8..4), 1..4),
    ) {
        let frequencies = Frequencies::normalise(&counts(&symbols), scale_bits).unwrap();
        let (mut states, mut words) = encode(&frequencies, &symbols);
        let mut len = symbols.len();
        for (index, bit, what) in damage {
            match what {
                0 => states[index.index(STATES_BYTES)] ^= 1 << bit,
                1 if !words.is_empty() => { let at = index.index(words.len()); words[at] ^= 1 << bit }
                2 => words.truncate(2 * index.index(words.len() / 2 + 1)),
                _ => len = 1 + index.index(2 * len),
            }
        }
        let expected = reference::decode(&to_reference(&frequencies), &block_of(&states, &words), len);
        match (decode(&frequencies, &states, &words, len), expected) {
            (Ok(found), Ok(expected)) => prop_assert_eq!(found, expected),
            (Err(found), Err(expected)) => prop_assert_eq!(found.clause(), Some(expected.clause)),
            (found, expected) => prop_assert!(false, "{found:?} {expected:?}"),
        }
    }
}

#[test]
fn every_length_up_to_three_steps_round_trips_at_every_scale() {
    for scale_bits in 9..=12 {
        for len in 1..=3 * LANES + 1 {
            let symbols: Vec<u8> = (0..len).map(|i| 100 + (i * i % 7) as u8).collect();
            let frequencies = Frequencies::normalise(&counts(&symbols), scale_bits).unwrap();
            let (states, words) = encode(&frequencies, &symbols);
            assert_eq!(decode(&frequencies, &states, &words, len), Ok(symbols));
        }
    }
}

#[test]
fn a_block_of_one_symbol_takes_no_words() {
    let symbols = vec![255; 5000];
    let frequencies = Frequencies::normalise(&counts(&symbols), 12).unwrap();
    let (states, words) = encode(&frequencies, &symbols);
    assert!(words.is_empty());
    assert_eq!(decode(&frequencies, &states, &words, 5000), Ok(symbols));
}

#[test]
fn the_empty_table_is_that_of_one_symbol() {
    let mut symbols = [9; 100];
    let states: Vec<u8> = [1u32 << 15; LANES].iter().flat_map(|state| state.to_le_bytes()).collect();
    DecodeTable::new().decode_into(&states.try_into().unwrap(), &[], &mut symbols).unwrap();
    assert_eq!(symbols, [0; 100]);
}

#[test]
fn what_cannot_be_coded_is_refused() {
    let mut counts = [0; 256];
    assert_eq!(Frequencies::normalise(&counts, 12), Err(Error::NoSymbols));
    counts[3] = 1;
    assert_eq!(Frequencies::normalise(&counts, 8), Err(Error::ScaleBits { bits: 8 }));
    assert_eq!(Frequencies::normalise(&counts, 13), Err(Error::ScaleBits { bits: 13 }));
    let table = EncodeTable::new(&Frequencies::normalise(&counts, 12).unwrap());
    let (mut states, mut words) = ([0; STATES_BYTES], [0; 80]);
    assert_eq!(table.encode_into(&[], &mut states, &mut words), Err(Error::NoSymbols));
    let error = Error::NoFrequency { symbol: 4, index: 34 };
    let symbols: Vec<u8> = (0..40).map(|i| 3 + u8::from(i == 34)).collect();
    assert_eq!(table.encode_into(&symbols, &mut states, &mut words), Err(error));
    let error = Error::BufferLength { buffer: "words", expected: 82, found: 80 };
    assert_eq!(table.encode_into(&[3; 41], &mut states, &mut words), Err(error));
}
