//! Section 5 of DELTA.md: a block, both ways.

#![expect(clippy::expect_used, reason = "what is written has been counted before")]

use super::{BYTES, START, exponent, number, restored, zigzag};
use crate::frame;
use crate::rans::{self, Frequencies};
use crate::{Violation, rule};

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
pub(super) struct Block {
    pub(super) w: usize,
    pub(super) v: usize,
    pub(super) e: usize,
    pub(super) k: usize,
    pub(super) bytes: Vec<u8>,
}

/// What all blocks of a delta share.
pub(super) struct Shared<'a> {
    pub(super) element_type: u8,
    pub(super) m: usize,
    pub(super) thresholds: &'a [u8],
    pub(super) tables: &'a [Frequencies],
    /// From which symbol on a writer makes elements escapes, by table.
    pub(super) limits: &'a [u8],
    pub(super) map: Option<&'a Frequencies>,
    pub(super) escapes: Option<&'a Frequencies>,
}

impl Shared<'_> {
    pub(super) fn context(&self, base: u64) -> usize {
        let x = exponent(self.element_type, base);
        self.thresholds.iter().filter(|t| usize::from(**t) <= x).count()
    }

    pub(super) fn table(&self, base: u64) -> &Frequencies {
        &self.tables[self.context(base)]
    }

    /// B-5.6 to B-5.8
    pub(super) fn block(&self, base: &[u64], new: &[u64]) -> Result<Block, Violation> {
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
    pub(super) fn unblock(&self, base: &[u64], block: &Block) -> Result<Vec<u64>, Violation> {
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
            let low = (0..self.m).rev().fold(0, |low, p| low << 8 | u64::from(planes[p * block.k + at]));
            new[i] = match s {
                255 => escapes.next().expect("they were counted"),
                s => restored(self.element_type, u64::from(s) << (8 * self.m) | low, base[i]),
            };
        }
        Ok(new)
    }
}
