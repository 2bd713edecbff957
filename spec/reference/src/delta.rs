//! [`DELTA.md`](../../DELTA.md) as a program.

#![expect(clippy::expect_used, reason = "what is written has been counted before")]

use crate::frame::{self, Tensor, crc};
use crate::rans::{self, Frequencies};
use crate::{Violation, rule};

/// B-3.1: the first bytes.
const MAGIC: [u8; 8] = [0x89, 0x44, 0x46, 0x31, 0x31, 0x64, 0x0a, 0x1a];

/// F-4.1: the bytes of an element, by type.
const BYTES: [usize; 6] = [1, 2, 2, 4, 1, 1];

/// the start state.
const START: u64 = 1 << 15;

/// What a writer chooses (B-7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Method 0.
    Same,
    /// Method 1.
    List,
    /// Method 2.
    Coded {
        /// Bytes of the raw part.
        m: usize,
        /// Elements of a block.
        block: usize,
        /// Whether there is a map.
        map: bool,
        /// Whether escapes are coded.
        escapes: bool,
    },
    /// Method 3, with this codec.
    Frame(u8),
}

/// An element as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// B-5.1: the ordinal, as a number modulo `2^(8 E)`; it is its own inverse.
fn ordinal(element_type: u8, u: u64) -> u64 {
    let top = 1 << (8 * BYTES[usize::from(element_type)] - 1);
    if element_type != 0 && u & top != 0 { u ^ (top - 1) } else { u }
}

/// B-5.1: `z`.
fn zigzag(element_type: u8, new: u64, base: u64) -> u64 {
    let size = 1u64 << (8 * BYTES[usize::from(element_type)]);
    let d = (ordinal(element_type, new) + size - ordinal(element_type, base)) % size;
    if d < size / 2 { 2 * d } else { 2 * (size - d) - 1 }
}

/// B-5.1: the element of the result.
fn restored(element_type: u8, z: u64, base: u64) -> u64 {
    let size = 1u64 << (8 * BYTES[usize::from(element_type)]);
    let d = if z.is_multiple_of(2) { z / 2 } else { size - z.div_ceil(2) };
    ordinal(element_type, (ordinal(element_type, base) + d) % size)
}

/// B-5.3: the exponent field.
fn exponent(element_type: u8, u: u64) -> usize {
    let (low, bits) = [(0, 0), (7, 8), (10, 5), (23, 8), (3, 4), (2, 5)][usize::from(element_type)];
    (u >> low) as usize & ((1 << bits) - 1)
}

/// B-7.2: the logarithm to the base of 2, in units of 1 / 4,096.
#[must_use]
pub fn lg(v: u64) -> u64 {
    let h = (0..64).find(|h| v >> h < 512).expect("a number has 64 bits");
    let v = v >> h;
    let i = u64::from(v.ilog2());
    let (mut y, mut r) = (v << (31 - i), i);
    for _ in 0..12 {
        (y, r) = ((y * y) >> 31, 2 * r);
        if y >= 1 << 32 {
            (y, r) = (y / 2, r + 1);
        }
    }
    r + 4096 * h
}

/// B-7.2: the cost of a group with these counts.
fn cost(counts: &[u64; 256]) -> i128 {
    let n: u64 = counts.iter().sum();
    let f = |count: u64| (count * 2048 / n).max(1);
    let occurring = || counts.iter().copied().filter(|count| *count > 0);
    let sum: u64 = occurring().map(f).sum();
    let coded: i128 = occurring().map(|count| i128::from(count) * i128::from(lg(f(count)))).sum();
    i128::from(n) * i128::from(lg(sum)) - coded + 40_960 * occurring().count() as i128 + 65_536
}

