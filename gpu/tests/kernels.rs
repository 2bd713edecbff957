//! The kernels, run by the emulator: what they decode is what core decodes, bit for bit, and nothing else is wrong with them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which say what they ran"
)]

use std::sync::LazyLock;

use df11::frame::{self, Codec, ElementType, Frame};
use df11::rans::{DecodeTable, Frequencies};
use df11::{EncodedUnit, Parts, Unit, encode};
use df11::{Error, dietgpu};
use df11_emulator::{Counters, Kind, Module, Options, Policy, Report};
use df11_gpu::kernels::{DF11_DECODE, FAST_DECODE, Ptx, RANS_DECODE, RansBlock};
use df11_gpu_lab::emulate::{
    self, DictionaryFrame, NOTHING_WRONG, RansFrame, Shape, frame_blocks, has_right_lengths,
};
use df11_judge::vectors::{Outcome, Task, Vectors, unit};
use df11_tests::weights::{Random, bytes, like_trained};
use df11_tests::{cases, corpus, part};

type Kernels = LazyLock<[(String, Module); 4]>;

static DF11: Kernels = LazyLock::new(|| parse(DF11_DECODE));
static RANS: Kernels = LazyLock::new(|| parse(RANS_DECODE));
static FAST: Kernels = LazyLock::new(|| parse(FAST_DECODE));

fn parse(kernels: [Ptx; 4]) -> [(String, Module); 4] {
    kernels.map(|ptx| (format!("sm_{}", ptx.capability), Module::parse(ptx.text).unwrap()))
}

/// Decodes a unit with our kernel on so many thread blocks.
fn df11_decode(
    module: &Module,
    tensors: &Parts<&[u8]>,
    blocks: u32,
    skipped: usize,
    options: &Options,
) -> (Vec<u8>, Report) {
    emulate::unit(module, "df11_decode", tensors, Shape::ours(blocks), skipped, options).unwrap()
}

/// Options that differ with a number: who goes first, in which order.
fn options(number: u64) -> Options {
    let policy = if number.is_multiple_of(2) { Policy::Together } else { Policy::Apart { seed: number } };
    Options { policy, order: number, ..Options::default() }
}

#[track_caller]
fn is_clean(report: &Report, what: &str) {
    let found: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{what}: {found:#?}");
}

/// Whatever a kernel is given, it may read what nobody has written, and nothing worse.
#[track_caller]
fn is_harmless(report: &Report, what: &str) {
    let bad: Vec<String> = report
        .findings
        .iter()
        .filter(|finding| finding.kind != Kind::UndefinedRead)
        .map(ToString::to_string)
        .collect();
    assert!(bad.is_empty(), "{what}: {bad:#?}");
}

#[test]
fn df11_kernels_decode_every_vector() {
    for (task, test) in Vectors::load().unwrap().tests() {
        let tensors = test.tensors().unwrap();
        let (Task::UnitDecode, Some(parts)) = (task, unit(&tensors)) else { continue };
        if !has_right_lengths(&parts) {
            continue;
        }
        let number = test.tc_id as u64;
        let (target, module) = &DF11[test.tc_id % 4];
        let (found, report) = df11_decode(module, &parts, 1 + number as u32 % 5, 0, &options(number / 4));
        if test.result == Outcome::Invalid {
            is_harmless(&report, &test.id);
            continue;
        }
        is_clean(&report, &test.id);
        let unit = Unit::new(parts).unwrap();
        let mut expected = vec![0; 2 * unit.len()];
        unit.decode_into(&mut expected).unwrap();
        assert!(found == expected, "{}: {target}", test.id);
    }
}

/// Weights of all kinds: like trained ones, few exponents, many, long runs.
fn weights(random: &mut Random) -> Vec<u8> {
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
                // Exponents that halve in frequency: long codes.
                let exponent = random.next().trailing_zeros() as u16;
                (exponent << 7 | random.next() as u16 & 0x807f).to_le_bytes()
            })
            .collect(),
        _ => bytes(&like_trained(n, random.next())),
    }
}

