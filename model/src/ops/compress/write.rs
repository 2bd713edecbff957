//! Write: writes one file of the output at a time, and encodes straight into its place.
//!
//! Units and plain tensors have known sizes and therefore known places. Frames follow them. The
//! length of a frame is known only once it is encoded, so space is reserved for the header, and the
//! header is written last. Nothing is encoded twice.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use df11::{Counts, EncodedUnit, Encoder, PARTS, Plan};
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use super::check::{self, Checked};
use super::layout::{FilePlan, PreparedUnit, map_all};
use super::scan::Scan;
use super::{Job, source};
use crate::checkpoint::Weights;
use crate::container::{LENGTH_BYTES, Layout, head};
use crate::delta;
use crate::error::Error;
use crate::names::{digest, tensor_name};
use crate::packed::manifest::OutputRecord;
use crate::packed::metadata::{FileMetadata, KEY, TensorMetadata, UnitMetadata};
use crate::packed::{frame, unit::dtype};
use crate::progress::go_on;
use crate::staging::{Partial, Staging};

/// Frames of tensors of at most this size in bytes are encoded in parallel, in memory.
const SMALL_FRAME: u64 = 4 << 20;

/// The total size in bytes of the tensors whose frames are encoded in parallel.
const BATCH: u64 = 64 << 20;

/// A file that was written and checked.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) record: OutputRecord,
    /// The tensors that became frames, with the sizes of these frames in bytes.
    pub(super) frames: Vec<(String, u64)>,
    /// The tensors that stayed plain.
    pub(super) plain: Vec<String>,
    /// The number of elements in the largest block of each unit.
    pub(super) largest_blocks: Vec<u32>,
    /// Whether an earlier run had finished it.
    pub(super) kept: bool,
}

/// How a tensor on its own is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Frame,
    Delta,
}

/// A tensor that became a frame or a delta, or was meant to, and how many bytes it takes then.
type Length<'a> = (&'a str, Form, u64);

/// The data that a file is made from.
pub(super) struct Context<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) lot: &'a Weights,
    pub(super) plan: &'a FilePlan<'a>,
    pub(super) scan: &'a Scan,
    /// Additional metadata for the header: the manifest, where the output is one file.
    pub(super) manifest: Option<(&'a str, &'a str)>,
}

/// Writes a file, or keeps the one that an earlier run wrote, and checks it.
pub(super) fn write_file(context: &Context<'_>, staging: &Staging) -> Result<Written, Error> {
    let Context { job, lot, plan, .. } = context;
    if let Some(candidate) = staging.candidate(&plan.name)
        && let Ok(checked) = check::check(context, &candidate)
    {
        staging.keep(&plan.name, candidate);
        job.progress.advance(plan.source_bytes(lot));
        return written(plan, checked, true);
    }
    let partial = staging.create(&plan.name)?;
    encode_file(context, &partial)?;
    let checked = check::check(context, partial.path())?;
    staging.stage(partial, &plan.name)?;
    written(plan, checked, false)
}

fn written(plan: &FilePlan<'_>, checked: Checked, kept: bool) -> Result<Written, Error> {
    let Checked { head, bytes, largest_blocks, frames } = checked;
    let name = crate::names::portable(&plan.name).unwrap_or_default();
    let record = OutputRecord { name, bytes, sha256: digest(&head), weights: true };
    let framed: HashSet<&str> = frames.iter().map(|(name, _)| name.as_str()).collect();
    let singles = plan.plain.iter().chain(&plan.frames).filter(|name| !framed.contains(**name));
    let plain = singles.map(|name| (*name).to_owned()).collect();
    Ok(Written { record, frames, plain, largest_blocks, kept })
}

