//! Encoding chunks: the longest string each time (V-4.1).
//!
//! Strings are the nodes of a tree, in which each goes on with one symbol more. An automaton walks it: from a string and
//! a symbol, a table knows the longer string or, where there is none, that the string ends here and another begins. A
//! step has to wait for the one before; so several chunks go in turn.

use alloc::vec;
use alloc::vec::Vec;

use super::{CHUNK, GROUP, Model, Width};
use crate::Error;

/// Chunks that are encoded in turn.
const MANY: usize = 8;

/// What a step leads to: the string that is reached in the low 12 bits, above it its row, 12 bits; bit 31 if the string
/// before has ended.
type Step = u32;

const ROW: u32 = 12;
const ENDS: Step = 1 << 31;
const NUMBERS: u32 = 0xfff;

/// A dictionary as the encoder walks it, some 300 KiB for trained weights.
#[derive(Clone, Debug)]
pub struct EncodeTable {
    width: Width,
    /// The column of each symbol; the last one for those that are not in the alphabet.
    columns: [u8; 256],
    /// The logarithm of the length of a row.
    shift: u32,
    /// Row 0 is that of strings that never go on, row 1 that of symbols that cannot be coded.
    steps: Vec<Step>,
}

/// The codes of a chunk, before they are packed.
type Codes = [u16; CHUNK + GROUP];

impl EncodeTable {
    /// Builds the table.
    #[must_use]
    pub fn new(model: &Model) -> Self {
        let (order, k) = model.order();
        let columns_used = (k + 1).min(256);
        let shift = columns_used.next_power_of_two().ilog2();
        // Frequent symbols share a cache line.
        let mut columns = [(columns_used - 1) as u8; 256];
        for (column, symbol) in order.iter().take(k).enumerate() {
            columns[usize::from(*symbol)] = column as u8;
        }
        let mut goes_on = vec![false; model.width().codes()];
        let mut strings = Vec::with_capacity(goes_on.len());
        model.walk(|visit| {
            if visit.len > 1 {
                goes_on[visit.parent] = true;
            }
            strings.push((visit.parent, visit.symbols[visit.len - 1], visit.len));
        });
        let mut rows = 2;
        let row_of: Vec<u32> = goes_on
            .iter()
            .map(|goes_on| {
                rows += u32::from(*goes_on);
                if *goes_on { rows - 1 } else { 0 }
            })
            .collect();
        let step = |number: usize| row_of[number] << ROW | number as u32;
        // Where nothing goes on: the string of the symbol alone, or row 1, which leads to itself.
        let mut begins = vec![1 << ROW | ENDS; 1 << shift];
        for (number, (_, symbol, len)) in strings.iter().enumerate() {
            if *len == 1 {
                begins[usize::from(columns[usize::from(*symbol)])] = step(number) | ENDS;
            }
        }
        let mut steps = Vec::with_capacity((rows as usize) << shift);
        for row in 0..rows {
            match row {
                1 => steps.resize(2 << shift, 1 << ROW),
                _ => steps.extend_from_slice(&begins),
            }
        }
        for (number, (parent, symbol, len)) in strings.iter().enumerate() {
            if *len > 1 {
                let row = row_of[*parent] as usize;
                steps[(row << shift) + usize::from(columns[usize::from(*symbol)])] = step(number);
            }
        }
        EncodeTable { width: model.width(), columns, shift, steps }
    }

    /// How wide codes are.
    #[must_use]
    pub const fn width(&self) -> Width {
        self.width
    }

    /// Encodes a chunk of 1 to [`CHUNK`] symbols, and appends its groups of codes to `codes`; returns how many groups.
    ///
    /// # Errors
    ///
    /// [`Error::NoSymbols`] for an empty chunk, [`Error::BufferLength`] for one that is too long, [`Error::NoFrequency`] if a
    /// symbol is not in the alphabet.
    pub fn encode(&self, symbols: &[u8], codes: &mut Vec<u8>) -> Result<usize, Error> {
        if symbols.is_empty() {
            return Err(Error::NoSymbols);
        }
        if symbols.len() > CHUNK {
            let (expected, found) = (CHUNK as u64, symbols.len() as u64);
            return Err(Error::BufferLength { buffer: "symbols", expected, found });
        }
        let mut groups = 0;
        self.encode_chunks(symbols, codes, |of_chunk| groups = of_chunk)?;
        Ok(usize::from(groups))
    }

