//! Units: any weights survive, within any limits, and weights that cannot be held are refused.

use df11::hazmat::huffman::{CodeLengths, Codewords, FIRST_JUMP, MAX_TABLES, PrefixTablesBuf};
use df11::hazmat::layout::BLOCK_BYTES;
use df11::{
    Decoder, EncodeOptions, Error, Level, PUBLISHED_SHARED_MEMORY, Plan, Unit, bf16, encode,
    shared_memory_bytes,
};
use df11_tests::walk::{stated_gaps, stated_positions, walk};
use df11_tests::weights::{Random, bits, bytes, fibonacci_exponents, like_trained, with_exponents};
use df11_tests::{cases, foreign};
use proptest::prelude::*;

use crate::support::{representable, units};

/// Checks one unit in every possible way.
fn survives(tensors: &[Vec<u16>], options: &EncodeOptions) {
    let owned: Vec<Vec<u8>> = tensors.iter().map(|tensor| bytes(tensor)).collect();
    let parts: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
    let all = owned.concat();
    let plan = Plan::new(&parts, options).unwrap();
    let encoded = plan.encode(&parts).unwrap();
    let unit = Unit::new(encoded.as_slices()).unwrap();

    // Sizes are known before encoding.
    let sizes = plan.sizes();
    assert_eq!(sizes.luts, encoded.luts.len());
    assert_eq!(sizes.encoded_exponent, encoded.encoded_exponent.len());
    assert_eq!(sizes.output_positions, encoded.output_positions.len());
    assert_eq!(sizes.gaps, encoded.gaps.len());
    assert_eq!(plan.largest_block(&parts).unwrap(), unit.largest_block());

    // The weights are restored, as a whole and by tensor.
    let mut decoded = vec![0; all.len()];
    unit.decode_into(&mut decoded).unwrap();
    assert!(decoded == all);
    let mut verified = vec![0; all.len()];
    unit.verify_blocks_into(0..unit.blocks(), &mut verified).unwrap();
    assert!(verified == all);
    assert!(
        unit.tensor_ranges()
            .map(|range| bits(&decoded[2 * range.start..2 * range.end]))
            .eq(tensors.iter().cloned())
    );

    // An independent decoder agrees, also on gaps and positions.
    let walk = walk(&encoded.as_slices());
    assert!(bytes(&walk.weights) == all);
    assert_eq!(walk.bits as u64, plan.code_bits());
    let (gaps, positions) = (stated_gaps(&encoded.as_slices()), stated_positions(&encoded.as_slices()));
    assert_eq!(gaps, walk.written_gaps(gaps.len()));
    assert_eq!(positions.len(), unit.blocks() + 1);
    assert_eq!(positions[..walk.positions.len()], walk.positions);
    assert!(positions[walk.positions.len()..].iter().all(|p| *p as usize == unit.len()));

    // Every table entry leads to a symbol with a length: no decoder can loop on padding.
    let lengths = unit.tables().code_lengths();
    let entries = unit.tables().tables().iter().flatten();
    assert!(entries.filter(|v| **v < FIRST_JUMP).all(|v| lengths[usize::from(*v)] > 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(300)))]

    #[test]
    fn any_weights_survive(tensors in units()) {
        survives(&tensors, &EncodeOptions::default());
    }

    #[test]
    fn any_weights_survive_within_any_limits(tensors in units(), least in 1u8..=8, limit in 8u8..=32) {
        survives(&tensors, &EncodeOptions::new().least_code_length(least).max_code_length(limit));
    }

    #[test]
    fn weights_that_cannot_be_represented_are_refused_and_found(
        mut weights in prop::collection::vec(representable(), 1..200),
        at in any::<prop::sample::Index>(),
        bad in (FIRST_JUMP..=u8::MAX, any::<u8>()),
    ) {
        let at = at.index(weights.len());
        weights[at] = bf16::from_planes(bad.0, bad.1);
        let expected = Error::UnrepresentableExponent { element: Some(at as u64), exponent: bad.0 };
        prop_assert_eq!(encode(&bytes(&weights)), Err(expected));
    }

    #[test]
    fn every_range_is_the_slice_of_the_whole(n in 1usize..60_000, seed in any::<u64>(), cuts in any::<[prop::sample::Index; 2]>()) {
        let all = bytes(&like_trained(n, seed));
        let encoded = encode(&all).unwrap();
        let cuts = cuts.map(|cut| cut.index(n + 1));
        let range = cuts[0].min(cuts[1])..cuts[0].max(cuts[1]);
        let mut part = vec![0; 2 * range.len()];
        encoded.as_unit().decode_range_into(range.clone(), &mut part).unwrap();
        prop_assert!(part == all[2 * range.start..2 * range.end]);
        for level in Level::all() {
            part.fill(0);
            Decoder::at_level(&encoded.as_unit(), level).decode_range_into(range.clone(), &mut part).unwrap();
            prop_assert!(part == all[2 * range.start..2 * range.end], "{}", level.name());
        }
    }

    #[test]
    fn a_code_is_complete_and_within_its_limit_and_no_worse_than_any_other(
        frequencies in prop::collection::vec(1u64..1_000_000, 2..240),
        limit in 8u8..=32,
        seed in any::<u64>(),
    ) {
        let mut all = [0; 256];
        all[..frequencies.len()].copy_from_slice(&frequencies);
        let ours = CodeLengths::from_frequencies(&all, 1, limit).unwrap();
        prop_assert!(ours.longest() <= limit);
        prop_assert_eq!(ours.kraft_sum(), 1 << 32);
        prop_assert_eq!(ours.symbols(), frequencies.len());
        let ours = ours.total_bits(&all).unwrap();

        // Others: grown by splitting random leaves, the shortest codewords given to the most
        // frequent symbols.
        let mut random = Random(seed);
        let mut by_frequency: Vec<usize> = (0..frequencies.len()).collect();
        by_frequency.sort_by_key(|i| std::cmp::Reverse(frequencies[*i]));
        for _ in 0..20 {
            let mut leaves = vec![0u8];
            while leaves.len() < frequencies.len() {
                let leaf = random.below(leaves.len() as u64) as usize;
                if leaves[leaf] < limit {
                    leaves[leaf] += 1;
                    leaves.push(leaves[leaf]);
                }
            }
            leaves.sort_unstable();
            let other: u64 = by_frequency.iter().zip(leaves).map(|(i, length)| frequencies[*i] * u64::from(length)).sum();
            prop_assert!(ours <= other);
        }
    }

    #[test]
    fn tables_lead_back_to_their_codewords(frequencies in prop::collection::vec(1u64..1_000_000, 1..240), limit in 8u8..=32) {
        let mut all = [0; 256];
        all[..frequencies.len()].copy_from_slice(&frequencies);
        let code = Codewords::canonical(&CodeLengths::from_frequencies(&all, 1, limit).unwrap()).unwrap();
        match PrefixTablesBuf::build(&code) {
            Ok(tables) => prop_assert_eq!(Codewords::from_tables(&tables.view()), code),
            Err(error) => prop_assert_eq!(error, Error::TooManyTables { tables: MAX_TABLES + 1 }),
        }
    }

    #[test]
    fn units_of_foreign_writers_decode(first in 0u8..200, alphabet in 1u8..18, swaps in any::<u64>(), cut in 0usize..9) {
        let exponents = fibonacci_exponents(first, alphabet, swaps);
        let weights = with_exponents(exponents[..exponents.len().saturating_sub(cut).max(1)].to_vec(), swaps);
        let exponents: Vec<u8> = weights.iter().map(|w| bf16::exponent(*w)).collect();
        let foreign = foreign::write(&weights, &foreign::huffman(&exponents, swaps));
        let unit = Unit::new(foreign.tensors()).unwrap();
        let mut decoded = vec![0; 2 * unit.len()];
        unit.verify_blocks_into(0..unit.blocks(), &mut decoded).unwrap();
        prop_assert!(bits(&decoded) == weights);
        prop_assert!(walk(&foreign.tensors()).weights == weights);
        let code = Codewords::from_tables(&unit.tables());
        prop_assert!(exponents.iter().all(|e| code.len(*e) > 0));
    }
}

