//! [`DICTIONARY.md`](../../DICTIONARY.md) as a program.

#![expect(clippy::expect_used, reason = "strings of the alphabet have costs")]

use std::collections::{BTreeMap, HashMap};

use crate::{Violation, rule};

/// V-1.1: the most symbols of a string.
const LONGEST: usize = 7;

/// Strings of symbols.
type Strings = Vec<Vec<u8>>;

/// V-3.1: the most symbols of a chunk.
const CHUNK: usize = 4096;

/// What a dictionary is made from (V-2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The width of a code in bits.
    pub w: u32,
    /// First and following cost of each symbol of the alphabet.
    pub costs: BTreeMap<u8, (u64, u64)>,
    /// The limit.
    pub l: u64,
    /// The remainder.
    pub r: usize,
}

impl Model {
    /// V-2.2
    fn cost(&self, string: &[u8]) -> u64 {
        let cost = |s: &u8| self.costs.get(s).expect("a symbol of the alphabet");
        cost(&string[0]).0 + string[1..].iter().map(|s| cost(s).1).sum::<u64>()
    }

    /// V-2.3: strings in order have keys in order.
    fn key(&self, string: &[u8]) -> Vec<(u64, u8)> {
        string.iter().map(|s| (self.costs.get(s).expect("a symbol of the alphabet").1, *s)).collect()
    }

    /// Strings that V-2.4 puts into the dictionary by 1 and 2, and those whose cost is `l + 1`, in
    /// no particular order; fails where the former are more than `2^w`.
    fn candidates(&self) -> Result<(Strings, Strings), Violation> {
        let mut sure: Strings = self.costs.keys().map(|s| vec![*s]).collect();
        let (mut maybe, mut longest) = (Vec::new(), sure.clone());
        for _ in 1..LONGEST {
            let mut longer = Vec::new();
            // What goes on from a string that costs too much costs too much as well.
            for string in longest.iter().filter(|string| self.cost(string) <= self.l) {
                for s in self.costs.keys() {
                    let string = [&string[..], &[*s]].concat();
                    match self.cost(&string) {
                        cost if cost <= self.l => longer.push(string),
                        cost if cost == self.l + 1 => maybe.push(string),
                        _ => {}
                    }
                }
                let number = sure.len() + longer.len();
                rule("V-2.5", number <= 1 << self.w, || format!("at least {number} strings"))?;
            }
            sure.extend_from_slice(&longer);
            longest = longer;
        }
        Ok((sure, maybe))
    }

    /// The strings, by number (V-2.4, V-2.6).
    ///
    /// # Errors
    ///
    /// V-2.5
    pub fn strings(&self) -> Result<Strings, Violation> {
        let (mut strings, mut maybe) = self.candidates()?;
        maybe.sort_by_key(|string| self.key(string));
        strings.extend(maybe.into_iter().take(self.r));
        rule("V-2.5", strings.len() <= 1 << self.w, || format!("{} strings", strings.len()))?;
        strings.sort_by_key(|string| self.key(string));
        Ok(strings)
    }

    /// The model that the writer of V-4.2 makes of counts.
    ///
    /// # Panics
    ///
    /// If all counts are 0.
    #[must_use]
    pub fn of_counts(c: &[u64; 256], w: u32) -> Model {
        let n: u128 = c.iter().map(|c| u128::from(*c)).sum();
        let p: BTreeMap<u8, u128> = (0..=255)
            .zip(c)
            .filter(|(_, c)| **c > 0)
            .map(|(s, c)| (s, ((u128::from(*c) << 30) / n).max(1)))
            .collect();
        // Step 1
        let b: BTreeMap<u8, u64> = p.iter().map(|(s, p)| (*s, cost(*p))).collect();
        // Step 2
        let first = with_limit(w, b.iter().map(|(s, b)| (*s, (*b, *b))).collect());
        let mut v: HashMap<Vec<u8>, u128> = HashMap::new();
        let mut strings = first.strings().expect("V-4.4 keeps V-2.5");
        strings.sort_by_key(Vec::len);
        for string in &strings {
            let (s, before) = string.split_last().expect("V-1.1");
            v.insert(string.clone(), if before.is_empty() { p[s] } else { (v[before] * p[s]) >> 30 });
        }
        let sum: u128 = v.values().sum();
        // Step 3
        let ends = |s: u8| strings.iter().filter(move |string| string.len() > 1 && string.last() == Some(&s));
        let q: BTreeMap<u8, u128> = p
            .iter()
            .map(|(s, p)| (*s, ((p * sum) >> 30) - ends(*s).map(|string| v[string]).sum::<u128>()))
            .collect();
        // Step 4
        let all: u128 = q.values().sum();
        let a = |s: u8| cost(((q[&s] << 30) / all).max(1));
        with_limit(w, b.iter().map(|(s, b)| (*s, (a(*s), *b))).collect())
    }
}

