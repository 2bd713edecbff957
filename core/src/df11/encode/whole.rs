//! Encoding a whole unit from start to end.

use df11_simd::{Operation, Simd};

use super::codebook::{Codebook, Entry};
use super::emit::{Sink, Window};
use crate::df11::gaps::{Gaps, gap_of};
use crate::df11::{WINDOW_BYTES, WINDOWS_PER_BLOCK};
use crate::{Error, bf16};

/// The sink for a whole unit: writes gaps as they are stored.
pub(super) struct WholeUnit<'a> {
    words: &'a mut [[u8; WINDOW_BYTES]],
    /// The bytes of the last window, if it is not whole.
    tail: &'a mut [u8],
    positions: core::slice::IterMut<'a, [u8; 4]>,
    gaps: Gaps<'a>,
    opened: usize,
    /// Windows of the unit; one that would begin after them is not there.
    windows: usize,
    /// Elements of the unit.
    elements: usize,
}

impl<'a> WholeUnit<'a> {
    pub(super) fn new(
        code: &'a mut [u8],
        positions: &'a mut [u8],
        gaps: &'a mut [u8],
        elements: usize,
    ) -> Self {
        let windows = code.len().div_ceil(WINDOW_BYTES);
        let (words, tail) = code.as_chunks_mut::<WINDOW_BYTES>();
        WholeUnit {
            words,
            tail,
            positions: positions.as_chunks_mut::<4>().0.iter_mut(),
            gaps: Gaps::new(gaps),
            opened: 0,
            windows,
            elements,
        }
    }

    /// Writes what is left: the last window, and the output positions that no block gave.
    pub(super) fn finish(mut self, window: &Window, code_bits: u64) -> Result<(), Error> {
        let mismatch = Error::PlanMismatch { element: window.elements() as u64 };
        if window.position() != code_bits || window.elements() != self.elements {
            return Err(mismatch);
        }
        if let Some(bits) = window.rest() {
            let bytes = bits.to_be_bytes();
            let last = match self.words.split_off_first_mut() {
                Some(word) => word.as_mut_slice(),
                None => self.tail,
            };
            // The code's length in bytes is right, so the last window has just the bytes that are
            // needed.
            last.copy_from_slice(bytes.get(..last.len()).ok_or(mismatch)?);
        }
        self.gaps.finish();
        for last in self.positions {
            *last = (self.elements as u32).to_le_bytes();
        }
        Ok(())
    }
}

impl Sink for WholeUnit<'_> {
    #[inline]
    fn elements(&self) -> usize {
        self.elements
    }

    #[inline]
    fn room(&mut self) -> &mut [[u8; WINDOW_BYTES]] {
        self.words
    }

    #[inline]
    fn advance(&mut self, windows: usize, gaps: &[u8], elements: impl Fn(usize) -> usize) {
        // They were lent, and so are there.
        let _ = self.words.split_off_mut(..windows);
        self.gaps.extend(gaps.get(..windows).unwrap_or(gaps));
        let next = self.opened.next_multiple_of(WINDOWS_PER_BLOCK) - self.opened;
        if next < windows
            && let Some(position) = self.positions.next()
        {
            *position = (elements(next) as u32).to_le_bytes();
        }
        self.opened += windows;
    }

    #[inline]
    fn open(&mut self, gap: u32, elements: usize) {
        if self.opened == self.windows {
            return;
        }
        self.gaps.push(gap_of(gap, elements < self.elements));
        if self.opened.is_multiple_of(WINDOWS_PER_BLOCK)
            && let Some(position) = self.positions.next()
        {
            *position = (elements as u32).to_le_bytes();
        }
        self.opened += 1;
    }

    #[inline]
    fn close(&mut self, window: u64) -> bool {
        self.words.split_off_first_mut().map(|word| *word = window.to_be_bytes()).is_some()
    }
}

/// Encodes a whole unit with `codewords` and a way to look pairs up.
pub(super) struct Encode<'a, P> {
    pub(super) codebook: &'a Codebook,
    pub(super) pairs: P,
    pub(super) tensors: &'a [&'a [u8]],
    pub(super) sign_mantissa: &'a mut [u8],
    pub(super) sink: WholeUnit<'a>,
    pub(super) code_bits: u64,
}

impl<P: Fn(u16) -> Entry + Copy> Operation for Encode<'_, P> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Result<(), Error> {
        let Encode { codebook, pairs, tensors, sign_mantissa, mut sink, code_bits } = self;
        let mut window = Window::default();
        sink.open(0, 0);
        let mut rest = sign_mantissa;
        for tensor in tensors {
            let weights = bf16::weights(tensor)?;
            let Some((now, later)) = rest.split_at_mut_checked(weights.len()) else {
                return Err(Error::PlanMismatch { element: window.elements() as u64 });
            };
            rest = later;
            window.append(simd, &mut sink, codebook, pairs, weights, now)?;
        }
        sink.finish(&window, code_bits)
    }
}
