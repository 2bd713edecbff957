//! Writing the code of a unit: codewords, gaps and output positions.
//!
//! The algorithm: append the codeword of each exponent to a *window*, 64 bits that fill from the
//! top. What is left of a codeword when the window is full begins the next one, and its length is
//! the next window's gap. So gaps cost nothing for each codeword, only for each window, and output
//! positions only for each block.
//!
//! Where the code departs from it:
//!
//! 1. Four weights are loaded at once, and their codewords put together before they go into the
//!    window.
//! 2. With an allocator, the codewords of pairs of exponents come from a table of 2^16 entries. The
//!    encoder touches only a few hundred of them. This halves the look-ups.
//!    [`Encoder`](super::Encoder) holds the table.
//! 3. If the CPU can look up 64 codewords at once, the encoder combines those of eight weights
//!    before they go into the window; see [`Simd::code_group`]. Groups that this cannot handle (a
//!    codeword above 16 bits, or eight weights above 63) fall back to path 1.
//! 4. A unit can be written in *pieces*, each from a bit that the pieces before it decide: see
//!    `pieces.rs`.

use df11_simd::{CodeTable, GROUP, GROUP_WINDOWS, Simd};

use super::codebook::{Codebook, Entry, NO_CODEWORD};
use crate::df11::{WINDOW_BITS, WINDOW_BYTES};
use crate::{Error, bf16};

/// The number of weights that are split before they are coded.
const STEP: usize = 4096;

/// The number of groups of weights between two checks of the sink.
const MANY: usize = 16;

/// Takes finished windows, and records where new ones begin.
pub(super) trait Sink {
    /// Elements of the unit.
    fn elements(&self) -> usize;

    /// Returns the windows from the open one on, as far as they are complete and writable.
    fn room(&mut self) -> &mut [[u8; WINDOW_BYTES]];

    /// Records that the first `windows` windows of the room were written and closed, and that the
    /// window after each of them was opened with these gaps. `elements` returns how many elements
    /// begin before the `i`-th opened window.
    fn advance(&mut self, windows: usize, gaps: &[u8], elements: impl Fn(usize) -> usize);

    /// Opens a window, with its gap and the number of elements whose codewords begin before it.
    fn open(&mut self, gap: u32, elements: usize);

    /// Closes the window that was opened last, which is full. Returns `false` if the plan has no
    /// such window.
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
    /// A window whose first `used` bits belong to the previous piece, after `elements` elements.
    #[cfg(feature = "rayon")]
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

    /// Appends a tensor's codewords, and splits its signs and mantissas off. `pairs` gives the
    /// codewords of two exponents, the first in the low byte of its argument.
    #[inline(always)]
    pub(super) fn append<S: Simd>(
        &mut self,
        simd: S,
        sink: &mut impl Sink,
        codebook: &Codebook,
        pairs: impl Fn(u16) -> Entry + Copy,
        weights: &[[u8; 2]],
        sign_mantissas: &mut [u8],
    ) -> Result<(), Error> {
        let (mut weights, mut sign_mantissas) = (weights, sign_mantissas);
        if S::GROUPS {
            let (mut groups, rest) = weights.as_chunks::<GROUP>();
            let (mut split, split_rest) = sign_mantissas.as_chunks_mut::<GROUP>();
            while !groups.is_empty() {
                let done = self.append_groups(simd, sink, &codebook.groups, groups, split);
                if done == 0
                    && let (Some(group), Some(split)) = (groups.first(), split.first_mut())
                {
                    bf16::split_sign_mantissas(group, split);
                    self.append_fours(simd, sink, codebook, pairs, group)?;
                }
                (groups, split) = (&groups[done.max(1)..], &mut split[done.max(1)..]);
            }
            (weights, sign_mantissas) = (rest, split_rest);
        }
        // Steps that stay in the first-level cache between the two loops.
        for (weights, sign_mantissas) in weights.chunks(STEP).zip(sign_mantissas.chunks_mut(STEP)) {
            bf16::split_sign_mantissas(weights, sign_mantissas);
            self.append_fours(simd, sink, codebook, pairs, weights)?;
        }
        Ok(())
    }

    /// Appends the codewords of the first groups, of as many as can be done at once; returns their
    /// number.
    #[inline(always)]
    fn append_groups(
        &mut self,
        simd: impl Simd,
        sink: &mut impl Sink,
        table: &CodeTable,
        weights: &[[[u8; 2]; GROUP]],
        sign_mantissas: &mut [[u8; GROUP]],
    ) -> usize {
        // The compiler keeps this private copy in registers.
        let table = table.clone();
        let most = (sink.elements() - self.elements).saturating_sub(1) / GROUP;
        let room = sink.room();
        let most = most.min(room.len().saturating_sub(1) / GROUP_WINDOWS);
        let (mut bits, mut used, mut closed) = (self.bits, self.used, 0);
        let (mut gaps, mut crossings) = ([0; (MANY + 1) * GROUP_WINDOWS], [0; MANY]);
        let mut put = |codewords: u64, length: u64| {
            // Without branches: each stores the window, full or not, and the next of them what it
            // has become.
            bits |= codewords >> used;
            room[closed] = bits.to_be_bytes();
            // By less than 64: an empty window is not filled by less than 64 bits.
            let next = codewords << (used.wrapping_neg() % WINDOW_BITS as u32);
            used += length as u32;
            bits = if used >= WINDOW_BITS as u32 { next } else { bits };
            closed += (used / WINDOW_BITS as u32) as usize;
            used %= WINDOW_BITS as u32;
            (used, closed)
        };
        let (mut done, mut at) = (0, (self.used, 0));
        for ((weights, split), crossing) in weights.iter().zip(sign_mantissas).zip(&mut crossings).take(most)
        {
            let Some(group) = simd.code_group(&table, weights, split, at.0) else { break };
            if let Some(gaps) = gaps.get_mut(at.1..).and_then(|gaps| gaps.first_chunk_mut()) {
                *gaps = group.ends.gaps;
            }
            *crossing = group.ends.crossing;
            if group.is_by_16 {
                for i in 0..4 {
                    at = put(group.by_16[i], group.lengths_by_16[i]);
                }
            } else {
                for i in 0..8 {
                    at = put(group.by_8[i], group.lengths_by_8[i]);
                }
            }
            done += 1;
        }
        (self.bits, self.used) = (bits, used);
        self.closed += closed as u64;
        let elements = self.elements;
        sink.advance(closed, &gaps, |i| {
            let mut i = i as u32;
            let mut elements = elements;
            for &crossing in &crossings {
                if i < crossing.count_ones() {
                    let later = (0..i).fold(crossing, |crossing, _| crossing & crossing.wrapping_sub(1));
                    return elements + later.trailing_zeros() as usize + 1;
                }
                i -= crossing.count_ones();
                elements += GROUP;
            }
            elements
        });
        self.elements += done * GROUP;
        done
    }

