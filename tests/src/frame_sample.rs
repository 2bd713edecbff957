//! A frame that tests can damage.

use std::ops::Range;

use df11::frame::{Codec, Frame, Header};
use df11::hazmat::frame::{ENTRY_BYTES, TRAILER_BYTES};
use df11_reference::frame::crc;

/// A valid frame that can be damaged and then given right checksums again.
#[derive(Clone, Debug)]
pub struct FrameSample {
    /// The bytes of the frame.
    pub frame: Vec<u8>,
    /// The offset of the end of its header.
    pub header: usize,
    /// The offset of each block, and the end of the last. With a dictionary, these are the offsets
    /// of its codes.
    pub blocks: Vec<usize>,
    /// With a dictionary, the range of the numbers of groups and the planes.
    pub groups: Option<Range<usize>>,
    /// With a dictionary, the offset of each plane.
    pub planes: Vec<usize>,
}

impl FrameSample {
    /// Finds the parts of a valid frame.
    ///
    /// # Panics
    ///
    /// If the frame is not valid.
    #[must_use]
    pub fn new(frame: Vec<u8>) -> Self {
        let (header, start) = Header::parse(&frame).unwrap();
        let mut sample =
            FrameSample { header: start, blocks: vec![start], groups: None, planes: vec![], frame };
        if header.codec() == Codec::Dictionary {
            let frame = Frame::new(&sample.frame).unwrap();
            let layout = frame.chunks_layout().unwrap();
            let directory = sample.frame.len() - TRAILER_BYTES - ENTRY_BYTES * header.blocks();
            let entries = sample.frame[directory..].as_chunks::<ENTRY_BYTES>().0;
            let offset =
                |entry: &[u8; ENTRY_BYTES]| u64::from_le_bytes(*entry.first_chunk().unwrap()) as usize;
            sample.blocks = entries[..header.blocks()].iter().map(offset).chain([directory]).collect();
            sample.groups = Some(layout.groups);
            sample.planes = layout.planes[..header.element_type().bytes() - 1].to_vec();
            return sample;
        }
        for block in 0..header.blocks() {
            let at = sample.blocks[block];
            let prefix = sample.frame[at..].first_chunk().unwrap();
            sample.blocks.push(at + header.block_bytes(block, prefix).unwrap());
        }
        sample
    }

    /// Overwrites some bytes.
    ///
    /// # Panics
    ///
    /// If the bytes are out of bounds.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.frame[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Corrects every checksum, for parts that have not moved.
    ///
    /// # Panics
    ///
    /// If the checksum of the header cannot be found.
    #[must_use]
    pub fn repair(mut self) -> Vec<u8> {
        let put_crc = |sample: &mut Self, at: usize, seed: u32, of: Range<usize>| {
            let checksum = crc(seed, &sample.frame[of]).to_le_bytes();
            sample.put(at, &checksum);
        };
        // At most 12 zeros follow the header's checksum.
        let mut places = (self.header - 16..=self.header - 4).rev().step_by(4);
        let at = places.find(|at| self.frame[*at..*at + 4] != [0; 4]).unwrap();
        put_crc(&mut self, at, 0, 0..at);
        let directory = self.blocks[self.blocks.len() - 1];
        for (j, pair) in self.blocks.clone().windows(2).enumerate() {
            if self.groups.is_some() {
                let checksum = self.of_chunks(j).to_le_bytes();
                self.put(directory + ENTRY_BYTES * j + 8, &checksum);
                continue;
            }
            put_crc(&mut self, pair[0], j as u32, pair[0] + 4..pair[1]);
            put_crc(&mut self, directory + ENTRY_BYTES * j + 8, j as u32, pair[0] + 4..pair[1]);
        }
        let end = self.frame.len() - 4;
        put_crc(&mut self, end, 0, directory..end);
        self.frame
    }

    /// Computes the checksum of a block of codec dictionary (F-5.7), from the sizes in the frame.
    fn of_chunks(&self, block: usize) -> u32 {
        let Some(groups) = &self.groups else { return 0 };
        let field =
            |at: usize| self.frame[at..at + 8].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte));
        // The sizes come from the sample before damage, since the header may be damaged.
        let chunks = groups.len() / 2;
        let of_block = chunks.div_ceil(self.blocks.len() - 1).next_power_of_two();
        let (first, last) = (block * of_block, chunks.min((block + 1) * of_block));
        let groups = &self.frame[groups.start + 2 * first..groups.start + 2 * last];
        let number: usize = groups.as_chunks().0.iter().map(|n| usize::from(u16::from_le_bytes(*n))).sum();
        let start = self.blocks[block];
        let width = usize::from(self.frame[12]);
        let codes = &self.frame[start..self.frame.len().min(start + width * number)];
        let n = field(16);
        let elements = n.min(4096 * first)..n.min(4096 * last);
        let planes = self.planes.iter().map(|plane| {
            let range = plane + elements.start..plane + elements.end;
            self.frame.get(range).unwrap_or_default()
        });
        let mut checksum = crc(block as u32, &[groups, codes].concat());
        for plane in planes {
            checksum = crc(checksum, plane);
        }
        checksum
    }
}
