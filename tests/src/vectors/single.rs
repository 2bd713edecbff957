//! Units that break one rule alone, or none although they look as if they did: gaps and output
//! positions are made right for the codewords as they are read.

use df11::hazmat::layout::BLOCK_BITS;
use df11_judge::vectors::Outcome;

use super::cases::{Cases, Draft, about, encode_with, two_bits};
use crate::weights::with_exponents;

/// Code lengths 1, 2, ..., 9, 9: the codeword of 100 is `0`, that of 109 nine ones.
const LADDER: [(u8, u8); 10] =
    [(100, 1), (101, 2), (102, 3), (103, 4), (104, 5), (105, 6), (106, 7), (107, 8), (108, 9), (109, 9)];

pub(super) fn single_cases(cases: &mut Cases) {
    empty_window(cases);
    look_ups(cases);
    unreached(cases);
    gaps(cases);
    positions(cases);
    shapes(cases);
}

fn draft(weights: &[u16], lengths: &[(u8, u8)]) -> Draft {
    Draft::new(&encode_with(weights, lengths).as_slices())
}

fn put_gap(parts: &mut Draft, window: usize, gap: u8) {
    for bit in 0..5 {
        let (at, mask) = ((5 * window + bit) / 8, 0x80 >> ((5 * window + bit) % 8));
        let byte = &mut parts.get("gaps")[at];
        *byte = if gap >> (4 - bit) & 1 == 1 { *byte | mask } else { *byte & !mask };
    }
}

fn put_positions(parts: &mut Draft, positions: &[u32]) {
    *parts.get("output_positions") = positions.iter().flat_map(|p| p.to_le_bytes()).collect();
}

/// A unit made of bits as they are: for each element, how many bits of code it takes.
fn assemble(luts: Vec<u8>, code: &str, lengths: &[usize]) -> Draft {
    let bytes = code.len().div_ceil(8);
    let blocks = bytes.div_ceil(4096);
    let mut parts = draft(&with_exponents([100; 1], 1), &LADDER);
    let of_byte = |bits: &str| bits.bytes().fold(0, |byte, bit| 2 * byte + (bit - b'0'));
    let padded = format!("{code:0<width$}", width = 8 * bytes);
    *parts.get("luts") = luts;
    *parts.get("encoded_exponent") = (0..bytes).map(|i| of_byte(&padded[8 * i..8 * i + 8])).collect();
    *parts.get("sign_mantissa") = vec![0; lengths.len()];
    *parts.get("gaps") = vec![0; 320 * blocks];
    let (mut p, mut window, mut positions) = (0, 0, Vec::new());
    for (i, length) in lengths.iter().enumerate() {
        if p / 64 >= window {
            window = p / 64 + 1;
            put_gap(&mut parts, p / 64, (p % 64) as u8);
        }
        if p / BLOCK_BITS as usize >= positions.len() {
            positions.push(i as u32);
        }
        p += length;
    }
    positions.resize(blocks + 1, lengths.len() as u32);
    put_positions(&mut parts, &positions);
    parts.reshape();
    parts
}

/// Gaps of a window in which no codeword starts.
fn empty_window(cases: &mut Cases) {
    let clauses = &["D-7.3", "D-11.4"];
    let flags = &["EmptyWindow", "Straddle", "Ends"];
    // 63 codewords of one bit, and one that ends in window 1.
    for (last, ends, gaps) in [(108u8, 72, [0u8, 8, 31]), (101, 65, [0, 1, 31])] {
        let weights = with_exponents(std::iter::repeat_n(100, 63).chain([last]), 7);
        for gap in gaps {
            let mut parts = draft(&weights, &LADDER);
            put_gap(&mut parts, 1, gap);
            let comment = format!(
                "no codeword starts in the last window, the last one ends at bit {ends}, and the gap is {gap}"
            );
            let id = format!("gap-empty-window-{ends}-{gap}");
            cases.sound("df11", about(&id, &comment, flags, clauses), Outcome::Valid, &parts, &weights);
        }
    }
    // The same at the end of a block.
    let weights = with_exponents(std::iter::repeat_n(100, 32_767).chain([103]), 7);
    for gap in [0, 31] {
        let mut parts = draft(&weights, &LADDER);
        put_gap(&mut parts, 512, gap);
        let comment = "no codeword starts in the last block, and its first gap means nothing";
        let id = format!("gap-empty-block-{gap}");
        cases.sound(
            "df11",
            about(&id, comment, flags, &["D-7.3", "D-8.2", "D-8.5"]),
            Outcome::Valid,
            &parts,
            &weights,
        );
    }
}

