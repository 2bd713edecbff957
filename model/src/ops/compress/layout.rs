//! Layout: decides from histograms alone what each tensor becomes and which file it goes to.

mod file_names;

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
use crate::in_parallel;
use crate::names::{WEIGHTS, natural_order};
use crate::ops::report::{UnitReport, entropy};
use crate::packed::{frame, metadata};
use crate::partition::{DEEPEST, UnitSpec, Units, reasons};
use file_names::FileNames;

/// The file for all tensors that belong to no unit.
const REST: &str = "model.safetensors";

/// Up to this number of units, each has a file of its own. With more, small units share files.
const MAX_UNITS_WITH_OWN_FILES: usize = 512;

/// Files with many units are filled up to this number of bytes.
const SHARED_FILE: u64 = 64 << 20;

/// The longest header that is planned, in bytes. Readers accept 100,000,000.
const MAX_PLANNED_HEADER: u64 = 40 << 20;

/// The largest metadata of the originals, in bytes, that every file repeats in full. Where they are
/// larger, a file carries `format` alone.
const MAX_METADATA: usize = 1 << 16;

/// The number of bytes by which a compressed form may exceed its source, to leave room for its
/// record. Beyond it, compression gains nothing.
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

/// A unit that is assigned to a file: one that is ready, or one that nothing is known of but its
/// tensors.
pub(super) trait OfUnit<'a> {
    /// Returns the tensors that the unit is made of.
    fn spec(&self) -> &'a UnitSpec;
}

impl<'a> OfUnit<'a> for Box<PreparedUnit<'a>> {
    fn spec(&self) -> &'a UnitSpec {
        self.spec
    }
}

impl<'a> OfUnit<'a> for &'a UnitSpec {
    fn spec(&self) -> &'a UnitSpec {
        self
    }
}

/// A file of the output.
#[derive(Debug)]
pub(super) struct FilePlan<'a, U = Box<PreparedUnit<'a>>> {
    pub(super) name: PathBuf,
    /// The lot that its tensors belong to.
    pub(super) lot: usize,
    pub(super) units: Vec<U>,
    /// Names of the tensors that become frames.
    pub(super) frames: Vec<&'a str>,
    /// Names of the tensors that stay plain.
    pub(super) plain: Vec<&'a str>,
    /// The metadata of the originals that the file carries.
    pub(super) metadata: BTreeMap<String, String>,
}

impl<U> FilePlan<'_, U> {
    /// Plans a file that holds nothing yet.
    fn new(name: PathBuf) -> Self {
        let (units, frames, plain) = (Vec::new(), Vec::new(), Vec::new());
        FilePlan { name, lot: 0, units, frames, plain, metadata: BTreeMap::new() }
    }
}

/// The form that each of the weights takes.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub(super) files: Vec<FilePlan<'a>>,
    /// Lots whose files are copied unchanged, since compressing them would gain nothing.
    pub(super) copied: Vec<bool>,
    /// Units that stay plain, with their sizes in bytes and the reason.
    pub(super) refused: Vec<(String, u64, String)>,
    /// The reason why each tensor stays plain.
    pub(super) why: HashMap<&'a str, String>,
    /// Names of tensors whose units stay plain. The report lists such a unit as a whole.
    pub(super) in_refused: HashSet<&'a str>,
    /// The estimated number of bytes saved.
    pub(super) saved: u64,
    /// The estimated number of bytes that frames would save in addition.
    pub(super) could_save: u64,
}

