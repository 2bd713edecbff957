//! Units that decode.

use df11::bf16;
use df11_judge::vectors::Outcome;

use super::cases::{About, Cases, Draft, about, encode_with, two_bits};
use crate::weights::{bits, bytes, fibonacci_exponents, like_trained, with_exponents};
use crate::{fixtures, foreign};

pub(super) fn valid_cases(cases: &mut Cases) {
    sizes(cases);
    alphabets(cases);
    long_codewords(cases);
    straddling_codewords(cases);
    ends(cases);
    special_weights(cases);
    everyday_units(cases);
    fillers(cases);
}

/// Numbers of elements around boundaries.
fn sizes(cases: &mut Cases) {
    for n in [1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025] {
        let comment = "codewords of two bits: 32 elements fill a window";
        cases.valid(about(&format!("size-{n}"), comment, &["Size"], &["D-7.1", "D-7.4"]), &[two_bits(n)]);
    }
    for n in [16_383, 16_384, 16_385, 32_769] {
        let comment = "codewords of two bits: 16,384 elements fill a block";
        cases.valid(about(&format!("size-{n}"), comment, &["Size"], &["D-8.1", "D-8.3"]), &[two_bits(n)]);
    }
    for n in [1, 7, 8, 9, 63, 64, 65, 4095, 4096, 4097] {
        let comment = "one exponent, one bit each";
        let flags = ["Size", "Alphabet"];
        cases.valid(
            about(&format!("constant-{n}"), comment, &flags, &["D-4.3", "D-6.1"]),
            &[with_exponents(vec![120; n], 1)],
        );
    }
    for n in [32_768, 32_769] {
        let about = about(
            "",
            "one exponent: 32,768 elements fill a block",
            &["Size", "Alphabet"],
            &["D-8.1", "D-13.2"],
        );
        cases.valid(About { id: &format!("constant-{n}"), ..about }, &[vec![0x3f80; n]]);
    }
}

/// Alphabets of every kind.
fn alphabets(cases: &mut Cases) {
    for alphabet in [2, 3, 4, 5, 17, 33, 100, 200, 239, 240] {
        let exponents = (0..2000).map(|i| (i % alphabet) as u8);
        let comment = "symbols equally frequent, from 0 up";
        cases.valid(
            about(&format!("alphabet-{alphabet}"), comment, &["Alphabet"], &["D-4.1", "D-5.1"]),
            &[with_exponents(exponents, alphabet as u64)],
        );
    }
    for symbol in [0u8, 1, 127, 128, 238, 239] {
        let exponents = (0..100).map(|i| if i % 3 == 0 { symbol } else { symbol ^ 1 });
        let comment = "two symbols at an end or in the middle of the alphabet";
        cases.valid(
            about(&format!("symbol-{symbol}"), comment, &["Alphabet"], &["D-4.1", "D-5.2"]),
            &[with_exponents(exponents, 5)],
        );
    }
}

/// Codewords of every length, codes of every number of tables.
fn long_codewords(cases: &mut Cases) {
    for longest in [2u8, 7, 8, 9, 10, 15, 16, 17, 18, 23, 24, 25, 26, 31, 32] {
        // Lengths 1, 2, ..., longest, longest. Each symbol occurs a few times, in changing order.
        let symbols = usize::from(longest) + 1;
        let lengths: Vec<(u8, u8)> =
            (0..symbols).map(|i| (100 + i as u8, (i as u8 + 1).min(longest))).collect();
        let exponents = (0..4 * symbols).map(|i| 100 + (i * 7 % symbols + i / symbols) as u8 % symbols as u8);
        let comment = "codewords of every length up to the longest";
        cases.with_lengths(
            about(&format!("longest-{longest}"), comment, &["LongCodes"], &["D-4.2", "D-5.5"]),
            &with_exponents(exponents, u64::from(longest)),
            &lengths,
        );
    }
    for tables in 1..=17usize {
        // Every table but the first holds two codewords of 9 bits; the other first bytes are taken
        // in pairs.
        let nines = 2 * (tables - 1);
        let slots = 256 - nines / 2;
        let lengths: Vec<u8> = std::iter::repeat_n(7, slots / 2)
            .chain(std::iter::repeat_n(8, slots % 2))
            .chain(std::iter::repeat_n(9, nines))
            .collect();
        let lengths: Vec<(u8, u8)> = (0..).zip(lengths).collect();
        let exponents = (0..2 * lengths.len()).map(|i| (i % lengths.len()) as u8);
        let encoded = cases.with_lengths(
            about(
                &format!("tables-{tables}"),
                "a code of so many prefix tables",
                &["LongCodes"],
                &["D-5.1", "D-5.2"],
            ),
            &with_exponents(exponents, tables as u64),
            &lengths,
        );
        assert_eq!(encoded.luts.len(), 256 * (tables + 1));
    }
}

