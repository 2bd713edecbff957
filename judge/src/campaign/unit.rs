//! Units that are made up: sound ones of many kinds, and ones with one or two rules bent.

use df11::Parts;
use df11_reference::Unit;
use fastrand::Rng;
use safetensors::tensor::Dtype;

use crate::vectors::UNIT_TYPES;

/// Bits of a block.
const BLOCK: usize = 32_768;

/// The most tables a unit has.
const MOST_TABLES: usize = 17;

/// A recipe for a unit: what is in it, and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnitCase {
    /// Exponents and the lengths of their codewords; the lengths make a prefix code.
    lengths: Vec<(u8, u8)>,
    /// Codewords are the canonical ones with these bits, from the first on, changed.
    mask: u32,
    /// What unreached entries of tables hold: one of the exponents.
    filler: usize,
    /// The weights.
    pub(super) weights: Vec<u16>,
    /// Where tensors end.
    splits: Vec<usize>,
    /// Bits after the last codeword, first bit first.
    tail: u8,
    /// Whole bytes after them.
    extra: Vec<u8>,
    /// The gap of a window where a codeword ends and none begins is where it ends, not 0.
    ends: bool,
    /// What is done to it then, in this order.
    pub(super) bends: Vec<Bend>,
}

/// Something done to a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bend {
    /// A bit of a part is changed.
    Flip { part: usize, at: usize },
    /// A byte of a part is set.
    Set { part: usize, at: usize, to: u8 },
    /// A part loses bytes at its end.
    Cut { part: usize, by: usize },
    /// A part gets bytes at its end.
    Grow { part: usize, by: usize, with: u8 },
    /// An output position is changed.
    Position { at: usize, by: i32 },
    /// The last block is said to hold nothing.
    NothingLast,
    /// Two output positions change places.
    Swap { at: usize },
    /// The last output position is left out.
    Short,
    /// A gap is set; with `used`, one of a window that is there.
    Gap { at: usize, to: u8, used: bool },
    /// A code length in the table is set.
    Length { symbol: usize, to: u8 },
    /// An entry of a table is set.
    Entry { table: usize, at: usize, to: u8 },
    /// The first table is put in again, until there are this many.
    Rows { to: usize },
    /// One element is added to, or taken from, both arrays that tell their number.
    Elements { more: bool },
    /// A split position is written.
    Split { at: usize, to: i64 },
    /// A part is said to be of another type.
    Type { part: usize },
}

/// A codeword, its first bit the highest.
#[derive(Clone, Copy)]
struct Codeword {
    symbol: u8,
    bits: u32,
    len: u32,
}

/// Whether two codewords agree in the first bits.
fn agree(a: u32, b: u32, bits: u32) -> bool {
    bits == 0 || (a ^ b) >> (32 - bits) == 0
}

/// A complete code of this many words: a leaf is split again and again, often the deepest.
fn lengths(rng: &mut Rng, words: usize) -> Vec<u8> {
    let (deep, most) = (rng.u8(0..=10), rng.u8(8..=32));
    let mut leaves = vec![0u8];
    while leaves.len() < words.max(2) {
        let deepest = |leaves: &[u8]| (0..leaves.len()).max_by_key(|at| leaves[*at]).unwrap_or(0);
        let any = rng.usize(..leaves.len());
        let mut at = if rng.u8(0..10) < deep { deepest(&leaves) } else { any };
        if leaves[at] >= most {
            at = (0..leaves.len()).min_by_key(|at| leaves[*at]).unwrap_or(0);
        }
        leaves[at] += 1;
        leaves.push(leaves[at]);
    }
    leaves.sort_unstable();
    leaves.truncate(words);
    leaves
}

