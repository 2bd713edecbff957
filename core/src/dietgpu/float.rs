//! Float archives: elements whose exponents are in an ANS archive.

#[cfg(feature = "alloc")]
use alloc::vec;
#[cfg(feature = "alloc")]
use alloc::vec::Vec;

#[cfg(feature = "alloc")]
use super::ans::append;
use super::{ALIGNMENT, Archive, FLOAT_HEADER, FLOAT_MAGIC, HAS_CHECKSUM, bad, compare, field, sum_of};
#[cfg(feature = "alloc")]
use super::{Checksum, wrong};
use crate::Error;
use crate::frame::ElementType;
use crate::frame::planes::in_place;
use crate::rans::DecodeTable;

/// A view over the bytes of a float archive.
#[derive(Clone, Debug)]
pub struct FloatArchive<'a> {
    element_type: ElementType,
    checksum: Option<u32>,
    raw: &'a [u8],
    coded: Archive<'a>,
}

impl<'a> FloatArchive<'a> {
    /// Checks an archive at the front of these bytes; what follows it is ignored.
    ///
    /// # Errors
    ///
    /// The errors of [`Archive::new`], and [`Error::ArchiveField`] if the type is not F16, BF16 or
    /// F32.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        if field(bytes, 0).is_some_and(|magic| magic != FLOAT_MAGIC) {
            return Err(Error::NotAnArchive);
        }
        let missing = |expected: u64| Error::ArchiveLength { expected, found: bytes.len() as u64 };
        let [Some(len), Some(options), Some(sum)] = [4, 8, 12].map(|at| field(bytes, at)) else {
            return Err(missing(FLOAT_HEADER as u64));
        };
        let element_type = match options & 0xf {
            1 => ElementType::F16,
            2 => ElementType::Bf16,
            3 => ElementType::F32,
            other => return Err(bad("G-5.1", "float type", u64::from(other))),
        };
        let end = FLOAT_HEADER as u64 + raw_len(element_type, u64::from(len));
        let Some((raw, coded)) = usize::try_from(end).ok().and_then(|end| bytes.split_at_checked(end)) else {
            return Err(missing(end));
        };
        let coded = Archive::new(coded)?;
        if coded.len() != len as usize {
            return Err(bad("G-5.1", "number of elements", u64::from(len)));
        }
        if coded.checksum.is_some() {
            return Err(bad("G-5.1", "checksum of its own in the archive of coded bytes", 1));
        }
        let checksum = (options & HAS_CHECKSUM != 0).then_some(sum);
        Ok(FloatArchive { element_type, checksum, raw: &raw[FLOAT_HEADER..], coded })
    }

    /// What the elements are.
    #[must_use]
    pub const fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// The number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.coded.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.coded.is_empty()
    }

    /// The number of bytes that it takes.
    #[must_use]
    pub const fn archive_len(&self) -> usize {
        FLOAT_HEADER + self.raw.len() + self.coded.archive_len()
    }

    /// Decodes all elements, little-endian.
    ///
    /// # Errors
    ///
    /// As [`decode_in`](Self::decode_in).
    #[cfg(feature = "alloc")]
    pub fn decode(&self) -> Result<alloc::vec::Vec<u8>, Error> {
        let mut elements = alloc::vec![0; self.len() * self.element_type.bytes()];
        self.decode_into(&mut elements).map(|()| elements)
    }

    /// Decodes all elements, little-endian, to the caller's memory.
    ///
    /// # Errors
    ///
    /// As [`decode_in`](Self::decode_in).
    #[cfg(feature = "alloc")]
    pub fn decode_into(&self, elements: &mut [u8]) -> Result<(), Error> {
        self.decode_in(&mut alloc::boxed::Box::new(DecodeTable::new()), elements)
    }

    /// Decodes all elements, little-endian, without an allocator: `table` is the caller's memory.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] unless `elements` has room for just all of them; otherwise as
    /// [`Archive::decode_in`].
    pub fn decode_in(&self, table: &mut DecodeTable, elements: &mut [u8]) -> Result<(), Error> {
        let (n, size) = (self.len(), self.element_type.bytes());
        let (expected, found) = ((n * size) as u64, elements.len() as u64);
        if expected != found {
            return Err(Error::BufferLength { buffer: "elements", expected, found });
        }
        // At the end of the elements, from where they are merged in place, as frames do.
        let start = (size - 1) * n;
        self.coded.decode_in(table, &mut elements[start..])?;
        match self.element_type {
            ElementType::F16 => in_place::<2, 1>(elements, [self.raw], |coded, [raw]| [raw, coded]),
            ElementType::F32 => {
                let (low, high) = self.raw.split_at(high_plane(n));
                for (i, (low, high)) in low.as_chunks::<2>().0.iter().zip(high).enumerate().take(n) {
                    let coded = u32::from(elements[start + i]);
                    let raw = u32::from(*high) << 16 | u32::from(u16::from_le_bytes(*low));
                    let to = ((raw & 1) << 31 | coded << 23 | raw >> 1).to_le_bytes();
                    elements[4 * i..4 * i + 4].copy_from_slice(&to);
                }
            }
            _ => in_place::<2, 1>(elements, [self.raw], |coded, [raw]| {
                let (coded, raw) = (u16::from(coded), u16::from(raw));
                ((raw & 1) << 15 | coded << 7 | raw >> 1).to_le_bytes()
            }),
        }
        compare(self.checksum, sum_of(&elements[..n]))
    }
}

