//! Converts one tensor from one form to another: DF11 units, frames, dietgpu's archives, plain
//! elements.

use std::fs;
use std::path::{Path, PathBuf};

use df11::dietgpu::{self, Archive, FloatArchive};
use df11::frame::{self, Codec, ElementType, EncodeOptions, Frame};
use df11::hazmat::rans::DecodeTable;
use df11::{PARTS, Parts, Unit};
use safetensors::tensor::{TensorView, serialize};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::inspect::{Stored, for_each_stored, is_frame};
use crate::container::Mapped;
use crate::error::{Error, io};
use crate::names::tensor_name;
use crate::packed::unit::dtype;
use crate::staging::{Staging, file_digest};

/// The module path of a unit that is written on its own.
const UNIT: &str = "unit";

/// A form in which a tensor can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Form {
    /// The elements, little-endian, and nothing else.
    Raw,
    /// A frame (`spec/FRAME.md`), written with rANS.
    Frame,
    /// A frame written with a dictionary: a little larger, and faster to decode.
    Fast,
    /// An archive of dietgpu (`spec/DIETGPU.md`): a float archive for F16, BF16 and F32, an ANS
    /// archive for bytes.
    Dietgpu,
    /// A unit in the DF11 layout (`spec/DF11.md`), in a safetensors file; BF16 only.
    Df11,
}

/// Options of [`transcode`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TranscodeOptions {
    /// The form to write.
    pub to: Form,
    /// The element type of a raw file. Other forms record theirs; ANS archives hold bytes.
    pub element_type: Option<ElementType>,
    /// The shape to write into a frame. By default it is the shape of the frame that is read, or
    /// one dimension.
    pub shape: Option<Vec<u64>>,
    /// The module path or tensor name of the unit or frame to read, from a file with several.
    pub unit: Option<String>,
    /// Replaces an existing output.
    pub force: bool,
}

impl TranscodeOptions {
    /// Writes this form.
    #[must_use]
    pub const fn new(to: Form) -> Self {
        TranscodeOptions { to, element_type: None, shape: None, unit: None, force: false }
    }

    /// Sets the field [`element_type`](#structfield.element_type).
    #[must_use]
    pub fn element_type(mut self, element_type: ElementType) -> Self {
        self.element_type = Some(element_type);
        self
    }

    /// Sets the field [`shape`](#structfield.shape).
    #[must_use]
    pub fn shape(mut self, shape: Vec<u64>) -> Self {
        self.shape = Some(shape);
        self
    }

    /// Sets the field [`unit`](#structfield.unit).
    #[must_use]
    pub fn unit(mut self, unit: String) -> Self {
        self.unit = Some(unit);
        self
    }

    /// Sets the field [`force`](#structfield.force).
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }
}

/// The report of [`transcode`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TranscodeReport {
    /// The form that was read.
    pub from: Form,
    /// The form that was written.
    pub to: Form,
    /// The element type, as safetensors names it.
    pub element_type: &'static str,
    /// The number of elements.
    pub elements: u64,
    /// The number of bytes read.
    pub bytes_before: u64,
    /// The number of bytes written.
    pub bytes_after: u64,
}

struct Tensor {
    element_type: ElementType,
    /// The shape, if it is known.
    shape: Option<Vec<u64>>,
    elements: Vec<u8>,
}