    /// Appends codewords, those of four weights at a time.
    #[inline(always)]
    fn append_fours(
        &mut self,
        simd: impl Simd,
        sink: &mut impl Sink,
        codebook: &Codebook,
        pairs: impl Fn(u16) -> Entry,
        weights: &[[u8; 2]],
    ) -> Result<(), Error> {
        let codewords = &codebook.entries;
        let (fours, rest) = weights.as_chunks::<4>();
        let mut window = *self;
        let mut left = fours.iter();
        loop {
            // A loop of its own for what stays within the window: the rest needs many registers,
            // and comes once in six.
            let (mut bits, mut used) = (window.bits, window.used);
            let crossing = loop {
                let Some(four) = left.next() else { break None };
                let exponents = simd.four_exponents(u64::from_le_bytes(
                    *four.as_flattened().first_chunk().unwrap_or(&[0; 8]),
                ));
                let (first, second) = (pairs(exponents as u16), pairs((exponents >> 16) as u16));
                let middle = used + first.length;
                let end = middle + second.length;
                if end >= WINDOW_BITS as u32 {
                    break Some((four, exponents, first, second));
                }
                bits |= first.bits >> used | second.bits >> middle;
                used = end;
            };
            (window.bits, window.used) = (bits, used);
            window.elements = self.elements + 4 * (fours.len() - left.as_slice().len());
            let Some((four, exponents, first, second)) = crossing else { break };
            window.elements -= 4;
            if first.length + second.length > WINDOW_BITS as u32 {
                for weight in four {
                    window.push(sink, codewords, *weight)?;
                }
                continue;
            }
            // Which of the four crosses the end of the window? The computation has no branch,
            // because no branch predictor could guess the answer.
            let [e, _, f, _] = exponents.to_le_bytes();
            let middle = used + first.length;
            let ends = [
                used + codewords[usize::from(e)].length,
                middle,
                middle + codewords[usize::from(f)].length,
                middle + second.length,
            ];
            let (mut end, mut before) = (ends[3], 1);
            for earlier in [ends[2], ends[1], ends[0]] {
                let is_within = earlier < WINDOW_BITS as u32;
                end = if is_within { end } else { earlier };
                before += usize::from(is_within);
            }
            let code = Entry {
                bits: first.bits | second.bits >> first.length,
                length: first.length + second.length,
            };
            window.next(sink, code, end - WINDOW_BITS as u32, before)?;
        }
        window.elements = self.elements + 4 * fours.len();
        for weight in rest {
            window.push(sink, codewords, *weight)?;
        }
        *self = window;
        Ok(())
    }

    /// Appends one codeword.
    #[inline]
    fn push(&mut self, sink: &mut impl Sink, codewords: &[Entry; 256], weight: [u8; 2]) -> Result<(), Error> {
        let entry = codewords[usize::from(bf16::exponent(u16::from_le_bytes(weight)))];
        if entry.length == NO_CODEWORD {
            return Err(Error::PlanMismatch { element: self.elements as u64 });
        }
        let used = self.used + entry.length;
        if used < WINDOW_BITS as u32 {
            self.bits |= entry.bits >> self.used;
            self.used = used;
            self.elements += 1;
            return Ok(());
        }
        self.next(sink, entry, used - WINDOW_BITS as u32, 1)?;
        self.elements += 1;
        Ok(())
    }

    /// Fills the window with codewords that reach its end or cross it, and begins the next with
    /// what is left of them. The codewords of `before` more elements begin before that one, and its
    /// gap is `gap`.
    #[inline(always)]
    fn next(&mut self, sink: &mut impl Sink, code: Entry, gap: u32, before: usize) -> Result<(), Error> {
        if !sink.close(self.bits | code.bits >> self.used) {
            return Err(Error::PlanMismatch { element: (self.elements + before) as u64 - 1 });
        }
        sink.open(gap, self.elements + before);
        // By 64, which it is for an empty window, a u64 cannot be shifted at once.
        self.bits = code.bits << 1 << (WINDOW_BITS as u32 - 1 - self.used);
        self.used = self.used + code.length - WINDOW_BITS as u32;
        self.closed += 1;
        Ok(())
    }
}
