//! `libdf11gpu`: decoding on GPUs for engines in C and C++.
//!
//! The header `include/df11_gpu.h` is made of what stands here, and is where users read about it.
//! There is no logic in this crate: it checks what comes over the boundary, and passes it on to
//! `df11-gpu`.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "the boundary to C")]
#![allow(non_camel_case_types, reason = "the names are those of the header")]

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::df11_gpu::{Batch, Emulation, Error, Fault, Frame, Gpu, Item, RawUnit, Unit};
use df11::Parts;
use df11::frame;

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
pub struct df11_gpu(Gpu);

/// A unit on a device.
pub struct df11_gpu_unit(Unit);

/// A frame of codec rANS or dictionary on a device.
pub struct df11_gpu_frame(Frame);

/// Units and frames that are decoded together.
pub struct df11_gpu_batch(Batch);

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

/// Why something failed, on this side of the boundary.
enum Failure {
    Gpu(Error),
    Input(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Gpu(error)
    }
}

impl From<df11::Error> for Failure {
    fn from(error: df11::Error) -> Self {
        Failure::Gpu(error.into())
    }
}

/// Puts text into an array of C, which always ends with a zero byte.
fn put(array: &mut [c_char], text: &str) {
    array.fill(0);
    let fits = text.floor_char_boundary(array.len() - 1);
    for (to, from) in array.iter_mut().zip(&text.as_bytes()[..fits]) {
        *to = from.cast_signed() as c_char;
    }
}

impl Failure {
    fn told(&self) -> df11_gpu_error {
        use df11_gpu_status::{
            DF11_GPU_ALIGNMENT, DF11_GPU_CAPTURING, DF11_GPU_DRIVER, DF11_GPU_INTERNAL,
            DF11_GPU_INVALID_DATA, DF11_GPU_INVALID_INPUT, DF11_GPU_NO_DEVICE, DF11_GPU_OTHER_DEVICE,
            DF11_GPU_RAW_FRAME,
        };
        let mut told = nothing();
        let text = match self {
            Failure::Input(text) => {
                told.status = DF11_GPU_INVALID_INPUT;
                (*text).to_owned()
            }
            Failure::Gpu(error) => {
                told.status = match error {
                    Error::NoDriver { .. } | Error::NoDevice { .. } | Error::TooOld { .. } => {
                        DF11_GPU_NO_DEVICE
                    }
                    Error::Driver(refusal) => {
                        told.code = refusal.code;
                        DF11_GPU_DRIVER
                    }
                    Error::Invalid(_) => DF11_GPU_INVALID_DATA,
                    Error::Block { item, block, .. } | Error::Checksum { item, block } => {
                        (told.item, told.block) = (*item, *block);
                        DF11_GPU_INVALID_DATA
                    }
                    Error::RawFrame => DF11_GPU_RAW_FRAME,
                    Error::Alignment { item, .. } => {
                        told.item = *item;
                        DF11_GPU_ALIGNMENT
                    }
                    Error::OtherDevice { .. } => DF11_GPU_OTHER_DEVICE,
                    Error::Capturing => DF11_GPU_CAPTURING,
                    Error::OtherBackend | Error::Length { .. } | Error::TooMuch => DF11_GPU_INVALID_INPUT,
                    _ => DF11_GPU_INTERNAL,
                };
                error.to_string()
            }
        };
        put(&mut told.message, &text);
        told
    }
}

const fn nothing() -> df11_gpu_error {
    df11_gpu_error { status: df11_gpu_status::DF11_GPU_OK, code: 0, item: 0, block: 0, message: [0; 480] }
}

/// Runs a function of the boundary: keeps panics in, and tells the caller what went wrong.
///
/// # Safety
///
/// `error` must be NULL or point to memory for a [`df11_gpu_error`] that can be written.
unsafe fn run(error: *mut df11_gpu_error, f: impl FnOnce() -> Result<(), Failure>) -> df11_gpu_status {
    // What a panic leaves behind is not used again: handles are given out at the end.
    let told = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => nothing(),
        Ok(Err(failure)) => failure.told(),
        Err(_) => {
            let mut told = nothing();
            told.status = df11_gpu_status::DF11_GPU_INTERNAL;
            put(&mut told.message, "a defect of the library: it panicked; please report it");
            told
        }
    };
    if !error.is_null() {
        // SAFETY: Not NULL; the caller's promise for the rest.
        unsafe { error.write(told) };
    }
    told.status
}

/// Looks at what a handle stands for.
///
/// # Safety
///
/// `handle` must be NULL or a handle that this library gave and that was not closed.
unsafe fn get<'a, T>(handle: *const T) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise; NULL is noticed.
    unsafe { handle.as_ref() }.ok_or(Failure::Input("a handle is NULL"))
}

