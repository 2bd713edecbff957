//! Arithmetic of polynomials over two elements, modulo that of CRC-32 (section 8 of FRAME.md).
//!
//! The highest bit of a number is the coefficient of 1, the lowest that of x^31.

use crate::kernels::THREADS;

const POLYNOMIAL: u32 = 0xedb8_8320;

/// The polynomial 1.
pub(crate) const ONE: u32 = 1 << 31;

fn times_x(a: u32) -> u32 {
    a >> 1 ^ if a & 1 == 1 { POLYNOMIAL } else { 0 }
}

/// Returns the product of two polynomials.
pub(crate) fn product(a: u32, b: u32) -> u32 {
    let mut power = a;
    (0..32).rev().fold(0, |sum, bit| {
        let term = if b >> bit & 1 == 1 { power } else { 0 };
        power = times_x(power);
        sum ^ term
    })
}

/// Returns x to this power.
pub(crate) fn x_to(power: u64) -> u32 {
    let (mut result, mut square, mut left) = (ONE, ONE >> 1, power);
    while left > 0 {
        if left & 1 == 1 {
            result = product(result, square);
        }
        square = product(square, square);
        left >>= 1;
    }
    result
}

/// Joins two checksums: `first` covers some bytes, and `second` the `bytes` bytes after them.
pub(crate) fn join(first: u32, second: u32, bytes: u64) -> u32 {
    product(first, x_to(8 * bytes)) ^ second
}

/// Returns the products of a polynomial and each byte at each of its four places in a word.
pub(crate) fn table(factor: u32) -> impl Iterator<Item = u32> {
    (0..4).flat_map(move |byte| (0..256).map(move |value: u32| product(value << (8 * byte), factor)))
}

/// The constants of `frame_encode_check`: see `Powers` in `rans_encode.cu`.
pub(crate) struct Powers {
    step: [u32; 2],
    from_end: [Vec<u32>; 2],
}

impl Powers {
    /// Computes the constants for elements of this many bytes.
    pub(crate) fn new(size: usize) -> Self {
        let sizes = [1, size as u64];
        let from_end = |size: u64| {
            let next = x_to(32 * size);
            let powers = std::iter::successors(Some(x_to(32)), |power| Some(product(*power, next)));
            powers.take(THREADS as usize).collect()
        };
        Powers { step: sizes.map(|size| x_to(32 * size * u64::from(THREADS))), from_end: sizes.map(from_end) }
    }

    /// Returns the constants in the form of the kernel.
    pub(crate) fn describe(&self) -> Vec<u8> {
        let tables = self.step.iter().flat_map(|step| table(*step));
        tables.chain(self.from_end.iter().flatten().copied()).flat_map(u32::to_le_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use df11::hazmat::frame::crc;

    #[test]
    fn checksums_of_parts_make_that_of_the_whole() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| ((i * i) >> 3) as u8).collect();
        for at in [0, 1, 4, 333, 1000] {
            let (first, second) = bytes.split_at(at);
            let joined = super::join(crc(0, first), crc(0, second), second.len() as u64);
            assert_eq!(joined, crc(0, &bytes), "{at}");
        }
    }
}
