//! Tests codes of drivers that are newer than `cust`. They cause no undefined behaviour, and the
//! message has the true code. This is the only test of its process, because its driver refuses
//! calls.

#![cfg(all(target_os = "linux", feature = "driver"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use df11_gpu::{Emulation, Error, Gpu};

#[test]
fn a_code_that_cust_does_not_know_is_told_as_it_is() {
    let refusals = vec![("cuDevicePrimaryCtxRetain", 46)];
    let error = Gpu::emulated(Emulation { refusals, ..Emulation::default() }).unwrap_err();
    let Error::Driver(refusal) = &error else { panic!("{error}") };
    assert_eq!((refusal.function, refusal.code), ("cuDevicePrimaryCtxRetain", 46));
    let text = error.to_string();
    assert!(text.contains("says 46") && text.contains("another process has the device"), "{text}");
}