/// Gives a new handle to the caller.
///
/// # Safety
///
/// `to` must be NULL or point to memory for a pointer that can be written.
unsafe fn give<T>(to: *mut *mut T, value: impl FnOnce() -> Result<T, Failure>) -> Result<(), Failure> {
    if to.is_null() {
        return Err(Failure::Input("the place for a handle is NULL"));
    }
    // SAFETY: Not NULL; the caller's promise for the rest.
    unsafe { to.write(std::ptr::null_mut()) };
    let made = Box::into_raw(Box::new(value()?));
    // SAFETY: as above.
    unsafe { to.write(made) };
    Ok(())
}

/// Frees a handle.
///
/// # Safety
///
/// As for [`get`]; nobody uses it after this.
unsafe fn close<T>(handle: *mut T) {
    if !handle.is_null() {
        // A panic must not cross; there should be none.
        // SAFETY: the caller's promise: `give` made it of a box.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(handle) })));
    }
}

impl df11_gpu_bytes {
    /// The bytes.
    ///
    /// # Safety
    ///
    /// `data` must point to `len` bytes that can be read, and that nobody writes while `'a` lasts;
    /// or be NULL.
    unsafe fn get<'a>(self) -> Result<&'a [u8], Failure> {
        if self.len == 0 {
            return Ok(&[]);
        }
        if self.data.is_null() || isize::try_from(self.len).is_err() {
            return Err(Failure::Input("a pointer to bytes is NULL, or their number impossible"));
        }
        // SAFETY: Not NULL, and no more than can be; the caller's promise for the rest.
        Ok(unsafe { std::slice::from_raw_parts(self.data, self.len) })
    }
}

/// Opens a device by its number, in its primary context.
///
/// # Safety
///
/// `gpu` must point to memory for a handle. Pointers to results may be NULL nowhere, `error`
/// anywhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_open(
    number: u32,
    gpu: *mut *mut df11_gpu,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(gpu, || Ok(df11_gpu(Gpu::open(number)?)))) }
}

/// Opens a device in the caller's context.
///
/// # Safety
///
/// As for df11_gpu_open. `context` must be a CUcontext that stays until every handle that was made
/// with the device is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_open_context(
    context: *mut c_void,
    gpu: *mut *mut df11_gpu,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(gpu, || Ok(df11_gpu(Gpu::from_context(context, &[])?)))) }
}

/// Opens the first of several emulated devices: kernels are run instruction by instruction on the
/// processor, for tests. From then on this process has no other driver; df11_gpu_open opens the
/// others.
///
/// # Safety
///
/// As for df11_gpu_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_open_emulated(
    devices: usize,
    gpu: *mut *mut df11_gpu,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let open = || {
        if !(1..=16).contains(&devices) {
            return Err(Failure::Input("there can be 1 to 16 emulated devices"));
        }
        Ok(df11_gpu(Gpu::emulated(Emulation { devices, ..Emulation::default() })?))
    };
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(gpu, open)) }
}

/// Closes a device. What was made with it stays as it is.
///
/// # Safety
///
/// `gpu` must be NULL or a handle that is not used after this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_close(gpu: *mut df11_gpu) {
    // SAFETY: the caller's promise.
    unsafe { close(gpu) }
}

/// The context of a device, a CUcontext; NULL for NULL.
///
/// # Safety
///
/// `gpu` must be NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_context(gpu: *const df11_gpu) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { gpu.as_ref() }.map_or(std::ptr::null_mut(), |gpu| gpu.0.context())
}

/// Checks a unit and uploads it. It is there when this returns, for every stream.
///
/// # Safety
///
/// `gpu` must be a handle; `parts` must point to parts whose bytes can be read; `unit` must point
/// to memory for a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_unit_upload(
    gpu: *const df11_gpu,
    parts: *const df11_gpu_parts,
    unit: *mut *mut df11_gpu_unit,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let upload = || {
        // SAFETY: the caller's promise.
        let (gpu, parts) = unsafe { (get(gpu)?, get(parts)?) };
        // SAFETY: as above.
        let bytes = |bytes: df11_gpu_bytes| unsafe { bytes.get() };
        let tensors = Parts {
            luts: bytes(parts.luts)?,
            encoded_exponent: bytes(parts.encoded_exponent)?,
            sign_mantissa: bytes(parts.sign_mantissa)?,
            output_positions: bytes(parts.output_positions)?,
            gaps: bytes(parts.gaps)?,
            split_positions: bytes(parts.split_positions)?,
        };
        Ok(df11_gpu_unit(gpu.0.upload(&tensors)?))
    };
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(unit, upload)) }
}

