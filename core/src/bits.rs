//! Reading and writing bits: `hazmat::bits`.

use crate::Error;

/// Reads bits from a byte slice, most significant bit of each byte first.
///
/// The reader holds up to 64 bits ahead. [`refill`](Self::refill) makes at least 56 available to
/// [`peek`](Self::peek) and [`consume`](Self::consume), so a hot loop can read several codewords
/// for each refill. Past the end of the slice it reads zeros; [`position`](Self::position) tells
/// afterwards whether that happened. Checking once at the end, instead of at each read, is what
/// keeps the loop short.
///
/// ```
/// use df11::hazmat::bits::BitReader;
///
/// let mut reader = BitReader::new(&[0b101_00000, 0b1111_0000]);
/// assert_eq!(reader.read(3), 0b101);
/// assert_eq!(reader.read(9), 0b00000_1111);
/// assert_eq!(reader.position(), 12);
/// assert_eq!(reader.read(32), 0); // past the end: zeros
/// assert!(reader.position() > 16);
/// ```
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// Index of the first byte that is not wholly in `buffer`; grows past the end of `bytes`.
    next: usize,
    /// The bits that come next, from the top. Below the top `held` bits it may already hold bits of
    /// byte `next`, in their right place; refilling ORs the same bits over them.
    buffer: u64,
    /// The number of valid bits in `buffer`. Invariant: it is at most 63, and `next * 8 - held` is
    /// the position.
    held: u32,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit of `bytes`.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, next: 0, buffer: 0, held: 0 }
    }

    /// A reader at bit `bit` of `bytes`, which may lie past their end.
    ///
    /// ```
    /// # use df11::hazmat::bits::BitReader;
    /// assert_eq!(BitReader::at(&[0x0f, 0xf0], 4).read(8), 0xff);
    /// ```
    #[inline]
    #[must_use]
    pub fn at(bytes: &'a [u8], bit: u64) -> Self {
        let next = usize::try_from(bit / 8).unwrap_or(usize::MAX).min(usize::MAX / 16);
        let mut reader = BitReader { bytes, next, buffer: 0, held: 0 };
        reader.refill();
        reader.consume((bit % 8) as u32);
        reader
    }

    /// Makes at least 56 bits available.
    ///
    /// ```
    /// # use df11::hazmat::bits::BitReader;
    /// let mut reader = BitReader::new(&[0xab, 0xcd]);
    /// reader.refill();
    /// assert_eq!(reader.peek(8), 0xab);
    /// reader.consume(4);
    /// assert_eq!((reader.peek(8), reader.position()), (0xbc, 4));
    /// ```
    #[inline(always)]
    pub fn refill(&mut self) {
        match self.bytes.get(self.next..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(chunk) => {
                self.buffer |= u64::from_be_bytes(*chunk) >> self.held;
                // As many whole bytes as fit below 64 bits; `held` becomes 56..=63.
                self.next += ((63 - self.held) >> 3) as usize;
                self.held |= 56;
            }
            None => self.refill_at_end(),
        }
    }

    /// [`refill`](Self::refill) where fewer than 8 bytes are left: the missing ones read as zeros.
    #[cold]
    fn refill_at_end(&mut self) {
        let mut chunk = [0; 8];
        for (to, from) in chunk.iter_mut().zip(self.bytes.get(self.next..).unwrap_or(&[])) {
            *to = *from;
        }
        self.buffer |= u64::from_be_bytes(chunk) >> self.held;
        self.next = self.next.saturating_add(((63 - self.held) >> 3) as usize);
        self.held |= 56;
    }

    /// The next `n` bits (1 to 32) as the low bits of the result, without moving. At most 56 after
    /// a [`refill`](Self::refill), together with what is consumed before the next.
    #[inline(always)]
    #[must_use]
    pub fn peek(&self, n: u32) -> u32 {
        debug_assert!((1..=self.held.min(32)).contains(&n), "peek({n}) with {} bits held", self.held);
        (self.buffer >> (64 - n)) as u32
    }

    /// Moves `n` bits on; they must have been made available by [`refill`](Self::refill).
    #[inline(always)]
    pub fn consume(&mut self, n: u32) {
        debug_assert!(n <= self.held, "consume({n}) with {} bits held", self.held);
        self.buffer <<= n;
        self.held -= n;
    }

    /// The next `n` bits (1 to 32), moving past them.
    ///
    /// ```
    /// # use df11::hazmat::bits::BitReader;
    /// assert_eq!(BitReader::new(&[0b1100_0000]).read(2), 0b11);
    /// ```
    #[inline]
    pub fn read(&mut self, n: u32) -> u32 {
        self.refill();
        let value = self.peek(n);
        self.consume(n);
        value
    }

    /// Bits from the start of the slice to the next bit to be read; more than the slice holds if
    /// zeros past its end were consumed.
    #[inline(always)]
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next as u64 * 8 - u64::from(self.held)
    }
}

