//! Compresses a checkpoint: scan, layout, write, check, publish.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rayon::prelude::*;

use crate::checkpoint::{Source, Weights};
use crate::config;
use crate::container::Located;
use crate::delta::Bases;
use crate::error::Error;
use crate::names::{CONFIG, MANIFEST, is_index, portable, relative};
use crate::ops::report::CompressReport;
use crate::packed::manifest::Manifest;
use crate::packed::metadata::{DeltaMetadata, FileMetadata};
use crate::packed::{MANIFEST_KEY, frame, unit};
use crate::partition::Units;
use crate::pool;
use crate::progress::Progress;
use crate::staging::{Staging, names_a_file};
use crate::store;

mod check;
mod extras;
pub(crate) mod layout;
mod options;
pub(crate) mod planned;
mod report;
pub(crate) mod scan;
mod write;

use extras::Extras;
use layout::Layout;
pub use options::{Codec, CompressOptions, Purpose};
use report::Report;
use scan::Scan;
use write::{Context, Written, write_file};

/// One compression: its input, its options and its output.
struct Job<'a> {
    source: &'a Source,
    lots: &'a [Weights],
    options: &'a CompressOptions,
    output: &'a Path,
    to_file: bool,
    form: frame::Form,
    progress: &'a dyn Progress,
    bases: Bases,
    /// The base of each tensor that has one, by lot and name, once the input has been read.
    deltas: OnceLock<HashMap<(usize, String), DeltaMetadata>>,
}

/// Compresses the checkpoint at `input` into the directory `output` (or, with
/// [`single_file`](CompressOptions::single_file), into the file `output` if its name ends in
/// `.safetensors`).
///
/// Everything below a directory comes along, except for what the report lists as left out. All
/// output is decoded and compared with digests of the input before any of it becomes visible. A run
/// that was interrupted can be repeated: it keeps each finished file whose content is right. If
/// compression would gain nothing, nothing is written.
///
/// # Errors
///
/// [`Error`], which names the file. Nothing that existed before the call is then changed.
pub fn compress(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &CompressOptions,
    progress: &dyn Progress,
) -> Result<CompressReport, Error> {
    let (input, output) = (&*store::plain(input.as_ref()), &*store::plain(output.as_ref()));
    if store::is_remote(output) {
        return planned::all(input, output, options, progress);
    }
    let to_file = names_a_file(output);
    if to_file && !options.single_file {
        return Err(Error::NotADirectory { path: output.to_owned() });
    }
    let form = options.form()?;
    let source = Source::open(input, Some(output))?;
    let lots = source.weights()?;
    refuse_what_cannot_be(&source, &lots, to_file)?;
    let bases = Bases::open(&options.bases)?;
    let deltas = OnceLock::new();
    let job = Job { source: &source, lots: &lots, options, output, to_file, form, progress, bases, deltas };
    let units: Vec<Units> = match job.codec() {
        codec if codec.is_of_frames() => lots.iter().map(|_| Units::default()).collect(),
        _ => lots
            .iter()
            .map(|lot| Units::find(lot, options.pattern_dict.as_ref()))
            .collect::<Result<_, _>>()?,
    };
    // This comes before any write, so that a config that cannot be extended fails early.
    let configs = new_configs(&lots, &units)?;
    let staging = begin(&job, input)?;
    // A directory that is not empty holds this run's output already, or is refused before anything
    // is read.
    staging.expect_done(may_be_done(&job, &staging))?;
    pool(options.threads)?.install(|| {
        let scan = Scan::run(&job)?;
        job.find_bases(&scan)?;
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

/// Refuses input that is compressed already, and names that could not be restored.
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
    let input = store::name_of(input)?;
    Staging::directory(job.output, &format!("df11 compress {}", input.display()), &inputs, job.options.force)
}

/// Tells whether the manifest of the output records files of these names. Their content is compared
/// when they are read.
fn may_be_done(job: &Job<'_>, staging: &Staging) -> bool {
    let outputs: BTreeSet<&str> = staging.old().iter().map(|output| output.name.as_str()).collect();
    let others = job.source.others.iter().filter(|name| !is_index(name));
    !outputs.is_empty()
        && others.filter_map(|name| portable(name)).all(|name| outputs.contains(name.as_str()))
}

/// Plans with the codec that the options name, or with the one that saves more.
fn choose<'a>(job: &'a Job<'_>, units: &'a [Units], scan: &Scan) -> Result<(Layout<'a>, Codec), Error> {
    let asked = job.codec();
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
    /// The codec that was asked for; with a base, that of frames.
    fn codec(&self) -> Codec {
        match self.options.codec {
            Codec::Fast => Codec::Fast,
            _ if !self.options.bases.is_empty() => Codec::Rans,
            codec => codec,
        }
    }

    /// Finds the base of each tensor.
    fn find_bases(&self, scan: &Scan) -> Result<(), Error> {
        let mut found = HashMap::new();
        for (number, lot) in self.lots.iter().enumerate().filter(|_| !self.options.bases.is_empty()) {
            for (_, tensor) in lot.iter().filter(|(_, tensor)| tensor.bytes() > 0) {
                let sha256 = hex::encode(scan.tensor(lot, &tensor.name)?.sha256);
                let dtype = tensor.dtype.to_string();
                if let Some(base) = self.bases.find(&tensor.name, &dtype, &tensor.shape, &sha256)? {
                    found.insert((number, tensor.name.clone()), base);
                }
            }
        }
        let _ = self.deltas.set(found);
        Ok(())
    }

    /// Returns the base of a tensor of a lot.
    fn base(&self, lot: usize, name: &str) -> Option<&DeltaMetadata> {
        self.deltas.get()?.get(&(lot, name.to_owned()))
    }

    /// Returns the output folder for the tensors of a lot.
    fn folder_of_lot(&self, lot: usize) -> PathBuf {
        let lot = &self.lots[lot];
        if self.to_file || lot.duplicates == 0 {
            return lot.folder.clone();
        }
        // Loaders would read tensors of one name twice. They do not look into folders that they do
        // not know.
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

/// The text of an extended config, the offset of the insertion and its length in bytes.
type NewConfig = (String, usize, usize);

/// Makes the config of each lot with units: the original, extended by the dictionary, or a new one.
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

/// Writes all weight files and checks them.
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

/// Finds a tensor by its name.
pub(crate) fn source<'a>(lot: &'a Weights, name: &str) -> Result<Located<'a>, Error> {
    lot.get(name).ok_or_else(|| Error::tensor(&lot.path, name, "is missing"))
}
