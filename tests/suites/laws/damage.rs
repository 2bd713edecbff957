//! Damaged units give the same error, or the same weights, on every instruction set.

use std::iter;

use df11::hazmat::bits::BitReader;
use df11::{Unit, encode};
use df11_tests::weights::{Random, bytes, like_trained};
use df11_tests::{cases, part};
use proptest::prelude::*;

use crate::levels::{every_level_keeps_the_rules, runs};
use crate::support::{damaged_units, kinds_of_units};

#[test]
fn every_level_gives_the_same_error_for_every_kind_of_damage() {
    let mut random = Random(12);
    for (name, sound) in kinds_of_units() {
        for tried in 0..cases(20) {
            let mut unit = sound.clone();
            for _ in 0..=random.below(3) {
                // Tables, code and positions decide the result, so they are damaged more often than
                // the rest.
                let which = [0, 0, 1, 1, 1, 3, 3, 4, 2, 5][random.below(10) as usize];
                let tensor = part(&mut unit, which);
                if !tensor.is_empty() {
                    let at = random.below(tensor.len() as u64) as usize;
                    match random.below(3) {
                        0 => tensor[at] = random.next() as u8,
                        1 => tensor[at] ^= 1 << random.below(8),
                        _ => tensor[at] = tensor[at].wrapping_sub(1),
                    }
                }
            }
            let Ok(view) = Unit::new(unit.as_slices()) else { continue };
            let blocks = view.blocks();
            let (a, b) = (random.below(blocks as u64 + 1) as usize, random.below(blocks as u64 + 1) as usize);
            let runs = [0..blocks, a.min(b)..a.max(b), b..blocks];
            every_level_keeps_the_rules(&format!("{name}, damage {tried}"), &unit.as_slices(), runs);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(60)))]

    #[test]
    fn every_level_gives_the_same_error_for_any_damage(
        unit in damaged_units(),
    ) {
        if Unit::new(unit.as_slices()).is_ok() {
            every_level_keeps_the_rules("any damage", &unit.as_slices(), runs(&unit.as_slices()));
        }
    }
}

#[test]
fn blocks_that_hold_more_or_less_than_was_stated_are_errors_at_every_place() {
    // The position of each block but the first, moved by a little and by a lot; every run that
    // touches it.
    for blocks in [2, 4, 8] {
        let unit = encode(&bytes(&like_trained(12_300 * blocks, 1))).unwrap();
        let blocks = unit.as_unit().blocks();
        for block in 1..blocks {
            for by in [-9000i64, -300, -64, -1, 1, 64, 300, 9000] {
                let mut damaged = unit.clone();
                let position = &mut damaged.output_positions.as_chunks_mut::<4>().0[block];
                let moved = i64::from(u32::from_le_bytes(*position)) + by;
                *position = u32::try_from(moved).unwrap().to_le_bytes();
                if Unit::new(damaged.as_slices()).is_ok() {
                    let runs = [0..blocks, 0..block, block - 1..block, block..block + 1];
                    every_level_keeps_the_rules(
                        &format!("block {block} by {by}"),
                        &damaged.as_slices(),
                        runs,
                    );
                }
            }
        }
    }
}

#[test]
fn tables_of_any_bytes_decode_alike_on_every_level() {
    let mut random = Random(13);
    let sound = encode(&bytes(&like_trained(40_000, 1))).unwrap();
    let mut decoded = 0;
    for round in 0..400 {
        let mut unit = sound.clone();
        let tables = 1 + random.below(4) as usize;
        let mut luts = vec![[0u8; 256]; tables + 1];
        let alphabet = 1 + random.below(12);
        for table in &mut luts[..tables] {
            // Runs of the same value at any place, aligned as a codeword's or not; jumps in
            // between.
            let mut value = 0;
            for entry in table {
                if random.below(1 << (round % 7)) == 0 {
                    value = random.below(alphabet) as u8;
                    if random.below(9) == 0 && tables > 1 {
                        value = (256 - 1 - random.below(tables as u64 - 1)) as u8;
                    }
                }
                *entry = value;
            }
        }
        for length in &mut luts[tables][..alphabet as usize] {
            *length = (1 + random.below(8 * if round % 3 == 0 { tables as u64 } else { 1 })) as u8;
        }
        unit.luts = luts.concat();
        // At the end of a block, arbitrary bytes would hardly fit. The unit is therefore a single
        // block, truncated to the elements that the code happens to hold.
        unit.encoded_exponent.truncate(1 + random.below(4000) as usize);
        unit.gaps.truncate(320);
        let len = unit.encoded_exponent.len();
        let reader = |bit| BitReader::at(&unit.encoded_exponent, bit).peek(32);
        let tables = df11::hazmat::huffman::PrefixTables::new(&unit.luts).unwrap();
        let (mut bit, mut n) = (0, 0);
        while let Ok((_, length)) = tables.decode(reader(bit), bit)
            && bit + u64::from(length) <= 8 * len as u64
        {
            bit += u64::from(length);
            n += 1;
        }
        if n == 0 || n > 40_000 {
            continue;
        }
        unit.encoded_exponent.truncate(bit.div_ceil(8) as usize);
        unit.sign_mantissa.truncate(n);
        unit.output_positions = [0u32.to_le_bytes(), (n as u32).to_le_bytes()].concat();
        if let Ok(view) = Unit::new(unit.as_slices()) {
            decoded += usize::from(view.decode_into(&mut vec![0; 2 * n]).is_ok());
            every_level_keeps_the_rules(&format!("round {round}"), &unit.as_slices(), iter::once(0..1));
        }
    }
    assert!(decoded > 50, "only {decoded} of these units were sound");
}
