//! Runs kernels: thread blocks one after the other, their warps in turn, lanes in lock step.
//!
//! Lanes of a warp that stand at the same instruction run it together. Where they part, a [`Policy`] says who goes first; no
//! result may depend on that, which is why there are two.

use std::collections::BTreeMap;

use crate::device::{Device, GLOBAL, SHARED};
use crate::findings::{Finding, Kind};
use crate::instruction::{Binary, Instruction, NONE, Operand, Operation, Space, Ternary, Type, Unary, Vote};
use crate::parse::{Kernel, Module};
use crate::race::{Order, Shadow, Touch};
use crate::warp::{Copy, LANES, Places, Values, Warp, each, mask};
use crate::{Counters, Error, warp};

/// Threads of a thread block at the most, of any card so far.
const MOST_THREADS: u32 = 1024;

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

/// A thread block that is being run.
#[derive(Default)]
struct Block {
    index: [u32; 3],
    /// Its number in the grid.
    number: u32,
    shared: Vec<u8>,
    shared_defined: Vec<bool>,
    shadow: Shadow,
    order: Order,
    /// Whether something was found after which it makes no sense to go on.
    is_over: bool,
}

impl Block {
    /// Whether there are so many bytes of shared memory there.
    fn has_shared(&self, at: usize, len: usize) -> bool {
        at.checked_add(len).is_some_and(|end| end <= self.shared.len())
    }

    /// Says where an offset in shared memory is.
    fn describe(&self, at: usize) -> String {
        format!("offset {at} of {} bytes of shared memory", self.shared.len())
    }
}

/// Whether what one thread wrote, and when, may come before or after what thread `me` does now. Threads are counted from 1;
/// 0 is nobody. Within a thread block, a barrier since then orders them.
fn is_unordered((writer, when): (u32, u32), me: u32, barrier: u32) -> bool {
    let is_other = writer != 0 && writer != me;
    is_other && !((writer - 1) / MOST_THREADS == (me - 1) / MOST_THREADS && when < barrier)
}

/// The number in some bytes.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
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
    random: u64,
}

/// Where an access goes.
enum Place {
    Shared(usize),
    Global,
    Parameter(usize),
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

    fn run_block(&mut self, index: [u32; 3]) {
        let size = self.launch.block;
        let threads = (size[0] * size[1] * size[2]) as usize;
        let number = threads.div_ceil(LANES);
        let shared = self.kernel.shared_bytes + self.launch.shared_bytes;
        let [x, y, _] = self.launch.grid;
        self.block = Block {
            index,
            number: (index[2] * y + index[1]) * x + index[0],
            shared: vec![0; shared],
            shared_defined: vec![false; shared],
            shadow: Shadow::new(shared),
            order: Order { now: 1, barrier: 0, in_warp: vec![Default::default(); number] },
            is_over: false,
        };
        let mut warps: Vec<Warp> = (0..number)
            .map(|number| {
                let place = |lane: usize| {
                    let thread = (number * LANES + lane) as u32;
                    [thread % size[0], thread / size[0] % size[1], thread / size[0] / size[1]]
                };
                let lanes = (threads - number * LANES).min(LANES);
                Warp {
                    number,
                    live: (u64::from(u32::MAX) >> (LANES - lanes)) as u32,
                    next: [0; LANES],
                    at_barrier: 0,
                    waiting: 0,
                    values: vec![[0; LANES]; self.kernel.registers],
                    defined: vec![0; self.kernel.registers],
                    places: Places {
                        threads: std::array::from_fn(place),
                        block: index,
                        block_size: size,
                        grid: self.launch.grid,
                        dynamic_shared: self.kernel.shared_bytes as u64,
                    },
                    copies: Vec::new(),
                }
            })
            .collect();
        loop {
            // A different order after each barrier.
            let mut order: Vec<usize> = (0..number).collect();
            if self.options.order != 0 {
                for i in (1..number).rev() {
                    order.swap(i, self.random() as usize % (i + 1));
                }
            }
            for warp in order {
                self.run_warp(&mut warps[warp]);
                if self.block.is_over {
                    return;
                }
            }
            if warps.iter().all(|warp| warp.live == 0) {
                return;
            }
            // Now all that live are at a barrier.
            self.meet(&mut warps);
        }
    }

