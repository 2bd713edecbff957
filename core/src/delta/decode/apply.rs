//! Applying whole deltas, ranges of them, and in place.

use core::ops::Range;

use super::super::view::{Body, Coded, Entries};
use super::super::{CHUNK, DecodeTable, Delta, LONGEST_BLOCK};
use super::{Decode, Place, Run, Shared};
use crate::frame::{Frame, RansTable};
use crate::hazmat::frame::crc;
use crate::{DeltaPart, Error};

/// Compares the checksum of elements of the base.
fn check_base(part: DeltaPart, expected: u32, elements: &[u8]) -> Result<(), Error> {
    let found = crc(0, elements);
    if found == expected { Ok(()) } else { Err(Error::DeltaBase { part, expected, found }) }
}

/// Compares the checksum of elements of the result.
fn check_result(part: DeltaPart, expected: u32, elements: &[u8]) -> Result<(), Error> {
    let found = crc(0, elements);
    if found == expected { Ok(()) } else { Err(Error::DeltaResult { part, expected, found }) }
}

impl Delta<'_> {
    /// Restores all elements, in memory of the caller; see [`apply`](Self::apply).
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply), and [`Error::BufferLength`] if `out` is not as long as the
    /// elements.
    pub fn apply_in(&self, table: &mut DecodeTable, base: &[u8], out: &mut [u8]) -> Result<(), Error> {
        self.build(table)?;
        self.expect_len("out", self.len, out.len(), true)?;
        self.apply_range_in(table, base, 0..self.len, out)
    }

    /// Restores a range of elements. `table` must have been [built](Self::build) for this delta.
    /// Blocks are decoded in whole, whatever part of them is asked for.
    ///
    /// The checksum of the result is compared for blocks that lie in the range; for others, those
    /// of the delta and of the base vouch (B-6.1).
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply); [`Error::RangeOutOfBounds`], [`Error::BufferLength`];
    /// [`Error::OtherTable`] if the table is of another delta. `out` then holds nothing that may be
    /// used.
    pub fn apply_range_in(
        &self,
        table: &DecodeTable,
        base: &[u8],
        range: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let size = self.element_type.bytes();
        if range.start > range.end || range.end > self.len {
            return Err(Error::RangeOutOfBounds { start: range.start, end: range.end, len: self.len });
        }
        self.expect_len("out", range.len(), out.len(), true)?;
        self.expect_len("base", self.common, base.len(), false)?;
        let base = &base[..self.common * size];
        let common = range.start.min(self.common)..range.end.min(self.common);
        let (of_base, rest) = out.split_at_mut(common.len() * size);
        if !of_base.is_empty() {
            self.apply_common(table, base, common, of_base)?;
        }
        if rest.is_empty() {
            return Ok(());
        }
        let Some(frame) = self.frame else { return Ok(()) };
        let frame = Frame::new(frame)?;
        let part = range.start.max(self.common) - self.common..range.end - self.common;
        if part == (0..frame.header().len()) {
            return frame.decode_in(&mut RansTable::new(), rest);
        }
        // What a range cuts off of a block of a frame needs memory.
        #[cfg(feature = "alloc")]
        return frame.decoder().decode_range_into(part, rest);
        #[cfg(not(feature = "alloc"))]
        Err(Error::RangeOutOfBounds { start: range.start, end: range.end, len: self.common })
    }

    /// Restores the common elements of a range.
    fn apply_common(
        &self,
        table: &DecodeTable,
        base: &[u8],
        range: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let size = self.element_type.bytes();
        let of_base = &base[range.start * size..range.end * size];
        match &self.body {
            Body::Frame => Ok(()),
            Body::Same { elements } => {
                out.copy_from_slice(of_base);
                check_base(DeltaPart::Elements, *elements, base)
            }
            Body::List { base: expected, result, entries } => {
                out.copy_from_slice(of_base);
                check_base(DeltaPart::Elements, *expected, base)?;
                self.put_entries(*entries, range.clone(), out);
                if range.len() == self.common {
                    check_result(DeltaPart::Elements, *result, out)?;
                }
                Ok(())
            }
            Body::Coded(coded) => {
                let shared = self.shared(coded, table)?;
                let mut waiting = Waiting::default();
                let mut rest = out;
                for (number, block) in coded.blocks().enumerate() {
                    let of_block = self.block_range(number);
                    let start = range.start.max(of_block.start);
                    let end = range.end.min(of_block.end);
                    if start >= end {
                        continue;
                    }
                    let (out, after) = core::mem::take(&mut rest).split_at_mut((end - start) * size);
                    rest = after;
                    let base = &base[of_block.start * size..of_block.end * size];
                    block.check(number)?;
                    check_base(DeltaPart::Block(number as u64), block.base_crc, base)?;
                    let first = (start - of_block.start) * size;
                    if coded.map.is_some() {
                        // Without a map, every chunk is written.
                        out.copy_from_slice(&base[first..first + out.len()]);
                    }
                    let whole = end - start == of_block.len();
                    let run = shared.begin(&block, Place::To { base, out, first }, size)?;
                    waiting.push(&shared, run, number, whole.then_some(block.result_crc), size)?;
                }
                waiting.finish(&shared, size)
            }
        }
    }

    /// Checks without decoding that this is the base: compares the checksums of the delta's blocks,
    /// and those of the base's elements. Several tensors that belong together can be checked so
    /// before the first is [changed](Self::apply_in_place).
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if the base is shorter than the [common](Self::common) elements,
    /// [`Error::DeltaBase`] if it is another one, [`Error::DeltaChecksum`] if a block is damaged.
    ///
    /// ```
    /// use df11::{delta::{self, Delta}, frame::ElementType};
    ///
    /// let base = [7; 4096];
    /// let bytes = delta::encode(ElementType::U8, &[8; 4096], &base)?;
    /// Delta::new(&bytes)?.verify_base(&base)?;
    /// assert!(Delta::new(&bytes)?.verify_base(&[8; 4096]).is_err());
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn verify_base(&self, base: &[u8]) -> Result<(), Error> {
        let size = self.element_type.bytes();
        self.expect_len("base", self.common, base.len(), false)?;
        let base = &base[..self.common * size];
        match &self.body {
            Body::Frame => Ok(()),
            Body::Same { elements: expected } | Body::List { base: expected, .. } => {
                check_base(DeltaPart::Elements, *expected, base)
            }
            Body::Coded(coded) => {
                let blocks = coded.blocks().zip(base.chunks(coded.block * size));
                blocks.enumerate().try_for_each(|(number, (block, base))| {
                    block.check(number)?;
                    check_base(DeltaPart::Block(number as u64), block.base_crc, base)
                })
            }
        }
    }

    /// Restores all elements over those of the base, which are the first of `elements`. Where the
    /// delta has the same number as the base, and nearly all are equal, this writes only what
    /// changes.
    ///
    /// The checksums of the delta and of the base are all compared before anything is changed.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply), and [`Error::BufferLength`] unless there is room for exactly the
    /// result. After [`Error::DeltaBase`] and [`Error::DeltaChecksum`], and where the arguments are
    /// wrong, the elements are as they were; after other errors, which only a delta that was made
    /// to deceive can cause, they are lost.
    pub fn apply_in_place(&self, table: &mut DecodeTable, elements: &mut [u8]) -> Result<(), Error> {
        let size = self.element_type.bytes();
        self.build(table)?;
        self.expect_len("elements", self.len, elements.len(), true)?;
        let (common, rest) = elements.split_at_mut(self.common * size);
        self.verify_base(common)?;
        match &self.body {
            Body::Frame | Body::Same { .. } => {}
            Body::List { result, entries, .. } => {
                self.put_entries(*entries, 0..self.common, common);
                check_result(DeltaPart::Elements, *result, common)?;
            }
            Body::Coded(coded) => {
                let shared = self.shared(coded, table)?;
                let mut waiting = Waiting::default();
                for (number, (block, elements)) in
                    coded.blocks().zip(common.chunks_mut(coded.block * size)).enumerate()
                {
                    let run = shared.begin(&block, Place::Over(elements), size)?;
                    waiting.push(&shared, run, number, Some(block.result_crc), size)?;
                }
                waiting.finish(&shared, size)?;
            }
        }
        match self.frame {
            Some(frame) => Frame::new(frame)?.decode_in(&mut RansTable::new(), rest),
            None => Ok(()),
        }
    }

    /// Restores all elements.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if the base is shorter than the [common](Self::common) elements,
    /// [`Error::DeltaBase`] if it is another one; [`Error::DeltaChecksum`], [`Error::DeltaCount`],
    /// [`Error::DeltaResult`], [`Error::LaneState`], [`Error::WordsMissing`], [`Error::WordsLeft`]
    /// or [`Error::LastState`] if a block is damaged; errors of frames.
    #[cfg(feature = "alloc")]
    pub fn apply(&self, base: &[u8]) -> Result<alloc::vec::Vec<u8>, Error> {
        let mut table = alloc::boxed::Box::new(DecodeTable::new());
        self.expect_len("base", self.common, base.len(), false)?;
        let mut out = alloc::vec![0; self.len * self.element_type.bytes()];
        self.apply_in(&mut table, base, &mut out)?;
        Ok(out)
    }

    fn expect_len(&self, buffer: &'static str, len: usize, found: usize, exactly: bool) -> Result<(), Error> {
        let expected = len * self.element_type.bytes();
        if if exactly { found != expected } else { found < expected } {
            return Err(Error::BufferLength { buffer, expected: expected as u64, found: found as u64 });
        }
        Ok(())
    }

    fn shared<'a>(&self, coded: &'a Coded<'a>, table: &'a DecodeTable) -> Result<Shared<'a>, Error> {
        if table.of != self.check {
            return Err(Error::OtherTable);
        }
        Ok(Shared { element_type: self.element_type, kind: self.kind(), coded, table })
    }

    /// Puts the entries of a list that lie in a range.
    fn put_entries(&self, entries: Entries<'_>, range: Range<usize>, out: &mut [u8]) {
        let size = self.element_type.bytes();
        for (at, element) in entries {
            let place = at.checked_sub(range.start).filter(|_| at < range.end).map(|at| at * size);
            if let Some(to) = place.and_then(|at| out.get_mut(at..at + size)) {
                to.copy_from_slice(element);
            }
        }
    }
}

