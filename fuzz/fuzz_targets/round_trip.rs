//! Any weights in any tensors come back, and the reference writes the same bytes.
#![no_main]
use df11::{EncodeOptions, Plan};
use df11_fuzz::{encodes_alike, representable, verdict};
use half::bf16;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|tensors: Vec<Vec<u16>>| {
    let owned: Vec<Vec<u8>> = tensors.iter().map(|tensor| representable(tensor)).collect();
    let parts: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
    let weights = |bytes: &Vec<u8>| -> Vec<bf16> {
        bytes.as_chunks::<2>().0.iter().map(|w| bf16::from_bits(u16::from_le_bytes(*w))).collect()
    };
    let typed: Vec<Vec<bf16>> = owned.iter().map(weights).collect();
    let typed: Vec<&[bf16]> = typed.iter().map(Vec::as_slice).collect();
    match (EncodeOptions::new().encode(&parts), df11_reference::encode(&typed)) {
        (Ok(unit), Ok(reference)) => {
            let plan = Plan::new(&parts, &EncodeOptions::default()).unwrap();
            encodes_alike(&plan, &parts, 1 + owned[0].len() % 100, &unit);
            assert_eq!(verdict(unit.as_slices()), Some(owned.concat()));
            assert_eq!(unit.luts, reference.luts);
            assert_eq!(unit.encoded_exponent, reference.encoded_exponent);
            assert_eq!(unit.sign_mantissa, reference.sign_mantissa);
            assert_eq!(unit.output_positions, reference.output_positions);
            assert_eq!(unit.gaps, reference.gaps);
            assert_eq!(unit.split_positions, reference.split_positions);
        }
        (ours, theirs) => assert!(ours.is_err() && theirs.is_err() && owned.concat().is_empty()),
    }
});
