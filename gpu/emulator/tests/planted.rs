//! Faults planted in small kernels. Each must be found, with its kind and on its line, and the same
//! kernel without it must be clean. Many of these kernels give the right result all the same, in
//! every order in which warps run here.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which say what they ran"
)]

use df11_emulator::{Device, Finding, Kind, Launch, Module, Options, Policy, Report};

/// Makes a kernel of two parameters, `from` and `to`, with 64 words each, and 256 bytes of shared
/// memory. `%r1` holds `%tid`, `%r2` the lane, `%rd3` and `%rd4` both addresses of the thread's
/// word, and `%r3` its address in shared memory.
fn module(body: &str) -> Module {
    let text = format!(
        "
.version 7.0
.target sm_80
.address_size 64
.visible .entry planted(.param .u64 from, .param .u64 to) {{
    .reg .pred %p<8>;
    .reg .b16 %rs<8>;
    .reg .b32 %r<32>;
    .reg .b64 %rd<32>;
    .shared .align 16 .b8 memory[256];
    ld.param.u64 %rd1, [from];
    ld.param.u64 %rd2, [to];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %laneid;
    mul.wide.u32 %rd5, %r1, 4;
    add.s64 %rd3, %rd1, %rd5;
    add.s64 %rd4, %rd2, %rd5;
    shl.b32 %r4, %r1, 2;
    mov.u32 %r5, memory;
    add.s32 %r3, %r5, %r4;
{body}
    ret;
}}"
    );
    Module::parse(&text).unwrap()
}

/// Runs the kernel with 64 threads. Returns what it wrote, and what was found.
fn run(body: &str, options: &Options) -> (Vec<u32>, Report) {
    let mut device = Device::new();
    let from = device.allocate(256);
    device.write(from, &(0..64u32).flat_map(|i| (i * 3).to_le_bytes()).collect::<Vec<_>>());
    let to = device.allocate(256);
    let launch = Launch { grid: [1, 1, 1], block: [64, 1, 1], shared_bytes: 0, arguments: &[from, to] };
    let report = module(body).launch("planted", &mut device, &launch, options).unwrap();
    let words = device.read(to, 256).as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
    (words.collect(), report)
}

fn all_options() -> [Options; 4] {
    let with = |policy, order| Options { policy, order, most_steps: 100_000, ..Options::default() };
    [
        with(Policy::Together, 0),
        with(Policy::Together, 7),
        with(Policy::Apart { seed: 1 }, 1),
        with(Policy::Apart { seed: 2 }, 9),
    ]
}

/// A fault: the kernel without it, the text to replace, the replacement, and the kind of the
/// finding.
struct Planted {
    name: &'static str,
    sound: &'static str,
    replace: &'static str,
    by: &'static str,
    kind: Kind,
}

const COPY: &str = "
    ld.global.u32 %r6, [%rd3];
    st.global.u32 [%rd4], %r6;";

/// Each thread takes the word of the thread opposite, through shared memory.
const EXCHANGE: &str = "
    ld.global.u32 %r6, [%rd3];
    st.shared.u32 [%r3], %r6;
    bar.sync 0;
    xor.b32 %r7, %r4, 252;
    add.s32 %r7, %r5, %r7;
    ld.shared.u32 %r8, [%r7];
    st.global.u32 [%rd4], %r8;";

/// Each lane takes the word of the opposite lane of its warp.
const EXCHANGE_IN_WARP: &str = "
    ld.global.u32 %r6, [%rd3];
    st.shared.u32 [%r3], %r6;
    bar.warp.sync -1;
    xor.b32 %r7, %r4, 4;
    add.s32 %r7, %r5, %r7;
    ld.shared.u32 %r8, [%r7];
    st.global.u32 [%rd4], %r8;";

/// Counts threads by a bit of their number.
const COUNT: &str = "
    mov.u32 %r6, 0;
    st.shared.u32 [%r3], %r6;
    bar.sync 0;
    and.b32 %r7, %r1, 4;
    add.s32 %r8, %r5, %r7;
    atom.shared.add.u32 %r9, [%r8], 1;
    bar.sync 0;
    ld.shared.u32 %r10, [%r3];
    st.global.u32 [%rd4], %r10;";

/// The sum of a warp.
const SUM: &str = "
    ld.global.u32 %r6, [%rd3];
    shfl.sync.bfly.b32 %r7|%p1, %r6, 16, 31, -1;
    add.s32 %r6, %r6, %r7;
    st.global.u32 [%rd4], %r6;";

const LOOP: &str = "
    mov.u32 %r6, 0;
$again:
    add.s32 %r6, %r6, 1;
    setp.lt.u32 %p1, %r6, 5;
    @%p1 bra $again;
    st.global.u32 [%rd4], %r6;";