/// Blocks that wait until there are several to decode at once.
#[derive(Default)]
struct Waiting<'a, 'p> {
    first: Option<(Run<'a, 'p>, usize, Option<u32>)>,
}

impl<'a, 'p> Waiting<'a, 'p> {
    fn push(
        &mut self,
        shared: &Shared<'a>,
        run: Run<'a, 'p>,
        number: usize,
        result: Option<u32>,
        size: usize,
    ) -> Result<(), Error> {
        let Some((before, before_number, before_result)) = self.first.take() else {
            self.first = Some((run, number, result));
            return Ok(());
        };
        let mut runs = [before, run];
        shared.level().dispatch(Decode { shared, runs: &mut runs, size })?;
        let [before, run] = &runs;
        before.check(before_number, before_result)?;
        run.check(number, result)
    }

    fn finish(&mut self, shared: &Shared<'a>, size: usize) -> Result<(), Error> {
        let Some((mut run, number, result)) = self.first.take() else { return Ok(()) };
        shared.level().dispatch(Decode { shared, runs: core::slice::from_mut(&mut run), size })?;
        run.check(number, result)
    }
}

impl Run<'_, '_> {
    fn check(&self, number: usize, result: Option<u32>) -> Result<(), Error> {
        let elements = match &self.place {
            Place::Over(elements) => elements,
            Place::To { out, .. } => out,
        };
        result.map_or(Ok(()), |expected| check_result(DeltaPart::Block(number as u64), expected, elements))
    }
}

const _: () = assert!(LONGEST_BLOCK.is_multiple_of(CHUNK * 64));
