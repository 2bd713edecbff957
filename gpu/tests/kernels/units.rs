//! Units: `df11_decode`.

use df11::{EncodedUnit, Unit, encode};
use df11_emulator::{Kind, Options};
use df11_gpu::kernels::DF11_DECODE;
use df11_gpu_lab::emulate::{self, NOTHING_WRONG, has_right_lengths};
use df11_judge::vectors::{Outcome, Task, Vectors, unit};
use df11_tests::weights::{Random, bytes, like_trained};
use df11_tests::{cases, part};

use crate::support::{
    DF11, df11_decode, is_clean, is_harmless, is_harmless_but_for, options, weights, without_line,
};

#[test]
fn df11_kernels_decode_every_vector() {
    for (task, test) in Vectors::load().unwrap().tests() {
        let tensors = test.tensors().unwrap();
        let (Task::UnitDecode, Some(parts)) = (task, unit(&tensors)) else { continue };
        if !has_right_lengths(&parts) {
            continue;
        }
        let number = test.tc_id as u64;
        let (target, module) = &DF11[test.tc_id % 4];
        let (found, report) = df11_decode(module, &parts, 1 + number as u32 % 5, 0, &options(number / 4));
        if test.result == Outcome::Invalid {
            // Output positions that overlap send two blocks to the same weights.
            let overlaps = test.clauses.iter().any(|clause| clause.starts_with("D-8."));
            let expected: &[Kind] = if overlaps { &[Kind::Race] } else { &[] };
            is_harmless_but_for(&report, &test.id, expected);
            continue;
        }
        is_clean(&report, &test.id);
        let unit = Unit::new(parts).unwrap();
        let mut expected = vec![0; 2 * unit.len()];
        unit.decode_into(&mut expected).unwrap();
        assert!(found == expected, "{}: {target}", test.id);
    }
}

#[test]
fn df11_kernels_decode_generated_units_on_any_grid_and_at_any_address() {
    let mut random = Random(3);
    for round in 0..cases(40) as usize {
        let weights = weights(&mut random);
        let encoded = encode(&weights).unwrap();
        let (target, module) = &DF11[round % 4];
        let skipped = [0, 16, 1, 8][random.below(4) as usize];
        let (found, report) = df11_decode(
            module,
            &encoded.as_slices(),
            1 + round as u32 % 3,
            skipped,
            &options(round as u64 / 4),
        );
        is_clean(&report, target);
        assert!(found == weights, "round {round}: {target}");
    }
}

#[test]
fn df11_kernels_stay_in_bounds_and_end_whatever_the_parts_hold() {
    let mut random = Random(4);
    for round in 0..cases(60) as usize {
        let mut encoded: EncodedUnit = encode(&weights(&mut random)).unwrap();
        for _ in 0..1 + random.below(4) {
            let part = part(&mut encoded, random.below(5) as usize);
            let at = random.below(part.len() as u64) as usize;
            let len = 1 + random.below(40).min((part.len() - at) as u64 - 1) as usize;
            part[at..at + len].iter_mut().for_each(|byte| *byte = random.next() as u8);
        }
        let (target, module) = &DF11[round % 4];
        let tensors = encoded.as_slices();
        let (_, report) = df11_decode(module, &tensors, 2, 0, &options(round as u64 / 4));
        is_harmless(&report, &format!("round {round}: {target}"));
    }
}

#[test]
fn units_of_every_size_are_decoded_in_one_launch_each_to_its_own_place() {
    let mut random = Random(5);
    for round in 0..cases(12) as usize {
        let all: Vec<Vec<u8>> = (0..1 + round % 5).map(|_| weights(&mut random)).collect();
        let units: Vec<_> = all.iter().map(|weights| encode(weights).unwrap()).collect();
        let tensors: Vec<_> = units.iter().map(EncodedUnit::as_slices).collect();
        let (target, module) = &DF11[round % 4];
        let (grid, skipped) = (1 + round as u32 % 7, [0, 16, 1, 8, 2, 3][round % 6]);
        let (found, status, report) =
            emulate::units(module, &tensors, grid, skipped, &options(round as u64)).unwrap();
        is_clean(&report, target);
        assert!(found == all, "round {round}: {target}");
        assert!(status.iter().all(|status| *status == NOTHING_WRONG));
    }
}

#[test]
fn the_table_of_the_host_and_that_of_the_kernel_decode_alike_whatever_the_parts_hold() {
    let mut random = Random(14);
    for round in 0..cases(40) as usize {
        let mut encoded: EncodedUnit = encode(&weights(&mut random)).unwrap();
        for _ in 0..1 + random.below(30) {
            let at = random.below(encoded.luts.len() as u64) as usize;
            encoded.luts[at] = random.next() as u8;
        }
        let (target, module) = &DF11[round % 4];
        let tensors = encoded.as_slices();
        let (expected, _) = df11_decode(module, &tensors, 2, 0, &options(round as u64));
        let (found, _, report) = emulate::units(module, &[tensors], 2, 0, &options(round as u64)).unwrap();
        is_harmless(&report, target);
        assert!(found == [expected], "round {round}: {target}");
    }
}

#[test]
fn units_with_too_few_symbols_are_told() {
    let weights = bytes(&like_trained(30_000, 1));
    let mut encoded = encode(&weights).unwrap();
    // The second block begins 5,000 elements late.
    let position = u32::from_le_bytes(encoded.output_positions[4..8].try_into().unwrap()) + 5000;
    encoded.output_positions[4..8].copy_from_slice(&position.to_le_bytes());
    for (target, module) in &*DF11 {
        let (_, status, report) =
            emulate::units(module, &[encoded.as_slices()], 2, 0, &Options::default()).unwrap();
        is_harmless(&report, target);
        assert_eq!(status, [1], "{target}");
    }
}

#[test]
fn every_barrier_of_the_df11_kernel_is_needed_and_is_missed() {
    let text = DF11_DECODE[2].text;
    let start = text.lines().position(|line| line.contains(".entry df11_decode(")).unwrap();
    let end = text.lines().skip(start).position(|line| line == "}").unwrap() + start;
    let barriers: Vec<usize> = text
        .lines()
        .enumerate()
        .filter(|(number, line)| (start..end).contains(number) && line.trim().starts_with("bar.sync"))
        .map(|(number, _)| number)
        .collect();
    assert!(barriers.len() >= 6, "{barriers:?}");
    // Three blocks. The last one needs the direct path.
    let mut weights = bytes(&like_trained(30_000, 1));
    weights.extend([0; 80_000]);
    let encoded = encode(&weights).unwrap();
    let mut right_all_the_same = 0;
    for line in barriers {
        // A table that has not been written yet has codewords of no bits.
        let options = Options { most_steps: 3_000_000, ..Options::default() };
        let (found, report) = without_line(line, &encoded.as_slices(), &options);
        let is_missed = |kind| matches!(kind, Kind::Race | Kind::RaceInWarp | Kind::UndefinedRead);
        let is_found = report.findings.iter().any(|finding| is_missed(finding.kind));
        assert!(is_found, "without the barrier of line {}: {:?}", line + 1, report.findings);
        right_all_the_same += usize::from(found == weights);
    }
    assert!(right_all_the_same >= 2, "{right_all_the_same}");
}
