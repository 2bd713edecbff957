//! zstd, and huff0, the Huffman coder inside it.

#![expect(unsafe_code, reason = "calls C")]

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::ptr::NonNull;

use zstd_sys::{
    ZSTD_CCtx, ZSTD_CCtx_setParameter, ZSTD_DCtx, ZSTD_cParameter, ZSTD_compress2, ZSTD_compressBound,
    ZSTD_createCCtx, ZSTD_createDCtx, ZSTD_decompressDCtx, ZSTD_freeCCtx, ZSTD_freeDCtx, ZSTD_getErrorName,
    ZSTD_isError, ZSTD_strategy,
};

use crate::Result;
use crate::codec::{ByteCodec, Codec};

// From `huf.h`, which zstd does not install; the static library exports the symbols.
unsafe extern "C" {
    fn HUF_compressBound(size: usize) -> usize;
    fn HUF_compress4X_repeat(
        dst: *mut c_void,
        dst_size: usize,
        src: *const c_void,
        src_size: usize,
        max_symbol: c_uint,
        table_log: c_uint,
        workspace: *mut c_void,
        workspace_size: usize,
        table: *mut usize,
        repeat: *mut c_int,
        flags: c_int,
    ) -> usize;
    fn HUF_readDTableX2_wksp(
        table: *mut u32,
        src: *const c_void,
        src_size: usize,
        workspace: *mut c_void,
        workspace_size: usize,
        flags: c_int,
    ) -> usize;
    fn HUF_decompress4X_usingDTable(
        dst: *mut c_void,
        dst_size: usize,
        src: *const c_void,
        src_size: usize,
        table: *const u32,
        flags: c_int,
    ) -> usize;
}

/// Returns the version of the library.
pub(crate) fn version() -> String {
    // SAFETY: the function takes nothing and returns a constant string that ends with a zero.
    unsafe { CStr::from_ptr(zstd_sys::ZSTD_versionString()) }.to_string_lossy().into_owned()
}

/// Returns the size that a function of zstd or of huff0 returned, or its error.
fn checked(code: usize) -> Result<usize> {
    // SAFETY: both functions use only the number. The name is a constant string that ends with a
    // zero.
    unsafe {
        match ZSTD_isError(code) {
            0 => Ok(code),
            _ => Err(CStr::from_ptr(ZSTD_getErrorName(code)).to_string_lossy().into()),
        }
    }
}

/// The longest codeword that zstd allows for literals, in bits.
const TABLE_LOG: c_uint = 11;

/// `HUF_TABLELOG_MAX`, for which a decoding table must have room.
const TABLE_LOG_MAX: u32 = 12;

/// `HUF_flags_bmi2`.
const BMI2: c_int = 1;

/// huff0 with four streams to a block, decoded by the tables that give up to two symbols a look-up.
pub(crate) struct Huff0 {
    /// More than each function needs: `HUF_WORKSPACE_SIZE` is 8,704 bytes,
    /// `HUF_DECOMPRESS_WORKSPACE_SIZE` 2,560.
    workspace: Vec<u64>,
    /// `HUF_CTABLE_SIZE_ST(255)` entries.
    encoding: Vec<usize>,
    /// `HUF_DTABLE_SIZE(12)` entries.
    decoding: Vec<u32>,
    flags: c_int,
}

impl Huff0 {
    pub(crate) fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        let bmi2 = std::arch::is_x86_feature_detected!("bmi2");
        #[cfg(not(target_arch = "x86_64"))]
        let bmi2 = false;
        Huff0 {
            workspace: vec![1; 2000],
            encoding: vec![0; 257],
            decoding: vec![0; 1 + (1 << TABLE_LOG_MAX)],
            flags: if bmi2 { BMI2 } else { 0 },
        }
    }
}

impl ByteCodec for Huff0 {
    const BLOCK: usize = 128 << 10; // HUF_BLOCKSIZE_MAX

    fn bound(&self) -> usize {
        // SAFETY: the function only computes a number from numbers.
        unsafe { HUF_compressBound(Self::BLOCK) }
    }

    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<usize> {
        let mut repeat = 0; // HUF_repeat_none: a table of its own for every block, as zstd begins.
        // SAFETY: every pointer is passed with the size of its memory. The workspace is aligned to
        // 8 bytes and larger than HUF_WORKSPACE_SIZE. `encoding` has the entries that 255 as
        // largest symbol needs. The flag states that the CPU has BMI2 only where it was detected.
        let size = checked(unsafe {
            HUF_compress4X_repeat(
                out.as_mut_ptr().cast(),
                out.len(),
                block.as_ptr().cast(),
                block.len(),
                255,
                TABLE_LOG,
                self.workspace.as_mut_ptr().cast(),
                size_of_val(self.workspace.as_slice()),
                self.encoding.as_mut_ptr(),
                &mut repeat,
                self.flags,
            )
        })?;
        // 0 means that the block would not shrink; 1 means a single symbol. zstd stores such blocks
        // in other ways, which are not measured here.
        if size > 1 { Ok(size) } else { Err("huff0 leaves a block of these weights to its caller".into()) }
    }

    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<()> {
        // HUF_CREATE_STATIC_DTABLEX2: the first entry tells the size of the table, and is
        // overwritten with each.
        self.decoding[0] = TABLE_LOG_MAX * 0x0100_0001;
        // SAFETY: every pointer is passed with the size of its memory, and `decoding` has the
        // number of entries that its first one states. The workspace is aligned to 8 bytes and
        // larger than HUF_DECOMPRESS_WORKSPACE_SIZE. The flag states BMI2 only where it was
        // detected.
        let header = checked(unsafe {
            HUF_readDTableX2_wksp(
                self.decoding.as_mut_ptr(),
                compressed.as_ptr().cast(),
                compressed.len(),
                self.workspace.as_mut_ptr().cast(),
                size_of_val(self.workspace.as_slice()),
                self.flags,
            )
        })?;
        let code = &compressed[header..];
        // SAFETY: every pointer is passed with the size of its memory. The table was just filled.
        let size = checked(unsafe {
            HUF_decompress4X_usingDTable(
                block.as_mut_ptr().cast(),
                block.len(),
                code.as_ptr().cast(),
                code.len(),
                self.decoding.as_ptr(),
                self.flags,
            )
        })?;
        if size == block.len() { Ok(()) } else { Err("huff0 restored a block of another length".into()) }
    }
}

