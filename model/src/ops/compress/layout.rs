//! Layout: from histograms alone, what each tensor becomes and which file it goes to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use df11::{
    EncodeOptions, PUBLISHED_SHARED_MEMORY, Plan,
    hazmat::{huffman, layout::GAP_BYTES_PER_BLOCK},
    shared_memory_bytes,
};
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use super::scan::Scan;
use super::{Codec, Job, source};
use crate::checkpoint::Weights;
use crate::container::Mapped;
use crate::error::Error;
use crate::names::{WEIGHTS, natural_order};
use crate::ops::report::{UnitReport, entropy};
use crate::packed::{frame, metadata};
use crate::partition::{DEEPEST, UnitSpec, Units, reasons};
use crate::share;

/// The file for everything that belongs to no unit.
const REST: &str = "model.safetensors";

/// Up to this many units, each has a file of its own. Beyond, small ones share files.
const MANY_UNITS: usize = 512;

/// Files of many units are filled up to this many bytes.
const SHARED_FILE: u64 = 64 << 20;

/// The most bytes of a header that are planned; readers accept 100,000,000.
const MOST_HEADER: u64 = 40 << 20;

/// Bytes of metadata of the originals that every file carries; above, `format` alone.
const MOST_METADATA: usize = 1 << 16;

/// By how much a compressed form may be larger than its source, for its record. Above, it is no
/// gain.
const SLACK: u64 = 1 << 16;

pub(crate) const IN_NO_UNIT: &str = "in no unit";
pub(crate) const NOT_BF16: &str = "not BF16";
const NO_GAIN: &str = "would not shrink";

/// A unit that is ready to be encoded.
#[derive(Debug)]
pub(crate) struct PreparedUnit<'a> {
    pub(crate) spec: &'a UnitSpec,
    pub(crate) plan: Plan,
    pub(crate) frequencies: [u64; 256],
}

/// A file of the output.
#[derive(Debug, Default)]
pub(super) struct FilePlan<'a> {
    pub(super) name: PathBuf,
    /// Which of the lots its tensors are of.
    pub(super) lot: usize,
    pub(super) units: Vec<Box<PreparedUnit<'a>>>,
    /// Names of tensors that become frames.
    pub(super) frames: Vec<&'a str>,
    /// Names of tensors that stay as they are.
    pub(super) plain: Vec<&'a str>,
    /// The metadata of the originals that go with it.
    pub(super) metadata: BTreeMap<String, String>,
}

/// What becomes of the weights.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub(super) files: Vec<FilePlan<'a>>,
    /// Lots whose files are copied as they are, since nothing would be gained.
    pub(super) copied: Vec<bool>,
    /// Units that stay plain, with their bytes and the reason.
    pub(super) refused: Vec<(String, u64, String)>,
    /// Why tensors stay plain.
    pub(super) why: HashMap<&'a str, String>,
    /// Names of tensors whose units stay plain: reported as a whole.
    pub(super) in_refused: HashSet<&'a str>,
    /// About how many bytes are saved.
    pub(super) saved: u64,
    /// About how many bytes frames would save more.
    pub(super) could_save: u64,
}

/// What becomes of the tensors of one lot.
struct Choice<'a> {
    units: Vec<Box<PreparedUnit<'a>>>,
    frames: HashSet<&'a str>,
    refused: Vec<(&'a UnitSpec, String)>,
    /// About how many bytes are saved, and how many more frames would save.
    saved: u64,
    could_save: u64,
}

