//! Defines the functions of the CUDA driver that `cust` uses, with their true prototypes.
//!
//! A program that is linked to `libcuda.so.1` does not even start without it. These functions
//! forward to that library if it can be opened when the program runs. Otherwise they return
//! [`NO_DRIVER`], and everything else still works.
//!
//! With the feature `emulator`, `emulate` makes them run kernels on the CPU, in this process. The
//! host code behaves the same, and errors of the host code or of a kernel are reported by
//! [`findings`].
//!
//! A shared library that this is linked into exports the functions. With the feature `hidden` it
//! keeps them to itself, and what it calls is never the function of another library.
//!
//! ```
//! use df11_cuda_driver::{Backend, backend, cuDeviceGetCount, cuInit};
//!
//! let mut devices = 0;
//! // SAFETY: the number may be written to.
//! let is_there = unsafe { cuInit(0) == 0 && cuDeviceGetCount(&mut devices) == 0 };
//! assert_eq!(is_there && devices > 0, backend() == Backend::Library && devices > 0);
//! ```

#![allow(non_snake_case, reason = "the driver's names")]

#[cfg(feature = "emulator")]
mod emulated;

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};
use std::sync::OnceLock;

use libloading::Library;

#[cfg(feature = "emulator")]
pub use df11_emulator::Finding;
#[cfg(feature = "emulator")]
pub use emulated::Emulation;

/// A finding of the emulator. Without the emulator there are none.
#[cfg(not(feature = "emulator"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {}

#[cfg(not(feature = "emulator"))]
impl std::fmt::Display for Finding {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}

/// `CUDA_ERROR_NO_DEVICE`: returned by all functions where there is no driver.
pub const NO_DRIVER: c_int = 100;

/// `CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND`: returned by a function that the driver of this
/// machine lacks.
pub const NO_FUNCTION: c_int = 302;

/// `CUDA_ERROR_UNKNOWN`: returned in place of a code that `cust` does not know. [`last_failure`]
/// has the true code.
pub const UNKNOWN: c_int = 999;

/// The implementation behind these functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// The driver of this machine.
    Library,
    /// The emulator.
    Emulator,
    /// There is no driver.
    None,
}

/// The implementation that was chosen for the whole process.
enum Chosen {
    Library(Box<Table>),
    #[cfg(feature = "emulator")]
    Emulator(Box<emulated::Driver>),
    /// There is no driver, for this reason.
    None(String),
}

static CHOSEN: OnceLock<Chosen> = OnceLock::new();

fn chosen() -> &'static Chosen {
    CHOSEN.get_or_init(|| match Table::open() {
        Ok(table) => Chosen::Library(Box::new(table)),
        Err(reason) => Chosen::None(reason),
    })
}

/// Returns the implementation behind these functions. The first call of this, or of any driver
/// function, fixes the choice.
#[must_use]
pub fn backend() -> Backend {
    match chosen() {
        Chosen::Library(_) => Backend::Library,
        #[cfg(feature = "emulator")]
        Chosen::Emulator(_) => Backend::Emulator,
        Chosen::None(_) => Backend::None,
    }
}

/// Returns the system's reason why there is no driver; `None` if there is one.
#[must_use]
pub fn why_none() -> Option<&'static str> {
    match chosen() {
        Chosen::None(reason) => Some(reason),
        _ => None,
    }
}

/// Lists the functions that the driver of this machine lacks, because it is too old. They return
/// [`NO_FUNCTION`].
#[must_use]
pub fn missing() -> Vec<&'static str> {
    match chosen() {
        Chosen::Library(table) => table.missing(),
        _ => Vec::new(),
    }
}

/// Makes all later calls run kernels in the emulator. Returns false if a driver is in use already,
/// because the choice is then fixed.
///
/// ```
/// use df11_cuda_driver::{Backend, Emulation, backend, emulate};
///
/// assert!(emulate(Emulation::default()));
/// assert_eq!(backend(), Backend::Emulator);
/// ```
#[cfg(feature = "emulator")]
pub fn emulate(emulation: Emulation) -> bool {
    CHOSEN.get_or_init(|| Chosen::Emulator(Box::new(emulated::Driver::new(emulation))));
    backend() == Backend::Emulator
}

/// A failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The driver function that failed.
    pub function: &'static str,
    /// The code that it returned, which may be one that `cust` does not know.
    pub code: c_int,
}

thread_local! {
    static LAST: Cell<Option<Failure>> = const { Cell::new(None) };
}

/// Returns the last call on this thread that returned a code other than 0.
#[must_use]
pub fn last_failure() -> Option<Failure> {
    LAST.get()
}

