//! Thread blocks that meet: each leaves a word and counts itself, and the last reads all words.

#![allow(clippy::unwrap_used, reason = "tests")]

use df11_emulator::{Device, Kind, Launch, Module, Options, Report};

/// The thread after the writer's counts, so the order is: write, barrier, fence, count; count,
/// fence, read.
const SOUND: &str = "
.version 7.0
.target sm_80
.address_size 64
.visible .entry meet(.param .u64 words, .param .u64 count, .param .u64 to) {
    .reg .pred %p<4>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [words];
    ld.param.u64 %rd2, [count];
    ld.param.u64 %rd3, [to];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ctaid.x;
    setp.ne.u32 %p1, %r1, 0;
    mul.wide.u32 %rd4, %r2, 4;
    add.s64 %rd4, %rd1, %rd4;
    add.s32 %r3, %r2, 7;
    @!%p1 st.global.u32 [%rd4], %r3;
    bar.sync 0;
    setp.ne.u32 %p2, %r1, 1;
    @%p2 bra $end;
    fence.acq_rel.gpu;
    atom.global.add.u32 %r4, [%rd2], 1;
    setp.ne.u32 %p3, %r4, 2;
    @%p3 bra $end;
    membar.gl;
    ld.global.u32 %r5, [%rd1];
    ld.global.u32 %r6, [%rd1+4];
    add.s32 %r5, %r5, %r6;
    st.global.u32 [%rd3], %r5;
$end:
    ret;
}";

fn run(text: &str) -> (u32, Report) {
    let mut device = Device::new();
    let (words, count, to) = (device.allocate(12), device.allocate(4), device.allocate(4));
    device.write(count, &[0; 4]);
    let arguments = [words, count, to];
    let launch = Launch { grid: [3, 1, 1], block: [64, 1, 1], shared_bytes: 0, arguments: &arguments };
    let report =
        Module::parse(text).unwrap().launch("meet", &mut device, &launch, &Options::default()).unwrap();
    (u32::from_le_bytes(device.read(to, 4).try_into().unwrap()), report)
}

#[test]
fn blocks_that_fence_and_count_may_read_what_the_others_wrote() {
    let (found, report) = run(SOUND);
    assert_eq!(report.findings, []);
    assert_eq!(found, 7 + 8);
}

#[test]
fn a_fence_a_barrier_or_a_counter_that_is_missing_is_a_race() {
    let faults = [
        ("no fence before it counts", "fence.acq_rel.gpu;", ""),
        ("a fence for its thread block alone", "fence.acq_rel.gpu;", "fence.acq_rel.cta;"),
        ("no fence after it counted", "membar.gl;", ""),
        ("no barrier after the write", "bar.sync 0;", ""),
        ("another counter", "atom.global.add.u32 %r4, [%rd2], 1;", "mov.u32 %r4, %r2;"),
    ];
    for (name, from, to) in faults {
        assert_eq!(SOUND.matches(from).count(), 1, "{name}");
        let (found, report) = run(&SOUND.replace(from, to));
        assert!(report.findings.iter().any(|finding| finding.kind == Kind::Race), "{name}");
        // A test that compares results alone sees none of them.
        assert_eq!(found, 7 + 8, "{name}");
    }
}
