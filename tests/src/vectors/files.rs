//! Whole safetensors files: what stands beside a unit, and files that are broken. A test of this
//! kind has one part, `file`, which is written out as it is.

use df11_judge::vectors::Outcome;
use safetensors::tensor::Dtype;

use super::cases::{Cases, Draft, about, two_bits};
use crate::corpus::Tensor;
use crate::weights::bytes;

/// The header and the data of a file with a unit `unit`, in this order of keys, and a hole after
/// the first part that has bytes.
fn file(parts: &Draft, keys: &[&str], more: &[(&str, &str, &[u8])], hole: usize) -> (String, Vec<u8>) {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    let luts = parts.0["luts"].bytes.len();
    let mut put = |name: &str, dtype: &str, shape: String, bytes: &[u8]| {
        if !data.is_empty() && data.len() == luts {
            data.resize(luts + hole, 0);
        }
        let start = data.len();
        data.extend(bytes);
        entries.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{}]}}"#,
            data.len()
        ));
    };
    for key in keys {
        let tensor = &parts.0[key];
        let name = format!("unit.{key}");
        put(&name, &tensor.dtype.to_string(), format!("{:?}", tensor.shape).replace(' ', ""), &tensor.bytes);
    }
    for (name, dtype, bytes) in more {
        put(name, dtype, format!("[{}]", bytes.len()), bytes);
    }
    (format!("{{{}}}", entries.join(",")), data)
}

