//! 64-bit Arm.

use core::arch::aarch64::*;

use crate::rans::{DecodeTables, EncodeTables, Stream, Writing};
use crate::{Operation, Simd, sealed};

mod eight;
mod rans;

/// The token of NEON, which every 64-bit Arm processor with an operating system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon(());

impl Neon {
    /// The token, if this machine has the instructions, and is little-endian: bytes of words are
    /// shuffled.
    #[must_use]
    pub fn detect() -> Option<Self> {
        cfg!(all(target_feature = "neon", target_endian = "little")).then_some(Neon(()))
    }
}

impl sealed::Sealed for Neon {}

impl Simd for Neon {
    #[inline(always)]
    fn run<O: Operation>(self, operation: O) -> O::Output {
        // The token exists only where the whole build is for NEON: nothing is to be switched on.
        operation.run(self)
    }

    #[inline(always)]
    fn decode_contexts<const N: usize>(
        self,
        slots: &crate::delta::Slots,
        streams: &mut [crate::delta::Reading<'_>; N],
        steps: &mut [crate::delta::Steps<'_>; N],
    ) -> usize {
        crate::delta::decode(self, slots, streams, steps)
    }

    #[inline(always)]
    fn encode_contexts(
        self,
        entries: &crate::delta::Entries,
        block: &mut crate::delta::Appending<'_>,
        contexts: &[[u8; crate::rans::LANES]],
        symbols: &[[u8; crate::rans::LANES]],
    ) -> usize {
        crate::delta::encode(self, entries, block, contexts, symbols)
    }

    const RANS: bool = true;

    #[inline(always)]
    fn encode_rans<const N: usize>(self, tables: EncodeTables<'_>, blocks: &mut [Writing<'_>; N]) -> usize {
        match tables.window {
            // SAFETY: the token proves NEON.
            Some(window) => unsafe { rans::encode(self, tables, window, blocks) },
            None => crate::eight::encode(self, tables, blocks),
        }
    }

    #[inline(always)]
    fn decode_rans<const N: usize>(self, tables: DecodeTables<'_>, streams: &mut [Stream<'_>; N]) -> usize {
        match tables.window {
            // SAFETY: the token proves NEON.
            Some(window) => unsafe { rans::decode(self, tables, window, streams) },
            None => crate::eight::decode(self, tables, streams),
        }
    }

    #[inline(always)]
    unsafe fn merge_64<const STREAM: bool>(
        self,
        exponents: *const u8,
        sign_mantissas: *const u8,
        weights: *mut u8,
    ) {
        for at in [0, 16, 32, 48] {
            // SAFETY: the token proves NEON. The caller vouches for 64 readable bytes behind either
            // plane, of which each turn reads 16 from `at <= 48`, and for 128 writable bytes, of
            // which it writes 32 from `2 * at <= 96`.
            unsafe {
                let (e, sm) = (vld1q_u8(exponents.add(at)), vld1q_u8(sign_mantissas.add(at)));
                let (low, high) = (vshlq_n_u8::<7>(e), vshrq_n_u8::<1>(e));
                let low = vbslq_u8(vdupq_n_u8(0x7f), sm, low);
                let high = vbslq_u8(vdupq_n_u8(0x80), vandq_u8(sm, vdupq_n_u8(0x80)), high);
                // Stores the two in turn: low byte, high byte.
                vst2q_u8(weights.add(2 * at), uint8x16x2_t(low, high));
            }
        }
    }
}
