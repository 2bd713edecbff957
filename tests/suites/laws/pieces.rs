//! The fast encoders: on every instruction set, whole and in pieces, they write the bytes of the
//! plan.

use df11::hazmat::huffman::CodeLengths;
use df11::{Counts, EncodeOptions, EncodedUnit, Encoder, Error, Level, Plan, bf16, encode};
use df11_tests::walk::walk;
use df11_tests::weights::{Random, bits, bytes, fibonacci_exponents, like_trained, with_exponents};
use df11_tests::{cases, part};
use proptest::prelude::*;

use crate::support::{pools, steps, to_reference, units};

/// Returns the histograms of the pieces of these tensors.
fn histograms(tensors: &[&[u8]], most: usize) -> Vec<[u64; 256]> {
    let histogram = |piece: &[u8]| {
        let mut frequencies = [0; 256];
        bf16::add_to_histogram(piece, &mut frequencies).unwrap();
        frequencies
    };
    let pieces = tensors.iter().flat_map(|tensor| tensor.chunks(most.saturating_mul(bf16::BYTES)));
    pieces.map(histogram).collect()
}

/// Counts of pieces of `most` weights that have these histograms.
fn counts(most: usize, histograms: &[[u64; 256]]) -> Counts {
    let mut counts = Counts::with_piece_len(most);
    histograms.iter().for_each(|histogram| counts.push(*histogram));
    counts
}

/// Makes buffers of the right sizes, full of bytes that must be overwritten.
fn dirty(plan: &Plan) -> EncodedUnit {
    let sizes = plan.sizes();
    let mut unit = encode(&[0, 0]).unwrap();
    unit.luts = vec![0xa5; sizes.luts];
    unit.encoded_exponent = vec![0xa5; sizes.encoded_exponent];
    unit.sign_mantissa = vec![0xa5; sizes.sign_mantissa];
    unit.output_positions = vec![0xa5; sizes.output_positions];
    unit.gaps = vec![0xa5; sizes.gaps];
    unit.split_positions = vec![0xa5; sizes.split_positions];
    unit
}