impl<'a> Layout<'a> {
    pub(super) fn plan(
        job: &'a Job<'_>,
        units: &'a [Units],
        scan: &Scan,
        codec: Codec,
    ) -> Result<Self, Error> {
        let mut layout = Layout {
            files: Vec::new(),
            copied: Vec::new(),
            refused: Vec::new(),
            why: HashMap::new(),
            in_refused: HashSet::new(),
            saved: 0,
            could_save: 0,
        };
        // Whether a folder gains: its files are written anew, or copied, all alike.
        let mut gains: HashMap<&Path, bool> = HashMap::new();
        let mut planned = Vec::new();
        for (i, (lot, units)) in job.lots.iter().zip(units).enumerate() {
            let choice = Choice::make(lot, units, scan, codec, job.form)?;
            layout.could_save += choice.could_save;
            for (spec, why) in &choice.refused {
                let (path, bytes) = (spec.path.clone(), 2 * spec.elements);
                if spec.tensors.iter().any(|name| !choice.frames.contains(name.as_str())) {
                    layout.refused.push((path, bytes, why.clone()));
                    layout.in_refused.extend(spec.tensors.iter().map(String::as_str));
                }
            }
            for (name, why) in reasons(&units.left_plain) {
                layout.why.insert(name, why);
            }
            let files = assign(job, lot, i, choice.units, &choice.frames, codec);
            let record: u64 = files.iter().map(|file| file.record_bytes(lot)).sum();
            let has_gain = choice.saved > 0 && choice.saved + SLACK > record;
            *gains.entry(&lot.folder).or_default() |= has_gain;
            layout.saved += choice.saved;
            planned.push(files);
        }
        for (lot, files) in job.lots.iter().zip(planned) {
            let has_gain = gains.get(lot.folder.as_path()) == Some(&true);
            layout.copied.push(!has_gain);
            layout.files.extend(files.into_iter().filter(|_| has_gain));
        }
        Ok(layout)
    }

    /// Whether anything is compressed.
    pub(super) fn has_gain(&self) -> bool {
        self.copied.iter().any(|copied| !copied)
    }
}

impl<'a> Choice<'a> {
    fn make(
        lot: &'a Weights,
        units: &'a Units,
        scan: &Scan,
        codec: Codec,
        form: frame::Form,
    ) -> Result<Self, Error> {
        let specs = if codec.is_of_frames() { &[][..] } else { &units.units };
        let prepared = specs.par_iter().with_max_len(share(specs.len())).map(|spec| prepare(lot, spec, scan));
        let prepared = prepared.collect::<Result<Vec<_>, Error>>()?;
        let mut choice = Choice {
            units: Vec::new(),
            frames: HashSet::new(),
            refused: Vec::new(),
            saved: 0,
            could_save: 0,
        };
        let mut in_units: HashSet<&str> = HashSet::new();
        let frames: HashMap<&str, u64> = lot
            .tensors
            .par_iter()
            .filter_map(|(name, &place)| {
                let (_, tensor) = lot.at(place);
                if tensor.bytes() <= frame::LEAST {
                    return None;
                }
                let bytes = frame::estimate(tensor, &scan.tensor(lot, name).ok()?.counts(), form)?;
                (bytes < tensor.bytes()).then_some((name.as_str(), bytes))
            })
            .collect();
        let size = |name: &str| -> u64 {
            let plain = lot.get(name).map_or(0, |(_, tensor)| tensor.bytes());
            frames.get(name).copied().unwrap_or(plain)
        };
        for (spec, unit) in specs.iter().zip(prepared) {
            let before = 2 * spec.elements;
            let as_frames: u64 = spec.tensors.iter().map(|name| size(name)).sum();
            match unit {
                Ok(unit) => {
                    let bytes = unit.plan.sizes().total();
                    if codec == Codec::Auto && as_frames < bytes {
                        continue; // to the frames below
                    }
                    choice.saved += before - bytes;
                    choice.could_save += bytes.saturating_sub(as_frames);
                    in_units.extend(spec.tensors.iter().map(String::as_str));
                    choice.units.push(unit);
                }
                Err(why) => choice.refused.push((spec, why)),
            }
        }
        for (name, &place) in lot.tensors.iter().filter(|(name, _)| !in_units.contains(name.as_str())) {
            let gain = lot.at(place).1.bytes() - size(name);
            if codec == Codec::Df11 {
                choice.could_save += gain;
            } else if gain > 0 {
                choice.saved += gain;
                choice.frames.insert(name);
            }
        }
        Ok(choice)
    }
}

