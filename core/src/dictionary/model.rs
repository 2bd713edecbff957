//! What a dictionary is made from, and the walk that meets its strings in their order.

#[cfg(feature = "alloc")]
use alloc::vec;

use super::LONGEST;
use crate::Error;

#[cfg(feature = "alloc")]
/// The logarithm of what frequencies add up to (V-4.2).
const SCALE: u32 = 30;

#[cfg(feature = "alloc")]
/// The sixteen `t` (V-4.3).
const T: [u64; 16] = [
    1_050_733_750,
    1_006_186_086,
    963_527_097,
    922_676_709,
    883_558_244,
    846_098_273,
    810_226_482,
    775_875_537,
    742_980_960,
    711_481_005,
    681_316_544,
    652_430_958,
    624_770_026,
    598_281_826,
    572_916_640,
    548_626_854,
];

#[cfg(feature = "alloc")]
/// The cost of a symbol of frequency `x`, 1 to 2 to the power of 30, in sixteenths of a bit
/// (V-4.3).
fn cost(x: u64) -> u8 {
    (1..u8::MAX).find(|c| x >= T[usize::from(c % 16)] >> (c / 16)).unwrap_or(u8::MAX)
}

/// How wide codes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 8 bits: 256 strings, a decoding table of 2 KiB.
    Eight,
    /// 12 bits: 4,096 strings, a decoding table of 32 KiB.
    Twelve,
}

impl Width {
    /// Bits of a code.
    ///
    /// ```
    /// use df11::hazmat::dictionary::Width;
    ///
    /// assert_eq!([Width::Eight, Width::Twelve].map(Width::bits), [8, 12]);
    /// ```
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Width::Eight => 8,
            Width::Twelve => 12,
        }
    }

    /// Bytes of a group of 8 codes: as many as a code has bits.
    #[must_use]
    pub const fn group_bytes(self) -> usize {
        self.bits() as usize
    }

    /// How many numbers there are.
    #[must_use]
    pub const fn codes(self) -> usize {
        1 << self.bits()
    }

    /// The width of this many bits, if there is one.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Width> {
        match bits {
            8 => Some(Width::Eight),
            12 => Some(Width::Twelve),
            _ => None,
        }
    }
}

/// What a dictionary is made from (V-2.1): a width, two costs for each symbol, a limit and a
/// remainder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The first cost of each symbol; 0 where it is not in the alphabet.
    first: [u8; 256],
    /// The following cost of each symbol; 0 where it is not in the alphabet.
    following: [u8; 256],
    limit: u16,
    remainder: u16,
    width: Width,
}

/// A string that the walk meets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    /// The number of the string.
    pub(super) number: usize,
    /// The number of the string that lacks its last symbol; for one of a single symbol, no
    /// particular number.
    #[cfg_attr(not(feature = "alloc"), expect(dead_code, reason = "encoders are interested"))]
    pub(super) parent: usize,
    /// Its symbols, zeros after the last.
    pub(super) symbols: [u8; LONGEST],
    /// How many there are.
    pub(super) len: usize,
}