const COPY_ASYNC: &str = "
    cp.async.ca.shared.global [%r3], [%rd3], 4;
    cp.async.commit_group;
    cp.async.wait_group 0;
    bar.sync 0;
    ld.shared.u32 %r6, [%r3];
    st.global.u32 [%rd4], %r6;";

const BRANCH: &str = "
    ld.global.u32 %r6, [%rd3];
    setp.lt.u32 %p1, %r1, 20;
    @%p1 bra $then;
    add.s32 %r6, %r6, 1;
$then:
    bar.sync 0;
    st.global.u32 [%rd4], %r6;";

/// All threads add to the first word, which the host has set.
const ADD: &str = "
    atom.global.add.u32 %r6, [%rd1], 1;
    st.global.u32 [%rd4], %r1;";

/// All threads set bits of one word, and read it together.
const SET_BITS: &str = "
    shr.u32 %r6, %r1, 1;
    red.global.or.b32 [%rd1], %r6;
    bar.sync 0;
    ld.global.u32 %r7, [%rd1];
    st.global.u32 [%rd4], %r7;";

const PLANTED: [Planted; 35] = [
    Planted {
        name: "reads the word after the last",
        sound: COPY,
        replace: "[%rd3]",
        by: "[%rd3+4]",
        kind: Kind::ReadOutOfBounds,
    },
    Planted {
        name: "reads the word before the first",
        sound: COPY,
        replace: "[%rd3]",
        by: "[%rd3+-4]",
        kind: Kind::ReadOutOfBounds,
    },
    Planted {
        name: "writes the word after the last",
        sound: COPY,
        replace: "[%rd4]",
        by: "[%rd4+4]",
        kind: Kind::WriteOutOfBounds,
    },
    Planted {
        name: "reads two words at once at the end",
        sound: COPY,
        replace: "ld.global.u32 %r6, [%rd3]",
        by: "ld.global.v2.u32 {%r6, %r9}, [%rd3]",
        kind: Kind::ReadOutOfBounds,
    },
    Planted {
        name: "reads from an address that is none",
        sound: COPY,
        replace: "[%rd3]",
        by: "[%rd5]",
        kind: Kind::ReadOutOfBounds,
    },
    Planted {
        name: "reads words at odd addresses",
        sound: COPY,
        replace: "[%rd3]",
        by: "[%rd1+1]",
        kind: Kind::Misaligned,
    },
    Planted {
        name: "reads pairs of words that begin at odd ones",
        sound: COPY,
        replace: "ld.global.u32 %r6, [%rd3]",
        by: "ld.global.v2.u32 {%r6, %r9}, [%rd1+4]",
        kind: Kind::Misaligned,
    },
    Planted {
        name: "reads what it is to write",
        sound: COPY,
        replace: "[%rd3]",
        by: "[%rd4]",
        kind: Kind::UndefinedRead,
    },
    Planted {
        name: "uses a register that nobody has written",
        sound: COPY,
        replace: "st.global.u32 [%rd4], %r6",
        by: "st.global.u32 [%rd4], %r9",
        kind: Kind::UndefinedRegister,
    },
    Planted {
        name: "writes a register in some lanes only",
        sound: COPY,
        replace: "ld.global.u32 %r6",
        by: "setp.ne.u32 %p1, %r2, 3;\n@%p1 ld.global.u32 %r6",
        kind: Kind::UndefinedRegister,
    },
    Planted {
        name: "branches on a predicate that nobody has written",
        sound: BRANCH,
        replace: "setp.lt.u32 %p1, %r1, 20;",
        by: "",
        kind: Kind::UndefinedRegister,
    },
    Planted {
        name: "all threads write the same word",
        sound: COPY,
        replace: "[%rd4]",
        by: "[%rd2]",
        kind: Kind::Race,
    },
    Planted {
        name: "reads what another thread writes",
        sound: COPY,
        replace: "st.global.u32 [%rd4], %r6;",
        by: "st.global.u32 [%rd4], %r6;\nsetp.gt.u32 %p1, %r1, 0;\n@%p1 ld.global.u32 %r7, [%rd4+-4];",
        kind: Kind::Race,
    },
    Planted {
        name: "no barrier between writing and reading",
        sound: EXCHANGE,
        replace: "bar.sync 0;",
        by: "",
        kind: Kind::Race,
    },
    Planted {
        name: "a barrier for the warp where one for the thread block is needed",
        sound: EXCHANGE,
        replace: "bar.sync 0;",
        by: "bar.warp.sync -1;",
        kind: Kind::Race,
    },
    Planted {
        name: "no barrier in the warp",
        sound: EXCHANGE_IN_WARP,
        replace: "bar.warp.sync -1;",
        by: "",
        kind: Kind::RaceInWarp,
    },
    Planted {
        name: "a vote where a barrier in the warp is needed",
        sound: EXCHANGE_IN_WARP,
        replace: "bar.warp.sync -1;",
        by: "setp.eq.u32 %p2, %r1, 0;\nvote.sync.any.pred %p3, %p2, -1;",
        kind: Kind::RaceInWarp,
    },
    Planted {
        name: "reads shared memory that nobody has written",
        sound: EXCHANGE,
        replace: "st.shared.u32 [%r3], %r6;",
        by: "",
        kind: Kind::UndefinedRead,
    },
    Planted {
        name: "reads past shared memory",
        sound: EXCHANGE,
        replace: "ld.shared.u32 %r8, [%r7]",
        by: "ld.shared.u32 %r8, [%r7+8]",
        kind: Kind::ReadOutOfBounds,
    },
    Planted {
        name: "writes past shared memory",
        sound: EXCHANGE,
        replace: "st.shared.u32 [%r3], %r6",
        by: "st.shared.u32 [%r3+128], %r6",
        kind: Kind::WriteOutOfBounds,
    },
    Planted {
        name: "a barrier in a branch that some take",
        sound: BRANCH,
        replace: "add.s32 %r6, %r6, 1;",
        by: "bar.sync 0;",
        kind: Kind::BarrierDivergence,
    },
    Planted {
        name: "counts without atomic operations",
        sound: COUNT,
        replace: "atom.shared.add.u32 %r9, [%r8], 1;",
        by: "ld.shared.u32 %r9, [%r8];\nadd.s32 %r9, %r9, 1;\nst.shared.u32 [%r8], %r9;",
        kind: Kind::Race,
    },
    Planted {
        name: "counts before all counters are 0",
        sound: COUNT,
        replace: "st.shared.u32 [%r3], %r6;\n    bar.sync 0;",
        by: "st.shared.u32 [%r3], %r6;",
        kind: Kind::Race,
    },
    Planted {
        name: "reads counters before all have counted",
        sound: COUNT,
        replace: "bar.sync 0;\n    ld.shared.u32",
        by: "ld.shared.u32",
        kind: Kind::RaceInWarp,
    },
    Planted {
        name: "never sets counters to 0",
        sound: COUNT,
        replace: "st.shared.u32 [%r3], %r6;",
        by: "",
        kind: Kind::UndefinedRead,
    },
    Planted {
        name: "one thread adds without an atomic operation",
        sound: ADD,
        replace: "atom.global.add.u32 %r6, [%rd1], 1;",
        by: "setp.eq.u32 %p1, %r1, 40;
    @%p1 ld.global.u32 %r7, [%rd3];
    @%p1 add.s32 %r7, %r7, 1;
    @%p1 st.global.u32 [%rd1], %r7;
    @!%p1 atom.global.add.u32 %r6, [%rd1], 1;",
        kind: Kind::Race,
    },
    Planted {
        name: "one thread writes what is there, between the atomic operations of others",
        sound: ADD,
        replace: "atom.global.add.u32 %r6, [%rd1], 1;",
        by: "setp.eq.u32 %p1, %r1, 40;
    atom.global.add.u32 %r6, [%rd1], 0;
    mov.u32 %r7, 0;
    @%p1 st.global.u32 [%rd1], %r7;",
        kind: Kind::Race,
    },
    Planted {
        name: "reads before all have set their bits",
        sound: SET_BITS,
        replace: "bar.sync 0;",
        by: "",
        kind: Kind::Race,
    },
    Planted {
        name: "adds to what nobody has written",
        sound: ADD,
        replace: "atom.global.add.u32 %r6, [%rd1], 1;",
        by: "atom.global.add.u32 %r6, [%rd2], 1;",
        kind: Kind::UndefinedRead,
    },
    Planted {
        name: "a shuffle that half of the lanes leave out",
        sound: SUM,
        replace: "shfl.sync",
        by: "setp.lt.u32 %p2, %r2, 16;\n@%p2 shfl.sync",
        kind: Kind::WarpDivergence,
    },
    Planted {
        name: "a shuffle of lanes that it is not for",
        sound: SUM,
        replace: "31, -1;",
        by: "31, 65535;",
        kind: Kind::WarpDivergence,
    },
    Planted {
        name: "a shuffle after some lanes have ended",
        sound: SUM,
        replace: "shfl.sync",
        by: "setp.eq.u32 %p2, %r2, 5;\n@%p2 ret;\nshfl.sync",
        kind: Kind::WarpDivergence,
    },
    Planted {
        name: "a loop without end",
        sound: LOOP,
        replace: "add.s32 %r6, %r6, 1;",
        by: "add.s32 %r6, %r6, 0;",
        kind: Kind::StepLimit,
    },
    Planted {
        name: "reads what is still being copied",
        sound: COPY_ASYNC,
        replace: "cp.async.wait_group 0;",
        by: "",
        kind: Kind::UndefinedRead,
    },
    Planted {
        name: "waits for all copies but the last",
        sound: COPY_ASYNC,
        replace: "wait_group 0;",
        by: "wait_group 1;",
        kind: Kind::UndefinedRead,
    },
];