/// Plans a unit's code, or says why its tensors have to stay plain.
pub(crate) fn prepare<'a>(
    lot: &Weights,
    spec: &'a UnitSpec,
    scan: &Scan,
) -> Result<Result<Box<PreparedUnit<'a>>, String>, Error> {
    // What the parts have at least: two rows of tables, the gaps of a block, two output positions,
    // a byte and a bit for each weight. A code for less is not worth its making.
    let least = 2 * 256 + GAP_BYTES_PER_BLOCK as u64 + 8 + spec.elements + spec.elements.div_ceil(8);
    if least >= 2 * spec.elements {
        let before = 2 * spec.elements;
        return Ok(Err(format!("would not shrink: {before} bytes plain, at least {least} compressed")));
    }
    let mut frequencies = [0u64; 256];
    for name in &spec.tensors {
        let counts = scan.tensor(lot, name)?.counts();
        let found = counts[usize::from(huffman::FIRST_JUMP)..].iter().sum::<u64>();
        if found > 0 {
            return Ok(Err(format!(
                "{found} of the {} weights of {name} are infinite, NaN or at least 2^113 in magnitude, which \
                 the layout cannot hold",
                counts.iter().sum::<u64>()
            )));
        }
        frequencies.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
    }
    plan(lot, spec, frequencies)
}

fn plan<'a>(
    lot: &Weights,
    spec: &'a UnitSpec,
    frequencies: [u64; 256],
) -> Result<Result<Box<PreparedUnit<'a>>, String>, Error> {
    let plan_with =
        |options: &EncodeOptions| Plan::from_frequencies(&frequencies, spec.tensors.len(), options);
    let mut plan = match plan_with(&EncodeOptions::default()) {
        Ok(plan) => plan,
        Err(why) => return Ok(Err(why.to_string())),
    };
    // Without codewords of one bit, a block holds at most 16,384 elements. With them, a run of one
    // exponent may put more into a block than published loaders have shared memory for; then the
    // code does without. This alone reads the weights once more.
    let one_bit = plan.codewords().lengths().contains(&1);
    if one_bit && shared_memory_bytes(largest_block(lot, spec, &plan)?) > PUBLISHED_SHARED_MEMORY {
        plan = match plan_with(&EncodeOptions::new().least_code_length(2)) {
            Ok(plan) => plan,
            Err(why) => return Ok(Err(why.to_string())),
        };
    }
    let (before, after) = (2 * spec.elements, plan.sizes().total());
    if after >= before {
        return Ok(Err(format!("would not shrink: {before} bytes plain, {after} compressed")));
    }
    // Some kilobytes, which units that are refused do not take.
    Ok(Ok(Box::new(PreparedUnit { spec, plan, frequencies })))
}

pub(crate) fn largest_block(lot: &Weights, spec: &UnitSpec, plan: &Plan) -> Result<u32, Error> {
    let maps = map_all(lot, spec)?;
    let tensors: Vec<&[u8]> = maps.iter().map(|map| &**map).collect();
    plan.largest_block(&tensors).map_err(|error| Error::unit(&lot.path, &spec.path, error))
}

pub(crate) fn map_all(lot: &Weights, spec: &UnitSpec) -> Result<Vec<Mapped>, Error> {
    let map = |name: &String| source(lot, name).and_then(|(container, tensor)| container.map(tensor));
    spec.tensors.iter().map(map).collect()
}

/// Gives every tensor its file.
fn assign<'a>(
    job: &'a Job<'_>,
    lot: &'a Weights,
    number: usize,
    units: Vec<Box<PreparedUnit<'a>>>,
    frames: &HashSet<&'a str>,
    codec: Codec,
) -> Vec<FilePlan<'a>> {
    let folder = job.folder_of_lot(number);
    let in_units: HashSet<&str> =
        units.iter().flat_map(|unit| &unit.spec.tensors).map(String::as_str).collect();
    let rest: Vec<&str> =
        lot.tensors.keys().map(String::as_str).filter(|name| !in_units.contains(name)).collect();
    let mut files = if codec.is_of_frames() && !job.options.single_file {
        as_in_the_source(job, lot, rest)
    } else {
        by_units(job, lot, units, rest)
    };
    for file in &mut files {
        file.name = folder.join(&file.name);
        file.lot = number;
        let (framed, plain) =
            std::mem::take(&mut file.plain).into_iter().partition(|name| frames.contains(name));
        (file.frames, file.plain) = (framed, plain);
        file.metadata = original_metadata(lot, file);
    }
    files
}