/// Encodes on every level, whole and in pieces, and compares the bytes.
fn every_level_encodes(tensors: &[Vec<u8>], plan: &Plan, mosts: &[usize]) {
    let parts: Vec<&[u8]> = tensors.iter().map(Vec::as_slice).collect();
    let expected = plan.encode(&parts).unwrap();
    for level in Level::all() {
        let encoder = Encoder::at_level(plan, level);
        let mut unit = dirty(plan);
        encoder.encode_into(&parts, unit.as_mut_slices()).unwrap();
        assert!(unit == expected, "{level:?}");
        for &most in mosts {
            let counts = counts(most, &histograms(&parts, most));
            for pool in pools() {
                let mut unit = dirty(plan);
                pool.install(|| encoder.encode_parallel_into(&parts, &counts, unit.as_mut_slices())).unwrap();
                assert!(unit == expected, "{level:?}, pieces of {most}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(60)))]

    #[test]
    fn every_level_encodes_to_the_bytes_of_the_reference(tensors in units(), most in 1usize..9000) {
        let owned: Vec<Vec<u8>> = tensors.iter().map(|tensor| bytes(tensor)).collect();
        let parts: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
        let plan = Plan::new(&parts, &EncodeOptions::default()).unwrap();
        every_level_encodes(&owned, &plan, &[most]);
        let weights: Vec<Vec<half::bf16>> =
            tensors.iter().map(|tensor| tensor.iter().map(|w| half::bf16::from_bits(*w)).collect()).collect();
        let typed: Vec<&[half::bf16]> = weights.iter().map(Vec::as_slice).collect();
        prop_assert!(df11_reference::encode(&typed).unwrap() == to_reference(&plan.encode(&parts).unwrap()));
    }
}

#[test]
fn pieces_of_any_size_make_the_bytes_of_the_whole() {
    const MOSTS: [usize; 7] = [1, 2, 3, 7, 100, 5000, usize::MAX];
    let mut random = Random(14);
    let kinds: [Vec<Vec<u8>>; 4] = [
        // Boundaries of tensors at odd places, an empty tensor between them and one at either end.
        vec![vec![], bytes(&like_trained(777, 1)), vec![], bytes(&like_trained(4001, 2)), vec![]],
        // Many pieces to a window.
        vec![vec![0; 2 * 9000]],
        // Many windows to a piece of a few weights, none of them whole.
        vec![bytes(&with_exponents(fibonacci_exponents(100, 18, 2), 3))],
        vec![bytes(&like_trained(1, 1))],
    ];
    for tensors in kinds {
        let parts: Vec<&[u8]> = tensors.iter().map(Vec::as_slice).collect();
        let plan = Plan::new(&parts, &EncodeOptions::default()).unwrap();
        let mosts = [&MOSTS[..], &[1 + random.below(5000) as usize, 1 + random.below(300) as usize]].concat();
        every_level_encodes(&tensors, &plan, &mosts);
    }
    // Codewords of 1 to 32 bits, which pairs do not hold, and codes that end with a block or
    // straddle over it.
    let with_lengths = |exponents: Vec<u8>, lengths: &[u8]| {
        let all = bytes(&with_exponents(exponents, 5));
        let mut frequencies = [0; 256];
        bf16::add_to_histogram(&all, &mut frequencies).unwrap();
        let mut table = [0; 256];
        table[..lengths.len()].copy_from_slice(lengths);
        let plan = Plan::with_lengths(&frequencies, 1, &CodeLengths::new(&table).unwrap()).unwrap();
        every_level_encodes(&[all], &plan, &[1, 2, 3, 7, 100, 5000, 1 + random.below(5000) as usize]);
    };
    let mut with_lengths = with_lengths;
    with_lengths((0..33).chain((0..33).rev()).cycle().take(9000).collect(), &steps());
    with_lengths((0..3000).map(|i| 29 + (i % 4) as u8).collect(), &steps());
    with_lengths(vec![0; 32_768], &[1]);
    with_lengths(std::iter::repeat_n(0, 32_767).chain([2]).collect(), &[1, 2, 9]);
    with_lengths(vec![5; 3000], &[32; 6]);
    // Large enough that the plan, too, uses the table of pairs.
    let large = bytes(&like_trained(200_000, 3));
    let plan = Plan::new(&[&large], &EncodeOptions::default()).unwrap();
    every_level_encodes(&[large], &plan, &[5000, 65_537, 99_999]);
}

#[test]
fn histograms_of_other_pieces_are_an_error_and_nothing_panics() {
    let tensors = [bytes(&like_trained(20_000, 1)), bytes(&like_trained(3000, 2))];
    let parts: Vec<&[u8]> = tensors.iter().map(Vec::as_slice).collect();
    let plan = Plan::new(&parts, &EncodeOptions::default()).unwrap();
    let sound = histograms(&parts, 4000);
    let exponent = usize::from(bf16::exponent(bits(&tensors[0])[0]));
    let mut wrong: Vec<(String, Vec<[u64; 256]>)> = vec![
        ("none".to_owned(), vec![]),
        ("one too few".to_owned(), sound[1..].to_vec()),
        ("one too many".to_owned(), [&sound[..], &[[0; 256]]].concat()),
        ("the last one twice".to_owned(), [&sound[..], &sound[sound.len() - 1..]].concat()),
        ("of smaller pieces".to_owned(), histograms(&parts, 3999)),
        ("of larger pieces".to_owned(), histograms(&parts, 4001)),
        ("of the whole".to_owned(), histograms(&parts, usize::MAX)),
        ("reversed".to_owned(), sound.iter().rev().copied().collect()),
    ];
    for piece in 0..sound.len() {
        let mut change = |name: String, change: &dyn Fn(&mut Vec<[u64; 256]>)| {
            let mut other = sound.clone();
            change(&mut other);
            wrong.push((format!("{name} at {piece}"), other));
        };
        change("one more".to_owned(), &|other| other[piece][exponent] += 1);
        change("one less".to_owned(), &|other| other[piece][exponent] -= 1);
        change("without a codeword".to_owned(), &|other| other[piece][3] = 1);
        change("empty".to_owned(), &|other| other[piece] = [0; 256]);
        change("moved to the next".to_owned(), &|other| {
            let next = (piece + 1) % other.len();
            other[piece][exponent] -= 1;
            other[next][exponent] += 1;
        });
        for huge in [u64::MAX, u64::MAX / 2, 1 << 62, 1 << 61, 1 << 58, 1 << 40] {
            change(format!("{huge}"), &|other| other[piece][exponent] = huge);
        }
    }
    for level in Level::all() {
        let encoder = Encoder::at_level(&plan, level);
        for (name, frequencies) in &wrong {
            let mut unit = dirty(&plan);
            let result =
                encoder.encode_parallel_into(&parts, &counts(4000, frequencies), unit.as_mut_slices());
            // A symbol without a codeword has no bits: that it was counted does not matter.
            if name.starts_with("without a codeword") {
                assert!(result.is_err() || unit == plan.encode(&parts).unwrap());
            } else {
                assert!(matches!(result, Err(Error::PlanMismatch { .. })), "{name}: {result:?}");
            }
        }
    }
}

#[test]
fn pieces_of_other_tensors_than_were_planned_are_an_error_and_nothing_panics() {
    let planned = bytes(&like_trained(9000, 1));
    let plan = Plan::new(&[&planned], &EncodeOptions::default()).unwrap();
    let frequencies = histograms(&[&planned], 1000);
    let of_another = bytes(&with_exponents(vec![3; 9000], 1));
    let more = [&planned[..], &[0]].concat();
    for level in Level::all() {
        let encoder = Encoder::at_level(&plan, level);
        let mut unit = dirty(&plan);
        let mut encode_pieces = |tensors: &[&[u8]], frequencies: &[[u64; 256]]| {
            encoder.encode_parallel_into(tensors, &counts(1000, frequencies), unit.as_mut_slices())
        };
        let (first, second) = planned.split_at(4000);
        assert!(matches!(encode_pieces(&[first, second], &frequencies), Err(Error::PlanMismatch { .. })));
        assert!(matches!(encode_pieces(&[], &frequencies), Err(Error::PlanMismatch { .. })));
        assert!(matches!(encode_pieces(&[&[]], &frequencies), Err(Error::PlanMismatch { .. })));
        assert!(matches!(encode_pieces(&[&planned[2..]], &frequencies), Err(Error::PlanMismatch { .. })));
        assert!(matches!(encode_pieces(&[&of_another], &frequencies), Err(Error::PlanMismatch { .. })));
        assert_eq!(encode_pieces(&[&more], &frequencies), plan.encode(&[&more]).map(|_| ()));
        for seed in 2..60 {
            let other = bytes(&like_trained(9000, seed));
            for frequencies in [&frequencies, &histograms(&[&other], 1000)] {
                let mut unit = dirty(&plan);
                let counts = counts(1000, frequencies);
                let result = encoder.encode_parallel_into(&[&other], &counts, unit.as_mut_slices());
                match result {
                    // As for a plan, another unit may happen to have the same number of bits.
                    Ok(()) => assert!(bytes(&walk(&unit.as_slices()).weights) == other),
                    Err(error) => assert!(matches!(error, Error::PlanMismatch { .. })),
                }
            }
            let mut unit = dirty(&plan);
            match encoder.encode_into(&[&other], unit.as_mut_slices()) {
                Ok(()) => assert!(bytes(&walk(&unit.as_slices()).weights) == other),
                Err(error) => assert!(matches!(error, Error::PlanMismatch { .. })),
            }
        }
        // Buffers of the wrong length.
        for which in 0..5 {
            let mut unit = dirty(&plan);
            part(&mut unit, which).pop();
            let expected = plan.encode_into(&[&planned], unit.as_mut_slices());
            assert!(matches!(expected, Err(Error::BufferLength { .. })));
            let counts = counts(1000, &frequencies);
            let result = encoder.encode_parallel_into(&[&planned], &counts, unit.as_mut_slices());
            assert_eq!(result, expected);
            assert_eq!(encoder.encode_into(&[&planned], unit.as_mut_slices()), expected);
        }
    }
}
