//! Any bytes as a unit: the reference and `df11` give the same verdict and the same bits.
#![no_main]
use df11_fuzz::{Parts, verdict};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let parts = Parts::parse(data);
    let reference = df11_reference::decode(&parts.reference());
    match (verdict(parts.tensors()), reference) {
        (Some(core), Ok(reference)) => {
            assert!(reference.iter().flat_map(|w| w.to_bits().to_le_bytes()).eq(core));
        }
        (None, Err(_)) => {}
        (core, reference) => panic!("core accepts: {}, reference: {:?}", core.is_some(), reference.err()),
    }
});
