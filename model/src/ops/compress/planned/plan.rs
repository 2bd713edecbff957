//! A plan on paper: what is known of the input, and the tasks that follow from it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::super::layout::{FilePlan, expected};
use super::super::{Codec, CompressOptions, Job, refuse_what_cannot_be};
use crate::checkpoint::{Known, LeftOut, Source, Weights};
use crate::delta::Bases;
use crate::error::Error;
use crate::names::{CONFIG, digest, file_name, is_index, portable, relative};
use crate::partition::pattern::PatternDict;
use crate::partition::{UnitSpec, Units};
use crate::store;

/// The version of these structures.
const VERSION: u32 = 1;

/// The longest plan that is read, in bytes. A plan holds the headers of all weight files.
const LONGEST: u64 = 4 << 30;

/// The folder, inside of the output, for what tasks leave there until they are finished.
pub(super) const TASKS: &str = ".df11-tasks";

/// The name that a plan has unless the caller gives it one.
const NAME: &str = ".df11-plan.json";

/// What one task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Reads one weight file of the input from start to end, for its digests.
    Digest,
    /// Writes one weight file of the output.
    Write,
}

/// A task of a plan: work that any machine can do at any time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedTask {
    /// What it does.
    pub kind: TaskKind,
    /// The file that it reads (to digest it) or writes.
    pub file: String,
    /// The module paths of the units that it encodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<String>,
    /// The ranges of bytes that it reads: the file, the first byte, the one after the last.
    pub reads: Vec<(String, u64, u64)>,
    /// The number of bytes that it reads.
    pub bytes: u64,
    /// An upper bound of the memory that it takes, in bytes, beside the program itself.
    pub memory: u64,
}

/// A plan as its file holds it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Paper {
    version: u32,
    writer: String,
    pub(super) input: PathBuf,
    pub(super) output: PathBuf,
    options: Options,
    source: Listing,
    pub(super) tasks: Vec<PlannedTask>,
}

/// The options that the bytes of the output depend on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    codec: String,
    force: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pattern_dict: Option<PatternDict>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_shard_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    block_len: Option<usize>,
}

/// The files of the input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    is_file: bool,
    weights: Vec<WeightFile>,
    others: Vec<String>,
    /// Name, reason, and whether it is a file.
    left_out: Vec<(PathBuf, String, bool)>,
    texts: BTreeMap<String, String>,
}

/// A weight file of the input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightFile {
    name: PathBuf,
    bytes: u64,
    header: String,
}

/// An opened plan.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) path: PathBuf,
    /// The first digits of the digest of its text.
    pub(super) id: String,
    pub(super) paper: Paper,
    pub(super) source: Source,
    pub(super) lots: Vec<Weights>,
    pub(super) units: Vec<Units>,
    pub(super) options: CompressOptions,
}

impl Plan {
    /// Plans the compression of `input`. Reads the headers of its weight files, and no weights.
    pub(super) fn make(input: &Path, output: &Path, options: &CompressOptions) -> Result<Paper, Error> {
        let codec = name_of(options.codec)?;
        if options.single_file || file_name(output).ends_with(crate::names::WEIGHTS) {
            let problem = "a plan writes a directory or a folder of a store; name one, without --single-file";
            return Err(Error::Usage(problem.to_owned()));
        }
        options.form()?;
        let source = Source::open(input, Some(output))?;
        let lots = source.weights()?;
        refuse_what_cannot_be(&source, &lots, false)?;
        let listing = Listing::of(&source, &lots)?;
        let input = store::name_of(input)?;
        let made = Options {
            codec: codec.to_owned(),
            force: options.force,
            pattern_dict: options.pattern_dict.clone(),
            max_shard_size: options.max_shard_size,
            block_len: options.block_len,
        };
        let mut paper = Paper {
            version: VERSION,
            writer: concat!("df11 ", env!("CARGO_PKG_VERSION")).to_owned(),
            input,
            output: absolute(output)?,
            options: made,
            source: listing,
            tasks: Vec::new(),
        };
        let units = find_units(&lots, options)?;
        let job = job(&source, &lots, options, &paper.output, &())?;
        paper.tasks = tasks(&job, &units);
        Ok(paper)
    }

