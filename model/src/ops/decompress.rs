//! Restores a checkpoint.

mod to_store;

pub use to_store::{restore_finish, restore_plan, restore_task};

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::restoration::{Restoration, Target};
use crate::checkpoint::Weights;
use crate::config;
use crate::container::Tensor;
use crate::delta::{self, Bases};
use crate::error::Error;
use crate::names::{CONFIG, portable, relative};
use crate::ops::report::DecompressReport;
use crate::packed::manifest::{Input, Kept};
use crate::packed::unit::{self, PackedUnit};
use crate::packed::{Packed, Part, Single};
use crate::partition::pattern::PatternDict;
use crate::progress::{Progress, go_on};
use crate::staging::{Closed, OpenAgain, Planned, Staging, file_digest, names_a_file};
use crate::store;
use crate::{in_parallel, pool};

/// How to restore. Begin with `default()`, and set what is to be different.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DecompressOptions {
    /// For files of other programs: the dictionary that names the tensors of a unit. By default it
    /// is the one in `config.json`.
    pub pattern_dict: Option<PatternDict>,
    /// Writes into a directory that is not empty. Files that an earlier run wrote there are
    /// replaced, files with the right content are left, and nothing else is touched. An output that
    /// is one file is replaced.
    pub force: bool,
    /// The number of threads; 0 means one for each processor.
    pub threads: usize,
    /// For deltas: the checkpoints that they were made against, in any form, and what those need in
    /// turn. Others are ignored.
    pub bases: Vec<PathBuf>,
}

impl DecompressOptions {
    /// Sets the field [`pattern_dict`](#structfield.pattern_dict).
    #[must_use]
    pub fn pattern_dict(mut self, pattern_dict: PatternDict) -> Self {
        self.pattern_dict = Some(pattern_dict);
        self
    }

