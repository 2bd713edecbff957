//! Measures how fast a device decodes: `df11 gpu bench`.
//!
//! Times are those of events on the device's own stream, which has no other work. They are medians
//! of several repetitions. Each repetition decodes more distinct bytes than any cache holds.

#![allow(unsafe_code, reason = "launches on the device's own stream")]

mod deltas;
mod peers;

use df11::EncodedUnit;
use df11::bf16::{self, BYTES};
use df11::frame::{self, Codec, ElementType, EncodeOptions};
use serde::Serialize;

use crate::{Batch, Error, Frame, Gpu, Item, Memory, RawUnit, Unit};
pub use deltas::delta_rows;
use peers::{GROUP, Published, merge};

/// The block lengths of rANS that are timed, in this order.
const BLOCKS: [usize; 3] = [65_536, 16_384, 4096];

/// The numbers of thread blocks on a multiprocessor that are timed beside the usual number.
const RESIDENT: [u32; 4] = [1, 2, 3, 4];

/// Numbers of weights for [`Options::unit_weights`]: from a small tensor to more than a transformer
/// block of Llama-3.1-8B has in one unit.
pub const UNIT_WEIGHTS: [usize; 3] = [1 << 18, 1 << 24, 200_000_000];

/// The distances from an aligned address at which the parts of units are timed.
const OFF: [usize; 2] = [8, 1];

/// The times of one operation, repeated.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// The name of the operation.
    pub name: String,
    /// Bytes of BF16 that one repetition yields. For a copy, it counts the bytes read and written.
    pub bytes: u64,
    /// Input bytes for each output byte; 1 for a copy and a merge.
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

/// What to measure, besides every kernel at its usual size.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options<'a> {
    /// The bytes of weights that each repetition decodes, at least.
    pub at_least: usize,
    /// The number of times that each kernel is timed.
    pub repetitions: usize,
    /// Whether to time other numbers of thread blocks and other addresses too.
    pub thorough: bool,
    /// Numbers of weights of units to time too. The weights are repeated to fill each.
    pub unit_weights: &'a [usize],
    /// The PTX of the published kernel, decode.ptx of version 0.5.0 of the Python package
    /// `dfloat11`, to time it as well.
    pub published: Option<&'a str>,
}

impl Default for Options<'_> {
    /// 20 repetitions of a gigabyte; nothing besides every kernel at its usual size.
    fn default() -> Self {
        Options {
            at_least: 1_000_000_000,
            repetitions: 20,
            thorough: false,
            unit_weights: &[],
            published: None,
        }
    }
}

/// Decodes these BF16 weights with every kernel, in as many copies as `at_least` demands. Compares
/// the output with the weights, and then times each repetition.
///
/// # Errors
///
/// An error for weights that cannot be encoded; [`Error::Driver`]; [`Error::Different`] for a
/// kernel that gives other weights; [`Error::OtherKernel`] if [`Options::published`] is something
/// else.
pub fn rows(gpu: &Gpu, weights: &[u8], options: &Options<'_>) -> Result<Vec<Row>, Error> {
    let bench = Bench { gpu, weights, options };
    let resident: &[u32] = if options.thorough { &RESIDENT } else { &[] };
    let mut rows = vec![bench.copy()?, bench.merge()?];
    let unit = df11::encode(weights)?;
    if let Some(ptx) = options.published {
        rows.push(bench.published(ptx, &unit)?);
    }
    let units = bench.upload(&unit)?;
    let items: Vec<Item<'_>> = units.iter().map(Item::Unit).collect();
    rows.extend(bench.with_grids("df11_decode_batch", bytes_of(&unit), &items, resident)?);
    drop(units);
    if options.thorough {
        for off in OFF {
            rows.push(bench.at_addresses(&unit, off)?);
        }
    }
    for elements in options.unit_weights {
        rows.push(bench.of_units(*elements)?);
    }
    for block in BLOCKS {
        let options = EncodeOptions::new().codec(Codec::Rans).block_len(block);
        rows.extend(bench.frames(&format!("rans_decode_batch, blocks of {block}"), &options, &[])?);
    }
    let dictionary = EncodeOptions::new().codec(Codec::Dictionary);
    rows.extend(bench.frames("fast_decode_batch", &dictionary, resident)?);
    Ok(rows)
}

/// Returns the bytes of all parts of a unit.
fn bytes_of(unit: &EncodedUnit) -> usize {
    unit.as_slices().into_array().iter().map(|part| part.len()).sum()
}

struct Bench<'a> {
    gpu: &'a Gpu,
    weights: &'a [u8],
    options: &'a Options<'a>,
}