#[test]
fn sizes_around_every_boundary_survive() {
    // Two bits each: 32 elements to a window, 16,384 to a block.
    for n in [
        1,
        2,
        31,
        32,
        33,
        63,
        64,
        65,
        16_383,
        16_384,
        16_385,
        32_767,
        32_768,
        32_769,
        5 * 16_384,
        5 * 16_384 + 1,
    ] {
        let weights = with_exponents((0..n).map(|i| 100 + (i % 4) as u8), n as u64);
        survives(&[weights], &EncodeOptions::default());
    }
    // One bit each.
    for n in [1, 7, 8, 9, 63, 64, 65, 32_767, 32_768, 32_769, 65_536] {
        survives(&[vec![0x3f80; n]], &EncodeOptions::default());
    }
}

#[test]
fn the_longest_codewords_survive() {
    // A code of lengths 1 to 32 that does not suit the frequencies: the plan accepts any code.
    let exponents: Vec<u8> = (0..33).chain((0..33).rev()).cycle().take(20_000).collect();
    let all = bytes(&with_exponents(exponents.clone(), 7));
    let mut frequencies = [0; 256];
    bf16::add_to_histogram(&all, &mut frequencies).unwrap();
    let mut lengths = [0; 256];
    for (i, length) in lengths[..33].iter_mut().enumerate() {
        *length = (i as u8 + 1).min(32);
    }
    let plan = Plan::with_lengths(&frequencies, 1, &CodeLengths::new(&lengths).unwrap()).unwrap();
    let encoded = plan.encode(&[&all]).unwrap();
    let unit = encoded.as_unit();
    let mut decoded = vec![0; all.len()];
    unit.verify_blocks_into(0..unit.blocks(), &mut decoded).unwrap();
    assert!(decoded == all);
    unit.decode_into(&mut decoded).unwrap();
    assert!(decoded == all);
    assert!(bytes(&walk(&encoded.as_slices()).weights) == all);
}

