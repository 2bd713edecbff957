//! PTX as text to instructions.

use std::collections::HashMap;

use crate::Error;
use crate::instruction::{
    Atomic, Binary, Combine, Compare, Instruction, NONE, OPERANDS, Operand, Operation, Shuffle, Space,
    Special, Ternary, Type, Unary, Vote,
};

/// Kernels, as a text of PTX holds them.
#[derive(Clone, Debug)]
pub struct Module {
    pub(crate) kernels: Vec<Kernel>,
    /// Version of the language, such as 7.8.
    version: String,
    /// What it was compiled for, such as `sm_90`.
    target: String,
}

/// A kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub(crate) name: String,
    pub(crate) code: Vec<Instruction>,
    /// Bytes of each register's type are not kept: values are cut where they are written.
    pub(crate) registers: usize,
    /// By register: its name.
    pub(crate) names: Vec<String>,
    /// Bytes of shared memory that it states itself.
    pub(crate) shared_bytes: usize,
    /// The bytes of each parameter.
    pub(crate) parameters: Vec<usize>,
    /// The most threads of a thread block, where that is stated.
    pub(crate) most_threads: Option<u32>,
}

impl Module {
    /// Reads PTX.
    ///
    /// # Errors
    ///
    /// [`Error::Parse`] for what is no PTX, and for instructions that this emulator does not know, by name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Parser::new(text).module()
    }

    /// The kernels.
    #[must_use]
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    /// The version of PTX, such as `7.8`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What the PTX was made for, such as `sm_90`.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl Kernel {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of shared memory that it needs besides what a launch gives it.
    #[must_use]
    pub fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    /// The bytes of each of its parameters.
    #[must_use]
    pub fn parameters(&self) -> &[usize] {
        &self.parameters
    }
}

/// A word, a number or a sign, and its line.
#[derive(Clone, Debug, PartialEq)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_$.%".contains(c);
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let len = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if first == '"' {
                rest[1..].find('"').map_or(rest.len(), |end| end + 2)
            } else {
                first.len_utf8()
            };
            found.push(Token { text: &rest[..len], line: number + 1 });
            rest = rest[len..].trim_start();
        }
    }
    found
}

