//! Gaps: where the first codeword of each window begins, 5 bits each, eight of them in 5 bytes.

use super::{GAP_BITS, Unit};

impl Unit<'_> {
    /// The gap of a window: offset in bits of the first codeword that starts in it; 0 for one that
    /// is not there.
    #[inline]
    #[must_use]
    pub fn gap(&self, window: usize) -> u8 {
        // 5 bits lie in at most two bytes; after the last entry there may be no second.
        let (byte, shift) = (window * GAP_BITS as usize / 8, window * GAP_BITS as usize % 8);
        let at = |i: usize| u16::from(self.gaps.get(i).copied().unwrap_or(0));
        ((at(byte) << 8 | at(byte + 1)) >> (11 - shift) & 0x1f) as u8
    }

    /// The gap of this window and those of the next seven, 5 bits each, the first at the top of 40;
    /// `None` near the end.
    #[cfg(feature = "alloc")]
    #[inline]
    pub(super) fn eight_gaps(&self, window: usize) -> Option<u64> {
        let (byte, shift) = (window * GAP_BITS as usize / 8, window * GAP_BITS as usize % 8);
        let word = u64::from_be_bytes(*self.gaps.get(byte..)?.first_chunk()?);
        Some(word << shift >> 24)
    }
}

/// The entry of a window into which the codewords before it reach `gap` bits.
///
/// Where a codeword begins in the window, that is its gap (D-7.2). Where none does, because the
/// last codeword only straddles into the window, the entry says where that one ends, unless it ends
/// with a byte (D-11.4).
#[inline]
pub(super) fn gap_of(gap: u32, begins: bool) -> u8 {
    if begins || !gap.is_multiple_of(8) { gap as u8 } else { 0 }
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
