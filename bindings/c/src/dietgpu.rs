//! Archives of dietgpu.

use df11::dietgpu::{self, Archive, FloatArchive};
use df11::frame::ElementType;
use df11::frame::RansTable;

use crate::boundary::{df11_buffer, df11_bytes, run, span, write};
use crate::frame::{DF11_TYPE_U8, element_type};
use crate::status::{Failure, df11_error, df11_status};

/// The description of a dietgpu archive.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_dietgpu_info {
    /// The element type: F16, BF16 or F32 for a float archive, `DF11_TYPE_U8` for an archive of
    /// bytes.
    pub element_type: u8,
    /// The number of elements.
    pub elements: usize,
    /// The size of the decoded elements in bytes.
    pub elements_bytes: usize,
    /// The size of the archive in bytes. Bytes behind it are ignored.
    pub archive_bytes: usize,
}

/// An archive of either kind.
enum Any<'a> {
    Bytes(Archive<'a>),
    Floats(FloatArchive<'a>),
}

impl<'a> Any<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Failure> {
        // The two kinds begin with different marks.
        if bytes.starts_with(&dietgpu::FLOAT_MAGIC.to_le_bytes()) {
            Ok(Any::Floats(FloatArchive::new(bytes)?))
        } else {
            Ok(Any::Bytes(Archive::new(bytes)?))
        }
    }
}

/// Checks the archive of dietgpu, of floats or of bytes, at the front of `data`, and describes it.
///
/// # Safety
///
/// `data` must be valid for reads of `len` bytes, or NULL. `info` must be valid for writes of a
/// `df11_dietgpu_info`, or NULL. `error` must be valid for writes of a `df11_error`, or NULL. What
/// is written must not overlap with the archive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_dietgpu_describe(
    data: *const u8,
    len: usize,
    info: *mut df11_dietgpu_info,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `get` needs for `data` and `len`, `write` for
    // `info`, and `run` for `error`.
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

/// Decodes an archive of dietgpu, of floats or of bytes. `out_len` must be its `elements_bytes`.
/// The call uses some 30 KiB of stack and no allocator.
///
/// After a failure, the content of `out` is unspecified.
///
/// # Safety
///
/// `data` must be valid for reads of `len` bytes, or NULL. `out` must be valid for writes of
/// `out_len` bytes, or NULL; it must not overlap with the archive, which is checked. `error` must
/// be valid for writes of a `df11_error`, or NULL, and must not overlap with either.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_dietgpu_decode(
    data: *const u8,
    len: usize,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `df11_bytes::get` needs for `data` and `len`,
    // `df11_buffer::get` for `out` and `out_len`, and `run` for `error`.
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

/// Returns the largest size in bytes of an archive of this many elements; 0 if there can be none.
#[unsafe(no_mangle)]
pub extern "C" fn df11_dietgpu_bound(element_type: u8, elements: usize) -> usize {
    let element_type = self::element_type(element_type).ok();
    element_type.and_then(|element_type| dietgpu::bound(element_type, elements)).unwrap_or(0)
}

/// Encodes elements as an archive of dietgpu to `out`, which has room for `out_len` bytes, and sets
/// `*written` to the size of the archive. `element_type` is F16, BF16 or F32, or `DF11_TYPE_U8` for
/// an archive of bytes. `scale_bits` is 9 to 11; dietgpu itself uses 10. `checksum` says whether
/// the archive gets a checksum. While it runs, the call takes less than four times the size of the
/// archive, plus 40 KiB, from the allocator.
///
/// # Safety
///
/// `elements` must be valid for reads of `elements_len` bytes, or NULL. `out` must be valid for
/// writes of `out_len` bytes, or NULL; it must not overlap with the elements, which is checked.
/// `written` must be valid for writes of a `size_t`, or NULL, and `error` for writes of a
/// `df11_error`, or NULL. Neither may overlap with anything else.
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
    // SAFETY: this function's caller promises what `df11_bytes::get` needs for `elements` and
    // `elements_len`, `df11_buffer::get` for `out` and `out_len`, `write` for `written`, and `run`
    // for `error`.
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