const ONE: &[&str] = &["Malformed", "OneRule"];

/// Look-ups that break one rule, in units that are right but for them.
fn look_ups(cases: &mut Cases) {
    let base = draft(&with_exponents([100, 101, 109, 108], 1), &LADDER);
    let luts = base.0["luts"].bytes.clone();
    let rows = luts.len() / 256;
    let with = |symbol: u8, length: u8| {
        let mut luts = luts.clone();
        luts[256 * (rows - 1) + usize::from(symbol)] = length;
        luts
    };
    let long = "0".repeat(9) + &"0".repeat(9) + &"0".repeat(9);
    cases.invalid(
        about("length-9-in-table-0", "a code length of 9, found without a jump", ONE, &["D-5.8"]),
        &assemble(with(100, 9), &long, &[9, 9, 9]),
        |_| {},
    );
    let ones = "1".repeat(8 * 12);
    cases.invalid(
        about("length-8-in-table-1", "a code length of 8, found after a jump", ONE, &["D-5.8"]),
        &assemble(with(109, 8), &ones, &[8; 12]),
        |_| {},
    );
    let ones = "1".repeat(17 * 12);
    cases.invalid(
        about("length-17-in-table-1", "a code length of 17, found after one jump", ONE, &["D-5.8"]),
        &assemble(with(109, 17), &ones, &[17; 12]),
        |_| {},
    );
    // Three codewords `10` of 101, and the last element at the padding, whose zeros are those of
    // 100.
    let code = "10".repeat(3);
    cases.invalid(
        about("length-0-last", "the last element's symbol has code length 0", ONE, &["D-5.7"]),
        &assemble(with(100, 0), &code, &[2, 2, 2, 0]),
        |_| {},
    );
    // After four jumps, a codeword: four tables that lead to one another.
    let mut deep = vec![100u8; 256 * 5];
    for table in 0..4 {
        deep[256 * table + 255] = 255 - table as u8;
    }
    let mut lengths = vec![0u8; 256];
    lengths[100] = 32;
    deep.extend(lengths);
    let mut four = deep.clone();
    four[..256].fill(255);
    four[256..512].fill(254);
    four[512..768].fill(253);
    four[768..1024].fill(252);
    cases.invalid(
        about("jump-fourth", "a fourth jump leads to a symbol of 32 bits", ONE, &["D-5.6"]),
        &assemble(four.clone(), &"0".repeat(64), &[32, 32]),
        |_| {},
    );
    // Three of them are allowed.
    let mut three = four;
    three[768..1024].fill(100);
    let weights = [0x3200, 0x3200];
    let parts = assemble(three, &"0".repeat(64), &[32, 32]);
    let comment = "three jumps, and a symbol of 32 bits";
    cases.sound(
        "df11",
        about("jump-third", comment, &["LongCodes"], &["D-5.5", "D-5.6", "D-5.8"]),
        Outcome::Valid,
        &parts,
        &weights,
    );
    // Bits behind the end of the code count as 0: the last look-up needs eight of them.
    let weights = with_exponents([109, 100], 1);
    let parts = draft(&weights, &LADDER);
    let comment = "the last look-up reads behind the end of the code";
    let id = "look-up-behind-the-end";
    cases.sound("df11", about(id, comment, &["Ends"], &["D-5.5", "D-6.2"]), Outcome::Valid, &parts, &weights);
    // `1` and padding leads to the symbol of `10`, two bits, of which one is padding.
    let mut parts = assemble(luts.clone(), &("0".repeat(7) + "1"), &[1; 7]);
    parts.get("sign_mantissa").push(0);
    parts.get("output_positions")[4] = 8;
    cases.invalid(
        about("code-ends-in-codeword", "the last codeword ends one bit behind the code", ONE, &["D-6.2"]),
        &parts,
        |_| {},
    );
}