/// Writes bits into a byte slice, most significant bit of each byte first.
///
/// ```
/// use df11::hazmat::bits::BitWriter;
///
/// let mut bytes = [0xff; 2];
/// let mut writer = BitWriter::new(&mut bytes);
/// writer.write(0b101, 3)?;
/// writer.write(0b0_0000_1111, 9)?;
/// assert_eq!(writer.finish()?, 2); // the last byte is filled up with zeros
/// assert_eq!(bytes, [0b101_00000, 0b1111_0000]);
/// # Ok::<(), df11::Error>(())
/// ```
#[derive(Debug)]
pub struct BitWriter<'a> {
    bytes: &'a mut [u8],
    next: usize,
    /// The low `held` bits wait to be written. Between calls there are always fewer than 8.
    buffer: u64,
    held: u32,
}

impl<'a> BitWriter<'a> {
    /// A writer at the first bit of `bytes`.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a mut [u8]) -> Self {
        BitWriter { bytes, next: 0, buffer: 0, held: 0 }
    }

    /// Appends the low `n` bits (0 to 32) of `value`.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if the slice is full.
    #[inline]
    pub fn write(&mut self, value: u32, n: u32) -> Result<(), Error> {
        debug_assert!(n <= 32, "write of {n} bits");
        self.buffer = self.buffer << n | (u64::from(value) & ((1 << n) - 1));
        self.held += n;
        while self.held >= 8 {
            self.held -= 8;
            self.put((self.buffer >> self.held) as u8)?;
        }
        Ok(())
    }

    /// Fills the last byte up with zeros and returns the number of bytes written.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if the slice is full.
    pub fn finish(mut self) -> Result<usize, Error> {
        if self.held > 0 {
            self.put((self.buffer << (8 - self.held)) as u8)?;
        }
        Ok(self.next)
    }

    #[inline]
    fn put(&mut self, byte: u8) -> Result<(), Error> {
        let found = self.bytes.len() as u64;
        let slot = self.bytes.get_mut(self.next).ok_or(Error::BufferLength {
            buffer: "bit writer's",
            expected: found + 1,
            found,
        })?;
        *slot = byte;
        self.next += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_at_any_bit_agrees_with_bit_by_bit() {
        let bytes: [u8; 19] = core::array::from_fn(|i| (i as u8).wrapping_mul(151).wrapping_add(7));
        let bit = |i: u64| bytes.get((i / 8) as usize).map_or(0, |b| u32::from(b >> (7 - i % 8)) & 1);
        for start in 0..170 {
            for n in 1..=32 {
                let expected = (0..u64::from(n)).fold(0u32, |acc, i| acc << 1 | bit(start + i));
                let mut reader = BitReader::at(&bytes, start);
                assert_eq!(reader.position(), start);
                assert_eq!(reader.read(n), expected, "{n} bits at {start}");
                assert_eq!(reader.position(), start + u64::from(n));
            }
        }
    }

    #[test]
    fn reader_gives_back_what_the_writer_wrote() {
        let mut bytes = [0; 1024];
        let mut writer = BitWriter::new(&mut bytes);
        let item = |i: u32| (i.wrapping_mul(2_654_435_761), 1 + i % 32);
        for i in 0..400 {
            let (value, n) = item(i);
            writer.write(value, n).unwrap();
        }
        let len = writer.finish().unwrap();
        let mut reader = BitReader::new(&bytes[..len]);
        for i in 0..400 {
            let (value, n) = item(i);
            assert_eq!(reader.read(n), value & (u32::MAX >> (32 - n)));
        }
        assert_eq!(reader.position().div_ceil(8), len as u64);
    }

    #[test]
    fn full_writer_is_an_error() {
        let mut bytes = [0; 1];
        let mut writer = BitWriter::new(&mut bytes);
        writer.write(0x1ff, 9).unwrap();
        assert!(writer.finish().is_err());
        assert!(BitWriter::new(&mut []).write(0, 8).is_err());
    }

    #[test]
    fn positions_far_past_the_end_do_not_overflow() {
        let mut reader = BitReader::at(&[1, 2, 3], u64::MAX);
        assert_eq!(reader.read(32), 0);
        assert!(reader.position() > 24);
    }
}
