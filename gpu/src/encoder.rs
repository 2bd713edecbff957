//! Uses a device as a [`Machine`], to encode on it.

#![allow(unsafe_code, reason = "launches of kernels, which get bare addresses")]

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;

use df11::bf16;
use df11::frame::{self, ElementType, Header};
use df11::{EncodeOptions, EncodedUnit, MAX_ELEMENTS};

use crate::context::Source;
use crate::encode::{self, Kernels, Machine, Pass, Tensor};
use crate::memory::Memory;
use crate::{Error, Gpu};

impl Gpu {
    /// Encodes the unit of these tensors of BF16 weights, in this order. The bytes are those of
    /// [`df11::encode`]. Each weight has two little-endian bytes.
    ///
    /// The device must have room for the weights, the unit, and 540 bytes for each tile (4,096
    /// weights, or 16,384 of a unit of 2^23 or more). All of it is freed before this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with the error of [`df11::Plan::new`], [`Error::Driver`] otherwise.
    ///
    /// ```
    /// use df11::EncodeOptions;
    /// use df11_gpu::{Emulation, Gpu};
    ///
    /// let weights: Vec<u8> = (0..5000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
    /// let gpu = Gpu::emulated(Emulation::default())?;
    /// let unit = gpu.encode_unit(&[&weights], &EncodeOptions::default())?;
    /// assert_eq!(unit, df11::encode(&weights)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn encode_unit(&self, tensors: &[&[u8]], options: &EncodeOptions) -> Result<EncodedUnit, Error> {
        // Wrong lengths are detected before anything is copied.
        if let Some(odd) = tensors.iter().find(|tensor| !tensor.len().is_multiple_of(bf16::BYTES)) {
            return Err(df11::Error::OddBytes { bytes: odd.len() }.into());
        }
        let elements = tensors.iter().map(|tensor| (tensor.len() / bf16::BYTES) as u64);
        let elements = elements.fold(0, u64::saturating_add);
        if elements > MAX_ELEMENTS as u64 {
            return Err(df11::Error::TooManyElements { elements }.into());
        }
        let (_memory, addresses) = self.shared().place(tensors)?;
        let placed = tensors.iter().zip(addresses);
        let placed: Vec<Tensor> = placed
            .map(|(tensor, address)| Tensor { address, elements: tensor.len() / bf16::BYTES })
            .collect();
        // SAFETY: the weights are in memory of this context, which stays until the end of this
        // function. No one else knows the memory.
        unsafe { self.encode_unit_at(&placed, options) }
    }

    /// Encodes a unit of tensors that are on the device already, at any addresses.
    ///
    /// # Safety
    ///
    /// Until this returns, the address of each tensor must hold its weights, two bytes each, in
    /// memory that kernels of this context can read. They must be there now: copies of them must be
    /// done, not only enqueued.
    ///
    /// If the weights change meanwhile, this fails or gives an arbitrary unit, but nothing else
    /// goes wrong.
    ///
    /// # Errors
    ///
    /// The errors of [`encode_unit`](Self::encode_unit), and [`Error::OtherDevice`] for an address
    /// of another device.
    pub unsafe fn encode_unit_at(
        &self,
        tensors: &[Tensor],
        options: &EncodeOptions,
    ) -> Result<EncodedUnit, Error> {
        let current = self.shared().enter()?;
        tensors
            .iter()
            .filter(|tensor| tensor.elements > 0)
            .try_for_each(|tensor| self.shared().expect_own(tensor.address))?;
        drop(current);
        let mut encoder = Encoder::new(self);
        let unit = encode::unit(&mut encoder, tensors, options)?;
        unit.download(&mut encoder)
    }

    /// Encodes elements of this type and shape, in C order and little-endian. The bytes are those
    /// of [`df11::frame::encode`].
    ///
    /// The device must have room for the elements, the frame, and for each element two bytes and a
    /// little more. All of it is freed before this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with the error of [`df11::frame::encode`], [`Error::Driver`] otherwise.
    ///
    /// ```
    /// use df11::frame::{self, ElementType};
    /// use df11_gpu::{Emulation, Gpu};
    ///
    /// let elements: Vec<u8> = (0..5000u32).map(|i| (i % 17) as u8).collect();
    /// let gpu = Gpu::emulated(Emulation::default())?;
    /// let found = gpu.encode_frame(ElementType::U8, &[50, 100], &elements)?;
    /// assert_eq!(found, frame::encode(ElementType::U8, &[50, 100], &elements)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn encode_frame(
        &self,
        element_type: ElementType,
        shape: &[u64],
        elements: &[u8],
    ) -> Result<Vec<u8>, Error> {
        expect_elements(element_type, shape, elements)?;
        let memory = self.copy(elements)?;
        // SAFETY: the number of elements matches the shape. They are in memory of this context,
        // which stays until the end of this function. No one else knows the memory.
        unsafe { self.encode_frame_at(element_type, shape, memory.address()) }
    }

    /// Encodes a frame of elements that are on the device already, at any address.
    ///
    /// # Safety
    ///
    /// Until this returns, the address must hold the number of elements that the shape says, in
    /// memory that kernels of this context can read. They must be there now: copies of them must be
    /// done, not only enqueued.
    ///
    /// If the elements change meanwhile, this gives a frame of other elements, which may be
    /// invalid, but nothing else goes wrong.
    ///
    /// # Errors
    ///
    /// The errors of [`encode_frame`](Self::encode_frame), and [`Error::OtherDevice`] for an
    /// address of another device.
    pub unsafe fn encode_frame_at(
        &self,
        element_type: ElementType,
        shape: &[u64],
        elements: u64,
    ) -> Result<Vec<u8>, Error> {
        let current = self.shared().enter()?;
        self.shared().expect_own(elements)?;
        drop(current);
        let mut encoder = Encoder::new(self);
        let frame = encode::frame(&mut encoder, element_type, shape, elements)?;
        encoder.download(frame.address, frame.bytes)
    }
}

