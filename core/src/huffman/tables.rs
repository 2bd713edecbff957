//! 8-bit prefix tables with jumps: the form in which the layout carries a code.

use super::{Codewords, MAX_CODE_LENGTH};
use crate::Error;

/// Table values from here up are jumps: value `v` leads to table `256 - v`. Below it they are
/// exponents, so exponents of 240 and more cannot be represented.
pub const FIRST_JUMP: u8 = 240;

/// The most tables: the first, and the 16 that a value of 240 to 255 can lead to.
pub const MAX_TABLES: usize = 17;

/// The most rows of `luts`: the tables, then the row of code lengths.
pub const MAX_ROWS: usize = MAX_TABLES + 1;

/// A borrowed, checked view over `luts`: the prefix tables, then the code lengths.
///
/// To decode a symbol, look up the next 8 bits in table 0. A value below 240 is the symbol. A value
/// `v` from 240 up is a jump to table `256 - v`, which is indexed by the 8 bits after those, and so
/// on through at most four tables. The last row, indexed by the symbol, is the length of its
/// codeword.
#[derive(Clone, Copy, Debug)]
pub struct PrefixTables<'a> {
    /// 1 to 17 tables. Invariant: every jump in them leads to one of them.
    tables: &'a [[u8; 256]],
    /// Invariant: none is above 32.
    lengths: &'a [u8; 256],
}

impl<'a> PrefixTables<'a> {
    /// Views `luts`, the rows one after the other.
    ///
    /// # Errors
    ///
    /// [`Error::TablesLength`] unless there are 2 to 18 whole rows, [`Error::JumpTarget`] for a
    /// jump to a table that is not there, [`Error::CodeLength`] for a length above 32. Whether the
    /// entries make sense together shows only when they are used: published encoders leave junk in
    /// entries that no codeword reaches.
    ///
    /// ```
    /// use df11::{Error, hazmat::huffman::PrefixTables};
    ///
    /// assert_eq!(PrefixTables::new(&[0; 256]).unwrap_err(), Error::TablesLength { bytes: 256 });
    /// ```
    pub fn new(luts: &'a [u8]) -> Result<Self, Error> {
        let rows = match luts.as_chunks::<256>() {
            (rows, []) if (2..=MAX_ROWS).contains(&rows.len()) => rows,
            _ => return Err(Error::TablesLength { bytes: luts.len() }),
        };
        let Some((lengths, tables)) = rows.split_last() else {
            return Err(Error::TablesLength { bytes: luts.len() });
        };
        // Jumps up to this value lead to no table.
        let nowhere = 256 - tables.len();
        for (table, row) in tables.iter().enumerate() {
            let to_nowhere = |&value: &u8| value >= FIRST_JUMP && usize::from(value) <= nowhere;
            if let Some(entry) = row.iter().position(to_nowhere) {
                let target = 256 - usize::from(row[entry]);
                return Err(Error::JumpTarget { table, entry, target, tables: tables.len() });
            }
        }
        for (symbol, &length) in (0..FIRST_JUMP).zip(lengths) {
            if length > MAX_CODE_LENGTH {
                return Err(Error::CodeLength { symbol, length });
            }
        }
        Ok(PrefixTables { tables, lengths })
    }

    /// The tables; at least one, at most 17.
    #[must_use]
    pub const fn tables(&self) -> &'a [[u8; 256]] {
        self.tables
    }

    /// Table 0. There always is one; a look-up that gives something else otherwise is what shows
    /// the compiler that nothing panics.
    pub(crate) fn root(&self) -> &'a [u8; 256] {
        self.tables.first().unwrap_or(self.lengths)
    }

    /// The code lengths in bits, indexed by symbol; 0 for symbols without a codeword. Only the
    /// first 240 count.
    #[must_use]
    pub const fn code_lengths(&self) -> &'a [u8; 256] {
        self.lengths
    }

    /// The table that this value leads to, if it is a jump.
    #[inline]
    pub(super) const fn jump(&self, value: u8) -> Option<usize> {
        if value >= FIRST_JUMP { Some(256 - value as usize) } else { None }
    }

    /// Decodes one symbol from the next 32 bits of code, the first of them in bit 31, and returns
    /// it with its length.
    ///
    /// `bit` is where the codeword stands in the code; it only goes into errors.
    ///
    /// ```
    /// use df11::{Error, hazmat::huffman::PrefixTables};
    ///
    /// let mut luts = [[120; 256]; 2]; // one table, in which everything is 120,
    /// luts[1] = [0; 256];
    /// luts[1][120] = 1; // with a codeword of one bit
    /// let tables = PrefixTables::new(luts.as_flattened())?;
    /// assert_eq!(tables.decode(0, 0)?, (120, 1));
    ///
    /// luts[1][120] = 0;
    /// let tables = PrefixTables::new(luts.as_flattened())?;
    /// assert_eq!(tables.decode(0, 7), Err(Error::ZeroLength { bit: 7, symbol: 120 }));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::LengthMismatch`] or [`Error::JumpTooDeep`] if the tables
    /// lead nowhere.
    pub fn decode(&self, code: u32, bit: u64) -> Result<(u8, u8), Error> {
        let mut table = 0;
        for (depth, index) in (0u8..).zip(code.to_be_bytes()) {
            // By the invariant, it is there.
            let Some(row) = self.tables.get(table) else { break };
            let symbol = row[usize::from(index)];
            if let Some(target) = self.jump(symbol) {
                table = target;
                continue;
            }
            let length = self.lengths[usize::from(symbol)];
            return match length {
                0 => Err(Error::ZeroLength { bit, symbol }),
                // A codeword found in the first table is 1 to 8 bits long, in the second 9 to 16,
                // and so on.
                _ if (length - 1) / 8 != depth => {
                    Err(Error::LengthMismatch { bit, symbol, length, tables: depth + 1 })
                }
                _ => Ok((symbol, length)),
            };
        }
        Err(Error::JumpTooDeep { bit })
    }
}

