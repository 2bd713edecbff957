//! Encoding a frame on several threads.

use alloc::vec::Vec;

use rayon::prelude::*;

use super::{BLOCK, Blocks, ElementType, EncodeOptions, Encoder, count};
use crate::Error;

/// Elements that one thread encodes at a time.
const PART: usize = 16 * BLOCK;

/// How often each coded byte occurs, for [`Encoder::new`], like [`count`], on the threads of the
/// current rayon pool.
///
/// # Errors
///
/// As [`count`].
pub fn count_parallel(element_type: ElementType, elements: &[u8]) -> Result<[u64; 256], Error> {
    if !elements.len().is_multiple_of(element_type.bytes()) {
        return count(element_type, elements);
    }
    let parts = elements.par_chunks(PART * element_type.bytes()).with_max_len(1);
    let counts = parts.map(|part| count(element_type, part)).collect::<Result<Vec<_>, _>>()?;
    let mut all = [0; 256];
    for counts in &counts {
        all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    Ok(all)
}

impl Encoder {
    /// Bytes of the elements that one thread encodes at a time: whole blocks.
    fn part_bytes(&self) -> usize {
        let block = self.header.block_len();
        (PART / block).max(1) * block * self.header.element_type.bytes()
    }

    /// Encodes the next elements like [`blocks`](Self::blocks), on the threads of the current rayon
    /// pool. Gives their bytes in parts, one after the other, which take about as much memory as
    /// the elements: 2^20 elements for each thread are enough at a time.
    ///
    /// # Errors
    ///
    /// As [`blocks`](Self::blocks).
    ///
    /// ```
    /// use df11::frame::{self, ElementType, Encoder};
    ///
    /// let elements: Vec<u8> = (0..3_000_000u32).map(|i| (i % 17) as u8).collect();
    /// let counts = frame::count_parallel(ElementType::U8, &elements)?;
    /// let mut encoder = Encoder::new(ElementType::U8, &[3000, 1000], &counts)?;
    /// let mut frame = encoder.header();
    /// for some in elements.chunks(rayon::current_num_threads() << 20) {
    ///     encoder.blocks_parallel(some)?.for_each(|bytes| frame.extend_from_slice(bytes));
    /// }
    /// frame.extend(encoder.finish()?);
    /// assert!(frame == frame::encode(ElementType::U8, &[3000, 1000], &elements)?);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn blocks_parallel(&mut self, elements: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Error> {
        let mut last = core::mem::take(&mut self.last);
        let result = self.encode_parts(elements, &mut last);
        self.last = last;
        let used = result?;
        Ok(self.last.iter().take(used).map(|blocks| blocks.bytes.as_slice()))
    }

    /// Encodes elements to parts, whose number it returns.
    fn encode_parts(&mut self, elements: &[u8], parts: &mut Vec<Blocks>) -> Result<usize, Error> {
        let bytes = self.part_bytes();
        let blocks = bytes / (self.header.block_len() * self.header.element_type.bytes());
        let used = elements.len().div_ceil(bytes);
        if parts.len() < used {
            parts.resize(used, Blocks::default());
        }
        let first = self.directory.len();
        let jobs = elements.par_chunks(bytes).zip(&mut *parts).enumerate().with_max_len(1);
        let encode =
            |(i, (part, to)): (usize, (&[u8], &mut Blocks))| self.encode_blocks(first + i * blocks, part, to);
        let results: Vec<_> = jobs.map(encode).collect();
        results.into_iter().collect::<Result<(), Error>>()?;
        parts.iter().take(used).try_for_each(|blocks| self.append(blocks))?;
        Ok(used)
    }
}

impl EncodeOptions {
    /// Encodes a tensor like [`encode`](Self::encode), to the same bytes, on the threads of the
    /// current rayon pool.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    ///
    /// ```
    /// use df11::frame::{Codec, ElementType, EncodeOptions};
    ///
    /// let elements: Vec<u8> = (0..3_000_000u32).map(|i| (i % 17) as u8).collect();
    /// let options = EncodeOptions::new().codec(Codec::Dictionary);
    /// let frame = options.encode_parallel(ElementType::U8, &[3_000_000], &elements)?;
    /// assert!(frame == options.encode(ElementType::U8, &[3_000_000], &elements)?);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn encode_parallel(
        &self,
        element_type: ElementType,
        shape: &[u64],
        elements: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let counts = count_parallel(element_type, elements)?;
        let mut frame = Vec::new();
        let blocks = rayon::current_num_threads() * (PART / self.block_len.max(1)).max(1);
        self.encode_parts(
            element_type,
            shape,
            &counts,
            elements,
            blocks,
            &mut frame,
            |encoder, round, frame| {
                encoder.blocks_parallel(round)?.for_each(|bytes| frame.extend_from_slice(bytes));
                Ok(())
            },
        )?;
        Ok(frame)
    }
}