/// Where the second plane of F32 begins.
const fn high_plane(len: usize) -> usize {
    (2 * len).next_multiple_of(ALIGNMENT)
}

/// Bytes of the raw planes (G-5.1).
pub(super) fn raw_len(element_type: ElementType, len: u64) -> u64 {
    let one = len.next_multiple_of(ALIGNMENT as u64);
    if element_type == ElementType::F32 { (2 * len).next_multiple_of(ALIGNMENT as u64) + one } else { one }
}

/// Writes elements as a float archive; zeros where the format leaves bytes undefined.
///
/// # Errors
///
/// [`Error::InvalidArgument`] for types other than F16, BF16 and F32, a number of bytes that is
/// none of whole elements, and from 2^32 elements on; [`Error::ScaleBits`] unless `scale_bits` is 9
/// to 11.
#[cfg(feature = "alloc")]
pub fn encode_floats(
    element_type: ElementType,
    elements: &[u8],
    scale_bits: u8,
    checksum: Checksum,
) -> Result<Vec<u8>, Error> {
    let number: u32 = match element_type {
        ElementType::F16 => 1,
        ElementType::Bf16 => 2,
        ElementType::F32 => 3,
        other => return Err(wrong("float type of an archive", other.number().into())),
    };
    let size = element_type.bytes();
    if !elements.len().is_multiple_of(size) {
        return Err(wrong("number of bytes of an archive", elements.len()));
    }
    let n = elements.len() / size;
    let len = u32::try_from(n).map_err(|_| wrong("number of elements of an archive", n))?;
    let options = number | if checksum.is_stated() { HAS_CHECKSUM } else { 0 };
    let sum = if checksum.is_stated() { sum_of(&elements[..n]) } else { 0 };
    let mut archive = Vec::with_capacity(elements.len());
    for field in [FLOAT_MAGIC, len, options, sum] {
        archive.extend(field.to_le_bytes());
    }
    let mut raw = vec![0; raw_len(element_type, n as u64) as usize];
    let mut coded = vec![0; n];
    for (i, (element, coded)) in elements.chunks_exact(size).zip(&mut coded).enumerate() {
        let bits = element.iter().rev().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        match element_type {
            ElementType::F16 => (*coded, raw[i]) = ((bits >> 8) as u8, bits as u8),
            ElementType::F32 => {
                let rest = (bits & 0x7f_ffff) << 1 | bits >> 31;
                *coded = (bits >> 23) as u8;
                raw[2 * i..2 * i + 2].copy_from_slice(&(rest as u16).to_le_bytes());
                raw[high_plane(n) + i] = (rest >> 16) as u8;
            }
            _ => (*coded, raw[i]) = ((bits >> 7) as u8, ((bits & 0x7f) << 1 | bits >> 15) as u8),
        }
    }
    archive.extend(raw);
    append(&mut archive, &coded, scale_bits, None)?;
    Ok(archive)
}