    /// Opens a plan. Nothing of the input is read.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let wrong = |problem: String| Error::file(path, format!("is no plan of this program: {problem}"));
        let bytes = store::read(path, LONGEST)?;
        let id = digest(&bytes)[..16].to_owned();
        let paper: Paper = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        let writer = concat!("df11 ", env!("CARGO_PKG_VERSION"));
        if (paper.version, paper.writer.as_str()) != (VERSION, writer) {
            let problem = format!("{} made it, and this is {writer}; plan again", paper.writer);
            return Err(Error::file(path, problem));
        }
        let source = paper.source.to_source(&paper.input);
        let lots = source.weights()?;
        let options = CompressOptions {
            codec: codec_of(&paper.options.codec).ok_or_else(|| wrong("its codec is unknown".to_owned()))?,
            pattern_dict: paper.options.pattern_dict.clone(),
            force: paper.options.force,
            max_shard_size: paper.options.max_shard_size,
            block_len: paper.options.block_len,
            ..CompressOptions::default()
        };
        let units = find_units(&lots, &options)?;
        let plan = Plan { path: path.to_owned(), id, paper, source, lots, units, options };
        let job = plan.job(&())?;
        if tasks(&job, &plan.units) != plan.paper.tasks {
            return Err(wrong("its tasks do not follow from its input; plan again".to_owned()));
        }
        Ok(plan)
    }

    /// Returns what the operations of compression are given.
    pub(super) fn job<'a>(&'a self, progress: &'a dyn crate::Progress) -> Result<Job<'a>, Error> {
        job(&self.source, &self.lots, &self.options, &self.paper.output, progress)
    }

    /// Returns the path of what tasks leave behind.
    pub(super) fn left(&self, name: &str) -> PathBuf {
        self.paper.output.join(TASKS).join(&self.id).join(name)
    }

    /// Returns the path of the record of a task.
    pub(super) fn record(&self, task: usize) -> PathBuf {
        self.left(&record_name(task))
    }
}

impl Paper {
    pub(super) fn text(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|error| Error::Usage(error.to_string()))
    }
}

/// Returns the name of the record of a task.
pub(super) fn record_name(task: usize) -> String {
    format!("task-{task:06}.json")
}

/// Returns the path that a plan has unless the caller gives it one.
pub(super) fn default_path(output: &Path) -> PathBuf {
    output.join(NAME)
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    if store::is_remote(path) {
        return Ok(path.to_owned());
    }
    std::path::absolute(path).map_err(crate::error::io("cannot find", path))
}

fn job<'a>(
    source: &'a Source,
    lots: &'a [Weights],
    options: &'a CompressOptions,
    output: &'a Path,
    progress: &'a dyn crate::Progress,
) -> Result<Job<'a>, Error> {
    if !options.bases.is_empty() {
        let problem = "deltas against a base are made by one run, to a directory of this machine";
        return Err(Error::Usage(problem.to_owned()));
    }
    let (bases, deltas, form) = (Bases::default(), OnceLock::new(), options.form()?);
    Ok(Job { source, lots, options, output, to_file: false, form, progress, bases, deltas })
}

fn find_units(lots: &[Weights], options: &CompressOptions) -> Result<Vec<Units>, Error> {
    let of_lot = |lot: &Weights| match options.codec {
        codec if codec.is_of_frames() => Ok(Units::default()),
        _ => Units::find(lot, options.pattern_dict.as_ref()),
    };
    lots.iter().map(of_lot).collect()
}

/// Returns the name of a codec that a plan can have.
fn name_of(codec: Codec) -> Result<&'static str, Error> {
    match codec {
        Codec::Df11 | Codec::Choose => Ok("df11"),
        Codec::Rans => Ok("rans"),
        Codec::Fast => Ok("fast"),
        Codec::Auto => Err(Error::Usage(
            "codec auto compares all units before it writes one, so its work cannot be cut; choose df11 or rans"
                .to_owned(),
        )),
    }
}

fn codec_of(name: &str) -> Option<Codec> {
    [Codec::Df11, Codec::Rans, Codec::Fast].into_iter().find(|codec| name_of(*codec).is_ok_and(|n| n == name))
}