/// Makes the metadata of a file that holds these tensors as frames.
pub(super) fn metadata(context: &Context<'_>, form: impl Fn(&str) -> Form) -> Result<FileMetadata, Error> {
    let Context { job, lot, plan, scan, .. } = context;
    let mut tensors = Vec::new();
    let of_units = plan.units.iter().flat_map(|unit| &unit.spec.tensors).map(String::as_str);
    let mut singles: Vec<&str> = plan.frames.iter().chain(&plan.plain).copied().collect();
    singles.sort_unstable();
    for name in of_units.chain(singles) {
        let &(file, _) = lot.tensors.get(name).ok_or_else(|| Error::tensor(&lot.path, name, "is missing"))?;
        let (_, tensor) = source(lot, name)?;
        tensors.push(TensorMetadata {
            name: name.to_owned(),
            dtype: tensor.dtype.to_string(),
            shape: tensor.shape.clone(),
            sha256: hex::encode(scan.tensor(lot, name)?.sha256),
            file: lot.files[file].name.clone(),
            frame: form(name) == Form::Frame,
            delta: job.base(plan.lot, name).filter(|_| form(name) == Form::Delta).cloned(),
        });
    }
    let units = plan
        .units
        .iter()
        .map(|unit| UnitMetadata { path: unit.spec.path.clone(), tensors: unit.spec.tensors.clone() });
    Ok(FileMetadata::new(units.collect(), tensors))
}

/// The header of a file whose frame lengths may not be known yet.
struct Header<'a> {
    context: &'a Context<'a>,
    /// Entries of known sizes: parts of units, and plain tensors.
    known: Vec<Layout>,
}

impl<'a> Header<'a> {
    fn new(context: &'a Context<'a>) -> Result<Self, String> {
        let mut known = Vec::new();
        for unit in &context.plan.units {
            known.extend(unit_entries(unit)?);
        }
        for name in &context.plan.plain {
            known.push(plain_entry(context.lot, name)?);
        }
        Layout::sort(&mut known);
        Ok(Header { context, known })
    }

