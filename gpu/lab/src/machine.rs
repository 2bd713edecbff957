//! The emulator as a machine, with all of its findings.

use std::collections::BTreeMap;
use std::fmt;

use df11_emulator::{Counters, Device, Finding, Launch, Module, Options};

use df11_gpu::encode::{Kernels, Machine, Pass};
use df11_gpu::kernels::{THREADS, best};

/// Runs passes in the emulator.
#[derive(Debug)]
pub struct Emulated {
    capability: i32,
    options: Options,
    device: Device,
    modules: Vec<(Kernels, Module)>,
    most_thread_blocks: u32,
    findings: Vec<Finding>,
    counters: BTreeMap<&'static str, Counters>,
    undefined: usize,
}

/// The reason why encoding in the emulator failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The data cannot be encoded at all.
    Core(df11::Error),
    /// The emulator does not run the kernel.
    Emulator(df11_emulator::Error),
    /// There are no kernels for this compute capability.
    TooOld {
        /// The compute capability, such as 75 for 7.5.
        capability: i32,
    },
}

impl From<df11::Error> for Error {
    fn from(error: df11::Error) -> Self {
        Error::Core(error)
    }
}

impl From<df11_emulator::Error> for Error {
    fn from(error: df11_emulator::Error) -> Self {
        Error::Emulator(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Core(error) => error.fmt(f),
            Error::Emulator(error) => error.fmt(f),
            Error::TooOld { capability } => write!(f, "no kernel is for compute capability {capability}"),
        }
    }
}

impl std::error::Error for Error {}

impl Emulated {
    /// Makes a machine of this compute capability (90 for 9.0), whose kernels run with these
    /// options.
    ///
    /// # Errors
    ///
    /// [`Error::TooOld`] if there are no kernels for it, [`Error::Emulator`] if the emulator does
    /// not support one of their instructions.
    pub fn new(capability: i32, options: Options) -> Result<Self, Error> {
        let module = |kernels: Kernels| {
            let ptx = best(kernels.ptx(), capability).ok_or(Error::TooOld { capability })?;
            Ok((kernels, Module::parse(ptx.text)?))
        };
        let modules = Kernels::ALL.into_iter().map(module).collect::<Result<_, Error>>()?;
        Ok(Emulated {
            capability,
            options,
            device: Device::new(),
            modules,
            most_thread_blocks: u32::MAX,
            findings: Vec::new(),
            counters: BTreeMap::new(),
            undefined: 0,
        })
    }

    /// Limits later launches to this number of thread blocks. A launch always has at least one.
    pub const fn set_thread_blocks(&mut self, most: u32) {
        self.most_thread_blocks = most;
    }

    /// Sets the options of later kernels.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Replaces its own kernels with this PTX text.
    ///
    /// # Errors
    ///
    /// [`Error::Emulator`] if the text is not PTX, or has instructions that the emulator does not
    /// support.
    pub fn set_kernels(&mut self, kernels: Kernels, text: &str) -> Result<(), Error> {
        let module = Module::parse(text)?;
        self.modules.retain(|(other, _)| *other != kernels);
        self.modules.push((kernels, module));
        Ok(())
    }

    /// Returns its compute capability, such as 90 for 9.0.
    #[must_use]
    pub const fn capability(&self) -> i32 {
        self.capability
    }

    /// Returns the faults of all kernels so far.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Returns how many bytes were downloaded that had never been written.
    #[must_use]
    pub const fn undefined(&self) -> usize {
        self.undefined
    }

    /// Returns the counts of each kernel so far, by name.
    #[must_use]
    pub const fn counters(&self) -> &BTreeMap<&'static str, Counters> {
        &self.counters
    }
}

impl Machine for Emulated {
    type Error = Error;

    fn allocate(&mut self, bytes: usize) -> Result<u64, Error> {
        Ok(self.device.allocate(bytes))
    }

    fn free(&mut self, address: u64) -> Result<(), Error> {
        self.device.free(address);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        self.device.write(address, bytes);
        Ok(())
    }

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.undefined += self.device.undefined(address, bytes.len());
        bytes.copy_from_slice(self.device.read(address, bytes.len()));
        Ok(())
    }

    fn run(&mut self, pass: &Pass) -> Result<(), Error> {
        let grid = [pass.thread_blocks.min(self.most_thread_blocks).max(1), 1, 1];
        let launch = Launch { grid, block: [THREADS, 1, 1], shared_bytes: 0, arguments: &pass.arguments };
        let module = self.modules.iter().find(|(kernels, _)| *kernels == pass.kernels);
        let (_, module) = module.ok_or(Error::TooOld { capability: self.capability })?;
        let report = module.launch(pass.entry, &mut self.device, &launch, &self.options)?;
        self.findings.extend(report.findings);
        self.counters.entry(pass.entry).or_default().add(&report.counters);
        Ok(())
    }
}
