//! Prints what the images must print: the checksums of the original weights, and the errors of the
//! codec for damaged ones.
//!
//! Usage: `firmware-host [df11] [rans] [dictionary]`

use std::error::Error;
use std::io::Write;

use df11::frame::{Codec, DecodeTable, Frame};
use df11::hazmat::frame::crc;
use df11::{Parts, Unit};
use firmware_host::{COLUMNS, ROW, damaged_frame, damaged_unit, frame, unit, weights};

fn restore(tensors: Parts<&[u8]>) -> Result<Vec<u8>, df11::Error> {
    let unit = Unit::new(tensors)?;
    let mut weights = vec![0; 2 * unit.len()];
    unit.decode_into(&mut weights).map(|()| weights)
}

fn restore_frame(frame: &[u8]) -> Result<Vec<u8>, df11::Error> {
    let frame = Frame::new(frame)?;
    let mut weights = vec![0; frame.elements_bytes()];
    frame.decode_in(&mut Box::new(DecodeTable::new()), &mut weights).map(|()| weights)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let weights = weights()?;
    let row = weights.get(2 * ROW * COLUMNS..2 * (ROW + 1) * COLUMNS).ok_or("no such row")?;
    for codec in std::env::args().skip(1) {
        writeln!(out, "{codec}: {} weights, checksum {:08x}", weights.len() / 2, crc(0, &weights))?;
        writeln!(out, "{codec}: row {ROW}, checksum {:08x}", crc(0, row))?;
        let refused = match codec.as_str() {
            "df11" => {
                let unit = unit()?;
                let damaged = damaged_unit(unit.clone());
                let mut positions = unit.output_positions.clone();
                positions.get_mut(4..8).ok_or("one block")?.fill(0);
                let gaps = unit.gaps.get(1..).ok_or("no gaps")?;
                [
                    ("a bit of the code changed", restore(damaged.as_slices())),
                    (
                        "a position set to 0",
                        restore(Parts { output_positions: &positions, ..unit.as_slices() }),
                    ),
                    ("a byte of the gaps missing", restore(Parts { gaps, ..unit.as_slices() })),
                ]
            }
            "rans" | "dictionary" => {
                let frame = frame(if codec == "rans" { Codec::Rans } else { Codec::Dictionary })?;
                let damaged = damaged_frame(frame.clone());
                let mut start = frame.first_chunk::<32>().ok_or("no header")?.to_owned();
                start[8] += 1;
                let cut = frame.get(..frame.len() - 1).ok_or("no frame")?;
                [
                    ("a bit of a block changed", restore_frame(&damaged)),
                    ("another version", restore_frame(&start)),
                    ("the last byte missing", restore_frame(cut)),
                ]
            }
            _ => return Err(format!("no codec {codec}").into()),
        };
        for (what, result) in refused {
            let error = result.err().ok_or("damaged weights were not refused")?;
            writeln!(out, "{codec}: {what}: {:?}, {}", error.kind(), error.clause().unwrap_or("-"))?;
        }
    }
    Ok(())
}
