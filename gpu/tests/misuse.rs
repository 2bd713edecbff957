//! What the host does wrong shows in the emulator. One test for the process: a driver that has failed stays so.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, unsafe_code, reason = "a test of what must not be done")]

use cust::memory::{AsyncCopyDestination, DeviceBuffer};
use df11_core::df11::{Options, encode};
use df11_gpu::cust;
use df11_gpu::{Emulation, Error, Gpu};

#[test]
fn whoever_does_not_wait_has_nothing_and_what_a_kernel_does_wrong_is_named() {
    let weights: Vec<u8> = (0..4000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
    let unit = encode(&[&weights], &Options::default()).unwrap();
    let gpu = Gpu::emulated(Emulation::default()).unwrap();
    let uploaded = gpu.upload(&unit.tensors()).unwrap();
    let mut outputs = gpu.allocate(weights.len()).unwrap();
    gpu.decode(gpu.stream(), &uploaded, &mut outputs).unwrap();
    let mut early = vec![0u8; weights.len()];
    // SAFETY: `early` stays until the stream has been waited for, below.
    unsafe { outputs.async_copy_to(&mut early, gpu.stream()) }.unwrap();
    assert!(early.iter().all(|byte| *byte == 0), "a stream did something before anybody waited");
    gpu.wait(gpu.stream()).unwrap();
    assert!(early == weights);

    // A kernel that writes past its buffer.
    let module = cust::module::Module::from_ptx(
        ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry beyond(.param .u64 to) {\n.reg .b64 %rd<3>;\n\
         ld.param.u64 %rd1, [to];\nst.global.u64 [%rd1+8], %rd1;\nret;\n}",
        &[],
    );
    let module = module.unwrap();
    let function = module.get_function("beyond").unwrap();
    let small: DeviceBuffer<u64> = DeviceBuffer::from_slice(&[1]).unwrap();
    let mut address = small.as_device_ptr().as_raw();
    // SAFETY: the emulator keeps it from doing harm.
    unsafe { gpu.stream().launch(&function, 1, 1, 0, &[std::ptr::from_mut(&mut address).cast()]) }.unwrap();
    let error = gpu.wait(gpu.stream()).unwrap_err();
    assert!(matches!(error, Error::Driver { .. }));
    let text = error.to_string();
    assert!(
        text.contains("WriteOutOfBounds: beyond, PTX line 7") && text.contains("offset 8 of buffer"),
        "{text}"
    );
}
