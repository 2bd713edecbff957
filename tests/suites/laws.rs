//! Laws that hold for any weights, stated over generated ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::iter;
use std::ops::Range;

use df11::bits::BitReader;
use df11::huffman::{CodeLengths, Codewords, FIRST_JUMP, MAX_TABLES, PrefixTablesBuf};
use df11::{
    BLOCK_BITS, BLOCK_BYTES, Decoder, EncodeOptions, EncodedUnit, Encoder, Job, PUBLISHED_SHARED_MEMORY,
    Parts, Piece, Plan, Unit, WINDOW_BITS, WINDOWS_PER_BLOCK, encode, shared_memory_bytes,
};
use df11::{Error, Level, bf16};
use df11_tests::walk::{stated_gaps, stated_positions, walk};
use df11_tests::weights::{Random, bits, bytes, fibonacci_exponents, like_trained, with_exponents};
use df11_tests::{cases, fixtures, foreign, part};
use proptest::prelude::*;

/// Any bit pattern that the layout can hold.
fn representable() -> impl Strategy<Value = u16> {
    any::<u16>().prop_map(|w| if bf16::exponent(w) >= FIRST_JUMP { w & !(1 << 14) } else { w })
}

/// Units of one to five tensors, some empty, with flat, skewed or constant exponents.
fn units() -> impl Strategy<Value = Vec<Vec<u16>>> {
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

/// Checks one unit in every way there is.
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

    // The weights come back, as a whole and by tensor.
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

    // An independent decoder agrees, on gaps and positions, too.
    let walk = walk(&encoded.as_slices());
    assert!(bytes(&walk.weights) == all);
    assert_eq!(walk.bits as u64, plan.code_bits());
    let (gaps, positions) = (stated_gaps(&encoded.as_slices()), stated_positions(&encoded.as_slices()));
    assert_eq!(gaps[..walk.gaps.len()], walk.gaps);
    assert!(gaps[walk.gaps.len()..].iter().all(|gap| *gap == 0));
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

        // Others: grown by splitting random leaves, the shortest codewords given to the most frequent symbols.
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
    // A code of lengths 1 to 32 that the frequencies would not ask for: the plan takes any.
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
    // Codewords of 1, 2 and 9 bits: 2 + 32,765 × 1 bits fill the first block but for its last bit, in which the last
    // codeword starts. It ends 8 bits into the second block, at the end of a byte.
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
    // 240 symbols, frequencies falling so slowly that dozens of first bytes would lead to second tables.
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
        // Another unit with the same number of elements has, as a rule, another number of bits.
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

/// The unit in the form of the reference.
fn to_reference(unit: &EncodedUnit) -> df11_reference::Unit {
    df11_reference::Unit {
        luts: unit.luts.clone(),
        encoded_exponent: unit.encoded_exponent.clone(),
        sign_mantissa: unit.sign_mantissa.clone(),
        output_positions: unit.output_positions.clone(),
        gaps: unit.gaps.clone(),
        split_positions: unit.split_positions.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(60)))]

    #[test]
    fn the_reference_writes_the_same_bytes_and_reads_the_same_bits(tensors in units()) {
        let owned: Vec<Vec<u8>> = tensors.iter().map(|tensor| bytes(tensor)).collect();
        let parts: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
        let encoded = to_reference(&EncodeOptions::new().encode(&parts).unwrap());
        let weights: Vec<Vec<half::bf16>> =
            tensors.iter().map(|tensor| tensor.iter().map(|w| half::bf16::from_bits(*w)).collect()).collect();
        let parts: Vec<&[half::bf16]> = weights.iter().map(Vec::as_slice).collect();
        prop_assert!(df11_reference::encode(&parts).unwrap() == encoded);
        let decoded = df11_reference::decode(&encoded).unwrap();
        prop_assert!(decoded.iter().map(|w| w.to_bits()).eq(tensors.concat()));
    }

    #[test]
    fn the_reference_gives_the_same_verdict_on_damaged_units(
        tensors in units(),
        damages in prop::collection::vec((0usize..6, any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..4),
    ) {
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
        let ours = Unit::new(unit.as_slices()).and_then(|unit| {
            let mut decoded = vec![0; 2 * unit.len()];
            unit.verify_blocks_into(0..unit.blocks(), &mut decoded).map(|()| bits(&decoded))
        });
        match (ours, df11_reference::decode(&to_reference(&unit))) {
            (Ok(ours), Ok(theirs)) => prop_assert!(theirs.iter().map(|w| w.to_bits()).eq(ours)),
            (Err(_), Err(_)) => {}
            (ours, theirs) => prop_assert!(false, "{:?} but {:?}", ours.err(), theirs.err()),
        }
    }
}

