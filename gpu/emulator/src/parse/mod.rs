//! PTX as text to instructions.

mod instructions;
mod lexer;
mod module;

use self::module::Parser;
use crate::Error;
use crate::instruction::Instruction;

/// Kernels, as a text of PTX holds them.
#[derive(Clone, Debug)]
pub struct Module {
    pub(crate) kernels: Vec<Kernel>,
    /// Version of the language, such as 7.8.
    version: String,
    /// What it was compiled for, such as `sm_90`.
    target: String,
}

/// A kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub(crate) name: String,
    pub(crate) code: Vec<Instruction>,
    /// Bytes of each register's type are not kept: values are cut where they are written.
    pub(crate) registers: usize,
    /// By register: its name.
    pub(crate) names: Vec<String>,
    /// Bytes of shared memory that it states itself.
    pub(crate) shared_bytes: usize,
    /// The bytes of each parameter.
    pub(crate) parameters: Vec<usize>,
    /// The most threads of a thread block, where that is stated.
    pub(crate) most_threads: Option<u32>,
}

impl Module {
    /// Reads PTX.
    ///
    /// # Errors
    ///
    /// [`Error::Parse`] for what is no PTX, and for instructions that this emulator does not know, by name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Parser::new(text).module()
    }

    /// The kernels.
    #[must_use]
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    /// The version of PTX, such as `7.8`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What the PTX was made for, such as `sm_90`.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl Kernel {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of shared memory that it needs besides what a launch gives it.
    #[must_use]
    pub fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    /// The bytes of each of its parameters.
    #[must_use]
    pub fn parameters(&self) -> &[usize] {
        &self.parameters
    }
}
