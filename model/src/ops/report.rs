//! What an operation did, as data; the command line prints it or writes it as JSON.

use serde::Serialize;

/// What became of a unit.
#[derive(Clone, Debug, Serialize)]
pub struct UnitReport {
    /// Module path.
    pub path: String,
    /// File that holds it.
    pub file: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of weights.
    pub elements: u64,
    /// Bytes as BF16.
    pub bytes_before: u64,
    /// Bytes of its six tensors.
    pub bytes_after: u64,
    /// `8 * bytes_after / elements`.
    pub bits_per_weight: f64,
    /// 8 bits and the entropy of the exponents: what no code for single exponents can go below.
    pub bound_bits_per_weight: f64,
    /// Number of different exponents.
    pub alphabet: usize,
    /// The longest codeword in bits.
    pub longest_codeword: u8,
    /// Number of prefix tables.
    pub prefix_tables: usize,
    /// Shared memory that the published kernel asks for, in bytes.
    pub shared_memory_bytes: u64,
}

/// Tensors that stay as they are.
#[derive(Clone, Debug, Serialize)]
pub struct PlainReport {
    /// A tensor, or the module path of a unit.
    pub name: String,
    /// Element type, as safetensors names it.
    pub dtype: String,
    /// Bytes, before and after.
    pub bytes: u64,
    /// Why they are not compressed.
    pub reason: String,
}

/// A tensor that is stored as a frame.
#[derive(Clone, Debug, Serialize)]
pub struct FrameReport {
    /// Its name.
    pub name: String,
    /// Element type, as safetensors names it.
    pub dtype: String,
    /// Its bytes.
    pub bytes_before: u64,
    /// Bytes of the frame.
    pub bytes_after: u64,
}

/// What [`compress`](crate::compress) did.
#[derive(Clone, Debug, Serialize)]
pub struct CompressReport {
    /// Where the units came from: a model family, a given dictionary, the general rule.
    pub units_from: String,
    /// Patterns of the dictionary that matched no module.
    pub unmatched_patterns: Vec<String>,
    /// Compressed units.
    pub units: Vec<UnitReport>,
    /// Tensors that are stored as frames.
    pub frames: Vec<FrameReport>,
    /// What stayed plain and why.
    pub plain: Vec<PlainReport>,
    /// What was written: `df11` (units), `rans` (frames) or `auto` (both).
    pub codec: String,
    /// Weight files that were copied as they are, since nothing would be gained.
    pub copied_weights: Vec<String>,
    /// Files that were not copied, with the reason.
    pub left_behind: Vec<(String, String)>,
    /// Output files that an earlier run had finished.
    pub kept_files: usize,
    /// Bytes of the original weight files.
    pub bytes_before: u64,
    /// Bytes of the compressed weight files.
    pub bytes_after: u64,
    /// About how many bytes frames would save more, by the histograms of all tensors.
    pub frames_would_save: u64,
    /// Whether nothing would be gained: then nothing was written.
    pub nothing_to_gain: bool,
}

/// What [`decompress`](crate::decompress) did.
#[derive(Clone, Debug, Serialize)]
pub struct DecompressReport {
    /// Whether every file that is recorded was restored byte for byte (their digests matched).
    pub original_restored: bool,
    /// Whether there is a record of the originals. Otherwise plain tensors were written.
    pub recorded: bool,
    /// Units decoded.
    pub units: usize,
    /// Weight files written.
    pub files: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
    /// Recorded files that are not as they were: written as they are here.
    pub changed: Vec<String>,
    /// Recorded files that are not there.
    pub missing: Vec<String>,
    /// Files of the original that compression left out, and that are not here, with the reason.
    pub left_out: Vec<(String, String)>,
    /// Files that nothing records: copied.
    pub copied: Vec<String>,
    /// Files that were not copied, with the reason.
    pub stays: Vec<(String, String)>,
    /// Files that an earlier run had restored, or that were there already.
    pub kept_files: usize,
    /// What a user should know.
    pub warnings: Vec<String>,
}

/// What [`verify`](crate::verify) found; there is one only if nothing was wrong.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// Units whose every rule was checked and whose every weight was decoded.
    pub units: usize,
    /// Weights decoded.
    pub elements: u64,
    /// Tensors that are stored as frames, of which every checksum was compared and every element
    /// decoded.
    pub frames: usize,
    /// Plain tensors.
    pub plain_tensors: usize,
    /// Tensors whose SHA-256 was compared with the one stored beside them.
    pub digests_checked: usize,
    /// Tensors that have none: the files come from another program.
    pub digests_missing: usize,
    /// Files whose length and SHA-256 are as recorded; of weight files, those of their headers.
    pub files_checked: usize,
    /// Tensors compared, as bits, with the original checkpoint.
    pub compared: Option<usize>,
}

/// A unit, or a BF16 tensor that could be one, as [`inspect`](crate::inspect) sees it.
#[derive(Clone, Debug, Serialize)]
pub struct InspectedUnit {
    /// The figures.
    #[serde(flatten)]
    pub unit: UnitReport,
    /// Bytes of code.
    pub code_bytes: u64,
    /// Blocks of 4096 bytes of code.
    pub blocks: u64,
    /// `luts` rows: tables and lengths.
    pub luts_rows: usize,
    /// Whether `output_positions` lacks its last entry.
    pub short_output_positions: bool,
    /// Code length in bits by exponent; 0 for those that do not occur.
    pub code_lengths: Vec<u8>,
    /// How often each exponent occurs.
    pub frequencies: Vec<u64>,
}

/// What [`inspect`](crate::inspect) found.
#[derive(Clone, Debug, Serialize)]
pub struct InspectReport {
    /// Whether the figures are of compressed units; otherwise they predict what compression would
    /// give.
    pub compressed: bool,
    /// Where predicted units come from.
    pub units_from: Option<String>,
    /// The units.
    pub units: Vec<InspectedUnit>,
    /// Tensors that are stored as frames.
    pub frames: Vec<FrameReport>,
    /// Tensors in no unit.
    pub plain: Vec<PlainReport>,
    /// Bytes of all weight files.
    pub file_bytes: u64,
}

/// Bits of information in each symbol of a histogram: its order-0 entropy.
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