/// An operand as it is written.
#[derive(Clone, Debug)]
enum Raw<'a> {
    Word(&'a str),
    Number(u64),
    Not(&'a str),
    Address(&'a str, u64),
    Vector(Vec<Raw<'a>>),
    Pair(&'a str, &'a str),
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    /// Shared memory that is declared outside of kernels: name, alignment, bytes (0 for what the launch gives).
    shared: Vec<(&'a str, usize, usize)>,
}

/// What is known in a kernel.
#[derive(Default)]
struct Scope<'a> {
    registers: HashMap<String, u32>,
    types: Vec<Type>,
    names: Vec<String>,
    shared: HashMap<&'a str, u64>,
    dynamic: Vec<&'a str>,
    shared_bytes: usize,
    parameters: HashMap<&'a str, u64>,
    labels: HashMap<&'a str, usize>,
    /// Branches to resolve: instruction, label, line.
    branches: Vec<(usize, &'a str, usize)>,
    source: Option<(u32, u32)>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Parser { tokens: tokens(text), at: 0, shared: Vec::new() }
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at.min(self.tokens.len().saturating_sub(1))).map_or(0, |token| token.line)
    }

    fn error<T>(&self, problem: impl Into<String>) -> Result<T, Error> {
        Err(Error::Parse { line: self.line(), problem: problem.into() })
    }

    fn peek(&self) -> &'a str {
        self.tokens.get(self.at).map_or("", |token| token.text)
    }

    fn next(&mut self) -> &'a str {
        let text = self.peek();
        self.at += 1;
        text
    }

    fn expect(&mut self, text: &str) -> Result<(), Error> {
        if self.peek() == text {
            self.at += 1;
            return Ok(());
        }
        self.error(format!("expected {text:?}, found {:?}", self.peek()))
    }

    fn number(&mut self) -> Result<u64, Error> {
        let is_negative = self.peek() == "-";
        self.at += usize::from(is_negative);
        let text = self.next();
        let digits = text.trim_end_matches('U');
        let value = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        };
        match value {
            Some(value) if is_negative => Ok(value.wrapping_neg()),
            Some(value) => Ok(value),
            None => self.error(format!("expected a number, found {text:?}")),
        }
    }

    /// Goes on after the end of this line.
    fn skip_line(&mut self) {
        let line = self.line();
        while self.at < self.tokens.len() && self.line() == line {
            self.at += 1;
        }
    }

    /// Goes on after what stands in braces.
    fn skip_braces(&mut self) {
        let mut depth = 0;
        while self.at < self.tokens.len() {
            match self.next() {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    fn module(mut self) -> Result<Module, Error> {
        let mut module = Module { kernels: Vec::new(), version: String::new(), target: String::new() };
        while self.at < self.tokens.len() {
            match self.peek() {
                ".version" => {
                    self.at += 1;
                    module.version = self.peek().to_owned();
                    self.skip_line();
                }
                ".target" => {
                    self.at += 1;
                    module.target = self.peek().to_owned();
                    self.skip_line();
                }
                ".address_size" | ".file" => self.skip_line(),
                ".section" => self.skip_braces(),
                ".visible" | ".weak" | ".extern" => self.at += 1,
                ".entry" => {
                    let kernel = self.kernel()?;
                    module.kernels.push(kernel);
                }
                ".shared" => {
                    self.at += 1;
                    let declared = self.array()?;
                    self.shared.push(declared);
                }
                other => return self.error(format!("this emulator does not know {other:?} here")),
            }
        }
        if module.version.is_empty() {
            return self.error("there is no .version: this is no PTX");
        }
        Ok(module)
    }

    /// `.align 16 .b8 name[100];`: name, alignment, bytes.
    fn array(&mut self) -> Result<(&'a str, usize, usize), Error> {
        let mut align = 1;
        if self.peek() == ".align" {
            self.at += 1;
            align = self.number()? as usize;
        }
        let ty = self.next();
        let Some(ty) = type_of(ty.trim_start_matches('.')) else {
            return self.error(format!("no type that this emulator knows: {ty}"));
        };
        let name = self.next();
        let mut bytes = usize::from(ty.bytes);
        while self.peek() == "[" {
            self.at += 1;
            bytes = if self.peek() == "]" { 0 } else { bytes * self.number()? as usize };
            self.expect("]")?;
        }
        if self.peek() == "=" {
            return self.error("shared memory cannot be initialised");
        }
        self.expect(";")?;
        Ok((name, align.max(usize::from(ty.bytes)), bytes))
    }

    fn kernel(&mut self) -> Result<Kernel, Error> {
        self.expect(".entry")?;
        let name = self.next().to_owned();
        let mut scope = Scope::default();
        let mut parameters = Vec::new();
        let mut offset = 0usize;
        if self.peek() == "(" {
            self.at += 1;
            while self.peek() != ")" {
                self.expect(".param")?;
                let (mut align, mut bytes) = (1, 0);
                let name = loop {
                    match self.next() {
                        ".align" => align = self.number()? as usize,
                        ".ptr" | ".global" | ".shared" | ".const" => {}
                        word if word.starts_with('.') => {
                            let Some(ty) = type_of(&word[1..]) else {
                                return self.error(format!("no type that this emulator knows: {word}"));
                            };
                            bytes = usize::from(ty.bytes);
                        }
                        word => break word,
                    }
                };
                if self.peek() == "[" {
                    self.at += 1;
                    bytes *= self.number()? as usize;
                    self.expect("]")?;
                } else {
                    align = bytes;
                }
                offset = offset.next_multiple_of(align.max(1));
                scope.parameters.insert(name, offset as u64);
                parameters.push(bytes);
                offset += bytes;
                if self.peek() == "," {
                    self.at += 1;
                }
            }
            self.expect(")")?;
        }
        let mut most_threads = None;
        while self.peek() != "{" {
            match self.next() {
                ".maxntid" | ".reqntid" => most_threads = Some(self.product()?),
                "" => return self.error("the text ends before the kernel's code"),
                _ => {}
            }
        }
        for (name, align, bytes) in self.shared.clone() {
            scope.declare(name, align, bytes);
        }
        let mut code = Vec::new();
        self.body(&mut scope, &mut code)?;
        // What the launch gives comes after everything else.
        scope.shared_bytes = scope.shared_bytes.next_multiple_of(16);
        for (instruction, label, line) in scope.branches {
            let Some(&target) = scope.labels.get(label) else {
                return Err(Error::Parse { line, problem: format!("there is no label {label}") });
            };
            code[instruction].operation = Operation::Branch { target };
        }
        Ok(Kernel {
            name,
            code,
            registers: scope.types.len(),
            names: scope.names,
            shared_bytes: scope.shared_bytes,
            parameters,
            most_threads,
        })
    }

    /// Numbers between commas, multiplied.
    fn product(&mut self) -> Result<u32, Error> {
        let mut product = self.number()?;
        while self.peek() == "," {
            self.at += 1;
            product = product.saturating_mul(self.number()?);
        }
        Ok(u32::try_from(product).unwrap_or(u32::MAX))
    }

    fn body(&mut self, scope: &mut Scope<'a>, code: &mut Vec<Instruction>) -> Result<(), Error> {
        self.expect("{")?;
        let mut depth = 1;
        while depth > 0 {
            match self.peek() {
                "" => return self.error("the text ends before the kernel does"),
                "{" => {
                    depth += 1;
                    self.at += 1;
                }
                "}" => {
                    depth -= 1;
                    self.at += 1;
                }
                ".reg" => self.registers(scope)?,
                ".shared" => {
                    self.at += 1;
                    let (name, align, bytes) = self.array()?;
                    scope.declare(name, align, bytes);
                }
                ".loc" => {
                    self.at += 1;
                    let (file, line) = (self.number()?, self.number()?);
                    scope.source = Some((file as u32, line as u32));
                    self.skip_line();
                }
                ".pragma" => while self.next() != ";" {},
                word if self.tokens.get(self.at + 1).is_some_and(|token| token.text == ":") => {
                    scope.labels.insert(word, code.len());
                    self.at += 2;
                }
                _ => {
                    let instruction = self.instruction(scope, code.len())?;
                    code.push(instruction);
                }
            }
        }
        Ok(())
    }

    fn registers(&mut self, scope: &mut Scope<'a>) -> Result<(), Error> {
        self.at += 1;
        let ty = self.next();
        let Some(ty) = type_of(ty.trim_start_matches('.')) else {
            return self.error(format!("registers of type {ty}, which this emulator does not know"));
        };
        loop {
            let name = self.next();
            if self.peek() == "<" {
                self.at += 1;
                let count = self.number()?;
                self.expect(">")?;
                (0..count).for_each(|i| scope.register(format!("{name}{i}"), ty));
            } else {
                scope.register(name.to_owned(), ty);
            }
            match self.next() {
                "," => {}
                ";" => return Ok(()),
                other => return self.error(format!("expected ';', found {other:?}")),
            }
        }
    }

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

    fn instruction(&mut self, scope: &mut Scope<'a>, index: usize) -> Result<Instruction, Error> {
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

impl<'a> Scope<'a> {
    fn register(&mut self, name: String, ty: Type) {
        self.registers.insert(name.clone(), self.types.len() as u32);
        self.names.push(name);
        self.types.push(ty);
    }

    fn register_of(&self, name: &str, line: usize) -> Result<u32, Error> {
        let problem = || Error::Parse { line, problem: format!("no register is called {name:?}") };
        self.registers.get(name).copied().ok_or_else(problem)
    }

    fn declare(&mut self, name: &'a str, align: usize, bytes: usize) {
        if bytes == 0 {
            self.dynamic.push(name);
            return;
        }
        self.shared_bytes = self.shared_bytes.next_multiple_of(align);
        self.shared.insert(name, self.shared_bytes as u64);
        self.shared_bytes += bytes;
    }
}

fn type_of(name: &str) -> Option<Type> {
    let (bytes, is_signed) = match name {
        "pred" => return Some(Type::PREDICATE),
        "u8" | "b8" => (1, false),
        "s8" => (1, true),
        "u16" | "b16" => (2, false),
        "s16" => (2, true),
        "u32" | "b32" => (4, false),
        "s32" => (4, true),
        "u64" | "b64" => (8, false),
        "s64" => (8, true),
        _ => return None,
    };
    Some(Type { bytes, is_signed })
}

/// Makes an instruction of its name and its operands.
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

    /// An address: what it begins with, and the offset.
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
        let mut parts = self.name.split('.');
        let base = parts.next().unwrap_or_default();
        let modifiers: Vec<&str> = parts.collect();
        let has = |modifier: &str| modifiers.contains(&modifier);
        let types: Vec<Type> = modifiers.iter().filter_map(|modifier| type_of(modifier)).collect();
        let last = types.last().copied();
        let ty = || match last {
            Some(ty) => Ok(ty),
            None => self.unknown(),
        };
        let space = || {
            let named = modifiers.iter().find_map(|modifier| {
                Some(match modifier.split("::").next()? {
                    "global" => Space::Global,
                    "shared" => Space::Shared,
                    "param" => Space::Parameter,
                    _ => return None,
                })
            });
            if modifiers.iter().any(|modifier| ["local", "const", "tex"].contains(modifier)) {
                return self.unknown();
            }
            Ok(named.unwrap_or(Space::Generic))
        };
        let vector = if has("v2") {
            2
        } else if has("v4") {
            4
        } else {
            1
        };
        let integer = |instruction| if has("sat") || has("cc") { self.unknown() } else { Ok(instruction) };

        use Operation as O;
        let operation = match base {
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
            "bfind" => O::Unary(Unary::Bfind { shift_amount: has("shiftamt") }),
            "add" => integer(O::Binary(Binary::Add))?,
            "sub" => integer(O::Binary(Binary::Sub))?,
            "mul" if has("wide") => O::Binary(Binary::MulWide),
            "mul" if has("hi") => O::Binary(Binary::MulHi),
            "mul" if has("lo") => O::Binary(Binary::MulLo),
            "div" => O::Binary(Binary::Div),
            "rem" => O::Binary(Binary::Rem),
            "min" => O::Binary(Binary::Min),
            "max" => O::Binary(Binary::Max),
            "and" => O::Binary(Binary::And),
            "or" => O::Binary(Binary::Or),
            "xor" => O::Binary(Binary::Xor),
            "shl" => O::Binary(Binary::Shl),
            "shr" => O::Binary(Binary::Shr),
            "mad" if has("wide") => O::Ternary(Ternary::MadWide),
            "mad" if has("hi") => integer(O::Ternary(Ternary::MadHi))?,
            "mad" if has("lo") => integer(O::Ternary(Ternary::MadLo))?,
            "sad" => O::Ternary(Ternary::Sad),
            "bfe" => O::Ternary(Ternary::Bfe),
            "bfi" => O::Bfi,
            "prmt" if modifiers == ["b32"] => O::Ternary(Ternary::Prmt),
            "prmt" if modifiers == ["b32", "f4e"] => O::Ternary(Ternary::PrmtExtract { backward: false }),
            "prmt" if modifiers == ["b32", "b4e"] => O::Ternary(Ternary::PrmtExtract { backward: true }),
            "shf" if has("l") => O::Ternary(Ternary::ShfLeft { clamp: has("clamp") }),
            "shf" if has("r") => O::Ternary(Ternary::ShfRight { clamp: has("clamp") }),
            "lop3" => {
                let Some(Raw::Number(table)) = self.operands.get(4) else { return self.unknown() };
                O::Ternary(Ternary::Lop3(*table as u8))
            }
            "selp" => O::Select,
            "setp" => {
                // lo, ls, hi and hs are the names of unsigned comparisons.
                let compare = modifiers.iter().find_map(|modifier| match *modifier {
                    "eq" => Some(Compare::Eq),
                    "ne" => Some(Compare::Ne),
                    "lt" | "lo" => Some(Compare::Lt),
                    "le" | "ls" => Some(Compare::Le),
                    "gt" | "hi" => Some(Compare::Gt),
                    "ge" | "hs" => Some(Compare::Ge),
                    _ => None,
                });
                let combine = modifiers.iter().find_map(|modifier| match *modifier {
                    "and" => Some(Combine::And),
                    "or" => Some(Combine::Or),
                    "xor" => Some(Combine::Xor),
                    _ => None,
                });
                let Some(compare) = compare else { return self.unknown() };
                O::Compare { compare, combine }
            }
            "cvt" => match types.as_slice() {
                [_, from] => O::Convert { from: *from, saturate: has("sat") },
                _ => return self.unknown(),
            },
            "cvta" if has("to") => O::FromGeneric(space()?),
            "cvta" => O::ToGeneric(space()?),
            "isspacep" => O::IsSpace(space()?),
            "ld" | "ldu" => O::Load { space: space()?, vector },
            "st" => O::Store { space: space()?, vector },
            "atom" | "red" => {
                let atomic = modifiers.iter().find_map(|modifier| match *modifier {
                    "add" => Some(Atomic::Add),
                    "min" => Some(Atomic::Min),
                    "max" => Some(Atomic::Max),
                    "and" => Some(Atomic::And),
                    "or" => Some(Atomic::Or),
                    "xor" => Some(Atomic::Xor),
                    "exch" => Some(Atomic::Exchange),
                    "cas" => Some(Atomic::CompareAndSwap),
                    "inc" => Some(Atomic::Increment),
                    "dec" => Some(Atomic::Decrement),
                    _ => None,
                });
                let Some(atomic) = atomic else { return self.unknown() };
                O::Atomic { space: space()?, atomic }
            }
            "cp" if has("async") && has("commit_group") => O::CopyCommit,
            "cp" if has("async") && (has("wait_group") || has("wait_all")) => O::CopyWait,
            "cp" if has("async") => match self.operands.get(2) {
                Some(Raw::Number(bytes @ (4 | 8 | 16))) if self.operands.len() == 3 => {
                    O::CopyAsync { bytes: *bytes }
                }
                _ => return self.unknown(),
            },
            "bra" => {
                // Resolved when all labels are known.
                O::Branch { target: usize::MAX }
            }
            "ret" | "exit" => O::Exit,
            "bar" | "barrier" if has("warp") => O::WarpBarrier,
            "bar" | "barrier" if has("sync") && self.operands.len() == 1 => O::Barrier,
            "shfl" if has("sync") && has("up") => O::Shuffle(Shuffle::Up),
            "shfl" if has("sync") && has("down") => O::Shuffle(Shuffle::Down),
            "shfl" if has("sync") && has("bfly") => O::Shuffle(Shuffle::Butterfly),
            "shfl" if has("sync") && has("idx") => O::Shuffle(Shuffle::Index),
            "vote" if has("sync") && has("all") => O::Vote(Vote::All),
            "vote" if has("sync") && has("any") => O::Vote(Vote::Any),
            "vote" if has("sync") && has("uni") => O::Vote(Vote::Uniform),
            "vote" if has("sync") && has("ballot") => O::Vote(Vote::Ballot),
            "match" if has("sync") && has("any") => O::Match { all: false },
            "match" if has("sync") && has("all") => O::Match { all: true },
            "activemask" => O::ActiveMask,
            "membar" | "fence" => O::Fence,
            "trap" | "brkpt" => O::Trap,
            _ => return self.unknown(),
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
        let mut operands = self.operands.iter();
        let mut next = || operands.next();
        let missing = || Error::Parse { line: self.line, problem: format!("{} lacks an operand", self.name) };
        match operation {
            O::Branch { .. } | O::Exit | O::Fence | O::Trap | O::CopyCommit => {}
            O::Barrier | O::WarpBarrier | O::CopyWait => {
                // Without a number: all.
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
                if base == "atom" {
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
                // Two results: of a shuffle, of a comparison, of a match.
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
                    O::Convert { .. } => types[0],
                    _ => ty()?,
                };
            }
        }
        Ok(instruction)
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
