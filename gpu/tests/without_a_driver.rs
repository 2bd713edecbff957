//! Without a driver, everything links, starts, and reports that there is none.

#![cfg(all(target_os = "linux", feature = "driver"))]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that says whether it ran")]

use df11_gpu::{Backend, Emulation, Error, Gpu, backend, devices};

#[test]
fn without_a_driver_everything_says_so() {
    if backend() != Backend::None {
        println!("not run: this machine has a driver");
        return;
    }
    assert_eq!(devices().unwrap(), []);
    let error = Gpu::open(0).unwrap_err();
    assert!(matches!(error, Error::NoDriver { reason: Some(_) }));
    let text = error.to_string();
    // The message contains the system's own words, so that a library that exists but cannot be
    // opened is not reported as missing.
    assert!(text.contains("no CUDA driver") && text.contains("libcuda.so.1"), "{text}");
    assert!(matches!(Gpu::emulated(Emulation::default()), Err(Error::OtherBackend)));
}
