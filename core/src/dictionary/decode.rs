//! Decoding chunks.
//!
//! The table is that of section 5 of the specification. Whole groups of 8 codes are decoded without
//! a look at where the chunk ends, but for the last one: see [`df11_simd::dictionary`].

use df11_simd::dictionary::{Entry, GROUP};
use df11_simd::{Operation, Simd};

use super::{CHUNK, MAX_GROUPS, Model, Width};
use crate::{Error, Level};

/// A dictionary as the decoder looks it up, in the caller's memory: `N` is 4,096 (32 KiB) for codes
/// of any width, or 256 (2 KiB) for codes of 8 bits alone.
#[derive(Clone, Debug)]
pub struct DecodeTable<const N: usize> {
    entries: [Entry; N],
    /// How wide codes are; 0 before the table is built.
    bits: u8,
    /// The model's.
    fingerprint: u32,
}

/// A [table](DecodeTable) that has been built, whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct Dictionary<'t> {
    entries: Entries<'t>,
    fingerprint: u32,
}

#[derive(Clone, Copy, Debug)]
enum Entries<'t> {
    Eight(&'t [Entry; 1 << 8]),
    Twelve(&'t [Entry; 1 << 12]),
}

impl<const N: usize> Default for DecodeTable<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> DecodeTable<N> {
    /// A table without a dictionary, to be [built](Self::build). It is all zeros, so a `static`
    /// initialised with it goes to `.bss` and takes no space in a firmware image.
    #[must_use]
    pub const fn new() -> DecodeTable<N> {
        DecodeTable { entries: [Entry::NONE; N], bits: 0, fingerprint: 0 }
    }

    /// Makes this the table of a dictionary.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if codes of this width have more numbers than the table has entries.
    pub fn build(&mut self, model: &Model) -> Result<(), Error> {
        let codes = model.width().codes();
        let bytes = |entries: usize| (entries * size_of::<Entry>()) as u64;
        self.bits = 0;
        let Some(entries) = self.entries.get_mut(..codes) else {
            return Err(Error::BufferLength {
                buffer: "decoding table",
                expected: bytes(codes),
                found: bytes(N),
            });
        };
        let number = model.walk(|visit| {
            if let Some(entry) = entries.get_mut(visit.number) {
                *entry = Entry::new(visit.symbols, visit.len);
            }
        });
        // V-2.6
        let first = entries.first().copied().unwrap_or(Entry::NONE);
        entries.get_mut(number.unwrap_or_default()..).unwrap_or_default().fill(first);
        (self.bits, self.fingerprint) = (model.width().bits(), model.fingerprint());
        Ok(())
    }

    /// What was built; `None` before.
    #[must_use]
    pub fn dictionary(&self) -> Option<Dictionary<'_>> {
        let entries = match Width::from_bits(self.bits)? {
            Width::Eight => Entries::Eight(self.entries.first_chunk()?),
            Width::Twelve => Entries::Twelve(self.entries.first_chunk()?),
        };
        Some(Dictionary { entries, fingerprint: self.fingerprint })
    }

    /// Decodes a chunk: at most [`CHUNK`] symbols, and all of its codes.
    ///
    /// # Errors
    ///
    /// [`Error::NoSymbols`] if `symbols` is empty or the table has not been built;
    /// [`Error::BufferLength`] if `symbols` is longer than a chunk; otherwise what makes the chunk
    /// invalid: [`Error::ChunkGroups`], [`Error::ChunkSymbols`], [`Error::ChunkPadding`]. The
    /// symbols are then no particular ones.
    pub fn decode_into(&self, codes: &[u8], symbols: &mut [u8]) -> Result<(), Error> {
        let dictionary = self.dictionary().ok_or(Error::NoSymbols)?;
        let len = symbols.len();
        if len == 0 {
            return Err(Error::NoSymbols);
        }
        if len > CHUNK {
            let (expected, found) = (CHUNK as u64, len as u64);
            return Err(Error::BufferLength { buffer: "symbols", expected, found });
        }
        Level::best().dispatch(DecodeOne { dictionary, codes, symbols })
    }
}

struct DecodeOne<'d, 't> {
    dictionary: Dictionary<'t>,
    codes: &'d [u8],
    symbols: &'d mut [u8],
}

impl Operation for DecodeOne<'_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Result<(), Error> {
        let len = self.symbols.len();
        self.dictionary.decode(simd, self.codes, self.symbols, len)
    }
}