/// B-7.2: thresholds and tables for counts of symbols by exponent, of elements of `size` bytes, and
/// from which symbol on elements are escapes in each group.
#[must_use]
pub fn tables(counts: &[[u64; 256]; 256], most: usize, size: u64) -> (Vec<u8>, Vec<Frequencies>, Vec<u8>) {
    let mut groups: Vec<(u8, [u64; 256])> = (0..=255)
        .zip(counts)
        .filter(|(_, counts)| counts.iter().any(|count| *count > 0))
        .map(|(x, counts)| (x, *counts))
        .collect();
    let union = |a: &[u64; 256], b: &[u64; 256]| std::array::from_fn(|s| a[s] + b[s]);
    while groups.len() > 1 {
        let more = |i: usize| {
            let (a, b) = (&groups[i].1, &groups[i + 1].1);
            cost(&union(a, b)) - cost(a) - cost(b)
        };
        let costs: Vec<i128> = (0..groups.len() - 1).map(more).collect();
        let least = (0..costs.len()).min_by_key(|i| costs[*i]).expect("there are two groups");
        if costs[least] > 0 && groups.len() <= most {
            break;
        }
        let (_, removed) = groups.remove(least + 1);
        groups[least].1 = union(&groups[least].1, &removed);
    }
    let mut limits = Vec::new();
    for (_, counts) in &mut groups {
        let n: u64 = counts.iter().sum();
        if most < 8 {
            limits.push(255);
            continue;
        }
        let t = (0..255).rfind(|s| 11_360 * size * counts[*s] >= n).map_or(0, |s| s + 1);
        let (rare, rest) = counts[t..].split_at_mut(255 - t);
        if rest[0] > 0 || rare.iter().filter(|count| **count > 0).count() >= 2 {
            rest[0] += rare.iter().sum::<u64>();
            rare.fill(0);
            limits.push(t as u8);
        } else {
            limits.push(255);
        }
    }
    let thresholds = groups[1..].iter().map(|(x, _)| *x).collect();
    let tables = groups.iter().map(|(_, counts)| Frequencies::normalise(counts, 11)).collect();
    (thresholds, tables, limits)
}

/// B-5.4: a table in the header.
fn put_table(out: &mut Vec<u8>, f: &[u64; 256]) {
    let (mut s, mut sum) = (0, 0);
    while sum < 2048 {
        let run = f[s..].iter().take_while(|f| **f == 0).count();
        if run > 0 {
            out.extend([0, (run - 1) as u8]);
            s += run;
        }
        match f[s] {
            f @ 1..=127 => out.push(f as u8),
            f => out.extend([(128 + f / 256) as u8, (f % 256) as u8]),
        }
        sum += f[s];
        s += 1;
    }
}

/// What a symbol is coded with.
fn step(x: &mut u64, words: &mut Vec<u16>, table: &Frequencies, s: u8) -> Result<(), Violation> {
    let (f, c) = (table.f[usize::from(s)], table.f[..usize::from(s)].iter().sum::<u64>());
    rule("R-2.2", f > 0, || format!("symbol {s} has no frequency"))?;
    if *x >= f << 20 {
        words.push((*x % 65536) as u16);
        *x /= 65536;
    }
    *x = ((*x / f) << 11) + *x % f + c;
    Ok(())
}

/// A block, and its entry in the directory without checksums.
struct Block {
    w: usize,
    v: usize,
    e: usize,
    k: usize,
    bytes: Vec<u8>,
}

/// What all blocks of a delta share.
struct Shared<'a> {
    element_type: u8,
    m: usize,
    thresholds: &'a [u8],
    tables: &'a [Frequencies],
    /// From which symbol on a writer makes elements escapes, by table.
    limits: &'a [u8],
    map: Option<&'a Frequencies>,
    escapes: Option<&'a Frequencies>,
}

