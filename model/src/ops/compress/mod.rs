//! Compressing a checkpoint: scan, layout, write, check, publish.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::json;

use crate::checkpoint::{Source, Weights};
use crate::config;
use crate::container::Located;
use crate::error::{Error, io};
use crate::names::{CONFIG, MANIFEST, digest, folder_of, is_index, portable, relative};
use crate::ops::report::{CompressReport, FrameReport, PlainReport};
use crate::packed::manifest::{Input, Kept, Manifest, OutputRecord};
use crate::packed::metadata::FileMetadata;
use crate::packed::{MANIFEST_KEY, frame, unit};
use crate::partition::Units;
use crate::pool;
use crate::progress::Progress;
use crate::staging::{Planned, Staging, names_a_file};

mod check;
pub(crate) mod layout;
mod options;
pub(crate) mod scan;
mod write;

use layout::Layout;
pub use options::{Codec, CompressOptions, Purpose};
use scan::Scan;
use write::{Context, Written, write_file};

/// What is done for whom.
struct Job<'a> {
    source: &'a Source,
    lots: &'a [Weights],
    options: &'a CompressOptions,
    output: &'a Path,
    to_file: bool,
    form: frame::Form,
    progress: &'a dyn Progress,
}

/// Compresses the checkpoint at `input` into the directory `output` (or, with
/// [`single_file`](CompressOptions::single_file), into the file `output` if its name ends in `.safetensors`).
///
/// Everything below a directory comes along, but for what the report lists as left out. All that was written is decoded
/// and compared with the digests of what was read before any of it becomes visible. A run that was cut short can be
/// repeated: files that it finished are kept if they hold what they should. Where nothing would be gained, nothing is
/// written.
///
/// # Errors
///
/// [`Error`], which names the file. What was there before is then unchanged.
pub fn compress(
    input: &Path,
    output: &Path,
    options: &CompressOptions,
    progress: &dyn Progress,
) -> Result<CompressReport, Error> {
    let to_file = names_a_file(output);
    if to_file && !options.single_file {
        return Err(Error::Usage(format!(
            "compression writes a directory with a file for each unit; name a directory instead of {}, or pass \
             --single-file",
            output.display()
        )));
    }
    let form = options.form()?;
    let source = Source::open(input, Some(output))?;
    let lots = source.weights()?;
    refuse_what_cannot_be(&source, &lots, to_file)?;
    let job = Job { source: &source, lots: &lots, options, output, to_file, form, progress };
    let units: Vec<Units> = match options.codec {
        codec if codec.is_of_frames() => lots.iter().map(|_| Units::default()).collect(),
        _ => lots
            .iter()
            .map(|lot| Units::find(lot, options.pattern_dict.as_ref()))
            .collect::<Result<_, _>>()?,
    };
    // Before anything is written, so that a config that cannot be extended is known at once.
    let configs = new_configs(&lots, &units)?;
    let staging = begin(&job, input)?;
    // A directory that is not empty holds this run already, or is refused before anything is read.
    staging.expect_done(may_be_done(&job, &staging))?;
    pool(options.threads)?.install(|| {
        let scan = Scan::run(&job)?;
        let (layout, codec) = choose(&job, &units, &scan)?;
        if !layout.has_gain() {
            staging.expect_done(false)?;
            staging.abandon()?;
            return Ok(
                Report { job: &job, units: &units, scan: &scan, layout: &layout, codec }.without_gain()
            );
        }
        let extras = Extras::plan(&job, &layout, &scan, configs)?;
        staging.clear_the_way(&extras.planned(&job, &layout, &scan), !to_file)?;
        let written = write_all(&job, &layout, &scan, &extras, &staging)?;
        extras.write(&job, &scan, &written, &staging)?;
        staging.publish()?;
        Ok(Report { job: &job, units: &units, scan: &scan, layout: &layout, codec }.of(written))
    })
}

