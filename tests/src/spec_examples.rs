//! Worked examples of the specification that a program makes: each is written by the reference, and
//! the product writes the same bytes, or there is no example.

use std::fmt::Write;

use df11::EncodeOptions;
use df11_reference::{delta as reference, frame, rans};
use half::bf16;

use crate::spec_text::hex;
use crate::weights::bytes;

/// The values of the first example of `DF11.md`, and of that of `FRAME.md`.
pub(crate) const VALUES: [f32; 7] = [1.0, -2.0, 0.5, 1.5, 1.0, -1.0, 0.75];

/// What the reference writes of one tensor, and the product as well.
fn unit(weights: &[bf16]) -> df11_reference::Unit {
    let unit = df11_reference::encode(&[weights]).unwrap();
    let all: Vec<u16> = weights.iter().map(|weight| weight.to_bits()).collect();
    let ours = EncodeOptions::new().encode(&[&bytes(&all)]).unwrap();
    assert_eq!(ours.encoded_exponent, unit.encoded_exponent);
    assert_eq!((ours.gaps, ours.output_positions), (unit.gaps.clone(), unit.output_positions.clone()));
    unit
}

/// The entry of a window.
fn gap(unit: &df11_reference::Unit, window: usize) -> usize {
    let bit = |at: usize| usize::from(unit.gaps[at / 8] >> (7 - at % 8) & 1);
    (5 * window..5 * window + 5).fold(0, |gap, at| 2 * gap + bit(at))
}

/// Gaps, two blocks, and a window in which no codeword starts.
pub(crate) fn windows() -> String {
    let mut out = String::new();
    let eight: Vec<bf16> = (0..11_000u16).map(|i| bf16::from_bits((120 + i % 8) << 7)).collect();
    let long = unit(&eight);
    let positions: Vec<u32> =
        long.output_positions.as_chunks().0.iter().map(|entry| u32::from_le_bytes(*entry)).collect();
    let [0, second, 11_000] = positions[..] else { panic!("two blocks") };
    out += "**Gaps and two blocks.** 11,000 weights, whose exponents are 120 to 127 again and again: eight \
            symbols of 3 bits each, `000` for 120 to `111` for 127.\n\n";
    let _ = writeln!(
        out,
        "* `encoded_exponent`: 33,000 bits, {} bytes, `{}` again and again. So there are {} windows and {} blocks.",
        long.encoded_exponent.len(),
        hex(&long.encoded_exponent[..3]),
        long.encoded_exponent.len().div_ceil(8),
        positions.len() - 1,
    );
    let gaps: Vec<String> = (0..8).map(|window| format!("{:05b}", gap(&long, window))).collect();
    let _ = writeln!(
        out,
        "* `gaps`: codewords start at every third bit. The first that starts in window 1 (bits 64 to 127) starts \
         at bit 66, in window 2 at bit 129, in window 3 at bit 192: gaps of {}, {} and {}. The first eight \
         entries, `{}`, are the bytes `{}`; there are {} bytes.",
        gap(&long, 1),
        gap(&long, 2),
        gap(&long, 3),
        gaps.join(" "),
        hex(&long.gaps[..5]),
        long.gaps.len(),
    );
    let _ = writeln!(
        out,
        "* `output_positions`: block 1 begins with bit 32,768. Element {} starts at bit {} and is not in it; \
         element {second} starts at bit {}, so the gap of window 512 is {}: `{}`.\n",
        second - 1,
        3 * (second - 1),
        3 * second,
        gap(&long, 512),
        hex(&long.output_positions),
    );

    let few: Vec<bf16> = std::iter::repeat_n(1.0f32, 61).chain([0.5, -2.0]).map(bf16::from_f32).collect();
    let short = unit(&few);
    let last = short.encoded_exponent.len() - 1;
    let _ = writeln!(
        out,
        "**A window in which no codeword starts.** 63 weights: 61 times 1.0, then 0.5 and -2.0. The codewords are \
         those of the first example, `0`, `10` and `11`. The last one starts at bit 63 and ends with bit 64, the \
         first of window 1; so `e` of D-11.4 is 65, and the entry of window 1 is {}. `encoded_exponent` is `{}`, \
         `gaps` begins with `{}`, and `output_positions` is `{}`.",
        gap(&short, 1),
        hex(&short.encoded_exponent[last - 1..]),
        hex(&short.gaps[..2]),
        hex(&short.output_positions),
    );
    out
}

