//! Writes the seeds of the targets of rANS, of frames and of deltas anew:
//! `cargo run --manifest-path fuzz/Cargo.toml --bin make_seeds`.

use std::fs;
use std::path::Path;

use df11::delta::{self, Method};
use df11::dietgpu;
use df11::frame::{Codec, ElementType, EncodeOptions, encode};
use df11_fuzz::cut;
use df11_fuzz::deltas::base;
use df11_fuzz::frames::{EDIT, repeated};
use df11_fuzz::quick::{short_unit, shorten};

/// Seeds by their names.
type Seeds = Vec<(String, Vec<u8>)>;

/// Parts as the targets cut them.
fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| [&(part.len() as u32).to_le_bytes(), *part].concat()).collect()
}

/// Bytes of which `first` is the most frequent, each further from it half as frequent, on both
/// sides.
fn exponents(first: u8, len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let far = (state >> 8).trailing_ones() as u8;
        if state >> 31 == 0 { first.wrapping_add(far) } else { first.wrapping_sub(far) }
    };
    (0..len).map(|_| next()).collect()
}

/// Symbols with a frequency each, as `rans_blocks` reads them.
fn frequencies(list: &[(u8, u16)]) -> Vec<u8> {
    list.iter().flat_map(|(symbol, frequency)| [&[*symbol][..], &frequency.to_le_bytes()].concat()).collect()
}

fn rans_blocks() -> Vec<(&'static str, Vec<u8>)> {
    let all: Vec<u8> = (0..=255).collect();
    let few = frequencies(&[(18, 100), (19, 400), (20, 1500), (21, 1700), (22, 300), (23, 96)]);
    let many: Vec<_> = (0..=255).map(|symbol| (symbol, 2 + u16::from(symbol) % 5)).collect();
    let crowded: Vec<_> = (0..60).map(|symbol| (symbol, if symbol % 20 == 0 { 700 } else { 1 })).collect();
    let together = |control: [u8; 5]| [&control[..], &[0, 1, 2, 3, 0, 2, 1, 63, 1]].concat();
    let sound = |control: [u8; 5]| [&control[..], &[0, 2, 0, 2, 0, 2, 0, 99, 0]].concat();
    // Lanes that all need a word, or none.
    let alike: Vec<u8> = (0..10).flat_map(|symbol| [symbol; 32]).collect();
    // The reference decodes small symbols sooner.
    let exponents = exponents(20, 300);
    vec![
        ("one_symbol", join(&[&sound([12, 15, 0, 0, 0]), &[7; 40], &[], &[], &[]])),
        ("exponents", join(&[&sound([12, 1, 0, 0, 0]), &exponents, &few, &[], &[]])),
        ("all_symbols", join(&[&sound([11, 1, 0, 0, 0]), &all, &frequencies(&many), &[], &[]])),
        ("crowded", join(&[&sound([12, 1, 0, 0, 0]), &all, &frequencies(&crowded), &[], &[]])),
        ("least_scale", join(&[&sound([9, 0, 0, 0, 0]), &exponents[..77], &frequencies(&many), &[], &[]])),
        ("frequencies", join(&[&sound([9, 0, 0, 0, 0]), &exponents[..40], &[2, 0].repeat(256), &[], &[]])),
        ("state", join(&[&together([12, 1, 0, 0, 0]), &exponents, &few, &[4, 1], &[]])),
        ("state_too_low", join(&[&together([12, 0, 0, 0, 0]), &exponents, &few, &[31, 0], &[]])),
        ("state_too_high", join(&[&together([12, 0, 0, 0, 0]), &exponents, &few, &[192 + 7, 0], &[]])),
        ("unused_lane", join(&[&together([12, 0, 0, 0, 0]), &exponents[..20], &few, &[124, 1], &[]])),
        ("word", join(&[&together([12, 1, 0, 0, 0]), &exponents, &few, &[], &[9, 0, 1, 4]])),
        ("words_missing", join(&[&together([12, 1, 0, 0, 0]), &exponents, &few, &[], &[5, 0, 0, 1]])),
        ("lanes_alike", join(&[&together([12, 0, 0, 0, 0]), &alike, &few, &[], &[1, 0, 0, 1]])),
        ("words_left", join(&[&together([12, 1, 0, 0, 0]), &exponents, &few, &[], &[5, 0, 0, 2]])),
        ("other_length", join(&[&together([12, 1, 1, 200, 1]), &exponents, &few, &[], &[]])),
        ("no_length", join(&[&together([12, 1, 1, 0, 0]), &exponents, &few, &[], &[]])),
        ("any_states", join(&[&together([10, 1, 0x82, 64, 0]), &[1, 2], &few, &all[..128], &all])),
        (
            "start_states",
            join(&[&together([10, 1, 2, 33, 0]), &[1, 2], &frequencies(&[(3, 1024)]), &[], &[]]),
        ),
        ("other_frequencies", join(&[&together([12, 1, 3, 0, 0]), &exponents, &few, &[], &[]])),
    ]
}

