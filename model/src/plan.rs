//! What is known of a unit before it is encoded: its digests, its code, and whether it is worth it.

use df11_core::df11::{Options, PUBLISHED_SHARED_MEMORY, Plan, shared_memory_bytes};
use df11_core::{bf16, huffman};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, file_name};
use crate::container::{CHUNK, Container, Located, Tensor};
use crate::error::Error;
use crate::map::Mapped;
use crate::metadata::TensorMetadata;
use crate::report::{UnitReport, entropy};
use crate::units::UnitSpec;

/// A unit that is ready to be encoded.
pub(crate) struct PreparedUnit<'a> {
    pub(crate) spec: &'a UnitSpec,
    pub(crate) plan: Plan,
    pub(crate) frequencies: [u64; 256],
}

/// A unit after its weights have been read once.
pub(crate) struct Scanned<'a> {
    pub(crate) tensors: Vec<TensorMetadata>,
    /// Ready to be encoded, or to be left plain with the reason.
    pub(crate) prepared: Result<PreparedUnit<'a>, (&'a UnitSpec, String)>,
}

/// Reads a unit's weights once, for digests and histogram, and plans its code.
pub(crate) fn scan_unit<'a>(checkpoint: &Checkpoint, spec: &'a UnitSpec) -> Result<Scanned<'a>, Error> {
    let mut frequencies = [0; 256];
    let mut unrepresentable = None;
    let scanned = spec.tensors.par_iter().map(|name| scan_tensor(checkpoint, name));
    let scanned: Vec<_> = scanned.collect::<Result<_, _>>()?;
    for (name, (_, of_tensor)) in spec.tensors.iter().zip(&scanned) {
        let found = of_tensor[usize::from(huffman::FIRST_JUMP)..].iter().sum::<u64>();
        if found > 0 && unrepresentable.is_none() {
            unrepresentable = Some(format!(
                "{found} of the {} weights of {name} are infinite, NaN or at least 2^113 in magnitude, which the layout \
                 cannot hold",
                of_tensor.iter().sum::<u64>()
            ));
        }
        for (total, frequency) in frequencies.iter_mut().zip(of_tensor) {
            *total += frequency;
        }
    }
    let tensors = scanned.into_iter().map(|(tensor, _)| tensor).collect();
    let prepared = match unrepresentable {
        Some(why) => Err((spec, why)),
        None => plan(checkpoint, spec, frequencies)?.map_err(|why| (spec, why)),
    };
    Ok(Scanned { tensors, prepared })
}

/// The digest and the histogram of a tensor.
fn scan_tensor(checkpoint: &Checkpoint, name: &str) -> Result<(TensorMetadata, [u64; 256]), Error> {
    let (container, tensor) = source(checkpoint, name)?;
    let map = container.map(tensor)?;
    let mut sha256 = Sha256::new();
    let mut frequencies = [0; 256];
    for chunk in map.chunks(CHUNK) {
        sha256.update(chunk);
        let odd = |error: df11_core::Error| Error::tensor(&container.path, name, error.to_string());
        bf16::add_to_histogram(chunk, &mut frequencies).map_err(odd)?;
    }
    Ok((describe(container, tensor, sha256), frequencies))
}

/// Plans a unit's code, or says why it has to stay plain.
fn plan<'a>(
    checkpoint: &Checkpoint,
    spec: &'a UnitSpec,
    frequencies: [u64; 256],
) -> Result<Result<PreparedUnit<'a>, String>, Error> {
    let plan_with = |options: &Options| Plan::from_frequencies(&frequencies, spec.tensors.len(), options);
    let mut plan = match plan_with(&Options::default()) {
        Ok(plan) => plan,
        Err(why) => return Ok(Err(why.to_string())),
    };
    // Without codewords of one bit, a block holds at most 16,384 elements. With them, a run of one exponent may put more
    // into a block than published loaders have shared memory for; then the code does without.
    let one_bit = plan.codewords().lengths().contains(&1);
    if one_bit && shared_memory_bytes(largest_block(checkpoint, spec, &plan)?) > PUBLISHED_SHARED_MEMORY {
        plan = match plan_with(&Options { least_code_length: 2, ..Options::default() }) {
            Ok(plan) => plan,
            Err(why) => return Ok(Err(why.to_string())),
        };
    }
    let (before, after) = (2 * spec.elements, plan.sizes().total());
    if after >= before {
        return Ok(Err(format!("would not shrink: {before} bytes plain, {after} compressed")));
    }
    Ok(Ok(PreparedUnit { spec, plan, frequencies }))
}

pub(crate) fn largest_block(checkpoint: &Checkpoint, spec: &UnitSpec, plan: &Plan) -> Result<u32, Error> {
    let maps = map_all(checkpoint, spec)?;
    let tensors: Vec<&[u8]> = maps.iter().map(|map| &**map).collect();
    plan.largest_block(&tensors).map_err(|error| Error::unit(&checkpoint.path, &spec.path, error))
}

pub(crate) fn map_all(checkpoint: &Checkpoint, spec: &UnitSpec) -> Result<Vec<Mapped>, Error> {
    let map = |name: &String| source(checkpoint, name).and_then(|(container, tensor)| container.map(tensor));
    spec.tensors.iter().map(map).collect()
}

pub(crate) fn describe(container: &Container, tensor: &Tensor, sha256: Sha256) -> TensorMetadata {
    TensorMetadata {
        name: tensor.name.clone(),
        dtype: tensor.dtype.to_string(),
        shape: tensor.shape.clone(),
        sha256: hex::encode(sha256.finalize()),
        file: file_name(&container.path),
        frame: false,
    }
}

pub(crate) fn source<'a>(checkpoint: &'a Checkpoint, name: &str) -> Result<Located<'a>, Error> {
    checkpoint.get(name).ok_or_else(|| Error::tensor(&checkpoint.path, name, "is missing"))
}

impl PreparedUnit<'_> {
    /// The figures of the unit as it will be.
    pub(crate) fn report(&self, largest_block: u32, file: &str) -> UnitReport {
        let (elements, bytes_after) = (self.spec.elements, self.plan.sizes().total());
        UnitReport {
            path: self.spec.path.clone(),
            file: file.to_owned(),
            tensors: self.spec.tensors.len(),
            elements,
            bytes_before: 2 * elements,
            bytes_after,
            bits_per_weight: 8.0 * bytes_after as f64 / elements as f64,
            bound_bits_per_weight: 8.0 + entropy(&self.frequencies),
            alphabet: self.frequencies.iter().filter(|&&f| f > 0).count(),
            longest_codeword: self.plan.codewords().lengths().iter().copied().max().unwrap_or(0),
            prefix_tables: self.plan.sizes().luts / 256 - 1,
            shared_memory_bytes: shared_memory_bytes(largest_block),
        }
    }
}
