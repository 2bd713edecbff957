//! Laws of dictionaries and their chunks: core against the reference, in both directions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;

use df11::hazmat::dictionary::{CHUNK, DecodeTable, EncodeTable, Model, Width, codes_bound};
use df11::{Error, ErrorKind};
use df11_reference::dictionary as reference;
use df11_tests::cases;
use df11_tests::weights::Random;
use proptest::prelude::*;

const WIDTHS: [Width; 2] = [Width::Eight, Width::Twelve];

fn counts(symbols: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
    counts
}

fn to_reference(model: &Model) -> reference::Model {
    let costs: BTreeMap<u8, (u64, u64)> = (0..=u8::MAX)
        .zip(model.first_costs().iter().zip(model.following_costs()))
        .filter(|(_, (first, _))| **first > 0)
        .map(|(symbol, (first, following))| (symbol, (u64::from(*first), u64::from(*following))))
        .collect();
    let (l, r) = (u64::from(model.limit()), usize::from(model.remainder()));
    reference::Model { w: u32::from(model.width().bits()), costs, l, r }
}

fn table(model: &Model) -> Box<DecodeTable<4096>> {
    let mut table = Box::new(DecodeTable::new());
    table.build(model).unwrap();
    table
}

/// Returns the string that an entry of a decoding table stands for.
fn string(entry: u64) -> Vec<u8> {
    let bytes = entry.to_le_bytes();
    assert!(bytes[7].is_multiple_of(8) && (8..=56).contains(&bytes[7]));
    let (string, rest) = bytes[..7].split_at(usize::from(bytes[7] / 8));
    assert!(rest.iter().all(|byte| *byte == 0));
    string.to_vec()
}

/// Decodes a chunk, and also with the small table if its codes are small.
fn decode(model: &Model, codes: &[u8], len: usize) -> Result<Vec<u8>, Error> {
    let mut symbols = vec![0xaa; len];
    let result = table(model).decode_into(codes, &mut symbols).map(|()| symbols);
    if model.width() == Width::Eight {
        let mut small = DecodeTable::<256>::new();
        small.build(model).unwrap();
        let mut symbols = vec![0x55; len];
        assert_eq!(small.decode_into(codes, &mut symbols).map(|()| symbols), result);
    }
    result
}

/// Generates up to a chunk of symbols from an alphabet of any size. All are equally frequent, or
/// each is a little or much rarer than the previous one.
fn chunks() -> impl Strategy<Value = Vec<u8>> {
    let lengths = prop_oneof![1usize..40, Just(CHUNK - 1), Just(CHUNK), 1usize..=CHUNK];
    (lengths, 1u64..=256, any::<u64>(), 0u32..5, any::<u8>()).prop_map(|(len, k, seed, skew, first)| {
        let mut random = Random(seed);
        let mut next = || {
            let tries = (0..=skew * skew).map(|_| random.below(k)).min().unwrap_or(0);
            first.wrapping_add(tries as u8)
        };
        (0..len).map(|_| next()).collect()
    })
}

/// Any costs at all.
fn models() -> impl Strategy<Value = Option<Model>> {
    let symbols = prop_oneof![1u64..=256, Just(256)];
    (symbols, any::<u64>(), 1u64..=255, prop::sample::select(&WIDTHS[..]), any::<u16>(), any::<u16>())
        .prop_map(|(k, seed, highest, width, limit, remainder)| {
            let mut random = Random(seed);
            let (mut first, mut following) = ([0; 256], [0; 256]);
            for _ in 0..k {
                let symbol = random.below(256) as usize;
                first[symbol] = 1 + random.below(highest) as u8;
                following[symbol] = 1 + random.below(highest) as u8;
            }
            let limit = limit % (3 * highest as u16 + 3);
            let remainder = if seed.is_multiple_of(3) { remainder } else { remainder % 300 };
            match Model::new(width, &first, &following, limit, remainder) {
                Ok(model) => Some(model),
                Err(error) => {
                    assert_eq!(error, Error::DictionaryStrings { most: width.codes() });
                    let costs = (0..=u8::MAX).filter(|symbol| first[usize::from(*symbol)] > 0).map(|s| {
                        (s, (u64::from(first[usize::from(s)]), u64::from(following[usize::from(s)])))
                    });
                    let theirs = reference::Model {
                        w: u32::from(width.bits()),
                        costs: costs.collect(),
                        l: u64::from(limit),
                        r: usize::from(remainder),
                    };
                    assert_eq!(theirs.strings().unwrap_err().clause, "V-2.5");
                    None
                }
            }
        })
}

