//! Frames in flash.

use df11::Error;
use df11::frame::{Frame, Table};

use crate::constants::{COLUMNS, FRAME_BLOCK, ROW};
use crate::measure::{Counter, Measured};
use crate::print::{Hex, checksum, say};
use crate::ram::Ram;

/// A frame, and the name of its codec.
pub(crate) struct Image {
    pub(crate) codec: &'static str,
    pub(crate) frame: &'static [u8],
    /// The frame with one bit changed.
    pub(crate) damaged: &'static [u8],
}

/// Room for the weights of one block.
pub(crate) type Buffer = Ram<[u8; 2 * FRAME_BLOCK]>;

/// Decodes all blocks, one after the other, to the same buffer; returns the checksum of all
/// weights.
fn restore(
    frame: &[u8],
    table: &mut impl Table,
    buffer: &mut [u8],
    counter: &mut Counter,
) -> Result<u32, Error> {
    // The frame stays in place: it takes most of a KiB, and moving it out of the result would take
    // the same amount of stack again.
    let frame = counter.count(|| Frame::new(frame));
    let frame = frame.as_ref().map_err(|error| *error)?;
    counter.count(|| frame.build(table));
    let mut sum = 0;
    for block in 0..frame.header().blocks() {
        let weights = buffer.get_mut(..2 * frame.header().block_range(block).len()).unwrap_or_default();
        counter.count(|| frame.decode_block_into(table, block, weights))?;
        sum = checksum(sum, weights);
    }
    Ok(sum)
}

/// Decodes the blocks that hold one row of the matrix, and returns its checksum. [`restore`] must
/// have built the table.
fn row(frame: &[u8], table: &impl Table, buffer: &mut [u8], counter: &mut Counter) -> Result<u32, Error> {
    let frame = Frame::new(frame);
    let frame = frame.as_ref().map_err(|error| *error)?;
    let (start, end) = (ROW * COLUMNS, (ROW + 1) * COLUMNS);
    let mut sum = 0;
    for block in start / FRAME_BLOCK..end.div_ceil(FRAME_BLOCK) {
        let range = frame.header().block_range(block);
        let weights = buffer.get_mut(..2 * range.len()).unwrap_or_default();
        counter.count(|| frame.decode_block_into(table, block, weights))?;
        let (start, end) = (start.max(range.start) - range.start, end.min(range.end) - range.start);
        sum = checksum(sum, weights.get(2 * start..2 * end).unwrap_or_default());
    }
    Ok(sum)
}

/// Restores everything, then a row, and then shows that damaged frames are refused. Returns `false`
/// if a result was wrong.
pub(crate) fn run<T: Table>(image: &Image, table: &'static Ram<T>, buffer: &'static Buffer) -> bool {
    let Image { codec, frame, damaged } = *image;
    let (Some(buffer), Some(table)) = (buffer.take(), table.take()) else { return false };
    let (sum, all) = Measured::of(|counter| restore(frame, table, buffer, counter));
    let (row_sum, row) = Measured::of(|counter| row(frame, table, buffer, counter));
    let (Ok(sum), Ok(row_sum)) = (sum, row_sum) else { return false };
    let weights = Frame::new(frame).map_or(0, |frame| frame.header().len()) as u32;
    say![codec, ": ", weights, " weights, checksum ", Hex(sum), "\n"];
    say![codec, ": row ", ROW as u32, ", checksum ", Hex(row_sum), "\n"];

    // A part of the header, in RAM, with another version number.
    let Some(mut start) = frame.first_chunk::<32>().copied() else { return false };
    start[8] = start[8].wrapping_add(1);
    let refused: [(_, &[u8]); 3] = [
        ("a bit of a block changed", damaged),
        ("another version", &start),
        ("the last byte missing", frame.split_last().map_or(&[], |(_, rest)| rest)),
    ];
    let mut stack = all.stack.max(row.stack);
    for (what, frame) in refused {
        let (result, refusing) = Measured::of(|counter| restore(frame, table, buffer, counter));
        let Err(error) = result else { return false };
        say![codec, ": ", what, ": ", error, "\n"];
        stack = stack.max(refusing.stack);
    }
    say!["measured ", codec, " weights=", weights, " instructions=", all.instructions];
    say![" row_instructions=", row.instructions, " stack=", stack];
    say![
        " flash=",
        frame.len() as u32,
        " buffer=",
        buffer.len() as u32,
        " table_ram=",
        size_of::<T>() as u32,
        " table_flash=0\n"
    ];
    true
}