impl UnitCase {
    /// Makes up a unit.
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut case = UnitCase::sound(rng);
        for _ in 0..[0, 1, 1, 1, 1, 2][rng.usize(..6)] {
            let bend = Bend::new(rng, &case);
            case.bends.push(bend);
        }
        case
    }

    fn sound(rng: &mut Rng) -> Self {
        loop {
            let words = match rng.u8(0..10) {
                0 => 1,
                1..4 => rng.usize(2..=4),
                4..8 => rng.usize(5..=40),
                _ => rng.usize(41..=240),
            };
            let first = rng.u8(..);
            let step = [1, 1, 1, 7, 113][rng.usize(..5)];
            let mut symbols: Vec<u8> =
                (0..240u32).map(|i| ((u32::from(first) + i * step) % 240) as u8).collect();
            symbols.truncate(words);
            rng.shuffle(&mut symbols);
            let lengths: Vec<(u8, u8)> = symbols.into_iter().zip(lengths(rng, words)).collect();
            let mut case = UnitCase {
                lengths,
                mask: if rng.bool() { 0 } else { rng.u32(..) },
                filler: rng.usize(..),
                weights: Vec::new(),
                splits: Vec::new(),
                tail: if rng.u8(..4) == 0 { rng.u8(..) } else { 0 },
                extra: if rng.u8(..16) == 0 { vec![rng.u8(..); rng.usize(1..=9)] } else { Vec::new() },
                ends: rng.bool(),
                bends: Vec::new(),
            };
            if case.tables().len() <= MOST_TABLES {
                case.fill(rng);
                return case;
            }
        }
    }

    /// Makes up the weights, and where tensors end.
    fn fill(&mut self, rng: &mut Rng) {
        let n = match rng.u8(0..20) {
            0..10 => rng.usize(1..=70),
            10..18 => rng.usize(71..=1500),
            // Two or three blocks, at most this many weights.
            _ => 40_000,
        };
        let beyond = [2000, 2000, BLOCK + 2000][rng.usize(..3)];
        let most = if n == 40_000 { BLOCK + rng.usize(1..=beyond) } else { usize::MAX };
        let (even, mut bits) = (rng.bool(), 0);
        let signs = if rng.u8(..8) == 0 { 0x8000 } else { 0x807f };
        while self.weights.len() < n && bits < most {
            // As often as the code expects, or all alike.
            let mut at = 0;
            if even {
                at = rng.usize(..self.lengths.len());
            } else {
                while at + 1 < self.lengths.len() && rng.u8(..8) > 2 {
                    at += 1;
                }
            }
            let (symbol, len) = self.lengths[at];
            bits += usize::from(len);
            self.weights.push(u16::from(symbol) << 7 | rng.u16(..) & signs);
        }
        // The end at a place where things end.
        let whole = [1, 1, 8, 64, BLOCK][rng.usize(..5)];
        let mut sum = 0;
        let ends: Vec<usize> = (1..)
            .zip(&self.weights)
            .filter_map(|(count, weight)| {
                sum += self.length(*weight);
                sum.is_multiple_of(whole).then_some(count)
            })
            .collect();
        self.weights.truncate(ends.last().copied().unwrap_or(usize::MAX));
        let n = self.weights.len();
        self.splits = (0..[0, 0, 1, 2, 5][rng.usize(..5)]).map(|_| rng.usize(..=n)).collect();
        self.splits.sort_unstable();
    }

    fn length(&self, weight: u16) -> usize {
        let exponent = (weight >> 7) as u8;
        self.lengths.iter().find(|(symbol, _)| *symbol == exponent).map_or(0, |(_, len)| usize::from(*len))
    }

    fn code(&self) -> Vec<Codeword> {
        let mut next = 0u64;
        let mut of = self.lengths.clone();
        of.sort_by_key(|(_, len)| *len);
        of.into_iter()
            .map(|(symbol, len)| {
                let len = u32::from(len);
                let mask = self.mask & !(u32::MAX.checked_shr(len).unwrap_or(0));
                let bits = next as u32 ^ mask;
                next += 1 << (32 - len);
                Codeword { symbol, bits, len }
            })
            .collect()
    }

    /// The prefixes that have a table, each with its number of bytes; the empty one first.
    fn tables(&self) -> Vec<(u32, u32)> {
        let mut tables = vec![(0, 0)];
        for codeword in self.code() {
            for depth in 1..codeword.len.div_ceil(8) {
                let prefix = codeword.bits & !(u32::MAX >> (8 * depth));
                if !tables.contains(&(prefix, depth)) {
                    tables.push((prefix, depth));
                }
            }
        }
        tables.sort_by_key(|(_, depth)| *depth);
        tables
    }

    fn luts(&self) -> Vec<u8> {
        let (code, tables) = (self.code(), self.tables());
        let filler = self.lengths[self.filler % self.lengths.len()].0;
        let mut luts = Vec::with_capacity(256 * (tables.len() + 1));
        for (prefix, depth) in &tables {
            let end = 8 * (depth + 1);
            for entry in 0..256u32 {
                let bits = prefix | entry << (32 - end);
                let found = code.iter().find(|word| agree(word.bits, bits, word.len.min(end)));
                luts.push(match found {
                    Some(word) if word.len <= end => word.symbol,
                    Some(_) => {
                        let to = tables.iter().position(|table| *table == (bits, depth + 1));
                        (256 - to.unwrap_or(0)) as u8
                    }
                    None => filler,
                });
            }
        }
        let mut row = [0; 256];
        for (symbol, len) in &self.lengths {
            row[usize::from(*symbol)] = *len;
        }
        luts.extend(row);
        luts
    }

    /// The unit, as the recipe says, and the type of each part.
    pub(super) fn build(&self) -> (Parts<Vec<u8>>, [Dtype; 6]) {
        let code = self.code();
        let (mut bits, mut at) = (Vec::new(), 0);
        let (mut gaps, mut positions) = (Vec::<u8>::new(), Vec::<u32>::new());
        for (element, weight) in (0u32..).zip(&self.weights) {
            let Some(word) = code.iter().find(|word| word.symbol == (weight >> 7) as u8) else { continue };
            while gaps.len() <= at / 64 {
                gaps.push((at % 64) as u8);
            }
            while positions.len() <= at / BLOCK {
                positions.push(element);
            }
            put(&mut bits, at, word.bits, word.len);
            at += word.len as usize;
        }
        let whole = at.next_multiple_of(8);
        put(&mut bits, at, u32::from(self.tail) << 24, (whole - at) as u32);
        bits.resize(whole / 8, 0);
        bits.extend(&self.extra);
        if self.ends && whole > at && gaps.len() <= at / 64 {
            gaps.push((at % 64) as u8);
        }
        let blocks = bits.len().div_ceil(BLOCK / 8);
        positions.resize(blocks + 1, self.weights.len() as u32);
        gaps.resize(512 * blocks, 0);
        let mut packed = vec![0; 320 * blocks];
        for (window, gap) in gaps.iter().enumerate() {
            put_gap(&mut packed, window, *gap);
        }
        let mut parts = Parts {
            luts: self.luts(),
            encoded_exponent: bits,
            sign_mantissa: self.weights.iter().map(|w| (w >> 8 & 0x80 | w & 0x7f) as u8).collect(),
            output_positions: positions.iter().flat_map(|position| position.to_le_bytes()).collect(),
            gaps: packed,
            split_positions: self.splits.iter().flat_map(|split| (*split as i64).to_le_bytes()).collect(),
        };
        let mut types = UNIT_TYPES;
        for bend in &self.bends {
            bend.apply(&mut parts, &mut types);
        }
        (parts, types)
    }

    /// Recipes for smaller units, the smallest first.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut case = self.clone();
            change(&mut case);
            case.splits.iter_mut().for_each(|split| *split = (*split).min(case.weights.len()));
            if !case.weights.is_empty() && case != *self {
                all.push(case);
            }
        };
        let n = self.weights.len();
        for part in [2, 4, 16] {
            let len = n / part;
            with(&|case| case.weights.truncate(len));
            with(&|case| drop(case.weights.drain(..n - len)));
            with(&|case| case.weights.truncate(n - len));
            with(&|case| drop(case.weights.drain(..len)));
        }
        with(&|case| case.weights.truncate(n - 1));
        for at in 0..self.bends.len() {
            with(&|case| {
                case.bends.remove(at);
            });
        }
        with(&|case| case.splits.clear());
        with(&|case| case.extra.clear());
        with(&|case| case.extra.truncate(1));
        with(&|case| case.tail = 0);
        with(&|case| case.mask = 0);
        with(&|case| case.ends = false);
        with(&|case| case.weights.iter_mut().for_each(|weight| *weight &= 0x7f80));
        all
    }
}

