//! Reads whole checkpoints, for hosts with a file system.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::path::PathBuf;
use std::ptr;

use df11_model::Reader;

use crate::boundary::{df11_buffer, df11_bytes, run, write};
use crate::status::{Failure, df11_error, df11_status};
use crate::unit::df11_tensors;

/// An open checkpoint. `df11_checkpoint_open` makes it, `df11_checkpoint_close` ends it. Its files
/// stay memory-mapped meanwhile, and must not be changed. Several threads may use it at the same
/// time.
#[derive(Debug)]
pub struct df11_checkpoint {
    reader: Reader,
    /// Names and element types as C strings, in the order of the reader's tensors.
    names: Vec<[CString; 2]>,
    /// Module paths as C strings, in the order of the reader's units.
    paths: Vec<CString>,
}

/// A tensor of a checkpoint, as it was before compression. Its pointers are valid while the
/// checkpoint is open.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_tensor {
    /// The tensor's name, cut at its first zero byte if it contains one.
    pub name: *const c_char,
    /// The element type, as safetensors names it: "BF16", "F32", ….
    pub dtype: *const c_char,
    /// The number of dimensions.
    pub rank: usize,
    /// The dimensions; the last one is contiguous. Do not dereference this pointer when `rank` is
    /// 0.
    pub shape: *const usize,
    /// The size of the decoded elements in bytes; they are little-endian.
    pub bytes: u64,
}

impl df11_checkpoint {
    fn tensor(&self, index: usize) -> Result<df11_tensor, Failure> {
        let (tensor, names) = self
            .reader
            .tensors()
            .nth(index)
            .zip(self.names.get(index))
            .ok_or(Failure::Input("the number of a tensor", "is none of this checkpoint"))?;
        let [name, dtype] = names;
        let shape = tensor.shape();
        Ok(df11_tensor {
            name: name.as_ptr(),
            dtype: dtype.as_ptr(),
            rank: shape.len(),
            shape: shape.as_ptr(),
            bytes: tensor.bytes(),
        })
    }
}

/// Converts a name to a C string. A name with a zero byte in the middle is cut there.
fn c_string(name: &str) -> CString {
    CString::new(name.split('\0').next().unwrap_or("")).unwrap_or_default()
}

/// Converts a C string to a path.
fn path(path: &CStr) -> PathBuf {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        PathBuf::from(OsStr::from_bytes(path.to_bytes()))
    }
    #[cfg(not(unix))]
    PathBuf::from(OsStr::new(&*path.to_string_lossy()))
}

/// Borrows a text of the caller.
///
/// # Safety
///
/// `text` must be NULL, or point to bytes that end with a zero byte and that no one writes during
/// `'a`.
unsafe fn text<'a>(text: *const c_char) -> Result<&'a CStr, Failure> {
    if text.is_null() {
        return Err(Failure::Input("a text", "is NULL"));
    }
    // SAFETY: `text` is not NULL. The caller promises that it ends with a zero byte and is not
    // written during `'a`.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// Borrows an open checkpoint.
///
/// # Safety
///
/// `checkpoint` must be NULL, or come from `df11_checkpoint_open` and stay open during `'a`.
unsafe fn open<'a>(checkpoint: *const df11_checkpoint) -> Result<&'a df11_checkpoint, Failure> {
    // SAFETY: the pointer is NULL, or was made by `Box::into_raw` and is not freed yet, as the
    // caller promises. The checkpoint is never written.
    unsafe { checkpoint.as_ref() }.ok_or(Failure::Input("the checkpoint", "is NULL"))
}

/// Opens a checkpoint: one safetensors file, or a directory with `config.json` and weights. It may
/// be compressed (as units of DF11, by this library or the published program, or as frames) or not.
/// Maps its files into memory, and decodes nothing yet. `path` is UTF-8 on Windows, and in the
/// bytes of the file system elsewhere.
///
/// The caller must close `*checkpoint`. It is NULL after a failure.
///
/// # Safety
///
/// `path` must be a text that ends with a zero byte, or NULL. `checkpoint` must be valid for writes
/// of a pointer, or NULL. `error` must be valid for writes of a `df11_error`, or NULL. None may
/// overlap with another.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_checkpoint_open(
    path: *const c_char,
    checkpoint: *mut *mut df11_checkpoint,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `text` needs for `path`, `write` for
    // `checkpoint`, and `run` for `error`.
    unsafe {
        run(error, || {
            write(checkpoint, ptr::null_mut())?;
            let reader = Reader::open(self::path(text(path)?))?;
            let names =
                reader.tensors().map(|tensor| [tensor.name(), tensor.dtype()].map(c_string)).collect();
            let paths = reader.units().iter().map(|unit| c_string(unit.path())).collect();
            let opened = Box::new(df11_checkpoint { reader, names, paths });
            write(checkpoint, Box::into_raw(opened))
        })
    }
}

