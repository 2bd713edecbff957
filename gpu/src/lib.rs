//! Decoding of DF11 units and of frames on GPUs, launched through `cust`.
//!
//! ```
//! # #[cfg(target_os = "linux")] {
//! use df11_core::df11::{Options, encode};
//! use df11_gpu::{Emulation, Gpu};
//!
//! let weights: Vec<u8> = (0..5000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
//! let unit = encode(&[&weights], &Options::default())?;
//!
//! // On a machine with a card: `Gpu::open(0)`.
//! let gpu = Gpu::emulated(Emulation::default())?;
//! let uploaded = gpu.upload(&unit.tensors())?;
//! assert_eq!(gpu.decode_to_host(&uploaded)?, weights);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The kernels are in `gpu/kernels`, as PTX for four generations of cards in [`kernels`]; drivers compile that for the card
//! they find. They have been run instruction by instruction by `df11-emulator`, and by nothing else: **no kernel of this crate has
//! run on a card yet, and nothing is known about its speed there.**
//!
//! Without CUDA, everything here compiles, links and runs, and says [`Error::NoDriver`]. Devices are for Linux alone; [`emulate`] and
//! [`report`], which run kernels in the emulator without a driver, are for all systems.

#[cfg(target_os = "linux")]
mod device;
pub mod emulate;
#[cfg(target_os = "linux")]
mod error;
pub mod kernels;
pub mod report;
pub mod table;
#[cfg(target_os = "linux")]
mod units;

use std::fmt;
use std::str::FromStr;

#[cfg(target_os = "linux")]
pub use cust;
#[cfg(target_os = "linux")]
pub use df11_cuda_driver::{Backend, Emulation, backend};

#[cfg(target_os = "linux")]
pub use device::{DeviceInfo, Gpu, devices};
#[cfg(target_os = "linux")]
pub use error::Error;
#[cfg(target_os = "linux")]
pub use units::{DeviceFrame, DeviceUnit};

/// Where to decode: `cpu`, `cuda:0` (or another number), `emulated`.
///
/// ```
/// use df11_gpu::Target;
///
/// assert_eq!("cuda:1".parse(), Ok(Target::Cuda(1)));
/// assert_eq!(Target::Emulated.to_string(), "emulated");
/// assert!("gpu".parse::<Target>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// This machine's processor.
    #[default]
    Cpu,
    /// A CUDA device, by its number.
    Cuda(u32),
    /// The emulator.
    Emulated,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Target::Cpu),
            "emulated" => Ok(Target::Emulated),
            _ => {
                let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                number.map(Target::Cuda).ok_or_else(|| "one of cpu, cuda:N, emulated".to_owned())
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Cpu => write!(f, "cpu"),
            Target::Cuda(number) => write!(f, "cuda:{number}"),
            Target::Emulated => write!(f, "emulated"),
        }
    }
}
