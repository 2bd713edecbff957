//! Checkpoints that are stored against others: every form of base, chains, and what is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use df11_model::{
    Codec, CompressOptions, DecompressOptions, Error, Reader, ReaderOptions, compress, decompress, inspect,
    verify, verify_against_bases,
};
use df11_tests::weights::{Random, like_trained};
use safetensors::tensor::{Dtype, TensorView, serialize};
use tempfile::TempDir;

/// A tensor of BF16: its name, its dimensions, its elements.
type Tensor = (String, Vec<usize>, Vec<u8>);

fn model(seed: u64) -> Vec<Tensor> {
    let mut random = Random(seed);
    let mut tensor = |name: &str, shape: &[usize]| {
        let n = shape.iter().product();
        (name.to_owned(), shape.to_vec(), df11_tests::weights::bytes(&like_trained(n, random.next())))
    };
    vec![
        tensor("embed.weight", &[300, 64]),
        tensor("layers.0.up_proj.weight", &[256, 256]),
        tensor("layers.0.norm.weight", &[64]),
        tensor("layers.1.up_proj.weight", &[256, 256]),
    ]
}

/// One weight of `rare` is another, by a few units in the last place.
fn step(model: &[Tensor], rare: u64, seed: u64) -> Vec<Tensor> {
    let mut random = Random(seed);
    let mut new = model.to_vec();
    for element in new.iter_mut().flat_map(|(_, _, bytes)| bytes.chunks_mut(2)) {
        if random.below(rare) == 0 {
            let bits = u16::from_le_bytes([element[0], element[1]]);
            element.copy_from_slice(&bits.wrapping_add(1 + random.below(3) as u16).to_le_bytes());
        }
    }
    new
}

fn save(path: &Path, model: &[Tensor]) {
    let mut views = Vec::new();
    for (name, shape, bytes) in model {
        views.push((name, TensorView::new(Dtype::BF16, shape.clone(), bytes).unwrap()));
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, serialize(views, None).unwrap()).unwrap();
}

/// Folders of one test.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn of(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Saves a model as a folder of one file.
    fn save(&self, name: &str, model: &[Tensor]) -> PathBuf {
        save(&self.of(name).join("model.safetensors"), model);
        self.of(name)
    }

    /// Compresses a folder against bases, and returns the size of what was written.
    fn against(&self, new: &Path, bases: &[PathBuf], out: &str) -> Result<u64, Error> {
        let options = CompressOptions::default().bases(bases.to_vec());
        compress(new, self.of(out), &options, &()).map(|report| report.bytes_after)
    }

    /// Restores with bases, and compares with the original.
    fn restores(&self, packed: &str, bases: &[PathBuf], original: &Path) {
        let options = DecompressOptions::default().bases(bases.to_vec()).force(true);
        let restored = self.of("restored");
        let _ = fs::remove_dir_all(&restored);
        let report = decompress(self.of(packed), &restored, &options, &()).unwrap();
        assert!(report.original_restored);
        for file in fs::read_dir(original).unwrap() {
            let name = file.unwrap().file_name();
            assert!(fs::read(original.join(&name)).unwrap() == fs::read(restored.join(&name)).unwrap());
        }
    }
}

