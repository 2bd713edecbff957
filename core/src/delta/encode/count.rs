//! The first pass over both tensors: what there is to code.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::Pair;
use crate::delta::element::{Kind, Word, differ, escapes, split};
use crate::delta::groups::Counts;
use crate::delta::{CHUNK, ESCAPE};
use crate::frame::Digest;
use crate::hazmat::frame::crc;

/// Of the chunks that are equal, one in this many is looked at for their exponents, until it is
/// known whether these are needed.
const SAMPLED: u64 = 16;

/// The greatest number of elements counted before the counts, of 32 bits, are added up.
const COUNTED: usize = 1 << 30;

/// Elements of a *piece*, whose checksums the first pass takes, since it reads all.
const PIECE: usize = 1 << 16;

/// Chunks that are looked at while they are in the nearest cache.
const NEAR: usize = 64;

const _: () = assert!(NEAR <= 64 && PIECE.is_multiple_of(NEAR * CHUNK));

/// Entries of a table: an exponent and a symbol.
const KEYS: usize = 1 << 16;

/// What the first pass found out.
pub(super) struct Scan {
    /// Symbols of all elements of chunks that differ.
    pub(super) counts: Counts,
    /// The exponents of the elements of chunks that are equal, estimated.
    pub(super) equal: Box<[u64; 256]>,
    /// How many chunks are equal, and how many are not.
    pub(super) chunks: [u64; 2],
    pub(super) changed: u64,
    /// Coded bytes of escapes.
    pub(super) escapes: Box<[u64; 256]>,
    /// Which chunks differ.
    pub(super) differing: Differing,
    /// The checksums of the pieces of the base and of the result.
    pieces: Vec<[u32; 2]>,
}

/// A bit for each chunk: whether it differs from the base's.
#[derive(Default)]
pub(super) struct Differing(Vec<u64>);

impl Differing {
    #[inline(always)]
    pub(super) fn has(&self, chunk: usize) -> bool {
        self.0.get(chunk / 64).is_some_and(|bits| bits >> (chunk % 64) & 1 == 1)
    }
}

impl Scan {
    /// The checksums of some elements of the base and of the result.
    pub(super) fn checksums(&self, pair: &Pair<'_>, range: Range<usize>) -> [u32; 2] {
        let size = pair.element_type.bytes();
        let of = |which: usize, elements: &[u8]| {
            let pieces = self.pieces.get(range.start / PIECE..range.end.div_ceil(PIECE));
            let ends_whole = range.end.is_multiple_of(PIECE) || range.end * size == elements.len();
            let (Some(pieces), true, true) = (pieces, range.start.is_multiple_of(PIECE), ends_whole) else {
                return crc(0, &elements[range.start * size..range.end * size]);
            };
            let mut digest = Digest::default();
            for (piece, start) in pieces.iter().zip(range.clone().step_by(PIECE)) {
                digest.append(piece[which], (range.end - start).min(PIECE) * size);
            }
            digest.finish()
        };
        [of(0, pair.base), of(1, pair.new)]
    }
}

/// Parts of the base and of the result, of this many chunks.
#[inline(always)]
fn parts<'a, W: Word>(
    pair: &Pair<'a>,
    chunks: usize,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a, W> {
    let size = chunks * CHUNK * W::BYTES;
    pair.base.chunks(size).zip(pair.new.chunks(size))
}

/// Counts symbols by exponent. Two tables take turns, so that equal neighbours do not wait for each
/// other.
struct Tables {
    even: Box<[u32; KEYS]>,
    odd: Box<[u32; KEYS]>,
    /// The least and the greatest exponent, of each place in a chunk.
    least: [u8; CHUNK],
    greatest: [u8; CHUNK],
}

impl Tables {
    fn new() -> Self {
        let zeros = || -> Box<[u32; KEYS]> {
            vec![0; KEYS].into_boxed_slice().try_into().unwrap_or_else(|_| Box::new([0; KEYS]))
        };
        Tables { even: zeros(), odd: zeros(), least: [u8::MAX; CHUNK], greatest: [0; CHUNK] }
    }

    #[inline(always)]
    fn count(&mut self, exponents: &[u8; CHUNK], symbols: &[u8; CHUNK], len: usize) {
        let mut keys = [0; CHUNK];
        for i in 0..CHUNK {
            keys[i] = u16::from(exponents[i]) << 8 | u16::from(symbols[i]);
            self.least[i] = self.least[i].min(exponents[i]);
            self.greatest[i] = self.greatest[i].max(exponents[i]);
        }
        if len < CHUNK {
            for key in &keys[..len] {
                self.even[usize::from(*key)] += 1;
            }
            return;
        }
        for [even, odd] in keys.as_chunks().0 {
            self.even[usize::from(*even)] += 1;
            self.odd[usize::from(*odd)] += 1;
        }
    }

    /// Adds the counts up, and begins again with none.
    fn add_to(&mut self, counts: &mut Counts) {
        let [least, greatest] = [self.least.iter().min(), self.greatest.iter().max()];
        for exponent in least.copied().unwrap_or(0)..=greatest.copied().unwrap_or(0) {
            let row = usize::from(exponent) << 8..(usize::from(exponent) + 1) << 8;
            let (even, odd) = (&mut self.even[row.clone()], &mut self.odd[row]);
            if even.iter().chain(&*odd).all(|count| *count == 0) {
                continue;
            }
            let sums = counts.row(exponent).iter_mut().zip(even.iter().zip(&*odd));
            sums.for_each(|(sum, (even, odd))| *sum += u64::from(*even) + u64::from(*odd));
            even.fill(0);
            odd.fill(0);
        }
        (self.least, self.greatest) = ([u8::MAX; CHUNK], [0; CHUNK]);
    }
}

