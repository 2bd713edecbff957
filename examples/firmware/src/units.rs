//! A DF11 unit in flash.

use df11::{Error, Parts, Unit};

use crate::constants::{COLUMNS, ROW, UNIT_BLOCK};
use crate::measure::{Counter, Measured};
use crate::print::{Hex, checksum, say};
use crate::ram::Ram;
use crate::weights;

weights! {
    LUTS = "luts";
    CODE = "code";
    DAMAGED_CODE = "damaged_code";
    SIGN_MANTISSA = "sign_mantissa";
    POSITIONS = "positions";
    GAPS = "gaps";
    SPLITS = "splits";
}

/// Room for the weights of one block.
static BUFFER: Ram<[u8; 2 * UNIT_BLOCK]> = Ram::new([0; 2 * UNIT_BLOCK]);

/// The unit, as it lies in flash.
fn tensors() -> Parts<&'static [u8]> {
    Parts::<&[u8]> {
        luts: &LUTS,
        encoded_exponent: &CODE,
        sign_mantissa: &SIGN_MANTISSA,
        output_positions: &POSITIONS,
        gaps: &GAPS,
        split_positions: &SPLITS,
    }
}

/// Decodes all blocks, one after the other, to the same buffer; returns the checksum of all
/// weights.
fn restore(tensors: Parts<&[u8]>, buffer: &mut [u8], counter: &mut Counter) -> Result<u32, Error> {
    let unit = counter.count(|| Unit::new(tensors))?;
    let mut sum = 0;
    for block in 0..unit.blocks() {
        // There is room for the largest block, so this takes no less than the block.
        let weights = buffer.get_mut(..2 * unit.block_range(block).len()).unwrap_or_default();
        counter.count(|| unit.decode_block_into(block, weights))?;
        sum = checksum(sum, weights);
    }
    Ok(sum)
}

/// Decodes one row of the matrix alone; returns its checksum.
fn row(buffer: &mut [u8], counter: &mut Counter) -> Result<u32, Error> {
    let unit = Unit::new(tensors())?;
    let weights = buffer.get_mut(..2 * COLUMNS).unwrap_or_default();
    counter.count(|| unit.decode_range_into(ROW * COLUMNS..(ROW + 1) * COLUMNS, weights))?;
    Ok(checksum(0, weights))
}

/// Restores everything, then a row; then shows that damaged units are refused. `false` if anything
/// was not as it should be.
pub(crate) fn run() -> bool {
    let Some(buffer) = BUFFER.take() else { return false };
    let (sum, all) = Measured::of(|counter| restore(tensors(), buffer, counter));
    let (row_sum, row) = Measured::of(|counter| row(buffer, counter));
    let (Ok(sum), Ok(row_sum)) = (sum, row_sum) else { return false };
    say!["df11: ", SIGN_MANTISSA.len() as u32, " weights, checksum ", Hex(sum), "\n"];
    say!["df11: row ", ROW as u32, ", checksum ", Hex(row_sum), "\n"];

    let mut positions = POSITIONS;
    let Some(second) = positions.get_mut(4..8) else { return false };
    second.fill(0);
    let gaps = GAPS.get(1..).unwrap_or_default();
    let damaged = [
        ("a bit of the code changed", Parts::<&[u8]> { encoded_exponent: &DAMAGED_CODE, ..tensors() }),
        ("a position set to 0", Parts::<&[u8]> { output_positions: &positions, ..tensors() }),
        ("a byte of the gaps missing", Parts::<&[u8]> { gaps, ..tensors() }),
    ];
    let mut stack = all.stack.max(row.stack);
    for (what, tensors) in damaged {
        let (result, refusing) = Measured::of(|counter| restore(tensors, buffer, counter));
        let Err(error) = result else { return false };
        say!["df11: ", what, ": ", error, "\n"];
        stack = stack.max(refusing.stack);
    }
    let flash: usize = tensors().into_array().map(<[u8]>::len).into_iter().sum();
    say!["measured df11 weights=", SIGN_MANTISSA.len() as u32, " instructions=", all.instructions];
    say![" row_instructions=", row.instructions, " stack=", stack];
    say![
        " flash=",
        flash as u32,
        " buffer=",
        buffer.len() as u32,
        " table_ram=0 table_flash=",
        LUTS.len() as u32,
        "\n"
    ];
    true
}