fn whole(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

const KEYS: [&str; 6] =
    ["split_positions", "luts", "encoded_exponent", "sign_mantissa", "output_positions", "gaps"];

/// The weights of every file.
fn weights() -> Vec<u16> {
    two_bits(40)
}

/// The unit in every file.
fn parts() -> Draft {
    Draft::new(&df11::encode(&bytes(&weights())).unwrap().as_slices())
}

/// Adds a file that is sound, or broken with this kind of error.
fn keep(cases: &mut Cases, id: &str, comment: &str, clauses: &[&str], error: Option<&str>, bytes: Vec<u8>) {
    let weights = weights();
    let result = if error.is_none() { Outcome::Valid } else { Outcome::Invalid };
    let flags: &[&str] =
        if error.is_none() { &["Container"] } else { &["Container", "Malformed", "OneRule"] };
    let weights = error.is_none().then_some(&weights[..]);
    // What the safetensors library says of the file is what the test says.
    let parsed = safetensors::SafeTensors::deserialize(&bytes);
    let is_whole = parsed.is_ok_and(|file| {
        df11::PARTS.iter().all(|(key, dtype)| {
            file.tensor(&format!("unit.{key}")).is_ok_and(|part| part.dtype().to_string() == *dtype)
        })
    });
    assert_eq!(is_whole, error.is_none(), "{id}");
    let about = about(id, comment, flags, clauses);
    cases.push("df11", &about, result, error.map(str::to_owned), weights);
    if let Some(weights) = weights {
        cases.weights.insert(format!("{id}.all"), Tensor::bf16(&[weights.len()], weights));
    }
    let tensor = Tensor { dtype: Dtype::U8, shape: vec![bytes.len()], bytes };
    cases.units.insert(format!("{id}.file"), tensor);
}

pub(super) fn file_cases(cases: &mut Cases) {
    let parts = parts();
    let mut keep = |id: &str, comment: &str, clauses: &[&str], error, bytes| {
        keep(cases, id, comment, clauses, error, bytes);
    };
    let (header, data) = file(&parts, &KEYS, &[], 0);

    // Beside a unit.
    let beside = ["D-10.2"];
    let other: [(&str, &str, &[u8]); 3] =
        [("unit.extra", "U8", &[1, 2, 3]), ("other", "U8", &[4]), ("unit.luts.more", "U8", &[])];
    let (more, longer) = file(&parts, &KEYS, &other, 0);
    keep("file-other-tensors", "other tensors beside the unit", &beside, None, whole(&more, &longer));
    let mut turned = KEYS;
    turned.reverse();
    let (backwards, data_backwards) = file(&parts, &turned, &[], 0);
    let comment = "the parts in another order";
    keep("file-other-order", comment, &beside, None, whole(&backwards, &data_backwards));
    let metadata = r#""__metadata__":{"format":"pt","unit.luts":"no tensor","note":"{}"},"#;
    let described = header.replacen('{', &format!("{{{metadata}"), 1);
    keep("file-metadata", "metadata of any kind", &["D-10.6"], None, whole(&described, &data));
    let spaces = format!("{header}{}", " ".repeat(13));
    keep("file-spaces", "spaces after the header", &["D-10.7"], None, whole(&spaces, &data));

    // Broken.
    let broken = ["D-10.7"];
    let mut bad = |id, comment, error, bytes| keep(id, comment, &broken, Some(error), bytes);
    let all = whole(&header, &data);
    bad("file-empty", "no bytes", "Truncated", vec![]);
    bad("file-cut-length", "four bytes of the header's length", "Truncated", all[..4].to_vec());
    bad("file-cut-header", "the file ends in the header", "Truncated", all[..100].to_vec());
    bad("file-cut-data", "the last byte is missing", "Truncated", all[..all.len() - 1].to_vec());
    let mut huge = all.clone();
    huge[..8].fill(0xff);
    bad("file-length-huge", "a header of 2^64 - 1 bytes", "Truncated", huge);
    let mut high = all.clone();
    high[7] = 1;
    bad("file-length-high", "the header's length is 2^56 more than it is", "Truncated", high);
    bad("file-longer", "a byte follows", "Corrupt", [&all[..], &[0]].concat());
    bad("file-no-json", "the header is no JSON", "Corrupt", whole(&header.replacen(':', ";", 1), &data));
    bad("file-list", "the header is a list", "Corrupt", whole(&format!("[{header}]"), &data));
    let cut = header.replacen("\"data_offsets\":[", "\"data_offset\":[", 1);
    bad("file-no-offsets", "a tensor without offsets", "Corrupt", whole(&cut, &data));
    let (hole, holed) = file(&parts, &KEYS, &[], 8);
    bad("file-hole", "a hole of 8 bytes before the second tensor", "Corrupt", whole(&hole, &holed));
    let entry = r#","other":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#;
    let overlap = format!("{}{entry}", &header[..header.len() - 1]);
    bad("file-overlap", "two tensors share bytes", "Corrupt", whole(&overlap, &data));
    let rows = parts.0["luts"].bytes.len() / 256;
    let shape = header.replace(&format!("[{rows},256]"), &format!("[{},256]", rows + 1));
    bad("file-shape", "a tensor's shape is larger than its bytes", "Corrupt", whole(&shape, &data));
    let shape = header.replace(&format!("[{rows},256]"), &format!("[{},256]", rows - 1));
    bad("file-shape-smaller", "a tensor's shape is smaller than its bytes", "Corrupt", whole(&shape, &data));
    let (unknown, longer) = file(&parts, &KEYS, &[("other", "X9", &[1, 2, 3, 4])], 0);
    bad("file-unknown-type", "a tensor of a type that there is not", "Corrupt", whole(&unknown, &longer));
    let (start, end) = (data.len() - 320, data.len());
    let turned = header.replace(&format!("[{start},{end}]"), &format!("[{end},{start}]"));
    bad("file-offsets-turned", "offsets that end before they begin", "Corrupt", whole(&turned, &data));
    let beyond = header.replace(&format!("[{start},{end}]"), &format!("[{start},{}]", end + 1));
    let beyond = beyond.replace("[320]", "[321]");
    bad("file-offsets-beyond", "a tensor ends behind the file", "Truncated", whole(&beyond, &data));
}

/// Headers that are JSON but no header, and some that look wrong and are right (since 1.1.0).
pub(super) fn header_cases(cases: &mut Cases) {
    let parts = parts();
    let (header, data) = file(&parts, &KEYS, &[], 0);
    odd_headers(cases, &header, &data);
    let mut bad = |id: &str, comment: &str, header: &[u8]| {
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &data].concat();
        keep(cases, id, comment, &["D-10.7"], Some("Corrupt"), bytes);
    };
    metadata_cases(&header, &mut bad);
    broken_headers(&header, parts.0["sign_mantissa"].bytes.len(), &mut bad);
    let comment = "the header is null, and nothing follows";
    keep(cases, "file-null-alone", comment, &["D-10.7"], Some("Corrupt"), whole("null", &[]));
}

/// Puts metadata before the tensors of a header.
fn with_metadata(header: &str, metadata: &str) -> String {
    header.replacen('{', &format!("{{\"__metadata__\":{metadata},"), 1)
}