#[test]
fn df11_kernels_decode_generated_units_on_any_grid_and_at_any_address() {
    let mut random = Random(3);
    for round in 0..cases(40) as usize {
        let weights = weights(&mut random);
        let encoded = encode(&weights).unwrap();
        let (target, module) = &DF11[round % 4];
        let skipped = [0, 16, 1, 8][random.below(4) as usize];
        let (found, report) = df11_decode(
            module,
            &encoded.as_slices(),
            1 + round as u32 % 3,
            skipped,
            &options(round as u64 / 4),
        );
        is_clean(&report, target);
        assert!(found == weights, "round {round}: {target}");
    }
}

#[test]
fn df11_kernels_stay_in_bounds_and_end_whatever_the_parts_hold() {
    let mut random = Random(4);
    for round in 0..cases(60) as usize {
        let mut encoded: EncodedUnit = encode(&weights(&mut random)).unwrap();
        for _ in 0..1 + random.below(4) {
            let part = part(&mut encoded, random.below(5) as usize);
            let at = random.below(part.len() as u64) as usize;
            let len = 1 + random.below(40).min((part.len() - at) as u64 - 1) as usize;
            part[at..at + len].iter_mut().for_each(|byte| *byte = random.next() as u8);
        }
        let (target, module) = &DF11[round % 4];
        let tensors = encoded.as_slices();
        let (_, report) = df11_decode(module, &tensors, 2, 0, &options(round as u64 / 4));
        is_harmless(&report, &format!("round {round}: {target}"));
    }
}

#[test]
fn units_of_every_size_are_decoded_in_one_launch_each_to_its_own_place() {
    let mut random = Random(5);
    for round in 0..cases(12) as usize {
        let all: Vec<Vec<u8>> = (0..1 + round % 5).map(|_| weights(&mut random)).collect();
        let units: Vec<_> = all.iter().map(|weights| encode(weights).unwrap()).collect();
        let tensors: Vec<_> = units.iter().map(EncodedUnit::as_slices).collect();
        let (target, module) = &DF11[round % 4];
        let (grid, skipped) = (1 + round as u32 % 7, [0, 16, 1, 8, 2, 3][round % 6]);
        let (found, status, report) =
            emulate::units(module, &tensors, grid, skipped, &options(round as u64)).unwrap();
        is_clean(&report, target);
        assert!(found == all, "round {round}: {target}");
        assert!(status.iter().all(|status| *status == NOTHING_WRONG));
    }
}

#[test]
fn the_table_of_the_host_and_that_of_the_kernel_decode_alike_whatever_the_parts_hold() {
    let mut random = Random(14);
    for round in 0..cases(40) as usize {
        let mut encoded: EncodedUnit = encode(&weights(&mut random)).unwrap();
        for _ in 0..1 + random.below(30) {
            let at = random.below(encoded.luts.len() as u64) as usize;
            encoded.luts[at] = random.next() as u8;
        }
        let (target, module) = &DF11[round % 4];
        let tensors = encoded.as_slices();
        let (expected, _) = df11_decode(module, &tensors, 2, 0, &options(round as u64));
        let (found, _, report) = emulate::units(module, &[tensors], 2, 0, &options(round as u64)).unwrap();
        is_harmless(&report, target);
        assert!(found == [expected], "round {round}: {target}");
    }
}

#[test]
fn units_with_too_few_symbols_are_told() {
    let weights = bytes(&like_trained(30_000, 1));
    let mut encoded = encode(&weights).unwrap();
    // The second block begins 5,000 elements late.
    let position = u32::from_le_bytes(encoded.output_positions[4..8].try_into().unwrap()) + 5000;
    encoded.output_positions[4..8].copy_from_slice(&position.to_le_bytes());
    for (target, module) in &*DF11 {
        let (_, status, report) =
            emulate::units(module, &[encoded.as_slices()], 2, 0, &Options::default()).unwrap();
        is_harmless(&report, target);
        assert_eq!(status, [1], "{target}");
    }
}

