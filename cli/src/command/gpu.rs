//! `df11 devices` and `df11 gpu`, with or without the feature `gpu`.

use clap::Subcommand;
use df11_model::Error;

#[cfg(all(target_os = "linux", feature = "gpu"))]
use super::gpu_device::{self as device, BenchCard, Check};
use super::gpu_report::ReportWork;
use crate::output::{Output, Verdict};

#[derive(Subcommand)]
pub(crate) enum Gpu {
    /// Count the work of the kernels in the emulator, beside the published kernel. (The counts are
    /// not times.)
    Report(ReportWork),
    /// Decode every unit and frame of a compressed checkpoint on a device, and compare the result
    /// with the CPU's, bit for bit.
    Check(Check),
    /// Measure how fast a card decodes with every codec, beside a copy on the card.
    Bench(BenchCard),
}

impl Gpu {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        match self {
            Gpu::Report(report) => report.run(output),
            Gpu::Check(check) => check.run(output),
            Gpu::Bench(bench) => bench.run(output),
        }
    }
}

pub(crate) fn devices(output: &Output) -> Result<Verdict, Error> {
    device::list_devices(output)
}

/// The replacement for the device commands in a program that was built without them.
#[cfg(not(all(target_os = "linux", feature = "gpu")))]
mod device {
    use super::{Error, Output, Verdict};

    pub(super) fn list_devices(_: &Output) -> Result<Verdict, Error> {
        Err(Error::Usage(
            "this program was built without its feature gpu, which exists only on Linux; to build with it: cargo \
             install df11-cli --features gpu (docs/gpu.md says what is needed where no CUDA is installed)"
                .to_owned(),
        ))
    }

    /// Accepts any arguments, so that the message is the same for all of them.
    #[derive(clap::Args)]
    pub(crate) struct Without {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        _arguments: Vec<String>,
    }

    impl Without {
        pub(super) fn run(self, output: &Output) -> Result<Verdict, Error> {
            list_devices(output)
        }
    }
}

#[cfg(not(all(target_os = "linux", feature = "gpu")))]
use device::{Without as BenchCard, Without as Check};
