//! Frames: one tensor of any float type, with checksums.

use std::ops::Range;

use df11::frame::{self, BLOCK, Codec, DecodeTable, ElementType, Encoder, Frame, MAX_RANK};

use crate::boundary::{Opaque, apart, array, df11_buffer, df11_bytes, get, put, run, span, span_of, write};
use crate::status::{Failure, df11_error, df11_status};

/// The largest number of dimensions of a tensor in a frame.
pub const DF11_MAX_RANK: usize = 32;

/// Plain bytes, and any type without a number of its own.
pub const DF11_TYPE_U8: u8 = 0;
/// BF16.
pub const DF11_TYPE_BF16: u8 = 1;
/// IEEE 754 half precision.
pub const DF11_TYPE_F16: u8 = 2;
/// IEEE 754 single precision.
pub const DF11_TYPE_F32: u8 = 3;
/// 8 bits, 4 of them exponent.
pub const DF11_TYPE_F8_E4M3: u8 = 4;
/// 8 bits, 5 of them exponent.
pub const DF11_TYPE_F8_E5M2: u8 = 5;

/// The codec of a frame whose elements are kept as they are.
pub const DF11_CODEC_RAW: u8 = 0;
/// The codec of a frame with rANS.
pub const DF11_CODEC_RANS: u8 = 1;
/// The codec of a frame with a dictionary.
pub const DF11_CODEC_DICTIONARY: u8 = 3;

const _: () = assert!(DF11_MAX_RANK == MAX_RANK);
const _: () = assert!(Codec::Dictionary.number() == DF11_CODEC_DICTIONARY);
const _: () = assert!(ElementType::ALL[DF11_TYPE_F8_E5M2 as usize].number() == DF11_TYPE_F8_E5M2);

/// An open frame. It lies in the caller's memory, may be copied, and needs no closing. It borrows
/// the bytes that it was opened with, which must stay in place, unchanged, while it is used.
/// Several threads may use it at the same time.
#[repr(C)]
#[derive(Debug)]
pub struct df11_frame {
    /// Internal to the library.
    opaque: [u64; 128],
}

/// The table for decoding frames: 52 KiB, in the caller's memory. Several threads may use a table
/// that was built for a frame at the same time. It borrows nothing and needs no closing. Build it
/// where it stays: the table is aligned to a cache line, so a copy may be refused.
#[repr(C)]
#[derive(Debug)]
pub struct df11_table {
    /// Internal to the library.
    opaque: [u64; 6656],
}

/// The description of a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_frame_info {
    /// The element type: `DF11_TYPE_BF16` and so on.
    pub element_type: u8,
    /// The codec: `DF11_CODEC_RAW`, `DF11_CODEC_RANS` or `DF11_CODEC_DICTIONARY`.
    pub codec: u8,
    /// The number of dimensions.
    pub rank: usize,
    /// The dimensions; the last one is contiguous. The rest of the array is 0.
    pub shape: [u64; DF11_MAX_RANK],
    /// The number of elements.
    pub elements: usize,
    /// The size of the decoded elements in bytes.
    pub elements_bytes: usize,
    /// The number of blocks.
    pub blocks: usize,
    /// The number of elements of every block but the last, which may have fewer.
    pub block_elements: usize,
    /// The CRC-32 of all elements, as they were encoded.
    pub digest: u32,
}

/// The value in a [`df11_frame`].
#[derive(Clone, Debug)]
pub(crate) struct Open<'a>(Frame<'a>);

// SAFETY: the value borrows the bytes of the frame. The caller of every function here promises that
// they stay valid while the frame is used.
unsafe impl Opaque for df11_frame {
    type Value = Open<'static>;
    const MARK: u64 = u64::from_le_bytes(*b"df11fram");
}

// SAFETY: a table borrows nothing, so it may be returned for any lifetime.
unsafe impl Opaque for df11_table {
    type Value = DecodeTable;
    const MARK: u64 = u64::from_le_bytes(*b"df11rans");
}

/// Returns the element type of this number.
pub(crate) fn element_type(number: u8) -> Result<ElementType, Failure> {
    let found = ElementType::ALL.into_iter().find(|element_type| element_type.number() == number);
    found.ok_or(Failure::Input("the element type", "is unknown"))
}

/// Opens the frame in these bytes. Checks its header, its directory and its trailer, including
/// their checksums. The checksum of a block is checked when it is decoded. `frame` is memory of the
/// caller.
///
/// # Safety
///
/// `frame` must be valid for writes of a `df11_frame`, or NULL. `data` must be valid for reads of
/// `len` bytes, or NULL, and the bytes must stay unchanged while the frame is used. The frame must
/// not overlap with the bytes, which is checked. `error` must be valid for writes of a
/// `df11_error`, or NULL, and must not overlap with either.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_frame_open(
    frame: *mut df11_frame,
    data: *const u8,
    len: usize,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `df11_bytes::get` needs for `data` and `len`,
    // for as long as the frame is used, `put` for `frame`, and `run` for `error`.
    unsafe {
        run(error, || {
            let bytes = df11_bytes { data, len }.get()?;
            apart(frame, &[span(bytes)])?;
            put(frame, Open(Frame::new(bytes)?))
        })
    }
}

