//! Units and frames on a device, and what comes out of them.
//!
//! This is where kernels are launched, and so where `unsafe` is needed: a kernel gets bare addresses. Each launch goes through one
//! function with the kernel's own types, which states why the addresses are good for what the kernel does with them.

#![allow(unsafe_code, reason = "launches of kernels, and copies that a stream does later")]

use std::ffi::c_void;

use cust::memory::{AsyncCopyDestination, DeviceBuffer, DeviceSlice};
use cust::stream::Stream;
use df11_core::df11::{Tensors, Unit};
use df11_core::frame::Frame;
use df11_core::rans::DecodeTable;

use crate::emulate::{RansBlock, frame_blocks};
use crate::error::driver;
use crate::kernels::{THREADS, WARPS};
use crate::{Error, Gpu};

/// Thread blocks for each multiprocessor: several run on one at a time, and each decodes several blocks, so that its table pays.
const BLOCKS_EACH: u32 = 4;

/// A valid unit in the memory of a device.
#[derive(Debug)]
pub struct DeviceUnit {
    luts: DeviceBuffer<u8>,
    codes: DeviceBuffer<u8>,
    sign_mantissa: DeviceBuffer<u8>,
    output_positions: DeviceBuffer<u8>,
    gaps: DeviceBuffer<u8>,
    elements: usize,
    blocks: usize,
}

impl DeviceUnit {
    /// The number of weights.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.elements
    }

    /// Whether there are none, which no valid unit has.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.elements == 0
    }

    /// The arguments of a kernel with the published signature, the address of the weights among them.
    fn arguments(&self, outputs: &DeviceSlice<u8>) -> [u64; 9] {
        let address = |buffer: &DeviceBuffer<u8>| buffer.as_device_ptr().as_raw();
        [
            address(&self.luts),
            address(&self.codes),
            address(&self.sign_mantissa),
            address(&self.output_positions),
            address(&self.gaps),
            outputs.as_device_ptr().as_raw(),
            self.luts.len() as u64 / 256,
            self.codes.len() as u64,
            self.elements as u64,
        ]
    }
}

/// A frame of codec rANS in the memory of a device.
#[derive(Debug)]
pub struct DeviceFrame {
    bytes: DeviceBuffer<u8>,
    /// What the kernel takes for each block.
    blocks: DeviceBuffer<u64>,
    slots: DeviceBuffer<u32>,
    scale_bits: u32,
    number: u32,
    kind: u32,
    elements_bytes: usize,
}

impl DeviceFrame {
    /// The bytes of its elements.
    #[must_use]
    pub const fn elements_bytes(&self) -> usize {
        self.elements_bytes
    }
}

/// Clauses of RANS.md, by what `rans_decode` says.
const CLAUSES: [&str; 4] = ["R-5.3", "R-5.4", "R-5.4", "R-5.5"];

impl Gpu {
    /// Checks a unit and uploads it. Waits until that is done.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the unit breaks a rule that can be seen without decoding, [`Error::Driver`] otherwise.
    pub fn upload(&self, tensors: &Tensors<'_>) -> Result<DeviceUnit, Error> {
        let unit = Unit::new(*tensors)?;
        Ok(DeviceUnit {
            luts: self.copy(tensors.luts)?,
            codes: self.copy(tensors.encoded_exponent)?,
            sign_mantissa: self.copy(tensors.sign_mantissa)?,
            output_positions: self.copy(tensors.output_positions)?,
            gaps: self.copy(tensors.gaps)?,
            elements: unit.len(),
            blocks: unit.blocks(),
        })
    }