impl<'t> Dictionary<'t> {
    /// How wide codes are.
    #[must_use]
    pub const fn width(&self) -> Width {
        match self.entries {
            Entries::Eight(_) => Width::Eight,
            Entries::Twelve(_) => Width::Twelve,
        }
    }

    /// What decoders elsewhere need, GPUs among them: for each code the symbols of its string, the
    /// first in the lowest byte, zeros after the last, and 8 times their number in the highest
    /// byte.
    ///
    /// ```
    /// use df11::hazmat::dictionary::{DecodeTable, Model, Width};
    ///
    /// let mut counts = [0; 256];
    /// (counts[7], counts[9]) = (3, 1);
    /// let mut table = DecodeTable::<4096>::new();
    /// table.build(&Model::of_counts(&counts, Width::Eight)?)?;
    /// let dictionary = table.dictionary().ok_or("not built")?;
    /// assert_eq!(dictionary.entries()[..2], [0x08_00_00_00_00_00_00_07, 0x10_00_00_00_00_00_07_07]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn entries(&self) -> &'t [u64] {
        match self.entries {
            Entries::Eight(entries) => Entry::as_numbers(entries),
            Entries::Twelve(entries) => Entry::as_numbers(entries),
        }
    }

    /// Whether it was made of this model.
    pub(crate) fn is_of(&self, model: &Model) -> bool {
        self.width() == model.width() && self.fingerprint == model.fingerprint()
    }

    /// Decodes a chunk of `len` symbols, at least 1 and at most [`CHUNK`], to the front of
    /// `symbols`, which is at least as long. What follows there may be overwritten; decoding is a
    /// little faster where 72 bytes do.
    #[inline(always)]
    pub(crate) fn decode<S: Simd>(
        &self,
        simd: S,
        codes: &[u8],
        symbols: &mut [u8],
        len: usize,
    ) -> Result<(), Error> {
        match self.entries {
            Entries::Eight(entries) => decode(simd, entries, codes.as_chunks::<8>(), symbols, len),
            Entries::Twelve(entries) => decode(simd, entries, codes.as_chunks::<12>(), symbols, len),
        }
    }
}

#[inline(always)]
fn decode<S: Simd, const N: usize, const W: usize>(
    simd: S,
    entries: &[Entry; N],
    (groups, rest): (&[[u8; W]], &[u8]),
    symbols: &mut [u8],
    len: usize,
) -> Result<(), Error> {
    let bad = Error::ChunkGroups { groups: groups.len() };
    let Some((last, before)) = groups.split_last() else { return Err(bad) };
    if groups.len() > MAX_GROUPS || !rest.is_empty() {
        return Err(bad);
    }
    let (mut done, mut at) = simd.decode_dictionary(entries, before, symbols, len);
    // Where there was no room for what a group may have.
    while let Some(group) = before.get(done) {
        for code in codes(group) {
            at = append(entries, code, symbols, at, len)?;
        }
        done += 1;
    }
    // V-3.3: the last group is needed, a code of it ends with the chunk, and zeros follow.
    if at >= len {
        return Err(bad);
    }
    for code in codes(last) {
        if at < len {
            at = append(entries, code, symbols, at, len)?;
        } else if code != 0 {
            return Err(Error::ChunkPadding);
        }
    }
    if at < len { Err(Error::ChunkSymbols { expected: len, found: at }) } else { Ok(()) }
}

/// Puts the string of a code at `at`; returns where it ends, which is at most `len`.
#[inline(always)]
fn append<const N: usize>(
    entries: &[Entry; N],
    code: usize,
    symbols: &mut [u8],
    at: usize,
    len: usize,
) -> Result<usize, Error> {
    let entry = entries.get(code).copied().unwrap_or(Entry::NONE);
    let end = at + entry.len();
    if end > len {
        return Err(Error::ChunkSymbols { expected: len, found: end });
    }
    match symbols.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        Some(room) => *room = entry.bytes(),
        // Nearly at the end of the room, which is not before that of the chunk.
        None => {
            let room = symbols.get_mut(at..end).unwrap_or_default();
            room.iter_mut().zip(entry.bytes()).for_each(|(to, symbol)| *to = symbol);
        }
    }
    Ok(end)
}

/// The codes of a group (V-3.2).
#[inline(always)]
fn codes<const W: usize>(group: &[u8; W]) -> [usize; GROUP] {
    df11_simd::dictionary::codes(group)
}
