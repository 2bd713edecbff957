//! Tensors that are stored as frames: one `U8` tensor each, under the name of the original.

use df11::hazmat::rans::{Frequencies, STATES_BYTES};
use df11::{
    frame::{self, BLOCK, Codec, DecodeTable, ElementType, EncodeOptions, Frame, MAGIC, MAX_RANK},
    hazmat::frame::SCALE_BITS,
};
use safetensors::tensor::Dtype;

use super::metadata::TensorMetadata;
use crate::container::{Container, Tensor};
use crate::error::Error;

/// The number of blocks that one thread encodes or decodes at a time, a multiple of the four that
/// are interleaved.
const BLOCKS: usize = 16;

/// The form in which frames are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) codec: Codec,
    /// The number of elements in each block (F-3.1).
    pub(crate) block_len: usize,
}

impl Form {
    fn options(self) -> EncodeOptions {
        EncodeOptions::new().codec(self.codec).block_len(self.block_len)
    }

    /// Checks that such frames can exist.
    pub(crate) fn check(self) -> Result<(), df11::Error> {
        self.options().encoder(ElementType::U8, &[0], &[0; 256]).map(|_| ())
    }

    /// Tells whether a frame has this form, or has no model because its bytes are not worth coding.
    fn is_that_of(self, frame: &Frame<'_>) -> bool {
        let header = frame.header();
        let codec = header.codec();
        header.block_len() == self.block_len && (codec == self.codec || codec == Codec::Raw)
    }
}

/// Returns the element type of the frame for this type: plain bytes where frames have no such type.
pub(crate) fn element_type(dtype: Dtype) -> ElementType {
    match dtype {
        Dtype::BF16 => ElementType::Bf16,
        Dtype::F16 => ElementType::F16,
        Dtype::F32 => ElementType::F32,
        Dtype::F8_E4M3 => ElementType::F8E4M3,
        Dtype::F8_E5M2 => ElementType::F8E5M2,
        _ => ElementType::U8,
    }
}

/// Returns the shape that a tensor's frame records. It is empty where the frame treats the elements
/// as plain bytes. `None` if a frame cannot hold the tensor.
pub(crate) fn frame_shape(tensor: &Tensor) -> Option<Vec<u64>> {
    if element_type(tensor.dtype).name() != tensor.dtype.to_string() {
        return Some(vec![tensor.bytes()]);
    }
    let shape: Vec<u64> = tensor.shape.iter().map(|&dimension| dimension as u64).collect();
    (shape.len() <= MAX_RANK).then_some(shape)
}

/// The size in bytes of a block's header, the states of its lanes, its padding and its directory
/// entry.
const EACH_BLOCK: u64 = 16 + STATES_BYTES as u64 + 16 + 12;

/// The size in bytes of the rest of a frame, without its dimensions and its model.
const EACH_FRAME: u64 = 32 + 32 + 24 + 24;

/// A tensor of at most this size in bytes does not shrink as a frame.
pub(crate) const NO_GAIN_BYTES: u64 = EACH_FRAME + EACH_BLOCK;

/// Estimates the size in bytes of a tensor's frame, from how often its coded bytes occur.
pub(crate) fn estimate(tensor: &Tensor, counts: &[u64; 256], form: Form) -> Option<u64> {
    let element_type = element_type(tensor.dtype);
    let rank = frame_shape(tensor)?.len() as u64;
    let frequencies = Frequencies::normalise(counts, SCALE_BITS).ok()?;
    let bits = |(symbol, &count): (usize, &u64)| {
        let frequency = f64::from(frequencies.of(symbol as u8).max(1));
        count as f64 * (f64::from(SCALE_BITS) - frequency.log2())
    };
    let mut coded = counts.iter().enumerate().filter(|(_, count)| **count > 0).map(bits).sum::<f64>() / 8.0;
    if form.codec == Codec::Dictionary {
        // Strings of symbols waste more than fractions of bits: 5 % on trained weights.
        coded *= 1.0 + 1.0 / 16.0;
    }
    let elements = counts.iter().sum::<u64>();
    let symbols = counts.iter().filter(|&&count| count > 0).count() as u64;
    let raw = elements * (element_type.bytes() as u64 - 1);
    let header = EACH_FRAME + 8 * rank + 2 * symbols;
    Some(coded.ceil() as u64 + raw + header + elements.div_ceil(form.block_len as u64) * EACH_BLOCK)
}