    /// Lets all threads pass a barrier, if it is the same for all.
    fn meet(&mut self, warps: &mut [Warp]) {
        let at = |warp: &Warp, lane: usize| warp.next[lane] - 1;
        let mut first = None;
        for warp in &*warps {
            for lane in each(warp.live) {
                let here = at(warp, lane);
                let there = *first.get_or_insert(here);
                if here != there {
                    let (instruction, other) = (&self.kernel.code[here], self.kernel.code[there].line);
                    self.find(warp, lane, instruction, Kind::BarrierDivergence, None, |_| {
                        format!("other threads of the thread block are at the barrier of line {other}")
                    });
                }
            }
        }
        for warp in warps {
            warp.at_barrier = 0;
        }
        self.block.order.now += 1;
        self.block.order.barrier = self.block.order.now;
    }

    /// Runs a warp until all its lanes have ended or are at a barrier.
    fn run_warp(&mut self, warp: &mut Warp) {
        loop {
            let runnable = warp.live & !warp.at_barrier & !warp.waiting;
            if runnable == 0 {
                if warp.waiting != 0 {
                    let lane = warp.waiting.trailing_zeros() as usize;
                    let instruction = &self.kernel.code[warp.next[lane]];
                    self.find(warp, lane, instruction, Kind::WarpDivergence, None, |_| {
                        "it waits for lanes that never come here".to_owned()
                    });
                    self.block.is_over = true;
                }
                return;
            }
            let (at, most) = match self.options.policy {
                Policy::Together => (each(runnable).map(|lane| warp.next[lane]).min().unwrap_or(0), u64::MAX),
                Policy::Apart { seed } => {
                    let random = self.random() ^ seed;
                    let lane = each(runnable).nth(random as usize % runnable.count_ones() as usize);
                    (warp.next[lane.unwrap_or(0)], 1 + random % 30)
                }
            };
            let group = mask(each(runnable).filter(|&lane| warp.next[lane] == at));
            let others = runnable & !group;
            let meets = each(others).map(|lane| warp.next[lane]).min().unwrap_or(usize::MAX);
            self.run_group(warp, group, at, meets, most);
            if self.block.is_over {
                return;
            }
        }
    }