/// A block of rANS with words.
pub(crate) fn words() -> String {
    let rare = [(3, [1, 2, 3, 4]), (10, [5, 6, 5, 6]), (20, [7, 8, 9, 10])];
    let symbols: Vec<u8> = (0..128)
        .map(|i| rare.iter().find(|(lane, _)| i % 32 == *lane).map_or(100, |(_, symbols)| symbols[i / 32]))
        .collect();
    let mut counts = [0; 256];
    symbols.iter().for_each(|symbol| counts[usize::from(*symbol)] += 1);
    let frequencies = rans::Frequencies::normalise(&counts, 9);
    let block = rans::encode(&frequencies, &symbols).unwrap();
    assert_eq!(rans::decode(&frequencies, &block, symbols.len()).unwrap(), symbols);
    let ours = df11::hazmat::rans::Frequencies::normalise(&counts, 9).unwrap();
    assert_eq!(ours.as_array().map(u64::from), frequencies.f);

    let mut out = "128 symbols, so four steps, `P = 9`. All are 100, but for three lanes:\n\n".to_owned();
    out += "| lane | step 0 | step 1 | step 2 | step 3 |\n|---|---|---|---|---|\n";
    for (lane, symbols) in rare {
        let _ = writeln!(out, "| {lane} | {} |", symbols.map(|symbol| symbol.to_string()).join(" | "));
    }
    out += "\nThe normalised and the cumulative frequencies:\n\n| symbol | count | `f` | `c` |\n|---|---|---|---|\n";
    let mut below = 0;
    for symbol in (0..256).filter(|symbol| counts[*symbol] > 0) {
        let f = frequencies.f[symbol];
        let _ = writeln!(out, "| {symbol} | {} | {f} | {below} |", counts[symbol]);
        below += f;
    }
    out += "\nEncoding these lanes (R-4.2); in each step the lanes append their words in order:\n\n\
            | step | lane | symbol | state | limit | word | state after |\n|---|---|---|---|---|---|---|\n";
    let mut states = [1u64 << 15; 3];
    let mut written = Vec::new();
    for step in 0..4 {
        for (state, (lane, symbols)) in states.iter_mut().zip(rare) {
            let symbol = usize::from(symbols[step]);
            let f = frequencies.f[symbol];
            let (before, limit) = (*state, f << 22);
            let mut word = "-".to_owned();
            if *state >= limit {
                written.push((*state % 65536) as u16);
                word = format!("{}", *state % 65536);
                *state /= 65536;
            }
            *state = ((*state / f) << 9) + *state % f + frequencies.f[..symbol].iter().sum::<u64>();
            let _ =
                writeln!(out, "| {step} | {lane} | {symbol} | {before} | {limit} | {word} | {} |", *state);
        }
    }
    assert_eq!((&written, states), (&block.words, [3, 10, 20].map(|lane: usize| block.states[lane])));
    let words: Vec<String> = written.iter().map(u16::to_string).collect();
    let _ = writeln!(
        out,
        "\nThe words of the block are {}, in this order. All other lanes end in state {}, and need no word. A \
         decoder begins with step 3: the lanes that need a word after it, in order, get the last words of the \
         list, of which the lowest lane gets the first.",
        words.join(", "),
        block.states[0],
    );
    out
}

