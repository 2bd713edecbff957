//! Decoding and encoding of DF11 units and of frames on GPUs, launched through `cust`.
//!
//! ```
//! # #[cfg(all(target_os = "linux", feature = "emulator"))] {
//! use df11::encode;
//! use df11_gpu::{Emulation, Gpu, Item};
//!
//! let weights: Vec<u8> = (0..5000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
//! let unit = encode(&weights)?;
//!
//! // On a machine with a card: `Gpu::open(0)`.
//! let gpu = Gpu::emulated(Emulation::default())?;
//! let uploaded = gpu.upload(&unit.as_slices())?;
//! assert_eq!(gpu.decode_to_host(Item::Unit(&uploaded))?, weights);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # For engines
//!
//! An engine loads once and decodes often. When it loads, it brings [units](Unit) and
//! [frames](Frame) to the device, or says where they are already, at whatever addresses
//! ([`Gpu::adopt`], [`Gpu::adopt_frame`]), and makes a [`Batch`] of those that are decoded
//! together, such as those of a transformer block. [`Batch::enqueue`] then launches kernels on the
//! engine's own stream and does nothing else: no allocation, no copy, no waiting. So it can be
//! captured in a CUDA graph, and run on a second stream while the first computes:
//! `examples/overlap.rs`. Contexts that are current stay so; any thread may use anything here.
//!
//! Kernels write what they find wrong with a block to the device, where [`Batch::statuses`] reads
//! it. They do not compare the checksums of frames' coded bytes, as F-5.4 of FRAME.md wants:
//! [`Batch::compare_checksums`] does that on the host, after downloading what was decoded, when it
//! is called.
//!
//! # Encoding
//!
//! [`Gpu::encode_unit`] and [`Gpu::encode_frame`] give, byte for byte, what the encoders of
//! `df11` do. What is to be encoded may be on the device already. [`encode`] says how.
//!
//! # The kernels
//!
//! The kernels are in `gpu/kernels`, as PTX for four generations of cards in [`kernels`]; drivers
//! compile that for the card they find. `df11-emulator` runs them instruction by instruction in
//! every test run; which cards they have run on, and how fast, `docs/gpu.md` says.
//!
//! Without CUDA, everything here compiles, links and runs, and says [`Error::NoDriver`]. Devices
//! are for Linux alone. `df11-gpu-lab` runs the kernels in the emulator without a driver, on all
//! systems.
//!
//! # Features
//!
//! * `driver` (default): devices.
//! * `emulator`: `Gpu::emulated`, a device that is an emulator behind the driver's functions, for
//!   tests.

#[cfg(all(target_os = "linux", feature = "driver"))]
mod batch;
#[cfg(all(target_os = "linux", feature = "driver"))]
pub mod bench;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod context;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod device;
pub mod encode;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod encoder;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod error;
pub mod kernels;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod load;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod memory;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod stream;
pub mod table;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod units;

use std::fmt;
use std::str::FromStr;

#[cfg(all(target_os = "linux", feature = "driver"))]
pub use cust;
#[cfg(all(target_os = "linux", feature = "emulator"))]
pub use df11_cuda_driver::Emulation;
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use df11_cuda_driver::{Backend, backend, why_none as why_no_driver};

#[cfg(all(target_os = "linux", feature = "driver"))]
pub use batch::{Batch, Fault, Item};
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use device::{DeviceInfo, Gpu, devices};
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use error::{Error, Refusal};
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use load::Cubin;
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use memory::Memory;
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use stream::{Event, Stream};
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use units::{Frame, RawUnit, Unit};

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