#[test]
fn a_straddling_last_codeword_gets_both_last_positions() {
    // Codewords of 1, 2 and 9 bits: 2 + 32,765 × 1 bits fill the first block but for its last bit,
    // in which the last codeword starts. It ends 8 bits into the second block, at the end of a
    // byte.
    let exponents = [101].into_iter().chain(std::iter::repeat_n(100, 32_765)).chain([102]);
    let weights = with_exponents(exponents, 3);
    let n = weights.len();
    let all = bytes(&weights);
    let mut frequencies = [0; 256];
    bf16::add_to_histogram(&all, &mut frequencies).unwrap();
    let mut lengths = [0; 256];
    lengths[100..103].copy_from_slice(&[1, 2, 9]);
    let plan = Plan::with_lengths(&frequencies, 1, &CodeLengths::new(&lengths).unwrap()).unwrap();
    let encoded = plan.encode(&[&all]).unwrap();
    assert_eq!(encoded.encoded_exponent.len(), BLOCK_BYTES + 1);
    assert_eq!(stated_positions(&encoded.as_slices()), [0, n as u32, n as u32]);

    // The same unit without the last entry, as the official encoder leaves it.
    let mut short = encoded.clone();
    short.output_positions.truncate(8);
    for unit in [encoded.as_unit(), short.as_unit()] {
        let mut decoded = vec![0; all.len()];
        unit.decode_into(&mut decoded).unwrap();
        assert!(decoded == all);
        unit.verify_blocks_into(0..2, &mut decoded).unwrap();
        assert!(decoded == all);
        unit.decode_range_into(n - 1..n, &mut decoded[..2]).unwrap();
        assert_eq!(decoded[..2], all[2 * n - 2..]);
        unit.decode_block_into(1, &mut []).unwrap();
        assert_eq!(unit.block_range(1), n..n);
    }
    assert!(short.as_unit().has_short_positions() && !encoded.as_unit().has_short_positions());
}

#[test]
fn codes_with_too_many_tables_get_a_smaller_limit_instead() {
    // 240 symbols, frequencies falling so slowly that dozens of first bytes would lead to second
    // tables.
    let exponents = (0..240u32).flat_map(|e| std::iter::repeat_n(e as u8, 1 + (240 - e as usize) / 8));
    let weights = with_exponents(exponents, 5);
    let all = bytes(&weights);
    let mut frequencies = [0; 256];
    bf16::add_to_histogram(&all, &mut frequencies).unwrap();
    let best = CodeLengths::from_frequencies(&frequencies, 1, 32).unwrap();
    let refused = Plan::with_lengths(&frequencies, 1, &best);
    assert!(matches!(refused, Err(Error::TooManyTables { .. })), "{refused:?}");
    survives(&[weights], &EncodeOptions::default());
}

