//! Any text as the `df11` metadata of a sound file: an error, or a restore that matches every
//! digest.
#![no_main]
use std::cell::RefCell;
use std::fs;

use df11_fuzz::{folder, unit_file};
use df11_model::{DecompressOptions, decompress, verify};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static TEMP: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

fuzz_target!(|text: String| {
    let bytes = unit_file(text);
    TEMP.with_borrow_mut(|temp| {
        let temp = temp.get_or_insert_with(folder);
        let (input, output) = (temp.path().join("in.safetensors"), temp.path().join("deep/out"));
        fs::write(&input, bytes).unwrap();
        let _ = verify(&input, None, 1, &());
        let options = DecompressOptions::default().threads(1);
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
