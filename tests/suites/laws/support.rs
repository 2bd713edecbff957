//! Generated and constructed units, and the laws that every one of them must satisfy.

use std::sync::LazyLock;

use df11::hazmat::huffman::{CodeLengths, FIRST_JUMP};
use df11::{EncodeOptions, EncodedUnit, Parts, Plan, bf16, encode};
use df11_tests::weights::{Random, bytes, fibonacci_exponents, like_trained, with_exponents};
use df11_tests::{fixtures, foreign, part};
use proptest::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Generates any bit pattern that the layout can hold.
pub(crate) fn representable() -> impl Strategy<Value = u16> {
    any::<u16>().prop_map(|w| if bf16::exponent(w) >= FIRST_JUMP { w & !(1 << 14) } else { w })
}

/// Generates units of one to five tensors, some empty, with flat, skewed or constant exponents.
pub(crate) fn units() -> impl Strategy<Value = Vec<Vec<u16>>> {
    let flat = prop::collection::vec(representable(), 0..600);
    let skewed = (0u8..200, 1u8..40, 0usize..6000, any::<u64>()).prop_map(|(first, spread, n, seed)| {
        let mut random = Random(seed);
        let mut exponent = || first + (random.next().trailing_ones() as u8).min(spread);
        let exponents: Vec<u8> = (0..n).map(|_| exponent()).collect();
        with_exponents(exponents, seed)
    });
    let constant = (representable(), 0usize..9000).prop_map(|(w, n)| vec![w; n]);
    prop::collection::vec(prop_oneof![flat, skewed, constant], 1..5)
        .prop_filter("a unit has elements", |tensors| tensors.iter().any(|tensor| !tensor.is_empty()))
}

/// Makes a unit with these code lengths, from symbol `first` on.
pub(crate) fn with_lengths(
    exponents: impl IntoIterator<Item = u8>,
    first: u8,
    lengths: &[u8],
) -> EncodedUnit {
    let all = bytes(&with_exponents(exponents, 11));
    let mut frequencies = [0; 256];
    bf16::add_to_histogram(&all, &mut frequencies).unwrap();
    let mut table = [0; 256];
    table[usize::from(first)..][..lengths.len()].copy_from_slice(lengths);
    let plan = Plan::with_lengths(&frequencies, 1, &CodeLengths::new(&table).unwrap()).unwrap();
    plan.encode(&[&all]).unwrap()
}

/// Copies the parts into owned memory.
pub(crate) fn owned(tensors: &Parts<&[u8]>) -> EncodedUnit {
    let mut unit = encode(&[0, 0]).unwrap();
    unit.luts = tensors.luts.to_vec();
    unit.encoded_exponent = tensors.encoded_exponent.to_vec();
    unit.sign_mantissa = tensors.sign_mantissa.to_vec();
    unit.output_positions = tensors.output_positions.to_vec();
    unit.gaps = tensors.gaps.to_vec();
    unit.split_positions = tensors.split_positions.to_vec();
    unit
}

/// Lengths 1, 2, ... 31, 32, 32.
pub(crate) fn steps() -> [u8; 33] {
    std::array::from_fn(|i| (i as u8 + 1).min(32))
}