impl Shared<'_> {
    fn context(&self, base: u64) -> usize {
        let x = exponent(self.element_type, base);
        self.thresholds.iter().filter(|t| usize::from(**t) <= x).count()
    }

    fn table(&self, base: u64) -> &Frequencies {
        &self.tables[self.context(base)]
    }

    /// B-5.6 to B-5.8
    fn block(&self, base: &[u64], new: &[u64]) -> Result<Block, Violation> {
        let size = BYTES[usize::from(self.element_type)];
        let (mut states, mut words) = ([START; 32], Vec::new());
        let (mut escapes, mut map) = (Vec::<u8>::new(), Vec::new());
        let mut planes = vec![Vec::<u8>::new(); self.m];
        let (mut k, mut e) = (0, 0);
        for (base, new) in base.chunks(64).zip(new.chunks(64)) {
            map.push(u8::from(base != new));
            if self.map.is_some() && base == new {
                continue;
            }
            for (&base, &new) in base.iter().zip(new) {
                let z = zigzag(self.element_type, new, base);
                let s = (z >> (8 * self.m)).min(255) as u8;
                let s = if s >= self.limits[self.context(base)] { 255 } else { s };
                step(&mut states[k % 32], &mut words, self.table(base), s)?;
                if s == 255 {
                    escapes.extend(&new.to_le_bytes()[..size]);
                    e += 1;
                }
                planes.iter_mut().zip(z.to_le_bytes()).for_each(|(plane, byte)| plane.push(byte));
                k += 1;
            }
        }
        if let Some(table) = self.map {
            for (i, s) in map.into_iter().enumerate() {
                step(&mut states[i % 32], &mut words, table, s)?;
            }
        }
        let put = |bytes: &mut Vec<u8>, states: &[u64; 32]| {
            bytes.extend(states.iter().flat_map(|state| (*state as u32).to_le_bytes()));
        };
        let (mut bytes, mut v) = (Vec::new(), Vec::new());
        put(&mut bytes, &states);
        if let Some(table) = self.escapes.filter(|_| e > 0) {
            let split: Vec<(u8, Vec<u8>)> =
                escapes.chunks(size).map(|element| frame::split_one(self.element_type, element)).collect();
            let symbols: Vec<u8> = split.iter().map(|(symbol, _)| *symbol).collect();
            let coded = rans::encode(table, &symbols)?;
            put(&mut bytes, &coded.states);
            v = coded.words;
            escapes = split.into_iter().flat_map(|(_, raw)| raw).collect();
        }
        bytes.extend(words.iter().chain(&v).flat_map(|word| word.to_le_bytes()));
        bytes.extend(escapes);
        bytes.extend(planes.concat());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        Ok(Block { w: words.len(), v: v.len(), e, k, bytes })
    }

    /// B-5.8, from the words that are left.
    fn unblock(&self, base: &[u64], block: &Block) -> Result<Vec<u64>, Violation> {
        let size = BYTES[usize::from(self.element_type)];
        let mut states: Vec<u64> = block.bytes[..128].chunks(4).map(number).collect();
        for (lane, x) in states.iter().enumerate() {
            rule("R-5.3", (START..1 << 31).contains(x), || format!("lane {lane} is in state {x}"))?;
        }
        let coded_escapes = self.escapes.filter(|_| block.e > 0);
        let start = if coded_escapes.is_some() { 256 } else { 128 };
        let mut words: Vec<u64> = block.bytes[start..start + 2 * block.w].chunks(2).map(number).collect();
        let mut decode = |tables: &[&Frequencies]| {
            let mut symbols = vec![0; tables.len()];
            for first in (0..tables.len().div_ceil(32)).rev().map(|step| 32 * step) {
                let mut needy = Vec::new();
                for i in first..tables.len().min(first + 32) {
                    let (x, f) = (&mut states[i % 32], &tables[i].f);
                    let (r, mut s, mut c) = (*x % 2048, 0, 0);
                    while r >= c + f[s] {
                        (s, c) = (s + 1, c + f[s]);
                    }
                    *x = f[s] * (*x >> 11) + r - c;
                    symbols[i] = s as u8;
                    if *x < START {
                        needy.push(i % 32);
                    }
                }
                rule("R-5.4", needy.len() <= words.len(), || "words are missing".to_owned())?;
                let taken = words.split_off(words.len() - needy.len());
                needy.iter().zip(taken).for_each(|(lane, w)| states[*lane] = states[*lane] * 65536 + w);
            }
            Ok::<_, Violation>(symbols)
        };
        let map = match self.map {
            Some(table) => decode(&vec![table; base.len().div_ceil(64)])?,
            None => vec![1; base.len().div_ceil(64)],
        };
        let coded: Vec<usize> = (0..base.len()).filter(|i| map[i / 64] == 1).collect();
        rule("B-5.8", coded.len() == block.k, || format!("{} elements are coded", coded.len()))?;
        let of: Vec<&Frequencies> = coded.iter().map(|i| self.table(base[*i])).collect();
        let symbols = decode(&of)?;
        rule("R-5.4", words.is_empty(), || format!("{} words are left", words.len()))?;
        rule("R-5.5", states.iter().all(|x| *x == START), || "a lane ends in another state".to_owned())?;
        let found = symbols.iter().filter(|s| **s == 255).count();
        rule("B-5.8", found == block.e, || format!("{found} escapes"))?;
        let rest = &block.bytes[start + 2 * block.w..];
        let (escapes, planes): (Vec<u64>, _) = match coded_escapes {
            None => (rest[..size * block.e].chunks(size).map(number).collect(), &rest[size * block.e..]),
            Some(table) => {
                let states: Vec<u64> = block.bytes[128..256].chunks(4).map(number).collect();
                let words = rest[..2 * block.v].chunks(2).map(|word| number(word) as u16).collect();
                let states = states.try_into().expect("128 bytes");
                let symbols = rans::decode(table, &rans::Block { states, words }, block.e)?;
                let raw = &rest[2 * block.v..][..(size - 1) * block.e];
                let element = |i: usize| {
                    number(&frame::merge_one(
                        self.element_type,
                        symbols[i],
                        &raw[(size - 1) * i..][..size - 1],
                    ))
                };
                ((0..block.e).map(element).collect(), &rest[2 * block.v + (size - 1) * block.e..])
            }
        };
        let mut escapes = escapes.into_iter();
        let mut new = base.to_vec();
        for (at, (&i, &s)) in coded.iter().zip(&symbols).enumerate() {
            let raw = (0..self.m).rev().fold(0, |raw, p| raw << 8 | u64::from(planes[p * block.k + at]));
            new[i] = match s {
                255 => escapes.next().expect("they were counted"),
                s => restored(self.element_type, u64::from(s) << (8 * self.m) | raw, base[i]),
            };
        }
        Ok(new)
    }
}

