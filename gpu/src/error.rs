//! Errors of the GPU functions.

#![allow(unsafe_code, reason = "the driver's words for its codes")]

use std::ffi::{CStr, c_int};
use std::fmt;
use std::ptr;

use cust::error::CudaError;
use df11_cuda_driver::Finding;
use df11_cuda_driver::{cuGetErrorString, last_failure, why_none};

/// `CUDA_ERROR_NO_DEVICE`
const NO_DEVICE: c_int = df11_cuda_driver::NO_DRIVER;

/// The reason why a GPU operation failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is no CUDA driver, or no device.
    NoDriver {
        /// The reason why the driver's library cannot be opened, if it cannot.
        reason: Option<&'static str>,
    },
    /// A device decodes an item to other bytes than the CPU.
    Different {
        /// The number of the item.
        item: usize,
    },
    /// There is no device of this number.
    NoDevice {
        /// The requested number.
        number: u32,
        /// The number of devices.
        devices: u32,
    },
    /// The device is older than every kernel.
    TooOld {
        /// Its compute capability, such as 7 and 0.
        capability: (i32, i32),
    },
    /// The driver in this process already works for another backend, an emulator or a card.
    OtherBackend,
    /// The driver refused.
    Driver(Box<Refusal>),
    /// The data to upload is invalid, or the data to encode cannot be encoded.
    Invalid(df11::Error),
    /// A kernel found an invalid block in an item.
    Block {
        /// The number of the item in the batch.
        item: usize,
        /// The number of the block.
        block: usize,
        /// The broken clause of DF11.md, RANS.md or DICTIONARY.md.
        clause: &'static str,
    },
    /// A decoded block of a frame does not match its checksum (F-5.4).
    Checksum {
        /// The number of the item in the batch.
        item: usize,
        /// The number of the block.
        block: usize,
    },
    /// A tensor is another than a delta was made against. Nothing has been changed.
    Base {
        /// The number of the delta in the update.
        item: usize,
        /// The first block of the delta whose base has another checksum; 0 where it has no blocks.
        block: usize,
        /// The broken clause of DELTA.md.
        clause: &'static str,
    },
    /// A delta could not be applied, and the elements of its tensor are lost.
    Lost {
        /// The number of the delta in the update.
        item: usize,
        /// The first block that is not what the delta says; 0 where it has no blocks.
        block: usize,
        /// The broken clause of DELTA.md or RANS.md.
        clause: &'static str,
    },
    /// A frame of codec raw has nothing to decode.
    RawFrame,
    /// Memory on the device is too short for the decoded items.
    Length {
        /// The number of bytes that it must have.
        expected: u64,
        /// The number of bytes that it has.
        found: usize,
    },
    /// Elements would begin at an address that is not a multiple of their size, which a card cannot
    /// write to.
    Alignment {
        /// The number of the item in the batch.
        item: usize,
        /// The address.
        address: u64,
        /// The number that the address must be a multiple of.
        alignment: u64,
    },
    /// Memory, or an item, belongs to another device or context.
    OtherDevice {
        /// The device that was called.
        expected: u32,
        /// The device that it belongs to.
        found: u32,
    },
    /// A batch has more blocks than a launch can have: 2^32 or more.
    TooMuch,
    /// The stream is captured, and the call would have to wait.
    Capturing,
    /// A PTX text is not that of the published kernel.
    OtherKernel,
    /// A linear layer does not fit its matrix, or its kernels.
    Layer {
        /// The number of the layer.
        layer: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

/// A call that the driver refused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// The action that failed.
    pub action: &'static str,
    /// The function of the driver that failed.
    pub function: &'static str,
    /// The code that it returned, from cuda.h.
    pub code: i32,
    /// The driver's message about PTX that it refused.
    pub log: Option<String>,
    /// The findings of the emulator, if it is the driver.
    pub findings: Vec<Finding>,
}

/// The kind of failure that an [`Error`] reports, for programs that act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no driver, no such device, or none that the kernels run on. The CPU can do the
    /// work.
    Unavailable,
    /// The device has too little memory left. Less at once may fit.
    Memory,
    /// The driver refused for another reason.
    Driver,
    /// The data is wrong.
    Data,
    /// The call is wrong, or comes at the wrong time.
    Usage,
    /// A device and the CPU disagree.
    Internal,
}

