//! Files that are damaged, missing or wrong about themselves give an error, and nothing is written.

use std::fs;

use df11_model::{Codec, CompressOptions, DecompressOptions, Error, ErrorKind, compress, decompress, verify};
use df11_tests::corpus::{read, write};
use df11_tests::weights::Random;
use serde_json::{Value, json};

use crate::support::{
    files, force, llama, llama_config, mixed, model, there_and_back, with_manifest, with_metadata,
};

#[test]
fn a_damaged_frame_is_never_restored_wrongly() {
    let model = model(&mixed(), None, 1);
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    let options = CompressOptions::default().codec(Codec::Rans);
    compress(model.path(), &packed, &options, &()).unwrap();
    let original = files(model.path());
    let path = packed.join("model.safetensors");
    let sound = fs::read(&path).unwrap();
    let mut random = Random(13);
    for round in 0..150 {
        let mut damaged = sound.clone();
        let header = 8 + u64::from_le_bytes(sound[..8].try_into().unwrap());
        let until = if random.below(2) == 0 { header } else { sound.len() as u64 };
        let at = random.below(until) as usize;
        match random.below(3) {
            0 => damaged.truncate(at),
            1 => damaged[at] ^= 1 << random.below(8),
            _ => damaged[at] = random.next() as u8,
        }
        fs::write(&path, &damaged).unwrap();
        let out = temp.path().join(format!("out-{round}"));
        let is_sound = verify(&packed, None, 1, &()).is_ok();
        match decompress(&packed, &out, &DecompressOptions::default(), &()) {
            Ok(_) => assert!(files(&out) == original),
            Err(error) => {
                assert!(!is_sound, "verification missed: {error}");
                assert_eq!(error.kind(), ErrorKind::Data, "{error}");
                assert!(!out.join("model.safetensors").exists());
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
        if out.exists() {
            fs::remove_dir_all(out).unwrap();
        }
    }
}

#[test]
fn a_config_of_another_geometry_or_without_a_unit_is_refused() {
    let model = model(&llama(1), Some(&llama_config()), 1);
    let (temp, _) = there_and_back(model.path(), &CompressOptions::default());
    let path = temp.path().join("packed/config.json");
    let sound = fs::read_to_string(&path).unwrap();
    let verify =
        || verify(temp.path().join("packed"), None, 0, &()).map(|_| ()).map_err(|error| error.to_string());
    fs::write(&path, sound.replace("\"bytes_per_thread\": 8", "\"bytes_per_thread\": 16")).unwrap();
    assert!(verify().unwrap_err().contains("bytes_per_thread is 16"));
    fs::write(&path, sound.replace("\"mlp.up_proj\"", "\"mlp.up_porj\"")).unwrap();
    assert!(verify().unwrap_err().contains("gives the tensors of unit model.layers.0"));
    fs::write(&path, sound).unwrap();
    verify().unwrap();
}

#[test]
fn metadata_that_lies_is_an_error_and_writes_nothing() {
    let model = model(&llama(1), Some(&llama_config()), 2);
    type Change = fn(&mut Value);
    fn input(m: &mut Value, i: usize) -> &mut Value {
        let inputs = m["inputs"].as_array_mut().unwrap();
        inputs.iter_mut().filter(|input| input["kept"] == "tensors").nth(i).unwrap()
    }
    fn index(m: &mut Value) -> &mut Value {
        m["inputs"].as_array_mut().unwrap().iter_mut().find(|input| input["kept"] == "text").unwrap()
    }
    let lies: [(&str, Change); 13] = [
        ("df11.json", |m| input(m, 0)["name"] = json!("../evil.safetensors")),
        ("df11.json", |m| input(m, 0)["name"] = json!("/tmp/evil.safetensors")),
        ("df11.json", |m| input(m, 0)["name"] = json!(".df11-unfinished")),
        ("df11.json", |m| index(m)["name"] = json!("../evil.json")),
        ("df11.json", |m| {
            let header = input(m, 1)["header"].as_str().unwrap().replace("model.norm", "model.mron");
            input(m, 1)["header"] = json!(header);
        }),
        ("df11.json", |m| {
            let header = input(m, 1)["header"].as_str().unwrap().replacen("BF16", "F16", 1);
            input(m, 1)["header"] = json!(header);
        }),
        ("df11.json", |m| m["inputs"] = json!([])),
        ("df11.json", |m| m["version"] = json!(2)),
        ("df11.json", |m| {
            let first = input(m, 0).clone();
            m["inputs"].as_array_mut().unwrap().push(first);
        }),
        ("model_layers_0.safetensors", |m| m["units"][0]["tensors"][0] = json!("other")),
        ("model_layers_0.safetensors", |m| {
            m["units"][0]["tensors"].as_array_mut().unwrap().pop();
        }),
        ("model_layers_0.safetensors", |m| m["tensors"][0]["sha256"] = json!("00")),
        ("model_layers_0.safetensors", |m| m["version"] = json!(2)),
    ];
    for (file, lie) in lies {
        let temp = tempfile::tempdir().unwrap();
        let (packed, restored) = (temp.path().join("packed"), temp.path().join("restored"));
        compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
        if file == "df11.json" {
            with_manifest(&packed.join(file), lie);
        } else {
            with_metadata(&packed.join(file), lie);
        }
        let error = decompress(&packed, &restored, &DecompressOptions::default(), &()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{error}");
        let left = if restored.exists() { files(&restored).into_keys().collect() } else { Vec::new() };
        assert!(left.iter().all(|name| name.starts_with('.')), "{left:?}");
        assert!(!temp.path().join("evil.safetensors").exists() && !temp.path().join("evil.json").exists());
    }
}

#[test]
fn missing_and_repeated_parts_are_named() {
    let model = model(&llama(1), Some(&llama_config()), 1);
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    let fresh = || {
        compress(model.path(), &packed, &force(), &()).unwrap();
    };
    let restore = || -> Error {
        let error =
            decompress(&packed, temp.path().join("out"), &DecompressOptions::default(), &()).unwrap_err();
        assert_eq!(verify(&packed, None, 0, &()).unwrap_err().to_string(), error.to_string());
        error
    };
    fresh();
    fs::remove_file(packed.join("model_layers_0.safetensors")).unwrap();
    assert!(restore().to_string().contains("is not there"));
    fresh();
    fs::remove_file(packed.join("model.safetensors")).unwrap();
    assert!(restore().to_string().contains("records the originals"));
    fresh();
    fs::copy(packed.join("lm_head.safetensors"), packed.join("copy.safetensors")).unwrap();
    assert!(restore().to_string().contains("is also in"));
    fs::remove_file(packed.join("copy.safetensors")).unwrap();
    fresh();
    let head = packed.join("lm_head.safetensors");
    let mut tensors = read(&head);
    tensors.remove("lm_head.gaps");
    write(&head, &tensors);
    assert!(restore().to_string().contains("lm_head.gaps: is missing"));
}

#[test]
fn a_damaged_file_is_never_restored_wrongly() {
    let model = model(&llama(1), Some(&llama_config()), 1);
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    compress(model.path(), &packed, &CompressOptions::default(), &()).unwrap();
    let original = files(model.path());
    let weights = ["lm_head.safetensors", "model_layers_0.safetensors", "model.safetensors"];
    let mut random = Random(11);
    let (mut refused, rounds) = (0, 400);
    for round in 0..rounds {
        let path = packed.join(weights[round % weights.len()]);
        let sound = fs::read(&path).unwrap();
        let mut damaged = sound.clone();
        // Headers are small beside the data but are where parsers fail, so they are damaged equally
        // often.
        let header = 8 + u64::from_le_bytes(sound[..8].try_into().unwrap());
        let until = if random.below(2) == 0 { header } else { sound.len() as u64 };
        match random.below(3) {
            0 => damaged.truncate(random.below(until) as usize),
            1 => damaged[random.below(until) as usize] ^= 1 << random.below(8),
            _ => damaged[random.below(until) as usize] = random.next() as u8,
        }
        fs::write(&path, &damaged).unwrap();
        let out = temp.path().join(format!("out-{round}"));
        match decompress(&packed, &out, &DecompressOptions::default(), &()) {
            Ok(_) => assert!(files(&out) == original),
            Err(error) => {
                refused += 1;
                assert_eq!(error.kind(), ErrorKind::Data, "{error}");
                assert!(!out.join("model.safetensors").exists());
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
        if out.exists() {
            fs::remove_dir_all(out).unwrap();
        }
        fs::write(&path, sound).unwrap();
    }
    assert!(refused > rounds * 8 / 10, "{refused}");
}