    /// Writes the text. Each frame has its known length, or the length of a plain tensor.
    fn text(&self, frames: &[Length<'_>], len: Option<usize>) -> Result<String, String> {
        let mut entries = self.known.clone();
        for (name, form, bytes) in frames {
            entries.push(match form {
                Form::Plain => plain_entry(self.context.lot, name)?,
                _ => Layout::new((*name).to_owned(), Dtype::U8, vec![*bytes as usize])?,
            });
        }
        let forms: HashMap<&str, Form> = frames.iter().map(|(name, form, _)| (*name, *form)).collect();
        let described = metadata(self.context, |name| forms.get(name).copied().unwrap_or(Form::Plain));
        let described = described.map_err(|error| error.to_string())?;
        let mut metadata = self.context.plan.metadata.clone();
        metadata.insert(KEY.to_owned(), described.to_json()?);
        if let Some((key, value)) = self.context.manifest {
            metadata.insert(key.to_owned(), value.to_owned());
        }
        Layout::header(&entries, &metadata, len)
    }
}

fn plain_entry(lot: &Weights, name: &str) -> Result<Layout, String> {
    let (_, tensor) = lot.get(name).ok_or_else(|| format!("{name} is missing"))?;
    Layout::new(name.to_owned(), tensor.dtype, tensor.shape.clone())
}

/// Lists the six tensors of a unit as header entries.
fn unit_entries(unit: &PreparedUnit<'_>) -> Result<Vec<Layout>, String> {
    let sizes = unit.plan.sizes();
    let shapes = [
        vec![sizes.luts / 256, 256],
        vec![sizes.encoded_exponent],
        vec![sizes.sign_mantissa],
        vec![sizes.output_positions],
        vec![sizes.gaps],
        vec![sizes.split_positions / 8],
    ];
    let parts = PARTS.iter().zip(shapes);
    parts
        .map(|((key, name), shape)| Layout::new(tensor_name(&unit.spec.path, key), dtype(name), shape))
        .collect()
}

/// Encodes everything that belongs to a file.
fn encode_file(context: &Context<'_>, partial: &Partial) -> Result<(), Error> {
    let Context { job, lot, plan, .. } = context;
    let cannot = |problem| Error::file(&job.output.join(&plan.name), problem);
    let header = Header::new(context).map_err(cannot)?;
    // Enough room for the header, whether or not the tensors become frames.
    let size = |name: &&str| lot.get(name).map_or(0, |(_, tensor)| tensor.bytes());
    let form = |name: &str| if job.base(plan.lot, name).is_some() { Form::Delta } else { Form::Frame };
    let bounds: Vec<_> = plan.frames.iter().map(|name| (*name, form(name), size(name))).collect();
    let none: Vec<_> = plan.frames.iter().map(|name| (*name, Form::Plain, 0)).collect();
    let mut room = header.text(&bounds, None).map_err(cannot)?.len();
    if !plan.frames.is_empty() {
        room = room.max(header.text(&none, None).map_err(cannot)?.len());
    }
    let starts = Layout::starts(&header.known, room);
    let places: HashMap<&str, (u64, u64)> = header
        .known
        .iter()
        .zip(&starts)
        .map(|(entry, &start)| (entry.name.as_str(), (start, entry.bytes)))
        .collect();
    plan.units.par_iter().with_max_len(1).try_for_each(|unit| {
        encode_unit(context, unit, &places, partial)?;
        job.progress.advance(2 * unit.spec.elements);
        Ok::<(), Error>(())
    })?;
    for name in &plan.plain {
        let start = places.get(name).map_or(0, |place| place.0);
        copy_tensor(context, name, partial, start)?;
    }
    let end = header.known.last().zip(starts.last());
    let end = end.map_or(LENGTH_BYTES + room as u64, |(last, start)| start + last.bytes);
    let frames = encode_frames(context, partial, end)?;
    let text = header.text(&frames, Some(room)).map_err(cannot)?;
    if text.len() != room {
        return Err(cannot("its header was planned shorter; please report this".to_owned()));
    }
    partial.write_at(&head(&text), 0)
}

/// Copies a tensor unchanged.
fn copy_tensor(context: &Context<'_>, name: &str, partial: &Partial, start: u64) -> Result<(), Error> {
    let (container, tensor) = source(context.lot, name)?;
    let mut at = start;
    container.read(tensor, |chunk| {
        partial.write_at(chunk, at)?;
        at += chunk.len() as u64;
        context.job.progress.advance(chunk.len() as u64);
        go_on(context.job.progress)
    })
}

fn encode_unit(
    context: &Context<'_>,
    unit: &PreparedUnit<'_>,
    places: &HashMap<&str, (u64, u64)>,
    partial: &Partial,
) -> Result<(), Error> {
    let lot = context.lot;
    go_on(context.job.progress)?;
    let maps = map_all(lot, unit.spec)?;
    let tensors: Vec<&[u8]> = maps.iter().map(|map| &**map).collect();
    let mut counts = Counts::with_piece_len(Counts::PIECE_LEN);
    for name in &unit.spec.tensors {
        context.scan.tensor(lot, name)?.pieces().for_each(|piece| counts.push(piece));
    }
    // The encoder must see what the scan saw, or the code does not fit.
    let changed = |error: df11::Error| {
        let problem = format!("unit {}: {error}; did the source change while it was read?", unit.spec.path);
        Error::file(&lot.path, problem)
    };
    let encoded = encode(&unit.plan, &tensors, &counts).map_err(changed)?;
    for ((key, _), part) in PARTS.iter().zip(encoded.as_slices().into_array()) {
        let name = tensor_name(&unit.spec.path, key);
        let place = places.get(name.as_str()).filter(|place| place.1 == part.len() as u64);
        let (start, _) =
            place.ok_or_else(|| Error::tensor(&lot.path, &name, "was planned with another size"))?;
        partial.write_at(part, *start)?;
    }
    Ok(())
}

/// Encodes a unit. A large one uses all threads.
fn encode(plan: &Plan, tensors: &[&[u8]], counts: &Counts) -> Result<EncodedUnit, df11::Error> {
    if rayon::current_num_threads() == 1 || plan.sizes().sign_mantissa <= Counts::PIECE_LEN {
        return plan.encode(tensors);
    }
    let mut unit = plan.buffers();
    Encoder::new(plan).encode_parallel_into(tensors, counts, unit.as_mut_slices())?;
    Ok(unit)
}

/// Encodes the frames and deltas of a file, one after the other, from `end` on. Returns their
/// lengths and forms: a tensor of which they turned out no smaller is stored plain.
fn encode_frames<'a>(
    context: &Context<'a>,
    partial: &Partial,
    mut end: u64,
) -> Result<Vec<Length<'a>>, Error> {
    let Context { job, lot, plan, scan, .. } = context;
    let form = job.form;
    let mut lengths = Vec::with_capacity(plan.frames.len());
    let mut rest = plan.frames.as_slice();
    while let Some(first) = rest.first() {
        let size = |name: &str| source(lot, name).map(|(_, tensor)| tensor.bytes());
        let (mut batch, mut bytes) = (0, 0);
        while let Some(name) = rest.get(batch) {
            let more = size(name)?;
            if more > SMALL_FRAME || bytes + more > BATCH {
                break;
            }
            (batch, bytes) = (batch + 1, bytes + more);
        }
        if batch == 0 {
            let (container, tensor) = source(lot, first)?;
            if let Some(bytes) = encode_delta(context, first)? {
                partial.write_at(&bytes, end)?;
                let done = (*first, Form::Delta, bytes.len() as u64);
                end = finish_frame(context, partial, done, end, &mut lengths)?;
                rest = &rest[1..];
                continue;
            }
            let counts = scan.tensor(lot, first)?.counts();
            let write = |bytes: &[u8], at: u64| {
                go_on(job.progress)?;
                partial.write_at(bytes, end + at)
            };
            let len = frame::encode(container, tensor, &counts, form, write)?;
            end = finish_frame(context, partial, (*first, Form::Frame, len), end, &mut lengths)?;
            rest = &rest[1..];
            continue;
        }
        let (names, after) = rest.split_at(batch);
        let encoded = names.par_iter().map(|name| {
            go_on(job.progress)?;
            if let Some(bytes) = encode_delta(context, name)? {
                return Ok((bytes, Form::Delta));
            }
            let (container, tensor) = source(lot, name)?;
            let mut frame = Vec::with_capacity(tensor.bytes() as usize);
            frame::encode(container, tensor, &scan.tensor(lot, name)?.counts(), form, |bytes, _| {
                frame.extend_from_slice(bytes);
                Ok(())
            })?;
            Ok((frame, Form::Frame))
        });
        for (name, (frame, form)) in names.iter().zip(encoded.collect::<Result<Vec<_>, Error>>()?) {
            partial.write_at(&frame, end)?;
            let done = (*name, form, frame.len() as u64);
            end = finish_frame(context, partial, done, end, &mut lengths)?;
        }
        rest = after;
    }
    // A longer frame may have been written before the last plain tensor.
    partial.set_len(end)?;
    job.progress.advance(0);
    Ok(lengths)
}

/// Encodes a tensor that has a base; `None` if a frame is as short.
fn encode_delta(context: &Context<'_>, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let Context { job, lot, plan, .. } = context;
    let Some(base) = job.base(plan.lot, name) else { return Ok(None) };
    let (container, tensor) = source(lot, name)?;
    delta::encode(&job.bases, base, container, tensor)
}

/// Records a frame that was written at `at`, or writes the plain tensor there if that is no larger.
fn finish_frame<'a>(
    context: &Context<'a>,
    partial: &Partial,
    (name, form, len): Length<'a>,
    at: u64,
    lengths: &mut Vec<Length<'a>>,
) -> Result<u64, Error> {
    let (_, tensor) = source(context.lot, name)?;
    if len < tensor.bytes() {
        context.job.progress.advance(tensor.bytes());
        lengths.push((name, form, len));
        return Ok(at + len);
    }
    copy_tensor(context, name, partial, at)?;
    lengths.push((name, Form::Plain, 0));
    Ok(at + tensor.bytes())
}

/// Returns the path of an output file for use in errors.
pub(super) fn shown(job: &Job<'_>, name: &Path) -> std::path::PathBuf {
    job.output.join(name)
}