    /// Checks a frame, its blocks' checksums included, and uploads it. Waits until that is done.
    ///
    /// # Errors
    ///
    /// [`Error::RawFrame`] for codec raw, [`Error::Invalid`] if a checksum is wrong, [`Error::Driver`] otherwise.
    pub fn upload_frame(&self, frame: &Frame<'_>) -> Result<DeviceFrame, Error> {
        let header = frame.header();
        let frequencies = header.frequencies().ok_or(Error::RawFrame)?;
        let mut table = Box::new(DecodeTable::EMPTY);
        table.build(frequencies);
        let (blocks, kind) = frame_blocks(frame)?;
        let blocks: Vec<u64> = blocks.iter().flat_map(RansBlock::describe).collect();
        Ok(DeviceFrame {
            bytes: self.copy(frame.as_bytes())?,
            blocks: self.copy(&blocks)?,
            slots: self.copy(table.slots())?,
            scale_bits: u32::from(frequencies.scale_bits()),
            number: header.blocks() as u32,
            kind,
            elements_bytes: frame.elements_bytes(),
        })
    }

    /// Decodes a unit into `outputs`, two little-endian bytes for each weight, on this stream.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] if `outputs` has another length, [`Error::Driver`] if the driver refuses the launch.
    pub fn decode(
        &self,
        stream: &Stream,
        unit: &DeviceUnit,
        outputs: &mut DeviceSlice<u8>,
    ) -> Result<(), Error> {
        check(outputs, 2 * unit.elements)?;
        let mut arguments = unit.arguments(outputs);
        let grid = (unit.blocks as u32).min(BLOCKS_EACH * self.multiprocessors);
        let pointers = arguments.each_mut().map(|argument| std::ptr::from_mut(argument).cast::<c_void>());
        let function = driver("find df11_decode", self.df11.get_function("df11_decode"))?;
        // SAFETY: df11_decode has nine parameters of 8 bytes: six addresses, then the numbers of tables, bytes and elements. It
        // stays within buffers of the lengths that these numbers say, which were checked when the unit was uploaded, and
        // writes two bytes for each element to the last address, where there are as many.
        driver("launch df11_decode", unsafe { stream.launch(&function, grid, THREADS, 0, &pointers) })
    }

