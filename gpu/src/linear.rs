//! Linear layers whose weights stay compressed: products that are prepared once, and then computed
//! any number of times by launches alone.

#![allow(unsafe_code, reason = "launches of kernels: they get bare addresses")]

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use df11::frame::ElementType;
use df11_cuda_driver::cuMemcpyDtoHAsync_v2;

use crate::context::{Kernel, Shared, Source};
use crate::error::call;
use crate::gemv::{MOST_ELEMENTS, MOST_VECTORS, Product, room, unit_blocks};
use crate::kernels::{DF11_GEMV, FAST_GEMV, PLAIN_GEMV, WARPS};
use crate::memory::{Memory, Pinned};
use crate::units::Coded;
use crate::{Error, Frame, Gpu, Unit};

/// Where the weights of a matrix are, row after row.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Matrix<'a> {
    /// A unit, from an element on.
    Unit(&'a Unit, usize),
    /// A frame of codec dictionary and element type BF16, the whole.
    Frame(&'a Frame),
    /// Plain BF16 weights at an address, little-endian.
    ///
    /// Whoever makes a [`Linear`] of it promises that the memory is there whenever it runs.
    Plain(u64),
}

/// A layer: `y = W x`, and what is added to it.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// The weights.
    pub matrix: Matrix<'a>,
    /// The number of rows: results for each vector.
    pub rows: usize,
    /// The number of columns: elements of each vector.
    pub columns: usize,
    /// The first vector's offset in bytes from the address that a launch is given.
    pub x: u64,
    /// The number of elements from one vector to the next; at least `columns`.
    pub x_stride: usize,
    /// The first result's offset in bytes from the address that a launch is given.
    pub y: u64,
    /// The number of elements from the results of one vector to those of the next; at least `rows`.
    pub y_stride: usize,
    /// The address of a BF16 bias for each row.
    pub bias: Option<u64>,
    /// The offset of BF16 numbers that are added to the results, placed as these are.
    pub residual: Option<u64>,
    /// Whether results are F32; otherwise they are BF16.
    pub is_wide: bool,
}

impl<'a> Layer<'a> {
    /// Returns a layer whose vectors and results lie without gaps from the addresses on that a
    /// launch is given, in BF16, to which nothing is added.
    #[must_use]
    pub const fn new(matrix: Matrix<'a>, rows: usize, columns: usize) -> Self {
        let (x_stride, y_stride) = (columns, rows);
        Layer {
            matrix,
            rows,
            columns,
            x: 0,
            x_stride,
            y: 0,
            y_stride,
            bias: None,
            residual: None,
            is_wide: false,
        }
    }
}

/// The kinds of matrices, each with its own kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Units,
    Dictionary,
}

const KINDS: [Kind; 3] = [Kind::Plain, Kind::Units, Kind::Dictionary];

impl Kind {
    /// Returns the source of its kernel for this many vectors.
    const fn source(self, vectors: usize) -> Source {
        macro_rules! entry {
            ($name:literal) => {
                match room(vectors) {
                    1 => concat!($name, "_1"),
                    2 => concat!($name, "_2"),
                    4 => concat!($name, "_4"),
                    _ => concat!($name, "_8"),
                }
            };
        }
        match self {
            Kind::Plain => Source {
                module: "plain_gemv",
                ptx: &PLAIN_GEMV,
                entry: entry!("plain_gemv"),
                action: "launch plain_gemv",
            },
            Kind::Units => Source {
                module: "df11_gemv",
                ptx: &DF11_GEMV,
                entry: entry!("df11_gemv"),
                action: "launch df11_gemv",
            },
            Kind::Dictionary => Source {
                module: "fast_gemv",
                ptx: &FAST_GEMV,
                entry: entry!("fast_gemv"),
                action: "launch fast_gemv",
            },
        }
    }

    /// Returns the clause that is broken where a kernel finds a block or chunk invalid.
    const fn clause(self) -> &'static str {
        if matches!(self, Kind::Dictionary) { "V-3.3" } else { "D-8.6" }
    }

    /// Returns the number of its blocks that a thread block takes at a time.
    const fn at_a_time(self) -> u32 {
        if matches!(self, Kind::Dictionary) { WARPS } else { 1 }
    }
}

/// The products of one kind, which one launch computes.
#[derive(Debug)]
struct Launch {
    kernel: Kernel,
    described: u64,
    items: u32,
    blocks: u32,
    grid: u32,
    /// The address of their statuses; `None` for plain weights, which have none.
    statuses: Option<u64>,
}

