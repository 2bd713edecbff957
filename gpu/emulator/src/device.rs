//! The memory of the device: buffers that track which bytes have been written.

/// The address of the first buffer. Addresses of shared memory are below it.
pub(crate) const GLOBAL: u64 = 0x7000_0000_0000;

/// The first generic address of shared memory.
pub(crate) const SHARED: u64 = 0x6000_0000_0000;

/// Buffers begin at multiples of this number of bytes, as those of a driver do.
const ALIGNMENT: u64 = 256;

/// A buffer.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    pub(crate) address: u64,
    pub(crate) bytes: Vec<u8>,
    /// A bit for each byte: whether it has been written.
    pub(crate) defined: Vec<u64>,
    /// For each byte: the thread that wrote it in this launch, counted from 1, and the time. Empty
    /// until the first write.
    pub(crate) writers: Vec<(u32, u32)>,
    /// For each word of 4 bytes: two threads that changed it by atomic operations, and the times.
    /// Any other thread differs from at least one of them. Empty until the first atomic operation.
    pub(crate) atomics: Vec<[(u32, u32); 2]>,
}

impl Buffer {
    pub(crate) fn is_defined(&self, at: usize, len: usize) -> bool {
        (at..at + len).all(|at| self.defined[at / 64] >> (at % 64) & 1 == 1)
    }

    /// Returns the threads that changed any of these bytes by atomic operations in this launch.
    pub(crate) fn atomics(&self, at: usize, len: usize) -> impl Iterator<Item = (u32, u32)> {
        self.atomics.get(at / 4..(at + len).div_ceil(4)).into_iter().flatten().flatten().copied()
    }

    pub(crate) fn define(&mut self, at: usize, len: usize) {
        (at..at + len).for_each(|at| self.defined[at / 64] |= 1 << (at % 64));
    }
}

/// The memory of a device.
///
/// ```
/// let mut device = df11_emulator::Device::new();
/// let buffer = device.allocate(100);
/// device.write(buffer + 10, b"abc");
/// assert_eq!(device.read(buffer + 11, 2), b"bc");
/// device.free(buffer);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// The buffers, ordered by address.
    pub(crate) buffers: Vec<Buffer>,
    next: u64,
}

impl Device {
    /// Makes a device without buffers.
    #[must_use]
    pub fn new() -> Self {
        Device::default()
    }

    /// Makes a device without buffers. Devices with different numbers have different addresses, as
    /// long as each uses less than a terabyte.
    #[must_use]
    pub fn numbered(number: u8) -> Self {
        Device { buffers: Vec::new(), next: u64::from(number) << 40 }
    }

    /// Allocates a buffer of this many bytes, aligned to 256 bytes. Its content is undefined.
    /// Between two buffers there is always a gap that belongs to neither.
    pub fn allocate(&mut self, len: usize) -> u64 {
        let address = GLOBAL + self.next;
        // Addresses are never reused, so an access to a freed buffer is always detected.
        self.next += (len as u64).next_multiple_of(ALIGNMENT) + ALIGNMENT;
        let defined = vec![0; len.div_ceil(64)];
        self.buffers.push(Buffer {
            address,
            bytes: vec![0; len],
            defined,
            writers: Vec::new(),
            atomics: Vec::new(),
        });
        address
    }

    /// Frees a buffer.
    ///
    /// # Panics
    ///
    /// If there is no buffer at this address.
    pub fn free(&mut self, address: u64) {
        let at = self.buffers.binary_search_by_key(&address, |buffer| buffer.address);
        #[expect(clippy::expect_used, reason = "the caller's mistake, as documented")]
        self.buffers.remove(at.expect("no buffer begins at this address"));
    }

    /// Writes bytes from the host.
    ///
    /// # Panics
    ///
    /// If the bytes are out of bounds.
    pub fn write(&mut self, address: u64, bytes: &[u8]) {
        let (buffer, at) = self.host(address, bytes.len());
        buffer.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        buffer.define(at, bytes.len());
    }

    /// Reads bytes to the host.
    ///
    /// # Panics
    ///
    /// If the bytes are out of bounds.
    #[must_use]
    pub fn read(&mut self, address: u64, len: usize) -> &[u8] {
        let (buffer, at) = self.host(address, len);
        &buffer.bytes[at..at + len]
    }

    /// Counts how many of these bytes have never been written.
    ///
    /// # Panics
    ///
    /// If the bytes are out of bounds.
    #[must_use]
    pub fn undefined(&mut self, address: u64, len: usize) -> usize {
        let (buffer, at) = self.host(address, len);
        (at..at + len).filter(|&at| !buffer.is_defined(at, 1)).count()
    }

    fn host(&mut self, address: u64, len: usize) -> (&mut Buffer, usize) {
        #[expect(clippy::expect_used, reason = "the caller's mistake, as documented")]
        self.find(address, len as u64).expect("the host reads and writes buffers only")
    }

    /// Finds the buffer that holds all of these bytes, and their offset in it.
    pub(crate) fn find(&mut self, address: u64, len: u64) -> Option<(&mut Buffer, usize)> {
        let after = self.buffers.partition_point(|buffer| buffer.address <= address);
        let buffer = self.buffers.get_mut(after.checked_sub(1)?)?;
        let at = address - buffer.address;
        (at.checked_add(len)? <= buffer.bytes.len() as u64).then_some((buffer, at as usize))
    }

    /// Describes the location of an address.
    pub(crate) fn describe(&self, address: u64) -> String {
        let after = self.buffers.partition_point(|buffer| buffer.address <= address);
        match after.checked_sub(1).and_then(|at| self.buffers.get(at)) {
            Some(buffer) => {
                let (number, len) = (after - 1, buffer.bytes.len());
                format!("offset {} of buffer {number}, which has {len} bytes", address - buffer.address)
            }
            None => "before every buffer".to_owned(),
        }
    }
}
