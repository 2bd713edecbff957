//! Reads the BF16 weights of a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use df11::{MAX_ELEMENTS, bf16, hazmat::huffman};
use safetensors::tensor::Dtype;

use crate::checkpoint::Weights;
use crate::container::Located;
use crate::error::Error;

/// Reads all BF16 tensors of the checkpoint at `path` into one buffer, in the order of their names,
/// for use in a benchmark or an experiment.
///
/// # Errors
///
/// [`Error`] if there are no BF16 tensors, more elements than a unit holds, or weights that the
/// layout cannot hold.
pub fn bf16_weights(path: &Path) -> Result<Vec<u8>, Error> {
    let checkpoint = Weights::open(path)?;
    let of_bf16 = || checkpoint.iter().filter(|(_, tensor)| tensor.dtype == Dtype::BF16);
    let bytes: u64 = of_bf16().map(|(_, tensor)| tensor.bytes()).sum();
    if bytes == 0 {
        let mut counts = BTreeMap::<String, usize>::new();
        for (_, tensor) in checkpoint.iter() {
            *counts.entry(tensor.dtype.to_string()).or_default() += 1;
        }
        let counts: Vec<_> = counts.iter().map(|(dtype, count)| format!("{count} of {dtype}")).collect();
        let found = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
        let problem = format!(
            "no BF16 weights (tensors: {found}); pass a checkpoint in BF16, restored if it was compressed"
        );
        return Err(Error::file(path, problem));
    }
    let elements = bytes / bf16::BYTES as u64;
    if elements > MAX_ELEMENTS as u64 {
        let problem =
            format!("{elements} BF16 weights, but a unit holds at most 2^31 - 1; pass a smaller checkpoint");
        return Err(Error::file(path, problem));
    }
    let mut weights = Vec::with_capacity(bytes as usize);
    for (container, tensor) in of_bf16() {
        let mut frequencies = [0; 256];
        let refused = |problem: String| Error::tensor(&container.path, &tensor.name, problem);
        container.read(tensor, |chunk| {
            weights.extend_from_slice(chunk);
            bf16::add_to_histogram(chunk, &mut frequencies).map_err(|error| refused(error.to_string()))
        })?;
        let found: u64 = frequencies[usize::from(huffman::FIRST_JUMP)..].iter().sum();
        if found > 0 {
            return Err(refused(format!(
                "{found} of its {} weights are infinite, NaN or at least 2^113 in magnitude, which the layout cannot hold; \
                 pass a checkpoint without this tensor",
                tensor.bytes() / bf16::BYTES as u64
            )));
        }
    }
    Ok(weights)
}

/// A BF16 tensor that two checkpoints have.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Bf16Pair {
    /// Its name.
    pub name: String,
    /// Its bytes in the checkpoint.
    pub new: Vec<u8>,
    /// Its bytes in the base.
    pub base: Vec<u8>,
}

/// Reads all BF16 tensors that the checkpoint at `path` and `base` both have, in the order of their
/// names, for use in a benchmark or an experiment.
///
/// # Errors
///
/// [`Error`] if there are none.
pub fn bf16_pairs(path: &Path, base: &Path) -> Result<Vec<Bf16Pair>, Error> {
    let (checkpoint, base) = (Weights::open(path)?, Weights::open(base)?);
    let is_bf16 = |located: &Located<'_>| located.1.dtype == Dtype::BF16;
    let mut pairs = Vec::new();
    for located in checkpoint.iter().filter(is_bf16) {
        let name = &located.1.name;
        if let Some(before) = base.get(name).filter(is_bf16) {
            pairs.push(Bf16Pair { name: name.clone(), new: content(located)?, base: content(before)? });
        }
    }
    if pairs.is_empty() {
        let problem =
            format!("has no BF16 tensor that {} has as well; pass two that are alike", base.path.display());
        return Err(Error::file(path, problem));
    }
    Ok(pairs)
}

fn content((container, tensor): Located<'_>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(tensor.bytes() as usize);
    container.read(tensor, |chunk| {
        bytes.extend_from_slice(chunk);
        Ok(())
    })?;
    Ok(bytes)
}