proptest! {
    // The reference takes a second for large alphabets.
    #![proptest_config(ProptestConfig::with_cases(cases(40)))]

    #[test]
    fn core_and_reference_make_the_same_model_of_counts_and_write_the_same(symbols in chunks()) {
        for width in WIDTHS {
            let counts = counts(&symbols);
            let model = Model::of_counts(&counts, width).unwrap();
            let theirs = reference::Model::of_counts(&counts, u32::from(width.bits()));
            prop_assert_eq!(&to_reference(&model), &theirs);
            let dictionary = reference::Dictionary::new(&theirs).unwrap();
            let mut codes = vec![0xaa];
            let groups = EncodeTable::new(&model).encode(&symbols, &mut codes).unwrap();
            prop_assert_eq!(codes.remove(0), 0xaa);
            prop_assert_eq!(codes.len(), groups * width.group_bytes());
            prop_assert!(codes.len() <= codes_bound(symbols.len(), width));
            prop_assert_eq!(&codes, &dictionary.encode(&symbols).unwrap());
            prop_assert_eq!(&decode(&model, &codes, symbols.len()).unwrap(), &symbols);
            prop_assert_eq!(&dictionary.decode(&codes, symbols.len()).unwrap(), &symbols);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(200)))]

    #[test]
    fn core_and_reference_make_the_same_strings_of_any_costs(model in models()) {
        let Some(model) = model else { return Ok(()) };
        let strings = to_reference(&model).strings().unwrap();
        prop_assert_eq!(model.strings(), strings.len());
        let table = table(&model);
        let entries = table.dictionary().unwrap().entries();
        prop_assert_eq!(entries.len(), model.width().codes());
        for (number, entry) in entries.iter().enumerate() {
            prop_assert_eq!(&string(*entry), strings.get(number).unwrap_or(&strings[0]));
        }
    }

    #[test]
    fn core_and_reference_give_the_same_verdict_on_any_codes(
        symbols in chunks(),
        width in prop::sample::select(&WIDTHS[..]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        (resize, len) in (0usize..12, 0usize..8),
    ) {
        let model = Model::of_counts(&counts(&symbols), width).unwrap();
        let dictionary = reference::Dictionary::new(&to_reference(&model)).unwrap();
        let mut codes = dictionary.encode(&symbols).unwrap();
        for (at, value) in &damage {
            let at = at.index(codes.len());
            codes[at] = *value;
        }
        // One group more or less, filled with arbitrary bytes; another number of symbols.
        let last = codes.last().copied().unwrap_or(0);
        match resize {
            0 => codes.truncate(codes.len() - width.group_bytes()),
            1 => codes.resize(codes.len() + width.group_bytes(), last),
            2 => codes.resize(codes.len() + 40 * width.group_bytes(), 0),
            _ => {}
        }
        let len = match len {
            0 => symbols.len() + 1,
            1 => symbols.len().saturating_sub(1),
            2 => symbols.len() / 2,
            _ => symbols.len(),
        };
        let len = len.clamp(1, CHUNK);
        match (decode(&model, &codes, len), dictionary.decode(&codes, len)) {
            (Ok(found), Ok(expected)) => prop_assert_eq!(found, expected),
            (Err(error), Err(_)) => {
                prop_assert_eq!(error.clause(), Some("V-3.3"));
                prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
            }
            (found, expected) => prop_assert!(false, "{:?} {:?}", found.map(|_| ()), expected.map(|_| ())),
        }
    }
}

