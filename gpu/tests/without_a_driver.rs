//! Where there is no driver, everything links, starts, and says so.

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
    // The system's own words, so that a library which is there and cannot be opened is not taken
    // for none.
    assert!(text.contains("no CUDA driver") && text.contains("libcuda.so.1"), "{text}");
    assert!(matches!(Gpu::emulated(Emulation::default()), Err(Error::OtherBackend)));
}
