//! The semantics of single instructions.

use super::Machine;
use crate::device::{GLOBAL, SHARED};
use crate::findings::Kind;
use crate::instruction::{Binary, Instruction, NONE, Operand, Operation, Space, Ternary, Type, Unary, Vote};
use crate::warp::{self, LANES, Values, Warp, each, mask};

impl Machine<'_> {
    pub(super) fn check_defined(
        &mut self,
        warp: &mut Warp,
        instruction: &Instruction,
        operand: Operand,
        lanes: u32,
    ) {
        let (Operand::Register(register) | Operand::Not(register)) = operand else { return };
        let missing = lanes & !warp.defined[register as usize];
        if missing != 0 {
            let lane = missing.trailing_zeros() as usize;
            let name = &self.kernel.names[register as usize];
            self.find(warp, lane, instruction, Kind::UndefinedRegister, None, |_| {
                format!("nothing was written to {name}")
            });
            // One report for each register is enough.
            warp.defined[register as usize] |= missing;
        }
    }

    /// Executes any instruction other than a branch or a barrier.
    pub(super) fn execute(&mut self, warp: &mut Warp, instruction: &Instruction, lanes: u32) {
        let Instruction { operation, ty, to, from, .. } = instruction;
        let used = match operation {
            Operation::Store { vector, .. } => 1 + vector,
            Operation::Load { .. } | Operation::CopyAsync { .. } => 2,
            _ => from.len(),
        };
        for operand in &from[..used] {
            self.check_defined(warp, instruction, *operand, lanes);
        }
        let operands = [0, 1, 2, 3].map(|i| match from[i] {
            Operand::Immediate(value) => [value; LANES],
            operand => warp.read(operand).0,
        });
        let [a, b, c, _] = &operands;
        match *operation {
            Operation::Load { space, vector } => self.load(warp, instruction, lanes, space, vector, a),
            Operation::Store { space, vector } => self.store(warp, instruction, lanes, space, vector, a),
            Operation::Atomic { space, atomic } => {
                let mut result = [0u64; LANES];
                for lane in each(lanes) {
                    let address = a[lane].wrapping_add(instruction.offset);
                    let change = |old| warp::atomic(atomic, *ty, old, b[lane], c[lane]);
                    result[lane] = self.atomic(warp, instruction, lane, space, address, change);
                }
                warp.write(to[0], *ty, lanes, &result);
            }
            Operation::CopyAsync { bytes } => self.copy_async(warp, instruction, lanes, bytes, a, b),
            Operation::CopyCommit => {
                for copy in &mut warp.copies {
                    if lanes >> copy.lane & 1 == 1 {
                        copy.groups = Some(copy.groups.map_or(0, |groups| groups + 1));
                    }
                }
            }
            Operation::CopyWait => self.copy_wait(warp, lanes, a[0]),
            Operation::Shuffle(_) | Operation::Vote(_) | Operation::Match { .. } => {
                self.exchange(warp, instruction, lanes, &operands);
            }
            Operation::Fence { is_wide: true } => self.fence(warp, lanes),
            Operation::Fence { is_wide: false }
            | Operation::Branch { .. }
            | Operation::Exit
            | Operation::Barrier
            | Operation::WarpBarrier
            | Operation::Trap => {}
            _ => compute(warp, instruction, lanes, &operands),
        }
    }

    /// Executes an instruction that exchanges values between lanes.
    fn exchange(&mut self, warp: &mut Warp, instruction: &Instruction, lanes: u32, operands: &[Values; 4]) {
        let Instruction { operation, ty, to, .. } = instruction;
        let [a, b, c, _] = operands;
        let ty = *ty;
        let mut result = [0u64; LANES];
        let mut result_type = ty;
        match *operation {
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
            _ => return,
        }
        warp.write(to[0], result_type, lanes, &result);
    }
}

/// Executes an instruction that each lane runs for itself, without memory.
fn compute(warp: &mut Warp, instruction: &Instruction, lanes: u32, operands: &[Values; 4]) {
    let Instruction { operation, ty, to, .. } = instruction;
    let [a, b, c, d] = operands;
    let ty = *ty;
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
            each(lanes).for_each(|lane| result[lane] = warp::ternary(ternary, ty, a[lane], b[lane], c[lane]));
            if ternary == Ternary::MadWide {
                result_type = ty.wide();
            }
        }
        Operation::Float(float) => {
            each(lanes).for_each(|lane| result[lane] = warp::float(float, a[lane], b[lane], c[lane]));
        }
        Operation::Bfi => {
            each(lanes).for_each(|lane| result[lane] = warp::insert(ty, a[lane], b[lane], c[lane], d[lane]))
        }
        Operation::Pack { parts } => {
            let bits = ty.bits() / parts as u32;
            let part = |value: u64| value & (u64::MAX >> (64 - bits));
            for lane in each(lanes) {
                let all = operands.iter().take(parts).enumerate();
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
        Operation::ActiveMask => result = [u64::from(lanes); LANES],
        // These work across lanes, so `execute` has run them already.
        Operation::Shuffle(_)
        | Operation::Vote(_)
        | Operation::Match { .. }
        | Operation::Load { .. }
        | Operation::Store { .. }
        | Operation::Atomic { .. }
        | Operation::CopyAsync { .. }
        | Operation::CopyCommit
        | Operation::CopyWait
        | Operation::Fence { .. }
        | Operation::Branch { .. }
        | Operation::Exit
        | Operation::Barrier
        | Operation::WarpBarrier
        | Operation::Trap => return,
    }
    warp.write(to[0], result_type, lanes, &result);
}
