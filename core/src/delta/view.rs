//! A view over the bytes of a delta, built only through validation.

use core::ops::Range;

use super::element::Kind;
use super::table::Reader;
use super::{DecodeTable, ENTRY, LONGEST_BLOCK, MAGIC, SHORTEST_BLOCK, SUM, VERSION};
use crate::frame::{Codec, ElementType, Frame};
use crate::hazmat::frame::crc;
use crate::rans::STATES_BYTES;
use crate::{DeltaPart, Error};

/// How a delta holds the common elements (B-3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// They are those of the base.
    Same,
    /// Those that are others, one by one.
    List,
    /// The differences of all, coded.
    Coded,
    /// There are none: a frame holds all elements.
    Frame,
}

impl Method {
    const ALL: [Method; 4] = [Method::Same, Method::List, Method::Coded, Method::Frame];

    /// Its number in a delta.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// `same`, `list`, `coded` or `frame`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Method::Same => "same",
            Method::List => "list",
            Method::Coded => "coded",
            Method::Frame => "frame",
        }
    }
}

/// A delta, borrowed: everything that can be checked without the base, but for the checksums of
/// blocks, has been.
#[derive(Clone, Copy, Debug)]
pub struct Delta<'a> {
    pub(super) element_type: ElementType,
    pub(super) method: Method,
    /// Elements of the result, and how many of them are given against the base.
    pub(super) len: usize,
    pub(super) common: usize,
    pub(super) changed: u64,
    /// What the method has.
    pub(super) body: Body<'a>,
    pub(super) frame: Option<&'a [u8]>,
    /// The checksum of the header.
    pub(super) check: u32,
}

/// What a method has for the common elements (sections 4 and 5).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Body<'a> {
    /// Method 0.
    Same {
        /// The checksum of the common elements.
        elements: u32,
    },
    /// Method 1.
    List {
        /// The checksum of the common elements of the base.
        base: u32,
        /// That of the result.
        result: u32,
        /// Which elements are others.
        entries: Entries<'a>,
    },
    /// Method 2.
    Coded(Coded<'a>),
    /// Method 3: there are no common elements.
    Frame,
}

/// What blocks have in common, and the blocks (B-5.4).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Coded<'a> {
    /// Bytes of an element's low part.
    pub low: usize,
    /// Elements of each block but the last.
    pub block: usize,
    /// The thresholds of exponents by which tables are chosen.
    pub thresholds: &'a [u8],
    /// The frequency of symbol 1 of the map, if there is one.
    pub map: Option<u32>,
    /// Whether the coded bytes of escapes are blocks of rANS of their own.
    pub codes_escapes: bool,
    /// The bytes of all blocks.
    pub bytes: &'a [u8],
    pub(super) tables: &'a [u8],
    directory: &'a [[u8; ENTRY]],
    /// Bytes of an element.
    size: usize,
}

/// An entry of the directory (B-5.5), and the block. Its numbers are as the delta has them: that
/// they fit each other is found when it is decoded.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Block<'a> {
    /// Its words, without those of escapes.
    pub words: usize,
    /// Words of its escapes, if these are coded.
    pub escape_words: usize,
    /// How many escapes it has.
    pub escapes: usize,
    /// How many of its elements are coded.
    pub coded: usize,
    /// The checksum of its bytes.
    pub stored_crc: u32,
    /// The checksum of its elements of the base.
    pub base_crc: u32,
    /// The checksum of its elements of the result.
    pub result_crc: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// How many of them are padding.
    pub padding: usize,
    /// The bytes of the block and of what follows it.
    pub(super) onwards: &'a [u8],
}

