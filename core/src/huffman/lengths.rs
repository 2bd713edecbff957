//! Code lengths: the optimal ones within a shortest and a longest length, by package-merge.

use crate::Error;

/// The longest codeword that the layout allows, in bits: four table look-ups of 8 bits each.
pub const MAX_CODE_LENGTH: u8 = 32;

/// The largest minimum length that the options accept, in bits. With 8, every symbol is in the
/// first table.
pub const MAX_LEAST_LENGTH: u8 = 8;

/// The most symbols there can be.
const SYMBOLS: usize = 256;

/// The length in bits of each symbol's codeword; 0 for a symbol that has none.
///
/// ```
/// use df11::hazmat::huffman::CodeLengths;
///
/// let mut frequencies = [0; 256];
/// frequencies[120..124].copy_from_slice(&[8, 4, 2, 2]);
/// let lengths = CodeLengths::from_frequencies(&frequencies, 1, 32)?;
/// assert_eq!((lengths.symbols(), lengths.shortest(), lengths.longest()), (4, 1, 3));
/// assert_eq!(lengths.total_bits(&frequencies)?, 8 * 1 + 4 * 2 + 2 * 3 + 2 * 3);
/// # Ok::<(), df11::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeLengths([u8; SYMBOLS]);

impl CodeLengths {
    /// Takes lengths as they are, for example from the last row of `luts`.
    ///
    /// # Errors
    ///
    /// [`Error::CodeLength`] for a length above 32.
    ///
    /// ```
    /// use df11::hazmat::huffman::CodeLengths;
    ///
    /// let mut lengths = [0; 256];
    /// lengths[120] = 33;
    /// assert!(CodeLengths::new(&lengths).is_err());
    /// ```
    pub fn new(lengths: &[u8; SYMBOLS]) -> Result<Self, Error> {
        for (symbol, &length) in (0..=u8::MAX).zip(lengths) {
            if length > MAX_CODE_LENGTH {
                return Err(Error::CodeLength { symbol, length });
            }
        }
        Ok(CodeLengths(*lengths))
    }

    /// Lengths between `least` and `limit` bits that make the total, Σ frequency × length, as small
    /// as any prefix code with lengths in that range can. Symbols of frequency 0 get no codeword; a
    /// single symbol gets one of `least` bits.
    ///
    /// `least` is 1 for the best code. With 2, no symbol costs a single bit, so a block of 32,768
    /// bits holds at most 16,384 elements (see
    /// [`Unit::shared_memory_bytes`](crate::df11::Unit::shared_memory_bytes)).
    ///
    /// Ties are broken so that the result depends on nothing but the frequencies: symbols are
    /// ordered by frequency, equal ones by descending value, and a symbol goes before a package of
    /// equal weight. Of two symbols with equal frequency the smaller never gets the longer
    /// codeword.
    ///
    /// # Errors
    ///
    /// [`Error::LengthLimit`] unless 1 ≤ `least` ≤ `limit` ≤ 32 and `least` ≤ 8;
    /// [`Error::LimitTooSmall`] if there are more than 2^`limit` symbols.
    ///
    /// ```
    /// use df11::hazmat::huffman::CodeLengths;
    ///
    /// let mut frequencies = [0; 256];
    /// frequencies[..5].copy_from_slice(&[16, 8, 4, 2, 1]);
    /// let best = CodeLengths::from_frequencies(&frequencies, 1, 32)?;
    /// assert_eq!(best.as_array()[..5], [1, 2, 3, 4, 4]);
    /// let limited = CodeLengths::from_frequencies(&frequencies, 1, 3)?;
    /// assert_eq!(limited.as_array()[..5], [1, 3, 3, 3, 3]);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn from_frequencies(frequencies: &[u64; SYMBOLS], least: u8, limit: u8) -> Result<Self, Error> {
        if !(1..=MAX_CODE_LENGTH).contains(&limit) {
            return Err(Error::LengthLimit { limit });
        }
        if !(1..=MAX_LEAST_LENGTH.min(limit)).contains(&least) {
            return Err(Error::LengthLimit { limit: least });
        }