/// Encodes elements against a base, of which the first `common` count (B-3.2).
///
/// # Errors
///
/// B-3.2 if there are fewer elements than that; the errors of [`frame::encode`].
///
/// # Panics
///
/// With [`Method::Same`] for others than those of the base.
pub fn encode(
    element_type: u8,
    new: &[u8],
    base: &[u8],
    common: usize,
    method: Method,
) -> Result<Vec<u8>, Violation> {
    let size = BYTES[usize::from(element_type)];
    let n = new.len() / size;
    let c = if matches!(method, Method::Frame(_)) { 0 } else { common };
    rule("B-3.2", c * size <= base.len().min(new.len()), || format!("{c} common elements"))?;
    let (base, rest, new) = (&base[..c * size], &new[c * size..], &new[..c * size]);
    let numbers = |bytes: &[u8]| bytes.chunks(size).map(number).collect::<Vec<u64>>();
    let (b, r) = (numbers(base), numbers(new));
    let mut out = MAGIC.to_vec();
    let (number, m, block, map) = match method {
        Method::Same => (0, 0, 0, 0),
        Method::List => (1, 0, 0, 0),
        Method::Coded { m, block, map, escapes } => (2, m, block, u8::from(map) | u8::from(escapes) << 1),
        Method::Frame(_) => (3, 0, 0, 0),
    };
    out.extend([1, element_type, number, m as u8, 0, map, 0, 0]);
    out.extend((n as u64).to_le_bytes());
    out.extend((c as u64).to_le_bytes());
    out.extend((block as u32).to_le_bytes());
    let mut blocks = Vec::new();
    match method {
        Method::Same => {
            assert_eq!(base, new, "the elements are not the same");
            out.extend(crc(0, new).to_le_bytes());
        }
        Method::List => {
            let changed: Vec<usize> = (0..c).filter(|i| b[*i] != r[*i]).collect();
            out.extend(crc(0, base).to_le_bytes());
            out.extend(crc(0, new).to_le_bytes());
            out.extend((changed.len() as u32).to_le_bytes());
            let mut before = 0;
            for i in changed {
                let mut gap = i - before;
                while gap > 127 {
                    out.push(gap as u8 | 128);
                    gap >>= 7;
                }
                out.push(gap as u8);
                out.extend(&new[i * size..(i + 1) * size]);
                before = i + 1;
            }
        }
        Method::Coded { m, block, map, escapes } => {
            let mut counts = Box::new([[0; 256]; 256]);
            let mut chunks = [0; 256];
            for (b, r) in b.chunks(block).zip(r.chunks(block)) {
                for (b, r) in b.chunks(64).zip(r.chunks(64)) {
                    chunks[usize::from(b != r)] += 1;
                    for (&b, &r) in b.iter().zip(r).filter(|_| !map || b != r) {
                        let s = (zigzag(element_type, r, b) >> (8 * m)).min(255) as usize;
                        counts[exponent(element_type, b)][s] += 1;
                    }
                }
            }
            let most = if escapes { 7 } else { 8 };
            let (thresholds, tables, limits) = tables(&counts, most, size as u64);
            let no_tables = Shared {
                element_type,
                m,
                thresholds: &thresholds,
                tables: &tables,
                limits: &limits,
                map: None,
                escapes: None,
            };
            let mut of_escapes = [0; 256];
            for (&b, &r) in b.iter().zip(&r) {
                let s = (zigzag(element_type, r, b) >> (8 * m)).min(255) as u8;
                if s >= limits[no_tables.context(b)] {
                    let element = &r.to_le_bytes()[..size];
                    of_escapes[usize::from(frame::split_one(element_type, element).0)] += 1;
                }
            }
            // Where there are none, any table will do.
            of_escapes[0] += u64::from(of_escapes == [0; 256]);
            let of_escapes = escapes.then(|| Frequencies::normalise(&of_escapes, 11));
            let of_map = map.then(|| Frequencies::normalise(&chunks, 11));
            out[12] = tables.len() as u8;
            out.extend((b.iter().zip(&r).filter(|(b, r)| b != r).count() as u64).to_le_bytes());
            out.extend(&thresholds);
            tables.iter().chain(&of_escapes).for_each(|table| put_table(&mut out, &table.f));
            if let Some(table) = &of_map {
                out.extend((table.f[1] as u16).to_le_bytes());
            }
            let shared = Shared { map: of_map.as_ref(), escapes: of_escapes.as_ref(), ..no_tables };
            for (j, (b, r)) in b.chunks(block).zip(r.chunks(block)).enumerate() {
                let coded = shared.block(b, r)?;
                let of = |bytes: &[u8]| crc(0, &bytes[j * block * size..][..b.len() * size]);
                let numbers = [coded.w, coded.v, coded.e, coded.k].map(|number| number as u32);
                let checksums = [crc(j as u32, &coded.bytes), of(base), of(new)];
                numbers.iter().chain(&checksums).for_each(|field| out.extend(field.to_le_bytes()));
                blocks.extend(coded.bytes);
            }
        }
        Method::Frame(_) => {}
    }
    out.extend(crc(0, &out).to_le_bytes());
    if matches!(method, Method::Coded { .. }) {
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(blocks);
    }
    let codec = if let Method::Frame(codec) = method { codec } else { 1 };
    if c < n || number == 3 {
        let tensor = Tensor { element_type, shape: vec![(n - c) as u64], elements: rest.to_vec() };
        out.extend(frame::encode(&tensor, codec)?);
    }
    Ok(out)
}

