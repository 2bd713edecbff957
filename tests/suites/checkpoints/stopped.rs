//! Operations that are stopped midway.

use df11_model::{Codec, CompressOptions, DecompressOptions, ErrorKind, compress, decompress, verify};
use df11_tests::corpus::{Tensors, write};

use crate::support::matrix;

/// Progress that stops the operation after this many pieces.
struct StopAfter(std::sync::atomic::AtomicI64);

impl df11_model::Progress for StopAfter {
    fn is_cancelled(&self) -> bool {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) <= 0
    }
}

#[test]
fn what_is_stopped_has_changed_nothing_and_can_be_repeated() {
    let temp = tempfile::tempdir().unwrap();
    let [model, plain] = ["model.safetensors", "plain"].map(|name| temp.path().join(name));
    let tensors: Tensors =
        (0..4u64).map(|i| (format!("layers.{i}.up_proj.weight"), matrix(512, 256, i))).collect();
    write(&model, &tensors);
    for codec in [Codec::Df11, Codec::Rans, Codec::Fast] {
        let options = CompressOptions::default().codec(codec);
        let [packed, restored] =
            ["packed", "restored"].map(|name| temp.path().join(format!("{codec:?}{name}")));
        let mut stopped = 0;
        for pieces in 0.. {
            let stop = StopAfter(pieces.into());
            match compress(&model, &packed, &options, &stop) {
                Err(error) => assert!(error.kind() == ErrorKind::Cancelled, "{error}"),
                Ok(_) => break,
            }
            assert!(!packed.join("df11.json").exists());
            stopped += 1;
        }
        assert!(stopped > 2, "{codec:?} was asked {stopped} times");
        let stop = || StopAfter(1.into());
        assert_eq!(verify(&packed, None, 1, &stop()).unwrap_err().kind(), ErrorKind::Cancelled);
        let options = DecompressOptions::default();
        let error = decompress(&packed, &restored, &options, &stop()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(!restored.join("model.safetensors").exists());
        assert!(decompress(&packed, &restored, &options, &()).unwrap().original_restored);
    }
    assert!(!plain.exists());
}