    /// Runs lanes that are at the same instruction until they part, wait, end, or come to where others are.
    fn run_group(&mut self, warp: &mut Warp, group: u32, mut at: usize, meets: usize, most: u64) {
        let is_together = self.options.policy == Policy::Together;
        for _ in 0..most {
            if is_together && at >= meets {
                break;
            }
            let Some(instruction) = self.kernel.code.get(at) else {
                // The end of the code is the end of the kernel.
                warp.live &= !group;
                return;
            };
            self.block.order.now += 1;
            if u64::from(self.block.order.now) > self.options.most_steps {
                let lane = group.trailing_zeros() as usize;
                self.find(warp, lane, instruction, Kind::StepLimit, None, |machine| {
                    format!("the thread block ran {} instructions", machine.options.most_steps)
                });
                self.block.is_over = true;
                return;
            }
            let lanes = match instruction.guard {
                None => group,
                Some((register, is_negated)) => {
                    self.check_defined(warp, instruction, Operand::Register(register), group);
                    let values = &warp.values[register as usize];
                    mask(each(group).filter(|&lane| (values[lane] & 1 == 1) != is_negated))
                }
            };
            self.counters.warp_instructions += 1;
            self.counters.lane_instructions += u64::from(lanes.count_ones());
            self.counters.by_line[instruction.line as usize] += 1;
            match instruction.operation {
                Operation::Branch { target } => {
                    if lanes == group {
                        at = target;
                        continue;
                    }
                    if lanes != 0 {
                        each(lanes).for_each(|lane| warp.next[lane] = target);
                        each(group & !lanes).for_each(|lane| warp.next[lane] = at + 1);
                        return;
                    }
                }
                Operation::Exit => {
                    warp.live &= !lanes;
                    if lanes != 0 {
                        each(group & !lanes).for_each(|lane| warp.next[lane] = at + 1);
                        return;
                    }
                }
                Operation::Barrier => {
                    if lanes != 0 {
                        warp.at_barrier |= lanes;
                        each(group).for_each(|lane| warp.next[lane] = at + 1);
                        return;
                    }
                }
                Operation::Trap => {
                    if lanes != 0 {
                        let lane = lanes.trailing_zeros() as usize;
                        self.find(warp, lane, instruction, Kind::Trap, None, |_| "a trap".to_owned());
                        self.block.is_over = true;
                        return;
                    }
                }
                Operation::WarpBarrier
                | Operation::Shuffle(_)
                | Operation::Vote(_)
                | Operation::Match { .. } => {
                    each(group).for_each(|lane| warp.next[lane] = at);
                    if lanes != 0 {
                        if !self.synchronise(warp, instruction, lanes, at) {
                            return;
                        }
                        if lanes != group || warp.next[group.trailing_zeros() as usize] != at {
                            each(group & !lanes).for_each(|lane| warp.next[lane] = at + 1);
                            return;
                        }
                    }
                }
                _ if lanes == 0 => {}
                _ => self.execute(warp, instruction, lanes),
            }
            at += 1;
        }
        each(group).for_each(|lane| warp.next[lane] = at);
    }

    /// An instruction for which lanes wait for each other. Tells whether only these lanes ran it and can simply go on.
    fn synchronise(&mut self, warp: &mut Warp, instruction: &Instruction, lanes: u32, at: usize) -> bool {
        let operand = match instruction.operation {
            Operation::WarpBarrier => 0,
            Operation::Shuffle(_) => 3,
            _ => 1,
        };
        let (members, _) = warp.read(instruction.from[operand]);
        let first = lanes.trailing_zeros() as usize;
        let members = members[first] as u32;
        if lanes & !members != 0 {
            let lane = (lanes & !members).trailing_zeros() as usize;
            self.find(warp, lane, instruction, Kind::WarpDivergence, None, |_| {
                format!("the lane is not among those that it is for: {members:#010x}")
            });
        }
        let gone = members & !warp.live;
        if gone != 0 {
            self.find(warp, first, instruction, Kind::WarpDivergence, None, |_| {
                format!("it is for lanes that have ended: {gone:#010x}")
            });
        }
        let here = lanes | mask(each(warp.waiting).filter(|&lane| warp.next[lane] == at));
        if members & warp.live & !here != 0 {
            warp.waiting |= lanes;
            each(lanes).for_each(|lane| warp.next[lane] = at);
            return false;
        }
        match instruction.operation {
            Operation::WarpBarrier => self.block.order.meet(warp.number, here),
            _ => self.execute(warp, instruction, here),
        }
        if here == lanes {
            return true;
        }
        warp.waiting &= !here;
        each(here).for_each(|lane| warp.next[lane] = at + 1);
        false
    }

    fn check_defined(&mut self, warp: &mut Warp, instruction: &Instruction, operand: Operand, lanes: u32) {
        let (Operand::Register(register) | Operand::Not(register)) = operand else { return };
        let missing = lanes & !warp.defined[register as usize];
        if missing != 0 {
            let lane = missing.trailing_zeros() as usize;
            let name = &self.kernel.names[register as usize];
            self.find(warp, lane, instruction, Kind::UndefinedRegister, None, |_| {
                format!("nothing was written to {name}")
            });
            // Once is enough.
            warp.defined[register as usize] |= missing;
        }
    }