/// Takes fields off the front of a delta.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn bytes(&mut self, clause: &'static str, n: usize) -> Result<&'a [u8], Violation> {
        let left = self.bytes.len() - self.at;
        rule(clause, n <= left, || format!("{n} bytes are wanted at {}, but there are {left}", self.at))?;
        self.at += n;
        Ok(&self.bytes[self.at - n..self.at])
    }

    fn integer(&mut self, clause: &'static str, n: usize) -> Result<u64, Violation> {
        self.bytes(clause, n).map(number)
    }

    fn zeros(&mut self, clause: &'static str, n: usize) -> Result<(), Violation> {
        let zeros = self.bytes(clause, n)?.iter().all(|byte| *byte == 0);
        rule("B-1.2", zeros, || format!("bytes before {} are not 0", self.at))
    }

    /// B-2.3
    fn variable(&mut self) -> Result<u64, Violation> {
        let mut value = 0;
        for i in 0..5 {
            let byte = self.integer("B-2.3", 1)?;
            value |= (byte & 127) << (7 * i);
            if byte < 128 {
                rule("B-2.3", byte > 0 || i == 0, || "a number ends in 0".to_owned())?;
                rule("B-2.3", value < 1 << 32, || format!("the number {value}"))?;
                return Ok(value);
            }
        }
        Err(Violation { clause: "B-2.3", found: "a number of more than 5 bytes".to_owned() })
    }

    /// B-5.4
    fn table(&mut self) -> Result<Frequencies, Violation> {
        let mut f = [0; 256];
        let (mut s, mut sum, mut after_run) = (0, 0, false);
        while sum < 2048 {
            let byte = self.integer("B-5.4", 1)?;
            let run = if byte == 0 { 1 + self.integer("B-5.4", 1)? as usize } else { 0 };
            rule("B-5.4", run == 0 || !after_run, || "a run after a run".to_owned())?;
            (s, after_run) = (s + run, run > 0);
            rule("B-5.4", s < 256, || "a table of more than 256 symbols".to_owned())?;
            if run == 0 {
                f[s] = if byte < 128 { byte } else { (byte - 128) << 8 | self.integer("B-5.4", 1)? };
                rule("B-5.4", byte < 128 || f[s] > 127, || format!("{} in two bytes", f[s]))?;
                sum += f[s];
                s += 1;
            }
        }
        rule("B-5.4", sum == 2048, || format!("frequencies of {sum}"))?;
        Ok(Frequencies { scale_bits: 11, f })
    }
}

