//! The registers of a warp, and arithmetic on them, lane by lane.

use crate::instruction::{
    Atomic, Binary, Combine, Compare, Float, NONE, Operand, Shuffle, Special, Ternary, Type, Unary,
};

/// The number of lanes of a warp.
pub(crate) const LANES: usize = 32;

/// The values of an operand in all lanes.
pub(crate) type Values = [u64; LANES];

/// A warp.
#[derive(Clone, Debug)]
pub(crate) struct Warp {
    /// The number of the warp in its thread block.
    pub(crate) number: usize,
    /// Lanes that have not ended.
    pub(crate) live: u32,
    /// The next instruction of each lane.
    pub(crate) next: [usize; LANES],
    /// Lanes that wait at a barrier of the thread block.
    pub(crate) at_barrier: u32,
    /// Lanes that wait for others of the warp.
    pub(crate) waiting: u32,
    pub(crate) values: Vec<Values>,
    /// For each register: the lanes in which it has a value.
    pub(crate) defined: Vec<u32>,
    /// The positions of its threads.
    pub(crate) places: Places,
    /// Pending copies to shared memory: lane, number of groups that were committed later, target,
    /// bytes.
    pub(crate) copies: Vec<Copy>,
}

/// A pending copy.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub(crate) lane: usize,
    /// The number of groups committed since; `None` before it is committed itself.
    pub(crate) groups: Option<u64>,
    pub(crate) to: usize,
    pub(crate) bytes: Vec<u8>,
}

/// The values of the special registers.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) threads: [[u32; 3]; LANES],
    pub(crate) block: [u32; 3],
    pub(crate) block_size: [u32; 3],
    pub(crate) grid: [u32; 3],
    pub(crate) dynamic_shared: u64,
}

impl Warp {
    /// Reads the values of an operand, and the lanes in which it has one.
    pub(crate) fn read(&self, operand: Operand) -> (Values, u32) {
        match operand {
            Operand::Register(register) => (self.values[register as usize], self.defined[register as usize]),
            Operand::Not(register) => {
                (self.values[register as usize].map(|value| value ^ 1), self.defined[register as usize])
            }
            Operand::Immediate(value) => ([value; LANES], u32::MAX),
            Operand::Special(special) => (std::array::from_fn(|lane| self.special(special, lane)), u32::MAX),
        }
    }

    fn special(&self, special: Special, lane: usize) -> u64 {
        let places = &self.places;
        let below = (1u64 << lane) - 1;
        match special {
            Special::Thread(axis) => u64::from(places.threads[lane][axis]),
            Special::Threads(axis) => u64::from(places.block_size[axis]),
            Special::Block(axis) => u64::from(places.block[axis]),
            Special::Blocks(axis) => u64::from(places.grid[axis]),
            Special::Lane => lane as u64,
            Special::Warp => self.number as u64,
            Special::LanesLess => below,
            Special::LanesAtMost => below << 1 | 1,
            Special::LanesEqual => 1 << lane,
            Special::LanesAtLeast => !below & 0xffff_ffff,
            Special::LanesGreater => !(below << 1 | 1) & 0xffff_ffff,
            Special::DynamicShared => places.dynamic_shared,
        }
    }

    /// Writes a register in some lanes.
    pub(crate) fn write(&mut self, register: u32, ty: Type, lanes: u32, values: &Values) {
        if register == NONE {
            return;
        }
        let to = &mut self.values[register as usize];
        for lane in each(lanes) {
            to[lane] = if ty.is_signed { ty.number(values[lane]) as u64 } else { ty.cut(values[lane]) };
        }
        self.defined[register as usize] |= lanes;
    }
}

/// Iterates over the numbers of the lanes in a mask.
pub(crate) fn each(lanes: u32) -> impl Iterator<Item = usize> {
    let mut left = lanes;
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}

/// Makes the mask of some lanes.
pub(crate) fn mask(lanes: impl Iterator<Item = usize>) -> u32 {
    lanes.fold(0, |all, lane| all | 1 << lane)
}

