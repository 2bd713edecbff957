//! Compares integer instructions with NVIDIA's assembler. `ptxas` folds instructions with constant
//! operands, so its machine code contains their results. Random instructions are given to both, and
//! the results must agree.
//!
//! The test needs the assembler, which `gpu/ptx/build.sh` fetches to `target/cuda`. Without it, the
//! test reports that it was skipped.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which say what they ran"
)]

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use df11_emulator::{Device, Launch, Module, Options};

/// The number of results to compare.
const RESULTS: usize = 20_000;

/// The number of instructions of a kernel.
const INSTRUCTIONS: usize = 400;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24 ^ self.0 >> 45
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Returns a random number, most often one near a boundary.
    fn constant(&mut self, bits: u32) -> u64 {
        let any = self.next() << 40 ^ self.next() << 20 ^ self.next();
        let value = match self.below(6) {
            0 => self.below(70),
            1 => 1 << self.below(u64::from(bits)),
            2 => (1u64 << self.below(u64::from(bits))).wrapping_sub(1),
            3 => !self.below(70),
            4 => (1u64 << (bits - 1)).wrapping_add(self.below(5)).wrapping_sub(2),
            _ => any,
        };
        value & u64::MAX >> (64 - bits)
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()? {
        let path = entry.ok()?.path();
        if path.is_dir() && !path.is_symlink() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|found| found == name)
            && path.parent().is_some_and(|p| p.ends_with("bin"))
        {
            return Some(path);
        }
    }
    None
}

/// Writes an instruction with random constants. Its result is in `%a` (32 bits), `%b` (64 bits) or
/// `%h` (16 bits). Returns the size of the result in bits.
fn instruction(random: &mut Random, text: &mut String) -> u32 {
    let sign = ["u", "s"][random.below(2) as usize];
    let bits = [16, 32, 32, 32, 64][random.below(5) as usize];
    let to = match bits {
        16 => "%h",
        32 => "%a",
        _ => "%b",
    };
    let mut source = |random: &mut Random, name: &str, bits: u32| {
        let value = random.constant(bits);
        let register = match bits {
            16 => format!("%h{name}"),
            32 => format!("%a{name}"),
            _ => format!("%b{name}"),
        };
        let _ = writeln!(text, "mov.b{bits} {register}, {value};");
        register
    };
    let a = source(random, "1", bits);
    let b = source(random, "2", bits);
    let c = source(random, "3", bits);
    let amount = source(random, "4", 32);
    let length = source(random, "5", 32);
    let mut result = bits;
    let line = match random.below(27) {
        0 => format!("add.{sign}{bits} {to}, {a}, {b};"),
        1 => format!("sub.{sign}{bits} {to}, {a}, {b};"),
        2 => format!("mul.lo.{sign}{bits} {to}, {a}, {b};"),
        3 => format!("mul.hi.{sign}{bits} {to}, {a}, {b};"),
        4 if bits < 64 => {
            result = 2 * bits;
            let to = if bits == 16 { "%a" } else { "%b" };
            format!("mul.wide.{sign}{bits} {to}, {a}, {b};")
        }
        5 => format!("mad.lo.{sign}{bits} {to}, {a}, {b}, {c};"),
        6 => format!("min.{sign}{bits} {to}, {a}, {b};"),
        7 => format!("max.{sign}{bits} {to}, {a}, {b};"),
        8 => format!("and.b{bits} {to}, {a}, {b};"),
        9 => format!("or.b{bits} {to}, {a}, {b};"),
        10 => format!("xor.b{bits} {to}, {a}, {b};"),
        11 => format!("not.b{bits} {to}, {a};"),
        12 => format!("shl.b{bits} {to}, {a}, {amount};"),
        13 => format!("shr.{sign}{bits} {to}, {a}, {amount};"),
        14 if bits > 16 => {
            result = 32;
            format!("popc.b{bits} %a, {a};")
        }
        15 if bits > 16 => {
            result = 32;
            format!("clz.b{bits} %a, {a};")
        }
        16 if bits > 16 => format!("brev.b{bits} {to}, {a};"),
        17 if bits > 16 => {
            // The result for bits outside the number depends on the machine.
            let (position, most) = (random.below(u64::from(bits)), u64::from(bits));
            let _ = writeln!(
                text,
                "mov.b32 {amount}, {position};\nmov.b32 {length}, {};",
                random.below(most - position + 1)
            );
            format!("bfe.{sign}{bits} {to}, {a}, {amount}, {length};")
        }
        18 if bits > 16 => {
            let (position, most) = (random.below(u64::from(bits)), u64::from(bits));
            let _ = writeln!(
                text,
                "mov.b32 {amount}, {position};\nmov.b32 {length}, {};",
                random.below(most - position + 1)
            );
            format!("bfi.b{bits} {to}, {a}, {b}, {amount}, {length};")
        }
        19 if bits == 32 => {
            let mode = ["", ".f4e", ".b4e"][random.below(3) as usize];
            format!("prmt.b32{mode} {to}, {a}, {b}, {c};")
        }
        20 if bits == 32 => {
            let direction = ["l", "r"][random.below(2) as usize];
            let mode = ["wrap", "clamp"][random.below(2) as usize];
            format!("shf.{direction}.{mode}.b32 {to}, {a}, {b}, {amount};")
        }
        21 if bits == 32 => format!("lop3.b32 {to}, {a}, {b}, {c}, {};", random.below(256)),
        22 => {
            let compare = ["eq", "ne", "lt", "le", "gt", "ge"][random.below(6) as usize];
            format!("setp.{compare}.{sign}{bits} %p, {a}, {b};\nselp.b{bits} {to}, {b}, {c}, %p;")
        }
        23 => {
            // The sign is that of the narrow type.
            result = 32;
            let narrow = [8, 16][random.below(2) as usize].min(bits);
            format!("cvt.{sign}32.{sign}{narrow} %a, {a};")
        }
        24 => format!("abs.s{bits} {to}, {a};"),
        25 if bits == 64 => format!("mov.b64 {{%low, %high}}, {a};\nmov.b64 {to}, {{%high, %low}};"),
        26 if bits == 32 => format!("mov.b32 {{%h1, %h2}}, {a};\nmov.b32 {to}, {{%h2, %h1}};"),
        _ => format!("neg.s{bits} {to}, {a};"),
    };
    text.push_str(&line);
    text.push('\n');
    result
}