/// Layers that are computed together, such as the query, key and value projections of a transformer
/// block, each for the same number of vectors.
///
/// Making it does everything that takes long. [`enqueue`](Self::enqueue) launches one kernel for
/// each kind of matrix, and nothing else, so a stream can be captured meanwhile. It must not run on
/// two streams at a time.
///
/// Results are the same bits for the same weights, however these are stored, on every card and with
/// every number of vectors: docs/gpu.md states the order of summation.
#[derive(Debug)]
pub struct Linear {
    launches: Vec<Launch>,
    vectors: u32,
    /// For each layer: the offsets of vectors and results, and the size of a result.
    offsets: Vec<(u64, u64, Option<u64>, u64)>,
    /// A word for each layer, by kind.
    statuses: Memory,
    /// The host memory that statuses are copied to.
    read: Mutex<Pinned>,
    /// For each of these words: the layer, and the clause that is broken if a kernel says so.
    told: Vec<(usize, &'static str)>,
    /// Sums of pieces and their counters; what kernels are told.
    memory: [Memory; 2],
    _kept: Vec<Arc<Memory>>,
    shared: Arc<Shared>,
}

impl Linear {
    /// Prepares layers for 1 to 8 vectors.
    ///
    /// # Errors
    ///
    /// [`Error::Layer`] for a layer that does not fit its matrix, [`Error::OtherDevice`] for a
    /// matrix of another device or context, [`Error::TooMuch`] for more blocks than a launch can
    /// have, [`Error::Driver`] otherwise.
    pub fn new(gpu: &Gpu, layers: &[Layer<'_>], vectors: usize) -> Result<Self, Error> {
        let shared = gpu.shared();
        if !(1..=MOST_VECTORS).contains(&vectors) {
            return Err(Error::Layer { layer: 0, problem: "a launch multiplies 1 to 8 vectors" });
        }
        let mut kept = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            layer.check(number)?;
            let (own, memory) = match layer.matrix {
                Matrix::Unit(unit, _) => (&unit.shared, &unit.memory),
                Matrix::Frame(frame) => (&frame.shared, &frame.memory),
                Matrix::Plain(address) => {
                    shared.expect_own(address)?;
                    continue;
                }
            };
            if own.context != shared.context {
                return Err(Error::OtherDevice { expected: shared.info.number, found: own.info.number });
            }
            kept.push(Arc::clone(memory));
        }
        let bytes = layers
            .iter()
            .map(|layer| layer.product())
            .fold(0, |sum, product| sum + product.piece_bytes(vectors) + product.counter_bytes(vectors));
        let scratch = Memory::new(shared, bytes)?;
        let statuses = Memory::new(shared, 4 * layers.len())?;
        // SAFETY: the stream is the context's own.
        unsafe {
            shared.fill(shared.stream.as_raw(), &scratch, 0)?;
            shared.fill(shared.stream.as_raw(), &statuses, 0xff)?;
        }
        let mut next = scratch.address();
        let mut described: [Vec<u8>; 3] = Default::default();
        let (mut items, mut blocks) = ([0u32; 3], [0u32; 3]);
        for layer in layers {
            let kind = layer.kind() as usize;
            let mut product = layer.product();
            (product.pieces, product.arrived) = (next, next + product.piece_bytes(vectors) as u64);
            next = product.arrived + product.counter_bytes(vectors) as u64;
            let (own, number) = layer.describe(shared, &product)?;
            (product.first_block, product.blocks) = (blocks[kind], number);
            blocks[kind] = blocks[kind].checked_add(number).ok_or(Error::TooMuch)?;
            items[kind] += 1;
            let words = product.describe().into_iter().chain(own);
            described[kind].extend(words.flat_map(u64::to_le_bytes));
        }
        let (memory, addresses) = shared.place(&described.each_ref().map(|bytes| &bytes[..]))?;
        let of = |kind| layers.iter().enumerate().filter(move |(_, layer)| layer.kind() == kind);
        let told = KINDS.into_iter().flat_map(|kind| of(kind).map(move |(layer, _)| (layer, kind.clause())));
        let told = told.collect();
        let (mut launches, mut first) = (Vec::new(), 0);
        for (kind, described) in KINDS.into_iter().zip(addresses) {
            let (items, blocks) = (items[kind as usize], blocks[kind as usize]);
            if items > 0 {
                let kernel = shared.kernel(kind.source(vectors))?;
                let work = blocks.div_ceil(kind.at_a_time());
                let is_compressed = kind != Kind::Plain;
                let grid = if is_compressed {
                    shared.widest_grid(&kernel, work)
                } else {
                    shared.grid(&kernel, work)
                };
                let own = statuses.address() + 4 * first;
                let statuses = is_compressed.then_some(own);
                launches.push(Launch { kernel, described, items, blocks, grid, statuses });
                first += u64::from(items);
            }
        }
        let offsets =
            layers.iter().map(|layer| (layer.x, layer.y, layer.residual, if layer.is_wide { 4 } else { 2 }));
        Ok(Linear {
            launches,
            vectors: vectors as u32,
            offsets: offsets.collect(),
            read: Mutex::new(Pinned::new(shared, statuses.len())?),
            statuses,
            told,
            memory: [scratch, memory],
            _kept: kept,
            shared: Arc::clone(shared),
        })
    }