/// Refuses what is compressed already, and names that could not be given back.
fn refuse_what_cannot_be(source: &Source, lots: &[Weights], to_file: bool) -> Result<(), Error> {
    for lot in lots {
        let (units, _) = unit::units(lot)?;
        if let Some(unit) = units.first() {
            let problem =
                format!("is compressed already: it holds the DF11 unit {}; nothing to do", unit.path);
            return Err(Error::file(unit.file(lot), problem));
        }
        for file in &lot.files {
            let path = &file.container.path;
            if FileMetadata::of(&file.container)?.is_some() {
                return Err(Error::file(path, "is compressed already, as frames; nothing to do"));
            }
            let is_plain = relative(&file.name).is_some_and(|name| source.weights.contains(&name));
            if !is_plain || (source.is_file && (file.name == CONFIG || file.name == MANIFEST)) {
                let problem = "restoring could not give the file this name; rename it first";
                return Err(Error::file(path, problem));
            }
        }
        if lot.config().is_some_and(|config| config.get(config::KEY).is_some()) {
            let key = config::KEY;
            let problem = format!("has a {key} already, but there are no DF11 units; remove that key");
            return Err(Error::file(&lot.config_path(), problem));
        }
    }
    if source.others.iter().any(|name| name == Path::new(MANIFEST)) {
        let problem = "has the name of the record that compression writes; rename it first";
        return Err(Error::file(&source.root.join(MANIFEST), problem));
    }
    if to_file && lots.len() > 1 {
        let problem = "has weights in several folders, or tensors of one name in several files, which one file \
                       cannot hold; name a directory as the output";
        return Err(Error::Usage(format!("{} {problem}", source.path.display())));
    }
    Ok(())
}

/// Opens the output.
fn begin(job: &Job<'_>, input: &Path) -> Result<Staging, Error> {
    let inputs: Vec<PathBuf> =
        job.lots.iter().flat_map(|lot| &lot.files).map(|file| file.container.path.clone()).collect();
    if job.to_file {
        return Staging::file(job.output, input, &inputs, job.options.force);
    }
    let input = fs::canonicalize(input).map_err(io("cannot open", input))?;
    Staging::directory(job.output, &format!("df11 compress {}", input.display()), &inputs, job.options.force)
}

/// Whether the manifest of the output records files of these names: more is seen when they are read.
fn may_be_done(job: &Job<'_>, staging: &Staging) -> bool {
    let outputs: BTreeSet<&str> = staging.old().iter().map(|output| output.name.as_str()).collect();
    let others = job.source.others.iter().filter(|name| !is_index(name));
    !outputs.is_empty()
        && others.filter_map(|name| portable(name)).all(|name| outputs.contains(name.as_str()))
}

/// Plans with the codec that was asked for, or with the one that pays.
fn choose<'a>(job: &'a Job<'_>, units: &'a [Units], scan: &Scan) -> Result<(Layout<'a>, Codec), Error> {
    let asked = job.options.codec;
    if asked != Codec::Choose {
        return Ok((Layout::plan(job, units, scan, asked)?, asked));
    }
    let layout = Layout::plan(job, units, scan, Codec::Df11)?;
    let all: u64 = job.lots.iter().flat_map(Weights::iter).map(|(_, tensor)| tensor.bytes()).sum();
    if layout.saved * 100 < all && layout.could_save * 20 >= all && layout.could_save > 0 {
        return Ok((Layout::plan(job, units, scan, Codec::Auto)?, Codec::Auto));
    }
    Ok((layout, Codec::Df11))
}

impl Job<'_> {
    /// The folder of the output that the tensors of a lot go to.
    fn folder_of_lot(&self, lot: usize) -> PathBuf {
        let lot = &self.lots[lot];
        if self.to_file || lot.duplicates == 0 {
            return lot.folder.clone();
        }
        // Loaders would read tensors of one name twice; they look into no folder that they do not know.
        let is_taken = |folder: &Path| {
            let files = self.source.weights.iter().chain(&self.source.others);
            files.into_iter().any(|name| name.starts_with(folder))
        };
        let mut folder = lot.folder.join(format!("duplicates-{}", lot.duplicates));
        while is_taken(&folder) {
            folder.as_mut_os_string().push("-");
        }
        folder
    }
}