/// What a delta gives with this base: its element type, and the elements.
///
/// # Errors
///
/// The first rule that is broken.
pub fn decode(delta: &[u8], base: &[u8]) -> Result<(u8, Vec<u8>), Violation> {
    let mut fields = Fields { bytes: delta, at: 0 };
    rule("B-3.1", fields.bytes("B-3.1", 8)? == MAGIC, || "another magic".to_owned())?;
    let version = fields.integer("B-3.1", 1)?;
    rule("B-1.3", version == 1, || format!("version {version}"))?;
    let element_type = fields.integer("B-3.1", 1)? as u8;
    rule("B-1.3", element_type < 6, || format!("element type {element_type}"))?;
    let method = fields.integer("B-3.1", 1)?;
    rule("B-1.3", method < 4, || format!("method {method}"))?;
    let size = BYTES[usize::from(element_type)];
    let m = fields.integer("B-3.1", 1)? as usize;
    let tables = fields.integer("B-3.1", 1)? as usize;
    let map = fields.integer("B-3.1", 1)?;
    fields.zeros("B-3.1", 2)?;
    let (n, c) = (fields.integer("B-3.1", 8)?, fields.integer("B-3.1", 8)?);
    let block = fields.integer("B-3.1", 4)?;
    let good = match method {
        2 => {
            m < size
                && (1..9 - map as usize / 2).contains(&tables)
                && map < 4
                && block % 64 == 0
                && (4096..=1 << 20).contains(&block)
        }
        _ => m == 0 && tables == 0 && map == 0 && block == 0,
    };
    rule("B-3.1", good && c <= n, || format!("m {m}, K {tables}, map {map}, B {block}, c {c}"))?;
    rule("B-3.2", n.checked_mul(size as u64).is_some(), || format!("{n} elements"))?;
    rule("B-3.2", (c == 0) == (method == 3), || format!("{c} common elements"))?;
    rule("B-1.1", c * size as u64 <= base.len() as u64, || "the base is too short".to_owned())?;
    let base = &base[..c as usize * size];
    let header = |fields: &mut Fields<'_>| {
        let found = crc(0, &delta[..fields.at]);
        let stated = fields.integer("B-3.1", 4)?;
        rule("B-3.1", stated == u64::from(found), || "the header's checksum differs".to_owned())
    };
    let mut new = base.to_vec();
    let is_base = |stated, bytes: &[u8]| {
        rule("B-5.5", stated == u64::from(crc(0, bytes)), || "another base".to_owned())
    };
    match method {
        0 => {
            let stated = fields.integer("B-4.1", 4)?;
            header(&mut fields)?;
            is_base(stated, base)?;
        }
        1 => {
            let (of_base, of_new) = (fields.integer("B-4.2", 4)?, fields.integer("B-4.2", 4)?);
            let entries = fields.integer("B-4.2", 4)?;
            let mut i = 0;
            for _ in 0..entries {
                i += fields.variable()?;
                rule("B-4.2", i < c, || format!("an entry of element {i}"))?;
                new[i as usize * size..][..size].copy_from_slice(fields.bytes("B-4.2", size)?);
                i += 1;
            }
            header(&mut fields)?;
            is_base(of_base, base)?;
            rule("B-4.2", of_new == u64::from(crc(0, &new)), || "another result".to_owned())?;
        }
        2 => new = coded(&mut fields, base, element_type, [m, tables, map as usize, block as usize], header)?,
        _ => header(&mut fields)?,
    }
    if c < n || method == 3 {
        // Byte 10 of a frame is its codec (F-3.1).
        let codec = delta[fields.at..].get(10).copied().unwrap_or(0);
        rule("B-3.2", codec != 3, || format!("a frame of codec {codec}"))?;
        let tensor = frame::decode(&delta[fields.at..])?;
        let fits = tensor.element_type == element_type && tensor.shape == [n - c];
        rule("B-3.2", fits, || format!("a frame of {:?}", tensor.shape))?;
        new.extend(tensor.elements);
    } else {
        rule("B-3.3", fields.at == delta.len(), || "bytes follow".to_owned())?;
    }
    Ok((element_type, new))
}

