//! Faults of kernels.

use std::fmt;

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// A read outside every allocation, or outside shared memory.
    ReadOutOfBounds,
    /// A write outside every allocation, or outside shared memory.
    WriteOutOfBounds,
    /// An address that is not a multiple of the size of the access.
    Misaligned,
    /// A read of bytes that have never been written.
    UndefinedRead,
    /// A use of a register that has no value yet.
    UndefinedRegister,
    /// Two threads of different warps accessed the same bytes, at least one of them wrote, and no
    /// barrier lies between the accesses.
    Race,
    /// Two lanes of one warp accessed the same bytes, at least one of them wrote, and nothing
    /// orders the accesses.
    RaceInWarp,
    /// Barrier divergence: some threads of the thread block exit or wait at another barrier.
    BarrierDivergence,
    /// An instruction that synchronises lanes was not reached by all of these lanes.
    WarpDivergence,
    /// The limit of steps was exceeded, so the loop probably never ends.
    StepLimit,
    /// The kernel executed a trap.
    Trap,
}

/// A fault, and where it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The kind of the fault.
    pub kind: Kind,
    /// The name of the kernel.
    pub kernel: String,
    /// The line of PTX, from 1 on.
    pub line: usize,
    /// The source file and its line, where the PTX records them.
    pub source: Option<(u32, u32)>,
    /// The thread block.
    pub block: [u32; 3],
    /// The warp in the thread block.
    pub warp: u32,
    /// The lane in the warp.
    pub lane: u32,
    /// The address, if the fault is one of memory: a buffer with an offset, or an offset in shared
    /// memory.
    pub address: Option<u64>,
    /// Details of the fault.
    pub detail: String,
    /// The number of times that it was seen on this line.
    pub times: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { kind, kernel, line, block: [x, y, z], warp, lane, detail, times, .. } = self;
        write!(f, "{kind:?}: {kernel}, PTX line {line}, block ({x}, {y}, {z}), warp {warp}, lane {lane}")?;
        if let Some(address) = self.address {
            write!(f, ", address {address:#x}")?;
        }
        write!(f, ": {detail}")?;
        if *times > 1 { write!(f, " ({times} times)") } else { Ok(()) }
    }
}
