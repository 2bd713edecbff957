//! Updates: deltas that are applied together, over the tensors that they were made against.

#![allow(unsafe_code, reason = "launches of kernels: they get bare addresses")]

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use df11_cuda_driver::{cuMemcpyDtoHAsync_v2, cuMemsetD8Async};

use crate::context::{Kernel, Shared, Source};
use crate::delta::{DeltaFault, ENTRIES, Launches, Placed, Upload};
use crate::error::call;
use crate::kernels::DELTA_APPLY;
use crate::memory::{Memory, Pinned};
use crate::{Error, Gpu};

/// A delta on a device (DELTA.md).
#[derive(Clone, Debug)]
pub struct Delta {
    placed: Placed,
    memory: Arc<Memory>,
    shared: Arc<Shared>,
}

impl Delta {
    /// Returns the number of elements of the result.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a delta is no collection")]
    pub const fn len(&self) -> usize {
        self.placed.len()
    }

    /// Returns how many elements of the base it needs.
    #[must_use]
    pub const fn common(&self) -> usize {
        self.placed.common()
    }

    /// Returns the size of the result in bytes. The tensor's memory must have that many.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.placed.bytes()
    }

    /// Returns the bytes that it takes on the device.
    #[must_use]
    pub fn device_bytes(&self) -> usize {
        self.memory.len()
    }
}

impl Gpu {
    /// Checks a delta and uploads it, as it is: coded. When this returns, every stream can use it.
    ///
    /// The host checks everything that needs no base: the header, the tables, the checksums of the
    /// blocks' bytes, and a frame, which it decodes. Kernels compare the checksums of the base and
    /// of the result.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the delta breaks one of these rules, [`Error::Driver`] otherwise.
    pub fn upload_delta(&self, bytes: &[u8]) -> Result<Delta, Error> {
        let upload = Upload::new(bytes)?;
        let (memory, addresses) = self.shared().place(&upload.parts())?;
        let placed = upload.placed(array(&addresses));
        Ok(Delta { placed, memory: Arc::new(memory), shared: Arc::clone(self.shared()) })
    }
}

/// Returns the addresses of parts.
fn array<const N: usize>(addresses: &[u64]) -> [u64; N] {
    std::array::from_fn(|part| addresses.get(part).copied().unwrap_or_default())
}

/// Deltas that are applied together, in place: new elements take the place of the base's, without
/// memory for a second copy.
///
/// Making an update does everything that takes long. [`enqueue`](Self::enqueue) only sets a few
/// words and launches kernels, so a stream can be captured meanwhile. On the device, the checksums
/// of all bases are compared before the first element is changed. If one is wrong, nothing is: all
/// tensors stay as they are. Then each delta is applied, and the checksums of all results are
/// compared.
///
/// ```
/// # #[cfg(all(target_os = "linux", feature = "emulator"))] {
/// use df11::{delta, frame::ElementType};
/// use df11_gpu::{Emulation, Gpu, Update};
///
/// let base: Vec<u8> = (0..20_000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
/// let mut new = base.clone();
/// new.chunks_mut(20).for_each(|ten| ten[0] = ten[0].wrapping_add(1));
/// let bytes = delta::encode(ElementType::Bf16, &new, &base)?;
///
/// // On a machine with a card: `Gpu::open(0)`.
/// let gpu = Gpu::emulated(Emulation::default())?;
/// let mut weights = gpu.copy(&base)?;
/// let step = gpu.upload_delta(&bytes)?;
/// let update = Update::new(&gpu, &[(&step, 0)])?;
/// update.apply(&mut weights)?;
/// assert_eq!(weights.to_host()?, new);
///
/// // These are no longer the weights that the delta was made against.
/// let refused = update.apply(&mut weights).unwrap_err();
/// assert!(refused.to_string().contains("nothing was changed"));
/// assert_eq!(weights.to_host()?, new);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Update {
    deltas: Vec<(Delta, u64)>,
    launches: Launches,
    parts: [u64; 8],
    /// A kernel for each of [`ENTRIES`].
    kernels: [Kernel; ENTRIES.len()],
    /// Statuses, sums and maps.
    scratch: Memory,
    /// The host memory that statuses are copied to.
    read: Mutex<Pinned>,
    bytes: u64,
    _described: Memory,
    shared: Arc<Shared>,
}

