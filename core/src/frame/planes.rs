//! Splitting elements into coded bytes and raw planes, and back (section 4).

use super::ElementType;
use crate::bf16;

/// Elements that are split or merged at once: their bytes stay in registers.
const SOME: usize = 64;

/// Splits elements. `raw` receives one plane after the other, each of the length of `coded`.
#[cfg(feature = "alloc")]
#[inline(always)]
pub(super) fn split(element_type: ElementType, elements: &[u8], coded: &mut [u8], raw: &mut [u8]) {
    let n = coded.len();
    match element_type {
        ElementType::U8 | ElementType::F8E4M3 | ElementType::F8E5M2 => coded.copy_from_slice(elements),
        ElementType::Bf16 => {
            let elements = elements.as_chunks::<2>().0.iter();
            for ((element, coded), raw) in elements.zip(coded).zip(raw) {
                let bits = u16::from_le_bytes(*element);
                (*coded, *raw) = (bf16::exponent(bits), bf16::sign_mantissa(bits));
            }
        }
        ElementType::F16 => {
            let elements = elements.as_chunks::<2>().0.iter();
            for ((element, coded), raw) in elements.zip(coded).zip(raw) {
                [*raw, *coded] = *element;
            }
        }
        ElementType::F32 => {
            let (low, rest) = raw.split_at_mut(n);
            let (middle, high) = rest.split_at_mut(n);
            let planes = low.iter_mut().zip(middle).zip(high);
            for ((element, coded), ((low, middle), high)) in
                elements.as_chunks::<4>().0.iter().zip(coded).zip(planes)
            {
                let bits = u32::from_le_bytes(*element);
                *coded = (bits >> 23) as u8;
                (*low, *middle) = (bits as u8, (bits >> 8) as u8);
                *high = (bits >> 24) as u8 & 0x80 | (bits >> 16) as u8 & 0x7f;
            }
        }
    }
}

/// Where the coded bytes of a block are to be put before [`merge`]: at the end of its elements.
#[inline(always)]
pub(super) fn coded_part(element_type: ElementType, elements: &mut [u8]) -> &mut [u8] {
    let n = elements.len() / element_type.bytes();
    elements.split_at_mut_checked(elements.len() - n).unwrap_or_default().1
}

/// The planes of the raw part of `n` elements that stand one after the other.
#[inline(always)]
pub(super) fn planes(raw: &[u8], n: usize) -> [&[u8]; 3] {
    core::array::from_fn(|plane| raw.get(plane * n..(plane + 1) * n).unwrap_or_default())
}

/// Merges raw planes, as many as there are, with the coded bytes at the end of `elements`, in
/// place.
///
/// Going forwards, elements are written over coded bytes that have been merged already: of `n`
/// elements of `s` bytes, the coded bytes of `i` and later stand from `(s - 1) n + i` on, and
/// elements before `i` end at `s i`, which is no more while `i <= n`.
#[inline(always)]
pub(super) fn merge(element_type: ElementType, elements: &mut [u8], [a, b, c]: [&[u8]; 3]) {
    match element_type {
        ElementType::U8 | ElementType::F8E4M3 | ElementType::F8E5M2 => {}
        ElementType::Bf16 => {
            in_place::<2, 1>(elements, [a], |coded, [raw]| bf16::from_planes(coded, raw).to_le_bytes());
        }
        ElementType::F16 => in_place::<2, 1>(elements, [a], |coded, [raw]| [raw, coded]),
        ElementType::F32 => in_place::<4, 3>(elements, [a, b, c], |coded, [low, middle, high]| {
            let (coded, high) = (u32::from(coded), u32::from(high));
            let bits = (high & 0x80) << 24 | coded << 23 | (high & 0x7f) << 16;
            (bits | u32::from(middle) << 8 | u32::from(low)).to_le_bytes()
        }),
    }
}

/// Merges elements of `S` bytes with `R` raw planes and the coded bytes at their end.
#[inline(always)]
pub(crate) fn in_place<const S: usize, const R: usize>(
    elements: &mut [u8],
    planes: [&[u8]; R],
    element: impl Fn(u8, [u8; R]) -> [u8; S],
) {
    let n = elements.len() / S;
    let start = elements.len() - n;
    // What is looked up below is there: returning where it is not, instead of panicking, is never
    // done.
    for at in (0..n).step_by(SOME) {
        let end = n.min(at + SOME);
        let mut coded = [0; SOME];
        let mut raw = [[0; SOME]; R];
        if end - at == SOME {
            // Of known length: a vector each.
            let Some(from) = some(elements, start + at) else { return };
            coded = *from;
            for (raw, plane) in raw.iter_mut().zip(&planes) {
                let Some(from) = some(plane, at) else { return };
                *raw = *from;
            }
            let Some(to) = elements.get_mut(S * at..S * (at + SOME)) else { return };
            for (i, (to, coded)) in to.as_chunks_mut::<S>().0.iter_mut().zip(&coded).enumerate() {
                *to = element(*coded, core::array::from_fn(|plane| raw[plane][i]));
            }
        } else {
            let from = elements.get(start + at..start + end).unwrap_or_default();
            coded.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            let to = elements.get_mut(S * at..S * end).unwrap_or_default();
            for (i, (to, coded)) in to.as_chunks_mut::<S>().0.iter_mut().zip(&coded).enumerate() {
                let byte = |plane: usize| planes[plane].get(at + i).copied().unwrap_or(0);
                *to = element(*coded, core::array::from_fn(byte));
            }
        }
    }
}

/// The bytes from a place on.
#[inline(always)]
fn some(bytes: &[u8], at: usize) -> Option<&[u8; SOME]> {
    bytes.get(at..)?.first_chunk()
}
