//! Contexts: which one is current, and which objects belong to it.
//!
//! A driver works for the context that is current on the thread. Every function here that calls the
//! driver therefore makes its own context current while it runs, and then restores the previous
//! one. Callers may use several devices, other libraries, and any threads.

#![allow(unsafe_code, reason = "calls of the driver")]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::{c_int, c_uint, c_void};
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use cust::context::{Context, CurrentContext};
use cust::device::Device;
use cust::function::Function;
use cust::module::Module;
use df11_cuda_driver::{
    cuCtxGetCurrent, cuCtxPopCurrent_v2, cuCtxPushCurrent_v2, cuCtxSetCurrent, cuLaunchKernel,
    cuOccupancyMaxActiveBlocksPerMultiprocessor, cuThreadExchangeStreamCaptureMode,
};

use crate::error::{call, driver};
use crate::kernels::{DF11_DECODE, FAST_DECODE, Ptx, RANS_DECODE, THREADS, WARPS, best};
use crate::load::{self, Cubin, OwnedCubin};
use crate::stream::Stream;
use crate::{DeviceInfo, Error};

/// A context of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle(pub(crate) *mut c_void);

// SAFETY: a handle of the driver may be used on every thread.
unsafe impl Send for Handle {}
// SAFETY: a handle of the driver may be used on every thread, and the driver has locks of its own.
unsafe impl Sync for Handle {}

/// Keeps a context current on this thread while it lives.
pub(crate) struct Current {
    /// The guard belongs to this thread's stack of contexts.
    _here: std::marker::PhantomData<*const ()>,
}

impl Current {
    pub(crate) fn enter(context: Handle) -> Result<Self, Error> {
        // SAFETY: the handle is that of a context that this crate retains, or that the caller of
        // `Gpu::from_context` keeps.
        call("make the context current", unsafe { cuCtxPushCurrent_v2(context.0) })?;
        Ok(Current { _here: std::marker::PhantomData })
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        // SAFETY: NULL tells the driver that the caller does not need the popped context.
        unsafe { cuCtxPopCurrent_v2(ptr::null_mut()) };
    }
}

/// `CU_STREAM_CAPTURE_MODE_RELAXED`
const RELAXED: c_uint = 2;

/// A guard: while it lives, calls of this thread that might wait do not end a capture.
///
/// Memory is freed when its last owner is dropped. A garbage collector may do that at any time,
/// even while an engine captures a graph that has nothing to do with it.
pub(crate) struct Relaxed {
    /// The thread's mode before, if the driver knows modes.
    before: Option<c_uint>,
    /// The mode is this thread's.
    _here: std::marker::PhantomData<*const ()>,
}

impl Relaxed {
    pub(crate) fn enter() -> Self {
        let mut mode = RELAXED;
        // SAFETY: the pointer is to a local variable, which has a mode and is given the one before.
        let code = unsafe { cuThreadExchangeStreamCaptureMode(&mut mode) };
        Relaxed { before: (code == 0).then_some(mode), _here: std::marker::PhantomData }
    }
}

impl Drop for Relaxed {
    fn drop(&mut self) {
        if let Some(mut mode) = self.before {
            // SAFETY: as above.
            unsafe { cuThreadExchangeStreamCaptureMode(&mut mode) };
        }
    }
}

/// Retains the primary context of a device, and leaves the current context unchanged.
pub(crate) fn retain(device: Device) -> Result<Context, Error> {
    let mut before = ptr::null_mut();
    // SAFETY: the pointer is to a local variable for the handle.
    call("ask which context is current", unsafe { cuCtxGetCurrent(&mut before) })?;
    let context = driver("retain the primary context of the device", Context::new(device))?;
    // SAFETY: the context was current a moment ago; NULL stands for none.
    call("put back the context that was current", unsafe { cuCtxSetCurrent(before) })?;
    Ok(context)
}

/// Returns the device of the current context.
pub(crate) fn current_device() -> Result<u32, Error> {
    let device = driver("ask for the device of the context", CurrentContext::get_device())?;
    Ok(device.as_raw().unsigned_abs())
}

/// A loaded kernel, and the number of its thread blocks that a multiprocessor can hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    function: Handle,
    resident: u32,
    /// The name of its launch in messages.
    action: &'static str,
}

