//! Any range of any unit is the slice of the whole.
#![no_main]
use df11::{Unit, encode};
use df11_fuzz::{exercise, representable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u16>, u8, u32, u32)| {
    let (weights, repeat, start, end) = input;
    // Repeated, so that there are several blocks.
    let all = representable(&weights).repeat(1 + usize::from(repeat));
    if let Ok(encoded) = encode(&all) {
        let unit = Unit::new(encoded.as_slices()).unwrap();
        exercise(&unit, start, end);
    }
});
