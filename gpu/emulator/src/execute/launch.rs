//! Launches: their configuration, options and results.

use std::collections::BTreeMap;

use super::{Block, MOST_THREADS, Machine};
use crate::device::Device;
use crate::findings::Finding;
use crate::meeting::Meetings;
use crate::parse::Module;
use crate::{Counters, Error};

/// The configuration of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The number of thread blocks in each dimension.
    pub grid: [u32; 3],
    /// The number of threads of a thread block in each dimension.
    pub block: [u32; 3],
    /// Bytes of shared memory in addition to those that the kernel declares.
    pub shared_bytes: usize,
    /// The kernel's arguments, integers and addresses, one for each parameter.
    pub arguments: &'a [u64],
}

/// The order in which diverged lanes of a warp run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The lanes that are furthest behind in the code run first, so that all lanes soon reconverge,
    /// as on hardware.
    Together,
    /// The lanes run in an order that follows from the seed, as independent threads may.
    Apart {
        /// The seed of the order.
        seed: u64,
    },
}

/// The options of a launch.
#[derive(Clone, Debug)]
pub struct Options {
    /// The order of diverged lanes.
    pub policy: Policy,
    /// The seed of the order in which warps run.
    pub order: u64,
    /// The largest total number of instructions that the warps of one thread block may run.
    pub most_steps: u64,
    /// The largest number of bytes of shared memory of a thread block.
    pub most_shared: usize,
}

impl Default for Options {
    fn default() -> Self {
        // 227 KiB is the maximum of all cards so far.
        Options { policy: Policy::Together, order: 0, most_steps: 50_000_000, most_shared: 227 << 10 }
    }
}

/// The result of a launch.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The faults of the kernel: each kind once for each line, ordered by line.
    pub findings: Vec<Finding>,
    /// The counted work.
    pub counters: Counters,
}

impl Module {
    /// Runs a kernel. Its output is in `device` afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::NoKernel`], or [`Error::Launch`] if arguments or sizes do not fit the kernel. A
    /// kernel with faults runs until it ends or cannot go on.
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
            meetings: Meetings::default(),
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
