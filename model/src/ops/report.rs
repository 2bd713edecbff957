//! Reports of operations, as data. The command line prints them or writes them as JSON.

use serde::Serialize;

/// The compression figures of a unit.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct UnitReport {
    /// Module path.
    pub path: String,
    /// File that holds it.
    pub file: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of weights.
    pub elements: u64,
    /// Size in bytes as BF16.
    pub bytes_before: u64,
    /// Size in bytes of its six tensors.
    pub bytes_after: u64,
    /// `8 * bytes_after / elements`.
    pub bits_per_weight: f64,
    /// The lower bound of any order-0 code: 8 bits plus the entropy of the exponents.
    pub bound_bits_per_weight: f64,
    /// Number of distinct exponents.
    pub alphabet: usize,
    /// Length of the longest codeword in bits.
    pub longest_codeword: u8,
    /// Number of prefix tables.
    pub prefix_tables: usize,
    /// Shared memory that the published kernel needs, in bytes.
    pub shared_memory_bytes: u64,
}

/// Tensors that stay plain.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlainReport {
    /// The name of a tensor, or the module path of a unit.
    pub name: String,
    /// Element type, as safetensors names it.
    pub dtype: String,
    /// Size in bytes, which does not change.
    pub bytes: u64,
    /// The reason why they are not compressed.
    pub reason: String,
}

/// A tensor that is stored as a frame.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FrameReport {
    /// The tensor's name.
    pub name: String,
    /// Element type, as safetensors names it.
    pub dtype: String,
    /// Size in bytes of the tensor.
    pub bytes_before: u64,
    /// Size in bytes of the frame.
    pub bytes_after: u64,
}

/// The report of [`compress`](crate::compress).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CompressReport {
    /// The origin of the units: a model family, a given dictionary, or the general rule.
    pub units_from: String,
    /// Patterns of the dictionary that matched no module.
    pub unmatched_patterns: Vec<String>,
    /// Compressed units.
    pub units: Vec<UnitReport>,
    /// Tensors that are stored as frames.
    pub frames: Vec<FrameReport>,
    /// Tensors and units that stayed plain, with the reason.
    pub plain: Vec<PlainReport>,
    /// The stored form: `df11` (units), `rans` (frames) or `auto` (both).
    pub codec: String,
    /// Weight files that were copied unchanged, since compressing them would gain nothing.
    pub copied_weights: Vec<String>,
    /// Files that were not copied, with the reason.
    pub left_behind: Vec<(String, String)>,
    /// Number of output files that an earlier run had finished.
    pub kept_files: usize,
    /// Size in bytes of the original weight files.
    pub bytes_before: u64,
    /// Size in bytes of the compressed weight files.
    pub bytes_after: u64,
    /// Estimated number of bytes that frames would save in addition, from the histograms of all
    /// tensors.
    pub frames_would_save: u64,
    /// Whether compression would gain nothing. In that case nothing was written.
    pub nothing_to_gain: bool,
}