/// Section 5, after the fields that all methods have.
fn coded(
    fields: &mut Fields<'_>,
    base: &[u8],
    element_type: u8,
    [m, tables, map, block]: [usize; 4],
    header: impl Fn(&mut Fields<'_>) -> Result<(), Violation>,
) -> Result<Vec<u8>, Violation> {
    let size = BYTES[usize::from(element_type)];
    fields.integer("B-5.4", 8)?;
    let thresholds = fields.bytes("B-5.4", tables - 1)?;
    let ascending = [&[0], thresholds].concat().windows(2).all(|pair| pair[0] < pair[1]);
    rule("B-5.4", ascending, || format!("thresholds {thresholds:?}"))?;
    let tables = (0..tables).map(|_| fields.table()).collect::<Result<Vec<_>, _>>()?;
    let of_escapes = if map / 2 == 1 { Some(fields.table()?) } else { None };
    let of_map = match map % 2 {
        1 => {
            let f1 = fields.integer("B-5.4", 2)?;
            rule("B-5.4", (1..2048).contains(&f1), || format!("frequency {f1} of the map"))?;
            let mut f = [0; 256];
            (f[0], f[1]) = (2048 - f1, f1);
            Some(Frequencies { scale_bits: 11, f })
        }
        _ => None,
    };
    let blocks = base.len().div_ceil(block * size);
    let directory = fields.bytes("B-5.4", 28 * blocks)?;
    header(fields)?;
    fields.zeros("B-5.6", fields.at.next_multiple_of(4) - fields.at)?;
    let (tables, map, escapes) = (&tables[..], of_map.as_ref(), of_escapes.as_ref());
    let shared = Shared { element_type, m, thresholds, tables, limits: &[], map, escapes };
    let mut new = Vec::new();
    for (j, (entry, base)) in directory.chunks(28).zip(base.chunks(block * size)).enumerate() {
        let entry: Vec<u64> = entry.chunks(4).map(number).collect();
        let [w, v, e, k] = [0, 1, 2, 3].map(|i| entry[i] as usize);
        let start = fields.at;
        rule("B-5.5", v == 0 || (e > 0 && escapes.is_some()), || format!("{v} words of escapes"))?;
        let len = match escapes.filter(|_| e > 0) {
            Some(_) => 256 + 2 * w + 2 * v + (size - 1) * e + m * k,
            None => 128 + 2 * w + 2 * v + size * e + m * k,
        };
        let bytes = fields.bytes("B-5.6", len)?.to_vec();
        fields.zeros("B-5.6", fields.at.next_multiple_of(4) - fields.at)?;
        let stored = crc(j as u32, &fields.bytes[start..fields.at]);
        rule("B-5.5", entry[4] == u64::from(stored), || format!("the checksum of block {j} differs"))?;
        rule("B-5.5", entry[5] == u64::from(crc(0, base)), || format!("another base in block {j}"))?;
        let base: Vec<u64> = base.chunks(size).map(number).collect();
        let elements = shared.unblock(&base, &Block { w, v, e, k, bytes })?;
        let elements: Vec<u8> =
            elements.iter().flat_map(|element| element.to_le_bytes()[..size].to_vec()).collect();
        rule("B-5.5", entry[6] == u64::from(crc(0, &elements)), || format!("another result in block {j}"))?;
        new.extend(elements);
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements that are near to others, in part.
    fn pair(element_type: u8, n: usize) -> (Vec<u8>, Vec<u8>) {
        let size = BYTES[usize::from(element_type)];
        let mut seed = 1u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        let (mut base, mut new) = (Vec::new(), Vec::new());
        for i in 0..n {
            let b = random() * random() % (1 << (8 * size));
            let far = if random() % 50 == 0 { 100_000 } else { 3 };
            let z = if i / 64 % 3 == 0 { 0 } else { random() % far % (1 << (8 * size)) };
            base.extend(&b.to_le_bytes()[..size]);
            new.extend(&restored(element_type, z, b).to_le_bytes()[..size]);
        }
        (base, new)
    }

    #[test]
    fn what_every_method_encodes_of_every_type_decodes_to_the_same() {
        for element_type in 0..6 {
            let size = BYTES[usize::from(element_type)];
            let (base, new) = pair(element_type, 9000);
            for (method, result) in [
                (Method::Same, &base),
                (Method::List, &new),
                (Method::Coded { m: 0, block: 4096, map: false, escapes: false }, &new),
                (Method::Coded { m: 0, block: 4096, map: true, escapes: true }, &new),
                (Method::Coded { m: size - 1, block: 8192, map: true, escapes: false }, &new),
                (Method::Frame(1), &new),
            ] {
                for common in [9000, 8999, 128] {
                    let delta = encode(element_type, result, &base, common, method).unwrap();
                    assert_eq!(&decode(&delta, &base).unwrap(), &(element_type, result.clone()));
                }
            }
        }
    }

    #[test]
    fn every_number_is_restored_from_its_ordinal_difference() {
        for element_type in [0, 1, 4] {
            for base in [0, 1, 0x7f, 0x80, 0xff, 0x7f80, 0x8000, 0xffff] {
                for new in (0..1u64 << (8 * BYTES[usize::from(element_type)])).step_by(7) {
                    let base = base % (1 << (8 * BYTES[usize::from(element_type)]));
                    assert_eq!(restored(element_type, zigzag(element_type, new, base), base), new);
                }
            }
        }
    }
}
