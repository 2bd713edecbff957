//! Any costs, symbols and codes: core makes the strings that the reference makes, writes its codes,
//! and gives its verdict.
#![no_main]
use std::collections::BTreeMap;

use df11::Error;
use df11::hazmat::dictionary::{CHUNK, DecodeTable, EncodeTable, Model, Width};
use df11_fuzz::{cut, settings};
use df11_reference::dictionary as reference;
use libfuzzer_sys::fuzz_target;

/// The most symbols whose model the reference makes of their counts, which takes long.
const ALPHABET: usize = 12;

fn to_reference(model: &Model) -> reference::Model {
    let costs = model.first_costs().iter().zip(model.following_costs());
    let costs: BTreeMap<u8, (u64, u64)> = (0..=u8::MAX)
        .zip(costs)
        .filter(|(_, (first, _))| **first > 0)
        .map(|(symbol, (first, following))| (symbol, (u64::from(*first), u64::from(*following))))
        .collect();
    let (l, r) = (u64::from(model.limit()), usize::from(model.remainder()));
    reference::Model { w: u32::from(model.width().bits()), costs, l, r }
}

/// A model of any costs (three bytes each: a symbol and its costs), or `None` if both sides refuse
/// it.
fn of_costs(costs: &[u8], width: Width, limit: u16, remainder: u16) -> Option<Model> {
    let (mut first, mut following) = ([0; 256], [0; 256]);
    for [symbol, a, b] in costs.as_chunks().0 {
        (first[usize::from(*symbol)], following[usize::from(*symbol)]) = (*a, *b);
    }
    match Model::new(width, &first, &following, limit, remainder) {
        Ok(model) => Some(model),
        Err(Error::DictionaryStrings { most }) => {
            assert_eq!(most, width.codes());
            let costs = (0..=u8::MAX).zip(first.iter().zip(&following)).filter(|(_, (a, _))| **a > 0);
            let costs = costs.map(|(s, (a, b))| (s, (u64::from(*a), u64::from(*b)))).collect();
            let (w, l, r) = (u32::from(width.bits()), u64::from(limit), usize::from(remainder));
            assert_eq!(reference::Model { w, costs, l, r }.strings().unwrap_err().clause, "V-2.5");
            None
        }
        Err(Error::SymbolCost { symbol }) => {
            let symbol = usize::from(symbol);
            assert!((first[symbol] == 0) != (following[symbol] == 0));
            None
        }
        Err(error) => {
            assert_eq!(error, Error::NoSymbols);
            assert!(first == [0; 256]);
            None
        }
    }
}

/// The verdict on codes, which must be that of the reference; nothing is written past the symbols.
fn decode(model: &Model, dictionary: &reference::Dictionary, codes: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut table = Box::new(DecodeTable::<4096>::new());
    table.build(model).unwrap();
    let mut symbols = vec![0xa5; len + 100];
    let (room, after) = symbols.split_at_mut(len);
    let found = table.decode_into(codes, room);
    assert!(after.iter().all(|byte| *byte == 0xa5));
    symbols.truncate(len);
    if !codes.len().is_multiple_of(model.width().group_bytes()) {
        assert!(matches!(found, Err(Error::ChunkGroups { .. })), "{found:?}");
        return None;
    }
    match (found, dictionary.decode(codes, len)) {
        (Ok(()), Ok(expected)) => assert!(symbols == expected),
        (Err(error), Err(_)) => assert_eq!(error.clause(), Some("V-3.3")),
        (found, expected) => panic!("core: {found:?}, reference: {:?}", expected.map(|_| ())),
    }
    found.is_ok().then_some(symbols)
}

fuzz_target!(|data: &[u8]| {
    let [control, costs, symbols, edits] = cut(data);
    let [how, l0, l1, r0, r1, len0, len1] = settings(control);
    let [is_wide, is_counted, is_any, is_other] = [1, 2, 4, 8].map(|bit| how & bit > 0);
    let width = if is_wide { Width::Twelve } else { Width::Eight };
    let symbols = &symbols[..symbols.len().min(CHUNK)];
    let mut counts = [0; 256];
    symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
    let model = if is_counted {
        let Ok(model) = Model::of_counts(&counts, width) else { return };
        if counts.iter().filter(|count| **count > 0).count() <= ALPHABET {
            let theirs = reference::Model::of_counts(&counts, u32::from(width.bits()));
            assert_eq!(to_reference(&model), theirs);
        }
        model
    } else {
        let (limit, remainder) = (u16::from_le_bytes([l0, l1]), u16::from_le_bytes([r0, r1]));
        let Some(model) = of_costs(costs, width, limit, remainder) else { return };
        model
    };
    let dictionary = reference::Dictionary::new(&to_reference(&model)).unwrap();
    assert_eq!(model.strings(), to_reference(&model).strings().unwrap().len());

    let (mut codes, mut len) = (Vec::new(), symbols.len());
    let encoded = EncodeTable::new(&model).encode(symbols, &mut codes);
    match dictionary.encode(symbols) {
        Ok(expected) if !symbols.is_empty() => {
            assert_eq!(encoded, Ok(expected.len() / width.group_bytes()));
            assert!(codes == expected);
            assert!(decode(&model, &dictionary, &codes, len).as_deref() == Some(symbols));
        }
        Ok(_) => assert_eq!(encoded, Err(Error::NoSymbols)),
        Err(_) => {
            let index = symbols.iter().position(|s| model.first_costs()[usize::from(*s)] == 0).unwrap();
            assert_eq!(encoded, Err(Error::NoFrequency { symbol: symbols[index], index }));
            codes.clear();
        }
    }
    // Other codes, or any; another number of symbols.
    if is_any {
        codes = edits.to_vec();
    } else {
        for [a, b, value] in edits.as_chunks().0.iter().take(20) {
            let at = usize::from(u16::from_le_bytes([*a, *b]));
            if let Some(code) = codes.len().checked_sub(1).and_then(|last| codes.get_mut(at % (last + 1))) {
                *code = *value;
            }
        }
    }
    if is_other {
        len = usize::from(u16::from_le_bytes([len0, len1]));
    }
    if (1..=CHUNK).contains(&len) {
        decode(&model, &dictionary, &codes, len);
    }
});
