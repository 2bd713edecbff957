//! Instructions in executable form: names are resolved, types are known.

/// The type of an operand: an integer or untyped bits. F32 is 32 bits, except to [`Float`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Type {
    /// The size in bytes: 1, 2, 4 or 8; 0 for predicates.
    pub(crate) bytes: u8,
    pub(crate) is_signed: bool,
}

impl Type {
    pub(crate) const PREDICATE: Type = Type { bytes: 0, is_signed: false };

    pub(crate) const fn bits(self) -> u32 {
        if self.bytes == 0 { 1 } else { 8 * self.bytes as u32 }
    }

    /// Clears the bits of a value above its type.
    pub(crate) const fn cut(self, value: u64) -> u64 {
        value & (u64::MAX >> (64 - self.bits()))
    }

    /// Returns the number that a value represents.
    pub(crate) const fn number(self, value: u64) -> i128 {
        let value = self.cut(value);
        if self.is_signed && value >> (self.bits() - 1) == 1 {
            value as i128 - (1 << self.bits())
        } else {
            value as i128
        }
    }

    /// Returns the type with twice the number of bytes.
    pub(crate) const fn wide(self) -> Type {
        Type { bytes: 2 * self.bytes, is_signed: self.is_signed }
    }
}

/// A source operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    /// The value of a register.
    Register(u32),
    /// The negated value of a predicate.
    Not(u32),
    Immediate(u64),
    Special(Special),
}

/// Special registers, which hold the position of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Thread(usize),
    Threads(usize),
    Block(usize),
    Blocks(usize),
    Lane,
    Warp,
    /// Masks of the lanes whose number is less than, at most, equal to, at least, or greater than
    /// that of this lane.
    LanesLess,
    LanesAtMost,
    LanesEqual,
    LanesAtLeast,
    LanesGreater,
    DynamicShared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    MulLo,
    MulHi,
    MulWide,
    Div,
    Rem,
    Min,
    Max,
    And,
    Or,
    Xor,
    Shl,
    Shr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Mov,
    Not,
    Cnot,
    Neg,
    Abs,
    Popc,
    Clz,
    Brev,
    Bfind { shift_amount: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ternary {
    MadLo,
    MadHi,
    MadWide,
    Bfe,
    Prmt,
    /// Selects four consecutive bytes of two registers, upwards or downwards from the named one.
    PrmtExtract {
        backward: bool,
    },
    ShfLeft {
        clamp: bool,
    },
    ShfRight {
        clamp: bool,
    },
    Lop3(u8),
    Sad,
}

/// An operation on F32 with one rounding, to the nearest, ties to even. Subnormal numbers stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Float {
    Add,
    Sub,
    Mul,
    /// A product and a sum, rounded together.
    Fma,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combine {
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Parameter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Atomic {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
    Increment,
    Decrement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Unary(Unary),
    Binary(Binary),
    Ternary(Ternary),
    Float(Float),
    Bfi,
    /// Packs this many registers into one, the lowest bits first.
    Pack {
        parts: usize,
    },
    /// Unpacks one register.
    Unpack {
        parts: usize,
    },
    Select,
    Compare {
        compare: Compare,
        combine: Option<Combine>,
    },
    Convert {
        from: Type,
        saturate: bool,
    },
    /// Adds or subtracts the start of a space in generic addresses.
    ToGeneric(Space),
    FromGeneric(Space),
    IsSpace(Space),
    Load {
        space: Space,
        vector: usize,
    },
    Store {
        space: Space,
        vector: usize,
    },
    Atomic {
        space: Space,
        atomic: Atomic,
    },
    /// `cp.async`: the number of bytes to copy.
    CopyAsync {
        bytes: u64,
    },
    CopyCommit,
    /// Waits until at most this many groups of copies are under way.
    CopyWait,
    Branch {
        target: usize,
    },
    Exit,
    Barrier,
    WarpBarrier,
    Shuffle(Shuffle),
    Vote(Vote),
    Match {
        all: bool,
    },
    ActiveMask,
    /// `membar` or `fence`, for the device if wide, or only for the thread block.
    Fence {
        is_wide: bool,
    },
    Trap,
}

/// The largest number of destinations or sources of an instruction.
pub(crate) const OPERANDS: usize = 5;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
    pub(crate) operation: Operation,
    pub(crate) ty: Type,
    /// The predicate that must be true, or false if negated.
    pub(crate) guard: Option<(u32, bool)>,
    /// The registers that it writes. `NONE` fills the rest.
    pub(crate) to: [u32; 4],
    /// The operands that it reads.
    pub(crate) from: [Operand; OPERANDS],
    /// The number that is added to the first of `from`, an address.
    pub(crate) offset: u64,
    /// The line in the PTX, from 1 on.
    pub(crate) line: u32,
    /// The source file and its line.
    pub(crate) source: Option<(u32, u32)>,
}

/// Stands for no register.
pub(crate) const NONE: u32 = u32::MAX;