fn kinds(report: &Report) -> Vec<Kind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn kernels_without_faults_are_clean_and_right_whoever_goes_first() {
    let sound = [COPY, EXCHANGE, EXCHANGE_IN_WARP, COUNT, SUM, LOOP, COPY_ASYNC, BRANCH, ADD, SET_BITS];
    for body in sound {
        let (expected, _) = run(body, &Options::default());
        for options in all_options() {
            let (found, report) = run(body, &options);
            assert_eq!(report.findings, [], "{body}");
            assert_eq!(found, expected, "{body}");
        }
    }
    let (found, _) = run(EXCHANGE, &Options::default());
    assert!(found.iter().enumerate().all(|(i, word)| *word == (63 - i as u32) * 3));
    let (found, _) = run(SUM, &Options::default());
    assert!(found.iter().enumerate().all(|(i, word)| *word == (i as u32 + (i as u32 ^ 16)) * 3));
    let (found, _) = run(COUNT, &Options::default());
    assert_eq!(found[..3], [32, 32, 0]);
    let (found, _) = run(SET_BITS, &Options::default());
    assert!(found.iter().all(|word| *word == 31));
}

#[test]
fn every_planted_fault_is_found_whoever_goes_first() {
    let mut right_all_the_same = 0;
    for Planted { name, sound, replace, by, kind } in PLANTED {
        assert_eq!(sound.matches(replace).count(), 1, "{name}: where to plant it is not clear");
        let body = sound.replace(replace, by);
        let (expected, _) = run(sound, &Options::default());
        let mut was_right = false;
        for options in all_options() {
            let (found, report) = run(&body, &options);
            assert!(kinds(&report).contains(&kind), "{name}: {:?}", report.findings);
            was_right |= found == expected;
            let Finding { line, .. } = report.findings.iter().find(|finding| finding.kind == kind).unwrap();
            assert!(*line > 20, "{name}: line {line} is none of the body's");
        }
        right_all_the_same += usize::from(was_right);
    }
    // A test that compares only outputs would not detect these.
    println!("{right_all_the_same} of {} gave the right answer", PLANTED.len());
    assert!(right_all_the_same >= 5);
}

