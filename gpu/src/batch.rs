//! Batches: units and frames that are prepared once, and then decoded any number of times by
//! launches alone.

#![allow(unsafe_code, reason = "launches of kernels: they get bare addresses")]

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use df11_cuda_driver::cuMemcpyDtoHAsync_v2;

use crate::context::{Kernel, Kind, Shared};
use crate::error::call;
use crate::memory::{Memory, Pinned};
use crate::units::Coded;
use crate::{Error, Frame, Gpu, Unit};

/// The initial value of a status: nothing is wrong.
const ALL_RIGHT: u32 = u32::MAX;

/// Packed outputs begin at multiples of this number of bytes, which the kernels' widest stores
/// need.
const ALIGNMENT: u64 = 16;

/// An item to decode.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Item<'a> {
    /// A unit, decoded to two little-endian bytes for each weight.
    Unit(&'a Unit),
    /// A frame, decoded to its elements, little-endian.
    Frame(&'a Frame),
}

impl Item<'_> {
    /// Returns the number of bytes that the item decodes to.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        match self {
            Item::Unit(unit) => 2 * unit.len(),
            Item::Frame(frame) => frame.elements_bytes(),
        }
    }

    /// Returns the number that the address of its elements must be a multiple of.
    fn alignment(&self) -> u64 {
        match self {
            Item::Unit(_) => 2,
            Item::Frame(frame) => frame.element_type.bytes() as u64,
        }
    }

    /// Returns the kind of kernel that decodes it.
    const fn kind(&self) -> Kind {
        match self {
            Item::Unit(_) => Kind::Units,
            Item::Frame(frame) => match frame.coded {
                Coded::Rans { .. } => Kind::Rans,
                Coded::Dictionary { .. } => Kind::Dictionary,
            },
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        match self {
            Item::Unit(unit) => &unit.shared,
            Item::Frame(frame) => &frame.shared,
        }
    }
}

/// A fault that a kernel found in an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The block of the unit or frame, the first one if there are several. For codec dictionary, it
    /// is the chunk of 4,096 elements.
    pub block: usize,
    /// The broken clause of DF11.md, RANS.md or DICTIONARY.md.
    pub clause: &'static str,
}

/// The clause that an invalid chunk of codec dictionary breaks.
const DICTIONARY_CLAUSE: &str = "V-3.3";

/// The broken clause for each fault code of `rans_decode_batch`.
const RANS_CLAUSES: [&str; 4] = ["R-5.3", "R-5.4", "R-5.4", "R-5.5"];

/// The clause that is broken where a block has fewer symbols than its output positions say.
const DF11_CLAUSE: &str = "D-8.6";

/// The state that a batch keeps of an item.
#[derive(Debug)]
struct Kept {
    offset: u64,
    alignment: u64,
    /// The position of its status among all statuses.
    status: usize,
    /// The frame, for comparing its checksums.
    frame: Option<Frame>,
    /// The uploaded memory of the item.
    _memory: Arc<Memory>,
}

/// The items of one kind, which one launch decodes.
#[derive(Debug)]
struct Launch {
    kernel: Kernel,
    /// The address of the kernel's descriptions, and their number.
    described: u64,
    items: u32,
    /// The total number of their blocks.
    blocks: u32,
    /// The most thread blocks that have something to do.
    work: u32,
    grid: u32,
    /// The address of their statuses.
    statuses: u64,
}

/// Units and frames that are decoded together.
///
/// Making a batch does everything that takes long: tables, descriptions and statuses are on the
/// device afterwards. [`enqueue`](Self::enqueue) only launches kernels, one for each kind of item.
/// A stream can therefore be captured meanwhile, and the graph launched any number of times.
///
/// Kernels record a faulty item on the device, and go on. A caller reads the faults with
/// [`statuses`](Self::statuses), once for several launches if that is enough.
#[derive(Debug)]
pub struct Batch {
    /// The items, in the caller's order.
    items: Vec<Kept>,
    launches: Vec<Launch>,
    /// A word for each item, ordered by kind.
    statuses: Memory,
    /// The host memory that statuses are copied to.
    read: Mutex<Pinned>,
    bytes: u64,
    described: Memory,
    shared: Arc<Shared>,
}

