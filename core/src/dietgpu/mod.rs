//! The archives of dietgpu, read and written on a CPU, as `spec/DIETGPU.md` describes them.
//!
//! Read from that program's sources; nothing here has been compared with what a GPU writes.
//!
//! ```
//! use df11::dietgpu::{self, Checksum, FloatArchive};
//! use df11::frame::ElementType;
//!
//! let weights: Vec<u8> = (0..10_000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
//! let bytes = dietgpu::encode_floats(ElementType::Bf16, &weights, 10, Checksum::Stated)?;
//! assert!(bytes.len() < weights.len());
//!
//! let archive = FloatArchive::new(&bytes)?;
//! let mut restored = vec![0; weights.len()];
//! archive.decode_into(&mut restored)?;
//! assert_eq!(restored, weights);
//! # Ok::<(), df11::Error>(())
//! ```

mod ans;
mod float;

use crate::Error;
use crate::frame::ElementType;
use crate::rans::{Frequencies, STATES_BYTES, WORD_BYTES};

pub use ans::Archive;
#[cfg(feature = "alloc")]
pub use ans::encode;
pub use float::FloatArchive;
#[cfg(feature = "alloc")]
pub use float::encode_floats;

/// Bytes of a block (G-2.1).
pub const BLOCK: usize = 4096;

/// The first four bytes of an ANS archive (G-2.2).
pub const MAGIC: u32 = 0xd00d_0001;

/// The first four bytes of a float archive (G-5.1).
pub const FLOAT_MAGIC: u32 = 0xf00f_0001;

/// The scale bits of dietgpu's Python module.
pub const SCALE_BITS: u8 = 10;

/// Scale bits of archives (G-2.4).
const SCALES: core::ops::RangeInclusive<u8> = 9..=11;

/// Offsets in an ANS archive.
const TABLE: usize = 32;
const STATES: usize = TABLE + 512;

/// Bytes of a float archive before its planes.
const FLOAT_HEADER: usize = 16;

/// The bit of the options that says that there is a checksum.
const HAS_CHECKSUM: u32 = 1 << 4;

/// A block's words are padded to this many.
const WORDS_ALIGNMENT: usize = 8;

/// Bytes of planes are padded to multiples of this.
const ALIGNMENT: usize = 16;

/// Blocks that are decoded together.
const MANY: usize = 4;

/// Whether an archive states the checksum of what it holds (G-4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It does not.
    Omitted,
    /// It does.
    Stated,
}

impl Checksum {
    #[cfg(feature = "alloc")]
    const fn is_stated(self) -> bool {
        matches!(self, Checksum::Stated)
    }
}

impl From<bool> for Checksum {
    fn from(is_stated: bool) -> Self {
        if is_stated { Checksum::Stated } else { Checksum::Omitted }
    }
}

fn field(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|field| u32::from_le_bytes(*field))
}

/// G-4.1
fn sum_of(bytes: &[u8]) -> u32 {
    u32::from(bytes.iter().fold(0, |sum, byte| sum ^ byte))
}

/// What the caller cannot ask for.
#[cfg(feature = "alloc")]
const fn wrong(argument: &'static str, value: usize) -> Error {
    Error::InvalidArgument { argument, value: value as u64 }
}

const fn bad(clause: &'static str, field: &'static str, value: u64) -> Error {
    Error::ArchiveField { clause, field, value }
}

fn compare(stated: Option<u32>, found: u32) -> Result<(), Error> {
    match stated {
        Some(expected) if expected != found => Err(Error::ArchiveChecksum { expected, found }),
        _ => Ok(()),
    }
}

/// Normalises counts as dietgpu's encoder does (G-3.1), for archives of the same bytes.
///
/// # Errors
///
/// [`Error::ScaleBits`] unless `scale_bits` is 9 to 11, [`Error::NoSymbols`] if all counts are 0.
///
/// ```
/// use df11::dietgpu;
///
/// let mut counts = [0; 256];
/// (counts[253], counts[254], counts[255]) = (1, 1, 1);
/// let frequencies = dietgpu::normalise(&counts, 10)?;
/// // What is missing to 1024 goes to byte 0, which does not occur.
/// assert_eq!([0, 253, 254, 255].map(|byte| frequencies.of(byte)), [1, 341, 341, 341]);
/// # Ok::<(), df11::Error>(())
/// ```
pub fn normalise(counts: &[u32; 256], scale_bits: u8) -> Result<Frequencies, Error> {
    if !SCALES.contains(&scale_bits) {
        return Err(Error::ScaleBits { bits: scale_bits });
    }
    let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    if total == 0 {
        return Err(Error::NoSymbols);
    }
    let slots = 1u32 << scale_bits;
    let share = |count: u32| (slots as f32 * (count as f32 / total as f32)) as u32;
    let mut frequencies = counts.map(|count| if count == 0 { 0 } else { share(count).max(1) });
    let mut missing = i64::from(slots) - frequencies.iter().map(|&f| i64::from(f)).sum::<i64>();
    let mut order: [u8; 256] = core::array::from_fn(|i| i as u8);
    order.sort_unstable_by_key(|&byte| core::cmp::Reverse((frequencies[usize::from(byte)], byte)));
    while missing > 0 {
        for frequency in frequencies.iter_mut().take(missing.min(256) as usize) {
            *frequency += 1;
            missing -= 1;
        }
    }
    while missing < 0 {
        let above = frequencies.iter().filter(|frequency| **frequency > 1).count();
        let first = above.saturating_sub(missing.unsigned_abs() as usize);
        for &byte in &order[first..above] {
            frequencies[usize::from(byte)] -= 1;
            missing += 1;
        }
    }
    Frequencies::new(&frequencies.map(|frequency| frequency as u16), scale_bits)
}

/// The most bytes that an archive takes: of floats of this type, or of bytes for
/// [`U8`](ElementType::U8). `None` if they cannot be counted, or there are no such archives.
///
/// ```
/// use df11::dietgpu;
/// use df11::frame::ElementType;
///
/// let floats = vec![0x3c; 2 * 10_000];
/// let bound = dietgpu::bound(ElementType::F16, 10_000).ok_or("too many")?;
/// assert!(dietgpu::encode_floats(ElementType::F16, &floats, 10, dietgpu::Checksum::Stated)?.len() <= bound);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn bound(element_type: ElementType, elements: usize) -> Option<usize> {
    let len = u32::try_from(elements).ok()?;
    let raw = match element_type {
        ElementType::U8 => 0,
        ElementType::F16 | ElementType::Bf16 | ElementType::F32 => {
            FLOAT_HEADER as u64 + float::raw_len(element_type, u64::from(len))
        }
        _ => return None,
    };
    // States, directory and padding of a block; its words are at most as many as its symbols.
    let each = STATES_BYTES + 8 + WORD_BYTES * WORDS_ALIGNMENT;
    let words = WORD_BYTES as u64 * u64::from(len);
    let blocks = u64::from(len).div_ceil(BLOCK as u64) * each as u64;
    usize::try_from(raw + STATES as u64 + 8 + blocks + words).ok()
}
