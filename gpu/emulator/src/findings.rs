//! What is wrong with a kernel.

use std::fmt;

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// A read outside of every allocation, or of shared memory.
    ReadOutOfBounds,
    /// A write outside of every allocation, or of shared memory.
    WriteOutOfBounds,
    /// An address that is no multiple of the size of the access.
    Misaligned,
    /// A read of bytes that nobody has written.
    UndefinedRead,
    /// A register that was used before anything was in it.
    UndefinedRegister,
    /// Two threads of different warps at the same bytes, one of them writing, and no barrier
    /// between them.
    Race,
    /// The same between two lanes of a warp.
    RaceInWarp,
    /// A barrier that some threads of the thread block do not come to, or at different places.
    BarrierDivergence,
    /// An instruction that synchronises lanes which do not all come to it.
    WarpDivergence,
    /// More steps than were allowed: a loop without end.
    StepLimit,
    /// The kernel gave up by itself.
    Trap,
}

/// A fault, and where it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of fault it is.
    pub kind: Kind,
    /// The kernel.
    pub kernel: String,
    /// The line of PTX, from 1 on.
    pub line: usize,
    /// The line of the source and its file, where the PTX says so.
    pub source: Option<(u32, u32)>,
    /// The thread block.
    pub block: [u32; 3],
    /// The warp in the thread block.
    pub warp: u32,
    /// The lane in the warp.
    pub lane: u32,
    /// The address, if it is about memory: that of a buffer and an offset, or an offset in shared
    /// memory.
    pub address: Option<u64>,
    /// More about it.
    pub detail: String,
    /// How often it was seen on this line.
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
