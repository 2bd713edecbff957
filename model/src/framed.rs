//! Tensors that are stored as frames: one `U8` tensor each, under the name of the original.

use std::ops::Range;

use df11_core::frame::{
    self, BLOCK, Blocks, Codec, DecodeTable, ElementType, EncodeOptions, Encoder, Frame, Table,
};
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use crate::container::{Container, Tensor};
use crate::error::Error;
use crate::metadata::TensorMetadata;

/// Blocks that one thread encodes or decodes at a time, a multiple of the four that are taken in turn.
const BLOCKS: usize = 16;

/// How often each coded byte occurs, for [`Encoder::new`], counted on the threads of the current pool.
///
/// # Errors
///
/// As [`frame::count`].
pub fn count_frame(element_type: ElementType, elements: &[u8]) -> Result<[u64; 256], df11_core::Error> {
    let parts = elements.par_chunks(BLOCKS * BLOCK * element_type.bytes()).with_max_len(1);
    let counts = parts.map(|part| frame::count(element_type, part)).collect::<Result<Vec<_>, _>>()?;
    let mut all = [0; 256];
    for counts in &counts {
        all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    Ok(all)
}

/// Encodes a tensor on the threads of the current pool, to the same bytes as [`frame::encode`], and appends them to `frame`.
///
/// # Errors
///
/// As [`Encoder::blocks`] and [`Encoder::finish`]; `frame` then ends in a part of a frame.
///
/// ```
/// use df11_core::frame::{self, ElementType, Encoder};
/// use df11_model::{count_frame, encode_frame};
///
/// let weights: Vec<u8> = (0..3_000_000u32).flat_map(|i| ((100 + i % 7) as u16 * 128).to_le_bytes()).collect();
/// let counts = count_frame(ElementType::Bf16, &weights)?;
/// let mut frame = Vec::new();
/// encode_frame(Encoder::new(ElementType::Bf16, &[3000, 1000], &counts)?, &weights, &mut frame)?;
/// assert!(frame == frame::encode(ElementType::Bf16, &[3000, 1000], &weights)?);
/// # Ok::<(), df11_core::Error>(())
/// ```
pub fn encode_frame(
    mut encoder: Encoder,
    elements: &[u8],
    frame: &mut Vec<u8>,
) -> Result<(), df11_core::Error> {
    frame.extend(encoder.header());
    let part = BLOCKS * BLOCK * encoder.element_type().bytes();
    let mut encoded = vec![Blocks::default(); rayon::current_num_threads()];
    for (round, parts) in elements.chunks(encoded.len() * part).enumerate() {
        let first = round * encoded.len() * BLOCKS;
        let jobs = parts.par_chunks(part).zip(&mut encoded).enumerate().with_max_len(1);
        jobs.try_for_each(|(i, (part, blocks))| encoder.encode_blocks(first + i * BLOCKS, part, blocks))?;
        for blocks in &encoded[..parts.len().div_ceil(part)] {
            encoder.append(blocks)?;
            frame.extend_from_slice(blocks.as_bytes());
        }
    }
    frame.extend(encoder.finish()?);
    Ok(())
}

/// Decodes a run of blocks on the threads of the current pool, with the [table](Frame::build) of the frame.
///
/// # Errors
///
/// As [`Frame::decode_blocks_into`].
///
/// ```
/// use df11_core::frame::{self, DecodeTable, ElementType, Frame};
/// use df11_model::decode_frame_blocks;
///
/// let elements: Vec<u8> = (0..3_000_000u32).map(|i| (i % 17) as u8).collect();
/// let bytes = frame::encode(ElementType::U8, &[3_000_000], &elements)?;
/// let frame = Frame::new(&bytes)?;
/// let mut table = Box::new(DecodeTable::EMPTY);
/// frame.build(&mut table);
/// let mut decoded = vec![0; elements.len()];
/// decode_frame_blocks(&frame, &table, 0..frame.header().blocks(), &mut decoded)?;
/// assert!(decoded == elements);
/// # Ok::<(), df11_core::Error>(())
/// ```
pub fn decode_frame_blocks(
    frame: &Frame<'_>,
    table: &(impl Table + Sync),
    blocks: Range<usize>,
    elements: &mut [u8],
) -> Result<(), df11_core::Error> {
    let part = BLOCKS * frame.header().block_len() * frame.header().element_type().bytes();
    if rayon::current_num_threads() == 1 || elements.len() <= part {
        return frame.decode_blocks_into(table, blocks, elements);
    }
    elements.par_chunks_mut(part).enumerate().with_max_len(1).try_for_each(|(i, part)| {
        let first = blocks.start + BLOCKS * i;
        frame.decode_blocks_into(table, first..blocks.end.min(first + BLOCKS), part)
    })
}

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

/// The frame of a tensor, by this codec; `None` if it is not smaller than the tensor.
pub(crate) fn encode(container: &Container, tensor: &Tensor, codec: Codec) -> Result<Option<Vec<u8>>, Error> {
    let mapped = container.map(tensor)?;
    let element_type = element_type(tensor.dtype);
    let shape: Vec<u64> = if element_type.name() == tensor.dtype.to_string() {
        tensor.shape.iter().map(|&dimension| dimension as u64).collect()
    } else {
        vec![mapped.len() as u64]
    };
    let refused = |error: df11_core::Error| Error::tensor(&container.path, &tensor.name, error.to_string());
    let mut frame = Vec::new();
    count_frame(element_type, &mapped)
        .and_then(|counts| EncodeOptions::new().codec(codec).encoder(element_type, &shape, &counts))
        .and_then(|encoder| encode_frame(encoder, &mapped, &mut frame))
        .map_err(refused)?;
    Ok(Some(frame).filter(|frame| frame.len() < mapped.len()))
}

/// Decodes a frame, and gives its elements away in order, with the offset of each part in bytes.
pub(crate) fn decode(
    container: &Container,
    tensor: &Tensor,
    mut each: impl FnMut(usize, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mapped = container.map(tensor)?;
    let refused = |error: df11_core::Error| Error::frame(&container.path, &tensor.name, error);
    let frame = Frame::new(&mapped).map_err(refused)?;
    let mut table = Box::new(DecodeTable::EMPTY);
    frame.build(&mut table);
    let header = frame.header();
    let size = header.element_type().bytes();
    let some = BLOCKS * rayon::current_num_threads();
    let mut elements = vec![0; frame.elements_bytes().min(some * header.block_len() * size)];
    for first in (0..header.blocks()).step_by(some) {
        let blocks = first..header.blocks().min(first + some);
        let (start, end) = (header.block_range(first).start, header.block_range(blocks.end).start);
        let elements = &mut elements[..(end - start) * size];
        decode_frame_blocks(&frame, &table, blocks, elements).map_err(refused)?;
        each(start * size, elements)?;
    }
    Ok(())
}

/// The elements of a shape, if they can be counted.
pub(crate) fn elements(shape: &[usize]) -> Option<u64> {
    let shape: Vec<u64> = shape.iter().map(|&dimension| dimension as u64).collect();
    frame::element_count(&shape)
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
    let frame = Frame::new(&mapped).map_err(|error| Error::frame(&container.path, &tensor.name, error))?;
    let header = frame.header();
    let name = header.element_type().name();
    let is_same =
        name == original.dtype && header.shape().eq(original.shape.iter().map(|&dimension| dimension as u64));
    // Types that frames do not know are plain bytes to them: as many as the original must have had.
    let is_original = || {
        let dtype: Dtype = serde_json::from_value(original.dtype.as_str().into()).ok()?;
        let bits = elements(&original.shape)?.checked_mul(dtype.bitsize() as u64)?;
        Some(header.element_type() == ElementType::U8 && bits == 8 * frame.elements_bytes() as u64)
    };
    if !is_same && is_original() != Some(true) {
        return Err(wrong(format!(
            "holds a frame of {name}, but was {} of shape {:?}",
            original.dtype, original.shape
        )));
    }
    Ok(frame.elements_bytes() as u64)
}
