//! Decoders with planted faults: right but for one mistake, the kind that people make.

use std::collections::BTreeMap;

use df11_judge::pair;
use df11_judge::subject::{Answer, Subject};
use df11_judge::vectors::Task;
use df11_reference::frame::{Tensor, crc};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

/// Faults of a decoder of units, each with what it does.
pub const UNIT_FAULTS: [(&str, &str); 25] = [
    ("stops-early", "the last weight loses its exponent"),
    ("ignores-jumps", "a jump is taken for an exponent"),
    ("two-jumps", "the third jump is taken for an exponent"),
    ("gaps-lsb-first", "trusts gaps, and reads their bits in the wrong order"),
    ("gaps-unchecked", "D-7.2: does not compare gaps"),
    ("gaps-everywhere", "D-7.3: wants 0 where no codeword starts"),
    ("gaps-of-first-block", "reads the gaps of the first block for every block"),
    ("gaps-any-length", "D-7.4: takes gaps of any length"),
    ("long-codes-refused", "takes no code length above 16"),
    ("jumps-of-first-table", "D-5.3: checks jumps of the first table alone"),
    ("length-zero", "D-5.7: takes code length 0 for 8"),
    ("length-anywhere", "D-5.8: does not compare the code length with the number of jumps"),
    ("length-unlimited", "D-5.4: takes code lengths above 32 that no codeword has"),
    ("rows-any-number", "D-5.1: takes more tables than there may be"),
    ("code-cut", "D-6.2: reads zeros after the end of the code"),
    ("one-exponent-refused", "D-5.4: takes a code of one exponent for a mistake"),
    ("positions-unmatched", "D-8.6: does not compare output positions with the code"),
    ("positions-last-free", "D-8.6: does not look at the position of the last block"),
    ("positions-not-zero", "D-8.5: does not look at the first output position"),
    ("splits-unordered", "D-9.2: takes split positions in any order"),
    ("splits-unsigned", "D-9.2: does not notice negative split positions"),
    ("block-from-zero", "the second block begins at its first bit"),
    ("sign-of-zero", "zeros lose their sign"),
    ("types-unchecked", "D-10.2: does not look at the types of tensors"),
    ("filler-refused", "wants zeros after the last codeword"),
];

/// Faults of a decoder of frames.
pub const FRAME_FAULTS: [(&str, &str); 10] = [
    ("frame-stops-early", "the last byte is missing"),
    ("frame-first-block", "decodes one block, and gives zeros for the others"),
    ("frame-header-unchecked", "F-3.1: does not compare the checksum of the header"),
    ("frame-trailer-unchecked", "F-6.2: does not compare the checksum of the trailer"),
    ("frame-offset-unchecked", "F-6.2: does not look at the offset of the directory"),
    ("frame-reserved-unchecked", "F-1.2: does not look at reserved bytes of the header"),
    ("frame-planes-swapped", "F-4.2: takes the planes of F32 in the wrong order"),
    ("frame-twelve-bits", "R-2.1: knows 12 scale bits alone"),
    ("frame-version", "F-1.3: calls later versions damaged"),
    ("frame-panics", "crashes where a word is missing"),
];

/// Faults of a decoder of deltas, each with what the judge says of it.
pub const DELTA_FAULTS: [(&str, &str); 5] = [
    ("delta-stops-early", "delta-f32-raw: gave 1199 bytes instead of 1200"),
    (
        "delta-takes-anything",
        "delta-base-coded: accepted an invalid delta: one bit of the base is another (B-5.5)",
    ),
    ("delta-base-exact", "delta-shrunk: refused a valid delta"),
    ("delta-one-table", "delta-f16-tables: refused a valid delta"),
    ("delta-version", "delta-version: called delta invalid that is of a version"),
];

/// A decoder with one fault; with `none`, without.
#[derive(Clone, Copy, Debug)]
pub struct Faulty<'a>(pub &'a str);

impl Subject for Faulty<'_> {
    fn tasks(&self) -> Vec<Task> {
        match self.0 {
            "none" => vec![Task::UnitDecode, Task::FrameDecode, Task::DeltaDecode],
            fault if fault.starts_with("frame") => vec![Task::FrameDecode],
            fault if fault.starts_with("delta") => vec![Task::DeltaDecode],
            _ => vec![Task::UnitDecode],
        }
    }

    fn answer(&mut self, task: Task, input: &[u8]) -> Result<Answer, String> {
        Ok(match task {
            Task::UnitDecode => decode_file(self.0, input),
            Task::FrameDecode => decode_frame(self.0, input),
            Task::DeltaDecode => decode_delta(self.0, input)?,
            _ => Answer::Crashed("was asked something else".to_owned()),
        })
    }
}