#[test]
fn the_base_may_be_plain_compressed_in_any_form_renamed_or_cut_otherwise() {
    let place = Place::new();
    let (old, new) = (model(1), step(&model(1), 50, 2));
    let (base, new) = (place.save("base", &old), place.save("new", &new));
    let size = place.against(&new, std::slice::from_ref(&base), "delta").unwrap();
    let whole = fs::metadata(new.join("model.safetensors")).unwrap().len();
    assert!(size * 8 < whole, "{size} of {whole}");

    let mut bases = vec![base.clone()];
    for codec in [Codec::Df11, Codec::Rans, Codec::Fast] {
        let name = format!("base-{codec:?}");
        compress(&base, place.of(&name), &CompressOptions::default().codec(codec), &()).unwrap();
        bases.push(place.of(&name));
    }
    // Other names, and two files.
    let renamed: Vec<Tensor> = old
        .iter()
        .map(|(name, shape, bytes)| (format!("model.{name}"), shape.clone(), bytes.clone()))
        .collect();
    save(&place.of("renamed").join("a.safetensors"), &renamed[..2]);
    save(&place.of("renamed").join("b.safetensors"), &renamed[2..]);
    bases.push(place.of("renamed"));
    for base in bases {
        place.restores("delta", std::slice::from_ref(&base), &new);
        let report =
            verify_against_bases(place.of("delta"), Some(&new), std::slice::from_ref(&base), 0, &()).unwrap();
        assert_eq!(report.compared, Some(4));
        let size = place.against(&new, std::slice::from_ref(&base), "again").unwrap();
        assert!(size * 8 < whole, "{}: {size} of {whole}", base.display());
        place.restores("again", std::slice::from_ref(&base), &new);
        fs::remove_dir_all(place.of("again")).unwrap();
    }
}

#[test]
fn a_missing_or_wrong_base_is_refused_before_anything_is_written() {
    let place = Place::new();
    let (base, new) = (place.save("base", &model(1)), place.save("new", &step(&model(1), 50, 2)));
    let other = place.save("other", &step(&model(1), 9, 3));
    place.against(&new, &[base], "delta").unwrap();
    for bases in [vec![], vec![other]] {
        let out = place.of("out");
        let options = DecompressOptions::default().bases(bases.clone());
        let error = decompress(place.of("delta"), &out, &options, &()).unwrap_err().to_string();
        assert!(!out.exists());
        assert!(error.contains("embed.weight") || error.contains("up_proj"), "{error}");
        let digests = error.matches("SHA-256").count();
        assert_eq!(digests, 1 + bases.len(), "{error}");
    }
    // What needs no base still works.
    let report = verify(place.of("delta"), None, 0, &()).unwrap();
    assert_eq!((report.deltas, report.frames, report.plain_tensors), (4, 0, 0));
    let report = inspect(place.of("delta"), None, 0).unwrap();
    assert_eq!(report.deltas.len(), 4);
    assert!(report.deltas.iter().all(|delta| delta.changed * 20 < delta.elements));
}

#[test]
fn damage_to_any_byte_of_the_weights_is_noticed_without_the_base() {
    let place = Place::new();
    let (base, new) = (place.save("base", &model(1)), place.save("new", &step(&model(1), 50, 2)));
    place.against(&new, &[base], "delta").unwrap();
    let path = place.of("delta").join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let mut random = Random(3);
    for _ in 0..60 {
        let mut damaged = bytes.clone();
        damaged[random.below(bytes.len() as u64) as usize] ^= 1 << random.below(8);
        fs::write(&path, &damaged).unwrap();
        assert!(verify(place.of("delta"), None, 0, &()).is_err());
    }
}

#[test]
fn rows_that_the_base_lacks_and_tensors_that_it_lacks_are_stored_as_well() {
    let place = Place::new();
    let base = place.save("base", &model(1));
    let mut grown = step(&model(1), 100, 5);
    let more = model(9);
    grown[0].1[0] += 20;
    grown[0].2.extend(&more[0].2[..20 * 64 * 2]);
    grown.push(("head.weight".to_owned(), more[1].1.clone(), more[1].2.clone()));
    // Another shape.
    grown[3].1 = vec![128, 512];
    let new = place.save("new", &grown);
    place.against(&new, std::slice::from_ref(&base), "delta").unwrap();
    let report = inspect(place.of("delta"), None, 0).unwrap();
    let names: Vec<&str> = report.deltas.iter().map(|delta| delta.name.as_str()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(&"embed.weight"));
    place.restores("delta", &[base], &new);
}

