//! Looking into a checkpoint, compressed or not.

use std::fs;
use std::io::Read;
use std::path::Path;

use df11_core::bf16;
use df11_core::df11::Tensors;
use df11_core::frame::MAGIC;
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use crate::checkpoint::{Checkpoint, file_name};
use crate::compress::{IN_NO_UNIT, NOT_BF16};
use crate::container::Tensor;
use crate::error::{Error, io};
use crate::framed;
use crate::metadata::Described;
use crate::packed::{self, PackedUnit};
use crate::pattern::PatternDict;
use crate::plan::{largest_block, scan_unit, source};
use crate::pool;
use crate::report::{FrameReport, InspectReport, InspectedUnit, PlainReport, UnitReport, entropy};
use crate::units::{UnitSpec, Units};

/// Shows what is in the checkpoint at `path`: the units of a compressed one, or what compression would make of a plain one.
///
/// # Errors
///
/// [`Error`] for anything that is wrong with the files.
pub fn inspect(
    path: &Path,
    pattern_dict: Option<&PatternDict>,
    threads: usize,
) -> Result<InspectReport, Error> {
    let checkpoint = Checkpoint::open(path, None)?;
    let (packed, plain) = packed::units(&checkpoint)?;
    let mut file_bytes = 0;
    for file in &checkpoint.files {
        file_bytes += fs::metadata(&file.path).map_err(io("cannot open", &file.path))?.len();
    }
    let pool = pool(threads)?;
    let described = Described::collect(&checkpoint)?;
    if !packed.is_empty() || described.checkpoint.is_some() {
        let units =
            pool.install(|| packed.par_iter().with_max_len(1).map(inspect_packed).collect::<Result<_, _>>())?;
        let (mut frames, mut left) = (Vec::new(), Vec::new());
        for (container, tensor) in plain {
            match described.framed(&tensor.name) {
                Some(original) => frames.push(FrameReport {
                    name: tensor.name.clone(),
                    dtype: original.dtype.clone(),
                    bytes_before: framed::original_bytes(container, tensor, original)?,
                    bytes_after: tensor.bytes(),
                }),
                None => left.push(plain_report(tensor, None)),
            }
        }
        return Ok(InspectReport {
            compressed: true,
            units_from: None,
            units,
            frames,
            plain: left,
            file_bytes,
        });
    }

    let found = Units::find(&checkpoint, pattern_dict)?;
    let predicted: Vec<Result<InspectedUnit, PlainReport>> = pool.install(|| {
        let units = found.units.par_iter().with_max_len(1);
        units.map(|unit| predict(&checkpoint, unit)).collect::<Result<_, Error>>()
    })?;
    let mut units = Vec::new();
    let mut left = Vec::new();
    for unit in predicted {
        match unit {
            Ok(unit) => units.push(unit),
            Err(report) => left.push(report),
        }
    }
    let in_unit = |tensor: &Tensor| found.units.iter().any(|unit| unit.tensors.contains(&tensor.name));
    let why = |tensor: &Tensor| found.left_plain.iter().find(|left| left.tensors.contains(&tensor.name));
    left.extend(plain.iter().filter(|(_, tensor)| !in_unit(tensor)).map(|(_, tensor)| {
        plain_report(tensor, why(tensor).map(|left| format!("unit {}: {}", left.path, left.why)))
    }));
    let units_from = Some(found.origin);
    Ok(InspectReport { compressed: false, units_from, units, frames: Vec::new(), plain: left, file_bytes })
}

