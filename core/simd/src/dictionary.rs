//! Groups of codes, each of them the number of a string of symbols.
//!
//! Only the position of its first symbol depends on the codes before it. Plain code therefore
//! decodes a code with some seven instructions, and CPUs overlap several codes.

/// Codes of a group.
pub const GROUP: usize = 8;

/// The most symbols of a string.
pub const LONGEST: usize = 7;

/// The room that must be left before a whole group is decoded. It exceeds the number of symbols of
/// any group, including the bytes that are stored after them.
pub const ROOM: usize = 72;

/// A string: up to [`LONGEST`] symbols, the first in the lowest byte, zeros after the last; 8 times
/// their number in the highest byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entry(u64);

impl Entry {
    /// No symbols.
    pub const NONE: Entry = Entry(0);

    /// The first `len` of these symbols, at most [`LONGEST`].
    #[must_use]
    pub fn new(symbols: [u8; LONGEST], len: usize) -> Self {
        let len = len.min(LONGEST);
        let [a, b, c, d, e, f, g] = symbols;
        let all = u64::from_le_bytes([a, b, c, d, e, f, g, 0]);
        // At most 56 bits are kept.
        Entry(all & ((1 << (8 * len)) - 1) | (8 * len as u64) << 56)
    }

    /// Its symbols and what stands after them.
    #[inline(always)]
    #[must_use]
    pub fn bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    /// How many symbols there are.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is no collection")]
    pub fn len(self) -> usize {
        (self.0 >> 59) as usize
    }

    /// Entries as numbers of 64 bits.
    #[must_use]
    pub fn as_numbers(entries: &[Entry]) -> &[u64] {
        // SAFETY: an entry is laid out as the number in it.
        unsafe { core::slice::from_raw_parts(entries.as_ptr().cast(), entries.len()) }
    }
}

/// The codes of a group of `W` bytes: of 8 bits each if `W` is 8, and of 12 bits if it is 12; the
/// lowest bits first.
#[inline(always)]
#[must_use]
pub fn codes<const W: usize>(group: &[u8; W]) -> [usize; GROUP] {
    const { assert!(W == 8 || W == 12) };
    let low = group.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if W == 8 {
        core::array::from_fn(|i| (low >> (8 * i)) as usize & 0xff)
    } else {
        // Five codes in the first 8 bytes, three in the last.
        let high = group.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        core::array::from_fn(|i| {
            let bits = if i < 5 { low >> (12 * i) } else { high >> (12 * i - 32) };
            bits as usize & 0xfff
        })
    }
}

/// [`Simd::decode_dictionary`](crate::Simd::decode_dictionary) on any machine.
#[inline(always)]
pub(crate) fn decode<const N: usize, const W: usize>(
    entries: &[Entry; N],
    groups: &[[u8; W]],
    symbols: &mut [u8],
    len: usize,
) -> (usize, usize) {
    const { assert!(N == 1 << W) };
    let mut at = 0;
    for (done, group) in groups.iter().enumerate() {
        let room = symbols.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<ROOM>());
        let Some(room) = room.filter(|_| at <= len) else { return (done, at) };
        let mut end = 0;
        for code in codes(group) {
            // The remainder and the removed bits change nothing. They prove to the compiler that
            // all accesses are in bounds.
            let entry = entries[code % N];
            let from = end % (ROOM - size_of::<Entry>());
            room[from..from + size_of::<Entry>()].copy_from_slice(&entry.bytes());
            end += entry.len();
        }
        at += end;
    }
    (groups.len(), at)
}