/// Reads the tensor at `input` in whatever form it has, and writes it to `output` in another form.
/// The output is decoded again and compared before it becomes visible. The tensor is held in
/// memory, plain and in both forms. Only a frame that becomes plain elements is converted block by
/// block.
///
/// # Errors
///
/// [`Error`] if the input is damaged, if its form needs more options, if it cannot be written in
/// the requested form, or if the output exists.
///
/// ```
/// use df11::frame::ElementType;
/// use df11_model::{Form, TranscodeOptions, transcode};
///
/// let directory = tempfile::tempdir()?;
/// let [raw, frame] = ["weights.bin", "weights.frame"].map(|name| directory.path().join(name));
/// std::fs::write(&raw, (0..9000u16).flat_map(|i| (0x3c00 + i % 99).to_le_bytes()).collect::<Vec<_>>())?;
/// let options = TranscodeOptions::new(Form::Frame).element_type(ElementType::Bf16).shape(vec![90, 100]);
/// let report = transcode(&raw, &frame, &options)?;
/// assert!(report.bytes_after < report.bytes_before);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn transcode(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    options: &TranscodeOptions,
) -> Result<TranscodeReport, Error> {
    let (input, output) = (input.as_ref(), output.as_ref());
    if fs::symlink_metadata(output).is_ok() && !options.force {
        return Err(io("cannot create", output)(std::io::ErrorKind::AlreadyExists.into()));
    }
    let staging = Staging::file(output, input, &[input.to_owned()], options.force)?;
    let name = PathBuf::from(output.file_name().unwrap_or_default());
    if options.to == Form::Raw
        && let Some(report) = stream_frame(input, options, &staging, &name)?
    {
        staging.publish()?;
        return Ok(report);
    }
    let (from, bytes_before, tensor) = read(input, options)?;
    let Tensor { element_type, elements, .. } = &tensor;
    let bytes = write(&tensor, options).map_err(|problem| Error::file(input, problem))?;

    // The output is decoded as any reader would decode it, before it becomes visible.
    let partial = staging.create(&name)?;
    partial.write_at(&bytes, 0)?;
    let again = TranscodeOptions { element_type: Some(*element_type), unit: None, ..options.clone() };
    let (form, _, written) = match options.to {
        Form::Df11 => read_stored(partial.path(), None),
        _ => read(partial.path(), &again),
    }?;
    // An ANS archive does not record an element type.
    let expected = if options.to == Form::Fast { Form::Frame } else { options.to };
    if form != expected || written.elements != *elements {
        return Err(Error::file(output, "was written, but decodes to something else; nothing was kept"));
    }
    staging.stage(partial, &name)?;
    staging.publish()?;
    Ok(TranscodeReport {
        from,
        to: options.to,
        element_type: element_type.name(),
        elements: (elements.len() / element_type.bytes()) as u64,
        bytes_before,
        bytes_after: bytes.len() as u64,
    })
}

/// Writes the elements of a frame of any length, block by block; `None` if the input is not a
/// frame.
fn stream_frame(
    input: &Path,
    options: &TranscodeOptions,
    staging: &Staging,
    name: &Path,
) -> Result<Option<TranscodeReport>, Error> {
    let mut done = None;
    for_each_frame(input, options.unit.as_deref(), |bytes| {
        let refused = |error: df11::Error| Error::file(input, error.to_string());
        let frame = Frame::new(bytes).map_err(refused)?;
        let partial = staging.create(name)?;
        let (mut written, mut sha256) = (0u64, Sha256::new());
        for_each_block(&frame, |elements| {
            partial.write_at(elements, written)?;
            written += elements.len() as u64;
            sha256.update(elements);
            Ok(())
        })
        .map_err(|error| match error {
            BlockError::Frame(error) => refused(error),
            BlockError::Each(error) => error,
        })?;
        if file_digest(partial.path())? != hex::encode(sha256.finalize()) {
            return Err(Error::file(input, "was decoded, but not written so; nothing was kept"));
        }
        staging.stage(partial, name)?;
        let element_type = frame.header().element_type();
        done = Some(TranscodeReport {
            from: Form::Frame,
            to: Form::Raw,
            element_type: element_type.name(),
            elements: written / element_type.bytes() as u64,
            bytes_before: bytes.len() as u64,
            bytes_after: written,
        });
        Ok(())
    })?;
    Ok(done)
}

/// Calls `each` with the frame that a file consists of, or with the requested frame of a
/// checkpoint. Does nothing for a file of another form, or where the caller has to choose a frame.
fn for_each_frame(
    input: &Path,
    unit: Option<&str>,
    mut each: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    if is_frame(input)? {
        let file = fs::File::open(input).map_err(io("cannot open", input))?;
        let len = file.metadata().map_err(io("cannot open", input))?.len();
        let mapped = Mapped::new(&file, &(0..len)).map_err(io("cannot map", input))?;
        return each(&mapped);
    }
    let is_safetensors = input.extension().is_some_and(|extension| extension == "safetensors");
    let Some(unit) = unit.filter(|_| is_safetensors || input.is_dir()) else { return Ok(()) };
    let mut result = Ok(());
    for_each_stored(input, |_, path, stored| {
        if let (true, Stored::Frame(bytes)) = (path == unit && result.is_ok(), stored) {
            result = each(bytes);
        }
    })?;
    result
}

