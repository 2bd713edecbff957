//! The parts of the specification that are made by a program, so that prose and code cannot drift
//! apart: between `<!-- generated: NAME -->` and `<!-- end -->`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use df11::hazmat::huffman::{
    CodeLengths, Codewords, FIRST_JUMP, MAX_CODE_LENGTH, MAX_TABLES, PrefixTablesBuf,
};
use df11::hazmat::layout::{
    BLOCK_BITS, BLOCK_BYTES, GAP_BITS, GAP_BYTES_PER_BLOCK, WINDOW_BITS, WINDOW_BYTES, WINDOWS_PER_BLOCK,
};
use df11::{EncodeOptions, MAX_ELEMENTS, PARTS, PUBLISHED_SHARED_MEMORY, shared_memory_bytes};
use half::bf16;

use crate::spec_examples;
use crate::weights::bytes;

/// The documents that have such parts.
pub const DOCUMENTS: [&str; 4] = ["DF11.md", "RANS.md", "FRAME.md", "DELTA.md"];

/// A rule for units, as appendix A lists it.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The clause.
    pub clause: &'static str,
    /// The subject of the rule, in a few words.
    pub about: &'static str,
    /// The verdict on a unit that breaks the rule.
    pub verdict: &'static str,
    /// The kind of error.
    pub kind: &'static str,
}

const fn rule(clause: &'static str, about: &'static str, verdict: &'static str, kind: &'static str) -> Rule {
    Rule { clause, about, verdict, kind }
}

/// Every rule for units.
pub const RULES: [Rule; 24] = [
    rule("D-3.4", "number of elements", "invalid", "Unsupported, LimitExceeded"),
    rule("D-5.1", "size of `luts`", "invalid", "Corrupt"),
    rule("D-5.3", "jumps lead to tables", "invalid", "Corrupt"),
    rule("D-5.4", "code lengths up to 32", "invalid", "Corrupt"),
    rule("D-5.6", "at most three jumps", "invalid", "Corrupt"),
    rule("D-5.7", "no code length of 0", "invalid", "Corrupt"),
    rule("D-5.8", "code length fits its table", "invalid", "Corrupt"),
    rule("D-6.1", "number of bytes of code", "invalid", "Truncated, LimitExceeded"),
    rule("D-6.2", "the code holds every element", "invalid", "Truncated"),
    rule("D-6.3", "fewer than 8 bits are left", "acceptable", "Corrupt"),
    rule("D-7.2", "gaps", "invalid", "Corrupt"),
    rule("D-7.4", "size of `gaps`", "invalid", "Truncated, Corrupt"),
    rule("D-7.4", "zeros after the last gap", "acceptable", "Corrupt"),
    rule("D-8.3", "size of `output_positions`", "invalid", "Truncated, Corrupt"),
    rule("D-8.4", "the last output position is missing", "acceptable", "Truncated"),
    rule("D-8.5", "order of output positions", "invalid", "Corrupt"),
    rule("D-8.6", "output positions agree with the code", "invalid", "Corrupt"),
    rule("D-9.1", "size of `split_positions`", "invalid", "Corrupt"),
    rule("D-9.2", "order of split positions", "invalid", "Corrupt"),
    rule("D-10.1", "shapes of the parts", "acceptable", "Corrupt"),
    rule("D-10.2", "all six parts, with their types", "invalid", "Corrupt"),
    rule("D-10.3", "windows of 8 bytes, blocks of 512 windows", "invalid", "Unsupported"),
    rule("D-10.4", "as many tensors as the dictionary names", "invalid", "Corrupt"),
    rule("D-10.7", "the file is a safetensors file", "invalid", "Truncated, Corrupt"),
];

/// Returns the path of the specification.
#[must_use]
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/DF11.md")
}

/// Returns the text with its generated parts made anew.
///
/// # Panics
///
/// If a part has no end, or an unknown name.
#[must_use]
pub fn render(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<!-- generated: ") {
        let (name, after) = after.split_once(" -->\n").expect("a part begins with a line of its own");
        let (_, after) = after.split_once("<!-- end -->").expect("a part has an end");
        let part = match name {
            "keys" => keys(),
            "rules" => rules(),
            "constants" => constants(),
            "example" => example(),
            "windows" => spec_examples::windows(),
            "words" => spec_examples::words(),
            "frame" => spec_examples::frame(),
            "delta" => spec_examples::delta(),
            other => panic!("nobody makes the part {other}"),
        };
        let _ = write!(out, "{before}<!-- generated: {name} -->\n{part}<!-- end -->");
        rest = after;
    }
    out + rest
}