/// Prefix tables with their own storage (4.6 KiB), as an encoder builds them.
#[derive(Clone, Copy, Debug)]
pub struct PrefixTablesBuf {
    rows: [[u8; 256]; MAX_ROWS],
    /// Tables and the row of lengths. Invariant: 2 to 18, and the tables are as [`PrefixTables`]
    /// wants them.
    len: usize,
}

impl PrefixTablesBuf {
    /// Builds the tables of a code.
    ///
    /// Tables are numbered in order of depth, then of the bits that lead to them. Entries that no
    /// codeword reaches (there are some only if the code is incomplete, as it is for a single
    /// symbol) repeat the symbol with the shortest codeword: a decoder that reads padding finds a
    /// symbol of length >= 1 everywhere and cannot loop.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyTables`] if the code needs more than 17, [`Error::UnrepresentableExponent`]
    /// if a symbol of 240 or more has a codeword, [`Error::Oversubscribed`] if codewords collide,
    /// [`Error::EmptyUnit`] if there are none.
    ///
    /// ```
    /// use df11::hazmat::huffman::{CodeLengths, Codewords, PrefixTablesBuf};
    ///
    /// let mut lengths = [0; 256];
    /// lengths[120..123].copy_from_slice(&[1, 9, 9]);
    /// let tables = PrefixTablesBuf::build(&Codewords::canonical(&CodeLengths::new(&lengths)?)?)?;
    /// assert_eq!(tables.as_bytes().len(), 3 * 256); // two tables and the lengths
    /// assert_eq!(tables.view().tables()[0][0x80], 255); // a jump to table 1
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn build(code: &Codewords) -> Result<Self, Error> {
        if let Some(exponent) = (FIRST_JUMP..=u8::MAX).find(|&symbol| code.len(symbol) > 0) {
            return Err(Error::UnrepresentableExponent { element: None, exponent });
        }
        let Some(filler) = (0..FIRST_JUMP).filter(|&s| code.len(s) > 0).min_by_key(|&s| code.len(s)) else {
            return Err(Error::EmptyUnit);
        };

        let mut symbols = [0; FIRST_JUMP as usize];
        let mut number = 0;
        for symbol in (0..FIRST_JUMP).filter(|&symbol| code.len(symbol) > 0) {
            symbols[number] = symbol;
            number += 1;
        }

        // Table 0 has no bits before it; others get theirs from the jump that first leads to them.
        // Working through the list as it grows numbers them by depth.
        let mut rows = [[None; 256]; MAX_TABLES];
        let mut prefixes = [(0u32, 0u8); MAX_TABLES];
        let mut len = 1;
        let mut table = 0;
        while table < len {
            let (prefix, depth) = prefixes[table];
            let mut has_children = [false; 256];
            for &symbol in symbols[..number].iter().filter(|&&s| code.len(s) > 8 * depth) {
                let length = code.len(symbol);
                let aligned = code.bits(symbol) << (MAX_CODE_LENGTH - length);
                if aligned.checked_shr(32 - 8 * u32::from(depth)).unwrap_or(0) != prefix {
                    continue;
                }
                let entry = usize::from(aligned.to_be_bytes()[usize::from(depth)]);
                if length > 8 * (depth + 1) {
                    has_children[entry] = true;
                    continue;
                }
                for slot in &mut rows[table][entry..entry + (1 << (8 * (depth + 1) - length))] {
                    if slot.replace(symbol).is_some() {
                        return Err(Error::Oversubscribed);
                    }
                }
            }
            for (entry, _) in (0..=u8::MAX).zip(has_children).filter(|&(_, has)| has) {
                if len == MAX_TABLES {
                    return Err(Error::TooManyTables { tables: MAX_TABLES + 1 });
                }
                // A jump to table `len` is the value 256 - len, 255 to 240.
                if rows[table][usize::from(entry)].replace((256 - len) as u8).is_some() {
                    return Err(Error::Oversubscribed);
                }
                prefixes[len] = (prefix << 8 | u32::from(entry), depth + 1);
                len += 1;
            }
            table += 1;
        }

        let mut built = PrefixTablesBuf { rows: [[0; 256]; MAX_ROWS], len: len + 1 };
        for (to, from) in built.rows.iter_mut().zip(&rows[..len]) {
            *to = from.map(|value| value.unwrap_or(filler));
        }
        built.rows[len] = *code.lengths();
        Ok(built)
    }