/// Encodes a tensor as a frame, and passes its bytes on in order, with the offset of each part. The
/// tensor is never held in memory whole. Neither is the frame, unless it has a dictionary. Returns
/// the length of the frame.
pub(crate) fn encode(
    container: &Container,
    tensor: &Tensor,
    counts: &[u64; 256],
    form: Form,
    mut each: impl FnMut(&[u8], u64) -> Result<(), Error>,
) -> Result<u64, Error> {
    let refused = |error: df11::Error| Error::tensor(&container.path, &tensor.name, error.to_string());
    let element_type = element_type(tensor.dtype);
    let shape = frame_shape(tensor)
        .ok_or_else(|| Error::tensor(&container.path, &tensor.name, "has too many dimensions for a frame"))?;
    let mut encoder = form.options().encoder(element_type, &shape, counts).map_err(refused)?;
    let mut at = 0;
    let mut write_part = |bytes: &[u8]| {
        each(bytes, at)?;
        at += bytes.len() as u64;
        Ok::<(), Error>(())
    };
    write_part(&encoder.header())?;
    // Whole blocks, of which every thread gets as many as it encodes at a time.
    let round = rayon::current_num_threads() * BLOCKS * BLOCK / form.block_len * form.block_len;
    container.read_range(tensor.range.clone(), round * element_type.bytes(), |elements| {
        encoder.blocks_parallel(elements).map_err(refused)?.try_for_each(&mut write_part)
    })?;
    write_part(&encoder.finish().map_err(refused)?)?;
    Ok(at)
}

/// Tells, from its type and its first bytes, whether a tensor without metadata is a frame.
pub(crate) fn looks_like_one(container: &Container, tensor: &Tensor) -> Result<bool, Error> {
    if tensor.dtype != Dtype::U8 || tensor.shape.len() != 1 || tensor.bytes() < 64 {
        return Ok(false);
    }
    let mut is_frame = false;
    let begin = tensor.range.start..tensor.range.start + MAGIC.len() as u64;
    container.read_range(begin, MAGIC.len(), |bytes| {
        is_frame = bytes == MAGIC;
        Ok(())
    })?;
    Ok(is_frame)
}