/// `CUDA_ERROR_OUT_OF_MEMORY`
const OUT_OF_MEMORY: i32 = 2;

impl Error {
    /// Returns the kind of this error.
    ///
    /// ```
    /// use df11_gpu::{Emulation, ErrorKind, Gpu};
    ///
    /// let gpu = Gpu::emulated(Emulation::default())?;
    /// assert_eq!(gpu.allocate(1 << 50).unwrap_err().kind(), ErrorKind::Memory);
    /// assert_eq!(Gpu::open(7).unwrap_err().kind(), ErrorKind::Unavailable);
    /// # Ok::<(), df11_gpu::Error>(())
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoDriver { .. } | Error::NoDevice { .. } | Error::TooOld { .. } => ErrorKind::Unavailable,
            Error::Driver(refusal) if refusal.code == OUT_OF_MEMORY => ErrorKind::Memory,
            Error::Driver(_) => ErrorKind::Driver,
            Error::Invalid(_)
            | Error::Block { .. }
            | Error::Checksum { .. }
            | Error::Base { .. }
            | Error::Lost { .. } => ErrorKind::Data,
            Error::Different { .. } => ErrorKind::Internal,
            Error::OtherBackend
            | Error::RawFrame
            | Error::Length { .. }
            | Error::Alignment { .. }
            | Error::OtherDevice { .. }
            | Error::TooMuch
            | Error::Capturing
            | Error::OtherKernel
            | Error::Layer { .. } => ErrorKind::Usage,
        }
    }

    pub(crate) fn no_driver() -> Self {
        Error::NoDriver { reason: why_none() }
    }
}

/// Returns the advice for a code of the driver.
const fn advice(code: i32) -> &'static str {
    match code {
        OUT_OF_MEMORY => "free memory of the device, or decode less at once",
        46 => {
            "another process has the device for itself: end that, or change the compute mode (nvidia-smi -c 0)"
        }
        201 | 400 => "a context, a stream or an event may be gone, or that of another device",
        209 => "none of the kernels is for this card: use the CPU, and tell us its name",
        218 | 222 | 300 => "the driver may be older than the kernels need: update it",
        221 => {
            "the driver's compiler libnvidia-ptxjitcompiler.so.1 is missing, as it often is in containers: install it"
        }
        302 => "the driver is older than this function: update it",
        700 | 702 | 716 | 719 => "the context is lost, every later call fails: start the process again",
        803 => "the driver's library and its kernel module are of different versions: restart the machine",
        900..=908 => "while a stream is captured, enqueue alone may be called",
        _ => "",
    }
}