/// Takes fields off the front.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let end = self.at.saturating_add(len);
        let found = self.bytes.len() as u64;
        let taken = self.bytes.get(self.at..end).ok_or(Error::DeltaLength { expected: end as u64, found })?;
        self.at = end;
        Ok(taken)
    }

    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], Error> {
        let found = self.bytes.len() as u64;
        let expected = (self.at + N) as u64;
        self.bytes(N)?.first_chunk().ok_or(Error::DeltaLength { expected, found })
    }

    fn number(&mut self) -> Result<u32, Error> {
        self.take().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn count(&mut self) -> Result<u64, Error> {
        self.take().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

/// The entries of a list (B-4.2): which element each is of, and the element of the result.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    next: usize,
    /// Bytes of an element.
    size: usize,
}

impl<'a> Entries<'a> {
    /// Takes an entry off the front.
    fn entry(&mut self) -> Result<(usize, &'a [u8]), Error> {
        let short = Error::DeltaField { clause: "B-2.3", field: "entry of a list", value: self.next as u64 };
        let mut gap = 0u64;
        for i in 0..5 {
            let (byte, rest) = self.bytes.split_first().ok_or(short)?;
            self.bytes = rest;
            gap |= u64::from(byte & 127) << (7 * i);
            if *byte < 128 {
                if (*byte == 0 && i > 0) || gap > u64::from(u32::MAX) {
                    return Err(short);
                }
                let (element, rest) = self.bytes.split_at_checked(self.size).ok_or(short)?;
                self.bytes = rest;
                let at = self.next.saturating_add(gap as usize);
                self.next = at.saturating_add(1);
                return Ok((at, element));
            }
        }
        Err(short)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // All were read when the delta was checked: the only error is that none is left.
        self.entry().ok()
    }
}

/// Zeros up to a multiple of 4.
const fn padding(len: usize) -> usize {
    len.wrapping_neg() % 4
}

/// With zeros up to a multiple of 4.
const fn padded(len: u64) -> u64 {
    len.div_ceil(4).saturating_mul(4)
}

impl<'a> Delta<'a> {
    /// Checks a delta: its header, its tables and its length, and the header of its frame. The
    /// checksums of blocks are compared when they are decoded, or by
    /// [`verify_stored`](Self::verify_stored).
    ///
    /// # Errors
    ///
    /// [`Error::NotADelta`], [`Error::DeltaUnsupported`], [`Error::DeltaLength`],
    /// [`Error::DeltaField`], [`Error::DeltaReserved`], [`Error::DeltaTable`] or
    /// [`Error::DeltaChecksum`] for what breaks a rule of sections 3 to 5; errors of frames.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut cursor = Cursor { bytes, at: 0 };
        if bytes.iter().zip(&MAGIC).any(|(found, wanted)| found != wanted) {
            return Err(Error::NotADelta);
        }
        cursor.take::<8>()?;
        let [version, element_type, method, low, tables, flags, reserved @ ..] = *cursor.take::<8>()?;
        let unsupported = |field, number| Error::DeltaUnsupported { field, number };
        if version != VERSION {
            return Err(unsupported("version", version));
        }
        let element_type = *ElementType::ALL
            .get(usize::from(element_type))
            .ok_or(unsupported("element type", element_type))?;
        let method = *Method::ALL.get(usize::from(method)).ok_or(unsupported("method", method))?;
        if reserved != [0; 2] {
            return Err(Error::DeltaReserved);
        }
        let (len, common) = (cursor.count()?, cursor.count()?);
        let block = cursor.number()?;
        let bad = |clause, field, value: u64| Err(Error::DeltaField { clause, field, value });
        let is_coded = method == Method::Coded;
        if if is_coded { usize::from(low) >= element_type.bytes() } else { low != 0 } {
            return bad("B-3.1", "number of low bytes", u64::from(low));
        }
        if if is_coded { !(1..=8 - (flags >> 1 & 1)).contains(&tables) } else { tables != 0 } {
            return bad("B-3.1", "number of tables", u64::from(tables));
        }
        if flags > if is_coded { 3 } else { 0 } {
            return bad("B-3.1", "flags", u64::from(flags));
        }
        let lengths = SHORTEST_BLOCK as u32..=LONGEST_BLOCK as u32;
        if if is_coded { !lengths.contains(&block) || block % 64 != 0 } else { block != 0 } {
            return bad("B-3.1", "block size", u64::from(block));
        }
        if common > len || (common == 0) != (method == Method::Frame) {
            return bad("B-3.2", "number of common elements", common);
        }
        let countable =
            usize::try_from(len).ok().filter(|len| len.checked_mul(element_type.bytes()).is_some());
        let Some(len) = countable else { return bad("B-3.2", "number of elements", len) };
        let mut delta = Delta {
            element_type,
            method,
            len,
            common: common as usize,
            changed: 0,
            body: Body::Frame,
            frame: None,
            check: 0,
        };
        match method {
            Method::Same => delta.body = Body::Same { elements: cursor.number()? },
            Method::List => delta.read_list(&mut cursor)?,
            Method::Coded => {
                delta.read_tables(
                    &mut cursor,
                    usize::from(low),
                    usize::from(tables),
                    flags,
                    block as usize,
                )?;
            }
            Method::Frame => {}
        }
        let end = cursor.at;
        delta.check = cursor.number()?;
        if delta.check != crc(0, bytes.get(..end).unwrap_or_default()) {
            return Err(Error::DeltaChecksum { part: DeltaPart::Header });
        }
        delta.read_rest(&mut cursor)?;
        Ok(delta)
    }

    /// The fields of method 1, and its entries.
    fn read_list(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Error> {
        let (base, result, number) = (cursor.number()?, cursor.number()?, cursor.number()?);
        let start = cursor.at;
        let rest = cursor.bytes.get(start..).unwrap_or_default();
        let first = Entries { bytes: rest, next: 0, size: self.element_type.bytes() };
        let mut entries = first;
        for _ in 0..number {
            let (at, _) = entries.entry()?;
            if at >= self.common {
                return Err(Error::DeltaField {
                    clause: "B-4.2",
                    field: "entry of a list",
                    value: at as u64,
                });
            }
        }
        let entries = Entries { bytes: cursor.bytes(rest.len() - entries.bytes.len())?, ..first };
        self.changed = u64::from(number);
        self.body = Body::List { base, result, entries };
        Ok(())
    }

    /// The fields of method 2 up to the directory.
    fn read_tables(
        &mut self,
        cursor: &mut Cursor<'a>,
        low: usize,
        tables: usize,
        flags: u8,
        block: usize,
    ) -> Result<(), Error> {
        self.changed = cursor.count()?;
        let thresholds = cursor.bytes(tables - 1)?;
        let mut before = 0;
        for &threshold in thresholds {
            if threshold <= before {
                let value = u64::from(threshold);
                return Err(Error::DeltaField { clause: "B-5.4", field: "threshold", value });
            }
            before = threshold;
        }
        let rest = cursor.bytes.get(cursor.at..).unwrap_or_default();
        let mut reader = Reader { bytes: rest };
        for _ in 0..tables + usize::from(flags >> 1) {
            reader.table(|_, _| {})?;
        }
        let tables = cursor.bytes(rest.len() - reader.bytes.len())?;
        let map = match flags & 1 == 1 {
            true => match u16::from_le_bytes(*cursor.take()?) {
                frequency if (1..SUM).contains(&u32::from(frequency)) => Some(u32::from(frequency)),
                other => {
                    let value = u64::from(other);
                    return Err(Error::DeltaField { clause: "B-5.4", field: "frequency", value });
                }
            },
            false => None,
        };
        let directory = cursor.bytes(self.common.div_ceil(block).saturating_mul(ENTRY))?.as_chunks().0;
        self.body = Body::Coded(Coded {
            low,
            block,
            thresholds,
            tables,
            map,
            codes_escapes: flags >> 1 == 1,
            bytes: &[],
            directory,
            size: self.element_type.bytes(),
        });
        Ok(())
    }

    /// What follows the checksum of the header.
    fn read_rest(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Error> {
        if let Body::Coded(coded) = &mut self.body {
            if cursor.bytes(padding(cursor.at))?.iter().any(|byte| *byte != 0) {
                return Err(Error::DeltaReserved);
            }
            let mut total = 0u64;
            for entry in coded.directory {
                total = total.saturating_add(padded(coded.bytes_of(entry)));
            }
            coded.bytes = cursor.bytes(usize::try_from(total).unwrap_or(usize::MAX))?;
        }
        let rest = cursor.bytes.get(cursor.at..).unwrap_or_default();
        if self.common < self.len || self.method == Method::Frame {
            let frame = Frame::new(rest)?;
            let (header, len) = (frame.header(), (self.len - self.common) as u64);
            if header.element_type() != self.element_type || !header.shape().eq([len]) {
                let value = header.len() as u64;
                return Err(Error::DeltaField {
                    clause: "B-3.2",
                    field: "number of a frame's elements",
                    value,
                });
            }
            if header.codec() == Codec::Dictionary {
                let value = u64::from(header.codec().number());
                return Err(Error::DeltaField { clause: "B-3.2", field: "codec of a frame", value });
            }
            self.frame = Some(rest);
        } else if !rest.is_empty() {
            let found = cursor.bytes.len() as u64;
            return Err(Error::DeltaLength { expected: cursor.at as u64, found });
        }
        Ok(())
    }

    /// What the elements are.
    #[must_use]
    pub const fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// How it holds the common elements.
    #[must_use]
    pub const fn method(&self) -> Method {
        self.method
    }

    /// The number of elements of the result.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a delta is no collection")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// How many elements of the base it needs: as many of the result are given against them.
    #[must_use]
    pub const fn common(&self) -> usize {
        self.common
    }

    /// How many common elements are not those of the base, as the writer counted.
    #[must_use]
    pub const fn changed(&self) -> u64 {
        self.changed
    }

    /// How many tables it has; 0 if it is not coded.
    #[must_use]
    pub const fn tables(&self) -> usize {
        match &self.body {
            Body::Coded(coded) => coded.thresholds.len() + 1,
            _ => 0,
        }
    }

    /// Whether it has a map of chunks.
    #[must_use]
    pub const fn has_map(&self) -> bool {
        matches!(self.body, Body::Coded(Coded { map: Some(_), .. }))
    }

    /// The number of blocks; 0 if it is not coded.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        match &self.body {
            Body::Coded(coded) => coded.directory.len(),
            _ => 0,
        }
    }

    /// The elements of a block; empty for one that is not there.
    #[must_use]
    pub fn block_range(&self, block: usize) -> Range<usize> {
        let len = if let Body::Coded(coded) = &self.body { coded.block } else { 0 };
        let at = |block: usize| block.saturating_mul(len).min(self.common);
        at(block)..at(block.saturating_add(1))
    }

    /// Makes `table` the table of this delta.
    ///
    /// # Errors
    ///
    /// None that [`new`](Self::new) would not have given.
    pub fn build(&self, table: &mut DecodeTable) -> Result<(), Error> {
        if let Body::Coded(coded) = &self.body {
            table.fill(coded.thresholds.len() + 1 + usize::from(coded.codes_escapes), coded.tables)?;
            table.of = self.check;
        }
        Ok(())
    }

    /// Compares the checksums of all blocks, which needs no base: finds any accident since the
    /// delta was written.
    ///
    /// # Errors
    ///
    /// [`Error::DeltaChecksum`] for the first block that is damaged; errors of the frame.
    pub fn verify_stored(&self) -> Result<(), Error> {
        if let Body::Coded(coded) = &self.body {
            for (number, block) in coded.blocks().enumerate() {
                block.check(number)?;
            }
        }
        Ok(())
    }

    /// What the method has, for decoders elsewhere: see [`hazmat::delta`](crate::hazmat::delta).
    #[must_use]
    pub const fn body(&self) -> Body<'a> {
        self.body
    }

    /// The frame of the elements that are not common, or of all; `None` where there is none.
    #[must_use]
    pub const fn frame(&self) -> Option<&'a [u8]> {
        self.frame
    }

    pub(super) fn kind(&self) -> Kind {
        Kind::of(self.element_type)
    }
}

