//! Encoding chunks: the longest string each time (V-4.1).
//!
//! Strings are the nodes of a tree, in which each child extends its parent by one symbol. An
//! automaton walks the tree: from a string and a symbol, a table gives the longer string. If there
//! is none, the string ends here, and another begins. Each step has to wait for the previous one,
//! so several chunks are interleaved.

use alloc::vec;
use alloc::vec::Vec;

use super::{CHUNK, GROUP, Model, Width};
use crate::Error;

/// The number of chunks that are interleaved. More would not fit the registers; fewer would wait
/// for each other.
const MANY: usize = 4;

/// What a symbol leads to: the number of the string that is reached in the low 12 bits, bit 12 if
/// the string before has ended, and above it where the row of the string begins.
#[derive(Clone, Copy, Debug)]
struct Step(u64);

impl Step {
    const ENDS: u64 = 1 << 12;

    const fn new(row: usize, number: usize, ends: bool) -> Self {
        Step((row as u64) << 13 | number as u64 | if ends { Self::ENDS } else { 0 })
    }

    const fn row(self) -> usize {
        (self.0 >> 13) as usize
    }

    /// Whether the string before has ended, as a number.
    const fn ends(self) -> usize {
        (self.0 >> 12 & 1) as usize
    }

    /// The number, and what is above it in 16 bits: [`EncodeTable::pack`] cuts that off.
    const fn code(self) -> u16 {
        self.0 as u16
    }
}

/// A dictionary as the encoder walks it: some 350 KiB for trained weights.
#[derive(Clone, Debug)]
pub struct EncodeTable {
    width: Width,
    /// The column of each symbol; the last one for those that are not in the alphabet.
    columns: [u8; 256],
    /// Row by row. The first is that of strings that never go on, the second that of symbols that
    /// cannot be coded.
    steps: Vec<Step>,
    /// The length of a row.
    stride: usize,
}

/// The codes of a chunk, before they are packed.
type Codes = [u16; CHUNK + GROUP];

impl EncodeTable {
    /// Builds the table.
    #[must_use]
    pub fn new(model: &Model) -> Self {
        let (order, k) = model.order();
        let stride = (k + 1).min(256);
        // Frequent symbols share a cache line.
        let mut columns = [(stride - 1) as u8; 256];
        for (column, symbol) in order.iter().take(k).enumerate() {
            columns[usize::from(*symbol)] = column as u8;
        }
        let column = |symbol: u8| usize::from(columns[usize::from(symbol)]);
        let mut goes_on = vec![false; model.width().codes()];
        let mut strings = Vec::with_capacity(goes_on.len());
        model.walk(|visit| {
            if visit.len > 1 {
                goes_on[visit.parent] = true;
            }
            strings.push((visit.parent, visit.symbols[visit.len - 1], visit.len));
        });
        let mut rows = 2 * stride;
        let mut row = |goes_on: &bool| {
            rows += if *goes_on { stride } else { 0 };
            if *goes_on { rows - stride } else { 0 }
        };
        let row_of: Vec<usize> = goes_on.iter().map(&mut row).collect();
        // Where nothing goes on: the string of the symbol alone, or the second row, which leads to
        // itself.
        let mut begins = vec![Step::new(stride, 0, true); stride];
        for (number, (_, symbol, _)) in strings.iter().enumerate().filter(|(_, (.., len))| *len == 1) {
            begins[column(*symbol)] = Step::new(row_of[number], number, true);
        }
        let mut steps = begins.repeat(rows / stride);
        steps[stride..2 * stride].fill(Step::new(stride, 0, false));
        for (number, (parent, symbol, _)) in strings.iter().enumerate().filter(|(_, (.., len))| *len > 1) {
            steps[row_of[*parent] + column(*symbol)] = Step::new(row_of[number], number, false);
        }
        EncodeTable { width: model.width(), columns, steps, stride }
    }

    /// How wide codes are.
    #[must_use]
    pub const fn width(&self) -> Width {
        self.width
    }

    /// Encodes a chunk of 1 to [`CHUNK`] symbols, and appends its groups of codes to `codes`;
    /// returns how many groups.
    ///
    /// # Errors
    ///
    /// [`Error::NoSymbols`] for an empty chunk, [`Error::BufferLength`] for one that is too long,
    /// [`Error::NoFrequency`] if a symbol is not in the alphabet.
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