/// Makes units that reach every part of the fast decoder: numbers of blocks around the numbers of
/// lanes, codewords of every length, blocks with very different numbers of elements, empty last
/// blocks, and units of other writers.
pub(crate) fn kinds_of_units() -> Vec<(String, EncodedUnit)> {
    let mut units = Vec::new();
    let mut add = |name: String, unit: EncodedUnit| units.push((name, unit));
    let ours = |weights: &[u16]| encode(&bytes(weights)).unwrap();

    for n in [1, 2, 63, 64, 65, 500, 1024, 5000, 12_000] {
        add(format!("{n} like trained"), ours(&like_trained(n, n as u64)));
    }
    // Some 12,500 to a block: one lane, three lanes, six, and what is left over.
    for blocks in [2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 20] {
        add(format!("{blocks} blocks"), ours(&like_trained(12_300 * blocks, blocks as u64)));
    }
    for n in [7, 32_767, 32_768, 32_769, 250_000] {
        add(format!("{n} alike"), ours(&vec![0x3f80; n]));
    }
    add("8 bits flat".to_owned(), with_lengths((0..50_000).map(|i| (i * 77 % 240) as u8), 0, &[8; 240]));
    // Codewords that just fit the table of many symbols, and those that do not. At most 16 tables
    // follow the first.
    for (length, alphabet) in
        [(9, 32), (10, 64), (11, 128), (12, 240), (16, 240), (17, 30), (25, 26), (32, 240)]
    {
        let exponents = (0..20_000u32).map(|i| (i * 7 % alphabet) as u8);
        add(format!("{length} bits flat"), with_lengths(exponents, 0, &vec![length; alphabet as usize]));
    }
    let up_and_down = (0..33).chain((0..33).rev()).cycle();
    add("all lengths".to_owned(), with_lengths(up_and_down.take(25_000), 0, &steps()));
    // Every other codeword is a long one, so that hardly any turn ends as it would have without.
    let long = (0..30_000u32).map(|i| if i % 2 == 0 { 0 } else { 9 + (i % 24) as u8 });
    add("short and long in turn".to_owned(), with_lengths(long, 0, &steps()));
    // Blocks of 32,768 elements beside blocks of a thousand: the lanes end far apart.
    for period in [3000, 40_000, 150_000] {
        let exponents = (0..400_000u32).filter_map(|i| match i / period % 2 {
            0 => Some(0),
            _ if i % 30 == 0 => Some(29),
            _ => None,
        });
        add(format!("uneven by {period}"), with_lengths(exponents, 0, &steps()));
    }
    // The last codeword begins with the last bit of a block and ends with the first byte of the
    // next.
    for blocks in [1, 2, 3, 4, 6, 7, 12] {
        let exponents = std::iter::repeat_n(100, blocks * 32_768 - 1).chain([102]);
        let unit = with_lengths(exponents, 100, &[1, 2, 9]);
        assert_eq!(unit.as_unit().block_range(blocks).len(), 0);
        let mut short = unit.clone();
        short.output_positions.truncate(4 * (blocks + 1));
        assert!(short.as_unit().has_short_positions());
        add(format!("{blocks} blocks and a straddling codeword"), unit);
        add(format!("{blocks} blocks and a straddling codeword, short form"), short);
    }
    for (first, alphabet, swaps) in [(100, 17, 3), (0, 8, 4), (222, 18, 5), (90, 3, 6), (90, 1, 7)] {
        let exponents: Vec<u8> =
            fibonacci_exponents(first, alphabet, swaps).into_iter().cycle().take(60_000).collect();
        let unit =
            foreign::write(&with_exponents(exponents.clone(), swaps), &foreign::huffman(&exponents, swaps));
        add(format!("foreign, alphabet of {alphabet}"), owned(&unit.tensors()));
    }
    for fixture in fixtures::all() {
        add(format!("official, {}", fixture.name), fixture.with_unit(|tensors| owned(&tensors)));
    }
    units
}

/// The unit in the form of the reference.
pub(crate) fn to_reference(unit: &EncodedUnit) -> df11_reference::Unit {
    df11_reference::Unit {
        luts: unit.luts.clone(),
        encoded_exponent: unit.encoded_exponent.clone(),
        sign_mantissa: unit.sign_mantissa.clone(),
        output_positions: unit.output_positions.clone(),
        gaps: unit.gaps.clone(),
        split_positions: unit.split_positions.clone(),
    }
}

/// Generates units with one to three bytes changed, bits flipped, or parts truncated.
pub(crate) fn damaged_units() -> impl Strategy<Value = EncodedUnit> {
    let damage = (0usize..6, any::<prop::sample::Index>(), any::<u8>(), 0u8..3);
    (units(), prop::collection::vec(damage, 1..4)).prop_map(|(tensors, damages)| {
        let owned: Vec<Vec<u8>> = tensors.iter().map(|tensor| bytes(tensor)).collect();
        let parts: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
        let mut unit = EncodeOptions::new().encode(&parts).unwrap();
        for (which, at, value, how) in damages {
            let tensor = part(&mut unit, which);
            if !tensor.is_empty() {
                let at = at.index(tensor.len());
                match how {
                    0 => tensor[at] = value,
                    1 => tensor[at] ^= 1 << (value % 8),
                    _ => tensor.truncate(at),
                }
            }
        }
        unit
    })
}

/// Pools of one thread and of three.
pub(crate) fn pools() -> &'static [ThreadPool; 2] {
    static POOLS: LazyLock<[ThreadPool; 2]> = LazyLock::new(|| {
        [1, 3].map(|threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
    });
    &POOLS
}