fn keys() -> String {
    let shapes = [
        "`[k + 1, 256]`",
        "`[B]`",
        "`[n]`",
        "`[4 (N + 1)]`, in the short form `[4 N]`",
        "`[320 N]`",
        "`[tensors - 1]`",
    ];
    let mut out = "| key | dtype | shape |\n|---|---|---|\n".to_owned();
    for ((key, dtype), shape) in PARTS.iter().zip(shapes) {
        let _ = writeln!(out, "| `{key}` | {dtype} | {shape} |");
    }
    out
}

fn rules() -> String {
    let mut out =
        "| rule | about | a unit that breaks it is | kind of error |\n|---|---|---|---|\n".to_owned();
    for Rule { clause, about, verdict, kind } in RULES {
        let _ = writeln!(out, "| {clause} | {about} | {verdict} | {kind} |");
    }
    out
}

fn constants() -> String {
    let most = (PUBLISHED_SHARED_MEMORY - shared_memory_bytes(0)) / 2;
    let rows = [
        ("bytes of a window", WINDOW_BYTES as u64, "D-7.1"),
        ("bits of a window", WINDOW_BITS, "D-7.1"),
        ("windows of a block", WINDOWS_PER_BLOCK as u64, "D-8.1"),
        ("bytes of a block", BLOCK_BYTES as u64, "D-8.1"),
        ("bits of a block", BLOCK_BITS, "D-8.1"),
        ("bits of an entry of `gaps`", u64::from(GAP_BITS), "D-7.4"),
        ("bytes of `gaps` for a block", GAP_BYTES_PER_BLOCK as u64, "D-7.4"),
        ("the first value that is a jump", u64::from(FIRST_JUMP), "D-5.2"),
        ("prefix tables, at most", MAX_TABLES as u64, "D-5.1"),
        ("bits of a codeword, at most", u64::from(MAX_CODE_LENGTH), "D-4.2"),
        ("elements, and bytes of code, at most", MAX_ELEMENTS as u64, "D-3.4, D-6.1"),
        ("bytes of shared memory of published loaders", PUBLISHED_SHARED_MEMORY, "D-13.2"),
        ("elements of a block within that", most, "D-11.6"),
    ];
    let mut out = "| constant | value | clause |\n|---|---|---|\n".to_owned();
    for (name, value, clause) in rows {
        let _ = writeln!(out, "| {name} | {value} | {clause} |");
    }
    out
}

/// Bytes as text, two digits for each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Finds runs of equal entries in a table.
fn runs(row: &[u8]) -> Vec<(usize, usize, u8)> {
    let mut runs: Vec<(usize, usize, u8)> = Vec::new();
    for (i, &value) in row.iter().enumerate() {
        match runs.last_mut() {
            Some((_, last, v)) if *v == value => *last = i,
            _ => runs.push((i, i, value)),
        }
    }
    runs
}