    /// The rows one after the other, as `luts` stores them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.rows[..self.len].as_flattened()
    }

    /// The tables, ready to decode with.
    #[must_use]
    pub fn view(&self) -> PrefixTables<'_> {
        PrefixTables { tables: &self.rows[..self.len - 1], lengths: &self.rows[self.len - 1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::huffman::CodeLengths;

    fn build(lengths: &[u8]) -> Result<PrefixTablesBuf, Error> {
        let mut all = [0; 256];
        all[..lengths.len()].copy_from_slice(lengths);
        PrefixTablesBuf::build(&Codewords::canonical(&CodeLengths::new(&all)?)?)
    }

    /// Lengths of a complete code in which `tables - 1` first bytes lead to a second table with two
    /// 9-bit codewords.
    fn lengths_for(tables: usize) -> ([u8; 240], usize) {
        let nines = 2 * (tables - 1);
        let mut lengths = [0; 240];
        // Every nine pair takes one 8-bit slot; the other slots are paired into 7-bit codewords.
        let eights = (256 - nines / 2) % 2;
        let sevens = (256 - nines / 2 - eights) / 2;
        let n = sevens + eights + nines;
        lengths[..sevens].fill(7);
        lengths[sevens..sevens + eights].fill(8);
        lengths[sevens + eights..n].fill(9);
        (lengths, n)
    }

    #[test]
    fn one_to_seventeen_tables_build_and_the_eighteenth_is_refused() {
        for tables in 1..=17 {
            let (lengths, n) = lengths_for(tables);
            let built = build(&lengths[..n]).unwrap();
            assert_eq!(built.view().tables().len(), tables);
            PrefixTables::new(built.as_bytes()).unwrap();
        }
        let (lengths, n) = lengths_for(18);
        assert_eq!(build(&lengths[..n]).unwrap_err(), Error::TooManyTables { tables: 18 });
    }

    #[test]
    fn a_single_symbol_fills_its_table() {
        let built = build(&[0, 0, 1]).unwrap();
        assert_eq!(built.view().tables(), &[[2; 256]]);
        assert_eq!(built.view().decode(u32::MAX, 0), Ok((2, 1)));
    }

    #[test]
    fn every_codeword_decodes_to_its_symbol_whatever_follows() {
        let lengths: [u8; 33] = core::array::from_fn(|i| (i as u8 + 1).min(32));
        let built = build(&lengths).unwrap();
        let code = Codewords::from_tables(&built.view());
        assert_eq!(code.lengths()[..33], lengths);
        for symbol in 0..33 {
            let low = u32::try_from((1u64 << (32 - code.len(symbol))) - 1).unwrap();
            let aligned = code.bits(symbol) << (32 - code.len(symbol));
            for window in [aligned, aligned | low, aligned | (low & 0x5555_5555)] {
                assert_eq!(built.view().decode(window, 0), Ok((symbol, code.len(symbol))));
            }
        }
    }

    #[test]
    fn symbols_that_would_read_as_jumps_are_refused() {
        let mut lengths = [0; 256];
        lengths[239] = 1;
        lengths[240] = 1;
        let code = Codewords::canonical(&CodeLengths::new(&lengths).unwrap()).unwrap();
        assert_eq!(
            PrefixTablesBuf::build(&code).unwrap_err(),
            Error::UnrepresentableExponent { element: None, exponent: 240 }
        );
    }

    #[test]
    fn tables_that_lead_nowhere_are_errors_not_loops() {
        let mut luts = [[0u8; 256]; 3];
        luts[0][0] = 255;
        luts[1].fill(255); // table 1 jumps to itself
        luts[0][1] = 7; // no length
        luts[0][2] = 8; // a length that belongs to a deeper table
        luts[2][8] = 12;
        let tables = PrefixTables::new(luts.as_flattened()).unwrap();
        assert_eq!(tables.decode(0, 5), Err(Error::JumpTooDeep { bit: 5 }));
        assert_eq!(tables.decode(1 << 24, 6), Err(Error::ZeroLength { bit: 6, symbol: 7 }));
        assert_eq!(
            tables.decode(2 << 24, 7),
            Err(Error::LengthMismatch { bit: 7, symbol: 8, length: 12, tables: 1 })
        );
        luts[1][9] = 254;
        assert_eq!(
            PrefixTables::new(luts.as_flattened()).unwrap_err(),
            Error::JumpTarget { table: 1, entry: 9, target: 2, tables: 2 }
        );
    }
}
