//! Decodes and encodes DF11 units and frames on GPUs, launched through `cust`.
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
//! An engine loads once and decodes often. When it loads, it uploads [units](Unit) and
//! [frames](Frame) to the device, or adopts those that are there already, at any addresses
//! ([`Gpu::adopt`], [`Gpu::adopt_frame`]). It then makes a [`Batch`] of those that are decoded
//! together, such as those of a transformer block. [`Batch::enqueue`] only launches kernels on the
//! engine's own stream: it does not allocate, copy or wait. It can therefore be captured in a CUDA
//! graph, and run on a second stream while the first computes: `examples/overlap.rs`. Current
//! contexts stay current, and any thread may use anything here.
//!
//! Kernels record faulty blocks on the device, and [`Batch::statuses`] reads the records. They do
//! not compare the checksums of frames' coded bytes, which F-5.4 of FRAME.md demands.
//! [`Batch::compare_checksums`] does that on the host, after downloading the decoded elements.
//!
//! # Deltas
//!
//! A server that holds weights applies a training step in place: it uploads [deltas](Delta), which
//! are a small part of the weights, and makes an [`Update`] of them. [`Update::enqueue`] compares
//! the checksums of all bases on the device, applies the deltas over them, and compares those of
//! the results. A wrong base is refused before anything is changed.
//!
//! # Encoding
//!
//! [`Gpu::encode_unit`] and [`Gpu::encode_frame`] give, byte for byte, what the encoders of `df11`
//! do. The data to encode may be on the device already. [`encode`] describes the method.
//!
//! # The kernels
//!
//! The kernels are in `gpu/kernels`, as PTX for four generations of cards in [`kernels`]. Drivers
//! compile this PTX for their card. `df11-emulator` runs the kernels instruction by instruction in
//! every test run. `docs/gpu.md` lists the cards that they have run on, and their speed.
//!
//! Without CUDA, everything here compiles, links and runs, and returns [`Error::NoDriver`]. Devices
//! exist only on Linux. `df11-gpu-lab` runs the kernels in the emulator without a driver, on all
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
mod crc;
pub mod delta;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod device;
pub mod encode;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod encoder;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod error;
pub mod gemv;
pub mod kernels;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod linear;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod load;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod memory;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod stream;
pub mod table;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod units;
#[cfg(all(target_os = "linux", feature = "driver"))]
mod update;

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
pub use delta::DeltaFault;
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use device::{DeviceInfo, Gpu, devices};
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use error::{Error, ErrorKind, Refusal};
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use linear::{Layer, Linear, Matrix};
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use load::Cubin;
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use memory::Memory;
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use stream::{Event, Stream};
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use units::{Frame, RawUnit, Unit};
#[cfg(all(target_os = "linux", feature = "driver"))]
pub use update::{Delta, Update};

/// The place where to decode: `cpu`, `cuda:0` (or another number), `emulated`.
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
    /// The CPU of this machine.
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