/// Decodes blocks of rANS on two thread blocks; gives what was written, and each block's status.
fn rans_decode(
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

/// A frame of codec rANS.
fn sample_frame(element_type: ElementType, n: usize) -> (Vec<u8>, Vec<u8>) {
    let mut elements = bytes(&like_trained((n * element_type.bytes()).div_ceil(2), 1));
    elements.truncate(n * element_type.bytes());
    (frame::encode(element_type, &[n as u64], &elements).unwrap(), elements)
}

#[test]
fn rans_kernels_decode_frames_of_every_element_type() {
    let types = [ElementType::Bf16, ElementType::F16, ElementType::F32, ElementType::U8];
    for (i, element_type) in types.into_iter().enumerate() {
        for n in [4003, 70_000] {
            let (bytes, elements) = sample_frame(element_type, n);
            let frame = Frame::new(&bytes).unwrap();
            let (blocks, kind) = frame_blocks(&frame).unwrap();
            let frequencies = frame.header().frequencies().unwrap();
            let (target, module) = &RANS[i];
            let options = options(i as u64 + n as u64);
            let (found, status, report) =
                rans_decode(module, &bytes, &blocks, frequencies, kind, elements.len(), &options);
            is_clean(&report, target);
            assert!(found == elements, "{element_type:?} {target}");
            assert!(status.iter().all(|status| *status == 0));
        }
    }
}

#[test]
fn frames_of_every_element_type_and_chunk_size_are_decoded_in_one_launch_at_any_address() {
    let types = [ElementType::Bf16, ElementType::F16, ElementType::F32, ElementType::U8];
    let frames: Vec<(Vec<u8>, Vec<u8>)> = types
        .into_iter()
        .zip([70_000, 1, 4096, 9000])
        .map(|(element_type, n)| sample_frame(element_type, n))
        .filter(|(bytes, _)| Frame::new(bytes).unwrap().header().frequencies().is_some())
        .collect();
    let opened: Vec<_> = frames.iter().map(|(bytes, _)| Frame::new(bytes).unwrap()).collect();
    let blocks: Vec<_> = opened.iter().map(|frame| frame_blocks(frame).unwrap()).collect();
    let items: Vec<_> = (0..frames.len())
        .map(|i| RansFrame {
            data: &frames[i].0,
            chunks: &blocks[i].0,
            frequencies: opened[i].header().frequencies().unwrap(),
            kind: blocks[i].1,
            bytes: frames[i].1.len(),
        })
        .collect();
    for (round, (target, module)) in RANS.iter().chain(&*RANS).enumerate() {
        let (grid, skipped) = (1 + round as u32 % 3, [0, 16, 1, 8, 2, 3, 4, 7][round]);
        let (found, status, report) =
            emulate::frames(module, &items, grid, skipped, &options(round as u64)).unwrap();
        is_clean(&report, target);
        for (found, (_, elements)) in found.iter().zip(&frames) {
            assert!(found == elements, "round {round}: {target}");
        }
        assert!(status.iter().all(|status| *status == NOTHING_WRONG), "{status:?}");
    }
}

/// A dictionary of this many codes, and weights or bytes coded with it, chunk by chunk; the elements, too.
struct Coded {
    entries: Vec<u64>,
    codes: Vec<u8>,
    counts: Vec<u16>,
    planes: Vec<u8>,
    elements: Vec<u8>,
    n: usize,
    width: u32,
    kind: u32,
}

/// Codes random symbols with random strings: greedily, with the longest that fits.
fn coded(random: &mut Random, n: usize, width: u32, kind: u32) -> Coded {
    let alphabet = 1 + random.below(if width == 8 { 20 } else { 200 }) as usize;
    let mut strings: Vec<Vec<u8>> = (0..alphabet).map(|symbol| vec![symbol as u8]).collect();
    while strings.len() < (1 << width) - random.below(3) as usize {
        let len = 2 + random.below(6) as usize;
        strings.push((0..len).map(|_| random.below(1 + alphabet as u64 / 9) as u8).collect());
    }
    strings.truncate(1 << width);
    let often = 1 + alphabet as u64 / 9;
    let symbols: Vec<u8> = (0..n)
        .map(|_| {
            let most = if random.below(20) == 0 { alphabet as u64 } else { often };
            random.below(most) as u8
        })
        .collect();
    let entry = |string: &Vec<u8>| {
        let mut bytes = [0; 8];
        bytes[..string.len()].copy_from_slice(string);
        bytes[7] = 8 * string.len() as u8;
        u64::from_le_bytes(bytes)
    };
    let mut entries: Vec<u64> = strings.iter().map(entry).collect();
    entries.resize(1 << width, entries[0]);
    let (mut codes, mut counts) = (Vec::new(), Vec::new());
    for mut rest in symbols.chunks(4096) {
        let mut numbers = Vec::new();
        while !rest.is_empty() {
            let fits = strings.iter().enumerate().filter(|(_, string)| rest.starts_with(string));
            let (number, string) = fits.max_by_key(|(_, string)| string.len()).unwrap();
            numbers.push(number as u32);
            rest = &rest[string.len()..];
        }
        numbers.resize(numbers.len().next_multiple_of(8), 0);
        counts.push((numbers.len() / 8) as u16);
        for two in numbers.chunks(2) {
            if width == 8 {
                codes.extend(two.iter().map(|number| *number as u8));
            } else {
                codes.extend(&(two[0] | two[1] << 12).to_le_bytes()[..3]);
            }
        }
    }
    let planes: Vec<u8> = (0..3 * n).map(|_| random.next() as u8).collect();
    let element = |i: usize| {
        let (symbol, low) = (u32::from(symbols[i]), u32::from(planes[i]));
        let (middle, high) = (u32::from(planes[n + i]), u32::from(planes[2 * n + i]));
        match kind {
            0 => symbol,
            1 => (low & 0x80) << 8 | symbol << 7 | low & 0x7f,
            2 => symbol << 8 | low,
            _ => (high & 0x80) << 24 | symbol << 23 | (high & 0x7f) << 16 | middle << 8 | low,
        }
    };
    let bytes = [1, 2, 2, 4][kind as usize];
    let elements = (0..n).flat_map(|i| element(i).to_le_bytes().into_iter().take(bytes)).collect();
    Coded { entries, codes, counts, planes, elements, n, width, kind }
}

impl Coded {
    fn frame(&self) -> DictionaryFrame<'_> {
        let Coded { codes, planes, n, width, kind, .. } = self;
        let (n, width, kind) = (*n, *width, *kind);
        let (entries, counts) = (self.entries.clone(), self.counts.clone());
        DictionaryFrame { entries, codes, counts, planes, stride: n, n, width, kind }
    }
}