#[test]
fn the_symbols_of_every_code_are_never_written_past_the_chunk() {
    // Strings of seven symbols each. If fewer symbols are expected, damaged codes go past the end
    // by the largest possible distance.
    let mut one = [0; 256];
    one[9] = 1;
    for width in WIDTHS {
        let model = Model::of_counts(&one, width).unwrap();
        assert_eq!(model.strings(), 7);
        let group = [[6], [0x5a]].map(|[byte]: [u8; 1]| vec![byte; width.group_bytes()]).concat();
        for len in [1, 6, 7, 55, 56, 57, 100, CHUNK] {
            for groups in [1, 2, 3, 74, 512] {
                let codes = group.repeat(groups)[..groups * width.group_bytes()].to_vec();
                let mut symbols = vec![0x77; len + 200];
                let _ = table(&model).decode_into(&codes, &mut symbols[..len]);
                assert!(symbols[len..].iter().all(|byte| *byte == 0x77), "{len} {groups}");
            }
        }
    }
}

#[test]
fn the_worked_example_of_the_specification_is_right() {
    let mut counts = [0; 256];
    [(7, 12), (9, 3), (200, 1)].iter().for_each(|(symbol, count): &(usize, u64)| counts[*symbol] = *count);
    let model = Model::of_counts(&counts, Width::Eight).unwrap();
    let costs = [7, 9, 200].map(|s: usize| (model.first_costs()[s], model.following_costs()[s]));
    assert_eq!(costs, [(12, 7), (31, 39), (46, 64)]);
    assert_eq!((model.limit(), model.remainder(), model.strings()), (136, 14, 256));
    for (width, expected) in [
        (Width::Eight, &[1, 5, 0, 6, 0, 0, 0, 0][..]),
        (Width::Twelve, &[0x01, 0x50, 0, 0, 0x60, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let model = Model::new(width, model.first_costs(), model.following_costs(), 37, 1).unwrap();
        let strings: [&[u8]; 7] = [&[7], &[7, 7], &[7, 7, 7], &[7, 7, 7, 7], &[9], &[9, 7], &[200]];
        assert_eq!(to_reference(&model).strings().unwrap(), strings);
        let mut codes = Vec::new();
        EncodeTable::new(&model).encode(&[7, 7, 9, 7, 7, 200], &mut codes).unwrap();
        assert_eq!(codes, expected);
        assert_eq!(decode(&model, expected, 6).unwrap(), [7, 7, 9, 7, 7, 200]);
    }
}

#[test]
fn what_the_caller_gets_wrong_is_no_damage() {
    let model = Model::of_counts(&counts(b"abracadabra"), Width::Twelve).unwrap();
    let mut small = DecodeTable::<256>::new();
    let error = small.build(&model).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(small.decode_into(&[0; 12], &mut [0]), Err(Error::NoSymbols));
    assert_eq!(table(&model).decode_into(&[0; 12], &mut []), Err(Error::NoSymbols));
    let error = table(&model).decode_into(&[0; 12], &mut [0; CHUNK + 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let encoder = EncodeTable::new(&model);
    assert_eq!(encoder.encode(&[], &mut Vec::new()), Err(Error::NoSymbols));
    assert!(encoder.encode(&[b'a'; CHUNK + 1], &mut Vec::new()).is_err());
    let error = encoder.encode(b"abraxas", &mut Vec::new()).unwrap_err();
    assert_eq!(error, Error::NoFrequency { symbol: b'x', index: 4 });
    assert_eq!(Model::of_counts(&[0; 256], Width::Eight), Err(Error::NoSymbols));
    let mut costs = [0; 256];
    assert_eq!(Model::new(Width::Eight, &costs, &costs, 0, 0), Err(Error::NoSymbols));
    let none = costs;
    costs[3] = 1;
    assert_eq!(Model::new(Width::Eight, &costs, &none, 0, 0), Err(Error::SymbolCost { symbol: 3 }));
}