impl Kernel {
    fn find(module: &Module, name: &str, action: &'static str) -> Result<Self, Error> {
        // This call also makes the driver load the function. Loading is not allowed while a stream
        // is captured.
        let function = driver("find a kernel", module.get_function(name))?;
        let function: *mut c_void = Function::to_raw(&function).cast();
        let (mut resident, threads) = (0, THREADS as c_int);
        // SAFETY: the function was found in a module of the current context, and the pointer is to
        // a local variable for the number.
        let code =
            unsafe { cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut resident, function, threads, 0) };
        call("ask how many thread blocks fit on a multiprocessor", code)?;
        Ok(Kernel { function: Handle(function), resident: resident.max(1).unsigned_abs(), action })
    }

    /// Returns this kernel as if a multiprocessor could hold no more than this many of its thread
    /// blocks, and at least one.
    pub(crate) fn limited(self, most: u32) -> Self {
        Kernel { resident: self.resident.min(most).max(1), ..self }
    }

    /// Launches this many of its thread blocks on a stream.
    ///
    /// # Safety
    ///
    /// The requirements are those of [`launch`].
    pub(crate) unsafe fn launch(
        &self,
        blocks: u32,
        stream: *mut c_void,
        arguments: &mut [*mut c_void],
    ) -> Result<(), Error> {
        let shape = Shape { blocks, threads: THREADS, shared_bytes: 0 };
        // SAFETY: the caller promises what `launch` needs.
        call(self.action, unsafe { launch(self.function.0, shape, stream, arguments) })
    }
}

/// The shape of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Thread blocks.
    pub(crate) blocks: u32,
    /// Threads of each.
    pub(crate) threads: u32,
    /// Bytes of shared memory of each thread block, besides those that the kernel declares.
    pub(crate) shared_bytes: u32,
}

/// Launches a kernel on a stream, and returns the driver's code.
///
/// # Safety
///
/// The context of the function must be current, and `stream` must be a stream (`CUstream`) of it,
/// or null for its legacy stream. `arguments` must point to a value for each parameter of the
/// kernel. The memory that these values refer to must be as the kernel needs it until the stream is
/// done.
pub(crate) unsafe fn launch(
    function: *mut c_void,
    shape: Shape,
    stream: *mut c_void,
    arguments: &mut [*mut c_void],
) -> c_int {
    let Shape { blocks, threads, shared_bytes } = shape;
    let (arguments, none) = (arguments.as_mut_ptr(), ptr::null_mut());
    // SAFETY: the caller promises that the function, the stream and the arguments belong together.
    // The driver copies the arguments before this returns.
    unsafe { cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, shared_bytes, stream, arguments, none) }
}

/// The source of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    /// The name of its module, as a [`Cubin`] has it.
    pub(crate) module: &'static str,
    /// The module for each generation of cards.
    pub(crate) ptx: &'static [Ptx],
    /// The name of the kernel.
    pub(crate) entry: &'static str,
    /// The name of its launch in messages.
    pub(crate) action: &'static str,
}

/// The kinds of items, each with its own batch kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Units,
    Rans,
    Dictionary,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Units, Kind::Rans, Kind::Dictionary];

    /// Returns the source of its kernel.
    pub(crate) const fn source(self) -> Source {
        let (module, ptx, entry, action): (_, &[Ptx], _, _) = match self {
            Kind::Units => ("df11_decode", &DF11_DECODE, "df11_decode_batch", "launch df11_decode_batch"),
            Kind::Rans => ("rans_decode", &RANS_DECODE, "rans_decode_batch", "launch rans_decode_batch"),
            Kind::Dictionary => {
                ("fast_decode", &FAST_DECODE, "fast_decode_batch", "launch fast_decode_batch")
            }
        };
        Source { module, ptx, entry, action }
    }

    /// Returns the number of its blocks that a thread block decodes at a time.
    pub(crate) const fn at_a_time(self) -> u32 {
        match self {
            Kind::Units => 1,
            Kind::Rans | Kind::Dictionary => WARPS,
        }
    }
}

/// The loaded modules and kernels, by name. Each is loaded when it is first needed, because a
/// driver may take a third of a second to compile a module.
#[derive(Debug, Default)]
struct Loaded {
    modules: BTreeMap<&'static str, load::Loaded>,
    kernels: BTreeMap<&'static str, Kernel>,
}

/// The owner of the context.
#[derive(Debug)]
enum Owner {
    /// This holds a share of the device's primary context.
    Primary(#[expect(dead_code, reason = "released when it is dropped")] Context),
    /// The caller owns the context.
    Caller,
}

/// Returns the compute capability as one number: 90 for 9.0.
const fn compute_capability(info: &DeviceInfo) -> i32 {
    10 * info.capability.0 + info.capability.1
}

/// The state of a context. Every object that is made in the context keeps this state alive.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) context: Handle,
    pub(crate) info: DeviceInfo,
    pub(crate) multiprocessors: u32,
    pub(crate) stream: ManuallyDrop<Stream>,
    loaded: ManuallyDrop<Mutex<Loaded>>,
    cubins: Vec<OwnedCubin>,
    /// The owner, which must be dropped last.
    _owner: Owner,
}

