//! Scheduling: the order of warps, lanes at the same instruction, barriers.

use super::{Block, Machine, Policy};
use crate::findings::Kind;
use crate::instruction::{Instruction, Operand, Operation};
use crate::race::{Order, Shadow};
use crate::warp::{LANES, Places, Warp, each, mask};

impl Machine<'_> {
    pub(super) fn run_block(&mut self, index: [u32; 3]) {
        let size = self.launch.block;
        let threads = (size[0] * size[1] * size[2]) as usize;
        let number = threads.div_ceil(LANES);
        let shared = self.kernel.shared_bytes + self.launch.shared_bytes;
        let [x, y, _] = self.launch.grid;
        self.meetings.next_block();
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
            // The order changes after each barrier.
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
            // All live threads are at a barrier now.
            self.meet(&mut warps);
        }
    }

    /// Lets all threads pass a barrier, if all wait at the same one.
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

    /// Runs a warp until all its lanes have ended or wait at a barrier.
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

    /// Runs lanes at the same instruction until they diverge, wait, end, or reach other lanes.
    fn run_group(&mut self, warp: &mut Warp, group: u32, mut at: usize, meets: usize, most: u64) {
        let is_together = self.options.policy == Policy::Together;
        for _ in 0..most {
            if is_together && at >= meets {
                break;
            }
            let Some(instruction) = self.kernel.code.get(at) else {
                // The end of the code ends the kernel.
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

    /// Runs an instruction at which lanes wait for each other. Returns whether only these lanes ran
    /// it and can continue at once.
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
}
