//! The instruction sets that the codec uses, and the only code in it that needs `unsafe` for speed.
//!
//! A value of a token type ([`Scalar`] or, depending on the architecture, `x86::Avx2`,
//! `x86::Avx512` or `neon::Neon`) proves that its instructions exist: it can only be obtained by
//! detection. [`Level`] is any of these tokens. Code that is generic over [`Simd`] is compiled once
//! for each token, and [`Level::dispatch`] runs the right copy. Most of the codec therefore stays
//! free of `unsafe`, but is compiled to the instructions of the CPU.
//!
//! What remains unsafe is listed here, with the safe form that it was measured against
//! (`docs/performance.md` has the figures):
//!
//! * [`lanes`]: the decoding loop over several blocks at once. Its bounds are checked once for some
//!   thousand symbols.
//! * [`Writer`]: stores that go around the caches.
//! * Loads, stores and gathers of vectors: groups of codewords ([`Simd::code_group`]), steps of
//!   rANS ([`rans`]), counting ([`Simd::count_exponents`]).
//!
//! # Forcing a level
//!
//! `RUSTFLAGS='--cfg df11_level="scalar"'` (or `"avx2"`) limits [`Level::best`] to this level. It
//! is a `cfg`, not a feature, because all crates of a build share features. Within a program,
//! [`Level::all`] lists the levels of the machine, and every function of `df11` that depends on a
//! level accepts one.
//!
//! # For whom this is
//!
//! This crate serves `df11`, which is the stable interface. It may change with any of its versions.
//!
//! ```
//! use df11_simd::Level;
//!
//! // The best level of this machine, and everything below it.
//! assert!(Level::all().any(|level| level == Level::best()));
//! ```
//!
//! With the feature `std`, CPU features are detected at run time. Without it, only features enabled
//! at compile time (`-C target-feature`) are used.

#![no_std]

#[cfg(feature = "std")]
extern crate std;

pub mod delta;
pub mod dictionary;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod eight;
mod group;
pub mod lanes;
pub mod rans;
mod scalar;
mod table;
mod writer;

#[cfg(target_arch = "aarch64")]
pub mod neon;
#[cfg(target_arch = "x86_64")]
pub mod x86;

pub use group::{CodeTable, Ends, GROUP, GROUP_WINDOWS, Group, LengthTable};
use rans::{DecodeTables, EncodeTables, Stream, Writing};
pub use scalar::Scalar;
pub use table::{Codeword, TABLE_BITS, Table};
pub use writer::{Write, Writer};

/// Weights whose exponents are counted together: [`Simd::count_exponents`].
pub const COUNTED: usize = 256;

mod sealed {
    pub trait Sealed {}
}

/// A token that proves that its instructions exist.
pub trait Simd: sealed::Sealed + Copy {
    /// Runs an operation, compiled for these instructions.
    fn run<O: Operation>(self, operation: O) -> O::Output;

    /// [`TABLE_BITS`] bits of `word`, the lowest of them at bit `state & 63`. Bits 8 to 15 of
    /// `state` must hold [`TABLE_BITS`], and its low byte at most 63, which lets one instruction of
    /// some machines do it.
    #[inline(always)]
    fn window(self, word: u64, state: u32) -> usize {
        (word >> (state & 63)) as usize & ((1 << TABLE_BITS) - 1)
    }

    /// The exponents of four BF16 weights, a byte each, in the same order.
    #[inline(always)]
    fn four_exponents(self, weights: u64) -> u32 {
        // Each in the low byte of 16 bits, then pairs in the low 16 bits of 32.
        let apart = weights >> 7 & 0x00ff_00ff_00ff_00ff;
        let pairs = apart | apart >> 8;
        (pairs & 0xffff | pairs >> 16 & 0xffff_0000) as u32
    }

    /// The exponents of four BF16 weights below 128, two in each index, the first in its low 7
    /// bits.
    #[inline(always)]
    fn two_pairs(self, weights: u64) -> [usize; 2] {
        let apart = weights >> 7 & 0x007f_007f_007f_007f;
        let pairs = apart | apart >> 9;
        [pairs as usize & 0x3fff, (pairs >> 32) as usize & 0x3fff]
    }

    /// Whether [`count_exponents`](Self::count_exponents) counts.
    const COUNTS: bool = false;

