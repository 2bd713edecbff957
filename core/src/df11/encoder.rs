//! Writing the code of a unit: codewords, gaps and output positions.
//!
//! The algorithm: append the codeword of each exponent to a *window*, 64 bits that fill from the top. What is left of a
//! codeword when the window is full begins the next one, and its length is the next window's gap. So gaps cost nothing
//! for each codeword, only for each window, and output positions only for each block.
//!
//! Where the code departs from it:
//!
//! 1. Four weights are loaded at once, and their codewords put together before they go into the window.
//! 2. With an allocator, the codewords of pairs of exponents come from one table of 2^16 entries, of which a few hundred
//!    are ever touched. That halves the look-ups; [`Encoder`] holds it.
//! 3. A unit can be written in *pieces*, each from a bit that the pieces before it decide: see [`Encoder::encode_piece`].

use super::{GAP_BITS, WINDOW_BITS, WINDOW_BYTES, WINDOWS_PER_BLOCK};
use crate::bits::BitWriter;
use crate::huffman::Codewords;
use crate::{Error, bf16};

/// The longest codeword of a pair that an entry holds, in bits.
const PAIR_BITS: u32 = 56;

/// A codeword, or those of several exponents after one another: the bits, and below them, in 8 bits, how many.
type Entry = u64;

const fn bits(entry: Entry) -> u64 {
    entry >> 8
}

const fn length(entry: Entry) -> u32 {
    (entry & 0xff) as u32
}

/// The codewords by exponent; entry 0 where there is none.
pub(super) fn entries(code: &Codewords) -> [Entry; 256] {
    core::array::from_fn(|symbol| {
        u64::from(code.bits(symbol as u8)) << 8 | u64::from(code.len(symbol as u8))
    })
}

/// The codewords of two exponents, or 0 if one has none or they are too long.
#[inline(always)]
pub(super) fn pair(first: Entry, second: Entry) -> Entry {
    let both = length(first) + length(second);
    if first == 0 || second == 0 || both > PAIR_BITS {
        return 0;
    }
    (bits(first) << length(second) | bits(second)) << 8 | u64::from(both)
}

/// Where finished windows go, and what is known of those that begin.
pub(super) trait Sink {
    /// A window begins: its gap, and how many elements' codewords begin before it.
    fn open(&mut self, gap: u32, elements: usize);

    /// The window that was opened last is full. `false` if there was to be none.
    fn close(&mut self, window: u64) -> bool;
}

/// The window that is being filled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    /// Its bits, from the top down.
    bits: u64,
    /// How many of them are filled, 0 to 63.
    used: u32,
    /// Elements that were appended, to this window and those before it.
    elements: usize,
    /// Windows that were closed.
    closed: u64,
}

impl Window {
    /// A window of which the first `used` bits belong to somebody else, after `elements` elements.
    pub(super) const fn starting(used: u32, elements: usize) -> Self {
        Window { bits: 0, used, elements, closed: 0 }
    }

    /// Bits from the start of the first window.
    pub(super) const fn position(&self) -> u64 {
        self.closed * WINDOW_BITS + self.used as u64
    }

    pub(super) const fn elements(&self) -> usize {
        self.elements
    }

    /// The bits of the window that is not full yet; `None` if it is empty.
    pub(super) const fn rest(&self) -> Option<u64> {
        if self.used > 0 { Some(self.bits) } else { None }
    }

    /// Appends a tensor's codewords.
    #[inline(always)]
    pub(super) fn append(
        &mut self,
        sink: &mut impl Sink,
        codewords: &[Entry; 256],
        pairs: impl Fn(usize) -> Entry,
        weights: &[[u8; 2]],
    ) -> Result<(), Error> {
        let (fours, rest) = weights.as_chunks::<4>();
        let mut window = *self;
        for four in fours {
            let weights = u64::from_le_bytes(*four.as_flattened().first_chunk().unwrap_or(&[0; 8]));
            // The exponents, each in the low byte of 16 bits; then, in the low 16 bits of either half, a pair.
            let exponents = weights >> 7 & 0x00ff_00ff_00ff_00ff;
            let indices = exponents | exponents >> 8;
            let (first, second) = (pairs(indices as usize & 0xffff), pairs((indices >> 32) as usize & 0xffff));
            let added = length(first) + length(second);
            let code = bits(first) << length(second) | bits(second);
            let used = window.used + added;
            if first != 0 && second != 0 && used < WINDOW_BITS as u32 {
                window.bits |= code << (WINDOW_BITS as u32 - used);
                window.used = used;
                window.elements += 4;
                continue;
            }
            for weight in four {
                window.push(sink, codewords, *weight)?;
            }
        }
        for weight in rest {
            window.push(sink, codewords, *weight)?;
        }
        *self = window;
        Ok(())
    }

