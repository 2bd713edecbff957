//! Frames of codec rANS, and archives of dietgpu.

use df11::frame::{ElementType, Frame};
use df11::hazmat::rans::DecodeTable;
use df11::{Error, dietgpu};
use df11_gpu::kernels::RansBlock;
use df11_gpu_lab::emulate::frame_blocks;
use df11_tests::cases;
use df11_tests::weights::{Random, like_trained};

use crate::support::{RANS, is_clean, is_harmless, options, rans_decode, sample_frame};

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
fn rans_kernels_decode_the_blocks_of_dietgpus_archives() {
    let coded: Vec<u8> = like_trained(30_000, 2).iter().map(|bits| (bits >> 7) as u8).collect();
    for (scale_bits, (target, module)) in (9..12).zip(&*RANS) {
        let bytes = dietgpu::encode(&coded, scale_bits, dietgpu::Checksum::Omitted).unwrap();
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
    let mut table = Box::new(DecodeTable::new());
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
            // A word that is among the last to be taken.
            3 => bytes[words.start + random.below(8) as usize] ^= 1 << random.below(8),
            // More words than exist, or fewer symbols.
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
