//! Parses modules and kernels, apart from single instructions.

use std::collections::HashMap;

use super::lexer::{Token, tokens};
use super::{Kernel, Module};
use crate::Error;
use crate::instruction::{Instruction, Operation, Type};

pub(super) struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    pub(super) at: usize,
    /// Shared memory that is declared outside kernels: name, alignment, bytes (0 if the launch sets
    /// the size).
    shared: Vec<(&'a str, usize, usize)>,
}

/// The declarations of a kernel.
#[derive(Default)]
pub(super) struct Scope<'a> {
    pub(super) registers: HashMap<String, u32>,
    types: Vec<Type>,
    names: Vec<String>,
    pub(super) shared: HashMap<&'a str, u64>,
    pub(super) dynamic: Vec<&'a str>,
    shared_bytes: usize,
    pub(super) parameters: HashMap<&'a str, u64>,
    labels: HashMap<&'a str, usize>,
    /// Branches to resolve: instruction, label, line.
    pub(super) branches: Vec<(usize, &'a str, usize)>,
    pub(super) source: Option<(u32, u32)>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Parser { tokens: tokens(text), at: 0, shared: Vec::new() }
    }

    pub(super) fn line(&self) -> usize {
        self.tokens.get(self.at.min(self.tokens.len().saturating_sub(1))).map_or(0, |token| token.line)
    }

    pub(super) fn error<T>(&self, problem: impl Into<String>) -> Result<T, Error> {
        Err(Error::Parse { line: self.line(), problem: problem.into() })
    }

    pub(super) fn peek(&self) -> &'a str {
        self.tokens.get(self.at).map_or("", |token| token.text)
    }

    pub(super) fn next(&mut self) -> &'a str {
        let text = self.peek();
        self.at += 1;
        text
    }

    pub(super) fn expect(&mut self, text: &str) -> Result<(), Error> {
        if self.peek() == text {
            self.at += 1;
            return Ok(());
        }
        self.error(format!("expected {text:?}, found {:?}", self.peek()))
    }

    pub(super) fn number(&mut self) -> Result<u64, Error> {
        let is_negative = self.peek() == "-";
        self.at += usize::from(is_negative);
        let text = self.next();
        let digits = text.trim_end_matches('U');
        let value = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            // The bits of an F32.
            None if digits.starts_with("0f") => u64::from_str_radix(&digits[2..], 16).ok(),
            None => digits.parse().ok(),
        };
        match value {
            Some(value) if is_negative => Ok(value.wrapping_neg()),
            Some(value) => Ok(value),
            None => self.error(format!("expected a number, found {text:?}")),
        }
    }

    /// Continues after the end of this line.
    fn skip_line(&mut self) {
        let line = self.line();
        while self.at < self.tokens.len() && self.line() == line {
            self.at += 1;
        }
    }

    /// Skips a block in braces.
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

    pub(super) fn module(mut self) -> Result<Module, Error> {
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

    /// Parses an array, such as `.align 16 .b8 name[100];`: name, alignment, bytes.
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
        let parameters = self.parameters(&mut scope)?;
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
        // The shared memory of the launch follows all other.
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

    /// Parses the parameter list of a kernel: the size of each parameter in bytes.
    fn parameters(&mut self, scope: &mut Scope<'a>) -> Result<Vec<usize>, Error> {
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
        Ok(parameters)
    }

    /// Multiplies numbers between commas.
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
}

impl<'a> Scope<'a> {
    fn register(&mut self, name: String, ty: Type) {
        self.registers.insert(name.clone(), self.types.len() as u32);
        self.names.push(name);
        self.types.push(ty);
    }

    pub(super) fn register_of(&self, name: &str, line: usize) -> Result<u32, Error> {
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

pub(super) fn type_of(name: &str) -> Option<Type> {
    let (bytes, is_signed) = match name {
        "pred" => return Some(Type::PREDICATE),
        "u8" | "b8" => (1, false),
        "s8" => (1, true),
        "u16" | "b16" => (2, false),
        "s16" => (2, true),
        "u32" | "b32" | "f32" => (4, false),
        "s32" => (4, true),
        "u64" | "b64" => (8, false),
        "s64" => (8, true),
        _ => return None,
    };
    Some(Type { bytes, is_signed })
}