#[test]
fn what_the_layout_cannot_hold_is_a_typed_error() {
    let options = EncodeOptions::default();
    assert_eq!(options.encode(&[]), Err(Error::EmptyUnit));
    assert_eq!(options.encode(&[&[], &[]]), Err(Error::EmptyUnit));
    assert_eq!(options.encode(&[&[0, 0, 0]]), Err(Error::OddBytes { bytes: 3 }));
    let mut frequencies = [0; 256];
    frequencies[7] = 1 << 31;
    let plan = Plan::from_frequencies(&frequencies, 1, &options);
    assert_eq!(plan.unwrap_err(), Error::TooManyElements { elements: 1 << 31 });
    frequencies[7] = (1 << 31) - 1;
    assert_eq!(
        Plan::from_frequencies(&frequencies, 1, &options).unwrap().sizes().sign_mantissa,
        (1 << 31) - 1
    );
    // 2^31 - 1 elements of 9 bits would be more than 2^31 - 1 bytes of code.
    let mut lengths = [0; 256];
    lengths[7] = 9;
    let plan = Plan::with_lengths(&frequencies, 1, &CodeLengths::new(&lengths).unwrap());
    assert!(matches!(plan, Err(Error::TooManyCodeBytes { .. })));
}

#[test]
fn other_tensors_than_were_planned_are_an_error_and_nothing_panics() {
    let planned = bytes(&like_trained(3000, 1));
    let plan = Plan::new(&[&planned], &EncodeOptions::default()).unwrap();
    let (first, second) = planned.split_at(2000);
    assert!(plan.encode(&[first, second]).is_err());
    assert!(plan.encode(&[&planned[2..]]).is_err());
    for seed in 2..200 {
        let other = bytes(&like_trained(3000, seed));
        // Another unit with the same number of elements usually has another number of bits.
        match plan.encode(&[&other]) {
            Ok(encoded) => assert!(bytes(&walk(&encoded.as_slices()).weights) == other),
            Err(error) => assert!(matches!(error, Error::PlanMismatch { .. })),
        }
    }
}

#[test]
fn codes_without_one_bit_codewords_fit_published_shared_memory() {
    let zeros = vec![0u8; 2 * 100_000];
    let encoded = encode(&zeros).unwrap();
    assert!(encoded.as_unit().shared_memory_bytes() > PUBLISHED_SHARED_MEMORY);
    let options = EncodeOptions::new().least_code_length(2);
    let encoded = options.encode(&[&zeros]).unwrap();
    assert!(encoded.as_unit().shared_memory_bytes() <= PUBLISHED_SHARED_MEMORY);
    assert_eq!(shared_memory_bytes(16_384), encoded.as_unit().shared_memory_bytes());
    survives(&[vec![0; 100_000], like_trained(1000, 1)], &options);
}

#[test]
fn ranges_and_blocks_out_of_bounds_are_errors() {
    let all = bytes(&like_trained(100, 1));
    let encoded = encode(&all).unwrap();
    let unit = encoded.as_unit();
    let mut out = vec![0; all.len()];
    #[expect(clippy::reversed_empty_ranges, reason = "that is the case")]
    for range in [0..101, 101..101, 5..4, usize::MAX..usize::MAX] {
        assert!(matches!(unit.decode_range_into(range, &mut out), Err(Error::RangeOutOfBounds { .. })));
    }
    assert!(matches!(unit.decode_block_into(1, &mut out), Err(Error::RangeOutOfBounds { .. })));
    assert!(matches!(unit.decode_block_into(usize::MAX, &mut out), Err(Error::RangeOutOfBounds { .. })));
    assert!(matches!(unit.decode_into(&mut out[1..]), Err(Error::BufferLength { .. })));
    unit.decode_range_into(100..100, &mut []).unwrap();
}
