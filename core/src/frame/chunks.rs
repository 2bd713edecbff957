//! Frames of codec dictionary: where their sections are (F-5.5), and decoding chunks.

use core::ops::Range;

use df11_simd::{Operation, Simd};
#[cfg(feature = "alloc")]
use df11_simd::{Write, Writer};

#[cfg(feature = "alloc")]
use super::ElementType;
use super::{ALIGNMENT, Frame, Header, crc, padding, planes};
#[cfg(feature = "alloc")]
use crate::dictionary::ROOM;
use crate::dictionary::{CHUNK, Dictionary, MAX_GROUPS};
use crate::{Error, FramePart};

/// Planes of raw parts begin at multiples of this.
pub(super) const PLANE_ALIGNMENT: usize = 256;

/// The most planes.
const PLANES: usize = 3;

/// Where the sections of a frame are, from its start; they follow from the header alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sections {
    /// The numbers of groups.
    pub(super) groups: usize,
    /// The planes, as many as there are.
    pub(super) planes: [usize; PLANES],
    /// The codes.
    pub(super) codes: usize,
    /// Bytes of padding before the codes.
    pub(super) padding: usize,
}

impl Sections {
    /// Those of a frame whose header has this many bytes; `None` if they cannot be counted.
    pub(super) fn new(header: &Header, header_bytes: usize) -> Option<Self> {
        let n = header.len;
        let mut sections = Sections { groups: header_bytes, ..Sections::default() };
        let mut at = header_bytes.checked_add(n.div_ceil(CHUNK).checked_mul(2)?)?;
        let mut pad = |at: usize, to| {
            sections.padding += padding(at, to);
            at.checked_add(padding(at, to))
        };
        for plane in sections.planes.iter_mut().take(header.element_type.raw_bytes()) {
            *plane = pad(at, PLANE_ALIGNMENT)?;
            at = plane.checked_add(n)?;
        }
        sections.codes = pad(at, ALIGNMENT)?;
        Some(sections)
    }

    /// The bytes between sections, before the codes.
    pub(super) fn paddings(&self, header: &Header) -> [Range<usize>; PLANES + 1] {
        let mut end = self.groups + 2 * header.len.div_ceil(CHUNK);
        let mut paddings = [0..0, 0..0, 0..0, 0..0];
        let sections = self.planes.iter().take(header.element_type.raw_bytes()).chain([&self.codes]);
        for (padding, start) in paddings.iter_mut().zip(sections) {
            *padding = end..*start;
            end = start + header.len;
        }
        paddings
    }

    /// Puts the numbers of groups and the planes of some blocks to their places in a frame.
    #[cfg(feature = "alloc")]
    pub(super) fn put(
        &self,
        header: &Header,
        frame: &mut [u8],
        first: usize,
        groups: &[[u8; 2]],
        mut raw: &[u8],
    ) {
        let start = header.block_range(first).start;
        let at = self.groups + 2 * (start / CHUNK);
        frame[at..at + 2 * groups.len()].copy_from_slice(groups.as_flattened());
        let mut block = first;
        while !raw.is_empty() {
            let range = header.block_range(block);
            for plane in self.planes.iter().take(header.element_type.raw_bytes()) {
                let (of_block, rest) = raw.split_at(range.len());
                frame[plane + range.start..plane + range.end].copy_from_slice(of_block);
                raw = rest;
            }
            block += 1;
        }
    }
}

/// Where the parts of a frame of codec dictionary are, in bytes from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChunksLayout {
    /// For each chunk of [`CHUNK`] elements, its number of groups of 8 codes, 2 bytes each,
    /// little-endian.
    pub groups: Range<usize>,
    /// Where the planes of the raw part begin, as many bytes each as there are elements. The
    /// element type says how many planes there are; the others are 0.
    pub planes: [usize; PLANES],
    /// The codes of all chunks, one chunk after the other.
    pub codes: Range<usize>,
}