impl Update {
    /// Prepares deltas. Each has the offset of its tensor in bytes, from the address that is passed
    /// to [`enqueue`](Self::enqueue). (An absolute address is an offset from 0.)
    ///
    /// # Errors
    ///
    /// [`Error::OtherDevice`] for a delta of another device or context, [`Error::TooMuch`] for more
    /// blocks than a launch can have, [`Error::Driver`] otherwise.
    pub fn new(gpu: &Gpu, deltas: &[(&Delta, u64)]) -> Result<Self, Error> {
        let shared = gpu.shared();
        for (delta, _) in deltas {
            let other = &delta.shared;
            if other.context != shared.context {
                return Err(Error::OtherDevice { expected: shared.info.number, found: other.info.number });
            }
        }
        let placed: Vec<_> = deltas.iter().map(|(delta, offset)| (&delta.placed, *offset)).collect();
        let bytes = Launches::scratch_bytes(placed.iter().map(|(placed, _)| *placed));
        let scratch = Memory::new(shared, usize::try_from(bytes).map_err(|_| Error::TooMuch)?)?;
        // SAFETY: the stream is the context's own.
        unsafe { shared.fill(shared.stream.as_raw(), &scratch, 0)? };
        let launches = Launches::new(&placed, scratch.address()).ok_or(Error::TooMuch)?;
        // This waits for the stream, so the memory is filled as well.
        let (described, addresses) = shared.place(&launches.parts())?;
        let bytes = deltas.iter().map(|(delta, offset)| offset.saturating_add(delta.bytes() as u64)).max();
        let kernel = |entry| {
            let (module, ptx, action) = ("delta_apply", &DELTA_APPLY, "launch a kernel for deltas");
            shared.kernel(Source { module, ptx, entry, action })
        };
        let [check, compare, one, two, four, patch, frames] = ENTRIES;
        let kernels = [
            kernel(check)?,
            kernel(compare)?,
            kernel(one)?,
            kernel(two)?,
            kernel(four)?,
            kernel(patch)?,
            kernel(frames)?,
        ];
        Ok(Update {
            deltas: deltas.iter().map(|(delta, offset)| ((*delta).clone(), *offset)).collect(),
            read: Mutex::new(Pinned::new(shared, 4 * deltas.len())?),
            launches,
            parts: array(&addresses),
            kernels,
            scratch,
            bytes: bytes.unwrap_or(0),
            _described: described,
            shared: Arc::clone(shared),
        })
    }