/// The text of a config that is extended, where that begins, and how many bytes it has.
type NewConfig = (String, usize, usize);

/// The config of each lot that has units: the original, extended by the dictionary, or a new one.
fn new_configs(lots: &[Weights], units: &[Units]) -> Result<Vec<Option<NewConfig>>, Error> {
    let of_lot = |(lot, units): (&Weights, &Units)| {
        if units.units.is_empty() || lot.duplicates > 0 {
            return Ok(None);
        }
        let original = lot.config.as_ref().map_or("{\n}\n", |(text, _)| text.as_str());
        let extended = config::insert(original, &units.pattern_dict);
        extended.map(Some).map_err(|problem| Error::file(&lot.config_path(), problem))
    };
    lots.iter().zip(units).map(of_lot).collect()
}

/// What is written beside weights.
struct Extras {
    /// Companions and whole weight files that are copied: name, path, length, digest.
    copies: Vec<(PathBuf, PathBuf, u64, String)>,
    /// Configs and indices that are written: name and text.
    texts: BTreeMap<PathBuf, String>,
    inputs: Vec<Input>,
}

impl Extras {
    fn plan(
        job: &Job<'_>,
        layout: &Layout<'_>,
        scan: &Scan,
        configs: Vec<Option<NewConfig>>,
    ) -> Result<Self, Error> {
        let mut extras = Extras { copies: Vec::new(), texts: BTreeMap::new(), inputs: Vec::new() };
        extras.add_weights(job, layout, scan)?;
        let mut extended: BTreeMap<PathBuf, (usize, usize)> = BTreeMap::new();
        for (i, (lot, config)) in job.lots.iter().zip(configs).enumerate() {
            let has_units = layout.files.iter().any(|file| file.lot == i && !file.units.is_empty());
            if let Some((text, offset, length)) = config.filter(|_| has_units && !job.to_file) {
                let name = lot.folder.join(CONFIG);
                if lot.config.is_some() {
                    extended.insert(name.clone(), (offset, length));
                }
                extras.texts.insert(name, text);
            }
        }
        if !job.to_file {
            extras.add_indices(job, layout)?;
        }
        for (name, (bytes, sha256)) in job.source.others.iter().zip(&scan.others) {
            extras.add_other(job, layout, name, (*bytes, sha256.clone()), &extended)?;
        }
        for (left, (bytes, sha256)) in job.source.left_out.iter().zip(&scan.left_out) {
            let name = portable(&left.name).unwrap_or_else(|| left.name.to_string_lossy().into_owned());
            let kept = Kept::LeftOut { why: left.why.clone() };
            extras.inputs.push(Input { name, bytes: *bytes, sha256: sha256.clone(), kept });
        }
        extras.inputs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(extras)
    }

