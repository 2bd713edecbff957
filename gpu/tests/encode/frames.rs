//! Frames.

use df11::frame::{self, Codec, ElementType, Frame};
use df11_emulator::Options;
use df11_gpu::encode::frame_of_blocks;
use df11_gpu_lab::machine::{Emulated, Error as EmulatedError};
use df11_tests::cases;
use df11_tests::weights::Random;

use crate::support::{TYPES, elements, encode_frame, frame_of_core, is_clean, machines, options, size};

#[test]
fn frames_are_those_of_core_whatever_their_elements_addresses_and_blocks() {
    let mut random = Random(14);
    let mut machines = machines();
    let mut codecs = [0; 2];
    for round in 0..cases(1000) as usize {
        let element_type = TYPES[round % 6];
        let n = size(&mut random) - usize::from(random.below(20) == 0);
        let elements = elements(&mut random, element_type, n);
        let block_len = [4096, 4096, 4160, 8192, 65_536][random.below(5) as usize];
        let expected = frame_of_core(block_len, element_type, &elements);
        let codec = Frame::new(&expected).unwrap().header().codec();
        codecs[usize::from(codec == Codec::Rans)] += 1;
        let skipped = [0, 16, 4, 8, 12, 2, 6, 1, 3, 13][random.below(10) as usize];
        let machine = &mut machines[round / 6 % 4];
        machine.set_options(options(round as u64 / 24));
        machine.set_thread_blocks(1 + random.below(7) as u32);
        let found = encode_frame(machine, block_len, element_type, &elements, skipped);
        let what = format!(
            "round {round}: {n} of {element_type:?}, {skipped} bytes skipped, blocks of {block_len}, {codec:?}"
        );
        is_clean(machine, &what);
        let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
        assert_eq!((found.len(), differs), (expected.len(), None), "{what}");
    }
    assert!(cases(1000) < 1000 || codecs.iter().all(|times| *times > 100), "{codecs:?}");
}

#[test]
fn shapes_that_no_frame_has_are_refused_as_core_does() {
    let mut machine = Emulated::new(90, Options::default()).unwrap();
    for (block_len, shape) in [(4096, &[1; 33][..]), (4096, &[u64::MAX, 2]), (100, &[5])] {
        let counts = [1; 256];
        let expected = frame::EncodeOptions::new()
            .block_len(block_len)
            .encoder(ElementType::U8, shape, &counts)
            .unwrap_err();
        let found = frame_of_blocks(&mut machine, block_len, ElementType::U8, shape, 0);
        assert!(matches!(found, Err(EmulatedError::Core(found)) if found == expected), "{shape:?}");
    }
}