fn decode_file(fault: &str, input: &[u8]) -> Answer {
    let Ok(file) = SafeTensors::deserialize(input) else {
        return Answer::Invalid("no safetensors file".to_owned());
    };
    let mut parts = BTreeMap::new();
    for (key, dtype) in df11::PARTS {
        let wanted = if dtype == "I64" { Dtype::I64 } else { Dtype::U8 };
        match file.tensor(&format!("unit.{key}")) {
            Ok(view) if view.dtype() == wanted || fault == "types-unchecked" => {
                parts.insert(key, view.data().to_vec());
            }
            _ => return Answer::Invalid("D-10.2".to_owned()),
        }
    }
    match (Decoder { fault, parts: &parts }).decode() {
        Ok(weights) => Answer::Accepted(weights.into_iter().flat_map(u16::to_le_bytes).collect()),
        Err(clause) => Answer::Invalid(clause.to_owned()),
    }
}

type Rule = Result<(), &'static str>;

fn rule(clause: &'static str, holds: bool) -> Rule {
    if holds { Ok(()) } else { Err(clause) }
}

/// A decoder of units, written for its faults: what a reader leaves out, it leaves out by name.
struct Decoder<'a> {
    fault: &'a str,
    parts: &'a BTreeMap<&'static str, Vec<u8>>,
}

