//! Decoding blocks.
//!
//! The algorithm is that of section 5 of the specification, with a table of all slots. Where the
//! code departs from it:
//!
//! 1. Lanes are processed from the last to the first. Each lane that needs a word takes the last
//!    remaining one. This gives the order of R-5.1 without counting first which lanes need one.
//! 2. If the CPU has vectors for it, eight lanes run at once, or 32 if the alphabet suits them.
//!    Several blocks are interleaved, so that each hides the latency of the others; see
//!    [`df11_simd::rans`].

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use df11_simd::rans::DecodeWindow;
#[cfg(target_arch = "x86_64")]
use df11_simd::rans::RansTable;
use df11_simd::rans::{DecodeTables, Stream};
use df11_simd::{Operation, Simd};

use super::{Frequencies, LANES, MANY, START_STATE, STATE_BITS, STATES_BYTES, WORD_BYTES};
use crate::{Error, Level};

/// The most slots: 2 to the power of 12 scale bits.
const SLOTS: usize = 1 << 12;

/// Frequencies as the decoder looks them up, in the caller's memory: 18 KiB, and 16 KiB on machines
/// that have no vectors for it.
#[derive(Clone, Debug)]
pub struct DecodeTable {
    /// By slot: the symbol in the low byte, above it the frequency less one, 12 bits, and the slot
    /// less the cumulative frequency, 12 bits.
    slots: [u32; SLOTS],
    scale_bits: u8,
    #[cfg(target_arch = "x86_64")]
    vector: Option<RansTable>,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    window: Option<DecodeWindow>,
}

/// A block to decode: its states, its words, and as many symbols as it has.
#[derive(Debug)]
pub struct DecodeBlock<'a> {
    /// The states of the lanes.
    pub states: &'a [u8; STATES_BYTES],
    /// The words. What follows them may be there too; see [`words_bytes`](Self::words_bytes).
    pub words: &'a [u8],
    /// How many bytes of `words` are the block's; decoding is a little faster where 64 more can be
    /// read after them.
    pub words_bytes: usize,
    /// Where the symbols go.
    pub symbols: &'a mut [u8],
}

impl DecodeTable {
    /// The table of an alphabet of one symbol, 0; to be [built](Self::build) for others.
    ///
    /// All zeros (one symbol, 0 scale bits) on machines without vectors, so a `static` initialised
    /// with it goes to `.bss` and takes no space in a firmware image.
    #[must_use]
    pub const fn new() -> DecodeTable {
        DecodeTable {
            slots: [0; SLOTS],
            scale_bits: 0,
            #[cfg(target_arch = "x86_64")]
            vector: None,
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            window: None,
        }
    }

    /// Makes this the table of these frequencies.
    pub fn build(&mut self, frequencies: &Frequencies) {
        self.scale_bits = frequencies.scale_bits();
        let mut slots = self.slots.iter_mut();
        for (symbol, frequency, _) in frequencies.symbols() {
            for (offset, slot) in (0..frequency).zip(&mut slots) {
                *slot = offset << 20 | (frequency - 1) << 8 | u32::from(symbol);
            }
        }
        #[cfg(target_arch = "x86_64")]
        {
            self.vector = RansTable::new(frequencies.as_array(), u32::from(self.scale_bits));
        }
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        {
            self.window = DecodeWindow::new(frequencies.as_array(), u32::from(self.scale_bits));
        }
    }

    /// What decoders elsewhere need, GPUs among them: for each slot (2 to the power of the scale
    /// bits) the symbol in the low byte, above it the frequency less one, 12 bits, and the slot
    /// less the cumulative frequency, 12 bits.
    ///
    /// ```
    /// use df11::hazmat::rans::{DecodeTable, Frequencies};
    ///
    /// let mut counts = [0; 256];
    /// (counts[7], counts[9]) = (3, 1);
    /// let mut table = DecodeTable::new();
    /// table.build(&Frequencies::normalise(&counts, 9)?);
    /// assert_eq!(table.slots()[385], 1 << 20 | 127 << 8 | 9);
    /// # Ok::<(), df11::Error>(())
    /// ```
    #[must_use]
    pub fn slots(&self) -> &[u32] {
        self.slots.get(..1 << self.scale_bits).unwrap_or(&self.slots)
    }

