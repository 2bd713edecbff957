//! rANS of htscodecs, the library behind CRAM files.

#![expect(unsafe_code, reason = "calls C")]

use std::ffi::{CStr, c_char, c_int, c_uint};

use std::time::{Duration, Instant};

use df11::bf16;

use crate::Result;
use crate::codec::{ByteCodec, Codec, OnExponents};

// From `htscodecs/htscodecs.h` and `htscodecs/rANS_static4x16.h`.
#[link(name = "htscodecs")]
unsafe extern "C" {
    fn htscodecs_version() -> *const c_char;
    fn rans_set_cpu(functions: c_int);
    fn rans_compress_bound_4x16(size: c_uint, order: c_int) -> c_uint;
    fn rans_compress_to_4x16(
        input: *const u8,
        input_size: c_uint,
        output: *mut u8,
        output_size: *mut c_uint,
        order: c_int,
    ) -> *mut u8;
    fn rans_uncompress_to_4x16(
        input: *const u8,
        input_size: c_uint,
        output: *mut u8,
        output_size: *mut c_uint,
    ) -> *mut u8;
}

/// `RANS_ORDER_X32`, order 0: 32 states, each symbol coded by its own frequency.
const ORDER_0_X32: c_int = 0x04;

/// Returns the version of the library.
pub(crate) fn version() -> String {
    // SAFETY: the function takes nothing and returns a constant string that ends with a zero.
    unsafe { CStr::from_ptr(htscodecs_version()) }.to_string_lossy().into_owned()
}

/// The sets of functions that the library may choose from, in the form of `rans_set_cpu`: all, and
/// all but those for AVX-512. The library prefers AVX-512, although it is slower on some CPUs.
const CHOICES: [c_int; 2] = [0xffff, 0xffff & !(4 | 4 << 8)];

/// rANS Nx16 with 32 states, order 0.
pub(crate) struct Rans {
    compressing: c_int,
    decompressing: c_int,
}

impl Rans {
    /// Makes the codec with the functions that are fastest on these weights here.
    pub(crate) fn fastest(weights: &[u8]) -> Result<Self> {
        let sample = &weights[..weights.len().min(16 * bf16::BYTES * Self::BLOCK)];
        let mut restored = vec![1; sample.len()];
        let mut fastest = Rans { compressing: CHOICES[0], decompressing: CHOICES[0] };
        let (mut least_encode, mut least_decode) = (Duration::MAX, Duration::MAX);
        for choice in CHOICES.into_iter().cycle().take(5 * CHOICES.len()) {
            let mut codec =
                OnExponents::new(Rans { compressing: choice, decompressing: choice }, sample.len());
            let start = Instant::now();
            codec.encode(sample)?;
            let encode = start.elapsed();
            let start = Instant::now();
            codec.decode(&mut restored)?;
            let decode = start.elapsed();
            if encode < least_encode {
                (least_encode, fastest.compressing) = (encode, choice);
            }
            if decode < least_decode {
                (least_decode, fastest.decompressing) = (decode, choice);
            }
        }
        Ok(fastest)
    }
}

impl ByteCodec for Rans {
    const BLOCK: usize = 512 << 10; // the fastest of 128, 256 and 512 KiB, by a little

    fn bound(&self) -> usize {
        // SAFETY: the function only computes a number from numbers.
        unsafe { rans_compress_bound_4x16(Self::BLOCK as c_uint, ORDER_0_X32) as usize }
    }

    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<usize> {
        let mut size = c_uint::try_from(out.len()).unwrap_or(c_uint::MAX);
        // SAFETY: the first call stores a number that says which functions not to use. In the
        // second call, every pointer is passed with a size that is at most that of its memory. The
        // input is only read, though the header lacks the `const`.
        let written = unsafe {
            rans_set_cpu(self.compressing);
            rans_compress_to_4x16(
                block.as_ptr(),
                c_uint::try_from(block.len())?,
                out.as_mut_ptr(),
                &mut size,
                ORDER_0_X32,
            )
        };
        if written.is_null() { Err("htscodecs could not compress a block".into()) } else { Ok(size as usize) }
    }

    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<()> {
        let mut size = c_uint::try_from(block.len())?;
        // SAFETY: every pointer is passed with a size that is at most that of its memory, as in
        // `compress`. The function fails if the block is longer than `size`.
        let written = unsafe {
            rans_set_cpu(self.decompressing);
            rans_uncompress_to_4x16(
                compressed.as_ptr(),
                c_uint::try_from(compressed.len())?,
                block.as_mut_ptr(),
                &mut size,
            )
        };
        if written.is_null() || size as usize != block.len() {
            return Err("htscodecs could not restore a block".into());
        }
        Ok(())
    }
}