#[test]
fn what_was_freed_is_out_of_bounds() {
    let mut device = Device::new();
    let from = device.allocate(256);
    device.write(from, &[1; 256]);
    let to = device.allocate(256);
    device.free(from);
    let launch = Launch { grid: [1, 1, 1], block: [64, 1, 1], shared_bytes: 0, arguments: &[from, to] };
    let report = module(COPY).launch("planted", &mut device, &launch, &Options::default()).unwrap();
    assert_eq!(kinds(&report), [Kind::ReadOutOfBounds]);
}

#[test]
fn findings_name_kernel_line_block_warp_lane_and_address() {
    let (_, report) = run("    ld.global.u32 %r6, [%rd3+4];", &Options::default());
    let [finding] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    let text = finding.to_string();
    for part in [
        "ReadOutOfBounds",
        "planted",
        "PTX line 21",
        "block (0, 0, 0)",
        "warp 1",
        "lane 31",
        "offset 256 of buffer 0",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_cannot_be_run_is_an_error_that_names_it() {
    let parse = |body: &str| {
        let text = format!(
            ".version 7.0\n.target sm_80\n.visible .entry k() {{\n.reg .b32 %r<4>;\n{body}\nret;\n}}"
        );
        Module::parse(&text).unwrap_err().to_string()
    };
    assert_eq!(
        parse("sin.approx.f32 %r1, %r2;"),
        "PTX line 5: this emulator does not know the instruction sin.approx.f32"
    );
    assert!(parse("add.s32 %r1, %r2, %r9;").contains("no register is called \"%r9\""));
    assert!(parse("bra $nowhere;").contains("no label $nowhere"));
    assert!(Module::parse("hello").is_err());

    let module = module(COPY);
    let mut device = Device::new();
    let launch = Launch { grid: [1, 1, 1], block: [64, 1, 1], shared_bytes: 0, arguments: &[0] };
    let launched =
        |name, launch| module.launch(name, &mut Device::new(), &launch, &Options::default()).unwrap_err();
    assert!(launched("planted", launch).to_string().contains("2 parameters, but there are 1 arguments"));
    let many = Launch { block: [2048, 1, 1], arguments: &[0, 0], ..launch };
    assert!(launched("planted", many).to_string().contains("2048 threads"));
    let none = module.launch("other", &mut device, &launch, &Options::default()).unwrap_err();
    assert!(none.to_string().contains("the module has planted"));
}