    /// Encodes chunks of [`CHUNK`] symbols, the last of what is left, and appends their codes; tells how many groups each has.
    pub(crate) fn encode_chunks(
        &self,
        symbols: &[u8],
        codes: &mut Vec<u8>,
        mut groups: impl FnMut(u16),
    ) -> Result<(), Error> {
        let mut scratch = vec![[0; CHUNK + GROUP]; MANY];
        for some in symbols.chunks(MANY * CHUNK) {
            let whole = some.as_chunks::<CHUNK>().0;
            let mut numbers = [None; MANY];
            if let (Some(chunks), Some(scratch)) = (whole.first_chunk(), scratch.first_chunk_mut()) {
                numbers = self.walk(chunks.each_ref(), scratch);
            } else {
                let each = numbers.iter_mut().zip(&mut scratch).zip(some.chunks(CHUNK));
                for ((number, scratch), chunk) in each {
                    [*number] = match chunk.as_array() {
                        Some(chunk) => self.walk([chunk], core::array::from_mut(scratch)),
                        None => [self.walk_one(chunk, scratch)],
                    };
                }
            }
            for ((scratch, number), _) in scratch.iter_mut().zip(numbers).zip(some.chunks(CHUNK)) {
                let number = number.ok_or_else(|| self.unknown(symbols))?;
                let of_chunk = scratch.split_at_mut(number.next_multiple_of(GROUP)).0;
                of_chunk[number..].fill(0);
                groups((of_chunk.len() / GROUP) as u16);
                self.pack(of_chunk, codes);
            }
        }
        Ok(())
    }

    /// Finds the codes of chunks, several in turn; returns how many each has, `None` where a symbol is not in the alphabet.
    #[inline(always)]
    fn walk<const N: usize>(&self, chunks: [&[u8; CHUNK]; N], codes: &mut [Codes; N]) -> [Option<usize>; N] {
        let mut steps = chunks.map(|chunk| self.begin(chunk[0]));
        let mut numbers = [0; N];
        #[expect(clippy::needless_range_loop, reason = "of several chunks in turn")]
        for i in 1..CHUNK {
            for j in 0..N {
                self.step(&mut steps[j], chunks[j][i], &mut codes[j], &mut numbers[j]);
            }
        }
        core::array::from_fn(|j| finish(steps[j], &mut codes[j], numbers[j]))
    }

    fn walk_one(&self, chunk: &[u8], codes: &mut Codes) -> Option<usize> {
        let (first, rest) = chunk.split_first()?;
        let (mut step, mut number) = (self.begin(*first), 0);
        rest.iter().for_each(|symbol| self.step(&mut step, *symbol, codes, &mut number));
        finish(step, codes, number)
    }

    #[inline(always)]
    fn begin(&self, symbol: u8) -> Step {
        self.steps[usize::from(self.columns[usize::from(symbol)])] & !ENDS
    }

    /// Goes on with a symbol: to a longer string, or to another, when the one before is a code.
    #[inline(always)]
    fn step(&self, step: &mut Step, symbol: u8, codes: &mut Codes, number: &mut usize) {
        let row = (*step >> ROW & NUMBERS) as usize;
        let next = self.steps[(row << self.shift) + usize::from(self.columns[usize::from(symbol)])];
        // Written in any case, counted if it is one.
        codes[*number] = (*step & NUMBERS) as u16;
        *number += (next >> 31) as usize;
        *step = next;
    }

    /// Appends whole groups.
    fn pack(&self, numbers: &[u16], codes: &mut Vec<u8>) {
        for group in numbers.as_chunks::<GROUP>().0 {
            match self.width {
                Width::Eight => codes.extend(group.map(|code| code as u8)),
                Width::Twelve => {
                    let all = (0..)
                        .step_by(12)
                        .zip(group)
                        .fold(0, |all, (bit, code)| all | u128::from(*code) << bit);
                    codes.extend_from_slice(all.to_le_bytes().first_chunk::<12>().unwrap_or(&[0; 12]));
                }
            }
        }
    }

    fn unknown(&self, symbols: &[u8]) -> Error {
        let is_unknown = |symbol: u8| self.walk_one(&[symbol], &mut [0; CHUNK + GROUP]).is_none();
        let index = symbols.iter().position(|symbol| is_unknown(*symbol)).unwrap_or_default();
        Error::NoFrequency { symbol: symbols.get(index).copied().unwrap_or_default(), index }
    }
}

/// Ends the last string of a chunk.
#[inline(always)]
fn finish(step: Step, codes: &mut Codes, number: usize) -> Option<usize> {
    codes[number] = (step & NUMBERS) as u16;
    (step >> ROW & NUMBERS != 1).then_some(number + 1)
}
