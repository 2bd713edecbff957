//! Sections 5 and 7 of DELTA.md, as they are written.

#![expect(clippy::expect_used, reason = "what is written has been counted before")]

use super::block::Shared;
use super::{BYTES, MAGIC, Method, exponent, number, zigzag};
use crate::frame::{self, Tensor, crc};
use crate::rans::Frequencies;
use crate::{Violation, rule};

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

/// B-4.2: how far each place is from that before, and its element.
fn put_list(out: &mut Vec<u8>, changed: &[usize], new: &[u8], size: usize) {
    let mut before = 0;
    for &i in changed {
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

/// How often each symbol follows each exponent of the base, and how many chunks are the same (0)
/// and not (1).
fn counts(
    element_type: u8,
    m: usize,
    block: usize,
    map: bool,
    b: &[u64],
    r: &[u64],
) -> (Box<[[u64; 256]; 256]>, [u64; 256]) {
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
    (counts, chunks)
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
            put_list(&mut out, &changed, new, size);
        }
        Method::Coded { m, block, map, escapes } => {
            let (counts, chunks) = counts(element_type, m, block, map, &b, &r);
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
