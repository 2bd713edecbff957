//! The work of the kernels, the purpose of each barrier, and real weights.

use df11::frame::{self, ElementType};
use df11_emulator::{Kind, Options};
use df11_gpu::encode::{Kernels, Tiling};
use df11_gpu_lab::machine::Emulated;
use df11_tests::corpus;
use df11_tests::weights::{bytes, like_trained};

use crate::support::{
    CAPABILITIES, add_up, barriers, best, encode, encode_frame, frame_of_core, is_clean, is_same, per_element,
};

/// The work of the kernels per weight, on trained weights that begin this many bytes after a
/// multiple of 256: instructions, sectors read and written, wavefronts of shared memory, and those
/// due to conflicts.
const WORK: &str = "
    df11_encode_count 0 0.2268 0.1260 0.0021 1.0122 0.0000
    df11_encode_emit 0 1.0118 0.1316 0.0501 0.2697 0.0000
    df11_encode_scan 0 0.0038 0.0000 0.0001 0.0001 0.0000
    df11_encode_sizes 0 0.0073 0.0172 0.0009 0.0000 0.0000
    frame_encode_check 0 1.2725 0.1817 0.0001 0.4235 0.2845
    frame_encode_count 0 0.2148 0.1250 0.0011 1.0122 0.0000
    frame_encode_layout 0 0.0026 0.0000 0.0000 0.0001 0.0000
    frame_encode_pack 0 0.1403 0.1353 0.0431 0.0000 0.0000
    rans_encode 0 1.0610 0.0627 0.0391 0.0626 0.0000
    df11_encode_count 6 0.3362 0.1922 0.0021 1.0122 0.0000
    df11_encode_emit 6 1.1906 0.2018 0.0522 0.2756 0.0000
    df11_encode_scan 6 0.0038 0.0000 0.0001 0.0001 0.0000
    df11_encode_sizes 6 0.0073 0.0172 0.0009 0.0000 0.0000
    frame_encode_check 6 2.1844 0.6034 0.0001 0.4235 0.2845
    frame_encode_count 6 0.2847 0.1877 0.0011 1.0122 0.0000
    frame_encode_layout 6 0.0026 0.0000 0.0000 0.0001 0.0000
    frame_encode_pack 6 0.2233 0.1988 0.0436 0.0000 0.0000
    rans_encode 6 1.0610 0.0940 0.0391 0.0626 0.0000
";

#[test]
fn the_kernels_do_as_much_as_they_did() {
    // After a change to a kernel, check whether the figures improved, and record the new ones.
    let weights = bytes(&like_trained(300_000, 1));
    let mut found = String::from("\n");
    for skipped in [0, 6] {
        let mut machine = Emulated::new(90, Options::default()).unwrap();
        let tiling = Tiling { weights: 16_384 };
        let unit = encode(&mut machine, &[&weights], skipped, tiling, best(1)).unwrap();
        let frame = encode_frame(&mut machine, frame::BLOCK, ElementType::Bf16, &weights, skipped);
        // Of several rounds a tile, and of whole blocks of the usual size.
        is_same(&unit, &df11::encode(&weights).unwrap(), "a unit");
        assert!(frame == frame_of_core(frame::BLOCK, ElementType::Bf16, &weights));
        for (entry, counters) in machine.counters() {
            let counts = per_element(counters, 300_000).join(" ");
            found += &format!("    {entry} {skipped} {counts}\n");
        }
    }
    assert!(found == WORK, "{found}");
}

#[test]
fn every_barrier_of_the_kernels_is_needed_and_is_missed() {
    let weights = bytes(&like_trained(10_000, 1));
    for kernels in Kernels::ALL {
        let text = kernels.ptx()[2].text;
        let barriers = barriers(text);
        assert!(barriers.len() >= 8, "{barriers:?}");
        for (line, entry) in barriers {
            let mut machine = Emulated::new(90, Options::default()).unwrap();
            let lines = text.lines().enumerate().filter(|(number, _)| *number != line);
            let lines: Vec<&str> = lines.map(|(_, line)| line).collect();
            machine.set_kernels(kernels, &lines.join("\n")).unwrap();
            // This launch is for several tiles or blocks. Its output may be wrong, and is not
            // checked.
            machine.set_thread_blocks(1);
            match (kernels, entry.as_str()) {
                (_, "df11_encode_scan") => add_up(&mut machine, kernels, "df11_encode_scan"),
                (_, "frame_encode_layout") => add_up(&mut machine, kernels, "frame_encode_layout"),
                (Kernels::Df11, _) => {
                    drop(encode(&mut machine, &[&weights], 0, Tiling { weights: 6000 }, best(1)))
                }
                _ => {
                    for element_type in
                        [ElementType::U8, ElementType::Bf16, ElementType::F16, ElementType::F32]
                    {
                        let elements = &weights[..4200 * element_type.bytes()];
                        encode_frame(&mut machine, 4096, element_type, elements, 0);
                    }
                }
            }
            let is_race = |kind| matches!(kind, Kind::Race | Kind::RaceInWarp);
            let found = machine.findings().iter().any(|finding| is_race(finding.kind));
            assert!(found, "{entry}, without the barrier of line {}", line + 1);
        }
    }
}

#[test]
fn real_weights_become_the_units_and_frames_of_core_for_every_target() {
    let Some(file) = corpus::fetched("bf16/model.safetensors") else { return };
    let all = df11_model::bf16_weights(&file).unwrap();
    // The whole corpus takes some minutes.
    let is_whole = std::env::var_os("DF11_WHOLE_CORPUS").is_some();
    let weights = if is_whole { &all[..] } else { &all[20_000_000..20_400_000] };
    let expected = df11::encode(weights).unwrap();
    let shape = [weights.len() as u64 / 2];
    let expected_frame = frame::encode(ElementType::Bf16, &shape, weights).unwrap();
    std::thread::scope(|scope| {
        for capabilities in [[75, 80], [90, 100]] {
            let (expected, expected_frame) = (&expected, &expected_frame);
            scope.spawn(move || {
                for capability in capabilities {
                    let options = Options { most_steps: u64::from(u32::MAX - 1), ..Options::default() };
                    let mut machine = Emulated::new(capability, options).unwrap();
                    let tiling = Tiling::of(weights.len() / 2);
                    let found = encode(&mut machine, &[weights], 0, tiling, best(1)).unwrap();
                    let what = format!("sm_{capability}");
                    is_clean(&machine, &what);
                    is_same(&found, expected, &what);
                    let found = encode_frame(&mut machine, frame::BLOCK, ElementType::Bf16, weights, 0);
                    is_clean(&machine, &what);
                    assert!(found == *expected_frame, "{what}: the frame");
                }
            });
        }
    });
    println!("{} weights for {} targets, nothing found", weights.len() / 2, CAPABILITIES.len());
}
