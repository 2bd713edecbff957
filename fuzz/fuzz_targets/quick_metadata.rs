//! Any text as the `df11` metadata of a sound file that is opened to be read, thousands a second:
//! an error, or tensors that lie in it. `metadata` restores the file as well.
#![no_main]
use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use df11_fuzz::{folder, unit_file};
use df11_model::Reader;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// A file in memory, in which only the text changes.
struct Site {
    _folder: TempDir,
    path: PathBuf,
    /// The header up to the text, and from there on; then the data.
    front: String,
    back: String,
    data: Vec<u8>,
}

/// What stands where the text will be.
const TEXT: &str = "@@@@";

fn site() -> Site {
    let folder = folder();
    let bytes = unit_file(TEXT.to_owned());
    let (len, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
    let header = std::str::from_utf8(header).unwrap().trim_end();
    let (front, back) = header.split_once(&format!("\"{TEXT}\"")).unwrap();
    let path = folder.path().join("in.safetensors");
    Site { _folder: folder, path, front: front.to_owned(), back: back.to_owned(), data: data.to_vec() }
}

thread_local! {
    static SITE: RefCell<Option<Site>> = const { RefCell::new(None) };
}

fuzz_target!(|text: &str| {
    SITE.with_borrow_mut(|site| {
        let Site { path, front, back, data, .. } = site.get_or_insert_with(self::site);
        let mut header = format!("{front}{}{back}", serde_json::to_string(text).unwrap());
        header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
        let mut file = fs::File::create(&*path).unwrap();
        file.write_all(&[&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()).unwrap();
        drop(file);
        if let Ok(reader) = Reader::open(&*path) {
            for tensor in reader.tensors() {
                let bytes = usize::try_from(tensor.bytes()).unwrap();
                if bytes <= 64 {
                    let _ = reader.decode_into(tensor.name(), &mut vec![0; bytes]);
                }
            }
        }
    });
});
