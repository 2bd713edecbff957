//! Tensors that are stored against those of a base (`spec/DELTA.md`): finding the base's tensor
//! when they are compressed, and decoding when they are read.

mod bases;
mod ranges;

use df11::delta::{self, Delta, Method};
use rayon::prelude::*;

pub(crate) use bases::Bases;
pub(crate) use ranges::{decode_range, decode_whole};

use crate::container::{Container, Tensor};
use crate::error::Error;
use crate::packed::metadata::{DeltaMetadata, TensorMetadata};
use crate::packed::{Part, Single, frame};

/// The most deltas that are decoded one after the other for one tensor (B-8.3).
pub(crate) const DEEPEST: u32 = 16;

/// Tells whether a tensor is stored as a delta.
pub(crate) fn is_one(single: &Single) -> bool {
    single.frame.as_ref().is_some_and(|original| original.delta.is_some())
}

/// Tells whether a part has a tensor that is stored as a delta.
pub(crate) fn is_in(part: &Part) -> bool {
    part.singles.iter().any(is_one)
}

/// Encodes a tensor against that of a base; `None` if that is no shorter than a frame.
pub(crate) fn encode(
    bases: &Bases,
    base: &DeltaMetadata,
    container: &Container,
    tensor: &Tensor,
) -> Result<Option<Vec<u8>>, Error> {
    let elements = bases.read(&base.sha256)?;
    let new = container.map(tensor)?;
    let refused = |error: df11::Error| Error::frame(&container.path, &tensor.name, error);
    let bytes = delta::encode(frame::element_type(tensor.dtype), &new, &elements).map_err(refused)?;
    let is_delta = Delta::new(&bytes).map_err(refused)?.method() != Method::Frame;
    Ok(is_delta.then_some(bytes))
}

/// Decodes a tensor that is stored as a frame or a delta, and passes its elements on in order, with
/// the offset of each part in bytes.
pub(crate) fn decode(
    bases: &Bases,
    container: &Container,
    tensor: &Tensor,
    original: &TensorMetadata,
    mut each: impl FnMut(usize, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(base) = &original.delta else { return frame::decode(container, tensor, each) };
    bases.expect(container, tensor, base)?;
    let elements = restored(&bases.read(&base.sha256)?, container, tensor)?;
    // As large as what a reader of a plain tensor is given.
    let mut offset = 0;
    for part in elements.chunks(crate::container::CHUNK) {
        each(offset, part)?;
        offset += part.len();
    }
    Ok(())
}

/// The elements that a delta gives with those of its base.
fn restored(base: &[u8], container: &Container, tensor: &Tensor) -> Result<Vec<u8>, Error> {
    let mapped = container.map(tensor)?;
    let refused = |error: df11::Error| Error::frame(&container.path, &tensor.name, error);
    Delta::new(&mapped).and_then(|delta| delta.apply(base)).map_err(refused)
}

/// Checks a delta without its base, and that it gives such a tensor; returns its bytes.
pub(crate) fn original_bytes(
    container: &Container,
    tensor: &Tensor,
    original: &TensorMetadata,
) -> Result<u64, Error> {
    original_bytes_of(container, tensor, &container.map(tensor)?, original)
}

/// The same of a delta whose bytes are at hand.
pub(crate) fn original_bytes_of(
    container: &Container,
    tensor: &Tensor,
    stored: &[u8],
    original: &TensorMetadata,
) -> Result<u64, Error> {
    frame::check_stored(container, tensor)?;
    let refused = |error: df11::Error| Error::frame(&container.path, &tensor.name, error);
    let delta = Delta::new(stored).map_err(refused)?;
    let bytes = delta.len() as u64 * delta.element_type().bytes() as u64;
    let dtype = crate::packed::dtype_of(&original.dtype);
    let bits = frame::elements(&original.shape)
        .zip(dtype)
        .and_then(|(elements, dtype)| elements.checked_mul(dtype.bitsize() as u64));
    let fits = dtype.is_some_and(|dtype| frame::element_type(dtype) == delta.element_type());
    if !fits || bits != bytes.checked_mul(8) {
        let (dtype, shape) = (&original.dtype, &original.shape);
        let problem = format!("holds a delta of {bytes} bytes, but was {dtype} of shape {shape:?}");
        return Err(Error::tensor(&container.path, &tensor.name, problem));
    }
    Ok(bytes)
}

/// Compares all checksums of a delta that need no base.
pub(crate) fn verify_stored(container: &Container, tensor: &Tensor) -> Result<(), Error> {
    let mapped = container.map(tensor)?;
    let checked = Delta::new(&mapped).and_then(|delta| delta.verify_stored());
    checked.map_err(|error| Error::frame(&container.path, &tensor.name, error))
}

/// What a delta says of itself: its method, its elements, and how many of them changed.
pub(crate) fn described(container: &Container, tensor: &Tensor) -> Result<(&'static str, u64, u64), Error> {
    let mapped = container.map(tensor)?;
    let delta = Delta::new(&mapped).map_err(|error| Error::frame(&container.path, &tensor.name, error))?;
    Ok((delta.method().name(), delta.len() as u64, delta.changed()))
}

/// The digests of all tensors of `names` by `of`, on all threads.
fn in_turn<T: Sync, R: Send>(
    items: &[T],
    of: impl Fn(&T) -> Result<R, Error> + Sync + Send,
) -> Result<Vec<R>, Error> {
    items.par_iter().with_max_len(1).map(of).collect()
}