impl<'a> Coded<'a> {
    /// How many bytes the block of an entry has, without padding (B-5.6).
    fn bytes_of(&self, entry: &[u8; ENTRY]) -> u64 {
        let ([w, v, e, k, ..], _) = entry.as_chunks::<4>() else { return u64::MAX };
        let [w, v, e, k] = [w, v, e, k].map(|bytes| u64::from(u32::from_le_bytes(*bytes)));
        let states = if self.codes_escapes && e > 0 { 2 * STATES_BYTES } else { STATES_BYTES };
        let escape = self.size - usize::from(self.codes_escapes);
        states as u64 + 2 * (w + v) + escape as u64 * e + self.low as u64 * k
    }

    /// The frequencies of each table, by symbol; of escapes last, if they are coded.
    pub fn frequencies(&self) -> impl Iterator<Item = [u16; 256]> + use<'a> {
        let mut reader = Reader { bytes: self.tables };
        (0..self.thresholds.len() + 1 + usize::from(self.codes_escapes)).map(move |_| {
            let mut frequencies = [0; 256];
            // They were read when the delta was checked.
            let _ = reader.table(|symbol, frequency| frequencies[usize::from(symbol)] = frequency as u16);
            frequencies
        })
    }

    /// All blocks, in order.
    pub fn blocks(&self) -> impl Iterator<Item = Block<'a>> + use<'a> {
        let coded = *self;
        let mut onwards = self.bytes;
        self.directory.iter().map(move |entry| {
            let (fields, _) = entry.as_chunks::<4>();
            let field = |i: usize| fields.get(i).map_or(0, |bytes| u32::from_le_bytes(*bytes));
            let here = onwards;
            let len = coded.bytes_of(entry);
            let (bytes, rest) = onwards.split_at_checked(padded(len) as usize).unwrap_or_default();
            onwards = rest;
            Block {
                words: field(0) as usize,
                escape_words: field(1) as usize,
                escapes: field(2) as usize,
                coded: field(3) as usize,
                stored_crc: field(4),
                base_crc: field(5),
                result_crc: field(6),
                bytes,
                padding: padding(len as usize),
                onwards: here,
            }
        })
    }
}

impl Block<'_> {
    /// Compares its own checksum.
    pub(super) fn check(&self, number: usize) -> Result<(), Error> {
        if crc(number as u32, self.bytes) != self.stored_crc {
            return Err(Error::DeltaChecksum { part: DeltaPart::Block(number as u64) });
        }
        Ok(())
    }
}