/// Returns the error of [`frame::encode`] if these are not the elements of a shape that a frame can
/// have.
fn expect_elements(element_type: ElementType, shape: &[u64], elements: &[u8]) -> Result<(), df11::Error> {
    if !elements.len().is_multiple_of(element_type.bytes()) {
        // It returns this error before it counts anything.
        frame::count(element_type, elements)?;
    }
    let empty = frame::EncodeOptions::new().encoder(element_type, shape, &[0; 256])?;
    let (header, _) = Header::parse(&empty.header())?;
    let expected = (header.len() as u64).saturating_mul(element_type.bytes() as u64);
    let found = elements.len() as u64;
    if found == expected {
        return Ok(());
    }
    Err(df11::Error::BufferLength { buffer: "elements", expected, found })
}

/// A device that encodes on its own stream, and the memory that it holds for that, by address.
/// Dropping it frees the remaining memory; the driver first waits for kernels.
///
/// It is private to this module, because its caller could make kernels access any memory.
struct Encoder<'g> {
    gpu: &'g Gpu,
    held: BTreeMap<u64, Memory>,
}

impl<'g> Encoder<'g> {
    const fn new(gpu: &'g Gpu) -> Self {
        Encoder { gpu, held: BTreeMap::new() }
    }
}

/// Returns the source of a pass's kernel.
fn source(pass: &Pass) -> Source {
    let Pass { kernels, entry, .. } = *pass;
    let module = match kernels {
        Kernels::Df11 => "df11_encode",
        Kernels::Rans => "rans_encode",
    };
    Source { module, ptx: kernels.ptx(), entry, action: action(entry) }
}