/// Closes a checkpoint. All pointers that it gave out, such as names and parts of units, become
/// invalid. Closing NULL does nothing.
///
/// # Safety
///
/// `checkpoint` must be NULL, or come from `df11_checkpoint_open` and not be closed yet. No one may
/// use it, or any pointer that it gave out, after this call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_checkpoint_close(checkpoint: *mut df11_checkpoint) {
    if !checkpoint.is_null() {
        // SAFETY: the pointer was made by `Box::into_raw` and is not freed yet, as the caller
        // promises.
        drop(unsafe { Box::from_raw(checkpoint) });
    }
}

/// Returns the number of tensors; 0 for NULL.
///
/// # Safety
///
/// `checkpoint` must be NULL or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_checkpoint_tensor_count(checkpoint: *const df11_checkpoint) -> usize {
    // SAFETY: this function's caller promises what `open` needs: NULL or an open checkpoint.
    unsafe { open(checkpoint) }.map_or(0, |checkpoint| checkpoint.names.len())
}

/// Describes the tensor of this number. Numbers begin at 0 and follow the order of names.
///
/// # Safety
///
/// `checkpoint` must be NULL or open. `tensor` must be valid for writes of a `df11_tensor`, or
/// NULL, and `error` for writes of a `df11_error`, or NULL. The two must not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_checkpoint_tensor(
    checkpoint: *const df11_checkpoint,
    index: usize,
    tensor: *mut df11_tensor,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `open` needs for `checkpoint`, `write` for
    // `tensor`, and `run` for `error`.
    unsafe { run(error, || write(tensor, open(checkpoint)?.tensor(index)?)) }
}

/// Describes the tensor of this name.
///
/// # Safety
///
/// `checkpoint` must be NULL or open. `name` must be a text that ends with a zero byte, or NULL.
/// `tensor` must be valid for writes of a `df11_tensor`, or NULL, and `error` for writes of a
/// `df11_error`, or NULL. What is written must not overlap with anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_checkpoint_find(
    checkpoint: *const df11_checkpoint,
    name: *const c_char,
    tensor: *mut df11_tensor,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `open` needs for `checkpoint`, `text` for
    // `name`, `write` for `tensor`, and `run` for `error`.
    unsafe {
        run(error, || {
            let (checkpoint, name) = (open(checkpoint)?, text(name)?);
            let found = checkpoint.names.binary_search_by(|[other, _]| other.as_c_str().cmp(name)).ok();
            let found = found.ok_or(Failure::Input("the name", "is that of no tensor in this checkpoint"))?;
            write(tensor, checkpoint.tensor(found)?)
        })
    }
}

/// Decodes a tensor, or a range of it, with `f`.
///
/// # Safety
///
/// The contract of [`open`] holds for `checkpoint`, that of [`text`] for `name`, that of
/// [`df11_buffer::get`] for `out`, and that of [`run`] for `error`.
unsafe fn decode(
    checkpoint: *const df11_checkpoint,
    name: *const c_char,
    out: df11_buffer,
    error: *mut df11_error,
    f: impl FnOnce(&Reader, &str, &mut [u8]) -> Result<(), df11_model::Error>,
) -> df11_status {
    // SAFETY: the caller promises the contracts of `open`, `text`, `df11_buffer::get` and `run` for
    // these arguments. The files are mapped read-only, so `out`, which the caller promises to be
    // writable, cannot overlap with them.
    unsafe {
        run(error, || {
            let out = out.get(&[])?;
            Ok(f(&open(checkpoint)?.reader, &text(name)?.to_string_lossy(), out)?)
        })
    }
}

