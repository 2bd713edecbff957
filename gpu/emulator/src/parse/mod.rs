//! Parses PTX text into instructions.

mod instructions;
mod lexer;
mod module;

use self::module::Parser;
use crate::Error;
use crate::instruction::Instruction;

/// The kernels of a PTX text.
#[derive(Clone, Debug)]
pub struct Module {
    pub(crate) kernels: Vec<Kernel>,
    /// The version of the language, such as 7.8.
    version: String,
    /// The target, such as `sm_90`.
    target: String,
}

/// A kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub(crate) name: String,
    pub(crate) code: Vec<Instruction>,
    /// The number of registers. Their sizes are not kept, because values are truncated when they
    /// are written.
    pub(crate) registers: usize,
    /// The name of each register.
    pub(crate) names: Vec<String>,
    /// Bytes of shared memory that the kernel declares.
    pub(crate) shared_bytes: usize,
    /// The size of each parameter in bytes.
    pub(crate) parameters: Vec<usize>,
    /// The largest number of threads of a thread block, where it is declared.
    pub(crate) most_threads: Option<u32>,
}

impl Module {
    /// Parses PTX.
    ///
    /// # Errors
    ///
    /// [`Error::Parse`] for text that is not PTX, and for instructions that this emulator does not
    /// support, by name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Parser::new(text).module()
    }

    /// Returns the kernels of the module.
    #[must_use]
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    /// Returns the version of PTX, such as `7.8`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the target that the PTX was made for, such as `sm_90`.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl Kernel {
    /// Returns the kernel's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the bytes of shared memory that it needs in addition to those of the launch.
    #[must_use]
    pub fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    /// Returns the size of each parameter in bytes.
    #[must_use]
    pub fn parameters(&self) -> &[usize] {
        &self.parameters
    }
}