#[test]
fn fast_kernels_decode_any_dictionary_of_either_width_at_any_address() {
    let mut random = Random(15);
    for round in 0..cases(24) as usize {
        let all: Vec<Coded> = (0..1 + round % 4)
            .map(|i| {
                let most = [10, 5000, 14_000][random.below(3) as usize];
                let n = 1 + random.below(most) as usize;
                coded(&mut random, n, [12, 8][(round + i) % 2], (i + round) as u32 % 4)
            })
            .collect();
        let frames: Vec<_> = all.iter().map(Coded::frame).collect();
        let (target, module) = &FAST[round % 4];
        let (grid, skipped) = (1 + round as u32 % 3, [0, 16, 1, 8, 2, 3][round % 6]);
        let (found, status, report) =
            emulate::dictionaries(module, &frames, grid, skipped, &options(round as u64)).unwrap();
        is_clean(&report, target);
        for (found, coded) in found.iter().zip(&all) {
            assert!(found == &coded.elements, "round {round}: {target}");
        }
        assert!(status.iter().all(|status| *status == NOTHING_WRONG), "round {round}: {status:?}");
    }
}

#[test]
fn fast_kernels_decode_frames_of_every_element_type() {
    let types = [ElementType::Bf16, ElementType::F16, ElementType::F32, ElementType::U8];
    let samples: Vec<(Vec<u8>, Vec<u8>)> = types
        .into_iter()
        .zip([70_000, 4096, 9000, 100_000])
        .map(|(element_type, n)| {
            let (_, elements) = sample_frame(element_type, n);
            let options = frame::EncodeOptions::new().codec(Codec::Dictionary);
            (options.encode(element_type, &[n as u64], &elements).unwrap(), elements)
        })
        .collect();
    let frames: Vec<_> = samples.iter().map(|(bytes, _)| Frame::new(bytes).unwrap()).collect();
    let items: Vec<_> = frames.iter().filter_map(|frame| DictionaryFrame::new(frame).unwrap()).collect();
    assert!(items.len() >= 3, "most of these gain by it");
    let coded = samples.iter().zip(&frames).filter(|(_, frame)| frame.header().dictionary().is_some());
    let expected: Vec<_> = coded.map(|((_, elements), _)| elements).collect();
    for (round, (target, module)) in FAST.iter().enumerate() {
        let (found, status, report) =
            emulate::dictionaries(module, &items, 2, 0, &options(round as u64)).unwrap();
        is_clean(&report, target);
        assert!(found.iter().zip(&expected).all(|(found, expected)| found == *expected), "{target}");
        assert!(status.iter().all(|status| *status == NOTHING_WRONG), "{status:?}");
    }
}