/// A block whose checksum is right.
struct Block<'a> {
    /// The numbers of groups of its chunks.
    groups: &'a [[u8; 2]],
    /// Their codes.
    codes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Where the parts of a frame of codec dictionary are, for decoders elsewhere, GPUs among them.
    /// The checksums of all blocks are compared first.
    ///
    /// ```
    /// use df11::frame::{Codec, ElementType, EncodeOptions, Frame};
    ///
    /// let elements: Vec<u8> = (0..200_000u32).map(|i| (i % 17) as u8).collect();
    /// let options = EncodeOptions::new().codec(Codec::Dictionary);
    /// let bytes = options.encode(ElementType::Bf16, &[100_000], &elements)?;
    /// let layout = Frame::new(&bytes)?.chunks_layout()?;
    /// let groups = bytes[layout.groups].as_chunks().0.iter().map(|number| u16::from_le_bytes(*number));
    /// assert_eq!(layout.codes.len(), groups.map(|number| 12 * usize::from(number)).sum());
    /// assert_eq!(layout.planes[0] % 256, 0);
    /// # Ok::<(), df11::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::FrameUnsupported`] for another codec, or what is wrong with a block, short of
    /// decoding it.
    pub fn chunks_layout(&self) -> Result<ChunksLayout, Error> {
        let codec = self.header.codec();
        if self.header.dictionary().is_none() {
            return Err(Error::FrameUnsupported { field: "codec", number: codec.number() });
        }
        let mut codes = 0;
        for block in 0..self.header.blocks() {
            codes += self.block_of_chunks(block)?.codes.len();
        }
        let Sections { groups, planes, codes: start, .. } = self.sections;
        let groups = groups..groups + 2 * self.header.len.div_ceil(CHUNK);
        Ok(ChunksLayout { groups, planes, codes: start..start + codes })
    }

    /// Checks what stands between the sections.
    pub(super) fn check_paddings(&self) -> Result<(), Error> {
        let mut bytes =
            self.sections.paddings(&self.header).into_iter().filter_map(|range| self.bytes.get(range));
        if bytes.any(|bytes| bytes.iter().any(|byte| *byte != 0)) {
            return Err(Error::FrameReserved { part: FramePart::Frame });
        }
        Ok(())
    }

    /// Finds a block and checks it.
    fn block_of_chunks(&self, block: usize) -> Result<Block<'a>, Error> {
        let header = &self.header;
        let part = FramePart::Chunks(block as u64);
        let width = header.dictionary().map_or(0, |model| model.width().group_bytes());
        let elements = header.block_range(block);
        let number = |elements: usize| self.sections.groups + 2 * elements.div_ceil(CHUNK);
        let groups = self.bytes.get(number(elements.start)..number(elements.end)).unwrap_or_default();
        let (start, checksum) = self.entry(block);
        let (next, _) = self.entry(block + 1);
        let mut all = 0;
        for number in groups.as_chunks().0 {
            let number = usize::from(u16::from_le_bytes(*number));
            if !(1..=MAX_GROUPS).contains(&number) {
                let value = number as u64;
                return Err(Error::FrameField { clause: "F-5.5", field: "number of groups", value });
            }
            all += number;
        }
        // At most 16 chunks, of 6 KiB.
        let end = start as usize + all * width;
        let is_last = block + 1 == header.blocks();
        let rest = if is_last { padding(end, ALIGNMENT) } else { 0 };
        if (end + rest) as u64 != next {
            let (expected, found) = (next - start, (end + rest) as u64 - start);
            return Err(Error::FrameLength { part, expected, found });
        }
        let codes = self.bytes.get(start as usize..end).unwrap_or_default();
        let mut found = crc(crc(block as u32, groups), codes);
        for plane in self.planes() {
            found = crc(found, plane.get(elements.clone()).unwrap_or_default());
        }
        if found != checksum {
            return Err(Error::FrameChecksum { part });
        }
        if self.bytes.get(end..end + rest).is_some_and(|rest| rest.iter().any(|byte| *byte != 0)) {
            return Err(Error::FrameReserved { part });
        }
        Ok(Block { groups: groups.as_chunks().0, codes })
    }

    /// The planes of the raw part.
    fn planes(&self) -> impl Iterator<Item = &'a [u8]> {
        let plane = |start: usize| self.bytes.get(start..start + self.header.len).unwrap_or_default();
        self.sections.planes.into_iter().take(self.header.element_type.raw_bytes()).map(plane)
    }

    /// Decodes chunks, which lie in blocks that are checked first, to as many elements as they
    /// have.
    pub(super) fn decode_chunks(
        &self,
        dictionary: Option<Dictionary<'_>>,
        chunks: Range<usize>,
        elements: &mut [u8],
    ) -> Result<(), Error> {
        let model = self.header.dictionary().ok_or(Error::OtherTable)?;
        let dictionary = dictionary.filter(|dictionary| dictionary.is_of(model)).ok_or(Error::OtherTable)?;
        let decode = DecodeChunks { frame: self, dictionary, chunks };
        #[cfg(feature = "alloc")]
        if self.header.element_type == ElementType::Bf16 && elements.len() > super::view::STREAM_BYTES {
            return self.level.dispatch(DecodePast { decode, elements });
        }
        self.level.dispatch(DecodeInPlace { decode, elements })
    }
}

/// Chunks that are to be decoded.
struct DecodeChunks<'d, 'a> {
    frame: &'d Frame<'a>,
    dictionary: Dictionary<'d>,
    chunks: Range<usize>,
}

