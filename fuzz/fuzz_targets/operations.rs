//! Operations in any order (compress, damage, move files, restore, force) against a model of what
//! must still be there: files that a person put somewhere are never changed, and what is called
//! restored is the original.
#![no_main]
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use arbitrary::Arbitrary;
use df11_fuzz::folder;
use df11_model::{Codec, CompressOptions, DecompressOptions, compress, decompress, verify};
use libfuzzer_sys::fuzz_target;
use safetensors::tensor::{Dtype, TensorView};

#[derive(Arbitrary, Debug)]
enum Step {
    Compress {
        to: u8,
        codec: u8,
        force: bool,
    },
    Decompress {
        from: u8,
        to: u8,
        force: bool,
    },
    Verify {
        at: u8,
    },
    /// A person puts a file somewhere, or changes one that is there.
    Put {
        at: u8,
        name: u8,
        content: u8,
    },
    /// A bit of a file flips.
    Damage {
        at: u8,
        file: u8,
        byte: u16,
    },
    Remove {
        at: u8,
        file: u8,
    },
}

const NAMES: [&str; 5] = ["notes.txt", "mtp.safetensors", "config.json", "layers_0.safetensors", "t.json"];

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path());
    let visible = entries.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with(".df11-"));
    visible.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn make_model(model: &Path) {
    let weights: Vec<u8> = (0..4096u32).flat_map(|i| (0x3c00 + (i * 7 % 512) as u16).to_le_bytes()).collect();
    let matrix = || TensorView::new(Dtype::BF16, vec![64, 64], &weights).unwrap();
    fs::create_dir(model).unwrap();
    let views = [("layers.0.w.weight", matrix()), ("layers.1.w.weight", matrix())];
    fs::write(model.join("m.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    fs::write(model.join("t.json"), "{}").unwrap();
    fs::write(model.join("config.json"), "{\"a\": 1}").unwrap();
}

fuzz_target!(|steps: Vec<Step>| {
    let temp = folder();
    let model = temp.path().join("model");
    make_model(&model);
    let original = files(&model);
    let places = [temp.path().join("a"), temp.path().join("b")];
    let place = |number: u8| &places[usize::from(number % 2)];
    let mut mine: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    for step in steps.iter().take(16) {
        match step {
            Step::Compress { to, codec, force } => {
                let codec = [Codec::Df11, Codec::Rans, Codec::Auto][usize::from(codec % 3)];
                let options = CompressOptions::default().codec(codec).force(*force).threads(1);
                let _ = compress(&model, place(*to), &options, &());
            }
            Step::Decompress { from, to, force } => {
                let options = DecompressOptions::default().force(*force).threads(1);
                let report = decompress(place(*from), place(*to), &options, &());
                if report.is_ok_and(|report| report.original_restored) {
                    for (path, bytes) in &original {
                        let restored = place(*to).join(path.file_name().unwrap());
                        assert_eq!(fs::read(restored).ok().as_ref(), Some(bytes));
                    }
                }
            }
            Step::Verify { at } => drop(verify(place(*at), None, 1, &())),
            Step::Put { at, name, content } => {
                if place(*at).is_dir() {
                    let path = place(*at).join(NAMES[usize::from(name % 5)]);
                    let bytes = format!("mine {content}").into_bytes();
                    fs::write(&path, &bytes).unwrap();
                    mine.insert(path, bytes);
                }
            }
            Step::Damage { at, file, byte } => {
                let all = files(place(*at));
                if let Some((path, bytes)) = all.iter().nth(usize::from(*file) % all.len().max(1)) {
                    let mut damaged = bytes.clone();
                    if !damaged.is_empty() && !mine.contains_key(path) {
                        let at = usize::from(*byte) % damaged.len();
                        damaged[at] ^= 1;
                        fs::write(path, damaged).unwrap();
                    }
                }
            }
            Step::Remove { at, file } => {
                let all = files(place(*at));
                if let Some(path) = all.keys().nth(usize::from(*file) % all.len().max(1)) {
                    mine.remove(path);
                    fs::remove_file(path).unwrap();
                }
            }
        }
        for (path, bytes) in &mine {
            assert_eq!(fs::read(path).ok().as_ref(), Some(bytes), "{} after {step:?}", path.display());
        }
        assert_eq!(files(&model), original);
    }
});
