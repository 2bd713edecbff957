//! Decoding a frame on several threads.

use alloc::vec::Vec;
use core::ops::Range;

use rayon::prelude::*;

use super::{Decoder, Frame, Table};
use crate::Error;

/// Blocks that one thread decodes at a time, a multiple of what is decoded side by side.
const BLOCKS: usize = 16;

impl Frame<'_> {
    /// Decodes a run of blocks like [`decode_blocks_into`](Self::decode_blocks_into), on the
    /// threads of the current rayon pool.
    ///
    /// # Errors
    ///
    /// As [`decode_blocks_into`](Self::decode_blocks_into), for the first blocks that are damaged.
    pub fn decode_blocks_parallel_into(
        &self,
        table: &(impl Table + Sync),
        blocks: Range<usize>,
        elements: &mut [u8],
    ) -> Result<(), Error> {
        let header = self.header();
        let part = BLOCKS * header.block_len() * header.element_type().bytes();
        if rayon::current_num_threads() == 1 || elements.len() <= part {
            return self.decode_blocks_into(table, blocks, elements);
        }
        self.expect_blocks(&blocks, elements)?;
        let parts = elements.par_chunks_mut(part).enumerate().with_max_len(1);
        let results: Vec<_> = parts
            .map(|(i, part)| {
                let first = blocks.start + BLOCKS * i;
                self.decode_blocks_into(table, first..blocks.end.min(first + BLOCKS), part)
            })
            .collect();
        results.into_iter().collect()
    }
}

impl Decoder<'_> {
    /// Decodes all elements like [`decode_into`](Self::decode_into), on the threads of the current
    /// rayon pool.
    ///
    /// # Errors
    ///
    /// As [`decode_into`](Self::decode_into).
    ///
    /// ```
    /// use df11::frame::{self, ElementType, Frame};
    ///
    /// let elements: Vec<u8> = (0..3_000_000u32).map(|i| (i % 17) as u8).collect();
    /// let bytes = frame::encode(ElementType::U8, &[3_000_000], &elements)?;
    /// let mut decoded = vec![0; elements.len()];
    /// Frame::new(&bytes)?.decoder().decode_parallel_into(&mut decoded)?;
    /// assert!(decoded == elements);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn decode_parallel_into(&self, elements: &mut [u8]) -> Result<(), Error> {
        self.frame.decode_blocks_parallel_into(&*self.table, 0..self.frame.header().blocks(), elements)
    }

    /// Decodes any range of the elements like [`decode_range_into`](Self::decode_range_into), on
    /// the threads of the current rayon pool.
    ///
    /// # Errors
    ///
    /// As [`decode_range_into`](Self::decode_range_into).
    pub fn decode_range_parallel_into(&self, range: Range<usize>, elements: &mut [u8]) -> Result<(), Error> {
        self.decode_range_with(range, elements, |blocks, elements| {
            self.frame.decode_blocks_parallel_into(&*self.table, blocks, elements)
        })
    }
}