pub(crate) fn unary(operation: Unary, ty: Type, a: u64) -> u64 {
    let bits = u64::from(ty.bits());
    let a = ty.cut(a);
    match operation {
        Unary::Mov => a,
        Unary::Not => !a,
        Unary::Cnot => u64::from(a == 0),
        Unary::Neg => a.wrapping_neg(),
        Unary::Abs => ty.number(a).unsigned_abs() as u64,
        Unary::Popc => u64::from(a.count_ones()),
        Unary::Clz => u64::from(a.leading_zeros()) - (64 - bits),
        Unary::Brev => a.reverse_bits() >> (64 - bits),
        Unary::Bfind { shift_amount } => {
            let a = if ty.number(a) < 0 { ty.cut(!a) } else { a };
            match a {
                0 => u64::from(u32::MAX),
                _ if shift_amount => bits - 1 - u64::from(a.ilog2()),
                _ => u64::from(a.ilog2()),
            }
        }
    }
}

pub(crate) fn binary(operation: Binary, ty: Type, a: u64, b: u64) -> u64 {
    let bits = ty.bits();
    match operation {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::MulLo => a.wrapping_mul(b),
        Binary::MulHi if ty.is_signed => ((ty.number(a) * ty.number(b)) >> bits) as u64,
        // Products of 64-bit numbers would not fit signed numbers.
        Binary::MulHi => ((u128::from(ty.cut(a)) * u128::from(ty.cut(b))) >> bits) as u64,
        Binary::MulWide => (ty.number(a) * ty.number(b)) as u64,
        // Cards return this, although it is not promised.
        Binary::Div if ty.cut(b) == 0 => u64::MAX,
        Binary::Rem if ty.cut(b) == 0 => a,
        Binary::Div => (ty.number(a) / ty.number(b)) as u64,
        Binary::Rem => (ty.number(a) % ty.number(b)) as u64,
        Binary::Min => ty.number(a).min(ty.number(b)) as u64,
        Binary::Max => ty.number(a).max(ty.number(b)) as u64,
        Binary::And => a & b,
        Binary::Or => a | b,
        Binary::Xor => a ^ b,
        // Shift counts have 32 bits for every type.
        Binary::Shl => ty.cut(a).checked_shl(b as u32).unwrap_or(0),
        Binary::Shr => (ty.number(a) >> (b as u32).min(bits)) as u64,
    }
}

pub(crate) fn ternary(operation: Ternary, ty: Type, a: u64, b: u64, c: u64) -> u64 {
    let bits = ty.bits();
    let (low, high) = (a & 0xffff_ffff, b & 0xffff_ffff);
    match operation {
        Ternary::MadLo => a.wrapping_mul(b).wrapping_add(c),
        Ternary::MadHi => binary(Binary::MulHi, ty, a, b).wrapping_add(c),
        Ternary::MadWide => binary(Binary::MulWide, ty, a, b).wrapping_add(c),
        Ternary::Sad => ((ty.number(a) - ty.number(b)).unsigned_abs() as u64).wrapping_add(c),
        Ternary::Bfe => {
            let (position, length) = ((b & 0xff) as u32, (c & 0xff) as u32);
            let value = ty.number(a) >> position.min(bits);
            if length == 0 {
                0
            } else if length >= bits {
                value as u64
            } else {
                let cut = value & ((1 << length) - 1);
                // The sign is that of the highest selected bit, or of the number.
                let sign = (ty.number(a) >> (position + length - 1).min(bits - 1)) & 1;
                (if ty.is_signed && sign == 1 { cut | -1 << length } else { cut }) as u64
            }
        }
        Ternary::Prmt => {
            let bytes = (high << 32 | low).to_le_bytes();
            let byte = |i: u32| {
                let selector = (c >> (4 * i)) as usize;
                let byte = bytes[selector & 7];
                if selector & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 }
            };
            (0..4).fold(0, |all, i| all | u64::from(byte(i)) << (8 * i))
        }
        Ternary::PrmtExtract { backward } => {
            let bytes = (high << 32 | low).to_le_bytes();
            let first = c as usize & 3;
            let byte = |i: usize| bytes[if backward { first + 8 - i } else { first + i } & 7];
            (0..4).fold(0, |all, i| all | u64::from(byte(i)) << (8 * i))
        }
        Ternary::ShfLeft { clamp } => {
            let n = if clamp { (c as u32).min(32) } else { c as u32 & 31 };
            (high << 32 | low) << n >> 32
        }
        Ternary::ShfRight { clamp } => {
            let n = if clamp { (c as u32).min(32) } else { c as u32 & 31 };
            (high << 32 | low) >> n
        }
        Ternary::Lop3(table) => (0..8u32).fold(0, |all, i| {
            let pick = |value: u64, bit: u32| if i >> bit & 1 == 1 { value } else { !value };
            all | if table >> i & 1 == 1 { pick(a, 2) & pick(b, 1) & pick(c, 0) } else { 0 }
        }),
    }
}

