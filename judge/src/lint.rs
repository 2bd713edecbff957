//! Every rule that a unit or a frame bends, by clause of `spec/DF11.md`, `FRAME.md`, `RANS.md` and
//! `DICTIONARY.md`.

use df11::frame::{self, Codec, DecodeTable, EncodeOptions, Frame, Header};
use df11::huffman::{CodeLengths, Codewords, FIRST_JUMP, PrefixTablesBuf};
use df11::{Error, PUBLISHED_SHARED_MEMORY, Parts, Unit, WINDOWS_PER_BLOCK, bf16};
use serde::Serialize;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something that a writer should do otherwise.
    Advice,
    /// Something that a writer must do otherwise, and readers do not mind.
    Writer,
    /// A reader may refuse the unit.
    Acceptable,
    /// A reader must refuse the unit.
    Invalid,
}

/// A rule that a unit or a frame bends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The clause.
    pub clause: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// What was found.
    pub message: String,
}

/// Checks a unit against every rule, including those that only decoding can find. Of rules that
/// make a unit invalid, the first one broken is named.
///
/// ```
/// use df11_judge::lint::{Severity, lint};
/// use df11::encode;
///
/// let mut unit = encode(&[0x80, 0x3f])?;
/// assert!(lint(&unit.as_slices()).is_empty());
/// unit.encoded_exponent[0] |= 1; // after the only codeword
/// let findings = lint(&unit.as_slices());
/// assert_eq!((findings[0].clause, findings[0].severity), ("D-11.4", Severity::Writer));
/// unit.gaps[0] = 0xff;
/// assert_eq!(lint(&unit.as_slices())[0].clause, "D-7.2");
/// # Ok::<(), df11::Error>(())
/// ```
#[must_use]
pub fn lint(tensors: &Parts<&[u8]>) -> Vec<Finding> {
    sound(tensors).unwrap_or_else(|error| invalid(error, "D-1.1"))
}

/// Checks a frame against every rule, all blocks included.
///
/// ```
/// use df11_judge::lint::{Severity, lint_frame};
/// use df11::frame::{ElementType, encode};
///
/// let mut frame = encode(ElementType::F32, &[], &[0, 0, 0x80, 0x3f])?;
/// assert!(lint_frame(&frame).is_empty());
/// frame[16] = 2; // elements
/// let findings = lint_frame(&frame);
/// assert_eq!((findings[0].clause, findings[0].severity), ("F-3.1", Severity::Invalid));
/// # Ok::<(), df11::Error>(())
/// ```
#[must_use]
pub fn lint_frame(bytes: &[u8]) -> Vec<Finding> {
    sound_frame(bytes).unwrap_or_else(|error| invalid(error, "F-1.1"))
}

fn invalid(error: Error, otherwise: &'static str) -> Vec<Finding> {
    let clause = error.clause().unwrap_or(otherwise);
    vec![Finding { clause, severity: Severity::Invalid, message: error.to_string() }]
}

