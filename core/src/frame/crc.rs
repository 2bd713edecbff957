//! The checksum of frames.

// Also where tests compare it with the library.
#[cfg(any(test, not(any(feature = "alloc", target_arch = "x86_64", target_arch = "aarch64"))))]
mod portable;

#[cfg(any(feature = "alloc", target_arch = "x86_64", target_arch = "aarch64"))]
use crc32fast::Hasher;

/// CRC-32, continued from `seed` (F-8.1): what the parts of a frame are checked by, and its digest.
///
/// ```
/// use df11::hazmat::frame::crc;
///
/// assert_eq!(crc(0, b"123456789"), 0xcbf4_3926);
/// assert_eq!(crc(crc(0, b"1234"), b"56789"), 0xcbf4_3926);
/// ```
#[must_use]
pub fn crc(seed: u32, bytes: &[u8]) -> u32 {
    #[cfg(any(feature = "alloc", target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let mut hasher = Hasher::new_with_initial(seed);
        hasher.update(bytes);
        hasher.finalize()
    }
    #[cfg(not(any(feature = "alloc", target_arch = "x86_64", target_arch = "aarch64")))]
    portable::crc(seed, bytes)
}

/// The digest of elements whose parts have these checksums and lengths in bytes, one after the
/// other.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, Default)]
pub(crate) struct Digest(Hasher);

#[cfg(feature = "alloc")]
impl Digest {
    pub(crate) fn append(&mut self, crc: u32, bytes: usize) {
        self.0.combine(&Hasher::new_with_initial_len(crc, bytes as u64));
    }

    pub(crate) fn finish(self) -> u32 {
        self.0.finalize()
    }
}
