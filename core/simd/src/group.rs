//! Codewords of 64 symbols at a time, without a branch for any of them.
//!
//! The algorithm, for the levels that have it ([`Simd::GROUPS`](crate::Simd::GROUPS)): look the
//! lengths and codewords of 64 symbols up by permuting tables of 256 bytes; put the codewords of
//! two symbols together by a shift, then of four, then of eight. The prefix sums of the lengths,
//! kept modulo 256, say where each codeword ends within its *window* of 64 bits, and which of them
//! reach a window's end: those are picked out for the gaps.

use crate::Codeword;

/// Symbols of a group.
pub const GROUP: usize = 64;

/// The most windows of 64 bits that a group may fill: 8 × 63 bits, after at most 63.
pub const GROUP_WINDOWS: usize = 8;

/// The longest codeword that a [`CodeTable`] keeps.
const MOST_BITS: u8 = 16;

/// The length of a symbol that a [`CodeTable`] has no codeword for.
pub(crate) const NO_CODEWORD: u8 = 0x80;

/// Up to 16 symbols that follow each other, as byte shuffles look them up: the ones whose codewords
/// make most of the code.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// The first symbol, and how many follow it.
    pub(crate) first: u8,
    pub(crate) last: u8,
    /// By symbol, less the first: as in [`CodeTable`].
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(crate) lengths: [u8; 16],
    pub(crate) low: [u8; 16],
    pub(crate) high: [u8; 16],
}

impl Window {
    /// Of symbols whose codewords have these lengths; those of `most` bits or less count.
    fn new(length: impl Fn(usize) -> u8, most: u8) -> Self {
        let from = |first: usize| {
            let lengths = (first..256).map(&length).take(16);
            lengths.take_while(move |length| (1..=most).contains(length))
        };
        // A codeword of `n` bits makes 2^-n of all.
        let share = |first: &usize| from(*first).map(|length| 1u64 << (32 - length)).sum::<u64>();
        let first = (0..256).rev().max_by_key(share).unwrap_or(0);
        let mut lengths = [0; 16];
        lengths.iter_mut().zip(from(first)).for_each(|(to, length)| *to = length);
        let last = from(first).count().saturating_sub(1);
        Window { first: first as u8, last: last as u8, lengths, low: [0; 16], high: [0; 16] }
    }
}

/// Lengths of codewords by symbol, at most 32, as vectors look them up.
#[derive(Clone, Debug)]
pub struct LengthTable {
    /// 0 without a codeword.
    pub(crate) all: [u8; 256],
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(crate) window: Window,
}

impl LengthTable {
    /// The table of these lengths; 0 without a codeword.
    ///
    /// ```
    /// use df11_simd::LengthTable;
    ///
    /// let mut lengths = [0; 256];
    /// (lengths[120], lengths[121]) = (1, 1);
    /// assert_eq!(LengthTable::new(&lengths).all(), &lengths);
    /// ```
    #[must_use]
    pub fn new(lengths: &[u8; 256]) -> Self {
        LengthTable { all: *lengths, window: Window::new(|symbol| lengths[symbol], 32) }
    }

    /// The lengths by symbol.
    #[inline(always)]
    #[must_use]
    pub const fn all(&self) -> &[u8; 256] {
        &self.all
    }
}

/// Lengths and codewords by symbol, as vectors look them up. 832 bytes.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct CodeTable {
    pub(crate) lengths: [u8; 256],
    /// The low bytes of the codewords, which stand at the top of 16 bits.
    pub(crate) low: [u8; 256],
    /// The high bytes.
    pub(crate) high: [u8; 256],
    pub(crate) window: Window,
}