impl Bench<'_> {
    /// Returns how many copies of the weights a repetition decodes.
    fn copies(&self) -> usize {
        self.options.at_least.div_ceil(self.weights.len().max(1)).max(1)
    }

    /// Times a copy on the device, which shows the speed of its memory.
    fn copy(&self) -> Result<Row, Error> {
        let bytes = self.options.at_least.max(self.weights.len());
        let (from, to) = (self.gpu.allocate(bytes)?, self.gpu.allocate(bytes)?);
        let work = || {
            let stream = self.gpu.stream().as_raw();
            // SAFETY: both are memory of this device of this many bytes, and stay until the time
            // has been read, when the stream is done.
            unsafe { self.gpu.enqueue_copy(stream, from.address(), to.address(), bytes) }
        };
        self.repeat("copy, bytes read and written", 2 * bytes as u64, 1.0, work)
    }

    /// Times the merge of two plain planes: a decoder that reads a byte for each exponent is no
    /// faster.
    fn merge(&self) -> Result<Row, Error> {
        let weights = &self.weights[..self.weights.len() / (BYTES * GROUP) * (BYTES * GROUP)];
        let mut planes = [(); 2].map(|()| vec![0; weights.len() / BYTES]);
        let [exponents, raw] = &mut planes;
        bf16::split(weights, exponents, raw)?;
        let copies = self.copies();
        let [exponents, raw] = planes.map(|plane| self.gpu.copy(&plane.repeat(copies)));
        let (exponents, raw) = (exponents?, raw?);
        let outputs = self.gpu.allocate(weights.len() * copies)?;
        merge(self.gpu, &exponents, &raw, &outputs)?;
        Bench { weights, ..*self }.compare(&outputs, copies, |copy| copy * weights.len())?;
        let bytes = (weights.len() * copies) as u64;
        self.repeat("merge of two plain planes", bytes, 1.0, || merge(self.gpu, &exponents, &raw, &outputs))
    }

    /// Times the published kernel, with a launch for each unit.
    fn published(&self, ptx: &str, unit: &EncodedUnit) -> Result<Row, Error> {
        let kernel = Published::new(self.gpu, ptx)?;
        let shared = df11::Unit::new(unit.as_slices())?.shared_memory_bytes() as u32;
        let copies = self.copies();
        let placed: Vec<(Memory, Unit)> =
            (0..copies).map(|_| self.place(unit, 0)).collect::<Result<_, _>>()?;
        let outputs = self.gpu.allocate(copies * self.weights.len())?;
        let work = || {
            placed.iter().enumerate().try_for_each(|(copy, (_, placed))| {
                let weights = outputs.address() + (copy * self.weights.len()) as u64;
                // SAFETY: the unit was encoded just now, and `place` leaves room after its gaps.
                unsafe { kernel.decode(placed, shared, weights) }
            })
        };
        work()?;
        self.compare(&outputs, copies, |copy| copy * self.weights.len())?;
        let bytes = outputs.len() as u64;
        self.repeat("the published kernel, a launch a unit", bytes, self.share(bytes_of(unit)), work)
    }

    /// Uploads the copies of a unit.
    fn upload(&self, unit: &EncodedUnit) -> Result<Vec<Unit>, Error> {
        (0..self.copies()).map(|_| self.gpu.upload(&unit.as_slices())).collect()
    }

    /// Copies the parts of a unit to addresses `off` bytes after aligned ones.
    fn place(&self, unit: &EncodedUnit, off: usize) -> Result<(Memory, Unit), Error> {
        const ALIGNED: usize = 256;
        let parts = unit.as_slices();
        let (mut bytes, mut places) = (Vec::new(), [0; 5]);
        let five =
            [parts.luts, parts.encoded_exponent, parts.sign_mantissa, parts.output_positions, parts.gaps];
        for (place, part) in places.iter_mut().zip(five) {
            *place = bytes.len().next_multiple_of(ALIGNED) + off;
            bytes.resize(*place, 0);
            bytes.extend_from_slice(part);
        }
        bytes.resize(bytes.len() + ALIGNED, 0);
        let memory = self.gpu.copy(&bytes)?;
        let [luts, codes, sign_mantissa, output_positions, gaps] =
            places.map(|place| memory.address() + place as u64);
        let raw = RawUnit {
            luts,
            codes,
            sign_mantissa,
            output_positions,
            gaps,
            tables: parts.luts.len() / 256,
            code_bytes: parts.encoded_exponent.len(),
            elements: parts.sign_mantissa.len(),
        };
        // SAFETY: all parts are in the memory, which the caller keeps as long as the unit.
        let unit = unsafe { self.gpu.adopt(raw)? };
        Ok((memory, unit))
    }

    /// Times units whose parts begin `off` bytes after aligned addresses.
    fn at_addresses(&self, unit: &EncodedUnit, off: usize) -> Result<Row, Error> {
        let copies = self.copies();
        let placed: Vec<(Memory, Unit)> =
            (0..copies).map(|_| self.place(unit, off)).collect::<Result<_, _>>()?;
        let items: Vec<Item<'_>> = placed.iter().map(|(_, unit)| Item::Unit(unit)).collect();
        self.decode(&format!("df11_decode_batch, parts {off} bytes off"), bytes_of(unit), &items, None)
    }

    /// Times units of this many weights.
    fn of_units(&self, elements: usize) -> Result<Row, Error> {
        let bytes = BYTES * elements;
        let mut weights = self.weights.repeat(bytes.div_ceil(self.weights.len().max(1)));
        weights.truncate(bytes);
        let unit = df11::encode(&weights)?;
        let bench = Bench { weights: &weights, ..*self };
        let units = bench.upload(&unit)?;
        let items: Vec<Item<'_>> = units.iter().map(Item::Unit).collect();
        bench.decode(
            &format!("df11_decode_batch, units of {elements} weights"),
            bytes_of(&unit),
            &items,
            None,
        )
    }

    /// Times a batch, and then with each of these numbers of thread blocks on a multiprocessor.
    fn with_grids(
        &self,
        name: &str,
        size: usize,
        items: &[Item<'_>],
        resident: &[u32],
    ) -> Result<Vec<Row>, Error> {
        let others = resident.iter().map(|resident| {
            let name = format!("{name}, {resident} a multiprocessor");
            self.decode(&name, size, items, Some(*resident))
        });
        [self.decode(name, size, items, None)].into_iter().chain(others).collect()
    }

    /// Times frames of these weights, also with other numbers of thread blocks; no rows where the
    /// codec gains nothing.
    fn frames(&self, name: &str, options: &EncodeOptions, resident: &[u32]) -> Result<Vec<Row>, Error> {
        let shape = [(self.weights.len() / BYTES) as u64];
        let bytes = options.encode(ElementType::Bf16, &shape, self.weights)?;
        let frame = frame::Frame::new(&bytes)?;
        if frame.header().codec() == Codec::Raw {
            return Ok(Vec::new());
        }
        let copies = self.copies();
        let frames: Vec<Frame> =
            (0..copies).map(|_| self.gpu.upload_frame(&frame)).collect::<Result<_, Error>>()?;
        let items: Vec<Item<'_>> = frames.iter().map(Item::Frame).collect();
        self.with_grids(name, bytes.len(), &items, resident)
    }

    /// Times the decoding of identical items, each of this many bytes, in one batch.
    fn decode(
        &self,
        name: &str,
        size: usize,
        items: &[Item<'_>],
        resident: Option<u32>,
    ) -> Result<Row, Error> {
        let mut batch = Batch::packed(self.gpu, items)?;
        if let Some(resident) = resident {
            batch.limit_resident(resident);
        }
        let outputs = self.gpu.allocate(batch.output_bytes() as usize)?;
        self.enqueue(&batch, &outputs)?;
        // SAFETY: the stream is the device's own.
        unsafe { batch.check(self.gpu.stream().as_raw())? };
        self.compare(&outputs, items.len(), |item| batch.offset(item).unwrap_or(0) as usize)?;
        let bytes = (items.len() * self.weights.len()) as u64;
        self.repeat(name, bytes, self.share(size), || self.enqueue(&batch, &outputs))
    }

    /// Returns the bytes of encoded weights for each byte of weights.
    fn share(&self, size: usize) -> f64 {
        size as f64 / self.weights.len().max(1) as f64
    }

    /// Compares copies of the weights, each at its place, with the weights.
    fn compare(&self, outputs: &Memory, copies: usize, place: impl Fn(usize) -> usize) -> Result<(), Error> {
        let found = outputs.to_host()?;
        let right = |copy: &usize| {
            let at = place(*copy);
            found.get(at..at + self.weights.len()) == Some(self.weights)
        };
        match (0..copies).find(|copy| !right(copy)) {
            Some(item) => Err(Error::Different { item }),
            None => Ok(()),
        }
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
        let mut seconds: Vec<f64> =
            (0..self.options.repetitions).map(|_| time()).collect::<Result<_, Error>>()?;
        seconds.sort_by(f64::total_cmp);
        Ok(Row { name: name.to_owned(), bytes, size, seconds })
    }
}