    /// Counts the exponents of BF16 weights, fast where nearly all of them are among the 16 from
    /// `first` on, which is at most 240; adds to the frequencies.
    #[inline(always)]
    fn count_exponents(self, _weights: &[[[u8; 2]; COUNTED]], _first: u8, _frequencies: &mut [u64; 256]) {}

    /// Whether this level codes groups. If not, [`code_group`](Self::code_group) and
    /// [`ends`](Self::ends) return nothing, and the compiler removes their callers' fast paths.
    const GROUPS: bool = false;

    /// The codewords of the exponents of 64 BF16 weights, if they are all in the table, and those
    /// of eight weights each take less than 64 bits. The first begins at bit `used` of a window, at
    /// most 63. Signs and mantissas are split off on the way.
    #[inline(always)]
    fn code_group(
        self,
        _table: &CodeTable,
        _weights: &[[u8; 2]; GROUP],
        _sign_mantissas: &mut [u8; GROUP],
        _used: u32,
    ) -> Option<Group> {
        None
    }

    /// Where the codewords of 64 symbols end, by their lengths, at most 32 each, if they cross into
    /// at most [`GROUP_WINDOWS`] windows. The first begins at bit `used` of a window, at most 63.
    #[inline(always)]
    fn ends(self, _lengths: &LengthTable, _symbols: &[u8; GROUP], _used: u32) -> Option<Ends> {
        None
    }

    /// Whether [`decode_rans`](Self::decode_rans) and [`encode_rans`](Self::encode_rans) do
    /// anything.
    const RANS: bool = false;

    /// Encodes the same number of steps of each block, and returns this number. It stops where a
    /// block has no step left, a symbol without a frequency, or room for less than 32 words. The
    /// caller encodes these steps.
    ///
    /// If a state is outside 2^15..2^31, the output is unspecified (but never out of bounds).
    #[inline(always)]
    fn encode_rans<const N: usize>(self, _tables: EncodeTables<'_>, _blocks: &mut [Writing<'_>; N]) -> usize {
        0
    }

    /// Decodes the same number of steps of each block, and returns this number. It stops where a
    /// block has no step left, or may run out of words. The caller decodes these steps.
    ///
    /// If a state is outside 2^15..2^31, the symbols are unspecified (but never out of bounds).
    #[inline(always)]
    fn decode_rans<const N: usize>(self, _tables: DecodeTables<'_>, _streams: &mut [Stream<'_>; N]) -> usize {
        0
    }

    /// Decodes the same number of steps of each block, the last that there are, and returns this
    /// number. It stops before a step for which a block has not enough words. The caller decodes
    /// the others.
    ///
    /// If a state is outside 2^15..2^31, the symbols are unspecified (but never out of bounds).
    #[inline(always)]
    fn decode_contexts<const N: usize>(
        self,
        _slots: &delta::Slots,
        _streams: &mut [delta::Reading<'_>; N],
        _steps: &mut [delta::Steps<'_>; N],
    ) -> usize {
        0
    }

    /// Encodes the first steps, and returns how many. It stops before a symbol without a frequency,
    /// and where there is room for less than 48 words.
    #[inline(always)]
    fn encode_contexts(
        self,
        _entries: &delta::Entries,
        _block: &mut delta::Appending<'_>,
        _contexts: &[[u8; rans::LANES]],
        _symbols: &[[u8; rans::LANES]],
    ) -> usize {
        0
    }

    /// Decodes groups of codes, as long as their symbols and [`dictionary::ROOM`] bytes begin
    /// within the room, and none begins after symbol `len`; returns how many groups, and where
    /// their symbols end. What follows those may be overwritten.
    #[inline(always)]
    fn decode_dictionary<const N: usize, const W: usize>(
        self,
        entries: &[dictionary::Entry; N],
        groups: &[[u8; W]],
        symbols: &mut [u8],
        len: usize,
    ) -> (usize, usize) {
        dictionary::decode(entries, groups, symbols, len)
    }

    /// Merges 64 exponents with 64 signs and mantissas to weights, past the caches if `STREAM` is
    /// true and the machine can.
    ///
    /// # Safety
    ///
    /// `exponents` and `sign_mantissas` must be valid for reads of 64 bytes each, and `weights` for
    /// writes of 128 bytes. If `STREAM` is true, `weights` must be aligned to 64 bytes, and
    /// [`fence`](Self::fence) must be called before any other thread reads them.
    unsafe fn merge_64<const STREAM: bool>(
        self,
        exponents: *const u8,
        sign_mantissas: *const u8,
        weights: *mut u8,
    );

    /// Makes what was stored past the caches visible.
    #[inline(always)]
    fn fence(self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every x86-64 processor has it.
        unsafe {
            core::arch::x86_64::_mm_sfence();
        }
    }

    /// Prefetches the cache line at `at`, which need not be valid memory.
    #[inline(always)]
    fn prefetch(self, _at: *const u8) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch of any address does nothing that a program could see.
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(_at.cast());
        }
    }

    /// Prefetches the cache lines of these bytes into the second-level cache.
    #[inline(always)]
    fn prefetch_far(self, _bytes: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        for line in _bytes.chunks(64) {
            // SAFETY: a prefetch of any address does nothing that a program could see.
            unsafe {
                core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T1 }>(line.as_ptr().cast());
            }
        }
    }
}