/// V-4.3
fn cost(x: u128) -> u64 {
    const T: [u128; 16] = [
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
    (1..255).find(|c| x >= T[c % 16] >> (c / 16)).unwrap_or(255) as u64
}

/// V-4.4
fn with_limit(w: u32, costs: BTreeMap<u8, (u64, u64)>) -> Model {
    let mut model = Model { w, costs, l: 0, r: 0 };
    // More limit, more strings: so the last that does well can be found by halving.
    let (mut good, mut bad) = (0, 1786);
    while good + 1 < bad {
        model.l = (good + bad) / 2;
        if model.candidates().is_ok() { good = model.l } else { bad = model.l }
    }
    model.l = good;
    model.r = (1 << w) - model.candidates().expect("found above").0.len();
    model
}

/// The strings of a dictionary, and how wide their numbers are.
#[derive(Clone, Debug)]
pub struct Dictionary {
    w: u32,
    strings: Strings,
    numbers: HashMap<Vec<u8>, u64>,
}

impl Dictionary {
    /// Makes the dictionary.
    ///
    /// # Errors
    ///
    /// V-2.5
    pub fn new(model: &Model) -> Result<Self, Violation> {
        let strings = model.strings()?;
        let numbers = strings.iter().cloned().zip(0..).collect();
        Ok(Dictionary { w: model.w, strings, numbers })
    }

    /// The width of its codes in bits, and of a group of 8 in bytes.
    #[must_use]
    pub fn width(&self) -> u64 {
        u64::from(self.w)
    }

    /// Decodes a chunk of `n` symbols from the bytes of its groups.
    ///
    /// # Errors
    ///
    /// V-3.1 or V-3.3.
    ///
    /// # Panics
    ///
    /// If the bytes are no whole groups.
    pub fn decode(&self, bytes: &[u8], n: usize) -> Result<Vec<u8>, Violation> {
        let w = self.w as usize;
        assert!(bytes.len().is_multiple_of(w), "groups of {w} bytes");
        let g = bytes.len() / w;
        rule("V-3.1", (1..=CHUNK).contains(&n), || format!("{n} symbols"))?;
        rule("V-3.1", (1..=512).contains(&g), || format!("{g} groups"))?;
        // V-3.2
        let bit = |j: usize| usize::from(bytes[j / 8] >> (j % 8) & 1);
        let code = |i: usize| (0..w).map(|j| bit(w * i + j) << j).sum::<usize>();
        // V-3.3
        let (mut symbols, mut t) = (Vec::new(), 0);
        while symbols.len() < n {
            rule("V-3.3", t < 8 * g, || format!("{g} groups give {} symbols of {n}", symbols.len()))?;
            // V-2.6
            symbols.extend(self.strings.get(code(t)).unwrap_or(&self.strings[0]));
            t += 1;
        }
        rule("V-3.3", symbols.len() == n, || format!("{t} codes give {} symbols of {n}", symbols.len()))?;
        rule("V-3.3", g == t.div_ceil(8), || format!("{g} groups hold {t} codes"))?;
        rule("V-3.3", (t..8 * g).all(|i| code(i) == 0), || format!("padding after code {t} is not 0"))?;
        Ok(symbols)
    }

    /// Encodes the symbols of a chunk to the bytes of its groups (V-4.1).
    ///
    /// # Errors
    ///
    /// V-2.1 if a symbol is not in the alphabet.
    pub fn encode(&self, symbols: &[u8]) -> Result<Vec<u8>, Violation> {
        let (mut codes, mut at) = (Vec::new(), 0);
        while at < symbols.len() {
            let longest = LONGEST.min(symbols.len() - at);
            let found = (1..=longest)
                .rev()
                .find_map(|len| self.numbers.get(&symbols[at..at + len]).map(|number| (len, *number)));
            let Some((len, number)) = found else {
                return Err(Violation { clause: "V-2.1", found: format!("symbol {}", symbols[at]) });
            };
            codes.push(number);
            at += len;
        }
        codes.resize(codes.len().next_multiple_of(8), 0);
        let w = self.w as usize;
        let mut bytes = vec![0; codes.len() * w / 8];
        for (i, code) in codes.iter().enumerate() {
            for j in 0..w {
                bytes[(w * i + j) / 8] |= ((code >> j & 1) as u8) << ((w * i + j) % 8);
            }
        }
        Ok(bytes)
    }
}
