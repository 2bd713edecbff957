//! Runs kernels: thread blocks one after the other, their warps interleaved, lanes in lock step.
//!
//! Lanes of a warp at the same instruction run it together. Where they diverge, a [`Policy`]
//! decides which go first. No result may depend on that choice, which is why there are two
//! policies.

mod launch;
mod memory;
mod schedule;
mod step;

use std::collections::BTreeMap;

use crate::Counters;
use crate::device::Device;
use crate::findings::{Finding, Kind};
use crate::instruction::Instruction;
use crate::meeting::Meetings;
use crate::parse::Kernel;
use crate::race::{Order, Shadow};
use crate::warp::Warp;

pub use launch::{Launch, Options, Policy, Report};

/// The largest number of threads in a thread block, on any card so far.
pub(crate) const MOST_THREADS: u32 = 1024;

/// A thread block during its run.
#[derive(Default)]
struct Block {
    index: [u32; 3],
    /// The number of the thread block in the grid.
    number: u32,
    shared: Vec<u8>,
    shared_defined: Vec<bool>,
    shadow: Shadow,
    order: Order,
    /// Whether a fault was found after which the run cannot continue.
    is_over: bool,
}

impl Block {
    /// Tells whether shared memory has this many bytes at this offset.
    fn has_shared(&self, at: usize, len: usize) -> bool {
        at.checked_add(len).is_some_and(|end| end <= self.shared.len())
    }

    /// Describes the location of an offset in shared memory.
    fn describe(&self, at: usize) -> String {
        format!("offset {at} of {} bytes of shared memory", self.shared.len())
    }
}

struct Machine<'m> {
    kernel: &'m Kernel,
    device: &'m mut Device,
    launch: &'m Launch<'m>,
    options: &'m Options,
    parameters: Vec<u8>,
    counters: Counters,
    findings: BTreeMap<(u32, Kind), Finding>,
    block: Block,
    meetings: Meetings,
    random: u64,
}

impl Machine<'_> {
    fn random(&mut self) -> u64 {
        // xorshift64*, from a seed that is not 0.
        let mut x = self.random | 1 << 63;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random = x;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn find(
        &mut self,
        warp: &Warp,
        lane: usize,
        instruction: &Instruction,
        kind: Kind,
        address: Option<u64>,
        detail: impl FnOnce(&Self) -> String,
    ) {
        let key = (instruction.line, kind);
        if let Some(finding) = self.findings.get_mut(&key) {
            finding.times += 1;
            return;
        }
        let finding = Finding {
            kind,
            kernel: self.kernel.name.clone(),
            line: instruction.line as usize,
            source: instruction.source,
            block: self.block.index,
            warp: warp.number as u32,
            lane: lane as u32,
            address,
            detail: detail(self),
            times: 1,
        };
        self.findings.insert(key, finding);
    }
}
