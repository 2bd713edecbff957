//! Encoding on a GPU: DF11 units and frames, byte for byte what the encoders of `df11` write.
//!
//! What is done is described once, as a list of [`Pass`]es over memory of a [`Machine`]: launches
//! of kernels, one after the other, with their arguments. Between the first, which counts, and the
//! others the host makes the code or the frequencies of 256 counts. Nothing else comes from the
//! machine but whether all went well, and of a frame its size and its directory, for which the host
//! makes the trailer. Elements must not change until all passes are done.
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

mod crc;
mod frame;
mod unit;

pub use frame::{EncodedFrame, frame, frame_of_blocks};
pub use unit::{EncodedUnit, Tiling, planned_unit, unit};

use crate::kernels::{DF11_ENCODE, Ptx, RANS_ENCODE};

/// Addresses of what kernels write are multiples of this many bytes, and there is room up to the
/// next one.
const ALIGNMENT: usize = 16;

/// The kernels of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kernels {
    /// Those that encode DF11 units.
    Df11,
    /// Those that encode frames.
    Rans,
}

impl Kernels {
    /// All of them.
    pub const ALL: [Kernels; 2] = [Kernels::Df11, Kernels::Rans];

    /// Their text for each generation of cards.
    #[must_use]
    pub const fn ptx(self) -> &'static [Ptx] {
        match self {
            Kernels::Df11 => &DF11_ENCODE,
            Kernels::Rans => &RANS_ENCODE,
        }
    }
}

/// A launch of a kernel with [`THREADS`](crate::kernels::THREADS) threads a thread block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Where the kernel is.
    pub kernels: Kernels,
    /// Its name.
    pub entry: &'static str,
    /// How many thread blocks have something to do. Any other number gives the same result.
    pub thread_blocks: u32,
    /// Addresses and numbers, one for each parameter. Parameters of fewer than 8 bytes take the low
    /// ones.
    pub arguments: Vec<u64>,
}

/// What has memory and runs kernels, one after the other.
pub trait Machine {
    /// What can go wrong; also that something cannot be encoded.
    type Error: From<df11::Error>;

    /// Memory of at least so many bytes, at a multiple of 16. What is in it is undefined.
    ///
    /// # Errors
    ///
    /// Most likely that there is not so much.
    fn allocate(&mut self, bytes: usize) -> Result<u64, Self::Error>;

    /// Gives memory back when all passes before are done.
    ///
    /// # Errors
    ///
    /// What the machine says.
    fn free(&mut self, address: u64) -> Result<(), Self::Error>;

    /// Copies bytes to memory before the passes after it.
    ///
    /// # Errors
    ///
    /// What the machine says.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Copies bytes from memory after the passes before it.
    ///
    /// # Errors
    ///
    /// What the machine says, also of these passes.
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Self::Error>;

    /// Runs a kernel after the passes before it.
    ///
    /// # Errors
    ///
    /// What the machine says.
    fn run(&mut self, pass: &Pass) -> Result<(), Self::Error>;

    /// Memory with these bytes in it.
    ///
    /// # Errors
    ///
    /// As [`allocate`](Self::allocate).
    fn upload(&mut self, bytes: &[u8]) -> Result<u64, Self::Error> {
        let address = self.allocate(bytes.len())?;
        self.write(address, bytes)?;
        Ok(address)
    }

    /// The bytes at an address.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    fn download(&mut self, address: u64, bytes: usize) -> Result<Vec<u8>, Self::Error> {
        let mut found = vec![0; bytes];
        self.read(address, &mut found)?;
        Ok(found)
    }
}

/// Elements of one tensor in the memory of a machine, at any address, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Where the first is.
    pub address: u64,
    /// How many there are.
    pub elements: usize,
}

/// Memory that is given back in the end, whatever happens.
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

    /// Leaves it to the caller to give this back.
    fn keep(&mut self, addresses: &[u64]) {
        self.held.retain(|held| !addresses.contains(held));
    }
}

/// Does something with memory that is given back afterwards.
fn with_scratch<M: Machine, T>(
    machine: &mut M,
    work: impl FnOnce(&mut Scratch<'_, M>) -> Result<T, M::Error>,
) -> Result<T, M::Error> {
    let mut scratch = Scratch { machine, held: Vec::new() };
    let result = work(&mut scratch);
    let Scratch { machine, held } = scratch;
    // What went wrong first is what matters.
    let freed = held.into_iter().map(|address| machine.free(address)).fold(Ok(()), Result::and);
    result.and_then(|value| freed.map(|()| value))
}

/// Numbers of 8 bytes.
fn u64s(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number))
}

/// Counts of 256 symbols.
fn counts(bytes: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    counts.iter_mut().zip(u64s(bytes)).for_each(|(count, found)| *count = found);
    counts
}