    /// Appends one codeword.
    #[inline(always)]
    fn push(&mut self, sink: &mut impl Sink, codewords: &[Entry; 256], weight: [u8; 2]) -> Result<(), Error> {
        let entry = codewords[usize::from(bf16::exponent(u16::from_le_bytes(weight)))];
        if entry == 0 {
            return Err(Error::PlanMismatch { element: self.elements as u64 });
        }
        self.elements += 1;
        let used = self.used + length(entry);
        if used < WINDOW_BITS as u32 {
            self.bits |= bits(entry) << (WINDOW_BITS as u32 - used);
            self.used = used;
            return Ok(());
        }
        let over = used - WINDOW_BITS as u32;
        if !sink.close(self.bits | bits(entry) >> over) {
            return Err(Error::PlanMismatch { element: self.elements as u64 - 1 });
        }
        sink.open(over, self.elements);
        // `over` is 0 to 31; by 64 a u64 cannot be shifted.
        self.bits = if over == 0 { 0 } else { bits(entry) << (WINDOW_BITS as u32 - over) };
        self.used = over;
        self.closed += 1;
        Ok(())
    }
}

/// The sink for a whole unit: writes gaps as they are stored.
pub(super) struct WholeUnit<'a> {
    words: core::slice::IterMut<'a, [u8; WINDOW_BYTES]>,
    /// The bytes of the last window, if it is not whole.
    tail: &'a mut [u8],
    positions: core::slice::IterMut<'a, [u8; 4]>,
    gaps: BitWriter<'a>,
    opened: usize,
    /// Windows of the unit; one that would begin after them is not there.
    windows: usize,
    /// Elements of the unit.
    elements: usize,
    intact: bool,
}

impl<'a> WholeUnit<'a> {
    pub(super) fn new(code: &'a mut [u8], positions: &'a mut [u8], gaps: &'a mut [u8], elements: usize) -> Self {
        // What follows the last window's gap stays zero.
        gaps.fill(0);
        let windows = code.len().div_ceil(WINDOW_BYTES);
        let (words, tail) = code.as_chunks_mut::<WINDOW_BYTES>();
        WholeUnit {
            words: words.iter_mut(),
            tail,
            positions: positions.as_chunks_mut::<4>().0.iter_mut(),
            gaps: BitWriter::new(gaps),
            opened: 0,
            windows,
            elements,
            intact: true,
        }
    }

    /// Writes what is left: the last window, and the output positions that no block gave.
    pub(super) fn finish(mut self, window: &Window, code_bits: u64) -> Result<(), Error> {
        let mismatch = Error::PlanMismatch { element: window.elements as u64 };
        if window.position() != code_bits || window.elements != self.elements || !self.intact {
            return Err(mismatch);
        }
        if let Some(bits) = window.rest() {
            let bytes = bits.to_be_bytes();
            let last = match self.words.next() {
                Some(word) => word.as_mut_slice(),
                None => self.tail,
            };
            // The code's length in bytes is right, so the last window has just the bytes that are needed.
            last.copy_from_slice(bytes.get(..last.len()).ok_or(mismatch)?);
        }
        self.gaps.finish()?;
        for last in self.positions {
            *last = (self.elements as u32).to_le_bytes();
        }
        Ok(())
    }
}

impl Sink for WholeUnit<'_> {
    #[inline]
    fn open(&mut self, gap: u32, elements: usize) {
        if self.opened == self.windows {
            return;
        }
        // Where a codeword only straddles into the last window, none begins there, and its gap is 0.
        let gap = if elements < self.elements { gap } else { 0 };
        self.intact &= self.gaps.write(gap, GAP_BITS).is_ok();
        if self.opened.is_multiple_of(WINDOWS_PER_BLOCK)
            && let Some(position) = self.positions.next()
        {
            *position = (elements as u32).to_le_bytes();
        }
        self.opened += 1;
    }

    #[inline]
    fn close(&mut self, window: u64) -> bool {
        self.words.next().map(|word| *word = window.to_be_bytes()).is_some()
    }
}
