//! Encodes DF11 units and frames on a GPU, byte for byte as the encoders of `df11` do.
//!
//! An encoding is described once, as a list of [`Pass`]es over memory of a [`Machine`]: launches of
//! kernels with their arguments, one after the other. The first pass counts. From the 256 counts,
//! the host makes the code or the frequencies for the other passes. The machine returns nothing
//! else except whether all went well and, for a frame, its size and its directory, for which the
//! host makes the trailer. Elements must not change until all passes are done.
//!
//! A [`Gpu`](crate::Gpu) has such a machine; `df11-gpu-lab` has one that needs no card:
//!
//! ```
//! use df11::EncodeOptions;
//! use df11_gpu::encode::{Machine, Tensor, unit};
//! use df11_gpu_lab::machine::Emulated;
//!
//! let weights: Vec<u8> = (0..5000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
//! let mut machine = Emulated::new(90, Default::default())?;
//! let address = machine.upload(&weights)?;
//! let unit = unit(&mut machine, &[Tensor { address, elements: 5000 }], &EncodeOptions::default())?;
//! assert_eq!(unit.download(&mut machine)?, df11::encode(&weights)?);
//! assert!(machine.findings().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod frame;
mod unit;

pub use frame::{EncodedFrame, frame, frame_of_blocks};
pub use unit::{EncodedUnit, Tiling, planned_unit, unit};

use crate::kernels::{DF11_ENCODE, Ptx, RANS_ENCODE};

/// Addresses that kernels write to are multiples of this number of bytes, and there is room up to
/// the next multiple.
const ALIGNMENT: usize = 16;

/// The kernels of one source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kernels {
    /// The kernels that encode DF11 units.
    Df11,
    /// The kernels that encode frames.
    Rans,
}

impl Kernels {
    /// Both sets of kernels.
    pub const ALL: [Kernels; 2] = [Kernels::Df11, Kernels::Rans];

    /// Returns their PTX for each generation of cards.
    #[must_use]
    pub const fn ptx(self) -> &'static [Ptx] {
        match self {
            Kernels::Df11 => &DF11_ENCODE,
            Kernels::Rans => &RANS_ENCODE,
        }
    }
}

/// A launch of a kernel with [`THREADS`](crate::kernels::THREADS) threads in each thread block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The source file of the kernel.
    pub kernels: Kernels,
    /// The kernel's name.
    pub entry: &'static str,
    /// The number of thread blocks that have work to do. Any other number gives the same result.
    pub thread_blocks: u32,
    /// Addresses and numbers, one for each parameter. A parameter of fewer than 8 bytes takes the
    /// low ones.
    pub arguments: Vec<u64>,
}

/// A device or emulator that has memory and runs kernels, one after the other.
pub trait Machine {
    /// The error type. It also covers data that cannot be encoded.
    type Error: From<df11::Error>;

    /// Allocates at least this many bytes, at a multiple of 16. Their content is undefined.
    ///
    /// # Errors
    ///
    /// An error, most likely because the machine lacks this much memory.
    fn allocate(&mut self, bytes: usize) -> Result<u64, Self::Error>;

    /// Frees memory once all earlier passes are done.
    ///
    /// # Errors
    ///
    /// The error of the machine.
    fn free(&mut self, address: u64) -> Result<(), Self::Error>;

    /// Copies bytes to memory, before all later passes.
    ///
    /// # Errors
    ///
    /// The error of the machine.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Copies bytes from memory, after all earlier passes.
    ///
    /// # Errors
    ///
    /// The error of the machine, including that of an earlier pass.
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Self::Error>;

    /// Runs a kernel after all earlier passes.
    ///
    /// # Errors
    ///
    /// The error of the machine.
    fn run(&mut self, pass: &Pass) -> Result<(), Self::Error>;

    /// Allocates memory that holds these bytes.
    ///
    /// # Errors
    ///
    /// The errors of [`allocate`](Self::allocate).
    fn upload(&mut self, bytes: &[u8]) -> Result<u64, Self::Error> {
        let address = self.allocate(bytes.len())?;
        self.write(address, bytes)?;
        Ok(address)
    }

    /// Returns the bytes at an address.
    ///
    /// # Errors
    ///
    /// The errors of [`read`](Self::read).
    fn download(&mut self, address: u64, bytes: usize) -> Result<Vec<u8>, Self::Error> {
        let mut found = vec![0; bytes];
        self.read(address, &mut found)?;
        Ok(found)
    }
}

/// The elements of one tensor in the memory of a machine, at any address, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// The address of the first element.
    pub address: u64,
    /// The number of elements.
    pub elements: usize,
}

/// Memory that is freed in the end, whatever happens.
struct Scratch<'m, M: Machine> {
    machine: &'m mut M,
    held: Vec<u64>,
}

impl<M: Machine> Scratch<'_, M> {
    fn allocate(&mut self, bytes: usize) -> Result<u64, M::Error> {
        let address = self.machine.allocate(bytes.next_multiple_of(ALIGNMENT).max(ALIGNMENT))?;
        self.held.push(address);
        Ok(address)
    }

    fn upload(&mut self, bytes: &[u8]) -> Result<u64, M::Error> {
        let address = self.allocate(bytes.len())?;
        self.machine.write(address, bytes)?;
        Ok(address)
    }

    /// Leaves it to the caller to free these addresses.
    fn keep(&mut self, addresses: &[u64]) {
        self.held.retain(|held| !addresses.contains(held));
    }
}

/// Runs `work` with memory that is freed afterwards.
fn with_scratch<M: Machine, T>(
    machine: &mut M,
    work: impl FnOnce(&mut Scratch<'_, M>) -> Result<T, M::Error>,
) -> Result<T, M::Error> {
    let mut scratch = Scratch { machine, held: Vec::new() };
    let result = work(&mut scratch);
    let Scratch { machine, held } = scratch;
    // The first error is the one that matters.
    let freed = held.into_iter().map(|address| machine.free(address)).fold(Ok(()), Result::and);
    result.and_then(|value| freed.map(|()| value))
}

/// Reads numbers of 8 bytes.
fn u64s(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number))
}

/// Reads the counts of 256 symbols.
fn counts(bytes: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    counts.iter_mut().zip(u64s(bytes)).for_each(|(count, found)| *count = found);
    counts
}
