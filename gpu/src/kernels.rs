//! The kernels as PTX, built from `gpu/kernels` by `gpu/ptx/build.sh`.

use df11::frame::ElementType;

/// A kernel, for one generation of cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ptx {
    /// The minimum compute capability that it is for: 75 for 7.5.
    pub capability: i32,
    /// The PTX text.
    pub text: &'static str,
}

/// The number of threads of a thread block, for all kernels.
pub const THREADS: u32 = 256;

/// The number of warps of a thread block. Each warp takes a block of rANS.
pub const WARPS: u32 = THREADS / 32;

macro_rules! ptx {
    ($name:literal) => {
        [
            Ptx { capability: 75, text: include_str!(concat!("../ptx/", $name, ".sm_75.ptx")) },
            Ptx { capability: 80, text: include_str!(concat!("../ptx/", $name, ".sm_80.ptx")) },
            Ptx { capability: 90, text: include_str!(concat!("../ptx/", $name, ".sm_90.ptx")) },
            Ptx { capability: 100, text: include_str!(concat!("../ptx/", $name, ".sm_100.ptx")) },
        ]
    };
}

/// `df11_decode`, with the arguments of the published kernel, and `df11_decode_batch`, for many
/// units in one launch.
pub const DF11_DECODE: [Ptx; 4] = ptx!("df11_decode");

/// `rans_decode`, for blocks of frames and of dietgpu's archives.
pub const RANS_DECODE: [Ptx; 4] = ptx!("rans_decode");

/// `fast_decode_batch`, for chunks of codec dictionary.
pub const FAST_DECODE: [Ptx; 4] = ptx!("fast_decode");

/// The kernels that apply deltas: `delta_check`, `delta_compare`, `delta_apply`, `delta_patch`,
/// `delta_frames`.
pub const DELTA_APPLY: [Ptx; 4] = ptx!("delta_apply");

/// `plain_gemv_1`, `plain_gemv_2`, `plain_gemv_4` and `plain_gemv_8`, which multiply matrices of
/// plain BF16 with that many vectors.
pub const PLAIN_GEMV: [Ptx; 4] = ptx!("plain_gemv");

/// `fast_gemv_1`, `fast_gemv_2`, `fast_gemv_4` and `fast_gemv_8`, which multiply matrices that
/// codec dictionary holds.
pub const FAST_GEMV: [Ptx; 4] = ptx!("fast_gemv");

/// `df11_gemv_1`, `df11_gemv_2`, `df11_gemv_4` and `df11_gemv_8`, which multiply matrices that are
/// ranges of DF11 units.
pub const DF11_GEMV: [Ptx; 4] = ptx!("df11_gemv");

/// The kernels that encode DF11 units: `df11_encode_count`, `df11_encode_sizes`,
/// `df11_encode_scan`, `df11_encode_emit`.
pub const DF11_ENCODE: [Ptx; 4] = ptx!("df11_encode");

/// The kernels that encode frames: `frame_encode_count`, `rans_encode`, `frame_encode_layout`,
/// `frame_encode_pack`, `frame_encode_check`.
pub const RANS_ENCODE: [Ptx; 4] = ptx!("rans_encode");

/// `merge_planes`, the least that a decoder of BF16 weights has to do, for comparing times.
pub const MERGE: [Ptx; 4] = ptx!("merge");

/// Returns what NVIDIA's assembler made of the kernels of a source, for cards of compute capability
/// 7.5, 8.0, 8.6, 9.0, 10.0 and 12.0 and those that run the same: a file that the driver's function
/// `cuModuleLoadData` takes. `None` if there is no source of this name.
#[must_use]
pub fn fatbin(name: &str) -> Option<&'static [u8]> {
    match name {
        "df11_decode" => Some(include_bytes!("../ptx/df11_decode.fatbin")),
        "rans_decode" => Some(include_bytes!("../ptx/rans_decode.fatbin")),
        "fast_decode" => Some(include_bytes!("../ptx/fast_decode.fatbin")),
        "delta_apply" => Some(include_bytes!("../ptx/delta_apply.fatbin")),
        "df11_encode" => Some(include_bytes!("../ptx/df11_encode.fatbin")),
        "rans_encode" => Some(include_bytes!("../ptx/rans_encode.fatbin")),
        "plain_gemv" => Some(include_bytes!("../ptx/plain_gemv.fatbin")),
        "fast_gemv" => Some(include_bytes!("../ptx/fast_gemv.fatbin")),
        "df11_gemv" => Some(include_bytes!("../ptx/df11_gemv.fatbin")),
        "merge" => Some(include_bytes!("../ptx/merge.fatbin")),
        _ => None,
    }
}

/// Returns the best of some kernels for a compute capability; `None` if all need a higher one.
///
/// ```
/// use df11_gpu::kernels::{DF11_DECODE, best};
///
/// assert_eq!(best(&DF11_DECODE, 89).map(|ptx| ptx.capability), Some(80));
/// assert_eq!(best(&DF11_DECODE, 70), None);
/// ```
#[must_use]
pub fn best(kernels: &[Ptx], capability: i32) -> Option<Ptx> {
    kernels.iter().filter(|ptx| ptx.capability <= capability).max_by_key(|ptx| ptx.capability).copied()
}

/// Returns the kernels' number for the way in which an element is put together from its coded byte
/// and its raw part: `BYTES`, `BF16`, `F16` and `F32` of `gpu/kernels/elements.cuh`.
#[must_use]
pub const fn element_kind(element_type: ElementType) -> u32 {
    match element_type {
        ElementType::Bf16 => 1,
        ElementType::F16 => 2,
        ElementType::F32 => 3,
        _ => 0,
    }
}

/// The description of a block for `rans_decode`: offsets in bytes, and numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RansBlock {
    /// The offset of its states.
    pub states: usize,
    /// The range of its words.
    pub words: std::ops::Range<usize>,
    /// The offset of the planes of its raw part.
    pub raw: usize,
    /// The number of its first element.
    pub first: usize,
    /// The number of its symbols.
    pub symbols: usize,
}

impl RansBlock {
    /// Returns the description in the form of the kernel.
    #[must_use]
    pub fn describe(&self) -> [u64; 5] {
        let RansBlock { states, words, raw, first, symbols } = self;
        let numbers = (words.len() / 2) as u64 | (*symbols as u64) << 32;
        [*states as u64, words.start as u64, *raw as u64, *first as u64, numbers]
    }
}