// What follows is about the fast paths: on every level of instructions they do what the rules say, one codeword at a
// time, and nothing else.

/// What one block decodes to by the rules alone: each codeword looked up in the tables as they stand, the errors those
/// that the rules give. Shares nothing with the decoders but the look-up of a single symbol.
fn plain_block(tensors: &Parts<&[u8]>, block: usize, gaps: bool) -> Result<Vec<u8>, Error> {
    let unit = Unit::new(*tensors).unwrap();
    let start = |block: usize| block as u64 * BLOCK_BITS + u64::from(unit.gap(block * WINDOWS_PER_BLOCK));
    let range = unit.block_range(block);
    let mut bit = start(block);
    let mut window = block * WINDOWS_PER_BLOCK;
    let mut weights = Vec::with_capacity(2 * range.len());
    for element in range.clone() {
        if gaps && let Some(expected) = bit.checked_sub(window as u64 * WINDOW_BITS) {
            let found = unit.gap(window);
            if expected != u64::from(found) {
                let expected = expected.min(255) as u8;
                return Err(Error::GapMismatch { window: window as u64, expected, found });
            }
            window += 1;
        }
        let code = BitReader::at(tensors.encoded_exponent, bit).peek(32);
        let (symbol, length) = unit.tables().decode(code, bit)?;
        weights.extend(bf16::from_planes(symbol, tensors.sign_mantissa[element]).to_le_bytes());
        bit += u64::from(length);
    }
    let bits = 8 * tensors.encoded_exponent.len() as u64;
    if range.end < unit.len() {
        let expected = start(block + 1);
        if bit != expected {
            return Err(Error::BlockEnd { block, expected, found: bit });
        }
    } else if !range.is_empty() && bit > bits {
        return Err(Error::CodeEnded { bit, bits });
    }
    Ok(weights)
}

