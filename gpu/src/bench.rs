//! Measures how fast a device decodes: `df11 gpu bench`.
//!
//! Times are those of events on the device's own stream, which has no other work. They are medians
//! of several repetitions. Each repetition decodes more distinct bytes than any cache holds.

#![allow(unsafe_code, reason = "launches on the device's own stream")]

use df11::frame::{self, Codec, ElementType, EncodeOptions};
use serde::Serialize;

use crate::{Batch, Error, Frame, Gpu, Item, Memory, Unit};

/// The chunk lengths that are timed, in this order.
const CHUNKS: [usize; 3] = [65_536, 16_384, 4096];

/// The times of one operation, repeated.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// The name of the operation.
    pub name: String,
    /// Bytes of BF16 that one repetition yields. For a copy, it counts the bytes read and written.
    pub bytes: u64,
    /// Input bytes for each output byte; 1 for a copy.
    pub size: f64,
    /// Seconds of each repetition, in ascending order.
    pub seconds: Vec<f64>,
}

impl Row {
    /// Returns the median speed of the repetitions, in bytes per second; `None` if the clock did
    /// not advance.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let seconds = self.seconds.get(self.seconds.len() / 2).copied()?;
        (seconds > 0.0).then_some(self.bytes as f64 / seconds)
    }
}

/// Decodes these BF16 weights with every kernel, in copies of at least `at_least` bytes in all.
/// Compares the output with the weights, and then decodes it `repetitions` times.
///
/// # Errors
///
/// An error for weights that cannot be encoded; [`Error::Driver`]; [`Error::Different`] for a
/// kernel that gives other weights.
pub fn rows(gpu: &Gpu, weights: &[u8], at_least: usize, repetitions: usize) -> Result<Vec<Row>, Error> {
    let copies = at_least.div_ceil(weights.len().max(1)).max(1);
    let bench = Bench { gpu, weights, copies, repetitions };
    let mut rows = vec![bench.copy(at_least.max(weights.len()))?];

    let unit = df11::encode(weights)?;
    let size: usize = unit.as_slices().into_array().iter().map(|part| part.len()).sum();
    let units: Vec<Unit> =
        (0..copies).map(|_| gpu.upload(&unit.as_slices())).collect::<Result<_, Error>>()?;
    rows.push(bench.decode("df11_decode_batch", size, units.iter().map(Item::Unit).collect())?);
    drop(units);

    let shape = [weights.len() as u64 / 2];
    for chunk in CHUNKS {
        let options = EncodeOptions::new().codec(Codec::Rans).block_len(chunk);
        rows.extend(bench.frames(&format!("rans_decode_batch, chunks of {chunk}"), &options, &shape)?);
    }
    let options = EncodeOptions::new().codec(Codec::Dictionary);
    rows.extend(bench.frames("fast_decode_batch", &options, &shape)?);
    Ok(rows)
}

struct Bench<'a> {
    gpu: &'a Gpu,
    weights: &'a [u8],
    copies: usize,
    repetitions: usize,
}

impl Bench<'_> {
    /// Times a copy on the device, which shows the speed of its memory.
    fn copy(&self, bytes: usize) -> Result<Row, Error> {
        let (from, to) = (self.gpu.allocate(bytes)?, self.gpu.allocate(bytes)?);
        let work = || {
            let stream = self.gpu.stream().as_raw();
            // SAFETY: both are memory of this device of this many bytes, and stay until the time
            // has been read, when the stream is done.
            unsafe { self.gpu.enqueue_copy(stream, from.address(), to.address(), bytes) }
        };
        self.repeat("copy, bytes read and written", 2 * bytes as u64, 1.0, work)
    }

    /// Makes frames of these weights; none where the codec gains nothing.
    fn frames(&self, name: &str, options: &EncodeOptions, shape: &[u64]) -> Result<Option<Row>, Error> {
        let bytes = options.encode(ElementType::Bf16, shape, self.weights)?;
        let frame = frame::Frame::new(&bytes)?;
        if frame.header().codec() == Codec::Raw {
            return Ok(None);
        }
        let upload = |_| self.gpu.upload_frame(&frame);
        let frames: Vec<Frame> = (0..self.copies).map(upload).collect::<Result<_, Error>>()?;
        self.decode(name, bytes.len(), frames.iter().map(Item::Frame).collect()).map(Some)
    }

    /// Times the decoding of identical items in one batch.
    fn decode(&self, name: &str, size: usize, items: Vec<Item<'_>>) -> Result<Row, Error> {
        let batch = Batch::packed(self.gpu, &items)?;
        let outputs = self.gpu.allocate(batch.output_bytes() as usize)?;
        self.enqueue(&batch, &outputs)?;
        // SAFETY: the stream is the device's own.
        unsafe { batch.check(self.gpu.stream().as_raw())? };
        let found = outputs.to_host()?;
        for item in 0..items.len() {
            let at = batch.offset(item).unwrap_or(0) as usize;
            if found.get(at..at + self.weights.len()) != Some(self.weights) {
                return Err(Error::Different { item });
            }
        }
        let bytes = (items.len() * self.weights.len()) as u64;
        let size = size as f64 / self.weights.len() as f64;
        self.repeat(name, bytes, size, || self.enqueue(&batch, &outputs))
    }

    fn enqueue(&self, batch: &Batch, outputs: &Memory) -> Result<(), Error> {
        // SAFETY: the stream is the device's own. The memory has room for all outputs. It and the
        // batch stay until the stream has been waited for.
        unsafe { batch.enqueue(self.gpu.stream().as_raw(), outputs.address()) }
    }

    fn repeat(
        &self,
        name: &str,
        bytes: u64,
        size: f64,
        work: impl Fn() -> Result<(), Error>,
    ) -> Result<Row, Error> {
        let time = || self.gpu.time(self.gpu.stream(), &work).map(|time| time.as_secs_f64());
        // The first repetition includes loading on first use, so it does not count.
        time()?;
        let mut seconds: Vec<f64> = (0..self.repetitions).map(|_| time()).collect::<Result<_, Error>>()?;
        seconds.sort_by(f64::total_cmp);
        Ok(Row { name: name.to_owned(), bytes, size, seconds })
    }
}
