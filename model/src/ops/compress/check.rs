//! Check: opens what was written as any reader would, decodes it, and compares it by hashes with
//! what was scanned. The source is not read again: if it changed meanwhile, the hashes differ here.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rayon::prelude::*;

use super::scan::Comparison;
use super::write::{Context, Form, metadata, shown};
use crate::checkpoint::Weights;
use crate::container::Container;
use crate::delta;
use crate::error::Error;
use crate::in_parallel;
use crate::packed::metadata::{FileMetadata, TensorMetadata};
use crate::packed::unit::{self, PackedUnit};
use crate::packed::{Part, frame};
use crate::progress::go_on;

/// A file that passed its check.
pub(super) struct Checked {
    /// The bytes before the data.
    pub(super) head: Vec<u8>,
    pub(super) bytes: u64,
    /// The number of elements in the largest block of each unit, in the order of the plan.
    pub(super) largest_blocks: Vec<u32>,
    /// The tensors that are frames, with the sizes of these frames in bytes.
    pub(super) frames: Vec<(String, u64)>,
}

/// Checks the file at `path` against the plan and the scan.
pub(super) fn check(context: &Context<'_>, path: &Path) -> Result<Checked, Error> {
    check_weights(context, Weights::of_file(path)?, path)
}

/// Checks an open file, whose path is `path`, against the plan and the scan.
pub(super) fn check_weights(context: &Context<'_>, written: Weights, path: &Path) -> Result<Checked, Error> {
    let container = &written.files[0].container;
    check_header(context, container, path)?;
    let (head, bytes) = (container.head(), container.len);
    let part = Part::new(written)?;
    let units: HashMap<&str, &PackedUnit> =
        part.units.iter().map(|unit| (unit.path.as_str(), unit)).collect();
    let largest_blocks = context.plan.units.par_iter().with_max_len(1).map(|prepared| {
        let spec = prepared.spec;
        let packed = units
            .get(spec.path.as_str())
            .ok_or_else(|| Error::file(path, format!("lacks the unit {}", spec.path)))?;
        let mapped = packed.map(&part.weights)?;
        let view = mapped.unit()?;
        part.lengths(packed, &view, &spec.tensors)?;
        let mut compared = Vec::with_capacity(spec.tensors.len());
        for name in &spec.tensors {
            compared.push(context.scan.tensor(context.lot, name)?.comparison());
        }
        unit::decode(&mapped, &view, |tensor, _, bytes| {
            go_on(context.job.progress)?;
            compared[tensor].update(bytes);
            Ok(())
        })?;
        for (name, compared) in spec.tensors.iter().zip(compared) {
            finish(context, name, compared)?;
        }
        Ok(view.largest_block())
    });
    let largest_blocks = largest_blocks.collect::<Result<_, Error>>()?;
    in_parallel(&part.singles).try_for_each(|single| {
        let (container, tensor) = part.weights.at(single.place);
        let mut compared = context.scan.tensor(context.lot, &tensor.name)?.comparison();
        if let Some(original) = &single.frame {
            if original.delta.is_none() {
                frame::check_written(container, tensor, original, context.job.form)?;
            }
            delta::decode(&context.job.bases, container, tensor, original, |_, elements| {
                go_on(context.job.progress)?;
                compared.update(elements);
                Ok(())
            })?;
        } else {
            part.check_plain(single)?;
            container.read(tensor, |chunk| {
                go_on(context.job.progress)?;
                compared.update(chunk);
                Ok(())
            })?;
        }
        finish(context, &tensor.name, compared)
    })?;
    let frames = part.singles.iter().filter(|single| single.frame.is_some()).map(|single| {
        let (_, tensor) = part.weights.at(single.place);
        (tensor.name.clone(), tensor.bytes())
    });
    Ok(Checked { head, bytes, largest_blocks, frames: frames.collect() })
}

/// Checks that a file's metadata are those that were planned, and that it holds no other tensors.
fn check_header(context: &Context<'_>, container: &Container, path: &Path) -> Result<(), Error> {
    let plan = context.plan;
    let wrong = || Error::file(path, "has another header than was planned");
    let said = FileMetadata::of(container)?.ok_or_else(wrong)?;
    let form = |tensor: &TensorMetadata| match (tensor.frame, &tensor.delta) {
        (true, None) => Form::Frame,
        (false, Some(_)) => Form::Delta,
        _ => Form::Plain,
    };
    let forms: HashMap<&str, Form> =
        said.tensors.iter().map(|tensor| (tensor.name.as_str(), form(tensor))).collect();
    let may_be: HashSet<&str> = plan.frames.iter().copied().collect();
    let mut shorter = forms.iter().filter(|(_, form)| **form != Form::Plain);
    let planned = metadata(context, |name| forms.get(name).copied().unwrap_or(Form::Plain))?;
    let entries = 6 * plan.units.len() + plan.frames.len() + plan.plain.len();
    let others = context
        .manifest
        .is_none_or(|(key, value)| container.metadata.get(key).is_some_and(|found| found == value));
    let kept = plan.metadata.iter().all(|(key, value)| container.metadata.get(key) == Some(value));
    let sound = said == planned && shorter.all(|(name, _)| may_be.contains(name)) && others && kept;
    (sound && container.tensors.len() == entries).then_some(()).ok_or_else(wrong)
}

/// Fails if a decoded tensor is not what was scanned.
fn finish(context: &Context<'_>, name: &str, compared: Comparison) -> Result<(), Error> {
    if compared.finish() {
        return Ok(());
    }
    let problem = "does not decode to what was read at first: either the source changed while it was \
                   compressed, or a disk or memory is faulty; run it again";
    Err(Error::tensor(&shown(context.job, &context.plan.name), name, problem))
}