    fn add_weights(&mut self, job: &Job<'_>, layout: &Layout<'_>, scan: &Scan) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        for (lot, &copied) in job.lots.iter().zip(&layout.copied) {
            for file in lot.files.iter().filter(|file| seen.insert(file.name.clone())) {
                let name = &file.name;
                let found = scan.file(name);
                let scan = found.ok_or_else(|| Error::file(&file.container.path, "was not read"))?;
                let (bytes, sha256) = (scan.bytes, scan.sha256.clone());
                let kept = if copied {
                    let path = file.container.path.clone();
                    self.copies.push((PathBuf::from(name), path, bytes, sha256.clone()));
                    Kept::Copied
                } else {
                    Kept::Tensors { header: file.container.header.clone() }
                };
                self.inputs.push(Input { name: name.clone(), bytes, sha256, kept });
            }
        }
        Ok(())
    }

    /// An index for frames in several files that are not those of the original.
    fn add_indices(&mut self, job: &Job<'_>, layout: &Layout<'_>) -> Result<(), Error> {
        for i in 0..job.lots.len() {
            let files: Vec<_> = layout.files.iter().filter(|file| file.lot == i).collect();
            let has_units = files.iter().any(|file| !file.units.is_empty());
            if files.len() < 2 || has_units || keeps_names(job, layout, &job.lots[i].folder) {
                continue;
            }
            let (mut map, mut total) = (serde_json::Map::new(), 0);
            for file in files {
                let shard = file.name.file_name().unwrap_or_default().to_string_lossy().into_owned();
                total += file.source_bytes(&job.lots[i]);
                for name in file.frames.iter().chain(&file.plain) {
                    map.insert((*name).to_owned(), json!(shard));
                }
            }
            let index = json!({"metadata": {"total_size": total}, "weight_map": map});
            let text =
                serde_json::to_string_pretty(&index).map_err(|error| Error::Usage(error.to_string()))?;
            let name = job.folder_of_lot(i).join("model.safetensors.index.json");
            self.texts.insert(name, text + "\n");
        }
        Ok(())
    }

    fn add_other(
        &mut self,
        job: &Job<'_>,
        layout: &Layout<'_>,
        name: &Path,
        (bytes, sha256): (u64, String),
        extended: &BTreeMap<PathBuf, (usize, usize)>,
    ) -> Result<(), Error> {
        let path = job.source.root.join(name);
        let text = portable(name).filter(|text| relative(text).is_some());
        let text =
            text.ok_or_else(|| Error::file(&path, "has a name that cannot be recorded; rename it first"))?;
        let kept = if job.to_file {
            Kept::LeftOut { why: "the output is one file".to_owned() }
        } else if let Some(&(offset, length)) = extended.get(name) {
            Kept::Extended { offset, length }
        } else if is_index(name) && !keeps_names(job, layout, &folder_of(name))
            || self.texts.contains_key(name)
        {
            Kept::Text { text: crate::checkpoint::read_text(&path)? }
        } else {
            self.copies.push((name.to_owned(), path, bytes, sha256.clone()));
            Kept::Copied
        };
        self.inputs.push(Input { name: text, bytes, sha256, kept });
        Ok(())
    }

    /// Everything that is to be written.
    fn planned(&self, job: &Job<'_>, layout: &Layout<'_>, _scan: &Scan) -> Vec<Planned> {
        let mut planned: Vec<Planned> =
            layout.files.iter().map(|file| Planned { name: file.name.clone(), content: None }).collect();
        for (name, _, bytes, sha256) in &self.copies {
            planned.push(Planned { name: name.clone(), content: Some((*bytes, sha256.clone())) });
        }
        for (name, text) in &self.texts {
            let content = Some((text.len() as u64, digest(text.as_bytes())));
            planned.push(Planned { name: name.clone(), content });
        }
        if !job.to_file {
            planned.push(Planned { name: PathBuf::from(MANIFEST), content: None });
        }
        planned
    }

    /// Stages everything but what was written already.
    fn write(
        &self,
        job: &Job<'_>,
        _scan: &Scan,
        written: &[Written],
        staging: &Staging,
    ) -> Result<(), Error> {
        if job.to_file {
            return Ok(());
        }
        let mut outputs: Vec<OutputRecord> = written.iter().map(|file| file.record.clone()).collect();
        let record = |name: &Path, bytes: u64, sha256: &str| OutputRecord {
            name: portable(name).unwrap_or_default(),
            bytes,
            sha256: sha256.to_owned(),
            weights: false,
        };
        for (name, path, bytes, sha256) in &self.copies {
            if !staging.has(name) && staging.copy(path, name)? != *sha256 {
                return Err(Error::file(path, "changed while it was copied; run it again"));
            }
            outputs.push(record(name, *bytes, sha256));
        }
        for (name, text) in &self.texts {
            if !staging.has(name) {
                staging.write(name, text.as_bytes())?;
            }
            outputs.push(record(name, text.len() as u64, &digest(text.as_bytes())));
        }
        outputs.sort_by(|a, b| a.name.cmp(&b.name));
        let manifest = Manifest::new(self.inputs.clone(), outputs);
        let text = manifest.seal().map_err(|problem| Error::file(&job.output.join(MANIFEST), problem))?;
        let name = Path::new(MANIFEST);
        if fs::read(staging.path_of(name)).is_ok_and(|found| found == text.as_bytes()) {
            staging.keep(name, staging.path_of(name));
            return Ok(());
        }
        staging.write(name, text.as_bytes())
    }
}