    /// Sets the field [`force`](#structfield.force).
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Sets the field [`threads`](#structfield.threads).
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the field [`bases`](#structfield.bases).
    #[must_use]
    pub fn bases(mut self, bases: Vec<PathBuf>) -> Self {
        self.bases = bases;
        self
    }
}

/// Restores the compressed checkpoint at `input` into `output`. The output is a directory. If its
/// name ends in `.safetensors` and there is a single weight file, it is that file.
///
/// Where there is a record of the originals, they are restored byte for byte, and every SHA-256 is
/// checked before any file becomes visible. The report lists the files that could not be restored.
/// Files that nothing records are copied, or reported as left behind. Files of other programs give
/// plain BF16 tensors under their module names. A run that was interrupted can be repeated.
///
/// # Errors
///
/// [`Error`], which names the file, the unit and the rule. Nothing that existed before the call is
/// then changed.
pub fn decompress(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &DecompressOptions,
    progress: &dyn Progress,
) -> Result<DecompressReport, Error> {
    let (input, output) = (&*store::plain(input.as_ref()), &*store::plain(output.as_ref()));
    if store::is_remote(output) {
        to_store::tasks(input, output, options, progress)?.all(options.threads)?;
        return restore_finish(input, output, options, progress);
    }
    let packed = open(input)?;
    let restoration = Restoration::plan(&packed, options.pattern_dict.as_ref())?;
    let bases = Bases::open(&options.bases)?;
    bases.expect_all(&packed)?;
    let to_file = names_a_file(output);
    if to_file && restoration.files.len() != 1 {
        let n = restoration.files.len();
        return Err(Error::Usage(format!("{n} weight files are restored; name a directory as the output")));
    }
    let extras = Extras::plan(&packed, &restoration, to_file);
    let inputs: Vec<PathBuf> = packed
        .parts
        .iter()
        .flat_map(|part| &part.weights.files)
        .map(|file| file.container.path.clone())
        .collect();
    let staging = if to_file {
        Staging::file(output, input, &inputs, options.force)?
    } else {
        let input = store::name_of(input)?;
        Staging::directory(output, &format!("df11 decompress {}", input.display()), &inputs, options.force)?
    };
    staging.clear_the_way(&extras.planned(&restoration), false)?;

    let run = Run::begin(&packed, &restoration, &bases, &staging, progress)?;
    pool(options.threads)?.install(|| run.restore())?;
    let mut report = begin_report(&packed, &restoration, run.kept);
    if to_file {
        report.files = vec![crate::names::file_name(output)];
    }
    extras.write(&packed, &staging, &mut report)?;
    staging.publish()?;
    Ok(end_report(report))
}

/// Opens a checkpoint that is compressed.
fn open(input: &Path) -> Result<Packed, Error> {
    let packed = Packed::open(input)?;
    if !packed.is_compressed() {
        let problem = "holds no DF11 units; it is not compressed, so there is nothing to restore";
        return Err(Error::file(input, problem));
    }
    packed.check_configs()?;
    Ok(packed)
}

/// Makes the report of a run that restored the weights.
fn begin_report(packed: &Packed, restoration: &Restoration, kept_files: usize) -> DecompressReport {
    DecompressReport {
        original_restored: false,
        recorded: packed.manifest.is_some(),
        units: packed.parts.iter().map(|part| part.units.len()).sum(),
        files: restoration.files.iter().filter_map(|file| portable(&file.name)).collect(),
        bytes: restoration.files.iter().map(|file| file.len()).sum(),
        changed: Vec::new(),
        missing: Vec::new(),
        left_out: Vec::new(),
        copied: Vec::new(),
        stays: Vec::new(),
        kept_files,
        warnings: restoration.warnings.clone(),
    }
}

/// Adds to a report whether the originals were restored.
fn end_report(mut report: DecompressReport) -> DecompressReport {
    let whole = report.changed.is_empty() && report.missing.is_empty();
    report.original_restored = report.recorded && whole;
    report
}

/// The weights of one restoration.
struct Run<'a> {
    packed: &'a Packed,
    restoration: &'a Restoration,
    bases: &'a Bases,
    staging: &'a Staging,
    progress: &'a dyn Progress,
    /// Each file until it is complete, with the number of tensors that it still lacks; `None` once
    /// it is staged.
    files: Vec<Option<Closed>>,
    missing: Vec<Mutex<usize>>,
    kept: usize,
}

impl<'a> Run<'a> {
    fn begin(
        packed: &'a Packed,
        restoration: &'a Restoration,
        bases: &'a Bases,
        staging: &'a Staging,
        progress: &'a dyn Progress,
    ) -> Result<Self, Error> {
        let mut digests: Vec<Vec<Option<&str>>> =
            restoration.files.iter().map(|file| vec![None; file.tensors.len()]).collect();
        for (i, (part, names)) in packed.parts.iter().zip(&restoration.names).enumerate() {
            let singles = part.singles.iter().map(|single| &part.weights.at(single.place).1.name);
            for name in names.values().flatten().chain(singles) {
                if let Some(target) = restoration.target(i, name) {
                    digests[target.file][target.tensor] = target.sha256.as_deref();
                }
            }
        }
        let (mut files, mut missing, mut kept) = (Vec::new(), Vec::new(), 0);
        for (file, digests) in restoration.files.iter().zip(&digests) {
            missing.push(Mutex::new(file.tensors.len()));
            if staging.has(&file.name) {
                kept += 1;
                files.push(None);
                continue;
            }
            if let Some(candidate) = staging.candidate(&file.name)
                && is_restored(&candidate, &file.head, digests, file.sha256.as_deref())?
            {
                staging.keep(&file.name, candidate);
                kept += 1;
                files.push(None);
                continue;
            }
            let partial = staging.create(&file.name)?;
            // The file has its full length but no content yet, so that tensors can be written in
            // any order.
            partial.set_len(file.len())?;
            partial.write_at(&file.head, 0)?;
            if file.tensors.is_empty() {
                staging.stage(partial, &file.name)?;
                files.push(None);
            } else {
                files.push(Some(partial.close()));
            }
        }
        let bytes = restoration.files.iter().zip(&files).filter(|(_, open)| open.is_some());
        progress.begin("restoring", bytes.flat_map(|(file, _)| &file.tensors).map(Tensor::bytes).sum());
        Ok(Run { packed, restoration, bases, staging, progress, files, missing, kept })
    }

