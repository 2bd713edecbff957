//! The fast decoders: on every instruction set, they give the result of the rules, one codeword at
//! a time.

use std::iter;
use std::ops::Range;

use df11::hazmat::bits::BitReader;
use df11::hazmat::layout::{BLOCK_BITS, WINDOW_BITS, WINDOWS_PER_BLOCK};
use df11::{Decoder, EncodeOptions, Error, Level, Parts, Unit, bf16, encode};
use df11_tests::cases;
use df11_tests::weights::{bytes, like_trained};
use proptest::prelude::*;

use crate::support::{kinds_of_units, units};

/// Decodes one block by the rules alone: each codeword is looked up in the unit's tables, and the
/// errors are those of the rules. It shares only the look-up of a single symbol with the decoders.
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

/// Decodes into a part of a larger buffer that begins `offset` bytes after a multiple of 128.
/// Checks that the surrounding bytes are unchanged.
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

/// Compares, on every instruction set, the decoding of these runs of blocks with that of the rules,
/// including errors.
pub(crate) fn every_level_keeps_the_rules(
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
        // Units are too long to print, so this reports only where they differ.
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

/// Yields every run of blocks, including empty ones. With more than seven blocks, it yields the
/// runs that touch either end, and single blocks. If few cases are requested, it yields some of
/// these.
pub(crate) fn runs(tensors: &Parts<&[u8]>) -> impl Iterator<Item = Range<usize>> + use<> {
    let blocks = Unit::new(*tensors).unwrap().blocks();
    let all = (0..=blocks).flat_map(move |start| (start..=blocks).map(move |end| start..end));
    all.filter(move |run| blocks <= 7 || run.len() == 1 || run.start <= 1 || run.end == blocks)
        .step_by((20 / cases(20).max(1)) as usize)
}

#[test]
fn every_level_decodes_every_run_of_blocks_of_every_kind_of_unit() {
    for (name, unit) in kinds_of_units() {
        every_level_keeps_the_rules(&name, &unit.as_slices(), runs(&unit.as_slices()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(60)))]

    #[test]
    fn every_level_decodes_any_weights(tensors in units(), least in 1u8..=8, limit in 8u8..=32) {
        let owned: Vec<Vec<u8>> = tensors.iter().map(|tensor| bytes(tensor)).collect();
        let parts: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
        let options = EncodeOptions::new().least_code_length(least).max_code_length(limit);
        let unit = options.encode(&parts).unwrap();
        every_level_keeps_the_rules("any weights", &unit.as_slices(), runs(&unit.as_slices()));
    }
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