/// Whether the weight files of a folder have the names that they had, so that an index stays true.
fn keeps_names(job: &Job<'_>, layout: &Layout<'_>, folder: &Path) -> bool {
    let of_folder = |i: &usize| job.lots[*i].folder == folder;
    let mut lots = (0..job.lots.len()).filter(of_folder);
    lots.all(|i| {
        let same = |file: &layout::FilePlan<'_>| {
            let named =
                |source: &std::sync::Arc<crate::checkpoint::WeightFile>| file.name == Path::new(&source.name);
            let mut files = job.lots[i].files.iter();
            file.units.is_empty() && files.any(named)
        };
        layout.copied[i] || layout.files.iter().filter(|file| file.lot == i).all(same)
    })
}

/// Writes all weight files, and checks them.
fn write_all(
    job: &Job<'_>,
    layout: &Layout<'_>,
    scan: &Scan,
    extras: &Extras,
    staging: &Staging,
) -> Result<Vec<Written>, Error> {
    let bytes = layout.files.iter().map(|file| file.source_bytes(&job.lots[file.lot])).sum();
    job.progress.begin("compressing", bytes);
    let manifest = if job.to_file {
        let sealed = Manifest::new(extras.inputs.clone(), Vec::new()).seal();
        Some(sealed.map_err(|problem| Error::file(job.output, problem))?)
    } else {
        None
    };
    let manifest = manifest.as_deref().map(|text| (MANIFEST_KEY, text));
    let files = layout.files.par_iter().with_max_len(1);
    let written: Vec<Result<Written, Error>> = files
        .map(|plan| write_file(&Context { job, lot: &job.lots[plan.lot], plan, scan, manifest }, staging))
        .collect();
    written.into_iter().collect()
}

/// A tensor by its name.
pub(crate) fn source<'a>(lot: &'a Weights, name: &str) -> Result<Located<'a>, Error> {
    lot.get(name).ok_or_else(|| Error::tensor(&lot.path, name, "is missing"))
}

/// What a report is made from.
struct Report<'a> {
    job: &'a Job<'a>,
    units: &'a [Units],
    scan: &'a Scan,
    layout: &'a Layout<'a>,
    codec: Codec,
}

