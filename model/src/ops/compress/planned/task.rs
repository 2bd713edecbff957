//! One task: reads what it needs, does its work in memory, and leaves a result under the name of
//! its content. Doing a task twice, or twice at once, leaves the same.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::check::check_weights;
use super::super::layout::{FilePlan, expected, prepare};
use super::super::scan::{Digests, FileScan, Scan, TensorScan, scan_file};
use super::super::write::{Context, Written, encode_file, written};
use super::super::{Job, source};
use super::plan::{Plan, TaskKind, order};
use crate::checkpoint::{WeightFile, Weights};
use crate::container::Container;
use crate::error::Error;
use crate::names::digest;
use crate::packed::frame;
use crate::packed::manifest::OutputRecord;
use crate::partition::{UnitSpec, Units};
use crate::staging::InMemory;
use crate::store;

/// What a task found out. Its file is written last, when all else is there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Record {
    /// The digests of a weight file of the input.
    Digest(Digested),
    /// A weight file of the output.
    Write(Wrote),
}

/// The digests of a weight file of the input.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Digested {
    pub(super) file: String,
    bytes: u64,
    sha256: String,
    /// The SHA-256 and the histogram of each tensor, in the order of the header.
    tensors: Vec<(String, Vec<(u8, u64)>)>,
}

/// A weight file of the output.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Wrote {
    /// The digest of what the file was planned to hold.
    pub(super) key: String,
    /// The file as the manifest lists it; `None` if a unit was refused, so that there is no file.
    pub(super) output: Option<OutputRecord>,
    /// The SHA-256 of the content, which is the name that it has until it is finished.
    pub(super) content: String,
    frames: Vec<(String, u64)>,
    plain: Vec<String>,
    largest_blocks: Vec<u32>,
    /// The SHA-256 of each tensor that was read.
    pub(super) tensors: BTreeMap<String, String>,
}

impl Wrote {
    /// Returns the file as a run that wrote it itself would.
    pub(super) fn written(&self) -> Option<Written> {
        Some(Written {
            record: self.output.clone()?,
            frames: self.frames.clone(),
            plain: self.plain.clone(),
            largest_blocks: self.largest_blocks.clone(),
            kept: false,
        })
    }
}

impl Digested {
    fn of(file: String, scan: &FileScan) -> Self {
        let tensors = scan.tensors.iter().map(|tensor| {
            let counts = tensor.counts();
            let occur = counts.iter().enumerate().filter(|(_, count)| **count > 0);
            (hex::encode(tensor.sha256), occur.map(|(byte, &count)| (byte as u8, count)).collect())
        });
        Digested { file, bytes: scan.bytes, sha256: scan.sha256.clone(), tensors: tensors.collect() }
    }

    /// Returns the scan of the file that this describes; `None` if it describes another.
    pub(super) fn scan(&self, container: &Container) -> Option<FileScan> {
        if self.bytes != container.len || self.tensors.len() != container.tensors.len() {
            return None;
        }
        let mut tensors = Vec::with_capacity(self.tensors.len());
        for (sha256, occur) in &self.tensors {
            let mut counts = [0; 256];
            occur.iter().for_each(|&(byte, count)| counts[usize::from(byte)] = count);
            tensors.push(TensorScan::of(hex::decode(sha256).ok()?.try_into().ok()?, &counts));
        }
        Some(FileScan { bytes: self.bytes, sha256: self.sha256.clone(), tensors })
    }

    /// Iterates over the digests of the tensors, in the order of the header.
    pub(super) fn digests(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(sha256, _)| sha256.as_str())
    }
}

/// Does a task of a plan. Returns whether it was done before.
pub(super) fn run(plan: &Plan, job: &Job<'_>, number: usize) -> Result<bool, Error> {
    let task = plan.paper.tasks.get(number).ok_or_else(|| {
        let tasks = plan.paper.tasks.len();
        Error::Usage(format!(
            "{} has tasks 0 to {}, not {number}",
            plan.path.display(),
            tasks.saturating_sub(1)
        ))
    })?;
    let at = plan.record(number);
    if read_record(&at)?.is_some() {
        return Ok(true);
    }
    let record = match task.kind {
        TaskKind::Digest => Record::Digest(digest_file(job, &task.file)?),
        TaskKind::Write => {
            let files = expected(job, &plan.units);
            let ordered = order(&files, job.lots);
            let file = ordered.get(number).ok_or_else(|| Error::file(&plan.path, "has another order"))?;
            Record::Write(write(plan, job, file)?)
        }
    };
    let text = serde_json::to_vec(&record).map_err(|error| Error::Usage(error.to_string()))?;
    store::write(&at, text)?;
    Ok(false)
}

/// Reads the record of a task, if the task is done.
pub(super) fn read_record(path: &Path) -> Result<Option<Record>, Error> {
    let Some(bytes) = store::read_if_there(path, u64::MAX)? else { return Ok(None) };
    let wrong =
        |error: serde_json::Error| Error::file(path, format!("is no record of a task: {error}; remove it"));
    serde_json::from_slice(&bytes).map(Some).map_err(wrong)
}

fn digest_file(job: &Job<'_>, name: &str) -> Result<Digested, Error> {
    let mut files = job.lots.iter().flat_map(|lot| &lot.files);
    let file: &Arc<WeightFile> = files
        .find(|file| file.name == name)
        .ok_or_else(|| Error::file(&job.source.path, format!("has no file {name}")))?;
    // The header was read when it was planned, and the file may have been replaced since.
    let now = Container::open(&file.container.path)?;
    if now.header != file.container.header {
        return Err(Error::file(&file.container.path, "was changed since it was planned; plan again"));
    }
    Ok(Digested::of(name.to_owned(), &scan_file(&file.container, Digests::Computed, job.progress)?))
}

