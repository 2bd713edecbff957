//! Units that break a rule which a reader must check.

use df11::EncodeOptions;
use df11_judge::vectors::Outcome;
use safetensors::tensor::Dtype;

use super::cases::{Cases, Draft, about, encode_with, two_bits};
use crate::weights::{bytes, like_trained, with_exponents};

const MALFORMED: &[&str] = &["Malformed"];

/// Valid units, each of which is damaged in several ways.
struct Bases {
    /// Two tensors, several blocks.
    base: Draft,
    /// 40 elements of two bits each: a window and a quarter.
    small: Draft,
    /// Codewords of every length.
    deep: Draft,
    /// The code lengths of `deep`.
    long: Vec<(u8, u8)>,
}

impl Bases {
    fn new() -> Self {
        let weights = like_trained(13_000, 9);
        let encoded = EncodeOptions::new().encode(&[&bytes(&weights[..9000]), &bytes(&weights[9000..])]);
        let base = Draft::new(&encoded.unwrap().as_slices());
        let small = Draft::new(&df11::encode(&bytes(&two_bits(40))).unwrap().as_slices());
        let long: Vec<(u8, u8)> = (0..33).map(|i| (i, (i + 1).min(32))).collect();
        let deep = Draft::new(&encode_with(&with_exponents(0..33, 1), &long).as_slices());
        Bases { base, small, deep, long }
    }
}

pub(super) fn invalid_cases(cases: &mut Cases) {
    let bases = Bases::new();
    tables(cases, &bases);
    code(cases, &bases);
    gaps(cases, &bases);
    positions(cases, &bases);
    splits(cases, &bases);
    container(cases, &bases);
    empty_last_block(cases, &bases);
}

/// Prefix tables and code lengths.
fn tables(cases: &mut Cases, bases: &Bases) {
    let Bases { small, deep, long, .. } = bases;
    cases.invalid(about("no-elements", "no elements", MALFORMED, &["D-3.4"]), small, |p| {
        p.get("sign_mantissa").clear()
    });
    cases.invalid(about("luts-empty", "luts is empty", MALFORMED, &["D-5.1"]), small, |p| {
        p.get("luts").clear()
    });
    cases.invalid(about("luts-one-row", "only one row", MALFORMED, &["D-5.1"]), small, |p| {
        p.get("luts").truncate(256)
    });
    cases.invalid(about("luts-cut", "half a row", MALFORMED, &["D-5.1"]), small, |p| {
        p.get("luts").truncate(384)
    });
    cases.invalid(about("luts-19-rows", "18 tables", MALFORMED, &["D-5.1"]), small, |p| {
        let row = p.get("luts")[..256].to_vec();
        let lengths = p.get("luts")[256..].to_vec();
        *p.get("luts") = [row.repeat(18), lengths].concat();
    });
    for (id, value) in [("jump-one-too-far", 255u8), ("jump-far", 240)] {
        cases.invalid(about(id, "a jump to a table that is not there", MALFORMED, &["D-5.3"]), small, |p| {
            p.get("luts")[77] = value
        });
    }
    cases.invalid(
        about(
            "jump-unreached",
            "a jump to nowhere in an entry that no codeword reaches",
            MALFORMED,
            &["D-5.3"],
        ),
        deep,
        |p| {
            let rows = p.get("luts").len() / 256;
            p.get("luts")[256 * (rows - 2) + 255] = 240;
        },
    );
    for length in [33u8, 64, 255] {
        let id = format!("length-{length}");
        cases.invalid(about(&id, "a code length above 32", MALFORMED, &["D-5.4"]), small, |p| {
            p.get("luts")[256 + 100] = length
        });
    }
    cases.invalid(
        about(
            "length-33-unused",
            "a code length above 32 of a symbol that does not occur",
            MALFORMED,
            &["D-5.4"],
        ),
        small,
        |p| {
            p.get("luts")[256 + 7] = 33;
        },
    );
    cases.invalid(
        about("length-zero", "a symbol that occurs has code length 0", MALFORMED, &["D-5.7"]),
        small,
        |p| {
            p.get("luts")[256 + 101] = 0;
        },
    );
    cases.invalid(
        about(
            "length-too-long",
            "a code length that ends in the second table, found in the first",
            MALFORMED,
            &["D-5.8"],
        ),
        small,
        |p| {
            p.get("luts")[256 + 100] = 9;
        },
    );
    cases.invalid(
        about(
            "length-too-short",
            "a code length that ends in the first table, found in the second",
            MALFORMED,
            &["D-5.8"],
        ),
        deep,
        |p| {
            let rows = p.get("luts").len() / 256;
            p.get("luts")[256 * (rows - 1) + 9] = 8;
        },
    );
    cases.invalid(about("jump-cycle", "a table that jumps to itself", MALFORMED, &["D-5.6"]), deep, |p| {
        p.get("luts")[256..512].fill(255)
    });
    let ones = Draft::new(&encode_with(&with_exponents([32, 0, 0], 1), long).as_slices());
    cases.invalid(about("jump-back", "a jump back to the table before", MALFORMED, &["D-5.6"]), &ones, |p| {
        p.get("luts")[256 * 3 - 1] = 255; // the last entry of table 2, which led to table 3, leads to table 1
    });
}

