//! Frames with a dictionary.

use df11::frame::{self, Codec, ElementType, Frame};
use df11_gpu_lab::emulate::{self, DictionaryFrame, NOTHING_WRONG, RansFrame, frame_blocks};
use df11_tests::cases;
use df11_tests::weights::Random;

use crate::support::{FAST, RANS, is_clean, is_harmless, options, sample_frame};

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

/// A dictionary of this many codes, the weights or bytes coded with it, chunk by chunk, and the
/// elements.
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

/// Codes random symbols with random strings, greedily: each time with the longest that fits.
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

/// Returns the first chunk that breaks V-3.3, as a kernel reports it.
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