    /// Decodes all tensors and stages the files.
    fn restore(&self) -> Result<(), Error> {
        for (i, part) in self.packed.parts.iter().enumerate() {
            in_parallel(&part.units).try_for_each(|unit| self.restore_unit(i, part, unit))?;
            in_parallel(&part.singles).try_for_each(|s| self.restore_single(i, part, s))?;
        }
        Ok(())
    }

    /// Opens a tensor's place in the output; `None` if the tensor is not written.
    fn sink(&self, part: usize, name: &str) -> Option<Sink<'_>> {
        let target = self.restoration.target(part, name)?;
        let file = self.files[target.file].as_ref()?;
        let start = self.restoration.place(target).1.range.start;
        Some(Sink { target, file, open: None, start, sha256: Sha256::new() })
    }

    fn restore_unit(&self, part_number: usize, part: &Part, unit: &PackedUnit) -> Result<(), Error> {
        let names = &self.restoration.names[part_number][&unit.path];
        let mut sinks: Vec<_> = names.iter().map(|name| self.sink(part_number, name)).collect();
        if sinks.iter().all(Option::is_none) {
            return Ok(()); // all in files that are there
        }
        let mapped = unit.map(&part.weights)?;
        let view = mapped.unit()?;
        let lengths = part.lengths(unit, &view, names)?;
        for ((name, sink), len) in names.iter().zip(&sinks).zip(lengths) {
            if let Some(sink) = sink {
                let expected = self.restoration.place(sink.target).1.bytes();
                check_length(unit.file(&part.weights), name, 2 * len as u64, expected)?;
            }
        }
        let mut current = 0;
        unit::decode(&mapped, &view, |tensor, offset, bytes| {
            if tensor != current {
                // One file is open at a time.
                if let Some(sink) = &mut sinks[current] {
                    sink.open = None;
                }
                current = tensor;
            }
            self.progress.advance(bytes.len() as u64);
            go_on(self.progress)?;
            sinks[tensor].as_mut().map_or(Ok(()), |sink| sink.write(offset as u64, bytes))
        })?;
        for (sink, name) in sinks.into_iter().zip(names) {
            if let Some(sink) = sink {
                self.finish_tensor(sink, name, unit.file(&part.weights))?;
            }
        }
        Ok(())
    }

    fn restore_single(&self, part_number: usize, part: &Part, single: &Single) -> Result<(), Error> {
        let (container, tensor) = part.weights.at(single.place);
        let Some(mut sink) = self.sink(part_number, &tensor.name) else { return Ok(()) };
        if let Some(original) = &single.frame {
            delta::decode(self.bases, container, tensor, original, |offset, elements| {
                self.progress.advance(elements.len() as u64);
                go_on(self.progress)?;
                sink.write(offset as u64, elements)
            })?;
        } else {
            let mut offset = 0;
            container.read(tensor, |chunk| {
                sink.write(offset, chunk)?;
                offset += chunk.len() as u64;
                self.progress.advance(chunk.len() as u64);
                go_on(self.progress)
            })?;
        }
        self.finish_tensor(sink, &tensor.name, &container.path)
    }

    /// Compares a tensor's digest, and stages its file if it was the last tensor.
    fn finish_tensor(&self, sink: Sink<'_>, name: &str, from: &Path) -> Result<(), Error> {
        let Sink { target, sha256, .. } = sink;
        if let Some(expected) = &target.sha256
            && !expected.is_empty()
            && hex::encode(sha256.finalize()) != *expected
        {
            return Err(Error::tensor(from, name, DIGEST_DIFFERS));
        }
        let mut missing = self.missing[target.file].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *missing -= 1;
        let is_whole = *missing == 0;
        drop(missing);
        if is_whole && let Some(closed) = &self.files[target.file] {
            let file = &self.restoration.files[target.file];
            // Tensors without digests of their own are covered by the digest of their file.
            if target.sha256.is_none()
                && let Some(expected) = &file.sha256
                && file_digest(closed.path())? != *expected
            {
                let problem = "would not have the SHA-256 of the original; a file here is damaged, download or \
                               compress it again";
                return Err(Error::file(&self.staging.path_of(&file.name), problem));
            }
            self.staging.stage_path(closed, &file.name)?;
        }
        Ok(())
    }
}