/// One edit: what, at which field, how far from it, and with what.
fn change(kind: u8, place: u8, near: u16, value: u32) -> [u8; EDIT] {
    let ([a, b], [c, d, e, f]) = (near.to_le_bytes(), value.to_le_bytes());
    [kind, place, a, b, c, d, e, f]
}

fn frame_decode() -> Seeds {
    let exponents = exponents(120, 200);
    let control = |how: u8, element_type: u8, codec: u8, blocks: u16, n: u32, shape: u8| {
        let ([b0, b1], [n0, n1, n2, _]) = (blocks.to_le_bytes(), n.to_le_bytes());
        [how, element_type, codec, 3, b0, b1, n0, n1, n2, shape, 3, 0]
    };
    let mut seeds = Vec::new();
    for (number, element_type) in ElementType::ALL.iter().enumerate() {
        let name = element_type.name().to_lowercase();
        let number = number as u8;
        seeds.push((format!("{name}_raw"), join(&[&control(0, number, 0, 0, 5000, 4), &exponents, &[]])));
        seeds.push((format!("{name}_rans"), join(&[&control(0, number, 7, 0, 9000, 2), &exponents, &[]])));
        // Frames as they are.
        let elements = exponents.repeat(2 * element_type.bytes());
        let bytes =
            encode(*element_type, &[2, elements.len() as u64 / element_type.bytes() as u64 / 2], &elements);
        seeds.push((format!("{name}_bytes"), join(&[&[1], &bytes.expect("a frame"), &change(0, 0, 200, 1)])));
    }
    // With dictionaries, as they are, with an edit, and with one and checksums that are right.
    for (number, element_type) in ElementType::ALL.iter().enumerate() {
        let elements = exponents.repeat(12 * element_type.bytes());
        let n = (elements.len() / element_type.bytes()) as u64;
        let options = EncodeOptions::new().codec(Codec::Dictionary).block_len(4096);
        let bytes = options.encode(*element_type, &[n], &elements).expect("a frame");
        let name = element_type.name().to_lowercase();
        let at = |i: usize| (bytes.len() * i / 8) as u32;
        for (i, how) in [1, 3, 7].into_iter().enumerate() {
            let edit = change(0x84, (at(3 * i + number) >> 16) as u8, at(3 * i + number) as u16, 1);
            seeds.push((format!("{name}_dictionary_{i}"), join(&[&[how], &bytes, &edit])));
        }
    }
    let empty = encode(ElementType::F32, &[3, 0], &[]).expect("a frame");
    seeds.push(("empty_bytes".to_owned(), join(&[&[3], &empty, &change(4, 0, 16, 1)])));
    seeds.push(("empty".to_owned(), join(&[&control(0, 3, 7, 0, 0, 3), &[], &[]])));
    seeds.push(("no_dimension".to_owned(), join(&[&control(0, 2, 0, 0, 1, 0), &[1, 2], &[]])));
    seeds.push(("blocks".to_owned(), join(&[&control(0, 1, 7, 0, 20_400, 1), &exponents, &[]])));
    seeds.push(("large_blocks".to_owned(), join(&[&control(0, 0, 1, 960, 20_400, 1), &exponents, &[]])));
    // Each kind of edit of a frame of several blocks, with its checksums as they were, right again,
    // and linked again.
    for kind in 0..16 {
        let edit = change(
            kind | (kind & 1) << 7,
            3 * kind,
            900 + 7 * u16::from(kind),
            0x0101_0101 * u32::from(kind),
        );
        for (how, name) in [(0, "edit"), (2, "repaired"), (6, "linked")] {
            let control = control(how, 1 + kind % 3, kind / 8 * 7, 0, 8300, 4);
            seeds.push((format!("{name}_{kind}"), join(&[&control, &exponents, &edit])));
        }
    }
    // Each field of a small frame, by one more or with other bits, with checksums that are right.
    for (number, n) in [(0, 100), (1, 37), (2, 65), (3, 33), (5, 1)] {
        for (kind, codec, name) in
            [(6, 0, "raw_more"), (0, 0, "raw_bit"), (6, 7, "rans_more"), (0, 7, "rans_bit")]
        {
            let control = control(8, number, codec, 0, n, 4);
            seeds.push((
                format!("fields_{number}_{name}"),
                join(&[&control, &exponents, &change(kind, 0, 0, 1)]),
            ));
        }
    }
    // Two blocks with other states, of which one ends wrongly and one runs out of words: a block
    // has nine fields, the first block those from 15 on, its states are 19.
    let rare = [&[20; 100][..], &[21]].concat();
    for [first, second] in [[0, 1], [1, 0], [1, 3], [2, 4]] {
        let edits = [change(0, 19 + 9 * first, 0, 0), change(0, 19 + 9 * second, 0, 3)].concat();
        let control = [2, 0, 7, 3, 0, 0, 176, 79, 0, 4, 0, 0];
        seeds.push((format!("blocks_{first}_{second}"), join(&[&control, &rare, &edits])));
    }
    seeds
}

