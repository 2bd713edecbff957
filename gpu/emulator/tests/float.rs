//! Compares F32 instructions with what follows from exact sums and products.

#![allow(clippy::unwrap_used, reason = "tests")]

use df11_emulator::{Device, Launch, Module, Options};

/// The number of operands to try.
const TRIED: usize = 200_000;

const KERNEL: &str = "
.version 7.0
.target sm_80
.address_size 64
.visible .entry compute(.param .u64 from, .param .u64 to, .param .u32 n) {
    .reg .pred %p;
    .reg .b32 %r<8>;
    .reg .f32 %f<8>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [from];
    ld.param.u64 %rd2, [to];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %tid.x;
$again:
    mul.wide.u32 %rd3, %r2, 16;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
    ld.global.f32 %f1, [%rd4];
    ld.global.f32 %f2, [%rd4+4];
    ld.global.f32 %f3, [%rd4+8];
    fma.rn.f32 %f4, %f1, %f2, %f3;
    add.rn.f32 %f5, %f1, %f2;
    mul.rn.f32 %f6, %f1, %f2;
    sub.rn.f32 %f7, %f1, %f2;
    st.global.v4.f32 [%rd5], {%f4, %f5, %f6, %f7};
    add.s32 %r2, %r2, 64;
    setp.lt.u32 %p, %r2, %r1;
    @%p bra $again;
    ret;
}";

/// Rounds the sum of two F64 to F32, once: first to odd in F64, which keeps what the second
/// rounding needs to know.
fn rounded_sum(a: f64, b: f64) -> f32 {
    let sum = a + b;
    if !sum.is_finite() {
        return sum as f32;
    }
    // What the sum lacks, exactly.
    let without = sum - a;
    let rest = (a - (sum - without)) + (b - without);
    if rest == 0.0 || sum.to_bits() & 1 == 1 {
        return sum as f32;
    }
    let is_away = (rest > 0.0) == (sum > 0.0);
    f64::from_bits(if is_away { sum.to_bits() + 1 } else { sum.to_bits() - 1 }) as f32
}

fn bits(number: f32) -> u32 {
    if number.is_nan() { 0x7fff_ffff } else { number.to_bits() }
}

/// Returns random bits, most often those of a number near a boundary.
fn operand(random: &mut impl FnMut() -> u64) -> u32 {
    let any = random() as u32;
    let sign = any & 1 << 31;
    match random() % 8 {
        0 => sign | any >> 9 & 7,
        1 => sign | (0x0080_0000 + (any & 7)).wrapping_sub(4),
        2 => sign | (0x7f80_0000 + (any & 7)).wrapping_sub(5),
        3 => sign | 0x3f80_0000 | any & 0x00ff_0000,
        4 => sign | (60 + any % 16) << 23 | any & 0x007f_ffff,
        5 => sign | (118 + any % 16) << 23 | any & 0x007f_0000,
        6 => sign | (any & 0x1f) << 18,
        _ => any,
    }
}

#[test]
fn f32_instructions_round_exact_results_once() {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33 ^ state >> 11
    };
    let operands: Vec<[u32; 4]> =
        (0..TRIED).map(|_| [operand(&mut random), operand(&mut random), operand(&mut random), 0]).collect();
    let mut device = Device::new();
    let (from, to) = (device.allocate(16 * TRIED), device.allocate(16 * TRIED));
    device.write(from, &operands.iter().flatten().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
    let arguments = [from, to, TRIED as u64];
    let launch = Launch { grid: [1, 1, 1], block: [64, 1, 1], shared_bytes: 0, arguments: &arguments };
    let report =
        Module::parse(KERNEL).unwrap().launch("compute", &mut device, &launch, &Options::default()).unwrap();
    assert_eq!(report.findings, []);
    let found = device.read(to, 16 * TRIED).as_chunks::<16>().0;
    for ([a, b, c, _], found) in operands.into_iter().zip(found) {
        let [x, y, z] = [a, b, c].map(|bits| f64::from(f32::from_bits(bits)));
        // Products of F32 are exact in F64. A sum of zeros has the sign that F64 gives it.
        let expected = [rounded_sum(x * y, z), rounded_sum(x, y), (x * y) as f32, rounded_sum(x, -y)];
        let found: Vec<u32> = found.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        assert_eq!(found, expected.map(bits), "{a:#x} {b:#x} {c:#x}");
    }
}

#[test]
fn an_instruction_that_does_not_name_its_rounding_is_refused() {
    for (from, to) in
        [("add.rn.f32", "add.f32"), ("fma.rn.f32", "fma.rn.ftz.f32"), ("mul.rn.f32", "mul.rz.f32")]
    {
        let error = Module::parse(&KERNEL.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(to), "{error}");
    }
}