impl Batch {
    /// Prepares items. Each has the offset of its outputs in bytes, from the address that is passed
    /// to [`enqueue`](Self::enqueue). (An absolute address is an offset from 0.)
    ///
    /// # Errors
    ///
    /// [`Error::OtherDevice`] for an item of another device or context, [`Error::TooMuch`] for more
    /// blocks than a launch can have, [`Error::Driver`] otherwise.
    pub fn new(gpu: &Gpu, items: &[(Item<'_>, u64)]) -> Result<Self, Error> {
        let shared = gpu.shared();
        for (item, _) in items {
            let other = item.shared();
            if other.context != shared.context {
                return Err(Error::OtherDevice { expected: shared.info.number, found: other.info.number });
            }
        }
        let mut kinds = [const { Described::new() }; Kind::ALL.len()];
        let of_kind = items.iter().map(|(item, offset)| {
            let kind = item.kind() as usize;
            let number = match item {
                Item::Unit(unit) => kinds[kind].add_unit(unit, *offset)?,
                Item::Frame(frame) => kinds[kind].add_frame(frame, *offset)?,
            };
            Ok((kind, number))
        });
        let of_kind: Vec<(usize, usize)> = of_kind.collect::<Result<_, Error>>()?;
        let statuses = Memory::new(shared, 4 * items.len())?;
        // SAFETY: the stream is the context's own.
        unsafe { shared.fill(shared.stream.as_raw(), &statuses, 0xff)? };
        let (described, addresses) = shared.place(&kinds.each_ref().map(|kind| &kind.bytes[..]))?;

        // The first status of each kind.
        let mut first = [0; Kind::ALL.len()];
        let mut next = 0;
        let mut launches = Vec::new();
        for (kind, described) in Kind::ALL.into_iter().zip(addresses) {
            first[kind as usize] = next;
            let Described { items, blocks, .. } = kinds[kind as usize];
            if items > 0 {
                let kernel = shared.kernel(kind.source())?;
                let work = blocks.div_ceil(kind.at_a_time());
                let grid = shared.grid(&kernel, work);
                let statuses = statuses.address() + 4 * next as u64;
                launches.push(Launch { kernel, described, items, blocks, work, grid, statuses });
                next += items as usize;
            }
        }
        let keep = |((item, offset), (kind, at)): (&(Item<'_>, u64), (usize, usize))| {
            let (frame, memory) = match item {
                Item::Unit(unit) => (None, &unit.memory),
                Item::Frame(frame) => (Some((*frame).clone()), &frame.memory),
            };
            let (alignment, _memory) = (item.alignment(), Arc::clone(memory));
            Kept { offset: *offset, alignment, status: first[kind] + at, frame, _memory }
        };
        let bytes = items.iter().map(|(item, offset)| offset.saturating_add(item.bytes() as u64)).max();
        Ok(Batch {
            items: items.iter().zip(of_kind).map(keep).collect(),
            launches,
            read: Mutex::new(Pinned::new(shared, 4 * items.len())?),
            statuses,
            bytes: bytes.unwrap_or(0),
            described,
            shared: Arc::clone(shared),
        })
    }

    /// Prepares items whose outputs follow one another. Each begins at a multiple of 16 bytes.
    ///
    /// # Errors
    ///
    /// The errors of [`new`](Self::new).
    pub fn packed(gpu: &Gpu, items: &[Item<'_>]) -> Result<Self, Error> {
        let (mut next, mut placed) = (0u64, Vec::with_capacity(items.len()));
        for item in items {
            placed.push((*item, next));
            next = (next + item.bytes() as u64).next_multiple_of(ALIGNMENT);
        }
        Batch::new(gpu, &placed)
    }

    /// Limits the thread blocks on each multiprocessor, from the next [`enqueue`](Self::enqueue)
    /// on, so that other kernels have room beside this batch. There is at least one, and there are
    /// at most as many as fit, which is their number without a limit.
    pub fn limit_resident(&mut self, most: u32) {
        for launch in &mut self.launches {
            launch.grid = self.shared.grid(&launch.kernel.limited(most), launch.work);
        }
    }

    /// Returns the number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Tells whether the batch has no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the offset of an item's outputs; `None` if there is no such item.
    #[must_use]
    pub fn offset(&self, item: usize) -> Option<u64> {
        self.items.get(item).map(|item| item.offset)
    }

    /// Returns the number of bytes from the address that is passed to [`enqueue`](Self::enqueue) to
    /// the end of all outputs.
    #[must_use]
    pub const fn output_bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of bytes that the batch itself takes on the device, besides its items.
    #[must_use]
    pub fn device_bytes(&self) -> usize {
        self.statuses.len() + self.described.len()
    }

    /// Decodes all items on a stream, to their offsets from `outputs`. The call launches kernels
    /// and returns: it allocates nothing, copies nothing and waits for nothing, so the stream may
    /// be captured.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream (`CUstream`) of this device's context, or null for its legacy
    /// stream. For each item, kernels of this context must be able to write its
    /// [bytes](Item::bytes) from its offset on after `outputs`, and no one else may read or write
    /// them until the stream is done. The batch, and adopted memory, must stay until then. If the
    /// stream is captured, they must stay for as long as the graph is launched.
    ///
    /// # Errors
    ///
    /// [`Error::Alignment`] if an item's elements would begin at an address that is not a multiple
    /// of their size; nothing is launched then. [`Error::Driver`] if the driver refuses a launch.
    pub unsafe fn enqueue(&self, stream: *mut c_void, outputs: u64) -> Result<(), Error> {
        for (number, item) in self.items.iter().enumerate() {
            let (address, alignment) = (outputs.wrapping_add(item.offset), item.alignment);
            if !address.is_multiple_of(alignment) {
                return Err(Error::Alignment { item: number, address, alignment });
            }
        }
        let _current = self.shared.enter()?;
        for launch in &self.launches {
            let Launch { mut described, mut items, mut blocks, mut statuses, .. } = *launch;
            let mut base = outputs;
            let mut arguments: [*mut c_void; 5] = [
                ptr::from_mut(&mut described).cast(),
                ptr::from_mut(&mut items).cast(),
                ptr::from_mut(&mut blocks).cast(),
                ptr::from_mut(&mut base).cast(),
                ptr::from_mut(&mut statuses).cast(),
            ];
            // SAFETY: kernels of batches have five parameters: the address of the descriptions,
            // their number, the number of blocks of all of them, the address that the offsets in
            // the descriptions count from, and the address of a status for each. The descriptions
            // are those of `Described`, and live as long as this batch. The memory that they refer
            // to stays by the caller's promise, or because this batch keeps it. A kernel reads
            // within the lengths that they state, and writes the bytes of each item, which the
            // caller promises to be writable.
            unsafe { launch.kernel.launch(launch.grid, stream, &mut arguments)? };
        }
        Ok(())
    }

    /// Returns what kernels have found wrong with each item since the last call, on any stream;
    /// `None` for an item without a fault. Waits for the stream.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream (`CUstream`) of this device's context, or null for its legacy
    /// stream. No other stream may be decoding the batch.
    ///
    /// # Errors
    ///
    /// [`Error::Capturing`] while the stream is captured, [`Error::Driver`] if earlier work of the
    /// stream failed.
    pub unsafe fn statuses(&self, stream: *mut c_void) -> Result<Vec<Option<Fault>>, Error> {
        let _current = self.shared.enter()?;
        // SAFETY: the caller promises that `stream` is a stream of this context, or null.
        unsafe { self.shared.refuse_capture(stream)? };
        // Held until the words are read, so that no other call copies to them meanwhile.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as above; the words are read after the stream is done.
        unsafe { self.copy_statuses(&mut read, stream)? };
        // SAFETY: as above.
        unsafe { self.shared.wait(stream)? };
        Ok(self.faults(&read))
    }

    /// Copies to the host what kernels have found since the last such copy, on a stream and
    /// without waiting: for callers that read it later, once the stream is past this.
    ///
    /// # Safety
    ///
    /// The requirements are those of [`statuses`](Self::statuses). The batch must stay until the
    /// stream is done.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`] if the driver refuses.
    pub unsafe fn enqueue_statuses(&self, stream: *mut c_void) -> Result<(), Error> {
        let _current = self.shared.enter()?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the caller promises that `stream` is a stream of this context, or null. Callers
        // of `arrived_statuses` promise that the stream is past this before they read.
        unsafe { self.copy_statuses(&mut read, stream) }
    }

    /// Copies the statuses to the host on a stream, and sets them to what is no fault.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream of this context, or null, and must be past this before the words
    /// are read.
    unsafe fn copy_statuses(&self, read: &mut Pinned, stream: *mut c_void) -> Result<(), Error> {
        let (to, from, bytes) = (read.as_mut_ptr(), self.statuses.address(), 4 * self.items.len());
        if bytes > 0 {
            // SAFETY: the host and the device both have a word for each item. The pinned memory is
            // this batch's. The caller promises the rest.
            let code = unsafe { cuMemcpyDtoHAsync_v2(to, from, bytes, stream) };
            call("read what became of a batch", code)?;
            // SAFETY: the caller promises that `stream` is a stream of this context, or null.
            unsafe { self.shared.fill(stream, &self.statuses, 0xff)? };
        }
        Ok(())
    }

    /// Returns what the last [`enqueue_statuses`](Self::enqueue_statuses) has copied, as
    /// [`statuses`](Self::statuses) does. There must have been one.
    ///
    /// # Safety
    ///
    /// The stream must be past that copy: an [`Event`](crate::Event) that was recorded after it has
    /// happened, or the stream was waited for.
    #[must_use]
    pub unsafe fn arrived_statuses(&self) -> Vec<Option<Fault>> {
        self.faults(&self.read.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the fault of each item, of words that were copied.
    fn faults(&self, read: &Pinned) -> Vec<Option<Fault>> {
        let words: Vec<u32> =
            read.as_slice().as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        self.items.iter().map(|item| item.fault(&words)).collect()
    }

    /// Reads the [statuses](Self::statuses), and fails if an item has a fault.
    ///
    /// # Safety
    ///
    /// The requirements are those of [`statuses`](Self::statuses).
    ///
    /// # Errors
    ///
    /// [`Error::Block`] for the first invalid item; otherwise the errors of
    /// [`statuses`](Self::statuses).
    pub unsafe fn check(&self, stream: *mut c_void) -> Result<(), Error> {
        // SAFETY: the caller promises what `statuses` needs for `stream`.
        let statuses = unsafe { self.statuses(stream)? };
        let first = statuses.into_iter().enumerate().find_map(|(item, fault)| Some((item, fault?)));
        match first {
            Some((item, Fault { block, clause })) => Err(Error::Block { item, block, clause }),
            None => Ok(()),
        }
    }

    /// Compares the checksums of the coded bytes of frames (F-5.4) with what was decoded. Downloads
    /// all elements of frames, and computes the checksums on the host, since kernels do not compare
    /// them. Waits for the stream.
    ///
    /// # Safety
    ///
    /// The requirements are those of [`enqueue`](Self::enqueue), with the same `outputs`.
    ///
    /// # Errors
    ///
    /// [`Error::Checksum`] for the first frame whose checksum differs, [`Error::Capturing`],
    /// [`Error::Driver`].
    pub unsafe fn compare_checksums(&self, stream: *mut c_void, outputs: u64) -> Result<(), Error> {
        // SAFETY: the caller promises that `stream` is a stream of this context, or null.
        unsafe { self.shared.refuse_capture(stream)? };
        for (item, kept) in self.items.iter().enumerate() {
            let Some(frame) = &kept.frame else { continue };
            let address = outputs.wrapping_add(kept.offset);
            // SAFETY: the caller promises that `stream` is a stream of this context, or null.
            let elements = unsafe { self.shared.download_after(stream, address, frame.elements_bytes)? };
            if let Some(block) = frame.wrong_block(&elements) {
                return Err(Error::Checksum { item, block });
            }
        }
        Ok(())
    }

    /// Decodes all items to memory of the device, waits, and performs all checks.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] if the memory is too short, [`Error::OtherDevice`] if it belongs to
    /// another device; [`Error::Block`] or [`Error::Checksum`] if an item is invalid. After an
    /// error, the content of the memory is unspecified.
    pub fn decode(&self, outputs: &mut Memory) -> Result<(), Error> {
        let found = outputs.len();
        if self.bytes > found as u64 {
            return Err(Error::Length { expected: self.bytes, found });
        }
        outputs.expect_context(&self.shared)?;
        let (stream, address) = (self.shared.stream.as_raw(), outputs.address());
        // SAFETY: the stream is the context's own. The memory has room for all outputs. It is
        // borrowed until the stream is done, because reading the statuses waits for that.
        unsafe {
            self.enqueue(stream, address)?;
            self.check(stream)?;
            self.compare_checksums(stream, address)
        }
    }
}

impl Kept {
    /// Decodes the words of a status.
    fn fault(&self, words: &[u32]) -> Option<Fault> {
        let word = words.get(self.status).copied().filter(|word| *word != ALL_RIGHT)?;
        let (block, code) = ((word >> 3) as usize, (word & 7) as usize);
        let clause = match self.frame.as_ref().map(|frame| frame.coded) {
            Some(Coded::Dictionary { .. }) => DICTIONARY_CLAUSE,
            Some(Coded::Rans { .. }) => {
                code.checked_sub(1).and_then(|at| RANS_CLAUSES.get(at)).copied().unwrap_or("R-5.6")
            }
            None => DF11_CLAUSE,
        };
        Some(Fault { block, clause })
    }
}

/// The descriptions of items of one kind, as the kernels read them.
struct Described {
    bytes: Vec<u8>,
    items: u32,
    /// The number of blocks of all items so far. It is the first block of the next item.
    blocks: u32,
}

impl Described {
    const fn new() -> Self {
        Described { bytes: Vec::new(), items: 0, blocks: 0 }
    }

    /// Adds an item with this number of blocks, and returns its number among those of its kind.
    fn add(&mut self, fields: &[u64], blocks: usize) -> Result<usize, Error> {
        self.bytes.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
        let number = self.items as usize;
        let sum = u32::try_from(blocks).ok().and_then(|blocks| self.blocks.checked_add(blocks));
        self.blocks = sum.ok_or(Error::TooMuch)?;
        self.items += 1;
        Ok(number)
    }

    /// Adds a unit: `struct Unit` of df11_decode.cu.
    fn add_unit(&mut self, unit: &Unit, offset: u64) -> Result<usize, Error> {
        let raw = &unit.raw;
        let fields = [
            unit.table,
            raw.luts,
            raw.codes,
            raw.sign_mantissa,
            raw.output_positions,
            raw.gaps,
            offset,
            raw.tables as u64,
            raw.code_bytes as u64,
            raw.elements as u64,
            u64::from(self.blocks),
            0,
        ];
        self.add(&fields, unit.blocks())
    }

    /// Adds a frame: `struct Frame` of rans_decode.cu, or `struct Dictionary` of fast_decode.cu.
    fn add_frame(&mut self, frame: &Frame, offset: u64) -> Result<usize, Error> {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let (first, kind) = (u64::from(self.blocks), pair(frame.kind, 0));
        let chunks = frame.chunks as usize;
        match frame.coded {
            Coded::Rans { data, chunks: places, slots, scale_bits } => {
                let numbers = pair(frame.chunks, scale_bits);
                self.add(&[data, places, slots, offset, first, numbers, kind, 0], chunks)
            }
            Coded::Dictionary { entries, codes, offsets, planes, stride, width } => {
                let elements = (frame.elements_bytes / frame.element_type.bytes()) as u64;
                let numbers = pair(frame.chunks, width);
                let fields =
                    [entries, codes, offsets, planes, stride, offset, elements, first, numbers, kind];
                self.add(&fields, chunks)
            }
        }
    }
}