/// The code.
fn code(cases: &mut Cases, bases: &Bases) {
    let Bases { base, small, .. } = bases;
    cases.invalid(about("code-empty", "no code", MALFORMED, &["D-6.1"]), small, |p| {
        p.get("encoded_exponent").clear()
    });
    cases.invalid(about("code-cut", "the last byte of code is missing", MALFORMED, &["D-6.2"]), small, |p| {
        p.get("encoded_exponent").pop();
    });
    cases.invalid(
        about("code-too-short", "less code than one bit for each element", MALFORMED, &["D-6.2"]),
        small,
        |p| {
            p.get("encoded_exponent").truncate(4);
        },
    );
    cases.invalid(
        about("code-cut-block", "the last byte of several blocks is missing", MALFORMED, &["D-6.2"]),
        base,
        |p| {
            p.get("encoded_exponent").pop();
        },
    );
    cases.invalid(
        about("code-longer-blocks", "two blocks behind the last codeword", MALFORMED, &["D-8.5"]),
        small,
        |p| {
            p.get("encoded_exponent").resize(2 * 4096 + 3, 0xff);
            p.get("gaps").resize(960, 0);
            p.get("output_positions").extend([40, 40u32].map(u32::to_le_bytes).concat());
        },
    );
}

/// Gaps.
fn gaps(cases: &mut Cases, bases: &Bases) {
    let Bases { base, small, .. } = bases;
    cases.invalid(
        about("gap-first", "the gap of the first window is not 0", MALFORMED, &["D-7.2", "D-8.6"]),
        small,
        |p| p.get("gaps")[0] = 2 << 3,
    );
    cases.invalid(
        about("gap-second", "the gap of the second window is wrong", MALFORMED, &["D-7.2"]),
        base,
        |p| p.get("gaps")[0] ^= 1,
    );
    cases.invalid(
        about("gap-later", "a gap in the second block is wrong", MALFORMED, &["D-7.2"]),
        base,
        |p| p.get("gaps")[320 + 7] ^= 0x10,
    );
    cases.invalid(
        about("gap-block", "the gap of a block's first window is wrong", MALFORMED, &["D-8.6", "D-7.2"]),
        base,
        |p| p.get("gaps")[320] ^= 0x08,
    );
    cases.invalid(
        about(
            "gaps-lsb-first",
            "gaps packed with the least significant bit first",
            MALFORMED,
            &["D-7.2", "D-8.6"],
        ),
        base,
        |p| {
            for byte in p.get("gaps") {
                *byte = byte.reverse_bits();
            }
        },
    );
    cases.invalid(about("gaps-cut", "a byte of gaps is missing", MALFORMED, &["D-7.4"]), small, |p| {
        p.get("gaps").pop();
    });
    cases.invalid(about("gaps-longer", "a byte of gaps too many", MALFORMED, &["D-7.4"]), small, |p| {
        p.get("gaps").push(0)
    });
    cases.invalid(
        about("gaps-unpadded", "gaps only for the windows there are", MALFORMED, &["D-7.4"]),
        small,
        |p| p.get("gaps").truncate(2),
    );
    cases.invalid(about("gaps-empty", "no gaps", MALFORMED, &["D-7.4"]), small, |p| p.get("gaps").clear());
}