/// The report of [`decompress`](crate::decompress).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DecompressReport {
    /// Whether every recorded file was restored byte for byte, with matching digests.
    pub original_restored: bool,
    /// Whether there is a record of the originals. Without one, plain tensors were written.
    pub recorded: bool,
    /// Number of units decoded.
    pub units: usize,
    /// Weight files written.
    pub files: Vec<String>,
    /// Total size of the weight files in bytes.
    pub bytes: u64,
    /// Recorded files that differ from the original. They were written with the content that they
    /// have here.
    pub changed: Vec<String>,
    /// Recorded files that do not exist.
    pub missing: Vec<String>,
    /// Files of the original that compression left out and that do not exist here, with the reason.
    pub left_out: Vec<(String, String)>,
    /// Files that nothing records. They were copied.
    pub copied: Vec<String>,
    /// Files that were not copied, with the reason.
    pub stays: Vec<(String, String)>,
    /// Number of files that an earlier run had restored, or that existed already with the right
    /// content.
    pub kept_files: usize,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// The report of [`verify`](crate::verify). There is one only if nothing was wrong.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Number of units. Every rule of each unit was checked, and every weight decoded.
    pub units: usize,
    /// Number of weights decoded.
    pub elements: u64,
    /// Number of tensors that are stored as frames. Every checksum of each frame was compared, and
    /// every element decoded.
    pub frames: usize,
    /// Number of tensors that are stored as deltas. Every checksum of each that needs no base was
    /// compared. With their bases at hand, every element was decoded.
    pub deltas: usize,
    /// Number of plain tensors.
    pub plain_tensors: usize,
    /// Number of tensors whose SHA-256 was compared with the stored one.
    pub digests_checked: usize,
    /// Number of tensors without a stored digest: their files come from another program.
    pub digests_missing: usize,
    /// Number of files whose length and SHA-256 match the record. For weight files, the SHA-256
    /// covers the header.
    pub files_checked: usize,
    /// Number of tensors compared bit for bit with the original checkpoint.
    pub compared: Option<usize>,
}

/// A unit, or a BF16 tensor that could become one, as [`inspect`](crate::inspect) reports it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct InspectedUnit {
    /// The compression figures.
    #[serde(flatten)]
    pub unit: UnitReport,
    /// Size of the code in bytes.
    pub code_bytes: u64,
    /// Number of blocks of 4096 bytes of code.
    pub blocks: u64,
    /// Number of `luts` rows: tables and lengths.
    pub luts_rows: usize,
    /// Whether `output_positions` lacks its last entry.
    pub short_output_positions: bool,
    /// Code length in bits for each exponent; 0 for exponents that do not occur.
    pub code_lengths: Vec<u8>,
    /// How often each exponent occurs.
    pub frequencies: Vec<u64>,
}

/// A tensor that is stored as a delta, as [`inspect`](crate::inspect) reports it. None of this
/// needs the base.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DeltaReport {
    /// Name of the tensor.
    pub name: String,
    /// Element type.
    pub dtype: String,
    /// Name of the base's tensor.
    pub base: String,
    /// SHA-256 of the base's tensor.
    pub base_sha256: String,
    /// How many deltas it takes to restore the tensor.
    pub depth: u32,
    /// How it is stored: `same`, `list` or `coded`.
    pub method: String,
    /// Number of elements.
    pub elements: u64,
    /// Number of elements that differ from the base's.
    pub changed: u64,
    /// Size in bytes of the tensor.
    pub bytes_before: u64,
    /// Size in bytes of the delta.
    pub bytes_after: u64,
}

/// The report of [`inspect`](crate::inspect).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct InspectReport {
    /// Whether the figures describe compressed units. Otherwise they predict what compression would
    /// give.
    pub compressed: bool,
    /// The origin of predicted units.
    pub units_from: Option<String>,
    /// The units.
    pub units: Vec<InspectedUnit>,
    /// Tensors that are stored as frames.
    pub frames: Vec<FrameReport>,
    /// Tensors that are stored against those of another checkpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<DeltaReport>,
    /// Tensors in no unit.
    pub plain: Vec<PlainReport>,
    /// Size in bytes of all weight files.
    pub file_bytes: u64,
}

/// Computes the bits of information in each symbol of a histogram: its order-0 entropy.
///
/// ```
/// let mut frequencies = [0; 256];
/// (frequencies[1], frequencies[2]) = (4, 4);
/// assert_eq!(df11_model::entropy(&frequencies), 1.0);
/// ```
#[must_use]
pub fn entropy(frequencies: &[u64; 256]) -> f64 {
    let total: u64 = frequencies.iter().sum();
    let bits = |&f: &u64| f as f64 / total as f64 * (total as f64 / f as f64).log2();
    frequencies.iter().filter(|&&f| f > 0).map(bits).sum()
}
