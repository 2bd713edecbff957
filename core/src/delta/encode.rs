//! Making deltas.
//!
//! Two passes over both tensors: one counts, one codes. What each method would take is estimated
//! from the counts; where two are close, both are made, and the shorter one is kept.

mod count;
mod writer;

use alloc::vec::Vec;

use df11_simd::delta::{SCALE_BITS, TABLES};
use df11_simd::{Operation, Simd};

use super::element::Word;
use super::groups::{self, Counts, Groups};
use super::{CHUNK, ENTRY, LONGEST_BLOCK, MAGIC, Method, VERSION};
use crate::frame::{self, ElementType};
use crate::hazmat::frame::crc;
use crate::rans::{Frequencies, STATES_BYTES};
use crate::{Error, Level};
use count::Scan;
use writer::{Writer, lg_of, put_table};

/// Where every state starts (R-3.2).
const START_STATE: u32 = df11_simd::rans::START_STATE;

/// Chunks that are coded at a time.
const BATCH: usize = 32;

/// Room for words that vectors store beyond the last.
const SLACK: usize = 64;

/// A list is tried where it has at most this many entries: of more, coding is always shorter.
const LISTED: u64 = 2048;

/// How a delta is made. By default, everything but the map of chunks is chosen for the shortest
/// delta. Where most chunks are equal, there is a map even if it makes the delta up to a quarter
/// longer: then only the chunks that differ are coded, in a fraction of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    method: Option<Method>,
    block: Option<usize>,
    map: Option<bool>,
    escapes: Option<bool>,
    low_part: Option<usize>,
    level: Option<Level>,
}

