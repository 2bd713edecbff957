//! Codewords: canonical ones from lengths, or anyone's from prefix tables.

use super::{CodeLengths, MAX_CODE_LENGTH, PrefixTables};
use crate::Error;

/// A prefix code: the bits and the length of each symbol's codeword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codewords {
    bits: [u32; 256],
    lengths: [u8; 256],
}

impl Codewords {
    /// The canonical code of these lengths: codewords in order of length, equal lengths in order of
    /// symbol, are consecutive binary numbers, starting with zeros.
    ///
    /// # Errors
    ///
    /// [`Error::Oversubscribed`] if no prefix code has these lengths.
    ///
    /// ```
    /// use df11::hazmat::huffman::{CodeLengths, Codewords};
    ///
    /// let mut lengths = [0; 256];
    /// lengths[5..8].copy_from_slice(&[2, 1, 2]);
    /// let code = Codewords::canonical(&CodeLengths::new(&lengths)?)?;
    /// assert_eq!([code.bits(6), code.bits(5), code.bits(7)], [0b0, 0b10, 0b11]);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn canonical(lengths: &CodeLengths) -> Result<Self, Error> {
        if lengths.kraft_sum() > 1 << MAX_CODE_LENGTH {
            return Err(Error::Oversubscribed);
        }
        // The next codeword of each length, aligned to the top of 32 bits: behind all shorter ones.
        // 64 bits, so that it may end at 2^32.
        let mut next = [0u64; MAX_CODE_LENGTH as usize + 1];
        for &length in lengths.as_array().iter().filter(|&&length| length > 0) {
            next[usize::from(length)] += 1;
        }
        let mut end = 0;
        for (length, next) in (0..=MAX_CODE_LENGTH).zip(&mut next) {
            (*next, end) = (end, end + (*next << (MAX_CODE_LENGTH - length)));
        }
        let mut bits = [0; 256];
        for (bits, &length) in bits.iter_mut().zip(lengths.as_array()).filter(|(_, length)| **length > 0) {
            let (next, free) = (&mut next[usize::from(length)], MAX_CODE_LENGTH - length);
            *bits = (*next >> free) as u32;
            *next += 1 << free;
        }
        Ok(Codewords { bits, lengths: *lengths.as_array() })
    }

    /// The codewords that prefix tables decode: the inverse of
    /// [`PrefixTablesBuf::build`](super::PrefixTablesBuf::build).
    ///
    /// Works for tables of any writer. Where entries that no codeword reaches repeat a symbol (the
    /// official encoder carries the last value forward), the symbol's codeword is the first that
    /// fits, in order of table and entry. A symbol that has a length but stands in no table gets no
    /// codeword.
    ///
    /// ```
    /// use df11::hazmat::huffman::{CodeLengths, Codewords, PrefixTablesBuf};
    ///
    /// let mut lengths = [0; 256];
    /// lengths[..4].copy_from_slice(&[1, 2, 10, 10]);
    /// let code = Codewords::canonical(&CodeLengths::new(&lengths)?)?;
    /// let tables = PrefixTablesBuf::build(&code)?;
    /// assert_eq!(Codewords::from_tables(&tables.view()), code);
    /// # Ok::<(), df11::Error>(())
    /// ```
    #[must_use]
    pub fn from_tables(tables: &PrefixTables<'_>) -> Self {
        let rows = tables.tables();
        // How each table is reached: the bits before it and how many bytes of them, by the first
        // jump that leads there.
        let mut reached = [None; super::MAX_TABLES];
        reached[0] = Some((0u32, 0u8));
        // Jumps usually lead onwards; one that leads back is found in a further round. Each round
        // reaches a table more.
        for _ in 0..rows.len() {
            for (table, row) in rows.iter().enumerate() {
                let Some((prefix, depth)) = reached[table] else { continue };
                for (entry, target) in (0..=u8::MAX).zip(row).filter_map(|(i, &v)| Some((i, tables.jump(v)?)))
                {
                    if depth < 3 && reached[target].is_none() {
                        reached[target] = Some((prefix << 8 | u32::from(entry), depth + 1));
                    }
                }
            }
        }

        let mut code = Codewords { bits: [0; 256], lengths: [0; 256] };
        for (row, reached) in rows.iter().zip(reached) {
            let Some((prefix, depth)) = reached else { continue };
            for (entry, &symbol) in row.iter().enumerate() {
                let length = tables.code_lengths()[usize::from(symbol)];
                let here = 8 * depth + 1..=8 * depth + 8;
                if tables.jump(symbol).is_some() || code.len(symbol) > 0 || !here.contains(&length) {
                    continue;
                }
                // The codeword fills an aligned run of entries, one for each value of the bits
                // after it.
                let free = 8 * (depth + 1) - length;
                let run = 1usize << free;
                if entry % run == 0 && row[entry..entry + run].iter().all(|&v| v == symbol) {
                    code.bits[usize::from(symbol)] = (prefix << 8 | entry as u32) >> free;
                    code.lengths[usize::from(symbol)] = length;
                }
            }
        }
        code
    }

    /// The codeword of `symbol` as the low [`len`](Self::len) bits, 0 if it has none.
    #[inline]
    #[must_use]
    pub const fn bits(&self, symbol: u8) -> u32 {
        self.bits[symbol as usize]
    }

    /// The length in bits of the codeword of `symbol`, 0 if it has none.
    #[inline]
    #[must_use]
    pub const fn len(&self, symbol: u8) -> u8 {
        self.lengths[symbol as usize]
    }

    /// Whether no symbol has a codeword.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.iter().all(|&length| length == 0)
    }

    /// The lengths of all codewords.
    #[must_use]
    pub fn lengths(&self) -> &[u8; 256] {
        &self.lengths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oversubscribed_lengths_are_refused() {
        let mut lengths = [0; 256];
        lengths[..3].copy_from_slice(&[1, 1, 32]);
        assert_eq!(Codewords::canonical(&CodeLengths::new(&lengths).unwrap()), Err(Error::Oversubscribed));
    }

    #[test]
    fn longest_codeword_of_a_complete_code_is_all_ones() {
        let mut lengths = [0; 256];
        for (i, l) in lengths[..33].iter_mut().enumerate() {
            *l = (i as u8 + 1).min(32);
        }
        let code = Codewords::canonical(&CodeLengths::new(&lengths).unwrap()).unwrap();
        assert_eq!(code.bits(32), u32::MAX);
        assert_eq!(code.bits(31), u32::MAX - 1);
    }
}
