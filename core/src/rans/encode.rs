//! Encoding blocks.
//!
//! The algorithm is that of section 4 of the specification. Where the code departs from it:
//!
//! 1. The division is a multiplication by a reciprocal. With `m = ceil(2^(31+P) / f)`, `x m`
//!    exceeds `x 2^(31+P) / f` by less than `x`, and `x < f 2^(31-P)`; so `x m div 2^(31+P)` is
//!    `x div f` exactly, since what is lost, less than `f 2^(31-P)`, is at most `2^(31+P) / f`, the
//!    least by which a remainder can differ from its divisor.
//! 2. A word is always stored; it counts if it was to be appended.
//! 3. If the CPU has vectors for it, eight lanes run at once, or 32 if the alphabet is small.
//!    Several blocks are interleaved; see [`df11_simd::rans`].

use df11_simd::rans::{EncodeTables, EncodeWindow, NO_ENTRY, RansTable, Writing};
use df11_simd::{Operation, Simd};

use super::{Frequencies, LANES, START_STATE, STATE_BITS, STATES_BYTES, WORD_BYTES, words_bound};
use crate::{Error, Level};

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

/// The number of blocks that are interleaved.
const MANY: usize = 4;

/// Frequencies as the encoder looks them up. 8 KiB.
#[derive(Clone, Debug)]
pub struct EncodeTable {
    entries: [Entry; 256],
    /// As [`EncodeTables`] has them.
    packed: [u32; 256],
    scale_bits: u8,
    vector: Option<RansTable>,
    window: Option<EncodeWindow>,
}

/// A block to encode.
#[derive(Debug)]
pub struct EncodeBlock<'a> {
    /// Its symbols, at least one.
    pub symbols: &'a [u8],
    /// Where the states of the lanes go.
    pub states: &'a mut [u8; STATES_BYTES],
    /// Where the words go: room for [`words_bound`] bytes.
    pub words: &'a mut [u8],
    /// How many bytes of words were written.
    pub words_bytes: usize,
}

impl EncodeTable {
    /// Builds the table.
    #[must_use]
    pub fn new(frequencies: &Frequencies) -> Self {
        let scale_bits = frequencies.scale_bits();
        let mut entries = [Entry::default(); 256];
        let mut packed = [NO_ENTRY; 256];
        for (symbol, frequency, start) in frequencies.symbols() {
            packed[usize::from(symbol)] = start << 12 | (frequency - 1);
            entries[usize::from(symbol)] = Entry {
                reciprocal: (1u64 << (STATE_BITS + u32::from(scale_bits))).div_ceil(u64::from(frequency)),
                limit: frequency << (STATE_BITS - u32::from(scale_bits)),
                rest: (1 << scale_bits) - frequency,
                start,
            };
        }
        let vector = RansTable::new(frequencies.as_array(), u32::from(scale_bits));
        let window = EncodeWindow::new(frequencies.as_array(), u32::from(scale_bits));
        EncodeTable { entries, packed, scale_bits, vector, window }
    }

    /// Encodes a block of at least one symbol. Returns how many bytes of words there are, at the
    /// front of `words`, which must have room for [`words_bound`] bytes.
    ///
    /// # Errors
    ///
    /// [`Error::NoSymbols`] for an empty block, [`Error::BufferLength`] if the room is too small,
    /// [`Error::NoFrequency`] if a symbol cannot be coded.
    pub fn encode_into(
        &self,
        symbols: &[u8],
        states: &mut [u8; STATES_BYTES],
        words: &mut [u8],
    ) -> Result<usize, Error> {
        let mut blocks = [EncodeBlock { symbols, states, words, words_bytes: 0 }];
        self.encode_blocks(Level::best(), &mut blocks)?;
        Ok(blocks[0].words_bytes)
    }

    /// Encodes several interleaved blocks with the instruction set of this level.
    ///
    /// # Errors
    ///
    /// The errors of [`encode_into`](Self::encode_into), for one of the invalid blocks.
    pub fn encode_blocks(&self, level: Level, blocks: &mut [EncodeBlock<'_>]) -> Result<(), Error> {
        level.dispatch(Encode { table: self, blocks })
    }
}

struct Encode<'e, 'b> {
    table: &'e EncodeTable,
    blocks: &'e mut [EncodeBlock<'b>],
}

