//! Damaged units give an error, or other weights of the same number. They never cause a panic or an
//! access out of bounds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use df11::{Decoder, EncodeOptions, EncodedUnit, Level, Unit};
use df11_tests::part;
use df11_tests::weights::{Random, bytes, fibonacci_exponents, like_trained, with_exponents};

/// Uses a unit in every way, and returns whether all uses succeeded. The decoder with tables of
/// many symbols, which is not used for small units by default, runs on one instruction set. Each
/// call takes the next one.
fn exercise(unit: &EncodedUnit, out: &mut Vec<u8>, levels: &mut impl Iterator<Item = Level>) -> bool {
    let Ok(unit) = Unit::new(unit.as_slices()) else { return false };
    let mut content = true;
    out.clear();
    out.resize(4 * unit.len(), 0);
    let (fast, out) = out.split_at_mut(2 * unit.len());
    let decoder = Decoder::at_level(&unit, levels.next().unwrap_or(Level::best()));
    let whole = unit.decode_into(out);
    assert_eq!(decoder.decode_into(fast), whole);
    assert!(whole.is_err() || fast == out);
    content &= whole.is_ok();
    let verified = unit.verify_blocks_into(0..unit.blocks(), out);
    assert_eq!(decoder.verify_blocks_into(0..unit.blocks(), fast), verified);
    content &= verified.is_ok();
    let middle = unit.len() / 3..unit.len() - unit.len() / 5;
    content &= unit.decode_range_into(middle.clone(), &mut out[..2 * middle.len()]).is_ok();
    let covered: usize = unit.tensor_ranges().map(|range| range.len()).sum();
    assert_eq!(covered, unit.len());
    assert_eq!(unit.block_ranges().map(|range| range.len()).sum::<usize>(), unit.len());
    content
}

/// Small units of different kinds: like trained weights, with jumps, with several tensors, over
/// several blocks.
fn units() -> Vec<EncodedUnit> {
    let trained = bytes(&like_trained(300, 1));
    let (a, b) = trained.split_at(200);
    let long = bytes(&with_exponents(fibonacci_exponents(100, 14, 2), 2));
    let constant = bytes(&[0x3f80; 70]);
    [vec![a, b], vec![&long[..2 * 700]], vec![&constant]]
        .iter()
        .map(|parts| EncodeOptions::new().encode(parts).unwrap())
        .collect()
}

/// Cycles through the instruction sets of this machine.
fn levels() -> impl Iterator<Item = Level> {
    let levels: Vec<Level> = Level::all().collect();
    levels.into_iter().cycle()
}

#[test]
fn every_single_byte_corruption_is_an_error_or_in_bounds() {
    let (mut out, mut levels) = (Vec::new(), levels());
    for mut unit in units() {
        assert!(exercise(&unit, &mut out, &mut levels));
        for which in 0..6 {
            for at in 0..part(&mut unit, which).len() {
                let original = part(&mut unit, which)[at];
                for value in (0..=u8::MAX).filter(|value| *value != original) {
                    part(&mut unit, which)[at] = value;
                    exercise(&unit, &mut out, &mut levels);
                }
                part(&mut unit, which)[at] = original;
            }
        }
    }
}

#[test]
fn every_truncation_and_extension_is_an_error_or_in_bounds() {
    let (mut out, mut levels) = (Vec::new(), levels());
    for unit in units() {
        for which in 0..6 {
            let len = part(&mut unit.clone(), which).len();
            for cut in 0..len {
                let mut damaged = unit.clone();
                part(&mut damaged, which).truncate(cut);
                // If split positions lack entries, there are fewer tensors. No other part can lack
                // anything.
                let content = exercise(&damaged, &mut out, &mut levels);
                assert!(
                    !content || (which == 5 && cut % 8 == 0),
                    "tensor {which} cut to {cut} of {len} bytes"
                );
            }
            for more in [1, 2, 4, 8, 256, 320] {
                let mut damaged = unit.clone();
                part(&mut damaged, which).extend(vec![0; more]);
                // A split at 0 in a unit of one tensor puts an empty tensor before it.
                let content = exercise(&damaged, &mut out, &mut levels);
                // Code behind the last codeword is ignored (D-6.3), unless it needs gaps of another
                // block.
                let is_ignored = which == 1 && content;
                assert!(!is_ignored || damaged.decode() == unit.decode(), "{more} bytes of code more");
                assert!(
                    !content || is_ignored || (which == 5 && len == 0),
                    "tensor {which} with {more} bytes more"
                );
            }
        }
    }
}

#[test]
fn a_million_mutated_units_never_panic() {
    let mut random = Random(0xdf11);
    let units = units();
    let (mut out, mut levels) = (Vec::new(), levels());
    let (mut content, mut rounds) = (0, 0);
    while rounds < 1_000_000 {
        let mut unit = units[rounds % units.len()].clone();
        // One to eight damages at once, because single checks must not rely on one another.
        for _ in 0..=random.below(8) {
            let which = random.below(6) as usize;
            let tensor = part(&mut unit, which);
            if tensor.is_empty() {
                continue;
            }
            let at = random.below(tensor.len() as u64) as usize;
            match random.below(4) {
                0 => tensor[at] = random.next() as u8,
                1 => tensor[at] ^= 1 << random.below(8),
                2 => tensor.truncate(at),
                _ => tensor[at] = [0, 1, 0x7f, 0x80, 0xef, 0xf0, 0xff][random.below(7) as usize],
            }
        }
        content += usize::from(exercise(&unit, &mut out, &mut levels));
        rounds += 1;
    }
    // Damage to signs and mantissas alone cannot be detected; most other damage must be.
    assert!(content > 0 && content < rounds / 2, "{content} of {rounds} were accepted");
}
