//! The work of the kernels, and real weights through all of them.

use df11::encode;
use df11::frame::{self, Codec, ElementType, Frame};
use df11_emulator::{Options, Report};
use df11_gpu_lab::emulate::{self, DictionaryFrame, NOTHING_WRONG, RansFrame, frame_blocks};
use df11_tests::corpus;
use df11_tests::weights::{bytes, like_trained};

use crate::support::{DF11, FAST, RANS, df11_decode, is_clean, per_element, rans_decode, sample_frame};

#[test]
fn the_kernels_do_as_much_as_they_did() {
    let n = 300_000;
    let weights = bytes(&like_trained(n, 1));
    let unit = encode(&weights).unwrap();
    // Instructions, sectors read and written, wavefronts of shared memory, and those due to
    // conflicts. After a change to a kernel, check whether the figures improved, and record the new
    // ones.
    let is_as_it_was = |report: &Report, expected: [&str; 5]| {
        assert_eq!(per_element(&report.counters, n), expected);
    };
    let (_, module) = &DF11[2];
    let (_, report) = df11_decode(module, &unit.as_slices(), 4, 0, &Options::default());
    is_as_it_was(&report, ["0.9299", "0.0525", "0.0654", "0.2349", "0.0875"]);
    let (_, _, report) = emulate::units(module, &[unit.as_slices()], 4, 0, &Options::default()).unwrap();
    is_as_it_was(&report, ["0.7840", "0.0576", "0.0654", "0.1382", "0.0576"]);

    let (bytes, elements) = sample_frame(ElementType::Bf16, n);
    let frame = Frame::new(&bytes).unwrap();
    let (chunks, kind) = frame_blocks(&frame).unwrap();
    let frequencies = frame.header().frequencies().unwrap();
    let item = RansFrame { data: &bytes, chunks: &chunks, frequencies, kind, bytes: elements.len() };
    let (_, module) = &RANS[2];
    let (_, _, report) = emulate::frames(module, &[item], 1, 0, &Options::default()).unwrap();
    is_as_it_was(&report, ["1.1149", "0.0466", "0.0625", "0.1827", "0.0780"]);

    let options = frame::EncodeOptions::new().codec(Codec::Dictionary);
    let bytes = options.encode(ElementType::Bf16, &[n as u64], &weights).unwrap();
    let item = DictionaryFrame::new(&Frame::new(&bytes).unwrap()).unwrap().unwrap();
    let (_, module) = &FAST[2];
    let (_, _, report) = emulate::dictionaries(module, &[item], 1, 0, &Options::default()).unwrap();
    is_as_it_was(&report, ["0.3662", "0.0697", "0.0625", "0.0961", "0.0498"]);
}

#[test]
fn real_weights_come_back_from_every_kernel_for_every_target() {
    let Some(file) = corpus::fetched("bf16/model.safetensors") else { return };
    let all = df11_model::bf16_weights(&file).unwrap();
    // The whole corpus takes some minutes.
    let is_whole = std::env::var_os("DF11_WHOLE_CORPUS").is_some();
    let weights = if is_whole { &all[..] } else { &all[20_000_000..20_400_000] };
    let encoded = encode(weights).unwrap();
    let bytes = frame::encode(ElementType::Bf16, &[weights.len() as u64 / 2], weights).unwrap();
    let frame = Frame::new(&bytes).unwrap();
    let (blocks, kind) = frame_blocks(&frame).unwrap();
    let frequencies = frame.header().frequencies().unwrap();
    let fast = frame::EncodeOptions::new().codec(Codec::Dictionary);
    let fast = fast.encode(ElementType::Bf16, &[weights.len() as u64 / 2], weights).unwrap();
    std::thread::scope(|scope| {
        for targets in [[0, 1], [2, 3]] {
            let (encoded, bytes, blocks, fast) = (&encoded, &bytes, &blocks, &fast);
            scope.spawn(move || {
                for number in targets {
                    let (target, module) = &DF11[number];
                    let options = Options { most_steps: u64::from(u32::MAX - 1), ..Options::default() };
                    let (found, report) = df11_decode(module, &encoded.as_slices(), 264, 0, &options);
                    is_clean(&report, target);
                    assert!(found == weights, "df11_decode for {target}");
                    let (target, module) = &RANS[number];
                    let (found, status, report) =
                        rans_decode(module, bytes, blocks, frequencies, kind, weights.len(), &options);
                    is_clean(&report, target);
                    assert!(
                        found == weights && status.iter().all(|status| *status == 0),
                        "rans_decode for {target}"
                    );
                    // Parts begin at any address, as in mapped files.
                    let (_, module) = &DF11[number];
                    let (found, status, report) =
                        emulate::units(module, &[encoded.as_slices()], 660, 1 + 2 * number, &options)
                            .unwrap();
                    is_clean(&report, target);
                    assert!(
                        found == [weights] && status == [NOTHING_WRONG],
                        "df11_decode_batch for {target}"
                    );
                    let item = DictionaryFrame::new(&Frame::new(fast).unwrap()).unwrap().unwrap();
                    let (target, module) = &FAST[number];
                    let (found, status, report) =
                        emulate::dictionaries(module, &[item], 528, number, &options).unwrap();
                    is_clean(&report, target);
                    assert!(
                        found == [weights] && status == [NOTHING_WRONG],
                        "fast_decode_batch for {target}"
                    );
                }
            });
        }
    });
    println!("{} weights for {} targets, nothing found", weights.len() / 2, DF11.len());
}