/// Headers that are right.
fn odd_headers(cases: &mut Cases, header: &str, data: &[u8]) {
    let with = |metadata: &str| with_metadata(header, metadata);
    let of_metadata = ["D-10.6", "D-10.7"];
    let name = header.replacen("unit.luts", "unit.lut\\u0073", 1);
    let last = format!(r#"{},"__metadata__":{{"format":"pt"}}}}"#, &header[..header.len() - 1]);
    let (scalar, longer) = (
        format!(
            r#"{},"scalar":{{"dtype":"F32","shape":[],"data_offsets":[{},{}]}},{}}}"#,
            &header[..header.len() - 1],
            data.len(),
            data.len() + 4,
            format_args!(
                r#""nothing":{{"dtype":"I64","shape":[0,5],"data_offsets":[{0},{0}]}}"#,
                data.len() + 4
            ),
        ),
        [data, &[1, 2, 3, 4]].concat(),
    );
    for (id, comment, clauses, header, data) in [
        ("file-metadata-empty", "metadata without entries", &of_metadata[..], with("{}"), data),
        (
            "file-metadata-escapes",
            "metadata with escapes, of quotation marks, backslashes and a pair of surrogates",
            &of_metadata,
            with(r#"{"a\"b\\":"\u00e9\ud83d\ude00\n","":"}{"}"#),
            data,
        ),
        ("file-metadata-last", "metadata behind the tensors", &of_metadata, last, data),
        ("file-name-escaped", "a name with an escape that need not be", &["D-10.7"], name, data),
        (
            "file-white-space",
            "white space between the tokens of the header",
            &["D-10.7"],
            header.replace(":{", " : {\n\t").replace("],", "] ,\r\n"),
            data,
        ),
        (
            "file-other-shapes",
            "a tensor of rank 0 and one without elements beside the unit",
            &["D-10.2", "D-10.7"],
            scalar,
            &longer[..],
        ),
    ] {
        keep(cases, id, comment, clauses, None, whole(&header, data));
    }
}

/// Metadata that are none.
fn metadata_cases(header: &str, bad: &mut impl FnMut(&str, &str, &[u8])) {
    for (id, comment, metadata) in [
        ("file-metadata-number", "a number in the metadata", r#"{"format":"pt","step":1}"#),
        ("file-metadata-null", "a null in the metadata", r#"{"format":null}"#),
        ("file-metadata-nested", "an object in the metadata", r#"{"a":{"b":"c"}}"#),
        ("file-metadata-list", "metadata as a list", r#"["format","pt"]"#),
        ("file-metadata-text", "metadata as a string", r#""format""#),
        (
            "file-metadata-tensor",
            "metadata as a tensor",
            r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#,
        ),
        ("file-metadata-control", "a line feed in a string of the metadata", "{\"a\":\"b\nc\"}"),
    ] {
        bad(id, comment, with_metadata(header, metadata).as_bytes());
    }
    let text = with_metadata(header, r#"{"a":"@"}"#);
    let at = text.find('@').unwrap();
    let not_utf8 = [&text.as_bytes()[..at], &[0xff], &text.as_bytes()[at + 1..]].concat();
    bad("file-header-not-utf-8", "a byte of the metadata that is no UTF-8", &not_utf8);
}

/// Headers that are none, of a unit of `n` weights.
fn broken_headers(header: &str, n: usize, bad: &mut impl FnMut(&str, &str, &[u8])) {
    let shaped = |shape: &str| {
        let at = header.find(r#""unit.sign_mantissa""#).unwrap();
        let (front, back) = header.split_at(at);
        format!("{front}{}", back.replacen(&format!("[{n}]"), shape, 1))
    };
    let body = &header[..header.len() - 1];
    for (id, comment, header) in [
        ("file-header-cut", "the header's last brace is missing", body.to_owned()),
        ("file-header-comma", "a comma behind the last entry of the header", format!("{body},}}")),
        ("file-header-twice", "an empty object behind the header's", format!("{header}{{}}")),
        ("file-header-number", "the header is a number", "7".to_owned()),
        ("file-header-null", "the header is null", "null".to_owned()),
        (
            "file-offsets-three",
            "three offsets",
            header.replacen("\"data_offsets\":[0,0]", "\"data_offsets\":[0,0,0]", 1),
        ),
        (
            "file-offsets-text",
            "an offset as a string",
            header.replacen("\"data_offsets\":[0,", "\"data_offsets\":[\"0\",", 1),
        ),
        ("file-shape-text", "a dimension as a string", shaped(&format!("[\"{n}\"]"))),
        ("file-shape-boolean", "a dimension of true, beside the right one", shaped(&format!("[true,{n}]"))),
        (
            "file-shape-negative",
            "two dimensions of -1, beside the right one",
            shaped(&format!("[-1,-1,{n}]")),
        ),
        (
            "file-shape-modulo-2-64",
            "two dimensions, whose product is right modulo 2^64",
            // The first is 3; the second its inverse times `n`.
            shaped(&format!("[3,{}]", 12_297_829_382_473_034_411u64.wrapping_mul(n as u64))),
        ),
        (
            "file-dtype-number",
            "a type that is a number",
            header.replacen(r#""dtype":"U8""#, r#""dtype":8"#, 1),
        ),
    ] {
        bad(id, comment, header.as_bytes());
    }
}
