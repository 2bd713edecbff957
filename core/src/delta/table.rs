//! The tables of a delta, as its decoder looks symbols up.

use df11_simd::delta::{SCALE_BITS, Slots, TABLES};

use super::SUM;
use crate::{Error, Level};

/// The tables of one delta, in the caller's memory: 64 KiB.
///
/// All zeros when it is [new](DecodeTable::new), so that a `static` of it takes no space in an
/// image.
#[derive(Clone, Debug)]
pub struct DecodeTable {
    pub(super) slots: Slots,
    /// Of which delta: the checksum of its header; 0 of none.
    pub(super) of: u32,
    /// The instruction set; `None` for the best.
    pub(super) level: Option<Level>,
}

impl DecodeTable {
    /// A table of no delta, to be [built](super::Delta::build).
    #[must_use]
    pub const fn new() -> DecodeTable {
        DecodeTable { slots: [0; TABLES << SCALE_BITS], of: 0, level: None }
    }

    /// Decodes with the instruction set of this level, for tests and benchmarks.
    pub const fn set_level(&mut self, level: Level) {
        self.level = Some(level);
    }

    /// Fills in the tables of a header.
    pub(super) fn fill(&mut self, tables: usize, bytes: &[u8]) -> Result<(), Error> {
        let mut reader = Reader { bytes };
        for table in self.slots.as_chunks_mut::<{ SUM as usize }>().0.iter_mut().take(tables) {
            let mut slots = table.iter_mut();
            reader.table(|symbol, frequency| {
                for (offset, slot) in (0..frequency).zip(&mut slots) {
                    *slot = offset << 20 | frequency << 8 | u32::from(symbol);
                }
            })?;
        }
        Ok(())
    }
}

impl Default for DecodeTable {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads tables of the header (B-5.4).
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Error> {
        let (first, rest) = self.bytes.split_first().ok_or(Error::DeltaTable)?;
        self.bytes = rest;
        Ok(*first)
    }

    /// Reads a table; gives each symbol that has a frequency.
    pub(super) fn table(&mut self, mut each: impl FnMut(u8, u32)) -> Result<(), Error> {
        let (mut symbol, mut sum, mut after_run) = (0u32, 0, false);
        while sum < SUM {
            let first = self.byte()?;
            if first == 0 {
                symbol += 1 + u32::from(self.byte()?);
                if core::mem::replace(&mut after_run, true) {
                    return Err(Error::DeltaTable);
                }
                continue;
            }
            let frequency = match first {
                1..=127 => u32::from(first),
                _ => match u32::from(first - 128) << 8 | u32::from(self.byte()?) {
                    0..128 => return Err(Error::DeltaTable),
                    frequency => frequency,
                },
            };
            after_run = false;
            sum += frequency;
            match u8::try_from(symbol) {
                Ok(symbol) if sum <= SUM => each(symbol, frequency),
                _ => return Err(Error::DeltaTable),
            }
            symbol += 1;
        }
        Ok(())
    }
}
