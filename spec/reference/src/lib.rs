//! The specification [`DF11.md`](../../DF11.md) as a program: slow and obvious, one bit at a time,
//! with the clause beside each step; [`rans`], [`dictionary`], [`frame`] and [`delta`] are those of
//! the other documents. It shares no code with any other part of this repository, so that agreement
//! with it means something.
//!
//! ```
//! use df11_reference::{decode, encode};
//! use half::bf16;
//!
//! let weights = [1.0, -2.5, 0.0].map(bf16::from_f32);
//! let unit = encode(&[&weights[..2], &weights[2..]])?;
//! assert_eq!(decode(&unit)?, weights);
//! assert_eq!(unit.split_positions, 2i64.to_le_bytes());
//! # Ok::<(), df11_reference::Violation>(())
//! ```

pub mod delta;
pub mod dictionary;
pub mod frame;
pub mod rans;

use std::collections::BTreeMap;
use std::fmt;

use bitvec::prelude::*;
use half::bf16;

/// A bit string in the order of D-2.1.
type Bits = BitVec<u8, Msb0>;

/// The six arrays of a unit (D-10.1), as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Section 5.
    pub luts: Vec<u8>,
    /// Section 6.
    pub encoded_exponent: Vec<u8>,
    /// D-3.3.
    pub sign_mantissa: Vec<u8>,
    /// Section 8.
    pub output_positions: Vec<u8>,
    /// Section 7.
    pub gaps: Vec<u8>,
    /// Section 9.
    pub split_positions: Vec<u8>,
}

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The clause, for example `"D-5.3"`.
    pub clause: &'static str,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.clause, self.found)
    }
}

impl std::error::Error for Violation {}

/// Fails with a violation of the clause unless the condition holds.
fn rule(clause: &'static str, holds: bool, found: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { clause, found: found() }) }
}

/// D-3.4, D-6.1: the most elements, and the most bytes of code.
const MOST: usize = (1 << 31) - 1;

/// D-7.1: bits of a window.
const WINDOW: usize = 64;

/// D-8.1: bytes of a block.
const BLOCK: usize = 4096;

/// What a look-up gives (D-5.5).
struct Found {
    symbol: u8,
    length: usize,
}

/// Looks up the codeword that starts at bit `p` (D-5.5 to D-5.8).
fn look_up(luts: &[&[u8]], code: &BitSlice<u8, Msb0>, p: usize) -> Result<Found, Violation> {
    let lengths = luts[luts.len() - 1];
    let (mut t, mut d) = (0, 0);
    loop {
        rule("D-5.6", d < 4, || format!("a fourth jump at bit {p}"))?;
        let index = (0..8)
            .fold(0, |index, j| 2 * index + usize::from(code.get(p + 8 * d + j).is_some_and(|bit| *bit)));
        let v = luts[t][index];
        if v >= 240 {
            // D-5.2
            (t, d) = (256 - usize::from(v), d + 1);
            continue;
        }
        let length = usize::from(lengths[usize::from(v)]);
        rule("D-5.7", length > 0, || format!("symbol {v} at bit {p} has no code length"))?;
        rule("D-5.8", 8 * d < length && length <= 8 * d + 8, || {
            format!("symbol {v} at bit {p} has code length {length}, but was found after {d} jumps")
        })?;
        return Ok(Found { symbol: v, length });
    }
}

/// Section 9.
fn check_splits(unit: &Unit, n: usize) -> Result<(), Violation> {
    rule("D-9.1", unit.split_positions.len().is_multiple_of(8), || {
        format!("split_positions has {} bytes", unit.split_positions.len())
    })?;
    let mut least = 0;
    for chunk in unit.split_positions.chunks(8) {
        let split = i64::from_le_bytes(std::array::from_fn(|i| chunk[i]));
        rule("D-9.2", (least..=n as i64).contains(&split), || {
            format!("split position {split} after {least}")
        })?;
        least = split;
    }
    Ok(())
}

