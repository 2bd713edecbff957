//! Code that the suites share: an independent decoder, corpora, generators.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test support fails by panicking")]

pub mod archive_vectors;
pub mod clauses;
pub mod corpus;
mod delta_sample;
mod delta_single;
pub mod delta_vectors;
mod dictionary_vectors;
pub mod faults;
pub mod fixtures;
pub mod foreign;
mod frame_minor;
mod frame_pieces;
pub mod frame_sample;
mod frame_single;
pub mod frame_vectors;
mod spec_examples;
pub mod spec_text;
pub mod vectors;
pub mod walk;
pub mod weights;

use df11::EncodedUnit;

/// Returns a unit's part by number, 0 to 5 in the order of [`df11::PARTS`], so that loops can
/// damage each.
pub fn part(unit: &mut EncodedUnit, which: usize) -> &mut Vec<u8> {
    match which {
        0 => &mut unit.luts,
        1 => &mut unit.encoded_exponent,
        2 => &mut unit.sign_mantissa,
        3 => &mut unit.output_positions,
        4 => &mut unit.gaps,
        _ => &mut unit.split_positions,
    }
}

/// Returns the stated number of cases, or fewer if `PROPTEST_CASES` sets fewer, as in slow
/// (emulated, instrumented) runs.
#[must_use]
pub fn cases(stated: u32) -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|number| number.parse().ok());
    asked.map_or(stated, |asked: u32| asked.min(stated))
}