/// Describes a frame.
///
/// # Safety
///
/// `frame` must be valid for reads of a `df11_frame`, or NULL, and the bytes that it was opened
/// with must be unchanged. `info` must be valid for writes of a `df11_frame_info`, or NULL; it must
/// not overlap with the frame, which is checked. `error` must be valid for writes of a
/// `df11_error`, or NULL, and must not overlap with anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_frame_describe(
    frame: *const df11_frame,
    info: *mut df11_frame_info,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `get` needs for `frame`, `write` for `info`, and
    // `run` for `error`.
    unsafe {
        run(error, || {
            apart(info, &[span_of(frame)])?;
            let Open(frame) = get(frame)?;
            let header = frame.header();
            let mut shape = [0; DF11_MAX_RANK];
            let rank = shape.iter_mut().zip(header.shape()).map(|(to, dimension)| *to = dimension).count();
            write(
                info,
                df11_frame_info {
                    element_type: header.element_type().number(),
                    codec: header.codec().number(),
                    rank,
                    shape,
                    elements: header.len(),
                    elements_bytes: frame.elements_bytes(),
                    blocks: header.blocks(),
                    block_elements: header.block_len(),
                    digest: frame.digest(),
                },
            )
        })
    }
}

/// Builds the table for decoding the blocks of a frame, which takes some microseconds. `table` is
/// memory of the caller.
///
/// # Safety
///
/// `frame` must be valid for reads of a `df11_frame`, or NULL, and the bytes that it was opened
/// with must be unchanged. `table` must be valid for writes of a `df11_table`, or NULL; it must not
/// overlap with the frame or its bytes, which is checked. `error` must be valid for writes of a
/// `df11_error`, or NULL, and must not overlap with anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_frame_build_table(
    frame: *const df11_frame,
    table: *mut df11_table,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `get` needs for `frame`, `put` for `table`, and
    // `run` for `error`.
    unsafe {
        run(error, || {
            let place = span_of(frame);
            let Open(frame) = get(frame)?;
            apart(table, &[place, span(frame.as_bytes())])?;
            let mut built = DecodeTable::new();
            frame.build(&mut built);
            put(table, built)
        })
    }
}

/// Decodes some blocks of a frame, or all of them if `blocks` is `None`.
///
/// # Safety
///
/// The contract of [`get`](crate::boundary::get) holds for `frame` and `table`, that of
/// [`df11_buffer::get`] for `out`, and that of [`run`] for `error`.
unsafe fn decode(
    frame: *const df11_frame,
    table: *const df11_table,
    blocks: Option<Range<usize>>,
    out: df11_buffer,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: the caller promises the contracts of `get`, `df11_buffer::get` and `run` for these
    // arguments.
    unsafe {
        run(error, || {
            let (frame_place, table_place) = (span_of(frame), span_of(table));
            let Open(frame) = get(frame)?;
            let table = get(table)?;
            let out = out.get(&[span(frame.as_bytes()), frame_place, table_place])?;
            let blocks = blocks.unwrap_or(0..frame.header().blocks());
            Ok(frame.decode_blocks_into(table, blocks, out)?)
        })
    }
}

/// Decodes all elements of a frame, little-endian, with the table that was built for it. `out_len`
/// must be `elements_bytes`.
///
/// After a failure, the content of `out` is unspecified. The call fails if the frame needs a table
/// and this one was built for another frame. For more than 4 MiB of BF16, it takes 256 KiB from the
/// allocator while it runs.
///
/// # Safety
///
/// `frame` and `table` must be valid for reads of a `df11_frame` and a `df11_table`, or NULL, and
/// the bytes that the frame was opened with must be unchanged. `out` must be valid for writes of
/// `out_len` bytes, or NULL; it must not overlap with the frame, its bytes or the table, which is
/// checked. `error` must be valid for writes of a `df11_error`, or NULL, and must not overlap with
/// anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_frame_decode(
    frame: *const df11_frame,
    table: *const df11_table,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    let out = df11_buffer { data: out, len: out_len };
    // SAFETY: this function's caller promises what `decode` needs for its arguments.
    unsafe { decode(frame, table, None, out, error) }
}

/// Decodes the blocks from `first` to before `last`. `out_len` must be the size of their elements.
/// Calls for different blocks may run on different threads.
///
/// # Safety
///
/// The requirements are those of `df11_frame_decode`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_frame_decode_blocks(
    frame: *const df11_frame,
    table: *const df11_table,
    first: usize,
    last: usize,
    out: *mut u8,
    out_len: usize,
    error: *mut df11_error,
) -> df11_status {
    let out = df11_buffer { data: out, len: out_len };
    // SAFETY: this function's caller promises what `decode` needs for its arguments.
    unsafe { decode(frame, table, Some(first..last), out, error) }
}