/// Writes bits, the first of which is the highest, after `at` bits.
fn put(to: &mut Vec<u8>, at: usize, bits: u32, len: u32) {
    for i in 0..len as usize {
        if (at + i) / 8 >= to.len() {
            to.push(0);
        }
        to[(at + i) / 8] |= ((bits >> (31 - i) & 1) << (7 - (at + i) % 8)) as u8;
    }
}

/// Sets the gap of a window.
fn put_gap(packed: &mut [u8], window: usize, gap: u8) {
    for i in 0..5 {
        let at = 5 * window + i;
        if let Some(byte) = packed.get_mut(at / 8) {
            *byte = *byte & !(0x80 >> (at % 8)) | (gap >> (4 - i) & 1) << (7 - at % 8);
        }
    }
}

impl Bend {
    fn new(rng: &mut Rng, case: &UnitCase) -> Self {
        let (part, at, to) = (rng.usize(..6), rng.usize(..), rng.u8(..));
        let near = [at, at % 4, usize::MAX - at % 4][rng.usize(..3)];
        match rng.u8(..21) {
            0 => Bend::Flip { part, at },
            1 => Bend::Set { part, at: near, to },
            2 => Bend::Cut { part, by: [1, 4, 8, 256, 320][rng.usize(..5)] },
            3 => Bend::Grow { part, by: [1, 4, 8, 256, 320][rng.usize(..5)], with: [0, to][rng.usize(..2)] },
            4..6 => Bend::Position { at, by: [1, -1, 2, 1000, i32::MAX][rng.usize(..5)] },
            6 => Bend::NothingLast,
            7 => Bend::Swap { at },
            8 => Bend::Short,
            9..12 => Bend::Gap { at, to: to % 32, used: true },
            12 => Bend::Gap { at, to: to % 32, used: false },
            13 | 14 => {
                let symbol = case.lengths[at % case.lengths.len()];
                let other = [0, symbol.1 + 1, symbol.1.saturating_sub(1), 33, symbol.1 ^ 8, symbol.1 + 8];
                let symbol = if rng.u8(..4) == 0 { to } else { symbol.0 };
                Bend::Length { symbol: usize::from(symbol), to: other[rng.usize(..6)] }
            }
            15 | 16 => Bend::Entry {
                table: rng.usize(..),
                at: rng.usize(..256),
                to: [to, 255, 254, 240, 0][rng.usize(..5)],
            },
            17 => Bend::Elements { more: rng.bool() },
            18 => Bend::Rows { to: rng.usize(1..=20) },
            19 => Bend::Split { at, to: [-1, i64::from(to), i64::MIN, i64::MAX, 1 << 32][rng.usize(..5)] },
            _ => Bend::Type { part },
        }
    }