fn dictionary_chunks() -> Seeds {
    let exponents = exponents(120, 200);
    let any: Vec<u8> = (0..=255).collect();
    let costs = |n: u8| (0..n).flat_map(|i| [120 + i, 20 + 7 * i, 9 + 8 * i]).collect::<Vec<u8>>();
    let control = |how: u8, limit: u16, remainder: u16, len: u16| {
        let ([a, b], [c, d], [e, f]) = (limit.to_le_bytes(), remainder.to_le_bytes(), len.to_le_bytes());
        [how, a, b, c, d, e, f]
    };
    let mut seeds = Vec::new();
    for (wide, name) in [(0, "8"), (1, "12")] {
        let mut push = |what: &str, parts: [&[u8]; 4]| seeds.push((format!("{what}_{name}"), join(&parts)));
        let counted = control(2 | wide, 0, 0, 0);
        push("counts", [&counted, &[], &exponents, &[3, 0, 5, 9, 0, 0]]);
        push("all", [&counted, &[], &any, &[]]);
        push("one", [&counted, &[], &[7; 500], &[1, 0, 1]]);
        push("chunk", [&counted, &[], &exponents.repeat(21)[..4096], &[0, 1, 77]]);
        push("costs", [&control(wide, 90, 3, 0), &costs(16), &exponents, &[0, 0, 0]]);
        push("no_limit", [&control(wide, 0, 0, 0), &costs(16), &exponents, &[]]);
        push("too_many", [&control(wide, 2000, 9, 0), &costs(16), &exponents, &[]]);
        push("no_symbols", [&control(wide, 2000, 9, 0), &[], &exponents, &[]]);
        push("half_a_cost", [&control(wide, 50, 9, 0), &[3, 0, 9], &[3], &[]]);
        push("unknown", [&control(wide, 50, 9, 0), &costs(3), &exponents, &[]]);
        push("any", [&control(4 | 8 | 2 | wide, 0, 0, 100), &[], &exponents, &exponents[..120]]);
        push("shorter", [&control(8 | 2 | wide, 0, 0, 199), &[], &exponents, &[]]);
    }
    seeds
}

fn frame_round_trip() -> Seeds {
    let exponents = exponents(120, 200);
    let shape = |dimensions: &[u16]| {
        dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()).collect::<Vec<u8>>()
    };
    let sizes = |sizes: &[u64]| sizes.iter().flat_map(|size| size.to_le_bytes()).collect::<Vec<u8>>();
    let mut seeds = Vec::new();
    for (number, element_type) in ElementType::ALL.iter().enumerate() {
        let name = element_type.name().to_lowercase();
        let control = [number as u8, 9, 3, 0, 77, 5, 121];
        let any = sizes(&[3, 1 << 40, number as u64]);
        seeds.push((name.clone(), join(&[&control, &shape(&[7, 500]), &exponents, &any])));
        seeds.push((
            format!("{name}_any"),
            join(&[&control, &shape(&[300]), &(0..=255).collect::<Vec<u8>>(), &[]]),
        ));
        seeds.push((
            format!("{name}_zeros"),
            join(&[&control, &shape(&[4000, 1, 1]), &[], &sizes(&[u64::MAX])]),
        ));
    }
    seeds.push((
        "empty".to_owned(),
        join(&[&[1, 9], &shape(&[3, 0, 5]), &[], &sizes(&[1 << 32, 0, 1 << 32])]),
    ));
    seeds.push(("no_dimension".to_owned(), join(&[&[3, 9], &[], &[1, 2, 3, 4], &[]])));
    seeds.push(("all_dimensions".to_owned(), join(&[&[4, 9], &shape(&[1; 32]), &[9], &[1; 8 * 33]])));
    seeds.push(("two_blocks".to_owned(), join(&[&[0, 0xa3, 3, 0], &shape(&[2, 256, 256]), &exponents, &[]])));
    seeds.push((
        "part_of_a_block".to_owned(),
        join(&[&[1, 0xa3, 1, 1], &shape(&[5, 13108]), &exponents, &[]]),
    ));
    seeds.push(("five_blocks".to_owned(), join(&[&[3, 0xa4, 0, 3], &shape(&[5, 50_001]), &exponents, &[]])));
    seeds.push((
        "past_the_caches".to_owned(),
        join(&[&[1, 0xa5, 1, 5], &shape(&[33, 65535]), &exponents, &[]]),
    ));
    seeds
}

