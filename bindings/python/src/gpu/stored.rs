//! Units and frames in the memory of a device.

use std::sync::Arc;

use codec::frame::{self, Codec};
use df11_gpu::{Error, Frame, Gpu, Item, Memory, Unit};
use pyo3::prelude::*;

use crate::error;
use crate::reader::Reader;

/// The most tensors of a unit that a message names.
const NAMED: usize = 3;

/// What is on the device.
#[derive(Debug)]
pub(crate) enum Content {
    /// A unit.
    Unit(Unit),
    /// A frame of codec rANS or dictionary.
    Frame(Frame),
    /// The elements of a frame that is not compressed, and their number of bytes.
    Plain(Memory, usize),
}

/// A unit or a frame on a device.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) content: Content,
    /// The file and the unit or tensor, for messages: `m.safetensors: tensor layers.0.weight`.
    pub(crate) what: String,
    /// The name of the tensor, or the path of the unit.
    pub(crate) name: String,
    /// How it is stored: `df11`, `rans`, `fast` or `raw`.
    codec: &'static str,
}

impl Stored {
    /// Returns what kernels decode; `None` if there is nothing to decode.
    pub(crate) fn item(&self) -> Option<Item<'_>> {
        match &self.content {
            Content::Unit(unit) => Some(Item::Unit(unit)),
            Content::Frame(frame) => Some(Item::Frame(frame)),
            Content::Plain(..) => None,
        }
    }

    /// Returns the number of bytes that it decodes to.
    pub(crate) fn bytes(&self) -> usize {
        match (&self.content, self.item()) {
            (_, Some(item)) => item.bytes(),
            (Content::Plain(_, bytes), None) => *bytes,
            (_, None) => 0,
        }
    }
}

/// A unit or a frame on a device.
#[pyclass(frozen, module = "df11._df11")]
pub(crate) struct GpuStored(pub(crate) Arc<Stored>);

impl GpuStored {
    /// Uploads a unit.
    pub(crate) fn unit(py: Python<'_>, gpu: &Gpu, reader: &Reader, unit: usize) -> PyResult<Self> {
        let (Some(parts), Some(listed)) = (reader.0.unit_parts(unit), reader.0.units().get(unit)) else {
            return Err(error::invalid(py, &format!("there is no unit {unit} in memory")));
        };
        let path = listed.path();
        let named = listed.tensors();
        let more = if named.len() > NAMED { ", .." } else { "" };
        let tensors = named.get(..NAMED).unwrap_or(named).join(", ");
        let what = format!("{}: unit {path} (tensors {tensors}{more})", reader.0.path().display());
        Self::make(py, what, path, || Ok((Content::Unit(gpu.upload(&parts)?), "df11")))
    }

    /// Uploads the frame of a tensor.
    pub(crate) fn tensor(py: Python<'_>, gpu: &Gpu, reader: &Reader, name: &str) -> PyResult<Self> {
        let what = format!("{}: tensor {name}", reader.0.path().display());
        let Some(bytes) = reader.0.frame_bytes(name) else {
            let problem = format!("{what}: is in no unit and no frame, and no GPU decodes it");
            return Err(error::invalid(py, &problem));
        };
        Self::make(py, what, name, || {
            let frame = frame::Frame::new(bytes)?;
            let codec = match frame.header().codec() {
                Codec::Raw => "raw",
                Codec::Dictionary => "fast",
                _ => "rans",
            };
            if codec != "raw" {
                return Ok((Content::Frame(gpu.upload_frame(&frame)?), codec));
            }
            let mut elements = vec![0; frame.elements_bytes()];
            frame.decode_into(&mut elements)?;
            Ok((Content::Plain(gpu.copy(&elements)?, elements.len()), codec))
        })
    }

    fn make(
        py: Python<'_>,
        what: String,
        name: &str,
        upload: impl FnOnce() -> Result<(Content, &'static str), Error> + Send,
    ) -> PyResult<Self> {
        match py.detach(upload) {
            Ok((content, codec)) => {
                Ok(GpuStored(Arc::new(Stored { content, what, name: name.to_owned(), codec })))
            }
            Err(error) => Err(error::of_stored(py, &error, &what, name)),
        }
    }
}

#[pymethods]
impl GpuStored {
    /// Returns how it is stored: `df11`, `rans`, `fast` or `raw`.
    #[getter]
    fn codec(&self) -> &'static str {
        self.0.codec
    }

    /// Tells whether there are kernels that multiply it, if its elements are BF16.
    #[getter]
    fn multiplies(&self) -> bool {
        self.0.codec != "rans"
    }

    /// Returns the number of bytes that it decodes to.
    #[getter]
    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Returns the number of bytes that it takes on the device.
    #[getter]
    fn device_bytes(&self) -> usize {
        match &self.0.content {
            Content::Unit(unit) => unit.device_bytes(),
            Content::Frame(frame) => frame.device_bytes(),
            Content::Plain(memory, _) => memory.len(),
        }
    }
}

/// Makes the exception for a block that a kernel found invalid.
pub(crate) fn of_block(py: Python<'_>, stored: &Stored, block: usize, clause: &'static str) -> PyErr {
    let problem = format!("{}: block {block} is not valid ({clause}); get the file again", stored.what);
    error::of_fault(py, &problem, "corrupt", clause, Some(&stored.name))
}