/// Computes with F32 as cards do: a NaN is always the same one.
pub(crate) fn float(operation: Float, a: u64, b: u64, c: u64) -> u64 {
    let [a, b, c] = [a, b, c].map(|bits| f32::from_bits(bits as u32));
    let result = match operation {
        Float::Add => a + b,
        Float::Sub => a - b,
        Float::Mul => a * b,
        Float::Fma => a.mul_add(b, c),
    };
    u64::from(if result.is_nan() { 0x7fff_ffff } else { result.to_bits() })
}

/// `bfi`: inserts the low bits of `a` into `b`.
pub(crate) fn insert(ty: Type, a: u64, b: u64, position: u64, length: u64) -> u64 {
    let (position, length) = ((position & 0xff) as u32, (length & 0xff) as u32);
    if position >= ty.bits() || length == 0 {
        return b;
    }
    let mask = ty.cut((u128::MAX >> (128 - length.min(64))) as u64) << position;
    b & !mask | a << position & mask
}

pub(crate) fn compare(compare: Compare, ty: Type, a: u64, b: u64) -> bool {
    let (a, b) = (ty.number(a), ty.number(b));
    match compare {
        Compare::Eq => a == b,
        Compare::Ne => a != b,
        Compare::Lt => a < b,
        Compare::Le => a <= b,
        Compare::Gt => a > b,
        Compare::Ge => a >= b,
    }
}

pub(crate) fn combine(combine: Option<Combine>, a: bool, b: u64) -> bool {
    let b = b & 1 == 1;
    match combine {
        None => a,
        Some(Combine::And) => a & b,
        Some(Combine::Or) => a | b,
        Some(Combine::Xor) => a ^ b,
    }
}

pub(crate) fn convert(from: Type, to: Type, saturate: bool, a: u64) -> u64 {
    let number = from.number(a);
    if !saturate {
        return number as u64;
    }
    let bits = to.bits();
    let (least, most) =
        if to.is_signed { (-1i128 << (bits - 1), (1 << (bits - 1)) - 1) } else { (0, (1i128 << bits) - 1) };
    number.clamp(least, most) as u64
}

/// Returns the lane that a shuffle reads, and whether it is within its part of the warp.
pub(crate) fn shuffle(shuffle: Shuffle, lane: usize, b: u64, c: u64) -> (usize, bool) {
    let (lane, b) = (lane as i64, (b & 31) as i64);
    let (clamp, segment) = ((c & 31) as i64, (c >> 8 & 31) as i64);
    let most = lane & segment | clamp & !segment;
    let (from, is_within) = match shuffle {
        Shuffle::Up => (lane - b, lane - b >= most),
        Shuffle::Down => (lane + b, lane + b <= most),
        Shuffle::Butterfly => (lane ^ b, lane ^ b <= most),
        Shuffle::Index => {
            let from = lane & segment | b & !segment;
            (from, from <= most)
        }
    };
    (if is_within { from } else { lane } as usize, is_within)
}

/// Returns the value that an atomic operation leaves in memory.
pub(crate) fn atomic(atomic: Atomic, ty: Type, old: u64, b: u64, c: u64) -> u64 {
    match atomic {
        Atomic::Add => old.wrapping_add(b),
        Atomic::Min => binary(Binary::Min, ty, old, b),
        Atomic::Max => binary(Binary::Max, ty, old, b),
        Atomic::And => old & b,
        Atomic::Or => old | b,
        Atomic::Xor => old ^ b,
        Atomic::Exchange => b,
        Atomic::CompareAndSwap => {
            if ty.cut(old) == ty.cut(b) {
                c
            } else {
                old
            }
        }
        Atomic::Increment => {
            if ty.cut(old) >= ty.cut(b) {
                0
            } else {
                old + 1
            }
        }
        Atomic::Decrement => {
            if ty.cut(old) == 0 || ty.cut(old) > ty.cut(b) {
                b
            } else {
                old - 1
            }
        }
    }
}
