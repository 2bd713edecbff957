//! The types of the header, in its order.

use std::ffi::c_char;

use ::df11_gpu::{Batch, Frame, Gpu, Unit};

/// How a function ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum df11_gpu_status {
    /// All went well.
    DF11_GPU_OK = 0,
    /// There is no CUDA driver, or no device of this number, or one that is too old.
    DF11_GPU_NO_DEVICE = 1,
    /// The driver refused; `code` says what it returned.
    DF11_GPU_DRIVER = 2,
    /// A unit or frame is not valid: its parts contradict the format, a kernel found a block that
    /// does, or a checksum is wrong.
    DF11_GPU_INVALID_DATA = 3,
    /// A frame is not compressed: copy its elements.
    DF11_GPU_RAW_FRAME = 4,
    /// Elements would begin at an address that is no multiple of their size.
    DF11_GPU_ALIGNMENT = 5,
    /// Memory, a unit or a frame belongs to another device or context.
    DF11_GPU_OTHER_DEVICE = 6,
    /// The stream is captured, and what was asked for waits.
    DF11_GPU_CAPTURING = 7,
    /// The caller passed something that cannot be meant: NULL, a wrong length or number.
    DF11_GPU_INVALID_INPUT = 8,
    /// A defect of the library; please report the message.
    DF11_GPU_INTERNAL = 9,
}

/// What went wrong, in memory of the caller. Pass NULL where nobody wants to know.
///
/// Written by every function that takes one, also when all went well. The text is UTF-8, ends with
/// a zero byte, and is cut where it would be longer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_gpu_error {
    /// The same as the function returned.
    pub status: df11_gpu_status,
    /// The driver's code, from cuda.h; 0 where it was not the driver.
    pub code: i32,
    /// The item of the batch, and its block, where a kernel or a checksum found something wrong, or
    /// an item is not aligned.
    pub item: usize,
    /// See `item`.
    pub block: usize,
    /// What was to be done, what is wrong, what to do about it.
    pub message: [c_char; 480],
}

/// Bytes of the host, which are only read. `data` may be NULL if `len` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_gpu_bytes {
    /// The first byte.
    pub data: *const u8,
    /// How many there are.
    pub len: usize,
}

/// The parts of a unit in memory of the host: DF11.md, section 2.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_gpu_parts {
    /// The prefix tables and the code lengths.
    pub luts: df11_gpu_bytes,
    /// The code.
    pub encoded_exponent: df11_gpu_bytes,
    /// The signs and mantissas.
    pub sign_mantissa: df11_gpu_bytes,
    /// The output positions.
    pub output_positions: df11_gpu_bytes,
    /// The gaps.
    pub gaps: df11_gpu_bytes,
    /// The split positions.
    pub split_positions: df11_gpu_bytes,
}

/// The parts of a unit in memory of the device, each at any address: DF11.md, section 2.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_gpu_raw_unit {
    /// The prefix tables and the code lengths: 256 bytes for each of `tables`.
    pub luts: u64,
    /// The code: `code_bytes`.
    pub codes: u64,
    /// The signs and mantissas: `elements` bytes.
    pub sign_mantissa: u64,
    /// The output positions: 4 bytes for each block of 4096 bytes of code, and any that follow.
    pub output_positions: u64,
    /// The gaps: 320 bytes for each block of 4096 bytes of code.
    pub gaps: u64,
    /// How many prefix tables there are, the code lengths among them.
    pub tables: usize,
    /// Bytes of code.
    pub code_bytes: usize,
    /// Weights.
    pub elements: usize,
}

/// A device with the kernels loaded, in one context.
pub struct df11_gpu(pub(crate) Gpu);

/// A unit on a device.
pub struct df11_gpu_unit(pub(crate) Unit);

/// A frame of codec rANS or dictionary on a device.
pub struct df11_gpu_frame(pub(crate) Frame);

/// Units and frames that are decoded together.
pub struct df11_gpu_batch(pub(crate) Batch);

/// Something to decode: a unit or a frame, the other being NULL.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_gpu_item {
    /// A unit, decoded to two little-endian bytes for each weight; or NULL.
    pub unit: *const df11_gpu_unit,
    /// A frame, decoded to its elements, little-endian; or NULL.
    pub frame: *const df11_gpu_frame,
    /// Where its elements go, in bytes from the address that df11_gpu_batch_enqueue is given.
    pub offset: u64,
}

/// What kernels found wrong with an item.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_gpu_fault {
    /// 0 if nothing is wrong, otherwise 1.
    pub is_wrong: i32,
    /// The first block that is not valid; of codec dictionary, the chunk of 4096 elements.
    pub block: usize,
    /// The clause that is broken, as in "D-8.6" (DF11.md), "R-5.4" (RANS.md) or "V-3.3"
    /// (DICTIONARY.md); ends with a zero byte.
    pub clause: [c_char; 12],
}