/// A whole frame.
pub(crate) fn frame() -> String {
    let weights: Vec<u16> = VALUES.iter().map(|value| bf16::from_f32(*value).to_bits()).collect();
    let tensor = frame::Tensor { element_type: 1, shape: vec![7], elements: bytes(&weights) };
    let bytes = frame::encode(&tensor, 1).unwrap();
    assert_eq!(frame::decode(&bytes).as_ref(), Ok(&tensor));
    let read = df11::frame::Frame::new(&bytes).unwrap();
    let mut elements = vec![0; read.elements_bytes()];
    read.decode_into(&mut elements).unwrap();
    assert_eq!(elements, tensor.elements);

    let mut out = "The seven weights 1.0, -2.0, 0.5, 1.5, 1.0, -1.0 and 0.75 in BF16, as a tensor of one dimension, by \
                   codec rANS. Exponents 126, 127 and 128 occur twice, four times and once.\n\n"
        .to_owned();
    let _ = writeln!(out, "| offset | bytes | field |\n|---|---|---|");
    let mut fields = Fields { out: &mut out, bytes: &bytes, at: 0 };
    let mut field = |len, what: &str| fields.field(len, what);
    field(8, "magic");
    field(8, "version 1, type BF16, codec rANS, model 1, 12 scale bits, rank 1, reserved");
    field(8, "7 elements");
    field(8, "blocks of 65,536 elements, reserved");
    field(8, "one dimension, 7");
    field(32, "the alphabet: bits 6 and 7 of byte 15 for 126 and 127, bit 0 of byte 16 for 128");
    field(6, "their frequencies, of 4,096");
    field(2, "padding to 4");
    field(4, "checksum of the header");
    field(12, "padding to 16");
    let block = 96;
    field(4, "checksum of block 0, seed 0");
    field(4, "no words");
    field(4, "checksum of the seven exponents");
    field(4, "reserved");
    field(28, "the states of lanes 0 to 6");
    field(100, "the states of lanes 7 to 31, which have no symbol");
    field(7, "the plane of the raw part: signs and mantissas, as in DF11.md");
    field(9, "padding to 16");
    field(8, "the directory: the offset of block 0");
    field(4, "its checksum once more");
    field(8, "the trailer: the offset of the directory");
    field(8, "one block");
    field(4, "digest of the 14 bytes of the elements");
    field(4, "checksum of directory and trailer");
    assert_eq!((fields.at, usize::from(bytes[block + 160])), (bytes.len(), block));
    out + &dump("frame", &bytes)
}

/// The rows of a table that lists the fields of some bytes.
struct Fields<'a> {
    out: &'a mut String,
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    /// The next `len` bytes, and what they are.
    fn field(&mut self, len: usize, what: &str) {
        // Long runs of one pattern are said in words.
        let part = &self.bytes[self.at..self.at + len];
        let is_one = len > 16 && part.chunks(4).all(|four| four == &part[..4]);
        let shown = if is_one {
            format!("`{}`, {} times", hex(&part[..4]), len / 4)
        } else {
            format!("`{}`", hex(part))
        };
        let _ = writeln!(self.out, "| {} | {shown} | {what} |", self.at);
        self.at += len;
    }
}

/// All bytes, 16 in a line.
fn dump(what: &str, bytes: &[u8]) -> String {
    let mut out = format!("\nThe whole {what}:\n\n```\n");
    for (i, line) in bytes.chunks(16).enumerate() {
        let _ = writeln!(out, "{:04x}  {}", 16 * i, hex(line));
    }
    out + "```\n"
}

/// The elements of [`delta`], their ordinals and symbols.
fn ordinals(base: [u16; 7], new: [u16; 7]) -> String {
    let mut out = "The base is the seven weights of FRAME.md's example, 1.0, -2.0, 0.5, 1.5, 1.0, -1.0 and 0.75 in BF16. \
                   In the result, three of them are others (B-5.1, B-5.2, with `m` 0):\n\n\
                   | element | base | its ordinal | result | its ordinal | `d` | `z` | symbol |\n\
                   |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let ordinal = |bits: u16| if bits < 0x8000 { i32::from(bits) } else { i32::from((bits ^ 0x7fff) as i16) };
    for (i, (b, r)) in base.into_iter().zip(new).enumerate() {
        let d = ordinal(r) - ordinal(b);
        let z = if d < 0 { -2 * d - 1 } else { 2 * d };
        let symbol = if z < 255 { z.to_string() } else { "255, an escape".to_owned() };
        let (ob, or) = (ordinal(b), ordinal(r));
        let _ = writeln!(out, "| {i} | `{b:04x}` | {ob} | `{r:04x}` | {or} | {d} | {z} | {symbol} |");
    }
    out
}

