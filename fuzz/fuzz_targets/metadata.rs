//! Any text as the `df11` metadata of a sound file: an error, or a restore that matches every
//! digest.
#![no_main]
use std::cell::RefCell;
use std::fs;

use df11::encode;
use df11_model::{DecompressOptions, decompress, verify};
use libfuzzer_sys::fuzz_target;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

thread_local! {
    static TEMP: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

fuzz_target!(|text: String| {
    let unit = encode(&[0x80, 0x3f, 0, 0x40]).unwrap();
    let view = |dtype, shape: Vec<usize>, bytes| TensorView::new(dtype, shape, bytes).unwrap();
    let u8s = |bytes| view(Dtype::U8, vec![<[u8]>::len(bytes)], bytes);
    let views = [
        ("a.luts", view(Dtype::U8, vec![unit.luts.len() / 256, 256], &unit.luts)),
        ("a.encoded_exponent", u8s(&unit.encoded_exponent)),
        ("a.sign_mantissa", u8s(&unit.sign_mantissa)),
        ("a.output_positions", u8s(&unit.output_positions)),
        ("a.gaps", u8s(&unit.gaps)),
        ("a.split_positions", view(Dtype::I64, vec![0], &unit.split_positions)),
    ];
    let bytes = safetensors::serialize(views, Some([("df11".to_owned(), text)].into())).unwrap();
    TEMP.with_borrow_mut(|temp| {
        let temp = temp.get_or_insert_with(|| {
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
        });
        let (input, output) = (temp.path().join("in.safetensors"), temp.path().join("deep/out"));
        fs::write(&input, bytes).unwrap();
        let _ = verify(&input, None, 1, &());
        let options = DecompressOptions { threads: 1, ..DecompressOptions::default() };
        let restored = decompress(&input, &output, &options, &());
        // Nothing but the output and the input may ever appear.
        assert_eq!(
            fs::read_dir(temp.path()).unwrap().count(),
            1 + usize::from(output.parent().unwrap().exists())
        );
        assert!(restored.is_err() || output.exists());
        if output.exists() {
            assert_eq!(fs::read_dir(output.parent().unwrap()).unwrap().count(), 1);
            fs::remove_dir_all(output.parent().unwrap()).unwrap();
        }
    });
});