/// Something compressed, as a checkpoint holds it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Stored<'a> {
    /// A unit, not checked yet.
    Unit(Tensors<'a>),
    /// The bytes of a frame, not checked yet.
    Frame(&'a [u8]),
}

/// Calls `each` with every unit and every frame of the checkpoint at `path`: the file that holds it (for a unit, its code), its
/// module path or tensor name, its bytes. A file that is a frame itself has one, of no name.
///
/// # Errors
///
/// [`Error`] if the files are not whole, a unit lacks a tensor, or there are neither units nor frames.
pub fn for_each_stored(path: &Path, mut each: impl FnMut(&str, &str, Stored<'_>)) -> Result<(), Error> {
    if is_frame(path)? {
        let bytes = fs::read(path).map_err(io("cannot read", path))?;
        each(&file_name(path), "", Stored::Frame(&bytes));
        return Ok(());
    }
    let checkpoint = Checkpoint::open(path, None)?;
    let (units, plain) = packed::units(&checkpoint)?;
    let described = Described::collect(&checkpoint)?;
    let mut frames = plain.iter().filter(|(_, tensor)| described.framed(&tensor.name).is_some()).peekable();
    if units.is_empty() && frames.peek().is_none() {
        return Err(Error::file(path, "holds no DF11 units and no frames"));
    }
    for unit in &units {
        each(&file_name(&unit.container().path), &unit.path, Stored::Unit(unit.map()?.tensors()));
    }
    for (container, tensor) in frames {
        each(&file_name(&container.path), &tensor.name, Stored::Frame(&container.map(tensor)?));
    }
    Ok(())
}

/// Whether a file begins as a frame does.
fn is_frame(path: &Path) -> Result<bool, Error> {
    if path.is_dir() {
        return Ok(false);
    }
    let mut begin = Vec::new();
    let file = fs::File::open(path).map_err(io("cannot open", path))?;
    file.take(MAGIC.len() as u64).read_to_end(&mut begin).map_err(io("cannot read", path))?;
    Ok(begin == MAGIC)
}

fn plain_report(tensor: &Tensor, why: Option<String>) -> PlainReport {
    let general = if tensor.dtype == Dtype::BF16 { IN_NO_UNIT } else { NOT_BF16 };
    PlainReport {
        name: tensor.name.clone(),
        dtype: tensor.dtype.to_string(),
        bytes: tensor.bytes(),
        reason: why.unwrap_or_else(|| general.to_owned()),
    }
}

fn inspect_packed(packed: &PackedUnit<'_>) -> Result<InspectedUnit, Error> {
    let mapped = packed.map()?;
    let view = mapped.unit()?;
    let mut frequencies = [0; 256];
    packed::decode(&mapped, &view, |_, _, bytes| {
        bf16::add_to_histogram(bytes, &mut frequencies).map_err(|error| mapped.error(error))
    })?;
    let tables = view.tables();
    let mut lengths = *tables.code_lengths();
    for (length, frequency) in lengths.iter_mut().zip(frequencies) {
        if frequency == 0 {
            *length = 0;
        }
    }
    let elements = view.len() as u64;
    Ok(InspectedUnit {
        unit: UnitReport {
            path: packed.path.clone(),
            file: file_name(&packed.container().path),
            tensors: view.tensors(),
            elements,
            bytes_before: 2 * elements,
            bytes_after: packed.bytes(),
            bits_per_weight: 8.0 * packed.bytes() as f64 / elements as f64,
            bound_bits_per_weight: 8.0 + entropy(&frequencies),
            alphabet: frequencies.iter().filter(|&&f| f > 0).count(),
            longest_codeword: lengths.iter().copied().max().unwrap_or(0),
            prefix_tables: tables.tables().len(),
            shared_memory_bytes: view.shared_memory_bytes(),
        },
        code_bytes: view.code_bytes() as u64,
        blocks: view.blocks() as u64,
        luts_rows: tables.tables().len() + 1,
        short_output_positions: view.has_short_positions(),
        code_lengths: lengths.to_vec(),
        frequencies: frequencies.to_vec(),
    })
}

/// What compression would make of a unit.
fn predict(checkpoint: &Checkpoint, spec: &UnitSpec) -> Result<Result<InspectedUnit, PlainReport>, Error> {
    let unit = match scan_unit(checkpoint, spec)?.prepared {
        Ok(unit) => unit,
        Err((_, reason)) => {
            let (name, dtype) = (spec.path.clone(), Dtype::BF16.to_string());
            return Ok(Err(PlainReport { name, dtype, bytes: 2 * spec.elements, reason }));
        }
    };
    let sizes = unit.plan.sizes();
    let (first, _) = source(checkpoint, &spec.tensors[0])?;
    Ok(Ok(InspectedUnit {
        unit: unit.report(largest_block(checkpoint, spec, &unit.plan)?, &file_name(&first.path)),
        code_bytes: sizes.encoded_exponent as u64,
        blocks: (sizes.output_positions / 4 - 1) as u64,
        luts_rows: sizes.luts / 256,
        short_output_positions: false,
        code_lengths: unit.plan.codewords().lengths().to_vec(),
        frequencies: unit.frequencies.to_vec(),
    }))
}