    /// Decodes many units in one launch, each into its own place, on this stream. `table` is memory of the device that stays until
    /// the stream is done, as the units and their outputs must.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn decode_batch(
        &self,
        stream: &Stream,
        units: &mut [(&DeviceUnit, &mut DeviceSlice<u8>)],
        table: &mut Option<DeviceBuffer<u64>>,
    ) -> Result<(), Error> {
        let mut described = Vec::with_capacity(9 * units.len());
        for (unit, outputs) in &*units {
            check(outputs, 2 * unit.elements)?;
            described.extend(unit.arguments(outputs));
        }
        let Some(blocks) = units.iter().map(|(unit, _)| unit.blocks as u32).max() else { return Ok(()) };
        let each = (BLOCKS_EACH * self.multiprocessors).div_ceil(units.len() as u32);
        let table = table.insert(self.copy(&described)?);
        let mut address = table.as_device_ptr().as_raw();
        let function = driver("find df11_decode_batch", self.df11.get_function("df11_decode_batch"))?;
        let grid = (blocks.min(each), units.len() as u32);
        // SAFETY: df11_decode_batch has one parameter, the address of a table with nine numbers for each unit, as many as the grid
        // has rows. For what these are, see `decode`.
        driver("launch df11_decode_batch", unsafe {
            stream.launch(&function, grid, THREADS, 0, &[std::ptr::from_mut(&mut address).cast()])
        })
    }

    /// Decodes a frame into `outputs`, its elements little-endian, and waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] if `outputs` has another length, [`Error::Block`] if the kernel finds a block that is not valid,
    /// [`Error::Driver`] otherwise. The content of `outputs` is then unspecified.
    pub fn decode_frame(
        &self,
        stream: &Stream,
        frame: &DeviceFrame,
        outputs: &mut DeviceSlice<u8>,
    ) -> Result<(), Error> {
        check(outputs, frame.elements_bytes)?;
        let mut statuses = vec![0u32; frame.number as usize];
        let status = self.copy(&statuses)?;
        let mut addresses = [
            frame.bytes.as_device_ptr().as_raw(),
            frame.blocks.as_device_ptr().as_raw(),
            outputs.as_device_ptr().as_raw(),
            status.as_device_ptr().as_raw(),
            frame.slots.as_device_ptr().as_raw(),
        ];
        let mut numbers = [frame.scale_bits, frame.number, frame.kind];
        let addresses = addresses.each_mut().map(|address| std::ptr::from_mut(address).cast::<c_void>());
        let numbers = numbers.each_mut().map(|number| std::ptr::from_mut(number).cast::<c_void>());
        let [a, b, c, d, e] = addresses;
        let [f, g, h] = numbers;
        let function = driver("find rans_decode", self.rans.get_function("rans_decode"))?;
        let grid = frame.number.div_ceil(WARPS).min(BLOCKS_EACH * self.multiprocessors);
        // SAFETY: rans_decode has five addresses and three numbers of 4 bytes. The places of the blocks in the frame are those that
        // `Frame::block_layout` has checked; there is a table of as many slots as the scale bits say, a status for each block, and
        // as many bytes of elements as the blocks have.
        driver("launch rans_decode", unsafe {
            stream.launch(&function, grid, THREADS, 0, &[a, b, c, d, e, f, g, h])
        })?;
        // SAFETY: the numbers stay where they are until the stream has been waited for.
        driver("read what became of the blocks", unsafe { status.async_copy_to(&mut statuses, stream) })?;
        self.wait(stream)?;
        match statuses.iter().position(|status| *status != 0) {
            None => Ok(()),
            Some(block) => {
                let clause = CLAUSES.get(statuses[block] as usize - 1).copied().unwrap_or("R-5.6");
                Err(Error::Block { block, clause })
            }
        }
    }

    /// Decodes a unit and downloads its weights.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn decode_to_host(&self, unit: &DeviceUnit) -> Result<Vec<u8>, Error> {
        let mut outputs = self.allocate(2 * unit.elements)?;
        self.decode(&self.stream, unit, &mut outputs)?;
        self.download(&self.stream, &outputs)
    }

    /// Decodes a frame and downloads its elements.
    ///
    /// # Errors
    ///
    /// As [`decode_frame`](Self::decode_frame).
    pub fn decode_frame_to_host(&self, frame: &DeviceFrame) -> Result<Vec<u8>, Error> {
        let mut outputs = self.allocate(frame.elements_bytes)?;
        self.decode_frame(&self.stream, frame, &mut outputs)?;
        self.download(&self.stream, &outputs)
    }

    /// Memory on the device, with nothing in it yet.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`], most likely because there is not so much.
    pub fn allocate(&self, bytes: usize) -> Result<DeviceBuffer<u8>, Error> {
        // SAFETY: bytes may be anything; whoever reads them before they are written gets just that.
        driver("allocate memory on the device", unsafe { DeviceBuffer::uninitialized(bytes) })
    }

    /// Downloads what a stream has made, after waiting for it.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn download(&self, stream: &Stream, from: &DeviceSlice<u8>) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; from.len()];
        // SAFETY: the bytes stay where they are until the stream has been waited for.
        driver("copy from the device", unsafe { from.async_copy_to(&mut bytes, stream) })?;
        self.wait(stream)?;
        Ok(bytes)
    }

    /// A copy on the device; of nothing, one byte, since drivers have no empty buffers.
    fn copy<T: cust::memory::DeviceCopy + Default>(&self, from: &[T]) -> Result<DeviceBuffer<T>, Error> {
        let nothing = [T::default()];
        let from = if from.is_empty() { &nothing } else { from };
        driver("copy to the device", DeviceBuffer::from_slice(from))
    }
}

fn check(outputs: &DeviceSlice<u8>, expected: usize) -> Result<(), Error> {
    let found = outputs.len();
    if found == expected { Ok(()) } else { Err(Error::Length { expected, found }) }
}
