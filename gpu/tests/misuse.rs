//! Mistakes of the host show in the emulator. This is the only test of its process, because a
//! driver that has failed stays failed.

#![cfg(all(target_os = "linux", feature = "driver"))]
#![allow(clippy::unwrap_used, clippy::panic, unsafe_code, reason = "a test of what must not be done")]

use df11::encode;
use df11_cuda_driver::{cuCtxPushCurrent_v2, cuLaunchKernel, cuMemcpyDtoHAsync_v2};
use df11_gpu::cust;
use df11_gpu::{Batch, Emulation, Error, Gpu, Item};

#[test]
fn whoever_does_not_wait_has_nothing_and_what_a_kernel_does_wrong_is_named() {
    let weights: Vec<u8> = (0..4000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
    let unit = encode(&weights).unwrap();
    let gpu = Gpu::emulated(Emulation::default()).unwrap();
    let uploaded = gpu.upload(&unit.as_slices()).unwrap();
    let batch = Batch::packed(&gpu, &[Item::Unit(&uploaded)]).unwrap();
    let outputs = gpu.allocate(weights.len()).unwrap();
    let mut early = vec![0u8; weights.len()];
    let stream = gpu.stream().as_raw();
    // SAFETY: all memory lives until the stream has been waited for, below.
    let code = unsafe {
        batch.enqueue(stream, outputs.address()).unwrap();
        cuCtxPushCurrent_v2(gpu.context());
        cuMemcpyDtoHAsync_v2(early.as_mut_ptr().cast(), outputs.address(), early.len(), stream)
    };
    assert_eq!(code, 0);
    assert!(early.iter().all(|byte| *byte == 0), "a stream did something before anybody waited");
    gpu.stream().wait().unwrap();
    assert!(early == weights);

    // A kernel that writes past its buffer.
    let module = cust::module::Module::from_ptx(
        ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry beyond(.param .u64 to) {\n.reg .b64 %rd<3>;\n\
         ld.param.u64 %rd1, [to];\nst.global.u64 [%rd1+8], %rd1;\nret;\n}",
        &[],
    );
    let module = module.unwrap();
    let function = module.get_function("beyond").unwrap();
    let small = gpu.copy(&[0; 8]).unwrap();
    let mut address = small.address();
    let mut parameters = [std::ptr::from_mut(&mut address).cast()];
    // SAFETY: the emulator prevents harm.
    let code = unsafe {
        let (function, none) = (function.to_raw().cast(), std::ptr::null_mut());
        cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters.as_mut_ptr(), none)
    };
    assert_eq!(code, 0);
    let error = gpu.stream().wait().unwrap_err();
    assert!(matches!(error, Error::Driver(_)));
    let text = error.to_string();
    assert!(
        text.contains("WriteOutOfBounds: beyond, PTX line 7") && text.contains("offset 8 of buffer"),
        "{text}"
    );
}
