//! The kernels' numbers of the formats are those of `df11`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;

use df11::frame::ElementType;
use df11::hazmat::dictionary::{CHUNK, Width};
use df11::hazmat::layout::{BLOCK_BYTES, GAP_BITS, GAP_BYTES_PER_BLOCK, WINDOW_BITS, WINDOWS_PER_BLOCK};
use df11::hazmat::rans;
use df11_gpu::kernels::{THREADS, WARPS, element_kind};

/// Returns the numbers that a source defines: `#define NAME 4096u`, `(1u << 15)`, `0xffu`, or
/// products and sums of such names. Others are left out.
fn defined(source: &str, known: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let path = format!("{}/kernels/{source}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut found = known.clone();
    for line in text.lines() {
        let Some((name, value)) = line.strip_prefix("#define ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        if let Some(number) = number(value.trim(), &found) {
            found.insert(name.to_owned(), number);
        }
    }
    found
}

/// Returns the value of a number, a name, or two of these with an operator between them.
fn number(text: &str, known: &BTreeMap<String, u64>) -> Option<u64> {
    let text = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(text);
    if let [left, operator, right] = text.split(' ').collect::<Vec<_>>()[..] {
        let (left, right) = (number(left, known)?, number(right, known)?);
        return match operator {
            "<<" => Some(left << right),
            "*" => Some(left * right),
            "/" => Some(left / right),
            _ => None,
        };
    }
    let digits = text.trim_end_matches('u');
    let parsed = digits
        .strip_prefix("0x")
        .map_or_else(|| digits.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok());
    parsed.or_else(|| known.get(text).copied())
}

#[test]
fn the_kernels_numbers_of_the_formats_are_those_of_the_library() {
    let common = defined("common.cuh", &BTreeMap::new());
    let elements = defined("elements.cuh", &common);
    let twelve = Width::Twelve;
    let expected: [(&str, &[(&str, u64)]); 7] = [
        (
            "common.cuh",
            &[("LANES", rans::LANES as u64), ("THREADS", u64::from(THREADS)), ("WARPS", u64::from(WARPS))],
        ),
        (
            "df11_block.cuh",
            &[
                ("BLOCK_BYTES", BLOCK_BYTES as u64),
                ("GAP_BYTES", GAP_BYTES_PER_BLOCK as u64),
                // D-5.1: numbers from here on are jumps to another table.
                ("FIRST_JUMP", 240),
            ],
        ),
        (
            "df11_encode.cu",
            &[
                ("WINDOW_BITS", WINDOW_BITS),
                ("WINDOWS_PER_BLOCK", WINDOWS_PER_BLOCK as u64),
                ("GAP_BITS", u64::from(GAP_BITS)),
            ],
        ),
        (
            "rans_block.cuh",
            &[
                // states are from 2^15 to 2^31.
                ("START_STATE", 1 << 15),
                ("STATE_END", 1 << 31),
                ("MOST_SLOTS", 1 << rans::SCALE_BITS.end()),
            ],
        ),
        (
            "delta_block.cuh",
            &[
                // B-5.2 to B-5.4, B-5.7.
                ("SUM_BITS", 11),
                ("MOST_TABLES", 8),
                ("ELEMENTS_OF_CHUNK", 64),
                ("ESCAPE", 255),
            ],
        ),
        (
            "dictionary.cuh",
            &[
                ("CHUNK", CHUNK as u64),
                ("MOST_CODES", twelve.codes() as u64),
                ("CODES", (8 * twelve.group_bytes() / twelve.bits() as usize) as u64),
            ],
        ),
        (
            "rans_encode.cu",
            &[
                ("LANES", rans::LANES as u64),
                ("SCALE_BITS", u64::from(*rans::SCALE_BITS.end())),
                ("STATES_BYTES", rans::STATES_BYTES as u64),
            ],
        ),
    ];
    for (source, numbers) in expected {
        let found = defined(source, &elements);
        for (name, number) in numbers {
            assert_eq!(found.get(*name), Some(number), "{name} of {source}");
        }
    }
    for (name, element_type) in [
        ("BYTES", ElementType::U8),
        ("BF16", ElementType::Bf16),
        ("F16", ElementType::F16),
        ("F32", ElementType::F32),
    ] {
        let kind = u64::from(element_kind(element_type));
        assert_eq!(elements.get(name), Some(&kind), "{name} of elements.cuh");
        assert_eq!(
            defined("rans_encode.cu", &BTreeMap::new()).get(name),
            Some(&kind),
            "{name} of rans_encode.cu"
        );
    }
}
