//! Any text as the record of a sound directory, with a digest that fits: an error, or a restore
//! that writes nothing but the output.
#![no_main]
use std::cell::RefCell;
use std::fs;
use std::path::Path;

use df11_fuzz::folder;
use df11_model::{CompressOptions, DecompressOptions, compress, decompress, verify};
use libfuzzer_sys::fuzz_target;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

thread_local! {
    static TEMP: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// A directory with a compressed model of one matrix and a companion.
fn packed(root: &Path) {
    let weights: Vec<u8> = (0..4096u32).flat_map(|i| (0x3c00 + (i * 7 % 512) as u16).to_le_bytes()).collect();
    let matrix = TensorView::new(Dtype::BF16, vec![64, 64], &weights).unwrap();
    let model = root.join("model");
    fs::create_dir(&model).unwrap();
    let bytes = safetensors::serialize([("layers.0.w.weight", matrix)], None).unwrap();
    fs::write(model.join("m.safetensors"), bytes).unwrap();
    fs::write(model.join("t.json"), "{}").unwrap();
    compress(&model, root.join("in"), &CompressOptions::default(), &()).unwrap();
    fs::remove_dir_all(model).unwrap();
}

fuzz_target!(|edit: (u16, u16, String)| {
    TEMP.with_borrow_mut(|temp| {
        let temp = temp.get_or_insert_with(|| {
            let temp = folder();
            packed(temp.path());
            temp
        });
        let (input, output) = (temp.path().join("in"), temp.path().join("deep/out"));
        let record = input.join("df11.json");
        let sealed = fs::read_to_string(&record).unwrap();
        let start = "{\"df11\":".len();
        let end = sealed.rfind(",\n\"sha256\"").unwrap();
        // A part of the record is replaced.
        let (from, len, text) = (usize::from(edit.0), usize::from(edit.1), edit.2);
        let inner = &sealed[start..end];
        let from = from % inner.len();
        let to = (from + len % 64).min(inner.len());
        let (Some(before), Some(after)) = (inner.get(..from), inner.get(to..)) else { return };
        let lie = format!("{before}{text}{after}");
        let digest = Sha256::digest(&lie).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        fs::write(&record, format!("{{\"df11\":{lie},\n\"sha256\":\"{digest}\"}}\n")).unwrap();
        let _ = verify(&input, None, 1, &());
        let options = DecompressOptions::default().threads(1);
        let _ = decompress(&input, &output, &options, &());
        fs::write(&record, sealed).unwrap();
        let deep = output.parent().unwrap();
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1 + usize::from(deep.exists()));
        if deep.exists() {
            assert_eq!(fs::read_dir(deep).unwrap().count(), usize::from(output.exists()));
            fs::remove_dir_all(deep).unwrap();
        }
    });
});