/// Frames of zstd.
pub(crate) struct Frames {
    compressor: NonNull<ZSTD_CCtx>,
    decompressor: NonNull<ZSTD_DCtx>,
}

impl Frames {
    /// Makes frames with these parameters. The others keep their defaults: the content's size, no
    /// checksum, one thread.
    fn new(parameters: &[(ZSTD_cParameter, c_int)]) -> Result<Self> {
        // SAFETY: both functions return a context of our own, or null.
        let (compressor, decompressor) = unsafe { (ZSTD_createCCtx(), ZSTD_createDCtx()) };
        let frames = Frames {
            compressor: NonNull::new(compressor).ok_or("zstd: no memory for a context")?,
            decompressor: NonNull::new(decompressor).ok_or("zstd: no memory for a context")?,
        };
        for &(parameter, value) in parameters {
            // SAFETY: the context is alive and no one else has it. The function checks the values.
            checked(unsafe { ZSTD_CCtx_setParameter(frames.compressor.as_ptr(), parameter, value) })?;
        }
        Ok(frames)
    }

    /// Makes frames at a level of the command line.
    pub(crate) fn level(level: c_int) -> Result<Self> {
        Self::new(&[(ZSTD_cParameter::ZSTD_c_compressionLevel, level)])
    }

    /// Makes frames with Huffman-coded literals and almost no search for matches: the fast
    /// strategy, with the longest possible stride. Literal compression must be requested, since
    /// zstd otherwise leaves literals raw at this stride.
    pub(crate) fn literals_only() -> Result<Self> {
        const STRIDE: c_int = 128 << 10; // ZSTD_TARGETLENGTH_MAX
        const ENABLE: c_int = 1; // ZSTD_ps_enable
        Self::new(&[
            (ZSTD_cParameter::ZSTD_c_compressionLevel, 1),
            (ZSTD_cParameter::ZSTD_c_strategy, ZSTD_strategy::ZSTD_fast as c_int),
            (ZSTD_cParameter::ZSTD_c_targetLength, STRIDE),
            (ZSTD_cParameter::ZSTD_c_hashLog, 6), // ZSTD_HASHLOG_MIN: cleared for each frame
            (ZSTD_cParameter::ZSTD_c_experimentalParam5, ENABLE), // ZSTD_c_literalCompressionMode
        ])
    }

    /// Prepares for whole weights of this many bytes in one frame.
    pub(crate) fn whole(self, bytes: usize) -> Whole {
        // SAFETY: the function only computes a number from numbers.
        let bound = unsafe { ZSTD_compressBound(bytes) };
        Whole { frames: self, compressed: vec![1; bound], size: 0 }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: both contexts belong to this value and are not used again.
        unsafe {
            ZSTD_freeCCtx(self.compressor.as_ptr());
            ZSTD_freeDCtx(self.decompressor.as_ptr());
        }
    }
}

impl ByteCodec for Frames {
    const BLOCK: usize = 128 << 10; // ZSTD_BLOCKSIZE_MAX: zstd would cut larger ones into these

    fn bound(&self) -> usize {
        // SAFETY: the function only computes a number from numbers.
        unsafe { ZSTD_compressBound(Self::BLOCK) }
    }

    fn compress(&mut self, block: &[u8], out: &mut [u8]) -> Result<usize> {
        // SAFETY: every pointer is passed with the size of its memory. The context is alive and no
        // one else has it.
        checked(unsafe {
            ZSTD_compress2(
                self.compressor.as_ptr(),
                out.as_mut_ptr().cast(),
                out.len(),
                block.as_ptr().cast(),
                block.len(),
            )
        })
    }

    fn decompress(&mut self, compressed: &[u8], block: &mut [u8]) -> Result<()> {
        // SAFETY: every pointer is passed with the size of its memory. The context is alive and no
        // one else has it.
        let size = checked(unsafe {
            ZSTD_decompressDCtx(
                self.decompressor.as_ptr(),
                block.as_mut_ptr().cast(),
                block.len(),
                compressed.as_ptr().cast(),
                compressed.len(),
            )
        })?;
        if size == block.len() { Ok(()) } else { Err("zstd restored another length".into()) }
    }
}

/// Unsplit weights in one frame.
pub(crate) struct Whole {
    frames: Frames,
    compressed: Vec<u8>,
    size: usize,
}

impl Codec for Whole {
    fn encode(&mut self, weights: &[u8]) -> Result<u64> {
        self.size = self.frames.compress(weights, &mut self.compressed)?;
        Ok(self.size as u64)
    }

    fn decode(&mut self, weights: &mut [u8]) -> Result<()> {
        self.frames.decompress(&self.compressed[..self.size], weights)
    }
}
