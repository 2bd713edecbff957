//! The device under test.

use df11_gpu::{Emulation, Gpu, Target};

/// Opens the device that `DF11_DEVICE` names: `cuda:0` for a card, otherwise the emulator, whose
/// streams do nothing before a call waits for them.
pub(crate) fn gpu() -> Gpu {
    let target = std::env::var("DF11_DEVICE").map_or(Ok(Target::Emulated), |text| text.parse()).unwrap();
    let gpu = match target {
        Target::Cuda(number) => Gpu::open(number).unwrap(),
        Target::Emulated => Gpu::emulated(Emulation::default()).unwrap(),
        Target::Cpu => panic!("these tests are about devices; DF11_DEVICE says cpu"),
    };
    println!("on {target}: {:?}", gpu.info());
    gpu
}
