//! Whole checkpoints, for hosts with a file system.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::path::PathBuf;
use std::ptr;

use df11_model::Reader;

use crate::boundary::{df11_buffer, df11_bytes, run, write};
use crate::status::{Failure, df11_error, df11_status};
use crate::unit::df11_tensors;

/// An open checkpoint. Made by `df11_open`, ended by `df11_close`. Its files stay memory-mapped
/// meanwhile, and must not be changed. Many threads may use one at the same time.
#[derive(Debug)]
pub struct df11_checkpoint {
    reader: Reader,
    /// Names as C has them, in the order of the reader's tensors.
    names: Vec<[CString; 2]>,
    /// Module paths as C has them, in the order of the reader's units.
    paths: Vec<CString>,
}

/// A tensor of a checkpoint, as it was before compression. What is pointed to lives as long as the
/// checkpoint is open.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_tensor {
    /// Its name; up to the first zero byte, should it have one.
    pub name: *const c_char,
    /// The type of its elements, as safetensors calls it: "BF16", "F32", ….
    pub dtype: *const c_char,
    /// The number of dimensions.
    pub rank: usize,
    /// The dimensions, the last of which is contiguous; not to be followed if there are none.
    pub shape: *const usize,
    /// The bytes that it decodes to: its elements, little-endian.
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

/// A name, with a zero byte behind it; up to the first one, should it have one in the middle.
fn c_string(name: &str) -> CString {
    CString::new(name.split('\0').next().unwrap_or("")).unwrap_or_default()
}

/// A path from C.
fn path(path: &CStr) -> PathBuf {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        PathBuf::from(OsStr::from_bytes(path.to_bytes()))
    }
    #[cfg(not(unix))]
    PathBuf::from(OsStr::new(&*path.to_string_lossy()))
}

/// Reads a text of the caller.
///
/// # Safety
///
/// `text` must be NULL or point to bytes that end with a zero byte, and that nobody writes while
/// `'a` lasts.
unsafe fn text<'a>(text: *const c_char) -> Result<&'a CStr, Failure> {
    if text.is_null() {
        return Err(Failure::Input("a text", "is NULL"));
    }
    // SAFETY: Not NULL; the caller's promise for the rest.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// Looks at an open checkpoint.
///
/// # Safety
///
/// `checkpoint` must be NULL or come from `df11_open`, and must not be closed while `'a` lasts.
unsafe fn open<'a>(checkpoint: *const df11_checkpoint) -> Result<&'a df11_checkpoint, Failure> {
    // SAFETY: NULL, or made by `Box::into_raw` and not freed yet, as the caller promises; it is
    // never written.
    unsafe { checkpoint.as_ref() }.ok_or(Failure::Input("the checkpoint", "is NULL"))
}

/// Opens a checkpoint: one safetensors file, or a directory with `config.json` and weights,
/// compressed (units of DF11, by this library or the published program, or frames) or not. Maps its
/// files into memory; decodes nothing yet. `path` is in UTF-8 on Windows, and in the bytes of the
/// file system elsewhere.
///
/// `*checkpoint` is the caller's to close; it is NULL if this fails.
///
/// # Safety
///
/// Pointers must be NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_open(
    path: *const c_char,
    checkpoint: *mut *mut df11_checkpoint,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: The caller's promises, passed on.
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

/// Closes a checkpoint. What it pointed out, names and parts of units among them, is gone then.
/// NULL is closed already.
///
/// # Safety
///
/// `checkpoint` must be NULL or come from `df11_open`, and not be closed yet; nobody may use it any
/// more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_close(checkpoint: *mut df11_checkpoint) {
    if !checkpoint.is_null() {
        // SAFETY: Made by `Box::into_raw`, and not freed yet, as the caller promises.
        drop(unsafe { Box::from_raw(checkpoint) });
    }
}

/// The number of tensors; 0 for NULL.
///
/// # Safety
///
/// `checkpoint` must be NULL or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_tensor_count(checkpoint: *const df11_checkpoint) -> usize {
    // SAFETY: The caller's promise.
    unsafe { open(checkpoint) }.map_or(0, |checkpoint| checkpoint.names.len())
}

