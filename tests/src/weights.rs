//! Weights to test with.

use half::bf16;

/// A small generator of pseudo-random numbers (splitmix64). It gives the same numbers on every
/// machine.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// Returns the next number.
    #[allow(clippy::should_implement_trait, reason = "an iterator would end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `n`, which must not be 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Converts BF16 bit patterns to little-endian bytes.
#[must_use]
pub fn bytes(weights: &[u16]) -> Vec<u8> {
    weights.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// Converts little-endian bytes to BF16 bit patterns.
#[must_use]
pub fn bits(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
}

/// Makes values with the distribution of trained weights: normal with deviation 0.04 (a sum of
/// uniform numbers), as BF16.
#[must_use]
pub fn like_trained(n: usize, seed: u64) -> Vec<u16> {
    let mut random = Random(seed);
    let mut uniform = || random.below(1 << 24) as f32 / (1 << 24) as f32 - 0.5;
    (0..n).map(|_| bf16::from_f32((0..12).map(|_| uniform()).sum::<f32>() * 0.04).to_bits()).collect()
}

/// Makes weights with any sign and mantissa whose exponents are `exponents`, in order.
#[must_use]
pub fn with_exponents(exponents: impl IntoIterator<Item = u8>, seed: u64) -> Vec<u16> {
    let mut random = Random(seed);
    exponents.into_iter().map(|e| (random.next() & 0x807f) as u16 | u16::from(e) << 7).collect()
}

/// Makes the exponents `first`, `first + 1`, ..., shuffled, with decreasing frequencies: the
/// Fibonacci numbers in reverse. The longest codeword therefore has one bit less than there are
/// exponents.
#[must_use]
pub fn fibonacci_exponents(first: u8, alphabet: u8, seed: u64) -> Vec<u8> {
    let (mut a, mut b) = (1usize, 1usize);
    let mut exponents = Vec::new();
    for i in (0..alphabet).rev() {
        exponents.extend(std::iter::repeat_n(first + i, a));
        (a, b) = (b, a + b);
    }
    let mut random = Random(seed);
    for i in (1..exponents.len()).rev() {
        exponents.swap(i, random.below(i as u64 + 1) as usize);
    }
    exponents
}
