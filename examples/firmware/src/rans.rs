//! A frame in flash, coded by rANS.

use df11_core::Error;
use df11_core::frame::Frame;
use df11_core::rans::DecodeTable;

use crate::constants::{COLUMNS, FRAME_BLOCK, ROW};
use crate::measure::{Counter, Measured};
use crate::print::{Hex, checksum, say};
use crate::ram::Ram;
use crate::weights;

weights! {
    FRAME = "frame";
    DAMAGED_FRAME = "damaged_frame";
}

/// Room for the weights of one block.
static BUFFER: Ram<[u8; 2 * FRAME_BLOCK]> = Ram::new([0; 2 * FRAME_BLOCK]);

/// What slots mean.
static TABLE: Ram<DecodeTable> = Ram::new(DecodeTable::EMPTY);

/// Decodes all blocks, one after the other, to the same buffer; returns the checksum of all weights.
fn restore(
    frame: &[u8],
    table: &mut DecodeTable,
    buffer: &mut [u8],
    counter: &mut Counter,
) -> Result<u32, Error> {
    // Looked at where it is: a frame takes most of a KiB, and moving it out of the result would take as much stack again.
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

/// Decodes the blocks that hold one row of the matrix; returns its checksum. The table is as [`restore`] has built it.
fn row(table: &DecodeTable, buffer: &mut [u8], counter: &mut Counter) -> Result<u32, Error> {
    let frame = Frame::new(&FRAME);
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

/// Restores everything, then a row; then shows that damaged frames are refused. `false` if anything was not as it should be.
pub(crate) fn run() -> bool {
    let (Some(buffer), Some(table)) = (BUFFER.take(), TABLE.take()) else { return false };
    let (sum, all) = Measured::of(|counter| restore(&FRAME, table, buffer, counter));
    let (row_sum, row) = Measured::of(|counter| row(table, buffer, counter));
    let (Ok(sum), Ok(row_sum)) = (sum, row_sum) else { return false };
    let weights = Frame::new(&FRAME).map_or(0, |frame| frame.header().len()) as u32;
    say!["rans: ", weights, " weights, checksum ", Hex(sum), "\n"];
    say!["rans: row ", ROW as u32, ", checksum ", Hex(row_sum), "\n"];

    // A piece of the header, in RAM, with the number of the version changed.
    let Some(mut start) = FRAME.first_chunk::<32>().copied() else { return false };
    start[8] = start[8].wrapping_add(1);
    let damaged: [(_, &[u8]); 3] = [
        ("a bit of a block changed", &DAMAGED_FRAME),
        ("another version", &start),
        ("the last byte missing", FRAME.split_last().map_or(&[], |(_, rest)| rest)),
    ];
    let mut stack = all.stack.max(row.stack);
    for (what, frame) in damaged {
        let (result, refusing) = Measured::of(|counter| restore(frame, table, buffer, counter));
        let Err(error) = result else { return false };
        say!["rans: ", what, ": ", error, "\n"];
        stack = stack.max(refusing.stack);
    }
    say!["measured rans weights=", weights, " instructions=", all.instructions];
    say![" row_instructions=", row.instructions, " stack=", stack];
    say![
        " flash=",
        FRAME.len() as u32,
        " buffer=",
        buffer.len() as u32,
        " table_ram=",
        size_of::<DecodeTable>() as u32,
        " table_flash=0\n"
    ];
    true
}