#[test]
fn fast_kernels_tell_what_breaks_a_chunk_and_stay_in_bounds() {
    let mut random = Random(16);
    let mut told = 0;
    for round in 0..cases(60) as usize {
        let n = 1 + random.below(9000) as usize;
        let mut coded = coded(&mut random, n, [12, 8][round % 2], round as u32 % 4);
        for _ in 0..1 + random.below(3) {
            let at = random.below(coded.codes.len() as u64) as usize;
            let len = 1 + random.below(40).min((coded.codes.len() - at) as u64 - 1) as usize;
            coded.codes[at..at + len].fill_with(|| random.next() as u8);
        }
        let expected = first_bad_chunk(&coded);
        told += usize::from(expected != NOTHING_WRONG);
        let (target, module) = &FAST[round % 4];
        let (_, status, report) =
            emulate::dictionaries(module, &[coded.frame()], 1 + round as u32 % 3, 0, &options(round as u64))
                .unwrap();
        is_harmless(&report, target);
        assert_eq!(status, [expected], "round {round}: {target}");
    }
    assert!(told > 0);
}

/// The first chunk that breaks V-3.3, as a kernel tells it.
fn first_bad_chunk(coded: &Coded) -> u32 {
    let mut at = 0;
    for (chunk, count) in coded.counts.iter().enumerate() {
        let n = (coded.n - 4096 * chunk).min(4096);
        let code = |i: usize| {
            let bit = i * coded.width as usize;
            let bytes = [0, 1].map(|j| coded.codes.get(at + bit / 8 + j).copied().unwrap_or(0));
            u32::from(u16::from_le_bytes(bytes)) >> (bit % 8) & ((1 << coded.width) - 1)
        };
        let (mut start, mut is_good) = (0, true);
        for i in 0..8 * usize::from(*count) {
            is_good &= i % 8 != 0 || start < n;
            let end = start + (coded.entries[code(i) as usize] >> 59) as usize;
            is_good &= if start < n { end <= n } else { code(i) == 0 };
            start = end;
        }
        if !is_good || start < n {
            return (chunk as u32) << 3 | 1;
        }
        at += usize::from(*count) * coded.width as usize;
    }
    NOTHING_WRONG
}

#[test]
fn rans_kernels_decode_the_blocks_of_dietgpus_archives() {
    let coded: Vec<u8> = like_trained(30_000, 2).iter().map(|bits| (bits >> 7) as u8).collect();
    for (scale_bits, (target, module)) in (9..12).zip(&*RANS) {
        let bytes = dietgpu::encode(&coded, scale_bits, false).unwrap();
        let archive = dietgpu::Archive::new(&bytes).unwrap();
        // Section 2 of DIETGPU.md.
        let n = coded.len().div_ceil(dietgpu::BLOCK);
        let directory = 544 + 128 * n;
        let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let blocks: Vec<RansBlock> = (0..n)
            .map(|block| {
                let (sizes, start) = (field(directory + 8 * block), field(directory + 8 * block + 4));
                let words = directory + 8 * n.next_multiple_of(2) + 2 * start;
                RansBlock {
                    states: 544 + 128 * block,
                    words: words..words + 2 * (sizes & 0xffff),
                    raw: 0,
                    first: dietgpu::BLOCK * block,
                    symbols: sizes >> 16,
                }
            })
            .collect();
        let frequencies = archive.frequencies().unwrap();
        let (found, status, report) =
            rans_decode(module, &bytes, &blocks, frequencies, 0, coded.len(), &options(3));
        is_clean(&report, target);
        assert!(found == coded && status.iter().all(|status| *status == 0), "{target}");
    }
}