        let mut sorted = [(0u64, 0u8); SYMBOLS];
        let mut n = 0;
        // Descending symbols and a stable order below give the stated order of equal frequencies.
        for (symbol, &frequency) in (0..=u8::MAX).zip(frequencies).rev() {
            if frequency > 0 {
                sorted[n] = (frequency, symbol);
                n += 1;
            }
        }
        let leaves = &mut sorted[..n];
        leaves.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        if u64::try_from(n).unwrap_or(u64::MAX) > 1 << limit {
            return Err(Error::LimitTooSmall { limit, symbols: n as u16 });
        }
        Ok(CodeLengths(package_merge(leaves, least, limit)))
    }

    /// The lengths, indexed by symbol.
    #[inline]
    #[must_use]
    pub const fn as_array(&self) -> &[u8; SYMBOLS] {
        &self.0
    }

    /// The longest length in bits, 0 if there is no symbol.
    #[must_use]
    pub fn longest(&self) -> u8 {
        self.0.iter().copied().max().unwrap_or(0)
    }

    /// The shortest length in bits of any symbol that has a codeword, 0 if there is none.
    #[must_use]
    pub fn shortest(&self) -> u8 {
        self.0.iter().copied().filter(|&length| length > 0).min().unwrap_or(0)
    }

    /// The number of symbols that have a codeword: the size of the alphabet.
    #[must_use]
    pub fn symbols(&self) -> usize {
        self.0.iter().filter(|&&length| length > 0).count()
    }

    /// Σ 2^(32 − length) over all symbols. A prefix code with these lengths exists if it is at most
    /// 2^32, and is complete (every bit string decodes) if it is 2^32.
    ///
    /// ```
    /// use df11::hazmat::huffman::CodeLengths;
    ///
    /// let mut lengths = [0; 256];
    /// lengths[..3].copy_from_slice(&[1, 2, 2]);
    /// assert_eq!(CodeLengths::new(&lengths)?.kraft_sum(), 1 << 32);
    /// # Ok::<(), df11::Error>(())
    /// ```
    #[must_use]
    pub fn kraft_sum(&self) -> u64 {
        self.0.iter().filter(|&&length| length > 0).map(|&length| 1u64 << (MAX_CODE_LENGTH - length)).sum()
    }

    /// Σ frequency × length: the bits that data with these frequencies takes. Saturates at
    /// `u64::MAX`.
    ///
    /// # Errors
    ///
    /// [`Error::NoCodeword`] if a symbol with a frequency has no length.
    pub fn total_bits(&self, frequencies: &[u64; SYMBOLS]) -> Result<u64, Error> {
        let mut total = 0u64;
        for ((symbol, &length), &frequency) in (0..=u8::MAX).zip(&self.0).zip(frequencies) {
            if frequency > 0 && length == 0 {
                return Err(Error::NoCodeword { symbol });
            }
            total = total.saturating_add(frequency.saturating_mul(u64::from(length)));
        }
        Ok(total)
    }
}