impl CodeTable {
    /// The table of these codewords; those of more than 16 bits are left out, and no group with
    /// their symbols is coded.
    ///
    /// ```
    /// use df11_simd::{CodeTable, Codeword};
    ///
    /// let codewords = [Codeword { bits: 0b0, length: 1, symbol: 120 }, Codeword { bits: 0b1, length: 1, symbol: 121 }];
    /// let table = CodeTable::new(codewords.into_iter());
    /// assert_eq!(size_of_val(&table), 832);
    /// ```
    pub fn new(codewords: impl Iterator<Item = Codeword>) -> Self {
        let window = Window::new(|_| 0, 0);
        let mut table = CodeTable { lengths: [NO_CODEWORD; 256], low: [0; 256], high: [0; 256], window };
        for Codeword { bits, length, symbol } in codewords {
            if (1..=MOST_BITS).contains(&length) && bits >> length == 0 {
                let symbol = usize::from(symbol);
                table.lengths[symbol] = length;
                [table.low[symbol], table.high[symbol]] =
                    ((bits << (MOST_BITS - length)) as u16).to_le_bytes();
            }
        }
        table.window = Window::new(|symbol| table.lengths[symbol], MOST_BITS);
        let (first, last) = (usize::from(table.window.first), usize::from(table.window.last));
        table.window.low[..=last].copy_from_slice(&table.low[first..=first + last]);
        table.window.high[..=last].copy_from_slice(&table.high[first..=first + last]);
        table
    }
}

/// Where the codewords of a group end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Bit `i` is set if the codeword of symbol `i` reaches the end of the window that it begins
    /// in, or crosses it.
    pub crossing: u64,
    /// How many bits each of those takes of the next window, in order; zeros after them.
    pub gaps: [u8; GROUP_WINDOWS],
    /// The length of all codewords.
    pub bits: u32,
}

