//! Launches: what to run, how, and what came of it.

use std::collections::BTreeMap;

use super::{Block, MOST_THREADS, Machine};
use crate::device::Device;
use crate::findings::Finding;
use crate::parse::Module;
use crate::{Counters, Error};

/// What to run a kernel on.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Thread blocks.
    pub grid: [u32; 3],
    /// Threads of a thread block.
    pub block: [u32; 3],
    /// Bytes of shared memory besides those that the kernel states itself.
    pub shared_bytes: usize,
    /// Its arguments, integers and addresses, one for each parameter.
    pub arguments: &'a [u64],
}

/// Which lanes of a warp go first, where they have parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Those that are furthest behind in the code, so that they come together again soon, as hardware makes them.
    Together,
    /// Any, in an order that follows from the seed, as independent threads may.
    Apart {
        /// Where the order begins.
        seed: u64,
    },
}

/// How to run a kernel.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which lanes go first.
    pub policy: Policy,
    /// Warps take turns in an order that follows from this.
    pub order: u64,
    /// Instructions that warps of one thread block may run in all.
    pub most_steps: u64,
    /// Bytes of shared memory that a thread block can have.
    pub most_shared: usize,
}

impl Default for Options {
    fn default() -> Self {
        // 227 KiB is the most of any card so far.
        Options { policy: Policy::Together, order: 0, most_steps: 50_000_000, most_shared: 227 << 10 }
    }
}

/// What a launch did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What is wrong with the kernel: each kind once for each line, in the order of lines.
    pub findings: Vec<Finding>,
    /// How much it did.
    pub counters: Counters,
}

impl Module {
    /// Runs a kernel. What it writes is in `device` afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::NoKernel`]; [`Error::Launch`] if arguments or sizes do not fit the kernel. A kernel with faults is run as far as
    /// it goes.
    pub fn launch(
        &self,
        name: &str,
        device: &mut Device,
        launch: &Launch<'_>,
        options: &Options,
    ) -> Result<Report, Error> {
        let Some(kernel) = self.kernels.iter().find(|kernel| kernel.name == name) else {
            let known = self.kernels.iter().map(|kernel| kernel.name.clone()).collect();
            return Err(Error::NoKernel { name: name.to_owned(), known });
        };
        let problem = |problem: String| Err(Error::Launch { problem });
        if launch.arguments.len() != kernel.parameters.len() {
            let (found, expected) = (launch.arguments.len(), kernel.parameters.len());
            return problem(format!("it has {expected} parameters, but there are {found} arguments"));
        }
        let threads = launch.block.iter().map(|&n| u64::from(n)).product::<u64>();
        let most = kernel.most_threads.unwrap_or(MOST_THREADS).min(MOST_THREADS);
        if threads == 0 || threads > u64::from(most) {
            return problem(format!("{threads} threads in a thread block; there may be 1 to {most}"));
        }
        if launch.grid.contains(&0) {
            return problem("a grid without thread blocks".to_owned());
        }
        let shared = kernel.shared_bytes + launch.shared_bytes;
        if shared > options.most_shared {
            let most = options.most_shared;
            return problem(format!("{shared} bytes of shared memory; there are {most}"));
        }
        let mut parameters = Vec::new();
        for (argument, bytes) in launch.arguments.iter().zip(&kernel.parameters) {
            if ![1, 2, 4, 8].contains(bytes) {
                return problem(format!("a parameter of {bytes} bytes; this emulator takes integers alone"));
            }
            parameters.resize(parameters.len().next_multiple_of(*bytes), 0);
            parameters.extend(&argument.to_le_bytes()[..*bytes]);
        }
        device.buffers.iter_mut().for_each(|buffer| {
            buffer.writers.clear();
            buffer.atomics.clear();
        });
        let lines = kernel.code.last().map_or(0, |instruction| instruction.line as usize);
        let mut machine = Machine {
            kernel,
            device,
            launch,
            options,
            parameters,
            counters: Counters { by_line: vec![0; lines + 1], ..Counters::default() },
            findings: BTreeMap::new(),
            block: Block::default(),
            random: options.order,
        };
        let [x, y, z] = launch.grid;
        for index in 0..u64::from(x) * u64::from(y) * u64::from(z) {
            let (x, y) = (u64::from(x), u64::from(y));
            machine.run_block([(index % x) as u32, (index / x % y) as u32, (index / x / y) as u32]);
        }
        Ok(Report { findings: machine.findings.into_values().collect(), counters: machine.counters })
    }
}
