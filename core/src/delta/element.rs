//! Elements as numbers: ordinals, differences, exponents (B-5.1 to B-5.3).

use core::ops::{BitOr, BitXor};

use super::{CHUNK, ESCAPE};
use crate::frame::ElementType;

/// A bit pattern of some width.
pub(super) trait Word:
    Copy + Default + PartialEq + BitOr<Output = Self> + BitXor<Output = Self>
{
    const BYTES: usize;

    fn write(self, bytes: &mut [u8]);
    fn wide(self) -> u32;
    fn narrow(wide: u32) -> Self;
    /// The elements of a chunk, and zeros after them if it is not whole.
    fn chunk(bytes: &[u8]) -> [Self; CHUNK];
    /// Writes a chunk that is whole; `false` if there is no room.
    fn put_chunk(chunk: &[Self; CHUNK], to: &mut [u8]) -> bool;
    /// Bits from `shift` on, the lowest eight.
    fn bits(self, shift: u32) -> u8;
    /// What is left of `z` without its low part, 255 at most.
    #[cfg(feature = "alloc")]
    fn symbol(self, low: usize) -> u8;
    /// The ordinal of a float, and the float of an ordinal.
    fn flip(self) -> Self;
    /// `z` of an ordinal and that of the base.
    #[cfg(any(feature = "alloc", test))]
    fn zigzag(self, base: Self) -> Self;
    /// The ordinal, of that of the base and `z`.
    fn unzigzag(base: Self, z: Self) -> Self;
}

macro_rules! word {
    ($word:ty, $signed:ty) => {
        impl Word for $word {
            const BYTES: usize = size_of::<$word>();

            #[inline(always)]
            fn write(self, bytes: &mut [u8]) {
                if let Some(to) = bytes.first_chunk_mut() {
                    *to = self.to_le_bytes();
                }
            }

            #[inline(always)]
            fn wide(self) -> u32 {
                u32::from(self)
            }

            #[inline(always)]
            fn narrow(wide: u32) -> Self {
                wide as $word
            }

            #[inline(always)]
            fn chunk(bytes: &[u8]) -> [Self; CHUNK] {
                const SIZE: usize = size_of::<$word>();
                // On its own: otherwise both cases become one call that copies some bytes.
                #[cold]
                #[inline(never)]
                fn part(bytes: &[u8]) -> [$word; CHUNK] {
                    let mut chunk = [0; CHUNK];
                    for (element, bytes) in chunk.iter_mut().zip(bytes.as_chunks().0) {
                        *element = <$word>::from_le_bytes(*bytes);
                    }
                    chunk
                }
                let Some(bytes) = bytes.first_chunk::<{ CHUNK * SIZE }>() else { return part(bytes) };
                let mut chunk = [0; CHUNK];
                let words = bytes.as_chunks::<SIZE>().0;
                for i in 0..CHUNK {
                    chunk[i] = <$word>::from_le_bytes(words[i]);
                }
                chunk
            }

            #[inline(always)]
            fn put_chunk(chunk: &[Self; CHUNK], to: &mut [u8]) -> bool {
                const SIZE: usize = size_of::<$word>();
                let Some(to) = to.first_chunk_mut::<{ CHUNK * SIZE }>() else { return false };
                let words = to.as_chunks_mut::<SIZE>().0;
                for i in 0..CHUNK {
                    words[i] = chunk[i].to_le_bytes();
                }
                true
            }

            #[inline(always)]
            fn bits(self, shift: u32) -> u8 {
                (self >> shift) as u8
            }

            #[cfg(feature = "alloc")]
            #[inline(always)]
            fn symbol(self, low: usize) -> u8 {
                (self >> (8 * low)).min(255) as u8
            }

            #[inline(always)]
            fn flip(self) -> Self {
                self ^ (((self as $signed) >> (<$word>::BITS - 1)) as $word >> 1)
            }

            #[cfg(any(feature = "alloc", test))]
            #[inline(always)]
            fn zigzag(self, base: Self) -> Self {
                let d = self.wrapping_sub(base) as $signed;
                ((d << 1) ^ (d >> (<$word>::BITS - 1))) as $word
            }

            #[inline(always)]
            fn unzigzag(base: Self, z: Self) -> Self {
                base.wrapping_add((z >> 1) ^ (z & 1).wrapping_neg())
            }
        }
    };
}

word!(u8, i8);
word!(u16, i16);
word!(u32, i32);

/// How elements of a type are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Whether they have a sign.
    is_float: bool,
    /// Where the exponent begins, and a mask of its bits.
    shift: u32,
    mask: u8,
}

impl Kind {
    pub(super) const fn of(element_type: ElementType) -> Kind {
        let (is_float, shift, mask) = match element_type {
            ElementType::U8 => (false, 0, 0),
            ElementType::Bf16 => (true, 7, 0xff),
            ElementType::F16 => (true, 10, 0x1f),
            ElementType::F32 => (true, 23, 0xff),
            ElementType::F8E4M3 => (true, 3, 0xf),
            ElementType::F8E5M2 => (true, 2, 0x1f),
        };
        Kind { is_float, shift, mask }
    }

    /// The exponent field (B-5.3).
    #[inline(always)]
    pub(super) fn exponent<W: Word>(self, element: W) -> u8 {
        element.bits(self.shift) & self.mask
    }

