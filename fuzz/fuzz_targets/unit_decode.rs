//! Any bytes as a unit: never a panic, and every way of decoding agrees.
#![no_main]
use df11::Unit;
use df11_fuzz::{Parts, exercise};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(unit) = Unit::new(Parts::parse(data).tensors()) {
        exercise(&unit, data.len() as u32 / 3, data.len() as u32);
    }
});