/// A tensor that is being written and hashed.
struct Sink<'a> {
    target: &'a Target,
    file: &'a Closed,
    open: Option<OpenAgain<'a>>,
    start: u64,
    sha256: Sha256,
}

impl Sink<'_> {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.sha256.update(bytes);
        if self.open.is_none() {
            self.open = Some(self.file.open()?);
        }
        let at = self.start + offset;
        self.open.as_ref().map_or(Ok(()), |open| open.write_at(bytes, at))
    }
}

pub(crate) const DIGEST_DIFFERS: &str =
    "does not have the SHA-256 of the original; the file is damaged, download or compress it again";

/// Checks that a tensor has the expected length.
pub(super) fn check_length(path: &Path, name: &str, bytes: u64, expected: u64) -> Result<(), Error> {
    if bytes == expected {
        return Ok(());
    }
    let problem = format!("has {bytes} bytes, but had {expected} in the original");
    Err(Error::tensor(path, name, problem))
}

/// Tells whether an earlier run restored a file with the right content.
fn is_restored(
    path: &Path,
    head: &[u8],
    digests: &[Option<&str>],
    sha256: Option<&str>,
) -> Result<bool, Error> {
    let Ok(weights) = Weights::of_file(path) else { return Ok(false) };
    let container = &weights.files[0].container;
    if container.head() != head {
        return Ok(false);
    }
    if digests.iter().any(Option::is_none) {
        return Ok(sha256 == Some(&file_digest(path)?));
    }
    for (tensor, digest) in container.tensors.iter().zip(digests) {
        let mut sha256 = Sha256::new();
        container.read(tensor, |chunk| {
            sha256.update(chunk);
            Ok(())
        })?;
        if Some(hex::encode(sha256.finalize()).as_str()) != *digest {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All files other than weights.
struct Extras<'a> {
    /// Recorded files, with what compression did to them.
    recorded: Vec<(PathBuf, &'a Input)>,
    /// Files that nothing records.
    others: Vec<PathBuf>,
    /// Files that stay behind, with the reason.
    stays: Vec<(String, String)>,
    to_file: bool,
}

impl<'a> Extras<'a> {
    fn plan(packed: &'a Packed, restoration: &Restoration, to_file: bool) -> Self {
        let mut extras = Extras { recorded: Vec::new(), others: Vec::new(), stays: Vec::new(), to_file };
        let mut taken: HashSet<PathBuf> = restoration.files.iter().map(|file| file.name.clone()).collect();
        let inputs = packed.manifest.iter().flat_map(|manifest| &manifest.inputs);
        for input in inputs.filter(|input| !crate::packed::is_tensors(&input.kept)) {
            if let Some(name) = relative(&input.name) {
                taken.insert(name.clone());
                extras.recorded.push((name, input));
            }
        }
        let outputs = packed.manifest.iter().flat_map(|manifest| &manifest.outputs);
        let written: HashSet<&str> = outputs.map(|output| output.name.as_str()).collect();
        let is_config = |name: &Path| {
            // Without a record, configs lose the key that compression added.
            packed.manifest.is_none() && packed.parts.iter().any(|p| p.weights.folder.join(CONFIG) == name)
        };
        for name in &packed.others {
            let text = portable(name);
            if text.as_ref().is_some_and(|text| written.contains(text.as_str())) || is_config(name) {
                continue;
            }
            if taken.insert(name.clone()) {
                extras.others.push(name.clone());
            } else if !extras.recorded.iter().any(|(recorded, _)| recorded == name) {
                let why = "a restored file has this name".to_owned();
                extras.stays.push((name.display().to_string(), why));
            }
        }
        let left = packed.left_out.iter();
        extras.stays.extend(left.map(|left| (left.name.display().to_string(), left.why.clone())));
        extras
    }

    /// Lists every file that is to be written, including weights.
    fn planned(&self, restoration: &Restoration) -> Vec<Planned> {
        let mut planned = Vec::new();
        for file in &restoration.files {
            let content = file.sha256.clone().map(|sha256| (file.len(), sha256));
            planned.push(Planned { name: file.name.clone(), content });
        }
        for (name, input) in &self.recorded {
            let content = Some((input.bytes, input.sha256.clone())).filter(|_| !input.sha256.is_empty());
            if !matches!(input.kept, Kept::LeftOut { .. }) {
                planned.push(Planned { name: name.clone(), content });
            }
        }
        planned.extend(self.others.iter().map(|name| Planned { name: name.clone(), content: None }));
        planned
    }

    fn write(&self, packed: &Packed, staging: &Staging, report: &mut DecompressReport) -> Result<(), Error> {
        report.stays.clone_from(&self.stays);
        if self.to_file {
            let why = "the output is one file";
            let recorded = self.recorded.iter().map(|(name, _)| name);
            for name in recorded.chain(&self.others) {
                let here = !packed.is_file && store::is_file(&packed.root.join(name))?;
                if here {
                    report.stays.push((name.display().to_string(), why.to_owned()));
                }
            }
            return Ok(());
        }
        for (name, input) in &self.recorded {
            write_recorded(packed, staging, name, input, report)?;
        }
        for name in &self.others {
            staging.copy(&packed.root.join(name), name)?;
            if packed.has_full_record() {
                report.copied.push(name.display().to_string());
            }
        }
        if packed.manifest.is_none() && !packed.is_file {
            for part in &packed.parts {
                write_foreign_config(part, staging, report)?;
            }
        }
        Ok(())
    }
}

/// Restores a recorded file, or returns the reason why it cannot.
fn write_recorded(
    packed: &Packed,
    staging: &Staging,
    name: &Path,
    input: &Input,
    report: &mut DecompressReport,
) -> Result<(), Error> {
    let shown = input.name.clone();
    let path = packed.output_path(&input.name);
    if staging.has(name) {
        return Ok(()); // there already, as it was
    }
    match &input.kept {
        Kept::Tensors { .. } => Ok(()),
        Kept::Text { text } => staging.write(name, text.as_bytes()),
        Kept::LeftOut { why } => {
            // A user may have put this file here since.
            if packed.is_file || !store::is_file(&path)? {
                report.left_out.push((shown, why.clone()));
            } else if staging.copy(&path, name)? != input.sha256 && !input.sha256.is_empty() {
                report.warnings.push(format!("{shown} is not as it was when it was left out; it was copied"));
                report.changed.push(shown);
            }
            Ok(())
        }
        Kept::Copied | Kept::Extended { .. } if !store::is_file(&path)? => {
            report.warnings.push(format!("{shown} is recorded, but is not there"));
            report.missing.push(shown);
            Ok(())
        }
        Kept::Copied => {
            if staging.copy(&path, name)? != input.sha256 {
                report
                    .warnings
                    .push(format!("{shown} was changed or damaged after compression; it was copied"));
                report.changed.push(shown);
            }
            Ok(())
        }
        Kept::Extended { offset, length } => {
            let text = crate::checkpoint::read_text(&path)?;
            if let Some(original) = config::take_out(&text, *offset, *length, &input.sha256) {
                return staging.write(name, original.as_bytes());
            }
            report
                .warnings
                .push(format!("{shown} was changed after compression; {} was taken out of it", config::KEY));
            report.changed.push(shown);
            staging.write(name, without_our_key(&path, &text, report)?.as_bytes())
        }
    }
}

/// Writes the config of a folder that another program compressed, without `dfloat11_config`.
fn write_foreign_config(part: &Part, staging: &Staging, report: &mut DecompressReport) -> Result<(), Error> {
    let Some((text, _)) = &part.weights.config else { return Ok(()) };
    let name = part.weights.folder.join(CONFIG);
    let text = without_our_key(&part.weights.config_path(), text, report)?;
    staging.write(&name, text.as_bytes())
}

/// Writes a config anew, without `dfloat11_config`.
fn without_our_key(path: &Path, text: &str, report: &mut DecompressReport) -> Result<String, Error> {
    let wrong = |problem: String| Error::file(path, problem);
    // Rewriting the config would lose values that JSON cannot express.
    let Ok(value) = serde_json::from_str(text) else {
        report.warnings.push(format!(
            "{} holds infinities or NaN; it is copied with {} in it",
            CONFIG,
            config::KEY
        ));
        return Ok(text.to_owned());
    };
    config::without(&value).map_err(wrong)
}
