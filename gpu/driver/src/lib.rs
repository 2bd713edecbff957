//! The functions of the CUDA driver that `cust` uses, with their true prototypes.
//!
//! A program that is linked to `libcuda.so.1` does not even start without it. So these functions are here, and forward to the
//! library if it can be opened when the program runs. Otherwise they return [`NO_DRIVER`], and everything else still works.
//!
//! [`emulate`] makes them run kernels on the CPU instead, in this process: the host code cannot tell, and what it or a kernel
//! does wrong is [found](findings).
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

mod emulated;

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use df11_emulator::Finding;
use libloading::Library;

pub use emulated::Emulation;

/// `CUDA_ERROR_NO_DEVICE`: what functions return where there is no driver.
pub const NO_DRIVER: c_int = 100;

/// Who does what these functions are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// The driver of this machine.
    Library,
    /// The emulator.
    Emulator,
    /// Nobody: there is no driver.
    None,
}

/// What was decided, for the whole process.
enum Chosen {
    Library(Box<Table>),
    Emulator(Box<emulated::Driver>),
    None,
}

static CHOSEN: OnceLock<Chosen> = OnceLock::new();

fn chosen() -> &'static Chosen {
    CHOSEN.get_or_init(|| Table::open().map_or(Chosen::None, |table| Chosen::Library(Box::new(table))))
}

/// Who does the work. Once this has been asked, or any function called, it stays as it is.
#[must_use]
pub fn backend() -> Backend {
    match chosen() {
        Chosen::Library(_) => Backend::Library,
        Chosen::Emulator(_) => Backend::Emulator,
        Chosen::None => Backend::None,
    }
}

/// Runs kernels in the emulator from now on. Tells whether that is so: it is too late if the driver is in use already.
///
/// ```
/// use df11_cuda_driver::{Backend, Emulation, backend, emulate};
///
/// assert!(emulate(Emulation::default()));
/// assert_eq!(backend(), Backend::Emulator);
/// ```
pub fn emulate(emulation: Emulation) -> bool {
    CHOSEN.get_or_init(|| Chosen::Emulator(Box::new(emulated::Driver::new(emulation))));
    backend() == Backend::Emulator
}

/// What the emulator has found since this was asked last.
#[must_use]
pub fn findings() -> Vec<Finding> {
    match chosen() {
        Chosen::Emulator(driver) => driver.findings(),
        _ => Vec::new(),
    }
}

/// Defines functions that forward to who was chosen.
macro_rules! functions {
    ($(fn $name:ident($($argument:ident: $type:ty),*);)*) => {
        /// The functions of the library.
        #[derive(Clone, Copy)]
        struct Table {
            $($name: unsafe extern "C" fn($($type),*) -> c_int,)*
        }

        impl Table {
            /// Opens the library, and leaves it open.
            fn open() -> Option<Self> {
                // SAFETY: the driver's library may be opened by anyone, and is never closed.
                let library = unsafe { Library::new("libcuda.so.1") }.ok()?;
                let library: &'static Library = Box::leak(Box::new(library));
                // SAFETY: these are the prototypes of these functions in the driver's header, cuda.h.
                unsafe {
                    Some(Table {
                        $($name: *library.get(concat!(stringify!($name), "\0").as_bytes()).ok()?,)*
                    })
                }
            }
        }

        $(
            /// As the driver's documentation says.
            ///
            /// # Safety
            ///
            /// As for the driver's function of this name.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
                match chosen() {
                    // SAFETY: the caller's promises are passed on.
                    Chosen::Library(table) => unsafe { (table.$name)($($argument),*) },
                    // SAFETY: the caller's promises are passed on.
                    Chosen::Emulator(driver) => unsafe { driver.$name($($argument),*) },
                    Chosen::None => NO_DRIVER,
                }
            }
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
    fn cuMemAlloc_v2(address: *mut u64, bytes: usize);
    fn cuMemFree_v2(address: u64);
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize);
    fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize);
    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize);
    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: *mut c_void);
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: *mut c_void);
    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: *mut c_void);
    fn cuMemsetD8_v2(to: u64, value: u8, bytes: usize);
    fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, stream: *mut c_void);
    fn cuStreamCreateWithPriority(stream: *mut *mut c_void, flags: c_uint, priority: c_int);
    fn cuStreamDestroy_v2(stream: *mut c_void);
    fn cuStreamSynchronize(stream: *mut c_void);
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
