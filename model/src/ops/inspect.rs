//! Inspects a checkpoint, compressed or not.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::Path;

use df11::frame::MAGIC;
use df11::{Parts, bf16};
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use crate::checkpoint::Weights;
use crate::container::{Mapped, Tensor};
use crate::delta;
use crate::error::{Error, io};
use crate::names::file_name;
use crate::ops::compress::layout::{IN_NO_UNIT, NOT_BF16, largest_block, prepare};
use crate::ops::compress::scan::{Digests, Scan};
use crate::ops::compress::source;
use crate::ops::report::{
    DeltaReport, FrameReport, InspectReport, InspectedUnit, PlainReport, UnitReport, entropy,
};
use crate::packed::metadata::{DeltaMetadata, TensorMetadata};
use crate::packed::unit::{self, PackedUnit};
use crate::packed::{Packed, Part, Single};
use crate::partition::pattern::PatternDict;
use crate::partition::{UnitSpec, Units, reasons};
use crate::store;
use crate::{in_parallel, pool};

/// Lists the content of the checkpoint at `path`: the units of a compressed one, or what
/// compression would make of a plain one.
///
/// # Errors
///
/// [`Error`] if the files are invalid.
pub fn inspect(
    path: impl AsRef<Path>,
    pattern_dict: Option<&PatternDict>,
    threads: usize,
) -> Result<InspectReport, Error> {
    let path = &*store::plain(path.as_ref());
    let packed = Packed::open(path)?;
    let mut seen = HashSet::new();
    let files = packed.parts.iter().flat_map(|part| &part.weights.files);
    let file_bytes = files.filter(|file| seen.insert(&file.name)).map(|file| file.container.len).sum();
    let pool = pool(threads)?;
    let mut report = InspectReport {
        compressed: packed.is_compressed(),
        units_from: None,
        units: Vec::new(),
        frames: Vec::new(),
        deltas: Vec::new(),
        plain: Vec::new(),
        file_bytes,
    };
    if report.compressed {
        for part in &packed.parts {
            let units = in_parallel(&part.units);
            let units =
                pool.install(|| units.map(|unit| inspect_packed(part, unit)).collect::<Result<Vec<_>, _>>())?;
            report.units.extend(units);
            for single in &part.singles {
                let (_, tensor) = part.weights.at(single.place);
                if let Some((original, base)) =
                    single.frame.as_ref().and_then(|original| Some((original, original.delta.as_ref()?)))
                {
                    report.deltas.push(delta_report(part, single, original, base)?);
                    continue;
                }
                match &single.frame {
                    Some(original) => report.frames.push(FrameReport {
                        name: tensor.name.clone(),
                        dtype: original.dtype.clone(),
                        bytes_before: part.decoded_bytes(single)?,
                        bytes_after: tensor.bytes(),
                    }),
                    None => report.plain.push(plain_report(tensor, None)),
                }
            }
        }
        return Ok(report);
    }
    let lots: Vec<Weights> = packed.parts.into_iter().map(|part| part.weights).collect();
    let find = || lots.iter().map(|lot| Units::find(lot, pattern_dict)).collect::<Result<Vec<_>, _>>();
    let (scan, found) = pool.install(|| rayon::join(|| Scan::weights(&lots, Digests::LeftOut, &()), find));
    let (scan, found) = (scan?, found?);
    for (lot, found) in lots.iter().zip(found) {
        pool.install(|| predict_lot(lot, &found, &scan, &mut report))?;
        report.units_from.get_or_insert(found.origin);
    }
    Ok(report)
}

/// Adds a prediction of what compression would make of a lot.
fn predict_lot(lot: &Weights, found: &Units, scan: &Scan, report: &mut InspectReport) -> Result<(), Error> {
    let units = in_parallel(&found.units).map(|unit| predict(lot, unit, scan));
    for unit in units.collect::<Result<Vec<_>, Error>>()? {
        match unit {
            Ok(unit) => report.units.push(unit),
            Err(plain) => report.plain.push(plain),
        }
    }
    let mut in_unit = vec![false; lot.tensors.len()];
    let names = found.units.iter().flat_map(|unit| &unit.tensors);
    names.filter_map(|name| lot.tensors.get_index_of(name)).for_each(|place| in_unit[place] = true);
    let why = reasons(&found.left_plain);
    let rest = lot.iter().zip(in_unit).filter(|(_, in_unit)| !in_unit).map(|((_, tensor), _)| tensor);
    report.plain.extend(rest.map(|tensor| plain_report(tensor, why.get(tensor.name.as_str()).cloned())));
    Ok(())
}