/// Describes a code in the driver's words.
fn words(code: i32) -> String {
    let mut text = ptr::null();
    let known = u32::try_from(code).is_ok_and(|code| {
        // SAFETY: the pointer is to a local variable for the text.
        unsafe { cuGetErrorString(code, &mut text) == 0 }
    });
    if !known || text.is_null() {
        return "an unknown error".to_owned();
    }
    // SAFETY: the driver's text ends in a zero, and is never freed.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { action, function, code, log, findings } = self;
        write!(f, "cannot {action}: {function} says {code}, {}", words(*code))?;
        let advice = advice(*code);
        if !advice.is_empty() {
            write!(f, "; {advice}")?;
        }
        if let Some(log) = log {
            write!(f, "\n{log}")?;
        }
        findings.iter().try_for_each(|finding| write!(f, "\n{finding}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoDriver { reason } => {
                write!(f, "no CUDA driver or no device was found")?;
                if let Some(reason) = reason {
                    write!(f, " ({reason})")?;
                }
                write!(f, "; install NVIDIA's driver, or use another device")
            }
            Error::NoDevice { number, devices } => {
                write!(f, "there is no device cuda:{number}; the driver has {devices}, counted from 0")
            }
            Error::TooOld { capability: (major, minor) } => write!(
                f,
                "the device has compute capability {major}.{minor}, but the kernels need 7.5 or later; use the CPU"
            ),
            Error::OtherBackend => {
                write!(f, "this process uses another driver already: a card and the emulator cannot be mixed")
            }
            Error::Driver(refusal) => write!(f, "{refusal}"),
            Error::Invalid(error) => write!(f, "{error}"),
            Error::Block { item, block, clause } => {
                write!(f, "block {block} of item {item} is not valid ({clause})")
            }
            Error::Checksum { item, block } => {
                write!(f, "block {block} of item {item} has other bytes than its checksum says (F-5.4)")
            }
            Error::Base { item, block, clause } => write!(
                f,
                "tensor {item} is another than its delta was made against: block {block} has another checksum \
                 ({clause}); nothing was changed; give it the base that the delta names"
            ),
            Error::Lost { item, block, clause } => write!(
                f,
                "block {block} of tensor {item} could not be restored ({clause}), and its elements are lost; \
                 load the tensor again, and get a sound delta"
            ),
            Error::RawFrame => write!(f, "the frame is not compressed; copy its elements"),
            Error::Different { item } => {
                write!(f, "the device decodes item {item} to other bytes than the CPU; please report this")
            }
            Error::Length { expected, found } => {
                write!(f, "the memory on the device must have {expected} bytes, but has {found}")
            }
            Error::Alignment { item, address, alignment } => write!(
                f,
                "the elements of item {item} would begin at {address:#x}, which is no multiple of {alignment}"
            ),
            Error::OtherDevice { expected, found } => write!(
                f,
                "this belongs to device cuda:{found}, or another context of it, and cannot be used with \
                 cuda:{expected}"
            ),
            Error::TooMuch => write!(f, "a batch cannot have 2^32 blocks; make several batches"),
            Error::OtherKernel => {
                write!(f, "this is not decode.ptx of dfloat11 0.5.0; gpu/fetch_published.sh fetches that")
            }
            Error::Layer { layer, problem } => write!(f, "linear layer {layer}: {problem}"),
            Error::Capturing => {
                write!(f, "the stream is captured, and this would wait for it; end the capture first")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Invalid(error) => Some(error),
            _ => None,
        }
    }
}

impl From<df11::Error> for Error {
    fn from(error: df11::Error) -> Self {
        Error::Invalid(error)
    }
}

/// Makes the error of a call that has just failed on this thread.
fn refusal(action: &'static str, code: i32) -> Error {
    // The code that `cust` knows may stand in for a newer one.
    let (function, code) = match last_failure() {
        Some(failure) => (failure.function, failure.code),
        None => ("the driver", code),
    };
    if code == NO_DEVICE {
        return Error::no_driver();
    }
    let findings = df11_cuda_driver::findings();
    Error::Driver(Box::new(Refusal { action, function, code, log: None, findings }))
}

/// Adds the action to an error of `cust`.
pub(crate) fn driver<T>(action: &'static str, result: Result<T, CudaError>) -> Result<T, Error> {
    result.map_err(|code| match code {
        // `cust` refuses this itself, without a call to the driver.
        CudaError::InvalidMemoryAllocation => Error::Driver(Box::new(Refusal {
            action,
            function: "cust",
            code: 2,
            log: None,
            findings: Vec::new(),
        })),
        code => refusal(action, code as i32),
    })
}

/// Adds the action to the code of a driver function that is called directly.
pub(crate) fn call(action: &'static str, code: c_int) -> Result<(), Error> {
    if code == 0 { Ok(()) } else { Err(refusal(action, code)) }
}

#[cfg(test)]
mod tests {
    use super::{Error, Refusal};
    use crate::Emulation;

    #[test]
    fn codes_that_users_meet_come_with_what_to_do() {
        // The message depends on the driver; the other tests of this process want the emulator,
        // too.
        assert!(df11_cuda_driver::emulate(Emulation::default()));
        for (code, expected) in [
            (2, "free memory"),
            (46, "compute mode"),
            (209, "use the CPU"),
            (218, "update it"),
            (221, "libnvidia-ptxjitcompiler"),
            (222, "update it"),
            (302, "update it"),
            (716, "the context is lost"),
            (803, "restart"),
            (900, "captured"),
        ] {
            let (action, function) = ("load the kernels", "cuModuleLoadDataEx");
            let log = Some("ptxas says so".to_owned());
            let refusal = Refusal { action, function, code, log, findings: Vec::new() };
            let text = Error::Driver(Box::new(refusal)).to_string();
            let begins = format!("cannot load the kernels: cuModuleLoadDataEx says {code}, ");
            assert!(text.starts_with(&begins) && text.contains(expected), "{text}");
            assert!(text.ends_with("\nptxas says so"), "{text}");
        }
    }
}
