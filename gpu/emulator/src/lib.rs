//! Runs the PTX of kernels that compute with integers and F32 on a CPU. Every lane of every warp is
//! executed, every access is checked, and the work is counted.
//!
//! A kernel can be shown to be right even without a card. The text that a driver would compile is
//! executed instruction by instruction, in lock step by warps. Meanwhile the emulator looks for
//! faults that differential tests cannot see:
//!
//! * accesses outside of allocations, or not aligned to their size;
//! * reads of bytes and registers that have never been written;
//! * races: two threads access the same bytes, at least one of them writes, and no barrier lies
//!   between the accesses, in different warps or in one;
//! * barriers and other synchronisation that some threads do not reach;
//! * infinite loops.
//!
//! Counters measure the work of a kernel: warp instructions, sectors of memory, wavefronts of
//! shared memory. They are the same in every run. They are not times, and do not tell how fast a
//! card is.
//!
//! ```
//! use df11_emulator::{Device, Launch, Module, Options};
//!
//! let module = Module::parse("
//! .version 7.0
//! .target sm_80
//! .address_size 64
//! .visible .entry double(.param .u64 double_param_0) {
//!     .reg .b32 %r<4>;
//!     .reg .b64 %rd<4>;
//!     ld.param.u64 %rd1, [double_param_0];
//!     mov.u32 %r1, %tid.x;
//!     mul.wide.u32 %rd2, %r1, 4;
//!     add.s64 %rd3, %rd1, %rd2;
//!     ld.global.u32 %r2, [%rd3];
//!     add.s32 %r3, %r2, %r2;
//!     st.global.u32 [%rd3], %r3;
//!     ret;
//! }")?;
//! let mut device = Device::new();
//! let numbers = device.allocate(4 * 32);
//! device.write(numbers, &(0..32u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
//! let launch = Launch { grid: [1, 1, 1], block: [32, 1, 1], shared_bytes: 0, arguments: &[numbers] };
//! let report = module.launch("double", &mut device, &launch, &Options::default())?;
//! assert!(report.findings.is_empty());
//! assert_eq!(device.read(numbers, 8), [0, 0, 0, 0, 2, 0, 0, 0]);
//! assert_eq!(report.counters.warp_instructions, 8);
//! assert_eq!(report.counters.load_sectors, 4);
//! # Ok::<(), df11_emulator::Error>(())
//! ```

mod counters;
mod device;
mod error;
mod execute;
mod findings;
mod instruction;
mod meeting;
mod parse;
mod race;
mod warp;

pub use counters::Counters;
pub use device::Device;
pub use error::Error;
pub use execute::{Launch, Options, Policy, Report};
pub use findings::{Finding, Kind};
pub use parse::{Kernel, Module};
