//! Units.

use df11::frame::{self, ElementType};
use df11::hazmat::huffman::CodeLengths;
use df11::{EncodeOptions, Error, Plan};
use df11_emulator::Options;
use df11_gpu::encode::Tiling;
use df11_gpu_lab::machine::{Emulated, Error as EmulatedError};
use df11_tests::cases;
use df11_tests::weights::{Random, bytes, like_trained, with_exponents};

use crate::support::{best, cut, encode, exponents, is_clean, is_same, machines, options, size};

#[test]
fn units_are_those_of_core_whatever_their_weights_addresses_and_tiles() {
    let mut random = Random(11);
    let mut machines = machines();
    for round in 0..cases(1000) as usize {
        let n = size(&mut random);
        let exponents = exponents(&mut random, n);
        let weights = bytes(&with_exponents(exponents, random.next()));
        let tensors = cut(&mut random, &weights);
        let least = [1, 1, 1, 2, 8][random.below(5) as usize];
        let encode_options = EncodeOptions::new().least_code_length(least);
        let plan = |frequencies: &_| Plan::from_frequencies(frequencies, tensors.len(), &encode_options);
        let expected = encode_options.encode(&tensors).unwrap();
        let skipped = [0, 16, 2, 4, 6, 8, 10, 12, 14, 1, 3, 7, 13][random.below(13) as usize];
        let tiling = match random.below(4) {
            0 => Tiling { weights: 1 + random.below(40) as usize },
            1 => Tiling { weights: 1 + random.below(9000) as usize },
            2 => Tiling { weights: 1 << 16 },
            _ => Tiling::of(n),
        };
        let machine = &mut machines[round % 4];
        machine.set_options(options(round as u64 / 4));
        machine.set_thread_blocks(1 + random.below(7) as u32);
        let found = encode(machine, &tensors, skipped, tiling, plan).unwrap();
        let what = format!("round {round}: {n} weights, {skipped} bytes skipped, {tiling:?}");
        is_clean(machine, &what);
        is_same(&found, &expected, &what);
    }
}

#[test]
fn units_of_codewords_of_up_to_32_bits_are_those_of_core() {
    let mut random = Random(13);
    let mut machines = machines();
    for round in 0..cases(60) as usize {
        // A codeword of each length from some length on, and two of the last, for exponents in any
        // order.
        let first = 1 + random.below(12) as u8;
        let mut lengths = [0; 256];
        (first..=32).zip(first..).for_each(|(length, exponent)| lengths[usize::from(exponent)] = length);
        lengths[33] = 32;
        let n = size(&mut random);
        let exponents: Vec<u8> = (0..n).map(|_| first + random.below(34 - u64::from(first)) as u8).collect();
        let weights = bytes(&with_exponents(exponents, random.next()));
        let tensors = cut(&mut random, &weights);
        let plan = |frequencies: &_| {
            Plan::with_lengths(frequencies, tensors.len(), &CodeLengths::new(&lengths).unwrap())
        };
        let frequencies = frame::count(ElementType::Bf16, &weights).unwrap();
        let expected = plan(&frequencies).unwrap().encode(&tensors).unwrap();
        let tiling = Tiling { weights: 1 + random.below(9000) as usize };
        let machine = &mut machines[round % 4];
        machine.set_options(options(round as u64 / 4));
        let found = encode(machine, &tensors, 2 * round % 18, tiling, plan).unwrap();
        let what = format!("round {round}: {n} weights, {tiling:?}");
        is_clean(machine, &what);
        is_same(&found, &expected, &what);
    }
}

#[test]
fn what_the_layout_cannot_hold_is_refused_as_core_does() {
    let mut random = Random(12);
    let mut machine = Emulated::new(90, Options::default()).unwrap();
    for round in 0..cases(40) {
        let n = size(&mut random);
        let mut weights = bytes(&like_trained(n, random.next()));
        for _ in 0..1 + random.below(3) {
            let at = random.below(n as u64) as usize;
            let exponent = 240 + random.below(16) as u16;
            weights[2 * at..2 * at + 2].copy_from_slice(&(exponent << 7 | 0x8001).to_le_bytes());
        }
        let tensors = cut(&mut random, &weights);
        let expected = EncodeOptions::new().encode(&tensors).unwrap_err();
        assert!(matches!(expected, Error::UnrepresentableExponent { element: Some(_), .. }));
        let tiling = Tiling { weights: 1 + random.below(5000) as usize };
        let Err(EmulatedError::Core(found)) = encode(&mut machine, &tensors, 6, tiling, best(tensors.len()))
        else {
            panic!("round {round}");
        };
        assert_eq!(found, expected, "round {round}");
    }
    for tensors in [&[][..], &[&[][..]], &[&[], &[]]] {
        let found = encode(&mut machine, tensors, 0, Tiling::of(0), best(tensors.len()));
        assert!(matches!(found, Err(EmulatedError::Core(Error::EmptyUnit))));
    }
    // A plan for other weights, and for other tensors.
    let weights = bytes(&like_trained(100, 1));
    let other = |_: &[u64; 256]| Plan::new(&[&weights[2..]], &EncodeOptions::default());
    let found = encode(&mut machine, &[&weights], 0, Tiling::of(100), other);
    assert!(matches!(found, Err(EmulatedError::Core(Error::PlanMismatch { .. }))));
    let found = encode(&mut machine, &[&weights], 0, Tiling::of(100), best(2));
    assert!(matches!(found, Err(EmulatedError::Core(Error::PlanMismatch { .. }))));
    is_clean(&machine, "refused units");
}