/// Output positions.
fn positions(cases: &mut Cases, bases: &Bases) {
    let Bases { base, small, .. } = bases;
    cases.invalid(about("positions-cut", "half an output position", MALFORMED, &["D-8.3"]), small, |p| {
        p.get("output_positions").pop();
    });
    cases.invalid(
        about("positions-longer", "an output position too many", MALFORMED, &["D-8.3"]),
        small,
        |p| p.get("output_positions").extend([40, 0, 0, 0]),
    );
    cases.invalid(about("positions-empty", "no output positions", MALFORMED, &["D-8.3"]), small, |p| {
        p.get("output_positions").clear()
    });
    cases.invalid(
        about(
            "positions-short-wrongly",
            "the last output position is missing, though codewords start in the last block",
            MALFORMED,
            &["D-8.5"],
        ),
        base,
        |p| {
            let cut = p.get("output_positions").len() - 4;
            p.get("output_positions").truncate(cut);
        },
    );
    cases.invalid(
        about("position-first", "the first output position is not 0", MALFORMED, &["D-8.5"]),
        base,
        |p| p.get("output_positions")[0] = 1,
    );
    cases.invalid(
        about(
            "position-equal",
            "two output positions are equal before the last block",
            MALFORMED,
            &["D-8.5"],
        ),
        base,
        |p| p.get("output_positions")[4..8].fill(0),
    );
    cases.invalid(
        about("position-falls", "output positions fall", MALFORMED, &["D-8.5", "D-8.6"]),
        base,
        |p| p.get("output_positions")[7] = 0xff,
    );
    cases.invalid(
        about("position-last", "the last output position is not n", MALFORMED, &["D-8.5"]),
        base,
        |p| {
            let last = p.get("output_positions").len() - 4;
            p.get("output_positions")[last] ^= 1;
        },
    );
    cases.invalid(
        about("position-off-by-one", "a block's output position is one too high", MALFORMED, &["D-8.6"]),
        base,
        |p| p.get("output_positions")[4] += 1,
    );
    cases.invalid(
        about("position-overfull", "a block claims more elements than it has bits", MALFORMED, &["D-8.6"]),
        base,
        |p| {
            *p.get("sign_mantissa") = vec![0; 33_500];
            *p.get("output_positions") =
                [0u32, 33_000, 33_500].iter().flat_map(|p| p.to_le_bytes()).collect();
        },
    );
    cases.invalid(
        about(
            "positions-big-endian",
            "output positions in the other byte order",
            MALFORMED,
            &["D-8.5", "D-8.6"],
        ),
        base,
        |p| {
            for position in p.get("output_positions").as_chunks_mut::<4>().0 {
                position.reverse();
            }
        },
    );
}

/// Split positions.
fn splits(cases: &mut Cases, bases: &Bases) {
    let Bases { base, .. } = bases;
    cases.invalid(about("splits-cut", "half a split position", MALFORMED, &["D-9.1"]), base, |p| {
        p.get("split_positions").truncate(4)
    });
    cases.invalid(about("split-negative", "a negative split position", MALFORMED, &["D-9.2"]), base, |p| {
        p.get("split_positions")[7] = 0x80
    });
    cases.invalid(
        about("split-beyond", "a split position beyond the last element", MALFORMED, &["D-9.2"]),
        base,
        |p| p.get("split_positions")[2] = 1,
    );
    cases.invalid(about("split-falls", "split positions fall", MALFORMED, &["D-9.2"]), base, |p| {
        p.get("split_positions").extend(10i64.to_le_bytes())
    });
}

/// The container.
fn container(cases: &mut Cases, bases: &Bases) {
    let Bases { base, small, .. } = bases;
    for (key, _) in df11::PARTS {
        let (id, comment) = (format!("missing-{}", key.replace('_', "-")), format!("there is no {key}"));
        let about = about(&id, &comment, MALFORMED, &["D-10.2"]);
        cases.push("df11", &about, Outcome::Invalid, Some("Corrupt".to_owned()), None);
        let mut parts = small.clone();
        parts.0.remove(key);
        cases.keep(&about, &parts);
    }
    for (id, key, dtype, width) in
        [("dtype-luts", "luts", Dtype::I8, 1), ("dtype-splits", "split_positions", Dtype::F64, 8)]
    {
        let about = about(id, "a part has another type", MALFORMED, &["D-10.2"]);
        cases.push("df11", &about, Outcome::Invalid, Some("Corrupt".to_owned()), None);
        let mut parts = base.clone();
        let tensor = parts.0.get_mut(key).unwrap();
        (tensor.dtype, tensor.shape) = (dtype, vec![tensor.bytes.len() / width]);
        cases.keep(&about, &parts);
    }
}

/// Adds a unit with an empty last block although codewords start in it. The block before has them,
/// and ends with the code.
fn empty_last_block(cases: &mut Cases, bases: &Bases) {
    let Bases { base, .. } = bases;
    for (id, comment, entries) in [
        ("position-last-empty", "the last block is said to be empty, but codewords start in it", 2),
        ("position-last-empty-short", "the same in the short form", 1),
    ] {
        cases.invalid(about(id, comment, MALFORMED, &["D-8.6", "D-8.2"]), base, |p| {
            let n = p.get("sign_mantissa").len() as u32;
            let positions = std::iter::once(0).chain(std::iter::repeat_n(n, entries));
            *p.get("output_positions") = positions.flat_map(u32::to_le_bytes).collect();
        });
    }
}