/// Work that is compiled for every level.
pub trait Operation {
    /// What it gives back.
    type Output;

    /// Does the work; should be `#[inline(always)]`, so that it is compiled for the instructions of
    /// `simd`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// An instruction set that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// The baseline of this architecture (on x86-64, SSE2), which needs no detection.
    Scalar(Scalar),
    /// x86-64 with AVX2, BMI1, BMI2, MOVBE and POPCNT.
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    /// x86-64 with AVX-512 F, BW, DQ, VL, VBMI and VBMI2 as well.
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
    /// 64-bit Arm.
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
}

impl Level {
    /// The levels of this machine, from the lowest to the best; at least [`Level::Scalar`].
    ///
    /// ```
    /// use df11_simd::Level;
    ///
    /// assert_eq!(Level::all().next().map(Level::name), Some("scalar"));
    /// ```
    pub fn all() -> impl Iterator<Item = Level> {
        let levels = [
            Some(Level::Scalar(Scalar)),
            #[cfg(all(target_arch = "x86_64", not(df11_level = "scalar")))]
            x86::Avx2::detect().map(Level::Avx2),
            #[cfg(all(target_arch = "x86_64", not(any(df11_level = "scalar", df11_level = "avx2"))))]
            x86::Avx512::detect().map(Level::Avx512),
            #[cfg(all(target_arch = "aarch64", not(df11_level = "scalar")))]
            neon::Neon::detect().map(Level::Neon),
        ];
        levels.into_iter().flatten()
    }

    /// The best level of this machine, or the one that the build was told to stop at.
    #[must_use]
    pub fn best() -> Level {
        Self::all().last().unwrap_or(Level::Scalar(Scalar))
    }

    /// The level with this name, if the machine has it.
    ///
    /// ```
    /// use df11_simd::Level;
    ///
    /// assert!(Level::named("scalar").is_some());
    /// assert!(Level::named("abacus").is_none());
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Level> {
        Self::all().find(|level| level.name() == name)
    }

    /// `scalar`, `avx2`, `avx512` or `neon`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Scalar(_) => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Level::Neon(_) => "neon",
        }
    }

    /// Whether this level codes 64 symbols at a time: [`Simd::GROUPS`].
    ///
    /// ```
    /// use df11_simd::{Level, Scalar};
    ///
    /// assert!(!Level::Scalar(Scalar).has_groups());
    /// ```
    #[must_use]
    pub const fn has_groups(self) -> bool {
        match self {
            Level::Scalar(_) => Scalar::GROUPS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => x86::Avx2::GROUPS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => x86::Avx512::GROUPS,
            #[cfg(target_arch = "aarch64")]
            Level::Neon(_) => neon::Neon::GROUPS,
        }
    }

    /// Runs an operation, compiled for this level.
    ///
    /// ```
    /// use df11_simd::{Level, Operation, Simd};
    ///
    /// struct Sum<'a>(&'a [u8]);
    /// impl Operation for Sum<'_> {
    ///     type Output = u64;
    ///     fn run<S: Simd>(self, _: S) -> u64 {
    ///         self.0.iter().map(|&byte| u64::from(byte)).sum()
    ///     }
    /// }
    /// assert_eq!(Level::best().dispatch(Sum(&[1, 2, 3])), 6);
    /// ```
    pub fn dispatch<O: Operation>(self, operation: O) -> O::Output {
        match self {
            Level::Scalar(simd) => simd.run(operation),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(simd) => simd.run(operation),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(simd) => simd.run(operation),
            #[cfg(target_arch = "aarch64")]
            Level::Neon(simd) => simd.run(operation),
        }
    }
}
