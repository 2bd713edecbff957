//! The types of the header, in its order.

use std::ffi::c_char;

use ::df11_gpu::{Batch, Frame, Gpu, Unit};

/// The status of a finished call.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum df11_gpu_status {
    /// The call succeeded.
    DF11_GPU_OK = 0,
    /// There is no CUDA driver, no device of this number, or the device is too old.
    DF11_GPU_NO_DEVICE = 1,
    /// The driver refused a call. `code` is the code that it returned.
    DF11_GPU_DRIVER = 2,
    /// A unit or frame is invalid: its parts contradict the format, a kernel found an invalid
    /// block, or a checksum is wrong.
    DF11_GPU_INVALID_DATA = 3,
    /// A frame is not compressed: copy its elements.
    DF11_GPU_RAW_FRAME = 4,
    /// Elements would begin at an address that is not a multiple of their size.
    DF11_GPU_ALIGNMENT = 5,
    /// Memory, a unit or a frame belongs to another device or context.
    DF11_GPU_OTHER_DEVICE = 6,
    /// The stream is captured, and the call would have to wait.
    DF11_GPU_CAPTURING = 7,
    /// The call is wrong: NULL, a wrong length, or a number out of range.
    DF11_GPU_INVALID_INPUT = 8,
    /// A defect of the library; please report the message.
    DF11_GPU_INTERNAL = 9,
}

/// The description of a failure, in the caller's memory. Pass NULL if you do not need it.
///
/// Every function that takes one writes it, also when it succeeds. The text is UTF-8 and ends with
/// a zero byte. A text that is too long is cut.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_gpu_error {
    /// The status that the function returned.
    pub status: df11_gpu_status,
    /// The driver's code, from cuda.h; 0 if the driver did not fail.
    pub code: i32,
    /// The item of the batch where a kernel or a checksum found a fault, or where an item is not
    /// aligned.
    pub item: usize,
    /// The block of that item.
    pub block: usize,
    /// The action that failed, the fault, and the remedy.
    pub message: [c_char; 480],
}

/// Bytes of the host that are only read. `data` may be NULL if `len` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_gpu_bytes {
    /// The first byte.
    pub data: *const u8,
    /// The number of bytes.
    pub len: usize,
}

/// The parts of a unit in the host's memory: DF11.md, section 2.
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

/// The parts of a unit in the device's memory, each at any address: DF11.md, section 2.
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
    /// The number of prefix tables, including the code lengths.
    pub tables: usize,
    /// The number of bytes of code.
    pub code_bytes: usize,
    /// The number of weights.
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

/// An item to decode: a unit or a frame. The other pointer is NULL.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_gpu_item {
    /// A unit, decoded to two little-endian bytes for each weight; or NULL.
    pub unit: *const df11_gpu_unit,
    /// A frame, decoded to its elements, little-endian; or NULL.
    pub frame: *const df11_gpu_frame,
    /// The offset of its elements in bytes, from the address that is passed to
    /// df11_gpu_batch_enqueue.
    pub offset: u64,
}

/// A fault that kernels found in an item.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_gpu_fault {
    /// 1 if there is a fault, otherwise 0.
    pub is_wrong: i32,
    /// The first invalid block or, for codec dictionary, chunk of 4096 elements.
    pub block: usize,
    /// The broken clause, as in "D-8.6" (DF11.md), "R-5.4" (RANS.md) or "V-3.3" (DICTIONARY.md). It
    /// ends with a zero byte.
    pub clause: [c_char; 12],
}
