//! Makes `spec/vectors/frames.json`: frames and frequencies, each checked against the reference and
//! against `df11` before it goes into the file.

use df11::frame::{ElementType, Frame};
use df11::rans::Frequencies;
use df11_reference::{frame as reference, rans};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dictionary_vectors;
use crate::frame_sample::FrameSample;
use crate::weights::{bytes, like_trained};

pub(crate) fn decode(frame: &[u8]) -> Result<Vec<u8>, df11::Error> {
    let frame = Frame::new(frame)?;
    let mut elements = vec![0; frame.elements_bytes()];
    frame.decode_into(&mut elements).map(|()| elements)
}

/// Makes the text of the file.
///
/// # Panics
///
/// If the reference or core disagrees with what is stated here.
#[must_use]
pub fn generate() -> String {
    let mut tests = Vec::new();
    let mut push = |id: &str, comment: &str, clauses: &[&str], result: &str, frame: &[u8], more: Value| {
        let mut test = json!({ "tcId": tests.len() + 1, "id": id, "comment": comment, "clauses": clauses, "result": result });
        test["frame"] = hex::encode(frame).into();
        if let (Some(test), Value::Object(more)) = (test.as_object_mut(), more) {
            test.extend(more);
        }
        tests.push(test);
    };

    let trained = bytes(&like_trained(3000, 1));
    let tensor = |element_type: ElementType, shape: &[u64], elements: &[u8]| reference::Tensor {
        element_type: element_type.number(),
        shape: shape.to_vec(),
        elements: elements.to_vec(),
    };
    let mut valid = |id: &str, comment: &str, tensor: &reference::Tensor, coded: bool| {
        let frame = reference::encode(tensor, u8::from(coded)).unwrap();
        assert_eq!(reference::decode(&frame).as_ref(), Ok(tensor), "{id}");
        assert_eq!(decode(&frame).as_ref(), Ok(&tensor.elements), "{id}");
        push(id, comment, &[], "valid", &frame, facts(tensor));
        frame
    };
    for element_type in ElementType::ALL {
        let name = element_type.name().to_lowercase();
        let n = 600;
        let elements = &trained[..n * element_type.bytes()];
        let some = tensor(element_type, &[20, 30], elements);
        valid(&format!("{name}-rans"), "coded bytes by rANS", &some, true);
        valid(
            &format!("{name}-raw"),
            "elements as they are",
            &tensor(element_type, &[7], &elements[..7 * element_type.bytes()]),
            false,
        );
    }
    let u8s = |n: usize| -> Vec<u8> { (0..n).map(|i| 100 + (i * i % 7) as u8).collect() };
    for n in [1, 31, 32, 33, 63, 64, 65, 1000] {
        let comment = "a number of symbols around that of the lanes";
        valid(&format!("symbols-{n}"), comment, &tensor(ElementType::U8, &[n as u64], &u8s(n)), true);
    }
    valid(
        "one-symbol",
        "an alphabet of one symbol: no words",
        &tensor(ElementType::U8, &[500], &[255; 500]),
        true,
    );
    let every: Vec<u8> = (0..1024).map(|i| (i % 256) as u8).collect();
    valid("every-symbol", "all 256 symbols", &tensor(ElementType::U8, &[1024], &every), true);
    valid("scalar", "rank 0: one element", &tensor(ElementType::F32, &[], &1.0f32.to_le_bytes()), false);
    valid("empty", "a dimension of 0: no elements", &tensor(ElementType::Bf16, &[3, 0], &[]), false);
    let nan: Vec<u8> = (0..64).flat_map(|i| (0x7f80u16 + i).to_le_bytes()).collect();
    valid("nan", "infinity and NaN with payloads", &tensor(ElementType::Bf16, &[64], &nan), true);

    let coded =
        FrameSample::new(reference::encode(&tensor(ElementType::Bf16, &[300], &trained[..600]), 1).unwrap());
    let raw = FrameSample::new(reference::encode(&tensor(ElementType::U8, &[40], &u8s(40)), 0).unwrap());
    let mut invalid = |id: &str, comment: &str, clause: &str, result: &str, frame: &[u8]| {
        assert!(reference::decode(frame).is_err(), "{id}");
        let error = decode(frame).unwrap_err();
        assert_eq!(error.clause(), Some(clause), "{id}: {error}");
        assert_eq!(error.kind() == df11::ErrorKind::Unsupported, result == "unsupported", "{id}: {error}");
        push(id, comment, &[clause], result, frame, json!({}));
    };
    for (id, at, value, clause, result) in [
        ("magic", 0, 0x88, "F-3.1", "invalid"),
        ("version-2", 8, 2, "F-1.3", "unsupported"),
        ("element-type-6", 9, 6, "F-1.3", "unsupported"),
        ("codec-2", 10, 2, "F-1.3", "unsupported"),
        ("model-3", 11, 3, "F-1.3", "unsupported"),
        ("scale-bits-13", 12, 13, "R-2.1", "invalid"),
        ("rank-33", 13, 33, "F-3.1", "invalid"),
        ("reserved-in-header", 15, 1, "F-1.2", "invalid"),
        ("count", 16, 45, "F-3.2", "invalid"),
        ("block-size", 24, 1, "F-3.1", "invalid"),
        ("model-without-codec", 10, 0, "F-3.3", "invalid"),
    ] {
        let mut sample = coded.clone();
        sample.put(at, &[value]);
        invalid(id, "one byte of the header is another", clause, result, &sample.repair());
    }
    let first = coded.blocks[0];
    let end = coded.frame.len();
    let mut with =
        |id: &str, comment: &str, clause: &str, from: &FrameSample, at: usize, value: &[u8], repair: bool| {
            let mut sample = from.clone();
            sample.put(at, value);
            invalid(id, comment, clause, "invalid", &if repair { sample.repair() } else { sample.frame });
        };
    with("frequency-sum", "a frequency is another", "R-2.2", &coded, 40 + 32, &[9], true);
    with(
        "header-checksum",
        "a dimension is another, and no checksum made right",
        "F-3.1",
        &coded,
        32,
        &[45],
        false,
    );
    with("block-checksum", "a raw part is another", "F-5.2", &coded, coded.blocks[1] - 20, &[0x5a], false);
    with(
        "directory-checksum",
        "the offset of the block is another",
        "F-6.2",
        &coded,
        coded.blocks[1],
        &[0],
        false,
    );
    with(
        "directory",
        "the offset of the block is another, with the checksum made right",
        "F-6.1",
        &coded,
        coded.blocks[1],
        &[0],
        true,
    );
    with("reserved-in-block", "reserved bytes of a block are not 0", "F-1.2", &coded, first + 12, &[1], true);
    with("padding-in-block", "padding of a block is not 0", "F-1.2", &raw, raw.blocks[1] - 1, &[1], true);
    with(
        "words-too-many",
        "more words than symbols",
        "F-5.3",
        &coded,
        first + 4,
        &602u32.to_le_bytes(),
        true,
    );
    with("words-odd", "half a word", "F-5.2", &coded, first + 4, &[coded.frame[first + 4] + 1], true);
    with("words-in-raw", "a raw block with words", "F-5.3", &raw, raw.blocks[0] + 4, &[2], true);
    with(
        "coded-checksum",
        "the checksum of the coded bytes is another",
        "F-5.4",
        &coded,
        first + 8,
        &[0, 0, 0, 0],
        true,
    );
    with(
        "coded-checksum-in-raw",
        "a raw block with such a checksum",
        "F-5.2",
        &raw,
        raw.blocks[0] + 8,
        &[1],
        true,
    );
    with(
        "state-too-small",
        "a state below the start state",
        "R-5.3",
        &coded,
        first + 16,
        &0x7fffu32.to_le_bytes(),
        true,
    );
    with(
        "state-too-large",
        "a state of 2^31",
        "R-5.3",
        &coded,
        first + 16,
        &0x8000_0000u32.to_le_bytes(),
        true,
    );
    with(
        "state",
        "another state: words run out",
        "R-5.4",
        &coded,
        first + 17,
        &[coded.frame[first + 17] ^ 1],
        true,
    );
    let one = tensor(ElementType::U8, &[500], &[255; 500]);
    let one = FrameSample::new(reference::encode(&one, 1).unwrap());
    let comment = "an alphabet of one symbol: decoding ends in the state that it began in, which is not the start state";
    with("last-state", comment, "R-5.5", &one, one.blocks[0] + 16, &[1], true);
    with("number-of-blocks", "the trailer counts another number", "F-6.2", &coded, end - 16, &[2], true);
    invalid("empty-string", "no bytes", "F-3.1", "invalid", &[]);
    invalid("truncated", "the last byte is missing", "F-6.2", "invalid", &coded.frame[..end - 1]);
    invalid("longer", "a byte follows", "F-6.2", "invalid", &[&coded.frame[..], &[0]].concat());

    for (id, comment, tensor, frame) in dictionary_vectors::valid() {
        assert_eq!(reference::decode(&frame).as_ref(), Ok(&tensor), "{id}");
        assert_eq!(decode(&frame).as_ref(), Ok(&tensor.elements), "{id}");
        push(&id, comment, &[], "valid", &frame, facts(&tensor));
    }
    for (id, comment, clause, frame) in dictionary_vectors::invalid() {
        assert!(reference::decode(&frame).is_err(), "{id}");
        let error = decode(&frame).unwrap_err();
        assert_eq!(error.clause(), Some(clause), "{id}: {error}");
        push(id, comment, &[clause], "invalid", &frame, json!({}));
    }

    let mut normalised = Vec::new();
    let mut counts = |id: &str, comment: &str, counts: &[(u8, u64)], scale_bits: u8| {
        let mut all = [0; 256];
        counts.iter().for_each(|(symbol, count)| all[usize::from(*symbol)] = *count);
        let frequencies = Frequencies::normalise(&all, scale_bits).unwrap();
        let expected = rans::Frequencies::normalise(&all, u32::from(scale_bits));
        assert_eq!(frequencies.as_array().map(u64::from), expected.f, "{id}");
        normalised.push(json!({
            "tcId": normalised.len() + 1,
            "id": id,
            "comment": comment,
            "scaleBits": scale_bits,
            "counts": all.as_slice(),
            "frequencies": frequencies.as_array().as_slice(),
        }));
    };
    counts("worked-example", "appendix A of RANS.md", &[(7, 3), (9, 1), (200, 1)], 9);
    counts("one", "one symbol", &[(0, 1)], 12);
    counts("exact", "nothing is missing", &[(0, 1), (1, 1), (2, 2)], 10);
    counts(
        "rare",
        "rare symbols get 1 each, at the cost of the frequent one",
        &[(3, u64::MAX >> 8), (4, 1), (5, 1), (255, 2)],
        11,
    );
    let skewed: Vec<(u8, u64)> = (0..=255).map(|symbol| (symbol, 1 << (symbol / 8))).collect();
    counts("skewed", "all symbols, some of them 2^31 times as frequent", &skewed, 9);
    let ramp: Vec<(u8, u64)> = (0..=255).map(|symbol| (symbol, u64::from(symbol) * 3 + 1)).collect();
    for scale_bits in 9..=12 {
        counts(&format!("ramp-{scale_bits}"), "all symbols, at each scale", &ramp, scale_bits);
    }

    let dictionaries = dictionary_vectors::dictionaries();
    let file = json!({
        "algorithm": "FRAME, RANS, DICTIONARY",
        "specVersion": "1.0.0-draft",
        "generator": "cargo run -p df11-tests --bin vectors (df11 0.1.0)",
        "numberOfTests": tests.len() + normalised.len() + dictionaries.len(),
        "header": [
            "frames: a reader gives elements with this SHA-256 for `valid` ones, and refuses all others; `unsupported` not as damaged.",
            "frequencies: R-2.5 makes these frequencies of these counts.",
            "dictionaries: V-4.2 makes these costs (of the symbols that occur, least first), limit and remainder of these counts; their strings, by number and with a line feed after each symbols in hexadecimal, have this SHA-256.",
        ],
        "frames": tests,
        "frequencies": normalised,
        "dictionaries": dictionaries,
    });
    on_one_line(&serde_json::to_string_pretty(&file).unwrap()) + "\n"
}

/// Returns the facts about the elements that a vector states.
fn facts(tensor: &reference::Tensor) -> Value {
    json!({
        "elementType": ElementType::ALL[usize::from(tensor.element_type)].name(),
        "shape": tensor.shape,
        "sha256": hex::encode(Sha256::digest(&tensor.elements)),
    })
}

/// Puts lists that contain only numbers on one line.
fn on_one_line(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('[') {
        let (before, list) = rest.split_at(start);
        out.push_str(before);
        let end = list.find(']').unwrap() + 1;
        let inner = &list[1..end - 1];
        if inner.chars().all(|c| c.is_ascii_digit() || c.is_whitespace() || c == ',') {
            let numbers: Vec<&str> = inner.split(',').map(str::trim).collect();
            out.push_str(&format!("[{}]", numbers.join(", ")));
            rest = &list[end..];
        } else {
            out.push('[');
            rest = &list[1..];
        }
    }
    out.push_str(rest);
    out
}
