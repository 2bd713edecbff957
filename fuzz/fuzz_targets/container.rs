//! Any bytes as a file: every command ends with a result or an error.
#![no_main]
use std::cell::RefCell;
use std::fs;

use df11_fuzz::folder;
use df11_model::{
    CompressOptions, DecompressOptions, compress, decompress, for_each_stored, inspect, verify,
};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static TEMP: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    TEMP.with_borrow_mut(|temp| {
        let temp = temp.get_or_insert_with(folder);
        let (input, output) = (temp.path().join("in.safetensors"), temp.path().join("out"));
        fs::write(&input, data).unwrap();
        let _ = inspect(&input, None, 1);
        let _ = for_each_stored(&input, |_, _, _| {});
        if verify(&input, None, 1, &()).is_ok() {
            let options = DecompressOptions::default().threads(1);
            let _ = decompress(&input, &output, &options, &());
        } else if compress(&input, &output, &CompressOptions::default().threads(1), &())
            .is_ok_and(|report| !report.nothing_to_gain)
        {
            // What we compressed is restored to the byte. (Where nothing is gained, nothing is
            // written.)
            let back = temp.path().join("back");
            let options = DecompressOptions::default().threads(1);
            assert!(decompress(&output, &back, &options, &()).unwrap().original_restored);
            assert!(fs::read(back.join("in.safetensors")).unwrap() == data);
            fs::remove_dir_all(back).unwrap();
        }
        if output.exists() {
            fs::remove_dir_all(output).unwrap();
        }
    });
});