    /// Returns the number of bytes that this takes on the device, besides its matrices.
    #[must_use]
    pub fn device_bytes(&self) -> usize {
        self.statuses.len() + self.memory.iter().map(Memory::len).sum::<usize>()
    }

    /// Computes all layers on a stream, of vectors from `x` on, to results from `y` on. The call
    /// launches kernels and returns: it allocates nothing, copies nothing and waits for nothing, so
    /// the stream may be captured.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream (`CUstream`) of this device's context, or null for its legacy
    /// stream. At the layers' offsets, kernels of this context must be able to read the vectors and
    /// residuals and to write the results, which nobody else may write or, for results, read until
    /// the stream is done. Biases and plain weights must be there until then, as must this, and
    /// adopted memory; if the stream is captured, for as long as the graph is launched. No other
    /// stream may run this at the same time.
    ///
    /// # Errors
    ///
    /// [`Error::Alignment`] if vectors or results would begin at an address that is not a multiple
    /// of their elements' size; nothing is launched then. [`Error::Driver`] if the driver refuses a
    /// launch.
    pub unsafe fn enqueue(&self, stream: *mut c_void, x: u64, y: u64) -> Result<(), Error> {
        for (item, (of_x, of_y, residual, size)) in self.offsets.iter().enumerate() {
            let added = residual.map_or(0, |residual| y.wrapping_add(residual));
            for (address, alignment) in
                [(x.wrapping_add(*of_x), 2), (y.wrapping_add(*of_y), *size), (added, 2)]
            {
                if !address.is_multiple_of(alignment) {
                    return Err(Error::Alignment { item, address, alignment });
                }
            }
        }
        let _current = self.shared.enter()?;
        for launch in &self.launches {
            let Launch { mut described, mut items, mut blocks, statuses, .. } = *launch;
            let (mut x, mut y, mut vectors, mut status) = (x, y, self.vectors, statuses.unwrap_or(0));
            let mut arguments: [*mut c_void; 7] = [
                ptr::from_mut(&mut described).cast(),
                ptr::from_mut(&mut items).cast(),
                ptr::from_mut(&mut blocks).cast(),
                ptr::from_mut(&mut x).cast(),
                ptr::from_mut(&mut y).cast(),
                ptr::from_mut(&mut vectors).cast(),
                ptr::from_mut(&mut status).cast(),
            ];
            // SAFETY: these kernels have six parameters, and those of compressed weights a seventh:
            // the address of the descriptions, their number, the number of all blocks, the
            // addresses that the offsets of vectors and results count from, the number of vectors,
            // and the address of a status for each. A driver reads as many arguments as the
            // function has parameters. The descriptions and the memory that they refer to live as
            // long as this, or stay by the caller's promise.
            unsafe { launch.kernel.launch(launch.grid, stream, &mut arguments)? };
        }
        Ok(())
    }

    /// Waits for a stream, and fails if a kernel has found a matrix invalid since this was made.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream (`CUstream`) of this device's context, or null for its legacy
    /// stream.
    ///
    /// # Errors
    ///
    /// [`Error::Block`] for the first invalid matrix that it meets, [`Error::Capturing`] while the
    /// stream is captured, [`Error::Driver`] if earlier work of the stream failed.
    pub unsafe fn check(&self, stream: *mut c_void) -> Result<(), Error> {
        // SAFETY: the caller promises that `stream` is a stream of this context, or null.
        unsafe { self.shared.refuse_capture(stream)? };
        // SAFETY: the caller promises that `stream` is a stream of this context, or null.
        let found =
            unsafe { self.shared.download_after(stream, self.statuses.address(), self.statuses.len())? };
        self.verdict(&found)
    }

    /// Copies to the host what kernels have found since this was made, on a stream and without
    /// waiting: for callers that read it later, once the stream is past this.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream (`CUstream`) of this device's context, or null for its legacy
    /// stream. This must stay until the stream is done.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`] if the driver refuses.
    pub unsafe fn enqueue_statuses(&self, stream: *mut c_void) -> Result<(), Error> {
        let _current = self.shared.enter()?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (to, from, bytes) = (read.as_mut_ptr(), self.statuses.address(), self.statuses.len());
        // SAFETY: the host and the device both have this many bytes. The pinned memory is not read
        // before the stream is past this, which callers of `arrived_statuses` promise. The caller
        // promises that `stream` is a stream of this context, or null.
        call("read what became of products", unsafe { cuMemcpyDtoHAsync_v2(to, from, bytes, stream) })
    }