/// Describes the tensor of this number, in the order of names, which begins at 0.
///
/// # Safety
///
/// `checkpoint` must be NULL or open; other pointers NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_tensor_at(
    checkpoint: *const df11_checkpoint,
    index: usize,
    tensor: *mut df11_tensor,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: The caller's promises, passed on.
    unsafe { run(error, || write(tensor, open(checkpoint)?.tensor(index)?)) }
}

/// Describes the tensor of this name.
///
/// # Safety
///
/// `checkpoint` must be NULL or open; other pointers NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_tensor_find(
    checkpoint: *const df11_checkpoint,
    name: *const c_char,
    tensor: *mut df11_tensor,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: The caller's promises, passed on.
    unsafe {
        run(error, || {
            let (checkpoint, name) = (open(checkpoint)?, text(name)?);
            let found = checkpoint.names.binary_search_by(|[other, _]| other.as_c_str().cmp(name)).ok();
            let found = found.ok_or(Failure::Input("the name", "is that of no tensor in this checkpoint"))?;
            write(tensor, checkpoint.tensor(found)?)
        })
    }
}

/// Decodes something of a tensor.
///
/// # Safety
///
/// As [`open`] for `checkpoint`, [`text`] for `name`, [`df11_buffer::get`] for `out`, [`run`] for
/// `error`.
unsafe fn decode(
    checkpoint: *const df11_checkpoint,
    name: *const c_char,
    out: df11_buffer,
    error: *mut df11_error,
    f: impl FnOnce(&Reader, &str, &mut [u8]) -> Result<(), df11_model::Error>,
) -> df11_status {
    // SAFETY: The caller's promises, passed on. The files are mapped for reading alone: `out`
    // cannot overlap with them and be memory that can be written, as the caller promises it is.
    unsafe {
        run(error, || {
            let out = out.get(&[])?;
            Ok(f(&open(checkpoint)?.reader, &text(name)?.to_string_lossy(), out)?)
        })
    }
}

/// Decodes a tensor to `out`; `out_len` must be its `bytes`. Works on the calling thread, and takes
/// up to 300 KiB from the allocator while it runs.
///
/// If it fails, what is in `out` is unspecified.
///
/// # Safety
///
/// `checkpoint` must be NULL or open; other pointers NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_tensor_decode(
    checkpoint: *const df11_checkpoint,
    name: *const c_char,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    let out = df11_buffer { data: out, len: out_len };
    // SAFETY: The caller's promises, passed on.
    unsafe { decode(checkpoint, name, out, error, |reader, name, out| reader.decode_into(name, out)) }
}

/// Decodes the elements from `start` to before `end` of a tensor, in the order in which they are
/// stored: rows of a matrix, say.
///
/// # Safety
///
/// `checkpoint` must be NULL or open; other pointers NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_tensor_decode_range(
    checkpoint: *const df11_checkpoint,
    name: *const c_char,
    start: u64,
    end: u64,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    let out = df11_buffer { data: out, len: out_len };
    // SAFETY: The caller's promises, passed on.
    unsafe {
        decode(checkpoint, name, out, error, |reader, name, out| {
            reader.decode_range_into(name, start..end, out)
        })
    }
}

/// The number of units; 0 in a checkpoint of frames, in one that is not compressed, and for NULL.
///
/// # Safety
///
/// `checkpoint` must be NULL or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_count(checkpoint: *const df11_checkpoint) -> usize {
    // SAFETY: The caller's promise.
    unsafe { open(checkpoint) }.map_or(0, |checkpoint| checkpoint.paths.len())
}

/// Gives the parts of a unit, where they lie in the mapped file, for `df11_unit_open`; and its
/// module path, if `path` is not NULL. They live as long as the checkpoint is open.
///
/// # Safety
///
/// `checkpoint` must be NULL or open; other pointers NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_unit_at(
    checkpoint: *const df11_checkpoint,
    index: usize,
    tensors: *mut df11_tensors,
    path: *mut *const c_char,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: The caller's promises, passed on.
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