/// Decodes a valid or acceptable unit (a lenient reader, D-1.2).
///
/// # Errors
///
/// The first rule that an invalid unit breaks, in the order of the sections.
pub fn decode(unit: &Unit) -> Result<Vec<bf16>, Violation> {
    // D-3.3, D-3.4
    let n = unit.sign_mantissa.len();
    rule("D-3.4", (1..=MOST).contains(&n), || format!("{n} elements"))?;

    // Section 5
    let luts: Vec<&[u8]> = unit.luts.chunks(256).collect();
    let whole = unit.luts.len().is_multiple_of(256);
    rule("D-5.1", whole && (2..=18).contains(&luts.len()), || format!("luts has {} bytes", unit.luts.len()))?;
    let k = luts.len() - 1;
    for (t, table) in luts[..k].iter().enumerate() {
        for (i, &v) in table.iter().enumerate() {
            rule("D-5.3", v < 240 || 256 - usize::from(v) < k, || {
                format!("value {v} in table {t}, entry {i}, of {k}")
            })?;
        }
    }
    for (s, &length) in luts[k].iter().enumerate().take(240) {
        rule("D-5.4", length <= 32, || format!("symbol {s} has code length {length}"))?;
    }

    // Section 6
    let code = unit.encoded_exponent.view_bits::<Msb0>();
    let bytes = unit.encoded_exponent.len();
    rule("D-6.1", (1..=MOST).contains(&bytes), || format!("{bytes} bytes of code"))?;

    // D-7.4
    let blocks = bytes.div_ceil(BLOCK);
    rule("D-7.4", unit.gaps.len() == 320 * blocks, || {
        format!("gaps has {} bytes for {blocks} blocks", unit.gaps.len())
    })?;
    let gaps: Vec<usize> = unit.gaps.view_bits::<Msb0>().chunks(5).map(|gap| gap.load_be()).collect();

    // D-8.3 to D-8.5
    let entries = unit.output_positions.len();
    rule("D-8.3", entries == 4 * (blocks + 1) || entries == 4 * blocks, || {
        format!("output_positions has {entries} bytes for {blocks} blocks")
    })?;
    let chunks = unit.output_positions.chunks(4);
    let mut positions: Vec<usize> =
        chunks.map(|c| c.iter().rev().fold(0, |p, &b| 256 * p + usize::from(b))).collect();
    rule("D-8.5", positions[0] == 0, || format!("the first output position is {}", positions[0]))?;
    let last = positions[positions.len() - 1];
    rule("D-8.5", last == n, || format!("the last output position is {last}, with {n} elements"))?;
    if entries == 4 * blocks {
        positions.push(n); // D-8.4
    }
    for b in 0..blocks {
        let (here, next) = (positions[b], positions[b + 1]);
        rule("D-8.5", here < next || (here == next && b + 1 == blocks), || {
            format!("output positions {here}, {next}")
        })?;
    }

    check_splits(unit, n)?;

    // D-12.1, and what it finds out about gaps and output positions
    let mut weights = Vec::new();
    let (mut p, mut window, mut block) = (0, 0, 0);
    for i in 0..n {
        // D-8.6: the codewords of a block start in it, and those of the next do not.
        while block < blocks && positions[block] <= i {
            rule("D-8.6", p / (8 * BLOCK) >= block || positions[block] != i, || {
                format!("block {block} begins with element {i}, whose codeword starts at bit {p}")
            })?;
            block += 1;
        }
        rule("D-8.6", p / (8 * BLOCK) < block, || {
            format!("the codeword of element {i} starts in block {block}")
        })?;
        // D-7.2
        if p / WINDOW >= window {
            window = p / WINDOW;
            let gap = gaps.get(window).copied().unwrap_or(0);
            rule("D-7.2", gap == p % WINDOW, || {
                format!("the gap of window {window} is {gap}, not {}", p % WINDOW)
            })?;
            window += 1;
        }
        let Found { symbol, length } = look_up(&luts, code, p)?;
        p += length;
        rule("D-6.2", p <= code.len(), || format!("element {i} ends at bit {p} of {}", code.len()))?;
        // D-3.1, D-3.3
        let sign_mantissa = u16::from(unit.sign_mantissa[i]);
        let bits = (sign_mantissa & 0x80) << 8 | u16::from(symbol) << 7 | sign_mantissa & 0x7f;
        weights.push(bf16::from_bits(bits));
    }
    // D-6.3: what is left is ignored, however much it is.
    Ok(weights)
}

/// Code lengths of at least 1 and at most `limit` bits, by package-merge (D-11.1).
///
/// The textbook form: a *package* is a set of symbols with a weight. Begin with one package for
/// each symbol; `limit - 1` times, pair neighbours and merge the pairs with the symbols again. In
/// the end, a symbol's length is the number of the first 2 m - 2 packages that it is in.
fn code_lengths(frequencies: &BTreeMap<u8, u64>, limit: usize) -> BTreeMap<u8, usize> {
    let mut symbols: Vec<(u64, Vec<u8>)> = frequencies.iter().rev().map(|(&s, &f)| (f, vec![s])).collect();
    symbols.sort_by_key(|(frequency, _)| *frequency); // stable: equal ones by descending value
    if symbols.len() == 1 {
        return symbols.iter().map(|(_, s)| (s[0], 1)).collect();
    }
    let mut packages = symbols.clone();
    for _ in 1..limit {
        let pairs = packages
            .chunks_exact(2)
            .map(|pair| (pair[0].0 + pair[1].0, [&pair[0].1[..], &pair[1].1].concat()));
        packages = symbols.iter().cloned().chain(pairs).collect();
        packages.sort_by_key(|(weight, _)| *weight); // stable: a symbol goes before a package of equal weight
    }
    let mut lengths = BTreeMap::new();
    for symbol in packages[..2 * symbols.len() - 2].iter().flat_map(|(_, symbols)| symbols) {
        *lengths.entry(*symbol).or_default() += 1;
    }
    lengths
}