    /// Fails as [`check`](Self::check) does, if the last
    /// [`enqueue_statuses`](Self::enqueue_statuses) has copied a fault. There must have been one.
    ///
    /// # Safety
    ///
    /// The stream must be past that copy: an [`Event`](crate::Event) that was recorded after it has
    /// happened, or the stream was waited for.
    ///
    /// # Errors
    ///
    /// [`Error::Block`] for the first invalid matrix that it meets.
    pub unsafe fn arrived_statuses(&self) -> Result<(), Error> {
        self.verdict(self.read.lock().unwrap_or_else(PoisonError::into_inner).as_slice())
    }

    /// Finds the first invalid matrix in statuses.
    fn verdict(&self, statuses: &[u8]) -> Result<(), Error> {
        let words = statuses.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        match words.zip(&self.told).find(|(word, _)| *word != u32::MAX) {
            Some((word, (item, clause))) => {
                Err(Error::Block { item: *item, block: (word >> 3) as usize, clause })
            }
            None => Ok(()),
        }
    }
}

impl Layer<'_> {
    fn kind(&self) -> Kind {
        match self.matrix {
            Matrix::Unit(..) => Kind::Units,
            Matrix::Frame(_) => Kind::Dictionary,
            Matrix::Plain(_) => Kind::Plain,
        }
    }

    /// Checks that the matrix has the layer's elements.
    fn check(&self, layer: usize) -> Result<(), Error> {
        let refuse = |problem| Err(Error::Layer { layer, problem });
        let Layer { rows, columns, x_stride, y_stride, .. } = *self;
        let Some(elements) = rows.checked_mul(columns).filter(|n| (1..=MOST_ELEMENTS).contains(n)) else {
            return refuse("a matrix has 1 to 2^31 elements");
        };
        if x_stride < columns || y_stride < rows {
            return refuse("vectors, or results, overlap");
        }
        match self.matrix {
            Matrix::Unit(unit, first) => match first.checked_add(elements) {
                Some(end) if end <= unit.len() => Ok(()),
                _ => refuse("the unit has fewer elements"),
            },
            Matrix::Frame(frame) => match frame.coded {
                Coded::Dictionary { .. } if frame.element_type == ElementType::Bf16 => {
                    if frame.elements_bytes() == 2 * elements {
                        Ok(())
                    } else {
                        refuse("the frame has other elements")
                    }
                }
                _ => refuse("a frame must be of codec dictionary, and have elements of BF16"),
            },
            Matrix::Plain(address) if !address.is_multiple_of(2) => refuse("weights begin at an odd address"),
            Matrix::Plain(_) => Ok(()),
        }
    }

    /// Returns the product, but for what the preparation adds.
    fn product(&self) -> Product {
        Product {
            x: self.x,
            y: self.y,
            bias: self.bias.unwrap_or(0),
            residual: self.residual,
            x_stride: self.x_stride as u64,
            y_stride: self.y_stride as u64,
            rows: self.rows as u32,
            columns: self.columns as u32,
            is_wide: self.is_wide,
            ..Product::default()
        }
    }

    /// Returns what a kernel is told of the matrix, and the number of its blocks.
    fn describe(&self, shared: &Shared, product: &Product) -> Result<(Vec<u64>, u32), Error> {
        Ok(match self.matrix {
            Matrix::Plain(address) => (vec![address, 0], product.even_blocks()),
            Matrix::Unit(unit, first) => {
                let raw = &unit.raw;
                let positions = shared.download(raw.output_positions, 4 * unit.blocks())?;
                let blocks = unit_blocks(&positions, first..first + product.elements());
                let sizes = [raw.tables as u64, raw.code_bytes as u64, raw.elements as u64];
                let parts =
                    [unit.table, raw.luts, raw.codes, raw.sign_mantissa, raw.output_positions, raw.gaps];
                let end = [0, 0, first as u64, u64::from(blocks.start)];
                let fields = parts.into_iter().chain([0]).chain(sizes).chain(end).collect();
                (fields, blocks.end.saturating_sub(blocks.start))
            }
            Matrix::Frame(frame) => {
                let Coded::Dictionary { entries, codes, offsets, planes, width, .. } = frame.coded else {
                    return Err(Error::RawFrame);
                };
                let numbers = u64::from(frame.chunks) | u64::from(width) << 32;
                (vec![entries, codes, offsets, planes, numbers, 0], frame.chunks)
            }
        })
    }
}