    /// Decodes a block.
    ///
    /// # Errors
    ///
    /// [`Error::LaneState`], [`Error::WordsMissing`], [`Error::WordsLeft`] or [`Error::LastState`]
    /// if it is invalid by R-5.3 to R-5.5, [`Error::NoSymbols`] if `symbols` is empty,
    /// [`Error::OddWords`] if `words` is no whole number of words. The symbols are then no
    /// particular ones.
    pub fn decode_into(
        &self,
        states: &[u8; STATES_BYTES],
        words: &[u8],
        symbols: &mut [u8],
    ) -> Result<(), Error> {
        let words_bytes = words.len();
        self.decode_blocks(Level::best(), &mut [DecodeBlock { states, words, words_bytes, symbols }])
    }

    /// Decodes several interleaved blocks with the instruction set of this level.
    ///
    /// # Errors
    ///
    /// The errors of [`decode_into`](Self::decode_into), for one of the invalid blocks;
    /// [`Error::BufferLength`] if a block's range of words is longer than `words`.
    pub fn decode_blocks(&self, level: Level, blocks: &mut [DecodeBlock<'_>]) -> Result<(), Error> {
        level.dispatch(Decode { table: self, blocks })
    }
}

impl Default for DecodeTable {
    fn default() -> Self {
        Self::new()
    }
}

struct Decode<'d, 'b> {
    table: &'d DecodeTable,
    blocks: &'d mut [DecodeBlock<'b>],
}

impl Operation for Decode<'_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Result<(), Error> {
        let Decode { table, blocks } = self;
        let (many, few) = blocks.as_chunks_mut::<MANY>();
        for blocks in many {
            table.decode(simd, blocks)?;
        }
        let (two, one) = few.as_chunks_mut::<2>();
        for blocks in two {
            table.decode(simd, blocks)?;
        }
        for block in one {
            table.decode(simd, core::array::from_mut(block))?;
        }
        Ok(())
    }
}