impl Decoder<'_> {
    fn has(&self, fault: &str) -> bool {
        self.fault == fault
    }

    fn part(&self, key: &str) -> &[u8] {
        &self.parts[key]
    }

    fn bit(&self, at: usize) -> usize {
        let code = self.part("encoded_exponent");
        code.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1))
    }

    fn byte(&self, at: usize) -> usize {
        (0..8).fold(0, |byte, i| 2 * byte + self.bit(at + i))
    }

    fn gap(&self, window: usize) -> usize {
        let gaps = self.part("gaps");
        let window = if self.has("gaps-of-first-block") { window % 512 } else { window };
        let bit = |i: usize| {
            let at = 5 * window + i;
            gaps.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1))
        };
        let lsb_first = self.has("gaps-lsb-first");
        (0..5).map(|i| bit(i) << if lsb_first { i } else { 4 - i }).sum()
    }

    fn check_sizes(&self) -> Rule {
        rule("D-3.4", !self.part("sign_mantissa").is_empty())?;
        let luts = self.part("luts");
        let rows = luts.len() / 256;
        let most = if self.has("rows-any-number") { usize::MAX } else { 18 };
        rule("D-5.1", luts.len().is_multiple_of(256) && rows >= 2 && rows <= most)?;
        let tables = if self.has("jumps-of-first-table") { 1 } else { rows - 1 };
        rule("D-5.3", luts[..256 * tables].iter().all(|v| *v < 240 || 256 - usize::from(*v) < rows - 1))?;
        let lengths = &luts[luts.len() - 256..][..240];
        let most = match self.fault {
            "length-unlimited" => 255,
            "long-codes-refused" => 16,
            _ => 32,
        };
        rule("D-5.4", lengths.iter().all(|length| *length <= most))?;
        let exponents = lengths.iter().filter(|length| **length > 0).count();
        rule("D-5.4", exponents > 1 || !self.has("one-exponent-refused"))?;
        let code = self.part("encoded_exponent").len();
        rule("D-6.1", code > 0)?;
        rule("D-7.4", self.part("gaps").len() == 320 * code.div_ceil(4096) || self.has("gaps-any-length"))
    }

    fn positions(&self) -> Result<Vec<usize>, &'static str> {
        let (n, bytes) = (self.part("sign_mantissa").len(), self.part("output_positions"));
        let blocks = self.part("encoded_exponent").len().div_ceil(4096);
        rule("D-8.3", [4 * blocks, 4 * blocks + 4].contains(&bytes.len()))?;
        let mut all: Vec<usize> =
            bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes) as usize).collect();
        rule("D-8.5", all[0] == 0 || self.has("positions-not-zero"))?;
        all[0] = 0;
        rule("D-8.5", all.last() == Some(&n))?;
        all.resize(blocks + 1, n);
        let ordered = all
            .windows(2)
            .enumerate()
            .all(|(b, pair)| pair[0] < pair[1] || (pair[0] == pair[1] && b + 1 == blocks));
        rule("D-8.5", ordered)?;
        Ok(all)
    }

    fn check_splits(&self) -> Rule {
        let bytes = self.part("split_positions");
        rule("D-9.1", bytes.len().is_multiple_of(8))?;
        let (mut least, n) = (0, self.part("sign_mantissa").len() as i64);
        for split in bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)) {
            if self.has("splits-unordered") {
                rule("D-9.2", (0..=n).contains(&split))?;
            } else if !(self.has("splits-unsigned") && split < 0) {
                rule("D-9.2", (least..=n).contains(&split))?;
                least = split;
            }
        }
        Ok(())
    }

    /// The symbol that a codeword at bit `p` stands for, and its length.
    fn look_up(&self, p: usize) -> Result<(u8, usize), &'static str> {
        let luts = self.part("luts");
        let most = match self.fault {
            "ignores-jumps" => 0,
            "two-jumps" => 2,
            _ => 3,
        };
        let (mut value, mut jumps) = (luts[self.byte(p)], 0);
        while value >= 240 && jumps < most {
            jumps += 1;
            let table = 256 - usize::from(value);
            value = *luts.get(256 * table + self.byte(p + 8 * jumps)).unwrap_or(&0);
        }
        let taken = most < 3;
        rule("D-5.6", value < 240 || taken)?;
        let length = usize::from(luts[luts.len() - 256 + usize::from(value)]);
        if length == 0 && (self.has("length-zero") || taken) {
            return Ok((value, 8));
        }
        rule("D-5.7", length > 0)?;
        let fits = 8 * jumps < length && length <= 8 * jumps + 8;
        rule("D-5.8", fits || taken || self.has("length-anywhere"))?;
        Ok((value, length))
    }

    fn decode(&self) -> Result<Vec<u16>, &'static str> {
        self.check_sizes()?;
        let positions = self.positions()?;
        self.check_splits()?;
        let signs = self.part("sign_mantissa");
        let (bits, blocks) = (8 * self.part("encoded_exponent").len(), positions.len() - 1);
        let trusts = self.has("gaps-lsb-first");
        let (mut p, mut window, mut weights) = (0, 0, Vec::with_capacity(signs.len()));
        for (i, sign) in signs.iter().enumerate() {
            if p >= 64 * window {
                window = p / 64;
                rule("D-7.2", trusts || self.gap(window) == p % 64 || self.has("gaps-unchecked"))?;
                if trusts && window > 0 {
                    p = 64 * window + self.gap(window);
                }
                window += 1;
            }
            let block = p / 32_768;
            let last = |b: usize| b + 1 == blocks && self.has("positions-last-free");
            let within = (0..blocks).all(|b| last(b) || (b <= block) == (positions[b] <= i));
            rule("D-8.6", within || self.has("positions-unmatched"))?;
            if self.has("block-from-zero") && block > 0 && i == positions[block] {
                p = 32_768 * block;
            }
            let (symbol, length) = self.look_up(p)?;
            p += length;
            rule("D-6.2", p <= bits || self.has("code-cut"))?;
            let sign = u16::from(*sign);
            weights.push((sign & 0x80) << 8 | u16::from(symbol) << 7 | sign & 0x7f);
        }
        self.after(p, window, &mut weights)?;
        Ok(weights)
    }

    /// Faults that show when all is decoded.
    fn after(&self, p: usize, window: usize, weights: &mut [u16]) -> Rule {
        let bits = 8 * self.part("encoded_exponent").len();
        match self.fault {
            "stops-early" => weights.iter_mut().next_back().into_iter().for_each(|w| *w &= 0x807f),
            "sign-of-zero" => weights.iter_mut().filter(|w| **w == 0x8000).for_each(|w| *w = 0),
            "filler-refused" => rule("D-6.4", (p..bits).all(|at| self.bit(at) == 0))?,
            "gaps-everywhere" => rule("D-7.3", (window..bits.div_ceil(64)).all(|w| self.gap(w) == 0))?,
            _ => {}
        }
        Ok(())
    }
}

