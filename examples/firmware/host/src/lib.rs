//! The weights in the images: rows of a matrix of the model that ships with the command, as a DF11
//! unit and as frames with rANS and with a dictionary, each with a copy in which one bit is
//! changed.
//!
//! The build script of the images calls [`files`]. Nothing that it makes is checked in, so nothing
//! can be out of date.

use std::error::Error;

use df11::EncodedUnit;
use df11::frame::{Codec, DecodeTable, ElementType, EncodeOptions, Frame};
use safetensors::SafeTensors;

/// The file of the weights.
pub const SOURCE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../../cli/demo/model-00001-of-00002.safetensors");

/// The tensor in that file.
pub const TENSOR: &str = "encoder.layer.0.attention.self.query.weight";

/// The number of rows taken from the matrix.
pub const ROWS: usize = 96;

/// The number of weights in a row.
pub const COLUMNS: usize = 384;

/// The number of the row that is decoded alone.
pub const ROW: usize = 61;

/// The number of elements in a block of the frame: the fewest that FRAME.md permits (F-3.1), so
/// that the buffer for one is small.
pub const BLOCK: usize = 4096;

/// Returns the weights, two little-endian bytes each.
///
/// # Errors
///
/// If the file is not the one that ships with the repository.
pub fn weights() -> Result<Vec<u8>, Box<dyn Error>> {
    let file = std::fs::read(SOURCE)?;
    let file = SafeTensors::deserialize(&file)?;
    let tensor = file.tensor(TENSOR)?;
    if tensor.shape().get(1) != Some(&COLUMNS) {
        return Err(format!("{TENSOR} has the shape {:?}", tensor.shape()).into());
    }
    Ok(tensor.data().get(..2 * ROWS * COLUMNS).ok_or("too few rows")?.to_vec())
}

/// Encodes the weights as a DF11 unit.
///
/// # Errors
///
/// The errors of [`weights`].
pub fn unit() -> Result<EncodedUnit, Box<dyn Error>> {
    Ok(df11::encode(&weights()?)?)
}

/// Changes one bit in the middle of a unit's code.
#[must_use]
pub fn damaged_unit(mut unit: EncodedUnit) -> EncodedUnit {
    let middle = unit.encoded_exponent.len() / 2;
    if let Some(byte) = unit.encoded_exponent.get_mut(middle) {
        *byte ^= 0x10;
    }
    unit
}

/// Encodes the weights as a frame of this codec.
///
/// # Errors
///
/// The errors of [`weights`].
pub fn frame(codec: Codec) -> Result<Vec<u8>, Box<dyn Error>> {
    let weights = weights()?;
    let shape = [ROWS as u64, COLUMNS as u64];
    let options = EncodeOptions::new().codec(codec).block_len(BLOCK);
    Ok(options.encode(ElementType::Bf16, &shape, &weights)?)
}

/// Changes one bit in the middle of a frame.
#[must_use]
pub fn damaged_frame(mut frame: Vec<u8>) -> Vec<u8> {
    let middle = frame.len() / 2;
    if let Some(byte) = frame.get_mut(middle) {
        *byte ^= 0x10;
    }
    frame
}

/// The name of a file, and its content.
pub type File = (&'static str, Vec<u8>);

/// Makes the files that the images include.
///
/// # Errors
///
/// The errors of [`weights`], and an error if an encoding does not decode to the weights.
pub fn files() -> Result<Vec<File>, Box<dyn Error>> {
    let (weights, unit) = (weights()?, unit()?);
    let (rans, dictionary) = (frame(Codec::Rans)?, frame(Codec::Dictionary)?);
    let mut restored = vec![0; weights.len()];
    unit.as_unit().decode_into(&mut restored)?;
    if restored != weights {
        return Err("the unit holds other weights".into());
    }
    for frame in [&rans, &dictionary] {
        restored.fill(0);
        Frame::new(frame)?.decode_in(&mut Box::new(DecodeTable::new()), &mut restored)?;
        if restored != weights {
            return Err("a frame holds other weights".into());
        }
    }
    let constants = format!(
        "/// Weights of a row.\npub(crate) const COLUMNS: usize = {COLUMNS};\n\
         /// The row that is decoded alone.\npub(crate) const ROW: usize = {ROW};\n\
         /// The most weights of a block of the unit.\npub(crate) const UNIT_BLOCK: usize = {};\n\
         /// The most weights of a block of the frame.\n\
         pub(crate) const FRAME_BLOCK: usize = {BLOCK};\n",
        unit.as_unit().largest_block(),
    );
    Ok(vec![
        ("constants.rs", constants.into_bytes()),
        ("damaged_frame", damaged_frame(rans.clone())),
        ("frame", rans),
        ("damaged_dictionary", damaged_frame(dictionary.clone())),
        ("dictionary", dictionary),
        ("damaged_code", damaged_unit(unit.clone()).encoded_exponent),
        ("luts", unit.luts),
        ("code", unit.encoded_exponent),
        ("sign_mantissa", unit.sign_mantissa),
        ("positions", unit.output_positions),
        ("gaps", unit.gaps),
        ("splits", unit.split_positions),
    ])
}