/// Package-merge (Larmore and Hirschberg 1990), for lengths in `least..=limit`.
///
/// Think of every symbol as owning one coin for each level (bit of length) from 1 to `limit`: the
/// coin of level `l` has width 2^-l and costs the symbol's frequency. A symbol whose coins of
/// levels 1 to `l` are bought has length `l`, and the lengths make a complete code exactly when the
/// bought widths sum to n − 1. The cheapest such purchase is found level by level from the deepest:
/// pair neighbours of the sorted list into packages, merge the packages with the symbols' own coins
/// of the next level, and in the end take the cheapest items of the top list.
///
/// Two departures from the textbook:
///
/// * Lengths below `least` are not on offer, so the coins of levels 1 to `least` are bought for
///   everyone beforehand. That covers n × (1 − 2^-least) of the width; what is left, counted in
///   items of level `least + 1`, is 2n − 2^(least + 1). (For `least` = 0 this is the familiar 2n −
///   2.)
/// * Lists need not remember what is in a package, only which items *are* packages: one bit each.
///   Going back down, `k` packages among the items taken from one list mean that the first 2k items
///   of the list below are taken.
///
/// So everything fits in 12 KiB of stack, with no allocator. `leaves` are sorted by ascending
/// frequency.
fn package_merge(leaves: &[(u64, u8)], least: u8, limit: u8) -> [u8; SYMBOLS] {
    let n = leaves.len();
    let mut lengths = [0; SYMBOLS];
    for &(_, symbol) in leaves {
        lengths[usize::from(symbol)] = least;
    }
    if n <= 1 << least {
        return lengths;
    }

    // A code for n symbols that is optimal is no deeper than n - 1 below its forced top.
    let levels = usize::from(limit - least).min(n);
    let wanted = 2 * n - (2 << least);
    let mut is_package = [[false; 2 * SYMBOLS]; MAX_CODE_LENGTH as usize];
    let mut below = [0u64; 2 * SYMBOLS];
    let mut below_len = 0;
    for level in is_package.iter_mut().take(levels) {
        let mut list = [0u64; 2 * SYMBOLS];
        let mut packages =
            below[..below_len].chunks_exact(2).map(|pair| pair[0].saturating_add(pair[1])).peekable();
        let mut coins = leaves.iter().map(|&(frequency, _)| frequency).peekable();
        let mut len = 0;
        for (item, flag) in list.iter_mut().zip(level.iter_mut()).take(wanted) {
            let coin_first = match (coins.peek(), packages.peek()) {
                (Some(coin), Some(package)) => coin <= package,
                (coin, _) => coin.is_some(),
            };
            let Some(cost) = (if coin_first { coins.next() } else { packages.next() }) else { break };
            (*item, *flag) = (cost, !coin_first);
            len += 1;
        }
        (below, below_len) = (list, len);
    }

    let mut taken = wanted;
    for level in is_package[..levels].iter().rev() {
        let packages = level[..taken].iter().filter(|&&package| package).count();
        for &(_, symbol) in &leaves[..taken - packages] {
            lengths[usize::from(symbol)] += 1;
        }
        taken = 2 * packages;
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(frequencies: &[u64], least: u8, limit: u8) -> Result<CodeLengths, Error> {
        let mut all = [0; SYMBOLS];
        all[..frequencies.len()].copy_from_slice(frequencies);
        CodeLengths::from_frequencies(&all, least, limit)
    }

    #[test]
    fn no_symbol_one_symbol_two_symbols() {
        assert_eq!(lengths(&[], 1, 32).unwrap().symbols(), 0);
        assert_eq!(lengths(&[7], 1, 32).unwrap().as_array()[0], 1);
        assert_eq!(lengths(&[7], 2, 32).unwrap().as_array()[0], 2);
        assert_eq!(lengths(&[7, 1], 1, 1).unwrap().as_array()[..2], [1, 1]);
    }

    #[test]
    fn equal_frequencies_favour_smaller_symbols() {
        assert_eq!(lengths(&[1, 1, 1], 1, 32).unwrap().as_array()[..3], [1, 2, 2]);
        assert_eq!(lengths(&[4, 4, 4, 4, 4], 1, 32).unwrap().as_array()[..5], [2, 2, 2, 3, 3]);
    }

    #[test]
    fn limits_out_of_range_are_refused() {
        assert_eq!(lengths(&[1, 1], 1, 0), Err(Error::LengthLimit { limit: 0 }));
        assert_eq!(lengths(&[1, 1], 1, 33), Err(Error::LengthLimit { limit: 33 }));
        assert_eq!(lengths(&[1, 1], 0, 32), Err(Error::LengthLimit { limit: 0 }));
        assert_eq!(lengths(&[1, 1], 3, 2), Err(Error::LengthLimit { limit: 3 }));
        assert_eq!(lengths(&[1, 1, 1], 1, 1), Err(Error::LimitTooSmall { limit: 1, symbols: 3 }));
        assert_eq!(lengths(&[1; 256], 1, 7), Err(Error::LimitTooSmall { limit: 7, symbols: 256 }));
        assert_eq!(lengths(&[1; 256], 1, 8).unwrap().longest(), 8);
    }

    #[test]
    fn fibonacci_frequencies_reach_the_limit_and_stay_complete() {
        let mut fibonacci = [1u64; 60];
        for i in 2..fibonacci.len() {
            fibonacci[i] = fibonacci[i - 1] + fibonacci[i - 2];
        }
        for limit in 6..=32 {
            let lengths = lengths(&fibonacci, 1, limit).unwrap();
            assert_eq!(lengths.longest(), limit);
            assert_eq!(lengths.kraft_sum(), 1 << 32);
        }
    }

    #[test]
    fn huge_frequencies_do_not_overflow() {
        let lengths = lengths(&[u64::MAX; 17], 1, 32).unwrap();
        assert_eq!(lengths.kraft_sum(), 1 << 32);
    }

    /// The cheapest total over every way to give symbols lengths in range, for frequencies in
    /// descending order.
    fn cheapest(frequencies: &[u64], least: u8, limit: u8, kraft_left: u64) -> Option<u64> {
        let Some((&first, rest)) = frequencies.split_first() else { return Some(0) };
        (least..=limit)
            .filter(|l| 1 << (MAX_CODE_LENGTH - l) <= kraft_left)
            .filter_map(|l| {
                let left = kraft_left - (1 << (MAX_CODE_LENGTH - l));
                Some(first * u64::from(l) + cheapest(rest, l, limit, left)?)
            })
            .min()
    }

    #[test]
    fn no_code_within_the_limits_is_cheaper() {
        let mut state = 1u64;
        for round in 0..400 {
            let n = 2 + round % 7;
            let mut frequencies = [0u64; 8];
            for f in &mut frequencies[..n] {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *f = 1 + (state >> 33) % (1 << (1 + round % 12));
            }
            let frequencies = &mut frequencies[..n];
            frequencies.sort_unstable_by(|a, b| b.cmp(a));
            for (least, limit) in [(1, 3), (1, 4), (1, 8), (2, 3), (2, 8), (3, 5)] {
                let mut all = [0; SYMBOLS];
                all[..n].copy_from_slice(frequencies);
                let ours = lengths(frequencies, least, limit).unwrap().total_bits(&all).unwrap();
                let best = cheapest(frequencies, least, limit, 1 << 32).unwrap();
                assert_eq!(ours, best, "{frequencies:?} within {least}..={limit}");
            }
        }
    }
}
