//! [`RANS.md`](../../RANS.md) as a program.

#![expect(clippy::expect_used, reason = "frequencies keep R-2.2, and what follows from that holds")]

use crate::{Violation, rule};

/// the start state.
const START: u64 = 1 << 15;

/// Normalised frequencies (section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frequencies {
    ///
    pub scale_bits: u32,
    /// by symbol.
    pub f: [u64; 256],
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The states of the 32 lanes.
    pub states: [u64; 32],
    /// Words of 16 bits, in the order in which they were appended.
    pub words: Vec<u16>,
}

impl Frequencies {
    /// Normalises the counts of symbols.
    ///
    /// # Panics
    ///
    /// If all counts are 0.
    #[must_use]
    pub fn normalise(n: &[u64; 256], scale_bits: u32) -> Self {
        let (total, size) = (n.iter().sum::<u64>(), 1u64 << scale_bits);
        // Step 1. The product may need more than 64 bits.
        let share = |n: u64| ((u128::from(n) << scale_bits) / u128::from(total)) as u64;
        let mut f = n.map(|n| if n == 0 { 0 } else { share(n).max(1) });
        // Whether n(a) / p < n(b) / q
        let less = |(a, p): (usize, u64), (b, q): (usize, u64)| {
            u128::from(n[a]) * u128::from(q) < u128::from(n[b]) * u128::from(p)
        };
        // Step 2
        while f.iter().sum::<u64>() < size {
            let mut best = (0..256).find(|&s| n[s] > 0).expect("a symbol occurs");
            for s in 0..256 {
                if n[s] > 0 && less((best, 2 * f[best] + 1), (s, 2 * f[s] + 1)) {
                    best = s;
                }
            }
            f[best] += 1;
        }
        // Step 3
        while f.iter().sum::<u64>() > size {
            let mut best = (0..256).rfind(|&s| f[s] > 1).expect("there are fewer symbols than slots");
            for s in (0..256).rev() {
                if f[s] > 1 && less((s, 2 * f[s] - 1), (best, 2 * f[best] - 1)) {
                    best = s;
                }
            }
            f[best] -= 1;
        }
        Frequencies { scale_bits, f }
    }

    ///
    fn c(&self, s: u8) -> u64 {
        self.f[..usize::from(s)].iter().sum()
    }

    ///
    fn symbol(&self, r: u64) -> u8 {
        (0..=255).find(|&s| self.c(s) <= r && r < self.c(s) + self.f[usize::from(s)]).expect("R-2.2 holds")
    }
}

/// Encodes a block (section 4).
///
/// # Errors
///
/// if a symbol has no frequency.
pub fn encode(frequencies: &Frequencies, symbols: &[u8]) -> Result<Block, Violation> {
    let p = frequencies.scale_bits;
    let mut block = Block { states: [START; 32], words: Vec::new() };
    for (i, &s) in symbols.iter().enumerate() {
        let (f, x) = (frequencies.f[usize::from(s)], &mut block.states[i % 32]);
        rule("R-2.2", f > 0, || format!("symbol {s} at {i} has no frequency"))?;
        //
        if *x >= f << (31 - p) {
            block.words.push((*x % 65536) as u16);
            *x /= 65536;
        }
        *x = ((*x / f) << p) + *x % f + frequencies.c(s);
    }
    Ok(block)
}

/// Decodes a block of `len` symbols (section 5).
///
/// # Errors
///
/// The first rule that an invalid block breaks.
pub fn decode(frequencies: &Frequencies, block: &Block, len: usize) -> Result<Vec<u8>, Violation> {
    let p = frequencies.scale_bits;
    let (mut states, mut words) = (block.states, block.words.clone());
    for (lane, &x) in states.iter().enumerate() {
        rule("R-5.3", (START..1 << 31).contains(&x), || format!("lane {lane} is in state {x}"))?;
    }
    let mut symbols = vec![0; len];
    for step in (0..len.div_ceil(32)).rev() {
        let mut needy = Vec::new();
        for i in 32 * step..len.min(32 * step + 32) {
            let x = &mut states[i % 32];
            let r = *x % (1 << p);
            let s = frequencies.symbol(r);
            *x = frequencies.f[usize::from(s)] * (*x >> p) + r - frequencies.c(s);
            symbols[i] = s;
            if *x < START {
                needy.push(i % 32);
            }
        }
        rule("R-5.4", needy.len() <= words.len(), || format!("step {step} needs words that are not there"))?;
        let taken = words.split_off(words.len() - needy.len());
        for (lane, w) in needy.into_iter().zip(taken) {
            states[lane] = states[lane] * 65536 + u64::from(w);
        }
    }
    rule("R-5.4", words.is_empty(), || format!("{} words are left", words.len()))?;
    for (lane, &x) in states.iter().enumerate() {
        rule("R-5.5", x == START, || format!("lane {lane} ends in state {x}"))?;
    }
    Ok(symbols)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_example_of_appendix_a() {
        let symbols = [7, 7, 9, 7, 200];
        let mut n = [0; 256];
        symbols.iter().for_each(|&s| n[usize::from(s)] += 1);
        let frequencies = Frequencies::normalise(&n, 9);
        assert_eq!([7, 9, 200].map(|s| frequencies.f[s]), [308, 102, 102]);
        let block = encode(&frequencies, &symbols).unwrap();
        assert_eq!(block.states[..6], [54392, 54392, 164_686, 54392, 164_788, 32768]);
        assert_eq!(block.words, []);
        assert_eq!(decode(&frequencies, &block, 5).unwrap(), symbols);
    }
}
