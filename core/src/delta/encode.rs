//! Making deltas.
//!
//! Two passes over both tensors: one counts, one codes. What each method would take is estimated
//! from the counts; where two are close, both are made, and the shorter one is kept.

mod writer;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use df11_simd::delta::{SCALE_BITS, TABLES};
use df11_simd::{Operation, Simd};

use super::element::{Kind, Word, split};
use super::groups::{Counts, groups};
use super::{CHUNK, ENTRY, ESCAPE, LONGEST_BLOCK, MAGIC, Method, VERSION};
use crate::frame::{self, ElementType};
use crate::hazmat::frame::crc;
use crate::rans::{Frequencies, STATES_BYTES};
use crate::{Error, Level};
use writer::{Writer, lg_of, put_table};

/// Where every state starts (R-3.2).
const START_STATE: u32 = df11_simd::rans::START_STATE;

/// Chunks that are coded at a time.
const BATCH: usize = 32;

/// Room for words that vectors store beyond the last.
const SLACK: usize = 64;

/// A list is tried where it has at most this many entries: of more, coding is always shorter.
const LISTED: u64 = 2048;

/// How a delta is made. By default, everything is chosen for the shortest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    method: Option<Method>,
    block: Option<usize>,
    map: Option<bool>,
    escapes: Option<bool>,
    raw: Option<usize>,
    level: Option<Level>,
}

/// Makes a delta of elements against those of a base, of which the first as many as there are in
/// both count; the shortest that there is.
///
/// # Errors
///
/// [`Error::BufferLength`] if a tensor has a part of an element.
///
/// ```
/// use df11::{delta::{self, Delta, Method}, frame::ElementType};
///
/// let base = [0; 2048];
/// assert_eq!(Delta::new(&delta::encode(ElementType::F16, &base, &base)?)?.method(), Method::Same);
/// // Two rows more.
/// let grown = [[0; 2048].as_slice(), &[1; 64]].concat();
/// let bytes = delta::encode(ElementType::F16, &grown, &base)?;
/// assert_eq!(Delta::new(&bytes)?.common(), 1024);
/// assert_eq!(Delta::new(&bytes)?.apply(&base)?, grown);
/// # Ok::<(), df11::Error>(())
/// ```
pub fn encode(element_type: ElementType, new: &[u8], base: &[u8]) -> Result<Vec<u8>, Error> {
    EncodeOptions::new().encode(element_type, new, base)
}

impl EncodeOptions {
    /// Chooses everything for the shortest delta.
    #[must_use]
    pub const fn new() -> Self {
        EncodeOptions { method: None, block: None, map: None, escapes: None, raw: None, level: None }
    }

    /// Takes this method, whatever the size. [`Method::Same`] still needs elements that are the
    /// same; others become [`Method::List`].
    #[must_use]
    pub const fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Takes blocks of this many elements: a multiple of 64, 4,096 to 1,048,576.
    #[must_use]
    pub const fn block(mut self, block: usize) -> Self {
        self.block = Some(block);
        self
    }

    /// Takes a map of chunks, or none. (There is none where all chunks are alike.)
    #[must_use]
    pub const fn map(mut self, map: bool) -> Self {
        self.map = Some(map);
        self
    }

    /// Codes escapes, or keeps them as they are.
    #[must_use]
    pub const fn escapes(mut self, coded: bool) -> Self {
        self.escapes = Some(coded);
        self
    }

    /// Takes this many bytes of each element as its raw part: less than it has.
    #[must_use]
    pub const fn raw(mut self, raw: usize) -> Self {
        self.raw = Some(raw);
        self
    }

    /// Encodes with the instruction set of this level, for tests and benchmarks; the bytes are the
    /// same with all.
    #[must_use]
    pub const fn level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// Makes a delta; see [`encode`].
    ///
    /// # Errors
    ///
    /// As [`encode`]; [`Error::DeltaField`] for a block or a raw part that cannot be.
    pub fn encode(&self, element_type: ElementType, new: &[u8], base: &[u8]) -> Result<Vec<u8>, Error> {
        let size = element_type.bytes();
        for (buffer, bytes) in [("new", new), ("base", base)] {
            if !bytes.len().is_multiple_of(size) {
                let (found, expected) = (bytes.len() as u64, (bytes.len() / size * size) as u64);
                return Err(Error::BufferLength { buffer, expected, found });
            }
        }
        let bad =
            |field, value: usize| Err(Error::DeltaField { clause: "B-3.1", field, value: value as u64 });
        if let Some(block) =
            self.block.filter(|block| block % 64 != 0 || !(4096..=LONGEST_BLOCK).contains(block))
        {
            return bad("block size", block);
        }
        if let Some(raw) = self.raw.filter(|raw| *raw >= size) {
            return bad("number of raw bytes", raw);
        }
        let common = new.len().min(base.len()) / size;
        if common == 0 || self.method == Some(Method::Frame) {
            return framed(element_type, new);
        }
        let (of_base, rest) = new.split_at(common * size);
        let pair = Pair { element_type, new: of_base, base: &base[..common * size] };
        let mut delta = self.level.unwrap_or_else(Level::best).dispatch(Make {
            options: self,
            pair,
            len: new.len() / size,
        })?;
        if !rest.is_empty() {
            delta.extend(frame::encode(element_type, &[(rest.len() / size) as u64], rest)?);
        }
        // A frame of everything is never more than 80 bytes longer than one of the rest.
        let is_long = delta.len() as u64 > 2 * new.len() as u64 / 5;
        if self.method.is_none() && is_long {
            let frame = framed(element_type, new)?;
            if frame.len() < delta.len() {
                return Ok(frame);
            }
        }
        Ok(delta)
    }
}