/// A delta by method 1 and one by method 2 of the same elements.
pub(crate) fn delta() -> String {
    let base = VALUES.map(|value| bf16::from_f32(value).to_bits());
    // One step towards zero from each side, and far away.
    let new = [0, -1, 0, -1, 0, 0, 0x0388].map({
        let mut base = base.iter();
        move |step: i32| (i32::from(*base.next().unwrap()) + step) as u16
    });
    let (old, all) = (bytes(&base), bytes(&new));
    let write = |ours: df11::delta::Method, theirs| {
        let delta = reference::encode(1, &all, &old, 7, theirs).unwrap();
        assert_eq!(reference::decode(&delta, &old), Ok((1, all.clone())));
        let options = df11::delta::EncodeOptions::new().method(ours).block(4096).map(false).escapes(false);
        assert_eq!(options.encode(df11::frame::ElementType::Bf16, &all, &old).unwrap(), delta);
        delta
    };
    let list = write(df11::delta::Method::List, reference::Method::List);
    let coded = reference::Method::Coded { m: 0, block: 4096, map: false, escapes: false };
    let coded = write(df11::delta::Method::Coded, coded);

    let mut out = ordinals(base, new);
    let front = |field: &mut dyn FnMut(usize, &str), method: &str, block: &str| {
        field(8, "magic");
        field(8, method);
        field(8, "`n`: 7 elements");
        field(8, "`c`: all of them have one in the base");
        field(4, block);
    };
    out += "\n**As a list** (B-4.2):\n\n| offset | bytes | field |\n|---|---|---|\n";
    let mut fields = Fields { out: &mut out, bytes: &list, at: 0 };
    let mut field = |len, what: &str| fields.field(len, what);
    front(&mut field, "version 1, type BF16, method list, reserved", "no blocks");
    field(4, "checksum of the base's elements");
    field(4, "checksum of the result's");
    field(4, "three entries");
    field(3, "after one element, element 1");
    field(3, "after one more, element 3");
    field(3, "after two more, element 6");
    field(4, "checksum of the header");
    assert_eq!(fields.at, list.len());

    out += "\n**Coded** (section 5), with one table, as one block; no map, and no coded escapes:\n\n\
            | offset | bytes | field |\n|---|---|---|\n";
    let mut fields = Fields { out: &mut out, bytes: &coded, at: 0 };
    let mut field = |len, what: &str| fields.field(len, what);
    front(&mut field, "version 1, type BF16, method coded, `m` 0, `K` 1, no flags, reserved", "`B`: 4,096");
    field(8, "three elements differ");
    field(2, "frequency of symbol 0, of 2,048");
    field(2, "symbol 1");
    field(2, "symbol 2");
    field(2, "252 symbols without a frequency");
    field(2, "symbol 255");
    field(4, "block 0: `w`, no words");
    field(4, "`v`, none of escapes");
    field(4, "`e`, one escape");
    field(4, "`k`, seven coded elements");
    field(4, "checksum of the block, seed 0");
    field(4, "checksum of the base's elements");
    field(4, "checksum of the result's");
    field(4, "checksum of the header");
    let padding = fields.at.next_multiple_of(4) - fields.at;
    assert_eq!(padding, 2);
    fields.field(padding, "padding to 4");
    fields.field(28, "the states of lanes 0 to 6");
    fields.field(100, "the states of lanes 7 to 31, which have no symbol");
    fields.field(2, "the escape, element 6 of the result");
    fields.field(2, "padding to 4");
    assert_eq!(fields.at, coded.len());
    out + &dump("coded delta", &coded)
}