fn example() -> String {
    let mut out = String::new();
    let values = spec_examples::VALUES;
    let weights: Vec<u16> = values.iter().map(|v| bf16::from_f32(*v).to_bits()).collect();
    let all = bytes(&weights);
    let encoded = EncodeOptions::new().encode(&[&all[..8], &all[8..]]).unwrap();
    let code = Codewords::from_tables(&encoded.as_unit().tables());
    let bits = |e: u8| format!("{:0width$b}", code.bits(e), width = usize::from(code.len(e)));

    out += "A unit of two tensors, of four weights and of three.\n\n**Planes** (section 3):\n\n";
    out += "| element | value | BF16 | sign | exponent | mantissa | byte of `sign_mantissa` | codeword |\n|---|---|---|---|---|---|---|---|\n";
    for (i, (value, w)) in values.iter().zip(&weights).enumerate() {
        let (e, sm) = ((w >> 7) as u8, encoded.sign_mantissa[i]);
        let _ = writeln!(
            out,
            "| {i} | {value:?} | `{w:04x}` | {} | {e} | `{:07b}` | `{sm:02x}` | `{}` |",
            w >> 15,
            w & 0x7f,
            bits(e)
        );
    }
    out += "\n**The code** (sections 4, 11): exponent 127 occurs four times, 126 twice, 128 once. The lengths are 1, 2 and 2 bits. \
            In canonical order the codewords are ";
    let words: Vec<String> = [127, 126, 128].iter().map(|e| format!("`{}` for {e}", bits(*e))).collect();
    let _ = writeln!(out, "{}.\n", words.join(", "));
    let rows: Vec<&[u8]> = encoded.luts.chunks(256).collect();
    let _ = writeln!(
        out,
        "**`luts`** (section 5), {} rows, {} bytes:\n\n| row | entries | value | because |\n|---|---|---|---|",
        rows.len(),
        encoded.luts.len()
    );
    for (first, last, value) in runs(rows[0]) {
        let _ = writeln!(out, "| 0 | {first} to {last} | {value} | they begin with `{}` |", bits(value));
    }
    for (first, last, value) in runs(rows[1]) {
        let because = match value {
            0 => "no codeword".to_owned(),
            1 => "1 bit".to_owned(),
            _ => format!("{value} bits"),
        };
        let entries = if first == last { first.to_string() } else { format!("{first} to {last}") };
        let _ = writeln!(out, "| 1 | {entries} | {value} | {because} |");
    }
    let stream: Vec<String> = weights.iter().map(|w| bits((w >> 7) as u8)).collect();
    let total: usize = stream.iter().map(String::len).sum();
    let _ = writeln!(
        out,
        "\n**`encoded_exponent`** (section 6): the codewords `{}`, {total} bits, and {} zero bits to fill up the byte: `{}`.\n",
        stream.join(" "),
        8 * encoded.encoded_exponent.len() - total,
        hex(&encoded.encoded_exponent)
    );
    let _ = writeln!(
        out,
        "**`gaps`** (section 7): one window, whose first codeword starts at its bit 0; so `00000`, filled up to {} bytes, all `00`.\n",
        encoded.gaps.len()
    );
    let _ = writeln!(
        out,
        "**`output_positions`** (section 8): block 0 starts with element 0, and there are 7 elements: `{}`.\n",
        hex(&encoded.output_positions)
    );
    let _ = writeln!(
        out,
        "**`split_positions`** (section 9): the second tensor starts with element 4: `{}`.\n",
        hex(&encoded.split_positions)
    );
    let _ = writeln!(out, "**`sign_mantissa`**: `{}`.\n", hex(&encoded.sign_mantissa));

    // A code with jumps.
    let mut lengths = [0; 256];
    for (i, length) in lengths[120..130].iter_mut().enumerate() {
        *length = (i as u8 + 1).min(9);
    }
    let code = Codewords::canonical(&CodeLengths::new(&lengths).unwrap()).unwrap();
    let tables = PrefixTablesBuf::build(&code).unwrap();
    let view = tables.view();
    out += "**A code with a jump.** Exponents 120 to 129 with code lengths 1, 2, 3, 4, 5, 6, 7, 8, 9 and 9: the codewords of 128 and \
            129 do not end within 8 bits.\n\n| table | entries | value | |\n|---|---|---|---|\n";
    for (table, row) in view.tables().iter().enumerate() {
        for (first, last, value) in runs(row) {
            let entries = if first == last { first.to_string() } else { format!("{first} to {last}") };
            let what = match value {
                FIRST_JUMP.. => format!("a jump to table {}", 256 - usize::from(value)),
                _ => format!(
                    "exponent {value}, codeword `{:0width$b}`",
                    code.bits(value),
                    width = usize::from(code.len(value))
                ),
            };
            let _ = writeln!(out, "| {table} | {entries} | {value} | {what} |");
        }
    }
    out += "\nTo look up `11111111 0...`: entry 255 of table 0 is 255, a jump to table 1; the next 8 bits are `0...`, an entry from 0 to \
            127 of table 1, so the exponent is 128; its code length, 9, lies between 9 and 16 as D-5.8 wants after one jump.\n";
    out
}