/// Looks at all chunks of a pair. `low` is the number of bytes of an element's low part.
#[inline(always)]
pub(super) fn scan<W: Word>(pair: &Pair<'_>, low: usize) -> Scan {
    let mut scan = Scan {
        counts: Counts::default(),
        equal: Box::new([0; 256]),
        chunks: [0; 2],
        changed: 0,
        escapes: Box::new([0; 256]),
        differing: Differing::default(),
        pieces: Vec::new(),
    };
    let (mut tables, mut counted) = (Tables::new(), 0);
    for (i, (base, new)) in parts::<W>(pair, NEAR).enumerate() {
        if i.is_multiple_of(PIECE / CHUNK / NEAR) {
            scan.pieces.push([0; 2]);
        }
        if let Some([of_base, of_new]) = scan.pieces.last_mut() {
            (*of_base, *of_new) = (crc(*of_base, base), crc(*of_new, new));
        }
        let mut differing = 0;
        let mut changed = [0; CHUNK];
        let size = CHUNK * W::BYTES;
        for (bit, (base, new)) in base.chunks(size).zip(new.chunks(size)).enumerate() {
            let differs = scan.chunk::<W>(pair, low, &mut tables, &mut changed, base, new);
            differing |= u64::from(differs) << bit;
        }
        scan.changed += changed.iter().map(|changed| u64::from(*changed)).sum::<u64>();
        scan.differing.0.push(differing);
        counted += CHUNK * NEAR;
        if counted >= COUNTED {
            tables.add_to(&mut scan.counts);
            counted = 0;
        }
    }
    tables.add_to(&mut scan.counts);
    scan
}

impl Scan {
    /// Looks at a chunk; tells whether it differs. Adds one to `changed` at each place of an
    /// element that does.
    #[inline(always)]
    fn chunk<W: Word>(
        &mut self,
        pair: &Pair<'_>,
        low: usize,
        tables: &mut Tables,
        changed: &mut [u8; CHUNK],
        base: &[u8],
        new: &[u8],
    ) -> bool {
        let kind = Kind::of(pair.element_type);
        let len = base.len() / W::BYTES;
        let (b, n) = (W::chunk(base), W::chunk(new));
        let differs = differ(&b, &n);
        self.chunks[usize::from(differs)] += 1;
        if !differs {
            if self.chunks[0] % SAMPLED == 1 {
                b[..len].iter().for_each(|base| self.equal[usize::from(kind.exponent(*base))] += SAMPLED);
            }
            return false;
        }
        let (mut exponents, mut symbols) = ([0; CHUNK], [0; CHUNK]);
        for i in 0..CHUNK {
            let z = kind.difference(n[i], b[i]);
            exponents[i] = kind.exponent(b[i]);
            symbols[i] = z.symbol(low);
            changed[i] += u8::from(z != W::default());
        }
        let mut escapes = escapes(&symbols, len);
        while escapes != 0 {
            let (coded, _) = split(pair.element_type, n[escapes.trailing_zeros() as usize].wide());
            self.escapes[usize::from(coded)] += 1;
            escapes &= escapes - 1;
        }
        tables.count(&exponents, &symbols, len);
        true
    }
}

/// Counts the exponents of the elements of all chunks that are equal.
#[inline(always)]
pub(super) fn equal<W: Word>(pair: &Pair<'_>, differing: &Differing) -> [u64; 256] {
    let kind = Kind::of(pair.element_type);
    let mut counts = [[0u64; 256]; 4];
    let chunks = pair.base.chunks(CHUNK * W::BYTES).enumerate();
    for (_, base) in chunks.filter(|(chunk, _)| !differing.has(*chunk)) {
        let b = W::chunk(base);
        let mut exponents = [0; CHUNK];
        for i in 0..CHUNK {
            exponents[i] = kind.exponent(b[i]);
        }
        for four in exponents[..base.len() / W::BYTES].chunks(4) {
            four.iter().zip(&mut counts).for_each(|(exponent, counts)| counts[usize::from(*exponent)] += 1);
        }
    }
    core::array::from_fn(|exponent| counts.iter().map(|counts| counts[exponent]).sum())
}

/// Finds how many bytes of a low part make a delta shortest, by the counts of symbols alone.
pub(super) fn low_part<W: Word>(pair: &Pair<'_>) -> usize {
    let kind = Kind::of(pair.element_type);
    let mut counts = [[0u64; 256]; 4];
    // One chunk of 16 tells.
    for (base, new) in parts::<W>(pair, 1).step_by(16).filter(|(base, new)| base != new) {
        let (b, n) = (W::chunk(base), W::chunk(new));
        for i in 0..base.len() / W::BYTES {
            let z = kind.difference(n[i], b[i]).wide();
            for (low, counts) in counts.iter_mut().enumerate().take(W::BYTES) {
                counts[(z >> (8 * low)).min(u32::from(ESCAPE)) as usize] += 1;
            }
        }
    }
    let cost = |low: usize| {
        let all: u64 = counts[low].iter().sum();
        let escapes = counts[low][usize::from(ESCAPE)];
        let bits = 8 * (u128::from(all) * low as u128 + u128::from(escapes) * W::BYTES as u128);
        crate::delta::groups::cost(counts[low].iter().copied()) + ((bits as i128) << 12)
    };
    (0..W::BYTES).min_by_key(|low| cost(*low)).unwrap_or(0)
}