/// Makes a kernel that stores the result of each instruction, 32 bits at a time. Returns the number
/// of stores as well.
fn program(random: &mut Random) -> (String, usize) {
    let mut text = String::from(
        ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry oracle(.param .u64 to) {\n.reg .pred %p;\n\
         .reg .b16 %h, %h1, %h2, %h3;\n.reg .b32 %a, %a1, %a2, %a3, %a4, %a5, %low, %high;\n.reg .b64 %b, %b1, %b2, %b3, %to;\n\
         ld.param.u64 %to, [to];\n",
    );
    let mut stored = 0;
    for _ in 0..INSTRUCTIONS {
        let bits = instruction(random, &mut text);
        let mut store = |from: &str| {
            let _ = writeln!(text, "st.volatile.global.u32 [%to+{}], {from};", 4 * stored);
            stored += 1;
        };
        match bits {
            16 => {
                text.push_str("cvt.u32.u16 %low, %h;\n");
                let _ = writeln!(text, "st.volatile.global.u32 [%to+{}], %low;", 4 * stored);
                stored += 1;
            }
            32 => store("%a"),
            _ => {
                text.push_str("cvt.u32.u64 %low, %b;\nshr.u64 %b, %b, 32;\ncvt.u32.u64 %high, %b;\n");
                for from in ["%low", "%high"] {
                    let _ = writeln!(text, "st.volatile.global.u32 [%to+{}], {from};", 4 * stored);
                    stored += 1;
                }
            }
        }
    }
    (text + "ret;\n}\n", stored)
}

/// Parses a 16-bit floating-point number, as the disassembler writes it, and returns its bits.
fn half_bits(text: &str) -> Option<u32> {
    let text = text.trim();
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let sign = u32::from(is_negative) << 15;
    match digits.trim_start_matches('+') {
        "INF" => return Some(sign | 0x7c00),
        "QNAN" | "SNAN" => return None,
        _ => {}
    }
    let value: f64 = digits.parse().ok()?;
    // All these numbers are exact in 64 bits, so the position of the highest bit gives the
    // exponent.
    if value == 0.0 {
        return Some(sign);
    }
    let exponent = (value.log2().floor() as i32).max(-14);
    let mantissa = (value / 2f64.powi(exponent - 10)).round() as u32;
    let bits = if mantissa < 1024 { mantissa } else { ((exponent + 15) as u32) << 10 | mantissa & 1023 };
    Some(sign | bits)
}

/// Returns the constants that the machine code stores, by offset.
fn answers(disassembled: &str) -> HashMap<u64, u32> {
    let hex = |text: &str| {
        let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let value = u32::from_str_radix(digits.strip_prefix("0x")?, 16).ok()?;
        Some(if is_negative { value.wrapping_neg() } else { value })
    };
    let mut registers: HashMap<String, u32> = HashMap::new();
    let mut found = HashMap::new();
    for line in disassembled.lines() {
        let Some(code) = line.split("*/").nth(1).and_then(|rest| rest.split(';').next()) else { continue };
        let code = code.trim();
        let Some((name, operands)) = code.split_once(' ') else { continue };
        let operands: Vec<&str> = operands.split(',').map(str::trim).collect();
        let value_of = |registers: &HashMap<String, u32>, text: &str| match text {
            "RZ" | "URZ" | "SRZ" => Some(0),
            text => hex(text).or_else(|| registers.get(text.trim_end_matches(".reuse")).copied()),
        };
        if name.starts_with("STG") {
            let offset = operands[0].split('+').nth(1).map_or(Some(0), |offset| {
                u64::from_str_radix(offset.trim_end_matches(']').strip_prefix("0x")?, 16).ok()
            });
            if let (Some(offset), Some(value)) = (offset, value_of(&registers, operands[1])) {
                found.insert(offset, value);
            }
            continue;
        }
        let value = match (name, operands.as_slice()) {
            ("MOV" | "UMOV", [_, from, ..]) => value_of(&registers, from),
            ("IMAD.MOV.U32" | "IMAD.U32", [_, "RZ", "RZ", from]) => value_of(&registers, from),
            (name, [_, "-RZ", "RZ", high, low]) if name.starts_with("HFMA2") => {
                half_bits(high).zip(half_bits(low)).map(|(high, low)| high << 16 | low)
            }
            ("CS2R", [to, "SRZ"]) => {
                let number: u32 = to.trim_start_matches('R').parse().unwrap();
                registers.insert(format!("R{}", number + 1), 0);
                Some(0)
            }
            ("CS2R.32", [_, "SRZ"]) => Some(0),
            _ => None,
        };
        let to = operands[0].to_owned();
        if let Some(value) = value {
            registers.insert(to, value);
        } else {
            // An instruction with a 64-bit result also writes the next register.
            if let Some(number) = to.strip_prefix('R').and_then(|number| number.parse::<u32>().ok()) {
                registers.remove(&format!("R{}", number + 1));
            }
            registers.remove(&to);
        }
    }
    found
}

#[test]
fn integer_instructions_give_what_ptxas_folds_them_to() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cuda");
    let (Some(ptxas), Some(nvdisasm)) = (find(&folder, "ptxas"), find(&folder, "nvdisasm")) else {
        println!("skipped: there is no ptxas in target/cuda; gpu/ptx/build.sh fetches it");
        return;
    };
    let temporary = std::env::temp_dir().join(format!("df11-oracle-{}", std::process::id()));
    fs::create_dir_all(&temporary).unwrap();
    let (mut random, mut compared, mut stored_in_all) = (Random(1), 0, 0);
    while compared < RESULTS {
        let (text, stored) = program(&mut random);
        let (ptx, cubin) = (temporary.join("oracle.ptx"), temporary.join("oracle.cubin"));
        fs::write(&ptx, &text).unwrap();
        let assembled =
            Command::new(&ptxas).args(["-arch=sm_80", "-o"]).args([&cubin, &ptx]).output().unwrap();
        assert!(assembled.status.success(), "{}", String::from_utf8_lossy(&assembled.stderr));
        let disassembled = Command::new(&nvdisasm).arg("-c").arg(&cubin).output().unwrap();
        let answers = answers(&String::from_utf8_lossy(&disassembled.stdout));

        let mut device = Device::new();
        let to = device.allocate(4 * stored);
        let launch = Launch { grid: [1, 1, 1], block: [1, 1, 1], shared_bytes: 0, arguments: &[to] };
        let module = Module::parse(&text).unwrap();
        let report = module.launch("oracle", &mut device, &launch, &Options::default()).unwrap();
        assert_eq!(report.findings, []);
        for (offset, answer) in &answers {
            let found = device.read(to + offset, 4);
            let found = u32::from_le_bytes(found.try_into().unwrap());
            if found != *answer {
                let at = text.find(&format!("[%to+{offset}]")).unwrap();
                let before: Vec<&str> = text[..at].lines().rev().take(10).collect();
                panic!("{found:#x}, but ptxas says {answer:#x}: {before:#?}");
            }
        }
        compared += answers.len();
        stored_in_all += stored;
    }
    fs::remove_dir_all(&temporary).unwrap();
    println!("compared {compared} of {stored_in_all} results");
}