/// The reason why a frame was not decoded to its end.
enum BlockError {
    Frame(df11::Error),
    Each(Error),
}

/// Decodes a frame, one block after the other.
fn for_each_block(
    frame: &Frame<'_>,
    mut each: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), BlockError> {
    let mut table = Box::new(frame::DecodeTable::new());
    frame.build(&mut table);
    let header = frame.header();
    let mut elements = Vec::new();
    for block in 0..header.blocks() {
        elements.resize(header.block_range(block).len() * header.element_type().bytes(), 0);
        frame.decode_block_into(&table, block, &mut elements).map_err(BlockError::Frame)?;
        each(&elements).map_err(BlockError::Each)?;
    }
    Ok(())
}

/// Bytes that a tensor may take in memory in any case, and the factor by which it may exceed its
/// file.
const MEMORY: (u64, u64) = (64 << 20, 64);

/// Allocates memory for the elements of a tensor, if its size is in proportion to the stored bytes.
fn memory(bytes: usize, stored: usize) -> Result<Vec<u8>, String> {
    let (bytes_64, stored) = (bytes as u64, stored as u64);
    let mut elements = Vec::new();
    if bytes_64 > MEMORY.0.max(MEMORY.1.saturating_mul(stored)) || elements.try_reserve_exact(bytes).is_err()
    {
        return Err(format!(
            "holds {bytes} bytes of elements in {stored}, which are not taken into memory; turn it into plain \
             elements first"
        ));
    }
    elements.resize(bytes, 0);
    Ok(elements)
}

fn read(input: &Path, options: &TranscodeOptions) -> Result<(Form, u64, Tensor), Error> {
    let refused = |error: df11::Error| Error::file(input, error.to_string());
    let too_much = |problem: String| Error::file(input, problem);
    let is_safetensors = input.extension().is_some_and(|extension| extension == "safetensors");
    if is_safetensors || input.is_dir() {
        return read_stored(input, options.unit.as_deref());
    }
    let bytes = fs::read(input).map_err(io("cannot read", input))?;
    let len = bytes.len() as u64;
    let magic = bytes.first_chunk().map_or(0, |magic| u32::from_le_bytes(*magic));
    let mut table = Box::new(DecodeTable::new());
    let (form, tensor) = if bytes.starts_with(&frame::MAGIC) {
        (Form::Frame, read_frame(&bytes).map_err(too_much)?)
    } else if magic == dietgpu::FLOAT_MAGIC {
        let archive = FloatArchive::new(&bytes).map_err(refused)?;
        let element_type = archive.element_type();
        let mut elements = memory(archive.len() * element_type.bytes(), bytes.len()).map_err(too_much)?;
        archive.decode_in(&mut table, &mut elements).map_err(refused)?;
        (Form::Dietgpu, Tensor { element_type, shape: None, elements })
    } else if magic == dietgpu::MAGIC {
        let archive = Archive::new(&bytes).map_err(refused)?;
        let mut elements = memory(archive.len(), bytes.len()).map_err(too_much)?;
        archive.decode_in(&mut table, &mut elements).map_err(refused)?;
        let element_type = options.element_type.filter(|element_type| element_type.bytes() == 1);
        (
            Form::Dietgpu,
            Tensor { element_type: element_type.unwrap_or(ElementType::U8), shape: None, elements },
        )
    } else {
        let Some(element_type) = options.element_type else {
            let problem =
                "is no frame, archive or safetensors file; if it holds plain elements, say of which type";
            return Err(Error::file(input, problem));
        };
        if bytes.len() % element_type.bytes() != 0 {
            let problem = format!("has {len} bytes, no whole number of {} elements", element_type.name());
            return Err(Error::file(input, problem));
        }
        (Form::Raw, Tensor { element_type, shape: None, elements: bytes })
    };
    Ok((form, len, tensor))
}