/// Decodes a tensor to `out`. `out_len` must be its `bytes`. The call runs on the calling thread,
/// and takes up to 300 KiB from the allocator while it runs.
///
/// After a failure, the content of `out` is unspecified.
///
/// # Safety
///
/// `checkpoint` must be NULL or open. `name` must be a text that ends with a zero byte, or NULL.
/// `out` must be valid for writes of `out_len` bytes, or NULL, and `error` for writes of a
/// `df11_error`, or NULL. What is written must not overlap with anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_checkpoint_decode(
    checkpoint: *const df11_checkpoint,
    name: *const c_char,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    let out = df11_buffer { data: out, len: out_len };
    // SAFETY: this function's caller promises what `decode` needs for its arguments.
    unsafe { decode(checkpoint, name, out, error, |reader, name, out| reader.decode_into(name, out)) }
}

/// Decodes the elements from `start` to before `end` of a tensor, in the order in which they are
/// stored, such as rows of a matrix. `out_len` must be the size of these elements.
///
/// # Safety
///
/// `checkpoint` must be NULL or open. `name` must be a text that ends with a zero byte, or NULL.
/// `out` must be valid for writes of `out_len` bytes, or NULL, and `error` for writes of a
/// `df11_error`, or NULL. What is written must not overlap with anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_checkpoint_decode_range(
    checkpoint: *const df11_checkpoint,
    name: *const c_char,
    start: u64,
    end: u64,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    let out = df11_buffer { data: out, len: out_len };
    // SAFETY: this function's caller promises what `decode` needs for its arguments.
    unsafe {
        decode(checkpoint, name, out, error, |reader, name, out| {
            reader.decode_range_into(name, start..end, out)
        })
    }
}

/// Returns the number of units. It is 0 for a checkpoint of frames, for one that is not compressed,
/// and for NULL.
///
/// # Safety
///
/// `checkpoint` must be NULL or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_checkpoint_unit_count(checkpoint: *const df11_checkpoint) -> usize {
    // SAFETY: this function's caller promises what `open` needs: NULL or an open checkpoint.
    unsafe { open(checkpoint) }.map_or(0, |checkpoint| checkpoint.paths.len())
}

/// Gives the parts of a unit, where they lie in the mapped file, for `df11_unit_open`. If `path` is
/// not NULL, it also gives the module path. All pointers are valid while the checkpoint is open.
///
/// # Safety
///
/// `checkpoint` must be NULL or open. `tensors` must be valid for writes of a `df11_tensors`, or
/// NULL, `path` for writes of a pointer, or NULL, and `error` for writes of a `df11_error`, or
/// NULL. None may overlap with another.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_checkpoint_unit(
    checkpoint: *const df11_checkpoint,
    index: usize,
    tensors: *mut df11_tensors,
    path: *mut *const c_char,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `open` needs for `checkpoint`, `write` for
    // `path` and `tensors`, and `run` for `error`.
    unsafe {
        run(error, || {
            let checkpoint = open(checkpoint)?;
            let parts = checkpoint.reader.unit_parts(index);
            let parts = parts.ok_or(Failure::Input("the number of a unit", "is none of this checkpoint"))?;
            let [luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions] =
                parts.into_array().map(|part| df11_bytes { data: part.as_ptr(), len: part.len() });
            let parts = df11_tensors {
                luts,
                encoded_exponent,
                sign_mantissa,
                output_positions,
                gaps,
                split_positions,
            };
            if !path.is_null() {
                write(path, checkpoint.paths[index].as_ptr())?;
            }
            write(tensors, parts)
        })
    }
}
