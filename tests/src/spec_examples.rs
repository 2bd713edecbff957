//! Worked examples of the specification that a program makes: each is written by the reference, and
//! the product writes the same bytes, or there is no example.

use std::fmt::Write;

use df11::EncodeOptions;
use df11_reference::{frame, rans};
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
    let mut at = 0;
    let mut field = |bytes: &[u8], len: usize, what: &str| {
        // Long runs of one pattern are said in words.
        let part = &bytes[at..at + len];
        let is_one = len > 16 && part.chunks(4).all(|four| four == &part[..4]);
        let shown = if is_one {
            format!("`{}`, {} times", hex(&part[..4]), len / 4)
        } else {
            format!("`{}`", hex(part))
        };
        let _ = writeln!(out, "| {at} | {shown} | {what} |");
        at += len;
    };
    field(&bytes, 8, "magic");
    field(&bytes, 8, "version 1, type BF16, codec rANS, model 1, 12 scale bits, rank 1, reserved");
    field(&bytes, 8, "7 elements");
    field(&bytes, 8, "blocks of 65,536 elements, reserved");
    field(&bytes, 8, "one dimension, 7");
    field(&bytes, 32, "the alphabet: bits 6 and 7 of byte 15 for 126 and 127, bit 0 of byte 16 for 128");
    field(&bytes, 6, "their frequencies, of 4,096");
    field(&bytes, 2, "padding to 4");
    field(&bytes, 4, "checksum of the header");
    field(&bytes, 12, "padding to 16");
    let block = 96;
    field(&bytes, 4, "checksum of block 0, seed 0");
    field(&bytes, 4, "no words");
    field(&bytes, 4, "checksum of the seven exponents");
    field(&bytes, 4, "reserved");
    field(&bytes, 28, "the states of lanes 0 to 6");
    field(&bytes, 100, "the states of lanes 7 to 31, which have no symbol");
    field(&bytes, 7, "the plane of the raw part: signs and mantissas, as in DF11.md");
    field(&bytes, 9, "padding to 16");
    field(&bytes, 8, "the directory: the offset of block 0");
    field(&bytes, 4, "its checksum once more");
    field(&bytes, 8, "the trailer: the offset of the directory");
    field(&bytes, 8, "one block");
    field(&bytes, 4, "digest of the 14 bytes of the elements");
    field(&bytes, 4, "checksum of directory and trailer");
    assert_eq!((at, usize::from(bytes[block + 160])), (bytes.len(), block));
    out += "\nThe whole frame:\n\n```\n";
    for (i, line) in bytes.chunks(16).enumerate() {
        let _ = writeln!(out, "{:04x}  {}", 16 * i, hex(line));
    }
    out + "```\n"
}