/// Takes a unit whose parts are in the memory of the device already, wherever they are. The prefix
/// tables are downloaded and checked; nothing else is copied.
///
/// # Safety
///
/// As for df11_gpu_unit_upload. Until the unit, and every batch that it is in, is closed: at each
/// address are as many bytes as `parts` says, in memory that kernels of this context can read, and
/// nobody writes them. They are there now: copies of them are done, not only enqueued. They need
/// not be a valid unit; weights are then unspecified, and that is all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_unit_adopt(
    gpu: *const df11_gpu,
    parts: *const df11_gpu_raw_unit,
    unit: *mut *mut df11_gpu_unit,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let adopt = || {
        // SAFETY: the caller's promise.
        let (gpu, parts) = unsafe { (get(gpu)?, *get(parts)?) };
        let df11_gpu_raw_unit {
            luts,
            codes,
            sign_mantissa,
            output_positions,
            gaps,
            tables,
            code_bytes,
            elements,
        } = parts;
        let raw =
            RawUnit { luts, codes, sign_mantissa, output_positions, gaps, tables, code_bytes, elements };
        // SAFETY: the caller's promise for what is at the addresses.
        Ok(df11_gpu_unit(unsafe { gpu.0.adopt(raw)? }))
    };
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(unit, adopt)) }
}

/// Closes a unit. Batches that it is in stay as they are.
///
/// # Safety
///
/// `unit` must be NULL or a handle that is not used after this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_unit_close(unit: *mut df11_gpu_unit) {
    // SAFETY: the caller's promise.
    unsafe { close(unit) }
}

/// Checks a frame, the checksums of its blocks included, and uploads it. It is there when this
/// returns, for every stream.
///
/// # Safety
///
/// `gpu` must be a handle, `bytes` those of a frame that can be read; `frame` must point to memory
/// for a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_frame_upload(
    gpu: *const df11_gpu,
    bytes: df11_gpu_bytes,
    frame: *mut *mut df11_gpu_frame,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let upload = || {
        // SAFETY: the caller's promise.
        let (gpu, bytes) = unsafe { (get(gpu)?, bytes.get()?) };
        Ok(df11_gpu_frame(gpu.0.upload_frame(&frame::Frame::new(bytes)?)?))
    };
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(frame, upload)) }
}

/// Takes a frame whose bytes are in the memory of the device already, wherever they are. The host's
/// copy is checked as df11_gpu_frame_upload does it, and says where everything is; it is not needed
/// after this.
///
/// # Safety
///
/// As for df11_gpu_frame_upload. Until the frame, and every batch that it is in, is closed: at the
/// address are the same bytes, in memory that kernels of this context can read, and nobody writes
/// them. They are there now: copies are done, not only enqueued.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_frame_adopt(
    gpu: *const df11_gpu,
    bytes: df11_gpu_bytes,
    address: u64,
    frame: *mut *mut df11_gpu_frame,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let adopt = || {
        // SAFETY: the caller's promise.
        let (gpu, bytes) = unsafe { (get(gpu)?, bytes.get()?) };
        let frame = frame::Frame::new(bytes)?;
        // SAFETY: the caller's promise for the bytes on the device.
        Ok(df11_gpu_frame(unsafe { gpu.0.adopt_frame(&frame, address)? }))
    };
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(frame, adopt)) }
}

/// Closes a frame. Batches that it is in stay as they are.
///
/// # Safety
///
/// `frame` must be NULL or a handle that is not used after this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_frame_close(frame: *mut df11_gpu_frame) {
    // SAFETY: the caller's promise.
    unsafe { close(frame) }
}

/// Prepares a batch: everything that takes long is done here, once. The units and frames may be
/// closed after this.
///
/// # Safety
///
/// `gpu` must be a handle, `items` point to as many items, of open units and frames; `batch` must
/// point to memory for a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_new(
    gpu: *const df11_gpu,
    items: *const df11_gpu_item,
    number: usize,
    batch: *mut *mut df11_gpu_batch,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let prepare = || {
        // SAFETY: the caller's promise.
        let gpu = unsafe { get(gpu)? };
        let can_be =
            number.checked_mul(size_of::<df11_gpu_item>()).is_some_and(|n| isize::try_from(n).is_ok());
        if number > 0 && (items.is_null() || !can_be) {
            return Err(Failure::Input("items are NULL, or their number impossible"));
        }
        let items: &[df11_gpu_item] = match number {
            0 => &[],
            // SAFETY: Not NULL, and no more than can be; the caller's promise for the rest.
            _ => unsafe { std::slice::from_raw_parts(items, number) },
        };
        let item = |item: &df11_gpu_item| {
            // SAFETY: the caller's promise.
            let parts = unsafe { (item.unit.as_ref(), item.frame.as_ref()) };
            match parts {
                (Some(unit), None) => Ok((Item::Unit(&unit.0), item.offset)),
                (None, Some(frame)) => Ok((Item::Frame(&frame.0), item.offset)),
                _ => Err(Failure::Input("an item is a unit or a frame, and the other NULL")),
            }
        };
        let items = items.iter().map(item).collect::<Result<Vec<_>, _>>()?;
        Ok(df11_gpu_batch(Batch::new(&gpu.0, &items)?))
    };
    // SAFETY: the caller's promise.
    unsafe { run(error, || give(batch, prepare)) }
}