    /// Encodes chunks of [`CHUNK`] symbols, the last of what is left, and appends their codes;
    /// tells how many groups each has. Several chunks at once take a third of the time.
    ///
    /// ```
    /// use df11::hazmat::dictionary::{CHUNK, EncodeTable, Model, Width};
    ///
    /// let symbols: Vec<u8> = (0..10_000u32).map(|i| (i * i % 7) as u8).collect();
    /// let mut counts = [0; 256];
    /// symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
    /// let table = EncodeTable::new(&Model::of_counts(&counts, Width::Twelve)?);
    /// let (mut codes, mut groups) = (Vec::new(), Vec::new());
    /// table.encode_chunks(&symbols, &mut codes, |number| groups.push(number))?;
    /// assert_eq!(groups.len(), symbols.len().div_ceil(CHUNK));
    /// assert_eq!(codes.len(), groups.iter().map(|number| 12 * usize::from(*number)).sum());
    /// # Ok::<(), df11::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoFrequency`] if a symbol is not in the alphabet.
    pub fn encode_chunks(
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
                    [*number] = match <&[u8; CHUNK]>::try_from(chunk).ok() {
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

    /// Finds the codes of several interleaved chunks. Returns the number of codes of each chunk, or
    /// `None` where a symbol is not in the alphabet.
    #[inline(always)]
    fn walk<const N: usize>(&self, chunks: [&[u8; CHUNK]; N], codes: &mut [Codes; N]) -> [Option<usize>; N] {
        let mut steps = chunks.map(|chunk| self.steps[self.column(chunk[0])]);
        let mut numbers = [0; N];
        #[expect(clippy::needless_range_loop, reason = "of several chunks in turn")]
        for i in 1..CHUNK {
            for j in 0..N {
                self.step(&mut steps[j], chunks[j][i], &mut codes[j], &mut numbers[j]);
            }
        }
        core::array::from_fn(|j| self.finish(steps[j], &mut codes[j], numbers[j]))
    }

    /// [`walk`](Self::walk) for a chunk of any length.
    fn walk_one(&self, chunk: &[u8], codes: &mut Codes) -> Option<usize> {
        let (first, rest) = chunk.split_first()?;
        let (mut step, mut number) = (self.steps[self.column(*first)], 0);
        rest.iter().for_each(|symbol| self.step(&mut step, *symbol, codes, &mut number));
        self.finish(step, codes, number)
    }

    #[inline(always)]
    fn column(&self, symbol: u8) -> usize {
        usize::from(self.columns[usize::from(symbol)])
    }

    /// Goes on with a symbol: to a longer string, or to another, when the one before is a code.
    #[inline(always)]
    fn step(&self, step: &mut Step, symbol: u8, codes: &mut Codes, number: &mut usize) {
        let next = self.steps[step.row() + self.column(symbol)];
        // Written in any case, counted if it is one.
        codes[*number] = step.code();
        *number += next.ends();
        *step = next;
    }

    /// Ends the last string of a chunk.
    #[inline(always)]
    fn finish(&self, step: Step, codes: &mut Codes, number: usize) -> Option<usize> {
        codes[number] = step.code();
        (step.row() != self.stride).then_some(number + 1)
    }

    /// Appends whole groups.
    fn pack(&self, numbers: &[u16], codes: &mut Vec<u8>) {
        let groups = numbers.as_chunks::<GROUP>().0;
        let start = codes.len();
        codes.resize(start + groups.len() * self.width.group_bytes(), 0);
        let room = &mut codes[start..];
        match self.width {
            Width::Eight => {
                for (to, group) in room.as_chunks_mut::<8>().0.iter_mut().zip(groups) {
                    *to = group.map(|code| code as u8);
                }
            }
            Width::Twelve => {
                for (to, group) in room.as_chunks_mut::<12>().0.iter_mut().zip(groups) {
                    let [a, b, c, d, e, f, g, h] = group.map(|code| u64::from(code & 0xfff));
                    let low = a | b << 12 | c << 24 | d << 36 | e << 48 | f << 60;
                    let high = (f >> 4 | g << 8 | h << 20) as u32;
                    to[..8].copy_from_slice(&low.to_le_bytes());
                    to[8..].copy_from_slice(&high.to_le_bytes());
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