/// Entries that no codeword reaches.
fn unreached(cases: &mut Cases) {
    let weights = with_exponents([100, 101, 107, 100, 106], 3);
    // Only entry 255 of table 0 leads to table 1, and no element needs it.
    let clauses = &["D-5.6", "D-5.7", "D-5.8", "D-4.2"];
    for (id, comment, at, value) in [
        ("unreached-cycle", "a table that no codeword reaches jumps to itself", 256 + 7, 255u8),
        (
            "unreached-zero",
            "an entry that no codeword reaches leads to a symbol of code length 0",
            256 + 7,
            9,
        ),
        ("unreached-length", "an entry that no codeword reaches leads to a symbol of one bit", 256 + 7, 100),
    ] {
        let mut parts = draft(&weights, &LADDER);
        parts.get("luts")[at] = value;
        cases.sound("df11", about(id, comment, &["Foreign"], clauses), Outcome::Valid, &parts, &weights);
    }
    for (id, value) in [("jump-unreached-240", 240u8), ("jump-unreached-254", 254)] {
        let comment = "a jump to nowhere in an entry of the second table that no codeword reaches";
        cases.invalid(about(id, comment, ONE, &["D-5.3"]), &draft(&weights, &LADDER), |p| {
            p.get("luts")[256 + 7] = value
        });
    }
    let comment = "a jump to nowhere in an entry of the first table that no codeword reaches";
    cases.invalid(about("jump-unreached-first", comment, ONE, &["D-5.3"]), &draft(&weights, &LADDER), |p| {
        p.get("luts")[255] = 254
    });
    for symbol in [0usize, 239] {
        let id = format!("length-33-unused-{symbol}");
        let comment = "a code length of 33 of the first or the last symbol, which does not occur";
        cases.invalid(about(&id, comment, ONE, &["D-5.4"]), &draft(&weights, &LADDER), |p| {
            let rows = p.get("luts").len() / 256;
            p.get("luts")[256 * (rows - 1) + symbol] = 33;
        });
    }
    let mut parts = draft(&weights, &LADDER);
    let rows = parts.get("luts").len() / 256;
    parts.get("luts")[256 * (rows - 1)..][240..].fill(255);
    parts.get("luts")[256 * (rows - 1)] = 32;
    let comment = "code lengths of 32 of a symbol that does not occur, and of 255 of what is no symbol";
    cases.sound(
        "df11",
        about("length-32-unused", comment, &["Filler"], &["D-5.4"]),
        Outcome::Valid,
        &parts,
        &weights,
    );
}

/// Gaps of single windows.
fn gaps(cases: &mut Cases) {
    // Long codewords, so that few elements fill many windows.
    let lengths: Vec<(u8, u8)> = (0..33).map(|i| (i, (i + 1).min(32))).collect();
    let exponents = (0..2900u32).map(|i| (i * 7 % 33) as u8).chain(std::iter::repeat_n(0, 40));
    let weights = with_exponents(exponents, 9);
    let encoded = encode_with(&weights, &lengths);
    let base = Draft::new(&encoded.as_slices());
    let windows = encoded.encoded_exponent.len().div_ceil(8);
    let unit = encoded.as_unit();
    for (id, window) in [
        ("gap-last", windows - 1),
        ("gap-63", 63),
        ("gap-64", 64),
        ("gap-511", 511),
        ("gap-513", 513),
        ("gap-712", 512 + 200),
        ("gap-last-but-one", windows - 2),
    ] {
        let right = unit.gap(window);
        for (more, bit) in [("", 1u8), ("-high", 16)] {
            let (id, comment) = (format!("{id}{more}"), format!("the gap of window {window} is wrong"));
            cases.invalid(about(&id, &comment, ONE, &["D-7.2"]), &base, |p| put_gap(p, window, right ^ bit));
        }
    }
    // The entry after the last window's.
    let mut parts = base.clone();
    put_gap(&mut parts, windows, 1);
    let comment = "the entry after the last window's is not 0";
    let about_next = about("filler-gap-next", comment, &["Filler"], &["D-7.4"]);
    cases.sound("df11", about_next, Outcome::Acceptable, &parts, &weights);
    cases.invalid(about("gaps-block-missing", "gaps of one block of two", ONE, &["D-7.4"]), &base, |p| {
        p.get("gaps").truncate(320)
    });
    cases.invalid(about("gaps-block-more", "gaps of three blocks for two", ONE, &["D-7.4"]), &base, |p| {
        p.get("gaps").extend([0; 320])
    });
}