/// A file for each unit, with all other tensors of its module; the rest in the last.
fn by_units<'a>(
    job: &Job<'_>,
    lot: &'a Weights,
    units: Vec<Box<PreparedUnit<'a>>>,
    rest: Vec<&'a str>,
) -> Vec<FilePlan<'a>> {
    let mut files: Vec<FilePlan<'_>> = Vec::new();
    let mut names = FileNames::default();
    let mut home: HashMap<&str, usize> = HashMap::new();
    let mut last = FilePlan { name: PathBuf::from(REST), ..FilePlan::default() };
    let (many, mut filled) = (units.len() > MANY_UNITS, u64::MAX);
    let most = job.options.max_shard_size.unwrap_or(SHARED_FILE).min(SHARED_FILE);
    for unit in units {
        if job.options.single_file {
            last.units.push(unit);
            continue;
        }
        let bytes = unit.plan.sizes().total();
        if !many || filled.saturating_add(bytes) > most {
            let name = PathBuf::from(names.of_unit(&unit.spec.path));
            files.push(FilePlan { name, ..FilePlan::default() });
            filled = 0;
        }
        filled += bytes;
        home.insert(&unit.spec.path, files.len() - 1);
        if let Some(file) = files.last_mut() {
            file.units.push(unit);
        }
    }
    let mut left = Vec::new();
    for name in rest {
        match home_of(name, &home) {
            Some(file) => files[file].plain.push(name),
            None => left.push(name),
        }
    }
    let limit = if job.options.single_file { None } else { Some(job.options.max_shard_size) };
    let mut cut = match limit {
        Some(limit) => cut(lot, left, limit.unwrap_or(u64::MAX)),
        None => vec![left],
    };
    last.plain = cut.first_mut().map(std::mem::take).unwrap_or_default();
    for (i, more) in cut.into_iter().enumerate().skip(1) {
        let name = PathBuf::from(names.of_unit(&format!("model-rest-{:05}", i + 1)));
        files.push(FilePlan { name, plain: more, ..FilePlan::default() });
    }
    // Even if nothing is left for it: loaders look for a file of this name.
    files.push(last);
    files
}

/// The file of the unit that a tensor's module is, or is in.
fn home_of(name: &str, home: &HashMap<&str, usize>) -> Option<usize> {
    let dots = name.bytes().enumerate().filter(|(_, byte)| *byte == b'.').map(|(at, _)| at);
    dots.take(DEEPEST).filter_map(|dot| home.get(&name[..dot]).copied()).last()
}

/// Files as in the source, or cut anew where a size is asked for or a header would grow too long.
fn as_in_the_source<'a>(job: &Job<'_>, lot: &'a Weights, names: Vec<&'a str>) -> Vec<FilePlan<'a>> {
    let mut of_file: Vec<Vec<&str>> = vec![Vec::new(); lot.files.len()];
    let (mut header, mut bytes) = (vec![0; lot.files.len()], vec![0; lot.files.len()]);
    for name in names {
        let &(file, at) = &lot.tensors[name];
        of_file[file].push(name);
        header[file] += record_bytes(name);
        bytes[file] += lot.at((file, at)).1.bytes();
    }
    let limit = job.options.max_shard_size.unwrap_or(u64::MAX);
    let fits = header.iter().all(|&h| h <= MOST_HEADER) && bytes.iter().all(|&b| b <= limit);
    if fits {
        let files = of_file.into_iter().enumerate().map(|(i, plain)| {
            let name = Path::new(&lot.files[i].name);
            let name = name.strip_prefix(&lot.folder).unwrap_or(name).to_owned();
            FilePlan { name, plain, ..FilePlan::default() }
        });
        return files.collect();
    }
    let cut = cut(lot, of_file.into_iter().flatten().collect(), limit);
    let number = cut.len();
    let files = cut.into_iter().enumerate().map(|(i, plain)| {
        let name = if number == 1 {
            PathBuf::from(REST)
        } else {
            PathBuf::from(format!("model-{:05}-of-{number:05}{WEIGHTS}", i + 1))
        };
        FilePlan { name, plain, ..FilePlan::default() }
    });
    files.collect()
}