/// The findings about a frame that is not invalid. One block is held at a time: a frame of some
/// kilobytes may decode to gigabytes.
fn sound_frame(bytes: &[u8]) -> Result<Vec<Finding>, Error> {
    let frame = Frame::new(bytes)?;
    let header = frame.header();
    let (mut counts, mut digest) = ([0u64; 256], 0);
    for_each_block(&frame, |elements| {
        digest = frame::crc(digest, elements);
        let of_block = frame::count(header.element_type(), elements)?;
        counts.iter_mut().zip(of_block).for_each(|(sum, count)| *sum += count);
        Ok(())
    })?;

    let mut findings = Vec::new();
    let mut found = |clause, severity, message: String| findings.push(Finding { clause, severity, message });
    if digest != frame.digest() {
        let message = format!("the digest is {:#010x}, but the elements have {digest:#010x}", frame.digest());
        found("F-6.3", Severity::Acceptable, message);
    }
    let ours = Ours::of(&frame, &counts)?;
    if ours.header.codec() != header.codec() {
        let (ours, name, theirs) = (ours.len, ours.header.codec().name(), bytes.len());
        let message = format!("codec {name} would take {ours} bytes instead of {theirs}");
        found("F-7.1", Severity::Advice, message);
    } else if !ours.same && digest == frame.digest() {
        found("F-7.2", Severity::Advice, other_bytes(header, &ours.header));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(findings)
}

/// Why a frame has other bytes than ours, whose codec is the same.
fn other_bytes(header: &Header, ours: &Header) -> String {
    if header.block_len() != ours.block_len() {
        return format!("blocks have {} elements instead of {}", header.block_len(), ours.block_len());
    }
    if let (Some(frequencies), Some(ours)) = (header.frequencies(), ours.frequencies()) {
        let (found, wanted) = (frequencies.scale_bits(), ours.scale_bits());
        if found != wanted {
            return format!("there are {found} scale bits instead of {wanted}");
        }
        return "the frequencies are not those of R-2.5".to_owned();
    }
    match (header.dictionary(), ours.dictionary()) {
        (Some(model), Some(ours)) if model.width() != ours.width() => {
            format!("codes have {} bits instead of {}", model.width().bits(), ours.width().bits())
        }
        (Some(model), Some(ours)) if model != ours => "the dictionary is not that of V-4.2".to_owned(),
        _ => "the strings are not the longest each time, as V-4.1 has them".to_owned(),
    }
}

/// Decodes a frame, one block after the other.
fn for_each_block(frame: &Frame<'_>, mut each: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let mut table = Box::new(DecodeTable::EMPTY);
    frame.build(&mut table);
    let header = frame.header();
    let mut elements = Vec::new();
    for block in 0..header.blocks() {
        elements.resize(header.block_range(block).len() * header.element_type().bytes(), 0);
        frame.decode_block_into(&table, block, &mut elements)?;
        each(&elements)?;
    }
    Ok(())
}

/// The frame that we would write, beside another of the same elements.
struct Ours {
    header: Header,
    len: u64,
    same: bool,
}

impl Ours {
    fn of(theirs: &Frame<'_>, counts: &[u64; 256]) -> Result<Self, Error> {
        let shape: Vec<u64> = theirs.header().shape().collect();
        let is_dictionary = theirs.header().codec() == Codec::Dictionary;
        let wanted = if is_dictionary { Codec::Dictionary } else { Codec::Rans };
        let options = EncodeOptions::new().codec(wanted);
        let mut encoder = options.encoder(theirs.header().element_type(), &shape, counts)?;
        let head = encoder.header();
        let mut ours = Ours { header: Header::parse(&head)?.0, len: 0, same: true };
        ours.compare(theirs.as_bytes(), &head);
        let size = frame::BLOCK * theirs.header().element_type().bytes();
        // Their blocks may have other lengths.
        let mut rest = Vec::new();
        for_each_block(theirs, |elements| {
            rest.extend_from_slice(elements);
            while rest.len() >= size {
                ours.compare(theirs.as_bytes(), encoder.blocks(&rest[..size])?);
                rest.drain(..size);
            }
            Ok(())
        })?;
        if !rest.is_empty() {
            ours.compare(theirs.as_bytes(), encoder.blocks(&rest)?);
        }
        ours.compare(theirs.as_bytes(), &encoder.finish()?);
        ours.same &= ours.len == theirs.as_bytes().len() as u64;
        Ok(ours)
    }

    /// Compares the next bytes.
    fn compare(&mut self, theirs: &[u8], bytes: &[u8]) {
        let at = self.len as usize;
        self.same &= theirs.get(at..at + bytes.len()) == Some(bytes);
        self.len += bytes.len() as u64;
    }
}

/// The findings about a unit that is not invalid.
fn sound(tensors: &Parts<&[u8]>) -> Result<Vec<Finding>, Error> {
    let unit = Unit::new(*tensors)?;
    let mut frequencies = [0; 256];
    let mut weights = Vec::new();
    for block in 0..unit.blocks() {
        weights.resize(2 * unit.block_range(block).len(), 0);
        unit.verify_blocks_into(block..block + 1, &mut weights)?;
        bf16::add_to_histogram(&weights, &mut frequencies)?;
    }

    let mut findings = Vec::new();
    let mut found = |clause, severity, message: String| findings.push(Finding { clause, severity, message });
    if unit.has_short_positions() {
        let message =
            "output_positions lacks its last entry; the published kernel reads past its end".to_owned();
        found("D-8.4", Severity::Acceptable, message);
    }
    let windows = unit.code_bytes().div_ceil(8);
    let all = unit.blocks() * WINDOWS_PER_BLOCK;
    if let Some(window) = (windows..all).find(|&window| unit.gap(window) != 0) {
        let message =
            format!("entry {window} of gaps, after the last window, is {}, not 0", unit.gap(window));
        found("D-7.4", Severity::Acceptable, message);
    }

    let lengths = CodeLengths::new(&symbol_lengths(&unit))?;
    let bits = lengths.total_bits(&frequencies)?;
    let left = 8 * tensors.encoded_exponent.len() as u64 - bits;
    let last_byte = tensors.encoded_exponent.last().copied().unwrap_or(0);
    if left >= 8 {
        let message =
            format!("{left} bits are left after the last element's codeword; writers leave fewer than 8");
        found("D-6.3", Severity::Acceptable, message);
    } else if !bits.is_multiple_of(8) && last_byte.trailing_zeros() < 8 - (bits % 8) as u32 {
        let message =
            "the code is filled up with other bits than zeros (an end-of-stream codeword?)".to_owned();
        found("D-11.4", Severity::Writer, message);
    }
    // In the last window a codeword may end without one that starts.
    let wanted = if bits.is_multiple_of(8) { 0 } else { bits % 64 };
    let gap = u64::from(unit.gap(windows - 1));
    if left < 8 && windows as u64 * 64 > bits && starts_nowhere(&unit, bits, windows - 1) && gap != wanted {
        let message = format!(
            "the gap of window {}, in which no codeword starts, is {gap}; writers put {wanted}",
            windows - 1
        );
        found("D-11.4", Severity::Writer, message);
    }

    let tables = unit.tables();
    let zero = |value: &u8| *value < FIRST_JUMP && tables.code_lengths()[usize::from(*value)] == 0;
    let entries = tables.tables().iter().enumerate();
    if let Some((table, entry)) = entries.filter_map(|(t, row)| Some((t, row.iter().position(zero)?))).next()
    {
        let message = format!(
            "prefix table {table}, entry {entry} leads to a symbol of code length 0: a decoder that reads on through \
             padding may never move on"
        );
        found("D-11.2", Severity::Writer, message);
    }
    let code = Codewords::from_tables(&tables);
    if CodeLengths::new(code.lengths()).and_then(|lengths| Codewords::canonical(&lengths)) != Ok(code) {
        found("D-11.1", Severity::Advice, "the code is not canonical".to_owned());
    }
    if PrefixTablesBuf::build(&code).is_ok_and(|built| built.as_bytes()[..] != tensors.luts[..]) {
        let message =
            "the prefix tables are numbered, or entries that no codeword reaches are filled, in another way";
        found("D-11.3", Severity::Advice, message.to_owned());
    }
    if unit.shared_memory_bytes() > PUBLISHED_SHARED_MEMORY {
        let message = format!(
            "a block has {} elements and needs {} bytes of shared memory; published loaders have 49152",
            unit.largest_block(),
            unit.shared_memory_bytes()
        );
        found("D-11.6", Severity::Advice, message);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(findings)
}

/// The code lengths of symbols; what stands behind the last symbol means nothing (D-5.4).
fn symbol_lengths(unit: &Unit<'_>) -> [u8; 256] {
    let mut lengths = *unit.tables().code_lengths();
    lengths[usize::from(FIRST_JUMP)..].fill(0);
    lengths
}

/// Whether no element's codeword starts in this window, the last: that is so if the last codeword,
/// which ends in it, starts before.
fn starts_nowhere(unit: &Unit<'_>, bits: u64, window: usize) -> bool {
    let last = unit.len() - 1;
    let mut weight = [0; 2];
    let exponent = unit
        .decode_range_into(last..last + 1, &mut weight)
        .map(|()| bf16::exponent(u16::from_le_bytes(weight)));
    exponent
        .is_ok_and(|e| bits - u64::from(unit.tables().code_lengths()[usize::from(e)]) < window as u64 * 64)
}