    /// Everything that is no branch and no barrier.
    fn execute(&mut self, warp: &mut Warp, instruction: &Instruction, lanes: u32) {
        let Instruction { operation, ty, to, from, .. } = instruction;
        let ty = *ty;
        let used = match operation {
            Operation::Store { vector, .. } => 1 + vector,
            Operation::Load { .. } | Operation::CopyAsync { .. } => 2,
            _ => from.len(),
        };
        for operand in &from[..used] {
            self.check_defined(warp, instruction, *operand, lanes);
        }
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| match from[i] {
            Operand::Immediate(value) => [value; LANES],
            operand => warp.read(operand).0,
        });
        let mut result = [0u64; LANES];
        let mut result_type = ty;
        match *operation {
            Operation::Unary(unary) => {
                each(lanes).for_each(|lane| result[lane] = warp::unary(unary, ty, a[lane]));
                if matches!(unary, Unary::Popc | Unary::Clz | Unary::Bfind { .. }) {
                    result_type = Type { bytes: 4, is_signed: false };
                }
            }
            Operation::Binary(binary) => {
                each(lanes).for_each(|lane| result[lane] = warp::binary(binary, ty, a[lane], b[lane]));
                if binary == Binary::MulWide {
                    result_type = ty.wide();
                }
            }
            Operation::Ternary(ternary) => {
                each(lanes)
                    .for_each(|lane| result[lane] = warp::ternary(ternary, ty, a[lane], b[lane], c[lane]));
                if ternary == Ternary::MadWide {
                    result_type = ty.wide();
                }
            }
            Operation::Bfi => each(lanes)
                .for_each(|lane| result[lane] = warp::insert(ty, a[lane], b[lane], c[lane], d[lane])),
            Operation::Pack { parts } => {
                let bits = ty.bits() / parts as u32;
                let part = |value: u64| value & (u64::MAX >> (64 - bits));
                for lane in each(lanes) {
                    let all = [a, b, c, d].into_iter().take(parts).enumerate();
                    result[lane] = all.fold(0, |sum, (i, x)| sum | part(x[lane]) << (bits * i as u32));
                }
            }
            Operation::Unpack { parts } => {
                let bits = ty.bits() / parts as u32;
                let part = Type { bytes: (bits / 8) as u8, is_signed: false };
                for (i, to) in to.iter().take(parts).enumerate().filter(|(_, to)| **to != NONE) {
                    each(lanes).for_each(|lane| result[lane] = part.cut(a[lane] >> (bits * i as u32)));
                    warp.write(*to, part, lanes, &result);
                }
                return;
            }
            Operation::Select => {
                each(lanes).for_each(|lane| result[lane] = if c[lane] & 1 == 1 { a[lane] } else { b[lane] });
            }
            Operation::Compare { compare, combine } => {
                let mut other = [0; LANES];
                for lane in each(lanes) {
                    let is_true = warp::compare(compare, ty, a[lane], b[lane]);
                    result[lane] = u64::from(warp::combine(combine, is_true, c[lane]));
                    other[lane] = u64::from(warp::combine(combine, !is_true, c[lane]));
                }
                result_type = Type::PREDICATE;
                warp.write(to[1], result_type, lanes, &other);
            }
            Operation::Convert { from, saturate } => {
                each(lanes).for_each(|lane| result[lane] = warp::convert(from, ty, saturate, a[lane]));
            }
            Operation::ToGeneric(space) | Operation::FromGeneric(space) => {
                let start = if space == Space::Shared { SHARED } else { 0 };
                let is_to = matches!(operation, Operation::ToGeneric(_));
                let start = if is_to { start } else { start.wrapping_neg() };
                each(lanes).for_each(|lane| result[lane] = a[lane].wrapping_add(start));
            }
            Operation::IsSpace(space) => each(lanes).for_each(|lane| {
                let is_shared = (SHARED..GLOBAL).contains(&a[lane]);
                result[lane] = u64::from(is_shared == (space == Space::Shared));
            }),
            Operation::Shuffle(shuffle) => {
                let mut within = [0; LANES];
                for lane in each(lanes) {
                    let (other, is_within) = warp::shuffle(shuffle, lane, b[lane], c[lane]);
                    if lanes >> other & 1 == 0 {
                        self.find(warp, lane, instruction, Kind::WarpDivergence, None, |_| {
                            format!("it reads lane {other}, which takes no part")
                        });
                    }
                    (result[lane], within[lane]) = (a[other], u64::from(is_within));
                }
                warp.write(to[1], Type::PREDICATE, lanes, &within);
            }
            Operation::Vote(vote) => {
                let ballot = mask(each(lanes).filter(|&lane| a[lane] & 1 == 1));
                let value = match vote {
                    Vote::Ballot => u64::from(ballot),
                    Vote::All => u64::from(ballot == lanes),
                    Vote::Any => u64::from(ballot != 0),
                    Vote::Uniform => u64::from(ballot == lanes || ballot == 0),
                };
                result = [value; LANES];
            }
            Operation::Match { all } => {
                let mut is_all = [0; LANES];
                for lane in each(lanes) {
                    let same = mask(each(lanes).filter(|&other| ty.cut(a[other]) == ty.cut(a[lane])));
                    is_all[lane] = u64::from(same == lanes);
                    result[lane] = if !all || same == lanes { u64::from(same) } else { 0 };
                }
                result_type = Type { bytes: 4, is_signed: false };
                warp.write(to[1], Type::PREDICATE, lanes, &is_all);
            }
            Operation::ActiveMask => result = [u64::from(lanes); LANES],
            Operation::Load { space, vector } => {
                self.load(warp, instruction, lanes, space, vector, &a);
                return;
            }
            Operation::Store { space, vector } => {
                self.store(warp, instruction, lanes, space, vector, &a);
                return;
            }
            Operation::Atomic { space, atomic } => {
                for lane in each(lanes) {
                    let address = a[lane].wrapping_add(instruction.offset);
                    let change = |old| warp::atomic(atomic, ty, old, b[lane], c[lane]);
                    result[lane] = self.atomic(warp, instruction, lane, space, address, change);
                }
            }
            Operation::CopyAsync { bytes } => {
                self.copy_async(warp, instruction, lanes, bytes, &a, &b);
                return;
            }
            Operation::CopyCommit => {
                for copy in &mut warp.copies {
                    if lanes >> copy.lane & 1 == 1 {
                        copy.groups = Some(copy.groups.map_or(0, |groups| groups + 1));
                    }
                }
                return;
            }
            Operation::CopyWait => {
                // Without a number there is nothing to leave, as with `wait_all`.
                let left = a[0];
                let done = |copy: &Copy| {
                    lanes >> copy.lane & 1 == 1 && copy.groups.is_none_or(|groups| groups >= left)
                };
                let (done, still): (Vec<Copy>, Vec<Copy>) =
                    std::mem::take(&mut warp.copies).into_iter().partition(done);
                warp.copies = still;
                for copy in done {
                    self.block.shared[copy.to..copy.to + copy.bytes.len()].copy_from_slice(&copy.bytes);
                    self.block.shared_defined[copy.to..copy.to + copy.bytes.len()].fill(true);
                }
                return;
            }
            Operation::Fence
            | Operation::Branch { .. }
            | Operation::Exit
            | Operation::Barrier
            | Operation::WarpBarrier
            | Operation::Trap => return,
        }
        warp.write(to[0], result_type, lanes, &result);
    }

    fn place(&self, space: Space, address: u64) -> Place {
        match space {
            Space::Shared => Place::Shared(address as usize),
            Space::Global => Place::Global,
            Space::Parameter => Place::Parameter(address as usize),
            Space::Generic if (SHARED..GLOBAL).contains(&address) => {
                Place::Shared((address - SHARED) as usize)
            }
            Space::Generic => Place::Global,
        }
    }

    /// Counts what an access of several lanes takes.
    fn count(&mut self, addresses: &[u64], space: Space, len: u64, is_store: bool) {
        let Some(&first) = addresses.first() else { return };
        match self.place(space, first) {
            Place::Parameter(_) => {}
            Place::Shared(_) => self.counters.shared(addresses, len),
            Place::Global if is_store => self.counters.store_sectors += Counters::sectors(addresses, len),
            Place::Global => self.counters.load_sectors += Counters::sectors(addresses, len),
        }
    }

    fn load(
        &mut self,
        warp: &mut Warp,
        instruction: &Instruction,
        lanes: u32,
        space: Space,
        vector: usize,
        addresses: &Values,
    ) {
        let size = usize::from(instruction.ty.bytes);
        let mut results = [[0u64; LANES]; 4];
        let mut all = [0; LANES];
        let mut number = 0;
        for lane in each(lanes) {
            let address = addresses[lane].wrapping_add(instruction.offset);
            (all[number], number) = (address, number + 1);
            let mut bytes = [0; 32];
            let bytes = &mut bytes[..size * vector];
            self.read(warp, instruction, lane, space, address, bytes);
            for (result, bytes) in results.iter_mut().zip(bytes.chunks(size)) {
                result[lane] = little_endian(bytes);
            }
        }
        self.count(&all[..number], space, (size * vector) as u64, false);
        for (register, values) in instruction.to.iter().zip(&results) {
            if *register != NONE {
                warp.write(*register, instruction.ty, lanes, values);
            }
        }
    }

    fn store(
        &mut self,
        warp: &mut Warp,
        instruction: &Instruction,
        lanes: u32,
        space: Space,
        vector: usize,
        addresses: &Values,
    ) {
        let size = usize::from(instruction.ty.bytes);
        let values: Vec<Values> =
            instruction.from[1..=vector].iter().map(|from| warp.read(*from).0).collect();
        let mut all = [0; LANES];
        let mut number = 0;
        for lane in each(lanes) {
            let address = addresses[lane].wrapping_add(instruction.offset);
            (all[number], number) = (address, number + 1);
            let mut bytes = [0; 32];
            for (bytes, values) in bytes.chunks_mut(size).zip(&values) {
                bytes.copy_from_slice(&values[lane].to_le_bytes()[..size]);
            }
            self.write(warp, instruction, lane, space, address, &bytes[..size * vector]);
        }
        self.count(&all[..number], space, (size * vector) as u64, true);
    }

    fn check_aligned(
        &mut self,
        warp: &Warp,
        instruction: &Instruction,
        lane: usize,
        address: u64,
        len: usize,
    ) {
        if !address.is_multiple_of(len as u64) {
            self.find(warp, lane, instruction, Kind::Misaligned, Some(address), |_| {
                format!("{len} bytes at an address that is no multiple of that")
            });
        }
    }

    /// Notes an access of shared memory, and what it races with.
    fn touch(
        &mut self,
        warp: &Warp,
        instruction: &Instruction,
        lane: usize,
        at: usize,
        len: usize,
        touch: Touch,
    ) {
        let thread = (warp.number * LANES + lane + 1) as u32;
        if let Some((kind, other)) = self.block.shadow.touch(&self.block.order, at, len, thread, touch) {
            self.find(warp, lane, instruction, kind, Some(at as u64), |_| {
                let (warp, lane) = ((other - 1) / 32, (other - 1) % 32);
                format!("shared memory that warp {warp}, lane {lane} touched, with no barrier since")
            });
        }
    }

    fn read(
        &mut self,
        warp: &Warp,
        instruction: &Instruction,
        lane: usize,
        space: Space,
        address: u64,
        bytes: &mut [u8],
    ) {
        let len = bytes.len();
        let outside = |machine: &mut Self, place: String| {
            machine.find(warp, lane, instruction, Kind::ReadOutOfBounds, Some(address), |_| {
                format!("{len} bytes at {place}")
            });
        };
        self.check_aligned(warp, instruction, lane, address, len);
        match self.place(space, address) {
            Place::Parameter(at) => match self.parameters.get(at..at + len) {
                Some(found) => bytes.copy_from_slice(found),
                None => outside(self, "an address past the parameters".to_owned()),
            },
            Place::Shared(at) => {
                if !self.block.has_shared(at, len) {
                    return outside(self, self.block.describe(at));
                }
                bytes.copy_from_slice(&self.block.shared[at..at + len]);
                if self.block.shared_defined[at..at + len].contains(&false) {
                    self.find(warp, lane, instruction, Kind::UndefinedRead, Some(address), |_| {
                        "shared memory that nobody has written".to_owned()
                    });
                }
                self.touch(warp, instruction, lane, at, len, Touch::Read);
            }
            Place::Global => {
                let me = self.thread_number(warp, lane);
                let barrier = self.block.order.barrier;
                let Some((buffer, at)) = self.device.find(address, len as u64) else {
                    let place = self.device.describe(address);
                    return outside(self, place);
                };
                bytes.copy_from_slice(&buffer.bytes[at..at + len]);
                let is_defined = buffer.is_defined(at, len);
                let mut writers = buffer.writers.get(at..at + len).into_iter().flatten().copied();
                let is_racing = writers.any(|writer| is_unordered(writer, me, barrier))
                    || buffer.atomics(at, len).any(|other| is_unordered(other, me, barrier));
                if !is_defined {
                    self.find(warp, lane, instruction, Kind::UndefinedRead, Some(address), |machine| {
                        format!("{}: nobody has written it", machine.device.describe(address))
                    });
                }
                if is_racing {
                    self.found_race(warp, lane, instruction, address);
                }
            }
        }
    }

    fn found_race(&mut self, warp: &Warp, lane: usize, instruction: &Instruction, address: u64) {
        self.find(warp, lane, instruction, Kind::Race, Some(address), |machine| {
            format!("{}: another thread has written it", machine.device.describe(address))
        });
    }

    /// The number of a thread in the grid, from 1 on, with room for the most threads in each thread block.
    fn thread_number(&self, warp: &Warp, lane: usize) -> u32 {
        self.block.number.wrapping_mul(MOST_THREADS) + (warp.number * LANES + lane) as u32 + 1
    }

    fn write(
        &mut self,
        warp: &Warp,
        instruction: &Instruction,
        lane: usize,
        space: Space,
        address: u64,
        bytes: &[u8],
    ) {
        let len = bytes.len();
        let outside = |machine: &mut Self, place: String| {
            machine.find(warp, lane, instruction, Kind::WriteOutOfBounds, Some(address), |_| {
                format!("{len} bytes at {place}")
            });
        };
        self.check_aligned(warp, instruction, lane, address, len);
        match self.place(space, address) {
            Place::Parameter(_) => outside(self, "a parameter".to_owned()),
            Place::Shared(at) => {
                if !self.block.has_shared(at, len) {
                    return outside(self, self.block.describe(at));
                }
                let to = &mut self.block.shared[at..at + len];
                let is_same = to == bytes;
                to.copy_from_slice(bytes);
                self.block.shared_defined[at..at + len].fill(true);
                self.touch(warp, instruction, lane, at, len, Touch::Write { is_same });
            }
            Place::Global => {
                let me = self.thread_number(warp, lane);
                let (now, barrier) = (self.block.order.now, self.block.order.barrier);
                let Some((buffer, at)) = self.device.find(address, len as u64) else {
                    let place = self.device.describe(address);
                    return outside(self, place);
                };
                if buffer.writers.is_empty() {
                    buffer.writers = vec![(0, 0); buffer.bytes.len()];
                }
                let is_same = buffer.bytes[at..at + len] == *bytes;
                // Also with atomic operations that left the same: they may come after it.
                let mut is_racing = buffer.atomics(at, len).any(|other| is_unordered(other, me, barrier));
                for writer in &mut buffer.writers[at..at + len] {
                    is_racing |= !is_same && is_unordered(*writer, me, barrier);
                    *writer = (me, now);
                }
                buffer.bytes[at..at + len].copy_from_slice(bytes);
                buffer.define(at, len);
                if is_racing {
                    self.found_race(warp, lane, instruction, address);
                }
            }
        }
    }

    /// Reads and writes at once; returns what was there.
    fn atomic(
        &mut self,
        warp: &Warp,
        instruction: &Instruction,
        lane: usize,
        space: Space,
        address: u64,
        change: impl FnOnce(u64) -> u64,
    ) -> u64 {
        let ty = instruction.ty;
        let len = usize::from(ty.bytes);
        self.check_aligned(warp, instruction, lane, address, len);
        self.count(&[address], space, len as u64, true);
        let (old, is_defined) = match self.place(space, address) {
            Place::Shared(at) if self.block.has_shared(at, len) => {
                let old = little_endian(&self.block.shared[at..at + len]);
                let is_defined = !self.block.shared_defined[at..at + len].contains(&false);
                self.block.shared[at..at + len].copy_from_slice(&change(old).to_le_bytes()[..len]);
                self.touch(warp, instruction, lane, at, len, Touch::Atomic);
                (old, is_defined)
            }
            Place::Global if self.device.find(address, len as u64).is_some() => {
                let me = self.thread_number(warp, lane);
                let (now, barrier) = (self.block.order.now, self.block.order.barrier);
                let Some((buffer, at)) = self.device.find(address, len as u64) else { return 0 };
                let old = little_endian(&buffer.bytes[at..at + len]);
                buffer.bytes[at..at + len].copy_from_slice(&change(old).to_le_bytes()[..len]);
                let is_defined = buffer.is_defined(at, len);
                let mut writers = buffer.writers.get(at..at + len).into_iter().flatten().copied();
                let is_racing = writers.any(|writer| is_unordered(writer, me, barrier));
                if buffer.atomics.is_empty() {
                    buffer.atomics = vec![[(0, 0); 2]; buffer.bytes.len().div_ceil(4)];
                }
                for [first, second] in &mut buffer.atomics[at / 4..(at + len).div_ceil(4)] {
                    let other = if is_unordered(*first, me, barrier) { second } else { first };
                    *other = (me, now);
                }
                if is_racing {
                    self.found_race(warp, lane, instruction, address);
                }
                (old, is_defined)
            }
            _ => {
                self.find(warp, lane, instruction, Kind::WriteOutOfBounds, Some(address), |machine| {
                    format!("{len} bytes at {}", machine.device.describe(address))
                });
                return 0;
            }
        };
        if !is_defined {
            self.find(warp, lane, instruction, Kind::UndefinedRead, Some(address), |_| {
                "what an atomic operation changes was never written".to_owned()
            });
        }
        old
    }

    fn copy_async(
        &mut self,
        warp: &mut Warp,
        instruction: &Instruction,
        lanes: u32,
        bytes: u64,
        from: &Values,
        to: &Values,
    ) {
        let Operand::Immediate(offset) = instruction.from[2] else { return };
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        for lane in each(lanes) {
            let (source, target) =
                (from[lane].wrapping_add(instruction.offset), to[lane].wrapping_add(offset));
            sources.push(source);
            targets.push(target);
            let mut copied = vec![0; bytes as usize];
            self.read(warp, instruction, lane, Space::Global, source, &mut copied);
            // Written at once, for bounds and races; what it holds is not to be read before it was waited for.
            self.write(warp, instruction, lane, Space::Shared, target, &copied);
            let target = target as usize;
            if let Some(defined) = self.block.shared_defined.get_mut(target..target + copied.len()) {
                defined.fill(false);
                warp.copies.push(Copy { lane, groups: None, to: target, bytes: copied });
            }
        }
        self.count(&sources, Space::Global, bytes, false);
        self.count(&targets, Space::Shared, bytes, true);
    }
}
