//! The table that decodes several symbols a look-up.

/// Bits that index a [`Table`]. With 11, its two hot halves take 24 KiB and fit the first-level
/// cache of any recent processor; 12 bits gave 11 % more symbols a look-up, and the loop was 14 %
/// slower.
pub const TABLE_BITS: u32 = 11;

/// Entries that are looked up.
const ENTRIES: usize = 1 << TABLE_BITS;

/// The most symbols of an entry: what one 8-byte store writes.
pub(crate) const MOST_SYMBOLS: usize = 8;

/// One codeword of a prefix code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codeword {
    /// The codeword as the low [`length`](Self::length) bits.
    pub bits: u32,
    /// Its length in bits, at least 1.
    pub length: u8,
    /// What it stands for, below 255.
    pub symbol: u8,
}

/// For each value of the next 11 bits of code: the symbols whose codewords lie wholly within them,
/// up to eight, how many they are and how long. 48 KiB.
///
/// The entries for the next 10, 9, ... bits are kept as well (entry `i` for `b` bits at index
/// `2^b + i`), because the entries for `b` bits are made of those for fewer: a first symbol of
/// length `l` stands before whatever `b - l` bits decode to. So building costs one short step for
/// each entry, not one for each symbol in it.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Table {
    /// The symbols, the first in the low byte; all ones where no codeword fits. Bytes after the
    /// last symbol are junk.
    symbols: [[u64; ENTRIES]; 2],
    /// What to add to the state of a lane: the number of symbols, times 2^16, less their length in
    /// bits. 0 where no codeword fits. Invariant: the number is 1 to 8 and the length 1 to 11, or
    /// both are 0.
    steps: [[u32; ENTRIES]; 2],
}

/// The entry of bits that begin with no whole codeword.
pub(crate) const NO_SYMBOLS: u64 = u64::MAX;

impl Table {
    /// The table of no codewords.
    pub const EMPTY: Table = Table { symbols: [[NO_SYMBOLS; ENTRIES]; 2], steps: [[0; ENTRIES]; 2] };

    /// Makes this the table of these codewords, which must be prefix-free.
    ///
    /// Codewords that are longer than the table's index are left out, and so are those of a symbol
    /// that has one already: [`lanes::decode`](crate::lanes::decode) asks its caller for them when
    /// it meets them.
    pub fn build(&mut self, codewords: impl Iterator<Item = Codeword>) {
        let mut kept = [Codeword { bits: 0, length: 0, symbol: 0 }; 256];
        let mut len = 0;
        let mut lengths = [0u8; 256];
        for codeword in codewords {
            let Codeword { bits, length, symbol } = codeword;
            let fits = (1..=TABLE_BITS as u8).contains(&length) && bits >> length == 0 && symbol < u8::MAX;
            if fits && lengths[usize::from(symbol)] == 0 {
                lengths[usize::from(symbol)] = length;
                kept[len] = codeword;
                len += 1;
            }
        }
        let kept = &kept[..len];
        // With codewords of 2 bits and more, 11 bits hold at most five symbols.
        let may_overflow = kept.iter().any(|codeword| codeword.length == 1);

        *self = Table::EMPTY;
        for bits in 1..=TABLE_BITS as u8 {
            let (shorter_symbols, symbols) = self.symbols.as_flattened_mut().split_at_mut(1 << bits);
            let (shorter_steps, steps) = self.steps.as_flattened_mut().split_at_mut(1 << bits);
            for codeword in kept.iter().filter(|codeword| codeword.length <= bits) {
                let run = 1usize << (bits - codeword.length);
                let first = codeword.bits as usize * run;
                let here = symbols[first..first + run].iter_mut().zip(&mut steps[first..first + run]);
                let rest = shorter_symbols[run..2 * run].iter().zip(&shorter_steps[run..2 * run]);
                let step = (1 << 16) - u32::from(codeword.length);
                for ((symbols, steps), (&more_symbols, &more_steps)) in here.zip(rest) {
                    *symbols = more_symbols << 8 | u64::from(codeword.symbol);
                    *steps = more_steps + step;
                    if may_overflow && *steps > (MOST_SYMBOLS as u32) << 16 {
                        // The ninth symbol was shifted out; its length goes too.
                        let lost = lengths[(more_symbols >> 56) as usize];
                        *steps = *steps + u32::from(lost) - (1 << 16);
                    }
                }
            }
        }
    }

    /// The entries that are looked up: their symbols and their steps.
    #[inline(always)]
    pub(crate) fn hot(&self) -> (&[u64; ENTRIES], &[u32; ENTRIES]) {
        (&self.symbols[1], &self.steps[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entry for `bits`, found symbol by symbol.
    fn walk(codewords: &[Codeword], bits: u32) -> (u64, u32) {
        let (mut at, mut count, mut symbols) = (0, 0, 0u64);
        while count < MOST_SYMBOLS as u32 {
            let next = codewords.iter().find(|c| {
                let end = at + u32::from(c.length);
                end <= TABLE_BITS && bits >> (TABLE_BITS - end) & ((1 << c.length) - 1) == c.bits
            });
            let Some(next) = next else { break };
            symbols |= u64::from(next.symbol) << (8 * count);
            at += u32::from(next.length);
            count += 1;
        }
        if count == 0 { (NO_SYMBOLS, 0) } else { (symbols, (count << 16) - at) }
    }

    fn check(lengths: &[u8]) {
        // A canonical code of these lengths, given in order.
        let mut next = 0u32;
        let codewords: [Codeword; 16] = core::array::from_fn(|i| {
            let Some(&length) = lengths.get(i) else { return Codeword { bits: 0, length: 0, symbol: 0 } };
            let codeword = Codeword { bits: next >> (16 - length), length, symbol: 100 + i as u8 };
            next += 1 << (16 - length);
            codeword
        });
        let codewords = &codewords[..lengths.len()];
        let mut table = Table::EMPTY;
        table.build(codewords.iter().copied());
        let (symbols, steps) = table.hot();
        for bits in 0..ENTRIES as u32 {
            let (expected, step) = walk(codewords, bits);
            assert_eq!(steps[bits as usize], step, "{lengths:?} {bits:011b}");
            let count = (step + 0xffff) >> 16;
            let mask = if count == 8 || count == 0 { u64::MAX } else { (1 << (8 * count)) - 1 };
            assert_eq!(symbols[bits as usize] & mask, expected, "{lengths:?} {bits:011b}");
        }
    }

    #[test]
    fn every_entry_holds_what_its_bits_decode_to() {
        check(&[1]);
        check(&[1, 1]);
        check(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 14]);
        check(&[2, 2, 2, 3, 5, 5, 5, 6, 7, 8, 9, 11, 13, 13]);
        check(&[8; 16]);
        check(&[11; 16]);
        check(&[12; 16]);
    }

    #[test]
    fn codewords_that_make_no_sense_are_left_out() {
        let mut table = Table::EMPTY;
        let bad = [(4, 2, 7), (0, 0, 8), (0, 40, 9), (0, 1, 255)];
        table.build(bad.into_iter().map(|(bits, length, symbol)| Codeword { bits, length, symbol }));
        assert!(table.hot().1.iter().all(|&step| step == 0));
    }
}