/// Closes a batch.
///
/// # Safety
///
/// `batch` must be NULL or a handle that is not used after this; no stream, and no graph that is
/// still launched, decodes it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_close(batch: *mut df11_gpu_batch) {
    // SAFETY: the caller's promise.
    unsafe { close(batch) }
}

/// The bytes from the address that df11_gpu_batch_enqueue is given to the end of all outputs; 0 for
/// NULL.
///
/// # Safety
///
/// `batch` must be NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_output_bytes(batch: *const df11_gpu_batch) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { batch.as_ref() }.map_or(0, |batch| batch.0.output_bytes())
}

/// Decodes all items on a stream, to their offsets from `outputs`. Launches and returns: it
/// allocates nothing, copies nothing and waits for nothing, so the stream may be captured. Elements
/// must begin at multiples of their size; that is checked.
///
/// # Safety
///
/// `batch` must be a handle, `stream` a CUstream of its context, or NULL for the legacy stream.
/// From `outputs` on, kernels of the context must be able to write every item at its offset, and
/// nobody else may use what they write, until the stream is done. The batch, and what was adopted
/// for it, must stay until then; with a captured stream, as long as the graph is launched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_enqueue(
    batch: *const df11_gpu_batch,
    stream: *mut c_void,
    outputs: u64,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: the caller's promise.
    unsafe { run(error, || Ok(get(batch)?.0.enqueue(stream, outputs)?)) }
}

/// What kernels have found wrong with each item since this, or df11_gpu_batch_check, was called
/// last, on whatever stream. Waits for the stream.
///
/// # Safety
///
/// As for df11_gpu_batch_enqueue; on no other stream is the batch being decoded. `faults` must
/// point to memory for as many faults, one for each item.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_statuses(
    batch: *const df11_gpu_batch,
    stream: *mut c_void,
    faults: *mut df11_gpu_fault,
    number: usize,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    let read = || {
        // SAFETY: the caller's promise.
        let batch = unsafe { get(batch)? };
        if number != batch.0.len() || (number > 0 && faults.is_null()) {
            return Err(Failure::Input("there must be room for a fault for each item"));
        }
        // SAFETY: the caller's promise.
        for (at, fault) in unsafe { batch.0.statuses(stream)? }.into_iter().enumerate() {
            let mut told = df11_gpu_fault { is_wrong: 0, block: 0, clause: [0; 12] };
            if let Some(Fault { block, clause }) = fault {
                (told.is_wrong, told.block) = (1, block);
                put(&mut told.clause, clause);
            }
            // SAFETY: there are as many as the batch has items, by the caller's promise.
            unsafe { faults.add(at).write(told) };
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { run(error, read) }
}

/// The same, and DF11_GPU_INVALID_DATA if something is wrong with an item: `error` names the first,
/// its block and the clause.
///
/// # Safety
///
/// As for df11_gpu_batch_statuses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_check(
    batch: *const df11_gpu_batch,
    stream: *mut c_void,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: the caller's promise.
    unsafe { run(error, || Ok(get(batch)?.0.check(stream)?)) }
}

/// Compares the checksums of coded bytes of frames of codec rANS (FRAME.md, F-5.4) with what was
/// decoded: downloads all elements, and computes them on the processor. Kernels do not compare
/// them. Waits for the stream.
///
/// # Safety
///
/// As for df11_gpu_batch_enqueue, with the same `outputs`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_gpu_batch_compare_checksums(
    batch: *const df11_gpu_batch,
    stream: *mut c_void,
    outputs: u64,
    error: *mut df11_gpu_error,
) -> df11_gpu_status {
    // SAFETY: the caller's promise.
    unsafe { run(error, || Ok(get(batch)?.0.compare_checksums(stream, outputs)?)) }
}