    #[inline(always)]
    pub(super) fn ordinal<W: Word>(self, element: W) -> W {
        if self.is_float { element.flip() } else { element }
    }

    /// `z` (B-5.1).
    #[cfg(any(feature = "alloc", test))]
    #[inline(always)]
    pub(super) fn difference<W: Word>(self, new: W, base: W) -> W {
        self.ordinal(new).zigzag(self.ordinal(base))
    }

    /// The element of the result (B-5.1).
    #[inline(always)]
    pub(super) fn restored<W: Word>(self, base: W, z: W) -> W {
        self.ordinal(W::unzigzag(self.ordinal(base), z))
    }

    /// The table of each element of a chunk: how many thresholds its exponent reaches (B-5.3).
    #[inline(always)]
    pub(super) fn contexts<W: Word>(self, chunk: &[W; CHUNK], thresholds: &[u8]) -> [u8; CHUNK] {
        let mut exponents = [0; CHUNK];
        for i in 0..CHUNK {
            exponents[i] = self.exponent(chunk[i]);
        }
        let mut contexts = [0; CHUNK];
        for &threshold in thresholds {
            for i in 0..CHUNK {
                contexts[i] += u8::from(exponents[i] >= threshold);
            }
        }
        contexts
    }
}

/// Tells whether two chunks differ.
#[cfg(feature = "alloc")]
#[inline(always)]
pub(super) fn differ<W: Word>(one: &[W; CHUNK], other: &[W; CHUNK]) -> bool {
    let mut difference = W::default();
    for i in 0..CHUNK {
        difference = difference | (one[i] ^ other[i]);
    }
    difference != W::default()
}

/// Finds the escapes among the first `len` symbols of a chunk: a bit is set for each.
#[inline(always)]
pub(super) fn escapes(symbols: &[u8; CHUNK], len: usize) -> u64 {
    if !symbols.iter().fold(false, |any, symbol| any | (*symbol == ESCAPE)) {
        return 0;
    }
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let mut found = 0;
    for (i, eight) in symbols.as_chunks().0.iter().enumerate() {
        // The highest bit of each byte that has all bits.
        let other = !u64::from_le_bytes(*eight);
        let full = !(((other & LOW) + LOW) | other | LOW);
        // These eight bits, side by side.
        found |= ((full >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    if len < CHUNK { found & ((1 << len) - 1) } else { found }
}

/// The coded byte of an element, and its raw part (F-4.1), the lowest byte first.
#[cfg(feature = "alloc")]
pub(super) fn split(element_type: ElementType, bits: u32) -> (u8, [u8; 3]) {
    match element_type {
        ElementType::Bf16 => ((bits >> 7) as u8, [(bits >> 8 & 0x80 | bits & 0x7f) as u8, 0, 0]),
        ElementType::F16 => ((bits >> 8) as u8, [bits as u8, 0, 0]),
        ElementType::F32 => (
            (bits >> 23) as u8,
            [bits as u8, (bits >> 8) as u8, (bits >> 24 & 0x80 | bits >> 16 & 0x7f) as u8],
        ),
        ElementType::U8 | ElementType::F8E4M3 | ElementType::F8E5M2 => (bits as u8, [0; 3]),
    }
}

/// What [`split`] took apart.
pub(super) fn merge(element_type: ElementType, coded: u8, raw: &[u8]) -> u32 {
    let (coded, r) = (u32::from(coded), |i: usize| raw.get(i).map_or(0, |byte| u32::from(*byte)));
    match element_type {
        ElementType::Bf16 => (r(0) & 0x80) << 8 | coded << 7 | r(0) & 0x7f,
        ElementType::F16 => coded << 8 | r(0),
        ElementType::F32 => (r(2) & 0x80) << 24 | coded << 23 | (r(2) & 0x7f) << 16 | r(1) << 8 | r(0),
        ElementType::U8 | ElementType::F8E4M3 | ElementType::F8E5M2 => coded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_found_wherever_they_are() {
        for at in 0..CHUNK {
            let mut symbols = [0xfe; CHUNK];
            symbols[at] = ESCAPE;
            symbols[CHUNK - 1 - at] = ESCAPE;
            let expected = 1 << at | 1 << (CHUNK - 1 - at);
            assert_eq!(escapes(&symbols, CHUNK), expected);
            assert_eq!(escapes(&symbols, at + 1), expected & (u64::MAX >> (CHUNK - 1 - at)));
        }
        assert_eq!(escapes(&[ESCAPE; CHUNK], CHUNK), u64::MAX);
        assert_eq!(escapes(&[0; CHUNK], CHUNK), 0);
    }

    #[test]
    fn every_f8_is_restored_from_every_base_and_ordinals_are_in_the_order_of_values() {
        for element_type in [ElementType::U8, ElementType::F8E4M3] {
            let kind = Kind::of(element_type);
            for base in 0..=u8::MAX {
                for new in 0..=u8::MAX {
                    assert_eq!(kind.restored(base, kind.difference(new, base)), new);
                }
            }
        }
        let kind = Kind::of(ElementType::Bf16);
        let ordinals = [0xff80u16, 0xbf80, 0x8001, 0x8000, 0, 1, 0x3f80, 0x7f80, 0x7fc0];
        assert!(ordinals.map(|bits| kind.ordinal(bits) as i16).is_sorted());
        assert_eq!(kind.difference(0u16, 0x8000), 2);
    }
}