/// A compressed item of a checkpoint.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Stored<'a> {
    /// The six parts of a unit, not checked yet.
    Unit(Parts<&'a [u8]>),
    /// The bytes of a frame, not checked yet.
    Frame(&'a [u8]),
}

/// Calls `each` with every unit and every frame of the checkpoint at `path`. The arguments are the
/// file that holds it (for a unit, the file of its code), its module path or tensor name, and its
/// bytes. A file that is itself a frame has one frame, with an empty name.
///
/// # Errors
///
/// [`Error`] if the files are incomplete, a unit lacks a tensor, or the checkpoint is not
/// compressed.
pub fn for_each_stored(path: &Path, mut each: impl FnMut(&str, &str, Stored<'_>)) -> Result<(), Error> {
    if is_frame(path)? {
        let file = fs::File::open(path).map_err(io("cannot open", path))?;
        let len = file.metadata().map_err(io("cannot open", path))?.len();
        let bytes = Mapped::new(&file, &(0..len)).map_err(io("cannot map", path))?;
        each(&file_name(path), "", Stored::Frame(&bytes));
        return Ok(());
    }
    let packed = Packed::open(path)?;
    if !packed.is_compressed() {
        return Err(Error::file(path, "holds no DF11 units and no frames"));
    }
    for part in &packed.parts {
        for unit in &part.units {
            let name = file_name(unit.file(&part.weights));
            each(&name, &unit.path, Stored::Unit(unit.map(&part.weights)?.tensors()));
        }
        for single in part.singles.iter().filter(|single| single.frame.as_ref().is_some_and(|f| f.frame)) {
            let (container, tensor) = part.weights.at(single.place);
            each(&file_name(&container.path), &tensor.name, Stored::Frame(&container.map(tensor)?));
        }
    }
    Ok(())
}

fn delta_report(
    part: &Part,
    single: &Single,
    original: &TensorMetadata,
    base: &DeltaMetadata,
) -> Result<DeltaReport, Error> {
    let (container, tensor) = part.weights.at(single.place);
    let bytes_before = part.decoded_bytes(single)?;
    let (method, elements, changed) = delta::described(container, tensor)?;
    Ok(DeltaReport {
        name: tensor.name.clone(),
        dtype: original.dtype.clone(),
        base: base.name.clone(),
        base_sha256: base.sha256.clone(),
        depth: base.depth,
        method: method.to_owned(),
        elements,
        changed,
        bytes_before,
        bytes_after: tensor.bytes(),
    })
}

/// Tells whether a file begins as a frame does.
pub(super) fn is_frame(path: &Path) -> Result<bool, Error> {
    if path.is_dir() || store::is_remote(path) {
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

fn inspect_packed(part: &Part, packed: &PackedUnit) -> Result<InspectedUnit, Error> {
    let mapped = packed.map(&part.weights)?;
    let view = mapped.unit()?;
    let bytes = packed.bytes(&part.weights);
    let mut frequencies = [0; 256];
    unit::decode(&mapped, &view, |_, _, bytes| {
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
            file: file_name(packed.file(&part.weights)),
            tensors: view.tensors(),
            elements,
            bytes_before: 2 * elements,
            bytes_after: bytes,
            bits_per_weight: 8.0 * bytes as f64 / elements as f64,
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

/// Predicts what compression would make of a unit.
fn predict(lot: &Weights, spec: &UnitSpec, scan: &Scan) -> Result<Result<InspectedUnit, PlainReport>, Error> {
    let unit = match prepare(lot, spec, scan)? {
        Ok(unit) => unit,
        Err(reason) => {
            let (name, dtype) = (spec.path.clone(), Dtype::BF16.to_string());
            return Ok(Err(PlainReport { name, dtype, bytes: 2 * spec.elements, reason }));
        }
    };
    let sizes = unit.plan.sizes();
    let (first, _) = source(lot, &spec.tensors[0])?;
    Ok(Ok(InspectedUnit {
        unit: unit.report(largest_block(lot, spec, &unit.plan)?, &file_name(&first.path)),
        code_bytes: sizes.encoded_exponent as u64,
        blocks: (sizes.output_positions / 4 - 1) as u64,
        luts_rows: sizes.luts / 256,
        short_output_positions: false,
        code_lengths: unit.plan.codewords().lengths().to_vec(),
        frequencies: unit.frequencies.to_vec(),
    }))
}
