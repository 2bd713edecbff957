//! Several threads give what one gives: the same bytes, weights and errors.

use df11::frame::{self, Codec, ElementType, Frame};
use df11::{Decoder, EncodeOptions, Level, Unit};
use df11_tests::part;
use df11_tests::weights::{bytes, like_trained};

use crate::support::pools;

/// Enough for several parts of some threads each.
const WEIGHTS: usize = 3_000_000;

#[test]
fn units_are_encoded_and_decoded_alike_by_any_number_of_threads() {
    let weights = bytes(&like_trained(WEIGHTS, 1));
    let tensors = [&weights[..4_000_000], &weights[4_000_000..]];
    let options = EncodeOptions::new();
    let expected = options.encode(&tensors).unwrap();
    for pool in pools() {
        assert!(pool.install(|| options.encode_parallel(&tensors)).unwrap() == expected);
        for level in Level::all() {
            let decoder = Decoder::at_level(&expected.as_unit(), level);
            let mut decoded = vec![0xa5; weights.len()];
            pool.install(|| decoder.decode_parallel_into(&mut decoded)).unwrap();
            assert!(decoded == weights, "{level:?}");
            decoded.fill(0xa5);
            pool.install(|| decoder.verify_parallel_into(&mut decoded)).unwrap();
            assert!(decoded == weights, "{level:?}");
            for range in [0..0, 5..6, 1..WEIGHTS, 777..WEIGHTS - 777, 1_000_000..1_000_001, 0..WEIGHTS] {
                let mut part = vec![0xa5; 2 * range.len()];
                pool.install(|| decoder.decode_range_parallel_into(range.clone(), &mut part)).unwrap();
                assert!(part == weights[2 * range.start..2 * range.end], "{level:?}, {range:?}");
            }
        }
    }
}

#[test]
fn what_cannot_be_encoded_is_the_same_error_with_threads() {
    let mut weights = bytes(&like_trained(2_500_000, 1));
    let options = EncodeOptions::new();
    for pool in pools() {
        assert_eq!(pool.install(|| options.encode_parallel(&[])).err(), options.encode(&[]).err());
        let odd = &weights[1..];
        assert_eq!(pool.install(|| options.encode_parallel(&[odd])).err(), options.encode(&[odd]).err());
    }
    // An infinity, late in the tensor.
    weights[4_400_000..][..2].copy_from_slice(&0x7f80u16.to_le_bytes());
    let expected = options.encode(&[&weights]).err();
    assert!(expected.is_some());
    for pool in pools() {
        assert_eq!(pool.install(|| options.encode_parallel(&[&weights])).err(), expected);
    }
}

#[test]
fn damage_gives_the_same_error_on_any_number_of_threads() {
    let weights = bytes(&like_trained(WEIGHTS, 2));
    let sound = df11::encode(&weights).unwrap();
    let code = sound.encoded_exponent.len();
    for at in [0, code / 3, code / 2, code - 5000] {
        let mut unit = sound.clone();
        // Two places, far from one another.
        for at in [at, code - 3000] {
            part(&mut unit, 1)[at..at + 8].fill(0xff);
        }
        let Ok(unit) = Unit::new(unit.as_slices()) else { continue };
        let decoder = Decoder::new(&unit);
        let mut decoded = vec![0; weights.len()];
        let expected = decoder.decode_into(&mut decoded);
        let verified = decoder.verify_blocks_into(0..unit.blocks(), &mut decoded);
        assert!(verified.is_err());
        for pool in pools() {
            assert_eq!(pool.install(|| decoder.decode_parallel_into(&mut decoded)), expected);
            assert_eq!(pool.install(|| decoder.verify_parallel_into(&mut decoded)), verified);
        }
    }
    let decoder = Decoder::new(&sound.as_unit());
    let short = &mut vec![0; weights.len() - 2][..];
    assert_eq!(decoder.decode_parallel_into(short), decoder.decode_into(short));
    assert_eq!(
        decoder.verify_parallel_into(short),
        decoder.verify_blocks_into(0..sound.as_unit().blocks(), short)
    );
    assert_eq!(
        decoder.decode_range_parallel_into(5..WEIGHTS + 1, short),
        decoder.decode_range_into(5..WEIGHTS + 1, short)
    );
}

#[test]
fn frames_are_encoded_and_decoded_alike_by_any_number_of_threads() {
    let elements = bytes(&like_trained(WEIGHTS, 3));
    for (codec, element_type, block_len) in [
        (Codec::Rans, ElementType::Bf16, 65_536),
        (Codec::Rans, ElementType::F32, 4096 + 64),
        (Codec::Dictionary, ElementType::Bf16, 8192),
        (Codec::Raw, ElementType::F8E4M3, 65_536),
    ] {
        let options = frame::EncodeOptions::new().codec(codec).block_len(block_len);
        let shape = [(elements.len() / element_type.bytes()) as u64];
        let expected = options.encode(element_type, &shape, &elements).unwrap();
        let sound = Frame::new(&expected).unwrap();
        // A byte of the last block.
        let mut damaged = expected.clone();
        let end = damaged.len() - 24 - 12 * sound.header().blocks() - 16;
        damaged[end - 16] ^= 1;
        for pool in pools() {
            let found = pool.install(|| options.encode_parallel(element_type, &shape, &elements)).unwrap();
            assert!(found == expected);
            let counts = pool.install(|| frame::count_parallel(element_type, &elements)).unwrap();
            assert_eq!(counts, frame::count(element_type, &elements).unwrap());
            let decoder = sound.decoder();
            let mut decoded = vec![0xa5; elements.len()];
            pool.install(|| decoder.decode_parallel_into(&mut decoded)).unwrap();
            assert!(decoded == elements);
            let range = 77..sound.header().len() - 77;
            let part = &mut decoded[..range.len() * element_type.bytes()];
            pool.install(|| decoder.decode_range_parallel_into(range.clone(), part)).unwrap();
            assert!(part == &elements[range.start * element_type.bytes()..range.end * element_type.bytes()]);
            let Ok(frame) = Frame::new(&damaged) else { continue };
            let expected = frame.decoder().decode_into(&mut decoded);
            assert!(expected.is_err());
            assert_eq!(pool.install(|| frame.decoder().decode_parallel_into(&mut decoded)), expected);
            let short = &mut decoded[1..];
            assert_eq!(frame.decoder().decode_parallel_into(short), frame.decoder().decode_into(short));
        }
        // Not as many as the shape says, and no block length that there is.
        let wrong = options.encode(element_type, &[7], &elements).err();
        assert_eq!(options.encode_parallel(element_type, &[7], &elements).err(), wrong);
        let options = options.block_len(0);
        let wrong = options.encode(element_type, &shape, &elements).err();
        assert!(wrong.is_some());
        assert_eq!(options.encode_parallel(element_type, &shape, &elements).err(), wrong);
    }
}