/// A delta that needs no base.
fn framed(element_type: ElementType, new: &[u8]) -> Result<Vec<u8>, Error> {
    let len = new.len() / element_type.bytes();
    let mut delta = header(element_type, Method::Frame, len, 0);
    seal(&mut delta);
    delta.extend(frame::encode(element_type, &[len as u64], new)?);
    Ok(delta)
}

/// The part of the header that all methods have.
fn header(element_type: ElementType, method: Method, len: usize, common: usize) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend([VERSION, element_type.number(), method.number(), 0, 0, 0, 0, 0]);
    header.extend((len as u64).to_le_bytes());
    header.extend((common as u64).to_le_bytes());
    header.extend([0; 4]);
    header
}

/// Appends the checksum of a header.
fn seal(header: &mut Vec<u8>) {
    header.extend(crc(0, header).to_le_bytes());
}

/// Common elements of both.
#[derive(Clone, Copy)]
struct Pair<'a> {
    element_type: ElementType,
    new: &'a [u8],
    base: &'a [u8],
}

/// Makes the part of a delta that is for common elements.
struct Make<'o, 'a> {
    options: &'o EncodeOptions,
    pair: Pair<'a>,
    len: usize,
}

impl Operation for Make<'_, '_> {
    type Output = Result<Vec<u8>, Error>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        match self.pair.element_type.bytes() {
            1 => self.make::<S, u8>(simd),
            2 => self.make::<S, u16>(simd),
            _ => self.make::<S, u32>(simd),
        }
    }
}

/// What the first pass found out.
struct Scan {
    /// Symbols of all elements of chunks that differ.
    counts: Box<Counts>,
    /// Exponents of the elements of chunks that are the same.
    same: Box<[u64; 256]>,
    /// How many chunks are the same, and how many are not.
    chunks: [u64; 2],
    changed: u64,
    /// Coded bytes of escapes.
    escapes: Box<[u64; 256]>,
}

/// Half a MiB of zeros, never on the stack.
fn no_counts() -> Box<Counts> {
    vec![[0; 256]; 256].into_boxed_slice().try_into().unwrap_or_else(|_| Box::new([[0; 256]; 256]))
}