/// Returns the name of a kernel's launch in messages.
fn action(entry: &str) -> &'static str {
    match entry {
        "df11_encode_count" => "launch df11_encode_count",
        "df11_encode_sizes" => "launch df11_encode_sizes",
        "df11_encode_scan" => "launch df11_encode_scan",
        "df11_encode_emit" => "launch df11_encode_emit",
        "frame_encode_count" => "launch frame_encode_count",
        "rans_encode" => "launch rans_encode",
        "frame_encode_layout" => "launch frame_encode_layout",
        "frame_encode_pack" => "launch frame_encode_pack",
        "frame_encode_check" => "launch frame_encode_check",
        _ => "launch a kernel that encodes",
    }
}

impl Machine for Encoder<'_> {
    type Error = Error;

    fn allocate(&mut self, bytes: usize) -> Result<u64, Error> {
        let memory = self.gpu.allocate(bytes)?;
        let address = memory.address();
        self.held.insert(address, memory);
        Ok(address)
    }

    fn free(&mut self, address: u64) -> Result<(), Error> {
        self.held.remove(&address);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        // SAFETY: passes write only within memory that was allocated here, which no other stream
        // knows.
        unsafe { self.gpu.shared().write(address, bytes) }
    }

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let shared = self.gpu.shared();
        // SAFETY: the stream is the context's own.
        unsafe { shared.read_after(shared.stream.as_raw(), address, bytes) }
    }

    fn run(&mut self, pass: &Pass) -> Result<(), Error> {
        let shared = self.gpu.shared();
        let kernel = shared.kernel(source(pass))?;
        let grid = shared.grid(&kernel, pass.thread_blocks);
        let mut values = pass.arguments.clone();
        let mut arguments: Vec<*mut c_void> =
            values.iter_mut().map(|value| ptr::from_mut(value).cast()).collect();
        let _current = shared.enter()?;
        // SAFETY: a pass has a value of 8 bytes for each parameter of its kernel. Parameters have
        // at most 8 bytes, and drivers copy them from the low ones before this returns. The memory
        // that a pass refers to is held here while it may run, or exists by the promise of the
        // caller of the encoding function. Kernels access it within the sizes that are among the
        // arguments.
        unsafe { kernel.launch(grid, shared.stream.as_raw(), &mut arguments) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use df11::EncodeOptions;
    use df11::frame::ElementType;

    use super::{Encoder, action};
    use crate::encode::{self, Kernels, Machine, Tensor};
    use crate::{Emulation, Error, Gpu};

    #[test]
    fn every_kernel_is_named_in_messages() {
        for kernels in Kernels::ALL {
            let text = kernels.ptx()[0].text;
            let names = text.split(".entry ").skip(1).filter_map(|rest| rest.split('(').next());
            let names: Vec<&str> = names.collect();
            assert!(names.len() >= 4, "{names:?}");
            for name in names {
                assert_eq!(action(name), format!("launch {name}"));
            }
        }
    }

    #[test]
    fn no_memory_is_held_but_that_of_what_was_encoded() {
        let gpu = Gpu::emulated(Emulation::default()).unwrap();
        let mut encoder = Encoder::new(&gpu);
        let elements = 5000;
        let weights: Vec<u8> = (0..5000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
        let memory = gpu.copy(&weights).unwrap();
        let tensor = Tensor { address: memory.address(), elements };
        let unit = encode::unit(&mut encoder, &[tensor], &EncodeOptions::default()).unwrap();
        assert_eq!(encoder.held.len(), unit.addresses.len());
        unit.free(&mut encoder).unwrap();
        assert!(encoder.held.is_empty());
        let frame = encode::frame(&mut encoder, ElementType::Bf16, &[5000], memory.address()).unwrap();
        assert_eq!(encoder.held.len(), 1);
        encoder.free(frame.address).unwrap();

        // NaN has an exponent that no unit can hold.
        let memory = gpu.copy(&0x7fc0u16.to_le_bytes().repeat(elements)).unwrap();
        let tensor = Tensor { address: memory.address(), elements };
        let refused = encode::unit(&mut encoder, &[tensor], &EncodeOptions::default());
        assert!(matches!(refused, Err(Error::Invalid(_))));
        assert!(encoder.held.is_empty());
    }
}
