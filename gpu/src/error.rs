//! What can go wrong between here and a card.

use std::fmt;

use cust::error::CudaError;
use df11_emulator::Finding;

/// Why something could not be done on a GPU.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is no CUDA driver, or no device.
    NoDriver,
    /// There is no device of this number.
    NoDevice {
        /// The number that was asked for.
        number: u32,
        /// How many there are.
        devices: u32,
    },
    /// The device is older than every kernel.
    TooOld {
        /// Its compute capability, such as 7 and 0.
        capability: (i32, i32),
    },
    /// The driver in this process works for an emulator already, or for a card.
    OtherBackend,
    /// The driver refused.
    Driver {
        /// What it was to do.
        action: &'static str,
        /// What it says.
        code: CudaError,
        /// What the emulator has found, if that is what runs.
        findings: Vec<Finding>,
    },
    /// What was to be uploaded is not valid.
    Invalid(df11_core::Error),
    /// A block of a frame is not valid, the kernel says.
    Block {
        /// Its number.
        block: usize,
        /// The clause of RANS.md that is broken.
        clause: &'static str,
    },
    /// A frame of codec raw has nothing to decode.
    RawFrame,
    /// A buffer has another length than what is decoded into it.
    Length {
        /// The bytes it must have.
        expected: usize,
        /// The bytes it has.
        found: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoDriver => {
                write!(
                    f,
                    "no CUDA driver or no device was found; install NVIDIA's driver, or use another device"
                )
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
            Error::Driver { action, code, findings } => {
                write!(f, "cannot {action}: {code}")?;
                match code {
                    CudaError::OutOfMemory => {
                        write!(f, "; free memory of the device, or decode less at once")?
                    }
                    CudaError::InvalidPtx | CudaError::InvalidSource => {
                        write!(f, "; the driver may be older than the kernels need: update it")?;
                    }
                    _ => {}
                }
                for finding in findings {
                    write!(f, "\n{finding}")?;
                }
                Ok(())
            }
            Error::Invalid(error) => write!(f, "{error}"),
            Error::Block { block, clause } => write!(f, "block {block} of the frame is not valid ({clause})"),
            Error::RawFrame => write!(f, "the frame is not compressed; copy its elements"),
            Error::Length { expected, found } => {
                write!(f, "the buffer on the device must have {expected} bytes, but has {found}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<df11_core::Error> for Error {
    fn from(error: df11_core::Error) -> Self {
        Error::Invalid(error)
    }
}

/// Says what the driver was to do, where it refuses.
pub(crate) fn driver<T>(action: &'static str, result: Result<T, CudaError>) -> Result<T, Error> {
    result.map_err(|code| match code {
        CudaError::NoDevice => Error::NoDriver,
        code => Error::Driver { action, code, findings: df11_cuda_driver::findings() },
    })
}