impl Shared {
    /// Uses the primary context of a device.
    pub(crate) fn primary(info: DeviceInfo, cubins: &[Cubin<'_>]) -> Result<Self, Error> {
        let device = driver("get the device", Device::get_device(info.number))?;
        let context = retain(device)?;
        Shared::new(Handle(context.as_raw().cast()), info, Owner::Primary(context), cubins)
    }

    /// Uses the caller's context.
    pub(crate) fn of_caller(context: Handle, info: DeviceInfo, cubins: &[Cubin<'_>]) -> Result<Self, Error> {
        Shared::new(context, info, Owner::Caller, cubins)
    }

    fn new(context: Handle, info: DeviceInfo, owner: Owner, cubins: &[Cubin<'_>]) -> Result<Self, Error> {
        let _current = Current::enter(context)?;
        if best(&DF11_DECODE, compute_capability(&info)).is_none() {
            return Err(Error::TooOld { capability: info.capability });
        }
        let stream = ManuallyDrop::new(Stream::in_current(context)?);
        let device = driver("get the device", Device::get_device(info.number))?;
        let multiprocessors = device.get_attribute(cust::device::DeviceAttribute::MultiprocessorCount);
        let multiprocessors = driver("ask for multiprocessors", multiprocessors)?.max(1).unsigned_abs();
        let cubins = cubins.iter().map(OwnedCubin::from).collect();
        let loaded = ManuallyDrop::default();
        Ok(Shared { context, info, multiprocessors, stream, loaded, cubins, _owner: owner })
    }

    /// Returns a kernel, and loads it first if necessary.
    pub(crate) fn kernel(&self, source: Source) -> Result<Kernel, Error> {
        let Source { module, ptx, entry, action } = source;
        let _current = self.enter()?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let Loaded { modules, kernels } = &mut *loaded;
        if let Some(kernel) = kernels.get(entry) {
            return Ok(*kernel);
        }
        let module = match modules.entry(module) {
            Entry::Occupied(module) => module.into_mut(),
            Entry::Vacant(place) => {
                place.insert(load::load(module, ptx, &self.cubins, compute_capability(&self.info))?)
            }
        };
        let kernel = Kernel::find(&module.module, entry, action)?;
        kernels.insert(entry, kernel);
        Ok(kernel)
    }

    /// Returns the names of the loaded modules that the driver compiled from PTX.
    pub(crate) fn compiled(&self) -> Vec<&'static str> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.modules.iter().filter(|(_, module)| module.compiled).map(|(name, _)| *name).collect()
    }

    /// Returns the number of thread blocks that fill the device, or fewer if there is less work.
    pub(crate) fn grid(&self, kernel: &Kernel, work: u32) -> u32 {
        let most = self.widest_grid(kernel, u32::MAX);
        // All thread blocks run the same number of rounds. There are rather fewer thread blocks
        // than some with less to do.
        work.div_ceil(work.div_ceil(most).max(1)).max(1)
    }

    /// Returns the number of thread blocks that the device can run at a time, or that have work.
    /// Some do one round more than others, and all multiprocessors have as many thread blocks,
    /// which products of compressed weights gain more from (3 % on an H200).
    pub(crate) fn widest_grid(&self, kernel: &Kernel, work: u32) -> u32 {
        kernel.resident.saturating_mul(self.multiprocessors).min(work).max(1)
    }

    /// Makes the context current on this thread, while the returned guard lives.
    pub(crate) fn enter(&self) -> Result<Current, Error> {
        Current::enter(self.context)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // If the context cannot be made current, it no longer exists, nor does anything in it.
        let current = self.enter();
        if current.is_ok() {
            // SAFETY: neither is used after this, and their context is current.
            unsafe {
                ManuallyDrop::drop(&mut self.loaded);
                ManuallyDrop::drop(&mut self.stream);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::ffi::c_int;

    use df11_cuda_driver::cuOccupancyMaxActiveBlocksPerMultiprocessor;

    use super::Kind;
    use crate::kernels::THREADS;
    use crate::{Emulation, Gpu};

    #[test]
    fn a_grid_is_what_the_device_can_hold_or_what_there_is_to_do() {
        let gpu = Gpu::emulated(Emulation::default()).unwrap();
        let shared = gpu.shared();
        for kind in Kind::ALL {
            let kernel = shared.kernel(kind.source()).unwrap();
            let (mut fit, _current) = (0, shared.enter().unwrap());
            let (function, threads) = (kernel.function.0, THREADS as c_int);
            // SAFETY: the function is loaded in the context that is current.
            let code = unsafe { cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut fit, function, threads, 0) };
            assert_eq!(code, 0);
            // The emulated device has four multiprocessors.
            assert_eq!(shared.grid(&kernel, u32::MAX), 4 * fit.unsigned_abs());
            assert_eq!(shared.grid(&kernel, 3), 3);
            assert_eq!(shared.grid(&kernel, 0), 1);
        }
    }
}
