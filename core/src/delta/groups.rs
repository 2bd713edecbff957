//! Tables for counts of symbols by exponent: which exponents share one (B-7.2).

use alloc::boxed::Box;
use alloc::vec::Vec;

use df11_simd::delta::SCALE_BITS;

use super::SUM;
use crate::Error;
use crate::rans::Frequencies;

/// Numbers whose logarithm is in a table.
const LOGARITHMS: usize = 512;

/// `lg` of numbers below 512 (B-7.2), in units of 1 / 4,096 bit; of 0 no particular one.
const LG: [u32; LOGARITHMS] = {
    let mut table = [0; LOGARITHMS];
    let mut v = 1;
    while v < LOGARITHMS {
        let i = v.ilog2();
        let (mut y, mut r) = ((v as u64) << (31 - i), i);
        let mut bit = 0;
        while bit < 12 {
            y = (y * y) >> 31;
            r *= 2;
            if y >= 1 << 32 {
                y /= 2;
                r += 1;
            }
            bit += 1;
        }
        table[v] = r;
        v += 1;
    }
    table
};

/// The logarithm of a number from 1 on (B-7.2).
pub(super) fn lg(v: u64) -> u64 {
    let h = (u64::BITS - v.leading_zeros()).saturating_sub(LOGARITHMS.ilog2());
    u64::from(LG[(v >> h) as usize % LOGARITHMS]) + (u64::from(h) << 12)
}

/// How often each symbol is coded, for each exponent that the base has there, in their order.
#[derive(Clone, Default)]
pub(super) struct Counts(Vec<(u8, Box<[u64; 256]>)>);

impl Counts {
    /// The counts of an exponent.
    pub(super) fn row(&mut self, exponent: u8) -> &mut [u64; 256] {
        let at = self.0.binary_search_by_key(&exponent, |(exponent, _)| *exponent);
        let at = at.unwrap_or_else(|at| {
            self.0.insert(at, (exponent, Box::new([0; 256])));
            at
        });
        &mut self.0[at].1
    }

    /// Counts symbol 0 this often, by exponent.
    pub(super) fn add_zeros(&mut self, by_exponent: &[u64; 256]) {
        for (exponent, count) in (0..=u8::MAX).zip(by_exponent).filter(|(_, count)| **count > 0) {
            self.row(exponent)[0] += count;
        }
    }
}

/// Neighbouring exponents that share a table.
struct Group {
    /// The least exponent.
    first: u8,
    counts: Box<[u64; 256]>,
    /// One more than the greatest symbol that occurs.
    end: usize,
    cost: i128,
    /// What a union with the next group costs more than both.
    union: i128,
}

/// Tables, and where each begins.
pub(super) struct Groups {
    pub(super) thresholds: Vec<u8>,
    pub(super) tables: Vec<Frequencies>,
    /// From which symbol on elements are escapes, by table; 255 if only those that must be.
    pub(super) limits: Vec<u8>,
    /// How many elements become escapes by that.
    pub(super) rare: u64,
    /// What the symbols take with them, and the tables, in units of 1 / 4,096 bit.
    pub(super) cost: i128,
}

/// The cost of a group (B-7.2, 1), whose counts may be the sum of two.
pub(super) fn cost(counts: impl Iterator<Item = u64> + Clone) -> i128 {
    let n: u64 = counts.clone().sum();
    let (mut sum, mut coded, mut symbols) = (0, 0, 0);
    for count in counts.filter(|count| *count > 0) {
        let f = match count.checked_mul(u64::from(SUM)) {
            Some(product) => product / n,
            None => (u128::from(count) * u128::from(SUM) / u128::from(n)) as u64,
        };
        let f = f.max(1);
        sum += f;
        coded += i128::from(count) * i128::from(lg(f));
        symbols += 1;
    }
    i128::from(n) * i128::from(lg(sum.max(1))) - coded + 40_960 * symbols + 65_536
}

impl Group {
    /// Makes escapes of the elements of rare symbols (B-7.2, 3); returns from which symbol on, and
    /// how many.
    fn limit(&mut self, size: usize) -> (u8, u64) {
        let n: u128 = self.counts.iter().map(|count| u128::from(*count)).sum();
        let is_rare = |count: u64| 11_360 * size as u128 * u128::from(count) < n;
        let first = self.counts[..255].iter().rposition(|count| !is_rare(*count)).map_or(0, |s| s + 1);
        let (rare, rest) = self.counts[first..].split_at_mut(255 - first);
        if rest[0] == 0 && rare.iter().filter(|count| **count > 0).count() < 2 {
            return (255, 0);
        }
        let moved: u64 = rare.iter().sum();
        rest[0] += moved;
        rare.fill(0);
        (first as u8, moved)
    }

    fn union_with(&self, next: &Group) -> i128 {
        let end = self.end.max(next.end);
        let both = self.counts[..end].iter().zip(&next.counts[..end]).map(|(a, b)| a + b);
        cost(both) - self.cost - next.cost
    }
}

/// Makes at most this many tables of counts, of which at least one is not 0, for elements of `size`
/// bytes (B-7.2); 0 where no escapes are made of rare symbols.
pub(super) fn groups(counts: &Counts, most: usize, size: usize) -> Result<Groups, Error> {
    let mut groups: Vec<Group> = Vec::new();
    for (first, counts) in &counts.0 {
        if let Some(last) = counts.iter().rposition(|count| *count > 0) {
            let cost = cost(counts[..=last].iter().copied());
            groups.push(Group { first: *first, counts: counts.clone(), end: last + 1, cost, union: 0 });
        }
    }
    for i in 1..groups.len() {
        groups[i - 1].union = groups[i - 1].union_with(&groups[i]);
    }
    while groups.len() > 1 {
        let pairs = groups.split_last().map_or(&[][..], |(_, pairs)| pairs);
        let best = pairs.iter().enumerate().min_by_key(|(_, group)| group.union);
        let Some((best, union)) = best.map(|(i, group)| (i, group.union)) else { break };
        if union > 0 && groups.len() <= most {
            break;
        }
        let next = groups.remove(best + 1);
        let group = &mut groups[best];
        group.counts.iter_mut().zip(next.counts.iter()).for_each(|(a, b)| *a += b);
        group.cost += next.cost + union;
        group.end = group.end.max(next.end);
        if best + 1 < groups.len() {
            groups[best].union = groups[best].union_with(&groups[best + 1]);
        }
        if best > 0 {
            groups[best - 1].union = groups[best - 1].union_with(&groups[best]);
        }
    }
    let (mut limits, mut rare) = (Vec::new(), 0);
    for group in &mut groups {
        let (limit, moved) = if size == 0 { (255, 0) } else { group.limit(size) };
        limits.push(limit);
        rare += moved;
    }
    Ok(Groups {
        limits,
        rare,
        thresholds: groups.iter().skip(1).map(|group| group.first).collect(),
        cost: groups.iter().map(|group| group.cost).sum(),
        tables: groups
            .iter()
            .map(|group| Frequencies::normalise(&group.counts, SCALE_BITS as u8))
            .collect::<Result<_, _>>()?,
    })
}