    /// Returns the number of deltas.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.deltas.len()
    }

    /// Tells whether there are no deltas.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.deltas.is_empty()
    }

    /// Returns the number of bytes from the address that is passed to [`enqueue`](Self::enqueue) to
    /// the end of all results. A tensor that grows needs the memory of its result.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Applies all deltas on a stream, over the tensors at their offsets from `elements`. The call
    /// sets the statuses, launches kernels and returns: it allocates nothing and waits for nothing,
    /// so the stream may be captured. [`check`](Self::check) then says what became of it.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream (`CUstream`) of this device's context, or null for its legacy
    /// stream. For each delta, kernels of this context must be able to read and write the
    /// [bytes](Delta::bytes) of its result from its offset on after `elements`; no two of them may
    /// overlap, and no one else may read or write them until the stream is done. The update must
    /// stay until then, and no other stream may be working for it. If the stream is captured, it
    /// must stay for as long as the graph is launched.
    ///
    /// # Errors
    ///
    /// [`Error::Alignment`] if elements would begin at an address that is not a multiple of their
    /// size; nothing is launched then. [`Error::Driver`] if the driver refuses a launch.
    pub unsafe fn enqueue(&self, stream: *mut c_void, elements: u64) -> Result<(), Error> {
        for (item, (delta, offset)) in self.deltas.iter().enumerate() {
            let alignment = delta.placed.element_type().bytes() as u64;
            let address = elements.wrapping_add(*offset);
            if !address.is_multiple_of(alignment) {
                return Err(Error::Alignment { item, address, alignment });
            }
        }
        let _current = self.shared.enter()?;
        let (scratch, statuses) = (self.scratch.address(), 4 * self.launches.statuses() as usize);
        // SAFETY: the memory begins with the statuses. The caller promises that `stream` is a
        // stream of this context, or null, and that no other stream works for this update.
        call("set the statuses of an update", unsafe { cuMemsetD8Async(scratch, 0xff, statuses, stream) })?;
        for launch in self.launches.launches(self.parts, scratch, elements) {
            let Some(at) = ENTRIES.iter().position(|entry| *entry == launch.entry) else { continue };
            let kernel = &self.kernels[at];
            let mut values = launch.arguments;
            let mut arguments: Vec<*mut c_void> =
                values.iter_mut().map(|value| ptr::from_mut(value).cast()).collect();
            let grid = self.shared.grid(kernel, launch.thread_blocks);
            // SAFETY: `Launches` gives a value for each parameter of its kernels, of which those of
            // four bytes take the low ones. The descriptions and what they refer to live as long as
            // this update. Kernels read and write within the sizes that they state, and otherwise
            // the bytes of each result, which the caller promises to be theirs.
            unsafe { kernel.launch(grid, stream, &mut arguments)? };
        }
        Ok(())
    }

    /// Returns what the last [`enqueue`](Self::enqueue) found wrong with each delta or its base;
    /// `None` for one without a fault. Waits for the stream.
    ///
    /// If a fault is one of a base, no delta has been applied.
    ///
    /// # Safety
    ///
    /// `stream` must be the stream of the last [`enqueue`](Self::enqueue), or one that waits for
    /// it.
    ///
    /// # Errors
    ///
    /// [`Error::Capturing`] while the stream is captured, [`Error::Driver`] if earlier work of the
    /// stream failed.
    pub unsafe fn statuses(&self, stream: *mut c_void) -> Result<Vec<Option<DeltaFault>>, Error> {
        let _current = self.shared.enter()?;
        // SAFETY: the caller promises that `stream` is a stream of this context, or null.
        unsafe { self.shared.refuse_capture(stream)? };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (to, from, bytes) = (read.as_mut_ptr(), self.scratch.address(), 4 * self.deltas.len());
        if bytes > 0 {
            // SAFETY: the host and the device both have a word for each delta. The pinned memory is
            // this update's, under its lock, and is not read before the stream is done. The caller
            // promises that `stream` is a stream of this context, or null.
            let code = unsafe { cuMemcpyDtoHAsync_v2(to, from, bytes, stream) };
            call("read what became of an update", code)?;
        }
        // SAFETY: the caller promises that `stream` is a stream of this context, or null.
        unsafe { self.shared.wait(stream)? };
        let words = read.as_slice().as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        Ok(self
            .deltas
            .iter()
            .zip(words)
            .map(|((delta, _), word)| DeltaFault::of(word, &delta.placed))
            .collect())
    }

    /// Reads the [statuses](Self::statuses), and fails if there is a fault.
    ///
    /// # Safety
    ///
    /// The requirements are those of [`statuses`](Self::statuses).
    ///
    /// # Errors
    ///
    /// [`Error::Base`] if a base is another than its delta was made against; then no tensor has
    /// changed. [`Error::Lost`] if a delta is not valid, which its checksums did not show, or the
    /// device computed something else than it says: the elements of that tensor are lost. Of
    /// several faults, the first lost tensor is named. Otherwise the errors of
    /// [`statuses`](Self::statuses).
    pub unsafe fn check(&self, stream: *mut c_void) -> Result<(), Error> {
        // SAFETY: the caller promises what `statuses` needs for `stream`.
        let statuses = unsafe { self.statuses(stream)? };
        let faults = || statuses.iter().enumerate().filter_map(|(item, fault)| Some((item, (*fault)?)));
        match faults().find(|(_, fault)| fault.is_lost).or_else(|| faults().next()) {
            None => Ok(()),
            Some((item, DeltaFault { block, clause, is_lost: true })) => {
                Err(Error::Lost { item, block, clause })
            }
            Some((item, DeltaFault { block, clause, .. })) => Err(Error::Base { item, block, clause }),
        }
    }

    /// Applies all deltas over tensors in memory of the device, waits, and checks what became of
    /// it.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] if the memory is too short for the results, [`Error::OtherDevice`] if it
    /// belongs to another device, the errors of [`enqueue`](Self::enqueue) and of
    /// [`check`](Self::check).
    pub fn apply(&self, elements: &mut Memory) -> Result<(), Error> {
        let found = elements.len();
        if self.bytes > found as u64 {
            return Err(Error::Length { expected: self.bytes, found });
        }
        elements.expect_context(&self.shared)?;
        let (stream, address) = (self.shared.stream.as_raw(), elements.address());
        // SAFETY: the stream is the context's own. The memory has room for all results. It is
        // borrowed until the stream is done, because reading the statuses waits for that.
        unsafe {
            self.enqueue(stream, address)?;
            self.check(stream)
        }
    }
}