#[test]
fn a_chain_of_steps_is_followed_by_digest_and_is_not_longer_than_sixteen() {
    let place = Place::new();
    let mut weights = model(1);
    let anchor = place.save("step-0", &weights);
    let mut bases = vec![anchor.clone()];
    for number in 1..=20 {
        weights = step(&weights, 200, number);
        let plain = place.save(&format!("step-{number}"), &weights);
        let name = format!("delta-{number}");
        // The nearest comes first.
        let nearest: Vec<PathBuf> = bases.iter().rev().cloned().collect();
        if number > 16 {
            let error = place.against(&plain, &nearest, &name).unwrap_err().to_string();
            assert!(error.contains("16"), "{error}");
            // Against the anchor, it is.
            place.against(&plain, std::slice::from_ref(&anchor), &name).unwrap();
            place.restores(&name, std::slice::from_ref(&anchor), &plain);
            continue;
        }
        place.against(&plain, &nearest, &name).unwrap();
        place.restores(&name, &bases, &plain);
        bases.push(place.of(&name));
        // The chain needs every link.
        let gap: Vec<PathBuf> = bases.iter().skip(1).cloned().collect();
        let options = DecompressOptions::default().bases(gap);
        assert!(decompress(place.of(&name), place.of("out"), &options, &()).is_err());
        assert!(!place.of("out").exists());
    }
}

#[test]
fn what_is_equal_to_the_base_takes_less_than_a_hundred_bytes() {
    let place = Place::new();
    let base = place.save("base", &model(1));
    let mut new = model(1);
    // Under another name, too.
    new.push(("lm_head.weight".to_owned(), new[1].1.clone(), new[1].2.clone()));
    let new = place.save("new", &new);
    place.against(&new, std::slice::from_ref(&base), "delta").unwrap();
    let report = inspect(place.of("delta"), None, 0).unwrap();
    assert_eq!(report.deltas.len(), 5);
    assert!(report.deltas.iter().all(|delta| delta.method == "same" && delta.bytes_after < 100));
    place.restores("delta", &[base], &new);
}

/// Opens a checkpoint with bases.
fn open(path: &Path, bases: &[PathBuf]) -> Result<Reader, Error> {
    ReaderOptions::default().bases(bases.to_vec()).open(path)
}

/// Reads tensors whole, row by row and by ranges of any length.
fn reads(reader: &Reader, model: &[Tensor]) {
    assert_eq!(reader.tensors().len(), model.len());
    let mut random = Random(7);
    for (name, shape, bytes) in model {
        let tensor = reader.tensor(name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape(), tensor.is_plain()), ("BF16", &shape[..], false));
        assert_eq!(tensor.bytes(), bytes.len() as u64);
        let mut whole = vec![0; bytes.len()];
        reader.decode_into(name, &mut whole).unwrap();
        assert!(whole == *bytes, "{name}");
        for _ in 0..20 {
            let end = random.below(tensor.elements() + 1);
            let start = random.below(end + 1);
            let mut part = vec![0; 2 * (end - start) as usize];
            reader.decode_range_into(name, start..end, &mut part).unwrap();
            assert!(part == bytes[2 * start as usize..2 * end as usize], "{name}: {start}..{end}");
        }
    }
}

#[test]
fn a_reader_with_the_base_in_any_form_gives_every_tensor_and_every_range() {
    let place = Place::new();
    let (old, new) = (model(1), step(&model(1), 50, 2));
    let (base, plain) = (place.save("base", &old), place.save("new", &new));
    place.against(&plain, std::slice::from_ref(&base), "delta").unwrap();
    let packed = place.of("delta");
    let reader = open(&packed, std::slice::from_ref(&base)).unwrap();
    reads(&reader, &new);
    let names: Vec<&str> = reader.tensors().map(df11_model::ReaderTensor::name).collect();
    let mut stored = reader.stored_order();
    stored.sort_unstable();
    assert_eq!(stored, names);
    // Ranges first, of bases that record their digests.
    for codec in [Codec::Df11, Codec::Rans, Codec::Fast] {
        let other = place.of(&format!("base-{codec:?}"));
        compress(&base, &other, &CompressOptions::default().codec(codec), &()).unwrap();
        let reader = open(&packed, &[other]).unwrap();
        let (name, shape, bytes) = &new[1];
        let row = 2 * shape[1];
        for number in [200, 0, 255] {
            let mut part = vec![0; row];
            let from = (number * shape[1]) as u64;
            reader.decode_range_into(name, from..from + shape[1] as u64, &mut part).unwrap();
            assert!(part == bytes[number * row..(number + 1) * row]);
        }
        reads(&reader, &new);
    }
    // A checkpoint without deltas needs no base, and one that is given is not even opened.
    assert!(open(&base, &[place.of("nowhere")]).is_ok());
}

