//! Small worlds of units, enumerated to the last: the reference and the core give the same verdict
//! and the same bits of each.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use df11::{Parts, Unit};
use rayon::prelude::*;

/// Three symbols, and what an entry says beside them: a jump to table 1, and one to nowhere.
const SYMBOLS: [u8; 3] = [100, 101, 102];
const JUMP: u8 = 255;
const NOWHERE: u8 = 250;

/// Returns whether the unit is taken, by both.
fn taken_alike(parts: &Parts<Vec<u8>>) -> bool {
    let view = Parts {
        luts: &parts.luts[..],
        encoded_exponent: &parts.encoded_exponent,
        sign_mantissa: &parts.sign_mantissa,
        output_positions: &parts.output_positions,
        gaps: &parts.gaps,
        split_positions: &parts.split_positions,
    };
    let core = Unit::new(view).and_then(|unit| {
        let mut weights = vec![0; 2 * unit.len()];
        unit.verify_blocks_into(0..unit.blocks(), &mut weights).map(|()| weights)
    });
    let reference = df11_reference::decode(&df11_reference::Unit {
        luts: parts.luts.clone(),
        encoded_exponent: parts.encoded_exponent.clone(),
        sign_mantissa: parts.sign_mantissa.clone(),
        output_positions: parts.output_positions.clone(),
        gaps: parts.gaps.clone(),
        split_positions: parts.split_positions.clone(),
    });
    match (&core, &reference) {
        (Ok(weights), Ok(expected)) => {
            assert!(expected.iter().flat_map(|weight| weight.to_le_bytes()).eq(weights.iter().copied()));
        }
        (Err(_), Err(_)) => {}
        (core, reference) => panic!("{core:?} and {reference:?} of {parts:?}"),
    }
    core.is_ok()
}

/// One block: `n` weights, this code, the gaps of two windows.
fn unit(luts: Vec<u8>, code: Vec<u8>, n: usize, gaps: [u8; 2]) -> Parts<Vec<u8>> {
    let mut bytes = vec![0; 320];
    bytes[0] = gaps[0] << 3 | gaps[1] >> 2;
    bytes[1] = gaps[1] << 6;
    Parts {
        luts,
        encoded_exponent: code,
        sign_mantissa: (0..n).map(|i| (37 * i) as u8).collect(),
        output_positions: [0, n as u32].iter().flat_map(|position| position.to_le_bytes()).collect(),
        gaps: bytes,
        split_positions: vec![],
    }
}

/// The number written with these digits, the last of them changing most often.
fn digits<const N: usize>(mut number: usize, base: usize) -> [usize; N] {
    let mut digits = [0; N];
    for digit in digits.iter_mut().rev() {
        (*digit, number) = (number % base, number / base);
    }
    digits
}

/// Every table of four quarters, each a symbol or a jump, with every second table of two halves and
/// every code length that is one of these.
#[test]
fn every_small_table_is_read_alike() {
    const VALUES: [u8; 5] = [SYMBOLS[0], SYMBOLS[1], SYMBOLS[2], JUMP, NOWHERE];
    const LENGTHS: [u8; 6] = [0, 1, 2, 8, 9, 33];
    let taken = (0..5usize.pow(4) * 4 * 4).into_par_iter().map(|number| {
        let [a, b, c, d] = digits(number / 16, 5);
        let [e, f] = digits(number % 16, 4);
        let mut taken = 0;
        for lengths in 0..LENGTHS.len().pow(3) {
            let lengths = digits::<3>(lengths, LENGTHS.len()).map(|at| LENGTHS[at]);
            let mut luts = Vec::new();
            [a, b, c, d].iter().for_each(|at| luts.extend([VALUES[*at]; 64]));
            [e, f].iter().for_each(|at| luts.extend([VALUES[*at]; 128]));
            luts.extend([0; 256]);
            SYMBOLS
                .iter()
                .zip(lengths)
                .for_each(|(symbol, length)| luts[512 + usize::from(*symbol)] = length);
            // Every quarter comes up where codewords have two bits, and with others most do.
            taken += usize::from(taken_alike(&unit(luts, vec![0b0001_1011, 0b1110_0100], 4, [0, 0])));
        }
        taken
    });
    let taken: usize = taken.sum();
    assert!(taken > 10_000, "{taken} were taken");
}