/// Output positions.
fn positions(cases: &mut Cases) {
    // Three blocks: 1,024 codewords of 32 bits each, and 100 more.
    let lengths: Vec<(u8, u8)> = (0..33).map(|i| (i, (i + 1).min(32))).collect();
    let weights = with_exponents((0..2148u32).map(|i| 31 + (i % 2) as u8), 5);
    let base = draft(&weights, &lengths);
    let (b, n) = (1024u32, weights.len() as u32);
    let clauses = &["D-8.6", "D-8.2"];
    for (id, comment, positions) in [
        ("position-last-empty-3", "the last of three blocks is said to be empty", &[0, b, n, n][..]),
        ("position-last-empty-short-3", "the same in the short form", &[0, b, n]),
        ("position-one-less", "block 1 begins one element too early", &[0, b - 1, 2 * b, n]),
        ("position-one-more", "block 1 begins one element too late", &[0, b + 1, 2 * b, n]),
        ("position-last-one-less", "the last block begins one element too early", &[0, b, 2 * b - 1, n]),
        ("position-last-one-more", "the last block begins one element too late", &[0, b, 2 * b + 1, n]),
    ] {
        cases.invalid(about(id, comment, ONE, clauses), &base, |p| put_positions(p, positions));
    }
    for (id, comment, positions) in [
        ("position-equal-first", "blocks 0 and 1 begin with one element", &[0, 0, 2 * b, n][..]),
        ("position-equal-middle", "blocks 1 and 2 begin with one element", &[0, 2 * b, 2 * b, n]),
        ("position-falls-3", "output positions fall", &[0, 2 * b, b, n]),
        ("position-beyond", "an output position is more than the number of elements", &[0, b, n + 1, n]),
        (
            "position-end-less",
            "the last entry is one less than the number of elements",
            &[0, b, 2 * b, n - 1],
        ),
        (
            "position-end-more",
            "the last entry is one more than the number of elements",
            &[0, b, 2 * b, n + 1],
        ),
        ("position-begins-1", "the first output position is 1", &[1, b, 2 * b, n]),
        ("position-negative", "an output position of 2^32 - 1", &[0, u32::MAX, 2 * b, n]),
    ] {
        // One that is far beyond says as well that a block has more elements than bits.
        cases.invalid(about(id, comment, ONE, &["D-8.5", "D-8.6"]), &base, |p| put_positions(p, positions));
    }
    // The last codeword begins with the last bit of block 0.
    let weights = with_exponents(std::iter::repeat_n(100, 32_767).chain([108]), 7);
    let base = draft(&weights, &LADDER);
    let n = weights.len() as u32;
    cases.invalid(
        about(
            "position-of-straddling",
            "the last block is given a codeword that starts before it",
            ONE,
            clauses,
        ),
        &base,
        |p| put_positions(p, &[0, n - 1, n]),
    );
    let comment = "the last entry is missing, and the output position of the last block is not n";
    cases.invalid(about("positions-short-not-n", comment, ONE, &["D-8.5"]), &base, |p| {
        put_positions(p, &[0, n - 1])
    });
    let small = draft(&two_bits(40), &[(100, 2), (101, 2), (102, 2), (103, 2)]);
    one_block(cases, &small);
    splits(cases, &small);
}

/// Parts of a unit of one block that have the wrong length or the wrong ends.
fn one_block(cases: &mut Cases, small: &Draft) {
    let comment = "one block: its output position alone is no short form";
    cases.invalid(about("positions-short-one-block", comment, ONE, &["D-8.5"]), small, |p| {
        put_positions(p, &[0])
    });
    cases.invalid(
        about("positions-two-more", "two output positions too many", ONE, &["D-8.3"]),
        small,
        |p| put_positions(p, &[0, 40, 40, 40]),
    );
    let comment = "one block that begins with element 1";
    cases.invalid(about("position-begins-1-of-one-block", comment, ONE, &["D-8.5"]), small, |p| {
        put_positions(p, &[1, 40])
    });
    // Nothing at all.
    let comment = "no elements, and output positions that say so";
    cases.invalid(about("no-elements-and-positions", comment, ONE, &["D-3.4"]), small, |p| {
        p.get("sign_mantissa").clear();
        p.get("encoded_exponent").truncate(1);
        put_positions(p, &[0, 0]);
    });
    let comment = "no code, and no gaps and output positions for it";
    cases.invalid(about("code-empty-and-gaps", comment, ONE, &["D-6.1"]), small, |p| {
        p.get("encoded_exponent").clear();
        p.get("gaps").clear();
        p.get("output_positions").clear();
    });
    let comment = "two rows and a half";
    cases.invalid(about("luts-cut-third", comment, ONE, &["D-5.1"]), small, |p| {
        p.get("luts").extend([0; 128])
    });
    let comment = "the code lengths alone";
    cases.invalid(about("luts-lengths-alone", comment, ONE, &["D-5.1"]), small, |p| {
        p.get("luts").drain(..256);
    });
}