/// Returns the digest of what a file is planned to hold.
pub(super) fn key<'a>(units: impl Iterator<Item = &'a UnitSpec>, file: &FilePlan<'_>) -> String {
    let units: Vec<_> = units.map(|unit| (&unit.path, &unit.tensors)).collect();
    let all = (&file.name, units, &file.frames, &file.plain, &file.metadata);
    digest(&serde_json::to_vec(&all).unwrap_or_default())
}

/// Writes a file, unless one of its units must stay plain. What then becomes of it, only the whole
/// model tells.
pub(super) fn write(plan: &Plan, job: &Job<'_>, file: &FilePlan<'_, &UnitSpec>) -> Result<Wrote, Error> {
    let lot = &job.lots[file.lot];
    let names: Vec<&str> = file.names().collect();
    hold(lot, &names)?;
    let done = scan_and_encode(plan, job, file, &names);
    lot.files.iter().for_each(|file| file.container.release());
    let (mut wrote, bytes) = done?;
    if let Some(bytes) = bytes {
        let mut sha256 = Sha256::new();
        sha256.update(&bytes);
        wrote.content = hex::encode(sha256.finalize());
        let (path, len) = (plan.left(&wrote.content), bytes.len() as u64);
        store::write(&path, bytes)?;
        if store::len(&path)? != Some(len) {
            return Err(Error::file(&path, "does not have the length that was written; run the task again"));
        }
    }
    Ok(wrote)
}

/// Fetches the tensors of these names, where they are not on this machine.
fn hold(lot: &Weights, names: &[&str]) -> Result<(), Error> {
    let mut of_file: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &(file, at) in names.iter().filter_map(|name| lot.tensors.get(*name)) {
        of_file.entry(file).or_default().push(at);
    }
    of_file.into_iter().try_for_each(|(file, places)| {
        let container = &lot.files[file].container;
        container.hold(places.into_iter().map(|at| &container.tensors[at]))
    })
}

/// Encodes a file in memory, and checks it there.
fn scan_and_encode(
    plan: &Plan,
    job: &Job<'_>,
    file: &FilePlan<'_, &UnitSpec>,
    names: &[&str],
) -> Result<(Wrote, Option<Vec<u8>>), Error> {
    let lot = &job.lots[file.lot];
    let scan = Scan::of_tensors(lot, names, job.progress)?;
    let mut tensors = BTreeMap::new();
    for name in names {
        tensors.insert((*name).to_owned(), hex::encode(scan.tensor(lot, name)?.sha256));
    }
    let mut units = Vec::new();
    for spec in &file.units {
        units.extend(prepare(lot, spec, &scan)?.ok());
    }
    let framed = frames(job, lot, &scan, &file.plain)?;
    let (frames, plain) = file.plain.iter().copied().partition(|name| framed.contains(name));
    let (name, metadata) = (file.name.clone(), file.metadata.clone());
    let is_whole = units.len() == file.units.len();
    let file = &FilePlan { name, lot: file.lot, units, frames, plain, metadata };
    let mut wrote = Wrote {
        key: key(file.units.iter().map(|unit| unit.spec), file),
        output: None,
        content: String::new(),
        frames: Vec::new(),
        plain: Vec::new(),
        largest_blocks: Vec::new(),
        tensors,
    };
    if !is_whole {
        return Ok((wrote, None));
    }
    let context = Context { job, lot, plan: file, scan: &scan, manifest: None };
    let place = InMemory::with_room(file.source_bytes(lot) / 4 * 3);
    encode_file(&context, &place)?;
    let path = plan.paper.output.join(&file.name);
    let bytes = Arc::new(place.into_bytes());
    let opened = Weights::of_container(Container::in_memory(&path, Arc::clone(&bytes))?);
    let done = written(file, check_weights(&context, opened, &path)?, false)?;
    (wrote.output, wrote.frames, wrote.plain) = (Some(done.record), done.frames, done.plain);
    wrote.largest_blocks = done.largest_blocks;
    // Nothing else holds them any more, so nothing is copied.
    Ok((wrote, Some(Arc::unwrap_or_clone(bytes))))
}

/// Chooses the tensors that become frames, by the rule of [`Layout`](super::super::layout::Layout).
fn frames<'a>(
    job: &Job<'_>,
    lot: &Weights,
    scan: &Scan,
    names: &[&'a str],
) -> Result<HashSet<&'a str>, Error> {
    let mut framed = HashSet::new();
    if !job.options.codec.is_of_frames() {
        return Ok(framed);
    }
    for name in names {
        let (_, tensor) = source(lot, name)?;
        if tensor.bytes() > frame::NO_GAIN_BYTES
            && let Some(bytes) = frame::estimate(tensor, &scan.tensor(lot, name)?.counts(), job.form)
            && bytes < tensor.bytes()
        {
            framed.insert(*name);
        }
    }
    Ok(framed)
}

/// Finds the units of a file that was planned from all digests.
pub(super) fn specs<'a>(file: &FilePlan<'a>, units: &'a [Units]) -> Vec<&'a UnitSpec> {
    let of_lot = &units[file.lot].units;
    let paths: HashSet<&str> = file.units.iter().map(|unit| unit.spec.path.as_str()).collect();
    of_lot.iter().filter(|spec| paths.contains(spec.path.as_str())).collect()
}