/// Codewords across the ends of windows and blocks.
fn straddling_codewords(cases: &mut Cases) {
    // A codeword of 32 bits that starts in each of the last 32 bits of a window.
    for before in [32usize, 33, 40, 48, 62, 63] {
        let lengths: Vec<(u8, u8)> = (0..33).map(|i| (i, (i + 1).min(32))).collect();
        let exponents = std::iter::repeat_n(0, before).chain([32, 0, 31, 0]);
        cases.with_lengths(
            about(
                &format!("straddle-window-{before}"),
                "a codeword of 32 bits across a window's end",
                &["Straddle", "LongCodes"],
                &["D-7.2"],
            ),
            &with_exponents(exponents, before as u64),
            &lengths,
        );
        if before % 3 != 0 {
            continue; // whole blocks are large; two of them will do
        }
        let exponents = std::iter::repeat_n(0, 32_704 + before).chain([32, 0, 31, 0]);
        cases.with_lengths(
            about(
                &format!("straddle-block-{before}"),
                "a codeword of 32 bits across a block's end",
                &["Straddle", "LongCodes"],
                &["D-8.2", "D-8.6"],
            ),
            &with_exponents(exponents, before as u64),
            &lengths,
        );
    }
}

/// Codes that end at special places.
fn ends(cases: &mut Cases) {
    for last in [2u8, 9, 32] {
        // The last codeword starts at the last bit of the first block.
        let lengths = [(100, 1), (101, 2), (102, last)];
        let exponents = std::iter::repeat_n(100, 32_765).chain([101, 102]);
        let encoded = cases.with_lengths(
            about(
                &format!("last-straddles-{last}"),
                "no codeword starts in the last block",
                &["Straddle", "Ends"],
                &["D-8.3", "D-8.5"],
            ),
            &with_exponents(exponents, 3),
            &lengths,
        );
        let mut parts = Draft::new(&encoded.as_slices());
        parts.get("output_positions").truncate(8);
        parts.reshape();
        let comment = "no codeword starts in the last block, and the last output position is missing";
        let id = format!("short-positions-{last}");
        let about = about(&id, comment, &["ShortPositions", "Ends"], &["D-8.4"]);
        let weights = parts.verdict().unwrap();
        cases.sound("df11", about, Outcome::Acceptable, &parts, &weights);
    }
    for bits in 1..=8usize {
        let comment = "the code ends after so many bits of its last byte";
        cases.valid(
            about(&format!("end-bit-{bits}"), comment, &["Ends"], &["D-6.3"]),
            &[with_exponents(std::iter::repeat_n(100, 56 + bits), bits as u64)],
        );
    }
}

/// Adds weights that are equal as numbers but differ in their bits.
fn special_weights(cases: &mut Cases) {
    let special = [0x0000u16, 0x8000, 0x0001, 0x8001, 0x007f, 0x807f, 0x0080, 0x77ff, 0xf7ff, 0x3f80, 0xbf80];
    let comment = "signed zeros, subnormals, the smallest normal and the largest representable weights";
    cases.valid(about("special", comment, &["Special"], &["D-3.1"]), &[special.to_vec()]);
    let comment = "every bit pattern with an exponent below 240";
    let all: Vec<u16> = (0..=u16::MAX).filter(|w| bf16::exponent(*w) < 240).collect();
    cases.valid(about("every-pattern", comment, &["Special", "Alphabet"], &["D-3.1", "D-4.1"]), &[all]);
}

/// Several tensors, trained weights.
fn everyday_units(cases: &mut Cases) {
    let tensors = |lengths: &[usize]| -> Vec<Vec<u16>> {
        lengths.iter().map(|n| like_trained(*n, *n as u64)).collect()
    };
    for (id, lengths) in [
        ("tensors-2", &[100, 200][..]),
        ("tensors-7", &[64, 1, 64, 7, 300, 2, 33]),
        ("tensors-empty-first", &[0, 50]),
        ("tensors-empty-last", &[50, 0]),
        ("tensors-empty-between", &[20, 0, 0, 30]),
        ("tensors-over-blocks", &[5000, 5000, 5000]),
    ] {
        cases.valid(
            about(id, "several tensors in one unit", &["Tensors"], &["D-9.1", "D-9.2"]),
            &tensors(lengths),
        );
    }
    for n in [100, 5000, 14_000] {
        let id = format!("normal-{n}");
        cases.valid(
            about(
                &id,
                "values spread like trained weights",
                &["Real"],
                &["D-12.1", "D-2.1", "D-2.2", "D-3.2", "D-3.3", "D-5.5", "D-6.1"],
            ),
            &[like_trained(n, 1)],
        );
    }
    let fixture = crate::corpus::read(&fixtures::original("real_single"));
    let real = bits(&fixture.into_values().next().unwrap().bytes);
    for (id, range) in [("real-start", 0..4000), ("real-middle", 20_000..33_000)] {
        let comment = "a slice of the word embeddings of all-MiniLM-L6-v2";
        cases.valid(about(id, comment, &["Real"], &["D-12.1"]), &[real[range].to_vec()]);
    }
    let weights = with_exponents(fibonacci_exponents(100, 16, 1), 1);
    cases.valid(
        about("fibonacci-16", "Fibonacci frequencies, two prefix tables", &["LongCodes"], &["D-5.5"]),
        &[weights],
    );
}