/// The codewords of a group: the first bit of each word at the top, and zeros after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Whether those of sixteen symbols each fit 63 bits; usually they do.
    pub is_by_16: bool,
    /// If so: those of sixteen symbols each.
    pub by_16: [u64; GROUP / 16],
    /// Their lengths, at most 63.
    pub lengths_by_16: [u64; GROUP / 16],
    /// Those of eight symbols each.
    pub by_8: [u64; GROUP / 8],
    /// Their lengths, at most 63.
    pub lengths_by_8: [u64; GROUP / 8],
    /// Where they end.
    pub ends: Ends,
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::{Level, Operation, Simd};

    /// What a level makes of a group.
    struct Both<'a>(&'a [Codeword], &'a [u8; GROUP], u32);

    impl Operation for Both<'_> {
        type Output = Option<(Option<Group>, Option<Ends>)>;

        fn run<S: Simd>(self, simd: S) -> Self::Output {
            let Both(codewords, symbols, used) = self;
            let table = CodeTable::new(codewords.iter().copied());
            let mut lengths = [0; 256];
            codewords.iter().for_each(|codeword| lengths[usize::from(codeword.symbol)] = codeword.length);
            // Signs and mantissas are any, and must not matter.
            let sign_mantissas: [u8; GROUP] = core::array::from_fn(|i| (i * 37) as u8);
            let weights = core::array::from_fn(|i| {
                let (e, sm) = (u16::from(symbols[i]), u16::from(sign_mantissas[i]));
                ((sm & 0x80) << 8 | e << 7 | sm & 0x7f).to_le_bytes()
            });
            let mut split = [0; GROUP];
            let group = simd.code_group(&table, &weights, &mut split, used).map(|mut group| {
                if !group.is_by_16 {
                    (group.by_16, group.lengths_by_16) = ([0; 4], [0; 4]);
                }
                group
            });
            assert_eq!(split, if S::GROUPS { sign_mantissas } else { [0; GROUP] });
            S::GROUPS.then(|| (group, simd.ends(&LengthTable::new(&lengths), symbols, used)))
        }
    }

    /// What it has to make of it, bit by bit.
    fn expected(codewords: &[Codeword], symbols: &[u8; GROUP], used: u32) -> (Option<Group>, Option<Ends>) {
        let of = |symbol: u8| codewords.iter().find(|codeword| codeword.symbol == symbol);
        let mut group = Group {
            is_by_16: true,
            by_16: [0; 4],
            lengths_by_16: [0; 4],
            by_8: [0; 8],
            lengths_by_8: [0; 8],
            ends: Ends { crossing: 0, gaps: [0; GROUP_WINDOWS], bits: 0 },
        };
        let (mut is_codable, mut has_ends, mut windows) = (true, true, 0);
        for (i, &symbol) in symbols.iter().enumerate() {
            let Some(Codeword { bits, length, .. }) = of(symbol) else { return (None, None) };
            is_codable &= *length <= MOST_BITS;
            let (start, end) = (used + group.ends.bits, used + group.ends.bits + u32::from(*length));
            if start / 64 != end / 64 {
                group.ends.crossing |= 1 << i;
                has_ends &= windows < GROUP_WINDOWS;
                if has_ends {
                    group.ends.gaps[windows] = (end % 64) as u8;
                    windows += 1;
                }
            }
            group.ends.bits += u32::from(*length);
            group.lengths_by_16[i / 16] += u64::from(*length);
            group.lengths_by_8[i / 8] += u64::from(*length);
            is_codable &= group.lengths_by_8[i / 8] < 64;
            group.is_by_16 &= group.lengths_by_16[i / 16] < 64;
            if is_codable {
                group.by_8[i / 8] |= u64::from(*bits) << (64 - group.lengths_by_8[i / 8]);
            }
            if group.is_by_16 {
                group.by_16[i / 16] |= u64::from(*bits) << (64 - group.lengths_by_16[i / 16]);
            }
        }
        if !group.is_by_16 {
            (group.by_16, group.lengths_by_16) = ([0; 4], [0; 4]);
        }
        (is_codable.then_some(group), has_ends.then_some(group.ends))
    }

    /// Codewords of these lengths, in order, for symbols that are `step` apart.
    fn canonical(step: usize, lengths: &[u8]) -> Vec<Codeword> {
        let mut next = 0u64;
        let codeword = |(i, &length): (usize, &u8)| {
            let bits = (next >> (32 - length)) as u32;
            next += 1 << (32 - length);
            Codeword { bits, length, symbol: (i * step + 3) as u8 }
        };
        lengths.iter().enumerate().map(codeword).collect()
    }

    #[test]
    fn every_level_codes_a_group_as_one_symbol_after_the_other() {
        // Spread over all bytes; and so that some or all fit a window.
        let codes = [89, 1].map(|step| {
            [
                canonical(step, &[1, 1]),
                canonical(step, &[2, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 16]),
                canonical(step, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 32, 32]),
                canonical(step, &[8; 256]),
                canonical(step, &[4; 16]),
                canonical(step, &[32; 3]),
            ]
        });
        let (mut seed, mut coded, mut left, mut by_window) = (1u64, 0, 0, 0);
        for code in codes.as_flattened() {
            for round in 0..300 {
                // Of the first symbols only, of all but the last, of all, and of what has no
                // codeword.
                let most = [2, code.len().saturating_sub(3).max(2), code.len(), code.len()][round % 4];
                let mut symbols = core::array::from_fn(|_| {
                    seed =
                        seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    code[(seed >> 33) as usize % most].symbol
                });
                if round % 16 == 15 && code.len() < 256 {
                    symbols[round / 16 % 64] = 2;
                }
                // Levels that look up a window of 16 symbols leave groups with others to their
                // caller.
                let first = code[0].symbol;
                let is_near = code[1].symbol == first + 1
                    && symbols.iter().all(|symbol| (first..first + 16).contains(symbol))
                    && code.iter().take(16).all(|codeword| codeword.length <= MOST_BITS);
                for used in [0, 1, 31, 62, 63] {
                    let (group, ends) = expected(code, &symbols, used);
                    for level in Level::all() {
                        let Some((found, found_ends)) = level.dispatch(Both(code, &symbols, used)) else {
                            continue;
                        };
                        by_window += usize::from(level.name() == "avx2" && found.is_some());
                        let may_leave = level.name() == "avx2" && !is_near;
                        if found.is_none() && found_ends.is_none() && may_leave {
                            left += 1;
                            continue;
                        }
                        if !(found.is_none() && may_leave) {
                            assert_eq!(found, group, "{} {used} {code:?} {symbols:?}", level.name());
                        }
                        if found_ends.is_none() && may_leave {
                            left += 1;
                            continue;
                        }
                        if group.is_some() || ends.is_some() || symbols.iter().all(|&symbol| symbol != 2) {
                            assert_eq!(found_ends, ends, "{} {used} {code:?} {symbols:?}", level.name());
                        }
                        *(if group.is_some() { &mut coded } else { &mut left }) += 1;
                    }
                }
            }
        }
        assert!(Level::named("avx2").is_none() || by_window > 1000, "{by_window}");
        let has_groups = Level::all().any(Level::has_groups);
        assert!(!has_groups || (coded > 1000 && left > 1000), "{coded} {left}");
    }
}
