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
//! 2. With an allocator, the codewords of pairs of exponents come from a table of 2^16 entries, of
//!    which a few hundred are ever touched. That halves the look-ups; [`Encoder`](super::Encoder)
//!    holds it.
//! 3. Where the machine can look 64 codewords up at once, it does, and puts those of eight weights
//!    together before they go into the window; see [`Simd::code_group`]. What that cannot do, such
//!    as codewords of more than 16 bits, goes the way of 1.
//! 4. A unit can be written in *pieces*, each from a bit that the pieces before it decide: see
//!    [`Encoder::encode_pieces`](super::Encoder::encode_pieces).

use df11_simd::{CodeTable, Codeword, GROUP, GROUP_WINDOWS, Operation, Simd};

use super::{GAP_BITS, WINDOW_BITS, WINDOW_BYTES, WINDOWS_PER_BLOCK};
use crate::huffman::Codewords;
use crate::{Error, bf16};

/// A codeword, or those of two exponents after one another: the bits, the first at the top, and how
/// many.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    pub(super) bits: u64,
    pub(super) length: u32,
}

/// The length of what has no codeword: more than any window holds, so that no comparison of its own
/// is needed.
pub(super) const NO_CODEWORD: u32 = 255;

/// The codewords by exponent.
fn entries(code: &Codewords) -> [Entry; 256] {
    core::array::from_fn(|symbol| match u32::from(code.len(symbol as u8)) {
        0 => Entry { bits: 0, length: NO_CODEWORD },
        length => Entry { bits: u64::from(code.bits(symbol as u8)) << (WINDOW_BITS as u32 - length), length },
    })
}

/// The codewords of two exponents.
#[inline(always)]
pub(super) fn pair(first: Entry, second: Entry) -> Entry {
    if first.length == NO_CODEWORD || second.length == NO_CODEWORD {
        return Entry { bits: 0, length: NO_CODEWORD };
    }
    Entry { bits: first.bits | second.bits >> first.length, length: first.length + second.length }
}

/// The codewords in the forms in which they are looked up.
#[derive(Clone, Debug)]
pub(super) struct Codebook {
    pub(super) entries: [Entry; 256],
    groups: CodeTable,
}

impl Codebook {
    pub(super) fn of(code: &Codewords) -> Self {
        let has_codeword = |symbol: &u8| code.len(*symbol) > 0;
        let groups = CodeTable::new((0..=u8::MAX).filter(has_codeword).map(|symbol| Codeword {
            bits: code.bits(symbol),
            length: code.len(symbol),
            symbol,
        }));
        Codebook { entries: entries(code), groups }
    }

    /// The codewords of two exponents, the first in the low byte.
    #[inline(always)]
    pub(super) fn pair(&self, both: u16) -> Entry {
        let [first, second] = both.to_le_bytes().map(usize::from);
        pair(self.entries[first], self.entries[second])
    }
}

/// Weights that are split before they are coded.
const STEP: usize = 4096;

/// Groups of weights between two looks at the sink.
const MANY: usize = 16;

/// Where finished windows go, and what is known of those that begin.
pub(super) trait Sink {
    /// Elements of the unit.
    fn elements(&self) -> usize;

    /// The windows from the one that is open, as far as they are whole and can be written to.
    fn room(&mut self) -> &mut [[u8; WINDOW_BYTES]];

    /// The first `windows` of that room were written and closed, and the windows after each of them
    /// opened, with these gaps. `elements` says how many elements begin before the `i`-th that was
    /// opened.
    fn advance(&mut self, windows: usize, gaps: &[u8], elements: impl Fn(usize) -> usize);

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
    #[cfg(feature = "alloc")]
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
        // A copy that nobody else can see: the compiler keeps it in registers.
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
            // Which of the four crosses the end of the window? Asked without branches, since nobody
            // could guess.
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

/// Eight gaps in 40 bits, the first at the top.
#[inline]
pub(super) fn pack(gaps: [u8; 8]) -> u64 {
    let ones = u64::from_be_bytes(gaps);
    let twos = ones & 0x001f_001f_001f_001f | (ones & 0x1f00_1f00_1f00_1f00) >> 3;
    let fours = twos & 0x0000_03ff_0000_03ff | (twos & 0x03ff_0000_03ff_0000) >> 6;
    fours & 0xf_ffff | fours >> 12 & 0xff_fff0_0000
}

/// Gaps on their way to 5 bits each, eight of them to 5 bytes.
pub(super) struct Gaps<'a> {
    groups: core::slice::IterMut<'a, [u8; GAP_BITS as usize]>,
    held: u64,
    number: usize,
}

impl<'a> Gaps<'a> {
    pub(super) fn new(gaps: &'a mut [u8]) -> Self {
        // What follows the last window's gap stays zero.
        gaps.fill(0);
        Gaps { groups: gaps.as_chunks_mut().0.iter_mut(), held: 0, number: 0 }
    }

    #[inline]
    pub(super) fn push(&mut self, gap: u8) {
        self.held = self.held << GAP_BITS | u64::from(gap);
        self.number += 1;
        if self.number == 8 {
            self.flush();
        }
    }

    #[inline]
    pub(super) fn extend(&mut self, gaps: &[u8]) {
        let (first, gaps) = gaps.split_at(gaps.len().min((8 - self.number) % 8));
        let (eights, rest) = gaps.as_chunks();
        first.iter().for_each(|&gap| self.push(gap));
        for eight in eights {
            self.held = pack(*eight);
            self.flush();
        }
        rest.iter().for_each(|&gap| self.push(gap));
    }

    fn flush(&mut self) {
        let [_, _, _, group @ ..] = self.held.to_be_bytes();
        // A unit has gaps for whole blocks of windows: there is a group for every one that is
        // pushed.
        if let Some(to) = self.groups.next() {
            *to = group;
        }
        (self.held, self.number) = (0, 0);
    }

    pub(super) fn finish(mut self) {
        if self.number > 0 {
            self.held <<= GAP_BITS as usize * (8 - self.number);
            self.flush();
        }
    }
}

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
        let mismatch = Error::PlanMismatch { element: window.elements as u64 };
        if window.position() != code_bits || window.elements != self.elements {
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

/// What the entry of a window holds, into which the codewords before it reach `gap` bits.
///
/// Where a codeword begins there, that is its gap (D-7.2). Where none does, since the last one only
/// straddles into the window, the entry tells where that one ends, unless it ends with a byte
/// (D-11.4).
#[inline]
pub(super) fn gap_of(gap: u32, begins: bool) -> u8 {
    if begins || !gap.is_multiple_of(8) { gap as u8 } else { 0 }
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
