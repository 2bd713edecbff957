//! The kernels of every capability, and checks of their reports.

#[path = "../common/emulated.rs"]
mod emulated;

use std::sync::LazyLock;

use df11::Parts;
use df11::frame::{self, ElementType};
use df11::hazmat::rans::Frequencies;
use df11_emulator::{Counters, Kind, Module, Options, Report};
use df11_gpu::kernels::{DF11_DECODE, FAST_DECODE, Ptx, RANS_DECODE, RansBlock};
use df11_gpu_lab::emulate::{self, Shape};
use df11_tests::weights::{Random, bytes, like_trained};

pub(crate) use emulated::{is_clean, options};

type Kernels = LazyLock<[(String, Module); 4]>;

pub(crate) static DF11: Kernels = LazyLock::new(|| parse(DF11_DECODE));

pub(crate) static RANS: Kernels = LazyLock::new(|| parse(RANS_DECODE));

pub(crate) static FAST: Kernels = LazyLock::new(|| parse(FAST_DECODE));

pub(crate) fn parse(kernels: [Ptx; 4]) -> [(String, Module); 4] {
    kernels.map(|ptx| (format!("sm_{}", ptx.capability), Module::parse(ptx.text).unwrap()))
}

/// Decodes a unit with this project's kernel on this many thread blocks.
pub(crate) fn df11_decode(
    module: &Module,
    tensors: &Parts<&[u8]>,
    blocks: u32,
    skipped: usize,
    options: &Options,
) -> (Vec<u8>, Report) {
    emulate::unit(module, "df11_decode", tensors, Shape::ours(blocks), skipped, options).unwrap()
}

/// Checks that a kernel with arbitrary input does nothing worse than read undefined bytes.
#[track_caller]
pub(crate) fn is_harmless(report: &Report, what: &str) {
    is_harmless_but_for(report, what, &[]);
}

/// Checks the same, but for findings of these kinds.
#[track_caller]
pub(crate) fn is_harmless_but_for(report: &Report, what: &str, expected: &[Kind]) {
    let bad: Vec<String> = report
        .findings
        .iter()
        .filter(|finding| finding.kind != Kind::UndefinedRead && !expected.contains(&finding.kind))
        .map(ToString::to_string)
        .collect();
    assert!(bad.is_empty(), "{what}: {bad:#?}");
}

/// Makes weights of all kinds: like trained ones, few exponents, many exponents, long runs.
pub(crate) fn weights(random: &mut Random) -> Vec<u8> {
    let most = [100, 5000, 30_000][random.below(3) as usize];
    let n = 1 + random.below(most) as usize;
    match random.below(4) {
        0 => (0..n).flat_map(|_| ((random.next() as u16 % 240) << 7 | 0x55).to_le_bytes()).collect(),
        1 => {
            let exponent = random.below(240) as u16;
            (0..n)
                .flat_map(|i| {
                    (((exponent + u16::from(i % 977 == 0)) % 240) << 7 | i as u16 & 0x7f).to_le_bytes()
                })
                .collect()
        }
        2 => (0..n)
            .flat_map(|_| {
                // The frequencies of exponents halve, so that codes are long.
                let exponent = random.next().trailing_zeros() as u16;
                (exponent << 7 | random.next() as u16 & 0x807f).to_le_bytes()
            })
            .collect(),
        _ => bytes(&like_trained(n, random.next())),
    }
}

/// Decodes blocks of rANS on two thread blocks. Returns the output, and each block's status.
pub(crate) fn rans_decode(
    module: &Module,
    data: &[u8],
    blocks: &[RansBlock],
    frequencies: &Frequencies,
    kind: u32,
    bytes: usize,
    options: &Options,
) -> (Vec<u8>, Vec<u32>, Report) {
    emulate::rans(module, data, blocks, frequencies, kind, bytes, 2, options).unwrap()
}

/// Makes a frame of codec rANS.
pub(crate) fn sample_frame(element_type: ElementType, n: usize) -> (Vec<u8>, Vec<u8>) {
    let mut elements = bytes(&like_trained((n * element_type.bytes()).div_ceil(2), 1));
    elements.truncate(n * element_type.bytes());
    (frame::encode(element_type, &[n as u64], &elements).unwrap(), elements)
}

/// Divides the counts by the number of elements.
pub(crate) fn per_element(counters: &Counters, elements: usize) -> [String; 5] {
    let Counters {
        warp_instructions, load_sectors, store_sectors, shared_wavefronts, shared_conflicts, ..
    } = counters;
    [warp_instructions, load_sectors, store_sectors, shared_wavefronts, shared_conflicts]
        .map(|count| format!("{:.4}", *count as f64 / elements as f64))
}

/// Runs `df11_decode` with one line of its text left out.
pub(crate) fn without_line(line: usize, tensors: &Parts<&[u8]>, options: &Options) -> (Vec<u8>, Report) {
    let text = DF11_DECODE[2].text;
    let lines = text.lines().enumerate().filter(|(number, _)| *number != line);
    let text: Vec<&str> = lines.map(|(_, line)| line).collect();
    df11_decode(&Module::parse(&text.join("\n")).unwrap(), tensors, 1, 0, options)
}