impl Listing {
    fn of(source: &Source, lots: &[Weights]) -> Result<Self, Error> {
        let mut files: BTreeMap<&str, &crate::container::Container> = BTreeMap::new();
        for file in lots.iter().flat_map(|lot| &lot.files) {
            files.insert(&file.name, &file.container);
        }
        let weights = source.weights.iter().filter_map(|name| {
            let container = files.get(portable(name)?.as_str())?;
            Some(WeightFile { name: name.clone(), bytes: container.len, header: container.header.clone() })
        });
        let mut texts = BTreeMap::new();
        for name in &source.others {
            if is_index(name) || file_name(name) == CONFIG {
                texts.insert(said(source, name)?, source.text(name)?);
            }
        }
        Ok(Listing {
            is_file: source.is_file,
            weights: weights.collect(),
            others: source.others.iter().map(|name| said(source, name)).collect::<Result<_, _>>()?,
            left_out: source.left_out.iter().map(|l| (l.name.clone(), l.why.clone(), l.is_file)).collect(),
            texts,
        })
    }

    fn to_source(&self, input: &Path) -> Source {
        let mut source = Source::empty_at(input, self.is_file, false);
        let path = PathBuf::from;
        source.weights = self.weights.iter().map(|file| file.name.clone()).collect();
        source.others = self.others.iter().map(path).collect();
        let left = self.left_out.iter().cloned();
        source.left_out = left.map(|(name, why, is_file)| LeftOut { name, why, is_file }).collect();
        let headers = self.weights.iter().map(|file| (file.name.clone(), (file.bytes, file.header.clone())));
        let texts = self.texts.iter().map(|(name, text)| (path(name), text.clone()));
        source.known = Some(Known { headers: headers.collect(), texts: texts.collect() });
        source
    }
}

/// Writes the name of a file as plans do.
fn said(source: &Source, name: &Path) -> Result<String, Error> {
    portable(name).filter(|text| relative(text).is_some()).ok_or_else(|| {
        Error::file(&source.root.join(name), "has a name that cannot be recorded; rename it first")
    })
}

/// Lists the tasks: files to be written, the largest first, so that the last tasks are short; then
/// files to be digested.
fn tasks(job: &Job<'_>, units: &[Units]) -> Vec<PlannedTask> {
    let mut all: Vec<PlannedTask> = order(&expected(job, units), job.lots)
        .into_iter()
        .map(|file| write_task(&job.lots[file.lot], file))
        .collect();
    let mut seen = std::collections::BTreeMap::new();
    for file in job.lots.iter().flat_map(|lot| &lot.files) {
        seen.insert(file.name.clone(), file.container.len);
    }
    all.extend(seen.into_iter().map(|(file, bytes)| PlannedTask {
        kind: TaskKind::Digest,
        reads: vec![(file.clone(), 0, bytes)],
        file,
        units: Vec::new(),
        bytes,
        memory: 8 * store::REQUEST,
    }));
    all
}

/// Orders files as tasks write them: the largest first.
pub(super) fn order<'p, 'a>(
    files: &'p [FilePlan<'a, &'a UnitSpec>],
    lots: &[Weights],
) -> Vec<&'p FilePlan<'a, &'a UnitSpec>> {
    let mut all: Vec<_> = files.iter().collect();
    all.sort_by_cached_key(|file| std::cmp::Reverse(file.source_bytes(&lots[file.lot])));
    all
}

fn write_task(lot: &Weights, file: &FilePlan<'_, &UnitSpec>) -> PlannedTask {
    let mut reads: Vec<(usize, Range<u64>)> = Vec::new();
    let mut places: Vec<(usize, usize)> =
        file.names().filter_map(|name| lot.tensors.get(name).copied()).collect();
    places.sort_unstable();
    for (at, tensor) in places {
        let range = lot.at((at, tensor)).1.range.clone();
        match reads.last_mut().filter(|(last, end)| *last == at && end.end == range.start) {
            Some((_, last)) => last.end = range.end,
            None => reads.push((at, range)),
        }
    }
    let bytes = file.source_bytes(lot);
    let units = file.units.iter().map(|unit| 2 * unit.elements);
    let singles = file.plain.iter().map(|name| lot.get(name).map_or(0, |(_, tensor)| tensor.bytes()));
    let largest = units.chain(singles).max().unwrap_or(0);
    PlannedTask {
        kind: TaskKind::Write,
        file: portable(&file.name).unwrap_or_default(),
        units: file.units.iter().map(|unit| unit.path.clone()).collect(),
        reads: reads
            .into_iter()
            .map(|(at, range)| (lot.files[at].name.clone(), range.start, range.end))
            .collect(),
        bytes,
        // The tensors, the file, and what is being encoded.
        memory: 2 * bytes + largest + 8 * store::REQUEST,
    }
}