/// Checks a frame and calls `each` with it.
fn opened<T>(
    container: &Container,
    tensor: &Tensor,
    each: impl FnOnce(&Frame<'_>) -> Result<T, String>,
) -> Result<T, Error> {
    let mapped = container.map(tensor)?;
    let frame = Frame::new(&mapped).map_err(|error| Error::frame(&container.path, &tensor.name, error))?;
    each(&frame).map_err(|problem| Error::tensor(&container.path, &tensor.name, problem))
}

/// Returns the element type and shape that a frame records.
pub(crate) fn described(container: &Container, tensor: &Tensor) -> Result<(Dtype, Vec<usize>), Error> {
    opened(container, tensor, |frame| {
        let name = frame.header().element_type().name();
        let dtype = serde_json::from_value(name.into()).unwrap_or(Dtype::U8);
        Ok((dtype, frame.header().shape().map(|dimension| dimension as usize).collect()))
    })
}

/// The number of bytes of a frame that are decoded before its pages are released.
const SEGMENT: u64 = 64 << 20;

/// Decodes a frame, and passes its elements on in order, with the offset of each part in bytes.
///
/// The frame is mapped anew from time to time, so that pages that were read are released. However
/// large the frame is, little of it is in memory.
pub(crate) fn decode(
    container: &Container,
    tensor: &Tensor,
    mut each: impl FnMut(usize, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut table = Box::new(DecodeTable::new());
    let mut elements = Vec::new();
    let mut first = 0;
    loop {
        let mapped = container.map(tensor)?;
        let refused = |error: df11::Error| Error::frame(&container.path, &tensor.name, error);
        let frame = Frame::new(&mapped).map_err(refused)?;
        if first == 0 {
            frame.build(&mut table);
        }
        let header = frame.header();
        let size = header.element_type().bytes();
        let round = BLOCKS * rayon::current_num_threads();
        let average = (tensor.bytes() / header.blocks().max(1) as u64).max(1);
        let segment = ((SEGMENT / average) as usize).max(round);
        let end = header.blocks().min(first + segment);
        for first in (first..end).step_by(round) {
            let blocks = first..end.min(first + round);
            let (from, to) = (header.block_range(first).start, header.block_range(blocks.end).start);
            elements.resize((to - from) * size, 0);
            frame.decode_blocks_parallel_into(&*table, blocks, &mut elements).map_err(refused)?;
            each(from * size, &elements)?;
        }
        first = end;
        if end == header.blocks() {
            return Ok(());
        }
    }
}

/// Multiplies the dimensions of a shape; `None` if the product overflows.
pub(crate) fn elements(shape: &[usize]) -> Option<u64> {
    let shape: Vec<u64> = shape.iter().map(|&dimension| dimension as u64).collect();
    frame::element_count(&shape)
}

/// Returns the number of bytes that a frame decodes to, if it is valid for such a tensor.
pub(crate) fn original_bytes(
    container: &Container,
    tensor: &Tensor,
    original: &TensorMetadata,
) -> Result<u64, Error> {
    check_stored(container, tensor)?;
    opened(container, tensor, |frame| check_original(frame, original).map(|()| frame.elements_bytes() as u64))
}

/// Checks that a frame is valid for such a tensor, in the requested form.
pub(crate) fn check_written(
    container: &Container,
    tensor: &Tensor,
    original: &TensorMetadata,
    form: Form,
) -> Result<(), Error> {
    check_stored(container, tensor)?;
    opened(container, tensor, |frame| {
        check_original(frame, original)?;
        let is_asked_for = form.is_that_of(frame);
        is_asked_for.then_some(()).ok_or_else(|| "is a frame of another form than was asked for".to_owned())
    })
}

/// Checks that a tensor is stored as frames are.
pub(crate) fn check_stored(container: &Container, tensor: &Tensor) -> Result<(), Error> {
    if tensor.dtype == Dtype::U8 && tensor.shape.len() == 1 {
        return Ok(());
    }
    let (dtype, rank) = (tensor.dtype, tensor.shape.len());
    let problem = format!("should hold a frame, but has type {dtype} and {rank} dimensions");
    Err(Error::tensor(&container.path, &tensor.name, problem))
}

/// Checks that a frame is valid for such a tensor.
pub(crate) fn check_original(frame: &Frame<'_>, original: &TensorMetadata) -> Result<(), String> {
    let header = frame.header();
    let name = header.element_type().name();
    let is_same =
        name == original.dtype && header.shape().eq(original.shape.iter().map(|&dimension| dimension as u64));
    // Frames treat types that they do not know as plain bytes. Their number must be that of the
    // original.
    let is_original = || {
        let dtype: Dtype = serde_json::from_value(original.dtype.as_str().into()).ok()?;
        let bits = elements(&original.shape)?.checked_mul(dtype.bitsize() as u64)?;
        Some(header.element_type() == ElementType::U8 && bits == 8 * frame.elements_bytes() as u64)
    };
    if !is_same && is_original() != Some(true) {
        return Err(format!(
            "holds a frame of {name}, but was {} of shape {:?}",
            original.dtype, original.shape
        ));
    }
    Ok(())
}