/// Tells whether a code is in the enumeration of `cust_raw` 0.11.3, which is that of CUDA 11.4. Any
/// other code would be undefined behaviour there.
const fn is_known(code: c_int) -> bool {
    matches!(
        code,
        0..=8
            | 34
            | 100..=102
            | 200..=202
            | 205..=224
            | 300..=304
            | 400
            | 401
            | 500
            | 600
            | 700..=705
            | 708..=720
            | 800..=809
            | 900..=911
            | 999
    )
}

/// Records the code that a function returned, and converts it to one that `cust` knows.
fn returned(function: &'static str, code: c_int) -> c_int {
    if code != 0 {
        LAST.set(Some(Failure { function, code }));
    }
    if is_known(code) { code } else { UNKNOWN }
}

/// Returns the findings of the emulator since the last call.
#[must_use]
pub fn findings() -> Vec<Finding> {
    match chosen() {
        #[cfg(feature = "emulator")]
        Chosen::Emulator(driver) => driver.findings(),
        _ => Vec::new(),
    }
}

/// Defines functions that forward to the chosen implementation.
macro_rules! functions {
    ($(fn $name:ident($($argument:ident: $type:ty),*);)*) => {
        /// The functions of the library; `None` for those that it lacks.
        #[derive(Clone, Copy)]
        struct Table {
            $($name: Option<unsafe extern "C" fn($($type),*) -> c_int>,)*
        }

        impl Table {
            /// Opens the library, and leaves it open.
            fn open() -> Result<Self, String> {
                Self::open_as("libcuda.so.1")
            }

            fn open_as(name: &str) -> Result<Self, String> {
                // SAFETY: initializing the driver's library has no preconditions, and the library
                // is never closed.
                let library = unsafe { Library::new(name) }.map_err(|error| error.to_string())?;
                let library: &'static Library = Box::leak(Box::new(library));
                // SAFETY: these are the prototypes of these functions in the driver's header,
                // cuda.h.
                unsafe {
                    Ok(Table {
                        $($name: library.get(concat!(stringify!($name), "\0").as_bytes()).ok().map(|found| *found),)*
                    })
                }
            }

            fn missing(&self) -> Vec<&'static str> {
                [$((stringify!($name), self.$name.is_some())),*]
                    .into_iter()
                    .filter(|(_, is_there)| !is_there)
                    .map(|(name, _)| name)
                    .collect()
            }
        }

        $(
            /// Forwards to the driver's function of this name, and does what its documentation
            /// says.
            ///
            /// # Safety
            ///
            /// The caller must keep the contract of the driver's function of this name.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
                let code = match chosen() {
                    Chosen::Library(table) => match table.$name {
                        // SAFETY: the driver's function has the contract that this function's
                        // caller promises to keep.
                        Some(function) => unsafe { function($($argument),*) },
                        None => NO_FUNCTION,
                    },
                    #[cfg(feature = "emulator")]
                    Chosen::Emulator(driver) => match driver.refusal(stringify!($name)) {
                        Some(code) => code,
                        // SAFETY: the emulated function has the contract that this function's
                        // caller promises to keep.
                        None => unsafe { driver.$name($($argument),*) },
                    },
                    Chosen::None(_) => NO_DRIVER,
                };
                returned(stringify!($name), code)
            }

            #[cfg(all(feature = "hidden", target_os = "linux"))]
            std::arch::global_asm!(concat!(".hidden ", stringify!($name)));
        )*
    };
}

