//! Decoding a unit on several threads.

use alloc::vec::Vec;
use core::ops::Range;

use rayon::prelude::*;

use super::Decoder;
use super::lanes::STREAM_BYTES;
use crate::{Error, bf16};

/// Parts that each thread gets, so that none waits for long at the end.
const PARTS: usize = 4;

/// Blocks of a part are at least this many, a multiple of what lanes decode side by side.
const LEAST_BLOCKS: usize = 24;

impl Decoder<'_> {
    /// Decodes the whole unit like [`decode_into`](Self::decode_into), on the threads of the
    /// current rayon pool.
    ///
    /// # Errors
    ///
    /// As [`decode_into`](Self::decode_into): the same error, however many threads there are.
    ///
    /// ```
    /// use df11::Decoder;
    ///
    /// let weights: Vec<u8> = (0..20_000u16).flat_map(|i| ((100 + i % 4) << 7).to_le_bytes()).collect();
    /// let encoded = df11::encode(&weights)?;
    /// let mut decoded = vec![0; weights.len()];
    /// Decoder::new(&encoded.as_unit()).decode_parallel_into(&mut decoded)?;
    /// assert_eq!(decoded, weights);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn decode_parallel_into(&self, weights: &mut [u8]) -> Result<(), Error> {
        self.decode_blocks_parallel_into(0..self.unit().blocks(), weights)
    }

    /// Decodes any range of elements like [`decode_range_into`](Self::decode_range_into), on the
    /// threads of the current rayon pool.
    ///
    /// # Errors
    ///
    /// As [`decode_range_into`](Self::decode_range_into): the same error, however many threads
    /// there are.
    pub fn decode_range_parallel_into(&self, range: Range<usize>, weights: &mut [u8]) -> Result<(), Error> {
        self.decode_range_with(range, weights, |blocks, weights| {
            self.decode_blocks_parallel_into(blocks, weights)
        })
    }

    /// Decodes the whole unit and checks every gap, on the threads of the current rayon pool: see
    /// [`verify_blocks_into`](Self::verify_blocks_into).
    ///
    /// # Errors
    ///
    /// As [`verify_blocks_into`](Self::verify_blocks_into): the same error, however many threads
    /// there are.
    pub fn verify_parallel_into(&self, weights: &mut [u8]) -> Result<(), Error> {
        let blocks = 0..self.unit().blocks();
        self.unit().expect_blocks(&blocks, weights)?;
        let lengths = self.lengths();
        self.on_threads(blocks, weights, |blocks, weights, stream| {
            self.verify_part(&lengths, blocks, weights, stream)
        })
    }

    fn decode_blocks_parallel_into(&self, blocks: Range<usize>, weights: &mut [u8]) -> Result<(), Error> {
        self.unit().expect_blocks(&blocks, weights)?;
        self.on_threads(blocks, weights, |blocks, weights, stream| self.decode_part(blocks, weights, stream))
    }

    /// Cuts a run of blocks, which has been checked, into parts, and decodes them side by side. The
    /// error is that of the first part that has one.
    fn on_threads(
        &self,
        blocks: Range<usize>,
        weights: &mut [u8],
        decode: impl Fn(Range<usize>, &mut [u8], bool) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        let stream = weights.len() > STREAM_BYTES;
        let each = blocks.len().div_ceil(PARTS * rayon::current_num_threads()).max(LEAST_BLOCKS);
        let mut rest = weights;
        let parts: Vec<_> = (blocks.start..blocks.end)
            .step_by(each)
            .map(|first| {
                let part = first..blocks.end.min(first + each);
                let bytes = bf16::BYTES * self.unit().elements_of(&part);
                // There are as many as the blocks have elements.
                (part, rest.split_off_mut(..bytes).unwrap_or_default())
            })
            .collect();
        let parts = parts.into_par_iter().with_max_len(1);
        let results: Vec<_> = parts.map(|(blocks, weights)| decode(blocks, weights, stream)).collect();
        results.into_iter().collect()
    }
}