#[test]
fn rans_kernels_say_what_is_wrong_with_a_block_as_core_does_and_stay_in_bounds() {
    let (sound, elements) = sample_frame(ElementType::U8, 5000);
    let frame = Frame::new(&sound).unwrap();
    let (blocks, kind) = frame_blocks(&frame).unwrap();
    let frequencies = frame.header().frequencies().unwrap();
    let mut table = Box::new(DecodeTable::EMPTY);
    table.build(frequencies);
    let RansBlock { states, words, .. } = &blocks[0];
    let (mut random, mut seen) = (Random(6), [0; 5]);
    for round in 0..cases(80) as usize {
        let mut bytes = sound.clone();
        let mut block = RansBlock { words: words.clone(), ..blocks[0] };
        match random.below(6) {
            0 => bytes[states + random.below(128) as usize] ^= 1 << random.below(8),
            1 => bytes[states + 4 * random.below(32) as usize + 3] |= 0x80,
            2 => bytes[words.start + random.below(words.len() as u64) as usize] ^= 1 << random.below(8),
            // One of those that are taken last.
            3 => bytes[words.start + random.below(8) as usize] ^= 1 << random.below(8),
            // More words than there are, or fewer symbols.
            4 => block.words.start -= 2 * (1 + random.below(20) as usize),
            _ => block.symbols -= 1 + random.below(100) as usize,
        }
        let mut expected = vec![0; block.symbols];
        let result = table.decode_into(
            bytes[*states..].first_chunk().unwrap(),
            &bytes[block.words.clone()],
            &mut expected,
        );
        let status = match result {
            Ok(()) => 0,
            Err(Error::LaneState { .. }) => 1,
            Err(Error::WordsMissing { .. }) => 2,
            Err(Error::WordsLeft { .. }) => 3,
            Err(_) => 4,
        };
        seen[status as usize] += 1;
        let (target, module) = &RANS[round % 4];
        let (found, found_status, report) =
            rans_decode(module, &bytes, &[block], frequencies, kind, elements.len(), &options(round as u64));
        is_harmless(&report, target);
        assert_eq!(found_status, [status], "round {round}: {target} {result:?}");
        assert!(status != 0 || found[..expected.len()] == expected, "round {round}: {target}");
    }
    assert!(cases(80) < 80 || seen[1..].iter().all(|times| *times > 0), "{seen:?}");
}

/// Counts for each element.
fn per_element(counters: &Counters, elements: usize) -> [String; 5] {
    let Counters {
        warp_instructions, load_sectors, store_sectors, shared_wavefronts, shared_conflicts, ..
    } = counters;
    [warp_instructions, load_sectors, store_sectors, shared_wavefronts, shared_conflicts]
        .map(|count| format!("{:.4}", *count as f64 / elements as f64))
}

#[test]
fn the_kernels_do_as_much_as_they_did() {
    let n = 300_000;
    let weights = bytes(&like_trained(n, 1));
    let unit = encode(&weights).unwrap();
    // Instructions, sectors read and written, wavefronts of shared memory, of which conflicts. Whoever changes a kernel looks
    // whether it became better, and writes down what it became.
    let is_as_it_was = |report: &Report, expected: [&str; 5]| {
        assert_eq!(per_element(&report.counters, n), expected);
    };
    let (_, module) = &DF11[2];
    let (_, report) = df11_decode(module, &unit.as_slices(), 4, 0, &Options::default());
    is_as_it_was(&report, ["0.9792", "0.0525", "0.0654", "0.2349", "0.0875"]);
    let (_, _, report) = emulate::units(module, &[unit.as_slices()], 4, 0, &Options::default()).unwrap();
    is_as_it_was(&report, ["0.8333", "0.0576", "0.0654", "0.1382", "0.0576"]);

    let (bytes, elements) = sample_frame(ElementType::Bf16, n);
    let frame = Frame::new(&bytes).unwrap();
    let (chunks, kind) = frame_blocks(&frame).unwrap();
    let frequencies = frame.header().frequencies().unwrap();
    let item = RansFrame { data: &bytes, chunks: &chunks, frequencies, kind, bytes: elements.len() };
    let (_, module) = &RANS[2];
    let (_, _, report) = emulate::frames(module, &[item], 1, 0, &Options::default()).unwrap();
    is_as_it_was(&report, ["1.1617", "0.0466", "0.0625", "0.1827", "0.0780"]);

    let options = frame::EncodeOptions::new().codec(Codec::Dictionary);
    let bytes = options.encode(ElementType::Bf16, &[n as u64], &weights).unwrap();
    let item = DictionaryFrame::new(&Frame::new(&bytes).unwrap()).unwrap().unwrap();
    let (_, module) = &FAST[2];
    let (_, _, report) = emulate::dictionaries(module, &[item], 1, 0, &Options::default()).unwrap();
    is_as_it_was(&report, ["0.5492", "0.0715", "0.0625", "0.0924", "0.0477"]);
}