fn read_frame(bytes: &[u8]) -> Result<Tensor, String> {
    let refused = |error: df11::Error| error.to_string();
    let frame = Frame::new(bytes).map_err(refused)?;
    let mut elements = memory(frame.elements_bytes(), bytes.len())?;
    frame.decode_into(&mut elements).map_err(refused)?;
    let header = frame.header();
    Ok(Tensor { element_type: header.element_type(), shape: Some(header.shape().collect()), elements })
}

fn read_unit(tensors: Parts<&[u8]>) -> Result<Tensor, String> {
    let refused = |error: df11::Error| error.to_string();
    let unit = Unit::new(tensors).map_err(refused)?;
    let mut elements = memory(2 * unit.len(), unit.len())?;
    unit.verify_blocks_into(0..unit.blocks(), &mut elements).map_err(refused)?;
    Ok(Tensor { element_type: ElementType::Bf16, shape: None, elements })
}

/// Reads a unit or frame of a checkpoint: its form, its size, its elements.
fn read_stored(input: &Path, name: Option<&str>) -> Result<(Form, u64, Tensor), Error> {
    let (mut found, mut names) = (None, Vec::new());
    for_each_stored(input, |_, path, stored| {
        names.push(path.to_owned());
        if name.is_none_or(|name| name == path) {
            let (form, bytes, tensor) = match stored {
                Stored::Unit(tensors) => {
                    let bytes = tensors.into_array().iter().map(|part| part.len() as u64).sum();
                    (Form::Df11, bytes, read_unit(tensors))
                }
                Stored::Frame(bytes) => (Form::Frame, bytes.len() as u64, read_frame(bytes)),
            };
            found = Some(tensor.map(|tensor| (form, bytes, tensor)));
        }
    })?;
    match (found, names.as_slice()) {
        (Some(_), [_, _, ..]) if name.is_none() => {
            let problem = format!("holds {} units and frames; say which: {}", names.len(), names.join(", "));
            Err(Error::file(input, problem))
        }
        (Some(result), _) => result.map_err(|problem| Error::file(input, problem)),
        (None, _) => {
            Err(Error::file(input, format!("holds no unit or frame {:?}", name.unwrap_or_default())))
        }
    }
}

/// Encodes a tensor in another form, or returns the reason why it cannot be.
fn write(tensor: &Tensor, options: &TranscodeOptions) -> Result<Vec<u8>, String> {
    let Tensor { element_type, shape, elements } = tensor;
    let refused = |error: df11::Error| error.to_string();
    let n = (elements.len() / element_type.bytes()) as u64;
    match options.to {
        Form::Raw => Ok(elements.clone()),
        Form::Frame | Form::Fast => {
            let shape = options.shape.as_ref().or(shape.as_ref()).cloned().unwrap_or_else(|| vec![n]);
            if frame::element_count(&shape) != Some(n) {
                return Err(format!("has {n} elements, which is not what the shape {shape:?} takes"));
            }
            let codec = if options.to == Form::Fast { Codec::Dictionary } else { Codec::Rans };
            EncodeOptions::new().codec(codec).encode(*element_type, &shape, elements).map_err(refused)
        }
        Form::Dietgpu if element_type.bytes() == 1 => {
            dietgpu::encode(elements, dietgpu::SCALE_BITS, dietgpu::Checksum::Stated).map_err(refused)
        }
        Form::Dietgpu => {
            dietgpu::encode_floats(*element_type, elements, dietgpu::SCALE_BITS, dietgpu::Checksum::Stated)
                .map_err(refused)
        }
        Form::Df11 if *element_type == ElementType::Bf16 => {
            let unit = df11::encode(elements).map_err(refused)?;
            let views = PARTS.iter().zip(unit.as_slices().into_array()).map(|((key, name), bytes)| {
                let dtype = dtype(name);
                let len = bytes.len() / (dtype.bitsize() / 8);
                let shape = if *key == "luts" { vec![bytes.len() / 256, 256] } else { vec![len] };
                TensorView::new(dtype, shape, bytes).map(|view| (tensor_name(UNIT, key), view))
            });
            let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
            serialize(views, None).map_err(|error| error.to_string())
        }
        Form::Df11 => Err(format!("holds {}, but DF11 units hold BF16", element_type.name())),
    }
}
