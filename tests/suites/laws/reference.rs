//! The reference writes the same bytes and reads the same bits.

use df11::{EncodeOptions, Unit};
use df11_tests::cases;
use df11_tests::weights::{bits, bytes};
use proptest::prelude::*;

use crate::support::{damaged_units, to_reference, units};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(60)))]

    #[test]
    fn the_reference_writes_the_same_bytes_and_reads_the_same_bits(tensors in units()) {
        let owned: Vec<Vec<u8>> = tensors.iter().map(|tensor| bytes(tensor)).collect();
        let parts: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
        let encoded = to_reference(&EncodeOptions::new().encode(&parts).unwrap());
        let weights: Vec<Vec<half::bf16>> =
            tensors.iter().map(|tensor| tensor.iter().map(|w| half::bf16::from_bits(*w)).collect()).collect();
        let parts: Vec<&[half::bf16]> = weights.iter().map(Vec::as_slice).collect();
        prop_assert!(df11_reference::encode(&parts).unwrap() == encoded);
        let decoded = df11_reference::decode(&encoded).unwrap();
        prop_assert!(decoded.iter().map(|w| w.to_bits()).eq(tensors.concat()));
    }

    #[test]
    fn the_reference_gives_the_same_verdict_on_damaged_units(
        unit in damaged_units(),
    ) {
        let ours = Unit::new(unit.as_slices()).and_then(|unit| {
            let mut decoded = vec![0; 2 * unit.len()];
            unit.verify_blocks_into(0..unit.blocks(), &mut decoded).map(|()| bits(&decoded))
        });
        match (ours, df11_reference::decode(&to_reference(&unit))) {
            (Ok(ours), Ok(theirs)) => prop_assert!(theirs.iter().map(|w| w.to_bits()).eq(ours)),
            (Err(_), Err(_)) => {}
            (ours, theirs) => prop_assert!(false, "{:?} but {:?}", ours.err(), theirs.err()),
        }
    }
}