/// Output positions of an empty last block, in which no codeword starts (since 1.1.0).
pub(super) fn empty_last_blocks(cases: &mut Cases) {
    // Codewords of two bits, so that an element more is not too many for the first block.
    let weights = with_exponents(std::iter::repeat_n(101, 16_383).chain([100, 108]), 7);
    let base = draft(&weights, &LADDER);
    let n = weights.len() as u32;
    let right = about(
        "position-last-empty-right",
        "the output position of the last block, in which no codeword starts, is n",
        &["Straddle", "Ends"],
        &["D-8.2", "D-8.5"],
    );
    cases.sound("df11", right, Outcome::Valid, &base, &weights);
    for (id, comment, positions) in [
        (
            "position-last-empty-beyond",
            "the last block is empty, and its output position is n + 1",
            [0, n + 1, n],
        ),
        (
            "position-last-empty-far-beyond",
            "the last block is empty, and its output position is 2^32 - 1",
            [0, u32::MAX, n],
        ),
        ("position-last-empty-end", "the last block is empty, and the last entry is n + 1", [0, n, n + 1]),
    ] {
        cases.invalid(about(id, comment, ONE, &["D-8.5", "D-8.6"]), &base, |p| put_positions(p, &positions));
    }
}

/// A row that is a table and its code lengths at once (since 1.1.0).
pub(super) fn one_row(cases: &mut Cases) {
    let unit = assemble(vec![1; 256], &"0".repeat(40), &[1; 40]);
    let comment = "one row, in which every look-up finds symbol 1, and its code length, 1";
    cases.invalid(about("luts-table-and-lengths", comment, ONE, &["D-5.1"]), &unit, |_| {});
}

/// Split positions at the ends, and beyond them.
fn splits(cases: &mut Cases, small: &Draft) {
    let splits = |entries: &[i64]| entries.iter().flat_map(|entry| entry.to_le_bytes()).collect::<Vec<u8>>();
    let weights = two_bits(40);
    for (id, comment, entries) in [
        (
            "splits-at-ends",
            "split positions of 0 and n: the first and the last tensor are empty",
            &[0i64, 40][..],
        ),
        ("splits-equal", "equal split positions: tensors without elements", &[7, 7, 7]),
    ] {
        let mut parts = small.clone();
        *parts.get("split_positions") = splits(entries);
        parts.reshape();
        let about = about(id, comment, &["Tensors"], &["D-9.1", "D-9.2"]);
        cases.sound("df11", about, Outcome::Valid, &parts, &weights);
    }
    for (id, comment, entries) in [
        ("split-one-beyond", "a split position of n + 1", &[41i64][..]),
        ("split-minus-one", "a split position of -1", &[-1]),
        ("split-falls-by-one", "split positions fall by one", &[8, 7]),
        ("split-large", "a split position of 2^32 + 7", &[(1 << 32) + 7]),
    ] {
        cases.invalid(about(id, comment, ONE, &["D-9.2"]), small, |p| {
            *p.get("split_positions") = splits(entries)
        });
    }
}

/// Parts of other shapes.
fn shapes(cases: &mut Cases) {
    let weights = two_bits(40);
    let base = draft(&weights, &[(100, 2), (101, 2), (102, 2), (103, 2)]);
    for (id, key, shape) in [
        ("shape-luts", "luts", vec![512]),
        ("shape-sign-mantissa", "sign_mantissa", vec![2, 20]),
        ("shape-output-positions", "output_positions", vec![2, 4]),
        ("shape-gaps", "gaps", vec![1, 320]),
        ("shape-code", "encoded_exponent", vec![10, 1]),
        ("shape-splits", "split_positions", vec![0, 1]),
    ] {
        let mut parts = base.clone();
        parts.0.get_mut(key).unwrap().shape = shape;
        let comment = format!("{key} has another shape");
        let about = about(id, &comment, &["Shape"], &["D-10.1"]);
        cases.sound("df11", about, Outcome::Acceptable, &parts, &weights);
    }
}