    fn apply(&self, parts: &mut Parts<Vec<u8>>, types: &mut [Dtype; 6]) {
        let mut list = std::mem::take(parts).into_array();
        match *self {
            Bend::Flip { part, at } => {
                let bits = 8 * list[part].len().max(1);
                if let Some(byte) = list[part].get_mut(at % bits / 8) {
                    *byte ^= 1 << (at % 8);
                }
            }
            Bend::Set { part, at, to } => {
                let len = list[part].len().max(1);
                if let Some(byte) = list[part].get_mut(at % len) {
                    *byte = to;
                }
            }
            Bend::Cut { part, by } => {
                let len = list[part].len().saturating_sub(by);
                list[part].truncate(len);
            }
            Bend::Grow { part, by, with } => {
                let len = list[part].len() + by;
                list[part].resize(len, with);
            }
            Bend::Position { .. } | Bend::NothingLast | Bend::Swap { .. } | Bend::Short => {
                let n = list[2].len() as u32;
                let mut all: Vec<u32> =
                    list[3].as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
                self.positions(&mut all, n);
                list[3] = all.into_iter().flat_map(u32::to_le_bytes).collect();
            }
            Bend::Gap { at, to, used } => {
                let windows = list[1].len().div_ceil(8).max(1);
                let rest = (512 - windows % 512) % 512;
                let window = if used { at % windows } else { windows + at % rest.max(1) };
                put_gap(&mut list[4], window, to);
            }
            Bend::Length { symbol, to } => {
                let row = list[0].len().saturating_sub(256);
                if let Some(length) = list[0].get_mut(row + symbol) {
                    *length = to;
                }
            }
            Bend::Entry { table, at, to } => {
                let tables = (list[0].len() / 256).saturating_sub(1).max(1);
                if let Some(entry) = list[0].get_mut(256 * (table % tables) + at) {
                    *entry = to;
                }
            }
            Bend::Rows { to } => {
                while list[0].len() >= 512 && list[0].len() / 256 <= to {
                    let (end, first) = (list[0].len() - 256, list[0][..256].to_vec());
                    list[0].splice(end..end, first);
                }
            }
            Bend::Elements { more } => {
                let n = if more { list[2].len() + 1 } else { list[2].len().saturating_sub(1) };
                let old = (list[2].len() as u32).to_le_bytes();
                list[2].resize(n, 0x80);
                for position in list[3].as_chunks_mut::<4>().0.iter_mut().filter(|p| **p == old) {
                    *position = (n as u32).to_le_bytes();
                }
            }
            Bend::Split { at, to } => {
                let splits = list[5].len() / 8;
                let at = 8 * (at % (splits + 1));
                list[5].splice(at..at, to.to_le_bytes());
            }
            Bend::Type { part } => {
                types[part] = if part == 5 { Dtype::F64 } else { Dtype::I8 };
            }
        }
        *parts = Parts::from_array(list);
    }

    fn positions(&self, all: &mut Vec<u32>, n: u32) {
        let len = all.len();
        match *self {
            Bend::Position { at, by } if len > 0 => all[at % len] = all[at % len].wrapping_add_signed(by),
            Bend::NothingLast if len > 2 => all[len - 2] = n,
            Bend::Swap { at } if len > 1 => all.swap(at % (len - 1), at % (len - 1) + 1),
            Bend::Short => drop(all.pop()),
            _ => {}
        }
    }
}

/// The parts as the reference takes them.
pub(super) fn reference(parts: &Parts<Vec<u8>>) -> Unit {
    let [luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions] =
        parts.clone().into_array();
    Unit { luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions }
}
