//! Encoding blocks.
//!
//! The algorithm is that of section 4 of the specification. Where the code departs from it:
//!
//! 1. The division is a multiplication by a reciprocal. With `m = ceil(2^(31+P) / f)`, `x m` exceeds `x 2^(31+P) / f` by
//!    less than `x`, and `x < f 2^(31-P)`; so `x m div 2^(31+P)` is `x div f` exactly, since what is lost, less than `f
//!    2^(31-P)`, is at most `2^(31+P) / f`, the least by which a remainder can differ from its divisor.
//! 2. A word is always stored; it counts if it was to be appended.

use super::{Frequencies, LANES, START_STATE, STATE_BITS, STATES_BYTES, WORD_BYTES, words_bound};
use crate::Error;

/// What is needed to encode a symbol.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// `ceil(2^(31+P) / f)`
    reciprocal: u64,
    /// States from `f 2^(31-P)` on append a word first; 0 if there is no frequency.
    limit: u32,
    /// `2^P - f`
    rest: u32,
    /// The cumulative frequency.
    start: u32,
}

/// Frequencies as the encoder looks them up. 6 KiB.
#[derive(Clone, Debug)]
pub struct EncodeTable {
    entries: [Entry; 256],
    scale_bits: u8,
}

impl EncodeTable {
    /// Builds the table.
    #[must_use]
    pub fn new(frequencies: &Frequencies) -> Self {
        let scale_bits = frequencies.scale_bits();
        let mut entries = [Entry::default(); 256];
        for (symbol, frequency, start) in frequencies.symbols() {
            entries[usize::from(symbol)] = Entry {
                reciprocal: (1u64 << (STATE_BITS + u32::from(scale_bits))).div_ceil(u64::from(frequency)),
                limit: frequency << (STATE_BITS - u32::from(scale_bits)),
                rest: (1 << scale_bits) - frequency,
                start,
            };
        }
        EncodeTable { entries, scale_bits }
    }

    /// Encodes a block of at least one symbol. Returns how many bytes of words there are, at the front of `words`, which
    /// must have room for [`words_bound`] bytes.
    ///
    /// # Errors
    ///
    /// [`Error::NoSymbols`] for an empty block, [`Error::BufferLength`] if the room is too small, [`Error::NoFrequency`] if
    /// a symbol cannot be coded.
    pub fn encode_into(
        &self,
        symbols: &[u8],
        states: &mut [u8; STATES_BYTES],
        words: &mut [u8],
    ) -> Result<usize, Error> {
        let (expected, found) = (words_bound(symbols.len()) as u64, words.len() as u64);
        if symbols.is_empty() {
            return Err(Error::NoSymbols);
        }
        if found < expected {
            return Err(Error::BufferLength { buffer: "words", expected, found });
        }
        let shift = STATE_BITS + u32::from(self.scale_bits);
        let mut lanes = [START_STATE; LANES];
        let mut room = words.as_chunks_mut::<WORD_BYTES>().0;
        let mut used = 0;
        for (step, symbols) in symbols.chunks(LANES).enumerate() {
            // There is a word for each symbol, and so for all of this step.
            let mut number = 0;
            for (lane, (&symbol, state)) in symbols.iter().zip(&mut lanes).enumerate() {
                let Entry { reciprocal, limit, rest, start } = self.entries[usize::from(symbol)];
                if limit == 0 {
                    return Err(Error::NoFrequency { symbol, index: step * LANES + lane });
                }
                let is_full = *state >= limit;
                if let Some(word) = room.get_mut(number) {
                    *word = (*state as u16).to_le_bytes();
                }
                number += usize::from(is_full);
                let x = if is_full { *state >> 16 } else { *state };
                let quotient = ((u64::from(x) * reciprocal) >> shift) as u32;
                *state = x + start + quotient * rest;
            }
            room = room.split_at_mut_checked(number).map_or(&mut [], |(_, rest)| rest);
            used += number;
        }
        for (bytes, state) in states.as_chunks_mut::<4>().0.iter_mut().zip(lanes) {
            *bytes = state.to_le_bytes();
        }
        Ok(used * WORD_BYTES)
    }
}