impl Operation for Encode<'_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Result<(), Error> {
        let Encode { table, blocks } = self;
        let (many, few) = blocks.as_chunks_mut::<MANY>();
        for blocks in many {
            table.encode(simd, blocks)?;
        }
        let (two, one) = few.as_chunks_mut::<2>();
        for blocks in two {
            table.encode(simd, blocks)?;
        }
        for block in one {
            table.encode(simd, core::array::from_mut(block))?;
        }
        Ok(())
    }
}

impl EncodeTable {
    #[inline(always)]
    fn encode<S: Simd, const N: usize>(
        &self,
        simd: S,
        blocks: &mut [EncodeBlock<'_>; N],
    ) -> Result<(), Error> {
        for block in &*blocks {
            let (expected, found) = (words_bound(block.symbols.len()) as u64, block.words.len() as u64);
            if block.symbols.is_empty() {
                return Err(Error::NoSymbols);
            }
            if found < expected {
                return Err(Error::BufferLength { buffer: "words", expected, found });
            }
        }
        let mut writing = blocks.each_mut().map(|block| Writing {
            states: [START_STATE; LANES],
            symbols: block.symbols.as_chunks().0,
            words: block.words.as_chunks_mut().0,
            used: 0,
        });
        if S::RANS {
            let tables = EncodeTables {
                entries: &self.packed,
                scale_bits: u32::from(self.scale_bits),
                ranks: self.vector.as_ref(),
                window: self.window.as_ref(),
            };
            simd.encode_rans(tables, &mut writing);
            for writing in &mut writing {
                // Blocks may be of different lengths.
                simd.encode_rans(tables, core::array::from_mut(writing));
            }
        }
        let written = writing.map(|writing| (writing.states, writing.symbols.len(), writing.used));
        for (block, (mut states, left, mut used)) in blocks.iter_mut().zip(written) {
            let first = block.symbols.len() / LANES - left;
            for (step, symbols) in block.symbols.chunks(LANES).enumerate().skip(first) {
                // There is a word for each symbol, and so for all of this step.
                let room = block.words.as_chunks_mut().0.get_mut(used..).unwrap_or_default();
                let appended = match (<&[u8; LANES]>::try_from(symbols), room.first_chunk_mut()) {
                    (Ok(symbols), Some(room)) => self.all_lanes(&mut states, symbols, room),
                    _ => self.lanes(&mut states, symbols, |at, word| {
                        if let Some(to) = room.get_mut(at) {
                            *to = word;
                        }
                    }),
                };
                used += appended.map_err(|lane| Error::NoFrequency {
                    symbol: symbols.get(lane).copied().unwrap_or_default(),
                    index: step * LANES + lane,
                })?;
            }
            for (bytes, state) in block.states.as_chunks_mut::<4>().0.iter_mut().zip(states) {
                *bytes = state.to_le_bytes();
            }
            block.words_bytes = used * WORD_BYTES;
        }
        Ok(())
    }

    /// Encodes a symbol in each lane; returns the number of words that they appended.
    ///
    /// # Errors
    ///
    /// The first lane whose symbol has no frequency.
    #[inline(never)]
    fn all_lanes(
        &self,
        states: &mut [u32; LANES],
        symbols: &[u8; LANES],
        words: &mut [[u8; WORD_BYTES]; LANES],
    ) -> Result<usize, usize> {
        self.lanes(states, symbols, |at, word| words[at % LANES] = word)
    }

    /// Encodes a symbol in each of the first lanes; returns the number of words that they appended.
    /// Each lane stores a word, which the next one overwrites if it was not to be appended: so
    /// nothing branches on that.
    ///
    /// # Errors
    ///
    /// The first lane whose symbol has no frequency.
    #[inline(always)]
    fn lanes(
        &self,
        states: &mut [u32; LANES],
        symbols: &[u8],
        mut store: impl FnMut(usize, [u8; WORD_BYTES]),
    ) -> Result<usize, usize> {
        let shift = STATE_BITS + u32::from(self.scale_bits);
        let mut used = 0;
        for (lane, (&symbol, state)) in symbols.iter().zip(states).enumerate() {
            let Entry { reciprocal, limit, rest, start } = self.entries[usize::from(symbol)];
            if limit == 0 {
                return Err(lane);
            }
            let (half, is_full) = (*state >> 16, *state >= limit);
            store(used, (*state as u16).to_le_bytes());
            let x = core::hint::select_unpredictable(is_full, half, *state);
            used += usize::from(is_full);
            let quotient = ((u64::from(x) * reciprocal) >> shift) as u32;
            *state = x + start + quotient * rest;
        }
        Ok(used)
    }
}