/// Decodes into a part of a larger buffer that begins `offset` bytes after a multiple of 128, and makes sure that what
/// lies around it is left alone.
fn framed<E>(
    len: usize,
    offset: usize,
    decode: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Result<Vec<u8>, E> {
    let mut buffer = vec![0xa5; len + 512];
    let at = buffer.as_ptr().align_offset(128) + 128 + offset % 128;
    let result = decode(&mut buffer[at..at + len]);
    assert!(buffer[..at].iter().chain(&buffer[at + len..]).all(|&byte| byte == 0xa5), "written outside");
    result.map(|()| buffer[at..at + len].to_vec())
}

/// Compares, on every level, what these runs of blocks decode to with what the rules say, errors included.
fn every_level_keeps_the_rules(
    name: &str,
    tensors: &Parts<&[u8]>,
    runs: impl IntoIterator<Item = Range<usize>>,
) {
    let unit = Unit::new(*tensors).unwrap();
    let blocks = |gaps| (0..unit.blocks()).map(move |block| plain_block(tensors, block, gaps));
    let (plain, verified): (Vec<_>, Vec<_>) = (blocks(false).collect(), blocks(true).collect());
    let expect = |plain: &[Result<Vec<u8>, Error>]| -> Result<Vec<u8>, Error> {
        plain.iter().cloned().collect::<Result<Vec<_>, _>>().map(|blocks| blocks.concat())
    };
    let decoders: Vec<_> =
        Level::all().map(|level| (level.name(), Decoder::at_level(&unit, level))).collect();
    for (round, run) in runs.into_iter().enumerate() {
        let elements = unit.block_range(run.start).start..unit.block_range(run.end).start;
        let len = 2 * elements.len();
        let (plain, verified) = (expect(&plain[run.clone()]), expect(&verified[run.clone()]));
        // The short way to say where it went wrong: units are too long to print.
        let check = |what: &str, found: Result<Vec<u8>, Error>, expected: &Result<Vec<u8>, Error>| match (
            &found, expected,
        ) {
            (Ok(found), Ok(expected)) => {
                let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
                assert_eq!(differs, None, "{name}, {what}, blocks {run:?} of {}", unit.blocks());
                assert_eq!(found.len(), expected.len());
            }
            _ => assert_eq!(
                found.as_ref().err(),
                expected.as_ref().err(),
                "{name}, {what}, blocks {run:?} of {}",
                unit.blocks()
            ),
        };
        for (level, decoder) in &decoders {
            let decoded = framed(len, 37 * round, |out| decoder.decode_blocks_into(run.clone(), out));
            check(level, decoded, &plain);
            let decoded = framed(len, 37 * round + 1, |out| decoder.verify_blocks_into(run.clone(), out));
            check(&format!("{level} verifying"), decoded, &verified);
        }
        check("the unit", framed(len, 0, |out| unit.decode_blocks_into(run.clone(), out)), &plain);
        check("the range", framed(len, 0, |out| unit.decode_range_into(elements.clone(), out)), &plain);
        let decoded = framed(len, 0, |out| unit.verify_blocks_into(run.clone(), out));
        check("the unit verifying", decoded, &verified);
    }
}

/// Every run of blocks, the empty ones included; of more than seven, those that touch either end and single blocks. Where
/// few cases are asked for, some of these.
fn runs(tensors: &Parts<&[u8]>) -> impl Iterator<Item = Range<usize>> + use<> {
    let blocks = Unit::new(*tensors).unwrap().blocks();
    let all = (0..=blocks).flat_map(move |start| (start..=blocks).map(move |end| start..end));
    all.filter(move |run| blocks <= 7 || run.len() == 1 || run.start <= 1 || run.end == blocks)
        .step_by((20 / cases(20).max(1)) as usize)
}

/// A unit with these code lengths, from symbol `first` on.
fn with_lengths(exponents: impl IntoIterator<Item = u8>, first: u8, lengths: &[u8]) -> EncodedUnit {
    let all = bytes(&with_exponents(exponents, 11));
    let mut frequencies = [0; 256];
    bf16::add_to_histogram(&all, &mut frequencies).unwrap();
    let mut table = [0; 256];
    table[usize::from(first)..][..lengths.len()].copy_from_slice(lengths);
    let plan = Plan::with_lengths(&frequencies, 1, &CodeLengths::new(&table).unwrap()).unwrap();
    plan.encode(&[&all]).unwrap()
}

/// The same tensors, owned.
fn owned(tensors: &Parts<&[u8]>) -> EncodedUnit {
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
fn steps() -> [u8; 33] {
    std::array::from_fn(|i| (i as u8 + 1).min(32))
}

/// Units that reach every part of the fast decoder: numbers of blocks around the numbers of lanes, codewords of every
/// length, blocks of very different numbers of elements, last blocks without any, and units of other writers.
fn kinds_of_units() -> Vec<(String, EncodedUnit)> {
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
    // Codewords that just fit the table of many symbols, and those that do not. At most 16 tables follow the first.
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
    // The last codeword begins with the last bit of a block and ends with the first byte of the next.
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

#[test]
fn every_level_decodes_every_run_of_blocks_of_every_kind_of_unit() {
    for (name, unit) in kinds_of_units() {
        every_level_keeps_the_rules(&name, &unit.as_slices(), runs(&unit.as_slices()));
    }
}

#[test]
fn every_level_gives_the_same_error_for_every_kind_of_damage() {
    let mut random = Random(12);
    for (name, sound) in kinds_of_units() {
        for tried in 0..cases(20) {
            let mut unit = sound.clone();
            for _ in 0..=random.below(3) {
                // Tables, code and positions decide what is decoded: more of these than of the rest.
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

#[test]
fn blocks_that_hold_more_or_less_than_was_stated_are_errors_at_every_place() {
    // The position of each block but the first, moved by a little and by a lot; every run that touches it.
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
            // Runs of the same value at any place, aligned as a codeword's or not; jumps in between.
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
        // Where a block ends, any bytes will hardly tell: so a single block, cut to what the code happens to hold.
        unit.encoded_exponent.truncate(1 + random.below(4000) as usize);
        unit.gaps.truncate(320);
        let len = unit.encoded_exponent.len();
        let reader = |bit| BitReader::at(&unit.encoded_exponent, bit).peek(32);
        let tables = df11::huffman::PrefixTables::new(&unit.luts).unwrap();
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

#[test]
fn every_level_decodes_to_every_alignment() {
    let weights = bytes(&like_trained(50_000, 1));
    let encoded = encode(&weights).unwrap();
    for level in Level::all() {
        let decoder = Decoder::at_level(&encoded.as_unit(), level);
        for offset in 0..128 {
            let decoded = framed(weights.len(), offset, |out| decoder.decode_into(out)).unwrap();
            assert!(decoded == weights, "{level:?} {offset}");
        }
    }
}

#[test]
fn every_level_decodes_outputs_too_large_for_the_caches_to_every_kind_of_address() {
    // More than 4 MiB of weights are stored past the caches.
    let weights = bytes(&like_trained(2_200_000, 1));
    assert!(weights.len() > 4 << 20);
    let encoded = encode(&weights).unwrap();
    let unit = encoded.as_unit();
    for level in Level::all() {
        let decoder = Decoder::at_level(&unit, level);
        for offset in [0, 1, 2, 32, 62, 64, 96, 126, 127] {
            let decoded = framed(weights.len(), offset, |out| decoder.decode_into(out)).unwrap();
            assert!(decoded == weights, "{level:?} {offset}");
        }
        // From the middle of the unit, where the first weight is at any place of a group.
        for first in 1..4 {
            let range = unit.block_range(first).start..unit.len();
            let decoded =
                framed(2 * range.len(), first, |out| decoder.decode_blocks_into(first..unit.blocks(), out));
            assert!(decoded.unwrap() == weights[2 * range.start..], "{level:?} {first}");
        }
    }
    // Damage at the very end is found after nearly everything was stored.
    let mut damaged = encoded.clone();
    damaged.encoded_exponent.push(0);
    if let Ok(unit) = Unit::new(damaged.as_slices()) {
        let blocks = unit.blocks();
        every_level_keeps_the_rules("a byte more", &damaged.as_slices(), iter::once(0..blocks));
    }
}

#[test]
fn buffers_and_blocks_of_the_wrong_size_are_the_same_errors_on_every_level() {
    let weights = bytes(&like_trained(30_000, 1));
    let encoded = encode(&weights).unwrap();
    let unit = encoded.as_unit();
    let mut out = vec![0; weights.len() + 2];
    for level in Level::all() {
        let decoder = Decoder::at_level(&unit, level);
        let blocks = unit.blocks();
        #[expect(clippy::reversed_empty_ranges, reason = "that is the case")]
        for run in [0..blocks + 1, blocks + 1..blocks + 1, 1..0, usize::MAX..usize::MAX, 0..usize::MAX] {
            let expected = unit.decode_blocks_into(run.clone(), &mut []);
            assert!(matches!(expected, Err(Error::RangeOutOfBounds { .. })));
            assert_eq!(decoder.decode_blocks_into(run.clone(), &mut []), expected);
            assert_eq!(decoder.verify_blocks_into(run, &mut []), expected);
        }
        for len in [0, 1, weights.len() - 2, weights.len() - 1, weights.len() + 1, weights.len() + 2] {
            let expected = unit.decode_into(&mut out[..len]);
            assert!(matches!(expected, Err(Error::BufferLength { .. })));
            assert_eq!(decoder.decode_into(&mut out[..len]), expected);
        }
        decoder.decode_blocks_into(blocks..blocks, &mut []).unwrap();
    }
}

#[test]
fn every_level_splits_and_merges_every_length_at_every_alignment() {
    let weights: Vec<u16> = (0..300u32).map(|i| (i * 40_503) as u16).collect();
    let all = bytes(&weights);
    let e: Vec<u8> = weights.iter().map(|w| bf16::exponent(*w)).collect();
    let sm: Vec<u8> = weights.iter().map(|w| bf16::sign_mantissa(*w)).collect();
    for level in Level::all() {
        for n in 0..=300 {
            for offset in 0..128 {
                let merged = framed(2 * n, offset, |out| bf16::merge_with(level, &e[..n], &sm[..n], out));
                assert!(merged.unwrap() == all[..2 * n], "{level:?} {n} {offset}");
                let mut other = Vec::new();
                let exponents = framed(n, offset, |exponents| {
                    let split = framed(n, offset / 3, |out| {
                        // The weights, too, begin anywhere.
                        bf16::split_with(level, &all[..2 * n], exponents, out)
                    });
                    other = split?;
                    Ok::<(), Error>(())
                });
                assert!(exponents.unwrap() == e[..n] && other == sm[..n], "{level:?} {n} {offset}");
            }
        }
        for at in 0..64 {
            let n = 200;
            let shifted = [&vec![0; at], &all[..2 * n]].concat();
            let (mut exponents, mut others) = (vec![0; n], vec![0; n]);
            bf16::split_with(level, &shifted[at..], &mut exponents, &mut others).unwrap();
            assert!(exponents == e[..n] && others == sm[..n]);
        }
    }
}

/// The histograms of the pieces of these tensors.
fn histograms(tensors: &[&[u8]], most: usize) -> Vec<[u64; 256]> {
    let histogram = |piece: Piece| {
        let mut frequencies = [0; 256];
        bf16::add_to_histogram(piece.weights(tensors), &mut frequencies).unwrap();
        frequencies
    };
    Piece::cut(tensors, most).map(histogram).collect()
}

/// Buffers of the right sizes, full of what must be overwritten.
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

/// Runs jobs from the last to the first.
fn backwards(jobs: &mut [Job<'_>]) {
    jobs.iter_mut().rev().for_each(Job::run);
}

/// Runs jobs from several threads at once.
fn side_by_side(jobs: &mut [Job<'_>]) {
    std::thread::scope(|scope| {
        for jobs in jobs.chunks_mut(jobs.len().div_ceil(3)) {
            scope.spawn(|| jobs.iter_mut().for_each(Job::run));
        }
    });
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
            let frequencies = histograms(&parts, most);
            for run in [backwards, side_by_side] {
                let mut unit = dirty(plan);
                encoder.encode_pieces(&parts, most, &frequencies, unit.as_mut_slices(), run).unwrap();
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

    #[test]
    fn every_level_decodes_any_weights(tensors in units(), least in 1u8..=8, limit in 8u8..=32) {
        let owned: Vec<Vec<u8>> = tensors.iter().map(|tensor| bytes(tensor)).collect();
        let parts: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
        let options = EncodeOptions::new().least_code_length(least).max_code_length(limit);
        let unit = options.encode(&parts).unwrap();
        every_level_keeps_the_rules("any weights", &unit.as_slices(), runs(&unit.as_slices()));
    }

    #[test]
    fn every_level_gives_the_same_error_for_any_damage(
        tensors in units(),
        damages in prop::collection::vec((0usize..6, any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..4),
    ) {
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
        if Unit::new(unit.as_slices()).is_ok() {
            every_level_keeps_the_rules("any damage", &unit.as_slices(), runs(&unit.as_slices()));
        }
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
    // Codewords of 1 to 32 bits, which pairs do not hold, and codes that end with a block or straddle over it.
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
fn jobs_may_be_run_again_but_not_left_out() {
    let tensors = [bytes(&like_trained(20_000, 1)), bytes(&like_trained(3, 2))];
    let parts: Vec<&[u8]> = tensors.iter().map(Vec::as_slice).collect();
    let plan = Plan::new(&parts, &EncodeOptions::default()).unwrap();
    let frequencies = histograms(&parts, 4000);
    let expected = plan.encode(&parts).unwrap();
    for level in Level::all() {
        let encoder = Encoder::at_level(&plan, level);
        let mut unit = dirty(&plan);
        let twice = |jobs: &mut [Job<'_>]| {
            backwards(jobs);
            side_by_side(jobs);
        };
        encoder.encode_pieces(&parts, 4000, &frequencies, unit.as_mut_slices(), twice).unwrap();
        assert!(unit == expected);
        for skipped in 0..frequencies.len() {
            let but_one = |jobs: &mut [Job<'_>]| {
                jobs.iter_mut().enumerate().filter(|(i, _)| *i != skipped).for_each(|(_, job)| job.run());
            };
            let result = encoder.encode_pieces(&parts, 4000, &frequencies, unit.as_mut_slices(), but_one);
            assert!(matches!(result, Err(Error::PlanMismatch { .. })), "{result:?}");
        }
        let result = encoder.encode_pieces(&parts, 4000, &frequencies, unit.as_mut_slices(), |_| ());
        assert!(matches!(result, Err(Error::PlanMismatch { .. })), "{result:?}");
    }
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
            let result = encoder.encode_pieces(&parts, 4000, frequencies, unit.as_mut_slices(), backwards);
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
            encoder.encode_pieces(tensors, 1000, frequencies, unit.as_mut_slices(), backwards)
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
                let result =
                    encoder.encode_pieces(&[&other], 1000, frequencies, unit.as_mut_slices(), side_by_side);
                match result {
                    // As for a plan: another unit with, by chance, as many bits.
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
            let result =
                encoder.encode_pieces(&[&planned], 1000, &frequencies, unit.as_mut_slices(), backwards);
            assert_eq!(result, expected);
            assert_eq!(encoder.encode_into(&[&planned], unit.as_mut_slices()), expected);
        }
    }
}
