//! Memory accesses: bounds, alignment, undefined bytes, and races.

use super::{MOST_THREADS, Machine};
use crate::Counters;
use crate::device::{GLOBAL, SHARED};
use crate::findings::Kind;
use crate::instruction::{Instruction, NONE, Operand, Space};
use crate::race::Touch;
use crate::warp::{Copy, LANES, Values, Warp, each};

/// Reads a little-endian number from bytes.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The target of an access.
enum Place {
    Shared(usize),
    Global,
    Parameter(usize),
}

impl Machine<'_> {
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

    /// Counts the cost of an access by several lanes.
    fn count(&mut self, addresses: &[u64], space: Space, len: u64, is_store: bool) {
        let Some(&first) = addresses.first() else { return };
        match self.place(space, first) {
            Place::Parameter(_) => {}
            Place::Shared(_) => self.counters.shared(addresses, len),
            Place::Global if is_store => self.counters.store_sectors += Counters::sectors(addresses, len),
            Place::Global => self.counters.load_sectors += Counters::sectors(addresses, len),
        }
    }

    pub(super) fn load(
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

    pub(super) fn store(
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

    /// Records an access of shared memory and the races that it takes part in.
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
                let is_unordered = |other| self.meetings.is_unordered(other, me, barrier);
                let is_racing = writers.any(is_unordered) || buffer.atomics(at, len).any(is_unordered);
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

    /// Returns the number of a thread in the grid, from 1 on. Each thread block reserves the
    /// maximum number of threads.
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
                // A race with an atomic operation is also one if both left the same bytes, because
                // the two have no order.
                let is_unordered = |other| self.meetings.is_unordered(other, me, barrier);
                let mut is_racing = buffer.atomics(at, len).any(is_unordered);
                for writer in &mut buffer.writers[at..at + len] {
                    is_racing |= !is_same && is_unordered(*writer);
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

    /// Orders what these lanes have done and do next, for the whole device.
    pub(super) fn fence(&mut self, warp: &Warp, lanes: u32) {
        for lane in each(lanes) {
            let thread = self.thread_number(warp, lane);
            self.meetings.fence(thread, self.block.order.now, self.block.order.barrier);
        }
    }

    /// Reads and writes in one step, and returns the old value.
    pub(super) fn atomic(
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
                let is_unordered = |other| self.meetings.is_unordered(other, me, barrier);
                let is_racing = writers.any(is_unordered);
                if buffer.atomics.is_empty() {
                    buffer.atomics = vec![[(0, 0); 2]; buffer.bytes.len().div_ceil(4)];
                }
                for [first, second] in &mut buffer.atomics[at / 4..(at + len).div_ceil(4)] {
                    let other = if is_unordered(*first) { second } else { first };
                    *other = (me, now);
                }
                self.meetings.atomic(address, me);
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

    pub(super) fn copy_async(
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
            // The write happens now, for bounds and races. The bytes must not be read before the
            // copy was waited for.
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

    /// Completes the copies of these lanes, except the youngest `left` groups. An instruction
    /// without a number, such as `wait_all`, completes all.
    pub(super) fn copy_wait(&mut self, warp: &mut Warp, lanes: u32, left: u64) {
        let done =
            |copy: &Copy| lanes >> copy.lane & 1 == 1 && copy.groups.is_none_or(|groups| groups >= left);
        let (done, still): (Vec<Copy>, Vec<Copy>) =
            std::mem::take(&mut warp.copies).into_iter().partition(done);
        warp.copies = still;
        for copy in done {
            self.block.shared[copy.to..copy.to + copy.bytes.len()].copy_from_slice(&copy.bytes);
            self.block.shared_defined[copy.to..copy.to + copy.bytes.len()].fill(true);
        }
    }
}
