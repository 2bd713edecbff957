//! The archives of dietgpu.

use df11::dietgpu::{self, Archive, FloatArchive};
use df11::frame::ElementType;
use df11::frame::RansTable;

use crate::boundary::{df11_buffer, df11_bytes, run, span, write};
use crate::frame::{DF11_TYPE_U8, element_type};
use crate::status::{Failure, df11_error, df11_status};

/// What an archive of dietgpu holds.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_dietgpu_info {
    /// The type of its elements: F16, BF16 or F32 of a float archive, `DF11_TYPE_U8` of an archive
    /// of bytes.
    pub element_type: u8,
    /// The number of elements.
    pub elements: usize,
    /// The bytes that they take, decoded.
    pub elements_bytes: usize,
    /// The bytes of the archive; what follows it belongs to something else.
    pub archive_bytes: usize,
}

/// An archive of either kind.
enum Any<'a> {
    Bytes(Archive<'a>),
    Floats(FloatArchive<'a>),
}

impl<'a> Any<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Failure> {
        // They begin with different marks.
        if bytes.starts_with(&dietgpu::FLOAT_MAGIC.to_le_bytes()) {
            Ok(Any::Floats(FloatArchive::new(bytes)?))
        } else {
            Ok(Any::Bytes(Archive::new(bytes)?))
        }
    }
}

/// Checks an archive of dietgpu, of floats or of bytes, at the front of `data`, and says what it
/// holds.
///
/// # Safety
///
/// Pointers must be NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_dietgpu_describe(
    data: *const u8,
    len: usize,
    info: *mut df11_dietgpu_info,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: The caller's promises, passed on.
    unsafe {
        run(error, || {
            let (element_type, elements, archive_bytes) = match Any::new(df11_bytes { data, len }.get()?)? {
                Any::Bytes(archive) => (ElementType::U8, archive.len(), archive.archive_len()),
                Any::Floats(archive) => (archive.element_type(), archive.len(), archive.archive_len()),
            };
            write(
                info,
                df11_dietgpu_info {
                    element_type: element_type.number(),
                    elements,
                    elements_bytes: elements * element_type.bytes(),
                    archive_bytes,
                },
            )
        })
    }
}

/// Decodes an archive of dietgpu, of floats or of bytes; `out_len` must be its `elements_bytes`.
/// Uses some 30 KiB of stack, and the allocator for nothing.
///
/// If it fails, what is in `out` is unspecified.
///
/// # Safety
///
/// Pointers must be NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_dietgpu_decode(
    data: *const u8,
    len: usize,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: The caller's promises, passed on.
    unsafe {
        run(error, || {
            let bytes = df11_bytes { data, len }.get()?;
            let out = df11_buffer { data: out, len: out_len }.get(&[span(bytes)])?;
            let mut table = RansTable::new();
            Ok(match Any::new(bytes)? {
                Any::Bytes(archive) => archive.decode_in(&mut table, out),
                Any::Floats(archive) => archive.decode_in(&mut table, out),
            }?)
        })
    }
}

/// The most bytes that an archive of so many elements takes; 0 if there can be none.
#[unsafe(no_mangle)]
pub extern "C" fn df11_dietgpu_bound(element_type: u8, elements: usize) -> usize {
    let element_type = self::element_type(element_type).ok();
    element_type.and_then(|element_type| dietgpu::bound(element_type, elements)).unwrap_or(0)
}

/// Encodes elements as an archive of dietgpu, to `out`, which has room for `out_len` bytes;
/// `*written` is how many it took. `element_type` is F16, BF16 or F32, or `DF11_TYPE_U8` for an
/// archive of bytes; `scale_bits` is 9 to 11, and 10 in dietgpu itself; `checksum` says whether
/// there is to be one. It takes less than four times the size of the archive, and 40 KiB, from the
/// allocator while it runs.
///
/// # Safety
///
/// Pointers must be NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_dietgpu_encode(
    element_type: u8,
    elements: *const u8,
    elements_len: usize,
    scale_bits: u8,
    checksum: bool,
    out: *mut u8,
    out_len: usize,
    written: *mut usize,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: The caller's promises, passed on.
    unsafe {
        run(error, || {
            if !(9..=11).contains(&scale_bits) {
                return Err(Failure::Input("scale_bits", "must be 9 to 11"));
            }
            let number = element_type;
            let element_type = self::element_type(number)?;
            let elements = df11_bytes { data: elements, len: elements_len }.get()?;
            let count = elements.len() / element_type.bytes();
            if dietgpu::bound(element_type, count).is_none() || count * element_type.bytes() != elements.len()
            {
                return Err(Failure::Input(
                    "elements",
                    "are of a type without archives, not whole, or too many",
                ));
            }
            let out = df11_buffer { data: out, len: out_len }.get(&[span(elements)])?;
            let archive = if number == DF11_TYPE_U8 {
                dietgpu::encode(elements, scale_bits, checksum.into())?
            } else {
                dietgpu::encode_floats(element_type, elements, scale_bits, checksum.into())?
            };
            let room = out.get_mut(..archive.len()).ok_or(Failure::Input(
                "the output",
                "is too short for the archive; df11_dietgpu_bound says what is enough",
            ))?;
            room.copy_from_slice(&archive);
            write(written, archive.len())
        })
    }
}