impl<'a> Make<'_, 'a> {
    #[inline(always)]
    fn make<S: Simd, W: Word>(&self, simd: S) -> Result<Vec<u8>, Error> {
        let Pair { element_type, new, base } = self.pair;
        let raw = match self.options.raw {
            Some(raw) => raw,
            None if W::BYTES < 4 => 0,
            None => self.raw::<W>(),
        };
        let scan = self.scan::<W>(raw);
        if scan.changed == 0 && self.options.method.is_none_or(|method| method == Method::Same) {
            let mut delta = header(element_type, Method::Same, self.len, new.len() / W::BYTES);
            delta.extend(crc(0, base).to_le_bytes());
            seal(&mut delta);
            return Ok(delta);
        }
        let list = match self.options.method {
            Some(Method::Coded) => None,
            None if scan.changed > LISTED => None,
            _ => Some(self.list::<W>(scan.changed)),
        };
        match (self.options.method, list) {
            (Some(Method::List | Method::Same), Some(list)) => Ok(list),
            // A block's states alone are longer.
            (None, Some(list)) if list.len() < STATES_BYTES => Ok(list),
            (_, list) => {
                let coded = self.coded::<S, W>(simd, raw, scan)?;
                Ok(list.filter(|list| list.len() <= coded.len()).unwrap_or(coded))
            }
        }
    }

    /// Chunks of the base and of the result.
    #[inline(always)]
    fn chunks<W: Word>(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a, W> {
        let size = CHUNK * W::BYTES;
        self.pair.base.chunks(size).zip(self.pair.new.chunks(size))
    }

    /// How many raw bytes make it shortest, by the counts of symbols alone.
    fn raw<W: Word>(&self) -> usize {
        let kind = Kind::of(self.pair.element_type);
        let mut counts = [[0u64; 256]; 4];
        // One chunk of 16 tells.
        for (base, new) in self.chunks::<W>().step_by(16).filter(|(base, new)| base != new) {
            let (b, n) = (W::chunk(base), W::chunk(new));
            for i in 0..base.len() / W::BYTES {
                let z = kind.difference(n[i], b[i]).wide();
                for (raw, counts) in counts.iter_mut().enumerate().take(W::BYTES) {
                    counts[(z >> (8 * raw)).min(u32::from(ESCAPE)) as usize] += 1;
                }
            }
        }
        let cost = |raw: usize| {
            let mut by_exponent = no_counts();
            by_exponent[0] = counts[raw];
            let all: u64 = counts[raw].iter().sum();
            let escapes = counts[raw][usize::from(ESCAPE)];
            let bits = 8 * (u128::from(all) * raw as u128 + u128::from(escapes) * W::BYTES as u128);
            groups(&by_exponent, 1, 0).map_or(0, |groups| groups.cost) + ((bits as i128) << 12)
        };
        (0..W::BYTES).min_by_key(|raw| cost(*raw)).unwrap_or(0)
    }

    #[inline(always)]
    fn scan<W: Word>(&self, raw: usize) -> Scan {
        let kind = Kind::of(self.pair.element_type);
        let mut scan = Scan {
            counts: no_counts(),
            same: Box::new([0; 256]),
            chunks: [0; 2],
            changed: 0,
            escapes: Box::new([0; 256]),
        };
        for (base, new) in self.chunks::<W>() {
            let (len, b) = (base.len() / W::BYTES, W::chunk(base));
            let mut exponents = [0; CHUNK];
            for i in 0..CHUNK {
                exponents[i] = kind.exponent(b[i]);
            }
            let n = W::chunk(new);
            let differs = b != n;
            scan.chunks[usize::from(differs)] += 1;
            if !differs {
                exponents[..len].iter().for_each(|exponent| scan.same[usize::from(*exponent)] += 1);
                continue;
            }
            let (mut symbols, mut greatest, mut changed) = ([0; CHUNK], 0, 0u8);
            for i in 0..CHUNK {
                let z = kind.difference(n[i], b[i]);
                symbols[i] = z.symbol(raw);
                changed += u8::from(z != W::default());
                greatest = symbols[i].max(greatest);
            }
            scan.changed += u64::from(changed);
            if greatest == ESCAPE {
                for i in (0..len).filter(|i| symbols[*i] == ESCAPE) {
                    let (coded, _) = split(self.pair.element_type, n[i].wide());
                    scan.escapes[usize::from(coded)] += 1;
                }
            }
            for (exponent, symbol) in exponents[..len].iter().zip(symbols) {
                scan.counts[usize::from(*exponent)][usize::from(symbol)] += 1;
            }
        }
        scan
    }

    /// Method 1.
    fn list<W: Word>(&self, changed: u64) -> Vec<u8> {
        let Pair { element_type, new, base } = self.pair;
        let mut delta = header(element_type, Method::List, self.len, new.len() / W::BYTES);
        delta.extend(crc(0, base).to_le_bytes());
        delta.extend(crc(0, new).to_le_bytes());
        delta.extend((changed as u32).to_le_bytes());
        let mut next = 0;
        for (i, (base, new)) in base.chunks(W::BYTES).zip(new.chunks(W::BYTES)).enumerate() {
            if base != new {
                let mut gap = i - next;
                while gap > 127 {
                    delta.push(gap as u8 | 128);
                    gap >>= 7;
                }
                delta.push(gap as u8);
                delta.extend(new);
                next = i + 1;
            }
        }
        seal(&mut delta);
        delta
    }

    /// Method 2.
    #[inline(always)]
    fn coded<S: Simd, W: Word>(&self, simd: S, raw: usize, mut scan: Scan) -> Result<Vec<u8>, Error> {
        let Pair { element_type, new, base } = self.pair;
        let common = new.len() / W::BYTES;
        // Estimated for those that must be; few are made because their symbols are rare.
        let escapes: u64 = scan.escapes.iter().sum();
        let mut one = no_counts();
        one[0] = *scan.escapes;
        let coded_cost =
            groups(&one, 1, 0)?.cost + (((common.div_ceil(1 << 16) * STATES_BYTES) as i128 * 8) << 12);
        let coded_escapes = self.options.escapes.unwrap_or(coded_cost < i128::from(escapes) << 15);
        let most = TABLES - usize::from(coded_escapes);
        // With coded escapes, none are made of rare symbols.
        let rare_of = if coded_escapes { 0 } else { W::BYTES };
        let can_map = scan.chunks[0] > 0 && scan.chunks[1] > 0;
        let with_map = match self.options.map {
            Some(false) => None,
            _ if can_map => Some(groups(&scan.counts, most, rare_of)?),
            _ => None,
        };
        let without = match (self.options.map, &with_map) {
            (Some(true), Some(_)) => None,
            _ => {
                for (counts, same) in scan.counts.iter_mut().zip(scan.same.iter()) {
                    counts[0] += same;
                }
                Some(groups(&scan.counts, most, rare_of)?)
            }
        };
        let mut chunk_counts = [0; 256];
        chunk_counts[..2].copy_from_slice(&scan.chunks);
        let map_table =
            if can_map { Some(Frequencies::normalise(&chunk_counts, SCALE_BITS as u8)?) } else { None };
        let map_cost = map_table.as_ref().map_or(0, |table| {
            let bits = |symbol: u8| i128::from(u32::from(SCALE_BITS as u16 * 4096) - lg_of(table.of(symbol)));
            i128::from(scan.chunks[0]) * bits(0) + i128::from(scan.chunks[1]) * bits(1)
        });
        let (groups, map) = match (with_map, without) {
            (Some(with), Some(without)) => {
                // Where most chunks are the same, a map makes decoding much faster.
                let (cost, other) = (with.cost + map_cost, without.cost);
                let many = scan.chunks[0] >= scan.chunks[1];
                if cost <= other || (many && cost * 8 <= other * 9) { (with, true) } else { (without, false) }
            }
            (Some(with), None) => (with, true),
            (None, Some(without)) => (without, false),
            (None, None) => return Err(Error::NoSymbols),
        };
        let cost = groups.cost + if map { map_cost } else { 0 };
        let escapes = escapes + groups.rare;
        let bytes = (cost >> 15) as u64 + escapes * W::BYTES as u64 + common as u64 * raw as u64;
        let block = self.options.block.unwrap_or(match bytes * 64 / new.len() as u64 {
            8.. => 1 << 16,
            1..8 => 1 << 18,
            0 => LONGEST_BLOCK,
        });
        let mut delta = header(element_type, Method::Coded, self.len, common);
        delta[11] = raw as u8;
        delta[12] = groups.tables.len() as u8;
        delta[13] = u8::from(map) | u8::from(coded_escapes) << 1;
        delta[32..36].copy_from_slice(&(block as u32).to_le_bytes());
        delta.extend(scan.changed.to_le_bytes());
        delta.extend(&groups.thresholds);
        groups.tables.iter().for_each(|table| put_table(&mut delta, table.as_array()));
        let of_escapes = match coded_escapes {
            true => {
                // Where there are none, any table will do.
                scan.escapes[0] += u64::from(escapes == 0);
                Some(Frequencies::normalise(&scan.escapes, SCALE_BITS as u8)?)
            }
            false => None,
        };
        of_escapes.iter().for_each(|table| put_table(&mut delta, table.as_array()));
        if let Some(table) = map_table.as_ref().filter(|_| map) {
            delta.extend(table.of(1).to_le_bytes());
        }
        let mut writer =
            Writer::new(element_type, raw, &groups, map_table.filter(|_| map), of_escapes.as_ref());
        let directory = delta.len();
        let blocks = common.div_ceil(block);
        delta.reserve(bytes as usize + blocks * (ENTRY + STATES_BYTES) + 64);
        delta.resize(directory + blocks * ENTRY + 4, 0);
        delta.resize(delta.len().next_multiple_of(4), 0);
        let size = block * W::BYTES;
        for (j, (base, new)) in base.chunks(size).zip(new.chunks(size)).enumerate() {
            let [w, v, e, k] = writer.block::<S, W>(simd, base, new)?;
            let start = delta.len();
            writer.put(&mut delta);
            let fields = [w, v, e, k, crc(j as u32, &delta[start..]), crc(0, base), crc(0, new)];
            let entry = &mut delta[directory + j * ENTRY..][..ENTRY];
            entry.as_chunks_mut().0.iter_mut().zip(fields).for_each(|(to, field)| *to = field.to_le_bytes());
        }
        let end = directory + blocks * ENTRY;
        let check = crc(0, &delta[..end]).to_le_bytes();
        delta[end..end + 4].copy_from_slice(&check);
        Ok(delta)
    }
}