/// Sound frames of a few hundred bytes, each with a byte before it that says what is repaired.
fn quick_frame() -> Seeds {
    let exponents = exponents(120, 60);
    let mut seeds = Vec::new();
    for element_type in ElementType::ALL {
        for (codec, name) in [(Codec::Raw, "raw"), (Codec::Rans, "rans"), (Codec::Dictionary, "dictionary")] {
            let elements = exponents.repeat(element_type.bytes());
            let n = (elements.len() / element_type.bytes()) as u64;
            let options = EncodeOptions::new().codec(codec).block_len(4096);
            let bytes = options.encode(element_type, &[n], &elements).expect("a frame");
            let name = format!("{}_{name}", element_type.name().to_lowercase());
            seeds.push((name, [&[1], &bytes[..]].concat()));
        }
    }
    seeds
}

/// Sound archives of some hundred bytes.
fn quick_archive() -> Seeds {
    let exponents = exponents(120, 48);
    let mut seeds = Vec::new();
    for (bits, checksum) in [(9, false), (10, true), (11, true)] {
        let bytes = dietgpu::encode(&exponents, bits, checksum.into()).expect("an archive");
        seeds.push((format!("bytes_{bits}"), bytes));
        for element_type in [ElementType::F16, ElementType::Bf16, ElementType::F32] {
            let bytes =
                dietgpu::encode_floats(element_type, &exponents, bits, checksum.into()).expect("an archive");
            seeds.push((format!("{}_{bits}", element_type.name().to_lowercase()), bytes));
        }
    }
    seeds.push(("empty".to_owned(), dietgpu::encode(&[], 10, true.into()).expect("an archive")));
    seeds
}