impl DecodeTable {
    #[inline(always)]
    fn decode<S: Simd, const N: usize>(
        &self,
        simd: S,
        blocks: &mut [DecodeBlock<'_>; N],
    ) -> Result<(), Error> {
        let mut error = Ok(());
        let mut streams = blocks.each_mut().map(|block| match self.begin(block) {
            Ok(stream) => stream,
            Err(first) => {
                error = error.and(Err(first));
                Stream { states: [START_STATE; LANES], words: &[], left: 0, symbols: &mut [] }
            }
        });
        error?;
        if S::RANS {
            let tables = DecodeTables {
                slots: &self.slots,
                scale_bits: u32::from(self.scale_bits),
                #[cfg(target_arch = "x86_64")]
                ranks: self.vector.as_ref(),
                #[cfg(not(target_arch = "x86_64"))]
                ranks: None,
                #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
                window: self.window.as_ref(),
                #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
                window: None,
            };
            // The first steps: a vector of words is read where it begins, so there must be some
            // more after them.
            for stream in &mut streams {
                while stream.left + LANES > stream.words.len() && self.step(stream)? {}
            }
            simd.decode_rans(tables, &mut streams);
            for stream in &mut streams {
                // Blocks may be of different lengths.
                simd.decode_rans(tables, core::array::from_mut(stream));
            }
        }
        for stream in &mut streams {
            while self.step(stream)? {}
            if stream.left > 0 {
                return Err(Error::WordsLeft { words: stream.left });
            }
            let mut states = stream.states.into_iter().enumerate();
            if let Some((lane, state)) = states.find(|(_, state)| *state != START_STATE) {
                return Err(Error::LastState { lane, state });
            }
        }
        Ok(())
    }

    /// Checks a block, and decodes its last step if that is not whole.
    #[inline(always)]
    fn begin<'b>(&self, block: &'b mut DecodeBlock<'_>) -> Result<Stream<'b>, Error> {
        if block.symbols.is_empty() {
            return Err(Error::NoSymbols);
        }
        if block.words_bytes > block.words.len() {
            let (expected, found) = (block.words_bytes as u64, block.words.len() as u64);
            return Err(Error::BufferLength { buffer: "words", expected, found });
        }
        if !block.words_bytes.is_multiple_of(WORD_BYTES) {
            return Err(Error::OddWords { bytes: block.words_bytes });
        }
        let mut states = [0; LANES];
        for (lane, (state, bytes)) in states.iter_mut().zip(block.states.as_chunks::<4>().0).enumerate() {
            *state = u32::from_le_bytes(*bytes);
            if !(START_STATE..1 << STATE_BITS).contains(state) {
                return Err(Error::LaneState { lane, state: *state });
            }
        }
        let (symbols, rest) = block.symbols.as_chunks_mut::<LANES>();
        let words = block.words.as_chunks::<WORD_BYTES>().0;
        let mut stream = Stream { states, words, left: block.words_bytes / WORD_BYTES, symbols };
        self.lanes(&mut stream.states, stream.words, &mut stream.left, rest)
            .ok_or(Error::WordsMissing { step: stream.symbols.len() })?;
        Ok(stream)
    }

    /// Decodes the last step that is left; `false` if there is none.
    #[inline(always)]
    fn step(&self, stream: &mut Stream<'_>) -> Result<bool, Error> {
        let Some((last, before)) = core::mem::take(&mut stream.symbols).split_last_mut() else {
            return Ok(false);
        };
        stream.symbols = before;
        let words = stream.words.get(..stream.left).and_then(|words| words.last_chunk());
        match words {
            Some(words) => stream.left -= self.all_lanes(&mut stream.states, words, last),
            None => self
                .lanes(&mut stream.states, stream.words, &mut stream.left, last)
                .ok_or(Error::WordsMissing { step: stream.symbols.len() })?,
        }
        Ok(true)
    }

    /// Decodes one symbol of each lane, where there are as many words; returns how many it took.
    /// Whether a lane needs one cannot be guessed, so nothing branches on it.
    #[inline(always)]
    fn all_lanes(
        &self,
        states: &mut [u32; LANES],
        words: &[[u8; WORD_BYTES]; LANES],
        symbols: &mut [u8; LANES],
    ) -> usize {
        let (scale_bits, mut taken) = (u32::from(self.scale_bits), 0);
        let mask = (1 << scale_bits) - 1;
        for (symbol, state) in symbols.iter_mut().zip(states).rev() {
            let slot = self.slots[(*state & mask) as usize % SLOTS];
            *symbol = slot as u8;
            let x = ((slot >> 8 & 0xfff) + 1) * (*state >> scale_bits) + (slot >> 20);
            let more = x << 16 | u32::from(u16::from_le_bytes(words[(LANES - 1 - taken) % LANES]));
            let is_needy = x < START_STATE;
            *state = core::hint::select_unpredictable(is_needy, more, x);
            taken += usize::from(is_needy);
        }
        taken
    }

    /// Decodes one symbol of each of the first lanes. `None` if words are missing.
    #[inline(always)]
    fn lanes(
        &self,
        states: &mut [u32; LANES],
        words: &[[u8; WORD_BYTES]],
        left: &mut usize,
        symbols: &mut [u8],
    ) -> Option<()> {
        let (scale_bits, mut next) = (u32::from(self.scale_bits), *left);
        for (symbol, state) in symbols.iter_mut().zip(states).rev() {
            let slot = self.slots[(*state as usize % SLOTS) & ((1 << scale_bits) - 1)];
            *symbol = slot as u8;
            let x = ((slot >> 8 & 0xfff) + 1) * (*state >> scale_bits) + (slot >> 20);
            *state = x;
            if x < START_STATE {
                next = next.checked_sub(1)?;
                *state = x << 16 | u32::from(u16::from_le_bytes(*words.get(next)?));
            }
        }
        *left = next;
        Some(())
    }
}
