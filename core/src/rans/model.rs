//! From counts to frequencies whose sum is a power of two.

use super::SCALE_BITS;
use crate::Error;

/// The normalised frequencies of an alphabet: 256 numbers whose sum is 2 to the power of the scale
/// bits (section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frequencies {
    frequencies: [u16; 256],
    scale_bits: u8,
}

impl Frequencies {
    /// Normalises counts by R-2.5: every symbol that occurs gets at least 1, and the result depends
    /// on the counts alone.
    ///
    /// # Errors
    ///
    /// [`Error::ScaleBits`] unless `scale_bits` is 9 to 12, [`Error::NoSymbols`] if all counts
    /// are 0.
    ///
    /// ```
    /// use df11::hazmat::rans::Frequencies;
    ///
    /// let mut counts = [0; 256];
    /// (counts[7], counts[9], counts[200]) = (3, 1, 1);
    /// let frequencies = Frequencies::normalise(&counts, 9)?;
    /// assert_eq!([7, 9, 200].map(|symbol| frequencies.of(symbol)), [308, 102, 102]);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn normalise(counts: &[u64; 256], scale_bits: u8) -> Result<Self, Error> {
        if !SCALE_BITS.contains(&scale_bits) {
            return Err(Error::ScaleBits { bits: scale_bits });
        }
        let total: u128 = counts.iter().map(|&count| u128::from(count)).sum();
        if total == 0 {
            return Err(Error::NoSymbols);
        }
        let mut frequencies = counts.map(|count| match count {
            0 => 0,
            // At most 2^12.
            _ => ((u128::from(count) << scale_bits) / total).max(1) as u16,
        });
        let missing = |frequencies: &[u16; 256]| {
            let sum: u32 = frequencies.iter().map(|&frequency| u32::from(frequency)).sum();
            (1i64 << scale_bits) - i64::from(sum)
        };
        // A fraction, times 2: the counts by 2 f + 1, or 2 f - 1.
        let fraction = |frequencies: &[u16; 256], symbol: usize, more: i32| {
            (u128::from(counts[symbol]), (2 * i32::from(frequencies[symbol]) + more) as u128)
        };
        let less = |(a, p): (u128, u128), (b, q): (u128, u128)| a * q < b * p;
        for _ in 0..missing(&frequencies) {
            let mut best: Option<usize> = None;
            for symbol in (0..256).filter(|&symbol| counts[symbol] > 0) {
                let better = |best| less(fraction(&frequencies, best, 1), fraction(&frequencies, symbol, 1));
                if best.is_none_or(better) {
                    best = Some(symbol);
                }
            }
            frequencies[best.unwrap_or_default()] += 1;
        }
        for _ in missing(&frequencies)..0 {
            let mut best: Option<usize> = None;
            for symbol in (0..256).rev().filter(|&symbol| frequencies[symbol] > 1) {
                let better =
                    |best| less(fraction(&frequencies, symbol, -1), fraction(&frequencies, best, -1));
                if best.is_none_or(better) {
                    best = Some(symbol);
                }
            }
            frequencies[best.unwrap_or_default()] -= 1;
        }
        Ok(Frequencies { frequencies, scale_bits })
    }

    /// Builds frequencies that have been normalised already, by symbol.
    ///
    /// # Errors
    ///
    /// [`Error::ScaleBits`] unless `scale_bits` is 9 to 12, [`Error::FrequencySum`] if the sum is
    /// not 2 to the power of it.
    ///
    /// ```
    /// use df11::{Error, hazmat::rans::Frequencies};
    ///
    /// let mut frequencies = [2; 256];
    /// assert_eq!(Frequencies::new(&frequencies, 9)?.of(100), 2);
    /// frequencies[3] = 1;
    /// assert_eq!(Frequencies::new(&frequencies, 9), Err(Error::FrequencySum { sum: 511, scale_bits: 9 }));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(frequencies: &[u16; 256], scale_bits: u8) -> Result<Self, Error> {
        let frequencies = Frequencies { frequencies: *frequencies, scale_bits };
        frequencies.check().map(|()| frequencies)
    }

    /// Returns empty frequencies, to be filled in place because they are not small. They have to
    /// pass [`check`](Self::check) before any other code uses them.
    pub(crate) const fn unchecked(scale_bits: u8) -> Self {
        Frequencies { frequencies: [0; 256], scale_bits }
    }

    /// All frequencies, by symbol, to be filled in.
    pub(crate) const fn as_unchecked_array(&mut self) -> &mut [u16; 256] {
        &mut self.frequencies
    }

    /// What [`new`](Self::new) checks.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Frequencies { frequencies, scale_bits } = self;
        if !SCALE_BITS.contains(scale_bits) {
            return Err(Error::ScaleBits { bits: *scale_bits });
        }
        let sum = frequencies.iter().map(|&frequency| u32::from(frequency)).sum();
        if sum != 1 << scale_bits {
            return Err(Error::FrequencySum { sum, scale_bits: *scale_bits });
        }
        Ok(())
    }

    /// The frequency of a symbol; 0 if it cannot be coded.
    #[must_use]
    pub fn of(&self, symbol: u8) -> u16 {
        self.frequencies[usize::from(symbol)]
    }

    /// All frequencies, by symbol.
    #[must_use]
    pub const fn as_array(&self) -> &[u16; 256] {
        &self.frequencies
    }

    /// The scale bits, 9 to 12.
    #[must_use]
    pub const fn scale_bits(&self) -> u8 {
        self.scale_bits
    }

    /// Each symbol that can be coded, with its frequency and its cumulative frequency (R-2.3).
    pub(crate) fn symbols(&self) -> impl Iterator<Item = (u8, u32, u32)> {
        let mut start = 0;
        let of = move |(symbol, &frequency)| {
            let (frequency, before) = (u32::from(frequency), start);
            start += frequency;
            (symbol, frequency, before)
        };
        (0..=u8::MAX).zip(&self.frequencies).map(of).filter(|(_, frequency, _)| *frequency > 0)
    }
}
