//! Text for the host. `core::fmt` is left out: it takes several KiB, and brings panics of its own.

use df11::{Error, ErrorKind};

use crate::machine;

/// Prints one thing after the other.
macro_rules! say {
    ($($what:expr),+ $(,)?) => { $( $crate::print::Print::print(&$what); )+ };
}
pub(crate) use say;

/// What can be printed.
pub(crate) trait Print {
    /// Prints it.
    fn print(&self);
}

impl Print for str {
    #[inline(never)]
    fn print(&self) {
        self.bytes().for_each(machine::write);
    }
}

impl<T: Print + ?Sized> Print for &T {
    fn print(&self) {
        (**self).print();
    }
}

impl Print for u32 {
    /// In decimal.
    #[inline(never)]
    fn print(&self) {
        let (mut power, mut rest) = (1_000_000_000, *self);
        let mut is_leading = true;
        while power > 0 {
            let digit = rest / power;
            rest %= power;
            is_leading &= digit == 0 && power > 1;
            if !is_leading {
                machine::write(b'0' + digit as u8);
            }
            power /= 10;
        }
    }
}

/// A number of 8 hexadecimal digits.
pub(crate) struct Hex(pub(crate) u32);

impl Print for Hex {
    #[inline(never)]
    fn print(&self) {
        for nibble in (0..8).rev().map(|i| (self.0 >> (4 * i)) as u8 & 15) {
            machine::write(if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble });
        }
    }
}

/// The kind, and the clause of the specification.
impl Print for Error {
    #[inline(never)]
    fn print(&self) {
        let kind = match self.kind() {
            ErrorKind::Truncated => "Truncated",
            ErrorKind::Corrupt => "Corrupt",
            ErrorKind::Unsupported => "Unsupported",
            ErrorKind::LimitExceeded => "LimitExceeded",
            ErrorKind::Checksum => "Checksum",
            ErrorKind::InvalidInput => "InvalidInput",
            _ => "unknown",
        };
        kind.print();
        ", ".print();
        self.clause().unwrap_or("-").print();
    }
}

/// CRC-32 as frames have it (F-8.1), continued from `sum`, bit by bit: what is printed is checked
/// by other code than the codec's own, and without a table.
#[inline(never)]
pub(crate) fn checksum(sum: u32, bytes: &[u8]) -> u32 {
    let mut state = !sum;
    for byte in bytes {
        state ^= u32::from(*byte);
        for _ in 0..8 {
            state = state >> 1 ^ (0xedb8_8320 & (state & 1).wrapping_neg());
        }
    }
    !state
}