fn decode_frame(fault: &str, input: &[u8]) -> Answer {
    let frame = forgiven(fault, input);
    let Tensor { element_type, mut elements, .. } = match df11_reference::frame::decode(&frame) {
        Ok(tensor) => tensor,
        Err(_) if fault == "frame-takes-anything" => return Answer::Accepted(vec![0; 10]),
        Err(violation) if violation.clause == "F-1.3" && fault != "frame-version" => {
            return Answer::Unsupported(violation.to_string());
        }
        Err(violation) if violation.clause == "R-5.3" && fault == "frame-panics" => {
            return Answer::Crashed("index out of bounds".to_owned());
        }
        Err(violation) => return Answer::Invalid(violation.to_string()),
    };
    let block = u32::from_le_bytes([frame[24], frame[25], frame[26], frame[27]]) as usize;
    match fault {
        "frame-stops-early" => drop(elements.pop()),
        "frame-first-block" => {
            let size = [1, 2, 2, 4, 1, 1][usize::from(element_type)];
            elements.iter_mut().skip(block * size).for_each(|byte| *byte = 0);
        }
        "frame-planes-swapped" if element_type == 3 && frame[10] > 0 => {
            elements.as_chunks_mut::<4>().0.iter_mut().for_each(|element| element.swap(0, 1));
        }
        "frame-twelve-bits" if frame[10] == 1 && frame[12] != 12 => {
            return Answer::Invalid("R-2.1".to_owned());
        }
        _ => {}
    }
    Answer::Accepted(elements)
}

fn decode_delta(fault: &str, input: &[u8]) -> Result<Answer, String> {
    let (delta, base) = pair::split(input).ok_or("no delta")?;
    let invalid = |clause: &str| Ok(Answer::Invalid(clause.to_owned()));
    let (element_type, mut elements) = match df11_reference::delta::decode(delta, base) {
        Ok(result) => result,
        Err(_) if fault == "delta-takes-anything" => return Ok(Answer::Accepted(base.to_vec())),
        Err(violation) if violation.clause == "B-1.3" && fault != "delta-version" => {
            return Ok(Answer::Unsupported(violation.to_string()));
        }
        Err(violation) => return invalid(&violation.to_string()),
    };
    let common = u64::from_le_bytes(std::array::from_fn(|i| delta[24 + i])) as usize;
    let needed = common * [1, 2, 2, 4, 1, 1][usize::from(element_type)];
    match fault {
        "delta-stops-early" => drop(elements.pop()),
        "delta-base-exact" if base.len() != needed && common > 0 => return invalid("B-3.2"),
        "delta-one-table" if delta[12] > 1 => return invalid("B-5.3"),
        _ => {}
    }
    Ok(Answer::Accepted(elements))
}

/// A frame in which what a faulty reader does not look at has been made right.
fn forgiven(fault: &str, input: &[u8]) -> Vec<u8> {
    let mut frame = input.to_vec();
    let Some(end) = frame.len().checked_sub(24).filter(|end| *end > 64) else { return frame };
    let directory = u64::from_le_bytes(std::array::from_fn(|i| frame[end + i])) as usize;
    match fault {
        "frame-header-unchecked" => header(&mut frame),
        "frame-reserved-unchecked" => {
            let before = frame[14..16].to_vec();
            frame[14..16].fill(0);
            frame[28..32].fill(0);
            // The checksum was that of the bytes as they were.
            if frame[14..32] != input[14..32] || before != [0, 0] {
                header(&mut frame);
            }
        }
        "frame-trailer-unchecked" if directory < end => {
            let sum = crc(0, &frame[directory..end + 20]).to_le_bytes();
            frame[end + 20..].copy_from_slice(&sum);
        }
        "frame-offset-unchecked" => {
            let blocks = u64::from_le_bytes(std::array::from_fn(|i| frame[end + 8 + i])) as usize;
            if let Some(directory) = blocks.checked_mul(12).and_then(|size| end.checked_sub(size)) {
                frame[end..end + 8].copy_from_slice(&(directory as u64).to_le_bytes());
                let sum = crc(0, &frame[directory..end + 20]).to_le_bytes();
                frame[end + 20..].copy_from_slice(&sum);
            }
        }
        _ => {}
    }
    frame
}

/// Makes the checksum of a header right.
fn header(frame: &mut [u8]) {
    let (model, rank) = (frame[11], usize::from(frame[13]));
    let mut at = 32 + 8 * rank;
    if let Some(marks) = frame.get(at..at + 32).filter(|_| model == 1 || model == 2) {
        let symbols: usize = marks.iter().map(|byte| byte.count_ones() as usize).sum();
        at += 32 + 2 * symbols + if model == 2 { 4 } else { 0 };
    }
    let at = at.next_multiple_of(4);
    if at + 4 <= frame.len() {
        let sum = crc(0, &frame[..at]).to_le_bytes();
        frame[at..at + 4].copy_from_slice(&sum);
    }
}