/// The canonical code of three lengths, the least of them 1: tables, and the codewords aligned to
/// the top of 32 bits.
fn code_of(lengths: [u8; 3]) -> (Vec<u8>, [u32; 3]) {
    use df11::hazmat::huffman::{CodeLengths, Codewords, PrefixTablesBuf};
    let mut all = [0; 256];
    SYMBOLS.iter().zip(lengths).for_each(|(symbol, length)| all[usize::from(*symbol)] = length);
    let code = Codewords::canonical(&CodeLengths::new(&all).unwrap()).unwrap();
    let luts = PrefixTablesBuf::build(&code).unwrap().as_bytes().to_vec();
    (luts, SYMBOLS.map(|symbol| code.bits(symbol) << (32 - code.len(symbol))))
}

/// Every code of lengths 1, `l` and `m`, every place near the end of window 0, and every two
/// codewords there; with the right gap of window 1, and with two wrong ones.
#[test]
fn every_pair_of_codewords_around_the_end_of_a_window_is_read_alike() {
    let pairs: Vec<[u8; 2]> = (2..=32).flat_map(|l| (l..=32).map(move |m| [l, m])).collect();
    let counts = pairs.par_iter().map(|[l, m]| {
        let lengths = [1, *l, *m];
        let (luts, codewords) = code_of(lengths);
        let (mut taken, mut refused) = (0, 0);
        for before in 33..=64 {
            for pair in 0..9 {
                let pair = digits::<2>(pair, 3);
                // The codeword of one bit is a zero.
                let (mut bits, mut at, mut starts) = (0u128, before, vec![]);
                for symbol in pair {
                    bits |= u128::from(codewords[symbol]) << 96 >> at;
                    starts.push(at);
                    at += usize::from(lengths[symbol]);
                }
                let code = bits.to_be_bytes()[..at.div_ceil(8)].to_vec();
                let right = starts.iter().find(|start| **start >= 64).map_or(0, |start| start - 64) as u8;
                for gap in [right, right ^ 1, right ^ 16] {
                    let parts = unit(luts.clone(), code.clone(), before + 2, [0, gap]);
                    let is_taken = taken_alike(&parts);
                    let means_nothing = starts.iter().all(|start| *start < 64);
                    let ends_before = code.len() <= 8;
                    // Lenient readers ignore the entry of a window that is not there (D-7.4).
                    assert_eq!(is_taken, gap == right || means_nothing || ends_before);
                    (taken, refused) = if is_taken { (taken + 1, refused) } else { (taken, refused + 1) };
                }
            }
        }
        (taken, refused)
    });
    let (taken, refused) = counts.reduce(|| (0, 0), |(a, b), (c, d)| (a + c, b + d));
    assert!(taken > 100_000 && refused > 100_000, "{taken} were taken, {refused} refused");
}

/// Every byte of code under the code of lengths 1, 2 and 2, with every number of elements, every
/// output position and every gap that such a byte may have, and some that it may not.
#[test]
fn every_byte_of_code_with_any_counts_is_read_alike() {
    let (luts, _) = code_of([1, 2, 2]);
    let taken = (0..=u8::MAX).into_par_iter().map(|byte| {
        let mut taken = 0;
        for n in 0..=9 {
            for (gap, more) in [(0, 0), (1, 0), (16, 0), (0, 1), (0, 7), (0, 8)] {
                for [first, last] in (0..100).map(|number| digits(number, 10)) {
                    let code = [&[byte][..], &vec![0xff; more]].concat();
                    let mut parts = unit(luts.clone(), code, n, [gap, 0]);
                    parts.output_positions =
                        [first, last].iter().flat_map(|position| (*position as u32).to_le_bytes()).collect();
                    let is_taken = taken_alike(&parts);
                    assert!(!is_taken || (first == 0 && last == n && n > 0));
                    taken += usize::from(is_taken);
                }
            }
        }
        taken
    });
    let taken: usize = taken.sum();
    assert!(taken > 1_000, "{taken} were taken");
}