/// Makes a delta of elements against those of a base, of which the first as many as there are in
/// both count; [`EncodeOptions`] says how it is chosen.
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
    /// Chooses everything as [`EncodeOptions`] says.
    #[must_use]
    pub const fn new() -> Self {
        EncodeOptions { method: None, block: None, map: None, escapes: None, low_part: None, level: None }
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

    /// Takes this many bytes of each difference as its low part (B-5.2), which is not coded: less
    /// than an element has.
    #[must_use]
    pub const fn low_part(mut self, bytes: usize) -> Self {
        self.low_part = Some(bytes);
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
    /// As [`encode`]; [`Error::DeltaField`] for a block or a low part that cannot be.
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
        if let Some(low) = self.low_part.filter(|low| *low >= size) {
            return bad("number of low bytes", low);
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

/// How method 2 codes a pair.
struct Plan {
    groups: Groups,
    /// The frequencies of the map, if there is one.
    map: Option<Frequencies>,
    /// Those of escapes, if they are coded.
    of_escapes: Option<Frequencies>,
    /// What symbols and tables take, in units of 1 / 4,096 bit.
    cost: i128,
    /// The number of escapes.
    escapes: u64,
}

impl Make<'_, '_> {
    #[inline(always)]
    fn make<S: Simd, W: Word>(&self, simd: S) -> Result<Vec<u8>, Error> {
        let Pair { element_type, new, .. } = self.pair;
        let low = match self.options.low_part {
            Some(low) => low,
            None if W::BYTES < 4 => 0,
            None => count::low_part::<W>(&self.pair),
        };
        let mut scan = count::scan::<W>(&self.pair, low);
        if scan.changed == 0 && self.options.method.is_none_or(|method| method == Method::Same) {
            let mut delta = header(element_type, Method::Same, self.len, new.len() / W::BYTES);
            delta.extend(scan.checksums(&self.pair, 0..new.len() / W::BYTES)[0].to_le_bytes());
            seal(&mut delta);
            return Ok(delta);
        }
        let changed = scan.changed;
        // An entry has a byte of its distance at least.
        let shortest = changed * (1 + W::BYTES as u64);
        match self.options.method {
            Some(Method::List | Method::Same) => return Ok(self.list::<W>(&scan)),
            // A block's states alone are longer, as a rule.
            None if shortest < STATES_BYTES as u64 => {
                let list = self.list::<W>(&scan);
                if list.len() < STATES_BYTES {
                    return Ok(list);
                }
            }
            _ => {}
        }
        let coded = self.coded::<S, W>(simd, low, &mut scan)?;
        if self.options.method.is_none() && changed <= LISTED && shortest < coded.len() as u64 {
            let list = self.list::<W>(&scan);
            if list.len() <= coded.len() {
                return Ok(list);
            }
        }
        Ok(coded)
    }

    /// Method 1.
    fn list<W: Word>(&self, scan: &Scan) -> Vec<u8> {
        let Pair { element_type, new, base } = self.pair;
        let mut delta = header(element_type, Method::List, self.len, new.len() / W::BYTES);
        let checksums = scan.checksums(&self.pair, 0..new.len() / W::BYTES);
        checksums.iter().for_each(|checksum| delta.extend(checksum.to_le_bytes()));
        delta.extend((scan.changed as u32).to_le_bytes());
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

    /// Chooses tables for method 2, and whether there are a map and coded escapes.
    #[inline(always)]
    fn plan<W: Word>(&self, scan: &mut Scan) -> Result<Plan, Error> {
        // Estimated for those that must be; few are made because their symbols are rare.
        let escapes: u64 = scan.escapes.iter().sum();
        let states = (self.pair.new.len() / W::BYTES).div_ceil(1 << 16) * STATES_BYTES;
        let coded_cost = groups::cost(scan.escapes.iter().copied()) + ((states as i128 * 8) << 12);
        let coded_escapes = self.options.escapes.unwrap_or(coded_cost < i128::from(escapes) << 15);
        let of_escapes = match coded_escapes {
            true => {
                // Where there are none, any table will do.
                scan.escapes[0] += u64::from(escapes == 0);
                Some(Frequencies::normalise(&scan.escapes, SCALE_BITS as u8)?)
            }
            false => None,
        };
        let most = TABLES - usize::from(coded_escapes);
        // With coded escapes, none are made of rare symbols.
        let rare_of = if coded_escapes { 0 } else { W::BYTES };
        let tables = |counts: &Counts| groups::groups(counts, most, rare_of);
        let [equal, different] = scan.chunks;
        let can_map = equal > 0 && different > 0 && self.options.map != Some(false);
        if can_map {
            let mut chunks = [0; 256];
            chunks[..2].copy_from_slice(&scan.chunks);
            let map = Frequencies::normalise(&chunks, SCALE_BITS as u8)?;
            let bits = |symbol: u8| i128::from(u32::from(SCALE_BITS as u16 * 4096) - lg_of(map.of(symbol)));
            let with = tables(&scan.counts)?;
            let cost = with.cost + i128::from(equal) * bits(0) + i128::from(different) * bits(1);
            let is_wanted = self.options.map == Some(true) || {
                let mut counts = scan.counts.clone();
                counts.add_zeros(&scan.equal);
                let without = tables(&counts)?.cost;
                // Where most chunks are equal, a map makes decoding much faster.
                cost <= without || (equal >= different && cost * 4 <= without * 5)
            };
            if is_wanted {
                let escapes = escapes + with.rare;
                return Ok(Plan { groups: with, map: Some(map), of_escapes, cost, escapes });
            }
        }
        if equal > 0 {
            scan.counts.add_zeros(&count::equal::<W>(&self.pair, &scan.differing));
        }
        let groups = tables(&scan.counts)?;
        let (cost, escapes) = (groups.cost, escapes + groups.rare);
        Ok(Plan { groups, map: None, of_escapes, cost, escapes })
    }

    /// Method 2.
    #[inline(always)]
    fn coded<S: Simd, W: Word>(&self, simd: S, low: usize, scan: &mut Scan) -> Result<Vec<u8>, Error> {
        let Pair { element_type, new, base } = self.pair;
        let common = new.len() / W::BYTES;
        let Plan { groups, map, of_escapes, cost, escapes } = self.plan::<W>(scan)?;
        let bytes = (cost >> 15) as u64 + escapes * W::BYTES as u64 + common as u64 * low as u64;
        let block = self.options.block.unwrap_or(match bytes * 64 / new.len() as u64 {
            8.. => 1 << 16,
            1..8 => 1 << 18,
            0 => LONGEST_BLOCK,
        });
        let mut delta = header(element_type, Method::Coded, self.len, common);
        delta[11] = low as u8;
        delta[12] = groups.tables.len() as u8;
        delta[13] = u8::from(map.is_some()) | u8::from(of_escapes.is_some()) << 1;
        delta[32..36].copy_from_slice(&(block as u32).to_le_bytes());
        delta.extend(scan.changed.to_le_bytes());
        delta.extend(&groups.thresholds);
        groups.tables.iter().for_each(|table| put_table(&mut delta, table.as_array()));
        of_escapes.iter().for_each(|table| put_table(&mut delta, table.as_array()));
        if let Some(map) = &map {
            delta.extend(map.of(1).to_le_bytes());
        }
        let mut writer = Writer::new(element_type, low, &groups, map, of_escapes.as_ref());
        let directory = delta.len();
        let blocks = common.div_ceil(block);
        delta.reserve(bytes as usize + blocks * (ENTRY + STATES_BYTES) + 64);
        delta.resize(directory + blocks * ENTRY + 4, 0);
        delta.resize(delta.len().next_multiple_of(4), 0);
        let size = block * W::BYTES;
        for (j, (base, new)) in base.chunks(size).zip(new.chunks(size)).enumerate() {
            let chunk = j * (block / CHUNK);
            let [w, v, e, k] = writer.block::<S, W>(simd, base, new, |i| scan.differing.has(chunk + i))?;
            let start = delta.len();
            writer.put(&mut delta);
            let elements = j * block..common.min((j + 1) * block);
            let [of_base, of_new] = scan.checksums(&self.pair, elements);
            let fields = [w, v, e, k, crc(j as u32, &delta[start..]), of_base, of_new];
            let entry = &mut delta[directory + j * ENTRY..][..ENTRY];
            entry.as_chunks_mut().0.iter_mut().zip(fields).for_each(|(to, field)| *to = field.to_le_bytes());
        }
        let end = directory + blocks * ENTRY;
        let check = crc(0, &delta[..end]).to_le_bytes();
        delta[end..end + 4].copy_from_slice(&check);
        Ok(delta)
    }
}