impl Model {
    /// A model of these costs, by symbol; 0, in both, for those that are not in the alphabet.
    ///
    /// # Errors
    ///
    /// [`Error::NoSymbols`] if the alphabet is empty, [`Error::SymbolCost`] if a symbol has one of
    /// both costs, [`Error::DictionaryStrings`] if the dictionary would have more strings than
    /// numbers (V-2.5).
    ///
    /// ```
    /// use df11::hazmat::dictionary::{Model, Width};
    ///
    /// let mut costs = [0; 256];
    /// (costs[7], costs[9]) = (16, 32);
    /// // 7, 7 7, 7 9, 9, 9 7, and the first of those that cost 49: there is none.
    /// let model = Model::new(Width::Eight, &costs, &costs, 48, 1)?;
    /// assert_eq!(model.strings(), 6);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn new(
        width: Width,
        first: &[u8; 256],
        following: &[u8; 256],
        limit: u16,
        remainder: u16,
    ) -> Result<Self, Error> {
        let model = Model { first: *first, following: *following, limit, remainder, width };
        model.check().map(|()| model)
    }

    /// Returns the cheapest model of all, to be filled in place because it is not small. It has to
    /// pass [`check`](Self::check) before any other code uses it.
    pub(crate) const fn unchecked(width: Width) -> Self {
        Model { first: [0; 256], following: [0; 256], limit: 0, remainder: 0, width }
    }

    /// First and following costs, limit and remainder, to be filled in.
    pub(crate) const fn as_unchecked(&mut self) -> (&mut [u8; 256], &mut [u8; 256], &mut u16, &mut u16) {
        (&mut self.first, &mut self.following, &mut self.limit, &mut self.remainder)
    }

    /// The model that follows from how often each symbol occurs (V-4.2).
    ///
    /// # Errors
    ///
    /// [`Error::NoSymbols`] if all counts are 0.
    ///
    /// ```
    /// use df11::hazmat::dictionary::{Model, Width};
    ///
    /// let mut counts = [0; 256];
    /// (counts[7], counts[9]) = (3, 1);
    /// let model = Model::of_counts(&counts, Width::Eight)?;
    /// // log2(4 / 3) is 6.6 sixteenths, log2(4) is 32.
    /// assert_eq!([7, 9].map(|symbol: usize| model.following_costs()[symbol]), [7, 32]);
    /// # Ok::<(), df11::Error>(())
    /// ```
    #[cfg(feature = "alloc")]
    pub fn of_counts(counts: &[u64; 256], width: Width) -> Result<Self, Error> {
        Self::with_mean(counts, width).map(|(model, _)| model)
    }

    /// [`of_counts`](Self::of_counts); also how many symbols a code is expected to have, times 2 to
    /// the power of 30.
    #[cfg(feature = "alloc")]
    pub(crate) fn with_mean(counts: &[u64; 256], width: Width) -> Result<(Self, u64), Error> {
        let total: u128 = counts.iter().map(|&count| u128::from(count)).sum();
        if total == 0 {
            return Err(Error::NoSymbols);
        }
        let p = counts.map(|count| match count {
            0 => 0,
            // At most 2^30.
            _ => ((u128::from(count) << SCALE) / total).max(1) as u64,
        });
        let following = p.map(|p| if p == 0 { 0 } else { cost(p) });
        let mut model = Model { first: following, following, ..Model::unchecked(width) };
        model.set_limit();
        let (sum, ends) = model.occurrences(&p, &p);
        // No more than 7 2^60.
        let q: [u64; 256] = core::array::from_fn(|s| ((p[s] * sum) >> SCALE).saturating_sub(ends[s]));
        let all = q.iter().sum::<u64>().max(1);
        let q = q.map(|q| (q << SCALE) / all);
        for ((first, q), p) in model.first.iter_mut().zip(&q).zip(&p) {
            *first = if *p == 0 { 0 } else { cost((*q).max(1)) };
        }
        model.set_limit();
        let (mean, _) = model.occurrences(&q, &p);
        Ok((model, mean))
    }

    /// How often each string, or one that goes on from it, occurs, if first symbols occur with
    /// frequency `q` and others with `p` (sums of 2 to the power of 30): all together, and by the
    /// last symbol those of two symbols or more.
    #[cfg(feature = "alloc")]
    fn occurrences(&self, q: &[u64; 256], p: &[u64; 256]) -> (u64, [u64; 256]) {
        let (mut sum, mut ends) = (0, [0; 256]);
        let mut by_len = [0; LONGEST];
        self.walk(|Visit { symbols, len, .. }| {
            let symbol = usize::from(symbols[len - 1]);
            let v = match len {
                1 => q[symbol],
                _ => {
                    let v = (by_len[len - 2] * p[symbol]) >> SCALE;
                    ends[symbol] += v;
                    v
                }
            };
            by_len[len - 1] = v;
            sum += v;
        });
        (sum, ends)
    }

    /// Makes limit and remainder those of V-4.4.
    #[cfg(feature = "alloc")]
    fn set_limit(&mut self) {
        const HIGHEST: usize = LONGEST * 255;
        // How many strings of each cost there are, by length; what they go on with, by cost.
        let mut strings = vec![[0u32; HIGHEST + 1]; LONGEST];
        let mut symbols = [0u32; 256];
        let used = self.first.iter().zip(&self.following).filter(|(first, _)| **first > 0);
        let mut number = 0;
        for (first, following) in used {
            strings[0][usize::from(*first)] += 1;
            symbols[usize::from(*following)] += 1;
            number += 1;
        }
        let most = self.width.codes() as u32;
        let mut costs = [(0usize, 0u32); 256];
        let mut k = 0;
        for (cost, symbols) in symbols.iter().enumerate().filter(|(_, symbols)| **symbols > 0) {
            costs[k] = (cost, *symbols);
            k += 1;
        }
        let costs = &costs[..k];
        let mut limit = 0;
        for cost in 1..=HIGHEST {
            let mut here = 0;
            for len in 1..LONGEST {
                let of = |(following, symbols): &(usize, u32)| {
                    cost.checked_sub(*following).map_or(0, |before| strings[len - 1][before] * symbols)
                };
                let sum = costs.iter().map(of).sum::<u32>();
                strings[len][cost] = sum;
                here += sum;
            }
            if number + here > most {
                break;
            }
            number += here;
            limit = cost;
        }
        (self.limit, self.remainder) = (limit as u16, (most - number) as u16);
    }

    /// What [`new`](Self::new) checks.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (symbol, (first, following)) in (0..=u8::MAX).zip(self.first.iter().zip(&self.following)) {
            if (*first == 0) != (*following == 0) {
                return Err(Error::SymbolCost { symbol });
            }
        }
        if self.first == [0; 256] {
            return Err(Error::NoSymbols);
        }
        match self.walk(|_| {}) {
            Some(_) => Ok(()),
            None => Err(Error::DictionaryStrings { most: self.width.codes() }),
        }
    }

    /// How wide codes are.
    #[must_use]
    pub const fn width(&self) -> Width {
        self.width
    }

    /// The first cost of each symbol; 0 where it is not in the alphabet.
    #[must_use]
    pub const fn first_costs(&self) -> &[u8; 256] {
        &self.first
    }

    /// The following cost of each symbol; 0 where it is not in the alphabet.
    #[must_use]
    pub const fn following_costs(&self) -> &[u8; 256] {
        &self.following
    }

    /// The limit.
    #[must_use]
    pub const fn limit(&self) -> u16 {
        self.limit
    }

    /// The remainder.
    #[must_use]
    pub const fn remainder(&self) -> u16 {
        self.remainder
    }

    /// The number of strings.
    #[must_use]
    pub fn strings(&self) -> usize {
        self.walk(|_| {}).unwrap_or_default()
    }

    /// A number that tells models apart, nearly always.
    pub(crate) fn fingerprint(&self) -> u32 {
        let [a, b] = self.limit.to_le_bytes();
        let [c, d] = self.remainder.to_le_bytes();
        let rest = [self.width.bits(), a, b, c, d];
        let bytes = rest.iter().chain(&self.first).chain(&self.following);
        // FNV-1a
        bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    }

    /// The alphabet in the order of V-2.3, and how many symbols it has.
    pub(super) fn order(&self) -> ([u8; 256], usize) {
        // How many symbols each cost has, then where they begin: those that are not in the alphabet
        // come first.
        let mut at = [0u16; 256];
        self.following.iter().for_each(|cost| at[usize::from(*cost)] += 1);
        let absent = usize::from(at[0]);
        let mut sum = 0;
        for at in &mut at {
            (*at, sum) = (sum, sum + *at);
        }
        let mut order = [0; 256];
        for (symbol, cost) in (0..=u8::MAX).zip(&self.following) {
            let at = &mut at[usize::from(*cost)];
            order[usize::from(*at) % 256] = symbol;
            *at += 1;
        }
        order.rotate_left(absent % 256);
        (order, 256 - absent)
    }

    /// Meets all strings in their order; returns how many there are, or `None` once there are more
    /// than numbers.
    ///
    /// The walk is depth-first. Symbols go by cost, so that one that costs too much ends the list:
    /// no more than two looks are spent for a string.
    pub(super) fn walk(&self, mut visit: impl FnMut(Visit)) -> Option<usize> {
        let (order, k) = self.order();
        let order = order.get(..k)?;
        let most = self.width.codes();
        let mut remainder = self.remainder;
        let mut number = 0;
        // By how many symbols come before: which is the next to be tried, what may still be spent,
        // and on whose number it would go on.
        let mut next = [0usize; LONGEST];
        let mut left = [i32::from(self.limit); LONGEST];
        let mut parents = [0usize; LONGEST];
        let mut symbols = [0u8; LONGEST];
        let mut depth = 0;
        loop {
            let candidate = order.get(next[depth]).copied().and_then(|symbol| {
                let costs = if depth == 0 { &self.first } else { &self.following };
                let rest = left[depth] - i32::from(costs[usize::from(symbol)]);
                // V-2.4: those of one symbol always, others as long as they do not cost too much.
                let is_in = depth == 0 || rest >= 0 || (rest == -1 && remainder > 0);
                is_in.then_some((symbol, rest))
            });
            let Some((symbol, rest)) = candidate else {
                symbols[depth] = 0;
                match depth.checked_sub(1) {
                    Some(before) => depth = before,
                    None => return Some(number),
                }
                continue;
            };
            if number == most {
                return None;
            }
            remainder -= u16::from(depth > 0 && rest == -1);
            symbols[depth] = symbol;
            next[depth] += 1;
            visit(Visit { number, parent: parents[depth], symbols, len: depth + 1 });
            if rest >= 0 && depth + 1 < LONGEST {
                depth += 1;
                (next[depth], left[depth], parents[depth]) = (0, rest, number);
            }
            number += 1;
        }
    }
}