/// Runs `df11_decode` with one line of its text left out.
fn without_line(line: usize, tensors: &Parts<&[u8]>, options: &Options) -> (Vec<u8>, Report) {
    let text = DF11_DECODE[2].text;
    let lines = text.lines().enumerate().filter(|(number, _)| *number != line);
    let text: Vec<&str> = lines.map(|(_, line)| line).collect();
    df11_decode(&Module::parse(&text.join("\n")).unwrap(), tensors, 1, 0, options)
}

#[test]
fn every_barrier_of_the_df11_kernel_is_needed_and_is_missed() {
    let text = DF11_DECODE[2].text;
    let start = text.lines().position(|line| line.contains(".entry df11_decode(")).unwrap();
    let end = text.lines().skip(start).position(|line| line == "}").unwrap() + start;
    let barriers: Vec<usize> = text
        .lines()
        .enumerate()
        .filter(|(number, line)| (start..end).contains(number) && line.trim().starts_with("bar.sync"))
        .map(|(number, _)| number)
        .collect();
    assert!(barriers.len() >= 6, "{barriers:?}");
    // Three blocks, of which the last needs the direct way.
    let mut weights = bytes(&like_trained(30_000, 1));
    weights.extend([0; 80_000]);
    let encoded = encode(&weights).unwrap();
    let mut right_all_the_same = 0;
    for line in barriers {
        // A table that nobody has written yet has codewords of no bits.
        let options = Options { most_steps: 3_000_000, ..Options::default() };
        let (found, report) = without_line(line, &encoded.as_slices(), &options);
        let is_missed = |kind| matches!(kind, Kind::Race | Kind::RaceInWarp | Kind::UndefinedRead);
        let is_found = report.findings.iter().any(|finding| is_missed(finding.kind));
        assert!(is_found, "without the barrier of line {}: {:?}", line + 1, report.findings);
        right_all_the_same += usize::from(found == weights);
    }
    assert!(right_all_the_same >= 2, "{right_all_the_same}");
}

/// The published kernel, if it has been fetched; otherwise says that the test is skipped.
fn published() -> Option<Module> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/dfloat11/decode.ptx");
    let text = std::fs::read_to_string(path).ok();
    if text.is_none() {
        println!("skipped: the published kernel is not there; gpu/fetch_published.sh fetches it");
    }
    text.map(|text| Module::parse(&text).unwrap())
}

#[test]
fn the_published_kernel_decodes_our_units_and_reads_one_gap_too_many() {
    let Some(module) = published() else { return };
    let mut random = Random(8);
    for round in 0..12 {
        let weights = weights(&mut random);
        let encoded = encode(&weights).unwrap();
        let unit = encoded.as_unit();
        let shape = Shape::published(unit.blocks(), unit.shared_memory_bytes());
        let (found, report) =
            emulate::unit(&module, "decode", &encoded.as_slices(), shape, 0, &options(round)).unwrap();
        assert!(found == weights, "round {round}");
        let text: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        let [finding] = report.findings.as_slice() else { panic!("round {round}: {text:#?}") };
        let gaps = encoded.gaps.len();
        assert_eq!(finding.kind, Kind::ReadOutOfBounds);
        assert!(finding.detail.contains(&format!("1 bytes at offset {gaps} of buffer 4")), "{finding}");
    }
}

