//! Tensors that are stored as frames: one `U8` tensor each, under the name of the original.

use df11_core::frame::{self, BLOCK, ElementType, Frame};
use df11_core::rans::DecodeTable;
use safetensors::tensor::Dtype;

use crate::container::{Container, Tensor};
use crate::error::Error;
use crate::metadata::TensorMetadata;

/// Blocks decoded at a time, a multiple of the four that the decoder takes in turn.
const BLOCKS: usize = 16;

/// What the elements of a frame for this type are: plain bytes where frames know no better.
fn element_type(dtype: Dtype) -> ElementType {
    match dtype {
        Dtype::BF16 => ElementType::Bf16,
        Dtype::F16 => ElementType::F16,
        Dtype::F32 => ElementType::F32,
        Dtype::F8_E4M3 => ElementType::F8E4M3,
        Dtype::F8_E5M2 => ElementType::F8E5M2,
        _ => ElementType::U8,
    }
}

/// The frame of a tensor; `None` if it is not smaller than the tensor.
pub(crate) fn encode(container: &Container, tensor: &Tensor) -> Result<Option<Vec<u8>>, Error> {
    let mapped = container.map(tensor)?;
    let element_type = element_type(tensor.dtype);
    let shape: Vec<u64> = if element_type.name() == tensor.dtype.to_string() {
        tensor.shape.iter().map(|&dimension| dimension as u64).collect()
    } else {
        vec![mapped.len() as u64]
    };
    let refused = |error: df11_core::Error| Error::tensor(&container.path, &tensor.name, error.to_string());
    let frame = frame::encode(element_type, &shape, &mapped).map_err(refused)?;
    Ok(Some(frame).filter(|frame| frame.len() < mapped.len()))
}

/// Decodes a frame, and gives its elements away in order, with the offset of each part in bytes.
pub(crate) fn decode(
    container: &Container,
    tensor: &Tensor,
    mut each: impl FnMut(usize, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mapped = container.map(tensor)?;
    let refused = |error: df11_core::Error| Error::tensor(&container.path, &tensor.name, error.to_string());
    let frame = Frame::new(&mapped).map_err(refused)?;
    let mut table = Box::new(DecodeTable::EMPTY);
    frame.build(&mut table);
    let size = frame.header().element_type().bytes();
    let mut elements = vec![0; frame.elements_bytes().min(BLOCKS * BLOCK * size)];
    for first in (0..frame.header().blocks()).step_by(BLOCKS) {
        let blocks = first..frame.header().blocks().min(first + BLOCKS);
        let (start, end) =
            (frame.header().block_range(first).start, frame.header().block_range(blocks.end - 1).end);
        let elements = &mut elements[..(end - start) * size];
        frame.decode_blocks_into(&table, blocks, elements).map_err(refused)?;
        each(start * size, elements)?;
    }
    Ok(())
}

/// The bytes that a frame decodes to, if it is one for such a tensor.
pub(crate) fn original_bytes(
    container: &Container,
    tensor: &Tensor,
    original: &TensorMetadata,
) -> Result<u64, Error> {
    let wrong = |problem: String| Error::tensor(&container.path, &tensor.name, problem);
    if tensor.dtype != Dtype::U8 || tensor.shape.len() != 1 {
        return Err(wrong(format!(
            "should hold a frame, but has type {} and {} dimensions",
            tensor.dtype,
            tensor.shape.len()
        )));
    }
    let mapped = container.map(tensor)?;
    let frame = Frame::new(&mapped).map_err(|error| wrong(error.to_string()))?;
    let header = frame.header();
    let name = header.element_type().name();
    let is_same =
        name == original.dtype && header.shape().eq(original.shape.iter().map(|&dimension| dimension as u64));
    if !is_same && header.element_type() != ElementType::U8 {
        return Err(wrong(format!(
            "holds a frame of {name}, but was {} of shape {:?}",
            original.dtype, original.shape
        )));
    }
    Ok(frame.elements_bytes() as u64)
}