/// The canonical code of these lengths (D-11.1).
fn codewords(lengths: &BTreeMap<u8, usize>) -> BTreeMap<u8, Bits> {
    let mut order: Vec<(usize, u8)> = lengths.iter().map(|(&symbol, &length)| (length, symbol)).collect();
    order.sort_unstable();
    let mut next = 0u64; // the next codeword, as a number of 32 bits
    let mut codewords = BTreeMap::new();
    for (length, symbol) in order {
        codewords.insert(symbol, (0..length).map(|i| next >> (31 - i) & 1 == 1).collect());
        next += 1 << (32 - length);
    }
    codewords
}

/// The prefix tables and the code lengths (section 5, D-11.2, D-11.3); `None` if there would be
/// more than 17 tables.
fn luts(codewords: &BTreeMap<u8, Bits>) -> Option<Vec<u8>> {
    // Each table is reached by a prefix of whole bytes that is followed by more of some codeword.
    let mut prefixes: Vec<&BitSlice<u8, Msb0>> = Vec::new();
    for codeword in codewords.values() {
        prefixes.extend((0..codeword.len()).step_by(8).map(|bits| &codeword[..bits]));
    }
    prefixes.sort_by(|a, b| a.len().cmp(&b.len()).then(a.cmp(b)));
    prefixes.dedup();
    if prefixes.len() > 17 {
        return None;
    }
    let filler = *codewords.iter().min_by_key(|(symbol, codeword)| (codeword.len(), **symbol))?.0;
    let mut luts = Vec::new();
    for prefix in &prefixes {
        for index in 0..=u8::MAX {
            let path: Bits =
                prefix.iter().by_vals().chain(index.view_bits::<Msb0>().iter().by_vals()).collect();
            let symbol =
                codewords.iter().find(|(_, codeword)| path.starts_with(codeword)).map(|(symbol, _)| *symbol);
            let jump = prefixes.iter().position(|prefix| *prefix == path).map(|table| (256 - table) as u8);
            luts.push(symbol.or(jump).unwrap_or(filler));
        }
    }
    luts.extend(
        (0..=u8::MAX).map(|symbol| codewords.get(&symbol).map_or(0, |codeword| codeword.len() as u8)),
    );
    Some(luts)
}

/// Encodes tensors as a unit, in the way that section 11 recommends.
///
/// # Errors
///
/// D-3.4, D-4.1 or D-6.1, if the layout cannot hold the tensors.
pub fn encode(tensors: &[&[bf16]]) -> Result<Unit, Violation> {
    let weights: Vec<u16> =
        tensors.iter().flat_map(|tensor| tensor.iter().map(|weight| weight.to_bits())).collect();
    rule("D-3.4", (1..=MOST).contains(&weights.len()), || format!("{} elements", weights.len()))?;
    let mut frequencies = BTreeMap::new();
    for (i, weight) in weights.iter().enumerate() {
        let exponent = (weight >> 7) as u8; // D-3.1
        rule("D-4.1", exponent < 240, || format!("element {i} has exponent {exponent}"))?;
        *frequencies.entry(exponent).or_default() += 1;
    }

    // D-11.5: the largest limit whose code needs few enough tables; 8 always does.
    let codes = (8..=32).rev().map(|limit| codewords(&code_lengths(&frequencies, limit)));
    let (codewords, luts) = codes
        .filter_map(|codewords| luts(&codewords).map(|luts| (codewords, luts)))
        .next()
        .ok_or_else(|| Violation { clause: "D-11.5", found: "no code fits".to_owned() })?;

    let mut unit = Unit { luts, ..Unit::default() };
    let (mut code, mut gaps, mut positions): (Bits, Bits, Vec<u32>) = Default::default();
    for (i, weight) in weights.iter().enumerate() {
        let p = code.len();
        if p / WINDOW * 5 >= gaps.len() {
            gaps.extend((0..5).map(|bit| ((p % WINDOW) >> (4 - bit)) & 1 == 1)); // D-7.2
        }
        if p / (8 * BLOCK) >= positions.len() {
            positions.push(i as u32); // D-8.2
        }
        code.extend_from_bitslice(&codewords[&((weight >> 7) as u8)]); // D-6.1
        unit.sign_mantissa.push((weight >> 8 & 0x80) as u8 | (weight & 0x7f) as u8); // D-3.3
    }
    let end = code.len();
    if end / WINDOW * 5 >= gaps.len() && end % 8 != 0 {
        gaps.extend((0..5).map(|bit| ((end % WINDOW) >> (4 - bit)) & 1 == 1)); // D-11.4
    }
    unit.encoded_exponent = code.into_iter().collect::<Bits>().into_vec(); // D-11.4
    let bytes = unit.encoded_exponent.len();
    rule("D-6.1", bytes <= MOST, || format!("{bytes} bytes of code"))?;
    let blocks = bytes.div_ceil(BLOCK);
    gaps.resize(5 * 512 * blocks, false); // D-7.4, D-11.4
    unit.gaps = gaps.into_vec();
    positions.resize(blocks + 1, weights.len() as u32); // D-8.2, D-8.3
    unit.output_positions = positions.iter().flat_map(|position| position.to_le_bytes()).collect();
    let mut end = 0;
    for tensor in &tensors[..tensors.len() - 1] {
        end += tensor.len() as i64;
        unit.split_positions.extend(end.to_le_bytes()); // D-9.1
    }
    Ok(unit)
}