/// The methods of deltas, with what they have.
fn delta_methods() -> [(&'static str, delta::EncodeOptions); 6] {
    let options = delta::EncodeOptions::new().block(4096);
    let coded = options.method(Method::Coded);
    [
        ("same", options.method(Method::Same)),
        ("list", options.method(Method::List)),
        ("coded", coded.map(false).escapes(false)),
        ("map", coded.map(true).escapes(false)),
        ("escapes", coded.map(true).escapes(true)),
        ("frame", options.method(Method::Frame)),
    ]
}

/// Elements near to a base: every third chunk is the base's, and some elements are far away.
fn near(base: &[u8], size: usize) -> Vec<u8> {
    let mut new = base.to_vec();
    for (i, element) in new.chunks_mut(size).enumerate().filter(|(i, _)| i / 64 % 3 > 0) {
        let far = if i % 23 == 0 { 99 } else { i % 4 };
        element[0] = element[0].wrapping_add(far as u8);
        element[size - 1] ^= if i % 37 == 0 { 0x41 } else { 0 };
    }
    new
}

/// Deltas as they are, against the base of all, with checksums that are right or made right.
fn quick_delta() -> Seeds {
    let mut seeds = Vec::new();
    for (number, element_type) in (0..).zip(ElementType::ALL) {
        let size = element_type.bytes();
        let base = base(160 * size);
        for (name, options) in delta_methods() {
            let new = if name == "same" { base.clone() } else { near(&base, size) };
            let bytes = options.encode(element_type, &new, &base).expect("a delta");
            let name = format!("{}_{name}", element_type.name().to_lowercase());
            seeds.push((name, [&[number % 4 + 0x60], &bytes[..]].concat()));
        }
        let grown = [&near(&base, size)[..], &base[..20 * size]].concat();
        let bytes = delta::encode(element_type, &grown, &base).expect("a delta");
        seeds.push((format!("{}_grown", element_type.name().to_lowercase()), [&[3], &bytes[..]].concat()));
    }
    seeds
}

/// Deltas by their settings, with each kind of edit, and deltas as they are.
fn delta_decode() -> Seeds {
    let pattern = base(256);
    let steps: Vec<u8> = (0..120u8).flat_map(|i| [i % 7, 1 + i % 5 * (i % 11)]).collect();
    let control = |how: u8, element_type: u8, method: u8, raw: u8, flags: u8, n: u16, c: u16| {
        let ([n0, n1], [c0, c1]) = (n.to_le_bytes(), c.to_le_bytes());
        [how, element_type, method, raw, 0, flags, n0, n1, c0, c1, 3, 2]
    };
    let mut seeds = Vec::new();
    for (number, element_type) in (0..).zip(ElementType::ALL) {
        let name = element_type.name().to_lowercase();
        for (id, method, raw, flags, n, c) in [
            ("auto", 0, 0, 0, 700, 700),
            ("list", 1, 0, 0, 700, 700),
            ("coded", 2, 0, 0, 700, 700),
            ("map", 2, 0, 1, 4300, 4300),
            ("escapes", 2, 0, 3, 4300, 4300),
            ("raw", 2, 3, 2, 700, 700),
            ("frame", 4, 0, 0, 700, 0),
            ("grown", 2, 0, 3, 900, 700),
            ("shrunk", 2, 0, 1, 500, 700),
        ] {
            let control = control(8, number, method, raw, flags, n, c);
            seeds.push((format!("{name}_{id}"), join(&[&control, &steps, &pattern, &[]])));
        }
        let size = element_type.bytes();
        let base = repeated(&pattern, 0, 300 * size);
        for (id, options) in delta_methods() {
            let new = if id == "same" { base.clone() } else { near(&base, size) };
            let bytes = options.encode(element_type, &new, &base).expect("a delta");
            let edit = [0, number, 0, 1, 0, 0];
            seeds.push((format!("{name}_bytes_{id}"), join(&[&[7], &bytes, &pattern, &edit])));
        }
    }
    for kind in 0..8u8 {
        for (how, name) in [(0, "edit"), (2, "repaired"), (6, "elements")] {
            let edit = [kind | ((kind % 2) << 7), 9 * kind, 0, 1, kind, kind];
            let control = control(how, 1 + kind % 3, 2, kind % 2, kind % 4, 4200, 4200);
            seeds.push((format!("{name}_{kind}"), join(&[&control, &steps, &pattern, &edit])));
        }
    }
    seeds
}

/// The smaller seeds of units, written short.
fn quick_unit() -> Seeds {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/units");
    let mut seeds = Vec::new();
    for entry in fs::read_dir(folder).expect("the seeds of units") {
        let path = entry.expect("a seed").path();
        let seed = short_unit(cut(&fs::read(&path).expect("a seed that can be read")));
        if seed.len() <= 400 {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            seeds.push((name, seed));
        }
    }
    seeds
}

/// Code lengths with windows of code, and the tables of units, written short.
fn quick_tables() -> Seeds {
    let lengths = |n: u8, each: u8| (0..n).flat_map(|symbol| [symbol, each]).collect::<Vec<u8>>();
    let deep: Vec<u8> = (0..33).flat_map(|symbol| [symbol, (symbol + 1).min(32)]).collect();
    let windows: Vec<u8> = exponents(90, 32);
    let tables = shorten(&[[0x80; 256], [0; 256]].concat());
    vec![
        ("one".to_owned(), join(&[&lengths(1, 1), &windows, &tables])),
        ("four".to_owned(), join(&[&lengths(4, 2), &windows, &tables])),
        ("many".to_owned(), join(&[&lengths(128, 7), &windows, &[]])),
        ("jumps".to_owned(), join(&[&lengths(100, 10), &windows[..4], &tables])),
        ("deep".to_owned(), join(&[&deep, &windows, &shorten(&[[255; 256], [3; 256], [9; 256]].concat())])),
    ]
}

fn main() {
    let owned =
        |seeds: Vec<(&str, Vec<u8>)>| seeds.into_iter().map(|(name, seed)| (name.to_owned(), seed)).collect();
    let targets: [(&str, Seeds); 10] = [
        ("quick_unit", quick_unit()),
        ("quick_frame", quick_frame()),
        ("quick_archive", quick_archive()),
        ("quick_tables", quick_tables()),
        ("rans_blocks", owned(rans_blocks())),
        ("dictionary_chunks", dictionary_chunks()),
        ("frame_decode", frame_decode()),
        ("frame_round_trip", frame_round_trip()),
        ("quick_delta", quick_delta()),
        ("delta_decode", delta_decode()),
    ];
    for (target, seeds) in targets {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
        fs::create_dir_all(&directory).expect("a directory for the seeds");
        for (name, seed) in seeds {
            fs::write(directory.join(name), seed).expect("a seed that can be written");
        }
    }
}
