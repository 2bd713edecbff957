//! A frame to be damaged.

use std::ops::Range;

use df11_core::frame::{ENTRY_BYTES, Header};
use df11_reference::frame::crc;

/// A sound frame that can be damaged, with its checksums made right again.
#[derive(Clone, Debug)]
pub struct FrameSample {
    /// Its bytes.
    pub frame: Vec<u8>,
    /// Where its header ends.
    pub header: usize,
    /// Where each block begins, and after the last, where it ends.
    pub blocks: Vec<usize>,
}

impl FrameSample {
    /// Finds the parts of a sound frame.
    ///
    /// # Panics
    ///
    /// If it is not sound.
    #[must_use]
    pub fn new(frame: Vec<u8>) -> Self {
        let (header, start) = Header::parse(&frame).unwrap();
        let mut blocks = vec![start];
        for block in 0..header.blocks() {
            let at = blocks[block];
            blocks.push(at + header.block_bytes(block, frame[at..].first_chunk().unwrap()).unwrap());
        }
        FrameSample { frame, header: start, blocks }
    }

    /// Overwrites some bytes.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.frame[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes every checksum right, of parts that are where they were.
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
        // Behind the header's checksum stand at most 12 zeros.
        let mut places = (self.header - 16..=self.header - 4).rev().step_by(4);
        let at = places.find(|at| self.frame[*at..*at + 4] != [0; 4]).unwrap();
        put_crc(&mut self, at, 0, 0..at);
        let directory = self.blocks[self.blocks.len() - 1];
        for (j, pair) in self.blocks.clone().windows(2).enumerate() {
            put_crc(&mut self, pair[0], j as u32, pair[0] + 4..pair[1]);
            put_crc(&mut self, directory + ENTRY_BYTES * j + 8, j as u32, pair[0] + 4..pair[1]);
        }
        let end = self.frame.len() - 4;
        put_crc(&mut self, end, 0, directory..end);
        self.frame
    }
}