impl DecodeChunks<'_, '_> {
    /// Goes through the codes of the chunks, with the range of elements of each. What the next
    /// block has is brought near meanwhile: its checksum would have to wait for it otherwise.
    #[inline(always)]
    fn each<S: Simd>(
        &self,
        simd: S,
        mut decode: impl FnMut(&[u8], Range<usize>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let header = &self.frame.header;
        // At least one: the compiler does not know that, and a division by it would bring a panic.
        let of_block = (header.block_len() / CHUNK).max(1);
        let width = self.dictionary.width().group_bytes();
        let Range { start, end } = self.chunks;
        for block in start / of_block..end.div_ceil(of_block) {
            let Block { groups, mut codes } = self.frame.block_of_chunks(block)?;
            let (next, after) =
                (self.frame.entry(block + 1).0 as usize, self.frame.entry(block + 2).0 as usize);
            let mut next = self.frame.bytes.get(next..after).unwrap_or_default();
            let share = next.len() / of_block;
            for (chunk, number) in (block * of_block..end).zip(groups) {
                let bytes = usize::from(u16::from_le_bytes(*number)) * width;
                let (of_chunk, rest) = codes.split_at_checked(bytes).unwrap_or_default();
                codes = rest;
                let near;
                (near, next) = next.split_at_checked(share).unwrap_or_default();
                simd.prefetch_far(near);
                let elements = (chunk + of_block) * CHUNK..(chunk + of_block + 1) * CHUNK;
                for plane in self.frame.planes() {
                    simd.prefetch_far(plane.get(elements.clone()).unwrap_or_default());
                }
                if chunk >= start {
                    decode(of_chunk, chunk * CHUNK..header.len.min((chunk + 1) * CHUNK))?;
                }
            }
        }
        Ok(())
    }
}

/// Decodes chunks with no memory but that of their elements: coded bytes go where they can be
/// merged in place.
struct DecodeInPlace<'d, 'a> {
    decode: DecodeChunks<'d, 'a>,
    elements: &'d mut [u8],
}

impl Operation for DecodeInPlace<'_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Result<(), Error> {
        let DecodeInPlace { decode, elements } = self;
        let frame = decode.frame;
        let element_type = frame.header.element_type;
        let size = element_type.bytes();
        let mut planes: [&[u8]; PLANES] = [&[]; PLANES];
        planes.iter_mut().zip(frame.planes()).for_each(|(to, plane)| *to = plane);
        let first = decode.chunks.start * CHUNK;
        decode.each(simd, |codes, range| {
            let (start, n) = ((range.start - first) * size, range.len());
            // What follows the coded bytes is not decoded yet.
            let coded = elements.get_mut(start + (size - 1) * n..).unwrap_or_default();
            decode.dictionary.decode(simd, codes, coded, n)?;
            let elements = elements.get_mut(start..start + size * n).unwrap_or_default();
            planes::merge(
                element_type,
                elements,
                planes.map(|plane| plane.get(range.clone()).unwrap_or_default()),
            );
            Ok(())
        })
    }
}

/// Decodes chunks of BF16: coded bytes go to the stack, and what is merged goes past the caches.
#[cfg(feature = "alloc")]
struct DecodePast<'d, 'a> {
    decode: DecodeChunks<'d, 'a>,
    elements: &'d mut [u8],
}

#[cfg(feature = "alloc")]
impl Operation for DecodePast<'_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Result<(), Error> {
        let DecodePast { decode, elements } = self;
        Writer::lend(simd, elements, true, decode)
    }
}

#[cfg(feature = "alloc")]
impl Write for DecodeChunks<'_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, writer: &mut Writer<'_, S>) -> Result<(), Error> {
        /// What a group of the writer leaves over goes before the next chunk.
        const BEFORE: usize = 64;
        let mut memory = [0; BEFORE + CHUNK + ROOM];
        let plane = self.frame.planes().next().unwrap_or_default();
        let first = self.chunks.start * CHUNK;
        let end = self.chunks.end.saturating_mul(CHUNK).min(self.frame.header.len);
        // Symbols that are left over at the front.
        let mut left = 0;
        self.each(simd, |codes, range| {
            let n = range.len();
            self.dictionary.decode(simd, codes, &mut memory[left..], n)?;
            let at = range.start - left;
            let whole = if range.end == end { left + n } else { writer.whole_groups(at - first, left + n) };
            writer.merge(at - first, &memory[..whole], &plane[at..at + whole]);
            memory.copy_within(whole..left + n, 0);
            left += n;
            left -= whole;
            Ok(())
        })
    }
}