/// Adds units whose meaningless bits have different values.
fn fillers(cases: &mut Cases) {
    let encoded = encode_with(&two_bits(33), &[(100, 2), (101, 2), (102, 2), (103, 2)]);
    let weights = two_bits(33);
    let filler = |key: &str, at: usize, value: u8| {
        let mut parts = Draft::new(&encoded.as_slices());
        parts.get(key)[at] |= value;
        parts
    };
    let parts = filler("encoded_exponent", 8, 0x3f);
    cases.sound(
        "df11",
        about("filler-code", "ones after the last codeword", &["Filler", "Ends"], &["D-6.4"]),
        Outcome::Valid,
        &parts,
        &weights,
    );
    let parts = filler("luts", 256 + 250, 200);
    cases.sound(
        "df11",
        about("filler-lengths", "a code length for 250, which is no symbol", &["Filler"], &["D-5.4"]),
        Outcome::Valid,
        &parts,
        &weights,
    );
    let parts = filler("gaps", 319, 0x1f);
    let about_gaps = about("filler-gaps", "ones after the last window's gap", &["Filler"], &["D-7.4"]);
    cases.sound("df11", about_gaps, Outcome::Acceptable, &parts, &weights);
}

pub(super) fn foreign_cases(cases: &mut Cases) {
    for (alphabet, swaps) in [(1, 1), (2, 2), (3, 3), (5, 4), (9, 5), (12, 6), (14, 7), (16, 8), (17, 9)] {
        let exponents = fibonacci_exponents(90, alphabet, swaps);
        let weights = with_exponents(exponents.clone(), swaps);
        let unit = foreign::write(&weights, &foreign::huffman(&exponents, swaps));
        let comment =
            "a code that is not canonical, with an end-of-stream codeword and junk in unreached entries";
        let id = format!("foreign-{alphabet}");
        let about = about(&id, comment, &["Foreign"], &["D-4.3", "D-6.4", "D-7.3"]);
        cases.sound("foreign", about, Outcome::Valid, &Draft::new(&unit.tensors()), &weights);
    }
}

/// Units with whole bytes behind the last codeword (D-6.3): lenient readers ignore them.
pub(super) fn longer_cases(cases: &mut Cases) {
    let longer = &["Ends", "Filler"][..];
    let small = two_bits(40);
    let large = like_trained(13_000, 9);
    let unit = |weights: &[u16]| Draft::new(&df11::encode(&bytes(weights)).unwrap().as_slices());
    // Ones, so that no bit is mistaken for padding with zeros.
    for (id, comment, weights, more) in [
        ("code-longer", "a byte of code too many", &small, 1),
        ("code-longer-window", "8 bytes behind the last codeword, as a cut unit has them", &small, 8),
        ("code-longer-windows", "100 bytes behind the last codeword", &large, 100),
    ] {
        cases.acceptable(about(id, comment, longer, &["D-6.3"]), &unit(weights), weights, |p| {
            let len = p.get("encoded_exponent").len() + more;
            p.get("encoded_exponent").resize(len, 0xff);
        });
    }
    let comment = "the gaps of windows behind the last codeword are not 0";
    let clauses = &["D-6.3", "D-6.4", "D-7.3"];
    cases.acceptable(about("code-longer-gaps", comment, longer, clauses), &unit(&small), &small, |p| {
        p.get("encoded_exponent").resize(64, 0xff);
        p.get("gaps")[2..5].fill(0x55);
    });
    let comment = "a block behind the last codeword, with its entries of gaps and of output_positions";
    cases.acceptable(
        about("code-longer-block", comment, longer, &["D-6.3", "D-8.5"]),
        &unit(&small),
        &small,
        |p| {
            p.get("encoded_exponent").resize(4096 + 3, 0xff);
            p.get("gaps").resize(640, 0x55);
            p.get("output_positions").extend(40u32.to_le_bytes());
        },
    );
    let comment = "a block behind the last codeword, and the last output position is missing";
    let id = "code-longer-block-short";
    cases.acceptable(about(id, comment, longer, &["D-6.3", "D-8.4"]), &unit(&small), &small, |p| {
        p.get("encoded_exponent").resize(4096 + 3, 0xff);
        p.get("gaps").resize(640, 0x55);
    });
    let comment = "four elements fewer than codewords";
    let fewer = about("elements-fewer", comment, longer, &["D-6.3"]);
    cases.acceptable(fewer, &unit(&small), &small[..36], |p| {
        p.get("sign_mantissa").truncate(36);
        p.get("output_positions")[4] = 36;
    });
}