#[test]
fn real_weights_come_back_from_every_kernel_for_every_target() {
    let Some(file) = corpus::fetched("bf16/model.safetensors") else { return };
    let all = df11_model::bf16_weights(&file).unwrap();
    // All of them take some minutes.
    let is_whole = std::env::var_os("DF11_WHOLE_CORPUS").is_some();
    let weights = if is_whole { &all[..] } else { &all[20_000_000..20_400_000] };
    let encoded = encode(weights).unwrap();
    let bytes = frame::encode(ElementType::Bf16, &[weights.len() as u64 / 2], weights).unwrap();
    let frame = Frame::new(&bytes).unwrap();
    let (blocks, kind) = frame_blocks(&frame).unwrap();
    let frequencies = frame.header().frequencies().unwrap();
    let fast = frame::EncodeOptions::new().codec(Codec::Dictionary);
    let fast = fast.encode(ElementType::Bf16, &[weights.len() as u64 / 2], weights).unwrap();
    std::thread::scope(|scope| {
        for targets in [[0, 1], [2, 3]] {
            let (encoded, bytes, blocks, fast) = (&encoded, &bytes, &blocks, &fast);
            scope.spawn(move || {
                for number in targets {
                    let (target, module) = &DF11[number];
                    let options = Options { most_steps: u64::from(u32::MAX - 1), ..Options::default() };
                    let (found, report) = df11_decode(module, &encoded.as_slices(), 264, 0, &options);
                    is_clean(&report, target);
                    assert!(found == weights, "df11_decode for {target}");
                    let (target, module) = &RANS[number];
                    let (found, status, report) =
                        rans_decode(module, bytes, blocks, frequencies, kind, weights.len(), &options);
                    is_clean(&report, target);
                    assert!(
                        found == weights && status.iter().all(|status| *status == 0),
                        "rans_decode for {target}"
                    );
                    // As files are mapped: parts begin anywhere.
                    let (_, module) = &DF11[number];
                    let (found, status, report) =
                        emulate::units(module, &[encoded.as_slices()], 660, 1 + 2 * number, &options)
                            .unwrap();
                    is_clean(&report, target);
                    assert!(
                        found == [weights] && status == [NOTHING_WRONG],
                        "df11_decode_batch for {target}"
                    );
                    let item = DictionaryFrame::new(&Frame::new(fast).unwrap()).unwrap().unwrap();
                    let (target, module) = &FAST[number];
                    let (found, status, report) =
                        emulate::dictionaries(module, &[item], 528, number, &options).unwrap();
                    is_clean(&report, target);
                    assert!(
                        found == [weights] && status == [NOTHING_WRONG],
                        "fast_decode_batch for {target}"
                    );
                }
            });
        }
    });
    println!("{} weights for {} targets, nothing found", weights.len() / 2, DF11.len());
}

#[test]
fn what_the_errata_say_of_the_published_kernel_shows() {
    let Some(module) = published() else { return };
    let run = |id: &str| {
        let vectors = Vectors::load().unwrap();
        let (_, test) = vectors.tests().find(|(_, test)| test.id == id).unwrap();
        let tensors = test.tensors().unwrap();
        let parts = unit(&tensors).unwrap();
        let blocks = parts.encoded_exponent.len().div_ceil(df11::BLOCK_BYTES);
        let shape = Shape::published(blocks, df11::PUBLISHED_SHARED_MEMORY);
        let options = Options { most_steps: 1_000_000, ..Options::default() };
        emulate::unit(&module, "decode", &parts, shape, 0, &options).unwrap().1.findings
    };
    let has = |id: &str, kind: Kind, detail: &str| {
        let findings = run(id);
        let found = findings.iter().any(|finding| finding.kind == kind && finding.detail.contains(detail));
        assert!(found, "{id}: {findings:?}");
    };
    // 5, 7 and 8 of ERRATA.md. Buffer 4 is `gaps`, buffer 3 `output_positions`.
    has("tables-17", Kind::ReadOutOfBounds, "of buffer 4");
    has("short-positions-2", Kind::ReadOutOfBounds, "of buffer 3");
    has("length-zero", Kind::StepLimit, "");
}