/// The form that each tensor of one lot takes.
struct Choice<'a> {
    units: Vec<Box<PreparedUnit<'a>>>,
    frames: HashSet<&'a str>,
    refused: Vec<(&'a UnitSpec, String)>,
    /// The estimated number of bytes saved, and of bytes that frames would save in addition.
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
        // Whether a folder gains. All its files are written anew, or all are copied.
        let mut gains: HashMap<&Path, bool> = HashMap::new();
        let mut planned = Vec::new();
        for (i, (lot, units)) in job.lots.iter().zip(units).enumerate() {
            let mut choice = Choice::make(lot, units, scan, codec, job.form)?;
            choice.add_deltas(job, i, lot);
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

    /// Tells whether anything is compressed.
    pub(super) fn has_gain(&self) -> bool {
        self.copied.iter().any(|copied| !copied)
    }
}

impl<'a> Choice<'a> {
    /// Adds all tensors that have a base: what a delta would not make shorter stays as it is.
    fn add_deltas(&mut self, job: &Job<'_>, number: usize, lot: &'a Weights) {
        for (name, &place) in &lot.tensors {
            if job.base(number, name).is_some() {
                self.frames.insert(name);
                self.saved += lot.at(place).1.bytes() / 2;
            }
        }
    }

    fn make(
        lot: &'a Weights,
        units: &'a Units,
        scan: &Scan,
        codec: Codec,
        form: frame::Form,
    ) -> Result<Self, Error> {
        let specs = if codec.is_of_frames() { &[][..] } else { &units.units };
        let prepared = in_parallel(specs).map(|spec| prepare(lot, spec, scan));
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
                if tensor.bytes() <= frame::NO_GAIN_BYTES {
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

/// Returns the smallest size in bytes that the parts of a unit can have: two rows of tables, the
/// gaps of a block, two output positions, and a byte and a bit for each weight.
fn least_bytes(spec: &UnitSpec) -> u64 {
    2 * 256 + GAP_BYTES_PER_BLOCK as u64 + 8 + spec.elements + spec.elements.div_ceil(8)
}

/// Assigns every tensor to a file before anything is read, as if every unit and every frame that
/// may shrink did. No tensor is a frame yet.
pub(super) fn expected<'a>(job: &'a Job<'_>, units: &'a [Units]) -> Vec<FilePlan<'a, &'a UnitSpec>> {
    let codec = job.options.codec;
    let of_lot = |(i, (lot, units)): (usize, (&'a Weights, &'a Units))| {
        let all = if codec.is_of_frames() { &[][..] } else { &units.units };
        let specs = all.iter().filter(|spec| least_bytes(spec) < 2 * spec.elements).collect();
        assign(job, lot, i, specs, &HashSet::new(), codec)
    };
    job.lots.iter().zip(units).enumerate().flat_map(of_lot).collect()
}

/// Plans a unit's code, or returns the reason why its tensors have to stay plain.
pub(crate) fn prepare<'a>(
    lot: &Weights,
    spec: &'a UnitSpec,
    scan: &Scan,
) -> Result<Result<Box<PreparedUnit<'a>>, String>, Error> {
    // A code that saves less than this is not worth making.
    let minimum = least_bytes(spec);
    if minimum >= 2 * spec.elements {
        let before = 2 * spec.elements;
        return Ok(Err(format!("would not shrink: {before} bytes plain, at least {minimum} compressed")));
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
    // exponent may put more elements into a block than published loaders have shared memory for.
    // The plan is then made again without such codewords. Only this case reads the weights once
    // more.
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
    // The box holds some kilobytes, which refused units do not take.
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

/// Assigns every tensor to a file.
fn assign<'a, U: OfUnit<'a>>(
    job: &'a Job<'_>,
    lot: &'a Weights,
    number: usize,
    units: Vec<U>,
    frames: &HashSet<&'a str>,
    codec: Codec,
) -> Vec<FilePlan<'a, U>> {
    let folder = job.folder_of_lot(number);
    let in_units: HashSet<&str> =
        units.iter().flat_map(|unit| &unit.spec().tensors).map(String::as_str).collect();
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

/// Plans a file for each unit, with all other tensors of its module. The rest goes into the last
/// file.
fn by_units<'a, U: OfUnit<'a>>(
    job: &Job<'_>,
    lot: &'a Weights,
    units: Vec<U>,
    rest: Vec<&'a str>,
) -> Vec<FilePlan<'a, U>> {
    let mut files: Vec<FilePlan<'_, U>> = Vec::new();
    let mut names = FileNames::default();
    let mut home: HashMap<&str, usize> = HashMap::new();
    let mut last = FilePlan::new(PathBuf::from(REST));
    let (share_files, mut filled) = (units.len() > MAX_UNITS_WITH_OWN_FILES, u64::MAX);
    let file_limit = job.options.max_shard_size.unwrap_or(SHARED_FILE).min(SHARED_FILE);
    for unit in units {
        if job.options.single_file {
            last.units.push(unit);
            continue;
        }
        // The original size, so that a plan made before anything is read names the same files.
        let bytes = 2 * unit.spec().elements;
        if !share_files || filled.saturating_add(bytes) > file_limit {
            files.push(FilePlan::new(PathBuf::from(names.of_unit(&unit.spec().path))));
            filled = 0;
        }
        filled += bytes;
        home.insert(&unit.spec().path, files.len() - 1);
        if let Some(file) = files.last_mut() {
            file.units.push(unit);
        }
    }
    let mut homeless = Vec::new();
    for name in rest {
        match home_of(name, &home) {
            Some(file) => files[file].plain.push(name),
            None => homeless.push(name),
        }
    }
    let limit = if job.options.single_file { None } else { Some(job.options.max_shard_size) };
    let mut cut = match limit {
        Some(limit) => cut(lot, homeless, limit.unwrap_or(u64::MAX)),
        None => vec![homeless],
    };
    last.plain = cut.first_mut().map(std::mem::take).unwrap_or_default();
    for (i, more) in cut.into_iter().enumerate().skip(1) {
        let name = PathBuf::from(names.of_unit(&format!("model-rest-{:05}", i + 1)));
        files.push(FilePlan { plain: more, ..FilePlan::new(name) });
    }
    // The last file is written even if it is empty: loaders look for a file of this name.
    files.push(last);
    files
}

/// Finds the file of the unit whose module is, or contains, a tensor's module.
fn home_of(name: &str, home: &HashMap<&str, usize>) -> Option<usize> {
    let dots = name.bytes().enumerate().filter(|(_, byte)| *byte == b'.').map(|(at, _)| at);
    dots.take(DEEPEST).filter_map(|dot| home.get(&name[..dot]).copied()).last()
}

/// Plans the same files as the source has. Cuts anew where the options set a size, or where a
/// header would grow too long.
fn as_in_the_source<'a, U>(job: &Job<'_>, lot: &'a Weights, names: Vec<&'a str>) -> Vec<FilePlan<'a, U>> {
    let mut of_file: Vec<Vec<&str>> = vec![Vec::new(); lot.files.len()];
    let (mut header, mut bytes) = (vec![0; lot.files.len()], vec![0; lot.files.len()]);
    for name in names {
        let &(file, at) = &lot.tensors[name];
        of_file[file].push(name);
        header[file] += record_bytes(name);
        bytes[file] += lot.at((file, at)).1.bytes();
    }
    let limit = job.options.max_shard_size.unwrap_or(u64::MAX);
    let fits = header.iter().all(|&h| h <= MAX_PLANNED_HEADER) && bytes.iter().all(|&b| b <= limit);
    if fits {
        let files = of_file.into_iter().enumerate().map(|(i, plain)| {
            let name = Path::new(&lot.files[i].name);
            let name = name.strip_prefix(&lot.folder).unwrap_or(name).to_owned();
            FilePlan { plain, ..FilePlan::new(name) }
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
        FilePlan { plain, ..FilePlan::new(name) }
    });
    files.collect()
}

/// Cuts tensors, in the order of the source, into files of at most `limit` bytes each whose headers
/// readers accept.
fn cut<'a>(lot: &Weights, names: Vec<&'a str>, limit: u64) -> Vec<Vec<&'a str>> {
    let mut files: Vec<Vec<&str>> = vec![Vec::new()];
    let (mut bytes, mut header) = (0u64, 0);
    for name in names {
        let size = lot.get(name).map_or(0, |(_, tensor)| tensor.bytes());
        let record = record_bytes(name);
        let is_full = header + record > MAX_PLANNED_HEADER || bytes.saturating_add(size) > limit;
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

/// Estimates the bytes that a tensor and its record take in the header of a file.
fn record_bytes(name: &str) -> u64 {
    2 * name.len() as u64 + 340
}

impl<'a, U: OfUnit<'a>> FilePlan<'a, U> {
    /// Iterates over the names of its tensors; those of units come first.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        let of_units = self.units.iter().flat_map(|unit| &unit.spec().tensors).map(String::as_str);
        of_units.chain(self.plain.iter().copied()).chain(self.frames.iter().copied())
    }

    /// Estimates how many bytes the record of a file takes in addition to its data.
    fn record_bytes(&self, lot: &Weights) -> u64 {
        let in_header = |name: &str| lot.get(name).map_or(0, |_| 2 * name.len() as u64 + 240);
        self.names().map(in_header).sum()
    }

    /// Sums the original sizes of its tensors in bytes.
    pub(super) fn source_bytes(&self, lot: &Weights) -> u64 {
        let single = |name: &&str| lot.get(name).map_or(0, |(_, tensor)| tensor.bytes());
        self.units.iter().map(|unit| 2 * unit.spec().elements).sum::<u64>()
            + self.frames.iter().map(single).sum::<u64>()
            + self.plain.iter().map(single).sum::<u64>()
    }
}

/// Collects the metadata of the files that the tensors come from. Loaders look for `format` in it.
fn original_metadata<'a, U: OfUnit<'a>>(lot: &Weights, file: &FilePlan<'a, U>) -> BTreeMap<String, String> {
    let mut from: Vec<usize> =
        file.names().filter_map(|name| lot.tensors.get(name)).map(|place| place.0).collect();
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
    if bytes > MAX_METADATA && !is_rest {
        all.retain(|key, value| key == "format" && value.len() < 64);
    }
    all
}

impl PreparedUnit<'_> {
    /// Returns the figures of the unit once it is written.
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

/// Returns the reason why a tensor stays plain.
pub(super) fn reason(codec: Codec, dtype: Dtype) -> &'static str {
    match codec {
        Codec::Df11 if dtype == Dtype::BF16 => IN_NO_UNIT,
        Codec::Df11 => NOT_BF16,
        _ => NO_GAIN,
    }
}

/// Sorts the lists of a report by name.
pub(super) fn by_name<T>(list: &mut [T], name: impl Fn(&T) -> &str) {
    list.sort_by(|a, b| natural_order(name(a), name(b)));
}
