//! The official encoder's units: decoded in every way, checked by an independent walk, encoded
//! again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use df11::hazmat::huffman::Codewords;
use df11::{EncodeOptions, Unit};
use df11_tests::fixtures;
use df11_tests::walk::{stated_gaps, stated_positions, walk};
use df11_tests::weights;
use sha2::{Digest, Sha256};

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn every_fixture_decodes_to_the_digest_in_its_manifest() {
    for fixture in fixtures::all() {
        fixture.with_unit(|tensors| {
            let unit = Unit::new(tensors).unwrap();
            let mut decoded = vec![0; 2 * unit.len()];
            unit.decode_into(&mut decoded).unwrap();
            assert_eq!(sha256(&decoded), fixture.sha256(), "{}", fixture.name);

            let mut verified = vec![0; 2 * unit.len()];
            unit.verify_blocks_into(0..unit.blocks(), &mut verified).unwrap();
            assert!(verified == decoded, "{}", fixture.name);

            let mut blocks = Vec::new();
            for block in 0..unit.blocks() {
                let mut weights = vec![0; 2 * unit.block_range(block).len()];
                unit.decode_block_into(block, &mut weights).unwrap();
                blocks.extend(weights);
            }
            assert!(blocks == decoded, "{}", fixture.name);
        });
    }
}

#[test]
fn every_fixture_has_the_sizes_in_its_manifest() {
    for fixture in fixtures::all() {
        fixture.with_unit(|tensors| {
            let unit = Unit::new(tensors).unwrap();
            let stated = |key: &str| fixture.manifest[key].as_u64().unwrap() as usize;
            assert_eq!(unit.len(), stated("elements"));
            assert_eq!(unit.tensors(), stated("tensors"));
            assert_eq!(unit.code_bytes(), stated("encoded_bytes"));
            assert_eq!(tensors.output_positions.len(), 4 * stated("output_positions"));
            assert_eq!(
                unit.tables().tables().len() as u64 + 1,
                fixture.manifest["luts"][0].as_u64().unwrap()
            );
            let longest = unit.tables().code_lengths().iter().max();
            assert_eq!(usize::from(*longest.unwrap()), stated("max_code_length"));
            assert_eq!(unit.has_short_positions(), fixture.name == "short_output_positions");
        });
    }
}

#[test]
fn an_independent_walk_finds_the_same_weights_gaps_and_positions() {
    for fixture in fixtures::all() {
        fixture.with_unit(|tensors| {
            let walk = walk(&tensors);
            assert_eq!(sha256(&weights::bytes(&walk.weights)), fixture.sha256(), "{}", fixture.name);
            assert_eq!(stated_gaps(&tensors)[..walk.gaps.len()], walk.gaps);
            assert_eq!(stated_positions(&tensors)[..walk.positions.len()], walk.positions);
        });
    }
}

#[test]
fn every_fixture_encoded_again_decodes_through_the_independent_walk() {
    for fixture in fixtures::all() {
        fixture.with_unit(|tensors| {
            let unit = Unit::new(tensors).unwrap();
            let mut decoded = vec![0; 2 * unit.len()];
            unit.decode_into(&mut decoded).unwrap();
            let parts: Vec<&[u8]> =
                unit.tensor_ranges().map(|range| &decoded[2 * range.start..2 * range.end]).collect();
            let encoded = EncodeOptions::new().encode(&parts).unwrap();
            assert_eq!(encoded.split_positions, tensors.split_positions);
            assert_eq!(encoded.sign_mantissa, tensors.sign_mantissa);
            // No code of single symbols is shorter than a Huffman code, and this project's code has
            // no end-of-stream symbol.
            assert!(encoded.encoded_exponent.len() <= tensors.encoded_exponent.len(), "{}", fixture.name);

            let walk = walk(&encoded.as_slices());
            assert!(weights::bytes(&walk.weights) == decoded, "{}", fixture.name);
            let gaps = stated_gaps(&encoded.as_slices());
            assert_eq!(gaps, walk.written_gaps(gaps.len()));
            let positions = stated_positions(&encoded.as_slices());
            assert_eq!(positions.len(), encoded.as_unit().blocks() + 1);
            assert_eq!(positions[..walk.positions.len()], walk.positions);
        });
    }
}

#[test]
fn codewords_recovered_from_official_tables_are_a_prefix_code_with_the_stated_lengths() {
    for fixture in fixtures::all() {
        fixture.with_unit(|tensors| {
            let unit = Unit::new(tensors).unwrap();
            let code = Codewords::from_tables(&unit.tables());
            let used: Vec<u8> =
                (0..240).filter(|s| unit.tables().code_lengths()[usize::from(*s)] > 0).collect();
            for &a in &used {
                assert_eq!(code.len(a), unit.tables().code_lengths()[usize::from(a)], "{}", fixture.name);
                for &b in used.iter().filter(|b| **b != a && code.len(**b) >= code.len(a)) {
                    assert_ne!(code.bits(a), code.bits(b) >> (code.len(b) - code.len(a)), "{a} and {b}");
                }
                let aligned = code.bits(a) << (32 - code.len(a));
                assert_eq!(unit.tables().decode(aligned, 0), Ok((a, code.len(a))));
            }
        });
    }
}
