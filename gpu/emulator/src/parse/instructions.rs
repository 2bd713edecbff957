//! Parses instructions: their operands, and the parts of their names.

use super::module::{Parser, Scope, type_of};
use crate::Error;
use crate::instruction::{
    Atomic, Binary, Combine, Compare, Float, Instruction, NONE, OPERANDS, Operand, Operation, Shuffle, Space,
    Special, Ternary, Type, Unary, Vote,
};

/// An operand as written in the text.
#[derive(Clone, Debug)]
enum Raw<'a> {
    Word(&'a str),
    Number(u64),
    Not(&'a str),
    Address(&'a str, u64),
    Vector(Vec<Raw<'a>>),
    Pair(&'a str, &'a str),
}

impl<'a> Parser<'a> {
    fn operand(&mut self) -> Result<Raw<'a>, Error> {
        match self.peek() {
            "[" => {
                self.at += 1;
                let (base, mut offset) = if self.peek().starts_with(|c: char| c.is_ascii_digit()) {
                    ("", self.number()?)
                } else {
                    (self.next(), 0)
                };
                if self.peek() == "+" {
                    self.at += 1;
                    offset = self.number()?;
                } else if self.peek() == "-" {
                    offset = self.number()?;
                }
                self.expect("]")?;
                Ok(Raw::Address(base, offset))
            }
            "{" => {
                self.at += 1;
                let mut operands = Vec::new();
                while self.peek() != "}" {
                    operands.push(self.operand()?);
                    if self.peek() == "," {
                        self.at += 1;
                    }
                }
                self.at += 1;
                Ok(Raw::Vector(operands))
            }
            "!" => {
                self.at += 1;
                Ok(Raw::Not(self.next()))
            }
            "-" => self.number().map(Raw::Number),
            word if word.starts_with(|c: char| c.is_ascii_digit()) => self.number().map(Raw::Number),
            word => {
                self.at += 1;
                if self.peek() == "|" {
                    self.at += 1;
                    return Ok(Raw::Pair(word, self.next()));
                }
                Ok(Raw::Word(word))
            }
        }
    }

    pub(super) fn instruction(&mut self, scope: &mut Scope<'a>, index: usize) -> Result<Instruction, Error> {
        let line = self.line();
        let mut guard = None;
        if self.peek() == "@" {
            self.at += 1;
            let is_negated = self.peek() == "!";
            self.at += usize::from(is_negated);
            let name = self.next();
            guard = Some((scope.register_of(name, line)?, is_negated));
        }
        let name = self.next();
        let mut operands = Vec::new();
        while self.peek() != ";" {
            operands.push(self.operand()?);
            match self.peek() {
                "," => self.at += 1,
                ";" => {}
                other => return self.error(format!("expected ',' or ';', found {other:?}")),
            }
        }
        self.at += 1;
        if name == "bra" || name.starts_with("bra.") {
            let [Raw::Word(label)] = operands.as_slice() else {
                return Err(Error::Parse { line, problem: "a branch to no label".to_owned() });
            };
            scope.branches.push((index, label, line));
        }
        let mut instruction = Decoder { scope, line, name, operands }.decode()?;
        instruction.guard = guard;
        Ok(instruction)
    }
}

/// Builds an instruction from its name and its operands.
struct Decoder<'s, 'a> {
    scope: &'s Scope<'a>,
    line: usize,
    name: &'a str,
    operands: Vec<Raw<'a>>,
}

impl Decoder<'_, '_> {
    fn error<T>(&self, problem: impl Into<String>) -> Result<T, Error> {
        Err(Error::Parse { line: self.line, problem: problem.into() })
    }

    fn unknown<T>(&self) -> Result<T, Error> {
        self.error(format!("this emulator does not know the instruction {}", self.name))
    }

    fn register(&self, raw: &Raw<'_>) -> Result<u32, Error> {
        match raw {
            Raw::Word("_") => Ok(NONE),
            Raw::Word(name) => self.scope.register_of(name, self.line),
            _ => self.error(format!("{} needs a register here, not {raw:?}", self.name)),
        }
    }

    fn operand(&self, raw: &Raw<'_>) -> Result<Operand, Error> {
        Ok(match raw {
            Raw::Number(value) => Operand::Immediate(*value),
            Raw::Not(name) => Operand::Not(self.scope.register_of(name, self.line)?),
            Raw::Word(name) => {
                if let Some(special) = special(name) {
                    return Ok(Operand::Special(special));
                }
                if let Some(address) = self.scope.shared.get(name) {
                    return Ok(Operand::Immediate(*address));
                }
                if self.scope.dynamic.contains(name) {
                    return Ok(Operand::Special(Special::DynamicShared));
                }
                Operand::Register(self.scope.register_of(name, self.line)?)
            }
            _ => return self.error(format!("{} cannot have {raw:?} here", self.name)),
        })
    }

    /// Parses an address: its base and its offset.
    fn address(&self, raw: &Raw<'_>) -> Result<(Operand, u64), Error> {
        let Raw::Address(base, offset) = raw else {
            return self.error(format!("{} needs an address here, not {raw:?}", self.name));
        };
        if base.is_empty() {
            return Ok((Operand::Immediate(0), *offset));
        }
        if let Some(parameter) = self.scope.parameters.get(base) {
            return Ok((Operand::Immediate(*parameter), *offset));
        }
        Ok((self.operand(&Raw::Word(base))?, *offset))
    }

    fn decode(self) -> Result<Instruction, Error> {
        let name = Name::new(self.name);
        let operation = match self.computation(&name)? {
            Some(operation) => operation,
            None => match self.access(&name)? {
                Some(operation) => operation,
                None => self.control(&name)?,
            },
        };
        let mut instruction = Instruction {
            operation,
            ty: Type { bytes: 4, is_signed: false },
            guard: None,
            to: [NONE; 4],
            from: [Operand::Immediate(0); OPERANDS],
            offset: 0,
            line: self.line as u32,
            source: self.scope.source,
        };
        self.fill(&name, &mut instruction)?;
        Ok(instruction)
    }

    fn space(&self, name: &Name<'_>) -> Result<Space, Error> {
        let named = name.modifiers.iter().find_map(|modifier| {
            Some(match modifier.split("::").next()? {
                "global" => Space::Global,
                "shared" => Space::Shared,
                "param" => Space::Parameter,
                _ => return None,
            })
        });
        if name.modifiers.iter().any(|modifier| ["local", "const", "tex"].contains(modifier)) {
            return self.unknown();
        }
        Ok(named.unwrap_or(Space::Generic))
    }

    /// Accepts an integer instruction without saturation or carry.
    fn integer(&self, name: &Name<'_>, operation: Operation) -> Result<Operation, Error> {
        if name.has("sat") || name.has("cc") { self.unknown() } else { Ok(operation) }
    }

    /// Decodes a computation with F32. It must name its rounding: without that, assemblers may join
    /// a product and a sum.
    fn float(&self, name: &Name<'_>) -> Result<Operation, Error> {
        let operation = match name.base {
            "add" => Float::Add,
            "sub" => Float::Sub,
            "mul" => Float::Mul,
            "fma" => Float::Fma,
            _ => return self.unknown(),
        };
        if name.modifiers != ["rn", "f32"] {
            return self.unknown();
        }
        Ok(Operation::Float(operation))
    }

    /// Decodes an instruction that each lane runs on its own values, if the name is one of these.
    fn computation(&self, name: &Name<'_>) -> Result<Option<Operation>, Error> {
        use Operation as O;
        // What only moves bits does not care what they stand for.
        let moves = ["mov", "selp", "ld", "ldu", "st"];
        if name.has("f32") && !moves.contains(&name.base) {
            return self.float(name).map(Some);
        }
        Ok(Some(match name.base {
            "mov" => match self.operands.as_slice() {
                [Raw::Vector(parts), _] => O::Unpack { parts: parts.len() },
                [_, Raw::Vector(parts)] => O::Pack { parts: parts.len() },
                _ => O::Unary(Unary::Mov),
            },
            "not" => O::Unary(Unary::Not),
            "cnot" => O::Unary(Unary::Cnot),
            "neg" => O::Unary(Unary::Neg),
            "abs" => O::Unary(Unary::Abs),
            "popc" => O::Unary(Unary::Popc),
            "clz" => O::Unary(Unary::Clz),
            "brev" => O::Unary(Unary::Brev),
            "bfind" => O::Unary(Unary::Bfind { shift_amount: name.has("shiftamt") }),
            "add" => self.integer(name, O::Binary(Binary::Add))?,
            "sub" => self.integer(name, O::Binary(Binary::Sub))?,
            "mul" if name.has("wide") => O::Binary(Binary::MulWide),
            "mul" if name.has("hi") => O::Binary(Binary::MulHi),
            "mul" if name.has("lo") => O::Binary(Binary::MulLo),
            "div" => O::Binary(Binary::Div),
            "rem" => O::Binary(Binary::Rem),
            "min" => O::Binary(Binary::Min),
            "max" => O::Binary(Binary::Max),
            "and" => O::Binary(Binary::And),
            "or" => O::Binary(Binary::Or),
            "xor" => O::Binary(Binary::Xor),
            "shl" => O::Binary(Binary::Shl),
            "shr" => O::Binary(Binary::Shr),
            "mad" if name.has("wide") => O::Ternary(Ternary::MadWide),
            "mad" if name.has("hi") => self.integer(name, O::Ternary(Ternary::MadHi))?,
            "mad" if name.has("lo") => self.integer(name, O::Ternary(Ternary::MadLo))?,
            "sad" => O::Ternary(Ternary::Sad),
            "bfe" => O::Ternary(Ternary::Bfe),
            "bfi" => O::Bfi,
            "prmt" if name.modifiers == ["b32"] => O::Ternary(Ternary::Prmt),
            "prmt" if name.modifiers == ["b32", "f4e"] => {
                O::Ternary(Ternary::PrmtExtract { backward: false })
            }
            "prmt" if name.modifiers == ["b32", "b4e"] => O::Ternary(Ternary::PrmtExtract { backward: true }),
            "shf" if name.has("l") => O::Ternary(Ternary::ShfLeft { clamp: name.has("clamp") }),
            "shf" if name.has("r") => O::Ternary(Ternary::ShfRight { clamp: name.has("clamp") }),
            "lop3" => {
                let Some(Raw::Number(table)) = self.operands.get(4) else { return self.unknown() };
                O::Ternary(Ternary::Lop3(*table as u8))
            }
            "selp" => O::Select,
            "setp" => {
                let compare = name.modifiers.iter().find_map(|modifier| compare(modifier));
                let combine = name.modifiers.iter().find_map(|modifier| combine(modifier));
                let Some(compare) = compare else { return self.unknown() };
                O::Compare { compare, combine }
            }
            "cvt" => match name.types.as_slice() {
                [_, from] => O::Convert { from: *from, saturate: name.has("sat") },
                _ => return self.unknown(),
            },
            _ => return Ok(None),
        }))
    }

    /// Decodes an instruction that accesses memory, if the name is one of these.
    fn access(&self, name: &Name<'_>) -> Result<Option<Operation>, Error> {
        use Operation as O;
        let vector = if name.has("v2") {
            2
        } else if name.has("v4") {
            4
        } else {
            1
        };

        Ok(Some(match name.base {
            "cvta" if name.has("to") => O::FromGeneric(self.space(name)?),
            "cvta" => O::ToGeneric(self.space(name)?),
            "isspacep" => O::IsSpace(self.space(name)?),
            "ld" | "ldu" => O::Load { space: self.space(name)?, vector },
            "st" => O::Store { space: self.space(name)?, vector },
            "atom" | "red" => {
                let atomic = name.modifiers.iter().find_map(|modifier| atomic(modifier));
                let Some(atomic) = atomic else { return self.unknown() };
                O::Atomic { space: self.space(name)?, atomic }
            }
            "cp" if name.has("async") && name.has("commit_group") => O::CopyCommit,
            "cp" if name.has("async") && (name.has("wait_group") || name.has("wait_all")) => O::CopyWait,
            "cp" if name.has("async") => match self.operands.get(2) {
                Some(Raw::Number(bytes @ (4 | 8 | 16))) if self.operands.len() == 3 => {
                    O::CopyAsync { bytes: *bytes }
                }
                _ => return self.unknown(),
            },
            _ => return Ok(None),
        }))
    }

    /// Decodes the remaining instructions: branches, barriers, and those that work across lanes.
    fn control(&self, name: &Name<'_>) -> Result<Operation, Error> {
        use Operation as O;
        Ok(match name.base {
            "bra" => {
                // The target is resolved once all labels are known.
                O::Branch { target: usize::MAX }
            }
            "ret" | "exit" => O::Exit,
            "bar" | "barrier" if name.has("warp") => O::WarpBarrier,
            "bar" | "barrier" if name.has("sync") && self.operands.len() == 1 => O::Barrier,
            "shfl" if name.has("sync") && name.has("up") => O::Shuffle(Shuffle::Up),
            "shfl" if name.has("sync") && name.has("down") => O::Shuffle(Shuffle::Down),
            "shfl" if name.has("sync") && name.has("bfly") => O::Shuffle(Shuffle::Butterfly),
            "shfl" if name.has("sync") && name.has("idx") => O::Shuffle(Shuffle::Index),
            "vote" if name.has("sync") && name.has("all") => O::Vote(Vote::All),
            "vote" if name.has("sync") && name.has("any") => O::Vote(Vote::Any),
            "vote" if name.has("sync") && name.has("uni") => O::Vote(Vote::Uniform),
            "vote" if name.has("sync") && name.has("ballot") => O::Vote(Vote::Ballot),
            "match" if name.has("sync") && name.has("any") => O::Match { all: false },
            "match" if name.has("sync") && name.has("all") => O::Match { all: true },
            "activemask" => O::ActiveMask,
            "membar" | "fence" => O::Fence { is_wide: !name.has("cta") },
            "trap" | "brkpt" => O::Trap,
            _ => return self.unknown(),
        })
    }

    /// Sets the type, the registers and the operands of an instruction.
    fn fill(&self, name: &Name<'_>, instruction: &mut Instruction) -> Result<(), Error> {
        use Operation as O;
        let operation = instruction.operation;
        let ty = || match name.types.last() {
            Some(ty) => Ok(*ty),
            None => self.unknown(),
        };
        let mut operands = self.operands.iter();
        let mut next = || operands.next();
        let missing = || Error::Parse { line: self.line, problem: format!("{} lacks an operand", self.name) };
        match operation {
            O::Branch { .. } | O::Exit | O::Fence { .. } | O::Trap | O::CopyCommit => {}
            O::Barrier | O::WarpBarrier | O::CopyWait => {
                // Without a number, it waits for all copies.
                instruction.from[0] = next().map_or(Ok(Operand::Immediate(0)), |raw| self.operand(raw))?;
            }
            O::CopyAsync { .. } => {
                let [to, from, _] = self.operands.as_slice() else { return self.unknown() };
                let ((to, to_offset), (from, offset)) = (self.address(to)?, self.address(from)?);
                (instruction.from[0], instruction.from[1]) = (from, to);
                instruction.offset = offset;
                instruction.from[2] = Operand::Immediate(to_offset);
            }
            O::Load { vector, .. } => {
                instruction.ty = ty()?;
                let to = next().ok_or_else(missing)?;
                self.registers(to, vector, &mut instruction.to)?;
                (instruction.from[0], instruction.offset) = self.address(next().ok_or_else(missing)?)?;
            }
            O::Store { vector, .. } => {
                instruction.ty = ty()?;
                (instruction.from[0], instruction.offset) = self.address(next().ok_or_else(missing)?)?;
                let values = next().ok_or_else(missing)?;
                let one = std::slice::from_ref(values);
                let values = if let Raw::Vector(values) = values { values } else { one };
                if values.len() != vector {
                    return self.unknown();
                }
                for (from, value) in instruction.from[1..].iter_mut().zip(values) {
                    *from = self.operand(value)?;
                }
            }
            O::Pack { parts } | O::Unpack { parts } => {
                instruction.ty = ty()?;
                let ([to, from], 2 | 4) = (self.operands.as_slice(), parts) else { return self.unknown() };
                let one = std::slice::from_ref(from);
                let from = if let Raw::Vector(from) = from { from } else { one };
                for (operand, raw) in instruction.from.iter_mut().zip(from) {
                    *operand = self.operand(raw)?;
                }
                let written = if matches!(operation, O::Pack { .. }) { 1 } else { parts };
                self.registers(to, written, &mut instruction.to)?;
            }
            O::Atomic { .. } => {
                instruction.ty = ty()?;
                if name.base == "atom" {
                    instruction.to[0] = self.register(next().ok_or_else(missing)?)?;
                }
                (instruction.from[0], instruction.offset) = self.address(next().ok_or_else(missing)?)?;
                for from in &mut instruction.from[1..3] {
                    if let Some(raw) = next() {
                        *from = self.operand(raw)?;
                    }
                }
            }
            _ => {
                // Shuffles, comparisons and matches have two results.
                match next().ok_or_else(missing)? {
                    Raw::Pair(first, second) => {
                        instruction.to[0] = self.register(&Raw::Word(first))?;
                        instruction.to[1] = self.register(&Raw::Word(second))?;
                    }
                    raw => instruction.to[0] = self.register(raw)?,
                }
                let sources: Vec<&Raw<'_>> = operands.collect();
                if sources.len() > OPERANDS {
                    return self.unknown();
                }
                for (from, raw) in instruction.from.iter_mut().zip(&sources) {
                    *from = self.operand(raw)?;
                }
                instruction.ty = match operation {
                    O::Vote(Vote::Ballot) | O::ActiveMask => Type { bytes: 4, is_signed: false },
                    O::Vote(_) | O::IsSpace(_) => Type::PREDICATE,
                    O::Convert { .. } => name.types[0],
                    _ => ty()?,
                };
            }
        }
        Ok(())
    }

    fn registers(&self, raw: &Raw<'_>, vector: usize, to: &mut [u32; 4]) -> Result<(), Error> {
        let one = std::slice::from_ref(raw);
        let raws = if let Raw::Vector(raws) = raw { raws } else { one };
        if raws.len() != vector {
            return self.unknown();
        }
        for (to, raw) in to.iter_mut().zip(raws) {
            *to = self.register(raw)?;
        }
        Ok(())
    }
}

/// The parts of an instruction's name, such as `ld`, `global` and `u32`.
struct Name<'a> {
    base: &'a str,
    modifiers: Vec<&'a str>,
    /// The modifiers that are types.
    types: Vec<Type>,
}

impl<'a> Name<'a> {
    fn new(name: &'a str) -> Self {
        let mut parts = name.split('.');
        let base = parts.next().unwrap_or_default();
        let modifiers: Vec<&str> = parts.collect();
        let types = modifiers.iter().filter_map(|modifier| type_of(modifier)).collect();
        Name { base, modifiers, types }
    }

    fn has(&self, modifier: &str) -> bool {
        self.modifiers.contains(&modifier)
    }
}

/// Returns the comparison of this name. lo, ls, hi and hs are names of unsigned comparisons.
fn compare(modifier: &str) -> Option<Compare> {
    Some(match modifier {
        "eq" => Compare::Eq,
        "ne" => Compare::Ne,
        "lt" | "lo" => Compare::Lt,
        "le" | "ls" => Compare::Le,
        "gt" | "hi" => Compare::Gt,
        "ge" | "hs" => Compare::Ge,
        _ => return None,
    })
}

/// Returns how a comparison is combined with a predicate.
fn combine(modifier: &str) -> Option<Combine> {
    Some(match modifier {
        "and" => Combine::And,
        "or" => Combine::Or,
        "xor" => Combine::Xor,
        _ => return None,
    })
}

/// Returns the atomic operation of this name.
fn atomic(modifier: &str) -> Option<Atomic> {
    Some(match modifier {
        "add" => Atomic::Add,
        "min" => Atomic::Min,
        "max" => Atomic::Max,
        "and" => Atomic::And,
        "or" => Atomic::Or,
        "xor" => Atomic::Xor,
        "exch" => Atomic::Exchange,
        "cas" => Atomic::CompareAndSwap,
        "inc" => Atomic::Increment,
        "dec" => Atomic::Decrement,
        _ => return None,
    })
}

fn special(name: &str) -> Option<Special> {
    let axis = |rest: &str| ["x", "y", "z"].iter().position(|axis| *axis == rest);
    Some(match name.strip_prefix('%')? {
        "laneid" => Special::Lane,
        "warpid" => Special::Warp,
        "lanemask_lt" => Special::LanesLess,
        "lanemask_le" => Special::LanesAtMost,
        "lanemask_eq" => Special::LanesEqual,
        "lanemask_ge" => Special::LanesAtLeast,
        "lanemask_gt" => Special::LanesGreater,
        word => match word.split_once('.')? {
            ("tid", rest) => Special::Thread(axis(rest)?),
            ("ntid", rest) => Special::Threads(axis(rest)?),
            ("ctaid", rest) => Special::Block(axis(rest)?),
            ("nctaid", rest) => Special::Blocks(axis(rest)?),
            _ => return None,
        },
    })
}