/// Cuts tensors into files of at most `limit` bytes each, as they are in the source, with headers
/// that readers accept.
fn cut<'a>(lot: &Weights, names: Vec<&'a str>, limit: u64) -> Vec<Vec<&'a str>> {
    let mut files: Vec<Vec<&str>> = vec![Vec::new()];
    let (mut bytes, mut header) = (0u64, 0);
    for name in names {
        let size = lot.get(name).map_or(0, |(_, tensor)| tensor.bytes());
        let record = record_bytes(name);
        let is_full = header + record > MOST_HEADER || bytes.saturating_add(size) > limit;
        if is_full && files.last().is_some_and(|file| !file.is_empty()) {
            files.push(Vec::new());
            (bytes, header) = (0, 0);
        }
        (bytes, header) = (bytes.saturating_add(size), header + record);
        if let Some(file) = files.last_mut() {
            file.push(name);
        }
    }
    files
}

/// About how many bytes the header of a file has for a tensor and its record.
fn record_bytes(name: &str) -> u64 {
    2 * name.len() as u64 + 340
}

impl FilePlan<'_> {
    /// About how many bytes more than its data the record of a file takes.
    fn record_bytes(&self, lot: &Weights) -> u64 {
        let of_units = self.units.iter().flat_map(|unit| &unit.spec.tensors).map(String::as_str);
        let names = of_units.chain(self.plain.iter().copied()).chain(self.frames.iter().copied());
        let in_header = |name: &str| lot.get(name).map_or(0, |_| 2 * name.len() as u64 + 240);
        names.map(in_header).sum()
    }

    /// The bytes of its tensors as they were.
    pub(super) fn source_bytes(&self, lot: &Weights) -> u64 {
        let single = |name: &&str| lot.get(name).map_or(0, |(_, tensor)| tensor.bytes());
        self.units.iter().map(|unit| 2 * unit.spec.elements).sum::<u64>()
            + self.frames.iter().map(single).sum::<u64>()
            + self.plain.iter().map(single).sum::<u64>()
    }
}

/// The metadata of the files that the tensors come from: loaders look for `format` in it.
fn original_metadata(lot: &Weights, file: &FilePlan<'_>) -> BTreeMap<String, String> {
    let of_units = file.units.iter().flat_map(|unit| &unit.spec.tensors).map(String::as_str);
    let names = of_units.chain(file.plain.iter().copied()).chain(file.frames.iter().copied());
    let mut from: Vec<usize> = names.filter_map(|name| lot.tensors.get(name)).map(|place| place.0).collect();
    from.sort_unstable();
    from.dedup();
    let is_rest = file.name.file_name().is_some_and(|name| name == REST);
    if from.is_empty() || is_rest {
        from = (0..lot.files.len()).collect();
    }
    let mut all = BTreeMap::new();
    for container in from.into_iter().map(|i| &lot.files[i].container) {
        for (key, value) in &container.metadata {
            if key != metadata::KEY && key != crate::packed::MANIFEST_KEY {
                all.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    let bytes: usize = all.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MOST_METADATA && !is_rest {
        all.retain(|key, value| key == "format" && value.len() < 64);
    }
    all
}

/// Names of files, none twice.
#[derive(Default)]
struct FileNames {
    taken: HashMap<String, usize>,
}

impl FileNames {
    /// The name of a unit's file: its module path with dots as underscores, unless another has
    /// that.
    fn of_unit(&mut self, path: &str) -> String {
        /// File systems allow 255 bytes; what follows the name needs some of them.
        const LONGEST: usize = 200;
        let safe: String = path
            .chars()
            .take(LONGEST)
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .collect();
        self.taken.entry("model".to_owned()).or_insert(1);
        loop {
            // Some file systems take upper and lower case for the same.
            let number = self.taken.entry(safe.to_lowercase()).or_default();
            *number += 1;
            if *number == 1 {
                return format!("{safe}{WEIGHTS}");
            }
            let numbered = format!("{safe}-{number}");
            let again = self.taken.entry(numbered.to_lowercase()).or_default();
            *again += 1;
            if *again == 1 {
                return format!("{numbered}{WEIGHTS}");
            }
        }
    }
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

/// Why a tensor stays as it is.
pub(super) fn reason(codec: Codec, dtype: Dtype) -> &'static str {
    match codec {
        Codec::Df11 if dtype == Dtype::BF16 => IN_NO_UNIT,
        Codec::Df11 => NOT_BF16,
        _ => NO_GAIN,
    }
}

/// Sorts what reports list by name.
pub(super) fn by_name<T>(list: &mut [T], name: impl Fn(&T) -> &str) {
    list.sort_by(|a, b| natural_order(name(a), name(b)));
}