impl Report<'_> {
    /// The report of a run that wrote nothing.
    fn without_gain(&self) -> CompressReport {
        let mut report = self.empty();
        report.nothing_to_gain = true;
        report.bytes_after = report.bytes_before;
        let all = self.job.lots.iter().flat_map(Weights::iter);
        let plain = all.map(|(_, tensor)| self.plain(&tensor.name, tensor.dtype, tensor.bytes()));
        report.plain = plain.flatten().collect();
        self.add_refused(&mut report);
        report
    }

    /// The report of a run that wrote these files.
    fn of(&self, written: Vec<Written>) -> CompressReport {
        let mut report = self.empty();
        for (file, plan) in written.into_iter().zip(&self.layout.files) {
            let lot = &self.job.lots[plan.lot];
            report.bytes_after += file.record.bytes;
            report.kept_files += usize::from(file.kept);
            let shown = if self.job.to_file {
                crate::names::file_name(self.job.output)
            } else {
                file.record.name.clone()
            };
            for (unit, largest) in plan.units.iter().zip(file.largest_blocks) {
                report.units.push(unit.report(largest, &shown));
            }
            for (name, bytes_after) in file.frames {
                if let Some((_, tensor)) = lot.get(&name) {
                    let (dtype, bytes_before) = (tensor.dtype.to_string(), tensor.bytes());
                    report.frames.push(FrameReport { name, dtype, bytes_before, bytes_after });
                }
            }
            for name in file.plain {
                if let Some((_, tensor)) = lot.get(&name) {
                    report.plain.extend(self.plain(&name, tensor.dtype, tensor.bytes()));
                }
            }
        }
        for (i, lot) in self.job.lots.iter().enumerate().filter(|(i, _)| self.layout.copied[*i]) {
            let _ = i;
            report.copied_weights.extend(lot.files.iter().map(|file| file.name.clone()));
            report.bytes_after += lot.files.iter().map(|file| file.container.len).sum::<u64>();
            let plain = lot.iter().map(|(_, tensor)| self.plain(&tensor.name, tensor.dtype, tensor.bytes()));
            report.plain.extend(plain.flatten());
        }
        self.add_refused(&mut report);
        report
    }

    fn empty(&self) -> CompressReport {
        let given = self.job.options.pattern_dict.is_some();
        let unmatched =
            |pattern: &&String| self.units.iter().all(|units| units.unmatched.contains(pattern)) && given;
        let first = self.units.first();
        let mut seen = BTreeSet::new();
        let files = self.job.lots.iter().flat_map(|lot| &lot.files);
        let bytes = files.filter(|file| seen.insert(&file.name)).map(|file| file.container.len);
        CompressReport {
            units_from: first.map(|units| units.origin.clone()).unwrap_or_default(),
            unmatched_patterns: first
                .map(|units| units.unmatched.iter().filter(unmatched).cloned().collect())
                .unwrap_or_default(),
            codec: match self.codec {
                Codec::Rans => "rans",
                Codec::Fast => "fast",
                Codec::Auto => "auto",
                _ => "df11",
            }
            .to_owned(),
            units: Vec::new(),
            frames: Vec::new(),
            plain: Vec::new(),
            copied_weights: Vec::new(),
            left_behind: self.left_behind(),
            kept_files: 0,
            bytes_before: bytes.sum(),
            bytes_after: 0,
            frames_would_save: self.layout.could_save,
            nothing_to_gain: false,
        }
    }

    fn left_behind(&self) -> Vec<(String, String)> {
        let left = self.job.source.left_out.iter();
        let mut all: Vec<_> = left.map(|left| (left.name.display().to_string(), left.why.clone())).collect();
        if self.job.to_file {
            let others = self.job.source.others.iter();
            all.extend(others.map(|name| (name.display().to_string(), "the output is one file".to_owned())));
        }
        debug_assert_eq!(self.scan.others.len(), self.job.source.others.len());
        all
    }

    /// A tensor that stays as it is, unless its unit is reported as a whole.
    fn plain(&self, name: &str, dtype: safetensors::Dtype, bytes: u64) -> Option<PlainReport> {
        if self.layout.in_refused.contains(name) {
            return None;
        }
        let known = self.layout.why.get(name).cloned();
        let reason = known.unwrap_or_else(|| layout::reason(self.codec, dtype).to_owned());
        Some(PlainReport { name: name.to_owned(), dtype: dtype.to_string(), bytes, reason })
    }

    fn add_refused(&self, report: &mut CompressReport) {
        for (name, bytes, reason) in &self.layout.refused {
            let (name, dtype, reason) = (name.clone(), "BF16".to_owned(), reason.clone());
            report.plain.push(PlainReport { name, dtype, bytes: *bytes, reason });
        }
        layout::by_name(&mut report.units, |unit| &unit.path);
        layout::by_name(&mut report.frames, |frame| &frame.name);
        layout::by_name(&mut report.plain, |plain| &plain.name);
    }
}