#[test]
fn a_reader_gives_deltas_of_every_method_grown_tensors_and_chains() {
    let place = Place::new();
    let old = model(1);
    let base = place.save("base", &old);
    let mut new = step(&old, 60, 4);
    // Nothing differs, one element does, and twenty rows are new.
    new[1].2 = old[1].2.clone();
    new[3].2 = old[3].2.clone();
    new[3].2[1000] ^= 1;
    new[0].1[0] += 20;
    new[0].2.extend(&model(9)[0].2[..20 * 64 * 2]);
    let plain = place.save("new", &new);
    place.against(&plain, std::slice::from_ref(&base), "delta").unwrap();
    let report = inspect(place.of("delta"), None, 0).unwrap();
    let methods: Vec<&str> = report.deltas.iter().map(|delta| delta.method.as_str()).collect();
    assert!(["same", "list", "coded"].iter().all(|method| methods.contains(method)), "{methods:?}");
    // The rows that the base has take a delta; only the others cost what a frame costs.
    let embed = report.deltas.iter().find(|delta| delta.name == "embed.weight").unwrap();
    assert!(embed.method == "coded" && embed.bytes_after < 2 * (20 * 64 * 2 + 300 * 64 / 10), "{embed:?}");
    reads(&open(&place.of("delta"), std::slice::from_ref(&base)).unwrap(), &new);

    let next = step(&new, 300, 5);
    let last = place.save("next", &next);
    let bases = [place.of("delta"), base];
    place.against(&last, &bases, "chain").unwrap();
    let report = inspect(place.of("chain"), None, 0).unwrap();
    assert!(report.deltas.iter().any(|delta| delta.depth == 2));
    reads(&open(&place.of("chain"), &bases).unwrap(), &next);
    // The chain needs every link.
    assert!(open(&place.of("chain"), &bases[..1]).is_err());
}

#[test]
fn a_reader_without_the_base_or_with_another_one_names_the_tensor_and_the_digests() {
    let place = Place::new();
    let (base, new) = (place.save("base", &model(1)), place.save("new", &step(&model(1), 50, 2)));
    let other = place.save("other", &step(&model(1), 9, 3));
    place.against(&new, std::slice::from_ref(&base), "delta").unwrap();
    for bases in [vec![], vec![other]] {
        let error = open(&place.of("delta"), &bases).unwrap_err().to_string();
        assert!(error.contains("embed.weight") || error.contains("layers."), "{error}");
        assert_eq!(error.matches("SHA-256").count(), 1 + bases.len(), "{error}");
    }
    assert!(Reader::open(place.of("delta")).is_err());

    // A base whose record is right, and whose bytes are not: noticed at the first use, by range or
    // whole, before anything is given.
    let packed = place.of("packed");
    compress(&base, &packed, &CompressOptions::default().codec(Codec::Rans), &()).unwrap();
    let path = packed.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    // The digest is text in the header.
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let damaged = open(&place.of("delta"), std::slice::from_ref(&packed)).and_then(|reader| {
        model(1).iter().try_for_each(|(name, ..)| reader.decode_range_into(name, 0..10, &mut [0; 20]))
    });
    assert!(damaged.is_err());
}