/// Returns the largest size in bytes of a frame for a tensor of this type and shape; 0 if there can
/// be none.
///
/// # Safety
///
/// `shape` must be valid for reads of `rank` dimensions, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_frame_bound(element_type: u8, shape: *const u64, rank: usize) -> usize {
    // SAFETY: this function's caller promises what `array` needs for `shape` and `rank`.
    let shape = unsafe { array(shape, rank) };
    match (self::element_type(element_type), shape) {
        (Ok(element_type), Ok(shape)) if rank <= MAX_RANK => frame::bound(element_type, shape).unwrap_or(0),
        _ => 0,
    }
}

/// Encodes a tensor as a frame to `out`, which has room for `out_len` bytes, and sets `*written` to
/// the size of the frame. `df11_frame_bound` gives a size that is always enough. If compression
/// would not make the tensor smaller, the frame stores it uncompressed. While it runs, the call
/// takes less than 3 MiB, plus 64 bytes for every 65,536 elements, from the allocator.
///
/// # Safety
///
/// `shape` must be valid for reads of `rank` dimensions, or NULL, and `elements` for reads of
/// `elements_len` bytes, or NULL. `out` must be valid for writes of `out_len` bytes, or NULL; it
/// must not overlap with the elements or the shape, which is checked. `written` must be valid for
/// writes of a `size_t`, or NULL, and `error` for writes of a `df11_error`, or NULL. Neither may
/// overlap with anything else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_frame_encode(
    element_type: u8,
    shape: *const u64,
    rank: usize,
    elements: *const u8,
    elements_len: usize,
    out: *mut u8,
    out_len: usize,
    written: *mut usize,
    error: *mut df11_error,
) -> df11_status {
    // SAFETY: this function's caller promises what `df11_bytes::get` needs for `elements` and
    // `elements_len`, `array` for `shape` and `rank`, `df11_buffer::get` for `out` and `out_len`,
    // `write` for `written`, and `run` for `error`.
    unsafe {
        run(error, || {
            let element_type = self::element_type(element_type)?;
            let elements = df11_bytes { data: elements, len: elements_len }.get()?;
            let shape = array(shape, rank)?;
            if rank > MAX_RANK || frame::bound(element_type, shape).is_none() {
                return Err(Failure::Input(
                    "the shape",
                    "has too many dimensions, or more elements than can be counted",
                ));
            }
            let dimensions = shape.as_ptr_range();
            let dimensions = dimensions.start.addr()..dimensions.end.addr();
            let out = df11_buffer { data: out, len: out_len }.get(&[span(elements), dimensions])?;
            let len = encode(element_type, shape, elements, out)?;
            write(written, len)
        })
    }
}

/// Encodes the blocks of a frame, one after the other, straight into `out`.
fn encode(
    element_type: ElementType,
    shape: &[u64],
    elements: &[u8],
    out: &mut [u8],
) -> Result<usize, Failure> {
    /// The number of blocks that are encoded at a time.
    const BLOCKS_AT_A_TIME: usize = 4;
    let mut encoder = Encoder::new(element_type, shape, &frame::count(element_type, elements)?)?;
    let mut at = 0;
    let mut append = |bytes: &[u8]| {
        let room = out.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len()));
        room.ok_or(Failure::Input(
            "the output",
            "is too short for the frame; df11_frame_bound says what is enough",
        ))?
        .copy_from_slice(bytes);
        at += bytes.len();
        Ok::<(), Failure>(())
    };
    append(&encoder.header())?;
    for part in elements.chunks(BLOCKS_AT_A_TIME * BLOCK * element_type.bytes()) {
        append(encoder.blocks(part)?)?;
    }
    append(&encoder.finish()?)?;
    Ok(at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::mem::MaybeUninit;
    use std::ptr;

    #[test]
    fn frames_of_every_codec_are_described_and_come_back() {
        let elements: Vec<u8> = (0..70_000u32).flat_map(|i| (0x3c00 + i as u16 % 99).to_le_bytes()).collect();
        for codec in [Codec::Raw, Codec::Rans, Codec::Dictionary] {
            let options = frame::EncodeOptions::new().codec(codec);
            let bytes = options.encode(ElementType::Bf16, &[70_000], &elements).unwrap();
            let mut decoded = vec![0; elements.len()];
            let mut frame = Box::<df11_frame>::new_uninit();
            let mut table = Box::<df11_table>::new_uninit();
            let mut info = MaybeUninit::<df11_frame_info>::uninit();
            let (frame, table, info) = (frame.as_mut_ptr(), table.as_mut_ptr(), info.as_mut_ptr());
            let error = ptr::null_mut();
            // SAFETY: every pointer is to a live allocation of its type, and the bytes stay until
            // the end.
            unsafe {
                assert_eq!(df11_frame_open(frame, bytes.as_ptr(), bytes.len(), error), df11_status::DF11_OK);
                assert_eq!(df11_frame_describe(frame, info, error), df11_status::DF11_OK);
                assert_eq!((*info).codec, codec.number());
                assert_eq!(df11_frame_build_table(frame, table, error), df11_status::DF11_OK);
                let status = df11_frame_decode(frame, table, decoded.as_mut_ptr(), decoded.len(), error);
                assert_eq!(status, df11_status::DF11_OK);
            }
            assert!(decoded == elements, "{codec:?}");
        }
    }
}