functions! {
    fn cuInit(flags: c_uint);
    fn cuDriverGetVersion(version: *mut c_int);
    fn cuDeviceGetCount(count: *mut c_int);
    fn cuDeviceGet(device: *mut c_int, ordinal: c_int);
    fn cuDeviceGetName(name: *mut c_char, len: c_int, device: c_int);
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_uint, device: c_int);
    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int);
    fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: c_int);
    fn cuDevicePrimaryCtxRelease_v2(device: c_int);
    fn cuDevicePrimaryCtxReset_v2(device: c_int);
    fn cuDevicePrimaryCtxSetFlags_v2(device: c_int, flags: c_uint);
    fn cuCtxPushCurrent_v2(context: *mut c_void);
    fn cuCtxPopCurrent_v2(context: *mut *mut c_void);
    fn cuCtxSetCurrent(context: *mut c_void);
    fn cuCtxGetCurrent(context: *mut *mut c_void);
    fn cuCtxGetApiVersion(context: *mut c_void, version: *mut c_uint);
    fn cuCtxGetDevice(device: *mut c_int);
    fn cuCtxSynchronize();
    fn cuModuleLoadData(module: *mut *mut c_void, image: *const c_void);
    fn cuModuleLoadDataEx(
        module: *mut *mut c_void,
        image: *const c_void,
        count: c_uint,
        options: *mut c_uint,
        values: *mut *mut c_void
    );
    fn cuModuleUnload(module: *mut c_void);
    fn cuModuleGetFunction(function: *mut *mut c_void, module: *mut c_void, name: *const c_char);
    fn cuFuncGetAttribute(value: *mut c_int, attribute: c_uint, function: *mut c_void);
    fn cuFuncSetAttribute(function: *mut c_void, attribute: c_uint, value: c_int);
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: *mut c_int,
        function: *mut c_void,
        threads: c_int,
        shared_bytes: usize
    );
    fn cuMemAlloc_v2(address: *mut u64, bytes: usize);
    fn cuMemFree_v2(address: u64);
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    fn cuMemAllocHost_v2(memory: *mut *mut c_void, bytes: usize);
    fn cuMemHostAlloc(memory: *mut *mut c_void, bytes: usize, flags: c_uint);
    fn cuMemFreeHost(memory: *mut c_void);
    fn cuPointerGetAttribute(value: *mut c_void, attribute: c_uint, address: u64);
    fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize);
    fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize);
    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize);
    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: *mut c_void);
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: *mut c_void);
    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: *mut c_void);
    fn cuMemsetD8_v2(to: u64, value: u8, bytes: usize);
    fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, stream: *mut c_void);
    fn cuStreamCreate(stream: *mut *mut c_void, flags: c_uint);
    fn cuStreamCreateWithPriority(stream: *mut *mut c_void, flags: c_uint, priority: c_int);
    fn cuStreamDestroy_v2(stream: *mut c_void);
    fn cuStreamSynchronize(stream: *mut c_void);
    fn cuStreamWaitEvent(stream: *mut c_void, event: *mut c_void, flags: c_uint);
    fn cuStreamIsCapturing(stream: *mut c_void, status: *mut c_uint);
    fn cuThreadExchangeStreamCaptureMode(mode: *mut c_uint);
    fn cuStreamBeginCapture_v2(stream: *mut c_void, mode: c_uint);
    fn cuStreamEndCapture(stream: *mut c_void, graph: *mut *mut c_void);
    fn cuGraphInstantiateWithFlags(executable: *mut *mut c_void, graph: *mut c_void, flags: c_ulonglong);
    fn cuGraphLaunch(executable: *mut c_void, stream: *mut c_void);
    fn cuGraphExecDestroy(executable: *mut c_void);
    fn cuGraphDestroy(graph: *mut c_void);
    fn cuEventCreate(event: *mut *mut c_void, flags: c_uint);
    fn cuEventDestroy_v2(event: *mut c_void);
    fn cuEventRecord(event: *mut c_void, stream: *mut c_void);
    fn cuEventQuery(event: *mut c_void);
    fn cuEventSynchronize(event: *mut c_void);
    fn cuEventElapsedTime(milliseconds: *mut f32, start: *mut c_void, end: *mut c_void);
    fn cuLaunchKernel(
        function: *mut c_void,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: *mut c_void,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void
    );
    fn cuGetErrorString(error: c_uint, text: *mut *const c_char);
}

#[cfg(test)]
mod tests {
    use super::{Failure, Table, UNKNOWN, is_known, last_failure, returned};

    #[test]
    fn codes_that_cust_does_not_know_become_unknown_and_are_kept() {
        for code in [36, 46, 225, 226, 721, 912, 919] {
            assert!(!is_known(code));
            assert_eq!(returned("cuInit", code), UNKNOWN);
            assert_eq!(last_failure(), Some(Failure { function: "cuInit", code }));
        }
        assert_eq!(returned("cuMemAlloc_v2", 2), 2);
        assert_eq!(returned("cuInit", 0), 0);
        assert_eq!(last_failure(), Some(Failure { function: "cuMemAlloc_v2", code: 2 }));
    }

    #[test]
    fn a_library_that_lacks_functions_is_used_and_says_which() {
        // The C library has none of these functions. It stands for a driver that is older than all
        // of them.
        let table = Table::open_as("libc.so.6");
        assert!(table.is_ok_and(|table| {
            table.cuInit.is_none() && table.missing().contains(&"cuGraphInstantiateWithFlags")
        }));
        let reason = Table::open_as("libcuda.so.not-there").err();
        assert!(reason.is_some_and(|reason| reason.contains("libcuda.so.not-there")));
    }
}
